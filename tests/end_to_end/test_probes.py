"""Probes of nodes, end to end: nodes that are network namespaces, asked through Run Command over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.nodes.client import unavailable
from tests.end_to_end.monitor import Monitor, monitoring, small_fleet
from tests.processes import wait_until

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=f"no simulated nodes here: {unavailable()}")

CLUSTER = "aks-web-weu"
"""Healthy, with one pool of three nodes."""
DENIED = "aks-orders-weu"
"""A security group denies TCP 10250 there."""
PROBED = ("kubelet-reachability", "ufw-kubelet-port", "iptables-kubelet-port")
RUN_COMMAND = "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/runCommand/action"
QUICK = ("--run-command-seconds", "0.05")
ON = {"NODE_PROBES": "on"}
DROP = {"firewall": {"iptables": ["-A INPUT -p tcp --dport 10250 -j DROP"]}}
UFW = {"firewall": {"ufw": ["default deny incoming", "allow 22/tcp", "--force enable"]}}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitor]:
    """A monitor that probes, of a healthy cluster and one whose NSG denies; for all tests of this module."""
    with monitoring(tmp_path_factory.mktemp("monitor"), CLUSTER, DENIED, env=ON, options=QUICK) as running:
        running.scan()
        assert run_commands(running) >= 6, "clusters that were never probed are probed at first sight"
        yield running


@pytest.fixture
def monitor(running: Monitor) -> Iterator[Monitor]:
    """The monitor, with everything as it was at first, and seen so."""
    yield running
    known = machines(running)
    running.azure.reload()
    running.azure.set_nodes({machine: {} for machine in known})
    running.azure.clear_requests()
    running.scan(probes=True)


def machines(monitor: Monitor, cluster: str = CLUSTER) -> list[str]:
    """The ids of a cluster's machines, in order."""
    group = monitor.azure.get(monitor.clusters()[cluster]["cluster"]["id"])["properties"]["nodeResourceGroup"]
    found = {
        request["path"].removesuffix("/runCommand")
        for request in monitor.azure.requests()
        if request["path"].endswith("/runCommand") and f"/{group}/".lower() in request["path"].lower()
    }
    return sorted(found, key=str.lower)


def outcomes(monitor: Monitor, cluster: str = CLUSTER) -> dict[str, str]:
    """The outcome of each check that nodes are probed for."""
    return {check: monitor.check(cluster, check)["outcome"] for check in PROBED}


def run_commands(monitor: Monitor) -> int:
    """How often a script was run since requests were last forgotten."""
    return monitor.azure.actions().get(RUN_COMMAND, 0)


def test_switched_off_nothing_runs_on_a_node(tmp_path: Path) -> None:
    """The checks say why they do not know, no run command is sent, and the cluster is healthy as it was."""
    with monitoring(tmp_path, CLUSTER, options=QUICK) as monitor:
        scan = monitor.scan(probes=True)
        assert run_commands(monitor) == 0
        assert outcomes(monitor) == dict.fromkeys(PROBED, "unknown")
        codes = {reason["code"] for check in PROBED for reason in monitor.check(CLUSTER, check)["reasons"]}
        assert codes == {"probes_disabled"}
        assert monitor.clusters()[CLUSTER]["outcome"] == "pass"
        assert scan["unknown"] == 0


def test_from_a_healthy_node_to_a_finding_and_back(monitor: Monitor) -> None:
    """A node drops, is found at the next probes, and is mended."""
    monitor.scan()
    assert outcomes(monitor) == dict.fromkeys(PROBED, "pass")
    first = machines(monitor)[0]
    monitor.azure.clear_requests()

    monitor.azure.set_nodes({first: DROP})
    monitor.scan()
    assert run_commands(monitor) == 0, "scans in between judge what probes saw"
    assert outcomes(monitor) == dict.fromkeys(PROBED, "pass")

    monitor.scan(probes=True)
    found = {finding["check"]: finding for finding in monitor.findings(cluster=CLUSTER)}
    assert sorted(found) == ["iptables-kubelet-port", "kubelet-reachability"]
    dropped, unreached = found["iptables-kubelet-port"], found["kubelet-reachability"]
    assert (dropped["cause"], unreached["cause"]) == (3, 3)
    assert dropped["evidence"]["rule"] == "-A INPUT -p tcp -m tcp --dport 10250 -j DROP"
    assert dropped["confidence"] == unreached["confidence"] == "observed"
    assert unreached["evidence"]["explainedBy"][0]["check"] == "iptables-kubelet-port"
    [command] = dropped["remediation"][1]["commands"]
    assert "iptables-nft --delete INPUT 1" in command

    # Not probed and still there; mended, and resolved only by a look that no longer sees it.
    monitor.scan()
    assert len(monitor.findings(cluster=CLUSTER)) == 2
    monitor.azure.set_nodes({first: {}})
    monitor.scan()
    assert len(monitor.findings(cluster=CLUSTER)) == 2
    monitor.scan(probes=True)
    assert monitor.findings(cluster=CLUSTER) == []
    assert outcomes(monitor) == dict.fromkeys(PROBED, "pass")


def test_ufw_is_found_and_is_not_told_twice(monitor: Monitor) -> None:
    """What UFW made in iptables is UFW's finding."""
    monitor.scan()
    first = machines(monitor)[0]
    assert monitor.azure.set_nodes({first: UFW}) == {}
    monitor.scan(probes=True)
    found = {finding["check"]: finding for finding in monitor.findings(cluster=CLUSTER)}
    assert sorted(found) == ["kubelet-reachability", "ufw-kubelet-port"]
    assert found["ufw-kubelet-port"]["cause"] == 2
    assert found["kubelet-reachability"]["evidence"]["explainedBy"][0]["check"] == "ufw-kubelet-port"
    assert outcomes(monitor)["iptables-kubelet-port"] == "pass"


def test_a_node_that_cannot_be_asked_keeps_its_finding(monitor: Monitor) -> None:
    """Silence resolves nothing: the finding stays, unconfirmed, and says why."""
    monitor.scan()
    first = machines(monitor)[0]
    monitor.azure.set_nodes({first: UFW})
    monitor.scan(probes=True)
    monitor.azure.set_nodes({first: {"runCommand": "sample-script"}})
    monitor.scan(probes=True)
    [finding] = monitor.findings(cluster=CLUSTER, check="ufw-kubelet-port")
    assert finding["unconfirmed"]["code"] == "sample_script"
    check = monitor.check(CLUSTER, "ufw-kubelet-port")
    assert check["outcome"] == "unknown"
    assert "sample script" in check["reasons"][0]["message"]


def test_nobody_listens_and_everything_allows_it(monitor: Monitor) -> None:
    """The contradiction is told as one."""
    monitor.scan()
    first = machines(monitor)[0]
    monitor.azure.set_nodes({first: {"listening": False}})
    monitor.scan(probes=True)
    [finding] = monitor.findings(cluster=CLUSTER)
    assert finding["check"] == "kubelet-reachability"
    assert "though all that was read allows it" in finding["title"]
    assert {pair["answer"] for pair in finding["evidence"]["pairs"]} == {"refused"}


def _alert(cluster: str) -> dict[str, Any]:
    essentials = {
        "alertId": "/subscriptions/x/providers/Microsoft.AlertsManagement/alerts/1",
        "alertRule": "snat",
        "severity": "Sev1",
        "signalType": "Metric",
        "monitorCondition": "Fired",
        "monitoringService": "Platform",
        "alertTargetIDs": [cluster.lower()],
        "firedDateTime": "2026-03-01T08:00:00Z",
    }
    return {
        "schemaId": "azureMonitorCommonAlertSchema",
        "data": {"essentials": essentials, "alertContext": {}},
    }


def test_an_alert_has_nodes_probed_at_once(monitor: Monitor) -> None:
    """Whatever the schedule of probes says."""
    monitor.scan()
    cluster = monitor.clusters()[CLUSTER]["cluster"]["id"]
    monitor.azure.set_nodes({machines(monitor)[0]: UFW})
    monitor.azure.clear_requests()
    answer = monitor.ask("alerts", method="POST", body=_alert(cluster))
    assert answer.status == 202
    monitor.wait_for(answer.json()["id"])
    assert run_commands(monitor) == 3
    assert [finding["check"] for finding in monitor.findings(cluster=CLUSTER, cause=2)] != []


def test_a_new_fault_is_confirmed_at_once(monitor: Monitor) -> None:
    """A group that denies is felt by the nodes: the finding is observed, and probes run once for it."""
    denied = monitor.azure.get(_group(monitor))
    rules = denied["properties"]["securityRules"]
    network = denied["properties"]["subnets"][0]["id"].partition("/subnets/")[0]
    healthy = {**denied, "properties": {**denied["properties"], "securityRules": []}}
    monitor.azure.put(healthy)
    monitor.azure.set_nodes({network: {"drop": []}})
    monitor.scan(probes=True)
    assert monitor.findings(cluster=DENIED) == []
    monitor.azure.clear_requests()

    healthy["properties"]["securityRules"] = rules
    monitor.azure.put(healthy)
    everywhere = {"from": "10.0.0.0/8", "to": "10.0.0.0/8"}
    assert monitor.azure.set_nodes({network: {"drop": [everywhere]}}) == {}
    monitor.scan()
    assert run_commands(monitor) > 0
    [finding] = monitor.findings(cluster=DENIED, check="nsg-kubelet-port")
    assert finding["confidence"] == "observed"
    assert "Probes confirm it" in finding["detail"]
    [unreached] = monitor.findings(cluster=DENIED, check="kubelet-reachability")
    assert unreached["evidence"]["explainedBy"][0]["check"] == "nsg-kubelet-port"

    monitor.azure.clear_requests()
    monitor.scan()
    assert run_commands(monitor) == 0, "it is not new any more"


def _group(monitor: Monitor) -> str:
    """The id of the security group that denies."""
    monitor.scan()
    [finding] = monitor.findings(cluster=DENIED, check="nsg-kubelet-port")
    return str(finding["evidence"]["nsg"])


def test_probes_have_a_schedule_of_their_own(tmp_path: Path) -> None:
    """The timer starts a scan with probes, apart from the scans in between."""
    with Monitor(
        tmp_path,
        small_fleet(tmp_path, CLUSTER),
        env=ON | {"NODE_PROBE_SCHEDULE": "*/5 * * * * *"},
        options=QUICK,
    ) as monitor:
        wait_until(lambda: run_commands(monitor) >= 6, "two rounds of probes", 60, every=0.5)
        assert outcomes(monitor) == dict.fromkeys(PROBED, "pass")


def test_two_scans_do_not_probe_one_node_at_once(tmp_path: Path) -> None:
    """One of them has the cluster; others take what it brings, or say that there is nothing yet."""
    with monitoring(tmp_path, CLUSTER, env=ON, options=("--run-command-seconds", "2")) as monitor:
        scans = [monitor.start_scan(probes=True) for _ in range(3)]
        for scan in scans:
            monitor.wait_for(scan)
        refused = [one for one in monitor.azure.requests() if one["status"] == 409]
        assert refused == []
        monitor.scan()
        assert outcomes(monitor) == dict.fromkeys(PROBED, "pass")
