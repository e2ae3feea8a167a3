"""Find every cluster there is to scan: what Azure lists, and what is known from before.

A cluster that is known and no longer listed is queued all the same: only asking for
it by itself tells one that was deleted from one that can no longer be seen.
"""

from msgspec import Struct

from facts import resource_id
from facts.filters import Missing
from facts.finding import Reason
from pipeline import telemetry
from pipeline.clients import Clients
from pipeline.collect.inventory import Inventory
from pipeline.collect.kinds import CLUSTERS
from pipeline.errors import TRANSIENT, reason_for
from pipeline.store import CLUSTERS as CLUSTER_ROWS
from pipeline.store import Store

_LISTED = frozenset({"enabled", "warned", "pastdue"})
"""States of subscriptions whose resources can be read
(https://learn.microsoft.com/azure/cost-management-billing/manage/subscription-states)."""


class DiscoveryError(RuntimeError):
    """Nothing at all could be listed; worth another try."""


class Discovered(Struct, frozen=True):
    """The clusters to scan, and what stood in the way of finding more."""

    cluster_ids: tuple[str, ...]
    unwatched: tuple[str, ...]
    """Clusters that are known from before and whose subscription the settings no longer name."""
    problems: tuple[Reason, ...]


async def discover(clients: Clients, inventory: Inventory, store: Store) -> Discovered:
    """List the clusters of all subscriptions; raises `DiscoveryError` if none could be listed for now."""
    known = await known_clusters(store)
    subscriptions, problems = await _subscriptions(clients)
    found: dict[str, str] = {}
    for subscription_id in subscriptions:
        listed = await inventory.listed(CLUSTERS, subscription_id)
        if isinstance(listed, Missing):
            telemetry.log.warning("%s", listed.reason.message)
            problems.append(listed.reason)
        else:
            found.update({key: managed.cluster.ref.id for key, managed in listed.items()})
            # Asked for by itself, each of these will say what is wrong with it.
            for odd in inventory.unreadable(CLUSTERS, subscription_id):
                found[resource_id.key(odd)] = odd
    watched = clients.settings.subscription_ids
    unwatched = []
    for cluster_id in known:
        if watched and resource_id.parse(cluster_id).subscription_id.lower() not in watched:
            unwatched.append(cluster_id)
        else:
            found.setdefault(resource_id.key(cluster_id), cluster_id)
    if not found and problems and all(problem.code in TRANSIENT for problem in problems):
        raise DiscoveryError("; ".join(problem.message for problem in problems))
    return Discovered(tuple(found[key] for key in sorted(found)), tuple(unwatched), tuple(problems))


async def known_clusters(store: Store) -> list[str]:
    """The ids of all clusters that were scanned before and are not known to be deleted."""
    filters = [*CLUSTER_ROWS, "Status eq 'active'"]
    rows = store.every(store.fleet, filters, {}, select=["ClusterId"])
    return [str(row["ClusterId"]) async for row in rows]


async def _subscriptions(clients: Clients) -> tuple[list[str], list[Reason]]:
    """The subscriptions to watch: those that are set, or all that the identity can read."""
    if clients.settings.subscription_ids:
        return list(clients.settings.subscription_ids), []
    try:
        documents = [model.as_dict() async for model in clients.subscriptions().subscriptions.list()]
        found = [
            str(document["subscriptionId"])
            for document in documents
            if str(document.get("state") or "").lower() in _LISTED and document.get("subscriptionId")
        ]
    except Exception as error:  # noqa: BLE001 - told in the scan's summary; known clusters are scanned anyway
        reason = reason_for(
            error,
            what="the list of subscriptions",
            resource_id="/subscriptions",
            action="Microsoft.Resources/subscriptions/read",
        )
        telemetry.log.warning("%s", reason.message)
        return [], [reason]
    if not found:
        message = (
            "The identity can read no subscription. Give it a role on one, or set AZURE_SUBSCRIPTION_IDS."
        )
        return [], [Reason(code="no_data", message=message, resource="/subscriptions")]
    return found, []
