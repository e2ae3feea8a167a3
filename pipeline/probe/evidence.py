"""What probes brought back, kept from one round to the next, and who may probe a cluster now.

Table `tunnelwatchprobes`, a partition for each cluster: row `node:{digest of the machine's id}` holds
the latest look at a node, its report or why there is none, compressed; row `lease` says which scan is
probing the cluster's nodes, so that no two do.
"""

import hashlib
import secrets
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from azure.core import MatchConditions
from azure.core.exceptions import (
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.data.tables import UpdateMode
from msgspec import Struct

from facts.filters import Missing
from facts.finding import Reason
from facts.probes import NodeReport
from facts.resource_id import key
from pipeline.store import Store, no_table

_PIECE = 60_000
"""Bytes in one property, which may have 64 KiB."""
_PIECES = 12
"""Properties that a report may take: an entity may have 1 MiB."""
_LEASE = "lease"
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class Look(Struct, frozen=True, kw_only=True):
    """The latest look at a node: a report, or why there is none."""

    machine_id: str
    at: datetime
    scan_id: str
    report: NodeReport | None = None
    missing: Missing | None = None


async def load(store: Store, cluster: str) -> dict[str, Look]:
    """The latest looks at a cluster's nodes, by the key of the machine's id."""
    rows = store.probes.query_entities(
        "PartitionKey eq @cluster and RowKey ge 'node:' and RowKey lt 'node;'",
        parameters={"cluster": cluster},
    )
    try:
        return {str(row["Machine"]): _look(row) async for row in rows if row.get("Machine")}
    except ResourceNotFoundError:
        return {}


async def save(store: Store, cluster: str, look: Look) -> None:
    """Keep a look in place of an earlier one at the same node."""
    entity = {
        "PartitionKey": cluster,
        "RowKey": _row(look.machine_id),
        "Machine": key(look.machine_id),
        "At": look.at,
        "Scan": look.scan_id,
        **_columns(look),
    }
    for made in (False, True):
        try:
            await store.probes.upsert_entity(entity, mode=UpdateMode.REPLACE)
        except ResourceNotFoundError:
            if made:
                raise
            await store.make_probes()
        else:
            return


async def forget(store: Store, cluster: str, machines: Iterable[str]) -> None:
    """Drop the looks at machines that are not there any more."""
    for machine in machines:
        await store.probes.delete_entity(cluster, _row(machine))


async def take_lease(
    store: Store, cluster: str, scan_id: str, *, now: datetime, lasting: timedelta
) -> str | None:
    """Become the only one that probes a cluster's nodes; returns what ends that, None while another is it.

    A scan whose message is delivered again while it is still at work does not get it either.
    """
    token = secrets.token_hex(8)
    entity = {
        "PartitionKey": cluster,
        "RowKey": _LEASE,
        "Scan": scan_id,
        "Token": token,
        "Until": now + lasting,
        "At": now,
    }
    try:
        held = await store.probes.get_entity(cluster, _LEASE)
    except ResourceNotFoundError as error:
        if no_table(error):
            await store.make_probes()
        try:
            await store.probes.create_entity(entity)
        except ResourceExistsError:
            return None
        return token
    if held["Until"] > now or not await _replace(store, entity, held):
        return None
    return token


async def end_lease(store: Store, cluster: str, token: str, *, now: datetime) -> None:
    """Let others probe the cluster's nodes again; a lease that has passed to another is left alone."""
    try:
        held = await store.probes.get_entity(cluster, _LEASE)
    except ResourceNotFoundError:
        return
    if held.get("Token") == token:
        await _replace(store, {**held, "Until": now}, held)


async def _replace(store: Store, entity: Any, held: Any) -> bool:
    """Write the lease over what was read, unless somebody else did first."""
    try:
        await store.probes.update_entity(
            entity,
            mode=UpdateMode.REPLACE,
            etag=held.metadata["etag"],
            match_condition=MatchConditions.IfNotModified,
        )
    except (ResourceModifiedError, ResourceNotFoundError):
        return False
    return True


def _row(machine_id: str) -> str:
    return f"node:{hashlib.sha256(key(machine_id).encode()).hexdigest()[:32]}"


def _columns(look: Look) -> dict[str, Any]:
    content = zlib.compress(msgspec.json.encode(look))
    if len(content) > _PIECE * _PIECES:
        message = f"The report of {look.machine_id} is too long to be kept: {len(content)} bytes, compressed."
        missing = Missing(
            what="a node",
            resource_id=look.machine_id,
            reason=Reason(code="too_long", message=message, resource=look.machine_id),
        )
        return _columns(msgspec.structs.replace(look, report=None, missing=missing))
    pieces = [content[start : start + _PIECE] for start in range(0, len(content), _PIECE)]
    return {"Pieces": len(pieces), **{f"Piece{place}": piece for place, piece in enumerate(pieces)}}


def _look(row: Any) -> Look:
    """The look that a row holds; one that cannot be read, of another version say, counts as none."""
    machine = str(row["Machine"])
    try:
        content = b"".join(row[f"Piece{place}"] for place in range(int(row["Pieces"])))
        return msgspec.json.decode(zlib.decompress(content), type=Look)
    except (ValueError, LookupError, TypeError, zlib.error, msgspec.MsgspecError) as error:
        message = f"What was kept of the last probe of {machine} cannot be read ({type(error).__name__})."
        reason = Reason(code="malformed_answer", message=message, resource=machine)
        missing = Missing(what="a node", resource_id=machine, reason=reason)
        at = row.get("At")
        return Look(
            machine_id=machine,
            at=at if isinstance(at, datetime) else _LONG_AGO,
            scan_id=str(row.get("Scan") or ""),
            missing=missing,
        )
