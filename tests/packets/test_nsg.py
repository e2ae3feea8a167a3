"""The evaluator of security groups: against an oracle that walks single packets, by laws, and by table."""

import ipaddress
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import product
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from facts.filters import AdminRules, Direction, NetworkSecurityGroup, SecurityRule
from packets.addresses import EVERY_PORT, IntervalSet, parse_prefix, parse_prefixes, to_prefixes
from packets.boxes import Box
from packets.decisions import Decision, Effect
from packets.documents.nsg import read_nsg
from packets.nsg import Question, evaluate, evaluate_admin, free_priority, passed_over
from packets.tags import Tags
from tests.snapshots import nsg, rule

LAW = settings(deadline=None, max_examples=150)

Document = dict[str, Any]
Packet = tuple[str, int, str, int]
"""Source, source port, destination, destination port."""

# --- a tiny universe -----------------------------------------------------------------------------

NETWORK = ("10.0.0.0/29", "fd00::/125")
"""The virtual network: half of the addresses of each family below."""
UNIVERSE = (
    *(str(address) for address in ipaddress.ip_network("10.0.0.0/28")),
    *(str(address) for address in ipaddress.ip_network("fd00::/124")),
    "20.0.0.4",
    "168.63.129.16",
)
SOURCE_PORTS = (1024, 40000)
PORTS = (443, 10250, 10255)
TAGS = Tags.of_network(NETWORK)
WORDS = ("*", "Any", "0.0.0.0/0", "VirtualNetwork", "virtualnetwork", "Internet", "AzureLoadBalancer")
PREFIXES = (
    "10.0.0.0/28",
    "10.0.0.4/30",
    "10.0.0.9/30",
    "10.0.0.3",
    "10.0.0.5/32",
    "10.0.0.2-10.0.0.11",
    "20.0.0.0/8",
    "fd00::/126",
    "fd00::6-fd00::9",
    "fd00::f",
)
UNRESOLVED = ("Sql", "AzureCloud.WestEurope")

ADDRESSES = st.lists(st.sampled_from((*WORDS, *PREFIXES, *PREFIXES, *UNRESOLVED)), max_size=3)
PORT_FIELDS = st.one_of(
    st.lists(st.sampled_from(("*", "10250", "443", "10000-10300", "0-65535", "1024-2000")), max_size=3),
    st.just(["kubelet"]),
)
ENUMS: Mapping[str, st.SearchStrategy[str | None]] = {
    "protocol": st.sampled_from(("Tcp", "TCP", "tcp", "Tcp", "*", "Any", "All", "Udp", "Icmp", "Sctp", None)),
    "access": st.sampled_from(("Allow", "Deny", "Allow", "Deny", "ALLOW", "deny", "AlwaysAllow", "")),
    "direction": st.sampled_from(("Inbound", "Inbound", "Outbound", "inbound", "OUTBOUND", "Sideways", None)),
}
DEFAULTS = {
    "Inbound": (
        ("AllowVnetInBound", 65000, "VirtualNetwork", "VirtualNetwork", "Allow"),
        ("AllowAzureLoadBalancerInBound", 65001, "AzureLoadBalancer", "0.0.0.0/0", "Allow"),
        ("DenyAllInBound", 65500, "*", "*", "Deny"),
    ),
    "Outbound": (
        ("AllowVnetOutBound", 65000, "VirtualNetwork", "VirtualNetwork", "Allow"),
        ("AllowInternetOutBound", 65001, "*", "Internet", "Allow"),
        ("DenyAllOutBound", 65500, "*", "*", "Deny"),
    ),
}


def default_rules() -> list[Document]:
    """Azure's own rules, as ARM writes them."""
    return [
        {
            "name": name,
            "priority": priority,
            "direction": direction,
            "protocol": "*",
            "access": access,
            "sourceAddressPrefix": source,
            "sourcePortRange": "*",
            "destinationAddressPrefix": destination,
            "destinationPortRange": "*",
        }
        for direction, rules in DEFAULTS.items()
        for name, priority, source, destination, access in rules
    ]


@st.composite
def rule_documents(draw: st.DrawFn, priority: int) -> Document:
    """A rule with its fields in the singular, the plural or both."""
    document: Document = {"name": f"rule-{priority}", "priority": priority}
    document |= {field: draw(values) for field, values in ENUMS.items()}
    for field, values in (
        ("sourceAddressPrefix", ADDRESSES),
        ("sourcePortRange", st.sampled_from((["*"], ["*"], ["*"], ["1024-2000"], []))),
        ("destinationAddressPrefix", ADDRESSES),
        ("destinationPortRange", PORT_FIELDS),
    ):
        written: list[str] = draw(values)
        plural = f"{field}es" if field.endswith("x") else f"{field}s"
        singular = draw(st.booleans())
        document[field] = written[0] if written and singular else None
        document[plural] = written[1:] if singular else written
    for side in ("source", "destination"):
        if draw(st.integers(0, 9)) == 0:
            document[f"{side}ApplicationSecurityGroups"] = [{"id": "/asg/web"}]
    return document


@st.composite
def groups(draw: st.DrawFn) -> Document:
    """A group of up to eight rules in any order, with or without the default rules."""
    priorities = draw(st.lists(st.integers(100, 4096), max_size=8, unique=True))
    rules = [draw(rule_documents(priority)) for priority in priorities]
    written = default_rules() if draw(st.booleans()) else None
    return {"id": "/nsg", "name": "nsg", "securityRules": rules, "defaultSecurityRules": written}


@st.composite
def questions(draw: st.DrawFn) -> Question:
    """Some addresses on either side, of either family, and all ports of the universe or some."""
    some = st.lists(st.sampled_from(UNIVERSE), min_size=1, max_size=8, unique=True)
    ports = st.lists(st.sampled_from(PORTS), min_size=1, unique=True)
    return Question(
        direction=draw(st.sampled_from(Direction)),
        protocol=draw(st.sampled_from(("tcp", "Tcp", "udp"))),
        packets=Box(
            parse_prefixes(draw(some)),
            IntervalSet.of((port, port) for port in SOURCE_PORTS),
            parse_prefixes(draw(some)),
            IntervalSet.of((port, port) for port in draw(ports)),
        ),
    )


NUMBERS = {address: parse_prefix(address).intervals[0][0] for address in UNIVERSE}


def packets_of(box: Box) -> Iterable[Packet]:
    """The packets of the universe that are in a box."""
    return product(
        [address for address in UNIVERSE if NUMBERS[address] in box.sources],
        [port for port in SOURCE_PORTS if port in box.source_ports],
        [address for address in UNIVERSE if NUMBERS[address] in box.destinations],
        [port for port in PORTS if port in box.destination_ports],
    )


def size(box: Box) -> int:
    """How many packets a box holds, in the universe or out of it."""
    whole = 1
    for field in (box.sources, box.source_ports, box.destinations, box.destination_ports):
        whole *= sum(high - low + 1 for low, high in field.intervals)
    return whole


def verdicts(decisions: Iterable[Decision[SecurityRule]]) -> dict[Packet, tuple[str, str]]:
    """Verdict and rule of every packet; a packet that is decided twice is an error."""
    found: dict[Packet, tuple[str, str]] = {}
    for decision in decisions:
        for box in decision.packets:
            for packet in packets_of(box):
                assert packet not in found
                found[packet] = (decision.verdict, decision.rule.name)
    return found


# --- the oracle: one packet, rule by rule, with ipaddress only -----------------------------------


@cache
def address_matches(text: str, address: str) -> bool | None:
    """Whether one address is meant by what a rule names; None where nobody can say."""
    one = ipaddress.ip_address(address)
    word = text.lower()
    if word in {"*", "any", "0.0.0.0/0"}:
        return True
    in_network = address == "168.63.129.16" or any(one in ipaddress.ip_network(net) for net in NETWORK)
    if word in {"virtualnetwork", "internet", "azureloadbalancer"}:
        return {
            "virtualnetwork": in_network,
            "internet": not in_network and one.is_global,
            "azureloadbalancer": address == "168.63.129.16",
        }[word]
    if not text[0].isdigit() and ":" not in text:
        return None
    if "-" in text:
        low, high = (ipaddress.ip_address(end) for end in text.split("-"))
        return low.version == one.version and int(low) <= int(one) <= int(high)
    return one in ipaddress.ip_network(text, strict=False)


def port_matches(text: str, port: int) -> bool | None:
    """The same of a port."""
    if text == "*":
        return True
    ends = text.split("-")
    return int(ends[0]) <= port <= int(ends[-1]) if ends[0].isdigit() else None


def any_of(answers: Iterable[bool | None]) -> bool | None:
    """Some yes is a yes, then some doubt is a doubt; a field that names nothing is a doubt."""
    given_answers = list(answers)
    if True in given_answers:
        return True
    return None if None in given_answers or not given_answers else False


def enum_matches(text: str | None, wanted: str, known: set[str], everything: set[str]) -> bool | None:
    """A known value matches or does not; what is not known may."""
    word = (text or "").lower()
    if word == wanted.lower() or word in everything:
        return True
    return False if word in known else None


def matches(document: Document, question: Question, packet: Packet) -> bool | None:
    """Whether a rule takes a packet: all of its fields have to."""
    source, source_port, destination, port = packet

    def values(field: str, plural: str) -> list[str]:
        return [value for value in (document.get(field), *(document.get(plural) or ())) if value]

    def addresses(side: str, address: str) -> bool | None:
        named = values(f"{side}AddressPrefix", f"{side}AddressPrefixes")
        unresolved = [None for _ in document.get(f"{side}ApplicationSecurityGroups") or ()]
        return any_of([*(address_matches(text, address) for text in named), *unresolved])

    fields = [
        enum_matches(document["direction"], question.direction, {"inbound", "outbound"}, set()),
        enum_matches(
            document["protocol"],
            question.protocol,
            {"tcp", "udp", "icmp", "esp", "ah"},
            {"*", "any", "all"},
        ),
        addresses("source", source),
        any_of(port_matches(text, source_port) for text in values("sourcePortRange", "sourcePortRanges")),
        addresses("destination", destination),
        any_of(port_matches(text, port) for text in values("destinationPortRange", "destinationPortRanges")),
    ]
    if False in fields:
        return False
    return None if None in fields else True


def judge(document: Document, question: Question, packet: Packet) -> tuple[str, str]:
    """Every verdict that a packet can have, over both readings of each match that is in doubt.

    With the rule that decides for sure; two possible verdicts are `unknown`.
    """
    rules = [*document["securityRules"], *(document["defaultSecurityRules"] or default_rules())]
    possible: set[str] = set()
    for one in sorted(rules, key=lambda each: int(each["priority"])):
        match = matches(one, question, packet)
        if match is False:
            continue
        effect = {"allow": {"allowed"}, "deny": {"denied"}}
        possible |= effect.get(one["access"].lower(), {"allowed", "denied"})
        if match:
            return ("unknown" if len(possible) == 2 else possible.pop(), one["name"])
    raise AssertionError("the last default rule matches everything")


@settings(deadline=None, max_examples=400)
@given(groups(), questions())
def test_every_packet_fares_as_the_oracle_says(document: Document, question: Question) -> None:
    """Allowed, denied or unknown, packet by packet, and by the rule that decides for sure."""
    found = verdicts(evaluate(read_nsg(document), question, TAGS))
    for packet in packets_of(question.packets):
        verdict, name = judge(document, question, packet)
        assert (packet, found[packet][0]) == (packet, verdict)
        if verdict != "unknown":
            assert (packet, found[packet][1]) == (packet, name)


@LAW
@given(groups(), st.sampled_from(Direction), st.sampled_from(("tcp", "udp", "icmp")))
def test_decisions_partition_the_question(document: Document, direction: Direction, protocol: str) -> None:
    """Together they hold as many packets as were asked about, none outside, none twice; none is empty."""
    asked = Box(
        parse_prefixes(("10.0.0.0/27", "fd00::/123", "20.0.0.0/28")),
        EVERY_PORT,
        parse_prefixes(UNIVERSE),
        EVERY_PORT,
    )
    question = Question(direction=direction, protocol=protocol, packets=asked)
    decisions = evaluate(read_nsg(document), question, TAGS)
    boxes = [box for decision in decisions for box in decision.packets]
    assert all((box & asked) == box and not box.empty for box in boxes)
    assert sum(size(box) for box in boxes) == size(asked)
    assert all((one & other).empty for index, one in enumerate(boxes) for other in boxes[:index])
    assert len({(decision.verdict, decision.rule.id) for decision in decisions}) == len(decisions)
    assert all((decision.doubt is not None) == (decision.verdict == "unknown") for decision in decisions)


# --- laws ----------------------------------------------------------------------------------------


@LAW
@given(groups(), questions(), st.data())
def test_a_deny_never_allows_more(document: Document, question: Question, data: st.DataObject) -> None:
    """Adding a Deny, wherever and however vague, leaves the allowed packets or takes some away."""
    taken = {one["priority"] for one in document["securityRules"]}
    priority = data.draw(st.integers(100, 4096).filter(lambda number: number not in taken))
    deny = data.draw(rule_documents(priority)) | {"access": "Deny"}
    stricter = document | {"securityRules": [deny, *document["securityRules"]]}

    def allowed(group: Document) -> set[Packet]:
        found = verdicts(evaluate(read_nsg(group), question, TAGS))
        return {packet for packet, (verdict, _) in found.items() if verdict == "allowed"}

    assert allowed(stricter) <= allowed(document)


@LAW
@given(groups(), questions())
def test_saying_it_again_changes_nothing(document: Document, question: Question) -> None:
    """Rules repeated below themselves decide nothing: the answer stays the same to the letter."""
    rules = document["securityRules"]
    again = [one | {"name": f"{one['name']}-again", "priority": one["priority"] + 5000} for one in rules]
    twice = document | {"securityRules": rules + again}
    assert evaluate(read_nsg(twice), question, TAGS) == evaluate(read_nsg(document), question, TAGS)


@LAW
@given(groups(), questions())
def test_a_part_of_a_question_has_a_part_of_its_answer(document: Document, question: Question) -> None:
    """Asked about one decision's packets alone, the group says of them what it said before."""
    group = read_nsg(document)
    whole = evaluate(group, question, TAGS)
    for decision in whole:
        for box in decision.packets:
            part = evaluate(group, structs.replace(question, packets=box), TAGS)
            assert {(one.verdict, one.rule) for one in part} == {(decision.verdict, decision.rule)}


@LAW
@given(groups(), questions(), st.randoms(use_true_random=False))
def test_the_order_in_the_document_does_not_matter(
    document: Document, question: Question, random: Random
) -> None:
    """Priority alone orders rules."""
    shuffled = list(document["securityRules"])
    random.shuffle(shuffled)
    other = document | {"securityRules": shuffled}
    assert evaluate(read_nsg(other), question, TAGS) == evaluate(read_nsg(document), question, TAGS)


@LAW
@given(groups(), questions(), st.sampled_from((str.upper, str.lower, str.swapcase)))
def test_case_does_not_matter(document: Document, question: Question, respell: Any) -> None:
    """Enum values, service tags and addresses may be written in any case."""

    def respelled(value: Any) -> Any:
        if isinstance(value, list):
            return [respelled(one) for one in value]
        return respell(value) if isinstance(value, str) else value

    rules = [
        {
            field: value if field in {"name", "priority"} or "Groups" in field else respelled(value)
            for field, value in one.items()
        }
        for one in document["securityRules"]
    ]
    other = document | {"securityRules": rules}
    assert verdicts(evaluate(read_nsg(other), question, TAGS)) == verdicts(
        evaluate(read_nsg(document), question, TAGS)
    )


# --- awkward cases, and the rule that decides each -----------------------------------------------

NODES = "10.240.0.0/24"
PODS = "10.241.0.0/24"


def decided(
    rules: Iterable[SecurityRule],
    *,
    source: str = NODES,
    destination: str = NODES,
    direction: Direction = Direction.INBOUND,
    protocol: str = "tcp",
    port: int = 10250,
) -> list[str]:
    """What becomes of some traffic: `allowed by NAME: sources`, in the order of the rules."""
    question = Question(
        direction=direction,
        protocol=protocol,
        packets=Box(
            parse_prefixes(source.split()),
            EVERY_PORT,
            parse_prefixes(destination.split()),
            IntervalSet(((port, port),)),
        ),
    )
    tags = Tags.of_network(("10.240.0.0/16", "fd00:10::/64"), {"Registry": parse_prefix("20.1.0.0/16")})
    return [
        f"{one.verdict} by {one.rule.name}: {' '.join(to_prefixes(one.sources))}"
        for one in evaluate(nsg("nodes", *rules), question, tags)
    ]


DENY = rule("deny", 200)
ALLOW = rule("allow", 200, "Allow", sources=NODES)

CASES: list[tuple[str, list[SecurityRule], list[str]]] = [
    ("no rules: AllowVnetInBound", [], ["allowed by AllowVnetInBound: 10.240.0.0/24"]),
    ("a deny", [DENY], ["denied by deny: 10.240.0.0/24"]),
    (
        "an allow above the deny",
        [DENY, rule("allow", 199, "Allow", sources=NODES)],
        ["allowed by allow: 10.240.0.0/24"],
    ),
    (
        "an allow below the deny",
        [DENY, rule("allow", 201, "Allow", sources=NODES)],
        ["denied by deny: 10.240.0.0/24"],
    ),
    (
        "an allow above the deny for half of the sources",
        [DENY, rule("allow", 150, "Allow", sources="10.240.0.0/25")],
        ["allowed by allow: 10.240.0.0/25", "denied by deny: 10.240.0.128/25"],
    ),
    (
        "an allow that is cut in two by a deny above it",
        [rule("hole", 100, sources="10.240.0.64/26"), ALLOW],
        ["denied by hole: 10.240.0.64/26", "allowed by allow: 10.240.0.0/26 10.240.0.128/25"],
    ),
    (
        "several prefixes in one rule",
        [rule("deny", 200, sources="10.240.0.0/26 10.240.0.192/26 10.99.0.0/16")],
        [
            "denied by deny: 10.240.0.0/26 10.240.0.192/26",
            "allowed by AllowVnetInBound: 10.240.0.64/26 10.240.0.128/26",
        ],
    ),
    (
        "a range of ports that covers 10250",
        [rule("deny", 200, ports="10000-10300")],
        ["denied by deny: 10.240.0.0/24"],
    ),
    (
        "a range of ports that ends before 10250",
        [rule("deny", 200, ports="1-10249")],
        ["allowed by AllowVnetInBound: 10.240.0.0/24"],
    ),
    (
        "several ports in one rule",
        [rule("deny", 200, ports="22 10250 3389")],
        ["denied by deny: 10.240.0.0/24"],
    ),
    ("all ports", [rule("deny", 200, ports="*")], ["denied by deny: 10.240.0.0/24"]),
    (
        "a range of addresses",
        [rule("deny", 200, sources="10.240.0.0-10.240.0.127")],
        [
            "denied by deny: 10.240.0.0/25",
            "allowed by AllowVnetInBound: 10.240.0.128/25",
        ],
    ),
    (
        "host bits in a prefix",
        [rule("deny", 200, sources="10.240.0.77/25")],
        ["denied by deny: 10.240.0.0/25", "allowed by AllowVnetInBound: 10.240.0.128/25"],
    ),
    (
        "source ports are part of the match: some of each source's traffic is denied",
        [rule("deny", 200, source_ports="0-32767")],
        ["denied by deny: 10.240.0.0/24", "allowed by AllowVnetInBound: 10.240.0.0/24"],
    ),
    (
        "protocol in another case",
        [rule("deny", 200, protocol="TCP")],
        ["denied by deny: 10.240.0.0/24"],
    ),
    ("any protocol", [rule("deny", 200, protocol="*")], ["denied by deny: 10.240.0.0/24"]),
    (
        "another protocol",
        [rule("deny", 200, protocol="Udp")],
        ["allowed by AllowVnetInBound: 10.240.0.0/24"],
    ),
    (
        "another direction",
        [rule("deny", 200, direction="Outbound")],
        ["allowed by AllowVnetInBound: 10.240.0.0/24"],
    ),
    (
        "access and direction in another case",
        [rule("deny", 200, "DENY", direction="INBOUND")],
        ["denied by deny: 10.240.0.0/24"],
    ),
    (
        "Deny Internet does not mean the network itself",
        [rule("deny", 200, sources="Internet")],
        ["allowed by AllowVnetInBound: 10.240.0.0/24"],
    ),
    (
        "Deny VirtualNetwork",
        [rule("deny", 200, sources="VirtualNetwork")],
        ["denied by deny: 10.240.0.0/24"],
    ),
    (
        "a tag whose addresses are known",
        [rule("deny", 200, sources="registry")],
        ["allowed by AllowVnetInBound: 10.240.0.0/24"],
    ),
    (
        "an unknown tag that does not decide: the rule after it says the same",
        [rule("deny-sql", 150, sources="Sql"), DENY],
        ["denied by deny: 10.240.0.0/24"],
    ),
    (
        "an unknown tag in an Allow that does not decide: Azure's default says the same",
        [rule("allow-sql", 150, "Allow", sources="Sql")],
        ["allowed by AllowVnetInBound: 10.240.0.0/24"],
    ),
    (
        "an unknown tag that decides",
        [rule("deny-sql", 150, sources="Sql")],
        ["unknown by deny-sql: 10.240.0.0/24"],
    ),
    (
        "an unknown tag that decides half",
        [rule("deny-sql", 150, sources="Sql"), rule("deny", 200, sources="10.240.0.0/25")],
        ["unknown by deny-sql: 10.240.0.128/25", "denied by deny: 10.240.0.0/25"],
    ),
    (
        "an unknown tag beside prefixes that are known",
        [rule("deny", 150, sources="10.240.0.0/25 Sql")],
        ["denied by deny: 10.240.0.0/25", "unknown by deny: 10.240.0.128/25"],
    ),
    (
        "an unknown tag beside everything",
        [rule("deny", 150, sources="Sql *")],
        ["denied by deny: 10.240.0.0/24"],
    ),
    (
        "an unknown tag about another port",
        [rule("deny", 150, sources="Sql", ports="1433")],
        ["allowed by AllowVnetInBound: 10.240.0.0/24"],
    ),
    (
        "two doubts that agree with each other and not with what decides",
        [rule("deny-sql", 150, sources="Sql"), rule("deny-web", 160, sources="AzureFrontDoor.Backend")],
        ["unknown by deny-sql: 10.240.0.0/24"],
    ),
    (
        "two doubts that contradict each other",
        [rule("deny-sql", 150, sources="Sql"), rule("allow-web", 160, "Allow", sources="AzureBackup"), DENY],
        ["unknown by allow-web: 10.240.0.0/24"],
    ),
    (
        "an allow above the doubt",
        [rule("allow", 100, "Allow", sources=NODES), rule("deny-sql", 150, sources="Sql")],
        ["allowed by allow: 10.240.0.0/24"],
    ),
    (
        "an application security group, whose members nobody knows",
        [rule("deny-web", 150, sources="", source_groups="/asg/web")],
        ["unknown by deny-web: 10.240.0.0/24"],
    ),
    (
        "an access that nobody knows yet",
        [rule("odd", 150, "AlwaysAllow")],
        ["unknown by odd: 10.240.0.0/24"],
    ),
    (
        "an access that nobody knows yet, below the rule that decides",
        [DENY, rule("odd", 250, "AlwaysAllow")],
        ["denied by deny: 10.240.0.0/24"],
    ),
    (
        "a protocol that nobody knows yet",
        [rule("odd", 150, protocol="Quic")],
        ["unknown by odd: 10.240.0.0/24"],
    ),
    (
        "a direction that nobody knows yet",
        [rule("odd", 150, direction="Both")],
        ["unknown by odd: 10.240.0.0/24"],
    ),
    (
        "a port that nobody knows yet",
        [rule("odd", 150, ports="kubelet")],
        ["unknown by odd: 10.240.0.0/24"],
    ),
    (
        "a port that nobody knows yet beside the one that is asked about",
        [rule("deny", 150, ports="10250 kubelet")],
        ["denied by deny: 10.240.0.0/24"],
    ),
    ("a rule without source", [rule("odd", 150, sources="")], ["unknown by odd: 10.240.0.0/24"]),
    ("a rule without ports", [rule("odd", 150, ports="")], ["unknown by odd: 10.240.0.0/24"]),
    (
        "every IPv6 address is no IPv4 one",
        [rule("deny", 150, sources="::/0", destinations="::/0")],
        ["allowed by AllowVnetInBound: 10.240.0.0/24"],
    ),
]


@pytest.mark.parametrize(("rules", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_which_rule_decides(rules: list[SecurityRule], expected: list[str]) -> None:
    """Node-to-node TCP 10250, inbound: each case with the rules that decide it, in their order."""
    assert decided(rules) == expected


@pytest.mark.parametrize(
    ("source", "destination", "direction", "expected"),
    [
        (NODES, NODES, "Outbound", ["allowed by AllowVnetOutBound: 10.240.0.0/24"]),
        (NODES, "20.0.0.1", "Outbound", ["allowed by AllowInternetOutBound: 10.240.0.0/24"]),
        (NODES, "192.168.1.1", "Outbound", ["denied by DenyAllOutBound: 10.240.0.0/24"]),
        (NODES, "100.64.0.1", "Outbound", ["denied by DenyAllOutBound: 10.240.0.0/24"]),
        ("20.0.0.1", NODES, "Inbound", ["denied by DenyAllInBound: 20.0.0.1/32"]),
        ("168.63.129.16", NODES, "Inbound", ["allowed by AllowVnetInBound: 168.63.129.16/32"]),
        (
            "168.63.129.16",
            "10.0.0.1",
            "Inbound",
            ["allowed by AllowAzureLoadBalancerInBound: 168.63.129.16/32"],
        ),
        (
            "10.240.0.0/24 20.0.0.0/24",
            NODES,
            "Inbound",
            ["allowed by AllowVnetInBound: 10.240.0.0/24", "denied by DenyAllInBound: 20.0.0.0/24"],
        ),
        ("fd00:10::/64", "fd00:10::/64", "Inbound", ["allowed by AllowVnetInBound: fd00:10::/64"]),
        ("fd00:99::1", "fd00:10::/64", "Inbound", ["denied by DenyAllInBound: fd00:99::1/128"]),
    ],
)
def test_default_rules(source: str, destination: str, direction: Direction, expected: list[str]) -> None:
    """A document without default rules is judged as if it had Azure's."""
    assert decided([], source=source, destination=destination, direction=Direction(direction)) == expected


def test_written_default_rules_are_not_doubled() -> None:
    """A group that comes with its default rules is judged by these, under their own ids."""
    written = read_nsg({"id": "/nsg", "defaultSecurityRules": default_rules()})
    packets = Box(parse_prefix("10.240.0.0/24"), EVERY_PORT, parse_prefix("10.240.0.0/24"), EVERY_PORT)
    question = Question(direction=Direction.INBOUND, protocol="tcp", packets=packets)
    tags = Tags.of_network(["10.240.0.0/16"])
    [decision] = evaluate(written, question, tags)
    assert (decision.verdict, decision.rule.id) == ("allowed", "/nsg/defaultSecurityRules/AllowVnetInBound")
    [alone] = evaluate(NetworkSecurityGroup(id="/nsg", name="nsg", rules=()), question, tags)
    assert (alone.verdict, alone.rule.id) == (decision.verdict, decision.rule.id)


def test_dual_stack_is_judged_family_by_family() -> None:
    """A deny of IPv4 leaves the IPv6 traffic of the same nodes, and the other way round."""
    both = "10.240.0.0/24 fd00:10::/64"
    four, six = rule("deny-4", 200, sources="10.0.0.0/8"), rule("deny-6", 200, sources="fd00::/8")
    assert decided([four], source=both, destination=both) == [
        "denied by deny-4: 10.240.0.0/24",
        "allowed by AllowVnetInBound: fd00:10::/64",
    ]
    assert decided([six], source=both, destination=both) == [
        "denied by deny-6: fd00:10::/64",
        "allowed by AllowVnetInBound: 10.240.0.0/24",
    ]


def test_sources_and_destinations_of_a_decision() -> None:
    """A decision knows both ends of what it decides: here one subnet to another, and no other pair."""
    question = Question(
        direction=Direction.INBOUND,
        protocol="tcp",
        packets=Box(
            parse_prefixes((NODES, PODS)),
            EVERY_PORT,
            parse_prefixes((NODES, PODS)),
            IntervalSet(((10250, 10250),)),
        ),
    )
    group = nsg("nodes", rule("deny", 200, sources=PODS, destinations=NODES))
    denied, allowed = evaluate(group, question, Tags.of_network(["10.240.0.0/15"]))
    assert (to_prefixes(denied.sources), to_prefixes(denied.destinations)) == ((PODS,), (NODES,))
    assert allowed.rule.name == "AllowVnetInBound"
    assert allowed.sources == allowed.destinations == parse_prefixes((NODES, PODS))


@pytest.mark.parametrize(
    ("odd", "code", "words"),
    [
        (
            rule("r", 150, sources="Sql"),
            "unknown_service_tag",
            'the source service tag "Sql" could not be resolved',
        ),
        (
            rule("r", 150, destinations="Sql Storage"),
            "unknown_service_tag",
            'the destination service tag "Sql", service tag "Storage" could not be resolved',
        ),
        (
            rule("r", 150, sources="", source_groups="/x/applicationSecurityGroups/web"),
            "unknown_security_group",
            'the source application security group "web" could not be resolved',
        ),
        (rule("r", 150, "AlwaysAllow"), "unknown_rule_value", 'its access "AlwaysAllow" is not known'),
        (rule("r", 150, protocol="Quic"), "unknown_rule_value", 'its protocol "Quic" is not known'),
        (rule("r", 150, direction="Both"), "unknown_rule_value", 'its direction "Both" is not known'),
        (
            rule("r", 150, ports="kubelet"),
            "unknown_rule_value",
            'its destination port "kubelet" is not known',
        ),
        (rule("r", 150, sources=""), "unknown_rule_value", "it names no source address"),
        (rule("r", 150, source_ports=""), "unknown_rule_value", "it names no source port"),
    ],
)
def test_a_doubt_says_what_is_not_known(odd: SecurityRule, code: str, words: str) -> None:
    """Code and words, naming the value as it is written."""
    packets = Box(parse_prefix(NODES), EVERY_PORT, parse_prefix(NODES), EVERY_PORT)
    question = Question(direction=Direction.INBOUND, protocol="tcp", packets=packets)
    decisions = evaluate(nsg("nodes", odd), question, Tags.of_network([NODES]))
    [doubt] = [one.doubt for one in decisions if one.doubt]
    assert (doubt.code, doubt.why) == (code, words)


# --- security admin rules ------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(groups(), questions())
def test_admin_rules_fare_as_the_oracle_says(document: Document, question: Question) -> None:
    """Allow passes a packet on, AlwaysAllow and Deny are final; where none matches, it goes on as well."""
    rules = AdminRules(network_id="/vnet", rules=read_nsg(document | {"defaultSecurityRules": []}).rules)
    found: dict[Packet, tuple[str, frozenset[Effect]]] = {}
    for decision in evaluate_admin(rules, question, TAGS):
        for box in decision.packets:
            for packet in packets_of(box):
                assert packet not in found
                found[packet] = (decision.verdict, decision.possible)
    effects = {"allow": {"passed"}, "alwaysallow": {"allowed"}, "deny": {"denied"}}
    for packet in packets_of(question.packets):
        possible: set[str] = set()
        for one in sorted(document["securityRules"], key=lambda each: int(each["priority"])):
            match = matches(one, question, packet)
            if match is not False:
                possible |= effects.get(one["access"].lower(), {"passed", "allowed", "denied"})
            if match:
                break
        else:
            possible.add("passed")
        verdict = "unknown" if len(possible) > 1 else next(iter(possible))
        assert (packet, found[packet][0], set(found[packet][1])) == (packet, verdict, possible)


ADMIN: list[tuple[str, list[SecurityRule], list[str]]] = [
    ("no rule at all", [], ["passed by -: 10.240.0.0/24"]),
    ("a deny", [DENY], ["denied by deny: 10.240.0.0/24"]),
    ("an allow only passes on", [ALLOW, DENY], ["passed by allow: 10.240.0.0/24"]),
    (
        "an always-allow is final",
        [rule("always", 10, "AlwaysAllow", sources="10.240.0.0/25"), DENY],
        ["allowed by always: 10.240.0.0/25", "denied by deny: 10.240.0.128/25"],
    ),
    (
        "a priority below 100",
        [rule("first", 1), rule("second", 2, "Allow")],
        ["denied by first: 10.240.0.0/24"],
    ),
    ("another port", [rule("deny", 10, ports="22")], ["passed by -: 10.240.0.0/24"]),
    (
        "a network group",
        [rule("deny", 10, sources="/x/networkManagers/m/networkGroups/prod")],
        ["unknown by deny: 10.240.0.0/24"],
    ),
    (
        "a doubt that changes nothing",
        [rule("allow", 10, "Allow", sources="Sql")],
        ["passed by -: 10.240.0.0/24"],
    ),
]


@pytest.mark.parametrize(("rules", "expected"), [case[1:] for case in ADMIN], ids=[case[0] for case in ADMIN])
def test_which_admin_rule_decides(rules: list[SecurityRule], expected: list[str]) -> None:
    """Node-to-node TCP 10250, inbound, before any group is asked."""
    packets = Box(parse_prefix(NODES), EVERY_PORT, parse_prefix(NODES), IntervalSet(((10250, 10250),)))
    question = Question(direction=Direction.INBOUND, protocol="tcp", packets=packets)
    decisions = evaluate_admin(AdminRules(network_id="/vnet", rules=tuple(rules)), question, TAGS)
    assert [
        f"{one.verdict} by {one.rule.name if one.rule else '-'}: {' '.join(to_prefixes(one.sources))}"
        for one in decisions
    ] == expected


# --- why a rule was passed over ------------------------------------------------------------------


@LAW
@given(groups(), questions())
def test_every_rule_decides_or_is_passed_over(document: Document, question: Question) -> None:
    """Each rule of the direction is told once; a field that is said to miss matches no packet at all."""
    group = read_nsg(document)
    decisions = evaluate(group, question, TAGS)
    deciding = {one.rule.id for one in decisions}
    over = passed_over(group, question, TAGS, deciding)
    other = {"Inbound": "outbound", "Outbound": "inbound"}[question.direction]
    ours = [
        one
        for one in (*document["securityRules"], *(document["defaultSecurityRules"] or default_rules()))
        if (one["direction"] or "").lower() != other
    ]
    assert sorted(
        [one.name for one in over] + [rule_id.rsplit("/", 1)[-1] for rule_id in deciding]
    ) == sorted(one["name"] for one in ours)
    by_name = {one["name"]: one for one in ours}
    for told in over:
        missed = not all(
            (
                told.protocol_matched,
                told.source_matched,
                told.source_port_matched,
                told.destination_matched,
                told.destination_port_matched,
            )
        )
        assert missed == ("not match" in told.why)
        if missed:
            some = [matches(by_name[told.name], question, packet) for packet in packets_of(question.packets)]
            assert set(some) == {False}


@pytest.mark.parametrize(
    ("passed", "fields", "why"),
    [
        (rule("r", 100, protocol="Udp"), ["protocol"], "its protocol does not match"),
        (rule("r", 100, sources="10.9.0.0/16"), ["source"], "its source does not match"),
        (
            rule("r", 100, source_ports="0"),
            [],
            "rules with lower priority numbers decide all that it matches",
        ),
        (rule("r", 100, destinations="10.9.0.0/16"), ["destination"], "its destination does not match"),
        (rule("r", 100, ports="22"), ["destination_port"], "its destination port does not match"),
        (
            rule("r", 100, sources="Internet", ports="22"),
            ["source", "destination_port"],
            "its source, destination port do not match",
        ),
        (rule("r", 300), [], "rules with lower priority numbers decide all that it matches"),
    ],
)
def test_why_a_rule_was_passed_over(passed: SecurityRule, fields: list[str], why: str) -> None:
    """The fields that match nothing; or the rules above it, which leave it nothing."""
    first = rule("first", 50) if passed.source_ports == ("0",) else rule("first", 200)
    packets = Box(parse_prefix(NODES), EVERY_PORT, parse_prefix(NODES), IntervalSet(((10250, 10250),)))
    question = Question(direction=Direction.INBOUND, protocol="tcp", packets=packets)
    group, tags = nsg("nodes", first, passed), Tags.of_network([NODES])
    deciding = {one.rule.id for one in evaluate(group, question, tags)}
    told = next(one for one in passed_over(group, question, tags, deciding) if one.name == "r")
    names = ("protocol", "source", "source_port", "destination", "destination_port")
    assert [name for name in names if not getattr(told, f"{name}_matched")] == fields
    assert told.why == why


# --- tags and priorities -------------------------------------------------------------------------


def test_tags_of_a_network() -> None:
    """VirtualNetwork holds the platform's address; Internet nothing of the network and nothing private."""
    tags = Tags.of_network(("10.240.0.0/16", "20.5.0.0/16"), {"Sql": parse_prefix("20.9.0.0/16")}).addresses
    assert set(tags) == {"virtualnetwork", "azureloadbalancer", "internet", "sql"}
    for inside in ("10.240.0.0/16", "20.5.0.0/16", "168.63.129.16"):
        assert not parse_prefix(inside) - tags["virtualnetwork"]
        assert not parse_prefix(inside) & tags["internet"]
    for private in ("10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "127.0.0.1", "fd00::1", "fe80::1"):
        assert not parse_prefix(private) & (tags["virtualnetwork"] | tags["internet"])
    assert not parse_prefixes(("20.6.0.0/16", "2603:1020::/32")) - tags["internet"]


@pytest.mark.parametrize(
    ("taken", "below", "expected"),
    [
        ([], 200, 199),
        ([199], 200, 198),
        ([199, 198, 150], 200, 197),
        ([], 101, 100),
        ([100], 101, None),
        ([], 100, None),
        ([], 50, None),
        ([], 4096, 4095),
        ([], 65500, 4096),
        ([4096, 4095], 65000, 4094),
        (list(range(100, 200)), 200, None),
        (list(range(101, 4097)), 65500, 100),
        (list(range(100, 4097)), 65500, None),
    ],
)
def test_free_priority(taken: list[int], below: int, expected: int | None) -> None:
    """The highest free number under another one, of 100-4096."""
    group = nsg("nodes", *(rule(f"r{number}", number) for number in taken))
    assert free_priority(group, Direction.INBOUND, below) == expected


def test_each_direction_has_its_own_priorities() -> None:
    """A number that an outbound rule has is free inbound; the direction's case does not count."""
    group = nsg("nodes", rule("out", 199, direction="Outbound"), rule("in", 198, direction="INBOUND"))
    assert free_priority(group, Direction.INBOUND, 200) == 199
    assert free_priority(group, Direction.INBOUND, 199) == 197
    assert free_priority(group, Direction.OUTBOUND, 200) == 198
