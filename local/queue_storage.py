"""Azure Storage queues as the host uses them: connections by setting, patience with outages, encoding."""

import asyncio
import base64
import binascii
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from local.app_config import AppSettings, ConfigurationError
from local.host_log import HostLog

PATIENCE = 120.0
"""Seconds for which the end of an invocation (its outputs, its message's fate) is tried again in an
outage."""

_RETRY_DELAYS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def passes(error: Exception) -> bool:
    """Whether an error is likely to go away by itself: no connection, throttling, a fault of the service."""
    if isinstance(error, HttpResponseError):
        return error.status_code in (408, 429) or (error.status_code or 0) >= 500
    return isinstance(error, (ServiceRequestError, ServiceResponseError, OSError, TimeoutError))


def encode(payload: str | bytes, *, base64_encoded: bool) -> str:
    """The text of a message."""
    if base64_encoded:
        return base64.b64encode(payload.encode() if isinstance(payload, str) else payload).decode()
    return payload if isinstance(payload, str) else payload.decode()


def decode(text: str, *, base64_encoded: bool) -> str | bytes:
    """What a message's text says; a :class:`ValueError` where base64 is expected and is not what it is."""
    if not base64_encoded:
        return text
    try:
        payload = base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return payload


def _as_text(token: Any) -> str:
    """A JSON value as ``JToken.ToString()`` of Json.NET writes it."""
    if isinstance(token, str):
        return token
    if token is None:
        return ""
    if isinstance(token, bool):
        return str(token)  # "True", as .NET has it
    return json.dumps(token, ensure_ascii=False, indent=2)


def split(text: str) -> list[str]:
    """The messages that a text given to a queue output makes.

    One, as a rule. But where the text is JSON the host parses it: each element of an array becomes a message
    of its own, and an object is written anew, indented (``FunctionBinding.ReadAsEnumerable`` in
    Azure/azure-functions-host).
    """
    stripped = text.strip()
    if (stripped[:1], stripped[-1:]) not in {("{", "}"), ("[", "]")}:
        return [text]
    try:
        token = json.loads(stripped)
    except ValueError:
        return [text]
    return [_as_text(element) for element in (token if isinstance(token, list) else [token])]


class Connection:
    """One storage account: its queues, and whether it can be reached."""

    def __init__(self, name: str, service: QueueServiceClient, log: HostLog) -> None:
        self.name = name
        self._service = service
        self._log = log
        self._away = False
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def queue(self, name: str) -> QueueClient:
        """The client of one queue."""
        return self._service.get_queue_client(name)

    def failed(self, error: Exception) -> None:
        """Say that the account cannot be reached, once for each time that it goes away."""
        if not self._away:
            self._away = True
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            self._log.warning(f"Storage ({self.name}) cannot be reached, trying again until it can: {reason}")

    def answered(self) -> None:
        """Note that the account answers."""
        if self._away:
            self._away = False
            self._log.info(f"Storage ({self.name}) answers again.")

    async def patiently[T](self, action: Callable[[], Awaitable[T]], *, patience: float = PATIENCE) -> T:
        """Do something, again and again as long as an outage lasts, but not for ever."""
        give_up = time.monotonic() + patience
        attempt = 0
        while True:
            try:
                result = await action()
            except (AzureError, OSError, TimeoutError) as error:
                if not passes(error):
                    self.answered()
                    raise
                self.failed(error)
                delay = _RETRY_DELAYS[min(attempt, len(_RETRY_DELAYS) - 1)]
                if time.monotonic() + delay > give_up:
                    raise
            else:
                self.answered()
                return result
            attempt += 1
            await asyncio.sleep(delay)

    async def send(self, queue: str, text: str) -> None:
        """Put a message on a queue, which is made if it is not there, and wake whoever waits for one."""

        async def put() -> None:
            client = self.queue(queue)
            try:
                await client.send_message(text)
            except ResourceNotFoundError:
                await create(client)
                await client.send_message(text)

        await self.patiently(put)
        for event in self._waiting.get(queue, ()):
            event.set()

    @contextlib.contextmanager
    def woken(self, queue: str) -> Any:
        """An event that is set when this host itself puts a message on the queue."""
        event = asyncio.Event()
        self._waiting.setdefault(queue, set()).add(event)
        try:
            yield event
        finally:
            self._waiting[queue].discard(event)


async def create(queue: QueueClient) -> None:
    """Make a queue, if it is not there."""
    with contextlib.suppress(ResourceExistsError):
        await queue.create_queue()


class Storage:
    """The storage accounts an app's bindings name."""

    def __init__(self, settings: AppSettings, log: HostLog) -> None:
        self._settings = settings
        self._log = log
        self._connections: dict[str, Connection] = {}
        self._services: list[QueueServiceClient] = []
        self._credential: Any = None

    def connection(self, name: str | None) -> Connection:
        """The account of a binding's ``connection``: a setting, or the prefix of settings, by that name.

        As the extension has it, ``Storage`` may stand for ``AzureWebJobsStorage``, and that is also the
        default.
        """
        name = name or "AzureWebJobsStorage"
        for candidate in (f"AzureWebJobs{name}", name):
            if candidate not in self._connections and (service := self._open(candidate)) is not None:
                self._services.append(service)
                self._connections[candidate] = Connection(candidate, service, self._log)
            if candidate in self._connections:
                return self._connections[candidate]
        raise ConfigurationError(
            f"Storage account connection string '{name}' does not exist. "
            "Make sure that it is a defined App Setting."
        )

    def _open(self, name: str) -> QueueServiceClient | None:
        # The host retries by itself, and says so; the SDK's own retries would only hide an outage.
        policy: dict[str, Any] = {"retry_total": 0, "connection_timeout": 5, "read_timeout": 30}
        if text := self._settings.get(name):
            try:
                return QueueServiceClient.from_connection_string(text, **policy)
            except ValueError as error:
                raise ConfigurationError(f"The connection string '{name}' cannot be used: {error}") from error
        account = self._settings.get(f"{name}__accountName")
        address = self._settings.get(f"{name}__queueServiceUri") or (
            account and f"https://{account}.queue.core.windows.net"
        )
        if not address:
            return None
        if self._credential is None:
            from azure.identity.aio import DefaultAzureCredential

            self._credential = DefaultAzureCredential()
        try:
            return QueueServiceClient(address, credential=self._credential, **policy)
        except ValueError as error:
            raise ConfigurationError(
                f"The address of '{name}', {address}, cannot be used: {error}"
            ) from error

    async def close(self) -> None:
        """Close every connection."""
        for service in self._services:
            await service.close()
        if self._credential is not None:
            await self._credential.close()


async def first_page[T](pages: AsyncIterator[AsyncIterator[T]]) -> list[T]:
    """What the first request of a paged listing gives."""
    try:
        page = await anext(pages)
    except StopAsyncIteration:
        return []
    return [item async for item in page]
