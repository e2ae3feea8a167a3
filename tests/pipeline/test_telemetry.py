"""Log lines that name their scan, and telemetry that is nothing while nobody asked for it."""

import asyncio
import logging

import pytest

from pipeline import telemetry


def test_lines_name_the_scan_and_the_cluster(caplog: pytest.LogCaptureFixture) -> None:
    """Within `bound`, and no longer."""
    caplog.set_level(logging.INFO, "tunnelwatch")
    telemetry.log.info("before")
    with telemetry.bound(scan="s1"):
        telemetry.log.info("found %d", 3)
        with telemetry.bound(scan="s1", cluster="c1"):
            telemetry.log.info("recorded")
        telemetry.log.info("again")
    telemetry.log.info("after")
    assert [record.getMessage() for record in caplog.records] == [
        "before",
        "scan=s1 found 3",
        "scan=s1 cluster=c1 recorded",
        "scan=s1 again",
        "after",
    ]


def test_an_error_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    """The name goes with the block, however that ends."""
    with pytest.raises(ZeroDivisionError), telemetry.bound(scan="s1"):
        raise ZeroDivisionError
    telemetry.log.warning("after")
    assert [record.getMessage() for record in caplog.records] == ["after"]


async def test_clusters_side_by_side_keep_their_names(caplog: pytest.LogCaptureFixture) -> None:
    """Each task has its own."""
    caplog.set_level(logging.INFO, "tunnelwatch")

    async def scan(name: str) -> None:
        with telemetry.bound(scan="s1", cluster=name):
            for _ in range(3):
                await asyncio.sleep(0)
                telemetry.log.info("%s", name)

    await asyncio.gather(scan("a"), scan("b"))
    lines = [record.getMessage() for record in caplog.records]
    assert sorted(lines) == ["scan=s1 cluster=a a"] * 3 + ["scan=s1 cluster=b b"] * 3


def test_without_an_endpoint_nothing_is_traced() -> None:
    """Spans and counters are there to be called, and do nothing."""
    telemetry.start("")
    with telemetry.span("scan", parent={"traceparent": "x"}, cluster="c"):
        telemetry.count_outcome("c", "pass")
        telemetry.count_azure_request("https://management.azure.com/", 200)
    assert telemetry.trace_context() == {}
