"""Azure's documents of routes: nested as ARM writes them, flat as the CLI prints them, and effective ones."""

from typing import Any

import pytest

from facts.filters import Route, RouteTable
from packets.documents.routes import faults, read_effective_routes, read_route_table

ID = (
    "/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590/resourceGroups/rg/providers/"
    "Microsoft.Network/routeTables/nodes-rt"
)

NESTED = {
    "name": "nodes-rt",
    "id": ID,
    "etag": 'W/"0"',
    "type": "Microsoft.Network/routeTables",
    "location": "westeurope",
    "properties": {
        "provisioningState": "Succeeded",
        "resourceGuid": "7c3f0b6e-3a55-4c7e-9b0f-0d5ac9a4f7d1",
        "disableBgpRoutePropagation": True,
        "disablePeeringRoute": "None",
        "routes": [
            {
                "name": "to-firewall",
                "id": f"{ID}/routes/to-firewall",
                "etag": 'W/"0"',
                "type": "Microsoft.Network/routeTables/routes",
                "properties": {
                    "provisioningState": "Succeeded",
                    "addressPrefix": "0.0.0.0/0",
                    "nextHopType": "VirtualAppliance",
                    "nextHopIpAddress": "10.0.9.4",
                    "hasBgpOverride": False,
                },
            },
            {
                "name": "both",
                "id": f"{ID}/routes/both",
                "properties": {
                    "addressPrefix": "10.1.0.0/16",
                    "nextHopType": "VirtualApplianceEcmp",
                    "nextHop": {"nextHopIpAddresses": ["10.0.9.4", "10.0.9.5"]},
                },
            },
            {
                "name": "storage",
                "id": f"{ID}/routes/storage",
                "properties": {"addressPrefix": "Storage.WestEurope", "nextHopType": "Internet"},
            },
        ],
        "subnets": [{"id": f"{ID}/../../virtualNetworks/vnet/subnets/nodes"}],
    },
}
TABLE = RouteTable(
    id=ID,
    name="nodes-rt",
    gateway_routes=False,
    routes=(
        Route(
            id=f"{ID}/routes/to-firewall",
            name="to-firewall",
            prefix="0.0.0.0/0",
            hop="VirtualAppliance",
            addresses=("10.0.9.4",),
        ),
        Route(
            id=f"{ID}/routes/both",
            name="both",
            prefix="10.1.0.0/16",
            hop="VirtualApplianceEcmp",
            addresses=("10.0.9.4", "10.0.9.5"),
        ),
        Route(id=f"{ID}/routes/storage", name="storage", prefix="Storage.WestEurope", hop="Internet"),
    ),
)


def flat(document: dict[str, Any]) -> dict[str, Any]:
    """The document as `az network route-table show` prints it."""
    flattened = {name: value for name, value in document.items() if name != "properties"}
    for name, value in document.get("properties", {}).items():
        flattened[name] = (
            [flat(one) if isinstance(one, dict) else one for one in value]
            if isinstance(value, list)
            else value
        )
    return flattened


def one_route(**fields: Any) -> dict[str, Any]:
    """A table with one route of these properties."""
    return {"id": ID, "properties": {"routes": [{"name": "r", "properties": fields}]}}


@pytest.mark.parametrize("document", [NESTED, flat(NESTED)], ids=["nested", "flat"])
def test_what_is_read(document: dict[str, Any]) -> None:
    """ARM's form and the CLI's give the same table, with the addresses of one appliance or of several."""
    assert read_route_table(document) == TABLE


@pytest.mark.parametrize(
    ("fields", "gateway", "peering"),
    [
        ({}, True, True),
        ({"disableBgpRoutePropagation": None, "disablePeeringRoute": None}, True, True),
        ({"disableBgpRoutePropagation": False, "disablePeeringRoute": "None"}, True, True),
        ({"disableBgpRoutePropagation": True, "disablePeeringRoute": "All"}, False, False),
        ({"disablePeeringRoute": "ALL"}, True, False),
        ({"disablePeeringRoute": "none"}, True, True),
        ({"disablePeeringRoute": ""}, True, True),
    ],
)
def test_routes_that_a_table_keeps_out(fields: dict[str, Any], gateway: bool, peering: bool) -> None:
    """Without a word, routes of gateways and peers reach the subnet."""
    for document in (fields, {"properties": fields}):
        table = read_route_table(document)
        assert (table.gateway_routes, table.peering_routes) == (gateway, peering)


@pytest.mark.parametrize(
    "document",
    [{}, {"properties": None}, {"properties": {}}, {"properties": {"routes": None}}, {"routes": []}],
)
def test_a_table_without_routes(document: dict[str, Any]) -> None:
    """Missing lists and nulls are no routes, and a table may have neither id nor name."""
    assert read_route_table(document) == RouteTable(id="", name="")


def test_what_a_route_may_lack() -> None:
    """Everything: ids follow from the table's, a prefix that is missing stays one route, texts are empty."""
    table = read_route_table({"id": ID, "routes": [{}, {"name": "named", "properties": {}}]})
    assert table.name == "nodes-rt"
    assert table.routes == (
        Route(id=f"{ID}/routes/routes[0]", name="routes[0]", prefix="", hop=""),
        Route(id=f"{ID}/routes/named", name="named", prefix="", hop=""),
    )


@pytest.mark.parametrize(
    ("fields", "addresses"),
    [
        ({"nextHopIpAddress": "10.0.9.4"}, ("10.0.9.4",)),
        ({"nextHopIpAddress": "10.0.9.4", "nextHop": None}, ("10.0.9.4",)),
        ({"nextHopIpAddress": "", "nextHop": {"nextHopIpAddresses": ["10.0.9.5"]}}, ("10.0.9.5",)),
        ({"nextHopIpAddress": None, "nextHop": {"nextHopIpAddresses": None}}, ()),
        (
            {"nextHopIpAddress": "10.0.9.4", "nextHop": {"nextHopIpAddresses": ["10.0.9.5", "10.0.9.4"]}},
            ("10.0.9.4", "10.0.9.5"),
        ),
        ({"nextHopIpAddress": ["10.0.9.4", "fd00::4"]}, ("10.0.9.4", "fd00::4")),
        ({"nextHop": {}}, ()),
    ],
)
def test_appliances_in_the_singular_and_the_plural(
    fields: dict[str, Any], addresses: tuple[str, ...]
) -> None:
    """All addresses of both forms, each once."""
    [route] = read_route_table(one_route(nextHopType="VirtualAppliance", **fields)).routes
    assert route.addresses == addresses


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"routes": "all"}, r"^routes is no list"),
        ({"routes": {"all": {}}}, r"^routes is no list"),
        ({"routes": [{}, None]}, r"^routes\[1\] is no object"),
        (one_route(addressPrefix=7), r"^routes\[0\]\.addressPrefix is no list"),
        (one_route(nextHopIpAddress={"ip": "10.0.9.4"}), r"^routes\[0\]\.nextHopIpAddress is no list"),
        (one_route(nextHop="10.0.9.4"), r'^routes\[0\]\.nextHop of "r" is no object'),
        (one_route(nextHop={"nextHopIpAddresses": "10.0.9.4"}), r"nextHopIpAddresses is no list"),
        ({"disableBgpRoutePropagation": "true"}, r"^disableBgpRoutePropagation is neither true nor false"),
        ({"disablePeeringRoute": "Some"}, r'^disablePeeringRoute "Some" is not known'),
    ],
)
def test_fields_that_cannot_be_read_are_named(document: dict[str, Any], named: str) -> None:
    """What is of another shape, or says something new about all routes, is the document's fault."""
    with pytest.raises(ValueError, match=named):
        read_route_table(document)


# --- effective routes ----------------------------------------------------------------------------


def effective(prefixes: Any, hop: str = "Internet", **fields: Any) -> dict[str, Any]:
    """A route as `az network nic show-effective-route-table` prints it, with all its fields."""
    return {
        "addressPrefix": prefixes,
        "disableBgpRoutePropagation": False,
        "hasBgpOverride": False,
        "name": None,
        "nextHopIpAddress": [],
        "nextHopType": hop,
        "source": "Default",
        "state": "Active",
        **fields,
    }


def test_effective_routes() -> None:
    """Of every source, one for each prefix, named by it where nobody named them; none that is Invalid."""
    found = read_effective_routes(
        [
            effective(["10.0.0.0/16", "fd00::/48"], "VnetLocal"),
            effective(["10.1.0.0/16"], "VNetGlobalPeering"),
            effective(["0.0.0.0/0"], state="Invalid"),
            effective(["0.0.0.0/0"], "VirtualAppliance", nextHopIpAddress=["10.0.9.4", "10.0.9.5"])
            | {"source": "User", "name": "to-firewall"},
            effective(["10.7.0.0/16"], "VirtualNetworkGateway", nextHopIpAddress=["10.0.8.4"])
            | {"source": "VirtualNetworkGateway"},
        ]
    )
    assert found == (
        Route(name="10.0.0.0/16", prefix="10.0.0.0/16", hop="VnetLocal", source="system"),
        Route(name="fd00::/48", prefix="fd00::/48", hop="VnetLocal", source="system"),
        Route(name="10.1.0.0/16", prefix="10.1.0.0/16", hop="VNetGlobalPeering", source="system"),
        Route(
            name="to-firewall",
            prefix="0.0.0.0/0",
            hop="VirtualAppliance",
            addresses=("10.0.9.4", "10.0.9.5"),
            source="user",
        ),
        Route(
            name="10.7.0.0/16",
            prefix="10.7.0.0/16",
            hop="VirtualNetworkGateway",
            addresses=("10.0.8.4",),
            source="bgp",
        ),
    )


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, True),
        ({"state": "ACTIVE"}, True),
        ({"state": None}, True),
        ({"state": "Invalid"}, False),
        ({"state": "invalid", "source": "Martian"}, False),
        ({"source": "USER"}, True),
        ({"source": "virtualNetworkGateway"}, True),
    ],
)
def test_which_effective_routes_count(fields: dict[str, Any], kept: bool) -> None:
    """Letter case does not matter; what is not in force says nothing, whoever made it."""
    assert bool(read_effective_routes([effective(["10.0.0.0/8"], **fields)])) is kept


@pytest.mark.parametrize(
    ("fields", "prefixes", "addresses"),
    [
        ({"addressPrefix": "10.0.0.0/8"}, ["10.0.0.0/8"], ()),
        ({"addressPrefix": ["10.0.0.0/8", "10.0.0.0/8"]}, ["10.0.0.0/8"], ()),
        ({"addressPrefix": []}, [""], ()),
        ({"addressPrefix": None}, [""], ()),
        ({"addressPrefix": ["Storage"]}, ["Storage"], ()),
        ({"nextHopIpAddress": "10.0.9.4"}, ["0.0.0.0/0"], ("10.0.9.4",)),
        ({"nextHopIpAddress": None}, ["0.0.0.0/0"], ()),
    ],
)
def test_effective_routes_in_other_forms(
    fields: dict[str, Any], prefixes: list[str], addresses: tuple[str, ...]
) -> None:
    """One value or a list; a route whose prefix is missing stays, since it may take anything."""
    found = read_effective_routes([effective(["0.0.0.0/0"]) | fields])
    assert [route.prefix for route in found] == prefixes
    assert {route.addresses for route in found} == {addresses}
    assert all(route.name for route in found)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"source": "Unknown"}, r'^value\[1\]\.source "Unknown" is not known$'),
        ({"source": "Martian"}, r'^value\[1\]\.source "Martian" is not known$'),
        ({"source": None}, r"^value\[1\]\.source is missing$"),
        ({"state": "Pending"}, r'^value\[1\]\.state "Pending" is not known$'),
        ({"addressPrefix": 7}, r"^value\[1\]\.addressPrefix is no list$"),
        ({"nextHopIpAddress": {}, "addressPrefix": {"a": 1}}, r"^value\[1\]\.addressPrefix is no list$"),
    ],
)
def test_effective_routes_that_cannot_be_read_are_named(fields: dict[str, Any], named: str) -> None:
    """Nobody knows what a route of an unknown source comes before: it is an error that names it."""
    with pytest.raises(ValueError, match=named):
        read_effective_routes([effective(["0.0.0.0/0"]), effective(["10.0.0.0/8"]) | fields])


# --- slips ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "route",
    [
        Route(name="r", prefix="10.0.0.0/8", hop="None"),
        Route(name="r", prefix="::/0", hop="Teleport"),
        Route(name="r", prefix="10.0.0.4", hop="Internet"),
        Route(name="r", prefix="Storage.WestEurope", hop="Internet"),
        Route(name="r", prefix="0.0.0.0/0", hop="VirtualAppliance"),
        Route(name="r", prefix="0.0.0.0/0", hop="VirtualAppliance", addresses=("10.0.9.4", "fd00::4")),
    ],
)
def test_what_may_be_meant(route: Route) -> None:
    """CIDRs, addresses, tags, next hops from the future, appliances that Azure lists without an address."""
    assert not list(faults([route]))


@pytest.mark.parametrize(
    ("route", "named"),
    [
        (Route(name="r", prefix="", hop="None"), 'addressPrefix of route "r": it is missing'),
        (Route(name="r", prefix="*", hop="None"), 'addressPrefix of route "r"'),
        (Route(name="r", prefix="any", hop="None"), 'addressPrefix of route "r"'),
        (Route(name="r", prefix="10.0.0.0/33", hop="None"), 'addressPrefix of route "r"'),
        (Route(name="r", prefix="10.0.0.0-10.0.0.9", hop="None"), 'addressPrefix of route "r"'),
        (Route(name="r", prefix="fd00::1-fd00::2", hop="None"), 'addressPrefix of route "r"'),
        (Route(name="r", prefix="Storage West", hop="None"), 'addressPrefix of route "r"'),
        (Route(name="r", prefix="10.0.0.0/8", hop=""), 'nextHopType of route "r" is missing'),
        (
            Route(name="r", prefix="10.0.0.0/8", hop="VirtualAppliance", addresses=("10.0.9.4", "fw")),
            'nextHopIpAddress of route "r"',
        ),
        (
            Route(name="r", prefix="10.0.0.0/8", hop="VirtualAppliance", addresses=("10.0.9.0/24",)),
            "nextHopIpAddress of route \"r\": not an address: '10.0.9.0/24'",
        ),
    ],
)
def test_what_cannot_be_meant_is_named(route: Route, named: str) -> None:
    """One line that names the field and the route."""
    [fault] = faults([Route(name="fine", prefix="10.0.0.0/8", hop="None"), route])
    assert fault.startswith(named)
