"""The processes end-to-end tests run: Azurite and the Functions host, started and stopped by the test."""

import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from local.children import AZURITE, storage_connection

ROOT = Path(__file__).resolve().parent.parent

# Below the range from which Linux takes the ports of outgoing connections (32768 on), which could take a
# port between the look and the start of the server; apart for each of several test processes.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
_candidates = itertools.cycle(range(20_000 + _WORKER * 1_500 + os.getpid() % 1_000, 21_500 + _WORKER * 1_500))


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, one after the other where they are free."""
    found: list[int] = []
    while len(found) < count:
        port = next(_candidates)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found


def wait_until[T](look: Callable[[], T], what: str, timeout: float = 20.0, every: float = 0.05) -> T:
    """The first true thing that ``look`` gives; an :class:`AssertionError` that says what was waited for."""
    end = time.monotonic() + timeout
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout:.0f} s for {what}")
        time.sleep(every)


def is_listening(port: int) -> bool:
    """Whether somebody listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_alive(pid: int) -> bool:
    """Whether there is a process by this id that is not just waiting to be buried."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


class Azurite:
    """Azurite on ports of its own; it can be stopped, and started again with all that it stored."""

    def __init__(self, directory: Path, ports: tuple[int, int, int] | None = None) -> None:
        self._directory = directory
        blob, queue, table = ports or free_ports(3)
        self.ports = {"blob": blob, "queue": queue, "table": table}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def connection_string(self) -> str:
        """What ``AzureWebJobsStorage`` is set to."""
        return storage_connection(**self.ports)

    def start(self) -> None:
        """Start it, with what it stored before, and wait until it answers."""
        if self._process is not None:
            return
        arguments = [
            "--silent",
            "--skipApiVersionCheck",
            "--disableTelemetry",
            "--location",
            str(self._directory),
        ]
        for service, port in self.ports.items():
            arguments += [f"--{service}Host", "127.0.0.1", f"--{service}Port", str(port)]
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / "azurite.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["node", str(AZURITE), *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(lambda: all(is_listening(port) for port in self.ports.values()), "Azurite", 30)

    def stop(self) -> None:
        """Stop it; it writes what it stores to its directory."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        """The body, as text."""
        return self.body.decode()

    def json(self) -> Any:
        """The body, as JSON."""
        return json.loads(self.body)


def request(
    port: int,
    path: str,
    *,
    method: str = "GET",
    body: bytes | str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 30,
) -> Answer:
    """Ask 127.0.0.1 for something over HTTP."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request(method, path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())


class RunningHost:
    """A Functions host in a process of its own: ``with RunningHost(app, env={…}) as host: …``.

    What it prints, and its exit status, can still be read when it has stopped. With ``ready=False`` it is
    only started, for apps that are not to come up.
    """

    def __init__(
        self,
        app: Path,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        ready: bool = True,
        timeout: float = 60.0,
    ) -> None:
        self.port = port or free_ports(1)[0]
        self.app = app
        self._arguments = arguments
        self._ready = ready
        self._timeout = timeout
        ours = {name: value for name, value in os.environ.items() if not name.startswith("AzureWebJobs")}
        self._environment = ours | dict(env or {})
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as this object)
        self._process: subprocess.Popen[bytes] | None = None
        self.exit_status: int | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is not None:
            sys.stdout.write(self.log_text())  # pytest shows it with the failure
        self._log.close()

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The host's process."""
        if self._process is None:
            raise AssertionError("the host has not been started")
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it serves."""
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "local.host",
                "--app",
                str(self.app),
                "--port",
                str(self.port),
                *self._arguments,
            ],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        if self._ready:
            try:
                wait_until(self._is_ready, "the Functions host", self._timeout)
            except AssertionError:
                self.stop()
                raise AssertionError(f"the Functions host did not come up:\n{self.log_text()}") from None

    def _is_ready(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError
        try:
            return request(self.port, "/admin/host/ping").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def wait(self, timeout: float = 30) -> int:
        """Wait until it has ended by itself; its exit status."""
        if self._process is None:
            raise AssertionError("the host has not been started")
        self.exit_status = self._process.wait(timeout)
        return self.exit_status

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 20) -> int | None:
        """Stop it as Ctrl-C or an orchestrator would; its exit status."""
        if self._process is None or self.exit_status is not None:
            return self.exit_status
        self._process.send_signal(number)
        try:
            self.exit_status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the Functions host did not stop:\n{self.log_text()}") from None
        return self.exit_status

    def kill(self) -> None:
        """End it at once, as a machine that fails would."""
        if self._process is not None:
            self._process.kill()
            self.exit_status = self._process.wait()

    def request(
        self,
        path: str,
        *,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask it for something."""
        return request(self.port, path, method=method, body=body, headers=headers)

    def status(self) -> dict[str, Any]:
        """What it says of itself."""
        status: dict[str, Any] = self.request("/admin/host/status").json()
        return status

    def worker_pids(self) -> list[int]:
        """The processes that run functions."""
        return [worker["pid"] for worker in self.status()["workers"]]

    def run_now(self, function: str, given: str = "") -> None:
        """Have it run a timer or queue function at once."""
        answer = self.request(
            f"/admin/functions/{function}", method="POST", body=json.dumps({"input": given})
        )
        if answer.status != 202:
            raise AssertionError(f"{function}: {answer.status}")

    def log_text(self) -> str:
        """All it has printed so far."""
        # By its own descriptor: the child shares the offset of the one that is open here.
        with Path(f"/proc/self/fd/{self._log.fileno()}").open("rb") as log:
            return log.read().decode("utf-8", "replace")

    def wait_for_log(self, text: str, times: int = 1, timeout: float = 20) -> str:
        """Wait until it has printed this so many times; all it has printed."""
        try:
            wait_until(lambda: self.log_text().count(text) >= times, text, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log_text()}") from None
        return self.log_text()


@contextlib.contextmanager
def running_azurite(directory: Path) -> Iterator[Azurite]:
    """An Azurite for as long as the block lasts."""
    azurite = Azurite(directory)
    azurite.start()
    try:
        yield azurite
    finally:
        azurite.stop()
