"""Scans' ids and messages: they order, they come back as they went, and what is none of ours is refused."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.scans import (
    SCHEMA,
    ClusterScan,
    MessageError,
    ScanRequest,
    Summary,
    cluster_messages,
    decode,
    encode,
    failed,
    is_later,
    new_scan_id,
    started,
)

LAW = settings(deadline=None, max_examples=100)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2120, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
SCAN = "20260301T081500Z-0123abcd"
CLUSTER_ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/c"
REQUEST = ScanRequest(schema=SCHEMA, scan_id=SCAN, reason="schedule")
MESSAGE = ClusterScan(schema=SCHEMA, scan_id=SCAN, cluster_id=CLUSTER_ID, reason="alert", probes=True)


@LAW
@given(MOMENTS)
def test_an_id_tells_when_its_scan_started(now: datetime) -> None:
    """To the second, and no two ids are the same."""
    one, other = new_scan_id(now), new_scan_id(now)
    assert started(one) == started(other) == now.replace(microsecond=0)
    assert one != other


@LAW
@given(MOMENTS, MOMENTS)
def test_ids_order_as_scans_do(one: datetime, other: datetime) -> None:
    """As texts and by `is_later`, which knows no order within a second."""
    first, second = new_scan_id(one), new_scan_id(other)
    if started(first) != started(second):
        assert is_later(first, second) is (first > second) is (one > other)
    else:
        assert not is_later(first, second)
        assert not is_later(second, first)


def test_an_id_is_in_utc() -> None:
    """Whatever zone the clock is in."""
    assert new_scan_id(datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))).startswith(
        "20260228T233000Z-"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "20260301T081500Z",
        "20260301T081500Z-",
        "20260301T081500Z-0123abc",
        "20260301T081500Z-0123abcde",
        "20260301T081500Z-0123ABCD",
        "20260301T081500Z-0123abcg",
        "20261301T081500Z-0123abcd",
        "20260301T081500-0123abcd",
        "20260301T081500Z-0123abcd' or 1 eq 1",
        "../20260301T081500Z-0123abcd",
        "2026031T081500Z-0123abcd",
    ],
)
def test_what_is_no_scans_id(text: str) -> None:
    """Nothing but what `new_scan_id` makes."""
    with pytest.raises(ValueError):
        started(text)


def test_messages_come_back_as_they_went() -> None:
    """Both kinds, with all that is in them."""
    assert decode(encode(REQUEST), ScanRequest) == REQUEST
    assert decode(encode(MESSAGE), ClusterScan) == MESSAGE


def test_a_clusters_message_is_the_one_that_was_promised() -> None:
    """What other programs may put on the queue themselves."""
    written = json.loads(encode(MESSAGE))
    assert {
        "schema": 1,
        "scanId": SCAN,
        "clusterId": CLUSTER_ID,
        "reason": "alert",
        "probes": True,
    }.items() <= written.items()


def test_cluster_messages() -> None:
    """One a cluster, in order."""
    other = CLUSTER_ID.upper()
    texts = cluster_messages([CLUSTER_ID, other], scan_id=SCAN, reason="request", probes=False)
    decoded = [decode(text, ClusterScan) for text in texts]
    assert [one.cluster_id for one in decoded] == [CLUSTER_ID, other]
    assert {(one.scan_id, one.reason, one.probes) for one in decoded} == {(SCAN, "request", False)}
    assert cluster_messages([], scan_id=SCAN, reason="request", probes=False) == []


def changed(**fields: Any) -> str:
    """A cluster's message with some fields changed; None leaves one out."""
    whole = json.loads(encode(MESSAGE)) | fields
    return json.dumps({name: value for name, value in whole.items() if value is not None})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "null",
        "{}",
        changed(schema=2),
        changed(schema=None),
        changed(schema="1"),
        changed(scanId=None),
        changed(scanId=""),
        changed(scanId="20261301T081500Z-0123abcd"),
        changed(clusterId=None),
        changed(clusterId=7),
        changed(reason="boredom"),
        changed(probes="yes"),
        encode(MESSAGE)[:-1],
        "\ud800",
    ],
)
def test_a_message_that_is_none_of_ours(text: str) -> None:
    """The error says which queue it was on; the message goes back, and in the end to poison."""
    with pytest.raises(MessageError, match=r"^not a message of queue cluster-scans: "):
        decode(text, ClusterScan)


def test_a_request_is_named_by_its_own_queue() -> None:
    """The other kind of message, the other queue."""
    with pytest.raises(MessageError, match=r"^not a message of queue scan-requests: "):
        decode("{}", ScanRequest)


def test_fields_of_a_later_version_are_let_through() -> None:
    """A message with more in it than this version knows is still one."""
    assert decode(changed(colour="red"), ClusterScan) == MESSAGE


def test_a_scan_that_was_given_up() -> None:
    """It is over, and says why."""
    summary = Summary(id=SCAN, reason="schedule", full=True, started_at="2026-03-01T08:15:00Z")
    over = failed(summary, "no subscription", datetime(2026, 3, 1, 8, 20, tzinfo=UTC))
    assert (over.error, over.completed_at, over.id) == ("no subscription", "2026-03-01T08:20:00Z", SCAN)
