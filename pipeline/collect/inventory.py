"""What serves many clusters is read once: whole subscriptions at a time, for the length of a scan.

A resource that a list does not show is asked for by itself, since a list leaves
out what the identity may not read, and only the single answer tells a resource
that is gone from one that is hidden. What cannot be read comes back as `Missing`.
"""

import asyncio
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Mapping
from typing import Any

from msgspec import Struct, structs

from facts import resource_id
from facts.filters import Missing, NetworkSecurityGroup
from facts.finding import Reason
from facts.resource_id import ResourceId
from packets.documents import properties
from packets.documents.nsg import read_nsg
from pipeline import telemetry
from pipeline.clients import Clients, SubscriptionClients
from pipeline.collect.documents import (
    Interface,
    ManagedCluster,
    NetworkModel,
    ScaleSet,
    VirtualMachine,
    read_cluster,
    read_interface,
    read_network,
    read_scale_set,
    read_virtual_machine,
)
from pipeline.errors import TRANSIENT, reason_for
from pipeline.pace import NotRegisteredError

READ_SECONDS = 90
"""Longest time for one list or one resource, waits and retries included."""
FRESH_SECONDS = 600
"""A list serves one scan; a message of that scan that comes later than this has it read anew."""
SCANS_HELD = 2
"""Scans whose lists are kept: the one that runs and one that somebody asked for meanwhile."""


class Kind[T](Struct, frozen=True):
    """A kind of resource: what it is called, how it is read."""

    words: str
    action: str
    """The Azure action that reading takes."""
    read: Callable[[Mapping[str, Any]], T]
    everywhere: Callable[[SubscriptionClients], AsyncIterable[Any]]
    in_group: Callable[[SubscriptionClients, str], AsyncIterable[Any]]
    one: Callable[[SubscriptionClients, ResourceId], Awaitable[Any]]


def _read_live_nsg(document: Mapping[str, Any]) -> NetworkSecurityGroup:
    """A group as Azure has it: one that shows no rules at all, not even Azure's own, was not read."""
    body = properties(document)
    if body.get("securityRules") is None and body.get("defaultSecurityRules") is None:
        raise ValueError("it shows no rules at all, not even the default ones")
    return read_nsg(document)


CLUSTERS: Kind[ManagedCluster] = Kind(
    "cluster",
    "Microsoft.ContainerService/managedClusters/read",
    read_cluster,
    lambda azure: azure.containers.managed_clusters.list(),
    lambda azure, group: azure.containers.managed_clusters.list_by_resource_group(group),
    lambda azure, one: azure.containers.managed_clusters.get(one.resource_group, one.name),
)
SCALE_SETS: Kind[ScaleSet] = Kind(
    "scale set",
    "Microsoft.Compute/virtualMachineScaleSets/read",
    read_scale_set,
    lambda azure: azure.compute.virtual_machine_scale_sets.list_all(),
    lambda azure, group: azure.compute.virtual_machine_scale_sets.list(group),
    lambda azure, one: azure.compute.virtual_machine_scale_sets.get(one.resource_group, one.name),
)
MACHINES: Kind[VirtualMachine] = Kind(
    "virtual machine",
    "Microsoft.Compute/virtualMachines/read",
    read_virtual_machine,
    lambda azure: azure.compute.virtual_machines.list_all(),
    lambda azure, group: azure.compute.virtual_machines.list(group),
    lambda azure, one: azure.compute.virtual_machines.get(one.resource_group, one.name),
)
INTERFACES: Kind[Interface] = Kind(
    "network interface",
    "Microsoft.Network/networkInterfaces/read",
    read_interface,
    lambda azure: azure.network.network_interfaces.list_all(),
    lambda azure, group: azure.network.network_interfaces.list(group),
    lambda azure, one: azure.network.network_interfaces.get(one.resource_group, one.name),
)
NETWORKS: Kind[NetworkModel] = Kind(
    "virtual network",
    "Microsoft.Network/virtualNetworks/read",
    read_network,
    lambda azure: azure.network.virtual_networks.list_all(),
    lambda azure, group: azure.network.virtual_networks.list(group),
    lambda azure, one: azure.network.virtual_networks.get(one.resource_group, one.name),
)
SECURITY_GROUPS: Kind[NetworkSecurityGroup] = Kind(
    "network security group",
    "Microsoft.Network/networkSecurityGroups/read",
    _read_live_nsg,
    lambda azure: azure.network.network_security_groups.list_all(),
    lambda azure, group: azure.network.network_security_groups.list(group),
    lambda azure, one: azure.network.network_security_groups.get(one.resource_group, one.name),
)

SCALE_SET_INTERFACES = "Microsoft.Compute/virtualMachineScaleSets/networkInterfaces/read"
"""The action that listing the interfaces of a scale set's instances takes."""


class Inventory:
    """The reads of one scan in this process; concurrent clusters share them."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._reads: dict[tuple[str, ...], asyncio.Task[Any]] = {}
        self._unreadable: dict[tuple[str, str], list[str]] = {}
        self.born = time.monotonic()

    async def listed[T](self, kind: Kind[T], subscription_id: str) -> Mapping[str, T] | Missing:
        """Every resource of a kind in a subscription that the identity may see, by the key of its id."""
        key = (kind.words, subscription_id.lower())
        return await self._once(key, lambda: self._list(kind, subscription_id, ""))

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
        return await self._once((kind.words, resource_id.key(wanted)), lambda: self._get(kind, parts))

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
        own = await self._once(key, lambda: self._list(kind, subscription_id, group))
        return own if isinstance(own, Missing) else tuple(own.values())

    async def interfaces_of(self, scale_set: ScaleSet) -> tuple[Interface, ...] | Missing:
        """The network interfaces of a scale set's instances."""
        parts = resource_id.parse(scale_set.id)
        words = "network interfaces of scale set"
        try:
            async with asyncio.timeout(READ_SECONDS):
                network = self._clients.for_subscription(parts.subscription_id).network
                pages = network.network_interfaces.list_virtual_machine_scale_set_network_interfaces(
                    parts.resource_group, parts.name
                )
                return tuple([read_interface(model.as_dict()) async for model in pages])
        except Exception as error:  # noqa: BLE001 - whatever went wrong has to be told, not to end the scan
            return self._missing(words, scale_set.id, SCALE_SET_INTERFACES, error)

    async def _once[R](self, key: tuple[str, ...], read: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """One read for all who ask while it is going on and after; a passing failure is not kept."""
        task = self._reads.get(key)
        if task is None:
            task = self._reads[key] = asyncio.create_task(read())
            task.add_done_callback(lambda done: self._forget_failure(key, done))
        # Shielded: one cluster's deadline must not cancel what others wait for.
        result: R = await asyncio.shield(task)
        return result

    def _forget_failure(self, key: tuple[str, ...], done: asyncio.Future[Any]) -> None:
        failed = done.cancelled() or done.exception() is not None
        if failed or (isinstance(done.result(), Missing) and done.result().reason.code in TRANSIENT):
            self._reads.pop(key, None)

    async def _list[T](self, kind: Kind[T], subscription_id: str, group: str) -> Mapping[str, T] | Missing:
        scope = f"/subscriptions/{subscription_id}" + (f"/resourceGroups/{group}" if group else "")
        found: dict[str, T] = {}
        try:
            async with asyncio.timeout(READ_SECONDS):
                azure = self._clients.for_subscription(subscription_id)
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
                model = await kind.one(self._clients.for_subscription(parts.subscription_id), parts)
                return kind.read(model.as_dict())
        except Exception as error:  # noqa: BLE001 - as above
            return self._missing(kind.words, parts.text, kind.action, error)

    def _missing(self, words: str, wanted: str, action: str, error: Exception) -> Missing:
        name = wanted.rstrip("/").rsplit("/", 1)[-1]
        what = f'{words} "{name}"'
        reason = reason_for(error, what=what, resource_id=wanted, action=action)
        pacer = self._clients.pacer
        if reason.code == "timeout" and pacer is not None and pacer.is_held(wanted):
            # The time went by waiting as Azure had asked.
            message = f"Could not read {what}: Azure is throttling requests of this subscription."
            reason = structs.replace(reason, code="throttled", message=message)
        return Missing(what=what, resource_id=wanted, reason=reason)


def of_scan(clients: Clients, scan_id: str) -> Inventory:
    """The inventory of a scan, made at its first use in this process."""
    held: dict[str, Inventory] = clients.inventories
    inventory = held.get(scan_id)
    if inventory is None or time.monotonic() - inventory.born > FRESH_SECONDS:
        inventory = held[scan_id] = Inventory(clients)
        for oldest in list(held)[:-SCANS_HELD]:
            del held[oldest]
    return inventory
