"""What answers over HTTP are made of, as far as it is pure: durations, keys and filters."""

import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facts.finding import Severity
from pipeline.report import FindingsQuery, _duration, _finding_filters, _is_key
from pipeline.requests import Problem
from pipeline.run import cluster_key
from tests.snapshots import CLUSTER

LAW = settings(deadline=None, max_examples=100)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "PT0S"),
        (-5, "PT0S"),
        (0.9, "PT0S"),
        (1, "PT1S"),
        (59, "PT59S"),
        (60, "PT1M"),
        (900, "PT15M"),
        (901, "PT15M1S"),
        (3600, "PT1H"),
        (3605, "PT1H5S"),
        (5400, "PT1H30M"),
        (90061, "PT25H1M1S"),
    ],
)
def test_a_duration(seconds: float, written: str) -> None:
    """ISO 8601, whole seconds, no part that is zero, never below nothing."""
    assert _duration(timedelta(seconds=seconds)) == written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("aks-shop-0123456789", True),
        ("aks_shop.x", True),
        ("a" * 300, True),
        ("", False),
        ("a" * 301, False),
        ("a/b", False),
        ("a\\b", False),
        ("a#b", False),
        ("a?b", False),
        ("a b", False),
        ("a'b", False),
        ("ä", False),
        ("a\n", False),
    ],
)
def test_what_can_be_part_of_a_row_key(text: str, expected: bool) -> None:
    """Nothing else is even looked up."""
    assert _is_key(text) is expected


@pytest.mark.parametrize(
    ("asked", "conditions", "parameters"),
    [
        (FindingsQuery(), set(), {"start": "finding:open:", "end": "finding:open;"}),
        (FindingsQuery(status="resolved"), set(), {"start": "finding:resolved:", "end": "finding:resolved;"}),
        (FindingsQuery(status="all"), set(), {"start": "finding:", "end": "finding;"}),
        (FindingsQuery(check="c"), {"Check eq @check"}, {"check": "c"}),
        (FindingsQuery(cause=4), {"Cause eq @cause"}, {"cause": 4}),
        (FindingsQuery(severity=Severity.INFO), {"Severity eq @severity"}, {"severity": "info"}),
        (FindingsQuery(muted=False), {"Muted eq @muted"}, {"muted": False}),
        (FindingsQuery(subscription="ABC"), {"Subscription eq @subscription"}, {"subscription": "abc"}),
        (
            FindingsQuery(cluster="AKS-Shop"),
            {"( Cluster eq @cluster or ClusterName eq @cluster )"},
            {"cluster": "aks-shop"},
        ),
        (
            FindingsQuery(cluster=CLUSTER.id.upper()),
            {"Cluster eq @cluster"},
            {"cluster": cluster_key(CLUSTER.id)},
        ),
    ],
)
def test_filters(asked: FindingsQuery, conditions: set[str], parameters: dict[str, object]) -> None:
    """Every query is one range of rows, narrowed by what was asked."""
    filters, given_parameters = _finding_filters(asked)
    base = {"PartitionKey eq 'fleet'", "RowKey ge @start", "RowKey lt @end"}
    assert set(filters) == base | conditions
    assert parameters.items() <= given_parameters.items()
    assert type(given_parameters.get("muted", False)) is bool


NASTY = st.one_of(
    st.text(max_size=40), st.sampled_from(("' or '1' eq '1", "@start", "x' and Check ne '", "/'"))
)


@LAW
@given(NASTY, NASTY, NASTY)
def test_what_is_asked_never_lands_in_the_filter(cluster: str, subscription: str, check: str) -> None:
    """The filter's text is the same for all values; these travel as parameters, each named in it."""
    asked = FindingsQuery(cluster=cluster, subscription=subscription, check=check)
    filters, parameters = _finding_filters(asked)
    text = " and ".join(filters)
    plain = FindingsQuery(
        cluster="/x" if cluster.startswith("/") else "x" if cluster else "",
        subscription="x" if subscription else "",
        check="x" if check else "",
    )
    assert text == " and ".join(_finding_filters(plain)[0])
    # The SDK replaces parameters word by word.
    assert set(parameters) == {word[1:] for word in text.split() if word.startswith("@")}
    assert re.findall(r"'[^']*'", text) == ["'fleet'"]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2026-03-01T08:00:00Z", "2026-03-01T08:00:00+00:00"),
        ("2026-03-01T08:00:00+01:00", "2026-03-01T07:00:00+00:00"),
        ("2026-03-01T08:00:00 01:00", "2026-03-01T07:00:00+00:00"),
    ],
)
def test_since(text: str, written: str) -> None:
    """A time with its zone, also where a plus sign has become a blank on the way."""
    filters, parameters = _finding_filters(FindingsQuery(since=text))
    assert "LastSeen ge @since" in filters
    assert parameters["since"] == datetime.fromisoformat(written)


def test_a_since_without_a_zone_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """As all times are here, wherever the machine stands."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        _, parameters = _finding_filters(FindingsQuery(since="2026-03-01T08:00:00"))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert parameters["since"] == datetime(2026, 3, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "2026-13-01",
        "'",
        "1",
        "2026-03-01T08:00:00Zulu",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-01:00",
    ],
)
def test_a_since_that_is_no_time(text: str) -> None:
    """400, naming the parameter."""
    with pytest.raises(Problem) as raised:
        _finding_filters(FindingsQuery(since=text))
    assert (raised.value.status, raised.value.field) == (400, "since")
