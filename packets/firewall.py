"""Azure Firewall: which packets of a question its rules let through, and which rule decides.

What no rule matches is denied. Rules are terminating, and all network rules come before all application
rules, which are only looked at for HTTP, TLS and SQL: they know the target by its name, in TLS by the server
name that the client sends (https://learn.microsoft.com/azure/firewall/rule-processing). DNAT rules are about
other traffic and left aside, as is the built-in infrastructure collection, which holds no API server.

A network rule may name its destinations by FQDN. The firewall resolves these itself: the target's own name
means the destinations that are asked about, and another name is taken to be other addresses.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

from msgspec import Struct

from facts.filters import Firewall, FirewallRule
from facts.resource_id import key
from packets.addresses import (
    EVERY_ADDRESS,
    EVERY_PORT,
    IPV4,
    IPV6,
    NOTHING,
    IntervalSet,
    parse_port_range,
    parse_prefix,
    to_prefixes,
    union,
)
from packets.answers import Answer, RulePart
from packets.boxes import Box
from packets.decisions import Decision, Doubt, Effect, Match, Turn, first_match
from packets.tags import ANYTHING, Field, Tags

_NETWORK = frozenset({"tcp", "udp", "icmp"})
_ALLOWED: frozenset[Effect] = frozenset({"allowed"})
_DENIED: frozenset[Effect] = frozenset({"denied"})

_API_SERVERS = (
    "*.hcp.*.azmk8s.io",
    "*.hcp.*.cx.prod.service.azk8s.cn",
    "*.hcp.*.cx.aks.containerservice.azure.us",
)
"""Names of control planes, which the tag AzureKubernetesService holds as it holds all that AKS needs
(https://learn.microsoft.com/azure/aks/outbound-rules-control-egress)."""
_AKS = (".azmk8s.io", ".azk8s.cn", ".containerservice.azure.us")
"""Where all names of control planes end, also those of private clusters."""
# https://learn.microsoft.com/azure/firewall/fqdn-tags, both as the page and as the API spells them.
_UNRELATED = frozenset(
    {
        "appserviceenvironment",
        "azurebackup",
        "azurehdinsight",
        "citrixhdxplusforwindows365",
        "hdinsight",
        "microsoftactiveprotectionservice",
        "microsoftintune",
        "windows365",
        "windowsdiagnostics",
        "windowsupdate",
        "windowsvirtualdesktop",
    }
)

_AFTER_ALL = 65_001
"""Where the default deny stands: priorities of collections end at 65000."""


class FirewallQuestion(Struct, frozen=True, kw_only=True):
    """The packets that are asked about."""

    protocol: str
    """`tcp`, `udp`, `icmp`; in any case."""
    packets: Box
    """Those of two address families at once do not exist, and are left out of the answer."""
    fqdn: str = ""
    """The name that the traffic is for, as the client sends it in TLS; empty if it is not known."""
    tls: bool = True
    """Whether TCP carries TLS. What does not is taken to be neither HTTP nor SQL either, so that no
    application rule takes it."""


def evaluate(
    firewall: Firewall, question: FirewallQuestion, tags: Tags
) -> tuple[Decision[FirewallRule | None], ...]:
    """Judge every packet of a question: each is `allowed`, `denied` or `unknown`.

    Returns one decision for each rule and verdict, in the order of the rules, with no rule for the default
    deny; together they cover the question, and no packet is in two. Rules that decide nothing are not there.

    An application rule that allows TLS and takes it apart (`terminates_tls`) denies it: the
    firewall cannot present the client's certificate, and what it negotiates with the server is not what
    konnectivity asked for in ALPN (https://learn.microsoft.com/azure/firewall/premium-features).
    """
    decisions = first_match(
        question.packets,
        chain(_crossed(question.packets), _Reading(firewall, question, tags).turns()),
        Turn[FirewallRule | None](None, _DENIED, Match(question.packets)),
    )
    return tuple(decision for decision in decisions if decision.verdict != "passed")


def answer(
    firewall: Firewall,
    protocol: str,
    tags: Tags,
    *,
    sources: IntervalSet,
    destinations: IntervalSet,
    ports: IntervalSet,
    fqdn: str = "",
    tls: bool = True,
) -> Answer:
    """Say which of some sources reach all of some destinations on some ports.

    Packets are of one address family: sources are asked about with the destinations of their own.
    Raises `ValueError` if no packet is left to ask about.
    """
    asked = union(sources & family for family in (IPV4, IPV6) if destinations & family)
    if not asked or not ports:
        raise ValueError("source and destination have no address family in common")
    packets = Box(asked, EVERY_PORT, destinations, ports)
    decisions = evaluate(
        firewall, FirewallQuestion(protocol=protocol, packets=packets, fqdn=fqdn, tls=tls), tags
    )
    return Answer.of(
        asked,
        denied=union(decision.sources for decision in decisions if decision.verdict == "denied"),
        doubtful=union(decision.sources for decision in decisions if decision.verdict == "unknown"),
        rules=tuple(
            RulePart(
                name=decision.rule.name if decision.rule else "default deny",
                priority=decision.rule.priority if decision.rule else _AFTER_ALL,
                access=decision.rule.action if decision.rule else "Deny",
                matched=to_prefixes(decision.sources),
                why=_why(decision),
            )
            for decision in decisions
        ),
    )


def describe(rule: FirewallRule | None) -> str:
    """A rule in words: `network rule "api-server" of collection "aks-network" (group "rcg-aks")`."""
    if rule is None:
        return "the default deny"
    group = f' (group "{rule.group}")' if rule.group else ""
    if any(limit.startswith("ruleCollectionType ") for limit in rule.limits):
        return f'rule collection "{rule.collection}"{group}'
    kind = "rule" if _unread(rule) else f"{rule.kind} rule"
    return f'{kind} "{rule.name}" of collection "{rule.collection}"{group}'


def breaks_tls(rule: FirewallRule | None) -> bool:
    """Whether a rule denies TLS only by taking it apart, where its action is to allow it."""
    return (
        rule is not None
        and rule.kind == "application"
        and rule.terminates_tls
        and rule.action.lower() == "allow"
    )


def _why(decision: Decision[FirewallRule | None]) -> str:
    to = ", ".join(to_prefixes(decision.destinations))
    rule = describe(decision.rule)
    if decision.doubt is not None:
        return f"{rule} may decide what goes to {to}, but {decision.doubt.why}"
    if decision.rule is None:
        return f"no rule matches what goes to {to}: denied"
    if breaks_tls(decision.rule):
        return (
            f"{rule} is the first to match what goes to {to} and takes its TLS apart (terminateTLS), which "
            "neither mutual TLS nor ALPN survives: denied"
        )
    return f"{rule} is the first to match what goes to {to}: {decision.verdict}"


def _crossed(packets: Box) -> Iterator[Turn[FirewallRule | None]]:
    """Takes out the packets of two address families at once."""
    for one, other in ((IPV4, IPV6), (IPV6, IPV4)):
        box = Box(
            packets.sources & one,
            packets.source_ports,
            packets.destinations & other,
            packets.destination_ports,
        )
        if not box.empty:
            yield Turn(None, frozenset({"passed"}), Match(box))


class _Reading:
    """What the rules of a firewall say about one question."""

    def __init__(self, firewall: Firewall, question: FirewallQuestion, tags: Tags) -> None:
        self._firewall = firewall
        self._tags = tags
        self._asked = question.packets
        self._protocol = question.protocol.lower()
        self._fqdn = _name(question.fqdn)
        self._tls = question.tls and self._protocol == "tcp"
        self._groups: dict[tuple[str, str], Field] = {}

    def turns(self) -> Iterator[Turn[FirewallRule | None]]:
        """The rules that may match, in order."""
        for rule in self._firewall.rules:
            match = self._match(rule)
            if match is None:
                continue
            effects = _effects(rule)
            if len(effects) > 1 and match.doubt is None:
                why = f'its action "{rule.action}" is not known' if rule.action else "it has no action"
                match = Match(match.surely, match.perhaps, Doubt("unknown_rule_value", why))
            yield Turn(rule, effects, match)

    def _match(self, rule: FirewallRule) -> Match | None:
        """The packets that a rule matches; None if it surely matches none."""
        if rule.kind == "application" and not self._tls:
            return None
        if unread := _unread(rule):
            return Match(None, self._asked, _cannot(unread))
        about: bool | Doubt
        if rule.kind == "network":
            about, ports = self._about(rule), self._network_ports(rule)
        else:
            about, ports = self._target(rule), _application_ports(rule.protocols)
        if about is False or not ports.perhaps & self._asked.destination_ports:
            return None
        # Most rules of a large firewall are about other destinations.
        destinations = self._destinations(rule)
        if not destinations.perhaps & self._asked.destinations:
            return None
        sources = self._sources(rule)
        surely = Box(sources.surely, EVERY_PORT, destinations.surely, ports.surely)
        certain = about is True and not surely.empty
        doubts = [] if about is True else [about]
        doubts += [field.doubt for field in (sources, destinations, ports) if field.doubt]
        if not doubts:
            return Match(surely) if certain else None
        perhaps = Box(sources.perhaps, EVERY_PORT, destinations.perhaps, ports.perhaps)
        return Match(surely if certain else None, perhaps, _joined(doubts))

    def _about(self, rule: FirewallRule) -> bool | Doubt:
        """Whether a network rule is about the protocol."""
        written = {protocol.strip().lower() for protocol in rule.protocols}
        if self._protocol in written:
            return True
        # With a port, Any means TCP and UDP; without one, all there are.
        if written & ANYTHING and (
            self._protocol in {"tcp", "udp"} or "*" in map(str.strip, rule.destination_ports)
        ):
            return True
        odd = [one for one in rule.protocols if one.strip().lower() not in _NETWORK | ANYTHING]
        if odd or not written:
            return _not_known("protocol", odd)
        return False

    def _network_ports(self, rule: FirewallRule) -> Field:
        if self._protocol == "icmp":
            return Field.of(EVERY_PORT)
        known, odd = [], []
        for text in rule.destination_ports:
            try:
                known.append(parse_port_range(text))
            except ValueError:
                odd.append(text)
        if odd or not known:
            return Field(union(known), EVERY_PORT, _not_known("destination port", odd))
        return Field.of(union(known))

    def _target(self, rule: FirewallRule) -> bool | Doubt:
        """Whether an application rule is about the name: its kinds of targets are alternatives."""
        patterns = [_name(pattern) for pattern in rule.fqdns]
        if "*" in patterns:
            return True
        limits = [limit for limit in rule.limits if limit.startswith(("target", "web"))]
        if not (patterns or rule.fqdn_tags or limits):
            return Doubt("unknown_rule_value", "it names no target")
        if not self._fqdn:
            return Doubt("unknown_fqdn", "the FQDN that the traffic is for is not known")
        if any(_fits(pattern, self._fqdn) for pattern in patterns):
            return True
        doubts = []
        for tag in rule.fqdn_tags:
            holds = _holds(tag, self._fqdn)
            if holds:
                return True
            if holds is None:
                why = f'whether the FQDN tag "{tag}" holds {self._fqdn} is not known'
                doubts.append(Doubt("unknown_fqdn_tag", why))
        doubts += [_cannot([limit]) for limit in limits]
        return _joined(doubts) if doubts else False

    def _sources(self, rule: FirewallRule) -> Field:
        return self._side(rule, "source", rule.sources, rule.source_groups, [])

    def _destinations(self, rule: FirewallRule) -> Field:
        if rule.kind == "network":
            names = [self._resolved(fqdn) for fqdn in rule.fqdns]
            return self._side(rule, "destination", rule.destinations, rule.destination_groups, names)
        # Most application rules leave the addresses to the name.
        anywhere = () if rule.destinations or rule.destination_groups else ("*",)
        return self._side(rule, "destination", rule.destinations or anywhere, rule.destination_groups, [])

    def _side(
        self,
        rule: FirewallRule,
        side: str,
        texts: Sequence[str],
        groups: Sequence[str],
        names: Sequence[Field],
    ) -> Field:
        """The addresses of one side, which addresses, IP groups and names make up together."""
        if limits := [limit for limit in rule.limits if limit.startswith(side)]:
            # Whether such a field narrows what else is named, or adds to it, is not written anywhere.
            return Field(NOTHING, EVERY_ADDRESS, _cannot(limits))
        fields = [*(self._group(side, group) for group in groups), *names]
        if texts or not fields:
            fields.append(self._tags.field(texts, (), side))
        surely = union(field.surely for field in fields)
        doubts = [field.doubt for field in fields if field.doubt]
        if not doubts:
            return Field.of(surely)
        perhaps = union(field.perhaps for field in fields)
        return Field(surely, perhaps, _joined(doubts)) if perhaps - surely else Field.of(surely)

    def _group(self, side: str, group: str) -> Field:
        """The addresses of an IP group."""
        if (side, group) not in self._groups:
            self._groups[side, group] = self._read_group(side, group)
        return self._groups[side, group]

    def _read_group(self, side: str, group: str) -> Field:
        words = f'the {side} IP group "{group.rstrip("/").rsplit("/", 1)[-1]}"'
        addresses = self._firewall.ip_groups.get(key(group))
        if addresses is None:
            missing = self._firewall.groups_missing.get(key(group))
            if missing is None:
                return Field.of(NOTHING, Doubt("unknown_ip_group", f"{words} is not known"))
            why = missing.reason.message.rstrip(".")
            return Field.of(NOTHING, Doubt(missing.reason.code, f"{words} could not be read ({why})"))
        known, odd = [], []
        for address in addresses:
            try:
                known.append(parse_prefix(address))
            except ValueError:
                odd.append(f'"{address}"')
        doubt = Doubt("unknown_ip_group", f"{words} holds {', '.join(odd)}") if odd else None
        return Field.of(union(known), doubt)

    def _resolved(self, fqdn: str) -> Field:
        """The addresses of a destination that a network rule names; wildcards do not exist there."""
        name = _name(fqdn)
        if self._fqdn and "*" not in name:
            return Field.of(self._asked.destinations if name == self._fqdn else NOTHING)
        why = f'what the destination FQDN "{fqdn}" resolves to is not known'
        return Field.of(NOTHING, Doubt("unknown_fqdn", why))


def _effects(rule: FirewallRule) -> frozenset[Effect]:
    action = rule.action.lower()
    if action == "deny" or breaks_tls(rule):
        return _DENIED
    return _ALLOWED if action == "allow" else _ALLOWED | _DENIED


def _unread(rule: FirewallRule) -> list[str]:
    """Limits that belong to no side of a rule, so that nothing is known of what it matches."""
    sides = (
        ("source", "destination") if rule.kind == "network" else ("source", "destination", "target", "web")
    )
    return [limit for limit in rule.limits if not limit.startswith(sides)]


def _application_ports(protocols: Sequence[str]) -> Field:
    """The ports at which an application rule looks at TLS."""
    known, odd = [], []
    for protocol in protocols:
        kind, _, port = protocol.partition(":")
        match kind.strip().lower():
            case "https":
                try:
                    known.append(parse_port_range(port))
                except ValueError:
                    odd.append(protocol)
            case "http" | "mssql":
                pass
            case _:
                odd.append(protocol)
    if odd or not protocols:
        return Field(union(known), EVERY_PORT, _not_known("protocol", odd))
    return Field.of(union(known))


def _name(fqdn: str) -> str:
    return fqdn.strip().rstrip(".").lower()


def _fits(pattern: str, name: str) -> bool:
    """Whether a name is of a pattern in which `*` stands for any run of characters."""
    first, *others = pattern.split("*")
    if not others:
        return pattern == name
    *middle, last = others
    if not name.startswith(first):
        return False
    place = len(first)
    for piece in middle:
        place = name.find(piece, place)
        if place < 0:
            return False
        place += len(piece)
    return name.endswith(last) and len(name) - len(last) >= place


def _holds(tag: str, name: str) -> bool | None:
    """Whether an FQDN tag holds a name; None where Microsoft, who keeps the tags, does not say."""
    word = tag.strip().lower()
    if word == "azurekubernetesservice" and any(_fits(pattern, name) for pattern in _API_SERVERS):
        return True
    unrelated = word in _UNRELATED or word.startswith("office365")
    return False if unrelated and name.endswith(_AKS) else None


def _cannot(limits: Sequence[str]) -> Doubt:
    return Doubt("unknown_rule_value", f"its {', '.join(limits)} cannot be evaluated")


def _not_known(field: str, values: Sequence[str]) -> Doubt:
    """Why a field says nothing: values that nobody here knows, or none at all."""
    quoted = ", ".join(f'"{value}"' for value in values)
    return Doubt(
        "unknown_rule_value", f"its {field} {quoted} is not known" if values else f"it names no {field}"
    )


def _joined(doubts: Sequence[Doubt]) -> Doubt:
    """Several doubts in one clause; the first one's code stands for all."""
    return Doubt(doubts[0].code, "; ".join(dict.fromkeys(doubt.why for doubt in doubts)))
