"""Route tables, and the effective routes of a network interface."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from facts.filters import Route, RouteTable
from packets.addresses import parse_prefix
from packets.documents import Document, check_address, objects, properties, text, texts
from packets.routes import names_tag, parse_cidr

Source = Literal["user", "bgp", "system"]

_SOURCES: Mapping[str, Source] = {"user": "user", "virtualnetworkgateway": "bgp", "default": "system"}
_PEERING = {"": True, "none": True, "all": False}


def read_route_table(document: Document) -> RouteTable:
    """Read a route table; its id and routes may be missing.

    Raises `ValueError` naming the field at fault.
    """
    body = properties(document)
    table_id = text(document, "id")
    routes: list[Route] = []
    for position, route in enumerate(objects(body, "routes")):
        place = f"routes[{position}]"
        fields = properties(route)
        name = text(route, "name") or place
        hop = fields.get("nextHop")
        if hop is not None and not isinstance(hop, Mapping):
            raise ValueError(f'{place}.nextHop of "{name}" is no object')
        addresses = (*_texts(fields, "nextHopIpAddress", place), *texts(hop or {}, "nextHopIpAddresses"))
        routes += (
            Route(
                id=text(route, "id") or f"{table_id}/routes/{name}",
                name=name,
                prefix=prefix,
                hop=text(fields, "nextHopType"),
                addresses=tuple(dict.fromkeys(addresses)),
            )
            for prefix in _texts(fields, "addressPrefix", place) or ("",)
        )
    return RouteTable(
        id=table_id,
        name=text(document, "name") or table_id.rsplit("/", 1)[-1],
        routes=tuple(routes),
        gateway_routes=not _flag(body, "disableBgpRoutePropagation"),
        peering_routes=_one_of(_PEERING, text(body, "disablePeeringRoute"), "disablePeeringRoute"),
    )


def read_effective_routes(documents: Iterable[Document]) -> tuple[Route, ...]:
    """Read what `az network nic show-effective-route-table` lists under `value`.

    A route with several prefixes becomes several; one that is not in force (`Invalid`) is left out. Raises
    `ValueError` naming the field at fault, a source or a state that is not known among them.
    """
    found: list[Route] = []
    for position, document in enumerate(documents):
        place = f"value[{position}]"
        body = properties(document)
        if not _one_of({"": True, "active": True, "invalid": False}, text(body, "state"), f"{place}.state"):
            continue
        source = _one_of(_SOURCES, text(body, "source"), f"{place}.source")
        found += (
            Route(
                name=text(body, "name") or prefix or place,
                prefix=prefix,
                hop=text(body, "nextHopType"),
                addresses=_texts(body, "nextHopIpAddress", place),
                source=source,
            )
            for prefix in _texts(body, "addressPrefix", place) or ("",)
        )
    return tuple(found)


def faults(routes: Iterable[Route]) -> Iterator[str]:
    """What in routes cannot be meant: prefixes that are neither that nor a tag, hops that are missing.

    A live table may hold values that are newer than this code, and is judged as far as it can be; in a
    document that somebody pasted it is more likely a slip.
    """
    for route in routes:
        try:
            _check_prefix(route.prefix)
        except ValueError as error:
            yield f'addressPrefix of route "{route.name}": {error}'
        if not route.hop:
            yield f'nextHopType of route "{route.name}" is missing'
        for address in route.addresses:
            try:
                _check_address(address)
            except ValueError as error:
                yield f'nextHopIpAddress of route "{route.name}": {error}'


def _check_prefix(prefix: str) -> None:
    if not prefix:
        raise ValueError("it is missing")
    if names_tag(prefix):
        check_address(prefix)
    else:
        parse_cidr(prefix)


def _check_address(address: str) -> None:
    [(low, high)] = parse_prefix(address).intervals
    if low != high:
        raise ValueError(f"not an address: {address!r}")


def _texts(document: Document, field: str, place: str) -> tuple[str, ...]:
    """The values of a field that a route table writes as a text and an effective route as a list."""
    value: Any = document.get(field)
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (value,)
    try:
        return texts(document, field)
    except ValueError as error:
        raise ValueError(f"{place}.{error}") from error


def _flag(document: Document, field: str) -> bool:
    value = document.get(field)
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{field} is neither true nor false")
    return bool(value)


def _one_of[T](known: Mapping[str, T], value: str, field: str) -> T:
    """What a value of an enum stands for."""
    if value.strip().lower() not in known:
        raise ValueError(f'{field} "{value}" is not known' if value else f"{field} is missing")
    return known[value.strip().lower()]
