"""`python -m packets nftables`: what an engineer gets who pastes what nft printed."""

import io
import json
import subprocess
import sys
from typing import Any

import pytest

from packets.__main__ import main
from tests.processes import ROOT

TEXT = """table inet filter {
	set nodes {
		type ipv4_addr
		flags interval
		elements = { 10.240.0.0/17 }
	}

	chain input {
		type filter hook input priority filter; policy accept;
		ct state vmap { invalid : drop, established : accept, related : accept }
		iifname "lo" accept
		tcp dport 10250 jump kubelet
	}

	chain kubelet {
		ip saddr @nodes counter packets 12 bytes 720 accept comment "nodes } may {"
		drop
	}
}
"""
JSON = json.dumps(
    {
        "nftables": [
            {"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}},
            {"table": {"family": "ip", "name": "t", "handle": 1}},
            {
                "chain": {
                    "family": "ip",
                    "table": "t",
                    "name": "in",
                    "handle": 1,
                    "type": "filter",
                    "hook": "input",
                    "prio": 0,
                    "policy": "drop",
                }
            },
            {
                "rule": {
                    "family": "ip",
                    "table": "t",
                    "chain": "in",
                    "handle": 4,
                    "expr": [
                        {
                            "match": {
                                "op": "==",
                                "left": {"payload": {"protocol": "ip", "field": "saddr"}},
                                "right": {"prefix": {"addr": "10.240.0.0", "len": 17}},
                            }
                        },
                        {"accept": None},
                    ],
                }
            },
        ]
    }
)
EMPTY = '{"nftables": [{"metainfo": {"version": "1.0.9", "json_schema_version": 1}}]}'
UNKNOWN = TEXT.replace("ip saddr @nodes", "meta mark 0x1")


def ask(
    text: str, *options: str, source: str = "10.240.0.0/16", capsys: pytest.CaptureFixture[str]
) -> tuple[int, Any, str]:
    """Exit status, answer and error line for TCP 10250."""
    try:
        status = main(["nftables", "--port", "10250", "--source", source, *options], io.StringIO(text))
    except SystemExit as end:
        status = int(end.code or 0)
    printed = capsys.readouterr()
    return status, json.loads(printed.out) if printed.out else None, printed.err


@pytest.mark.parametrize(
    ("text", "options", "source", "status", "outcome", "lists"),
    [
        (TEXT, (), "10.240.0.0/17", 0, "allowed", (["10.240.0.0/17"], [], [])),
        (TEXT, (), "10.240.0.0/16", 1, "mixed", (["10.240.0.0/17"], ["10.240.128.0/17"], [])),
        (TEXT, ("--protocol", "udp"), "10.240.0.0/16", 0, "allowed", (["10.240.0.0/16"], [], [])),
        (TEXT, (), "fd00::/64", 1, "blocked", ([], ["fd00::/64"], [])),
        (UNKNOWN, (), "10.240.0.0/16", 2, "unknown", ([], [], ["10.240.0.0/16"])),
        (JSON, (), "10.240.0.0/16", 1, "mixed", (["10.240.0.0/17"], ["10.240.128.0/17"], [])),
        (f"# nft -j list ruleset\n{JSON}\n#", (), "10.240.0.0/17", 0, "allowed", (["10.240.0.0/17"], [], [])),
        # All of it is listed: what no table sees goes through.
        (JSON, (), "fd00::/64", 0, "allowed", (["fd00::/64"], [], [])),
        (EMPTY, (), "10.240.0.0/16", 0, "allowed", (["10.240.0.0/16"], [], [])),
        # The rest may hold anything: only what is blocked is sure.
        (TEXT[:-3], (), "10.240.0.0/16", 1, "mixed", ([], ["10.240.128.0/17"], ["10.240.0.0/17"])),
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
    """A rule is named by its chain and its place there, with table and family in the reason."""
    _, said, _ = ask(TEXT, capsys=capsys)
    assert said["rules"] == [
        {
            "name": "kubelet 1",
            "priority": 1,
            "access": "accept",
            "matched": ["10.240.0.0/17"],
            "why": "table inet filter: ip saddr @nodes counter packets 12 bytes 720 accept "
            'comment "nodes } may {"',
        },
        {
            "name": "kubelet 2",
            "priority": 2,
            "access": "drop",
            "matched": ["10.240.128.0/17"],
            "why": "table inet filter: drop",
        },
    ]
    _, said, _ = ask(EMPTY, capsys=capsys)
    assert [rule["why"] for rule in said["rules"]] == ["the ruleset is empty"]
    _, said, _ = ask("table ip t {\n\tchain c {\n\t\tdrop\n\t}\n}\n", capsys=capsys)
    assert [rule["why"] for rule in said["rules"]] == ["no base chain filters such packets"]


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("", (), "the text is empty: an empty ruleset prints nothing, and so does a command that failed"),
        ("bash: line 1: nft: command not found\n", (), "nft is not installed where this was printed"),
        ("Operation not permitted (you must be root)\n", (), "nft was not run as root"),
        (
            "netlink: Error: cache initialization failed: Operation not permitted\n",
            (),
            "nft was not run as root",
        ),
        ("Chain INPUT (policy ACCEPT)\n", (), 'line 1 is "Chain INPUT (policy ACCEPT)"'),
        (TEXT.partition("\n")[2], (), "the beginning of the listing is missing: no table is named"),
        (JSON[:-40], (), "the JSON of nft cannot be read, it may be cut off"),
        ('{"nftables": {}}', (), 'it has no list "nftables"'),
        ('{"nftables": []}', (), "neither metainfo nor tables"),
        ('{"nftables": [3]}', (), "nftables[0] is no object with one key"),
        ('{"nftables": [{"table": {"family": "ip"}}]}', (), "nftables[0].table.name is no string"),
        ('{"nftables": ' + "[" * 100_000, (), "the JSON is nested too deeply"),
        (
            TEXT.replace("drop\n\t}\n}", "goto kubelet\n\t}\n}"),
            (),
            "chain kubelet is part of a circle of jumps",
        ),
        (TEXT, ("--source", "10.0.0.0/33"), "argument --source: not an address"),
        (TEXT, ("--port", "http"), "argument --port: not a port"),
        (TEXT, ("--protocol", "icmp"), "argument --protocol: invalid choice"),
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
        [sys.executable, "-m", "packets", "nftables", "--port", "10250", "--source", "10.240.0.0/16"],
        input=TEXT,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["blocked"] == ["10.240.128.0/17"]
