"""What the names of API servers resolve to, asked as a node would ask."""

import asyncio
import socket
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor

from facts.filters import Missing
from facts.finding import Reason
from pipeline.clients import Clients

ANSWER_SECONDS = 5.0
"""How long a name may take, the wait for a turn included."""
_THREADS = 8
"""The system's resolver blocks a thread for each name; a slow one must not take those of everything else."""

_resolver = ThreadPoolExecutor(_THREADS, thread_name_prefix="names")


async def resolve(clients: Clients, name: str) -> tuple[str, ...] | Missing:
    """The addresses of a name, sorted; by the server that `DNS_SERVER` names, or the system's resolver."""
    server = clients.settings.dns_server
    answer: Awaitable[set[str]] = _from_system(name) if server is None else _from_server(name, *server)
    whom = "the system's resolver" if server is None else f"DNS server {server[0]}"
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            found = await answer
    except TimeoutError:
        return _missing(name, "timeout", f"{whom} did not answer within {ANSWER_SECONDS:g} s")
    except (OSError, UnicodeError) as error:
        return _missing(name, "name_not_resolved", f"{whom} could not be asked ({error})")
    if not found:
        return _missing(name, "name_not_resolved", f"{whom} does not know it")
    return tuple(sorted(found))


async def _from_system(name: str) -> set[str]:
    def ask() -> set[str]:
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno in {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}:
                return set()
            raise
        return {str(address[0]) for *_, address in found}

    return await asyncio.get_running_loop().run_in_executor(_resolver, ask)


async def _from_server(name: str, address: str, port: int) -> set[str]:
    import dns.asyncresolver
    import dns.exception
    import dns.rdatatype
    import dns.resolver

    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = [address]
    resolver.port = port
    resolver.lifetime = ANSWER_SECONDS
    found: set[str] = set()
    for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
        try:
            answer = await resolver.resolve(f"{name.rstrip('.')}.", kind, raise_on_no_answer=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            break
        except dns.exception.Timeout as error:
            raise TimeoutError from error
        except dns.exception.DNSException as error:
            raise OSError(str(error)) from error
        found |= {str(record.address) for record in answer.rrset or ()}
    return found


def _missing(name: str, code: str, words: str) -> Missing:
    what = f'the API server\'s name "{name}"'
    return Missing(
        what=what,
        resource_id=name,
        reason=Reason(code=code, message=f"Could not resolve {what}: {words}.", resource=name),
    )
