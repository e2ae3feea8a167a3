"""Samples of a metric: recorded points, or computed from the shape of a curve.

Azure samples once a minute. A shape says what the curve is like around the moment of asking: `base` now,
`perDay` linear growth towards it, `daily` and `peakHour` a rhythm over the day (UTC), `noise` on both
sides, `steps` of levels (`{"at": "-P3D", "add": 200}`), `from` and `until` what there is at all, `late` how
many of the newest minutes are not there yet, `gaps` which share of minutes has none, `floor` and `cap` its
bounds. Noise and gaps are a hash of the series and the minute, so the same minute has the same sample
however often it is asked for.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from zlib import crc32

from local.azure.arm import MalformedError

type Minute = int
"""Minutes since 1970, UTC."""

LATE = 2
"""The newest minutes that Azure Monitor has not taken in yet, unless a shape says otherwise."""
SPARSE = 2
"""Samples an hour that stand for its sixty where whole hours are asked for: what a curve does in less than
half an hour is not seen then."""

_NUMBERS = ("base", "perDay", "daily", "peakHour", "noise", "gaps", "floor", "cap", "late")
_FIELDS = {*_NUMBERS, "steps", "from", "until"}
_BACK = re.compile(r"-P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?)?")


@dataclass(frozen=True, slots=True)
class Moment:
    """A time that is fixed, or so many minutes before the moment of asking."""

    at: Minute
    relative: bool

    @classmethod
    def parse(cls, text: Any) -> Self:
        """Read `2026-11-25T10:00:00Z` or `-P2DT3H`; MalformedError if it is neither."""
        if isinstance(text, str) and (back := _BACK.fullmatch(text)) and any(back.groups()):
            days, hours, minutes = (int(part or 0) for part in back.groups())
            return cls(-(days * 1440 + hours * 60 + minutes), relative=True)
        try:
            fixed = datetime.fromisoformat(text)
        except (TypeError, ValueError):
            raise MalformedError(f"{text!r} is neither a time nor a duration such as -PT5M") from None
        if fixed.tzinfo is None:
            fixed = fixed.replace(tzinfo=UTC)
        return cls(int(fixed.timestamp()) // 60, relative=False)

    def minute(self, now: Minute) -> Minute:
        """The minute that is meant."""
        return now + self.at if self.relative else self.at


@dataclass(frozen=True, slots=True)
class Recorded:
    """Points as Azure answered them."""

    points: tuple[tuple[Moment, float], ...]

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Read a `data` array; MalformedError names the point at fault."""
        if not isinstance(data, list):
            raise MalformedError('"data" is no list')
        points = []
        for place, point in enumerate(data):
            if not isinstance(point, dict):
                raise MalformedError(f"data[{place}] is no object")
            try:
                moment = Moment.parse(point.get("timeStamp"))
            except MalformedError as error:
                raise MalformedError(f"data[{place}].timeStamp: {error}") from None
            value = next(
                (
                    point[name]
                    for name in ("average", "total", "maximum", "minimum")
                    if point.get(name) is not None
                ),
                None,
            )
            if value is not None:
                points.append((moment, _number(value, f"data[{place}]")))
        return cls(tuple(points))

    def samples(
        self, first: Minute, last: Minute, now: Minute, *, sparse: bool
    ) -> Iterator[tuple[Minute, float]]:
        """The samples from one minute to another, that one left out."""
        del sparse
        for moment, value in self.points:
            minute = moment.minute(now)
            if first <= minute < last and minute <= now:
                yield minute, value


@dataclass(frozen=True, slots=True)
class Shape:
    """A curve."""

    numbers: Mapping[str, float]
    steps: tuple[tuple[Moment, float], ...]
    start: Moment | None
    end: Moment | None
    whole: bool
    """Whether samples are whole numbers."""
    seed: int

    @classmethod
    def parse(cls, content: Any, *, whole: bool, name: str) -> Self:
        """Read a `shape` object; MalformedError names the field at fault. `name` makes its noise its own."""
        if not isinstance(content, dict):
            raise MalformedError('"shape" is no object')
        if unknown := content.keys() - _FIELDS:
            raise MalformedError(f"shape: unknown field {', '.join(sorted(unknown))}")
        steps = content.get("steps", [])
        if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
            raise MalformedError("shape.steps is no list of objects")
        return cls(
            numbers={name: _number(content[name], f"shape.{name}") for name in _NUMBERS if name in content},
            steps=tuple(
                (Moment.parse(step.get("at")), _number(step.get("add"), "shape.steps.add")) for step in steps
            ),
            start=Moment.parse(content["from"]) if "from" in content else None,
            end=Moment.parse(content["until"]) if "until" in content else None,
            whole=whole,
            seed=crc32(name.encode()),
        )

    def samples(
        self, first: Minute, last: Minute, now: Minute, *, sparse: bool
    ) -> Iterator[tuple[Minute, float]]:
        """The samples from one minute to another, that one left out; `sparse` leaves some of each hour."""
        get = self.numbers.get
        newest = now - int(get("late", LATE))
        last = min(last, newest)
        if self.end is not None:
            last = min(last, self.end.minute(now))
        if self.start is not None:
            first = max(first, self.start.minute(now))
        base, slope, noise, gaps = (
            get("base", 0.0),
            get("perDay", 0.0) / 1440,
            get("noise", 0.0),
            get("gaps", 0.0),
        )
        low, high = get("floor", 0.0), get("cap", math.inf)
        rhythm = _rhythm(get("daily", 0.0), get("peakHour", 14.0))
        steps = [(moment.minute(now), add) for moment, add in self.steps]
        stride = 60 // SPARSE if sparse else 1
        if sparse:
            first += -first % stride
        for minute in range(first, last, stride):
            drawn = _drawn(minute ^ self.seed) if noise else 0.0
            if gaps and _drawn(minute ^ self.seed ^ 0x5BD1E995) < gaps:
                continue
            value = base + slope * (minute - now)
            if noise:
                value += noise * (2 * drawn - 1)
            if rhythm:
                value += rhythm[minute // 15 % 96]
            for at, add in steps:
                if minute >= at:
                    value += add
            value = min(max(value, low), high)
            yield minute, float(round(value)) if self.whole else value


def _drawn(number: int) -> float:
    """A number from 0 to 1 that looks drawn by lot, and is always the same for the same number.

    The finalizer of MurmurHash3: https://github.com/aappleby/smhasher/wiki/MurmurHash3.
    """
    number &= 0xFFFFFFFF
    number = (number ^ number >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    number = (number ^ number >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return (number ^ number >> 16) / 0xFFFFFFFF


def _rhythm(height: float, peak: float) -> list[float]:
    """The rhythm of a day by quarters of an hour; empty for none."""
    if not height:
        return []
    return [height * math.cos(2 * math.pi * (quarter / 4 - peak) / 24) for quarter in range(96)]


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MalformedError(f"{what} is no number")
    return float(value)
