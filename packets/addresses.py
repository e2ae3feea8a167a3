"""Sets of addresses and of ports, as sorted intervals of integers.

IPv4 and IPv6 addresses share one number line, so that a set may hold both: IPv4
addresses are themselves, IPv6 addresses stand above them, shifted by `2**32`.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Self

from msgspec import Struct

_V6 = 1 << 32
"""Where IPv6 begins on the number line."""
_END = _V6 + (1 << 128) - 1

Interval = tuple[int, int]
"""First and last member, both inside."""


class IntervalSet(Struct, frozen=True, gc=False):
    """A set of integers, kept as its fewest intervals in ascending order.

    Like all values that the engines make by the thousand it is left out of cyclic garbage collection,
    since nothing in it can point back.
    """

    intervals: tuple[Interval, ...] = ()

    @classmethod
    def of(cls, intervals: Iterable[Interval]) -> Self:
        """The union of intervals in any order; touching ones are joined."""
        merged: list[Interval] = []
        for low, high in sorted(intervals):
            if merged and low <= merged[-1][1] + 1:
                if high > merged[-1][1]:
                    merged[-1] = (merged[-1][0], high)
            else:
                merged.append((low, high))
        return cls(tuple(merged))

    def __bool__(self) -> bool:
        return bool(self.intervals)

    def __contains__(self, member: int) -> bool:
        return any(low <= member <= high for low, high in self.intervals)

    def __or__(self, other: Self) -> Self:
        if not other.intervals:
            return self
        if not self.intervals:
            return other
        return self.of((*self.intervals, *other.intervals))

    def __and__(self, other: Self) -> Self:
        mine, theirs = self.intervals, other.intervals
        if not mine or not theirs:
            return type(self)()
        # Most fields of most rules hold all that is asked about: the same set comes back, told by identity.
        if len(theirs) == 1 and theirs[0][0] <= mine[0][0] and mine[-1][1] <= theirs[0][1]:
            return self
        if len(mine) == 1 and mine[0][0] <= theirs[0][0] and theirs[-1][1] <= mine[0][1]:
            return other
        common: list[Interval] = []
        i = j = 0
        while i < len(mine) and j < len(theirs):
            low = max(mine[i][0], theirs[j][0])
            high = min(mine[i][1], theirs[j][1])
            if low <= high:
                common.append((low, high))
            if mine[i][1] < theirs[j][1]:
                i += 1
            else:
                j += 1
        return type(self)(tuple(common))

    def __sub__(self, other: Self) -> Self:
        if self is other:
            return type(self)()
        if not other.intervals:
            return self
        left: list[Interval] = []
        theirs = other.intervals
        j = 0
        for first, last in self.intervals:
            start = first
            while j < len(theirs) and theirs[j][1] < start:
                j += 1
            k = j
            while k < len(theirs) and theirs[k][0] <= last:
                if theirs[k][0] > start:
                    left.append((start, theirs[k][0] - 1))
                start = theirs[k][1] + 1
                k += 1
            if start <= last:
                left.append((start, last))
        return type(self)(tuple(left))


NOTHING = IntervalSet()
EVERY_ADDRESS = IntervalSet(((0, _END),))
IPV4 = IntervalSet(((0, _V6 - 1),))
IPV6 = IntervalSet(((_V6, _END),))
EVERY_PORT = IntervalSet(((0, 65535),))


def union(sets: Iterable[IntervalSet]) -> IntervalSet:
    """The members of any of several sets."""
    sets = tuple(sets)
    if len(sets) == 1:
        return sets[0]
    return IntervalSet.of(interval for one in sets for interval in one.intervals)


def _number(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    return int(address) if address.version == 4 else int(address) + _V6


# An IPv4 address or CIDR as Azure writes nearly all of them is looked up part by part; whatever else there
# is goes to ipaddress.
_OCTETS = {str(number): number for number in range(256)}
_HOSTS = {str(length): (1 << (32 - length)) - 1 for length in range(33)}


@lru_cache(maxsize=65_536)
def parse_prefix(text: str) -> IntervalSet:
    """An address, a CIDR or a range `10.0.0.4-10.0.0.9`, host bits allowed; raises `ValueError`.

    A group may hold 8,000 of them, so the common form is read without ipaddress, some ten times
    as fast.
    """
    text = text.strip()
    address, slash, length = text.partition("/")
    try:
        a, b, c, d = address.split(".")
        hosts = _HOSTS[length] if slash else 0
        low = (_OCTETS[a] << 24 | _OCTETS[b] << 16 | _OCTETS[c] << 8 | _OCTETS[d]) & ~hosts
    except (ValueError, KeyError):
        return _parse_other(text)
    return IntervalSet(((low, low | hosts),))


def _parse_other(text: str) -> IntervalSet:
    """An IPv6 prefix, a range, or IPv4 in an unusual form."""
    try:
        if "-" in text:
            first, _, last = text.partition("-")
            start = ipaddress.ip_address(first.strip())
            end = ipaddress.ip_address(last.strip())
            if start.version == end.version and int(start) <= int(end):
                return IntervalSet(((_number(start), _number(end)),))
        else:
            network = ipaddress.ip_network(text, strict=False)
            return IntervalSet(((_number(network.network_address), _number(network.broadcast_address)),))
    except ValueError:
        pass
    raise ValueError(f"not an address, CIDR or range: {text!r}")


def parse_prefixes(texts: Iterable[str]) -> IntervalSet:
    """The union of several prefixes; raises `ValueError` naming the first that is none."""
    return union(parse_prefix(text) for text in texts)


def parse_port_range(text: str) -> IntervalSet:
    """`*`, `10250` or `10000-10300`; raises `ValueError`."""
    text = text.strip()
    if text == "*":
        return EVERY_PORT
    first, dash, last = text.partition("-")
    try:
        low, high = int(first), int(last if dash else first)
    except ValueError:
        low, high = 1, 0
    if not 0 <= low <= high <= 65535:
        raise ValueError(f"not a port or a range of ports: {text!r}")
    return IntervalSet(((low, high),))


def to_prefixes(addresses: IntervalSet) -> tuple[str, ...]:
    """The fewest CIDRs that make up a set of addresses, IPv4 first, ascending."""
    return tuple(str(network) for network in _networks(addresses))


def _networks(addresses: IntervalSet) -> Iterator[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    for low, high in addresses.intervals:
        if low < _V6:
            yield from ipaddress.summarize_address_range(
                ipaddress.IPv4Address(low), ipaddress.IPv4Address(min(high, _V6 - 1))
            )
        if high >= _V6:
            yield from ipaddress.summarize_address_range(
                ipaddress.IPv6Address(max(low, _V6) - _V6), ipaddress.IPv6Address(high - _V6)
            )


def assignable(prefix: str) -> IntervalSet:
    """The addresses of a subnet prefix that a node can have.

    Azure keeps the first four and the last of each subnet
    (https://learn.microsoft.com/azure/virtual-network/virtual-networks-faq); of an
    IPv6 /64 it keeps the same. Prefixes too small to spare five are taken whole.
    """
    whole = parse_prefix(prefix)
    low, high = whole.intervals[0]
    if high - low < 5:
        return whole
    return IntervalSet(((low + 4, high - 1),))
