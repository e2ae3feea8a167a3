"""The Azure simulator as a process of its own, for tests that talk to it with the real Azure SDK."""

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from azure.core.credentials import AccessToken
from azure.core.pipeline import PipelineRequest
from azure.core.pipeline.policies import SansIOHTTPPolicy

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "local" / "fleets" / "sample"
WORKLOADS = "6c0b6a52-3a0e-4a58-9d0c-0f5a3b1e7c41"
"""One of the sample's subscriptions."""


def documents(cluster: str, kind: str = "") -> list[dict[str, Any]]:
    """The resources in a cluster's folder of the sample fleet, of those kinds that end so, or all."""
    found: list[dict[str, Any]] = []
    for file in sorted((SAMPLE / cluster).glob("*.json")):
        content = json.loads(file.read_text())
        if isinstance(content, list):
            found += content
        elif "id" in content:
            found.append(content)
        else:  # a list response, or what is by resource id, as metrics are
            found += content.get("value", [])
    return [one for one in found if one.get("type", "").lower().endswith(kind.lower())]


class RunningSimulator:
    """`python -m local.azure` on a free port, from `with` to the end of it.

    Further options of the command go in `options`, such as `"--page-size", "2"`. With `dns` it answers DNS as
    well, on another free port.
    """

    def __init__(self, fleet: Path = SAMPLE, *options: str, dns: bool = False) -> None:
        self._secret = secrets.token_hex(8)
        self._fleet = fleet
        self._options = [*options, *(["--dns-port", "0"] if dns else [])]
        self._errors: list[str] = []
        self.url = ""
        """Where it listens, `http://127.0.0.1:…`."""
        self.dns_server = ""
        """Where it answers DNS, `127.0.0.1:…`; empty without."""
        self.nodes = ""
        """What it says of its nodes, `Linux network namespaces` or `recorded text (…)`."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "local.azure", "--fleet", str(self._fleet), "--port", "0"]
        self._process = subprocess.Popen(
            [*command, "--identity-header", self._secret, *self._options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        assert self._process.stdout
        for line in self._process.stdout:
            if line.startswith("ARM_ENDPOINT="):
                self.url = line.strip().partition("=")[2]
            if line.startswith("Nodes: "):
                self.nodes = line.strip().partition(" ")[2]
            if line.startswith("DNS_SERVER="):
                self.dns_server = line.strip().partition("=")[2]
            if line.startswith("IDENTITY_HEADER="):  # the last line of its greeting
                break
        self._reader = threading.Thread(target=self._collect_errors, daemon=True)
        self._reader.start()
        if not self.url:
            self._process.wait()
            self._reader.join()
            self._close()
            raise RuntimeError(f"the simulator did not start: {self.errors}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def errors(self) -> str:
        """What it has written to standard error."""
        return "".join(self._errors)

    @property
    def dns_port(self) -> int:
        """The port of 127.0.0.1 on which it answers DNS; ValueError without."""
        return int(self.dns_server.rpartition(":")[2])

    def identity_env(self) -> dict[str, str]:
        """The environment by which an app finds it; with DNS, by which it resolves names too."""
        found = {
            "ARM_ENDPOINT": self.url,
            "IDENTITY_ENDPOINT": f"{self.url}/msi/token",
            "IDENTITY_HEADER": self._secret,
        }
        return found | ({"DNS_SERVER": self.dns_server} if self.dns_server else {})

    def requests(self, since: int | str | None = None) -> list[dict[str, Any]]:
        """Every ARM request so far, or those after a `seq` or from a time on."""
        query = "" if since is None else "?" + urllib.parse.urlencode({"since": since})
        return list(self.call("GET", f"/_sim/requests{query}"))

    def clear_requests(self) -> None:
        """Forget the requests and the counts of actions."""
        self.call("DELETE", "/_sim/requests")

    def actions(self) -> dict[str, int]:
        """The Azure actions asked for, with counts."""
        return dict(self.call("GET", "/_sim/actions"))

    def put(self, *resources: dict[str, Any]) -> None:
        """Add resources, or replace those with their ids."""
        self.call("PUT", "/_sim/resources", list(resources))

    def delete(self, identifier: str) -> None:
        """Take a resource away, and what is under it."""
        self.call("DELETE", "/_sim/resources?" + urllib.parse.urlencode({"id": identifier}))

    def get(self, identifier: str) -> dict[str, Any]:
        """A resource as it is stored."""
        return dict(self.call("GET", "/_sim/resources?" + urllib.parse.urlencode({"id": identifier})))

    def set_names(self, names: dict[str, list[str] | str]) -> None:
        """Say what host names resolve to, as `names.json` does."""
        self.call("PUT", "/_sim/names", names)

    def set_admin_rules(self, network: str, *rules: dict[str, Any]) -> None:
        """Say which security admin rules a virtual network has in force."""
        self.call("PUT", "/_sim/admin-rules", {network: list(rules)})

    def set_metrics(self, metrics: dict[str, Any]) -> None:
        """Say what Azure Monitor has counted of some resources, as a `*.metrics.json` does."""
        self.call("PUT", "/_sim/metrics", metrics)

    def set_nodes(self, entries: dict[str, Any]) -> dict[str, str]:
        """Say what nodes are like inside, as a `*.nodes.json` does: by node, what could not be done."""
        return dict(self.call("PUT", "/_sim/nodes", entries)["problems"])

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def fault(self, **body: Any) -> str:
        """Make a fault: `fault(kind="429", match={"action": …}, times=1)`; its id is returned."""
        return str(self.call("POST", "/_sim/faults", body)["id"])

    def clear_faults(self) -> None:
        """End every fault."""
        self.call("DELETE", "/_sim/faults")

    def latency(self, milliseconds: float) -> None:
        """Set how long ARM takes to answer anything."""
        self.call("PUT", "/_sim/latency", {"ms": milliseconds})

    def reload(self) -> None:
        """Read the fleet's files again; what was put, set or deleted is gone."""
        self.call("POST", "/_sim/reload")

    def health(self) -> dict[str, Any]:
        """What is served."""
        return dict(self.call("GET", "/_sim/health"))

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the control API; an error status is a RuntimeError with the body's words."""
        status, _, content = self.raw(method, path, body=None if body is None else json.dumps(body))
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {content}")
        return json.loads(content) if content else None

    def raw(
        self, method: str, path: str, *, body: str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], str]:
        """Send any request: the status, the headers (names in lower case) and the body."""
        host = urllib.parse.urlsplit(self.url).netloc
        connection = http.client.HTTPConnection(host, timeout=30)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            content = answer.read().decode()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content
        finally:
            connection.close()

    def token(self, **query: str) -> str:
        """A bearer token, as the managed-identity endpoint gives it."""
        wanted = {"api-version": "2019-08-01", "resource": "https://management.azure.com"} | query
        path = "/msi/token?" + urllib.parse.urlencode(wanted)
        status, _, content = self.raw("GET", path, headers={"X-IDENTITY-HEADER": self._secret})
        assert status == 200, content
        return str(json.loads(content)["access_token"])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it with a signal, and return its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            status = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._reader.join()
        self._close()
        return status

    def _close(self) -> None:
        for stream in (self._process.stdout, self._process.stderr):
            if stream:
                stream.close()

    def _collect_errors(self) -> None:
        assert self._process.stderr
        self._errors.extend(self._process.stderr)


class LoopbackPolicy(SansIOHTTPPolicy[Any, Any]):
    """Lets the bearer token travel over plain http."""

    def on_request(self, request: PipelineRequest[Any]) -> None:
        """Tell the authentication policy not to insist on https."""
        request.context.options["enforce_https"] = False


class FixedToken:
    """A credential that has its token already."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        """The token, good for an hour."""
        return AccessToken(self._token, int(time.time()) + 3600)

    async def close(self) -> None:
        """Nothing to close."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()


@asynccontextmanager
async def client(
    kind: Callable[..., Any], simulator: RunningSimulator, subscription: str = WORKLOADS, **options: Any
) -> AsyncIterator[Any]:
    """A management client of the given kind; it does not retry unless told to.

    It is Any: the SDK's types make nearly every property of a model optional.
    """
    options = {"retry_total": 0, "retry_backoff_factor": 0.01} | options
    credential = FixedToken(simulator.token())
    async with kind(
        credential, subscription, base_url=simulator.url, per_call_policies=[LoopbackPolicy()], **options
    ) as opened:
        yield opened


def ask(
    simulator: RunningSimulator, path: str, *, method: str = "GET", body: str | None = None
) -> tuple[int, dict[str, str], Any]:
    """Ask ARM without the SDK, with a good token: the status, the headers, the JSON."""
    headers = {"Authorization": f"Bearer {simulator.token()}"}
    status, received, content = simulator.raw(method, path, body=body, headers=headers)
    return status, received, json.loads(content) if content else None


def wait_for(what: Callable[[], bool]) -> None:
    """Wait up to five seconds for something to become true."""
    end = time.monotonic() + 5
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
