"""The way out and the rules above the groups, from outside: faults come and go."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.monitor import Monitor, monitoring
from tests.processes import ROOT
from tests.simulator import documents

CLUSTER = "aks-api-weu"
"""Healthy, in a network of its owner's."""
NAMES: dict[str, Any] = json.loads((ROOT / "local/fleets/sample/names.json").read_text())


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Monitor]:
    """A monitor of a healthy cluster that was scanned once."""
    with monitoring(tmp_path, CLUSTER) as running:
        running.scan()
        assert running.findings() == []
        yield running


def outcomes(monitor: Monitor) -> dict[str, str]:
    """What each check said."""
    network = ("nsg-kubelet-port", "egress-tunnel-port")
    return {check: monitor.check(CLUSTER, check)["outcome"] for check in network}


def test_a_black_hole_opens_and_resolves(monitor: Monitor) -> None:
    """A route table that drops the API server's address is found, by name, with the command that mends it."""
    [cluster] = documents(CLUSTER, "/managedClusters")
    fqdn = cluster["properties"]["fqdn"]
    [address] = NAMES[fqdn]
    [network] = documents(CLUSTER, "/virtualNetworks")
    table = f"{network['id'].partition('/providers/')[0]}/providers/Microsoft.Network/routeTables/rt-new"
    route = {
        "name": "sinkhole",
        "id": f"{table}/routes/sinkhole",
        "properties": {"addressPrefix": f"{address}/32", "nextHopType": "None"},
    }
    monitor.azure.put(
        {"id": table, "name": "rt-new", "location": "westeurope", "properties": {"routes": [route]}}
    )
    for subnet in network["properties"]["subnets"]:
        subnet["properties"]["routeTable"] = {"id": table.upper()}
    monitor.azure.put(network)
    monitor.scan()
    assert outcomes(monitor) == {"nsg-kubelet-port": "pass", "egress-tunnel-port": "fail"}
    (finding,) = monitor.findings(cause="4")
    assert (finding["check"], finding["severity"], finding["resource"]) == (
        "egress-tunnel-port",
        "critical",
        route["id"],
    )
    assert fqdn in finding["detail"]
    assert address in finding["detail"]
    [delete, _] = [command for remedy in finding["remediation"] for command in remedy["commands"]]
    assert delete.startswith("az network route-table route delete")
    assert "--route-table-name rt-new --name sinkhole" in delete

    monitor.azure.set_names({fqdn: []})
    monitor.scan()
    assert outcomes(monitor)["egress-tunnel-port"] == "unknown"
    (kept,) = monitor.findings()
    assert (kept["id"], kept["unconfirmed"]["code"]) == (finding["id"], "name_not_resolved")

    monitor.azure.set_names({fqdn: [address]})
    monitor.azure.put({"id": table, "name": "rt-new", "location": "westeurope", "properties": {"routes": []}})
    monitor.scan()
    assert monitor.findings() == []
    assert outcomes(monitor)["egress-tunnel-port"] == "pass"
    (resolved,) = monitor.findings(status="resolved")
    assert (resolved["id"], resolved["resolution"]) == (finding["id"], "passed")


def test_an_admin_rule_opens_and_resolves(monitor: Monitor) -> None:
    """It stands above every group; while nobody may list the rules, what they did is kept."""
    [network] = documents(CLUSTER, "/virtualNetworks")
    rule = {
        "id": f"{network['id'].partition('/providers/')[0]}/providers/Microsoft.Network/networkManagers/nm"
        "/securityAdminConfigurations/baseline/ruleCollections/nodes/rules/deny-kubelet",
        "kind": "Custom",
        "properties": {
            "protocol": "Tcp",
            "sources": [{"addressPrefix": "*", "addressPrefixType": "IPPrefix"}],
            "destinations": [{"addressPrefix": "*", "addressPrefixType": "IPPrefix"}],
            "sourcePortRanges": ["0-65535"],
            "destinationPortRanges": ["10250"],
            "access": "Deny",
            "priority": 7,
            "direction": "Inbound",
        },
    }
    monitor.azure.set_admin_rules(network["id"], rule)
    monitor.scan()
    assert outcomes(monitor) == {"nsg-kubelet-port": "fail", "egress-tunnel-port": "pass"}
    (finding,) = monitor.findings()
    assert (finding["resource"], finding["severity"]) == (rule["id"], "critical")
    assert "deny-kubelet" in finding["title"]

    action = "Microsoft.Network/virtualNetworks/listNetworkManagerEffectiveSecurityAdminRules/action"
    monitor.azure.fault(kind="403", match={"action": action})
    monitor.scan()
    assert outcomes(monitor) == {"nsg-kubelet-port": "unknown", "egress-tunnel-port": "unknown"}
    (kept,) = monitor.findings()
    assert (kept["id"], kept["unconfirmed"]["action"]) == (finding["id"], action)

    monitor.azure.clear_faults()
    monitor.azure.set_admin_rules(network["id"])
    monitor.scan()
    assert monitor.findings() == []
    assert outcomes(monitor) == {"nsg-kubelet-port": "pass", "egress-tunnel-port": "pass"}
