"""Answers over HTTP: findings, clusters, scans, and whether the monitor itself is well."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import azure.functions as func
import msgspec
from azure.core.exceptions import AzureError
from msgspec import Meta, Struct, structs

from facts import resource_id
from facts.finding import Finding, Outcome, Severity
from facts.times import timestamp
from pipeline import clients, scans, telemetry
from pipeline.record import utc_now
from pipeline.requests import Answer, Problem, body, cursor, query, resume
from pipeline.run import cluster_key
from pipeline.scans import ScanRequest, Summary
from pipeline.store import CLUSTERS, ClusterState, Store, moment, stored

Limit = Annotated[int, Meta(ge=1, le=1000)]
Text = Annotated[str, Meta(max_length=1000)]
MOST_NAMED = 1000
"""Clusters that one request for a scan may name."""


class FindingsQuery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`GET /api/findings`: filters, which all have to hold, and paging."""

    cluster: Text = ""
    """A cluster's key, name or resource id."""
    subscription: Text = ""
    check: Text = ""
    cause: Annotated[int, Meta(ge=1, le=99)] | None = None
    severity: Severity | None = None
    status: Literal["open", "resolved", "all"] = "open"
    since: Text = ""
    """Only what was seen at or after this time, ISO 8601."""
    muted: bool | None = None
    limit: Limit = 100
    cursor: str = ""


class ClustersQuery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`GET /api/clusters`."""

    subscription: Text = ""
    outcome: Outcome | None = None
    status: Literal["active", "deleted", "unwatched", "all"] = "active"
    limit: Limit = 100
    cursor: str = ""


class NoQuery(Struct, frozen=True, kw_only=True):
    """A route that takes no parameters."""


class ScanBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /api/scans`: what to scan."""

    clusters: Annotated[list[Text], Meta(min_length=1, max_length=MOST_NAMED)] | None = None
    """Keys or resource ids; left out for all clusters."""
    probes: bool = False


def _store() -> Store:
    return Store(clients.get().table_service())


async def findings(request: func.HttpRequest) -> Answer:
    """`GET /api/findings`."""
    asked = query(request, FindingsQuery)
    page, values = await query_findings(_store(), asked)
    return Answer(body={"items": values, "next": cursor(page, asked)})


async def query_findings(store: Store, asked: FindingsQuery) -> tuple[Any, list[Finding]]:
    """The findings that a query asks for, with the token of the page after."""
    token = resume(asked.cursor, asked)
    filters, parameters = _finding_filters(asked)
    page = await store.query(store.fleet, filters, parameters, limit=asked.limit, token=token)
    return page.token, [stored(entity, Finding).value for entity in page.entities]


async def finding(request: func.HttpRequest) -> Answer:
    """`GET /api/findings/{id}`: one, with its transitions."""
    query(request, NoQuery)
    finding_id = request.route_params.get("id", "")
    store = _store()
    found = await store.finding(finding_id) if _is_key(finding_id) else None
    if found is None:
        raise Problem(404, f"There is no finding {finding_id[:120]!r}.", field="id")
    whole = msgspec.to_builtins(found.value)
    whole["transitions"] = msgspec.to_builtins(await store.history(finding_id))
    return Answer(body=whole)


async def clusters(request: func.HttpRequest) -> Answer:
    """`GET /api/clusters`."""
    asked = query(request, ClustersQuery)
    filters = [*CLUSTERS]
    parameters: dict[str, Any] = {}
    if asked.status != "all":
        filters.append("Status eq @status")
        parameters["status"] = asked.status
    if asked.subscription:
        filters.append("Subscription eq @subscription")
        parameters["subscription"] = asked.subscription.lower()
    if asked.outcome:
        filters.append("Outcome eq @outcome")
        parameters["outcome"] = str(asked.outcome)
    token = resume(asked.cursor, asked)
    store = _store()
    page = await store.query(store.fleet, filters, parameters, limit=asked.limit, token=token)
    values = [_in_short(stored(entity, ClusterState).value) for entity in page.entities]
    return Answer(body={"items": values, "next": cursor(page.token, asked)})


def _in_short(state: ClusterState) -> ClusterState:
    """A cluster as a list shows it: without what the checks observed."""
    return structs.replace(
        state, checks=tuple(structs.replace(check, evidence=None) for check in state.checks)
    )


async def cluster(request: func.HttpRequest) -> Answer:
    """`GET /api/clusters/{key}`."""
    query(request, NoQuery)
    key = request.route_params.get("key", "")
    found = await _store().cluster(key) if _is_key(key) else None
    if found is None:
        raise Problem(
            404, f"There is no cluster {key[:120]!r}; GET /api/clusters lists their keys.", field="key"
        )
    return Answer(body=found.value)


async def start_scan(
    request: func.HttpRequest, requests: func.Out[str], messages: func.Out[list[str]]
) -> Answer:
    """`POST /api/scans`: scan now, all clusters or the ones named."""
    query(request, NoQuery)
    asked = body(request, ScanBody)
    store = _store()
    scan_id = scans.new_scan_id(utc_now())
    summary = Summary(
        id=scan_id,
        reason="request",
        full=asked.clusters is None,
        started_at=timestamp(scans.started(scan_id)),
    )
    if asked.clusters is None:
        await scans.save_summary(store, summary)
        requests.set(
            scans.encode(
                ScanRequest(
                    schema=scans.SCHEMA,
                    scan_id=scan_id,
                    reason="request",
                    probes=asked.probes,
                    **telemetry.trace_context(),
                )
            )
        )
    else:
        named = {await _named(store, name, place): None for place, name in enumerate(asked.clusters)}
        summary = structs.replace(summary, total=len(named))
        await scans.save_summary(store, summary)
        messages.set(
            scans.cluster_messages(list(named), scan_id=scan_id, reason="request", probes=asked.probes)
        )
    return accepted(summary)


def accepted(summary: Summary) -> Answer:
    """202, with where to look for the scan's progress."""
    where = f"/api/scans/{summary.id}"
    return Answer(
        body={"id": summary.id, "status": "queued", "total": summary.total, "href": where},
        status=202,
        headers={"Location": where},
    )


async def _named(store: Store, name: str, place: int) -> str:
    """The id of a cluster that somebody named by key or id."""
    field = f"clusters[{place}]"
    if name.startswith("/"):
        try:
            resource_id.parse_cluster(name)
        except ValueError as error:
            raise Problem(400, f"{field}: {error}.", field=field) from error
        known = await store.cluster(cluster_key(name))
    else:
        known = await store.cluster(name) if _is_key(name) else None
    if known is None:
        raise Problem(
            400,
            f"{field}: no cluster {name[:300]!r} is known; GET /api/clusters lists them, and a scan of all "
            "finds new ones.",
            field=field,
        )
    return known.value.cluster.id


async def scan(request: func.HttpRequest) -> Answer:
    """`GET /api/scans/{id}`: how far a scan has come."""
    query(request, NoQuery)
    scan_id = request.route_params.get("id", "")
    store = _store()
    try:
        summary = await scans.load_summary(store, scan_id)
    except ValueError:
        summary = None
    if summary is None:
        raise Problem(404, f"There is no scan {scan_id[:120]!r}.", field="id")
    summary, progress = await scans.progress(store, summary)
    return Answer(
        body={
            **msgspec.to_builtins(summary),
            "status": _scan_status(summary, progress),
            **msgspec.to_builtins(progress),
        }
    )


def _scan_status(summary: Summary, progress: scans.Progress) -> str:
    if summary.error:
        return "failed"
    if summary.completed_at or (summary.total is not None and progress.done >= summary.total):
        return "completed"
    return "queued" if summary.total is None else "running"


async def health(request: func.HttpRequest) -> Answer:
    """`GET /api/health`: is the monitor itself well? 503 when scans are overdue.

    Anybody may ask, so it says nothing about clusters but how many.
    """
    query(request, NoQuery)
    now = utc_now()
    try:
        azure = clients.get()
        return await _health(Store(azure.table_service()), azure.settings.scan_interval, now)
    except AzureError as error:
        telemetry.log.error("health: storage cannot be used: %s", error)
        return _unwell(now, "The storage account cannot be used.")


def _unwell(now: datetime, problem: str) -> Answer:
    return Answer(
        status=503, body={"status": "unhealthy", "checkedAt": timestamp(now), "problems": [problem]}
    )


async def _health(store: Store, interval: timedelta, now: datetime) -> Answer:
    # A scan has until the next one is due to come through, and as long again.
    grace = 2 * interval
    last = await _last_full_scan(store)
    age = now - moment(last.started_at) if last else None
    active = await _count(store, "Status eq 'active'", {})
    overdue = await _count(store, "Status eq 'active' and LastScanAt lt @due", {"due": now - grace})
    poison = await store.query(
        store.scans,
        ["PartitionKey eq 'poison'", "At ge @since"],
        {"since": now - timedelta(days=1)},
        limit=1000,
        select=["RowKey"],
    )
    problems = []
    if last is None:
        problems.append("No full scan has been completed yet.")
    elif age is not None and age > grace:
        problems.append(
            f"The last full scan started {_duration(age)} ago; one is due every {_duration(interval)}."
        )
    if overdue:
        problems.append(f"{overdue} of {active} clusters are overdue.")
    if last and last.problems:
        problems.append(
            f"{len(last.problems)} lists of clusters could not be read; GET /api/scans/{last.id} says why."
        )
    late = last is None or (age is not None and age > grace) or overdue > 0
    return Answer(
        status=503 if late else 200,
        body={
            "status": "unhealthy" if late else "degraded" if problems or poison.entities else "healthy",
            "checkedAt": timestamp(now),
            "lastFullScan": last.started_at if last else None,
            "lastFullScanId": last.id if last else None,
            "age": _duration(age) if age is not None else None,
            "schedule": _duration(interval),
            "clusters": active,
            "overdue": overdue,
            "poison": len(poison.entities),
            "problems": problems,
        },
    )


async def _last_full_scan(store: Store) -> Summary | None:
    """The latest scan of all clusters that came through."""
    for summary in await scans.latest_full(store, count=5):
        current = summary
        if summary.completed_at is None:
            current, _ = await scans.progress(store, summary)
        if current.completed_at and not current.error:
            return current
    return None


async def _count(store: Store, condition: str, parameters: Mapping[str, Any]) -> int:
    rows = store.every(store.fleet, [*CLUSTERS, condition], parameters, select=["RowKey"])
    return sum([1 async for _ in rows])


def _duration(span: timedelta) -> str:
    """ISO 8601, whole seconds: `PT15M`, `PT1H0M5S`."""
    seconds = max(int(span.total_seconds()), 0)
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    words = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
    return f"PT{words}{seconds}S" if seconds or not words else f"PT{words}"


def _is_key(text: str) -> bool:
    """Whether a text can be part of a row key at all."""
    return 0 < len(text) <= 300 and all(sign.isascii() and (sign.isalnum() or sign in "-_.") for sign in text)


def _finding_filters(asked: FindingsQuery) -> tuple[list[str], dict[str, Any]]:
    """The query in OData, with every value as a parameter."""
    prefix = "finding:" if asked.status == "all" else f"finding:{asked.status}:"
    filters = ["PartitionKey eq 'fleet'"]
    parameters: dict[str, Any] = {"start": prefix, "end": f"{prefix[:-1]};"}
    if asked.cluster.startswith("/"):
        filters.append("Cluster eq @cluster")
        parameters["cluster"] = cluster_key(asked.cluster)
    elif asked.cluster:
        # The SDK finds parameters word by word, so the brackets stand apart.
        filters.append("( Cluster eq @cluster or ClusterName eq @cluster )")
        parameters["cluster"] = asked.cluster.lower()
    for column, value in (
        ("Subscription", asked.subscription.lower()),
        ("Check", asked.check),
        ("Severity", str(asked.severity or "")),
    ):
        if value:
            filters.append(f"{column} eq @{column.lower()}")
            parameters[column.lower()] = value
    if asked.cause is not None:
        filters.append("Cause eq @cause")
        parameters["cause"] = asked.cause
    if asked.muted is not None:
        filters.append("Muted eq @muted")
        parameters["muted"] = asked.muted
    if asked.since:
        filters.append("LastSeen ge @since")
        parameters["since"] = _since(asked.since)
    return [*filters, "RowKey ge @start", "RowKey lt @end"], parameters


def _since(text: str) -> datetime:
    try:
        # A plus sign in a query string arrives as a blank.
        return moment(text.replace(" ", "+"))
    except ValueError as error:
        raise Problem(
            400,
            f"Query parameter 'since': {text[:80]!r} is no time such as 2026-01-31T08:00:00Z.",
            field="since",
        ) from error
