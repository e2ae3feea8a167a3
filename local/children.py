"""The processes that make up Tunnelwatch on one machine: Azurite, the Azure simulator, the Functions host.

Each runs in a session of its own, so that Ctrl-C reaches only the one who started them,
and he stops them in order.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
AZURITE = ROOT / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"

# The emulator's account and key, which its documentation publishes
# (https://learn.microsoft.com/azure/storage/common/storage-connect-azurite).
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class StartError(RuntimeError):
    """A process cannot be started; the text is one line for the person at the terminal."""


@dataclass(frozen=True)
class Ports:
    """Where everything listens, on 127.0.0.1; each can be set by the environment."""

    functions: int = 7071
    arm: int = 7072
    dns: int = 7073
    """Where the simulator answers for the names of API servers."""
    azurite: int = 10000
    """Blob; queue and table are the next two."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Ports":
        """Read FUNCTIONS_PORT, ARM_PORT, DNS_PORT and AZURITE_PORT_BASE; raises `StartError`."""
        arm = _port(environment, "ARM_PORT", 7072)
        return cls(
            functions=_port(environment, "FUNCTIONS_PORT", 7071),
            arm=arm,
            dns=_port(environment, "DNS_PORT", arm + 1),
            azurite=_port(environment, "AZURITE_PORT_BASE", 10000),
        )

    def check_free(self, *, with_arm: bool) -> None:
        """Raise `StartError` if somebody listens on one of them."""
        wanted = [(self.functions, "FUNCTIONS_PORT")]
        if with_arm:
            wanted += [(self.arm, "ARM_PORT"), (self.dns, "DNS_PORT")]
        wanted += [(self.azurite + offset, "AZURITE_PORT_BASE") for offset in range(3)]
        if len({port for port, _ in wanted}) < len(wanted):
            raise StartError(
                "FUNCTIONS_PORT, ARM_PORT, DNS_PORT and the three ports from AZURITE_PORT_BASE on overlap."
            )
        for port, name in wanted:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    raise StartError(
                        f"Port {port} is taken ({error.strerror}): set {name} to another one, "
                        f"for example `make run {name}={port + 100}`."
                    ) from error


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= 65533:
        raise StartError(f"{name} is {text!r}: it has to be a port, 1 to 65533.")
    return int(text)


def storage_connection(blob: int, queue: int, table: int) -> str:
    """The connection string of an Azurite on these ports."""
    endpoints = "".join(
        f"{service}Endpoint=http://127.0.0.1:{port}/{_ACCOUNT};"
        for service, port in (("Blob", blob), ("Queue", queue), ("Table", table))
    )
    return f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_KEY};{endpoints}"


@dataclass
class Child:
    """A process with its log."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; what it prints goes to its log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def ended(self) -> int | None:
        """The exit status, once it has ended."""
        return self.process.poll() if self.process else None

    def wait_until_answers(self, url: str, seconds: float = 60) -> None:
        """Wait until a URL is answered, with whatever status; raises `StartError` with the end of the log."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.ended is not None:
                raise StartError(f"{self.name} ended at once:\n{self.last_lines()}")
            try:
                with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - loopback, our own
                    return
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.1)
        raise StartError(f"{self.name} did not answer within {seconds:.0f} s; its log is {self.log}")

    def last_lines(self, count: int = 8) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])
        except OSError:
            return ""

    def stop(self, seconds: float = 15) -> None:
        """End it and everything that it started."""
        if self.process is None:
            return
        group = self.process.pid
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        self.process.wait()


def azurite(ports: Ports, state: Path) -> Child:
    """The storage emulator; what it stores stays for the next run."""
    if not AZURITE.exists():
        raise StartError("Azurite is not installed: run `make run`, or `npm ci` in this directory.")
    return Child(
        "Azurite",
        [
            "node",
            str(AZURITE),
            "--silent",
            "--disableTelemetry",
            # The SDKs speak newer versions of the protocol than the emulator lists.
            "--skipApiVersionCheck",
            "--location",
            str(state / "azurite"),
            *("--blobPort", str(ports.azurite)),
            *("--queuePort", str(ports.azurite + 1)),
            *("--tablePort", str(ports.azurite + 2)),
        ],
        state / "azurite.log",
    )


def simulator(ports: Ports, fleet: Path, state: Path, latency_ms: int = 0) -> Child:
    """The Azure simulator, serving a fleet; its environment is what the app finds it by."""
    header = secrets.token_hex(16)
    child = Child(
        "The Azure simulator",
        [
            sys.executable,
            "-m",
            "local.azure",
            *("--fleet", str(fleet)),
            *("--port", str(ports.arm)),
            *("--dns-port", str(ports.dns)),
            *("--latency-ms", str(latency_ms)),
        ],
        state / "azure.log",
    )
    child.environment = {"IDENTITY_HEADER": header}
    return child


def identity_of(simulated: Child, ports: Ports) -> dict[str, str]:
    """What makes the app talk to the simulator: the endpoint, and an identity that it gives tokens to."""
    endpoint = f"http://127.0.0.1:{ports.arm}"
    return {
        "ARM_ENDPOINT": endpoint,
        "IDENTITY_ENDPOINT": f"{endpoint}/msi/token",
        "IDENTITY_HEADER": simulated.environment["IDENTITY_HEADER"],
        "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
        "DNS_SERVER": f"127.0.0.1:{ports.dns}",
    }


def functions_host(ports: Ports, state: Path, settings: Mapping[str, str]) -> Child:
    """What hosts the app: Azure Functions Core Tools where they are installed, else our own host."""
    core_tools = shutil.which("func")
    environment = dict(settings)
    if core_tools:
        # Core Tools take the worker's Python from PATH.
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        environment["VIRTUAL_ENV"] = str(Path(sys.executable).parent.parent)
        # Without this file they cannot tell what to run (Azure/azure-functions-core-tools#3544); what the
        # environment says wins over it.
        if not (ROOT / "local.settings.json").exists():
            shutil.copy(ROOT / "local.settings.sample.json", ROOT / "local.settings.json")
        command = [core_tools, "start", "--python", "--port", str(ports.functions)]
    else:
        command = [
            sys.executable,
            "-m",
            "local.host",
            *("--port", str(ports.functions)),
            *("--state-dir", str(state)),
        ]
    name = "Azure Functions Core Tools" if core_tools else "The Functions host"
    return Child(name, command, state / "functions.log", environment)
