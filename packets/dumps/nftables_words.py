"""Rules of nftables as text, to the statements that libnftables-json(5) names.

    ip saddr @nodes tcp dport { 443, 10000-10300 } counter packets 0 bytes 0 drop comment "x" # handle 7

A tokenizer and a recursive-descent parser for what `nft list ruleset` prints (nft(8), and the grammar in
src/parser_bison.y of nftables). What it does not understand becomes a statement `{"unknown": words}`, and
reading goes on at the next verdict: a rule is never lost, and never made stronger than it is.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from packets.dumps.nftables_listing import Element, Expression, Statement, WrittenRule

_TOKEN = re.compile(
    r'"[^"]*"|@(?:ll|nh|th|ih),\d+,\d+|[{}(),;]|==|!=|<=|>=|<<|>>|[<>=&|^!]|[^\s{}(),;"=<>&|^!]+'
)
_HANDLE = re.compile(r"\s*# handle (\d+)\s*$")
_XT = re.compile(r"# ?xt_(\w+)")
"""What nft writes for an extension of iptables that it was built without knowledge of."""

_VERDICTS = frozenset({"accept", "drop", "continue", "return"})
_META = frozenset(
    {
        "iif",
        "iifname",
        "iiftype",
        "iifgroup",
        "iifkind",
        "oif",
        "oifname",
        "oiftype",
        "oifgroup",
        "oifkind",
        "mark",
        "skuid",
        "skgid",
        "nftrace",
        "rtclassid",
        "pkttype",
        "cpu",
        "cgroup",
        "ibriport",
        "obriport",
        "ibrname",
        "obrname",
        "ibridgename",
        "obridgename",
        "priority",
        "random",
        "time",
        "hour",
        "day",
        "length",
        "protocol",
        "l4proto",
        "nfproto",
        "sdif",
        "sdifname",
        "secmark",
    }
)
_PAYLOADS = frozenset(
    {
        "ip",
        "ip6",
        "tcp",
        "udp",
        "th",
        "icmp",
        "icmpv6",
        "igmp",
        "ether",
        "vlan",
        "arp",
        "udplite",
        "sctp",
        "dccp",
        "esp",
        "ah",
        "comp",
        "gre",
        "gretap",
        "vxlan",
        "geneve",
    }
)
_EXTENSION_HEADERS = frozenset(
    {
        "hbh",
        "rt0",
        "rt2",
        "rt4",
        "srh",
        "frag",
        "dst",
        "mh",
    }
)
_TUNNELS = frozenset({"gre", "gretap", "vxlan", "geneve"})
_OPTION_FIELDS = frozenset(
    {
        "kind",
        "length",
        "size",
        "count",
        "left",
        "right",
        "left2",
        "right2",
        "left3",
        "right3",
        "tsval",
        "tsecr",
        "ptr",
        "addr",
        "value",
        "type",
        "timestamp",
    }
)
_BITMASKS = frozenset(
    {("ct", "state"), ("ct", "status"), ("ct", "label"), ("tcp", "flags"), ("dccp", "type")}
)
_COMPARISONS = {"==", "!=", "<", ">", "<=", ">=", "!"}
_WORD_OPERATORS = {
    "eq": "==", "ne": "!=", "lt": "<", "gt": ">", "le": "<=", "ge": ">=", "not": "!",
    "and": "&", "or": "|", "xor": "^", "lshift": "<<", "rshift": ">>",
}  # fmt: skip
_BITWISE = {"&", "|", "^", "<<", ">>"}
_NAT_WORDS = frozenset(
    {
        "to",
        "ip",
        "ip6",
        "prefix",
        "addr",
        "port",
        ".",
        "random",
        "fully-random",
        "persistent",
        "interval",
        "map",
        ":",
    }
)
_NAMING = frozenset({"to", "num", "mss", "wscale", "name", "device"})
"""Words of such a statement that a value follows."""
_ELEMENT_WORDS = frozenset({"timeout", "expires", "comment", "counter", "limit", "quota", "ct", "last"})


class _NotUnderstood(Exception):  # noqa: N818 - no error: the parser goes on elsewhere
    """Words that are no statement known here."""


def read_rule(line: str) -> WrittenRule:
    """The rule that a line makes up; never raises for what it does not understand."""
    handle = None
    if found := _HANDLE.search(line):
        handle, line = int(found[1]), line[: found.start()]
    text = line.strip()
    return WrittenRule(text, tuple(_Parser(tokens(text)).statements()), handle)


def tokens(text: str) -> list[str]:
    """The words and signs of a text; strings keep their quotes."""
    if "#" in text:
        text = _uncommented(text)
    return _TOKEN.findall(text)


def _uncommented(text: str) -> str:
    """Without what follows a `#` outside of strings; what it says of extensions of iptables stays."""
    parts = re.split(r'("[^"]*")', text)
    for place in range(0, len(parts), 2):
        part = _XT.sub(r" xt unreadable \1 ", parts[place])
        if "#" in part:
            return "".join(parts[:place]) + part.partition("#")[0]
        parts[place] = part
    return "".join(parts)


def read_elements(text: str) -> list[Element]:
    """The members of a set, from what stands between the braces after `elements =`.

    Raises `ValueError` if they are not understood.
    """
    if '"' in text:
        text = re.sub(r' comment "[^"]*"', "", text)
    if " packets " in text or "timeout " in text or "expires " in text:
        text = re.sub(r" (?:counter packets \d+ bytes \d+|(?:timeout|expires) \S+[^\s,:])", "", text)
    found: list[Element] = []
    if '"' not in text and "{" not in text and "|" not in text and "(" not in text:
        # As kube-proxy writes thousands of them: `10.0.0.1 . tcp . 443 : goto service-XYZ`.
        for one in text.split(","):
            key, mapped, value = one.strip().partition(" : ")
            parts = key.split(" . ")
            if not key or any(" " in part for part in parts):
                break
            words = value.split()
            if mapped and (len(words) > 2 or not words):
                break
            found.append(
                (parts[0] if len(parts) == 1 else {"concat": parts}, _data(words) if mapped else None)
            )
        else:
            return found
        if not text.strip():
            return []
    parser = _Parser(["{", *tokens(text), "}"])
    try:
        return [*parser.elements()]
    except _NotUnderstood:
        near = " ".join(parser.tokens[parser.at : parser.at + 5])
        raise ValueError(f'an element near "{near}" is not understood') from None


def _data(words: Sequence[str]) -> Statement:
    if len(words) == 2:
        return {words[0]: {"target": words[1]}}
    return {words[0]: None} if words[0] in _VERDICTS else {"value": words[0]}


def _plain(token: str) -> Expression:
    """A value: a string without its quotes, and truth."""
    if token[0] == '"':
        return token[1:-1]
    return {"exists": True, "missing": False}.get(token, token)


class _Parser:
    """Goes through the tokens of one rule."""

    def __init__(self, found: Sequence[str]) -> None:
        self.tokens = found
        self.at = 0

    # --- tokens

    def peek(self) -> str:
        """The token whose turn it is; empty at the end."""
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        """The same, and past it."""
        if self.at >= len(self.tokens):
            raise _NotUnderstood
        self.at += 1
        return self.tokens[self.at - 1]

    def skip(self, *wanted: str) -> bool:
        """Past a token if it is one of some."""
        if self.peek() in wanted:
            self.at += 1
            return True
        return False

    def expect(self, wanted: str) -> None:
        """Past a token that has to be there."""
        if not self.skip(wanted):
            raise _NotUnderstood

    def value(self) -> Expression:
        """A token as a value."""
        word = self.take()
        if word in "{}(),;:" or word in _COMPARISONS:
            raise _NotUnderstood
        return _plain(word)

    # --- statements

    def statements(self) -> Iterator[Statement]:
        """All of them, to the end."""
        while self.at < len(self.tokens):
            start = self.at
            if self.skip(";"):
                continue
            if self.peek() == "comment":
                # It stands last, with whatever there is in it.
                return
            try:
                statement = self.statement()
            except _NotUnderstood:
                self.at = max(self.at, start + 1)
                self._resume()
                yield {"unknown": " ".join(self.tokens[start : self.at])}
            else:
                yield statement

    def _resume(self) -> None:
        """To the next verdict outside of braces."""
        depth = 0
        for place in range(self.at, len(self.tokens)):
            word = self.tokens[place]
            depth += (word == "{") - (word == "}")
            if depth <= 0 and (word in _VERDICTS or word in {"jump", "goto", "reject", "comment"}):
                self.at = place
                return
        self.at = len(self.tokens)

    def statement(self) -> Statement:
        """The next one."""
        word = self.peek()
        if word in _VERDICTS or word in {"jump", "goto"}:
            return self.verdict()
        read = getattr(self, f"_{word}", None) if word in _STATEMENTS else None
        if read is not None:
            self.at += 1
            found: Statement = read()
            return found
        if word == "ct" and self.tokens[self.at + 1 : self.at + 2] == ["count"]:
            self.at += 2
            over = self.skip("over")
            return {"ct count": {"val": self.take(), "inv": over}}
        return self._match()

    def verdict(self) -> Statement:
        """`accept`, `jump CHAIN`."""
        word = self.take()
        if word in _VERDICTS:
            return {word: None}
        if word in {"jump", "goto"}:
            return {word: {"target": self.take().strip('"')}}
        raise _NotUnderstood

    def _counter(self) -> Statement:
        if self.skip("packets"):
            self.take()
            self.expect("bytes")
            self.take()
        elif self.skip("name"):
            self.value()
        return {"counter": None}

    def _last(self) -> Statement:
        if self.skip("used"):
            self.take()
            # `1h2m3s ago`, in versions that say so.
            self.skip("ago")
        return {"last": None}

    def _log(self) -> Statement:
        said = {}
        while self.peek() in {"prefix", "group", "snaplen", "queue-threshold", "level", "flags"}:
            word = self.take()
            said[word] = self.value()
            if said[word] in {"tcp", "ip"}:
                # `flags tcp sequence,options`, `flags ip options`.
                self.take()
            while self.skip(","):
                self.take()
        return {"log": said}

    def _limit(self) -> Statement:
        if self.skip("name"):
            return {"limit": self.value()}
        self.expect("rate")
        over = self.skip("over")
        rate = [self.take()]
        # `10/second`, `10 mbytes/second`.
        if "/" not in rate[0]:
            rate.append(self.take())
        if self.skip("burst"):
            self.take()
            self.take()
        return {"limit": {"rate": " ".join(rate), "inv": over}}

    def _quota(self) -> Statement:
        if self.skip("name"):
            return {"quota": self.value()}
        over = self.skip("over")
        self.skip("until")
        said = f"{self.take()} {self.take()}"
        if self.skip("used", "consumed"):
            self.take()
            self.take()
        return {"quota": {"val": said, "inv": over}}

    def _reject(self) -> Statement:
        if not self.skip("with"):
            return {"reject": None}
        kind = self.take()
        if kind == "tcp":
            self.expect("reset")
            return {"reject": {"type": "tcp reset"}}
        self.skip("type")
        return {"reject": {"type": kind, "expr": self.take()}}

    def _notrack(self) -> Statement:
        return {"notrack": None}

    def _queue(self) -> Statement:
        return self._rest("queue", frozenset({"num", "to", "flags", "bypass", "fanout"}))

    def _dnat(self) -> Statement:
        return self._rest("dnat", _NAT_WORDS)

    def _snat(self) -> Statement:
        return self._rest("snat", _NAT_WORDS)

    def _masquerade(self) -> Statement:
        return self._rest("masquerade", _NAT_WORDS)

    def _redirect(self) -> Statement:
        return self._rest("redirect", _NAT_WORDS)

    def _tproxy(self) -> Statement:
        return self._rest("tproxy", _NAT_WORDS)

    def _fwd(self) -> Statement:
        return self._rest("fwd", _NAT_WORDS | {"device"})

    def _dup(self) -> Statement:
        return self._rest("dup", _NAT_WORDS | {"device"})

    def _synproxy(self) -> Statement:
        return self._rest("synproxy", frozenset({"name", "mss", "wscale", "timestamp", "sack-perm"}))

    def _rest(self, kind: str, known: frozenset[str]) -> Statement:
        """A statement whose details decide nothing here: words of its own, and what they are about."""
        start = self.at
        while (word := self.peek()) in known or word == ",":
            self.at += 1
            if word == "to" and self.peek() in {"ip", "ip6"} and not self._field_of_ip():
                self.at += 1
            if word in _NAMING and self.peek() not in known - {"ip", "ip6"}:
                self.expression()
        if self.peek()[:1] == '"' and self.tokens[self.at - 1][-1:] == ":":
            # A port by its name: `to 10.0.0.5:"http"`.
            self.at += 1
        return {kind: {"words": " ".join(self.tokens[start : self.at])}}

    def _field_of_ip(self) -> bool:
        return self.tokens[self.at + 1 : self.at + 2] in (["saddr"], ["daddr"])

    def _meter(self) -> Statement:
        name = self.value()
        if self.skip("size"):
            self.take()
        return {"meter": {"name": name, **self._dynamic()}}

    def _add(self) -> Statement:
        return self._update()

    def _delete(self) -> Statement:
        return self._update()

    def _set(self) -> Statement:
        return self._update()

    def _update(self) -> Statement:
        name = self.take()
        if not name.startswith("@"):
            raise _NotUnderstood
        return {"set": {"op": self.tokens[self.at - 2], "set": name, **self._dynamic()}}

    def _dynamic(self) -> dict[str, Any]:
        """`{ ip saddr timeout 1m limit rate over 10/second }`: what is kept, and what has to hold for it."""
        self.expect("{")
        elem = self.expression()
        inner: list[Statement] = []
        while not self.skip("}"):
            if self.skip("timeout", "expires"):
                self.take()
            elif self.skip(":"):
                self.verdict() if self.peek() in _VERDICTS | {"jump", "goto"} else self.expression()
            elif self.skip("comment"):
                self.take()
            else:
                inner.append(self.statement())
        return {"elem": elem, "stmt": inner}

    def _flow(self) -> Statement:
        if not self.skip("add", "offload"):
            raise _NotUnderstood
        return {"flow": self.take()}

    def _xt(self) -> Statement:
        kind = self.take()
        return {"xt": {"type": kind, "name": self.value()}}

    def _reset(self) -> Statement:
        # `reset tcp option maxseg`.
        self.expect("tcp")
        self.expect("option")
        return {"reset": self.take()}

    # --- matches

    def _match(self) -> Statement:
        left = self.key()
        if self.skip("set"):
            return {"mangle": {"key": left, "value": self.expression()}}
        if self.skip("vmap"):
            data = self.take() if self.peek().startswith("@") else {"set": [*self.elements()]}
            return {"vmap": {"key": left, "data": data}}
        operator = _WORD_OPERATORS.get(self.peek(), self.peek())
        if operator in _COMPARISONS:
            self.at += 1
        else:
            operator = ""
        right = self.right()
        if self.skip("/"):
            left = {"&": [left, self.right()]}
            operator = operator or "=="
        if not operator:
            bits = _named(left) in _BITMASKS and not _is_set(right)
            operator = "in" if bits else "=="
        return {"match": {"op": operator, "left": left, "right": right}}

    def key(self) -> Expression:
        """What is compared: fields of the packet, alone or `.` together."""
        parts = [self._bits()]
        while self.skip("."):
            parts.append(self._bits())
        return parts[0] if len(parts) == 1 else {"concat": parts}

    def _bits(self) -> Expression:
        left = self._field()
        while (operator := _WORD_OPERATORS.get(self.peek(), self.peek())) in _BITWISE:
            self.at += 1
            left = {operator: [left, self._operand()]}
        return left

    def _operand(self) -> Expression:
        if self.skip("("):
            inner = self.right()
            self.expect(")")
            return inner
        return self.value()

    def _field(self) -> Expression:
        word = self.take()
        if word == "(":
            inner = self.key()
            self.expect(")")
            return inner
        if word in _PAYLOADS:
            return self._payload(word)
        if word == "meta":
            return {"meta": {"key": self.take()}}
        if word in _META:
            return {"meta": {"key": word}}
        if word in _FIELDS:
            found: Expression = getattr(self, f"_of_{word}")()
            return found
        if word in _EXTENSION_HEADERS:
            return {"exthdr": {"name": word, "field": self.take()}}
        if word[0] == "@" and word.count(",") == 2:
            base, offset, length = word[1:].split(",")
            return {"payload": {"base": base, "offset": int(offset), "len": int(length)}}
        raise _NotUnderstood

    def _payload(self, protocol: str) -> Expression:
        field = self.take()
        if field == "option":
            name = self.take()
            option: dict[str, Any] = {"name": name}
            if self.peek() in _OPTION_FIELDS:
                option["field"] = self.take()
            return {f"{protocol} option": option}
        if field == "chunk":
            name = self.take()
            return {
                "sctp chunk": {
                    "name": name,
                    "field": "" if self.peek() in {"exists", "missing"} else self.take(),
                }
            }
        if protocol in _TUNNELS and field in _PAYLOADS:
            return {"payload": {"tunnel": protocol, "protocol": field, "field": self.take()}}
        return {"payload": {"protocol": protocol, "field": field}}

    def _of_ct(self) -> Expression:
        key = self.take()
        if key not in {"original", "reply"}:
            return {"ct": {"key": key}}
        direction, key = key, self.take()
        if key in {"ip", "ip6"}:
            key = f"{key} {self.take()}"
        return {"ct": {"key": key, "dir": direction}}

    def _of_fib(self) -> Expression:
        flags = [self.take()]
        while self.skip("."):
            flags.append(self.take())
        return {"fib": {"result": self.take(), "flags": flags}}

    def _of_exthdr(self) -> Expression:
        return {"exthdr": {"name": self.take()}}

    def _of_rt(self) -> Expression:
        family = self.take() if self.peek() in {"ip", "ip6"} else ""
        key = self.take()
        if key in {"classid", "nexthop", "mtu", "ipsec"}:
            return {"rt": {"key": key, "family": family}}
        return {"exthdr": {"name": "rt", "field": key}}

    def _of_socket(self) -> Expression:
        key = self.take()
        if key == "cgroupv2":
            self.expect("level")
            self.take()
        return {"socket": {"key": key}}

    def _of_ipsec(self) -> Expression:
        words = [self.take()]
        if self.skip("spnum"):
            self.take()
        words.append(self.take())
        if words[-1] in {"ip", "ip6"}:
            words.append(self.take())
        return {"ipsec": {"key": " ".join(words)}}

    def _of_osf(self) -> Expression:
        if self.skip("ttl"):
            self.take()
        return {"osf": {"key": self.take()}}

    def _of_numgen(self) -> Expression:
        mode = self.take()
        return {"numgen": {"mode": mode, **self._modulus()}}

    def _of_symhash(self) -> Expression:
        return {"symhash": self._modulus()}

    def _of_jhash(self) -> Expression:
        return {"jhash": {"expr": self.key(), **self._modulus()}}

    def _modulus(self) -> dict[str, Any]:
        said = {}
        while self.peek() in {"mod", "offset", "seed"}:
            word = self.take()
            said[word] = self.take()
        return said

    # --- values

    def right(self) -> Expression:
        """What a field is compared with: a value, several, a set."""
        if self.peek() == "{":
            return {"set": [key for key, _ in self.elements()]}
        parts = [self._several()]
        while self.skip("."):
            parts.append(self._several())
        return parts[0] if len(parts) == 1 else {"concat": parts}

    def _several(self) -> Expression:
        """`established,related`."""
        found = [self._either()]
        while self.peek() == ",":
            self.at += 1
            found.append(self._either())
        return found[0] if len(found) == 1 else found

    def _either(self) -> Expression:
        """`syn | ack`, and ranges of what stands in quotes."""
        left = self._operand()
        if self.skip("-"):
            left = {"range": [left, self.value()]}
        while (operator := _WORD_OPERATORS.get(self.peek(), self.peek())) in _BITWISE:
            self.at += 1
            left = {operator: [left, self._operand()]}
        return left

    def elements(self) -> Iterator[Element]:
        """`{ 22 : accept, 80-90 timeout 1h comment "x" : drop, * : return }`."""
        self.expect("{")
        while not self.skip("}"):
            parts = [self._either()]
            while self.skip("."):
                parts.append(self._either())
            key = parts[0] if len(parts) == 1 else {"concat": parts}
            while self.peek() in _ELEMENT_WORDS:
                if self.skip("timeout", "expires", "comment"):
                    self.take()
                else:
                    self.statement()
            data: Statement | None = None
            if self.skip(":"):
                known = self.peek() in _VERDICTS or self.peek() in {"jump", "goto"}
                data = self.verdict() if known else {"value": self.right_of_map()}
            yield key, data
            if self.peek() != "}":
                self.expect(",")

    def right_of_map(self) -> Expression:
        """The value of a map that holds no verdicts."""
        parts = [self._either()]
        while self.skip("."):
            parts.append(self._either())
        return parts

    def expression(self) -> Expression:
        """Anything that has a value: fields, values, and maps of them."""
        found: list[Expression] = []
        while True:
            word = self.peek()
            field = word in _META or word in _PAYLOADS or word in _FIELDS or word in {"meta", "("}
            found.append(self.key() if field else self.right())
            if self.skip("map"):
                found.append(self.take() if self.peek().startswith("@") else [*self.elements()])
            operator = _WORD_OPERATORS.get(self.peek(), self.peek())
            if operator not in _BITWISE and self.peek() != ".":
                return found[0] if len(found) == 1 else {"words": found}
            self.at += 1


_STATEMENTS = frozenset(
    {
        "counter",
        "last",
        "log",
        "limit",
        "quota",
        "reject",
        "notrack",
        "queue",
        "dnat",
        "snat",
        "masquerade",
        "redirect",
        "tproxy",
        "fwd",
        "dup",
        "synproxy",
        "meter",
        "add",
        "update",
        "delete",
        "set",
        "flow",
        "xt",
        "reset",
    }
)
_FIELDS = frozenset(
    {
        "ct",
        "fib",
        "exthdr",
        "rt",
        "socket",
        "ipsec",
        "osf",
        "numgen",
        "symhash",
        "jhash",
    }
)


def _named(left: Expression) -> tuple[str, str]:
    if isinstance(left, dict):
        if "ct" in left:
            return "ct", left["ct"]["key"]
        if "payload" in left:
            return left["payload"].get("protocol", ""), left["payload"].get("field", "")
    return "", ""


def _is_set(right: Expression) -> bool:
    return (isinstance(right, str) and right.startswith("@")) or (isinstance(right, dict) and "set" in right)
