"""What `ufw status`, `ufw status verbose` and `ufw status numbered` print, as our types.

    Status: active
    Logging: on (low)
    Default: deny (incoming), allow (outgoing), disabled (routed)
    New profiles: skip

    To                         Action      From
    --                         ------      ----
    10250/tcp                  ALLOW IN    10.240.0.0/16              # nodes
    10.240.0.4 10250/tcp on eth0 DENY IN     10.241.0.0/16 999/tcp      (log)
    22/tcp (OpenSSH (v6))      LIMIT IN    Anywhere (v6)

    53                         ALLOW OUT   Anywhere

Only `verbose` has the three lines after the status and the ports of application profiles; only `numbered` has
`[ 1]` before each rule, and keeps rules about outgoing traffic in their places. Without rules there is no
table, and `Status: inactive` stands alone.

UFW translates the status, the headings and the words in parentheses, but neither policies nor actions nor
`Anywhere` nor the row of dashes, and keeps the order of the policies in every translation. So a table or a
line of policies is understood in any language; a status that stands alone only in English.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Self

from msgspec import Struct, structs

from packets.addresses import parse_prefix
from packets.ufw import Action, Direction, Family, Policy, Side, UfwRule, UfwStatus, parse_ports

_STATUS = re.compile(r"Status:\s*(active|inactive)")
_DASHES = re.compile(r"-+\s+-+\s+-+")
_POLICIES = re.compile(r"\S[^()]*\s(allow|deny|reject) \([^)]*\), (?:allow|deny|reject) \(.*")
_RULE = re.compile(
    r"(?:\[ *(?P<number>\d+)\] )?\s*(?P<to>\S.*?)"
    r"\s+(?P<action>ALLOW|DENY|REJECT|LIMIT)(?: (?P<way>IN|OUT|FWD))?"
    r"\s+(?P<source>\S.*?)(?:\s+\((?:(?:log|log-all)(?:, out)?|out)\))?(?:\s+# ?(?P<comment>.*))?"
)
_PROMPT = re.compile(
    r"\[std(?:out|err)\].*|```.*|(?:(?:\([\w.-]+\) )?(?:\[[^\]]*\]|\S*[@:~/\w-])\s*)?[#$%>\u276f](?:\s.*)?"
)
"""What stands around the output where it was copied from a terminal, or from `az … run-command invoke`."""
_NOT_INSTALLED = re.compile(
    r"\bufw: (?:command )?not found|command not found: ufw|ufw: No such file", re.IGNORECASE
)

_V6 = " (v6)"
_PROTOCOL = r"(?:/(?P<protocol>[a-z][\w-]*))?"
_ANYWHERE = re.compile(rf"Anywhere{_PROTOCOL}")
_ADDRESS = re.compile(rf"(?P<address>[\dA-Fa-f:.]+(?:/[\d.]+)?){_PROTOCOL}")
_PORTS = re.compile(rf"(?P<ports>\d+(?::\d+)?(?:,\d+(?::\d+)?)*){_PROTOCOL}")
_PROFILE = re.compile(r"[A-Za-z\d][A-Za-z\d _\-.+]*")
_SHOWN = re.compile(r"(?P<rest>.+) \((?P<profile>[^()]+?)(?P<six> \(v6\))?\)")
"""Ports with the name of the application profile that they come from: `22/tcp (OpenSSH (v6))`."""
_ON = re.compile(r" on [\w.+,=%@-]+$")

_WAYS: dict[str | None, Direction] = {None: "in", "IN": "in", "OUT": "out", "FWD": "routed"}
_ACTION: dict[str, Action] = {"ALLOW": "ALLOW", "DENY": "DENY", "REJECT": "REJECT", "LIMIT": "LIMIT"}
_POLICY: dict[str, Policy] = {"allow": "allow", "deny": "deny", "reject": "reject"}


def read_ufw_status(text: str) -> UfwStatus:
    """The one status in a text, whatever stands around it.

    Raises `ValueError` saying what is wrong: an error of UFW or of the shell, no status, several, one in a
    language that it cannot be told in, or a line in the table that is no rule.
    """
    lines = [line.strip() for line in text.replace("\ufeff", "").splitlines()]
    said = [(place, found[1]) for place, line in enumerate(lines) if (found := _STATUS.fullmatch(line))]
    tables = [place for place, line in enumerate(lines) if _DASHES.fullmatch(line)]
    policies = [found[1] for line in lines if (found := _POLICIES.fullmatch(line))]
    times = max(len(said), len(tables), len(policies))
    if not times:
        raise ValueError(_why_not(lines))
    if times > 1:
        raise ValueError(f"the text holds what ufw status prints {times} times; one is judged at a time")
    if said and said[0][1] == "inactive":
        if tables or policies:
            raise ValueError(
                "ufw status is inactive, and rules or policies stand beside it: one of both is false"
            )
        return UfwStatus(active=False)
    if said and tables and tables[0] < said[0][0]:
        raise ValueError("rules stand before the status, where ufw status prints none")
    if not tables and (cut := next(filter(_read, lines), None)):
        raise ValueError(f"the headings of the table are cut off, so rules may be missing before {cut!r}")
    return UfwStatus(
        active=True,
        incoming=_POLICY[policies[0]] if policies else None,
        rules=_table(lines[tables[0] + 1 :]) if tables else (),
    )


def _why_not(lines: Sequence[str]) -> str:
    """Why a text holds no status."""
    if not any(lines):
        return "the text is empty: it should be what `ufw status verbose` prints"
    for line in lines:
        if _NOT_INSTALLED.search(line):
            return f"ufw is not installed where this comes from: {line}"
        if "need to be root" in line:
            return f"ufw status was not run as root (sudo): {line}"
        if line.startswith("ERROR:"):
            return f"ufw status failed: {line}"
    if cut := next(filter(_read, lines), None):
        return f"the beginning is cut off, so rules may be missing before {cut!r}"
    return (
        'the text has neither "Status: active" nor "Status: inactive": it should be what '
        "`LC_ALL=C ufw status verbose` prints, in English and from its beginning"
    )


def _read(line: str) -> re.Match[str] | None:
    return None if _PROMPT.fullmatch(line) else _RULE.fullmatch(line)


def _table(lines: Sequence[str]) -> tuple[UfwRule, ...]:
    """The rules of a table, and of what stands below it no line that may be one."""
    rules: list[UfwRule] = []
    after = ""
    blank = False
    for line in lines:
        if found := _read(line):
            if after:
                raise ValueError(f"a line between rules is none: {after!r}")
            rules.append(_rule(found, len(rules) + 1))
            blank = False
        elif not line:
            blank = True
        else:
            if not (blank or after or _PROMPT.fullmatch(line)):
                raise ValueError(f"a line of the table is no rule: {line!r}")
            after = after or line
    if not rules:
        raise ValueError("the table of rules is cut off after its headings")
    return tuple(_numbered(rules))


def _rule(found: re.Match[str], place: int) -> UfwRule:
    try:
        to, source = _Column.of(found["to"]), _Column.of(found["source"])
    except ValueError as error:
        raise ValueError(f"a rule cannot be read ({error}): {found[0]!r}") from error
    direction = _WAYS[found["way"]]
    protocols = {column.protocol for column in (to, source) if column.protocol}
    families = {column.family for column in (to, source) if column.family}
    if len(protocols) > 1 or len(families) > 1 or (direction == "in" and source.interface):
        raise ValueError(f"the columns of a rule contradict each other: {found[0]!r}")
    written = " ".join(part for part in (to.written, found["action"], found["way"], source.written) if part)
    return UfwRule(
        written=written,
        place=place,
        number=int(found["number"]) if found["number"] else None,
        action=_ACTION[found["action"]],
        direction=direction,
        family=next(iter(families), 4),
        protocol=next(iter(protocols), "any"),
        source=source.side,
        to=to.side,
        interface={"in": to.interface, "routed": source.interface, "out": ""}[direction],
        comment=found["comment"] or "",
    )


class _Column(Struct, frozen=True):
    """What one column of a rule says."""

    written: str
    side: Side
    protocol: str = ""
    interface: str = ""
    family: Family | None = None
    """None if it does not tell."""

    @classmethod
    def of(cls, text: str) -> Self:
        """`Anywhere/tcp (v6) on eth0`, `10.240.0.4 80,443/tcp (Nginx Full)`, `fd00::/64`, `OpenSSH (v6)` …"""
        written = " ".join(text.split())
        rest, _, interface = written.rpartition(" on ") if _ON.search(written) else (written, "", "")
        six = rest.endswith(_V6)
        rest = rest.removesuffix(_V6)
        profile = ""
        if found := _SHOWN.fullmatch(rest):
            rest, profile, six = found["rest"], found["profile"], six or found["six"] is not None
        address, protocol = "", ""
        first, _, others = rest.partition(" ")
        if found := _ANYWHERE.fullmatch(rest):
            rest, protocol = "", found["protocol"] or ""
        elif not _PORTS.fullmatch(first) and (found := _ADDRESS.fullmatch(first)):
            rest, address, protocol = others, found["address"], found["protocol"] or ""
            if "." not in address.partition("/")[2]:
                parse_prefix(address)
        ports = ""
        if found := _PORTS.fullmatch(rest):
            ports, protocol = found["ports"], found["protocol"] or ""
            parse_ports(ports)
        elif rest:
            if profile or not _PROFILE.fullmatch(rest):
                raise ValueError(f"{rest!r} is neither a port nor the name of an application profile")
            profile = rest
        return cls(
            written=written,
            side=Side(address, ports, profile),
            protocol=protocol,
            interface=interface,
            family=6 if six or ":" in address else 4 if address else None,
        )


def _numbered(rules: Sequence[UfwRule]) -> Iterator[UfwRule]:
    """The rules with their numbers, as far as these can be told; raises `ValueError` if one is missing."""
    numbers = [rule.number for rule in rules]
    if any(numbers):
        if numbers != list(range(1, len(rules) + 1)):
            raise ValueError("the rules are not numbered from 1 on without a gap: lines are missing")
        yield from rules
    elif all(rule.direction == "in" for rule in rules):
        # A profile with several ports is one rule, though `verbose` gives it a line for each.
        numbers_of: dict[object, int] = {}
        for rule in rules:
            to, source = (
                (side.address, side.profile or side.ports, bool(side.profile))
                for side in (rule.to, rule.source)
            )
            profiled = rule.to.profile or rule.source.profile
            same: object = (to, source, rule.interface, rule.family) if profiled else rule.place
            yield structs.replace(rule, number=numbers_of.setdefault(same, len(numbers_of) + 1))
    else:
        yield from rules
