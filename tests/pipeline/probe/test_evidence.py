"""Looks at nodes in real Table Storage (Azurite), and the lease that keeps two scans apart."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.data.tables.aio import TableServiceClient

from pipeline import retention
from pipeline.probe import evidence
from pipeline.probe.evidence import Look
from pipeline.store import PROBES, Store
from tests import snapshots as make
from tests.processes import Azurite

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def store(azurite: Azurite) -> AsyncIterator[Store]:
    """Storage without the table."""
    async with TableServiceClient.from_connection_string(azurite.connection_string) as service:
        await service.delete_table(PROBES)
        yield Store(service)


def a_look(number: int, *, scan: str = "scan-1", rules: int = 0, at: datetime = NOW) -> Look:
    """A look at a node whose iptables has so many rules, no two alike."""
    lines = "\n".join(f"-A INPUT -s 10.{n % 251}.{n % 241}.{n % 239} -j DROP" for n in range(rules))
    report = make.report("pool", number, dumps={"iptables-nft-save": lines}, reach="10.240.0.9:timeout")
    return Look(machine_id=report.machine_id, at=at, scan_id=scan, report=report)


async def test_a_look_comes_back_as_it_was(store: Store) -> None:
    """The latest of each node, whatever case its id is written in; of other clusters nothing."""
    assert await evidence.load(store, "aks-1") == {}
    first, long = a_look(1), a_look(2, rules=20_000)
    missing = make.unprobed("pool", 3)
    unseen = Look(machine_id=missing.resource_id, at=NOW, scan_id="scan-1", missing=missing)
    for look in (first, long, unseen):
        await evidence.save(store, "aks-1", look)
    await evidence.save(store, "aks-2", a_look(9))
    found = await evidence.load(store, "aks-1")
    assert found == {look.machine_id.lower(): look for look in (first, long, unseen)}
    again = Look(machine_id=first.machine_id.upper(), at=NOW + MINUTE, scan_id="scan-2", missing=missing)
    await evidence.save(store, "aks-1", again)
    assert (await evidence.load(store, "aks-1"))[first.machine_id.lower()] == again


async def test_what_is_gone_is_forgotten(store: Store) -> None:
    """And dropping what is not there is no error."""
    await evidence.save(store, "aks-1", a_look(1))
    await evidence.save(store, "aks-1", a_look(2))
    await evidence.forget(store, "aks-1", [a_look(1).machine_id, a_look(7).machine_id])
    assert list(await evidence.load(store, "aks-1")) == [a_look(2).machine_id.lower()]


async def test_a_report_too_long_to_be_kept_is_told(store: Store) -> None:
    """It is no look at nothing: the node is one that could not be seen."""
    text = random.Random(1).randbytes(1_000_000).hex()  # noqa: S311 - nothing secret
    report = make.report("pool", 1, dumps={"nft": text})
    await evidence.save(
        store, "aks-1", Look(machine_id=report.machine_id, at=NOW, scan_id="s", report=report)
    )
    [kept] = (await evidence.load(store, "aks-1")).values()
    assert kept.report is None
    assert kept.missing is not None
    assert kept.missing.reason.code == "too_long"


async def test_one_scan_probes_at_a_time(store: Store) -> None:
    """Until it ends, or its time is over; a message that comes twice meanwhile waits like any other."""

    async def take(scan: str, minutes: int) -> str | None:
        return await evidence.take_lease(store, "aks-1", scan, now=NOW + minutes * MINUTE, lasting=3 * MINUTE)

    first = await take("scan-1", 0)
    assert first
    assert not await take("scan-2", 1)
    assert not await take("scan-1", 1)
    second = await take("scan-2", 5)
    assert second, "the first died"
    await evidence.end_lease(store, "aks-1", first, now=NOW + 5 * MINUTE)
    assert not await take("scan-3", 6), "the second's lease is not the first's to end"
    await evidence.end_lease(store, "aks-1", second, now=NOW + 6 * MINUTE)
    assert await take("scan-3", 7)
    assert await evidence.take_lease(store, "aks-2", "scan-9", now=NOW, lasting=MINUTE), "another cluster"


async def test_a_row_that_cannot_be_read_blinds_nobody(store: Store) -> None:
    """Of another version, or damaged: that node counts as not seen, and the others are."""
    for number in range(1, 5):
        await evidence.save(store, "aks-1", a_look(number))
    rows = [row async for row in store.probes.list_entities()]
    changes: list[dict[str, Any]] = [{"Piece0": b"x"}, {"Pieces": 7}, {"Machine": ""}, {}]
    for row, change in zip(rows, changes, strict=True):
        await store.probes.upsert_entity({**row, **change})
    found = await evidence.load(store, "aks-1")
    assert (
        sorted(look.missing.reason.code for look in found.values() if look.missing)
        == ["malformed_answer"] * 2
    )
    assert sum(look.report is not None for look in found.values()) == 1


async def test_of_many_who_want_the_lease_one_has_it(store: Store) -> None:
    """Whoever writes first, at the first time and after."""
    for start in (NOW, NOW + timedelta(hours=1)):
        got = await asyncio.gather(
            *(
                evidence.take_lease(store, "aks-1", f"scan-{number}", now=start, lasting=MINUTE)
                for number in range(8)
            )
        )
        assert sum(token is not None for token in got) == 1


async def test_looks_of_long_ago_are_deleted(store: Store) -> None:
    """With the scans of their time."""
    await evidence.save(store, "aks-1", a_look(1, at=NOW - timedelta(days=30)))
    await evidence.save(store, "aks-1", a_look(2, at=NOW))
    await store.put_scan({"PartitionKey": "meta", "RowKey": "retention", "At": NOW - timedelta(days=9)})
    await retention.prune(store, days=90, now=NOW)
    assert list(await evidence.load(store, "aks-1")) == [a_look(2).machine_id.lower()]
