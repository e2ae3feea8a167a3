"""The route engine: against an oracle that walks single addresses, by laws, and by table."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import product
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from facts.filters import Route, RouteTable
from packets.addresses import IntervalSet, parse_prefix, parse_prefixes, to_prefixes
from packets.decisions import Doubt
from packets.routes import (
    GATEWAY_ROUTES,
    Way,
    appliances,
    effective,
    names_tag,
    parse_cidr,
    system_routes,
    ways,
)
from packets.tags import Tags

LAW = settings(deadline=None, max_examples=150)

# --- a tiny universe -----------------------------------------------------------------------------

PLATFORM = "168.63.129.16"
UNIVERSE = (
    *(str(address) for address in ipaddress.ip_network("10.0.0.0/29")),
    *(str(address) for address in ipaddress.ip_network("fd00::/126")),
    "10.0.0.9",
    "20.0.0.4",
    "20.0.0.5",
    PLATFORM,
)
PUBLISHED = {
    "storage": ("10.0.0.0/30", "20.0.0.4/31", "fd00::/127"),
    "storage.westeurope": ("10.0.0.2/31", "10.0.0.0/30", "20.0.0.5", "20.0.0.4/31"),
    "azurecloud": ("10.0.0.0/29", "20.0.0.0/8", "10.0.0.0/30", "fd00::/126"),
    "azurecloud.westeurope": ("10.0.0.4/30", "10.0.0.0/29", "20.0.0.0/8"),
    "azuread": (),
}
SETS = {"cosmos": ("10.0.0.0/30", "10.0.0.4/31", "fd00::2/127"), "partly": ("10.0.0.6/31",)}
"""Tags of which only the addresses are known."""
BEYOND = {"partly": ("20.0.0.4/31",)}
"""What a tag may hold besides."""
TAGS = Tags(
    {name: parse_prefixes(prefixes) for name, prefixes in SETS.items()},
    perhaps={name: parse_prefixes(prefixes) for name, prefixes in BEYOND.items()},
)

CERTAIN = (
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.0.0/29",
    "10.0.0.3/29",
    "10.0.0.0/30",
    "10.0.0.4/30",
    "10.0.0.2/31",
    "10.0.0.5",
    "10.0.0.5/32",
    "20.0.0.0/8",
    "20.0.0.4/31",
    "168.63.0.0/16",
    "::/0",
    "fd00::/126",
    "fd00::2/127",
    "FD00::1",
)
CERTAIN_TAGS = ("Storage", "Storage.WestEurope", "AzureCloud", "AzureCloud.WestEurope", "AzureAD")
DOUBTFUL = ("Sql", "Cosmos", "Partly", "10.0.0.0/33", "10.0.0.0-10.0.0.3", "*", "")
HOPS = (
    ("Internet", ()),
    ("VnetLocal", ()),
    ("VNetPeering", ()),
    ("VNetGlobalPeering", ()),
    ("VirtualNetworkServiceEndpoint", ()),
    ("None", ()),
    ("none", ()),
    ("VirtualNetworkGateway", ()),
    ("VirtualAppliance", ("10.9.0.4",)),
    ("VirtualAppliance", ("10.9.0.5",)),
    ("VirtualApplianceEcmp", ("10.9.0.5", "10.9.0.4")),
    ("VirtualAppliance", ("10.9.0.4", "10.9.0.5")),
    ("VirtualAppliance", ()),
    ("Teleport", ()),
)
SOURCES = ("user", "user", "bgp", "system", "system")


@st.composite
def routes_of(draw: st.DrawFn, prefixes: Sequence[str], name: str, most: int) -> list[Route]:
    """Some routes with prefixes from a list, of any source and with any hop."""
    found = []
    for number in range(draw(st.integers(0, most))):
        hop, addresses = draw(st.sampled_from(HOPS))
        found.append(
            Route(
                name=f"{name}-{number}",
                prefix=draw(st.sampled_from(prefixes)),
                hop=hop,
                addresses=addresses,
                source=draw(st.sampled_from(SOURCES)),
            )
        )
    return found


@st.composite
def route_lists(draw: st.DrawFn) -> list[Route]:
    """Routes with prefixes that are known and at most two with others, in any order."""
    routes = draw(routes_of(CERTAIN, "plain", 5))
    routes += draw(routes_of(CERTAIN_TAGS, "tag", 2))
    routes += draw(routes_of(DOUBTFUL, "doubt", 2))
    return draw(st.permutations(routes))


NUMBERS = {address: parse_prefix(address).intervals[0][0] for address in UNIVERSE}
QUESTIONS = st.lists(st.sampled_from(UNIVERSE), min_size=1, unique=True).map(parse_prefixes)


def led(routes: Sequence[Route], destinations: IntervalSet) -> tuple[Way, ...]:
    """The ways with the tags of the universe."""
    return ways(routes, destinations, TAGS, published=PUBLISHED)


def name_of(way: Way) -> str | None:
    """The name of the route that decides, or that is in doubt."""
    return way.route.name if way.route else None


def by_address(found: Iterable[Way]) -> dict[str, Way]:
    """The way of every address of the universe, apart from its other destinations; none has two."""
    each: dict[str, Way] = {}
    for way in found:
        for address, number in NUMBERS.items():
            if number in way.destinations:
                assert address not in each
                each[address] = structs.replace(way, destinations=parse_prefix(address))
    return each


# --- the oracle: one address, every possible world, with ipaddress only --------------------------

Lead = tuple[str, frozenset[str]]
_PEERS = {"vnetpeering", "vnetglobalpeering"}


def lead(route: Route | None) -> Lead:
    """Where a route leads to."""
    hop = route.hop.lower() if route else "none"
    where = frozenset(route.addresses if route else ())
    if hop.startswith("virtualappliance"):
        return ("appliance", where) if where else ("unknown", frozenset({hop}))
    if hop == "virtualnetworkgateway":
        return ("gateway", frozenset())
    if hop == "none":
        return ("dropped", frozenset())
    if hop == "teleport":
        return ("unknown", frozenset({hop}))
    return ("carried", frozenset({"peer" if hop in _PEERS else hop}))


def longest(prefixes: Iterable[str], address: str) -> int | None:
    """The length of the most specific prefix that holds an address."""
    one = ipaddress.ip_address(address)
    networks = [ipaddress.ip_network(prefix, strict=False) for prefix in prefixes]
    lengths = [network.prefixlen for network in networks if one in network]
    return max(lengths, default=None)


@cache
def shortest_within(name: str, address: str) -> int | None:
    """How short a prefix around an address may be that holds nothing but members of a tag."""
    members = [str(one) for prefix in SETS[name] for one in ipaddress.ip_network(prefix)]
    if address not in members:
        return None
    host = ipaddress.ip_address(address).max_prefixlen
    for length in range(host - 4, host + 1):
        network = ipaddress.ip_network(f"{address}/{length}", strict=False)
        if all(str(one) in members for one in network):
            return length
    raise AssertionError("an address is within itself")


@cache
def lengths(prefix: str, address: str) -> tuple[frozenset[int | None], bool]:
    """The lengths that a prefix may have around an address (`None`: not there), and if they are sure."""
    host = ipaddress.ip_address(address).max_prefixlen
    name = prefix.lower()
    if name in PUBLISHED:
        return frozenset({longest(PUBLISHED[name], address)}), True
    if name in SETS:
        least = shortest_within(name, address)
        if least is not None:
            return frozenset(range(least, host + 1)), False
        if longest(BEYOND.get(name, ()), address) is None:
            return frozenset({None}), True
        return frozenset({None, *range(host + 1)}), False
    if prefix in DOUBTFUL:
        return frozenset({None, *range(host + 1)}), False
    return frozenset({longest((prefix,), address)}), True


def rank(route: Route) -> tuple[int, int]:
    """What decides between equal prefixes."""
    name = route.prefix.lower()
    tags = ("azurecloud", "azurecloud.westeurope", "storage", "storage.westeurope")
    kinds = {
        "sql": 2,
        "cosmos": 2,
        "partly": 2,
        "azuread": 2,
        **{tag: number for number, tag in enumerate(tags)},
    }
    return ("system", "bgp", "user").index(route.source), kinds.get(name, 9)


def winners(world: Sequence[tuple[Route, int]]) -> list[Route]:
    """The routes that decide where it is known which there are; several if they are equals."""
    endpoints = [
        one for one in world if one[0].source == "system" and one[0].hop == "VirtualNetworkServiceEndpoint"
    ]
    if endpoints:
        world = endpoints
    elif any(one.source == "system" and one.hop.lower() in {"vnetlocal", *_PEERS} for one, _ in world):
        world = [one for one in world if one[0].source != "bgp"]
    best = max(((length, *rank(route)) for route, length in world), default=None)
    return [route for route, length in world if (length, *rank(route)) == best]


def judge(routes: Sequence[Route], address: str) -> tuple[str, set[Route | None], set[Route | None]]:
    """The verdict, the routes that may decide, and those that do if what is in doubt is as weak as can be."""
    if address == PLATFORM:
        return "carried", set(), set()
    options = [lengths(route.prefix, address) for route in routes]
    known = {length for found, sure in options if sure for length in found if length is not None}
    # Of the lengths that are possible only their order among the known ones matters.
    telling = {0, 32, 128, *known, *(length + 1 for length in known), *(length - 1 for length in known)}
    choices: list[list[int | None]] = []
    for found, _ in options:
        least = min((length for length in found if length is not None), default=None)
        choices.append([length for length in found if length in telling | {None, least}])
    possible: set[Route | None] = set()
    for world in product(*choices):
        there = [(route, length) for route, length in zip(routes, world, strict=True) if length is not None]
        possible |= set(winners(there)) or {None}
    weakest = [
        (route, min(length for length in found if length is not None))
        for route, (found, _) in zip(routes, options, strict=True)
        if None not in found
    ]
    leads = {lead(route) for route in possible}
    verdict = leads.pop()[0] if len(leads) == 1 else "unknown"
    return verdict, possible, set(winners(weakest)) or {None}


@settings(deadline=None, max_examples=400)
@given(route_lists(), QUESTIONS)
def test_every_address_fares_as_the_oracle_says(routes: list[Route], destinations: IntervalSet) -> None:
    """Carried, dropped, led on or unknown, address by address, and by the routes that may decide."""
    found = by_address(led(routes, destinations))
    assert set(found) == {address for address, number in NUMBERS.items() if number in destinations}
    for address, way in found.items():
        verdict, possible, deciding = judge(routes, address)
        assert (address, way.verdict) == (address, verdict)
        if address == PLATFORM:
            continue
        if len({lead(route) for route in possible}) > 1:
            assert (address, set(way.possible)) == (address, possible)
            assert way.route in possible
        else:
            assert (address, way.route in deciding) == (address, True)
            assert way.possible == (way.route,)


@LAW
@given(route_lists())
def test_ways_partition_the_destinations(routes: list[Route]) -> None:
    """Together they hold what was asked about, and nothing twice; what is unknown has a doubt."""
    asked = parse_prefixes(("10.0.0.0/27", "fd00::/123", "20.0.0.0/28", "168.63.129.0/24"))

    def size(addresses: IntervalSet) -> int:
        return sum(high - low + 1 for low, high in addresses.intervals)

    found = led(routes, asked)
    assert all(way.destinations and (way.destinations & asked) == way.destinations for way in found)
    assert sum(size(way.destinations) for way in found) == size(asked)
    assert not any(
        one.destinations & other.destinations for index, one in enumerate(found) for other in found[:index]
    )
    assert all((way.doubt is not None) == (way.verdict == "unknown") for way in found)
    assert all(bool(way.addresses) == (way.verdict == "appliance") for way in found)
    kept = [(way.route, way.verdict, way.doubt, way.possible) for way in found]
    assert all(kept.index(one) == place for place, one in enumerate(kept))


# --- laws ----------------------------------------------------------------------------------------


@LAW
@given(route_lists(), QUESTIONS, st.randoms(use_true_random=False))
def test_the_order_in_the_document_does_not_matter(
    routes: list[Route], destinations: IntervalSet, random: Random
) -> None:
    """Prefix, source and kind alone order routes: the answer stays the same to the letter."""
    shuffled = list(routes)
    random.shuffle(shuffled)
    assert led(shuffled, destinations) == led(routes, destinations)


@LAW
@given(route_lists(), QUESTIONS)
def test_saying_it_again_changes_nothing(routes: list[Route], destinations: IntervalSet) -> None:
    """A route that is there twice agrees with itself."""
    assert led([*routes, *routes], destinations) == led(routes, destinations)


@LAW
@given(route_lists(), QUESTIONS)
def test_a_part_of_a_question_has_a_part_of_its_answer(
    routes: list[Route], destinations: IntervalSet
) -> None:
    """Asked about one way's destinations alone, the routes say of them what they said before."""
    for way in led(routes, destinations):
        assert led(routes, way.destinations) == (way,)


@LAW
@given(route_lists(), routes_of(CERTAIN, "more", 1))
def test_a_route_changes_nothing_outside_its_prefix(routes: list[Route], more: list[Route]) -> None:
    """However specific and wherever it leads, what it does not match fares as before."""
    everything = parse_prefixes(UNIVERSE)
    before = by_address(led(routes, everything))
    after = by_address(led([*routes, *more], everything))
    for address, way in before.items():
        if all(longest((route.prefix,), address) is None for route in more):
            assert after[address] == way


@LAW
@given(route_lists(), QUESTIONS, st.sampled_from((str.upper, str.lower, str.swapcase)))
def test_case_does_not_matter(routes: list[Route], destinations: IntervalSet, respell: Any) -> None:
    """Next hops, service tags and addresses may be written in any case."""

    def verdicts(listed: Sequence[Route]) -> dict[str, tuple[str, str | None]]:
        found = by_address(led(listed, destinations))
        return {address: (way.verdict, name_of(way)) for address, way in found.items()}

    other = [structs.replace(one, prefix=respell(one.prefix), hop=respell(one.hop)) for one in routes]
    assert verdicts(other) == verdicts(routes)


@LAW
@given(route_lists(), QUESTIONS)
def test_appliances_are_those_of_routes_that_may_decide(
    routes: list[Route], destinations: IntervalSet
) -> None:
    """An address is listed exactly if a route may lead to it, in doubt or for sure."""
    wanted = {
        address
        for target, number in NUMBERS.items()
        if number in destinations and target != PLATFORM
        for route in judge(routes, target)[1]
        if route is not None and lead(route)[0] == "appliance"
        for address in route.addresses
    }
    assert set(appliances(routes, destinations, TAGS, published=PUBLISHED)) == wanted


# --- awkward cases, and the route that decides each ----------------------------------------------

NETWORK = ("10.0.0.0/16", "fd00:10::/64")
PEERED = ("10.1.0.0/16",)
OWN = system_routes(NETWORK, PEERED)
API = "20.1.0.4"
KNOWN = {
    "sql": ("20.1.0.0/25", "20.1.0.4/32", "20.2.0.0/16"),
    "sql.westeurope": ("20.1.0.0/24", "20.2.0.0/16"),
    "azurecloud": ("20.0.0.0/8", "20.2.0.0/16"),
    "azurecloud.westeurope": ("20.1.0.0/24", "20.2.0.0/16"),
    "wide": ("0.0.0.0/3", " 200.0.0.0/7", "222.0.0.0/254.0.0.0", "fc00::/7"),
}


def user(name: str, prefix: str, hop: str = "VirtualAppliance", addresses: str = "10.0.9.4") -> Route:
    """A user-defined route, to a firewall unless said otherwise."""
    where = tuple(addresses.split()) if hop.lower().startswith("virtualappliance") else ()
    return Route(name=name, prefix=prefix, hop=hop, addresses=where)


def bgp(name: str, prefix: str, addresses: str = "10.0.8.4") -> Route:
    """A route that a gateway learned."""
    hop = "VirtualNetworkGateway"
    return Route(name=name, prefix=prefix, hop=hop, addresses=(addresses,), source="bgp")


def azure(name: str, prefix: str, hop: str) -> Route:
    """A system route."""
    return Route(name=name, prefix=prefix, hop=hop, source="system")


def decided(routes: Sequence[Route], to: str, *, known: Mapping[str, Sequence[str]] = KNOWN) -> list[str]:
    """What becomes of destinations: `carried by NAME: CIDRs`, in their order."""
    found = ways(routes, parse_prefixes(to.split()), Tags({}), published=known)
    return [
        f"{way.verdict} by {name_of(way) or 'no route'}: {' '.join(to_prefixes(way.destinations))}"
        for way in found
    ]


DEFAULT = user("default", "0.0.0.0/0")

CASES: list[tuple[str, list[Route], str, list[str]]] = [
    ("Azure's own default route", [*OWN], API, [f"carried by 0.0.0.0/0: {API}/32"]),
    ("a default route overrides it", [*OWN, DEFAULT], API, [f"appliance by default: {API}/32"]),
    ("0.0.0.0/0 is about IPv4 only", [*OWN, DEFAULT], "2603::4", ["carried by ::/0: 2603::4/128"]),
    (
        "::/0 is about IPv6 only",
        [*OWN, user("six", "::/0", "None")],
        f"2603::4 {API}",
        [f"carried by 0.0.0.0/0: {API}/32", "dropped by six: 2603::4/128"],
    ),
    (
        "a default route leaves the network and its peers alone",
        [*OWN, DEFAULT],
        "10.0.0.0/24 10.1.0.0/24",
        ["carried by 10.0.0.0/16: 10.0.0.0/24", "carried by 10.1.0.0/16: 10.1.0.0/24"],
    ),
    (
        "it takes private addresses only where no reserved range does",
        [*OWN, DEFAULT],
        "10.2.0.0/24 192.169.0.0/24",
        ["dropped by 10.0.0.0/8: 10.2.0.0/24", "appliance by default: 192.169.0.0/24"],
    ),
    (
        "a user route with the network's own prefix",
        [*OWN, user("inside", "10.0.0.0/16")],
        "10.0.0.0/24",
        ["appliance by inside: 10.0.0.0/24"],
    ),
    (
        "a user route within the network",
        [*OWN, user("inside", "10.0.0.128/25", "None")],
        "10.0.0.0/24",
        ["carried by 10.0.0.0/16: 10.0.0.0/25", "dropped by inside: 10.0.0.128/25"],
    ),
    (
        "the most specific of three, cut out of the others",
        [DEFAULT, user("drop", "20.1.0.0/24", "None"), user("out", "20.1.0.4", "Internet")],
        "20.1.0.0/29",
        [
            "dropped by drop: 20.1.0.0/30 20.1.0.5/32 20.1.0.6/31",
            "carried by out: 20.1.0.4/32",
        ],
    ),
    (
        "host bits in a prefix",
        [user("drop", "20.1.0.77/25", "None"), *OWN],
        "20.1.0.0/24",
        ["dropped by drop: 20.1.0.0/25", "carried by 0.0.0.0/0: 20.1.0.128/25"],
    ),
    ("no route at all", [user("other", "20.9.0.0/16")], API, [f"dropped by no route: {API}/32"]),
    (
        "a BGP route that is more specific than a user route",
        [*OWN, DEFAULT, bgp("learned", "20.1.0.0/16")],
        API,
        [f"gateway by learned: {API}/32"],
    ),
    (
        "a user route before a BGP route before a system route, at one prefix",
        [*OWN, DEFAULT, bgp("learned", "0.0.0.0/0")],
        API,
        [f"appliance by default: {API}/32"],
    ),
    (
        "a BGP route before a system route, at one prefix",
        [*OWN, bgp("learned", "0.0.0.0/0")],
        API,
        [f"gateway by learned: {API}/32"],
    ),
    (
        "routes to the network and its peers before more specific BGP routes",
        [*OWN, bgp("learned", "10.0.0.0/24"), bgp("too", "10.1.0.0/24")],
        "10.0.0.4 10.1.0.4",
        ["carried by 10.0.0.0/16: 10.0.0.4/32", "carried by 10.1.0.0/16: 10.1.0.4/32"],
    ),
    (
        "a BGP route does not come back where a user route is between the two",
        [*OWN, bgp("learned", "10.0.0.0/24"), user("inside", "10.0.0.0/20")],
        "10.0.0.4",
        ["appliance by inside: 10.0.0.4/32"],
    ),
    (
        "a reserved range is no route to the network: BGP routes within it count",
        [*OWN, bgp("learned", "10.2.0.0/16")],
        "10.2.0.4",
        ["gateway by learned: 10.2.0.4/32"],
    ),
    (
        "a user route to VnetLocal is not preferred",
        [user("near", "10.0.0.0/16", "VnetLocal"), bgp("learned", "10.0.0.0/24")],
        "10.0.0.4",
        ["gateway by learned: 10.0.0.4/32"],
    ),
    (
        "a service endpoint before whatever is more specific",
        [
            azure("endpoint", "20.1.0.0/24", "VirtualNetworkServiceEndpoint"),
            user("drop", "20.1.0.4/32", "None"),
            bgp("learned", "20.1.0.0/25"),
        ],
        API,
        [f"carried by endpoint: {API}/32"],
    ),
    (
        "a connected group and a private endpoint",
        [
            *OWN,
            azure("mesh", "10.7.0.0/16", "ConnectedGroup"),
            azure("pe", "10.0.0.5/32", "InterfaceEndpoint"),
        ],
        "10.7.0.0/24 10.0.0.5",
        ["carried by pe: 10.0.0.5/32", "carried by mesh: 10.7.0.0/24"],
    ),
    (
        "the platform's address is not subject to routes",
        [user("all", "0.0.0.0/0", "None"), user("one", "168.63.129.16/32", "None")],
        "168.63.129.16/31",
        ["carried by Azure platform: 168.63.129.16/32", "dropped by all: 168.63.129.17/32"],
    ),
    (
        "not even to a service endpoint's that may be there",
        [azure("endpoint", "", "VirtualNetworkServiceEndpoint"), user("all", "0.0.0.0/0", "None")],
        "168.63.129.16/31",
        ["carried by Azure platform: 168.63.129.16/32", "unknown by endpoint: 168.63.129.17/32"],
    ),
    (
        "a tag stands for its prefixes, each as specific as it is",
        [DEFAULT, user("sql", "Sql", "Internet"), user("drop", "20.1.0.0/28", "None")],
        "20.1.0.0/29 20.1.0.64 20.1.0.128",
        [
            "dropped by drop: 20.1.0.0/30 20.1.0.5/32 20.1.0.6/31",
            "carried by sql: 20.1.0.4/32 20.1.0.64/32",
            "appliance by default: 20.1.0.128/32",
        ],
    ),
    (
        "a tag whose prefixes are wider than any that Azure publishes",
        [user("wide", "Wide", "Internet"), DEFAULT, user("six", "::/0", "None")],
        "1.0.0.4 20.1.0.4 128.0.0.4 200.0.0.4 223.0.0.4 fd00::4 2603::4",
        [
            "carried by wide: 1.0.0.4/32 20.1.0.4/32 200.0.0.4/32 223.0.0.4/32 fd00::4/128",
            "appliance by default: 128.0.0.4/32",
            "dropped by six: 2603::4/128",
        ],
    ),
    (
        "at one prefix a regional tag before a top-level one",
        [user("top", "Sql", "None"), user("region", "SQL.WestEurope", "Internet")],
        "20.2.0.4",
        ["carried by region: 20.2.0.4/32"],
    ),
    (
        "though not if the top-level one is more specific there",
        [user("top", "Sql", "None"), user("region", "Sql.WestEurope", "Internet")],
        "20.1.0.4 20.1.0.200",
        ["dropped by top: 20.1.0.4/32", "carried by region: 20.1.0.200/32"],
    ),
    (
        "a top-level tag before a region of AzureCloud",
        [user("cloud", "AzureCloud.WestEurope", "None"), user("sql", "Sql", "Internet")],
        "20.2.0.4",
        ["carried by sql: 20.2.0.4/32"],
    ),
    (
        "a region of AzureCloud before AzureCloud",
        [user("cloud", "AzureCloud", "None"), user("region", "AzureCloud.WestEurope", "Internet")],
        "20.2.0.4",
        ["carried by region: 20.2.0.4/32"],
    ),
    (
        "a prefix before a tag at the same length",
        [user("region", "Sql.WestEurope", "Internet"), user("drop", "20.2.0.0/16", "None")],
        "20.2.0.4",
        ["dropped by drop: 20.2.0.4/32"],
    ),
    (
        "an unknown tag takes whatever leads elsewhere, but not what a route to the host takes",
        [DEFAULT, user("cosmos", "Cosmos", "Internet"), user("host", "20.1.0.5/32")],
        "20.1.0.4/31",
        ["unknown by cosmos: 20.1.0.4/32", "appliance by host: 20.1.0.5/32"],
    ),
    (
        "an unknown tag that leads to the same appliance",
        [DEFAULT, user("cosmos", "Cosmos")],
        API,
        [f"appliance by default: {API}/32"],
    ),
    (
        "the same appliance, written in another way",
        [user("a", "::/0", addresses="fd00:10::4"), user("b", "Cosmos", addresses="FD00:0010:0::4")],
        "2603::4",
        ["appliance by a: 2603::4/128"],
    ),
    (
        "of two unknown tags the one that leads elsewhere is named, not the stronger",
        [DEFAULT, user("region", "Cosmos.WestEurope"), user("cosmos", "Cosmos", "Internet")],
        API,
        [f"unknown by cosmos: {API}/32"],
    ),
    (
        "an unknown tag that leads to another appliance",
        [DEFAULT, user("cosmos", "Cosmos", addresses="10.0.9.5")],
        API,
        [f"unknown by cosmos: {API}/32"],
    ),
    (
        "an unknown tag that drops what no route takes",
        [user("cosmos", "Cosmos", "None")],
        API,
        [f"dropped by no route: {API}/32"],
    ),
    (
        "one appliance of several is not all of them",
        [
            user("both", "0.0.0.0/0", "VirtualApplianceEcmp", "10.0.9.4 10.0.9.5"),
            user("same", "Cosmos", "VirtualAppliance", "10.0.9.5 10.0.9.4"),
            user("one", "AzureAD", "VirtualAppliance", "10.0.9.5"),
            user("host", "20.1.0.5/32", "VirtualAppliance", "10.0.9.5 10.0.9.4"),
        ],
        "20.1.0.4/31",
        ["unknown by one: 20.1.0.4/32", "appliance by host: 20.1.0.5/32"],
    ),
    (
        "two routes with one prefix that disagree",
        [user("a", "20.1.0.0/24"), user("b", "20.1.0.9/24", "None"), DEFAULT],
        f"{API} 20.2.0.4",
        [f"unknown by a: {API}/32", "appliance by default: 20.2.0.4/32"],
    ),
    (
        "two routes with one prefix that agree",
        [user("b", "20.1.0.0/24", "None"), user("a", "20.1.0.0/24", "none")],
        API,
        [f"dropped by a: {API}/32"],
    ),
    (
        "two that disagree below one that is more specific",
        [user("a", "20.1.0.0/24"), user("b", "20.1.0.0/24", "None"), user("out", "20.1.0.4", "Internet")],
        API,
        [f"carried by out: {API}/32"],
    ),
    (
        "two gateways are the gateway",
        [bgp("one", "20.1.0.0/24"), bgp("two", "20.1.0.0/24", "10.0.8.5")],
        API,
        [f"gateway by one: {API}/32"],
    ),
    (
        "a next hop from the future",
        [user("new", API, "Teleport"), DEFAULT],
        API,
        [f"unknown by new: {API}/32"],
    ),
    ("a next hop that is missing", [user("new", API, ""), DEFAULT], API, [f"unknown by new: {API}/32"]),
    (
        "an appliance without an address",
        [user("gone", API, addresses=""), DEFAULT],
        API,
        [f"unknown by gone: {API}/32"],
    ),
    (
        "a prefix that nobody can read",
        [user("odd", "20.1.0.0/33", "Internet"), DEFAULT],
        API,
        [f"unknown by odd: {API}/32"],
    ),
    (
        "routes that nobody can list go before what is less specific, not before the network's",
        [*OWN, DEFAULT, GATEWAY_ROUTES, user("host", "20.1.0.5/32")],
        f"{API}/31 10.0.0.4 10.9.0.4",
        [
            "carried by 10.0.0.0/16: 10.0.0.4/32",
            "unknown by gateway routes: 10.9.0.4/32",
            f"unknown by gateway routes: {API}/32",
            "appliance by host: 20.1.0.5/32",
        ],
    ),
]


@pytest.mark.parametrize(
    ("routes", "to", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_awkward_cases(routes: list[Route], to: str, expected: list[str]) -> None:
    """Each case names what becomes of every destination, and the route that decides it."""
    assert decided(routes, to) == expected


@pytest.mark.parametrize(
    ("routes", "tags", "code", "why"),
    [
        (
            [user("cosmos", "Cosmos", "None"), DEFAULT],
            Tags({}),
            "unknown_service_tag",
            'the destination service tag "Cosmos" could not be resolved',
        ),
        (
            [user("cosmos", "Cosmos", "None"), DEFAULT],
            Tags({}, unread=Doubt("permission_denied", "403")),
            "permission_denied",
            'the destination service tag "Cosmos" (403) could not be resolved',
        ),
        (
            [user("cosmos", "Cosmos", "None"), user("near", "20.1.0.0/24")],
            Tags({"cosmos": parse_prefix("20.1.0.0/16")}),
            "unknown_service_tag",
            'how specific the prefixes of the service tag "Cosmos" are is not known',
        ),
        (
            [user("odd", "20.1.0.0/33", "None"), DEFAULT],
            Tags({}),
            "unknown_route_value",
            'its prefix "20.1.0.0/33" could not be read',
        ),
        ([user("odd", "", "None"), DEFAULT], Tags({}), "unknown_route_value", "its prefix is missing"),
        (
            [GATEWAY_ROUTES, DEFAULT],
            Tags({}),
            "unknown_gateway_routes",
            "the routes that the gateway learned are not known",
        ),
        (
            [user("new", API, "Teleport")],
            Tags({}),
            "unknown_route_value",
            'its next hop type "Teleport" is not known',
        ),
        ([user("new", API, "")], Tags({}), "unknown_route_value", "its next hop type is missing"),
        (
            [user("gone", API, addresses="")],
            Tags({}),
            "unknown_route_value",
            "the address of its appliance is missing",
        ),
        (
            [user("a", API, "None"), user("b", API)],
            Tags({}),
            "conflicting_routes",
            'route "b" has the same prefix and leads elsewhere',
        ),
        (
            [user("a", API, "None"), user("c", API), user("b", API, "Internet")],
            Tags({}),
            "conflicting_routes",
            'route "b" has the same prefix and leads elsewhere',
        ),
    ],
)
def test_what_is_unknown_says_why(routes: list[Route], tags: Tags, code: str, why: str) -> None:
    """A doubt names what is missing, for machines and in a clause that follows "but"."""
    [way] = ways(routes, parse_prefix(API), tags)
    assert (way.verdict, way.route) == ("unknown", routes[0])
    assert way.doubt == Doubt(code, why)


@pytest.mark.parametrize(
    ("specific", "verdict"),
    [("20.1.0.0/15", "dropped"), ("20.1.0.0/16", "unknown"), (f"{API}/32", "appliance")],
)
def test_a_tag_whose_addresses_alone_are_known(specific: str, verdict: str) -> None:
    """Its prefixes are at least as specific as the block that they lie in; how much more is open."""
    tags = Tags({"cosmos": parse_prefix("20.1.0.0/16")})
    routes = [user("cosmos", "Cosmos", "None"), user("near", specific)]
    [way] = ways(routes, parse_prefix(API), tags)
    assert way.verdict == verdict


def test_a_published_prefix_that_is_none_is_an_error() -> None:
    """It is named; to leave it out would be to take a part for the whole."""
    with pytest.raises(ValueError, match=r"20\.0\.0\.0/40"):
        ways([user("sql", "Sql")], parse_prefix(API), Tags({}), published={"sql": ("20.0.0.0/40",)})


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [("10.0.0.9/29", "10.0.0.8", "10.0.0.15"), ("10.0.0.9", "10.0.0.9", "10.0.0.9"), ("::/0", "::", None)],
)
def test_prefixes_that_are_read(text: str, first: str, last: str | None) -> None:
    """CIDRs and addresses of both families; host bits are dropped."""
    low, high = parse_cidr(text)
    assert low == parse_prefix(first).intervals[0][0]
    assert high == parse_prefix(last or "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").intervals[0][1]


@pytest.mark.parametrize("text", ["", "*", "10.0.0.0/33", "10.0.0.0-10.0.0.255", "Sql", "::/129"])
def test_prefixes_that_are_none(text: str) -> None:
    """A range is none either: it has no length that could be compared."""
    with pytest.raises(ValueError, match="not an address"):
        parse_cidr(text)


@pytest.mark.parametrize(
    ("prefix", "named"),
    [
        ("Sql", True),
        ("Storage.WestEurope", True),
        (" azurecloud ", True),
        ("", False),
        ("any", False),
        ("*", False),
        ("10.0.0.0/8", False),
        ("fd00::/8", False),
        ("::1", False),
        ("10.0.0.0/33", False),
    ],
)
def test_what_has_the_form_of_a_tag(prefix: str, named: bool) -> None:
    """A name that begins with a letter, and no address."""
    assert names_tag(prefix) is named


# --- routes in force on a subnet -----------------------------------------------------------------

RESERVED = ["10.0.0.0/8 None", "172.16.0.0/12 None", "192.168.0.0/16 None", "100.64.0.0/10 None"]
INTERNET = ["0.0.0.0/0 Internet", "::/0 Internet"]


def hops(routes: Iterable[Route]) -> list[str]:
    """Prefix and next hop of each."""
    return [f"{route.prefix} {route.hop}" for route in routes]


@pytest.mark.parametrize(
    ("network", "peered", "expected"),
    [
        ([], [], [*RESERVED, *INTERNET]),
        (["10.1.0.0/16"], [], ["10.1.0.0/16 VnetLocal", *RESERVED, *INTERNET]),
        (
            ["10.1.0.0/16", "fd00::/48", "10.1.0.0/16"],
            ["10.2.0.0/16"],
            [
                "10.1.0.0/16 VnetLocal",
                "fd00::/48 VnetLocal",
                "10.2.0.0/16 VNetPeering",
                *RESERVED,
                *INTERNET,
            ],
        ),
        (["10.0.0.0/8"], [], ["10.0.0.0/8 VnetLocal", *RESERVED[1:], *INTERNET]),
        (["172.0.0.0/8"], [], ["172.0.0.0/8 VnetLocal", RESERVED[0], *RESERVED[2:], *INTERNET]),
        (["10.1.0.0/16"], ["100.64.0.0/10"], None),
    ],
)
def test_routes_that_azure_adds(network: list[str], peered: list[str], expected: list[str] | None) -> None:
    """One for each prefix of the network and its peers; reserved ranges that these take are left out."""
    routes = system_routes(network, peered)
    expected = expected or ["10.1.0.0/16 VnetLocal", "100.64.0.0/10 VNetPeering", *RESERVED[:3], *INTERNET]
    assert hops(routes) == expected
    assert {route.source for route in routes} == {"system"}


def test_a_prefix_of_the_network_that_nobody_can_read() -> None:
    """It may be any: what is certain without it is not any more."""
    routes = effective(None, ("10.0.0.0/40",))
    assert decided(routes, API) == [f"unknown by 10.0.0.0/40: {API}/32"]


TABLE = RouteTable(id="/rt", name="rt", routes=(DEFAULT,))


@pytest.mark.parametrize(
    ("table", "gateway", "added"),
    [
        (None, False, []),
        (None, True, ["gateway"]),
        (TABLE, False, ["default"]),
        (TABLE, True, ["default", "gateway"]),
        (structs.replace(TABLE, gateway_routes=False), True, ["default"]),
        (structs.replace(TABLE, peering_routes=False), False, ["default", "no peers"]),
        (structs.replace(TABLE, peering_routes=False, gateway_routes=False), True, ["default", "no peers"]),
    ],
)
def test_routes_in_force(table: RouteTable | None, gateway: bool, added: list[str]) -> None:
    """The table's, Azure's, and those of a gateway unless the table keeps them out; so with peers."""
    wanted = set(system_routes(NETWORK, () if "no peers" in added else PEERED))
    wanted |= {DEFAULT} if "default" in added else set()
    wanted |= {GATEWAY_ROUTES} if "gateway" in added else set()
    found = effective(table, NETWORK, PEERED, gateway=gateway)
    assert set(found) == wanted
    assert len(found) == len(wanted)


def test_peers_that_the_table_hides_are_not_reached() -> None:
    """Without its route, a peer is a private range that Azure drops."""
    hidden = structs.replace(TABLE, peering_routes=False)
    assert decided(effective(hidden, NETWORK, PEERED), "10.1.0.4") == ["dropped by 10.0.0.0/8: 10.1.0.4/32"]


@pytest.mark.parametrize(
    ("routes", "to", "expected"),
    [
        ([], API, ()),
        ([DEFAULT], API, ("10.0.9.4",)),
        ([DEFAULT], "2603::4", ()),
        ([DEFAULT, user("out", API, "Internet")], API, ()),
        ([DEFAULT, user("out", API, "Internet")], f"{API} 20.1.0.5", ("10.0.9.4",)),
        ([DEFAULT, user("sql", "Sql", addresses="10.0.9.20 10.0.9.5")], API, ("10.0.9.5", "10.0.9.20")),
        ([DEFAULT, user("cosmos", "Cosmos", addresses="10.0.9.5")], API, ("10.0.9.4", "10.0.9.5")),
        ([user("out", "0.0.0.0/0", "Internet"), user("cosmos", "Cosmos")], API, ("10.0.9.4",)),
        ([user("out", API, "Internet"), user("cosmos", "Cosmos")], API, ()),
        ([user("a", API), user("b", API, addresses="fd00:10:0::4")], API, ("10.0.9.4", "fd00:10::4")),
        ([user("odd", API, addresses="firewall 10.0.9.4")], API, ("10.0.9.4", "firewall")),
        ([bgp("learned", API)], API, ()),
        ([DEFAULT], PLATFORM, ()),
    ],
)
def test_appliances_on_the_way(routes: list[Route], to: str, expected: tuple[str, ...]) -> None:
    """Those of the routes that decide and of those that may, in order; none that something else hides."""
    assert appliances(routes, parse_prefixes(to.split()), Tags({}), published=KNOWN) == expected
