"""UFW on a node keeps others from its kubelet on TCP 10250.

Reads: `ufw status verbose` of the nodes that were probed, and the addresses from which the tunnel
may come: the subnets of all node pools, where pods have addresses of the network their subnets,
and with API server VNet integration the API server's.

Why: Ubuntu nodes of AKS come with UFW installed and switched off. Switched on, it turns away
whatever it was not told to allow, TCP 10250 and SSH included, and then `kubectl logs`, `exec`,
`port-forward` and admission webhooks time out for everything on that node.

Fails when: UFW is active, and its rules or its default policy turn away TCP 10250 from some part of
those addresses; one finding for each node pool, with the nodes in it. It is a warning where UFW
limits the rate (LIMIT: six connections in 30 seconds from one address are too many for a tunnel), and
while no machine has an address that is turned away.

Unknown when: nodes are not probed (NODE_PROBES), a node did not answer or was busy, or the status
cannot be read, or a rule that nobody can resolve decides (an application profile, say).

Not applicable when: the cluster or every node pool is stopped, or no node pool runs Linux.

Fix: allow the port, `ufw allow 10250`, or switch UFW off, `ufw disable`, through run-command, since SSH
may be blocked too. Mind the AKS support policy: changes to single nodes are not supported and not
lasting. If nothing changes, delete the tunnel's pods
(`kubectl delete pod -n kube-system -l app=konnectivity-agent`).

Documentation: https://learn.microsoft.com/troubleshoot/azure/azure-kubernetes/connectivity/tunnel-connectivity-issues
"""

from collections.abc import Iterator

from msgspec import Struct

from checks._kubelet import KUBELET
from checks._node_firewall import judge_ufw
from checks._probed import Probed, Sources, few, look, plural, pool_key, reached, remedy, unreadable
from facts.filters import Missing
from facts.finding import Fault, Reason, Severity, Statement, Unknown
from facts.snapshot import Snapshot
from packets.addresses import IntervalSet, to_prefixes, union
from packets.decisions import Decision
from packets.dumps.ufw import read_ufw_status
from packets.ufw import RATE_LIMITED, Side, UfwRule

ID = "ufw-kubelet-port"
CAUSE = 2
SEVERITY = Severity.CRITICAL
AFFECTS = ("logs", "exec", "port-forward", "webhooks")


class _Turned(Struct, frozen=True):
    """What UFW of one node turns away, or lets through at a low rate."""

    probed: Probed
    decisions: tuple[Decision[UfwRule | None], ...]

    @property
    def sources(self) -> IntervalSet:
        """The addresses that are turned away, or limited."""
        return union(decision.sources for decision in self.decisions)

    @property
    def rules(self) -> list[str]:
        """The rules that decide, as `ufw status` writes them, or the policy."""
        return [one.rule.written if one.rule else "default (incoming)" for one in self.decisions]


def check(snapshot: Snapshot) -> Iterator[Statement]:
    """Judge TCP 10250 from wherever the tunnel may come, by the UFW of each node that was probed."""
    probed, sources, statements = look(snapshot)
    yield from statements
    denied: dict[str, list[_Turned]] = {}
    limited: dict[str, list[_Turned]] = {}
    for one in probed:
        try:
            decisions = judge_ufw(one, sources)
        except ValueError as error:
            yield unreadable(one.node, "`ufw status verbose`", error)
            continue
        if isinstance(decisions, Missing):
            yield Unknown(reason=decisions.reason)
            continue
        refused = tuple(each for each in decisions if each.verdict == "denied")
        slowed = tuple(each for each in decisions if each.doubt and each.doubt.code == RATE_LIMITED)
        if refused:
            denied.setdefault(one.pool.name, []).append(_Turned(one, refused))
        elif slowed:
            limited.setdefault(one.pool.name, []).append(_Turned(one, slowed))
        for each in decisions:
            if each.verdict == "unknown" and each not in slowed:
                yield _unknown(one, each)
    for nodes in denied.values():
        yield _fault(snapshot, nodes, probed, sources, limits=False)
    for nodes in limited.values():
        yield _fault(snapshot, nodes, probed, sources, limits=True)


def _fault(
    snapshot: Snapshot, nodes: list[_Turned], probed: list[Probed], sources: Sources, *, limits: bool
) -> Fault:
    first, pool = nodes[0], nodes[0].probed.pool
    count = plural(len(nodes), "node")
    away = union(one.sources for one in nodes)
    there = sources.now(away)
    key = pool_key(snapshot, pool)
    unreached = [one for one in nodes if reached(probed, one.probed.node) is False]
    does = "limits" if limits else "blocks"
    rules = "; ".join(dict.fromkeys(rule for one in nodes for rule in one.rules))
    names = few([one.probed.node.name for one in nodes])
    detail = (
        f"UFW is active on {count} of node pool {pool.name} ({names}) and {does} TCP {KUBELET} from "
        f"{few(to_prefixes(away))}, by: {rules}. "
    )
    if limits:
        detail += (
            "A source that tries to open six connections within 30 seconds is turned away, as a busy tunnel "
            "does, so that logs, exec and webhooks fail now and then."
        )
    else:
        detail += "Logs, exec, port-forward and webhooks time out for what runs there."
        if not there:
            detail += " No machine has one of these addresses now."
    return Fault(
        subject=f"{key}/{'limited' if limits else 'blocked'}",
        title=f"UFW {does} TCP {KUBELET} on {count} of node pool {pool.name}",
        detail=detail,
        resource=key,
        severity=Severity.WARNING if limits or not there else None,
        confidence="observed" if unreached else "derived",
        evidence={
            "port": KUBELET,
            "pool": pool.name,
            "nodes": [
                one.probed.named(rules=one.rules, blockedSources=to_prefixes(one.sources)) for one in nodes
            ],
            "nodeCount": len(nodes),
            "unreachable": [one.probed.node.name for one in unreached],
            "ufwStatus": _status(first.probed),
        },
        remediation=(
            remedy(
                f"Let UFW allow TCP {KUBELET}.",
                ((one.probed.node, _allow(one, limits=limits)) for one in nodes),
            ),
            remedy("Or switch UFW off.", ((one.probed.node, "ufw disable") for one in nodes)),
        ),
    )


def _allow(turned: _Turned, *, limits: bool) -> str:
    """What allows the port: where a rule decides, it has to come before that.

    UFW does not put a rule before one that differs in its action alone; that one has to go first.
    """
    if not limits and not any(decision.rule for decision in turned.decisions):
        return f"ufw allow {KUBELET}"
    ufw = turned.probed.report.ufw
    rules = () if isinstance(ufw, Missing) else read_ufw_status(ufw.status).rules
    there = {
        (rule.to.ports, rule.protocol): rule.action.lower()
        for rule in rules
        if rule.direction == "in" and rule.to == Side(ports=str(KUBELET)) and rule.source == Side()
    }
    for protocol, written in (("any", str(KUBELET)), ("tcp", f"{KUBELET}/tcp")):
        if (str(KUBELET), protocol) not in there:
            return f"ufw prepend allow {written}"
    return f"ufw delete {there[str(KUBELET), 'any']} {KUBELET} && ufw prepend allow {KUBELET}"


def _status(probed: Probed) -> list[str]:
    ufw = probed.report.ufw
    return [] if isinstance(ufw, Missing) else ufw.status.splitlines()[:50]


def _unknown(probed: Probed, decision: Decision[UfwRule | None]) -> Unknown:
    rule = f'rule "{decision.rule.written}"' if decision.rule else "the default policy"
    assert decision.doubt is not None  # noqa: S101 - of a decision that is unknown
    message = (
        f'On node "{probed.node.name}" {rule} of UFW decides TCP {KUBELET} from '
        f"{few(to_prefixes(decision.sources))}, but {decision.doubt.why}."
    )
    return Unknown(reason=Reason(code=decision.doubt.code, message=message, resource=probed.node.machine_id))
