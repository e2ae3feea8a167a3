"""Azure's JSON documents of clusters, scale sets, machines, interfaces and networks, as our types.

The documents are ARM's own, as the SDK's models give them back; whatever is
missing in one is missing here too and never an error.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from facts import resource_id
from facts.finding import ClusterRef
from facts.outbound import OutboundProfile
from facts.snapshot import Cluster
from packets.documents import both, number, properties

Document = Mapping[str, Any]


class AgentPool(Struct, frozen=True, kw_only=True):
    """A node pool as the cluster describes it."""

    name: str
    mode: str
    os_type: str
    type: str
    count: int | None
    """`None` where Azure does not say."""
    power_state: str
    subnet_id: str
    pod_subnet_id: str
    """Empty where pods have addresses of the nodes' subnet, or none of the network."""
    groups: tuple[str, ...]
    """Keys of the application security groups that its nodes join."""
    max_count: int | None = None
    """The nodes that the autoscaler may make of it; `None` where it does not scale by itself."""
    max_surge: str = ""
    public_addresses: bool = False
    """Whether each node has a public address of its own."""


class ManagedCluster(Struct, frozen=True, kw_only=True):
    """A cluster with its pools, and where its API server is."""

    cluster: Cluster
    pools: tuple[AgentPool, ...]
    fqdns: tuple[str, ...]
    """Names of the API server, the one that nodes use first."""
    api_subnet_id: str
    """The subnet of an API server with VNet integration."""


class InterfaceModel(Struct, frozen=True, kw_only=True):
    """What a network interface is attached to, as far as its primary IP configuration says."""

    subnet_id: str
    nsg_id: str


class ScaleSet(Struct, frozen=True, kw_only=True):
    """A virtual machine scale set."""

    id: str
    name: str
    pool: str
    """The agent pool that its tags name; empty if they name none."""
    computer_name_prefix: str
    interface: InterfaceModel | None
    groups: tuple[str, ...]
    """Keys of the application security groups that its instances join."""


class VirtualMachine(Struct, frozen=True, kw_only=True):
    """A plain virtual machine."""

    id: str
    name: str
    pool: str
    computer_name: str
    interface_id: str
    """The primary network interface; empty if it has none."""


class Interface(Struct, frozen=True, kw_only=True):
    """A network interface of a machine."""

    id: str
    machine_id: str
    primary: bool
    model: InterfaceModel
    addresses: tuple[str, ...]
    """The primary address of each family; further ones belong to pods."""
    members: Mapping[str, tuple[str, ...]]
    """All its addresses in application security groups, by the key of the group's id."""


class SubnetModel(Struct, frozen=True, kw_only=True):
    """A subnet as its virtual network describes it."""

    id: str
    prefixes: tuple[str, ...]
    nsg_id: str
    route_table_id: str
    nat_gateway_id: str = ""


class NetworkModel(Struct, frozen=True, kw_only=True):
    """A virtual network with its subnets and the address space of its peers."""

    id: str
    prefixes: tuple[str, ...]
    peered_prefixes: tuple[str, ...]
    peer_ids: tuple[str, ...]
    """Of the networks whose peering is connected."""
    gateway: bool
    """Whether a gateway or route server may bring routes: one of its own, or a peer's that it uses."""
    subnets: tuple[SubnetModel, ...]


def read_cluster(document: Document) -> ManagedCluster:
    """`Microsoft.ContainerService/managedClusters`."""
    body = properties(document)
    parts = resource_id.parse(str(document.get("id") or ""))
    api_server = _map(body, "apiServerAccessProfile")
    network = _map(body, "networkProfile")
    return ManagedCluster(
        cluster=Cluster(
            ref=ClusterRef(
                id=parts.text,
                name=str(document.get("name") or parts.name),
                subscription_id=parts.subscription_id,
                resource_group=parts.resource_group,
                location=_text(document, "location"),
            ),
            node_resource_group=_text(body, "nodeResourceGroup"),
            power_state=_text(_map(body, "powerState"), "code"),
            provisioning_state=_text(body, "provisioningState"),
            kubernetes_version=_text(body, "currentKubernetesVersion") or _text(body, "kubernetesVersion"),
            private=bool(api_server.get("enablePrivateCluster")),
            vnet_integration=bool(api_server.get("enableVnetIntegration")),
            outbound_type=_text(network, "outboundType"),
            outbound=_outbound(network),
            own_network=any(_text(pool, "vnetSubnetID") for pool in _each(body, "agentPoolProfiles")),
            provisions_nodes=_text(_map(body, "nodeProvisioningProfile"), "mode").lower() == "auto",
            network_plugin=_text(network, "networkPlugin"),
            network_plugin_mode=_text(network, "networkPluginMode"),
            tags={str(name): str(value) for name, value in _map(document, "tags").items()},
        ),
        pools=tuple(_pool(pool) for pool in _each(body, "agentPoolProfiles")),
        fqdns=tuple(name for field in ("privateFQDN", "fqdn") if (name := _text(body, field))),
        api_subnet_id=_text(api_server, "subnetId"),
    )


def _outbound(network: Document) -> OutboundProfile:
    """What the cluster asks for on the way out, as `az aks update` sets it."""
    balancer, gateway = _map(network, "loadBalancerProfile"), _map(network, "natGatewayProfile")
    managed = _map(balancer, "managedOutboundIPs")
    return OutboundProfile(
        allocated_ports=(number(balancer, "allocatedOutboundPorts") or 0) if balancer else None,
        idle_timeout_minutes=number(balancer, "idleTimeoutInMinutes"),
        managed_addresses=number(managed, "count"),
        managed_addresses_v6=number(managed, "countIPv6"),
        address_ids=_ids(_map(balancer, "outboundIPs"), "publicIPs"),
        prefix_ids=_ids(_map(balancer, "outboundIPPrefixes"), "publicIPPrefixes"),
        gateway_addresses=number(_map(gateway, "managedOutboundIPProfile"), "count"),
    )


def _ids(document: Document, field: str) -> tuple[str, ...]:
    return tuple(_text(one, "id") for one in _each(document, field) if _text(one, "id"))


def _pool(document: Document) -> AgentPool:
    return AgentPool(
        name=_text(document, "name"),
        mode=_text(document, "mode"),
        os_type=_text(document, "osType"),
        # A profile without a type is an availability set: the field came with scale sets.
        type=_text(document, "type") or "AvailabilitySet",
        count=_count(document),
        power_state=_text(_map(document, "powerState"), "code"),
        subnet_id=_text(document, "vnetSubnetID"),
        pod_subnet_id=_text(document, "podSubnetID"),
        groups=tuple(
            resource_id.key(str(group))
            for group in _map(document, "networkProfile").get("applicationSecurityGroups") or ()
        ),
        max_count=number(document, "maxCount") if document.get("enableAutoScaling") is True else None,
        max_surge=_text(_map(document, "upgradeSettings"), "maxSurge"),
        public_addresses=document.get("enableNodePublicIP") is True,
    )


def _count(pool: Document) -> int | None:
    """The nodes of a pool; one of single machines may say it by machine size alone."""
    if isinstance(count := pool.get("count"), int):
        return count
    sizes = _each(_map(_map(pool, "virtualMachinesProfile"), "scale"), "manual")
    counts = [size["count"] for size in sizes if isinstance(size.get("count"), int)]
    return sum(counts) if counts else None


def read_scale_set(document: Document) -> ScaleSet:
    """`Microsoft.Compute/virtualMachineScaleSets`."""
    profile = _map(properties(document), "virtualMachineProfile")
    interfaces = _each(_map(profile, "networkProfile"), "networkInterfaceConfigurations")
    return ScaleSet(
        id=_text(document, "id"),
        name=_text(document, "name"),
        pool=_pool_name(document),
        computer_name_prefix=_text(_map(profile, "osProfile"), "computerNamePrefix"),
        interface=_model(_primary(interfaces)) if interfaces else None,
        groups=tuple(_members(_primary(interfaces))) if interfaces else (),
    )


def read_virtual_machine(document: Document) -> VirtualMachine:
    """`Microsoft.Compute/virtualMachines`."""
    body = properties(document)
    interfaces = _each(_map(body, "networkProfile"), "networkInterfaces")
    return VirtualMachine(
        id=_text(document, "id"),
        name=_text(document, "name"),
        pool=_pool_name(document),
        computer_name=_text(_map(body, "osProfile"), "computerName"),
        interface_id=_text(_primary(interfaces), "id") if interfaces else "",
    )


def read_interface(document: Document) -> Interface:
    """`Microsoft.Network/networkInterfaces`, of a plain machine or of a scale set's instance."""
    body = properties(document)
    configurations = _each(body, "ipConfigurations")
    by_family: dict[bool, str] = {}
    # The primary configuration comes first; of the others only another family's first one is the node's.
    for configuration in sorted(configurations, key=lambda one: not _is_primary(one)):
        address = _text(properties(configuration), "privateIPAddress")
        if address:
            by_family.setdefault(":" in address, address)
    return Interface(
        id=_text(document, "id"),
        machine_id=_text(_map(body, "virtualMachine"), "id"),
        primary=body.get("primary") is not False,
        model=_model(document),
        addresses=tuple(by_family.values()),
        members=_members(document),
    )


def _members(interface: Document) -> dict[str, tuple[str, ...]]:
    """The application security groups of an interface's IP configurations, with the addresses in each."""
    members: dict[str, list[str]] = {}
    for configuration in _each(properties(interface), "ipConfigurations"):
        body = properties(configuration)
        address = _text(body, "privateIPAddress")
        for group in _each(body, "applicationSecurityGroups"):
            members.setdefault(resource_id.key(_text(group, "id")), []).extend([address] * bool(address))
    return {group: tuple(addresses) for group, addresses in members.items()}


_LEARNING = ("/subnets/gatewaysubnet", "/subnets/routeserversubnet")
"""The subnets of what brings routes into a network: gateways and route servers have to be in these."""


def read_network(document: Document) -> NetworkModel:
    """`Microsoft.Network/virtualNetworks`."""
    body = properties(document)
    peerings = [properties(peering) for peering in _each(body, "virtualNetworkPeerings")]
    connected = [one for one in peerings if _text(one, "peeringState").lower() == "connected"]
    return NetworkModel(
        id=_text(document, "id"),
        prefixes=both(_map(body, "addressSpace"), "addressPrefix", "addressPrefixes"),
        peered_prefixes=tuple(prefix for peering in connected for prefix in _peered(peering)),
        peer_ids=tuple(
            peer for peering in connected if (peer := _text(_map(peering, "remoteVirtualNetwork"), "id"))
        ),
        gateway=any(one.get("useRemoteGateways") is True for one in connected)
        or any(_text(one, "id").lower().endswith(_LEARNING) for one in _each(body, "subnets")),
        subnets=tuple(
            SubnetModel(
                id=_text(subnet, "id"),
                prefixes=both(properties(subnet), "addressPrefix", "addressPrefixes"),
                nsg_id=_text(_map(properties(subnet), "networkSecurityGroup"), "id"),
                route_table_id=_text(_map(properties(subnet), "routeTable"), "id"),
                nat_gateway_id=_text(_map(properties(subnet), "natGateway"), "id"),
            )
            for subnet in _each(body, "subnets")
        ),
    )


def _peered(peering: Document) -> tuple[str, ...]:
    """The peer's address space, if the peering belongs to the VirtualNetwork tag."""
    if peering.get("allowVirtualNetworkAccess") is False:
        return ()
    space = _map(peering, "remoteVirtualNetworkAddressSpace") or _map(peering, "remoteAddressSpace")
    return both(space, "addressPrefix", "addressPrefixes")


def _model(interface: Document) -> InterfaceModel:
    body = properties(interface)
    configuration = properties(_primary(_each(body, "ipConfigurations") or [{}]))
    return InterfaceModel(
        subnet_id=_text(_map(configuration, "subnet"), "id"),
        nsg_id=_text(_map(body, "networkSecurityGroup"), "id"),
    )


def _primary(documents: Sequence[Document]) -> Document:
    """The one that says it is primary, or else the first."""
    return next((one for one in documents if _is_primary(one)), documents[0])


def _is_primary(document: Document) -> bool:
    return bool(properties(document).get("primary"))


def _pool_name(document: Document) -> str:
    tags = {str(name).lower(): str(value) for name, value in _map(document, "tags").items()}
    return tags.get("aks-managed-poolname") or tags.get("poolname") or ""


def _each(document: Document, field: str) -> list[Document]:
    """The objects of a list; whatever else stands in it is nothing that could be read."""
    value = document.get(field)
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _map(document: Document, field: str) -> Document:
    value = document.get(field)
    return value if isinstance(value, Mapping) else {}


def _text(document: Document, field: str) -> str:
    value = document.get(field)
    return "" if value is None else str(value)
