"""What decides about packets on their way: security rules, routes, firewalls, in our own words.

Text fields hold what Azure wrote, new enum values included: the engines in `packets`
decide what they can make of them. Singular and plural fields are already joined.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

from msgspec import Struct

from facts.finding import Reason


class Missing(Struct, frozen=True, kw_only=True, tag=True):
    """Something that could not be read."""

    what: str
    """In words: `network security group "web-nsg"`."""
    resource_id: str
    reason: Reason


class Direction(StrEnum):
    """The way a packet goes, as seen from the network interface."""

    INBOUND = "Inbound"
    OUTBOUND = "Outbound"


class SecurityRule(Struct, frozen=True, kw_only=True):
    """A rule of a network security group, or a security admin rule of a network manager."""

    id: str
    name: str
    priority: int
    """Lower comes first. In a group 100-4096 for custom rules, 65000 and above for default ones; 1-4096 for
    admin rules."""
    direction: str
    access: str
    """`Allow`, `Deny`; of admin rules also `AlwaysAllow`."""
    protocol: str
    sources: tuple[str, ...] = ()
    """CIDRs, addresses, ranges, service tags, `*`; in admin rules also ids of network groups."""
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


class AdminRules(Struct, frozen=True, kw_only=True):
    """The security admin rules in force on a virtual network, from whatever network manager."""

    network_id: str
    rules: tuple[SecurityRule, ...] = ()


class Route(Struct, frozen=True, kw_only=True):
    """One route of a subnet."""

    id: str = ""
    """Empty for a route that no route table holds."""
    name: str
    prefix: str
    """A CIDR, or a service tag."""
    hop: str
    """`VirtualAppliance`, `VirtualNetworkGateway`, `Internet`, `VnetLocal`, `None` …, as Azure writes it."""
    addresses: tuple[str, ...] = ()
    """Of the appliance."""
    source: Literal["user", "bgp", "system"] = "user"


class RouteTable(Struct, frozen=True, kw_only=True):
    """A route table that hangs on a subnet."""

    id: str
    name: str
    routes: tuple[Route, ...] = ()
    gateway_routes: bool = True
    """Whether routes that a gateway learned reach the subnet (not `disableBgpRoutePropagation`)."""
    peering_routes: bool = True
    """Whether routes to peered networks reach the subnet (`disablePeeringRoute` is not `All`)."""


class FirewallRule(Struct, frozen=True, kw_only=True):
    """A network or application rule of an Azure Firewall, classic or of a policy."""

    kind: Literal["network", "application"]
    id: str
    """Stable and unique: rules are no resources, so it is made of the names on the way to them."""
    name: str
    collection: str
    """The rule collection."""
    group: str = ""
    """The rule collection group; empty for a classic rule."""
    policy: str = ""
    """Id of the policy that holds the rule; empty for a classic rule."""
    priority: int = 0
    """The rule collection's: lower comes first among those of its group."""
    action: str
    """`Allow` or `Deny`."""
    protocols: tuple[str, ...] = ()
    """Network: `TCP`, `UDP`, `ICMP`, `Any`. Application: `Https:443`, `Http:80`, `Mssql:1433`."""
    sources: tuple[str, ...] = ()
    """Addresses, CIDRs, ranges, service tags, `*`."""
    source_groups: tuple[str, ...] = ()
    """Ids of IP groups."""
    destinations: tuple[str, ...] = ()
    destination_groups: tuple[str, ...] = ()
    destination_ports: tuple[str, ...] = ()
    fqdns: tuple[str, ...] = ()
    """Network rules: destination FQDNs. Application rules: target FQDNs, `*` standing for any run."""
    fqdn_tags: tuple[str, ...] = ()
    """Microsoft's own sets of FQDNs, such as `AzureKubernetesService`."""
    limits: tuple[str, ...] = ()
    """Fields that narrow the match and that nobody here can evaluate, by name: `webCategories` …"""
    terminates_tls: bool = False


class Firewall(Struct, frozen=True, kw_only=True):
    """An Azure Firewall with all rules that it obeys, its policy's and the parent policy's included."""

    id: str
    name: str
    location: str = ""
    public_addresses: int = 0
    """How many it has; 0 where Azure does not show any."""
    policy: str = ""
    """Id of its policy; empty for a firewall with classic rules."""
    groups: Mapping[str, int] = {}
    """Names and priorities of the rule collection groups of its own policy."""
    rules: tuple[FirewallRule, ...] = ()
    """In the order in which the firewall goes through them: network rules first."""
    ip_groups: Mapping[str, tuple[str, ...]] = {}
    """Addresses of the IP groups that the rules name and that could be read, by the key of their id."""
    groups_missing: Mapping[str, Missing] = {}
    """The IP groups that could not be read, by the key of their id."""
