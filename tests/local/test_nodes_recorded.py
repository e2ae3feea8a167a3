"""What a fleet says of its nodes, and nodes that are recorded text where there are no namespaces."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from local.azure import fleet
from local.azure.arm import MalformedError
from local.azure.machines import MOST, Layout
from local.azure.nodes import VirtualNetwork, check
from local.azure.store import Store
from local.nodes.client import unavailable
from tests.local.node_fleet import HEALTHY, NETWORK, SYSTEM, TWIN, instance, plain_machine, send, show, write
from tests.simulator import RunningSimulator

NODE = instance(SYSTEM, 0)
OTHER = instance(SYSTEM, 1)
DROP = {"iptables": ["-A INPUT -p tcp --dport 10250 -j DROP"]}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    """One simulator without namespaces for all tests of this module."""
    with RunningSimulator(write(tmp_path_factory.mktemp("fleet")), "--nodes", "recorded") as simulator:
        yield simulator


@pytest.fixture
def sim(running: RunningSimulator) -> Iterator[RunningSimulator]:
    """The running simulator, put back as it was afterwards."""
    yield running
    running.reload()


# What a fleet says


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "not a JSON object"),
        ({"n": {}}, '"n" is no ARM id: an ARM id starts with /subscriptions/'),
        ({f"{NETWORK}/subnets/one": {}}, "is not the id of a machine, a scale set or a virtual network"),
        ({NODE.rpartition("/")[0]: {}}, "is not the id of a machine, a scale set or a virtual network"),
        ({NODE: []}, f'"{NODE}": Expected `object`, got `array`'),
        ({NODE: {"firewal": {}}}, "Object contains unknown field `firewal`"),
        ({NODE: {"firewall": {"iptables": [1]}}}, "Expected `str`, got `int` - at `$.firewall.iptables[0]`"),
        (
            {NODE: {"firewall": {"backend": "ebtables"}}},
            "Invalid enum value 'ebtables' - at `$.firewall.backend`",
        ),
        ({NODE: {"listening": "no"}}, "Expected `bool`, got `str` - at `$.listening`"),
        ({NODE: {"runCommand": "slow"}}, "Invalid enum value 'slow' - at `$.runCommand`"),
        ({NODE: {"runCommand": {"fault": "busy", "times": 0}}}, "runCommand.times is a whole number above 0"),
        (
            {NODE: {"runCommand": {"fault": "silent", "seconds": -1}}},
            "runCommand.seconds is a number, 0 or more",
        ),
        (
            {NODE: {"recorded": {"cat /etc/passwd": ""}}},
            '"cat /etc/passwd" is no command that can be recorded',
        ),
        ({NODE: {"recorded": {"../x": ""}}}, '"../x" is no command that can be recorded'),
        ({NODE: {"recorded": {" ": ""}}}, '" " is no command that can be recorded'),
        ({NODE: {"answers": "closed"}}, "Invalid enum value 'closed' - at `$.answers`"),
        ({NETWORK: {"firewall": {}}}, "Object contains unknown field `firewall`"),
        (
            {NETWORK: {"drop": [{"from": "10.0.0.0/8"}]}},
            "Object missing required field `to` - at `$.drop[0]`",
        ),
        ({NETWORK: {"drop": [{"from": "10.0.0.0/8", "to": "all"}]}}, "drop[0]: not an IP prefix: all"),
        (
            {NETWORK: {"drop": [{"from": "10.0.0.0/8", "to": "fd00::/8"}]}},
            "drop[0]: one prefix is IPv4 and the other IPv6",
        ),
        ({NODE: {}, NODE.upper(): {"listening": False}}, f'is there as "{NODE}" too, with other content'),
    ],
)
def test_what_is_said_wrongly_is_named(content: Any, words: str) -> None:
    """With the id, and the place in what is said of it."""
    with pytest.raises(MalformedError) as wrong:
        check(content)
    assert words in str(wrong.value)


def test_two_files_may_not_disagree(tmp_path: Path) -> None:
    """As with everything else in a fleet."""
    write(tmp_path)
    (tmp_path / "a.nodes.json").write_text(json.dumps({NODE: {"listening": False}}))
    (tmp_path / "b.nodes.json").write_text(json.dumps({NODE.lower(): {"firewall": DROP}}))
    with pytest.raises(
        fleet.FleetError, match=r"b\.nodes\.json: .* is also in .*a\.nodes\.json, with other content"
    ):
        fleet.load(tmp_path)


def test_it_is_put_and_shown(sim: RunningSimulator) -> None:
    """In the form of the file, by ids in lower case; what is wrong is refused and changes nothing."""
    entries = {
        NODE: {"firewall": DROP, "runCommand": "busy"},
        NETWORK: {"drop": [{"from": "10.0.0.0/8", "to": "::/0"}]},
    }
    with pytest.raises(RuntimeError, match=r"400 .*one prefix is IPv4"):
        sim.set_nodes(entries)
    assert sim.call("GET", "/_sim/nodes") == {}
    entries[NETWORK] = {"drop": [{"from": "10.0.0.0/8", "to": "10.1.0.0/16"}]}
    assert sim.set_nodes(entries) == {}
    assert sim.call("GET", "/_sim/nodes") == {key.lower(): entry for key, entry in entries.items()}
    sim.reload()
    assert sim.call("GET", "/_sim/nodes") == {}


def test_machines_beyond_the_most_share_one(tmp_path: Path) -> None:
    """Those of which something is said keep their own; the order does not hang on what is said."""
    documents = [show(SYSTEM, number) for number in range(80)]
    (write(tmp_path) / "more.json").write_text(json.dumps(documents[3:]))
    store = Store(fleet.load(tmp_path))
    layout = Layout(store)
    group = layout.group_of(NODE.lower())
    assert group is not None
    before = layout.network(group)
    assert len(before.nodes) == MOST
    assert len({item.address for node in before.nodes for item in node.addresses} & set(before.others)) == 0
    assert "10.1.1.83" in before.others
    store.nodes.put(
        {
            key: entry
            for key, (_, entry) in check({instance(SYSTEM, 79).lower(): {"listening": False}}).items()
        }
    )
    after = layout.network(group)
    assert len(after.nodes) == MOST
    assert [node.name for node in after.nodes if not node.listening] == [f"{SYSTEM}000079"]
    assert [node.key for node in after.nodes if node.listening] == [node.key for node in before.nodes][
        : MOST - 1
    ]
    assert layout.group_of(instance(TWIN, 0).lower()) != group
    assert layout.group_of(plain_machine("nowhere").lower()) is None
    store.nodes.put({NETWORK.lower(): VirtualNetwork()})
    assert layout.network(group).drops == ()


# Recorded nodes


def test_it_says_so(sim: RunningSimulator) -> None:
    """At the start, and in its health."""
    assert sim.nodes == "recorded text (it was asked for with --nodes recorded)"
    nodes = sim.health()["nodes"]
    assert (nodes["mode"], nodes["why"], nodes["networks"]) == (
        "recorded",
        "it was asked for with --nodes recorded",
        0,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has namespaces to do without")
def test_without_the_tools_nodes_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that lacks what namespaces take runs all the same, and says what it lacks."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert unavailable().startswith("not installed: unshare")
    with RunningSimulator(write(tmp_path)) as simulator:
        assert simulator.nodes.startswith("recorded text (not installed: unshare")
        assert simulator.health()["nodes"]["why"].startswith("not installed: unshare")


async def test_an_ordinary_node(sim: RunningSimulator) -> None:
    """Its filters are empty, its UFW is off, every neighbour answers; what was not recorded is not there."""
    script = "hostname; ufw status; iptables-save; nft list ruleset; ip addr; nc -n -v -z -w 2 10.1.1.5 10250"
    stdout, stderr = await send(sim, NODE, script, parameters={"nonce": "1"})
    assert stdout == f"{SYSTEM}000000\nStatus: inactive\n"
    assert "ip: not found\nConnection to 10.1.1.5 10250 port [tcp/*] succeeded!\n" in stderr


@pytest.mark.parametrize(
    "path",
    [
        "",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin\n",
        "  export PATH=/usr/sbin:/usr/bin; ",
        "LC_ALL=C\nPATH=/sbin\nexport PATH\n",
    ],
)
async def test_recorded_text_stands_in_for_commands(sim: RunningSimulator, path: str) -> None:
    """By command line, else by name; with status and standard error; also for a script that sets its PATH."""
    dump = '*filter\n-A INPUT -m comment --comment "it\'s $HOME" -j DROP\nCOMMIT\n'
    recorded = {
        "iptables-nft-save": dump,
        "ufw status verbose": "Status: active\n",
        "ufw   status": "short\n",
        "ufw": {"stderr": "ERROR: %s\n", "status": 3},
        "nft -s list ruleset": "",
    }
    sim.set_nodes({NODE: {"firewall": DROP, "recorded": recorded}})
    script = "iptables-nft-save -t filter; ufw status verbose; ufw status; ufw show raw; echo $?\n"
    script += "nft list; echo $?; iptables-legacy-save; grep -c . <<e\nx\ne"
    stdout, stderr = await send(sim, NODE, path + script)
    assert stdout == f"{dump}Status: active\nshort\n3\n2\n1\n"
    assert stderr.startswith("ERROR: %s\nnft: nothing is recorded for these arguments: list\n")
    assert stderr.endswith("iptables-legacy-save: not found\n")


async def test_legacy_tables_are_those_that_were_recorded(sim: RunningSimulator) -> None:
    """The kernel's list of them tells of the node, and not of this machine."""
    script = "cat /proc/net/ip_tables_names; echo; [ -s /proc/net/ip6_tables_names ] || echo none"
    assert (await send(sim, NODE, script))[0] == "\nnone\n"
    dump = "*nat\n:INPUT ACCEPT [0:0]\nCOMMIT\n*filter\n-A INPUT -m comment --comment *x -j DROP\nCOMMIT\n"
    sim.set_nodes({NODE: {"firewall": DROP, "recorded": {"iptables-legacy-save": dump}}})
    assert (await send(sim, NODE, script))[0] == "nat\nfilter\n\nnone\n"


async def test_how_others_answer(sim: RunningSimulator) -> None:
    """As recorded, as they listen, as the network drops; one whose firewall nobody recorded does neither."""
    sim.set_nodes(
        {
            OTHER: {"listening": False},
            instance(SYSTEM, 2): {"firewall": DROP, "answers": "timeout"},
            plain_machine("aks-plain-vm0"): {"firewall": DROP},
            NETWORK: {"drop": [{"from": "10.1.1.4/32", "to": "10.1.2.0/24"}]},
        }
    )
    hosts = [
        "10.1.1.5",
        "10.1.1.6",
        "10.1.1.100",
        "10.1.2.4",
        "10.1.9.4",
        "10.1.1.4",
        "10.9.9.9",
        "fd00:1:2::4",
    ]
    script = [f"nc -n -v -z -w 2 {host} 10250 2>&1; echo $?" for host in hosts]
    lines = (await send(sim, NODE, *script))[0].splitlines()
    assert lines[1::2] == ["1", "1", "2", "1", "0", "0", "1", "0"]
    assert lines[0] == "nc: connect to 10.1.1.5 port 10250 (tcp) failed: Connection refused"
    assert lines[2] == "nc: connect to 10.1.1.6 port 10250 (tcp) timed out: Operation now in progress"
    assert lines[4] == "nc: nothing is recorded of how 10.1.1.100 answers"
    assert lines[6] == lines[2].replace("10.1.1.6", "10.1.2.4")


async def test_nothing_recorded_is_no_healthy_node(sim: RunningSimulator) -> None:
    """A node with a firewall that nobody recorded fails its commands, and says why."""
    sim.set_nodes({NODE: {"firewall": DROP}})
    with pytest.raises(HttpResponseError, match="nothing is recorded of its firewall, and it was asked for"):
        await send(sim, NODE, "ufw status")
    sim.set_nodes({NODE: HEALTHY})
    assert await send(sim, NODE, "ufw status") == ("Status: inactive\n", "")


async def test_misbehaviour_needs_no_namespaces(sim: RunningSimulator) -> None:
    """It is Run Command's, not the node's."""
    sim.set_nodes({NODE: {"runCommand": {"fault": "no-output", "times": 1}}})
    assert await send(sim, NODE, "echo a") == ("", "")
    assert await send(sim, NODE, "echo a") == ("a\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's powers in /proc")
async def test_it_has_no_power_over_this_machine(sim: RunningSimulator) -> None:
    """A script finds none of the real commands, and none of root's powers if it finds them elsewhere."""
    stdout, _ = await send(sim, NODE, "command -v iptables ip unshare; grep CapEff /proc/self/status")
    assert stdout == "CapEff:\t0000000000000000\n"
