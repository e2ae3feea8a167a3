"""Rules of nftables as rules of netfilter, for the packets of a question: what they match, and do then.

A rule is read for a question, so that a map of thousands of elements costs a look at each, and becomes as
many rules as it has elements about the packets asked about. Rules that a verdict map makes have one number.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct, structs

from packets.addresses import IntervalSet, union
from packets.decisions import Doubt
from packets.dumps.nftables_fields import (
    ALL,
    Field,
    Part,
    Unreadable,
    Wanted,
    common,
    doubtful,
    field,
    merged,
    read_addresses,
    without,
)
from packets.dumps.nftables_listing import (
    BLOCK_ENDS,
    Element,
    Expression,
    Statement,
    WrittenChain,
    WrittenRule,
    WrittenTable,
)
from packets.netfilter import Action, Chain, Interface, Kind, Question, Rule

_RATE = "it holds only up to a rate, or a count"
_SET_DROPPED = "KUBE-FIREWALL"
"""The chain in which the kubelet drops packets that bear the mark 0x8000. Kubernetes sets it on packets to
the address of a service, and never on those to a node's kubelet
(https://kubernetes.io/blog/2022/09/07/iptables-chains-not-api/)."""
_LARGEST = 1 << 200
"""More than any number that is compared."""

_VERDICTS: dict[str, Kind] = {"accept": "accept", "drop": "drop", "return": "return", "continue": "continue"}
_ELSEWHERE = frozenset({"dnat", "snat", "masquerade", "redirect", "tproxy", "fwd", "queue", "synproxy"})
"""Statements that give the packet to somebody else, or make another of it."""
_RATES = frozenset({"limit", "quota", "ct count"})
_NO_MATTER = frozenset(
    {"counter", "log", "mangle", "flow", "dup", "last", "reset", "map", "secmark", "ct helper"}
    | {"ct timeout", "ct expectation"}
)
"""Statements after which the packet is at the next one as it was."""

_XT_RATES = frozenset(
    {
        "limit",
        "hashlimit",
        "recent",
        "connlimit",
        "connbytes",
        "quota",
        "statistic",
        "rateest",
    }
)
_XT_GO_ON = frozenset(
    {
        "LOG",
        "ULOG",
        "NFLOG",
        "AUDIT",
        "TRACE",
        "MARK",
        "CONNMARK",
        "SECMARK",
        "CONNSECMARK",
        "CLASSIFY",
        "TCPMSS",
        "TCPOPTSTRIP",
        "DSCP",
        "TOS",
        "ECN",
        "TTL",
        "HL",
        "CHECKSUM",
        "SET",
        "TEE",
        "LED",
        "IDLETIMER",
        "RATEEST",
        "HMARK",
    }
)
"""Extensions of iptables, by the names that stand in `xt match "…"` and `xt target "…"`."""


class Scope(Struct, frozen=True):
    """Where a rule stands, and what is asked."""

    table: WrittenTable
    chain: str
    question: Question


def read_chain(table: WrittenTable, chain: WrittenChain, question: Question) -> Chain:
    """A chain, with what its rules do to the packets of a question."""
    written = chain.read()
    scope = Scope(table, chain.name, question)
    rules: list[Rule] = []
    for number, rule in enumerate(written, 1):
        rules += read_rule(rule, number, scope)
    policy = chain.base.policy if chain.base else "accept"
    if chain.cut:
        rules.append(Rule(number=len(written) + 1, text="", action=Action("unknown", BLOCK_ENDS)))
    if chain.base:
        rules[:0] = _exempt(chain, question)
    return Chain(chain.name, tuple(rules), policy)


def _exempt(chain: WrittenChain, question: Question) -> Iterator[Rule]:
    """Packets that do not come by a base chain, or may not, as a rule that lets them through."""
    assert chain.base is not None  # noqa: S101 - asked for base chains alone
    if chain.base.kind == "nat":
        # NAT looks at the first packet of each connection, and an untracked packet belongs to none.
        yield Rule(number=0, text="", action=Action("accept", "ACCEPT"), states=frozenset({"untracked"}))
    if chain.base.hook == "ingress" and _devices(chain, question) is None:
        why = f"it is not known whether packets come in by an interface of chain {chain.name}"
        doubts = (Doubt("unknown_interface", why),)
        yield Rule(number=0, text="", action=Action("accept", "ACCEPT"), doubts=doubts)


def sees(chain: WrittenChain, question: Question) -> bool:
    """Whether packets of a question may come by a base chain."""
    return _devices(chain, question) is not False


def _devices(chain: WrittenChain, question: Question) -> bool | None:
    if chain.base is None or chain.base.hook != "ingress":
        return True
    if chain.base.devices is None:
        return None
    return _any(Interface(name).matches(question.interface) for name in chain.base.devices)


def _any(found: Iterable[bool | None]) -> bool | None:
    """Whether one of some is true; None if nobody knows."""
    seen = set(found)
    return True if True in seen else None if None in seen else False


# --- one rule --------------------------------------------------------------------------------------


def read_rule(written: WrittenRule, number: int, scope: Scope) -> list[Rule]:
    """What a rule does, as rules of its number; none if it does nothing to a packet asked about."""
    try:
        return [*_Reader(written, number, scope).rules()]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        # JSON of a shape that libnftables-json(5) does not have: it may do anything.
        return [Rule(number=number, text=written.text, action=Action("unknown", "a rule that is not read"))]


class _Component(Struct, frozen=True):
    """One of the fields that are looked up together."""

    needs: Part | None
    of: Callable[[Expression], list[Part]]


class _Reader:
    """Goes through the statements of a rule, with the packets that have matched so far."""

    def __init__(self, written: WrittenRule, number: int, scope: Scope) -> None:
        self.written = written
        self.number = number
        self.scope = scope
        self.parts = [Part(scope.question.packets)]

    def rules(self) -> Iterator[Rule]:
        """All that it does, in order."""
        pending: tuple[list[Part], str] | None = None
        for statement in self.written.statements:
            if not self.parts:
                break
            kind, said = next(iter(statement.items()), ("", None))
            if kind in _VERDICTS or kind in {"jump", "goto"}:
                yield from self._act(self.parts, _action(statement))
                if kind == "continue":
                    continue
                return
            if kind == "reject":
                yield from self._act(self.parts, Action("drop", "reject"))
                return
            if kind == "vmap":
                yield from self._verdict_map(said)
            elif kind == "match":
                self.parts = self._match(said)
            elif kind == "notrack":
                yield from self._act(self.parts, Action("untrack", "notrack"))
            elif kind in _RATES or self._limits(kind, said):
                self._doubt("rate_limited", _RATE)
            elif kind in _ELSEWHERE:
                yield from self._act(self.parts, Action("unknown", kind))
            elif kind == "xt":
                pending, action = self._extension(said, pending)
                if action is not None:
                    doubts = action.kind == "untrack" and action.words == "CT"
                    yield from self._act(self.parts, action, doubt=doubts)
                    if action.kind in {"drop", "unknown"}:
                        return
            elif kind not in _NO_MATTER and kind not in {"set", "meter"}:
                words = said if kind == "unknown" and isinstance(said, str) else kind
                pending = (self.parts, words)
                self._doubt("unknown_match", f'whether "{words}" is matched is not known here')
        if pending is not None:
            # It had no verdict that is known: it may have one that is not.
            yield from self._act(pending[0], Action("unknown", pending[1]))

    def _act(self, parts: Iterable[Part], action: Action, *, doubt: bool = False) -> Iterator[Rule]:
        if action.kind == "continue":
            return
        more = (Doubt("unknown_match", f"what {action.words} does is not shown"),) if doubt else ()
        for part in parts:
            box = part.box
            yield Rule(
                number=self.number,
                text=self.written.text,
                action=action,
                sources=box.sources,
                source_ports=box.source_ports,
                destinations=box.destinations,
                destination_ports=box.destination_ports,
                states=part.states,
                doubts=(*part.doubts, *more),
            )

    def _doubt(self, code: str, why: str) -> None:
        self.parts = common(self.parts, doubtful(code, why))

    def _limits(self, kind: str, said: Expression) -> bool:
        """Whether a statement that keeps something in a set lets a packet go on only up to a rate."""
        if kind not in {"set", "meter"} or not isinstance(said, dict):
            return False
        inner = said.get("stmt") or ()
        inner = [inner] if isinstance(inner, dict) else inner
        return any(not isinstance(one, dict) or not {*one} <= {"counter", "last"} for one in inner)

    def _extension(
        self, said: Expression, pending: tuple[list[Part], str] | None
    ) -> tuple[tuple[list[Part], str] | None, Action | None]:
        """An extension of iptables, of which nft shows the name at most."""
        kind = said.get("type") if isinstance(said, dict) else None
        name = str(said.get("name", "")) if isinstance(said, dict) else ""
        if kind == "target" or (kind != "match" and name.isupper()):
            if name == "CT":
                return pending, Action("untrack", "CT")
            if name == "NOTRACK":
                return pending, Action("untrack", name)
            if name == "REJECT":
                return pending, Action("drop", name)
            return pending, None if name in _XT_GO_ON else Action("unknown", name)
        if name == "comment":
            return pending, None
        if not name:
            # Old versions of nft leave even the name out: it may be a match or a target.
            pending = (self.parts, "an extension of iptables that nft does not show")
        code = "unknown_set" if name == "set" else "unknown_mark" if name in {"mark", "connmark"} else ""
        code = code or ("rate_limited" if name in _XT_RATES else "unknown_match")
        of = f'of iptables\' match "{name}" ' if name else "of an extension of iptables "
        self._doubt(code, f"nft does not show the details {of}(iptables-save does)")
        return pending, None

    # --- matches

    def _match(self, said: Expression) -> list[Part]:
        left, right, operator = said.get("left"), said.get("right"), str(said.get("op", "=="))
        if self.scope.chain == _SET_DROPPED and _marks_dropped(left, operator, right):
            return []
        if isinstance(left, dict) and "concat" in left:
            components = self._components(left["concat"])
            parts = self._having(components)
            if operator not in {"==", "!=", "in"}:
                return common(
                    parts, doubtful("unknown_match", f"what {operator} makes of several is not read")
                )
            try:
                keys = [key for key, _ in self._elements(right)]
            except Unreadable as error:
                return common(parts, [structs.replace(ALL, doubts=(error.doubt,))])
            taken = merged([part for key in keys for part in self._looked_up(parts, components, key)])
            return without(parts, taken) if operator == "!=" else taken
        if _interface_key(left):
            return common(self.parts, self._interfaces(left, operator, right))
        of = self._field(left)
        if isinstance(of, Unreadable):
            return common(self.parts, [structs.replace(ALL, doubts=(of.doubt,))])
        found, mask = of
        if found.needs is None:
            return []
        try:
            wanted = _wanted(operator, self._values(right, found.read), mask, is_set=_is_set(right))
        except Unreadable as error:
            return common(common(self.parts, [found.needs]), self._unread(found, error))
        return common(common(self.parts, [found.needs]), found.parts(wanted))

    @staticmethod
    def _unread(found: Field, error: Unreadable) -> list[Part]:
        """Of a value that cannot be read: the field's own doubt if it has one, or the value's."""
        own = found.parts(Wanted(IntervalSet(((-2, -2),))))
        if len(own) == 1 and own[0].doubts:
            return own
        return [structs.replace(ALL, doubts=(error.doubt,))]

    def _field(self, left: Expression) -> tuple[Field, int | None] | Unreadable:
        """A field and the mask that it is looked at with."""
        mask = None
        if isinstance(left, dict) and "&" in left:
            inner, written = left["&"]
            found = field(inner, self.scope.question.protocol)
            if found.needs is None or not _reads(found):
                return found, None
            try:
                values = found.read(written).intervals
            except Unreadable as error:
                return error
            mask = values[0][0]
            if found.read is read_addresses and mask >= 1 << 32:
                # IPv6 stands above IPv4 on the number line of addresses.
                mask -= 1 << 32
            return found, mask
        return field(left, self.scope.question.protocol), mask

    def _values(self, right: Expression, read: Callable[[Expression], IntervalSet]) -> IntervalSet:
        if not _is_set(right):
            return read(right)
        return union(read(key) for key, _ in self._elements(right))

    def _elements(self, right: Expression) -> Sequence[Element]:
        """The members of a set; raises `Unreadable` if nobody knows them."""
        if isinstance(right, str) and right.startswith("@"):
            found = self.scope.table.sets.get(right[1:])
            if found is None:
                raise Unreadable("unknown_set", f"set {right[1:]} is not shown")
            if found.doubt is not None:
                raise Unreadable(found.doubt.code, found.doubt.why)
            try:
                return found.read()
            except ValueError as error:
                raise Unreadable("unknown_set", f"of set {right[1:]} {error}") from error
        if isinstance(right, dict) and "set" in right:
            members = right["set"]
            members = members if isinstance(members, list) else [members]
            return [as_element(member) for member in members]
        return [(right, None)]

    # --- several fields, looked up together

    def _components(self, keys: Sequence[Expression]) -> list[_Component]:
        return [self._component(key) for key in keys]

    def _component(self, key: Expression) -> _Component:
        known: dict[str | int, list[Part]] = {}
        if _interface_key(key):

            def by(value: Expression) -> list[Part]:
                return self._interfaces(key, "==", value)

            return _Component(ALL, _kept(known, by))
        of = self._field(key)
        if isinstance(of, Unreadable):
            doubted = [structs.replace(ALL, doubts=(of.doubt,))]
            return _Component(ALL, lambda _: doubted)
        found, mask = of

        def parts(value: Expression) -> list[Part]:
            try:
                return found.parts(Wanted(found.read(value), mask=mask))
            except Unreadable as error:
                return self._unread(found, error)

        return _Component(found.needs, _kept(known, parts))

    def _having(self, components: Iterable[_Component]) -> list[Part]:
        """The packets so far that have all of some fields."""
        parts = self.parts
        for one in components:
            parts = [] if one.needs is None else common(parts, [one.needs])
        return parts

    def _looked_up(self, parts: list[Part], components: Sequence[_Component], key: Expression) -> list[Part]:
        """The packets of some that an element is about."""
        values = key["concat"] if isinstance(key, dict) and "concat" in key else [key]
        if len(values) != len(components):
            return common(parts, doubtful("unknown_match", "an element of a set is not read"))
        found = []
        # Protocol and port stand behind the address, and say the most.
        for component, value in zip(reversed(components), reversed(values), strict=True):
            of = component.of(value)
            if not of:
                return []
            found.append(of)
        for of in found:
            parts = common(parts, of)
        return parts

    def _verdict_map(self, said: Expression) -> Iterator[Rule]:
        """`tcp dport vmap { 22 : accept, * : jump others }`."""
        key = said.get("key")
        keys = key["concat"] if isinstance(key, dict) and "concat" in key else [key]
        components = self._components(keys)
        parts = self._having(components)
        self.parts = []
        if not parts:
            return
        try:
            elements = self._elements(said.get("data"))
        except Unreadable as error:
            doubted = common(parts, [structs.replace(ALL, doubts=(error.doubt,))])
            yield from self._act(doubted, Action("unknown", "a verdict map that is not known"))
            self.parts = doubted
            return
        actions: dict[Action, list[Part]] = {}
        otherwise: Action | None = None
        for value, verdict in elements:
            if value == "*":
                otherwise = _action(verdict)
            elif found := self._looked_up(parts, components, value):
                actions.setdefault(_action(verdict), []).extend(found)
        taken = []
        for action, every in actions.items():
            of = merged(every)
            taken += of
            yield from self._act(of, action)
            if action.kind == "continue":
                self.parts += of
        if otherwise is not None:
            others = without(parts, merged(taken))
            yield from self._act(others, otherwise)
            if otherwise.kind == "continue":
                self.parts += others

    # --- interfaces

    def _interfaces(self, left: Expression, operator: str, right: Expression) -> list[Part]:
        """Matches of the interface that packets come in by; by which they would go out has no name."""
        key = left["meta"]["key"]
        try:
            names = [key for key, _ in self._elements(right)]
        except Unreadable as error:
            return [structs.replace(ALL, doubts=(error.doubt,))]
        if operator not in {"==", "!=", "in"} or not all(isinstance(name, str | int) for name in names):
            return doubtful("unknown_interface", f"what {operator} makes of an interface is not read")
        matches = _any(self._comes_by(key, name) for name in names)
        if matches is None:
            return doubtful(
                "unknown_interface", f"which interface {names[0]} is, or packets come in by, is not known"
            )
        return [ALL] if matches is not (operator == "!=") else []

    def _comes_by(self, key: str, name: str | int) -> bool | None:
        if key.startswith("oif"):
            return name in {"", 0, "0"}
        if key == "iif" and (isinstance(name, int) or name.isdecimal()):
            # The number of an interface: of one that is gone, or in another namespace.
            return None
        return Interface(str(name)).matches(self.scope.question.interface)


def _kept(
    known: dict[str | int, list[Part]], parts: Callable[[Expression], list[Part]]
) -> Callable[[Expression], list[Part]]:
    """The same, looked up once for each value."""

    def of(value: Expression) -> list[Part]:
        if not isinstance(value, str | int):
            return parts(value)
        found = known.get(value)
        if found is None:
            found = known[value] = parts(value)
        return found

    return of


def as_element(member: Expression) -> Element:
    """A member of a set as JSON has it: `[key, verdict]` in a map, with what is kept of it left out.

    One that the reader of text made is an element already.
    """
    if isinstance(member, tuple):
        return member
    if isinstance(member, list) and len(member) == 2 and (isinstance(member[1], dict) or member[1] is None):
        return _value_of(member[0]), member[1]
    return _value_of(member), None


def _value_of(member: Expression) -> Expression:
    if isinstance(member, dict) and "elem" in member and isinstance(member["elem"], dict):
        return member["elem"].get("val")
    return member


def _action(verdict: Statement | None) -> Action:
    """A verdict as an action."""
    kind, said = next(iter(verdict.items()), ("", None)) if isinstance(verdict, Mapping) else ("", None)
    if kind in {"jump", "goto"}:
        target = str(said.get("target", "")) if isinstance(said, dict) else ""
        return Action("jump" if kind == "jump" else "goto", f"{kind} {target}", target)
    if kind in _VERDICTS:
        return Action(_VERDICTS[kind], kind)
    return Action("unknown", kind or "a verdict that is not read")


def _is_set(right: Expression) -> bool:
    return (isinstance(right, str) and right.startswith("@")) or (isinstance(right, dict) and "set" in right)


def _interface_key(left: Expression) -> bool:
    return (
        isinstance(left, dict)
        and isinstance(left.get("meta"), dict)
        and left["meta"].get("key") in {"iif", "iifname", "oif", "oifname"}
    )


_NOWHERE = IntervalSet(((-2, -2),))


def _reads(found: Field) -> bool:
    """Whether it hangs on the value at all."""
    parts = found.parts(Wanted(_NOWHERE))
    return not (len(parts) == 1 and parts[0].doubts)


def _wanted(operator: str, values: IntervalSet, mask: int | None, *, is_set: bool) -> Wanted:
    """A comparison as membership."""
    if operator in {"in", "!"} and not is_set:
        # Whether the field has one of some bits.
        bits = 0
        for low, high in values.intervals:
            for value in range(low, min(high, low + 4096) + 1):
                bits |= value
        return Wanted(IntervalSet(((0, 0),)), operator == "in", bits if mask is None else bits & mask)
    if operator in {"==", "in", "!="}:
        return Wanted(values, operator == "!=", mask)
    if not values or operator not in {"<", ">", "<=", ">="}:
        raise Unreadable("unknown_match", f'what "{operator}" compares is not read')
    low, high = values.intervals[0][0], values.intervals[-1][1]
    bounds = {"<": (0, low - 1), "<=": (0, high), ">": (high + 1, _LARGEST), ">=": (low, _LARGEST)}
    first, last = bounds[operator]
    return Wanted(IntervalSet(((first, last),)) if first <= last else IntervalSet(), mask=mask)


def _marks_dropped(left: Expression, operator: str, right: Expression) -> bool:
    """Whether a match is `meta mark & 0x8000 == 0x8000`."""
    if operator != "==" or not isinstance(left, dict) or "&" not in left:
        return False
    of, mask = left["&"]
    return of == {"meta": {"key": "mark"}} and _number(mask) == 0x8000 and _number(right) == 0x8000


def _number(value: Expression) -> int | None:
    if isinstance(value, int):
        return value
    try:
        return int(value, 0) if isinstance(value, str) else None
    except ValueError:
        return None
