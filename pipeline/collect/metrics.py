"""What Azure Monitor counted: read for many resources at once, through its batch interface.

One call answers for up to 50 resources of a subscription, type and region
(https://learn.microsoft.com/azure/azure-monitor/metrics/migrate-to-batch-api), so the first cluster of a scan
that asks reads for its neighbours too. Without `top`, a query that splits by dimensions returns ten time
series and does not say that there were more.

A missing point is `None`, and neither 0 nor the end of anything: a minute without traffic has none, and the
newest minutes arrive late.
"""

import asyncio
import time
from array import array
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from math import isnan, nan
from typing import Any, Literal

import msgspec
from azure.core.rest import HttpRequest
from msgspec import Struct, structs

from facts import resource_id
from facts.filters import Missing
from facts.finding import Reason
from facts.outbound import Series, Usage, Window
from facts.times import timestamp
from pipeline.collect.inventory import READ_SECONDS, Inventory
from pipeline.collect.kinds import FIREWALLS, LOAD_BALANCERS, NAT_GATEWAYS, Kind
from pipeline.collect.outbound_documents import BalancerModel
from pipeline.errors import reason_for

ACTION = "Microsoft.Insights/metrics/read"
"""The action that reading metrics takes, in the whole subscription for the batch interface."""

BATCH = 50
"""Resources in one call at the most."""
WEIGHT = 800
"""Nodes times addresses in one call at the most, which keeps an answer at about 10 MB."""
PREFIX_WEIGHT = 16
"""The addresses that a public prefix has at the most, as a rule; how many is not known here."""
EVERY_SERIES = 2_147_483_647
"""The greatest `top` that Azure takes."""
SHORTEST_MINUTES = 30
LONGEST_MINUTES = 360
"""How far back is looked minute by minute: over the last scan, whatever the schedule, within these."""
MARGIN_MINUTES = 15
"""On top of the time between two scans: points arrive late, and scans take time."""
HISTORY_DAYS = 28
"""Four weeks hour by hour; Azure keeps 93 days."""
HISTORY_FRESH_SECONDS = 3600.0
"""A history of hours is read once an hour."""

Aggregation = Literal["average", "maximum", "total"]


class _Question(Struct, frozen=True):
    """Metrics that are asked for together: they share dimensions and the way of summing up."""

    metrics: tuple[str, ...]
    aggregation: Aggregation
    split: tuple[str, ...] = ()
    """The dimensions that time series are kept apart by."""


class _Questions(Struct, frozen=True):
    """What is asked about one type of resource."""

    namespace: str
    recent: tuple[_Question, ...]
    history: tuple[_Question, ...]


# Names as in https://learn.microsoft.com/azure/azure-monitor/reference/metrics-index; Azure minds their case,
# and two of the services write SNAT differently. Used ports are sampled once a minute: average and maximum
# say what is in use, a sum counts each sample. The maximum of an hour is that of the busiest node.
_ASKED = {
    "microsoft.network/loadbalancers": _Questions(
        namespace="Microsoft.Network/loadBalancers",
        recent=(
            _Question(
                ("SnatConnectionCount",),
                "total",
                ("FrontendIPAddress", "BackendIPAddress", "ConnectionState"),
            ),
            _Question(
                ("UsedSnatPorts", "AllocatedSnatPorts"),
                "average",
                ("FrontendIPAddress", "BackendIPAddress", "ProtocolType"),
            ),
        ),
        history=(_Question(("UsedSnatPorts",), "maximum", ("FrontendIPAddress", "ProtocolType")),),
    ),
    "microsoft.network/natgateways": _Questions(
        namespace="Microsoft.Network/natGateways",
        recent=(
            _Question(("SNATConnectionCount",), "total", ("Protocol", "ConnectionState")),
            _Question(("TotalConnectionCount", "PacketDropCount"), "total"),
            _Question(("DatapathAvailability",), "average"),
        ),
        history=(_Question(("TotalConnectionCount",), "total"),),
    ),
    "microsoft.network/azurefirewalls": _Questions(
        namespace="Microsoft.Network/azureFirewalls",
        recent=(_Question(("SNATPortUtilization",), "maximum", ("Protocol",)),),
        history=(_Question(("SNATPortUtilization",), "maximum", ("Protocol",)),),
    ),
}
_KINDS: Mapping[str, Kind[Any]] = {
    "microsoft.network/loadbalancers": LOAD_BALANCERS,
    "microsoft.network/natgateways": NAT_GATEWAYS,
    "microsoft.network/azurefirewalls": FIREWALLS,
}


class _Held(Struct, frozen=True):
    """A time series, packed: an inventory holds those of a whole fleet."""

    metric: str
    dimensions: Mapping[str, str]
    values: "array[float]"

    def series(self) -> Series:
        values = tuple(None if isnan(value) else value for value in self.values)
        return Series(metric=self.metric, dimensions=self.dimensions, values=values)


class _Span(Struct, frozen=True):
    """The steps of time that are asked about."""

    start: datetime
    step: timedelta
    steps: int

    @classmethod
    def recent(cls, now: datetime, between_scans: timedelta) -> "_Span":
        minutes = round(between_scans.total_seconds() / 60) + MARGIN_MINUTES
        steps = min(max(minutes, SHORTEST_MINUTES), LONGEST_MINUTES)
        end = now.replace(second=0, microsecond=0)
        return cls(end - timedelta(minutes=steps), timedelta(minutes=1), steps)

    @classmethod
    def history(cls, now: datetime) -> "_Span":
        end = now.replace(minute=0, second=0, microsecond=0)
        return cls(end - timedelta(days=HISTORY_DAYS), timedelta(hours=1), 24 * HISTORY_DAYS)

    def window(self, held: Iterable[_Held]) -> Window:
        return Window(
            start=timestamp(self.start),
            step_minutes=round(self.step / timedelta(minutes=1)),
            steps=self.steps,
            series=tuple(one.series() for one in held),
        )


type _Answer = tuple[_Span, tuple[_Held, ...]] | Missing


# --- Azure's answer, as far as it is read ----------------------------------------------------------


class _Name(Struct):
    value: str = ""


class _Metadata(Struct):
    name: _Name
    value: str = ""


class _Point(Struct, rename={"at": "timeStamp"}):
    at: str
    average: float | None = None
    maximum: float | None = None
    total: float | None = None


class _TimeSeries(Struct):
    metadatavalues: list[_Metadata] = []
    data: list[_Point] = []


class _Metric(Struct, rename={"code": "errorCode", "message": "errorMessage"}):
    name: _Name
    timeseries: list[_TimeSeries] = []
    code: str | None = None
    message: str | None = None


class _Resource(Struct):
    resourceid: str
    value: list[_Metric] = []


class _Batch(Struct):
    values: list[_Resource]


_decoder = msgspec.json.Decoder(_Batch)


async def read_usage(inventory: Inventory, wanted: str, location: str) -> Usage:
    """What Azure Monitor has of a load balancer, a NAT gateway or a firewall."""
    key = resource_id.key(wanted)
    parts = resource_id.parse(wanted)
    kind = parts.type.lower()
    region = _region(location)
    batch = await _batch(inventory, kind, key, region)
    scope = (kind, parts.subscription_id.lower(), region)

    async def answers(which: Literal["recent", "history"]) -> Window | Missing:
        async def read() -> Mapping[str, _Answer]:
            return await _Reader(inventory, *scope).read(which, batch)

        answer = (await inventory.once(("usage", which, *scope, *batch), read))[key]
        return answer if isinstance(answer, Missing) else answer[0].window(answer[1])

    recent, history = await asyncio.gather(answers("recent"), answers("history"))
    return Usage(recent=recent, history=history)


async def _batch(inventory: Inventory, kind: str, key: str, region: str) -> tuple[str, ...]:
    """The keys of those that are asked about together with one, itself among them: the same for each."""
    parts = resource_id.parse(key)
    listed = await inventory.listed(_KINDS[kind], parts.subscription_id)
    if isinstance(listed, Missing) or key not in listed:
        return (key,)
    chunk: list[str] = []
    weight = 0
    for other, model in sorted(listed.items()):
        if _region(model.location) != region or not _counts(model):
            continue
        more = _weight(model)
        if chunk and (len(chunk) == BATCH or weight + more > WEIGHT):
            if key in chunk:
                break
            chunk, weight = [], 0
        chunk.append(other)
        weight += more
    return tuple(chunk) if key in chunk else (key,)


def _region(location: str) -> str:
    """A region as addresses have it: `westeurope`, however it is written."""
    return location.replace(" ", "").lower()


def _counts(model: Any) -> bool:
    """Whether a resource may have anything to count: a load balancer without outbound rules does not."""
    return not isinstance(model, BalancerModel) or bool(model.rules)


def _weight(model: Any) -> int:
    """How much there is to read of a resource: time series come by node and address."""
    if not isinstance(model, BalancerModel):
        return 1
    return max(
        1,
        sum(
            (rule.members or 1) * (PREFIX_WEIGHT if "/publicipprefixes/" in one.source_id.lower() else 1)
            for rule in model.rules
            for one in rule.frontends
        ),
    )


class _Reader:
    """Asks about resources of one type, subscription and region."""

    def __init__(self, inventory: Inventory, kind: str, subscription_id: str, region: str) -> None:
        self._inventory = inventory
        self._clients = inventory.clients
        self._kind = kind
        self._subscription = subscription_id
        self._region = region

    async def read(self, which: Literal["recent", "history"], batch: tuple[str, ...]) -> dict[str, _Answer]:
        """What there is of each resource of a batch; a history that was read lately is not read again."""
        now = datetime.now(UTC)
        asked = _ASKED[self._kind]
        if which == "recent":
            span = _Span.recent(now, self._clients.settings.scan_interval)
            return await self._answers(batch, asked.recent, span)
        held: dict[str, tuple[float, _Answer]] = self._clients.histories
        stale = tuple(
            key for key in batch if key not in held or time.monotonic() - held[key][0] > HISTORY_FRESH_SECONDS
        )
        read = await self._answers(stale, asked.history, _Span.history(now)) if stale else {}
        answers = {key: read[key] if key in read else held[key][1] for key in batch}
        for key, answer in read.items():
            if not isinstance(answer, Missing):
                held[key] = (time.monotonic(), answer)
        for key in [
            key for key, (at, _) in held.items() if time.monotonic() - at > 2 * HISTORY_FRESH_SECONDS
        ]:
            del held[key]
        return answers

    async def _answers(
        self, batch: tuple[str, ...], questions: Iterable[_Question], span: _Span
    ) -> dict[str, _Answer]:
        """The answers to several questions, joined by resource; one that failed makes all of it missing."""
        read = await asyncio.gather(*(self._told(batch, question, span) for question in questions))
        joined: dict[str, _Answer] = {}
        for key in batch:
            parts = [answer[key] for answer in read]
            missing = next((one for one in parts if isinstance(one, Missing)), None)
            held = tuple(series for one in parts if not isinstance(one, Missing) for series in one)
            joined[key] = missing or (span, held)
        return joined

    async def _told(
        self, batch: tuple[str, ...], question: _Question, span: _Span
    ) -> dict[str, tuple[_Held, ...] | Missing]:
        """What one call brought, or why it did not."""
        try:
            async with self._clients.metric_queries:
                async with asyncio.timeout(READ_SECONDS):
                    body = await self._ask(batch, question, span)
                return self._understood(body, batch, question, span)
        except Exception as error:  # noqa: BLE001 - whatever went wrong has to be told, not to end the scan
            if getattr(error, "status_code", None) in {400, 404} and len(batch) > 1:
                return await self._apart(batch, question, span)
            return {key: self._missing(key, error) for key in batch}

    async def _apart(
        self, batch: tuple[str, ...], question: _Question, span: _Span
    ) -> dict[str, tuple[_Held, ...] | Missing]:
        """What is left of a call that Azure refused as a whole, as it does for one resource that is gone.

        Each half is asked by itself, until those that are at fault stand alone. Where the first and the last
        are refused by themselves too it is the question that Azure does not take, and nobody else is asked.
        """
        ends = {
            **await self._told(batch[:1], question, span),
            **await self._told(batch[-1:], question, span),
        }
        within = batch[1:-1]
        if all(isinstance(one, Missing) for one in ends.values()):
            refused = next(one for one in ends.values() if isinstance(one, Missing))
            if refused.reason.code == "azure_error":
                return {key: self._as_of(key, refused) for key in batch}
        middle = (len(within) + 1) // 2
        for half in (within[:middle], within[middle:]):
            if half:
                ends |= await self._told(half, question, span)
        return ends

    def _as_of(self, key: str, missing: Missing) -> Missing:
        """The same reason, said of another resource."""
        message = missing.reason.message.replace(missing.what, self._what(key))
        reason = structs.replace(missing.reason, message=message, resource=key)
        return Missing(what=self._what(key), resource_id=key, reason=reason)

    def _what(self, key: str) -> str:
        return f'metrics of {_KINDS[self._kind].words} "{key.rsplit("/", 1)[-1]}"'

    async def _ask(self, batch: tuple[str, ...], question: _Question, span: _Span) -> bytes:
        query = {
            "api-version": "2024-02-01",
            "metricnamespace": _ASKED[self._kind].namespace,
            "metricnames": ",".join(question.metrics),
            "aggregation": question.aggregation,
            "starttime": _written(span.start),
            "endtime": _written(span.start + span.step * span.steps),
            "interval": "PT1M" if span.step == timedelta(minutes=1) else "PT1H",
        }
        if question.split:
            query["filter"] = " and ".join(f"{name} eq '*'" for name in question.split)
            query["top"] = str(EVERY_SERIES)
        request = HttpRequest(
            "POST",
            f"{{endpoint}}/subscriptions/{self._subscription}/metrics:getBatch",
            params=query,
            json={"resourceids": list(batch)},
        )
        # As a stream, or else the SDK makes objects of each point before anybody asks for them.
        response = await self._clients.metrics(self._region).send_request(request, stream=True)
        body = await response.read()
        response.raise_for_status()
        return body

    def _understood(
        self, body: bytes, batch: tuple[str, ...], question: _Question, span: _Span
    ) -> dict[str, tuple[_Held, ...] | Missing]:
        try:
            answer = _decoder.decode(body)
        except msgspec.ValidationError as error:
            raise ValueError(f"its answer has another form ({error})") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError("its answer was no valid JSON") from error
        by_key = {resource_id.key(one.resourceid): one for one in answer.values}
        found: dict[str, tuple[_Held, ...] | Missing] = {}
        for key in batch:
            if key not in by_key:
                found[key] = self._missing(key, ValueError("its answer leaves it out"))
                continue
            try:
                found[key] = tuple(_held(by_key[key], question, span))
            except ValueError as error:
                found[key] = self._missing(key, error)
        return found

    def _missing(self, key: str, error: Exception) -> Missing:
        what = self._what(key)
        reason = reason_for(error, what=what, resource_id=key, action=ACTION)
        if reason.code == "permission_denied":
            message = (
                f"Could not read {what}: the identity lacks the action {reason.action} on the whole "
                "subscription, which reading many metrics at once takes."
            )
            reason = Reason(
                code=reason.code,
                message=message,
                action=reason.action,
                resource=f"/subscriptions/{self._subscription}",
            )
        return Missing(what=what, resource_id=key, reason=reason)


def _held(resource: _Resource, question: _Question, span: _Span) -> Iterable[_Held]:
    """The time series of one resource; raises `ValueError` for a metric that Azure could not give."""
    for metric in resource.value:
        if metric.code not in {None, "", "Success"}:
            raise ValueError(f"{metric.name.value}: {metric.code} {metric.message or ''}".strip())
        for one in metric.timeseries:
            values = array("d", [nan]) * span.steps
            some = False
            for point in one.data:
                value: float | None = getattr(point, question.aggregation)
                step = (datetime.fromisoformat(point.at) - span.start) // span.step
                if value is not None and 0 <= step < span.steps:
                    values[step] = value
                    some = True
            if some:
                dimensions = {held.name.value.lower(): held.value for held in one.metadatavalues}
                yield _Held(metric.name.value, dimensions, values)


def _written(moment: datetime) -> str:
    """As Azure Monitor takes a time: `2026-01-31T08:15:00.000Z`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")
