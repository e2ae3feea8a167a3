"""When use reaches a limit: shapes of series and what is to come of them, and laws that hold for all."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.forecast import Answer, case, score
from checks._forecast import DAY, HISTORY, LATE, LEAST, SHORTEST, WEEK, Forecast, TooLittle, forecast

LAW = settings(deadline=None, max_examples=60, derandomize=True, database=None)

type Values = list[float | None]
type Part = Callable[[int], float]
"""A value by the hour: 0 is the last."""


def drawn(*parts: Part, hours: int = HISTORY, noise: float = 6, seed: int = 1) -> Values:
    """Hourly peaks, the sum of what is given and noise, as whole numbers."""
    rng = random.Random(seed)  # noqa: S311 - the same numbers each time
    return [
        max(round(sum(part(hour) for part in parts) + rng.gauss(0, noise)), 0) for hour in range(1 - hours, 1)
    ]


def level(value: float) -> Part:
    """The same always."""
    return lambda _: value


def growing(per_day: float, *, began: int = HISTORY) -> Part:
    """Growth up to 0 now, since so many hours."""
    return lambda hour: per_day * max(hour, -began) / DAY


def leak(per_day: float, *, began: int) -> Part:
    """Nothing, and then growth since so many hours."""
    return lambda hour: per_day * max(hour + began, 0) / DAY


def step(size: float, *, ago: int, over: int = 1) -> Part:
    """More, since so many hours, reached over some."""
    return lambda hour: size * min(max((hour + ago) / over, 0), 1)


def daily(size: float, *, peak: int = 0) -> Part:
    """A wave whose peak is so many hours after the last."""
    return lambda hour: size * math.cos(math.tau * (hour - peak) / DAY)


def batch(size: float, *, at: int) -> Part:
    """One hour of the day, so many after the last."""
    return lambda hour: size * ((hour - at) % DAY == 0)


def workdays(size: float, *, monday: int) -> Part:
    """More on five days of seven, the first of which begins so many hours after the last."""
    return lambda hour: size * ((hour - monday) % WEEK < 5 * DAY)


def restarts(per_day: float, *, every: int, ago: int) -> Part:
    """Growth that begins again so many hours ago, and before that every so often."""
    return lambda hour: per_day * ((hour + ago) % every if hour < -ago else hour + ago) / DAY


def with_spikes(values: Values, size: float, *, every: int) -> Values:
    """Single hours with much more."""
    return [
        value + size if value is not None and hour % every == 5 else value
        for hour, value in enumerate(values)
    ]


def with_gaps(values: Values, *, share: float, seed: int = 1) -> Values:
    """Some hours without data, and a day of them; but for the last."""
    rng = random.Random(seed)  # noqa: S311 - the same numbers each time
    gone: Values = [None if rng.random() < share else value for value in values]
    gone[-8 * DAY : -7 * DAY] = [None] * DAY
    return [*gone[:-1], values[-1]]


FLAT = level(300)
SLOPE = growing(50)


@pytest.mark.parametrize(
    ("values", "limit", "hours"),
    [
        # growth
        (drawn(level(1500), growing(50)), 1600, (44, 52)),
        (drawn(level(1500), growing(50)), 1800, (138, 150)),
        (drawn(level(500), growing(100), hours=3 * DAY), 600, (21, 27)),
        (drawn(level(500), growing(200), hours=26), 600, (9, 15)),
        # a leak after weeks of nothing
        (drawn(FLAT, leak(240, began=10)), 600, (15, 26)),
        (drawn(FLAT, leak(240, began=24)), 600, (4, 8)),
        (drawn(FLAT, leak(240, began=48)), 1000, (20, 24)),
        (drawn(FLAT, leak(100, began=48)), 1000, (105, 140)),
        # and on a rhythm, by which the limit is reached at the peak of a day, not on the line
        (drawn(level(600), growing(30), daily(150, peak=10)), 755, (7, 10)),
        (drawn(level(600), growing(30), daily(150, peak=10)), 800, (54, 58)),
        (drawn(level(600), growing(15), daily(150, peak=-4), hours=10 * DAY), 800, (88, 92)),
        (drawn(FLAT, daily(100, peak=6), leak(240, began=24)), 700, (4, 8)),
        (drawn(level(600), growing(20), batch(300, at=5)), 915, (28, 29)),
        (drawn(level(600), growing(20), batch(300, at=5)), 935, (52, 53)),
        # weeks: on Saturday it will not be reached
        (drawn(level(600), growing(10), workdays(200, monday=-110)), 830, (58, 80)),
        # steps are no growth, and growth goes on after them
        (drawn(level(500), growing(50), step(300, ago=60), noise=3), 900, (40, 56)),
        (drawn(level(500), growing(50), step(-300, ago=200), noise=3), 300, (40, 56)),
        # only what came since the last restart
        (drawn(level(200), restarts(240, every=90, ago=30)), 700, (18, 22)),
        # what does not move it
        (with_spikes(drawn(level(1500), SLOPE), 900, every=31), 1600, (42, 54)),
        (with_spikes(drawn(FLAT, leak(240, began=24)), 500, every=29), 600, (4, 8)),
        (with_gaps(drawn(level(1500), SLOPE), share=0.3), 1600, (42, 54)),
        (with_gaps(drawn(FLAT, leak(240, began=24)), share=0.3), 600, (3, 9)),
        (with_gaps(drawn(level(600), growing(30), daily(150, peak=10)), share=0.2), 800, (54, 58)),
        # there already
        (drawn(level(700)), 600, (0, 0)),
        (drawn(level(700), growing(50)), 600, (0, 0)),
        # no growth, but a new level, whose daily peak is above the limit
        (drawn(FLAT, daily(200, peak=12), step(250, ago=30)), 700, (6, 11)),
    ],
)
def test_comes(values: Values, limit: float, hours: tuple[float, float]) -> None:
    """The limit is reached, and the range is about that time."""
    said = forecast(values, limit)
    assert isinstance(said, Forecast)
    assert said.reaches is not None
    assert said.earliest is not None
    first, last = hours
    assert first <= said.reaches <= last, said
    assert said.earliest <= said.reaches
    assert said.latest is None or said.reaches <= said.latest


@pytest.mark.parametrize(
    ("values", "limit"),
    [
        ([0] * HISTORY, 1024),
        ([300] * HISTORY, 301),
        ([300] * LEAST, 301),
        ([300.5, 300.25] * 100, 301),
        (drawn(FLAT), 330),
        (drawn(FLAT, hours=LEAST), 330),
        (drawn(FLAT, noise=60), 600),
        (drawn(level(900), growing(-20)), 980),
        (drawn(level(300), leak(-100, began=30)), 320),
        (drawn(FLAT, daily(150)), 480),
        (drawn(FLAT, daily(150, peak=9)), 480),
        (drawn(FLAT, daily(150, peak=9), growing(-5)), 480),
        (drawn(FLAT, daily(150, peak=9), hours=3 * DAY), 480),
        # the rise of a morning, of a Monday: nobody knows yet, or all do
        (drawn(FLAT, daily(150, peak=2), hours=28), 480),
        (drawn(FLAT, daily(150, peak=6), hours=36), 480),
        (drawn(FLAT, workdays(200, monday=-10)), 540),
        (drawn(FLAT, workdays(200, monday=-40), hours=9 * DAY), 540),
        (drawn(FLAT, workdays(100, monday=-12), daily(80, peak=2)), 520),
        # steps, and what went up over some hours and stayed
        *((drawn(FLAT, step(200, ago=ago)), 560) for ago in (1, 2, 3, 5, 8, 12, 24, 40, 100)),
        *((drawn(FLAT, step(200, ago=ago), daily(60, peak=9)), 620) for ago in (2, 6, 20, 40, 100)),
        *((drawn(FLAT, step(200, ago=ago, over=4)), 560) for ago in (3, 5, 8, 24, 40)),
        (drawn(FLAT, step(200, ago=300), step(100, ago=150), step(50, ago=20)), 700),
        (drawn(FLAT, step(200, ago=300), step(-100, ago=30)), 700),
        # what grew, and grows no more
        (drawn(FLAT, lambda hour: min(hour + 400, 360) * 2), 1100),
        (drawn(FLAT, lambda hour: min(hour + 70, 40) * 10 if hour > -70 else 0), 760),
        (with_spikes(drawn(FLAT), 200, every=31), 560),
        (with_spikes(drawn(FLAT, daily(150)), 150, every=29), 620),
        (with_gaps(drawn(FLAT, daily(150)), share=0.35), 480),
        (drawn(FLAT, batch(300, at=2)), 640),
    ],
)
def test_never_comes(values: Values, limit: float) -> None:
    """Nothing grows that anybody could be sure of, so nothing is foretold: no time, no range."""
    said = forecast(values, limit)
    assert isinstance(said, Forecast)
    assert (said.per_day, said.reaches, said.earliest, said.latest) == (0, None, None, None)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([], "only 0 hours of data, and a forecast needs 24"),
        ([None] * HISTORY, "only 0 hours of data, and a forecast needs 24"),
        ([5] * (LEAST - 1), "only 23 hours of data, and a forecast needs 24"),
        ([5] * (LEAST - 1) + [None], "only 23 hours of data, and a forecast needs 24"),
        ([5] * 100 + [None] * HISTORY, "only 0 hours of data, and a forecast needs 24"),
        ([5] * 100 + [None] * (LATE + 1), "the data ended 4 hours ago"),
        ([5] * 100 + [None] * 40, "the data ended 40 hours ago"),
        ([5] * 100 + [None] * 13 + [5] * 11, "13 of the last 24 hours are without data"),
        ([5, None] * 50 + [None] * 9 + [5], "16 of the last 24 hours are without data"),
    ],
)
def test_too_little(values: Values, why: str) -> None:
    """What is missing is said."""
    assert forecast(values, 1) == TooLittle(why)


@pytest.mark.parametrize(
    "values",
    [
        [5] * LEAST,
        [5] * (LEAST - 1) + [None] + [5],
        [5] * 100 + [None] * LATE,
        [5] * 100 + [None] * 12 + [5] * 12,
        [None] * 640 + [5] * LEAST,
    ],
)
def test_just_enough(values: Values) -> None:
    """Up to there something is said."""
    assert isinstance(forecast(values, 6), Forecast)


def test_what_is_said() -> None:
    """Level and growth are those of the line, without the rhythm; values are counted."""
    said = forecast(with_gaps(drawn(level(600), growing(30), daily(150, peak=10)), share=0.1), 2000)
    assert isinstance(said, Forecast)
    assert said.level == pytest.approx(600, abs=8)
    assert said.per_day == pytest.approx(30, abs=1)
    assert said.rhythm
    assert 560 < said.points < HISTORY - DAY
    assert said.reaches is None
    plain = forecast(drawn(level(600), growing(30)), 2000)
    assert isinstance(plain, Forecast)
    assert not plain.rhythm


@pytest.mark.parametrize("per_day", [60, 120, 480])
@pytest.mark.parametrize("began", [SHORTEST + 2, 20, 47])
@pytest.mark.parametrize("waves", [0, 40])
def test_growth_that_has_just_begun(per_day: float, began: int, waves: float) -> None:
    """Over four weeks without any, growth is believed as soon as it is clear of noise."""
    said = forecast(drawn(FLAT, leak(per_day, began=began), daily(waves, peak=6), noise=2), 10_000)
    assert isinstance(said, Forecast)
    assert said.per_day == pytest.approx(per_day, rel=0.15)


def test_seen_a_day_before() -> None:
    """Growth that goes on for two days is foretold within a day for all of the last day, asked each hour."""
    whole = drawn(FLAT, leak(200, began=48), daily(60), noise=5)
    limit = 745  # an hour or two before the end
    for back in range(2, 24):
        said = forecast(whole[: len(whole) - back], limit)
        assert isinstance(said, Forecast)
        assert said.reaches == pytest.approx(back - 1.5, abs=3)


# --- laws ------------------------------------------------------------------------------------------


@st.composite
def series(draw: st.DrawFn, noises: tuple[int, ...] = (0, 1, 10, 50)) -> Values:
    """Some of everything."""
    hours = draw(st.sampled_from([30, 50, 96, 200, 400, 672]))
    per_day = draw(st.integers(-60, 200))
    parts: list[Part] = [level(draw(st.integers(200, 2000)))]
    parts.append(
        draw(st.sampled_from([growing(per_day), leak(per_day * 2, began=30), step(per_day * 3, ago=20)]))
    )
    parts.append(daily(draw(st.sampled_from([0, 50, 200])), peak=draw(st.integers(0, 23))))
    noise, seed = draw(st.sampled_from(noises)), draw(st.integers(0, 9))
    values = drawn(*parts, hours=hours, noise=noise, seed=seed)
    if draw(st.booleans()):
        values = with_spikes(values, 300, every=draw(st.integers(15, 60)))
    if draw(st.booleans()):
        values = with_gaps(values, share=0.15, seed=seed)
    return values


def above(values: Sequence[float | None], share: float) -> float:
    """A limit above all that was."""
    return max(value for value in values if value is not None) * (1 + share) + 1


SHARES = st.floats(0.01, 1)
NOISY = series(noises=(1, 10, 50))
"""Without noise two ways to cut a series into pieces may cost the same but for rounding."""


def times(said: Forecast | TooLittle) -> Any:
    """What is foretold."""
    if isinstance(said, TooLittle):
        return said.why
    return [-1.0 if hour is None else hour for hour in (said.reaches, said.earliest, said.latest)]


@LAW
@given(series(), SHARES, st.sampled_from([0.125, 0.5, 2, 1024]))
def test_units_do_not_matter(values: Values, share: float, factor: float) -> None:
    """In other units all comes at the same time, to the last bit where multiplying is exact."""
    limit = above(values, share)
    other = [None if value is None else value * factor for value in values]
    assert times(forecast(other, limit * factor)) == times(forecast(values, limit))


@LAW
@given(NOISY, SHARES, st.floats(0.01, 1000))
def test_nor_do_odd_units(values: Values, share: float, factor: float) -> None:
    """The same but for rounding."""
    limit = above(values, share)
    other = [None if value is None else value * factor for value in values]
    assert times(forecast(other, limit * factor)) == pytest.approx(times(forecast(values, limit)), abs=1e-4)


@LAW
@given(NOISY, SHARES, st.integers(-200, 100_000))
def test_where_nothing_is_does_not_matter(values: Values, share: float, more: int) -> None:
    """More of everything, and all comes at the same time."""
    limit = above(values, share)
    other = [None if value is None else value + more for value in values]
    assert times(forecast(other, limit + more)) == pytest.approx(times(forecast(values, limit)), abs=1e-4)


@LAW
@given(series(), st.lists(SHARES, min_size=2, max_size=5))
def test_more_takes_longer(values: Values, shares: list[float]) -> None:
    """A higher limit is never reached earlier, nor are the ends of the range; they lie about the time."""
    before = [0.0] * 3
    for share in sorted(shares):
        said = forecast(values, above(values, share))
        if isinstance(said, TooLittle):
            return
        now = [math.inf if one is None else one for one in (said.earliest, said.reaches, said.latest)]
        assert now == sorted(now)
        assert all(early <= late for early, late in zip(before, now, strict=True))
        before = now


@LAW
@given(series(), SHARES, st.integers(1, 48))
def test_a_longer_look_sees_the_same(values: Values, share: float, hours: int) -> None:
    """What is foretold within some hours is foretold at the same time within more."""
    limit = above(values, share)
    near, far = forecast(values, limit, horizon=hours), forecast(values, limit)
    if isinstance(near, Forecast) and near.reaches is not None:
        assert isinstance(far, Forecast)
        assert far.reaches == near.reaches <= hours


@LAW
@given(series(), SHARES, st.integers(1, 100))
def test_nothing_before_the_first_value(values: Values, share: float, hours: int) -> None:
    """Hours without data before there was any do not matter, nor does what is older than four weeks."""
    limit = above(values, share)
    said = forecast(values, limit)
    assert forecast([*[None] * hours, *values], limit) == said
    if len(values) == HISTORY:
        assert forecast([*[1e6] * hours, *values], limit) == said


@LAW
@given(st.lists(st.integers(0, 1000), min_size=LEAST, max_size=300), SHARES)
def test_what_falls_does_not_reach(values: list[int], share: float) -> None:
    """A series that never grows never reaches what it has not reached."""
    falling = sorted(map(float, values), reverse=True)
    said = forecast(falling, above(falling, share))
    assert isinstance(said, Forecast)
    assert (said.reaches, said.latest) == (None, None)
    assert said.per_day == 0


@LAW
@given(st.integers(100, 2000), st.integers(5, 300), st.integers(0, 9), SHARES)
def test_backwards_nothing_comes(start: int, per_day: int, seed: int, share: float) -> None:
    """What comes does not come if it is read the other way round."""
    values = drawn(level(start), lambda hour: per_day * (hour + 300) / DAY, hours=300, noise=3, seed=seed)
    limit = above(values, min(share, per_day / start / 2))
    there, back = forecast(values, limit), forecast(values[::-1], limit)
    assert isinstance(there, Forecast)
    assert isinstance(back, Forecast)
    assert there.per_day > 0
    assert (back.per_day, back.reaches) == (0, None)


# --- what the bench says ---------------------------------------------------------------------------


def test_measured() -> None:
    """On drawn series whose truth is known few crossings are missed, and few alarms are false."""
    families = (
        "flat",
        "rhythm",
        "week",
        "noise",
        "steps",
        "trend",
        "leak",
        "trend and rhythm",
        "spikes",
        "short",
    )
    pairs = []
    for one in (case(family, seed) for family in families for seed in range(15)):
        said = forecast(one.values, one.limit)
        assert isinstance(said, Forecast)
        pairs.append((one, Answer(said.reaches, said.earliest, said.latest, ranged=said.reaches is not None)))
    got = score(pairs)
    assert got.missed is not None
    assert got.alarms is not None
    assert got.median is not None
    assert got.missed < 0.2
    assert got.alarms < 0.02
    assert got.median < 3


@pytest.mark.parametrize("off", [0, 0.3, 0.8])
@pytest.mark.parametrize("full", [0.2, 0.7, 1.5, 2.5, 6, 30])
@pytest.mark.parametrize("per_hour", [5, 25, 60])
def test_what_is_full_stays_full(per_hour: float, full: float, off: float) -> None:
    """Use that grew up to the limit cannot be seen to grow above it: it has reached it, and goes on to."""
    limit = 1024
    values = [
        round(min(limit, max(140, limit + per_hour * (full - off - back))))
        for back in range(HISTORY - 1, -1, -1)
    ]
    found = forecast(values, limit)
    assert isinstance(found, Forecast)
    assert found.reaches is not None
    assert found.reaches <= 1


def test_an_hour_at_the_limit_is_a_spike_at_first() -> None:
    """Only what was on its way there, or stays, has reached it."""
    values = drawn(level(300))
    spike = forecast([*values[:-1], 1024], 1024)
    stays = forecast([*values[:-2], 1024, 1024], 1024)
    assert isinstance(spike, Forecast)
    assert isinstance(stays, Forecast)
    assert (spike.reaches, stays.reaches) == (None, 0.0)
