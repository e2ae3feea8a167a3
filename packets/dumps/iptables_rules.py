"""One rule of iptables, as `iptables-save` and `iptables -S` write it: options, to what they match and do.

    -A INPUT -s 10.240.0.0/16 -p tcp -m tcp --dport 10250 -m comment --comment "no kubelet" -j DROP

What the options mean is in iptables(8) and iptables-extensions(8). The rule is asked about the first packet
of a connection from another machine: a match that no such packet can have makes it `never`, one that every
such packet has is left out, and one that cannot be known from the rule is a doubt.
"""

import re
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from msgspec import Struct, structs

from packets.addresses import (
    EVERY_ADDRESS,
    EVERY_PORT,
    IPV4,
    IPV6,
    Interval,
    IntervalSet,
    parse_prefix,
    union,
)
from packets.decisions import Doubt
from packets.netfilter import Action, Interface, Kind, Rule

PROTOCOLS = {
    "0": "all",
    "1": "icmp",
    "2": "igmp",
    "4": "ipencap",
    "6": "tcp",
    "17": "udp",
    "33": "dccp",
    "41": "ipv6",
    "47": "gre",
    "50": "esp",
    "51": "ah",
    "58": "icmpv6",
    "ipv6-icmp": "icmpv6",
    "132": "sctp",
    "136": "udplite",
}
"""Numbers and other names of protocols (/etc/protocols)."""

PORTS = {
    "ftp": 21,
    "ssh": 22,
    "telnet": 23,
    "smtp": 25,
    "domain": 53,
    "bootps": 67,
    "bootpc": 68,
    "tftp": 69,
    "gopher": 70,
    "finger": 79,
    "http": 80,
    "kerberos": 88,
    "pop3": 110,
    "sunrpc": 111,
    "ntp": 123,
    "netbios-ns": 137,
    "netbios-dgm": 138,
    "netbios-ssn": 139,
    "imap2": 143,
    "snmp": 161,
    "snmp-trap": 162,
    "bgp": 179,
    "ldap": 389,
    "https": 443,
    "microsoft-ds": 445,
    "submissions": 465,
    "isakmp": 500,
    "syslog": 514,
    "submission": 587,
    "ldaps": 636,
    "domain-s": 853,
    "rsync": 873,
    "ftps": 990,
    "imaps": 993,
    "pop3s": 995,
    "socks": 1080,
    "openvpn": 1194,
    "ms-sql-s": 1433,
    "ms-sql-m": 1434,
    "nfs": 2049,
    "mysql": 3306,
    "ms-wbt-server": 3389,
    "postgresql": 5432,
    "amqp": 5672,
    "x11": 6000,
    "http-alt": 8080,
    "webmin": 10000,
    "zabbix-agent": 10050,
    "zabbix-trapper": 10051,
}
"""Services by the names that iptables prints without `-n` (/etc/services of Ubuntu and Debian)."""

_ACTIONS: dict[str, Kind] = {
    "ACCEPT": "accept",
    "DROP": "drop",
    "REJECT": "drop",
    "RETURN": "return",
    "NOTRACK": "untrack",
    **dict.fromkeys(
        (
            *(
                "LOG",
                "ULOG",
                "NFLOG",
                "AUDIT",
                "TRACE",
                "MARK",
                "CONNMARK",
                "SECMARK",
                "CONNSECMARK",
                "CLASSIFY",
            ),
            *(
                "TCPMSS",
                "TCPOPTSTRIP",
                "DSCP",
                "TOS",
                "ECN",
                "TTL",
                "HL",
                "CHECKSUM",
                "CT",
                "SET",
                "TEE",
                "LED",
            ),
            *("IDLETIMER", "RATEEST", "HMARK", "ACCOUNT"),
        ),
        "continue",
    ),
}
"""Targets, and what they come to. All others that are no chains may do anything: NFQUEUE and QUEUE leave it
to a program, DNAT, REDIRECT, NETMAP and TPROXY send the packet elsewhere, and of others nobody knows."""

_RATE = "it holds only up to a rate, or a count"
_STATES = frozenset({"new", "established", "related", "invalid", "untracked"})

SET_DROPPED = ("KUBE-FIREWALL", 0x8000, 0x8000)
"""Where the kubelet drops packets that bear a mark, which mark, and its mask. Kubernetes sets it, in
KUBE-MARK-DROP, on packets to the address of a service, and never on those to a node's kubelet
(https://kubernetes.io/blog/2022/09/07/iptables-chains-not-api/)."""
_SETS = re.compile(r"MARK (?:--set-x?mark|--or-mark|--xor-mark|x?set|or|xor) (?P<value>\w+)")
_RESTORES = re.compile(r"CONNMARK (?:--restore-mark|restore)(?:.*(?:--nfmask|--mask|mask) (?P<mask>\w+))?")


def may_mark(line: str) -> bool:
    """Whether a rule, saved or listed, may set the mark of `SET_DROPPED`; Kubernetes' own aside."""
    if "MARK " not in line or line.startswith("-A KUBE-MARK-DROP "):
        return False
    if sets := _SETS.search(line):
        value = number(sets["value"])
        return value is None or bool(value & SET_DROPPED[1])
    if restores := _RESTORES.search(line):
        mask = number(restores["mask"] or "0xffffffff")
        return mask is None or bool(mask & SET_DROPPED[1])
    return False


class Draft(Struct):
    """A rule while it is being read."""

    chain: str
    protocols: frozenset[str] | None = None
    other_protocols: frozenset[str] = frozenset()
    sources: IntervalSet = EVERY_ADDRESS
    source_ports: IntervalSet = EVERY_PORT
    destinations: IntervalSet = EVERY_ADDRESS
    destination_ports: IntervalSet = EVERY_PORT
    interfaces: tuple[Interface, ...] = ()
    states: frozenset[str] | None = None
    never: bool = False
    doubts: list[Doubt] = []
    tracked: bool = False
    """Whether it asks for what only a connection that is tracked has."""
    either: IntervalSet | None = None
    """Ports of which the source or the destination has to have one (`multiport --ports`)."""
    action: Action = Action("continue", "")

    def doubt(self, code: str, why: str) -> None:
        """Nobody can tell whether it matches."""
        self.doubts.append(Doubt(code, why))

    def holds(self, *, always: bool, negated: bool) -> None:
        """Take a match that holds always, or never, of such a packet."""
        if always is negated:
            self.never = True

    def protocol(self, written: str, *, negated: bool) -> None:
        """`-p tcp`, `! -p 17`."""
        name = PROTOCOLS.get(written.lower(), written.lower())
        if name == "all":
            self.holds(always=True, negated=negated)
        elif negated:
            self.other_protocols |= {name}
        else:
            self.protocols = frozenset({name}) & (self.protocols or frozenset({name}))

    def state(self, written: str, *, negated: bool) -> None:
        """`NEW,ESTABLISHED`: a packet has one of these, translated addresses besides."""
        names = {name.strip().lower() for name in written.split(",")}
        # DNAT and SNAT are of packets that were sent elsewhere, which this one was not.
        states = frozenset(names & _STATES)
        if unknown := names - _STATES - {"dnat", "snat"}:
            self.doubt("unknown_state", f"which connections are {', '.join(sorted(unknown))} is not known")
            return
        if negated:
            states = _STATES - states
        self.states = states if self.states is None else self.states & states

    def narrow(self, field: str, found: IntervalSet, *, negated: bool) -> None:
        """Take a match of addresses or ports."""
        every = EVERY_PORT if field.endswith("ports") else EVERY_ADDRESS
        known = getattr(self, field)
        found = every - found if negated else found
        setattr(self, field, found if known is every else known & found)

    def address(self, field: str, written: str, *, negated: bool) -> None:
        """`10.0.0.0/8`, `10.0.0.1,10.0.0.2`, or a name, of which nobody knows what it stands for."""
        try:
            found = union(map(address, written.split(","))) if "," in written else address(written)
        except ValueError:
            self.doubt("unknown_name", f'it is not known which addresses "{written}" stands for')
        else:
            self.narrow(field, found, negated=negated)

    def ports(self, field: str, written: str, *, negated: bool) -> None:
        """`10250`, `1:1024`, `ssh`; several with commas."""
        try:
            found = ports(written)
        except ValueError:
            self.doubt("unknown_name", f'it is not known which port "{written}" is')
        else:
            self.narrow(field, found, negated=negated)

    def mark(self, written: str, *, negated: bool) -> None:
        """`0x8000/0x8000`."""
        value, _, mask = written.partition("/")
        if not negated and (self.chain, number(value), number(mask or "0xffffffff")) == SET_DROPPED:
            self.never = True
        else:
            self.doubt("unknown_mark", f"whether a packet bears the mark {written} is not in the rules")

    def rules(self, count: int, text: str) -> tuple[Rule, ...]:
        """The rule, as one or two that together match what it does."""
        if self.tracked and self.states is None and not self.never:
            self.states = _STATES - {"untracked"}
        elif self.tracked and self.states is not None and "untracked" in self.states:
            # Of what is untracked the kernel asks for nothing else (net/netfilter/xt_conntrack.c).
            self.doubt("unknown_state", "it asks for more than the state of what may be untracked")
            return (Rule(number=count, text=text, action=self.action, doubts=tuple(self.doubts)),)
        made = Rule(
            number=count,
            text=text,
            action=self.action,
            protocols=self.protocols,
            other_protocols=self.other_protocols,
            sources=self.sources,
            source_ports=self.source_ports,
            destinations=self.destinations,
            destination_ports=self.destination_ports,
            interfaces=self.interfaces,
            states=self.states,
            never=self.never,
            doubts=tuple(self.doubts),
        )
        if self.either is None:
            return (made,)
        return (
            structs.replace(made, destination_ports=made.destination_ports & self.either),
            structs.replace(made, source_ports=made.source_ports & self.either),
        )


def read_rule(
    words: Sequence[str], chain: str, count: int, text: str, chains: Container[str]
) -> tuple[Rule, ...]:
    """The rule that some words make up, after `-A CHAIN`; raises `ValueError` for words that are none.

    `chains` are the chains of its table, which a target may name.
    """
    return _Reader(Draft(chain=chain), words, chains).read().rules(count, text)


def address(written: str) -> IntervalSet:
    """`10.0.0.0/8`, `10.0.0.1/255.255.255.0`, `fd00::/8`; raises `ValueError`, for a mask with holes too."""
    base, _, mask = written.strip().partition("/")
    if "." in mask:
        bits = parse_prefix(mask).intervals[0][0]
        length = 32 - ((1 << 32) - 1 - bits).bit_length()
        if bits != ((1 << 32) - 1) ^ ((1 << (32 - length)) - 1):
            raise ValueError(f"a mask with holes: {written}")
        written = f"{base}/{length}"
    return parse_prefix(written)


def ports(written: str) -> IntervalSet:
    """`80,443:445`, `ssh`, `:1024`; raises `ValueError` for a name that is not known, and for `300:100`."""
    found: list[Interval] = []
    for part in written.split(","):
        first, colon, last = part.partition(":")
        low = port(first) if first or not colon else 0
        high = (port(last) if last else 65535) if colon else low
        if low > high:
            raise ValueError(f"not a range of ports: {part}")
        found.append((low, high))
    return IntervalSet.of(found)


def port(written: str) -> int:
    """A number, or the name of a service."""
    if written.isdecimal() and int(written) <= 65535:
        return int(written)
    if written.lower() in PORTS:
        return PORTS[written.lower()]
    raise ValueError(f"not a port: {written}")


def number(written: str) -> int | None:
    """A number in any base, as marks are written."""
    try:
        return int(written, 0)
    except ValueError:
        return None


def target(name: str, chains: Container[str], options: Sequence[str] = ()) -> Action:
    """What `-j NAME` comes to."""
    if name in chains:
        return Action("jump", name, name)
    if name == "CT" and "--notrack" in options:
        return Action("untrack", name)
    return Action(_ACTIONS.get(name, "unknown"), name)


def flags_match(mask: str, wanted: str) -> bool:
    """Whether the flags of a SYN alone satisfy `--tcp-flags MASK WANTED`."""
    every = {"FIN", "SYN", "RST", "PSH", "ACK", "URG"}

    def read(written: str) -> set[str]:
        if (value := number(written)) is not None:
            order = ("FIN", "SYN", "RST", "PSH", "ACK", "URG")
            return {flag for bit, flag in enumerate(order) if value >> bit & 1}
        found = {flag.upper() for flag in written.split(",")}
        return every if "ALL" in found else found & every

    return {"SYN"} & read(mask) == read(wanted)


class _Reader:
    """Goes through the words of one rule."""

    def __init__(self, draft: Draft, words: Sequence[str], chains: Container[str]) -> None:
        self.draft = draft
        self.words = words
        self.at = 0
        self.module = ""
        self.protocol = ""
        self.negated = False
        self.chains = chains

    def read(self) -> Draft:
        """The draft, with all that the words say."""
        while self.at < len(self.words):
            word = self.take()
            if word == "!":
                self.negated = not self.negated
                continue
            if word in _JUMPS:
                self.target(word)
                break
            handler = (
                _OPTIONS.get(word)
                or _OF_MODULE.get((self.module, word))
                # `-p tcp` brings its options with it, as people write them.
                or _OF_MODULE.get((self.protocol, word))
            )
            if handler is not None:
                handler(self)
            elif word.startswith("-"):
                self.unknown(word)
            elif not self.negated:
                raise ValueError(f"not understood at {word[:60]!r}")
            self.negated = False
        return self.draft

    def take(self) -> str:
        """The next word; raises `ValueError` at the end."""
        if self.at >= len(self.words):
            raise ValueError("ends in the middle of an option")
        self.at += 1
        return self.words[self.at - 1]

    def has_options(self) -> bool:
        """Whether what follows a module's name are options of its own."""
        following = next((word for word in self.words[self.at : self.at + 2] if word != "!"), "-j")
        return following not in _OPTIONS and following not in _JUMPS

    def rest(self) -> list[str]:
        """The values that follow, up to the next option."""
        found = []
        while self.at < len(self.words) and not (
            self.words[self.at] == "!"
            or (self.words[self.at].startswith("-") and len(self.words[self.at]) > 1)
        ):
            found.append(self.take())
        return found

    def value(self) -> str:
        """The value of an option, `!` before it as old versions wrote it."""
        word = self.take()
        if word == "!":
            self.negated = not self.negated
            word = self.take()
        return word

    def target(self, option: str) -> None:
        """`-j DROP`, `-g CHAIN`, with the target's own options, which are the rest."""
        name = self.take()
        options = self.words[self.at :]
        action = target(name, self.chains, options)
        if option in {"-g", "--goto"}:
            action = Action("goto", name, name)
        self.draft.action = action

    def unknown(self, option: str) -> None:
        """An option that nobody knows here, or whose outcome the rule does not tell."""
        said = " ".join((option, *self.rest()))
        if self.module in _ALWAYS:
            return
        code, why = _DOUBTS.get(self.module, ("unknown_match", ""))
        words = (
            why or f'whether "{f"-m {self.module} " if self.module else ""}{said}" matches is not known here'
        )
        if not any(doubt.code == code and doubt.why == words for doubt in self.draft.doubts):
            self.draft.doubt(code, words)


def _module(reader: _Reader) -> None:
    reader.module = name = reader.take()
    if name in _DOUBTS:
        reader.draft.doubt(*_DOUBTS[name])
    elif name not in _MODULES and not reader.has_options():
        # Some match without any option: `-m eui64`, `-m frag`.
        reader.draft.doubt("unknown_match", f'whether "-m {name}" matches is not known here')


def _address(field: str) -> Callable[[_Reader], None]:
    def take(reader: _Reader) -> None:
        written = reader.value()
        reader.draft.address(field, written, negated=reader.negated)

    return take


def _range(field: str) -> Callable[[_Reader], None]:
    def take(reader: _Reader) -> None:
        written = reader.value()
        reader.draft.narrow(field, parse_prefix(written), negated=reader.negated)

    return take


def _ports(field: str) -> Callable[[_Reader], None]:
    def take(reader: _Reader) -> None:
        written = reader.value()
        reader.draft.ports(field, written, negated=reader.negated)

    return take


def _either(reader: _Reader) -> None:
    written = reader.value()
    try:
        found = ports(written)
    except ValueError:
        reader.draft.doubt("unknown_name", f'it is not known which port "{written}" is')
        return
    if reader.negated:
        reader.draft.narrow("source_ports", found, negated=True)
        reader.draft.narrow("destination_ports", found, negated=True)
    else:
        reader.draft.either = found if reader.draft.either is None else reader.draft.either & found


def _protocol(reader: _Reader) -> None:
    written = reader.value()
    reader.draft.protocol(written, negated=reader.negated)
    reader.protocol = PROTOCOLS.get(written.lower(), written.lower())


def _in_interface(reader: _Reader) -> None:
    written = reader.value()
    reader.draft.interfaces += (Interface(written, reader.negated),)


def _never(reader: _Reader) -> None:
    """A match of something that a packet from outside to the node itself has not."""
    reader.rest()
    reader.draft.holds(always=False, negated=reader.negated)


def _always(reader: _Reader) -> None:
    """A match of something that it has."""
    reader.rest()
    reader.draft.holds(always=True, negated=reader.negated)


def _nothing(reader: _Reader) -> None:
    """Words that match nothing: counters, comments."""
    reader.rest()


def _value(reader: _Reader) -> None:
    """A value that matches nothing, whatever it looks like."""
    reader.take()


def _flags(reader: _Reader) -> None:
    mask, wanted = reader.value(), reader.take()
    reader.draft.holds(always=flags_match(mask, wanted), negated=reader.negated)


def _state(reader: _Reader) -> None:
    written = reader.value()
    reader.draft.state(written, negated=reader.negated)


def _tracked(take: Callable[[_Reader], None]) -> Callable[[_Reader], None]:
    def taken(reader: _Reader) -> None:
        take(reader)
        reader.draft.tracked = True

    return taken


def _status(reader: _Reader) -> None:
    """A connection that begins has none but what a helper expects; NONE is no bit, and never matches."""
    names = set(reader.value().upper().split(","))
    if "EXPECTED" in names:
        reader.draft.doubt("unknown_state", "whether connection tracking expects the connection is not known")
    else:
        reader.draft.holds(always=False, negated=reader.negated)


def _direction(reader: _Reader) -> None:
    reader.draft.holds(always=reader.value().upper() == "ORIGINAL", negated=reader.negated)


def _ipset(reader: _Reader) -> None:
    name = reader.value()
    reader.rest()
    reader.draft.doubt("unknown_set", f'the members of ipset "{name}" are not shown')


def _mark(reader: _Reader) -> None:
    written = reader.value()
    reader.draft.mark(written, negated=reader.negated)


def _recent_set(reader: _Reader) -> None:
    reader.draft.holds(always=True, negated=reader.negated)


def _rate(reader: _Reader) -> None:
    reader.rest()
    if not any(doubt.code == "rate_limited" for doubt in reader.draft.doubts):
        reader.draft.doubt("rate_limited", _RATE)


def of_kinds(written: str, *, of_node: bool) -> IntervalSet:
    """The families in which an address of the node (LOCAL), or another machine's (UNICAST), is of some kinds.

    IPv4 has one kind for each address, of which the list has to name it. IPv6 has several, and tests first
    what the address is and then where its route leads (net/netfilter/xt_addrtype.c).
    """
    kinds = {kind.strip().upper() for kind in written.split(",")}
    found = [IPV4] if ("LOCAL" if of_node else "UNICAST") in kinds else []
    routed = kinds & {"LOCAL", "ANYCAST", "UNREACHABLE"}
    if not kinds & {"UNSPEC", "MULTICAST"} and (
        of_node and "LOCAL" in kinds if routed else "UNICAST" in kinds
    ):
        found.append(IPV6)
    return union(found)


def _destination_kind(reader: _Reader) -> None:
    found = of_kinds(reader.value(), of_node=True)
    reader.draft.narrow("destinations", found, negated=reader.negated)


def _source_kind(reader: _Reader) -> None:
    found = of_kinds(reader.value(), of_node=False)
    reader.draft.narrow("sources", found, negated=reader.negated)


def _packet_kind(reader: _Reader) -> None:
    reader.draft.holds(always=reader.value().lower() in {"unicast", "host"}, negated=reader.negated)


def _ipsec(reader: _Reader) -> None:
    """Packets of the tunnel come in the clear."""
    reader.draft.holds(always=reader.value().lower() == "none", negated=reader.negated)


def _of(modules: str, handlers: Mapping[str, Callable[[_Reader], None]]) -> dict[tuple[str, str], Any]:
    return {(module, option): handler for module in modules.split() for option, handler in handlers.items()}


_OPTIONS: dict[str, Callable[[_Reader], None]] = {
    **dict.fromkeys(("-p", "--protocol", "--proto"), _protocol),
    **dict.fromkeys(("-s", "--source", "--src"), _address("sources")),
    **dict.fromkeys(("-d", "--destination", "--dst"), _address("destinations")),
    **dict.fromkeys(("-i", "--in-interface"), _in_interface),
    # A packet that comes in to the node goes out nowhere.
    **dict.fromkeys(("-o", "--out-interface"), _never),
    # Later fragments have no TCP header, and the first packet of a connection is not cut.
    **dict.fromkeys(("-f", "--fragment"), _never),
    **dict.fromkeys(("-m", "--match"), _module),
    **dict.fromkeys(("-c", "--set-counters", "-4", "-6", "--ipv4", "--ipv6"), _nothing),
}
_OF_MODULE: dict[tuple[str, str], Callable[[_Reader], None]] = {
    **_of(
        "tcp udp udplite sctp dccp",
        {
            **dict.fromkeys(("--sport", "--source-port"), _ports("source_ports")),
            **dict.fromkeys(("--dport", "--destination-port"), _ports("destination_ports")),
        },
    ),
    **_of("tcp", {"--tcp-flags": _flags, "--syn": _always}),
    **_of(
        "multiport",
        {
            **dict.fromkeys(("--sports", "--sport", "--source-ports"), _ports("source_ports")),
            **dict.fromkeys(("--dports", "--dport", "--destination-ports"), _ports("destination_ports")),
            **dict.fromkeys(("--ports", "--port"), _either),
        },
    ),
    **_of("iprange", {"--src-range": _range("sources"), "--dst-range": _range("destinations")}),
    **_of(
        "conntrack",
        {
            "--ctstate": _state,
            "--ctstatus": _tracked(_status),
            "--ctdir": _tracked(_direction),
            "--ctproto": _tracked(_protocol),
            "--ctorigsrc": _tracked(_address("sources")),
            "--ctorigdst": _tracked(_address("destinations")),
            "--ctorigsrcport": _tracked(_ports("source_ports")),
            "--ctorigdstport": _tracked(_ports("destination_ports")),
        },
    ),
    **_of("state", {"--state": _state}),
    **_of("set", {"--match-set": _ipset, "--set": _ipset}),
    **_of("mark connmark", {"--mark": _mark}),
    **_of("recent", {"--set": _recent_set, "--update": _rate, "--rcheck": _rate, "--remove": _rate}),
    **_of(
        "addrtype",
        {"--dst-type": _destination_kind, "--src-type": _source_kind, "--limit-iface-in": _nothing},
    ),
    **_of("comment", {"--comment": _value}),
    # What is looked for may look like an option; that it is looked for is a doubt already.
    **_of("string", {"--string": _value, "--hex-string": _value}),
    # Nodes talk to each other by an interface that is no port of a bridge.
    **_of("physdev", dict.fromkeys(("--physdev-in", "--physdev-out"), _never)),
    **_of("physdev", dict.fromkeys(("--physdev-is-in", "--physdev-is-out", "--physdev-is-bridged"), _never)),
    **_of("pkttype", {"--pkt-type": _packet_kind}),
    **_of("policy", {"--pol": _ipsec, "--dir": _nothing, "--strict": _nothing}),
    # Only packets that the node itself sends have an owner.
    **_of("owner", dict.fromkeys(("--uid-owner", "--gid-owner", "--socket-exists"), _never)),
}
_ALWAYS = frozenset({"recent", "nfacct"})
"""Modules whose other options decide nothing."""
_MODULES = _ALWAYS.union(module for module, _ in _OF_MODULE)
_JUMPS = frozenset({"-j", "--jump", "-g", "--goto"})
_DOUBTS = {
    **dict.fromkeys(
        ("limit", "hashlimit", "connlimit", "connbytes", "quota", "statistic", "rateest", "connrate"),
        ("rate_limited", _RATE),
    ),
    "time": ("unknown_match", "it holds at some times only"),
    "rpfilter": ("unknown_match", "whether the node would answer by the same way is not in the rules"),
    "socket": ("unknown_match", "whether a socket takes the packet is not in the rules"),
    "bpf": ("unknown_match", "what its program matches is not known"),
    "u32": ("unknown_match", "what bytes the packet has there is not known"),
    "string": ("unknown_match", "what the packet holds is not known"),
}
"""What a module's match hangs on, where that is not in the rules."""
