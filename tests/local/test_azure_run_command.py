"""Run Command of the Azure simulator, asked by the real Azure SDK: what Azure does and how it misbehaves.

The nodes are network namespaces. What they do to packets is in `test_nodes.py`, recorded ones in
`test_nodes_recorded.py`.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.mgmt.compute.aio import ComputeManagementClient

from local.nodes.client import unavailable
from tests.local.node_fleet import GROUP, HEALTHY, SYSTEM, VMSS, instance, plain_machine, send, show, write
from tests.simulator import WORKLOADS, RunningSimulator, ask, client, wait_for

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=f"no simulated nodes here: {unavailable()}")

NODE = instance(SYSTEM, 0)
FILE = "/var/lib/waagent/run-command/download/0/script.sh"
BUSY = (
    "Run command extension execution is in progress. "
    "Please wait for completion before invoking a run command."
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    """One simulator of a small fleet for all tests of this module."""
    with RunningSimulator(write(tmp_path_factory.mktemp("fleet"))) as simulator:
        yield simulator


@pytest.fixture
def sim(running: RunningSimulator) -> Iterator[RunningSimulator]:
    """The running simulator, put back as it was afterwards."""
    running.clear_requests()
    yield running
    running.clear_faults()
    running.reload()


def post(
    simulator: RunningSimulator, machine: str, body: Any, version: str = "2026-04-01"
) -> tuple[int, dict[str, str], Any]:
    """Ask for a command without the SDK."""
    text = body if isinstance(body, str) else json.dumps(body)
    return ask(simulator, f"{machine}/runCommand?api-version={version}", method="POST", body=text)


# What Azure does


async def test_a_script_runs_on_an_instance_of_a_scale_set(sim: RunningSimulator) -> None:
    """It runs as root on that very machine; the answer has the form of Azure's, and the poll as well."""
    assert sim.nodes == "Linux network namespaces"
    async with client(ComputeManagementClient, sim) as compute:
        poller = await compute.virtual_machine_scale_set_vms.begin_run_command(
            GROUP,
            SYSTEM,
            "1",
            {"commandId": "RunShellScript", "script": ["hostname; id -u", "echo ü >&2; echo $0"]},
        )
        answer = (await poller.result()).as_dict()
    stdout = f"aks-system-1-vmss000001\n0\n{FILE}\n"
    assert answer == {
        "value": [
            {
                "code": "ProvisioningState/succeeded",
                "level": "Info",
                "displayStatus": "Provisioning succeeded",
                "message": f"Enable succeeded: \n[stdout]\n{stdout}\n[stderr]\nü\n",
            }
        ]
    }
    actions = sim.actions()
    assert (
        actions.pop("Microsoft.Compute/locations/operations/read") >= 2
    )  # whether it is through, and the result
    assert actions == {"Microsoft.Compute/virtualMachineScaleSets/virtualMachines/runCommand/action": 1}


async def test_a_script_runs_on_a_plain_machine(sim: RunningSimulator) -> None:
    """A node of a pool of virtual machines has an action of its own, and its name in any case."""
    async with client(ComputeManagementClient, sim) as compute:
        poller = await compute.virtual_machines.begin_run_command(
            GROUP.upper(), "AKS-PLAIN-vm0", {"commandId": "RunShellScript", "script": ["hostname"]}
        )
        message = (await poller.result()).value[0].message
    assert message == "Enable succeeded: \n[stdout]\naks-plain-vm0\n\n[stderr]\n"
    assert "Microsoft.Compute/virtualMachines/runCommand/action" in sim.actions()


def test_the_two_addresses_of_an_operation(sim: RunningSimulator) -> None:
    """202 with both; the operation's own tells when, and holds the result too."""
    status, headers, body = post(sim, NODE, {"commandId": "RunShellScript", "script": ["sleep 0.3; echo a"]})
    assert (status, body, headers["retry-after"]) == (202, None, "1")
    operation, result = (headers[name].removeprefix(sim.url) for name in ("azure-asyncoperation", "location"))
    assert operation.startswith(
        f"/subscriptions/{WORKLOADS}/providers/Microsoft.Compute/locations/westeurope/"
    )
    assert ask(sim, operation)[::2] == (200, {"status": "InProgress"})
    assert ask(sim, result)[0] == 202
    wait_for(lambda: ask(sim, result)[0] == 200)
    answer = ask(sim, result)[2]
    body = ask(sim, operation)[2]
    assert body == {
        "status": "Succeeded",
        "name": operation.partition("?")[0].rpartition("/")[2],
        "startTime": body["startTime"],
        "endTime": body["endTime"],
        "properties": {"output": answer},
    }
    assert body["startTime"] < body["endTime"]


@pytest.mark.parametrize(
    ("parameters", "stdout"),
    [
        ({"nonce": "a1b2"}, "a1b2|a1b2|1"),
        ({"first": "1", "nonce": "2"}, "2|1|2"),
        ({"nonce": "a b"}, "a|a|2"),
        ({"nonce": "a;echo"}, "a|a|1"),
        ({"nonce": "$((6*7))"}, "42|42|1"),
        ({}, "||0"),
    ],
)
async def test_parameters_are_exported_and_unquoted(
    sim: RunningSimulator, parameters: dict[str, str], stdout: str
) -> None:
    """Each is a variable and a positional parameter; the shell reads them as it reads any word."""
    said, _ = await send(sim, NODE, 'sh -c \'echo "$nonce|$1|$#"\' sh "$@"', parameters=parameters)
    assert said.splitlines()[-1] == stdout


async def test_a_value_that_is_no_word_is_run(sim: RunningSimulator) -> None:
    """What stands behind a semicolon is a command."""
    said, _ = await send(sim, NODE, "true", parameters={"nonce": "a;echo intruder"})
    assert said == "intruder\nintruder\n"


async def test_only_the_end_of_the_output_comes_back(sim: RunningSimulator) -> None:
    """The last 4,096 bytes of each output, wherever they begin."""
    script = "i=0; while [ $i -lt 2000 ]; do echo $i; echo é$i >&2; i=$((i+1)); done"
    stdout, stderr = await send(sim, NODE, script)
    assert stdout == "".join(f"{number}\n" for number in range(2000))[-4096:]
    whole = "".join(f"é{number}\n" for number in range(2000)).encode()
    assert stderr == whole[-4096:].decode(errors="replace")


@pytest.mark.parametrize(
    ("script", "stdout", "stderr"),
    [
        ("exit 7", "", ""),
        ("nonsense", "", f"{FILE}: 1: nonsense: not found\n"),
        ("echo begun; kill -9 $$", "begun\n", ""),
        ("printf '\\377\\n'", "�\n", ""),
        ("sleep 1000 & echo done", "done\n", ""),
    ],
)
async def test_a_script_that_goes_wrong_is_a_success(
    sim: RunningSimulator, script: str, stdout: str, stderr: str
) -> None:
    """As seen in Azure: the status of a script tells nobody anything."""
    assert await send(sim, NODE, script) == (stdout, stderr)


async def test_a_command_that_takes_too_long_fails(tmp_path: Path) -> None:
    """The operation fails, and everything that the script had started is gone."""
    with RunningSimulator(write(tmp_path), "--run-command-timeout", "0.5") as simulator:
        with pytest.raises(HttpResponseError) as failed:
            await send(simulator, NODE, "sleep 1007 & sleep 1007")
        assert failed.value.error
        assert failed.value.error.code == "VMExtensionProvisioningTimeout"
        said, _ = await send(simulator, NODE, "ps -e -o args | grep -c '[s]leep 1007'")
        assert said == "0\n"


def test_no_script_is_the_sample_script(sim: RunningSimulator) -> None:
    """A request without one runs what the command's document holds."""
    _, headers, _ = post(sim, NODE, {"commandId": "RunShellScript"})
    location = headers["location"].removeprefix(sim.url)
    wait_for(lambda: ask(sim, location)[0] == 200)
    assert (
        "\n[stdout]\nThis is a sample script\nOptional parameters: "
        in ask(sim, location)[2]["value"][0]["message"]
    )


@pytest.mark.parametrize(
    ("machine", "body", "status", "code"),
    [
        (NODE, "", 400, "InvalidParameter"),
        (NODE, "[]", 400, "InvalidParameter"),
        (NODE, {"script": ["true"]}, 400, "InvalidParameter"),
        (NODE, {"commandId": "RunShellScript", "script": "true"}, 400, "InvalidParameter"),
        (NODE, {"commandId": "RunPowerShellScript", "script": ["dir"]}, 400, "InvalidParameter"),
        (instance("akswin", 0), {"commandId": "RunShellScript", "script": ["true"]}, 400, "InvalidParameter"),
        (instance(SYSTEM, 9), {"commandId": "RunShellScript"}, 404, "ResourceNotFound"),
        (instance("other", 0), {"commandId": "RunShellScript"}, 404, "ParentResourceNotFound"),
        (plain_machine("other"), {"commandId": "RunShellScript"}, 404, "ResourceNotFound"),
        (plain_machine("stopped"), {"commandId": "RunShellScript"}, 409, "OperationNotAllowed"),
    ],
)
def test_a_request_that_is_refused(
    sim: RunningSimulator, machine: str, body: Any, status: int, code: str
) -> None:
    """By the error that Azure has for it."""
    received, _, answer = post(sim, machine, body)
    assert (received, answer["error"]["code"]) == (status, code)


def test_other_methods_and_versions_are_refused(sim: RunningSimulator) -> None:
    """It is a POST of the compute provider's own version."""
    assert ask(sim, f"{NODE}/runCommand?api-version=2026-04-01")[0] == 404
    status, _, body = post(sim, NODE, {"commandId": "RunShellScript"}, version="2018-10-01")
    assert (status, body["error"]["code"]) == (400, "NoRegisteredProviderFound")


async def test_an_instance_is_known_by_its_interface_too(sim: RunningSimulator) -> None:
    """A fleet that was exported without its instances has their interfaces, and that is enough."""
    sim.delete(instance(VMSS, 1))
    interface = show(VMSS, 1)
    sim.put(interface)
    assert await send(sim, instance(VMSS, 1), "hostname") == (f"{VMSS}000001\n", "")


def test_a_machine_runs_one_command_at_a_time(sim: RunningSimulator) -> None:
    """A second one is refused while the first runs, on that machine alone; all else is answered meanwhile."""
    waiting = {"commandId": "RunShellScript", "script": ["nc -l 7000 >/run/heard; cat /run/heard"]}
    status, headers, _ = post(sim, NODE, waiting)
    assert status == 202
    assert sim.health()["nodes"]["running"] == 1
    status, _, refused = post(sim, NODE.upper(), {"commandId": "RunShellScript", "script": ["true"]})
    assert (status, refused) == (409, {"error": {"code": "Conflict", "message": BUSY}})
    sim.reload()  # files that say the same as before end nothing
    location = headers["location"].removeprefix(sim.url)
    assert ask(sim, location)[0] == 202
    assert post(sim, NODE, waiting)[0] == 409
    call = "until echo well | nc -N -w 1 10.1.1.4 7000; do sleep 0.05; done"
    assert asyncio.run(send(sim, instance(SYSTEM, 1), call))[0] == ""
    wait_for(lambda: ask(sim, location)[0] == 200)
    assert ask(sim, location)[2]["value"][0]["message"].startswith("Enable succeeded: \n[stdout]\nwell\n")
    assert post(sim, NODE, {"commandId": "RunShellScript", "script": ["true"]})[0] == 202


# Who may not


def test_without_the_right_it_is_refused(tmp_path: Path) -> None:
    """`access.json` takes the action away, at a resource group say; reading stays."""
    action = "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/runCommand/action"
    scope = f"/subscriptions/{WORKLOADS}/resourceGroups/{GROUP}"
    (tmp_path / "access.json").write_text(json.dumps({"deny": [{"scope": scope, "actions": [action]}]}))
    with RunningSimulator(write(tmp_path)) as simulator:
        status, _, body = post(simulator, NODE, {"commandId": "RunShellScript"})
        assert (status, body["error"]["code"]) == (403, "AuthorizationFailed")
        assert f"perform action '{action}' over scope '{NODE}'" in body["error"]["message"]
        assert ask(simulator, f"{NODE}?api-version=2026-04-01")[0] == 200
        assert post(simulator, plain_machine("aks-plain-vm0"), {"commandId": "RunShellScript"})[0] == 202


@pytest.mark.parametrize(("level", "status"), [("ReadOnly", 403), ("Unrestricted", 202), (None, 202)])
def test_a_locked_node_resource_group(sim: RunningSimulator, level: str | None, status: int) -> None:
    """AKS's deny assignment on the node resource group of a cluster that asks for it."""
    sim.put(
        {
            "id": f"/subscriptions/{WORKLOADS}/resourceGroups/g/providers/"
            "Microsoft.ContainerService/managedClusters/locked",
            "name": "locked",
            "properties": {
                "nodeResourceGroup": GROUP.upper(),
                "nodeResourceGroupProfile": {"restrictionLevel": level} if level else None,
            },
        }
    )
    machine = instance(SYSTEM, 2)
    received, _, body = post(sim, machine, {"commandId": "RunShellScript", "script": ["true"]})
    assert received == status
    if status == 403:
        assert body["error"]["code"] == "DenyAssignmentAuthorizationFailed"
        assert "the access is denied because of the deny assignment" in body["error"]["message"]
    else:
        wait_for(lambda: sim.health()["nodes"]["running"] == 0)


def test_faults_and_the_throttle_are_those_of_every_request(tmp_path: Path) -> None:
    """It costs a write; a fault on its action hits it and nothing else."""
    with RunningSimulator(write(tmp_path), "--writes", "2:0.01") as simulator:
        simulator.fault(kind="500", match={"path": "/runCommand$"}, times=1)
        assert post(simulator, NODE, {"commandId": "RunShellScript"})[0] == 500
        for left, machine in ((1, NODE), (0, instance(SYSTEM, 1))):
            status, headers, _ = post(simulator, machine, {"commandId": "RunShellScript"})
            assert (status, headers["x-ms-ratelimit-remaining-subscription-writes"]) == (202, str(left))
        status, headers, body = post(simulator, instance(SYSTEM, 2), {"commandId": "RunShellScript"})
        assert (status, body["error"]["code"]) == (429, "SubscriptionRequestsThrottled")
        assert int(headers["retry-after"]) > 1


# How it misbehaves

LINES = "".join(f"{number:07}\n" for number in range(1000))


@pytest.mark.parametrize(
    ("fault", "stdout"),
    [
        ("truncated", LINES[-1024:]),
        ("no-output", ""),
        (
            "sample-script",
            f"This is a sample script\nOptional parameters: {FILE}\n",
        ),
    ],
)
async def test_output_that_is_not_what_it_should_be(sim: RunningSimulator, fault: str, stdout: str) -> None:
    """Once as told; the next command is well again."""
    script = "i=0; while [ $i -lt 1000 ]; do printf '%07d\\n' $i; i=$((i+1)); done; echo words >&2"
    assert sim.set_nodes({NODE.upper(): {"runCommand": {"fault": fault, "times": 1}}}) == {}
    assert (await send(sim, NODE, script))[0] == stdout
    assert await send(sim, NODE, script) == (LINES[-4096:], "words\n")


async def test_garbled_output(sim: RunningSimulator) -> None:
    """As long as it was, line for line, with bytes that are others."""
    sim.set_nodes({NODE: {"runCommand": "garbled"}})
    stdout, _ = await send(sim, NODE, "printf '%0200d\\n' 0; printf '%0200d\\n' 0")
    lines = stdout.splitlines()
    assert [len(line) for line in lines] == [200, 200]
    assert {line.replace("0", "") for line in lines} == {"?????"}


@pytest.mark.parametrize(
    ("fault", "status", "code", "words"),
    [
        ("busy", 409, "Conflict", BUSY),
        (
            "stopped",
            409,
            "OperationNotAllowed",
            "Cannot modify extensions in the VM when the VM is not running.",
        ),
        ("locked", 403, "DenyAssignmentAuthorizationFailed", "because of the deny assignment with name"),
    ],
)
def test_refusals_that_mend_themselves(
    sim: RunningSimulator, fault: str, status: int, code: str, words: str
) -> None:
    """As often as told, on every machine of the scale set that is named, and then no more."""
    scale_set = NODE.rpartition("/virtualMachines/")[0]
    sim.set_nodes({scale_set: {"runCommand": {"fault": fault, "times": 2}}})
    for machine in (NODE, instance(SYSTEM, 1)):
        for _ in range(2):
            received, _, body = post(sim, machine, {"commandId": "RunShellScript", "script": ["true"]})
            assert (received, body["error"]["code"]) == (status, code)
            assert words in body["error"]["message"]
        assert post(sim, machine, {"commandId": "RunShellScript", "script": ["true"]})[0] == 202
    wait_for(lambda: sim.health()["nodes"]["running"] == 0)


def test_silence_lasts_until_it_is_mended(sim: RunningSimulator) -> None:
    """A command that never finishes keeps the machine busy; it ends when the machine is no longer silent."""
    sim.set_nodes({NODE: {"runCommand": "silent"}})
    _, headers, _ = post(sim, NODE, {"commandId": "RunShellScript", "script": ["true"]})
    operation = headers["azure-asyncoperation"].removeprefix(sim.url)
    assert ask(sim, operation)[2] == {"status": "InProgress"}
    assert post(sim, NODE, {"commandId": "RunShellScript", "script": ["true"]})[0] == 409
    sim.set_nodes({NODE: HEALTHY})
    wait_for(lambda: ask(sim, operation)[2]["status"] == "Failed")
    assert ask(sim, operation)[2]["error"]["code"] == "VMExtensionProvisioningTimeout"
    assert asyncio.run(send(sim, NODE, "echo well")) == ("well\n", "")


async def test_silence_times_out(sim: RunningSimulator) -> None:
    """After as long as is told, once; the SDK raises what the operation says."""
    sim.set_nodes({NODE: {"runCommand": {"fault": "silent", "seconds": 0.1, "times": 1}}})
    with pytest.raises(HttpResponseError, match="has timed out"):
        await send(sim, NODE, "true")
    assert await send(sim, NODE, "echo well") == ("well\n", "")


async def test_a_machine_without_an_address_cannot_answer(sim: RunningSimulator) -> None:
    """A fleet that lacks an interface fails the command and says so."""
    with pytest.raises(HttpResponseError, match="no network interface of it with an address"):
        await send(sim, plain_machine("nowhere"), "true")
    with pytest.raises(ResourceNotFoundError):
        await send(sim, plain_machine("other"), "true")
