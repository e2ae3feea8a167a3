"""The resource types that the simulator serves: what reading them is called, and the API versions they take.

Action names are those of https://learn.microsoft.com/azure/role-based-access-control/permissions/compute,
…/networking and …/containers; API versions are what the pinned `azure-mgmt-*` packages send.
"""

from dataclasses import dataclass

AKS = ("2026-08-01",)
COMPUTE = ("2026-04-01",)
NETWORK = ("2026-03-01",)
SCALE_SET_NETWORK = ("2018-10-01",)
"""The network client still asks for the NICs of a scale set under this version."""
SUBSCRIPTIONS = ("2022-12-01",)


@dataclass(frozen=True, slots=True)
class ResourceType:
    """One type, and where its documents are found."""

    name: str
    """`Microsoft.Network/virtualNetworks/subnets`, spelled as Azure spells its actions."""
    versions: tuple[str, ...]
    """The API versions it takes."""
    inside: str | None = None
    """The property of the parent's document that holds this type, where it is no document of its own."""
    gathers: str | None = None
    """The full type of the grandchildren that a list of this type returns."""

    @property
    def action(self) -> str:
        """What a role must contain for it to be read."""
        return f"{self.name}/read"


_TYPES = (
    ResourceType("Microsoft.ContainerService/managedClusters", AKS),
    ResourceType("Microsoft.ContainerService/managedClusters/agentPools", AKS, inside="agentPoolProfiles"),
    ResourceType("Microsoft.Compute/virtualMachines", COMPUTE),
    ResourceType("Microsoft.Compute/virtualMachineScaleSets", COMPUTE),
    ResourceType("Microsoft.Compute/virtualMachineScaleSets/virtualMachines", COMPUTE),
    ResourceType(
        "Microsoft.Compute/virtualMachineScaleSets/networkInterfaces",
        SCALE_SET_NETWORK,
        gathers="Microsoft.Compute/virtualMachineScaleSets/virtualMachines/networkInterfaces",
    ),
    ResourceType(
        "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/networkInterfaces", SCALE_SET_NETWORK
    ),
    ResourceType("Microsoft.Network/applicationSecurityGroups", NETWORK),
    ResourceType("Microsoft.Network/azureFirewalls", NETWORK),
    ResourceType("Microsoft.Network/firewallPolicies", NETWORK),
    ResourceType("Microsoft.Network/firewallPolicies/ruleCollectionGroups", NETWORK),
    ResourceType("Microsoft.Network/ipGroups", NETWORK),
    ResourceType("Microsoft.Network/loadBalancers", NETWORK),
    ResourceType(
        "Microsoft.Network/loadBalancers/backendAddressPools", NETWORK, inside="backendAddressPools"
    ),
    ResourceType(
        "Microsoft.Network/loadBalancers/frontendIPConfigurations", NETWORK, inside="frontendIPConfigurations"
    ),
    ResourceType("Microsoft.Network/loadBalancers/outboundRules", NETWORK, inside="outboundRules"),
    ResourceType("Microsoft.Network/natGateways", NETWORK),
    ResourceType("Microsoft.Network/networkInterfaces", NETWORK),
    ResourceType("Microsoft.Network/networkSecurityGroups", NETWORK),
    ResourceType("Microsoft.Network/networkSecurityGroups/securityRules", NETWORK, inside="securityRules"),
    ResourceType(
        "Microsoft.Network/networkSecurityGroups/defaultSecurityRules", NETWORK, inside="defaultSecurityRules"
    ),
    ResourceType("Microsoft.Network/publicIPAddresses", NETWORK),
    ResourceType("Microsoft.Network/publicIPPrefixes", NETWORK),
    ResourceType("Microsoft.Network/routeTables", NETWORK),
    ResourceType("Microsoft.Network/routeTables/routes", NETWORK, inside="routes"),
    ResourceType("Microsoft.Network/virtualNetworks", NETWORK),
    ResourceType("Microsoft.Network/virtualNetworks/subnets", NETWORK, inside="subnets"),
    ResourceType(
        "Microsoft.Network/virtualNetworks/virtualNetworkPeerings", NETWORK, inside="virtualNetworkPeerings"
    ),
)

SERVICE_TAGS = ResourceType("Microsoft.Network/locations/serviceTags", NETWORK)
"""Microsoft's own list of prefixes, the same in every location: no resource, so no document holds it."""

TYPES = {kind.name.lower(): kind for kind in (*_TYPES, SERVICE_TAGS)}
"""Every type served, by its name in lower case."""

NAMESPACES = frozenset(kind.name.partition("/")[0].lower() for kind in _TYPES)
"""The resource providers served, in lower case."""

SUBSCRIPTION = ResourceType("Microsoft.Resources/subscriptions", SUBSCRIPTIONS)
"""Subscriptions are ARM's own: they are found outside any resource provider."""

EFFECTIVE_RULES = "Microsoft.Network/networkInterfaces/effectiveNetworkSecurityGroups/action"
ADMIN_RULES = "Microsoft.Network/virtualNetworks/listNetworkManagerEffectiveSecurityAdminRules/action"
RUN_COMMANDS = (
    "Microsoft.Compute/virtualMachines/runCommand/action",
    "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/runCommand/action",
)

ACTIONS = {
    action.removesuffix("/action").lower(): action for action in (EFFECTIVE_RULES, ADMIN_RULES, *RUN_COMMANDS)
}
"""What can be done to a resource with a POST, by the type and the word that end its path, in lower case."""
