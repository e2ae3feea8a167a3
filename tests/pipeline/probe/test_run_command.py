"""Probes through the real SDK, on nodes that are network namespaces: what comes back, and what does not."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from facts.filters import Missing
from facts.probes import NodeReport
from facts.snapshot import Node, NodePool
from local.nodes.client import unavailable
from pipeline import settings
from pipeline.clients import Clients
from pipeline.probe import run_command
from pipeline.probe.run_command import probe
from pipeline.probe.sample import Target
from tests.local.node_fleet import SYSTEM, VMSS, instance, plain_machine, write
from tests.simulator import RunningSimulator

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=f"no simulated nodes here: {unavailable()}")

POOL = NodePool(
    name="system",
    mode="System",
    os_type="Linux",
    type="VirtualMachineScaleSets",
    count=3,
    power_state="Running",
    resource_ids=(),
    placements=(),
)
DROP = {"firewall": {"iptables": ["-A INPUT -s 10.1.2.0/24 -p tcp --dport 10250 -j DROP"]}}
SECONDS = 30.0

_CHANCE = random.Random(4)  # noqa: S311 - any addresses that do not compress
RULES = [
    f"-A INPUT -s {'.'.join(str(_CHANCE.randrange(1, 250)) for _ in range(4))}/32 -p udp -j DROP"
    for _ in range(1500)
]
MANY_RULES = "\n".join(["*filter", ":INPUT ACCEPT [0:0]", *RULES, "COMMIT", ""])


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    """One simulator of a small fleet for all tests of this module."""
    fleet = write(tmp_path_factory.mktemp("fleet"))
    with RunningSimulator(fleet, "--run-command-seconds", "0.05") as simulator:
        yield simulator


@pytest.fixture
async def clients(azure: RunningSimulator, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Clients]:
    """Clients that may run commands."""
    for name, value in (azure.identity_env() | {"NODE_PROBES": "on"}).items():
        monkeypatch.setenv(name, value)
    # Patience is for Azure's own pace.
    monkeypatch.setattr(run_command, "BUSY_SECONDS", 0.2)
    azure.clear_faults()
    azure.reload()
    azure.clear_requests()
    made = Clients(settings.load())
    yield made
    await made.close()


def target(machine: str, *addresses: str) -> Target:
    """A node to be probed."""
    name = machine.rpartition("/")[2]
    return Target(POOL, Node(name=name, instance_id=name, addresses=addresses, machine_id=machine))


FIRST, SECOND, OTHER = instance(SYSTEM, 0), instance(SYSTEM, 1), instance(VMSS, 0)


async def test_a_report_of_a_node(azure: RunningSimulator, clients: Clients) -> None:
    """What it is, what its firewall is, and who answers it; one run command for all of that."""
    azure.set_nodes({FIRST: DROP})
    seen = await probe(clients, target(FIRST, "10.1.1.4"), ("10.1.1.5", "fd00:1:2::4"), within=SECONDS)
    assert isinstance(seen, NodeReport)
    assert (seen.machine_id, seen.interface, seen.unread) == (FIRST, "eth0", ())
    assert seen.os
    assert [(one.address, one.answer) for one in seen.reach] == [
        ("10.1.1.5", "open"),
        ("fd00:1:2::4", "open"),
    ]
    [dump] = [one for one in seen.dumps if one.name == "iptables-nft-save"]
    assert "-A INPUT -s 10.1.2.0/24 -p tcp -m tcp --dport 10250 -j DROP" in dump.text
    actions = azure.actions()
    assert actions[run_command.SCALE_SET_RUN_COMMAND] == 1


async def test_a_drop_is_felt_by_another_node(azure: RunningSimulator, clients: Clients) -> None:
    """The very connection that the rule is about."""
    azure.set_nodes({FIRST: DROP})
    seen = await probe(clients, target(OTHER, "10.1.2.4"), ("10.1.1.4", "10.1.1.5"), within=SECONDS)
    assert isinstance(seen, NodeReport)
    assert [one.answer for one in seen.reach] == ["timeout", "open"]


async def test_a_plain_machine(azure: RunningSimulator, clients: Clients) -> None:
    """By the action of its own."""
    seen = await probe(clients, target(plain_machine("aks-plain-vm0"), "10.1.1.100"), (), within=SECONDS)
    assert isinstance(seen, NodeReport)
    assert azure.actions()[run_command.RUN_COMMAND] == 1


async def test_a_long_report_comes_in_pieces(azure: RunningSimulator, clients: Clients) -> None:
    """Each by a run of its own; together they are what the node has, to the last rule."""
    azure.set_nodes({SECOND: {"firewall": {"iptables": MANY_RULES}}})
    seen = await probe(clients, target(SECOND, "10.1.1.5"), ("10.1.1.4",), within=SECONDS)
    assert isinstance(seen, NodeReport)
    [dump] = [one for one in seen.dumps if one.name == "iptables-nft-save"]
    assert [line for line in dump.text.splitlines() if line.startswith("-A")] == RULES
    assert azure.actions()[run_command.SCALE_SET_RUN_COMMAND] > 1
    assert [one.answer for one in seen.reach] == ["open"]


Told = tuple[str, str]
UNSEEN: dict[str, tuple[dict[str, Any], str, str]] = {
    # what Run Command does, the reason's code, something of its words
    "the agent never answers": ({"runCommand": "silent"}, "no_answer", "TCP 443"),
    "somebody else's command, for long": ({"runCommand": "busy"}, "busy", "in progress"),
    "the sample script": ({"runCommand": "sample-script"}, "sample_script", "sample script"),
    "the head is lost": (
        {"runCommand": "truncated", "firewall": {"iptables": MANY_RULES}},
        "truncated_output",
        "beginning",
    ),
    "bytes are damaged": ({"runCommand": "garbled"}, "wrong_nonce|garbled_output", ""),
    "nothing comes": ({"runCommand": "no-output"}, "no_output", "TCP 443"),
    "the machine is stopped": ({"runCommand": "stopped"}, "not_running", "not running"),
    "the node group is locked": ({"runCommand": "locked"}, "node_group_locked", "ReadOnly"),
    "it times out on Azure's side": (
        {"runCommand": {"fault": "silent", "seconds": 0.2}},
        "no_answer",
        "",
    ),
}


@pytest.mark.parametrize("name", UNSEEN)
async def test_what_cannot_be_seen_is_told(name: str, azure: RunningSimulator, clients: Clients) -> None:
    """With a code, and words that a person can act on; never as an empty report."""
    how, code, words = UNSEEN[name]
    azure.set_nodes({FIRST: how})
    within = 3.0 if name == "the agent never answers" else SECONDS
    seen = await probe(clients, target(FIRST, "10.1.1.4"), (), within=within)
    assert isinstance(seen, Missing)
    assert seen.reason.code in code.split("|")
    assert (seen.resource_id, seen.reason.resource) == (FIRST, FIRST)
    assert words in seen.reason.message
    assert "\n" not in seen.reason.message


async def test_a_node_that_is_busy_for_a_moment_is_waited_for(
    azure: RunningSimulator, clients: Clients
) -> None:
    """Two refusals, then the report."""
    azure.set_nodes({FIRST: {"runCommand": {"fault": "busy", "times": 2}}})
    assert isinstance(await probe(clients, target(FIRST, "10.1.1.4"), (), within=SECONDS), NodeReport)


async def test_a_missing_permission_names_the_action(azure: RunningSimulator, clients: Clients) -> None:
    """As every read does."""
    azure.call(
        "POST", "/_sim/faults", {"match": {"action": run_command.SCALE_SET_RUN_COMMAND}, "kind": "403"}
    )
    seen = await probe(clients, target(FIRST, "10.1.1.4"), (), within=SECONDS)
    assert isinstance(seen, Missing)
    assert (seen.reason.code, seen.reason.action) == ("permission_denied", run_command.SCALE_SET_RUN_COMMAND)


async def test_a_node_that_is_gone(clients: Clients) -> None:
    """It was scaled in between the list and the probe: told, and the next list knows."""
    seen = await probe(clients, target(instance(SYSTEM, 77), "10.1.1.99"), (), within=SECONDS)
    assert isinstance(seen, Missing)
    assert seen.reason.code == "not_found"


async def test_an_id_that_is_none(clients: Clients) -> None:
    """Told like everything else."""
    seen = await probe(clients, target("no id at all", "10.1.1.9"), (), within=SECONDS)
    assert isinstance(seen, Missing)
    assert seen.reason.code == "malformed_answer"


async def test_many_nodes_at_once(clients: Clients) -> None:
    """Each with its own frame, whatever else runs."""
    targets = [
        target(FIRST, "10.1.1.4"),
        target(SECOND, "10.1.1.5"),
        target(instance(SYSTEM, 2), "10.1.1.6"),
        target(OTHER, "10.1.2.4"),
    ]
    seen = await asyncio.gather(*(probe(clients, one, ("10.1.1.4",), within=SECONDS) for one in targets))
    assert [one.machine_id if isinstance(one, NodeReport) else one for one in seen] == [
        one.node.machine_id for one in targets
    ]


def test_the_script_is_deployed_with_the_app() -> None:
    """It stands beside the code, and nothing that is kept out of the package matches it."""
    assert run_command.SCRIPT.read_text(encoding="utf-8").startswith("#!/bin/sh\n")
    kept_out = Path(".funcignore").read_text(encoding="utf-8").split()
    assert "pipeline" not in kept_out
    assert not any(run_command.SCRIPT.match(pattern) for pattern in kept_out)
