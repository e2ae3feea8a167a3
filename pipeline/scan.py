"""What the functions on the queues do: start a scan, scan a cluster, give one up."""

import asyncio
from collections.abc import Iterable

from facts.filters import Missing
from facts.finding import CheckResult, Outcome, Reason
from facts.resource_id import parse_cluster
from facts.snapshot import Snapshot
from facts.times import timestamp
from pipeline import clients, retention, scans, settings, telemetry
from pipeline.collect import Deleted, collect
from pipeline.collect.inventory import of_scan
from pipeline.discover import discover
from pipeline.errors import TRANSIENT
from pipeline.record import is_done, left_out, record, record_retired, utc_now
from pipeline.run import cluster_key, examine, unknown_throughout
from pipeline.scans import ClusterScan, MessageError, ScanRequest, Summary
from pipeline.store import CheckState, Store


class TryAgainError(RuntimeError):
    """The cluster could not be looked at for now: the message goes back to the queue."""


def request(*, probes: bool = False) -> str:
    """The message that starts a scheduled scan, or a scheduled round of probes."""
    return scans.encode(
        ScanRequest(
            schema=scans.SCHEMA, scan_id=scans.new_scan_id(utc_now()), reason="schedule", probes=probes
        )
    )


def probe_request() -> str | None:
    """The message that starts a scheduled round of probes; None where nodes are not to be probed."""
    return request(probes=True) if settings.load().node_probes else None


async def start(body: str) -> list[str]:
    """Find all clusters; returns a message for each. Run twice, it finds the same scan again."""
    message = scans.decode(body, ScanRequest)
    azure = clients.get()
    store = Store(azure.table_service())
    with (
        telemetry.bound(scan=message.scan_id),
        telemetry.span("scan", parent=_parent(message), scan=message.scan_id, reason=message.reason),
    ):
        await scans.save_summary(store, _summary(message))
        found = await discover(azure, of_scan(azure, message.scan_id), store)
        await scans.save_summary(
            store, _summary(message, total=len(found.cluster_ids), problems=found.problems)
        )
        telemetry.log.info("found %d clusters to scan", len(found.cluster_ids))
        for cluster_id in found.unwatched:
            left_out = ClusterScan(
                schema=scans.SCHEMA, scan_id=message.scan_id, cluster_id=cluster_id, reason=message.reason
            )
            await record_retired(store, left_out, status="unwatched", now=utc_now())
        messages = scans.cluster_messages(
            found.cluster_ids, scan_id=message.scan_id, reason=message.reason, probes=message.probes
        )
    if message.reason == "schedule":
        await retention.prune(store, days=azure.settings.retention_days, now=utc_now())
    return messages


async def scan_cluster(body: str) -> None:
    """Collect, check and record one cluster; raises where another try may do better."""
    message = scans.decode(body, ClusterScan)
    azure = clients.get()
    store = Store(azure.table_service())
    key = _key(message)
    with (
        telemetry.bound(scan=message.scan_id, cluster=key),
        telemetry.span("scan cluster", parent=_parent(message), scan=message.scan_id, cluster=key),
    ):
        try:
            async with asyncio.timeout(azure.settings.scan_timeout_seconds):
                await _scan(azure, store, message, key)
        except Exception as error:
            why = str(error) or type(error).__name__
            if isinstance(error, TimeoutError):
                why = f"the scan took longer than {azure.settings.scan_timeout_seconds} s"
            telemetry.log.warning("the scan failed and will be tried again: %s", why)
            await scans.note_error(store, message.scan_id, key, why)
            raise


async def give_up(body: str) -> None:
    """Take a cluster's message off the poison queue: the cluster becomes UNKNOWN, with the reason."""
    azure = clients.get()
    store = Store(azure.table_service())
    now = utc_now()
    try:
        message = scans.decode(body, ClusterScan)
        key = _key(message)
    except MessageError as error:
        await _keep_poison(store, body, str(error))
        return
    with telemetry.bound(scan=message.scan_id, cluster=key):
        why = await scans.noted_error(store, message.scan_id, key) or "no try said why"
        reason = Reason(
            code="scan_failed",
            message=f"The scan of this cluster was given up after the last try. It said: {why}",
            resource=message.cluster_id,
        )
        telemetry.log.error("given up: %s", why)
        before = await store.cluster(key)
        if before is not None or message.reason != "alert":
            await record(store, message, unknown_throughout(reason), cluster=None, now=now, began=now)
        await scans.mark(store, message, key, failed=True, unknown=True)
        await _keep_poison(store, body, why)


async def give_up_start(body: str) -> None:
    """Take a scan's request off the poison queue: the scan is marked as failed."""
    azure = clients.get()
    store = Store(azure.table_service())
    why = "finding the clusters failed at every try; the log says why"
    try:
        message = scans.decode(body, ScanRequest)
    except MessageError as error:
        why = str(error)
    else:
        with telemetry.bound(scan=message.scan_id):
            telemetry.log.error("given up: %s", why)
            summary = await scans.load_summary(store, message.scan_id) or _summary(message)
            await scans.save_summary(store, scans.failed(summary, why, utc_now()))
    await _keep_poison(store, body, why)


async def _scan(azure: clients.Clients, store: Store, message: ClusterScan, key: str) -> None:
    before = await store.cluster(key)
    if before is not None and is_done(before, message):
        telemetry.log.info("a result of this or a later scan is recorded, nothing to do")
        # The mark may be missing where a worker died after recording.
        if await store.get_scan(message.scan_id, f"cluster:{key}") is None:
            unknown = _cannot_tell(before.value.checks)
            await scans.mark(store, message, key, failed=False, unknown=unknown)
        return
    began = utc_now()
    seen = await collect(of_scan(azure, message.scan_id), message.cluster_id)
    if isinstance(seen, Deleted):
        await record_retired(store, message, status="deleted", now=utc_now())
        await scans.mark(store, message, key, failed=False, unknown=False)
        return
    if isinstance(seen, Missing):
        if seen.reason.code in TRANSIENT:
            raise TryAgainError(seen.reason.message)
        if before is None and message.reason == "alert":
            # Whoever can send alerts could otherwise fill the fleet with names.
            telemetry.log.warning("an alert names a cluster that cannot be read: %s", seen.reason.message)
            await scans.mark(store, message, key, failed=False, unknown=True)
            return
        results = unknown_throughout(seen.reason)
        cluster = None
    else:
        results = await _judge(azure, store, message, seen, key)
        cluster = seen.cluster
    await record(store, message, results, cluster=cluster, now=utc_now(), began=began)
    await scans.mark(store, message, key, failed=False, unknown=_cannot_tell(results))


async def _judge(
    azure: clients.Clients, store: Store, message: ClusterScan, seen: Snapshot, key: str
) -> tuple[CheckResult, ...]:
    """What the checks say, with what probes of nodes have seen; they are made now where a fault is new."""
    if not azure.settings.node_probes or seen.cluster.stopped:
        return examine(seen, scan_id=message.scan_id)
    from pipeline.probe.nodes import NodeProbes

    open_before = [stored.value for stored in (await store.open_findings(key)).values()]
    probes = NodeProbes(azure, store, seen, message.scan_id, open_before)
    results = examine(await probes.known(due=message.probes), scan_id=message.scan_id)
    if not message.probes and probes.to_be_confirmed(results):
        telemetry.log.info("a fault is new: nodes are probed at once")
        results = examine(await probes.known(due=True), scan_id=message.scan_id)
    return results


def _cannot_tell(checks: Iterable[CheckResult | CheckState]) -> bool:
    """Whether some check left something open: a `fail` has reasons only for what it could not look at."""
    return any(
        check.outcome is Outcome.UNKNOWN or (check.outcome is Outcome.FAIL and bool(check.reasons))
        for check in checks
        if not left_out(check)
    )


async def _keep_poison(store: Store, body: str, why: str) -> None:
    """Nothing is lost: what could not be worked on is kept, and counted by the monitor's own health."""
    telemetry.log.error("a message was given up: %s", why)
    await scans.keep_poison(store, body, why, utc_now())


def _summary(message: ScanRequest, *, total: int | None = None, problems: tuple[Reason, ...] = ()) -> Summary:
    return Summary(
        id=message.scan_id,
        reason=message.reason,
        full=True,
        started_at=timestamp(scans.started(message.scan_id)),
        total=total,
        problems=problems,
    )


def _key(message: ClusterScan) -> str:
    try:
        parse_cluster(message.cluster_id)
    except ValueError as error:
        raise MessageError(f"clusterId: {error}") from error
    return cluster_key(message.cluster_id)


def _parent(message: ScanRequest | ClusterScan) -> dict[str, str]:
    carried = {"traceparent": message.traceparent, "tracestate": message.tracestate}
    return {name: value for name, value in carried.items() if value}
