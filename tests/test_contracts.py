"""What holds for the project as a whole: every check is complete, imports go one way, the app loads."""

import ast
import importlib.metadata
import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import checks
from checks import SECTIONS, all_checks
from checks.__main__ import manual
from facts.finding import Severity
from local import rpc
from pipeline.settings import DEFAULT_SCHEDULE, SettingsError, load

ROOT = Path(__file__).resolve().parent.parent
PURE = ("facts", "packets", "checks")
SHIPPED = (*PURE, "pipeline", "web", "function_app.py")
MODULES = sorted(
    found.name for found in pkgutil.iter_modules(checks.__path__) if not found.name.startswith("_")
)


def sources(*roots: str) -> list[Path]:
    """The Python files of some packages or files, as far as they exist."""
    return sorted(
        path
        for root in roots
        for path in ([ROOT / root] if root.endswith(".py") else (ROOT / root).rglob("*.py"))
    )


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run this Python in the project's directory."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# --- checks --------------------------------------------------------------------------------------


@pytest.fixture(params=MODULES)
def module(request: pytest.FixtureRequest) -> ModuleType:
    """Each module of checks."""
    return import_module(f"checks.{request.param}")


def test_there_are_checks() -> None:
    """All modules of the package are checks, found by being there, in the order of their causes."""
    found = all_checks()
    assert sorted(check.id for check in found) == sorted(name.replace("_", "-") for name in MODULES)
    assert [check.cause for check in found] == sorted(check.cause for check in found)
    assert found


def test_a_check_is_whole(module: ModuleType) -> None:
    """Its constants are there and mean something; its id is its file's name."""
    name = module.__name__.rpartition(".")[2]
    assert name.replace("_", "-") == module.ID
    assert type(module.CAUSE) is int
    assert module.CAUSE >= 1
    assert module.SEVERITY in Severity
    assert module.AFFECTS
    assert set(module.AFFECTS) <= {"logs", "exec", "port-forward", "webhooks"}
    assert list(inspect.signature(module.check).parameters) == ["snapshot"]


def test_a_checks_manual_is_whole(module: ModuleType) -> None:
    """A title, then every section, in order, each once and none of them empty."""
    text = inspect.cleandoc(module.__doc__ or "")
    title, _, body = text.partition("\n")
    assert title.endswith(".")
    found = re.findall(rf"^({'|'.join(SECTIONS)}): *(\S?)", body, re.MULTILINE)
    assert [section for section, _ in found] == list(SECTIONS)
    assert all(first for _, first in found)
    assert re.search(r"^Documentation: https://\S+$", body, re.MULTILINE)


def test_a_check_has_its_tests(module: ModuleType) -> None:
    """Beside its twin, and they import it."""
    name = module.__name__.rpartition(".")[2]
    twin = ROOT / "tests" / "checks" / f"test_{name}.py"
    assert twin.is_file()
    assert f"checks.{name}" in imports(twin)


def test_the_manual_is_fresh() -> None:
    """docs/checks.md is what `python -m checks` prints."""
    stale = "run: make docs"
    assert (ROOT / "docs" / "checks.md").read_text(encoding="utf-8") == manual(all_checks()), stale
    assert run("-m", "checks").stdout == manual(all_checks())


# --- imports -------------------------------------------------------------------------------------


def imports(path: Path) -> set[str]:
    """The modules that a file imports, wherever in it, with the names imported from them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_imports_go_one_way() -> None:
    """The contracts of pyproject.toml hold."""
    linted = run(
        "-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr
    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken", linted.stdout)


@pytest.mark.parametrize("path", sources(*PURE), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_middle_is_pure(path: Path) -> None:
    """No Azure, no network, no environment, no clock, no log, no randomness: values in, values out."""
    impure = {
        "aiohttp",
        "asyncio",
        "azure",
        "http",
        "logging",
        "opentelemetry",
        "os",
        "pathlib",
        "random",
        "secrets",
        "socket",
        "subprocess",
        "time",
        "urllib",
        "uuid",
    }
    assert not {name.partition(".")[0] for name in imports(path)} & impure
    called = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    # A command line may read the files that it is given.
    reading = set() if path.parent.name == "commands" else {"open"}
    assert not called & ({"datetime.now", "datetime.utcnow", "date.today", "print", "input"} | reading)


def test_the_function_app_is_the_top() -> None:
    """It hands everything to the pipeline, and nothing imports it: a file, which import-linter cannot see."""
    assert {name.partition(".")[0] for name in imports(ROOT / "function_app.py")} == {
        "azure",
        "pipeline",
        "typing",
    }
    for path in sources(*PURE, "pipeline", "web"):
        assert "function_app" not in imports(path), path


def test_nothing_that_ships_imports_what_does_not() -> None:
    """Neither the local stand-ins nor tests nor the bench, not even inside a function."""
    for path in sources(*SHIPPED):
        assert not {name.partition(".")[0] for name in imports(path)} & {"local", "tests", "bench"}, path


@pytest.mark.parametrize(
    ("module_name", "never"),
    [
        (
            "function_app",
            (
                "azure.mgmt",
                "azure.data",
                "azure.identity",
                "opentelemetry",
                "aiohttp",
                "pipeline",
                "croniter",
            ),
        ),
        ("pipeline.report", ("azure.mgmt", "azure.identity", "opentelemetry", "aiohttp", "croniter")),
        ("pipeline.alerts", ("azure.mgmt", "azure.identity", "opentelemetry", "aiohttp", "croniter")),
        ("checks.nsg_kubelet_port", ("azure", "asyncio", "socket")),
    ],
)
def test_what_a_cold_start_does_not_pay_for(module_name: str, never: tuple[str, ...]) -> None:
    """Importing it alone, in a fresh Python, loads none of these."""
    listed = run("-c", f"import sys, {module_name}; print('\\n'.join(sys.modules))")
    assert listed.returncode == 0, listed.stderr
    loaded = listed.stdout.split()
    assert module_name in loaded
    assert [
        name for name in loaded if name.startswith(tuple(f"{one}." for one in never)) or name in never
    ] == []


@pytest.mark.parametrize("path", sources(*SHIPPED), ids=lambda path: str(path.relative_to(ROOT)))
def test_importing_does_nothing(path: Path) -> None:
    """No module reads the environment or makes a client outside a function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    at_import: Iterator[ast.AST] = (
        inner
        for statement in tree.body
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        for inner in ast.walk(statement)
    )
    words = {ast.unparse(node) for node in at_import if isinstance(node, (ast.Attribute, ast.Name))}
    assert not words & {"os.environ", "os.getenv", "DefaultAzureCredential", "TableServiceClient", "load"}


# --- requirements --------------------------------------------------------------------------------


def pinned(name: str) -> dict[str, str]:
    """The distributions that a requirements file names, with their versions."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    wanted = [line.partition("#")[0].strip() for line in lines]
    found = {}
    for line in filter(None, wanted):
        if line != "-r requirements.txt":
            match = re.fullmatch(r"([a-z0-9-]+)==([0-9][0-9a-z.]*)", line)
            assert match, f"{name}: {line} is not pinned"
            found[match[1]] = match[2]
    return found


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_pinned(name: str) -> None:
    """Exactly, each once, in order, and what is installed here is what they say."""
    found = pinned(name)
    assert list(found) == sorted(found)
    assert {each: importlib.metadata.version(each) for each in found} == found


def owners(module_name: str, files: dict[str, set[str]]) -> set[str]:
    """The distributions that a module comes from: of a namespace like `azure`, the one with that part."""
    parts = module_name.split(".")
    while parts:
        path = "/".join(parts)
        found = files.get(f"{path}/__init__.py", set()) | files.get(f"{path}.py", set())
        if found:
            return found
        parts.pop()
    return set()


def test_every_import_is_a_direct_requirement() -> None:
    """What shipping code imports is in requirements.txt itself, not there by way of something else."""
    tops = importlib.metadata.packages_distributions()
    files: dict[str, set[str]] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"].lower().replace("_", "-")
        for file in distribution.files or ():
            files.setdefault(file.as_posix(), set()).add(name)
    direct = set(pinned("requirements.txt"))
    used: set[str] = set()
    for path in sources(*SHIPPED):
        for name in imports(path):
            if name.partition(".")[0] in tops:
                mine = owners(name, files)
                assert not mine or mine & direct, f"{path.name}: {name} comes from {mine}"
                used |= mine
    assert {"azure-core", "azure-data-tables", "azure-functions", "msgspec"} <= used
    # Nothing is installed in Azure for nothing; aiohttp is the transport of the SDK as well.
    assert direct <= used


# --- the function app ----------------------------------------------------------------------------

HTTP = {
    ("findings", "GET"): "findings",
    ("findings/{id}", "GET"): "finding",
    ("clusters", "GET"): "clusters",
    ("clusters/{key}", "GET"): "cluster",
    ("scans", "POST"): "scan_now",
    ("scans/{id}", "GET"): "scan",
    ("alerts", "GET"): "alerts",
    ("alerts", "POST"): "take_alert",
    ("health", "GET"): "health",
}
QUEUES = {
    "start_scan": "scan-requests",
    "scan_cluster": "cluster-scans",
    "give_up_cluster": "cluster-scans-poison",
    "give_up_scan": "scan-requests-poison",
}
OUTPUTS = {
    "scheduled_scan": {"scan-requests"},
    "start_scan": {"cluster-scans"},
    "scan_now": {"scan-requests", "cluster-scans"},
    "take_alert": {"cluster-scans"},
}


def read_message(stream: Any) -> rpc.Message:
    """The next message from the worker."""
    head = stream.read(rpc.LENGTH.size)
    assert len(head) == rpc.LENGTH.size, "the worker went away"
    return rpc.unpack(stream.read(*rpc.LENGTH.unpack(head)))


@pytest.fixture(scope="module")
def functions() -> dict[str, list[dict[str, Any]]]:
    """The bindings of each function, as Microsoft's worker finds them in an environment without settings."""
    plain = {
        name: value for name, value in os.environ.items() if not name.startswith(("Azure", "AZURE", "OTEL"))
    }
    with subprocess.Popen(
        [sys.executable, "-m", "local.worker", str(ROOT)],
        cwd=ROOT,
        env=plain,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            worker.stdin.write(rpc.pack(rpc.WorkerInitRequest(function_app_directory=str(ROOT))))
            worker.stdin.write(rpc.pack(rpc.FunctionsMetadataRequest(function_app_directory=str(ROOT))))
            worker.stdin.flush()
            found: list[rpc.RpcFunctionMetadata] | None = None
            while found is None:
                answer = read_message(worker.stdout)
                if isinstance(answer, (rpc.WorkerInitResponse, rpc.FunctionMetadataResponse)):
                    assert answer.result.status == rpc.StatusResult.Success, answer.result.exception
                if isinstance(answer, rpc.FunctionMetadataResponse):
                    found = answer.function_metadata_results or []
            for function in found:
                worker.stdin.write(rpc.pack(rpc.FunctionLoadRequest(function_id=function.function_id)))
            worker.stdin.flush()
            loaded = 0
            while loaded < len(found):
                answer = read_message(worker.stdout)
                if isinstance(answer, rpc.FunctionLoadResponse):
                    assert answer.result.status == rpc.StatusResult.Success, answer.result.exception
                    loaded += 1
        finally:
            worker.kill()
    return {one.name: [json.loads(binding) for binding in one.raw_bindings] for one in found}


def bindings(function: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The bindings of one kind."""
    return [binding for binding in function if binding["type"].lower() == kind.lower()]


def test_the_worker_takes_every_function(functions: dict[str, list[dict[str, Any]]]) -> None:
    """Microsoft's own library loads the app and lists all of it: one trigger each."""
    assert {*HTTP.values(), *QUEUES, "scheduled_scan"} <= set(functions)
    for name, function in functions.items():
        assert sum(binding["type"].endswith("Trigger") for binding in function) == 1, name


def test_routes(functions: dict[str, list[dict[str, Any]]]) -> None:
    """Every promised route and method leads to its function, and no two to the same."""
    served = {}
    for name, function in functions.items():
        for trigger in bindings(function, "httpTrigger"):
            for method in trigger["methods"]:
                place = (trigger["route"], str(method).upper())
                assert place not in served
                served[place] = name
    assert HTTP.items() <= served.items()


def test_every_route_but_health_needs_a_key(functions: dict[str, list[dict[str, Any]]]) -> None:
    """Nothing about clusters is told to somebody without one."""
    levels = {
        name: trigger["authLevel"].lower()
        for name, function in functions.items()
        for trigger in bindings(function, "httpTrigger")
    }
    assert levels.pop("health") == "anonymous"
    assert set(levels.values()) == {"function"}


def test_queues(functions: dict[str, list[dict[str, Any]]]) -> None:
    """Who reads which queue and who writes to which; every queue that is read has its poison queue read."""
    read = {
        name: trigger["queueName"]
        for name, function in functions.items()
        for trigger in bindings(function, "queueTrigger")
    }
    assert QUEUES.items() <= read.items()
    assert {f"{queue}-poison" for queue in read.values() if not queue.endswith("-poison")} <= set(
        read.values()
    )
    written = {
        name: {output["queueName"] for output in bindings(function, "queue")}
        for name, function in functions.items()
        if bindings(function, "queue")
    }
    assert OUTPUTS.items() <= written.items()
    assert set().union(*written.values()) <= set(read.values())
    storage = [one for function in functions.values() for one in function if "queueName" in one]
    assert {binding["connection"] for binding in storage} == {"AzureWebJobsStorage"}


def test_the_timer(functions: dict[str, list[dict[str, Any]]]) -> None:
    """It follows the setting, keeps its schedule over restarts and does not run when an instance starts."""
    [timer] = bindings(functions["scheduled_scan"], "timerTrigger")
    assert timer["schedule"] == "%SCAN_SCHEDULE%"
    assert timer["useMonitor"] is True
    assert not timer.get("runOnStartup")


# --- the files that Azure reads ------------------------------------------------------------------


def span(text: str) -> timedelta:
    """`hh:mm:ss` as host.json has it."""
    hours, minutes, seconds = text.split(":")
    return timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds))


def test_host_json() -> None:
    """Within the limits of Azure Functions, and with room for the longest scan.

    https://learn.microsoft.com/azure/azure-functions/functions-bindings-storage-queue#host-json
    """
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    assert host["version"] == "2.0"
    # Flex Consumption wants version 4 of the extensions.
    assert host["extensionBundle"]["id"] == "Microsoft.Azure.Functions.ExtensionBundle"
    assert host["extensionBundle"]["version"].startswith("[4.")
    assert host["extensions"]["http"]["routePrefix"] == "api"
    queues = host["extensions"]["queues"]
    assert 1 <= queues["batchSize"] <= 32
    assert 0 <= queues["newBatchThreshold"] <= queues["batchSize"]
    assert queues["maxDequeueCount"] >= 2
    # An array of messages comes out of the binding as the host encodes it.
    assert queues["messageEncoding"] in {"base64", "none"}
    assert timedelta(milliseconds=100) <= span(queues["maxPollingInterval"]) <= timedelta(minutes=1)
    assert span(queues["visibilityTimeout"]) >= timedelta(0)
    # OpenTelemetry would switch the host's own telemetry to another configuration.
    assert host.get("telemetryMode", "").lower() in {"", "opentelemetry"}
    longest = span(host["functionTimeout"])
    assert longest > timedelta(seconds=load({}).scan_timeout_seconds)
    with pytest.raises(SettingsError):
        load({"SCAN_TIMEOUT_SECONDS": str(int(longest.total_seconds()))})


def test_sample_settings() -> None:
    """What a developer starts from can be loaded, and holds nothing secret."""
    values = json.loads((ROOT / "local.settings.sample.json").read_text(encoding="utf-8"))["Values"]
    assert values["FUNCTIONS_WORKER_RUNTIME"] == "python"
    assert values["AzureWebJobsStorage"] == "UseDevelopmentStorage=true"
    assert load(values).scan_schedule == DEFAULT_SCHEDULE
    assert not [name for name in values if re.search("key|secret|password", name, re.IGNORECASE)]


def test_what_is_not_deployed() -> None:
    """The package leaves out what only serves a developer, and nothing that the app imports."""
    ignored = {
        line.strip().rstrip("/") for line in (ROOT / ".funcignore").read_text(encoding="utf-8").splitlines()
    }
    assert {"local", "tests", "bench", "infra", "node_modules", "local.settings*.json"} <= ignored
    assert not ignored & {*SHIPPED, "host.json", "requirements.txt"}
