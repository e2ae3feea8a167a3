"""A node's packet filter: filled as described, and emptied again. Runs inside the node's namespaces."""

import asyncio
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from local.nodes.description import Firewall

_UFW = Path("/etc/ufw")
_UFW_DEFAULTS = Path("/etc/default/ufw")
_UFW_TEMPLATES = Path("/usr/share/ufw")
_AT_ONCE = 200
"""Lines that iptables-restore gets at once: without root's rights a message to the kernel has a limit, and
some 450 lines are too long for it."""
_LEGACY_TABLES = {"iptables": "/proc/net/ip_tables_names", "ip6tables": "/proc/net/ip6_tables_names"}
_BUILT_IN = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}


class StepError(Exception):
    """A step that failed: one line with the command and its own words."""


async def fill(firewall: Firewall) -> None:
    """Do every step, or raise StepError for the first that fails."""
    for line in firewall.ipset:
        await _command("ipset", *_words("ipset", line))
    for tool in ("iptables", "ip6tables"):
        steps: Sequence[str] | str = getattr(firewall, tool)
        if steps:
            text = steps if isinstance(steps, str) else restore_text(tool, steps)
            for part in parts(text):
                await _command(f"{tool}-{firewall.backend}-restore", "--noflush", given=part)
    if firewall.nftables:
        await _command("nft", "-f", "-", given=firewall.nftables)
    for line in firewall.ufw:
        await _command("ufw", *_words("ufw", line))


async def empty() -> None:
    """Take away all that `fill` or a script put there; raises StepError."""
    await _command("nft", "flush", "ruleset")
    for tool, names in _LEGACY_TABLES.items():
        if text := _emptied(names):
            await _command(f"{tool}-legacy-restore", given=text)
    if shutil.which("ipset"):
        await _destroy_sets()


def restore_text(tool: str, steps: Iterable[str]) -> str:
    """Commands as one input for iptables-restore, a section for each table; raises StepError.

    >>> print(restore_text("iptables", ["-A INPUT -p tcp --dport 10250 -j DROP"]), end="")
    *filter
    -A INPUT -p tcp --dport 10250 -j DROP
    COMMIT
    """
    tables: dict[str, list[str]] = {}
    for step in steps:
        words = _words(tool, step)
        table = "filter"
        for option in ("-t", "--table"):
            if option in words[:-1]:
                place = words.index(option)
                table = words[place + 1]
                del words[place : place + 2]
        policy = words[:1] in (["-P"], ["--policy"]) and len(words) == 3
        # a policy is a line of its own kind to iptables-restore
        line = f":{words[1]} {words[2]} [0:0]" if policy else _quoted(words)
        tables.setdefault(table, []).append(line)
    return "".join(f"*{table}\n" + "\n".join(lines) + "\nCOMMIT\n" for table, lines in tables.items())


def parts(text: str) -> Iterator[str]:
    """What iptables-save printed, as inputs for iptables-restore --noflush of which none is too long."""
    lines = text.splitlines()
    if len(lines) <= _AT_ONCE:
        yield text
        return
    table, part = "", list[str]()
    for line in lines:
        if line.startswith("*"):
            table = line
        elif line and line != "COMMIT" and not line.startswith("#"):
            part.append(line)
        if part and (line == "COMMIT" or len(part) == _AT_ONCE):
            yield "\n".join((table, *part, "COMMIT"))
            part = []
    if part:
        yield "\n".join((table, *part))  # iptables-restore says that its COMMIT is missing


def _quoted(words: Iterable[str]) -> str:
    """Words as iptables-restore reads them back: in double quotes where they need any."""
    return " ".join(
        word if re.fullmatch(r"[^\s\"'\\]+", word) else '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'
        for word in words
    )


def _emptied(names: str) -> str:
    """Input for iptables-restore that leaves the tables listed in a file as they are born."""
    try:
        tables = Path(names).read_bytes().decode().split()
    except OSError:  # no legacy filter in this kernel, or not for us: nothing can be in it
        return ""
    return "".join(
        f"*{table}\n" + "".join(f":{chain} ACCEPT [0:0]\n" for chain in _BUILT_IN[table]) + "COMMIT\n"
        for table in tables
        if table in _BUILT_IN
    )


async def _destroy_sets() -> None:
    """Destroy every ipset; the kernel lets go of those in rules only a moment after the rules are gone."""
    for pause in (0.01, 0.05, 0.2, 0.5, 0):
        try:
            await _command("ipset", "destroy")
        except StepError:
            if not pause:
                raise
            await asyncio.sleep(pause)
        else:
            return


class OwnUfw:
    """UFW's files as they are on a machine whose UFW was never touched, read before they are covered up."""

    def __init__(self) -> None:
        self._files: dict[Path, bytes] = {}
        if not _UFW.is_dir():
            return
        for file in (*_UFW.rglob("*"), _UFW_DEFAULTS):
            try:
                self._files[file] = file.read_bytes()
            except (IsADirectoryError, FileNotFoundError):
                continue
            except PermissionError:  # the rules are for root's eyes; the package's own are for everybody's
                template = next(
                    (found for found in _UFW_TEMPLATES.rglob(file.name) if found.is_file()), Path("/dev/null")
                )
                self._files[file] = template.read_bytes()
        for rules in ("user.rules", "user6.rules"):  # this machine's own rules are nobody's business
            pristine = _UFW_TEMPLATES / "iptables" / rules
            if pristine.is_file():
                self._files[_UFW / rules] = pristine.read_bytes()
        switch = _UFW / "ufw.conf"
        if switch in self._files:
            off = re.sub(rb"(?m)^ENABLED=.*$", b"ENABLED=no", self._files[switch])
            self._files[switch] = off

    @property
    def installed(self) -> bool:
        """Whether there is an UFW."""
        return bool(self._files)

    def write(self) -> None:
        """Put the files back as they were read; raises OSError."""
        for file, content in self._files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            file.chmod(0o640 if file.suffix == ".rules" else 0o644)


def _words(tool: str, line: str) -> list[str]:
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise StepError(f"{tool} {line}: {error}") from None
    if not words:
        raise StepError(f"{tool}: an empty line")
    return words


async def _command(name: str, *arguments: str, given: str = "") -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            name,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise StepError(f"{name}: {error.strerror}") from None
    if given and not given.endswith("\n"):
        given += "\n"
    stdout, stderr = await process.communicate(given.encode())
    if process.returncode != 0:
        said = " ".join((stderr or stdout).decode(errors="replace").split())
        raise StepError(f"{shlex.join((name, *arguments))}: {said or f'exit status {process.returncode}'}")
