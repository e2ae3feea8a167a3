"""Node pools: the machines that carry them, and where these are attached."""

from msgspec import Struct

from facts import resource_id
from facts.filters import Missing
from facts.snapshot import Node, NodePool, Placement
from pipeline.collect.documents import (
    AgentPool,
    Interface,
    InterfaceModel,
    ManagedCluster,
    ScaleSet,
    VirtualMachine,
)
from pipeline.collect.inventory import Inventory
from pipeline.collect.kinds import INTERFACES, MACHINES, SCALE_SETS
from pipeline.collect.networks import read_group, read_subnet, unread

PROVISIONED = "auto-provisioned"
"""What the machines that belong to no pool are called together."""
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


class _Machines(Struct):
    """The machines that carry a pool, and where they are attached."""

    resource_ids: list[str]
    attached: dict[InterfaceModel, list[Node]]
    groups: list[str]
    """Application security groups that new instances join."""
    missing: list[Missing]


async def read_pool(inventory: Inventory, managed: ManagedCluster, pool: AgentPool) -> NodePool:
    """A node pool: its machines, and the subnets and security groups that they are attached to."""
    machines = await _machines(inventory, managed, pool)
    if pool.subnet_id and not any(
        resource_id.key(model.subnet_id) == resource_id.key(pool.subnet_id) for model in machines.attached
    ):
        # The pool names a subnet that no interface shows: judge it by its own security group.
        machines.attached.setdefault(InterfaceModel(subnet_id=pool.subnet_id, nsg_id=""), [])
    return await _assembled(inventory, pool, machines)


async def read_provisioned(inventory: Inventory, managed: ManagedCluster) -> NodePool | None:
    """The machines in the node resource group that belong to no pool, as one: those of auto-provisioning."""
    machines = _Machines([], {}, [], [])
    cluster = managed.cluster
    found = await inventory.in_group(MACHINES, cluster.ref.subscription_id, cluster.node_resource_group)
    for machine in () if isinstance(found, Missing) else found:
        if not any(_carries(machine.pool, machine.name, pool.name) for pool in managed.pools):
            machines.resource_ids.append(machine.id)
            await _attach_machine(inventory, machines, machine)
    if isinstance(found, Missing):
        machines.missing.append(found)
    elif not machines.resource_ids:
        return None
    pool = AgentPool(
        name=PROVISIONED,
        mode="User",
        os_type="",
        type="VirtualMachines",
        count=len(machines.resource_ids) or None,
        power_state="Running",
        subnet_id="",
        pod_subnet_id="",
        groups=(),
    )
    return await _assembled(inventory, pool, machines)


async def _assembled(inventory: Inventory, pool: AgentPool, machines: _Machines) -> NodePool:
    """A pool with what its machines are attached to."""
    placements = [
        Placement(
            subnet=await read_subnet(inventory, model.subnet_id),
            nic_nsg=await read_group(inventory, model.nsg_id),
            nodes=tuple(nodes),
            groups=tuple(dict.fromkeys((*pool.groups, *machines.groups))),
        )
        for model, nodes in machines.attached.items()
    ]
    return NodePool(
        name=pool.name,
        mode=pool.mode,
        os_type=pool.os_type,
        type=pool.type,
        count=pool.count,
        power_state=pool.power_state,
        resource_ids=tuple(machines.resource_ids),
        placements=tuple(placements),
        max_count=pool.max_count,
        max_surge=pool.max_surge,
        public_addresses=pool.public_addresses,
        pod_subnet=await read_subnet(inventory, pool.pod_subnet_id) if pool.pod_subnet_id else None,
        missing=tuple(machines.missing),
    )


async def _machines(inventory: Inventory, managed: ManagedCluster, pool: AgentPool) -> _Machines:
    """The scale set of a pool with its instances, or the plain machines that carry it."""
    machines = _Machines([], {}, [], [])
    subscription_id, group = managed.cluster.ref.subscription_id, managed.cluster.node_resource_group
    found: tuple[ScaleSet | VirtualMachine, ...] | Missing
    if pool.type.lower() == "virtualmachinescalesets":
        kind = SCALE_SETS.words
        found = await inventory.in_group(SCALE_SETS, subscription_id, group)
    else:
        kind = MACHINES.words
        found = await inventory.in_group(MACHINES, subscription_id, group)
    if isinstance(found, Missing):
        machines.missing.append(found)
        return machines
    for one in found:
        if not _carries(one.pool, one.name, pool.name):
            continue
        machines.resource_ids.append(one.id)
        if isinstance(one, ScaleSet):
            await _attach_instances(inventory, machines, one, count=pool.count)
        else:
            await _attach_machine(inventory, machines, one)
    if not machines.resource_ids and pool.count != 0:
        machines.missing.append(_no_machines(managed, pool, kind))
    return machines


async def _attach_instances(
    inventory: Inventory, machines: _Machines, scale_set: ScaleSet, *, count: int | None
) -> None:
    machines.groups += scale_set.groups
    if scale_set.interface is not None and scale_set.interface.subnet_id:
        _attach(machines, scale_set.interface)
    if count == 0:
        return
    interfaces = await inventory.interfaces_of(scale_set)
    if isinstance(interfaces, Missing):
        machines.missing.append(interfaces)
        return
    primary = [interface for interface in interfaces if interface.primary]
    for interface in primary:
        node = _instance(scale_set, interface)
        _attach(machines, interface.model, node)
    if not primary:
        what = f'network interfaces of scale set "{scale_set.name}"'
        message = f"Could not read {what}: Azure lists none, though the pool has {_nodes(count)}."
        machines.missing.append(unread("no_data", what, scale_set.id, message))


async def _attach_machine(inventory: Inventory, machines: _Machines, machine: VirtualMachine) -> None:
    interface = await inventory.find(INTERFACES, machine.interface_id)
    if isinstance(interface, Missing):
        machines.missing.append(interface)
        return
    name = (machine.computer_name or machine.name).lower()
    node = Node(
        name=name,
        instance_id=machine.name,
        addresses=interface.addresses,
        machine_id=machine.id,
        members=interface.members,
    )
    _attach(machines, interface.model, node)


def _attach(machines: _Machines, model: InterfaceModel, node: Node | None = None) -> None:
    """Put a node where its interface is; ids that differ in case are one place."""
    same = InterfaceModel(subnet_id=resource_id.key(model.subnet_id), nsg_id=resource_id.key(model.nsg_id))
    nodes = machines.attached.setdefault(same, [])
    if node is not None:
        nodes.append(node)


def _carries(tagged: str, name: str, pool: str) -> bool:
    """Whether a machine or scale set belongs to a pool: by AKS's tag, or else by the name that AKS gives.

    Linux: `aks-<pool>-<8 digits>-vmss`, `aks-<pool>-<8 digits>-vm0`; Windows: `aks<pool>`.
    """
    if tagged:
        return tagged.lower() == pool.lower()
    own = name.lower()
    return own == f"aks{pool.lower()}" or own.startswith(f"aks-{pool.lower()}-")


def _instance(scale_set: ScaleSet, interface: Interface) -> Node:
    """A node of a scale set: its name ends in the instance's number in base 36, six digits long."""
    instance = interface.machine_id.rstrip("/").rsplit("/", 1)[-1]
    digits = ""
    if instance.isdecimal():
        number = int(instance)
        while number or not digits:
            number, digit = divmod(number, 36)
            digits = _BASE36[digit] + digits
    name = f"{scale_set.computer_name_prefix or scale_set.name}{(digits or instance).rjust(6, '0')}"
    return Node(
        name=name,
        instance_id=instance,
        addresses=interface.addresses,
        machine_id=interface.machine_id,
        members=interface.members,
    )


def _no_machines(managed: ManagedCluster, pool: AgentPool, words: str) -> Missing:
    cluster = managed.cluster
    group = f"/subscriptions/{cluster.ref.subscription_id}/resourceGroups/{cluster.node_resource_group}"
    what = f'{words} of node pool "{pool.name}"'
    message = (
        f'Could not find a {what} in resource group "{cluster.node_resource_group}", '
        f"though the pool has {_nodes(pool.count)}."
    )
    return unread("no_data", what, group, message)


def _nodes(count: int | None) -> str:
    if count is None:
        return "a number of nodes that Azure does not say"
    return f"{count} node{'s' * (count != 1)}"
