"""Commands that mend what security rules deny: complete, and quoted for a POSIX shell."""

import shlex
from collections.abc import Iterable

from msgspec import Struct

from checks._security import Block, Layer, Traffic
from facts import resource_id
from facts.filters import AdminRules, Firewall, FirewallRule, NetworkSecurityGroup
from facts.finding import Remediation
from facts.snapshot import Cluster
from packets.addresses import IPV4, IPV6, IntervalSet, parse_prefix
from packets.nsg import free_priority

_MANAGED = "https://learn.microsoft.com/azure/aks/concepts-security#azure-network-security-groups"
_FIREWALL_DOCS = "https://learn.microsoft.com/azure/aks/limit-egress-traffic"
_ADMIN_DOCS = "https://learn.microsoft.com/azure/virtual-network-manager/concept-security-admins"


class Wish(Struct, frozen=True, kw_only=True):
    """What should be let through."""

    cluster: Cluster
    traffic: Traffic
    rule_name: str
    """Of the rule to make: `AllowKubelet`."""
    summary: str
    """`Allow TCP 10250 between the node subnets`."""
    docs: str


def security_remedies(wish: Wish, block: Block, blocks: list[Block]) -> tuple[Remediation, ...]:
    """The ways to mend what one rule denies, the one to prefer first.

    `blocks` are all that were found: the rule that is made has to stand above every rule of its
    group that denies some of it.
    """
    group = block.layer.filter
    if isinstance(group, AdminRules):
        return _admin(wish, block)
    allow = _allow(wish, block.layer, group, [one for one in blocks if one.layer is block.layer])
    own = resource_id.parse(group.id).resource_group
    managed = own.lower() == wish.cluster.node_resource_group.lower() and "interface" in block.levels
    if managed:
        caution = (
            "AKS manages this group and may undo the change; "
            "to keep a restriction, put it into a security group on the subnet instead."
        )
        allow = Remediation(summary=f"{allow.summary} {caution}", commands=allow.commands, docs=_MANAGED)
    if block.rule.default:
        return (allow,)
    remove = Remediation(
        summary=f'Remove the rule "{block.rule.name}", if nothing else needs it.',
        commands=(az("network nsg rule delete", *_group(group), "--name", block.rule.name),),
        docs=wish.docs,
    )
    return (remove, allow) if managed else (allow, remove)


def az(command: str, *arguments: str) -> str:
    """One command line of the Azure CLI."""
    return f"az {command} {' '.join(shlex.quote(argument) for argument in arguments)}"


def _admin(wish: Wish, block: Block) -> tuple[Remediation, ...]:
    """An admin rule is changed in its configuration, which then has to be deployed again to the region."""
    rule = block.rule
    summary = (
        f'{wish.summary}: the security admin rule "{rule.name}" denies it before any security group is '
        "asked. Whoever runs the network manager has to allow it there, and deploy the configuration again."
    )
    try:
        parts = resource_id.parse(rule.id)
    except ValueError:
        return (Remediation(summary=summary, docs=_ADMIN_DOCS),)
    if (
        parts.type.lower()
        != "microsoft.network/networkmanagers/securityadminconfigurations/rulecollections/rules"
    ):
        return (Remediation(summary=summary, docs=_ADMIN_DOCS),)
    manager, configuration, collection, name = parts.names
    where = (
        *("--subscription", parts.subscription_id),
        *("--resource-group", parts.resource_group),
        *("--network-manager-name", manager),
    )
    configuration_id = parts.text[: parts.text.lower().index("/rulecollections/")]
    return (
        Remediation(
            summary=summary,
            commands=(
                az(
                    "network manager security-admin-config rule-collection rule update",
                    *where,
                    *("--configuration-name", configuration),
                    *("--rule-collection-name", collection),
                    *("--rule-name", name),
                    *("--access", "Allow"),
                ),
                az(
                    "network manager post-commit",
                    *where,
                    *("--commit-type", "SecurityAdmin"),
                    *("--configuration-ids", configuration_id),
                    *("--target-locations", wish.cluster.ref.location),
                ),
            ),
            docs=_ADMIN_DOCS,
        ),
    )


def _allow(wish: Wish, layer: Layer, group: NetworkSecurityGroup, blocks: list[Block]) -> Remediation:
    """The rules that let the traffic through, above every rule of their group that denies it.

    One for each address family that is blocked: Azure refuses a rule that mixes them.
    """
    ceiling = min(block.rule.priority for block in blocks)
    families = [
        (suffix, family)
        for suffix, family in (("", IPV4), ("IPv6", IPV6))
        if any(box.sources & family for block in blocks for box in block.boxes)
    ]
    summary = f"{wish.summary}, above the rule that denies it."
    commands = []
    free = _free(group, layer, ceiling, len(families))
    if len(free) < len(families):
        # Too little is free above the deny: it has to make room itself.
        same_way = {
            rule.priority: rule for rule in group.rules if rule.direction.lower() == layer.direction.lower()
        }
        lower = next((number for number in range(ceiling + 1, 4097) if number not in same_way), None)
        free = [ceiling, *free]
        if lower is None or len(free) < len(families):
            return Remediation(
                summary=(
                    f"{wish.summary}. "
                    f"{'Too few priorities are' if free[1:] else 'No priority is'} free in "
                    f'"{group.name}": remove a rule first.'
                ),
                docs=wish.docs,
            )
        moved = same_way[ceiling]
        summary += f' No lower number is free, so "{moved.name}" moves to {lower} first.'
        if lower > ceiling + 1:
            summary += " The rules in between then come before it: look at what they allow."
        commands.append(
            az("network nsg rule update", *_group(group), "--name", moved.name, "--priority", str(lower))
        )
    names = {rule.name.lower() for rule in group.rules}
    for (suffix, family), priority in zip(families, free, strict=False):
        name = f"{wish.rule_name}{layer.direction}{suffix}"
        if name.lower() in names:
            name = f"{name}{priority}"
        commands.append(
            az(
                "network nsg rule create",
                *_group(group),
                *("--name", name),
                *("--priority", str(priority)),
                *("--direction", layer.direction),
                *("--access", "Allow"),
                *("--protocol", wish.traffic.protocol.capitalize()),
                *("--source-address-prefixes", *_prefixes(blocks, "sources", family)),
                *("--source-port-ranges", "*"),
                *("--destination-address-prefixes", *_prefixes(blocks, "destinations", family)),
                *("--destination-port-ranges", str(wish.traffic.port)),
            )
        )
    return Remediation(summary=summary, commands=tuple(commands), docs=wish.docs)


def _group(group: NetworkSecurityGroup) -> tuple[str, ...]:
    """The arguments that name a security group to the CLI."""
    parts = resource_id.parse(group.id)
    return (
        *("--subscription", parts.subscription_id),
        *("--resource-group", parts.resource_group),
        *("--nsg-name", group.name),
    )


def _free(group: NetworkSecurityGroup, layer: Layer, below: int, wanted: int) -> list[int]:
    """Free priority numbers under one, highest first: as many as are wanted, or all there are."""
    free: list[int] = []
    while len(free) < wanted and (number := free_priority(group, layer.direction, below)) is not None:
        free.append(number)
        below = number
    return free


def _prefixes(blocks: list[Block], side: str, family: IntervalSet) -> list[str]:
    """The prefixes of one family of the subnets at one end of what is blocked, each once."""
    places = [
        place
        for block in blocks
        for place in (block.sources if side == "sources" else block.destinations).values()
    ]
    return list(
        dict.fromkeys(
            prefix for place in places for prefix in place.subnet.prefixes if parse_prefix(prefix) & family
        )
    )


def firewall_remedies(
    wish: Wish, firewall: Firewall, rule: FirewallRule | None, *, sources: list[str], fqdn: str
) -> tuple[Remediation, ...]:
    """A rule of the firewall that lets the traffic through, ahead of the one that decides.

    A network rule comes before every application rule, a parent policy's included.
    """
    inherited = rule is not None and resource_id.key(rule.policy) != resource_id.key(firewall.policy)
    by_name = wish.traffic.port == 443 and (rule is None or (rule.kind == "application" and not inherited))
    addresses = [
        prefix for place in wish.traffic.destinations for prefix in place.subnet.prefixes if ":" not in prefix
    ]
    target: tuple[str, ...]
    if by_name:
        target = ("--target-fqdns", fqdn)
        summary = f"{wish.summary}, by its name, in an application rule without TLS inspection."
    else:
        target = ("--destination-addresses", *addresses)
        summary = f"{wish.summary}, in a network rule."
    if rule is not None and inherited and rule.kind == "network":
        parent = rule.policy.rsplit("/", 1)[-1]
        summary += (
            f' The rule that decides is in the parent policy "{parent}", and comes before every rule of the '
            "firewall's own: it has to be changed there."
        )
        return (Remediation(summary=summary, docs=_FIREWALL_DOCS),)
    kind = "application" if by_name else "network"
    if firewall.policy:
        taken = set(firewall.groups.values())
    else:
        taken = {one.priority for one in firewall.rules if one.kind == kind}
    # Where nothing matches, any place will do; else it has to come first.
    ahead = 65_001 if rule is None else min(taken, default=65_001)
    priority = next((number for number in range(ahead - 1, 99, -1) if number not in taken), None)
    if priority is None:
        summary += " No lower priority number is free: move what has 100 first."
        return (Remediation(summary=summary, docs=_FIREWALL_DOCS),)
    add = _policy_rule if firewall.policy else _classic_rule
    commands = add(wish, firewall, sources, target, priority=priority, by_name=by_name)
    return (Remediation(summary=summary, commands=commands, docs=_FIREWALL_DOCS),)


def _policy_rule(
    wish: Wish,
    firewall: Firewall,
    sources: list[str],
    target: tuple[str, ...],
    *,
    priority: int,
    by_name: bool,
) -> tuple[str, ...]:
    """A rule collection group of its own, ahead of the others."""
    policy = resource_id.parse(firewall.policy)
    where = (
        *("--subscription", policy.subscription_id),
        *("--resource-group", policy.resource_group),
        *("--policy-name", policy.name),
    )
    name = _unused(wish.rule_name, firewall.groups)
    protocols = ("--protocols", "Https=443") if by_name else ("--ip-protocols", wish.traffic.protocol.upper())
    ports = () if by_name else ("--destination-ports", str(wish.traffic.port))
    return (
        az(
            "network firewall policy rule-collection-group create",
            *where,
            *("--name", name),
            *("--priority", str(priority)),
        ),
        az(
            "network firewall policy rule-collection-group collection add-filter-collection",
            *where,
            *("--rule-collection-group-name", name),
            *("--name", wish.rule_name),
            *("--collection-priority", "100"),
            *("--action", "Allow"),
            *("--rule-type", "ApplicationRule" if by_name else "NetworkRule"),
            *("--rule-name", "api-server"),
            *("--source-addresses", *sources),
            *protocols,
            *target,
            *ports,
        ),
    )


def _classic_rule(
    wish: Wish,
    firewall: Firewall,
    sources: list[str],
    target: tuple[str, ...],
    *,
    priority: int,
    by_name: bool,
) -> tuple[str, ...]:
    """A rule collection of its own, ahead of the others of its kind."""
    parts = resource_id.parse(firewall.id)
    kind = "application" if by_name else "network"
    protocols = "https=443" if by_name else wish.traffic.protocol.upper()
    collection = _unused(wish.rule_name, (one.collection for one in firewall.rules if one.kind == kind))
    ports = () if by_name else ("--destination-ports", str(wish.traffic.port))
    return (
        az(
            f"network firewall {kind}-rule create",
            *("--subscription", parts.subscription_id),
            *("--resource-group", parts.resource_group),
            *("--firewall-name", firewall.name),
            *("--collection-name", collection),
            *("--priority", str(priority)),
            *("--action", "Allow"),
            *("--name", "api-server"),
            *("--source-addresses", *sources),
            *("--protocols", protocols),
            *target,
            *ports,
        ),
    )


def _unused(name: str, taken: Iterable[str]) -> str:
    """A name that nothing has yet."""
    known = {one.lower() for one in taken}
    while name.lower() in known:
        name += "1"
    return name
