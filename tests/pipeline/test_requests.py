"""What comes in over HTTP: queries, bodies and cursors, and the problem that each fault becomes."""

import base64
import json
from typing import Any

import azure.functions as func
import msgspec
import pytest
from azure.core.exceptions import AzureError, HttpResponseError, ServiceRequestError

from facts.finding import Severity
from pipeline.report import ClustersQuery, FindingsQuery, NoQuery, ScanBody
from pipeline.requests import LARGEST_BODY, Answer, Problem, answer, body, cursor, query, resume
from pipeline.settings import SettingsError


def get(**params: str) -> func.HttpRequest:
    """A GET with query parameters."""
    return func.HttpRequest("GET", "http://localhost/api/findings", params=params, body=b"")


def post(content: bytes) -> func.HttpRequest:
    """A POST with a body."""
    return func.HttpRequest("POST", "http://localhost/api/scans", body=content)


# --- queries -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, FindingsQuery()),
        ({"code": "a-function-key"}, FindingsQuery()),
        ({"limit": "1"}, FindingsQuery(limit=1)),
        ({"limit": "1000"}, FindingsQuery(limit=1000)),
        ({"cause": "4"}, FindingsQuery(cause=4)),
        ({"muted": "true"}, FindingsQuery(muted=True)),
        ({"muted": "false"}, FindingsQuery(muted=False)),
        ({"severity": "warning", "status": "all"}, FindingsQuery(severity=Severity.WARNING, status="all")),
        ({"cluster": "10250"}, FindingsQuery(cluster="10250")),
        ({"check": "null", "subscription": "true"}, FindingsQuery(check="null", subscription="true")),
    ],
)
def test_a_query(params: dict[str, str], expected: FindingsQuery) -> None:
    """Texts become what their fields are; text stays text, whatever it looks like."""
    assert query(get(**params), FindingsQuery) == expected


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"Limit": "10"}, "Limit"),
        ({"$filter": "PartitionKey ne ''"}, "$filter"),
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "abc"}, "limit"),
        ({"limit": "1.5"}, "limit"),
        ({"limit": ""}, "limit"),
        ({"limit": "9" * 400}, "limit"),
        ({"cause": "0"}, "cause"),
        ({"severity": "grave"}, "severity"),
        ({"severity": "Critical"}, "severity"),
        ({"status": "closed"}, "status"),
        ({"muted": "perhaps"}, "muted"),
        ({"cluster": "x" * 1001}, "cluster"),
        ({"cursor": "x" * 4001}, "cursor"),
    ],
)
def test_a_query_that_cannot_be_understood(params: dict[str, str], field: str) -> None:
    """400, naming the parameter and showing no more of it than is needed."""
    with pytest.raises(Problem) as raised:
        query(get(**params), FindingsQuery)
    assert (raised.value.status, raised.value.field) == (400, field)
    assert repr(field) in raised.value.detail
    assert len(raised.value.detail) < 400


def test_a_route_without_parameters_takes_none() -> None:
    """But the function key, which the host reads."""
    assert query(get(code="key"), NoQuery) == NoQuery()
    with pytest.raises(Problem):
        query(get(limit="1"), NoQuery)


# --- bodies --------------------------------------------------------------------------------------


class Inner(msgspec.Struct, rename="camel"):
    """Part of a body."""

    node_count: int = 0


class Body(msgspec.Struct, rename="camel"):
    """A body with parts in parts."""

    parts: list[Inner] = []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ScanBody()),
        (b"{}", ScanBody()),
        (b' {"probes": true} ', ScanBody(probes=True)),
        (b'{"clusters": ["a", "b"]}', ScanBody(clusters=["a", "b"])),
        (b'{"clusters": null}', ScanBody()),
    ],
)
def test_a_body(content: bytes, expected: ScanBody) -> None:
    """JSON as a typed value; none is the same as an empty object."""
    assert body(post(content), ScanBody) == expected


@pytest.mark.parametrize(
    "content", [b"{", b"nonsense", b"\xff\xfe", b'{"probes": true} x', b'"\\ud800"', b"[" * 100_000, b"\x00"]
)
def test_a_body_that_is_no_json(content: bytes) -> None:
    """400 that says so."""
    with pytest.raises(Problem) as raised:
        body(post(content), ScanBody)
    assert raised.value.status == 400
    assert len(raised.value.detail) < 400


@pytest.mark.parametrize(
    ("content", "kind", "field"),
    [
        (b"[]", ScanBody, ""),
        (b"null", ScanBody, ""),
        (b'"text"', ScanBody, ""),
        (b'{"probes": "yes"}', ScanBody, "probes"),
        (b'{"probes": 1}', ScanBody, "probes"),
        (b'{"clusters": "a"}', ScanBody, "clusters"),
        (b'{"clusters": []}', ScanBody, "clusters"),
        (b'{"clusters": [1]}', ScanBody, "clusters"),
        (b'{"colour": "red"}', ScanBody, "colour"),
        (b'{"parts": [{"nodeCount": 1}, {"nodeCount": "many"}]}', Body, "nodeCount"),
    ],
)
def test_a_body_of_another_type(content: bytes, kind: type[Any], field: str) -> None:
    """400, naming the field at fault in the words of the JSON."""
    with pytest.raises(Problem) as raised:
        body(post(content), kind)
    assert raised.value.status == 400
    assert field in raised.value.field
    assert field in raised.value.detail


def test_a_body_that_is_too_large() -> None:
    """413, before anything is parsed; one byte less is read."""
    with pytest.raises(Problem) as raised:
        body(post(b" " * (LARGEST_BODY + 1)), ScanBody)
    assert raised.value.status == 413
    assert body(post(b"{}".ljust(LARGEST_BODY)), ScanBody) == ScanBody()


# --- cursors -------------------------------------------------------------------------------------

TOKEN = {"PartitionKey": "1!8!ZmxlZXQ-", "RowKey": "1!12!ZsOpIn4_", "Nothing": None}
ASKED = FindingsQuery(cluster="aks-shop", limit=10)


def given() -> str:
    """A cursor for ASKED."""
    made = cursor(TOKEN, ASKED)
    assert made is not None
    return made


def test_a_cursor_leads_back_to_its_token() -> None:
    """Safe for an address, for any limit, and none at the end."""
    made = given()
    assert resume(made, ASKED) == TOKEN
    assert resume(made, msgspec.structs.replace(ASKED, limit=1000, cursor=made)) == TOKEN
    assert set(made) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert cursor(None, ASKED) is None
    assert cursor({}, ASKED) is None
    assert resume("", ASKED) is None


def swapped(text: str) -> str:
    """The cursor with another row key inside, sealed as before."""
    plain = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    inner = json.loads(plain[16:]) | {"RowKey": "1!4!AAAA"}
    return base64.urlsafe_b64encode((plain[:16] + json.dumps(inner)).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        (given(), FindingsQuery(cluster="another")),
        (given(), FindingsQuery()),
        (given(), FindingsQuery(cluster="aks-shop", status="all")),
        (given(), ClustersQuery()),
        (given()[:-1], ASKED),
        (given()[1:], ASKED),
        (given() + "AAAA", ASKED),
        (given().swapcase(), ASKED),
        (swapped(given()), ASKED),
        ("abc", ASKED),
        ("!", ASKED),
        ("é", ASKED),
        ("0", ASKED),
        ("2", ASKED),
        ("=" * 10, ASKED),
        ("null", ASKED),
        (base64.urlsafe_b64encode(b'{"PartitionKey": "x"}').decode(), ASKED),
        (base64.urlsafe_b64encode(b"\xff" * 40).decode(), ASKED),
    ],
)
def test_a_cursor_that_was_not_given_for_this_query(text: str, asked: object) -> None:
    """Forged, cut, changed or another query's: 400 that names the cursor and shows nothing of it."""
    with pytest.raises(Problem) as raised:
        resume(text, asked)
    assert (raised.value.status, raised.value.field) == (400, "cursor")


# --- answers -------------------------------------------------------------------------------------


async def answered(error: Exception | None = None, given_answer: Answer | None = None) -> func.HttpResponse:
    """What a handler's answer, or its failure, becomes."""

    async def handle(_: func.HttpRequest) -> Answer:
        if error is not None:
            raise error
        return given_answer or Answer(body={})

    return await answer(get(), handle)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (Problem(404, "There is no finding 'x'.", field="id"), 404, "There is no finding 'x'."),
        (SettingsError("SCAN_SCHEDULE: 'x' is none"), 503, "SCAN_SCHEDULE"),
        (ServiceRequestError("Cannot connect to host secret.table"), 503, "cannot be reached"),
        (HttpResponseError("secret"), 503, "storage account"),
        (AzureError("secret"), 503, "storage account"),
        (ZeroDivisionError("secret"), 500, "An unexpected error was logged as"),
    ],
)
async def test_whatever_goes_wrong_is_a_problem_document(error: Exception, status: int, words: str) -> None:
    """RFC 9457: type, title, status, detail; the field at fault if there is one; never an inside."""
    response = await answered(error)
    assert (response.status_code, response.mimetype) == (status, "application/problem+json")
    document = json.loads(response.get_body())
    assert (document["type"], document["status"]) == ("about:blank", status)
    assert document["title"]
    assert words in document["detail"]
    assert document.get("field") == ("id" if status == 404 else None)
    assert b"secret" not in response.get_body()


async def test_an_unexpected_error_can_be_found_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The mark that the answer shows stands beside the traceback."""
    response = await answered(ZeroDivisionError("secret"))
    mark = json.loads(response.get_body())["detail"].rstrip(".").split()[-1]
    [record] = [one for one in caplog.records if one.exc_info]
    assert mark in record.getMessage()


async def test_an_answer() -> None:
    """JSON with its status and headers, which nobody may keep."""
    made = Answer(body={"id": Severity.INFO}, status=202, headers={"Location": "/api/scans/1"})
    response = await answered(given_answer=made)
    assert (response.status_code, response.mimetype) == (202, "application/json")
    assert json.loads(response.get_body()) == {"id": "info"}
    assert response.headers["Location"] == "/api/scans/1"
    assert response.headers["Cache-Control"] == "no-store"
