"""The worker half of Azure Functions: a process that loads a function app and runs its functions.

Microsoft's own ``azure_functions_runtime`` does both; this module is the thin shell around it that the proxy
worker is in Azure: it reads requests from the host, hands each to the library's ``handle_event``, and sends
what comes back. It is started by the host (``python -m local.worker APP_DIRECTORY``) with pipes for standard
input and output, which carry the messages of :mod:`local.rpc`; what the app prints or logs becomes messages
too. When the host goes away, and the pipe with it, the worker ends itself.
"""

import asyncio
import contextvars
import faulthandler
import io
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from azure_functions_runtime import handle_event, invocation_id_cv, start_threadpool_executor

from local import rpc

_invocation: contextvars.ContextVar[str] = contextvars.ContextVar("invocation", default="")


def _current_invocation() -> str:
    """The run that the caller belongs to: ours in the event loop, the library's in its threads."""
    return _invocation.get() or invocation_id_cv.get() or ""


class _Channel:
    """The pipe to the host. Messages may be sent from any thread, and are out before ``send`` returns."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def send(self, message: rpc.Message) -> None:
        """Send a message, whole; with the host gone there is nobody left to work for."""
        self.send_bytes(rpc.pack(message))

    def send_bytes(self, data: bytes) -> None:
        """Send a message that is already bytes."""
        view = memoryview(data)
        with self._lock:
            try:
                while view:
                    view = view[os.write(self._descriptor, view) :]
            except BrokenPipeError:
                os._exit(0)


class _LogHandler(logging.Handler):
    """Sends each log record to the host."""

    def __init__(self, channel: _Channel) -> None:
        super().__init__()
        self._channel = channel
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        try:
            text = self.format(record)
        except Exception as error:  # noqa: BLE001 (a bad format string is the app's, and must not end it)
            text = f"{record.msg!r} cannot be formatted with {record.args!r}: {error}"
        self._channel.send(
            rpc.RpcLog(
                category=record.name, level=record.levelno, message=text, invocation_id=_current_invocation()
            )
        )


class _PrintedLines(io.RawIOBase):
    """Where ``sys.stdout`` and ``sys.stderr`` write to: each line goes to the host as a message."""

    def __init__(self, channel: _Channel, name: str, descriptor: int) -> None:
        self._channel = channel
        self._category = name
        self._descriptor = descriptor
        self._of_thread = threading.local()

    @property
    def name(self) -> str:
        """``stdout`` or ``stderr``."""
        return self._category

    def writable(self) -> bool:
        """True."""
        return True

    def fileno(self) -> int:
        """The descriptor that processes started by the app may inherit."""
        return self._descriptor

    def write(self, data: Any, /) -> int:
        """Send the lines that are complete, keep the rest."""
        data = bytes(data)
        pending: bytes = getattr(self._of_thread, "pending", b"") + data
        lines, newline, self._of_thread.pending = pending.rpartition(b"\n")
        if newline:
            self._channel.send(
                rpc.RpcLog(
                    category=self._category,
                    level=logging.INFO,
                    message=lines.decode("utf-8", "replace"),
                    invocation_id=_current_invocation(),
                )
            )
        return len(data)


def _text(lines: _PrintedLines) -> io.TextIOWrapper:
    return io.TextIOWrapper(lines, encoding="utf-8", errors="backslashreplace", write_through=True)


def _start_reading(
    descriptor: int, loop: asyncio.AbstractEventLoop, deliver: Callable[[rpc.Message], None]
) -> None:
    """Read messages in a thread, so that a function that blocks the loop does not hide the host's end."""

    def read() -> None:
        with os.fdopen(descriptor, "rb") as stream:
            while len(head := stream.read(rpc.LENGTH.size)) == rpc.LENGTH.size:
                message = rpc.unpack(stream.read(*rpc.LENGTH.unpack(head)))
                loop.call_soon_threadsafe(deliver, message)
        os._exit(0)  # the host is gone, or wants this process gone

    threading.Thread(target=read, name="from-host", daemon=True).start()


class _Worker:
    """Answers the host's requests with Microsoft's library."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel
        self._requests: asyncio.Queue[rpc.Message] = asyncio.Queue()
        self._runs: dict[str, asyncio.Task[None]] = {}

    def deliver(self, message: rpc.Message) -> None:
        """Take a message from the host."""
        self._requests.put_nowait(message)

    async def serve(self) -> None:
        """Answer requests, for ever: runs side by side, all else in order."""
        while True:
            match await self._requests.get():
                case rpc.WorkerInitRequest() as request:
                    await self._answer(handle_event.worker_init_request, worker_init_request=request)
                case rpc.FunctionsMetadataRequest() as request:
                    await self._answer(
                        handle_event.functions_metadata_request, functions_metadata_request=request
                    )
                case rpc.FunctionLoadRequest() as request:
                    await self._answer(handle_event.function_load_request, function_load_request=request)
                case rpc.InvocationRequest() as request:
                    run = asyncio.create_task(self._run(request), name=request.invocation_id)
                    self._runs[request.invocation_id] = run
                case rpc.InvocationCancel(invocation_id=invocation_id):
                    if found := self._runs.get(invocation_id):
                        found.cancel()

    async def _answer(self, handler: Callable[[Any], Awaitable[Any]], **request: rpc.Message) -> None:
        envelope = SimpleNamespace(
            request=SimpleNamespace(**request), properties={"host": "127.0.0.1", "protos": rpc}
        )
        self._channel.send(await handler(envelope))

    async def _run(self, request: rpc.InvocationRequest) -> None:
        _invocation.set(request.invocation_id)
        envelope = SimpleNamespace(request=SimpleNamespace(invocation_request=request))
        try:
            response = await handle_event.invocation_request(envelope)
            answer = rpc.pack(response)
        except asyncio.CancelledError:
            answer = _failure(request, "Cancelled: the host no longer waits for this invocation")
        except Exception as error:  # noqa: BLE001 (what a function returned may not fit the wire)
            answer = _failure(request, f"{type(error).__name__}: {error}")
        finally:
            self._runs.pop(request.invocation_id, None)
        self._channel.send_bytes(answer)


def _failure(request: rpc.InvocationRequest, message: str) -> bytes:
    return rpc.pack(
        rpc.InvocationResponse(
            invocation_id=request.invocation_id,
            result=rpc.StatusResult(rpc.StatusResult.Failure, rpc.RpcException(message=message)),
        )
    )


def _take_over_standard_streams() -> tuple[int, int]:
    """Keep both pipes for messages; what else writes to standard output now writes to standard error."""
    from_host, to_host = os.dup(0), os.dup(1)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return from_host, to_host


async def _serve(from_host: int, channel: _Channel) -> None:
    worker = _Worker(channel)
    _start_reading(from_host, asyncio.get_running_loop(), worker.deliver)
    await worker.serve()


def main(arguments: list[str]) -> None:
    """Serve the host until it goes away."""
    [app_directory] = arguments
    from_host, to_host = _take_over_standard_streams()
    faulthandler.enable(file=2)
    channel = _Channel(to_host)
    sys.stdout = _text(_PrintedLines(channel, "stdout", 1))
    sys.stderr = _text(_PrintedLines(channel, "stderr", 2))

    debugging = os.environ.get("PYTHON_ENABLE_DEBUG_LOGGING", "").strip().lower() in {
        "1",
        "true",
        "t",
        "yes",
        "y",
    }
    root = logging.getLogger()
    root.addHandler(_LogHandler(channel))
    root.setLevel(logging.DEBUG if debugging else logging.INFO)
    if not debugging:
        # The SDK logs four lines for every request it makes; its own name for the chatter.
        logging.getLogger("azure.core.pipeline.policies.http_logging_policy").setLevel(logging.WARNING)

    os.chdir(app_directory)
    sys.path[0] = app_directory  # where ``-m`` had put the directory this module was found from
    sys.argv = [str(Path(app_directory) / "function_app.py")]
    start_threadpool_executor()
    asyncio.run(_serve(from_host, channel))


if __name__ == "__main__":
    main(sys.argv[1:])
