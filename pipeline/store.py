"""Azure Table Storage: how findings, clusters and scans lie there, and how they change together.

Table `tunnelwatch`, partition `fleet`, holds everything whose changes belong together, so
that one transaction covers a cluster's outcome, its findings and their history. Row keys
put what is read together side by side, and a query is one range:

    cluster:{cluster key}                      a cluster with the outcomes of its last scan
    finding:open:{cluster key}.{digest}        findings, moved from one status to the other
    finding:resolved:{cluster key}.{digest}
    history:{finding id}:{number}              the transitions of a finding

One partition takes 2,000 entities a second
(https://learn.microsoft.com/azure/storage/tables/scalability-targets), which is some 200
clusters scanned each second.

Table `tunnelwatchscans` holds what is known of scans: partition `scan` a summary each,
newest first; partition `{scan id}` a row for each cluster that is through; partition
`poison` the messages that were given up; partition `alert` the alerts that were taken in.

Table `tunnelwatchprobes` is `pipeline.probe.evidence`'s.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient, TableServiceClient
from msgspec import Struct

from facts.finding import ClusterRef, Finding, Outcome, Reason, Status
from pipeline.lifecycle import Change, Transition

FLEET = "tunnelwatch"
SCANS = "tunnelwatchscans"
PROBES = "tunnelwatchprobes"
_PARTITION = "fleet"
_CHUNK = 30_000
"""Characters of a document in one property: a string property holds 32 Ki UTF-16 units."""
_ENTITY = 20 * _CHUNK
"""Characters of a document in one entity, which may have 1 MiB."""
_OPERATIONS = 100
_BYTES = 3_000_000
"""A transaction takes 100 operations and 4 MiB."""
_REQUESTS = 10
"""Requests that one page of a query may take: the service may answer a filter with empty pages."""

_CHANGED = frozenset({404, 409, 412})
"""What a guarded write meets where somebody else was first: moved away, made already, changed."""

CLUSTERS = ("PartitionKey eq 'fleet'", "RowKey ge 'cluster:'", "RowKey lt 'cluster;'")
"""The filters that are the range of all clusters."""

Operation = tuple[str, dict[str, Any], dict[str, Any]]
Token = Mapping[str, str | None]


class Conflict(Exception):  # noqa: N818 - not an error of the caller's: read again and decide anew
    """Somebody else changed the same entities first."""


class CheckState(Struct, frozen=True, kw_only=True, rename="camel"):
    """What the last scan said of one check."""

    check: str
    outcome: Outcome
    reasons: tuple[Reason, ...] = ()
    findings: tuple[str, ...] = ()
    """The ids of what it found."""
    evidence: dict[str, Any] | None = None
    """What it observed, whatever the outcome."""


class LastScan(Struct, frozen=True, kw_only=True, rename="camel"):
    """The scan that a cluster's outcomes come from."""

    id: str
    at: str
    """UTC, ISO 8601: when the cluster was read."""
    reason: str
    duration: str
    """ISO 8601: how long reading and judging took."""


class ClusterState(Struct, frozen=True, kw_only=True, rename="camel"):
    """A cluster with the outcome of every check."""

    key: str
    cluster: ClusterRef
    node_resource_group: str = ""
    kubernetes_version: str = ""
    status: Literal["active", "deleted", "unwatched"] = "active"
    outcome: Outcome
    """The gravest of its checks' outcomes: fail, unknown, pass, not_applicable; but for those of probes that
    are switched off."""
    checks: tuple[CheckState, ...]
    last_scan: LastScan
    first_seen: str
    retired_at: str | None = None
    """When it was found to be deleted, or its subscription no longer watched."""


class Stored[T](Struct, frozen=True):
    """What an entity held when it was read, with what is needed to change it only if it still does."""

    value: T
    etag: str
    entity: Mapping[str, Any]


class Page(Struct, frozen=True):
    """Entities of a query, with the service's token for going on."""

    entities: tuple[Mapping[str, Any], ...]
    token: Token | None


class Store:
    """The three tables. They are made when something is first written to them."""

    def __init__(self, service: TableServiceClient) -> None:
        self._service = service
        self.fleet = service.get_table_client(FLEET)
        self.scans = service.get_table_client(SCANS)
        self.probes = service.get_table_client(PROBES)

    # --- reading -----------------------------------------------------------------------------

    async def cluster(self, key: str) -> Stored[ClusterState] | None:
        """A cluster's last known state."""
        return await self._read(f"cluster:{key}", ClusterState)

    async def finding(self, finding_id: str) -> Stored[Finding] | None:
        """A finding in whatever status it is."""
        for status in Status:
            found = await self._read(f"finding:{status}:{finding_id}", Finding)
            if found is not None:
                return found
        return None

    async def resolved_finding(self, finding_id: str) -> Stored[Finding] | None:
        """A finding, if it was found before and is resolved."""
        return await self._read(f"finding:{Status.RESOLVED}:{finding_id}", Finding)

    async def open_findings(self, key: str) -> dict[str, Stored[Finding]]:
        """The open findings of a cluster, by id."""
        start = f"finding:{Status.OPEN}:{key}."
        return {stored.value.id: stored async for stored in self._range(start, start[:-1] + "/", Finding)}

    async def history(self, finding_id: str) -> list[Transition]:
        """The transitions of a finding, oldest first."""
        start = f"history:{finding_id}:"
        return [stored.value async for stored in self._range(start, start[:-1] + ";", Transition)]

    async def query(
        self,
        table: TableClient,
        filters: Sequence[str],
        parameters: Mapping[str, Any],
        *,
        limit: int,
        token: Token | None = None,
        select: Sequence[str] | None = None,
    ) -> Page:
        """One page of a query: at most `limit` entities; fewer at the end, or where filters match rarely."""
        found: list[Mapping[str, Any]] = []
        for _ in range(_REQUESTS):
            pages = table.query_entities(
                " and ".join(filters),
                parameters=dict(parameters),
                results_per_page=min(limit - len(found), 1000),
                select=list(select) if select else None,
            ).by_page(continuation_token=dict(token) if token else None)  # type: ignore[arg-type]
            try:
                found.extend([entity async for entity in await anext(pages)])
            except (StopAsyncIteration, ResourceNotFoundError):
                return Page(tuple(found), None)
            token = pages.continuation_token  # type: ignore[attr-defined]
            if not token or len(found) >= limit:
                break
        return Page(tuple(found), token or None)

    async def every(
        self,
        table: TableClient,
        filters: Sequence[str],
        parameters: Mapping[str, Any],
        *,
        select: Sequence[str],
    ) -> AsyncIterator[Mapping[str, Any]]:
        """The entities of a query, through all its pages."""
        token: Token | None = None
        while True:
            page = await self.query(table, filters, parameters, limit=1000, token=token, select=select)
            for entity in page.entities:
                yield entity
            token = page.token
            if not token:
                return

    async def _read[T](self, row: str, kind: type[T]) -> Stored[T] | None:
        try:
            entity = await self.fleet.get_entity(_PARTITION, row)
        except ResourceNotFoundError:
            return None
        return stored(entity, kind)

    async def _range[T](self, start: str, end: str, kind: type[T]) -> AsyncIterator[Stored[T]]:
        entities = self.fleet.query_entities(
            "PartitionKey eq @partition and RowKey ge @start and RowKey lt @end",
            parameters={"partition": _PARTITION, "start": start, "end": end},
        )
        try:
            async for entity in entities:
                yield stored(entity, kind)
        except ResourceNotFoundError:
            return

    # --- writing -----------------------------------------------------------------------------

    async def commit(
        self,
        changes: Iterable[Change],
        before: Mapping[str, Stored[Finding]],
        cluster: ClusterState,
        cluster_before: Stored[ClusterState] | None,
        recent_scans: Sequence[str],
    ) -> None:
        """Store a cluster's scan: its findings with their history, and last its own state.

        All in one transaction, unless there are more changes than one takes; then the cluster's
        state comes with the last, so that a scan cut short is run again. Raises `Conflict` if
        anything changed since it was read.
        """
        groups = [_finding_operations(change, before.get(change.finding.id)) for change in changes]
        groups.append([_cluster_operation(cluster, cluster_before, recent_scans)])
        chunk: list[Operation] = []
        size = 0
        for group in groups:
            weight = sum(_size(operation) for operation in group)
            if chunk and (len(chunk) + len(group) > _OPERATIONS or size + weight > _BYTES):
                await self._transact(chunk)
                chunk, size = [], 0
            chunk += group
            size += weight
        await self._transact(chunk)

    async def _transact(self, operations: list[Operation]) -> None:
        for made in (False, True):
            try:
                await self.fleet.submit_transaction(operations)
            except HttpResponseError as error:
                if not made and no_table(error):
                    await self._service.create_table_if_not_exists(FLEET)
                elif error.status_code in _CHANGED:
                    raise Conflict(str(error)) from error
                else:
                    raise
            else:
                return

    async def put_scan(self, entity: Mapping[str, Any]) -> None:
        """Write a row about scans, over whatever was there."""
        try:
            await self.scans.upsert_entity(dict(entity), mode=UpdateMode.REPLACE)
        except ResourceNotFoundError:
            await self._service.create_table_if_not_exists(SCANS)
            await self.scans.upsert_entity(dict(entity), mode=UpdateMode.REPLACE)

    async def add_scan(self, entity: Mapping[str, Any]) -> bool:
        """Write a row about scans if there is none; says whether it did."""
        try:
            await self.scans.create_entity(dict(entity))
        except ResourceExistsError:
            return False
        except ResourceNotFoundError:
            await self._service.create_table_if_not_exists(SCANS)
            return await self.add_scan(entity)
        return True

    async def make_probes(self) -> None:
        """Make the table of probes."""
        await self._service.create_table_if_not_exists(PROBES)

    async def get_scan(self, partition: str, row: str) -> Mapping[str, Any] | None:
        """A row about scans."""
        try:
            return await self.scans.get_entity(partition, row)
        except ResourceNotFoundError:
            return None


def stored[T](entity: Mapping[str, Any], kind: type[T]) -> Stored[T]:
    """The value that an entity holds."""
    return Stored(
        msgspec.json.decode(document(entity), type=kind),
        str(getattr(entity, "metadata", {}).get("etag", "")),
        entity,
    )


def document(entity: Mapping[str, Any]) -> str:
    """The JSON document of an entity, put together again."""
    return "".join(str(entity[f"Doc{i}"]) for i in range(int(entity.get("Docs") or 0)))


def document_columns(value: Any) -> dict[str, Any]:
    """The columns that a value's JSON takes; raises `ValueError` if it does not fit an entity."""
    text = msgspec.json.encode(value).decode()
    if len(text) > _ENTITY:
        raise ValueError(f"a document of {len(text)} characters does not fit an entity")
    pieces = [text[i : i + _CHUNK] for i in range(0, len(text), _CHUNK)]
    return {"Docs": len(pieces), **{f"Doc{i}": piece for i, piece in enumerate(pieces)}}


def moment(text: str) -> datetime:
    """A time as the service compares it; without a zone it is UTC. Raises `ValueError`.

    Tables know times from 1601 on (https://learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model).
    """
    time = datetime.fromisoformat(text)
    try:
        time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except OverflowError as error:
        raise ValueError(text) from error
    if time.year < 1601:
        raise ValueError(text)
    return time


def no_table(error: HttpResponseError) -> bool:
    """Whether an error says that the table itself is not there (yet)."""
    return "TableNotFound" in f"{getattr(error, 'error_code', '')} {error}"


def _size(operation: Operation) -> int:
    return sum(len(value) if isinstance(value, str) else 16 for value in operation[1].values()) * 2


def _finding_operations(change: Change, before: Stored[Finding] | None) -> list[Operation]:
    finding = change.finding
    history = int(before.entity.get("Transitions") or 0) if before else 0
    if change.transition is not None:
        history = change.transition.number
    entity = {
        "PartitionKey": _PARTITION,
        "RowKey": f"finding:{finding.status}:{finding.id}",
        "Cluster": finding.id.rsplit(".", 1)[0],
        "ClusterId": finding.cluster.id.lower(),
        "ClusterName": finding.cluster.name.lower(),
        "Subscription": finding.cluster.subscription_id.lower(),
        "Check": finding.check,
        "Cause": finding.cause,
        "Severity": str(finding.severity),
        "LastSeen": moment(finding.last_seen),
        "Muted": finding.muted is not None,
        "Transitions": history,
        **document_columns(finding),
    }
    if finding.resolved_at:
        entity["ResolvedAt"] = moment(finding.resolved_at)
    operations: list[Operation] = []
    if before is None:
        operations.append(("create", entity, {}))
    elif before.value.status == finding.status:
        operations.append(("update", entity, {"mode": UpdateMode.REPLACE, **_unchanged(before)}))
    else:
        old = {"PartitionKey": _PARTITION, "RowKey": before.entity["RowKey"]}
        operations.append(("delete", old, _unchanged(before)))
        operations.append(("upsert", entity, {"mode": UpdateMode.REPLACE}))
    if change.transition is not None:
        row = {
            "PartitionKey": _PARTITION,
            "RowKey": f"history:{finding.id}:{change.transition.number:08d}",
            "At": moment(change.transition.at),
            **document_columns(change.transition),
        }
        operations.append(("upsert", row, {"mode": UpdateMode.REPLACE}))
    return operations


def _cluster_operation(
    state: ClusterState, before: Stored[ClusterState] | None, recent_scans: Sequence[str]
) -> Operation:
    entity = {
        "PartitionKey": _PARTITION,
        "RowKey": f"cluster:{state.key}",
        "ClusterId": state.cluster.id.lower(),
        "Subscription": state.cluster.subscription_id.lower(),
        "NodeResourceGroup": _node_group_id(state),
        "Status": state.status,
        "Outcome": str(state.outcome),
        "LastScanAt": moment(state.last_scan.at),
        "RecentScans": " ".join(recent_scans),
        **document_columns(state),
    }
    if before is None:
        return ("create", entity, {})
    return ("update", entity, {"mode": UpdateMode.REPLACE, **_unchanged(before)})


def _node_group_id(state: ClusterState) -> str:
    if not state.node_resource_group:
        return ""
    return (
        f"/subscriptions/{state.cluster.subscription_id}/resourcegroups/{state.node_resource_group}".lower()
    )


def _unchanged(before: Stored[Any]) -> dict[str, Any]:
    return {"etag": before.etag, "match_condition": MatchConditions.IfNotModified}
