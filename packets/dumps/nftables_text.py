"""What `nft list ruleset` prints, as text, and `list table`, `list chain`; with `-a`, `-n`, `-s` too.

    table inet filter { # handle 2
        set nodes {
                type ipv4_addr
                flags interval
                elements = { 10.240.0.0/16, 10.241.0.4-10.241.0.9 }
        }

        chain input { # handle 1
                type filter hook input priority filter; policy accept;
                ip saddr != @nodes tcp dport 10250 counter packets 0 bytes 0 drop # handle 4
        }
    }

Of an empty ruleset nothing is printed; so empty text is refused, unless the command stands before it. Rules
are told apart by lines and braces at first, and read when a packet comes by their chain.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache, partial
from itertools import takewhile

from packets.decisions import Doubt
from packets.dumps.nftables_listing import (
    PRIORITIES,
    Base,
    Element,
    Ruleset,
    WrittenChain,
    WrittenRule,
    WrittenSet,
    WrittenTable,
    changing,
)
from packets.dumps.nftables_words import read_elements, read_rule
from packets.netfilter import Policy

_FAMILIES = frozenset({"ip", "ip6", "inet", "netdev", "bridge", "arp"})
_TABLE = re.compile(r"table (?:(ip|ip6|inet|netdev|bridge|arp) )?(\S+) \{(?: # .*)?")
_BLOCK = re.compile(r"(\S+|ct \S+) (\S+) \{(?: # .*)?")
_BLOCKS = frozenset(
    {"chain", "set", "map", "flowtable", "counter", "quota", "limit", "secmark", "synproxy", "meter"}
    | {"ct helper", "ct timeout", "ct expectation"}
)
_OF_TABLE = re.compile(r"flags \S.*|comment \".*|#.*|")
_BASE = re.compile(
    r"type (?P<kind>\w+) hook (?P<hook>\w+)"
    r"(?: devices? = \{ ?(?P<devices>[^}]*)\}| device (?P<device>\"[^\"]*\"|\S+))?"
    r" priority (?P<name>[a-z]+)?(?: ?(?P<sign>[+-]) ?)?(?P<number>\d+)?;(?: policy (?P<policy>\w+);)?.*"
)
_OF_CHAIN = re.compile(r"comment \"|flags \w+;?$|policy (\w+);|#(?! ?xt_)")
_PROMPT = re.compile(
    r"\[std(?:out|err)\].*|```.*|(?:(?:\([\w.-]+\) )?(?:\[[^\]]*\]|\S*[@:~/\w-])\s*)?[#$%>\u276f](?:\s.*)?"
)
"""What stands around the output where it was copied from a terminal, or from `az … run-command invoke`."""
_LISTS_ALL = re.compile(r"\bnft\s(?:.*\s)?list\s+ruleset\s*$")
_LISTS_PART = re.compile(r"\bnft\s(?:.*\s)?list\s+(?!ruleset\b)(?P<what>[a-z]+)")
_TERSE = re.compile(r"\bnft\s(?:.*\s)?(?:-\w*t\w*|--terse)\s")
_REFUSED = re.compile(r"Operation not permitted|must be root|Permission denied", re.IGNORECASE)
_ABSENT = re.compile(r"\bnft: (?:command )?not found|command not found: nft|nft: No such file", re.IGNORECASE)
_FAILED = re.compile(r"\b(?:Error|netlink|internal:\d+)\b.*:|" + _REFUSED.pattern, re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')
_CHANGED = re.compile(r"(?:add|update|delete|set) @(\S+) \{")
_CUT = Doubt("truncated_output", "the listing ends before the ruleset does")
_CUT_SET = Doubt("unknown_set", "the listing ends before the set does")
_POLICIES: dict[str | None, Policy] = {None: "accept", "accept": "accept", "drop": "drop"}


def read_text(text: str) -> Ruleset:
    """The ruleset that a text lists; raises `ValueError` naming what is none in it."""
    return _Reader(text).ruleset()


class _End(Exception):  # noqa: N818 - no error: what was read so far holds
    """The text ends within a block."""


class _Reader:
    """Goes through the lines."""

    def __init__(self, text: str) -> None:
        self.lines = [line.strip() for line in text.replace("\ufeff", "").splitlines()]
        self.end = len(self.lines)
        while self.end and (
            not self.lines[self.end - 1]
            or (self.lines[self.end - 1] != "}" and _noise(self.lines[self.end - 1]))
        ):
            self.end -= 1
        self.at = 0
        self.changed = frozenset(_CHANGED.findall(text))
        # The command stands above its output, if it was copied with it.
        above = [*takewhile(lambda line: not line.startswith(("table ", "}")), self.lines)]
        self.terse = any(_TERSE.search(line) for line in above)
        self.doubts: list[Doubt] = []
        if part := next(filter(None, map(_LISTS_PART.search, above)), None):
            why = f"`nft list {part['what']}` does not show all that filters (`nft list ruleset` does)"
            self.doubts.append(Doubt("not_shown", why))

    def ruleset(self) -> Ruleset:
        tables: list[WrittenTable] = []
        while self.at < self.end:
            line = self.lines[self.at]
            self.at += 1
            found = _TABLE.fullmatch(line) if line.startswith("table ") else None
            if found is not None:
                tables.append(self._table(found[1] or "ip", found[2]))
            elif line:
                self._outside(line, first=not tables)
        if not tables:
            self._nothing()
        return Ruleset(tuple(tables), tuple(dict.fromkeys(self.doubts)))

    def _outside(self, line: str, *, first: bool) -> None:
        """A line that is in no table."""
        if _FAILED.search(line) and not line.startswith("#"):
            self.doubts.append(Doubt("not_shown", f'nft said "{line[:120]}"'))
        elif (
            line == "}"
            or (_BLOCK.fullmatch(line) and line.split(maxsplit=1)[0] in _BLOCKS)
            or _BASE.fullmatch(line)
        ):
            what = "begins after the ruleset does" if first else "is not whole"
            self.doubts.append(Doubt("truncated_output", f"the listing {what} (line {self.at})"))
        elif not first and not _noise(line):
            self.doubts.append(Doubt("not_shown", f'line {self.at} is not understood: "{line[:80]}"'))

    def _nothing(self) -> None:
        """Refuse what lists no table, unless it was asked for the whole ruleset and there is none."""
        lines = [(number, line) for number, line in enumerate(self.lines, 1) if line]
        if not lines:
            raise ValueError(
                "the text is empty: an empty ruleset prints nothing, and so does a command that failed "
                "(`nft -j list ruleset` tells them apart)"
            )
        for number, line in lines:
            if _ABSENT.search(line):
                raise ValueError(
                    f'nft is not installed where this was printed (line {number}: "{line[:80]}")'
                )
            if _REFUSED.search(line):
                raise ValueError(f'nft was not run as root (line {number}: "{line[:80]}")')
        if any(doubt.code == "truncated_output" for doubt in self.doubts):
            raise ValueError("the beginning of the listing is missing: no table is named")
        if all(_noise(line) for _, line in lines) and any(_LISTS_ALL.search(line) for _, line in lines):
            return
        number, line = lines[0]
        raise ValueError(f'no ruleset as `nft list ruleset` prints it: line {number} is "{line[:80]}"')

    # --- blocks

    def _table(self, family: str, name: str) -> WrittenTable:
        chains: dict[str, WrittenChain] = {}
        sets: dict[str, WrittenSet] = {}
        dormant = False
        while True:
            if self.at >= self.end:
                self.doubts.append(_CUT)
                break
            line = self.lines[self.at]
            if line.startswith("table ") and _TABLE.fullmatch(line):
                # Its closing brace is missing, and more may be.
                self.doubts.append(Doubt("truncated_output", f"table {name} is not shown whole"))
                break
            self.at += 1
            if line == "}":
                break
            if not line:
                continue
            block = _BLOCK.fullmatch(line)
            if block is None or block[1] not in _BLOCKS:
                dormant = dormant or (line.startswith("flags ") and "dormant" in line)
                if not _OF_TABLE.fullmatch(line):
                    self.doubts.append(Doubt("not_shown", f'line {self.at} is not understood: "{line[:80]}"'))
                continue
            start = self.at
            whole = self._block()
            # Of a block that is cut off the last line may be half a line.
            body = self.lines[start : max(start, self.at - 1)]
            if block[1] == "chain":
                chains[block[2]] = _chain(block[2], body, cut=not whole)
            elif block[1] in {"set", "map", "meter"}:
                doubt = _CUT_SET if not whole else changing(block[2]) if block[2] in self.changed else None
                sets[block[2]] = _set(block[2], body, doubt, terse=self.terse)
        return WrittenTable(family=family, name=name, chains=chains, sets=sets, dormant=dormant)

    def _block(self) -> bool:
        """Past a block; whether its end is there."""
        depth = 0
        lines, end = self.lines, self.end
        for place in range(self.at, end):
            line = lines[place]
            if line == "}" and depth <= 0:
                self.at = place + 1
                return True
            if "{" in line or "}" in line:
                if depth <= 0 and line.startswith(("table ", "chain ")) and line.endswith("{"):
                    break
                if '"' in line or "#" in line:
                    line = _QUOTED.sub("", line).partition("#")[0]
                depth += line.count("{") - line.count("}")
        else:
            place = end
        self.at = place
        if place < end:
            # Another block begins within: what is between was lost.
            self.doubts.append(
                Doubt("truncated_output", f"the listing is not whole (before line {place + 1})")
            )
        else:
            self.doubts.append(_CUT)
        return False


def _noise(line: str) -> bool:
    return bool(_PROMPT.fullmatch(line)) and not line.startswith(("# handle", "# xt_"))


def _chain(name: str, body: Sequence[str], *, cut: bool) -> WrittenChain:
    base: Base | None = None
    rules: list[str] = []
    for line in _joined(body):
        if line.startswith("type ") and (found := _BASE.fullmatch(line)):
            base = _base(found)
        elif _OF_CHAIN.match(line) is None:
            rules.append(line)
        elif base is not None and (policy := re.match(r"policy (\w+);", line)):
            base = Base(
                kind=base.kind,
                hook=base.hook,
                priority=base.priority,
                policy=_POLICIES.get(policy[1], "unknown"),
                devices=base.devices,
            )

    return WrittenChain(name=name, read=partial(_rules, rules), base=base, cut=cut)


def _rules(lines: Sequence[str]) -> tuple[WrittenRule, ...]:
    return tuple(map(read_rule, lines))


def _joined(body: Sequence[str]) -> Iterator[str]:
    """Lines, those together that a brace holds together."""
    depth = 0
    held: list[str] = []
    for line in body:
        if not line:
            continue
        held.append(line)
        if "{" in line or "}" in line:
            bare = _QUOTED.sub("", line).partition("#")[0] if '"' in line or "#" in line else line
            depth += bare.count("{") - bare.count("}")
        if depth <= 0:
            yield " ".join(held) if len(held) > 1 else line
            held.clear()
            depth = 0
    if held:
        yield " ".join(held)


def _base(found: re.Match[str]) -> Base:
    number = int(found["number"] or 0)
    sign = -1 if found["sign"] == "-" else 1
    devices: tuple[str, ...] | None = None
    if found["device"]:
        devices = (found["device"].strip('"'),)
    elif found["devices"] is not None:
        devices = tuple(name.strip(' "') for name in found["devices"].split(",") if name.strip())
    return Base(
        kind=found["kind"],
        hook=found["hook"],
        priority=PRIORITIES.get(found["name"] or "", 0) + sign * number,
        policy=_POLICIES.get(found["policy"], "unknown"),
        devices=devices,
    )


def _set(name: str, body: Sequence[str], doubt: Doubt | None, *, terse: bool) -> WrittenSet:
    elements: list[str] = []
    for place, line in enumerate(body):
        if line.startswith("elements = {"):
            elements = [line.removeprefix("elements = {"), *body[place + 1 :]]
            break
        if line.startswith("flags ") and ("dynamic" in line or "timeout" in line):
            doubt = doubt or changing(name)
    if terse and not elements:
        doubt = doubt or Doubt("unknown_set", f"a terse listing does not show the members of set {name}")

    @cache
    def read() -> tuple[Element, ...]:
        # The brace that ends the elements is the last one.
        return tuple(read_elements(" ".join(elements).rpartition("}")[0]))

    return WrittenSet(name=name, read=read, doubt=doubt)
