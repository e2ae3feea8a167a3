"""A scan of the sample fleet, as somebody sees it who only has HTTP."""

import json
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.monitor import Monitor, monitoring
from tests.processes import ROOT
from tests.simulator import SAMPLE

OUTCOMES: dict[str, dict[str, str]] = json.loads((ROOT / "tests/local/sample_outcomes.json").read_text())
PROBED = {"kubelet-reachability", "ufw-kubelet-port", "iptables-kubelet-port"}
RECORDED = sorted(
    file.parent.name for file in SAMPLE.glob("*/*.nodes.json") if '"recorded"' in file.read_text()
)
"""The clusters with nodes that are recorded text where there are no namespaces."""


@pytest.fixture(scope="module")
def monitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitor]:
    """A monitor that has scanned the sample fleet once."""
    with Monitor(
        tmp_path_factory.mktemp("monitor"),
        env={"NODE_PROBES": "on"},
        options=("--run-command-seconds", "0.05"),
    ) as running:
        scan = running.start_scan(probes=True)
        running.scanned = running.wait_for(scan, 240)  # type: ignore[attr-defined]
        yield running


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_each_sample_cluster_has_its_outcome(monitor: Monitor, name: str) -> None:
    """What the fleet's table promises is what the monitor says."""
    cluster = monitor.clusters()[name]
    said = {check["check"]: check["outcome"] for check in cluster["checks"]}
    assert said == OUTCOMES[name]
    for check in cluster["checks"]:
        assert check["outcome"] == "pass" or check["reasons"] or check["findings"]


def test_recorded_nodes_have_the_same_outcomes(tmp_path: Path) -> None:
    """Where namespaces cannot be made, what the nodes' commands printed once is judged as they are."""
    options = ("--nodes", "recorded", "--run-command-seconds", "0.05")
    with monitoring(tmp_path, *RECORDED, env={"NODE_PROBES": "on"}, options=options) as running:
        running.wait_for(running.start_scan(probes=True), 120)
        said = {
            name: {check["check"]: check["outcome"] for check in cluster["checks"]}
            for name, cluster in running.clusters().items()
        }
    assert said == {name: OUTCOMES[name] for name in RECORDED}


def test_a_scan_counts_its_clusters(monitor: Monitor) -> None:
    """Progress tells how many there were and how many could not be told."""
    scanned: dict[str, Any] = monitor.scanned  # type: ignore[attr-defined]
    unknown = sum("unknown" in outcomes.values() for outcomes in OUTCOMES.values())
    assert (scanned["total"], scanned["done"], scanned["failed"]) == (len(OUTCOMES), len(OUTCOMES), 0)
    assert scanned["unknown"] == unknown
    assert scanned["completedAt"]


def _can_be_acted_on_nodes(finding: dict[str, Any]) -> None:
    """A finding about nodes names them, and commands run on them by the runbook's own means."""
    assert finding["evidence"]["pool"]
    for node in finding["evidence"]["nodes"]:
        assert node["name"].lower().startswith("aks-")
        assert "/virtualmachines/" in node["machineId"].lower()
    commands = [shlex.split(command) for remedy in finding["remediation"] for command in remedy["commands"]]
    assert commands
    for words in commands:
        assert words[0] == "az"
        assert words[2:4] == ["run-command", "invoke"]
        assert {"--subscription", "--resource-group", "--name", "--scripts"} <= set(words)


def test_every_finding_can_be_acted_on(monitor: Monitor) -> None:
    """A finding names what decides, the layer, pools and nodes, and has complete commands."""
    found = monitor.findings()
    assert {one["cluster"]["name"] for one in found} == {
        name for name, outcomes in OUTCOMES.items() if "fail" in outcomes.values()
    }
    for one in found:
        evidence = one["evidence"]
        assert one["affects"] == ["logs", "exec", "port-forward", "webhooks"]
        if one["check"] in PROBED:
            _can_be_acted_on_nodes(one)
            continue
        if one["cause"] == 5:
            _can_be_acted_on_ports(one)
            continue
        assert evidence["layer"].split()[-1] in {"inbound", "outbound", "route", "firewall"}
        assert evidence["pools"]
        assert evidence["nodeCount"] >= len(evidence["nodes"])
        assert bool(evidence["nodes"]) == (one["severity"] == "critical")
        commands = [shlex.split(command) for remedy in one["remediation"] for command in remedy["commands"]]
        assert commands
        for words in commands:
            assert words[:2] == ["az", "network"]
            assert {"--subscription", "--resource-group"} <= set(words)
        if "nsg" not in evidence:
            continue
        assert evidence["rule"]["name"] in one["title"]
        create = next(words for words in commands if words[:5] == ["az", "network", "nsg", "rule", "create"])
        given = dict(zip(create[5::2], create[6::2], strict=False))
        assert int(given["--priority"]) < evidence["rule"]["priority"]
        assert given["--nsg-name"].lower() == evidence["nsg"].rsplit("/", 1)[-1].lower()
        assert str(evidence["port"]) in create


def _can_be_acted_on_ports(finding: dict[str, Any]) -> None:
    """What it is about, numbers, and commands for the cluster or its way out."""
    evidence = finding["evidence"]
    assert evidence["through"].split("/")[-2] in {"loadBalancers", "natGateways"}
    assert evidence["pools"]
    assert len(json.dumps(evidence)) < 16_000
    commands = [shlex.split(command) for remedy in finding["remediation"] for command in remedy["commands"]]
    assert commands
    for words in commands:
        assert words[0] in {"az", "kubectl"}
        if words[:3] == ["az", "aks", "update"]:
            assert finding["cluster"]["name"] in words
            assert finding["cluster"]["subscriptionId"] in words
    assert any("microsoft.com" in (remedy["docs"] or "") for remedy in finding["remediation"])


def test_every_layer_is_in_the_sample(monitor: Monitor) -> None:
    """Groups at both levels and in both directions, admin rules, routes, the firewall."""
    layers = {one["evidence"].get("layer") for one in monitor.findings()}
    assert layers >= {
        "subnet inbound",
        "subnet outbound",
        "interface inbound",
        "virtual network inbound",
        "route",
        "firewall",
    }


def test_one_finding_comes_with_its_history(monitor: Monitor) -> None:
    """By its id a finding is the same as in the list, and was opened once."""
    first = monitor.findings()[0]
    one = monitor.get(f"findings/{first['id']}")
    transitions = one.pop("transitions")
    assert one == first
    assert [(step["number"], step["status"], step["reason"]) for step in transitions] == [
        (1, "open", "failed")
    ]


def test_pages_hold_every_finding_once(monitor: Monitor) -> None:
    """Whatever the limit, the pages together are the list."""
    everything = [one["id"] for one in monitor.findings(limit=1000)]
    assert len(everything) == len(set(everything)) > 3
    for limit in (1, 3, len(everything), len(everything) + 1):
        assert [one["id"] for one in monitor.findings(limit=limit)] == everything
        assert len(monitor.get("findings", limit=limit)["items"]) == min(limit, len(everything))


def test_filters_narrow_the_list(monitor: Monitor) -> None:
    """Each filter keeps just what it names."""
    everything = monitor.findings()
    one = everything[0]
    cluster_id = one["cluster"]["id"]
    for query, kept in (
        ({"cluster": one["cluster"]["name"].upper()}, lambda it: it["cluster"]["id"] == cluster_id),
        (
            {"cluster": cluster_id.replace("resourceGroups", "RESOURCEgroups")},
            lambda it: it["cluster"]["id"] == cluster_id,
        ),
        ({"cluster": one["id"].rsplit(".", 1)[0]}, lambda it: it["cluster"]["id"] == cluster_id),
        (
            {"subscription": one["cluster"]["subscriptionId"].upper()},
            lambda it: it["cluster"]["subscriptionId"].lower() == one["cluster"]["subscriptionId"].lower(),
        ),
        ({"severity": "warning"}, lambda it: it["severity"] == "warning"),
        ({"check": "nsg-kubelet-port", "cause": 1}, lambda it: it["check"] == "nsg-kubelet-port"),
        ({"cause": 4}, lambda it: it["check"] == "egress-tunnel-port"),
        ({"check": "egress-tunnel-port", "cause": 1}, lambda it: False),
        ({"cause": 2}, lambda it: it["cause"] == 2),
        ({"cause": 6}, lambda it: False),
        ({"status": "resolved"}, lambda it: False),
        ({"status": "all"}, lambda it: True),
        ({"since": one["firstSeen"]}, lambda it: it["lastSeen"] >= one["firstSeen"]),
        ({"since": "2999-01-01T00:00:00+02:00"}, lambda it: False),
        ({"muted": "false"}, lambda it: True),
        ({"muted": "true"}, lambda it: False),
        ({"cluster": "' or 1 eq 1 or Check eq '"}, lambda it: False),
    ):
        assert monitor.findings(**query) == [it for it in everything if kept(it)], query


def test_azure_was_read_sparingly_and_only_read(monitor: Monitor) -> None:
    """Lists serve all clusters; nothing but GET was sent, the one POST apart that only reads."""
    every = monitor.azure.requests()
    # Probes are asked for by themselves, and have limits of their own.
    requests = [one for one in every if "runCommand" not in one["path"] and "/operation" not in one["path"]]
    metrics = [one for one in requests if one["path"].endswith("/metrics:getBatch")]
    assert len(metrics) < len(OUTCOMES) / 2, "one query serves many clusters"
    posts = [one["path"] for one in requests if one["method"] != "GET" and one not in metrics]
    assert {request["method"] for request in requests} == {"GET", "POST"}
    assert {path.rpartition("/")[2] for path in posts} == {"listNetworkManagerEffectiveSecurityAdminRules"}
    assert len(posts) == len({path.lower() for path in posts})
    lists = Counter(
        (request["action"], request["subscription"])
        for request in requests
        if request["action"].count("/") == 2
        and request["path"].lower().split("/providers/")[0].count("/") == 2
        and "skiptoken" not in request["query"].lower()
    )
    assert set(lists.values()) <= {1}, "a subscription-wide list was read twice"
    own = sum("resourcegroups" in request["path"].lower() for request in requests)
    assert own / len(OUTCOMES) <= 3


def test_health_after_a_full_scan(monitor: Monitor) -> None:
    """A full scan just now is healthy, and health needs no key."""
    answer = monitor.ask("health", key=None)
    assert answer.status == 200, answer.text
    body = answer.json()
    assert (body["clusters"], body["overdue"], body["poison"]) == (len(OUTCOMES), 0, 0)
    assert body["lastFullScan"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "findings"),
        ("GET", "findings/x"),
        ("GET", "clusters"),
        ("GET", "clusters/x"),
        ("POST", "scans"),
        ("GET", "scans/x"),
        ("GET", "alerts"),
        ("POST", "alerts"),
    ],
)
def test_every_other_route_needs_a_key(monitor: Monitor, method: str, path: str) -> None:
    """Without a function key nothing is told and nothing is done."""
    assert monitor.ask(path, method=method, key=None).status == 401
    assert monitor.ask(path, method=method, key="guessed").status == 401


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("GET", "findings?severityy=critical", None, 400, "severityy"),
        ("GET", "findings?severity=high", None, 400, "severity"),
        ("GET", "findings?limit=0", None, 400, "limit"),
        ("GET", "findings?limit=1001", None, 400, "limit"),
        ("GET", "findings?limit=ten", None, 400, "limit"),
        ("GET", "findings?cursor=forged", None, 400, "cursor"),
        ("GET", "findings?cursor=eyJhIjoxfQ", None, 400, "cursor"),
        ("GET", "findings?since=yesterday", None, 400, "since"),
        ("GET", "findings/no-such-finding", None, 404, "id"),
        ("GET", "findings/..%5C..", None, 404, "id"),
        ("GET", "clusters?outcome=broken", None, 400, "outcome"),
        ("GET", "clusters/no-such-cluster", None, 404, "key"),
        ("GET", "scans/no-such-scan", None, 404, "id"),
        ("GET", "scans/20260101T000000Z-00000000", None, 404, "id"),
        ("GET", "alerts?severity=critical", None, 400, "severity"),
        ("POST", "scans", "{", 400, None),
        ("POST", "scans", '{"clusters": "all"}', 400, "clusters"),
        ("POST", "scans", '{"clusters": []}', 400, "clusters"),
        ("POST", "scans", '{"clusters": ["nope"]}', 400, "clusters[0]"),
        ("POST", "scans", '{"cluster": ["nope"]}', 400, "cluster"),
        ("POST", "alerts", "", 400, None),
        ("POST", "alerts", '{"schemaId": "somethingElse", "data": {}}', 400, "schemaId"),
        ("POST", "alerts", '{"schemaId": "azureMonitorCommonAlertSchema"}', 400, None),
        (
            "POST",
            "alerts",
            '{"schemaId": "azureMonitorCommonAlertSchema", "data": {"essentials": 1}}',
            400,
            "data.essentials",
        ),
    ],
)
def test_bad_input_is_named(
    monitor: Monitor, method: str, path: str, body: str | None, status: int, field: str | None
) -> None:
    """A problem document names the field at fault; nobody sees a traceback."""
    answer = monitor.ask(path, method=method, body=body)
    assert answer.status == status, answer.text
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    problem = answer.json()
    assert problem["status"] == status
    assert problem["detail"]
    assert problem.get("field") == field
    assert "Traceback" not in answer.text


def test_a_cursor_belongs_to_its_query(monitor: Monitor) -> None:
    """A cursor of another question is refused, tampered ones too, and another limit is fine."""
    cursor = monitor.get("findings", limit=1)["next"]
    assert monitor.ask(f"findings?limit=2&cursor={cursor}").status == 200
    assert monitor.ask(f"findings?severity=critical&cursor={cursor}").status == 400
    assert monitor.ask(f"clusters?cursor={cursor}").status == 400
    flipped = ("A" if cursor[20] != "A" else "B").join((cursor[:20], cursor[21:]))
    assert monitor.ask(f"findings?cursor={flipped}").status == 400


def test_clusters_page_too(monitor: Monitor) -> None:
    """Clusters come in pages, by key, and each can be asked for."""
    first = monitor.get("clusters", limit=5)
    assert len(first["items"]) == 5
    second = monitor.get("clusters", limit=1000, cursor=first["next"])
    keys = [item["key"] for item in first["items"] + second["items"]]
    assert len(keys) == len(set(keys)) == len(OUTCOMES)
    whole = monitor.get(f"clusters/{keys[0]}")
    for check in whole["checks"]:
        check["evidence"] = None  # what was observed is not in lists
    assert whole == first["items"][0]
    assert {item["outcome"] for item in monitor.get("clusters", outcome="unknown")["items"]} == {"unknown"}


def test_the_app_directory_is_what_is_deployed(monitor: Monitor, tmp_path: Path) -> None:
    """What runs here came through .funcignore: no tests, nothing local, no infrastructure."""
    shipped = {path.name for path in (monitor.directory / "app").iterdir()}
    assert shipped == {
        "checks",
        "facts",
        "function_app.py",
        "host.json",
        "packets",
        "pipeline",
        "requirements.txt",
    }
    assert not list(tmp_path.iterdir())
