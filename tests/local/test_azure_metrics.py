"""Azure Monitor as the simulator serves it, asked by the real SDK: its rules, and the traps that they are."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.core.rest import HttpRequest
from azure.monitor.querymetrics.aio import MetricsClient

from local.azure.arm import MalformedError
from local.azure.metric_files import METRICS, check
from local.azure.samples import Moment, Recorded, Shape
from tests.simulator import WORKLOADS, FixedToken, LoopbackPolicy, RunningSimulator

Document = dict[str, Any]

NET = f"/subscriptions/{WORKLOADS}/resourceGroups/MC_rg_aks_westeurope/providers/Microsoft.Network"
BALANCER = f"{NET}/loadBalancers/kubernetes"
QUIET = f"{NET}/loadBalancers/quiet"
ABROAD = f"{NET}/loadBalancers/abroad"
GATEWAY = f"{NET}/natGateways/gateway"
METRICS_AUDIENCE = "https://metrics.monitor.azure.com"
NODES = 8
LB = "Microsoft.Network/loadBalancers"


def timeseries(content: Document, **dimensions: str) -> Document:
    """A time series: `shape=…` or `data=…`, and its dimensions."""
    written = [{"name": {"value": name}, "value": value} for name, value in dimensions.items()]
    return {"metadatavalues": written, **content}


def metric(name: str, *rows: Document) -> Document:
    """A metric with its time series."""
    return {"name": {"value": name}, "unit": "Count", "timeseries": list(rows)}


def ports(node: int, protocol: str = "TCP", **shape: Any) -> Document:
    """The ports of a node."""
    return timeseries(
        {"shape": {"late": 0, **shape}},
        FrontendIPAddress="198.51.100.10",
        BackendIPAddress=f"10.224.0.{node}",
        ProtocolType=protocol,
        IsAwaitingRemoval="false",
    )


FLEET: Mapping[str, Any] = {
    BALANCER: {
        "value": [
            metric(
                "UsedSnatPorts",
                *(ports(4 + node, base=100 * (node + 1)) for node in range(NODES)),
                *(ports(4 + node, "UDP", base=5) for node in range(NODES)),
            ),
            metric("AllocatedSnatPorts", *(ports(4 + node, base=1024) for node in range(NODES))),
            metric(
                "SnatConnectionCount",
                timeseries(
                    {"data": [{"timeStamp": "-PT3M", "total": 7}, {"timeStamp": "-PT9M", "total": 2}]},
                    FrontendIPAddress="198.51.100.10",
                    BackendIPAddress="10.224.0.4",
                    ConnectionState="Failed",
                ),
            ),
        ]
    },
    GATEWAY: {
        "value": [
            metric("DatapathAvailability", timeseries({"shape": {"base": 100, "late": 5}})),
            metric(
                "SNATConnectionCount",
                timeseries({"shape": {"base": 60, "late": 0}}, Protocol="6", ConnectionState="Attempted"),
            ),
        ]
    },
}


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    """A few resources, one of them in another region and one without any sample."""
    directory = tmp_path_factory.mktemp("fleet")
    places = {BALANCER: "westeurope", QUIET: "West Europe", ABROAD: "northeurope", GATEWAY: "westeurope"}
    resources = [
        {"id": one, "name": one.rpartition("/")[2], "location": place, "properties": {}}
        for one, place in places.items()
    ]
    write(directory / "resources.json", resources)
    write(directory / "use.metrics.json", FLEET)
    with RunningSimulator(directory) as running:
        yield running


def write(file: Path, content: Any) -> None:
    """Write JSON."""
    file.write_text(json.dumps(content))


def monitor(
    azure: RunningSimulator, region: str = "westeurope", audience: str = METRICS_AUDIENCE
) -> MetricsClient:
    """The SDK's client of the batch interface."""
    return MetricsClient(
        f"{azure.url}/metrics/{region}",
        FixedToken(azure.token(resource=audience)),
        per_retry_policies=[LoopbackPolicy()],
        retry_total=0,
    )


async def query(azure: RunningSimulator, *ids: str, region: str = "westeurope", **asked: Any) -> list[Any]:
    """What the SDK makes of an answer, one resource after the other."""
    options: dict[str, Any] = {
        "metric_namespace": LB,
        "metric_names": ["UsedSnatPorts"],
        "timespan": timedelta(minutes=10),
        "granularity": timedelta(minutes=1),
        "aggregations": ["Average"],
    } | asked
    async with monitor(azure, region) as client:
        return list(await client.query_resources(resource_ids=list(ids or [BALANCER]), **options))


def rows(answer: Any, name: str = "UsedSnatPorts") -> dict[str, list[float | None]]:
    """The averages (or totals) of each time series, by its dimensions' values."""
    [found] = [one for one in answer.metrics if one.name == name]
    return {
        "/".join(one.metadata_values.values()): [
            point.average if point.average is not None else point.total for point in one.data
        ]
        for one in found.timeseries
    }


async def test_a_filter_without_top_brings_ten_series(azure: RunningSimulator) -> None:
    """Silently: sixteen time series are there, and nothing says so."""
    split = "BackendIPAddress eq '*' and ProtocolType eq '*'"
    [answer] = await query(azure, filter=split)
    assert len(rows(answer)) == 10
    [answer] = await query(azure, filter=split, max_results=2**31 - 1)
    assert len(rows(answer)) == 2 * NODES
    assert rows(answer)["10.224.0.5/TCP"] == [200.0] * 10


async def test_what_a_filter_does_not_name_is_put_together(azure: RunningSimulator) -> None:
    """Averages over samples, sums over all of them: a sum of a gauge says nothing of what is in use."""
    [answer] = await query(azure)
    assert rows(answer) == {"": [pytest.approx((450 + 5) / 2)] * 10}
    [answer] = await query(azure, aggregations=["Total"], filter="ProtocolType eq 'tcp'")
    assert rows(answer) == {"TCP": [3600.0] * 10}
    [answer] = await query(
        azure,
        aggregations=["Total"],
        granularity=timedelta(minutes=5),
        filter="BackendIPAddress eq '10.224.0.4' and ProtocolType eq 'TCP'",
    )
    assert set(rows(answer)["10.224.0.4/TCP"][:1]) == {500.0}, "five samples of a hundred each"


async def test_values_of_one_dimension_may_be_alternatives(azure: RunningSimulator) -> None:
    """`or` within a dimension."""
    [answer] = await query(
        azure,
        filter="BackendIPAddress eq '10.224.0.4' or BackendIPAddress eq '10.224.0.6' "
        "and ProtocolType eq 'UDP'",
    )
    assert sorted(rows(answer)) == ["10.224.0.4/UDP", "10.224.0.6/UDP"]


async def test_recorded_points_lie_where_they_were_taken(azure: RunningSimulator) -> None:
    """Minutes without traffic have a point without a value; times in a file count back from now."""
    [answer] = await query(
        azure,
        metric_names=["SnatConnectionCount"],
        aggregations=["Total"],
        filter="ConnectionState eq 'failed'",
    )
    values = rows(answer, "SnatConnectionCount")["Failed"]
    assert sorted(value for value in values if value is not None) == [2.0, 7.0]
    assert values.index(7.0) - values.index(2.0) == 6


async def test_what_is_late_is_not_there_yet(azure: RunningSimulator) -> None:
    """The newest minutes are missing, which is not 0."""
    [answer] = await query(
        azure,
        GATEWAY,
        metric_namespace="Microsoft.Network/natGateways",
        metric_names=["DatapathAvailability"],
    )
    values = rows(answer, "DatapathAvailability")[""]
    assert values[:4] == [100.0] * 4
    assert values[-4:] == [None] * 4


async def test_hours_count_as_if_each_minute_had_been_taken(azure: RunningSimulator) -> None:
    """A counter's sum over an hour, and the highest sample of a gauge."""
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    span = (end - timedelta(hours=3), end)
    [answer] = await query(
        azure,
        GATEWAY,
        metric_namespace="Microsoft.Network/natGateways",
        metric_names=["SNATConnectionCount"],
        aggregations=["Total"],
        granularity=timedelta(hours=1),
        timespan=span,
    )
    assert rows(answer, "SNATConnectionCount") == {"": [3600.0] * 3}


async def test_two_resources_and_one_without_samples(azure: RunningSimulator) -> None:
    """Answers come in the order of the ids, in whatever case these were written; nothing is no error."""
    quiet, busy = await query(azure, QUIET.replace("/Microsoft.Network/", "/MICROSOFT.NETWORK/"), BALANCER)
    assert rows(quiet) == {}
    assert rows(busy)


async def test_a_name_in_another_case_finds_nothing(azure: RunningSimulator) -> None:
    """No error tells of it: load balancers and NAT gateways write SNAT differently."""
    [answer] = await query(azure, metric_names=["UsedSNATPorts"])
    assert rows(answer, "UsedSNATPorts") == {}


@pytest.mark.parametrize(
    ("ids", "asked", "message"),
    [
        ([], {"metric_names": ["SnatPorts"]}, "metric: SnatPorts, Valid metrics: AllocatedSnatPorts"),
        ([], {"filter": "Colour eq '*'"}, "does not support requested dimension combination: colour"),
        (
            [],
            {"metric_names": ["UsedSnatPorts", "SnatConnectionCount"], "filter": "ProtocolType eq '*'"},
            "Metric: SnatConnectionCount does not support",
        ),
        ([], {"filter": "ProtocolType eq 'TCP' or BackendIPAddress eq '*'"}, "'or' cannot separate"),
        ([], {"filter": "ProtocolType = 'TCP'"}, "is invalid at"),
        ([], {"granularity": timedelta(minutes=2)}, "Detected invalid time grain input 'PT2M'"),
        ([], {"timespan": timedelta(days=94)}, "metrics are kept for 93 days"),
        ([], {"aggregations": ["Median"]}, "Invalid aggregation type: median"),
        ([], {"metric_namespace": "Microsoft.Compute/disks"}, "is not supported"),
        ([BALANCER] * 51, {}, "exceeds the maximum of 50"),
        ([GATEWAY], {}, "is not of type"),
        ([ABROAD], {}, "is in region 'northeurope'"),
    ],
    ids=[
        "unknown metric",
        "unknown dimension",
        "a dimension that one metric lacks",
        "or between dimensions",
        "no filter",
        "grain",
        "too long ago",
        "aggregation",
        "namespace",
        "too many",
        "another type",
        "another region",
    ],
)
async def test_what_azure_refuses(
    azure: RunningSimulator, ids: list[str], asked: dict[str, Any], message: str
) -> None:
    """400, and the whole batch with it."""
    with pytest.raises(HttpResponseError) as refusal:
        await query(azure, *ids, **asked)
    assert refusal.value.status_code == 400
    assert message in str(refusal.value)


async def test_a_resource_that_is_gone(azure: RunningSimulator) -> None:
    """404, and the whole batch with it."""
    with pytest.raises(HttpResponseError) as refusal:
        await query(azure, BALANCER, f"{NET}/loadBalancers/gone")
    assert refusal.value.status_code == 404


async def test_a_region_serves_what_lies_in_it(azure: RunningSimulator) -> None:
    """Each region by its own address."""
    [answer] = await query(azure, ABROAD, region="northeurope")
    assert rows(answer) == {}


async def test_the_token_has_to_be_for_azure_monitor(azure: RunningSimulator) -> None:
    """One for ARM is not taken, nor one for Azure Monitor by ARM."""
    async with monitor(azure, audience="https://management.azure.com") as client:
        with pytest.raises(ClientAuthenticationError):
            await client.query_resources(
                resource_ids=[BALANCER], metric_namespace=LB, metric_names=["UsedSnatPorts"]
            )
    bearer = {"Authorization": f"Bearer {azure.token(resource=METRICS_AUDIENCE)}"}
    status, _, content = azure.raw("GET", "/subscriptions?api-version=2022-12-01", headers=bearer)
    assert (status, "wrong audience" in content) == (401, True)


@pytest.mark.parametrize("kind", ["403", "429", "500", "malformed", "reset"])
async def test_faults_happen_here_too(azure: RunningSimulator, kind: str) -> None:
    """What goes wrong on demand, goes wrong with metrics."""
    azure.fault(kind=kind, match={"action": "Microsoft.Insights/metrics/read"}, times=1)
    with pytest.raises(Exception) as error:
        await query(azure)
    if kind.isdecimal():
        assert getattr(error.value, "status_code", None) == int(kind)
    assert await query(azure)
    azure.clear_faults()


async def test_requests_are_written_down(azure: RunningSimulator) -> None:
    """By the action that they take."""
    azure.clear_requests()
    await query(azure)
    [request] = azure.requests()
    assert (request["method"], request["action"], request["status"]) == (
        "POST",
        "Microsoft.Insights/metrics/read",
        200,
    )
    assert request["subscription"] == WORKLOADS


async def test_said_anew_while_it_runs(azure: RunningSimulator) -> None:
    """The control API takes what a file would say."""
    azure.set_metrics({QUIET: {"value": [metric("UsedSnatPorts", ports(9, base=3))]}})
    [answer] = await query(azure, QUIET)
    assert rows(answer) == {"": [3.0] * 10}
    with pytest.raises(RuntimeError, match="no metric of it"):
        azure.set_metrics({QUIET: {"value": [metric("Nonsense")]}})
    azure.reload()
    [answer] = await query(azure, QUIET)
    assert rows(answer) == {}


async def test_only_questions_are_answered(azure: RunningSimulator) -> None:
    """Another method or address is nothing, another version is refused, no JSON likewise."""
    async with monitor(azure) as client:
        for method, path, status in (
            ("GET", "metrics:getBatch?api-version=2024-02-01", 404),
            ("POST", "metrics?api-version=2024-02-01", 404),
            ("POST", "metrics:getBatch", 400),
            ("POST", "metrics:getBatch?api-version=2018-01-01", 400),
            (
                "POST",
                f"metrics:getBatch?api-version=2024-02-01&metricnamespace={LB}&metricnames=UsedSnatPorts",
                400,
            ),
        ):
            request = HttpRequest(method, f"{{endpoint}}/subscriptions/{WORKLOADS}/{path}", content=b"{")
            response: Any = await client.send_request(request)
            assert response.status_code == status, (method, path)


# --- files and shapes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "not a JSON object"),
        ({"/nonsense": {"value": []}}, '"/nonsense": an ARM id starts with'),
        ({f"{NET}/virtualNetworks/v": {"value": []}}, "no resource whose metrics are served"),
        ({BALANCER: {}}, 'no list "value"'),
        (
            {BALANCER: {"value": [metric("Nonsense")]}},
            "'Nonsense' is no metric of it: there are AllocatedSnatPorts",
        ),
        (
            {BALANCER: {"value": [{"name": {"value": "UsedSnatPorts"}}]}},
            'UsedSnatPorts: no list "timeseries"',
        ),
        (
            {BALANCER: {"value": [metric("UsedSnatPorts", timeseries({"data": []}, ProtocolType="TCP"))]}},
            "timeseries[0]: its dimensions are to be FrontendIPAddress, BackendIPAddress",
        ),
        ({BALANCER: {"value": [metric("UsedSnatPorts", ports(4, colour=1))]}}, "shape: unknown field colour"),
        ({BALANCER: {"value": [metric("UsedSnatPorts", ports(4, base="x"))]}}, "shape.base is no number"),
        (
            {
                GATEWAY: {
                    "value": [
                        metric("PacketDropCount", timeseries({"data": [{"timeStamp": "then", "total": 1}]}))
                    ]
                }
            },
            "data[0].timeStamp: 'then' is neither a time nor a duration",
        ),
        ({BALANCER: {"value": []}, BALANCER.upper(): {"value": []}}, "it is there twice"),
    ],
)
def test_a_file_that_is_wrong(content: Any, message: str) -> None:
    """It is said where, and how."""
    with pytest.raises(MalformedError) as error:
        check(content)
    assert message in str(error.value)


NOW = 30_000_000


def sampled(minutes: int = 60, **shape: Any) -> list[tuple[int, float]]:
    """The samples of the last minutes, by minutes before now."""
    made = Shape.parse(shape, whole=True, name="a")
    return [(minute - NOW, value) for minute, value in made.samples(NOW - minutes, NOW, NOW, sparse=False)]


def test_a_shape_that_is_flat() -> None:
    """A sample for each minute but the newest, which are late."""
    assert sampled(5, base=7) == [(-5, 7.0), (-4, 7.0), (-3, 7.0)]
    assert sampled(5, base=7, late=0)[-1] == (-1, 7.0)


def test_a_shape_that_grows_arrives_at_its_base_now() -> None:
    """So it was lower before; and is never below its floor."""
    values = dict(sampled(1440, base=1440, perDay=1440, late=0))
    assert (values[-1], values[-720], values[-1440]) == (1439.0, 720.0, 0.0)
    assert dict(sampled(2880, base=100, perDay=1440, late=0))[-2880] == 0.0


def test_a_shape_with_bounds_in_time_and_height() -> None:
    """Steps of levels, a beginning, an end, a cap."""
    values = dict(
        sampled(
            60, base=10, steps=[{"at": "-PT20M", "add": 90}], cap=95, **{"from": "-PT30M", "until": "-PT10M"}
        )
    )
    assert min(values) == -30
    assert max(values) == -11
    assert (values[-21], values[-20]) == (10.0, 95.0)


def test_a_shape_with_noise_and_gaps() -> None:
    """Spread over the whole width, in about the share wanted, and the same each time."""
    noisy = sampled(10_000, base=100, noise=50)
    assert noisy == sampled(10_000, base=100, noise=50)
    values = [value for _, value in noisy]
    assert (min(values), max(values)) == (50.0, 150.0)
    assert sum(values) / len(values) == pytest.approx(100, abs=2)
    assert len(sampled(10_000, base=100, gaps=0.3)) == pytest.approx(7000, abs=200)


def test_a_rhythm_has_its_peak_at_its_hour() -> None:
    """Cosine over the day."""
    values = sampled(1440, base=100, daily=50, peakHour=6, late=0)
    hour = {(NOW + minute) // 60 % 24: value for minute, value in values if (NOW + minute) % 60 == 0}
    assert max(hour, key=lambda one: hour[one]) == 6
    assert (max(hour.values()), min(hour.values())) == (150.0, 50.0)


@pytest.mark.parametrize(
    ("text", "minute"),
    [
        ("-PT5M", NOW - 5),
        ("-P1DT2H", NOW - 1560),
        ("-P28D", NOW - 40_320),
        ("1970-01-01T01:00:00Z", 60),
        ("1970-01-01T01:00:00", 60),
        ("1970-01-01T01:00:00+01:00", 0),
    ],
)
def test_moments(text: str, minute: int) -> None:
    """Fixed, or before now."""
    assert Moment.parse(text).minute(NOW) == minute


def test_recorded_points_take_whatever_value_there_is() -> None:
    """Average, total, maximum or minimum; a point without any is no sample."""
    points = [
        {"timeStamp": "-PT1M", "total": 3},
        {"timeStamp": "-PT2M", "maximum": 2},
        {"timeStamp": "-PT3M"},
        {"timeStamp": "-PT90M", "average": 1},
    ]
    found = Recorded.parse(points).samples(NOW - 60, NOW, NOW, sparse=False)
    assert dict(found) == {NOW - 1: 3.0, NOW - 2: 2.0}


def test_every_metric_is_known_by_a_name_that_differs_not_in_case_alone() -> None:
    """Names are looked up without regard to case to tell what is mistyped from what is unknown."""
    for known in METRICS.values():
        assert len({name.lower() for name in known}) == len(known)
