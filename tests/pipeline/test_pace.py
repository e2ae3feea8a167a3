"""How Azure is asked: only for reading, by subscription, over HTTPS unless it is this machine."""

import asyncio
from typing import Any

import pytest
from azure.core.pipeline import PipelineContext, PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import AsyncHTTPPolicy
from azure.core.rest import AsyncHttpResponse, HttpRequest

from pipeline.pace import ArmPolicy, Pacer, ReadOnlyError

URL = "https://management.azure.com/subscriptions/AAA/providers/Microsoft.Network/virtualNetworks"


class Answer:
    """An answer of ARM: its status and its headers."""

    def __init__(self, status: int = 200, **headers: str) -> None:
        self.status_code = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Wire(AsyncHTTPPolicy[HttpRequest, AsyncHttpResponse]):
    """The end of the pipeline: takes down what was sent, and answers."""

    def __init__(self, answer: Answer | Exception) -> None:
        super().__init__()
        self.answer = answer
        self.sent: list[str] = []

    async def send(
        self, request: PipelineRequest[HttpRequest]
    ) -> PipelineResponse[HttpRequest, AsyncHttpResponse]:
        """Answer one request."""
        self.sent.append(request.http_request.method)
        if isinstance(self.answer, Exception):
            raise self.answer
        answer: Any = self.answer
        return PipelineResponse(request.http_request, answer, request.context)


def asked(method: str = "GET", url: str = URL) -> PipelineRequest[HttpRequest]:
    """One request in a pipeline."""
    return PipelineRequest(HttpRequest(method, url), PipelineContext(None))


def policy(wire: Wire, pacer: Pacer | None = None, *, loopback: bool = False) -> ArmPolicy:
    """The policy in front of the wire."""
    made = ArmPolicy(pacer or Pacer(), loopback=loopback)
    made.next = wire
    return made


@pytest.mark.parametrize("method", ["PUT", "PATCH", "POST", "DELETE"])
async def test_nothing_but_reading(method: str) -> None:
    """Whatever would change Azure is refused before it is sent."""
    wire = Wire(Answer())
    with pytest.raises(ReadOnlyError, match=f"{method} https://"):
        await policy(wire).send(asked(method))
    assert wire.sent == []
    await policy(wire).send(asked("GET"))
    assert wire.sent == ["GET"]


ADMIN_RULES = (
    "https://management.azure.com/subscriptions/AAA/resourceGroups/g/providers/Microsoft.Network/"
    "virtualNetworks/v/listNetworkManagerEffectiveSecurityAdminRules?api-version=2026-03-01"
)


async def test_a_post_that_only_reads_is_let_through() -> None:
    """It draws on the writes, since Azure may count it among them; a network of that name gains nothing."""
    wire = Wire(Answer(x_ms_ratelimit_remaining_subscription_writes="7"))
    pacer = Pacer()
    await policy(wire, pacer).send(asked("POST", ADMIN_RULES))
    assert wire.sent == ["POST"]
    assert (pacer.budget(URL, "writes").remaining, pacer.budget(URL).remaining) == (7, None)
    for method, url in (
        ("PUT", ADMIN_RULES),
        ("POST", ADMIN_RULES.replace("Rules?", "Rules/x?")),
        ("POST", ADMIN_RULES.replace("?", "Now?")),
        ("POST", f"{URL}?x=/listNetworkManagerEffectiveSecurityAdminRules"),
    ):
        with pytest.raises(ReadOnlyError):
            await policy(wire).send(asked(method, url))


METRICS = (
    "https://westeurope.metrics.monitor.azure.com/subscriptions/AAA/metrics:getBatch?api-version=2024-02-01"
)


async def test_a_query_for_metrics_is_let_through() -> None:
    """It is no request of ARM's: it draws on none of its buckets, and a 429 holds back metrics alone."""
    wire = Wire(Answer(429, Retry_After="7"))
    pacer = Pacer()
    await policy(wire, pacer).send(asked("POST", METRICS))
    assert wire.sent == ["POST"]
    now = asyncio.get_running_loop().time()
    assert pacer.budget(URL, "metrics").not_before == pytest.approx(now + 7, abs=2)
    assert (pacer.budget(URL).not_before, pacer.budget(URL, "writes").not_before) == (0, 0)
    assert pacer.is_held(URL)
    for method, url in (
        ("PUT", METRICS),
        ("POST", METRICS.replace("getBatch?", "getBatch/x?")),
        ("POST", f"{URL}?x=/metrics:getBatch"),
    ):
        with pytest.raises(ReadOnlyError):
            await policy(wire).send(asked(method, url))


INSTANCE = (
    "https://management.azure.com/subscriptions/AAA/resourceGroups/MC_g/providers/Microsoft.Compute/"
    "virtualMachineScaleSets/s/virtualMachines/0/runCommand?api-version=2026-04-01"
)
MACHINE = INSTANCE.replace("virtualMachineScaleSets/s/virtualMachines/0", "virtualMachines/m")


@pytest.mark.parametrize("url", [INSTANCE, MACHINE])
async def test_run_commands_only_where_probes_are_on(url: str) -> None:
    """They have a limit of their own; by another method, or to something below, nothing goes."""
    wire = Wire(Answer(x_ms_ratelimit_remaining_subscription_writes="180"))
    with pytest.raises(ReadOnlyError):
        await policy(wire).send(asked("POST", url))
    pacer = Pacer()
    probing = ArmPolicy(pacer, loopback=False, probing=True)
    probing.next = wire
    await probing.send(asked("POST", url))
    assert wire.sent == ["POST"]
    assert pacer.budget(URL, "run-commands").remaining == 180
    for method, other in (
        ("PUT", url),
        ("POST", url.replace("runCommand?", "runCommands/x?")),
        ("POST", url.replace("runCommand?", "start?")),
        ("DELETE", url),
    ):
        with pytest.raises(ReadOnlyError):
            await probing.send(asked(method, other))


@pytest.mark.parametrize("loopback", [True, False])
async def test_plain_http_is_for_this_machine_only(*, loopback: bool) -> None:
    """The authentication policy insists on HTTPS unless it is told that Azure is a stand-in here."""
    request = asked()
    await policy(Wire(Answer()), loopback=loopback).send(request)
    assert request.context.options.get("enforce_https", True) is not loopback


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("/subscriptions/AAA/x", "/subscriptions/aaa/resourceGroups/g", True),
        ("/subscriptions/AAA?api-version=1", "/Subscriptions/aaa", True),
        ("/subscriptions/AAA/x", "/subscriptions/BBB/x", False),
        ("/subscriptions", "/providers/Microsoft.Network", True),
        ("/subscriptions?next=/subscriptions/AAA", "/subscriptions/AAA", False),
    ],
)
async def test_budgets_are_a_subscriptions(one: str, other: str, *, same: bool) -> None:
    """In whatever case it is written; what is outside any subscription shares one."""
    pacer = Pacer()
    host = "https://management.azure.com"
    assert (pacer.budget(host + one) is pacer.budget(host + other)) is same


@pytest.mark.parametrize(
    ("answer", "remaining", "waits"),
    [
        (Answer(), None, 0.0),
        (Answer(x_ms_ratelimit_remaining_subscription_reads="42"), 42, 0.0),
        (Answer(x_ms_ratelimit_remaining_subscription_reads="many"), None, 0.0),
        (Answer(429, Retry_After="17"), None, 17.0),
        (Answer(429), None, 1.0),
        (Answer(429, Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"), None, 1.0),
        (Answer(503, Retry_After="17"), None, 0.0),
    ],
)
async def test_what_an_answer_teaches(answer: Answer, remaining: int | None, waits: float) -> None:
    """What is left of the bucket, and how long a refusal holds back the whole subscription."""
    pacer = Pacer()
    before = asyncio.get_running_loop().time()
    await policy(Wire(answer), pacer).send(asked())
    after = asyncio.get_running_loop().time()
    budget = pacer.budget(URL)
    assert budget.remaining == remaining
    if waits:
        assert before + waits <= budget.not_before <= after + waits
    else:
        assert budget.not_before == 0.0
    assert pacer.budget(URL.replace("AAA", "BBB")).not_before == 0.0


async def test_an_earlier_end_does_not_shorten_a_wait() -> None:
    """The longest wait that Azure asked for holds."""
    pacer = Pacer()
    await policy(Wire(Answer(429, Retry_After="60")), pacer).send(asked())
    held = pacer.budget(URL).not_before
    answer: Any = Answer(429, Retry_After="1")
    pacer.budget(URL).learn(answer)
    assert pacer.budget(URL).not_before == held


async def test_an_error_on_the_wire_goes_through() -> None:
    """It is the retry policy's, which stands before this one."""
    with pytest.raises(ConnectionResetError):
        await policy(Wire(ConnectionResetError())).send(asked())
