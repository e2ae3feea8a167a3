"""Rules and routes in the words of Azure's documents, as evidence shows them: what is empty is left out."""

from collections.abc import Mapping
from typing import Any

from facts.filters import FirewallRule, Route, SecurityRule


def security_rule(rule: SecurityRule) -> dict[str, Any]:
    """A rule of a security group, or a security admin rule."""
    return _filled(
        {
            "name": rule.name,
            "priority": rule.priority,
            "direction": rule.direction,
            "access": rule.access,
            "protocol": rule.protocol,
            "sourceAddressPrefixes": rule.sources,
            "sourceApplicationSecurityGroups": rule.source_groups,
            "sourcePortRanges": rule.source_ports,
            "destinationAddressPrefixes": rule.destinations,
            "destinationApplicationSecurityGroups": rule.destination_groups,
            "destinationPortRanges": rule.destination_ports,
        }
    )


def firewall_rule(rule: FirewallRule) -> dict[str, Any]:
    """A rule of an Azure Firewall, with the collection, group and policy that it stands in."""
    network = rule.kind == "network"
    return _filled(
        {
            "name": rule.name,
            "ruleCollection": rule.collection,
            "ruleCollectionGroup": rule.group,
            "firewallPolicy": rule.policy,
            "priority": rule.priority,
            "action": rule.action,
            "ruleType": "NetworkRule" if network else "ApplicationRule",
            "ipProtocols" if network else "protocols": rule.protocols,
            "sourceAddresses": rule.sources,
            "sourceIpGroups": rule.source_groups,
            "destinationAddresses": rule.destinations,
            "destinationIpGroups": rule.destination_groups,
            "destinationPorts": rule.destination_ports,
            "destinationFqdns" if network else "targetFqdns": rule.fqdns,
            "fqdnTags": rule.fqdn_tags,
            "terminateTLS": rule.terminates_tls or None,
        }
    )


def route(route: Route) -> dict[str, Any]:
    """A route of a route table, or one of Azure's own."""
    return _filled(
        {
            "name": route.name,
            "addressPrefix": route.prefix,
            "nextHopType": route.hop,
            "nextHopIpAddresses": route.addresses,
        }
    )


def _filled(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in ((), "", None)}
