"""When the use of SNAT ports reaches a limit, foretold from the highest use in each hour.

A series is taken apart, and what is left of it says what comes:

1. The rhythm of the day: what is above the mean of the day around each hour (moving averages of a whole
   period, as in the census method X-11), by hours of the day, as the median over the days, so that days that
   were different do not count. How strong it is on each day follows by least absolute deviations, and a line
   through the strengths of a week by Theil and Sen: where use grows, its rhythm mostly does. A rhythm is
   believed if values are foretold by those of the same hour on other days; a peak of an hour or two, as of a
   batch job, if it stands out by itself. What is left is asked the same for weeks.
2. Noise, from the bends between three values (Rice 1984): trends do not bend, and the median does not see
   steps. By two distances, for noise with a memory: so many values in a row say as much as one.
3. Pieces: the cut into straight pieces that costs the least, by dynamic programming (Bellman 1961; Jackson
   and others 2005), each piece paying for its parameters as Schwarz (1978) has it. A step is a new piece, and
   no growth.
4. A line through the last piece: the median of the slopes between all pairs of values (Theil 1950, Sen 1968),
   which takes no notice of as many as 29 % of outliers. Growth that is not certain counts as none.
5. Rhythm and line are put together again, and the first hour in which they reach the limit is the answer.

H. Theil, Proc. Kon. Ned. Akad. v. Wetensch. A 53 (1950); R. Bellman, Comm. ACM 4 (1961); P. K. Sen, J. Amer.
Statist. Assoc. 63 (1968); G. Schwarz, Ann. Statist. 6 (1978); J. Rice, Ann. Statist. 12 (1984); B. Jackson
and others, IEEE Signal Process. Lett. 12 (2005). Numbers without a source were chosen by
`python -m bench.forecast`, where other methods stand beside.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import pairwise, takewhile
from statistics import median

from msgspec import Struct, structs

DAY = 24
WEEK = 7 * DAY
HISTORY = 4 * WEEK
"""Hours that are looked at; what is older says nothing about tomorrow."""
LEAST = 24
"""Values without which nothing is said: in less than a day any morning looks like growth."""
LATE = 3
"""Hours that may be missing at the end: Azure Monitor lags, and an hour without traffic has no point."""
SHORTEST = 8
"""Hours that growth must have gone on: what rises for less is mostly a rollout or a scaling, and ends."""
FINEST = 4e-3
"""The part of the range of values that counts as noise even where there seems to be less."""
STUCK = 2
"""Hours in a row at the limit that are no spike: use cannot be seen to grow above it, and looks flat."""
LATELY = 4 * DAY
"""Hours whose noise counts by itself: it may have grown with the level."""

_DEVIATION = 1.4826
"""From the median of absolute deviations to the standard deviation, if noise is normal."""
_EIGHTY = 1.28
"""Standard deviations to either side within which four of five values are, if noise is normal."""
_CERTAIN = 4.0
"""Standard errors that a slope must have: pieces are chosen among many, and so are steep ones."""
_FORETOLD = 0.85
"""The part of deviations that may be left where a rhythm foretells them."""

type _Points = list[tuple[float, float]]
"""Hours, 0 for the last and negative before, and values."""
type _Days = list[list[float | None]]
"""Values by days back from the last, and hours back within them."""


class Forecast(Struct, frozen=True, kw_only=True):
    """Where use is going."""

    level: float
    """What is expected now, without rhythm and noise."""
    per_day: float
    """How much the level grows in a day; 0 where growth is not certain."""
    rhythm: bool
    """Whether a rhythm of days or weeks was taken out, and put back."""
    points: int
    """Hourly values that were used."""
    reaches: float | None
    """Hours from the end of the series until the expected peak of an hour reaches the limit.

    0 if it has already, `None` if it does not within the horizon.
    """
    earliest: float | None
    """Where the range of about 80 % begins; `None` as in `reaches`."""
    latest: float | None
    """Where it ends; `None` where that may be never."""


class TooLittle(Struct, frozen=True):
    """Nothing can be said."""

    why: str
    """For people, without a full stop."""


def forecast(values: Sequence[float | None], limit: float, *, horizon: int = 168) -> Forecast | TooLittle:
    """When the expected hourly peak first reaches `limit`, from the peaks of past hours, oldest first.

    `None` is an hour without data. The horizon is in hours, as are all times of the answer.
    """
    use = list(values[-HISTORY:])
    points = len(use) - use.count(None)
    if points < LEAST:
        return TooLittle(f"only {points} hours of data, and a forecast needs {LEAST}")
    use = use[next(hour for hour, value in enumerate(use) if value is not None) :]
    silent = next(back for back, value in enumerate(reversed(use)) if value is not None)
    if silent > LATE:
        return TooLittle(f"the data ended {silent} hours ago")
    missing = use[-DAY:].count(None)
    if missing > DAY // 2:
        return TooLittle(f"{missing} of the last {DAY} hours are without data")

    found = _told(use, points, limit, horizon)
    full = _full(use, limit)
    if full >= STUCK:
        return structs.replace(found, level=max(found.level, limit), reaches=0.0, earliest=0.0, latest=0.0)
    if full:
        # A value at the limit says no more than that it would be there or above: no line has to meet it.
        use[len(use) - 1 - silent] = None
        above = _told(use, points, limit, horizon)
        if above.reaches is not None and (found.reaches is None or above.reaches < found.reaches):
            return above
    return found


def _full(use: list[float | None], limit: float) -> int:
    """The hours at the end that are at the limit."""
    known = (value for value in reversed(use) if value is not None)
    return sum(1 for _ in takewhile(lambda value: value >= limit, known))


def _told(use: list[float | None], points: int, limit: float, horizon: int) -> Forecast:
    path = _path(use, horizon)
    return Forecast(
        level=path.level,
        per_day=path.slope * DAY,
        rhythm=path.rhythm,
        points=points,
        reaches=_crossing(path.expected, limit),
        earliest=_crossing([one + off for one, off in zip(path.expected, path.errors, strict=True)], limit),
        latest=_crossing([one - off for one, off in zip(path.expected, path.errors, strict=True)], limit),
    )


def _crossing(expected: list[float], limit: float) -> float | None:
    """The hour in which a path first reaches the limit, between two hours by a straight line."""
    if expected[0] >= limit:
        return 0.0
    for hour, (before, value) in enumerate(pairwise(expected)):
        if value >= limit:
            return hour + (limit - before) / (value - before)
    return None


class _Path(Struct, frozen=True, kw_only=True):
    """What is expected, from the last hour of the series to the last of the horizon."""

    level: float
    slope: float
    """In an hour."""
    rhythm: bool
    expected: list[float]
    errors: list[float]
    """How much more or less it may be, in four of five cases."""


def _path(use: list[float | None], horizon: int) -> _Path:
    """Rhythm, noise and growth, put together."""
    last = len(use) - 1
    rhythm = _rhythm(use, horizon)
    plain = [
        (float(hour - last), value - (rhythm[hour] if rhythm else 0.0))
        for hour, value in enumerate(use)
        if value is not None
    ]
    known = _known(use)
    line, noise = _growth(plain, least=(max(known) - min(known)) * FINEST)
    if rhythm and line.slope > 0 and _usual(use, line):
        line = structs.replace(line, slope=0.0)
    if rhythm:
        days = _by_days(use, line.misfit(plain), horizon)
        if days:
            return days
    # The error of a median of so many days, twice: the highest of the hours of a peak is mostly too high.
    blur = 2 * noise * math.sqrt(math.pi / 2 / min(len(use) / DAY, 14)) if rhythm else 0.0
    ahead = rhythm[last:] if rhythm else [0.0] * (horizon + 1)
    return _Path(
        level=line.level,
        slope=line.slope,
        rhythm=bool(rhythm),
        expected=[line.level + line.slope * hour + extra for hour, extra in enumerate(ahead)],
        errors=[
            _EIGHTY * math.hypot(line.error(hour), blur) if line.slope > 0 else 0.0
            for hour in range(horizon + 1)
        ],
    )


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


# --- the rhythm ------------------------------------------------------------------------------------


def _rhythm(use: list[float | None], horizon: int) -> list[float]:
    """What each hour adds to the level, those of the horizon as well; empty if nothing."""
    whole = len(use) + horizon
    daily = _daily(use, whole)
    rest = use
    if daily:
        rest = [None if value is None else value - daily[hour] for hour, value in enumerate(use)]
    week = _weekly(rest)
    if not week:
        return daily
    return [(daily[hour] if daily else 0.0) + week[(hour - len(use)) % WEEK] for hour in range(whole)]


def _levels(use: list[float | None]) -> list[float | None]:
    """The mean of the day around each hour without the four most extreme values; `None` near the ends.

    The rhythm of a day adds the same to each.
    """
    half = DAY // 2
    levels: list[float | None] = [None] * (len(use) + 1)
    window = sorted(_known(use[:DAY]))
    for start in range(len(use) - DAY + 1):
        if start:
            gone, new = use[start - 1], use[start + DAY - 1]
            if gone is not None:
                del window[bisect_left(window, gone)]
            if new is not None:
                insort(window, new)
        if len(window) * 3 >= DAY * 2:
            levels[start + half] = sum(window[2:-2]) / (len(window) - 4)
    # A day has no middle hour: it is between two.
    return [None if one is None or after is None else (one + after) / 2 for one, after in pairwise(levels)]


def _daily(use: list[float | None], whole: int) -> list[float]:
    """What the hour of the day adds, as strongly as on the days around, and later as on the last."""
    rest = [
        None if value is None or level is None else value - level
        for value, level in zip(use, _levels(use), strict=True)
    ]
    days = [rest[end - DAY : end][::-1] for end in range(len(use), DAY - 1, -DAY)]
    shape = _shape(days, [1.0] * len(days))
    if not shape:
        return []
    # Once more, with those days counting for more on which there is more to see.
    strengths = _strengths(days, shape)
    shape = _shape(days, strengths) or shape
    if not _foretold(_columns(days, strengths)):
        shape = _peaks(days, shape)
        if not any(shape):
            return []
    strengths = _strengths(days, shape)
    lines = [_strength(strengths, day) for day in range(len(strengths))]
    found = []
    for hour in range(whole):
        ago = len(use) - 1 - hour
        strength, change = lines[min(max(ago // DAY, 0), len(lines) - 1)]
        found.append(max(strength + change * ago / DAY, 0.0) * shape[ago % DAY])
    return found if any(found[len(use) - DAY :]) else []


def _columns(days: _Days, strengths: list[float]) -> list[list[tuple[float, float]]]:
    """By hours back: values as they would be on a day of strength 1, and their weights."""
    return [
        [
            (value / strength, strength)
            for day, strength in zip(days, strengths, strict=True)
            if strength > 0 and (value := day[back]) is not None
        ]
        for back in range(DAY)
    ]


def _shape(days: _Days, strengths: list[float]) -> list[float]:
    """The hours of a day of strength 1, by the median of all days; empty if some are not known twice."""
    columns = _columns(days, strengths)
    return [_middle(column) for column in columns] if all(len(one) > 1 for one in columns) else []


def _middle(pairs: list[tuple[float, float]]) -> float:
    """The median of values that have weights."""
    ranked = sorted(pairs)
    half = sum(weight for _, weight in ranked) / 2
    before = 0.0
    for (value, weight), (after, _) in pairwise(ranked):
        before += weight
        if before > half:
            return value
        if before == half:
            return (value + after) / 2
    return ranked[-1][0]


def _peaks(days: _Days, shape: list[float]) -> list[float]:
    """The shape in those hours that stand out from the noise each for itself, and nothing in others."""
    noise = _DEVIATION * median(
        abs(value - one) for day in days for one, value in zip(shape, day, strict=True) if value is not None
    )
    least = noise * max(5 / math.sqrt(len(days)), 2)
    return [one if abs(one) > least else 0.0 for one in shape]


def _strengths(days: _Days, shape: list[float]) -> list[float]:
    """How strong the rhythm is on each day, by least absolute deviations.

    Where that is not known, it is as on the day after.
    """
    strengths: list[float] = []
    size = sum(abs(one) for one in shape)
    for day in days:
        ratios = [
            (value / one, abs(one))
            for one, value in zip(shape, day, strict=True)
            if value is not None and one
        ]
        if ratios and sum(weight for _, weight in ratios) * 3 >= size:
            strengths.append(max(_middle(ratios), 0.0))
        else:
            strengths.append(strengths[-1] if strengths else 1.0)
    return strengths


def _strength(strengths: list[float], day: int) -> tuple[float, float]:
    """The strength at the end of the series, and its change a day back, as the week around a day has it.

    A line if that is much better than the median of the five days around.
    """
    week = list(enumerate(strengths))[max(min(day - 3, len(strengths) - 7), 0) :][:7]
    near = median(strengths[max(min(day - 2, len(strengths) - 5), 0) :][:5])
    if len(week) < 4:
        return near, 0.0
    line = _line([(back + 0.5, one) for back, one in week])
    middle = median(one for _, one in week)
    off = median(abs(one - line[1] - line[0] * (back + 0.5)) for back, one in week)
    if off < median(abs(one - middle) for _, one in week) * (0.2 if len(week) < 5 else 0.4):
        return line[1], line[0]
    return near, 0.0


def _foretold(columns: list[list[tuple[float, float]]]) -> bool:
    """Whether the values of an hour are foretold by the median of the others of that hour."""
    with_it = without = 0.0
    for column in columns:
        ranked = sorted(column)
        if len(ranked) < 2:
            return False
        half, odd = divmod(len(ranked), 2)
        for rank, (value, weight) in enumerate(ranked):
            # Without it, those in the middle are one further on the side of it.
            low = half - 1 if rank > half - 1 else half
            high = half if rank > half else half + 1
            others = (ranked[low][0] + ranked[high][0]) / 2 if odd else ranked[half - (rank >= half)][0]
            with_it += abs(value - others) * weight
            without += abs(value) * weight
    return with_it < _FORETOLD * without


def _weekly(rest: list[float | None]) -> list[float]:
    """What the hour of the week adds to days, from a week before the end on; empty if nothing."""
    weeks: _Days = []
    for end in range(len(rest), WEEK - 1, -WEEK):
        week = rest[end - WEEK : end]
        if week.count(None) * 2 > WEEK:
            break
        weeks.append(week)
    if len(weeks) < 3:
        return []
    plain = _above_line(weeks)
    with_it = without = 0.0
    smooth, own = [], []
    for hour in range(WEEK):
        near = [(hour + step) % WEEK for step in (-1, 0, 1)]
        found = [_known([row[place] for place in near]) for row in plain]
        every = [value for several in found for value in several]
        if len(every) < 3:
            return []
        mine = [row[hour] for row in plain]
        smooth.append(median(every))
        own.append(median(_known(mine)) if len(_known(mine)) > 2 else smooth[-1])
        if hour % 2:
            continue  # every other hour is enough
        for index, value in enumerate(mine):
            others = [one for other, several in enumerate(found) if other != index for one in several]
            if value is not None and others:
                without += abs(value)
                with_it += abs(value - median(others))
    if with_it >= _FORETOLD * without:
        return []
    # Medians over three hours, but for hours that stand out.
    noise = _DEVIATION * median(abs(one - other) for one, other in zip(smooth, own, strict=True))
    shape = [one if abs(one - other) > 4 * noise else other for one, other in zip(own, smooth, strict=True)]
    mean = sum(shape) / WEEK
    return [one - mean for one in shape]


def _above_line(weeks: _Days) -> _Days:
    """Weeks without the lines from the median of one to that of the next."""
    levels = [median(_known(week)) for week in weeks]
    plain: _Days = []
    for index, week in enumerate(weeks):
        row: list[float | None] = []
        for hour, value in enumerate(week):
            at = index + (WEEK - 1 - hour - (WEEK - 1) / 2) / WEEK
            newer = min(max(int(at), 0), len(weeks) - 2)
            line = levels[newer] + (levels[newer + 1] - levels[newer]) * (at - newer)
            row.append(None if value is None else value - line)
        plain.append(row)
    return plain


# --- noise -----------------------------------------------------------------------------------------


def _noise(values: list[float], least: float) -> tuple[float, float]:
    """The standard deviation of noise, and how many values in a row say as much as one."""
    near = far = least
    for part in (values, values[-LATELY:]):
        near = max(near, _bend(part, 1))
        far = max(far, _bend(part, min(6, (len(part) - 1) // 8)))
    far = max(near, far, _bend(values[-DAY:], 1))
    if not far:
        return 1.0, 1.0  # never any change
    # A process of the first order, whose values keep so much of the value before: bends of neighbours are so
    # much smaller than those of values that are far from each other.
    kept = min(2 - math.sqrt(1 + 3 * (near / far) ** 2), 0.9)
    return far, (1 + kept) / (1 - kept)


def _bend(values: list[float], apart: int) -> float:
    """The standard deviation by how far values are from the middle of those before and after."""
    triples = zip(values, values[apart:], values[2 * apart :], strict=False)
    return (
        _DEVIATION
        * median(abs(before - 2 * value + after) for before, value, after in triples)
        / math.sqrt(6)
    )


def _without_spikes(plain: _Points, noise: float) -> _Points:
    """Values that stand out from their neighbours, drawn in to three standard deviations."""
    values = [value for _, value in plain]
    kept = []
    for index, (hour, value) in enumerate(plain):
        reach = min(3, index, len(plain) - 1 - index)
        middle = median(values[index - reach : index + reach + 1])
        kept.append((hour, min(max(value, middle - 3 * noise), middle + 3 * noise)))
    return kept


# --- growth ----------------------------------------------------------------------------------------


class _Line(Struct, frozen=True, kw_only=True):
    """A line through a piece."""

    start: float
    """The hour in which it begins."""
    level: float
    """At hour 0."""
    slope: float
    scale: float
    """The standard deviation of values about the line, as large as if each were known by itself."""
    count: int
    centre: float
    """The mean of hours."""
    spread: float
    """The sum of their squares about the mean."""

    @property
    def slope_error(self) -> float:
        """The standard error of the slope."""
        return self.scale / math.sqrt(self.spread)

    def error(self, hour: int) -> float:
        """The standard error of the line."""
        return math.hypot(self.scale / math.sqrt(self.count), (hour - self.centre) * self.slope_error)

    def misfit(self, plain: _Points) -> float:
        """The standard deviation of the last day about the line."""
        return _DEVIATION * median(
            abs(value - self.level - self.slope * hour) for hour, value in plain if hour > -DAY
        )


def _growth(plain: _Points, least: float) -> tuple[_Line, float]:
    """The line that goes on, without a slope where growth is not certain; and the noise about it."""
    noise, memory = _noise([value for _, value in plain], least)
    plain = _without_spikes(plain, noise)
    before, start = _starts(_blocks(plain), noise, memory)
    piece = [one for one in plain if one[0] >= start]
    line = _fit(piece, noise, memory)
    certain = _CERTAIN
    if before < start - 2 * DAY and start > -3 * DAY:
        # A shift of the level does not end what grew for long, unless growth itself is another.
        long = _fit([one for one in plain if before <= one[0] < start], noise, memory)
        if long.slope > _CERTAIN * long.slope_error:
            certain /= 2
            if abs(line.slope - long.slope) < 2 * math.hypot(line.slope_error, long.slope_error):
                line = _together(line, long, piece)
    if line.slope >= certain * line.slope_error and line.start <= -SHORTEST and not _step(piece, line):
        return line, noise
    slow = _slow(plain, max(noise, line.misfit(plain)))
    # Growth by days counts if the hours of the last piece do not say otherwise.
    if slow and abs(slow.slope - line.slope) < 2 * line.slope_error:
        return slow, noise
    # Without growth what is reached now goes on. A fall is not foretold either.
    middle = median(value for _, value in piece)
    return structs.replace(
        line, level=min(line.level, middle) if line.slope < 0 else middle, slope=0.0
    ), noise


def _step(piece: _Points, line: _Line) -> bool:
    """Whether a shift of the level says more of a piece of a day or less than the line does."""
    if line.start < -DAY:
        return False
    mean = sum(value for _, value in piece) / len(piece)
    below = gain = 0.0
    for count, (_, value) in enumerate(piece[:-1], start=1):
        below += value - mean
        gain = max(gain, below * below / count + below * below / (len(piece) - count))
    around = sum((value - mean) ** 2 for _, value in piece)
    return around - gain < sum((value - line.level - line.slope * hour) ** 2 for hour, value in piece)


def _usual(use: list[float | None], line: _Line) -> bool:
    """Whether use rises as much at this time of other days: what a rhythm that was not found looks like."""
    length = -int(line.start)
    if length >= 2 * DAY:
        return False
    ends = [
        median(known) if end >= 3 and (known := _known(use[end - 3 : end])) else None
        for end in range(len(use), 2, -DAY)
    ]
    starts = [
        median(known) if (known := _known(use[max(end - length - 2, 0) : max(end - length + 1, 0)])) else None
        for end in range(len(use), 2, -DAY)
    ]
    if ends[0] is None or starts[0] is None:
        return False
    rise = ends[0] - starts[0]
    # What the day as a whole gained is no rhythm.
    before = [
        late - early - (late - night) * length / DAY
        for early, late, night in zip(starts, ends, ends[1:], strict=False)
        if early is not None and late is not None and night is not None
    ][1 if length < DAY else 2 :][:14]
    return bool(before) and rise - median(before) < line.slope * length / 2


def _fit(piece: _Points, noise: float, memory: float) -> _Line:
    """A line through a piece, not more exact than noise allows."""
    slope, level = _line(piece)
    centre = sum(hour for hour, _ in piece) / len(piece)
    deviation = _DEVIATION * median(abs(value - level - slope * hour) for hour, value in piece)
    return _Line(
        start=piece[0][0],
        level=level,
        slope=slope,
        scale=max(deviation, noise) * math.sqrt(memory),
        count=len(piece),
        centre=centre,
        spread=sum((hour - centre) ** 2 for hour, _ in piece),
    )


def _line(piece: _Points) -> tuple[float, float]:
    """Slope and level at hour 0, by Theil and Sen; of long pieces every so many values."""
    thin = piece[:: -(-len(piece) // 96)]
    slope = median(
        (after - before) / (late - early)
        for index, (early, before) in enumerate(thin)
        for late, after in thin[index + 1 :]
    )
    return slope, median(value - slope * hour for hour, value in piece)


def _together(line: _Line, long: _Line, piece: _Points) -> _Line:
    """The slope of two pieces, each by how exact it is; the level of the last."""
    own, theirs = line.slope_error**-2, long.slope_error**-2
    slope = (line.slope * own + long.slope * theirs) / (own + theirs)
    level = median(value - slope * hour for hour, value in piece)
    return structs.replace(line, level=level, slope=slope, spread=line.scale**2 * (own + theirs))


def _slow(plain: _Points, noise: float) -> _Line | None:
    """Growth from day to day over four days at least, if the last hours are where it leads to.

    Days do not feel what is left of a rhythm that was not taken out well.
    """
    days: dict[int, list[float]] = {}
    for hour, value in plain:
        days.setdefault(int(-hour) // DAY, []).append(value)
    points = [
        (-DAY * day - (DAY - 1) / 2, median(values))
        for day, values in sorted(days.items(), reverse=True)
        if len(values) >= DAY // 2
    ]
    if len(points) < 4:
        return None
    least = max(_bend([value for _, value in points], 1), noise / math.sqrt(DAY))
    _, start = _starts([[one] for one in points], least, 1.0)
    piece = [one for one in points if one[0] >= start]
    line = _fit(piece, least, 1.0)
    if len(piece) < 4 or line.slope < _CERTAIN * line.slope_error:
        return None
    late = median(value - line.level - line.slope * hour for hour, value in plain if hour > -DAY / 2)
    return line if abs(late) < 2 * noise else None


def _by_days(use: list[float | None], misfit: float, horizon: int) -> _Path | None:
    """What the last three days say alone, hour by hour, where they are far from what the series was before.

    So it is where use has been multiplied within days, and its rhythm with it. `misfit` is how far the last
    day is from what it should have been otherwise.
    """
    if len(use) < 4 * DAY or use[-3 * DAY :].count(None) > DAY // 2:
        return None
    filled = _filled(use[-3 * DAY :])
    first, second, third = filled[:DAY], filled[DAY : 2 * DAY], filled[2 * DAY :]
    missed = _DEVIATION * median(
        abs(now - 2 * before + long) for long, before, now in zip(first, second, third, strict=True)
    )
    if missed > misfit / 2:
        return None
    grown = [now - before for before, now in zip(second, third, strict=True)]
    growth, before = median(grown), median(now - old for old, now in zip(first, second, strict=True))
    usual = sorted(abs(one) for one in _rises(use[: -2 * DAY]))
    if min(growth, before) < 2 * usual[int(len(usual) * 0.9)] or before < growth / 4:
        return None
    smooth = [median(grown[max(hour - 1, 0) : hour + 2]) for hour in range(DAY)]
    off = _EIGHTY * (missed + abs(growth - before)) / 2
    days = [hour // DAY + 1 for hour in range(horizon)]
    return _Path(
        level=median(third),
        slope=growth / DAY,
        rhythm=True,
        expected=[third[-1]]
        + [third[hour % DAY] + day * smooth[hour % DAY] for hour, day in enumerate(days)],
        errors=[0.0] + [off * math.sqrt(0.3 + day * day) for day in days],
    )


def _filled(values: list[float | None]) -> list[float]:
    """Gaps bridged by straight lines."""
    known = [(hour, value) for hour, value in enumerate(values) if value is not None]
    found = [known[0][1]] * known[0][0]
    for (start, before), (end, after) in pairwise(known):
        found += [before + (after - before) * step / (end - start) for step in range(end - start)]
    return found + [known[-1][1]] * (len(values) - known[-1][0])


def _rises(use: list[float | None]) -> list[float]:
    """How much more each day had than the one before, the last first; 0 if that is not known."""
    found = []
    for end in range(len(use), 2 * DAY - 1, -DAY):
        pairs = zip(use[end - 2 * DAY : end - DAY], use[end - DAY : end], strict=True)
        rises = [now - before for before, now in pairs if before is not None and now is not None]
        found.append(median(rises) if rises else 0.0)
    return found


# --- pieces ----------------------------------------------------------------------------------------


def _blocks(plain: _Points) -> list[_Points]:
    """Values by two hours, those of long ago by six and by days: when that began is not asked so exactly."""
    blocks: list[_Points] = []
    last = None
    for hour, value in plain:
        width = 2 if hour > -2 * DAY else 6 if hour > -4 * DAY else DAY
        block = (width, hour // width)
        if block != last:
            blocks.append([])
            last = block
        blocks[-1].append((hour, value))
    return blocks


def _starts(blocks: list[_Points], noise: float, memory: float) -> tuple[float, float]:
    """The hours in which the piece before the last begins, and the last, of the cut that costs the least.

    A piece is level or straight and has three blocks at least, each of them its median. It costs the squares
    of what is left, in units of noise, and the logarithm of the number of values for each parameter: where
    it begins, its level, its slope. That is the dearer the longer the memory of values is.
    """
    offset = blocks[-1][-1][1]
    sums = [(0.0,) * 6]
    for block in blocks:
        n, x, y, xx, xy, yy = sums[-1]
        weight = len(block)
        at = sum(hour for hour, _ in block) / weight
        value = (median(value for _, value in block) - offset) / noise
        sums.append(
            (
                n + weight,
                x + weight * at,
                y + weight * value,
                xx + weight * at * at,
                xy + weight * at * value,
                yy + weight * value * value,
            )
        )
    price = math.log(max(sums[-1][0], 2)) * memory
    best = [0.0] + [math.inf] * len(blocks)
    came = [0] * len(best)
    for end in range(3, len(best)):
        n1, x1, y1, xx1, xy1, yy1 = sums[end]
        for begin in range(end - 2):
            if best[begin] + 2 * price >= best[end]:
                continue
            n0, x0, y0, xx0, xy0, yy0 = sums[begin]
            n, x, y = n1 - n0, x1 - x0, y1 - y0
            syy = yy1 - yy0 - y * y / n
            sxx = xx1 - xx0 - x * x / n
            sxy = xy1 - xy0 - x * y / n
            cost = best[begin] + min(syy + 2 * price, syy - sxy * sxy / sxx + 3 * price)
            if cost < best[end]:
                best[end], came[end] = cost, begin
    start = came[-1]
    return blocks[came[start]][0][0], blocks[start][0][0]
