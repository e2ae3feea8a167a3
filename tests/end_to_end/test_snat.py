"""SNAT from outside: ports that run out, are given, and whose numbers are lost from sight."""

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.monitor import Monitor, monitoring
from tests.simulator import SAMPLE

EXHAUSTED = "aks-crawler-weu"
TIGHT = "aks-quotes-weu"
"""Explicit ports, and no room for the nodes that may come."""
PRIVATE = "aks-clinic-weu"
CALM = "aks-web-weu"
ACTION = "Microsoft.Insights/metrics/read"


@pytest.fixture(scope="module")
def monitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitor]:
    """A monitor of some clusters."""
    with monitoring(tmp_path_factory.mktemp("snat"), EXHAUSTED, TIGHT, PRIVATE, CALM) as running:
        yield running


@pytest.fixture(autouse=True)
def as_it_was(monitor: Monitor) -> Iterator[None]:
    """Each test begins with what the files say."""
    yield
    monitor.azure.clear_faults()
    monitor.azure.reload()


def counted(name: str) -> dict[str, Any]:
    """What Azure Monitor has of a cluster's way out."""
    content: dict[str, Any] = json.loads((SAMPLE / name / "use.metrics.json").read_text())
    return content


def calmed(metrics: dict[str, Any]) -> dict[str, Any]:
    """The same resources and nodes, hardly used, and nothing fails."""
    calm: dict[str, Any] = {}
    for identifier, answer in metrics.items():
        for metric in answer["value"]:
            rows = []
            for row in metric["timeseries"]:
                words = [item["value"] for item in row["metadatavalues"]]
                if "Failed" not in words:
                    keep = metric["name"]["value"] == "AllocatedSnatPorts"
                    rows.append(row if keep else {**row, "shape": {"base": 12}})
            metric["timeseries"] = rows
        calm[identifier] = answer
    return calm


def finding(monitor: Monitor, cluster: str, check: str = "snat-exhaustion", **query: str) -> dict[str, Any]:
    """The one finding of a check."""
    [found] = monitor.findings(cluster=cluster, check=check, **query)
    return found


def test_ports_run_out_and_are_given_back(monitor: Monitor) -> None:
    """A finding lives on while nobody can look, or has data, and is resolved by numbers that are well."""
    monitor.scan()
    opened = finding(monitor, EXHAUSTED)
    assert (opened["severity"], opened["cause"], opened["confidence"]) == ("critical", 5, "observed")
    assert "SNAT connections fail at load balancer" in opened["title"]
    assert opened["evidence"]["failed"]["count"] > 0
    assert opened["evidence"]["ports"][0]["percent"] == 100
    assert len(json.dumps(opened["evidence"])) < 6000

    monitor.azure.set_metrics({identifier: {"value": []} for identifier in counted(EXHAUSTED)})
    monitor.scan()
    silent = finding(monitor, EXHAUSTED)
    assert (silent["id"], silent["unconfirmed"]["code"]) == (opened["id"], "no_data")
    assert monitor.check(EXHAUSTED, "snat-exhaustion")["outcome"] == "unknown"

    monitor.azure.fault(kind="403", match={"action": ACTION})
    monitor.scan()
    blind = finding(monitor, EXHAUSTED)
    assert (blind["id"], blind["unconfirmed"]["action"]) == (opened["id"], ACTION)
    assert monitor.check(CALM, "snat-exhaustion")["outcome"] == "unknown"
    assert monitor.check(CALM, "nsg-kubelet-port")["outcome"] == "pass", "what needs no metrics is judged"

    monitor.azure.clear_faults()
    monitor.azure.set_metrics(calmed(counted(EXHAUSTED)))
    monitor.scan()
    assert monitor.findings(cluster=EXHAUSTED, check="snat-exhaustion") == []
    resolved = finding(monitor, EXHAUSTED, status="resolved")
    assert (resolved["id"], resolved["resolution"]) == (opened["id"], "passed")


def test_what_is_recommended_makes_room(monitor: Monitor) -> None:
    """The command's numbers, set on the load balancer and the cluster as AKS would, end the finding."""
    monitor.scan()
    opened = finding(monitor, TIGHT, "snat-capacity")
    command = next(
        command
        for remedy in opened["remediation"]
        for command in remedy["commands"]
        if "--load-balancer-outbound-ports" in command
    )
    words = shlex.split(command)
    assert words[:3] == ["az", "aks", "update"]
    assert words[words.index("--name") + 1] == TIGHT
    wanted = int(words[words.index("--load-balancer-outbound-ports") + 1])
    addresses = int(words[words.index("--load-balancer-managed-outbound-ip-count") + 1])
    assert wanted % 8 == 0

    def set_ports(balancer: dict[str, Any]) -> None:
        front = balancer["properties"]["frontendIPConfigurations"][0]
        [rule] = balancer["properties"]["outboundRules"]
        fronts = [front]
        for number in range(1, addresses):
            more = json.loads(json.dumps(front))
            more["id"], more["name"] = f"{front['id']}-{number}", f"{front['name']}-{number}"
            address = json.loads(json.dumps(monitor.azure.get(front["properties"]["publicIPAddress"]["id"])))
            address["id"] += f"-{number}"
            address["properties"]["ipAddress"] = f"203.0.113.{number}"
            monitor.azure.put(address)
            more["properties"]["publicIPAddress"]["id"] = address["id"]
            fronts.append(more)
        balancer["properties"]["frontendIPConfigurations"] = fronts
        rule["properties"]["frontendIPConfigurations"] = [{"id": one["id"]} for one in fronts]
        rule["properties"]["allocatedOutboundPorts"] = wanted

    [balancer] = counted(TIGHT)
    monitor.change(balancer, set_ports)
    monitor.scan()
    assert monitor.findings(cluster=TIGHT, check="snat-capacity") == []
    assert monitor.check(TIGHT, "snat-capacity")["outcome"] == "pass"


def test_a_private_cluster_keeps_its_numbers(monitor: Monitor) -> None:
    """No fault of the tunnel's; what its applications suffer from is there to be read, and not in lists."""
    monitor.scan()
    assert monitor.findings(cluster=PRIVATE) == []
    whole = monitor.get(f"clusters/{monitor.clusters()[PRIVATE]['key']}")
    [said] = [one for one in whole["checks"] if one["check"] == "snat-exhaustion"]
    assert (said["outcome"], said["reasons"][0]["code"]) == ("not_applicable", "private_cluster")
    [way] = said["evidence"]["waysOut"]
    assert way["failed"] > 0
    assert way["ports"][0]["percent"] >= 90
    assert "SNAT connections fail" in way["titles"][0]
    for state in monitor.clusters().values():
        assert all(one["evidence"] is None for one in state["checks"])


def test_azure_monitor_is_asked_for_all_at_once(monitor: Monitor) -> None:
    """Two questions for all load balancers of a region and subscription; histories are kept for an hour."""
    monitor.scan()
    monitor.azure.clear_requests()
    monitor.scan()
    queries = [one["query"] for one in monitor.azure.requests() if one["action"] == ACTION]
    places = len({one["path"] for one in monitor.azure.requests() if one["action"] == ACTION})
    assert len(queries) == 2 * places
    assert not any("interval=PT1H" in query for query in queries)
