"""Routes: where packets go that leave a subnet, by the route that decides.

The most specific prefix decides; at equal prefixes a user-defined route comes before one learned by
BGP, and that before a system route. Two kinds of system routes are more than that: routes to the virtual
network and to what is connected to it are preferred to BGP routes even if those are more specific, and
routes to service endpoints are overridden by nothing. A user-defined route may have a service tag for its
prefix, which stands for all of the tag's prefixes
(https://learn.microsoft.com/azure/virtual-network/virtual-networks-udr-overview,
https://learn.microsoft.com/azure/virtual-network/virtual-network-service-endpoints-overview).

A prefix that cannot be known (a service tag nobody resolved) may be any, and take any destination. What
it would lead to where the other routes lead anyway is not in doubt; the rest is UNKNOWN.
"""

import ipaddress
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple, Self

from msgspec import Struct

from facts.filters import Route, RouteTable
from packets.addresses import (
    EVERY_ADDRESS,
    IPV4,
    IPV6,
    NOTHING,
    Interval,
    IntervalSet,
    parse_prefix,
    to_prefixes,
)
from packets.decisions import Doubt
from packets.tags import ANYTHING, Tags

Verdict = Literal["carried", "dropped", "appliance", "gateway", "unknown"]
"""`carried` goes on by itself; an appliance or a gateway decides, and no route says how."""

_PEERINGS = frozenset({"vnetpeering", "vnetglobalpeering", "virtualnetworkpeering"})
_NEAR = frozenset({"vnetlocal", "connectedgroup", "interfaceendpoint"}) | _PEERINGS
"""Next hops to the virtual network and what is connected to it: peers, networks of a connected group of a
network manager, private endpoints."""
_ENDPOINT = "virtualnetworkserviceendpoint"
_CARRIED = _NEAR | {"internet", _ENDPOINT}
_APPLIANCES = frozenset({"virtualappliance", "virtualapplianceecmp"})

_RESERVED = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
"""Where Azure drops packets unless a network's own address space takes them."""

GATEWAY_ROUTES = Route(name="gateway routes", prefix="", hop="VirtualNetworkGateway", source="bgp")
"""Whatever a gateway may have learned: it stands for routes that nobody here can list."""

# 168.63.129.16 is the host's own and "isn't subject to user defined routes"
# (https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16).
_PLATFORM = Route(name="Azure platform", prefix="168.63.129.16/32", hop="VnetLocal", source="system")

type _Key = tuple[int, int, int]
"""What competes where routes overlap, the greatest first: how specific the prefix is, who made the route,
and what kind of prefix it has."""

_ORDINARY, _LEARNED, _PREFERRED, _FIXED = range(4)
_SOURCES = {"system": 0, "bgp": 1, "user": 2}
_CLOUD, _CLOUD_REGION, _TAG, _REGIONAL_TAG, _EXPLICIT = range(5)


class Way(Struct, frozen=True, kw_only=True):
    """Where a part of the destinations is led, and the route that decides it."""

    destinations: IntervalSet
    verdict: Verdict
    route: Route | None
    """The route that decides, or for `unknown` the one that is in doubt; `None` where none leads there."""
    addresses: tuple[str, ...] = ()
    """Of the appliance, if it leads to one."""
    doubt: Doubt | None = None
    """For `unknown`: what could not be known."""
    possible: tuple[Route | None, ...]
    """The routes that may decide: one alone, unless it is `unknown`."""


def parse_cidr(text: str) -> Interval:
    """First and last address of a prefix, host bits allowed; raises `ValueError` for what is none."""
    if "-" in text:
        raise ValueError(f"not an address or CIDR: {text!r}")
    return parse_prefix(text).intervals[0]


def names_tag(prefix: str) -> bool:
    """Whether a route's prefix has the form of a service tag's name."""
    return _kind(prefix.strip().lower()) != _EXPLICIT


def ways(
    routes: Sequence[Route],
    destinations: IntervalSet,
    tags: Tags,
    *,
    published: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Way, ...]:
    """Say where destinations are led: every one is in exactly one way.

    `published` holds the prefixes of service tags, by lower-case name, as Azure publishes them. Of a tag
    that only `tags` has, it is known which addresses it holds and not how specific its prefixes are; what
    hangs on that is unknown. Ways are in the order of their first destination.
    """
    field = _Contest(routes, destinations, tags, published or {})
    found: dict[_Outcome, list[Interval]] = {}
    for interval, spans in field.segments():
        found.setdefault(field.decide(spans), []).append(interval)
    return tuple(
        sorted(
            (field.way(outcome, intervals) for outcome, intervals in found.items()),
            key=lambda way: way.destinations.intervals,
        )
    )


def appliances(
    routes: Sequence[Route],
    destinations: IntervalSet,
    tags: Tags,
    *,
    published: Mapping[str, Sequence[str]] | None = None,
) -> tuple[str, ...]:
    """The addresses of the appliances that some destinations are led to, or may be, in ascending order."""
    found = {
        address
        for way in ways(routes, destinations, tags, published=published)
        for route in way.possible
        if route is not None and _hop(route) in _APPLIANCES
        for address in _addresses(route)
    }
    return tuple(sorted(found, key=_address_order))


def system_routes(network: Iterable[str], peered: Iterable[str] = ()) -> tuple[Route, ...]:
    """The routes that Azure gives a subnet of a network with some prefixes, and with those of its peers.

    Of the ranges that Azure drops, those are left out that the address space takes whole.
    """
    routes = [
        *(_system(prefix, "VnetLocal") for prefix in dict.fromkeys(network)),
        *(_system(prefix, "VNetPeering") for prefix in dict.fromkeys(peered)),
    ]
    taken = [near for route in routes if (near := _interval(route.prefix)) is not None]
    for prefix in _RESERVED:
        low, high = parse_cidr(prefix)
        if not any(start <= low and high <= end for start, end in taken):
            routes.append(_system(prefix, "None"))
    return (*routes, _system("0.0.0.0/0", "Internet"), _system("::/0", "Internet"))


def effective(
    table: RouteTable | None, network: Iterable[str], peered: Iterable[str] = (), *, gateway: bool = False
) -> tuple[Route, ...]:
    """The routes in force on a subnet: its route table's, if it has one, and Azure's own.

    With `gateway` there is a gateway whose routes nobody here can list: what they may take is unknown,
    unless the table keeps them out.
    """
    if table is None:
        return (*system_routes(network, peered), *((GATEWAY_ROUTES,) if gateway else ()))
    return (
        *table.routes,
        *system_routes(network, peered if table.peering_routes else ()),
        *((GATEWAY_ROUTES,) if gateway and table.gateway_routes else ()),
    )


class _Span(NamedTuple):
    """Where one prefix of a route lies among the destinations, and how it stands against others there."""

    low: int
    high: int
    place: int
    """Of the route."""
    most: _Key
    """At its most specific."""
    least: _Key | None
    """At its least specific, the same if its prefix is known; `None` where it may not be there at all."""

    @property
    def doubtful(self) -> bool:
        """Whether more than one prefix is possible, or none."""
        return self.least != self.most


class _Outcome(NamedTuple):
    """What becomes of a segment of addresses, with the places of the routes."""

    verdict: Verdict
    place: int | None
    doubt: Doubt | None
    possible: tuple[int | None, ...]


class _Contest:
    """The routes that may take some destinations."""

    def __init__(
        self,
        routes: Sequence[Route],
        destinations: IntervalSet,
        tags: Tags,
        published: Mapping[str, Sequence[str]],
    ) -> None:
        # In an order of their own, so that the order in the document decides nothing.
        self._routes = [_PLATFORM, *sorted(routes, key=_order)]
        self._standing = [_standing(route) for route in self._routes]
        self._leads = [_lead(route) for route in self._routes]
        self._doubts: dict[int, Doubt] = {}
        self._destinations = destinations
        self._spans = [
            span for place in range(len(self._routes)) for span in self._of_route(place, tags, published)
        ]

    def segments(self) -> Iterator[tuple[Interval, list[_Span]]]:
        """The destinations, cut where a prefix begins or ends, each part with the spans that hold it."""
        spans = sorted(self._spans, key=lambda span: span.low)
        bounds = sorted({*(span.low for span in spans), *(span.high + 1 for span in spans)})
        here: list[_Span] = []
        at = 0
        for low, high in self._destinations.intervals:
            cuts = bounds[bisect_right(bounds, low) : bisect_right(bounds, high)]
            for start, end in pairwise((low, *cuts, high + 1)):
                here = [span for span in here if span.high >= start]
                while at < len(spans) and spans[at].low <= start:
                    here.append(spans[at])
                    at += 1
                yield (start, end - 1), here

    def decide(self, spans: Sequence[_Span]) -> _Outcome:
        """Decide among the spans that hold an address."""
        possible, base = self._possible(spans)
        place = base.place if base else None
        lead = self._lead(place)
        elsewhere = [span for span in possible if self._lead(span.place if span else None) != lead]
        if not elsewhere:
            doubt = _hop_doubt(self._routes[place]) if place is not None and lead[0] == "unknown" else None
            return _Outcome(lead[0], place, doubt, (place,))
        places = {span.place if span else None for span in possible}
        alike = tuple(sorted(places, key=lambda one: -1 if one is None else one))
        # Named is the strongest of those in doubt, and of these one that leads elsewhere if there is any.
        doubtful = [span for span in elsewhere if span and span.doubtful]
        doubtful = doubtful or [span for span in possible if span and span.doubtful]
        if doubtful:
            named = max(doubtful, key=lambda span: (span.most, -span.place)).place
            return _Outcome("unknown", named, self._doubts[named], alike)
        other = self._routes[min(span.place for span in elsewhere if span)]
        words = f'route "{other.name}" has the same prefix and leads elsewhere'
        return _Outcome("unknown", place, Doubt("conflicting_routes", words), alike)

    def way(self, outcome: _Outcome, intervals: list[Interval]) -> Way:
        """An outcome and where it holds, in words of routes."""
        route = self._route(outcome.place)
        return Way(
            destinations=IntervalSet.of(intervals),
            verdict=outcome.verdict,
            route=route,
            addresses=_addresses(route) if route and outcome.verdict == "appliance" else (),
            doubt=outcome.doubt,
            # Two routes may be the same to the letter.
            possible=tuple(dict.fromkeys(self._route(place) for place in outcome.possible)),
        )

    def _possible(self, spans: Sequence[_Span]) -> tuple[list[_Span | None], _Span | None]:
        """The spans that may decide, `None` for no route at all, and the one that decides without doubts.

        What is in doubt may be there or not, each by itself: so a span may decide if it can, at its most
        specific, stand against those that are there for sure, at their least specific.
        """
        fixed = [span for span in spans if self._standing[span.place] == _FIXED]
        if sure := _sure(fixed):
            return [*_against(fixed, sure)], _strongest(sure)
        others = [span for span in spans if self._standing[span.place] != _FIXED]
        preferred = [span for span in others if self._standing[span.place] == _PREFERRED]
        learned = [span for span in others if self._standing[span.place] == _LEARNED]
        rest = [span for span in others if self._standing[span.place] != _LEARNED]
        sure = _sure(rest)
        if _sure(preferred):
            return [*fixed, *_against(rest, sure)], _strongest(sure)
        everything = _sure(others)
        # Where a preferred route may be, BGP routes may be out of the way of the others.
        possible: list[_Span | None] = [*fixed, *_against(rest, sure if preferred else everything)]
        possible += _against(learned, everything)
        if not everything:
            possible.append(None)
        return possible, _strongest(everything)

    def _route(self, place: int | None) -> Route | None:
        return None if place is None else self._routes[place]

    def _lead(self, place: int | None) -> "_Lead":
        return _NOWHERE if place is None else self._leads[place]

    def _of_route(self, place: int, tags: Tags, published: Mapping[str, Sequence[str]]) -> Iterator[_Span]:
        """The spans of a route among the destinations; what is in doubt about its prefix is kept by place."""
        route = self._routes[place]
        # Nothing is as strong as the platform's own, not even a service endpoint's route that may be there.
        source = _SOURCES[route.source] if route is not _PLATFORM else len(_SOURCES)
        name = route.prefix.strip().lower()
        kind = _kind(name)
        most = (0, source, kind)
        beyond = NOTHING
        if (prefix := _interval(name)) is not None:
            key = (-_host_bits(*prefix), source, kind)
            for low, high in _within(self._destinations, *prefix):
                yield _Span(low, high, place, key, key)
        elif kind == _EXPLICIT:
            beyond = EVERY_ADDRESS
            self._doubts[place] = _prefix_doubt(route)
        elif name in published:
            prefixes = _Prefixes.of(tuple(published[name]), self._destinations)
            for low, high, bits in prefixes.within(self._destinations):
                key = (-bits, source, kind)
                yield _Span(low, high, place, key, key)
            if name in tags.perhaps:
                value = tags.field((name,), (), "destination")
                beyond = value.perhaps - value.surely
                self._doubts[place] = value.doubt or _lengths_doubt(route)
        else:
            value = tags.field((route.prefix,), (), "destination")
            for low, high, bits in _blocks(value.surely, self._destinations):
                yield _Span(low, high, place, most, (-bits, source, kind))
            beyond = value.perhaps - value.surely if value.doubt else NOTHING
            self._doubts[place] = value.doubt or _lengths_doubt(route)
        for low, high in (beyond & self._destinations).intervals:
            yield _Span(low, high, place, most, None)


def _sure(spans: Iterable[_Span]) -> list[_Span]:
    return [span for span in spans if span.least is not None]


def _strongest(sure: Sequence[_Span]) -> _Span | None:
    """The one that decides if all are at their least specific; of equals the first in order."""
    return max(sure, key=lambda span: (span.least, -span.place), default=None)


def _against(spans: Iterable[_Span], sure: Sequence[_Span]) -> list[_Span]:
    """Those that may decide against what is there for sure."""
    strongest = _strongest(sure)
    if strongest is None or strongest.least is None:
        return list(spans)
    return [span for span in spans if span.most >= strongest.least]


_OCTETS = frozenset(map(str, range(256)))
_NARROW = frozenset({"", *map(str, range(8, 33))})
"""Lengths of IPv4 prefixes that hold one first octet, as they are written."""


def _near(prefixes: Iterable[str], destinations: IntervalSet) -> Iterator[str]:
    """Leave out those of many prefixes that hold no destination, as far as their first octets tell.

    To read 10,000 prefixes takes longer than all that is done with them.
    """
    asked: set[str] = set()
    for low, high in (destinations & IPV4).intervals:
        asked.update(map(str, range(low >> 24, (high >> 24) + 1)))
    others = _OCTETS - asked
    six = bool(destinations & IPV6)
    for text in prefixes:
        elsewhere = text.partition(".")[0] in others and text.partition("/")[2] in _NARROW
        if not elsewhere and (six or ":" not in text):
            yield text


class _Prefixes(Struct, frozen=True):
    """Many prefixes of one tag, to be found by address."""

    intervals: list[Interval]
    """In ascending order."""
    lows: list[int]
    reach: list[int]
    """The last address that the prefixes so far hold."""

    @classmethod
    @lru_cache(maxsize=32)
    def of(cls, prefixes: tuple[str, ...], destinations: IntervalSet) -> Self:
        """Sort those that may hold destinations; raises `ValueError` for what is no prefix."""
        intervals = sorted(map(parse_cidr, frozenset(_near(prefixes, destinations))))
        lows = [low for low, _ in intervals]
        return cls(intervals, lows, list(accumulate((high for _, high in intervals), max)))

    def within(self, destinations: IntervalSet) -> Iterator[tuple[int, int, int]]:
        """The parts of some destinations, with the bits that the most specific prefix leaves to hosts."""
        for low, high in destinations.intervals:
            first, end = bisect_left(self.reach, low), bisect_right(self.lows, high)
            for start, stop, bits in _innermost(self.intervals[first:end]):
                if start <= high and stop >= low:
                    yield max(start, low), min(stop, high), bits


def _innermost(intervals: Iterable[Interval]) -> Iterator[tuple[int, int, int]]:
    """Cut prefixes, which lie one within another or apart, so that of each part the most specific is left."""
    around: list[Interval] = []
    at = 0
    for interval in (*sorted(intervals, key=lambda one: (one[0], -one[1])), None):
        while around and (interval is None or around[-1][1] < interval[0]):
            outer = around.pop()
            if at <= outer[1]:
                yield at, outer[1], _host_bits(*outer)
                at = outer[1] + 1
        if interval is not None:
            if around and at < interval[0]:
                yield at, interval[0] - 1, _host_bits(*around[-1])
            around.append(interval)
            at = interval[0]


def _blocks(addresses: IntervalSet, destinations: IntervalSet) -> Iterator[tuple[int, int, int]]:
    """The parts of destinations in some addresses, with the least specific prefix that each may have there.

    A prefix within the addresses is one of the fewest CIDRs that make them up, or a part of one.
    """
    touched: set[int] = set()
    for low, high in destinations.intervals:
        first = bisect_left(addresses.intervals, low, key=lambda interval: interval[1])
        end = bisect_right(addresses.intervals, high, key=lambda interval: interval[0])
        touched.update(range(first, end))
    for place in sorted(touched):
        for text in to_prefixes(IntervalSet((addresses.intervals[place],))):
            block = parse_cidr(text)
            for low, high in _within(destinations, *block):
                yield low, high, _host_bits(*block)


def _within(destinations: IntervalSet, low: int, high: int) -> Iterator[Interval]:
    """The parts of destinations that lie in an interval."""
    first = bisect_left(destinations.intervals, low, key=lambda interval: interval[1])
    for place in range(first, len(destinations.intervals)):
        start, end = destinations.intervals[place]
        if start > high:
            return
        yield max(start, low), min(end, high)


def _host_bits(low: int, high: int) -> int:
    return (high - low).bit_length()


def _interval(prefix: str) -> Interval | None:
    try:
        return parse_cidr(prefix)
    except ValueError:
        return None


def _kind(name: str) -> int:
    """What comes first of exactly equal prefixes."""
    if not name[:1].isalpha() or name in ANYTHING or ":" in name or "/" in name:
        return _EXPLICIT
    if name == "azurecloud":
        return _CLOUD
    if name.startswith("azurecloud."):
        return _CLOUD_REGION
    return _REGIONAL_TAG if "." in name else _TAG


def _prefix_doubt(route: Route) -> Doubt:
    if route.prefix:
        return Doubt("unknown_route_value", f'its prefix "{route.prefix}" could not be read')
    if route.source == "bgp":
        return Doubt("unknown_gateway_routes", "the routes that the gateway learned are not known")
    return Doubt("unknown_route_value", "its prefix is missing")


def _lengths_doubt(route: Route) -> Doubt:
    words = f'how specific the prefixes of the service tag "{route.prefix}" are is not known'
    return Doubt("unknown_service_tag", words)


type _Lead = tuple[Verdict, tuple[str, ...]]
_NOWHERE: _Lead = ("dropped", ())


def _lead(route: Route) -> _Lead:
    """Where a route leads to: two routes that are the same in this are no matter of doubt."""
    hop = _hop(route)
    if hop == "none":
        return _NOWHERE
    if hop == "virtualnetworkgateway":
        return "gateway", ()
    if hop in _APPLIANCES and route.addresses:
        return "appliance", tuple(sorted(set(_addresses(route))))
    if hop in _CARRIED:
        return "carried", ("peer" if hop in _PEERINGS else hop,)
    return "unknown", (hop, *sorted(set(_addresses(route))))


def _hop_doubt(route: Route) -> Doubt:
    if not route.hop:
        return Doubt("unknown_route_value", "its next hop type is missing")
    if _hop(route) in _APPLIANCES:
        return Doubt("unknown_route_value", "the address of its appliance is missing")
    return Doubt("unknown_route_value", f'its next hop type "{route.hop}" is not known')


def _standing(route: Route) -> int:
    """How a route competes, apart from its prefix."""
    if route.source == "bgp":
        return _LEARNED
    if route is _PLATFORM or (route.source == "system" and _hop(route) == _ENDPOINT):
        return _FIXED
    return _PREFERRED if route.source == "system" and _hop(route) in _NEAR else _ORDINARY


def _hop(route: Route) -> str:
    return route.hop.strip().lower()


def _addresses(route: Route) -> tuple[str, ...]:
    """The addresses of its appliance in their usual form, each once."""
    return tuple(dict.fromkeys(_usual(text.strip()) for text in route.addresses))


@lru_cache(maxsize=4096)
def _usual(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address.lower()


def _address_order(address: str) -> tuple[int, int, str]:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return (9, 0, address)
    return (found.version, int(found), "")


def _order(route: Route) -> tuple[object, ...]:
    return (route.name, route.id, route.prefix, route.hop, route.addresses, route.source)


def _system(prefix: str, hop: str) -> Route:
    return Route(name=prefix, prefix=prefix, hop=hop, source="system")
