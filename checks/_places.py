"""Where the ends of the traffic stand: node pools, pods, the API server; and what names mean there."""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Literal, Self

from msgspec import Struct, structs

from facts import resource_id
from facts.filters import Missing, NetworkSecurityGroup, RouteTable
from facts.finding import NotApplicable, Reason, Unknown
from facts.snapshot import Node, NodePool, Placement, Snapshot, Subnet
from packets.addresses import IntervalSet, assignable, parse_prefix, parse_prefixes, union
from packets.decisions import Doubt
from packets.tags import Tags

Kind = Literal["nodes", "pods", "api-server"]


class Place(Struct, frozen=True):
    """A subnet in which some end of the traffic stands."""

    kind: Kind
    name: str
    """The node pool's, or what else is there, as findings call it."""
    subnet: Subnet
    nic_nsg: NetworkSecurityGroup | Missing | None
    nodes: tuple[tuple[str, IntervalSet], ...]
    """Names and addresses of the nodes that exist."""
    unlisted: bool
    """Whether somebody may be there who could not be listed."""
    addresses: IntervalSet
    """The whole subnet."""
    assignable: IntervalSet
    """Those addresses that a machine of this place can have, now or later: not those that another's has."""

    @classmethod
    def of(cls, kind: Kind, name: str, subnet: Subnet, *, unlisted: bool = True) -> Self:
        """A place in which no machine is known."""
        return cls(
            kind=kind,
            name=name,
            subnet=subnet,
            nic_nsg=None,
            nodes=(),
            unlisted=unlisted,
            addresses=parse_prefixes(subnet.prefixes),
            assignable=union(assignable(prefix) for prefix in subnet.prefixes),
        )

    @property
    def words(self) -> str:
        """The place, as a sentence names it."""
        return f"node pool {self.name}" if self.kind == "nodes" else self.name

    @property
    def key(self) -> str:
        """The key of the subnet's id."""
        return resource_id.key(self.subnet.id)

    def nodes_in(self, addresses: IntervalSet) -> list[str]:
        """The names of the nodes that have one of some addresses."""
        return [name for name, own in self.nodes if own & addresses]


def node_places(snapshot: Snapshot) -> tuple[list[Place], list[Unknown]]:
    """Where nodes stand, and what could not be read of it; pools that are stopped are left out."""
    places, unknown = [], []
    for pool in snapshot.pools:
        if pool.stopped:
            continue
        unknown += [Unknown(reason=missing.reason) for missing in pool.missing]
        for placement in pool.placements:
            if isinstance(placement.subnet, Missing):
                unknown.append(Unknown(reason=placement.subnet.reason))
            else:
                places.append(_of_nodes(pool, placement, placement.subnet))
    return [_apart(place, places) for place in places], unknown


def all_stopped(snapshot: Snapshot) -> NotApplicable | None:
    """What there is to say where every node pool was stopped on purpose."""
    if not snapshot.pools or not all(pool.stopped for pool in snapshot.pools):
        return None
    return NotApplicable(reason=Reason(code="stopped", message="Every node pool of the cluster is stopped."))


def pod_places(snapshot: Snapshot) -> tuple[list[Place], list[Unknown]]:
    """Where pods take addresses of their own from the network; elsewhere they go out with a node's."""
    places, unknown = [], []
    for pool in snapshot.pools:
        if pool.stopped or pool.pod_subnet is None:
            continue
        if isinstance(pool.pod_subnet, Missing):
            unknown.append(Unknown(reason=pool.pod_subnet.reason))
        else:
            there = pool.count != 0
            places.append(Place.of("pods", f"pods of node pool {pool.name}", pool.pod_subnet, unlisted=there))
    return places, unknown


def _apart(place: Place, places: list[Place]) -> Place:
    """A place without the addresses that nodes of other places in its subnet have."""
    others = union(
        own for other in places if other is not place and other.key == place.key for _, own in other.nodes
    )
    return structs.replace(place, assignable=place.assignable - others)


def _of_nodes(pool: NodePool, placement: Placement, subnet: Subnet) -> Place:
    found = [(node.name, readable(node.addresses)) for node in placement.nodes]
    nodes = tuple((name, own) for name, own in found if own)
    # A machine that could not be read may have any address, also beside others that could; so may one whose
    # interface shows none.
    unlisted = pool.count != 0 and (
        bool(pool.missing) or len(nodes) < len(found) or not any(one.nodes for one in pool.placements)
    )
    return structs.replace(
        Place.of("nodes", pool.name, subnet, unlisted=unlisted), nic_nsg=placement.nic_nsg, nodes=nodes
    )


def readable(addresses: Iterable[str]) -> IntervalSet:
    """Those of some addresses that are any."""
    found = []
    for address in addresses:
        try:
            found.append(parse_prefix(address))
        except ValueError:
            continue
    return union(found)


class Names:
    """What service tags and application security groups stand for in one cluster."""

    def __init__(self, snapshot: Snapshot) -> None:
        read = snapshot.service_tags
        self.published = {} if isinstance(read, Missing) else _usable(read)
        """Prefixes of service tags by lower-case name; a tag that holds what is no prefix is not known."""
        self._unread = _doubt(read) if isinstance(read, Missing) else None
        self._tags = {name: _addresses(prefixes) for name, prefixes in self.published.items()}
        self._groups = _groups(snapshot)
        self._complete = not any(pool.missing for pool in snapshot.pools if not pool.stopped)
        self._of_subnet: dict[str, Tags] = {}

    def at(self, place: Place) -> Tags:
        """The names as the filters of a place's subnet and interfaces mean them."""
        if place.key not in self._of_subnet:
            self._of_subnet[place.key] = self._of(place.subnet)
        return self._of_subnet[place.key]

    def _of(self, subnet: Subnet) -> Tags:
        network = subnet.network
        routes = subnet.routes.routes if isinstance(subnet.routes, RouteTable) else ()
        routed = [route.prefix for route in routes]
        unread = None
        if isinstance(subnet.routes, Missing):
            # A table that could not be read may hold any prefix, as one with a default route does.
            routed, unread = ["0.0.0.0/0", "::/0"], _doubt(subnet.routes)
        tags = Tags.of_network(
            (*network.prefixes, *network.peered_prefixes, *subnet.prefixes),
            self._tags,
            routed=routed,
        )
        return structs.replace(
            tags,
            groups=self._groups if self._complete else {},
            unread=self._unread,
            routes_unread=unread,
            only_groups=self._complete,
        )


def _usable(tags: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The service tags all of whose prefixes can be read."""
    usable = {}
    for name, prefixes in tags.items():
        try:
            _addresses(prefixes)
        except ValueError:
            continue
        usable[name.lower()] = prefixes
    return usable


def _doubt(missing: Missing) -> Doubt:
    return Doubt(missing.reason.code, missing.reason.message.rstrip("."))


@lru_cache(maxsize=256)
def _addresses(prefixes: tuple[str, ...]) -> IntervalSet:
    """The addresses of a service tag, which may have thousands of prefixes and serves many clusters."""
    return parse_prefixes(prefixes)


def _groups(snapshot: Snapshot) -> dict[str, IntervalSet]:
    """The members of application security groups among this cluster's nodes.

    An address that no node has now counts as a member if every pool that puts nodes into its subnet puts
    them into the group. Where pools differ nobody can say: a node that comes is judged when it is there.
    """
    members: dict[str, list[IntervalSet]] = {}
    taken: list[IntervalSet] = []
    by_subnet: dict[str, list[Placement]] = {}
    for pool in snapshot.pools:
        for placement in pool.placements if not pool.stopped else ():
            if not isinstance(placement.subnet, Missing):
                by_subnet.setdefault(resource_id.key(placement.subnet.id), []).append(placement)
        for node in _nodes(pool):
            taken.append(readable(node.addresses))
            for group, addresses in node.members.items():
                members.setdefault(group, []).append(readable(addresses))
                taken.append(members[group][-1])
    occupied = union(taken)
    for placements in by_subnet.values():
        prefixes = {
            prefix for one in placements if isinstance(one.subnet, Subnet) for prefix in one.subnet.prefixes
        }
        free = union(assignable(prefix) for prefix in prefixes) - occupied
        for group in frozenset.intersection(*(frozenset(one.groups) for one in placements)):
            members.setdefault(group, []).append(free)
    return {group: union(parts) for group, parts in members.items()}


def _nodes(pool: NodePool) -> Iterator[Node]:
    for placement in pool.placements:
        yield from placement.nodes
