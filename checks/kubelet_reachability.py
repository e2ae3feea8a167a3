"""From a node another node's kubelet does not answer on TCP 10250.

Reads: what probes on some nodes of each pool saw when they tried to connect to TCP 10250 of other
nodes (`nc -w 2 <node> 10250`), and all that the other checks know of what may stand in the way: admin
rules, network security groups, UFW, iptables and nftables of the node that did not answer.

Why: the tunnel ends on a few nodes, and from there the control plane reaches every other node's
kubelet on TCP 10250. A node that others cannot reach is one whose pods have no `kubectl logs`,
`exec` and `port-forward`, and whose webhooks time out: `dial tcp <node>:10250: i/o timeout`.

Fails when: a connection was refused, timed out, or found no way; one finding for each node pool
whose nodes did not answer. It says who could not reach whom, what the pattern points to (all to
one node: that node's firewall; from one node to all: that node; across two subnets only: a network
security group), and which static finding explains it. Where everything that was read allows the
connection and it fails all the same, it says so: then look where no configuration is read, at the
kubelet itself, a network policy, a network appliance, the node's health.

Unknown when: nodes are not probed (NODE_PROBES), a node did not answer or was busy, or a connection
could not be tried.

Not applicable when: the cluster or every node pool is stopped, no node pool runs Linux, or there is
one node alone, which nobody can try from.

Fix: what the finding names; the same test by hand is
`az vmss run-command invoke … --scripts "nc -v -w 2 <node> 10250"`. If nothing changes, delete the
tunnel's pods (`kubectl delete pod -n kube-system -l app=konnectivity-agent`).

Documentation: https://learn.microsoft.com/troubleshoot/azure/azure-kubernetes/connectivity/tunnel-connectivity-issues
"""

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from checks._kubelet import DOCS, KUBELET, kubelet_traffic
from checks._node_firewall import Guard, guard
from checks._places import Names
from checks._probed import ENDED, Probed, Sources, Try, few, look, on_node, plural, pool_key, tries_of
from checks._security import Block, judge
from facts import resource_id
from facts.finding import Fault, NotApplicable, Reason, Remediation, Severity, Statement, Unknown
from facts.snapshot import Node, Snapshot

ID = "kubelet-reachability"
CAUSE = 1
SEVERITY = Severity.CRITICAL
AFFECTS = ("logs", "exec", "port-forward", "webhooks")

_PAIRS = 50
"""Pairs named in evidence; beyond that their number is given."""


class _Cause(Struct, frozen=True):
    """What explains that some connections failed."""

    key: str
    """What it is told from others by."""
    words: str
    evidence: dict[str, Any]
    number: int | None
    """The cause of the runbook."""


_UNEXPLAINED = "unexplained"


def check(snapshot: Snapshot) -> Iterator[Statement]:
    """Find out who could not reach whom, and what explains it."""
    probed, sources, statements = look(snapshot)
    yield from statements
    tries, untold = tries_of(snapshot, probed)
    yield from untold
    if not probed:
        return
    if not tries:
        yield _nobody_tried(snapshot, probed)
        return
    broken = [one for one in tries if one.failed]
    if not broken:
        return
    explain = _Explain(snapshot, probed, sources)
    # One finding for a pool: what explains it hangs on which nodes happened to be probed.
    by_pool: dict[str, list[tuple[Try, _Cause]]] = {}
    for one in broken:
        by_pool.setdefault(one.pool.name, []).append((one, explain.cause(one)))
    for failed in by_pool.values():
        unexplained = [one for one, cause in failed if cause.key == _UNEXPLAINED]
        yield _fault(snapshot, failed, tries, unread=explain.unread(unexplained))


class _Explain:
    """What static analysis says of single connections."""

    def __init__(self, snapshot: Snapshot, probed: Sequence[Probed], sources: Sources) -> None:
        traffic, _ = kubelet_traffic(snapshot)
        judged = judge(traffic, Names(snapshot))
        self._blocks = judged.blocks
        self._doubts = judged.unknown
        self._sources = sources
        self._nodes = {resource_id.key(one.node.machine_id): one for one in probed}
        self._guards: dict[str, Guard] = {}

    def cause(self, one: Try) -> _Cause:
        """What explains that a connection failed: security rules, the first on the way, or the node."""
        packets = one.packets
        for block in self._blocks:
            if any(not (box & packets).empty for box in block.boxes):
                return _by_rule(block)
        there = self._guard(one.node)
        if there is not None and (found := there.against(packets.sources)):
            return _Cause(
                key=found.check,
                words=f"{found.words}, on the node itself (see {found.check})",
                evidence={"check": found.check, "rule": found.rule},
                number=found.cause,
            )
        return _Cause(key=_UNEXPLAINED, words="", evidence={}, number=None)

    def unread(self, failed: Sequence[Try]) -> list[str]:
        """What could not be looked at of all that may explain some connections."""
        words = [unknown.reason.message for unknown in self._doubts]
        for node in {one.node.machine_id: one.node for one in failed}.values():
            there = self._guard(node)
            words += there.unread if there else [f'The firewall of node "{node.name}" was not looked at.']
        return list(dict.fromkeys(words))

    def _guard(self, node: Node) -> Guard | None:
        machine = resource_id.key(node.machine_id)
        if machine not in self._nodes:
            return None
        if machine not in self._guards:
            self._guards[machine] = guard(self._nodes[machine], self._sources)
        return self._guards[machine]


def _by_rule(block: Block) -> _Cause:
    return _Cause(
        key=resource_id.key(block.rule.id),
        words=f'rule "{block.rule.name}" of {block.layer.words} (see nsg-kubelet-port)',
        evidence={"check": "nsg-kubelet-port", "rule": block.rule.id},
        number=1,
    )


def _fault(
    snapshot: Snapshot, found: list[tuple[Try, _Cause]], tries: Sequence[Try], *, unread: list[str]
) -> Fault:
    failed = [one for one, _ in found]
    causes = {cause.key: cause for _, cause in found if cause.key != _UNEXPLAINED}
    unexplained = [one for one, cause in found if cause.key == _UNEXPLAINED]
    pool = failed[0].pool
    targets = {one.node.machine_id: one.node for one in failed}
    sources = {one.source.node.machine_id: one.source for one in failed}
    names = few([node.name for node in targets.values()])
    how = " and ".join(dict.fromkeys(ENDED[one.reach.answer] for one in failed))
    pattern = _pattern(failed, tries)
    numbers = {cause.number for cause in causes.values()}
    detail = (
        f"Connections to TCP {KUBELET} of {names} {how} from "
        f"{few([one.node.name for one in sources.values()])} ({plural(len(failed), 'pair')}). {pattern} "
    )
    if causes:
        detail += f"What explains {'some of ' * bool(unexplained)}it is "
        detail += f"{'; '.join(cause.words for cause in causes.values())}. "
    if unexplained:
        detail += _contradiction(unread, rest=bool(causes))
    told = not unexplained or unread
    return Fault(
        subject=f"{pool_key(snapshot, pool)}/unreachable",
        title=(
            f"TCP {KUBELET} of {plural(len(targets), 'node')} of node pool {pool.name} does not answer others"
            + ("" if told else ", though all that was read allows it")
        ),
        detail=detail.strip(),
        resource=pool_key(snapshot, pool),
        cause=numbers.pop() if len(numbers) == 1 else None,
        confidence="observed",
        evidence={
            "port": KUBELET,
            "pool": pool.name,
            "pairs": [_pair(one) for one in failed[:_PAIRS]],
            "pairCount": len(failed),
            "triedCount": len([one for one in tries if one.pool.name == pool.name]),
            "pattern": pattern,
            "explainedBy": [cause.evidence for cause in causes.values()],
            "unexplainedCount": len(unexplained),
            "notRead": unread[:10],
            "nodes": [
                *({"name": node.name, "machineId": node.machine_id} for node in targets.values()),
                *(one.named() for machine, one in sources.items() if machine not in targets),
            ],
        },
        remediation=_remedies(list(causes.values()), failed[0], unexplained),
    )


def _contradiction(unread: list[str], *, rest: bool) -> str:
    """What to say of connections that nothing explains."""
    what = "the rest" if rest else "it"
    if unread:
        said = " ".join(unread[:3])
        return f"Nothing that could be read explains {what}, but not everything could be: {said}"
    return (
        f"Everything that was read allows {what}: admin rules, security groups, UFW, iptables and nftables "
        "of the node. So look where no configuration tells: whether the kubelet runs and listens (on the "
        f"node: `ss -ltn sport = :{KUBELET}`, `systemctl status kubelet`), network policies on host "
        "endpoints, appliances between the subnets, the node's own health."
    )


def _remedies(causes: list[_Cause], first: Try, unexplained: list[Try]) -> tuple[Remediation, ...]:
    test = on_node(first.source.node, f"nc -v -w 2 {first.reach.address} {KUBELET}")
    remedies = []
    if causes:
        checks = " and ".join(sorted({cause.evidence["check"] for cause in causes}))
        remedies.append(
            Remediation(
                summary=f"Mend what {checks} found, then try again from a node that failed.",
                commands=(test,),
                docs=DOCS,
            )
        )
    if unexplained:
        kubelet = f"ss -ltn 'sport = :{KUBELET}'; systemctl --no-pager status kubelet | head -n 20"
        target = unexplained[0].node
        remedies.append(
            Remediation(
                summary="Try it by hand, then look at the kubelet of the node that does not answer.",
                commands=(test, *([on_node(target, kubelet)] if target.machine_id else [])),
                docs=DOCS,
            )
        )
    return tuple(remedies)


def _pattern(failed: Sequence[Try], tries: Sequence[Try]) -> str:
    """What the pairs that failed have in common, and what that points to."""
    targets = {one.node.machine_id: one.node for one in failed}
    sources = {one.source.node.machine_id: one.source.node for one in failed}
    worked = [one for one in tries if not one.failed]
    whole = not any(one.node.machine_id in targets for one in worked)
    mute = not any(one.source.node.machine_id in sources for one in worked)
    ways = {one.subnets for one in failed}
    if not worked:
        return "No connection came through at all, between any nodes that were probed."
    if len(sources) == 1 and mute and len(targets) > 1:
        name = next(iter(sources.values())).name
        return f"One node, {name}, reaches nobody, and others do: look at what it may send."
    if whole and len(targets) == 1:
        return "Nobody who tried reaches this one node: that is what its own firewall, or its kubelet, does."
    if all(source != target for source, target in ways) and not any(one.subnets in ways for one in worked):
        return (
            f"What fails goes from one subnet to another ({plural(len(ways), 'way')}), and other connections "
            "come through: that is what a security group or a route does."
        )
    if whole:
        return "Nobody who tried reaches these nodes, and others of the cluster answer."
    return "Some nodes reach them and some do not."


def _pair(one: Try) -> dict[str, str]:
    pair = {
        "from": one.source.node.name,
        "fromMachine": one.source.node.machine_id,
        "to": one.node.name,
        "toMachine": one.node.machine_id,
        "address": one.reach.address,
        "answer": one.reach.answer,
    }
    return pair | ({"said": one.reach.said} if one.reach.said else {})


def _nobody_tried(snapshot: Snapshot, probed: Sequence[Probed]) -> Statement:
    nodes = [
        node
        for pool in snapshot.pools
        if not pool.stopped and pool.os_type.lower() != "windows"
        for placement in pool.placements
        for node in placement.nodes
    ]
    if len(nodes) == 1:
        message = "There is one node alone, and no other to try from."
        return NotApplicable(reason=Reason(code="single_node", message=message))
    message = f"No connection was tried by {few([one.node.name for one in probed])}: the time ran out first."
    return Unknown(reason=Reason(code="no_data", message=message))
