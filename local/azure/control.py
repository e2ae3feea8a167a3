"""The control API under `/_sim/`: what was asked, what is served, what goes wrong.

It takes no token, and answers only requests from this machine.
"""

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from local.azure import admin_rules, faults, fleet, metric_files, names, nodes
from local.azure.arm import Json, MalformedError
from local.azure.server import Simulator

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_encode = msgspec.json.Encoder().encode


class Control:
    """The handlers, and the fleet directory that they read again when told to."""

    def __init__(self, simulator: Simulator, directory: Path) -> None:
        self._simulator = simulator
        self._directory = directory
        self._marks = fleet.fingerprint(directory)
        self._error: str | None = None

    def add_to(self, app: web.Application) -> None:
        """Add the routes to an application."""
        add = app.router.add_route
        add("GET", "/_sim/health", _local(self.health))
        add("GET", "/_sim/requests", _local(self.requests))
        add("DELETE", "/_sim/requests", _local(self.clear_requests))
        add("GET", "/_sim/actions", _local(self.actions))
        add("GET", "/_sim/resources", _local(self.resource))
        add("PUT", "/_sim/resources", _local(self.put_resources))
        add("DELETE", "/_sim/resources", _local(self.delete_resource))
        add("GET", "/_sim/admin-rules", _local(self.admin_rules))
        add("PUT", "/_sim/admin-rules", _local(self.put_admin_rules))
        add("GET", "/_sim/names", _local(self.names))
        add("PUT", "/_sim/names", _local(self.put_names))
        add("PUT", "/_sim/metrics", _local(self.put_metrics))
        add("GET", "/_sim/nodes", _local(self.nodes))
        add("PUT", "/_sim/nodes", _local(self.put_nodes))
        add("GET", "/_sim/faults", _local(self.list_faults))
        add("POST", "/_sim/faults", _local(self.add_fault))
        add("DELETE", "/_sim/faults", _local(self.clear_faults))
        add("GET", "/_sim/faults/{id}", _local(self.fault))
        add("DELETE", "/_sim/faults/{id}", _local(self.delete_fault))
        add("PUT", "/_sim/latency", _local(self.set_latency))
        add("POST", "/_sim/reload", _local(self.reload))

    async def watch(self, report: Callable[[str], None]) -> None:
        """Read the directory again whenever a file in it changes, for ever.

        A fleet that cannot be read leaves what is served as it was; `report` gets the one line that says why.
        """
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            marks = await asyncio.to_thread(fleet.fingerprint, self._directory)
            # a large fleet takes long to look at: it costs a tenth of one processor at the most
            pause = max(0.5, 10 * (loop.time() - before))
            if marks != self._marks:
                self._marks = marks
                if problem := await self._read_again(keep_changes=True):
                    report(problem)
            await asyncio.sleep(pause)

    async def health(self, _request: web.Request) -> web.Response:
        """Whether it serves, from where, and how much."""
        store = self._simulator.store
        return _json(
            200,
            {
                "status": "ok" if self._error is None else "stale",
                "fleet": str(self._directory),
                "error": self._error,
                "subscriptions": [item["subscriptionId"] for item in store.subscriptions()],
                "latencyMs": self._simulator.latency * 1000,
                "faults": len(self._simulator.faults),
                "dnsPort": self._simulator.dns_port,
                "nodes": self._simulator.run_commands.describe(),
            }
            | store.counts(),
        )

    async def requests(self, request: web.Request) -> web.Response:
        """Every ARM request, or those since a `seq` or a time."""
        try:
            return _json(200, self._simulator.journal.entries(request.query.get("since")))
        except (TypeError, ValueError):
            return _problem(400, "since is a request's seq, or a time with its zone in ISO 8601")

    async def clear_requests(self, _request: web.Request) -> web.Response:
        """Forget the requests."""
        self._simulator.journal.clear()
        return web.Response(status=204)

    async def actions(self, _request: web.Request) -> web.Response:
        """The Azure actions asked for, and how often."""
        return _json(200, self._simulator.journal.actions())

    async def resource(self, request: web.Request) -> web.Response:
        """One resource's document."""
        identifier = request.query.get("id", "")
        found = self._simulator.store.document(identifier)
        return _json(200, found) if found else _problem(404, f"no resource {identifier}")

    async def put_resources(self, request: web.Request) -> web.Response:
        """Add or replace one resource, or several."""
        content = await _body(request)
        documents = content if isinstance(content, list) else [content]
        try:
            checked = [fleet.check_document(document) for document in documents]
        except MalformedError as error:
            return _problem(400, str(error))
        for document in checked:
            self._simulator.store.put(document)
        return _json(200, {"put": len(checked)})

    async def delete_resource(self, request: web.Request) -> web.Response:
        """Take a resource away, and what is under it."""
        identifier = request.query.get("id", "")
        if not self._simulator.store.delete(identifier):
            return _problem(404, f"no resource {identifier}")
        return web.Response(status=204)

    async def admin_rules(self, _request: web.Request) -> web.Response:
        """The security admin rules in force, by the key of the virtual network's id."""
        return _json(200, self._simulator.store.admin_rules.all())

    async def put_admin_rules(self, request: web.Request) -> web.Response:
        """Say what some virtual networks have in force, as a `*.adminrules.json` would."""
        try:
            checked = admin_rules.by_network(await _body(request))
        except MalformedError as error:
            return _problem(400, str(error))
        self._simulator.store.admin_rules.put(checked)
        return _json(200, {"put": len(checked)})

    async def names(self, _request: web.Request) -> web.Response:
        """What host names resolve to."""
        return _json(200, self._simulator.store.names.all())

    async def put_names(self, request: web.Request) -> web.Response:
        """Say what some host names resolve to, as a `names.json` would."""
        try:
            checked = names.check(await _body(request))
        except MalformedError as error:
            return _problem(400, str(error))
        self._simulator.store.names.put({host: answer for host, (_, answer) in checked.items()})
        return _json(200, {"put": len(checked)})

    async def put_metrics(self, request: web.Request) -> web.Response:
        """Say what Azure Monitor has counted of some resources, as a `*.metrics.json` would."""
        try:
            checked = metric_files.check(await _body(request))
        except MalformedError as error:
            return _problem(400, str(error))
        self._simulator.store.metrics.put({key: series for key, (_, series) in checked.items()})
        return _json(200, {"put": len(checked)})

    async def nodes(self, _request: web.Request) -> web.Response:
        """What is said of nodes and their networks, by the keys of their ids."""
        return _json(200, nodes.describe(self._simulator.store.nodes.all()))

    async def put_nodes(self, request: web.Request) -> web.Response:
        """Say what some nodes are like inside, as a `*.nodes.json` would; those that stand change at once.

        `problems` names those that could not: what is wrong with their firewall shows only in a kernel.
        """
        try:
            checked = nodes.check(await _body(request))
        except MalformedError as error:
            return _problem(400, str(error))
        self._simulator.store.nodes.put({identifier: entry for identifier, (_, entry) in checked.items()})
        problems = await self._simulator.run_commands.refit()
        return _json(200, {"put": len(checked), "problems": problems})

    async def list_faults(self, _request: web.Request) -> web.Response:
        """Every fault."""
        return _json(200, [fault.describe() for fault in self._simulator.faults])

    async def add_fault(self, request: web.Request) -> web.Response:
        """Make a fault; one with the same id is replaced."""
        try:
            fault = faults.parse(await _body(request))
        except MalformedError as error:
            return _problem(400, str(error))
        self._drop(fault.id)
        self._simulator.faults.append(fault)
        return _json(201, {"id": fault.id})

    async def clear_faults(self, _request: web.Request) -> web.Response:
        """End every fault."""
        self._simulator.faults.clear()
        return web.Response(status=204)

    async def fault(self, request: web.Request) -> web.Response:
        """One fault."""
        wanted = request.match_info["id"]
        for fault in self._simulator.faults:
            if fault.id == wanted:
                return _json(200, fault.describe())
        return _problem(404, f"no fault {wanted}")

    async def delete_fault(self, request: web.Request) -> web.Response:
        """End one fault."""
        wanted = request.match_info["id"]
        return web.Response(status=204) if self._drop(wanted) else _problem(404, f"no fault {wanted}")

    async def set_latency(self, request: web.Request) -> web.Response:
        """Set how many milliseconds pass before each answer of ARM."""
        content = await _body(request)
        wanted = content.get("ms") if isinstance(content, dict) else None
        if not isinstance(wanted, int | float) or isinstance(wanted, bool) or not 0 <= wanted <= 60_000:
            return _problem(400, "ms is a number from 0 to 60000")
        self._simulator.latency = wanted / 1000
        return _json(200, {"ms": wanted})

    async def reload(self, _request: web.Request) -> web.Response:
        """Read the fleet directory again; what was put or deleted at run time is gone."""
        if problem := await self._read_again(keep_changes=False):
            return _problem(422, problem)
        return _json(200, self._simulator.store.counts())

    async def _read_again(self, *, keep_changes: bool) -> str | None:
        try:
            read = await asyncio.to_thread(fleet.load, self._directory)
        except fleet.FleetError as error:
            self._error = str(error)
        else:
            self._error = None
            self._simulator.store.replace(read, keep_changes=keep_changes)
            await self._simulator.run_commands.refit()
        return self._error

    def _drop(self, identifier: str) -> bool:
        kept = [fault for fault in self._simulator.faults if fault.id != identifier]
        dropped = len(kept) < len(self._simulator.faults)
        self._simulator.faults[:] = kept
        return dropped


def _local(handler: Handler) -> Handler:
    """Refuse requests that come from another machine."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        if not ipaddress.ip_address(request.remote or "0.0.0.0").is_loopback:  # noqa: S104 - not loopback
            return _problem(403, "the control API answers this machine only")
        return await handler(request)

    return guarded


async def _body(request: web.Request) -> Any:
    try:
        return msgspec.json.decode(await request.read())
    except msgspec.DecodeError as error:
        raise web.HTTPBadRequest(
            text=msgspec.json.encode({"error": f"not JSON: {error}"}).decode(),
            content_type="application/json",
        ) from None


def _json(status: int, body: Any) -> web.Response:
    return web.Response(status=status, body=_encode(body), content_type="application/json")


def _problem(status: int, message: str) -> web.Response:
    body: Json = {"error": message}
    return _json(status, body)
