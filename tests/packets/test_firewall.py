"""The evaluator of Azure Firewalls: against an oracle that walks single packets, by laws, and by table."""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import count, product
from random import Random
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from facts.filters import Firewall, FirewallRule
from packets.addresses import (
    EVERY_PORT,
    IPV4,
    IPV6,
    IntervalSet,
    parse_prefix,
    parse_prefixes,
    to_prefixes,
)
from packets.boxes import Box
from packets.decisions import Decision
from packets.documents.firewall import in_order, read_rule_collection_group
from packets.firewall import FirewallQuestion, answer, breaks_tls, describe, evaluate
from packets.tags import Tags
from tests.snapshots import missing

LAW = settings(deadline=None, max_examples=150)

Document = dict[str, Any]
Policies = list[list[Document]]
"""The rule collection groups of each policy, the topmost parent's first."""
Packet = tuple[str, str, int]
"""Source, destination, destination port."""
Decisions = Iterable[Decision[FirewallRule | None]]

# --- a tiny universe -----------------------------------------------------------------------------

UNIVERSE = (
    *(str(address) for address in ipaddress.ip_network("10.0.0.0/29")),
    *(str(address) for address in ipaddress.ip_network("fd00::/126")),
    "20.0.0.4",
)
PORTS = (123, 443, 1194)
CLOUD = ("20.0.0.0/24", "fd00::2/127")
TAGS = Tags({"azurecloud.westeurope": parse_prefixes(CLOUD)})
IP_GROUP = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/ipGroups"
MEMBERS = ("10.0.0.4/31", "10.0.0.0-10.0.0.1", "fd00::1")
IP_GROUPS = {f"{IP_GROUP}/nodes".lower(): MEMBERS, f"{IP_GROUP}/empty".lower(): ()}
UNREAD = missing("secret", kind="ipGroups")
GROUPS_MISSING = {f"{IP_GROUP}/secret".lower(): UNREAD}

API_SERVER = "aks-shop-1a2b3c4d.hcp.westeurope.azmk8s.io"
PRIVATE = "aks-shop-1a2b3c4d.0b1f6471.privatelink.westeurope.azmk8s.io"
NAMES = (API_SERVER, "AKS-SHOP-1a2b3c4d.hcp.WestEurope.azmk8s.io.", PRIVATE, "www.example.com", "")

ADDRESSES = st.lists(
    st.sampled_from(
        (
            *("*", "0.0.0.0/0", "10.0.0.0/29", "10.0.0.4/30", "10.0.0.3", "10.0.0.2-10.0.0.5"),
            *("20.0.0.0/8", "fd00::/126", "fd00::1-fd00::2", "AzureCloud.WestEurope", "Sql"),
        )
    ),
    max_size=2,
)
GROUPS = st.lists(
    st.sampled_from(("nodes", "NODES", "empty", "secret", "lost")).map(lambda name: f"{IP_GROUP}/{name}"),
    max_size=1,
)
FQDNS = st.sampled_from(
    (
        *("*", API_SERVER, API_SERVER.upper() + ".", "*.hcp.westeurope.azmk8s.io", "*azmk8s.io", "azmk8s.io"),
        *("*.HCP.*.azmk8s.io", "www.example.com", "*.example.com", "*.hcp.northeurope.azmk8s.io"),
    )
)
ACTIONS = st.sampled_from(("Allow", "Allow", "Deny", "Deny", "ALLOW", "deny", "Alert", ""))
FIELD: Mapping[str, st.SearchStrategy[list[Any]]] = {
    "sourceAddresses": ADDRESSES,
    "sourceIpGroups": GROUPS,
    "destinationAddresses": ADDRESSES,
}
NETWORK: Mapping[str, st.SearchStrategy[list[Any]]] = {
    **FIELD,
    "ipProtocols": st.lists(st.sampled_from(("TCP", "tcp", "UDP", "Any", "ICMP", "SCTP")), max_size=2),
    "destinationIpGroups": GROUPS,
    "destinationFqdns": st.lists(FQDNS, max_size=1),
    "destinationPorts": st.lists(
        st.sampled_from(("*", "*", "443", "1194", "100-500", "0-65535", "https")), max_size=2
    ),
}
APPLICATION: Mapping[str, st.SearchStrategy[list[Any]]] = {
    **FIELD,
    "protocols": st.lists(
        st.sampled_from(
            (
                *({"protocolType": "Https", "port": 443}, {"protocolType": "HTTPS", "port": 1194}),
                *({"protocolType": "Http", "port": 443}, {"protocolType": "Mssql", "port": 443}),
                *({"protocolType": "Https", "port": 443}, {"protocolType": "Https"}),
                {"protocolType": "Quic", "port": 443},
            )
        ),
        max_size=2,
    ),
    "targetFqdns": st.lists(FQDNS, max_size=2),
    "fqdnTags": st.lists(
        st.sampled_from(("AzureKubernetesService", "WindowsUpdate", "Office365.Skype.Optimize", "NewThing")),
        max_size=1,
    ),
}
LIMITS: Mapping[str, tuple[str, ...]] = {
    "NetworkRule": ("sourceKubeSelectorGroups", "destinationGeoLocations"),
    "ApplicationRule": ("webCategories", "targetUrls", "sourceGeoLocations"),
}


def rarely(draw: st.DrawFn) -> bool:
    """Once in a while."""
    return draw(st.integers(0, 9)) == 9


@st.composite
def rule_documents(draw: st.DrawFn, kind: str, *, plain: bool = False) -> Document:
    """A rule without its name; a plain one takes no TLS apart."""
    if rarely(draw) and not plain:
        return {"ruleType": "QuicRule", "sourceAddresses": ["10.0.0.3"]}
    fields = NETWORK if kind == "NetworkRule" else APPLICATION
    document: Document = {"ruleType": kind}
    for field, values in fields.items():
        value = draw(values)
        document[field] = value or draw(st.sampled_from(([], None)))
    # Fields that match are drawn as often as the others, or hardly any rule would match anything.
    for field, everything in (
        ("sourceAddresses", ["*"]),
        ("destinationAddresses", ["*"]),
        ("ipProtocols", ["Any"]),
        ("destinationPorts", ["*"]),
        ("protocols", [{"protocolType": "Https", "port": 443}]),
        ("targetFqdns", ["*.hcp.westeurope.azmk8s.io"]),
    ):
        if field in fields and draw(st.booleans()):
            document[field] = everything
    if rarely(draw):
        document[draw(st.sampled_from(LIMITS[kind]))] = ["x"]
    if kind == "ApplicationRule" and not plain:
        document["terminateTLS"] = rarely(draw)
    return document


@st.composite
def collections(draw: st.DrawFn, *, action: str | None = None, plain: bool = False) -> Document:
    """A rule collection, of network rules, application rules or DNAT, or of a type from the future."""
    document: Document = {
        "ruleCollectionType": "FirewallPolicyFilterRuleCollection",
        "priority": draw(st.integers(100, 65000)),
        "action": {"type": action or draw(ACTIONS)},
    }
    if not plain and rarely(draw):
        kind = draw(st.sampled_from(("FirewallPolicyNatRuleCollection", "FirewallPolicyQuicRuleCollection")))
        return document | {"ruleCollectionType": kind, "rules": [{"ruleType": "NatRule"}]}
    kind = draw(st.sampled_from(("NetworkRule", "ApplicationRule")))
    return document | {"rules": draw(st.lists(rule_documents(kind, plain=plain), max_size=3))}


@st.composite
def policies(draw: st.DrawFn, *, plain: bool = False) -> Policies:
    """A policy and up to two parents, in any order of groups and collections; everything has its own name."""
    numbers = count()
    groups = st.fixed_dictionaries(
        {
            "priority": st.integers(100, 65000),
            "ruleCollections": st.lists(collections(plain=plain), max_size=2, unique_by=_priority),
        }
    )
    some = draw(st.lists(st.lists(groups, max_size=2, unique_by=_priority), min_size=1, max_size=3))
    for policy in some:
        for group in policy:
            named(group, numbers)
    return some


def _priority(document: Document) -> int:
    return int(document["priority"])


def named(group: Document, numbers: Iterator[int]) -> None:
    """Gives a group and all in it their names."""
    group["name"] = f"group-{next(numbers)}"
    for collection in group["ruleCollections"]:
        collection["name"] = f"collection-{next(numbers)}"
        for rule in collection["rules"]:
            rule["name"] = f"rule-{next(numbers)}"


@st.composite
def questions(draw: st.DrawFn) -> FirewallQuestion:
    """Some addresses on either side, of either family, and all ports of the universe or some."""
    some = st.lists(st.sampled_from(UNIVERSE), min_size=1, max_size=6, unique=True)
    ports = st.lists(st.sampled_from(PORTS), min_size=1, unique=True)
    return FirewallQuestion(
        protocol=draw(st.sampled_from(("tcp", "TCP", "tcp", "udp", "icmp"))),
        packets=Box(
            parse_prefixes(draw(some)),
            EVERY_PORT,
            parse_prefixes(draw(some)),
            IntervalSet.of((port, port) for port in draw(ports)),
        ),
        fqdn=draw(st.sampled_from(NAMES)),
        tls=draw(st.sampled_from((True, True, True, False))),
    )


def firewall(some: Policies) -> Firewall:
    """A firewall that obeys the last policy."""
    read = [[read_rule_collection_group(group) for group in groups] for groups in some]
    return Firewall(
        id="/afw",
        name="afw",
        rules=in_order(read),
        ip_groups=IP_GROUPS,
        groups_missing=GROUPS_MISSING,
    )


NUMBERS = {address: parse_prefix(address).intervals[0][0] for address in UNIVERSE}


def packets_of(box: Box) -> Iterable[Packet]:
    """The packets of the universe that are in a box and in one address family."""
    return (
        packet
        for packet in product(
            [address for address in UNIVERSE if NUMBERS[address] in box.sources],
            [address for address in UNIVERSE if NUMBERS[address] in box.destinations],
            [port for port in PORTS if port in box.destination_ports],
        )
        if (":" in packet[0]) == (":" in packet[1])
    )


def verdicts(decisions: Decisions) -> dict[Packet, tuple[str, str]]:
    """Verdict and rule of every packet; a packet that is decided twice is an error."""
    found: dict[Packet, tuple[str, str]] = {}
    for decision in decisions:
        for box in decision.packets:
            for packet in packets_of(box):
                assert packet not in found
                found[packet] = (decision.verdict, decision.rule.name if decision.rule else "")
    return found


# --- the oracle: one packet, rule by rule, with ipaddress and re only -------------------------------


@cache
def address_matches(text: str, address: str) -> bool | None:
    """Whether one address is meant by what a rule names; None where nobody can say."""
    one = ipaddress.ip_address(address)
    if text in {"*", "0.0.0.0/0"}:
        return True
    if text.lower() == "azurecloud.westeurope":
        return any(address_matches(prefix, address) for prefix in CLOUD)
    if text[0].isalpha() and ":" not in text:
        return None
    if "-" in text:
        low, high = (ipaddress.ip_address(end) for end in text.split("-"))
        return low.version == one.version and int(low) <= int(one) <= int(high)
    return one in ipaddress.ip_network(text, strict=False)


def group_matches(group: str, address: str) -> bool | None:
    """The same of an IP group."""
    name = group.rsplit("/", maxsplit=1)[-1].lower()
    if name in {"secret", "lost"}:
        return None
    return name == "nodes" and any(address_matches(member, address) for member in MEMBERS)


def any_of(answers: Iterable[bool | None]) -> bool | None:
    """Some yes is a yes, then some doubt is a doubt; a field that names nothing is a doubt."""
    given_answers = list(answers)
    if True in given_answers:
        return True
    return None if None in given_answers or not given_answers else False


def side_matches(
    document: Document, side: str, address: str, others: Sequence[bool | None] = ()
) -> bool | None:
    """Whether an address is on one side of a rule."""
    if any(field.startswith(side) and field in {*sum(LIMITS.values(), ())} for field in document):
        return None
    named_addresses = [address_matches(text, address) for text in document.get(f"{side}Addresses") or ()]
    members = [group_matches(group, address) for group in document.get(f"{side}IpGroups") or ()]
    return any_of([*named_addresses, *members, *others])


def clean(name: str) -> str:
    """A name as DNS compares it."""
    return name.lower().removesuffix(".")


def network_matches(document: Document, question: FirewallQuestion, packet: Packet) -> bool | None:
    """Whether a network rule takes a packet."""
    source, destination, port = packet
    protocol, name = question.protocol.lower(), clean(question.fqdn)
    ports: list[str] = document["destinationPorts"] or []

    def is_protocol(word: str) -> bool | None:
        if word == "any":
            return protocol != "icmp" or "*" in ports
        return word == protocol if word in {"tcp", "udp", "icmp"} else None

    def is_port(text: str) -> bool | None:
        if text == "https":
            return None
        low, _, high = text.replace("*", "0-65535").partition("-")
        return int(low) <= port <= int(high or low)

    def is_name(text: str) -> bool | None:
        return clean(text) == name if name and "*" not in text else None

    names = [is_name(fqdn) for fqdn in document["destinationFqdns"] or ()]
    return all_of(
        any_of(is_protocol(word.lower()) for word in document["ipProtocols"] or ()),
        any_of(is_port(text) for text in ports) if protocol != "icmp" else True,
        side_matches(document, "source", source),
        side_matches(document, "destination", destination, names),
    )


def application_matches(document: Document, question: FirewallQuestion, packet: Packet) -> bool | None:
    """Whether an application rule takes a packet."""
    source, destination, port = packet
    name = clean(question.fqdn)
    if question.protocol.lower() != "tcp" or not question.tls:
        return False

    def is_protocol(one: Document) -> bool | None:
        if one["protocolType"].lower() != "https":
            return None if one["protocolType"] == "Quic" else False
        return one["port"] == port if "port" in one else None

    def is_target(pattern: str) -> bool | None:
        if pattern == "*":
            return True
        expression = re.escape(clean(pattern)).replace(r"\*", ".*")
        return re.fullmatch(expression, name) is not None if name else None

    def is_tag(tag: str) -> bool | None:
        if not name.endswith(".azmk8s.io"):
            return None
        if tag == "AzureKubernetesService":
            return True if ".hcp." in name else None
        return None if tag == "NewThing" else False

    targets = [
        *(is_target(pattern) for pattern in document["targetFqdns"] or ()),
        *(is_tag(tag) for tag in document["fqdnTags"] or ()),
        *(None for field in ("webCategories", "targetUrls") if field in document),
    ]
    return all_of(
        any_of(is_protocol(one) for one in document["protocols"] or ()),
        any_of(targets),
        side_matches(document, "source", source),
        side_matches(document, "destination", destination) if document["destinationAddresses"] else True,
    )


def all_of(*fields: bool | None) -> bool | None:
    """Some no is a no, then some doubt is a doubt."""
    if False in fields:
        return False
    return None if None in fields else True


def walked(some: Policies) -> Iterator[tuple[Document, Document]]:
    """Collections and rules in order: three loops, once for each kind of rule."""
    for wanted in ("network", "application"):
        for groups in some:
            for group in sorted(groups, key=_priority):
                for collection in sorted(group["ruleCollections"], key=_priority):
                    kind = collection["ruleCollectionType"]
                    rules = collection["rules"]
                    if kind == "FirewallPolicyQuicRuleCollection":
                        rules = [{"ruleType": "QuicRule", "name": collection["name"]}]
                    elif kind == "FirewallPolicyNatRuleCollection":
                        continue
                    for rule in rules:
                        if (rule["ruleType"] == "ApplicationRule") == (wanted == "application"):
                            yield collection, rule


def judge(some: Policies, question: FirewallQuestion, packet: Packet) -> tuple[str, str]:
    """Every verdict that a packet can have, over both readings of each match that is in doubt.

    With the rule that decides for sure; two possible verdicts are `unknown`.
    """
    possible: set[str] = set()
    for collection, rule in walked(some):
        if rule["ruleType"] == "QuicRule":
            possible |= {"allowed", "denied"}
            continue
        application = rule["ruleType"] == "ApplicationRule"
        match = (application_matches if application else network_matches)(rule, question, packet)
        if match is False:
            continue
        action = collection["action"]["type"].lower()
        if action == "allow" and application and rule.get("terminateTLS"):
            action = "deny"
        possible |= {"allow": {"allowed"}, "deny": {"denied"}}.get(action, {"allowed", "denied"})
        if match:
            return ("unknown" if len(possible) == 2 else possible.pop(), rule["name"])
    possible.add("denied")
    return ("unknown" if len(possible) == 2 else "denied", "")


@settings(deadline=None, max_examples=500)
@given(policies(), questions())
def test_every_packet_fares_as_the_oracle_says(some: Policies, question: FirewallQuestion) -> None:
    """Allowed, denied or unknown, packet by packet, and by the rule that decides for sure."""
    found = verdicts(evaluate(firewall(some), question, TAGS))
    for packet in packets_of(question.packets):
        verdict, name = judge(some, question, packet)
        assert (packet, found[packet][0]) == (packet, verdict)
        if verdict != "unknown":
            assert (packet, found[packet][1]) == (packet, name)


# --- laws ----------------------------------------------------------------------------------------


def size(*boxes: Box) -> int:
    """How many packets some boxes hold, in the universe or out of it."""
    whole = 0
    for box in boxes:
        one = 1
        for field in (box.sources, box.source_ports, box.destinations, box.destination_ports):
            one *= sum(high - low + 1 for low, high in field.intervals)
        whole += one
    return whole


@LAW
@given(policies(), st.sampled_from(("tcp", "udp", "icmp")), st.sampled_from(NAMES))
def test_decisions_partition_the_question(some: Policies, protocol: str, fqdn: str) -> None:
    """Together they hold all packets of one family that were asked about, none outside, none twice."""
    wide, narrow = parse_prefixes(("10.0.0.0/28", "fd00::/124", "20.0.0.0/28")), parse_prefixes(UNIVERSE)
    asked = Box(wide, EVERY_PORT, narrow, EVERY_PORT)
    question = FirewallQuestion(protocol=protocol, packets=asked, fqdn=fqdn)
    decisions = evaluate(firewall(some), question, TAGS)
    boxes = [box for decision in decisions for box in decision.packets]
    assert all((box & asked) == box and not box.empty for box in boxes)
    halves = [Box(wide & family, EVERY_PORT, narrow & family, EVERY_PORT) for family in (IPV4, IPV6)]
    assert size(*boxes) == size(*halves)
    assert size(*(box & half for box in boxes for half in halves)) == size(*halves)
    assert all((one & other).empty for index, one in enumerate(boxes) for other in boxes[:index])
    assert all((decision.doubt is not None) == (decision.verdict == "unknown") for decision in decisions)
    assert all(decision.verdict in {"allowed", "denied", "unknown"} for decision in decisions)


@LAW
@given(policies(), questions(), st.sampled_from(("Deny", "Allow")), st.data())
def test_a_rule_does_not_do_more_of_the_other(
    some: Policies, question: FirewallQuestion, action: str, data: st.DataObject
) -> None:
    """Adding a Deny, wherever and however vague, allows nothing more; an Allow denies nothing more."""
    added: Document = {
        "priority": data.draw(st.integers(100, 65000)),
        "ruleCollections": [data.draw(collections(action=action, plain=action == "Allow"))],
    }
    named(added, count(1000))
    place = data.draw(st.integers(0, len(some) - 1))
    changed = [[added, *groups] if place == number else groups for number, groups in enumerate(some)]

    def fare(given_policies: Policies, wanted: str) -> set[Packet]:
        found = verdicts(evaluate(firewall(given_policies), question, TAGS))
        return {packet for packet, (verdict, _) in found.items() if verdict == wanted}

    other = "allowed" if action == "Deny" else "denied"
    assert fare(changed, other) <= fare(some, other)


@LAW
@given(policies(), questions())
def test_saying_it_again_changes_nothing(some: Policies, question: FirewallQuestion) -> None:
    """All policies again, as children of themselves, decide nothing: the answer is the same to the letter."""
    assert evaluate(firewall(some + some), question, TAGS) == evaluate(firewall(some), question, TAGS)


@LAW
@given(policies(plain=True), questions(), st.randoms(use_true_random=False))
def test_the_order_in_a_collection_does_not_matter(
    some: Policies, question: FirewallQuestion, random: Random
) -> None:
    """As long as all of its rules do the same, which taking TLS apart does not."""
    shuffled = [
        [
            group
            | {
                "ruleCollections": [
                    one | {"rules": random.sample(one["rules"], len(one["rules"]))}
                    for one in group["ruleCollections"]
                ]
            }
            for group in groups
        ]
        for groups in some
    ]

    def alone(given_policies: Policies) -> dict[Packet, str]:
        found = verdicts(evaluate(firewall(given_policies), question, TAGS))
        return {packet: verdict for packet, (verdict, _) in found.items()}

    assert alone(shuffled) == alone(some)


@LAW
@given(policies(), questions(), st.randoms(use_true_random=False))
def test_the_order_of_groups_and_collections_in_the_document_does_not_matter(
    some: Policies, question: FirewallQuestion, random: Random
) -> None:
    """Priorities alone order them; that of policies is the order in which they are given."""
    shuffled = [
        [
            group
            | {"ruleCollections": random.sample(group["ruleCollections"], len(group["ruleCollections"]))}
            for group in random.sample(groups, len(groups))
        ]
        for groups in some
    ]
    assert evaluate(firewall(shuffled), question, TAGS) == evaluate(firewall(some), question, TAGS)


@LAW
@given(policies(), questions())
def test_a_part_of_a_question_has_a_part_of_its_answer(some: Policies, question: FirewallQuestion) -> None:
    """Asked about one decision's packets alone, the firewall says of them what it said before."""
    whole = evaluate(firewall(some), question, TAGS)
    for decision in whole:
        for box in decision.packets:
            part = evaluate(firewall(some), structs.replace(question, packets=box), TAGS)
            assert {(one.verdict, one.rule) for one in part} == {(decision.verdict, decision.rule)}


@LAW
@given(policies(), questions(), st.sampled_from((str.upper, str.lower, str.swapcase)))
def test_case_does_not_matter(
    some: Policies, question: FirewallQuestion, respell: Callable[[str], str]
) -> None:
    """Types, actions, protocols, tags, names, addresses and ids may be written in any case."""

    def respelled(value: Any) -> Any:
        if isinstance(value, dict):
            return {field: one if field == "name" else respelled(one) for field, one in value.items()}
        if isinstance(value, list):
            return [respelled(one) for one in value]
        return respell(value) if isinstance(value, str) else value

    other: Policies = respelled(some)
    asked = structs.replace(question, fqdn=respell(question.fqdn), protocol=respell(question.protocol))
    assert verdicts(evaluate(firewall(other), asked, TAGS)) == verdicts(
        evaluate(firewall(some), question, TAGS)
    )


# --- awkward cases, and the rule that decides each -----------------------------------------------

NODES = "10.240.0.0/24"
SERVER = "20.50.0.4"


def rule(
    name: str,
    action: str = "Allow",
    kind: Literal["network", "application"] = "network",
    *,
    sources: str = NODES,
    source_groups: str = "",
    destinations: str = SERVER,
    groups: str = "",
    protocols: str = "TCP",
    ports: str = "443",
    fqdns: str = "",
    tags: str = "",
    limits: tuple[str, ...] = (),
    terminates: bool = False,
) -> FirewallRule:
    """A network rule that allows TCP 443 from the nodes to the API server's address."""
    return FirewallRule(
        kind=kind,
        id=f"/group/{name}",
        name=name,
        collection="some",
        group="group",
        action=action,
        protocols=tuple(protocols.split()),
        sources=tuple(sources.split()),
        source_groups=tuple(source_groups.split()),
        destinations=tuple(destinations.split()),
        destination_groups=tuple(groups.split()),
        destination_ports=tuple(ports.split()) if kind == "network" else (),
        fqdns=tuple(fqdns.split()),
        fqdn_tags=tuple(tags.split()),
        limits=limits,
        terminates_tls=terminates,
    )


def application(
    name: str,
    action: str = "Allow",
    *,
    protocols: str = "Https:443",
    destinations: str = "",
    **fields: Any,
) -> FirewallRule:
    """An application rule for TLS on port 443 from the nodes, to whatever address."""
    return rule(name, action, "application", protocols=protocols, destinations=destinations, **fields)


def decisions(
    rules: Iterable[FirewallRule],
    *,
    source: str = NODES,
    destination: str = SERVER,
    protocol: str = "tcp",
    port: int = 443,
    fqdn: str = API_SERVER,
    tls: bool = True,
) -> tuple[Decision[FirewallRule | None], ...]:
    """What a firewall decides about traffic from the nodes to the API server."""
    question = FirewallQuestion(
        protocol=protocol,
        packets=Box(
            parse_prefixes(source.split()),
            EVERY_PORT,
            parse_prefixes(destination.split()),
            IntervalSet(((port, port),)),
        ),
        fqdn=fqdn,
        tls=tls,
    )
    tags = Tags({"azurecloud.westeurope": parse_prefix("20.50.0.0/16")})
    groups = {f"{IP_GROUP}/nodes".lower(): ("10.240.0.0/25",), f"{IP_GROUP}/odd".lower(): ("10.240.0.7", "x")}
    return evaluate(
        Firewall(id="/afw", name="afw", rules=tuple(rules), ip_groups=groups, groups_missing=GROUPS_MISSING),
        question,
        tags,
    )


def decided(rules: Iterable[FirewallRule], **asked: Any) -> list[str]:
    """`allowed by NAME: sources`, in the order of the rules."""
    return [
        f"{one.verdict} by {one.rule.name if one.rule else 'default'}: {' '.join(to_prefixes(one.sources))}"
        for one in decisions(rules, **asked)
    ]


ALL = f"allowed by r: {NODES}"
NONE = f"denied by default: {NODES}"
PERHAPS = f"unknown by r: {NODES}"
SQL = 'the destination service tag "Sql" could not be resolved'
ALL_BUT_ONE = " ".join(to_prefixes(parse_prefix(NODES) - parse_prefix("10.240.0.7")))


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        pytest.param([], [NONE], id="no rules"),
        pytest.param([rule("r")], [ALL], id="a network rule to the address"),
        pytest.param([rule("r", destinations="*")], [ALL], id="to everywhere"),
        pytest.param([rule("r", destinations="20.50.0.0/24")], [ALL], id="to a prefix"),
        pytest.param([rule("r", destinations="20.50.0.1-20.50.0.9")], [ALL], id="to a range"),
        pytest.param([rule("r", destinations="20.50.0.5-20.50.0.9")], [NONE], id="to a range beside it"),
        pytest.param([rule("r", destinations="AzureCloud.WestEurope")], [ALL], id="to a service tag"),
        pytest.param([rule("r", destinations="Sql")], [PERHAPS], id="to a service tag nobody resolved"),
        pytest.param([rule("r", destinations="Sql *")], [ALL], id="that and everywhere"),
        pytest.param(
            [rule("r", destinations="Sql"), rule("s")],
            [f"allowed by s: {NODES}"],
            id="a doubt that an allow below it settles",
        ),
        pytest.param(
            [rule("r", destinations="Sql", sources="10.240.0.0/26"), rule("d", "Deny")],
            ["unknown by r: 10.240.0.0/26", "denied by d: 10.240.0.64/26 10.240.0.128/25"],
            id="a doubt about some of the sources",
        ),
        pytest.param(
            [rule("d", "Deny"), application("r", fqdns="*")],
            [f"denied by d: {NODES}"],
            id="a network deny before an application allow",
        ),
        pytest.param(
            [rule("r"), application("d", "Deny", fqdns="*")],
            [ALL],
            id="a network allow before an application deny",
        ),
        pytest.param(
            [rule("d", "Deny", sources="10.240.0.0/25"), application("r", fqdns="*")],
            ["denied by d: 10.240.0.0/25", "allowed by r: 10.240.0.128/25"],
            id="a network deny for half of the sources",
        ),
        pytest.param([rule("r", protocols="UDP")], [NONE], id="another protocol"),
        pytest.param([rule("r", protocols="udp ANY")], [ALL], id="any protocol, in any case"),
        pytest.param([rule("r", protocols="Sctp")], [PERHAPS], id="a protocol from the future"),
        pytest.param([rule("r", protocols="")], [PERHAPS], id="no protocol"),
        pytest.param([rule("r", ports="1-442 444-65535")], [NONE], id="port ranges around it"),
        pytest.param([rule("r", ports="22 400-500")], [ALL], id="a port range with it"),
        pytest.param([rule("r", ports="*")], [ALL], id="all ports"),
        pytest.param([rule("r", ports="")], [PERHAPS], id="no port"),
        pytest.param([rule("r", ports="https 443")], [ALL], id="a port that is none, and the right one"),
        pytest.param([rule("r", "Alert")], [PERHAPS], id="an action from the future"),
        pytest.param([rule("r", "aLLOW")], [ALL], id="an action in any case"),
        pytest.param([rule("r", fqdns=API_SERVER, destinations="")], [ALL], id="its own name"),
        pytest.param(
            [rule("r", fqdns=API_SERVER.upper() + ".", destinations="")],
            [ALL],
            id="its name written otherwise",
        ),
        pytest.param([rule("r", fqdns="www.example.com", destinations="")], [NONE], id="another name"),
        pytest.param(
            [rule("r", fqdns=f"www.example.com {API_SERVER}", destinations="")], [ALL], id="both names"
        ),
        pytest.param(
            [rule("r", fqdns="*.azmk8s.io", destinations="")],
            [PERHAPS],
            id="a wildcard, which no network rule has",
        ),
        pytest.param([rule("r", fqdns="*.azmk8s.io")], [ALL], id="that and its address"),
        pytest.param([rule("r", destinations="")], [PERHAPS], id="no destination"),
        pytest.param(
            [rule("r", sources="", source_groups=f"{IP_GROUP}/NODES")],
            ["allowed by r: 10.240.0.0/25", "denied by default: 10.240.0.128/25"],
            id="an IP group, by the key of its id",
        ),
        pytest.param(
            [rule("r", sources="10.240.0.192/26", source_groups=f"{IP_GROUP}/secret")],
            ["allowed by r: 10.240.0.192/26", "unknown by r: 10.240.0.0/25 10.240.0.128/26"],
            id="an IP group that could not be read, beside an address",
        ),
        pytest.param(
            [rule("r", groups=f"{IP_GROUP}/lost", destinations="")],
            [PERHAPS],
            id="an IP group that nobody knows",
        ),
        pytest.param(
            [rule("r", sources="", source_groups=f"{IP_GROUP}/odd")],
            [
                "allowed by r: 10.240.0.7/32",
                f"unknown by r: {ALL_BUT_ONE}",
            ],
            id="an IP group with something that is no address",
        ),
        pytest.param([rule("r", limits=("sourceGeoLocations",))], [PERHAPS], id="where sources are"),
        pytest.param(
            [rule("r", limits=("destinationGeoLocations",))], [PERHAPS], id="where destinations are"
        ),
        pytest.param(
            [rule("r", ports="22", limits=("sourceKubeSelectorGroups",))],
            [NONE],
            id="Kubernetes selectors, for another port",
        ),
        pytest.param(
            [rule("r", "", limits=('ruleType "QuicRule"',), ports="", sources="")],
            [PERHAPS],
            id="a rule of a type from the future",
        ),
        pytest.param(
            [rule("a"), rule("r", "", limits=('ruleType "QuicRule"',))],
            [f"allowed by a: {NODES}"],
            id="that type after a rule which decides",
        ),
    ],
)
def test_network_rules(rules: list[FirewallRule], expected: list[str]) -> None:
    """What becomes of TLS to the API server, and which rule decides."""
    assert decided(rules) == expected


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        pytest.param([application("r", fqdns="*")], [ALL], id="every name"),
        pytest.param([application("r", fqdns=API_SERVER)], [ALL], id="its name"),
        pytest.param([application("r", fqdns=API_SERVER.title() + ".")], [ALL], id="written otherwise"),
        pytest.param([application("r", fqdns="*.hcp.westeurope.azmk8s.io")], [ALL], id="a wildcard"),
        pytest.param([application("r", fqdns="*azmk8s.io")], [ALL], id="a wildcard without a dot"),
        pytest.param([application("r", fqdns="aks*.io")], [ALL], id="a wildcard within"),
        pytest.param([application("r", fqdns="*hcp*hcp*")], [NONE], id="wildcards that overlap"),
        pytest.param(
            [application("r", fqdns="aks-shop-1a2b3c4d.hcp.*.hcp.westeurope.azmk8s.io")],
            [NONE],
            id="ends that overlap",
        ),
        pytest.param([application("r", fqdns=f"*{API_SERVER}")], [ALL], id="a wildcard for nothing"),
        pytest.param([application("r", fqdns=f"*.{API_SERVER}")], [NONE], id="names below it"),
        pytest.param([application("r", fqdns="*.hcp.northeurope.azmk8s.io")], [NONE], id="elsewhere"),
        pytest.param([application("r", fqdns="hcp.westeurope.azmk8s.io")], [NONE], id="a part of it"),
        pytest.param([application("r", fqdns="aks-shop-1a2b3c4d.hcp.westeurope?azmk8s.io")], [NONE], id="?"),
        pytest.param([application("r", tags="AzureKubernetesService")], [ALL], id="AKS's tag"),
        pytest.param([application("r", tags="azureKUBERNETESservice")], [ALL], id="AKS's tag in any case"),
        pytest.param(
            [application("r", tags="WindowsUpdate AzureBackup")], [NONE], id="tags about other things"
        ),
        pytest.param([application("r", tags="Office365.Skype.Allow.Required")], [NONE], id="one of many"),
        pytest.param([application("r", tags="AzureNewThing")], [PERHAPS], id="a tag from the future"),
        pytest.param([application("r", tags="AzureNewThing", fqdns="*.io")], [ALL], id="that and its name"),
        pytest.param([application("r")], [PERHAPS], id="no target"),
        pytest.param([application("r", limits=("webCategories",))], [PERHAPS], id="web categories"),
        pytest.param([application("r", limits=("targetUrls",))], [PERHAPS], id="URLs"),
        pytest.param(
            [application("r", limits=("webCategories", "targetUrls"), fqdns=API_SERVER)],
            [ALL],
            id="targets are alternatives",
        ),
        pytest.param(
            [application("r", limits=("sourceGeoLocations",), fqdns=API_SERVER)],
            [PERHAPS],
            id="sources are not",
        ),
        pytest.param([application("r", limits=("tunnels",), fqdns="*")], [PERHAPS], id="a field of no side"),
        pytest.param([application("r", fqdns="*", protocols="Http:443")], [NONE], id="HTTP"),
        pytest.param([application("r", fqdns="*", protocols="Mssql:443")], [NONE], id="SQL"),
        pytest.param([application("r", fqdns="*", protocols="Https:8443")], [NONE], id="another port"),
        pytest.param([application("r", fqdns="*", protocols="Http:80 hTTPS:443")], [ALL], id="several"),
        pytest.param([application("r", fqdns="*", protocols="Https")], [PERHAPS], id="no port"),
        pytest.param([application("r", fqdns="*", protocols="")], [PERHAPS], id="no protocol"),
        pytest.param([application("r", fqdns="*", protocols="Quic:443")], [PERHAPS], id="a protocol to come"),
        pytest.param(
            [application("r", fqdns="*", destinations="10.0.0.0/8")], [NONE], id="to other addresses"
        ),
        pytest.param([application("r", fqdns="*", destinations="20.0.0.0/8")], [ALL], id="to its addresses"),
        pytest.param(
            [application("r", fqdns="*", terminates=True)], [f"denied by r: {NODES}"], id="taken apart"
        ),
        pytest.param(
            [
                application("r", fqdns="*", terminates=True, sources="10.240.0.0/25"),
                application("s", fqdns="*"),
            ],
            ["denied by r: 10.240.0.0/25", "allowed by s: 10.240.0.128/25"],
            id="taken apart for half of the nodes",
        ),
        pytest.param(
            [application("r", terminates=True, limits=("webCategories",)), application("s", fqdns="*")],
            [PERHAPS],
            id="perhaps taken apart",
        ),
        pytest.param(
            [application("s", fqdns="*"), application("r", fqdns="*", terminates=True)],
            [f"allowed by s: {NODES}"],
            id="allowed before it is taken apart",
        ),
        pytest.param(
            [rule("s"), application("r", fqdns="*", terminates=True)],
            [f"allowed by s: {NODES}"],
            id="a network rule takes nothing apart",
        ),
        pytest.param(
            [application("r", "Deny", fqdns="*.azmk8s.io"), application("s", fqdns="*")],
            [f"denied by r: {NODES}"],
            id="an application deny before an allow",
        ),
    ],
)
def test_application_rules(rules: list[FirewallRule], expected: list[str]) -> None:
    """What becomes of TLS to the API server, and which rule decides."""
    assert decided(rules) == expected


@pytest.mark.parametrize(
    ("fqdn", "expected"),
    [
        (API_SERVER, ALL),
        ("aks.hcp.chinaeast2.cx.prod.service.azk8s.cn", ALL),
        ("aks.hcp.usgovvirginia.cx.aks.containerservice.azure.us", ALL),
        (PRIVATE, PERHAPS),
        ("mcr.microsoft.com", PERHAPS),
        ("hcp.westeurope.azmk8s.io", PERHAPS),
        ("", PERHAPS),
    ],
)
def test_what_the_tag_of_aks_holds(fqdn: str, expected: str) -> None:
    """The names of public control planes in each cloud; what else it holds is only known to Microsoft."""
    assert decided([application("r", tags="AzureKubernetesService")], fqdn=fqdn) == [expected]


@pytest.mark.parametrize(
    ("tag", "fqdn", "expected"),
    [
        ("WindowsUpdate", PRIVATE, NONE),
        ("WindowsUpdate", "www.example.com", PERHAPS),
        ("citrixHdxPlusForWindows365", API_SERVER, NONE),
        ("HDInsight", "aks.hcp.usgovvirginia.cx.aks.containerservice.azure.us", NONE),
    ],
)
def test_what_other_tags_hold(tag: str, fqdn: str, expected: str) -> None:
    """Known ones hold no control plane; of other names nobody can say."""
    assert decided([application("r", tags=tag)], fqdn=fqdn) == [expected]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (application("r", fqdns="*"), ALL),
        (application("r", fqdns="*.azmk8s.io"), PERHAPS),
        (application("r", tags="WindowsUpdate"), PERHAPS),
        (application("r", fqdns="*", protocols="Https:8443"), NONE),
        (rule("r", fqdns="www.example.com", destinations=""), PERHAPS),
        (rule("r", fqdns="www.example.com", ports="123", destinations=""), NONE),
        (rule("r", destinations=SERVER), ALL),
    ],
)
def test_without_a_name_names_are_in_doubt(one: FirewallRule, expected: str) -> None:
    """Traffic whose name is not known may be for any."""
    assert decided([one], fqdn="") == [expected]


@pytest.mark.parametrize(
    ("one", "asked", "expected"),
    [
        (rule("r", destinations="*", protocols="UDP", ports="1194"), {}, ALL),
        (rule("r", destinations="AzureCloud.westeurope", protocols="Any", ports="1000-2000"), {}, ALL),
        (rule("r", destinations="*", protocols="TCP", ports="1194"), {}, NONE),
        (rule("r", destinations="*", protocols="UDP", ports="9000"), {}, NONE),
        (rule("r", fqdns=API_SERVER, protocols="UDP", ports="1194", destinations=""), {}, ALL),
        (application("r", fqdns="*", protocols="Https:1194"), {}, NONE),
        (application("r", fqdns="*", protocols="Quic:1194"), {}, NONE),
        (application("r", fqdns="*", limits=("tunnels",)), {}, NONE),
        (rule("r", "", limits=('ruleType "QuicRule"',)), {}, PERHAPS),
        (rule("r", destinations="*", protocols="ICMP", ports="9"), {"protocol": "icmp"}, ALL),
        (rule("r", destinations="*", protocols="Any", ports="*"), {"protocol": "ICMP"}, ALL),
        (rule("r", destinations="*", protocols="Any", ports="1-65535"), {"protocol": "icmp"}, NONE),
        (application("r", fqdns="*", protocols="Https:1194"), {"protocol": "tcp", "tls": True}, ALL),
        (application("r", fqdns="*", protocols="Https:1194"), {"protocol": "tcp", "tls": False}, NONE),
        (application("r", fqdns="*", protocols="Http:1194"), {"protocol": "tcp", "tls": False}, NONE),
    ],
)
def test_other_traffic(one: FirewallRule, asked: Mapping[str, Any], expected: str) -> None:
    """OpenVPN on UDP 1194, ICMP, which has no ports, and what is no TLS: only network rules take it."""
    assert decided([one], **{"protocol": "udp", "port": 1194, **asked}) == [expected]


def test_no_packet_is_of_two_families() -> None:
    """IPv4 sources go to IPv4 destinations alone: an allow of IPv6 says nothing of them."""
    both: dict[str, Any] = {"source": f"{NODES} fd00:10::/64", "destination": f"{SERVER} fd00:20::1"}
    six = rule("six", sources="fd00::/8", destinations="fd00:20::1")
    found = decisions([six], **both)
    assert [(one.verdict, to_prefixes(one.sources), to_prefixes(one.destinations)) for one in found] == [
        ("allowed", ("fd00:10::/64",), ("fd00:20::1/128",)),
        ("denied", (NODES,), (f"{SERVER}/32",)),
    ]
    assert not decisions([six], source=NODES, destination="fd00:20::1")


def collection(name: str, priority: int, action: str, *rules: Document) -> Document:
    """A filter collection of a policy."""
    return {
        "ruleCollectionType": "FirewallPolicyFilterRuleCollection",
        "name": name,
        "priority": priority,
        "action": {"type": action},
        "rules": list(rules),
    }


NETWORK_RULE = {
    "ruleType": "NetworkRule",
    "ipProtocols": ["TCP"],
    "sourceAddresses": ["*"],
    "destinationAddresses": ["*"],
    "destinationPorts": ["443"],
}
APPLICATION_RULE = {
    "ruleType": "ApplicationRule",
    "protocols": [{"protocolType": "Https", "port": 443}],
    "sourceAddresses": ["*"],
    "targetFqdns": ["*"],
}


@pytest.mark.parametrize(
    ("some", "decider"),
    [
        pytest.param(
            [
                [{"priority": 60000, "ruleCollections": [collection("p", 60000, "Deny", NETWORK_RULE)]}],
                [{"priority": 100, "ruleCollections": [collection("c", 100, "Allow", NETWORK_RULE)]}],
            ],
            "p",
            id="a parent before its child, whatever the priorities",
        ),
        pytest.param(
            [
                [{"priority": 100, "ruleCollections": []}],
                [{"priority": 300, "ruleCollections": [collection("p", 100, "Deny", NETWORK_RULE)]}],
                [{"priority": 200, "ruleCollections": [collection("c", 100, "Allow", NETWORK_RULE)]}],
            ],
            "p",
            id="a grandparent without rules",
        ),
        pytest.param(
            [
                [{"priority": 100, "ruleCollections": [collection("p", 100, "Deny", APPLICATION_RULE)]}],
                [{"priority": 60000, "ruleCollections": [collection("c", 60000, "Allow", NETWORK_RULE)]}],
            ],
            "c",
            id="a child's network rules before its parent's application rules",
        ),
        pytest.param(
            [
                [
                    {"priority": 300, "ruleCollections": [collection("late", 100, "Allow", NETWORK_RULE)]},
                    {"priority": 200, "ruleCollections": [collection("early", 900, "Deny", NETWORK_RULE)]},
                ]
            ],
            "early",
            id="a group's priority before its collections'",
        ),
        pytest.param(
            [
                [
                    {
                        "priority": 200,
                        "ruleCollections": [
                            collection("app", 100, "Allow", APPLICATION_RULE),
                            collection("late", 400, "Allow", NETWORK_RULE),
                            collection("early", 300, "Deny", NETWORK_RULE),
                        ],
                    }
                ]
            ],
            "early",
            id="collections by priority, network rules first",
        ),
        pytest.param(
            [
                [
                    {
                        "priority": 200,
                        "ruleCollections": [
                            collection("mixed", 100, "Allow", APPLICATION_RULE, NETWORK_RULE),
                            collection("deny", 200, "Deny", NETWORK_RULE),
                        ],
                    }
                ]
            ],
            "mixed",
            id="rules of two kinds in one collection",
        ),
    ],
)
def test_the_order_of_policies_groups_and_collections(some: Policies, decider: str) -> None:
    """The collection whose rule decides about TLS to the API server."""
    groups = [
        [read_rule_collection_group({"name": "g", **group}) for group in policy_groups]
        for policy_groups in some
    ]
    [decision] = decisions(in_order(groups))
    assert decision.rule is not None
    assert decision.rule.collection == decider


@pytest.mark.parametrize(
    ("odd", "code", "words"),
    [
        (
            rule("r", destinations="Sql"),
            "unknown_service_tag",
            SQL,
        ),
        (
            rule("r", sources="", source_groups=f"{IP_GROUP}/secret"),
            "permission_denied",
            'the source IP group "secret" could not be read (Could not read secret)',
        ),
        (
            rule("r", groups=f"{IP_GROUP}/Lost", destinations=""),
            "unknown_ip_group",
            'the destination IP group "Lost" is not known',
        ),
        (
            rule("r", sources="", source_groups=f"{IP_GROUP}/odd"),
            "unknown_ip_group",
            'the source IP group "odd" holds "x"',
        ),
        (
            rule("r", groups=f"{IP_GROUP}/lost", destinations="Sql"),
            "unknown_ip_group",
            f'the destination IP group "lost" is not known; {SQL}',
        ),
        (rule("r", "Alert"), "unknown_rule_value", 'its action "Alert" is not known'),
        (rule("r", ""), "unknown_rule_value", "it has no action"),
        (
            rule("r", protocols="SCTP GRE"),
            "unknown_rule_value",
            'its protocol "SCTP", "GRE" is not known',
        ),
        (rule("r", protocols=""), "unknown_rule_value", "it names no protocol"),
        (
            rule("r", protocols="", sources="*", source_groups=f"{IP_GROUP}/secret"),
            "unknown_rule_value",
            "it names no protocol",
        ),
        (rule("r", ports="https"), "unknown_rule_value", 'its destination port "https" is not known'),
        (rule("r", ports=""), "unknown_rule_value", "it names no destination port"),
        (rule("r", destinations=""), "unknown_rule_value", "it names no destination address"),
        (rule("r", sources=""), "unknown_rule_value", "it names no source address"),
        (
            rule("r", limits=("sourceKubeSelectorGroups", "sourceGeoLocations")),
            "unknown_rule_value",
            "its sourceKubeSelectorGroups, sourceGeoLocations cannot be evaluated",
        ),
        (
            rule("r", "", limits=('ruleType "QuicRule"',)),
            "unknown_rule_value",
            'its ruleType "QuicRule" cannot be evaluated',
        ),
        (
            rule("r", fqdns="*.azmk8s.io", destinations=""),
            "unknown_fqdn",
            'what the destination FQDN "*.azmk8s.io" resolves to is not known',
        ),
        (
            application("r", tags="NewThing"),
            "unknown_fqdn_tag",
            f'whether the FQDN tag "NewThing" holds {API_SERVER} is not known',
        ),
        (
            application("r", limits=("webCategories", "targetUrls")),
            "unknown_rule_value",
            "its webCategories cannot be evaluated; its targetUrls cannot be evaluated",
        ),
        (application("r"), "unknown_rule_value", "it names no target"),
        (
            application("r", fqdns="*", protocols="Quic:443"),
            "unknown_rule_value",
            'its protocol "Quic:443" is not known',
        ),
    ],
)
def test_a_doubt_says_what_is_not_known(odd: FirewallRule, code: str, words: str) -> None:
    """Code and words, naming the value as it is written."""
    [doubt] = [one.doubt for one in decisions([odd]) if one.doubt]
    assert (doubt.code, doubt.why) == (code, words)


def test_a_doubt_without_a_name() -> None:
    """Where the traffic's own name is not known, that is the doubt."""
    [decision] = decisions([application("r", fqdns="*.azmk8s.io")], fqdn="")
    assert decision.doubt is not None
    assert (decision.doubt.code, decision.doubt.why) == (
        "unknown_fqdn",
        "the FQDN that the traffic is for is not known",
    )


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (rule("api-server"), 'network rule "api-server" of collection "some" (group "group")'),
        (application("aks"), 'application rule "aks" of collection "some" (group "group")'),
        (structs.replace(rule("api-server"), group=""), 'network rule "api-server" of collection "some"'),
        (
            rule("quic", limits=('ruleType "QuicRule"',)),
            'rule "quic" of collection "some" (group "group")',
        ),
        (
            rule("some", limits=('ruleCollectionType "Quic"',)),
            'rule collection "some" (group "group")',
        ),
        (
            rule("geo", limits=("sourceGeoLocations",)),
            'network rule "geo" of collection "some" (group "group")',
        ),
        (None, "the default deny"),
    ],
)
def test_a_rule_in_words(one: FirewallRule | None, words: str) -> None:
    """What kind it is, and where it stands."""
    assert describe(one) == words


@pytest.mark.parametrize(
    ("one", "breaks"),
    [
        (application("r", terminates=True), True),
        (application("r", "ALLOW", terminates=True), True),
        (application("r", "Deny", terminates=True), False),
        (application("r"), False),
        (rule("r", terminates=True), False),
        (None, False),
    ],
)
def test_what_breaks_tls(one: FirewallRule | None, breaks: bool) -> None:
    """An application rule that means to allow it, and takes it apart."""
    assert breaks_tls(one) == breaks


R = 'rule "r" of collection "some" (group "group")'
APART = "(terminateTLS), which neither mutual TLS nor ALPN survives: denied"


@pytest.mark.parametrize(
    ("rules", "outcome", "why"),
    [
        ([rule("r")], "allowed", f"network {R} is the first to match what goes to {SERVER}/32: allowed"),
        (
            [application("r", fqdns="*", terminates=True)],
            "blocked",
            f"application {R} is the first to match what goes to {SERVER}/32 and takes its TLS apart {APART}",
        ),
        ([], "blocked", f"no rule matches what goes to {SERVER}/32: denied"),
        (
            [rule("r", destinations="Sql")],
            "unknown",
            f"network {R} may decide what goes to {SERVER}/32, but {SQL}",
        ),
    ],
)
def test_an_answer_says_why(rules: list[FirewallRule], outcome: str, why: str) -> None:
    """One sentence a rule, in words."""
    said = answer(
        Firewall(id="/afw", name="afw", rules=tuple(rules)),
        "tcp",
        Tags({}),
        sources=parse_prefix(NODES),
        destinations=parse_prefix(SERVER),
        ports=IntervalSet(((443, 443),)),
        fqdn=API_SERVER,
    )
    assert said.outcome == outcome
    assert [one.why for one in said.rules] == [why]
