"""The traffic that the tunnel needs inside the cluster's network: TCP 10250, to every node's kubelet."""

from checks._places import Place, node_places, pod_places
from checks._security import Traffic
from facts.filters import Missing
from facts.finding import Reason, Unknown
from facts.snapshot import Snapshot

KUBELET = 10250
"""The kubelet's port (https://kubernetes.io/docs/reference/networking/ports-and-protocols/)."""
DOCS = (
    "https://learn.microsoft.com/troubleshoot/azure/azure-kubernetes/connectivity/tunnel-connectivity-issues"
)


def kubelet_traffic(snapshot: Snapshot) -> tuple[Traffic, list[Unknown]]:
    """From wherever the tunnel may come to all places where nodes stand, and what could not be read of it."""
    nodes, unread = node_places(snapshot)
    pods, unread_pods = pod_places(snapshot)
    api_server, unread_server = _api_server(snapshot)
    traffic = Traffic(
        protocol="tcp",
        port=KUBELET,
        sources=(*nodes, *pods, *api_server),
        destinations=tuple(nodes),
    )
    return traffic, [*unread, *unread_pods, *unread_server]


def _api_server(snapshot: Snapshot) -> tuple[list[Place], list[Unknown]]:
    """The subnet that the API server comes from, with VNet integration."""
    if not snapshot.cluster.vnet_integration:
        return [], []
    subnet = snapshot.api_server.subnet if snapshot.api_server else None
    if isinstance(subnet, Missing):
        return [], [Unknown(reason=subnet.reason)]
    if subnet is None:
        message = "The cluster has API server VNet integration, but does not name the API server's subnet."
        return [], [Unknown(reason=Reason(code="no_data", message=message))]
    return [Place.of("api-server", "API server", subnet)], []
