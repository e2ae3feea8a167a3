"""What is recommended where SNAT ports run short: commands as a shell takes them apart, and that they do."""

import re
import shlex
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from checks._snat_advice import remedies
from checks._snat_ports import (
    BLOCK,
    HEADROOM,
    MOST_ADDRESSES,
    MOST_PORTS,
    PORTS_PER_ADDRESS,
    default_ports,
)
from checks._ways_out import WayOut, ways_out
from facts.filters import Firewall
from facts.finding import Remediation
from facts.outbound import Frontend, LoadBalancer, NatGateway, OutboundProfile
from facts.snapshot import NodePool, Snapshot, Subnet
from tests.commands import Options, parse
from tests.snapshots import (
    BALANCER,
    CLUSTER,
    GATEWAY,
    NODE_GROUP,
    SUBSCRIPTION,
    balancer,
    firewall,
    frontend,
    missing,
    nat_gateway,
    network_id,
    outbound_rule,
    pool,
    route,
    route_table,
    snapshot,
    subnet,
)

LAW = settings(deadline=None, max_examples=100, derandomize=True)

MANAGED = OutboundProfile(allocated_ports=0, idle_timeout_minutes=30, managed_addresses=1)
AKS = f"az aks update --subscription {SUBSCRIPTION} --resource-group rg-shop --name aks-shop"
ADDRESS = f"network public-ip create --subscription {SUBSCRIPTION} --resource-group"
NODES = subnet("nodes", "10.240.1.0/24")
TWO = "10.240.1.4 10.240.1.5"


def nodes(count: int, place: Subnet = NODES, **fields: Any) -> NodePool:
    """A pool of so many nodes, of which two are shown."""
    return pool("user", place, TWO, count=count, **fields)


def advice(
    what: Snapshot,
    *,
    peak: float | None = None,
    failed: bool = False,
    busiest: Iterable[str] = (),
    usage: bool = True,
    degraded: bool = False,
) -> tuple[Remediation, ...]:
    """What is recommended for the one way out."""
    [way], unread = ways_out(what)
    assert not unread
    return remedies(
        what, way, peak=peak, failed=failed, busiest=tuple(busiest), usage=usage, degraded=degraded
    )


def behind(gate: LoadBalancer, *pools: NodePool, **fields: Any) -> Snapshot:
    """A cluster that goes out by a load balancer."""
    fields.setdefault("outbound", MANAGED)
    return snapshot(*(pools or (nodes(3),)), balancers=(gate,), **fields)


def first(what: Snapshot, **told: Any) -> list[str]:
    """The commands of what is recommended first."""
    return list(advice(what, **told)[0].commands)


# --- a load balancer that AKS keeps ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "count", "told", "arguments"),
    [
        # What there is will do: only the number changes.
        (outbound_rule(), 3, {"peak": 900.0}, "--load-balancer-outbound-ports 1352"),
        (outbound_rule(), 3, {"peak": 1024.0, "failed": True}, "--load-balancer-outbound-ports 2048"),
        (outbound_rule(ports=4000), 3, {"peak": 3600.0}, "--load-balancer-outbound-ports 5400"),
        # The peak is low or not known: nothing is taken away, the number is fixed.
        (outbound_rule(), 50, {"peak": 100.0}, "--load-balancer-outbound-ports 1024"),
        (outbound_rule(), 50, {}, "--load-balancer-outbound-ports 1024"),
        # 55 nodes and an upgrade's six would not have room.
        (
            outbound_rule(),
            50,
            {"peak": 1000.0},
            "--load-balancer-managed-outbound-ip-count 2 --load-balancer-outbound-ports 1504",
        ),
        (
            outbound_rule(ports=1024),
            60,
            {},
            "--load-balancer-managed-outbound-ip-count 2 --load-balancer-outbound-ports 1024",
        ),
        # Two addresses are 2,048 for each node by default.
        (
            outbound_rule(frontend("a", "198.51.100.10 198.51.100.11")),
            40,
            {"peak": 2048.0, "failed": True},
            "--load-balancer-managed-outbound-ip-count 3 --load-balancer-outbound-ports 4096",
        ),
        # Rules that take blocks: 62 nodes of 1,024 leave room for 64 of them.
        (
            outbound_rule(frontend("a", rules=64), ports=800),
            56,
            {"peak": 680.0},
            "--load-balancer-outbound-ports 1024",
        ),
        (
            outbound_rule(frontend("a", rules=65), ports=800),
            56,
            {"peak": 680.0},
            "--load-balancer-managed-outbound-ip-count 2 --load-balancer-outbound-ports 1024",
        ),
    ],
)
def test_ports_and_addresses(rule: Any, count: int, told: dict[str, Any], arguments: str) -> None:
    """One command that changes as little as will do, with room for a pool's nodes and 10 % more."""
    assert first(behind(balancer(rule), nodes(count)), **told) == [f"{AKS} {arguments}"]


def test_the_autoscaler_is_counted() -> None:
    """Ports have to be there for whoever it may add, and what upgrades add then."""
    what = behind(balancer(), nodes(3, most=100, surge="33%"))
    assert first(what, peak=500.0) == [
        f"{AKS} --load-balancer-managed-outbound-ip-count 3 --load-balancer-outbound-ports 1024"
    ]
    [remedy, *_] = advice(what, peak=500.0)
    assert remedy.summary == (
        "Fix the number of ports for each node at the 1,024 that it has now: 3 outbound addresses instead of "
        "1 hold them for 187 nodes, and there may be 133. Azure then allots all ports anew, which cuts "
        "connections that hold them: do it at a quiet hour."
    )


def test_words() -> None:
    """Before and after, and for how many nodes that is enough."""
    [remedy, *_] = advice(behind(balancer()), peak=900.0)
    assert remedy.summary == (
        "Let each node have 1,352 SNAT ports, instead of 1,024: the 1 outbound address that there is holds "
        "them for 47 nodes, and there may be 4. Azure then allots all ports anew, which cuts connections "
        "that hold them: do it at a quiet hour."
    )


def test_nothing_is_changed_that_will_do() -> None:
    """Explicit ports with room for all and headroom: what is left is idle connections, a gateway, pooling."""
    what = behind(balancer(outbound_rule(ports=1024)))
    summaries = [one.summary for one in advice(what, peak=300.0)]
    assert [summary.split()[0] for summary in summaries] == ["Where", "As", "Let"]


def test_addresses_that_are_on_their_way_are_kept() -> None:
    """The cluster asks for three, and the load balancer shows one yet."""
    profile = structs.replace(MANAGED, managed_addresses=3)
    what = behind(balancer(outbound_rule(ports=8000)), nodes(12), outbound=profile)
    assert first(what) == [
        f"{AKS} --load-balancer-managed-outbound-ip-count 3 --load-balancer-outbound-ports 8000"
    ]


@pytest.mark.parametrize(("held", "ports"), [("198.51.100.10", 32), ("198.51.100.10 198.51.100.11", 64)])
def test_beyond_the_table_no_node_gets_less_than_the_table_has(held: str, ports: int) -> None:
    """Nobody says how many ports each of 1,200 nodes has; a small peak is no reason to ask for 16."""
    what = behind(balancer(outbound_rule(frontend("a", held))), nodes(1200))
    assert first(what, peak=10.0) == [f"{AKS} --load-balancer-outbound-ports {ports}"]


# --- both versions of IP ---------------------------------------------------------------------------

SIX = outbound_rule(frontend("six", "2001:db8::1"), name="aksOutboundRuleIPv6")
DUAL = structs.replace(MANAGED, managed_addresses_v6=1)


def test_two_versions() -> None:
    """One number of ports serves both rules, and each has addresses of its own."""
    four = outbound_rule(frontend("a", "198.51.100.10 198.51.100.11"))
    what = behind(balancer(four, SIX), nodes(30), outbound=DUAL)
    assert first(what, peak=1000.0) == [
        (
            f"{AKS} --load-balancer-managed-outbound-ip-count 2 "
            "--load-balancer-managed-outbound-ipv6-count 2 --load-balancer-outbound-ports 2048"
        )
    ]
    [remedy, *_] = advice(what, peak=1000.0)
    assert "the 2 outbound addresses of IPv4 that there are hold them for 62 nodes" in remedy.summary
    assert "2 outbound addresses of IPv6 instead of 1 hold them for 62 nodes" in remedy.summary


# --- addresses that the owner brought along --------------------------------------------------------

OWN = tuple(network_id("publicIPAddresses", name) for name in ("pip-1", "aks-shop-outbound-1"))
PREFIX = network_id("publicIPPrefixes", "prefix-1")
NETWORK = network_id("publicIPAddresses", "x").removesuffix("/publicIPAddresses/x")


def test_own_addresses() -> None:
    """What is missing is made first, under names that are free, and every id is given."""
    profile = OutboundProfile(allocated_ports=2000, address_ids=OWN)
    rule = outbound_rule(frontend("a"), frontend("b", "198.51.100.11"), ports=2000)
    what = behind(balancer(rule), nodes(90), outbound=profile)
    assert first(what) == [
        *(
            f"az {ADDRESS} rg-network --name aks-shop-outbound-{number} --location westeurope --sku Standard "
            "--version IPv4 --allocation-method Static"
            for number in (2, 3)
        ),
        (
            f"{AKS} --load-balancer-outbound-ips "
            f"{','.join((*OWN, f'{NETWORK}/publicIPAddresses/aks-shop-outbound-2'))},"
            f"{NETWORK}/publicIPAddresses/aks-shop-outbound-3 --load-balancer-outbound-ports 2000"
        ),
    ]


def test_own_addresses_of_both_versions() -> None:
    """Each version gets what it lacks."""
    profile = OutboundProfile(allocated_ports=2000, address_ids=OWN)
    rules = (outbound_rule(ports=2000), structs.replace(SIX, allocated_ports=2000))
    made = first(behind(balancer(*rules), nodes(30), outbound=profile))
    assert [parse(command)[1]["--version"] for command in made[:-1]] == [["IPv4"], ["IPv6"]]
    assert len(parse(made[-1])[1]["--load-balancer-outbound-ips"][0].split(",")) == 4


def test_own_addresses_and_own_prefixes() -> None:
    """The CLI clears the one of which it is not told: both are told, though only one grows."""
    profile = OutboundProfile(allocated_ports=2000, address_ids=OWN[:1], prefix_ids=(PREFIX,))
    rule = outbound_rule(frontend("a"), frontend("b", "203.0.113.0/31"), ports=2000)
    [made, update] = first(behind(balancer(rule), nodes(90), outbound=profile))
    assert parse(made)[0] == "network public-ip create"
    options = parse(update)[1]
    assert options["--load-balancer-outbound-ips"] == [
        f"{OWN[0]},{NETWORK}/publicIPAddresses/aks-shop-outbound-1"
    ]
    assert options["--load-balancer-outbound-ip-prefixes"] == [PREFIX]


@pytest.mark.parametrize(
    ("count", "lengths"),
    [(22, []), (23, ["31"]), (40, ["31"]), (50, ["30"]), (400, ["28", "28"]), (409, ["28", "28", "31"])],
)
def test_own_prefixes(count: int, lengths: list[str]) -> None:
    """As many more as there have to be, of 2 to 16 addresses each."""
    profile = OutboundProfile(allocated_ports=0, prefix_ids=(PREFIX,))
    rule = outbound_rule(frontend("a", "203.0.113.0/31"), ports=5400)
    made = first(behind(balancer(rule), nodes(count, surge="1"), outbound=profile), peak=3600.0)
    if not lengths:
        assert made == [f"{AKS} --load-balancer-idle-timeout 4"]
        return
    assert [parse(command)[1]["--length"] for command in made[:-1]] == [[length] for length in lengths]
    [ids] = parse(made[-1])[1]["--load-balancer-outbound-ip-prefixes"]
    assert ids.split(",") == [
        PREFIX,
        *(f"{NETWORK}/publicIPPrefixes/aks-shop-outbound-{number + 1}" for number in range(len(lengths))),
    ]


def test_own_addresses_that_will_do() -> None:
    """Then they are left alone, and so is who keeps them."""
    profile = OutboundProfile(allocated_ports=0, address_ids=OWN[:1])
    assert first(behind(balancer(), outbound=profile), peak=900.0) == [
        f"{AKS} --load-balancer-outbound-ports 1352"
    ]


# --- a load balancer that somebody made beside AKS's -----------------------------------------------


def test_a_rule_that_is_not_of_aks() -> None:
    """With user-defined routing AKS makes none, and would not change it."""
    what = behind(
        balancer(outbound_rule(frontend("own-1"), ports=1024, name="own"), name="lb-own"),
        nodes(60),
        outbound_type="userDefinedRouting",
        outbound=OutboundProfile(),
    )
    where = f"--subscription {SUBSCRIPTION} --resource-group {NODE_GROUP} --lb-name lb-own"
    fresh = f"az {ADDRESS} {NODE_GROUP} --name own-outbound-1"
    found = advice(what, peak=300.0)
    assert list(found[0].commands) == [
        f"{fresh} --location westeurope --sku Standard --version IPv4 --allocation-method Static",
        f"az network lb frontend-ip create {where} --name own-outbound-1 --public-ip-address own-outbound-1",
        (
            f"az network lb outbound-rule update {where} --name own --frontend-ip-configs own-1 "
            "own-outbound-1 --outbound-ports 1024"
        ),
    ]
    assert list(found[1].commands) == [
        f"az network lb outbound-rule update {where} --name own --idle-timeout 4"
    ]


def test_a_load_balancer_beside_that_of_aks() -> None:
    """Whatever the outbound type: AKS changes its own load balancer, and would not change this one."""
    what = behind(balancer(outbound_rule(ports=800, name="own"), name="lb-own"), nodes(3))
    found = [command for one in advice(what, peak=900.0)[:2] for command in one.commands]
    assert [parse(command)[0] for command in found] == ["network lb outbound-rule update"] * 2


def test_an_outbound_type_that_nobody_knows_yet() -> None:
    """Where a load balancer is in use all the same, it is taken for AKS's."""
    what = behind(balancer(), outbound_type="loadBalancerV3")
    assert first(what, peak=900.0) == [f"{AKS} --load-balancer-outbound-ports 1352"]


# --- idle connections ------------------------------------------------------------------------------


@pytest.mark.parametrize(("idle", "told"), [(4, False), (29, False), (30, True), (100, True), (None, False)])
def test_idle_timeout(idle: int | None, told: bool) -> None:
    """Half an hour, AKS's own default, is long; and what it costs is said."""
    what = behind(balancer(outbound_rule(idle=idle)))
    found = [one for one in advice(what, peak=900.0) if one.summary.startswith("Where ports are held")]
    assert len(found) == told
    if found:
        assert list(found[0].commands) == [f"{AKS} --load-balancer-idle-timeout 4"]
        assert f"instead of {idle}" in found[0].summary
        assert "TCP reset" in found[0].summary
        assert "keep-alives" in found[0].summary


def test_nothing_of_use_where_use_is_not_at_fault() -> None:
    """Too many nodes are not mended by pooling or a shorter timeout."""
    found = advice(behind(balancer()), usage=False)
    assert [one.summary.split()[0] for one in found] == ["Fix", "As"]


# --- a NAT gateway instead -------------------------------------------------------------------------


def gateway_commands(what: Snapshot, **told: Any) -> list[str]:
    """The commands that lead to a NAT gateway."""
    [found] = [one for one in advice(what, **told) if "by a NAT gateway" in one.summary]
    assert "changes the addresses that the cluster comes from" in found.summary
    return list(found.commands)


def test_a_gateway_of_aks() -> None:
    """In a network that AKS made."""
    assert gateway_commands(behind(balancer()), peak=900.0) == [
        f"{AKS} --outbound-type managedNATGateway --nat-gateway-managed-outbound-ip-count 1"
    ]
    assert gateway_commands(behind(balancer(), nodes(500)), peak=900.0) == [
        f"{AKS} --outbound-type managedNATGateway --nat-gateway-managed-outbound-ip-count 12"
    ]


def test_a_gateway_of_the_owner() -> None:
    """In the owner's network: made, put on each subnet that has none, and then AKS is told."""
    with_one = subnet("gated", "10.240.3.0/24", gate=nat_gateway())
    what = behind(
        balancer(),
        nodes(3),
        pool("other", subnet("others", "10.240.2.0/24"), "10.240.2.4"),
        own_network=True,
    )
    commands = gateway_commands(what, peak=900.0)
    where = f"--subscription {SUBSCRIPTION} --resource-group rg-network"
    gateway = network_id("natGateways", "aks-shop-nat")
    assert commands == [
        (
            f"az {ADDRESS} rg-network --name aks-shop-nat-1 --location westeurope --sku Standard "
            "--version IPv4 --allocation-method Static"
        ),
        (
            f"az network nat gateway create {where} --name aks-shop-nat --location westeurope "
            "--public-ip-addresses aks-shop-nat-1 --idle-timeout 4"
        ),
        *(
            f"az network vnet subnet update {where} --vnet-name vnet --name {name} --nat-gateway {gateway}"
            for name in ("nodes", "others")
        ),
        f"{AKS} --outbound-type userAssignedNATGateway",
    ]
    gated = snapshot(nodes(3), pool("gated", with_one, ""), balancers=(balancer(),), own_network=True)
    ways, _ = ways_out(gated)
    [way] = [one for one in ways if isinstance(one.gate, LoadBalancer)]
    found = remedies(gated, way, peak=900.0, failed=False, busiest=())
    named = [command for one in found for command in one.commands if "subnet update" in command]
    assert len(named) == 1
    assert "--name nodes" in named[0]


def test_addresses_of_a_gateway_are_not_those_in_use() -> None:
    """Making one anew under a name that the load balancer's has would change that one."""
    profile = OutboundProfile(
        allocated_ports=0, address_ids=(network_id("publicIPAddresses", "aks-shop-nat-1"),)
    )
    commands = gateway_commands(behind(balancer(), own_network=True, outbound=profile), peak=900.0)
    assert [parse(command)[1]["--name"] for command in commands[:2]] == [["aks-shop-nat-2"], ["aks-shop-nat"]]
    assert parse(commands[1])[1]["--public-ip-addresses"] == ["aks-shop-nat-2"]


def test_a_gateway_serves_one_network() -> None:
    """Pools in two networks have one each."""
    away = subnet("away", "10.9.0.0/24", network="vnet-two")
    what = behind(balancer(), nodes(3), pool("away", away, "10.9.0.4"), own_network=True)
    commands = gateway_commands(what, peak=900.0)
    made = [parse(one)[1] for one in commands if parse(one)[0] == "network nat gateway create"]
    put = [parse(one)[1] for one in commands if parse(one)[0] == "network vnet subnet update"]
    assert [one["--name"][0] for one in made] == ["aks-shop-nat", "aks-shop-nat-vnet-two"]
    assert [(one["--vnet-name"][0], one["--nat-gateway"][0].rsplit("/", 1)[-1]) for one in put] == [
        ("vnet", "aks-shop-nat"),
        ("vnet-two", "aks-shop-nat-vnet-two"),
    ]
    addresses = [one["--public-ip-addresses"] for one in made]
    assert addresses == [["aks-shop-nat-1"], ["aks-shop-nat-vnet-two-1"]]


@pytest.mark.parametrize(
    ("own_network", "outbound_type", "last"),
    [
        (False, "loadBalancer", "--outbound-type managedNATGateway"),
        (True, "loadBalancer", "--outbound-type userAssignedNATGateway"),
        (True, "LoadBalancer", "--outbound-type userAssignedNATGateway"),
        (True, "userDefinedRouting", "--outbound-type userAssignedNATGateway"),
        # it is asked for already, and some subnet has none
        (True, "userAssignedNATGateway", "network vnet subnet update"),
        # ways that are not documented
        (False, "managedNATGateway", None),
        (False, "managedNATGatewayV2", None),
        (False, "userDefinedRouting", None),
        (True, "managedNATGateway", None),
        (False, "loadBalancerV3", None),
        (True, "loadBalancerV3", None),
        (True, "", None),
    ],
)
def test_ways_to_a_gateway(*, own_network: bool, outbound_type: str, last: str | None) -> None:
    """https://learn.microsoft.com/azure/aks/egress-outboundtype has which type may become which."""
    what = behind(balancer(), own_network=own_network, outbound_type=outbound_type)
    commands = gateway_commands(what, peak=900.0)
    if last is None:
        assert commands == []
    else:
        assert last in commands[-1]


def test_no_half_of_a_gateway() -> None:
    """Where a subnet could not be read there is no telling which need one: then no commands."""
    lost = pool("lost", missing("others", kind="subnets"), "10.240.2.4")
    what = snapshot(nodes(3), lost, balancers=(balancer(),), own_network=True)
    [way], _ = ways_out(what)
    found = remedies(what, way, peak=900.0, failed=False, busiest=())
    [to_gateway] = [one for one in found if "by a NAT gateway" in one.summary]
    assert to_gateway.commands == ()


@pytest.mark.parametrize(("count", "peak"), [(900, 8000.0), (3, 50_000.0)])
def test_what_a_load_balancer_cannot_do(count: int, peak: float) -> None:
    """More than 100 addresses or 64,000 ports: only the NAT gateway is left, and why is said."""
    found = advice(behind(balancer(), nodes(count)), peak=peak)
    assert not any("--load-balancer-outbound-ports" in command for one in found for command in one.commands)
    [to_gateway] = [one for one in found if "by a NAT gateway" in one.summary]
    assert to_gateway.summary.startswith("A load balancer cannot do it: ")


@pytest.mark.parametrize(
    "what",
    [
        behind(balancer(outbound_rule(frontend("a", missing("pip"))))),
        behind(balancer(outbound_rule(frontend("a", "")))),
        behind(balancer(), structs.replace(pool("lost", NODES, "", lost=()), count=1001)),
    ],
    ids=["addresses unread", "no address yet", "beyond the table"],
)
def test_no_number_without_the_numbers(what: Snapshot) -> None:
    """Nothing is made up."""
    found = advice(what)
    assert not any("outbound-ports" in command for one in found for command in one.commands)
    assert any("by a NAT gateway" in one.summary for one in found)


# --- a NAT gateway in use --------------------------------------------------------------------------


def through(gate: NatGateway, **fields: Any) -> Snapshot:
    """A cluster that goes out by a NAT gateway."""
    fields.setdefault("outbound_type", "userAssignedNATGateway")
    fields.setdefault("own_network", True)
    return snapshot(nodes(3, subnet("nodes", "10.240.1.0/24", gate=gate)), **fields)


def test_more_addresses_for_a_gateway_of_aks() -> None:
    """Half as many again, as a number."""
    ours = structs.replace(
        nat_gateway(frontend("nat", "198.51.100.200 198.51.100.201 198.51.100.202")),
        id=network_id("natGateways", "aks-natgateway", NODE_GROUP),
    )
    what = through(ours, outbound_type="managedNATGateway", own_network=False)
    assert first(what) == [f"{AKS} --nat-gateway-managed-outbound-ip-count 5"]


@pytest.mark.parametrize(
    ("held", "peak", "target"),
    [
        (1, None, 2),
        (1, 40_000.0, 2),
        (1, 200_000.0, 5),  # 300,000 with headroom
        (4, 200_000.0, 6),
        (4, 20_000.0, 6),
        (2, 900_000.0, 16),
    ],
)
def test_addresses_have_room_for_the_peak(held: int, peak: float | None, target: int) -> None:
    """Half as many again, or as many as its connections and headroom take."""
    ours = structs.replace(
        nat_gateway(*(frontend(f"nat-{number}", f"198.51.100.{200 + number}") for number in range(held))),
        id=network_id("natGateways", "aks-natgateway", NODE_GROUP),
    )
    what = through(ours, outbound_type="managedNATGateway", own_network=False)
    assert first(what, peak=peak, failed=True) == [f"{AKS} --nat-gateway-managed-outbound-ip-count {target}"]


def test_more_addresses_of_the_owner_for_a_gateway_of_aks() -> None:
    """AKS refuses to keep addresses itself where the owner brought some along."""
    own = [
        structs.replace(frontend("pip", "198.51.100.200"), source_id=network_id("publicIPAddresses", "pip")),
        structs.replace(frontend("six", "2001:db8::1"), source_id=network_id("publicIPAddresses", "six")),
        structs.replace(frontend("p", "203.0.113.0/31"), source_id=network_id("publicIPPrefixes", "p")),
    ]
    ours = structs.replace(
        nat_gateway(*own), id=network_id("natGateways", "aks-natgateway", NODE_GROUP), sku="StandardV2"
    )
    for outbound_type in ("managedNATGatewayV2", "managedNATGateway"):
        made = first(through(ours, outbound_type=outbound_type, own_network=False))
        assert [parse(one)[1]["--sku"] for one in made[:-1]] == [["StandardV2"]] * 2
        fresh = ",".join(f"{NETWORK}/publicIPAddresses/gateway-outbound-{number}" for number in (1, 2))
        assert made[-1] == (f"{AKS} --nat-gateway-outbound-ips {own[0].source_id},{own[1].source_id},{fresh}")


def test_a_gateway_whose_addresses_are_not_known() -> None:
    """How many more there would be is said, and not how many there are."""
    what = through(nat_gateway(frontend("nat", missing("pip")), frontend("other", "198.51.100.201")))
    [found, _] = advice(what)
    assert "instead of" not in found.summary
    assert "1 more address" in found.summary
    assert len(found.commands) == 2


def test_a_data_path_is_not_mended_by_addresses() -> None:
    """Where no connection failed it is not ports that are missing."""
    [path, pooling] = advice(through(nat_gateway()), degraded=True)
    assert path.commands == ()
    assert "Resource health" in path.summary
    assert pooling.summary.startswith("Let applications")
    both = advice(through(nat_gateway()), failed=True, degraded=True)
    assert [bool(one.commands) for one in both] == [True, False, False]


def test_a_gateway_of_the_owner_beside_one_of_aks() -> None:
    """AKS does not change what it did not make, though the cluster's outbound type is its own."""
    what = through(nat_gateway(), outbound_type="managedNATGateway", own_network=False)
    assert parse(first(what)[-1])[0] == "network nat gateway update"


def test_more_addresses_for_a_gateway_of_the_owner() -> None:
    """All addresses are named again, the prefix is left as it is, and the SKU is the gateway's."""
    pip = structs.replace(
        frontend("nat", "198.51.100.200"), source_id=network_id("publicIPAddresses", "pip-nat")
    )
    prefix = frontend("prefix", "203.0.113.0/31")
    six = frontend("six", "2001:db8::1")
    gate = structs.replace(nat_gateway(pip, prefix, six), sku="StandardV2")
    where = f"--subscription {SUBSCRIPTION} --resource-group rg-network"
    addresses = [network_id("publicIPAddresses", f"gateway-outbound-{number}") for number in (1, 2)]
    assert first(through(gate)) == [
        *(
            f"az {ADDRESS} rg-network --name gateway-outbound-{number} --location westeurope "
            "--sku StandardV2 --version IPv4 --allocation-method Static"
            for number in (1, 2)
        ),
        (
            f"az network nat gateway update {where} --name gateway --public-ip-addresses {pip.source_id} "
            f"{' '.join(addresses)}"
        ),
    ]
    assert gate.id == GATEWAY


def test_a_gateway_that_is_full() -> None:
    """Beyond 16 addresses there is only another gateway."""
    [full, pooling] = advice(through(nat_gateway(frontend("prefix", "203.0.113.0/28"))))
    assert full.commands == ()
    assert "16 are the most" in full.summary
    assert pooling.summary.startswith("Let applications")


# --- a firewall ------------------------------------------------------------------------------------


def routed(fire: Firewall) -> Snapshot:
    """A cluster that a route leads out by a firewall."""
    table = route_table("rt", route("out", "0.0.0.0/0", "VirtualAppliance", "10.240.200.4"))
    place = subnet("nodes", "10.240.1.0/24", routes=table)
    return snapshot(nodes(3, place), outbound_type="userDefinedRouting", appliances={"10.240.200.4": fire})


@pytest.mark.parametrize(
    ("has", "peak", "more"),
    [
        (0, None, 1),
        (1, None, 1),
        (2, None, 1),
        (3, None, 2),
        (20, None, 10),
        (20, 100.0, 10),
        (20, 92.0, 8),  # 27.6 of those there would be
        (20, 76.0, 3),
        (1, 76.0, 1),
        (0, 92.0, 1),
        (32, None, 16),
    ],
)
def test_more_addresses_for_a_firewall(has: int, peak: float | None, more: int) -> None:
    """Room for half as much again; and a NAT gateway on its subnet as what lasts."""
    found = advice(
        routed(structs.replace(firewall(), public_addresses=has, location="northeurope")), peak=peak
    )
    where = f"--subscription {SUBSCRIPTION} --resource-group rg-network"
    assert list(found[0].commands) == [
        command
        for number in range(1, more + 1)
        for command in (
            (
                f"az {ADDRESS} rg-network --name fw-outbound-{number} --location northeurope --sku Standard "
                "--version IPv4 --allocation-method Static"
            ),
            (
                f"az network firewall ip-config create {where} --firewall-name fw "
                f"--name fw-outbound-{number} --public-ip-address fw-outbound-{number}"
            ),
        )
    ]
    assert "AzureFirewallSubnet" in found[1].summary


@pytest.mark.parametrize("has", [33, 240, 250])
def test_a_firewall_that_takes_very_many_addresses(has: int) -> None:
    """Then a NAT gateway is what is left, and how many there would have to be is said."""
    [found, pooling] = advice(routed(structs.replace(firewall(), public_addresses=has)))
    assert found.commands == ()
    assert "AzureFirewallSubnet" in found.summary
    assert f"{has} public addresses" in found.summary
    assert pooling.summary.startswith("Let applications")


# --- pooling ---------------------------------------------------------------------------------------


def test_pooling_names_the_busiest_nodes() -> None:
    """Those that exist, each once and three at the most, with a command that lists their pods."""
    five = pool("user", NODES, "10.240.1.4 10.240.1.5 10.240.1.6 10.240.1.7 10.240.1.8")
    told = ["aks-user-3", "10.240.9.9", "aks-user-0", "aks-user-3", "aks-user-1", "aks-user-2"]
    last = advice(behind(balancer(), five), peak=900.0, busiest=told)[-1]
    assert "on the busiest nodes (aks-user-3, aks-user-0, aks-user-1) first" in last.summary
    assert list(last.commands) == [
        f"kubectl get pods --all-namespaces --field-selector spec.nodeName={name}"
        for name in ("aks-user-3", "aks-user-0", "aks-user-1")
    ]


def test_pooling_without_anybody_to_name() -> None:
    """It is said all the same."""
    last = advice(behind(balancer()), peak=900.0)[-1]
    assert last.commands == ()
    assert last.summary.startswith("Let applications keep and reuse connections")


# --- laws ------------------------------------------------------------------------------------------


def applied(what: Snapshot, commands: Iterable[str]) -> tuple[int, dict[int, int]]:
    """The ports for each node and the addresses of each version after commands, as AKS would have them."""
    [lb] = what.load_balancers if isinstance(what.load_balancers, tuple) else ()
    addresses = {
        6 if "IPv6" in rule.name else 4: sum(len(one.addresses) for one in rule.frontends)  # type: ignore[misc, arg-type]
        for rule in lb.rules
    }
    made: dict[str, int] = {}
    for command in commands:
        verb, options = parse(command)
        if verb == "network public-ip create":
            made[options["--name"][0]] = int(options["--version"][0][-1])
        if verb == "aks update":
            ports = int(options["--load-balancer-outbound-ports"][0])
            addresses |= _after(options, made, addresses, what.cluster.outbound)
    return ports, addresses


def _after(
    options: Options, made: dict[str, int], addresses: dict[int, int], profile: OutboundProfile
) -> dict[int, int]:
    if ids := options.get("--load-balancer-outbound-ips"):
        given = ids[0].split(",")
        assert len(set(given)) == len(given)
        # An address that is left out would be taken off the load balancer.
        assert set(profile.address_ids) | {one for one in given if one.rsplit("/", 1)[-1] in made} == set(
            given
        )
        fresh = list(made.values())
        return {version: count + fresh.count(version) for version, count in addresses.items()}
    found = {}
    for version, option in ((4, "ip"), (6, "ipv6")):
        if count := options.get(f"--load-balancer-managed-outbound-{option}-count"):
            found[version] = int(count[0])
    return found


@st.composite
def clusters(draw: st.DrawFn) -> Snapshot:
    """Clusters behind a load balancer, of one or both versions of IP, with managed or own addresses."""
    ports = draw(st.sampled_from((0, 0, 8, 1024, 4000, 16_000)))
    dual = draw(st.booleans())
    counts = {version: draw(st.integers(1, 4)) for version in ((4, 6) if dual else (4,))}
    fronts: dict[int, list[Frontend]] = {
        4: [
            frontend(f"four-{number}", f"198.51.100.{number + 10}", rules=draw(st.integers(0, 40)))
            for number in range(counts[4])
        ],
        6: [frontend(f"six-{number}", f"2001:db8::{number + 10}") for number in range(counts.get(6, 0))],
    }
    rules = [outbound_rule(*fronts[4], ports=ports)]
    if dual:
        rules.append(outbound_rule(*fronts[6], ports=ports, name="aksOutboundRuleIPv6"))
    own = draw(st.booleans())
    ids = [network_id("publicIPAddresses", one.name) for one in (*fronts[4], *fronts[6])]
    profile = (
        OutboundProfile(allocated_ports=ports, address_ids=tuple(ids))
        if own
        else OutboundProfile(
            allocated_ports=ports, managed_addresses=counts[4], managed_addresses_v6=counts.get(6)
        )
    )
    count = draw(st.integers(1, 300))
    what = nodes(
        count,
        most=draw(st.none() | st.integers(1, 1000)),
        surge=draw(st.sampled_from(("", "1", "33%", "100%"))),
    )
    return behind(balancer(*rules), what, outbound=profile, own_network=draw(st.booleans()))


@LAW
@given(
    what=clusters(),
    peak=st.none() | st.floats(0, 30_000),
    failed=st.booleans(),
    usage=st.booleans(),
)
def test_what_is_recommended_does(*, what: Snapshot, peak: float | None, failed: bool, usage: bool) -> None:
    """By eights, within Azure's limits, room for every node, headroom, nothing taken away, none too many."""
    [way], _ = ways_out(what)
    found = remedies(what, way, peak=peak, failed=failed, busiest=(), usage=usage)
    for command in (command for one in found for command in one.commands):
        shlex.split(command)
        if command.startswith("az aks"):
            options = parse(command)[1]
            assert (options["--name"], options["--resource-group"]) == (
                [CLUSTER.name],
                [CLUSTER.resource_group],
            )
            assert options["--subscription"] == [SUBSCRIPTION]
    planned = [one for one in found if any("--load-balancer-outbound-ports" in each for each in one.commands)]
    if not planned:
        assert all("SNAT ports, instead of" not in one.summary for one in found)
        return
    [only] = planned
    ports, addresses = applied(what, only.commands)
    [lb] = what.load_balancers if isinstance(what.load_balancers, tuple) else ()
    size = _most(what)
    assert ports % BLOCK == 0
    assert 0 < ports <= MOST_PORTS
    assert ports >= (peak or 0) * (1 + HEADROOM)
    for rule in lb.rules:
        version = 6 if "IPv6" in rule.name else 4
        before, after = len(rule.frontends), addresses[version]
        count = what.pools[0].count or 0
        assert before <= after <= MOST_ADDRESSES
        assert ports >= (rule.allocated_ports or before * (default_ports(count) or 0))
        blocks = BLOCK * sum(one.rules for one in rule.frontends)
        assert ports * size <= PORTS_PER_ADDRESS * after - blocks
        assert after == before or ports * size > PORTS_PER_ADDRESS * (after - 1) - blocks


def _most(what: Snapshot) -> int:
    """The nodes that there may be, reckoned anew."""
    [only] = what.pools
    base = max(only.count or 0, only.max_count or 0)
    written = re.fullmatch(r"(\d+)(%?)", only.max_surge or "10%")
    assert written is not None
    share = int(written[1])
    return base + min(base, (base * share + 99) // 100 if written[2] else share)


def test_a_way_out_is_named_by_its_id() -> None:
    """The builders agree with what is asked about here."""
    [way], _ = ways_out(behind(balancer()))
    assert isinstance(way, WayOut)
    assert way.key == BALANCER.lower()
