"""Small builders for what tests look at: rules, groups, subnets, pools and clusters.

Fields with several values take them as one text, parted by blanks: `sources="10.0.0.4 Sql"`.
"""

from msgspec import structs

from facts.filters import Missing, NetworkSecurityGroup, SecurityRule
from facts.finding import ClusterRef, Reason
from facts.snapshot import Cluster, Node, NodePool, Placement, Snapshot, Subnet, VirtualNetwork

SUBSCRIPTION = "0b1f6471-1bf0-4dda-aec3-cb9272f09590"
NODE_GROUP = "MC_rg-shop_aks-shop_westeurope"
NETWORK_GROUP = "rg-network"
TAKEN_AT = "2026-03-01T08:00:00Z"

CLUSTER = ClusterRef(
    id=f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-shop/providers/"
    "Microsoft.ContainerService/managedClusters/aks-shop",
    name="aks-shop",
    subscription_id=SUBSCRIPTION,
    resource_group="rg-shop",
    location="westeurope",
)


def network_id(kind: str, name: str, group: str = NETWORK_GROUP) -> str:
    """The id of something of Microsoft.Network: `network_id("virtualNetworks", "vnet")`."""
    return f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{group}/providers/Microsoft.Network/{kind}/{name}"


def rule(
    name: str,
    priority: int,
    access: str = "Deny",
    *,
    direction: str = "Inbound",
    protocol: str = "Tcp",
    sources: str = "*",
    source_groups: str = "",
    source_ports: str = "*",
    destinations: str = "*",
    ports: str = "10250",
) -> SecurityRule:
    """A rule that, by default, denies everybody's inbound TCP 10250; `nsg` gives it its id."""
    return SecurityRule(
        id=f"securityRules/{name}",
        name=name,
        priority=priority,
        direction=direction,
        access=access,
        protocol=protocol,
        sources=tuple(sources.split()),
        source_groups=tuple(source_groups.split()),
        source_ports=tuple(source_ports.split()),
        destinations=tuple(destinations.split()),
        destination_ports=tuple(ports.split()),
    )


def nsg(name: str, *rules: SecurityRule, group: str = NETWORK_GROUP) -> NetworkSecurityGroup:
    """A security group; Azure's default rules are not written out."""
    group_id = network_id("networkSecurityGroups", name, group)
    named = (structs.replace(one, id=f"{group_id}/securityRules/{one.name}") for one in rules)
    return NetworkSecurityGroup(id=group_id, name=name, rules=tuple(named))


def missing(name: str, code: str = "permission_denied", kind: str = "networkSecurityGroups") -> Missing:
    """Something that could not be read."""
    what = network_id(kind, name)
    reason = Reason(code=code, message=f"Could not read {name}.", resource=what)
    return Missing(what=name, resource_id=what, reason=reason)


def subnet(
    name: str,
    prefixes: str,
    group: NetworkSecurityGroup | Missing | None = None,
    *,
    space: str = "10.240.0.0/16 fd00:10::/48",
    peers: str = "",
) -> Subnet:
    """A subnet of the network `vnet`, which has the address space and the peers given."""
    vnet = network_id("virtualNetworks", "vnet")
    return Subnet(
        id=f"{vnet}/subnets/{name}",
        prefixes=tuple(prefixes.split()),
        network=VirtualNetwork(id=vnet, prefixes=tuple(space.split()), peered_prefixes=tuple(peers.split())),
        nsg=group,
    )


def pool(
    name: str,
    place: Subnet | Missing,
    nodes: str = "",
    *,
    nic: NetworkSecurityGroup | Missing | None = None,
    count: int | None = None,
    stopped: bool = False,
    lost: tuple[Missing, ...] = (),
) -> NodePool:
    """A pool whose nodes have the addresses given, one each; `a,b` for a node with two."""
    machines = tuple(
        Node(name=f"aks-{name}-{number}", instance_id=str(number), addresses=tuple(addresses.split(",")))
        for number, addresses in enumerate(nodes.split())
    )
    return NodePool(
        name=name,
        mode="User",
        os_type="Linux",
        type="VirtualMachineScaleSets",
        count=len(machines) if count is None else count,
        power_state="Stopped" if stopped else "Running",
        resource_ids=(f"/vmss/{name}",),
        placements=(Placement(subnet=place, nic_nsg=nic, nodes=machines),),
        missing=lost,
    )


def snapshot(*pools: NodePool, stopped: bool = False) -> Snapshot:
    """A cluster with these pools."""
    cluster = Cluster(
        ref=CLUSTER,
        node_resource_group=NODE_GROUP,
        power_state="Stopped" if stopped else "Running",
        provisioning_state="Succeeded",
        kubernetes_version="1.33.2",
        private=False,
        vnet_integration=False,
        outbound_type="loadBalancer",
        network_plugin="azure",
        network_plugin_mode="overlay",
        tags={},
    )
    return Snapshot(cluster=cluster, pools=pools, taken_at=TAKEN_AT)
