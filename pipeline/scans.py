"""Scans: their ids, the messages that carry them, and how far they have come.

A scan's id begins with its time, so that ids order as scans do, and a cluster knows
which of two scans is the later one.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from facts.finding import Reason
from facts.times import timestamp
from pipeline import telemetry
from pipeline.store import Store, document, document_columns

ScanReason = Literal["schedule", "alert", "request"]
SCHEMA: Literal[1] = 1
"""The version of the messages: a worker that meets another one gives the message back."""

_TIME = "%Y%m%dT%H%M%SZ"
_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")


class MessageError(ValueError):
    """A queue message is not one of ours; the text says what is wrong with it."""


class ScanRequest(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Queue `scan-requests`: find all clusters and queue them."""

    schema: Literal[1]
    scan_id: str
    reason: ScanReason
    probes: bool = False
    traceparent: str = ""
    tracestate: str = ""


class ClusterScan(Struct, frozen=True, kw_only=True, rename="camel"):
    """Queue `cluster-scans`: scan one cluster."""

    schema: Literal[1]
    scan_id: str
    cluster_id: str
    reason: ScanReason
    probes: bool = False
    traceparent: str = ""
    """W3C trace context of the scan; empty where nothing is traced."""
    tracestate: str = ""


class Summary(Struct, frozen=True, kw_only=True, rename="camel"):
    """What is known of a scan as a whole."""

    id: str
    reason: ScanReason
    full: bool
    """Whether it is a scan of all clusters."""
    started_at: str
    total: int | None = None
    """The number of clusters; `None` while they are being found."""
    completed_at: str | None = None
    problems: tuple[Reason, ...] = ()
    """What could not be listed: subscriptions whose new clusters this scan cannot know of."""
    error: str | None = None
    """Why the scan was given up, if it was."""


class Progress(Struct, frozen=True, kw_only=True, rename="camel"):
    """How far a scan has come."""

    done: int
    """Clusters whose outcome is recorded."""
    failed: int
    """Of these, the ones that were given up after the last try."""
    unknown: int
    """Of these, the ones of which some check could not tell."""


def new_scan_id(now: datetime) -> str:
    """An id for a scan that starts now."""
    return f"{now.astimezone(UTC).strftime(_TIME)}-{secrets.token_hex(4)}"


def started(scan_id: str) -> datetime:
    """When a scan started; raises `ValueError` for what is no scan's id."""
    if not _ID.fullmatch(scan_id):
        raise ValueError(f"not the id of a scan: {scan_id[:80]!r}")
    return datetime.strptime(scan_id.partition("-")[0], _TIME).replace(tzinfo=UTC)


def is_later(scan_id: str, other: str) -> bool:
    """Whether one scan started after another."""
    return started(scan_id) > started(other)


def encode(message: ScanRequest | ClusterScan) -> str:
    """A message as it goes on a queue."""
    return msgspec.json.encode(message).decode()


def decode[M: (ScanRequest, ClusterScan)](body: str, kind: type[M]) -> M:
    """A message off a queue; raises `MessageError`."""
    try:
        message = msgspec.json.decode(body, type=kind)
        started(message.scan_id)
    except (ValueError, msgspec.MsgspecError) as error:
        raise MessageError(f"not a message of queue {_queue(kind)}: {error}") from error
    return message


def _queue(kind: type) -> str:
    return "scan-requests" if kind is ScanRequest else "cluster-scans"


def cluster_messages(
    cluster_ids: Sequence[str], *, scan_id: str, reason: ScanReason, probes: bool
) -> list[str]:
    """One message a cluster, each carrying the current trace."""
    context = telemetry.trace_context()
    return [
        encode(
            ClusterScan(
                schema=SCHEMA,
                scan_id=scan_id,
                cluster_id=cluster_id,
                reason=reason,
                probes=probes,
                traceparent=context.get("traceparent", ""),
                tracestate=context.get("tracestate", ""),
            )
        )
        for cluster_id in cluster_ids
    ]


# --- what the table knows ------------------------------------------------------------------------


def _summary_row(scan_id: str) -> str:
    """Newest first: the time counts down."""
    return f"{9_999_999_999 - int(started(scan_id).timestamp()):010d}-{scan_id}"


async def save_summary(store: Store, summary: Summary) -> None:
    """Write a scan's summary, over an earlier one."""
    await store.put_scan(
        {
            "PartitionKey": "scan",
            "RowKey": _summary_row(summary.id),
            "Full": summary.full,
            **document_columns(summary),
        }
    )


async def load_summary(store: Store, scan_id: str) -> Summary | None:
    """A scan's summary; None for a scan that nobody knows."""
    entity = await store.get_scan("scan", _summary_row(scan_id))
    return msgspec.json.decode(document(entity), type=Summary) if entity else None


async def latest_full(store: Store, *, count: int) -> list[Summary]:
    """The last scans of all clusters, newest first."""
    page = await store.query(
        store.scans, ["PartitionKey eq 'scan'", "Full eq @full"], {"full": True}, limit=count
    )
    return [msgspec.json.decode(document(entity), type=Summary) for entity in page.entities]


def failed(summary: Summary, why: str, now: datetime) -> Summary:
    """A scan that was given up before its clusters were found."""
    return msgspec.structs.replace(summary, error=why, completed_at=timestamp(now))


async def keep_poison(store: Store, body: str, why: str, now: datetime) -> None:
    """Keep a message that was given up; the same message again is kept once."""
    digest = hashlib.sha256(body.encode()).hexdigest()[:32]
    await store.put_scan(
        {
            "PartitionKey": "poison",
            "RowKey": digest,
            "At": now,
            "Why": why[:2000],
            "Body": body[:30_000],
        }
    )


async def mark(store: Store, message: ClusterScan, key: str, *, failed: bool, unknown: bool) -> None:
    """Take down that a cluster is through; writing it twice changes nothing."""
    await store.put_scan(
        {
            "PartitionKey": message.scan_id,
            "RowKey": f"cluster:{key}",
            "State": "failed" if failed else "done",
            "Unknown": unknown,
        }
    )


async def note_error(store: Store, scan_id: str, key: str, error: str) -> None:
    """Keep what went wrong at a try, for the case that it was the last one."""
    await store.put_scan({"PartitionKey": scan_id, "RowKey": f"error:{key}", "Error": error[:2000]})


async def noted_error(store: Store, scan_id: str, key: str) -> str:
    """What went wrong at the last try that said so."""
    entity = await store.get_scan(scan_id, f"error:{key}")
    return str(entity["Error"]) if entity else ""


async def progress(store: Store, summary: Summary) -> tuple[Summary, Progress]:
    """How far a scan has come; a summary that turns out complete is marked so."""
    done = failed = unknown = 0
    latest_change = started(summary.id)
    rows = store.every(
        store.scans,
        ["PartitionKey eq @scan", "RowKey ge 'cluster:'", "RowKey lt 'cluster;'"],
        {"scan": summary.id},
        select=["RowKey", "State", "Unknown", "Timestamp"],
    )
    async for row in rows:
        done += 1
        failed += row.get("State") == "failed"
        unknown += bool(row.get("Unknown"))
        latest_change = max(latest_change, _written(row, latest_change))
    if summary.total is not None and done >= summary.total and summary.completed_at is None:
        summary = msgspec.structs.replace(summary, completed_at=timestamp(latest_change))
        await save_summary(store, summary)
    return summary, Progress(done=done, failed=failed, unknown=unknown)


def _written(entity: Any, otherwise: datetime) -> datetime:
    """When the service last wrote an entity."""
    timestamp = getattr(entity, "metadata", {}).get("timestamp")
    return timestamp if isinstance(timestamp, datetime) else otherwise
