"""Record what a scan said of a cluster: once, whole, and never over something newer."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

from msgspec import Struct, structs

from facts import resource_id
from facts.finding import CheckResult, ClusterRef, Finding, Outcome
from facts.snapshot import PROBES_DISABLED, Cluster
from facts.times import timestamp
from pipeline import scans, telemetry
from pipeline.lifecycle import Change, advance, retire
from pipeline.run import cluster_key
from pipeline.scans import ClusterScan
from pipeline.store import CheckState, ClusterState, Conflict, LastScan, Store, Stored

_TRIES = 10
"""Two workers rarely meet on one cluster; somebody who loses this often gives the message back."""
_REMEMBERED = 10
"""Scans whose messages are recognised when they are delivered again."""
_GRAVEST = (Outcome.FAIL, Outcome.UNKNOWN, Outcome.PASS)


def left_out(result: CheckResult | CheckState) -> bool:
    """Whether a check could not tell because somebody chose not to look: that makes no cluster unknown."""
    return result.outcome is Outcome.UNKNOWN and all(
        reason.code == PROBES_DISABLED.reason.code for reason in result.reasons
    )


def is_done(before: Stored[ClusterState] | None, message: ClusterScan) -> bool:
    """Whether a message need not be worked on: it was recorded already, or a later scan was."""
    if before is None:
        return False
    if message.scan_id in _recent(before):
        return True
    return scans.is_later(before.value.last_scan.id, message.scan_id)


async def record(
    store: Store,
    message: ClusterScan,
    results: tuple[CheckResult, ...],
    *,
    cluster: Cluster | None,
    now: datetime,
    began: datetime,
) -> None:
    """Store the outcome of a cluster's scan.

    `cluster` is None where not even the cluster could be read; then what was known of it
    stays. Raises `Conflict` if others kept changing the same cluster.
    """
    key = cluster_key(message.cluster_id)
    at = timestamp(now)

    async def decide(before: Stored[ClusterState] | None) -> _Decision:
        open_before = await store.open_findings(key)
        resolved_before = await _resolved(store, results, open_before)
        known = {**resolved_before, **open_before}
        changes = advance(
            open_before=_values(open_before),
            resolved_before=_values(resolved_before),
            transitions=_transitions(known),
            results=results,
            now=at,
            scan_id=message.scan_id,
        )
        state = _state(
            key,
            before.value if before else None,
            message,
            results,
            cluster=cluster,
            at=at,
            duration=now - began,
        )
        return _Decision(changes, known, state)

    decided = await _store_once(store, message, decide)
    if decided is not None:
        telemetry.log.info(
            "recorded: %s, %d findings open or changed, %d transitions",
            decided.state.outcome,
            len(decided.changes),
            sum(change.transition is not None for change in decided.changes),
        )


async def record_retired(
    store: Store, message: ClusterScan, *, status: Literal["deleted", "unwatched"], now: datetime
) -> None:
    """Retire a cluster that is gone, or that the settings leave out: its open findings are resolved."""
    key = cluster_key(message.cluster_id)
    at = timestamp(now)
    reason = "cluster_deleted" if status == "deleted" else "not_watched"

    async def decide(before: Stored[ClusterState] | None) -> _Decision | None:
        if before is None:
            return None
        open_before = await store.open_findings(key)
        changes = retire(
            _values(open_before),
            _transitions(open_before),
            now=at,
            scan_id=message.scan_id,
            reason=reason,
        )
        state = structs.replace(
            before.value,
            status=status,
            retired_at=before.value.retired_at or at,
            last_scan=LastScan(id=message.scan_id, at=at, reason=message.reason, duration="PT0S"),
        )
        return _Decision(changes, open_before, state)

    decided = await _store_once(store, message, decide)
    if decided is not None:
        telemetry.log.info("cluster is retired (%s): %d findings resolved", status, len(decided.changes))


class _Decision(Struct, frozen=True):
    """What is to be stored of a scan, decided on what was there."""

    changes: tuple[Change, ...]
    known: Mapping[str, Stored[Finding]]
    """The findings that the changes are about, as they were read."""
    state: ClusterState


async def _store_once(
    store: Store,
    message: ClusterScan,
    decide: Callable[[Stored[ClusterState] | None], Awaitable[_Decision | None]],
) -> _Decision | None:
    """Read, decide and store, anew for as long as others come between; what was stored, if anything.

    Raises `Conflict` if they keep coming.
    """
    key = cluster_key(message.cluster_id)
    for _ in range(_TRIES):
        before = await store.cluster(key)
        if is_done(before, message):
            telemetry.log.info("already recorded, nothing changes")
            return None
        decided = await decide(before)
        if decided is None:
            return None
        try:
            await store.commit(
                decided.changes, decided.known, decided.state, before, _remember(before, message)
            )
        except Conflict:
            await _stand_back()
            continue
        return decided
    raise Conflict(f"cluster {key} kept changing")


async def _stand_back() -> None:
    """Let others finish first, each for another moment."""
    await asyncio.sleep(random.uniform(0.05, 0.5))  # noqa: S311 - nothing secret about it


def _values(findings: Mapping[str, Stored[Finding]]) -> dict[str, Finding]:
    return {finding_id: stored.value for finding_id, stored in findings.items()}


def _transitions(findings: Mapping[str, Stored[Finding]]) -> dict[str, int]:
    return {finding_id: int(stored.entity.get("Transitions") or 0) for finding_id, stored in findings.items()}


async def _resolved(
    store: Store, results: Iterable[CheckResult], open_before: Mapping[str, Stored[Finding]]
) -> dict[str, Stored[Finding]]:
    """Of what is reported now, the findings that were resolved before."""
    found = {}
    for result in results:
        for finding in result.findings:
            if finding.id not in open_before:
                stored = await store.resolved_finding(finding.id)
                if stored is not None:
                    found[finding.id] = stored
    return found


def _state(
    key: str,
    before: ClusterState | None,
    message: ClusterScan,
    results: tuple[CheckResult, ...],
    *,
    cluster: Cluster | None,
    at: str,
    duration: timedelta,
) -> ClusterState:
    outcomes = {result.outcome for result in results if not left_out(result)} or {Outcome.UNKNOWN}
    outcome = next((one for one in _GRAVEST if one in outcomes), Outcome.NOT_APPLICABLE)
    return ClusterState(
        key=key,
        cluster=cluster.ref if cluster else before.cluster if before else _reference(message.cluster_id),
        node_resource_group=(
            cluster.node_resource_group if cluster else before.node_resource_group if before else ""
        ),
        kubernetes_version=(
            cluster.kubernetes_version if cluster else before.kubernetes_version if before else ""
        ),
        outcome=outcome,
        checks=tuple(
            CheckState(
                check=result.check,
                outcome=result.outcome,
                reasons=result.reasons,
                findings=tuple(finding.id for finding in result.findings),
                evidence=result.evidence,
            )
            for result in results
        ),
        last_scan=LastScan(
            id=message.scan_id,
            at=at,
            reason=message.reason,
            duration=f"PT{max(duration.total_seconds(), 0):.1f}S",
        ),
        first_seen=before.first_seen if before else at,
    )


def _reference(cluster_id: str) -> ClusterRef:
    parts = resource_id.parse(cluster_id)
    return ClusterRef(
        id=cluster_id,
        name=parts.name,
        subscription_id=parts.subscription_id,
        resource_group=parts.resource_group,
        location="",
    )


def _recent(before: Stored[ClusterState]) -> list[str]:
    return str(before.entity.get("RecentScans") or "").split()


def _remember(before: Stored[ClusterState] | None, message: ClusterScan) -> list[str]:
    return [*(_recent(before) if before else []), message.scan_id][-_REMEMBERED:]


def utc_now() -> datetime:
    """The time, read in one place."""
    return datetime.now(UTC)
