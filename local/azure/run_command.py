"""Run Command: a script sent to a machine, run there by the machine's agent, its output's end sent back.

`POST …/virtualMachines/{name}/runCommand` and `…/virtualMachineScaleSets/{s}/virtualMachines/{n}/runCommand`:
https://learn.microsoft.com/azure/virtual-machines/linux/run-command. The form of what comes back, the sample
script and that a script's failure is a success were seen in https://github.com/Azure/azure-cli/issues/14425
and https://github.com/Azure/azure-cli/issues/32286.

The machines are the simulated nodes of `local.nodes`: namespaces, or recorded text where there are none.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

import msgspec

from local.azure import arm
from local.azure.actions import COMPUTE
from local.azure.arm import ArmError, ArmPath, Json, key
from local.azure.identity import Principal
from local.azure.machines import Layout, deallocated, is_windows, machine_of
from local.azure.nodes import Fault, Machine
from local.azure.operations import Operation, Operations
from local.azure.store import Store
from local.nodes import recorded
from local.nodes.client import Fabric, NodesError
from local.nodes.description import Firewall, Network, Node, Outcome
from local.nodes.recorded import Printed, Reached, Recording

KEPT = 4_096
"""Bytes of each output that the extension sends back, from the end."""
TRUNCATED = 1_024
"""Bytes that the fault `truncated` leaves."""
FABRICS = 40
"""Networks that stand at the same time; the one that was not used for longest makes room."""
AZURE_SECONDS = 5_400.0
"""After this long a command times out."""

_SAMPLE = ['echo "This is a sample script"', 'echo "Optional parameters: $0"']
_BUSY = (
    "Run command extension execution is in progress. "
    "Please wait for completion before invoking a run command."
)
_STOPPED = "Cannot modify extensions in the VM when the VM is not running."


class _Parameter(msgspec.Struct):
    name: str
    value: str


class _Input(msgspec.Struct, rename="camel"):
    """A request's body."""

    command_id: str
    script: list[str] | None = None
    parameters: list[_Parameter] | None = None


@dataclass(slots=True)
class _Running:
    """A command on its way."""

    operation: Operation
    fault: Fault | None
    task: "asyncio.Task[None] | None" = None


class RunCommands:
    """Every machine's agent."""

    def __init__(
        self, store: Store, operations: Operations, *, why_recorded: str, seconds: float, most: float
    ) -> None:
        self._store = store
        self._operations = operations
        self._why = why_recorded
        self._seconds = seconds
        self._most = most
        self._layout: tuple[int, Layout] | None = None
        self._fabrics: OrderedDict[str, Fabric] = OrderedDict()
        self._using: dict[str, int] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._running: dict[str, _Running] = {}
        self._used: dict[str, tuple[Machine, int]] = {}

    def start(
        self, path: ArmPath, content: bytes, principal: Principal, *, action: str, scope: str
    ) -> Operation:
        """Begin to run a command on a machine, or refuse with ArmError."""
        machine = key(scope)
        said = self._store.machine(machine) or Machine()
        fault = self._fault(machine, said)
        group = f"/subscriptions/{path.subscription}/resourceGroups/{path.resource_group}"
        if fault == "locked" or self._is_locked(path):
            if fault == "locked":
                self._use(machine, said)
            raise arm.deny_assigned(
                client=principal.client, principal=principal.object, action=action, scope=scope, group=group
            )
        document = self._store.document(machine) or {}
        if not document and machine not in self._layout_now().machines and not self._has_interface(machine):
            raise arm.resource_not_found(path)
        script = _script(content, windows=is_windows(document), sample=fault == "sample-script")
        if machine in self._running:
            raise ArmError(409, "Conflict", _BUSY, cause="service")
        if fault:
            self._use(machine, said)
        if fault == "stopped" or deallocated(document):
            raise ArmError(409, "OperationNotAllowed", _STOPPED, cause="service")
        if fault == "busy":
            raise ArmError(409, "Conflict", _BUSY, cause="service")
        operation = self._operations.accept(
            namespace="Microsoft.Compute",
            location=str(document.get("location") or "westeurope"),
            version=COMPUTE[0],
        )
        running = _Running(operation, fault)
        self._running[machine] = running
        misbehaviour = said.misbehaviour
        silence = misbehaviour.seconds if misbehaviour and fault == "silent" else None
        running.task = asyncio.create_task(self._work(machine, script, running, silence))
        return operation

    async def refit(self) -> dict[str, str]:
        """Let networks that stand be as the fleet now says: by node, what could not be done.

        Commands that would never have ended end now on machines that are no longer silent.
        """
        for machine, running in list(self._running.items()):
            now = (self._store.machine(machine) or Machine()).misbehaviour
            if running.fault == "silent" and not (now and now.fault == "silent") and running.task:
                running.task.cancel()
        problems: dict[str, str] = {}
        layout = self._layout_now()
        groups = {layout.group_of(machine) for machine in layout.machines}
        for group in list(self._fabrics):
            try:
                if group not in groups:
                    await self._retire(group)
                else:
                    fabric = await self._fabric(group, layout, make=False)
                    problems |= fabric.problems if fabric else {}
            except NodesError as error:
                problems[group] = str(error)
        return problems

    def describe(self) -> Json:
        """How nodes are made, for `/_sim/health`."""
        return {
            "mode": "recorded" if self._why else "namespaces",
            "why": self._why or None,
            "networks": len(self._fabrics),
            "namespaces": sum(len(fabric.network.nodes) for fabric in self._fabrics.values()),
            "running": len(self._running),
            "problems": {
                node: problem
                for fabric in self._fabrics.values()
                for node, problem in fabric.problems.items()
            },
        }

    async def close(self) -> None:
        """End every command and every node."""
        tasks = [running.task for running in self._running.values() if running.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(fabric.close() for fabric in self._fabrics.values()))
        self._fabrics.clear()

    def _fault(self, machine: str, said: Machine) -> Fault | None:
        """How the next command misbehaves."""
        misbehaviour = said.misbehaviour
        if misbehaviour is None:
            return None
        known, used = self._used.get(machine, (said, 0))
        if known == said and misbehaviour.times is not None and used >= misbehaviour.times:
            return None
        return misbehaviour.fault

    def _use(self, machine: str, said: Machine) -> None:
        """Count a command that has misbehaved."""
        known, used = self._used.get(machine, (said, 0))
        self._used[machine] = (said, used + 1 if known == said else 1)

    def _is_locked(self, path: ArmPath) -> bool:
        """Whether a cluster has its node resource group locked: AKS puts a deny assignment there."""
        for cluster in self._store.every("microsoft.containerservice/managedclusters"):
            properties = cluster.get("properties") or {}
            level = (properties.get("nodeResourceGroupProfile") or {}).get("restrictionLevel")
            if (
                str(level).lower() == "readonly"
                and str(properties.get("nodeResourceGroup")).lower() == str(path.resource_group).lower()
                and ArmPath.parse(cluster["id"]).subscription.lower() == path.subscription.lower()
            ):
                return True
        return False

    def _has_interface(self, machine: str) -> bool:
        return any(
            key(machine_of(interface) or "") == machine
            for kind in (
                "microsoft.network/networkinterfaces",
                "microsoft.compute/virtualmachinescalesets/virtualmachines/networkinterfaces",
            )
            for interface in self._store.every(kind)
        )

    async def _work(self, machine: str, script: bytes, running: _Running, silence: float | None) -> None:
        """Run one command to its end, whatever that is."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._seconds
        result: Json | ArmError = _failed("VMExtensionProvisioningError", "The machine did not answer.")
        try:
            if silence is not None:
                result = _timed_out()
                await asyncio.sleep(silence)
            else:
                outcome = await self._run(machine, script)
                await asyncio.sleep(due - loop.time())
                result = _timed_out() if outcome.status is None else _result(outcome, running.fault)
        except NodesError as error:
            result = _failed("VMExtensionProvisioningError", f"The simulated node cannot answer: {error}")
        finally:
            running.operation.finish(result)
            if self._running.get(machine) is running:
                del self._running[machine]

    async def _run(self, machine: str, script: bytes) -> Outcome:
        layout = self._layout_now()
        group = layout.group_of(machine)
        if group is None:
            raise NodesError("the fleet has no network interface of it with an address")
        if self._why:
            try:
                return await recorded.run(
                    script,
                    self._recording(machine, layout.network(group)),
                    seconds=self._most,
                    name=layout.machines[machine].name,
                )
            except OSError as error:
                raise NodesError(str(error)) from None
        self._using[group] = self._using.get(group, 0) + 1
        try:
            fabric = await self._fabric(group, layout, make=True)
            assert fabric is not None  # noqa: S101 - it was to be made
            return await fabric.run(machine, script, seconds=self._most)
        finally:
            self._using[group] -= 1

    async def _fabric(self, group: str, layout: Layout, *, make: bool) -> Fabric | None:
        """The network of a group, as the fleet now says it is; raises NodesError."""
        async with self._locks.setdefault(group, asyncio.Lock()):
            wanted = layout.network(group)
            fabric = self._fabrics.get(group)
            if fabric and (fabric.ended or not fabric.fits(wanted)):
                await self._retire(group)
                fabric = None
            if fabric:
                await fabric.become(wanted)
                self._fabrics.move_to_end(group)
            elif make:
                for name in [name for name in self._fabrics if not self._using.get(name)]:
                    if len(self._fabrics) >= FABRICS:
                        await self._retire(name)
                fabric = self._fabrics[group] = await Fabric.start(wanted)
            return fabric

    async def _retire(self, group: str) -> None:
        fabric = self._fabrics.pop(group, None)
        if fabric:
            await fabric.close()

    def _layout_now(self) -> Layout:
        version = self._store.version
        if self._layout is None or self._layout[0] != version:
            self._layout = (version, Layout(self._store))
        return self._layout[1]

    def _recording(self, machine: str, network: Network) -> Recording:
        """What is recorded of a machine, and how others answer it; raises NodesError if that is nothing."""
        said = self._store.machine(machine) or Machine()
        untouched = said.firewall == Firewall()
        if not untouched and not said.recorded:
            raise NodesError(f"nothing is recorded of its firewall, and {self._why}")
        commands = dict(recorded.ORDINARY) if untouched else {}
        commands |= {
            line: Printed(text) if isinstance(text, str) else text for line, text in said.recorded.items()
        }
        own = next((node for node in network.nodes if node.key == machine), None)
        reach: dict[str, Reached] = {
            address.address: _answers(
                node, self._store.machine(node.key), own, network, address=address.address
            )
            for node in network.nodes
            for address in node.addresses
        }
        ordinary: dict[str, Reached] = dict.fromkeys(network.others, "open")
        return Recording(commands, ordinary | reach)


def _answers(
    node: Node, said: Machine | None, asking: Node | None, network: Network, *, address: str
) -> Reached:
    """How a node answers another on 10250, as far as that can be told without a kernel."""
    if asking and any(
        drop.covers(item.address, address) for drop in network.drops for item in asking.addresses
    ):
        return "timeout"
    if said and said.answers:
        return said.answers
    if not node.listening:
        return "refused"
    return "open" if node.firewall == Firewall() or node is asking else "unknown"


def _script(content: bytes, *, windows: bool, sample: bool) -> bytes:
    """The file that the extension makes of a request's body, or ArmError (400)."""
    try:
        wanted = msgspec.json.decode(content, type=_Input)
    except msgspec.DecodeError as error:
        raise ArmError(
            400, "InvalidParameter", f"The request body is invalid: {error}.", cause="service"
        ) from None
    if windows or wanted.command_id.lower() != "runshellscript":
        system = "Windows" if windows else "Linux"
        raise ArmError(
            400,
            "InvalidParameter",
            f"The command '{wanted.command_id}' is not supported on a machine with the OS type '{system}'.",
            cause="service",
        )
    lines = wanted.script
    if sample or not lines:
        lines = _SAMPLE
    head = []
    if wanted.parameters:
        # unquoted, as Azure puts them: what is no word of the shell breaks the script
        named = " ".join(f"{item.name}={item.value}" for item in wanted.parameters)
        head = [f"export {named}", f"set -- {' '.join(item.value for item in wanted.parameters)}"]
    return "".join(f"{line}\n" for line in (*head, *lines)).encode()


def _result(outcome: Outcome, fault: Fault | None) -> Json:
    """What the extension reports; a script that fails is a success all the same."""
    stdout, stderr = outcome.stdout[-KEPT:], outcome.stderr[-KEPT:]
    if fault == "truncated":
        stdout = stdout[-TRUNCATED:]
    elif fault == "no-output":
        stdout = stderr = b""
    elif fault == "garbled":
        stdout = bytes(
            ord("?") if index % 40 == 39 and byte != ord("\n") else byte for index, byte in enumerate(stdout)
        )
    message = (
        f"Enable succeeded: \n[stdout]\n{stdout.decode(errors='replace')}"
        f"\n[stderr]\n{stderr.decode(errors='replace')}"
    )
    return {
        "value": [
            {
                "code": "ProvisioningState/succeeded",
                "level": "Info",
                "displayStatus": "Provisioning succeeded",
                "message": message,
            }
        ]
    }


def _timed_out() -> ArmError:
    return _failed(
        "VMExtensionProvisioningTimeout",
        "Provisioning of VM extension RunCommandLinux has timed out. "
        "Extension provisioning has taken too long to complete.",
    )


def _failed(code: str, message: str) -> ArmError:
    return ArmError(409, code, message, cause="service")
