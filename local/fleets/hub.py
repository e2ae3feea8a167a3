"""The hub of a cluster with user-defined routing: an Azure Firewall, its policy, its addresses."""

from typing import Any

from local.fleets.clusters import Cluster
from local.fleets.parts import Json, etag, group_scope, guid, peering, public_ip, ref, resource, subnet_part

HUB_GROUP = "rg-hub-weu"
HUB_SPACE = "10.0.0.0/16"


def hub(spoke: Cluster) -> dict[str, Any]:
    """The hub of a cluster with user-defined routing: a network with an Azure Firewall that lets AKS out."""
    if spoke.network is None or spoke.network.firewall is None:
        raise ValueError(f"{spoke.name} is not routed through a firewall")
    subscription, location, address = spoke.subscription, spoke.location, spoke.network.firewall
    spoke_group = group_scope(subscription, spoke.network.group) + "/providers/Microsoft.Network"
    spoke_network = f"{spoke_group}/virtualNetworks/{spoke.network.name}"
    group = group_scope(subscription, HUB_GROUP) + "/providers/Microsoft.Network"
    network, policy = f"{group}/virtualNetworks/vnet-hub-weu", f"{group}/firewallPolicies/afwp-hub-weu"
    public, ranges = f"{group}/publicIPAddresses/pip-afw-hub-weu", f"{group}/ipGroups/ipg-aks-nodes-weu"
    firewall = f"{group}/azureFirewalls/afw-hub-weu"
    rules = f"{policy}/ruleCollectionGroups/rcg-aks"
    return {
        "network.json": [
            resource(
                network,
                "Microsoft.Network/virtualNetworks",
                {
                    "provisioningState": "Succeeded",
                    "resourceGuid": guid(network),
                    "addressSpace": {"addressPrefixes": [HUB_SPACE]},
                    "encryption": {"enabled": False, "enforcement": "AllowUnencrypted"},
                    "privateEndpointVNetPolicies": "Disabled",
                    "subnets": [subnet_part(network, "AzureFirewallSubnet", ("10.0.1.0/26",))],
                    "virtualNetworkPeerings": [
                        peering(network, "to-spoke", spoke_network, spoke.network.prefixes[0])
                    ],
                    "enableDdosProtection": False,
                },
                location=location,
            ),
            public_ip(
                public,
                location,
                "203.0.113.20",
                {"ipConfiguration": ref(f"{firewall}/azureFirewallIpConfigurations/main")},
                {},
            ),
            resource(
                ranges,
                "Microsoft.Network/ipGroups",
                {
                    "provisioningState": "Succeeded",
                    "ipAddresses": list(spoke.network.subnets[0].prefixes),
                    "firewalls": [],
                    "firewallPolicies": [ref(policy)],
                },
                location=location,
            ),
        ],
        "firewall.json": [
            resource(
                firewall,
                "Microsoft.Network/azureFirewalls",
                {
                    "provisioningState": "Succeeded",
                    "sku": {"name": "AZFW_VNet", "tier": "Standard"},
                    "threatIntelMode": "Alert",
                    "additionalProperties": {},
                    "ipConfigurations": [
                        {
                            "name": "main",
                            "id": f"{firewall}/azureFirewallIpConfigurations/main",
                            "etag": etag(firewall + "main"),
                            "type": "Microsoft.Network/azureFirewalls/azureFirewallIpConfigurations",
                            "properties": {
                                "provisioningState": "Succeeded",
                                "privateIPAddress": address,
                                "privateIPAllocationMethod": "Dynamic",
                                "publicIPAddress": ref(public),
                                "subnet": ref(f"{network}/subnets/AzureFirewallSubnet"),
                            },
                        }
                    ],
                    "networkRuleCollections": [],
                    "applicationRuleCollections": [],
                    "natRuleCollections": [],
                    "firewallPolicy": ref(policy),
                },
                location=location,
                zones=["1", "2", "3"],
            ),
            resource(
                policy,
                "Microsoft.Network/firewallPolicies",
                {
                    "sku": {"tier": "Standard"},
                    "threatIntelMode": "Alert",
                    "dnsSettings": {"servers": [], "enableProxy": True},
                    "firewalls": [ref(firewall)],
                    "childPolicies": [],
                    "ruleCollectionGroups": [ref(rules)],
                    "provisioningState": "Succeeded",
                },
                location=location,
            ),
            resource(
                rules,
                "Microsoft.Network/firewallPolicies/ruleCollectionGroups",
                {
                    "size": "0.001 MB",
                    "priority": 200,
                    "ruleCollections": [
                        _network_rules(ranges, location),
                        _application_rules(ranges, location),
                    ],
                    "provisioningState": "Succeeded",
                },
            ),
        ],
    }


def _network_rules(ranges: str, location: str) -> Json:
    return {
        "ruleCollectionType": "FirewallPolicyFilterRuleCollection",
        "name": "aks-network",
        "priority": 200,
        "action": {"type": "Allow"},
        "rules": [
            _network_rule(ranges, name, protocol, port, location)
            for name, protocol, port in (
                ("tunnel-udp", "UDP", "1194"),
                ("tunnel-tcp", "TCP", "9000"),
                ("api-server", "TCP", "443"),
                ("time", "UDP", "123"),
            )
        ],
    }


def _network_rule(ranges: str, name: str, protocol: str, port: str, location: str) -> Json:
    return {
        "ruleType": "NetworkRule",
        "name": name,
        "ipProtocols": [protocol],
        "sourceAddresses": [],
        "sourceIpGroups": [ranges],
        "destinationAddresses": [] if name == "time" else [f"AzureCloud.{location}"],
        "destinationIpGroups": [],
        "destinationFqdns": ["ntp.ubuntu.com"] if name == "time" else [],
        "destinationPorts": [port],
    }


def _application_rules(ranges: str, location: str) -> Json:
    def rule(name: str, *, fqdns: list[str], tags: list[str]) -> Json:
        return {
            "ruleType": "ApplicationRule",
            "name": name,
            "protocols": [{"protocolType": "Https", "port": 443}],
            "fqdnTags": tags,
            "webCategories": [],
            "targetFqdns": fqdns,
            "targetUrls": [],
            "terminateTLS": False,
            "sourceAddresses": [],
            "destinationAddresses": [],
            "sourceIpGroups": [ranges],
            "httpHeadersToInsert": [],
        }

    return {
        "ruleCollectionType": "FirewallPolicyFilterRuleCollection",
        "name": "aks-application",
        "priority": 300,
        "action": {"type": "Allow"},
        "rules": [
            rule("aks", fqdns=[], tags=["AzureKubernetesService"]),
            rule("api-server", fqdns=[f"*.hcp.{location}.azmk8s.io"], tags=[]),
        ],
    }
