"""SNAT ports will not do: for the nodes that there may be, or for the connections of the next day.

Reads: by which way the nodes of each pool really get out; of load balancers the outbound rules with their
ports for each node, their addresses and who is in their backend pools, of NAT gateways and Azure Firewall the
public addresses; how many nodes each pool has, how many the autoscaler may make of them, and how many an
upgrade adds meanwhile; and what Azure Monitor counted hour by hour over four weeks.

Why: a load balancer has 64,000 ports for each of its addresses, and parts them among nodes in advance. Where
each node is promised a number, nodes beyond what that has room for get none. Where Azure decides, a node has
half as many from 51 nodes on, and again from 101, 201, 401 and 801, which cuts connections that are open at
that moment. Without ports nodes cannot open the tunnel to a public API server, and `kubectl logs`, `exec`,
`port-forward` and admission webhooks fail: at a scale-out or an upgrade as a rule, or when use has grown up
to the limit, as where connections are leaked.

Fails when: the nodes that there may be (the autoscaler's maximum, and an upgrade's surge) are more than an
explicit number of ports has room for; or they lead Azure to allot fewer ports to each than now (information
only, where the most that a node was seen to use and half as much again would still do); or use, foretold from
its growth and rhythm, reaches the limit within 24 hours: the ports of a node, an Azure Firewall's own, or, as
information, the connections that a NAT gateway carries if no two share a port.

Unknown when: the way out, its addresses, the number of nodes or the metrics could not be read, or Azure
Monitor has no data of it though nodes use it. Too short a history is not unknown: it is kept with the check's
state that nothing can be foretold yet.

Not applicable when: the cluster or every node pool is stopped, or the tunnel does not go this way: a
private cluster, API server VNet integration, or a cluster cut off on purpose (outbound type `none` or
`block`). What was found is kept with the check's state all the same, for applications may suffer from it.

Fix: give each node a fixed number of ports, and as many outbound addresses as that takes for every node that
there may be (`az aks update --load-balancer-outbound-ports --load-balancer-managed-outbound-ip-count`). Let
applications reuse connections. Where that does not do, let the cluster go out by a NAT gateway, whose ports
go to whichever node needs them.

Documentation: https://learn.microsoft.com/azure/aks/configure-load-balancer-standard
"""

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from checks._snat import Judged, every_way, no_data, plural, upper
from checks._snat_advice import remedies
from checks._snat_case import Case, Used, unread_addresses
from checks._snat_course import foretell
from checks._snat_ports import (
    BLOCK,
    HEADROOM,
    PORTS_PER_ADDRESS,
    Sharing,
    count_addresses,
    default_ports,
    fits,
    ip_version,
    next_step,
    of_ipv4,
    ports_in_all,
    ports_of_node,
    sharing,
    taken_blocks,
)
from checks._ways_out import WayOut
from facts import resource_id
from facts.filters import Firewall
from facts.finding import Fault, Severity, Statement
from facts.outbound import LoadBalancer, NatGateway, OutboundRule
from facts.snapshot import Snapshot

ID = "snat-capacity"
CAUSE = 5
SEVERITY = Severity.WARNING
AFFECTS = ("logs", "exec", "port-forward", "webhooks")


def check(snapshot: Snapshot) -> Iterator[Statement]:
    """Reckon for every way out, and keep the numbers whatever they say."""
    return every_way(snapshot, _judge)


def _judge(snapshot: Snapshot, way: WayOut, every: Sequence[WayOut], judged: Judged) -> None:
    usage = snapshot.usage.get(way.key)
    match way.gate:
        case LoadBalancer() as balancer:
            case = Case(snapshot, way, usage, Used.of(balancer, way, every, usage))
            for rule in balancer.rules:
                _allotment(case, balancer, rule, judged)
        case NatGateway() as gateway:
            case = Case(snapshot, way, usage, Used())
            judged.numbers["addresses"] = count_addresses(of_ipv4(gateway.frontends))
        case Firewall() as firewall:
            case = Case(snapshot, way, usage, Used())
            judged.numbers["addresses"] = firewall.public_addresses or None
    foretell(case, judged)


# --- how many nodes have ports of a load balancer --------------------------------------------------


class _Rule(Struct, frozen=True, kw_only=True):
    """An outbound rule and who has ports of it."""

    case: Case
    rule: OutboundRule
    addresses: int | None
    """`None` where some could not be read, or there are none."""
    sharing: Sharing
    now: int
    most: int

    @property
    def words(self) -> str:
        """The rule, as a sentence names it."""
        version = " (IPv6)" if ip_version(self.rule) == 6 else ""
        return f'outbound rule "{self.rule.name}"{version} of {self.case.way.words}'

    @property
    def nodes(self) -> str:
        """How many there are and may be, pool by pool."""
        words = (
            f"There {'is' if self.now == 1 else 'are'} {plural(self.now, 'node')} now, and the autoscaler "
            f"and an upgrade's surge may make them {self.most:,}: {self.sharing.words}."
        )
        if self.case.snapshot.cluster.provisions_nodes:
            words += " Nodes that AKS provisions as pods ask for them are counted as they are now."
        return words

    @property
    def evidence(self) -> dict[str, Any]:
        """The numbers that findings keep."""
        here = [{"name": one.name, "now": one.now, "most": one.most} for one in self.sharing.pools]
        idle = [
            {"name": one.name, "now": one.now, "most": one.most, "getsOutHere": False}
            for one in self.sharing.idle
        ]
        return {
            "through": self.case.way.gate.id,
            "rule": self.rule.name,
            "ipVersion": ip_version(self.rule),
            "addresses": self.addresses,
            "blocksOfRules": taken_blocks(self.rule),
            "nodesNow": self.now,
            "nodesAtMost": self.most,
            "pools": [*here, *idle],
            "inNoPool": self.sharing.others,
        }

    def fault(
        self, kind: str, title: str, detail: str, evidence: dict[str, Any], severity: Severity
    ) -> Fault:
        """What is wrong with the rule."""
        case = self.case
        return Fault(
            subject=f"{resource_id.key(self.rule.id)}#{kind}",
            title=title,
            detail=detail,
            resource=self.rule.id,
            severity=severity,
            evidence=self.evidence | evidence,
            remediation=remedies(
                case.snapshot, case.way, peak=case.used.peak, failed=False, busiest=(), usage=False
            ),
        )


def _allotment(case: Case, balancer: LoadBalancer, rule: OutboundRule, judged: Judged) -> None:
    """Whether an outbound rule has ports for every node that there may be."""
    nodes = sharing(balancer, rule, case.way.pools, case.snapshot.pools)
    addresses = count_addresses(rule.frontends) or None
    numbers = {
        "rule": rule.name,
        "ipVersion": ip_version(rule),
        "nodesNow": nodes.now,
        "nodesAtMost": nodes.most,
        "addresses": addresses,
        "portsPerNode": None if nodes.now is None else ports_of_node(rule, nodes.now),
        "fits": _room(rule, addresses, nodes.now),
    }
    if len(balancer.rules) == 1:
        judged.numbers |= numbers
    else:
        judged.numbers.setdefault("rules", []).append(numbers)
    if nodes.now is None or nodes.most is None:
        lost = ", ".join(one.name for one in (*nodes.pools, *nodes.idle) if one.now is None)
        message = (
            f"How many nodes pool {lost} has is not known, and so not whether the ports of {case.way.words} "
            "will do for them."
        )
        judged.doubt(no_data(case.way, message))
        return
    told = _Rule(case=case, rule=rule, addresses=addresses, sharing=nodes, now=nodes.now, most=nodes.most)
    fault = None
    if not rule.allocated_ports:
        fault = _step(told)
    elif addresses is None:
        judged.doubt(unread_addresses(case.way, rule.frontends, f'outbound rule "{rule.name}"'))
    else:
        fault = _growth(told, addresses)
    if fault is not None:
        judged.faults.append(fault)
    elif case.snapshot.cluster.provisions_nodes and not nodes.counted:
        message = (
            "AKS provisions nodes that belong to no node pool, and Azure does not show how many nodes have "
            f'ports of outbound rule "{rule.name}" of {case.way.words}.'
        )
        judged.doubt(no_data(case.way, message))


def _room(rule: OutboundRule, addresses: int | None, now: int | None) -> int | None:
    """The nodes up to which each has the ports that it has now."""
    if rule.allocated_ports:
        return None if addresses is None else fits(rule.allocated_ports, addresses, taken_blocks(rule))
    step = None if now is None else next_step(now)
    return None if step is None else step - 1


def _growth(told: _Rule, addresses: int) -> Fault | None:
    """More nodes than an explicit number of ports has room for."""
    rule, way = told.rule, told.case.way
    blocks = taken_blocks(rule)
    room = fits(rule.allocated_ports, addresses, blocks)
    if told.most <= room:
        return None
    taken = f", of which rules for what comes in may take {BLOCK * blocks:,}" if blocks else ""
    detail = (
        f"{upper(told.words)} gives each node {rule.allocated_ports:,} ports, and its "
        f"{plural(addresses, 'address', 'es')} {'has' if addresses == 1 else 'have'} "
        f"{PORTS_PER_ADDRESS * addresses:,}{taken}: room for {plural(room, 'node')}. {told.nodes} Nodes "
        "beyond that have no ports and cannot open the tunnel; AKS refuses to scale or upgrade to so many "
        "(InvalidLoadBalancerProfileAllocatedOutboundPorts)."
    )
    title = (
        f"{rule.allocated_ports:,} SNAT ports for each node have room for {plural(room, 'node')} at "
        f"{way.words}, and there may be {told.most:,}"
    )
    evidence = {
        "portsPerNode": rule.allocated_ports,
        "portsInAll": ports_in_all(addresses, blocks),
        "fits": room,
    }
    return told.fault("growth", title, detail, evidence, Severity.WARNING)


def _step(told: _Rule) -> Fault | None:
    """More nodes than Azure allots as many ports to as each has now."""
    before, after, step = default_ports(told.now), default_ports(told.most), next_step(told.now)
    if before is not None and before == after:
        return None
    at_step = None if step is None else default_ports(step)
    peak = told.case.used.peaks.get(ip_version(told.rule))
    enough = (
        after is not None
        and peak is not None
        and told.addresses is not None
        and peak * (1 + HEADROOM) <= after * told.addresses
    )
    # Where it is not known how many addresses there are, what is said is of each of them.
    each = told.addresses or 1
    on = f"on {plural(told.addresses, 'address', 'es')}" if told.addresses else "on each address"
    title = f"Azure documents no SNAT ports for as many as {told.most:,} nodes at {told.case.way.words}"
    detail = [
        f"{upper(told.words)} leaves it to Azure how many ports a node has, by the number of nodes.",
        told.nodes,
    ]
    if before is not None:
        detail.append(f"Each has {before * each:,} ports now, {on}.")
    if before is not None and step is not None and at_step is not None:
        title = (
            f"From {step:,} nodes on each has {at_step * each:,} SNAT ports instead of {before * each:,} at "
            f"{told.case.way.words}, and there may be {told.most:,}"
        )
        more = f", and with {told.most:,} it has {after * each:,}" if after and after != at_step else ""
        detail.append(
            f"From {step:,} nodes on each has {at_step * each:,}{more}. Connections that hold the other "
            "ports are cut at that moment, and the tunnel may be among them."
        )
    if after is None:
        detail.append(
            "Beyond 1,000 nodes Azure documents no default: nobody can say how many ports a node has then."
        )
    elif peak is None or told.addresses is None:
        detail.append("How many ports nodes use, or have over all addresses, is not known.")
    else:
        verdict = (
            "and half as much again would still do" if enough else "and there has to be headroom above that"
        )
        detail.append(
            f"The most that one node was seen to use {told.case.used.span} is "
            f"{plural(round(peak), 'port')}, {verdict}."
        )
    evidence = {
        "step": step,
        "portsPerNode": None if before is None else before * each,
        "portsPerNodeAfter": None if at_step is None else at_step * each,
        "portsPerNodeAtMost": None if after is None else after * each,
        "peak": None if peak is None else round(peak),
    }
    severity = Severity.INFO if enough else Severity.WARNING
    return told.fault("step", title, " ".join(detail), evidence, severity)
