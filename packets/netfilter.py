"""Netfilter: what the kernel's chains do to a new packet that comes in, whichever tool wrote them down.

A packet passes the base chains at the hooks on its way in, in order of priority. In a chain the
first rule that matches and has a final verdict decides; `jump` comes back, `goto` comes back to
whoever jumped, and at the end of a base chain stands its policy. `accept` ends only the base chain
that it is in: the packet has to survive every one
(https://wiki.nftables.org/wiki-nftables/index.php/Netfilter_hooks,
https://netfilter.org/documentation/HOWTO/packet-filtering-HOWTO.html).

A question is a set of new packets, and the answer is exact: sets, not samples. A match whose
outcome cannot be known from the rules (an ipset, a mark, a rate) leaves the packets that it
might match in doubt, and only those.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from msgspec import Struct, field, structs

from packets.addresses import (
    EVERY_ADDRESS,
    EVERY_PORT,
    IPV4,
    IPV6,
    NOTHING,
    IntervalSet,
    parse_prefixes,
    to_prefixes,
    union,
)
from packets.answers import Answer, RulePart
from packets.boxes import Box
from packets.decisions import Decision, Doubt, Effect, Match, Turn, first_match

Family = Literal["ip", "ip6", "inet", "netdev"]
"""Which packets a table sees: IPv4's, IPv6's, or both."""
Hook = Literal["ingress", "prerouting", "input"]
Kind = Literal["accept", "drop", "return", "jump", "goto", "continue", "untrack", "unknown"]
Policy = Literal["accept", "drop", "unknown"]

CONNTRACK = -200
"""The priority at which connection tracking sees a packet: `notrack` has to come before
(include/uapi/linux/netfilter_ipv4.h)."""
NOT_A_NODE = parse_prefixes(("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "ff00::/8"))
"""Addresses that packets from another machine to a node's kubelet cannot be addressed to: unspecified,
loopback, multicast, broadcast."""
ANY_NODE = EVERY_ADDRESS - NOT_A_NODE
"""Where the packets of a question may be addressed to while nobody says what the node's addresses are."""

_SOURCE_PORTS = IntervalSet(((1, 65535),))
"""Nothing is sent from port 0."""
_LOOPBACK = "lo"
_RULES = 1_000_000
_CHAINS = 20_000
"""Rules and chains that are looked at on the way through one base chain, each time that packets come by: what
a node prints is judged in bounded time, whoever wrote it."""
_DEPTH = 128
"""Jumps within jumps: the kernel allows fewer (16 in nf_tables), and no circles."""


class Interface(Struct, frozen=True, gc=False):
    """A match of the interface that a packet comes in by."""

    pattern: str
    """A name, or the beginning of one with `+` (iptables) or `*` (nftables) at its end."""
    negated: bool = False

    def matches(self, name: str) -> bool | None:
        """Whether an interface matches; None if its name is not known (empty) and that decides."""
        if self.pattern in {"+", "*"}:
            return not self.negated
        if not name:
            # It came from another machine, and so not by the loopback interface.
            return self.negated if self.pattern == _LOOPBACK else None
        if self.pattern[-1:] in {"+", "*"}:
            return name.startswith(self.pattern[:-1]) is not self.negated
        return (name == self.pattern) is not self.negated


class Action(Struct, frozen=True, gc=False):
    """What a rule does with a packet that it matches."""

    kind: Kind
    """`continue` for whatever leaves the packet to the next rule (LOG, MARK, a counter); `untrack` does so
    too, and takes the packet out of connection tracking; `unknown` where a program, another machine or a
    target that nobody knows decides (NFQUEUE, DNAT, TPROXY)."""
    words: str
    """As the tool calls it: `DROP`, `REJECT`, `drop`, `KUBE-FIREWALL`."""
    chain: str = ""
    """With `jump` and `goto`: where to."""


class Rule(Struct, frozen=True, kw_only=True, gc=False):
    """A rule of a chain: what it matches, and what it does then.

    A rule matches if all its fields do. A reader turns negations into complements (`! -s 10.0.0.0/8` into
    all other sources), resolves named sets, and writes a verdict map as several rules of one number.
    """

    number: int
    """Its line in the chain, from 1, as `iptables --delete` counts; for nftables likewise its place."""
    text: str
    """As it was written."""
    action: Action
    protocols: frozenset[str] | None = None
    """Names in lower case (`tcp`, `udp`, `icmp`) that it is about; None for all."""
    other_protocols: frozenset[str] = frozenset()
    """Names that it is not about (`! -p udp`)."""
    sources: IntervalSet = EVERY_ADDRESS
    source_ports: IntervalSet = EVERY_PORT
    destinations: IntervalSet = EVERY_ADDRESS
    destination_ports: IntervalSet = EVERY_PORT
    interfaces: tuple[Interface, ...] = ()
    """Matches of the incoming interface, all of which have to hold."""
    states: frozenset[str] | None = None
    """The states of connection tracking that it matches, of `new`, `established`, `related`, `invalid`,
    `untracked`; None for all."""
    never: bool = False
    """Whether it cannot match the first packet of a connection that comes in (an outgoing interface, TCP
    flags other than SYN alone)."""
    doubts: tuple[Doubt, ...] = ()
    """Why nobody can tell whether it matches a packet that all else in it matches."""


class Chain(Struct, frozen=True):
    """A chain of a table."""

    name: str
    rules: Sequence[Rule]
    policy: Policy = "accept"
    """What happens to a packet at the end of a base chain; `unknown` where the dump does not show it."""


class Table(Struct, frozen=True):
    """A table: chains that can jump to each other."""

    family: Family
    name: str
    """`filter`, `mangle`, `raw`, or what an nftables ruleset calls it."""
    chains: Mapping[str, Chain]
    """By name; may read a chain only when it is asked for."""


class Step(Struct, frozen=True):
    """A base chain on the way of a packet that comes in."""

    table: Table
    chain: str
    priority: int
    """Lower comes first; of the prerouting hook all before all of the input hook."""
    hook: Hook = "prerouting"

    @property
    def early(self) -> bool:
        """Whether connection tracking has not seen the packet yet."""
        return self.hook == "ingress" or (self.hook == "prerouting" and self.priority < CONNTRACK)


class Where(Struct, frozen=True):
    """The rule that decided, or the policy."""

    family: Family
    table: str
    chain: str
    number: int
    """0 for the policy of the chain."""
    text: str
    target: str
    """The action's words."""


class Question(Struct, frozen=True, kw_only=True):
    """New packets that come in: the first of a connection."""

    protocol: str
    """`tcp`, `udp` …"""
    packets: Box
    interface: str = "eth0"
    """By which they come in; empty if that is not known."""
    destination_known: bool = True
    """Whether the destinations are the node's addresses; if not they are `ANY_NODE`, one of which it is."""

    @classmethod
    def to_node(
        cls,
        protocol: str,
        ports: IntervalSet,
        *,
        sources: IntervalSet,
        destinations: IntervalSet | None,
        interface: str = "eth0",
    ) -> "Question":
        """Packets from some sources, from any source port, to a node whose addresses may not be known."""
        to = ANY_NODE if destinations is None else destinations
        return cls(
            protocol=protocol.lower(),
            packets=Box(sources, _SOURCE_PORTS, to, ports),
            interface=interface,
            destination_known=destinations is not None,
        )


def judge(steps: Sequence[Step], question: Question) -> tuple[Decision[Where], ...]:
    """What every base chain on the way does to every packet of a question.

    `steps` in the order in which a packet meets them. Each gives its own decisions, `allowed`,
    `denied` or `unknown`, which together cover the packets that its table sees: a packet that any
    of them denies is lost, and one that none denies and some may deny is in doubt.
    """
    found: list[Decision[Where]] = []
    for family, addresses in (("ip", IPV4), ("ip6", IPV6)):
        packets = structs.replace(
            question.packets,
            sources=question.packets.sources & addresses,
            destinations=question.packets.destinations & addresses,
        )
        if not packets.empty:
            seen = [step for step in steps if step.table.family in {family, "inet", "netdev"}]
            found += _pass(seen, structs.replace(question, packets=packets))
    return tuple(found)


def covered(steps: Sequence[Step]) -> IntervalSet:
    """The addresses whose packets some table sees."""
    families = {step.table.family for step in steps}
    if families & {"inet", "netdev"} or families >= {"ip", "ip6"}:
        return EVERY_ADDRESS
    return IPV4 if "ip" in families else IPV6 if "ip6" in families else NOTHING


def answer(
    decisions: Sequence[Decision[Where]], question: Question, *, unseen: Sequence[RulePart] = ()
) -> Answer:
    """Sort the sources of a question by what decisions say of them.

    `unseen` names sources of which the rules say nothing, as parts whose `access` is `unknown`.
    """
    asked = question.packets.sources
    denied = union(one.sources for one in decisions if one.verdict == "denied")
    doubtful = union(one.sources for one in decisions if one.verdict == "unknown")
    doubtful |= union(parse_prefixes(part.matched) for part in unseen)
    parts = tuple(_part(one) for one in decisions)
    return Answer.of(asked, denied=denied, doubtful=doubtful, rules=(*parts, *unseen))


# --- the walk ------------------------------------------------------------------------------------


class _Effort(Struct):
    """What was looked at on the way."""

    chains: int = 0
    rules: int = 0


class _Walk(Struct, frozen=True):
    """What stays the same on the way through a base chain."""

    table: Table
    question: Question
    states: frozenset[str]
    """The states that the packets may have in connection tracking."""
    effects: Callable[[Action], frozenset[Effect] | None]
    """What an action comes to, None if the next rule goes on."""
    known: dict[tuple[str, Box], tuple[Decision[Where], ...]] = {}
    """What chains did to packets that came by before: chains may be met by very many ways."""
    effort: _Effort = field(default_factory=_Effort)


_EFFECTS: dict[Kind, frozenset[Effect]] = {
    "accept": frozenset({"allowed"}),
    "drop": frozenset({"denied"}),
    "return": frozenset({"passed"}),
    "unknown": frozenset({"allowed", "denied"}),
}
_TRACKING: dict[Kind, frozenset[Effect]] = {
    # To learn who is untracked: `denied` stands for that, and whatever ends the chain leaves things be.
    "accept": frozenset({"allowed"}),
    "drop": frozenset({"allowed"}),
    "return": frozenset({"passed"}),
    "untrack": frozenset({"denied"}),
    "unknown": frozenset({"allowed"}),
}


def _verdict(action: Action) -> frozenset[Effect] | None:
    return _EFFECTS.get(action.kind)


def _tracking(action: Action) -> frozenset[Effect] | None:
    return _TRACKING.get(action.kind)


_NEW = frozenset({"new"})
_UNTRACKED = frozenset({"untracked"})
_INVALID = frozenset({"invalid"})


def _pass(steps: Sequence[Step], question: Question) -> Iterator[Decision[Where]]:
    """Let the packets of one family through the base chains, one after the other."""
    parts = [(question.packets, _NEW)]
    for step in steps:
        following: list[tuple[Box, frozenset[str]]] = []
        for packets, states in parts:
            asked = structs.replace(question, packets=packets)
            # What connection tracking has not seen yet counts as invalid.
            met = (states - _NEW) | _INVALID if step.early and states >= _NEW else states
            yield from _base(step, _Walk(step.table, asked, met, _verdict))
            following += _tracked(step, asked, states, met) if step.early else [(packets, states)]
        parts = following


def _base(step: Step, walk: _Walk) -> Iterator[Decision[Where]]:
    """A base chain's decisions; what comes to its end meets its policy."""
    chain = step.table.chains[step.chain]
    policy = Where(step.table.family, step.table.name, chain.name, 0, "", chain.policy.upper())
    ends: dict[Policy, frozenset[Effect]] = {
        "accept": frozenset({"allowed"}),
        "drop": frozenset({"denied"}),
        "unknown": frozenset({"allowed", "denied"}),
    }
    at_end: list[Box] = []
    for decision in _through(chain, walk, walk.question.packets, 0):
        if decision.possible == {"passed"}:
            at_end += decision.packets
        elif "passed" in decision.possible:
            possible = decision.possible - {"passed"} | ends[chain.policy]
            yield structs.replace(
                decision, possible=possible, verdict=min(possible) if len(possible) == 1 else "unknown"
            )
        else:
            yield decision
    if at_end:
        possible = ends[chain.policy]
        doubt = Doubt("policy_not_shown", f"the policy of chain {chain.name} is not shown")
        yield Decision(
            verdict=min(possible) if len(possible) == 1 else "unknown",
            rule=policy,
            packets=tuple(at_end),
            doubt=doubt if len(possible) > 1 else None,
            possible=possible,
        )


def _tracked(
    step: Step, question: Question, states: frozenset[str], met: frozenset[str]
) -> list[tuple[Box, frozenset[str]]]:
    """The packets after a chain that may untrack some, with the states that they may have later on.

    `states` are those without that chain, `met` those in it.
    """
    chain = step.table.chains[step.chain]
    walk = _Walk(step.table, question, met, _tracking)
    parts: list[tuple[Box, frozenset[str]]] = []
    for decision in _through(chain, walk, question.packets, 0):
        after = states if "denied" not in decision.possible else _UNTRACKED
        if len(decision.possible) > 1 and "denied" in decision.possible:
            after = states | _UNTRACKED
        parts += [(box, after) for box in decision.packets]
    if all(after == states for _, after in parts):
        return [(question.packets, states)]
    return parts


def _through(chain: Chain, walk: _Walk, packets: Box, depth: int) -> tuple[Decision[Where], ...]:
    """What a chain does to packets; `passed` for those that come to its end, or return."""
    if depth > _DEPTH:
        raise ValueError(f"chain {chain.name} is part of a circle of jumps")
    known = walk.known.get((chain.name, packets))
    if known is not None:
        return known
    walk.effort.chains += 1
    walk.effort.rules += len(chain.rules)
    if walk.effort.rules > _RULES or walk.effort.chains > _CHAINS:
        raise ValueError(
            f"the chains of table {walk.table.name} jump to each other in too many ways to be judged"
        )
    end = Turn(
        Where(walk.table.family, walk.table.name, chain.name, 0, "", ""),
        frozenset[Effect]({"passed"}),
        Match(packets),
    )
    found = walk.known[chain.name, packets] = first_match(packets, _turns(chain, walk, packets, depth), end)
    return found


def _turns(chain: Chain, walk: _Walk, packets: Box, depth: int) -> Iterator[Turn[Where]]:
    for rule in chain.rules:
        action = rule.action
        jumps = action.kind in {"jump", "goto"}
        effects = None if jumps else walk.effects(action)
        if effects is None and not jumps:
            continue
        match = _match(rule, walk, packets)
        if match is None:
            continue
        where = Where(walk.table.family, walk.table.name, chain.name, rule.number, rule.text, action.words)
        if effects is None:
            yield from _jump(where, action, match, walk, depth)
            continue
        if len(effects) > 1 and match.doubt is None:
            match = structs.replace(match, doubt=_undecided(action))
        yield Turn(where, effects, match)


def _jump(where: Where, action: Action, match: Match, walk: _Walk, depth: int) -> Iterator[Turn[Where]]:
    """The decisions of another chain, as turns in the one that jumps to it."""
    target = walk.table.chains.get(action.chain)
    entering = match.surely if match.perhaps is None else match.perhaps
    assert entering is not None  # noqa: S101 - a match has one of the two
    if target is None:
        doubt = Doubt("chain_not_shown", f"chain {action.chain} is not shown")
        everything: frozenset[Effect] = frozenset({"allowed", "denied"})
        yield Turn(where, everything, Match(None, entering, match.doubt or doubt))
        return
    for decision in _through(target, walk, entering, depth + 1):
        effects = decision.possible if action.kind == "goto" else decision.possible - {"passed"}
        if not effects:
            continue
        # Told is the deepest rule that is to blame; of one that only comes back, the jump.
        rule = where if decision.possible == {"passed"} else decision.rule
        sure = effects == decision.possible
        for box in decision.packets:
            surely = box & match.surely if sure and match.surely is not None else None
            if surely is not None and not surely.empty:
                yield Turn(rule, effects, Match(surely, None, decision.doubt))
            if match.perhaps is not None or not sure:
                yield Turn(rule, effects, Match(None, box, decision.doubt or match.doubt))


def _match(rule: Rule, walk: _Walk, packets: Box) -> Match | None:
    """The packets that a rule matches; None if there are none."""
    question = walk.question
    if rule.never or question.protocol in rule.other_protocols:
        return None
    if rule.protocols is not None and question.protocol not in rule.protocols:
        return None
    box = Box(rule.sources, rule.source_ports, rule.destinations, rule.destination_ports)
    common = packets & box
    if common.empty:
        return None
    doubts = list(rule.doubts)
    for interface in rule.interfaces:
        matches = interface.matches(question.interface)
        if matches is False:
            return None
        if matches is None:
            doubts.append(Doubt("unknown_interface", "the interface that packets come in by is not known"))
    if rule.states is not None and not walk.states <= rule.states:
        if walk.states.isdisjoint(rule.states):
            return None
        doubts.append(Doubt("unknown_state", "it is not known whether the connection is tracked"))
    if not question.destination_known and common.destinations != packets.destinations:
        # The node has some address, and every one of them may be it.
        common = structs.replace(common, destinations=packets.destinations)
        doubts.append(Doubt("unknown_destination", "the node's own addresses were not given"))
    if not doubts:
        return Match(common)
    words = "; ".join(dict.fromkeys(doubt.why for doubt in doubts))
    return Match(None, common, Doubt(doubts[0].code, words))


def _undecided(action: Action) -> Doubt:
    return Doubt("unknown_target", f"what {action.words} does with a packet is not known from the rules")


def _part(decision: Decision[Where]) -> RulePart:
    rule = decision.rule
    place = {"ip": f"table {rule.table}", "ip6": f"table {rule.table} of IPv6"}.get(
        rule.family, f"table {rule.family} {rule.table}"
    )
    said = f"policy of chain {rule.chain}, {place}" if not rule.number else f"{place}: {rule.text}"
    if decision.verdict == "unknown":
        assert decision.doubt is not None  # noqa: S101 - of a decision that is unknown
        said = f"{said}; but {decision.doubt.why}"
    return RulePart(
        name=f"{rule.chain} {rule.number}" if rule.number else rule.chain,
        priority=rule.number,
        access=rule.target,
        matched=to_prefixes(decision.sources),
        why=said,
    )
