"""Which nodes are probed in a scan, and which addresses they try.

A large pool is sampled by rendezvous hashing: each node has a rank that follows from the scan and the
node alone, so that everybody who looks at one scan chooses the same nodes, whatever others come and
go, and every node has its turn as scans go by.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator
from ipaddress import ip_address

from msgspec import Struct

from facts.resource_id import key
from facts.snapshot import Node, NodePool, Snapshot

MOST_NODES = 30
"""Nodes of one cluster that are probed in a scan, however many pools it has."""
MOST_SUSPECTS = 10
"""Nodes of one pool that are probed again because something was found or could not be seen there."""
MOST_ADDRESSES = 32
"""Addresses that each of them tries."""


class Target(Struct, frozen=True):
    """A node to be probed."""

    pool: NodePool
    node: Node


def machines(snapshot: Snapshot) -> dict[str, Target]:
    """Every node that a script could be run on, by the key of its machine's id; system pools first."""
    return {
        key(node.machine_id): Target(pool, node)
        for pool in sorted(snapshot.pools, key=_order)
        if can_be_probed(pool)
        for placement in pool.placements
        for node in placement.nodes
        if node.machine_id
    }


def can_be_probed(pool: NodePool) -> bool:
    """Whether a pool's nodes run Linux, and run at all."""
    return not pool.stopped and pool.os_type.lower() != "windows"


def choose(
    nodes: dict[str, Target], scan_id: str, *, per_pool: int, suspects: Collection[str] = ()
) -> tuple[Target, ...]:
    """The nodes to probe in a scan: suspects, and some of each pool; system pools first.

    `suspects` are keys of machines' ids. In the order of their ranks, so that with many pools every pool
    has its turn too.
    """
    of_pool: dict[str, list[str]] = {}
    for machine, target in nodes.items():
        of_pool.setdefault(target.pool.name, []).append(machine)
    picked: dict[str, None] = {}
    for there in of_pool.values():
        ranked = sorted(there, key=lambda one: rank(scan_id, one))
        again = [machine for machine in ranked if machine in suspects][:MOST_SUSPECTS]
        picked.update(dict.fromkeys((*again, *ranked[:per_pool])))
    in_order = sorted(
        picked,
        key=lambda one: (not _is_system(nodes[one].pool), one not in suspects, rank(scan_id, one)),
    )
    return tuple(nodes[machine] for machine in in_order[:MOST_NODES])


def addresses(
    chosen: Iterable[Target], nodes: dict[str, Target], scan_id: str, *, suspects: Collection[str] = ()
) -> dict[str, str]:
    """The addresses that every probed node tries, with their machines' ids.

    Of suspects, whoever is probed, since a pair that failed has to be tried again; then of the others that
    are probed, then of some of the rest. Of each node the first, by which the control plane knows it.
    """
    suspected = [target for machine, target in nodes.items() if machine in suspects]
    own = [*suspected, *chosen]
    others = sorted(
        (target for target in nodes.values() if target not in own),
        key=lambda target: rank(scan_id, target.node.machine_id),
    )
    found: dict[str, str] = {}
    for target in (*own, *others):
        for address in _readable(target.node.addresses[:1]):
            found.setdefault(address, target.node.machine_id)
    return dict(list(found.items())[:MOST_ADDRESSES])


def rank(scan_id: str, machine: str) -> bytes:
    """The place of a machine in the order of a scan."""
    return hashlib.sha256(f"{scan_id}\n{key(machine)}".encode()).digest()


def _order(pool: NodePool) -> tuple[bool, str]:
    return (not _is_system(pool), pool.name)


def _is_system(pool: NodePool) -> bool:
    return pool.mode.lower() == "system"


def _readable(written: Iterable[str]) -> Iterator[str]:
    """The addresses in their usual form, without what is none: they go into a script's parameters."""
    for one in written:
        try:
            yield str(ip_address(one.strip()))
        except ValueError:
            continue
