"""Network security groups, and the security admin rules that a network manager put in force."""

from collections.abc import Iterable, Iterator, Mapping

from facts import resource_id
from facts.filters import AdminRules, NetworkSecurityGroup, SecurityRule
from packets.addresses import parse_port_range
from packets.documents import Document, both, check_address, listed, objects, properties, text


def read_nsg(document: Document) -> NetworkSecurityGroup:
    """Read a network security group; its id and rules may be missing, a rule's priority may not.

    Raises `ValueError` naming the field at fault.
    """
    body = properties(document)
    nsg_id = str(document.get("id") or "")
    rules = [
        _security_rule(rule, nsg_id, position, default=default)
        for default, field in ((False, "securityRules"), (True, "defaultSecurityRules"))
        for position, rule in enumerate(objects(body, field))
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
        for field, values in (
            ("sourcePortRange", rule.source_ports),
            ("destinationPortRange", rule.destination_ports),
        ):
            for value in values:
                try:
                    parse_port_range(value)
                except ValueError as error:
                    yield f'{field} of rule "{rule.name}": {error}'
        for field, values in (
            ("sourceAddressPrefix", rule.sources),
            ("destinationAddressPrefix", rule.destinations),
        ):
            for value in values:
                try:
                    check_address(value)
                except ValueError as error:
                    yield f'{field} of rule "{rule.name}": {error}'


def read_admin_rules(network_id: str, documents: Iterable[Document]) -> AdminRules:
    """Read what `listNetworkManagerEffectiveSecurityAdminRules` of a virtual network lists.

    Raises `ValueError` naming the field at fault.
    """
    rules = []
    for position, document in enumerate(documents):
        rule_id = text(document, "id")
        # A default rule has its name as its flag; a custom one has it in its id alone.
        name = text(properties(document), "flag") or rule_id.rsplit("/", 1)[-1] or f"rules[{position}]"
        rules.append(
            _rule(
                document,
                rule_id or f"{network_id}/securityAdminRules/{name}",
                name,
                f"value[{position}]",
                sources=_items(document, "sources"),
                destinations=_items(document, "destinations"),
                default=text(document, "kind").lower() == "default",
            )
        )
    return AdminRules(network_id=network_id, rules=tuple(rules))


def _security_rule(document: Document, nsg_id: str, position: int, *, default: bool) -> SecurityRule:
    field = "defaultSecurityRules" if default else "securityRules"
    body = properties(document)
    name = text(document, "name") or f"{field}[{position}]"
    return _rule(
        document,
        text(document, "id") or f"{nsg_id}/{field}/{name}",
        name,
        f"{field}[{position}]",
        sources=both(body, "sourceAddressPrefix", "sourceAddressPrefixes"),
        destinations=both(body, "destinationAddressPrefix", "destinationAddressPrefixes"),
        default=default,
    )


def _rule(
    document: Document,
    rule_id: str,
    name: str,
    place: str,
    *,
    sources: tuple[str, ...],
    destinations: tuple[str, ...],
    default: bool,
) -> SecurityRule:
    """The fields that rules of both kinds write alike."""
    body = properties(document)
    priority = body.get("priority")
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise ValueError(f'{place}.priority of "{name}" is missing or no number')
    return SecurityRule(
        id=rule_id,
        name=name,
        priority=priority,
        direction=text(body, "direction"),
        access=text(body, "access"),
        protocol=text(body, "protocol"),
        sources=sources,
        source_groups=_groups(body, "sourceApplicationSecurityGroups"),
        source_ports=both(body, "sourcePortRange", "sourcePortRanges"),
        destinations=destinations,
        destination_groups=_groups(body, "destinationApplicationSecurityGroups"),
        destination_ports=both(body, "destinationPortRange", "destinationPortRanges"),
        default=default,
    )


def _items(document: Document, field: str) -> tuple[str, ...]:
    """The addresses of an admin rule: CIDRs, service tags, ids of network groups."""
    items = objects(properties(document), field)
    return tuple(dict.fromkeys(found for item in items if (found := text(item, "addressPrefix"))))


def _groups(body: Document, field: str) -> tuple[str, ...]:
    return tuple(
        resource_id.key(text(group, "id") if isinstance(group, Mapping) else str(group))
        for group in listed(body, field)
    )
