"""Run every check over a snapshot and stamp what they say: the engine gives identity, checks do not."""

import hashlib
from collections.abc import Iterable

from checks import Check, all_checks
from facts.finding import (
    CheckResult,
    ClusterRef,
    Fault,
    Finding,
    NotApplicable,
    Observed,
    Outcome,
    Reason,
    Status,
    Unknown,
)
from facts.resource_id import key
from facts.snapshot import Snapshot
from pipeline import telemetry


def cluster_key(cluster_id: str) -> str:
    """What a cluster is called in routes and in storage: its name and a digest of its id.

    Stable whatever case the id is written in, and unique though names repeat.
    """
    normal = key(cluster_id)
    return f"{normal.rsplit('/', 1)[-1]}-{hashlib.sha256(normal.encode()).hexdigest()[:10]}"


def finding_id(cluster_id: str, check: str, subject: str) -> str:
    """The same fault on the same object has the same id in every scan."""
    digest = hashlib.sha256(f"{check}\n{key(subject)}".encode()).hexdigest()[:16]
    return f"{cluster_key(cluster_id)}.{digest}"


def examine(
    snapshot: Snapshot, *, scan_id: str, checks: Iterable[Check] | None = None
) -> tuple[CheckResult, ...]:
    """The outcome of every check for one cluster."""
    results = []
    for check in all_checks() if checks is None else checks:
        if snapshot.cluster.stopped:
            reason = Reason(code="stopped", message="The cluster is stopped.")
            result = CheckResult(check=check.id, outcome=Outcome.NOT_APPLICABLE, reasons=(reason,))
        else:
            result = _judge(check, snapshot, scan_id)
        telemetry.count_outcome(check.id, result.outcome)
        results.append(result)
    return tuple(results)


def unknown_throughout(reason: Reason) -> tuple[CheckResult, ...]:
    """What is said of a cluster that could not be looked at at all."""
    for check in all_checks():
        telemetry.count_outcome(check.id, Outcome.UNKNOWN)
    return tuple(
        CheckResult(check=check.id, outcome=Outcome.UNKNOWN, reasons=(reason,)) for check in all_checks()
    )


def _judge(check: Check, snapshot: Snapshot, scan_id: str) -> CheckResult:
    try:
        statements = list(check.run(snapshot))
    except Exception as error:  # noqa: BLE001 - told below, and in the log
        # One check's defect must not hide what the others see, nor look healthy.
        telemetry.log.exception("check %s failed", check.id)
        message = (
            f"The check itself failed ({type(error).__name__}); this is a defect, the log has the details."
        )
        return CheckResult(
            check=check.id, outcome=Outcome.UNKNOWN, reasons=(Reason(code="check_failed", message=message),)
        )
    faults = [one for one in statements if isinstance(one, Fault)]
    unknown = [one.reason for one in statements if isinstance(one, Unknown)]
    observed = [one.evidence for one in statements if isinstance(one, Observed)]
    inapplicable = [one.reason for one in statements if isinstance(one, NotApplicable)]
    if faults:
        outcome, reasons = Outcome.FAIL, unknown
    elif unknown:
        outcome, reasons = Outcome.UNKNOWN, unknown
    elif inapplicable:
        outcome, reasons = Outcome.NOT_APPLICABLE, inapplicable
    else:
        outcome, reasons = Outcome.PASS, []
    findings: dict[str, Finding] = {}
    for fault in faults:
        finding = _stamp(check, fault, snapshot.cluster.ref, snapshot.taken_at, scan_id)
        findings.setdefault(finding.id, finding)
    return CheckResult(
        check=check.id,
        outcome=outcome,
        reasons=tuple(dict.fromkeys(reasons)),
        findings=tuple(findings.values()),
        evidence={name: value for one in observed for name, value in one.items()} or None,
    )


def _stamp(check: Check, fault: Fault, cluster: ClusterRef, now: str, scan_id: str) -> Finding:
    return Finding(
        id=finding_id(cluster.id, check.id, fault.subject),
        check=check.id,
        cause=check.cause if fault.cause is None else fault.cause,
        severity=fault.severity or check.severity,
        status=Status.OPEN,
        cluster=cluster,
        title=fault.title,
        detail=fault.detail,
        resource=fault.resource,
        evidence=fault.evidence,
        affects=check.affects,
        remediation=fault.remediation,
        confidence=fault.confidence,
        first_seen=now,
        last_seen=now,
        opened_at=now,
        scan_id=scan_id,
    )
