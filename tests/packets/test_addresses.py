"""Sets of addresses and ports, against Python's own sets and its ipaddress module."""

import ipaddress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packets.addresses import (
    EVERY_ADDRESS,
    EVERY_PORT,
    NOTHING,
    IntervalSet,
    assignable,
    parse_port_range,
    parse_prefix,
    parse_prefixes,
    to_prefixes,
    union,
)

LAW = settings(deadline=None, max_examples=150)

SMALL = st.integers(0, 40)
INTERVALS = st.lists(st.tuples(SMALL, SMALL).map(lambda pair: (min(pair), max(pair))), max_size=8)

V4 = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
    lambda pair: str(ipaddress.ip_network((pair[0], pair[1]), strict=False))
)
V6 = st.tuples(st.integers(2**32, 2**128 - 1), st.integers(0, 128)).map(
    lambda pair: str(ipaddress.ip_network((pair[0], pair[1]), strict=False))
)
NEAR = st.integers(0, 255).flatmap(
    lambda host: st.integers(24, 32).map(
        lambda length: str(ipaddress.ip_network((f"10.0.0.{host}", length), strict=False))
    )
)
"""Prefixes close together, which overlap, touch and merge."""


def members(intervals: IntervalSet) -> set[int]:
    """The set, member by member."""
    return {member for low, high in intervals.intervals for member in range(low, high + 1)}


def plain(intervals: list[tuple[int, int]]) -> set[int]:
    """The union of intervals, member by member."""
    return {member for low, high in intervals for member in range(low, high + 1)}


def is_normal(intervals: IntervalSet) -> bool:
    """Ascending, apart from each other by at least one number, none empty."""
    ends = intervals.intervals
    return all(low <= high for low, high in ends) and all(
        earlier[1] + 1 < later[0] for earlier, later in pairwise(ends)
    )


@LAW
@given(INTERVALS)
def test_of_is_the_union_in_normal_form(intervals: list[tuple[int, int]]) -> None:
    """`of` keeps every member and no other, as the fewest intervals."""
    made = IntervalSet.of(intervals)
    assert members(made) == plain(intervals)
    assert is_normal(made)
    assert [number for number in range(42) if number in made] == sorted(plain(intervals))
    assert bool(made) is bool(intervals)


@LAW
@given(INTERVALS, INTERVALS)
def test_the_algebra_is_that_of_sets(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    """`|`, `&` and `-` say what they say of Python's sets, and give normal forms."""
    left, right = IntervalSet.of(one), IntervalSet.of(other)
    assert members(left | right) == plain(one) | plain(other)
    assert members(left & right) == plain(one) & plain(other)
    assert members(left - right) == plain(one) - plain(other)
    for result in (left | right, left & right, left - right):
        assert is_normal(result)


@LAW
@given(INTERVALS, INTERVALS)
def test_equal_sets_are_equal(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    """Two sets are equal exactly if they have the same members."""
    assert (IntervalSet.of(one) == IntervalSet.of(other)) is (plain(one) == plain(other))


@LAW
@given(st.lists(INTERVALS, max_size=4))
def test_union_of_many(several: list[list[tuple[int, int]]]) -> None:
    """`union` has the members of all of them, of none nothing."""
    assert members(union(IntervalSet.of(one) for one in several)) == set().union(*map(plain, several))


@pytest.mark.parametrize(
    ("text", "prefixes"),
    [
        ("10.0.0.4", ("10.0.0.4/32",)),
        (" 10.0.0.4 ", ("10.0.0.4/32",)),
        ("10.0.0.0/24", ("10.0.0.0/24",)),
        ("10.0.0.77/24", ("10.0.0.0/24",)),
        ("0.0.0.0/0", ("0.0.0.0/0",)),
        ("10.0.0.4-10.0.0.7", ("10.0.0.4/30",)),
        ("10.0.0.4 - 10.0.0.8", ("10.0.0.4/30", "10.0.0.8/32")),
        ("10.0.0.9-10.0.0.9", ("10.0.0.9/32",)),
        ("255.255.255.255", ("255.255.255.255/32",)),
        ("fd00::/64", ("fd00::/64",)),
        ("FD00::1", ("fd00::1/128",)),
        ("::", ("::/128",)),
        ("::/0", ("::/0",)),
        ("::1-::3", ("::1/128", "::2/127")),
    ],
)
def test_parse_prefix(text: str, prefixes: tuple[str, ...]) -> None:
    """Addresses, CIDRs with or without host bits, and ranges of one family."""
    assert to_prefixes(parse_prefix(text)) == prefixes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "Sql",
        "VirtualNetwork",
        "10.0.0",
        "10.0.0.256",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/24/8",
        "10.0.0.9-10.0.0.4",
        "10.0.0.1-fd00::1",
        "10.0.0.1-",
        "-10.0.0.1",
        "10.0.0.1-10.0.0.2-10.0.0.3",
        "fd00::/129",
        "010.0.0.1",
    ],
)
def test_what_is_no_prefix_is_named(text: str) -> None:
    """The error shows the text that is at fault, also among others that are fine."""
    with pytest.raises(ValueError, match="not an address, CIDR or range: ") as alone:
        parse_prefix(text)
    assert str(alone.value).endswith(repr(text))
    with pytest.raises(ValueError, match="not an address") as among:
        parse_prefixes(["10.0.0.1", text])
    assert str(among.value) == str(alone.value)


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("*", (0, 65535)),
        (" * ", (0, 65535)),
        ("0-65535", (0, 65535)),
        ("10250", (10250, 10250)),
        (" 10250 ", (10250, 10250)),
        ("10000-10300", (10000, 10300)),
        ("443-443", (443, 443)),
        ("0", (0, 0)),
        ("65535", (65535, 65535)),
    ],
)
def test_parse_port_range(text: str, interval: tuple[int, int]) -> None:
    """A port, a range of ports, all ports."""
    assert parse_port_range(text).intervals == (interval,)


@pytest.mark.parametrize(
    "text", ["", "kubelet", "-1", "65536", "1-65536", "10300-10000", "443,80", "10250-", "-", "0x1", "1.5"]
)
def test_what_is_no_port_is_named(text: str) -> None:
    """The error shows the text that is at fault."""
    with pytest.raises(ValueError, match="not a port or a range of ports: ") as raised:
        parse_port_range(text)
    assert str(raised.value).endswith(repr(text))


@LAW
@given(st.lists(st.one_of(V4, V6, NEAR), max_size=8))
def test_to_prefixes_is_minimal_and_loses_nothing(prefixes: list[str]) -> None:
    """What comes out is what went in, as few CIDRs as ipaddress itself makes of it, IPv4 first."""
    addresses = parse_prefixes(prefixes)
    written = to_prefixes(addresses)
    assert parse_prefixes(written) == addresses
    networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
    fewest = [
        *ipaddress.collapse_addresses(one for one in networks if isinstance(one, ipaddress.IPv4Network)),
        *ipaddress.collapse_addresses(one for one in networks if isinstance(one, ipaddress.IPv6Network)),
    ]
    assert written == tuple(str(network) for network in fewest)


def test_families_stay_apart_on_one_line() -> None:
    """No IPv4 address equals an IPv6 one, though a set holds both; all of both is everything."""
    assert not parse_prefix("0.0.0.1") & parse_prefix("::1")
    assert not parse_prefix("0.0.0.0/0") & parse_prefix("::/0")
    assert parse_prefixes(["0.0.0.0/0", "::/0"]) == EVERY_ADDRESS
    assert to_prefixes(EVERY_ADDRESS) == ("0.0.0.0/0", "::/0")
    assert to_prefixes(parse_prefixes(["fd00::/64", "10.0.0.0/9", "10.128.0.0/9"])) == (
        "10.0.0.0/8",
        "fd00::/64",
    )
    # The last IPv4 address and the first IPv6 one are neighbours on the line, and still two prefixes.
    assert to_prefixes(parse_prefixes(["255.255.255.255", "::"])) == ("255.255.255.255/32", "::/128")


@pytest.mark.parametrize(
    ("prefix", "first", "last"),
    [
        ("10.240.0.0/24", "10.240.0.4", "10.240.0.254"),
        ("10.240.0.0/29", "10.240.0.4", "10.240.0.6"),
        ("10.240.0.0/30", "10.240.0.0", "10.240.0.3"),
        ("10.240.0.9/32", "10.240.0.9", "10.240.0.9"),
        ("fd00::/64", "fd00::4", "fd00::ffff:ffff:ffff:fffe"),
    ],
)
def test_assignable(prefix: str, first: str, last: str) -> None:
    """Azure keeps the first four and the last address of a subnet, if it has them to spare."""
    assert assignable(prefix) == parse_prefix(f"{first}-{last}")


def test_the_edges() -> None:
    """Nothing is empty, every port is 65,536 of them."""
    assert not NOTHING
    assert EVERY_PORT - NOTHING == EVERY_PORT
    assert not EVERY_PORT - EVERY_PORT
    assert len(members(EVERY_PORT)) == 65536


@given(
    st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,4}){2,4}(/[0-9]{1,3})?", fullmatch=True)
    | st.ip_addresses(v=4).flatmap(
        lambda address: st.integers(0, 33).map(lambda length: f"{address}/{length}")
    )
)
def test_the_common_form_reads_as_ipaddress_reads_it(text: str) -> None:
    """Every dotted text is the network that ipaddress says it is, or an error where it is one there."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        with pytest.raises(ValueError, match="not an address"):
            parse_prefix(text)
    else:
        assert parse_prefix(text).intervals == (
            (int(network.network_address), int(network.broadcast_address)),
        )
