"""How nodes get out, and what Azure Monitor counted of it: load balancers, NAT gateways, firewalls.

A firewall is in `facts.filters`, for what it lets through; here is what counts its ports.
"""

from collections.abc import Mapping

from msgspec import Struct

from facts.filters import Missing


class Frontend(Struct, frozen=True, kw_only=True):
    """Public addresses that translated connections come from."""

    id: str
    """Of the load balancer's frontend, or of the public address or prefix on a NAT gateway."""
    name: str
    source_id: str
    """Of the public address, or of the prefix."""
    addresses: tuple[str, ...] | Missing
    """Addresses, or the prefix's CIDR."""
    rules: int = 0
    """Load balancing and inbound NAT rules that use the frontend: each may take a block of its ports."""


class OutboundRule(Struct, frozen=True, kw_only=True):
    """An outbound rule of a load balancer."""

    id: str
    name: str
    protocol: str
    """`All`, `Tcp` or `Udp`."""
    allocated_ports: int
    """For each node, over all frontends; 0 where Azure allots them by the number of nodes."""
    idle_timeout_minutes: int | None
    frontends: tuple[Frontend, ...]
    members: int | None
    """IP configurations in its backend pool; `None` where Azure does not show them."""


class LoadBalancer(Struct, frozen=True, kw_only=True):
    """A load balancer with outbound rules."""

    id: str
    name: str
    location: str
    rules: tuple[OutboundRule, ...]
    backends: frozenset[str] | None = None
    """Keys of the machines or scale sets whose interfaces its outbound rules serve, and addresses of members
    that are given by address; `None` where Azure does not show them."""


class NatGateway(Struct, frozen=True, kw_only=True):
    """A NAT gateway."""

    id: str
    name: str
    location: str
    sku: str
    """`Standard` or `StandardV2`."""
    idle_timeout_minutes: int | None
    frontends: tuple[Frontend, ...]


class OutboundProfile(Struct, frozen=True, kw_only=True):
    """What the cluster asks for: what `az aks update` changes."""

    allocated_ports: int | None = None
    """`None` where the cluster has no load balancer of its own for the way out."""
    idle_timeout_minutes: int | None = None
    managed_addresses: int | None = None
    """IPv4 addresses that AKS keeps on the load balancer; `None` where the owner brought addresses along."""
    managed_addresses_v6: int | None = None
    address_ids: tuple[str, ...] = ()
    """Of public addresses that the owner brought along."""
    prefix_ids: tuple[str, ...] = ()
    """Of public prefixes that the owner brought along."""
    gateway_addresses: int | None = None
    """Addresses that AKS keeps on its own NAT gateway."""


class Series(Struct, frozen=True, kw_only=True, gc=False):
    """What Azure Monitor has of one metric for one combination of dimensions."""

    metric: str
    """`UsedSnatPorts`, as Azure writes it."""
    dimensions: Mapping[str, str] = {}
    """By lower-case name: `{"backendipaddress": "10.224.0.4", "protocoltype": "TCP"}`."""
    values: tuple[float | None, ...]
    """One for each step from the window's start; `None` where there is no data, which is not 0."""


class Window(Struct, frozen=True, kw_only=True):
    """Series over the same steps of time."""

    start: str
    """UTC, ISO 8601: when the first step begins."""
    step_minutes: int
    steps: int
    series: tuple[Series, ...] = ()


class Usage(Struct, frozen=True, kw_only=True):
    """What Azure Monitor counted at a load balancer, NAT gateway or firewall."""

    recent: Window | Missing
    """Minute by minute, up to now."""
    history: Window | Missing
    """Hour by hour over weeks, for the trend."""
