"""What comes in over HTTP and what goes out: checked, typed, and never a traceback.

Errors are `application/problem+json` (RFC 9457), and name the field at fault.
"""

import base64
import binascii
import hashlib
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import azure.functions as func
import msgspec
from azure.core.exceptions import AzureError, HttpResponseError, ServiceRequestError, ServiceResponseError
from msgspec import Struct

from pipeline import clients, telemetry
from pipeline.settings import SettingsError
from pipeline.store import Token

_TITLES = {
    400: "The request cannot be understood",
    404: "Not found",
    413: "The request is too large",
    500: "Something went wrong here",
    503: "Not able to answer now",
}
LARGEST_BODY = 1_000_000
"""Bytes; Azure Monitor's alerts have 256 KB at the most."""


class Problem(Exception):  # noqa: N818 - the name that RFC 9457 gives it
    """An answer that says what is wrong with a request."""

    def __init__(self, status: int, detail: str, *, field: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field


class Answer(Struct, frozen=True, kw_only=True):
    """A body to be sent as JSON."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = {}


async def answer(
    request: func.HttpRequest, handle: Callable[[func.HttpRequest], Awaitable[Answer]]
) -> func.HttpResponse:
    """Run a handler; whatever goes wrong becomes a problem document."""
    try:
        clients.get()
        parent = {"traceparent": request.headers.get("traceparent", "")}
        with telemetry.span(f"{request.method} {handle.__name__}", parent=parent):
            answered = await handle(request)
    except Problem as problem:
        return _problem(problem.status, problem.detail, problem.field)
    except SettingsError as error:
        telemetry.log.error("%s", error)
        return _problem(503, f"The monitor is not configured: {error}")
    except (ServiceRequestError, ServiceResponseError) as error:
        telemetry.log.error("storage cannot be reached: %s", error)
        return _problem(503, "The storage account cannot be reached. Try again in a moment.")
    except HttpResponseError as error:
        telemetry.log.error("storage answered %s: %s", error.status_code, error.message)
        return _problem(503, f"The storage account answered {error.status_code}. The log has the details.")
    except AzureError as error:
        telemetry.log.error("storage: %s", error)
        return _problem(503, "The storage account cannot be used now. The log has the details.")
    except Exception:  # noqa: BLE001 - a traceback belongs into the log, not into an answer
        mark = uuid.uuid4().hex[:12]
        telemetry.log.exception("unexpected error %s in %s", mark, request.url)
        return _problem(500, f"An unexpected error was logged as {mark}.")
    return func.HttpResponse(
        msgspec.json.encode(answered.body),
        status_code=answered.status,
        headers={"Cache-Control": "no-store", **answered.headers},
        mimetype="application/json",
    )


def _problem(status: int, detail: str, field: str = "") -> func.HttpResponse:
    body = {"type": "about:blank", "title": _TITLES.get(status, "Error"), "status": status, "detail": detail}
    if field:
        body["field"] = field
    return func.HttpResponse(
        msgspec.json.encode(body),
        status_code=status,
        headers={"Cache-Control": "no-store"},
        mimetype="application/problem+json",
    )


def query[Q: Struct](request: func.HttpRequest, kind: type[Q]) -> Q:
    """The query parameters as a struct of known, typed fields; raises `Problem` naming the field."""
    given = {name: value for name, value in request.params.items() if name != "code"}
    known = kind.__struct_fields__
    for name, value in given.items():
        if name not in known:
            raise Problem(
                400,
                f"Unknown query parameter {_shown(name)}. This route takes {', '.join(known) or 'none'}.",
                field=name[:100],
            )
        if len(value) > 4000:
            raise Problem(400, f"Query parameter {name!r} is too long.", field=name)
    # Fields with several possible values are typed in the struct; text stays text.
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        _, _, path = str(error).partition(" - at `$.")
        field = path.rstrip("`").partition(".")[0].partition("[")[0]
        raise Problem(
            400,
            f"Query parameter {field!r} is {_shown(given.get(field, ''))}; {_wanted(kind, field)}.",
            field=field,
        ) from error


def body[B](request: func.HttpRequest, kind: type[B]) -> B:
    """The JSON body as a typed value; raises `Problem` naming the field."""
    content = request.get_body()
    if len(content) > LARGEST_BODY:
        raise Problem(413, f"The body has {len(content)} bytes; {LARGEST_BODY} are taken at the most.")
    try:
        return msgspec.json.decode(content or b"{}", type=kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        unknown = re.search(r"unknown field `([^`]+)`", message)
        field = path.rstrip("`").lstrip(".") or (unknown[1] if unknown else "")
        raise Problem(400, f"{field or 'The body'}: {message}.", field=field) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"The body is no valid JSON: {error}.") from error


def _wanted(kind: type[Struct], field: str) -> str:
    """What a query parameter may be, in words."""
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)  # noqa: S101 - by the signature
    wanted = next((one.type for one in info.fields if one.encode_name == field), None)
    if isinstance(wanted, msgspec.inspect.UnionType):
        wanted = next(one for one in wanted.types if not isinstance(one, msgspec.inspect.NoneType))
    if isinstance(wanted, msgspec.inspect.Metadata):
        wanted = wanted.type
    match wanted:
        case msgspec.inspect.EnumType(cls=choices):
            return f"it has to be one of {', '.join(str(one.value) for one in choices)}"
        case msgspec.inspect.LiteralType(values=values):
            return f"it has to be one of {', '.join(str(value) for value in values)}"
        case msgspec.inspect.BoolType():
            return "it has to be true or false"
        case msgspec.inspect.IntType(ge=low, le=high):
            return f"it has to be a whole number from {low} to {high}"
        case msgspec.inspect.StrType(max_length=most):
            return f"it may have {most} characters at the most"
        case _:
            return "that is not possible here"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "…")


# --- cursors -------------------------------------------------------------------------------------


def _checksum(token: str, asked: str) -> str:
    return hashlib.sha256(f"{token}\n{asked}".encode()).hexdigest()[:16]


def cursor(token: Token | None, asked: Any) -> str | None:
    """An opaque text for going on with the same question; None at the end."""
    if not token:
        return None
    text = msgspec.json.encode(dict(token)).decode()
    seal = _checksum(text, _question(asked))
    return base64.urlsafe_b64encode(f"{seal}{text}".encode()).decode().rstrip("=")


def resume(text: str, asked: Any) -> Token | None:
    """The token that a cursor holds; raises `Problem` for a forged one or one of another question."""
    if not text:
        return None
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
        seal, inner = plain[:16], plain[16:]
        if seal == _checksum(inner, _question(asked)):
            return msgspec.json.decode(inner, type=dict[str, str | None])
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        pass
    raise Problem(
        400,
        "The cursor is not one that was given for this query. Start again without it, "
        "and pass on the other parameters unchanged.",
        field="cursor",
    )


def _question(asked: Any) -> str:
    """What was asked, apart from how much of it: a cursor holds for any limit."""
    plain = {
        name: value for name, value in msgspec.to_builtins(asked).items() if name not in {"cursor", "limit"}
    }
    return f"{type(asked).__name__}{msgspec.json.encode(plain, order='sorted').decode()}"
