"""What queries cost in requests to storage, with a great many findings stored."""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from azure.data.tables.aio import TableServiceClient
from msgspec import structs

from bench.measure import Figure
from facts.finding import ClusterRef, Finding, Severity, Status
from pipeline.lifecycle import Change
from pipeline.report import FindingsQuery, query_findings
from pipeline.store import FLEET, Store, _finding_operations
from tests.processes import running_azurite


class _Count:
    """Counts requests, tries included."""

    def __init__(self) -> None:
        self.requests = 0

    def __call__(self, request: Any) -> None:  # noqa: ARG002 - the hook's signature is the SDK's
        """One more."""
        self.requests += 1


def figures(clusters: int, findings: int) -> Iterator[Figure]:
    """The first page of open findings, with most findings resolved."""
    with (
        tempfile.TemporaryDirectory() as directory,
        running_azurite(Path(directory)) as azurite,
    ):
        count, seconds = asyncio.run(_first_page(azurite.connection_string, clusters, findings))
    what = f"first page of open findings, {clusters:,} clusters, {findings:,} stored"
    yield Figure(f"{what}: storage requests", count, "", 2)
    yield Figure(f"{what}: time against Azurite", seconds * 1000, "ms")


async def _first_page(connection: str, clusters: int, findings: int) -> tuple[int, float]:
    counter = _Count()
    async with TableServiceClient.from_connection_string(connection, raw_request_hook=counter) as service:
        store = Store(service)
        await service.create_table_if_not_exists(FLEET)
        each = findings // clusters
        operations = []
        for number in range(clusters):
            for place in range(each):
                finding = _finding(number, place)
                if place:
                    finding = structs.replace(finding, status=Status.RESOLVED, resolved_at=finding.last_seen)
                operations += _finding_operations(Change(finding=finding, before=None, transition=None), None)
        for start in range(0, len(operations), 100):
            await store.fleet.submit_transaction(operations[start : start + 100])
        counter.requests = 0
        begun = time.perf_counter()
        _, page = await query_findings(store, FindingsQuery(limit=1000))
        seconds = time.perf_counter() - begun
        if len(page) != min(1000, clusters) or not counter.requests:
            raise AssertionError(f"{len(page)} findings on the first page, {counter.requests} requests")
        return counter.requests, seconds


def _finding(number: int, place: int) -> Finding:
    name = f"aks-{number:05d}"
    return Finding(
        id=f"{name}-0123456789.{place:016x}",
        check="nsg-kubelet-port",
        cause=1,
        severity=Severity.CRITICAL,
        status=Status.OPEN,
        cluster=ClusterRef(
            id=f"/subscriptions/s/resourceGroups/g/providers/x/managedClusters/{name}",
            name=name,
            subscription_id="s",
            resource_group="g",
            location="westeurope",
        ),
        title="x" * 100,
        detail="x" * 400,
        resource="x" * 200,
        evidence={"rule": "x" * 400},
        affects=("logs", "exec"),
        remediation=(),
        confidence="derived",
        first_seen="2026-01-01T00:00:00Z",
        last_seen="2026-01-01T00:00:00Z",
        opened_at="2026-01-01T00:00:00Z",
        scan_id="20260101T000000Z-00000000",
    )
