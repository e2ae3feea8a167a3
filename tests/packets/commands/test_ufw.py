"""`python -m packets ufw`: what an engineer gets who pastes what a node printed."""

import io
import json
import subprocess
import sys
from typing import Any

import pytest

from packets.__main__ import main
from tests.processes import ROOT

ACTIVE = """Status: active
Logging: on (low)
Default: deny (incoming), allow (outgoing), disabled (routed)
New profiles: skip

To                         Action      From
--                         ------      ----
22/tcp                     ALLOW IN    Anywhere
10250/tcp                  ALLOW IN    10.240.0.0/17              # half of the nodes
10.240.0.4 10250/udp       ALLOW IN    10.240.0.0/16
10250/tcp on eth1          ALLOW IN    10.240.0.0/16
22/tcp (v6)                ALLOW IN    Anywhere (v6)

"""
PLAIN = """Status: active

To                         Action      From
--                         ------      ----
22/tcp                     ALLOW       Anywhere
10250/tcp                  LIMIT       10.240.0.0/17
"""
INVOKED = {
    "value": [
        {
            "code": "ProvisioningState/succeeded",
            "displayStatus": "Provisioning succeeded",
            "level": "Info",
            "message": f"Enable succeeded: \n[stdout]\n{ACTIVE}\n[stderr]\n",
            "time": None,
        }
    ]
}


def ask(
    text: str, *options: str, source: str = "10.240.0.0/16", capsys: pytest.CaptureFixture[str]
) -> tuple[int, Any, str]:
    """Exit status, answer and error line for TCP 10250."""
    try:
        status = main(["ufw", "--port", "10250", "--source", source, *options], io.StringIO(text))
    except SystemExit as end:
        status = int(end.code or 0)
    printed = capsys.readouterr()
    return status, json.loads(printed.out) if printed.out else None, printed.err


@pytest.mark.parametrize(
    ("text", "options", "source", "status", "outcome", "lists"),
    [
        ("Status: inactive", (), "10.240.0.0/16", 0, "allowed", (["10.240.0.0/16"], [], [])),
        (ACTIVE, (), "10.240.0.0/17", 0, "allowed", (["10.240.0.0/17"], [], [])),
        (ACTIVE, (), "10.240.0.0/16", 1, "mixed", (["10.240.0.0/17"], ["10.240.128.0/17"], [])),
        (ACTIVE, (), "10.240.128.0/17, fd00::/64", 1, "blocked", ([], ["10.240.128.0/17", "fd00::/64"], [])),
        (ACTIVE, ("--interface", "eth1"), "10.240.0.0/16", 0, "allowed", (["10.240.0.0/16"], [], [])),
        (ACTIVE, ("--protocol", "UDP"), "10.240.0.0/16", 2, "unknown", ([], [], ["10.240.0.0/16"])),
        (
            ACTIVE,
            ("--protocol", "udp", "--destination", "10.240.0.4"),
            "10.240.0.0/16",
            0,
            "allowed",
            (["10.240.0.0/16"], [], []),
        ),
        (
            ACTIVE,
            ("--protocol", "udp", "--destination", "10.240.0.4,10.240.0.5"),
            "10.240.0.0/16",
            1,
            "blocked",
            ([], ["10.240.0.0/16"], []),
        ),
        (PLAIN, (), "10.240.0.0/17", 2, "unknown", ([], [], ["10.240.0.0/17"])),
        (PLAIN, (), "10.240.0.0/16", 2, "unknown", ([], [], ["10.240.0.0/16"])),
        (json.dumps(INVOKED), (), "10.240.0.0/17", 0, "allowed", (["10.240.0.0/17"], [], [])),
        (json.dumps(INVOKED, indent=2), (), "10.241.0.0/17", 1, "blocked", ([], ["10.241.0.0/17"], [])),
    ],
)
def test_answers(
    text: str,
    options: tuple[str, ...],
    source: str,
    status: int,
    outcome: str,
    lists: tuple[list[str], ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Outcome, exit status and the three lists go together."""
    for end in ("\n", "\r\n"):
        found, said, error = ask(text.replace("\n", end), *options, source=source, capsys=capsys)
        assert (found, error) == (status, "")
        assert (said["outcome"], said["allowed"], said["blocked"], said["unknown"]) == (outcome, *lists)


def test_rules(capsys: pytest.CaptureFixture[str]) -> None:
    """Rules are named as they are written, and numbered as UFW deletes them; the policy comes after all."""
    _, said, _ = ask(ACTIVE, capsys=capsys)
    assert said["rules"] == [
        {
            "name": "10250/tcp ALLOW IN 10.240.0.0/17",
            "priority": 2,
            "access": "ALLOW",
            "matched": ["10.240.0.0/17"],
            "why": "first to match: allowed",
        },
        {
            "name": "default (incoming)",
            "priority": 6,
            "access": "DENY",
            "matched": ["10.240.128.0/17"],
            "why": "no rule matches: denied",
        },
    ]
    _, said, _ = ask(PLAIN, capsys=capsys)
    assert [rule["access"] for rule in said["rules"]] == ["LIMIT", "UNKNOWN"]
    assert ["six or more" in said["rules"][0]["why"], "deny, unless" in said["rules"][1]["why"]] == [True] * 2
    _, said, _ = ask("Status: inactive", capsys=capsys)
    assert said["rules"] == []


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("", (), "packets ufw: the text is empty"),
        ("bash: line 1: ufw: command not found\n", (), "ufw is not installed"),
        ("ERROR: You need to be root to run this script\n", (), "not run as root"),
        ("Zustand: Inaktiv\n", (), "LC_ALL=C ufw status verbose"),
        (ACTIVE + PLAIN, (), "one is judged at a time"),
        (ACTIVE.replace("22/tcp (v6)", "22/tcp (v6"), (), "a rule cannot be read"),
        ('{"value": []', (), "is JSON, and not what `az vmss run-command invoke` prints"),
        ('{"value": [{"code": 1}]}', (), "is JSON, and not what"),
        ('{"value": 3}', (), "is JSON, and not what"),
        ('{"value": []}', (), "the text is empty"),
        ('{"value":' * 100_000, (), "is JSON, and not what"),
        (ACTIVE, ("--source", "10.0.0.0/33"), "argument --source: not an address"),
        (ACTIVE, ("--destination", "here"), "argument --destination: not an address"),
        (ACTIVE, ("--destination", "fd00::4"), "no address family in common"),
        (ACTIVE, ("--port", "http"), "argument --port: not a port"),
        (ACTIVE, ("--protocol", "icmp"), "argument --protocol: invalid choice"),
        (ACTIVE, ("--why",), "unrecognized arguments: --why"),
    ],
)
def test_what_cannot_be_used(
    text: str, options: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names what is wrong, and the status for unusable input."""
    status, said, error = ask(text, *options, capsys=capsys)
    assert (status, said) == (64, None)
    assert says in error
    assert error.count("\n") == 1


def test_as_a_program() -> None:
    """The whole way, as an engineer runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "packets", "ufw", "--port", "10250", "--source", "10.240.0.0/16"],
        input=ACTIVE,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["blocked"] == ["10.240.128.0/17"]
