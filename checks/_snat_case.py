"""One way out, with what its nodes were seen to use of its ports."""

from collections.abc import Iterable, Sequence

from msgspec import Struct, structs

from checks._snat import no_data
from checks._snat_use import PortUse, hourly_ports, ports
from checks._ways_out import WayOut, elsewhere
from facts.filters import Missing
from facts.finding import Reason
from facts.outbound import Frontend, LoadBalancer, Usage, Window
from facts.snapshot import Snapshot


class Case(Struct, frozen=True):
    """One way out of one cluster."""

    snapshot: Snapshot
    way: WayOut
    usage: Usage | None
    used: "Used"


class Used(Struct, frozen=True):
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
    def of(cls, balancer: LoadBalancer, way: WayOut, every: Sequence[WayOut], usage: Usage | None) -> "Used":
        """What Azure Monitor counted, without nodes that get out by another way or are gone."""
        recent: dict[int, tuple[PortUse, ...]] = {}
        peaks: dict[int, float] = {}
        hours: dict[tuple[str, int], tuple[float | None, ...]] = {}
        span = ""
        if usage and isinstance(usage.recent, Window):
            span = f"in the last {usage.recent.steps * usage.recent.step_minutes} minutes"
            for version in (4, 6):
                found = own_ports(_of_version(usage.recent, version), way, every)
                found.sort(key=lambda one: (-one.highest, one.protocol, one.address))
                recent[version] = tuple(found)
                if any(value is not None for one in found for value in one.used):
                    peaks[version] = found[0].highest
        if usage and isinstance(usage.history, Window) and any_points(usage.history):
            span = f"in {days(usage.history)} days"
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


def own_ports(window: Window, way: WayOut, every: Sequence[WayOut]) -> list[PortUse]:
    """The ports of nodes that get out by a load balancer.

    A node that gets out by another way is in the backend pool all the same, and one that is gone is shown
    with no ports for a while.
    """
    others = elsewhere(way, every)
    return [
        one
        for one in ports(window)
        if one.address not in others and (one.address in way.nodes or any(one.allocated))
    ]


def any_points(window: Window) -> bool:
    """Whether there is any number."""
    return any(value is not None for one in window.series for value in one.values)


def silent(window: Window) -> int:
    """The hours at the end of a history that have no points, of whatever series."""
    known = (step for one in window.series for step, value in enumerate(one.values) if value is not None)
    return window.steps - 1 - max(known, default=-1)


def days(window: Window) -> int:
    """How long a window is."""
    return window.steps * window.step_minutes // 1440


def _of_version(window: Window, version: int) -> Window:
    """Those of a window's series whose frontend is of a version of IP."""
    series = tuple(
        one for one in window.series if (":" in one.dimensions.get("frontendipaddress", "")) == (version == 6)
    )
    return structs.replace(window, series=series)


def unread_addresses(way: WayOut, frontends: Iterable[Frontend], what: str) -> Reason:
    """Why it is not known how many addresses there are."""
    for one in frontends:
        if isinstance(one.addresses, Missing):
            return one.addresses.reason
    return no_data(way, f"Azure shows no public address of {what} of {way.words} that can be read.")
