"""What a scan's progress counts as unknown."""

import pytest

from facts.finding import CheckResult, Outcome, Reason
from pipeline.scan import _cannot_tell

WHY = (Reason(code="c", message="m"),)


@pytest.mark.parametrize(
    ("checks", "unknown"),
    [
        ([(Outcome.PASS, ())], False),
        ([(Outcome.FAIL, ())], False),
        ([(Outcome.FAIL, WHY)], True),
        ([(Outcome.UNKNOWN, WHY), (Outcome.PASS, ())], True),
        ([(Outcome.NOT_APPLICABLE, WHY)], False),
        ([(Outcome.NOT_APPLICABLE, WHY), (Outcome.PASS, ())], False),
    ],
)
def test_what_could_not_be_told(checks: list[tuple[Outcome, tuple[Reason, ...]]], unknown: bool) -> None:
    """Something was left open; that a check does not apply leaves nothing open."""
    results = [CheckResult(check="c", outcome=outcome, reasons=reasons) for outcome, reasons in checks]
    assert _cannot_tell(results) is unknown
