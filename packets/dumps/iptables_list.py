"""What `iptables --list` prints, in its plain, `-n`, `-v` and `--line-numbers` forms, as chains.

    Chain INPUT (policy ACCEPT 167M packets, 12G bytes)
    num   pkts bytes target         prot opt in     out     source         destination
    1     167M   12G KUBE-FIREWALL  all  --  any    any     anywhere       anywhere
    2        0     0 DROP           tcp  --  eth0   any     10.240.0.0/16  anywhere     tcp dpt:10250 /* no */

The target may be missing, names stand for numbers, and without `-v` interfaces are not shown: a rule that
says nothing of ports either (`ACCEPT all -- anywhere anywhere`) may be the loopback interface's alone, and so
matches in doubt. One that names the port is taken as it stands, as Microsoft's runbook takes it.
"""

import re
from collections.abc import Callable, Container, Sequence

from packets.addresses import EVERY_PORT, parse_prefix
from packets.dumps.iptables_rules import SET_DROPPED, Draft, flags_match, of_kinds, target
from packets.netfilter import Action, Chain, Interface, Policy, Rule

CHAIN = re.compile(
    r"Chain (?P<name>\S+) \((?:policy (?P<policy>\S+?)(?: [\d.]+[KMGTP]? packets, [\d.]+[KMGTP]? bytes)?"
    r"|\d+ references?)(?: \[[^\]]*\])?\)\s*$"
)
"""The line that opens a chain."""
_COLUMNS = {"num", "pkts", "bytes", "target", "prot", "opt", "in", "out", "source", "destination"}
_OPTIONS = frozenset({"--", "-f", "!f"})
_ANYWHERE = frozenset({"anywhere", "0.0.0.0/0", "::/0"})
_POLICIES: dict[str, Policy] = {"ACCEPT": "accept", "DROP": "drop"}
_HIDDEN = (
    "hidden_interface",
    "the list does not show interfaces, and it may be the loopback interface's alone: list the rules with -v",
)


def read_chain(
    head: re.Match[str], lines: Sequence[str], chains: Container[str], *, marks: bool = False
) -> Chain:
    """A chain with the lines below its head; raises `ValueError` naming a line that is none of a rule's.

    `marks` says that some rule may set the mark that the kubelet drops.
    """
    where = "" if marks and head["name"] == SET_DROPPED[0] else head["name"]
    columns: list[str] = []
    rules: list[Rule] = []
    count = 0
    for line in lines:
        words = line.split()
        if not columns:
            if not set(words) <= _COLUMNS or "source" not in words:
                raise ValueError(f"not the columns of iptables --list: {line[:100]!r}")
            columns = words
            continue
        count += 1
        rules += _read(line, columns, where, count, chains)
    policy = head["policy"]
    return Chain(head["name"], rules, _POLICIES.get(policy, "unknown") if policy else "accept")


def is_columns(line: str) -> bool:
    """Whether a line is the one with the names of columns."""
    words = line.split()
    return bool(words) and set(words) <= _COLUMNS and "source" in words


def _read(
    line: str, columns: Sequence[str], chain: str, count: int, chains: Container[str]
) -> tuple[Rule, ...]:
    words = line.split()
    at = 0
    if "num" in columns:
        if not words or not words[0].isdecimal():
            raise ValueError(f"not a rule of iptables --list: {line[:100]!r}")
        count, at = int(words[0]), 1
    at += sum(name in columns for name in ("pkts", "bytes"))
    shows_interfaces = "in" in columns
    fields, at = _fields(words, at, line, with_interfaces=shows_interfaces)
    draft = Draft(chain=chain)
    written, negated = _sign(fields["prot"])
    draft.protocol(written, negated=negated)
    if fields["opt"] != "--":
        draft.holds(always=False, negated=fields["opt"].startswith("!"))
    if shows_interfaces:
        for name in ("in", "out"):
            written, negated = _sign(fields[name])
            if written in {"any", "*"}:
                continue
            if name == "in":
                draft.interfaces += (Interface(written, negated),)
            else:
                draft.holds(always=False, negated=negated)
    for side, name in (("sources", "source"), ("destinations", "destination")):
        _address(draft, side, fields[name])
    rest = _after(line, words, at)
    draft.action = target(fields["target"], chains) if fields["target"] else Action("continue", "")
    _Extras(draft, rest).read()
    about_ports = draft.destination_ports != EVERY_PORT or draft.either is not None
    if not shows_interfaces and not about_ports and not draft.never:
        draft.doubt(*_HIDDEN)
    return draft.rules(count, " ".join(words))


def _fields(words: Sequence[str], at: int, line: str, *, with_interfaces: bool) -> tuple[dict[str, str], int]:
    """The columns from the target to the destination, and where what follows them begins.

    The target may be missing, and in IPv6's lists of old versions the options are.
    """
    names = ["prot", "opt", *(("in", "out") if with_interfaces else ()), "source", "destination"]
    if len(words) > at + 1 and words[at + 1] in _OPTIONS:
        fields = {"target": ""}
    elif len(words) > at + 2 and words[at + 2] in _OPTIONS:
        fields = {"target": words[at]}
        at += 1
    else:
        names.remove("opt")
        # Only where a chain or a target is named there is a word more before the addresses.
        has_target = not re.match(r"\s*(?:\d+\s+)?(?:\S+\s+\S+\s+)?\s{9}", line) and len(words) > at + len(
            names
        )
        fields = {"target": words[at] if has_target else "", "opt": "--"}
        at += has_target
    if len(words) < at + len(names):
        raise ValueError(f"not a rule of iptables --list: {line[:100]!r}")
    fields |= dict(zip(names, words[at:], strict=False))
    return fields, at + len(names)


def _sign(written: str) -> tuple[str, bool]:
    return (written[1:], True) if written.startswith("!") and len(written) > 1 else (written, False)


def _address(draft: Draft, side: str, field: str) -> None:
    written, negated = _sign(field)
    if written in _ANYWHERE:
        draft.holds(always=True, negated=negated)
        return
    base, slash, length = written.partition("/")
    if base in {"localhost", "loopback", "localhost.localdomain", "ip6-localhost"}:
        written = f"127.0.0.0/{length}" if slash and length.isdecimal() and int(length) <= 32 else "127.0.0.1"
    elif base == "link-local":
        written = f"169.254.0.0/{length or 32}"
    draft.address(side, written, negated=negated)


def _after(line: str, words: Sequence[str], count: int) -> str:
    """What follows so many words of a line, as it stands there."""
    at = 0
    for word in words[:count]:
        at = line.index(word, at) + len(word)
    return line[at:].strip()


class _Extras:
    """What a rule matches besides, in the words of each extension."""

    def __init__(self, draft: Draft, text: str) -> None:
        self.draft = draft
        self.text = self._without_comment(text)

    def read(self) -> None:
        """Take all of it; what is not understood is a doubt, never left out."""
        while self.text:
            for pattern, take in _FORMS:
                found = pattern.match(self.text)
                if found:
                    take(self.draft, found)
                    self.text = self.text[found.end() :].strip()
                    break
            else:
                what = self.text[:80]
                self.draft.doubt("unknown_match", f'what "{what}" means is not known here')
                return

    def _without_comment(self, text: str) -> str:
        """The text without its comments, which may hold anything, the end of a comment included."""
        found = re.sub(r"(?:^|(?<=\s))/\* .*? \*/(?=\s|$)", " ", text)
        widest = re.sub(r"/\* .* \*/", " ", text)
        if "*/" in found and text.count("/* ") == 1:
            # One comment, which holds what looks like its end.
            found = widest
        elif found.split() != widest.split():
            # Several, or one that holds what looks like an end and a beginning.
            self.draft.doubt("unknown_match", "where its comment ends cannot be told")
            found = widest
        if "*/" in found or "/*" in found:
            self.draft.doubt("unknown_match", "where its comment ends cannot be told")
            found = re.sub(r"/\*.*\*/", " ", text)
            return "" if "/*" in found or "*/" in found else found.strip()
        return found.strip()


def _ports(field: str) -> Callable[[Draft, re.Match[str]], None]:
    def take(draft: Draft, found: re.Match[str]) -> None:
        draft.ports(field, found["value"], negated=bool(found["not"]))

    return take


def _either(draft: Draft, found: re.Match[str]) -> None:
    if found["not"]:
        draft.ports("source_ports", found["value"], negated=True)
        draft.ports("destination_ports", found["value"], negated=True)
        return
    probe = Draft(chain="")
    probe.ports("destination_ports", found["value"], negated=False)
    draft.doubts += probe.doubts
    draft.either = probe.destination_ports


def _range(field: str) -> Callable[[Draft, re.Match[str]], None]:
    def take(draft: Draft, found: re.Match[str]) -> None:
        draft.narrow(field, parse_prefix(found["value"]), negated=bool(found["not"]))

    return take


def _flags(draft: Draft, found: re.Match[str]) -> None:
    draft.holds(always=flags_match(found["mask"], found["value"]), negated=bool(found["not"]))


def _state(draft: Draft, found: re.Match[str]) -> None:
    draft.state(found["value"], negated=bool(found["not"]))


def _mark(draft: Draft, found: re.Match[str]) -> None:
    draft.mark(found["value"], negated=bool(found["not"]))


def _kind(field: str) -> Callable[[Draft, re.Match[str]], None]:
    def take(draft: Draft, found: re.Match[str]) -> None:
        kinds = of_kinds(found["value"], of_node=field == "destinations")
        draft.narrow(field, kinds, negated=bool(found["not"]))

    return take


def _packet_kind(draft: Draft, found: re.Match[str]) -> None:
    draft.holds(always=found["value"] in {"unicast", "host"}, negated=found["not"] == "!=")


def _always(draft: Draft, found: re.Match[str]) -> None:
    draft.holds(always=True, negated=bool(found["not"]))


def _never(draft: Draft, found: re.Match[str]) -> None:
    draft.holds(always=False, negated=bool(found["not"]))


def _ipset(draft: Draft, found: re.Match[str]) -> None:
    draft.doubt("unknown_set", f'the members of ipset "{found["value"]}" are not shown')


def _rate(draft: Draft, found: re.Match[str]) -> None:
    draft.doubt("rate_limited", f"it holds only up to a rate, or a count ({found[0][:60]})")


def _goto(draft: Draft, _: re.Match[str]) -> None:
    draft.action = Action("goto", draft.action.words, draft.action.words)


def _untrack(draft: Draft, _: re.Match[str]) -> None:
    draft.action = Action("untrack", draft.action.words)


def _nothing(_draft: Draft, _: re.Match[str]) -> None:
    """What a target does with a packet, or what decides nothing."""


_NOT = r"(?P<not>! ?)?"
_END = r"(?=\s|$)"
_RECENT = "(?:seconds|reap|hit_count|TTL-Match|name|side|mask)"
_HASH = r"\S*(?:expire|size|max|gcinterval|srcmask|dstmask)"
_FORMS: tuple[tuple[re.Pattern[str], Callable[[Draft, re.Match[str]], None]], ...] = tuple(
    (re.compile(pattern + _END), take)
    for pattern, take in (
        (r"\[goto\]", _goto),
        (r"(?:tcp|udp|udplite|sctp|dccp)(?= +(?:spt|dpt|flags)|$)", _nothing),
        (rf"dpts?:{_NOT}(?P<value>\S+)", _ports("destination_ports")),
        (rf"spts?:{_NOT}(?P<value>\S+)", _ports("source_ports")),
        (rf"flags:{_NOT}(?P<mask>[^/\s]+)/(?P<value>\S+)", _flags),
        (rf"multiport dports +{_NOT}(?P<value>\S+)", _ports("destination_ports")),
        (rf"multiport sports +{_NOT}(?P<value>\S+)", _ports("source_ports")),
        (rf"multiport ports +{_NOT}(?P<value>\S+)", _either),
        (rf"{_NOT}ctstate (?P<value>\S+)", _state),
        (rf"{_NOT}state (?P<value>[A-Z,]+)", _state),
        (rf"source IP range {_NOT}(?P<value>\S+-\S+)", _range("sources")),
        (rf"destination IP range {_NOT}(?P<value>\S+-\S+)", _range("destinations")),
        (rf"{_NOT}match-set (?P<value>\S+) \S+(?: return-nomatch| counters|!? ?\S*-counters)*", _ipset),
        (rf"(?:conn)?mark match +{_NOT}(?P<value>0x[0-9a-f]+(?:/0x[0-9a-f]+)?)", _mark),
        (rf"ADDRTYPE match dst-type {_NOT}(?P<value>\S+)(?: limit-in)?", _kind("destinations")),
        (rf"ADDRTYPE match src-type {_NOT}(?P<value>\S+)(?: limit-in)?", _kind("sources")),
        (rf"dst-type {_NOT}(?P<value>\S+)(?: limit-in)?", _kind("destinations")),
        (r"PKTTYPE (?P<not>!?=) (?P<value>\S+)", _packet_kind),
        (rf"PHYSDEV match {_NOT}--physdev-\S+(?: (?!--)[^\s\[/]+)?", _never),
        (rf"{_NOT}recent: SET name: \S+(?: side: \S+)?(?: mask: \S+)?", _always),
        (rf"(?:! ?)?recent: (?:UPDATE|CHECK|REMOVE)(?: {_RECENT}:? ?\S*)*", _rate),
        (rf"limit: (?:avg|up to|above) \S+ burst \S+(?: mode \S+)?(?: {_HASH} \S+)*", _rate),
        (r"#conn \S+ [<>]=? \d+", _rate),
        (r"statistic (?:! )?mode \S+(?: probability \S+| every \d+| packet \d+)*", _rate),
        (r"quota:? \S+(?: bytes)?", _rate),
        (r"reject-with \S+", _nothing),
        (r"(?:LOG|ULOG|NFLOG) .*", _nothing),
        (r"(?:nflog-\S+ (?:\"[^\"]*\"|\S+) ?)+", _nothing),
        (r"(?:CONN)?MARK (?:set|xset|and|or|xor|save|restore)\b.*", _nothing),
        (r"CONNMARK .*", _nothing),
        (r"TCPMSS .*", _nothing),
        (r"CT notrack", _untrack),
        (r"CT (?!notrack).*", _nothing),
        (r"AUDIT \S+", _nothing),
        (r"(?:to:|redir ports |TPROXY |NFQUEUE |queue-).*", _nothing),
        (r"add-set .*|del-set .*|map-set .*", _nothing),
        (r"policy match dir in pol none", _nothing),
        (r"(?P<not>)policy match dir in pol ipsec.*", _never),
        (r"(?:ipv6-)?icmp[ -]?\S*(?: type \d+)?(?: code \d+)?.*", _nothing),
    )
)
