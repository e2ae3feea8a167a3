"""Traces, counters and log lines.

With `OTEL_EXPORTER_OTLP_ENDPOINT` set, spans and metrics go there (OTLP over HTTP),
configured further by OpenTelemetry's own environment variables; without it nothing
of OpenTelemetry is even imported. One scan is one trace: the queue message carries
its W3C context into each cluster's scan, and the Azure SDK puts its calls below.
"""

import contextlib
import logging
import re
from collections.abc import Iterator, MutableMapping
from contextvars import ContextVar
from typing import Any

from msgspec import Struct

_PROVIDER = re.compile(r"/providers/([^/?]+)", re.IGNORECASE)
_bound: ContextVar[str] = ContextVar("tunnelwatch_log", default="")


class _Instruments(Struct, frozen=True):
    tracer: Any
    propagator: Any
    outcomes: Any
    requests: Any


class _Telemetry(Struct):
    """What `start` made; empty until then, and for good where nothing is exported."""

    instruments: _Instruments | None = None


_telemetry = _Telemetry()


class _Log(logging.LoggerAdapter[logging.Logger]):
    """Puts the scan and the cluster at hand in front of each line."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return f"{_bound.get()}{msg}", kwargs


log = _Log(logging.getLogger("tunnelwatch"))


def start(otlp_endpoint: str) -> None:
    """Begin to export, once for a process; does nothing without an endpoint."""
    if not otlp_endpoint or _telemetry.instruments is not None:
        return
    from azure.core.settings import settings as azure_settings
    from opentelemetry import metrics, trace
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    resource = Resource({SERVICE_NAME: "tunnelwatch"}).merge(OTELResourceDetector().detect())
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    meters = MeterProvider(
        resource=resource, metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter())]
    )
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    azure_settings.tracing_enabled = True
    meter = meters.get_meter("tunnelwatch")
    _telemetry.instruments = _Instruments(
        tracer=tracers.get_tracer("tunnelwatch"),
        propagator=TraceContextTextMapPropagator(),
        outcomes=meter.create_counter(
            "tunnelwatch.check.outcomes", unit="{outcome}", description="Outcomes of checks, by check"
        ),
        requests=meter.create_counter(
            "tunnelwatch.azure.requests",
            unit="{request}",
            description="Requests to Azure, by provider and status",
        ),
    )


@contextlib.contextmanager
def span(name: str, parent: dict[str, str] | None = None, **attributes: Any) -> Iterator[None]:
    """Time a piece of work, below the given W3C context or the current one."""
    instruments = _telemetry.instruments
    if instruments is None:
        yield
        return
    context = instruments.propagator.extract(parent) if parent and parent.get("traceparent") else None
    labels = {f"tunnelwatch.{key}": value for key, value in attributes.items()}
    with instruments.tracer.start_as_current_span(name, context=context, attributes=labels):
        yield


def trace_context() -> dict[str, str]:
    """The current W3C context (`traceparent`, `tracestate`), to be carried in a message; else empty."""
    carrier: dict[str, str] = {}
    if _telemetry.instruments is not None:
        _telemetry.instruments.propagator.inject(carrier)
    return carrier


def count_outcome(check: str, outcome: str) -> None:
    """Count one check's outcome for one cluster."""
    if _telemetry.instruments is not None:
        _telemetry.instruments.outcomes.add(1, {"check": check, "outcome": outcome})


def count_azure_request(url: str, status: int) -> None:
    """Count one try of a request to Azure; status 0 where there was no answer."""
    if _telemetry.instruments is not None:
        found = _PROVIDER.findall(url)
        # The batch interface names no provider; its queries are of metrics.
        other = "microsoft.insights" if "/metrics:getbatch?" in url.lower() else "microsoft.resources"
        provider = found[-1].lower() if found else other
        _telemetry.instruments.requests.add(1, {"provider": provider, "status": status})


@contextlib.contextmanager
def bound(*, scan: str, cluster: str = "") -> Iterator[None]:
    """Name the scan and the cluster in every log line within."""
    words = f"scan={scan} cluster={cluster} " if cluster else f"scan={scan} "
    token = _bound.set(words)
    try:
        yield
    finally:
        _bound.reset(token)
