"""What is promised of findings: their JSON, and when a result speaks for all there is."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from facts.finding import (
    CheckResult,
    Finding,
    Mute,
    Outcome,
    Reason,
    Remediation,
    Severity,
    Status,
)
from facts.times import timestamp
from tests.snapshots import CLUSTER

REASON = Reason(code="timeout", message="Azure did not answer in time.")
FINDING = Finding(
    id="aks-shop-0123456789.0123456789abcdef",
    check="nsg-kubelet-port",
    cause=1,
    severity=Severity.CRITICAL,
    status=Status.OPEN,
    cluster=CLUSTER,
    title="title",
    detail="detail",
    resource="/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/networkSecurityGroups/n",
    evidence={"nodeCount": 2, "nodes": ("a", "b")},
    affects=("logs", "exec"),
    remediation=(
        Remediation(summary="Allow it.", commands=("az version",), docs="https://learn.microsoft.com/"),
    ),
    confidence="derived",
    first_seen="2026-03-01T08:00:00Z",
    last_seen="2026-03-01T08:15:00Z",
    occurrences=2,
    scan_id="20260301T081500Z-0123abcd",
    opened_at="2026-03-01T08:00:00Z",
)


def test_a_finding_in_json() -> None:
    """Camel case, every promised field there even where it is null, UTC times as text."""
    written = msgspec.json.decode(msgspec.json.encode(FINDING))
    promised = {
        "id": FINDING.id,
        "check": "nsg-kubelet-port",
        "cause": 1,
        "severity": "critical",
        "status": "open",
        "muted": None,
        "cluster": {
            "id": CLUSTER.id,
            "name": "aks-shop",
            "subscriptionId": CLUSTER.subscription_id,
            "resourceGroup": "rg-shop",
            "location": "westeurope",
        },
        "title": "title",
        "detail": "detail",
        "resource": FINDING.resource,
        "evidence": {"nodeCount": 2, "nodes": ["a", "b"]},
        "affects": ["logs", "exec"],
        "remediation": [
            {"summary": "Allow it.", "commands": ["az version"], "docs": "https://learn.microsoft.com/"}
        ],
        "confidence": "derived",
        "firstSeen": "2026-03-01T08:00:00Z",
        "lastSeen": "2026-03-01T08:15:00Z",
        "resolvedAt": None,
        "occurrences": 2,
        "scanId": "20260301T081500Z-0123abcd",
    }
    assert promised.items() <= written.items()


def test_a_finding_comes_back_from_json() -> None:
    """What is stored is what is read, apart from tuples in evidence, which JSON does not know."""
    muted = msgspec.structs.replace(
        FINDING, evidence={}, muted=Mute(until="2026-04-01T00:00:00Z", reason="planned"), unconfirmed=REASON
    )
    assert msgspec.json.decode(msgspec.json.encode(muted), type=Finding) == muted


@pytest.mark.parametrize(
    ("outcome", "reasons", "complete"),
    [
        (Outcome.PASS, (), True),
        (Outcome.FAIL, (), True),
        (Outcome.FAIL, (REASON,), False),
        (Outcome.UNKNOWN, (REASON,), False),
        (Outcome.NOT_APPLICABLE, (REASON,), False),
    ],
)
def test_complete(outcome: Outcome, reasons: tuple[Reason, ...], complete: bool) -> None:
    """Only a look at everything lets what is no longer reported be gone."""
    assert CheckResult(check="c", outcome=outcome, reasons=reasons).complete is complete


@pytest.mark.parametrize(
    ("moment", "written"),
    [
        (datetime(2026, 1, 31, 8, 15, tzinfo=UTC), "2026-01-31T08:15:00Z"),
        (datetime(2026, 1, 31, 8, 15, 59, 999_999, tzinfo=UTC), "2026-01-31T08:15:59Z"),
        (datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=2))), "2025-12-31T23:30:00Z"),
    ],
)
def test_timestamp(moment: datetime, written: str) -> None:
    """UTC whatever the zone, whole seconds, cut and not rounded."""
    assert timestamp(moment) == written
