"""What ufw status prints, read: tables of lines that ufw 0.36 printed, and of what stands around them."""

import gettext
import re
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from packets.dumps.ufw import read_ufw_status
from packets.ufw import Policy, Side, UfwRule, UfwStatus

HEAD = "Status: active\n"
POLICIES = """Logging: on (low)
Default: deny (incoming), allow (outgoing), disabled (routed)
New profiles: skip
"""
TITLES = """
To                         Action      From
--                         ------      ----
"""
VERBOSE = f"{HEAD}{POLICIES}{TITLES}"
PLAIN = f"{HEAD}{TITLES}"
NUMBERED = f"""{HEAD}
     To                         Action      From
     --                         ------      ----
"""


def read(lines: str, head: str = VERBOSE) -> tuple[UfwRule, ...]:
    """The rules that some lines of a table make."""
    return read_ufw_status(f"{head}{lines}\n\n").rules


# --- single lines --------------------------------------------------------------------------------

LINES = {
    "22                         ALLOW IN    Anywhere": UfwRule(
        written="22 ALLOW IN Anywhere", place=1, action="ALLOW", to=Side(ports="22")
    ),
    "10000:11000/tcp            ALLOW IN    Anywhere": UfwRule(
        written="10000:11000/tcp ALLOW IN Anywhere",
        place=1,
        action="ALLOW",
        protocol="tcp",
        to=Side(ports="10000:11000"),
    ),
    "80,443/tcp                 DENY IN     Anywhere": UfwRule(
        written="80,443/tcp DENY IN Anywhere",
        place=1,
        action="DENY",
        protocol="tcp",
        to=Side(ports="80,443"),
    ),
    "Anywhere                   REJECT IN   10.1.0.0/16": UfwRule(
        written="Anywhere REJECT IN 10.1.0.0/16", place=1, action="REJECT", source=Side("10.1.0.0/16")
    ),
    "10.240.0.4 10250/tcp       ALLOW IN    10.3.4.5 999/tcp": UfwRule(
        written="10.240.0.4 10250/tcp ALLOW IN 10.3.4.5 999/tcp",
        place=1,
        action="ALLOW",
        protocol="tcp",
        source=Side("10.3.4.5", "999"),
        to=Side("10.240.0.4", "10250"),
    ),
    "Anywhere                   ALLOW IN    10.4.0.0/16/tcp": UfwRule(
        written="Anywhere ALLOW IN 10.4.0.0/16/tcp",
        place=1,
        action="ALLOW",
        protocol="tcp",
        source=Side("10.4.0.0/16"),
    ),
    "Anywhere/tcp               ALLOW IN    Anywhere/tcp": UfwRule(
        written="Anywhere/tcp ALLOW IN Anywhere/tcp", place=1, action="ALLOW", protocol="tcp"
    ),
    "Anywhere                   ALLOW IN    53/udp": UfwRule(
        written="Anywhere ALLOW IN 53/udp", place=1, action="ALLOW", protocol="udp", source=Side(ports="53")
    ),
    "10.240.0.4/tcp             ALLOW IN    Anywhere": UfwRule(
        written="10.240.0.4/tcp ALLOW IN Anywhere",
        place=1,
        action="ALLOW",
        protocol="tcp",
        to=Side("10.240.0.4"),
    ),
    "Anywhere                   ALLOW IN    10.9.0.0/16/esp": UfwRule(
        written="Anywhere ALLOW IN 10.9.0.0/16/esp",
        place=1,
        action="ALLOW",
        protocol="esp",
        source=Side("10.9.0.0/16"),
    ),
    "Anywhere on eth0           ALLOW IN    Anywhere": UfwRule(
        written="Anywhere on eth0 ALLOW IN Anywhere", place=1, action="ALLOW", interface="eth0"
    ),
    "10.240.0.4 10250/tcp on eth0 ALLOW IN    10.5.0.0/16": UfwRule(
        written="10.240.0.4 10250/tcp on eth0 ALLOW IN 10.5.0.0/16",
        place=1,
        action="ALLOW",
        protocol="tcp",
        source=Side("10.5.0.0/16"),
        to=Side("10.240.0.4", "10250"),
        interface="eth0",
    ),
    "Anywhere on eth+           DENY IN     10.77.0.0/16": UfwRule(
        written="Anywhere on eth+ DENY IN 10.77.0.0/16",
        place=1,
        action="DENY",
        source=Side("10.77.0.0/16"),
        interface="eth+",
    ),
    "Anywhere                   DENY IN     10.6.0.0/16                (log)": UfwRule(
        written="Anywhere DENY IN 10.6.0.0/16", place=1, action="DENY", source=Side("10.6.0.0/16")
    ),
    "Anywhere                   DENY IN     10.7.0.0/16 (log-all) # # odd (log) ALLOW IN Anywhere": UfwRule(
        written="Anywhere DENY IN 10.7.0.0/16",
        place=1,
        action="DENY",
        source=Side("10.7.0.0/16"),
        comment="# odd (log) ALLOW IN Anywhere",
    ),
    "22/tcp                     LIMIT IN    Anywhere                   # (v6) on eth0": UfwRule(
        written="22/tcp LIMIT IN Anywhere",
        place=1,
        action="LIMIT",
        protocol="tcp",
        to=Side(ports="22"),
        comment="(v6) on eth0",
    ),
    "53 (DNS)                   ALLOW IN    Anywhere": UfwRule(
        written="53 (DNS) ALLOW IN Anywhere", place=1, action="ALLOW", to=Side("", "53", "DNS")
    ),
    "88,749/tcp (Kerberos Full) on eth0 ALLOW IN    Anywhere": UfwRule(
        written="88,749/tcp (Kerberos Full) on eth0 ALLOW IN Anywhere",
        place=1,
        action="ALLOW",
        protocol="tcp",
        to=Side("", "88,749", "Kerberos Full"),
        interface="eth0",
    ),
    "10.240.0.4                 ALLOW IN    10.10.0.0/16 53 (DNS)": UfwRule(
        written="10.240.0.4 ALLOW IN 10.10.0.0/16 53 (DNS)",
        place=1,
        action="ALLOW",
        source=Side("10.10.0.0/16", "53", "DNS"),
        to=Side("10.240.0.4"),
    ),
    "Anywhere                   ALLOW IN    10.0.0.0/255.0.255.0": UfwRule(
        written="Anywhere ALLOW IN 10.0.0.0/255.0.255.0",
        place=1,
        action="ALLOW",
        source=Side("10.0.0.0/255.0.255.0"),
    ),
    "Anywhere/tcp (v6)          ALLOW IN    Anywhere/tcp (v6)": UfwRule(
        written="Anywhere/tcp (v6) ALLOW IN Anywhere/tcp (v6)",
        place=1,
        action="ALLOW",
        family=6,
        protocol="tcp",
    ),
    "10250/tcp (v6) on eth0     ALLOW IN    Anywhere (v6)": UfwRule(
        written="10250/tcp (v6) on eth0 ALLOW IN Anywhere (v6)",
        place=1,
        action="ALLOW",
        family=6,
        protocol="tcp",
        to=Side(ports="10250"),
        interface="eth0",
    ),
    "464/udp (Kerberos Full (v6)) on eth0 ALLOW IN    Anywhere (v6)": UfwRule(
        written="464/udp (Kerberos Full (v6)) on eth0 ALLOW IN Anywhere (v6)",
        place=1,
        action="ALLOW",
        family=6,
        protocol="udp",
        to=Side("", "464", "Kerberos Full"),
        interface="eth0",
    ),
    # Without a mark: only the address tells that the rule is one of IPv6.
    "10250/tcp                  LIMIT IN    fd00::/64": UfwRule(
        written="10250/tcp LIMIT IN fd00::/64",
        place=1,
        action="LIMIT",
        family=6,
        protocol="tcp",
        source=Side("fd00::/64"),
        to=Side(ports="10250"),
    ),
    "fd00:10:240::4             ALLOW IN    fd02::1": UfwRule(
        written="fd00:10:240::4 ALLOW IN fd02::1",
        place=1,
        action="ALLOW",
        family=6,
        source=Side("fd02::1"),
        to=Side("fd00:10:240::4"),
    ),
    "Anywhere (v6) on eth0      DENY OUT    Anywhere (v6)": UfwRule(
        written="Anywhere (v6) on eth0 DENY OUT Anywhere (v6)",
        place=1,
        action="DENY",
        direction="out",
        family=6,
    ),
    "53                         ALLOW OUT   Anywhere on eth0": UfwRule(
        written="53 ALLOW OUT Anywhere on eth0",
        place=1,
        action="ALLOW",
        direction="out",
        to=Side(ports="53"),
    ),
    "10.8.0.0/16 80/tcp on eth1 ALLOW FWD   Anywhere on eth0": UfwRule(
        written="10.8.0.0/16 80/tcp on eth1 ALLOW FWD Anywhere on eth0",
        place=1,
        action="ALLOW",
        direction="routed",
        protocol="tcp",
        to=Side("10.8.0.0/16", "80"),
        interface="eth0",
    ),
}


@pytest.mark.parametrize(("line", "rule"), LINES.items())
def test_lines(line: str, rule: UfwRule) -> None:
    """A line of the table becomes this rule; spaces may be folded, and Windows may end lines."""
    number = 1 if rule.direction == "in" else None
    expected = structs.replace(rule, number=number)
    assert read(line) == (expected,)
    assert read(" ".join(line.split())) == (expected,)
    assert read_ufw_status(f"{VERBOSE}{line}\n".replace("\n", "\r\n")).rules == (expected,)


@pytest.mark.parametrize(
    ("line", "side"),
    [
        ("DNS                        ALLOW       Anywhere", Side(profile="DNS")),
        ("Kerberos Full on eth0      ALLOW       Anywhere", Side(profile="Kerberos Full")),
        ("10.240.0.4 DNS             ALLOW       10.10.0.0/16", Side("10.240.0.4", profile="DNS")),
        ("Kerberos Full (v6) on eth0 ALLOW       Anywhere (v6)", Side(profile="Kerberos Full")),
        ("3CX Phone_System-2.0       ALLOW       Anywhere", Side(profile="3CX Phone_System-2.0")),
    ],
)
def test_profiles(line: str, side: Side) -> None:
    """Outside verbose an application profile hides its ports; IN goes without saying in the plain form."""
    (rule,) = read(line, PLAIN)
    assert rule.to == side
    assert rule.direction == "in"
    assert rule.family == (6 if "(v6)" in line else 4)
    assert rule.interface == ("eth0" if "eth0" in line else "")


# --- numbers -------------------------------------------------------------------------------------

MIXED = """[ 1] 22/tcp                     ALLOW IN    Anywhere
[ 2] 53                         ALLOW OUT   Anywhere                   (out)
[ 3] 10.8.0.0/16 80/tcp on eth1 ALLOW FWD   Anywhere on eth0           (log)
[ 4] Kerberos Full              ALLOW IN    Anywhere
[ 5] 10.0.0.0/8 53              DENY OUT    Anywhere                   (log, out)
[ 6] 10250/tcp                  DENY IN     Anywhere                   # that is it"""


def test_numbered() -> None:
    """Numbers are UFW's own, and rules about outgoing traffic keep their places."""
    rules = read(MIXED, NUMBERED)
    assert [rule.number for rule in rules] == [1, 2, 3, 4, 5, 6]
    assert [rule.direction for rule in rules] == ["in", "out", "routed", "in", "out", "in"]
    assert rules[5].comment == "that is it"


def test_numbers_are_told_only_where_they_are_sure() -> None:
    """A profile of several ports is one rule; where outgoing rules come last, places tell nothing."""
    own = """22/tcp                     ALLOW IN    Anywhere
88,749/tcp (Kerberos Full) ALLOW IN    Anywhere
464/udp (Kerberos Full)    ALLOW IN    Anywhere
10250/tcp                  DENY IN     Anywhere"""
    assert [rule.number for rule in read(own)] == [1, 2, 2, 3]
    assert [rule.place for rule in read(own)] == [1, 2, 3, 4]
    other = f"{own}\n\n53                         ALLOW OUT   Anywhere"
    assert [rule.number for rule in read(other)] == [None] * 5


def test_a_missing_number_is_a_missing_line() -> None:
    """Rules that are not numbered one after the other are not all."""
    lines = MIXED.splitlines()
    for lost in range(5):
        with pytest.raises(ValueError, match="lines are missing"):
            read("\n".join(lines[:lost] + lines[lost + 1 :]), NUMBERED)


# --- the whole -----------------------------------------------------------------------------------

RULE = "10250/tcp                  ALLOW IN    10.240.0.0/16              # nodes\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("$ sudo ufw status verbose\n", "$ "),
        (
            "azureuser@aks-nodepool1-vmss000000:~$ sudo ufw status verbose\n",
            "\nazureuser@aks-vmss000000:~$ exit",
        ),
        ("root@aks-nodepool1-vmss000000:/# ufw status verbose\n", "root@aks-nodepool1-vmss000000:/#"),
        ("[root@node ~]# ufw status verbose\n", "[root@node ~]# echo ALLOW IN that\n"),
        ("(base) me@node:~$ ufw status verbose\n", "(base) me@node:~$ "),
        ("PS C:\\> az vmss run-command invoke …\nEnable succeeded: \n[stdout]\n", "\n[stderr]\n"),
        ("Enable succeeded: \n[stdout]\n", "[stderr]\nWARN: / is group writable!\n"),
        ("```\n", "```\n"),
        ("\ufeff", "\n\n\n"),
        (
            "WARN: uid is 0 but '/etc' is owned by 1000\n",
            "\nThat is all there is.\nIt goes on, mostly ALLOW.\n",
        ),
    ],
)
def test_what_stands_around(before: str, after: str) -> None:
    """Prompts, commands and the blocks of run-command are no part of it."""
    for end in ("\n", "\r\n"):
        status = read_ufw_status(f"{before}{VERBOSE}{RULE}{after}".replace("\n", end))
        assert status.active
        assert status.incoming == "deny"
        assert [rule.written for rule in status.rules] == ["10250/tcp ALLOW IN 10.240.0.0/16"]
        inactive = read_ufw_status(f"{before}Status: inactive\n{after}".replace("\n", end))
        assert inactive == UfwStatus(active=False)


@pytest.mark.parametrize(
    ("text", "incoming"),
    [
        (f"{HEAD}{POLICIES}", "deny"),
        (f"{HEAD}Default: reject (incoming), allow (outgoing), deny (routed)", "reject"),
        (f"{HEAD}Default: allow (incoming), deny (outgoing), allow (routed)", "allow"),
        # Before routed traffic had a policy.
        (f"{HEAD}Default: allow (incoming), allow (outgoing)\nNew profiles: skip", "allow"),
        (HEAD, None),
        (f"{HEAD}Default: odd (incoming), allow (outgoing), disabled (routed)", None),
        # The beginning may be lost: 4,096 characters are all that run-command gives. Then so may the policy.
        (f"d{TITLES}{RULE}", None),
        (f"--                         ------      ----\n{RULE}", None),
        (f"ilt: x\n{POLICIES}{TITLES}{RULE}", "deny"),
    ],
)
def test_policies(text: str, incoming: str | None) -> None:
    """The default policy for incoming traffic, if it is shown."""
    status = read_ufw_status(text)
    assert status.active
    assert status.incoming == incoming
    assert len(status.rules) == text.count("ALLOW IN")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the text is empty"),
        ("\n \r\n", "the text is empty"),
        ("bash: ufw: command not found", "ufw is not installed where this comes from: bash: ufw: command"),
        ("/var/lib/waagent/script.sh: 1: ufw: not found\n", "ufw is not installed"),
        ("zsh: command not found: ufw", "ufw is not installed"),
        ("Enable succeeded: \n[stdout]\n\n[stderr]\n/bin/sh: 1: ufw: not found\n", "ufw is not installed"),
        ("ERROR: You need to be root to run this script", "not run as root"),
        (
            "$ ufw status\nERROR: problem running iptables: denied\n",
            "ufw status failed: ERROR: problem running",
        ),
        ("Enable succeeded: \n[stdout]\n\n[stderr]\n", 'neither "Status: active" nor'),
        ("État\xa0: inactif", 'neither "Status: active" nor'),
        ("Status: aktiv", "LC_ALL=C ufw status verbose"),
        ("Status: inaktiv", "LC_ALL=C ufw status verbose"),
        ("Durum: etkin değil", 'neither "Status: active" nor'),
        ("Active: active (exited) since Wed 2026-11-25", 'neither "Status: active" nor'),
        ("Status: activeX", 'neither "Status: active" nor'),
        (RULE, "the beginning is cut off, so rules may be missing before '10250/tcp"),
        (f"{HEAD}{RULE}", "the headings of the table are cut off"),
        (f"{HEAD}{POLICIES}{RULE}", "the headings of the table are cut off"),
        (f"{VERBOSE}", "cut off after its headings"),
        (f"{VERBOSE}{RULE}{PLAIN}{RULE}", "prints 2 times"),
        ("Status: inactive\nStatus: active\n", "prints 2 times"),
        (f"Status: inactive\n{TITLES}{RULE}", "one of both is false"),
        (f"Status: inactive\n{POLICIES}", "one of both is false"),
        (f"{TITLES}{RULE}{HEAD}", "stand before the status"),
        (f"{VERBOSE}{RULE}10250/tcp     DROP IN     Anywhere\n", "no rule: '10250/tcp     DROP IN"),
        (f"{VERBOSE}10250/tcp\n{RULE}", "no rule: '10250/tcp'"),
        (f"{VERBOSE}{RULE}\n10250/tcp\n{RULE}", "a line between rules is none: '10250/tcp'"),
        (f"{VERBOSE}10250/tcp   DENY IN   10.0.0.0/33\n", "not an address, CIDR or range"),
        (f"{VERBOSE}10250/tcp   DENY IN   fd00::/129\n", "not an address, CIDR or range"),
        (f"{VERBOSE}70000/tcp   DENY IN   Anywhere\n", "not a port"),
        (f"{VERBOSE}300:200/tcp   DENY IN   Anywhere\n", "not a port"),
        (f"{VERBOSE}10250/tcp   DENY IN   53/udp\n", "contradict each other"),
        (f"{VERBOSE}10.0.0.4   DENY IN   fd00::1\n", "contradict each other"),
        (f"{VERBOSE}Anywhere (v6)   DENY IN   10.0.0.1\n", "contradict each other"),
        (f"{VERBOSE}Anywhere   DENY IN   Anywhere on eth0\n", "contradict each other"),
        (f"{VERBOSE}!10250   DENY IN   Anywhere\n", "neither a port nor the name of an application profile"),
        (f"{VERBOSE}10.0.0.4 80 443   DENY IN   Anywhere (x) y\n", "neither a port nor"),
    ],
)
def test_what_cannot_be_used(text: str, says: str) -> None:
    """A text that holds no status, or not all of one, says so; it is never taken for an open firewall."""
    with pytest.raises(ValueError, match=rf"\A.*{re.escape(says)}.*\Z"):
        read_ufw_status(text)


# --- laws ----------------------------------------------------------------------------------------

CATALOGUES = sorted(Path("/usr/share/ufw/messages").glob("*.mo"))


@pytest.mark.skipif(not CATALOGUES, reason="ufw's translations are not installed")
@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.stem)
def test_translations(path: Path) -> None:
    """With a table or policies it is understood in any language; alone, a status is understood or refused."""
    with path.open("rb") as file:
        say = gettext.GNUTranslations(file).gettext
    titles = [say(word) for word in ("To", "Action", "From")]
    row = "%-26s %-12s%s\n"
    table = f"\n\n{row % tuple(titles)}{row % tuple('-' * len(title) for title in titles)}{RULE}"
    words = {"in": "reject", "out": "allow", "routed": "disabled"}
    policies = say("Default: %(in)s (incoming), %(out)s (outgoing), %(routed)s (routed)") % words
    parts = {"log": f"{say('Logging: ')}on (low)", "pol": policies, "app": f"{say('New profiles:')} skip"}
    verbose = say("Status: active\n%(log)s\n%(pol)s\n%(app)s%(status)s")
    (rule,) = read(RULE)
    known: tuple[tuple[str, Policy | None, tuple[UfwRule, ...]], ...] = (
        (verbose % (parts | {"status": table}), "reject", (rule,)),
        (verbose % (parts | {"status": ""}), "reject", ()),
        (say("Status: active%s") % table, None, (rule,)),
    )
    for text, incoming, rules in known:
        assert read_ufw_status(text) == UfwStatus(active=True, incoming=incoming, rules=rules)
    for text, active in ((say("Status: active%s") % "", True), (say("Status: inactive"), False)):
        if text in {"Status: active", "Status: inactive"}:
            assert read_ufw_status(text).active == active
        else:
            with pytest.raises(ValueError, match="LC_ALL=C"):
                read_ufw_status(text)


COMMENTS = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), max_size=40)


@given(COMMENTS.map(lambda text: " ".join(text.split())))
def test_comments_may_hold_anything(comment: str) -> None:
    """A comment changes nothing about its rule, and is kept."""
    plain = "10250/tcp on eth0          DENY IN     10.240.0.0/16"
    for mark in ("", " (log)"):
        (rule,) = read(f"{plain}             {mark} # {comment}x")
        assert rule.comment == f"{comment}x"
        (bare,) = read(plain)
        assert rule.written == bare.written
        assert (rule.source, rule.to, rule.interface, rule.action) == (
            bare.source,
            bare.to,
            bare.interface,
            bare.action,
        )


PIECES = (
    *("\n", "\r", " ", "  ", "#", "(", ")", "/", "[ 1]", "0", "10.0.0.4", "/8", ":", "fd00::", "x"),
    *("Status: active", "Status: inactive", "--", "Default: deny (x), deny (x)", "Anywhere", "(v6)", "(log)"),
    *("ALLOW", "DENY", "LIMIT", "IN", "OUT", "FWD", "on eth0", "10250/tcp", "22", "OpenSSH", RULE, TITLES),
)


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_whatever_comes_is_read_or_refused(text: str) -> None:
    """Nothing but `ValueError` comes out, whatever goes in, and only what says so is inactive."""
    for whole in (text, f"{VERBOSE}{text}", f"{HEAD}{text}"):
        try:
            status = read_ufw_status(whole)
        except ValueError:
            continue
        assert status.active or "Status: inactive" in whole


@pytest.mark.parametrize(
    ("to", "source"),
    [
        *product(
            ("10250/tcp", "10.240.0.4 10250/tcp on eth0", "Anywhere (v6)"),
            ("Anywhere", "10.1.0.0/16", "fd00::/8"),
        )
    ],
)
def test_columns_are_read_apart(to: str, source: str) -> None:
    """A family that contradicts the other column's is refused, and every other pair is read."""
    four, six = "10.240" in to or "10.1" in source, "v6" in to or "fd00" in source
    line = f"{to:<26} ALLOW IN    {source}"
    if four and six:
        with pytest.raises(ValueError, match="contradict"):
            read(line)
    else:
        (rule,) = read(line)
        assert rule.family == (6 if six else 4)
