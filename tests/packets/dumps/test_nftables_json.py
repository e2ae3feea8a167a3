"""What `nft -j list ruleset` prints: read as the text is, older forms of it too, and what is none."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packets.addresses import parse_port_range, parse_prefixes
from packets.dumps.nftables import read_nftables
from packets.dumps.nftables_print import rule_text
from packets.netfilter import Question
from packets.nftables import answer, handle_of
from packets.nftables import evaluate as evaluated

NODES = "10.240.0.0/24"
META = {"metainfo": {"version": "1.0.9", "release_name": "Old Doc Yak #3", "json_schema_version": 1}}
SADDR = {"payload": {"protocol": "ip", "field": "saddr"}}
DPORT = {"payload": {"protocol": "tcp", "field": "dport"}}
FLAGS = {"payload": {"protocol": "tcp", "field": "flags"}}
STATE = {"ct": {"key": "state"}}
MARK = {"meta": {"key": "mark"}}
DROP = {"drop": None}


def match(left: Any, right: Any, op: str = "==") -> dict[str, Any]:
    """A match."""
    return {"match": {"op": op, "left": left, "right": right}}


def document(*statements: Any, more: tuple[Any, ...] = (), base: dict[str, Any] | None = None) -> str:
    """A ruleset with a chain of one rule."""
    own = {"family": "inet", "table": "t"}
    hooked = {"type": "filter", "hook": "input", "prio": 0, "policy": "accept"} if base is None else base
    return json.dumps(
        {
            "nftables": [
                META,
                {"table": {"family": "inet", "name": "t", "handle": 1}},
                {"chain": {**own, "name": "in", "handle": 1, **hooked}},
                *more,
                {"rule": {**own, "chain": "in", "handle": 9, "comment": "no kubelet", "expr": [*statements]}},
            ]
        }
    )


def a_set(kind: str = "set", **said: Any) -> dict[str, Any]:
    """A named set or map."""
    return {kind: {"family": "inet", "table": "t", "name": "s", "type": "ipv4_addr", "handle": 3, **said}}


def outcome(text: str) -> str:
    """What becomes of TCP 10250 of a node."""
    question = Question.to_node(
        "tcp",
        parse_port_range("10250"),
        sources=parse_prefixes([NODES]),
        destinations=parse_prefixes(["10.240.0.4"]),
    )
    return answer(read_nftables(text), question).outcome


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ((DROP,), "blocked"),
        ((match(DPORT, 10250), DROP), "blocked"),
        ((match(DPORT, {"range": [10000, 10300]}), DROP), "blocked"),
        ((match(DPORT, {"set": [22, {"range": [80, 90]}]}), DROP), "allowed"),
        ((match(DPORT, {"set": [22, {"range": [80, 90]}]}, "!="), DROP), "blocked"),
        ((match(DPORT, {"set": 10250}), DROP), "blocked"),
        ((match(DPORT, 10250, ">"), DROP), "allowed"),
        ((match({"&": [DPORT, 0xFF00]}, 10240), DROP), "blocked"),
        ((match(SADDR, {"prefix": {"addr": "10.240.0.0", "len": 16}}), DROP), "blocked"),
        ((match(SADDR, {"range": ["10.240.0.0", "10.240.0.127"]}), DROP), "mixed"),
        ((match({"&": [SADDR, "255.0.255.0"]}, "10.0.0.0"), DROP), "blocked"),
        (
            (match({"concat": [SADDR, DPORT]}, {"set": [{"concat": ["10.240.0.7", 10250]}]}), DROP),
            "mixed",
        ),
        # Flags: a list, bits, and `in` as older versions write it for sets too.
        ((match(STATE, ["established", "new"], "in"), DROP), "blocked"),
        ((match(STATE, "established", "in"), DROP), "allowed"),
        ((match(STATE, {"set": ["established", "new"]}, "in"), DROP), "blocked"),
        ((match(STATE, ["established", "new"], "!"), DROP), "allowed"),
        ((match(FLAGS, "syn", "in"), DROP), "blocked"),
        ((match({"&": [FLAGS, {"|": ["syn", "ack"]}]}, "syn"), DROP), "blocked"),
        ((match({"&": [FLAGS, ["syn", {"|": ["rst", "ack"]}]]}, ["syn", "ack"]), DROP), "allowed"),
        ((match({"payload": {"base": "th", "offset": 16, "len": 16}}, 10250), DROP), "blocked"),
        ((match({"fib": {"result": "type", "flags": "daddr"}}, "local"), DROP), "blocked"),
        ((match({"meta": {"key": "iifname"}}, "eth*"), DROP), "blocked"),
        ((match({"exthdr": {"name": "frag"}}, False), DROP), "allowed"),
        (({"vmap": {"key": DPORT, "data": {"set": [[22, {"accept": None}], [10250, DROP]]}}},), "blocked"),
        (
            (
                {
                    "vmap": {
                        "key": DPORT,
                        "data": {"set": [[{"elem": {"val": 10250, "comment": "x"}}, DROP], ["*", DROP]]},
                    }
                },
            ),
            "blocked",
        ),
        # What goes on.
        (({"counter": {"packets": 1, "bytes": 60}}, {"log": None}, DROP), "blocked"),
        (({"mangle": {"key": MARK, "value": {"|": [MARK, 16]}}}, DROP), "blocked"),
        (({"xt": {"type": "match", "name": "comment"}}, DROP), "blocked"),
        (({"xt": {"type": "target", "name": "LOG"}}, DROP), "blocked"),
        # What nobody knows.
        ((match(MARK, 1), DROP), "unknown"),
        ((match({"&": [MARK, 0x8000]}, 0x8000), DROP), "unknown"),
        (({"limit": {"rate": 10, "per": "second", "burst": 5}}, DROP), "unknown"),
        (({"limit": "named"}, DROP), "unknown"),
        (({"xt": None}, DROP), "unknown"),
        (({"xt": None},), "unknown"),
        (({"xt": {"type": "match", "name": "set"}}, DROP), "unknown"),
        (({"queue": {"num": 1}},), "unknown"),
        (({"novelty": {"a": 1}}, DROP), "unknown"),
        (({"novelty": {"a": 1}},), "unknown"),
        ((match({"novelty": {"a": 1}}, 1), DROP), "unknown"),
        ((match({"meta": {"key": "novelty"}}, {"set": [{"novelty": 1}]}), DROP), "unknown"),
        ((match(SADDR, {"novelty": 1}), DROP), "unknown"),
        ((match(DPORT, 10250, "<=>"), DROP), "unknown"),
        ((match({"|": [DPORT, 1]}, 10251), DROP), "unknown"),
        ((match(DPORT, {"^": [1, 2]}), DROP), "unknown"),
        (("drop",), "unknown"),
        (({"match": None}, DROP), "unknown"),
        (({"vmap": None}, DROP), "unknown"),
        (({"jump": {"target": "lost"}},), "unknown"),
    ],
)  # fmt: skip
def test_rules(statements: tuple[Any, ...], expected: str) -> None:
    """Statements and expressions as libnftables-json(5) has them, and what is not in there."""
    assert outcome(document(*statements)) == expected


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (a_set(elem=["10.240.0.7", {"prefix": {"addr": "10.240.0.128", "len": 25}}]), "mixed"),
        (
            a_set(elem=[{"elem": {"val": {"range": ["10.0.0.0", "10.255.255.255"]}, "comment": "x"}}]),
            "blocked",
        ),
        (a_set(), "allowed"),
        (a_set(flags=["timeout"], elem=["10.240.0.7"]), "unknown"),
        (a_set(flags="dynamic"), "unknown"),
        # Somebody adds to it, whatever its flags are: nft 1.0.6 leaves out that it is dynamic.
        (
            {
                "rule": {
                    "family": "inet",
                    "table": "t",
                    "chain": "in",
                    "expr": [{"set": {"op": "add", "elem": SADDR, "set": "@s"}}],
                }
            },
            "unknown",
        ),
    ],
)
def test_sets(named: dict[str, Any], expected: str) -> None:
    """Named sets, and those whose members come and go."""
    more = (named,) if "set" in named else (a_set(elem=["10.240.0.7"]), named)
    assert outcome(document(match(SADDR, "@s"), DROP, more=more)) == expected


def test_a_map_and_its_elements_apart() -> None:
    """Some listings give the elements as objects of their own."""
    verdict_map = a_set("map", map="verdict", elem=[["10.240.0.7", DROP]])
    element = {"element": {"family": "inet", "table": "t", "name": "s", "elem": [["10.240.0.8", DROP]]}}
    text = document({"vmap": {"key": SADDR, "data": "@s"}}, more=(verdict_map, element))
    question = Question.to_node(
        "tcp", parse_port_range("10250"), sources=parse_prefixes([NODES]), destinations=None
    )
    ruleset = read_nftables(text)
    assert answer(ruleset, question).blocked == ("10.240.0.7/32", "10.240.0.8/32")
    [denied] = [one.rule for one in evaluated(ruleset, question) if one.verdict == "denied"]
    assert (denied.chain, denied.number, denied.text) == ("in", 1, 'ip saddr vmap @s comment "no kubelet"')
    assert handle_of(ruleset, denied) == 9


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "blocked"),
        ({"hook": "forward"}, "allowed"),
        ({"type": "filter", "hook": "ingress", "dev": "eth0", "prio": -500}, "blocked"),
        ({"type": "filter", "hook": "ingress", "dev": ["lo", "eth1"], "prio": -500}, "allowed"),
        ({"type": "filter", "hook": "ingress", "prio": -500}, "unknown"),
        ({"hook": "prerouting", "prio": "raw"}, "blocked"),
    ],
)
def test_base_chains(change: dict[str, Any], expected: str) -> None:
    """Hooks, and the devices of ingress, which nft 1.0.6 leaves out."""
    base = {"type": "filter", "hook": "input", "prio": 0, "policy": "accept", **change}
    assert outcome(document(DROP, base=base)) == expected


def test_a_table_that_is_switched_off() -> None:
    """Its flag is `dormant`, and nft 1.0.6 writes `dorm`."""
    for flags in ("dormant", ["dormant"], "dorm", ["owner", "dormant"]):
        text = document(DROP).replace('"name": "t"', f'"name": "t", "flags": {json.dumps(flags)}', 1)
        assert outcome(text) == "allowed"
    assert outcome(document(DROP).replace('"name": "t"', '"name": "t", "flags": "owner"', 1)) == "blocked"


@pytest.mark.parametrize(
    ("statements", "text"),
    [
        ([match(SADDR, "@s"), DROP], "ip saddr @s drop"),
        ([match(DPORT, {"set": [22, {"range": [80, 90]}]}, "!="), DROP], "tcp dport != { 22, 80-90 } drop"),
        ([match(STATE, ["established", "new"], "in")], "ct state established,new"),
        ([match({"&": [MARK, 32768]}, 32768)], "meta mark & 32768 == 32768"),
        ([match({"meta": {"key": "iifname"}}, "eth0")], "iifname eth0"),
        (
            [
                {
                    "vmap": {
                        "key": {"concat": [SADDR, DPORT]},
                        "data": {"set": [[{"concat": ["::1", 1]}, DROP]]},
                    }
                }
            ],
            "ip saddr . tcp dport vmap { ::1 . 1 : drop }",
        ),
        ([{"limit": {"rate": 10, "per": "second", "inv": True}}], "limit rate over 10/second"),
        ([{"reject": {"type": "tcp reset"}}], "reject with tcp reset"),
        ([{"jump": {"target": "x"}}], "jump x"),
        ([{"fib": 1}, {"match": 3}], "fib 1 match 3"),
    ],
)
def test_words(statements: list[dict[str, Any]], text: str) -> None:
    """Rules as people know them."""
    assert rule_text(statements) == text


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(("ip", "saddr", "@s", "*", "in", "t", "eth0", "")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    *(
                        "match",
                        "vmap",
                        "set",
                        "concat",
                        "op",
                        "left",
                        "right",
                        "key",
                        "data",
                        "&",
                        "|",
                        "payload",
                    ),
                    *(
                        "protocol",
                        "field",
                        "meta",
                        "ct",
                        "range",
                        "prefix",
                        "addr",
                        "len",
                        "elem",
                        "val",
                        "xt",
                    ),
                    *(
                        "jump",
                        "target",
                        "drop",
                        "accept",
                        "limit",
                        "fib",
                        "flags",
                        "result",
                        "exthdr",
                        "stmt",
                    ),
                )
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.lists(JSON, max_size=3), st.lists(JSON, max_size=3))
def test_any_statements_are_judged(statements: list[Any], elements: list[Any]) -> None:
    """Whatever stands in a rule or a set: nothing but a verdict, or a `ValueError`."""
    text = document(match(SADDR, "@s"), *statements, DROP, more=(a_set(elem=elements),))
    with contextlib.suppress(ValueError):
        assert outcome(text) in {"allowed", "blocked", "mixed", "unknown"}
    with contextlib.suppress(ValueError):
        assert outcome(document({"vmap": {"key": DPORT, "data": {"set": elements}}}, *statements))


@settings(deadline=None)
@given(JSON)
def test_any_document_is_read_or_refused(said: Any) -> None:
    """With a `ValueError`, wherever what is odd stands."""
    for place in ({"nftables": said}, {"nftables": [META, said]}, {"nftables": [META, {"chain": said}]}):
        with contextlib.suppress(ValueError):
            outcome(json.dumps(place))
