"""Admin rules and groups along the way, against an oracle that walks every single pair of addresses."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from checks._places import Names, node_places
from checks._security import Traffic, judge
from facts.filters import NetworkSecurityGroup, SecurityRule
from facts.snapshot import Snapshot
from packets.addresses import parse_prefix
from tests.snapshots import admin, nsg, pool, rule, snapshot, subnet

LAW = settings(deadline=None, max_examples=150)

A, B = "10.0.0.0/29", "10.0.0.8/29"
HOSTS = {"a": range(4, 7), "b": range(12, 15), "c": range(4, 7)}
"""The last byte of the addresses that nodes of each pool can have; c is in the subnet of a."""
SUBNET = {"a": "a", "b": "b", "c": "a"}

SETS = ("*", A, B, "10.0.0.4", "10.0.0.12-10.0.0.13", "10.0.0.6", "VirtualNetwork", "Sql", "192.168.0.0/24")
ACCESS = ("Allow", "Deny")
ADMIN_ACCESS = ("Allow", "Deny", "AlwaysAllow", "AlwaysAllow", "AuditOnly")

Pair = tuple[str, str, int, int]
"""Pool and pool, the last byte of an address in each."""
Key = tuple[str, str]
"""A kind of filter, and what it guards."""


class World(Struct, frozen=True):
    """The rules of every filter there is, in the order in which they were drawn."""

    admin: dict[str, list[SecurityRule]]
    """By subnet: each is in a network of its own."""
    subnets: dict[str, list[SecurityRule]]
    interfaces: dict[str, list[SecurityRule]]
    """By pool."""

    def snapshot(self) -> Snapshot:
        """The cluster that the check sees."""

        def group(name: str, rules: list[SecurityRule]) -> NetworkSecurityGroup:
            return nsg(name, *rules)

        places = {
            name: subnet(
                name,
                own,
                group(name, self.subnets[name]),
                network=f"vnet-{name}",
                space=own,
                peers=other,
                admin_rules=admin(*self.admin[name], network=f"vnet-{name}"),
            )
            for name, own, other in (("a", A, B), ("b", B, A))
        }
        return snapshot(
            *(
                pool(name, places[SUBNET[name]], nic=group(f"nic-{name}", self.interfaces[name]), count=3)
                for name in HOSTS
            )
        )


@st.composite
def rules(draw: st.DrawFn, mark: str, accesses: tuple[str, ...]) -> list[SecurityRule]:
    """Up to four rules of one filter, with names of their own."""
    priorities = draw(st.lists(st.integers(100, 120), max_size=4, unique=True))
    return [
        rule(
            f"{mark}-{priority}",
            priority,
            draw(st.sampled_from(accesses)),
            direction=draw(st.sampled_from(("Inbound", "Outbound"))),
            protocol=draw(st.sampled_from(("Tcp", "*", "Udp"))),
            sources=draw(st.sampled_from(SETS)),
            destinations=draw(st.sampled_from(SETS)),
            ports=draw(st.sampled_from(("10250", "10250", "*", "443"))),
        )
        for priority in priorities
    ]


worlds = st.builds(
    World,
    st.fixed_dictionaries({name: rules(f"admin-{name}", ADMIN_ACCESS) for name in ("a", "b")}),
    st.fixed_dictionaries({name: rules(f"subnet-{name}", ACCESS) for name in ("a", "b")}),
    st.fixed_dictionaries({name: rules(f"nic-{name}", ACCESS) for name in HOSTS}),
)


# --- the oracle ----------------------------------------------------------------------------------


def holds(text: str, byte: int) -> bool | None:
    """Whether a rule's field holds an address; None if nobody knows."""
    if text == "Sql":
        return None
    if text in {"*", "VirtualNetwork"}:
        return True
    address = ip_address(f"10.0.0.{byte}")
    if "-" in text:
        first, last = map(ip_address, text.split("-"))
        return int(first) <= int(address) <= int(last)
    return address in ip_network(text)


def effects(rules: list[SecurityRule], direction: str, pair: Pair, otherwise: str) -> set[str]:
    """What a filter may do to one packet."""
    possible = set()
    for one in sorted(rules, key=lambda one: one.priority):
        if one.direction != direction or one.protocol == "Udp" or one.destination_ports == ("443",):
            continue
        found = {holds(one.sources[0], pair[2]), holds(one.destinations[0], pair[3])}
        if False in found:
            continue
        possible |= {"Allow", "Deny", "AlwaysAllow"} if one.access == "AuditOnly" else {one.access}
        if None not in found:
            return possible
    return possible | {otherwise}


def fates(world: World, direction: str, pair: Pair) -> set[bool]:
    """Whether one packet may pass all filters of a direction."""
    guarded = pair[1] if direction == "Inbound" else pair[0]
    where = SUBNET[guarded]
    found = set()
    for first in effects(world.admin[where], direction, pair, "Allow"):
        if first != "Allow":
            found.add(first == "AlwaysAllow")
            continue
        for nic, outer in product(
            effects(world.interfaces[guarded], direction, pair, "Allow"),
            effects(world.subnets[where], direction, pair, "Allow"),
        ):
            found.add(nic == outer == "Allow")
    return found


def pairs() -> Iterator[Pair]:
    """Every packet that is asked about."""
    for source, destination in product(HOSTS, repeat=2):
        for ends in product(HOSTS[source], HOSTS[destination]):
            yield (source, destination, *ends)


def vague(world: World) -> bool:
    """Whether any rule can be in doubt."""
    every = [*world.admin.values(), *world.subnets.values(), *world.interfaces.values()]
    return any(
        one.access == "AuditOnly" or "Sql" in (*one.sources, *one.destinations)
        for rules in every
        for one in rules
    )


@LAW
@given(worlds)
def test_what_is_denied_is_what_the_oracle_denies(world: World) -> None:
    """Blocks hold the pairs that no resolution of doubts lets through, and no others; doubts are told."""
    what = world.snapshot()
    places, _ = node_places(what)
    traffic = Traffic(protocol="tcp", port=10250, sources=tuple(places), destinations=tuple(places))
    judged = judge(traffic, Names(what))
    denied = {
        pair
        for block in judged.blocks
        for (source, destination), boxes in block.pairs.items()
        for box in boxes
        for pair in pairs()
        if pair[:2] == (source, destination)
        and parse_prefix(f"10.0.0.{pair[2]}") & box.sources
        and parse_prefix(f"10.0.0.{pair[3]}") & box.destinations
    }
    outcomes = {pair: (fates(world, "Outbound", pair), fates(world, "Inbound", pair)) for pair in pairs()}
    assert denied == {pair for pair, fates in outcomes.items() if {False} in fates}
    if any({True, False} in fates and {False} not in fates for fates in outcomes.values()):
        assert judged.unknown
    if not vague(world):
        assert not judged.unknown
    assert len({one.reason for one in judged.unknown}) == len(judged.unknown)
