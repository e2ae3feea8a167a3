"""What rules of nftables compare: fields of a packet, what is known of them, and the values that are wanted.

Every packet of a question is the first of a connection from another machine to the node itself. Of such a
packet many fields are known (its TCP flags are those of a SYN, it is addressed to this host), addresses,
ports and the state of connection tracking are what it is asked about, and of the others nobody knows.
"""

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct

from packets.addresses import (
    EVERY_ADDRESS,
    EVERY_PORT,
    IPV4,
    IPV6,
    NOTHING,
    Interval,
    IntervalSet,
    parse_port_range,
    parse_prefix,
    union,
)
from packets.boxes import Box
from packets.decisions import Doubt
from packets.dumps.iptables_rules import PORTS
from packets.dumps.nftables_listing import Expression

PROTOCOLS = {
    "ip": 0,
    "icmp": 1,
    "igmp": 2,
    "ipencap": 4,
    "tcp": 6,
    "udp": 17,
    "dccp": 33,
    "ipv6": 41,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": 58,
    "ipv6-icmp": 58,
    "ospf": 89,
    "comp": 108,
    "ipcomp": 108,
    "vrrp": 112,
    "sctp": 132,
    "udplite": 136,
}
STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
"""Bits of connection tracking's state (include/uapi/linux/netfilter/nf_tables.h)."""
TRACKED = frozenset({"new", "established", "related"})
"""States in which a packet belongs to a connection: other fields of `ct` are there only then."""
_STATUS = {
    "expected": 1,
    "seen-reply": 2,
    "assured": 4,
    "confirmed": 8,
    "snat": 16,
    "dnat": 32,
    "seq-adjust": 64,
    "snat-done": 128,
    "dnat-done": 256,
    "dying": 512,
}
_NEW_STATUS = (0, 1, 128, 256, 384, 1 | 384)
"""What a connection that begins can have: it may be expected, and seen by NAT, which left it as it is."""
_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128}
_TYPES = {
    "unspec": 0,
    "unicast": 1,
    "local": 2,
    "broadcast": 3,
    "anycast": 4,
    "multicast": 5,
    "blackhole": 6,
    "unreachable": 7,
    "prohibit": 8,
}
_NO_OTHER = -2
"""Stands for a protocol that has no number here: a number in a rule is not its."""
_LOCAL = 2
_OTHERS = (0, 1, 6, 7, 8)
"""What a route to the address of another machine may be."""
_FRAGMENT = (0, 0x4000)
"""The first packet of a connection is no fragment, and may say that it must not become any."""
_LOOPBACK_TYPE = 772
_ETHERNET = {"ip": 0x0800, "arp": 0x0806, "vlan": 0x8100, "8021q": 0x8100, "8021ad": 0x88A8, "ip6": 0x86DD}


class Unreadable(Exception):  # noqa: N818 - a doubt, not an error
    """A value that cannot be known; holds the doubt."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.doubt = Doubt(code, why)


class Part(Struct, frozen=True, gc=False):
    """Packets that a rule matches: a product of sets, of which it may be doubtful whether it is matched."""

    box: Box
    states: frozenset[str] | None = None
    """None for all."""
    doubts: tuple[Doubt, ...] = ()

    def __and__(self, other: "Part") -> "Part | None":
        """What two have in common; None if that is nothing."""
        box = self.box & other.box
        if box.empty:
            return None
        if self.states is None or other.states is None:
            states = self.states if other.states is None else other.states
        else:
            states = self.states & other.states
            if not states:
                return None
        doubts = tuple(dict.fromkeys((*self.doubts, *other.doubts))) if other.doubts else self.doubts
        return Part(box, states, doubts)


ALL = Part(Box(EVERY_ADDRESS, EVERY_PORT, EVERY_ADDRESS, EVERY_PORT))


def doubtful(code: str, why: str) -> list[Part]:
    """All packets, with a doubt."""
    return [Part(ALL.box, None, (Doubt(code, why),))]


def common(some: Iterable[Part], others: Iterable[Part]) -> list[Part]:
    """The packets that are in both."""
    others = list(others)
    found = (one & other for one in some for other in others)
    return [part for part in found if part is not None]


def without(parts: Iterable[Part], taken: Iterable[Part]) -> list[Part]:
    """The packets of some that are not in others; those that may be there stay, with the doubt."""
    left = list(parts)
    for one in taken:
        following: list[Part] = []
        for part in left:
            inside, outside = part.box.split(one.box)
            following += [Part(box, part.states, part.doubts) for box in outside]
            if inside is None:
                continue
            held = frozenset(STATES) if part.states is None else part.states
            gone = held if one.states is None else held & one.states
            if held - gone:
                following.append(Part(inside, held - gone, part.doubts))
            if gone and one.doubts:
                states = part.states if gone == held else gone
                following.append(Part(inside, states, tuple(dict.fromkeys((*part.doubts, *one.doubts)))))
        left = following
    return left


def merged(parts: list[Part]) -> list[Part]:
    """The same packets in fewer parts, where they differ in the source alone, or in the port alone."""
    if len(parts) < 2:
        return parts
    sources: dict[tuple[object, ...], list[Part]] = {}
    for part in parts:
        box = part.box
        key = (box.source_ports, box.destinations, box.destination_ports, part.states, part.doubts)
        sources.setdefault(key, []).append(part)
    ports: dict[tuple[object, ...], list[Part]] = {}
    for group in sources.values():
        first = group[0].box
        box = Box(union(one.box.sources for one in group), *_rest(first)) if len(group) > 1 else first
        part = Part(box, group[0].states, group[0].doubts)
        ports.setdefault(
            (box.sources, box.source_ports, box.destinations, part.states, part.doubts), []
        ).append(part)
    found = []
    for group in ports.values():
        box = group[0].box
        if len(group) > 1:
            joined = union(one.box.destination_ports for one in group)
            box = Box(box.sources, box.source_ports, box.destinations, joined)
        found.append(Part(box, group[0].states, group[0].doubts))
    return found


def _rest(box: Box) -> tuple[IntervalSet, IntervalSet, IntervalSet]:
    return box.source_ports, box.destinations, box.destination_ports


# --- what a field is held against ------------------------------------------------------------------


class Wanted(Struct, frozen=True, gc=False):
    """A comparison with a set of numbers: the field, masked, is in it, or not."""

    values: IntervalSet
    negated: bool = False
    mask: int | None = None

    def holds(self, value: int) -> bool:
        """Whether a value satisfies it."""
        return ((value if self.mask is None else value & self.mask) in self.values) is not self.negated

    def among(self, every: IntervalSet) -> IntervalSet | None:
        """The values of an interval that satisfy it; None if they are too many pieces to tell."""
        found: IntervalSet | None
        (first, last) = every.intervals[0]
        if self.mask is None:
            found = self.values & every
        elif last - first <= 0xFFFF:
            found = IntervalSet.of(
                (value, value)
                for value in range(first, last + 1)
                if (value - first) & self.mask in self.values
            )
        else:
            found = _masked(self.values, self.mask, first, last)
        if found is None or not self.negated:
            return found
        return every - found


def _masked(values: IntervalSet, mask: int, first: int, last: int) -> IntervalSet | None:
    """Addresses that give one of some values under a mask: as many intervals as the holes in it make."""
    size = last - first
    hosts = (mask & -mask) - 1 if mask else size
    holes = [bit for bit in range(size.bit_length()) if not mask >> bit & 1 and not hosts >> bit & 1]
    if len(holes) > 10 or sum(high - low for low, high in values.intervals) > 64:
        return None
    found: list[Interval] = []
    for low, high in values.intervals:
        for value in range(low - first, high - first + 1):
            if value & ~mask:
                continue
            for chosen in range(1 << len(holes)):
                start = value | sum(1 << bit for place, bit in enumerate(holes) if chosen >> place & 1)
                found.append((first + start, first + start + hosts))
    return IntervalSet.of(found)


# --- fields ----------------------------------------------------------------------------------------


class Field(Struct, frozen=True, kw_only=True):
    """What a rule compares, as far as it is known."""

    read: Callable[[Expression], IntervalSet]
    """The numbers that a value stands for; raises `Unreadable`."""
    parts: Callable[[Wanted], list[Part]]
    """The packets whose field is as wanted."""
    needs: Part | None = ALL
    """Packets that have the field: for the others no comparison holds, negated or not. None: none has."""


def numbers(names: Mapping[str, int], what: str) -> Callable[[Expression], IntervalSet]:
    """A reader of numbers, in any base, that may have names."""

    def one(value: Expression) -> int:
        if isinstance(value, int):
            return int(value)
        if isinstance(value, str):
            if value.lower() in names:
                return names[value.lower()]
            try:
                return int(value, 0)
            except ValueError:
                pass
        raise Unreadable("unknown_name", f'it is not known which {what} "{value}" is')

    def read(value: Expression) -> IntervalSet:
        if isinstance(value, list):
            return _single(_or(one_of(part) for part in value))
        if isinstance(value, dict):
            if "range" in value:
                low, high = (one(end) for end in value["range"])
                return IntervalSet(((low, high),)) if low <= high else NOTHING
            return _single(one_of(value))
        if isinstance(value, str) and "-" in value[1:] and value.lower() not in names and value[0].isdigit():
            first, _, last = value.partition("-")
            return IntervalSet(((one(first), one(last)),))
        return _single(one(value))

    def one_of(value: Expression) -> int:
        if isinstance(value, dict) and "|" in value:
            return _or(one_of(part) for part in value["|"])
        if isinstance(value, dict):
            raise Unreadable(
                "unknown_match", f"what {next(iter(value), 'nothing')} makes of a {what} is not read"
            )
        return one(value)

    return read


def _or(values: Iterable[int]) -> int:
    found = 0
    for value in values:
        found |= value
    return found


def _single(value: int) -> IntervalSet:
    return IntervalSet(((value, value),))


def read_addresses(value: Expression) -> IntervalSet:
    """Addresses as nft lists them: alone, with a length, in a range."""
    if isinstance(value, str):
        try:
            return parse_prefix(value)
        except ValueError:
            pass
    elif isinstance(value, dict) and "prefix" in value:
        return read_addresses(f"{value['prefix']['addr']}/{value['prefix']['len']}")
    elif isinstance(value, dict) and "range" in value:
        low, high = value["range"]
        return read_addresses(f"{low}-{high}")
    raise Unreadable("unknown_name", f'it is not known which addresses "{value}" stands for')


def _protocol(value: Expression) -> IntervalSet:
    """A protocol; of a name that nobody knows here it is known that it is no other's."""
    try:
        return _PROTOCOL(value)
    except Unreadable:
        return _single(-1)


_PROTOCOL = numbers(PROTOCOLS, "protocol")
_PORT = numbers(PORTS, "port")
_BOOLEAN = numbers({"exists": 1, "missing": 0, "yes": 1, "no": 0}, "value")


def read_port(value: Expression) -> IntervalSet:
    """Ports as nft lists them."""
    if isinstance(value, str):
        try:
            return parse_port_range(value)
        except ValueError:
            pass
    return _PORT(value)


def known(
    values: tuple[int, ...], read: Callable[[Expression], IntervalSet], what: str, needs: Part | None = ALL
) -> Field:
    """A field that has one of few values."""

    def parts(wanted: Wanted) -> list[Part]:
        found = {wanted.holds(value) for value in values}
        if len(found) > 1:
            return doubtful("unknown_match", f"what {what} is of such a packet is not in the rules")
        return [ALL] if found.pop() else []

    return Field(read=read, parts=parts, needs=needs)


def never() -> Field:
    """A field that such a packet has not."""
    return Field(read=lambda _: NOTHING, parts=lambda _: [], needs=None)


def unknown(code: str, why: str, needs: Part | None = ALL) -> Field:
    """A field of which nobody knows."""
    return Field(read=lambda _: NOTHING, parts=lambda _: doubtful(code, why), needs=needs)


def _of_address(side: str, every: IntervalSet, needs: Part) -> Field:
    def parts(wanted: Wanted) -> list[Part]:
        found = wanted.among(every)
        if found is None:
            return doubtful("unknown_match", "a mask with so many holes is not read")
        box = ALL.box
        if side == "saddr":
            made = Box(found, box.source_ports, box.destinations, box.destination_ports)
        else:
            made = Box(box.sources, box.source_ports, found, box.destination_ports)
        return [] if made.empty else [Part(made)]

    return Field(read=read_addresses, parts=parts, needs=needs)


def _of_port(side: str, needs: Part | None) -> Field:
    def parts(wanted: Wanted) -> list[Part]:
        found = wanted.among(EVERY_PORT)
        assert found is not None  # noqa: S101 - of ports all are tried
        box = ALL.box
        if side == "sport":
            made = Box(box.sources, found, box.destinations, box.destination_ports)
        else:
            made = Box(box.sources, box.source_ports, box.destinations, found)
        return [] if made.empty else [Part(made)]

    return Field(read=read_port, parts=parts, needs=needs)


def _of_family(four: int, six: int, names: Mapping[str, int], what: str) -> Field:
    """A field that tells IPv4 from IPv6."""

    def parts(wanted: Wanted) -> list[Part]:
        return [part for part, value in ((V4, four), (V6, six)) if wanted.holds(value)]

    return Field(read=numbers(names, what), parts=parts)


def _of_states() -> Field:
    def parts(wanted: Wanted) -> list[Part]:
        found = frozenset(name for name, bit in STATES.items() if wanted.holds(bit))
        if not found:
            return []
        return [ALL if len(found) == len(STATES) else Part(ALL.box, found)]

    return Field(read=numbers(STATES, "state"), parts=parts)


def _family(addresses: IntervalSet) -> Part:
    return Part(Box(addresses, EVERY_PORT, addresses, EVERY_PORT))


V4, V6 = _family(IPV4), _family(IPV6)
_TRACKED_ONLY = Part(ALL.box, TRACKED)
_PORTED = frozenset({"tcp", "udp", "udplite", "sctp", "dccp"})
_META = {
    "mark": "unknown_mark",
    "random": "rate_limited",
}
"""Codes of doubts about fields of `meta`."""
_NO_INTERFACE = frozenset(
    {"oiftype", "oifgroup", "oifkind", "skuid", "skgid", "ibrname", "obrname", "rtclassid"}
)
"""A packet that comes in goes out nowhere, belongs to no socket yet, and was not on a bridge."""


def field(expression: Expression, protocol: str) -> Field:
    """What is known of a field of packets of one protocol; interfaces are looked at elsewhere."""
    if not isinstance(expression, dict) or len(expression) != 1:
        return unknown("unknown_match", f"whether {expression!r} is matched is not known here")
    kind, said = next(iter(expression.items()))
    read = _KINDS.get(kind)
    words = f"{kind} {said.get('key', said.get('name', ''))}".strip() if isinstance(said, dict) else kind
    if read is None or not isinstance(said, dict):
        code = "rate_limited" if kind == "numgen" else "unknown_match"
        return unknown(code, f"what {words} is of a packet is not known from the rules")
    return read(said, protocol, words)


def _payload(said: Mapping[str, Expression], protocol: str, _: str) -> Field:
    header, name = said.get("protocol"), said.get("field")
    if "tunnel" in said:
        # What is inside of a tunnel is UDP outside, or GRE.
        outer = "gre" if str(said["tunnel"]).startswith("gre") else "udp"
        words = f"what is in {said['tunnel']}"
        return unknown("unknown_match", f"{words} is not known", ALL if protocol == outer else None)
    if header is None:
        raw = {("th", 0, 16): "sport", ("th", 16, 16): "dport"}
        side = raw.get((str(said.get("base")), _whole(said.get("offset")), _whole(said.get("len"))))
        if side and protocol in _PORTED:
            return _of_port(side, ALL)
        where = ",".join(str(said.get(part)) for part in ("base", "offset", "len"))
        return unknown("unknown_match", f"what a packet has at @{where} is not read")
    doubt = unknown("unknown_match", f"what {header} {name} is of a packet is not known from the rules")
    if header in {"ip", "ip6"}:
        needs, every = (V4, IPV4) if header == "ip" else (V6, IPV6)
        if name in {"saddr", "daddr"}:
            return _of_address(name, every, needs)
        if name in {"protocol", "nexthdr"}:
            return known((PROTOCOLS.get(protocol, _NO_OTHER),), _protocol, f"{header} {name}", needs)
        if name == "version":
            return known((4 if header == "ip" else 6,), numbers({}, "version"), "version", needs)
        if name == "frag-off":
            return known(_FRAGMENT, numbers({}, "offset"), "ip frag-off", needs)
        return Field(read=doubt.read, parts=doubt.parts, needs=needs)
    if header == "ether" and name == "type":
        return _of_family(0x0800, 0x86DD, _ETHERNET, "protocol")
    if header in {"ether", "vlan", "arp"}:
        return never() if header == "arp" else doubt
    if header not in {"th", protocol} or (header == "th" and protocol not in _PORTED):
        return never()
    if name in {"sport", "dport"}:
        return _of_port(name, ALL)
    if header == "tcp" and name == "flags":
        return known((_FLAGS["syn"],), numbers(_FLAGS, "flag"), "tcp flags")
    return doubt


def _whole(value: Expression) -> int:
    return value if isinstance(value, int) else -1


def _meta(said: Mapping[str, Expression], protocol: str, words: str) -> Field:
    key = said.get("key")
    if key == "l4proto":
        return known((PROTOCOLS.get(protocol, _NO_OTHER),), _protocol, words)
    if key == "nfproto":
        return _of_family(2, 10, {"ipv4": 2, "ipv6": 10}, "family")
    if key == "protocol":
        return _of_family(0x0800, 0x86DD, _ETHERNET, "protocol")
    if key == "pkttype":
        names = {"host": 0, "unicast": 0, "broadcast": 1, "multicast": 2, "other": 3, "otherhost": 3}
        return known((0,), numbers(names, "kind of packet"), words)
    if key == "iiftype":
        # Not by loopback: whatever else it is, it is not that.
        return known(
            (1, 65534), numbers({"ether": 1, "loopback": _LOOPBACK_TYPE}, "kind of interface"), words
        )
    if key in _NO_INTERFACE:
        return never()
    return unknown(_META.get(str(key), "unknown_match"), f"what {words} is of a packet is not in the rules")


def _ct(said: Mapping[str, Expression], protocol: str, words: str) -> Field:
    key, direction = str(said.get("key")), said.get("dir")
    if key == "state":
        return _of_states()
    if key == "status":
        return known(_NEW_STATUS, numbers(_STATUS, "status"), words, _TRACKED_ONLY)
    if key == "direction":
        return known((0,), numbers({"original": 0, "reply": 1}, "direction"), words, _TRACKED_ONLY)
    if key in {"protocol", "l3proto"} and direction != "reply":
        found = (
            known((PROTOCOLS.get(protocol, _NO_OTHER),), _protocol, words)
            if key == "protocol"
            else _of_family(2, 10, {"ipv4": 2, "ipv6": 10}, "family")
        )
        return Field(read=found.read, parts=found.parts, needs=_TRACKED_ONLY)
    if direction == "original":
        family, _, side = key.rpartition(" ")
        if family in {"ip", "ip6"} and side in {"saddr", "daddr"}:
            needs, every = (V4, IPV4) if family == "ip" else (V6, IPV6)
            return _of_address(side, every, Part(needs.box, TRACKED))
        if key in {"proto-src", "proto-dst"} and protocol in _PORTED:
            return _of_port("sport" if key == "proto-src" else "dport", _TRACKED_ONLY)
    code = "unknown_mark" if key == "mark" else "unknown_match"
    return unknown(code, f"what {words} is of a connection is not in the rules", _TRACKED_ONLY)


def _fib(said: Mapping[str, Expression], _: str, __: str) -> Field:
    flags = said.get("flags")
    flags = [flags] if isinstance(flags, str) else flags
    words = f"fib {' . '.join(map(str, flags or ()))} {said.get('result')}"
    if said.get("result") == "type" and isinstance(flags, list):
        read = numbers(_TYPES, "kind of route")
        if {*flags} <= {"daddr", "mark"}:
            return known((_LOCAL,), read, words)
        if "saddr" in flags:
            return known(_OTHERS, read, words)
    return unknown(
        "unknown_match", f"what {words} says hangs on the node's routes, which are not in the rules"
    )


def _exthdr(said: Mapping[str, Expression], _: str, words: str) -> Field:
    """The first packet of a connection has no extension headers."""
    return never() if said.get("field") else known((0,), _BOOLEAN, words, V6)


def _ip_option(said: Mapping[str, Expression], _: str, words: str) -> Field:
    """Nor has it options of IP."""
    return never() if said.get("field") else known((0,), _BOOLEAN, words, V4)


def _tcp_option(_: Mapping[str, Expression], protocol: str, words: str) -> Field:
    needs = ALL if protocol == "tcp" else None
    return unknown("unknown_match", f"what {words} is of a packet is not known from the rules", needs)


def _chunk(_: Mapping[str, Expression], protocol: str, words: str) -> Field:
    needs = ALL if protocol == "sctp" else None
    return unknown("unknown_match", f"what {words} is of a packet is not known from the rules", needs)


_KINDS: dict[str, Callable[[Mapping[str, Expression], str, str], Field]] = {
    "payload": _payload,
    "meta": _meta,
    "ct": _ct,
    "fib": _fib,
    "exthdr": _exthdr,
    "ip option": _ip_option,
    "tcp option": _tcp_option,
    "sctp chunk": _chunk,
}
