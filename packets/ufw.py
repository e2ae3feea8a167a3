"""UFW, the Uncomplicated Firewall of a node: which packets to the node itself its rules let through.

Rules about incoming traffic are taken in the order in which `ufw status` lists them, those of IPv4 and of
IPv6 apart; the first to match decides, and the default policy (incoming) where none does
(https://manpages.ubuntu.com/manpages/noble/man8/ufw.8.html). Rules about outgoing and routed traffic are left
aside. An inactive firewall lets everything through.

`LIMIT` allows a new connection unless its source tried to make six or more within 30 seconds: what it decides
hangs on the rate, so it is `unknown`, with a doubt of the code `rate_limited`.

What stands in /etc/ufw/before.rules and after.rules is not in `ufw status`. As UFW installs them they decide
nothing about new TCP connections to an address of the node.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

from msgspec import Struct

from packets.addresses import (
    EVERY_ADDRESS,
    EVERY_PORT,
    IPV4,
    IPV6,
    NOTHING,
    IntervalSet,
    parse_port_range,
    parse_prefix,
    parse_prefixes,
    to_prefixes,
    union,
)
from packets.answers import Answer, RulePart
from packets.boxes import Box
from packets.decisions import Decision, Doubt, Effect, Match, Turn, first_match
from packets.tags import Field

Action = Literal["ALLOW", "DENY", "REJECT", "LIMIT"]
Policy = Literal["allow", "deny", "reject"]
Direction = Literal["in", "out", "routed"]
Family = Literal[4, 6]

RATE_LIMITED = "rate_limited"
"""The doubt about what a LIMIT rule decides."""

_EFFECTS: dict[str, frozenset[Effect]] = {
    "ALLOW": frozenset({"allowed"}),
    "DENY": frozenset({"denied"}),
    "REJECT": frozenset({"denied"}),
    "LIMIT": frozenset({"allowed", "denied"}),
}
_EITHER = _EFFECTS["LIMIT"]
_LIMIT = Doubt(
    RATE_LIMITED,
    "LIMIT turns away a source that tries to make six or more new connections within 30 seconds",
)
_UNKNOWN_POLICY = Doubt(
    "unknown_default_policy",
    "the default policy is not shown (it is in `ufw status verbose`; deny, unless somebody changed it)",
)
_UNMANAGED = Doubt(
    "ipv6_unmanaged",
    "no IPv6 rule is listed, and UFW drops all of IPv6 where /etc/default/ufw says IPV6=no",
)

# No packet that comes in from outside is for one of these (RFC 1122, 4291, 5771).
_NO_NODE = parse_prefixes(("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "::/127", "ff00::/8"))

_PROFILES = {
    "Apache": "80/tcp",
    "Apache Full": "80,443/tcp",
    "Apache Secure": "443/tcp",
    "CUPS": "631",
    "DNS": "53",
    "Nginx Full": "80,443/tcp",
    "Nginx HTTP": "80/tcp",
    "Nginx HTTPS": "443/tcp",
    "OpenSSH": "22/tcp",
    "Postfix": "25/tcp",
    "Postfix SMTPS": "465/tcp",
    "Postfix Submission": "587/tcp",
    "SSH": "22/tcp",
    "WWW": "80/tcp",
    "WWW Full": "80,443/tcp",
    "WWW Secure": "443/tcp",
}
"""Application profiles as Ubuntu's packages install them in /etc/ufw/applications.d."""


class Side(Struct, frozen=True):
    """One side of a rule: where from, or where to."""

    address: str = ""
    """An address or CIDR; empty for all."""
    ports: str = ""
    """`10250`, `10000:11000` or a list of these with commas; empty for all."""
    profile: str = ""
    """The application profile that it names; where no ports are shown beside it, it means the profile's."""


class UfwRule(Struct, frozen=True, kw_only=True):
    """A rule as `ufw status` lists it."""

    written: str
    """The line without its number and its comment, spaces folded: `10250/tcp ALLOW IN 10.240.0.0/16`."""
    place: int
    """Its place in the list, counting from 1."""
    number: int | None = None
    """What `ufw delete` knows it by, which only `ufw status numbered` tells in every case: the other forms
    put rules about outgoing and routed traffic last."""
    action: Action
    direction: Direction = "in"
    family: Family = 4
    protocol: str = "any"
    """`tcp`, `udp`, `esp` …; `any` for all, with ports for TCP and UDP."""
    source: Side = Side()
    to: Side = Side()
    interface: str = ""
    """Where the packet comes in: `eth0`, or `eth+` for all that begin with `eth`; empty for all."""
    comment: str = ""


class UfwStatus(Struct, frozen=True, kw_only=True):
    """What `ufw status` says."""

    active: bool
    incoming: Policy | None = None
    """The default policy; `None` where it is not shown."""
    rules: tuple[UfwRule, ...] = ()


class UfwQuestion(Struct, frozen=True, kw_only=True):
    """The packets that are asked about: new connections from outside to the node itself."""

    protocol: str
    """`tcp` or `udp`; in any case."""
    sources: IntervalSet
    ports: IntervalSet
    source_ports: IntervalSet = EVERY_PORT
    destinations: IntervalSet | None = None
    """Addresses of the node; `None` where they are not known, so that what hangs on them is not either."""
    interface: str = "eth0"
    """Where they come in; empty where that is not known."""


def evaluate(status: UfwStatus, question: UfwQuestion) -> tuple[Decision[UfwRule | None], ...]:
    """Judge every packet of a question: each is `allowed`, `denied` or `unknown`.

    Returns one decision for each rule and verdict, IPv4 first, in the order of the rules, with no rule for
    the default policy and for a firewall that is inactive; together they cover the question, but for packets
    of two address families at once, which do not exist. Rules that decide nothing are not there.
    """
    decisions: list[Decision[UfwRule | None]] = []
    families: tuple[Family, ...] = (4, 6)
    for family in families:
        packets = _packets(question, family)
        if not packets.empty:
            decisions += first_match(
                packets, _turns(status, question, family, packets), _last(status, family, packets)
            )
    return tuple(decisions)


def answer(
    status: UfwStatus,
    protocol: str,
    *,
    sources: IntervalSet,
    ports: IntervalSet,
    destinations: IntervalSet | None = None,
    interface: str = "eth0",
) -> Answer:
    """Say which of some sources may open connections to some ports of the node.

    Sources are asked about with the destinations of their own address family. Raises `ValueError` if no
    packet is left to ask about.
    """
    question = UfwQuestion(
        protocol=protocol, sources=sources, ports=ports, destinations=destinations, interface=interface
    )
    decisions = evaluate(status, question)
    if not decisions:
        raise ValueError("source and destination have no address family in common")
    return Answer.of(
        union(decision.sources for decision in decisions),
        denied=union(decision.sources for decision in decisions if decision.verdict == "denied"),
        doubtful=union(decision.sources for decision in decisions if decision.verdict == "unknown"),
        rules=tuple(_part(status, decision, question) for decision in decisions) if status.active else (),
    )


def _part(status: UfwStatus, decision: Decision[UfwRule | None], question: UfwQuestion) -> RulePart:
    rule = decision.rule
    return RulePart(
        name=rule.written if rule else "default (incoming)",
        # The policy comes after all rules.
        priority=(rule.number or rule.place) if rule else len(status.rules) + 1,
        access=rule.action if rule else (status.incoming or "unknown").upper(),
        matched=to_prefixes(decision.sources),
        why=_why(decision, question),
    )


def _why(decision: Decision[UfwRule | None], question: UfwQuestion) -> str:
    to = (
        ""
        if question.destinations is None
        else f" what goes to {', '.join(to_prefixes(decision.destinations))}"
    )
    matched = f"first to match{to}" if decision.rule else f"no rule matches{to}"
    if decision.doubt is None:
        return f"{matched}: {decision.verdict}"
    if decision.rule and decision.doubt.code != RATE_LIMITED:
        matched = f"may decide{to}"
    return f"{matched}, but {decision.doubt.why}"


def _packets(question: UfwQuestion, family: Family) -> Box:
    every = IPV4 if family == 4 else IPV6
    destinations = every - _NO_NODE if question.destinations is None else question.destinations & every
    return Box(question.sources & every, question.source_ports, destinations, question.ports)


def _last(status: UfwStatus, family: Family, packets: Box) -> Turn[UfwRule | None]:
    """What becomes of packets that no rule matches."""
    if not status.active:
        return Turn(None, _EFFECTS["ALLOW"], Match(packets))
    if status.incoming is None:
        return Turn(None, _EITHER, Match(packets, doubt=_UNKNOWN_POLICY))
    if family == 6 and status.incoming == "allow" and all(rule.family == 4 for rule in status.rules):
        return Turn(None, _EITHER, Match(packets, doubt=_UNMANAGED))
    return Turn(None, _EFFECTS[status.incoming.upper()], Match(packets))


def _turns(
    status: UfwStatus, question: UfwQuestion, family: Family, packets: Box
) -> Iterator[Turn[UfwRule | None]]:
    """The rules that may match, in order."""
    if not status.active:
        return
    for rule in status.rules:
        if rule.direction == "in" and rule.family == family:
            match = _match(rule, question, packets)
            if match is not None:
                yield Turn(rule, _EFFECTS[rule.action], match)


def _match(rule: UfwRule, question: UfwQuestion, packets: Box) -> Match | None:
    """The packets that a rule matches; None if it surely matches none."""
    protocol = question.protocol.lower()
    if rule.protocol not in {"any", protocol}:
        return None
    doubts = []
    if rule.interface:
        comes_in = _comes_in(rule.interface, question.interface)
        if comes_in is False:
            return None
        if comes_in is None:
            doubts.append(
                Doubt("unknown_interface", f"whether packets come in on {rule.interface} is not known")
            )
    fields = (
        _addresses(rule.source.address, "source"),
        _ports(rule.source, protocol, "source"),
        _destinations(rule.to.address, question, packets),
        _ports(rule.to, protocol, "destination"),
    )
    perhaps = packets & Box(*(field.perhaps for field in fields))
    if perhaps.empty:
        return None
    doubts += [field.doubt for field in fields if field.doubt]
    if doubts:
        return Match(None, perhaps, Doubt(doubts[0].code, "; ".join(doubt.why for doubt in doubts)))
    return Match(perhaps, doubt=_LIMIT if rule.action == "LIMIT" else None)


def _comes_in(pattern: str, interface: str) -> bool | None:
    """Whether what comes in on an interface matches a pattern of iptables; None if nobody knows."""
    if pattern == "+":
        return True
    if not interface:
        return None
    return interface.startswith(pattern[:-1]) if pattern.endswith("+") else interface == pattern


def _destinations(address: str, question: UfwQuestion, packets: Box) -> Field:
    field = _addresses(address, "destination")
    if question.destinations is not None or field.doubt or not packets.destinations - field.surely:
        return field
    # The node has some address, and nobody knows which: one that is named is not a part of what was asked.
    if not packets.destinations & field.surely:
        return Field.of(NOTHING)
    doubt = Doubt("unknown_destination", f"whether the node has an address in {address} is not known")
    return Field.of(NOTHING, doubt)


@lru_cache(maxsize=4096)
def _addresses(text: str, side: str) -> Field:
    if not text:
        return Field.of(EVERY_ADDRESS)
    length = text.partition("/")[2]
    if "." not in length:
        return Field.of(parse_prefix(text))
    # UFW writes a netmask out where it has a hole: 10.0.0.0/255.0.255.0.
    return Field.of(NOTHING, Doubt("unknown_rule_value", f"its {side} netmask {length} is not read"))


@lru_cache(maxsize=4096)
def _ports(side: Side, protocol: str, name: str) -> Field:
    if side.profile and not side.ports:
        known = _PROFILES.get(side.profile)
        if known is None:
            why = f'the ports of its {name} application profile "{side.profile}" are not shown'
            doubt = Doubt("unknown_profile", f"{why} (`ufw status verbose` shows them)")
            return Field(NOTHING, EVERY_PORT, doubt)
        ports, _, only = known.partition("/")
        return Field.of(parse_ports(ports) if only in {"", protocol} else NOTHING)
    return Field.of(parse_ports(side.ports) if side.ports else EVERY_PORT)


def parse_ports(text: str) -> IntervalSet:
    """`10250`, `10000:11000` or a list of these with commas; raises `ValueError`."""
    return union(parse_port_range(part.replace(":", "-")) for part in text.split(","))
