"""ARM's documents of load balancers, NAT gateways and public addresses: what is read of them."""

from typing import Any

import pytest

from pipeline.collect.documents import read_cluster
from pipeline.collect.outbound_documents import (
    BalancerModel,
    FrontendModel,
    OutboundRuleModel,
    read_address,
    read_balancer,
    read_gateway,
    read_prefix,
)

Document = dict[str, Any]

S = "/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590"
NET = f"{S}/resourceGroups/MC_rg-shop_aks-shop_westeurope/providers/Microsoft.Network"
LB = f"{NET}/loadBalancers/kubernetes"
VMSS = (
    f"{S}/resourceGroups/MC_rg-shop_aks-shop_westeurope/providers/Microsoft.Compute"
    "/virtualMachineScaleSets/aks-np-12345678-vmss"
)
ADDRESS = f"{NET}/publicIPAddresses/one"
PREFIX = f"{NET}/publicIPPrefixes/four"


def member(number: int, scale_set: str = VMSS) -> Document:
    """An IP configuration in a backend pool, with the scale set's name as Microsoft.Network writes it."""
    written = scale_set.replace("aks-np", "AKS-NP")
    return {
        "id": f"{written}/virtualMachines/{number}/networkInterfaces/aks-np-vmss/ipConfigurations/ipconfig1"
    }


def balancer(**changes: Any) -> Document:
    """The load balancer that AKS makes, with what is changed of its properties."""
    body: Document = {
        "frontendIPConfigurations": [
            {
                "name": "one",
                "id": f"{LB}/frontendIPConfigurations/one",
                "properties": {"publicIPAddress": {"id": ADDRESS}},
            },
            {
                "name": "four",
                "id": f"{LB}/frontendIPConfigurations/four",
                "properties": {"publicIPPrefix": {"id": PREFIX}},
            },
        ],
        "backendAddressPools": [
            {
                "name": "aksOutboundBackendPool",
                "id": f"{LB}/backendAddressPools/aksOutboundBackendPool",
                "properties": {"backendIPConfigurations": [member(0), member(1), member(10)]},
            }
        ],
        "loadBalancingRules": [
            {"properties": {"frontendIPConfiguration": {"id": f"{LB}/frontendIPConfigurations/ONE"}}},
            {"properties": {"frontendIPConfiguration": {"id": f"{LB}/frontendIPConfigurations/one"}}},
        ],
        "inboundNatRules": [
            {"properties": {"frontendIPConfiguration": {"id": f"{LB}/frontendIPConfigurations/one"}}},
        ],
        "outboundRules": [
            {
                "name": "aksOutboundRule",
                "id": f"{LB}/outboundRules/aksOutboundRule",
                "properties": {
                    "allocatedOutboundPorts": 1024,
                    "protocol": "All",
                    "idleTimeoutInMinutes": 30,
                    "backendAddressPool": {"id": f"{LB.upper()}/backendAddressPools/aksOutboundBackendPool"},
                    "frontendIPConfigurations": [
                        {"id": f"{LB}/frontendIPConfigurations/One"},
                        {"id": f"{LB}/frontendIPConfigurations/four"},
                    ],
                },
            }
        ],
    }
    return {"id": LB, "name": "kubernetes", "location": "westeurope", "properties": body | changes}


def test_a_load_balancer() -> None:
    """Its rules with their frontends, and the scale sets that they serve."""
    one = FrontendModel(id=f"{LB}/frontendIPConfigurations/one", name="one", source_id=ADDRESS, rules=3)
    four = FrontendModel(id=f"{LB}/frontendIPConfigurations/four", name="four", source_id=PREFIX, rules=0)
    assert read_balancer(balancer()) == BalancerModel(
        id=LB,
        name="kubernetes",
        location="westeurope",
        rules=(
            OutboundRuleModel(
                id=f"{LB}/outboundRules/aksOutboundRule",
                name="aksOutboundRule",
                protocol="All",
                allocated_ports=1024,
                idle_timeout_minutes=30,
                frontends=(one, four),
                members=3,
            ),
        ),
        backends=frozenset({VMSS.lower()}),
    )


@pytest.mark.parametrize(
    ("pool", "members", "backends"),
    [
        ({"backendIPConfigurations": []}, 0, frozenset()),
        ({}, None, None),
        (
            {"loadBalancerBackendAddresses": [{"properties": {"ipAddress": "10.224.0.4"}}]},
            1,
            frozenset({"10.224.0.4"}),
        ),
        (
            {
                "backendIPConfigurations": [
                    {"id": f"{NET}/networkInterfaces/nic-1/ipConfigurations/ipconfig1"}
                ]
            },
            1,
            frozenset({f"{NET}/networkInterfaces/nic-1".lower()}),
        ),
        (
            {
                "loadBalancerBackendAddresses": [
                    {"properties": {"networkInterfaceIPConfiguration": member(0)}},
                    {"properties": {"networkInterfaceIPConfiguration": member(1)}},
                ]
            },
            2,
            frozenset({VMSS.lower()}),
        ),
        # somebody is there, and nobody says who: then it may be anybody
        ({"loadBalancerBackendAddresses": [{"name": "one", "properties": {}}]}, 1, None),
    ],
    ids=["nobody", "not shown", "by address", "a plain machine", "by interface, as addresses", "hidden"],
)
def test_who_is_behind_it(pool: Document, members: int | None, backends: frozenset[str] | None) -> None:
    """Members by interface or by address; a pool that shows neither may have any."""
    found = read_balancer(
        balancer(
            backendAddressPools=[
                {"id": f"{LB}/backendAddressPools/aksOutboundBackendPool", "properties": pool}
            ]
        )
    )
    assert (found.rules[0].members, found.backends) == (members, backends)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"id": LB, "properties": {}},
        {"id": LB, "properties": {"outboundRules": None}},
        balancer(outboundRules=[]),
    ],
    ids=["nothing", "no properties", "null", "no outbound rule"],
)
def test_a_load_balancer_without_outbound_rules(document: Document) -> None:
    """Nothing missing is an error."""
    assert read_balancer(document).rules == ()


def test_a_rule_without_anything() -> None:
    """A rule that says nothing has Azure's defaults, and no frontend."""
    [rule] = read_balancer({"id": LB, "outboundRules": [{"id": "r", "name": "r"}]}).rules
    assert (rule.protocol, rule.allocated_ports, rule.frontends, rule.members) == ("All", 0, (), None)


def test_what_is_no_list_is_named() -> None:
    """A document of another form is not read as an empty one."""
    with pytest.raises(ValueError, match="outboundRules is no list"):
        read_balancer(balancer(outboundRules={"a": 1}))


def test_a_nat_gateway() -> None:
    """Addresses of both families, prefixes, and the subnets that it hangs on."""
    found = read_gateway(
        {
            "id": f"{NET}/natGateways/gateway",
            "name": "gateway",
            "location": "westeurope",
            "sku": {"name": "StandardV2"},
            "properties": {
                "idleTimeoutInMinutes": 4,
                "publicIpAddresses": [{"id": ADDRESS}],
                "publicIpAddressesV6": [{"id": f"{ADDRESS}-v6"}],
                "publicIpPrefixes": [{"id": PREFIX}],
                "subnets": [{"id": "/vnet/subnets/nodes"}],
            },
        }
    )
    assert (found.sku, found.idle_timeout_minutes) == ("StandardV2", 4)
    assert found.address_ids == (ADDRESS, f"{ADDRESS}-v6")
    assert (found.prefix_ids, found.subnet_ids) == ((PREFIX,), ("/vnet/subnets/nodes",))


def test_a_bare_nat_gateway() -> None:
    """One without addresses translates nothing yet, and is read all the same."""
    found = read_gateway({"id": f"{NET}/natGateways/gateway", "name": "gateway"})
    assert (found.sku, found.address_ids, found.prefix_ids) == ("Standard", (), ())


@pytest.mark.parametrize(
    ("document", "text"),
    [({"properties": {"ipAddress": "20.1.2.3"}}, "20.1.2.3"), ({"properties": {}}, ""), ({}, "")],
)
def test_an_address(document: Document, text: str) -> None:
    """A dynamic address that is not in use has none."""
    assert read_address(document).text == text


def test_a_prefix() -> None:
    """A prefix is written as a CIDR."""
    assert read_prefix({"properties": {"ipPrefix": "20.1.2.0/30"}}).text == "20.1.2.0/30"


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ({}, (None, None, None, (), (), None)),
        (
            {"loadBalancerProfile": {"managedOutboundIPs": {"count": 2}, "idleTimeoutInMinutes": 30}},
            (0, 30, 2, (), (), None),
        ),
        (
            {
                "loadBalancerProfile": {
                    "allocatedOutboundPorts": 4000,
                    "outboundIPs": {"publicIPs": [{"id": ADDRESS}]},
                }
            },
            (4000, None, None, (ADDRESS,), (), None),
        ),
        (
            {"loadBalancerProfile": {"outboundIPPrefixes": {"publicIPPrefixes": [{"id": PREFIX}]}}},
            (0, None, None, (), (PREFIX,), None),
        ),
        (
            {"natGatewayProfile": {"managedOutboundIPProfile": {"count": 3}}},
            (None, None, None, (), (), 3),
        ),
    ],
    ids=["nothing", "managed", "addresses", "prefixes", "gateway"],
)
def test_what_a_cluster_asks_for(network: Document, expected: tuple[Any, ...]) -> None:
    """The profile that `az aks update` changes."""
    cluster = read_cluster(
        {
            "id": f"{S}/resourceGroups/rg-shop/providers/Microsoft.ContainerService/managedClusters/aks",
            "properties": {"networkProfile": network},
        }
    ).cluster
    asked = cluster.outbound
    assert (
        asked.allocated_ports,
        asked.idle_timeout_minutes,
        asked.managed_addresses,
        asked.address_ids,
        asked.prefix_ids,
        asked.gateway_addresses,
    ) == expected


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        ({}, (None, "", False)),
        ({"enableAutoScaling": True, "maxCount": 10}, (10, "", False)),
        ({"enableAutoScaling": False, "maxCount": 10}, (None, "", False)),
        ({"maxCount": 10}, (None, "", False)),
        ({"upgradeSettings": {"maxSurge": "33%"}, "enableNodePublicIP": True}, (None, "33%", True)),
        ({"upgradeSettings": None, "enableNodePublicIP": None}, (None, "", False)),
    ],
)
def test_how_far_a_pool_may_grow(pool: Document, expected: tuple[Any, ...]) -> None:
    """The autoscaler's maximum counts while it is on."""
    [found] = read_cluster(
        {
            "id": f"{S}/resourceGroups/rg-shop/providers/Microsoft.ContainerService/managedClusters/aks",
            "properties": {"agentPoolProfiles": [{"name": "np", **pool}]},
        }
    ).pools
    assert (found.max_count, found.max_surge, found.public_addresses) == expected
