"""`make run`: the whole monitor in a terminal, from the first line to Ctrl-C."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.nodes.client import unavailable
from tests.end_to_end.monitor import small_fleet
from tests.processes import ROOT, free_ports, is_listening, request, wait_until

CLUSTER = "aks-orders-weu"


@pytest.fixture
def ports() -> dict[str, str]:
    """Free ports, as they are set by the environment."""
    while True:
        functions, arm, dns, base = free_ports(4)
        if not any(is_listening(base + offset) for offset in range(3)) and base < 60000:
            return {
                "FUNCTIONS_PORT": str(functions),
                "ARM_PORT": str(arm),
                "DNS_PORT": str(dns),
                "AZURITE_PORT_BASE": str(base),
            }


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """One faulty cluster."""
    return small_fleet(tmp_path, CLUSTER)


@pytest.fixture(autouse=True)
def forget_state(ports: dict[str, str]) -> Iterator[None]:
    """Take away what the instance stored."""
    yield
    for state in (ROOT / ".run").glob(f"{ports['FUNCTIONS_PORT']}-*"):
        shutil.rmtree(state)


def start(ports: dict[str, str], *arguments: str, **env: str) -> subprocess.Popen[str]:
    """Start it as `make run` does."""
    return subprocess.Popen(
        [sys.executable, "-m", "local.run", *arguments],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200", "PYTHONUNBUFFERED": "1"} | ports | env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def everything(ports: dict[str, str]) -> list[int]:
    """Every port of an instance."""
    base = int(ports["AZURITE_PORT_BASE"])
    named = [int(ports[name]) for name in ("FUNCTIONS_PORT", "ARM_PORT", "DNS_PORT")]
    return [*named, base, base + 1, base + 2]


def test_it_scans_shows_and_leaves_nothing_running(ports: dict[str, str], fleet: Path) -> None:
    """The first scan's findings are in the table, with the command that mends each."""
    running = start(ports, "--once", "--fleet", str(fleet))
    printed, _ = running.communicate(timeout=90)
    assert running.returncode == 0, printed
    assert "Scanned 1 clusters: 1 fail" in printed
    assert CLUSTER in printed
    assert "az network nsg rule create" in printed
    why = unavailable()
    nodes = f"recorded text, not real packet filters: {why}" if why else "Linux network namespaces"
    assert f"Nodes are {nodes}" in printed
    assert "does not answer others" in printed, "nodes were probed by the first scan"
    assert not [port for port in everything(ports) if is_listening(port)]


def test_probes_can_be_switched_off(ports: dict[str, str], fleet: Path) -> None:
    """It says so once, and what was not asked is not listed as what could not be told."""
    running = start(ports, "--once", "--fleet", str(fleet), NODE_PROBES="off")
    printed, _ = running.communicate(timeout=90)
    assert running.returncode == 0, printed
    assert "Nodes are not probed (NODE_PROBES=off)" in printed
    assert "1 open findings" in printed
    assert "could not be told" not in printed


def test_ctrl_c_stops_everything_and_repairs_are_reported(ports: dict[str, str], fleet: Path) -> None:
    """It goes on scanning on schedule, says what a later scan resolved, and ends cleanly."""
    running = start(ports, "--fleet", str(fleet), SCAN_SCHEDULE="*/3 * * * * *")
    assert running.stdout
    for line in running.stdout:
        if "Ctrl-C" in line:
            break
    assert all(is_listening(port) for port in everything(ports))
    for document in (fleet / CLUSTER).glob("*.json"):
        text = document.read_text()
        if '"deny-kubelet"' in text:
            document.write_text(text.replace('"access": "Deny"', '"access": "Allow"'))
    for line in running.stdout:
        if line.startswith("resolved"):
            break
    assert CLUSTER in line
    # A worker that dies is the host's to replace, and no reason to stop.
    for _ in range(5):
        status = request(int(ports["FUNCTIONS_PORT"]), "/admin/host/status").json()
        for worker in status["workers"]:
            os.kill(worker["pid"], signal.SIGKILL)
        time.sleep(0.7)
    assert running.poll() is None
    running.send_signal(signal.SIGINT)
    printed, _ = running.communicate(timeout=60)
    assert running.returncode == 0, printed
    assert "Stopping" in printed
    assert "Traceback" not in printed
    assert not [port for port in everything(ports) if is_listening(port)]


def test_ctrl_c_while_starting_leaves_nothing(ports: dict[str, str], fleet: Path) -> None:
    """However early it is stopped."""
    running = start(ports, "--fleet", str(fleet))
    wait_until(lambda: is_listening(int(ports["AZURITE_PORT_BASE"])), "Azurite", 30)
    running.send_signal(signal.SIGINT)
    printed, _ = running.communicate(timeout=60)
    assert running.returncode == 0, printed
    assert "Traceback" not in printed
    assert not [port for port in everything(ports) if is_listening(port)]


@pytest.mark.parametrize(
    ("name", "offset"),
    [("FUNCTIONS_PORT", 0), ("ARM_PORT", 0), ("DNS_PORT", 0), ("AZURITE_PORT_BASE", 2)],
)
def test_a_taken_port_is_one_line(ports: dict[str, str], fleet: Path, name: str, offset: int) -> None:
    """It names the port and the setting to change."""
    port = int(ports[name]) + offset
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        running = start(ports, "--fleet", str(fleet))
        printed, _ = running.communicate(timeout=60)
    assert running.returncode == 1
    assert len(printed.strip().splitlines()) == 1
    assert f"Port {port} is taken" in printed
    assert name in printed


@pytest.mark.parametrize(
    ("content", "said"),
    [("{ not json", "broken.json"), ('{"name": "x"}', "broken.json"), (None, "no such fleet")],
)
def test_a_broken_fleet_is_named(ports: dict[str, str], fleet: Path, content: str | None, said: str) -> None:
    """The file at fault, or the directory that is none."""
    if content is None:
        fleet = fleet.parent / "no such fleet"
    else:
        (fleet / "broken.json").write_text(content)
    running = start(ports, "--fleet", str(fleet))
    printed, _ = running.communicate(timeout=60)
    assert running.returncode == 1
    assert said in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"FUNCTIONS_PORT": "http"}, "FUNCTIONS_PORT is 'http'"),
        ({"ARM_PORT": "70000"}, "ARM_PORT is '70000'"),
        ({"NODE_PROBES": "yes"}, "NODE_PROBES is 'yes'"),
        ({"AZURE_SUBSCRIPTION_IDS": "00000000-0000-0000-0000-000000000001"}, "cannot both be set"),
    ],
)
def test_unusable_environment_is_one_line(
    ports: dict[str, str], fleet: Path, env: dict[str, str], said: str
) -> None:
    """It names the variable."""
    running = start(ports | env, "--fleet", str(fleet))
    printed, _ = running.communicate(timeout=60)
    assert running.returncode == 1
    assert said in printed
    assert len(printed.strip().splitlines()) == 1


def test_core_tools_host_the_app_where_they_are(ports: dict[str, str], fleet: Path, tmp_path: Path) -> None:
    """With `func` on the PATH it is `func start` that is run, with the venv's Python first on its PATH."""
    tools = tmp_path / "tools"
    tools.mkdir()
    func = tools / "func"
    # It does what Core Tools do with these arguments; our host half stands in for theirs.
    func.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >{tmp_path}/arguments\n'
        f"which python >{tmp_path}/python\n"
        '[ "$1 $2 $3" = "start --python --port" ] || exit 9\n'
        f'exec {sys.executable} -m local.host --port "$4"\n'
    )
    func.chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    settings = ROOT / "local.settings.json"
    had = settings.exists()
    running = start(ports, "--once", "--fleet", str(fleet), PATH=path)
    printed, _ = running.communicate(timeout=90)
    assert settings.exists(), "they need it to know what to run"
    if not had:
        settings.unlink()
    assert running.returncode == 0, printed
    assert "hosted by Azure Functions Core Tools" in printed
    assert (tmp_path / "arguments").read_text() == f"start --python --port {ports['FUNCTIONS_PORT']}\n"
    assert (tmp_path / "python").read_text().strip() == str(Path(sys.executable).parent / "python")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout without a virtual environment, and a PATH with nothing but the basics."""
    checkout, tools = tmp_path / "checkout", tmp_path / "tools"
    (checkout / "local").mkdir(parents=True)
    tools.mkdir()
    for name in ("local/setup.sh", ".python-version", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / name, checkout / name)
    for name in ("sh", "cat", "cksum", "dirname", "sed", "rm", "printf"):
        (tools / name).symlink_to(shutil.which(name) or name)
    return checkout


def setup(checkout: Path) -> subprocess.CompletedProcess[str]:
    """Run the set-up with only the tools that are there."""
    return subprocess.run(
        ["/bin/sh", "local/setup.sh"],
        cwd=checkout,
        env={"PATH": str(checkout.parent / "tools")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_old_python_is_one_line(bare: Path) -> None:
    """It says which version is needed and how to get it."""
    old = bare.parent / "tools" / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = setup(bare)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Python 3.13 is needed" in done.stderr


@pytest.mark.parametrize(("version", "said"), [(None, "was not found"), ("v16.20.2", "this is v16.20.2")])
def test_a_missing_or_old_node_is_one_line(bare: Path, version: str | None, said: str) -> None:
    """Python is there; Node is not, or too old for Azurite."""
    (bare / ".venv").symlink_to(ROOT / ".venv")
    if version:
        for name in ("node", "npm"):
            tool = bare.parent / "tools" / name
            tool.write_text(f"#!/bin/sh\necho {version}\n")
            tool.chmod(0o755)
    done = setup(bare)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Node.js 20" in done.stderr
    assert said in done.stderr
