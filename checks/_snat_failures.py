"""Connections that failed: how many, since when, where, and whether it goes on."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from checks._snat import plural
from checks._snat_use import Connections, at, drawn, summed
from checks._ways_out import WayOut
from facts.outbound import Window

NOW_MINUTES = 5
"""Failures count as going on for so long after the last of them."""
LISTED = 10
"""Nodes that evidence lists."""


class Failures(Struct, frozen=True):
    """Connections that failed."""

    count: int
    minutes: int
    """In how many minutes some did."""
    first: int
    last: int
    """The first and the last of these, as steps of the window."""
    going_on: bool
    by_minute: tuple[float | None, ...]
    by_node: tuple[tuple[str, int], ...]
    """Addresses with what failed there, the most first."""
    by_frontend: tuple[tuple[str, int], ...]
    by_protocol: tuple[tuple[str, int], ...]

    def evidence(self, window: Window, names: dict[str, str]) -> dict[str, Any]:
        """As findings have it."""
        nodes = [
            {"node": names.get(address, address), "address": address, "count": count}
            for address, count in self.by_node[:LISTED]
            if address
        ]
        return {
            "count": self.count,
            "minutes": self.minutes,
            "first": at(window, self.first),
            "last": at(window, self.last),
            "goingOn": self.going_on,
            "nodes": nodes,
            "frontends": [{"address": one, "count": count} for one, count in self.by_frontend if one],
            "protocols": [{"protocol": one, "count": count} for one, count in self.by_protocol if one],
            "series": drawn(window, self.by_minute, summing=True),
        }


def count_failures(counted: Sequence[Connections], window: Window) -> Failures | None:
    """What failed, if anything did."""
    failed = [one for one in counted if one.state == "failed" and one.total > 0]
    if not failed:
        return None
    by_minute = summed((one.counts for one in failed), window.steps)
    some = [step for step, count in enumerate(by_minute) if count]
    # The newest minutes may not have arrived: what there is of anything says how far the numbers go.
    known = max(step for one in window.series for step, value in enumerate(one.values) if value is not None)
    return Failures(
        count=round(sum(one.total for one in failed)),
        minutes=len(some),
        first=some[0],
        last=some[-1],
        going_on=known - some[-1] < NOW_MINUTES,
        by_minute=by_minute,
        by_node=_tally(failed, "address"),
        by_frontend=_tally(failed, "frontend"),
        by_protocol=_tally(failed, "protocol"),
    )


def _tally(failed: Sequence[Connections], field: str) -> tuple[tuple[str, int], ...]:
    tally: Counter[str] = Counter()
    for one in failed:
        tally[getattr(one, field)] += round(one.total)
    return tuple(sorted(tally.items(), key=lambda item: (-item[1], item[0])))


def failed_title(way: WayOut, failures: Failures) -> str:
    tense = "fail" if failures.going_on else "failed"
    minutes = plural(failures.minutes, "minute")
    return f"SNAT connections {tense} at {way.words}: {failures.count:,} in {minutes}"


def failed_words(failures: Failures, window: Window) -> str:
    """Since when, how many, and whether it goes on."""
    first, last = at(window, failures.first), at(window, failures.last)
    if failures.going_on:
        return (
            f"{failures.count:,} SNAT connections failed in {plural(failures.minutes, 'minute')} since "
            f"{first}, the last at {last}: it goes on."
        )
    return (
        f"{failures.count:,} SNAT connections failed in {plural(failures.minutes, 'minute')} from {first} "
        f"to {last}; none has failed since."
    )
