"""Run the probe script on one node through Azure's Run Command, and make sense of what comes back.

Run Command takes some twenty seconds, runs one script at a time on a machine, and gives back the last
4,096 bytes of what it printed (https://learn.microsoft.com/azure/virtual-machines/linux/run-command). A
report that is longer comes in pieces, each fetched by a run of its own.
"""

import asyncio
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from azure.core.exceptions import HttpResponseError

from facts import resource_id
from facts.filters import Missing
from facts.finding import Reason
from facts.probes import NodeReport
from facts.times import timestamp
from pipeline import telemetry
from pipeline.clients import Clients
from pipeline.errors import reason_for
from pipeline.probe.frame import FrameError, Piece, join, parameters, read_piece
from pipeline.probe.report import read_report
from pipeline.probe.sample import Target

SCRIPT = Path(__file__).with_name("probe.sh")
SCALE_SET_RUN_COMMAND = "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/runCommand/action"
"""The action that running a script on a scale set's instance takes."""
RUN_COMMAND = "Microsoft.Compute/virtualMachines/runCommand/action"
"""The action that running a script on a plain machine takes."""

_TIMED_OUT = frozenset(
    {"VMExtensionProvisioningTimeout", "VMAgentStatusCommunicationError", "OperationTimedOut"}
)
"""What Azure calls a run command that the machine's agent never took up or finished."""
POLL_SECONDS = 5
"""How often Azure is asked whether a script is through, where it does not say itself."""
BUSY_SECONDS = 10
"""How long to wait for somebody else's run command on a node, before another try."""
BUSY_TRIES = 3
CHANGED_TRIES = 2
"""Tries to read a report whose rules change while its pieces are fetched."""


async def probe(
    clients: Clients, target: Target, addresses: tuple[str, ...], *, within: float
) -> NodeReport | Missing:
    """Probe one node within some seconds; one that is gone by now is `Missing` too, with that reason."""
    machine_id = target.node.machine_id
    what = f'node "{target.node.name}"'
    try:
        async with asyncio.timeout(within):
            return await _probe(clients, target, addresses)
    except TimeoutError:
        return _missing(
            what,
            machine_id,
            "no_answer",
            f"Azure's run command on it did not finish within {within:.0f} s. Its VM agent may be stuck, or "
            "the node may not reach Azure on TCP 443, which run command needs",
        )
    except FrameError as error:
        return _missing(what, machine_id, error.code, str(error))
    except Exception as error:  # noqa: BLE001 - whatever went wrong has to be told, not to end the scan
        return _told(what, machine_id, error)


async def _probe(clients: Clients, target: Target, addresses: tuple[str, ...]) -> NodeReport:
    for last in range(1, CHANGED_TRIES + 1):
        taken_at = timestamp(datetime.now(UTC))
        nonce = secrets.token_hex(8)
        first = await _piece(clients, target, nonce, parameters(nonce, addresses=addresses))
        try:
            pieces = [first]
            for number in range(2, first.pieces + 1):
                nonce = secrets.token_hex(8)
                wanted = parameters(nonce, piece=number, digest=first.digest)
                pieces.append(await _piece(clients, target, nonce, wanted))
            body = join(pieces)
        except FrameError as error:
            if error.code != "changed" or last == CHANGED_TRIES:
                raise
            continue
        return read_report(
            body,
            first.reach,
            node=target.node.name,
            machine_id=target.node.machine_id,
            taken_at=taken_at,
        )
    raise AssertionError  # the last try returned or raised


async def _piece(clients: Clients, target: Target, nonce: str, values: tuple[tuple[str, str], ...]) -> Piece:
    """One run of the script; waits for a while if the machine is busy."""
    for tries_left in reversed(range(BUSY_TRIES)):
        try:
            message = await _run(clients, target.node.machine_id, values)
        except HttpResponseError as error:
            if not _is_busy(error) or not tries_left:
                raise
            await asyncio.sleep(BUSY_SECONDS)
        else:
            return read_piece(message, nonce)
    raise AssertionError  # the last try returned or raised


async def _run(clients: Clients, machine_id: str, values: tuple[tuple[str, str], ...]) -> str:
    """What one run of the script printed, as Azure gives it back."""
    parts = resource_id.parse(machine_id)
    compute = clients.for_subscription(parts.subscription_id).compute
    request: Any = {
        "commandId": "RunShellScript",
        "script": SCRIPT.read_text(encoding="utf-8").splitlines(),
        "parameters": [{"name": name, "value": value} for name, value in values],
    }
    if len(parts.names) > 1:
        poller = await compute.virtual_machine_scale_set_vms.begin_run_command(
            parts.resource_group, parts.names[0], parts.names[1], request, polling_interval=POLL_SECONDS
        )
    else:
        poller = await compute.virtual_machines.begin_run_command(
            parts.resource_group, parts.name, request, polling_interval=POLL_SECONDS
        )
    document = (await poller.result()).as_dict()
    return "\n".join(str(one.get("message") or "") for one in document.get("value") or ())


def _told(what: str, machine_id: str, error: Exception) -> Missing:
    """Why a node could not be probed, in words."""
    code = (error.error.code if isinstance(error, HttpResponseError) and error.error else "") or ""
    if isinstance(error, HttpResponseError):
        if _is_busy(error):
            return _missing(
                what, machine_id, "busy", "another run command is in progress on it; it will be tried again"
            )
        if code in _TIMED_OUT:
            return _missing(what, machine_id, "no_answer", f"Azure gave it up: {_words(error)}")
        if error.status_code == 409:
            return _missing(what, machine_id, "not_running", f"Azure says {_words(error)}")
        if code == "DenyAssignmentAuthorizationFailed":
            return _missing(
                what,
                machine_id,
                "node_group_locked",
                "the node resource group is locked (its restriction level is ReadOnly), and nobody may run "
                "commands on its nodes",
            )
    telemetry.log.warning("probing %s failed: %s", machine_id, error)
    needed = SCALE_SET_RUN_COMMAND if "/virtualmachinescalesets/" in machine_id.lower() else RUN_COMMAND
    reason = reason_for(error, what=what, resource_id=machine_id, action=needed)
    return Missing(what=what, resource_id=machine_id, reason=reason)


def _is_busy(error: HttpResponseError) -> bool:
    said = (error.error.code if error.error else "") or "Conflict"
    return error.status_code == 409 and said.lower() == "conflict"


def _words(error: HttpResponseError) -> str:
    said = (error.error.message if error.error else "") or str(error)
    return " ".join(said.split())[:300].rstrip(".")


def _missing(what: str, machine_id: str, code: str, words: str) -> Missing:
    message = f"Could not probe {what}: {words.rstrip('.')}."
    return Missing(
        what=what, resource_id=machine_id, reason=Reason(code=code, message=message, resource=machine_id)
    )
