"""Sets of packets: as boxes, and as what is left of a question while rules take their parts."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Self

from msgspec import Struct

from packets.addresses import EVERY_ADDRESS, Interval, IntervalSet


class Box(Struct, frozen=True, gc=False):
    """A set of packets that is a product of four sets."""

    sources: IntervalSet
    source_ports: IntervalSet
    destinations: IntervalSet
    destination_ports: IntervalSet

    def __and__(self, other: Self) -> Self:
        return type(self)(
            self.sources & other.sources,
            self.source_ports & other.source_ports,
            self.destinations & other.destinations,
            self.destination_ports & other.destination_ports,
        )

    @property
    def empty(self) -> bool:
        """Whether no packet is in it."""
        return not (
            self.sources.intervals
            and self.source_ports.intervals
            and self.destinations.intervals
            and self.destination_ports.intervals
        )

    def split(self, other: Self) -> tuple[Self | None, list[Self]]:
        """What this box has in common with another, and what is left: at most four boxes, all apart."""
        common = self & other
        if common.empty:
            return None, [self]
        if (
            common.sources is self.sources
            and common.source_ports is self.source_ports
            and common.destinations is self.destinations
            and common.destination_ports is self.destination_ports
        ):
            return self, []
        build = type(self)
        left = (
            build(
                self.sources - common.sources,
                self.source_ports,
                self.destinations,
                self.destination_ports,
            ),
            build(
                common.sources,
                self.source_ports - common.source_ports,
                self.destinations,
                self.destination_ports,
            ),
            build(
                common.sources,
                common.source_ports,
                self.destinations - common.destinations,
                self.destination_ports,
            ),
            build(
                common.sources,
                common.source_ports,
                common.destinations,
                self.destination_ports - common.destination_ports,
            ),
        )
        return common, [box for box in left if not box.empty]


class Rest[Note](Struct, frozen=True, gc=False):
    """What is left, for some sources, of the other fields, with what was noted on it."""

    box: Box
    """Its sources stand for all: they are kept by `Undecided`."""
    notes: tuple[Note, ...] = ()

    def at(self, sources: IntervalSet) -> Box:
        """The packets that it stands for, for given sources."""
        return Box(sources, self.box.source_ports, self.box.destinations, self.box.destination_ports)


type _Rests[Note] = tuple[Rest[Note], ...]


class _Split[Note](Struct):
    """What a box takes of some rests, and what it leaves."""

    rests: _Rests[Note]
    """Kept, so that no others get their identity while this is looked up by it."""
    taken: _Rests[Note]
    left: _Rests[Note]
    intervals: list[Interval] = []
    """The sources that it was done for."""

    @classmethod
    def of(cls, rests: _Rests[Note], wanted: Box) -> Self:
        """Split rests by a box."""
        taken: list[Rest[Note]] = []
        left: list[Rest[Note]] = []
        for rest in rests:
            common, pieces = rest.box.split(wanted)
            if common is None:
                left.append(rest)
            elif not pieces:
                taken.append(rest)
            else:
                taken.append(Rest(common, rest.notes))
                left += [Rest(piece, rest.notes) for piece in pieces]
        return cls(rests, tuple(taken), tuple(left))


class Undecided[Note]:
    """The packets of a question that no rule has taken yet.

    Kept by source: for each interval of sources, in ascending order, what is left of the
    other fields. A rule touches only the intervals that it names, so that a long list
    of rules about a few addresses each costs little more than reading it.
    """

    def __init__(self, packets: Box) -> None:
        rests: _Rests[Note] = (Rest(_all_sources(packets)),)
        known = () if packets.empty else packets.sources.intervals
        self._low = [low for low, _ in known]
        self._high = [high for _, high in known]
        self._rests = [rests] * len(known)

    def __bool__(self) -> bool:
        return bool(self._low)

    def take(self, box: Box) -> Iterator[tuple[Box, tuple[Note, ...]]]:
        """Take out the packets of a box; gives them with what was noted on them."""
        wanted = _all_sources(box)
        found: dict[int, _Split[Note]] = {}

        def without(rests: _Rests[Note], interval: Interval) -> _Rests[Note]:
            # The same rests stand for many intervals: each is split once, and told by its identity.
            split = found.get(id(rests))
            if split is None:
                split = found[id(rests)] = _Split.of(rests, wanted)
            split.intervals.append(interval)
            return split.left

        self._change(box.sources, without)
        for split in found.values():
            sources = IntervalSet.of(split.intervals)
            yield from ((rest.at(sources), rest.notes) for rest in split.taken)

    def note(self, box: Box, note: Note) -> None:
        """Note something on the packets of a box that are still here."""
        wanted = _all_sources(box)
        found: dict[int, tuple[_Rests[Note], _Rests[Note]]] = {}

        def noted(rests: _Rests[Note], _: Interval) -> _Rests[Note]:
            if id(rests) not in found:
                found[id(rests)] = (rests, tuple(_noted(rests, wanted, note)))
            return found[id(rests)][1]

        self._change(box.sources, noted)

    def _change(self, sources: IntervalSet, change: Callable[[_Rests[Note], Interval], _Rests[Note]]) -> None:
        """Replace what is left for some sources; what is left of nothing goes."""
        for low, high in sources.intervals:
            first, end = bisect_left(self._high, low), bisect_right(self._low, high)
            if first >= end:
                continue
            lows: list[int] = []
            highs: list[int] = []
            kept: list[_Rests[Note]] = []
            for place in range(first, end):
                start, stop, rests = self._low[place], self._high[place], self._rests[place]
                if start < low:
                    lows.append(start)
                    highs.append(low - 1)
                    kept.append(rests)
                    start = low
                inner = min(stop, high)
                if left := change(rests, (start, inner)):
                    lows.append(start)
                    highs.append(inner)
                    kept.append(left)
                if inner < stop:
                    lows.append(inner + 1)
                    highs.append(stop)
                    kept.append(rests)
            self._low[first:end] = lows
            self._high[first:end] = highs
            self._rests[first:end] = kept


def _all_sources(box: Box) -> Box:
    return Box(EVERY_ADDRESS, box.source_ports, box.destinations, box.destination_ports)


def _noted[Note](rests: Iterable[Rest[Note]], wanted: Box, note: Note) -> Iterator[Rest[Note]]:
    for rest in rests:
        common, pieces = rest.box.split(wanted)
        if common is None:
            yield rest
        else:
            yield Rest(common, (*rest.notes, note))
            yield from (Rest(piece, rest.notes) for piece in pieces)
