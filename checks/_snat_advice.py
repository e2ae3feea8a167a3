"""Commands that give nodes more SNAT ports: complete, quoted for a POSIX shell, the smallest change first."""

import math
import shlex
from collections.abc import Iterable, Iterator, Sequence
from itertools import count

from msgspec import Struct

from checks._remedies import az
from checks._snat_ports import (
    FIREWALL_PORTS,
    GATEWAY_ADDRESSES,
    GATEWAY_CONNECTIONS,
    GATEWAY_PORTS,
    HEADROOM,
    LEAST_PORTS,
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
from facts.outbound import Frontend, LoadBalancer, NatGateway, OutboundRule
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
_DATAPATH_DOCS = "https://learn.microsoft.com/azure/nat-gateway/troubleshoot-nat-connectivity"
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
AT_ONCE = 16
"""Public addresses that one remedy adds to a firewall at the most."""
FIREWALL_ADDRESSES = 250
"""The most that a firewall takes (https://learn.microsoft.com/azure/firewall/deploy-multi-public-ip-powershell)."""
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
    degraded: bool = False,
) -> tuple[Remediation, ...]:
    """The ways to have enough ports, the smallest change first.

    `peak` is the most that was seen, if anybody saw it: ports of one node at a load balancer, connections at
    a NAT gateway, percent of its ports at a firewall. `failed` says that connections failed for want of
    ports, `degraded` that a NAT gateway's data path did. `busiest` are names of nodes, the busiest first.
    Without `usage` it is not use that is at fault, but how many nodes there may be: nothing is said then of
    connections that are held.
    """
    match way.gate:
        case LoadBalancer() as balancer:
            found = _at_balancer(snapshot, way, balancer, peak=peak, failed=failed, usage=usage)
        case NatGateway() as gateway:
            found = [] if degraded and not failed else [_at_gateway(snapshot.cluster, gateway, peak)]
            if degraded:
                found.append(_data_path())
        case Firewall() as firewall:
            found = _at_firewall(snapshot.cluster, firewall, peak)
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

    def least(self, peak: float | None) -> int | None:
        """What each should have at least where nobody says what it has, if there is a peak to reckon from."""
        return None if peak is None else LEAST_PORTS * self.addresses


def _of_aks(balancer: LoadBalancer) -> bool:
    """Whether AKS made a load balancer, and not somebody beside it."""
    return balancer.name.lower() == "kubernetes" or any(
        rule.name.lower().startswith("aksoutboundrule") for rule in balancer.rules
    )


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
    own = cluster.outbound_type.lower() not in _OTHER_TYPES and _of_aks(balancer)
    held = _held(snapshot, way, balancer)
    found = []
    cannot = ""
    ports = None
    if held:
        wishes = [wanted_ports(peak, one.present or one.least(peak), failed=failed) for one in held]
        known = [wish for wish in wishes if wish is not None]
        ports = max(known, default=None)
    if ports is not None:
        asked = {4: cluster.outbound.managed_addresses, 6: cluster.outbound.managed_addresses_v6}
        plans = [
            plan(
                ports,
                one.most,
                addresses=max(one.addresses, asked[ip_version(one.rule)] or 0) if own else one.addresses,
                blocks=one.blocks,
            )
            for one in held
        ]
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
        if profile.address_ids or profile.prefix_ids:
            made, arguments = _owned(cluster, missing)
            commands += made
        else:
            arguments = _managed(held, plans)
    commands.append(
        az("aks update", *named(cluster), *arguments, "--load-balancer-outbound-ports", str(plans[0].ports))
    )
    return Remediation(summary=_summary(held, plans), commands=tuple(commands), docs=_BALANCER_DOCS)


def _owned(cluster: Cluster, missing: dict[int, int]) -> tuple[list[str], tuple[str, ...]]:
    """Commands that make what is missing of what the owner brings along, and how the CLI is told of it all.

    It clears whichever of addresses and prefixes it is not told.
    """
    addresses, prefixes = list(cluster.outbound.address_ids), list(cluster.outbound.prefix_ids)
    if addresses:
        commands, addresses = _more_addresses(cluster, addresses, missing)
    else:
        commands, prefixes = _more_prefixes(cluster, prefixes, missing)
    told = (
        ("--load-balancer-outbound-ips", addresses),
        ("--load-balancer-outbound-ip-prefixes", prefixes),
    )
    return commands, tuple(word for option, ids in told if ids for word in (option, ",".join(ids)))


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
    cluster: Cluster,
    ids: Sequence[str],
    missing: dict[int, int],
    *,
    gateway: NatGateway | None = None,
    place: "_Place | None" = None,
) -> tuple[list[str], list[str]]:
    """Commands that make public addresses beside those there are, and the ids of all of them.

    They are for the load balancer, or for a NAT gateway, whose SKU they have to have.
    """
    place = place or _place(cluster, ids)
    stem, sku, location = cluster.ref.name, "Standard", cluster.ref.location
    if gateway is not None:
        stem, sku, location = gateway.name, gateway.sku or sku, gateway.location or location
    fresh = _unused(f"{stem}-outbound", ids)
    commands, every = [], list(ids)
    for version, needed in missing.items():
        for _ in range(needed):
            name = next(fresh)
            commands.append(_public_address(place, name, location, version=version, sku=sku))
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
    """A NAT gateway instead of the load balancer: AKS's own, or on a network that the owner brought along.

    Without commands where Microsoft does not document that the outbound type can be changed so.
    """
    cluster = snapshot.cluster
    addresses = f"{wanted} address{'es' * (wanted != 1)}"
    summary = (
        f"{cannot or 'As what lasts: '}{'L' if cannot else 'l'}et the cluster go out by a NAT gateway, whose "
        f"{GATEWAY_PORTS:,} ports for each address go to whichever node needs them ({addresses} for a "
        f"start). {_MOVES}"
    )
    kind = cluster.outbound_type.lower()
    commands: list[str] = []
    if cluster.own_network and kind in {"loadbalancer", "userdefinedrouting", "userassignednatgateway"}:
        commands = _own_gateways(snapshot, wanted)
        if commands and kind != "userassignednatgateway":
            commands.append(az("aks update", *named(cluster), "--outbound-type", "userAssignedNATGateway"))
    elif not cluster.own_network and kind == "loadbalancer":
        commands = [
            az(
                "aks update",
                *named(cluster),
                *("--outbound-type", "managedNATGateway"),
                *("--nat-gateway-managed-outbound-ip-count", str(wanted)),
            )
        ]
    return Remediation(summary=summary, commands=tuple(commands), docs=_TYPE_DOCS)


def _own_gateways(snapshot: Snapshot, wanted: int) -> list[str]:
    """A NAT gateway in each network, on every subnet of nodes that has none.

    Nothing where a subnet could not be read.
    """
    networks: dict[str, dict[str, str]] = {}
    for place in (place for pool in snapshot.pools for place in pool.placements):
        if isinstance(place.subnet, Missing) or isinstance(place.subnet.nat_gateway, Missing):
            return []
        if place.subnet.nat_gateway is None:
            key = resource_id.key(place.subnet.id)
            networks.setdefault(resource_id.parent(key), {}).setdefault(key, place.subnet.id)
    name = f"{snapshot.cluster.ref.name}-nat"
    commands = []
    for number, subnets in enumerate(networks.values()):
        own = f"{name}-{resource_id.parse(next(iter(subnets.values()))).names[0]}" if number else name
        commands += _own_gateway(snapshot, own, list(subnets.values()), wanted)
    return commands


def _own_gateway(snapshot: Snapshot, name: str, subnets: Sequence[str], wanted: int) -> list[str]:
    """A NAT gateway of that name on some subnets of one network."""
    cluster = snapshot.cluster
    where = _place(cluster, subnets)
    taken = cluster.outbound.address_ids
    fresh = [one for one, _ in zip(_unused(name, taken), range(wanted), strict=False)]
    made = [_public_address(where, one, cluster.ref.location) for one in fresh]
    made.append(
        az(
            "network nat gateway create",
            *where.arguments,
            *("--name", name),
            *("--location", cluster.ref.location),
            *("--public-ip-addresses", *fresh),
            *("--idle-timeout", str(SHORT_TIMEOUT)),
        )
    )
    gateway = where.id_of("natGateways", name)
    for subnet in subnets:
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
    return made


def _at_gateway(cluster: Cluster, gateway: NatGateway, peak: float | None) -> Remediation:
    """More addresses for a NAT gateway that is there: half as many again, or what its connections take."""
    counted = of_ipv4(gateway.frontends)
    held = count_addresses(counted)
    within = f"/subscriptions/{cluster.ref.subscription_id}/resourceGroups/{cluster.node_resource_group}"
    managed = cluster.outbound_type.lower().startswith("managednatgateway") and resource_id.is_within(
        gateway.id, within
    )
    if managed and held is None:
        held = cluster.outbound.gateway_addresses
    if held is not None and held >= GATEWAY_ADDRESSES:
        summary = (
            f'NAT gateway "{gateway.name}" has {held} addresses, and {GATEWAY_ADDRESSES} are the most. Put '
            "node pools into several subnets, each with a NAT gateway of its own."
        )
        return Remediation(summary=summary, docs=_GATEWAY_DOCS)
    target = None
    if held is not None:
        wished = math.ceil((peak or 0.0) * (1 + HEADROOM) / GATEWAY_PORTS)
        target = min(max(held + 1, -(-held * 3 // 2), wished), GATEWAY_ADDRESSES)
    more = 1 if held is None or target is None else target - held
    summary = (
        f"Give the NAT gateway {f'{target} addresses instead of {held}' if target else '1 more address'}: "
        f"each has {GATEWAY_PORTS:,} ports, for whichever node needs them. The new ones have to be allowed "
        "wherever the present ones are by number."
    )
    if not managed:
        commands = _more_for_gateway(cluster, gateway, counted, more)
        return Remediation(summary=summary, commands=tuple(commands), docs=_GATEWAY_DOCS)
    brought = [one.source_id for one in gateway.frontends if not resource_id.is_within(one.source_id, within)]
    option = "--nat-gateway-managed-outbound-ip-count"
    commands = [az("aks update", *named(cluster), option, str(target))] if target else []
    if brought:
        # AKS keeps to whoever brought the first addresses, and the CLI leaves prefixes as they are.
        commands, ids = _more_addresses(cluster, _addresses_of(brought), {4: more}, gateway=gateway)
        commands.append(az("aks update", *named(cluster), "--nat-gateway-outbound-ips", ",".join(ids)))
    return Remediation(summary=summary, commands=tuple(commands), docs=_MANAGED_GATEWAY_DOCS)


def _more_for_gateway(
    cluster: Cluster, gateway: NatGateway, counted: Iterable[Frontend], more: int
) -> list[str]:
    """So many more addresses for a gateway of the owner's, beside its own group's."""
    place = _place(cluster, [gateway.id])
    commands, ids = _more_addresses(
        cluster, _addresses_of(one.source_id for one in counted), {4: more}, gateway=gateway, place=place
    )
    commands.append(
        az(
            "network nat gateway update",
            *place.arguments,
            *("--name", gateway.name),
            *("--public-ip-addresses", *ids),
        )
    )
    return commands


def _addresses_of(source_ids: Iterable[str]) -> list[str]:
    """Those that are addresses, and no prefixes."""
    return [one for one in source_ids if "/publicipaddresses/" in one.lower()]


def _data_path() -> Remediation:
    """What is to be done about a data path: without failed connections it is not ports that are missing."""
    return Remediation(
        summary=(
            "See what Azure says of the NAT gateway (Resource health in the portal) and of the region: its "
            f"data path is Azure's own. More than {GATEWAY_CONNECTIONS:,} connections through one gateway "
            "degrade it too: then put node pools into several subnets, each with a NAT gateway of its own."
        ),
        docs=_DATAPATH_DOCS,
    )


# --- a firewall ------------------------------------------------------------------------------------


def _at_firewall(cluster: Cluster, firewall: Firewall, peak: float | None) -> list[Remediation]:
    """More public addresses for a firewall: as many as give half as much again of what is in use."""
    has = firewall.public_addresses
    share = 1.0 if peak is None else peak / 100
    more = max(math.ceil(has * share * (1 + HEADROOM)) - has, 1)
    lasting = (
        "put a NAT gateway on the firewall's subnet, AzureFirewallSubnet, whose "
        f"{GATEWAY_PORTS:,} ports for each address the firewall then uses instead of its own."
    )
    if more > AT_ONCE or has + more > FIREWALL_ADDRESSES:
        summary = (
            f"The firewall has {has} public addresses and would take {more} more, of {FIREWALL_ADDRESSES} at "
            f"the most: {lasting}"
        )
        return [Remediation(summary=summary, docs=_FIREWALL_DOCS)]
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
    beside = f" beside the {has} that it has" if has else ""
    summary = (
        f"Give the firewall {more} more public address{'es' * (more != 1)}{beside}: each has "
        f"{FIREWALL_PORTS:,} ports on each instance. (One in a virtual hub takes them as a number: "
        "`az network firewall update --public-ip-count`.)"
    )
    return [
        Remediation(summary=summary, commands=tuple(commands), docs=_FIREWALL_DOCS),
        Remediation(summary=f"As what lasts: {lasting}", docs=_FIREWALL_DOCS),
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
