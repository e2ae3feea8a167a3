"""Which nodes are probed: stable within a scan, everybody in time, system pools and suspects first."""

from hypothesis import given
from hypothesis import strategies as st

from facts.resource_id import key
from facts.snapshot import NodePool
from pipeline.probe.sample import (
    MOST_ADDRESSES,
    MOST_NODES,
    MOST_SUSPECTS,
    Target,
    addresses,
    choose,
    machines,
)
from tests import snapshots as make

NODES = make.subnet("nodes", "10.240.0.0/16")


def a_pool(
    name: str, count: int, *, network: int = 0, mode: str = "User", os_type: str = "Linux"
) -> NodePool:
    """A pool of so many nodes."""
    own = " ".join(f"10.240.{network + number // 250}.{4 + number % 250}" for number in range(count))
    return make.pool(name, NODES, own, mode=mode, os_type=os_type)


def nodes_of(*pools: NodePool) -> dict[str, Target]:
    """The nodes that could be probed."""
    return machines(make.snapshot(*pools))


def names(chosen: tuple[Target, ...]) -> list[str]:
    """The names of chosen nodes."""
    return [target.node.name for target in chosen]


SYSTEM = a_pool("system", 5, mode="System")
USER = a_pool("user", 200, network=10)


def test_windows_and_stopped_pools_are_left_out() -> None:
    """Nothing runs a shell script there."""
    windows = a_pool("win", 2, os_type="Windows")
    stopped = make.pool("off", NODES, "10.240.9.4", stopped=True)
    assert {target.pool.name for target in nodes_of(windows, stopped, SYSTEM).values()} == {"system"}


def test_some_of_each_pool_and_system_pools_first() -> None:
    """The tunnel's agents run in system pools."""
    chosen = choose(nodes_of(USER, SYSTEM), "scan-1", per_pool=3)
    assert [target.pool.name for target in chosen] == ["system"] * 3 + ["user"] * 3


def test_a_small_pool_is_probed_whole() -> None:
    """Three of two are two."""
    assert len(choose(nodes_of(a_pool("tiny", 2)), "scan-1", per_pool=3)) == 2


def test_suspects_are_probed_again_and_not_all_at_once() -> None:
    """Beside those whose turn it is."""
    nodes = nodes_of(USER)
    suspects = frozenset(list(nodes)[:25])
    chosen = [
        key(target.node.machine_id) for target in choose(nodes, "scan-1", per_pool=3, suspects=suspects)
    ]
    assert MOST_SUSPECTS <= len([one for one in chosen if one in suspects]) <= MOST_SUSPECTS + 3
    assert len(chosen) >= MOST_SUSPECTS
    assert chosen[0] in suspects


def test_many_pools_have_their_turn_as_scans_go_by() -> None:
    """No more than so many nodes in one scan, and no pool is left out for good."""
    nodes = nodes_of(*(a_pool(f"p{number}", 3, network=number) for number in range(25)))
    seen = set()
    for number in range(30):
        chosen = choose(nodes, f"scan-{number}", per_pool=2)
        assert len(chosen) == MOST_NODES
        seen |= {target.pool.name for target in chosen}
    assert len(seen) == 25


@given(st.text(min_size=1, max_size=40), st.integers(1, 10))
def test_everybody_who_looks_at_a_scan_chooses_the_same(scan_id: str, per_pool: int) -> None:
    """Whatever the order in which Azure lists pools and nodes."""
    nodes = nodes_of(USER, SYSTEM)
    other = dict(reversed(nodes.items()))
    assert names(choose(nodes, scan_id, per_pool=per_pool)) == names(
        choose(other, scan_id, per_pool=per_pool)
    )


@given(st.integers(0, 10**6))
def test_a_node_that_comes_moves_only_itself_in(number: int) -> None:
    """Rendezvous hashing: those that are chosen stay, but for the one that the new node pushes out."""
    before = set(names(choose(nodes_of(a_pool("user", 50)), f"scan-{number}", per_pool=3)))
    after = set(names(choose(nodes_of(a_pool("user", 51)), f"scan-{number}", per_pool=3)))
    assert len(before - after) <= 1
    assert after - before <= {"aks-user-50"}


def test_every_node_has_its_turn() -> None:
    """200 nodes, three at a time: after 1,000 scans each was probed, and none very often."""
    nodes = nodes_of(USER)
    turns = dict.fromkeys(nodes, 0)
    for number in range(1000):
        for target in choose(nodes, f"20260301T{number:06d}Z-0123abcd", per_pool=3):
            turns[key(target.node.machine_id)] += 1
    assert min(turns.values()) >= 1
    assert max(turns.values()) <= 45  # 15 on average


def test_addresses_are_those_of_the_probed_nodes_first() -> None:
    """Then some of the others, and no more than so many."""
    nodes = nodes_of(USER, SYSTEM)
    chosen = choose(nodes, "scan-1", per_pool=3)
    tried = list(addresses(chosen, nodes, "scan-1"))
    assert tried[: len(chosen)] == [target.node.addresses[0] for target in chosen]
    assert len(tried) == len(set(tried)) == MOST_ADDRESSES


def test_only_addresses_go_into_a_script() -> None:
    """What Azure gives as an address and is none is left out; the primary one stands for a node."""
    odd = make.pool("odd", NODES, "10.240.0.4,fd00:10::4 ;reboot FD00:10::5")
    nodes = nodes_of(odd)
    assert set(addresses((), nodes, "scan-1")) == {"10.240.0.4", "fd00:10::5"}


def test_suspects_are_tried_whoever_is_probed() -> None:
    """A pair that failed is tried again, also in a round in which the one at its end is not probed."""
    nodes = nodes_of(USER, SYSTEM)
    suspects = list(nodes)[-3:]
    tried = addresses(choose(nodes, "scan-1", per_pool=1)[:1], nodes, "scan-1", suspects=suspects)
    assert [key(machine) for machine in tried.values()][:3] == suspects
