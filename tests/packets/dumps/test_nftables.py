"""What is pasted: listings with other things around them, listings that are cut, and texts that are none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packets.addresses import parse_port_range, parse_prefixes
from packets.answers import Answer
from packets.dumps.nftables import read_nftables
from packets.netfilter import Question
from packets.nftables import answer

LISTED = """table inet filter {
\tset admins {
\t\ttype ipv4_addr
\t\tflags interval
\t\telements = { 10.240.0.4, 10.240.0.6-10.240.0.7,
\t\t\t     10.240.0.32/27 }
\t}

\tchain input {
\t\ttype filter hook input priority filter; policy accept;
\t\tip saddr @admins accept comment "a } b { #"
\t\tip saddr 10.240.0.0/25 tcp dport 10250 counter packets 3 bytes 180 drop
\t}
}
"""
MIXED = ("mixed", ("10.240.0.128/25",))
"""What is allowed by it besides the set's members."""
QUESTION = Question.to_node(
    "tcp",
    parse_port_range("10250"),
    sources=parse_prefixes(["10.240.0.0/24"]),
    destinations=None,
)


def judged(text: str) -> Answer:
    """The answer about TCP 10250 from 10.240.0.0/24."""
    return answer(read_nftables(text), QUESTION)


PASTES = {
    "as it is": LISTED,
    "Windows line ends": LISTED.replace("\n", "\r\n"),
    "a byte order mark": f"\ufeff{LISTED}",
    "spaces for tabs": LISTED.replace("\t", "        "),
    "no indentation": LISTED.replace("\t", ""),
    "prompts": f"root@aks-nodepool1-0:/# nft list ruleset\n{LISTED}root@aks-nodepool1-0:/# \n",
    "run-command": f"Enable succeeded: \n[stdout]\n{LISTED}\n[stderr]\n",
    "a fence": f"```\n{LISTED}```\n",
    "handles": LISTED.replace("filter {", "filter { # handle 2")
    .replace("admins {", "admins { # handle 3")
    .replace("input {", "input { # handle 1")
    .replace(" drop\n", " drop # handle 12\n"),
    "other hooks": LISTED.replace(
        "\tchain input",
        "\tchain forward {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n\n\tchain input",
    ),
    "what does not filter IP": LISTED
    + "table bridge b {\n\tchain i {\n\t\ttype filter hook input priority 0; policy drop;\n\t}\n}\n",
    "a dormant table": LISTED
    + "table ip d {\n\tflags dormant\n\n\tchain i {\n"
    + "\t\ttype filter hook input priority -1; policy drop;\n\t}\n}\n",
}


@pytest.mark.parametrize("text", PASTES.values(), ids=PASTES.keys())
def test_what_stands_around_a_listing_changes_nothing(text: str) -> None:
    """Half of the sources are dropped, but for those in the set."""
    said = judged(text)
    assert (said.outcome, said.unknown) == ("mixed", ())
    assert said.allowed == (*("10.240.0.4/32", "10.240.0.6/31", "10.240.0.32/27", "10.240.0.128/25"),)
    assert "input 2" in {part.name for part in said.rules}


LINES = LISTED.split("\n")
CUT = {
    "before the last brace": ("\n".join(LINES[:-2]), "the listing ends before the ruleset does"),
    "in a rule": (LISTED[: LISTED.index("counter")], "the listing ends before the ruleset does"),
    "in the elements of a set": (LISTED[: LISTED.index("10.240.0.32")], "the listing ends before"),
    "in the middle": ("\n".join(LINES[:4] + LINES[8:]), "not whole"),
    "at the beginning": ("\n".join([*LINES[8:], LISTED]), "the listing begins after the ruleset does"),
    "only a part was asked for": (
        f"# nft list table inet filter\n{LISTED}",
        "`nft list table` does not show",
    ),
    "only heads of chains": (f"# nft list chains\n{LISTED}", "`nft list chains` does not show"),
    "nft failed in the end": (f"{LISTED}Error: Could not process rule: Device or resource busy", "nft said"),
    "a chain is not shown": (
        LISTED.replace("counter packets 3 bytes 180 drop", "jump kube"),
        "kube is not shown",
    ),
    "a set is not shown": (LISTED.replace("@admins", "@others"), "set others is not shown"),
    "members are not shown": (
        "# nft -t list ruleset\n" + "\n".join(LINES[:4] + LINES[6:]),
        "a terse listing does not show the members of set admins",
    ),
}


@pytest.mark.parametrize(("text", "why"), CUT.values(), ids=CUT.keys())
def test_what_is_not_shown_is_unknown(text: str, why: str) -> None:
    """And says so; never allowed for sure."""
    said = judged(text)
    assert said.unknown
    assert why in " ".join(part.why for part in said.rules if part.access != "accept" or "but" in part.why)


UNUSABLE = {
    "nothing": ("", "the text is empty"),
    "blank lines": (" \n\t\n", "the text is empty"),
    "no root": ("Operation not permitted (you must be root)\n", "not run as root (line 1"),
    "no root, newer": (
        "netlink: Error: cache initialization failed: Operation not permitted\n",
        "not run as root (line 1",
    ),
    "no nft": ("/bin/sh: 1: nft: not found\n", "nft is not installed"),
    "no table": ("\n".join(LINES[8:]), "the beginning of the listing is missing"),
    "iptables": ("*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n", 'line 1 is "*filter"'),
    "prose": ("hello\nworld\n", 'line 1 is "hello"'),
    "another JSON": ('{"value": []}', "no ruleset"),
    "JSON that is cut": ('{"nftables": [{"metainfo": {"version"', "it may be cut off"),
    "JSON of nothing": ('{"nftables": []}', "neither metainfo nor tables"),
    "JSON with no list": ('{"nftables": 7}', 'it has no list "nftables"'),
    "JSON of numbers": ('{"nftables": [5]}', "nftables[0] is no object"),
    "JSON that is nested": ('{"nftables": [' + "[" * 200_000, "nested too deeply"),
}


@pytest.mark.parametrize(("text", "why"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_what_is_no_ruleset_is_refused(text: str, why: str) -> None:
    """With what is wrong, in one line."""
    with pytest.raises(ValueError, match=r".") as caught:
        judged(text)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["root@node:/# nft list ruleset\nroot@node:/# ", '{"nftables": [{"metainfo": {"version": "1.0.6"}}]}'],
)
def test_an_empty_ruleset_lets_all_through_and_is_named(text: str) -> None:
    """It was asked for, and there is none."""
    said = judged(text)
    assert said.outcome == "allowed"
    assert [part.why for part in said.rules] == ["the ruleset is empty"]


PRIORITIES = {
    "0": 0,
    "filter": 0,
    "-150": -150,
    "raw": -300,
    "mangle": -150,
    "dstnat": -100,
    "security": 50,
    "srcnat": 100,
    "filter + 10": 10,
    "dstnat - 10": -110,
    "filter - 1": -1,
}


@pytest.mark.parametrize(("written", "priority"), PRIORITIES.items())
def test_priorities(written: str, priority: int) -> None:
    """Names, numbers and sums."""
    base = f"type filter hook prerouting priority {written}; policy drop;"
    text = f"table ip t {{\n\tchain c {{\n\t\t{base}\n\t}}\n}}\n"
    [table] = read_nftables(text).tables
    found = table.chains["c"].base
    assert found is not None
    assert (found.priority, found.hook, found.policy) == (priority, "prerouting", "drop")


def test_handles_are_kept() -> None:
    """From `nft -a`, and from JSON."""
    [table] = read_nftables(PASTES["handles"]).tables
    assert [(rule.handle, "handle" in rule.text) for rule in table.chains["input"].read()] == [
        (None, False),
        (12, False),
    ]
    rule = {"family": "ip", "table": "t", "chain": "c", "handle": 7, "expr": [{"drop": None}]}
    document = [
        {"table": {"family": "ip", "name": "t"}},
        {"chain": {"family": "ip", "table": "t", "name": "c"}},
        {"rule": rule},
    ]
    [table] = read_nftables(json.dumps({"nftables": document})).tables
    assert [(one.handle, one.text) for one in table.chains["c"].read()] == [(7, "drop")]


@given(st.integers(0, len(LISTED) - 1))
def test_no_cut_makes_it_allow_more(length: int) -> None:
    """A listing that ends early is refused, or what it allows the whole one allows."""
    try:
        said = judged(LISTED[:length])
    except ValueError:
        return
    whole = parse_prefixes(judged(LISTED).allowed)
    assert not parse_prefixes(said.allowed) - whole


@given(st.text(max_size=200), st.integers(0, len(LINES) - 1))
def test_whatever_stands_in_it_gives_an_answer_or_a_reason(text: str, line: int) -> None:
    """Anything may be put into a listing: all sources are answered for, or it is refused in one line."""
    lines = [*LINES[:line], text, *LINES[line:]]
    try:
        said = judged("\n".join(lines))
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either is right
        return
    answered = parse_prefixes((*said.allowed, *said.blocked, *said.unknown))
    assert answered == QUESTION.packets.sources


WORDS = r"""
ip ip6 tcp udp th saddr daddr dport sport flags ct state status meta mark iifname iif l4proto fib type local
limit rate over 10/second log prefix queue to dnat redirect reject with counter packets quota numgen random
mod jhash vmap map set add update @admins @others @th,16,16 @nh,8,8 { } ( ) , ; : . - / & | ^ == != < > <=
in ! * 10250 22-80 90-80 0x8000 10.0.0.1 10.0.0.0/8 fd00::/8 10.0.0.9-10.0.0.1 new,established syn "a}b"
accept drop return continue jump goto input comment xt match target # handle 999999999999 -1 notrack
"""
FIELDS = """
match vmap left right op key data payload protocol field meta ct set elem concat range prefix addr len & | val
stmt jump target drop limit base offset fib flags result xt name type
"""


@given(st.lists(st.sampled_from(WORDS.split()), max_size=12))
def test_no_words_of_a_rule_raise(words: list[str]) -> None:
    """Rules that make no sense are in doubt; only a circle of jumps is refused."""
    rule = " ".join(words)
    text = LISTED.replace("ip saddr @admins accept", f"{rule} drop\n\t\tip saddr @admins accept")
    try:
        said = judged(text)
    except ValueError as error:
        assert "circle" in str(error)  # noqa: PT017 - either is right
        return
    answered = parse_prefixes((*said.allowed, *said.blocked, *said.unknown))
    assert answered == QUESTION.packets.sources


VALUES = ("ip", "saddr", "tcp", "@s", "10.0.0.1", "*")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 70_000) | st.sampled_from(VALUES),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS.split()), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=3), JSON)
def test_no_json_of_a_rule_raises(statements: list[object], elements: object) -> None:
    """Nor do statements and members of sets that are none."""
    base = {"type": "filter", "hook": "input", "prio": 0, "policy": "accept"}
    table = {"family": "ip", "table": "t"}
    kinds = ("match", "vmap", "set", "limit", "xt", "jump", "reject", "log", "meter")
    shaped = [{kind: one} for kind, one in zip(kinds, statements, strict=False)]
    document = [
        {"table": {"family": "ip", "name": "t"}},
        {"set": {**table, "name": "s", "type": "ipv4_addr", "elem": elements}},
        {"chain": {**table, "name": "c", **base}},
        *({"rule": {**table, "chain": "c", "expr": found}} for found in (statements, shaped)),
        {"rule": {**table, "chain": "c", "expr": [MATCHES_SET, {"drop": None}]}},
    ]
    said = judged(json.dumps({"nftables": document}))
    assert parse_prefixes((*said.allowed, *said.blocked, *said.unknown)) == QUESTION.packets.sources


MATCHES_SET = {
    "match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@s"}
}
