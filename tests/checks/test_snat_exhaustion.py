"""snat-exhaustion: connections that fail, and nodes that use up their ports."""

import json
from typing import Any

import pytest
from msgspec import structs

from checks.snat_exhaustion import check
from facts.filters import Missing
from facts.finding import Fault, NotApplicable, Observed, Severity, Unknown
from facts.outbound import Series, Usage, Window
from facts.snapshot import NodePool, Snapshot
from tests.snapshots import (
    BALANCER,
    GATEWAY,
    api_server,
    balancer,
    firewall,
    missing,
    nat_gateway,
    network_id,
    node_ports,
    pool,
    route,
    route_table,
    series,
    snapshot,
    subnet,
    usage,
    window,
)

A, B, C = "10.240.0.4", "10.240.0.5", "10.240.0.6"
FRONT = "198.51.100.10"
NODES = pool("np", subnet("nodes", "10.240.0.0/24"), f"{A} {B} {C}")
BEHIND = pool("np", subnet("nodes", "10.240.0.0/24", gate=nat_gateway()), f"{A} {B} {C}")
FIREWALL = network_id("azureFirewalls", "fw")
ROUTED = pool(
    "np",
    subnet(
        "nodes",
        "10.240.0.0/24",
        routes=route_table("udr", route("default", "0.0.0.0/0", "VirtualAppliance", "10.0.1.4")),
    ),
    A,
)


def connected(counts: str, state: str = "Successful", *, node: str = A, front: str = FRONT) -> Series:
    """New connections of a node, minute by minute."""
    return series(
        "SnatConnectionCount", counts, backendipaddress=node, frontendipaddress=front, connectionstate=state
    )


def by_gateway(counts: str, state: str = "Attempted", protocol: str = "6") -> Series:
    """New connections at a NAT gateway, minute by minute."""
    return series("SNATConnectionCount", counts, protocol=protocol, connectionstate=state)


def balanced(*several: Series, pools: tuple[NodePool, ...] = (NODES,), **cluster: Any) -> Snapshot:
    """Nodes behind the load balancer, and what was counted there."""
    return snapshot(
        *pools,
        api=api_server(),
        balancers=(balancer(),),
        used={BALANCER: usage(window(*several))},
        **cluster,
    )


def translated(*several: Series, **cluster: Any) -> Snapshot:
    """Nodes behind a NAT gateway, and what was counted there."""
    return snapshot(BEHIND, api=api_server(), used={GATEWAY: usage(window(*several))}, **cluster)


def said(snap: Snapshot) -> tuple[list[Fault], list[str], list[str]]:
    """The faults, and the codes of what is unknown and of what does not apply."""
    statements = list(check(snap))
    return (
        [one for one in statements if isinstance(one, Fault)],
        [one.reason.code for one in statements if isinstance(one, Unknown)],
        [one.reason.code for one in statements if isinstance(one, NotApplicable)],
    )


def numbers(snap: Snapshot) -> list[dict[str, Any]]:
    """What is kept whatever is said: of each way out."""
    [one] = [one for one in check(snap) if isinstance(one, Observed)]
    found: list[dict[str, Any]] = one.evidence["waysOut"]
    return found


CALM = (connected("20*30"), *node_ports(A, "150*30"), *node_ports(B, "90*30"))


@pytest.mark.parametrize(
    ("several", "severity"),
    [
        (CALM, None),
        # hardly any traffic: a few points, the newest of them long ago
        ((connected("- 1 - - 2 -"), *node_ports(A, "2 -*25")), None),
        ((*CALM, connected("20*30", "Pending")), None),
        (node_ports(A, "767*30"), None),
        (node_ports(A, "100*29 768"), Severity.WARNING),
        (node_ports(A, "921*30"), Severity.WARNING),
        (node_ports(A, "922*30"), Severity.CRITICAL),
        (node_ports(A, "1024*30"), Severity.CRITICAL),
        (node_ports(A, "900*10 100*20"), Severity.WARNING),
        (node_ports(A, "390*30", "512*30"), Severity.WARNING),
        (node_ports(A, "3*30", "0*30"), Severity.CRITICAL),
        (node_ports(A, "0*30", "0*30"), Severity.CRITICAL),
        # a node that has just come: ports were allotted to it only then
        (node_ports(A, "0*2 5*10", "0*2 1024*10"), None),
        (node_ports(A, "800*30", protocol="UDP"), Severity.WARNING),
        ((*CALM, connected("0*30", "Failed")), None),
        ((*CALM, connected("1", "Failed")), Severity.CRITICAL),
        ((*CALM, connected("5*12", "FAILED")), Severity.CRITICAL),
        ((*CALM, connected("7 -*4", "Failed")), Severity.CRITICAL),
        ((*CALM, connected("7 -*5", "Failed")), Severity.WARNING),
        ((*CALM, connected("7 0*5", "Failed")), Severity.WARNING),
        # the newest minutes of everything are late: the failure is the last thing that is known
        (
            (connected("20*10 -*3"), connected("9 -*7", "Failed"), *node_ports(A, "9 -*3", "9 -*3")),
            Severity.CRITICAL,
        ),
        ((connected("9 -*28", "Failed"), *node_ports(A, "950*30")), Severity.CRITICAL),
        # nobody opens a connection any more, and the ports show that time went on
        ((connected("20*5 -*9"), connected("9 -*9", "Failed"), *node_ports(A, "50*30")), Severity.WARNING),
    ],
    ids=[
        "calm",
        "idle",
        "pending alone",
        "just under 75 %",
        "75 % for a minute",
        "just under 90 %",
        "90 %",
        "all of them",
        "over 75 % a while ago",
        "75 % of what is left after a step",
        "no ports at all",
        "no ports, and nothing in use",
        "no ports yet",
        "UDP",
        "failures counted as none",
        "a failure now",
        "failures for minutes",
        "failures until five minutes ago",
        "failures until six minutes ago",
        "failures until then, counted as none since",
        "late points",
        "failed long ago, and full",
        "failed, and no connection since",
    ],
)
def test_at_a_load_balancer(several: tuple[Series, ...], severity: Severity | None) -> None:
    """A table of what was counted and how grave it is."""
    faults, unknown, inapplicable = said(balanced(*several))
    assert [fault.severity for fault in faults] == ([severity] if severity else [])
    assert (unknown, inapplicable) == ([], [])


def test_what_a_finding_says() -> None:
    """How many, since when, from where, by which frontend; and the nodes that have used up their ports."""
    snap = balanced(
        connected("20*30"),
        connected("100*8", "Failed", node=B),
        connected("10*4", "Failed", node=B, front="198.51.100.11"),
        connected("1 -", "Failed", node=A),
        *node_ports(B, "500*20 1024*10"),
        *node_ports(C, "800*30"),
        *node_ports(A, "100*30"),
    )
    [fault] = said(snap)[0]
    assert fault.title == 'SNAT connections fail at load balancer "kubernetes": 841 in 8 minutes'
    for words in (
        "The nodes of node pool np get out by load balancer",
        "841 SNAT connections failed in 8 minutes since 2026-03-01T07:52:00Z",
        "the last at 2026-03-01T07:59:00Z: it goes on.",
        "They came from aks-np-1, aks-np-0.",
        "The frontends are 198.51.100.10, 198.51.100.11.",
        "aks-np-1 100 % (1,024 of 1,024, for 10 minutes at 75 % or more)",
        "aks-np-2 78 % (800 of 1,024, for 30 minutes at 75 % or more)",
    ):
        assert words in fault.detail
    failed = fault.evidence["failed"]
    assert (failed["count"], failed["minutes"], failed["goingOn"]) == (841, 8, True)
    assert failed["nodes"] == [
        {"node": "aks-np-1", "address": B, "count": 840},
        {"node": "aks-np-0", "address": A, "count": 1},
    ]
    assert failed["frontends"] == [
        {"address": FRONT, "count": 801},
        {"address": "198.51.100.11", "count": 40},
    ]
    assert failed["series"]["values"][-9:] == [None, 100, 100, 100, 100, 110, 110, 111, 110]
    assert [(one["node"], one["percent"], one["percentNow"]) for one in fault.evidence["ports"]] == [
        ("aks-np-1", 100, 100),
        ("aks-np-2", 78, 78),
    ]
    assert (fault.evidence["nodesAt75Percent"], fault.evidence["nodesAt90Percent"]) == (2, 1)
    assert fault.evidence["ports"][0]["series"]["values"] == [500] * 20 + [1024] * 10
    assert fault.confidence == "observed"
    assert fault.resource == BALANCER
    assert fault.subject == BALANCER.lower()
    commands = [command for remedy in fault.remediation for command in remedy.commands]
    assert any("--load-balancer-outbound-ports" in command for command in commands)
    assert any("--load-balancer-idle-timeout" in command for command in commands)
    assert any("managedNATGateway" in command for command in commands)
    assert "kubectl get pods --all-namespaces --field-selector spec.nodeName=aks-np-1" in commands


@pytest.mark.parametrize(
    ("snap", "words"),
    [
        (
            balanced(connected("3*30", "Failed")),
            "--metrics SnatConnectionCount --aggregation total --interval PT1M --offset 1h --filter ",
        ),
        (balanced(*node_ports(A, "900*30")), "--metrics UsedSnatPorts --aggregation average"),
        (translated(by_gateway("3*30", "Failed")), "--metrics SNATConnectionCount --aggregation total"),
    ],
    ids=["failures", "ports", "a NAT gateway"],
)
def test_it_can_be_seen_by_hand(snap: Snapshot, words: str) -> None:
    """The last remedy is none: it shows the metric, with a `top`, without which Azure leaves series out."""
    [fault] = said(snap)[0]
    look = fault.remediation[-1]
    assert look.summary.startswith("To see it for yourself: in the portal, under Metrics of ")
    [command] = look.commands
    assert command.startswith(f"az monitor metrics list --resource {fault.resource} ")
    assert words in command


def test_what_a_finding_says_of_ports_alone() -> None:
    """The fullest node in the title, and how many more there are."""
    [fault] = said(balanced(*node_ports(A, "800*30"), *node_ports(B, "950*30"), *node_ports(C, "5*30")))[0]
    assert fault.title == (
        'Node aks-np-1 uses 92 % of its TCP SNAT ports at load balancer "kubernetes", '
        "and 1 node more at 75 % or more"
    )
    assert fault.evidence["failed"] is None


@pytest.mark.parametrize(
    ("used", "allocated", "title", "words"),
    [
        # it has passed
        ("950*5 100*25", "1024*30", "used 92 %", "92 % (950 of 1,024, for 5 minutes at 75 % or more)"),
        ("950*5 800*25", "1024*30", "uses 92 %", "92 % (950 of 1,024, for 30 minutes"),
        # fewer ports were allotted anew: the share is of those
        ("600*10 390*20", "1024*10 512*20", "uses 76 %", "76 % (390 of 512, for 20 minutes"),
        # what is held beyond what is allotted is no more than all
        ("600*30", "1024*10 512*20", "uses 100 %", "100 % (600 of 512, for 20 minutes"),
    ],
)
def test_a_share_is_told_with_its_numbers(used: str, allocated: str, title: str, words: str) -> None:
    """Those of the minute in which the share was the greatest."""
    [fault] = said(balanced(*node_ports(A, used, allocated)))[0]
    assert fault.title == (f'Node aks-np-0 {title} of its TCP SNAT ports at load balancer "kubernetes"')
    assert words in fault.detail
    [one] = fault.evidence["ports"]
    assert f"{one['percent']} % ({one['used']:,} of {one['allocated']:,}, " in fault.detail


def test_a_node_with_both_versions_of_ip_is_one() -> None:
    """It has an address of each, and ports of each."""
    both = pool("np", subnet("nodes", "10.240.0.0/24"), f"{A},fd00:10::4 {B}")
    several = (*node_ports(A, "800*30"), *node_ports("fd00:10::4", "950*30", front="2001:db8::1"))
    [fault] = said(balanced(*several, pools=(both,)))[0]
    assert fault.title.startswith("Node aks-np-0 uses 92 % of its TCP SNAT ports at load balancer")
    assert "more" not in fault.title
    assert (fault.evidence["nodesAt75Percent"], fault.evidence["nodesAt90Percent"]) == (1, 1)


def test_the_same_finding_however_it_goes_on() -> None:
    """Nearly full, failing, calming down: one finding, whose severity changes."""
    stages = (
        node_ports(A, "800*30"),
        (*node_ports(A, "1024*30"), connected("5*9", "Failed")),
        (connected("20*30"), connected("5*9 0*9", "Failed")),
    )
    faults = [fault for stage in stages for fault in said(balanced(*stage))[0]]
    assert len({fault.subject for fault in faults}) == 1
    assert [fault.severity for fault in faults] == ["warning", "critical", "warning"]


def test_a_large_cluster_keeps_evidence_small() -> None:
    """Hundreds of nodes at their limit are listed in part, and counted in full."""
    addresses = [f"10.240.{number // 250}.{number % 250 + 1}" for number in range(400)]
    nodes = pool("big", subnet("nodes", "10.240.0.0/16"), " ".join(addresses))
    fronts = [f"2603:1020:206:1::{number:x}" for number in range(16)]
    several = [
        one
        for address in addresses
        for front in fronts
        for one in node_ports(address, "127*30", "128*30", front=front)
    ]
    failed = [connected("1*30", "Failed", node=addresses[7], front=front) for front in fronts]
    snap = balanced(*several, *failed, pools=(nodes,))
    [fault] = said(snap)[0]
    assert fault.evidence["nodesAt90Percent"] == 400
    assert len(fault.evidence["ports"]) == 10
    assert "and 390 more" in fault.detail
    assert len(json.dumps(fault.evidence)) < 6000
    assert len(json.dumps(numbers(snap))) < 3000
    assert len(fault.detail) < 3000


@pytest.mark.parametrize(
    ("snap", "codes"),
    [
        (balanced(), ["no_data"]),
        (snapshot(NODES, api=api_server(), balancers=(balancer(),)), ["no_data"]),
        (
            snapshot(
                NODES, api=api_server(), balancers=(balancer(),), used={BALANCER: usage(missing("metrics"))}
            ),
            ["permission_denied"],
        ),
        (snapshot(NODES, api=api_server(), balancers=()), ["no_way_out"]),
        (snapshot(NODES, api=api_server(), balancers=missing("kubernetes")), ["permission_denied"]),
        (snapshot(api=api_server(), balancers=(balancer(),)), ["no_data"]),
        (balanced(node_ports(A, "5*30")[0]), ["no_data"]),
        (balanced(connected("20*30")), ["no_data"]),
        (balanced(*CALM, pools=(NODES, pool("lost", missing("vnet")))), ["permission_denied"]),
        (
            balanced(
                *CALM, pools=(pool("np", subnet("nodes", "10.240.0.0/24"), A, lost=(missing("vmss"),)),)
            ),
            ["permission_denied"],
        ),
        (translated(), ["no_data"]),
        (translated(series("DatapathAvailability", "100*30")), ["no_data"]),
    ],
    ids=[
        "no series",
        "not looked up",
        "metrics unread",
        "no load balancer",
        "load balancer unread",
        "no pool",
        "ports in use, none allotted",
        "connections without ports",
        "another pool unread",
        "nodes unread",
        "a NAT gateway without data",
        "a NAT gateway without connections",
    ],
)
def test_what_cannot_be_told(snap: Snapshot, codes: list[str]) -> None:
    """No data is not 0, and nothing that failed to be read is healthy."""
    faults, unknown, _ = said(snap)
    assert (faults, unknown) == ([], codes)


def test_what_is_unknown_does_not_hide_what_is_seen() -> None:
    """One pool's network cannot be read, another one's connections fail."""
    faults, unknown, _ = said(
        balanced(*CALM, connected("1*30", "Failed"), pools=(NODES, pool("lost", missing("vnet"))))
    )
    assert (len(faults), unknown) == (1, ["permission_denied"])


@pytest.mark.parametrize(
    "what",
    [
        pool("np", subnet("nodes", "10.240.0.0/24"), count=0),
        pool("np", subnet("nodes", "10.240.0.0/24"), A, public=True),
    ],
    ids=["no node", "nodes with public addresses"],
)
def test_nothing_to_run_out_of(what: NodePool) -> None:
    """The way out explains why there is no data."""
    assert said(balanced(pools=(what,))) == ([], [], [])


@pytest.mark.parametrize(
    ("cluster", "code"),
    [
        ({"private": True}, "private_cluster"),
        ({"vnet_integration": True}, "no_tunnel"),
    ],
)
def test_not_the_tunnels_way(cluster: dict[str, Any], code: str) -> None:
    """The numbers are kept, with what they would have meant; nothing is a fault of the tunnel's."""
    snap = balanced(connected("3*30", "Failed"), *node_ports(A, "1000*30"), **cluster)
    assert said(snap) == ([], [], [code])
    [kept] = numbers(snap)
    assert kept["failed"] == 90
    assert kept["ports"][0]["percent"] == 97
    assert kept["titles"] == ['SNAT connections fail at load balancer "kubernetes": 90 in 30 minutes']
    unread = snapshot(NODES, balancers=missing("kubernetes"), **cluster)
    assert said(unread) == ([], [], [code])


@pytest.mark.parametrize(
    ("snap", "code"),
    [
        (balanced(*CALM, outbound_type="none"), "network_isolated"),
        (balanced(*CALM, outbound_type="block"), "network_isolated"),
        (balanced(pools=(pool("np", subnet("nodes", "10.240.0.0/24"), A, stopped=True),)), "stopped"),
    ],
)
def test_not_applicable(snap: Snapshot, code: str) -> None:
    """Nobody gets out, so nothing is counted."""
    assert list(check(snap)) == [one for one in check(snap) if isinstance(one, NotApplicable)]
    assert said(snap) == ([], [], [code])


def test_numbers_are_kept_of_what_is_well() -> None:
    """The busiest nodes with their series, for whoever looks."""
    [kept] = numbers(balanced(*CALM))
    assert (kept["through"], kept["kind"], kept["pools"]) == (BALANCER, "LoadBalancer", ["np"])
    assert kept["failed"] == 0
    assert [(one["node"], one["used"], one["allocated"]) for one in kept["ports"]] == [
        ("aks-np-0", 150, 1024),
        ("aks-np-1", 90, 1024),
    ]
    assert kept["ports"][0]["series"]["values"] == [150] * 30
    assert kept["window"] == {"from": "2026-03-01T07:30:00Z", "to": "2026-03-01T08:00:00Z"}
    assert "titles" not in kept


# --- other ways out --------------------------------------------------------------------------------


def test_two_pools_by_two_ways() -> None:
    """Behind a NAT gateway a node counts there alone, though the load balancer has it in its pool too."""
    other = pool("nat", subnet("two", "10.240.1.0/24", gate=nat_gateway()), "10.240.1.4")
    snap = snapshot(
        NODES,
        other,
        api=api_server(),
        balancers=(balancer(),),
        used={
            BALANCER: usage(window(*CALM, *node_ports("10.240.1.4", "1024*30"))),
            GATEWAY: usage(window(by_gateway("100*30"), by_gateway("8*9", "Failed"))),
        },
    )
    [fault] = said(snap)[0]
    assert fault.resource == GATEWAY
    assert fault.evidence["pools"] == ["nat"]
    assert [one["pools"] for one in numbers(snap)] == [["np"], ["nat"]]


def test_nodes_that_get_out_by_two_ways() -> None:
    """A route may lead a part of the Internet elsewhere: then nodes have ports here and there."""
    table = route_table("udr", route("part", "20.0.0.0/8", "VirtualAppliance", "10.0.1.4"))
    parted = pool("np", subnet("nodes", "10.240.0.0/24", routes=table), f"{A} {B}")
    snap = snapshot(
        parted,
        balancers=(balancer(),),
        appliances={"10.0.1.4": firewall()},
        used={
            BALANCER: usage(window(*node_ports(A, "1000*30"))),
            FIREWALL: usage(window(series("SNATPortUtilization", "9*30", protocol="TCP"))),
        },
    )
    faults, unknown, _ = said(snap)
    assert [fault.resource for fault in faults] == [BALANCER]
    assert unknown == []


def test_two_load_balancers() -> None:
    """With rules for one protocol each, say: nodes have ports of both."""
    other = network_id("loadBalancers", "other")
    second = structs.replace(balancer(name="other"), id=other)
    snap = snapshot(
        NODES,
        api=api_server(),
        balancers=(balancer(), second),
        used={
            BALANCER: usage(window(*node_ports(A, "1000*30"))),
            other: usage(window(*node_ports(A, "9*30", protocol="UDP"))),
        },
    )
    faults, unknown, _ = said(snap)
    assert [fault.resource for fault in faults] == [BALANCER]
    assert unknown == []


def test_a_node_that_is_gone() -> None:
    """It is shown for a while, with no ports any more; one that nobody could list counts by its address."""
    gone = node_ports("10.240.0.99", "0*30", "0*30")
    assert said(balanced(*CALM, *gone)) == ([], [], [])
    [fault] = said(balanced(*CALM, *node_ports("10.240.0.99", "1000*30")))[0]
    assert fault.title.startswith("Node 10.240.0.99 uses 97 %")


DATAPATH = "DatapathAvailability"


@pytest.mark.parametrize(
    ("several", "severity"),
    [
        ((by_gateway("100*30"), series(DATAPATH, "100*30")), None),
        ((by_gateway("100*30"), by_gateway("0*30", "Failed")), None),
        ((by_gateway("100*30"), by_gateway("6*20", "Failed")), Severity.CRITICAL),
        ((by_gateway("100*30"), by_gateway("6*4 0*9", "Failed", "17")), Severity.WARNING),
        ((by_gateway("100*30"), series(DATAPATH, "100*15 80*15")), Severity.WARNING),
        ((by_gateway("100*30"), series(DATAPATH, "50*15 100*15")), None),
        ((by_gateway("100*30"), series(DATAPATH, "100*15 20*15")), Severity.CRITICAL),
        ((by_gateway("100*30"), series(DATAPATH, "0*30")), Severity.CRITICAL),
        # a gateway that has just come, points that are late, and gaps
        ((by_gateway("100*30"), series(DATAPATH, "0")), None),
        ((by_gateway("100*30"), series(DATAPATH, "0*4")), None),
        ((by_gateway("100*30"), series(DATAPATH, "100*5 0*12 -*3")), Severity.CRITICAL),
        ((by_gateway("100*30"), series(DATAPATH, "0*14 -*16")), None),
        ((by_gateway("100*30"), series(DATAPATH, "0*8 -*8 100*14")), None),
        ((by_gateway("100*30"), series("PacketDropCount", "5*30")), None),
    ],
    ids=[
        "calm",
        "no failure",
        "failing",
        "failed before",
        "data path degraded",
        "data path recovered",
        "data path hardly there",
        "data path gone",
        "data path in its first minute",
        "data path in its first minutes",
        "data path gone, and late",
        "data path long ago",
        "data path of half an hour ago",
        "dropped packets alone",
    ],
)
def test_at_a_nat_gateway(several: tuple[Series, ...], severity: Severity | None) -> None:
    """Whatever the outbound type says, the gateway on the subnet is what counts."""
    for outbound in ("managedNATGateway", "userAssignedNATGateway", "loadBalancer"):
        faults, unknown, inapplicable = said(translated(*several, outbound_type=outbound))
        assert [fault.severity for fault in faults] == ([severity] if severity else [])
        assert (unknown, inapplicable) == ([], [])


def test_what_a_finding_says_of_a_nat_gateway() -> None:
    """Failures by protocol, dropped packets, the data path, active connections."""
    snap = translated(
        by_gateway("100*30"),
        by_gateway("6*10", "Failed"),
        by_gateway("1*10", "Failed", "17"),
        series(DATAPATH, "80*30"),
        series("PacketDropCount", "0*20 3*10"),
        series("TotalConnectionCount", "4000*29 5200"),
    )
    [fault] = said(snap)[0]
    assert fault.title == 'SNAT connections fail at NAT gateway "gateway": 70 in 10 minutes'
    for words in (
        "The nodes of node pool np get out by NAT gateway",
        "Its data path was available for 80 % of the last 15 minutes.",
        "It dropped 30 packets.",
    ):
        assert words in fault.detail
    assert fault.evidence["failed"]["protocols"] == [
        {"protocol": "TCP", "count": 60},
        {"protocol": "UDP", "count": 10},
    ]
    assert (fault.evidence["connections"], fault.evidence["datapathPercent"]) == (5200, 80.0)
    commands = [command for remedy in fault.remediation for command in remedy.commands]
    assert any("nat gateway update" in command for command in commands)


@pytest.mark.parametrize(
    ("tcp", "udp", "severity", "title"),
    [
        ("20*30", "1*30", None, ""),
        ("74.9*30", "1*30", None, ""),
        ("20*29 75", "1*30", Severity.WARNING, "uses 75 % of its TCP SNAT ports"),
        ("20*30", "95*30", Severity.CRITICAL, "uses 95 % of its UDP SNAT ports"),
    ],
)
def test_at_a_firewall(tcp: str, udp: str, severity: Severity | None, title: str) -> None:
    """Behind a user-defined route the firewall's own ports count, which everybody behind it shares."""
    held = [
        series("SNATPortUtilization", values, protocol=name) for name, values in (("TCP", tcp), ("UDP", udp))
    ]
    used: dict[str, Usage] = {FIREWALL: usage(window(*held))}
    snap = snapshot(ROUTED, api=api_server(), appliances={"10.0.1.4": firewall()}, used=used)
    faults, unknown, _ = said(snap)
    assert [fault.severity for fault in faults] == ([severity] if severity else [])
    assert unknown == []
    for fault in faults:
        assert fault.title == f'Azure Firewall "fw" {title}'
        assert fault.resource == FIREWALL


def test_what_is_recommended_has_room_for_what_was_seen() -> None:
    """The connections that are open at a gateway, the share at a firewall; a data path is another matter."""
    busy = (by_gateway("9*30"), by_gateway("9*30", "Failed"), series("TotalConnectionCount", "200000*30"))
    [fault] = said(translated(*busy))[0]
    assert "Give the NAT gateway 5 addresses instead of 1" in fault.remediation[0].summary
    [fault] = said(translated(by_gateway("9*30"), series(DATAPATH, "40*30")))[0]
    *mending, _look = fault.remediation
    assert not any(remedy.commands for remedy in mending)
    used = {FIREWALL: usage(window(series("SNATPortUtilization", "92*30", protocol="TCP")))}
    large = structs.replace(firewall(), public_addresses=20)
    [fault] = said(snapshot(ROUTED, api=api_server(), appliances={"10.0.1.4": large}, used=used))[0]
    assert "8 more public addresses beside the 20" in fault.remediation[0].summary


def test_a_firewall_that_does_not_tell_protocols_apart() -> None:
    """Then it is all of them."""
    used = {FIREWALL: usage(window(series("SNATPortUtilization", "92*30")))}
    [fault] = said(snapshot(ROUTED, api=api_server(), appliances={"10.0.1.4": firewall()}, used=used))[0]
    assert fault.title == 'Azure Firewall "fw" uses 92 % of its SNAT ports'
    assert "in use at their peak: 92 %. They are shared" in fault.detail


def test_a_firewall_without_a_number() -> None:
    """What was counted says nothing of its ports."""
    used = {FIREWALL: usage(window(series("FirewallHealth", "100*30")))}
    snap = snapshot(ROUTED, api=api_server(), appliances={"10.0.1.4": firewall()}, used=used)
    assert said(snap) == ([], ["no_data"], [])


def test_a_firewall_that_could_not_be_read() -> None:
    """Its ports are as unknown as its rules."""
    snap = snapshot(ROUTED, api=api_server(), appliances={"10.0.1.4": missing("fw")})
    assert said(snap) == ([], ["permission_denied"], [])


def test_windows_that_are_missing_stay_missing() -> None:
    """A usage has either a window or its reason."""
    one = usage(missing("m"))
    assert isinstance(one.recent, Missing)
    assert isinstance(one.history, Window)
