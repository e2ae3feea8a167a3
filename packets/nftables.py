"""nftables: what its base chains do to new packets that come in to the node.

A packet passes the base chains at the hooks ingress, prerouting and input, at each in the order of their
priorities, and has to survive every one: `accept` ends only the chain that it stands in, a drop ends it all
(nft(8), https://wiki.nftables.org/wiki-nftables/index.php/Configuring_chains). Tables of the families bridge
and arp, dormant tables and other hooks have nothing to do with it.

A set whose members are added by rules or time out is in doubt, whatever members are listed: the next packet
may meet others. A listing made with `-t` is not told from one of empty sets, unless the command stands
above it.
"""

import shlex
from collections.abc import Iterator, Mapping

from msgspec import structs

from packets.addresses import to_prefixes
from packets.answers import Answer, RulePart
from packets.decisions import Decision
from packets.dumps.nftables_listing import HOOKS, Ruleset, WrittenTable
from packets.dumps.nftables_rules import read_chain, sees
from packets.netfilter import Chain, Family, Question, Step, Table, Where, judge
from packets.netfilter import answer as answer_of

_FAMILIES: dict[str, Family] = {"ip": "ip", "ip6": "ip6", "inet": "inet", "netdev": "netdev"}
_NAT = {"prerouting": -100, "input": 100}
"""Where NAT stands at a hook, whatever the priorities of its chains among each other are."""
_OF_IPTABLES = {
    "raw": {"PREROUTING", "OUTPUT"},
    "mangle": {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"},
    "nat": {"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"},
    "filter": {"INPUT", "FORWARD", "OUTPUT"},
    "security": {"INPUT", "FORWARD", "OUTPUT"},
}
"""The tables of iptables, and their base chains."""


class _Chains(Mapping[str, Chain]):
    """The chains of a table for a question, each read when a packet comes by."""

    def __init__(self, table: WrittenTable, question: Question) -> None:
        self._table = table
        self._question = question
        self._read: dict[str, Chain] = {}

    def __getitem__(self, name: str) -> Chain:
        if name not in self._read:
            self._read[name] = read_chain(self._table, self._table.chains[name], self._question)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.chains)

    def __len__(self) -> int:
        return len(self._table.chains)


def steps(ruleset: Ruleset, question: Question) -> list[Step]:
    """The base chains that the packets of a question meet, in order."""
    found: list[tuple[int, int, Step]] = []
    for table in ruleset.tables:
        family = _FAMILIES.get(table.family)
        if family is None or table.dormant:
            continue
        made = Table(family, table.name, _Chains(table, question))
        for chain in table.chains.values():
            base = chain.base
            if base is None or not sees(chain, question):
                continue
            for place, hook in enumerate(HOOKS):
                if base.hook == hook:
                    priority = _NAT[hook] if base.kind == "nat" and hook in _NAT else base.priority
                    found.append((place, priority, Step(made, chain.name, priority, hook)))
    return [step for _, _, step in sorted(found, key=lambda one: one[:2])]


def evaluate(ruleset: Ruleset, question: Question) -> tuple[Decision[Where], ...]:
    """Judge every packet of a question, by each base chain.

    Raises `ValueError` for chains that jump in a circle.
    """
    return judge(steps(ruleset, question), question)


def answer(ruleset: Ruleset, question: Question) -> Answer:
    """Say which sources get through; none does for sure where the ruleset is not shown whole."""
    met = steps(ruleset, question)
    decisions = judge(met, question)
    unseen = [
        RulePart(
            name="not shown",
            priority=0,
            access="unknown",
            matched=to_prefixes(question.packets.sources),
            why=doubt.why,
        )
        for doubt in ruleset.doubts
    ]
    said = answer_of(decisions, question, unseen=unseen)
    if decisions or unseen:
        return said
    nothing = RulePart(
        name="ruleset",
        priority=0,
        access="accept",
        matched=to_prefixes(question.packets.sources),
        why="no base chain filters such packets" if ruleset.tables else "the ruleset is empty",
    )
    return structs.replace(said, rules=(nothing,))


def handle_of(ruleset: Ruleset, where: Where) -> int | None:
    """The handle of a rule; None for a policy, and where the listing shows none (`nft -a` does)."""
    for table in ruleset.tables:
        if (table.family, table.name) == (where.family, where.table) and where.chain in table.chains:
            rules = table.chains[where.chain].read()
            if 0 < where.number <= len(rules):
                return rules[where.number - 1].handle
    return None


def delete_commands(where: Where, handle: int | None = None) -> tuple[str, ...]:
    """The command that takes a rule away, by its handle; for a policy, the one that sets it to accept.

    Without a handle there are two: the first lists the chain with handles, and in the second HANDLE stands
    for the one that it shows after the rule.
    """
    chain = shlex.join((where.family, where.table, where.chain))
    if not where.number:
        return (f"nft chain {chain} '{{ policy accept ; }}'",)
    if handle is None:
        return (f"nft -a list chain {chain}", f"nft delete rule {chain} handle HANDLE")
    return (f"nft delete rule {chain} handle {handle}",)


def is_of_iptables(table: WrittenTable) -> bool:
    """Whether a table is one that iptables-nft keeps, and iptables-nft-save shows better.

    It is if its base chains are iptables' own, by name and hook, whatever other chains it has.
    """
    names = _OF_IPTABLES.get(table.name)
    if table.family not in {"ip", "ip6"} or names is None:
        return False
    base = [chain for chain in table.chains.values() if chain.base is not None]
    return bool(base) and all(
        chain.name in names and chain.base is not None and chain.name.lower() == chain.base.hook
        for chain in base
    )
