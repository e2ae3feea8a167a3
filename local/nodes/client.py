"""A fabric seen from the Azure simulator: started, asked and ended."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec

from local.nodes.description import Answer, Drop, Firewall, Network, Outcome, Request, encode
from local.nodes.node import LINE

ROOT = Path(__file__).resolve().parent.parent.parent
TOOLS = ("unshare", "setpriv", "ip", "nft", "iptables-nft-restore")
"""Commands without which there are no simulated nodes: packages util-linux, iproute2, nftables, iptables."""
START_SECONDS = 120.0
END_SECONDS = 3.0

_UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child")
_AS_ROOT = ("--user", "--map-root-user")
_TRIAL = "ip link add v0 type veth peer name v1 && nft add table inet t && ip link set lo up"

_decode = msgspec.json.Decoder(Answer).decode


class NodesError(Exception):
    """A simulated node or its network that cannot do what it should: one line that says why."""


def unavailable() -> str:
    """Why there are no namespaces here, in one line; empty if there are."""
    if sys.platform != "linux":
        return "Linux network namespaces are not to be had on this system"
    # administrators' commands need not be on an ordinary user's PATH
    missing = [tool for tool in TOOLS if not shutil.which(tool, path=_path())]
    if missing:
        return f"not installed: {', '.join(missing)}"
    try:
        done = subprocess.run(
            [*command(), "sh", "-c", _TRIAL],
            env={**os.environ, "PATH": _path()},
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unshare does not work: {error}"
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        return f"network namespaces cannot be made: {said}"
    return ""


def command() -> Sequence[str]:
    """What runs a command in new namespaces, all of which end with it, and it with us."""
    return ("setpriv", "--pdeathsig", "KILL", *_UNSHARE, *(() if os.geteuid() == 0 else _AS_ROOT), "--")


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


class Fabric:
    """One running fabric."""

    def __init__(self, network: Network, process: asyncio.subprocess.Process) -> None:
        self._network = network
        self._process = process
        self._last = 0
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._errors: list[str] = []
        self._lost = False
        self._tasks: list[asyncio.Task[None]] = []
        self.problems: dict[str, str] = {}
        """Why a node is not as it was described, by its key."""

    @classmethod
    async def start(cls, network: Network) -> Self:
        """Make a network; raises NodesError."""
        process = await asyncio.create_subprocess_exec(
            *command(),
            sys.executable,
            "-m",
            "local.nodes",
            cwd=ROOT,
            env={**os.environ, "PATH": _path()},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the simulator, which ends it in its own time
            limit=LINE,
        )
        fabric = cls(network, process)
        fabric._tasks = [asyncio.create_task(fabric._listen()), asyncio.create_task(fabric._collect())]
        try:
            fabric._write(encode(network))
            async with asyncio.timeout(START_SECONDS):
                answer = await fabric._wait(0)
        except TimeoutError:
            await fabric.close()
            raise NodesError(f"the network did not stand within {START_SECONDS:.0f} s") from None
        except BaseException:
            await fabric.close()
            raise
        fabric.problems = dict(answer.problems)
        return fabric

    @property
    def ended(self) -> bool:
        """Whether its process has ended, or that of a node."""
        return self._lost or self._process.returncode is not None

    @property
    def network(self) -> Network:
        """What it consists of now."""
        return self._network

    async def run(self, node: str, script: bytes, *, seconds: float) -> Outcome:
        """Run a script on a node, one of those that stand for others if it has no namespaces of its own.

        Raises NodesError if the node is not as described, for then it would not answer as that node.
        """
        own = any(item.key == node for item in self._network.nodes)
        answer = await self._ask(Request(self._next(), node if own else "", script=script, seconds=seconds))
        if answer.outcome is None:
            raise NodesError(answer.problem or "no answer")
        return answer.outcome

    def fits(self, network: Network) -> bool:
        """Whether it has the same machines, with the same addresses, and so need not be made anew."""
        return _hardware(self._network) == _hardware(network)

    async def become(self, network: Network) -> None:
        """Take over firewalls, listeners and drops that differ; raises NodesError for what is no node's."""
        before = {node.key: node for node in self._network.nodes}
        drops = network.drops if network.drops != self._network.drops else None
        self._network = network
        await asyncio.gather(
            *(
                self._refit(node.key, node.firewall, listening=node.listening)
                for node in network.nodes
                if node != before[node.key]
            )
        )
        if drops is not None:
            await self._filter(drops)

    async def close(self) -> None:
        """End it, and with it every namespace and process it has."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(END_SECONDS):
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._give_up("it was ended")

    async def _refit(self, node: str, firewall: Firewall, *, listening: bool) -> None:
        answer = await self._ask(Request(self._next(), node, firewall=firewall, listening=listening))
        self.problems.pop(node, None)
        if answer.problem:
            self.problems[node] = answer.problem

    async def _filter(self, drops: tuple[Drop, ...]) -> None:
        answer = await self._ask(Request(self._next(), drops=drops))
        if answer.problem:
            raise NodesError(answer.problem)

    async def _ask(self, request: Request) -> Answer:
        if self._process.returncode is not None:
            raise NodesError(self._last_words())
        self._write(encode(request))
        return await self._wait(request.number)

    async def _wait(self, number: int) -> Answer:
        self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            return await self._waiting[number]
        finally:
            del self._waiting[number]

    def _next(self) -> int:
        self._last += 1
        return self._last

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it was asked for
        self._process.stdin.write(line + b"\n")

    async def _listen(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        while line := await self._process.stdout.readline():
            answer = _decode(line)
            self._lost |= answer.lost
            waiting = self._waiting.get(answer.number)
            if waiting and not waiting.done():
                waiting.set_result(answer)
        await self._process.wait()
        await asyncio.sleep(0)  # its last words may still be on their way
        self._give_up(self._last_words())

    async def _collect(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 - it was asked for
        while line := await self._process.stderr.readline():
            self._errors = [*self._errors[-9:], line.decode(errors="replace").strip()]

    def _give_up(self, why: str) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(NodesError(why))

    def _last_words(self) -> str:
        return f"the simulated network has ended: {' '.join(self._errors) or 'it did not say why'}"


def _hardware(network: Network) -> object:
    return [(node.key, node.name, node.mac, node.addresses) for node in network.nodes], network.others
