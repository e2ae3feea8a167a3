"""A whole monitor: Azurite, the Azure simulator and the Functions host, each a process of its own."""

import base64
import contextlib
import json
import shutil
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import pathspec
from azure.storage.queue import QueueServiceClient

from tests.processes import ROOT, Answer, Azurite, RunningHost, running_azurite, wait_until
from tests.simulator import SAMPLE, RunningSimulator

KEY = "the-key-of-this-test"
NEVER = "0 0 0 1 1 *"
"""A schedule that does not come up while a test runs: scans are asked for."""


def shipped_app(directory: Path, **queues: str | int) -> Path:
    """The app as it is deployed: what `.funcignore` lets through, with quicker queues."""
    ignored = pathspec.GitIgnoreSpec.from_lines((ROOT / ".funcignore").read_text().splitlines())
    for path in ROOT.iterdir():
        name = f"{path.name}/" if path.is_dir() else path.name
        if not ignored.match_file(name):
            (directory / path.name).symlink_to(path)
    host = json.loads((ROOT / "host.json").read_text())
    host["extensions"]["queues"] |= {
        "maxPollingInterval": "00:00:00.200",
        "visibilityTimeout": "00:00:01",
        **queues,
    }
    (directory / "host.json").unlink()
    (directory / "host.json").write_text(json.dumps(host))
    return directory


def small_fleet(directory: Path, *names: str) -> Path:
    """Some clusters of the sample fleet, with nothing forbidden."""
    fleet = directory / "fleet"
    fleet.mkdir()
    for name in ("subscriptions.json", "names.json", "service-tags.json", *names):
        source = SAMPLE / name
        if source.is_dir():
            shutil.copytree(source, fleet / name)
        else:
            shutil.copy(source, fleet / name)
    return fleet


class Monitor:
    """`with Monitor(tmp_path, fleet) as monitor:` and then ask it over HTTP."""

    def __init__(
        self,
        directory: Path,
        fleet: Path = SAMPLE,
        *,
        env: dict[str, str] | None = None,
        options: Iterable[str] = (),
        **queues: str | int,
    ) -> None:
        self.directory = directory
        self._stack = contextlib.ExitStack()
        self._fleet = fleet
        self._env = env or {}
        self._options = tuple(options)
        self._queues = queues
        self.azure: RunningSimulator
        self.azurite: Azurite
        self.host: RunningHost

    def __enter__(self) -> Self:
        app = self.directory / "app"
        app.mkdir()
        shipped_app(app, **self._queues)
        with contextlib.ExitStack() as stack:
            self.azurite = stack.enter_context(running_azurite(self.directory / "azurite"))
            self.azure = stack.enter_context(RunningSimulator(self._fleet, *self._options, dns=True))
            self.host = stack.enter_context(self._host())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.__exit__(*raised)  # type: ignore[arg-type]

    def _host(self, **settings: str) -> RunningHost:
        return RunningHost(
            self.directory / "app",
            "--enable-auth",
            *("--key", KEY),
            *("--state-dir", str(self.directory / "state")),
            # A message whose delivery was cut short is hidden for ten minutes in Azure.
            *("--queue-lease", "15"),
            env=self.environment | settings,
        )

    def restart(self, **settings: str) -> None:
        """Start the host anew, with other app settings."""
        self.host.stop()
        self.host = self._stack.enter_context(self._host(**settings))

    @property
    def environment(self) -> dict[str, str]:
        """The app settings of the host."""
        return {
            "AzureWebJobsStorage": self.azurite.connection_string,
            "SCAN_SCHEDULE": NEVER,
            "NODE_PROBE_SCHEDULE": NEVER,
            **self.azure.identity_env(),
            **self._env,
        }

    # --- asking -------------------------------------------------------------------------------

    def ask(self, path: str, *, method: str = "GET", body: Any = None, key: str | None = KEY) -> Answer:
        """Send a request, with the function key."""
        headers = {"x-functions-key": key} if key else {}
        content = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
        return self.host.request(f"/api/{path}", method=method, body=content, headers=headers)

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of an answer that has to be 200."""
        text = urllib.parse.urlencode(query)
        answer = self.ask(f"{path}?{text}" if text else path)
        assert answer.status == 200, answer.text
        return answer.json()

    def findings(self, **query: Any) -> list[dict[str, Any]]:
        """All findings of a query, through all pages."""
        found: list[dict[str, Any]] = []
        page = self.get("findings", **query)
        while True:
            found += page["items"]
            if not page["next"]:
                return found
            page = self.get("findings", **query, cursor=page["next"])

    def clusters(self) -> dict[str, dict[str, Any]]:
        """Every cluster by name."""
        return {
            item["cluster"]["name"]: item for item in self.get("clusters", status="all", limit=1000)["items"]
        }

    def check(self, cluster: str, check: str = "nsg-kubelet-port") -> dict[str, Any]:
        """What the last scan said of one check of a cluster."""
        [found] = [one for one in self.clusters()[cluster]["checks"] if one["check"] == check]
        return dict(found)

    # --- scanning -----------------------------------------------------------------------------

    def start_scan(self, *clusters: str, probes: bool = False) -> str:
        """Ask for a scan; its id."""
        body: dict[str, Any] = {"clusters": list(clusters)} if clusters else {}
        body |= {"probes": True} if probes else {}
        answer = self.ask("scans", method="POST", body=body)
        assert answer.status == 202, answer.text
        assert answer.headers["Location"] == f"/api/scans/{answer.json()['id']}"
        return str(answer.json()["id"])

    def wait_for(self, scan: str, seconds: float = 60) -> dict[str, Any]:
        """Wait until a scan is through."""

        def through() -> dict[str, Any] | None:
            answer = self.ask(f"scans/{scan}")
            if answer.status in {502, 503}:  # no worker, no storage: for the moment
                return None
            assert answer.status == 200, answer.text
            state: dict[str, Any] = answer.json()
            return state if state["status"] in {"completed", "failed"} else None

        return wait_until(through, f"scan {scan}", seconds, every=0.2) or {}

    def scan(self, *clusters: str, probes: bool = False) -> dict[str, Any]:
        """Scan and wait."""
        return self.wait_for(self.start_scan(*clusters, probes=probes))

    def worker_pids(self) -> list[int]:
        """The processes that run functions."""
        answer = self.host.request("/admin/host/status", headers={"x-functions-key": KEY})
        return [worker["pid"] for worker in answer.json()["workers"]]

    # --- beneath ------------------------------------------------------------------------------

    def put_message(self, queue: str, body: str) -> None:
        """Put a message on a queue, as the host's output binding does."""
        with QueueServiceClient.from_connection_string(self.azurite.connection_string) as service:
            service.get_queue_client(queue).send_message(base64.b64encode(body.encode()).decode())

    def change(self, identifier: str, edit: Callable[[dict[str, Any]], None]) -> None:
        """Edit a resource in Azure."""
        resource = self.azure.get(identifier)
        edit(resource)
        self.azure.put(resource)


@contextlib.contextmanager
def monitoring(directory: Path, *names: str, **options: Any) -> Iterator[Monitor]:
    """A monitor of some clusters of the sample fleet."""
    with Monitor(directory, small_fleet(directory, *names), **options) as monitor:
        yield monitor


def remove_rule(name: str) -> Callable[[dict[str, Any]], None]:
    """An edit that takes a rule out of a network security group."""

    def edit(group: dict[str, Any]) -> None:
        rules = group["properties"]["securityRules"]
        kept = [rule for rule in rules if rule["name"] != name]
        assert len(kept) < len(rules), f"{name} is not there"
        group["properties"]["securityRules"] = kept

    return edit
