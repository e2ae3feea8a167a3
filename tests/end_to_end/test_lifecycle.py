"""Findings open, stay open while nobody can look, and resolve only when somebody looked and saw them gone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.monitor import Monitor, monitoring, remove_rule

CLUSTER = "aks-orders-weu"
HEALTHY = "aks-web-weu"


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Monitor]:
    """A monitor of a faulty and a healthy cluster that were scanned once."""
    with monitoring(tmp_path, CLUSTER, HEALTHY) as running:
        running.scan()
        yield running


def outcome(monitor: Monitor, name: str = CLUSTER) -> str:
    """What the first check said of a cluster."""
    return str(monitor.check(name)["outcome"])


def test_a_repaired_fault_resolves_and_reopens(monitor: Monitor) -> None:
    """Mended: resolved, with its history. Broken again: the same finding, opened once more."""
    (finding,) = monitor.findings()
    nsg, rule = finding["evidence"]["nsg"], finding["evidence"]["rule"]["name"]
    broken = monitor.azure.get(nsg)

    monitor.scan()
    (again,) = monitor.findings()
    assert (again["id"], again["occurrences"]) == (finding["id"], 2)
    assert again["firstSeen"] == finding["firstSeen"]

    monitor.change(nsg, remove_rule(rule))
    monitor.scan()
    assert monitor.findings() == []
    assert outcome(monitor) == "pass"
    (resolved,) = monitor.findings(status="resolved")
    assert (resolved["id"], resolved["resolution"]) == (finding["id"], "passed")
    assert resolved["resolvedAt"]

    monitor.azure.put(broken)
    monitor.scan(monitor.clusters()[CLUSTER]["key"])
    (reopened,) = monitor.findings()
    assert (reopened["id"], reopened["firstSeen"]) == (finding["id"], finding["firstSeen"])
    assert reopened["occurrences"] == 3
    assert reopened["resolvedAt"] is None
    transitions = monitor.get(f"findings/{finding['id']}")["transitions"]
    assert [step["status"] for step in transitions] == ["open", "resolved", "open"]
    assert monitor.findings(status="resolved") == []


def test_a_permission_taken_away_is_unknown_and_resolves_nothing(monitor: Monitor) -> None:
    """Could not look is not healthy: the outcome names the missing action, the finding stays."""
    (finding,) = monitor.findings()
    monitor.azure.fault(kind="403", match={"action": "Microsoft.Network/networkSecurityGroups/read"})
    scanned = monitor.scan()
    assert scanned["unknown"] == 2
    check = monitor.check(CLUSTER)
    assert check["outcome"] == "unknown"
    assert check["reasons"][0]["code"] == "permission_denied"
    assert check["reasons"][0]["action"] == "Microsoft.Network/networkSecurityGroups/read"
    (kept,) = monitor.findings()
    assert (kept["id"], kept["occurrences"], kept["lastSeen"]) == (finding["id"], 1, finding["lastSeen"])
    assert kept["unconfirmed"]["code"] == "permission_denied"

    monitor.azure.clear_faults()
    monitor.scan()
    (back,) = monitor.findings()
    assert (back["id"], back["occurrences"], back["unconfirmed"]) == (finding["id"], 2, None)


def test_a_cluster_that_cannot_be_read_keeps_what_is_known(monitor: Monitor) -> None:
    """Not even the cluster can be read any more: every check is unknown, nothing is resolved."""
    (finding,) = monitor.findings()
    monitor.azure.fault(kind="403", match={"action": "Microsoft.ContainerService/managedClusters/read"})
    scanned = monitor.scan()
    assert (scanned["total"], scanned["done"]) == (2, 2)
    assert scanned["problems"][0]["code"] == "permission_denied"
    state = monitor.clusters()[CLUSTER]
    assert (state["outcome"], state["cluster"]["location"]) == ("unknown", "westeurope")
    assert [one["id"] for one in monitor.findings()] == [finding["id"]]


def test_a_deleted_cluster_is_retired(monitor: Monitor) -> None:
    """Its open findings are resolved with the reason, its state says so, and it is scanned no more."""
    (finding,) = monitor.findings()
    monitor.azure.delete(finding["cluster"]["id"])
    scanned = monitor.scan()
    assert (scanned["total"], scanned["done"], scanned["failed"]) == (2, 2, 0)
    assert monitor.findings() == []
    (resolved,) = monitor.findings(status="resolved")
    assert resolved["resolution"] == "cluster_deleted"
    assert monitor.clusters()[CLUSTER]["status"] == "deleted"
    assert [item["cluster"]["name"] for item in monitor.get("clusters")["items"]] == [HEALTHY]
    assert monitor.scan()["total"] == 1


def test_a_stopped_cluster_is_not_applicable(monitor: Monitor) -> None:
    """Stopped on purpose is no verdict on the tunnel, so an open finding stays open."""
    (finding,) = monitor.findings()
    monitor.change(
        finding["cluster"]["id"],
        lambda cluster: cluster["properties"].update(powerState={"code": "Stopped"}),
    )
    monitor.scan()
    check = monitor.check(CLUSTER)
    assert (check["outcome"], check["reasons"][0]["code"]) == ("not_applicable", "stopped")
    assert [one["id"] for one in monitor.findings()] == [finding["id"]]


def test_a_subscription_no_longer_watched_is_left_out(tmp_path: Path) -> None:
    """Whoever takes a subscription out of the settings does not want to hear of it, nor be called unwell."""
    with monitoring(tmp_path, CLUSTER, HEALTHY) as monitor:
        monitor.scan()
        (finding,) = monitor.findings()
        other = monitor.clusters()[HEALTHY]["cluster"]["subscriptionId"]
        if other == finding["cluster"]["subscriptionId"]:
            other = "00000000-0000-0000-0000-000000000001"
        monitor.restart(AZURE_SUBSCRIPTION_IDS=other)
        monitor.scan()
        assert monitor.findings() == []
        (resolved,) = monitor.findings(status="resolved")
        assert resolved["resolution"] == "not_watched"
        assert monitor.clusters()[CLUSTER]["status"] == "unwatched"
        assert monitor.ask("health").json()["overdue"] == 0

        monitor.restart()
        monitor.scan()
        (back,) = monitor.findings()
        assert (back["id"], back["occurrences"]) == (finding["id"], 2)
        assert monitor.clusters()[CLUSTER]["status"] == "active"
