"""What security rules do to the traffic between places: admin rules first, then the groups on either side.

Each filter is judged by itself, on all traffic that reaches it whatever the others say, since
each rule that denies has to be mended. Only what an admin rule always allows is taken
out, since no group sees it. So a rule that decides is one finding, however many pools
and places it keeps apart.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from msgspec import Struct

from checks import _written
from checks._places import Names, Place
from facts import resource_id
from facts.filters import AdminRules, Direction, Missing, NetworkSecurityGroup, SecurityRule
from facts.finding import Reason, Unknown
from packets.addresses import EVERY_PORT, IPV4, IPV6, IntervalSet, to_prefixes, union
from packets.boxes import Box
from packets.decisions import Decision, Doubt
from packets.nsg import Question, evaluate, evaluate_admin

LISTED = 50
"""Nodes and pairs named in evidence; beyond that their number is given."""

Level = Literal["interface", "subnet", "virtual network"]
Filter = NetworkSecurityGroup | AdminRules


class Traffic(Struct, frozen=True, kw_only=True):
    """What is asked about: from some places to others."""

    protocol: str
    """`tcp`, `udp`."""
    port: int
    sources: tuple[Place, ...]
    destinations: tuple[Place, ...]

    @property
    def words(self) -> str:
        """`TCP 10250`."""
        return f"{self.protocol.upper()} {self.port}"

    def ends(self, direction: Direction) -> tuple[tuple[Place, ...], tuple[Place, ...]]:
        """The places that filters of a direction guard, and those at the other end."""
        if direction is Direction.INBOUND:
            return self.destinations, self.sources
        return self.sources, self.destinations


class Layer(Struct):
    """One direction of one filter, with the places that it guards."""

    filter: Filter
    direction: Direction
    places: list[tuple[Place, Level]] = []

    @property
    def words(self) -> str:
        """The filter, as a sentence names it."""
        if isinstance(self.filter, AdminRules):
            network = self.filter.network_id.rsplit("/", 1)[-1]
            return f'the security admin rules in force on virtual network "{network}"'
        return f'network security group "{self.filter.name}"'


class Block(Struct):
    """What one rule denies, gathered over all places that it guards."""

    rule: SecurityRule
    layer: Layer
    """The first in which it was met: an admin rule may be in force on several networks."""
    levels: set[Level] = set()
    pairs: dict[tuple[str, str], list[Box]] = {}
    sources: dict[str, Place] = {}
    destinations: dict[str, Place] = {}
    pools: set[str] = set()
    """The node pools at either end."""
    nodes: dict[str, None] = {}
    now: bool = False
    """Whether machines that exist now are kept apart, or nobody could say which exist."""

    @property
    def boxes(self) -> list[Box]:
        """Everything that it denies."""
        return [box for pair in self.pairs.values() for box in pair]

    @property
    def reach(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Sources and destinations of what it denies, as CIDRs."""
        return (
            to_prefixes(union(box.sources for box in self.boxes)),
            to_prefixes(union(box.destinations for box in self.boxes)),
        )

    @property
    def where(self) -> str:
        """`interface and subnet inbound`."""
        return f"{' and '.join(sorted(self.levels))} {self.layer.direction.lower()}"

    def evidence(self, traffic: Traffic) -> dict[str, Any]:
        """The rule as it is written, the ways that it blocks, the nodes that are affected now."""
        nodes = list(self.nodes)
        evidence: dict[str, Any] = {
            "protocol": traffic.protocol.upper(),
            "port": traffic.port,
            "layer": self.where,
            "rule": _written.security_rule(self.rule),
            "pools": sorted(self.pools),
            "nodes": nodes[:LISTED],
            "nodeCount": len(nodes),
            "pairs": [
                {
                    "from": source,
                    "to": destination,
                    "sources": to_prefixes(union(box.sources for box in boxes)),
                    "destinations": to_prefixes(union(box.destinations for box in boxes)),
                }
                for (source, destination), boxes in list(self.pairs.items())[:LISTED]
            ],
            "pairCount": len(self.pairs),
        }
        if isinstance(self.layer.filter, AdminRules):
            evidence["network"] = self.layer.filter.network_id
        else:
            evidence["nsg"] = self.layer.filter.id
        return evidence


class Judged(Struct):
    """What was found of some traffic."""

    blocks: list[Block] = []
    unknown: list[Unknown] = []


def judge(traffic: Traffic, names: Names, directions: Iterable[Direction] = tuple(Direction)) -> Judged:
    """Everything that security rules deny of some traffic, and what cannot be known of it."""
    judge = _Judge(traffic, names)
    for direction in directions:
        judge.look(direction)
    return Judged([block for block in judge.blocks.values() if block.pairs], judge.unknown)


class _Judge:
    """Goes through the filters on the way of some traffic."""

    def __init__(self, traffic: Traffic, names: Names) -> None:
        self.traffic = traffic
        self.names = names
        self.blocks: dict[str, Block] = {}
        self.unknown: list[Unknown] = []
        self._unread: set[str] = set()

    def look(self, direction: Direction) -> None:
        """Judge all filters of one direction, admin rules first."""
        admin: dict[str, Layer] = {}
        groups: dict[str, Layer] = {}
        for place in self.traffic.ends(direction)[0]:
            self._stand(admin, place, "virtual network", place.subnet.network.admin_rules, direction)
            self._stand(groups, place, "interface", place.nic_nsg, direction)
            self._stand(groups, place, "subnet", place.subnet.nsg, direction)
        exempt, doubts = _Exempt(), _Doubts(self.traffic, direction)
        for layer in (*admin.values(), *groups.values()):
            self._judge(layer, exempt, doubts)
        self.unknown += [Unknown(reason=reason) for reason in doubts.reasons()]

    def _stand(
        self,
        layers: dict[str, Layer],
        place: Place,
        level: Level,
        found: Filter | Missing | None,
        direction: Direction,
    ) -> None:
        """Note that a filter guards a place; one that could not be read is told once."""
        if isinstance(found, Missing):
            key = resource_id.key(found.resource_id)
            if key not in self._unread:
                self._unread.add(key)
                self.unknown.append(Unknown(reason=found.reason))
        elif found is not None:
            own = found.network_id if isinstance(found, AdminRules) else found.id
            layer = layers.setdefault(resource_id.key(own), Layer(found, direction))
            layer.places.append((place, level))

    def _judge(self, layer: Layer, exempt: "_Exempt", doubts: "_Doubts") -> None:
        others = self.traffic.ends(layer.direction)[1]
        decisions: dict[str, list[Decision[SecurityRule | None]]] = {}
        for place, level in layer.places:
            if place.key not in decisions:
                found = list(_decisions(self.traffic, layer, place, others, self.names))
                if isinstance(layer.filter, AdminRules):
                    exempt.learn(place, layer, found)
                decisions[place.key] = found
            for decision in decisions[place.key]:
                if decision.verdict == "unknown" and "denied" in decision.possible:
                    doubts.add(place, layer, decision, exempt.without(decision.packets, place, layer))
                elif decision.verdict == "denied" and decision.rule is not None:
                    denied = exempt.without(decision.packets, place, layer)
                    for maybe, of, packets in exempt.perhaps(denied, place, layer):
                        doubts.add(place, of, maybe, packets)
                        denied = _outside(denied, packets)
                    self._block(decision.rule, layer, (place, level), denied)

    def _block(
        self, rule: SecurityRule, layer: Layer, guarded: tuple[Place, Level], packets: Sequence[Box]
    ) -> None:
        """Take down what a rule denies to or from a place that it guards."""
        place, level = guarded
        block = self.blocks.setdefault(f"{resource_id.key(rule.id)} {layer.direction}", Block(rule, layer))
        block.levels.add(level)
        for other in self.traffic.ends(layer.direction)[1]:
            ends = (other, place) if layer.direction is Direction.INBOUND else (place, other)
            _add(block, packets, *ends)


class _Exempt:
    """Packets that admin rules let past every group, for sure or perhaps, by the subnet that they guard."""

    def __init__(self) -> None:
        self._surely: dict[str, list[Box]] = {}
        self._perhaps: dict[str, list[tuple[Decision[SecurityRule | None], Layer, Box]]] = {}

    def learn(self, place: Place, layer: Layer, decisions: Iterable[Decision[SecurityRule | None]]) -> None:
        """Take down what the admin rules say of a place's subnet."""
        for decision in decisions:
            if decision.verdict == "allowed":
                self._surely.setdefault(place.key, []).extend(decision.packets)
            elif "allowed" in decision.possible:
                self._perhaps.setdefault(place.key, []).extend(
                    (decision, layer, box) for box in decision.packets
                )

    def without(self, packets: Sequence[Box], place: Place, layer: Layer) -> Sequence[Box]:
        """What is left of some packets for a group; admin rules see everything."""
        if isinstance(layer.filter, AdminRules):
            return packets
        return _outside(packets, self._surely.get(place.key, ()))

    def perhaps(
        self, packets: Sequence[Box], place: Place, layer: Layer
    ) -> Iterator[tuple[Decision[SecurityRule | None], Layer, list[Box]]]:
        """The parts of some packets that a group may never see, and what that hangs on."""
        if isinstance(layer.filter, AdminRules):
            return
        for decision, of, box in self._perhaps.get(place.key, ()):
            if common := [part for one in packets if not (part := one & box).empty]:
                yield decision, of, common


class _Hanging(Struct):
    """What hangs on a rule that nobody can resolve."""

    decision: Decision[SecurityRule | None]
    layer: Layer
    places: dict[str, None] = {}
    packets: list[Box] = []


class _Doubts:
    """The rules of one direction that may decide something, and nobody knows."""

    def __init__(self, traffic: Traffic, direction: Direction) -> None:
        self._traffic = traffic
        self._direction = direction
        self._found: dict[tuple[str, str], _Hanging] = {}

    def add(
        self,
        place: Place,
        layer: Layer,
        decision: Decision[SecurityRule | None],
        packets: Sequence[Box],
    ) -> None:
        """Take down a doubt about a rule of a layer, unless no machine can have the addresses it is about."""
        others = self._traffic.ends(self._direction)[1]
        usable = _usable(place, others, self._direction)
        if decision.rule is not None and any(not (box & usable).empty for box in packets):
            of = layer.filter.network_id if isinstance(layer.filter, AdminRules) else layer.filter.id
            key = (resource_id.key(decision.rule.id), resource_id.key(of))
            found = self._found.setdefault(key, _Hanging(decision, layer))
            found.places[place.words] = None
            found.packets += packets

    def reasons(self) -> Iterator[Reason]:
        """One reason for each rule and filter, whatever other filters hang on it."""
        for hanging in self._found.values():
            yield _reason(self._traffic, hanging)


def _outside(packets: Sequence[Box], taken: Iterable[Box]) -> Sequence[Box]:
    """Some packets without others."""
    for box in taken:
        packets = [piece for one in packets for piece in one.split(box)[1]]
    return packets


def _decisions(
    traffic: Traffic, layer: Layer, place: Place, others: Iterable[Place], names: Names
) -> Iterator[Decision[SecurityRule | None]]:
    """What a filter does to the traffic between a place and everyone at the other end.

    Asked for each address family by itself: no packet is of both.
    """
    everyone = union(other.addresses for other in others)
    inbound = layer.direction is Direction.INBOUND
    for family in (IPV4, IPV6):
        packets = Box(
            (everyone if inbound else place.addresses) & family,
            EVERY_PORT,
            (place.addresses if inbound else everyone) & family,
            IntervalSet(((traffic.port, traffic.port),)),
        )
        if packets.empty:
            continue
        question = Question(direction=layer.direction, protocol=traffic.protocol, packets=packets)
        if isinstance(layer.filter, AdminRules):
            yield from evaluate_admin(layer.filter, question, names.at(place))
        else:
            yield from evaluate(layer.filter, question, names.at(place))


def _usable(place: Place, others: Iterable[Place], direction: Direction) -> Box:
    """What is asked, less the addresses that no machine can have."""
    far = union(other.assignable for other in others)
    inbound = direction is Direction.INBOUND
    return Box(
        far if inbound else place.assignable, EVERY_PORT, place.assignable if inbound else far, EVERY_PORT
    )


def _add(block: Block, packets: Iterable[Box], source: Place, destination: Place) -> None:
    """Take down what is denied from one place to another."""
    span = Box(source.addresses, EVERY_PORT, destination.addresses, EVERY_PORT)
    usable = Box(source.assignable, EVERY_PORT, destination.assignable, EVERY_PORT)
    denied = [part for part in (box & span for box in packets) if not (part & usable).empty]
    if not denied:
        return
    block.pairs.setdefault((source.name, destination.name), []).extend(denied)
    block.sources[source.key] = source
    block.destinations[destination.key] = destination
    block.pools.update(end.name for end in (source, destination) if end.kind == "nodes")
    for part in denied:
        froms, tos = source.nodes_in(part.sources), destination.nodes_in(part.destinations)
        if not ((froms or source.unlisted) and (tos or destination.unlisted)):
            continue
        # A node reaches its own kubelet without the network: it takes two for a broken pair.
        if len({*froms, *tos}) > 1 or source.unlisted or destination.unlisted:
            block.nodes.update(dict.fromkeys(tos if destination.kind == "nodes" else froms))
            block.now = True


def _reason(traffic: Traffic, hanging: _Hanging) -> Reason:
    rule, layer = hanging.decision.rule, hanging.layer
    doubt = hanging.decision.doubt or Doubt("unknown_rule_value", "its effect is not known")
    sources = to_prefixes(union(box.sources for box in hanging.packets))
    destinations = to_prefixes(union(box.destinations for box in hanging.packets))
    return Reason(
        code=doubt.code,
        message=(
            f'Rule "{rule.name if rule else ""}" (priority {rule.priority if rule else 0}) of {layer.words} '
            f"decides {layer.direction.lower()} {traffic.words} from {', '.join(sources)} to "
            f"{', '.join(destinations)} ({', '.join(hanging.places)}), but {doubt.why}."
        ),
        resource=rule.id if rule else None,
    )
