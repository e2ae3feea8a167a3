"""HTTP triggers, and the host's own addresses under ``/admin``.

Routes are ASP.NET templates, which is what ``route=`` of a function is: ``{name}``, ``{name:int}``,
``{name?}``, ``{*rest}``. A request no function takes, for its path or its method, is a 404, as the host in
Azure has it. What a function sees of a request is what the conversion to ``RpcHttp`` leaves of it there:
header names in lower case, repeated headers and query parameters joined by commas, query parameters without a
value left out, ``%2F`` in a path left as it is.
"""

import hmac
import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http.cookies import Morsel, SimpleCookie
from typing import Any

from aiohttp import web

from local import rpc
from local.functions import Function, FunctionInError
from local.host_log import HostLog
from local.invocation import Invoker

LARGEST_BODY = 104_857_600
"""Bytes: the host's own limit, 100 MB."""

_PLACEHOLDER = re.compile(r"\{(\*{0,2})([A-Za-z_]\w*)((?::\w+(?:\([^()]*\))?)*)(?:=([^{}?]*))?(\?)?\}")
_CONSTRAINTS = {
    "int": r"[+-]?\d{1,10}",
    "long": r"[+-]?\d{1,19}",
    "bool": r"(?i:true|false)",
    "guid": r"[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}",
    "alpha": r"[A-Za-z]+",
    "decimal": r"[+-]?\d+(?:\.\d+)?",
    "double": r"[+-]?\d+(?:\.\d+)?",
    "float": r"[+-]?\d+(?:\.\d+)?",
    "required": r"[^/]+",
}
_TRACE_PARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.*")
_SAME_SITE = {1: "Lax", 2: "Strict", 3: "None"}
_HOP_BY_HOP = {"transfer-encoding", "content-length", "connection", "keep-alive"}


def _constraint(text: str) -> str:
    """The pattern of a placeholder's constraints, ``:int`` or ``:length(3)``."""
    pattern = r"[^/]+"
    for name in filter(None, text.split(":")):
        if name in _CONSTRAINTS:
            pattern = _CONSTRAINTS[name]
        elif match := re.fullmatch(r"(length|minlength|maxlength)\((\d+)(?:,(\d+))?\)", name):
            least, most = match[2], match[3]
            bounds = {
                "length": f"{least},{most}" if most else least,
                "minlength": f"{least},",
                "maxlength": f"1,{least}",
            }
            pattern = f"[^/]{{{bounds[match[1]]}}}"
        else:
            raise FunctionInError(f"The route constraint '{name}' is not known to this local host.")
    return f"(?:{pattern})"


@dataclass(frozen=True)
class Route:
    """A route template, ready to be matched."""

    function: Function
    pattern: re.Pattern[str]
    precedence: tuple[int, ...]
    """Smaller goes first: literal text, placeholders with a constraint, without, those for the rest."""
    defaults: Mapping[str, str]

    @classmethod
    def of(cls, function: Function, prefix: str) -> "Route":
        """The route of a function, beneath the app's prefix."""
        pattern = ""
        precedence = []
        defaults = {}
        for segment in filter(None, f"{prefix}/{function.route}".split("/")):
            optional = False
            text = ""
            rank = 1
            end = 0
            for match in _PLACEHOLDER.finditer(segment):
                stars, name, constraints, default, question = match.groups()
                text += re.escape(segment[end : match.start()])
                text += f"(?P<{name}>{'.*' if stars else _constraint(constraints)})"
                rank = max(rank, (4 if constraints else 5) if stars else (2 if constraints else 3))
                if default is not None:
                    defaults[name] = default
                optional = optional or bool(question) or bool(stars) or default is not None
                end = match.end()
            rest = segment[end:]
            if "{" in rest or "}" in rest:
                raise FunctionInError(f"The route template '{function.route}' cannot be read.")
            text += re.escape(rest)
            pattern += f"(?:/{text})?" if optional else f"/{text}"
            precedence.append(rank)
        return cls(function, re.compile(pattern + "/?", re.IGNORECASE), tuple(precedence), defaults)

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """The placeholders' values, if the request is for this route."""
        if self.function.methods and method not in self.function.methods:
            return None
        found = self.pattern.fullmatch(path)
        if found is None:
            return None
        values = {name: _unquote(value) for name, value in found.groupdict().items() if value}
        return {**self.defaults, **values}


def _unquote(text: str) -> str:
    """A path's text decoded but for ``%2F``, as Kestrel, the host's web server, gives it."""
    return urllib.parse.unquote(re.sub("%2f", "%252F", text, flags=re.IGNORECASE))


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return {name: ",".join(several) for name, several in values.items()}


def _set_cookie(cookie: rpc.RpcHttpCookie) -> str:
    morsel: Morsel[str] = SimpleCookie({cookie.name: cookie.value})[cookie.name]
    if cookie.domain:
        morsel["domain"] = cookie.domain.value
    if cookie.path:
        morsel["path"] = cookie.path.value
    if cookie.expires:
        moment = datetime.fromtimestamp(cookie.expires.value.seconds, UTC)
        morsel["expires"] = moment.strftime("%a, %d %b %Y %H:%M:%S GMT")
    if cookie.max_age:
        morsel["max-age"] = str(int(cookie.max_age.value))
    morsel["secure"] = bool(cookie.secure and cookie.secure.value)
    morsel["httponly"] = bool(cookie.http_only and cookie.http_only.value)
    if cookie.same_site in _SAME_SITE:
        morsel["samesite"] = _SAME_SITE[cookie.same_site]
    return morsel.OutputString()


def _body(data: rpc.TypedData | None) -> bytes:
    if data is None:
        return b""
    text = data.string if data.string is not None else data.json
    return text.encode() if text is not None else data.bytes or b""


def response_of(data: rpc.TypedData | None) -> web.Response:
    """What a function returned, as a response: an ``HttpResponse`` as it is, a ``str`` as plain text."""
    if data is None:
        return web.Response(status=204)
    if data.http is None:
        kind = "application/json" if data.json is not None else "text/plain"
        return web.Response(body=_body(data), content_type=kind, charset="utf-8")
    response = web.Response(status=int(data.http.status_code or 200), body=_body(data.http.body))
    for name, value in data.http.headers.items():
        if name.lower() not in _HOP_BY_HOP:
            response.headers[name] = value
    for cookie in data.http.cookies or ():
        response.headers.add("Set-Cookie", _set_cookie(cookie))
    return response


class HttpFrontEnd:
    """Takes requests to the functions they are for, and answers those under ``/admin`` itself."""

    def __init__(
        self,
        functions: Sequence[Function],
        prefix: str,
        invoker: Invoker,
        log: HostLog,
        *,
        key: str | None,
        describe_host: Callable[[], dict[str, Any]],
        describe_functions: Callable[[], list[dict[str, Any]]],
        run_now: Callable[[str, str], bool],
    ) -> None:
        self.routes: list[Route] = []
        self.in_error: dict[str, str] = {}
        """Why a function's route cannot be served, by function."""
        for function in functions:
            try:
                self.routes.append(Route.of(function, prefix))
            except (FunctionInError, re.error) as error:
                self.in_error[function.name] = str(error)
        self.routes.sort(key=lambda route: route.precedence)
        self._invoker = invoker
        self._log = log
        self._key = key
        self._describe_host = describe_host
        self._describe_functions = describe_functions
        self._run_now = run_now
        self.stopping = False
        """Whether requests are turned away, because the host is about to end."""

    def application(self) -> web.Application:
        """The aiohttp application that serves this."""
        application = web.Application(client_max_size=LARGEST_BODY)
        application.router.add_get("/", self._home)
        application.router.add_get("/admin/functions", self._functions)
        application.router.add_post("/admin/functions/{name}", self._run)
        application.router.add_get("/admin/host/status", self._status)
        application.router.add_route("*", "/admin/host/ping", self._ping)
        application.router.add_route("*", "/{path:.*}", self._dispatch)
        return application

    def _allowed(self, request: web.Request, level: str) -> bool:
        """Whether a request carries the key that a function of this level asks for."""
        if self._key is None or level.lower() == "anonymous":
            return True
        given = request.headers.get("x-functions-key") or request.query.get("code") or ""
        return hmac.compare_digest(given.encode(), self._key.encode())

    async def _home(self, request: web.Request) -> web.StreamResponse:
        if any(route.match("GET", "/") is not None for route in self.routes):
            return await self._dispatch(request)
        page = (
            "<!DOCTYPE html><html lang='en'><title>Functions host</title>"
            "<h1>Your Functions app is up and running</h1>"
            "<p>What there is to call: <a href='admin/functions'>/admin/functions</a></p></html>"
        )
        return web.Response(text=page, content_type="text/html")

    async def _functions(self, request: web.Request) -> web.StreamResponse:
        if not self._allowed(request, "admin"):
            return web.Response(status=401)
        return web.json_response(self._describe_functions())

    async def _status(self, request: web.Request) -> web.StreamResponse:
        if not self._allowed(request, "admin"):
            return web.Response(status=401)
        return web.json_response(self._describe_host())

    async def _ping(self, _request: web.Request) -> web.StreamResponse:
        return web.Response()

    async def _run(self, request: web.Request) -> web.StreamResponse:
        if not self._allowed(request, "admin"):
            return web.Response(status=401)
        try:
            text = await request.text()
            document = {} if not text.strip() else await request.json()
            given = document.get("input", "")
        except (ValueError, AttributeError):
            return web.Response(status=400, text='The body must be JSON: {"input": "..."}')
        found = self._run_now(request.match_info["name"], given if isinstance(given, str) else "")
        return web.Response(status=202 if found else 404)

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        if self.stopping:
            return web.Response(status=503)
        path = request.rel_url.raw_path
        for route in self.routes:
            params = route.match(request.method, path)
            if params is not None:
                return await self._call(route.function, params, request)
        return web.Response(status=404)

    async def _call(
        self, function: Function, params: dict[str, str], request: web.Request
    ) -> web.StreamResponse:
        if not self._allowed(request, str(function.trigger.get("authLevel") or "function")):
            return web.Response(status=401)
        query = {name: value for name, value in _joined(request.query.items()).items() if value}
        headers = _joined((name.lower(), value) for name, value in request.headers.items())
        body = await request.read()
        trace_parent = headers.get("traceparent", "")
        run = await self._invoker.run(
            function,
            rpc.TypedData(
                http=rpc.RpcHttp(
                    method=request.method,
                    url=str(request.url),
                    headers=headers,
                    body=rpc.TypedData(bytes=body),
                    params=params,
                    query=query,
                )
            ),
            reason="This function was programmatically called via the host APIs.",
            metadata={name: rpc.TypedData(string=value) for name, value in (query | params).items()},
            trace_parent=trace_parent if _TRACE_PARENT.fullmatch(trace_parent) else None,
            trace_state=headers.get("tracestate", ""),
        )
        if not run.succeeded:
            return web.Response(status=502 if run.worker_died else 500)
        try:
            return response_of(run.http)
        except ValueError as error:
            self._log.error(f"The response cannot be sent: {error}", function=function.name)
            return web.Response(status=500)
