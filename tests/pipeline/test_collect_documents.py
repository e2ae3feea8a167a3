"""ARM's documents of clusters, machines and networks: what is read, and that nothing missing is an error."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.collect.documents import (
    AgentPool,
    InterfaceModel,
    SubnetModel,
    read_cluster,
    read_interface,
    read_network,
    read_scale_set,
    read_virtual_machine,
)

Document = dict[str, Any]

S = "/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590"
NODES = f"{S}/resourceGroups/MC_rg-shop_aks-shop_westeurope/providers"
VNET = f"{S}/resourceGroups/rg-network/providers/Microsoft.Network/virtualNetworks/vnet"
NSG = f"{S}/resourceGroups/rg-network/providers/Microsoft.Network/networkSecurityGroups/nodes"
ASG = f"{S}/resourceGroups/rg-network/providers/Microsoft.Network/applicationSecurityGroups/Web"
SUBNET, PODS = f"{VNET}/subnets/nodes", f"{VNET}/subnets/pods"
SCALE_SET_ID = f"{NODES}/Microsoft.Compute/virtualMachineScaleSets/aks-np-12345678-vmss"

CLUSTER: Document = {
    "id": f"{S}/resourcegroups/rg-shop/providers/Microsoft.ContainerService/managedClusters/aks-shop",
    "name": "aks-shop",
    "location": "westeurope",
    "tags": {"env": "prod", "cost": None},
    "properties": {
        "provisioningState": "Succeeded",
        "fqdn": "aks-shop-1a2b3c4d.hcp.westeurope.azmk8s.io",
        "privateFQDN": "aks-shop-1a2b3c4d.0a1b.privatelink.westeurope.azmk8s.io",
        "powerState": {"code": "Running"},
        "kubernetesVersion": "1.33",
        "currentKubernetesVersion": "1.33.2",
        "nodeResourceGroup": "MC_rg-shop_aks-shop_westeurope",
        "agentPoolProfiles": [
            {
                "name": "np",
                "count": 3,
                "vnetSubnetID": SUBNET,
                "podSubnetID": PODS,
                "networkProfile": {"applicationSecurityGroups": [ASG]},
                "osType": "Linux",
                "type": "VirtualMachineScaleSets",
                "mode": "System",
                "powerState": {"code": "Running"},
            },
            {"name": "old"},
        ],
        "networkProfile": {
            "networkPlugin": "azure",
            "networkPluginMode": "overlay",
            "outboundType": "loadBalancer",
        },
        "apiServerAccessProfile": {"enablePrivateCluster": True, "enableVnetIntegration": None},
    },
}
SCALE_SET: Document = {
    "id": SCALE_SET_ID,
    "name": "aks-np-12345678-vmss",
    "tags": {"aks-managed-poolName": "np", "poolName": "np"},
    "properties": {
        "virtualMachineProfile": {
            "osProfile": {"computerNamePrefix": "aks-np-12345678-vmss"},
            "networkProfile": {
                "networkInterfaceConfigurations": [
                    {"name": "second", "properties": {"primary": False, "ipConfigurations": []}},
                    {
                        "name": "first",
                        "properties": {
                            "primary": True,
                            "networkSecurityGroup": {"id": NSG},
                            "ipConfigurations": [
                                {"name": "pods", "properties": {"primary": False, "subnet": {"id": PODS}}},
                                {
                                    "name": "nodes",
                                    "properties": {
                                        "primary": True,
                                        "subnet": {"id": SUBNET},
                                        "applicationSecurityGroups": [{"id": ASG.upper()}],
                                    },
                                },
                            ],
                        },
                    },
                ]
            },
        }
    },
}
MACHINE: Document = {
    "id": f"{NODES}/Microsoft.Compute/virtualMachines/aks-vm-12345678-vms1",
    "name": "aks-vm-12345678-vms1",
    "tags": {"AKS-Managed-PoolName": "vm"},
    "properties": {
        "osProfile": {"computerName": "aks-vm-12345678-vms1"},
        "networkProfile": {
            "networkInterfaces": [
                {"id": "/nic/second", "properties": {"primary": False}},
                {"id": "/nic/first", "properties": {"primary": True}},
            ]
        },
    },
}
INTERFACE: Document = {
    "id": f"{SCALE_SET_ID}/virtualMachines/0/networkInterfaces/nic",
    "name": "nic",
    "properties": {
        "primary": True,
        "virtualMachine": {"id": f"{SCALE_SET_ID}/virtualMachines/0"},
        "networkSecurityGroup": {"id": NSG},
        "ipConfigurations": [
            {
                "name": "pods",
                "properties": {
                    "privateIPAddress": "10.241.0.9",
                    "subnet": {"id": PODS},
                    "primary": False,
                    "applicationSecurityGroups": [{"id": ASG}],
                },
            },
            {
                "name": "nodes",
                "properties": {
                    "privateIPAddress": "10.240.0.4",
                    "subnet": {"id": SUBNET},
                    "primary": True,
                    "applicationSecurityGroups": [{"id": ASG.upper()}],
                },
            },
            {
                "name": "nodes-6",
                "properties": {"privateIPAddress": "fd00::4", "subnet": {"id": SUBNET}, "primary": False},
            },
        ],
    },
}
NETWORK: Document = {
    "id": VNET,
    "name": "vnet",
    "properties": {
        "addressSpace": {"addressPrefixes": ["10.240.0.0/16", "fd00::/48"]},
        "subnets": [
            {
                "id": SUBNET,
                "properties": {
                    "addressPrefix": "10.240.0.0/24",
                    "networkSecurityGroup": {"id": NSG},
                    "routeTable": {"id": "/routes"},
                },
            },
            {"id": PODS, "properties": {"addressPrefixes": ["10.241.0.0/24", "fd00:1::/64"]}},
        ],
        "virtualNetworkPeerings": [
            {
                "name": "hub",
                "properties": {
                    "peeringState": "Connected",
                    "remoteVirtualNetwork": {"id": "/hub"},
                    "allowVirtualNetworkAccess": True,
                    "remoteAddressSpace": {"addressPrefixes": ["10.0.0.0/24"]},
                    "remoteVirtualNetworkAddressSpace": {"addressPrefixes": ["10.0.0.0/16"]},
                },
            }
        ],
    },
}


def test_a_cluster() -> None:
    """Everything that checks and the collector need of it, with the version that runs."""
    managed = read_cluster(CLUSTER)
    cluster = managed.cluster
    assert (cluster.ref.id, cluster.ref.name) == (CLUSTER["id"], "aks-shop")
    assert (cluster.ref.resource_group, cluster.ref.location) == ("rg-shop", "westeurope")
    assert cluster.ref.subscription_id == "0b1f6471-1bf0-4dda-aec3-cb9272f09590"
    assert cluster.node_resource_group == "MC_rg-shop_aks-shop_westeurope"
    assert (cluster.kubernetes_version, cluster.provisioning_state) == ("1.33.2", "Succeeded")
    assert (cluster.private, cluster.vnet_integration, cluster.stopped) == (True, False, False)
    assert (cluster.outbound_type, cluster.network_plugin, cluster.network_plugin_mode) == (
        "loadBalancer",
        "azure",
        "overlay",
    )
    assert cluster.tags["env"] == "prod"
    assert managed.pools == (
        AgentPool(
            name="np",
            mode="System",
            os_type="Linux",
            type="VirtualMachineScaleSets",
            count=3,
            power_state="Running",
            subnet_id=SUBNET,
            pod_subnet_id=PODS,
            groups=(ASG.lower(),),
        ),
        AgentPool(
            name="old",
            mode="",
            os_type="",
            type="AvailabilitySet",
            count=None,
            power_state="",
            subnet_id="",
            pod_subnet_id="",
            groups=(),
        ),
    )
    assert managed.fqdns == (
        "aks-shop-1a2b3c4d.0a1b.privatelink.westeurope.azmk8s.io",
        "aks-shop-1a2b3c4d.hcp.westeurope.azmk8s.io",
    )
    assert managed.api_subnet_id == ""


def test_an_api_server_in_the_network() -> None:
    """The subnet that it is projected into; a public cluster has one name."""
    document = copy.deepcopy(CLUSTER)
    del document["properties"]["privateFQDN"]
    document["properties"]["apiServerAccessProfile"] = {"enableVnetIntegration": True, "subnetId": PODS}
    managed = read_cluster(document)
    assert (managed.cluster.vnet_integration, managed.api_subnet_id) == (True, PODS)
    assert managed.fqdns == ("aks-shop-1a2b3c4d.hcp.westeurope.azmk8s.io",)


@pytest.mark.parametrize(
    ("code", "stopped"), [("Stopped", True), ("stopped", True), ("Running", False), ("", False)]
)
def test_a_stopped_cluster(code: str, stopped: bool) -> None:
    """The power state may be written in any case."""
    document = copy.deepcopy(CLUSTER)
    document["properties"]["powerState"] = {"code": code}
    assert read_cluster(document).cluster.stopped is stopped


def test_a_version_that_is_not_running_yet() -> None:
    """Without a current version, the one that was asked for."""
    document = copy.deepcopy(CLUSTER)
    del document["properties"]["currentKubernetesVersion"]
    assert read_cluster(document).cluster.kubernetes_version == "1.33"


@pytest.mark.parametrize("wrong", [None, "", "aks-shop", 7])
def test_a_cluster_without_an_id(wrong: object) -> None:
    """The one thing that has to be there."""
    with pytest.raises(ValueError, match="not an Azure resource id"):
        read_cluster(CLUSTER | {"id": wrong})


def test_a_scale_set() -> None:
    """The primary interface's group, and the subnet of its primary configuration."""
    scale_set = read_scale_set(SCALE_SET)
    assert (scale_set.id, scale_set.name, scale_set.pool) == (SCALE_SET_ID, "aks-np-12345678-vmss", "np")
    assert scale_set.computer_name_prefix == "aks-np-12345678-vmss"
    assert scale_set.interface == InterfaceModel(subnet_id=SUBNET, nsg_id=NSG)
    assert scale_set.groups == (ASG.lower(),)


@pytest.mark.parametrize("empty", [[], None])
def test_a_scale_set_without_interfaces(empty: object) -> None:
    """There is none, which is not the same as one that is attached to nothing."""
    document = copy.deepcopy(SCALE_SET)
    profile = document["properties"]["virtualMachineProfile"]
    profile["networkProfile"]["networkInterfaceConfigurations"] = empty
    assert read_scale_set(document).interface is None


@pytest.mark.parametrize(
    ("tags", "pool"),
    [
        ({"aks-managed-poolName": "np"}, "np"),
        ({"AKS-MANAGED-POOLNAME": "np"}, "np"),
        ({"poolName": "np"}, "np"),
        ({"poolName": "old", "aks-managed-poolName": "np"}, "np"),
        ({"env": "prod"}, ""),
        ({}, ""),
        (None, ""),
    ],
)
def test_the_pool_that_tags_name(tags: object, pool: str) -> None:
    """AKS's own tag before the older one, in any case; none where there is none."""
    assert read_scale_set(SCALE_SET | {"tags": tags}).pool == pool
    assert read_virtual_machine(MACHINE | {"tags": tags}).pool == pool


def test_a_machine() -> None:
    """Its primary interface, wherever that stands."""
    machine = read_virtual_machine(MACHINE)
    assert (machine.pool, machine.computer_name) == ("vm", "aks-vm-12345678-vms1")
    assert machine.interface_id == "/nic/first"


def test_a_machine_with_one_interface() -> None:
    """It need not say that it is the primary one."""
    document = copy.deepcopy(MACHINE)
    document["properties"]["networkProfile"]["networkInterfaces"] = [{"id": "/nic/only"}]
    assert read_virtual_machine(document).interface_id == "/nic/only"


def test_an_interface() -> None:
    """The node's own address of each family; the pods' addresses and their subnet are not the node's."""
    interface = read_interface(INTERFACE)
    assert interface.addresses == ("10.240.0.4", "fd00::4")
    assert interface.model == InterfaceModel(subnet_id=SUBNET, nsg_id=NSG)
    assert interface.machine_id == f"{SCALE_SET_ID}/virtualMachines/0"
    assert interface.primary


def test_application_security_groups_of_an_interface() -> None:
    """Each with all addresses that are in it, pods' included, under one id whatever its case."""
    assert read_interface(INTERFACE).members == {ASG.lower(): ("10.241.0.9", "10.240.0.4")}


@pytest.mark.parametrize(("primary", "expected"), [(True, True), (None, True), (False, False)])
def test_whether_an_interface_is_the_primary_one(primary: object, expected: bool) -> None:
    """Unless it says that it is not."""
    document = copy.deepcopy(INTERFACE)
    document["properties"]["primary"] = primary
    assert read_interface(document).primary is expected


@pytest.mark.parametrize(
    "empty", [[], None, [{}], [{"properties": None}], [{"properties": {"subnet": None}}]]
)
def test_an_interface_without_addresses(empty: object) -> None:
    """It has none, and stands nowhere."""
    document = copy.deepcopy(INTERFACE)
    document["properties"]["ipConfigurations"] = empty
    interface = read_interface(document)
    assert (interface.addresses, interface.model.subnet_id) == ((), "")


def test_a_network() -> None:
    """Address space, subnets with one prefix or several, and what its peers have."""
    network = read_network(NETWORK)
    assert (network.id, network.prefixes) == (VNET, ("10.240.0.0/16", "fd00::/48"))
    assert network.subnets == (
        SubnetModel(id=SUBNET, prefixes=("10.240.0.0/24",), nsg_id=NSG, route_table_id="/routes"),
        SubnetModel(id=PODS, prefixes=("10.241.0.0/24", "fd00:1::/64"), nsg_id="", route_table_id=""),
    )
    assert (network.peered_prefixes, network.peer_ids) == (("10.0.0.0/16",), ("/hub",))


@pytest.mark.parametrize(
    ("peering", "subnet", "gateway"),
    [
        ({}, "nodes", False),
        ({}, "GatewaySubnet", True),
        ({}, "gatewaysubnet", True),
        ({}, "RouteServerSubnet", True),
        ({"useRemoteGateways": True}, "nodes", True),
        ({"useRemoteGateways": True, "peeringState": "Initiated"}, "nodes", False),
        ({"useRemoteGateways": False, "allowGatewayTransit": True}, "nodes", False),
    ],
)
def test_a_gateway(peering: Document, subnet: str, gateway: bool) -> None:
    """One of the network's own, or a peer's that it uses while the peering is connected."""
    document = copy.deepcopy(NETWORK)
    document["properties"]["virtualNetworkPeerings"][0]["properties"] |= peering
    document["properties"]["subnets"][1]["id"] = f"{VNET}/subnets/{subnet}"
    assert read_network(document).gateway is gateway


@pytest.mark.parametrize(
    ("changes", "prefixes"),
    [
        ({}, ("10.0.0.0/16",)),
        ({"peeringState": "connected"}, ("10.0.0.0/16",)),
        ({"peeringState": "Initiated"}, ()),
        ({"peeringState": "Disconnected"}, ()),
        ({"peeringState": None}, ()),
        ({"allowVirtualNetworkAccess": False}, ()),
        ({"allowVirtualNetworkAccess": None}, ("10.0.0.0/16",)),
        ({"remoteVirtualNetworkAddressSpace": None}, ("10.0.0.0/24",)),
        ({"remoteVirtualNetworkAddressSpace": None, "remoteAddressSpace": None}, ()),
    ],
)
def test_a_peering(changes: Document, prefixes: tuple[str, ...]) -> None:
    """Only a connected one that lets traffic through belongs to VirtualNetwork; the newer field counts."""
    document = copy.deepcopy(NETWORK)
    document["properties"]["virtualNetworkPeerings"][0]["properties"] |= changes
    assert read_network(document).peered_prefixes == prefixes


@pytest.mark.parametrize(
    ("properties", "prefixes"),
    [
        ({"addressPrefix": "10.240.0.0/24"}, ("10.240.0.0/24",)),
        ({"addressPrefixes": ["10.240.0.0/24"]}, ("10.240.0.0/24",)),
        ({"addressPrefix": "10.240.0.0/24", "addressPrefixes": ["10.240.0.0/24"]}, ("10.240.0.0/24",)),
        (
            {"addressPrefix": None, "addressPrefixes": ["10.240.0.0/24", "fd00::/64"]},
            ("10.240.0.0/24", "fd00::/64"),
        ),
        ({}, ()),
    ],
)
def test_the_prefixes_of_a_subnet(properties: Document, prefixes: tuple[str, ...]) -> None:
    """One value or a list, each once."""
    document = {"id": VNET, "properties": {"subnets": [{"id": SUBNET, "properties": properties}]}}
    assert read_network(document).subnets[0].prefixes == prefixes


# --- what may be missing -------------------------------------------------------------------------

READERS: list[tuple[Callable[[Any], object], Document]] = [
    (read_cluster, CLUSTER),
    (read_scale_set, SCALE_SET),
    (read_virtual_machine, MACHINE),
    (read_interface, INTERFACE),
    (read_network, NETWORK),
]


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every field of a document, however deep; of a list its first item's."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            yield from paths(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths(inner, (*path, index))


def without(document: Document, path: tuple[str | int, ...], *, null: bool) -> Document:
    """The document with one field left out, or null."""
    changed = copy.deepcopy(document)
    inner: Any = changed
    for step in path[:-1]:
        inner = inner[step]
    if null:
        inner[path[-1]] = None
    else:
        del inner[path[-1]]
    return changed


@pytest.mark.parametrize(("read", "document"), READERS, ids=[reader.__name__ for reader, _ in READERS])
def test_no_missing_field_is_an_error(read: Callable[[Any], object], document: Document) -> None:
    """Each field of a whole document may be missing or null, a cluster's id apart."""
    tried = [path for path in paths(document) if not (read is read_cluster and path == ("id",))]
    assert len(tried) > 10
    for path in tried:
        assert read(without(document, path, null=False)) is not None
        assert read(without(document, path, null=True)) is not None
