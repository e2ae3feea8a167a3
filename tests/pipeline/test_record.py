"""Recording in real Table Storage (Azurite): once, whole, whoever else writes and wherever it is cut."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.data.tables.aio import TableServiceClient
from msgspec import structs

from facts.finding import CheckResult, ClusterRef, Fault, Finding, Outcome, Reason, Severity, Status
from facts.times import timestamp
from pipeline import retention, scans
from pipeline.record import record, record_retired
from pipeline.report import FindingsQuery, query_findings
from pipeline.run import cluster_key, finding_id
from pipeline.scans import ClusterScan
from pipeline.store import FLEET, SCANS, Conflict, Store
from tests.processes import Azurite

CLUSTER = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/aks-one"
KEY = cluster_key(CLUSTER)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
async def store(azurite: Azurite) -> AsyncIterator[Store]:
    """Storage without any of our tables."""
    async with TableServiceClient.from_connection_string(azurite.connection_string) as service:
        for table in (FLEET, SCANS):
            await service.delete_table(table)
        yield Store(service)


def message(minutes: int = 0) -> ClusterScan:
    """A message of a scan that started some minutes after noon."""
    return ClusterScan(
        schema=1,
        scan_id=f"{(NOW + timedelta(minutes=minutes)).strftime('%Y%m%dT%H%M%SZ')}-0123abcd",
        cluster_id=CLUSTER,
        reason="schedule",
    )


def finding(of: ClusterScan, number: int, **changes: Any) -> Finding:
    """One finding of a scan."""
    at = timestamp(scans.started(of.scan_id))
    fault = Fault(
        subject=f"/rule-{number}", title="t", detail="d", resource="/r", evidence={}, remediation=()
    )
    made = Finding(
        id=finding_id(CLUSTER, "a-check", fault.subject),
        check="a-check",
        cause=1,
        severity=Severity.CRITICAL,
        status=Status.OPEN,
        cluster=ClusterRef(
            id=CLUSTER, name="aks-one", subscription_id="s", resource_group="rg", location="x"
        ),
        title=fault.title,
        detail=fault.detail,
        resource=fault.resource,
        evidence=fault.evidence,
        affects=("logs",),
        remediation=(),
        confidence="derived",
        first_seen=at,
        last_seen=at,
        opened_at=at,
        scan_id=of.scan_id,
    )
    return structs.replace(made, **changes)


def failing(of: ClusterScan, *numbers: int) -> tuple[CheckResult, ...]:
    """A scan that found these faults; or that all is well."""
    found = tuple(finding(of, number) for number in numbers)
    return (CheckResult(check="a-check", outcome=Outcome.FAIL if found else Outcome.PASS, findings=found),)


async def save(store: Store, of: ClusterScan, results: tuple[CheckResult, ...]) -> None:
    """Record a scan's results."""
    now = scans.started(of.scan_id)
    await record(store, of, results, cluster=None, now=now, began=now)


async def everything(store: Store) -> dict[str, Finding]:
    """Every finding that is stored."""
    _, found = await query_findings(store, FindingsQuery(status="all", limit=1000))
    return {one.id: one for one in found}


async def test_nothing_is_there_at_first(store: Store) -> None:
    """Tables that do not exist are empty, for whoever asks."""
    assert await store.cluster(KEY) is None
    assert await store.open_findings(KEY) == {}
    assert await everything(store) == {}
    assert await scans.load_summary(store, message().scan_id) is None


async def test_more_findings_than_a_transaction_takes(store: Store) -> None:
    """150 findings with their history are 300 entities; all are there, and once."""
    first = message()
    await save(store, first, failing(first, *range(150)))
    await save(store, first, failing(first, *range(150)))
    found = await everything(store)
    assert len(found) == 150
    assert {one.occurrences for one in found.values()} == {1}
    second = message(15)
    await save(store, second, failing(second, *range(0, 150, 2)))
    found = await everything(store)
    assert sum(one.status is Status.OPEN for one in found.values()) == 75
    for one in list(found.values())[:5]:
        steps = await store.history(one.id)
        assert [step.number for step in steps] == list(range(1, len(steps) + 1))
        assert steps[-1].status == one.status


async def test_a_worker_that_dies_between_transactions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message comes back, the rest is stored, and nothing counts twice."""
    first = message()
    transact, done = Store._transact, 0

    async def dying(self: Store, operations: list[Any]) -> None:
        nonlocal done
        done += 1
        if done == 3:
            raise ConnectionError("gone")
        await transact(self, operations)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_transact", dying)
        with pytest.raises(ConnectionError):
            await save(store, first, failing(first, *range(150)))
    assert 0 < len(await everything(store)) < 150
    assert await store.cluster(KEY) is None, "the cluster's row comes last"
    await save(store, first, failing(first, *range(150)))
    found = await everything(store)
    assert len(found) == 150
    assert {one.occurrences for one in found.values()} == {1}


@pytest.mark.parametrize("workers", [2, 5])
async def test_workers_that_meet_on_one_message(store: Store, workers: int) -> None:
    """A message whose lease ran out is worked on twice at once: it is recorded once."""
    first = message()
    await asyncio.gather(*(save(store, first, failing(first, 1, 2)) for _ in range(workers)))
    found = await everything(store)
    assert {one.occurrences for one in found.values()} == {1}
    assert [len(await store.history(one)) for one in found] == [1, 1]


async def test_scans_that_meet_on_one_cluster(store: Store) -> None:
    """Scans of different times at once: the later one's word stands, and no state is half of each."""
    messages = [message(minutes) for minutes in range(4)]
    outcomes = await asyncio.gather(
        *(save(store, one, failing(one, number)) for number, one in enumerate(messages)),
        return_exceptions=True,
    )
    assert [o for o in outcomes if o is not None and not isinstance(o, Conflict)] == []
    state = await store.cluster(KEY)
    assert state is not None
    assert state.value.last_scan.id == messages[-1].scan_id
    (open_one,) = (await store.open_findings(KEY)).values()
    assert open_one.value.id == finding(messages[-1], 3).id
    for one in await everything(store):
        steps = [step.status for step in await store.history(one)]
        assert steps == [Status.OPEN, Status.RESOLVED][: len(steps)]


async def test_an_older_scan_changes_nothing(store: Store) -> None:
    """A message that comes late, after a newer scan, is done."""
    await save(store, message(15), failing(message(15)))
    await save(store, message(), failing(message(), 1))
    assert await everything(store) == {}


@pytest.mark.filterwarnings("ignore:Sending a large body")
async def test_large_evidence_comes_back_whole(store: Store) -> None:
    """A property holds 64 KiB; a finding may be larger."""
    first = message()
    big = finding(first, 1, evidence={"raw": "ü" * 200_000})
    result = CheckResult(check="a-check", outcome=Outcome.FAIL, findings=(big,))
    await save(store, first, (result,))
    assert (await everything(store))[big.id].evidence == big.evidence


async def test_unknown_keeps_what_is_known(store: Store) -> None:
    """Not even the cluster could be read: the finding stays and says that it is unconfirmed."""
    await save(store, message(), failing(message(), 1))
    denied = Reason(code="permission_denied", message="m")
    unknown = CheckResult(check="a-check", outcome=Outcome.UNKNOWN, reasons=(denied,))
    await save(store, message(15), (unknown,))
    (one,) = (await everything(store)).values()
    assert (one.status, one.occurrences, one.unconfirmed) == (Status.OPEN, 1, denied)


async def test_retiring_twice_changes_nothing(store: Store) -> None:
    """A deleted cluster is retired once, and a cluster that nobody knew not at all."""
    await record_retired(store, message(), status="deleted", now=NOW)
    assert await store.cluster(KEY) is None
    await save(store, message(), failing(message(), 1))
    for _ in range(2):
        await record_retired(store, message(15), status="deleted", now=NOW)
    (one,) = (await everything(store)).values()
    assert (one.status, one.resolution) == (Status.RESOLVED, "cluster_deleted")
    assert len(await store.history(one.id)) == 2


async def test_what_is_old_is_forgotten_and_what_is_open_is_not(store: Store) -> None:
    """Retention takes resolved findings with their history, retired clusters and old scans."""
    await save(store, message(), failing(message(), 1, 2))
    await save(store, message(15), failing(message(15), 1))
    for minutes in (0, 15):
        await scans.mark(store, message(minutes), KEY, failed=False, unknown=False)
    await scans.keep_poison(store, "body", "why", NOW)
    before = await everything(store)
    await retention.prune(store, days=30, now=NOW + timedelta(days=29))
    assert await everything(store) == before

    await store.put_scan({"PartitionKey": "meta", "RowKey": "retention", "At": NOW})
    await retention.prune(store, days=30, now=NOW + timedelta(days=31))
    (left,) = (await everything(store)).values()
    assert left.id == finding(message(), 1).id
    assert await store.history(finding(message(), 2).id) == []
    assert await store.cluster(KEY) is not None
    for partition in (message().scan_id, "poison"):
        rows = [row async for row in store.scans.query_entities(f"PartitionKey eq '{partition}'")]
        assert rows == []

    await record_retired(store, message(30), status="unwatched", now=NOW)
    await store.put_scan({"PartitionKey": "meta", "RowKey": "retention", "At": NOW})
    await retention.prune(store, days=30, now=NOW + timedelta(days=61))
    assert await everything(store) == {}
    assert await store.cluster(KEY) is None


async def test_pruning_waits_for_the_next_day(store: Store) -> None:
    """It looks at everything there is, so it is made once a day."""
    await save(store, message(), failing(message(), 1))
    await save(store, message(15), failing(message(15)))
    later = NOW + timedelta(days=100)
    await store.put_scan({"PartitionKey": "meta", "RowKey": "retention", "At": later - timedelta(hours=1)})
    await retention.prune(store, days=30, now=later)
    assert len(await everything(store)) == 1


def test_the_azurite_of_the_tests_is_not_that_of_make_run(azurite: Azurite, tmp_path: Path) -> None:
    """The tests above delete tables."""
    assert azurite.ports["table"] != 10002
    assert not list(tmp_path.iterdir())
