"""Azure's JSON documents of packet filters, as our types.

Documents come as Azure Resource Manager returns them, with `properties` nested,
or as the CLI prints them, flattened. Properties may be missing, `null`, or there
both as a single value and as a list.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from facts import resource_id
from facts.snapshot import NetworkSecurityGroup, SecurityRule
from packets.addresses import parse_port_range, parse_prefix


def properties(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The properties of a resource, wherever they stand."""
    nested = document.get("properties")
    return nested if isinstance(nested, Mapping) else document


def both(document: Mapping[str, Any], singular: str, plural: str) -> tuple[str, ...]:
    """The values of a field that Azure keeps as one value or as a list, each once."""
    values = [document.get(singular), *_list(document, plural)]
    return tuple(dict.fromkeys(str(value) for value in values if value not in (None, "")))


def read_nsg(document: Mapping[str, Any]) -> NetworkSecurityGroup:
    """Read a network security group; its id and rules may be missing, a rule's priority may not.

    Raises `ValueError` naming the field at fault.
    """
    body = properties(document)
    nsg_id = str(document.get("id") or "")
    rules = [
        _rule(rule, nsg_id, position, default=default)
        for default, field in ((False, "securityRules"), (True, "defaultSecurityRules"))
        for position, rule in enumerate(_list(body, field))
    ]
    return NetworkSecurityGroup(
        id=nsg_id, name=str(document.get("name") or nsg_id.rsplit("/", 1)[-1]), rules=tuple(rules)
    )


def faults(group: NetworkSecurityGroup) -> Iterator[str]:
    """What in a group cannot be meant: ports that are none, addresses that are neither that nor a tag.

    A live group may hold values that are newer than this code, and is judged as far as it can be; for a
    document that somebody pasted it is more likely a slip.
    """
    for rule in group.rules:
        for field, texts in (
            ("sourcePortRange", rule.source_ports),
            ("destinationPortRange", rule.destination_ports),
        ):
            for text in texts:
                try:
                    parse_port_range(text)
                except ValueError as error:
                    yield f'{field} of rule "{rule.name}": {error}'
        for field, texts in (
            ("sourceAddressPrefix", rule.sources),
            ("destinationAddressPrefix", rule.destinations),
        ):
            # Service tags begin with a letter and hold neither colon nor slash.
            for text in (one for one in texts if one != "*" and not re.fullmatch(r"[A-Za-z][\w.\-]*", one)):
                try:
                    parse_prefix(text)
                except ValueError as error:
                    yield f'{field} of rule "{rule.name}": {error}'


def _list(document: Mapping[str, Any], field: str) -> Sequence[Any]:
    value = document.get(field) or ()
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{field} is no list")
    return value


def _rule(document: Any, nsg_id: str, position: int, *, default: bool) -> SecurityRule:
    field = "defaultSecurityRules" if default else "securityRules"
    if not isinstance(document, Mapping):
        raise ValueError(f"{field}[{position}] is no object")
    body = properties(document)
    name = str(document.get("name") or f"{field}[{position}]")
    priority = body.get("priority")
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise ValueError(f'{field}[{position}].priority of "{name}" is missing or no number')
    return SecurityRule(
        id=str(document.get("id") or f"{nsg_id}/{field}/{name}"),
        name=name,
        priority=priority,
        direction=str(body.get("direction") or ""),
        access=str(body.get("access") or ""),
        protocol=str(body.get("protocol") or ""),
        sources=both(body, "sourceAddressPrefix", "sourceAddressPrefixes"),
        source_groups=_groups(body, "sourceApplicationSecurityGroups"),
        source_ports=both(body, "sourcePortRange", "sourcePortRanges"),
        destinations=both(body, "destinationAddressPrefix", "destinationAddressPrefixes"),
        destination_groups=_groups(body, "destinationApplicationSecurityGroups"),
        destination_ports=both(body, "destinationPortRange", "destinationPortRanges"),
        default=default,
    )


def _groups(body: Mapping[str, Any], field: str) -> tuple[str, ...]:
    return tuple(
        resource_id.key(str(group.get("id") or "") if isinstance(group, Mapping) else str(group))
        for group in _list(body, field)
    )
