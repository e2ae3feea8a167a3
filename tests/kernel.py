"""A packet filter of the real kernel to try things on: two network namespaces, joined by a veth.

One is the node under test: it listens on TCP 10250, and commands run in it change its rules. The other sends
from any address that a test thinks of. Neither can be seen from outside, and nothing outside is touched.

    with open_lab() as lab:
        lab.run("iptables-restore", given=rules)
        lab.connects(["10.240.0.7", "10.240.1.7"], lab.address)  # {"10.240.0.7": True, "10.240.1.7": False}

Run as a program, this file is the process inside: it reads a request a line and answers each with a line.
"""

import contextlib
import errno
import itertools
import json
import os
import selectors
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

PORT = 10250
ADDRESSES = ("10.240.0.4", "fd00:10:240::4")
"""Those of the node, unless a test gives others: the first of each family is `address` and `address6`."""
_PATIENCE = 0.3
"""Seconds for what is dropped. On a veth the kernel answers within the call that sends."""

_MADE_UP = "169.254.1.1", "fe80::1"
"""The gateways of both sides, whose neighbour entries are permanent: no rule keeps ARP or neighbour discovery
from working, and any source address is one route away."""
_NODE, _PEER = "02:00:00:00:00:01", "02:00:00:00:00:02"
_TRANSPARENT, _TRANSPARENT6 = (socket.IPPROTO_IP, 19), (socket.IPPROTO_IPV6, 75)
"""IP_TRANSPARENT and IPV6_TRANSPARENT of linux/in.h and in6.h: the source may be any address."""
_NOT_THROUGH = frozenset(
    {
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ENOPROTOOPT,
        errno.EPROTO,
        errno.EACCES,
        errno.EPERM,
        errno.ETIMEDOUT,
    }
)
"""How a connection fails that a firewall dropped or rejected, by TCP reset or by any ICMP error."""


class LabError(Exception):
    """A command in the lab failed, or the lab could not be made."""


def skip_without_namespaces(*programs: str) -> None:
    """Skips the test, saying why, where no namespace can be made or one of some programs is not installed."""
    import pytest

    if reason := why_no_lab(*programs):
        pytest.skip(reason)


def why_no_lab(*programs: str) -> str:
    """Why there can be no lab on this machine; empty if there can."""
    missing = [name for name in ("unshare", "ip", *programs) if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    # Where AppArmor restricts user namespaces one can be made, and then nothing can be done in it.
    pair = ("ip", "link", "add", "eth0", "type", "veth")
    tried = subprocess.run([*_unshare(), *pair], capture_output=True, text=True, check=False)
    return f"no network namespace can be made here: {tried.stderr.strip()}" if tried.returncode else ""


def _unshare() -> list[str]:
    own = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *own, "--net", "--mount"]


class Lab:
    """Two namespaces; made by `open_lab`."""

    def __init__(self, agent: subprocess.Popen[str], addresses: Sequence[str]) -> None:
        self._agent = agent
        self.addresses = tuple(addresses)
        """All addresses of the node."""
        self.address = next((one for one in addresses if ":" not in one), "")
        self.address6 = next((one for one in addresses if ":" in one), "")

    def run(
        self, *command: str, given: str = "", check: bool = True, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the node, as root of its namespace, with some text on its standard input.

        With `check` a command that fails raises `LabError`, with what it printed.
        """
        said = self.ask({"do": "run", "command": command, "given": given, "env": env or {}})
        done = subprocess.CompletedProcess(command, said["status"], said["out"], said["err"])
        if check and done.returncode:
            raise LabError(f"{' '.join(command)}: status {done.returncode}: {done.stderr or done.stdout}")
        return done

    def connects(
        self, sources: Iterable[str], to: str, port: int = PORT, *, source_port: int = 0
    ) -> dict[str, bool]:
        """Whether the node accepts a new connection, from each of some source addresses.

        Any address may be a source that is unicast and none of the node's own, of the family of `to`. All are
        tried at once, each from a source port that was not used before unless one is given; what is dropped
        takes 0.3 s, however many there are.
        """
        found = self.ask(
            {"do": "connect", "sources": [*sources], "to": to, "port": port, "from": source_port}
        )
        return {source: bool(through) for source, through in found["through"].items()}

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Pass a request on to the process inside."""
        assert self._agent.stdin is not None
        assert self._agent.stdout is not None
        try:
            self._agent.stdin.write(f"{json.dumps(request)}\n")
            self._agent.stdin.flush()
            line = self._agent.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise LabError(f"the process in the namespace ended with status {self._agent.wait(10)}")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise LabError(answer["failed"])
        return answer


@contextlib.contextmanager
def open_lab(addresses: Sequence[str] = ADDRESSES, ports: Sequence[int] = (PORT,)) -> Iterator[Lab]:
    """A lab with a node that has some addresses on eth0 and listens on some TCP ports.

    Rules, mounts and /run (an empty one) are the node's own, and all of it is gone in the end.
    """
    command = [*_unshare(), sys.executable, "-I", str(Path(__file__).resolve())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as agent:
        try:
            lab = Lab(agent, addresses)
            lab.ask({"do": "begin", "addresses": [*addresses], "ports": [*ports]})
            yield lab
        finally:
            # It ends when nobody can ask any more.
            assert agent.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                agent.stdin.close()
            try:
                agent.wait(10)
            except subprocess.TimeoutExpired:
                agent.kill()


# --- inside --------------------------------------------------------------------------------------


class _Inside:
    """What the process in the namespace does: it is the node, and one thread of it is the other side."""

    def __init__(self) -> None:
        self._other = ThreadPoolExecutor(1, initializer=lambda: os.unshare(os.CLONE_NEWNET))
        # Each is as good as new when its turn comes again: connection tracking forgets a reset after 10 s.
        self._source_ports = itertools.cycle(range(1024, 65536))

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["do"]:
            case "begin":
                self._begin(request["addresses"], request["ports"])
                return {}
            case "run":
                return self._run(request["command"], request["given"], request["env"])
            case _:
                work = self._other.submit(
                    self._connect, request["sources"], request["to"], request["port"], request["from"]
                )
                return {"through": work.result()}

    def _begin(self, addresses: Sequence[str], ports: Sequence[int]) -> None:
        # Locks of iptables and ufw are files there.
        _command("mount", "-t", "tmpfs", "tmpfs", "/run")
        thread = self._other.submit(threading.get_native_id).result()
        _command("ip", "link", "set", "lo", "up")
        pair = ("ip", "link", "add", "eth0", "address", _NODE, "type", "veth")
        _command(*pair, "peer", "name", "eth0", "address", _PEER, "netns", str(thread))
        for one in addresses:
            length, detection = ("128", ["nodad"]) if ":" in one else ("32", [])
            _command("ip", "address", "add", f"{one}/{length}", "dev", "eth0", *detection)
        _joined(_PEER)
        # Rejections are answered at once, however many there are.
        for name in ("ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"):
            _set(name, 0)
        self._other.submit(_peer).result()
        for port in ports:
            self._listen(port)

    def _listen(self, port: int) -> None:
        server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096)

        def accept() -> None:
            while True:
                with contextlib.suppress(OSError):
                    server.accept()[0].close()

        threading.Thread(target=accept, daemon=True).start()

    def _run(self, command: Sequence[str], given: str, env: dict[str, str]) -> dict[str, Any]:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, env=os.environ | env
        )
        return {"status": done.returncode, "out": done.stdout, "err": done.stderr}

    def _connect(self, sources: Sequence[str], to: str, port: int, source_port: int) -> dict[str, bool]:
        through: dict[str, bool] = {}
        for start in range(0, len(sources), 500):
            with contextlib.ExitStack() as stack:
                selector = stack.enter_context(selectors.DefaultSelector())
                for source in sources[start : start + 500]:
                    connection = stack.enter_context(self._socket(source, source_port))
                    begun = connection.connect_ex((to, port))
                    if begun == errno.EINPROGRESS:
                        selector.register(connection, selectors.EVENT_WRITE, source)
                    else:
                        through[source] = _through(source, begun)
                end = time.monotonic() + _PATIENCE
                while selector.get_map() and (left := end - time.monotonic()) > 0:
                    for key, _ in selector.select(left):
                        assert isinstance(key.fileobj, socket.socket)
                        error = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                        through[key.data] = _through(key.data, error)
                        selector.unregister(key.fileobj)
                through |= {key.data: False for key in selector.get_map().values()}
        return through

    def _socket(self, source: str, source_port: int) -> socket.socket:
        if not source_port:
            source_port = next(self._source_ports)
        six = ":" in source
        made = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM)
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Closed with a reset: nothing lingers on either side.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        made.setsockopt(*(_TRANSPARENT6 if six else _TRANSPARENT), 1)
        made.bind((source, source_port))
        return made


def _through(source: str, error: int) -> bool:
    if error and error not in _NOT_THROUGH:
        raise OSError(error, f"connecting from {source}: {os.strerror(error)}")
    return not error


def _peer() -> None:
    """Sets up the other side: all that comes in on its eth0 is for itself, whatever the address."""
    _command("ip", "link", "set", "lo", "up")
    _joined(_NODE)
    for family in ("-4", "-6"):
        _command("ip", family, "route", "add", "local", "default", "dev", "lo", "table", "100")
        _command("ip", family, "rule", "add", "iif", "eth0", "lookup", "100", "priority", "10")


def _joined(other: str) -> None:
    """Brings eth0 up, with the other side as the way to everywhere."""
    for name in ("all", "default", "eth0"):
        _set(f"ipv4/conf/{name}/rp_filter", 0)
    _command("ip", "link", "set", "eth0", "up")
    for gateway in _MADE_UP:
        family = "-6" if ":" in gateway else "-4"
        _command(
            "ip", family, "neighbour", "add", gateway, "lladdr", other, "dev", "eth0", "nud", "permanent"
        )
        _command("ip", family, "route", "add", "default", "via", gateway, "dev", "eth0", "onlink")


def _set(name: str, value: int) -> None:
    Path("/proc/sys/net", name).write_text(str(value), encoding="ascii")


def _command(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip()}")


def _serve() -> None:
    inside = _Inside()
    for line in sys.stdin:
        try:
            answer = inside.answer(json.loads(line))
        except Exception as error:  # noqa: BLE001 - whatever it is, the test is told
            answer = {"failed": f"{type(error).__name__}: {error}"}
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
