"""The body of a probe's report, as sections, made into what checks read.

    |Ubuntu 22.04.5 LTS
    section os ok
    |eth0
    section interface ok
    |Status: inactive
    section ufw ok
    |*filter
    …
    section iptables-nft-save ok
    section nft timeout
    …
    end ok

A section ends with its line, which says how it went: `ok`; `absent`, there is nothing of that kind on the
node; `timeout`; `no_tool`, there is something and no command to list it with; `failed STATUS WORDS`. What
the command printed stands before that line, behind bars. A section that is not there is one that the
script's time did not suffice for.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from msgspec import Struct

from facts.filters import Missing
from facts.finding import Reason
from facts.probes import Dump, DumpName, NodeReport, Reach, Ufw

Ending = Literal["ok", "absent", "timeout", "no_tool", "failed"]


class _Section(Struct, frozen=True):
    """What a part of the script brought back."""

    lines: tuple[str, ...]
    ending: Ending
    words: str = ""


_LATE = _Section((), "timeout", "the probe's time ran out before it came to that")
_UNREADABLE = _Section((), "failed", "the probe's report cannot be read there")


def read_report(
    body: bytes, reach: Iterable[Reach], *, node: str, machine_id: str, taken_at: str
) -> NodeReport:
    """What one probe of one node found.

    Whatever could not be looked at is in the report with its reason: the `Missing` of UFW, a reason for
    each packet filter. Bytes that are no UTF-8, as comments may have them, are replaced.
    """
    sections = _sections(body.decode("utf-8", "replace"))
    reading = _Reading(node=node, machine_id=machine_id, sections=sections)
    return NodeReport(
        node=node,
        machine_id=machine_id,
        taken_at=taken_at,
        os=reading.first_line("os"),
        interface=reading.first_line("interface"),
        ufw=reading.ufw(),
        dumps=reading.dumps(),
        unread=reading.unread(),
        reach=tuple(reach),
    )


def _sections(text: str) -> dict[str, _Section]:
    found: dict[str, _Section] = {}
    lines: list[str] = []
    # Not splitlines: a form feed in a rule's comment ends no line.
    for line in text.split("\n"):
        if line.startswith("|"):
            lines.append(line[1:])
        elif line.startswith("section "):
            name, _, said = line.removeprefix("section ").partition(" ")
            section = _section(tuple(lines), said)
            # Nobody knows which of two is right.
            found[name] = _UNREADABLE if name in found else section
            lines.clear()
    return found


def _section(lines: tuple[str, ...], said: str) -> _Section:
    ending, _, words = said.partition(" ")
    match ending:
        case "ok":
            return _Section(lines, "ok")
        case "absent" if not lines:
            return _Section((), "absent")
        case "timeout":
            return _Section((), "timeout", "it did not finish in time")
        case "no_tool":
            return _Section((), "no_tool", words)
        case "failed":
            status, _, words = words.partition(" ")
            return _Section((), "failed", f"it ended with status {status}{_said(words)}")
        case _:
            return _UNREADABLE


def _said(words: str) -> str:
    return f", saying: {words.strip()}" if words.strip() else ""


class _Reading(Struct, frozen=True, kw_only=True):
    """The sections of one node's report."""

    node: str
    machine_id: str
    sections: Mapping[str, _Section]

    def first_line(self, name: str) -> str:
        section = self._section(name)
        return section.lines[0].strip() if section.lines else ""

    def ufw(self) -> Ufw | Missing:
        section = self._section("ufw")
        if section.ending == "absent":
            return Ufw(installed=False)
        if section.ending == "ok" and section.lines:
            return Ufw(installed=True, status="".join(f"{line}\n" for line in section.lines))
        if section.ending == "ok":
            section = _Section((), "failed", "it printed nothing")
        what = f'the status of UFW on node "{self.node}"'
        return Missing(
            what=what, resource_id=self.machine_id, reason=self._reason(what, "ufw status", section)
        )

    def dumps(self) -> tuple[Dump, ...]:
        return tuple(
            Dump(name=name, text="".join(f"{line}\n" for line in section.lines))
            for name, section in self._filters()
            if section.ending == "ok" and section.lines
        )

    def unread(self) -> tuple[Reason, ...]:
        return tuple(
            self._reason(f'all packet filter rules of node "{self.node}"', _COMMANDS[name], section)
            for name, section in self._filters()
            if section.ending not in {"ok", "absent"}
        )

    def _filters(self) -> list[tuple[DumpName, _Section]]:
        names: tuple[DumpName, ...] = get_args(DumpName)
        return [(name, self._section(name)) for name in names]

    def _section(self, name: str) -> _Section:
        return self.sections.get(name, _LATE)

    def _reason(self, what: str, command: str, section: _Section) -> Reason:
        # Of the two that never ran, the words say so themselves.
        why = (
            section.words
            if section.ending == "no_tool" or section is _LATE
            else f"{command}: {section.words}"
        )
        code = {"timeout": "timeout", "no_tool": "no_tool"}.get(section.ending, "tool_failed")
        return Reason(
            code=code, message=f"Could not read {what}: {why.rstrip('.')}.", resource=self.machine_id
        )


_COMMANDS: Mapping[DumpName, str] = {
    "iptables-nft-save": "iptables-nft-save",
    "iptables-legacy-save": "iptables-legacy-save",
    "ip6tables-nft-save": "ip6tables-nft-save",
    "ip6tables-legacy-save": "ip6tables-legacy-save",
    "nft": "nft list ruleset",
}
