"""What `nft -j list ruleset` prints: libnftables-json(5), schema 1.

    {"nftables": [
        {"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}},
        {"table": {"family": "inet", "name": "filter", "handle": 2}},
        {"chain": {"family": "inet", "table": "filter", "name": "input", "handle": 1,
                   "type": "filter", "hook": "input", "prio": 0, "policy": "accept"}},
        {"rule": {"family": "inet", "table": "filter", "chain": "input", "handle": 4, "expr": [
            {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 22}},
            {"drop": null}]}}]}

An empty ruleset has the first of these alone.
"""

from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

from packets.decisions import Doubt
from packets.dumps.nftables_listing import (
    PRIORITIES,
    Base,
    Element,
    Ruleset,
    Statement,
    WrittenChain,
    WrittenRule,
    WrittenSet,
    WrittenTable,
    changing,
)
from packets.dumps.nftables_print import rule_text
from packets.dumps.nftables_rules import as_element
from packets.netfilter import Policy

_SCHEMA = 1
_POLICIES: dict[object, Policy] = {None: "accept", "accept": "accept", "drop": "drop"}
_HELD = ("table", "chain", "set", "map", "meter", "rule", "element")
_NEEDED = {"table": ("family", "name"), "rule": ("family", "table", "chain")}
"""What tells where an object belongs; of all others it is family, table and name."""

type _Key = tuple[str, str]


def read_json(document: object) -> Ruleset:
    """The ruleset that a document holds; raises `ValueError` naming what is none in it."""
    found = document.get("nftables") if isinstance(document, Mapping) else None
    if not isinstance(found, list):
        raise ValueError('the JSON is no ruleset: it has no list "nftables"')
    doubts: list[Doubt] = []
    held: dict[str, list[Mapping[str, Any]]] = {kind: [] for kind in _HELD}
    for place, one in enumerate(found):
        kind, said = _object(one, place)
        if kind == "metainfo" and said.get("json_schema_version", _SCHEMA) != _SCHEMA:
            version = said["json_schema_version"]
            doubts.append(
                Doubt("not_shown", f"the JSON is of schema {version}, and {_SCHEMA} is what is read")
            )
        if kind in held:
            held[kind].append(said)
    if not any("metainfo" in one for one in found) and not any(held.values()):
        raise ValueError('the JSON is no ruleset: the list "nftables" has neither metainfo nor tables')
    return Ruleset(_tables(held, doubts), tuple(doubts))


def _object(one: object, place: int) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(one, dict) or len(one) != 1:
        raise ValueError(f"the JSON is no ruleset: nftables[{place}] is no object with one key")
    kind, said = next(iter(one.items()))
    if not isinstance(said, dict):
        raise ValueError(f"the JSON is no ruleset: nftables[{place}].{kind} is no object")
    if kind in _HELD:
        for name in _NEEDED.get(kind, ("family", "table", "name")):
            if not isinstance(said.get(name), str):
                raise ValueError(f"the JSON is no ruleset: nftables[{place}].{kind}.{name} is no string")
    return str(kind), said


def _tables(held: Mapping[str, Sequence[Mapping[str, Any]]], doubts: list[Doubt]) -> tuple[WrittenTable, ...]:
    keys: dict[_Key, Mapping[str, Any]] = {(one["family"], one["name"]): one for one in held["table"]}
    named = {_key(one) for kind in _HELD[1:] for one in held[kind]}
    for family, name in sorted(named - set(keys)):
        # `nft -j list chain` says nothing of the table.
        keys[family, name] = {}
    rules: dict[tuple[_Key, str], list[Mapping[str, Any]]] = {}
    changed: set[tuple[_Key, str]] = set()
    for one in held["rule"]:
        rules.setdefault((_key(one), one["chain"]), []).append(one)
        changed.update((_key(one), name) for name in _changes(one.get("expr")))
    elements: dict[tuple[_Key, str], list[Any]] = {}
    for one in held["element"]:
        elements.setdefault((_key(one), one["name"]), []).extend(_list(one.get("elem")))
    chains: dict[_Key, dict[str, WrittenChain]] = {key: {} for key in keys}
    sets: dict[_Key, dict[str, WrittenSet]] = {key: {} for key in keys}
    for one in held["chain"]:
        key, name = _key(one), one["name"]
        chains[key][name] = _chain(one, rules.pop((key, name), []))
    for (key, name), orphans in rules.items():
        doubts.append(Doubt("not_shown", f"chain {name} has rules and is not shown itself"))
        chains[key][name] = _chain({"name": name}, orphans)
    for kind in ("set", "map", "meter"):
        for one in held[kind]:
            key, name = _key(one), one["name"]
            sets[key][name] = _set(one, elements.get((key, name), []), changed=(key, name) in changed)
    return tuple(
        WrittenTable(
            family=key[0],
            name=key[1],
            chains=chains[key],
            sets=sets[key],
            # nft 1.0.6 writes it "dorm".
            dormant=any(str(flag).startswith("dorm") for flag in _list(said.get("flags"))),
        )
        for key, said in keys.items()
    )


def _key(said: Mapping[str, Any]) -> _Key:
    return said["family"], said["table"]


def _list(said: object) -> list[Any]:
    return [] if said is None else said if isinstance(said, list) else [said]


def _changes(statements: object) -> list[str]:
    """The sets that a rule adds to, or takes from."""
    found = []
    for statement in statements if isinstance(statements, list) else ():
        if isinstance(statement, dict):
            said = statement.get("set") or statement.get("map")
            if isinstance(said, dict):
                found.append(str(said.get("set", said.get("map", ""))).lstrip("@"))
    return found


def _chain(said: Mapping[str, Any], rules: Sequence[Mapping[str, Any]]) -> WrittenChain:
    base = None
    if isinstance(said.get("hook"), str):
        devices = _list(said.get("dev", said.get("devs")))
        base = Base(
            kind=str(said.get("type", "filter")),
            hook=said["hook"],
            priority=_priority(said.get("prio")),
            policy=_POLICIES.get(said.get("policy"), "unknown"),
            devices=tuple(map(str, devices)) or None,
        )

    return WrittenChain(name=said["name"], read=partial(_rules, rules), base=base)


def _rules(said: Sequence[Mapping[str, Any]]) -> tuple[WrittenRule, ...]:
    return tuple(map(_rule, said))


def _priority(said: object) -> int:
    if isinstance(said, int):
        return said
    return PRIORITIES.get(str(said), 0)


def _rule(said: Mapping[str, Any]) -> WrittenRule:
    statements: list[Statement] = [
        one if isinstance(one, Mapping) and len(one) == 1 else {"unknown": str(one)}
        for one in _list(said.get("expr"))
    ]
    handle = said.get("handle")
    text = rule_text(statements, said.get("comment"))
    return WrittenRule(text, tuple(statements), handle if isinstance(handle, int) else None)


def _set(said: Mapping[str, Any], more: Sequence[Any], *, changed: bool) -> WrittenSet:
    flags = {str(flag) for flag in _list(said.get("flags"))}
    name = said["name"]
    doubt = changing(name) if changed or flags & {"dynamic", "timeout"} else None
    return WrittenSet(name=name, read=cache(partial(_elements, said.get("elem"), more)), doubt=doubt)


def _elements(said: object, more: Sequence[Any]) -> tuple[Element, ...]:
    return tuple(as_element(one) for one in (*_list(said), *more))
