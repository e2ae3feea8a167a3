"""Network security groups: which packets of a question a group lets through, and by which rule.

A question is a set of packets: sources x source ports x destinations x
destination ports of one protocol and direction. Rules are taken in order of
priority, and the first to match decides
(https://learn.microsoft.com/azure/virtual-network/network-security-group-how-it-works).

Security admin rules of Azure Virtual Network Manager are judged in the same way, before any
group: `Allow` leaves the packet to the groups, `AlwaysAllow` and `Deny` are final
(https://learn.microsoft.com/azure/virtual-network-manager/concept-security-admins).
"""

from collections.abc import Container, Iterator, Sequence
from functools import lru_cache

from msgspec import Struct, structs

from facts.filters import AdminRules, Direction, NetworkSecurityGroup, SecurityRule
from packets.addresses import (
    EVERY_PORT,
    IPV4,
    IPV6,
    NOTHING,
    IntervalSet,
    parse_port_range,
    to_prefixes,
    union,
)
from packets.answers import Answer, PassedOver, RulePart
from packets.boxes import Box
from packets.decisions import Decision, Doubt, Effect, Match, Turn, first_match
from packets.tags import ANYTHING, Field, Tags

PROTOCOLS = frozenset({"tcp", "udp", "icmp", "esp", "ah"})
"""What a rule can be about, besides everything."""
_DIRECTIONS = frozenset({"inbound", "outbound"})
_GROUP: dict[str, Effect] = {"allow": "allowed", "deny": "denied"}
_ADMIN: dict[str, Effect] = {"allow": "passed", "alwaysallow": "allowed", "deny": "denied"}


class Question(Struct, frozen=True, kw_only=True):
    """The packets that are asked about."""

    direction: Direction
    protocol: str
    """`tcp`, `udp`, `icmp`, `esp`, `ah`; in any case."""
    packets: Box


def evaluate(nsg: NetworkSecurityGroup, question: Question, tags: Tags) -> tuple[Decision[SecurityRule], ...]:
    """Judge every packet of a question: each is `allowed`, `denied` or `unknown`.

    Returns one decision for each rule and verdict, in the order of the rules; together
    they cover the question, and no packet is in two. Rules that decide nothing are
    not there. A group without default rules is judged as if it had Azure's.
    """
    # Azure's default rules leave nothing; a document whose own defaults do is completed by a deny.
    last = _own(_deny_all(question.direction), nsg)
    return first_match(
        question.packets,
        _turns(_in_order(nsg, question.direction), question, tags, _GROUP),
        Turn(last, frozenset({"denied"}), Match(question.packets)),
    )


def evaluate_admin(
    rules: AdminRules, question: Question, tags: Tags
) -> tuple[Decision[SecurityRule | None], ...]:
    """Judge every packet of a question by the admin rules of a network.

    `denied` and `allowed` (`AlwaysAllow`) are final; `passed` goes on to the security groups, with no rule
    where none matched.
    """
    ordered = _of_direction(rules.rules, question.direction)
    return first_match(
        question.packets,
        _turns(ordered, question, tags, _ADMIN),
        Turn[SecurityRule | None](None, frozenset({"passed"}), Match(question.packets)),
    )


def passed_over(
    nsg: NetworkSecurityGroup, question: Question, tags: Tags, deciding: Container[str]
) -> tuple[PassedOver, ...]:
    """For each rule that decides nothing of a question, why: as Network Watcher's NSG diagnostics tell it.

    A field that matches for no packet is the reason; a rule whose fields all match comes too late.
    `deciding` holds the ids of the rules that do decide something.
    """
    asked = question.packets
    found = []
    for rule in _in_order(nsg, question.direction):
        if rule.id in deciding:
            continue
        fields = (
            ("source", tags.field(rule.sources, rule.source_groups, "source"), asked.sources),
            ("source port", _ports(rule.source_ports, "source"), asked.source_ports),
            (
                "destination",
                tags.field(rule.destinations, rule.destination_groups, "destination"),
                asked.destinations,
            ),
            ("destination port", _ports(rule.destination_ports, "destination"), asked.destination_ports),
        )
        missed = [] if _about(rule, question.protocol) is not False else ["protocol"]
        missed += [name for name, field, wanted in fields if not field.perhaps & wanted]
        found.append(
            PassedOver(
                name=rule.name,
                priority=rule.priority,
                access=rule.access,
                protocol_matched="protocol" not in missed,
                source_matched="source" not in missed,
                source_port_matched="source port" not in missed,
                destination_matched="destination" not in missed,
                destination_port_matched="destination port" not in missed,
                why=f"its {', '.join(missed)} does not match"
                if len(missed) == 1
                else f"its {', '.join(missed)} do not match"
                if missed
                else "rules with lower priority numbers decide all that it matches",
            )
        )
    return tuple(found)


def answer(
    nsg: NetworkSecurityGroup,
    direction: Direction,
    protocol: str,
    tags: Tags,
    *,
    sources: IntervalSet,
    destinations: IntervalSet,
    ports: IntervalSet,
    explain: bool = False,
) -> Answer:
    """Say which of some sources reach all of some destinations on some ports.

    Packets are of one address family: sources are asked about with the destinations of their own.
    With `explain` it says why each of the other rules was passed over. Raises `ValueError` if no
    packet is left to ask about.
    """
    decisions: list[Decision[SecurityRule]] = []
    asked = NOTHING
    for family in (IPV4, IPV6):
        packets = Box(sources & family, EVERY_PORT, destinations & family, ports)
        if not packets.empty:
            asked |= packets.sources
            question = Question(direction=direction, protocol=protocol, packets=packets)
            decisions += evaluate(nsg, question, tags)
    if not asked:
        raise ValueError("source and destination have no address family in common")
    everything = Question(
        direction=direction, protocol=protocol, packets=Box(asked, EVERY_PORT, destinations, ports)
    )
    deciding = {decision.rule.id for decision in decisions}
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
        passed_over=passed_over(nsg, everything, tags, deciding) if explain else None,
    )


def _why(decision: Decision[SecurityRule]) -> str:
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


def _turns(
    rules: Sequence[SecurityRule], question: Question, tags: Tags, effects: dict[str, Effect]
) -> Iterator[Turn[SecurityRule]]:
    everything = frozenset(effects.values())
    for rule in rules:
        match = _match(rule, question.protocol, tags)
        if match is None:
            continue
        effect = effects.get(rule.access.lower())
        if effect is None:
            doubt = match.doubt or Doubt("unknown_rule_value", f'its access "{rule.access}" is not known')
            match = structs.replace(match, doubt=doubt)
        yield Turn(rule, frozenset({effect}) if effect else everything, match)


def _in_order(nsg: NetworkSecurityGroup, direction: Direction) -> list[SecurityRule]:
    rules = list(nsg.rules)
    if not any(rule.default and rule.direction.lower() == direction.lower() for rule in rules):
        rules += [_own(rule, nsg) for rule in DEFAULT_RULES if rule.direction == direction]
    return _of_direction(rules, direction)


def _of_direction(rules: Sequence[SecurityRule], direction: Direction) -> list[SecurityRule]:
    """The rules that may be of a direction: one that is neither of the two known ones may be either."""
    other = _DIRECTIONS - {direction.lower()}
    return sorted(
        (rule for rule in rules if rule.direction.lower() not in other), key=lambda rule: rule.priority
    )


def _own(rule: SecurityRule, nsg: NetworkSecurityGroup) -> SecurityRule:
    """A default rule under the id that it has in a group."""
    return structs.replace(rule, id=f"{nsg.id}/{rule.id}")


def _deny_all(direction: Direction) -> SecurityRule:
    return next(rule for rule in DEFAULT_RULES if rule.direction == direction and rule.priority == 65500)


def _about(rule: SecurityRule, protocol: str) -> bool | None:
    """Whether a rule is about a protocol; None if nobody knows."""
    written = rule.protocol.lower()
    if written in ANYTHING or written == protocol.lower():
        return True
    return False if written in PROTOCOLS else None


def _match(rule: SecurityRule, protocol: str, tags: Tags) -> Match | None:
    """The packets of a protocol that a rule matches; None if it is about another protocol."""
    about = _about(rule, protocol)
    if about is False:
        return None
    doubts: list[Doubt] = []
    if about is None:
        doubts.append(Doubt("unknown_rule_value", f'its protocol "{rule.protocol}" is not known'))
    if rule.direction.lower() not in _DIRECTIONS:
        doubts.append(Doubt("unknown_rule_value", f'its direction "{rule.direction}" is not known'))
    fields = (
        tags.field(rule.sources, rule.source_groups, "source"),
        _ports(rule.source_ports, "source"),
        tags.field(rule.destinations, rule.destination_groups, "destination"),
        _ports(rule.destination_ports, "destination"),
    )
    surely = Box(fields[0].surely, fields[1].surely, fields[2].surely, fields[3].surely)
    certain = not doubts and not surely.empty
    doubts += [field.doubt for field in fields if field.doubt]
    if not doubts:
        return Match(surely if certain else None)
    return Match(
        surely=surely if certain else None,
        perhaps=Box(*(field.perhaps for field in fields)),
        doubt=Doubt(doubts[0].code, "; ".join(doubt.why for doubt in doubts)),
    )


@lru_cache(maxsize=4096)
def _ports(texts: tuple[str, ...], side: str) -> Field:
    known = []
    odd = []
    for text in texts:
        try:
            known.append(parse_port_range(text))
        except ValueError:
            odd.append(f'"{text}"')
    if not texts:
        return Field(NOTHING, EVERY_PORT, Doubt("unknown_rule_value", f"it names no {side} port"))
    if odd:
        doubt = Doubt("unknown_rule_value", f"its {side} port {', '.join(odd)} is not known")
        return Field(union(known), EVERY_PORT, doubt)
    return Field.of(union(known))


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
