"""Alerts both ways, in Azure Monitor's common alert schema."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.monitor import Monitor, monitoring

CLUSTER = "aks-orders-weu"
OTHER = "aks-web-weu"


@pytest.fixture(scope="module")
def monitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitor]:
    """A monitor of two clusters that were scanned once."""
    with monitoring(tmp_path_factory.mktemp("monitor"), CLUSTER, OTHER) as running:
        running.scan()
        yield running


def alert(*targets: str, alert_id: str = "1", condition: str = "Fired", **essentials: Any) -> dict[str, Any]:
    """What an action group sends for a metric alert."""
    return {
        "schemaId": "azureMonitorCommonAlertSchema",
        "data": {
            "essentials": {
                "alertId": f"/subscriptions/x/providers/Microsoft.AlertsManagement/alerts/{alert_id}",
                "alertRule": "snat-failed",
                "severity": "Sev3",
                "signalType": "Metric",
                "monitorCondition": condition,
                "monitoringService": "Platform",
                "alertTargetIDs": list(targets),
                "configurationItems": ["kubernetes"],
                "originAlertId": "x",
                "firedDateTime": "2026-03-22T13:58:24.3713213Z",
                "description": "",
                "essentialsVersion": "1.0",
                "alertContextVersion": "1.0",
                **essentials,
            },
            "alertContext": {"properties": None, "conditionType": "SingleResourceMultipleMetricCriteria"},
        },
    }


def cluster(monitor: Monitor, name: str = CLUSTER) -> dict[str, Any]:
    """A cluster's state."""
    return monitor.clusters()[name]


def send(monitor: Monitor, body: Any) -> dict[str, Any]:
    """Send an alert; the answer, once the scan that it led to is through."""
    answer = monitor.ask("alerts", method="POST", body=body)
    assert answer.status == 202, answer.text
    accepted: dict[str, Any] = answer.json()
    monitor.wait_for(accepted["id"])
    return accepted


@pytest.mark.parametrize(
    "target",
    [
        lambda ref, group: ref,
        lambda ref, group: ref.lower(),
        lambda ref, group: ref.upper(),
        lambda ref, group: ref + "/agentPools/system",
        lambda ref, group: f"{group}/providers/Microsoft.Network/loadBalancers/kubernetes",
        lambda ref, group: f"{group}/providers/microsoft.compute/virtualmachinescalesets/aks".upper(),
        lambda ref, group: group,
    ],
    ids=["id", "lower case", "upper case", "agent pool", "load balancer", "scale set", "node group"],
)
def test_an_alert_queues_the_cluster_its_target_belongs_to(monitor: Monitor, target: Any) -> None:
    """The cluster itself or anything in its node resource group, in whatever case it is written."""
    state = cluster(monitor)
    group = f"/subscriptions/{state['cluster']['subscriptionId']}/resourceGroups/{state['nodeResourceGroup']}"
    where = target(state["cluster"]["id"], group)
    accepted = send(monitor, alert(where, alert_id=where))
    assert accepted["total"] == 1
    assert accepted["ignoredTargets"] == []
    assert cluster(monitor)["lastScan"]["id"] == accepted["id"]
    assert cluster(monitor)["lastScan"]["reason"] == "alert"
    assert cluster(monitor, OTHER)["lastScan"]["id"] != accepted["id"]


def test_an_alert_delivered_again_is_the_same_scan(monitor: Monitor) -> None:
    """Action groups retry: the finding does not count the second delivery. Resolved is another scan."""
    target = cluster(monitor)["cluster"]["id"]
    first = send(monitor, alert(target, alert_id="again"))
    (before,) = monitor.findings()
    second = send(monitor, alert(target, alert_id="AGAIN"))
    monitor.host.wait_for_log("nothing to do")
    assert second["id"] == first["id"]
    assert monitor.findings() == [before]
    third = send(monitor, alert(target, alert_id="again", condition="Resolved"))
    assert third["id"] != first["id"]


def test_what_belongs_to_no_cluster_is_said(monitor: Monitor) -> None:
    """Targets that mean nothing here are named in the answer and do not lose the others."""
    target = cluster(monitor)["cluster"]["id"]
    clusters = target.rpartition("/")[0]
    strange = [
        "/subscriptions/x/resourceGroups/y/providers/Microsoft.Web/sites/z",
        "nonsense",
        f"{clusters}/x?y",
        f"{clusters}/x\\y",
        f"{clusters}/x\ty",
        f"{clusters}/{'x' * 500}",
        target.replace("managedClusters", "managedClusterSnapshots"),
        "/subscriptions/x/resourceGroups/y/providers/Microsoft.ContainerService/managedClusters/z",
    ]
    accepted = send(monitor, alert(target, *strange, alert_id="strange"))
    assert accepted["total"] == 1
    assert accepted["ignoredTargets"] == strange
    nothing = send(monitor, alert(alert_id="nothing"))
    assert nothing["total"] == 0


def test_an_alert_with_absent_and_unknown_fields_is_taken(monitor: Monitor) -> None:
    """Only the alert's id and condition are needed; everything else may be missing or new."""
    target = cluster(monitor)["cluster"]["id"]
    body = {
        "schemaId": "azureMonitorCommonAlertSchema",
        "data": {
            "essentials": {"alertId": "a", "monitorCondition": "Fired", "alertTargetIDs": [target], "new": 1}
        },
    }
    assert send(monitor, body)["total"] == 1


@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "[]",
        "{}",
        "no json",
        '{"schemaId": "azureMonitorCommonAlertSchema", "data": null}',
        json.dumps(alert("x", alertTargetIDs="x")),
        json.dumps(alert("x", alertTargetIDs=[1])),
        json.dumps(alert("x", monitorCondition=None)),
        json.dumps(alert(*["/subscriptions/x"] * 1000)),
        '{"a":' * 5000,
    ],
)
def test_what_is_no_alert_is_400(monitor: Monitor, body: str) -> None:
    """Never 5xx: an action group would try again, and then stop calling for 15 minutes."""
    answer = monitor.ask("alerts", method="POST", body=body)
    assert answer.status == 400, answer.text
    assert answer.headers["Content-Type"].startswith("application/problem+json")


def test_open_findings_are_fired_alerts(monitor: Monitor, tmp_path: Path) -> None:
    """Each is a common-schema alert on its cluster; and what we send we would take in ourselves."""
    (finding,) = monitor.findings()
    page = monitor.get("alerts")
    assert page["next"] is None
    (fired,) = page["items"]
    essentials = fired["data"]["essentials"]
    assert fired["schemaId"] == "azureMonitorCommonAlertSchema"
    assert essentials["monitorCondition"] == "Fired"
    assert essentials["severity"] == "Sev0"
    assert essentials["alertTargetIDs"] == [finding["cluster"]["id"].lower()]
    assert essentials["originAlertId"] == finding["id"]
    assert essentials["firedDateTime"] == finding["openedAt"]
    assert essentials["alertId"].startswith(
        f"/subscriptions/{finding['cluster']['subscriptionId']}/providers/"
    )
    assert send(monitor, fired)["total"] == 1
    assert not list(tmp_path.iterdir())
