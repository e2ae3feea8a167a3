"""Queues deliver at least once, workers die, storage restarts: nothing is lost and nothing counts twice."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.monitor import Monitor, monitoring, small_fleet
from tests.processes import wait_until
from tests.simulator import SAMPLE

CLUSTER = "aks-orders-weu"
FLEET = sorted(path.name for path in SAMPLE.iterdir() if path.name.startswith("aks-"))[:12]


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Monitor]:
    """A monitor of one faulty cluster."""
    with monitoring(tmp_path, CLUSTER) as running:
        yield running


def message(scan: str, cluster_id: str) -> str:
    """A message of queue `cluster-scans`."""
    return json.dumps(
        {"schema": 1, "scanId": scan, "clusterId": cluster_id, "reason": "request", "probes": False}
    )


def test_a_message_delivered_twice_changes_nothing_the_second_time(monitor: Monitor) -> None:
    """Not even when it comes back later, in other case, or after a newer scan."""
    first = monitor.scan()
    (before,) = monitor.findings()
    reads = len(monitor.azure.requests())
    for cluster_id in (before["cluster"]["id"], before["cluster"]["id"].upper().replace("/SUBS", "/subs")):
        monitor.put_message("cluster-scans", message(first["id"], cluster_id))
    monitor.host.wait_for_log("nothing to do", times=2)
    assert monitor.findings() == [before]
    assert len(monitor.azure.requests()) == reads, "a message that was worked on is not worth a request"

    monitor.scan()
    (newer,) = monitor.findings()
    monitor.put_message("cluster-scans", message(first["id"], before["cluster"]["id"]))
    monitor.host.wait_for_log("nothing to do", times=3)
    assert monitor.findings() == [newer]
    assert newer["occurrences"] == 2
    assert len(monitor.get(f"findings/{before['id']}")["transitions"]) == 1


def test_a_scan_that_fails_at_every_try_makes_the_cluster_unknown(monitor: Monitor) -> None:
    """After the last try the poison queue's function says so, and the finding stays."""
    monitor.scan()
    (finding,) = monitor.findings()
    monitor.azure.fault(kind="500", match={"action": "Microsoft.ContainerService/managedClusters/read"})
    scan = monitor.start_scan(monitor.clusters()[CLUSTER]["key"])
    # Each try waits out the SDK's own retries.
    state = monitor.wait_for(scan, 240)
    assert (state["failed"], state["unknown"]) == (1, 1)
    check = monitor.check(CLUSTER)
    assert check["outcome"] == "unknown"
    assert check["reasons"][0]["code"] == "scan_failed"
    assert "500" in check["reasons"][0]["message"]
    assert [one["id"] for one in monitor.findings()] == [finding["id"]]
    assert monitor.ask("health").json()["poison"] == 1


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("not json", "malformed"),
        ('{"schema": 1}', "missing required field"),
        (
            '{"schema": 2, "scanId": "20260101T000000Z-00000000", "clusterId": "/x", "reason": "request"}',
            "Invalid enum value 2",
        ),
        (message("nonsense", "/subscriptions/x"), "not the id of a scan"),
        (message("20260101T000000Z-00000000", "/subscriptions/x"), "not the id of a managed cluster"),
    ],
)
def test_a_message_that_nobody_can_read_is_kept_and_counted(
    tmp_path: Path,
    body: str,
    why: str,
) -> None:
    """It goes to the poison queue, is kept with the reason, and shows in the monitor's own health."""
    with monitoring(tmp_path, CLUSTER, maxDequeueCount=1) as monitor:
        monitor.scan()
        monitor.put_message("cluster-scans", body)
        wait_until(lambda: monitor.ask("health").json()["poison"] == 1, "the poison to be counted", 30)
        assert why in monitor.host.log_text()
        assert monitor.ask("health").json()["status"] == "degraded"


def test_a_worker_killed_in_mid_scan_loses_nothing(tmp_path: Path) -> None:
    """The messages it held come back and are finished by the next worker; nothing counts twice."""
    with Monitor(tmp_path, small_fleet(tmp_path, *FLEET)) as monitor:
        monitor.azure.latency(300)
        scan = monitor.start_scan()
        wait_until(lambda: monitor.get(f"scans/{scan}")["total"], "clusters to be found", 30)
        (worker,) = monitor.worker_pids()
        os.kill(worker, signal.SIGKILL)
        state = monitor.wait_for(scan, 90)
        assert (state["done"], state["failed"]) == (len(FLEET), 0)
        assert monitor.worker_pids() != [worker]
        found = monitor.findings()
        assert len({one["id"] for one in found}) == len(found) > 0
        assert {one["occurrences"] for one in found} == {1}
        for one in found:
            assert len(monitor.get(f"findings/{one['id']}")["transitions"]) == 1


def test_storage_restarted_in_mid_scan_loses_nothing(tmp_path: Path) -> None:
    """While storage is away queries answer 503 in words; when it is back the scan goes on to its end."""
    with Monitor(tmp_path, small_fleet(tmp_path, *FLEET)) as monitor:
        monitor.azure.latency(300)
        scan = monitor.start_scan()
        wait_until(lambda: monitor.get(f"scans/{scan}")["total"], "clusters to be found", 30)
        monitor.azurite.stop()
        answer = monitor.ask("findings")
        assert answer.status == 503, answer.text
        assert answer.headers["Content-Type"].startswith("application/problem+json")
        assert "storage" in answer.json()["detail"].lower()
        assert monitor.ask("health", key=None).status == 503
        monitor.azurite.start()
        state = monitor.wait_for(scan, 120)
        assert state["done"] == len(FLEET)
        assert state["failed"] == 0
        found = monitor.findings()
        assert {one["occurrences"] for one in found} == {1}


def test_azure_throttling_slows_a_scan_and_no_more(tmp_path: Path) -> None:
    """429 with Retry-After is waited for: every cluster still gets its verdict."""
    with monitoring(tmp_path, CLUSTER, "aks-web-weu") as monitor:
        monitor.azure.fault(kind="429", seconds=1, times=4, match={})
        state = monitor.scan()
        assert (state["done"], state["unknown"], state["failed"]) == (2, 0, 0)
        assert sum(request["status"] == 429 for request in monitor.azure.requests()) == 4


@pytest.mark.parametrize("kind", ["malformed", "empty", "truncated"])
def test_a_garbled_answer_is_unknown(tmp_path: Path, kind: str) -> None:
    """Azure answers 200 with nonsense for the security groups: unknown with the reason, not healthy."""
    with monitoring(tmp_path, "aks-web-weu") as monitor:
        monitor.azure.fault(kind=kind, match={"action": "Microsoft.Network/networkSecurityGroups/read"})
        monitor.scan()
        check = monitor.check("aks-web-weu")
        assert check["outcome"] == "unknown", check
        assert check["reasons"][0]["message"]


def test_a_scan_that_finds_no_cluster_to_scan_says_so(tmp_path: Path) -> None:
    """Azure is away while clusters are to be found: the scan has failed, in words, and health tells."""
    with monitoring(tmp_path, CLUSTER, maxDequeueCount=1) as monitor:
        monitor.azure.fault(kind="500", match={"action": "Microsoft.Resources/subscriptions/read"})
        state = monitor.scan()
        assert state["status"] == "failed"
        assert state["error"]
        health = monitor.ask("health", key=None)
        assert (health.status, health.json()["poison"]) == (503, 1)
        monitor.azure.clear_faults()
        assert monitor.scan()["done"] == 1
        assert monitor.ask("health", key=None).status == 200


def test_health_tells_when_scans_stop_coming(tmp_path: Path) -> None:
    """The timer is dead: once two scans are missed, health is 503 and says since when."""
    with monitoring(tmp_path, CLUSTER) as monitor:
        monitor.scan()
        assert monitor.ask("health", key=None).status == 200
        settings = {"SCAN_SCHEDULE": "* * * * * *", "AzureWebJobs.scheduled_scan.Disabled": "true"}
        monitor.restart(**settings)
        wait_until(lambda: monitor.ask("health", key=None).json()["overdue"], "health to notice", 20)
        answer = monitor.ask("health", key=None)
        body = answer.json()
        assert answer.status == 503
        assert (body["status"], body["overdue"], body["schedule"]) == ("unhealthy", 1, "PT1S")
        assert any("overdue" in problem for problem in body["problems"])
