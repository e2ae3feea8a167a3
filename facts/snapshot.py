"""One cluster as the collector saw it, in our own words.

A part that could not be read is there as a `Missing` with its reason, so that a
check has to say what it makes of it. An empty tuple means that Azure said there
is nothing; `None` means that Azure said that nothing is attached.
"""

from enum import StrEnum

from msgspec import Struct

from facts.finding import ClusterRef, Reason


class Missing(Struct, frozen=True, kw_only=True):
    """A part of the snapshot that could not be read."""

    what: str
    """In words: `network security group "web-nsg"`."""
    resource_id: str
    reason: Reason


class Direction(StrEnum):
    """The way a packet goes, as seen from the network interface."""

    INBOUND = "Inbound"
    OUTBOUND = "Outbound"


class SecurityRule(Struct, frozen=True, kw_only=True):
    """A rule of a network security group; singular and plural fields are already joined.

    Text fields hold what Azure wrote, new enum values included: the evaluator
    decides what it can make of them.
    """

    id: str
    name: str
    priority: int
    """100-4096 for custom rules, 65000 and above for default ones; lower comes first."""
    direction: str
    access: str
    protocol: str
    sources: tuple[str, ...] = ()
    """CIDRs, addresses, ranges, service tags, `*`."""
    source_groups: tuple[str, ...] = ()
    """Ids of application security groups."""
    source_ports: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    destination_groups: tuple[str, ...] = ()
    destination_ports: tuple[str, ...] = ()
    default: bool = False


class NetworkSecurityGroup(Struct, frozen=True, kw_only=True):
    """A network security group with its custom rules and the default ones that Azure returned."""

    id: str
    name: str
    rules: tuple[SecurityRule, ...]


class VirtualNetwork(Struct, frozen=True, kw_only=True):
    """The address space that a node's subnet lies in."""

    id: str
    prefixes: tuple[str, ...]
    peered_prefixes: tuple[str, ...] = ()
    """Address space of virtual networks whose peering is connected."""


class Subnet(Struct, frozen=True, kw_only=True):
    """A subnet with the security group at subnet level."""

    id: str
    prefixes: tuple[str, ...]
    network: VirtualNetwork
    nsg: NetworkSecurityGroup | Missing | None


class Node(Struct, frozen=True, kw_only=True):
    """A virtual machine of a node pool."""

    name: str
    """The Kubernetes node name, `aks-pool-12345678-vmss00000a`."""
    instance_id: str
    """The scale set instance, or the virtual machine's name."""
    addresses: tuple[str, ...]


class Placement(Struct, frozen=True, kw_only=True):
    """Where nodes of a pool stand: a subnet, and the security group on their network interface.

    A pool has one of these as a rule, and more while its nodes differ: during an
    upgrade of the scale set's model, or when somebody edited single interfaces.
    """

    subnet: Subnet | Missing
    nic_nsg: NetworkSecurityGroup | Missing | None
    nodes: tuple[Node, ...] = ()


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
    network_plugin: str
    network_plugin_mode: str
    tags: dict[str, str]

    @property
    def stopped(self) -> bool:
        """Whether the cluster was stopped on purpose (`az aks stop`)."""
        return self.power_state.lower() == "stopped"


class Snapshot(Struct, frozen=True, kw_only=True):
    """Everything that the checks may read about one cluster."""

    cluster: Cluster
    pools: tuple[NodePool, ...]
    taken_at: str
    """UTC, ISO 8601: when the reading began."""
