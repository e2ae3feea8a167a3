"""Azure Monitor's metrics: what there is of which resource, and the rules of asking for it.

`POST /metrics/{region}/subscriptions/{id}/metrics:getBatch` stands for
`https://{region}.metrics.monitor.azure.com/subscriptions/{id}/metrics:getBatch`
(https://learn.microsoft.com/rest/api/monitor/metrics-batch/batch). As in Azure a query with a filter brings
ten time series a resource unless `top` says otherwise, without a word about those left out; dimensions that
the filter does not name are summed up; a minute without a sample is a point without a value; a metric's
name in another case finds nothing.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from local.azure.arm import ArmError, ArmPath, Json, MalformedError
from local.azure.metric_files import METRICS, Metric, Series
from local.azure.samples import SPARSE, Minute, Shape

ACTION = "Microsoft.Insights/metrics/read"
AUDIENCES = frozenset({"https://metrics.monitor.azure.com"})
"""What the batch interface accepts a token for."""
VERSIONS = ("2024-02-01", "2023-10-01")
MOST = 50
"""Resources in one batch."""
DEFAULT_TOP = 10
KEPT_DAYS = 93
GRAINS = {
    "PT1M": 1,
    "PT5M": 5,
    "PT15M": 15,
    "PT30M": 30,
    "PT1H": 60,
    "PT6H": 360,
    "PT12H": 720,
    "P1D": 1440,
}
"""Minutes by ISO 8601 duration."""
AGGREGATIONS = ("average", "minimum", "maximum", "total", "count")


# --- what is asked ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Query:
    """A query that obeys the rules."""

    subscription: str
    region: str
    namespace: str
    """In lower case."""
    names: tuple[str, ...]
    """As asked; one in another case than the metric's finds nothing."""
    aggregations: tuple[str, ...]
    grain: str
    start: Minute
    end: Minute
    filters: Mapping[str, frozenset[str] | None]
    """By dimension: the values wanted, in lower case, or None for all, each by itself."""
    top: int
    """Time series of each metric and resource at the most."""


def refused(message: str) -> ArmError:
    """A query against the rules."""
    return ArmError(400, "BadRequest", message, cause="service")


def read_query(parameters: Mapping[str, str], *, subscription: str, region: str, now: Minute) -> Query:
    """Understand a query's parameters, or refuse them as Azure does."""
    given = {name.lower(): value for name, value in parameters.items()}
    namespace = given.get("metricnamespace", "")
    known = METRICS.get(namespace.lower())
    if known is None:
        raise refused(f"Metric namespace '{namespace}' is not supported.")
    names = tuple(name.strip() for name in given.get("metricnames", "").split(",") if name.strip())
    if not names:
        raise refused("Query parameter 'metricnames' is required.")
    lower = {name.lower(): name for name in known}
    for name in names:
        if name.lower() not in lower:
            raise refused(
                f"Failed to find metric configuration for provider: {namespace.partition('/')[0]}, resource "
                f"Type: {namespace.partition('/')[2]}, metric: {name}, Valid metrics: {','.join(known)}"
            )
    aggregations = tuple(
        one.strip().lower() for one in given.get("aggregation", "average").split(",") if one.strip()
    )
    for one in aggregations:
        if one not in AGGREGATIONS:
            raise refused(f"Invalid aggregation type: {one}, Valid: {','.join(AGGREGATIONS)}")
    grain = given.get("interval", "PT1M")
    if grain not in GRAINS:
        raise refused(
            f"Detected invalid time grain input '{grain}', Supported time grains: {','.join(GRAINS)}"
        )
    end = _moment(given.get("endtime"), now, "endtime")
    start = _moment(given.get("starttime"), end - 60, "starttime")
    if start >= end:
        raise refused("Start time cannot be later than or equal to end time.")
    if start < now - KEPT_DAYS * 1440:
        raise refused(f"Detected invalid start time: metrics are kept for {KEPT_DAYS} days.")
    metrics = [known[lower[name.lower()]] for name in names]
    filters = _filters(given["filter"], metrics, names) if given.get("filter") else {}
    top = _top(given.get("top", str(DEFAULT_TOP))) if filters else DEFAULT_TOP
    return Query(
        subscription=subscription,
        region=region.lower(),
        namespace=namespace.lower(),
        names=names,
        aggregations=aggregations,
        grain=grain,
        start=start // GRAINS[grain] * GRAINS[grain],
        end=end,
        filters=filters,
        top=top,
    )


def _moment(text: str | None, default: Minute, what: str) -> Minute:
    if not text:
        return default
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise refused(f"Query parameter '{what}' has an invalid date-time: '{text}'.") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) // 60


def _top(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**31:
        raise refused(f"Detected invalid TopN value '{text}', which should be Int value.")
    return int(text)


_CLAUSE = re.compile(r"\s*(\w+)\s+eq\s+'([^']*)'\s*", re.IGNORECASE)


def _filters(text: str, metrics: list[Metric], names: tuple[str, ...]) -> dict[str, frozenset[str] | None]:
    """`A eq '*' and B eq 'x' or B eq 'y'`: `or` only between values of one dimension."""
    wanted: dict[str, set[str]] = {}
    for part in re.split(r"\s+and\s+", text, flags=re.IGNORECASE):
        dimension = ""
        for clause in re.split(r"\s+or\s+", part, flags=re.IGNORECASE):
            matched = _CLAUSE.fullmatch(clause)
            if matched is None:
                raise refused(f"The filter '{text}' is invalid at '{clause.strip()}'.")
            if dimension and matched[1].lower() != dimension:
                raise refused(
                    f"The filter '{text}' is invalid: 'or' cannot separate two different metadata names."
                )
            dimension = matched[1].lower()
            wanted.setdefault(dimension, set()).add(matched[2].lower())
    found: dict[str, frozenset[str] | None] = {}
    for dimension, values in wanted.items():
        for metric, name in zip(metrics, names, strict=True):
            known = {one.lower(): one for one in metric.dimensions}
            if dimension not in known:
                raise refused(
                    f"Metric: {name} does not support requested dimension combination: {dimension}, "
                    f"supported ones are: {','.join(metric.dimensions) or 'none'}"
                )
            found[known[dimension]] = None if "*" in values else frozenset(values)
    return found


def check_resources(query: Query, body: Any, location_of: Callable[[str], str | None]) -> list[str]:
    """The ids of a batch's body, or a refusal; `location_of` tells where a resource is, None if nowhere."""
    ids = body.get("resourceids") if isinstance(body, dict) else None
    if not isinstance(ids, list) or not ids or not all(isinstance(one, str) for one in ids):
        raise refused("The request body must have a list 'resourceids' of resource ids.")
    if len(ids) > MOST:
        raise refused(f"The number of resource ids ({len(ids)}) exceeds the maximum of {MOST}.")
    for one in ids:
        try:
            path = ArmPath.parse(one)
        except MalformedError as error:
            raise refused(f"Invalid resource id '{one}': {error}.") from None
        if path.subscription.lower() != query.subscription.lower():
            raise refused(f"Resource '{one}' is not in subscription '{query.subscription}'.")
        if path.type.lower() != query.namespace:
            raise refused(f"Resource '{one}' is not of type '{query.namespace}'.")
        location = location_of(one)
        if location is None:
            raise ArmError(404, "ResourceNotFound", f"The Resource '{one}' was not found.", cause="service")
        if location.replace(" ", "").lower() != query.region:
            raise refused(f"Resource '{one}' is in region '{location}', which is not '{query.region}'.")
    return ids


# --- the answer ------------------------------------------------------------------------------------


def answer(query: Query, held: Mapping[str, tuple[Series, ...]], *, now: Minute) -> Json:
    """The answer for some resources: their time series by id, as the id was asked."""
    return {"values": [_resource(query, identifier, series, now) for identifier, series in held.items()]}


def _resource(query: Query, identifier: str, series: tuple[Series, ...], now: Minute) -> Json:
    known = METRICS[query.namespace]
    return {
        "starttime": _time(query.start),
        "endtime": _time(query.end),
        "interval": query.grain,
        "namespace": query.namespace,
        "resourceregion": query.region,
        "resourceid": identifier,
        "value": [
            {
                "id": f"{identifier}/providers/Microsoft.Insights/metrics/{name}",
                "type": "Microsoft.Insights/metrics",
                "name": {"value": name, "localizedValue": name},
                "unit": next(metric.unit for other, metric in known.items() if other.lower() == name.lower()),
                "timeseries": _timeseries(query, [one for one in series if one.metric == name], now),
                "errorCode": "Success",
            }
            for name in query.names
        ],
    }


class _Sum:
    """What a bucket of time holds."""

    __slots__ = ("count", "highest", "lowest", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.lowest = float("inf")
        self.highest = float("-inf")

    def add(self, value: float, times: int) -> None:
        self.count += times
        self.total += value * times
        self.lowest = min(self.lowest, value)
        self.highest = max(self.highest, value)

    def tell(self, aggregation: str) -> float:
        match aggregation:
            case "average":
                return self.total / self.count
            case "total":
                return self.total
            case "count":
                return self.count
            case "minimum":
                return self.lowest
            case _:
                return self.highest


def _timeseries(query: Query, series: list[Series], now: Minute) -> list[Json]:
    grain = GRAINS[query.grain]
    groups: dict[tuple[tuple[str, str], ...], dict[int, _Sum]] = {}
    for one in series:
        if not all(
            values is None or one.dimensions[dimension].lower() in values
            for dimension, values in query.filters.items()
        ):
            continue
        name = tuple((dimension, one.dimensions[dimension]) for dimension in query.filters)
        _fill(groups.setdefault(name, {}), one, query, grain, now)
    times = _times(query.start, query.end, grain)
    rows = [_row(query, name, sums, times) for name, sums in groups.items() if sums]
    return rows[: query.top] if query.filters else rows


def _fill(sums: dict[int, _Sum], one: Series, query: Query, grain: int, now: Minute) -> None:
    sparse = grain >= 60
    times = 60 // SPARSE if sparse and isinstance(one.source, Shape) else 1
    for minute, value in one.source.samples(query.start, query.end, now, sparse=sparse):
        bucket = (minute - query.start) // grain
        if bucket not in sums:
            sums[bucket] = _Sum()
        sums[bucket].add(value, times)


def _row(
    query: Query, name: Iterable[tuple[str, str]], sums: Mapping[int, _Sum], times: Iterable[str]
) -> Json:
    data: list[Json] = []
    for bucket, time in enumerate(times):
        point: Json = {"timeStamp": time}
        if held := sums.get(bucket):
            for aggregation in query.aggregations:
                point[aggregation] = held.tell(aggregation)
        data.append(point)
    return {
        "metadatavalues": [
            {"name": {"value": dimension.lower(), "localizedValue": dimension.lower()}, "value": value}
            for dimension, value in name
        ],
        "data": data,
    }


@lru_cache(maxsize=8)
def _times(start: Minute, end: Minute, grain: int) -> tuple[str, ...]:
    """When each bucket begins: the same for all time series of a query."""
    return tuple(_time(minute) for minute in range(start, end, grain))


def _time(minute: Minute) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
