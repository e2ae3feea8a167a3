"""One scan is one trace, from the request to the calls of Azure, and the counters count."""

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from checks import all_checks
from tests.end_to_end.monitor import Monitor, small_fleet
from tests.processes import wait_until

FLEET = ("aks-orders-weu", "aks-web-weu")


class Collector:
    """What receives OTLP over HTTP, and keeps it."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.counts: dict[str, dict[frozenset[tuple[str, str]], int]] = {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.take(self.path, body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, path: str, body: bytes) -> None:
        """Decode one export."""
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    self.spans.extend(scope.spans)
        if path == "/v1/metrics":
            for measured in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for metrics in measured.scope_metrics:
                    for metric in metrics.metrics:
                        self.counts[metric.name] = {
                            frozenset(
                                (label.key, label.value.string_value or str(label.value.int_value))
                                for label in point.attributes
                            ): point.as_int
                            for point in metric.sum.data_points
                        }


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A running collector."""
    running = Collector()
    yield running
    running.server.shutdown()
    running.server.server_close()


def test_a_scan_is_one_trace(tmp_path: Path, collector: Collector) -> None:
    """Every cluster's scan is below the scan, every call of Azure below one of them."""
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
    }
    with Monitor(tmp_path, small_fleet(tmp_path, *FLEET), env=env) as monitor:
        monitor.ask("health", key=None)
        scan = monitor.scan()
        calls = len(monitor.azure.requests())

        def all_there() -> bool:
            return [span.name for span in collector.spans].count("scan cluster") == len(FLEET)

        wait_until(all_there, "the spans", 20)
        wait_until(lambda: collector.counts.get("tunnelwatch.azure.requests"), "the counters", 20)
        wait_until(
            lambda: sum(collector.counts["tunnelwatch.azure.requests"].values()) == calls, "all calls", 20
        )
        # Counted last of all, and exported with the next interval.
        said = len(FLEET) * len(all_checks())
        wait_until(
            lambda: sum(collector.counts.get("tunnelwatch.check.outcomes", {}).values()) == said,
            "all outcomes",
            20,
        )

    (root,) = [span for span in collector.spans if span.name == "scan"]
    within = [span for span in collector.spans if span.trace_id == root.trace_id]
    by_id = {span.span_id: span for span in within}
    clusters = [span for span in within if span.name == "scan cluster"]
    assert len(clusters) == len(FLEET)
    assert {span.parent_span_id for span in clusters} == {root.span_id}
    labels = {label.key: label.value.string_value for label in clusters[0].attributes}
    assert labels["tunnelwatch.scan"] == scan["id"]
    azure = [
        span
        for span in within
        if any(
            label.key in {"http.url", "url.full"}
            and label.value.string_value.startswith(
                (f"{monitor.azure.url}/subscriptions", f"{monitor.azure.url}/metrics")
            )
            for label in span.attributes
        )
    ]
    assert len(azure) == calls
    for span in azure:
        above = span
        while above.parent_span_id in by_id and above is not root:
            above = by_id[above.parent_span_id]
        assert above is root

    outcomes = collector.counts["tunnelwatch.check.outcomes"]
    check = ("check", "nsg-kubelet-port")
    assert outcomes == {
        frozenset({check, ("outcome", "fail")}): 1,
        frozenset({check, ("outcome", "pass")}): 1,
        **{
            frozenset({("check", passed), ("outcome", "pass")}): 2
            for passed in ("egress-tunnel-port", "snat-exhaustion", "snat-capacity")
        },
        **{
            frozenset({("check", probed), ("outcome", "unknown")}): 2
            for probed in ("kubelet-reachability", "ufw-kubelet-port", "iptables-kubelet-port")
        },
    }
    requests = collector.counts["tunnelwatch.azure.requests"]
    assert {dict(labels)["status"] for labels in requests} == {"200"}
    assert {dict(labels)["provider"] for labels in requests} == {
        "microsoft.resources",
        "microsoft.containerservice",
        "microsoft.compute",
        "microsoft.insights",
        "microsoft.network",
    }


def test_a_collector_that_is_away_disturbs_nothing(tmp_path: Path) -> None:
    """Telemetry goes nowhere, and the scan is as quick and as right as ever."""
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    with Monitor(tmp_path, small_fleet(tmp_path, *FLEET), env=env) as monitor:
        assert monitor.scan()["done"] == len(FLEET)
        assert len(monitor.findings()) == 1


def test_log_lines_name_scan_and_cluster(tmp_path: Path) -> None:
    """Whoever reads the log can tell whose line it is."""
    with Monitor(tmp_path, small_fleet(tmp_path, *FLEET)) as monitor:
        scan = monitor.scan()["id"]
        log = monitor.host.log_text()
        for cluster in monitor.clusters().values():
            assert f"scan={scan} cluster={cluster['key']} recorded: " in log
