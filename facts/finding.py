"""What can be said of a cluster: outcomes with their reasons, and findings.

A check yields `Fault`, `Unknown` and `NotApplicable`; the runner turns them into
one `CheckResult` a check, whose `Finding`s carry identity, cluster and time.
JSON is camelCase throughout, as the HTTP interface promises.
"""

from enum import StrEnum
from typing import Any, Literal

from msgspec import Struct, field


class Outcome(StrEnum):
    """The answer of one check for one cluster in one scan."""

    PASS = "pass"  # noqa: S105 - an outcome, not a password
    FAIL = "fail"
    UNKNOWN = "unknown"
    NOT_APPLICABLE = "not_applicable"


class Severity(StrEnum):
    """How much it matters: `critical` breaks the tunnel, `warning` will, `info` is good to know."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Status(StrEnum):
    """Whether the last scan that could tell still saw the fault."""

    OPEN = "open"
    RESOLVED = "resolved"


Confidence = Literal["observed", "derived"]
"""`observed`: a probe or a metric showed it. `derived`: it follows from configuration."""


class Reason(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Why an outcome is not `pass`: a code for machines, words for people."""

    code: str
    """`permission_denied`, `throttled`, `timeout`, `no_data`, `unknown_service_tag`, `stopped` …"""
    message: str
    """A sentence that an on-call engineer can act on."""
    action: str | None = None
    """With `permission_denied`: the Azure action that is missing."""
    resource: str | None = None
    """The id of what could not be looked at."""


class Remediation(Struct, frozen=True, kw_only=True, rename="camel"):
    """One way to mend a fault. Tunnelwatch recommends it; it never runs it."""

    summary: str
    commands: tuple[str, ...] = ()
    """Complete command lines, quoted for a POSIX shell."""
    docs: str | None = None


class Fault(Struct, frozen=True, kw_only=True):
    """Something that a check found wrong."""

    subject: str
    """What makes this fault the same fault in every scan: usually the id of the object at fault."""
    title: str
    detail: str
    resource: str
    evidence: dict[str, Any]
    remediation: tuple[Remediation, ...]
    severity: Severity | None = None
    """`None` for the check's own severity."""
    cause: int | None = None
    """The cause of the runbook that this one comes from; `None` for the check's own."""
    confidence: Confidence = "derived"


class Unknown(Struct, frozen=True, kw_only=True):
    """A part of the question that could not be answered."""

    reason: Reason


class NotApplicable(Struct, frozen=True, kw_only=True):
    """The question makes no sense for this cluster."""

    reason: Reason


class Observed(Struct, frozen=True, kw_only=True):
    """Numbers that are worth keeping whatever the outcome is."""

    evidence: dict[str, Any]


Statement = Fault | Unknown | NotApplicable | Observed
"""What a check yields. Yielding nothing means that it looked at everything and all is well."""


class ClusterRef(Struct, frozen=True, kw_only=True, rename="camel"):
    """The cluster a finding is about, as much as a reader needs to find it."""

    id: str
    name: str
    subscription_id: str
    resource_group: str
    location: str


class Mute(Struct, frozen=True, kw_only=True, rename="camel"):
    """Somebody knows about a finding and does not want to be alerted."""

    until: str
    reason: str


class Finding(Struct, frozen=True, kw_only=True, rename="camel"):
    """A fault with its identity and its life so far. Times are UTC, ISO 8601."""

    id: str
    check: str
    cause: int
    severity: Severity
    status: Status
    muted: Mute | None = None
    cluster: ClusterRef
    title: str
    detail: str
    resource: str
    evidence: dict[str, Any]
    affects: tuple[str, ...]
    remediation: tuple[Remediation, ...]
    confidence: Confidence
    first_seen: str
    last_seen: str
    resolved_at: str | None = None
    occurrences: int = 1
    """The number of scans that saw it since it was first seen."""
    scan_id: str
    """The last scan that saw it."""
    opened_at: str
    """When it was last opened: `first_seen`, unless it was resolved in between."""
    resolution: str | None = None
    """Why it is resolved: `passed`, `cluster_deleted`, `not_watched`."""
    unconfirmed: Reason | None = None
    """Set while the finding is open and the last scan could not tell whether it still holds."""


class CheckResult(Struct, frozen=True, kw_only=True, rename="camel"):
    """The outcome of one check for one cluster."""

    check: str
    outcome: Outcome
    reasons: tuple[Reason, ...] = ()
    """Never empty unless the outcome is `pass`; a `fail` may carry what could not be looked at besides."""
    findings: tuple[Finding, ...] = field(default=())
    evidence: dict[str, Any] | None = None
    """What was observed, whatever the outcome."""

    @property
    def complete(self) -> bool:
        """Whether the check could look at everything, so that a fault it no longer reports is gone."""
        if self.outcome is Outcome.FAIL:
            return not self.reasons
        return self.outcome is Outcome.PASS
