"""The HTTP server: Azure Resource Manager's routes, and the order in which ARM looks at a request."""

import asyncio
import random
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp import web

from local.azure import admin_rules, arm, effective, metrics, paging, service_tags
from local.azure.access import denied
from local.azure.actions import (
    ACTIONS,
    ADMIN_RULES,
    NAMESPACES,
    RUN_COMMANDS,
    SERVICE_TAGS,
    SUBSCRIPTION,
    TYPES,
    ResourceType,
)
from local.azure.arm import ArmError, ArmPath, Json, MalformedError
from local.azure.faults import REFUSALS, Fault
from local.azure.identity import Identity, Principal
from local.azure.journal import Journal
from local.azure.operations import IN_PROGRESS, POLL_SECONDS, Operation, Operations, is_poll
from local.azure.run_command import AZURE_SECONDS, RunCommands
from local.azure.store import Store
from local.azure.throttle import Throttle

HANG_SECONDS = 3600.0
"""How long a `hang` without `seconds` lasts: longer than any client waits."""

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Simulator:
    """What is served and how: everything that a request or the control API touches."""

    store: Store
    identity: Identity
    journal: Journal
    throttle: Throttle
    page_size: int = 50
    latency: float = 0.0
    """Seconds before each answer of ARM."""
    dns_port: int | None = None
    """Where names are answered; None where they are not."""
    faults: list[Fault] = field(default_factory=list)
    operations: Operations = field(default_factory=Operations)
    run_commands: RunCommands = field(init=False)
    run_command_seconds: float = 0.2
    """How long Run Command takes at the least; Azure's takes about 20 s."""
    run_command_most: float = AZURE_SECONDS
    """After how many seconds it times out."""
    why_recorded: str = ""
    """Why nodes are recorded text and no namespaces; empty where they are namespaces."""

    def __post_init__(self) -> None:
        self.run_commands = RunCommands(
            self.store,
            self.operations,
            why_recorded=self.why_recorded,
            seconds=self.run_command_seconds,
            most=self.run_command_most,
        )


@dataclass(slots=True)
class Exchange:
    """One ARM request on its way: what has been found out about it so far."""

    request: web.Request
    id: str
    started: datetime
    subscription: str = ""
    action: str = ""
    content: bytes = b""
    """The body of a POST."""
    fault: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    """Headers of the answer, whatever it is."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a path means."""

    path: ArmPath | None
    """None for the list of subscriptions."""
    kind: ResourceType
    action: str
    scope: str
    """Where the action must be allowed: the resource, or what the collection lies in."""


def application(simulator: Simulator) -> web.Application:
    """Every route of Azure; the control API is added by `control.routes`."""
    app = web.Application(client_max_size=64 * 2**20)
    front = Front(simulator)
    app.router.add_get("/msi/token", front.token)
    app.router.add_route(
        "*", "/{word:(?i:metrics)}/{region}/subscriptions/{subscription}/{what}", front.answer_metrics
    )
    app.router.add_route("*", "/{word:(?i:subscriptions)}{rest:.*}", front.answer)
    return app


class Front:
    """Answers requests to the identity endpoint and to ARM."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    async def token(self, request: web.Request) -> web.Response:
        """Give out a token for the managed identity."""
        if request.query.get("api-version") != "2019-08-01":
            return _json(400, {"statusCode": 400, "message": "The api-version must be 2019-08-01."})
        try:
            answer = self._simulator.identity.issue(
                header=request.headers.get("X-IDENTITY-HEADER"),
                resource=request.query.get("resource"),
                client=request.query.get("client_id"),
                now=time.time(),
            )
        except ArmError as error:
            return _json(error.status, {"statusCode": error.status, "message": error.message})
        return _json(200, answer)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer an ARM request, and write it down whatever becomes of it."""
        return await self._answered(request, self._respond)

    async def answer_metrics(self, request: web.Request) -> web.StreamResponse:
        """Answer a request to Azure Monitor's batch interface, and write it down likewise."""
        return await self._answered(request, self._respond_metrics)

    async def _answered(
        self, request: web.Request, respond: Callable[[Exchange], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        exchange = Exchange(request, arm.request_id(), datetime.now(UTC))
        exchange.headers = {
            "x-ms-request-id": exchange.id,
            "x-ms-correlation-request-id": request.headers.get("x-ms-correlation-request-id", exchange.id),
            "x-ms-routing-request-id": f"LOCAL:{exchange.started:%Y%m%dT%H%M%SZ}:{exchange.id}",
            "Cache-Control": "no-cache",
        }
        if client_id := request.headers.get("x-ms-client-request-id"):
            exchange.headers["x-ms-client-request-id"] = client_id
        if self._simulator.latency:
            await asyncio.sleep(self._simulator.latency)
        status: int | None = None
        try:
            response = await respond(exchange)
            status = response.status
        except ArmError as error:
            status = error.status
            headers = {"x-ms-failure-cause": error.cause} | error.headers | exchange.headers
            response = _json(error.status, error.body(), headers)
        finally:
            self._simulator.journal.record(
                {
                    "time": exchange.started.isoformat(),
                    "method": request.method,
                    "path": request.path,
                    "query": request.query_string,
                    "action": exchange.action,
                    "subscription": exchange.subscription,
                    "status": status,
                    "fault": exchange.fault,
                    "clientRequestId": client_id,
                }
            )
        return response

    async def _respond(self, exchange: Exchange) -> web.StreamResponse:
        request, simulator = exchange.request, self._simulator
        principal = simulator.identity.authenticate(request.headers.get("Authorization"), time.time())
        version = request.query.get("api-version")
        if not version:
            raise arm.version_missing()
        target = _target(request.path, request.method, version)
        exchange.action = target.action
        if target.path:
            exchange.subscription = target.path.subscription.lower()
        if request.method == "POST":
            exchange.content = await request.read()
        if fault := self._fault(exchange):
            exchange.fault = fault.kind
            if fault.kind in REFUSALS:
                raise fault.refusal(principal=principal, action=target.action, path=request.path)
            return await self._break(fault, exchange, lambda: self._look_up(exchange, target, principal))
        return _send(exchange, *self._look_up(exchange, target, principal))

    async def _respond_metrics(self, exchange: Exchange) -> web.StreamResponse:
        request, simulator = exchange.request, self._simulator
        principal = simulator.identity.authenticate(
            request.headers.get("Authorization"), time.time(), metrics.AUDIENCES
        )
        if request.method != "POST" or request.match_info["what"].lower() != "metrics:getbatch":
            raise ArmError(404, "NotFound", f"There is nothing at '{request.path}' for {request.method}.")
        version = request.query.get("api-version")
        if version not in metrics.VERSIONS:
            raise arm.version_invalid(version, metrics.VERSIONS) if version else arm.version_missing()
        exchange.action = metrics.ACTION
        exchange.subscription = request.match_info["subscription"].lower()
        exchange.content = await request.read()
        if fault := self._fault(exchange):
            exchange.fault = fault.kind
            if fault.kind in REFUSALS:
                raise fault.refusal(principal=principal, action=metrics.ACTION, path=request.path)
            return await self._break(fault, exchange, lambda: self._count(exchange, principal))
        # Weeks of many time series take a while to put together, and others wait for an answer meanwhile.
        return _send(exchange, *await asyncio.to_thread(self._count, exchange, principal))

    def _count(self, exchange: Exchange, principal: Principal) -> tuple[int, Json]:
        """What Azure Monitor has counted: the status and the body."""
        request, store = exchange.request, self._simulator.store
        wait, _ = self._simulator.throttle.take(
            "metric", exchange.subscription, principal.object, time.monotonic()
        )
        if wait:
            raise arm.throttled(
                kind="metric", subscription=exchange.subscription, actor=principal.object, wait=wait
            )
        now = int(time.time()) // 60
        query = metrics.read_query(
            request.query, subscription=exchange.subscription, region=request.match_info["region"], now=now
        )
        try:
            body = msgspec.json.decode(exchange.content)
        except msgspec.DecodeError:
            raise metrics.refused("The request body is no JSON.") from None

        def location(identifier: str) -> str | None:
            document = store.document(identifier)
            return None if document is None else str(document.get("location", ""))

        ids = metrics.check_resources(query, body, location)
        for scope in (f"/subscriptions/{exchange.subscription}", *ids):
            if self._denied(metrics.ACTION, scope):
                raise arm.authorization_failed(
                    client=principal.client, principal=principal.object, action=metrics.ACTION, scope=scope
                )
        held = {identifier: store.metrics.get(arm.key(identifier)) or () for identifier in ids}
        return 200, metrics.answer(query, held, now=now)

    def _look_up(self, exchange: Exchange, target: Target, principal: Principal) -> tuple[int, Json | None]:
        """The honest answer: the status and the body."""
        self._spend(exchange, target, principal)
        store, path = self._simulator.store, target.path
        if path and not store.has_subscription(path.subscription):
            raise arm.subscription_not_found(path.subscription)
        self._check_version(exchange, target)
        if path is None:
            every = [item for item in store.subscriptions() if not self._denied(target.action, item["id"])]
            return 200, self._page(exchange, every)
        if self._denied(target.action, target.scope):
            raise arm.authorization_failed(
                client=principal.client,
                principal=principal.object,
                action=target.action,
                scope=target.scope,
            )
        if not path.types:
            return 200, store.subscription(path.subscription)
        if is_poll(path):
            monitor = exchange.request.query.get("monitor") == "true"
            status, body = self._simulator.operations.poll(path, time.monotonic(), monitor=monitor)
            if status == 202:
                exchange.headers["Location"] = str(_address(exchange.request))
            if status == 202 or body == IN_PROGRESS:
                exchange.headers["Retry-After"] = str(POLL_SECONDS)
            return status, body
        if target.kind is SERVICE_TAGS:
            return 200, store.service_tags or service_tags.nothing(path.subscription)
        if path.resource_group and not store.has_group(path.subscription, path.resource_group):
            raise arm.group_not_found(path.resource_group)
        if path.parent and store.document(path.parent) is None:
            raise arm.parent_not_found(path)
        if target.action in RUN_COMMANDS:
            return self._hand_out(exchange, path, self._run_command(exchange, target, path, principal))
        if exchange.request.method == "POST":
            resource = self._get(target.scope, path, target.kind)
            if target.action == ADMIN_RULES:
                return 200, self._admin_rules(exchange, resource)
            return self._accept(exchange, path, resource)
        if path.is_collection:
            found = store.collection(path, exchange.request.path, target.kind)
            return 200, self._page(
                exchange, [item for item in found if not self._denied(target.action, item["id"])]
            )
        return 200, self._get(exchange.request.path, path, target.kind)

    def _get(self, identifier: str, path: ArmPath, kind: ResourceType) -> Json:
        found = self._simulator.store.one(path, identifier, kind)
        if found is None:
            raise arm.child_not_found(identifier) if kind.inside else arm.resource_not_found(path)
        return found

    def _admin_rules(self, exchange: Exchange, network: Json) -> Json:
        return admin_rules.page(
            self._simulator.store.admin_rules.get(arm.key(network["id"])) or (),
            body=exchange.content,
            top=exchange.request.query.get("$top"),
            page_size=self._simulator.page_size,
        )

    def _accept(self, exchange: Exchange, path: ArmPath, interface: Json) -> tuple[int, Json | None]:
        """Start to find out the effective rules of a network interface."""
        operation = self._simulator.operations.accept(
            namespace="Microsoft.Network",
            location=interface.get("location", "westeurope"),
            version=exchange.request.query["api-version"],
            result=effective.effective_groups(self._simulator.store, interface),
            done_at=time.monotonic() + POLL_SECONDS,
        )
        return self._hand_out(exchange, path, operation)

    def _run_command(
        self, exchange: Exchange, target: Target, path: ArmPath, principal: Principal
    ) -> Operation:
        return self._simulator.run_commands.start(
            path, exchange.content, principal, action=target.action, scope=target.scope
        )

    @staticmethod
    def _hand_out(exchange: Exchange, path: ArmPath, operation: Operation) -> tuple[int, Json | None]:
        """Say where an operation can be polled."""
        base = str(exchange.request.url.origin())
        exchange.headers |= operation.headers(base, path.subscription)
        return 202, None

    def _spend(self, exchange: Exchange, target: Target, principal: Principal) -> None:
        """Take a token from the bucket, tell what is left, or refuse."""
        kind = "read" if exchange.request.method == "GET" else "write"
        subscription = target.path.subscription.lower() if target.path else ""
        wait, left = self._simulator.throttle.take(kind, subscription, principal.object, time.monotonic())
        level = "subscription" if target.path else "tenant"
        exchange.headers[f"x-ms-ratelimit-remaining-{level}-{kind}s"] = str(left)
        if wait:
            raise arm.throttled(kind=kind, subscription=subscription, actor=principal.object, wait=wait)

    def _check_version(self, exchange: Exchange, target: Target) -> None:
        version, accepted = exchange.request.query["api-version"], target.kind.versions
        if version in accepted:
            return
        if target.path is None or not target.path.types:
            raise arm.version_invalid(version, accepted)
        document = self._simulator.store.document(exchange.request.path) or {}
        location = document.get("location", "westeurope")
        raise arm.version_unregistered(target.path, version, accepted, location)

    def _denied(self, action: str, scope: str) -> bool:
        return denied(self._simulator.store.denials, action, scope)

    def _page(self, exchange: Exchange, items: list[Json]) -> Json:
        """One page of a list, with the absolute address of the next one."""
        start, size = paging.start(exchange.request.query.get("$skiptoken")), self._simulator.page_size
        body: Json = {"value": items[start : start + size]}
        if start + size < len(items):
            address = _address(exchange.request).update_query({"$skiptoken": paging.token(start + size)})
            body["nextLink"] = str(address).replace("$skiptoken", "%24skiptoken")
        return body

    def _fault(self, exchange: Exchange) -> Fault | None:
        for fault in self._simulator.faults:
            if fault.times != 0 and fault.matches(
                method=exchange.request.method,
                path=exchange.request.path,
                action=exchange.action,
                subscription=exchange.subscription,
            ):
                if random.random() >= fault.probability:  # noqa: S311 - chance, not secrecy
                    continue
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    async def _break(
        self, fault: Fault, exchange: Exchange, look_up: Callable[[], tuple[int, Json | None]]
    ) -> web.StreamResponse:
        """Spoil the transport or the body; `look_up` is the honest answer."""
        if fault.kind == "hang":
            await asyncio.sleep(HANG_SECONDS if fault.seconds is None else fault.seconds)
            return _reset(exchange.request)
        if fault.kind == "reset":
            return _reset(exchange.request)
        if fault.kind == "empty":
            return web.Response(status=200, headers=exchange.headers, content_type="application/json")
        status, body = look_up()
        content = _encode(body)
        if fault.kind == "malformed":
            headers = exchange.headers | {"Content-Type": "application/json; charset=utf-8"}
            return web.Response(status=status, headers=headers, body=b"<html>" + content[: len(content) // 2])
        response = web.StreamResponse(status=status, headers=exchange.headers)
        response.content_type = "application/json"
        response.content_length = len(content)
        await response.prepare(exchange.request)
        await response.write(content[: len(content) // 2])
        if exchange.request.transport:
            exchange.request.transport.close()
        return response


def _target(path: str, method: str, version: str) -> Target:
    """What a request's path and method mean, or ARM's refusal of them."""
    if path.rstrip("/").lower() == "/subscriptions":
        target = Target(None, SUBSCRIPTION, SUBSCRIPTION.action, "/")
    else:
        try:
            parsed = ArmPath.parse(path)
        except MalformedError as error:
            raise ArmError(400, "InvalidRequestUri", f"The request URI is not valid: {error}.") from None
        target = _resource_target(path, parsed, method, version)
    if method != "GET" and not target.action.endswith("/action"):
        raise ArmError(
            405, "HttpMethodNotAllowed", f"The HTTP method '{method}' is not supported at '{path}'."
        )
    return target


def _resource_target(path: str, parsed: ArmPath, method: str, version: str) -> Target:
    scope = path.rstrip("/")
    if parsed.namespace is None:
        if parsed.resource_group:
            raise ArmError(404, "NotFound", "Resource groups themselves are not served here.")
        return Target(parsed, SUBSCRIPTION, SUBSCRIPTION.action, scope)
    if parsed.namespace.lower() not in NAMESPACES:
        raise arm.namespace_unknown(parsed.namespace)
    if is_poll(parsed):
        network = parsed.namespace.lower() == "microsoft.network"
        kind = TYPES[
            "microsoft.network/networkinterfaces" if network else "microsoft.compute/virtualmachines"
        ]
        provider = "Microsoft.Network" if network else "Microsoft.Compute"
        action = f"{provider}/locations/{parsed.types[-1]}/read"
        return Target(parsed, kind, action, f"/subscriptions/{parsed.subscription}")
    if method == "POST" and parsed.is_collection and parsed.type.lower() in ACTIONS:
        action, scope = ACTIONS[parsed.type.lower()], scope.rpartition("/")[0]
        parsed = ArmPath.parse(scope)
        return Target(parsed, TYPES[parsed.type.lower()], action, scope)
    found = TYPES.get(parsed.type.lower())
    if found is None:
        raise arm.type_unknown(parsed, version)
    if found is SERVICE_TAGS:
        if parsed.resource_group or not parsed.is_collection:
            raise arm.type_unknown(parsed, version)
        return Target(parsed, found, found.action, f"/subscriptions/{parsed.subscription}")
    if parsed.is_collection:
        scope = parsed.parent or scope[: scope.lower().index("/providers/")]
    return Target(parsed, found, found.action, scope)


def _address(request: web.Request) -> Any:
    """The absolute address of a request, as the client wrote it."""
    return request.url.origin().join(request.rel_url)


def _send(exchange: Exchange, status: int, body: Json | None) -> web.Response:
    if body is None:
        return web.Response(status=status, headers=exchange.headers)
    return _json(status, body, exchange.headers)


def _json(status: int, body: Any, headers: dict[str, str] | None = None) -> web.Response:
    response = web.Response(status=status, headers=headers, body=_encode(body))
    response.content_type = "application/json"
    response.charset = "utf-8"
    return response


def _reset(request: web.Request) -> web.Response:
    """Cut the connection with a TCP reset: lingering for no time makes close send RST."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response(status=500)  # it reaches nobody
