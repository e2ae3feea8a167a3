"""The fabric of a simulated virtual network: a router that every node hangs on by a cable of its own.

As in Azure, one hardware address answers for every neighbour and gateway, packets go from node to node by
routing alone whatever subnets they are in, and what is sent to nobody vanishes. Nothing leads out of it.
"""

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from local.nodes.description import (
    FABRIC_MAC,
    GATEWAY_V6,
    KUBELET,
    Address,
    Answer,
    Drop,
    Network,
    Node,
    Request,
    encode,
)
from local.nodes.node import LINE, be

OTHERS = ""
"""The key of the node that stands for all others."""
_LOST = "its process has ended"
_OTHERS_MAC = "00:0d:3a:00:00:00"
_HOP_V4, _OTHERS_V4 = "169.254.0.1", "169.254.0.2"
_OTHERS_V6 = "fe80::2"
_SYSCTL = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/conf/default/proxy_arp": "1",
    "ipv6/conf/all/forwarding": "1",
    "ipv6/conf/default/accept_dad": "0",
}

_decode = msgspec.json.Decoder(Request).decode
_decode_answer = msgspec.json.Decoder(Answer).decode


def serve(network: Network) -> None:
    """Make a network, and answer requests on standard input until it ends."""
    cables = {node.key: _fork(node) for node in (_others(network), *network.nodes)}
    for index, (cable, _) in enumerate(cables.values()):
        if cable.recv(1) != b"\n":
            sys.exit(f"the namespaces of node {index} could not be made")  # it has said why
    _wire(network, [child for _, child in cables.values()])
    _filter(network.drops)
    asyncio.run(_Switchboard(network).work({key: cable for key, (cable, _) in cables.items()}))


def _others(network: Network) -> Node:
    """The machine that has the addresses of all that get no namespaces, and drops what is for nobody."""
    addresses = [
        Address(address, *((128, GATEWAY_V6) if ":" in address else (32, _HOP_V4)))
        for address in (_OTHERS_V4, _OTHERS_V6, *network.others)
    ]
    return Node(OTHERS, "others", _OTHERS_MAC, tuple(addresses))


def _fork(node: Node) -> tuple[socket.socket, int]:
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child:
        theirs.close()
        return ours, child
    status = 1
    try:
        ours.close()
        with suppress(KeyboardInterrupt):
            be(node, theirs)
        status = 0
    except OSError as error:
        print(f"{node.name}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def _wire(network: Network, children: list[int]) -> None:
    """Lay the cables and set the routes; children are in the order of the nodes, after the others'."""
    for name, value in _SYSCTL.items():
        with suppress(FileNotFoundError):  # a kernel without IPv6
            Path("/proc/sys/net", name).write_text(value, encoding="ascii")
    nodes = (_others(network), *network.nodes)
    lines = ["link set lo up"]
    for index, (node, child) in enumerate(zip(nodes, children, strict=True)):
        cable = f"link add v{index} address {FABRIC_MAC}"
        lines += [
            " ".join((cable, "type veth peer name eth0 address", node.mac, "netns", str(child))),
            f"address add {GATEWAY_V6}/64 dev v{index} nodad",
            f"link set v{index} up",
        ]
    lines += [
        f"neighbour replace {_OTHERS_V4} lladdr {_OTHERS_MAC} dev v0 nud permanent",
        f"neighbour replace {_OTHERS_V6} lladdr {_OTHERS_MAC} dev v0 nud permanent",
        f"route add default via {_OTHERS_V4} dev v0 onlink",
        f"route add ::/0 via {_OTHERS_V6} dev v0 onlink",
    ]
    for index, node in enumerate(network.nodes, start=1):
        for item in node.addresses:
            whole = f"{item.address}/{128 if ':' in item.address else 32}"
            lines += [
                f"neighbour replace {item.address} lladdr {node.mac} dev v{index} nud permanent",
                f"route add {whole} dev v{index}",
            ]
    _run(["ip", "-batch", "-"], "".join(f"{line}\n" for line in lines))
    for index in range(
        len(nodes)
    ):  # it answers for others at once; there is no default for it in a namespace
        Path(f"/proc/sys/net/ipv4/neigh/v{index}/proxy_delay").write_text("0", encoding="ascii")


def _filter(drops: tuple[Drop, ...]) -> None:
    """Drop what the network drops, and nothing else."""
    rules = "".join(
        "ip{0} saddr {1.source} ip{0} daddr {1.destination} tcp dport {2} drop\n".format(
            "6" if ":" in drop.source else "", drop, KUBELET
        )
        for drop in drops
    )
    _run(
        ["nft", "-f", "-"],
        "add table inet network\ndelete table inet network\ntable inet network {\nchain forward {\n"
        f"type filter hook forward priority filter; policy accept;\n{rules}}}\n}}\n",
    )


def _run(command: list[str], given: str) -> None:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{command[0]}: {' '.join(done.stderr.split())}")


class _Switchboard:
    """Passes requests on to the nodes, and their answers back."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._writers: dict[str, asyncio.StreamWriter] = {}
        self._open: dict[str, set[int]] = {}  # what each living node was asked and has not answered

    async def work(self, cables: dict[str, socket.socket]) -> None:
        """Set every node up, say so, and go on until standard input ends."""
        loop = asyncio.get_running_loop()
        firsts: list[asyncio.Future[str]] = []
        pumps = []
        for node in (_others(self._network), *self._network.nodes):
            reader, writer = await asyncio.open_connection(sock=cables[node.key], limit=LINE)
            self._writers[node.key] = writer
            self._open[node.key] = set()
            first: asyncio.Future[str] = loop.create_future()
            pumps.append(asyncio.create_task(self._pump(node.key, reader, first)))
            self._ask(Request(0, node.key, firewall=node.firewall, listening=node.listening))
            firsts.append(first)
        keys = [OTHERS, *(node.key for node in self._network.nodes)]
        said = dict(zip(keys, await asyncio.gather(*firsts), strict=True))
        _say(Answer(0, problems={key: problem for key, problem in said.items() if problem}))
        requests = asyncio.StreamReader(limit=LINE)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)
        while line := await requests.readline():
            request = _decode(line)
            if request.drops is not None:
                _say(self._drop(request.number, request.drops))
            else:
                self._ask(request)

    def _ask(self, request: Request) -> None:
        node = request.node or OTHERS
        if node not in self._open:
            _say(Answer(request.number, problem=_LOST, lost=True))
            return
        self._open[node].add(request.number)
        self._writers[node].write(encode(request) + b"\n")

    async def _pump(self, node: str, reader: asyncio.StreamReader, first: asyncio.Future[str]) -> None:
        while line := await _line(reader):
            answer = _decode_answer(line)
            self._open[node].discard(answer.number)
            if answer.number == 0:
                first.set_result(answer.problem)
            else:
                _say(answer)
        unanswered = self._open.pop(node)
        if not first.done():
            first.set_result(_LOST)
        for number in unanswered - {0}:
            _say(Answer(number, problem=_LOST, lost=True))

    @staticmethod
    def _drop(number: int, drops: tuple[Drop, ...]) -> Answer:
        try:
            _filter(drops)
        except OSError as error:
            return Answer(number, problem=str(error))
        return Answer(number)


async def _line(reader: asyncio.StreamReader) -> bytes:
    """The next line, empty at the end, however that comes."""
    try:
        return await reader.readline()
    except ConnectionError:
        return b""


def _say(answer: Answer) -> None:
    sys.stdout.buffer.write(encode(answer) + b"\n")
    sys.stdout.buffer.flush()
