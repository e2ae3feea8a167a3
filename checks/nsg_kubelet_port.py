"""A network security group keeps nodes from reaching each other's kubelet on TCP 10250.

Reads: the security groups at subnet level and on the nodes' network interfaces, for
every pair of node pools, with the address space of the virtual network and its peers.

Why: the tunnel ends on a few nodes, and from there the control plane reaches every
other node's kubelet on TCP 10250. Where a security group denies that, `kubectl logs`,
`exec` and `port-forward` work only for pods that run beside the tunnel's own pods, and
admission webhooks time out: `dial tcp <node>:10250: i/o timeout`.

Fails when: some part of node-to-node TCP 10250 is denied, outbound by the source's
interface or subnet, or inbound by the destination's subnet or interface; one finding for
each rule that decides. It is a warning while no node that exists now is affected.

Unknown when: a security group or subnet could not be read, or a service tag, an
application security group or a value that nobody knows yet decides the verdict.

Not applicable when: the cluster is stopped.

Fix: allow TCP 10250 from the node subnets with a priority number lower than that of the
rule that denies it, or remove that rule. On the interface-level group, which AKS manages,
remove the rule: AKS does not support adding your own there. If nothing changes, delete
the tunnel's pods (`kubectl delete pod -n kube-system -l app=konnectivity-agent`); they
are made again at once.

Documentation: https://learn.microsoft.com/troubleshoot/azure/azure-kubernetes/connectivity/tunnel-connectivity-issues
"""

import shlex
from collections.abc import Iterator
from typing import Any, Literal, Self

from msgspec import Struct

from facts import resource_id
from facts.filters import Direction, Missing, NetworkSecurityGroup, SecurityRule
from facts.finding import Fault, Reason, Remediation, Severity, Statement, Unknown
from facts.snapshot import Cluster, NodePool, Placement, Snapshot, Subnet
from packets.addresses import (
    EVERY_PORT,
    IPV4,
    IPV6,
    IntervalSet,
    assignable,
    parse_prefix,
    parse_prefixes,
    to_prefixes,
    union,
)
from packets.boxes import Box
from packets.decisions import Decision
from packets.nsg import Question, evaluate, free_priority
from packets.tags import Tags

ID = "nsg-kubelet-port"
CAUSE = 1
SEVERITY = Severity.CRITICAL
AFFECTS = ("logs", "exec", "port-forward", "webhooks")

KUBELET = 10250
"""The kubelet's port (https://kubernetes.io/docs/reference/networking/ports-and-protocols/)."""
DOCS = (
    "https://learn.microsoft.com/troubleshoot/azure/azure-kubernetes/connectivity/tunnel-connectivity-issues"
)
_LISTED = 50
"""Nodes and pairs named in evidence; beyond that their number is given."""

Level = Literal["subnet", "interface"]


def check(snapshot: Snapshot) -> Iterator[Statement]:
    """Judge TCP 10250 between all places where nodes stand."""
    for pool in snapshot.pools:
        yield from (Unknown(reason=missing.reason) for missing in pool.missing)
    places = []
    for pool in snapshot.pools:
        for placement in pool.placements if not pool.stopped else ():
            if isinstance(placement.subnet, Missing):
                yield Unknown(reason=placement.subnet.reason)
            else:
                places.append(_Place.of(pool, placement, placement.subnet))
    if not any(pool.placements or pool.missing for pool in snapshot.pools):
        yield Unknown(
            reason=Reason(
                code="no_data", message="Azure shows no node pool of this cluster whose network can be read."
            )
        )
    seen: set[str] = set()
    layers: dict[tuple[str, str], _Layer] = {}
    for place in places:
        for level, nsg in (("interface", place.nic_nsg), ("subnet", place.subnet.nsg)):
            if isinstance(nsg, Missing):
                if resource_id.key(nsg.resource_id) not in seen:
                    seen.add(resource_id.key(nsg.resource_id))
                    yield Unknown(reason=nsg.reason)
            elif nsg is not None:
                for direction in Direction:
                    layer = layers.setdefault((resource_id.key(nsg.id), direction), _Layer(nsg, direction))
                    layer.places.append((place, "subnet" if level == "subnet" else "interface"))
    for layer in layers.values():
        yield from _judge(snapshot.cluster, layer, places)


class _Place(Struct, frozen=True):
    """A placement whose subnet is known, with what is asked of it over and over."""

    pool: NodePool
    subnet: Subnet
    nic_nsg: NetworkSecurityGroup | Missing | None
    nodes: tuple[tuple[str, IntervalSet], ...]
    """Names and addresses of the nodes that exist."""
    addresses: IntervalSet
    """The whole subnet."""
    assignable: IntervalSet
    """Those that nodes can have, now or later."""

    @classmethod
    def of(cls, pool: NodePool, placement: Placement, subnet: Subnet) -> Self:
        addresses = parse_prefixes(subnet.prefixes)
        usable = union(assignable(prefix) for prefix in subnet.prefixes)
        nodes = tuple((node.name, parse_prefixes(node.addresses)) for node in placement.nodes)
        return cls(pool, subnet, placement.nic_nsg, nodes, addresses, usable)

    def nodes_in(self, addresses: IntervalSet) -> list[str]:
        """The names of the nodes that have one of some addresses."""
        return [name for name, own in self.nodes if own & addresses]


class _Layer(Struct):
    """One direction of one security group, with the places that it guards."""

    nsg: NetworkSecurityGroup
    direction: Direction
    places: list[tuple[_Place, Level]] = []


class _Block(Struct):
    """What one rule denies, gathered over all places that its group guards."""

    rule: SecurityRule
    levels: set[Level]
    pairs: dict[tuple[str, str], list[Box]]
    pools: dict[str, None]
    nodes: dict[str, None]
    now: bool = False
    """Whether nodes that exist now cannot reach each other, or nobody could say which exist."""


def _judge(cluster: Cluster, layer: _Layer, places: list[_Place]) -> Iterator[Statement]:
    """What one direction of one security group does to the traffic of the places it guards."""
    blocks: dict[str, _Block] = {}
    doubts: dict[str, tuple[Decision[SecurityRule], list[str]]] = {}
    everyone = union(place.addresses for place in places)
    asked: dict[str, tuple[Decision[SecurityRule], ...]] = {}
    for place, level in layer.places:
        subnet = resource_id.key(place.subnet.id)
        if subnet not in asked:
            tags = _tags(place)
            asked[subnet] = tuple(
                decision
                for family in (IPV4, IPV6)
                for decision in evaluate(layer.nsg, _question(layer.direction, place, everyone, family), tags)
            )
        for decision in asked[subnet]:
            if decision.verdict == "denied":
                block = blocks.setdefault(
                    resource_id.key(decision.rule.id),
                    _Block(rule=decision.rule, levels=set(), pairs={}, pools={}, nodes={}),
                )
                block.levels.add(level)
                for other in places:
                    _add(block, decision, *_ends(layer.direction, place, other))
            elif decision.verdict == "unknown" and any(
                not (box & _usable(place, places, layer.direction)).empty for box in decision.packets
            ):
                doubts.setdefault(resource_id.key(decision.rule.id), (decision, []))[1].append(
                    place.pool.name
                )
    felt = [block for block in blocks.values() if block.pairs]
    if felt:
        allow = _allow(layer, felt, places)
        for block in felt:
            yield _fault(cluster, layer, block, allow)
    for decision, pools in doubts.values():
        yield Unknown(reason=_doubt(layer, decision, pools))


def _question(direction: Direction, place: _Place, everyone: IntervalSet, family: IntervalSet) -> Question:
    """The traffic between a place and everyone, of one address family: no packet is of both."""
    inbound = direction is Direction.INBOUND
    return Question(
        direction=direction,
        protocol="tcp",
        packets=Box(
            (everyone if inbound else place.addresses) & family,
            EVERY_PORT,
            (place.addresses if inbound else everyone) & family,
            IntervalSet(((KUBELET, KUBELET),)),
        ),
    )


def _usable(place: _Place, places: list[_Place], direction: Direction) -> Box:
    """What is asked, less the addresses that no node can have."""
    others = union(other.assignable for other in places)
    inbound = direction is Direction.INBOUND
    return Box(
        others if inbound else place.assignable,
        EVERY_PORT,
        place.assignable if inbound else others,
        EVERY_PORT,
    )


def _tags(place: _Place) -> Tags:
    network = place.subnet.network
    return Tags.of_network((*network.prefixes, *network.peered_prefixes, *place.subnet.prefixes))


def _ends(direction: Direction, guarded: _Place, other: _Place) -> tuple[_Place, _Place]:
    """Source and destination of the traffic between a guarded place and another."""
    return (other, guarded) if direction is Direction.INBOUND else (guarded, other)


def _add(block: _Block, decision: Decision[SecurityRule], source: _Place, destination: _Place) -> None:
    """Take down what a decision denies from one place to another."""
    span = Box(source.addresses, EVERY_PORT, destination.addresses, EVERY_PORT)
    usable = Box(source.assignable, EVERY_PORT, destination.assignable, EVERY_PORT)
    denied = [part for part in (box & span for box in decision.packets) if not (part & usable).empty]
    if not denied:
        return
    block.pairs.setdefault((source.pool.name, destination.pool.name), []).extend(denied)
    block.pools.update({source.pool.name: None, destination.pool.name: None})
    for part in denied:
        froms, tos = source.nodes_in(part.sources), destination.nodes_in(part.destinations)
        # A node reaches its own kubelet without the network: it takes two for a broken pair.
        if froms and tos and len({*froms, *tos}) > 1:
            block.nodes.update(dict.fromkeys(tos))
            block.now = True
    if _unlisted(source) or _unlisted(destination):
        block.now = True


def _unlisted(place: _Place) -> bool:
    """Whether nodes may stand there that could not be listed."""
    if place.pool.missing:
        return not place.nodes
    return place.pool.count != 0 and not any(one.nodes for one in place.pool.placements)


def _fault(cluster: Cluster, layer: _Layer, block: _Block, allow: Remediation) -> Fault:
    rule, nsg = block.rule, layer.nsg
    sources, destinations = _reach(block)
    way = layer.direction.lower()
    levels = " and ".join(sorted(block.levels))
    to_pools = sorted({to for _, to in block.pairs})
    nodes = list(block.nodes)
    pool_words = f"node pool{'s' * (len(to_pools) > 1)} {', '.join(to_pools)}"
    now = (
        f"{len(nodes)} node{'s' * (len(nodes) != 1)} cannot be reached now"
        if nodes
        else "Nodes there cannot be reached"
        if block.now
        else "No node that exists now is affected, but nodes that are added will be"
    )
    return Fault(
        subject=resource_id.key(rule.id),
        title=f'NSG "{nsg.name}" rule "{rule.name}" denies TCP {KUBELET} {way} to {pool_words}',
        detail=(
            f'Rule "{rule.name}" (priority {rule.priority}) of network security group "{nsg.name}", '
            f"at {levels} level, denies {way} TCP {KUBELET} from {', '.join(sources)} to "
            f"{', '.join(destinations)}. {now}. The tunnel can reach the kubelet of a node only from itself "
            "or from where the rule does not apply, so logs, exec, port-forward and webhooks time out."
        ),
        resource=rule.id,
        severity=None if block.now else Severity.WARNING,
        evidence={
            "protocol": "TCP",
            "port": KUBELET,
            "layer": f"{levels} {way}",
            "nsg": nsg.id,
            "rule": _as_written(rule),
            "pools": sorted(block.pools),
            "nodes": nodes[:_LISTED],
            "nodeCount": len(nodes),
            "pairs": [
                {
                    "from": source,
                    "to": destination,
                    "sources": to_prefixes(union(box.sources for box in boxes)),
                    "destinations": to_prefixes(union(box.destinations for box in boxes)),
                }
                for (source, destination), boxes in list(block.pairs.items())[:_LISTED]
            ],
            "pairCount": len(block.pairs),
        },
        remediation=_remediation(cluster, layer, block, allow),
    )


def _reach(block: _Block) -> tuple[tuple[str, ...], tuple[str, ...]]:
    boxes = [box for pair in block.pairs.values() for box in pair]
    return to_prefixes(union(box.sources for box in boxes)), to_prefixes(
        union(box.destinations for box in boxes)
    )


def _as_written(rule: SecurityRule) -> dict[str, Any]:
    """The rule in ARM's own words."""
    written = {
        "name": rule.name,
        "priority": rule.priority,
        "direction": rule.direction,
        "access": rule.access,
        "protocol": rule.protocol,
        "sourceAddressPrefixes": rule.sources,
        "sourceApplicationSecurityGroups": rule.source_groups,
        "sourcePortRanges": rule.source_ports,
        "destinationAddressPrefixes": rule.destinations,
        "destinationApplicationSecurityGroups": rule.destination_groups,
        "destinationPortRanges": rule.destination_ports,
    }
    return {name: value for name, value in written.items() if value != ()}


def _remediation(
    cluster: Cluster, layer: _Layer, block: _Block, allow: Remediation
) -> tuple[Remediation, ...]:
    """The ways to mend it, the one to prefer first."""
    if block.rule.default:
        return (allow,)
    remove = Remediation(
        summary=f'Remove the rule "{block.rule.name}", if nothing else needs it.',
        commands=(_az("network nsg rule delete", [*_group(layer), "--name", block.rule.name]),),
        docs=DOCS,
    )
    own = resource_id.parse(layer.nsg.id).resource_group
    managed = own.lower() == cluster.node_resource_group.lower()
    if not managed or "interface" not in block.levels:
        return (allow, remove)
    caution = Remediation(
        summary=(
            f"{allow.summary} AKS manages this group and may undo the change; "
            "to keep a restriction, put it into a security group on the subnet instead."
        ),
        commands=allow.commands,
        docs="https://learn.microsoft.com/azure/aks/concepts-security#azure-network-security-groups",
    )
    return (remove, caution)


def _group(layer: _Layer) -> list[str]:
    """The arguments that name a security group to the CLI."""
    nsg = resource_id.parse(layer.nsg.id)
    return [
        *("--subscription", nsg.subscription_id),
        *("--resource-group", nsg.resource_group),
        *("--nsg-name", layer.nsg.name),
    ]


def _allow(layer: _Layer, blocks: list[_Block], places: list[_Place]) -> Remediation:
    """The rules that let the nodes reach each other, above every rule of their group that denies it.

    One for each address family that is blocked: Azure refuses a rule that mixes them.
    """
    ceiling = min(block.rule.priority for block in blocks)
    families = [
        (suffix, family)
        for suffix, family in (("", IPV4), ("IPv6", IPV6))
        if any(box.sources & family for block in blocks for pair in block.pairs.values() for box in pair)
    ]
    summary = f"Allow TCP {KUBELET} between the node subnets, above the rule that denies it."
    commands = []
    free = _free(layer, ceiling, len(families))
    if len(free) < len(families):
        # Too little is free above the deny: it has to make room itself.
        same_way = {
            rule.priority: rule
            for rule in layer.nsg.rules
            if rule.direction.lower() == layer.direction.lower()
        }
        lower = next((number for number in range(ceiling + 1, 4097) if number not in same_way), None)
        free = [ceiling, *free]
        if lower is None or len(free) < len(families):
            return Remediation(
                summary=(
                    f"Allow TCP {KUBELET} between the node subnets. "
                    f"{'Too few priorities are' if free[1:] else 'No priority is'} free in "
                    f'"{layer.nsg.name}": remove a rule first.'
                ),
                docs=DOCS,
            )
        moved = same_way[ceiling]
        summary += f' No lower number is free, so "{moved.name}" moves to {lower} first.'
        if lower > ceiling + 1:
            summary += " The rules in between then come before it: look at what they allow."
        commands.append(
            _az(
                "network nsg rule update",
                [*_group(layer), "--name", moved.name, "--priority", str(lower)],
            )
        )
    names = {rule.name.lower() for rule in layer.nsg.rules}
    for (suffix, family), priority in zip(families, free, strict=False):
        name = f"AllowKubelet{layer.direction}{suffix}"
        if name.lower() in names:
            name = f"{name}{priority}"
        commands.append(_create(layer, name, priority, *_subnets(blocks, places, family)))
    return Remediation(summary=summary, commands=tuple(commands), docs=DOCS)


def _free(layer: _Layer, below: int, wanted: int) -> list[int]:
    """Free priority numbers under one, highest first: as many as are wanted, or all there are."""
    free: list[int] = []
    while len(free) < wanted and (number := free_priority(layer.nsg, layer.direction, below)) is not None:
        free.append(number)
        below = number
    return free


def _create(layer: _Layer, name: str, priority: int, sources: list[str], destinations: list[str]) -> str:
    """The command that makes one allow rule."""
    return _az(
        "network nsg rule create",
        [
            *_group(layer),
            *("--name", name),
            *("--priority", str(priority)),
            *("--direction", layer.direction),
            *("--access", "Allow"),
            *("--protocol", "Tcp"),
            *("--source-address-prefixes", *sources),
            *("--source-port-ranges", "*"),
            *("--destination-address-prefixes", *destinations),
            *("--destination-port-ranges", str(KUBELET)),
        ],
    )


def _subnets(blocks: list[_Block], places: list[_Place], family: IntervalSet) -> tuple[list[str], list[str]]:
    """The prefixes of one family of the subnets at both ends of what is blocked."""
    pairs = [pair for block in blocks for pair in block.pairs]
    froms, tos = {source for source, _ in pairs}, {destination for _, destination in pairs}
    return _prefixes(froms, places, family), _prefixes(tos, places, family)


def _prefixes(pools: set[str], places: list[_Place], family: IntervalSet) -> list[str]:
    """The subnet prefixes of some pools, each once."""
    return list(
        dict.fromkeys(
            prefix
            for place in places
            if place.pool.name in pools
            for prefix in place.subnet.prefixes
            if parse_prefix(prefix) & family
        )
    )


def _az(command: str, arguments: list[str]) -> str:
    return f"az {command} {' '.join(shlex.quote(argument) for argument in arguments)}"


def _doubt(layer: _Layer, decision: Decision[SecurityRule], pools: list[str]) -> Reason:
    doubt = decision.doubt
    return Reason(
        code=doubt.code if doubt else "unknown_rule_value",
        message=(
            f'Rule "{decision.rule.name}" (priority {decision.rule.priority}) of network security group '
            f'"{layer.nsg.name}" decides {layer.direction.lower()} TCP {KUBELET} from '
            f"{', '.join(to_prefixes(decision.sources))} to {', '.join(to_prefixes(decision.destinations))} "
            f"(node pool {', '.join(dict.fromkeys(pools))}), "
            f"but {doubt.why if doubt else 'its effect is not known'}."
        ),
        resource=decision.rule.id,
    )
