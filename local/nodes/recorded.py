"""Nodes where there are no namespaces: the script that was sent, run over recorded text.

It runs as an ordinary process of this machine, without privileges, and sees of its commands only plain ones;
in the place of those that look at a firewall or a network stand small programs that print what was recorded.
What it sends back is therefore framed by the script itself, as on a node. Two things in a script are changed:
where it sets its PATH, it is set to these commands, and the kernel's lists of legacy tables become files with
the tables that were recorded. What else it reads under /proc and /etc is this machine's.
"""

import asyncio
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from local.nodes import script
from local.nodes.description import Outcome

_PLAIN = """
awk base64 basename bash cat chmod cksum cmp comm cp cut date dd df dirname du echo egrep env expr
false fgrep find fold getconf grep gunzip gzip head id join kill ln ls md5sum mkdir mkfifo mktemp mv
nl nohup nproc od paste printf ps pwd readlink realpath rev rm rmdir sed seq sh sha1sum sha256sum
sleep sort split stat stdbuf stty sum sync tac tail tee test timeout touch tr true truncate tty
uname uniq wc which xargs xz yes zcat
"""
PLAIN = frozenset(_PLAIN.split())
"""Commands that a script finds as they are: they look at nothing but their input and files."""

Answers = Literal["open", "refused", "timeout"]
"""How a node answers a connection to TCP 10250."""

_LEGACY_TABLES = {
    "/proc/net/ip_tables_names": "iptables-legacy-save",
    "/proc/net/ip6_tables_names": "ip6tables-legacy-save",
}
"""The kernel's lists of the tables that iptables-legacy has filled, and who prints these."""

_ON_PATH = re.compile(rb"(?m)^([ \t]*(?:export[ \t]+)?PATH=)[^\s;]*")
_UNPRIVILEGED = ("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--")
"""Root without any of its powers: a script that looks for commands elsewhere can change no firewall."""

Reached = Answers | Literal["unknown"]
"""The same, as far as anybody can tell."""

_SAID: dict[Reached, str] = {
    "open": "Connection to $host $port port [tcp/*] succeeded!",
    "refused": "nc: connect to $host port $port (tcp) failed: Connection refused",
    "timeout": "nc: connect to $host port $port (tcp) timed out: Operation now in progress",
    "unknown": "nc: nothing is recorded of how $host answers",
}
"""What OpenBSD's nc writes to standard error; `unknown` is our own word."""

_STATUS: dict[Reached, int] = {"open": 0, "refused": 1, "timeout": 1, "unknown": 2}


class Printed(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """What a command printed once."""

    stdout: str = ""
    stderr: str = ""
    status: int = 0


class Recording(msgspec.Struct, frozen=True):
    """What is known of one node."""

    commands: Mapping[str, Printed]
    """By command line, `ufw status verbose`; a name alone, `iptables-save`, is for any arguments."""
    reach: Mapping[str, Reached]
    """How each address of its network answers it on 10250; all others do not."""


ORDINARY = {
    "ufw": Printed("Status: inactive\n"),
    **{
        f"{tool}-{backend}save": Printed()
        for tool in ("iptables", "ip6tables")
        for backend in ("", "nft-", "legacy-")
    },
    "nft": Printed(),
    "ipset": Printed(),
}
"""What the commands of a node print whose firewall nobody has touched."""


async def run(text: bytes, recording: Recording, *, seconds: float, name: str) -> Outcome:
    """Run a script over what was recorded of a node; raises OSError."""
    directory = await asyncio.to_thread(_prepare, recording, name)
    path = f"{directory / 'recorded'}:{directory / 'plain'}"
    try:
        return await script.run(
            _changed(text, directory, path),
            file=directory / "download" / "script.sh",
            environment={
                "PATH": path,
                "LANG": "C.UTF-8",
                "TMPDIR": str(directory),
            },
            seconds=seconds,
            scratch=directory,
            wrapper=_wrapper(),
        )
    finally:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


def _changed(text: bytes, directory: Path, path: str) -> bytes:
    """A script that finds what was recorded."""
    for names in _LEGACY_TABLES:
        text = text.replace(names.encode(), os.fsencode(directory / Path(names).name))
    return _ON_PATH.sub(lambda found: found[1] + os.fsencode(path), text)


def _wrapper() -> tuple[str, ...]:
    setpriv = shutil.which("setpriv")
    return (setpriv, *_UNPRIVILEGED) if setpriv and os.geteuid() == 0 else ()


def _prepare(recording: Recording, name: str) -> Path:
    """Make the directories of commands that a script will find."""
    directory = Path(tempfile.mkdtemp(prefix="node-"))
    plain, recorded = directory / "plain", directory / "recorded"
    plain.mkdir()
    recorded.mkdir()
    for command in PLAIN:
        if found := shutil.which(command, path=os.defpath):
            (plain / command).symlink_to(found)
    for command, body in _programs(recording, name).items():
        program = recorded / command
        program.write_text(f"#!/bin/sh\n{body}", encoding="utf-8")
        program.chmod(0o755)
    for names, command in _LEGACY_TABLES.items():
        tables = re.findall(r"(?m)^\*(\S+)$", _printed(recording, command))
        (directory / Path(names).name).write_text("".join(f"{table}\n" for table in tables))
    return directory


def _printed(recording: Recording, command: str) -> str:
    """What a command without arguments was recorded to print; empty if nothing was."""
    return recording.commands.get(command, Printed()).stdout


def _programs(recording: Recording, name: str) -> dict[str, str]:
    """The text of each recorded command; those of which nothing is known do not exist."""
    cases: dict[str, dict[str, Printed]] = {}
    for line, printed in recording.commands.items():
        command, _, arguments = " ".join(line.split()).partition(" ")
        cases.setdefault(command, {})[arguments] = printed
    programs = {"hostname": f"echo {shlex.quote(name)}\n"}
    if recording.reach:
        programs["nc"] = _connect(recording.reach)
    for command, known in cases.items():
        body = 'case "$*" in\n'
        # the name alone comes last: it is for what no other line is for
        for arguments, printed in sorted(known.items(), key=lambda item: item[0] == ""):
            body += f"{shlex.quote(arguments) if arguments else '*'}) {_print(printed)} ;;\n"
        body += "esac\n"
        rest = f'echo "{command}: nothing is recorded for these arguments: $*" >&2\nexit 2\n'
        programs[command] = body + (programs.get(command, rest) if "" not in known else "")
    return programs


def _print(printed: Printed) -> str:
    return (
        f"printf %s {shlex.quote(printed.stdout)}; printf %s {shlex.quote(printed.stderr)} >&2; "
        f"exit {printed.status}"
    )


def _connect(reach: Mapping[str, Reached]) -> str:
    body = "host= port=\nfor word; do host=$port port=$word; done\ncase $host in\n"
    for address, answer in reach.items():
        body += f'{shlex.quote(address)}) echo "{_SAID[answer]}" >&2; exit {_STATUS[answer]} ;;\n'
    return body + f'esac\necho "{_SAID["timeout"]}" >&2\nexit 1\n'


def check_line(line: str) -> None:
    """Say whether something can be the command line of a recording; ValueError if not."""
    command = line.split()[:1]
    with suppress(IndexError):
        if "/" not in command[0] and command[0] not in PLAIN:
            return
    raise ValueError(f'"{line}" is no command that can be recorded')
