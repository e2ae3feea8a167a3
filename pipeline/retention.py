"""Forget what is older than the retention says, a bounded piece at a time.

What is deleted: resolved findings with their history, transitions of findings that live
on, retired clusters, what was known of scans, and what probes saw long ago. Open findings are
never touched.
"""

from datetime import datetime, timedelta
from typing import Any

from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.data.tables.aio import TableClient

from pipeline import telemetry
from pipeline.store import Store

_AT_ONCE = 500
"""Rows of each kind that one run deletes: the rest waits for the next run."""
_EVERY = timedelta(hours=20)
"""A run looks at every old row there is, so it is made about once a day."""
_SCAN_DAYS = 7
"""Days for which each cluster's row of a scan is kept; what it led to is in the findings."""


async def prune(store: Store, *, days: int, now: datetime) -> None:
    """Delete what is too old; a failure is logged and the next run goes on."""
    try:
        last = await store.get_scan("meta", "retention")
        if last and now - last["At"] < _EVERY:
            return
        deleted = await _prune(store, now - timedelta(days=days), now - timedelta(days=min(days, _SCAN_DAYS)))
        if not any(count >= _AT_ONCE for count in deleted.values()):
            await store.put_scan({"PartitionKey": "meta", "RowKey": "retention", "At": now})
        if any(deleted.values()):
            telemetry.log.info("retention: deleted %s", deleted)
    except AzureError as error:
        telemetry.log.warning("retention: will be tried again with the next scan: %s", error)


async def _prune(store: Store, cutoff: datetime, scans_cutoff: datetime) -> dict[str, int]:
    fleet = "PartitionKey eq 'fleet' and RowKey ge '{0}:' and RowKey lt '{0};' and "
    old = {"cutoff": cutoff}
    return {
        "findings": await _delete(
            store.fleet, fleet.format("finding:resolved") + "ResolvedAt lt @cutoff", old
        ),
        "transitions": await _delete(store.fleet, fleet.format("history") + "At lt @cutoff", old),
        "clusters": await _delete(
            store.fleet, fleet.format("cluster") + "Status ne 'active' and LastScanAt lt @cutoff", old
        ),
        "scans": await _delete(store.scans, "PartitionKey eq 'scan' and Timestamp lt @cutoff", old),
        "alerts": await _delete(store.scans, "PartitionKey eq 'alert' and Timestamp lt @cutoff", old),
        "poison": await _delete(store.scans, "PartitionKey eq 'poison' and At lt @cutoff", old),
        # Nodes that are still there are probed again and again; clusters go.
        "probes": await _delete(store.probes, "At lt @cutoff", {"cutoff": scans_cutoff}),
        # Partitions of scans begin with the digits of their year.
        "scanned": await _delete(
            store.scans,
            "PartitionKey ge '2' and PartitionKey lt @before",
            {"before": scans_cutoff.strftime("%Y%m%dT")},
        ),
    }


async def _delete(table: TableClient, rows: str, parameters: dict[str, Any]) -> int:
    """Delete up to `_AT_ONCE` rows; rows of one partition go together."""
    found: dict[str, list[str]] = {}
    count = 0
    try:
        async for entity in table.query_entities(
            rows, parameters=parameters, select=["PartitionKey", "RowKey"], results_per_page=_AT_ONCE
        ):
            found.setdefault(entity["PartitionKey"], []).append(entity["RowKey"])
            count += 1
            if count >= _AT_ONCE:
                break
    except ResourceNotFoundError:
        return 0
    for partition, keys in found.items():
        for start in range(0, len(keys), 100):
            await table.submit_transaction(
                [("delete", {"PartitionKey": partition, "RowKey": key}) for key in keys[start : start + 100]]
            )
    return count
