"""The kinds of resources that are listed a subscription at a time: how each is called and read."""

from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from typing import Any

from msgspec import Struct

from facts.filters import NetworkSecurityGroup, RouteTable
from facts.resource_id import ResourceId
from packets.documents import properties
from packets.documents.firewall import (
    FirewallModel,
    IpGroup,
    PolicyModel,
    read_firewall,
    read_ip_group,
    read_policy,
)
from packets.documents.nsg import read_nsg
from packets.documents.routes import read_route_table
from pipeline.clients import SubscriptionClients
from pipeline.collect.documents import (
    Interface,
    ManagedCluster,
    NetworkModel,
    ScaleSet,
    VirtualMachine,
    read_cluster,
    read_interface,
    read_network,
    read_scale_set,
    read_virtual_machine,
)
from pipeline.collect.outbound_documents import (
    Addresses,
    BalancerModel,
    GatewayModel,
    read_address,
    read_balancer,
    read_gateway,
    read_prefix,
)


class Kind[T](Struct, frozen=True):
    """A kind of resource: what it is called, how it is read."""

    words: str
    action: str
    """The Azure action that reading takes."""
    read: Callable[[Mapping[str, Any]], T]
    everywhere: Callable[[SubscriptionClients], AsyncIterable[Any]]
    in_group: Callable[[SubscriptionClients, str], AsyncIterable[Any]]
    one: Callable[[SubscriptionClients, ResourceId], Awaitable[Any]]


def _read_live_nsg(document: Mapping[str, Any]) -> NetworkSecurityGroup:
    """A group as Azure has it: one that shows no rules at all, not even Azure's own, was not read."""
    body = properties(document)
    if body.get("securityRules") is None and body.get("defaultSecurityRules") is None:
        raise ValueError("it shows no rules at all, not even the default ones")
    return read_nsg(document)


CLUSTERS: Kind[ManagedCluster] = Kind(
    "cluster",
    "Microsoft.ContainerService/managedClusters/read",
    read_cluster,
    lambda azure: azure.containers.managed_clusters.list(),
    lambda azure, group: azure.containers.managed_clusters.list_by_resource_group(group),
    lambda azure, one: azure.containers.managed_clusters.get(one.resource_group, one.name),
)
SCALE_SETS: Kind[ScaleSet] = Kind(
    "scale set",
    "Microsoft.Compute/virtualMachineScaleSets/read",
    read_scale_set,
    lambda azure: azure.compute.virtual_machine_scale_sets.list_all(),
    lambda azure, group: azure.compute.virtual_machine_scale_sets.list(group),
    lambda azure, one: azure.compute.virtual_machine_scale_sets.get(one.resource_group, one.name),
)
MACHINES: Kind[VirtualMachine] = Kind(
    "virtual machine",
    "Microsoft.Compute/virtualMachines/read",
    read_virtual_machine,
    lambda azure: azure.compute.virtual_machines.list_all(),
    lambda azure, group: azure.compute.virtual_machines.list(group),
    lambda azure, one: azure.compute.virtual_machines.get(one.resource_group, one.name),
)
INTERFACES: Kind[Interface] = Kind(
    "network interface",
    "Microsoft.Network/networkInterfaces/read",
    read_interface,
    lambda azure: azure.network.network_interfaces.list_all(),
    lambda azure, group: azure.network.network_interfaces.list(group),
    lambda azure, one: azure.network.network_interfaces.get(one.resource_group, one.name),
)
NETWORKS: Kind[NetworkModel] = Kind(
    "virtual network",
    "Microsoft.Network/virtualNetworks/read",
    read_network,
    lambda azure: azure.network.virtual_networks.list_all(),
    lambda azure, group: azure.network.virtual_networks.list(group),
    lambda azure, one: azure.network.virtual_networks.get(one.resource_group, one.name),
)
SECURITY_GROUPS: Kind[NetworkSecurityGroup] = Kind(
    "network security group",
    "Microsoft.Network/networkSecurityGroups/read",
    _read_live_nsg,
    lambda azure: azure.network.network_security_groups.list_all(),
    lambda azure, group: azure.network.network_security_groups.list(group),
    lambda azure, one: azure.network.network_security_groups.get(one.resource_group, one.name),
)
ROUTE_TABLES: Kind[RouteTable] = Kind(
    "route table",
    "Microsoft.Network/routeTables/read",
    read_route_table,
    lambda azure: azure.network.route_tables.list_all(),
    lambda azure, group: azure.network.route_tables.list(group),
    lambda azure, one: azure.network.route_tables.get(one.resource_group, one.name),
)
FIREWALLS: Kind[FirewallModel] = Kind(
    "firewall",
    "Microsoft.Network/azureFirewalls/read",
    read_firewall,
    lambda azure: azure.network.azure_firewalls.list_all(),
    lambda azure, group: azure.network.azure_firewalls.list(group),
    lambda azure, one: azure.network.azure_firewalls.get(one.resource_group, one.name),
)
POLICIES: Kind[PolicyModel] = Kind(
    "firewall policy",
    "Microsoft.Network/firewallPolicies/read",
    read_policy,
    lambda azure: azure.network.firewall_policies.list_all(),
    lambda azure, group: azure.network.firewall_policies.list(group),
    lambda azure, one: azure.network.firewall_policies.get(one.resource_group, one.name),
)
IP_GROUPS: Kind[IpGroup] = Kind(
    "IP group",
    "Microsoft.Network/ipGroups/read",
    read_ip_group,
    lambda azure: azure.network.ip_groups.list(),
    lambda azure, group: azure.network.ip_groups.list_by_resource_group(group),
    lambda azure, one: azure.network.ip_groups.get(one.resource_group, one.name),
)
LOAD_BALANCERS: Kind[BalancerModel] = Kind(
    "load balancer",
    "Microsoft.Network/loadBalancers/read",
    read_balancer,
    lambda azure: azure.network.load_balancers.list_all(),
    lambda azure, group: azure.network.load_balancers.list(group),
    lambda azure, one: azure.network.load_balancers.get(one.resource_group, one.name),
)
NAT_GATEWAYS: Kind[GatewayModel] = Kind(
    "NAT gateway",
    "Microsoft.Network/natGateways/read",
    read_gateway,
    lambda azure: azure.network.nat_gateways.list_all(),
    lambda azure, group: azure.network.nat_gateways.list(group),
    lambda azure, one: azure.network.nat_gateways.get(one.resource_group, one.name),
)
PUBLIC_ADDRESSES: Kind[Addresses] = Kind(
    "public IP address",
    "Microsoft.Network/publicIPAddresses/read",
    read_address,
    lambda azure: azure.network.public_ip_addresses.list_all(),
    lambda azure, group: azure.network.public_ip_addresses.list(group),
    lambda azure, one: azure.network.public_ip_addresses.get(one.resource_group, one.name),
)
PUBLIC_PREFIXES: Kind[Addresses] = Kind(
    "public IP prefix",
    "Microsoft.Network/publicIPPrefixes/read",
    read_prefix,
    lambda azure: azure.network.public_ip_prefixes.list_all(),
    lambda azure, group: azure.network.public_ip_prefixes.list(group),
    lambda azure, one: azure.network.public_ip_prefixes.get(one.resource_group, one.name),
)
