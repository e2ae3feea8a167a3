"""What is read of Azure Monitor through the real SDK client: in batches, whole, or with a reason why not."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from facts.filters import Missing
from facts.outbound import Usage, Window
from pipeline import settings
from pipeline.clients import Clients
from pipeline.collect import metrics as module
from pipeline.collect.inventory import Inventory
from pipeline.collect.kinds import LOAD_BALANCERS
from pipeline.collect.metrics import ACTION, read_usage
from tests.simulator import RunningSimulator

S = "/subscriptions/6c0b6a52-3a0e-4a58-9d0c-0f5a3b1e7c41"
BALANCERS = 60
WEU = "westeurope"


def balancer_id(number: int) -> str:
    """The load balancer of a cluster, as its list shows it."""
    return f"{S}/resourceGroups/MC_{number:03d}/providers/Microsoft.Network/loadBalancers/kubernetes"


GATEWAY = f"{S}/resourceGroups/rg-net/providers/Microsoft.Network/natGateways/gateway"
INTERNAL = f"{S}/resourceGroups/MC_000/providers/Microsoft.Network/loadBalancers/kubernetes-internal"


def balancer(number: int, *, members: int = 2, region: str = WEU, prefix: bool = False) -> dict[str, Any]:
    """A load balancer with an outbound rule for some nodes, by an address or by a prefix of them."""
    own = balancer_id(number)
    source = {
        "publicIPPrefix": {"id": f"{S}/resourceGroups/rg/providers/Microsoft.Network/publicIPPrefixes/p"}
    }
    return {
        "id": own,
        "name": "kubernetes",
        "location": region,
        "properties": {
            "frontendIPConfigurations": [
                {"id": f"{own}/frontendIPConfigurations/one", "properties": source if prefix else {}}
            ],
            "backendAddressPools": [
                {
                    "id": f"{own}/backendAddressPools/all",
                    "properties": {"backendIPConfigurations": [{"id": f"/nic/{n}"} for n in range(members)]},
                }
            ],
            "outboundRules": [
                {
                    "id": f"{own}/outboundRules/aksOutboundRule",
                    "properties": {
                        "frontendIPConfigurations": [{"id": f"{own}/frontendIPConfigurations/one"}],
                        "backendAddressPool": {"id": f"{own}/backendAddressPools/all"},
                    },
                }
            ],
        },
    }


def counted(nodes: int = 2, **shape: Any) -> dict[str, Any]:
    """The ports in use of some nodes."""
    return {
        "value": [
            {
                "name": {"value": name},
                "timeseries": [
                    {
                        "metadatavalues": [
                            {"name": {"value": dimension}, "value": value}
                            for dimension, value in (
                                ("FrontendIPAddress", "198.51.100.10"),
                                ("BackendIPAddress", f"10.224.{node // 250}.{node % 250 + 4}"),
                                ("ProtocolType", "TCP"),
                                ("IsAwaitingRemoval", "false"),
                            )
                        ],
                        "shape": {"base": base, **shape},
                    }
                    for node in range(nodes)
                ],
            }
            for name, base in (("UsedSnatPorts", 100), ("AllocatedSnatPorts", 1024))
        ]
    }


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    """Sixty load balancers in one region, one in another, an internal one, and a NAT gateway."""
    directory = tmp_path_factory.mktemp("fleet")
    resources = [
        *(balancer(number) for number in range(BALANCERS)),
        balancer(900, region="North Europe"),
        {"id": INTERNAL, "name": "kubernetes-internal", "location": WEU, "properties": {}},
        {"id": GATEWAY, "name": "gateway", "location": WEU, "properties": {}},
    ]
    metrics = {balancer_id(number): counted() for number in range(BALANCERS)}
    (directory / "resources.json").write_text(json.dumps(resources))
    (directory / "use.metrics.json").write_text(json.dumps(metrics))
    with RunningSimulator(directory) as running:
        yield running


@pytest.fixture
async def clients(azure: RunningSimulator, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Clients]:
    """Clients of the simulator, as the app makes them from its settings."""
    for name, value in azure.identity_env().items():
        monkeypatch.setenv(name, value)
    azure.clear_faults()
    azure.reload()
    azure.clear_requests()
    made = Clients(settings.load())
    yield made
    await made.close()


def asked(azure: RunningSimulator) -> list[str]:
    """The queries for metrics: for each the region and the first metric."""
    found = []
    for request in azure.requests():
        if request["action"] == ACTION:
            name = request["query"].partition("metricnames=")[2].partition("&")[0].partition(",")[0]
            found.append(f"{request['path'].split('/')[2]} {name}")
    return sorted(found)


def recent(usage: Usage) -> Window:
    """The minutes, which could be read."""
    assert isinstance(usage.recent, Window), usage.recent
    return usage.recent


THREE = ["SnatConnectionCount", "UsedSnatPorts", "UsedSnatPorts"]


async def test_neighbours_are_read_together(azure: RunningSimulator, clients: Clients) -> None:
    """Fifty at a time, whoever asks and however often: what has no outbound rule is left out."""
    inventory = Inventory(clients)
    wanted = [balancer_id(number) for number in range(BALANCERS)]
    usages = await asyncio.gather(*(read_usage(inventory, one, WEU) for one in (*wanted, *wanted)))
    assert all(len(recent(one).series) == 4 for one in usages)
    assert asked(azure) == sorted(f"{WEU} {name}" for name in THREE * 2)


async def test_each_region_is_asked_at_its_own_address(azure: RunningSimulator, clients: Clients) -> None:
    """A region written in words is the same."""
    usage = await read_usage(Inventory(clients), balancer_id(900), "North Europe")
    assert recent(usage).series == ()
    assert asked(azure) == sorted(f"northeurope {name}" for name in THREE)


async def test_all_time_series_come(azure: RunningSimulator, clients: Clients) -> None:
    """More than the ten that Azure gives where `top` is not said, by node, frontend and protocol."""
    azure.set_metrics({balancer_id(900): counted(300)})
    usage = await read_usage(Inventory(clients), balancer_id(900), "northeurope")
    series = recent(usage).series
    assert len(series) == 600
    assert len({one.dimensions["backendipaddress"] for one in series}) == 300
    assert series[0].dimensions["protocoltype"] == "TCP"
    assert {one.metric for one in series} == {"UsedSnatPorts", "AllocatedSnatPorts"}


async def test_what_is_late_or_missing_is_no_number(azure: RunningSimulator, clients: Clients) -> None:
    """The newest minutes are not there yet."""
    azure.set_metrics({balancer_id(900): counted(1, late=6)})
    [used, _] = recent(await read_usage(Inventory(clients), balancer_id(900), "northeurope")).series
    assert used.values[:20] == (100.0,) * 20
    assert used.values[-5:] == (None,) * 5


async def test_histories_are_kept_from_scan_to_scan(azure: RunningSimulator, clients: Clients) -> None:
    """Hours do not change every few minutes; minutes do."""
    first = await read_usage(Inventory(clients), balancer_id(0), WEU)
    assert isinstance(first.history, Window)
    [hours] = first.history.series
    assert (first.history.step_minutes, len(hours.values), hours.values[-1]) == (60, 672, 100.0)
    assert first.history.start == (
        datetime.now(UTC).replace(minute=0, second=0) - timedelta(days=28)
    ).strftime("%Y-%m-%dT%H:%M:%SZ")
    azure.clear_requests()
    second = await read_usage(Inventory(clients), balancer_id(1), WEU)
    assert second.history == first.history
    assert asked(azure) == sorted(f"{WEU} {name}" for name in THREE[:2])


async def test_a_history_grows_old(
    azure: RunningSimulator, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an hour it is read again."""
    await read_usage(Inventory(clients), balancer_id(0), WEU)
    azure.clear_requests()
    monkeypatch.setattr(module, "HISTORY_FRESH_SECONDS", -1.0)
    await read_usage(Inventory(clients), balancer_id(0), WEU)
    assert len(asked(azure)) == 3


async def test_one_that_is_gone_does_not_hide_its_neighbours(
    azure: RunningSimulator, clients: Clients
) -> None:
    """Azure refuses the whole batch for it."""
    inventory = Inventory(clients)
    await read_usage(inventory, GATEWAY, WEU)  # so that the lists are read before it goes
    await inventory.listed(LOAD_BALANCERS, S.rpartition("/")[2])
    azure.delete(balancer_id(7))
    gone, neighbour = await asyncio.gather(
        read_usage(inventory, balancer_id(7), WEU), read_usage(inventory, balancer_id(8), WEU)
    )
    assert isinstance(gone.recent, Missing)
    assert gone.recent.reason.code == "not_found"
    assert len(recent(neighbour).series) == 4


async def test_a_question_that_azure_does_not_take(
    azure: RunningSimulator, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is at fault and not one of the resources: they are not asked about one after the other."""
    kind = "microsoft.network/loadbalancers"
    odd = module._Questions(
        namespace="Microsoft.Network/loadBalancers",
        recent=(module._Question(("Nonsense",), "total"),),
        history=module._ASKED[kind].history,
    )
    monkeypatch.setitem(module._ASKED, kind, odd)
    usage = await read_usage(Inventory(clients), balancer_id(9), WEU)
    assert isinstance(usage.recent, Missing)
    assert usage.recent.reason.code == "azure_error"
    assert "Valid metrics" in usage.recent.reason.message
    assert isinstance(usage.history, Window)
    assert asked(azure).count(f"{WEU} Nonsense") == 3


async def test_one_that_no_list_shows_is_asked_about_alone(azure: RunningSimulator, clients: Clients) -> None:
    """As where the identity may not list them."""
    azure.fault(kind="403", match={"action": "Microsoft.Network/loadBalancers/read"})
    usage = await read_usage(Inventory(clients), balancer_id(3), WEU)
    assert len(recent(usage).series) == 4


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        (
            {"kind": "403"},
            "permission_denied",
            "lacks the action Microsoft.Insights/metrics/read on the whole",
        ),
        ({"kind": "malformed"}, "malformed_answer", "was no valid JSON"),
        ({"kind": "empty"}, "malformed_answer", "was no valid JSON"),
    ],
)
async def test_what_cannot_be_read_has_its_reason(
    azure: RunningSimulator, clients: Clients, fault: dict[str, Any], code: str, says: str
) -> None:
    """Of each resource, and never an empty window."""
    azure.fault(**fault, match={"action": ACTION})
    usage = await read_usage(Inventory(clients), GATEWAY, WEU)
    for part in (usage.recent, usage.history):
        assert isinstance(part, Missing)
        assert part.reason.code == code
        assert says in part.reason.message
        assert 'NAT gateway "gateway"' in part.reason.message
    if code == "permission_denied":
        assert isinstance(usage.recent, Missing)
        assert (usage.recent.reason.action, usage.recent.reason.resource) == (ACTION, S)


@pytest.mark.parametrize("kind", ["429", "500", "503"])
async def test_a_passing_failure_is_tried_again(azure: RunningSimulator, clients: Clients, kind: str) -> None:
    """By the SDK."""
    azure.fault(kind=kind, match={"action": ACTION}, times=2, seconds=0)
    usage = await read_usage(Inventory(clients), balancer_id(900), "northeurope")
    assert recent(usage).series == ()


async def test_a_failure_is_not_kept(azure: RunningSimulator, clients: Clients) -> None:
    """The next cluster that asks has it read again."""
    inventory = Inventory(clients)
    azure.fault(kind="malformed", match={"action": ACTION})
    assert isinstance((await read_usage(inventory, balancer_id(4), WEU)).recent, Missing)
    azure.clear_faults()
    assert recent(await read_usage(inventory, balancer_id(4), WEU)).series


async def test_a_metric_that_azure_could_not_give(clients: Clients) -> None:
    """Each metric of an answer has a code of its own."""
    body = {
        "values": [
            {
                "resourceid": GATEWAY,
                "value": [{"name": {"value": "X"}, "errorCode": "InternalError", "errorMessage": "sorry"}],
            }
        ]
    }
    reader = module._Reader(Inventory(clients), "microsoft.network/natgateways", "s", WEU)
    question = module._ASKED["microsoft.network/natgateways"].recent[0]
    span = module._Span.history(datetime.now(UTC))
    key = GATEWAY.lower()
    found = reader._understood(json.dumps(body).encode(), (key, "other"), question, span)
    for one, says in ((key, "X: InternalError sorry"), ("other", "leaves it out")):
        missing = found[one]
        assert isinstance(missing, Missing)
        assert says in missing.reason.message


@pytest.mark.parametrize(
    ("between", "minutes"),
    [(5, 30), (15, 30), (30, 45), (60, 75), (24 * 60, 360)],
)
def test_how_far_back_minutes_are_read(between: int, minutes: int) -> None:
    """Over the last scan, with a margin: what failed meanwhile is seen."""
    now = datetime(2026, 3, 1, 8, 17, 42, tzinfo=UTC)
    span = module._Span.recent(now, timedelta(minutes=between))
    assert (span.steps, span.start + span.step * span.steps) == (
        minutes,
        datetime(2026, 3, 1, 8, 17, tzinfo=UTC),
    )


async def test_large_ones_are_not_read_together(azure: RunningSimulator, clients: Clients) -> None:
    """Time series come by node and by address, of which a prefix has up to sixteen: not all fit in memory."""
    azure.put(
        *(balancer(number, members=300, region="uksouth") for number in range(910, 915)),
        *(balancer(number, members=25, region="ukwest", prefix=True) for number in range(920, 925)),
    )
    inventory = Inventory(clients)
    for region, numbers in (("uksouth", range(910, 915)), ("ukwest", range(920, 925))):
        batches = {
            await module._batch(
                inventory, "microsoft.network/loadbalancers", balancer_id(number).lower(), region
            )
            for number in numbers
        }
        assert sorted(len(one) for one in batches) == [1, 2, 2]
