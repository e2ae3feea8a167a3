"""The security admin rules that a network manager has in force on a cluster's virtual network."""

from local.fleets.clusters import AdminRule, AdminRules
from local.fleets.parts import Json, group_scope, guid


def admin_rules(network: str, rules: AdminRules) -> dict[str, list[Json]]:
    """A fleet's `*.adminrules.json`: what `listNetworkManagerEffectiveSecurityAdminRules` returns."""
    return {network: [_effective(rules, rule) for rule in rules.rules]}


def _effective(rules: AdminRules, rule: AdminRule) -> Json:
    scope = group_scope(rules.subscription, "rg-network-manager")
    manager = f"{scope}/providers/Microsoft.Network/networkManagers/nm-platform"
    group = f"{manager}/networkGroups/ng-aks"
    identifier = (
        f"{manager}/securityAdminConfigurations/baseline/ruleCollections/{rules.collection}/rules/{rule.name}"
    )
    return {
        "id": identifier,
        "configurationDescription": "What holds in every virtual network of the platform",
        "ruleCollectionDescription": "Rules for virtual networks with AKS nodes",
        "ruleCollectionAppliesToGroups": [{"networkGroupId": group}],
        "ruleGroups": [
            {
                "id": group,
                "properties": {
                    "description": "Virtual networks with AKS nodes",
                    "memberType": "VirtualNetwork",
                    "provisioningState": "Succeeded",
                    "resourceGuid": guid(group),
                },
            }
        ],
        "kind": "Custom",
        "properties": {
            "description": rule.description,
            "protocol": rule.protocol,
            "sources": [_item(text) for text in rule.sources],
            "destinations": [_item(text) for text in rule.destinations],
            "sourcePortRanges": ["0-65535"],
            "destinationPortRanges": list(rule.ports),
            "access": rule.access,
            "priority": rule.priority,
            "direction": rule.direction,
            "provisioningState": "Succeeded",
            "resourceGuid": guid(identifier),
        },
    }


def _item(text: str) -> Json:
    prefix = text == "*" or text[0].isdigit() or ":" in text
    return {"addressPrefix": text, "addressPrefixType": "IPPrefix" if prefix else "ServiceTag"}
