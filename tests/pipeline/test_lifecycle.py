"""The life of a finding: what each result makes of it, and laws over whole histories of scans."""

from collections.abc import Iterable, Mapping
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from facts.finding import CheckResult, Finding, Mute, Outcome, Reason, Severity, Status
from pipeline.lifecycle import Change, Transition, advance, retire
from tests.snapshots import CLUSTER

LAW = settings(deadline=None, max_examples=150)

EARLIER, NOW = "2026-03-01T08:00:00Z", "2026-03-01T08:15:00Z"
TIMEOUT = Reason(code="timeout", message="Azure did not answer in time.")
STOPPED = Reason(code="stopped", message="The cluster is stopped.")
MUTE = Mute(until="2026-04-01T00:00:00Z", reason="planned")


def seen(name: str = "f", *, check: str = "c", scan: str = "2", at: str = NOW) -> Finding:
    """A finding as a check has just reported it."""
    return Finding(
        id=name,
        check=check,
        cause=1,
        severity=Severity.CRITICAL,
        status=Status.OPEN,
        cluster=CLUSTER,
        title=f"title of scan {scan}",
        detail="",
        resource="",
        evidence={},
        affects=(),
        remediation=(),
        confidence="derived",
        first_seen=at,
        last_seen=at,
        opened_at=at,
        scan_id=scan,
    )


OPEN = structs.replace(
    seen(scan="1", at=EARLIER), occurrences=3, first_seen="2026-02-01T00:00:00Z", muted=MUTE
)
UNCONFIRMED = structs.replace(OPEN, unconfirmed=TIMEOUT)
RESOLVED = structs.replace(
    OPEN, status=Status.RESOLVED, resolved_at=EARLIER, resolution="passed", opened_at="2026-02-01T00:00:00Z"
)


def result(
    outcome: Outcome, *findings: Finding, reasons: tuple[Reason, ...] = (), check: str = "c"
) -> CheckResult:
    """What a check said."""
    return CheckResult(check=check, outcome=outcome, reasons=reasons, findings=findings)


def changes(
    before: Finding | None, *results: CheckResult, scan: str = "2", count: int = 4
) -> tuple[Change, ...]:
    """What some results make of one finding, or of none, that had `count` transitions."""
    is_open = before is not None and before.status is Status.OPEN
    known = {before.id: before} if before else {}
    return advance(
        open_before=known if is_open else {},
        resolved_before={} if is_open else known,
        transitions=dict.fromkeys(known, count),
        results=results,
        now=NOW,
        scan_id=scan,
    )


FAIL = result(Outcome.FAIL, seen())
PARTLY = result(Outcome.FAIL, seen(), reasons=(TIMEOUT,))
OTHER = result(Outcome.FAIL, seen("other"))
PARTLY_OTHER = result(Outcome.FAIL, seen("other"), reasons=(TIMEOUT,))
PASS = result(Outcome.PASS)
UNKNOWN = result(Outcome.UNKNOWN, reasons=(TIMEOUT,))
INAPPLICABLE = result(Outcome.NOT_APPLICABLE, reasons=(STOPPED,))
ELSEWHERE = result(Outcome.PASS, check="another")


@pytest.mark.parametrize(
    ("before", "said", "after", "transition"),
    [
        (None, PASS, None, None),
        (None, UNKNOWN, None, None),
        (None, INAPPLICABLE, None, None),
        (None, FAIL, "open", "failed"),
        (None, PARTLY, "open", "failed"),
        (OPEN, FAIL, "open", None),
        (OPEN, PARTLY, "open", None),
        (OPEN, PASS, "resolved", "passed"),
        (OPEN, OTHER, "resolved", "passed"),
        (OPEN, PARTLY_OTHER, "unconfirmed", None),
        (OPEN, UNKNOWN, "unconfirmed", None),
        (OPEN, INAPPLICABLE, "unconfirmed", None),
        (OPEN, ELSEWHERE, None, None),
        (UNCONFIRMED, FAIL, "open", None),
        (UNCONFIRMED, PASS, "resolved", "passed"),
        (UNCONFIRMED, UNKNOWN, None, None),
        (UNCONFIRMED, INAPPLICABLE, "unconfirmed", None),
        (RESOLVED, PASS, None, None),
        (RESOLVED, UNKNOWN, None, None),
        (RESOLVED, INAPPLICABLE, None, None),
        (RESOLVED, FAIL, "open", "failed"),
        (RESOLVED, PARTLY, "open", "failed"),
    ],
)
def test_what_a_result_makes_of_a_finding(
    before: Finding | None, said: CheckResult, after: str | None, transition: str | None
) -> None:
    """The finding afterwards and the transition this is; None where nothing changes."""
    about = [change for change in changes(before, said) if change.finding.id == "f"]
    assert len(about) == (after is not None)
    for change in about:
        assert change.before == before
        stored = change.finding
        assert stored.status == ("resolved" if after == "resolved" else "open")
        assert (stored.unconfirmed is not None) is (after == "unconfirmed")
        assert (change.transition.reason if change.transition else None) == transition


def test_a_new_finding() -> None:
    """It is stored as the check reported it, with its first transition."""
    [change] = changes(None, FAIL)
    assert change == Change(
        finding=seen(),
        before=None,
        transition=Transition(
            finding="f",
            number=1,
            at=NOW,
            status=Status.OPEN,
            reason="failed",
            scan_id="2",
            title="title of scan 2",
        ),
    )


def test_a_finding_that_is_seen_again() -> None:
    """What is said of it is new; when it began, how often it was seen and its mute are kept."""
    [change] = changes(UNCONFIRMED, FAIL)
    assert change.transition is None
    assert change.finding == structs.replace(
        seen(), first_seen=OPEN.first_seen, opened_at=OPEN.opened_at, occurrences=4, muted=MUTE
    )


def test_a_finding_that_comes_back() -> None:
    """It is open anew from now, the same finding still, counted on, with its next transition."""
    [change] = changes(RESOLVED, FAIL)
    assert change.finding == structs.replace(seen(), first_seen=OPEN.first_seen, occurrences=4, muted=MUTE)
    assert (change.finding.opened_at, change.finding.resolved_at, change.finding.resolution) == (
        NOW,
        None,
        None,
    )
    assert change.transition is not None
    assert (change.transition.number, change.transition.status) == (5, Status.OPEN)


def test_a_finding_that_is_resolved() -> None:
    """It says when and why, and keeps what was last seen of it."""
    [change] = changes(UNCONFIRMED, PASS)
    assert change.finding == structs.replace(
        OPEN, status=Status.RESOLVED, resolved_at=NOW, resolution="passed"
    )
    assert change.transition == Transition(
        finding="f",
        number=5,
        at=NOW,
        status=Status.RESOLVED,
        reason="passed",
        scan_id="2",
        title="title of scan 1",
    )


@pytest.mark.parametrize(
    ("said", "reason"), [(UNKNOWN, TIMEOUT), (PARTLY_OTHER, TIMEOUT), (INAPPLICABLE, STOPPED)]
)
def test_a_finding_that_could_not_be_confirmed(said: CheckResult, reason: Reason) -> None:
    """It stays as it was and says why nobody knows."""
    [change] = [one for one in changes(OPEN, said) if one.finding.id == "f"]
    assert change.finding == structs.replace(OPEN, unconfirmed=reason)


def test_a_scan_that_is_recorded_twice() -> None:
    """What this scan has already seen is not counted again."""
    [first] = changes(OPEN, FAIL)
    assert changes(first.finding, FAIL) == ()


def test_a_deleted_cluster() -> None:
    """Everything that is open on it is resolved, once each."""
    other = structs.replace(OPEN, id="g", check="another")
    retired = retire({"f": OPEN, "g": other}, {"f": 4}, now=NOW, scan_id="9")
    assert [(one.finding.id, one.finding.status, one.finding.resolution) for one in retired] == [
        ("f", Status.RESOLVED, "cluster_deleted"),
        ("g", Status.RESOLVED, "cluster_deleted"),
    ]
    assert [(one.transition.number, one.transition.scan_id) for one in retired if one.transition] == [
        (5, "9"),
        (1, "9"),
    ]


# --- whole histories -----------------------------------------------------------------------------

CHECKS = ("c", "d")
NAMES = {check: tuple(f"{check}{number}" for number in range(3)) for check in CHECKS}


class World:
    """What is stored, as far as findings go."""

    def __init__(self) -> None:
        self.findings: dict[str, Finding] = {}
        self.history: dict[str, list[Transition]] = {}

    def plan(self, results: Iterable[CheckResult], scan: str) -> tuple[Change, ...]:
        """What a scan would change now."""
        by_status: Mapping[Status, dict[str, Finding]] = {Status.OPEN: {}, Status.RESOLVED: {}}
        for finding in self.findings.values():
            by_status[finding.status][finding.id] = finding
        return advance(
            open_before=by_status[Status.OPEN],
            resolved_before=by_status[Status.RESOLVED],
            transitions={name: len(past) for name, past in self.history.items()},
            results=results,
            now=scan,
            scan_id=scan,
        )

    def store(self, planned: Iterable[Change]) -> None:
        """Write changes down; each finding's transitions count up by one."""
        for change in planned:
            assert change.before == self.findings.get(change.finding.id)
            self.findings[change.finding.id] = change.finding
            if change.transition is not None:
                past = self.history.setdefault(change.finding.id, [])
                past.append(change.transition)
                assert change.transition.number == len(past)


@st.composite
def scans(draw: st.DrawFn) -> list[tuple[str, tuple[CheckResult, ...]]]:
    """A history: each scan with the result of each check, faults in any order."""
    history = []
    for number in range(draw(st.integers(1, 12))):
        scan = f"{number:02}"
        results = []
        for check in CHECKS:
            outcome = draw(st.sampled_from(Outcome))
            names = draw(st.lists(st.sampled_from(NAMES[check]), min_size=1, unique=True))
            partly = outcome is Outcome.FAIL and draw(st.booleans())
            results.append(
                CheckResult(
                    check=check,
                    outcome=outcome,
                    reasons=(TIMEOUT,)
                    if partly or outcome in {Outcome.UNKNOWN, Outcome.NOT_APPLICABLE}
                    else (),
                    findings=tuple(seen(name, check=check, scan=scan, at=scan) for name in names)
                    if outcome is Outcome.FAIL
                    else (),
                )
            )
        history.append((scan, tuple(results)))
    return history


def reported(history: Iterable[tuple[str, tuple[CheckResult, ...]]], name: str) -> list[str]:
    """The scans that saw a fault."""
    return [
        scan
        for scan, results in history
        if any(finding.id == name for one in results for finding in one.findings)
    ]


@LAW
@given(scans())
def test_the_books_are_right_after_every_scan(history: list[tuple[str, tuple[CheckResult, ...]]]) -> None:
    """Transitions alternate, occurrences count scans, and the last complete look decides the status."""
    world = World()
    for scan, results in history:
        world.store(world.plan(results, scan))
    for name, finding in world.findings.items():
        past = world.history[name]
        assert [one.status for one in past] == [
            Status.RESOLVED if number % 2 else Status.OPEN for number in range(len(past))
        ]
        assert past[-1].status is finding.status
        scans_of_it = reported(history, name)
        assert finding.occurrences == len(scans_of_it)
        assert (finding.first_seen, finding.last_seen, finding.scan_id) == (
            scans_of_it[0],
            scans_of_it[-1],
            scans_of_it[-1],
        )
        assert finding.opened_at == [one.at for one in past if one.status is Status.OPEN][-1]
        own = [one for _, results in history for one in results if one.check == finding.check]
        last = [one for one in own if one.complete or finding.id in {each.id for each in one.findings}][-1]
        assert (finding.status is Status.OPEN) is (name in {each.id for each in last.findings})
        if finding.status is Status.OPEN:
            assert (finding.unconfirmed is None) is (own[-1] is last)
        else:
            assert finding.unconfirmed is None
    for name in NAMES["c"] + NAMES["d"]:
        assert (name in world.findings) is bool(reported(history, name))


@LAW
@given(scans(), st.data())
def test_every_message_may_come_twice(
    history: list[tuple[str, tuple[CheckResult, ...]]], data: st.DataObject
) -> None:
    """Recorded again, or cut short and then recorded whole, a scan leaves what it leaves at once."""
    once, again = World(), World()
    for scan, results in history:
        once.store(once.plan(results, scan))
        planned = again.plan(results, scan)
        again.store(planned[: data.draw(st.integers(0, len(planned)))])
        again.store(again.plan(results, scan))
        if data.draw(st.booleans()):
            assert again.plan(results, scan) == ()
    assert again.findings == once.findings
    assert again.history == once.history


@LAW
@given(scans())
def test_nothing_is_resolved_by_silence(history: list[tuple[str, tuple[CheckResult, ...]]]) -> None:
    """Whatever is resolved is resolved in a scan whose check saw everything and did not report it."""
    world = World()
    for scan, results in history:
        complete = {one.check: {each.id for each in one.findings} for one in results if one.complete}
        for change in world.plan(results, scan):
            if change.finding.status is Status.RESOLVED:
                assert change.finding.id not in complete[change.finding.check]
        world.store(world.plan(results, scan))


@LAW
@given(scans())
def test_the_order_of_results_does_not_matter(history: list[tuple[str, tuple[CheckResult, ...]]]) -> None:
    """Checks and their findings may be told in any order."""
    one, other = World(), World()
    for scan, results in history:
        one.store(one.plan(results, scan))
        turned = [structs.replace(each, findings=each.findings[::-1]) for each in reversed(results)]
        other.store(other.plan(turned, scan))
    assert one.findings == other.findings
    assert one.history == other.history


def test_histories_reach_far() -> None:
    """A finding that comes and goes has as many transitions as that takes."""
    world = World()
    outcomes = (FAIL, PASS, FAIL, UNKNOWN, INAPPLICABLE, FAIL, PASS, PASS)
    for number, said in enumerate(outcomes):
        again = structs.replace(
            said, findings=tuple(structs.replace(one, scan_id=str(number)) for one in said.findings)
        )
        world.store(world.plan([again], str(number)))
    assert [one.reason for one in world.history["f"]] == ["failed", "passed", "failed", "passed"]
    assert all(earlier.number + 1 == later.number for earlier, later in pairwise(world.history["f"]))
    assert world.findings["f"].occurrences == 3
