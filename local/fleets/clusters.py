"""What a sample cluster is, in a few words: pools, network, rules, and how it gets out."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from local.fleets.use import GatewayUse, Use

type Words = str | tuple[str, ...]
"""One value, written in the singular field; or several, written in the plural field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of a network security group."""

    name: str
    priority: int
    access: str = "Allow"
    direction: str = "Inbound"
    protocol: str = "Tcp"
    source: Words = "*"
    destination: Words = "*"
    ports: Words = "*"
    destination_groups: tuple[str, ...] = ()
    """Names of application security groups beside the NSG, in place of a destination (which is `()` then)."""
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminRule:
    """One security admin rule of a network manager."""

    name: str
    priority: int
    access: str
    """`Allow`, `Deny` or `AlwaysAllow`."""
    direction: str = "Inbound"
    protocol: str = "Tcp"
    sources: tuple[str, ...] = ("*",)
    """CIDRs, service tags or `*`."""
    destinations: tuple[str, ...] = ("*",)
    ports: tuple[str, ...] = ("0-65535",)
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminRules:
    """What a network manager has in force on a virtual network: one of its rule collections."""

    subscription: str
    """The network manager's."""
    collection: str
    rules: tuple[AdminRule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route of the owner's route table."""

    name: str
    prefix: str
    hop: str = "VirtualAppliance"
    address: str | None = None
    """The appliance's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """A virtual network in the middle of others, with an Azure Firewall."""

    name: str
    subscription: str
    location: str
    prefix: str
    firewall: str
    """The firewall's private address."""

    @property
    def group(self) -> str:
        """Its resource group."""
        return f"rg-{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """A subnet of a BYO virtual network."""

    name: str
    prefixes: tuple[str, ...]
    rules: tuple[Rule, ...] | None = None
    """The rules of its own NSG, `nsg-{name}`; None if it has no NSG."""
    delegation: str | None = None
    """The service it is delegated to, for the API server or for pods."""
    gateway: str | None = None
    """The name of the NAT gateway of the owner's that hangs on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A NAT gateway."""

    name: str = ""
    """Empty for one that AKS makes, and names."""
    addresses: int = 1
    """Its public addresses."""
    use: GatewayUse = field(default_factory=GatewayUse)


@dataclass(frozen=True, slots=True, kw_only=True)
class Balancer:
    """What nodes get out by where the cluster's load balancer serves them."""

    addresses: int = 1
    """Public IPv4 addresses of its outbound rule."""
    source: str = "managed"
    """`managed`: AKS makes the addresses; `owned`: the owner did, in the cluster's resource group; `prefix`:
    they are a public IP prefix of the owner's, of as many addresses."""
    ports: int = 0
    """Allotted to each node on all frontends together; 0: by the number of nodes."""
    idle_minutes: int = 30
    services: tuple[str, ...] = ()
    """Public addresses of services in the cluster: frontends with a rule each, by which nobody gets out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A virtual network that the cluster's owner brought along."""

    name: str
    group: str
    """Its resource group."""
    prefixes: tuple[str, ...]
    subnets: tuple[Subnet, ...]
    hub: Hub | None = None
    """What it is peered with."""
    routes: tuple[Route, ...] = ()
    """The routes of a table that hangs on the subnets with nodes; without any there is none."""
    gateways: tuple[Gateway, ...] = ()
    """The owner's NAT gateways, in the network's resource group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A node pool."""

    name: str = "system"
    count: int = 3
    mode: str = "System"
    os: str = "Linux"
    size: str = "Standard_D4ds_v5"
    subnet: str = "aks-subnet"
    pod_subnet: str | None = None
    """The delegated subnet that pods take their addresses from, in place of the nodes' one."""
    groups: tuple[str, ...] = ()
    """Names of the application security groups that its nodes join."""
    kind: str = "VirtualMachineScaleSets"
    most: int | None = None
    """Nodes at the most, by the autoscaler; None: seven more than there are."""
    autoscaling: bool = True
    surge: str = "10%"
    """Nodes more during an upgrade, or a share of the pool."""
    public_addresses: bool = False
    """Whether each node has a public address of its own, and gets out by that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """What some nodes of a pool are like inside."""

    pool: str = "system"
    nodes: tuple[int, ...] | None = (0,)
    """Their numbers; None: the whole pool, by its scale set."""
    content: Mapping[str, Any]
    """As a `*.nodes.json` has it for a machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """TCP 10250 that the network itself drops, as the cluster's rules say."""

    source: str
    """A CIDR."""
    destination: str
    """A CIDR, or the name of a pool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A managed cluster and everything that belongs to it."""

    name: str
    subscription: str
    location: str = "westeurope"
    plugin: str = "overlay"
    """`kubenet`, `azure` (pods have addresses of the subnet) or `overlay`."""
    network: Network | None = None
    """None: AKS makes the virtual network, in the node resource group."""
    pools: tuple[Pool, ...] = (Pool(),)
    node_rules: tuple[Rule, ...] = ()
    """Rules added to the NSG that AKS keeps in the node resource group."""
    outbound: str = "loadBalancer"
    balancer: Balancer = Balancer()
    """The load balancer's way out, where `outbound` is `loadBalancer`."""
    gateway: Gateway = Gateway()
    """The NAT gateway that AKS makes, where `outbound` is `managedNATGateway`."""
    use: Use = field(default_factory=Use)
    """What nodes use of the load balancer."""
    endpoint_subnet: str | None = None
    """The subnet of a private cluster's endpoint; None if the cluster is not private."""
    public_name: bool = True
    """Whether a private cluster has a public name as well."""
    api_subnet: str | None = None
    """The subnet of an API server with VNet integration."""
    admin: AdminRules | None = None
    """What a network manager has in force on the cluster's virtual network."""
    automatic: bool = False
    dual_stack: bool = False
    stopped: bool = False
    inside: tuple[Inside, ...] = ()
    """Of nodes of which nothing is said: no firewall, and the kubelet listens."""
    drops: tuple[Drop, ...] = ()
    """What nodes feel of the rules that deny."""
    scrambled: bool = False
    """Whether every id is written in another case each time."""
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The cluster's id, in the case that Microsoft.ContainerService writes."""
        return (
            f"/subscriptions/{self.subscription}/resourcegroups/{self.group}"
            f"/providers/Microsoft.ContainerService/managedClusters/{self.name}"
        )

    def gateway_of(self, subnet: str) -> Gateway | None:
        """The NAT gateway of the owner's on one of the subnets."""
        network = self.network
        name = next((one.gateway for one in network.subnets if one.name == subnet), None) if network else None
        return next(one for one in network.gateways if one.name == name) if network and name else None

    @property
    def private(self) -> bool:
        """Whether the API server is behind a private endpoint."""
        return self.endpoint_subnet is not None

    @property
    def group(self) -> str:
        """The cluster's resource group."""
        return f"rg-{self.name.removeprefix('aks-')}"

    @property
    def node_group(self) -> str:
        """The resource group that AKS keeps for the nodes."""
        return f"MC_{self.group}_{self.name}_{self.location}"

    @property
    def number(self) -> str:
        """The eight digits in the names of what AKS makes for the cluster."""
        return digits(f"{self.subscription}/{self.group}/{self.name}")


def digits(seed: str) -> str:
    """Eight digits, none of them leading zeros."""
    return str(10_000_000 + int(hashlib.sha256(seed.encode()).hexdigest(), 16) % 90_000_000)


def with_rules(network: Network, subnet: str, rules: tuple[Rule, ...]) -> Network:
    """The same network, with these rules in the NSG of one of its subnets."""
    return replace(
        network,
        subnets=tuple(
            replace(item, rules=rules) if item.name == subnet else item for item in network.subnets
        ),
    )
