"""Queue triggers: messages are polled, run, and then deleted, released or moved to the poison queue.

The rules are those of ``QueueListener`` and ``QueueProcessor`` in Microsoft.Azure.WebJobs.Extensions.Storage:
a message is hidden for ten minutes and the hiding renewed at half of it; on success it is deleted; on failure
it becomes visible after ``visibilityTimeout``, until it has been tried ``maxDequeueCount`` times and moves to
``<queue>-poison``. A message of a poison queue that fails stays hidden until its ten minutes are over.
"""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime

from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.storage.queue import QueueMessage

from local import rpc
from local.app_config import QueueOptions
from local.functions import Function
from local.host_log import HostLog
from local.invocation import Invoker
from local.queue_storage import Connection, create, decode, first_page, passes

LEASE = 600.0
"""Seconds a message is hidden while it is worked on."""

_MINIMUM_POLLING_INTERVAL = 0.1
_POISON_SUFFIX = "-poison"


def _iso(moment: datetime | None) -> str:
    """A moment as Json.NET writes a DateTimeOffset, which is what the worker's queue converter parses."""
    return "" if moment is None else moment.astimezone(UTC).isoformat()


def message_metadata(
    body: str | bytes,
    *,
    id: str,  # noqa: A002 (the field's name)
    dequeue_count: int,
    inserted: datetime | None,
    expires: datetime | None,
    next_visible: datetime | None,
    pop_receipt: str,
) -> dict[str, rpc.TypedData]:
    """What the worker is told of a message beside its body."""
    values: dict[str, str | int] = {
        "Id": id,
        "DequeueCount": dequeue_count,
        "InsertionTime": _iso(inserted),
        "ExpirationTime": _iso(expires),
        "NextVisibleTime": _iso(next_visible),
        "PopReceipt": pop_receipt,
    }
    metadata = {name: rpc.TypedData(json=json.dumps(value)) for name, value in values.items()}
    metadata["QueueTrigger"] = message_body(body)
    return metadata


def message_body(body: str | bytes) -> rpc.TypedData:
    """A message's body as the worker gets it: text, unless it is none."""
    return rpc.TypedData(string=body) if isinstance(body, str) else rpc.TypedData(bytes=body)


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    """Let pass that a message is not ours any more: someone else has it by now, or has finished it."""
    try:
        yield
    except HttpResponseError as error:
        code = getattr(error, "error_code", None)
        if not isinstance(error, ResourceNotFoundError) and code != "PopReceiptMismatch":
            raise


class QueueListener:
    """Polls the queue of one function."""

    def __init__(
        self,
        function: Function,
        connection: Connection,
        invoker: Invoker,
        log: HostLog,
        options: QueueOptions,
        *,
        lease: float = LEASE,
    ) -> None:
        self._function = function
        self._connection = connection
        self._invoker = invoker
        self._log = log
        self._options = options
        self._lease = lease
        self._name = str(function.trigger["queueName"]).lower()
        self._queue = connection.queue(self._name)
        self._poison = None if self._name.endswith(_POISON_SUFFIX) else self._name + _POISON_SUFFIX
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._complained = False

    async def listen(self) -> None:
        """Poll until cancelled."""
        interval = _MINIMUM_POLLING_INTERVAL
        longest = self._options.max_polling_interval.total_seconds()
        with self._connection.woken(self._name) as woken:
            while True:
                woken.clear()
                found = await self._poll()
                if found:
                    interval = _MINIMUM_POLLING_INTERVAL
                    while len(self._running) > self._options.new_batch_threshold:
                        await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                    continue
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), interval)
                interval = _MINIMUM_POLLING_INTERVAL if woken.is_set() else min(interval * 2, longest)

    async def _poll(self) -> bool:
        """Fetch a batch and start on it; whether there was any."""
        try:
            messages = await first_page(
                self._queue.receive_messages(
                    messages_per_page=self._options.batch_size, visibility_timeout=max(1, round(self._lease))
                ).by_page()
            )
        except ResourceNotFoundError:
            self._connection.answered()
            await self._create()
            return False
        except (AzureError, OSError, TimeoutError) as error:
            self._complain(error)
            return False
        self._connection.answered()
        self._complained = False
        for message in messages:
            task = asyncio.create_task(self._process(message), name=f"{self._name} {message.id}")
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return bool(messages)

    async def _create(self) -> None:
        try:
            await create(self._queue)
        except (AzureError, OSError, TimeoutError) as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        """Say once why the queue cannot be read; it is tried again all the same."""
        if passes(error):
            self._connection.failed(error)
        elif not self._complained:
            self._complained = True
            self._log.error(f"The queue '{self._name}' cannot be read: {error}", function=self._function.name)

    async def _process(self, message: QueueMessage) -> None:
        try:
            await self._handle(message)
        except (AzureError, OSError, TimeoutError) as error:
            self._log.error(
                f"The message {message.id} of queue '{self._name}' is left as it is, and comes back when its "
                f"{self._lease:.0f} s are over: {error}",
                function=self._function.name,
            )

    async def _handle(self, message: QueueMessage) -> None:
        try:
            body = decode(message.content, base64_encoded=self._options.base64_encoded)
        except ValueError:
            self._log.error(
                "Message decoding has failed! Check MessageEncoding settings. "
                f"The message {message.id} of queue '{self._name}' is not base64, as messageEncoding has it.",
                function=self._function.name,
            )
            await self._move_to_poison(message)
            return
        if (message.dequeue_count or 0) > self._options.max_dequeue_count:
            await self._move_to_poison(message)
            return
        updating = asyncio.Lock()
        renewal = asyncio.create_task(self._renew(message, updating))
        try:
            run = await self._invoker.run(
                self._function,
                message_body(body),
                reason=f"New queue message detected on '{self._name}'.",
                details=f"MessageId: {message.id}, DequeueCount: {message.dequeue_count}, "
                f"InsertionTime: {_iso(message.inserted_on)}",
                metadata=message_metadata(
                    body,
                    id=message.id,
                    dequeue_count=message.dequeue_count or 0,
                    inserted=message.inserted_on,
                    expires=message.expires_on,
                    next_visible=message.next_visible_on,
                    pop_receipt=message.pop_receipt or "",
                ),
            )
        finally:
            async with updating:  # not in the middle of an update, whose new receipt would be lost
                renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)
        if run.succeeded:
            await self._delete(message)
        elif self._stopping:
            await self._release(message, 0)
        elif (message.dequeue_count or 0) >= self._options.max_dequeue_count:
            await self._move_to_poison(message)
        elif self._poison is not None:
            await self._release(message, round(self._options.visibility_timeout.total_seconds()))

    async def _renew(self, message: QueueMessage, updating: asyncio.Lock) -> None:
        """Keep the message hidden as long as it is worked on."""
        while True:
            await asyncio.sleep(self._lease / 2)
            async with updating:
                with contextlib.suppress(AzureError, OSError, TimeoutError):  # tried again at the next half
                    await self._hide(message, round(self._lease))

    async def _hide(self, message: QueueMessage, seconds: int) -> None:
        updated = await self._queue.update_message(
            message.id, message.pop_receipt, visibility_timeout=seconds
        )
        message.pop_receipt = updated.pop_receipt

    async def _release(self, message: QueueMessage, seconds: int) -> None:
        with _unless_gone():
            await self._connection.patiently(lambda: self._hide(message, seconds))

    async def _delete(self, message: QueueMessage) -> None:
        with _unless_gone():
            await self._connection.patiently(
                lambda: self._queue.delete_message(message.id, message.pop_receipt)
            )

    async def _move_to_poison(self, message: QueueMessage) -> None:
        if self._poison is None:
            return
        self._log.warning(
            f"Message has reached MaxDequeueCount of {self._options.max_dequeue_count}. "
            f"Moving message to queue '{self._poison}'.",
            function=self._function.name,
        )
        await self._connection.send(self._poison, message.content)
        await self._delete(message)

    async def run_now(self, body: str) -> None:
        """Run the function on a message that was never on the queue (``POST /admin/functions/{name}``)."""
        now = datetime.now(UTC)
        await self._invoker.run(
            self._function,
            message_body(body),
            reason="This function was programmatically called via the host APIs.",
            metadata=message_metadata(
                body,
                id="",
                dequeue_count=0,
                inserted=now,
                expires=None,
                next_visible=None,
                pop_receipt="",
            ),
        )

    def stop(self) -> None:
        """Give back at once, from now on, messages whose runs fail: it is the host's end that failed them."""
        self._stopping = True

    @property
    def running(self) -> set[asyncio.Task[None]]:
        """The messages that are being worked on."""
        return set(self._running)
