"""Statements of libnftables-json(5) as nft would print them, for people to read.

What a rule does is never taken from here; a statement of a kind that is not known is shown as it is.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from packets.dumps.nftables_listing import Expression, Statement

_ALONE = frozenset({"accept", "drop", "continue", "return", "notrack"})
_SHAPE = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What comes of JSON that is not as documented."""
_META = frozenset({"iif", "iifname", "oif", "oifname"})


def rule_text(statements: Sequence[Statement], comment: object = None) -> str:
    """A rule in one line."""
    words = [_shown(one) for one in statements]
    if comment:
        words.append(f'comment "{comment}"')
    return " ".join(word for word in words if word)


def _shown(statement: Statement) -> str:
    try:
        return _statement(statement)
    except _SHAPE:
        return json.dumps(statement)


def _statement(statement: Statement) -> str:
    kind, said = next(iter(statement.items()), ("", None))
    if kind in _ALONE:
        return kind
    if kind in {"jump", "goto"} and isinstance(said, Mapping):
        return f"{kind} {said.get('target', '')}"
    if kind == "match" and isinstance(said, Mapping):
        left, operator, right = said.get("left"), str(said.get("op")), expression(said.get("right"))
        masked = isinstance(left, Mapping) and "&" in left
        shown = f"{operator} " if operator not in {"==", "in"} or masked else ""
        return f"{expression(left)} {shown}{right}"
    if kind == "vmap" and isinstance(said, Mapping):
        return f"{expression(said.get('key'))} vmap {expression(said.get('data'))}"
    if kind == "mangle" and isinstance(said, Mapping):
        return f"{expression(said.get('key'))} set {expression(said.get('value'))}"
    if kind == "xt" and isinstance(said, Mapping):
        return f'xt {said.get("type")} "{said.get("name")}"'
    if kind == "counter":
        return kind
    if kind == "limit" and isinstance(said, Mapping):
        over = "over " if said.get("inv") else ""
        unit = f" {said['rate_unit']}" if said.get("rate_unit", "packets") != "packets" else ""
        return f"limit rate {over}{said.get('rate')}{unit}/{said.get('per')}"
    if kind == "reject":
        return f"reject with {_words(said)}".replace('"', "") if said else kind
    if kind == "set" and isinstance(said, Mapping):
        inner = [_statement(one) for one in said.get("stmt") or () if isinstance(one, Mapping)]
        kept = " ".join((expression(said.get("elem")), *inner))
        return f"{said.get('op')} {said.get('set')} {{ {kept} }}"
    return f"{kind} {_words(said)}".strip()


def _words(said: object) -> str:
    """The details of a statement, or of an expression that is not known."""
    if said is None:
        return ""
    if isinstance(said, Mapping):
        shown = []
        for name, value in said.items():
            if value is True:
                shown.append(str(name))
            elif name in {"type", "expr", "family"}:
                shown.append(expression(value))
            elif value is not None:
                shown.append(f"{name} {expression(value)}")
        return " ".join(shown)
    return expression(said)


def expression(said: Expression) -> str:
    """A field, a value, a set."""
    if isinstance(said, bool):
        return "exists" if said else "missing"
    if isinstance(said, str | int):
        return f'"{said}"' if isinstance(said, str) and (not said or " " in said) else str(said)
    if isinstance(said, list):
        return ",".join(map(expression, said))
    if not isinstance(said, Mapping) or len(said) != 1:
        return json.dumps(said)
    kind, inner = next(iter(said.items()))
    read = _KINDS.get(kind)
    try:
        return f"{kind} {_words(inner)}" if read is None else read(inner)
    except _SHAPE:
        # Whatever it is: people see it as it is.
        return json.dumps(said)


def _payload(said: Mapping[str, Any]) -> str:
    if "protocol" in said:
        return (
            f"{said['tunnel']} {said['protocol']} {said['field']}"
            if "tunnel" in said
            else (f"{said['protocol']} {said['field']}")
        )
    return f"@{said['base']},{said['offset']},{said['len']}"


def _set(said: Sequence[Any]) -> str:
    shown = []
    for one in said if isinstance(said, list) else [said]:
        if isinstance(one, list) and len(one) == 2:
            shown.append(
                f"{expression(one[0])} : {_statement(one[1]) if isinstance(one[1], Mapping) else one[1]}"
            )
        else:
            shown.append(expression(one))
    return f"{{ {', '.join(shown)} }}"


def _bits(sign: str) -> Callable[[Sequence[Any]], str]:
    def read(said: Sequence[Any]) -> str:
        return f" {sign} ".join(map(expression, said))

    return read


_KINDS: dict[str, Callable[[Any], str]] = {
    "payload": _payload,
    "meta": lambda said: str(said["key"]) if said["key"] in _META else f"meta {said['key']}",
    "ct": lambda said: " ".join(("ct", *([said["dir"]] if "dir" in said else []), str(said["key"]))),
    "fib": lambda said: (
        f"fib {' . '.join([said['flags']] if isinstance(said['flags'], str) else said['flags'])} "
        f"{said['result']}"
    ),
    "concat": lambda said: " . ".join(map(expression, said)),
    "set": _set,
    "prefix": lambda said: f"{said['addr']}/{said['len']}",
    "range": lambda said: f"{expression(said[0])}-{expression(said[1])}",
    "map": lambda said: f"{expression(said['key'])} map {expression(said['data'])}",
    "elem": lambda said: expression(said["val"]),
    "exthdr": lambda said: f"{said['name']} {said['field']}" if "field" in said else f"exthdr {said['name']}",
    "ip option": lambda said: " ".join(("ip option", *map(str, said.values()))),
    "tcp option": lambda said: " ".join(("tcp option", *map(str, said.values()))),
    **{sign: _bits(sign) for sign in ("&", "|", "^", "<<", ">>")},
}
