"""UFW's engine against UFW itself: rules that the real ufw loads into the real kernel, and who gets through.

Rule sets are drawn by a seed, which is printed. TUNNELWATCH_UFW_SETS says how many (16), and
TUNNELWATCH_UFW_SEED draws others.
"""

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest

from packets.addresses import IntervalSet, parse_prefix, parse_prefixes
from packets.dumps.ufw import read_ufw_status
from packets.ufw import RATE_LIMITED, UfwQuestion, evaluate
from tests.kernel import Lab, open_lab, skip_without_namespaces

SETS = int(os.environ.get("TUNNELWATCH_UFW_SETS", "16"))
SEED = os.environ.get("TUNNELWATCH_UFW_SEED", "11")

NODE = ("10.240.0.4", "10.240.1.4", "fd00:10:240::4", "fd00:10:240:1::4")
SOURCES = (
    "10.240.0.5",
    "10.240.0.77",
    "10.240.0.200",
    "10.240.1.5",
    "10.241.3.9",
    "192.0.2.1",
    "fd00:10:240::5",
    "fd00:10:240::8000",
    "fd00:10:240:1::5",
    "fd00:10:241::9",
    "2001:db8::1",
)
PREFIXES = {
    4: ("10.240.0.0/16", "10.240.0.0/24", "10.240.0.128/25", "10.240.0.5", "10.240.0.4/30", "10.241.0.0/16"),
    6: ("fd00:10:240::/48", "fd00:10:240::/64", "fd00:10:240::/113", "fd00:10:240::5", "fd00:10:241::/48"),
}
ELSEWHERE = {4: ("10.240.9.9", "127.0.0.1", "224.0.0.251"), 6: ("fd00:9::9", "::1", "ff02::fb")}
SETTINGS = """IPV6={ipv6}
DEFAULT_INPUT_POLICY="{policy}"
DEFAULT_OUTPUT_POLICY="ACCEPT"
DEFAULT_FORWARD_POLICY="DROP"
DEFAULT_APPLICATION_POLICY="SKIP"
MANAGE_BUILTINS=no
IPT_SYSCTL=/etc/ufw/sysctl.conf
IPT_MODULES=""
"""
"""/etc/default/ufw."""
PROFILES = """
[Kubelet]
title=Kubelet
description=Kubelet
ports=10250/tcp

[Both Of Them]
title=Both
description=Both
ports=80,10000:10300/tcp|10250/udp

[Far Away]
title=Far
description=Far
ports=9999
"""

# Runs the program itself, for many commands in one process: most of its time goes to learning once more what
# iptables can do. A line of JSON is a command, and an empty one has it load its file of rules again, as it
# does itself after each change that is no addition at the end. Outputs are parted by a record separator.
_MANY = """
import json, runpy, sys
import ufw.frontend
program = sys.argv[1]
made = []
make = ufw.frontend.UFWFrontend
def once(*given, **named):
    if not made:
        made.append(make(*given, **named))
    return made[0]
ufw.frontend.UFWFrontend = once
for line in sys.stdin:
    sys.argv = [program, *json.loads(line)]
    if not sys.argv[1:]:
        once(False).backend._reload_user_rules()
        continue
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        if end.code:
            sys.exit(f"ufw {' '.join(sys.argv[1:])}: status {end.code}")
    print(end="\\x1e")
"""


class Ufw:
    """UFW of a node in a lab, with configuration of its own."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self._etc, self._default = directory / "etc", directory / "default"
        # As the package installs it: what this machine has may be somebody's own, and root's to read.
        shutil.copytree("/usr/share/ufw/iptables", self._etc)
        for name in ("before.init", "after.init"):
            shutil.copy(Path("/usr/share/ufw", name), self._etc / name)
        shutil.copy("/etc/ufw/sysctl.conf", self._etc / "sysctl.conf")
        (self._etc / "ufw.conf").write_text("ENABLED=no\nLOGLEVEL=low\n", encoding="utf-8")
        (self._etc / "applications.d").mkdir()
        (self._etc / "applications.d" / "tests").write_text(PROFILES, encoding="utf-8")
        self._default.touch()
        self._no_rules = {
            name: (self._etc / name).read_text(encoding="utf-8") for name in ("user.rules", "user6.rules")
        }
        self._enabled: tuple[str, bool] | None = None
        lab.run("mount", "--bind", str(self._etc), "/etc/ufw")
        lab.run("mount", "--bind", str(self._default), "/etc/default/ufw")
        program = shutil.which("ufw")
        assert program is not None
        self._program = program
        with Path(program).open(encoding="utf-8") as file:
            self._python = file.readline().removeprefix("#!").split()

    def __call__(self, *commands: Sequence[str]) -> list[str]:
        """What some commands print, one after the other."""
        given = "".join(f"{json.dumps(command)}\n" for command in commands)
        printed = self.lab.run(*self._python, "-c", _MANY, self._program, given=given).stdout
        return printed.split("\x1e")[:-1]

    def load(self, rules: Sequence[Sequence[str]], *, policy: str = "DROP", ipv6: bool = True) -> list[str]:
        """Have it enforce some rules instead of those that it had; what its three status commands print."""
        status = (["status", "verbose"], ["status", "numbered"], ["status"])
        if self._enabled == (policy, ipv6):
            self._forget()
            return self(["status"], [], *rules, *status)[-3:]
        # What it has begun with it keeps, and stopping costs a second.
        if self._enabled:
            self(["disable"])
        self._forget()
        settings = SETTINGS.format(ipv6="yes" if ipv6 else "no", policy=policy)
        self._default.write_text(settings, encoding="utf-8")
        self._enabled = (policy, ipv6)
        return self(*rules, ["--force", "enable"], *status)[-3:]

    def disable(self) -> list[str]:
        """Have it enforce nothing; what its status is then."""
        self._enabled = None
        return self(["disable"], ["status", "verbose"])[-1:]

    def _forget(self) -> None:
        for name, text in self._no_rules.items():
            (self._etc / name).write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def ufw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ufw]:
    """UFW in a lab."""
    skip_without_namespaces("ufw", "iptables", "ip6tables", "mount")
    with open_lab(NODE) as lab:
        yield Ufw(lab, tmp_path_factory.mktemp("ufw"))


def rule(draw: Random, *, ipv6: bool) -> list[str]:
    """One command that adds a rule: about all kinds that there are, and mostly about TCP 10250."""
    words = ["prepend"] if draw.random() < 0.2 else []
    kind = draw.choices(("in", "out", "route"), (8, 1, 1))[0]
    words = ["route", *words] if kind == "route" else words
    words.append(draw.choices(("allow", "deny", "reject", "limit"), (5, 4, 2, 1))[0])
    if kind == "out":
        words.append("out")
    elif draw.random() < 0.35:
        words += ["in", "on", draw.choice(("eth0", "eth0", "eth+", "eth1", "e+", "lo"))]
    elif kind == "in" and draw.random() < 0.5:
        words.append("in")
    if draw.random() < 0.15:
        words.append(draw.choice(("log", "log-all")))
    family = draw.choice((0, 4, 4, 6, 6) if ipv6 else (0, 4, 4))
    application = draw.random() < 0.2
    protocol = "" if application else draw.choice(("tcp", "tcp", "tcp", "udp", "", "", "esp"))
    if protocol:
        words += ["proto", protocol]
    source = draw.choice(PREFIXES[family]) if family and draw.random() < 0.85 else "any"
    own = [one for one in NODE if (":" in one) == (family == 6)]
    to = draw.choice((*own, *own, *ELSEWHERE[family])) if family and draw.random() < 0.3 else "any"
    words += ["from", source]
    ported = protocol in {"tcp", "udp"}
    if not application and protocol != "esp" and draw.random() < 0.15:
        words += ["port", draw.choice(("40000:50000", "45000")) if ported else "45000"]
    words += ["to", to]
    if application:
        words += ["app", draw.choice(("Kubelet", "Both Of Them", "Far Away"))]
    elif protocol != "esp" and draw.random() < 0.7:
        one = ("10250", "10250", "22")
        several = ("10250", "10000:11000", "10251:10300", "80,10250", "22,443,10240:10250", "80,443")
        words += ["port", draw.choice(several if ported else one)]
    if draw.random() < 0.15:
        words += ["comment", draw.choice(("nodes", "# 10250/tcp ALLOW IN Anywhere", "(log) of it (v6)"))]
    return words


def _chance(what: str) -> Random:
    return Random(f"{SEED}/{what}")  # noqa: S311 - the same in every run with that seed


def told(text: str) -> list[tuple[int | None, str, str, str, int, str]]:
    """What identifies each rule, with its number."""
    return [
        (rule.number, rule.action, rule.source.address, rule.to.address, rule.family, rule.interface)
        for rule in read_ufw_status(text).rules
    ]


def draw_settings(place: int) -> tuple[str, bool]:
    """The default policy, as /etc/default/ufw has it, and whether it is about IPv6 too."""
    draw = _chance(f"{place}/settings")
    return draw.choices(("DROP", "REJECT", "ACCEPT"), (3, 1, 2))[0], draw.random() < 0.9


def verdicts(text: str, question: UfwQuestion, sources: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Verdict and code of the doubt for each source."""
    found: dict[str, tuple[str, str]] = {}
    for decision in evaluate(read_ufw_status(text), question):
        for source in sources:
            if parse_prefix(source).intervals[0][0] in decision.sources:
                assert source not in found
                found[source] = (decision.verdict, decision.doubt.code if decision.doubt else "")
    assert set(found) == set(sources)
    return found


@pytest.mark.timeout(120 + 10 * SETS)
def test_who_gets_through(ufw: Ufw) -> None:
    """The verdict on `ufw status verbose` is what the kernel does; the other forms never contradict it."""
    sys.stdout.write(f"TUNNELWATCH_UFW_SEED={SEED}\n")
    seen: Counter[tuple[int, str]] = Counter()
    for (policy, ipv6), place in sorted((draw_settings(place), place) for place in range(SETS)):
        draw = _chance(f"{place}")
        rules = [rule(draw, ipv6=ipv6) for _ in range(draw.randint(0, 9))]
        verbose, numbered, plain = ufw.load(rules, policy=policy, ipv6=ipv6)
        by_number = {number: rest for number, *rest in told(numbered)}
        for text in (verbose, plain):
            for number, *rest in told(text):
                assert number is None or by_number[number] == rest, f"rule {number}\n{numbered}\n{text}"
        port = draw.choice((39_999, 40_000, 45_000, 50_000, 50_001))
        for family in (4, 6):
            to = draw.choice([one for one in NODE if (":" in one) == (family == 6)])
            sources = [one for one in SOURCES if (":" in one) == (family == 6)]
            through = ufw.lab.connects(sources, to, source_port=port)
            shown = f"seed {SEED}/{place}, IPV6={ipv6}, to {to} from port {port}\n{verbose}"
            for text, destinations in (
                (verbose, parse_prefix(to)),
                (verbose, None),
                (numbered, parse_prefix(to)),
                (plain, None),
            ):
                question = UfwQuestion(
                    protocol="tcp",
                    sources=parse_prefixes(sources),
                    ports=IntervalSet(((10250, 10250),)),
                    source_ports=IntervalSet(((port, port),)),
                    destinations=destinations,
                )
                found = verdicts(text, question, sources)
                for source, (verdict, doubt) in found.items():
                    if verdict != "unknown":
                        assert through[source] == (verdict == "allowed"), f"{source}: {verdict}\n{shown}"
                    elif text is verbose and destinations is not None:
                        assert doubt in {RATE_LIMITED, "ipv6_unmanaged"}, f"{source}: {doubt}\n{shown}"
                        assert doubt == RATE_LIMITED or through[source] == ipv6, shown
                    if text is verbose and destinations is not None:
                        seen[family, verdict] += 1
    sys.stdout.write(f"{seen}\n")
    if SETS >= 30:
        assert min(seen[family, verdict] for family in (4, 6) for verdict in ("allowed", "denied")) > 10


def test_limit(ufw: Ufw) -> None:
    """LIMIT lets five connections of a source through, and no sixth: so the verdict is unknown."""
    verbose, *_ = ufw.load([["limit", "10250/tcp"]])
    for source, to in (("10.240.0.5", NODE[0]), ("fd00:10:240::5", NODE[2])):
        question = UfwQuestion(
            protocol="tcp", sources=parse_prefix(source), ports=IntervalSet(((10250, 10250),))
        )
        assert verdicts(verbose, question, [source]) == {source: ("unknown", RATE_LIMITED)}
        tried = [ufw.lab.connects([source], to)[source] for _ in range(6)]
        assert tried == [True] * 5 + [False]


def test_inactive(ufw: Ufw) -> None:
    """What is disabled says so, and lets everything through."""
    ufw.load([["deny", "10250/tcp"]])
    assert not any(ufw.lab.connects(SOURCES[:6], NODE[0]).values())
    (status,) = ufw.disable()
    question = UfwQuestion(
        protocol="tcp", sources=parse_prefixes(SOURCES[:6]), ports=IntervalSet(((10250, 10250),))
    )
    assert set(verdicts(status, question, SOURCES[:6]).values()) == {("allowed", "")}
    assert all(ufw.lab.connects(SOURCES[:6], NODE[0]).values())
