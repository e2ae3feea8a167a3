"""`make run`: the whole monitor on this machine, at work on a fleet until Ctrl-C."""

import argparse
import hashlib
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from local.children import (
    ROOT,
    Child,
    Ports,
    StartError,
    azurite,
    functions_host,
    identity_of,
    simulator,
    storage_connection,
)

SAMPLE = ROOT / "local" / "fleets" / "sample"
SCHEDULE = "0 */15 * * * *"
PROBE_SCHEDULE = "0 5 * * * *"
_COLOURS = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
_OUTCOMES = {"fail": "red", "unknown": "yellow", "pass": "green", "not_applicable": "dim"}


class NotNowError(OSError):
    """The app cannot answer for the moment: its worker or its storage is being started anew."""


class StopRequested(Exception):  # noqa: N818 - not an error
    """Somebody asked to stop: Ctrl-C, a closed terminal, `kill`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until stopped; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m local.run",
        description="Run Tunnelwatch on this machine: storage emulator, simulated Azure, Functions host. "
        "It scans the fleet at once, shows what it found, and goes on scanning on schedule until Ctrl-C.",
        epilog="Environment: FUNCTIONS_PORT (7071), ARM_PORT (7072), DNS_PORT (one above "
        "ARM_PORT), AZURITE_PORT_BASE (10000), "
        f"SCAN_SCHEDULE ({SCHEDULE!r}), NODE_PROBES (on, so that nodes are asked themselves, through Run "
        f"Command; off: they are left alone), NODE_PROBE_SCHEDULE ({PROBE_SCHEDULE!r}). With "
        "AZURE_SUBSCRIPTION_IDS set it watches those subscriptions in real Azure, as whoever `az login` says "
        "you are, and NODE_PROBES is off unless you switch it on.",
    )
    parser.add_argument("--fleet", type=Path, help="directory of raw ARM JSON (default: the sample fleet)")
    parser.add_argument(
        "--once", action="store_true", help="stop after the first scan; the exit status is 0 if it completed"
    )
    parser.add_argument(
        "--latency-ms", type=int, default=20, help="how slow simulated Azure is (default: 20)"
    )
    asked = parser.parse_args(arguments)
    console = Console(highlight=False)
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = 120
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    started: list[Child] = []
    status = 0
    try:
        status = _run(console, asked, started)
    except StopRequested:
        console.print("\nStopping …")
    except (StartError, NotNowError) as error:
        Console(stderr=True, highlight=False).print(escape(str(error)), soft_wrap=True)
        status = 1
    finally:
        # A second Ctrl-C must not leave anything running.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for child in reversed(started):
            child.stop()
    return status


def _stop(number: int, frame: FrameType | None) -> None:
    raise StopRequested(number, frame)


def _run(console: Console, asked: argparse.Namespace, started: list[Child]) -> int:
    """Start everything, scan, and go on; the exit status of a single scan."""
    ports = Ports.of(os.environ)
    real = bool(os.environ.get("AZURE_SUBSCRIPTION_IDS"))
    if real and asked.fleet:
        raise StartError("FLEET and AZURE_SUBSCRIPTION_IDS cannot both be set: watch a fleet or real Azure.")
    fleet = (asked.fleet or SAMPLE).resolve()
    if not real and not fleet.is_dir():
        raise StartError(f"FLEET: {str(asked.fleet)!r} is no directory.")
    # Simulated nodes harm nobody's; on real ones somebody has to have said so.
    switch = (os.environ.get("NODE_PROBES") or ("off" if real else "on")).strip().lower()
    if switch not in {"on", "off"}:
        raise StartError(f"NODE_PROBES is {os.environ['NODE_PROBES']!r}: it has to be on or off.")
    ports.check_free(with_arm=not real)
    state = _state_directory(ports, "real" if real else str(fleet))

    def start(child: Child, url: str) -> None:
        started.append(child)
        child.log.unlink(missing_ok=True)
        child.start()
        child.wait_until_answers(url)

    with console.status("Starting storage …") as status:
        start(azurite(ports, state), f"http://127.0.0.1:{ports.azurite + 2}/")
        settings = {
            "AzureWebJobsStorage": storage_connection(ports.azurite, ports.azurite + 1, ports.azurite + 2),
            "FUNCTIONS_WORKER_RUNTIME": "python",
            "SCAN_SCHEDULE": os.environ.get("SCAN_SCHEDULE") or SCHEDULE,
            "NODE_PROBE_SCHEDULE": os.environ.get("NODE_PROBE_SCHEDULE") or PROBE_SCHEDULE,
            "NODE_PROBES": switch,
        }
        if not real:
            status.update("Starting the Azure simulator …")
            simulated = simulator(ports, fleet, state, asked.latency_ms)
            start(simulated, f"http://127.0.0.1:{ports.arm}/_sim/health")
            settings |= identity_of(simulated, ports)
        status.update("Starting the Functions host …")
        host = functions_host(ports, state, settings)
        url = f"http://localhost:{ports.functions}"
        start(host, f"http://127.0.0.1:{ports.functions}/api/health")
    what = "real subscriptions" if real else f"fleet {_short(fleet)}"
    console.print(
        f"[bold]Tunnelwatch[/] watches {escape(what)} at {url} (hosted by {host.name})", soft_wrap=True
    )

    probes = switch == "on"
    if not real:
        console.print(_nodes(f"http://127.0.0.1:{ports.arm}", probes=probes), soft_wrap=True)

    scan = _scan(console, url, probes=probes)
    _show(console, url, scan)
    if asked.once:
        return 0 if scan["status"] == "completed" else 1
    console.print(
        f"\nScans go on, {settings['SCAN_SCHEDULE']} (second, minute, hour, day, month, weekday; UTC)."
        f"\n  {url}/api/findings    what is wrong, and which command mends it"
        f"\n  {url}/api/clusters    every cluster with the outcome of every check"
        f"\n  {url}/api/health      whether the monitor itself is well"
        f"\nLogs are in {_short(state)}. Ctrl-C stops everything.",
        soft_wrap=True,
    )
    if not real:
        console.print(
            f"Edit a file of the fleet to mend a fault, then: curl -X POST {url}/api/scans"
            + (" --data '{\"probes\": true}'" if probes else ""),
            soft_wrap=True,
        )
    return _watch(console, url, started, scan)


def _state_directory(ports: Ports, fleet: str) -> Path:
    """Where storage and logs of this instance are kept, apart for each port and each fleet."""
    mark = hashlib.sha256(fleet.encode()).hexdigest()[:8]
    state = ROOT / ".run" / f"{ports.functions}-{mark}"
    state.mkdir(parents=True, exist_ok=True)
    return state


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _nodes(azure: str, *, probes: bool) -> str:
    """What simulated nodes are made of and why, in one line; or that they are left alone."""
    if not probes:
        return "Nodes are not probed (NODE_PROBES=off): what only they can tell stays unknown."
    nodes = _call(f"{azure}/_sim/health")["nodes"]
    if nodes["mode"] == "recorded":
        return f"Nodes are recorded text, not real packet filters: {escape(nodes['why'])}."
    return "Nodes are Linux network namespaces, with packet filters of their own."


def _scan(console: Console, url: str, *, probes: bool) -> dict[str, Any]:
    """Ask for a scan of everything, with probes of nodes or without, and show how it goes."""
    asked = _call(f"{url}/api/scans", json.dumps({"probes": probes}).encode())
    what = "Scanning clusters, probing nodes" if probes else "Scanning clusters"
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=console.is_terminal,
    ) as progress:
        task = progress.add_task("Finding clusters", total=None)
        while True:
            scan: dict[str, Any] = _call(f"{url}{asked['href']}")
            if scan["total"] is not None:
                progress.update(task, description=what, total=scan["total"], completed=scan["done"])
            if scan["status"] in {"completed", "failed"}:
                return scan
            time.sleep(0.3)


def _show(console: Console, url: str, scan: dict[str, Any]) -> None:
    """What the fleet looks like: outcomes, findings, and what could not be told."""
    if scan.get("error"):
        console.print(f"[red]The scan failed:[/] {escape(scan['error'])}")
    for problem in scan.get("problems", []):
        console.print(f"[yellow]{escape(problem['message'])}[/]")
    clusters = list(_items(f"{url}/api/clusters?limit=1000"))
    counts = {outcome: sum(one["outcome"] == outcome for one in clusters) for outcome in _OUTCOMES}
    console.print(
        f"Scanned {scan['done']} clusters: "
        + ", ".join(f"[{_OUTCOMES[name]}]{count} {name}[/]" for name, count in counts.items() if count)
    )
    findings = list(_items(f"{url}/api/findings?limit=1000"))
    if findings:
        table = Table(title=f"{len(findings)} open findings", title_justify="left", show_lines=True)
        table.add_column("Severity")
        table.add_column("Cluster")
        table.add_column("Finding, and what mends it", ratio=1)
        for one in findings:
            colour = _COLOURS.get(one["severity"], "")
            first = next((remedy for remedy in one["remediation"] if remedy["commands"]), None)
            mend = "".join(f"\n[green]{escape(command)}[/]" for command in first["commands"]) if first else ""
            table.add_row(
                f"[{colour}]{one['severity']}[/]",
                escape(one["cluster"]["name"]),
                f"[bold]{escape(one['title'])}[/]{mend}",
            )
        console.print(table)
    untold = [
        (one["cluster"]["name"], check["check"], reason["message"])
        for one in clusters
        for check in one["checks"]
        if check["outcome"] != "not_applicable"
        for reason in check["reasons"]
        if reason["code"] != "probes_disabled"  # one line has said so, and it is so everywhere
    ]
    if untold:
        table = Table(title="What could not be told", title_justify="left")
        table.add_column("Cluster")
        table.add_column("Check")
        table.add_column("Why", ratio=1)
        for row in untold:
            table.add_row(*(escape(text) for text in row))
        console.print(table)


def _watch(console: Console, url: str, children: list[Child], last: dict[str, Any]) -> NoReturn:
    """Until stopped: say what later scans changed; raises `StartError` if a process ends by itself."""
    before = _open(url)
    seen = last["id"]
    while True:
        time.sleep(2)
        for child in children:
            if child.ended is not None:
                raise StartError(f"{child.name} ended unexpectedly:\n{child.last_lines()}")
        try:
            now = _open(url)
            health = _call(f"{url}/api/health", patience=0)
        except OSError:
            continue
        for finding_id in now.keys() - before.keys():
            console.print(f"[red]opened[/]   {escape(now[finding_id])}")
        for finding_id in before.keys() - now.keys():
            console.print(f"[green]resolved[/] {escape(before[finding_id])}")
        before = now
        full = health.get("lastFullScanId")
        if full and full != seen:
            seen = full
            console.print(
                f"[dim]{time.strftime('%H:%M:%S')}[/] scan completed: "
                f"{health['clusters']} clusters, {len(now)} open findings"
            )


def _open(url: str) -> dict[str, str]:
    return {
        one["id"]: f"{one['cluster']['name']}: {one['title']}"
        for one in _items(f"{url}/api/findings?limit=1000", patience=0)
    }


def _items(url: str, *, patience: float = 60) -> Iterator[dict[str, Any]]:
    """Every item of a paged list."""
    following = url
    while following:
        page = _call(following, patience=patience)
        yield from page["items"]
        following = f"{url}&cursor={page['next']}" if page["next"] else ""


def _call(url: str, data: bytes | None = None, *, patience: float = 60) -> Any:
    """The JSON that a route answers with; while the app cannot answer, again for some seconds.

    Raises `NotNowError` when they are over, `StartError` for an answer that another try cannot better.
    """
    end = time.monotonic() + patience
    while True:
        try:
            return _answer(url, data)
        except NotNowError:
            if time.monotonic() > end:
                raise
            time.sleep(1)


def _answer(url: str, data: bytes | None) -> Any:
    request = urllib.request.Request(url, data=data)  # noqa: S310 - loopback, our own
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            return json.load(response)
    except urllib.error.HTTPError as error:
        body = error.read()
        try:
            answer = json.loads(body)
        except ValueError:
            answer = {}
        if error.code == 503 and "checkedAt" in answer:
            return answer
        what = f"{url} answered {error.code}: {answer.get('detail') or body[:200]!r}"
        if error.code >= 500:
            raise NotNowError(what) from error
        raise StartError(what) from error
    except OSError as error:
        raise NotNowError(f"{url} does not answer: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
