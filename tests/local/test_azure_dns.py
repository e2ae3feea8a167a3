"""The simulator's DNS, asked by a real resolver over UDP and TCP, and what it answers to on its own."""

import asyncio
import ipaddress
import json
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.azure.__main__ import main
from local.azure.dns_server import DnsServer
from local.azure.names import check
from local.azure.resolver import Resolver, ask_machine
from tests.simulator import RunningSimulator, wait_for

WEB = "aks-web.hcp.westeurope.azmk8s.io"
MANY = [f"10.0.{number // 200}.{number % 200 + 1}" for number in range(300)]
NAMES: dict[str, list[str] | str] = {
    WEB: ["20.101.7.4"],
    "AKS-Both.HCP.WestEurope.azmk8s.io.": ["20.101.7.5", "2603:1020:206:0:0::5", "20.101.7.6"],
    "aks-six.hcp.westeurope.azmk8s.io": ["2603:1020:206::6"],
    "gone.hcp.westeurope.azmk8s.io": [],
    "silent.hcp.westeurope.azmk8s.io": "timeout",
    "broken.hcp.westeurope.azmk8s.io": "servfail",
    "many.hcp.westeurope.azmk8s.io": MANY,
    "münchen.example": ["10.0.0.8"],
}


def write_fleet(directory: Path) -> Path:
    """A fleet of nothing but names, one file in a sub-directory."""
    (directory / "more").mkdir()
    (directory / "names.json").write_text(json.dumps(dict(list(NAMES.items())[:4])))
    (directory / "more" / "names.json").write_text(json.dumps(dict(list(NAMES.items())[3:])))
    return directory


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    """One simulator for all the tests of this module that leave no trace."""
    with RunningSimulator(write_fleet(tmp_path_factory.mktemp("fleet")), dns=True) as simulator:
        yield simulator


@pytest.fixture
def sim(running: RunningSimulator) -> Iterator[RunningSimulator]:
    """The running simulator, put back as it was afterwards."""
    yield running
    running.reload()


def resolver(port: int, lifetime: float = 5.0) -> dns.asyncresolver.Resolver:
    """A resolver that asks one server on this machine."""
    made = dns.asyncresolver.Resolver(configure=False)
    made.nameservers = ["127.0.0.1"]
    made.port = port
    made.lifetime = lifetime
    return made


async def look_up(port: int, name: str, kind: str = "A", *, tcp: bool = False) -> list[str]:
    """The addresses of a name, or dnspython's own exception."""
    return [item.address for item in await resolver(port).resolve(name, kind, tcp=tcp)]


# Names of the fleet


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize(
    ("name", "kind", "found"),
    [
        (WEB, "A", ["20.101.7.4"]),
        (f"{WEB.upper()}.", "A", ["20.101.7.4"]),
        (WEB, "AAAA", dns.resolver.NoAnswer),
        (WEB, "TXT", dns.resolver.NoAnswer),
        ("aks-both.hcp.westeurope.azmk8s.io", "A", ["20.101.7.5", "20.101.7.6"]),
        ("aks-both.hcp.westeurope.azmk8s.io", "AAAA", ["2603:1020:206::5"]),
        ("aks-six.hcp.westeurope.azmk8s.io", "AAAA", ["2603:1020:206::6"]),
        ("aks-six.hcp.westeurope.azmk8s.io", "A", dns.resolver.NoAnswer),
        ("gone.hcp.westeurope.azmk8s.io", "A", dns.resolver.NXDOMAIN),
        ("gone.hcp.westeurope.azmk8s.io", "AAAA", dns.resolver.NXDOMAIN),
        ("broken.hcp.westeurope.azmk8s.io", "A", dns.resolver.NoNameservers),
        ("many.hcp.westeurope.azmk8s.io", "A", MANY),
        ("münchen.example", "A", ["10.0.0.8"]),
    ],
)
async def test_names_of_the_fleet(
    sim: RunningSimulator, name: str, kind: str, found: list[str] | type[Exception], tcp: bool
) -> None:
    """A and AAAA by what the addresses are; what goes wrong is the resolver's own exception."""
    if isinstance(found, list):
        assert await look_up(sim.dns_port, name, kind, tcp=tcp) == found
    else:
        with pytest.raises(found) as missed:
            await look_up(sim.dns_port, name, kind, tcp=tcp)
        assert found is not dns.resolver.NoNameservers or "SERVFAIL" in str(missed.value)


@pytest.mark.parametrize("tcp", [False, True])
async def test_a_name_that_is_never_answered(sim: RunningSimulator, tcp: bool) -> None:
    """The resolver gives up when its time is over."""
    with pytest.raises(dns.resolver.LifetimeTimeout):
        await resolver(sim.dns_port, lifetime=0.5).resolve("silent.hcp.westeurope.azmk8s.io", tcp=tcp)
    assert await look_up(sim.dns_port, WEB, tcp=tcp) == ["20.101.7.4"]


@pytest.mark.parametrize(
    ("payload", "cut"), [(None, True), (512, True), (1232, True), (4096, True), (8192, False)]
)
async def test_an_answer_that_is_too_long_for_udp(
    sim: RunningSimulator, payload: int | None, cut: bool
) -> None:
    """It keeps to what the client can take and says that there is more; over TCP there is all of it."""
    query = dns.message.make_query("many.hcp.westeurope.azmk8s.io", "A", payload=payload)
    answer = await dns.asyncquery.udp(query, "127.0.0.1", port=sim.dns_port, timeout=5)
    assert bool(answer.flags & dns.flags.TC) is cut
    assert len(answer.wire or b"") <= (payload or 512)
    answer, over_tcp = await dns.asyncquery.udp_with_fallback(
        query, "127.0.0.1", port=sim.dns_port, timeout=5
    )
    assert over_tcp is cut
    assert [item.address for item in answer.answer[0]] == MANY


async def test_nobody_may_remember_an_answer(sim: RunningSimulator) -> None:
    """The time to live is 0: what changes in a file is seen at once."""
    answer = await resolver(sim.dns_port).resolve(WEB)
    assert answer.rrset is not None
    assert answer.rrset.ttl == 0
    assert answer.response.flags & dns.flags.RA


async def test_names_are_set_while_it_runs(sim: RunningSimulator) -> None:
    """Old names and new ones, until all is read again."""
    sim.set_names({f"{WEB.upper()}.": ["10.9.9.9"], "new.example": ["10.9.9.8"]})
    assert await look_up(sim.dns_port, WEB) == ["10.9.9.9"]
    assert await look_up(sim.dns_port, "new.example") == ["10.9.9.8"]
    assert sim.call("GET", "/_sim/names")[WEB] == ["10.9.9.9"]
    sim.set_names({WEB: "servfail"})
    with pytest.raises(dns.resolver.NoNameservers):
        await look_up(sim.dns_port, WEB)
    sim.reload()
    assert await look_up(sim.dns_port, WEB) == ["20.101.7.4"]


async def test_an_edited_file_is_answered_from(tmp_path: Path) -> None:
    """A name that changes in its file, and one that was set and stays as it was set."""
    with RunningSimulator(write_fleet(tmp_path), dns=True) as simulator:
        simulator.set_names({"broken.hcp.westeurope.azmk8s.io": ["10.9.9.7"]})
        (tmp_path / "names.json").write_text(json.dumps({WEB: ["20.101.7.44"], "late.example": ["10.9.9.6"]}))
        wait_for(lambda: "late.example" in simulator.call("GET", "/_sim/names"))
        assert await look_up(simulator.dns_port, WEB) == ["20.101.7.44"]
        assert await look_up(simulator.dns_port, "broken.hcp.westeurope.azmk8s.io") == ["10.9.9.7"]
        assert simulator.health()["dnsPort"] == simulator.dns_port


# All other names


async def test_other_names_are_asked_of_this_machine(sim: RunningSimulator) -> None:
    """Its hosts file included."""
    assert "127.0.0.1" in await look_up(sim.dns_port, "localhost.")


@pytest.mark.parametrize("name", ["10.0.0.1", "1", "0x7f.1", "\\:\\:1"])
async def test_an_address_is_no_name(sim: RunningSimulator, name: str) -> None:
    """The machine's resolver would read it as one; a DNS server has no such name."""
    with pytest.raises(dns.resolver.NXDOMAIN):
        await look_up(sim.dns_port, f"{name}.")


def machine(outcome: Any) -> Any:
    """What stands for this machine's resolver: it answers, fails, or takes for ever."""

    def getaddrinfo(host: str, port: None, **_options: Any) -> list[Any]:
        assert (host, port) == ("other.example", None)
        if isinstance(outcome, Exception):
            raise outcome
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))
            for address in outcome
        ]

    return getaddrinfo


@pytest.mark.parametrize(
    ("outcome", "rcode", "addresses"),
    [
        (["10.1.1.1", "10.1.1.1", "fd00::1"], dns.rcode.NOERROR, ["10.1.1.1"]),
        (["fd00::1"], dns.rcode.NOERROR, []),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), dns.rcode.NXDOMAIN, []),
        (
            socket.gaierror(socket.EAI_NODATA, "No address associated with hostname"),
            dns.rcode.NXDOMAIN,
            [],
        ),
        (UnicodeError("label too long"), dns.rcode.NXDOMAIN, []),
        (
            socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
            dns.rcode.SERVFAIL,
            [],
        ),
        (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure"), dns.rcode.SERVFAIL, []),
        (OSError("too many open files"), dns.rcode.SERVFAIL, []),
    ],
)
async def test_what_this_machine_says(
    monkeypatch: pytest.MonkeyPatch, outcome: Any, rcode: dns.rcode.Rcode, addresses: list[str]
) -> None:
    """A name that it does not know does not exist; where it could not find out, neither could we."""
    monkeypatch.setattr(socket, "getaddrinfo", machine(outcome))
    answer = await asked(Resolver(NOTHING.get), "Other.Example.")
    assert answer.rcode() == rcode
    assert [item.address for part in answer.answer for item in part] == addresses


async def test_an_address_with_a_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The zone of a link-local address means nothing to others."""
    monkeypatch.setattr(socket, "getaddrinfo", machine(["fe80::1%eth0"]))
    answer = await asked(Resolver(NOTHING.get), "other.example.", "AAAA")
    assert [item.address for item in answer.answer[0]] == ["fe80::1"]


def test_a_machine_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The question fails in time, and the end of the program does not wait for it."""
    released = threading.Event()

    def getaddrinfo(*_arguments: Any, **_options: Any) -> list[Any]:
        released.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    answer = asyncio.run(asked(Resolver(NOTHING.get, patience=0.05), "other.example."))
    assert answer.rcode() == dns.rcode.SERVFAIL
    assert not released.is_set()
    (looking,) = [one for one in threading.enumerate() if one.name.endswith("(look)")]
    assert looking.daemon
    released.set()
    looking.join(10)
    assert not looking.is_alive()


async def test_a_slow_name_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """While this machine thinks about one name, over UDP and TCP, others are answered."""
    released = threading.Event()

    def getaddrinfo(*_arguments: Any, **_options: Any) -> list[Any]:
        released.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    server = DnsServer(Resolver({"quick.example": ("10.0.0.1",)}.get))
    port = await server.start(0)
    try:
        slow = [
            asyncio.create_task(look_up(port, f"slow{number}.example", tcp=bool(number % 2)))
            for number in range(40)
        ]
        for tcp in (False, True):
            assert await look_up(port, "quick.example", tcp=tcp) == ["10.0.0.1"]
        assert not any(task.done() for task in slow)
        released.set()
        answers = await asyncio.gather(*slow, return_exceptions=True)
        assert all(isinstance(answer, dns.resolver.NXDOMAIN) for answer in answers)
    finally:
        released.set()
        await server.stop()


# Messages


NOTHING: dict[str, Any] = {}
QUERY = dns.message.make_query(WEB, "A", id=0x1234).to_wire()


async def asked(
    by: Resolver, name: str | dns.name.Name, kind: str = "A", *, stream: bool = True
) -> dns.message.Message:
    """What a resolver answers, read as the answer to the question."""
    query = dns.message.make_query(name, kind)
    wire = await by.respond(query.to_wire(), stream=stream)
    assert wire is not None
    answer = dns.message.from_wire(wire)
    assert query.is_response(answer)
    return answer


@pytest.mark.parametrize(
    ("wire", "rcode"),
    [
        (b"", None),
        (b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00", None),
        (QUERY[:2] + b"\x81" + QUERY[3:], None),  # an answer
        (QUERY[:12], dns.rcode.FORMERR),
        (QUERY[:-1], dns.rcode.FORMERR),
        (QUERY + b"junk", dns.rcode.FORMERR),
        (struct.pack("!6H", 0x1234, 0x0100, 0, 0, 0, 0), dns.rcode.FORMERR),
        (struct.pack("!6H", 0x1234, 0x0100, 2, 0, 0, 0) + 2 * QUERY[12:], dns.rcode.FORMERR),
        (QUERY[:2] + b"\x29" + QUERY[3:], dns.rcode.NOTIMP),  # an update
        (QUERY[:-1] + b"\x03", dns.rcode.REFUSED),  # of class CHAOS
        (QUERY, dns.rcode.NOERROR),
    ],
)
async def test_messages_that_are_no_question(wire: bytes, rcode: dns.rcode.Rcode | None) -> None:
    """An error with the message's id where there is one to answer to, silence where there is none."""
    answer = await Resolver({WEB: ("20.101.7.4",)}.get).respond(wire, stream=False)
    assert (answer and (answer[:2], answer[3] & 0xF)) == (None if rcode is None else (b"\x12\x34", rcode))


@given(wire=st.binary(max_size=80) | st.builds(lambda tail: QUERY[:12] + tail, st.binary(max_size=60)))
@settings(deadline=None, max_examples=300)
def test_no_message_breaks_it(wire: bytes) -> None:
    """Whatever comes: silence, or an answer with the same id that is marked as one."""

    async def nobody(_name: str) -> tuple[str, ...]:
        return ()

    answer = asyncio.run(Resolver(NOTHING.get, ask=nobody).respond(wire, stream=False))
    if answer is not None:
        assert answer[:2] == wire[:2]
        assert answer[2] & 0x80
        dns.message.from_wire(answer)


LABELS = st.text("abcAB-1", min_size=1, max_size=4)
HOSTS = st.lists(LABELS, min_size=1, max_size=3).map(lambda labels: ".".join(["x", *labels]))
ADDRESSES = st.lists(st.ip_addresses().map(str), max_size=4, unique=True)


@given(
    names=st.dictionaries(HOSTS, ADDRESSES, max_size=5),
    others=st.dictionaries(HOSTS, ADDRESSES, max_size=3),
    data=st.data(),
)
@settings(deadline=None)
def test_every_name_against_a_list(
    names: dict[str, list[str]], others: dict[str, list[str]], data: st.DataObject
) -> None:
    """The addresses of one family in their order, or none, or no such name; the file's word comes first."""
    mine = {name.lower(): found for name, found in names.items()}
    machines = {name.lower(): found for name, found in others.items()}

    async def ask(name: str) -> tuple[str, ...]:
        return tuple(machines.get(name, ()))

    wanted = data.draw(st.sampled_from([*names, *others, "absent"])).swapcase()
    version = data.draw(st.sampled_from([4, 6]))
    served = {host: answer for host, (_, answer) in check(mine).items()}
    answer = asyncio.run(asked(Resolver(served.get, ask=ask), f"{wanted}.", "A" if version == 4 else "AAAA"))
    known = mine.get(wanted.lower(), machines.get(wanted.lower(), []))
    assert answer.rcode() == (dns.rcode.NOERROR if known else dns.rcode.NXDOMAIN)
    assert [item.address for part in answer.answer for item in part] == [
        address for address in known if ipaddress.ip_address(address).version == version
    ]


async def test_several_questions_on_one_connection(sim: RunningSimulator) -> None:
    """Over TCP a connection stays open, through a question that is never answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.dns_port)
    for name in (WEB, "silent.hcp.westeurope.azmk8s.io", "gone.hcp.westeurope.azmk8s.io"):
        wire = dns.message.make_query(name, "A").to_wire()
        writer.write(len(wire).to_bytes(2) + wire)
    answers = []
    for _ in range(2):
        size = int.from_bytes(await reader.readexactly(2))
        answers.append(dns.message.from_wire(await reader.readexactly(size)).rcode())
    assert answers == [dns.rcode.NOERROR, dns.rcode.NXDOMAIN]
    writer.close()
    await writer.wait_closed()


# The process


def test_without_the_option_there_is_no_dns(tmp_path: Path) -> None:
    """Nothing is announced, and nobody is told to ask here."""
    with RunningSimulator(write_fleet(tmp_path)) as simulator:
        assert simulator.dns_server == ""
        assert simulator.health()["dnsPort"] is None
        assert "DNS_SERVER" not in simulator.identity_env()


def test_the_server_is_announced(sim: RunningSimulator) -> None:
    """By the name of the variable that an app finds it by."""
    assert sim.identity_env()["DNS_SERVER"] == f"127.0.0.1:{sim.health()['dnsPort']}"


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_that_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: socket.SocketKind
) -> None:
    """For UDP or TCP: one line names the port and how to choose another; exit status 1."""
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        fleet = ["--fleet", str(write_fleet(tmp_path)), "--port", "0"]
        assert main([*fleet, "--dns-port", str(port)]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert f"port {port} on 127.0.0.1 cannot be used for DNS" in said.err
    assert "--dns-port" in said.err


async def test_a_free_port_is_free_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the port that UDP got is somebody's for TCP, another is tried."""
    listen = asyncio.start_server
    refused: list[int] = []

    async def start_server(converse: Any, host: str, port: int, **options: Any) -> asyncio.Server:
        if not refused:
            refused.append(port)
            raise OSError("Address already in use")
        return await listen(converse, host, port, **options)

    monkeypatch.setattr(asyncio, "start_server", start_server)
    server = DnsServer(Resolver({"quick.example": ("10.0.0.1",)}.get))
    port = await server.start(0)
    try:
        for tcp in (False, True):
            assert await look_up(port, "quick.example", tcp=tcp) == ["10.0.0.1"]
    finally:
        await server.stop()
    assert len(refused) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_when_told_to(tmp_path: Path, number: int) -> None:
    """At once and with 0, even while questions wait for an answer."""
    with RunningSimulator(write_fleet(tmp_path), dns=True) as simulator:
        waiting = [
            asyncio.create_task(
                resolver(simulator.dns_port, lifetime=20).resolve("silent.hcp.westeurope.azmk8s.io", tcp=tcp)
            )
            for tcp in (False, True)
        ]
        await asyncio.sleep(0.2)
        before = time.monotonic()
        assert simulator.stop(number) == 0
        assert time.monotonic() - before < 3
        assert simulator.errors == ""
        for task in waiting:
            task.cancel()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError | dns.exception.DNSException) for one in ended)


async def test_the_machines_resolver_is_asked_in_a_thread() -> None:
    """What the machine itself knows, without a server around it."""
    assert "127.0.0.1" in await ask_machine("localhost")
