"""Nodes cannot reach the control plane on the port that this cluster's tunnel uses.

Reads: what carries the tunnel (the cluster's tag `tunnelwatch:tunnel`, or else the setting
`TUNNEL`), the API server's name and the addresses it resolves to; on the way there the
security admin rules of the nodes' networks, the outbound rules of the groups on their
interfaces and subnets, the subnets' routes, and the rules of an Azure Firewall that a
route leads to, its policy's parents and IP groups included.

Why: the tunnel is opened from the nodes' side. Konnectivity, which every supported version
has, needs TCP 443 to the API server; tunnel-front needed TCP 9000 and aks-link UDP 1194. Where
that is closed there is no tunnel at all, and `kubectl logs`, `exec`, `port-forward` and
admission webhooks fail. Only the port in use is asked about: 9000 and 1194 may well be
closed on a cluster with konnectivity.

Fails when: a rule or a route keeps the nodes of some subnet from the API server: an admin
rule, a security group, a route without next hop, or a firewall's rule or its default deny; one
finding for each that decides. It is a warning while no node that exists now is affected.

Unknown when: the API server's name does not resolve, a group, route table or firewall could
not be read, the route leads to an appliance or a gateway that is not an Azure Firewall,
or a service tag or value that nobody can resolve decides.

Not applicable when: the cluster or every node pool is stopped; the API server is projected into the network
(VNet integration), so that there is no tunnel; or the cluster is cut off on purpose (outbound
type `none` or `block`).

Fix: allow the port to the API server's addresses, or to its FQDN in an application rule of the
firewall, without TLS inspection: konnectivity's ALPN must be neither blocked nor rewritten.
Remove a route that leads nowhere, or give it a next hop.

Documentation: https://learn.microsoft.com/azure/aks/outbound-rules-control-egress
"""

from collections.abc import Iterator, Sequence

from msgspec import Struct, structs

from checks import _written
from checks._places import Names, Place, all_stopped, node_places, pod_places
from checks._remedies import Wish, az, firewall_remedies, security_remedies
from checks._security import LISTED, Block, Traffic, judge
from facts import resource_id
from facts.filters import AdminRules, Direction, Firewall, FirewallRule, Missing, Route, RouteTable
from facts.finding import Fault, NotApplicable, Reason, Remediation, Severity, Statement, Unknown
from facts.snapshot import ApiServer, Cluster, Snapshot, Subnet, VirtualNetwork
from packets.addresses import (
    EVERY_PORT,
    IPV4,
    IPV6,
    IntervalSet,
    parse_prefix,
    parse_prefixes,
    to_prefixes,
    union,
)
from packets.boxes import Box
from packets.firewall import FirewallQuestion, breaks_tls, describe, evaluate
from packets.routes import Way, effective, ways
from packets.tags import PRIVATE

ID = "egress-tunnel-port"
CAUSE = 4
SEVERITY = Severity.CRITICAL
AFFECTS = ("logs", "exec", "port-forward", "webhooks")

TUNNELS = {"konnectivity": ("tcp", 443), "tunnel-front": ("tcp", 9000), "aks-link": ("udp", 1194)}
"""Protocol and port of each (https://learn.microsoft.com/azure/aks/outbound-rules-control-egress)."""
DOCS = "https://learn.microsoft.com/azure/aks/outbound-rules-control-egress"
ROUTE_DOCS = "https://learn.microsoft.com/azure/virtual-network/virtual-networks-udr-overview"


def check(snapshot: Snapshot) -> Iterator[Statement]:
    """Follow the traffic from each subnet with nodes to the API server."""
    cluster = snapshot.cluster
    if inapplicable := _not_applicable(cluster):
        yield NotApplicable(reason=inapplicable)
        return
    if stopped := all_stopped(snapshot):
        yield stopped
        return
    nodes, unread = node_places(snapshot)
    yield from unread
    if not any(pool.placements or pool.missing for pool in snapshot.pools):
        message = "Azure shows no node pool of this cluster whose network can be read."
        yield Unknown(reason=Reason(code="no_data", message=message))
    # A private cluster has had konnectivity from the first: whatever the setting says, its tunnel is TCP 443.
    tunnel = "konnectivity" if cluster.private else cluster.tunnel
    if tunnel not in TUNNELS:
        message = (
            f'What carries the tunnel is not known: the tag "tunnelwatch:tunnel" says "{tunnel}", which is '
            f"none of {', '.join(TUNNELS)}."
        )
        yield Unknown(reason=Reason(code="unknown_tunnel", message=message, resource=cluster.ref.id))
        return
    api_server = snapshot.api_server
    if api_server is None:
        yield Unknown(reason=_not_asked(cluster))
        return
    if isinstance(api_server.addresses, Missing):
        yield Unknown(reason=api_server.addresses.reason)
        return
    protocol, port = TUNNELS[tunnel]
    target = _control_plane(api_server, api_server.addresses)
    sources = list(nodes)
    if target.addresses & PRIVATE:
        # Konnectivity's agents are pods; what they send beyond the network goes out with the node's address.
        pods, unread_pods = pod_places(snapshot)
        yield from unread_pods
        sources += pods
    traffic = Traffic(protocol=protocol, port=port, sources=tuple(sources), destinations=(target,))
    yield from _Way(snapshot, api_server, traffic, tunnel).statements()


def _not_applicable(cluster: Cluster) -> Reason | None:
    if cluster.vnet_integration:
        return Reason(
            code="no_tunnel",
            message="The API server is projected into the cluster's network (VNet integration): nodes are "
            "reached without a tunnel.",
        )
    if cluster.isolated:
        return Reason(
            code="network_isolated",
            message="The cluster is cut off from the outside on purpose (outbound type "
            f'"{cluster.outbound_type}").',
        )
    return None


def _not_asked(cluster: Cluster, what: str = "Where the API server is") -> Reason:
    message = f"{what} was not looked up."
    return Reason(code="no_data", message=message, resource=cluster.ref.id)


def _control_plane(api_server: ApiServer, addresses: Sequence[str]) -> Place:
    """The API server as the other end of the traffic: its addresses are all that is known of where it is."""
    somewhere = VirtualNetwork(id="", prefixes=())
    # Each by itself: neighbours are no subnet, of which Azure would keep some addresses.
    prefixes = tuple(dict.fromkeys(cidr for one in addresses for cidr in to_prefixes(parse_prefixes([one]))))
    return Place.of(
        "api-server",
        "API server",
        Subnet(id=f"/{api_server.fqdn}", prefixes=prefixes, network=somewhere, nsg=None),
    )


class _Obstacle(Struct):
    """A route or a firewall's rule that keeps subnets from the API server."""

    places: dict[str, Place] = {}
    destinations: list[IntervalSet] = []
    nodes: dict[str, None] = {}
    """Names of the nodes that are kept off now."""
    now: bool = False
    """Whether nodes are kept off that exist now, or nobody could say which exist."""

    def add(self, place: Place, destinations: IntervalSet, sources: IntervalSet) -> None:
        """It stands in the way from one more place, or from more addresses there.

        Several places of a pool may be in one subnet, as while its scale set's model changes.
        """
        nodes = place.nodes_in(sources)
        self.places[f"{place.key} {place.name}"] = place
        self.destinations.append(destinations)
        self.nodes.update(dict.fromkeys(nodes))
        self.now = self.now or bool(nodes) or place.unlisted

    @property
    def pools(self) -> list[str]:
        """The node pools that are kept off."""
        return sorted({place.name for place in self.places.values()})

    @property
    def prefixes(self) -> list[str]:
        """Of the subnets that are kept off."""
        return list(
            dict.fromkeys(prefix for place in self.places.values() for prefix in place.subnet.prefixes)
        )


class _Way:
    """The way from the nodes to the API server, one filter after the other."""

    def __init__(self, snapshot: Snapshot, api_server: ApiServer, traffic: Traffic, tunnel: str) -> None:
        self.snapshot = snapshot
        self.api_server = api_server
        self.traffic = traffic
        self.tunnel = tunnel
        self.names = Names(snapshot)
        self.target = traffic.destinations[0]
        self._unknown: dict[Reason, None] = {}
        self._routes: dict[str, tuple[Route | None, _Obstacle]] = {}
        self._firewalls: dict[str, tuple[Firewall, FirewallRule | None, _Obstacle]] = {}
        self.wish = Wish(
            cluster=snapshot.cluster,
            traffic=traffic,
            rule_name="AllowTunnel",
            summary=f"Allow {traffic.words} from the node subnets to the API server",
            docs=DOCS,
        )

    def statements(self) -> Iterator[Statement]:
        """Everything that is wrong on the way, and what of it is not known."""
        judged = judge(self.traffic, self.names, (Direction.OUTBOUND,))
        for block in judged.blocks:
            yield self._security_fault(block, judged.blocks)
        yield from judged.unknown
        for place in self.traffic.sources:
            common = [
                family
                for family in (IPV4, IPV6)
                if place.addresses & family and self.target.addresses & family
            ]
            for family in common:
                self._route(place, self.target.addresses & family)
            if not common:
                has = ", ".join(to_prefixes(self.target.addresses)) or "none at all"
                self._doubt(
                    "no_data",
                    f"The API server {self.api_server.fqdn} has no address of a family that subnet "
                    f'"{_name(place.subnet)}" ({place.words}) has ({has}).',
                    place.subnet.id,
                )
        for route, obstacle in self._routes.values():
            yield self._route_fault(route, obstacle)
        for firewall, rule, obstacle in self._firewalls.values():
            yield self._firewall_fault(firewall, rule, obstacle)
        for reason in self._unknown:
            yield Unknown(reason=reason)

    # --- what is on the way -----------------------------------------------------------------------

    def _route(self, place: Place, wanted: IntervalSet) -> None:
        """Where the subnet's routes lead to."""
        subnet = place.subnet
        if isinstance(subnet.routes, Missing):
            self._unknown[subnet.routes.reason] = None
            return
        network = subnet.network
        routes = effective(subnet.routes, network.prefixes, network.peered_prefixes)
        for way in ways(
            (*routes, *self._endpoint(network, wanted)),
            wanted,
            self.names.at(place),
            published=self.names.published,
        ):
            self._follow(place, way)

    def _endpoint(self, network: VirtualNetwork, wanted: IntervalSet) -> list[Route]:
        """The routes to a private cluster's endpoint, which Azure makes in its network, one for each address.

        They are as specific as can be, so that a route to the network's address space does not override them
        (https://learn.microsoft.com/azure/private-link/disable-private-endpoint-network-policy).
        """
        if not self.snapshot.cluster.private:
            return []
        here = wanted & parse_prefixes((*network.prefixes, *network.peered_prefixes))
        return [
            Route(name="private endpoint", prefix=prefix, hop="InterfaceEndpoint", source="system")
            for prefix in self.target.subnet.prefixes
            if not parse_prefix(prefix) - here
        ]

    def _follow(self, place: Place, way: Way) -> None:
        to = ", ".join(to_prefixes(way.destinations))
        subnet = place.subnet
        if _may_be_overridden(subnet, way):
            self._doubt(
                "gateway_routes",
                f'The network of subnet "{_name(subnet)}" uses a gateway, whose routes may lead {to} '
                "elsewhere and cannot be read. A route table that has a route there, or keeps gateway "
                "routes out, would settle it.",
                subnet.id,
            )
        elif self.snapshot.cluster.private and way.verdict == "dropped" and not (way.route and way.route.id):
            self._doubt(
                "no_data",
                f'No route leads {to} from subnet "{_name(subnet)}". AKS puts a private API server into the '
                "cluster's own network, so its name may resolve to another address here than on the nodes.",
                subnet.id,
            )
        elif way.verdict == "dropped" or (
            way.route is not None and way.route.hop.lower() == "internet" and not way.destinations - PRIVATE
        ):
            # The Internet does not lead to a private address.
            key = resource_id.key(way.route.id if way.route and way.route.id else f"{subnet.id}/routes")
            self._routes.setdefault(key, (way.route, _Obstacle()))[1].add(
                place, way.destinations, place.addresses & (IPV4 if way.destinations & IPV4 else IPV6)
            )
        elif way.verdict == "unknown":
            doubt = way.doubt.why if way.doubt else "it is not known which"
            route = f'Route "{way.route.name}"' if way.route else "A route"
            self._doubt(
                way.doubt.code if way.doubt else "unknown_route_value",
                f'{route} of subnet "{_name(subnet)}" may decide where {to} is led, but {doubt}.',
                way.route.id if way.route and way.route.id else subnet.id,
            )
        elif way.verdict == "gateway":
            self._doubt(
                "unreadable_appliance",
                f'Route "{way.route.name if way.route else ""}" of subnet "{_name(subnet)}" leads {to} to '
                "the virtual network gateway, and what is let through behind it is not known.",
                way.route.id if way.route else subnet.id,
            )
        elif way.verdict == "appliance":
            for address in way.addresses:
                self._appliance(place, way, address)

    def _appliance(self, place: Place, way: Way, address: str) -> None:
        """What the firewall at an address does, if it is one that could be read."""
        firewall = self.snapshot.appliances.get(address)
        if firewall is None or isinstance(firewall, Missing):
            why = firewall.reason if firewall else _not_asked(self.snapshot.cluster, "What stands there")
            route = way.route.name if way.route else ""
            self._unknown[
                structs.replace(
                    why,
                    message=f'Route "{route}" of subnet "{_name(place.subnet)}" leads '
                    f"{', '.join(to_prefixes(way.destinations))} to an appliance at {address}. {why.message}",
                )
            ] = None
            return
        family = IPV4 if way.destinations & IPV4 else IPV6
        question = FirewallQuestion(
            protocol=self.traffic.protocol,
            packets=Box(
                place.assignable & family,
                EVERY_PORT,
                way.destinations,
                IntervalSet(((self.traffic.port, self.traffic.port),)),
            ),
            fqdn=self.api_server.fqdn,
            tls=self.tunnel == "konnectivity",
        )
        for decision in evaluate(firewall, question, self.names.at(place)):
            rule = decision.rule
            if decision.verdict == "denied":
                key = f"{resource_id.key(firewall.id)} {rule.id.lower() if rule else ''}"
                found = self._firewalls.setdefault(key, (firewall, rule, _Obstacle()))
                found[2].add(place, decision.destinations, decision.sources)
            elif decision.verdict == "unknown" and decision.doubt:
                self._doubt(
                    decision.doubt.code,
                    f'Azure Firewall "{firewall.name}": {describe(rule)} may decide {self.traffic.words} '
                    f"from {', '.join(to_prefixes(decision.sources))} to the API server, "
                    f"but {decision.doubt.why}.",
                    firewall.id,
                )

    def _doubt(self, code: str, message: str, resource: str) -> None:
        self._unknown[Reason(code=code, message=message, resource=resource)] = None

    # --- what is said of it -----------------------------------------------------------------------

    @property
    def _where(self) -> str:
        addresses = ", ".join(to_prefixes(self.target.addresses))
        return f"the API server {self.api_server.fqdn} ({addresses})"

    def _closing(self, count: int, *, now: bool) -> str:
        """Who is affected, and what that breaks."""
        nodes = (
            f"{count} node{'s' * (count != 1)} cannot open the tunnel now"
            if count
            else "Nodes there cannot open the tunnel"
            if now
            else "No node that exists now is affected, but nodes that are added will be"
        )
        return (
            f"{nodes}. The tunnel ({self.tunnel}) is opened from the nodes over {self.traffic.words}; "
            "without it logs, exec, port-forward and webhooks fail."
        )

    def _security_fault(self, block: Block, blocks: list[Block]) -> Fault:
        rule, layer = block.rule, block.layer
        sources, destinations = block.reach
        owner = (
            f'Security admin rule "{rule.name}"'
            if isinstance(layer.filter, AdminRules)
            else f'NSG "{layer.filter.name}" rule "{rule.name}"'
        )
        return Fault(
            subject=resource_id.key(rule.id),
            title=f"{owner} denies {self.traffic.words} outbound to the API server",
            detail=(
                f'Rule "{rule.name}" (priority {rule.priority}) of {layer.words}, at '
                f"{block.where.rpartition(' ')[0]} level, denies outbound {self.traffic.words} from "
                f"{', '.join(sources)} to {', '.join(destinations)}, {self._where}. "
                f"{self._closing(len(block.nodes), now=block.now)}"
            ),
            resource=rule.id,
            severity=None if block.now else Severity.WARNING,
            evidence=block.evidence(self.traffic)
            | {"tunnel": self.tunnel, "apiServer": self.api_server.fqdn},
            remediation=security_remedies(self.wish, block, blocks),
        )

    def _evidence(self, obstacle: _Obstacle) -> dict[str, object]:
        return {
            "tunnel": self.tunnel,
            "protocol": self.traffic.protocol.upper(),
            "port": self.traffic.port,
            "apiServer": self.api_server.fqdn,
            "destinations": to_prefixes(union(obstacle.destinations)),
            "pools": obstacle.pools,
            "sources": obstacle.prefixes,
            "nodes": list(obstacle.nodes)[:LISTED],
            "nodeCount": len(obstacle.nodes),
        }

    def _route_fault(self, route: Route | None, obstacle: _Obstacle) -> Fault:
        to = ", ".join(to_prefixes(union(obstacle.destinations)))
        place = next(iter(obstacle.places.values()))
        subnets = ", ".join(sorted({f'"{_name(place.subnet)}"' for place in obstacle.places.values()}))
        own = route is not None and bool(route.id)
        if route is not None and own:
            table = resource_id.parse(resource_id.parent(route.id)).name
            title = f'Route "{route.name}" of route table "{table}" drops what goes to the API server'
            what = f'Route "{route.name}" ({route.prefix}) of route table "{table}" has next hop {route.hop}'
        else:
            title = f"No route leads from subnet {subnets} to the API server"
            what = f"No route leads from subnet {subnets} to {to}; Azure drops it"
        return Fault(
            subject=resource_id.key(route.id) if route and own else f"{place.key}/routes",
            title=title,
            detail=(
                f"{what}, so {self.traffic.words} from {', '.join(obstacle.prefixes)} to {self._where} is "
                f"dropped. {self._closing(len(obstacle.nodes), now=obstacle.now)}"
            ),
            resource=route.id if route and own else place.subnet.id,
            severity=None if obstacle.now else Severity.WARNING,
            evidence=self._evidence(obstacle)
            | {"layer": "route", "route": _written.route(route) if route else None},
            remediation=_route_remedies(route if own else None, union(obstacle.destinations)),
        )

    def _firewall_fault(self, firewall: Firewall, rule: FirewallRule | None, obstacle: _Obstacle) -> Fault:
        what = f'{describe(rule)} of Azure Firewall "{firewall.name}"'
        inspected = breaks_tls(rule)
        does = (
            "takes TLS apart, which konnectivity does not survive (its ALPN must not be rewritten), on"
            if inspected
            else "denies"
        )
        return Fault(
            subject=f"{resource_id.key(firewall.id)}/{rule.id.lower() if rule else 'default'}",
            title=f'Azure Firewall "{firewall.name}" {"inspects" if inspected else "denies"} '
            f"{self.traffic.words} to the API server",
            detail=(
                f"{what[0].upper()}{what[1:]} {does} {self.traffic.words} from "
                f"{', '.join(obstacle.prefixes)} to {self._where}. "
                f"{self._closing(len(obstacle.nodes), now=obstacle.now)}"
            ),
            resource=firewall.id,
            severity=None if obstacle.now else Severity.WARNING,
            evidence=self._evidence(obstacle)
            | {
                "layer": "firewall",
                "firewall": firewall.id,
                "policy": firewall.policy or None,
                "rule": _written.firewall_rule(rule) if rule else None,
            },
            remediation=firewall_remedies(
                self.wish,
                firewall,
                rule,
                # Azure Firewall filters IPv4.
                sources=[prefix for prefix in obstacle.prefixes if ":" not in prefix],
                fqdn=self.api_server.fqdn,
            ),
        )


def _may_be_overridden(subnet: Subnet, way: Way) -> bool:
    """Whether a gateway's route may come before Azure's own, and nobody can see it.

    Its default route may come before the one to the Internet, and any of its routes to a private network
    before Azure's that drops what is for private networks. A route of a route table is taken to decide: it
    comes before a gateway's of the same prefix, and the API server's address alone is nothing that a
    gateway announces.
    """
    if way.route is None or way.route.source != "system" or way.route.hop.lower() not in {"internet", "none"}:
        return False
    arrive = not isinstance(subnet.routes, RouteTable) or subnet.routes.gateway_routes
    return subnet.network.gateway and arrive


def _name(subnet: Subnet) -> str:
    return subnet.id.rsplit("/", 1)[-1]


def _route_remedies(route: Route | None, destinations: IntervalSet) -> tuple[Remediation, ...]:
    if route is None:
        return (
            Remediation(
                summary="Give the subnet a route to the API server: peer the network that it is in, or add a "
                "user-defined route.",
                docs=ROUTE_DOCS,
            ),
        )
    parts = resource_id.parse(route.id)
    where = (
        *("--subscription", parts.subscription_id),
        *("--resource-group", parts.resource_group),
        *("--route-table-name", parts.names[0]),
        *("--name", route.name),
    )
    remove = Remediation(
        summary=f'Remove the route "{route.name}", if nothing else needs it.',
        commands=(az("network route-table route delete", *where),),
        docs=ROUTE_DOCS,
    )
    if destinations & PRIVATE:
        # The Internet does not lead to a private API server.
        return (remove,)
    return (
        remove,
        Remediation(
            summary=f'Or let the route "{route.name}" lead to the Internet.',
            commands=(az("network route-table route update", *where, "--next-hop-type", "Internet"),),
            docs=ROUTE_DOCS,
        ),
    )
