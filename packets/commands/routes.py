"""`python -m packets routes`: where a route table, or the routes in force, lead some destinations."""

import argparse
from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from facts.filters import Route
from packets.addresses import NOTHING, IntervalSet, to_prefixes, union
from packets.commands import document, named, parsed, prefixes, typed
from packets.documents import objects, properties
from packets.documents.routes import faults, read_effective_routes, read_route_table
from packets.routes import Verdict, Way, effective, parse_cidr, ways
from packets.tags import PRIVATE, Tags

# A network that nobody described: its route may be as specific as any, and take any private address.
_ITS_OWN = Route(name="VirtualNetwork", prefix="VirtualNetwork", hop="VnetLocal", source="system")


class RoutePart(Struct, frozen=True, kw_only=True, rename="camel"):
    """What one route did; without a name where no route leads."""

    name: str
    prefix: str
    source: str
    next_hop_type: str
    next_hop_ip_addresses: tuple[str, ...]
    matched: tuple[str, ...]
    """The destinations of what it decided, as CIDRs."""
    why: str


class RouteAnswer(Struct, frozen=True, kw_only=True):
    """What becomes of the destinations that were asked about, as the fewest CIDRs.

    A destination is allowed if its packets are carried on, blocked if they are dropped, and unknown if an
    appliance or a gateway decides or if something hangs on what cannot be known.
    """

    outcome: Literal["allowed", "blocked", "mixed", "unknown"]
    allowed: tuple[str, ...]
    blocked: tuple[str, ...]
    unknown: tuple[str, ...]
    routes: tuple[RoutePart, ...]


def add(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked."""
    add = parser.add_argument
    addresses = typed(prefixes)
    add("--destination", required=True, type=addresses, metavar="CIDR[,CIDR]")
    add(
        "--vnet",
        type=typed(_cidrs),
        metavar="CIDR[,CIDR]",
        help="address space of the virtual network; without it what is private may belong to it, and what "
        "hangs on that is unknown",
    )
    add("--peered", type=typed(_cidrs), metavar="CIDR[,CIDR]", help="address space of its peers")
    add(
        "--gateway",
        action="store_true",
        help="a gateway may bring routes of its own; what they may take is unknown",
    )
    add("--tag", action="append", default=[], type=typed(_tag), metavar="NAME=CIDR[,CIDR]")
    parser.set_defaults(run=run)


def run(asked: argparse.Namespace, text: str) -> RouteAnswer:
    """Answer; raises `ValueError` naming what in the document or the options cannot be used."""
    found = parsed(text)
    own: Mapping[str, IntervalSet] = {}
    if _is_effective(found):
        for option, given in (
            ("--vnet", asked.vnet),
            ("--peered", asked.peered),
            ("--gateway", asked.gateway),
        ):
            if given:
                raise ValueError(f"{option} goes with a route table; effective routes hold the network's own")
        routes = read_effective_routes(objects({"value": _items(found)}, "value"))
        fault = next(faults(routes), None)
    else:
        resource = document(text, "routes")
        if "routes" not in properties(resource):
            raise ValueError('standard input is no route table (it has no "routes") and no effective routes')
        table = read_route_table(resource)
        fault = next(faults(table.routes), None)
        routes = effective(table, asked.vnet or (), asked.peered or (), gateway=asked.gateway)
        if asked.vnet is None:
            routes = (*routes, _ITS_OWN)
            own = {"virtualnetwork": PRIVATE}
    if fault:
        raise ValueError(fault)
    tags = Tags(dict.fromkeys(own, NOTHING), perhaps=own)
    return _answer(ways(routes, asked.destination, tags, published=dict(asked.tag)))


def _is_effective(found: Any) -> bool:
    """Whether what was pasted lists effective routes: they say who made them, as no resource does."""
    return any(
        isinstance(one, Mapping) and "nextHopType" in one and ("source" in one or "state" in one)
        for one in _items(found)
    )


def _items(found: Any) -> list[Any]:
    if isinstance(found, Mapping):
        found = found.get("value")
    return found if isinstance(found, list) else []


def _cidrs(text: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in text.split(","))
    for part in parts:
        parse_cidr(part)
    return parts


def _tag(text: str) -> tuple[str, tuple[str, ...]]:
    name, _ = named(text)
    return name.lower(), _cidrs(text.partition("=")[2])


def _answer(found: tuple[Way, ...]) -> RouteAnswer:
    allowed = union(way.destinations for way in found if way.verdict == "carried")
    blocked = union(way.destinations for way in found if way.verdict == "dropped")
    unknown = union(way.destinations for way in found if way.verdict not in {"carried", "dropped"})
    # Ways that differ in nothing but the routes that may decide otherwise are one to a reader.
    parts: dict[tuple[Route | None, str], list[IntervalSet]] = {}
    for way in found:
        parts.setdefault((way.route, _why(way)), []).append(way.destinations)
    outcomes: list[Literal["allowed", "blocked", "unknown"]] = []
    outcomes += ["allowed"] if allowed else []
    outcomes += ["blocked"] if blocked else []
    outcomes += ["unknown"] if unknown else []
    return RouteAnswer(
        outcome=outcomes[0] if len(outcomes) == 1 else "mixed",
        allowed=to_prefixes(allowed),
        blocked=to_prefixes(blocked),
        unknown=to_prefixes(unknown),
        routes=tuple(_part(route, why, union(matched)) for (route, why), matched in parts.items()),
    )


def _part(route: Route | None, why: str, destinations: IntervalSet) -> RoutePart:
    return RoutePart(
        name=route.name if route else "",
        prefix=route.prefix if route else "",
        source=route.source if route else "",
        next_hop_type=route.hop if route else "None",
        next_hop_ip_addresses=route.addresses if route else (),
        matched=to_prefixes(destinations),
        why=why,
    )


def _why(way: Way) -> str:
    if way.route is None:
        return "no route leads there: dropped"
    if way.route == _ITS_OWN:
        return "may belong to the virtual network, whose address space was not given (--vnet)"
    if way.doubt is not None:
        return f"may decide, but {way.doubt.why}"
    return f"decides: {_WORDS[way.verdict].format(', '.join(way.addresses))}"


_WORDS: Mapping[Verdict, str] = {
    "carried": "carried on",
    "dropped": "dropped",
    "appliance": "led to the appliance at {}, which may pass it on or drop it",
    "gateway": "led to the gateway, which may know the way or not",
}
