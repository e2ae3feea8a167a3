"""What serves many clusters is read once: whole subscriptions at a time, for the length of a scan.

A resource that a list does not show is asked for by itself, since a list leaves
out what the identity may not read, and only the single answer tells a resource
that is gone from one that is hidden. What cannot be read comes back as `Missing`.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from azure.core.rest import HttpRequest
from msgspec import structs

from facts import resource_id
from facts.filters import AdminRules, Missing
from facts.finding import Reason
from facts.resource_id import ResourceId
from packets.documents.firewall import RuleCollectionGroup, read_rule_collection_group
from packets.documents.nsg import read_admin_rules
from pipeline import telemetry
from pipeline.clients import Clients
from pipeline.collect.documents import Interface, ScaleSet, read_interface
from pipeline.collect.kinds import Kind
from pipeline.errors import TRANSIENT, reason_for
from pipeline.pace import NotRegisteredError

READ_SECONDS = 90
"""Longest time for one list or one resource, waits and retries included."""
FRESH_SECONDS = 600
"""A list serves one scan; a message of that scan that comes later than this has it read anew."""
SCANS_HELD = 2
"""Scans whose lists are kept: the one that runs and one that somebody asked for meanwhile."""


SCALE_SET_INTERFACES = "Microsoft.Compute/virtualMachineScaleSets/networkInterfaces/read"
"""The action that listing the interfaces of a scale set's instances takes."""
RULE_COLLECTION_GROUPS = "Microsoft.Network/firewallPolicies/ruleCollectionGroups/read"
"""The action that listing the rules of a firewall policy takes."""
ADMIN_RULES = "Microsoft.Network/virtualNetworks/listNetworkManagerEffectiveSecurityAdminRules/action"
"""The action that listing the security admin rules in force on a network takes; it is a POST that only
reads."""
SERVICE_TAGS = "Microsoft.Network/locations/serviceTags/read"
"""The action that reading what service tags stand for takes."""

ADMIN_RULES_PAGE = 20
"""Rules that are asked for at once: as many as the specification of the request allows."""
TAGS_FRESH_SECONDS = 86_400
"""Microsoft publishes changes of service tags once a week, and announces them before they take effect
(https://learn.microsoft.com/azure/virtual-network/service-tags-overview)."""


class Inventory:
    """The reads of one scan in this process; concurrent clusters share them."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients
        self._reads: dict[tuple[str, ...], asyncio.Task[Any]] = {}
        self._unreadable: dict[tuple[str, str], list[str]] = {}
        self.born = time.monotonic()

    async def listed[T](self, kind: Kind[T], subscription_id: str) -> Mapping[str, T] | Missing:
        """Every resource of a kind in a subscription that the identity may see, by the key of its id."""
        key = (kind.words, subscription_id.lower())
        return await self.once(key, lambda: self._list(kind, subscription_id, ""))

    def unreadable[T](self, kind: Kind[T], subscription_id: str) -> list[str]:
        """The ids of what a list showed and nobody could make sense of."""
        return self._unreadable.get((kind.words, subscription_id.lower()), [])

    async def find[T](self, kind: Kind[T], wanted: str) -> T | Missing:
        """One resource, from the list of its subscription or else by itself."""
        try:
            parts = resource_id.parse(wanted)
        except ValueError as error:
            return self._missing(kind.words, wanted, kind.action, error)
        known = await self.listed(kind, parts.subscription_id)
        if not isinstance(known, Missing) and resource_id.key(wanted) in known:
            return known[resource_id.key(wanted)]
        if isinstance(known, Missing) and known.reason.code in TRANSIENT:
            return known
        return await self.once((kind.words, resource_id.key(wanted)), lambda: self._get(kind, parts))

    async def in_group[T](self, kind: Kind[T], subscription_id: str, group: str) -> tuple[T, ...] | Missing:
        """Every resource of a kind in a resource group, from the subscription's list where that shows any."""
        if not group:
            # An empty group would be the whole subscription, and other clusters' nodes.
            what = f"{kind.words}s of the cluster's nodes"
            message = f"Could not read {what}: the cluster names no node resource group."
            return Missing(what=what, resource_id="", reason=Reason(code="no_data", message=message))
        known = await self.listed(kind, subscription_id)
        if not isinstance(known, Missing):
            scope = resource_id.key(f"/subscriptions/{subscription_id}/resourceGroups/{group}") + "/"
            there = tuple(one for key, one in known.items() if key.startswith(scope))
            if there:
                return there
        elif known.reason.code in TRANSIENT:
            return known
        key = (kind.words, subscription_id.lower(), group.lower())
        own = await self.once(key, lambda: self._list(kind, subscription_id, group))
        return own if isinstance(own, Missing) else tuple(own.values())

    async def interfaces_of(self, scale_set: ScaleSet) -> tuple[Interface, ...] | Missing:
        """The network interfaces of a scale set's instances; not kept, since one cluster asks for them."""
        parts = resource_id.parse(scale_set.id)

        async def read() -> tuple[Interface, ...]:
            network = self.clients.for_subscription(parts.subscription_id).network
            pages = network.network_interfaces.list_virtual_machine_scale_set_network_interfaces(
                parts.resource_group, parts.name
            )
            return tuple([read_interface(model.as_dict()) async for model in pages])

        return await self._told("network interfaces of scale set", scale_set.id, SCALE_SET_INTERFACES, read)

    async def rules_of_policy(self, policy_id: str) -> tuple[RuleCollectionGroup, ...] | Missing:
        """The rule collection groups of a firewall policy, its parent's left aside."""

        async def read() -> tuple[RuleCollectionGroup, ...]:
            parts = resource_id.parse(policy_id)
            network = self.clients.for_subscription(parts.subscription_id).network
            pages = network.firewall_policy_rule_collection_groups.list(parts.resource_group, parts.name)
            return tuple([read_rule_collection_group(model.as_dict()) async for model in pages])

        return await self._read("rules of firewall policy", policy_id, RULE_COLLECTION_GROUPS, read)

    async def admin_rules(self, network_id: str) -> AdminRules | Missing | None:
        """The security admin rules in force on a virtual network; `None` if there are none."""
        parts = resource_id.parse(network_id)

        async def read() -> AdminRules | None:
            from azure.mgmt.network.models import QueryRequestOptions

            network = self.clients.for_subscription(parts.subscription_id).network
            documents: list[Mapping[str, Any]] = []
            token, seen = None, set[str]()
            while True:
                page = await network.list_network_manager_effective_security_admin_rules(
                    parts.resource_group,
                    parts.name,
                    QueryRequestOptions(skip_token=token),
                    top=ADMIN_RULES_PAGE,
                )
                documents += [model.as_dict() for model in page.value or ()]
                token = page.skip_token
                if not token:
                    return read_admin_rules(network_id, documents) if documents else None
                if token in seen:
                    raise ValueError("the pages of the list go round in a circle")
                seen.add(token)

        return await self._read("security admin rules of network", network_id, ADMIN_RULES, read)

    async def service_tags(
        self, subscription_id: str, location: str
    ) -> Mapping[str, tuple[str, ...]] | Missing:
        """The prefixes of every service tag of the cloud, by lower-case name; kept for a day.

        The location tells Azure which cloud and which version is meant; what comes back is of all regions.
        """
        held: dict[str, tuple[float, Mapping[str, tuple[str, ...]]]] = self.clients.service_tags
        read_at, tags = held.get(location.lower(), (0.0, {}))
        if tags and time.monotonic() - read_at < TAGS_FRESH_SECONDS:
            return tags

        async def read() -> Mapping[str, tuple[str, ...]]:
            network = self.clients.for_subscription(subscription_id).network
            found: dict[str, tuple[str, ...]] = {}
            document = (await network.service_tags.list(location)).as_dict()
            while True:
                for value in document.get("values") or ():
                    prefixes = (value.get("properties") or {}).get("addressPrefixes") or ()
                    found[str(value.get("name") or "").lower()] = tuple(str(prefix) for prefix in prefixes)
                if not (link := document.get("nextLink")):
                    break
                response = await network.send_request(HttpRequest("GET", link))
                response.raise_for_status()
                document = response.json()
            if found:
                held[location.lower()] = (time.monotonic(), found)
            return found

        scope = (
            f"/subscriptions/{subscription_id}/providers/Microsoft.Network/locations/{location}/serviceTags"
        )
        return await self._read("list of", scope, SERVICE_TAGS, read)

    async def _read[R](
        self, words: str, wanted: str, action: str, read: Callable[[], Coroutine[Any, Any, R]]
    ) -> R | Missing:
        """Something that is no list of a kind, once for all who ask."""
        key = (action, resource_id.key(wanted))
        return await self.once(key, lambda: self._told(words, wanted, action, read))

    async def _told[R](
        self, words: str, wanted: str, action: str, read: Callable[[], Coroutine[Any, Any, R]]
    ) -> R | Missing:
        """What was read, or why it could not be."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await read()
        except Exception as error:  # noqa: BLE001 - whatever went wrong has to be told, not to end the scan
            return self._missing(words, wanted, action, error)

    async def once[R](self, key: tuple[str, ...], read: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """One read for all who ask while it is going on and after; a passing failure is not kept."""
        task = self._reads.get(key)
        if task is None:
            task = self._reads[key] = asyncio.create_task(read())
            task.add_done_callback(lambda done: self._forget_failure(key, done))
        # Shielded: one cluster's deadline must not cancel what others wait for.
        result: R = await asyncio.shield(task)
        return result

    def _forget_failure(self, key: tuple[str, ...], done: asyncio.Future[Any]) -> None:
        if done.cancelled() or done.exception() is not None or _may_pass(done.result()):
            self._reads.pop(key, None)

    async def _list[T](self, kind: Kind[T], subscription_id: str, group: str) -> Mapping[str, T] | Missing:
        scope = f"/subscriptions/{subscription_id}" + (f"/resourceGroups/{group}" if group else "")
        found: dict[str, T] = {}
        try:
            async with asyncio.timeout(READ_SECONDS):
                azure = self.clients.for_subscription(subscription_id)
                async for model in kind.in_group(azure, group) if group else kind.everywhere(azure):
                    document = model.as_dict()
                    try:
                        found[resource_id.key(document["id"])] = kind.read(document)
                    except Exception as error:  # noqa: BLE001 - one odd document must not hide the others
                        # Asking for it by itself will say what is wrong with it.
                        telemetry.log.warning("left out of a list: %s %s", document.get("id"), error)
                        if document.get("id"):
                            odd = self._unreadable.setdefault((kind.words, subscription_id.lower()), [])
                            odd.append(str(document["id"]))
        except NotRegisteredError:
            return {}
        except Exception as error:  # noqa: BLE001 - as above
            return self._missing(f"{kind.words}s of", scope, kind.action, error)
        return found

    async def _get[T](self, kind: Kind[T], parts: ResourceId) -> T | Missing:
        try:
            async with asyncio.timeout(READ_SECONDS):
                model = await kind.one(self.clients.for_subscription(parts.subscription_id), parts)
                return kind.read(model.as_dict())
        except Exception as error:  # noqa: BLE001 - as above
            return self._missing(kind.words, parts.text, kind.action, error)

    def _missing(self, words: str, wanted: str, action: str, error: Exception) -> Missing:
        name = wanted.rstrip("/").rsplit("/", 1)[-1]
        what = f'{words} "{name}"'
        reason = reason_for(error, what=what, resource_id=wanted, action=action)
        pacer = self.clients.pacer
        if reason.code == "timeout" and pacer is not None and pacer.is_held(wanted):
            # The time went by waiting as Azure had asked.
            message = f"Could not read {what}: Azure is throttling requests of this subscription."
            reason = structs.replace(reason, code="throttled", message=message)
        return Missing(what=what, resource_id=wanted, reason=reason)


def _may_pass(read: object) -> bool:
    """Whether what was read, or one of several things, is missing for a reason that may be gone soon."""
    several = read.values() if isinstance(read, Mapping) else (read,)
    return any(isinstance(one, Missing) and one.reason.code in TRANSIENT for one in several)


def of_scan(clients: Clients, scan_id: str) -> Inventory:
    """The inventory of a scan, made at its first use in this process."""
    held: dict[str, Inventory] = clients.inventories
    inventory = held.get(scan_id)
    if inventory is None or time.monotonic() - inventory.born > FRESH_SECONDS:
        inventory = held[scan_id] = Inventory(clients)
        for oldest in list(held)[:-SCANS_HELD]:
            del held[oldest]
    return inventory
