"""`snat-capacity`: nodes that there may be, use that grows, and what is said of both."""

import shlex
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from checks.snat_capacity import check
from facts.filters import Missing
from facts.finding import Fault, NotApplicable, Observed, Severity, Statement, Unknown
from facts.outbound import LoadBalancer, NatGateway, OutboundProfile, OutboundRule, Series, Usage, Window
from facts.snapshot import NodePool, Snapshot
from tests.commands import parse
from tests.snapshots import (
    BALANCER,
    GATEWAY,
    balancer,
    firewall,
    frontend,
    history,
    missing,
    nat_gateway,
    network_id,
    node_ports,
    outbound_rule,
    pool,
    route,
    route_table,
    series,
    snapshot,
    subnet,
    usage,
    window,
)

LAW = settings(deadline=None, max_examples=60, derandomize=True)

NODES = subnet("nodes", "10.240.1.0/24")
TWO = "10.240.1.4 10.240.1.5"
FIREWALL = network_id("azureFirewalls", "fw")
HOURS = 28 * 24

Told = tuple[str, str]
"""Kind or severity, and what it is about: a subject's last name, a code."""


def gist(what: Snapshot) -> list[Told]:
    """What is said, in two words each; what is only kept is left out."""
    return sorted(_gist(one) for one in check(what) if not isinstance(one, Observed))


def _gist(one: Statement) -> Told:
    match one:
        case Fault():
            return (one.severity or "warning", one.subject.rsplit("/", 1)[-1])
        case Unknown():
            return ("unknown", one.reason.code)
        case NotApplicable():
            return ("not applicable", one.reason.code)
        case Observed():
            return ("observed", "")


def fault(what: Snapshot) -> Fault:
    """The one fault."""
    [only] = [one for one in check(what) if isinstance(one, Fault)]
    return only


def unknown(what: Snapshot) -> Unknown:
    """The one thing that is not known."""
    [only] = [one for one in check(what) if isinstance(one, Unknown)]
    return only


def kept(what: Snapshot) -> list[dict[str, Any]]:
    """The numbers of each way out."""
    [only] = [one for one in check(what) if isinstance(one, Observed)]
    ways: list[dict[str, Any]] = only.evidence["waysOut"]
    return ways


# --- use, hour by hour -----------------------------------------------------------------------------


def jitter(hour: int) -> float:
    """A little noise, the same in every run."""
    return hour * 7919 % 7 - 3.0


def flat(level: float) -> tuple[float, ...]:
    """Four weeks without growth."""
    return tuple(level + jitter(hour) for hour in range(HOURS))


def rising(now: float, per_day: float, days: float = 28) -> tuple[float, ...]:
    """Growth over the last days, up to a level of now."""
    return tuple(
        now - per_day * min(HOURS - 1 - hour, days * 24) / 24 + jitter(hour) for hour in range(HOURS)
    )


def used(values: tuple[float | None, ...], protocol: str = "TCP", front: str = "198.51.100.10") -> Series:
    """The ports of the busiest node on a frontend, hour by hour."""
    return series("UsedSnatPorts", values, frontendipaddress=front, protocoltype=protocol)


CALM = usage(window(*node_ports("10.240.1.4", "80*30")), history(used(flat(80))))
"""Hardly anything is used."""


def behind(
    *rules: OutboundRule,
    pools: tuple[NodePool, ...] = (),
    counted: Usage | None = CALM,
    backends: str | None = None,
    **fields: Any,
) -> Snapshot:
    """A cluster that goes out by a load balancer."""
    return snapshot(
        *(pools or (pool("user", NODES, TWO),)),
        balancers=(balancer(*rules, backends=backends),),
        used={BALANCER: counted} if counted else {},
        **fields,
    )


def sized(count: int, **fields: Any) -> tuple[NodePool, ...]:
    """One pool of so many nodes, two of them shown, with an upgrade's surge of one."""
    fields.setdefault("surge", "1")
    return (pool("user", NODES, TWO if count else "", count=count, **fields),)


# --- an explicit number of ports, and nodes --------------------------------------------------------

GROWTH = ("warning", "aksoutboundrule#growth")
STEP = ("warning", "aksoutboundrule#step")
INFO_STEP = ("info", "aksoutboundrule#step")


@pytest.mark.parametrize(
    ("rule", "pools", "said"),
    [
        # 64,000 ports of one address are 8,000 for 8 nodes.
        (outbound_rule(ports=8000), sized(7), []),
        (outbound_rule(ports=8000), sized(8), [GROWTH]),
        (outbound_rule(ports=8000), sized(3, most=7), []),
        (outbound_rule(ports=8000), sized(3, most=12), [GROWTH]),
        (outbound_rule(ports=8000), sized(9), [GROWTH]),
        # The surge: 10 % where nobody says, rounded up, one at least, of the autoscaler's maximum.
        (outbound_rule(ports=1000), sized(58, surge=""), []),
        (outbound_rule(ports=1000), sized(59, surge=""), [GROWTH]),
        (outbound_rule(ports=1000), sized(3, most=48, surge="33%"), []),
        (outbound_rule(ports=1000), sized(3, most=49, surge="33%"), [GROWTH]),
        (outbound_rule(ports=1000), sized(60, surge="4"), []),
        (outbound_rule(ports=1000), sized(60, surge="5"), [GROWTH]),
        (outbound_rule(ports=1000), sized(64, surge="0"), []),  # in place, without a node more
        (outbound_rule(ports=1000), sized(65, surge="0"), [GROWTH]),
        (outbound_rule(ports=8000), sized(4, surge="50"), []),  # four nodes take four more to be upgraded
        # Two addresses, or a prefix of four, have room for more, and rules that use them for less.
        (outbound_rule(frontend("a"), frontend("b", "198.51.100.11"), ports=8000), sized(15), []),
        (outbound_rule(frontend("a"), frontend("b", "198.51.100.11"), ports=8000), sized(16), [GROWTH]),
        (outbound_rule(frontend("a", "203.0.113.0/30"), ports=8000), sized(31), []),
        (outbound_rule(frontend("a", "203.0.113.0/30"), ports=8000), sized(32), [GROWTH]),
        (outbound_rule(frontend("a", rules=1), ports=8000), sized(6), []),
        (outbound_rule(frontend("a", rules=1), ports=8000), sized(7), [GROWTH]),
        # An autoscaler that is off, or a pool without nodes.
        (outbound_rule(ports=64_000), sized(0), []),
        (outbound_rule(ports=64_000), sized(0, most=1), [GROWTH]),
        (
            outbound_rule(frontend("a", "2001:db8::1"), ports=8000, name="six"),
            sized(8),
            [("warning", "six#growth")],
        ),
    ],
)
def test_room_for_nodes(rule: OutboundRule, pools: tuple[NodePool, ...], said: list[Told]) -> None:
    """Nodes at most against what an explicit number of ports has room for."""
    assert gist(behind(rule, pools=pools)) == said


def test_growth_in_words() -> None:
    """How many fit, how many there are, how many there may be, pool by pool."""
    pools = (*sized(4, most=6), pool("batch", NODES, "10.240.1.9", count=2, surge="1"))
    found = fault(behind(outbound_rule(frontend("a", rules=1), ports=8000), pools=pools))
    assert found.title == (
        '8,000 SNAT ports for each node have room for 7 nodes at load balancer "kubernetes", and there may '
        "be 10"
    )
    assert found.detail == (
        'Outbound rule "aksOutboundRule" of load balancer "kubernetes" gives each node 8,000 ports, and its '
        "1 address has 64,000, of which rules for what comes in may take 8: room for 7 nodes. There are 6 "
        "nodes now, and the autoscaler and an upgrade's surge may make them 10: user 4 (7 at most); batch 2 "
        "(3 at most). Nodes beyond that have no ports and cannot open the tunnel; AKS refuses to scale or "
        "upgrade to so many (InvalidLoadBalancerProfileAllocatedOutboundPorts)."
    )
    assert found.resource == f"{BALANCER}/outboundRules/aksOutboundRule"
    assert found.subject == f"{found.resource}#growth".lower()
    assert (found.confidence, found.cause) == ("derived", None)
    assert found.evidence == {
        "through": BALANCER,
        "rule": "aksOutboundRule",
        "ipVersion": 4,
        "addresses": 1,
        "blocksOfRules": 1,
        "nodesNow": 6,
        "nodesAtMost": 10,
        "pools": [{"name": "user", "now": 4, "most": 7}, {"name": "batch", "now": 2, "most": 3}],
        "inNoPool": 0,
        "portsPerNode": 8000,
        "portsInAll": 63_992,
        "fits": 7,
    }
    assert [one.summary.partition(", ")[0] for one in found.remediation] == [
        "Keep 8,000 SNAT ports for each node",
        "As what lasts: let the cluster go out by a NAT gateway",
    ]


# --- ports by default, and steps -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pools", "peak", "said"),
    [
        (sized(48), 80, []),
        (sized(49), 80, []),
        (sized(50), 80, [INFO_STEP]),  # an upgrade's one more makes 51
        (sized(50), 341, [INFO_STEP]),  # 341 and half as much again are 511.5
        (sized(50), 342, [STEP]),
        (sized(3, most=49), 400, []),
        (sized(3, most=50), 400, [STEP]),
        (sized(51), 400, []),  # it is over already
        (sized(51, most=99), 500, []),
        (sized(51, most=120), 300, [STEP]),
        (sized(3, most=999), 10, [INFO_STEP]),
        (sized(3, most=999), 22, [STEP]),  # of 32
        (sized(900), 10, []),
        (sized(3, most=1000), 1, [STEP]),  # 1,001: nobody says
        (sized(1500), 1, [STEP]),
    ],
)
def test_steps(pools: tuple[NodePool, ...], peak: int, said: list[Told]) -> None:
    """Nodes at most against the table, and the peak with headroom against the ports after it."""
    counted = usage(window(*node_ports("10.240.1.4", f"{peak}*30")), history(used(flat(0))))
    assert gist(behind(pools=pools, counted=counted)) == said


def test_the_peak_of_the_weeks_before_counts() -> None:
    """The last minutes may be calm."""
    spike = (*flat(80)[:-100], 400.0, *flat(80)[-99:])
    counted = usage(window(*node_ports("10.240.1.4", "80*30")), history(used(spike)))
    found = fault(behind(pools=sized(50), counted=counted))
    assert (found.severity, found.evidence["peak"]) == (Severity.WARNING, 400)


def test_addresses_count_after_a_step() -> None:
    """Two addresses are 1,024 ports for each node from 51 on."""
    rule = outbound_rule(frontend("a", "198.51.100.10 198.51.100.11"))
    counted = usage(window(*node_ports("10.240.1.4", "600*30")), history(used(flat(80))))
    found = fault(behind(rule, pools=sized(50), counted=counted))
    assert found.severity is Severity.INFO
    assert found.title.startswith("From 51 nodes on each has 1,024 SNAT ports instead of 2,048 at ")


def test_how_long_use_was_seen() -> None:
    """Where the weeks before could not be read, or have nothing yet, the peak is one of minutes."""
    minutes = window(*node_ports("10.240.1.4", "80*30"))
    for past in (missing("m", kind="loadBalancers"), history()):
        found = fault(behind(pools=sized(50), counted=usage(minutes, past)))
        assert "The most that one node was seen to use in the last 30 minutes is 80 ports" in found.detail


@pytest.mark.parametrize(
    ("counted", "code"),
    [
        (usage(missing("m", kind="loadBalancers"), missing("m", kind="loadBalancers")), "permission_denied"),
        (None, "no_data"),
    ],
)
def test_a_step_whose_peak_nobody_knows(counted: Usage | None, code: str) -> None:
    """Is a warning, besides what could not be read."""
    assert gist(behind(pools=sized(50), counted=counted)) == [("unknown", code), STEP]


def test_a_step_in_words() -> None:
    """Which step, ports before and after, what it cuts, and why it is a warning."""
    counted = usage(window(*node_ports("10.240.1.4", "300*30")), history(used(flat(80))))
    found = fault(behind(pools=sized(45, most=129), counted=counted))
    assert found.title == (
        'From 51 nodes on each has 512 SNAT ports instead of 1,024 at load balancer "kubernetes", and there '
        "may be 130"
    )
    assert found.detail == (
        'Outbound rule "aksOutboundRule" of load balancer "kubernetes" leaves it to Azure how many ports a '
        "node has, by the number of nodes. There are 45 nodes now, and the autoscaler and an upgrade's surge "
        "may make them 130: user 45 (130 at most). Each has 1,024 ports now, on 1 address. From 51 nodes on "
        "each has 512, and with 130 it has 256. Connections that hold the other ports are cut at that "
        "moment, and the tunnel may be among them. The most that one node was seen to use in 28 days is 300 "
        "ports, and there has to be headroom above that."
    )
    told = ("step", "portsPerNode", "portsPerNodeAfter", "portsPerNodeAtMost", "peak")
    assert [found.evidence[name] for name in told] == [51, 1024, 512, 256, 300]


def test_beyond_the_table_in_words() -> None:
    """What nobody documents is called that."""
    found = fault(behind(pools=sized(1200)))
    assert (
        found.title
        == 'Azure documents no SNAT ports for as many as 1,201 nodes at load balancer "kubernetes"'
    )
    assert "Beyond 1,000 nodes Azure documents no default" in found.detail
    assert found.evidence["step"] is None


# --- who has ports ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "provisions", "said"),
    [
        (50, False, [INFO_STEP]),
        (48, False, []),
        (None, False, []),
        (50, True, [INFO_STEP]),
        (48, True, []),
        (None, True, [("unknown", "no_data")]),
    ],
)
def test_members_that_no_pool_shows(members: int | None, provisions: bool, said: list[Told]) -> None:
    """Auto-provisioned nodes count as they are now; where nobody can count them, that is said."""
    rule = outbound_rule(members=members)
    assert gist(behind(rule, pools=sized(3), provisions_nodes=provisions)) == said


def test_provisioned_nodes_in_words() -> None:
    """They have no maximum."""
    found = fault(behind(outbound_rule(members=64, ports=1000), pools=sized(6), provisions_nodes=True))
    assert (
        "There are 64 nodes now, and the autoscaler and an upgrade's surge may make them 65: user 6 (7 at "
        "most); 58 in no node pool. Nodes that AKS provisions as pods ask for them are counted as they are "
        "now."
    ) in found.detail


def test_two_pools_two_ways() -> None:
    """A pool behind a NAT gateway has ports of the load balancer all the same, if it is a member there."""
    gated = subnet("gated", "10.240.2.0/24", gate=nat_gateway())
    pools = (*sized(4), pool("batch", gated, "10.240.2.4", count=4, surge="1"))
    fine = usage(window(), history(series("TotalConnectionCount", flat(6000))))
    told = {}
    for backends in ("/vmss/user", "/vmss/user /vmss/batch"):
        what = behind(outbound_rule(ports=8000, members=4), pools=pools, backends=backends)
        what = structs.replace(what, usage={**what.usage, GATEWAY.lower(): fine})
        told[backends] = gist(what)
        assert [one["kind"] for one in kept(what)] == ["LoadBalancer", "NatGateway"]
        assert [one["pools"] for one in kept(what)] == [["user"], ["batch"]]
    assert told == {"/vmss/user": [], "/vmss/user /vmss/batch": [GROWTH]}


def test_a_node_that_gets_out_by_another_way_has_no_peak_here() -> None:
    """It has ports in the backend pool, and what Azure Monitor shows of them is of before."""
    place = subnet("gated", "10.240.2.0/24", gate=nat_gateway())
    pools = (*sized(50), pool("batch", place, "10.240.2.4", surge="1"))
    busy = window(*node_ports("10.240.1.4", "80*30"), *node_ports("10.240.2.4", "900*30"))
    what = behind(outbound_rule(members=50), pools=pools, counted=usage(busy, history(used(flat(80)))))
    peaks = [one.evidence["peak"] for one in check(what) if isinstance(one, Fault) and "#step" in one.subject]
    assert peaks == [83]


def test_nodes_with_two_ways_out_have_a_peak_at_both() -> None:
    """A route leads a part of the Internet to a firewall, and the rest goes by the load balancer."""
    table = route_table("rt", route("part", "20.0.0.0/8", "VirtualAppliance", "10.240.200.4"))
    parted = pool("user", subnet("nodes", "10.240.1.0/24", routes=table), TWO, count=50, surge="1")
    what = behind(
        pools=(parted,),
        counted=usage(window(*node_ports("10.240.1.4", "600*30")), history(used(flat(80)))),
        appliances={"10.240.200.4": firewall()},
    )
    [step] = [one for one in check(what) if isinstance(one, Fault)]
    assert (step.severity, step.evidence["peak"]) == (Severity.WARNING, 600)


def test_a_pool_that_nobody_can_count() -> None:
    """Is unknown, and says which pool it is."""
    lost = missing("aks-user-vmss", kind="virtualMachineScaleSets")
    what = behind(pools=(structs.replace(sized(3, lost=(lost,))[0], count=None),))
    # Two are shown, but the pool was not read to its end.
    assert gist(what) == [("unknown", "permission_denied")]
    none_shown = structs.replace(pool("user", NODES, "", lost=(lost,)), count=None)
    assert gist(behind(pools=(none_shown,))) == [("unknown", "no_data"), ("unknown", "permission_denied")]
    messages = [one.reason.message for one in check(behind(pools=(none_shown,))) if isinstance(one, Unknown)]
    assert any(message.startswith("How many nodes pool user has is not known") for message in messages)


@pytest.mark.parametrize(
    ("addresses", "ports", "count", "said"),
    [
        (missing("pip"), 8000, 3, [("unknown", "permission_denied")]),
        ("", 8000, 3, [("unknown", "no_data")]),
        ("what", 8000, 3, [("unknown", "no_data")]),
        # By default the number of nodes alone decides about steps.
        (missing("pip"), 0, 3, []),
        (missing("pip"), 0, 50, [STEP]),
        ("", 0, 50, [STEP]),
    ],
)
def test_addresses_that_cannot_be_read(
    addresses: str | Missing, ports: int, count: int, said: list[Told]
) -> None:
    """Are unknown where the arithmetic needs them."""
    rule = outbound_rule(frontend("a", addresses), ports=ports)
    assert gist(behind(rule, pools=sized(count))) == said


def test_a_step_without_addresses_in_words() -> None:
    """What is said then is of each address."""
    found = fault(behind(outbound_rule(frontend("a", missing("pip"))), pools=sized(50)))
    assert "Each has 1,024 ports now, on each address." in found.detail
    assert "How many ports nodes use, or have over all addresses, is not known." in found.detail


SIX = outbound_rule(frontend("six", "2001:db8::1"), name="aksOutboundRuleIPv6")


def test_two_versions_of_ip() -> None:
    """Each rule is a sum of its own: what has room in one may have none in the other."""
    four = outbound_rule(frontend("a", "198.51.100.10 198.51.100.11"), ports=8000)
    what = behind(four, structs.replace(SIX, allocated_ports=8000), pools=sized(9))
    assert gist(what) == [("warning", "aksoutboundruleipv6#growth")]
    assert "(IPv6)" in fault(what).detail
    [way] = kept(what)
    assert [(one["rule"], one["ipVersion"], one["fits"]) for one in way["rules"]] == [
        ("aksOutboundRule", 4, 16),
        ("aksOutboundRuleIPv6", 6, 8),
    ]


def test_each_version_has_a_peak_of_its_own() -> None:
    """What IPv4 uses says nothing of IPv6."""
    counted = usage(
        window(*node_ports("10.240.1.4", "600*30"), *node_ports("fd00:10::4", "20*30", front="2001:db8::1")),
        history(used(flat(80))),
    )
    what = behind(outbound_rule(), SIX, pools=sized(50), counted=counted)
    assert gist(what) == [("info", "aksoutboundruleipv6#step"), STEP]


@pytest.mark.parametrize("outbound_type", ["loadBalancer", "loadBalancerV3", "userDefinedRouting"])
def test_what_the_cluster_calls_it_does_not_matter(outbound_type: str) -> None:
    """What is in use is reckoned with."""
    assert gist(behind(outbound_rule(ports=8000), pools=sized(9), outbound_type=outbound_type)) == [GROWTH]


def test_ids_in_any_case() -> None:
    """Azure writes them as it likes, and the subject stays the same."""
    loud = structs.replace(balancer(outbound_rule(ports=8000)), id=BALANCER.upper())
    loud = structs.replace(loud, rules=(structs.replace(loud.rules[0], id=loud.rules[0].id.upper()),))
    what = snapshot(*sized(9), balancers=(loud,), used={BALANCER: CALM})
    plain = behind(outbound_rule(ports=8000), pools=sized(9))
    assert gist(what) == [GROWTH]
    assert fault(what).subject == fault(plain).subject


# --- forecasts of ports ----------------------------------------------------------------------------


def forecast_of(
    values: Mapping[str, tuple[float | None, ...]],
    recent: Window | Missing | None = None,
    rule: OutboundRule | None = None,
    **fields: Any,
) -> Snapshot:
    """A cluster whose load balancer's use went like this, by protocol, and so goes on, or as in `recent`."""
    now = recent
    if now is None:
        last = {protocol: min(round(one[-1] or 80), 1024) for protocol, one in values.items()}
        nodes = [node_ports("10.240.1.4", f"{used}*30", protocol=name) for name, used in last.items()]
        now = window(*(one for several in nodes for one in several))
    counted = usage(now, history(*(used(one, protocol) for protocol, one in values.items())))
    return behind(*((rule,) if rule else ()), counted=counted, **fields)


SOON = ("warning", "kubernetes#forecast")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"TCP": flat(80), "UDP": flat(20)}, []),
        ({"TCP": flat(950)}, []),  # high, but it does not grow
        ({"TCP": rising(500, 10)}, []),
        ({"TCP": rising(700, 200, 4)}, []),  # in 39 hours
        ({"TCP": rising(900, 200, 4)}, [SOON]),  # in 15
        ({"UDP": rising(900, 200, 4)}, [SOON]),
        ({"TCP": flat(80), "UDP": rising(900, 200, 4)}, [SOON]),
        ({"TCP": rising(1030, 200, 4)}, [SOON]),  # it is there
        ({"TCP": flat(1100)}, [SOON]),
        ({"TCP": tuple(1000 - value for value in rising(800, 20))}, []),  # it falls
        ({"TCP": (None,) * (HOURS - 10) + flat(900)[:10]}, []),  # too little to say
        ({"TCP": flat(900)[:-30] + (None,) * 30}, []),  # it ended
    ],
)
def test_forecasts(values: dict[str, tuple[float | None, ...]], said: list[Told]) -> None:
    """Use that reaches a node's 1,024 ports within a day is a fault; what cannot be told is kept."""
    what = forecast_of(values)
    assert gist(what) == said
    [way] = kept(what)
    assert set(way["forecast"]) == set(values)


def test_a_forecast_in_words() -> None:
    """When, how certain, at what rate, of how much, and where most."""
    busy = (
        *node_ports("10.240.1.4", "700*30"),
        *node_ports("10.240.1.5", "790*30"),
        *node_ports("10.240.1.4", "12*30", protocol="UDP"),
    )
    found = fault(forecast_of({"TCP": rising(900, 200, 4), "UDP": flat(12)}, window(*busy)))
    told = found.evidence["forecast"]["TCP"]
    assert found.title == (
        'TCP SNAT ports of the busiest node at load balancer "kubernetes" run out in about 15 hours'
    )
    assert found.detail == (
        'The nodes of node pool user get out by load balancer "kubernetes". The busiest node uses about '
        f"{round(told['level'])} of its 1,024 TCP ports, and {round(told['perDay'])} more each day. At this "
        f"rate the limit is reached at {told['reaches']}, in about 15 hours (most likely between "
        f"{told['earliest']} and {told['latest']}). Busiest in the last minutes: aks-user-1 (790), "
        "aks-user-0 (700). Once ports are used up, new connections fail until old ones let go of theirs, and "
        "nodes cannot open the tunnel to the API server."
    )
    assert "2026-03-01T22:" <= told["reaches"] < "2026-03-02T00:"
    assert told["earliest"] <= told["reaches"] <= told["latest"]
    assert told["limit"] == 1024
    assert 190 < told["perDay"] < 210
    assert found.evidence["busiest"][0] == {"node": "aks-user-1", "address": "10.240.1.5", "used": 790}
    assert len(found.evidence["history"]["TCP"]["values"]) <= 60
    assert (found.confidence, found.severity) == ("derived", Severity.WARNING)
    commands = [command for one in found.remediation for command in one.commands]
    # What grows takes all there is: room for half as much again.
    assert parse(commands[0])[1]["--load-balancer-outbound-ports"] == ["1536"]
    assert any("spec.nodeName=aks-user-1" in command for command in commands)


@pytest.mark.parametrize(
    ("now", "said"),
    [("1024", [SOON]), ("768", [SOON]), ("767", []), ("5", [])],
)
def test_a_limit_that_is_reached_and_left(now: str, said: list[Told]) -> None:
    """The last hour has ended up to two hours ago: whoever leaked ports may have been restarted since."""
    what = forecast_of({"TCP": flat(1100)}, window(*node_ports("10.240.1.4", f"{now}*30")))
    assert gist(what) == said
    [way] = kept(what)
    assert way["forecast"]["TCP"]["reaches"] == "2026-03-01T08:00:00Z"
    assert way["forecast"]["TCP"].get("lately") == (None if said else int(now))


def test_a_limit_that_is_reached_since_the_last_hour() -> None:
    """What is out now does not run out in some hours."""
    found = fault(
        forecast_of({"TCP": rising(1000, 200, 4)}, window(*node_ports("10.240.1.4", "1000*9 1024*9")))
    )
    assert found.title.endswith('at load balancer "kubernetes" have run out: all 1,024 are in use')
    assert "uses about 1,024 of its 1,024 TCP ports" in found.detail
    assert "That has reached the limit." in found.detail
    soon = forecast_of({"TCP": rising(1000, 200, 4)}, window(*node_ports("10.240.1.4", "1000*9 1023*9")))
    assert "run out in about" in fault(soon).title


def test_a_day_is_counted_from_when_it_was_looked() -> None:
    """The history ended an hour and three quarters ago; the limit is reached 24 hours after that and more."""
    what = forecast_of({"TCP": rising(818, 200, 4)})
    [way] = kept(what)
    assert "2026-03-02T08:10:00Z" < way["forecast"]["TCP"]["reaches"] < "2026-03-02T09:40:00Z"
    assert gist(what) == []
    assert gist(structs.replace(what, taken_at="2026-03-01T09:45:00Z")) == [SOON]


THREE_FRONTS = outbound_rule(*(frontend(f"f{n}", f"198.51.100.{10 + n}") for n in range(3)), ports=1000)


@pytest.mark.parametrize(
    ("has", "said"),
    [
        # each node on a frontend of its own: the busiest uses 400 of 1,000
        ({4: (10,), 5: (11,), 6: (12,)}, []),
        # one has ports of all three, and may be the busiest on each
        ({4: (10, 11, 12), 5: (11,), 6: (12,)}, [SOON]),
        ({4: (10, 11), 5: (11,), 6: (12,)}, []),
    ],
)
def test_frontends_count_for_nodes_that_have_ports_of_them(
    has: dict[int, tuple[int, ...]], said: list[Told]
) -> None:
    """Hours are not told apart by nodes, and the busiest node on one frontend is not that on another."""
    busy = [
        one
        for host, fronts in has.items()
        for front in fronts
        for one in node_ports(
            f"10.240.1.{host}", "260*30", f"{1000 // len(fronts)}*30", front=f"198.51.100.{front}"
        )
    ]
    three = pool("user", NODES, "10.240.1.4 10.240.1.5 10.240.1.6", surge="1")
    past = history(*(used(flat(400), front=f"198.51.100.{front}") for front in (10, 11, 12)))
    what = behind(THREE_FRONTS, pools=(three,), counted=usage(window(*busy), past))
    assert gist(what) == said


def test_frontends_where_nobody_knows_who_has_ports_of_them() -> None:
    """Explicit ports are spread: then what is known of the busiest node is that of one frontend."""
    past = history(*(used(flat(400), front=f"198.51.100.{front}") for front in (10, 11, 12)))
    lost = usage(missing("m", "throttled", kind="loadBalancers"), past)
    assert gist(behind(THREE_FRONTS, counted=lost)) == []
    by_default = structs.replace(THREE_FRONTS, allocated_ports=0)
    [way] = kept(behind(by_default, counted=lost))
    assert way["forecast"]["TCP"]["level"] > 1190


def test_a_limit_that_is_reached_in_words() -> None:
    """It has been, and the other protocol will."""
    found = fault(forecast_of({"TCP": flat(1100), "UDP": rising(900, 200, 4)}))
    assert found.title == (
        'TCP SNAT ports of the busiest node at load balancer "kubernetes" have run out: all 1,024 are in use'
    )
    assert "That has reached the limit. So does UDP, at 2026-03-01T22:" in found.detail
    assert "uses about 1,024 of its 1,024 TCP ports" in found.detail
    assert set(found.evidence["forecast"]) == {"TCP", "UDP"}


def test_who_is_named_as_busiest() -> None:
    """Three at the most, and nobody who uses less than half of what the busiest does."""
    five = pool("user", NODES, "10.240.1.4 10.240.1.5 10.240.1.6 10.240.1.7 10.240.1.8", surge="1")
    counts = {4: 300, 5: 800, 6: 400, 7: 399, 8: 700}
    busy = [one for host, count in counts.items() for one in node_ports(f"10.240.1.{host}", f"{count}*30")]
    found = fault(forecast_of({"TCP": rising(900, 200, 4)}, window(*busy), pools=(five,)))
    assert [one["used"] for one in found.evidence["busiest"]] == [800, 700, 400]
    alone = window(*busy[2:4], *busy[:2])
    assert [
        one["node"]
        for one in fault(forecast_of({"TCP": rising(900, 200, 4)}, alone, pools=(five,))).evidence["busiest"]
    ] == ["aks-user-1"]


@pytest.mark.parametrize(
    ("recent", "rule", "limit"),
    [
        # As Azure Monitor shows it, for the busiest node, over its frontends.
        (window(*node_ports("10.240.1.4", "80*30", "2048*30")), outbound_rule(), 2048),
        (
            window(
                *node_ports("10.240.1.4", "80*30", "1024*30"),
                *node_ports("10.240.1.4", "20*30", "1024*30", front="198.51.100.11"),
            ),
            outbound_rule(),
            2048,
        ),
        (
            window(
                *node_ports("10.240.1.4", "80*30", "512*30"), *node_ports("10.240.1.5", "90*30", "256*30")
            ),
            outbound_rule(),
            256,
        ),
        # A node that is gone has none, and one of another protocol says nothing.
        (window(*node_ports("10.240.9.9", "900*30", "0*30")), outbound_rule(), 1024),
        (window(*node_ports("10.240.1.4", "80*30", "9*30", protocol="UDP")), outbound_rule(), 1024),
        # Else by the arithmetic.
        (window(series("SnatConnectionCount", "5*30")), outbound_rule(ports=4000), 4000),
        (missing("m", kind="loadBalancers"), outbound_rule(frontend("a", "203.0.113.0/31")), 2048),
    ],
)
def test_the_limit(recent: Window | Missing, rule: OutboundRule, limit: int) -> None:
    """The ports of a node now: as they are shown, or else as they are reckoned."""
    [way] = kept(forecast_of({"TCP": flat(80)}, recent, rule))
    assert way["forecast"]["TCP"]["limit"] == limit


def test_each_protocol_may_have_a_rule_of_its_own() -> None:
    """Then the ports of one are not the other's."""
    rules = (
        outbound_rule(ports=4000, name="tcp", protocol="Tcp"),
        outbound_rule(frontend("b", "198.51.100.11"), ports=800, name="udp", protocol="Udp"),
    )
    quiet = window(series("SnatConnectionCount", "5*30"))
    both = usage(quiet, history(used(flat(80)), used(flat(20), "UDP")))
    [way] = kept(behind(*rules, counted=both))
    assert {name: one["limit"] for name, one in way["forecast"].items()} == {"TCP": 4000, "UDP": 800}


def test_hours_are_counted_from_when_it_was_looked() -> None:
    """The history ends with the last full hour, and the time at which the limit is reached stays the same."""
    what = forecast_of({"TCP": rising(900, 200, 4)})
    later = structs.replace(what, taken_at="2026-03-01T09:50:00Z")
    assert fault(what).title.endswith("in about 15 hours")
    assert fault(later).title.endswith("in about 13 hours")
    assert fault(what).evidence["forecast"] == fault(later).evidence["forecast"]


@pytest.mark.parametrize(
    ("counted", "code"),
    [
        (None, "no_data"),
        (usage(window(), history()), "no_data"),
        (usage(window(), missing("m", "throttled", kind="loadBalancers")), "throttled"),
        (usage(missing("m", "throttled", kind="loadBalancers"), history()), "throttled"),
    ],
)
def test_use_that_nobody_knows(counted: Usage | None, code: str) -> None:
    """No data is not 0, and neither is what could not be read."""
    assert gist(behind(counted=counted)) == [("unknown", code)]


ENDED = (*flat(900)[:-5], *(None,) * 5)


@pytest.mark.parametrize(
    ("recent", "past", "said"),
    [
        # nothing came for five hours, nor in the last minutes: what was foretold before is not over
        (window(), ENDED, [("unknown", "no_data")]),
        (missing("m", "throttled", kind="loadBalancers"), ENDED, [("unknown", "throttled")]),
        (window(), (*ENDED[:-5], *flat(900)[:2], None, None, None), []),
        # the cluster was stopped for a while
        (window(*node_ports("10.240.1.4", "80*30")), ENDED, []),
    ],
)
def test_hours_that_ended(recent: Window | Missing, past: tuple[float | None, ...], said: list[Told]) -> None:
    """No data is no sign that use has ended."""
    assert gist(behind(counted=usage(recent, history(used(past))))) == said


def test_no_data_in_words() -> None:
    """What to do about it."""
    reason = unknown(behind(counted=usage(window(), history()))).reason
    assert reason.message.startswith(
        'Azure Monitor has no data of load balancer "kubernetes" for 28 days, though the nodes of node pool '
        "user get out by it. No data is not 0"
    )
    assert reason.resource == BALANCER


def test_a_pool_without_nodes_uses_nothing() -> None:
    """Then no data is what is to be expected."""
    assert gist(behind(pools=(pool("user", NODES, ""),), counted=None)) == []


def test_a_history_that_has_not_begun() -> None:
    """With data of the last minutes alone nothing can be foretold, which is kept."""
    what = behind(counted=usage(window(*node_ports("10.240.1.4", "80*30")), history()))
    assert gist(what) == []
    assert kept(what)[0]["forecast"] == {"why": "Azure Monitor has data of the last minutes alone"}


@pytest.mark.parametrize(
    ("rule", "pools", "code"),
    [
        (outbound_rule(frontend("a", missing("pip"))), sized(3), "permission_denied"),
        (outbound_rule(frontend("a", "")), sized(3), "no_data"),
        (outbound_rule(members=1200), sized(1200), "no_data"),
    ],
)
def test_a_limit_that_nobody_knows(rule: OutboundRule, pools: tuple[NodePool, ...], code: str) -> None:
    """Neither shown nor to be reckoned: then it is not known when it is reached."""
    what = forecast_of({"TCP": flat(80)}, window(series("SnatConnectionCount", "5*30")), rule, pools=pools)
    assert ("unknown", code) in gist(what)


def test_ipv6_is_foretold_for_itself() -> None:
    """By the frontends' addresses."""
    counted = usage(
        window(*node_ports("fd00:10::4", "700*30", front="2001:db8::1")),
        history(used(flat(80)), used(rising(900, 200, 4), front="2001:db8::1")),
    )
    what = behind(outbound_rule(), SIX, counted=counted)
    assert gist(what) == [SOON]
    assert fault(what).title.startswith("TCP over IPv6 SNAT ports of the busiest node")
    assert set(kept(what)[0]["forecast"]) == {"TCP", "TCP over IPv6"}


# --- forecasts of other ways out -------------------------------------------------------------------


CONNECTIONS = tuple(63 * value for value in rising(900, 200, 4))
"""They reach what one address has ports for as others reach 1,024."""


def gated(gate: NatGateway, values: tuple[float | None, ...]) -> Snapshot:
    """A cluster behind a NAT gateway with so many connections open at a time."""
    sums = tuple(None if value is None else value * 60 for value in values)
    return snapshot(
        pool("user", subnet("nodes", "10.240.1.0/24", gate=gate), TWO),
        outbound_type="userAssignedNATGateway",
        used={GATEWAY: usage(window(), history(series("TotalConnectionCount", sums)))},
    )


@pytest.mark.parametrize(
    ("addresses", "values", "said"),
    [
        ("198.51.100.200", flat(9000), []),
        ("198.51.100.200", flat(60_000), []),
        ("198.51.100.200", CONNECTIONS, [("info", "gateway#forecast")]),
        ("198.51.100.200", flat(70_000), [("info", "gateway#forecast")]),
        ("198.51.100.200 198.51.100.201", flat(70_000), []),
        ("203.0.113.0/28", flat(1_000_000), []),
        (missing("pip"), flat(9000), [("unknown", "permission_denied")]),
        ("", flat(9000), [("unknown", "no_data")]),
    ],
)
def test_a_nat_gateway(addresses: str | Missing, values: tuple[float | None, ...], said: list[Told]) -> None:
    """Its connections against one for each port: a coarse bound, so it is information."""
    assert gist(gated(nat_gateway(frontend("nat", addresses)), values)) == said


def test_addresses_of_ipv6_carry_nothing_of_ipv4() -> None:
    """Azure does not tell the connections apart, and nodes find the API server by IPv4."""
    both = gated(nat_gateway(frontend("nat"), frontend("six", "2001:db8::/124")), flat(70_000))
    assert gist(both) == [("info", "gateway#forecast")]
    assert kept(both)[0]["addresses"] == 1


def test_a_nat_gateway_in_words() -> None:
    """Why it is only information."""
    found = fault(gated(nat_gateway(), CONNECTIONS))
    assert found.title == 'Connections through NAT gateway "gateway" reach 64,512 in about 15 hours'
    assert "A port serves several connections at once where their destinations differ" in found.detail
    assert "each address carries 50,000" in found.detail
    assert found.evidence["forecast"]["connections"]["limit"] == 64_512
    assert "network nat gateway update" in " ".join(found.remediation[0].commands)
    assert fault(gated(nat_gateway(), flat(70_000))).title.endswith("have reached 64,512")


def test_addresses_for_connections_beyond_what_there_is() -> None:
    """Ports serve several connections at once: there may be many more than ports, and they count."""
    found = fault(gated(nat_gateway(), flat(300_000)))
    assert "Give the NAT gateway 7 addresses instead of 1" in found.remediation[0].summary


def routed(*several: Series, has: int = 1) -> Snapshot:
    """A cluster that a route leads out by an Azure Firewall."""
    table = route_table("rt", route("out", "0.0.0.0/0", "VirtualAppliance", "10.240.200.4"))
    return snapshot(
        pool("user", subnet("nodes", "10.240.1.0/24", routes=table), TWO),
        outbound_type="userDefinedRouting",
        appliances={"10.240.200.4": structs.replace(firewall(), public_addresses=has)},
        used={FIREWALL: usage(window(), history(*several))},
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (flat(40), []),
        (rising(88, 20, 4), [("warning", "fw#forecast")]),
        (flat(110), [("warning", "fw#forecast")]),
    ],
)
def test_a_firewall(values: tuple[float, ...], said: list[Told]) -> None:
    """The share of its ports against all of them."""
    what = routed(series("SNATPortUtilization", values, protocol="TCP"))
    assert gist(what) == said
    assert kept(what)[0]["addresses"] == 1


def test_a_firewall_in_words() -> None:
    """In percent."""
    found = fault(
        routed(
            series("SNATPortUtilization", rising(88, 20, 4), protocol="TCP"),
            series("SNATPortUtilization", flat(9), protocol="UDP"),
        )
    )
    assert found.title == 'TCP SNAT ports of Azure Firewall "fw" run out in about 14 hours'
    assert " % of its TCP ports are in use, and 20 % more each day." in found.detail
    assert "network firewall ip-config create" in " ".join(found.remediation[0].commands)


# --- where it does not matter ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "code", "numbers"),
    [
        ({"private": True}, "private_cluster", True),
        ({"vnet_integration": True}, "no_tunnel", True),
        ({"outbound_type": "none"}, "network_isolated", False),
        ({"outbound_type": "block"}, "network_isolated", False),
    ],
)
def test_not_for_the_tunnel(fields: dict[str, Any], code: str, numbers: bool) -> None:
    """Neither faults nor doubts; what was found is kept, with what would have been said."""
    what = behind(outbound_rule(frontend("a"), ports=8000), SIX, pools=sized(9), counted=None, **fields)
    assert gist(what) == [("not applicable", code)]
    found = [one.evidence for one in check(what) if isinstance(one, Observed)]
    assert bool(found) == numbers
    if numbers:
        assert found[0]["waysOut"][0]["titles"] == [
            (
                '8,000 SNAT ports for each node have room for 8 nodes at load balancer "kubernetes", and '
                "there may be 10"
            )
        ]


def test_stopped() -> None:
    """Whoever is stopped has no use for ports."""
    what = behind(pools=(pool("user", NODES, TWO, stopped=True),))
    assert [type(one) for one in check(what)] == [NotApplicable]
    assert gist(what) == [("not applicable", "stopped")]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (snapshot(), [("unknown", "no_data")]),
        (snapshot(pool("user", NODES, TWO), balancers=()), [("unknown", "no_way_out")]),
        (snapshot(pool("user", NODES, TWO), balancers=missing("lbs", kind="loadBalancers")), None),
        (snapshot(pool("user", missing("nodes", kind="subnets"), TWO), balancers=(balancer(),)), None),
        (snapshot(pool("user", NODES, TWO, public=True), balancers=(balancer(),)), []),
    ],
    ids=["no pools", "no way out", "balancers unread", "subnet unread", "public addresses"],
)
def test_ways_out_that_cannot_be_told(what: Snapshot, said: list[Told] | None) -> None:
    """Nothing is kept of what nobody sees, and why is said."""
    assert gist(what) == ([("unknown", "permission_denied")] if said is None else said)
    assert not any(isinstance(one, Observed) for one in check(what))


# --- what is kept ----------------------------------------------------------------------------------


def test_numbers_are_kept_where_all_is_well() -> None:
    """A pass has them too."""
    [way] = kept(behind(pools=sized(3)))
    assert way["forecast"].keys() == {"TCP"}
    assert {name: value for name, value in way.items() if name != "forecast"} == {
        "through": BALANCER,
        "kind": "LoadBalancer",
        "pools": ["user"],
        "rule": "aksOutboundRule",
        "ipVersion": 4,
        "nodesNow": 3,
        "nodesAtMost": 4,
        "addresses": 1,
        "portsPerNode": 1024,
        "fits": 50,
    }


# --- laws ------------------------------------------------------------------------------------------


def mended(what: Snapshot, commands: tuple[str, ...]) -> Snapshot:
    """The cluster after AKS was asked for ports and addresses that it keeps itself."""
    [command] = commands
    assert shlex.split(command)[:3] == ["az", "aks", "update"]
    options = parse(command)[1]
    [lb] = what.load_balancers if isinstance(what.load_balancers, tuple) else ()
    [rule] = lb.rules
    ports = int(options["--load-balancer-outbound-ports"][0])
    wanted = options.get("--load-balancer-managed-outbound-ip-count")
    count = int(wanted[0]) if wanted else len(rule.frontends)
    added = [
        frontend(f"added-{number}", f"203.0.113.{number}") for number in range(count - len(rule.frontends))
    ]
    rule = structs.replace(rule, allocated_ports=ports, frontends=(*rule.frontends, *added))
    changed: LoadBalancer = structs.replace(lb, rules=(rule,))
    return structs.replace(what, load_balancers=(changed,))


@LAW
@given(
    ports=st.sampled_from((0, 0, 512, 1024, 4000)),
    count=st.integers(1, 400),
    most=st.none() | st.integers(1, 900),
    surge=st.sampled_from(("", "1", "33%")),
    inbound=st.integers(0, 60),
    members=st.none() | st.integers(0, 500),
)
def test_what_is_recommended_mends_it(
    *, ports: int, count: int, most: int | None, surge: str, inbound: int, members: int | None
) -> None:
    """After the first thing that is recommended there are ports for every node that there may be."""
    rule = outbound_rule(frontend("a", rules=inbound), ports=ports, members=members)
    what = behind(
        rule,
        pools=sized(count, most=most, surge=surge),
        outbound=OutboundProfile(allocated_ports=ports, managed_addresses=1),
    )
    faults = [one for one in check(what) if isinstance(one, Fault)]
    for one in faults:
        first = one.remediation[0]
        if "load-balancer-outbound-ports" in " ".join(first.commands):
            assert gist(mended(what, first.commands)) == []
        else:
            # Only where a load balancer cannot do it.
            assert "by a NAT gateway" in first.summary
