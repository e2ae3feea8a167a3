"""What the simulator answers to a DNS message: a fleet's names, and all others as this machine knows them."""

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from local.azure.names import Answer, key

PATIENCE = 3.0
"""Seconds that this machine's own resolver has to answer."""

TTL = 0
"""A name that is changed in its file is to be seen at once, so nobody may remember the answer."""

type Ask = Callable[[str], Awaitable[tuple[str, ...]]]
"""Asks for a name's addresses: none if there is no such name, OSError if that cannot be found out."""


async def ask_machine(name: str) -> tuple[str, ...]:
    """Ask this machine's resolver, with its hosts file and all.

    In a thread that nothing waits for: the event loop's own threads are joined at the end, and a resolver
    that does not answer would hold up the simulator's.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[tuple[str, ...]] = loop.create_future()

    def settle(found: tuple[str, ...], error: OSError | None) -> None:
        if answer.done():  # nobody waits any more
            return
        if error:
            answer.set_exception(error)
        else:
            answer.set_result(found)

    def look() -> None:
        found: tuple[str, ...] = ()
        problem = None
        try:
            found = _addresses(name)
        except OSError as error:
            problem = error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, found, problem)

    threading.Thread(target=look, daemon=True).start()
    return await answer


class Resolver:
    """Answers DNS messages."""

    def __init__(
        self,
        names: Callable[[str], Answer | None],
        *,
        ask: Ask = ask_machine,
        patience: float = PATIENCE,
    ) -> None:
        self._names = names
        self._ask = ask
        self._patience = patience

    async def respond(self, wire: bytes, *, stream: bool) -> bytes | None:
        """The answer to a message, or None if there is to be none.

        Over UDP (not `stream`) what the client cannot take is cut, and marked so that it asks over TCP.
        """
        if len(wire) < 12 or wire[2] & 0x80:  # no header, or an answer: answering those makes loops
            return None
        if (wire[2] >> 3) & 0xF != dns.opcode.QUERY:
            return _refusal(wire, dns.rcode.NOTIMP)
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return _refusal(wire, dns.rcode.FORMERR)
        if len(query.question) != 1:
            return _refusal(wire, dns.rcode.FORMERR)
        response = dns.message.make_response(query, recursion_available=True, our_payload=1232)
        if not await self._answer(response):
            return None
        limit = 65_535 if stream else max(512, query.payload)
        return response.to_wire(max_size=limit, prefer_truncation=True, want_shuffle=False)

    async def _answer(self, response: dns.message.Message) -> bool:
        """Complete a response; False if it is never to be sent."""
        question = response.question[0]
        if question.rdclass != dns.rdataclass.IN:
            response.set_rcode(dns.rcode.REFUSED)
            return True
        answer = self._names(key(question.name))
        if answer is None:
            answer = await self._from_machine(question.name)
        if answer == "timeout":
            return False
        if answer == "servfail":
            response.set_rcode(dns.rcode.SERVFAIL)
        elif answer == ():
            response.set_rcode(dns.rcode.NXDOMAIN)
        else:
            _add(response, question, answer)
        return True

    async def _from_machine(self, name: dns.name.Name) -> Answer:
        text = key(name)
        if _is_number(text):
            return ()
        try:
            async with asyncio.timeout(self._patience):
                return await self._ask(text)
        except OSError:  # TimeoutError is one
            return "servfail"


def _add(response: dns.message.Message, question: dns.rrset.RRset, addresses: tuple[str, ...]) -> None:
    for kind, fits in ((dns.rdatatype.A, _is_ipv4), (dns.rdatatype.AAAA, _is_ipv6)):
        wanted = [address for address in addresses if fits(address)]
        if wanted and question.rdtype in (kind, dns.rdatatype.ANY):
            response.answer.append(dns.rrset.from_text(question.name, TTL, "IN", kind, *wanted))


def _is_ipv6(address: str) -> bool:
    return ":" in address


def _is_ipv4(address: str) -> bool:
    return not _is_ipv6(address)


def _addresses(name: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in {socket.EAI_NONAME, socket.EAI_NODATA}:
            return ()
        raise
    except UnicodeError:  # a label that no resolver takes
        return ()
    return tuple(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


def _is_number(name: str) -> bool:
    """Whether a resolver would take a name for an address that is written out, and make an answer of it."""
    try:
        socket.inet_aton(name)
    except OSError:
        return ":" in name
    return True


def _refusal(wire: bytes, rcode: dns.rcode.Rcode) -> bytes:
    """The header of an answer to a message that could not be read: its id, opcode and RD, and the error."""
    (flags,) = struct.unpack_from("!H", wire, 2)
    flags = dns.flags.QR | (flags & (0x7800 | dns.flags.RD)) | dns.flags.RA | rcode
    return wire[:2] + struct.pack("!5H", flags, 0, 0, 0, 0)
