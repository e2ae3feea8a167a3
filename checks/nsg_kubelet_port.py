"""A network security group keeps nodes from reaching each other's kubelet on TCP 10250.

Reads: the security admin rules in force on the virtual network, the security groups at
subnet level and on the nodes' network interfaces, for every pair of node pools in both
directions; where pods have addresses of the network, also from their subnets, and with API
server VNet integration from the API server's. Application security groups are resolved
to the nodes that are in them, service tags to what Azure publishes of them. Where nodes are
probed, whether connections that a rule denies do fail.

Why: the tunnel ends on a few nodes, and from there the control plane reaches every
other node's kubelet on TCP 10250. Where a security group denies that, `kubectl logs`,
`exec` and `port-forward` work only for pods that run beside the tunnel's own pods, and
admission webhooks time out: `dial tcp <node>:10250: i/o timeout`.

Fails when: some part of that TCP 10250 is denied, outbound by an admin rule or the
source's interface or subnet, or inbound by an admin rule or the destination's subnet or
interface; one finding for each rule that decides. An admin rule that always allows comes
before any group. It is a warning while no node that exists now is affected.

Unknown when: admin rules, a security group or a subnet could not be read, or a service
tag, an application security group or a value that nobody knows yet decides the verdict.

Not applicable when: the cluster or every node pool is stopped.

Fix: allow TCP 10250 from the node subnets with a priority number lower than that of the
rule that denies it, or remove that rule. On the interface-level group, which AKS manages,
remove the rule: AKS does not support adding your own there. An admin rule has to be
changed in its network manager, and deployed again. If nothing changes, delete
the tunnel's pods (`kubectl delete pod -n kube-system -l app=konnectivity-agent`); they
are made again at once.

Documentation: https://learn.microsoft.com/troubleshoot/azure/azure-kubernetes/connectivity/tunnel-connectivity-issues
"""

from collections.abc import Iterator

from checks._kubelet import DOCS, KUBELET, kubelet_traffic
from checks._places import Names, all_stopped
from checks._probed import Try, look, plural, tries_of
from checks._remedies import Wish, security_remedies
from checks._security import Block, judge
from facts import resource_id
from facts.filters import AdminRules, Missing
from facts.finding import Fault, Reason, Severity, Statement, Unknown
from facts.snapshot import Snapshot

ID = "nsg-kubelet-port"
CAUSE = 1
SEVERITY = Severity.CRITICAL
AFFECTS = ("logs", "exec", "port-forward", "webhooks")


def check(snapshot: Snapshot) -> Iterator[Statement]:
    """Judge TCP 10250 from wherever the tunnel may come to all places where nodes stand."""
    if stopped := all_stopped(snapshot):
        yield stopped
        return
    traffic, unread = kubelet_traffic(snapshot)
    yield from unread
    if not any(pool.placements or pool.missing for pool in snapshot.pools):
        yield Unknown(
            reason=Reason(
                code="no_data", message="Azure shows no node pool of this cluster whose network can be read."
            )
        )
    judged = judge(traffic, Names(snapshot))
    wish = Wish(
        cluster=snapshot.cluster,
        traffic=traffic,
        rule_name="AllowKubelet",
        summary=f"Allow TCP {KUBELET} between the node subnets",
        docs=DOCS,
    )
    tried = _tried(snapshot) if judged.blocks else []
    for block in judged.blocks:
        yield _fault(wish, block, judged.blocks, [one for one in tried if _meets(block, one)])
    yield from judged.unknown


def _tried(snapshot: Snapshot) -> list[Try]:
    """The connections that probes tried, where nodes are probed."""
    if isinstance(snapshot.probes, Missing):
        return []
    return tries_of(snapshot, look(snapshot)[0])[0]


def _meets(block: Block, one: Try) -> bool:
    """Whether a connection is one that a rule denies."""
    return any(not (box & one.packets).empty for box in block.boxes)


def _probed(tried: list[Try]) -> tuple[str, dict[str, int]]:
    """What probes saw of what a rule denies: in words, and in numbers."""
    if not tried:
        return "", {}
    failed = sum(one.failed for one in tried)
    words = (
        f" Probes confirm it: {failed} of {plural(len(tried), 'connection')} failed."
        if failed
        else f" Yet {plural(len(tried), 'connection')} of probes came through: the rule is not in force "
        "(yet), or something lets them past it."
    )
    return words, {"tried": len(tried), "failed": failed}


def _fault(wish: Wish, block: Block, blocks: list[Block], tried: list[Try]) -> Fault:
    rule, layer = block.rule, block.layer
    sources, destinations = block.reach
    way = layer.direction.lower()
    to_pools = sorted({to for _, to in block.pairs})
    pool_words = f"node pool{'s' * (len(to_pools) > 1)} {', '.join(to_pools)}"
    if isinstance(layer.filter, AdminRules):
        title = f'Security admin rule "{rule.name}"'
    else:
        title = f'NSG "{layer.filter.name}" rule "{rule.name}"'
    count = len(block.nodes)
    seen, numbers = _probed(tried)
    now = (
        f"{count} node{'s' * (count != 1)} cannot be reached now"
        if count
        else "Nodes there cannot be reached"
        if block.now
        else "No node that exists now is affected, but nodes that are added will be"
    )
    return Fault(
        subject=resource_id.key(rule.id),
        title=f"{title} denies TCP {KUBELET} {way} to {pool_words}",
        detail=(
            f'Rule "{rule.name}" (priority {rule.priority}) of {layer.words}, '
            f"at {block.where.rpartition(' ')[0]} level, denies {way} TCP {KUBELET} from "
            f"{', '.join(sources)} to {', '.join(destinations)}. {now}. The tunnel can reach the kubelet of "
            "a node only from itself or from where the rule does not apply, so logs, exec, port-forward and "
            f"webhooks time out.{seen}"
        ),
        resource=rule.id,
        severity=None if block.now else Severity.WARNING,
        confidence="observed" if numbers.get("failed") else "derived",
        evidence={**block.evidence(wish.traffic), **({"probes": numbers} if numbers else {})},
        remediation=security_remedies(wish, block, blocks),
    )
