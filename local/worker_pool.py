"""The host's end of its workers: processes that are started, spoken to, and started again when they die."""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from local import rpc
from local.host_log import HostLog

START_TIMEOUT = 60.0
"""Seconds a worker may take to load the app: what the host in Azure grants (``workers.python`` process
startup)."""

_RESTART_DELAYS = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before a dead worker is started again, by how often it has died in a row."""
_STABLE_AFTER = 60.0
"""Seconds of life after which earlier deaths are forgotten."""
_LINE_LIMIT = 1 << 20
_PROJECT = Path(__file__).resolve().parent.parent
_LIBRARY_LOGGER = "azure.functions"


class WorkerDiedError(Exception):
    """The worker went away while it was asked something."""


class AppLoadError(Exception):
    """The worker cannot load the app; the message is the worker's own, traceback and all."""


class Worker:
    """One worker process."""

    def __init__(
        self, process: asyncio.subprocess.Process, log: HostLog, name_run: Callable[[str], str | None]
    ) -> None:
        self._process = process
        self._log = log
        self._name_run = name_run
        self._runs: dict[str, asyncio.Future[rpc.InvocationResponse]] = {}
        self._answers: asyncio.Queue[rpc.Message | None] = asyncio.Queue()
        self._readers = [
            asyncio.create_task(self._read_messages(), name=f"worker {process.pid} messages"),
            asyncio.create_task(self._read_text(), name=f"worker {process.pid} text"),
        ]
        self.started_at = time.monotonic()
        self.last_words: list[str] = []
        """What it wrote to standard error lately, past its logging: an interpreter's crash, say."""

    @classmethod
    async def start(
        cls, app: Path, environment: Mapping[str, str], log: HostLog, name_run: Callable[[str], str | None]
    ) -> "Worker":
        """Start a process that knows no app yet."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "local.worker",
            str(app),
            cwd=_PROJECT,
            env=dict(environment),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT,
            start_new_session=True,  # Ctrl-C at the terminal is for the host, which lets the workers finish
        )
        return cls(process, log, name_run)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> int:
        """How many invocations it is busy with."""
        return len(self._runs)

    async def load(self, app: Path) -> list[rpc.RpcFunctionMetadata]:
        """Have it load the app, and say which functions there are."""
        try:
            async with asyncio.timeout(START_TIMEOUT):
                return await self._load(app)
        except TimeoutError:
            raise AppLoadError(f"The worker did not load the app within {START_TIMEOUT:.0f} s.") from None

    async def _load(self, app: Path) -> list[rpc.RpcFunctionMetadata]:
        init = await self._ask(rpc.WorkerInitRequest(function_app_directory=str(app)))
        if isinstance(init, rpc.WorkerInitResponse):
            _raise_failure(init.result)
        metadata = await self._ask(rpc.FunctionsMetadataRequest(function_app_directory=str(app)))
        if not isinstance(metadata, rpc.FunctionMetadataResponse):
            raise AppLoadError(f"The worker answered {metadata!r} when asked for its functions.")
        _raise_failure(metadata.result)
        functions = metadata.function_metadata_results or []
        for function in functions:
            loaded = await self._ask(rpc.FunctionLoadRequest(function_id=function.function_id))
            if isinstance(loaded, rpc.FunctionLoadResponse):
                _raise_failure(loaded.result)
        return functions

    async def _ask(self, message: rpc.Message) -> rpc.Message:
        await self._send(message)
        answer = await self._answers.get()
        if answer is None:
            await self._process.wait()
            words = "\n".join(self.last_words)
            raise AppLoadError(f"The worker process {self.ending} while it loaded the app.\n{words}".rstrip())
        return answer

    async def invoke(self, request: rpc.InvocationRequest) -> rpc.InvocationResponse:
        """Run a function; cancelled here, it is cancelled there."""
        answer: asyncio.Future[rpc.InvocationResponse] = asyncio.get_running_loop().create_future()
        self._runs[request.invocation_id] = answer
        try:
            await self._send(request)
            return await answer
        except asyncio.CancelledError:
            with contextlib.suppress(WorkerDiedError):
                await self._send(rpc.InvocationCancel(request.invocation_id))
            raise
        finally:
            self._runs.pop(request.invocation_id, None)

    async def _send(self, message: rpc.Message) -> None:
        stdin = self._process.stdin
        if stdin is None or stdin.is_closing():
            raise WorkerDiedError(f"Worker process {self.pid} {self.ending}.")
        stdin.write(rpc.pack(message))
        try:
            await stdin.drain()
        except ConnectionError as error:
            raise WorkerDiedError(f"Worker process {self.pid} is gone.") from error

    async def _read_messages(self) -> None:
        stdout = self._process.stdout
        if stdout is None:
            return
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                [length] = rpc.LENGTH.unpack(await stdout.readexactly(rpc.LENGTH.size))
                self._take(rpc.unpack(await stdout.readexactly(length)))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 5)
        self._answers.put_nowait(None)
        for answer in self._runs.values():
            if not answer.done():
                answer.set_exception(WorkerDiedError(f"Worker process {self.pid} {self.ending}."))

    def _take(self, message: rpc.Message) -> None:
        match message:
            case rpc.RpcLog():
                self._write_log(message)
            case rpc.InvocationResponse(invocation_id=invocation_id):
                answer = self._runs.get(invocation_id)
                if answer is not None and not answer.done():
                    answer.set_result(message)
            case _:
                self._answers.put_nowait(message)

    def _write_log(self, record: rpc.RpcLog) -> None:
        level = record.level
        if record.category == _LIBRARY_LOGGER and level < logging.WARNING:
            level = logging.DEBUG  # the library's account of its own work, not the app's
        self._log.write(level, record.message, function=self._name_run(record.invocation_id), user=True)

    async def _read_text(self) -> None:
        stderr = self._process.stderr
        if stderr is None:
            return
        while line := await stderr.readline():
            text = line.decode("utf-8", "replace").rstrip()
            self.last_words = [*self.last_words[-50:], text]
            self._log.warning(f"[worker {self.pid}] {text}")

    @property
    def ending(self) -> str:
        """How the process ended, in words."""
        code = self._process.returncode
        if code is None:
            return "is gone"
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"exited with code {code}"

    async def wait(self) -> None:
        """Until the process is gone, and all it wrote is read."""
        await self._process.wait()
        await asyncio.wait(self._readers, timeout=2)

    async def stop(self) -> None:
        """End the process, gently if it lets itself be, and whatever it has started."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 2)
        self.kill()
        await self.wait()
        for reader in self._readers:
            reader.cancel()

    def kill(self) -> None:
        """End the process and its children at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def _raise_failure(result: rpc.StatusResult) -> None:
    if result.status != rpc.StatusResult.Success:
        error = result.exception or rpc.RpcException("no reason given")
        raise AppLoadError(
            f"Result: Failure\nException: {error.message}\nStack: {error.stack_trace}".rstrip()
        )


class WorkerPool:
    """The workers of an app; each that dies is started again."""

    def __init__(self, app: Path, environment: Mapping[str, str], count: int, log: HostLog) -> None:
        self._app = app
        self._environment = environment
        self._count = count
        self._log = log
        self._workers: dict[int, Worker] = {}
        self._turn = itertools.count()
        self._changed = asyncio.Condition()
        self._keepers: list[asyncio.Task[None]] = []
        self._stopping = False
        self._run_names: dict[str, str] = {}

    async def start(self) -> list[rpc.RpcFunctionMetadata]:
        """Start them all; the first says which functions there are, or why it cannot load the app."""
        first, functions = await self._start_one()
        self._workers[0] = first
        self._keepers = [
            asyncio.create_task(self._keep(slot, first if slot == 0 else None), name=f"worker slot {slot}")
            for slot in range(self._count)
        ]
        return functions

    async def _start_one(self) -> tuple[Worker, list[rpc.RpcFunctionMetadata]]:
        worker = await Worker.start(self._app, self._environment, self._log, self._run_names.get)
        try:
            functions = await worker.load(self._app)
        except BaseException as error:
            await worker.stop()
            if isinstance(error, WorkerDiedError):
                words = "\n".join(worker.last_words)
                raise AppLoadError(f"{error}\n{words}".rstrip()) from error
            raise
        return worker, functions

    async def _keep(self, slot: int, worker: Worker | None) -> None:
        deaths = 0
        while not self._stopping:
            if worker is None:
                try:
                    worker, _ = await self._start_one()
                except (AppLoadError, WorkerDiedError, OSError) as error:
                    self._log.error(f"A worker process cannot be started. {error}")
            if worker is not None:
                async with self._changed:
                    self._workers[slot] = worker
                    self._changed.notify_all()
                await worker.wait()
                del self._workers[slot]
                worker.kill()  # its children, if it left any
                if self._stopping:
                    return
                if time.monotonic() - worker.started_at > _STABLE_AFTER:
                    deaths = 0
                self._log.error(f"Worker process {worker.pid} {worker.ending}; starting another.")
            await asyncio.sleep(_RESTART_DELAYS[min(deaths, len(_RESTART_DELAYS) - 1)])
            deaths += 1
            worker = None

    async def invoke(self, function: str, request: rpc.InvocationRequest) -> rpc.InvocationResponse:
        """Run a function on the next worker in turn, waiting for one if all are down."""
        self._run_names[request.invocation_id] = function
        try:
            worker = await self._next_worker()
            return await worker.invoke(request)
        finally:
            # Its last lines may still be on their way: responses and log lines share one pipe, in order, but
            # threads that the function left behind may log after it.
            asyncio.get_running_loop().call_later(5, self._run_names.pop, request.invocation_id, None)

    async def _next_worker(self) -> Worker:
        try:
            async with asyncio.timeout(START_TIMEOUT), self._changed:
                await self._changed.wait_for(lambda: self._workers)
        except TimeoutError:
            raise WorkerDiedError(f"No worker process has come up within {START_TIMEOUT:.0f} s.") from None
        ready: Sequence[Worker] = [self._workers[slot] for slot in sorted(self._workers)]
        return ready[next(self._turn) % len(ready)]

    @property
    def workers(self) -> list[Worker]:
        """Those that are up now."""
        return [self._workers[slot] for slot in sorted(self._workers)]

    async def stop(self) -> None:
        """End them all."""
        self._stopping = True
        await asyncio.gather(*(worker.stop() for worker in self.workers))
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    def kill(self) -> None:
        """End them all at once."""
        self._stopping = True
        for worker in self.workers:
            worker.kill()
