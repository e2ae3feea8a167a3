"""`egress-tunnel-port`: snapshots and what is said of them, and that what it recommends helps."""

import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from checks.egress_tunnel_port import check
from facts.filters import Firewall, Missing, NetworkSecurityGroup, RouteTable
from facts.finding import Fault, NotApplicable, Observed, Severity, Statement, Unknown
from facts.snapshot import Placement, Snapshot, Subnet
from tests.commands import mended, parse
from tests.snapshots import (
    FQDN,
    NODE_GROUP,
    admin,
    api_server,
    firewall,
    firewall_rule,
    missing,
    network_id,
    nsg,
    pool,
    route,
    route_table,
    rule,
    snapshot,
    subnet,
)

LAW = settings(deadline=None, max_examples=60)

A, B = "10.240.1.0/24", "10.240.2.0/24"
TWO_NODES = "10.240.1.4 10.240.1.5"
OTHER_NODES = "10.240.2.4 10.240.2.5"
API = "20.50.1.4"
APPLIANCE = "10.240.200.4"

Told = tuple[str, str]
"""Kind and what it is about: a subject's last name, a code."""


def said(what: Snapshot) -> list[Statement]:
    """Everything that the check says of a cluster."""
    return list(check(what))


def gist(what: Snapshot) -> list[Told]:
    """What is said, in two words each."""
    return sorted(
        (one.severity or "critical", one.subject.rsplit("/", 1)[-1])
        if isinstance(one, Fault)
        else ("unknown" if isinstance(one, Unknown) else "not applicable", one.reason.code)
        for one in said(what)
        if not isinstance(one, Observed)
    )


def fault(what: Snapshot) -> Fault:
    """The one thing that it says, which is wrong."""
    [only] = said(what)
    assert isinstance(only, Fault)
    return only


def unknown(what: Snapshot) -> Unknown:
    """The one thing that it says, which is not known."""
    [only] = said(what)
    assert isinstance(only, Unknown)
    return only


def place(
    group: NetworkSecurityGroup | Missing | None = None,
    routes: RouteTable | Missing | None = None,
    **fields: Any,
) -> Subnet:
    """The nodes' subnet."""
    return subnet("nodes", fields.pop("prefixes", A), group, routes=routes, **fields)


def cluster(where: Subnet | Missing | None = None, nodes: str = TWO_NODES, **fields: Any) -> Snapshot:
    """One pool in one subnet: `lost`, `nic`, `count`, `halted` are its own, the rest is the snapshot's."""
    own: dict[str, Any] = {
        name: fields.pop(name) for name in ("lost", "nic", "count", "halted") if name in fields
    }
    own["stopped"] = own.pop("halted", False)
    return snapshot(pool("np", where or place(), nodes, **own), **{"api": api_server(API), **fields})


def with_pods(group: NetworkSecurityGroup, address: str, **fields: Any) -> Snapshot:
    """A cluster whose pods have addresses of a subnet of their own, which has a group."""
    own = pool("np", place(), TWO_NODES, pods=subnet("pods", "10.240.8.0/22", group))
    return snapshot(own, api=api_server(address), **fields)


def closed(ports: str, protocol: str = "Tcp", **fields: Any) -> Snapshot:
    """A cluster whose group denies some ports outbound."""
    deny = rule("deny-out", 200, direction="Outbound", protocol=protocol, ports=ports)
    return cluster(place(nsg("nodes", deny)), **fields)


DENY = rule("deny-out", 200, direction="Outbound", ports="443")
DEFAULT = route("default", "0.0.0.0/0", "VirtualAppliance", APPLIANCE)


# --- which port ----------------------------------------------------------------------------------

DENIED = [("critical", "deny-out")]
STOPPED = [("not applicable", "stopped")]
PORTS: list[tuple[str, Snapshot, list[Told]]] = [
    ("konnectivity and nothing in the way", cluster(), []),
    ("konnectivity, 443 closed", closed("443"), DENIED),
    ("konnectivity, TCP 9000 closed", closed("9000"), []),
    ("konnectivity, UDP 1194 closed", closed("1194", "Udp"), []),
    ("konnectivity, UDP 443 closed", closed("443", "Udp"), []),
    ("tunnel-front, TCP 9000 closed", closed("9000", tunnel="tunnel-front"), DENIED),
    ("tunnel-front, 443 closed", closed("443", tunnel="tunnel-front"), []),
    ("aks-link, UDP 1194 closed", closed("1194", "Udp", tunnel="aks-link"), DENIED),
    ("aks-link, TCP 1194 closed", closed("1194", tunnel="aks-link"), []),
    ("private, 443 closed", closed("443", private=True, api=api_server("10.240.9.4")), DENIED),
    (
        "private, 9000 closed, whatever the tag says",
        closed("9000", private=True, tunnel="tunnel-front", api=api_server("10.240.9.4")),
        [],
    ),
    (
        "private, 443 closed, whatever the tag says",
        closed("443", private=True, tunnel="aks-link", api=api_server("10.240.9.4")),
        DENIED,
    ),
    ("private, a mistyped tag", cluster(private=True, tunnel="konektivity"), []),
    ("a mistyped tag", closed("443", tunnel="konektivity"), [("unknown", "unknown_tunnel")]),
    ("VNet integration", closed("443", vnet_integration=True), [("not applicable", "no_tunnel")]),
    ("outbound type none", closed("443", outbound_type="none"), [("not applicable", "network_isolated")]),
    ("outbound type BLOCK", closed("443", outbound_type="BLOCK"), [("not applicable", "network_isolated")]),
    ("outbound type userDefinedRouting", closed("443", outbound_type="userDefinedRouting"), DENIED),
    (
        "the name does not resolve",
        closed("443", api=api_server(missing("dns", "no_data"))),
        [("unknown", "no_data")],
    ),
    ("nothing was looked up", closed("443", api=None), [("unknown", "no_data")]),
    ("a name without addresses", cluster(api=api_server("")), [("unknown", "no_data")]),
    ("no pools", snapshot(api=api_server(API)), [("unknown", "no_data")]),
]


@pytest.mark.parametrize(("what", "expected"), [case[1:] for case in PORTS], ids=[case[0] for case in PORTS])
def test_which_port_is_asked_about(what: Snapshot, expected: list[Told]) -> None:
    """The one that carries this cluster's tunnel, and no other."""
    assert gist(what) == expected


def test_a_mistyped_tag_is_told_with_what_it_may_be() -> None:
    """The reason quotes the tag and lists the words that it may have."""
    message = unknown(cluster(tunnel="konektivity")).reason.message
    for words in ("konektivity", "tunnelwatch:tunnel", "konnectivity", "tunnel-front", "aks-link"):
        assert words in message


# --- security rules on the way -------------------------------------------------------------------

DUAL = "10.240.1.0/24 fd00:10::/64"
DUAL_NODES = "10.240.1.4,fd00:10::4 10.240.1.5,fd00:10::5"
GUARDED: list[tuple[str, Snapshot, list[Told]]] = [
    ("denied at the interface", cluster(nic=nsg("nic", DENY)), DENIED),
    (
        "denied inbound, which the answers to a connection do not feel",
        cluster(place(nsg("n", rule("in", 200, ports="*")))),
        [],
    ),
    (
        "denied to the Internet, allowed to the region",
        cluster(
            place(
                nsg(
                    "nodes",
                    structs.replace(DENY, destinations=("Internet",)),
                    rule(
                        "region",
                        100,
                        "Allow",
                        direction="Outbound",
                        destinations="AzureCloud.WestEurope",
                        ports="443",
                    ),
                )
            ),
            service_tags={"azurecloud.westeurope": ("20.50.0.0/16",)},
        ),
        [],
    ),
    (
        "the same, and the region's addresses could not be read",
        cluster(
            place(
                nsg(
                    "nodes",
                    structs.replace(DENY, destinations=("Internet",)),
                    rule(
                        "region",
                        100,
                        "Allow",
                        direction="Outbound",
                        destinations="AzureCloud.WestEurope",
                        ports="443",
                    ),
                )
            ),
            service_tags=missing("serviceTags", "permission_denied", "locations"),
        ),
        [("unknown", "permission_denied")],
    ),
    (
        "denied to the Internet, which a default route leaves as it is",
        cluster(
            place(
                nsg("nodes", structs.replace(DENY, destinations=("Internet",))),
                route_table("rt", route("out", "0.0.0.0/0", "Internet")),
            )
        ),
        DENIED,
    ),
    (
        "denied to the Internet, of which a route's own prefix may be no part",
        cluster(
            place(
                nsg("nodes", structs.replace(DENY, destinations=("Internet",))),
                route_table("rt", route("out", "20.50.0.0/16", "Internet")),
            )
        ),
        [("unknown", "unknown_service_tag")],
    ),
    (
        "denied to VirtualNetwork, to which a route's own prefix belongs",
        cluster(
            place(
                nsg("nodes", structs.replace(DENY, destinations=("VirtualNetwork",))),
                route_table("rt", route("out", "20.50.0.0/16", "Internet")),
            )
        ),
        DENIED,
    ),
    (
        "denied to VirtualNetwork, and the routes could not be read: one cause, told twice",
        cluster(
            place(
                nsg("nodes", structs.replace(DENY, destinations=("VirtualNetwork",))),
                missing("rt", "timeout", "routeTables"),
            )
        ),
        [("unknown", "timeout"), ("unknown", "timeout")],
    ),
    ("an admin rule denies", cluster(place(admin_rules=admin(DENY))), DENIED),
    (
        "an admin rule always allows, over a group that denies",
        cluster(
            place(
                nsg("nodes", DENY),
                admin_rules=admin(rule("always", 10, "AlwaysAllow", direction="Outbound", ports="443")),
            )
        ),
        [],
    ),
    (
        "admin rules that could not be read, over a group that denies",
        cluster(place(nsg("nodes", DENY), admin_rules=missing("vnet", "timeout", "virtualNetworks"))),
        [*DENIED, ("unknown", "timeout")],
    ),
    ("the group could not be read", cluster(place(missing("nodes"))), [("unknown", "permission_denied")]),
    (
        "the subnet could not be read",
        cluster(missing("vnet", "timeout", "virtualNetworks")),
        [("unknown", "timeout")],
    ),
    ("every pool is stopped", cluster(place(nsg("nodes", DENY)), halted=True), STOPPED),
    ("every pool is stopped, and could not be read", cluster(halted=True, lost=(missing("vmss"),)), STOPPED),
    (
        "a pool whose nodes show no address",
        cluster(place(nsg("nodes", DENY)), "unreadable"),
        DENIED,
    ),
    (
        "pods of their own subnet are kept from a private API server",
        with_pods(
            nsg("pods", structs.replace(DENY, destinations=("10.240.9.4",))), "10.240.9.4", private=True
        ),
        DENIED,
    ),
    (
        "pods go out with their node's address to a public one",
        with_pods(nsg("pods", DENY), "20.50.1.4"),
        [],
    ),
    (
        "a service tag that holds what is no prefix decides",
        structs.replace(
            cluster(place(nsg("nodes", structs.replace(DENY, destinations=("Odd",))))),
            service_tags={"odd": ("20.50.0.0/99",)},
        ),
        [("unknown", "unknown_service_tag")],
    ),
    ("a pool without nodes", cluster(place(nsg("nodes", DENY)), "", count=0), [("warning", "deny-out")]),
    ("nodes that could not be listed", cluster(place(nsg("nodes", DENY)), "", count=3), DENIED),
    (
        "a single node is kept from the API server",
        cluster(place(nsg("nodes", DENY)), "10.240.1.4"),
        DENIED,
    ),
    (
        "one of several addresses is denied",
        cluster(
            place(nsg("nodes", structs.replace(DENY, destinations=("20.50.1.5",)))),
            api=api_server("20.50.1.4 20.50.1.5"),
        ),
        DENIED,
    ),
    (
        "eight addresses in a row are no subnet: the first of them counts",
        cluster(
            place(nsg("nodes", structs.replace(DENY, destinations=("20.50.1.0",)))),
            api=api_server(" ".join(f"20.50.1.{host}" for host in range(8))),
        ),
        DENIED,
    ),
    (
        "IPv6 alone in common",
        cluster(
            place(
                nsg("nodes", structs.replace(DENY, sources=("::/0",), destinations=("::/0",))), prefixes=DUAL
            ),
            DUAL_NODES,
            api=api_server("2603:1020::4"),
        ),
        DENIED,
    ),
    (
        "IPv6 denied, and the API server has IPv4 alone",
        cluster(
            place(
                nsg("nodes", structs.replace(DENY, sources=("::/0",), destinations=("::/0",))), prefixes=DUAL
            ),
            DUAL_NODES,
        ),
        [],
    ),
    ("no family in common", cluster(api=api_server("2603:1020::4")), [("unknown", "no_data")]),
    (
        "no family in common with one of two pools",
        snapshot(
            pool("a", subnet("a", DUAL), DUAL_NODES),
            pool("b", subnet("b", B), OTHER_NODES),
            api=api_server("2603:1020::4"),
        ),
        [("unknown", "no_data")],
    ),
]


@pytest.mark.parametrize(
    ("what", "expected"), [case[1:] for case in GUARDED], ids=[case[0] for case in GUARDED]
)
def test_security_rules(what: Snapshot, expected: list[Told]) -> None:
    """Outbound rules at every level, and what of them could not be read."""
    assert gist(what) == expected


def test_a_rule_that_denies_is_told_with_what_it_breaks() -> None:
    """Rule, level, both ends, the API server's name, how many nodes, which tunnel."""
    found = fault(closed("443"))
    for words in (
        '"deny-out"',
        "subnet level",
        A,
        f"{API}/32",
        FQDN,
        "2 nodes cannot open",
        "konnectivity",
        "TCP 443",
    ):
        assert words in found.detail
    assert found.evidence["pools"] == ["np"]
    assert found.evidence["nodes"] == ["aks-np-0", "aks-np-1"]
    assert found.evidence["tunnel"] == "konnectivity"


def test_nodes_without_an_address_of_the_api_servers_family_are_named() -> None:
    """Only the pool that cannot be judged is in the sentence."""
    pools = (pool("a", subnet("a", DUAL), DUAL_NODES), pool("b", subnet("b", B), OTHER_NODES))
    message = unknown(snapshot(*pools, api=api_server("2603:1020::4"))).reason.message
    assert "node pool b" in message
    assert "node pool a" not in message


# --- routes --------------------------------------------------------------------------------------

HOLE = route_table("rt", route("hole", "20.0.0.0/8", "None"))
TO_APPLIANCE = route_table("rt", DEFAULT)
NOWHERE: dict[str, Any] = {"api": api_server("10.99.0.4")}
PRIVATE: dict[str, Any] = {"private": True, **NOWHERE}
NO_ROUTE = [("critical", "routes")]
ROUTED: list[tuple[str, Snapshot, list[Told]]] = [
    ("a route without next hop", cluster(place(routes=HOLE)), [("critical", "hole")]),
    (
        "the same in another case",
        cluster(place(routes=route_table("rt", route("hole", "20.0.0.0/8", "NONE")))),
        [("critical", "hole")],
    ),
    (
        "a more specific route past it",
        cluster(place(routes=route_table("rt", *HOLE.routes, route("api", f"{API}/32", "Internet")))),
        [],
    ),
    (
        "a route for other addresses",
        cluster(place(routes=route_table("rt", route("hole", "20.60.0.0/16", "None")))),
        [],
    ),
    (
        "one of several addresses is dropped",
        cluster(place(routes=HOLE), api=api_server("20.50.1.4 52.1.1.1")),
        [("critical", "hole")],
    ),
    ("no node yet", cluster(place(routes=HOLE), "", count=0), [("warning", "hole")]),
    (
        "the route table could not be read",
        cluster(place(routes=missing("rt", "timeout", "routeTables"))),
        [("unknown", "timeout")],
    ),
    (
        "a route to the virtual network gateway",
        cluster(place(routes=route_table("rt", route("home", "0.0.0.0/0", "VirtualNetworkGateway")))),
        [("unknown", "unreadable_appliance")],
    ),
    (
        "a next hop that is newer than this",
        cluster(place(routes=route_table("rt", route("new", "0.0.0.0/0", "Wormhole")))),
        [("unknown", "unknown_route_value")],
    ),
    ("a gateway, and no route table", cluster(place(gateway=True)), [("unknown", "gateway_routes")]),
    (
        "a gateway, and a table without a route there",
        cluster(place(gateway=True, routes=route_table("rt"))),
        [("unknown", "gateway_routes")],
    ),
    (
        "a gateway, whose routes are kept out",
        cluster(place(gateway=True, routes=route_table("rt", gateway_routes=False))),
        [],
    ),
    (
        "a gateway, and a default route of one's own",
        cluster(place(gateway=True, routes=route_table("rt", route("out", "0.0.0.0/0", "Internet")))),
        [],
    ),
    (
        "a private API server in the network",
        cluster(place(gateway=True), private=True, api=api_server("10.240.9.4")),
        [],
    ),
    ("a private API server in a peer", cluster(place(peers="10.99.0.0/16", gateway=True), **PRIVATE), []),
    ("a private cluster's name leads out of its network", cluster(**PRIVATE), [("unknown", "no_data")]),
    ("a private address nobody leads to", cluster(**NOWHERE), NO_ROUTE),
    (
        "a private address nobody leads to, and no node yet",
        cluster(None, "", count=0, **NOWHERE),
        [("warning", "routes")],
    ),
    (
        "a private address, and a route to the Internet",
        cluster(place(routes=route_table("rt", route("out", "10.99.0.0/16", "Internet"))), **NOWHERE),
        [("critical", "out")],
    ),
    (
        "a private endpoint is more specific than a route to the network",
        cluster(
            place(routes=route_table("rt", route("fw", "10.240.0.0/16", "VirtualAppliance", APPLIANCE))),
            private=True,
            api=api_server("10.240.9.4"),
            appliances={APPLIANCE: firewall()},
        ),
        [],
    ),
    (
        "a private API server that a gateway may lead to",
        cluster(place(gateway=True), **PRIVATE),
        [("unknown", "gateway_routes")],
    ),
    (
        "a private address, and a gateway whose routes are kept out",
        cluster(place(gateway=True, routes=route_table("rt", gateway_routes=False)), **NOWHERE),
        NO_ROUTE,
    ),
    ("an appliance that nobody looked up", cluster(place(routes=TO_APPLIANCE)), [("unknown", "no_data")]),
    (
        "an appliance that is no Azure Firewall",
        cluster(
            place(routes=TO_APPLIANCE),
            appliances={APPLIANCE: missing("nva", "unreadable_appliance", "networkInterfaces")},
        ),
        [("unknown", "unreadable_appliance")],
    ),
    (
        "an appliance without an address",
        cluster(place(routes=route_table("rt", route("default", "0.0.0.0/0", "VirtualAppliance")))),
        [("unknown", "unknown_route_value")],
    ),
]


@pytest.mark.parametrize(
    ("what", "expected"), [case[1:] for case in ROUTED], ids=[case[0] for case in ROUTED]
)
def test_routes(what: Snapshot, expected: list[Told]) -> None:
    """Where the subnet's routes lead, or why nobody can say."""
    assert gist(what) == expected


def two(left: Subnet, right: Subnet, **fields: Any) -> Snapshot:
    """Pools a and b."""
    nodes = {A: TWO_NODES, B: OTHER_NODES}
    pools = [pool(name, one, nodes[one.prefixes[0]]) for name, one in (("a", left), ("b", right))]
    return snapshot(*pools, **{"api": api_server(API), **fields})


def test_two_subnets_with_different_ways() -> None:
    """Each subnet goes its own way: one is dropped, the other denied by a firewall."""
    what = two(
        subnet("a", A, routes=HOLE),
        subnet("b", B, routes=route_table("other", DEFAULT)),
        appliances={APPLIANCE: firewall()},
    )
    assert gist(what) == [("critical", "default"), ("critical", "hole")]
    assert [one.evidence["pools"] for one in said(what) if isinstance(one, Fault)] == [["a"], ["b"]]


@pytest.mark.parametrize("shared", [True, False], ids=["one subnet", "two subnets"])
def test_one_route_is_one_finding(shared: bool) -> None:
    """Two pools that one route drops are one finding, which names both and all their nodes."""
    right = subnet("a", A, routes=HOLE) if shared else subnet("b", B, routes=HOLE)
    found = fault(two(subnet("a", A, routes=HOLE), right))
    assert found.evidence["pools"] == ["a", "b"]
    assert found.evidence["nodeCount"] == 4


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("way", [HOLE, TO_APPLIANCE], ids=["route", "firewall"])
def test_nodes_of_two_places_in_one_subnet_count(way: RouteTable, first: bool) -> None:
    """While a scale set's model changes a pool has two places: the empty one does not hide the nodes."""
    where = place(routes=way)
    what = cluster(where, appliances={APPLIANCE: firewall()})
    [nodes] = what.pools
    model = Placement(subnet=where, nic_nsg=nsg("new"))
    places = (*nodes.placements, model) if first else (model, *nodes.placements)
    found = fault(structs.replace(what, pools=(structs.replace(nodes, placements=places),)))
    assert found.severity is None
    assert found.evidence["nodeCount"] == 2


def test_the_subject_is_the_same_in_any_case() -> None:
    """Ids that come back in another case make the same finding."""
    table = structs.replace(
        HOLE, id=HOLE.id.upper(), routes=tuple(structs.replace(one, id=one.id.upper()) for one in HOLE.routes)
    )
    both = two(subnet("a", A, routes=HOLE), subnet("b", B, routes=table))
    assert fault(both).subject == f"{network_id('routeTables', 'rt')}/routes/hole".lower()
    wall = firewall(firewall_rule("no", action="Deny"))
    loud = structs.replace(
        wall, id=wall.id.upper(), rules=tuple(structs.replace(one, id=one.id.upper()) for one in wall.rules)
    )
    quiet, other = (
        fault(cluster(place(routes=TO_APPLIANCE), appliances={APPLIANCE: one})) for one in (wall, loud)
    )
    assert quiet.subject == other.subject


# --- firewalls -----------------------------------------------------------------------------------

GROUP = network_id("ipGroups", "nodes")
HELD: dict[str, Any] = {"ip_groups": {GROUP: A}}
BY_NAME = firewall_rule("api", "application")
INSPECT = firewall_rule("inspect", "application", terminates_tls=True)
NO = firewall_rule("no", action="Deny")
ABOVE = firewall_rule("no", action="Deny", policy="corporate")


def through(
    *rules: Any, nodes: str = TWO_NODES, fields: dict[str, Any] | None = None, **wall: Any
) -> Snapshot:
    """A cluster that goes out by an Azure Firewall."""
    return cluster(
        place(routes=TO_APPLIANCE), nodes, appliances={APPLIANCE: firewall(*rules, **wall)}, **(fields or {})
    )


THROUGH: list[tuple[str, Snapshot, list[Told]]] = [
    ("the API server's name is allowed", through(BY_NAME), []),
    (
        "all of the region's API servers are",
        through(firewall_rule("api", "application", fqdns="*.hcp.westeurope.azmk8s.io")),
        [],
    ),
    (
        "another region's are",
        through(firewall_rule("api", "application", fqdns="*.hcp.northeurope.azmk8s.io")),
        [("critical", "default")],
    ),
    ("nothing is allowed", through(), [("critical", "default")]),
    ("nothing is allowed, no node yet", through(nodes="", fields={"count": 0}), [("warning", "default")]),
    ("the address is allowed", through(firewall_rule("api", destinations=API)), []),
    ("a network rule denies before the name is looked at", through(NO, BY_NAME), [("critical", "no")]),
    ("the parent policy denies", through(ABOVE, BY_NAME), [("critical", "no")]),
    ("TLS is taken apart", through(INSPECT), [("critical", "inspect")]),
    (
        "TLS is taken apart for one node of two",
        through(structs.replace(INSPECT, sources=("10.240.1.4",)), BY_NAME),
        [("critical", "inspect")],
    ),
    (
        "denied for addresses that no node has now",
        through(structs.replace(NO, sources=("10.240.1.128/25",)), BY_NAME),
        [("warning", "no")],
    ),
    (
        "a group of addresses that could be read",
        through(firewall_rule("api", "application", sources="", source_groups=GROUP), ip_groups={GROUP: A}),
        [],
    ),
    (
        "a group of addresses that could not",
        through(
            firewall_rule("api", "application", sources="", source_groups=GROUP),
            unread={GROUP: missing("nodes", "throttled", "ipGroups")},
        ),
        [("unknown", "throttled")],
    ),
    (
        "a service tag that nobody resolves",
        through(firewall_rule("api", destinations="Newest")),
        [("unknown", "unknown_service_tag")],
    ),
    (
        "an application rule is nothing to the older tunnel",
        through(
            firewall_rule("api", "application", protocols="Https:9000"), fields={"tunnel": "tunnel-front"}
        ),
        [("critical", "default")],
    ),
    (
        "TCP 9000 is allowed by address",
        through(firewall_rule("api", ports="9000"), fields={"tunnel": "tunnel-front"}),
        [],
    ),
    (
        "UDP 1194 is allowed by address",
        through(firewall_rule("api", protocols="UDP", ports="1194"), fields={"tunnel": "aks-link"}),
        [],
    ),
    ("classic rules allow", through(firewall_rule("api", "application", policy=""), policy=""), []),
    (
        "classic rules deny",
        through(firewall_rule("no", "network", "Deny", policy=""), policy=""),
        [("critical", "no")],
    ),
]


@pytest.mark.parametrize(
    ("what", "expected"), [case[1:] for case in THROUGH], ids=[case[0] for case in THROUGH]
)
def test_firewalls(what: Snapshot, expected: list[Told]) -> None:
    """The rule of an Azure Firewall that decides, or its default deny, or why nobody can say."""
    assert gist(what) == expected


def test_the_nodes_that_a_firewall_keeps_off_are_named() -> None:
    """Only those from which the rule takes it; two rules add up by themselves."""
    one = through(structs.replace(NO, sources=("10.240.1.4",)), BY_NAME)
    assert fault(one).evidence["nodes"] == ["aks-np-0"]
    parts = [
        route(name, prefix, "VirtualAppliance", APPLIANCE)
        for name, prefix in (("x", "20.0.0.0/8"), ("y", "52.0.0.0/8"))
    ]
    rules = [
        firewall_rule("no", action="Deny", sources=source, destinations=destination)
        for source, destination in (("10.240.1.4", "20.0.0.0/8"), ("10.240.1.5", "52.0.0.0/8"))
    ]
    what = cluster(
        place(routes=route_table("rt", *parts)),
        api=api_server("20.50.1.4 52.1.1.1"),
        appliances={APPLIANCE: firewall(*rules, BY_NAME)},
    )
    found = fault(what)
    assert found.evidence["nodes"] == ["aks-np-0", "aks-np-1"]
    assert found.evidence["destinations"] == ("20.50.1.4/32", "52.1.1.1/32")


def test_tls_inspection_is_told_as_what_it_is() -> None:
    """The rule allows; what breaks the tunnel is that it opens TLS."""
    found = fault(through(INSPECT))
    assert "inspects" in found.title
    assert "ALPN" in found.detail


def camel(names: Iterable[str]) -> bool:
    """Whether names are written as Azure's JSON writes them."""
    return all(re.fullmatch("[a-z][A-Za-z0-9]*", name) for name in names)


def test_evidence_is_in_the_words_of_azures_documents() -> None:
    """Fields have ARM's names, those that are empty are left out, and all of it is JSON."""
    found = fault(through(firewall_rule("no", action="Deny", destinations="20.0.0.0/8"), BY_NAME)).evidence
    assert found["rule"] == {
        "name": "no",
        "ruleCollection": "collection",
        "ruleCollectionGroup": "group",
        "firewallPolicy": network_id("firewallPolicies", "policy"),
        "priority": 200,
        "action": "Deny",
        "ruleType": "NetworkRule",
        "ipProtocols": ("TCP",),
        "sourceAddresses": ("*",),
        "destinationAddresses": ("20.0.0.0/8",),
        "destinationPorts": ("443",),
    }
    inspect = fault(
        through(structs.replace(INSPECT, source_groups=(GROUP,), fqdn_tags=("T",)), **HELD)
    ).evidence
    assert inspect["rule"]["targetFqdns"] == (FQDN,)
    assert inspect["rule"]["protocols"] == ("Https:443",)
    assert inspect["rule"]["terminateTLS"] is True
    assert inspect["rule"]["sourceIpGroups"] == (GROUP,)
    assert inspect["rule"]["fqdnTags"] == ("T",)
    dropped = fault(cluster(place(routes=HOLE))).evidence
    assert dropped["route"] == {
        "name": "hole",
        "addressPrefix": "20.0.0.0/8",
        "nextHopType": "None",
    }
    for evidence in (found, inspect, dropped):
        assert camel(evidence)
        assert camel(evidence.get("rule", ()))
        assert json.loads(msgspec.json.encode(evidence))
    assert fault(through()).evidence["rule"] is None


# --- what it recommends --------------------------------------------------------------------------

MENDED: list[tuple[str, Snapshot, list[list[str]]]] = [
    ("a group's rule", closed("443"), [["nsg rule create"], ["nsg rule delete"]]),
    (
        "a group's rule about UDP",
        closed("1194", "Udp", tunnel="aks-link"),
        [["nsg rule create"], ["nsg rule delete"]],
    ),
    (
        "the group that AKS manages",
        cluster(nic=nsg("aks-nsg", DENY, group=NODE_GROUP)),
        [["nsg rule delete"], ["nsg rule create"]],
    ),
    (
        "an admin rule",
        cluster(place(admin_rules=admin(DENY))),
        [["manager security-admin-config rule-collection rule update", "manager post-commit"]],
    ),
    ("a route", cluster(place(routes=HOLE)), [["route-table route delete"], ["route-table route update"]]),
    (
        "a route to a private API server",
        cluster(
            place(routes=route_table("rt", route("hole", "10.240.9.4/32", "None"))),
            private=True,
            api=api_server("10.240.9.4"),
        ),
        [["route-table route delete"]],
    ),
    ("no route", cluster(**NOWHERE), [[]]),
    *(
        (
            name,
            what,
            [
                [
                    "firewall policy rule-collection-group create",
                    "firewall policy rule-collection-group collection add-filter-collection",
                ]
            ],
        )
        for name, what in (
            ("a firewall's default deny", through()),
            ("a firewall's network rule", through(NO, BY_NAME)),
            ("a firewall's TLS inspection", through(INSPECT)),
            ("a firewall's default deny of UDP", through(fields={"tunnel": "aks-link"})),
            (
                "a parent's TLS inspection",
                through(firewall_rule("inspect", "application", policy="corporate", terminates_tls=True)),
            ),
        )
    ),
    ("a parent's network rule", through(ABOVE, BY_NAME), [[]]),
    ("a firewall without a number left", through(NO, groups={"group": 100}), [[]]),
    ("a classic firewall's default deny", through(policy=""), [["firewall application-rule create"]]),
    (
        "a classic firewall whose collections have the name already",
        through(
            firewall_rule("www", "application", policy="", collection="allowtunnel", fqdns="*.example.com"),
            policy="",
        ),
        [["firewall application-rule create"]],
    ),
    (
        "a policy whose groups have the name already",
        through(groups={"allowTunnel": 300}),
        [
            [
                "firewall policy rule-collection-group create",
                "firewall policy rule-collection-group collection add-filter-collection",
            ]
        ],
    ),
    (
        "a classic firewall's rule",
        through(firewall_rule("no", action="Deny", policy=""), policy=""),
        [["firewall network-rule create"]],
    ),
]


@pytest.mark.parametrize(
    ("what", "expected"), [case[1:] for case in MENDED], ids=[case[0] for case in MENDED]
)
def test_what_it_recommends_helps(what: Snapshot, expected: list[list[str]]) -> None:
    """The commands of each way, in order of preference; after those of any one, all is well."""
    ways = fault(what).remediation
    assert [
        [parse(command)[0].removeprefix("network ") for command in way.commands] for way in ways
    ] == expected
    for way in ways:
        assert way.summary
        if way.commands:
            assert said(mended(what, way.commands)) == []


def test_an_inherited_rule_is_named_with_its_policy() -> None:
    """Nothing that the firewall's own policy says comes before it, so nothing is recommended there."""
    [way] = fault(through(ABOVE, BY_NAME)).remediation
    assert '"corporate"' in way.summary


PREFIXES = (A, "10.240.1.4", "10.0.0.0/8", "*", "VirtualNetwork")
TARGETS = ("Internet", API, "20.0.0.0/8", "*", "10.0.0.0/8", "52.1.1.1")


@st.composite
def groups(draw: st.DrawFn, name: str, group: str) -> NetworkSecurityGroup:
    """A group with up to five outbound rules, close to what is asked."""
    priorities = draw(st.lists(st.integers(100, 108), max_size=5, unique=True))
    rules = [
        rule(
            f"r{priority}",
            priority,
            draw(st.sampled_from(("Deny", "Deny", "Allow"))),
            direction="Outbound",
            protocol=draw(st.sampled_from(("Tcp", "*"))),
            sources=draw(st.sampled_from(PREFIXES)),
            destinations=draw(st.sampled_from(TARGETS)),
            ports=draw(st.sampled_from(("443", "*", "80"))),
        )
        for priority in priorities
    ]
    return nsg(name, *rules, group=group)


def subjects(statements: Iterable[Statement]) -> set[str]:
    """What is wrong, by subject."""
    return {one.subject for one in statements if isinstance(one, Fault)}


@LAW
@given(
    groups("nodes", "rg-network"), groups("aks-nsg", NODE_GROUP), st.sampled_from((API, f"{API} 52.1.1.1"))
)
def test_every_way_to_mend_a_group_mends_it(
    outer: NetworkSecurityGroup, inner: NetworkSecurityGroup, addresses: str
) -> None:
    """After the commands of any one way its rule denies nothing, and an allow makes nothing worse."""
    what = cluster(place(outer), nic=inner, api=api_server(addresses))
    before = said(what)
    assert all(isinstance(one, Fault) for one in before)
    for one in before:
        assert isinstance(one, Fault)
        for way in one.remediation:
            after = subjects(said(mended(what, way.commands)))
            assert one.subject not in after
            if "--access" in way.commands[-1]:
                assert after <= subjects(before)


def test_what_does_not_apply_says_nothing_else() -> None:
    """Neither what is wrong nor what could not be read matters where there is no tunnel."""
    lost = (missing("vmss"),)
    [only] = said(closed("443", vnet_integration=True, lost=lost))
    assert isinstance(only, NotApplicable)


def test_severity_of_what_the_check_finds() -> None:
    """Critical, the check's own, is left to the runner; a warning is told."""
    assert fault(through()).severity is None
    assert fault(through(nodes="", fields={"count": 0})).severity is Severity.WARNING


def test_firewalls_are_asked_from_addresses_that_nodes_can_have() -> None:
    """A rule about the addresses that Azure keeps of each subnet decides nothing."""
    deny: Firewall = firewall(structs.replace(NO, sources=("10.240.1.1",)), BY_NAME)
    assert said(cluster(place(routes=TO_APPLIANCE), appliances={APPLIANCE: deny})) == []
