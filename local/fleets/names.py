"""What the API servers of a fleet are called, and what these names resolve to."""

import ipaddress

from local.fleets.clusters import Cluster
from local.fleets.parts import guid
from local.fleets.tags import API_SERVERS


def prefix(cluster: Cluster) -> str:
    """The first label of every name that AKS gives a cluster."""
    return f"{cluster.name}-dns-{guid(cluster.id)[:8]}"


def public_name(cluster: Cluster) -> str | None:
    """The cluster's `fqdn`; a private cluster may have none."""
    if cluster.private and not cluster.public_name:
        return None
    return f"{prefix(cluster)}.hcp.{cluster.location}.azmk8s.io"


def private_name(cluster: Cluster) -> str | None:
    """A private cluster's `privateFQDN`, in a zone that is linked to its own network alone."""
    if not cluster.private:
        return None
    zone = guid(cluster.id + "/zone")
    return f"{prefix(cluster)}.{zone}.privatelink.{cluster.location}.azmk8s.io"


def names(cluster: Cluster) -> dict[str, list[str]]:
    """The cluster's part of `names.json`: addresses as somebody sees them outside its network."""
    found: dict[str, list[str]] = {}
    if public := public_name(cluster):
        found[public] = [_address(cluster)]
    if private := private_name(cluster):
        found[private] = []
    return found


def _address(cluster: Cluster) -> str:
    """Where the public name leads: to a private cluster's endpoint, or to Azure's own public space."""
    if cluster.endpoint_subnet:
        subnets = cluster.network.subnets if cluster.network else ()
        [subnet] = [one for one in subnets if one.name == cluster.endpoint_subnet]
        return str(ipaddress.ip_network(subnet.prefixes[0])[4])  # Azure keeps the first four
    space = ipaddress.ip_network(API_SERVERS[cluster.location])
    return str(space[int(cluster.number) % (space.num_addresses - 2) + 1])
