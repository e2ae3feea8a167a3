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

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct, structs

from checks._forecast import LATE, Forecast, TooLittle, forecast
from checks._snat_advice import remedies
from checks._snat_ports import (
    BLOCK,
    GATEWAY_TO_ONE_DESTINATION,
    HEADROOM,
    PORTS_PER_ADDRESS,
    Sharing,
    count_addresses,
    default_ports,
    fits,
    gateway_connections,
    ip_version,
    next_step,
    of_ipv4,
    ports_in_all,
    ports_of_node,
    sharing,
    taken_blocks,
)
from checks._snat_use import PortUse, drawn, hourly, hourly_ports, ports
from checks._ways_out import WayOut, elsewhere, not_for_the_tunnel, ways_out
from facts import resource_id
from facts.filters import Firewall, Missing
from facts.finding import Fault, Observed, Reason, Severity, Statement, Unknown
from facts.outbound import Frontend, LoadBalancer, NatGateway, OutboundRule, Usage, Window
from facts.snapshot import Snapshot
from facts.times import timestamp

ID = "snat-capacity"
CAUSE = 5
SEVERITY = Severity.WARNING
AFFECTS = ("logs", "exec", "port-forward", "webhooks")

SOON_HOURS = 24
"""Use that is foretold to reach the limit within so long is a fault."""
STILL = 0.75
"""Less of the limit than that in the last minutes, and use that had reached it has fallen."""
SAMPLES = 60
"""Of an hour: the mean of what is sampled once a minute is the hour's sum by so many."""
BUSIEST = 3
"""Nodes that are named."""


def check(snapshot: Snapshot) -> Iterator[Statement]:
    """Reckon for every way out, and keep the numbers whatever they say."""
    inapplicable = not_for_the_tunnel(snapshot)
    if inapplicable and inapplicable.reason.code in {"stopped", "network_isolated"}:
        yield inapplicable
        return
    found, unread = ways_out(snapshot)
    judged = [_judge(snapshot, way, found) for way in found]
    if judged:
        yield Observed(evidence={"waysOut": [one.kept() for one in judged]})
    if inapplicable:
        yield inapplicable
        return
    yield from unread
    if not any(pool.placements or pool.missing for pool in snapshot.pools):
        message = "Azure shows no node pool of this cluster whose network can be read."
        yield Unknown(reason=Reason(code="no_data", message=message))
    for one in judged:
        yield from one.faults
        yield from (Unknown(reason=reason) for reason in one.unknown)


class _Judged(Struct):
    """What is to be said of one way out."""

    numbers: dict[str, Any]
    faults: list[Fault] = []
    unknown: dict[Reason, None] = {}

    def kept(self) -> dict[str, Any]:
        """The numbers, and the titles of what is wrong."""
        return {**self.numbers, "titles": [one.title for one in self.faults]} if self.faults else self.numbers

    def doubt(self, reason: Reason) -> None:
        """Something is not known, which is said once."""
        self.unknown[reason] = None


class _Case(Struct, frozen=True):
    """One way out of one cluster."""

    snapshot: Snapshot
    way: WayOut
    usage: Usage | None
    used: "_Used"


def _judge(snapshot: Snapshot, way: WayOut, every: Sequence[WayOut]) -> _Judged:
    judged = _Judged(
        {
            "through": way.gate.id,
            "kind": type(way.gate).__name__,
            "pools": [pool.name for pool in way.pools],
        }
    )
    usage = snapshot.usage.get(way.key)
    match way.gate:
        case LoadBalancer() as balancer:
            case = _Case(snapshot, way, usage, _Used.of(balancer, way, every, usage))
            for rule in balancer.rules:
                _allotment(case, balancer, rule, judged)
        case NatGateway() as gateway:
            case = _Case(snapshot, way, usage, _Used())
            judged.numbers["addresses"] = count_addresses(of_ipv4(gateway.frontends))
        case Firewall() as firewall:
            case = _Case(snapshot, way, usage, _Used())
            judged.numbers["addresses"] = firewall.public_addresses or None
    _foretell(case, judged)
    return judged


def _no_data(way: WayOut, message: str) -> Reason:
    return Reason(code="no_data", message=message, resource=way.gate.id)


# --- what nodes use --------------------------------------------------------------------------------


class _Used(Struct, frozen=True):
    """The ports that nodes behind a load balancer use, by version of IP."""

    recent: dict[int, tuple[PortUse, ...]] = {}
    """Minute by minute, the busiest node first."""
    peaks: dict[int, float] = {}
    """The most that one node was seen to use, in the last minutes or in the weeks before."""
    hours: dict[tuple[str, int], tuple[float | None, ...]] = {}
    """The ports of the busiest node, hour by hour, by protocol and version."""
    span: str = ""
    """Over how long use was seen: `in 28 days`."""

    @classmethod
    def of(cls, balancer: LoadBalancer, way: WayOut, every: Sequence[WayOut], usage: Usage | None) -> "_Used":
        """What Azure Monitor counted, without nodes that get out by another way or are gone."""
        others = elsewhere(way, every)
        recent: dict[int, tuple[PortUse, ...]] = {}
        peaks: dict[int, float] = {}
        hours: dict[tuple[str, int], tuple[float | None, ...]] = {}
        span = ""
        if usage and isinstance(usage.recent, Window):
            span = f"in the last {usage.recent.steps * usage.recent.step_minutes} minutes"
            for version in (4, 6):
                found = [
                    one
                    for one in ports(_of_version(usage.recent, version))
                    if one.address not in others and (one.address in way.nodes or any(one.allocated))
                ]
                found.sort(key=lambda one: (-one.highest, one.protocol, one.address))
                recent[version] = tuple(found)
                if any(value is not None for one in found for value in one.used):
                    peaks[version] = found[0].highest
        if usage and isinstance(usage.history, Window) and _any_points(usage.history):
            span = f"in {_days(usage.history)} days"
            held: dict[str, set[frozenset[str]]] = {}
            for one in (one for several in recent.values() for one in several):
                held.setdefault(one.protocol, set()).add(one.held)
            spread = all(rule.allocated_ports for rule in balancer.rules)
            hours = hourly_ports(usage.history, held, spread=spread)
            for (_, version), values in hours.items():
                past = max((value for value in values if value is not None), default=0.0)
                peaks[version] = max(peaks.get(version, 0.0), past)
        return cls(recent, peaks, hours, span)

    @property
    def peak(self) -> float | None:
        """The most that one node was seen to use, of either version."""
        return max(self.peaks.values(), default=None)

    def of_protocol(self, protocol: str, version: int) -> list[PortUse]:
        """The nodes' ports for a protocol, the busiest first."""
        return [one for one in self.recent.get(version, ()) if protocol in {"", one.protocol}]

    def allotted(self, protocol: str, version: int) -> float | None:
        """The ports of the busiest node as Azure Monitor shows them, or else of any node."""
        for one in self.of_protocol(protocol, version):
            known = next((value for value in reversed(one.allocated) if value), None)
            if known:
                return known
        return None


def _any_points(window: Window) -> bool:
    return any(value is not None for one in window.series for value in one.values)


def _silent(window: Window) -> int:
    """The hours at the end of a history that have no points, of whatever series."""
    known = (step for one in window.series for step, value in enumerate(one.values) if value is not None)
    return window.steps - 1 - max(known, default=-1)


def _days(window: Window) -> int:
    return window.steps * window.step_minutes // 1440


def _of_version(window: Window, version: int) -> Window:
    """Those of a window's series whose frontend is of a version of IP."""
    series = tuple(
        one for one in window.series if (":" in one.dimensions.get("frontendipaddress", "")) == (version == 6)
    )
    return structs.replace(window, series=series)


# --- how many nodes have ports of a load balancer --------------------------------------------------


class _Rule(Struct, frozen=True, kw_only=True):
    """An outbound rule and who has ports of it."""

    case: _Case
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
            f"There {'is' if self.now == 1 else 'are'} {_plural(self.now, 'node')} now, and the autoscaler "
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


def _allotment(case: _Case, balancer: LoadBalancer, rule: OutboundRule, judged: _Judged) -> None:
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
        judged.doubt(_no_data(case.way, message))
        return
    told = _Rule(case=case, rule=rule, addresses=addresses, sharing=nodes, now=nodes.now, most=nodes.most)
    fault = None
    if not rule.allocated_ports:
        fault = _step(told)
    elif addresses is None:
        judged.doubt(_unread_addresses(case.way, rule.frontends, f'outbound rule "{rule.name}"'))
    else:
        fault = _growth(told, addresses)
    if fault is not None:
        judged.faults.append(fault)
    elif case.snapshot.cluster.provisions_nodes and not nodes.counted:
        message = (
            "AKS provisions nodes that belong to no node pool, and Azure does not show how many nodes have "
            f'ports of outbound rule "{rule.name}" of {case.way.words}.'
        )
        judged.doubt(_no_data(case.way, message))


def _room(rule: OutboundRule, addresses: int | None, now: int | None) -> int | None:
    """The nodes up to which each has the ports that it has now."""
    if rule.allocated_ports:
        return None if addresses is None else fits(rule.allocated_ports, addresses, taken_blocks(rule))
    step = None if now is None else next_step(now)
    return None if step is None else step - 1


def _unread_addresses(way: WayOut, frontends: Iterable[Frontend], what: str) -> Reason:
    """Why it is not known how many addresses there are."""
    for one in frontends:
        if isinstance(one.addresses, Missing):
            return one.addresses.reason
    return _no_data(way, f"Azure shows no public address of {what} of {way.words} that can be read.")


def _growth(told: _Rule, addresses: int) -> Fault | None:
    """More nodes than an explicit number of ports has room for."""
    rule, way = told.rule, told.case.way
    blocks = taken_blocks(rule)
    room = fits(rule.allocated_ports, addresses, blocks)
    if told.most <= room:
        return None
    taken = f", of which rules for what comes in may take {BLOCK * blocks:,}" if blocks else ""
    detail = (
        f"{_upper(told.words)} gives each node {rule.allocated_ports:,} ports, and its "
        f"{_plural(addresses, 'address', 'es')} {'has' if addresses == 1 else 'have'} "
        f"{PORTS_PER_ADDRESS * addresses:,}{taken}: room for {_plural(room, 'node')}. {told.nodes} Nodes "
        "beyond that have no ports and cannot open the tunnel; AKS refuses to scale or upgrade to so many "
        "(InvalidLoadBalancerProfileAllocatedOutboundPorts)."
    )
    title = (
        f"{rule.allocated_ports:,} SNAT ports for each node have room for {_plural(room, 'node')} at "
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
    on = f"on {_plural(told.addresses, 'address', 'es')}" if told.addresses else "on each address"
    title = f"Azure documents no SNAT ports for as many as {told.most:,} nodes at {told.case.way.words}"
    detail = [
        f"{_upper(told.words)} leaves it to Azure how many ports a node has, by the number of nodes.",
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
            f"{_plural(round(peak), 'port')}, {verdict}."
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


# --- what use leads to -----------------------------------------------------------------------------


class _Course(Struct, frozen=True, kw_only=True):
    """Something that is used more or less, hour by hour, and has a limit."""

    name: str
    """`TCP`, `UDP over IPv6`, `connections`."""
    protocol: str = ""
    version: int = 4
    values: tuple[float | None, ...]
    limit: float
    lately: float | None = None
    """The most of the last minutes, which hours do not have yet."""

    def left(self, found: Forecast) -> bool:
        """Whether the limit was reached by the last hour, and use has fallen since: as after a restart."""
        return found.reaches == 0 and self.lately is not None and self.lately < STILL * self.limit

    def by_now(self, found: Forecast | TooLittle) -> Forecast | TooLittle:
        """What was foretold by hours, where the last minutes have reached the limit meanwhile."""
        if isinstance(found, TooLittle) or found.reaches is None or (self.lately or 0.0) < self.limit:
            return found
        return structs.replace(found, level=max(found.level, self.limit), reaches=0.0, earliest=0.0)

    def told(self, window: Window, found: Forecast | TooLittle) -> dict[str, Any]:
        """A forecast as evidence keeps it."""
        if isinstance(found, TooLittle):
            return {"limit": round(self.limit), "why": found.why}
        return {
            **({"lately": round(self.lately or 0.0)} if self.left(found) else {}),
            "limit": round(self.limit),
            "level": round(found.level, 1),
            "perDay": round(found.per_day, 1),
            "rhythm": found.rhythm,
            "hoursOfData": found.points,
            "reaches": _when(window, found.reaches),
            "earliest": _when(window, found.earliest),
            "latest": _when(window, found.latest),
        }


def _foretell(case: _Case, judged: _Judged) -> None:
    """When use reaches the limit, if it grows up to it."""
    way, usage = case.way, case.usage
    if not way.nodes and all(pool.count == 0 for pool in way.pools):
        return
    if usage is None:
        judged.doubt(_no_data(way, f"What Azure Monitor counted at {way.words} was not looked up."))
        return
    window, recent = usage.history, usage.recent
    if isinstance(window, Missing):
        judged.doubt(window.reason)
        return
    if not _any_points(window):
        if isinstance(recent, Missing):
            judged.doubt(recent.reason)
        elif _any_points(recent):
            judged.numbers["forecast"] = {"why": "Azure Monitor has data of the last minutes alone"}
        else:
            message = (
                f"Azure Monitor has no data of {way.words} for {_days(window)} days, "
                f"though the nodes of {way.pool_words} get out by it. No data is not 0: look at the "
                "metrics in the portal, and if they are empty there too, ask Azure's support."
            )
            judged.doubt(_no_data(way, message))
        return
    if _silent(window) > LATE:
        if isinstance(recent, Missing):
            judged.doubt(recent.reason)
        elif not _any_points(recent):
            message = (
                f"Azure Monitor's data of {way.words} ended {_silent(window)} hours ago. No data is not 0."
            )
            judged.doubt(_no_data(way, message))
    told: dict[str, dict[str, Any]] = {}
    soon: list[tuple[_Course, Forecast]] = []
    for course in _courses(case, window, judged):
        found = course.by_now(forecast(course.values, course.limit))
        told[course.name] = course.told(window, found)
        if isinstance(found, TooLittle) or found.reaches is None or course.left(found):
            continue
        if found.reaches - _passed(case, window) <= SOON_HOURS:
            soon.append((course, found))
    judged.numbers["forecast"] = told
    if soon:
        soon.sort(key=lambda one: (one[1].reaches, one[0].name))
        judged.faults.append(_exhaustion(case, window, soon))


def _courses(case: _Case, window: Window, judged: _Judged) -> Iterator[_Course]:
    """What is used at a way out, with its limit; where that is not known, why."""
    match case.way.gate:
        case LoadBalancer() as balancer:
            yield from _of_ports(case, balancer, judged)
        case NatGateway() as gateway:
            addresses = count_addresses(of_ipv4(gateway.frontends))
            if not addresses:
                judged.doubt(_unread_addresses(case.way, gateway.frontends, "the addresses"))
                return
            limit = gateway_connections(addresses)
            lately = _lately(case, "TotalConnectionCount")
            for kind, values in hourly(window, "TotalConnectionCount").items():
                mean = tuple(None if value is None else value / SAMPLES for value in values)
                yield _Course(name="connections", values=mean, limit=limit, lately=lately.get(kind))
        case Firewall():
            lately = _lately(case, "SNATPortUtilization")
            for kind, values in sorted(hourly(window, "SNATPortUtilization").items()):
                name = kind[0] or "all"
                yield _Course(
                    name=name, protocol=kind[0], values=values, limit=100.0, lately=lately.get(kind)
                )


def _lately(case: _Case, metric: str) -> dict[tuple[str, int], float]:
    """The most of the last minutes, by protocol and version of IP."""
    recent = case.usage.recent if case.usage else None
    if not isinstance(recent, Window):
        return {}
    return {
        kind: max(known)
        for kind, values in hourly(recent, metric).items()
        if (known := [value for value in values if value is not None])
    }


def _of_ports(case: _Case, balancer: LoadBalancer, judged: _Judged) -> Iterator[_Course]:
    """The ports of the busiest node, for each protocol and version of IP."""
    for (protocol, version), values in sorted(case.used.hours.items()):
        name = f"{protocol}{' over IPv6' * (version == 6)}"
        rules = [
            rule
            for rule in balancer.rules
            if ip_version(rule) == version and rule.protocol.upper() in {"ALL", protocol}
        ]
        limit = case.used.allotted(protocol, version) or _reckoned(case, balancer, rules)
        if limit:
            nodes = case.used.of_protocol(protocol, version)
            known = any(value is not None for one in nodes for value in one.used)
            yield _Course(
                name=name,
                protocol=protocol,
                version=version,
                values=values,
                limit=limit,
                lately=nodes[0].highest if known else None,
            )
        elif rules:
            judged.doubt(_no_limit(case.way, rules, name))


def _reckoned(case: _Case, balancer: LoadBalancer, rules: Sequence[OutboundRule]) -> int | None:
    """The ports of a node by outbound rules, where Azure Monitor does not show them."""
    found = []
    for rule in rules:
        now = sharing(balancer, rule, case.way.pools, case.snapshot.pools).now
        held = None if now is None else ports_of_node(rule, now)
        if held is None:
            return None
        found.append(held)
    return sum(found) or None


def _no_limit(way: WayOut, rules: Sequence[OutboundRule], name: str) -> Reason:
    """Why it is not known how many ports a node has."""
    frontends = [front for rule in rules for front in rule.frontends]
    if not count_addresses(frontends):
        return _unread_addresses(way, frontends, "the outbound rules")
    message = (
        f"How many {name} ports each node has at {way.words} is not known: Azure Monitor does not show it, "
        "and it does not follow from the number of nodes."
    )
    return _no_data(way, message)


def _end(window: Window) -> datetime:
    return datetime.fromisoformat(window.start) + timedelta(minutes=window.step_minutes * window.steps)


def _passed(case: _Case, window: Window) -> float:
    """Hours between the end of a window and when the cluster was looked at."""
    return (datetime.fromisoformat(case.snapshot.taken_at) - _end(window)) / timedelta(hours=1)


def _when(window: Window, hours: float | None) -> str | None:
    """The time so many hours after the end of a window."""
    return None if hours is None else timestamp(_end(window) + timedelta(hours=hours))


def _exhaustion(case: _Case, window: Window, soon: Sequence[tuple[_Course, Forecast]]) -> Fault:
    """Use that reaches the limit soon, or has: the first that does, and what else does."""
    way = case.way
    course, first = soon[0]
    busiest = _busiest(case.used.of_protocol(course.protocol, course.version))
    names = [way.nodes.get(one.address, one.address) for one in busiest]
    hours = max((first.reaches or 0.0) - _passed(case, window), 0.0)
    detail = [
        f"The nodes of {way.pool_words} get out by {way.words}.",
        _level_words(way, course, first),
        _reach_words(window, first, hours),
    ]
    for other, found in soon[1:]:
        so = f"So does {other.name}, at {_when(window, found.reaches)}"
        detail.append(f"{so if found.reaches else f'So has {other.name}'}.")
    if busiest:
        words = (f"{name} ({round(one.highest):,})" for one, name in zip(busiest, names, strict=True))
        detail.append(f"Busiest in the last minutes: {', '.join(words)}.")
    if isinstance(way.gate, NatGateway):
        detail.append(
            "A port serves several connections at once where their destinations differ, so there is room for "
            "more: this is a coarse bound. To one and the same destination each address carries "
            f"{GATEWAY_TO_ONE_DESTINATION:,}."
        )
    detail.append(
        "Once ports are used up, new connections fail until old ones let go of theirs, and nodes cannot open "
        "the tunnel to the API server."
    )
    return Fault(
        subject=f"{way.key}#forecast",
        title=_forecast_title(way, course, first, hours),
        detail=" ".join(detail),
        resource=way.gate.id,
        severity=Severity.INFO if isinstance(way.gate, NatGateway) else Severity.WARNING,
        evidence={
            "through": way.gate.id,
            "outboundType": case.snapshot.cluster.outbound_type,
            "pools": [pool.name for pool in way.pools],
            "forecast": {one.name: one.told(window, found) for one, found in soon},
            "history": {one.name: drawn(window, one.values) for one, _ in soon},
            "busiest": [
                {"node": name, "address": one.address, "used": round(one.highest)}
                for one, name in zip(busiest, names, strict=True)
            ],
        },
        # What grows up to its limit takes all there is: that is the peak to make room for. No node has more
        # ports than it has, but a gateway may have more connections.
        remediation=remedies(
            case.snapshot,
            way,
            peak=max(
                case.used.peak or 0.0,
                course.limit,
                0.0 if isinstance(way.gate, LoadBalancer) else first.level,
            ),
            failed=False,
            busiest=names,
        ),
    )


def _busiest(used: Sequence[PortUse]) -> list[PortUse]:
    """Some nodes that use many ports: half as many as the busiest at least."""
    return [one for one in used if one.highest and one.highest * 2 >= used[0].highest][:BUSIEST]


def _forecast_title(way: WayOut, course: _Course, found: Forecast, hours: float) -> str:
    limit = f"{round(course.limit):,}"
    match way.gate:
        case LoadBalancer():
            what = f"{course.name} SNAT ports of the busiest node at {way.words}"
            has, will = f"have run out: all {limit} are in use", "run out"
        case NatGateway():
            what = f"Connections through {way.words}"
            has, will = f"have reached {limit}", f"reach {limit}"
        case Firewall():
            what = f"{course.name} SNAT ports of {way.words}"
            has, will = "have run out", "run out"
    return f"{what} {will} {_in_hours(hours)}" if found.reaches else f"{what} {has}"


def _level_words(way: WayOut, course: _Course, found: Forecast) -> str:
    """What is used now, of how much, and how it grows."""
    unit = ""
    level = f"{round(min(found.level, course.limit)):,}"
    match way.gate:
        case LoadBalancer():
            use = f"The busiest node uses about {level} of its {round(course.limit):,} {course.name} ports"
        case NatGateway():
            use = (
                f"About {round(found.level):,} connections are open at a time, and its addresses have "
                f"{round(course.limit):,} ports"
            )
        case Firewall():
            unit = " %"
            use = f"About {level} % of its {course.name} ports are in use"
    apart = ", leaving aside the rhythm of days and weeks" if found.rhythm else ""
    if found.per_day > 0:
        return f"{use}{apart}, and {max(round(found.per_day), 1):,}{unit} more each day."
    return f"{use}{apart}; that does not grow."


def _reach_words(window: Window, found: Forecast, hours: float) -> str:
    """When the limit is reached, and how certain that is."""
    if not found.reaches:
        return "That has reached the limit."
    by = "At this rate" if found.per_day > 0 else "In that rhythm"
    early, late = _when(window, found.earliest), _when(window, found.latest)
    words = f"{by} the limit is reached at {_when(window, found.reaches)}, {_in_hours(hours)}"
    if early and late and early != late:
        words += f" (most likely between {early} and {late})"
    elif early and not late:
        words += f" (at {early} at the earliest)"
    return f"{words}."


def _in_hours(hours: float) -> str:
    return "within the hour" if hours < 1 else f"in about {_plural(round(hours), 'hour')}"


def _plural(count: int, word: str, ending: str = "s") -> str:
    return f"{count:,} {word}{ending * (count != 1)}"


def _upper(words: str) -> str:
    return words[0].upper() + words[1:]
