"""The host half of Azure Functions, for a laptop without Azure Functions Core Tools.

It does what ``func start`` does for a Python app with HTTP, timer and queue triggers and queue outputs: it
reads ``host.json`` and ``local.settings.json``, starts worker processes in which Microsoft's own
``azure-functions-runtime`` loads and runs ``function_app.py``, and brings them requests, ticks and messages.
``python -m local.host --help`` says how to start it. What it prints and answers follows
Azure/azure-functions-host, and Core Tools, where they can be seen.
"""

import argparse
import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import platform
import signal
import socket
import sys
import time
import uuid
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aiohttp import web

from local.app_config import AppSettings, ConfigurationError, HostConfig, new_key, read_host_json
from local.functions import Function, FunctionInError, check_route, read_function
from local.host_log import HostLog
from local.http_trigger import HttpFrontEnd
from local.invocation import Invoker
from local.queue_storage import Storage
from local.queue_trigger import LEASE, QueueListener
from local.rpc import RpcFunctionMetadata
from local.timer_trigger import TimerListener, TimerState
from local.worker_pool import AppLoadError, WorkerPool

GRACE = 10.0
"""Seconds that what is running gets to end when the host stops."""


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    app: Path
    host: str
    port: int
    workers: int
    key: str | None
    """The function key that requests must carry; ``None`` lets every request in."""
    state_directory: Path
    log_file: Path | None
    queue_lease: float


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m local.host",
        description="Run an Azure Functions app (Python, function_app.py) on this machine: HTTP, timer and "
        "queue triggers, queue outputs. Settings come from the environment and, beneath it, from Values of "
        "local.settings.json. Stop it with Ctrl-C.",
        epilog="Storage: AzureWebJobsStorage (or the setting a binding's connection names) is a connection "
        "string, or UseDevelopmentStorage=true for Azurite on its default ports; or NAME__queueServiceUri or "
        "NAME__accountName is set, for an account opened with DefaultAzureCredential. "
        "A function is switched off by AzureWebJobs.NAME.Disabled=true. "
        "While it runs: GET /admin/functions lists the functions, POST /admin/functions/NAME "
        'with {"input": "..."} runs one that is not HTTP at once, GET /admin/host/status tells of the host.',
    )
    parser.add_argument(
        "--app",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="directory of host.json and function_app.py (default: .)",
    )
    parser.add_argument(
        "-p",
        "--port",
        type=int,
        default=os.environ.get("FUNCTIONS_PORT", "7071"),
        help="port to serve HTTP on (default: FUNCTIONS_PORT, or 7071)",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to serve HTTP on (default: 127.0.0.1)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.environ.get("FUNCTIONS_WORKER_PROCESS_COUNT", "1"),
        metavar="N",
        help="worker processes, 1 to 10 (default: FUNCTIONS_WORKER_PROCESS_COUNT, or 1)",
    )
    parser.add_argument(
        "--enable-auth",
        action="store_true",
        help="ask for a key where a function's auth level does (default: do not, as Core Tools)",
    )
    parser.add_argument(
        "--key",
        help="the key to ask for, as x-functions-key or ?code= (default: a new one, printed)",
    )
    parser.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="where timers are remembered (default: .run in the app's directory)",
    )
    parser.add_argument(
        "--log-file",
        type=Path,
        metavar="FILE",
        help="write what functions and host log to this file instead of the terminal",
    )
    parser.add_argument(
        "--queue-lease",
        type=float,
        default=LEASE,
        metavar="SECONDS",
        help="how long a message stays hidden if this host dies with it (default: %(default).0f)",
    )
    parsed = parser.parse_args(arguments)
    if not 1 <= parsed.workers <= 10:
        parser.error(f"--workers: {parsed.workers} is not between 1 and 10")
    if not 0 <= parsed.port <= 65535:
        parser.error(f"--port: {parsed.port} is not a port")
    if parsed.key and not parsed.enable_auth:
        parser.error("--key is of no use without --enable-auth")
    return parsed


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """The command line, checked."""
    parsed = _arguments(arguments)
    app = parsed.app.resolve()
    key: str | None = None
    if parsed.enable_auth:
        key = parsed.key or new_key()
    return Options(
        app=app,
        host=parsed.host,
        port=parsed.port,
        workers=parsed.workers,
        key=key,
        state_directory=(parsed.state_dir or app / ".run").resolve(),
        log_file=parsed.log_file,
        queue_lease=max(1.0, parsed.queue_lease),
    )


def _bind(host: str, port: int) -> socket.socket:
    """Take the port, without listening yet: who comes before the app is loaded is refused."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _port_taken(port) from error
        raise ConfigurationError(f"Cannot serve on {host}:{port}: {error.strerror or error}") from error
    return listening


def _port_taken(port: int) -> ConfigurationError:
    return ConfigurationError(
        f"Port {port} is unavailable. Close the process using that port, "
        "or choose another with FUNCTIONS_PORT or --port."
    )


class FunctionsHost:
    """The host of one app."""

    def __init__(self, options: Options, config: HostConfig, settings: AppSettings, log: HostLog) -> None:
        self._options = options
        self._config = config
        self._log = log
        self._settings = settings
        self._started = time.monotonic()
        self._instance_id = uuid.uuid4().hex
        self._id = self._derive_id()
        self._address = (
            f"http://{'localhost' if options.host == '127.0.0.1' else options.host}:{options.port}"
        )
        environment = settings.environment | {
            "WEBSITE_HOSTNAME": f"localhost:{options.port}",
            "AzureWebJobsScriptRoot": str(options.app),
        }
        self._workers = WorkerPool(options.app, environment, options.workers, log)
        self._storage = Storage(settings, log)
        self._invoker = Invoker(
            self._workers,
            self._storage,
            log,
            timeout=config.function_timeout,
            base64_encoded=config.queues.base64_encoded,
            instance_id=self._instance_id,
        )
        self._functions: list[Function] = []
        self._in_error: dict[str, str] = {}
        self._queues: dict[str, QueueListener] = {}
        self._timers: dict[str, TimerListener] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._state = "Starting"

    def _derive_id(self) -> str:
        """A name for this app with this storage: hosts that differ in either have timers of their own."""
        storage = self._settings.get("AzureWebJobsStorage") or self._settings.get(
            "AzureWebJobsStorage__queueServiceUri"
        )
        return hashlib.sha256(f"{self._options.app}\n{storage}".encode()).hexdigest()[:16]

    async def serve(self, listening: socket.socket, stop: asyncio.Event) -> None:
        """Load the app, run it until told to stop, and leave nothing behind."""
        runner: web.AppRunner | None = None
        listeners: list[asyncio.Task[None]] = []
        try:
            loading = asyncio.create_task(self._workers.start())
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait({loading, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not loading.done():
                loading.cancel()
                await asyncio.gather(loading, return_exceptions=True)
                return
            self._index(await loading)
            front_end = self._front_end()
            runner = web.AppRunner(
                front_end.application(),
                access_log=None,
                handle_signals=False,
                shutdown_timeout=GRACE,
                auto_decompress=False,
            )
            await runner.setup()
            listeners = [
                asyncio.create_task(timer.listen(), name=name) for name, timer in self._timers.items()
            ]
            listeners += [
                asyncio.create_task(queue.listen(), name=name) for name, queue in self._queues.items()
            ]
            for listener in listeners:
                listener.add_done_callback(self._report_end)
            try:
                await web.SockSite(runner, listening).start()
            except OSError as error:
                raise _port_taken(self._options.port) from error
            self._state = "Running"
            self._print_functions(front_end)
            await stopped
            front_end.stopping = True
            await self._drain(runner, listeners)
        finally:
            for listener in listeners:
                listener.cancel()
            await asyncio.gather(*listeners, return_exceptions=True)
            await self._workers.stop()
            await self._finish()
            if runner is not None:
                await runner.cleanup()
            await self._storage.close()

    def _report_end(self, listener: asyncio.Task[None]) -> None:
        if not listener.cancelled() and (error := listener.exception()) is not None:
            self._log.error(
                f"The listener has ended: {type(error).__name__}: {error}", function=listener.get_name()
            )

    async def _drain(self, runner: web.AppRunner, listeners: Sequence[asyncio.Task[None]]) -> None:
        """Start nothing more, and let what is running end."""
        self._state = "Stopping"
        self._log.info("Application is shutting down...")
        for site in list(runner.sites):
            await site.stop()
        for listener in listeners:
            listener.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await self._invoker.idle()
                await asyncio.gather(*self._unfinished(), return_exceptions=True)
        for queue in self._queues.values():
            queue.stop()

    def _unfinished(self) -> list[asyncio.Task[None]]:
        """Messages and ticks that are not dealt with to the end."""
        messages = [task for queue in self._queues.values() for task in queue.running]
        return messages + [timer.occurring for timer in self._timers.values() if timer.occurring is not None]

    async def _finish(self) -> None:
        """See to it that messages whose runs ended with the workers are given back."""
        unfinished = [*self._unfinished(), *self._background]
        if unfinished:
            await asyncio.wait(unfinished, timeout=2)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)

    def _index(self, found: list[RpcFunctionMetadata]) -> None:
        """Make listeners of the worker's functions; those that cannot be run are said to be in error."""
        if not found:
            raise AppLoadError(
                f"No job functions found: there is no function in {self._options.app / 'function_app.py'}."
            )
        timers = TimerState(self._options.state_directory / f"timers-{self._id}.json")
        for metadata in found:
            try:
                function = read_function(metadata, self._settings)
                self._listen(function, timers)
            except (FunctionInError, ConfigurationError) as error:
                self._refuse(metadata.name, str(error))
            else:
                self._functions.append(function)

    def _listen(self, function: Function, timers: TimerState) -> None:
        for output in function.outputs.values():
            if output["type"] == "queue":
                self._storage.connection(output.get("connection"))
        if function.type == "httpTrigger":
            check_route(function, self._functions)
            return
        if function.retry is not None and function.type != "timerTrigger":
            self._log.warning(
                "The retry policy has no effect: only timers are retried by the host.", function=function.name
            )
        if function.type == "timerTrigger":
            timer = TimerListener(function, self._invoker, self._log, timers)
            if not function.disabled:
                self._timers[function.name] = timer
        elif function.type == "queueTrigger":
            connection = self._storage.connection(function.trigger.get("connection"))
            if not function.disabled:
                self._queues[function.name] = QueueListener(
                    function,
                    connection,
                    self._invoker,
                    self._log,
                    self._config.queues,
                    lease=self._options.queue_lease,
                )

    def _refuse(self, name: str, reason: str) -> None:
        self._in_error[name] = reason
        self._log.error(f"The '{name}' function is in error: {reason}")

    def _front_end(self) -> HttpFrontEnd:
        front_end = HttpFrontEnd(
            [
                function
                for function in self._functions
                if function.type == "httpTrigger" and not function.disabled
            ],
            self._config.route_prefix,
            self._invoker,
            self._log,
            key=self._options.key,
            describe_host=self._describe,
            describe_functions=self._describe_functions,
            run_now=self._run_now,
        )
        for name, reason in front_end.in_error.items():
            self._refuse(name, reason)
        self._functions = [
            function for function in self._functions if function.name not in front_end.in_error
        ]
        return front_end

    def _url(self, function: Function) -> str:
        return "/".join(filter(None, (self._address, self._config.route_prefix, function.route)))

    def _print_functions(self, front_end: HttpFrontEnd) -> None:
        lines = ["", "Functions:", ""]
        for function in sorted(
            self._functions, key=lambda function: (function.type != "httpTrigger", function.name)
        ):
            what = function.type
            if function.type == "httpTrigger":
                methods = f"[{','.join(function.methods)}] " if function.methods else ""
                what = methods + self._url(function)
            lines += [f"        {function.name}: {what}{' (disabled)' if function.disabled else ''}", ""]
        if not front_end.routes:
            lines += ["        (no HTTP function)", ""]
        if self._in_error:
            lines += [f"In error, see above: {', '.join(sorted(self._in_error))}", ""]
        if self._options.key is not None:
            lines += [f"Function key: {self._options.key}", ""]
        lines += [f"Listening on {self._address} - Ctrl-C stops.", ""]
        print("\n".join(lines), flush=True)

    def _describe(self) -> dict[str, Any]:
        """What ``GET /admin/host/status`` says."""
        return {
            "id": self._id,
            "state": self._state,
            "version": "local",
            "instanceId": self._instance_id,
            "computerName": platform.node(),
            "processUptime": round((time.monotonic() - self._started) * 1000),
            "processId": os.getpid(),
            "workers": [{"pid": worker.pid, "running": worker.running} for worker in self._workers.workers],
            "running": self._invoker.running,
            "errors": [
                f"The '{name}' function is in error: {reason}" for name, reason in self._in_error.items()
            ],
        }

    def _describe_functions(self) -> list[dict[str, Any]]:
        """What ``GET /admin/functions`` says."""
        return [
            {
                "name": function.name,
                "type": function.type,
                "language": "python",
                "invoke_url_template": self._url(function) if function.type == "httpTrigger" else None,
                "href": f"{self._address}/admin/functions/{function.name}",
                "isDisabled": function.disabled,
                "config": {"bindings": list(function.bindings)},
            }
            for function in self._functions
        ]

    def _run_now(self, name: str, given: str) -> bool:
        """Run a timer or a queue function at once; whether there is one by this name."""
        wanted = name.lower()
        for function in self._functions:
            if function.name.lower() != wanted:
                continue
            if function.name in self._timers:
                self._in_background(
                    self._timers[function.name].run(
                        "This function was programmatically called via the host APIs."
                    )
                )
                return True
            if function.name in self._queues:
                self._in_background(self._queues[function.name].run_now(given))
                return True
        return False

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def kill(self) -> None:
        """End the workers at once."""
        self._workers.kill()


async def _run(options: Options) -> None:
    config = read_host_json(options.app)
    settings = AppSettings.read(options.app)
    log = HostLog(options.log_file)
    log.set_levels(config.log_levels)
    listening = _bind(options.host, options.port)
    options = replace(options, port=listening.getsockname()[1])
    host = FunctionsHost(options, config, settings, log)
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():  # asked twice: at once
            host.kill()
            os._exit(130)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    with contextlib.closing(listening):
        await host.serve(listening, stop)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a host until it is stopped; 1 if the app cannot be run."""
    options = parse_options(arguments)
    logging.getLogger("azure").setLevel(logging.WARNING)
    try:
        asyncio.run(_run(options))
    except (ConfigurationError, AppLoadError) as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
