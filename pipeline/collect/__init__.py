"""Read one cluster and all that its nodes' traffic passes into a `Snapshot`."""

from datetime import UTC, datetime

from msgspec import Struct, structs

from facts.filters import Missing, NetworkSecurityGroup
from facts.snapshot import Cluster, NodePool, Snapshot, Subnet
from facts.times import timestamp
from pipeline.collect.control_plane import read_api_server, read_appliances, read_service_tags, subnets_of
from pipeline.collect.documents import ManagedCluster
from pipeline.collect.inventory import Inventory
from pipeline.collect.kinds import CLUSTERS
from pipeline.collect.pools import read_pool, read_provisioned
from pipeline.collect.ways_out import read_load_balancers, read_usages

TUNNEL_TAG = "tunnelwatch:tunnel"
"""The tag of a cluster that says what carries its tunnel: `konnectivity`, `tunnel-front` or `aks-link`."""


class Deleted(Struct, frozen=True):
    """The cluster does not exist any more."""


async def collect(inventory: Inventory, cluster_id: str) -> Snapshot | Missing | Deleted:
    """Read a cluster. `Missing` means that not even the cluster itself could be read."""
    taken_at = timestamp(datetime.now(UTC))
    managed = await inventory.find(CLUSTERS, cluster_id)
    if isinstance(managed, Missing):
        return Deleted() if managed.reason.code == "not_found" else managed
    cluster = _with_tunnel(managed.cluster, inventory.clients.settings.tunnel)
    if cluster.stopped:
        return Snapshot(cluster=cluster, pools=(), taken_at=taken_at)
    return await _whole(inventory, managed, cluster, taken_at)


async def _whole(inventory: Inventory, managed: ManagedCluster, cluster: Cluster, taken_at: str) -> Snapshot:
    pools = [await read_pool(inventory, managed, pool) for pool in managed.pools]
    if cluster.provisions_nodes and (provisioned := await read_provisioned(inventory, managed)):
        pools.append(provisioned)
    api_server = await read_api_server(inventory, managed)
    appliances = await read_appliances(inventory, managed, pools, api_server)
    subnets = [*subnets_of(pools)]
    load_balancers = await read_load_balancers(inventory, cluster)
    usage = await read_usages(inventory, load_balancers, subnets, appliances.values())
    if isinstance(api_server.subnet, Subnet):
        subnets.append(api_server.subnet)
    return Snapshot(
        cluster=cluster,
        pools=tuple(pools),
        api_server=api_server,
        service_tags=await read_service_tags(
            inventory, managed, subnets, _groups(pools, subnets), appliances.values()
        ),
        appliances=appliances,
        load_balancers=load_balancers,
        usage=usage,
        taken_at=taken_at,
    )


def _groups(pools: list[NodePool], subnets: list[Subnet]) -> list[NetworkSecurityGroup]:
    """Every security group on the way, at whatever level."""
    there = [
        *(subnet.nsg for subnet in subnets),
        *(placement.nic_nsg for pool in pools for placement in pool.placements),
    ]
    return [group for group in there if isinstance(group, NetworkSecurityGroup)]


def _with_tunnel(cluster: Cluster, default: str) -> Cluster:
    """The cluster with the tunnel that its tag names, or else the setting."""
    tags = {name.lower(): value.strip().lower() for name, value in cluster.tags.items()}
    return structs.replace(cluster, tunnel=tags.get(TUNNEL_TAG) or default)
