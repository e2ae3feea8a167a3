"""The arithmetic of SNAT ports, on Microsoft's examples and what Azure really says of pools and addresses."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from checks._snat_ports import (
    BLOCK,
    GATEWAY_ADDRESSES,
    GATEWAY_TO_ONE_DESTINATION,
    HEADROOM,
    MOST_ADDRESSES,
    MOST_PORTS,
    PORTS_PER_ADDRESS,
    Plan,
    count_addresses,
    default_ports,
    firewall_ports,
    fits,
    gateway_addresses,
    gateway_connections,
    ip_version,
    next_step,
    plan,
    pool_size,
    ports_in_all,
    ports_of_node,
    sharing,
    surge,
    taken_blocks,
    wanted_ports,
)
from facts.filters import Missing
from facts.outbound import Frontend
from facts.snapshot import NodePool
from tests.snapshots import balancer, frontend, missing, outbound_rule, pool, subnet

LAW = settings(deadline=None, max_examples=200, derandomize=True)
NODES = subnet("nodes", "10.240.1.0/24")


def addresses(count: int) -> str:
    """So many addresses."""
    return " ".join(f"10.240.{number // 250}.{number % 250 + 4}" for number in range(count))


# --- Azure's table of defaults ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "ports", "step"),
    [
        (1, 1024, 51),
        (50, 1024, 51),
        (51, 512, 101),
        (100, 512, 101),
        (101, 256, 201),
        (200, 256, 201),
        (201, 128, 401),
        (400, 128, 401),
        (401, 64, 801),
        (800, 64, 801),
        (801, 32, 1001),
        (1000, 32, 1001),
        (1001, None, None),
    ],
)
def test_default_ports(nodes: int, ports: int | None, step: int | None) -> None:
    """https://learn.microsoft.com/azure/load-balancer/load-balancer-outbound-connections#preallocatedports"""
    assert (default_ports(nodes), next_step(nodes)) == (ports, step)


@LAW
@given(st.integers(1, 1000))
def test_a_step_is_the_first_number_with_fewer(nodes: int) -> None:
    """Up to it everything stays; and by default there is always room for what is promised."""
    step, ports = next_step(nodes), default_ports(nodes)
    assert step is not None
    assert ports is not None
    assert default_ports(step - 1) == ports
    assert (default_ports(step) or 0) < ports
    assert nodes * ports <= PORTS_PER_ADDRESS


# --- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frontends", "count"),
    [
        ((), 0),
        ((frontend(),), 1),
        ((frontend("a"), frontend("b", "198.51.100.11")), 2),
        ((frontend("a", "203.0.113.0/28"),), 16),
        ((frontend("a", "203.0.113.0/31"), frontend("b")), 3),
        ((frontend("a", "2001:db8::1"),), 1),
        ((frontend("a", "2001:db8::/124"),), 16),
        ((frontend("a", ""),), 0),  # Azure has not given it an address yet
        ((frontend("a", missing("pip", kind="publicIPAddresses")), frontend("b")), None),
        ((frontend("a", "what"),), None),
    ],
)
def test_count_addresses(frontends: tuple[Frontend, ...], count: int | None) -> None:
    """A prefix has all of its addresses; what cannot be read makes the sum unknown."""
    assert count_addresses(frontends) == count


@pytest.mark.parametrize(
    ("name", "held", "version"),
    [
        ("aksOutboundRule", "198.51.100.10", 4),
        ("aksOutboundRuleIPv6", "2001:db8::1", 6),
        ("own", "2001:db8::/124", 6),
        ("aksOutboundRuleIPv6", missing("pip"), 6),
        ("aksOutboundRule", missing("pip"), 4),
        ("aksOutboundRuleIPv6", "", 6),
    ],
)
def test_ip_version(name: str, held: str | Missing, version: int) -> None:
    """The addresses say, or where there are none to be seen AKS's name for the rule."""
    assert ip_version(outbound_rule(frontend("a", held), name=name)) == version


# --- ports -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ports", "held", "blocks", "nodes"),
    [
        # https://learn.microsoft.com/azure/aks/configure-load-balancer-standard
        (1000, 2, 0, 128),
        (1000, 7, 0, 448),
        (4000, 2, 0, 32),
        (4000, 7, 0, 112),
        # https://learn.microsoft.com/troubleshoot/azure/azure-kubernetes/create-upgrade-delete/
        # error-code-invalidloadbalancerprofileallocatedoutboundports: 9 nodes do not fit.
        (8000, 1, 0, 8),
        (64_000, 1, 0, 1),
        (64_000, 1, 1, 0),  # a load balancing rule has eight of them
        (1024, 1, 0, 62),
        (1024, 1, 64, 62),
        (1024, 1, 65, 61),
        (8, 1, 9000, 0),  # more rules than ports
    ],
)
def test_fits(ports: int, held: int, blocks: int, nodes: int) -> None:
    """The documentation's examples, and what rules take away."""
    assert fits(ports, held, blocks) == nodes


def test_rules_take_blocks() -> None:
    """Of every frontend of the outbound rule."""
    rule = outbound_rule(frontend("a", rules=3), frontend("b", "198.51.100.11", rules=2))
    assert taken_blocks(rule) == 5
    assert ports_in_all(2, taken_blocks(rule)) == 127_960


@pytest.mark.parametrize(
    ("explicit", "held", "nodes", "ports"),
    [
        (0, "198.51.100.10", 3, 1024),
        (0, "198.51.100.10 198.51.100.11", 3, 2048),  # by default each address counts
        (4000, "198.51.100.10 198.51.100.11", 3, 4000),  # an explicit number is for all of them
        (0, "203.0.113.0/30", 51, 2048),
        (0, "198.51.100.10", 1001, None),
        (0, "", 3, None),
        (0, missing("pip"), 3, None),
        (4000, missing("pip"), 1001, 4000),
    ],
)
def test_ports_of_node(explicit: int, held: str | Missing, nodes: int, ports: int | None) -> None:
    """By default so many of each address; an explicit number over all of them."""
    assert ports_of_node(outbound_rule(frontend("a", held), ports=explicit), nodes) == ports


def test_gateways_and_firewalls() -> None:
    """https://learn.microsoft.com/azure/nat-gateway/nat-gateway-resource and Azure Firewall's limits."""
    assert gateway_connections(1) == 64_512
    assert gateway_connections(GATEWAY_ADDRESSES) == 1_032_192
    assert gateway_connections(40) == 2_000_000
    assert gateway_connections(1) > GATEWAY_TO_ONE_DESTINATION
    assert firewall_ports(1) == 4_992
    assert firewall_ports(20) == 99_840


@pytest.mark.parametrize(
    ("ports", "nodes", "held"),
    [(0, 0, 1), (1024, 3, 1), (1024, 63, 1), (1024, 64, 2), (64_000, 1000, 16)],
)
def test_gateway_addresses(ports: int, nodes: int, held: int) -> None:
    """One at least, and never more than a NAT gateway takes."""
    assert gateway_addresses(ports, nodes) == held


# --- nodes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "nodes", "more"),
    [
        ("", 3, 1),  # AKS: 10 %
        ("", 11, 2),
        ("", 100, 10),
        ("33%", 3, 1),
        ("33%", 10, 4),  # rounded up
        ("33 %", 100, 33),
        ("100%", 7, 7),
        ("1", 100, 1),
        ("5", 2, 2),  # as many as there are to be upgraded
        ("500", 3, 3),
        ("200%", 3, 3),
        ("0", 10, 0),  # nodes are upgraded in place, as maxUnavailable has it
        ("0%", 10, 0),
        ("many", 20, 2),
        ("33%", 0, 0),
        ("5", 0, 0),
    ],
)
def test_surge(written: str, nodes: int, more: int) -> None:
    """Percentages are rounded up, and none is added beyond those that there are to be upgraded."""
    assert surge(written, nodes) == more


UNREAD = (missing("aks-user-vmss", kind="virtualMachineScaleSets"),)


@pytest.mark.parametrize(
    ("what", "now", "here", "most"),
    [
        (pool("user", NODES, addresses(3)), 3, 3, 4),
        (pool("user", NODES, addresses(3), most=10, surge="1"), 3, 3, 11),
        (pool("user", NODES, addresses(3), most=10, surge="33%"), 3, 3, 14),
        (pool("user", NODES, "", count=0), 0, 0, 0),
        (pool("user", NODES, "", count=0, most=5), 0, 0, 6),
        (pool("user", NODES, addresses(2), count=5), 5, 5, 6),  # three are on their way
        (pool("user", NODES, addresses(6), count=5, surge="1"), 5, 6, 6),  # an upgrade goes on
        (pool("user", NODES, addresses(9), count=5, surge="1"), 5, 9, 9),
        (pool("user", NODES, addresses(12), most=10, surge="1"), 12, 12, 13),  # somebody scaled by hand
        (structs.replace(pool("user", NODES, addresses(4)), count=None), 4, 4, 5),
        (structs.replace(pool("user", NODES, "", lost=UNREAD), count=None), None, 0, None),
        (pool("user", NODES, "", count=4, lost=UNREAD), 4, 4, 5),
    ],
)
def test_pool_size(what: NodePool, now: int | None, here: int, most: int | None) -> None:
    """What Azure says there should be, what there is, and what there may be."""
    size = pool_size(what)
    assert (size.now, size.here, size.most) == (now, here, most)


USER = pool("user", NODES, "10.240.1.4 10.240.1.5", most=10, surge="1")
OTHER = pool("other", NODES, "10.240.2.4 10.240.2.5 10.240.2.6", surge="1")
IDLE = structs.replace(OTHER, power_state="Stopped")


@pytest.mark.parametrize(
    ("members", "backends", "every", "now", "most", "others"),
    [
        (None, None, (USER,), 2, 11, 0),
        (2, None, (USER,), 2, 11, 0),
        (5, None, (USER,), 5, 14, 3),  # members that no pool shows, as auto-provisioned nodes are
        (1, None, (USER,), 2, 11, 0),  # one is on its way
        (5, "/vmss/user /vmss/other", (USER, OTHER), 5, 15, 0),  # it gets out elsewhere, and has ports here
        (5, "10.240.1.4 10.240.1.5 10.240.2.4", (USER, OTHER), 5, 15, 0),
        (2, "/vmss/user", (USER, OTHER), 2, 11, 0),
        (2, "/vmss/user /vmss/other", (USER, IDLE), 2, 11, 0),
    ],
)
def test_sharing(
    members: int | None, backends: str | None, every: tuple[NodePool, ...], now: int, most: int, others: int
) -> None:
    """Every member of the backend pool has ports, and whoever is none of the pools stays as it is."""
    rule = outbound_rule(members=members)
    found = sharing(balancer(rule, backends=backends), rule, (USER,), every)
    assert (found.now, found.most, found.others) == (now, most, others)
    assert found.counted == (members is not None)


def test_sharing_with_a_pool_that_nobody_can_count() -> None:
    """The sums are not known, and words say whose fault that is."""
    lost = structs.replace(pool("lost", NODES, "", lost=UNREAD), count=None)
    rule = outbound_rule(members=7)
    found = sharing(balancer(rule), rule, (USER, lost), ())
    assert (found.now, found.most) == (None, None)
    assert found.words == "user 2 (11 at most); lost an unknown number; 5 in no node pool"


def test_sharing_in_words() -> None:
    """Pool by pool, and why one is there that gets out elsewhere."""
    rule = outbound_rule(members=5)
    found = sharing(balancer(rule, backends="/vmss/user /vmss/other"), rule, (USER,), (USER, OTHER))
    assert found.words == (
        "user 2 (11 at most); other 3 (4 at most), which gets out by another way but has ports here"
    )


# --- what to ask for -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peak", "present", "failed", "ports"),
    [
        (None, None, False, None),
        (None, 1024, False, 1024),
        (None, 1024, True, 2048),
        (200.0, 1024, False, 1024),  # never fewer than there are
        (1000.0, 1024, False, 1504),
        (1024.0, 1024, True, 2048),
        (900.4, None, False, 1352),
        (0.0, None, False, 8),
        (0.0, 0, True, 8),
    ],
)
def test_wanted_ports(peak: float | None, present: int | None, failed: bool, ports: int | None) -> None:
    """The peak with headroom, by eights; twice what there are where that was too few."""
    assert wanted_ports(peak, present, failed=failed) == ports


@pytest.mark.parametrize(
    ("ports", "nodes", "held", "blocks", "found"),
    [
        (1024, 62, 1, 0, Plan(1024, 1)),
        (1024, 63, 1, 0, Plan(1024, 2)),
        (1024, 62, 1, 65, Plan(1024, 2)),
        (1024, 10, 3, 0, Plan(1024, 3)),  # none is taken away
        (8, 0, 0, 0, Plan(8, 1)),
        (64_000, 100, 1, 0, Plan(64_000, 100)),
        (64_000, 101, 1, 0, None),
        (64_008, 1, 1, 0, None),
        (6400, 1000, 1, 0, Plan(6400, 100)),
        (6400, 1000, 1, 1, None),
        (8, 1, 120, 0, Plan(8, 120)),  # public prefixes may have brought more
        (64_000, 121, 120, 0, None),
    ],
)
def test_plan(ports: int, nodes: int, held: int, blocks: int, found: Plan | None) -> None:
    """The fewest addresses that do, but none fewer than there are."""
    assert plan(ports, nodes, addresses=held, blocks=blocks) == found


@LAW
@given(
    peak=st.none() | st.floats(0, 70_000),
    present=st.none() | st.integers(1, 8000).map(lambda number: number * 8),
    failed=st.booleans(),
    nodes=st.integers(0, 5000),
    held=st.integers(1, 2 * MOST_ADDRESSES),
    blocks=st.integers(0, 1000),
)
def test_plans_do(
    *, peak: float | None, present: int | None, failed: bool, nodes: int, held: int, blocks: int
) -> None:
    """By eights, with headroom, no fewer than before, room for every node, and not one address too many."""
    ports = wanted_ports(peak, present, failed=failed)
    if ports is None:
        assert peak is None
        assert present is None
        return
    assert ports % BLOCK == 0
    assert ports >= (peak or 0) * (1 + HEADROOM)
    assert ports >= (present or 0)
    found = plan(ports, nodes, addresses=held, blocks=blocks)
    if found is None:
        assert ports > MOST_PORTS or ports * nodes > ports_in_all(max(MOST_ADDRESSES, held), blocks)
        return
    assert found.ports == ports <= MOST_PORTS
    assert held <= found.addresses <= max(MOST_ADDRESSES, held)
    assert fits(found.ports, found.addresses, blocks) >= nodes
    assert found.addresses == held or ports * nodes > ports_in_all(found.addresses - 1, blocks)
