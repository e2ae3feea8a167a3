"""When the use of SNAT ports reaches a limit, foretold from the highest use in each hour.

A series is taken apart: a rhythm of days and weeks, pieces between which the level or the growth changed,
spikes and noise. Only the last piece says what comes, and only where it is certain that it grows.
"""

import math
from collections.abc import Callable, Sequence
from statistics import median

from msgspec import Struct

DAY = 24
WEEK = 168
HISTORY = 28 * DAY
"""Hours that are looked at; what is older says nothing about tomorrow."""
LEAST = 24
"""Values without which nothing is said."""
LATE = 3
"""Hours that may be missing at the end."""
_SPREAD = 1.4826
"""From the median of absolute deviations to the standard deviation of normal noise."""


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
    """When the expected hourly peak first reaches `limit`, from the peaks of past hours, oldest first."""
    use = list(values[-HISTORY:])
    points = len(use) - use.count(None)
    if points < LEAST:
        return TooLittle(f"only {points} hours of data, and a forecast needs {LEAST}")
    silent = next(back for back, value in enumerate(reversed(use)) if value is not None)
    if silent > LATE:
        return TooLittle(f"the data ended {silent} hours ago")
    missing = use[-DAY:].count(None)
    if missing > DAY // 2:
        return TooLittle(f"{missing} of the last {DAY} hours are without data")

    rhythm = _rhythm(use)
    period = len(rhythm)
    last = len(use) - 1
    plain = [
        (float(hour - last), value - (rhythm[(last - hour) % period] if rhythm else 0.0))
        for hour, value in enumerate(use)
        if value is not None
    ]
    sigma, wander = _noise(plain)
    piece = _last_piece(_without_spikes(plain, sigma), sigma, wander)
    level, slope, error = piece
    expected = [
        level + slope * hour + (rhythm[-hour % period] if rhythm else 0.0) for hour in range(horizon + 1)
    ]
    return Forecast(
        level=level,
        per_day=slope * DAY,
        rhythm=bool(rhythm),
        points=points,
        reaches=_crossing(expected, limit),
        earliest=_crossing([one + error(hour) for hour, one in enumerate(expected)], limit)
        if slope > 0
        else _crossing(expected, limit),
        latest=_crossing([one - error(hour) for hour, one in enumerate(expected)], limit)
        if slope > 0
        else _crossing(expected, limit),
    )


def _crossing(expected: list[float], limit: float) -> float | None:
    """The hour in which a path first reaches the limit, between two hours by a straight line."""
    for hour, value in enumerate(expected):
        if value >= limit:
            if hour == 0:
                return 0.0
            before = expected[hour - 1]
            return hour - 1 + (limit - before) / (value - before)
    return None


# --- the rhythm ----------------------------------------------------------------------------------


def _rhythm(use: list[float | None]) -> list[float]:
    """What each hour of a day or a week adds to the level, by hours back from the end; empty if nothing."""
    days = _folded(use, DAY)
    if len(days) < 3:
        return []
    rest = _detrended(use, days, DAY)
    daily = _profile(rest, DAY)
    weeks = _folded(use, WEEK)
    if len(weeks) < 3:
        return daily
    rest = _detrended(use, weeks, WEEK)
    if daily:
        rest = [None if value is None else value - daily[back % DAY] for back, value in enumerate(rest)]
    weekly = _profile(rest, WEEK, smooth=2)
    if not weekly:
        return daily
    return [weekly[back] + (daily[back % DAY] if daily else 0.0) for back in range(WEEK)]


def _folded(use: list[float | None], period: int) -> list[float]:
    """The median of each period, the newest first; a period of which half is missing ends the list."""
    levels = []
    for end in range(len(use), period - 1, -period):
        values = [value for value in use[end - period : end] if value is not None]
        if len(values) * 2 < period:
            break
        levels.append(median(values))
    return levels


def _detrended(use: list[float | None], levels: list[float], period: int) -> list[float | None]:
    """Use above a line through the middles of the periods; by hours back from the end."""
    rest: list[float | None] = []
    for back in range(len(levels) * period):
        value = use[-1 - back]
        if value is None:
            rest.append(None)
            continue
        at = (back - (period - 1) / 2) / period
        index = min(max(int(at), 0), len(levels) - 2)
        rest.append(value - levels[index] - (levels[index + 1] - levels[index]) * (at - index))
    return rest


def _profile(rest: list[float | None], period: int, smooth: int = 0) -> list[float]:
    """The median of each hour of the period, if it foretells periods that it was not drawn from."""
    columns: list[list[float]] = [
        sorted(value for value in rest[hour::period] if value is not None) for hour in range(period)
    ]
    if smooth:
        columns = [
            sorted(
                value
                for near in range(-smooth, smooth + 1)
                for value in rest[(hour + near) % period :: period]
                if value is not None
            )
            for hour in range(period)
        ]
    if any(len(column) < 2 for column in columns):
        return []
    profile = [median(column) for column in columns]
    middle = sum(profile) / period
    # Each value against the median of the others of its hour.
    with_it = without = 0.0
    for column in columns:
        if smooth:
            continue
        for value in column:
            without += abs(value)
        half = len(column) // 2
        for rank, value in enumerate(column):
            if len(column) % 2:
                low, high = (half - 1 if rank > half - 1 else half), (half if rank > half else half + 1)
                if rank == half:
                    low, high = half - 1, half + 1
                others = (column[low] + column[high]) / 2
            else:
                others = column[half] if rank < half else column[half - 1]
            with_it += abs(value - others)
    if smooth:
        # By weeks: the others' median, smoothed.
        weeks = [rest[start : start + period] for start in range(0, len(rest), period)]
        for index, week in enumerate(weeks):
            for hour in range(0, period, 2):
                mine = week[hour]
                if mine is None:
                    continue
                near = [
                    other[(hour + step) % period]
                    for place, other in enumerate(weeks)
                    if place != index
                    for step in range(-smooth, smooth + 1)
                ]
                found = [one for one in near if one is not None]
                if found:
                    without += abs(mine)
                    with_it += abs(mine - median(found))
    return [one - middle for one in profile] if with_it < 0.85 * without else []


# --- noise and spikes ----------------------------------------------------------------------------


def _noise(plain: list[tuple[float, float]]) -> tuple[float, float]:
    """The standard deviation of noise, and how many values in a row say as much as one."""
    values = [value for _, value in plain]
    floor = (max(values) - min(values)) * 1e-3

    def spread(lag: int) -> float:
        steps = [after - before for before, after in zip(values, values[lag:], strict=False)]
        middle = median(steps)
        return _SPREAD * median(abs(step - middle) for step in steps) / math.sqrt(2)

    short = max(spread(1), floor)
    long = max(short, spread(min(12, len(values) // 3)))
    persistence = min(1 - (short / long) ** 2, 0.9) if long > 0 else 0.0
    return long or 1.0, (1 + persistence) / (1 - persistence)


def _without_spikes(plain: list[tuple[float, float]], sigma: float) -> list[tuple[float, float]]:
    """Values that stand out from their neighbours, drawn in to three standard deviations."""
    values = [value for _, value in plain]
    kept = []
    for index, (hour, value) in enumerate(plain):
        middle = median(values[max(0, index - 3) : index + 4])
        kept.append((hour, min(max(value, middle - 3 * sigma), middle + 3 * sigma)))
    return kept


# --- pieces --------------------------------------------------------------------------------------


def _last_piece(
    plain: list[tuple[float, float]], sigma: float, wander: float
) -> tuple[float, float, Callable[[int], float]]:
    """Level, slope and error of the last piece."""
    start = _start(plain, sigma, wander)
    piece = [one for one in plain if one[0] >= start]
    count = len(piece)
    slope, level = _line(piece)
    times = [hour for hour, _ in piece]
    centre = sum(times) / count
    spread = sum((hour - centre) ** 2 for hour in times)
    deviation = max(_SPREAD * median(abs(value - level - slope * hour) for hour, value in piece), sigma / 2)
    scale = deviation * math.sqrt(wander)
    if slope * math.sqrt(spread) < 4 * scale:
        # Without growth what is reached now goes on; a fall is not foretold either.
        level = (
            min(level, median(value for _, value in piece))
            if slope < 0
            else median(value for _, value in piece)
        )
        slope = 0.0

    def error(ahead: int) -> float:
        return 1.28 * scale * math.sqrt(1 / count + (ahead - centre) ** 2 / spread)

    return level, slope, error


def _line(piece: list[tuple[float, float]]) -> tuple[float, float]:
    """Slope and level at hour 0, by Theil and Sen."""
    thin = piece[:: -(-len(piece) // 96)]
    slopes = [
        (after[1] - before[1]) / (after[0] - before[0])
        for index, before in enumerate(thin)
        for after in thin[index + 1 :]
    ]
    slope = median(slopes)
    return slope, median(value - slope * hour for hour, value in piece)


def _start(plain: list[tuple[float, float]], sigma: float, wander: float) -> float:
    """The hour in which the last piece begins, by the best way to cut the series into straight pieces."""
    blocks: list[list[tuple[float, float]]] = []
    edge = math.inf
    for hour, value in reversed(plain):
        width = 2 if hour > -96 else 6
        key = hour // width * width
        if not blocks or key != edge:
            blocks.append([])
            edge = key
        blocks[-1].append((hour, value))
    blocks.reverse()
    offset = plain[-1][1]
    sums = [(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)]
    for block in blocks:
        weight = len(block)
        at = sum(hour for hour, _ in block) / weight
        value = (median(value for _, value in block) - offset) / sigma
        n, x, y, xx, xy, yy = sums[-1]
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
    count = len(blocks)
    unit = math.log(max(len(plain), 2)) * wander
    best = [-3 * unit] + [math.inf] * count
    came = [0] * (count + 1)
    for end in range(3, count + 1):
        n1, x1, y1, xx1, xy1, yy1 = sums[end]
        least, whence = math.inf, 0
        for begin in range(end - 2):
            if best[begin] + 2 * unit >= least:
                continue
            n0, x0, y0, xx0, xy0, yy0 = sums[begin]
            n = n1 - n0
            x = x1 - x0
            y = y1 - y0
            syy = yy1 - yy0 - y * y / n
            sxx = xx1 - xx0 - x * x / n
            sxy = xy1 - xy0 - x * y / n
            cost = best[begin] + min(syy + 2 * unit, syy - sxy * sxy / sxx + 3 * unit)
            if cost < least:
                least, whence = cost, begin
        best[end], came[end] = least, whence
    return blocks[came[count]][0][0]
