"""iptables or nftables on a node drops or rejects what comes to its kubelet on TCP 10250.

Reads: of the nodes that were probed every rule that a packet can meet on its way in - raw and mangle
PREROUTING, mangle, filter and security INPUT and the chains they reach, nat where it touches the
port - of both back ends of iptables and of ip6tables, and native nftables rules; and the addresses
from which the tunnel may come: the subnets of all node pools, where pods have addresses of the network
their subnets, and with API server VNet integration the API server's.

Why: a rule that somebody added on the node, or software that runs there, keeps the control plane from
the kubelet, and then `kubectl logs`, `exec`, `port-forward` and admission webhooks time out for
everything on that node, with nothing wrong to be seen in Azure.

Fails when: a new TCP connection to port 10250 from some part of those addresses does not survive
one of the chains, by a rule that drops or rejects or by a chain's policy; one finding for each node
pool and rule, with the nodes and the rule's number on each. It is a warning while no machine has an
address that is turned away. What UFW made is `ufw-kubelet-port`'s.

Unknown when: nodes are not probed (NODE_PROBES), a node did not answer or was busy, its rules could not
be listed or understood, or the verdict hangs on what rules do not tell: the members of an ipset, a
mark, a rate, a program.

Not applicable when: the cluster or every node pool is stopped, or no node pool runs Linux.

Fix: delete the rule through run-command, by what it says or by its number in the chain
(`iptables --delete INPUT --jump DROP --protocol tcp --source <ip> --destination-port 10250`,
`iptables --delete INPUT <num>`), and find out what made it. Mind the AKS support policy: changes to
single nodes are not supported and not lasting. If nothing changes, delete the tunnel's pods
(`kubectl delete pod -n kube-system -l app=konnectivity-agent`).

Documentation: https://learn.microsoft.com/troubleshoot/azure/azure-kubernetes/connectivity/tunnel-connectivity-issues
"""

import hashlib
import shlex
from collections.abc import Iterator, Sequence

from msgspec import Struct

from checks._kubelet import KUBELET
from checks._node_firewall import judge_filters, named
from checks._probed import Probed, Sources, few, look, plural, pool_key, reached, remedy
from facts.finding import Fault, Remediation, Severity, Statement
from facts.snapshot import Snapshot
from packets.addresses import IntervalSet, to_prefixes, union
from packets.iptables import delete_commands
from packets.netfilter import Where
from packets.nftables import delete_commands as delete_from_nftables

ID = "iptables-kubelet-port"
CAUSE = 3
SEVERITY = Severity.CRITICAL
AFFECTS = ("logs", "exec", "port-forward", "webhooks")


class _Refusal(Struct, frozen=True):
    """A rule or policy of one node, and whom it turns away."""

    probed: Probed
    tool: str
    where: Where
    sources: IntervalSet


def check(snapshot: Snapshot) -> Iterator[Statement]:
    """Judge TCP 10250 from wherever the tunnel may come, by the packet filters of each node."""
    probed, sources, statements = look(snapshot)
    yield from statements
    refusals: dict[tuple[str, ...], list[_Refusal]] = {}
    for one in probed:
        filters, unknown = judge_filters(one, sources)
        yield from unknown
        for each in filters:
            for where, denied in each.refusals.items():
                # The same rule on other nodes may stand at another place in its chain.
                key = (one.pool.name, each.tool, where.table, where.chain, where.text or "policy")
                refusals.setdefault(key, []).append(_Refusal(one, each.tool, where, denied))
    for found in refusals.values():
        yield _fault(snapshot, found, probed, sources)


def _fault(snapshot: Snapshot, found: list[_Refusal], probed: Sequence[Probed], sources: Sources) -> Fault:
    first = found[0]
    pool, where = first.probed.pool, first.where
    nodes = list({one.probed.node.machine_id: one for one in found}.values())
    away = union(one.sources for one in found)
    there = sources.now(away)
    unreached = [one for one in nodes if reached(probed, one.probed.node) is False]
    count = plural(len(nodes), "node")
    called = named(where, first.tool)
    what = f'rule "{called}"' if where.number else called
    key = pool_key(snapshot, pool)
    detail = (
        f"On {count} of node pool {pool.name} ({few([one.probed.node.name for one in nodes])}) {what} of "
        f"{first.tool} turns away TCP {KUBELET} from {few(to_prefixes(away))}"
        + (f": {where.text}. " if where.text else f" ({where.target}). ")
        + "Logs, exec, port-forward and webhooks time out for what runs there."
    )
    if not there:
        detail += " No machine has one of these addresses now."
    return Fault(
        subject=f"{key}/{first.tool}/{where.table}/{where.chain}/{_digest(where)}",
        title=f"{first.tool} {what} blocks TCP {KUBELET} on {count} of node pool {pool.name}",
        detail=detail,
        resource=key,
        severity=None if there else Severity.WARNING,
        confidence="observed" if unreached else "derived",
        evidence={
            "port": KUBELET,
            "pool": pool.name,
            "tool": first.tool,
            "table": where.table,
            "chain": where.chain,
            "rule": where.text or None,
            "target": where.target,
            "nodes": [
                one.probed.named(line=one.where.number or None, blockedSources=to_prefixes(one.sources))
                for one in found
            ],
            "nodeCount": len(nodes),
            "unreachable": [one.probed.node.name for one in unreached],
        },
        remediation=_remedies(found),
    )


def _digest(where: Where) -> str:
    """What tells a rule from others, names of chains and comments in their own case."""
    return hashlib.sha256(f"{where.chain}\n{where.text or 'policy'}".encode()).hexdigest()[:16]


def _remedies(found: list[_Refusal]) -> tuple[Remediation, ...]:
    """Both forms of the runbook: the rule by what it says, and by its number on each node."""
    first = found[0]
    if first.tool == "nft":
        return (
            remedy(
                "Delete the rule." if first.where.number else "Let the chain accept what no rule decides.",
                ((one.probed.node, _nft(one.where)) for one in found),
            ),
        )
    commands = [(one.probed.node, delete_commands(one.where, tool=one.tool)) for one in found]
    if not first.where.number:
        summary = f"Let the chain {first.where.chain} accept what no rule decides."
        return (remedy(summary, ((node, ways[0]) for node, ways in commands)),)
    remedies = [remedy("Delete the rule.", ((node, ways[0]) for node, ways in commands))]
    if all(len(ways) > 1 for _, ways in commands):
        by_number = ((node, ways[1]) for node, ways in commands)
        remedies.append(
            remedy("Or delete it by its number, if the chain has not changed since the probe.", by_number)
        )
    return tuple(remedies)


def _nft(where: Where) -> str:
    """What takes a rule of nftables away: by its handle, which the node is asked for by the rule's words."""
    ways = delete_from_nftables(where)
    if len(ways) == 1:
        return ways[0]
    chain = shlex.join((where.family, where.table, where.chain))
    asked = f"nft -s -a list chain {chain} | grep -F -- {shlex.quote(where.text)} | head -n 1"
    return f"nft delete rule {chain} handle $({asked} | sed 's/.*# handle //')"
