"""The names that stand for addresses: service tags and application security groups."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from msgspec import Struct

from packets.addresses import (
    EVERY_ADDRESS,
    NOTHING,
    IntervalSet,
    parse_prefix,
    parse_prefixes,
    union,
)
from packets.decisions import Doubt

ANYTHING = frozenset({"*", "any", "all", "0.0.0.0/0"})
"""Ways to write "everything": the documentation calls `*`, `Any` and `0.0.0.0/0` equivalent."""

# Address ranges that the Internet tag leaves out besides the virtual network: not publicly reachable
# (RFC 1918, 6598, 3927, 1122, 4193, 4291).
PRIVATE = parse_prefixes(
    (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "127.0.0.0/8",
        "fc00::/7",
        "fe80::/10",
        "::1/128",
    )
)
# The platform's virtual address, from which load balancer probes come
# (https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16).
PLATFORM = parse_prefixes(("168.63.129.16", "fe80::1234:5678:9abc"))


_BEYOND = " beyond what is known of it"


class Field(Struct, frozen=True, gc=False):
    """The value of one field of a rule, as far as it can be known."""

    surely: IntervalSet
    perhaps: IntervalSet
    """Everything that may belong to it, the sure part included."""
    doubt: Doubt | None = None
    """Why it may be more than the sure part."""

    @classmethod
    def of(cls, known: IntervalSet, doubt: Doubt | None = None) -> Self:
        """A field that is known, or that may be anything beyond what is known."""
        return cls(known, EVERY_ADDRESS if doubt else known, doubt)


_EVERYTHING = ("*",)
_ANY_FIELD = Field.of(EVERY_ADDRESS)


class Tags(Struct, frozen=True):
    """The addresses that names in rules stand for."""

    addresses: Mapping[str, IntervalSet]
    """Service tags, by lower-case name."""
    groups: Mapping[str, IntervalSet] = {}
    """Application security groups, by the key of their id, or by lower-case name."""
    perhaps: Mapping[str, IntervalSet] = {}
    """What may belong to a tag or group besides, under the same name."""
    unread: Doubt | None = None
    """Why service tags that are not here could not be looked up."""
    routes_unread: Doubt | None = None
    """Why the routes that may widen VirtualNetwork could not be looked up."""
    only_groups: bool = False
    """Whether `groups` has all members that matter, so that a group which is not there has none."""

    @classmethod
    def of_network(
        cls,
        network: Iterable[str] | IntervalSet | None,
        others: Mapping[str, IntervalSet] | None = None,
        groups: Mapping[str, IntervalSet] | None = None,
        *,
        routed: Iterable[str] = (),
    ) -> Self:
        """The tags that follow from a virtual network's address space, its peers' included.

        VirtualNetwork holds the platform's address 168.63.129.16 too, and the prefixes of user-defined
        routes (`routed`); Internet is what lies outside the network and is publicly reachable
        (https://learn.microsoft.com/azure/virtual-network/service-tags-overview). A default
        route "may" make VirtualNetwork everything, says that page: so that is in doubt. Where
        the network is not known, neither tag is.
        """
        known = {name.lower(): addresses for name, addresses in (others or {}).items()}
        known["azureloadbalancer"] = PLATFORM
        perhaps: dict[str, IntervalSet] = {}
        if network is not None:
            space = network if isinstance(network, IntervalSet) else parse_prefixes(network)
            beyond = [parse_prefix(prefix) for prefix in routed if not _is_tag(prefix)]
            far = union(one for one in beyond if _is_everything(one))
            near = union(one for one in beyond if not _is_everything(one))
            known["virtualnetwork"] = space | near | PLATFORM
            perhaps["virtualnetwork"] = far
            known["internet"] = EVERY_ADDRESS - space - near - PLATFORM - PRIVATE
            perhaps["internet"] = near - space - PLATFORM - PRIVATE
        return cls(known, {name.lower(): addresses for name, addresses in (groups or {}).items()}, perhaps)

    def field(self, texts: Sequence[str], groups: Sequence[str], side: str) -> Field:
        """The addresses that a rule names on one side (`source` or `destination`)."""
        if texts == _EVERYTHING:
            return _ANY_FIELD
        if not texts and not groups:
            return Field.of(NOTHING, Doubt("unknown_rule_value", f"it names no {side} address"))
        surely: list[IntervalSet] = []
        perhaps: list[IntervalSet] = []
        doubts: list[Doubt] = []
        for group in groups:
            self._group(group, surely, perhaps, doubts)
        for text in texts:
            if text[:1].isdigit() and text.strip() not in ANYTHING:
                try:
                    surely.append(parse_prefix(text))
                except ValueError:
                    pass
                else:
                    continue
            name = text.strip().lower()
            if name in ANYTHING:
                return _ANY_FIELD
            if name in self.addresses:
                surely.append(self.addresses[name])
                if more := self.perhaps.get(name):
                    perhaps.append(more)
                    doubts.append(self._beyond(text))
                continue
            try:
                surely.append(parse_prefix(text))
            except ValueError:
                perhaps.append(EVERY_ADDRESS)
                doubts.append(self._unknown(text))
        known = union(surely)
        if not doubts:
            return Field.of(known)
        return Field(known, union((known, *perhaps)), _joined(doubts, side))

    def _group(
        self, group: str, surely: list[IntervalSet], perhaps: list[IntervalSet], doubts: list[Doubt]
    ) -> None:
        name = group.rsplit("/", 1)[-1].lower()
        found = next(
            (key for key in (group.lower(), name) if key in self.groups or key in self.perhaps), None
        )
        words = _quoted("application security group", group.rsplit("/", 1)[-1])
        if found is not None:
            surely.append(self.groups.get(found, NOTHING))
            if more := self.perhaps.get(found):
                perhaps.append(more)
                doubts.append(Doubt("unknown_security_group", f"{words}{_BEYOND}"))
        elif not self.only_groups:
            perhaps.append(EVERY_ADDRESS)
            doubts.append(Doubt("unknown_security_group", words))

    def _beyond(self, text: str) -> Doubt:
        why = f"{_quoted('service tag', text)}{_BEYOND}"
        if self.routes_unread is not None:
            return Doubt(self.routes_unread.code, f"{why} ({self.routes_unread.why})")
        return Doubt("unknown_service_tag", why)

    def _unknown(self, text: str) -> Doubt:
        if text.startswith("/"):
            return Doubt("unknown_network_group", _quoted("network group", text.rsplit("/", 1)[-1]))
        why = _quoted("service tag", text)
        if self.unread is not None:
            return Doubt(self.unread.code, f"{why} ({self.unread.why})")
        return Doubt("unknown_service_tag", why)


_OWN = frozenset({"virtualnetwork", "azureloadbalancer", "internet"})
"""Tags that follow from the network itself."""


def tag_names(texts: Iterable[str]) -> frozenset[str]:
    """Those of some addresses in rules and routes that are names of published service tags, in lower case."""
    return frozenset(
        name
        for text in frozenset(texts)
        if (name := text.strip().lower()) not in ANYTHING
        and name not in _OWN
        and not name.startswith("/")
        and _is_tag(text)
    )


def _joined(doubts: Sequence[Doubt], side: str) -> Doubt:
    """Several doubts about one side of a rule, in one clause; the last one's code stands for all."""
    words = ", ".join(doubt.why for doubt in doubts)
    return Doubt(doubts[-1].code, f"the {side} {words} could not be resolved")


def _quoted(kind: str, name: str) -> str:
    return f'{kind} "{name}"'


def _is_tag(prefix: str) -> bool:
    try:
        parse_prefix(prefix)
    except ValueError:
        return True
    return False


def _is_everything(prefix: IntervalSet) -> bool:
    """Whether a prefix is a whole address family, as 0.0.0.0/0 is."""
    return not (EVERY_ADDRESS - prefix) or any(
        high - low + 1 in {1 << 32, 1 << 128} for low, high in prefix.intervals
    )
