"""Simulated nodes: what their firewalls and their network do to packets, asked from other nodes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from local.azure import fleet, run_command
from local.azure.operations import Operations
from local.azure.store import Store
from local.nodes import client as nodes_client
from local.nodes.client import Fabric, NodesError, unavailable
from local.nodes.description import Address, Drop, Firewall, Network, Node
from local.nodes.firewall import StepError, parts, restore_text
from tests.local.node_fleet import (
    HEALTHY,
    NETWORK,
    PEER,
    SYSTEM,
    TWIN,
    VMSS,
    instance,
    plain_machine,
    send,
    write,
)
from tests.simulator import RunningSimulator, wait_for

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=f"no simulated nodes here: {unavailable()}")

ASKING = instance(SYSTEM, 0)
NODE = instance(SYSTEM, 1)
V4, V6 = "10.1.1.5", "fd00:1:1::5"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    """One simulator of a small fleet for all tests of this module."""
    with RunningSimulator(write(tmp_path_factory.mktemp("fleet")), "--run-command-seconds", "0") as simulator:
        yield simulator


@pytest.fixture
def sim(running: RunningSimulator) -> Iterator[RunningSimulator]:
    """The running simulator, put back as it was afterwards."""
    yield running
    running.reload()


async def connect(simulator: RunningSimulator, source: str, *addresses: str, port: int = 10250) -> list[str]:
    """How TCP connections from a machine end: `open`, `refused`, `timeout`, or else nc's own words."""
    script = [f"nc -n -v -z -w 1 {address} {port}" for address in addresses]
    _, stderr = await send(simulator, source, *script)
    words = {"succeeded!": "open", "Connection refused": "refused", "timed out": "timeout"}
    return [
        next((answer for said, answer in words.items() if said in line), line) for line in stderr.splitlines()
    ]


# The network


async def test_a_node_has_the_addresses_of_its_interface(sim: RunningSimulator) -> None:
    """Those of the node and none of its pods; the gateway of its subnet; a name; no other way out."""
    stdout, stderr = await send(
        sim,
        ASKING,
        "ip -o address show dev eth0 scope global",
        "ip route",
        "ip -6 route show default",
        "hostname",
    )
    lines = [" ".join(line.split()) for line in stdout.splitlines()]
    assert stderr == ""
    assert [line.split()[3] for line in lines[:2]] == ["10.1.1.4/24", "fd00:1:1::4/128"]
    assert lines[2:4] == [
        "default via 10.1.1.1 dev eth0 onlink",
        "10.1.1.0/24 dev eth0 proto kernel scope link src 10.1.1.4",
    ]
    assert lines[4].startswith("default via fe80::1234:5678:9abc dev eth0")
    assert lines[5:] == ["aks-system-1-vmss000000"]


async def test_nodes_reach_each_other(sim: RunningSimulator) -> None:
    """In the subnet, in another one, in a peered network, a plain machine, themselves; by IPv4 and IPv6."""
    addresses = [V4, "10.1.2.4", "10.1.9.4", "10.1.1.100", "10.1.1.4", "127.0.0.1", V6, "fd00:1:2::5", "::1"]
    assert await connect(sim, ASKING, *addresses) == ["open"] * len(addresses)
    assert await connect(sim, instance(PEER, 0), "10.1.1.4", "10.1.2.5") == ["open", "open"]
    assert await connect(sim, ASKING, V4, port=22) == ["refused"]


async def test_what_is_sent_to_nobody_vanishes(sim: RunningSimulator) -> None:
    """As in Azure: nobody in the subnet, in the network, or outside says that there is nobody."""
    addresses = ["10.1.1.77", "10.1.2.77", "10.9.9.9", "192.0.2.1", "fd00:1:1::77", "2001:db8::1"]
    assert await connect(sim, ASKING, *addresses) == ["timeout"] * len(addresses)


async def test_equal_addresses_in_two_networks_are_kept_apart(sim: RunningSimulator) -> None:
    """A node of another virtual network asks its own neighbour."""
    sim.set_nodes({NODE: {"listening": False}})
    assert await connect(sim, ASKING, V4) == ["refused"]
    assert await connect(sim, instance(TWIN, 0), V4) == ["open"]
    assert await connect(sim, instance(TWIN, 0), "10.1.2.4") == ["timeout"]


@pytest.mark.parametrize(
    ("drop", "source", "answers"),
    [
        ([("10.1.1.4/32", "10.1.1.0/24")], ASKING, ["timeout", "open", "open"]),
        ([("10.1.1.0/24", "10.1.2.0/24")], ASKING, ["open", "timeout", "open"]),
        ([("10.1.1.0/24", "10.1.2.0/24")], instance(VMSS, 1), ["open", "open", "open"]),
        ([("fd00:1:1::/64", "fd00:1:2::/64")], ASKING, ["open", "open", "timeout"]),
        (
            [("10.0.0.0/8", "10.1.1.5/32"), ("10.1.1.4/30", "10.1.2.4")],
            ASKING,
            ["timeout", "timeout", "open"],
        ),
        ([], ASKING, ["open", "open", "open"]),
    ],
)
async def test_what_the_network_drops(
    sim: RunningSimulator, drop: list[tuple[str, str]], source: str, answers: list[str]
) -> None:
    """TCP 10250 between the pairs of prefixes, in that direction; other ports pass."""
    entry = {"drop": [{"from": one, "to": other} for one, other in drop]}
    assert sim.set_nodes({NETWORK.upper(): entry}) == {}
    assert await connect(sim, source, V4, "10.1.2.4", "fd00:1:2::4") == answers
    assert await connect(sim, source, V4, "10.1.2.4", "fd00:1:2::4", port=22) == ["refused"] * 3


# Firewalls


@pytest.mark.parametrize(
    ("firewall", "answers", "command", "shown"),
    [
        (
            {"iptables": ["-A INPUT -p tcp --dport 10250 -j DROP"]},
            ["timeout", "open"],
            "iptables-nft-save",
            "-A INPUT -p tcp -m tcp --dport 10250 -j DROP\n",
        ),
        (
            {
                "ip6tables": [
                    "-A INPUT -p tcp --dport 10250 -m comment --comment 'team \"g\" it'\\''s' -j DROP"
                ]
            },
            ["open", "timeout"],
            "ip6tables-nft-save",
            '-A INPUT -p tcp -m tcp --dport 10250 -m comment --comment "team \\"g\\" it\\\'s" -j DROP\n',
        ),
        (
            {
                "backend": "legacy",
                "iptables": ["-A INPUT -p tcp --dport 10250 -j REJECT --reject-with tcp-reset"],
            },
            ["refused", "open"],
            "iptables-legacy-save",
            "-A INPUT -p tcp -m tcp --dport 10250 -j REJECT --reject-with tcp-reset\n",
        ),
        (
            {"iptables": ["-N GUARD", "-A INPUT -s 10.1.1.0/24 -j GUARD", "-A GUARD -p tcp -j DROP"]},
            ["timeout", "open"],
            "iptables -S GUARD",
            "-A GUARD -p tcp -j DROP\n",
        ),
        (
            {"iptables": ["-P INPUT DROP", "-A INPUT -p tcp --dport 22 -j ACCEPT"]},
            ["timeout", "open"],
            "iptables -S INPUT",
            "-P INPUT DROP\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n",
        ),
        (
            {"iptables": "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -s 10.1.1.4 -j DROP\nCOMMIT\n"},
            ["timeout", "open"],
            "iptables -t raw -S PREROUTING",
            "-A PREROUTING -s 10.1.1.4/32 -j DROP\n",
        ),
        (
            {
                "ipset": ["create blocked hash:net", "add blocked 10.1.1.0/24"],
                "iptables": ["-A INPUT -m set --match-set blocked src -j DROP"],
            },
            ["timeout", "open"],
            "ipset save",
            "add blocked 10.1.1.0/24\n",
        ),
        (
            {
                "nftables": "table inet guard { chain in { type filter hook input priority 0\n"
                "tcp dport 10250 drop\n}\n}"
            },
            ["timeout", "timeout"],
            "nft -s list ruleset",
            "\t\ttcp dport 10250 drop\n",
        ),
        (
            {"ufw": ["default deny incoming", "allow 22/tcp", "--force enable"]},
            ["timeout", "timeout"],
            "ufw status verbose",
            "Default: deny (incoming), allow (outgoing), disabled (routed)\n",
        ),
        (
            {"ufw": ["allow from 10.1.1.0/24 to any port 10250 proto tcp", "--force enable"]},
            ["open", "timeout"],
            "ufw status",
            "10250/tcp                  ALLOW       10.1.1.0/24               \n",
        ),
        ({}, ["open", "open"], "ufw status", "Status: inactive\n"),
    ],
)
async def test_a_firewall_is_felt_by_others_and_seen_on_the_node(
    sim: RunningSimulator, firewall: dict[str, Any], answers: list[str], command: str, shown: str
) -> None:
    """What another node's connection meets, by IPv4 and IPv6, and what the node's own commands print."""
    assert sim.set_nodes({NODE: {"firewall": firewall}}) == {}
    assert await connect(sim, ASKING, V4, V6) == answers
    stdout, stderr = await send(sim, NODE, command)
    assert shown in stdout
    assert "rror" not in stderr


async def test_nobody_listens(sim: RunningSimulator) -> None:
    """A node whose kubelet is gone refuses, and one that is back accepts."""
    sim.set_nodes({NODE: {"listening": False}})
    assert await connect(sim, ASKING, V4, V6) == ["refused", "refused"]
    sim.set_nodes({NODE: HEALTHY})
    assert await connect(sim, ASKING, V4, V6) == ["open", "open"]


async def test_a_firewall_that_goes_leaves_nothing(sim: RunningSimulator) -> None:
    """Whatever was there before, in either back end; the firewall of this machine has no part in it."""
    every = {
        "ipset": ["create blocked hash:net", "add blocked 10.1.1.0/24"],
        "iptables": ["-A INPUT -m set --match-set blocked src -j DROP", "-t nat -N X", "-P FORWARD DROP"],
        "nftables": "table inet guard { }",
        "ufw": ["deny 10250", "--force enable"],
    }
    look = "iptables-nft-save; ip6tables-nft-save; ipset save; nft list tables; ufw status"
    assert sim.set_nodes({NODE: {"firewall": every}}) == {}
    before, _ = await send(sim, NODE, look)
    assert "table inet guard" in before
    assert "Status: active" in before
    legacy = {"backend": "legacy", "iptables": ["-A INPUT -j DROP", "-t mangle -N Y"]}
    assert sim.set_nodes({NODE: {"firewall": legacy}}) == {}
    assert "-A INPUT -j DROP" in (await send(sim, NODE, "iptables-legacy-save"))[0]
    assert sim.set_nodes({NODE: HEALTHY}) == {}
    assert (await send(sim, NODE, look))[0] == "Status: inactive\n"
    after, _ = await send(sim, NODE, "iptables-legacy-save | grep -v '^[#:*C]'; echo end")
    assert after == "end\n"
    assert await connect(sim, ASKING, V4) == ["open"]


async def test_what_a_script_does_to_a_node_stays_on_the_node(sim: RunningSimulator) -> None:
    """It changes the node's own firewall and files, and no file of this machine."""
    script = "iptables -A INPUT -p tcp --dport 10250 -j DROP; echo x >/tmp/x; touch /usr/x /etc/x; ls /tmp"
    stdout, stderr = await send(sim, NODE, script)
    assert stdout == "x\n"
    assert stderr.count("Read-only file system") == 2
    assert await connect(sim, ASKING, V4) == ["timeout"]
    sim.set_nodes({NODE: {"firewall": {"iptables": ["-A INPUT -p udp -j DROP"]}}})
    assert await connect(sim, ASKING, V4) == ["open"]


async def test_a_firewall_that_cannot_be_made_is_no_healthy_node(sim: RunningSimulator) -> None:
    """The step is named when it is put, in the health, and by every command on that node."""
    await send(sim, NODE, "true")
    problems = sim.set_nodes({NODE: {"firewall": {"iptables": ["-A INPUT -p tcp -j NOWHERE"]}}})
    assert problems.keys() == {NODE.lower()}
    with pytest.raises(HttpResponseError, match=r"iptables-nft-restore --noflush: .*NOWHERE") as failed:
        await send(sim, NODE, "true")
    assert failed.value.error
    assert failed.value.error.code == "VMExtensionProvisioningError"
    assert sim.health()["nodes"]["problems"].keys() == {NODE.lower()}
    problems = sim.set_nodes({NODE: {"firewall": {"ufw": ["allow nonsense"]}}})
    assert problems.keys() == {NODE.lower()}
    assert "ufw allow nonsense: ERROR" in problems[NODE.lower()]
    assert sim.set_nodes({NODE: HEALTHY}) == {}
    assert await send(sim, NODE, "echo well") == ("well\n", "")


async def test_a_node_that_dies_is_made_again(sim: RunningSimulator) -> None:
    """The command that it ran fails; the next one finds the network anew."""
    with pytest.raises(HttpResponseError, match="its process has ended"):
        await send(sim, NODE, "kill -9 $PPID; sleep 60")
    assert await send(sim, NODE, "echo well") == ("well\n", "")
    assert await connect(sim, ASKING, V4) == ["open"]


def test_a_file_that_is_edited_is_felt(tmp_path: Path) -> None:
    """`*.nodes.json` is read again by itself; one that is wrong leaves all as it was, and is reported."""
    file = write(tmp_path) / "some.nodes.json"
    blocked = {"firewall": {"iptables": ["-A INPUT -p tcp --dport 10250 -j DROP"]}}
    file.write_text(json.dumps({NODE: blocked}))
    with RunningSimulator(tmp_path) as simulator:
        assert simulator.health()["nodesEntries"] == 1
        assert asyncio.run(connect(simulator, ASKING, V4)) == ["timeout"]
        file.write_text(json.dumps({NODE: {"firewal": {}}}))
        wait_for(lambda: "Object contains unknown field `firewal`" in simulator.errors)
        assert asyncio.run(connect(simulator, ASKING, V4)) == ["timeout"]
        file.write_text(json.dumps({plain_machine("aks-plain-vm0"): {"listening": False}}))
        wait_for(lambda: simulator.health()["status"] == "ok")
        assert asyncio.run(connect(simulator, ASKING, V4, "10.1.1.100")) == ["open", "refused"]
        assert simulator.health()["nodes"]["networks"] == 1


async def test_machines_that_come_and_go(sim: RunningSimulator) -> None:
    """A scale set that grows is there at the next command; what is deleted no longer answers."""
    assert await connect(sim, ASKING, V4) == ["open"]
    sim.delete(NODE)
    assert await connect(sim, ASKING, V4) == ["timeout"]


async def test_only_so_many_networks_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was not used for longest makes room, and is made again when it is needed."""
    monkeypatch.setattr(run_command, "FABRICS", 1)
    store = Store(fleet.load(write(tmp_path)))
    commands = run_command.RunCommands(store, Operations(), why_recorded="", seconds=0, most=30)
    try:
        for machine in (NODE, instance(TWIN, 0), ASKING):
            outcome = await commands._run(machine.lower(), b"hostname")
            assert outcome.stdout.decode().strip().endswith(machine.rpartition("/")[2])
            assert commands.describe()["networks"] == 1
    finally:
        await commands.close()
    assert commands.describe()["networks"] == 0


# The fabric itself

OPEN = Firewall()


def node(number: int, firewall: Firewall = OPEN) -> Node:
    """A node of a network of its own."""
    return Node(
        key=f"n{number}",
        name=f"node{number}",
        mac=f"00:0d:3a:00:00:{number + 1:02x}",
        addresses=(Address(f"10.2.0.{number + 4}", 24, "10.2.0.1"),),
        firewall=firewall,
    )


@pytest.fixture(params=["root", "user"])
def namespaces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Namespaces as root makes them, and as anybody may where user namespaces are allowed."""
    if request.param == "user":
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert "--user" in nodes_client.command()
    elif os.geteuid() != 0:
        pytest.skip("only root makes namespaces without a user namespace")
    if why := unavailable():
        pytest.skip(f"user namespaces are not allowed here: {why}")


@pytest.mark.usefixtures("namespaces")
async def test_a_fabric() -> None:
    """Nodes with firewalls of all kinds, one without namespaces of its own, and what is dropped between."""
    nodes = (
        node(0),
        node(1, Firewall(iptables=("-A INPUT -p tcp --dport 10250 -j DROP",))),
        node(2, Firewall(ufw=("--force enable",))),
        node(3, Firewall(nftables="table ip t { chain c { type filter hook input priority 0; reject; }; }")),
        node(4),
    )
    network = Network(nodes, others=("10.2.0.200",), drops=(Drop("10.2.0.4", "10.2.0.8"),))
    fabric = await Fabric.start(network)
    try:
        assert fabric.problems == {}
        last = (4, 5, 6, 7, 8, 200, 201)
        script = "".join(f"nc -n -v -z -w 1 10.2.0.{number} 10250 2>&1\n" for number in last)
        outcome = await fabric.run("n0", script.encode(), seconds=30)
        lines = outcome.stdout.decode().splitlines()
        assert ["succeeded" in line for line in lines] == [True, False, False, False, False, True, False]
        assert "refused" in lines[3]
        standing_in = await fabric.run("far away", b"ip -o -4 address show dev eth0; exit 3", seconds=30)
        assert b"10.2.0.200/32" in standing_in.stdout
        assert standing_in.status == 3
        assert (await fabric.run("n0", b"echo begun; sleep 60", seconds=0.3)).status is None
    finally:
        await fabric.close()
    assert fabric.ended
    with pytest.raises(NodesError, match="the simulated network has ended"):
        await fabric.run("n0", b"true", seconds=1)


async def test_a_fabric_that_dies_fails_what_runs() -> None:
    """Whoever waits is told; nothing hangs."""
    fabric = await Fabric.start(Network((node(0),)))
    try:
        command = asyncio.create_task(fabric.run("n0", b"sleep 600", seconds=600))
        await asyncio.sleep(0.1)
        os.kill(fabric._process.pid, signal.SIGKILL)
        with pytest.raises(NodesError, match="the simulated network has ended"):
            await command
    finally:
        await fabric.close()


def descendants(pid: int) -> set[int]:
    """Every process below one, as this machine sees them."""
    found: set[int] = set()
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found |= {child} | descendants(child)
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_behind(tmp_path: Path, number: signal.Signals) -> None:
    """However the simulator ends, in the midst of commands: no process, and no interface of this machine."""
    before = sorted(Path("/sys/class/net").iterdir())
    with RunningSimulator(write(tmp_path)) as simulator:
        asyncio.run(send(simulator, ASKING, "true"))
        asyncio.run(send(simulator, instance(TWIN, 0), "setsid sleep 1234 >/dev/null 2>&1 &"))
        processes = descendants(simulator.pid)
        assert len(processes) >= 10
        assert sorted(Path("/sys/class/net").iterdir()) == before
        simulator.stop(number)
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))


def test_it_is_not_to_be_started_by_hand() -> None:
    """Outside of namespaces it would touch this machine's own network, and does not."""
    done = subprocess.run(
        [sys.executable, "-m", "local.nodes"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("local.nodes: it is started by the Azure simulator")


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        (["-A INPUT -j DROP"], "*filter\n-A INPUT -j DROP\nCOMMIT\n"),
        (["-P INPUT DROP"], "*filter\n:INPUT DROP [0:0]\nCOMMIT\n"),
        (
            ["-A INPUT -j DROP", "-t nat -N X", "--table nat -A X -j RETURN", "-N Y"],
            "*filter\n-A INPUT -j DROP\n-N Y\nCOMMIT\n*nat\n-N X\n-A X -j RETURN\nCOMMIT\n",
        ),
        (
            ["-A INPUT -m comment --comment 'a \"b\" \\ c' -j DROP"],
            '*filter\n-A INPUT -m comment --comment "a \\"b\\" \\\\ c" -j DROP\nCOMMIT\n',
        ),
    ],
)
def test_commands_become_one_text(steps: list[str], text: str) -> None:
    """One call of iptables-restore does them all."""
    assert restore_text("iptables", steps) == text


@pytest.mark.parametrize(
    ("step", "words"), [("", "iptables: an empty line"), ("-A 'x", "iptables -A 'x: No closing")]
)
def test_a_command_that_is_none(step: str, words: str) -> None:
    """It is named."""
    with pytest.raises(StepError, match=words):
        restore_text("iptables", [step])


def _saved(tables: int, rules: int) -> str:
    """As iptables-save prints it: chains first, then rules."""
    return "".join(
        f"*{name}\n:INPUT DROP [0:0]\n:X - [0:0]\n"
        + "".join(f"-A X -s 10.0.{rule // 250}.{rule % 250}/32 -j RETURN\n" for rule in range(rules))
        + "COMMIT\n# Completed\n"
        for name in ("mangle", "nat", "filter")[:tables]
    )


@pytest.mark.parametrize(("tables", "rules", "count"), [(1, 3, 1), (1, 198, 1), (1, 199, 2), (3, 500, 9)])
def test_long_rules_come_in_parts(tables: int, rules: int, count: int) -> None:
    """Together they are the whole, in its order, each of them complete and none long."""
    text = _saved(tables, rules)
    found = list(parts(text))
    assert len(found) == count
    assert max(part.count("\n") for part in found) <= 202
    assert all(part.startswith("*") and "\nCOMMIT" in part for part in found)
    together = [line for part in found for line in part.splitlines() if line[:1] in ":-"]
    assert together == [line for line in text.splitlines() if line[:1] in ":-"]


def test_rules_without_an_end_stay_without_one() -> None:
    """So that iptables-restore says so."""
    *_, last = parts(_saved(1, 500).replace("COMMIT\n", ""))
    assert "COMMIT" not in last


_AS_ANYBODY = """
import asyncio, sys
from local.nodes.client import Fabric
from local.nodes.description import Address, Firewall, Network, Node

async def main():
    firewall = Firewall(iptables=sys.stdin.read())
    node = Node("n", "n", "00:0d:3a:00:00:01", (Address("10.1.0.4", 24, "10.1.0.1"),), firewall)
    fabric = await Fabric.start(Network((node,)))
    print(fabric.problems, (await fabric.run("n", b"iptables-nft-save | grep -c ^-A", seconds=30)).stdout)
    await fabric.close()

asyncio.run(main())
"""


def test_a_long_list_of_rules_needs_no_root() -> None:
    """The kernel takes no message of that length from somebody without root's rights outside."""
    command = ["unshare", "--user", "--map-root-user"]
    trial = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if trial.returncode:
        pytest.skip(f"no user namespaces here: {trial.stderr.strip()}")
    done = subprocess.run(
        [*command, sys.executable, "-c", _AS_ANYBODY],
        input=_saved(3, 600),
        cwd=nodes_client.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "{} b'1800\\n'\n", done.stderr
