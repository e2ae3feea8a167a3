"""Commands that give nodes more SNAT ports: complete, quoted for a POSIX shell, the smallest change first."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from itertools import count

from msgspec import Struct

from checks._remedies import az
from checks._snat_ports import (
    FIREWALL_PORTS,
    GATEWAY_ADDRESSES,
    GATEWAY_PORTS,
    MOST_ADDRESSES,
    MOST_PORTS,
    Plan,
    count_addresses,
    fits,
    gateway_addresses,
    ip_version,
    of_ipv4,
    plan,
    ports_of_node,
    sharing,
    taken_blocks,
    wanted_ports,
)
from checks._ways_out import WayOut
from facts import resource_id
from facts.filters import Firewall, Missing
from facts.finding import Remediation
from facts.outbound import LoadBalancer, NatGateway, OutboundRule
from facts.snapshot import Cluster, Snapshot

_BALANCER_DOCS = "https://learn.microsoft.com/azure/aks/configure-load-balancer-standard#configure-the-allocated-outbound-ports"
_TIMEOUT_DOCS = (
    "https://learn.microsoft.com/azure/aks/configure-load-balancer-standard"
    "#configure-the-load-balancer-idle-timeout"
)
_RULE_DOCS = "https://learn.microsoft.com/azure/load-balancer/outbound-rules"
_TYPE_DOCS = (
    "https://learn.microsoft.com/azure/aks/egress-outboundtype#updating-outboundtype-after-cluster-creation"
)
_GATEWAY_DOCS = "https://learn.microsoft.com/azure/nat-gateway/nat-gateway-resource"
_MANAGED_GATEWAY_DOCS = "https://learn.microsoft.com/azure/aks/nat-gateway"
_FIREWALL_DOCS = "https://learn.microsoft.com/azure/firewall/integrate-with-nat-gateway"
_POOLING_DOCS = (
    "https://learn.microsoft.com/troubleshoot/azure/azure-kubernetes/connectivity/snat-port-exhaustion"
)

LONG_TIMEOUT = 30
"""Minutes of idleness after which AKS lets a connection's port go, unless it was told another number."""
SHORT_TIMEOUT = 4
"""What Azure has for load balancers that are not AKS's, and the least that it takes."""
NAMED = 3
"""Nodes whose pods are to be listed."""
AT_ONCE = 4
"""Public addresses that one remedy adds to a firewall at the most."""
PREFIX_ADDRESSES = 16
"""The addresses of the largest public prefix that Azure makes for everybody: /28, or /124 of IPv6."""

_CUTS = "Azure then allots all ports anew, which cuts connections that hold them: do it at a quiet hour."
_MOVES = (
    "This changes the addresses that the cluster comes from, which others may have allowed by number (the "
    "API server's authorized ranges among them), and cuts connections."
)
# https://learn.microsoft.com/azure/aks/egress-outboundtype: with these AKS makes no outbound rules.
_OTHER_TYPES = {
    "managednatgateway",
    "managednatgatewayv2",
    "userassignednatgateway",
    "userdefinedrouting",
    "none",
    "block",
}


def remedies(
    snapshot: Snapshot,
    way: WayOut,
    *,
    peak: float | None,
    failed: bool,
    busiest: Sequence[str],
    usage: bool = True,
) -> tuple[Remediation, ...]:
    """The ways to have enough ports, the smallest change first.

    `peak` are the most ports that one node was seen to use, if anybody saw it; `failed` says that connections
    failed for want of them. `busiest` are names of nodes, the busiest first. Without `usage` it is not use
    that is at fault, but how many nodes there may be: nothing is said then of connections that are held.
    """
    match way.gate:
        case LoadBalancer() as balancer:
            found = _at_balancer(snapshot, way, balancer, peak=peak, failed=failed, usage=usage)
        case NatGateway() as gateway:
            found = _at_gateway(snapshot.cluster, gateway)
        case Firewall() as firewall:
            found = _at_firewall(snapshot.cluster, firewall)
    return (*found, _pooling(way, busiest)) if usage else tuple(found)


# --- a load balancer -------------------------------------------------------------------------------


class _Held(Struct, frozen=True, kw_only=True):
    """An outbound rule, with the numbers that a plan is made of."""

    rule: OutboundRule
    addresses: int
    blocks: int
    most: int
    """Nodes that may have ports of it."""
    present: int | None
    """Ports of a node now."""


def _at_balancer(
    snapshot: Snapshot,
    way: WayOut,
    balancer: LoadBalancer,
    *,
    peak: float | None,
    failed: bool,
    usage: bool,
) -> list[Remediation]:
    cluster = snapshot.cluster
    own = cluster.outbound_type.lower() not in _OTHER_TYPES
    held = _held(snapshot, way, balancer)
    found = []
    cannot = ""
    ports = None
    if held:
        wishes = [wanted_ports(peak, one.present, failed=failed) for one in held]
        known = [wish for wish in wishes if wish is not None]
        ports = max(known, default=None)
    if ports is not None:
        plans = [plan(ports, one.most, addresses=one.addresses, blocks=one.blocks) for one in held]
        feasible = [one for one in plans if one is not None]
        if len(feasible) < len(plans):
            cannot = (
                f"A load balancer cannot do it: {ports:,} ports for each of "
                f"{max(one.most for one in held):,} nodes take more than {MOST_PORTS:,} for a node or "
                f"{MOST_ADDRESSES} outbound addresses, and AKS takes no more. "
            )
        elif any(
            one.rule.allocated_ports != each.ports or one.addresses != each.addresses
            for one, each in zip(held, feasible, strict=True)
        ):
            found.append(
                _by_cluster(cluster, held, feasible) if own else _by_rule(cluster, balancer, held, feasible)
            )
    if usage:
        found += _sooner(cluster, balancer, own=own)
    nodes = max((one.most for one in held), default=0)
    found.append(_to_gateway(snapshot, cannot, gateway_addresses(ports or 0, nodes)))
    return found


def _held(snapshot: Snapshot, way: WayOut, balancer: LoadBalancer) -> list[_Held]:
    """The outbound rules with their numbers; none where the numbers of one are not known."""
    held = []
    for rule in balancer.rules:
        addresses = count_addresses(rule.frontends)
        nodes = sharing(balancer, rule, way.pools, snapshot.pools)
        if not addresses or nodes.now is None or nodes.most is None:
            return []
        held.append(
            _Held(
                rule=rule,
                addresses=addresses,
                blocks=taken_blocks(rule),
                most=nodes.most,
                present=ports_of_node(rule, nodes.now),
            )
        )
    return held


def _by_cluster(cluster: Cluster, held: Sequence[_Held], plans: Sequence[Plan]) -> Remediation:
    """The change as AKS takes it: one number of ports for both versions of IP, and addresses of each."""
    missing = {
        version: max(
            (
                each.addresses - one.addresses
                for one, each in zip(held, plans, strict=True)
                if ip_version(one.rule) == version
            ),
            default=0,
        )
        for version in (4, 6)
    }
    arguments: tuple[str, ...] = ()
    commands: list[str] = []
    if any(missing.values()):
        profile = cluster.outbound
        if profile.address_ids:
            made, ids = _more_addresses(cluster, profile.address_ids, missing)
            commands += made
            arguments = ("--load-balancer-outbound-ips", ",".join(ids))
        elif profile.prefix_ids:
            made, ids = _more_prefixes(cluster, profile.prefix_ids, missing)
            commands += made
            arguments = ("--load-balancer-outbound-ip-prefixes", ",".join(ids))
        else:
            arguments = _managed(held, plans)
    commands.append(
        az("aks update", *named(cluster), *arguments, "--load-balancer-outbound-ports", str(plans[0].ports))
    )
    return Remediation(summary=_summary(held, plans), commands=tuple(commands), docs=_BALANCER_DOCS)


def _managed(held: Sequence[_Held], plans: Sequence[Plan]) -> tuple[str, ...]:
    """How many addresses AKS shall keep, of each version that it has any of."""
    counts: dict[str, int] = {}
    for one, each in zip(held, plans, strict=True):
        option = f"--load-balancer-managed-outbound-ip{'v6' * (ip_version(one.rule) == 6)}-count"
        counts[option] = max(counts.get(option, 0), each.addresses)
    return tuple(word for option, count in sorted(counts.items()) for word in (option, str(count)))


def _summary(held: Sequence[_Held], plans: Sequence[Plan]) -> str:
    """Ports and addresses after the change and before, and for how many nodes they are enough."""
    ports = plans[0].ports
    now = [one.present for one in held if one.present is not None]
    if not now:
        sentences = [f"Let each node have {ports:,} SNAT ports"]
    elif any(each != ports for each in now):
        sentences = [f"Let each node have {ports:,} SNAT ports, instead of {min(now):,}"]
    elif all(one.rule.allocated_ports for one in held):
        sentences = [f"Keep {ports:,} SNAT ports for each node, on more addresses"]
    else:
        sentences = [f"Fix the number of ports for each node at the {ports:,} that it has now"]
    for one, each in zip(held, plans, strict=True):
        version = f" of IPv{ip_version(one.rule)}" if len(held) > 1 else ""
        room = fits(ports, each.addresses, one.blocks)
        many = f"outbound address{'es' * (each.addresses != 1)}{version}"
        added = (
            f"{each.addresses} {many} instead of {one.addresses}"
            if each.addresses > one.addresses
            else f"the {each.addresses} {many} that there {'are' if each.addresses != 1 else 'is'}"
        )
        sentences.append(f"{added} {'hold' if each.addresses != 1 else 'holds'} them for {room:,} nodes")
    most = max(one.most for one in held)
    return f"{sentences[0]}: {', and '.join(sentences[1:])}, and there may be {most:,}. {_CUTS}"


def _more_addresses(
    cluster: Cluster, ids: Sequence[str], missing: dict[int, int], sku: str = "Standard"
) -> tuple[list[str], list[str]]:
    """Commands that make public addresses beside those there are, and the ids of all of them."""
    place = _place(cluster, ids)
    fresh = _unused(f"{cluster.ref.name}-outbound", ids)
    commands, every = [], list(ids)
    for version, needed in missing.items():
        for _ in range(needed):
            name = next(fresh)
            commands.append(_public_address(place, name, cluster.ref.location, version=version, sku=sku))
            every.append(place.id_of("publicIPAddresses", name))
    return commands, every


def _more_prefixes(
    cluster: Cluster, ids: Sequence[str], missing: dict[int, int]
) -> tuple[list[str], list[str]]:
    """Commands that make public prefixes beside those there are, and the ids of all of them."""
    place = _place(cluster, ids)
    fresh = _unused(f"{cluster.ref.name}-outbound", ids)
    commands, every = [], list(ids)
    for version, needed in missing.items():
        left = needed
        while left > 0:
            size = min(1 << max(left - 1, 1).bit_length(), PREFIX_ADDRESSES)
            left -= size
            name = next(fresh)
            commands.append(
                az(
                    "network public-ip prefix create",
                    *place.arguments,
                    *("--name", name),
                    *("--location", cluster.ref.location),
                    *("--version", f"IPv{version}"),
                    *("--length", str((32 if version == 4 else 128) + 1 - size.bit_length())),
                )
            )
            every.append(place.id_of("publicIPPrefixes", name))
    return commands, every


def _by_rule(
    cluster: Cluster, balancer: LoadBalancer, held: Sequence[_Held], plans: Sequence[Plan]
) -> Remediation:
    """The change to a load balancer that somebody made beside AKS's, rule by rule."""
    place = _place(cluster, [balancer.id])
    where = (*place.arguments, "--lb-name", balancer.name)
    commands = []
    for one, each in zip(held, plans, strict=True):
        fronts = [front.name for front in one.rule.frontends]
        fresh = _unused(f"{one.rule.name}-outbound", fronts)
        for _ in range(each.addresses - one.addresses):
            name = next(fresh)
            commands.append(_public_address(place, name, balancer.location, version=ip_version(one.rule)))
            commands.append(
                az("network lb frontend-ip create", *where, "--name", name, "--public-ip-address", name)
            )
            fronts.append(name)
        more = ("--frontend-ip-configs", *fronts) if each.addresses > one.addresses else ()
        commands.append(
            az(
                "network lb outbound-rule update",
                *where,
                *("--name", one.rule.name),
                *more,
                *("--outbound-ports", str(each.ports)),
            )
        )
    return Remediation(summary=_summary(held, plans), commands=tuple(commands), docs=_RULE_DOCS)


def _sooner(cluster: Cluster, balancer: LoadBalancer, *, own: bool) -> list[Remediation]:
    """Idle connections let go of their ports sooner, where they may hold them for half an hour or more."""
    slow = [rule for rule in balancer.rules if (rule.idle_timeout_minutes or 0) >= LONG_TIMEOUT]
    if not slow:
        return []
    minutes = max(rule.idle_timeout_minutes or 0 for rule in slow)
    summary = (
        f"Where ports are held by connections that idle: let them go after {SHORT_TIMEOUT} minutes, Azure's "
        f"own default, instead of {minutes}. What idles for longer is then closed by a TCP reset, unless "
        f"keep-alives come more often than every {SHORT_TIMEOUT} minutes."
    )
    if own:
        commands = [az("aks update", *named(cluster), "--load-balancer-idle-timeout", str(SHORT_TIMEOUT))]
    else:
        where = (*_place(cluster, [balancer.id]).arguments, "--lb-name", balancer.name)
        commands = [
            az(
                "network lb outbound-rule update",
                *where,
                *("--name", rule.name),
                *("--idle-timeout", str(SHORT_TIMEOUT)),
            )
            for rule in slow
        ]
    return [Remediation(summary=summary, commands=tuple(commands), docs=_TIMEOUT_DOCS)]


# --- a NAT gateway ---------------------------------------------------------------------------------


def _to_gateway(snapshot: Snapshot, cannot: str, wanted: int) -> Remediation:
    """A NAT gateway instead of the load balancer: AKS's own, or on a network that the owner brought along."""
    cluster = snapshot.cluster
    addresses = f"{wanted} address{'es' * (wanted != 1)}"
    summary = (
        f"{cannot or 'As what lasts: '}{'L' if cannot else 'l'}et the cluster go out by a NAT gateway, whose "
        f"{GATEWAY_PORTS:,} ports for each address go to whichever node needs them ({addresses} for a "
        f"start). {_MOVES}"
    )
    if not cluster.own_network:
        command = az(
            "aks update",
            *named(cluster),
            *("--outbound-type", "managedNATGateway"),
            *("--nat-gateway-managed-outbound-ip-count", str(wanted)),
        )
        return Remediation(summary=summary, commands=(command,), docs=_TYPE_DOCS)
    return Remediation(summary=summary, commands=tuple(_own_gateway(snapshot, wanted)), docs=_TYPE_DOCS)


def _own_gateway(snapshot: Snapshot, wanted: int) -> list[str]:
    """A NAT gateway on every subnet of nodes that has none; nothing where a subnet could not be read."""
    cluster = snapshot.cluster
    subnets: dict[str, str] = {}
    for place in (place for pool in snapshot.pools for place in pool.placements):
        if isinstance(place.subnet, Missing) or isinstance(place.subnet.nat_gateway, Missing):
            return []
        if place.subnet.nat_gateway is None:
            subnets.setdefault(resource_id.key(place.subnet.id), place.subnet.id)
    if not subnets:
        return []
    place_of_gateway = _place(cluster, list(subnets.values()))
    name = f"{cluster.ref.name}-outbound"
    made, ids = [], []
    for number in range(1, wanted + 1):
        made.append(_public_address(place_of_gateway, f"{name}-{number}", cluster.ref.location))
        ids.append(f"{name}-{number}")
    made.append(
        az(
            "network nat gateway create",
            *place_of_gateway.arguments,
            *("--name", name),
            *("--location", cluster.ref.location),
            *("--public-ip-addresses", *ids),
            *("--idle-timeout", str(SHORT_TIMEOUT)),
        )
    )
    gateway = place_of_gateway.id_of("natGateways", name)
    for subnet in subnets.values():
        parts = resource_id.parse(subnet)
        made.append(
            az(
                "network vnet subnet update",
                *_place(cluster, [subnet]).arguments,
                *("--vnet-name", parts.names[0]),
                *("--name", parts.name),
                *("--nat-gateway", gateway),
            )
        )
    made.append(az("aks update", *named(cluster), "--outbound-type", "userAssignedNATGateway"))
    return made


def _at_gateway(cluster: Cluster, gateway: NatGateway) -> list[Remediation]:
    """More addresses for a NAT gateway that is there: half as many again."""
    held = count_addresses(of_ipv4(gateway.frontends)) or len(gateway.frontends)
    target = min(max(held + 1, -(-held * 3 // 2)), GATEWAY_ADDRESSES)
    parts = resource_id.parse(gateway.id)
    if held >= GATEWAY_ADDRESSES:
        summary = (
            f'NAT gateway "{gateway.name}" has {held} addresses, and {GATEWAY_ADDRESSES} are the most. Put '
            "node pools into several subnets, each with a NAT gateway of its own."
        )
        return [Remediation(summary=summary, docs=_GATEWAY_DOCS)]
    summary = (
        f"Give the NAT gateway {target} addresses instead of {held}: each has {GATEWAY_PORTS:,} ports, for "
        "whichever node needs them. The new ones have to be allowed wherever the present ones are by number."
    )
    managed = (
        cluster.outbound_type.lower().startswith("managednatgateway")
        and parts.resource_group.lower() == cluster.node_resource_group.lower()
    )
    if managed:
        command = az("aks update", *named(cluster), "--nat-gateway-managed-outbound-ip-count", str(target))
        return [Remediation(summary=summary, commands=(command,), docs=_MANAGED_GATEWAY_DOCS)]
    place = _place(cluster, [gateway.id])
    ids = [
        one.source_id for one in of_ipv4(gateway.frontends) if "/publicipaddresses/" in one.source_id.lower()
    ]
    fresh = _unused(f"{gateway.name}-outbound", ids)
    commands = []
    for _ in range(target - held):
        name = next(fresh)
        sku = gateway.sku or "Standard"
        commands.append(_public_address(place, name, gateway.location or cluster.ref.location, sku=sku))
        ids.append(place.id_of("publicIPAddresses", name))
    commands.append(
        az(
            "network nat gateway update",
            *place.arguments,
            *("--name", gateway.name),
            *("--public-ip-addresses", *ids),
        )
    )
    return [Remediation(summary=summary, commands=tuple(commands), docs=_GATEWAY_DOCS)]


# --- a firewall ------------------------------------------------------------------------------------


def _at_firewall(cluster: Cluster, firewall: Firewall) -> list[Remediation]:
    """More public addresses for a firewall: half as many again, some at once."""
    more = min(max(-(-firewall.public_addresses // 2), 1), AT_ONCE)
    place = _place(cluster, [firewall.id])
    fresh = _unused(f"{firewall.name}-outbound", ())
    commands = []
    for _ in range(more):
        name = next(fresh)
        commands.append(_public_address(place, name, firewall.location or cluster.ref.location))
        commands.append(
            az(
                "network firewall ip-config create",
                *place.arguments,
                *("--firewall-name", firewall.name),
                *("--name", name),
                *("--public-ip-address", name),
            )
        )
    has = f" beside the {firewall.public_addresses} that it has" if firewall.public_addresses else ""
    summary = (
        f"Give the firewall {more} more public address{'es' * (more != 1)}{has}: each has {FIREWALL_PORTS:,} "
        "ports on each instance. (One in a virtual hub takes them as a number: "
        "`az network firewall update --public-ip-count`.)"
    )
    lasting = (
        "As what lasts: put a NAT gateway on the firewall's subnet, AzureFirewallSubnet, whose "
        f"{GATEWAY_PORTS:,} ports for each address the firewall then uses instead of its own."
    )
    return [
        Remediation(summary=summary, commands=tuple(commands), docs=_FIREWALL_DOCS),
        Remediation(summary=lasting, docs=_FIREWALL_DOCS),
    ]


# --- everywhere ------------------------------------------------------------------------------------


def _pooling(way: WayOut, busiest: Sequence[str]) -> Remediation:
    """Applications that reuse connections, those on the busiest nodes first."""
    existing = set(way.nodes.values())
    names = [name for name in dict.fromkeys(busiest) if name in existing][:NAMED]
    where = f" on the busiest node{'s' * (len(names) > 1)} ({', '.join(names)}) first" if names else ""
    return Remediation(
        summary=(
            f"Let applications{where} keep and reuse connections (pooling, HTTP keep-alive) instead of "
            "opening one for each request, and reach Azure's own services by private endpoints, which take "
            "no SNAT port."
        ),
        commands=tuple(
            f"kubectl get pods --all-namespaces --field-selector {shlex.quote(f'spec.nodeName={name}')}"
            for name in names
        ),
        docs=_POOLING_DOCS,
    )


def named(cluster: Cluster) -> tuple[str, ...]:
    """The arguments that name the cluster to the CLI."""
    return (
        *("--subscription", cluster.ref.subscription_id),
        *("--resource-group", cluster.ref.resource_group),
        *("--name", cluster.ref.name),
    )


class _Place(Struct, frozen=True):
    """A resource group, in which something is made."""

    subscription_id: str
    resource_group: str

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments that name it to the CLI."""
        return ("--subscription", self.subscription_id, "--resource-group", self.resource_group)

    def id_of(self, kind: str, name: str) -> str:
        """The id of something of Microsoft.Network in it."""
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.Network/{kind}/{name}"
        )


def _place(cluster: Cluster, ids: Sequence[str]) -> _Place:
    """Where the first of some resources is, or else the cluster."""
    try:
        parts = resource_id.parse(ids[0])
    except (IndexError, ValueError):
        return _Place(cluster.ref.subscription_id, cluster.ref.resource_group)
    return _Place(parts.subscription_id, parts.resource_group)


def _public_address(
    place: _Place, name: str, location: str, *, version: int = 4, sku: str = "Standard"
) -> str:
    """The command that makes a public address."""
    return az(
        "network public-ip create",
        *place.arguments,
        *("--name", name),
        *("--location", location),
        *("--sku", sku),
        *("--version", f"IPv{version}"),
        *("--allocation-method", "Static"),
    )


def _unused(stem: str, taken: Iterable[str]) -> Iterator[str]:
    """Names that none of some resources has: `aks-shop-outbound-1`, `-2` …"""
    known = {one.rsplit("/", 1)[-1].lower() for one in taken}
    return (name for number in count(1) if (name := f"{stem}-{number}").lower() not in known)
