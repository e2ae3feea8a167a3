"""The life of a finding: opened, seen again, resolved, opened once more. Pure: values in, changes out.

Nothing is resolved by silence. An open finding is resolved only by a later look of
the same check that saw everything and no longer saw this fault, or when its cluster is
deleted; while a check is `unknown`, in part or as a whole, what it cannot confirm stays open.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct, structs

from facts.finding import CheckResult, Finding, Outcome, Reason, Status


class Transition(Struct, frozen=True, kw_only=True, rename="camel"):
    """One change of a finding's status, kept as its history."""

    finding: str
    number: int
    """Counts up from 1 over the finding's life."""
    at: str
    """UTC, ISO 8601."""
    status: Status
    reason: str
    """`failed`, `passed`, `cluster_deleted`, `not_watched`."""
    scan_id: str
    title: str


class Change(Struct, frozen=True, kw_only=True):
    """A finding as it is to be stored, with the transition that this is, if it is one."""

    finding: Finding
    before: Finding | None
    transition: Transition | None


def advance(
    *,
    open_before: Mapping[str, Finding],
    resolved_before: Mapping[str, Finding],
    transitions: Mapping[str, int],
    results: Iterable[CheckResult],
    now: str,
    scan_id: str,
) -> tuple[Change, ...]:
    """What a scan's results change.

    `open_before` are the cluster's open findings by id, `resolved_before` those of the reported
    ones that were resolved, `transitions` how many each finding has had. A finding that
    carries this scan's id was changed by it already and is left as it is.
    """
    changes = []
    for result in results:
        reported = {finding.id: finding for finding in result.findings}
        for finding in reported.values():
            before = open_before.get(finding.id) or resolved_before.get(finding.id)
            if before is None or before.scan_id != scan_id or before.status is not Status.OPEN:
                changes.append(_seen(finding, before, transitions.get(finding.id, 0)))
        for finding in open_before.values():
            if finding.check != result.check or finding.id in reported:
                continue
            if result.complete:
                changes.append(
                    _resolve(
                        finding, transitions.get(finding.id, 0), reason="passed", now=now, scan_id=scan_id
                    )
                )
            else:
                doubt = _doubt(result)
                if finding.unconfirmed != doubt:
                    unconfirmed = structs.replace(finding, unconfirmed=doubt)
                    changes.append(Change(finding=unconfirmed, before=finding, transition=None))
    return tuple(changes)


def retire(
    open_before: Mapping[str, Finding],
    transitions: Mapping[str, int],
    *,
    now: str,
    scan_id: str,
    reason: str = "cluster_deleted",
) -> tuple[Change, ...]:
    """Resolve everything that is open on a cluster that is watched no more."""
    return tuple(
        _resolve(finding, transitions.get(finding.id, 0), reason=reason, now=now, scan_id=scan_id)
        for finding in open_before.values()
    )


def _seen(finding: Finding, before: Finding | None, transitions: int) -> Change:
    if before is not None and before.status is Status.OPEN:
        again = structs.replace(
            finding,
            first_seen=before.first_seen,
            opened_at=before.opened_at,
            occurrences=before.occurrences + 1,
            muted=before.muted,
        )
        return Change(finding=again, before=before, transition=None)
    opened = finding
    if before is not None:
        opened = structs.replace(
            finding,
            first_seen=before.first_seen,
            occurrences=before.occurrences + 1,
            muted=before.muted,
        )
    return Change(
        finding=opened,
        before=before,
        transition=Transition(
            finding=finding.id,
            number=transitions + 1,
            at=finding.last_seen,
            status=Status.OPEN,
            reason="failed",
            scan_id=finding.scan_id,
            title=finding.title,
        ),
    )


def _resolve(finding: Finding, transitions: int, *, reason: str, now: str, scan_id: str) -> Change:
    return Change(
        finding=structs.replace(
            finding, status=Status.RESOLVED, resolved_at=now, resolution=reason, unconfirmed=None
        ),
        before=finding,
        transition=Transition(
            finding=finding.id,
            number=transitions + 1,
            at=now,
            status=Status.RESOLVED,
            reason=reason,
            scan_id=scan_id,
            title=finding.title,
        ),
    )


def _doubt(result: CheckResult) -> Reason:
    """Why a check could not say whether what it found before still holds."""
    if result.reasons:
        return result.reasons[0]
    return Reason(code=Outcome.UNKNOWN, message="The last scan could not tell.")
