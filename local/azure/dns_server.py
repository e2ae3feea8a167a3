"""DNS over UDP and TCP on one port of this machine: a fleet's host names resolve without a network."""

import asyncio
from contextlib import suppress

from local.azure.resolver import Resolver

HOST = "127.0.0.1"
"""It passes questions on, so it is for this machine alone, whatever address ARM listens on."""
IDLE_SECONDS = 10
"""How long a TCP connection may wait for its next question."""
_TRIES = 10


class DnsServer:
    """Serves what a resolver answers, from `start` to `stop`."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, port: int) -> int:
        """Listen on a port, a free one for 0, and return it; raises OSError if it is taken."""
        tries = 1 if port else _TRIES  # a port that is free for UDP need not be so for TCP
        while True:
            tries -= 1
            await self._listen_for_datagrams(port)
            try:
                await self._listen_for_streams()
            except OSError:
                self._transport.close()
                if not tries:
                    raise
            else:
                return self._port

    async def stop(self) -> None:
        """Stop listening, and leave open questions without an answer."""
        self._transport.close()
        self._server.close()
        self._server.abort_clients()
        for task in self._tasks:
            task.cancel()
        await self._server.wait_closed()

    async def _listen_for_datagrams(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self), local_addr=(HOST, port)
        )
        self._port: int = self._transport.get_extra_info("sockname")[1]

    async def _listen_for_streams(self) -> None:
        self._server = await asyncio.start_server(self._converse, HOST, self._port, reuse_address=True)

    def answer_later(self, question: bytes, address: tuple[str, int]) -> None:
        """Answer a datagram once its answer is known; others are not kept waiting."""
        task = asyncio.create_task(self._answer(question, address))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, question: bytes, address: tuple[str, int]) -> None:
        answer = await self._resolver.respond(question, stream=False)
        if answer is not None:
            self._transport.sendto(answer, address)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            while True:
                async with asyncio.timeout(IDLE_SECONDS):
                    size = int.from_bytes(await reader.readexactly(2))
                    question = await reader.readexactly(size)
                answer = await self._resolver.respond(question, stream=True)
                if answer is not None:
                    writer.write(len(answer).to_bytes(2) + answer)
                    await writer.drain()
        writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.answer_later(data, addr)
