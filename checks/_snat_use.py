"""What Azure Monitor's numbers say of ports and connections: by node, by protocol, minute by minute.

Azure samples the ports of each node on each frontend once a minute. A load balancer takes ports of the next
frontend when those of one are used up, so what a node uses and has is the sum over its frontends. A minute in
which a frontend shows no point is one without traffic by it; what it had allotted it still has.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from facts.outbound import Series, Window
from facts.times import timestamp

DRAWN = 60
"""Points of a time series in evidence at the most."""


class PortUse(Struct, frozen=True, kw_only=True):
    """The ports that one node uses for one protocol."""

    address: str
    """The node's."""
    protocol: str
    """`TCP` or `UDP`."""
    used: tuple[float | None, ...]
    """Minute by minute, over all frontends."""
    allocated: tuple[float | None, ...]
    """What the node may use, minute by minute; `None` where Azure never showed it."""
    frontends: tuple[str, ...]
    """The frontend addresses that show it, those that are the fullest first."""
    held: frozenset[str] = frozenset()
    """Those on which ports are allotted to it, or were."""

    @property
    def shares(self) -> tuple[float | None, ...]:
        """The part of its ports that is in use, minute by minute; all of them, where it has none.

        A node that has just come has none yet, and needs none: those minutes say nothing.
        """
        none = 1.0 if not self.allocated[-1] else None
        return tuple(
            None
            if used is None or allocated is None
            else min(used / allocated, 1.0)
            if allocated
            else 1.0
            if used
            else none
            for used, allocated in zip(self.used, self.allocated, strict=True)
        )

    @property
    def peak(self) -> float | None:
        """The greatest part of its ports that was in use; `None` where nothing says."""
        return max((share for share in self.shares if share is not None), default=None)

    @property
    def now(self) -> float | None:
        """The part that is in use, as far as points have come."""
        return next((share for share in reversed(self.shares) if share is not None), None)

    @property
    def at_peak(self) -> tuple[float, float]:
        """Ports in use and allotted when the greatest part was in use, the last time that it was."""
        known = [
            (share, used or 0.0, allocated or 0.0)
            for share, used, allocated in zip(self.shares, self.used, self.allocated, strict=True)
            if share is not None
        ]
        _, used, allocated = max(reversed(known), key=lambda one: one[0], default=(0.0, self.highest, 0.0))
        return used, allocated

    @property
    def highest(self) -> float:
        """The most ports that were in use."""
        return max((used for used in self.used if used is not None), default=0.0)


class Connections(Struct, frozen=True, kw_only=True):
    """New connections of one kind, minute by minute."""

    address: str
    """The node's; empty where Azure does not tell nodes apart."""
    frontend: str
    protocol: str
    state: str
    """In lower case: `failed`, `successful`, `pending`, `attempted`."""
    counts: tuple[float | None, ...]

    @property
    def total(self) -> float:
        """All of them."""
        return sum(count for count in self.counts if count is not None)


_PROTOCOLS = {"6": "TCP", "17": "UDP"}
"""Azure writes a NAT gateway's protocols as numbers."""


def ports(window: Window) -> list[PortUse]:
    """The ports in use at a load balancer, by node and protocol."""
    by_node: dict[tuple[str, str], dict[str, dict[str, Series]]] = {}
    for one in window.series:
        if one.metric in {"UsedSnatPorts", "AllocatedSnatPorts"}:
            node = (
                one.dimensions.get("backendipaddress", ""),
                _protocol(one.dimensions.get("protocoltype", "")),
            )
            frontend = one.dimensions.get("frontendipaddress", "")
            by_node.setdefault(node, {}).setdefault(frontend, {})[one.metric] = one
    return [
        _port_use(address, protocol, frontends, window.steps)
        for (address, protocol), frontends in sorted(by_node.items())
    ]


def _port_use(address: str, protocol: str, held: Mapping[str, Mapping[str, Series]], steps: int) -> PortUse:
    used: list[float | None] = [None] * steps
    allocated: list[float | None] = [None] * steps
    fullness: dict[str, float] = {}
    for frontend, series in held.items():
        in_use = series["UsedSnatPorts"].values if "UsedSnatPorts" in series else (None,) * steps
        allotted = _carried(series["AllocatedSnatPorts"].values) if "AllocatedSnatPorts" in series else ()
        for step, value in enumerate(in_use):
            if value is not None:
                used[step] = (used[step] or 0.0) + value
        for step, value in enumerate(allotted):
            if value is not None:
                allocated[step] = (allocated[step] or 0.0) + value
        fullness[frontend] = max((value for value in in_use if value is not None), default=0.0)
    return PortUse(
        address=address,
        protocol=protocol,
        used=tuple(used),
        allocated=tuple(allocated),
        frontends=tuple(sorted(fullness, key=lambda one: (-fullness[one], one))),
        held=frozenset(
            frontend
            for frontend, series in held.items()
            if "AllocatedSnatPorts" in series and any(series["AllocatedSnatPorts"].values)
        ),
    )


def _carried(values: Sequence[float | None]) -> list[float | None]:
    """Values that hold until there is another one, and did before there was one."""
    known = next((value for value in values if value is not None), None)
    held = []
    for value in values:
        known = known if value is None else value
        held.append(known)
    return held


def connections(window: Window) -> list[Connections]:
    """New connections at a load balancer or a NAT gateway, by node, frontend, protocol and state."""
    return [
        Connections(
            address=one.dimensions.get("backendipaddress", ""),
            frontend=one.dimensions.get("frontendipaddress", ""),
            protocol=_protocol(one.dimensions.get("protocol", "")),
            state=one.dimensions.get("connectionstate", "").lower(),
            counts=one.values,
        )
        for one in window.series
        if one.metric.lower() == "snatconnectioncount"
    ]


def of_metric(window: Window, metric: str) -> list[Series]:
    """The time series of a metric."""
    return [one for one in window.series if one.metric == metric]


def hourly(window: Window, metric: str) -> dict[tuple[str, int], tuple[float | None, ...]]:
    """A history by protocol and version of IP, summed over whatever else tells time series apart.

    The protocol is empty where Azure does not tell them apart.
    """
    found = _by_kind(window, metric)
    return {key: summed((one.values for one in several), window.steps) for key, several in found.items()}


def hourly_ports(
    window: Window, held: Mapping[str, Iterable[frozenset[str]]], *, spread: bool
) -> dict[tuple[str, int], tuple[float | None, ...]]:
    """The ports of the busiest node at a load balancer, by protocol and version of IP, hour by hour.

    Azure tells the busiest node of each frontend, and that need not be the same on each. So the frontends are
    summed on which some node has ports, `held` by protocol: that is a bound. Where nobody knows who has ports
    of what, and they are `spread`, the busiest node of one frontend is all that is certain.
    """
    found: dict[tuple[str, int], tuple[float | None, ...]] = {}
    for (protocol, version), several in _by_kind(window, "UsedSnatPorts").items():
        rows = {one.dimensions.get("frontendipaddress", ""): one.values for one in several}
        sets = {frozenset(one & rows.keys()) for one in held.get(protocol, ())} - {frozenset()}
        if not sets:
            sets = {frozenset({one}) for one in rows} if spread else {frozenset(rows)}
        # Frontends that are there no more were the busiest node's, for all that is known.
        gone = rows.keys() - frozenset().union(*sets)
        sums = [summed((rows[one] for one in (*fronts, *gone)), window.steps) for fronts in sets]
        found[protocol, version] = tuple(
            max((value for value in values if value is not None), default=None)
            for values in zip(*sums, strict=True)
        )
    return found


def _by_kind(window: Window, metric: str) -> dict[tuple[str, int], list[Series]]:
    """The time series of a metric by protocol and version of IP."""
    found: dict[tuple[str, int], list[Series]] = {}
    for one in of_metric(window, metric):
        protocol = _protocol(one.dimensions.get("protocoltype", "") or one.dimensions.get("protocol", ""))
        version = 6 if ":" in one.dimensions.get("frontendipaddress", "") else 4
        found.setdefault((protocol, version), []).append(one)
    return found


def summed(rows: Iterable[Sequence[float | None]], steps: int) -> tuple[float | None, ...]:
    """Several time series as one, minute by minute; `None` where none has a point."""
    sums: list[float | None] = [None] * steps
    for row in rows:
        for step, value in enumerate(row):
            if value is not None:
                sums[step] = (sums[step] or 0.0) + value
    return tuple(sums)


def at(window: Window, step: int) -> str:
    """When a step begins, UTC, ISO 8601."""
    start = datetime.fromisoformat(window.start)
    return timestamp(start + timedelta(minutes=window.step_minutes * step))


def drawn(window: Window, values: Sequence[float | None], *, summing: bool = False) -> dict[str, Any]:
    """A time series as evidence keeps it: `{"start": …, "stepMinutes": 1, "values": [812, null, …]}`.

    Steps are put together where there are too many to keep: to the highest of them, or to their sum.
    """
    width = max(-(-len(values) // DRAWN), 1)
    thinned = [_together(values[first : first + width], summing) for first in range(0, len(values), width)]
    return {"start": window.start, "stepMinutes": window.step_minutes * width, "values": thinned}


def _together(values: Sequence[float | None], summing: bool) -> float | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    together = sum(known) if summing else max(known)
    return int(together) if together == int(together) else round(together, 2)


def _protocol(written: str) -> str:
    return _PROTOCOLS.get(written, written.upper())
