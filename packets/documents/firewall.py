"""Azure Firewalls: classic rules, rule collection groups of policies, and what belongs to them.

Rules are no resources: they stand in lists within their collections, without ids of their own.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from msgspec import Struct, structs

from facts import resource_id
from facts.filters import FirewallRule
from packets.addresses import parse_port_range
from packets.documents import Document, check_address, objects, properties, reference, text, texts

# Fields that say which packets a rule is about; those that are not read below put its match in doubt, also
# ones that are newer than this code.
_SCOPE = re.compile(r"(source|destination|target|web)[A-Z]")
_READ: Mapping[str, frozenset[str]] = {
    "network": frozenset(
        {
            "sourceAddresses",
            "sourceIpGroups",
            "destinationAddresses",
            "destinationIpGroups",
            "destinationFqdns",
            "destinationPorts",
        }
    ),
    "application": frozenset({"sourceAddresses", "sourceIpGroups", "destinationAddresses", "targetFqdns"}),
}


class RuleCollection(Struct, frozen=True, kw_only=True):
    """The network and application rules of a rule collection of a policy."""

    name: str
    priority: int
    """Lower comes first among those of the group."""
    rules: tuple[FirewallRule, ...] = ()
    """As written."""


class RuleCollectionGroup(Struct, frozen=True, kw_only=True):
    """A rule collection group of a firewall policy."""

    id: str
    name: str
    priority: int
    """Lower comes first among those of the policy."""
    policy_id: str
    collections: tuple[RuleCollection, ...] = ()
    """By priority; those of DNAT rules left out."""


class FirewallModel(Struct, frozen=True, kw_only=True):
    """An Azure Firewall as its own document describes it."""

    id: str
    name: str
    addresses: tuple[str, ...]
    """Its private addresses, which routes lead to."""
    network_id: str
    """The virtual network that it stands in; empty in a virtual hub."""
    hub: bool
    """Whether it stands in a virtual hub."""
    policy_id: str
    """The policy that it obeys; empty for one with classic rules."""
    location: str = ""
    public_addresses: int = 0
    """How many it has; 0 where Azure does not show any."""
    rules: tuple[FirewallRule, ...] = ()
    """Classic rules."""


class PolicyModel(Struct, frozen=True, kw_only=True):
    """A firewall policy."""

    id: str
    base_id: str
    """The parent policy, whose rules come first; empty if there is none."""


class IpGroup(Struct, frozen=True, kw_only=True):
    """An IP group."""

    id: str
    addresses: tuple[str, ...]
    """Addresses, CIDRs, ranges."""


def read_firewall(document: Document) -> FirewallModel:
    """Read a firewall; everything may be missing.

    Raises `ValueError` naming the field at fault.
    """
    body = properties(document)
    firewall_id = text(document, "id")
    configurations = [properties(one) for one in objects(body, "ipConfigurations")]
    hub_addresses = _either(body, "hubIPAddresses", "hubIpAddresses")
    held = [*configurations, *([hub_addresses] if isinstance(hub_addresses, Mapping) else [])]
    addresses = [_either(one, "privateIPAddress", "privateIpAddress") for one in held]
    subnet = next((found for one in configurations if (found := reference(one, "subnet"))), "")
    sku = body.get("sku")
    return FirewallModel(
        id=firewall_id,
        name=text(document, "name") or firewall_id.rsplit("/", 1)[-1],
        addresses=tuple(dict.fromkeys(str(address) for address in addresses if address)),
        network_id=resource_id.parent(subnet) if subnet else "",
        hub=bool(reference(body, "virtualHub"))
        or (isinstance(sku, Mapping) and text(sku, "name").lower() == "azfw_hub"),
        policy_id=reference(body, "firewallPolicy"),
        location=text(document, "location"),
        public_addresses=sum(bool(reference(one, "publicIPAddress")) for one in configurations)
        + _hub_addresses(hub_addresses),
        rules=read_classic_rules(document),
    )


def _hub_addresses(hub: object) -> int:
    """The public addresses of a firewall in a virtual hub."""
    held = hub.get("publicIPs") if isinstance(hub, Mapping) else None
    count = held.get("count") if isinstance(held, Mapping) else None
    return count if isinstance(count, int) else 0


def read_policy(document: Document) -> PolicyModel:
    """Read a firewall policy, without its rule collection groups, which are resources of their own."""
    return PolicyModel(id=text(document, "id"), base_id=reference(properties(document), "basePolicy"))


def read_ip_group(document: Document) -> IpGroup:
    """Read an IP group; raises `ValueError` naming the field at fault."""
    return IpGroup(id=text(document, "id"), addresses=texts(properties(document), "ipAddresses"))


def read_classic_rules(document: Document) -> tuple[FirewallRule, ...]:
    """The rules of a firewall without a policy, in the order in which it goes through them.

    Raises `ValueError` naming the field at fault.
    """
    body = properties(document)
    firewall_id = text(document, "id")
    found: list[FirewallRule] = []
    kinds: tuple[tuple[str, Literal["network", "application"]], ...] = (
        ("networkRuleCollections", "network"),
        ("applicationRuleCollections", "application"),
    )
    for field, kind in kinds:
        collections = []
        for position, collection in enumerate(objects(body, field)):
            with _within(f"{field}[{position}]"):
                own = properties(collection)
                name = text(collection, "name") or f"{field}[{position}]"
                blank = FirewallRule(
                    kind=kind,
                    id=text(collection, "id") or f"{firewall_id}/{field}/{name}",
                    name=name,
                    collection=name,
                    priority=_priority(own, name),
                    action=_action(own),
                )
                collections.append(_collection(own, blank, _CLASSIC[kind]))
        found += (rule for collection in _by_priority(collections) for rule in collection.rules)
    return tuple(found)


def read_rule_collection_group(document: Document) -> RuleCollectionGroup:
    """Read a rule collection group; its id and rules may be missing, priorities may not.

    A rule, or a whole collection, of a type that is newer than this code becomes one rule
    that may do anything: it has no action, and its type is among its limits. DNAT rules are left out.
    Raises `ValueError` naming the field at fault.
    """
    body = properties(document)
    group_id = text(document, "id")
    name = text(document, "name") or group_id.rsplit("/", 1)[-1]
    policy_id = resource_id.parent(group_id) if group_id else ""
    collections = []
    for position, collection in enumerate(objects(body, "ruleCollections")):
        kind = text(collection, "ruleCollectionType")
        if kind.lower() == "firewallpolicynatrulecollection":
            continue
        with _within(f"ruleCollections[{position}]"):
            own = text(collection, "name") or f"ruleCollections[{position}]"
            blank = FirewallRule(
                kind="network",
                id=f"{group_id}/ruleCollections/{own}",
                name=own,
                collection=own,
                group=name,
                policy=policy_id,
                priority=_priority(collection, own),
                action=_action(collection),
            )
            if kind.lower() == "firewallpolicyfilterrulecollection":
                collections.append(_collection(collection, blank, _of_policy))
            else:
                odd = _of_no_known_type(blank, "ruleCollectionType", kind)
                collections.append(RuleCollection(name=own, priority=blank.priority, rules=(odd,)))
    return RuleCollectionGroup(
        id=group_id,
        name=name,
        priority=_priority(body, name),
        policy_id=policy_id,
        collections=tuple(_by_priority(collections)),
    )


def in_order(policies: Sequence[Sequence[RuleCollectionGroup]]) -> tuple[FirewallRule, ...]:
    """The rules of policies, the topmost parent's first, in the order in which a firewall goes through them.

    A parent's groups come before its child's, whatever the priorities, and all network rules
    come before all application rules
    (https://learn.microsoft.com/azure/firewall/rule-processing).
    """
    rules = (
        rule
        for groups in policies
        for group in _by_priority(groups)
        for collection in group.collections
        for rule in collection.rules
    )
    return tuple(sorted(rules, key=lambda rule: rule.kind != "network"))


def faults(rules: Iterable[FirewallRule]) -> Iterator[str]:
    """What in rules cannot be meant: ports that are none, addresses that are neither that nor a tag.

    A live firewall may hold values that are newer than this code, and is judged as far as it can be; for a
    document that somebody pasted it is more likely a slip.
    """
    for rule in rules:
        for field, values, check in (
            ("sourceAddresses", rule.sources, check_address),
            ("destinationAddresses", rule.destinations, check_address),
            ("destinationPorts", rule.destination_ports, parse_port_range),
        ):
            for value in values:
                try:
                    check(value)
                except ValueError as error:
                    yield f'{field} of rule "{rule.name}" of collection "{rule.collection}": {error}'


def _collection(
    document: Document, blank: FirewallRule, read: Callable[[Document, FirewallRule], FirewallRule | None]
) -> RuleCollection:
    """A collection whose rules are read one by one, each with what it has from the collection."""
    rules = []
    for position, one in enumerate(objects(document, "rules")):
        name = text(one, "name") or f"rules[{position}]"
        with _within(f"rules[{position}]"):
            rule = read(one, structs.replace(blank, id=f"{blank.id}/rules/{name}", name=name))
        if rule is not None:
            rules.append(rule)
    return RuleCollection(name=blank.collection, priority=blank.priority, rules=tuple(rules))


def _of_policy(document: Document, blank: FirewallRule) -> FirewallRule | None:
    """A rule of a filter collection; none for DNAT."""
    kind = text(document, "ruleType")
    match kind.lower():
        case "networkrule":
            return _network(document, blank, "ipProtocols")
        case "applicationrule":
            return _application(document, blank)
        case "natrule":
            return None
        case _:
            return _of_no_known_type(blank, "ruleType", kind)


def _of_no_known_type(blank: FirewallRule, field: str, kind: str) -> FirewallRule:
    """What must not vanish, though nobody can say what it does."""
    return structs.replace(blank, action="", limits=(f'{field} "{kind}"',))


def _network(document: Document, blank: FirewallRule, protocols: str = "protocols") -> FirewallRule:
    return structs.replace(
        blank,
        kind="network",
        protocols=texts(document, protocols),
        sources=texts(document, "sourceAddresses"),
        source_groups=texts(document, "sourceIpGroups"),
        destinations=texts(document, "destinationAddresses"),
        destination_groups=texts(document, "destinationIpGroups"),
        destination_ports=texts(document, "destinationPorts"),
        fqdns=texts(document, "destinationFqdns"),
        limits=_limits(document, "network"),
    )


def _application(document: Document, blank: FirewallRule) -> FirewallRule:
    protocols = [(text(one, "protocolType"), text(one, "port")) for one in objects(document, "protocols")]
    return structs.replace(
        blank,
        kind="application",
        protocols=tuple(dict.fromkeys(f"{kind}:{port}" if port else kind for kind, port in protocols)),
        sources=texts(document, "sourceAddresses"),
        source_groups=texts(document, "sourceIpGroups"),
        destinations=texts(document, "destinationAddresses"),
        fqdns=texts(document, "targetFqdns"),
        fqdn_tags=texts(document, "fqdnTags"),
        limits=_limits(document, "application"),
        terminates_tls=_either(document, "terminateTLS", "terminateTls") is True,
    )


_CLASSIC: Mapping[str, Callable[[Document, FirewallRule], FirewallRule]] = {
    "network": _network,
    "application": _application,
}


def _limits(document: Document, kind: str) -> tuple[str, ...]:
    """The fields that say which packets a rule is about, and that nobody here reads."""
    return tuple(
        field
        for field, value in document.items()
        if value and _SCOPE.match(field) and field not in _READ[kind]
    )


def _by_priority[T: (RuleCollection, RuleCollectionGroup)](found: Iterable[T]) -> list[T]:
    return sorted(found, key=lambda one: one.priority)


def _priority(body: Document, name: str) -> int:
    priority = body.get("priority")
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise ValueError(f'priority of "{name}" is missing or no number')
    return priority


def _action(body: Document) -> str:
    action = body.get("action")
    return text(action, "type") if isinstance(action, Mapping) else text(body, "action")


def _either(document: Document, *spellings: str) -> object:
    """The value of a field whose acronyms ARM and the CLI write in different cases."""
    return next((document[field] for field in spellings if document.get(field) is not None), None)


@contextmanager
def _within(place: str) -> Iterator[None]:
    """Puts the place before the field that an error names."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}.{error}") from error
