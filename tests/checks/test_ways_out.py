"""Which way nodes get out by: what Azure decides, whatever the cluster says of itself."""

from collections.abc import Mapping
from typing import Any

import pytest

from checks._ways_out import not_for_the_tunnel, ways_out
from facts.filters import Firewall, Missing
from facts.snapshot import NodePool, Snapshot
from tests.snapshots import (
    api_server,
    balancer,
    firewall,
    missing,
    nat_gateway,
    network_id,
    pool,
    route,
    route_table,
    snapshot,
    subnet,
)

VMSS = "/vmss/np"
BY_FIREWALL = route_table("udr", route("default", "0.0.0.0/0", "VirtualAppliance", "10.0.1.4"))
BY_GATEWAY = route_table("udr", route("default", "0.0.0.0/0", "VirtualNetworkGateway"))
NOWHERE = route_table("udr", route("hole", "20.0.0.0/8", "None"))
ONLY_ELSEWHERE = route_table("udr", route("lan", "10.0.0.0/8", "VirtualAppliance", "10.0.1.4"))
BY_TAG = route_table("udr", route("tag", "AzureCloud.WestEurope", "VirtualAppliance", "10.0.1.4"))
FIREWALL = {"10.0.1.4": firewall()}


def one(*, nodes: str = "10.240.0.4 10.240.0.5", **place: Any) -> NodePool:
    """A pool in a subnet."""
    return pool("np", subnet("nodes", "10.240.0.0/24", **place), nodes)


def found(snap: Snapshot) -> tuple[dict[str, list[str]], list[str]]:
    """The pools by the names of what they get out by, and the codes of what is unknown."""
    ways, unknown = ways_out(snap)
    return (
        {way.gate.name: [one.name for one in way.pools] for way in ways},
        [one.reason.code for one in unknown],
    )


@pytest.mark.parametrize(
    ("what", "cluster", "ways", "unknown"),
    [
        (one(), {"balancers": (balancer(),)}, {"kubernetes": ["np"]}, []),
        (one(), {"balancers": (balancer(backends=VMSS),)}, {"kubernetes": ["np"]}, []),
        (one(), {"balancers": (balancer(backends=f"10.240.0.5 {VMSS}2"),)}, {"kubernetes": ["np"]}, []),
        (one(), {"balancers": (balancer(backends="/vmss/other"),)}, {}, ["no_way_out"]),
        (one(nodes=""), {"balancers": (balancer(backends="/vmss/other"),)}, {"kubernetes": ["np"]}, []),
        (one(), {"balancers": ()}, {}, ["no_way_out"]),
        (one(), {"balancers": missing("kubernetes")}, {}, ["permission_denied"]),
        # a NAT gateway wins over the load balancer, whatever the outbound type says
        (one(gate=nat_gateway()), {"balancers": (balancer(),)}, {"gateway": ["np"]}, []),
        (one(gate=nat_gateway()), {"outbound_type": "userAssignedNATGateway"}, {"gateway": ["np"]}, []),
        (one(gate=nat_gateway()), {"outbound_type": "somethingNew"}, {"gateway": ["np"]}, []),
        (one(gate=missing("gateway")), {"balancers": (balancer(),)}, {}, ["permission_denied"]),
        # a route wins over both
        (one(routes=BY_FIREWALL, gate=nat_gateway()), {"appliances": FIREWALL}, {"fw": ["np"]}, []),
        (one(routes=BY_FIREWALL), {"appliances": {"10.0.1.4": missing("fw")}}, {}, ["permission_denied"]),
        (one(routes=BY_FIREWALL), {}, {}, ["unreadable_appliance"]),
        (one(routes=BY_GATEWAY), {"balancers": (balancer(),)}, {}, ["unreadable_appliance"]),
        (one(routes=missing("udr")), {"balancers": (balancer(),)}, {}, ["permission_denied"]),
        # a route that is for something else, or drops what goes to the API server alone
        (one(routes=ONLY_ELSEWHERE), {"balancers": (balancer(),)}, {"kubernetes": ["np"]}, []),
        (one(routes=NOWHERE), {"balancers": (balancer(),)}, {"kubernetes": ["np"]}, []),
        (missing("vnet"), {"balancers": (balancer(),)}, {}, ["permission_denied"]),
    ],
    ids=[
        "a load balancer that shows no members",
        "by scale set",
        "by a node's address",
        "for other pools",
        "no node yet",
        "no load balancer",
        "load balancers unread",
        "NAT gateway though loadBalancer",
        "NAT gateway of the owner's",
        "new outbound type",
        "NAT gateway unread",
        "firewall before NAT gateway",
        "firewall unread",
        "unknown appliance",
        "virtual network gateway",
        "routes unread",
        "routes for elsewhere",
        "dropped",
        "subnet unread",
    ],
)
def test_the_way(
    what: NodePool | Missing, cluster: Mapping[str, Any], ways: dict[str, list[str]], unknown: list[str]
) -> None:
    """A table of pools and what they get out by."""
    pools = pool("np", what, "10.240.0.4") if isinstance(what, Missing) else what
    assert found(snapshot(pools, api=api_server(), **cluster)) == (ways, unknown)


def test_several_pools_by_different_ways() -> None:
    """Each pool counts where it gets out; nodes are known by their addresses there."""
    snap = snapshot(
        pool("one", subnet("one", "10.240.1.0/24"), "10.240.1.4,fd00:10::4"),
        pool("two", subnet("two", "10.240.2.0/24", gate=nat_gateway()), "10.240.2.4"),
        pool("three", subnet("three", "10.240.1.0/24"), "10.240.1.5"),
        pool("off", subnet("off", "10.240.4.0/24"), "10.240.4.4", stopped=True),
        api=api_server(),
        balancers=(balancer(),),
    )
    ways, unknown = ways_out(snap)
    assert not unknown
    assert {way.gate.name: way.nodes for way in ways} == {
        "kubernetes": {
            "10.240.1.4": "aks-one-0",
            "fd00:10::4": "aks-one-0",
            "10.240.1.5": "aks-three-0",
        },
        "gateway": {"10.240.2.4": "aks-two-0"},
    }
    assert [way.pool_words for way in ways] == ["node pools one, three", "node pool two"]


def test_nodes_with_public_addresses_need_nothing() -> None:
    """An address of a node's own comes before a load balancer, and not before a NAT gateway."""
    own = pool("np", subnet("nodes", "10.240.0.0/24"), "10.240.0.4", public=True)
    assert found(snapshot(own, balancers=(balancer(),))) == ({}, [])
    behind = pool("np", subnet("nodes", "10.240.0.0/24", gate=nat_gateway()), "10.240.0.4", public=True)
    assert found(snapshot(behind, balancers=(balancer(),))) == ({"gateway": ["np"]}, [])


@pytest.mark.parametrize(
    ("count", "most", "unknown"), [(0, None, []), (0, 5, ["no_way_out"]), (3, None, ["no_way_out"])]
)
def test_a_pool_that_has_no_nodes_and_gets_none(count: int, most: int | None, unknown: list[str]) -> None:
    """Nobody is there to get out, and the other pools are judged."""
    there = pool("np", subnet("nodes", "10.240.0.0/24", gate=nat_gateway()), "10.240.0.4")
    empty = pool("empty", subnet("empty", "10.240.1.0/24"), count=count, most=most)
    assert found(snapshot(there, empty, balancers=())) == ({"gateway": ["np"]}, unknown)


@pytest.mark.parametrize("api", [api_server(missing("name")), api_server("10.240.0.9"), None])
def test_the_way_of_everything_where_the_api_server_is_not_known(api: Any) -> None:
    """Without a public address to ask about, the Internet is."""
    behind = snapshot(one(), api=api, balancers=(balancer(),))
    assert found(behind) == ({"kubernetes": ["np"]}, [])
    routed = snapshot(one(routes=BY_FIREWALL), api=api, appliances=FIREWALL)
    assert found(routed) == ({"fw": ["np"]}, [])


def test_a_route_that_may_decide_is_unknown() -> None:
    """A service tag that nobody resolved may take the API server's address."""
    ways, unknown = found(snapshot(one(routes=BY_TAG), api=api_server(), balancers=(balancer(),)))
    assert ways == {}
    assert unknown == ["unknown_service_tag"]


@pytest.mark.parametrize(
    ("cluster", "code"),
    [
        ({}, None),
        ({"private": True}, "private_cluster"),
        ({"vnet_integration": True}, "no_tunnel"),
        ({"vnet_integration": True, "private": True}, "no_tunnel"),
        ({"outbound_type": "none"}, "network_isolated"),
        ({"outbound_type": "Block"}, "network_isolated"),
        ({"outbound_type": "somethingNew"}, None),
        ({"outbound_type": "userDefinedRouting"}, None),
    ],
)
def test_whether_it_is_the_tunnels_way(cluster: dict[str, Any], code: str | None) -> None:
    """Private clusters and those with VNet integration reach their API server within the network."""
    said = not_for_the_tunnel(snapshot(one(), **cluster))
    assert (said.reason.code if said else None) == code


def test_what_a_finding_calls_it() -> None:
    """Each kind has its name."""
    ways, _ = ways_out(snapshot(one(routes=BY_FIREWALL), appliances=FIREWALL))
    assert ways[0].words == 'Azure Firewall "fw"'
    assert isinstance(ways[0].gate, Firewall)
    assert ways[0].key == network_id("azureFirewalls", "fw").lower()
