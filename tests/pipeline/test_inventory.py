"""What is read of Azure, through the real SDK clients: once, shared, and with a reason where it fails."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import web

from facts.filters import Missing
from pipeline import settings
from pipeline.clients import Clients
from pipeline.collect import inventory as module
from pipeline.collect.inventory import Inventory, of_scan
from pipeline.collect.kinds import CLUSTERS, NETWORKS, SCALE_SETS, SECURITY_GROUPS
from tests.processes import free_ports
from tests.simulator import RunningSimulator

WORKLOADS = "6c0b6a52-3a0e-4a58-9d0c-0f5a3b1e7c41"


@pytest.fixture(scope="module")
def azure() -> Iterator[RunningSimulator]:
    """The sample fleet."""
    with RunningSimulator() as running:
        yield running


@pytest.fixture
async def clients(azure: RunningSimulator, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Clients]:
    """Clients of the simulator, as the app makes them from its settings."""
    for name, value in azure.identity_env().items():
        monkeypatch.setenv(name, value)
    azure.clear_faults()
    azure.clear_requests()
    made = Clients(settings.load())
    yield made
    await made.close()


async def test_a_list_is_read_once_for_all_who_ask(azure: RunningSimulator, clients: Clients) -> None:
    """Many clusters at once, one request a page."""
    inventory = Inventory(clients)
    lists = await asyncio.gather(*(inventory.listed(CLUSTERS, WORKLOADS.upper()) for _ in range(20)))
    assert not isinstance(lists[0], Missing)
    assert all(one is lists[0] for one in lists)
    asked = Counter(request["path"] for request in azure.requests())
    assert set(asked.values()) == {1}


async def test_a_resource_is_found_in_the_list_in_any_case(azure: RunningSimulator, clients: Clients) -> None:
    """Not one further request for what the list shows."""
    inventory = Inventory(clients)
    known = await inventory.listed(SECURITY_GROUPS, WORKLOADS)
    assert not isinstance(known, Missing)
    before = len(azure.requests())
    for wanted in known:
        assert await inventory.find(SECURITY_GROUPS, wanted.upper()) is known[wanted]
    assert len(azure.requests()) == before


async def test_what_no_list_shows_is_asked_for_by_itself(clients: Clients) -> None:
    """Only the single answer tells what is gone from what is hidden, and a wrong id is neither."""
    inventory = Inventory(clients)
    gone = await inventory.find(
        NETWORKS,
        f"/subscriptions/{WORKLOADS}/resourceGroups/rg-web-weu/providers/Microsoft.Network/virtualNetworks/no",
    )
    assert isinstance(gone, Missing)
    assert gone.reason.code == "not_found"
    odd = await inventory.find(NETWORKS, "nonsense")
    assert isinstance(odd, Missing)


@pytest.mark.parametrize(
    ("kind", "code"),
    [("403", "permission_denied"), ("empty", "malformed_answer"), ("malformed", "malformed_answer")],
)
async def test_a_list_that_fails_says_why(
    azure: RunningSimulator, clients: Clients, kind: str, code: str
) -> None:
    """The reason names what could not be read, and the action where one is missing."""
    azure.fault(kind=kind, match={"action": "Microsoft.Compute/virtualMachineScaleSets/read"})
    failed = await Inventory(clients).listed(SCALE_SETS, WORKLOADS)
    assert isinstance(failed, Missing)
    assert failed.reason.code == code
    assert WORKLOADS in failed.what
    assert failed.reason.action == (SCALE_SETS.action if code == "permission_denied" else None)


async def test_a_passing_failure_is_not_kept(azure: RunningSimulator, clients: Clients) -> None:
    """The next cluster asks again; a denied list stays denied for the scan."""
    inventory = Inventory(clients)
    azure.fault(kind="malformed", match={"action": SCALE_SETS.action}, times=1)
    assert isinstance(await inventory.listed(SCALE_SETS, WORKLOADS), Missing)
    assert not isinstance(await inventory.listed(SCALE_SETS, WORKLOADS), Missing)
    azure.fault(kind="403", match={"action": NETWORKS.action})
    assert isinstance(await inventory.listed(NETWORKS, WORKLOADS), Missing)
    azure.clear_faults()
    assert isinstance(await inventory.listed(NETWORKS, WORKLOADS), Missing)


async def test_a_denied_list_leaves_what_may_be_read_singly(
    azure: RunningSimulator, clients: Clients
) -> None:
    """With rights on a resource group alone, each resource there can still be read."""
    known = await Inventory(clients).listed(SECURITY_GROUPS, WORKLOADS)
    assert not isinstance(known, Missing)
    azure.fault(
        kind="403",
        match={"action": SECURITY_GROUPS.action, "path": "^/subscriptions/[^/]+/providers/"},
    )
    inventory = Inventory(clients)
    wanted = next(iter(known))
    assert await inventory.find(SECURITY_GROUPS, wanted) == known[wanted]


@pytest.mark.parametrize(("kind", "code"), [("429", "throttled"), ("hang", "timeout")])
async def test_waiting_has_an_end(
    azure: RunningSimulator, clients: Clients, monkeypatch: pytest.MonkeyPatch, kind: str, code: str
) -> None:
    """Azure says to come back in an hour, or says nothing: the reason tells which."""
    monkeypatch.setattr(module, "READ_SECONDS", 2)
    azure.fault(kind=kind, seconds=3600, match={"action": SCALE_SETS.action})
    failed = await Inventory(clients).listed(SCALE_SETS, WORKLOADS)
    assert isinstance(failed, Missing)
    assert failed.reason.code == code


async def test_a_scan_has_its_own_inventory(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for a scan, another for the next, none older than its time."""
    first = of_scan(clients, "1")
    assert of_scan(clients, "1") is first
    assert of_scan(clients, "2") is not first
    assert of_scan(clients, "1") is first
    of_scan(clients, "3")
    of_scan(clients, "4")
    assert of_scan(clients, "1") is not first
    monkeypatch.setattr(module, "FRESH_SECONDS", -1)
    latest = of_scan(clients, "4")
    assert of_scan(clients, "4") is not latest


async def test_a_provider_that_is_not_registered_is_not_registered_by_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A subscription that never had AKS has no clusters; the SDK's own attempt to register it is stopped."""
    seen: list[tuple[str, str]] = []

    async def serve(request: web.Request) -> web.Response:
        seen.append((request.method, request.path))
        if request.path == "/msi/token":
            token = {"access_token": "t", "expires_on": "4102444800", "resource": "r", "token_type": "Bearer"}
            return web.json_response(token)
        words = "The subscription is not registered to use namespace 'Microsoft.ContainerService'."
        error = {"code": "MissingSubscriptionRegistration", "message": words}
        return web.json_response({"error": error}, status=409)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    [port] = free_ports(1)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    for name in ("ARM_ENDPOINT", "IDENTITY_ENDPOINT"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}" + "/msi/token" * (name != "ARM_ENDPOINT"))
    monkeypatch.setenv("IDENTITY_HEADER", "x")
    made = Clients(settings.load())
    try:
        assert await Inventory(made).listed(CLUSTERS, WORKLOADS) == {}
    finally:
        await made.close()
        await runner.cleanup()
    assert {method for method, _ in seen} == {"GET"}
    assert "AzureWebJobsStorage" not in os.environ
