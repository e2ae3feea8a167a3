"""What the use of a way out leads to: whether it reaches the limit within a day."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct, structs

from checks._forecast import LATE, Forecast, TooLittle, forecast
from checks._snat import CONSEQUENCE, Judged, head, no_data, nothing_counted, plural
from checks._snat_advice import remedies
from checks._snat_case import Case, any_points, days, silent, unread_addresses
from checks._snat_ports import (
    GATEWAY_TO_ONE_DESTINATION,
    count_addresses,
    gateway_connections,
    ip_version,
    of_ipv4,
    ports_of_node,
    sharing,
)
from checks._snat_use import PortUse, drawn, hourly
from checks._ways_out import WayOut
from facts.filters import Firewall, Missing
from facts.finding import Fault, Reason, Severity
from facts.outbound import LoadBalancer, NatGateway, OutboundRule, Window
from facts.times import timestamp

SOON_HOURS = 24
"""Use that is foretold to reach the limit within so long is a fault."""
STILL = 0.75
"""Less of the limit than that in the last minutes, and use that had reached it has fallen."""
SAMPLES = 60
"""Of an hour: the mean of what is sampled once a minute is the hour's sum by so many."""
BUSIEST = 3
"""Nodes that are named."""


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


def foretell(case: Case, judged: Judged) -> None:
    """When use reaches the limit, if it grows up to it."""
    way, usage = case.way, case.usage
    if not way.nodes and all(pool.count == 0 for pool in way.pools):
        return
    if usage is None:
        judged.doubt(no_data(way, f"What Azure Monitor counted at {way.words} was not looked up."))
        return
    window, recent = usage.history, usage.recent
    if isinstance(window, Missing):
        judged.doubt(window.reason)
        return
    if not any_points(window):
        if isinstance(recent, Missing):
            judged.doubt(recent.reason)
        elif any_points(recent):
            judged.numbers["forecast"] = {"why": "Azure Monitor has data of the last minutes alone"}
        else:
            judged.doubt(nothing_counted(way, f"{days(window)} days"))
        return
    if silent(window) > LATE:
        if isinstance(recent, Missing):
            judged.doubt(recent.reason)
        elif not any_points(recent):
            message = (
                f"Azure Monitor's data of {way.words} ended {silent(window)} hours ago. No data is not 0."
            )
            judged.doubt(no_data(way, message))
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


def _courses(case: Case, window: Window, judged: Judged) -> Iterator[_Course]:
    """What is used at a way out, with its limit; where that is not known, why."""
    match case.way.gate:
        case LoadBalancer() as balancer:
            yield from _of_ports(case, balancer, judged)
        case NatGateway() as gateway:
            addresses = count_addresses(of_ipv4(gateway.frontends))
            if not addresses:
                judged.doubt(unread_addresses(case.way, gateway.frontends, "the addresses"))
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


def _lately(case: Case, metric: str) -> dict[tuple[str, int], float]:
    """The most of the last minutes, by protocol and version of IP."""
    recent = case.usage.recent if case.usage else None
    if not isinstance(recent, Window):
        return {}
    return {
        kind: max(known)
        for kind, values in hourly(recent, metric).items()
        if (known := [value for value in values if value is not None])
    }


def _of_ports(case: Case, balancer: LoadBalancer, judged: Judged) -> Iterator[_Course]:
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


def _reckoned(case: Case, balancer: LoadBalancer, rules: Sequence[OutboundRule]) -> int | None:
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
        return unread_addresses(way, frontends, "the outbound rules")
    message = (
        f"How many {name} ports each node has at {way.words} is not known: Azure Monitor does not show it, "
        "and it does not follow from the number of nodes."
    )
    return no_data(way, message)


def _end(window: Window) -> datetime:
    return datetime.fromisoformat(window.start) + timedelta(minutes=window.step_minutes * window.steps)


def _passed(case: Case, window: Window) -> float:
    """Hours between the end of a window and when the cluster was looked at."""
    return (datetime.fromisoformat(case.snapshot.taken_at) - _end(window)) / timedelta(hours=1)


def _when(window: Window, hours: float | None) -> str | None:
    """The time so many hours after the end of a window."""
    return None if hours is None else timestamp(_end(window) + timedelta(hours=hours))


def _exhaustion(case: Case, window: Window, soon: Sequence[tuple[_Course, Forecast]]) -> Fault:
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
    detail.append(CONSEQUENCE)
    return Fault(
        subject=f"{way.key}#forecast",
        title=_forecast_title(way, course, first, hours),
        detail=" ".join(detail),
        resource=way.gate.id,
        severity=Severity.INFO if isinstance(way.gate, NatGateway) else Severity.WARNING,
        evidence=head(case.snapshot, way)
        | {
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
    return "within the hour" if hours < 1 else f"in about {plural(round(hours), 'hour')}"
