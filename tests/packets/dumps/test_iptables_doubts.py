"""Rules of iptables that could be taken for something else: what each comes to, and what stays in doubt."""

import pytest

from packets.addresses import parse_port_range, parse_prefix
from packets.dumps.iptables import read_iptables
from packets.iptables import answer
from packets.netfilter import Question

NOTRACK = "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j CT --notrack\nCOMMIT\n"


def outcome(text: str) -> tuple[str, str]:
    """What becomes of TCP 10250 from one node, and the words about the first rule of filter that matters."""
    question = Question.to_node(
        "tcp", parse_port_range("10250"), sources=parse_prefix("10.240.0.5"), destinations=None
    )
    said = answer(read_iptables(text), question)
    return said.outcome, next((part.why for part in said.rules if "table filter" in part.why), "")


def saved(rule: str, policy: str = "ACCEPT") -> str:
    """One rule of INPUT, as iptables-save prints it."""
    return f"*filter\n:INPUT {policy} [0:0]\n-A INPUT {rule}\nCOMMIT\n"


@pytest.mark.parametrize(
    ("rule", "policy", "outcome_of_it", "why"),
    [
        ("-m eui64 -j DROP", "ACCEPT", "unknown", '"-m eui64"'),
        ("-m nobodys -j ACCEPT", "DROP", "unknown", '"-m nobodys"'),
        ("-m nobodys -m tcp -j ACCEPT", "DROP", "unknown", '"-m nobodys"'),
        ("-m nobodys ! --some thing -j DROP", "ACCEPT", "unknown", '"-m nobodys --some thing"'),
        ("-p tcp -m tcp -j DROP", "ACCEPT", "blocked", ""),
        ("-p tcp -m tcp --dport 99999 -j DROP", "ACCEPT", "unknown", '"99999"'),
        ("-p tcp -m tcp --dport 300:100 -j DROP", "ACCEPT", "unknown", '"300:100"'),
        ("-m conntrack --ctstate NEW,LATER -j DROP", "ACCEPT", "unknown", "later"),
        ('-m string --string "-p" --algo bm -j DROP', "ACCEPT", "unknown", "what the packet holds"),
        ("-m set --match-set -s src -j DROP", "ACCEPT", "unknown", 'ipset "-s"'),
    ],
)
def test_what_is_not_known_does_not_decide(rule: str, policy: str, outcome_of_it: str, why: str) -> None:
    """Modules without options, values that cannot be, names that look like options."""
    found, words = outcome(saved(rule, policy))
    assert found == outcome_of_it
    assert why in words


@pytest.mark.parametrize(
    ("match", "tracked", "untracked"),
    [
        ("--ctdir ORIGINAL", "blocked", "allowed"),
        ("! --ctstatus CONFIRMED", "blocked", "allowed"),
        ("--ctproto 6", "blocked", "allowed"),
        ("--ctorigdstport 10250", "blocked", "allowed"),
        ("! --ctorigdstport 22", "blocked", "allowed"),
        ("--ctstate UNTRACKED", "allowed", "blocked"),
        ("! --ctstate INVALID", "blocked", "blocked"),
        ("--ctstate NEW --ctproto 6", "blocked", "allowed"),
        # Of what is untracked the kernel drops these too.
        ("--ctstate UNTRACKED --ctproto 17", "unknown", "unknown"),
        ("--ctproto 17 --ctstate NEW,UNTRACKED", "unknown", "unknown"),
    ],
)
def test_what_is_not_tracked_has_nothing_but_a_state(match: str, tracked: str, untracked: str) -> None:
    """As the kernel showed, with both back ends."""
    text = saved(f"-m conntrack {match} -j DROP")
    assert (outcome(text)[0], outcome(NOTRACK + text)[0]) == (tracked, untracked)


@pytest.mark.parametrize(
    ("extras", "expected"),
    [
        ("/* x */ tcp dpt:ssh", "allowed"),
        ("/* x */ tcp dpt:ssh */", "blocked"),
        ("/* one comment */ /* or two */", "blocked"),
        ("/* one comment */ tcp dpt:ssh /* or two */", "unknown"),
    ],
)
def test_a_comment_may_hold_what_looks_like_a_match(extras: str, expected: str) -> None:
    """A list does not quote comments: where one ends is known only if there is but one way to read it."""
    head = "Chain INPUT (policy ACCEPT)\npkts bytes target prot opt in out source destination\n"
    assert outcome(f"{head}    0     0 DROP  all  --  any any anywhere anywhere  {extras}\n")[0] == expected


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("-A INPUT -p tcp -m tcp --dpo", "unknown"),
        ("-A INPUT -p tcp -m tcp --dport 102", "unknown"),
        ("-A INPUT -p tcp -m tcp --dport 102\n", "allowed"),
        ("-A INPUT -p tcp -m tcp --dport 102\nCOMMIT\n", "allowed"),
        ("-A INPUT -p tcp -m tcp --dport 102 -j DROP", "allowed"),
    ],
)
def test_a_rule_cut_off_before_its_target(end: str, expected: str) -> None:
    """The rest may have been about the port that is asked about; where a line ends, nothing is missing."""
    assert outcome(f"*filter\n:INPUT ACCEPT [0:0]\n{end}")[0] == expected


def test_a_list_of_rules_may_end_in_one_without_a_target() -> None:
    """`-S` has no last line of its own: a line break tells that the rule is whole."""
    text = "-P INPUT ACCEPT\n-A INPUT -i lo"
    assert (outcome(text)[0], outcome(f"{text}\n")[0]) == ("unknown", "allowed")
