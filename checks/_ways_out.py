"""By which way the nodes of each pool get out, as Azure decides it, whatever the cluster says of itself.

A user-defined route comes first, then a NAT gateway on the subnet, then a node's own public address, and
then the outbound rules of a load balancer (https://learn.microsoft.com/azure/nat-gateway/nat-gateway-resource).
The cluster's `outboundType` says what AKS made, and not what is used.
"""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from checks._places import Names, Place, all_stopped
from facts import resource_id
from facts.filters import Firewall, Missing
from facts.finding import NotApplicable, Reason, Unknown
from facts.outbound import LoadBalancer, NatGateway
from facts.snapshot import NodePool, Placement, Snapshot, Subnet
from packets.addresses import IPV4, IntervalSet, parse_prefixes
from packets.routes import Way, effective, ways
from packets.tags import PLATFORM, PRIVATE

type Gate = LoadBalancer | NatGateway | Firewall
"""What translates nodes' addresses, and may run out of ports."""


class WayOut(Struct, frozen=True, kw_only=True):
    """Something that translates nodes' addresses, with the pools whose nodes get out by it."""

    gate: Gate
    pools: tuple[NodePool, ...]
    nodes: dict[str, str]
    """Names of the nodes that exist, by their addresses."""

    @property
    def key(self) -> str:
        """The key of the id of what translates."""
        return resource_id.key(self.gate.id)

    @property
    def words(self) -> str:
        """What translates, as a sentence names it."""
        match self.gate:
            case LoadBalancer():
                return f'load balancer "{self.gate.name}"'
            case NatGateway():
                return f'NAT gateway "{self.gate.name}"'
            case Firewall():
                return f'Azure Firewall "{self.gate.name}"'

    @property
    def pool_words(self) -> str:
        """The pools, as a sentence names them."""
        names = [pool.name for pool in self.pools]
        return f"node pool{'s' * (len(names) > 1)} {', '.join(names)}"


def elsewhere(way: WayOut, every: Iterable[WayOut]) -> set[str]:
    """Addresses of nodes that get out by other ways alone: Azure may count ports of theirs here all the same.

    Nodes that get out by several ways, as where a route leads a part of the Internet elsewhere, are none.
    """
    return {address for one in every for address in one.nodes} - way.nodes.keys()


def not_for_the_tunnel(snapshot: Snapshot) -> NotApplicable | None:
    """Why running out of ports would not harm the tunnel, if it would not."""
    cluster = snapshot.cluster
    if stopped := all_stopped(snapshot):
        return stopped
    if cluster.vnet_integration:
        code, why = "no_tunnel", "the API server is projected into the cluster's network (VNet integration)"
    elif cluster.private:
        code, why = "private_cluster", "the tunnel goes to a private endpoint, within the network"
    elif cluster.isolated:
        code = "network_isolated"
        why = f'the cluster is cut off from the outside on purpose (outbound type "{cluster.outbound_type}")'
    else:
        return None
    return NotApplicable(reason=Reason(code=code, message=f"No SNAT on the tunnel's way: {why}."))


def ways_out(snapshot: Snapshot) -> tuple[list[WayOut], list[Unknown]]:
    """What the nodes get out by, and what of it could not be told.

    Nodes with public addresses of their own share ports with nobody, and are in none.
    """
    gates: dict[str, Gate] = {}
    pools: dict[str, dict[str, NodePool]] = {}
    nodes: dict[str, dict[str, str]] = {}
    unknown: dict[Reason, None] = {}
    names = Names(snapshot)
    for pool in snapshot.pools:
        if pool.stopped:
            continue
        unknown |= dict.fromkeys(missing.reason for missing in pool.missing)
        for placement in pool.placements:
            for found in _of(snapshot, names, pool, placement):
                if isinstance(found, Reason):
                    unknown[found] = None
                    continue
                key = resource_id.key(found.id)
                gates[key] = found
                pools.setdefault(key, {})[pool.name] = pool
                nodes.setdefault(key, {}).update(
                    (address, node.name) for node in placement.nodes for address in node.addresses
                )
    return (
        [
            WayOut(gate=gate, pools=tuple(pools[key].values()), nodes=nodes[key])
            for key, gate in gates.items()
        ],
        [Unknown(reason=reason) for reason in unknown],
    )


def _of(snapshot: Snapshot, names: Names, pool: NodePool, placement: Placement) -> Iterator[Gate | Reason]:
    """What nodes of a pool at one place get out by, or why that is not known."""
    subnet = placement.subnet
    if isinstance(subnet, Missing):
        yield subnet.reason
        return
    if isinstance(subnet.routes, Missing):
        yield subnet.routes.reason
        return
    by_itself = False
    for way in _routed(snapshot, names, pool, subnet):
        if way.verdict in {"carried", "dropped"}:
            # What is dropped on its way to the API server is no matter of ports; the rest goes out.
            by_itself = True
        else:
            yield from _elsewhere(snapshot, subnet, way)
    if not by_itself:
        return
    if isinstance(subnet.nat_gateway, Missing):
        yield subnet.nat_gateway.reason
    elif subnet.nat_gateway is not None:
        yield subnet.nat_gateway
    elif not pool.public_addresses:
        yield from _balanced(snapshot, pool, placement, subnet)


def _routed(snapshot: Snapshot, names: Names, pool: NodePool, subnet: Subnet) -> tuple[Way, ...]:
    """Where the subnet's routes lead what goes to the API server, or to the Internet if that is not known."""
    network = subnet.network
    routes = effective(
        subnet.routes if not isinstance(subnet.routes, Missing) else None,
        network.prefixes,
        network.peered_prefixes,
    )
    place = Place.of("nodes", pool.name, subnet)
    return ways(routes, _destinations(snapshot), names.at(place), published=names.published)


def _destinations(snapshot: Snapshot) -> IntervalSet:
    api_server = snapshot.api_server
    if api_server is not None and not isinstance(api_server.addresses, Missing):
        public = (parse_prefixes(api_server.addresses) & IPV4) - PRIVATE
        if public:
            return public
    return IPV4 - PRIVATE - PLATFORM


def _elsewhere(snapshot: Snapshot, subnet: Subnet, way: Way) -> Iterator[Gate | Reason]:
    """What stands where a route leads to."""
    name = subnet.id.rsplit("/", 1)[-1]
    route = f'Route "{way.route.name}"' if way.route else "A route"
    resource = way.route.id if way.route and way.route.id else subnet.id
    if way.verdict == "appliance":
        for address in way.addresses:
            appliance = snapshot.appliances.get(address)
            if isinstance(appliance, Firewall):
                yield appliance
            elif appliance is not None:
                yield appliance.reason
            else:
                yield Reason(
                    code="unreadable_appliance",
                    message=f'{route} of subnet "{name}" leads out by an appliance at {address}, whose ports '
                    "cannot be counted here.",
                    resource=resource,
                )
    elif way.verdict == "gateway":
        yield Reason(
            code="unreadable_appliance",
            message=f'{route} of subnet "{name}" leads out by the virtual network gateway; what translates '
            "addresses behind it is not known.",
            resource=resource,
        )
    else:
        why = way.doubt.why if way.doubt else "it is not known which"
        yield Reason(
            code=way.doubt.code if way.doubt else "unknown_route_value",
            message=f'{route} of subnet "{name}" may decide by which way nodes get out, but {why}.',
            resource=resource,
        )


def _balanced(
    snapshot: Snapshot, pool: NodePool, placement: Placement, subnet: Subnet
) -> Iterator[Gate | Reason]:
    """The load balancers whose outbound rules serve the pool's nodes."""
    if isinstance(snapshot.load_balancers, Missing):
        yield snapshot.load_balancers.reason
        return
    serving = [one for one in snapshot.load_balancers if _serves(one, pool, placement)]
    if serving:
        yield from serving
        return
    if pool.count == 0 and not pool.max_count and not placement.nodes:
        return  # nobody is there to get out, and nobody comes by itself
    cluster = snapshot.cluster
    name = subnet.id.rsplit("/", 1)[-1]
    yield Reason(
        code="no_way_out",
        message=f'Could not tell how node pool {pool.name} gets out: subnet "{name}" has no NAT gateway, and '
        f'resource group "{cluster.node_resource_group}" shows no load balancer with an outbound rule for '
        f'it, though the cluster\'s outbound type is "{cluster.outbound_type}".',
        resource=subnet.id,
    )


def _serves(balancer: LoadBalancer, pool: NodePool, placement: Placement) -> bool:
    """Whether the outbound rules are for a pool: by its scale set, or by its nodes' addresses.

    A plain machine's interface is named by an id that the pool does not show: then they are taken to be.
    """
    if balancer.backends is None or pool.type.lower() != "virtualmachinescalesets":
        return True
    own = {resource_id.key(one) for one in pool.resource_ids}
    addresses = {address for node in placement.nodes for address in node.addresses}
    empty = not placement.nodes  # a pool without nodes has no interfaces to be listed
    return bool((own | addresses) & balancer.backends) or empty
