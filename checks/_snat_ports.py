"""The arithmetic of SNAT ports: how many there are, and for how many nodes.

Numbers are Microsoft's own, of these pages:
https://learn.microsoft.com/azure/load-balancer/load-balancer-outbound-connections (load balancers),
https://learn.microsoft.com/azure/aks/configure-load-balancer-standard (what AKS makes of them),
https://learn.microsoft.com/azure/nat-gateway/nat-gateway-resource (NAT gateways) and
https://learn.microsoft.com/azure/firewall/firewall-known-issues (Azure Firewall).
"""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from facts import resource_id
from facts.filters import Missing
from facts.outbound import Frontend, LoadBalancer, OutboundRule
from facts.snapshot import NodePool
from packets.addresses import parse_prefix

PORTS_PER_ADDRESS = 64_000
"""Ports of one public address that a load balancer allots to nodes, for TCP and again for UDP."""
BLOCK = 8
"""Ports are allotted by eights; a load balancing or inbound NAT rule of a frontend takes one such block."""
MOST_PORTS = 64_000
"""The most ports for a node that a cluster may ask for."""
MOST_ADDRESSES = 100
"""The most outbound addresses of a cluster's load balancer."""
DEFAULT_SURGE = ("10", "%")
"""Nodes that an upgrade adds where the pool says nothing of it, as the API has it; for this and the rest see
https://learn.microsoft.com/azure/aks/upgrade-aks-node-pools-rolling."""
HEADROOM = 0.5
"""A recommendation leaves half as much again above the peak: ports are let go late, after the idle timeout at
worst, and samples of once a minute miss what comes between them."""

GATEWAY_PORTS = 64_512
"""Ports of one public address of a NAT gateway, for whichever node asks first."""
GATEWAY_ADDRESSES = 16
GATEWAY_CONNECTIONS = 2_000_000
"""Connections through one NAT gateway, whatever its addresses."""
GATEWAY_TO_ONE_DESTINATION = 50_000
"""Connections from one address of a NAT gateway to one and the same destination."""

FIREWALL_PORTS = 2_496
"""Ports of one public address of an Azure Firewall, on each of its instances."""
FIREWALL_INSTANCES = 2
"""It has at least so many."""

# https://learn.microsoft.com/azure/load-balancer/load-balancer-outbound-connections#preallocatedports
_DEFAULT = ((50, 1024), (100, 512), (200, 256), (400, 128), (800, 64), (1000, 32))


LEAST_PORTS = _DEFAULT[-1][1]
"""The fewest ports of a node on each frontend address that Azure documents."""


def default_ports(nodes: int) -> int | None:
    """The ports of a node on each frontend address where Azure allots them; `None` beyond 1,000 nodes.

    By the size of the backend pool: 1,024 up to 50, then half as many at each step: 51, 101, 201, 401, 801.
    """
    return next((ports for most, ports in _DEFAULT if nodes <= most), None)


def next_step(nodes: int) -> int | None:
    """From how many nodes on each has fewer ports by default: 51 for 1 to 50; `None` beyond 1,000."""
    return next((most + 1 for most, _ in _DEFAULT if nodes <= most), None)


def count_addresses(frontends: Iterable[Frontend]) -> int | None:
    """The public addresses of frontends, all of a prefix's; `None` where some could not be read.

    Azure translates to every address of a prefix, its first and last included.
    """
    count = 0
    for one in frontends:
        if isinstance(one.addresses, Missing):
            return None
        for address in one.addresses:
            try:
                count += sum(last - first + 1 for first, last in parse_prefix(address).intervals)
            except ValueError:
                return None
    return count


def of_ipv4(frontends: Iterable[Frontend]) -> list[Frontend]:
    """Those of a NAT gateway's frontends that are not known to be of IPv6, which are counted apart."""
    return [
        one
        for one in frontends
        if isinstance(one.addresses, Missing) or not any(":" in address for address in one.addresses)
    ]


def ip_version(rule: OutboundRule) -> Literal[4, 6]:
    """The version of IP that an outbound rule translates: of its addresses, or else by AKS's name for it."""
    known = [
        address
        for one in rule.frontends
        if not isinstance(one.addresses, Missing)
        for address in one.addresses
    ]
    if known:
        return 6 if all(":" in address for address in known) else 4
    return 6 if rule.name.lower().endswith("ipv6") else 4


def taken_blocks(rule: OutboundRule) -> int:
    """Blocks of ports that load balancing and inbound NAT rules take at most: some may share one."""
    return sum(one.rules for one in rule.frontends)


def ports_in_all(addresses: int, blocks: int = 0) -> int:
    """What a load balancer has to allot."""
    return max(PORTS_PER_ADDRESS * addresses - BLOCK * blocks, 0)


def fits(ports: int, addresses: int, blocks: int = 0) -> int:
    """The nodes that can have so many ports each: 128 with 1,000 on 2 addresses, 112 with 4,000 on 7.

    An explicit number is for each node over all addresses: another address has room for more nodes, and gives
    none of them more ports.
    """
    return ports_in_all(addresses, blocks) // ports


def ports_of_node(rule: OutboundRule, nodes: int) -> int | None:
    """Ports of each of so many nodes by a rule, over all its addresses; `None` where they are not known."""
    if rule.allocated_ports:
        return rule.allocated_ports
    addresses, each = count_addresses(rule.frontends), default_ports(nodes)
    return addresses * each if addresses and each else None


# --- how many nodes --------------------------------------------------------------------------------


def surge(max_surge: str, nodes: int) -> int:
    """The nodes that an upgrade adds to a pool of so many: `33%` is rounded up, `500` is all of them at most.

    What cannot be read counts as the default. 0 is none: AKS takes it only where `maxUnavailable` has nodes
    upgraded in place.
    """
    written = re.fullmatch(r"(\d+)\s*(%?)", max_surge.strip())
    number, unit = written.groups() if written else DEFAULT_SURGE
    return min(-(-nodes * int(number) // 100) if unit else int(number), nodes)


class PoolSize(Struct, frozen=True, kw_only=True):
    """How many nodes a pool has, and may have."""

    name: str
    now: int | None
    """`None` where Azure says neither how many there should be nor how many there are."""
    here: int
    """Those that exist, or should at least: an upgrade may have added some already."""
    most: int | None
    """With those of the autoscaler and of an upgrade's surge."""

    @property
    def words(self) -> str:
        """As a sentence names it: `user 40 (60 at most)`."""
        if self.now is None:
            return f"{self.name} an unknown number"
        return f"{self.name} {self.now:,} ({self.most:,} at most)"


def pool_size(pool: NodePool) -> PoolSize:
    """The nodes of a pool now, and at most: the autoscaler's maximum or its count, and an upgrade's surge."""
    listed = sum(len(place.nodes) for place in pool.placements)
    now = pool.count
    if now is None and (listed or not pool.missing):
        now = listed
    most = None
    if now is not None:
        base = max(now, pool.max_count or 0)
        most = max(base + surge(pool.max_surge, base), listed)
    return PoolSize(name=pool.name, now=now, here=max(now or 0, listed), most=most)


class Sharing(Struct, frozen=True, kw_only=True):
    """The nodes that have ports of an outbound rule."""

    pools: tuple[PoolSize, ...]
    """Those that get out by it."""
    idle: tuple[PoolSize, ...]
    """Those that get out by another way, and have ports of it all the same: they are in its backend pool."""
    others: int
    """Members of its backend pool that belong to no pool shown, as those that AKS provisions for pods."""
    counted: bool
    """Whether Azure shows how many members there are."""

    @property
    def now(self) -> int | None:
        """How many there are; `None` where a pool's are not known."""
        return self._sum(one.now for one in (*self.pools, *self.idle))

    @property
    def most(self) -> int | None:
        """How many there may be, other members as they are now; `None` where a pool's are not known."""
        return self._sum(one.most for one in (*self.pools, *self.idle))

    @property
    def words(self) -> str:
        """Pool by pool, as a sentence names them."""
        words = [one.words for one in self.pools]
        words += [f"{one.words}, which gets out by another way but has ports here" for one in self.idle]
        if self.others:
            words.append(f"{self.others:,} in no node pool")
        return "; ".join(words)

    def _sum(self, counts: Iterable[int | None]) -> int | None:
        total = self.others
        for count in counts:
            if count is None:
                return None
            total += count
        return total


def sharing(
    balancer: LoadBalancer, rule: OutboundRule, pools: Sequence[NodePool], every: Iterable[NodePool]
) -> Sharing:
    """Who has ports of an outbound rule: pools that get out by it, and whoever else is in its backend pool.

    Azure allots ports to every member, whether or not it gets out by another way.
    """
    names = {pool.name for pool in pools}
    idle = [
        pool_size(pool)
        for pool in every
        if pool.name not in names and not pool.stopped and _is_member(balancer, pool)
    ]
    sizes = [pool_size(pool) for pool in pools]
    here = sum(size.here for size in (*sizes, *idle))
    return Sharing(
        pools=tuple(sizes),
        idle=tuple(idle),
        others=max(rule.members - here, 0) if rule.members is not None else 0,
        counted=rule.members is not None,
    )


def _is_member(balancer: LoadBalancer, pool: NodePool) -> bool:
    """Whether Azure shows a pool's scale set, or an address of its nodes, in the backend pool."""
    own = {resource_id.key(one) for one in pool.resource_ids}
    own |= {address for place in pool.placements for node in place.nodes for address in node.addresses}
    return bool(own & (balancer.backends or frozenset()))


# --- what to ask for -------------------------------------------------------------------------------


class Plan(Struct, frozen=True):
    """Ports for each node, and the addresses that they take."""

    ports: int
    addresses: int


def wanted_ports(peak: float | None, present: int | None, *, failed: bool = False) -> int | None:
    """The ports that a node should have: its peak and headroom, and never fewer than it has.

    Where connections failed for want of ports the peak says nothing of how many were wanted: then it is twice
    what there are. `None` where neither is known.
    """
    known = [BLOCK] * (peak is not None)
    if peak is not None:
        known.append(math.ceil(peak * (1 + HEADROOM)))
    if present is not None:
        known.append(present * (2 if failed else 1))
    return -(-max(known) // BLOCK) * BLOCK if known else None


def plan(ports: int, nodes: int, *, addresses: int, blocks: int = 0) -> Plan | None:
    """The fewest addresses, but none fewer than there are, that hold so many ports for each of so many nodes.

    `None` where that takes more than Azure allows to be added.
    """
    needed = max(-(-(ports * nodes + BLOCK * blocks) // PORTS_PER_ADDRESS), addresses, 1)
    if ports > MOST_PORTS or needed > max(MOST_ADDRESSES, addresses):
        return None
    return Plan(ports, needed)


def gateway_connections(addresses: int) -> int:
    """The connections that a NAT gateway carries if no two share a port: more, where destinations differ."""
    return min(GATEWAY_PORTS * addresses, GATEWAY_CONNECTIONS)


def gateway_addresses(ports: int, nodes: int) -> int:
    """The addresses of a NAT gateway that do if every node uses so many ports at once; 16 at the most."""
    return min(max(-(-ports * nodes // GATEWAY_PORTS), 1), GATEWAY_ADDRESSES)


def firewall_ports(addresses: int) -> int:
    """The ports of an Azure Firewall on the instances that it has at least, for each destination."""
    return FIREWALL_PORTS * FIREWALL_INSTANCES * addresses
