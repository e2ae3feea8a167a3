"""The local Functions host: what an app may rely on from it, as it may from the host in Azure."""

import base64
import contextlib
import json
import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.queue import QueueClient, QueueMessage

from local import rpc
from local.app_config import (
    AppSettings,
    ConfigurationError,
    UnresolvedSettingError,
    parse_time_span,
    read_host_json,
)
from local.functions import Function, FunctionInError, check_route
from local.http_trigger import Route
from local.queue_storage import decode, split
from local.timer_trigger import Schedule, retry_delay
from tests.processes import Azurite, RunningHost, free_ports, is_alive, wait_until

HOST_JSON = {
    "version": "2.0",
    "functionTimeout": "00:00:04",
    "extensions": {
        "http": {"routePrefix": "v1"},
        "queues": {"maxPollingInterval": "00:00:00.200", "maxDequeueCount": 3, "batchSize": 4},
    },
}

SAMPLE_APP = """
import asyncio, json, logging, os, time, typing
import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
STORE = "AzureWebJobsStorage"


@app.route(route="items/{name}/{number:int?}", methods=["GET", "PUT"])
async def items(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    logging.getLogger("sample").info("a line for %s", req.route_params["name"])
    print("printed by", context.function_name)
    seen = {
        "method": req.method, "params": dict(req.route_params), "query": dict(req.params),
        "header": req.headers.get("X-Thing"), "body": req.get_body().decode("latin-1"), "url": req.url,
        "trace": context.trace_context.trace_parent, "directory": os.getcwd(),
        "setting": os.environ.get("FROM_FILE"), "overridden": os.environ.get("FROM_BOTH"), "pid": os.getpid(),
    }
    headers = {"X-Answer": "yes", "Set-Cookie": "a=b; Path=/; HttpOnly; SameSite=Lax"}
    return func.HttpResponse(json.dumps(seen), status_code=203, headers=headers, mimetype="application/json")


@app.route(route="items/{name}/{number:int?}", methods=["DELETE"], auth_level=func.AuthLevel.ANONYMOUS)
def remove(req: func.HttpRequest) -> func.HttpResponse:
    print("in a thread")
    return func.HttpResponse(b"\\xff\\x00", status_code=200, mimetype="application/octet-stream")


@app.route(route="umlaut", auth_level=func.AuthLevel.ANONYMOUS)
def umlaut(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("\\u00e4", mimetype="text/plain", charset="latin-1")


@app.route(route="fails", auth_level=func.AuthLevel.ANONYMOUS)
async def fails(req: func.HttpRequest) -> func.HttpResponse:
    raise ValueError("this went wrong")


@app.route(route="sleeps", auth_level=func.AuthLevel.ANONYMOUS)
async def sleeps(req: func.HttpRequest) -> func.HttpResponse:
    logging.info("asleep")
    await asyncio.sleep(float(req.params["seconds"]))
    return func.HttpResponse("slept")


@app.timer_trigger(arg_name="timer", schedule="%TICK%")
@app.queue_output(arg_name="out", queue_name="%PREFIX%-ticks", connection=STORE)
async def ticks(timer: func.TimerRequest, out: func.Out[str]) -> None:
    out.set(f"tick past_due={timer.past_due}")


@app.timer_trigger(arg_name="timer", schedule="0 0 3 1 * *")
@app.retry(strategy="fixed_delay", max_retry_count="1", delay_interval="00:00:01")
async def monthly(timer: func.TimerRequest, context: func.Context) -> None:
    retry = context.retry_context
    logging.info("monthly past_due=%s", timer.past_due)
    logging.info("retry=%s/%s", retry.retry_count, retry.max_retry_count)
    if os.environ.get("MONTHLY_FAILS"):
        raise RuntimeError("not this month")


@app.queue_trigger(arg_name="msg", queue_name="%PREFIX%-in", connection=STORE)
@app.queue_output(arg_name="out", queue_name="%PREFIX%-out", connection=STORE)
async def work(msg: func.QueueMessage, out: func.Out[typing.List[str]]) -> None:
    job = msg.get_json()
    logging.info("job %s try %s", job["do"], msg.dequeue_count)
    assert msg.id and msg.pop_receipt
    assert msg.time_next_visible > msg.insertion_time and msg.expiration_time > msg.insertion_time
    if job["do"] == "fail":
        raise RuntimeError("cannot do that")
    if job["do"] == "hang" and msg.dequeue_count == 1:
        await asyncio.sleep(60)
    out.set([json.dumps({"did": job["do"], "part": part, "try": msg.dequeue_count}) for part in (1, 2)])


@app.queue_trigger(arg_name="text", queue_name="%PREFIX%-echo", connection=STORE)
@app.queue_output(arg_name="$return", queue_name="%PREFIX%-echoed", connection=STORE)
def echo(text: str) -> str:
    return text


@app.timer_trigger(arg_name="timer", schedule="0 0 3 1 * *")
@app.queue_output(arg_name="out", queue_name="%PREFIX%-lost", connection=STORE)
async def oversized(timer: func.TimerRequest, out: func.Out[str]) -> None:
    out.set("x" * 100_000)  # a message is 64 KiB at most
"""


def write_app(directory: Path, source: str = SAMPLE_APP, host_json: object = HOST_JSON) -> Path:
    """A function app in a directory of its own."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "function_app.py").write_text(source, encoding="utf-8")
    (directory / "host.json").write_text(json.dumps(host_json), encoding="utf-8")
    settings = {"Values": {"FROM_FILE": "file", "FROM_BOTH": "file", "TICK": "0 0 0 1 1 *"}}
    (directory / "local.settings.json").write_text(json.dumps(settings), encoding="utf-8")
    return directory


def environment(azurite: Azurite, **more: str) -> dict[str, str]:
    """The settings of a sample app, with queues of its own."""
    return {
        "AzureWebJobsStorage": azurite.connection_string,
        "PREFIX": f"t{uuid.uuid4().hex[:12]}",
        "FROM_BOTH": "environment",
        **more,
    }


class Queues:
    """The queues of one running sample app, from outside."""

    def __init__(self, azurite: Azurite, prefix: str) -> None:
        self._azurite = azurite
        self._prefix = prefix

    def _queue(self, name: str) -> QueueClient:
        return QueueClient.from_connection_string(
            self._azurite.connection_string, f"{self._prefix}-{name}", retry_total=0
        )

    def put(self, name: str, text: str, *, encoded: bool = True) -> None:
        """Put a message on a queue, which the host has made or is about to."""
        with self._queue(name) as queue:

            def send() -> bool:
                try:
                    queue.send_message(base64.b64encode(text.encode()).decode() if encoded else text)
                except ResourceNotFoundError:
                    return False
                return True

            wait_until(send, f"the queue {name}")

    def messages(self, name: str) -> list[QueueMessage]:
        """What can be seen on a queue."""
        with self._queue(name) as queue, contextlib.suppress(ResourceNotFoundError):
            return queue.peek_messages(32)
        return []

    def take(self, name: str, count: int) -> list[str]:
        """Wait for so many messages on a queue; their texts, decoded, sorted."""
        found = wait_until(
            lambda: len(messages := self.messages(name)) >= count and messages, f"{count} messages on {name}"
        )
        return sorted(base64.b64decode(str(message.content)).decode() for message in found or [])

    def hidden_and_visible(self, name: str) -> int:
        """How many messages a queue holds in all."""
        with self._queue(name) as queue:
            return queue.get_queue_properties().approximate_message_count or 0


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample app."""
    return write_app(tmp_path_factory.mktemp("sample") / "app")


@pytest.fixture(scope="module")
def settings(azurite: Azurite) -> dict[str, str]:
    """The settings of the host that most tests share."""
    return environment(azurite, MONTHLY_FAILS="yes")


@pytest.fixture(scope="module")
def host(app: Path, settings: dict[str, str]) -> Iterator[RunningHost]:
    """The host that most tests share."""
    with RunningHost(app, env=settings) as running:
        yield running


@pytest.fixture
def queues(azurite: Azurite, host: RunningHost, settings: dict[str, str]) -> Queues:
    """The queues of the app that most tests run."""
    assert host.exit_status is None
    return Queues(azurite, settings["PREFIX"])


# --- HTTP


def test_a_request_reaches_its_function_whole(host: RunningHost, app: Path) -> None:
    """Method, route, query, headers and body arrive; status, headers and cookies come back."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = host.request(
        "/v1/items/a%20b%2Fc/7?q=1&q=2&empty=",
        method="PUT",
        body=b"\xff\x01",
        headers={"X-Thing": "thing", "traceparent": trace},
    )
    assert answer.status == 203
    assert answer.headers["X-Answer"] == "yes"
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Set-Cookie"] == "a=b; HttpOnly; Path=/; SameSite=Lax"
    seen = answer.json()
    assert seen["method"] == "PUT"
    assert seen["params"] == {"name": "a b%2Fc", "number": "7"}
    assert seen["query"] == {"q": "1,2"}
    assert seen["header"] == "thing"
    assert seen["body"] == "\xff\x01"
    assert seen["url"].endswith("/v1/items/a%20b%2Fc/7?q=1&q=2&empty=")
    assert seen["trace"] == trace
    assert seen["directory"] == str(app)
    assert (seen["setting"], seen["overridden"]) == ("file", "environment")
    assert seen["pid"] in host.worker_pids()
    log = host.wait_for_log("printed by items")
    assert "items: a line for a b%2Fc" in log
    assert "Function Type: async" not in log


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/items/x", 203),
        ("GET", "/V1/ITEMS/x/", 203),
        ("GET", "/v1/items/x/12", 203),
        ("GET", "/v1/items/x/twelve", 404),
        ("GET", "/v1/items", 404),
        ("GET", "/items/x", 404),
        ("POST", "/v1/items/x", 404),
        ("DELETE", "/v1/items/x", 200),
        ("PATCH", "/v1/fails", 500),
        ("GET", "/", 200),
    ],
)
def test_routes_and_methods(host: RunningHost, method: str, path: str, status: int) -> None:
    """A request that no function takes, by path or by method, is a 404."""
    assert host.request(path, method=method).status == status


def test_bodies_are_what_the_function_made_them(host: RunningHost) -> None:
    """Bytes stay bytes, and a charset is kept."""
    assert host.request("/v1/items/x", method="DELETE").body == b"\xff\x00"
    answer = host.request("/v1/umlaut")
    assert answer.body == b"\xe4"
    assert answer.headers["Content-Type"] == "text/plain; charset=latin-1"


def test_an_exception_is_an_empty_500(host: RunningHost) -> None:
    """The caller learns nothing; the log has the traceback."""
    answer = host.request("/v1/fails")
    assert (answer.status, answer.body) == (500, b"")
    log = host.wait_for_log("ValueError: this went wrong")
    assert "function_app.py" in log
    assert "Executed 'Functions.fails' (Failed, Id=" in log


def test_a_run_that_takes_too_long_fails(host: RunningHost) -> None:
    """``functionTimeout`` is enforced."""
    start = time.monotonic()
    assert host.request("/v1/sleeps?seconds=60").status == 500
    assert 3 < time.monotonic() - start < 15
    host.wait_for_log("Timeout value of 0:00:04 was exceeded by function: Functions.sleeps")


def test_the_host_lists_its_functions(host: RunningHost) -> None:
    """To people at start, to programs under ``/admin/functions``."""
    log = host.log_text()
    assert f"items: [GET,PUT] http://localhost:{host.port}/v1/items/{{name}}/{{number:int?}}" in log
    assert f"fails: http://localhost:{host.port}/v1/fails" in log
    assert "work: queueTrigger" in log
    listed = {function["name"]: function for function in host.request("/admin/functions").json()}
    assert listed["items"]["type"] == "httpTrigger"
    assert listed["items"]["invoke_url_template"].endswith("/v1/items/{name}/{number:int?}")
    assert listed["ticks"]["type"] == "timerTrigger"
    assert host.status()["state"] == "Running"
    assert host.request("/admin/functions/nothing", method="POST", body="{}").status == 404
    assert host.request("/admin/functions/ticks", method="POST", body="[1]").status == 400


# --- Timers


def test_a_failing_timer_is_retried_as_its_policy_says(host: RunningHost) -> None:
    """One retry, a second later, and the function can tell which try it is."""
    host.run_now("monthly")
    log = host.wait_for_log("Executed 'Functions.monthly' (Failed", times=2)
    assert "monthly: monthly past_due=False" in log
    assert "retry=0/1" in log
    assert "retry=1/1" in log
    time.sleep(1.5)
    assert host.log_text().count("Executed 'Functions.monthly'") == 2


def test_an_output_that_cannot_be_written_fails_the_run(host: RunningHost) -> None:
    """A run is not a success if what it put out is lost."""
    host.run_now("oversized")
    log = host.wait_for_log("Executed 'Functions.oversized' (Failed")
    assert "Error while handling outputs after function Functions.oversized returned" in log


def test_timers_fire_and_catch_up_on_what_they_missed(azurite: Azurite, tmp_path: Path) -> None:
    """A run that came due while the host was down is made at start, past due; one that did not is not."""
    app = write_app(tmp_path / "app")
    state = tmp_path / "state"
    env = environment(azurite, TICK="*/1 * * * * *")
    queues = Queues(azurite, env["PREFIX"])
    with RunningHost(app, "--state-dir", str(state), env=env) as host:
        ticks = queues.take("ticks", 2)
        assert set(ticks) == {"tick past_due=False"}
        assert "monthly past_due" not in host.log_text()

    [file] = state.iterdir()
    remembered = json.loads(file.read_text(encoding="utf-8"))
    assert "ticks" not in remembered, "schedules of less than a minute are not monitored"
    remembered["monthly"]["Next"] = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    file.write_text(json.dumps(remembered), encoding="utf-8")
    with RunningHost(app, "--state-dir", str(state), env=env | {"TICK": "0 0 0 1 1 *"}) as host:
        host.wait_for_log("monthly past_due=True")
        host.wait_for_log("Executed 'Functions.monthly' (Succeeded")
    after = json.loads(file.read_text(encoding="utf-8"))["monthly"]
    assert datetime.fromisoformat(after["Next"]) > datetime.now(UTC)


# --- Queues


def test_a_message_is_worked_on_and_its_outputs_are_messages(host: RunningHost, queues: Queues) -> None:
    """Each element of a list becomes a message of its own, word for word; the message is gone."""
    queues.put("in", json.dumps({"do": "this"}))
    assert queues.take("out", 2) == [json.dumps({"did": "this", "part": part, "try": 1}) for part in (1, 2)]
    wait_until(lambda: queues.hidden_and_visible("in") == 0, "the message to be deleted")
    assert "New queue message detected on" in host.log_text()


def test_a_returned_array_is_split_as_in_azure(queues: Queues) -> None:
    """A text that is a JSON array becomes several messages, wanted or not."""
    queues.put("echo", '["one", {"two": 2}]')
    assert queues.take("echoed", 2) == ["one", '{\n  "two": 2\n}']


def test_a_message_that_fails_is_retried_and_then_poison(host: RunningHost, queues: Queues) -> None:
    """Three tries, as ``maxDequeueCount`` says, and then it is on the poison queue as it was."""
    text = json.dumps({"do": "fail"})
    queues.put("in", text)
    assert queues.take("in-poison", 1) == [text]
    log = host.log_text()
    assert [f"job fail try {number}" in log for number in (1, 2, 3, 4)] == [True, True, True, False]
    assert "Message has reached MaxDequeueCount of 3" in log


def test_a_message_that_is_not_base64_is_poison_at_once(host: RunningHost, queues: Queues) -> None:
    """It never reaches the function; the log says what is wrong with it."""
    queues.put("echo", "not base64!", encoded=False)
    [message] = wait_until(lambda: queues.messages("echo-poison"), "the poison queue")
    assert message.content == "not base64!"
    assert "Check MessageEncoding settings" in host.log_text()


def test_a_queue_function_can_be_run_by_hand(host: RunningHost, queues: Queues) -> None:
    """``POST /admin/functions/{name}`` runs it on the input given."""
    host.run_now("echo", "by hand")
    wait_until(
        lambda: any(base64.b64decode(str(m.content)) == b"by hand" for m in queues.messages("echoed")),
        "the echo",
    )


def test_a_worker_that_dies_takes_its_run_with_it_but_not_the_message(azurite: Azurite, app: Path) -> None:
    """HTTP callers get a 502; the message is visible again at once, and done by the next worker."""
    env = environment(azurite)
    queues = Queues(azurite, env["PREFIX"])
    with RunningHost(app, env=env) as host:
        queues.put("in", json.dumps({"do": "hang"}))
        host.wait_for_log("job hang try 1")
        [before] = host.worker_pids()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(host.request, "/v1/sleeps?seconds=60")
            host.wait_for_log("asleep")
            os.kill(before, signal.SIGKILL)
            assert waiting.result().status == 502
        expected = [json.dumps({"did": "hang", "part": part, "try": 2}) for part in (1, 2)]
        assert queues.take("out", 2) == expected
        [after] = host.worker_pids()
        assert after != before
        assert f"Worker process {before} was ended by SIGKILL" in host.log_text()
        assert host.request("/v1/items/x").status == 203


def test_storage_that_goes_away_is_waited_for(azurite: Azurite, app: Path) -> None:
    """An outage is told once, outlives a run that is in it, and loses nothing."""
    env = environment(azurite)
    queues = Queues(azurite, env["PREFIX"])
    with RunningHost(app, env=env) as host:
        queues.put("echo", "before")
        queues.take("echoed", 1)
        azurite.stop()
        try:
            host.run_now("echo", "meanwhile")
            host.wait_for_log("cannot be reached, trying again until it can")
            assert host.request("/v1/umlaut").status == 200
            time.sleep(1)
            assert host.log_text().count("cannot be reached") == 1
        finally:
            azurite.start()
        host.wait_for_log("answers again")
        queues.put("echo", "after")
        assert queues.take("echoed", 3) == ["after", "before", "meanwhile"]


# --- Starting and stopping


def test_keys_are_asked_for_when_told_to(azurite: Azurite, app: Path) -> None:
    """With ``--enable-auth`` every route that is not anonymous needs the key, in either place."""
    with RunningHost(
        app, "--enable-auth", "--key", "s3cret", "--workers", "2", env=environment(azurite)
    ) as host:
        assert host.request("/v1/items/x").status == 401
        assert host.request("/v1/items/x", headers={"x-functions-key": "wrong"}).status == 401
        assert host.request("/v1/items/x", headers={"x-functions-key": "s3cret"}).status == 203
        assert host.request("/v1/items/x?code=s3cret").status == 203
        assert host.request("/v1/umlaut").status == 200
        assert host.request("/admin/functions").status == 401
        workers = wait_until(
            lambda: (
                len(workers := host.request("/admin/host/status?code=s3cret").json()["workers"]) == 2
                and workers
            ),
            "two workers",
        )
        used = {host.request("/v1/items/x?code=s3cret").json()["pid"] for _ in range(4)}
        assert used == {worker["pid"] for worker in workers or []}


def test_an_app_that_the_worker_refuses_ends_the_host(tmp_path: Path) -> None:
    """The worker's own words are what is printed: ``func.Out[list[str]]`` is refused at load time."""
    source = SAMPLE_APP.replace("func.Out[typing.List[str]]", "func.Out[list[str]]")
    with RunningHost(write_app(tmp_path, source), ready=False, env={"PREFIX": "none"}) as host:
        assert host.wait() == 1
        log = host.log_text()
    assert "FunctionLoadError: cannot load the work function" in log
    assert "has invalid non-type annotation azure.functions._abc.Out[list[str]]" in log


def test_a_binding_that_cannot_be_stops_one_function_only(azurite: Azurite, tmp_path: Path) -> None:
    """A queue name the service refuses, a connection that is not set, a trigger this host does not have."""
    source = """
import azure.functions as func
app = func.FunctionApp(http_auth_level="ANONYMOUS")
@app.route(route="fine")
def fine(req: func.HttpRequest) -> str:
    return "fine"
@app.queue_trigger(arg_name="m", queue_name="Not_A_Name", connection="AzureWebJobsStorage")
def misnamed(m: str) -> None: ...
@app.queue_trigger(arg_name="m", queue_name="some-queue", connection="Nowhere")
def unconnected(m: str) -> None: ...
@app.blob_trigger(arg_name="b", path="a/b", connection="AzureWebJobsStorage")
def blob(b: func.InputStream) -> None: ...
@app.timer_trigger(arg_name="t", schedule="every day")
def untimely(t: func.TimerRequest) -> None: ...
@app.timer_trigger(arg_name="t", schedule="* * * * * *")
def off(t: func.TimerRequest) -> None: ...
"""
    with RunningHost(
        write_app(tmp_path, source), env=environment(azurite, **{"AzureWebJobs.off.Disabled": "true"})
    ) as host:
        assert host.request("/v1/fine").text == "fine"
        log = host.log_text()
    assert "'misnamed' function is in error: The queue name 'not_a_name' is not valid" in log
    assert "'unconnected' function is in error: Storage account connection string 'Nowhere'" in log
    assert "'blob' function is in error: The binding type(s) 'blobTrigger' are not registered" in log
    assert "'untimely' function is in error: The schedule expression 'every day' was not recognized" in log
    assert "off: timerTrigger (disabled)" in log
    assert "Executing 'Functions.off'" not in log


def test_an_app_that_cannot_be_imported_ends_the_host(tmp_path: Path) -> None:
    """With the traceback of the app's own error, or the way its process ended."""
    with RunningHost(write_app(tmp_path / "a", "import no_such_module\n"), ready=False) as host:
        assert host.wait() == 1
        assert "No module named 'no_such_module'" in host.log_text()
        assert "function_app.py" in host.log_text()
    with RunningHost(write_app(tmp_path / "b", "import os\nos._exit(7)\n"), ready=False) as host:
        assert host.wait() == 1
        assert "exited with code 7 while it loaded the app" in host.log_text()


def test_a_missing_setting_stops_one_function_only(azurite: Azurite, tmp_path: Path) -> None:
    """It is said in the host's words, and the others run."""
    env = environment(azurite)
    del env["PREFIX"]
    with RunningHost(write_app(tmp_path), env=env) as host:
        log = host.log_text()
        assert (
            "The 'work' function is in error: "
            "Microsoft.Azure.WebJobs.Host: Error indexing method 'Functions.work'. "
            "Microsoft.Azure.WebJobs.Host: '%PREFIX%' does not resolve to a value." in log
        )
        assert host.request("/v1/items/x").status == 203
        assert any("'work' function is in error" in error for error in host.status()["errors"])


def test_stopping_leaves_no_process_and_gives_messages_back(azurite: Azurite, tmp_path: Path) -> None:
    """SIGTERM lets a short run end and takes a long one's message back to the queue; 0 is the exit status."""
    app = write_app(tmp_path / "app", host_json=HOST_JSON | {"functionTimeout": "00:01:00"})
    env = environment(azurite)
    queues = Queues(azurite, env["PREFIX"])
    with RunningHost(app, "--workers", "2", env=env) as host:
        pids = wait_until(lambda: len(pids := host.worker_pids()) == 2 and pids, "two workers")
        queues.put("in", json.dumps({"do": "hang"}))
        host.wait_for_log("job hang try 1")
        with ThreadPoolExecutor(1) as pool:
            short = pool.submit(host.request, "/v1/sleeps?seconds=2")
            host.wait_for_log("asleep")
            start = time.monotonic()
            assert host.stop() == 0
            assert 9 < time.monotonic() - start < 15
            assert (short.result().status, short.result().text) == (200, "slept")
        assert "Application is shutting down" in host.log_text()
        assert "Executed 'Functions.work' (Failed" in host.log_text()
    assert not any(is_alive(pid) for pid in pids or [])
    assert len(queues.messages("in")) == 1


def test_a_host_that_is_killed_takes_its_workers_with_it(azurite: Azurite, app: Path) -> None:
    """They notice by themselves."""
    with RunningHost(app, env=environment(azurite)) as host:
        pids = host.worker_pids()
        host.kill()
        wait_until(lambda: not any(is_alive(pid) for pid in pids), "the workers to end", 5)


def test_asking_twice_stops_it_at_once(azurite: Azurite, app: Path) -> None:
    """A second Ctrl-C waits for nothing."""
    env = environment(azurite)
    with RunningHost(app, env=env) as host:
        pids = host.worker_pids()
        Queues(azurite, env["PREFIX"]).put("in", json.dumps({"do": "hang"}))
        host.wait_for_log("job hang try 1")
        os.kill(host.pid, signal.SIGINT)
        host.wait_for_log("Application is shutting down")
        os.kill(host.pid, signal.SIGINT)
        assert host.wait(3) == 130
        wait_until(lambda: not any(is_alive(pid) for pid in pids), "the workers to end", 5)


def test_a_taken_port_is_named(app: Path) -> None:
    """In one line, with the setting that changes it."""
    [port] = free_ports(1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with RunningHost(app, port=port, ready=False) as host:
            assert host.wait() == 1
            [line] = host.log_text().strip().splitlines()
    assert f"Port {port} is unavailable" in line
    assert "FUNCTIONS_PORT" in line


def test_a_directory_without_an_app_is_named(tmp_path: Path) -> None:
    """As Core Tools say it."""
    with RunningHost(tmp_path, ready=False) as host:
        assert host.wait() == 1
        assert "Unable to find project root" in host.log_text()


def test_logs_can_go_to_a_file_and_below_a_level_nowhere(azurite: Azurite, tmp_path: Path) -> None:
    """``--log-file``, and ``logLevel`` by category."""
    levels = {"default": "Warning", "Function.items.User": "Information"}
    app = write_app(tmp_path / "app", host_json=HOST_JSON | {"logging": {"logLevel": levels}})
    file = tmp_path / "logs" / "host.log"
    with RunningHost(app, "--log-file", str(file), env=environment(azurite)) as host:
        host.request("/v1/items/x")
        host.request("/v1/fails")
        wait_until(lambda: "this went wrong" in file.read_text(encoding="utf-8"), "the log")
        assert "a line for x" not in host.log_text()
        assert "Functions:" in host.log_text()
    log = file.read_text(encoding="utf-8")
    assert "items: a line for x" in log
    assert "Executing 'Functions.items'" not in log


# --- The parts


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("0 */5 * * * *", "2026-03-01T10:02:00", "2026-03-01T10:05:00"),
        ("*/15 * * * * *", "2026-03-01T10:02:15", "2026-03-01T10:02:30"),
        ("30 9 * * 1-5", "2026-03-06T10:00:00", "2026-03-09T09:30:00"),
        ("0 0 3 13 * FRI", "2026-03-01T00:00:00", "2026-03-13T03:00:00"),
        ("0 0 3 1 JAN *", "2026-03-01T00:00:00", "2027-01-01T03:00:00"),
    ],
)
def test_schedules(expression: str, after: str, expected: str) -> None:
    """Six fields with seconds first; day and day of week must both match."""
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    assert Schedule(expression).after(moment).isoformat() == f"{expected}+00:00"


@pytest.mark.parametrize(
    "expression", ["", "* * * *", "0 0 0 * * 7", "0 0 0 L * *", "0 61 * * * *", "@daily", "a b c d e"]
)
def test_schedules_that_are_none(expression: str) -> None:
    """What NCrontab does not know is refused, even where other crons know it."""
    with pytest.raises(FunctionInError, match="was not recognized as a valid cron expression"):
        Schedule(expression)


def test_retry_delays() -> None:
    """Fixed, or doubling between two bounds."""
    fixed = rpc.RpcRetryOptions(3, "fixed_delay", delay_interval=timedelta(seconds=4))
    assert [retry_delay(fixed, attempt).seconds for attempt in (1, 2, 9)] == [4, 4, 4]
    growing = rpc.RpcRetryOptions(
        -1,
        "exponential_backoff",
        minimum_interval=timedelta(seconds=3),
        maximum_interval=timedelta(seconds=20),
    )
    assert [retry_delay(growing, attempt).seconds for attempt in (1, 2, 3, 4, 99)] == [3, 6, 12, 20, 20]
    endless = rpc.RpcRetryOptions(-1, "exponential_backoff", maximum_interval=timedelta(seconds=2147483647))
    assert retry_delay(endless, 10_000) <= timedelta(seconds=2147483647)


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("plain", ["plain"]),
        ('{"a": 1}', ['{\n  "a": 1\n}']),
        ('[1, "b", null, true]', ["1", "b", "", "True"]),
        ("[not json]", ["[not json]"]),
        ("", [""]),
    ],
)
def test_what_a_text_becomes_on_a_queue(text: str, messages: list[str]) -> None:
    """JSON is taken apart, as the host in Azure does it."""
    assert split(text) == messages


def test_message_encodings() -> None:
    """Base64 is checked where it is expected, and bytes that are no text stay bytes."""
    assert decode("aGk=\n", base64_encoded=True) == "hi"
    assert decode("/w==", base64_encoded=True) == b"\xff"
    assert decode("aGk=", base64_encoded=False) == "aGk="
    for bad in ("{}", "aGk", "a-k_"):
        with pytest.raises(ValueError):
            decode(bad, base64_encoded=True)


def http_function(name: str, route: str | None, methods: list[str] | None = None) -> Function:
    """An HTTP function that is nothing but its route."""
    trigger = {"type": "httpTrigger", "name": "req", "route": route, "methods": methods}
    return Function(name=name, id=name, trigger=trigger, outputs={}, retry=None, bindings=())


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("a/{b}", "/api/a/x", {"b": "x"}),
        ("a/{b}", "/api/a/", None),
        ("a/{b?}", "/api/a", {}),
        ("a/{b=z}", "/api/a", {"b": "z"}),
        ("a/{b:int}", "/api/a/-3", {"b": "-3"}),
        ("a/{b:int}", "/api/a/x", None),
        ("a/{b:length(2,3)}", "/api/a/xyz", {"b": "xyz"}),
        ("a/{b:length(2,3)}", "/api/a/x", None),
        ("a/{b}.{c}", "/api/a/x.json", {"b": "x", "c": "json"}),
        ("a/{*rest}", "/api/a/x/y", {"rest": "x/y"}),
        ("a+b", "/api/a+b", {}),
        (None, "/api/f", {}),
    ],
)
def test_route_templates(template: str | None, path: str, values: dict[str, str] | None) -> None:
    """ASP.NET's templates, as far as they are used."""
    assert Route.of(http_function("f", template), "api").match("GET", path) == values


def test_literal_routes_go_before_placeholders() -> None:
    """Whatever the order of the functions."""
    templates = ["{*rest}", "{a}", "{a:int}", "a"]
    routes = sorted(
        (Route.of(http_function("f", text), "") for text in templates), key=lambda r: r.precedence
    )
    assert [route.function.route for route in routes] == ["a", "{a:int}", "{a}", "{*rest}"]


def test_routes_that_conflict_are_refused() -> None:
    """The host's own, and those of another function for the same method."""
    get, post = http_function("one", "a/{b}", ["GET"]), http_function("two", "A/{b}", ["POST"])
    check_route(post, [get])
    with pytest.raises(FunctionInError, match="conflicts with the route defined by function 'one'"):
        check_route(http_function("three", "a/{b}"), [get, post])
    with pytest.raises(FunctionInError, match="built in routes"):
        check_route(http_function("four", "admin/x"), [])


def test_settings_are_found_as_dotnet_finds_them() -> None:
    """Whatever the case, with a colon for two underscores."""
    settings = AppSettings({"Scan__Schedule": "0 * * * * *", "name": "x"})
    assert settings.resolve("%SCAN:schedule%") == "0 * * * * *"
    assert settings.resolve("a-%NAME%-%name%") == "a-x-x"
    assert settings.resolve("100%") == "100%"
    with pytest.raises(UnresolvedSettingError, match="'%other%' does not resolve to a value"):
        settings.resolve("%other%")


def test_host_json_is_checked(tmp_path: Path) -> None:
    """What it says is taken over; what it cannot mean is named."""
    config = read_host_json(write_app(tmp_path))
    assert config.route_prefix == "v1"
    assert config.queues.max_polling_interval == timedelta(milliseconds=200)
    assert (config.queues.batch_size, config.queues.new_batch_threshold) == (4, 2)
    assert parse_time_span("1.02:03:04.5", "x") == timedelta(days=1, hours=2, minutes=3, seconds=4.5)
    assert (
        read_host_json(
            write_app(tmp_path, host_json={"version": "2.0", "functionTimeout": "-1"})
        ).function_timeout
        is None
    )
    for wrong, words in [
        ({}, "missing the required 'version' property"),
        ({"version": "2.0", "functionTimeout": "5m"}, "functionTimeout is '5m'"),
        ({"version": "2.0", "extensions": {"queues": {"batchSize": 33}}}, "batchSize is 33"),
        (
            {"version": "2.0", "extensions": {"queues": {"messageEncoding": "hex"}}},
            "messageEncoding is 'hex'",
        ),
        ({"version": "2.0", "extensions": [1]}, "extensions is .1., not an object"),
    ]:
        with pytest.raises(ConfigurationError, match=words):
            read_host_json(write_app(tmp_path, host_json=wrong))
