"""What a listing of nftables holds, however it was written: tables, with chains and sets to read when needed.

Statements are kept as `nft -j` names them (libnftables-json(5)): an object with one key, its kind,
`{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 10250}}`. The
reader of text makes the same of what it reads, but for values, which it leaves as written: `"80-90"`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from packets.decisions import Doubt
from packets.netfilter import Hook, Policy

type Statement = Mapping[str, Any]
type Expression = Any
"""A value (a string, a number, `"@set"`), or an object with one key as libnftables-json(5) has it."""
type Element = tuple[Expression, Statement | None]
"""A member of a set; of a verdict map with its verdict."""

HOOKS: tuple[Hook, ...] = ("ingress", "prerouting", "input")
"""The hooks that a packet to the node itself passes, in order."""

PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
"""Names of priorities (nft(8)), in all families but bridge."""
BLOCK_ENDS = "the rest of the chain, which is not shown,"


class WrittenRule(Struct, frozen=True):
    """A rule as it is listed."""

    text: str
    """As nft writes it, without its handle."""
    statements: Sequence[Statement]
    handle: int | None = None
    """What `nft delete rule` knows it by, where the listing shows it."""


class Base(Struct, frozen=True, kw_only=True):
    """What makes a chain a base chain."""

    kind: str
    """`filter`, `nat` or `route`."""
    hook: str
    priority: int
    policy: Policy = "accept"
    devices: tuple[str, ...] | None = None
    """At the hook ingress: the interfaces that it is about; None where they are not shown."""


class WrittenChain(Struct, frozen=True, kw_only=True):
    """A chain as it is listed."""

    name: str
    read: Callable[[], Sequence[WrittenRule]]
    """Its rules, read when they are asked for."""
    base: Base | None = None
    cut: bool = False
    """Whether the listing ends before it does."""


class WrittenSet(Struct, frozen=True, kw_only=True):
    """A named set or map."""

    name: str
    read: Callable[[], Sequence[Element]]
    """Its members, read when they are asked for; raises `ValueError` if they are not understood."""
    doubt: Doubt | None = None
    """Why its members are not known for sure."""


class WrittenTable(Struct, frozen=True, kw_only=True):
    """A table as it is listed."""

    family: str
    """`ip`, `ip6`, `inet`, `netdev`, `bridge` or `arp`."""
    name: str
    chains: Mapping[str, WrittenChain]
    sets: Mapping[str, WrittenSet]
    dormant: bool = False
    """Whether its base chains are switched off."""


class Ruleset(Struct, frozen=True):
    """All tables of a listing."""

    tables: tuple[WrittenTable, ...]
    doubts: tuple[Doubt, ...] = ()
    """Why it may not be all that there is."""


def changing(name: str) -> Doubt:
    """The doubt about a set whose members come and go."""
    return Doubt("unknown_set", f"the members of set {name} come and go by themselves")
