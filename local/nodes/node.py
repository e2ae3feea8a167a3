"""The process that is a node: it holds the node's namespaces, listens on 10250 and runs scripts.

The machine it runs on is seen read-only, but for the places below, which are empty and the node's own. It is
forked by the fabric, before that runs an event loop, and gets its requests from it as JSON lines.
"""

import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path

import msgspec

from local.nodes import kernel, script
from local.nodes.description import FABRIC_MAC, KUBELET, Answer, Firewall, Node, Outcome, Request, encode
from local.nodes.firewall import OwnUfw, StepError, empty, fill

SCRIPT = Path("/var/lib/waagent/run-command/download/0/script.sh")
"""Where the extension puts a script."""
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}
"""What a script finds set: Azure's agent, a service of systemd, passes on little more."""
LINE = 64 * 2**20
"""Bytes that a message may have."""

_OWN = ("/run", "/tmp", "/var/lib", "/var/log", "/var/tmp")  # noqa: S108 - mount points
_SCRATCH = Path("/run")

_decode = msgspec.json.Decoder(Request).decode


def be(node: Node, fabric: socket.socket) -> None:
    """Become a node, and be it until the fabric goes away."""
    ufw = OwnUfw()
    os.unshare(os.CLONE_NEWNET | os.CLONE_NEWNS | os.CLONE_NEWUTS)
    kernel.set_host_name(node.name)
    _own_files(ufw)
    fabric.send(b"\n")  # now its link can be put into the namespace
    asyncio.run(_Life(node, ufw).live(fabric))


class _Life:
    def __init__(self, node: Node, ufw: OwnUfw) -> None:
        self._node = node
        self._ufw = ufw
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._filtering = asyncio.Lock()
        self._broken = ""

    async def live(self, fabric: socket.socket) -> None:
        """Answer requests; the first of them says that the link is there."""
        reader, self._writer = await asyncio.open_connection(sock=fabric, limit=LINE)
        while line := await reader.readline():
            task = asyncio.create_task(self._answer(_decode(line)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: Request) -> None:
        try:
            if request.number == 0:
                await self._connect()
            if request.firewall is not None:
                await self._set(request.firewall, listening=request.listening)
            outcome = None if request.script is None else await self._run(request.script, request.seconds)
            answer = Answer(request.number, outcome)
        except (StepError, OSError) as error:
            answer = Answer(request.number, problem=str(error))
        except Exception as error:  # noqa: BLE001 - whoever asked must not wait for ever
            answer = Answer(request.number, problem=f"{type(error).__name__}: {error}")
        self._writer.write(encode(answer) + b"\n")

    async def _run(self, text: bytes, seconds: float) -> Outcome:
        if self._broken:  # half a firewall would look like a healthy one
            raise StepError(self._broken)
        return await script.run(text, file=SCRIPT, environment=ENVIRONMENT, seconds=seconds, scratch=_SCRATCH)

    async def _connect(self) -> None:
        """Give the interface its addresses and its way out."""
        lines = ["link set lo up", "link set eth0 up"]
        for item in self._node.addresses:
            six = ":" in item.address
            lines.append(f"address add {item.address}/{item.prefix} dev eth0" + (" nodad" if six else ""))
            # known for good, so that no firewall keeps the node from finding its neighbour
            lines.append(f"neighbour replace {item.gateway} lladdr {FABRIC_MAC} dev eth0 nud permanent")
            every = "::/0" if six else "default"
            lines.append(f"route replace {every} via {item.gateway} dev eth0 onlink")
        await ip(lines)

    async def _set(self, firewall: Firewall, *, listening: bool) -> None:
        async with self._filtering:
            self._broken = "its firewall is being changed"
            try:
                await empty()
                if self._ufw.installed:
                    self._ufw.write()
                await fill(firewall)
                self._broken = ""
            except (StepError, OSError) as error:
                self._broken = str(error)
                raise
            finally:
                await self._listen(wanted=listening)

    async def _listen(self, *, wanted: bool) -> None:
        if self._listener and not wanted:
            self._listener.close()
            self._listener = None
        elif wanted and not self._listener:
            self._listener = await asyncio.start_server(_hang_up, sock=_listening_socket())


async def ip(lines: list[str]) -> None:
    """Run commands of `ip`, all in one process; raises StepError."""
    process = await asyncio.create_subprocess_exec(
        "ip",
        "-batch",
        "-",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, stderr = await process.communicate("".join(f"{line}\n" for line in lines).encode())
    if process.returncode != 0:
        raise StepError(f"ip: {' '.join(stderr.decode(errors='replace').split())}")


async def _hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept a connection and end it: that it was accepted is all that anybody wants to know."""
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def _listening_socket() -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("::", KUBELET), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128)
    return socket.create_server(("0.0.0.0", KUBELET), backlog=128)  # noqa: S104 - in a namespace of its own


def _own_files(ufw: OwnUfw) -> None:
    """Cover this machine's files: read-only, and empty where a node writes."""
    defaults = Path("/etc/default/ufw")
    try:
        kernel.make_read_only("/")
    except OSError:  # before Linux 5.12: the root alone
        kernel.mount("", "/", flags=kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY)
    for place in (*_OWN, *(("/etc/ufw",) if ufw.installed else ())):
        if Path(place).is_dir():
            kernel.mount("tmpfs", place, "tmpfs", options="size=64m,mode=755")
    Path("/tmp").chmod(0o1777)  # noqa: S108 - the node's own
    if ufw.installed:
        own = _SCRATCH / "ufw-defaults"
        own.touch()
        kernel.mount(str(own), str(defaults), flags=kernel.MS_BIND)
        ufw.write()
    with suppress(
        OSError
    ):  # some containers forbid it: then the files of the outer namespace stay, unwritable
        kernel.mount("proc", "/proc", "proc")
        kernel.mount("/proc/sys", "/proc/sys", flags=kernel.MS_BIND)
        kernel.mount("", "/proc/sys", flags=kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY)
        kernel.mount("/proc/sys/net", "/proc/sys/net", flags=kernel.MS_BIND)
        kernel.mount("", "/proc/sys/net", flags=kernel.MS_REMOUNT | kernel.MS_BIND)
    with suppress(OSError):
        kernel.mount("sysfs", "/sys", "sysfs", kernel.MS_RDONLY)
