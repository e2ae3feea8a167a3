"""One cluster as the collector saw it, in our own words.

A part that could not be read is there as a `Missing` with its reason, so that a
check has to say what it makes of it. An empty tuple means that Azure said there
is nothing; `None` means that Azure said that nothing is attached.
"""

from collections.abc import Mapping

from msgspec import Struct

from facts.filters import AdminRules, Firewall, Missing, NetworkSecurityGroup, RouteTable
from facts.finding import ClusterRef, Reason
from facts.outbound import LoadBalancer, NatGateway, OutboundProfile, Usage
from facts.probes import Probes


class VirtualNetwork(Struct, frozen=True, kw_only=True):
    """The address space that a node's subnet lies in."""

    id: str
    prefixes: tuple[str, ...]
    peered_prefixes: tuple[str, ...] = ()
    """Address space of virtual networks whose peering is connected."""
    gateway: bool = False
    """Whether a gateway or route server may bring routes: one of its own, or a peer's that it uses."""
    admin_rules: AdminRules | Missing | None = None
    """`None` where no network manager has any in force."""


class Subnet(Struct, frozen=True, kw_only=True):
    """A subnet with the security group at subnet level and its routes."""

    id: str
    prefixes: tuple[str, ...]
    network: VirtualNetwork
    nsg: NetworkSecurityGroup | Missing | None
    routes: RouteTable | Missing | None = None
    nat_gateway: NatGateway | Missing | None = None


class Node(Struct, frozen=True, kw_only=True):
    """A virtual machine of a node pool."""

    name: str
    """The Kubernetes node name, `aks-pool-12345678-vmss00000a`."""
    instance_id: str
    """The scale set instance, or the virtual machine's name."""
    addresses: tuple[str, ...]
    machine_id: str = ""
    """The id of the scale set's instance, or of the virtual machine."""
    members: Mapping[str, tuple[str, ...]] = {}
    """Its addresses in application security groups, pods' included, by the key of the group's id."""


class Placement(Struct, frozen=True, kw_only=True):
    """Where nodes of a pool stand: a subnet, and the security group on their network interface.

    A pool has one of these as a rule, and more while its nodes differ: during an
    upgrade of the scale set's model, or when somebody edited single interfaces.
    """

    subnet: Subnet | Missing
    nic_nsg: NetworkSecurityGroup | Missing | None
    nodes: tuple[Node, ...] = ()
    groups: tuple[str, ...] = ()
    """Keys of the application security groups that a node which is added there joins."""


class NodePool(Struct, frozen=True, kw_only=True):
    """An agent pool of the cluster."""

    name: str
    mode: str
    """`System`, `User`, `Gateway` …"""
    os_type: str
    type: str
    """`VirtualMachineScaleSets`, `AvailabilitySet`, `VirtualMachines`."""
    count: int | None
    """The nodes that the pool should have; `None` where Azure does not say."""
    power_state: str
    resource_ids: tuple[str, ...]
    """The scale sets or virtual machines that carry the nodes."""
    placements: tuple[Placement, ...]
    max_count: int | None = None
    """The nodes that the autoscaler may make of it; `None` where it does not scale by itself."""
    max_surge: str = ""
    """Nodes that an upgrade adds for its time, `10%` or `3`; empty where Azure does not say."""
    public_addresses: bool = False
    """Whether each node has a public address of its own."""
    pod_subnet: Subnet | Missing | None = None
    """The subnet that pods take their addresses from, where it is another than the nodes'."""
    missing: tuple[Missing, ...] = ()
    """What could not be read of the pool: its scale set, or the interfaces of its nodes."""

    @property
    def stopped(self) -> bool:
        """Whether the pool was stopped on purpose."""
        return self.power_state.lower() == "stopped"


class Cluster(Struct, frozen=True, kw_only=True):
    """The managed cluster itself."""

    ref: ClusterRef
    node_resource_group: str
    power_state: str
    provisioning_state: str
    kubernetes_version: str
    private: bool
    vnet_integration: bool
    outbound_type: str
    outbound: OutboundProfile = OutboundProfile()
    own_network: bool = False
    """Whether the owner brought the nodes' network along; else AKS made it."""
    provisions_nodes: bool = False
    """Whether AKS makes machines as pods ask for them (node auto-provisioning), which belong to no pool."""
    network_plugin: str
    network_plugin_mode: str
    tags: dict[str, str]
    tunnel: str = "konnectivity"
    """What carries the tunnel: `konnectivity`, `tunnel-front`, `aks-link`, or what somebody mistyped."""

    @property
    def isolated(self) -> bool:
        """Whether the cluster is cut off from the outside on purpose.

        See https://learn.microsoft.com/azure/aks/egress-outboundtype.
        """
        return self.outbound_type.lower() in {"none", "block"}

    @property
    def stopped(self) -> bool:
        """Whether the cluster was stopped on purpose (`az aks stop`)."""
        return self.power_state.lower() == "stopped"


class ApiServer(Struct, frozen=True, kw_only=True):
    """Where nodes find the control plane."""

    fqdn: str
    addresses: tuple[str, ...] | Missing
    """What the name resolves to."""
    subnet: Subnet | Missing | None = None
    """The subnet that it is projected into, with API server VNet integration."""


PROBES_DISABLED = Missing(
    what="the nodes",
    resource_id="",
    reason=Reason(
        code="probes_disabled",
        message="Nodes are not probed: NODE_PROBES is not on. Probes run a script on nodes as root, and need "
        "a permission of their own.",
    ),
)


class Snapshot(Struct, frozen=True, kw_only=True):
    """Everything that the checks may read about one cluster."""

    cluster: Cluster
    pools: tuple[NodePool, ...]
    api_server: ApiServer | None = None
    """`None` where nothing was asked, as of a cluster that is stopped."""
    service_tags: Mapping[str, tuple[str, ...]] | Missing = {}
    """Prefixes of the service tags that are named in what was read, by lower-case name, as far as Azure
    publishes them."""
    appliances: Mapping[str, Firewall | Missing] = {}
    """What stands at the addresses that routes to the control plane lead to, by address."""
    load_balancers: tuple[LoadBalancer, ...] | Missing = ()
    """Those in the node resource group that have outbound rules."""
    usage: Mapping[str, Usage] = {}
    """What Azure Monitor counted at load balancers, NAT gateways and firewalls, by the key of their id."""
    probes: Probes | Missing = PROBES_DISABLED
    """What probes saw on nodes; `Missing` where nodes are not probed at all."""
    taken_at: str
    """UTC, ISO 8601: when the reading began."""
