"""Host names and what they resolve to, from a fleet's `names.json`.

`{"aks-web.hcp.westeurope.azmk8s.io": ["20.101.7.4"], …}`: IPv4 addresses answer A, IPv6 ones AAAA. Names are
compared without case and final dot. `[]` is a name that does not exist, `"timeout"` one that is never
answered, `"servfail"` one whose servers fail.
"""

import ipaddress
from typing import Any, Literal

import dns.exception
import dns.name

from local.azure.arm import MalformedError

type Answer = tuple[str, ...] | Literal["timeout", "servfail"]
"""What a name resolves to: addresses, none if it does not exist, or how asking for it goes wrong."""


def key(name: dns.name.Name) -> str:
    """The form in which names are compared."""
    return name.canonicalize().to_text(omit_final_dot=True)


def check(content: Any) -> dict[str, tuple[str, Answer]]:
    """Read a file's names: by their key, how each is written and what it resolves to.

    MalformedError says what is wrong.
    """
    if not isinstance(content, dict):
        raise MalformedError("not a JSON object")
    found: dict[str, tuple[str, Answer]] = {}
    for written, value in content.items():
        try:
            name = dns.name.from_text(written)
        except (dns.exception.DNSException, UnicodeError) as error:
            raise MalformedError(f'"{written}" is no host name: {error}') from None
        if name == dns.name.root:
            raise MalformedError(f'"{written}" is no host name')
        answer = _answer(written, value)
        earlier, known = found.setdefault(key(name), (written, answer))
        if known != answer:
            raise MalformedError(f'"{written}" is there as "{earlier}" too, with other content')
    return found


def _answer(name: str, value: Any) -> Answer:
    if value in ("timeout", "servfail"):
        return value  # type: ignore[no-any-return]
    if not isinstance(value, list):
        raise MalformedError(f'"{name}": neither a list of addresses nor "timeout" or "servfail"')
    addresses = []
    for index, text in enumerate(value):
        try:
            address = ipaddress.ip_address(text if isinstance(text, str) else "")
        except ValueError:
            raise MalformedError(f'"{name}"[{index}]: not an IP address: {text}') from None
        if address.version == 6 and address.scope_id:
            raise MalformedError(f'"{name}"[{index}]: an IP address with a zone: {text}')
        addresses.append(str(address))
    return tuple(dict.fromkeys(addresses))
