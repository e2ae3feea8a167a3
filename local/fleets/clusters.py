"""What a sample cluster is, in a few words: pools, network, rules, and how it gets out."""

import hashlib
from dataclasses import dataclass, field, replace

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
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """A subnet of a BYO virtual network."""

    name: str
    prefixes: tuple[str, ...]
    rules: tuple[Rule, ...] | None = None
    """The rules of its own NSG, `nsg-{name}`; None if it has no NSG."""
    delegation: str | None = None
    """The service it is delegated to, for the API server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A virtual network that the cluster's owner brought along."""

    name: str
    group: str
    """Its resource group."""
    prefixes: tuple[str, ...]
    subnets: tuple[Subnet, ...]
    firewall: str | None = None
    """The private address of an Azure Firewall in a hub, to which 0.0.0.0/0 is routed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A node pool."""

    name: str = "system"
    count: int = 3
    mode: str = "System"
    os: str = "Linux"
    size: str = "Standard_D4ds_v5"
    subnet: str = "aks-subnet"
    kind: str = "VirtualMachineScaleSets"


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
    private: bool = False
    api_subnet: str | None = None
    """The subnet of an API server with VNet integration."""
    automatic: bool = False
    dual_stack: bool = False
    stopped: bool = False
    scrambled: bool = False
    """Whether every id is written in another case each time."""
    tags: dict[str, str] = field(default_factory=dict)

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
