"""How well crossings of a limit are foretold: series with a known truth, ours beside other methods.

Each series is drawn: a path without noise, which says when the limit is really reached, and what Azure would
have shown of it. `python -m bench.forecast [--seeds N] [--rivals N]` prints tables by family and over all;
`make bench` has the most important of a smaller one. statsmodels is asked where it is installed
(requirements-bench.txt).

Errors are those of the crossing in hours, where there is one within a week; no answer counts as a week. A
crossing within a day is missed if it is not foretold within 36 hours; a false alarm is one foretold within a
day that does not come within 36 hours: so much leaves the peak of a day its day. Cries are crossings foretold
within the week of which none comes.
"""

import argparse
import importlib
import math
import random
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby, pairwise
from typing import Any

from msgspec import Struct
from rich.console import Console
from rich.table import Table

from bench.measure import Figure, median_ms
from checks._forecast import TooLittle, forecast

HORIZON = 168
DAY = 24
SOON = DAY
TOLERANCE = 36


class Case(Struct, frozen=True, kw_only=True):
    """A series, and what is true of it."""

    family: str
    values: tuple[float | None, ...]
    limit: float
    ahead: tuple[float, ...]
    """The path without noise, from the last hour of the history on."""
    crosses: float | None
    """Hours until the path reaches the limit; `None` if it does not within a week."""


class Answer(Struct, frozen=True):
    """What a method says: hours until the crossing, and the range of about 80 % if it gives one."""

    reaches: float | None
    earliest: float | None = None
    latest: float | None = None
    ranged: bool = False


type Method = Callable[[Sequence[float | None], float], Answer]
type Path = Callable[[int], float]
"""A value by the hour: 0 is the last of the history, 1 the first that is to come."""


# --- series ----------------------------------------------------------------------------------------


def case(family: str, seed: int) -> Case:
    """The same series for the same family and seed."""
    rng = random.Random(f"{family} {seed}")  # noqa: S311 - a bench wants the same numbers each time
    while True:
        drawn = _FAMILIES[family](rng, family)
        if drawn is not None:
            return drawn


def _case(
    rng: random.Random,
    family: str,
    path: Path,
    noise: Sequence[float],
    *,
    grows: bool,
    spikes: float = 0.0,
    gaps: float = 0.0,
) -> Case | None:
    """A case, or nothing where the history has reached the limit already."""
    hours = len(noise)
    truth = [path(hour) for hour in range(1 - hours, HORIZON + 1)]
    past = [value + extra for value, extra in zip(truth[:hours], noise, strict=True)]
    recent = max(past[-72:])
    if grows:
        top = max(truth[hours : hours + int(math.exp(rng.uniform(math.log(3), math.log(200))))])
        if top <= recent:
            return None
        limit = recent + (top - recent) * rng.uniform(0.05, 1)
    else:
        limit = recent * rng.uniform(1.03, 1.5)
    ahead = tuple(truth[hours - 1 :])
    crosses = _crossing(ahead, limit)
    whole = rng.random() < 0.7
    values: list[float | None] = []
    for value in past:
        seen = value + (recent * rng.uniform(0.3, 1.5) if rng.random() < spikes else 0.0)
        seen = max(round(seen) if whole else seen, 0.0)
        values.append(None if rng.random() < gaps else seen)
    if gaps:
        for _ in range(rng.randrange(4)):
            start = rng.randrange(hours)
            for hour in range(start, min(start + rng.randrange(3, 30), hours - 3)):
                values[hour] = None
        values[-1] = past[-1]
    return Case(family=family, values=tuple(values), limit=limit, ahead=ahead, crosses=crosses)


def _crossing(expected: Sequence[float], limit: float) -> float | None:
    for hour, value in enumerate(expected):
        if value >= limit:
            before = expected[hour - 1] if hour else value
            return hour - (value - limit) / (value - before) if value > before else float(hour)
    return None


def _noise(rng: random.Random, hours: int, size: float) -> list[float]:
    """Even, normal, of the kind that maxima have, or with a memory of hours."""
    kind = rng.randrange(4)
    if kind == 0:
        return [rng.uniform(-1.7, 1.7) * size for _ in range(hours)]
    if kind == 1:
        return [rng.gauss(0, size) for _ in range(hours)]
    if kind == 2:
        return [(-math.log(rng.expovariate(1) + 1e-9) - 0.577) / 1.28 * size for _ in range(hours)]
    return _wander(rng, hours, size, rng.uniform(0.3, 0.8))


def _wander(rng: random.Random, hours: int, size: float, memory: float) -> list[float]:
    """An autoregressive process of the first order."""
    at, found = rng.gauss(0, size), []
    for _ in range(hours):
        at = memory * at + rng.gauss(0, size * math.sqrt(1 - memory**2))
        found.append(at)
    return found


def _daily(rng: random.Random, size: float) -> Path:
    """A rhythm of the day: a wave, office hours, a batch job, or two peaks."""
    kind, shift, width = rng.randrange(4), rng.randrange(24), rng.uniform(6, 11)
    length = rng.randrange(1, 4)

    def at(hour: int) -> float:
        clock = (hour + shift) % 24
        if kind == 0:
            return size * math.cos(math.tau * clock / 24)
        if kind == 1:
            return size * (math.tanh((clock - 8) / 1.2) - math.tanh((clock - 8 - width) / 1.2) - 1)
        if kind == 2:
            return 2 * size * (clock < length)
        return size * (0.6 * math.cos(math.tau * clock / 24) + 0.6 * math.cos(math.tau * clock / 12 + 1))

    return at


def _weekly(rng: random.Random, size: float) -> Path:
    """Days of work and two without, on which there is less of everything."""
    shift = rng.randrange(168)
    daily = _daily(rng, size * rng.uniform(0.2, 0.5))
    low = rng.uniform(0, 0.5)

    def at(hour: int) -> float:
        resting = (hour + shift) % 168 >= 120
        return daily(hour) * (low if resting else 1) + (0 if resting else size)

    return at


def _flat_path(level: float) -> Path:
    return lambda _hour: level


def _sum(*parts: Path) -> Path:
    return lambda hour: sum(part(hour) for part in parts)


def _line(per_day: float) -> Path:
    return lambda hour: per_day * hour / 24


def _since(start: float, per_hour: float) -> Path:
    return lambda hour: max(hour - start, 0) * per_hour


def _hours(rng: random.Random) -> int:
    return rng.choice((96, 168, 336, 500, 672, 672, 672, 672))


def _level(rng: random.Random) -> float:
    return math.exp(rng.uniform(math.log(60), math.log(20000)))


def _growth(rng: random.Random, level: float) -> Path:
    """A fiftieth to half of the level in a day."""
    return _line(level * math.exp(rng.uniform(math.log(0.02), math.log(0.5))))


def _flat(rng: random.Random, family: str) -> Case | None:
    level, hours = _level(rng), _hours(rng)
    noise = _noise(rng, hours, level * rng.choice((0, 0.002, 0.02, 0.05)))
    return _case(rng, family, _flat_path(level), noise, grows=False)


def _falling(rng: random.Random, family: str) -> Case | None:
    level, hours = _level(rng), _hours(rng)
    path = _sum(_flat_path(level), _line(-level * rng.uniform(0.005, 0.2)), _rhythm_or_none(rng, level))
    return _case(rng, family, path, _noise(rng, hours, level * 0.03), grows=False)


def _rhythm_or_none(rng: random.Random, level: float) -> Path:
    kind = rng.randrange(3)
    if kind == 0:
        return _flat_path(0)
    return _daily(rng, level * rng.uniform(0.1, 0.6))


def _small_noise(rng: random.Random, level: float, hours: int) -> list[float]:
    return _noise(rng, hours, level * rng.uniform(0.005, 0.06))


def _trend(rng: random.Random, family: str) -> Case | None:
    level, hours = _level(rng), _hours(rng)
    growth = _growth(rng, level)
    # It began at the latest when there was nothing.
    path = _sum(_flat_path(level), lambda hour: max(growth(hour), -0.9 * level))
    return _case(rng, family, path, _small_noise(rng, level, hours), grows=True)


def _rhythm(rng: random.Random, family: str) -> Case | None:
    level, hours = _level(rng), _hours(rng)
    path = _sum(_flat_path(level), _daily(rng, level * rng.uniform(0.1, 0.8)))
    return _case(rng, family, path, _small_noise(rng, level, hours), grows=False)


def _trend_and_rhythm(rng: random.Random, family: str) -> Case | None:
    level, hours = _level(rng), _hours(rng)
    growth, size, daily = _growth(rng, level), rng.uniform(0.1, 0.6), _daily(rng, 1)
    whole = rng.random() < 0.5  # whether the rhythm grows with the level

    def path(hour: int) -> float:
        now = level + max(growth(hour), -0.9 * level)
        return now + daily(hour) * size * (now if whole else level)

    return _case(rng, family, path, _small_noise(rng, level, hours), grows=True)


def _week(rng: random.Random, family: str) -> Case | None:
    level, hours = _level(rng), rng.choice((170, 336, 500, 672, 672, 672))
    path = _sum(_flat_path(level), _weekly(rng, level * rng.uniform(0.3, 1)))
    return _case(rng, family, path, _small_noise(rng, level, hours), grows=False)


def _week_and_trend(rng: random.Random, family: str) -> Case | None:
    level, hours = _level(rng), rng.choice((504, 672, 672))
    path = _sum(
        _flat_path(level * 3),
        _weekly(rng, level * rng.uniform(0.3, 1)),
        _line(3 * level * rng.uniform(0.1, 0.8) * 24 / hours),
    )
    return _case(rng, family, path, _small_noise(rng, level, hours), grows=True)


def _noisy(rng: random.Random, family: str) -> Case | None:
    level, hours = _level(rng), _hours(rng)
    kind = rng.randrange(3)
    if kind == 0:
        noise = _wander(rng, hours, level * rng.uniform(0.03, 0.12), rng.uniform(0.8, 0.97))
    elif kind == 1:
        noise = [level * 0.15 * (math.exp(rng.gauss(0, 0.9)) - 1) for _ in range(hours)]
    else:
        noise = _noise(rng, hours, level * rng.uniform(0.1, 0.3))
    return _case(rng, family, _sum(_flat_path(level), _rhythm_or_none(rng, level)), noise, grows=False)


def _steps(rng: random.Random, family: str) -> Case | None:
    """Up and down, at once or over some hours, the last one more than 6 hours ago."""
    level, hours = _level(rng), _hours(rng)
    steps = []
    for index in range(rng.randrange(1, 4)):
        ago = rng.uniform(8, 60) if index == 0 else rng.uniform(8, hours)
        steps.append((-ago, level * rng.uniform(-0.3, 0.8), rng.choice((0.5, 0.5, 3, 8))))

    def path(hour: int) -> float:
        return level + sum(
            size * min(max((hour - start) / width, 0), 1) - size
            for start, size, width in steps
            if start + width < -3
        )

    whole = _sum(path, _rhythm_or_none(rng, level))
    if whole(0) <= 0.1 * level:
        return None
    return _case(rng, family, whole, _small_noise(rng, level, hours), grows=False)


def _leak(rng: random.Random, family: str) -> Case | None:
    """Nothing for long, and growth for some hours: a sixth of the level up to half as much again so far."""
    level, hours = _level(rng), _hours(rng)
    began = rng.uniform(6, 48)
    path = _sum(
        _flat_path(level),
        _since(-began, level * rng.uniform(0.15, 1.5) / began),
        _rhythm_or_none(rng, level) if rng.random() < 0.7 else _flat_path(0),
    )
    return _case(rng, family, path, _small_noise(rng, level, hours), grows=True)


def _restarts(rng: random.Random, family: str) -> Case | None:
    """A leak that ends whenever something is restarted, and begins again."""
    level, hours = _level(rng), _hours(rng)
    length, ago = rng.uniform(40, 300), rng.uniform(10, 60)
    per_hour = level * rng.uniform(0.3, 2) / length

    def path(hour: int) -> float:
        return level + per_hour * ((hour + ago) % length if hour < -ago else hour + ago)

    return _case(rng, family, path, _small_noise(rng, level, hours), grows=True)


def _spikes(rng: random.Random, family: str) -> Case | None:
    level, hours = _level(rng), _hours(rng)
    grows = rng.random() < 0.5
    path = _sum(_flat_path(level), _growth(rng, level) if grows else _flat_path(0))
    whole = _sum(lambda hour: max(path(hour), 0.1 * level), _rhythm_or_none(rng, level))
    noise, share = _small_noise(rng, level, hours), rng.uniform(0.005, 0.06)
    return _case(rng, family, whole, noise, grows=grows, spikes=share)


def _gaps(rng: random.Random, family: str) -> Case | None:
    level, hours = _level(rng), _hours(rng)
    grows = rng.random() < 0.5
    path = _sum(_flat_path(level), _growth(rng, level) if grows else _flat_path(0))
    whole = _sum(lambda hour: max(path(hour), 0.1 * level), _rhythm_or_none(rng, level))
    return _case(
        rng, family, whole, _small_noise(rng, level, hours), grows=grows, gaps=rng.uniform(0.02, 0.35)
    )


def _short(rng: random.Random, family: str) -> Case | None:
    """One to three days of history: some grow, and some have a rhythm that nobody can know yet."""
    level, hours = _level(rng), rng.randrange(24, 80)
    grows = rng.random() < 0.4
    growth = _line(level * rng.uniform(0.3, 1.5)) if grows else _flat_path(0)
    rhythm = _flat_path(0) if grows else _rhythm_or_none(rng, level)
    path = _sum(_flat_path(level), growth, rhythm)
    whole: Path = lambda hour: max(path(hour), 0.05 * level)  # noqa: E731 - one line of a sum
    return _case(rng, family, whole, _small_noise(rng, level, hours), grows=grows)


_FAMILIES: dict[str, Callable[[random.Random, str], Case | None]] = {
    "flat": _flat,
    "falling": _falling,
    "trend": _trend,
    "rhythm": _rhythm,
    "trend and rhythm": _trend_and_rhythm,
    "week": _week,
    "week and trend": _week_and_trend,
    "noise": _noisy,
    "steps": _steps,
    "leak": _leak,
    "restarts": _restarts,
    "spikes": _spikes,
    "gaps": _gaps,
    "short": _short,
}


# --- methods ---------------------------------------------------------------------------------------


def _ours(values: Sequence[float | None], limit: float) -> Answer:
    said = forecast(values, limit)
    if isinstance(said, TooLittle):
        return Answer(None)
    return Answer(said.reaches, said.earliest, said.latest, ranged=said.reaches is not None)


def _least_squares(last: int, values: Sequence[float | None], limit: float) -> Answer:
    """A straight line through the last hours, and the range that its standard errors give."""
    first = len(values) - 1
    pairs = [
        (hour - first, value)
        for hour, value in enumerate(values)
        if value is not None and hour > first - last
    ]
    if len(pairs) < 3:
        return Answer(None)
    slope, level = statistics.linear_regression(*zip(*pairs, strict=True))
    centre = statistics.fmean(hour for hour, _ in pairs)
    spread = sum((hour - centre) ** 2 for hour, _ in pairs)
    rest = sum((value - level - slope * hour) ** 2 for hour, value in pairs) / (len(pairs) - 2)

    def crossing(deviations: float) -> float | None:
        return _crossing(
            [
                level
                + slope * hour
                + deviations * math.sqrt(rest * (1 / len(pairs) + (hour - centre) ** 2 / spread))
                for hour in range(HORIZON + 1)
            ],
            limit,
        )

    return Answer(crossing(0), crossing(1.28), crossing(-1.28), ranged=True)


def _filled(values: Sequence[float | None]) -> Any:
    """An array without gaps, as statsmodels wants it: straight lines over them."""
    known = [(hour, value) for hour, value in enumerate(values) if value is not None]
    found = [known[0][1]] * known[0][0]
    for (start, before), (end, after) in pairwise(known):
        found += [before + (after - before) * step / (end - start) for step in range(end - start)]
    found += [known[-1][1]] * (len(values) - known[-1][0])
    return importlib.import_module("numpy").asarray(found, dtype=float)


def _holt_winters(module: Any, values: Sequence[float | None], limit: float) -> Answer:
    """A damped trend, and a rhythm of 24 hours where there are two of them."""
    use = _filled(values)
    season = 24 if len(use) >= 48 else None
    model = module.ExponentialSmoothing(
        use,
        trend="add",
        damped_trend=True,
        seasonal="add" if season else None,
        seasonal_periods=season,
        initialization_method="estimated",
    )
    path = [float(use[-1]), *(float(value) for value in model.fit().forecast(HORIZON))]
    return Answer(_crossing(path, limit))


def _theta(module: Any, values: Sequence[float | None], limit: float) -> Answer:
    """The method of Assimakopoulos and Nikolopoulos, and its ranges."""
    use = _filled(values)
    fit = module.ThetaModel(use, period=24, deseasonalize=len(use) >= 48, method="additive").fit()
    paths = [fit.forecast(HORIZON), *fit.prediction_intervals(HORIZON, alpha=0.2).to_numpy().T]
    reaches, latest, earliest = (
        _crossing([float(use[-1]), *(float(value) for value in path)], limit) for path in paths
    )
    return Answer(reaches, earliest, latest, ranged=reaches is not None)


def _stl(modules: tuple[Any, Any], values: Sequence[float | None], limit: float) -> Answer:
    """The rhythm taken out by loess, robustly, and Holt's damped line through the rest."""
    use = _filled(values)
    if len(use) < 48:
        return Answer(None)
    forecasting, smoothing = modules
    model = forecasting.STLForecast(
        use,
        smoothing.Holt,
        model_kwargs={"damped_trend": True, "initialization_method": "estimated"},
        period=24,
        robust=True,
    )
    path = [float(use[-1]), *(float(value) for value in model.fit().forecast(HORIZON))]
    return Answer(_crossing(path, limit))


def _methods() -> Iterator[tuple[str, Method]]:
    yield "ours", _ours
    yield "line through all", partial(_least_squares, 10_000)
    yield "line through a day", partial(_least_squares, 24)
    try:
        smoothing = importlib.import_module("statsmodels.tsa.holtwinters")
        theta = importlib.import_module("statsmodels.tsa.forecasting.theta")
        stl = importlib.import_module("statsmodels.tsa.forecasting.stl")
    except ImportError:
        return
    yield "Holt-Winters", partial(_holt_winters, smoothing)
    yield "Theta", partial(_theta, theta)
    yield "STL and Holt", partial(_stl, (stl, smoothing))


# --- scores ----------------------------------------------------------------------------------------


class Score(Struct, frozen=True, kw_only=True):
    """What a method is worth on some series; shares are `None` where there is nothing to count."""

    series: int
    median: float | None
    ninth: float | None
    """The error that one in ten exceeds."""
    missed: float | None
    alarms: float | None
    cries: float | None
    """Of series that do not cross within the week, those that are said to."""
    covered: float | None
    """Crossings within the week that lie in the range, of those that were given one."""


def score(pairs: Sequence[tuple[Case, Answer]]) -> Score:
    """Scores over series and answers."""
    crossing = [(one.crosses, said) for one, said in pairs if one.crosses is not None]
    errors = sorted(
        float(HORIZON) if said.reaches is None else abs(said.reaches - crosses) for crosses, said in crossing
    )

    def share(found: Sequence[bool]) -> float | None:
        return sum(found) / len(found) if found else None

    return Score(
        series=len(pairs),
        median=statistics.median(errors) if errors else None,
        ninth=errors[int(len(errors) * 0.9)] if errors else None,
        missed=share([_later(said.reaches) for crosses, said in crossing if crosses <= SOON]),
        alarms=share(
            [said.reaches is not None and said.reaches <= SOON for one, said in pairs if _later(one.crosses)]
        ),
        cries=share([said.reaches is not None for one, said in pairs if one.crosses is None]),
        covered=share(
            [
                (said.earliest or 0) <= crosses <= (HORIZON if said.latest is None else said.latest)
                for crosses, said in crossing
                if said.ranged
            ]
        ),
    )


def _later(hours: float | None) -> bool:
    return hours is None or hours > TOLERANCE


def _answers(method: Method, cases: Sequence[Case]) -> list[tuple[Case, Answer]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # statsmodels says much about series that do not converge
        return [(one, method(one.values, one.limit)) for one in cases]


def _cases(seeds: int) -> list[Case]:
    return [case(family, seed) for family in _FAMILIES for seed in range(seeds)]


def seen(before: int, seeds: int) -> float:
    """The share of crossings that are foretold within 36 hours so many hours before they come."""
    cases = [one for one in _cases(seeds) if one.crosses is not None and one.crosses <= 6]
    cases = [one for one in cases if len(one.values) >= 96 + before]
    back = [round(before - (one.crosses or 0.0)) for one in cases]
    answers = [
        _ours(one.values[: len(one.values) - hours], one.limit)
        for one, hours in zip(cases, back, strict=True)
    ]
    return sum(not _later(said.reaches) for said in answers) / len(answers)


def disturbed(days: int, seeds: int) -> float:
    """The share of series that do not cross with an alarm in the last so many days, asked each hour."""
    cases = [one for one in _cases(seeds) if one.crosses is None and len(one.values) >= 96 + DAY * days]
    found = 0
    for one in cases:
        # Nothing is wrong with an alarm in a history that has been higher.
        known = [value for value in one.values[-DAY * (days + 2) :] if value is not None]
        if max(known) < one.limit:
            said = (
                _ours(one.values[: len(one.values) - back], one.limit).reaches for back in range(DAY * days)
            )
            found += any(hours is not None and hours <= SOON for hours in said)
    return found / len(cases)


def figures(rivals: int) -> Iterator[Figure]:
    """The forecast's own scores, those of others on so many series of each family, and what each costs."""
    for name, method in _methods():
        ours = name == "ours"
        cases = _cases(60 if ours else rivals)
        if not cases:
            continue
        begun = time.perf_counter()
        got = score(_answers(method, cases))
        took = (time.perf_counter() - begun) / len(cases) * 1000
        what, note = f"Forecast, {name}", f"of {got.series} drawn series"
        if ours:
            full = next(one for one in cases if len(one.values) == 672)
            took = median_ms(partial(forecast, full.values, full.limit), 20)
        if got.median is not None:
            yield Figure(f"{what}: median error of the crossing", got.median, "h", None, note)
        yield Figure(f"{what}: crossings within a day missed", 100 * (got.missed or 0), "%", None, note)
        yield Figure(f"{what}: false alarms within a day", 100 * (got.alarms or 0), "%", None, note)
        yield Figure(f"{what}: one forecast", took, "ms", 15 if ours else None, "28 days" if ours else note)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.forecast", description="Measure the forecast.")
    parser.add_argument("--seeds", type=int, default=100, help="series of each family (default: 100)")
    parser.add_argument("--rivals", type=int, default=20, help="the same for other methods (default: 20)")
    asked = parser.parse_args()
    console = Console(width=110)
    summary = Table("all", *_HEADS, "ms")
    for name, method in _methods():
        cases = _cases(asked.seeds if name == "ours" else asked.rivals)
        if not cases:
            continue
        table = Table(name, *_HEADS)
        begun = time.perf_counter()
        got = _answers(method, cases)
        took = (time.perf_counter() - begun) / len(cases) * 1000
        for family, several in groupby(got, key=lambda pair: pair[0].family):
            table.add_row(family, *_cells(score(list(several))))
        summary.add_row(name, *_cells(score(got)), f"{took:.1f}")
        console.print(table)
    console.print(summary)
    for before in (24, 18, 12, 6):
        print(f"seen {before} hours before: {100 * seen(before, asked.seeds):.0f} %")
    print(f"series without a crossing, any alarm in a week: {100 * disturbed(7, asked.seeds // 5):.1f} %")


_HEADS = ("series", "error h", "90 %", "missed", "alarms", "cries", "covered")


def _cells(got: Score) -> tuple[str, ...]:
    def hours(value: float | None) -> str:
        return "" if value is None else f"{value:.1f}"

    def share(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.1f} %"

    return (
        str(got.series),
        hours(got.median),
        hours(got.ninth),
        *map(share, (got.missed, got.alarms, got.cries, got.covered)),
    )


if __name__ == "__main__":
    main()
