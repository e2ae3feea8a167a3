"""The pieces of Microsoft.Network and of ARM that sample documents are put together from.

What is random in Azure (GUIDs, entity tags) is derived from names, so the same description always gives the
same JSON.
"""

import uuid
from typing import Any

from local.fleets.clusters import Route, Rule, Words

type Json = dict[str, Any]

TENANT = "5f1d2c3b-8a47-4e60-b9d2-3c7e8f9a0b14"


def subscription(identifier: str, name: str) -> Json:
    """A subscription, as `GET /subscriptions` lists it."""
    return {
        "id": f"/subscriptions/{identifier}",
        "authorizationSource": "RoleBased",
        "managedByTenants": [],
        "subscriptionId": identifier,
        "tenantId": TENANT,
        "displayName": name,
        "state": "Enabled",
        "subscriptionPolicies": {
            "locationPlacementId": "Public_2014-09-01",
            "quotaId": "EnterpriseAgreement_2014-09-01",
            "spendingLimit": "Off",
        },
    }


def guid(seed: str) -> str:
    """A GUID that is always the same for the same seed."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, seed))


def etag(seed: str) -> str:
    """An entity tag as Microsoft.Network writes it."""
    return f'W/"{guid("etag:" + seed)}"'


def resource(
    identifier: str,
    kind: str,
    properties: Json,
    *,
    location: str | None = None,
    tags: dict[str, str] | None = None,
    zones: list[str] | None = None,
    sku: Json | None = None,
) -> Json:
    """A resource of Microsoft.Network: name, id, etag, type, and what else it has."""
    document: Json = {
        "name": identifier.rpartition("/")[2],
        "id": identifier,
        "etag": etag(identifier),
        "type": kind,
    }
    if location:
        document["location"] = location
    if tags:
        document["tags"] = tags
    if zones:
        document["zones"] = zones
    document["properties"] = properties
    if sku:
        document["sku"] = sku
    return document


def ref(identifier: str) -> Json:
    """A reference to another resource."""
    return {"id": identifier}


def group_scope(subscription_id: str, group: str) -> str:
    """A resource group's id."""
    return f"/subscriptions/{subscription_id}/resourceGroups/{group}"


def subnet_part(
    network: str,
    name: str,
    prefixes: tuple[str, ...],
    *,
    group: str | None = None,
    routes: str | None = None,
    nat: str | None = None,
    delegation: str | None = None,
    used: list[Json] | None = None,
) -> Json:
    """A subnet, as it lies in its network; `used` are the IP configurations in it."""
    identifier = f"{network}/subnets/{name}"
    properties: Json = {"provisioningState": "Succeeded"}
    if len(prefixes) == 1:
        properties["addressPrefix"] = prefixes[0]
    else:
        properties["addressPrefixes"] = list(prefixes)
    if group:
        properties["networkSecurityGroup"] = ref(group)
    if routes:
        properties["routeTable"] = ref(routes)
    if nat:
        properties["natGateway"] = ref(nat)
    if used:
        properties["ipConfigurations"] = used
    properties["delegations"] = []
    if delegation:
        properties["delegations"] = [
            {
                "name": "aks-delegation",
                "id": f"{identifier}/delegations/aks-delegation",
                "etag": etag(network),
                "type": "Microsoft.Network/virtualNetworks/subnets/delegations",
                "properties": {
                    "provisioningState": "Succeeded",
                    "serviceName": delegation,
                    "actions": ["Microsoft.Network/virtualNetworks/subnets/join/action"],
                },
            }
        ]
    properties["privateEndpointNetworkPolicies"] = "Disabled"
    properties["privateLinkServiceNetworkPolicies"] = "Enabled"
    return {
        "name": name,
        "id": identifier,
        "etag": etag(network),
        "type": "Microsoft.Network/virtualNetworks/subnets",
        "properties": properties,
    }


def peering(network: str, name: str, remote: str, space: str) -> Json:
    """A peering of a network with another, connected from both ends."""
    return {
        "name": name,
        "id": f"{network}/virtualNetworkPeerings/{name}",
        "etag": etag(network),
        "type": "Microsoft.Network/virtualNetworks/virtualNetworkPeerings",
        "properties": {
            "provisioningState": "Succeeded",
            "resourceGuid": guid(f"{network}/{name}"),
            "peeringState": "Connected",
            "peeringSyncLevel": "FullyInSync",
            "remoteVirtualNetwork": ref(remote),
            "allowVirtualNetworkAccess": True,
            "allowForwardedTraffic": True,
            "allowGatewayTransit": False,
            "useRemoteGateways": False,
            "doNotVerifyRemoteGateways": False,
            "peerCompleteVnets": True,
            "remoteAddressSpace": {"addressPrefixes": [space]},
            "remoteVirtualNetworkAddressSpace": {"addressPrefixes": [space]},
        },
    }


def public_ip(
    identifier: str,
    location: str,
    address: str,
    user: Json,
    tags: dict[str, str],
    *,
    idle_minutes: int = 30,
) -> Json:
    """A standard public address; `user` is what it is attached to."""
    properties: Json = {
        "provisioningState": "Succeeded",
        "resourceGuid": guid(identifier),
        "ipAddress": address,
        "publicIPAddressVersion": "IPv6" if ":" in address else "IPv4",
        "publicIPAllocationMethod": "Static",
        "idleTimeoutInMinutes": idle_minutes,
        "ipTags": [],
        "ddosSettings": {"protectionMode": "VirtualNetworkInherited"},
    } | user
    return resource(
        identifier,
        "Microsoft.Network/publicIPAddresses",
        properties,
        location=location,
        tags=tags,
        zones=["1", "2", "3"],
        sku={"name": "Standard", "tier": "Regional"},
    )


def public_prefix(identifier: str, location: str, prefix: str, frontend: Json) -> Json:
    """A standard prefix of public IPv4 addresses, which is a load balancer's frontend."""
    return resource(
        identifier,
        "Microsoft.Network/publicIPPrefixes",
        {
            "provisioningState": "Succeeded",
            "resourceGuid": guid(identifier),
            "prefixLength": int(prefix.rpartition("/")[2]),
            "publicIPAddressVersion": "IPv4",
            "ipPrefix": prefix,
            "ipTags": [],
            "loadBalancerFrontendIpConfiguration": frontend,
        },
        location=location,
        zones=["1", "2", "3"],
        sku={"name": "Standard", "tier": "Regional"},
    )


def route(table: str, route: Route) -> Json:
    """A route of a route table; an appliance's has an address, others have none."""
    properties: Json = {
        "provisioningState": "Succeeded",
        "addressPrefix": route.prefix,
        "nextHopType": route.hop,
    }
    if route.address:
        properties["nextHopIpAddress"] = route.address
    properties["hasBgpOverride"] = False
    return {
        "name": route.name,
        "id": f"{table}/routes/{route.name}",
        "etag": etag(table),
        "type": "Microsoft.Network/routeTables/routes",
        "properties": properties,
    }


_DEFAULT_RULES = (
    Rule(
        name="AllowVnetInBound",
        description="Allow inbound traffic from all VMs in VNET",
        priority=65000,
        protocol="*",
        source="VirtualNetwork",
        destination="VirtualNetwork",
    ),
    Rule(
        name="AllowAzureLoadBalancerInBound",
        description="Allow inbound traffic from azure load balancer",
        priority=65001,
        protocol="*",
        source="AzureLoadBalancer",
    ),
    Rule(
        name="DenyAllInBound",
        description="Deny all inbound traffic",
        priority=65500,
        protocol="*",
        access="Deny",
    ),
    Rule(
        name="AllowVnetOutBound",
        description="Allow outbound traffic from all VMs to all VMs in VNET",
        priority=65000,
        protocol="*",
        direction="Outbound",
        source="VirtualNetwork",
        destination="VirtualNetwork",
    ),
    Rule(
        name="AllowInternetOutBound",
        description="Allow outbound traffic from all VMs to Internet",
        priority=65001,
        protocol="*",
        direction="Outbound",
        destination="Internet",
    ),
    Rule(
        name="DenyAllOutBound",
        description="Deny all outbound traffic",
        priority=65500,
        protocol="*",
        direction="Outbound",
        access="Deny",
    ),
)


def security_group(
    identifier: str,
    rules: tuple[Rule, ...],
    *,
    location: str,
    tags: dict[str, str],
    interfaces: list[Json],
    subnets: list[Json],
) -> Json:
    """An NSG with these rules, and the default ones."""
    properties: Json = {
        "provisioningState": "Succeeded",
        "resourceGuid": guid(identifier),
        "securityRules": [_rule(identifier, "securityRules", rule) for rule in rules],
        "defaultSecurityRules": [_rule(identifier, "defaultSecurityRules", rule) for rule in _DEFAULT_RULES],
    }
    if interfaces:
        properties["networkInterfaces"] = interfaces
    if subnets:
        properties["subnets"] = subnets
    return resource(
        identifier, "Microsoft.Network/networkSecurityGroups", properties, location=location, tags=tags
    )


def _rule(group: str, kind: str, rule: Rule) -> Json:
    properties: Json = {"provisioningState": "Succeeded"}
    if rule.description:
        properties["description"] = rule.description
    properties["protocol"] = rule.protocol
    properties["sourcePortRange"] = "*"
    properties |= _either("destinationPortRange", rule.ports)
    properties |= _either("sourceAddressPrefix", rule.source)
    properties |= _either("destinationAddressPrefix", rule.destination)
    properties |= {"access": rule.access, "priority": rule.priority, "direction": rule.direction}
    # the plural fields are always there, empty where the singular one is used
    plurals = {
        "sourcePortRanges": (),
        "destinationPortRanges": rule.ports,
        "sourceAddressPrefixes": rule.source,
        "destinationAddressPrefixes": rule.destination,
    }
    for name, value in plurals.items():
        properties[name] = list(value) if isinstance(value, tuple) else []
    if rule.destination_groups:
        beside = group.rpartition("/networkSecurityGroups/")[0]
        properties["destinationApplicationSecurityGroups"] = [
            ref(f"{beside}/applicationSecurityGroups/{name}") for name in rule.destination_groups
        ]
    return {
        "name": rule.name,
        "id": f"{group}/{kind}/{rule.name}",
        "etag": etag(group),
        "type": f"Microsoft.Network/networkSecurityGroups/{kind}",
        "properties": properties,
    }


def _either(name: str, value: Words) -> dict[str, str]:
    return {name: value} if isinstance(value, str) else {}
