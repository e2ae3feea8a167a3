"""The runner: it stamps what checks say with identity, and lets no check hide another."""

from collections.abc import Iterator

import pytest
from msgspec import structs

from checks import Check, all_checks
from facts.finding import (
    CheckResult,
    Fault,
    NotApplicable,
    Observed,
    Outcome,
    Reason,
    Remediation,
    Severity,
    Statement,
    Status,
    Unknown,
)
from facts.snapshot import Snapshot
from pipeline.run import cluster_key, examine, finding_id, unknown_throughout
from tests.snapshots import CLUSTER, TAKEN_AT, snapshot

TIMEOUT = Reason(code="timeout", message="Azure did not answer in time.")
DENIED = Reason(code="permission_denied", message="No.", action="Microsoft.Network/read")
PRIVATE = Reason(code="private_cluster", message="The cluster is private.")
MEND = Remediation(summary="Mend it.")


def fault(subject: str = "/rules/Deny", title: str = "title", severity: Severity | None = None) -> Fault:
    """Something wrong."""
    return Fault(
        subject=subject,
        title=title,
        detail="detail",
        resource="/rules/Deny",
        evidence={"port": 10250},
        remediation=(MEND,),
        severity=severity,
        confidence="observed",
    )


def check_that_says(*statements: Statement, name: str = "c") -> Check:
    """A check with a fixed answer."""

    def run(_: Snapshot) -> Iterator[Statement]:
        yield from statements

    return Check(id=name, cause=3, severity=Severity.WARNING, affects=("logs",), manual="A check.", run=run)


def check_that_breaks(*statements: Statement) -> Check:
    """A check with a defect that shows after it has said something."""

    def run(_: Snapshot) -> Iterator[Statement]:
        yield from statements
        raise ZeroDivisionError("secret")

    return structs.replace(check_that_says(name="broken"), run=run)


def run(*checks: Check, stopped: bool = False) -> tuple[CheckResult, ...]:
    """The results of some checks for a cluster."""
    return examine(snapshot(stopped=stopped), scan_id="20260301T080000Z-00000001", checks=checks)


@pytest.mark.parametrize(
    ("statements", "outcome", "reasons", "findings"),
    [
        ([], "pass", [], 0),
        ([fault()], "fail", [], 1),
        ([Unknown(reason=TIMEOUT)], "unknown", [TIMEOUT], 0),
        ([NotApplicable(reason=PRIVATE)], "not_applicable", [PRIVATE], 0),
        ([Unknown(reason=TIMEOUT), fault()], "fail", [TIMEOUT], 1),
        ([fault(), NotApplicable(reason=PRIVATE)], "fail", [], 1),
        ([NotApplicable(reason=PRIVATE), Unknown(reason=TIMEOUT)], "unknown", [TIMEOUT], 0),
        ([Unknown(reason=TIMEOUT), Unknown(reason=DENIED)], "unknown", [TIMEOUT, DENIED], 0),
        ([Unknown(reason=TIMEOUT), Unknown(reason=TIMEOUT)], "unknown", [TIMEOUT], 0),
        ([fault("/rules/a"), fault("/rules/b")], "fail", [], 2),
        ([fault("/rules/a"), fault("/rules/a", "again")], "fail", [], 1),
        ([fault("/rules/a"), fault("/RULES/A/")], "fail", [], 1),
    ],
)
def test_what_is_made_of_a_checks_statements(
    statements: list[Statement], outcome: str, reasons: list[Reason], findings: int
) -> None:
    """Faults before doubts before not applicable; silence is a pass; each reason and each subject once."""
    [result] = run(check_that_says(*statements))
    assert (result.check, result.outcome, list(result.reasons)) == ("c", outcome, reasons)
    assert len(result.findings) == findings


@pytest.mark.parametrize(
    ("statements", "outcome", "evidence"),
    [
        ([Observed(evidence={"a": 1})], "pass", {"a": 1}),
        ([Observed(evidence={"a": 1}), Observed(evidence={"b": 2})], "pass", {"a": 1, "b": 2}),
        ([Observed(evidence={"a": 1}), NotApplicable(reason=PRIVATE)], "not_applicable", {"a": 1}),
        ([fault(), Observed(evidence={"a": 1})], "fail", {"a": 1}),
        ([Unknown(reason=TIMEOUT), Observed(evidence={"a": 1})], "unknown", {"a": 1}),
        ([Observed(evidence={})], "pass", None),
        ([], "pass", None),
    ],
)
def test_what_is_observed_is_kept_and_decides_nothing(
    statements: list[Statement], outcome: str, evidence: dict[str, int] | None
) -> None:
    """Numbers that are worth keeping, whatever the outcome."""
    [result] = examine(snapshot(), scan_id="s", checks=[check_that_says(*statements)])
    assert (result.outcome, result.evidence) == (outcome, evidence)


def test_a_finding_is_stamped() -> None:
    """Identity, cluster, time and scan come from the runner; the rest is the check's own."""
    [result] = run(check_that_says(fault()))
    [finding] = result.findings
    assert finding.id == finding_id(CLUSTER.id, "c", "/rules/Deny")
    assert (finding.check, finding.cause, finding.severity, finding.affects) == ("c", 3, "warning", ("logs",))
    assert (finding.cluster, finding.status) == (CLUSTER, Status.OPEN)
    assert finding.first_seen == finding.last_seen == finding.opened_at == TAKEN_AT
    assert (finding.scan_id, finding.occurrences) == ("20260301T080000Z-00000001", 1)
    assert (finding.title, finding.detail, finding.resource) == ("title", "detail", "/rules/Deny")
    assert (finding.evidence, finding.remediation, finding.confidence) == (
        {"port": 10250},
        (MEND,),
        "observed",
    )
    assert (finding.muted, finding.resolved_at, finding.resolution, finding.unconfirmed) == (None,) * 4


@pytest.mark.parametrize("severity", list(Severity))
def test_a_fault_may_have_a_severity_of_its_own(severity: Severity) -> None:
    """Else it has the check's."""
    [result] = run(check_that_says(fault(severity=severity)))
    assert [finding.severity for finding in result.findings] == [severity]


def test_the_first_of_two_faults_with_one_subject_stays() -> None:
    """They are one finding, told as the check told it first."""
    [result] = run(check_that_says(fault(title="first"), fault(title="second")))
    assert [finding.title for finding in result.findings] == ["first"]


def test_a_check_that_fails_hides_nothing() -> None:
    """It is unknown, without what it had said so far; the others are told; the error stays in the log."""
    before, broken, after = run(
        check_that_says(fault(), name="a"), check_that_breaks(fault()), check_that_says(name="z")
    )
    assert (before.outcome, after.outcome) == (Outcome.FAIL, Outcome.PASS)
    assert (broken.check, broken.outcome, broken.findings) == ("broken", Outcome.UNKNOWN, ())
    [reason] = broken.reasons
    assert reason.code == "check_failed"
    assert "ZeroDivisionError" in reason.message
    assert "secret" not in reason.message


def test_a_check_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """With its traceback."""
    run(check_that_breaks())
    [record] = [one for one in caplog.records if one.name == "tunnelwatch"]
    assert "check broken failed" in record.getMessage()
    assert record.exc_info is not None


def test_a_stopped_cluster_is_not_applicable_throughout() -> None:
    """No check is even asked."""
    results = run(check_that_breaks(), check_that_says(fault(), name="z"), stopped=True)
    assert [(one.check, one.outcome, [reason.code for reason in one.reasons]) for one in results] == [
        ("broken", Outcome.NOT_APPLICABLE, ["stopped"]),
        ("z", Outcome.NOT_APPLICABLE, ["stopped"]),
    ]


def test_every_check_is_run_by_default() -> None:
    """And every one is unknown where not even the cluster could be read."""
    ids = [check.id for check in all_checks()]
    assert ids
    assert [result.check for result in examine(snapshot(), scan_id="s")] == ids
    unknown = unknown_throughout(DENIED)
    assert [(one.check, one.outcome, one.reasons) for one in unknown] == [
        (name, Outcome.UNKNOWN, (DENIED,)) for name in ids
    ]


@pytest.mark.parametrize("respell", [str.lower, str.upper, lambda text: f"{text}/", lambda text: f" {text} "])
def test_names_are_stable_whatever_the_case(respell: object) -> None:
    """A cluster and a finding have one name each, however Azure writes their ids."""
    assert callable(respell)
    assert cluster_key(respell(CLUSTER.id)) == cluster_key(CLUSTER.id)
    assert finding_id(respell(CLUSTER.id), "c", respell("/rules/Deny")) == finding_id(
        CLUSTER.id, "c", "/rules/Deny"
    )


def test_names_tell_apart() -> None:
    """Another cluster of the same name, another check, another subject: another id; all fit for a key."""
    twin = CLUSTER.id.replace("rg-shop", "rg-other")
    names = {
        finding_id(cluster, check, subject)
        for cluster in (CLUSTER.id, twin)
        for check in ("c", "d")
        for subject in ("/rules/a", "/rules/b")
    }
    assert len(names) == 8
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.") for name in names)
    assert all(name.startswith("aks-shop-") for name in names)
