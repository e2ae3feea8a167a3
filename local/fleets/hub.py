"""A hub with an Azure Firewall: its network, addresses, and policy, which inherits from another one."""

from typing import Any

from local.fleets.clusters import Cluster, Hub
from local.fleets.metrics import firewall_metrics
from local.fleets.parts import Json, etag, group_scope, guid, peering, public_ip, ref, resource, subnet_part


def hub_network(hub: Hub) -> str:
    """The id of the hub's virtual network."""
    return f"{_scope(hub)}/virtualNetworks/vnet-{hub.name}"


def documents(hub: Hub, spokes: list[Cluster]) -> dict[str, Any]:
    """The hub's files by name; its firewall lets the nodes of the first spoke out, and nobody else."""
    return {
        "network.json": _network(hub, spokes),
        "firewall.json": _firewall(hub),
        "baseline-policy.json": _baseline(hub),
        "use.metrics.json": {_ids(hub)["firewall"]: {"value": firewall_metrics()}},
    }


def _scope(hub: Hub) -> str:
    return f"{group_scope(hub.subscription, hub.group)}/providers/Microsoft.Network"


def _region(hub: Hub) -> str:
    return hub.name.rpartition("-")[2]


def _ids(hub: Hub) -> dict[str, str]:
    """What the hub consists of, by type."""
    scope, region = _scope(hub), _region(hub)
    return {
        "firewall": f"{scope}/azureFirewalls/afw-{hub.name}",
        "policy": f"{scope}/firewallPolicies/afwp-{hub.name}",
        "baseline": f"{scope}/firewallPolicies/afwp-baseline-{region}",
        "address": f"{scope}/publicIPAddresses/pip-afw-{hub.name}",
        "nodes": f"{scope}/ipGroups/ipg-aks-nodes-{region}",
    }


def _network(hub: Hub, spokes: list[Cluster]) -> list[Json]:
    network, ids = hub_network(hub), _ids(hub)
    peerings = []
    for spoke in spokes:
        if spoke.network is None:
            raise ValueError(f"{spoke.name} has no network that could be peered with a hub")
        scope = f"{group_scope(spoke.subscription, spoke.network.group)}/providers/Microsoft.Network"
        remote = f"{scope}/virtualNetworks/{spoke.network.name}"
        name = f"to-{spoke.name.removeprefix('aks-')}"
        peerings.append(peering(network, name, remote, spoke.network.prefixes[0]))
    served = spokes[0].network
    return [
        resource(
            network,
            "Microsoft.Network/virtualNetworks",
            {
                "provisioningState": "Succeeded",
                "resourceGuid": guid(network),
                "addressSpace": {"addressPrefixes": [hub.prefix]},
                "encryption": {"enabled": False, "enforcement": "AllowUnencrypted"},
                "privateEndpointVNetPolicies": "Disabled",
                "subnets": [subnet_part(network, "AzureFirewallSubnet", ("10.0.1.0/26",))],
                "virtualNetworkPeerings": peerings,
                "enableDdosProtection": False,
            },
            location=hub.location,
        ),
        public_ip(
            ids["address"],
            hub.location,
            "203.0.113.20",
            {"ipConfiguration": ref(f"{ids['firewall']}/azureFirewallIpConfigurations/main")},
            {},
        ),
        resource(
            ids["nodes"],
            "Microsoft.Network/ipGroups",
            {
                "provisioningState": "Succeeded",
                "ipAddresses": list(served.subnets[0].prefixes) if served else [],
                "firewalls": [],
                "firewallPolicies": [ref(ids["policy"])],
            },
            location=hub.location,
        ),
    ]


def _firewall(hub: Hub) -> list[Json]:
    network, ids = hub_network(hub), _ids(hub)
    firewall = ids["firewall"]
    rules = f"{ids['policy']}/ruleCollectionGroups/rcg-aks"
    return [
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
                            "privateIPAddress": hub.firewall,
                            "privateIPAllocationMethod": "Dynamic",
                            "publicIPAddress": ref(ids["address"]),
                            "subnet": ref(f"{network}/subnets/AzureFirewallSubnet"),
                        },
                    }
                ],
                "networkRuleCollections": [],
                "applicationRuleCollections": [],
                "natRuleCollections": [],
                "firewallPolicy": ref(ids["policy"]),
            },
            location=hub.location,
            zones=["1", "2", "3"],
        ),
        resource(
            ids["policy"],
            "Microsoft.Network/firewallPolicies",
            {
                "sku": {"tier": "Standard"},
                "threatIntelMode": "Alert",
                "dnsSettings": {"servers": [], "enableProxy": True},
                "basePolicy": ref(ids["baseline"]),
                "firewalls": [ref(firewall)],
                "childPolicies": [],
                "ruleCollectionGroups": [ref(rules)],
                "provisioningState": "Succeeded",
            },
            location=hub.location,
        ),
        resource(
            rules,
            "Microsoft.Network/firewallPolicies/ruleCollectionGroups",
            {
                "size": "0.001 MB",
                "priority": 200,
                "ruleCollections": [
                    _network_rules(ids["nodes"], hub.location),
                    _application_rules(ids["nodes"], hub.location),
                ],
                "provisioningState": "Succeeded",
            },
        ),
    ]


def _baseline(hub: Hub) -> list[Json]:
    """The parent policy, whose rules come before the hub's own."""
    ids = _ids(hub)
    rules = f"{ids['baseline']}/ruleCollectionGroups/rcg-baseline"
    return [
        resource(
            ids["baseline"],
            "Microsoft.Network/firewallPolicies",
            {
                "sku": {"tier": "Standard"},
                "threatIntelMode": "Alert",
                "dnsSettings": {"servers": [], "enableProxy": True},
                "firewalls": [],
                "childPolicies": [ref(ids["policy"])],
                "ruleCollectionGroups": [ref(rules)],
                "provisioningState": "Succeeded",
            },
            location=hub.location,
        ),
        resource(
            rules,
            "Microsoft.Network/firewallPolicies/ruleCollectionGroups",
            {
                "size": "0.001 MB",
                "priority": 100,
                "ruleCollections": [
                    _filter(
                        "baseline-deny",
                        100,
                        "Deny",
                        [_network_rule("smb", "TCP", "445", sources=["*"], addresses=["*"])],
                    ),
                    _filter(
                        "baseline-allow",
                        110,
                        "Allow",
                        [_network_rule("time", "UDP", "123", sources=["10.0.0.0/8"], addresses=["*"])],
                    ),
                ],
                "provisioningState": "Succeeded",
            },
        ),
    ]


def _network_rules(ranges: str, location: str) -> Json:
    azure = [f"AzureCloud.{location}"]
    return _filter(
        "aks-network",
        200,
        "Allow",
        [
            _network_rule("tunnel-udp", "UDP", "1194", groups=[ranges], addresses=azure),
            _network_rule("tunnel-tcp", "TCP", "9000", groups=[ranges], addresses=azure),
            _network_rule("api-server", "TCP", "443", groups=[ranges], addresses=azure),
            _network_rule("time", "UDP", "123", groups=[ranges], fqdns=["ntp.ubuntu.com"]),
        ],
    )


def _filter(name: str, priority: int, action: str, rules: list[Json]) -> Json:
    return {
        "ruleCollectionType": "FirewallPolicyFilterRuleCollection",
        "name": name,
        "priority": priority,
        "action": {"type": action},
        "rules": rules,
    }


def _network_rule(
    name: str,
    protocol: str,
    port: str,
    *,
    sources: list[str] | None = None,
    groups: list[str] | None = None,
    addresses: list[str] | None = None,
    fqdns: list[str] | None = None,
) -> Json:
    return {
        "ruleType": "NetworkRule",
        "name": name,
        "ipProtocols": [protocol],
        "sourceAddresses": sources or [],
        "sourceIpGroups": groups or [],
        "destinationAddresses": addresses or [],
        "destinationIpGroups": [],
        "destinationFqdns": fqdns or [],
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

    return _filter(
        "aks-application",
        300,
        "Allow",
        [
            rule("aks", fqdns=[], tags=["AzureKubernetesService"]),
            rule("api-server", fqdns=[f"*.hcp.{location}.azmk8s.io"], tags=[]),
        ],
    )
