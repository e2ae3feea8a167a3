"""The security admin rules that a network manager put in force on virtual networks.

They come from a fleet's `*.adminrules.json`: an object of lists of rules by the id of the virtual network, as
`POST …/virtualNetworks/{vnet}/listNetworkManagerEffectiveSecurityAdminRules` returns them
(https://learn.microsoft.com/rest/api/networkmanager). That action answers at once and in pages, and its token
for the next one travels in the bodies.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from local.azure import paging
from local.azure.arm import ArmError, ArmPath, Json, MalformedError, key


class _Query(msgspec.Struct, rename="camel"):
    """What a request's body may hold."""

    skip_token: str | None = None


def rules_in(content: Any) -> Iterator[tuple[str, str, Json]]:
    """Every rule of a file: (the key of its network's id, its place in the file, the rule).

    MalformedError says where something is not what it should be.
    """
    if not isinstance(content, dict):
        raise MalformedError("not a JSON object")
    for network, rules in content.items():
        _check_network(network)
        if not isinstance(rules, list):
            raise MalformedError(f'"{network}": not a list of rules')
        for index, rule in enumerate(rules):
            place = f'"{network}"[{index}]'
            if not isinstance(rule, dict):
                raise MalformedError(f"{place}: not an object")
            if not isinstance(rule.get("id"), str):
                raise MalformedError(f'{place}: no "id"')
            yield key(network), place, rule


def by_network(content: Any) -> dict[str, tuple[Json, ...]]:
    """What each network that is named has in force, by the key of its id; MalformedError as above."""
    every = list(rules_in(content))
    found: dict[str, list[Json]] = {key(network): [] for network in content}
    for network, _, rule in every:
        found[network].append(rule)
    return {network: tuple(rules) for network, rules in found.items()}


def page(rules: Sequence[Json], *, body: bytes, top: str | None, page_size: int) -> Json:
    """One page of a network's rules, or ArmError (400) for a request that the provider cannot read."""
    start, size = paging.start(_token(body)), min(page_size, _top(top, page_size))
    answer: Json = {"value": list(rules[start : start + size])}
    if start + size < len(rules):
        answer["skipToken"] = paging.token(start + size)
    return answer


def _check_network(identifier: str) -> None:
    try:
        path = ArmPath.parse(identifier)
    except MalformedError as error:
        raise MalformedError(f'"{identifier}" is no ARM id: {error}') from None
    if path.is_collection or path.type.lower() != "microsoft.network/virtualnetworks":
        raise MalformedError(f'"{identifier}" is not the id of a virtual network')


def _token(body: bytes) -> str | None:
    """The token of a body; a null or an empty one asks for the first page, as none at all does."""
    try:
        return msgspec.json.decode(body, type=_Query).skip_token or None
    except msgspec.DecodeError:
        raise ArmError(400, "InvalidRequestFormat", "Cannot parse the request.", cause="service") from None


def _top(text: str | None, most: int) -> int:
    if text is None:
        return most
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise ArmError(400, "InvalidParameter", f"The value '{text}' of '$top' is invalid.", cause="service")
    return int(text)
