"""What both SNAT checks have in common: each way out is judged, and its numbers are kept in any case."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from checks._ways_out import WayOut, not_for_the_tunnel, ways_out
from facts.finding import Fault, Observed, Reason, Statement, Unknown
from facts.snapshot import Snapshot

CONSEQUENCE = (
    "Once ports are used up, new connections fail until old ones let go of theirs, and nodes cannot open the "
    "tunnel to the API server."
)
"""What it leads to."""
_NOBODY = frozenset({"stopped", "network_isolated"})
"""Why nobody gets out at all, so that there are no numbers either."""


class Judged(Struct):
    """What is to be said of one way out."""

    numbers: dict[str, Any]
    faults: list[Fault] = []
    unknown: dict[Reason, None] = {}

    @property
    def kept(self) -> dict[str, Any]:
        """The numbers, and the titles of what is wrong."""
        return {**self.numbers, "titles": [one.title for one in self.faults]} if self.faults else self.numbers

    def doubt(self, reason: Reason) -> None:
        """Something is not known, which is said once."""
        self.unknown[reason] = None


type Judge = Callable[[Snapshot, WayOut, Sequence[WayOut], Judged], None]
"""Says what is to be said of one way out, which is among all of the cluster's."""


def every_way(snapshot: Snapshot, judge: Judge) -> Iterator[Statement]:
    """Judge each way out.

    Where the tunnel goes by none of them nothing is a fault of its, nor unknown; what was found is kept.
    """
    inapplicable = not_for_the_tunnel(snapshot)
    if inapplicable and inapplicable.reason.code in _NOBODY:
        yield inapplicable
        return
    found, unread = ways_out(snapshot)
    judged = [_judged(snapshot, way, found, judge) for way in found]
    if judged:
        yield Observed(evidence={"waysOut": [one.kept for one in judged]})
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


def _judged(snapshot: Snapshot, way: WayOut, every: Sequence[WayOut], judge: Judge) -> Judged:
    judged = Judged(
        {
            "through": way.gate.id,
            "kind": type(way.gate).__name__,
            "pools": [pool.name for pool in way.pools],
        }
    )
    judge(snapshot, way, every, judged)
    return judged


def no_data(way: WayOut, message: str) -> Reason:
    """Azure has no number that is needed."""
    return Reason(code="no_data", message=message, resource=way.gate.id)


def nothing_counted(way: WayOut, span: str) -> Reason:
    """Azure has no number at all, over a time such as `28 days`, though somebody gets out there."""
    message = (
        f"Azure Monitor has no data of {way.words} for {span}, though the nodes of {way.pool_words} get out "
        "by it. No data is not 0: look at the metrics in the portal, and if they are empty there too, ask "
        "Azure's support."
    )
    return no_data(way, message)


def head(snapshot: Snapshot, way: WayOut) -> dict[str, Any]:
    """What evidence of each finding begins with."""
    return {
        "through": way.gate.id,
        "outboundType": snapshot.cluster.outbound_type,
        "pools": [pool.name for pool in way.pools],
    }


def plural(count: int, word: str, ending: str = "s") -> str:
    """`1 node`, `1,000 nodes`, `2 addresses`."""
    return f"{count:,} {word}{ending * (count != 1)}"


def upper(words: str) -> str:
    """Words as a sentence begins with them."""
    return words[0].upper() + words[1:]
