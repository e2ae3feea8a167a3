"""Nodes run out of SNAT ports: connections to the outside fail, or are about to.

Reads: by which way the nodes of each pool really get out (routes, NAT gateways on subnets, the outbound
rules of load balancers), and what Azure Monitor counted there minute by minute since the last scan: at a
load balancer failed SNAT connections, and the ports that each node uses and has, by protocol; at a NAT
gateway failed connections, dropped packets and the availability of its data path; at an Azure Firewall the
share of its ports in use.

Why: nodes open the tunnel to a public API server through the same translated ports as everything else that
goes out. Once the ports are used up new connections fail until old ones let go of theirs, the tunnel's own
among them, and `kubectl logs`, `exec`, `port-forward` and admission webhooks fail with them, off and on.

Fails when: SNAT connections failed since the last scan (critical while they go on, a warning once they have
stopped for five minutes), or a node used 75 % (warning) or 90 % (critical) of its ports for a protocol, or
an Azure Firewall of its own; or a NAT gateway's data path was available for less than 90 % of the last 15
minutes. One finding for each load balancer, NAT gateway or firewall, naming the nodes and frontends.

Unknown when: the way out or its metrics could not be read, or Azure Monitor has no data of it though nodes
use it: no data is not 0.

Not applicable when: the cluster or every node pool is stopped, or the tunnel does not go this way: a
private cluster, API server VNet integration, or a cluster cut off on purpose (outbound type `none` or
`block`). What was counted is kept with the check's state all the same, for it may be what applications
suffer from.

Fix: let applications reuse connections (pooling), the busiest nodes' first. Give each node more ports (`az
aks update --load-balancer-outbound-ports`), with more outbound addresses where they have to come from
somewhere, and a shorter idle timeout. Where that does not do, let the cluster go out by a NAT gateway.

Documentation: https://learn.microsoft.com/troubleshoot/azure/azure-kubernetes/connectivity/snat-port-exhaustion
"""

from collections.abc import Iterator, Sequence
from typing import Any

from checks._remedies import az
from checks._snat import CONSEQUENCE, Judged, every_way, head, no_data, nothing_counted, plural, upper
from checks._snat_advice import remedies
from checks._snat_case import own_ports
from checks._snat_failures import LISTED, Failures, count_failures, failed_title, failed_words
from checks._snat_use import PortUse, at, connections, drawn, of_metric, summed
from checks._ways_out import WayOut, elsewhere
from facts.filters import Firewall, Missing
from facts.finding import Fault, Remediation, Severity, Statement
from facts.outbound import LoadBalancer, NatGateway, Window
from facts.snapshot import Snapshot

ID = "snat-exhaustion"
CAUSE = 5
SEVERITY = Severity.CRITICAL
AFFECTS = ("logs", "exec", "port-forward", "webhooks")

# As Microsoft advises for alerts: https://learn.microsoft.com/azure/load-balancer/load-balancer-standard-diagnostics
WARNING_AT = 0.75
CRITICAL_AT = 0.90
# https://learn.microsoft.com/azure/nat-gateway/nat-metrics: less than 90 % over 15 minutes is worth an alert.
DATAPATH_MINUTES = 15
DEGRADED_BELOW = 90.0
UNAVAILABLE_BELOW = 25.0
DATAPATH_LEAST = 5
"""Points without which nothing is said of a data path: fewer are known for false alarms."""
FRONTENDS = 3
"""Frontends that evidence lists of each node, the fullest first."""
_METRICS_DOCS = "https://learn.microsoft.com/azure/azure-monitor/reference/metrics-index"
DRAWN_NODES = 3
"""Nodes whose time series evidence keeps."""


def check(snapshot: Snapshot) -> Iterator[Statement]:
    """Judge every way out, and keep the numbers whatever they say."""
    return every_way(snapshot, _judge)


def _judge(snapshot: Snapshot, way: WayOut, every: Sequence[WayOut], judged: Judged) -> None:
    if not way.nodes and all(pool.count == 0 for pool in way.pools):
        return
    usage = snapshot.usage.get(way.key)
    if usage is None:
        judged.doubt(no_data(way, f"What Azure Monitor counted at {way.words} was not looked up."))
        return
    window = usage.recent
    if isinstance(window, Missing):
        judged.doubt(window.reason)
        return
    if not window.series:
        judged.doubt(nothing_counted(way, f"the last {window.steps * window.step_minutes} minutes"))
        return
    judged.numbers["window"] = {"from": at(window, 0), "to": at(window, window.steps)}
    match way.gate:
        case LoadBalancer():
            _at_balancer(snapshot, way, every, window, judged)
        case NatGateway():
            _at_gateway(snapshot, way, window, judged)
        case Firewall():
            _at_firewall(snapshot, way, window, judged)


# --- a load balancer -------------------------------------------------------------------------------


def _at_balancer(
    snapshot: Snapshot, way: WayOut, every: Sequence[WayOut], window: Window, judged: Judged
) -> None:
    others = elsewhere(way, every)
    used = own_ports(window, way, every)
    counted = [one for one in connections(window) if one.address not in others]
    if not used and not counted:
        message = f"Azure Monitor has no data of the nodes of {way.pool_words} at {way.words}."
        judged.doubt(no_data(way, message))
        return
    if not used:
        message = (
            f"Azure Monitor shows connections of the nodes of {way.pool_words} at {way.words}, but not how "
            "many ports they use."
        )
        judged.doubt(no_data(way, message))
    unallotted = sorted({one.address for one in used if one.peak is None and one.highest})
    if unallotted:
        message = (
            f"Azure Monitor shows ports in use at {way.words}, but not how many there are, for "
            f"{', '.join(_names(unallotted, way)[:LISTED])}."
        )
        judged.doubt(no_data(way, message))
    busy = sorted(
        (one for one in used if one.peak is not None),
        key=lambda one: (-(one.peak or 0), one.protocol, one.address),
    )
    failures = count_failures(counted, window)
    high = [one for one in busy if (one.peak or 0) >= WARNING_AT]
    judged.numbers["failed"] = failures.count if failures else 0
    judged.numbers["ports"] = [
        _port_numbers(one, way, window, draw=index == 0) for index, one in enumerate(busy[:3])
    ]
    if failures is None and not high:
        return
    critical = (failures is not None and failures.going_on) or any(
        (one.peak or 0) >= CRITICAL_AT for one in high
    )
    fault = Fault(
        subject=way.key,
        title=_title(way, failures, high),
        detail=_detail(way, window, failures, high),
        resource=way.gate.id,
        severity=Severity.CRITICAL if critical else Severity.WARNING,
        confidence="observed",
        evidence=head(snapshot, way)
        | {
            "window": judged.numbers["window"],
            "failed": failures.evidence(window, way.nodes) if failures else None,
            "ports": [
                _port_numbers(one, way, window, draw=index < DRAWN_NODES)
                for index, one in enumerate(high[:LISTED])
            ],
            "nodesAt75Percent": len(_names([one.address for one in high], way)),
            "nodesAt90Percent": len(
                _names([one.address for one in high if (one.peak or 0) >= CRITICAL_AT], way)
            ),
        },
        remediation=(
            *remedies(
                snapshot,
                way,
                peak=max((one.highest for one in busy), default=None),
                failed=failures is not None,
                busiest=_busiest(failures, high, way),
            ),
            _by_hand(way, "UsedSnatPorts" if failures is None else "SnatConnectionCount"),
        ),
    )
    judged.faults.append(fault)


def _busiest(failures: Failures | None, high: Sequence[PortUse], way: WayOut) -> list[str]:
    """Names of the nodes to look at first."""
    addresses = [address for address, _ in (failures.by_node if failures else ()) if address]
    return _names([*addresses, *(one.address for one in high)], way)


def _names(addresses: Sequence[str], way: WayOut) -> list[str]:
    """Names of nodes, each once; an address that no node has (any more) stands for itself."""
    return list(dict.fromkeys(way.nodes.get(address, address) for address in addresses))


def _port_numbers(one: PortUse, way: WayOut, window: Window, *, draw: bool) -> dict[str, Any]:
    used, allocated = one.at_peak
    numbers: dict[str, Any] = {
        "node": way.nodes.get(one.address, one.address),
        "address": one.address,
        "protocol": one.protocol,
        "used": round(used),
        "allocated": round(allocated),
        "percent": _percent(one.peak),
        "percentNow": _percent(one.now),
        "minutesAt75Percent": _minutes(one, WARNING_AT),
        "minutesAt90Percent": _minutes(one, CRITICAL_AT),
        "frontends": list(one.frontends[:FRONTENDS]),
    }
    if draw:
        numbers["series"] = drawn(window, one.used)
    return numbers


def _minutes(one: PortUse, threshold: float) -> int:
    return sum(share is not None and share >= threshold for share in one.shares)


def _percent(share: float | None) -> int | None:
    """Rounded down, so that nothing reads as having reached a threshold that it has not."""
    return None if share is None else int(share * 100 + 1e-9)


def _title(way: WayOut, failures: Failures | None, high: Sequence[PortUse]) -> str:
    if failures is not None:
        return failed_title(way, failures)
    first = high[0]
    more = len(_names([one.address for one in high], way)) - 1
    others = f", and {plural(more, 'node')} more at {_percent(WARNING_AT)} % or more" if more else ""
    node = way.nodes.get(first.address, first.address)
    uses = f"{'uses' if (first.now or 0) >= WARNING_AT else 'used'} {_percent(first.peak)} %"
    return f"Node {node} {uses} of its {first.protocol} SNAT ports at {way.words}{others}"


def _detail(way: WayOut, window: Window, failures: Failures | None, high: Sequence[PortUse]) -> str:
    sentences = [f"The nodes of {way.pool_words} get out by {way.words}."]
    if failures is not None:
        sentences.append(failed_words(failures, window))
        nodes = _names([address for address, _ in failures.by_node if address], way)
        if nodes:
            sentences.append(f"They came from {_some(nodes)}.")
        frontends = [address for address, _ in failures.by_frontend if address]
        if frontends:
            sentences.append(f"The frontend{'s are' if len(frontends) > 1 else ' is'} {_some(frontends)}.")
    for protocol in dict.fromkeys(one.protocol for one in high):
        full = [one for one in high if one.protocol == protocol]
        words = [
            f"{way.nodes.get(one.address, one.address)} {_percent(one.peak)} % ({round(used):,} of "
            f"{round(allocated):,}, "
            f"for {plural(_minutes(one, WARNING_AT), 'minute')} at {_percent(WARNING_AT)} % or more)"
            for one in full
            for used, allocated in (one.at_peak,)
        ]
        sentences.append(f"Of their {protocol} ports, these nodes used at their peak: {_some(words, '; ')}.")
    sentences.append(CONSEQUENCE)
    return " ".join(sentences)


# --- a NAT gateway ---------------------------------------------------------------------------------


def _at_gateway(snapshot: Snapshot, way: WayOut, window: Window, judged: Judged) -> None:
    counted = connections(window)
    if not counted:
        # Azure's own health probes are among them, so that there are some at any time.
        message = f"Azure Monitor has no data of connections at {way.words}."
        judged.doubt(no_data(way, message))
    failures = count_failures(counted, window)
    datapath = _last_values(window, "DatapathAvailability", DATAPATH_MINUTES)
    available = sum(datapath) / len(datapath) if len(datapath) >= DATAPATH_LEAST else None
    dropped = sum(_known(window, "PacketDropCount"))
    active = _known(window, "TotalConnectionCount")
    degraded = available is not None and available < DEGRADED_BELOW
    judged.numbers |= {
        "failed": failures.count if failures else 0,
        "droppedPackets": round(dropped),
        "datapathPercent": None if available is None else round(available, 1),
        "connections": round(max(active)) if active else None,
    }
    if failures is None and not degraded:
        return
    sentences = [f"The nodes of {way.pool_words} get out by {way.words}."]
    if failures is not None:
        sentences.append(failed_words(failures, window))
    if degraded:
        sentences.append(
            f"Its data path was available for {available:.0f} % of the last {len(datapath)} minutes."
        )
    if dropped:
        sentences.append(f"It dropped {round(dropped):,} packets.")
    sentences.append(CONSEQUENCE)
    if failures is not None:
        title = failed_title(way, failures)
    else:
        title = f"The data path of {way.words} is available for {available:.0f} % of the time"
    critical = (failures is not None and failures.going_on) or (
        available is not None and available < UNAVAILABLE_BELOW
    )
    fault = Fault(
        subject=way.key,
        title=title,
        detail=" ".join(sentences),
        resource=way.gate.id,
        severity=Severity.CRITICAL if critical else Severity.WARNING,
        confidence="observed",
        evidence=head(snapshot, way)
        | {
            "window": judged.numbers["window"],
            "failed": failures.evidence(window, way.nodes) if failures else None,
            "droppedPackets": round(dropped),
            "datapathPercent": judged.numbers["datapathPercent"],
            "connections": judged.numbers["connections"],
        },
        remediation=(
            *remedies(
                snapshot,
                way,
                peak=max(active, default=None),
                failed=failures is not None,
                busiest=(),
                degraded=degraded,
            ),
            _by_hand(way, "DatapathAvailability" if failures is None else "SNATConnectionCount"),
        ),
    )
    judged.faults.append(fault)


def _known(window: Window, metric: str) -> list[float]:
    """Every value of a metric that is not told apart by dimensions."""
    return [value for one in of_metric(window, metric) for value in one.values if value is not None]


def _last_values(window: Window, metric: str, minutes: int) -> list[float]:
    """The values of the last minutes for which there are any, if that is not long ago."""
    values = summed((one.values for one in of_metric(window, metric)), window.steps)
    end = max((step + 1 for step, value in enumerate(values) if value is not None), default=0)
    if end <= window.steps - minutes:
        return []
    return [value for value in values[max(end - minutes, 0) : end] if value is not None]


# --- a firewall ------------------------------------------------------------------------------------


def _at_firewall(snapshot: Snapshot, way: WayOut, window: Window, judged: Judged) -> None:
    peaks = {
        one.dimensions.get("protocol", "").upper(): max(value for value in one.values if value is not None)
        for one in of_metric(window, "SNATPortUtilization")
        if any(value is not None for value in one.values)
    }
    if not peaks:
        judged.doubt(no_data(way, f"Azure Monitor has no data of the ports of {way.words}."))
    judged.numbers["percent"] = {protocol: round(peak, 1) for protocol, peak in sorted(peaks.items())}
    high = {protocol: peak for protocol, peak in peaks.items() if peak >= WARNING_AT * 100}
    if not high:
        return
    protocol, peak = max(high.items(), key=lambda item: (item[1], item[0]))
    used = ", ".join(
        f"{int(value)} %{f' for {name}' if name else ''}" for name, value in sorted(high.items())
    )
    its = f"its {protocol} SNAT ports" if protocol else "its SNAT ports"
    fault = Fault(
        subject=way.key,
        title=f"{upper(way.words)} uses {int(peak)} % of {its}",
        detail=(
            f"A route leads the nodes of {way.pool_words} out by {way.words}, whose own ports were in use at "
            f"their peak: {used}. They are shared by everybody behind it. {CONSEQUENCE}"
        ),
        resource=way.gate.id,
        severity=Severity.CRITICAL if peak >= CRITICAL_AT * 100 else Severity.WARNING,
        confidence="observed",
        evidence=head(snapshot, way)
        | {
            "window": judged.numbers["window"],
            "percent": judged.numbers["percent"],
            "series": {
                one.dimensions.get("protocol", "").upper(): drawn(window, one.values)
                for one in of_metric(window, "SNATPortUtilization")
            },
        },
        remediation=(
            *remedies(snapshot, way, peak=peak, failed=False, busiest=()),
            _by_hand(way, "SNATPortUtilization"),
        ),
    )
    judged.faults.append(fault)


_LOOKS = {
    "UsedSnatPorts": ("average", "BackendIPAddress eq '*' and ProtocolType eq '*'"),
    "SnatConnectionCount": ("total", "ConnectionState eq 'Failed' and BackendIPAddress eq '*'"),
    "SNATConnectionCount": ("total", "ConnectionState eq 'Failed'"),
    "DatapathAvailability": ("average", ""),
    "SNATPortUtilization": ("maximum", "Protocol eq '*'"),
}
"""How each metric is looked at: what is made of the samples of a minute, and which time series."""


def _by_hand(way: WayOut, metric: str) -> Remediation:
    """How to see the numbers for oneself."""
    aggregation, split = _LOOKS[metric]
    # Without --top, ten time series come and nothing says that there are more.
    narrowed = ("--filter", split, "--top", "1000") if split else ()
    portal = "in the portal, under Metrics of " + way.words
    if isinstance(way.gate, LoadBalancer):
        portal += (
            ", by SNAT Connection Count split by Connection State, or under Diagnose and solve problems of "
            "the cluster: Connectivity Issues, SNAT Connection and Port Allocation"
        )
    return Remediation(
        summary=f"To see it for yourself: {portal}; or",
        commands=(
            az(
                "monitor metrics list",
                *("--resource", way.gate.id),
                *("--metrics", metric),
                *("--aggregation", aggregation),
                *("--interval", "PT1M"),
                *("--offset", "1h"),
                *narrowed,
                *("--output", "table"),
            ),
        ),
        docs=_METRICS_DOCS,
    )


def _some(words: Sequence[str], parted: str = ", ") -> str:
    """Some of many, and how many more."""
    shown = parted.join(words[:LISTED])
    more = len(words) - LISTED
    return f"{shown} and {more} more" if more > 0 else shown
