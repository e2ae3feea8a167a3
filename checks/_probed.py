"""What probes saw on nodes, as the checks that judge it need it: by node and pool, and what was not seen."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from checks._kubelet import KUBELET, kubelet_traffic
from checks._places import Place, all_stopped, readable
from checks._remedies import az
from facts import resource_id
from facts.filters import Missing
from facts.finding import NotApplicable, Reason, Remediation, Statement, Unknown
from facts.probes import NodeReport, Reach
from facts.snapshot import Node, NodePool, Snapshot
from packets.addresses import EVERY_PORT, IPV4, IPV6, NOTHING, IntervalSet, union
from packets.boxes import Box

POLICY_DOCS = "https://learn.microsoft.com/azure/aks/support-policies"
POLICY = (
    "AKS supports no changes to single nodes, which are lost when a node is replaced or its image upgraded: "
    "read its support policy first, and find out what set the firewall up (a DaemonSet, an extension, "
    "a person)."
)
"""What to know before a node's firewall is touched
(https://learn.microsoft.com/azure/aks/support-policies#user-responsibilities-for-aks-cluster-and-node-operations)."""
ENDED = {"refused": "refused", "timeout": "timed out", "unreachable": "found no way"}
"""How a connection that failed ended, in words."""
COMMANDED = 10
"""Nodes for which commands are written out; beyond that they are named in the evidence."""


class Probed(Struct, frozen=True):
    """A node and what it reported."""

    pool: NodePool
    node: Node
    report: NodeReport

    @property
    def addresses(self) -> IntervalSet:
        """The node's own addresses."""
        return own_addresses(self.node)

    def named(self, **more: Any) -> dict[str, Any]:
        """The node as evidence names it, with more about it."""
        return {
            "name": self.node.name,
            "machineId": self.node.machine_id,
            "probedAt": self.report.taken_at,
            **{field: value for field, value in more.items() if value not in (None, "", (), [])},
        }


class Sources(Struct, frozen=True):
    """Wherever the tunnel's traffic to a kubelet may come from."""

    places: tuple[Place, ...]

    def to(self, node: Probed) -> IntervalSet:
        """The subnets that traffic to a node may come from, of its own address families."""
        mine = node.addresses
        # A node whose addresses nobody knows may have one of either family.
        families = (IPV4 if mine & IPV4 or not mine else NOTHING) | (
            IPV6 if mine & IPV6 or not mine else NOTHING
        )
        return union(place.addresses for place in self.places) & families

    def matter(self, addresses: IntervalSet, node: Probed) -> bool:
        """Whether a machine other than the node itself can have one of some addresses."""
        return any((place.assignable - node.addresses) & addresses for place in self.places)

    def now(self, addresses: IntervalSet) -> bool:
        """Whether a machine that exists now, or may exist unseen, has one of some addresses."""
        return any(
            place.nodes_in(addresses) or (place.unlisted and place.assignable & addresses)
            for place in self.places
        )


def look(snapshot: Snapshot) -> tuple[list[Probed], Sources, list[Statement]]:
    """The nodes that reported, where traffic to them comes from, and all that could not be seen.

    Where no node can be asked at all there is one statement alone.
    """
    traffic, unread = kubelet_traffic(snapshot)
    sources = Sources(traffic.sources)
    running = [pool for pool in snapshot.pools if not pool.stopped]
    linux = [pool for pool in running if pool.os_type.lower() != "windows"]
    if stopped := all_stopped(snapshot):
        return [], sources, [stopped]
    if running and not linux:
        return [], sources, [_no_linux("Every node pool of the cluster runs Windows.")]
    if not running:
        return (
            [],
            sources,
            [_no_linux("Azure shows no node pool of this cluster: its nodes are Microsoft's.")],
        )
    if isinstance(snapshot.probes, Missing):
        return [], sources, [Unknown(reason=snapshot.probes.reason)]
    machines = {resource_id.key(node.machine_id): (pool, node) for pool in linux for node in _nodes(pool)}
    probed = [
        Probed(*machines[machine], report)
        for report in snapshot.probes.reports
        if (machine := resource_id.key(report.machine_id)) in machines
    ]
    unseen = [
        missing for missing in snapshot.probes.unread if resource_id.key(missing.resource_id) in machines
    ]
    statements: list[Statement] = [*unread]
    statements += [Unknown(reason=missing.reason) for missing in unseen]
    seen = {one.pool.name for one in probed}
    tried = {machines[resource_id.key(missing.resource_id)][0].name for missing in unseen}
    for pool in linux:
        if pool.name not in seen | tried and pool.count != 0 and not pool.missing:
            message = f'No node of node pool "{pool.name}" has been probed yet.'
            statements.append(Unknown(reason=Reason(code="no_data", message=message)))
    return probed, sources, statements


def pool_key(snapshot: Snapshot, pool: NodePool) -> str:
    """What findings about a pool's nodes are known by: the agent pool's id."""
    return f"{snapshot.cluster.ref.id}/agentPools/{pool.name}"


def own_addresses(node: Node) -> IntervalSet:
    """The addresses of a node that can be read."""
    return readable(node.addresses)


def on_node(node: Node, script: str) -> str:
    """The command line that runs something on a node, as the runbook has it."""
    parts = resource_id.parse(node.machine_id)
    where = ("--subscription", parts.subscription_id, "--resource-group", parts.resource_group)
    what = ("--command-id", "RunShellScript", "--scripts", script)
    out = ("--output", "tsv", "--query", "value[0].message")
    if len(parts.names) > 1:
        instance = ("--name", parts.names[0], "--instance-id", parts.names[1])
        return az("vmss run-command invoke", *where, *instance, *what, *out)
    return az("vm run-command invoke", *where, "--name", parts.name, *what, *out)


def remedy(summary: str, scripts: Iterable[tuple[Node, str]]) -> Remediation:
    """Something to run on some nodes, with the caution that AKS's support policy asks for."""
    commands = tuple(on_node(node, script) for node, script in scripts)
    return Remediation(summary=f"{summary} {POLICY}", commands=commands[:COMMANDED], docs=POLICY_DOCS)


def unreadable(node: Node, what: str, error: ValueError) -> Unknown:
    """What to say of a node's output that nobody can read."""
    message = f'What node "{node.name}" printed of {what} could not be understood: {error}.'
    return Unknown(reason=Reason(code="malformed_answer", message=message, resource=node.machine_id))


def plural(count: int, word: str) -> str:
    """`1 node`, `3 nodes`."""
    return f"{count} {word}{'s' * (count != 1)}"


def few(words: Sequence[str], count: int = 5) -> str:
    """The first of several words, and whether there are more."""
    return ", ".join(words[:count]) + (" …" if len(words) > count else "")


class Try(Struct, frozen=True):
    """A connection that a probe tried to another node's kubelet."""

    source: Probed
    pool: NodePool
    """Of the node that was tried."""
    node: Node
    reach: Reach

    @property
    def failed(self) -> bool:
        """Whether it did not come through."""
        return self.reach.answer in ENDED

    @property
    def packets(self) -> Box:
        """What it was made of: from the node's address of the same family, and whatever port."""
        v6 = ":" in self.reach.address
        mine = next((own for own in self.source.node.addresses if (":" in own) == v6), "")
        return Box(
            readable((mine,)),
            EVERY_PORT,
            readable((self.reach.address,)),
            IntervalSet(((KUBELET, KUBELET),)),
        )

    @property
    def subnets(self) -> tuple[str, str]:
        """The keys of the subnets that it went between, as far as they are known."""
        return _subnet(self.source.pool, self.source.node), _subnet(self.pool, self.node)


def tries_of(snapshot: Snapshot, probed: Sequence[Probed]) -> tuple[list[Try], list[Unknown]]:
    """The connections that were tried to nodes that exist, and those whose outcome nobody knows."""
    by_address = {
        number: (pool, node)
        for pool in snapshot.pools
        if not pool.stopped and pool.os_type.lower() != "windows"
        for node in _nodes(pool)
        for address in node.addresses
        for number, _ in readable((address,)).intervals
    }
    tries, untold = [], []
    for one in probed:
        for reach in one.report.reach:
            number = next((low for low, _ in readable((reach.address,)).intervals), -1)
            pool, node = by_address.get(number, (None, None))
            if pool is None or node is None or node.machine_id == one.node.machine_id:
                continue
            then = one.report.asked.get(reach.address)
            if then is not None and resource_id.key(then) != resource_id.key(node.machine_id):
                # Another machine had the address when it was tried.
                continue
            if reach.answer == "error":
                message = (
                    f'Node "{one.node.name}" could not try TCP {KUBELET} of {node.name} ({reach.address}): '
                    f"{reach.said or 'it did not say why'}."
                )
                reason = Reason(code="probe_failed", message=message, resource=one.node.machine_id)
                untold.append(Unknown(reason=reason))
            else:
                tries.append(Try(one, pool, node, reach))
        answered = {reach.address for reach in one.report.reach}
        if late := [address for address in one.report.asked if address not in answered]:
            message = (
                f'Node "{one.node.name}" had no time left to try TCP {KUBELET} of {few(late)}: its probe has '
                "a deadline."
            )
            reason = Reason(code="timeout", message=message, resource=one.node.machine_id)
            untold.append(Unknown(reason=reason))
    return tries, untold


def reached(probed: Sequence[Probed], node: Node) -> bool | None:
    """Whether other nodes' connections to a node came through; None if none was tried or some did."""
    mine = own_addresses(node)
    answers = {
        reach.answer == "open"
        for one in probed
        for reach in one.report.reach
        if reach.answer != "error" and readable((reach.address,)) & mine
    }
    return answers.pop() if len(answers) == 1 else None


def _no_linux(words: str) -> NotApplicable:
    return NotApplicable(reason=Reason(code="no_linux_nodes", message=f"{words} There is nothing to probe."))


def _nodes(pool: NodePool) -> Iterator[Node]:
    for placement in pool.placements:
        yield from placement.nodes


def _subnet(pool: NodePool, node: Node) -> str:
    for placement in pool.placements:
        if any(own.machine_id == node.machine_id for own in placement.nodes):
            subnet = placement.subnet
            return resource_id.key(subnet.resource_id if isinstance(subnet, Missing) else subnet.id)
    return ""
