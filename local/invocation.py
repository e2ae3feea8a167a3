"""One run of a function, from the trigger's data to the messages it puts out."""

import asyncio
import logging
import secrets
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta

from azure.core.exceptions import AzureError

from local import rpc
from local.app_config import ConfigurationError
from local.functions import Function
from local.host_log import HostLog
from local.queue_storage import Storage, encode, split
from local.worker_pool import WorkerDiedError, WorkerPool


def new_trace_parent() -> str:
    """A W3C ``traceparent`` for a trace that starts here."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


@dataclass(frozen=True)
class Run:
    """What a run gave."""

    succeeded: bool
    http: rpc.TypedData | None = None
    """The response, of a function with an HTTP output."""
    error: rpc.RpcException | None = None
    worker_died: bool = False


class Invoker:
    """Runs functions: on a worker, within the time they have, and with their outputs."""

    def __init__(
        self,
        workers: WorkerPool,
        storage: Storage,
        log: HostLog,
        *,
        timeout: timedelta | None,
        base64_encoded: bool,
        instance_id: str,
    ) -> None:
        self._workers = workers
        self._storage = storage
        self._log = log
        self._timeout = timeout
        self._base64_encoded = base64_encoded
        self._instance_id = instance_id
        self.running = 0
        """How many runs there are now."""
        self._idle = asyncio.Event()
        self._idle.set()

    async def idle(self) -> None:
        """Until nothing runs."""
        await self._idle.wait()

    async def run(
        self,
        function: Function,
        value: rpc.TypedData,
        *,
        reason: str,
        details: str = "",
        metadata: dict[str, rpc.TypedData] | None = None,
        trace_parent: str | None = None,
        trace_state: str = "",
        retry: rpc.RetryContext | None = None,
    ) -> Run:
        """Run a function on what its trigger got; a failure is logged, and told by the result."""
        invocation_id = str(uuid.uuid4())
        request = rpc.InvocationRequest(
            invocation_id=invocation_id,
            function_id=function.id,
            input_data=[rpc.ParameterBinding(name=str(function.trigger["name"]), data=value)],
            trigger_metadata=metadata or {},
            trace_context=rpc.RpcTraceContext(
                trace_parent=trace_parent or new_trace_parent(),
                trace_state=trace_state,
                attributes={"HostInstanceId": self._instance_id},
            ),
            retry_context=retry or rpc.RetryContext(),
        )
        self._log.info(
            f"Executing 'Functions.{function.name}' (Reason='{reason}', Id={invocation_id})",
            function=function.name,
        )
        if details:
            self._log.info(f"Trigger Details: {details}", function=function.name)
        start = time.monotonic()
        self.running += 1
        self._idle.clear()
        try:
            run = await self._run(function, request)
        finally:
            self.running -= 1
            if not self.running:
                self._idle.set()
        duration = round((time.monotonic() - start) * 1000)
        ending = "Succeeded" if run.succeeded else "Failed"
        self._log.write(
            logging.INFO if run.succeeded else logging.ERROR,
            f"Executed 'Functions.{function.name}' ({ending}, Id={invocation_id}, Duration={duration}ms)",
            function=function.name,
        )
        if run.error is not None:
            self._log.error(
                f"Exception while executing function: Functions.{function.name}. "
                f"Result: Failure\nException: {run.error.message}\nStack: {run.error.stack_trace}",
                function=function.name,
            )
        return run

    async def _run(self, function: Function, request: rpc.InvocationRequest) -> Run:
        try:
            async with asyncio.timeout(None if self._timeout is None else self._timeout.total_seconds()):
                response = await self._workers.invoke(function.name, request)
        except TimeoutError:
            message = (
                f"Timeout value of {self._timeout} was exceeded by function: Functions.{function.name}. "
                "(functionTimeout in host.json)"
            )
            return Run(succeeded=False, error=rpc.RpcException(f"FunctionTimeoutException: {message}"))
        except WorkerDiedError as error:
            return Run(
                succeeded=False,
                error=rpc.RpcException(f"WorkerProcessExitException: {error}"),
                worker_died=True,
            )
        if response.result.status != rpc.StatusResult.Success:
            return Run(
                succeeded=False, error=response.result.exception or rpc.RpcException("no reason given")
            )
        try:
            return Run(succeeded=True, http=await self._put_out(function, response))
        except (AzureError, ConfigurationError, ValueError, OSError) as error:
            message = (
                f"Error while handling outputs after function Functions.{function.name} returned: {error}"
            )
            return Run(succeeded=False, error=rpc.RpcException(f"{type(error).__name__}: {message}"))

    async def _put_out(self, function: Function, response: rpc.InvocationResponse) -> rpc.TypedData | None:
        """Write the queue outputs, and give back the HTTP one."""
        values = {binding.name: binding.data for binding in response.output_data}
        if response.return_value is not None:
            values["$return"] = response.return_value
        http = None
        for name, value in values.items():
            output = function.outputs.get(name)
            if output is None or value is None:
                continue
            if output["type"] == "http":
                http = value
                continue
            connection = self._storage.connection(output.get("connection"))
            for payload in _payloads(value):
                text = encode(payload, base64_encoded=self._base64_encoded)
                await connection.send(str(output["queueName"]).lower(), text)
        return http


def _payloads(value: rpc.TypedData) -> list[str] | list[bytes]:
    if value.bytes is not None:
        return [value.bytes]
    for text in (value.json, value.string):
        if text is not None:
            return split(text)
    return [str(number) for number in (value.int, value.double) if number is not None]
