"""Alerts, both ways, in Azure Monitor's common alert schema.

https://learn.microsoft.com/azure/azure-monitor/alerts/alerts-common-schema
"""

import hashlib
import uuid
from typing import Annotated, Any, Literal

import azure.functions as func
import msgspec
from msgspec import Meta, Struct

from facts import resource_id
from facts.finding import Finding, Severity
from facts.times import timestamp
from pipeline import clients, scans, telemetry
from pipeline.record import utc_now
from pipeline.report import FindingsQuery, Limit, NoQuery, accepted, query_findings
from pipeline.requests import Answer, body, cursor, query
from pipeline.run import cluster_key
from pipeline.scans import Summary
from pipeline.store import CLUSTERS, Store

SCHEMA_ID = "azureMonitorCommonAlertSchema"
_SEVERITY = {Severity.CRITICAL: "Sev0", Severity.WARNING: "Sev2", Severity.INFO: "Sev3"}
"""Azure Monitor's words: Sev0 critical, Sev2 warning, Sev3 informational."""
_NAMESPACE = uuid.UUID("6f6d3a52-5d0e-5c5e-9d2b-0e6f4f3a9d11")
_TARGETS = 200


class AlertsQuery(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`GET /api/alerts`: paging."""

    limit: Limit = 100
    cursor: str = ""


class Essentials(Struct, frozen=True, rename="camel"):
    """The part of an alert that is read: what it is about, and which alert it is."""

    alert_id: Annotated[str, Meta(min_length=1, max_length=2000)]
    monitor_condition: Annotated[str, Meta(max_length=100)]
    alert_target_ids: Annotated[list[Annotated[str, Meta(max_length=2000)]], Meta(max_length=_TARGETS)] = (
        msgspec.field(name="alertTargetIDs", default_factory=list)
    )
    fired_date_time: Annotated[str, Meta(max_length=100)] = ""


class AlertData(Struct, frozen=True):
    """`data` of the common schema; the context differs by kind of alert and is not needed."""

    essentials: Essentials


class Alert(Struct, frozen=True, rename="camel"):
    """What an action group sends."""

    schema_id: Literal["azureMonitorCommonAlertSchema"]
    data: AlertData


async def firing(request: func.HttpRequest) -> Answer:
    """`GET /api/alerts`: the open findings that are not muted, as fired alerts."""
    asked = query(request, AlertsQuery)
    token, found = await query_findings(
        Store(clients.get().table_service()),
        FindingsQuery(muted=False, limit=asked.limit, cursor=asked.cursor),
    )
    following = cursor(token, FindingsQuery(muted=False))
    return Answer(body={"items": [as_alert(finding) for finding in found], "next": following})


def as_alert(finding: Finding) -> dict[str, Any]:
    """A finding in the common alert schema."""
    subscription = finding.cluster.subscription_id
    guid = uuid.uuid5(_NAMESPACE, f"{finding.id} {finding.opened_at}")
    return {
        "schemaId": SCHEMA_ID,
        "data": {
            "essentials": {
                "alertId": (
                    f"/subscriptions/{subscription}/providers/Microsoft.AlertsManagement/alerts/{guid}"
                ),
                "alertRule": finding.check,
                "severity": _SEVERITY[finding.severity],
                "signalType": "Log",
                "monitorCondition": "Fired",
                "monitoringService": "Tunnelwatch",
                "alertTargetIDs": [finding.cluster.id.lower()],
                "configurationItems": [finding.cluster.name],
                "originAlertId": finding.id,
                "firedDateTime": finding.opened_at,
                "description": finding.title,
                "essentialsVersion": "1.0",
                "alertContextVersion": "1.0",
            },
            "alertContext": {
                "properties": {
                    "findingId": finding.id,
                    "check": finding.check,
                    "cause": str(finding.cause),
                    "resource": finding.resource,
                    "detail": finding.detail,
                    "remediation": [command for remedy in finding.remediation for command in remedy.commands],
                    "lastSeen": finding.last_seen,
                },
            },
            "customProperties": None,
        },
    }


async def receive(request: func.HttpRequest, messages: func.Out[list[str]]) -> Answer:
    """`POST /api/alerts`: queue a scan with probes of the clusters that an alert is about.

    Action groups deliver more than once: the same alert in the same condition is the same scan,
    whose messages change nothing when they are worked on again.
    """
    query(request, NoQuery)
    alert = body(request, Alert)
    store = Store(clients.get().table_service())
    essentials = alert.data.essentials
    now = utc_now()
    scan_id = await _scan_of(store, essentials, scans.new_scan_id(now))
    cluster_ids: dict[str, None] = {}
    ignored = []
    for target in essentials.alert_target_ids:
        found = await _clusters_of(store, target)
        cluster_ids.update(dict.fromkeys(found))
        if not found:
            ignored.append(target)
    summary = Summary(
        id=scan_id,
        reason="alert",
        full=False,
        started_at=timestamp(scans.started(scan_id)),
        total=len(cluster_ids),
        completed_at=None if cluster_ids else timestamp(now),
    )
    with telemetry.bound(scan=scan_id):
        telemetry.log.info(
            "alert %s %s: %d targets, %d clusters",
            essentials.alert_id,
            essentials.monitor_condition,
            len(essentials.alert_target_ids),
            len(cluster_ids),
        )
    if await scans.load_summary(store, scan_id) is None:
        await scans.save_summary(store, summary)
    if cluster_ids:
        messages.set(scans.cluster_messages(list(cluster_ids), scan_id=scan_id, reason="alert", probes=True))
    answer = accepted(summary)
    return msgspec.structs.replace(answer, body={**answer.body, "ignoredTargets": ignored})


async def _scan_of(store: Store, essentials: Essentials, fresh: str) -> str:
    """The scan that an alert in its condition leads to, the same however often it is delivered."""
    told = (
        f"{essentials.alert_id.lower()}\n{essentials.monitor_condition.lower()}\n{essentials.fired_date_time}"
    )
    row = hashlib.sha256(told.encode()).hexdigest()[:32]
    if await store.add_scan({"PartitionKey": "alert", "RowKey": row, "ScanId": fresh}):
        return fresh
    known = await store.get_scan("alert", row)
    return str(known["ScanId"]) if known else fresh


async def _clusters_of(store: Store, target: str) -> list[str]:
    """The clusters that a target belongs to: the cluster itself, or the one whose node group it is in.

    Empty for what belongs to none: one target that means nothing must not lose the others.
    """
    try:
        parts = resource_id.parse(target)
    except ValueError:
        return []
    scope = f"/subscriptions/{parts.subscription_id}/resourceGroups/{parts.resource_group}"
    if f"{parts.type.lower()}/".startswith("microsoft.containerservice/managedclusters/"):
        cluster_id = f"{scope}/providers/Microsoft.ContainerService/managedClusters/{parts.names[0]}"
        try:
            resource_id.parse_cluster(cluster_id)
        except ValueError:
            return []
        known = await store.cluster(cluster_key(cluster_id))
        if known is not None:
            return [known.value.cluster.id]
        watched = clients.get().settings.subscription_ids
        return [cluster_id] if not watched or parts.subscription_id.lower() in watched else []
    if not parts.resource_group:
        return []
    page = await store.query(
        store.fleet,
        [*CLUSTERS, "NodeResourceGroup eq @group", "Status eq 'active'"],
        {"group": resource_id.key(scope)},
        limit=10,
        select=["ClusterId"],
    )
    return [str(entity["ClusterId"]) for entity in page.entities]
