"""Network security groups: which packets of a question a group lets through, and by which rule.

A question is a set of packets: sources x source ports x destinations x
destination ports of one protocol and direction. Rules are taken in order of
priority, each takes what it matches from what is still undecided, and the first
to match decides
(https://learn.microsoft.com/azure/virtual-network/network-security-group-how-it-works).

A rule whose match cannot be known (a service tag nobody resolved, an enum value
from the future) does not decide: the packets that it might match go on and
remember it. They are UNKNOWN only if the rule that finally decides them says
something else than the ones they remember.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Self

from msgspec import Struct, structs

from facts.snapshot import Direction, NetworkSecurityGroup, SecurityRule
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
from packets.boxes import Box, Undecided

Verdict = Literal["allowed", "denied", "unknown"]

_ANY = frozenset({"*", "any", "all", "0.0.0.0/0"})
"""Ways to write "everything": the documentation calls `*`, `Any` and `0.0.0.0/0` equivalent."""
PROTOCOLS = frozenset({"tcp", "udp", "icmp", "esp", "ah"})
"""What a rule can be about, besides everything."""
_DIRECTIONS = frozenset({"inbound", "outbound"})

# Address ranges that the Internet tag leaves out besides the virtual network: not publicly reachable
# (RFC 1918, 6598, 3927, 1122, 4193, 4291).
_PRIVATE = parse_prefixes(
    (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "127.0.0.0/8",
        "fc00::/7",
        "fe80::/10",
        "::1/128",
    )
)
# The platform's virtual address, from which load balancer probes come
# (https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16).
_PLATFORM = parse_prefixes(("168.63.129.16", "fe80::1234:5678:9abc"))


class Question(Struct, frozen=True, kw_only=True):
    """The packets that are asked about."""

    direction: Direction
    protocol: str
    """`tcp`, `udp`, `icmp`, `esp`, `ah`; in any case."""
    packets: Box


class Doubt(Struct, frozen=True):
    """Why it cannot be known whether a rule matches."""

    code: str
    """`unknown_service_tag`, `unknown_security_group`, `unknown_rule_value`."""
    why: str
    """A clause that follows "but": `the source service tag "Sql" could not be resolved`."""


_Doubted = tuple[SecurityRule, Doubt]
"""A rule that may have taken a packet already, and why nobody knows."""


class Decision(Struct, frozen=True, kw_only=True):
    """What became of a part of the question, and which rule decided."""

    verdict: Verdict
    rule: SecurityRule
    """The rule that decided, or for `unknown` the first that might have."""
    packets: tuple[Box, ...]
    doubt: Doubt | None = None
    """For `unknown`: what could not be known."""

    @property
    def sources(self) -> IntervalSet:
        """The source addresses of the packets decided."""
        return union(box.sources for box in self.packets)

    @property
    def destinations(self) -> IntervalSet:
        """The destination addresses of the packets decided."""
        return union(box.destinations for box in self.packets)


class Tags(Struct, frozen=True):
    """The addresses that names in rules stand for."""

    addresses: Mapping[str, IntervalSet]
    """Service tags, by lower-case name."""
    groups: Mapping[str, IntervalSet] = {}
    """Application security groups, by the key of their id, or by lower-case name."""

    @classmethod
    def of_network(
        cls,
        network: Iterable[str] | IntervalSet | None,
        others: Mapping[str, IntervalSet] | None = None,
        groups: Mapping[str, IntervalSet] | None = None,
    ) -> Self:
        """The tags that follow from a virtual network's address space, its peers' included.

        VirtualNetwork holds the platform's address 168.63.129.16 too; Internet is
        what lies outside and is publicly reachable
        (https://learn.microsoft.com/azure/virtual-network/service-tags-overview).
        Where the network is not known, these two are not.
        """
        known = {name.lower(): addresses for name, addresses in (others or {}).items()}
        known["azureloadbalancer"] = _PLATFORM
        if network is not None:
            space = network if isinstance(network, IntervalSet) else parse_prefixes(network)
            known["virtualnetwork"] = space | _PLATFORM
            known["internet"] = EVERY_ADDRESS - space - _PLATFORM - _PRIVATE
        return cls(known, {name.lower(): addresses for name, addresses in (groups or {}).items()})

    def of_group(self, group: str) -> IntervalSet | None:
        """The addresses of an application security group, named by id."""
        by_name = self.groups.get(group.rsplit("/", 1)[-1].lower())
        return self.groups.get(group.lower(), by_name)


def evaluate(nsg: NetworkSecurityGroup, question: Question, tags: Tags) -> tuple[Decision, ...]:
    """Judge every packet of a question.

    Returns one decision for each rule and verdict, in the order of the rules; together
    they cover the question, and no packet is in two. Rules that decide nothing are
    not there. A group without default rules is judged as if it had Azure's.
    """
    decided: dict[tuple[Verdict, str], tuple[SecurityRule, Doubt | None, list[Box]]] = {}

    def decide(rule: SecurityRule, box: Box, doubts: tuple[_Doubted, ...]) -> None:
        verdict, decider, doubt = _settle(rule, doubts)
        decided.setdefault((verdict, decider.id.lower()), (decider, doubt, []))[2].append(box)

    undecided: Undecided[_Doubted] = Undecided(question.packets)
    for rule in _in_order(nsg, question.direction):
        if not undecided:
            break
        match = _match(rule, question.protocol, tags)
        if match is None:
            continue
        if match.surely is not None:
            for box, doubts in undecided.take(match.surely):
                decide(rule, box, doubts)
        if match.doubt is not None:
            undecided.note(match.perhaps, (rule, match.doubt))
    # Azure's default rules leave nothing; a document whose own defaults do is completed by a deny.
    last = _own(_deny_all(question.direction), nsg)
    for box, doubts in undecided.take(question.packets):
        decide(last, box, doubts)
    return tuple(
        Decision(verdict=verdict, rule=rule, packets=tuple(boxes), doubt=doubt)
        for (verdict, _), (rule, doubt, boxes) in sorted(
            decided.items(), key=lambda item: (item[1][0].priority, item[0])
        )
    )


def answer(
    nsg: NetworkSecurityGroup,
    direction: Direction,
    protocol: str,
    tags: Tags,
    *,
    sources: IntervalSet,
    destinations: IntervalSet,
    ports: IntervalSet,
) -> Answer:
    """Say which of some sources reach all of some destinations on some ports.

    Packets are of one address family: sources are asked about with the destinations of their own.
    Raises `ValueError` if no packet is left to ask about.
    """
    decisions: list[Decision] = []
    asked = NOTHING
    for family in (IPV4, IPV6):
        packets = Box(sources & family, EVERY_PORT, destinations & family, ports)
        if not packets.empty:
            asked |= packets.sources
            question = Question(direction=direction, protocol=protocol, packets=packets)
            decisions += evaluate(nsg, question, tags)
    if not asked:
        raise ValueError("source and destination have no address family in common")
    return Answer.of(
        asked,
        denied=union(decision.sources for decision in decisions if decision.verdict == "denied"),
        doubtful=union(decision.sources for decision in decisions if decision.verdict == "unknown"),
        rules=tuple(
            RulePart(
                name=decision.rule.name,
                priority=decision.rule.priority,
                access=decision.rule.access,
                matched=to_prefixes(decision.sources),
                why=_why(decision),
            )
            for decision in decisions
        ),
    )


def _why(decision: Decision) -> str:
    to = ", ".join(to_prefixes(decision.destinations))
    if decision.doubt is not None:
        return f"may decide what goes to {to}, but {decision.doubt.why}"
    return f"first to match what goes to {to}: {decision.verdict}"


def free_priority(nsg: NetworkSecurityGroup, direction: Direction, below: int) -> int | None:
    """The highest priority number under `below` that no rule of that direction has, or None.

    Custom rules have 100-4096, each number once a direction.
    """
    taken = {rule.priority for rule in nsg.rules if rule.direction.lower() == direction.lower()}
    return next((number for number in range(min(below, 4097) - 1, 99, -1) if number not in taken), None)


class _Match(Struct, frozen=True):
    """What a rule matches for sure, and what it might match besides."""

    surely: Box | None
    perhaps: Box
    doubt: Doubt | None


class _Field(Struct, frozen=True):
    """The value of one field of a rule."""

    surely: IntervalSet
    doubt: Doubt | None = None

    @property
    def perhaps(self) -> IntervalSet:
        return EVERY_ADDRESS if self.doubt else self.surely


def _settle(rule: SecurityRule, doubts: tuple[_Doubted, ...]) -> tuple[Verdict, SecurityRule, Doubt | None]:
    """A rule matches packets that earlier ones may have taken: do they all say the same?"""
    verdict = _verdict(rule)
    for other, doubt in doubts:
        if _verdict(other) != verdict:
            return "unknown", other, doubt
    if verdict == "unknown":
        return verdict, rule, Doubt("unknown_rule_value", f'its access "{rule.access}" is not known')
    return verdict, rule, None


def _verdict(rule: SecurityRule) -> Verdict:
    return {"allow": "allowed", "deny": "denied"}.get(rule.access.lower(), "unknown")  # type: ignore[return-value]


def _in_order(nsg: NetworkSecurityGroup, direction: Direction) -> list[SecurityRule]:
    rules = list(nsg.rules)
    if not any(rule.default and rule.direction.lower() == direction.lower() for rule in rules):
        rules += [_own(rule, nsg) for rule in DEFAULT_RULES if rule.direction == direction]
    # A direction that is neither of the two known ones may be either.
    other = _DIRECTIONS - {direction.lower()}
    return sorted(
        (rule for rule in rules if rule.direction.lower() not in other), key=lambda rule: rule.priority
    )


def _own(rule: SecurityRule, nsg: NetworkSecurityGroup) -> SecurityRule:
    """A default rule under the id that it has in a group."""
    return structs.replace(rule, id=f"{nsg.id}/{rule.id}")


def _deny_all(direction: Direction) -> SecurityRule:
    return next(rule for rule in DEFAULT_RULES if rule.direction == direction and rule.priority == 65500)


def _match(rule: SecurityRule, protocol: str, tags: Tags) -> _Match | None:
    """The packets of a protocol that a rule matches; None if it is about another protocol."""
    doubts: list[Doubt] = []
    written = rule.protocol.lower()
    if written not in _ANY and written != protocol.lower():
        if written in PROTOCOLS:
            return None
        doubts.append(Doubt("unknown_rule_value", f'its protocol "{rule.protocol}" is not known'))
    if rule.direction.lower() not in _DIRECTIONS:
        doubts.append(Doubt("unknown_rule_value", f'its direction "{rule.direction}" is not known'))
    sources = _addresses(rule.sources, rule.source_groups, tags, "source")
    destinations = _addresses(rule.destinations, rule.destination_groups, tags, "destination")
    source_ports = _ports(rule.source_ports, "source")
    destination_ports = _ports(rule.destination_ports, "destination")
    fields = (sources, source_ports, destinations, destination_ports)
    surely = Box(*(field.surely for field in fields))
    certain = not doubts and not surely.empty
    doubts += [field.doubt for field in fields if field.doubt]
    return _Match(
        surely=surely if certain else None,
        perhaps=Box(*(field.perhaps for field in fields)),
        doubt=Doubt(doubts[0].code, "; ".join(doubt.why for doubt in doubts)) if doubts else None,
    )


def _addresses(texts: Sequence[str], groups: Sequence[str], tags: Tags, side: str) -> _Field:
    known = []
    names = []
    code = "unknown_security_group"
    for group in groups:
        members = tags.of_group(group)
        if members is None:
            names.append(f'application security group "{group.rsplit("/", 1)[-1]}"')
        else:
            known.append(members)
    for text in texts:
        name = text.strip().lower()
        if name in _ANY:
            return _Field(EVERY_ADDRESS)
        if name in tags.addresses:
            known.append(tags.addresses[name])
            continue
        try:
            known.append(parse_prefix(text))
        except ValueError:
            code = "unknown_service_tag"
            names.append(f'service tag "{text}"')
    if not texts and not groups:
        return _Field(NOTHING, Doubt("unknown_rule_value", f"it names no {side} address"))
    if not names:
        return _Field(union(known))
    return _Field(union(known), Doubt(code, f"the {side} {', '.join(names)} could not be resolved"))


def _ports(texts: Sequence[str], side: str) -> _Field:
    known = []
    odd = []
    for text in texts:
        try:
            known.append(parse_port_range(text))
        except ValueError:
            odd.append(f'"{text}"')
    if not texts:
        return _Field(NOTHING, Doubt("unknown_rule_value", f"it names no {side} port"))
    if odd:
        return _Field(
            union(known), Doubt("unknown_rule_value", f"its {side} port {', '.join(odd)} is not known")
        )
    return _Field(union(known))


def _default(
    name: str, direction: Direction, *, priority: int, source: str, destination: str, access: str
) -> SecurityRule:
    return SecurityRule(
        id=f"defaultSecurityRules/{name}",
        name=name,
        priority=priority,
        direction=direction,
        access=access,
        protocol="*",
        sources=(source,),
        source_ports=("*",),
        destinations=(destination,),
        destination_ports=("*",),
        default=True,
    )


DEFAULT_RULES = (
    _default(
        "AllowVnetInBound",
        Direction.INBOUND,
        priority=65000,
        source="VirtualNetwork",
        destination="VirtualNetwork",
        access="Allow",
    ),
    _default(
        "AllowAzureLoadBalancerInBound",
        Direction.INBOUND,
        priority=65001,
        source="AzureLoadBalancer",
        destination="*",
        access="Allow",
    ),
    _default("DenyAllInBound", Direction.INBOUND, priority=65500, source="*", destination="*", access="Deny"),
    _default(
        "AllowVnetOutBound",
        Direction.OUTBOUND,
        priority=65000,
        source="VirtualNetwork",
        destination="VirtualNetwork",
        access="Allow",
    ),
    _default(
        "AllowInternetOutBound",
        Direction.OUTBOUND,
        priority=65001,
        source="*",
        destination="Internet",
        access="Allow",
    ),
    _default(
        "DenyAllOutBound", Direction.OUTBOUND, priority=65500, source="*", destination="*", access="Deny"
    ),
)
"""The rules that every network security group has
(https://learn.microsoft.com/azure/virtual-network/network-security-groups-overview#default-security-rules)."""
