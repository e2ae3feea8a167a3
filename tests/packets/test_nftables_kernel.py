"""The nftables engine against the kernel: rulesets that nft loads, and who gets through.

Rulesets are drawn by a seed, which is printed. TUNNELWATCH_NFTABLES_SETS says how many (60), and
TUNNELWATCH_NFTABLES_SEED draws others. Several forms in which nft lists each are judged: none may contradict
the kernel, all have to say the same, and where every match can be known none may be in doubt.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from random import Random

import pytest
from msgspec import structs

from packets.addresses import IntervalSet, parse_port_range, parse_prefix, parse_prefixes
from packets.answers import Answer
from packets.dumps.nftables import read_nftables
from packets.dumps.nftables_rules import Scope, read_rule
from packets.netfilter import Question
from packets.nftables import answer
from tests.kernel import Lab, open_lab, skip_without_namespaces

SETS = int(os.environ.get("TUNNELWATCH_NFTABLES_SETS", "60"))
SEED = os.environ.get("TUNNELWATCH_NFTABLES_SEED", "11")

NODE = {4: "10.240.0.4", 6: "fd00:10:240::4"}
SOURCES = {
    4: ("10.240.0.5", "10.240.0.77", "10.240.0.200", "10.240.1.5", "10.241.3.9", "192.0.2.1"),
    6: ("fd00:10:240::5", "fd00:10:240::8000", "fd00:10:240:1::5", "fd00:10:241::9", "2001:db8::1"),
}
PREFIXES = {
    4: ("10.240.0.0/16", "10.240.0.0/24", "10.240.0.128/25", "10.240.0.5", "10.240.0.60-10.240.0.220"),
    6: ("fd00:10:240::/48", "fd00:10:240::/64", "fd00:10:240::/113", "fd00:10:240::5", "fd00:10:241::/48"),
}
OWN = {
    4: ("10.240.0.4", "10.240.0.0/30", "127.0.0.0/8", "10.240.0.0-10.240.0.3"),
    6: ("fd00:10:240::4", "fd00:9::9", "::1", "fd00:10:240::/120"),
}
PORTS = ("10250", "10000-10300", "22", "443", "1-1024", "10251-65535")
USER = ("kube-firewall", "team", "other_1", "deep")
FAMILIES = {"ip": (4,), "ip6": (6,), "inet": (4, 6), "netdev": (4, 6)}

LISTS = (("-s",), ("-a",), ("-n",), ("-nn",), ("-y",), ("-S",), ("-as",))


def some(chance: Random, values: tuple[str, ...]) -> str:
    """A value, or an anonymous set of some that do not overlap."""
    if chance.random() < 0.6:
        return chance.choice(values)
    plain = [value for value in values if "/" not in value and "-" not in value]
    found = {chance.choice(plain), chance.choice(plain), "4444" if plain[0].isdigit() else plain[-1]}
    return f"{{ {', '.join(sorted(found))} }}"


def unless(chance: Random, share: float = 0.25) -> str:
    """`!= `, now and then."""
    return "!= " if chance.random() < share else ""


class Place:
    """Where a rule stands: what it can say there."""

    def __init__(
        self, chance: Random, family: str, hook: str, priority: int, kind: str, *, doubts: bool
    ) -> None:
        self.chance = chance
        self.family = family
        self.hook = hook
        self.tracked = hook != "ingress" and priority > -200
        self.raw = hook == "prerouting" and priority < -200
        self.doubts = doubts
        self.kind = kind
        self.version = chance.choice(FAMILIES[family])
        """Of IP: a rule is about one, nearly always."""

    def ip(self, v: int) -> str:
        """As nft calls a version of IP."""
        return "ip6" if v == 6 else "ip"

    # What a SYN does not match and a later packet does would cut a connection that has begun.

    def source(self) -> str:
        """Addresses of senders."""
        v, chance = self.version, self.chance
        kind = chance.random()
        if kind < 0.15:
            return f"{self.ip(v)} saddr {unless(chance)}@nets{v}"
        if kind < 0.3:
            return f"{self.ip(v)} saddr {unless(chance)}@hosts{v}"
        if kind < 0.4:
            sign = chance.choice((">", "<", ">=", "<="))
            return f"{self.ip(v)} saddr {sign} {chance.choice(SOURCES[v])}"
        if kind < 0.5 and v == 4:
            return f"ip saddr & 255.255.0.255 == {chance.choice(('10.240.0.5', '10.241.0.9'))}"
        return f"{self.ip(v)} saddr {unless(chance)}{some(chance, PREFIXES[v])}"

    def destination(self) -> str:
        """The node's own address, or none of its."""
        v = self.version
        return f"{self.ip(v)} daddr {unless(self.chance)}{some(self.chance, OWN[v])}"

    def port(self) -> str:
        """Ports of TCP, or of others."""
        chance = self.chance
        kind = chance.random()
        if kind < 0.1:
            return f"th dport {unless(chance)}{some(chance, PORTS)}"
        if kind < 0.15:
            return f"udp dport {unless(chance)}{some(chance, PORTS)}"
        if kind < 0.25:
            sign, port = chance.choice((">=", "<", ">", "<=")), chance.choice(("10250", "1024", "10251"))
            return f"tcp dport {sign} {port}"
        if kind < 0.3:
            return f"@th,16,16 {chance.choice(('10250', '22', '!= 10250', '{ 22, 10250 }'))}"
        if kind < 0.4:
            return f"tcp dport {unless(chance)}@ports"
        if kind < 0.45:
            return f"tcp sport {chance.choice(('1025-65535', '< 1024', '!= 53'))}"
        if kind < 0.5:
            return f"tcp dport & 0xff00 == {chance.choice(('0x2800', '0x2900'))}"
        return f"tcp dport {unless(chance)}{some(chance, PORTS)}"

    def concatenation(self) -> str:
        """Fields together."""
        v, chance = self.version, self.chance
        ip, prefix, source = self.ip(v), chance.choice(PREFIXES[v]), chance.choice(SOURCES[v])
        return chance.choice(
            (
                f"{ip} saddr . tcp dport {unless(chance)}@both{v}",
                f"{ip} saddr . tcp dport {unless(chance)}{{ {source} . 10250, {SOURCES[v][0]} . 22 }}",
                f"{ip} saddr . tcp dport {{ {prefix} . 10000-10300 }}",
                f"{ip} saddr . {ip} daddr {{ {source} . {NODE[v]} }}",
                f"{ip} daddr . meta l4proto . th dport {{ {NODE[v]} . tcp . 10250 }}",
                f"meta l4proto . th dport {unless(chance)}{{ tcp . 10250, udp . 53 }}",
                f'iifname . {ip} saddr {{ "eth0" . {source}, "lo" . {SOURCES[v][-1]} }}',
                f"meta l4proto . {ip} saddr {unless(chance)}{{ udp . {source}, tcp . {SOURCES[v][1]} }}",
            )
        )

    def other(self) -> str:
        """What is the same for all packets of the question, or nearly."""
        chance = self.chance
        found = [
            'iifname "eth0"', 'iifname "eth*"', 'iifname != "eth*"', 'iifname { "eth0", "lo" }', 'iif "lo"',
            'iif "eth0"', 'iif != "lo"', 'iifname "cali*"', "iifname @names",
            "meta l4proto tcp", "meta l4proto != tcp", "meta l4proto { tcp, udp }", "meta l4proto udp",
            "meta protocol ip", "meta pkttype host", "pkttype != host", "pkttype { broadcast, multicast }",
            "tcp flags syn", "tcp flags & (fin|syn|rst|ack) == syn", "tcp flags syn / fin,syn,rst,ack",
            "tcp flags == 0x0", "tcp flags & (fin|syn) == (fin|syn)", "tcp flags != syn",
            "tcp flags fin,psh,urg",
            "tcp flags { syn, syn | ack }", "icmp type echo-request", "icmpv6 type nd-neighbor-solicit",
        ]  # fmt: skip
        if self.family in {"ip", "inet", "netdev"}:
            found += ["ip protocol tcp", "ip protocol != tcp", "ip protocol { udp, 6 }", "ip version 4"]
        if self.family in {"ip6", "inet", "netdev"}:
            found += ["ip6 nexthdr tcp", "ip6 nexthdr { udp, tcp }", "ip6 version 6"]
        if self.family == "inet":
            found += ["meta nfproto ipv4", "meta nfproto ipv6", "meta nfproto != ipv4"]
        if self.hook != "ingress":
            found += [
                "fib daddr type local",
                "fib daddr type != local",
                "fib daddr type { local, broadcast }",
            ]
            found += ["fib saddr type local"]
        if self.tracked:
            # Written so that what a connection is once it has begun is in neither.
            found += [
                "ct state new", "ct state invalid", "ct state related", "ct state new,invalid",
                "ct state { new, untracked }", "ct state != { new, established }", "ct state ! established",
                "ct direction original", "ct status dnat", "ct state & (new|related) != 0",
                "ct state untracked",
            ]  # fmt: skip
        if self.hook == "input":
            found += ['oifname "eth0"', 'oif "lo"']
        return chance.choice(found)

    def doubtful(self) -> str:
        """What hangs on more than the rules."""
        v = self.version
        found = [
            "meta mark 0x1", "meta mark & 0x8000 == 0x8000", "meta mark != 0",
            "limit rate 1/second burst 1 packets", "limit rate over 1/second", "quota over 1 mbytes",
            "numgen random mod 2 0", "@nh,8,8 3",
            "tcp option maxseg size 1-100", "tcp option maxseg exists", "meta length < 50",
            'meta hour "08:00"-"17:00"', f"{self.ip(v)} saddr @seen{v}",
            f"update @seen{v} {{ {self.ip(v)} saddr limit rate over 2/second }}",
            f"meter m{self.chance.randrange(10**6)} {{ {self.ip(v)} saddr limit rate 1/second }}",
            "jhash tcp sport mod 2 1", "symhash mod 2 0", "meta cpu 0",
        ]  # fmt: skip
        found.append("ip ttl < 5" if v == 4 else "ip6 hoplimit < 5")
        if self.hook != "ingress":
            found += ["fib saddr . iif oif missing", "socket transparent 1"]
        if self.tracked:
            found += ["ct mark 0x1", "ct count over 5", "ct zone 1", "ct expiration < 5s", "ct bytes > 100"]
        return self.chance.choice(found)

    def matches(self) -> list[str]:
        """Up to three."""
        draws: tuple[Callable[[], str], ...] = (self.source, self.source, self.port, self.port, self.other)
        draws = (*draws, self.other, self.destination, self.concatenation)
        found = [self.chance.choice(draws)() for _ in range(self.chance.randrange(4))]
        if self.doubts and self.chance.random() < 0.4:
            found.insert(self.chance.randrange(len(found) + 1), self.doubtful())
        return found

    def verdict(self, targets: tuple[str, ...]) -> str:
        """What a rule does in the end."""
        chance = self.chance
        kind = chance.random()
        if targets and kind < 0.25:
            return f"{chance.choice(('jump', 'jump', 'goto'))} {chance.choice(targets)}"
        if kind < 0.35:
            passing = ["counter", "continue", 'log prefix "x drop "', "meta mark set 0x1", 'comment "drop"']
            if self.raw:
                passing += ["notrack", "notrack accept"]
            if self.tracked:
                passing.append("ct mark set meta mark")
            return chance.choice(passing)
        found = [
            "drop",
            "drop",
            "accept",
            "accept",
            "return",
            "counter drop",
            'accept comment "a \'} drop #"',
        ]
        if self.hook == "input":
            found += ["reject", "meta l4proto tcp reject with tcp reset"]
            found += ["reject with icmpx type admin-prohibited"] if self.family == "inet" else []
        return chance.choice(found)

    def map(self, targets: tuple[str, ...]) -> str:
        """A verdict map."""
        v, chance = self.version, self.chance
        one, other, third = (self.short(targets) for _ in range(3))
        ip, source = self.ip(v), chance.choice(SOURCES[v])
        found = [
            f"tcp dport vmap {{ 22 : {one}, 10250 : {other} }}",
            f"tcp dport vmap {{ 22 : {one}, 10000-10300 : {other}, * : {third} }}",
            f"{ip} saddr vmap {{ {source} : {one}, * : {other} }}",
            f"{ip} saddr vmap {{ {chance.choice(PREFIXES[v])} : {one} }}",
            f"{ip} saddr . tcp dport vmap {{ {source} . 10250 : {one}, {source} . 22 : {other} }}",
            f"{ip} daddr . meta l4proto . th dport vmap {{ {NODE[v]} . tcp . 10250 : {one} }}",
            f"meta l4proto vmap {{ tcp : {one}, udp : {other} }}",
            f'iifname vmap {{ "lo" : {one}, "eth0" : {other} }}',
            f"{ip} saddr vmap @map{v}",
            f"{ip} saddr . tcp dport vmap @concat{v}",
            "tcp dport vmap @portmap",
        ]
        if self.family == "inet":
            found.append(f"meta nfproto vmap {{ ipv4 : {one}, ipv6 : {other} }}")
            found.append(f"meta protocol vmap {{ ip : {one}, ip6 : {other} }}")
        if self.tracked:
            found.append(
                f"ct state vmap {{ established : accept, related : accept, new : {one}, invalid : drop }}"
            )
        return chance.choice(found)

    def short(self, targets: tuple[str, ...]) -> str:
        """A verdict in a map."""
        found = ["accept", "drop", "return", "continue", *(f"jump {one}" for one in targets[:1])]
        return self.chance.choice((*found, *(f"goto {one}" for one in targets[1:2])))

    def rule(self, targets: tuple[str, ...]) -> str:
        """A rule."""
        self.version = self.chance.choice(FAMILIES[self.family])
        words = self.matches()
        if self.chance.random() < 0.2:
            # A map stands where a verdict does, with no other after it.
            return " ".join((*words[:2], self.map(targets)))
        if self.kind == "nat" and self.chance.random() < 0.5:
            return " ".join((*words, "meta l4proto tcp", self.chance.choice(("redirect to :22", "redirect"))))
        return " ".join((*words, self.verdict(targets)))


def sets(chance: Random, family: str, targets: tuple[str, ...], place: Place) -> list[str]:
    """Named sets and maps, of every kind."""

    def named(kind: str, name: str, of: str, elements: list[str]) -> str:
        return f"{kind} {name} {{ type {of}; elements = {{ {', '.join(elements)} }} }}"

    def mapped(keys: Iterable[str]) -> list[str]:
        return [f"{key} : {place.short(targets)}" for key in keys]

    spans = chance.choice((("22", "10000-10300"), ("10250",), ("1-10249", "10251-65535")))
    found = [
        named("set", "names", "ifname", ['"lo"', '"eth0"']),
        named("set", "ports", "inet_service", chance.sample(("22", "443", "10250", "8080"), 2)),
        named("map", "portmap", "inet_service : verdict; flags interval", mapped(spans)),
    ]
    for v in FAMILIES[family]:
        kind = "ipv6_addr" if v == 6 else "ipv4_addr"
        hosts = chance.sample(SOURCES[v], chance.randrange(1, 4))
        nets, last = chance.choice(PREFIXES[v]), SOURCES[v][-1]
        both = [f"{nets} . 10000-10300", f"{last} . 22"]
        found += [
            named("set", f"hosts{v}", kind, hosts),
            named("set", f"nets{v}", f"{kind}; flags interval", [nets, last]),
            named("set", f"both{v}", f"{kind} . inet_service; flags interval", both),
            named("map", f"map{v}", f"{kind} : verdict", mapped(hosts)),
            named(
                *("map", f"concat{v}", f"{kind} . inet_service : verdict"),
                mapped(f"{host} . {chance.choice(('10250', '22'))}" for host in hosts),
            ),
            f"set seen{v} {{ type {kind}; size 128; flags dynamic,timeout; timeout 1m; }}",
        ]
    return found


BASES = (
    ("ip", "prerouting", ("raw", "mangle", "-150", "-101")),
    ("ip6", "prerouting", ("raw", "mangle")),
    ("inet", "prerouting", ("raw", "mangle", "filter - 5")),
    ("inet", "input", ("filter", "filter + 10", "mangle", "security", "-1", "filter - 7")),
    ("ip", "input", ("filter", "security", "filter + 1")),
    ("ip6", "input", ("filter", "100", "filter - 2")),
    ("netdev", "ingress", ("0", "filter", "-500")),
    ("inet", "ingress", ("0", "filter - 10")),
)
NAMES = {"raw": -300, "mangle": -150, "filter": 0, "security": 50}


def ruleset(chance: Random, *, doubts: bool) -> str:
    """What `nft -f` takes: a table that filters input, and up to three others."""
    bases: list[tuple[str, str, tuple[str, ...]]] = [("inet", "input", ("filter",))]
    bases += chance.sample(BASES, chance.randrange(4))
    lines = []
    for number, (family, hook, priorities) in enumerate(bases):
        written = chance.choice(priorities)
        name, _, more = written.partition(" ")
        priority = (NAMES[name] if name in NAMES else int(name)) + int(more.replace(" ", "") or 0)
        # NAT sends packets elsewhere.
        kind = "nat" if doubts and hook == "prerouting" and priority > -200 else "filter"
        place = Place(chance, family, hook, priority, kind, doubts=doubts)
        users = USER[: chance.randrange(len(USER) + 1)]
        device = ' device "eth0"' if hook == "ingress" else ""
        policy = "drop" if chance.random() < 0.2 else "accept"
        lines += [f"table {family} t{number} {{"]
        deeper = {user: users[place_of + 1 :] for place_of, user in enumerate(users)}
        lines += [f"chain {user} {{ }}" for user in users]
        # Maps of deeper chains than any that uses them: no circles.
        lines += sets(chance, family, users[-1:], place)
        lines += [
            f"chain {hook} {{ type {kind} hook {hook}{device} priority {written}; policy {policy};",
            *(["ct state established,related accept"] if place.tracked else []),
        ]
        lines += [place.rule(users) for _ in range(chance.randrange(1, 6))]
        lines.append("}")
        for user in users:
            rules = [place.rule(deeper[user]) for _ in range(chance.randrange(1, 5))]
            # The last is where maps lead: it leads nowhere.
            rules = [one for one in rules if user != users[-1] or "vmap @" not in one]
            lines += [f"chain {user} {{", *rules, "}"]
        lines.append("}")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """One lab for all rulesets."""
    skip_without_namespaces("nft")
    with open_lab(tuple(NODE.values())) as made:
        yield made


def judged(text: str, v: int, *, known: bool = True) -> Answer:
    """What the engine says of all sources of a version of IP."""
    question = Question.to_node(
        "tcp",
        parse_port_range("10250"),
        sources=parse_prefixes(SOURCES[v]),
        destinations=parse_prefix(NODE[v]) if known else None,
    )
    # Those that the kernel gives to whoever asks for none.
    packets = structs.replace(question.packets, source_ports=IntervalSet(((1025, 65535),)))
    return answer(read_nftables(text), structs.replace(question, packets=packets))


def verdicts(text: str, *, known: bool = True) -> dict[str, str]:
    """The verdict on each source."""
    found = {}
    for v, sources in SOURCES.items():
        said = judged(text, v, known=known)
        lists = {"allowed": said.allowed, "blocked": said.blocked, "unknown": said.unknown}
        for source in sources:
            one = parse_prefix(source)
            [found[source]] = [name for name, cidrs in lists.items() if cidrs and parse_prefixes(cidrs) & one]
    return found


@pytest.mark.parametrize("doubts", [False, True], ids=["known", "doubtful"])
def test_the_kernel_agrees(lab: Lab, *, doubts: bool) -> None:
    """Every form of every ruleset."""
    print(f"TUNNELWATCH_NFTABLES_SEED={SEED}")  # noqa: T201 - shown where the test fails
    chance = Random(f"{SEED} {doubts}")  # noqa: S311 - the seed is printed
    seen: Counter[str] = Counter()
    for number in range(SETS // 2):
        written = _load(lab, chance, doubts=doubts)
        listed = lab.run("nft", "list", "ruleset").stdout
        v = chance.choice((4, 4, 6))
        through = lab.connects(SOURCES[v], NODE[v])
        said = verdicts(listed)
        for source in SOURCES[v]:
            verdict = said[source]
            seen[verdict] += 1
            told = f"ruleset {number}, {source}: {through[source]}, said {verdict}\n{written}\n{listed}"
            assert verdict != ("blocked" if through[source] else "allowed"), told
            assert doubts or verdict != "unknown", told
        in_json = lab.run("nft", "-j", "list", "ruleset").stdout
        for source, verdict in verdicts(in_json).items():
            # In JSON nft does not say (before 1.0.9) which devices a chain at the hook ingress is about.
            less = "hook ingress" in listed and verdict == "unknown"
            told = f"ruleset {number}, {source}, JSON: {verdict}, not {said[source]}\n{listed}\n{in_json}"
            assert verdict == said[source] or less, told
        for form in chance.sample(LISTS, 3):
            text = lab.run("nft", *form, "list", "ruleset").stdout
            assert verdicts(text) == said, f"ruleset {number}, {form}\n{text}"
        for source, verdict in verdicts(listed, known=False).items():
            told = f"ruleset {number}, {source}, node not given: {verdict}, not {said[source]}\n{listed}"
            assert verdict in {said[source], "unknown"}, told
    assert seen["allowed"]
    assert seen["blocked"]
    assert seen["unknown"] or not doubts


def test_terse_lists(lab: Lab) -> None:
    """`nft -t` leaves out what sets hold: where the command is shown, nothing that hangs on one is told."""
    chance = Random(f"{SEED} terse")  # noqa: S311 - the seed is printed
    for number in range(SETS // 16):
        written = _load(lab, chance, doubts=False)
        listed = lab.run("nft", "-t", "list", "ruleset").stdout
        known = verdicts(lab.run("nft", "list", "ruleset").stdout)
        for source, verdict in verdicts(f"root@node:/# nft -t list ruleset\n{listed}").items():
            assert verdict in {known[source], "unknown"}, f"ruleset {number}, {source}\n{written}\n{listed}"


STATEMENTS = r"""
ip saddr @s drop
ip saddr != @s accept
ip saddr . tcp dport @c drop
ip saddr . tcp dport != @c drop
ip saddr . tcp dport { 10.0.0.1 . 22, 10.0.0.0/8 . 100-200 } counter packets 0 bytes 0 accept comment "x { y"
ip saddr . tcp dport vmap { 10.0.0.1 . 22 : drop }
tcp flags syn / fin,syn,rst,ack drop
tcp flags syn drop
tcp flags == syn drop
tcp flags != syn drop
tcp flags ! syn drop
tcp flags syn,ack drop
tcp flags { syn | ack, syn } drop
tcp flags syn,ack / syn,ack drop
tcp flags != 0x12 drop
ct state new drop
ct state established,new drop
ct state { established, new } drop
ct state != new drop
ct state != established | new drop
ct state ! new drop
ct state ! established,new drop
ct state == new drop
ct state vmap { invalid : drop, established : accept, related : accept, new : continue }
ct status dnat drop
ct status ! snat,dnat drop
ct direction original drop
ct original ip saddr 10.0.0.1 drop
ct mark 0x00000001 drop
ct mark & 0x000000f0 == 0x00000010 drop
meta mark & 0x00008000 == 0x00008000 drop
meta mark 0x00000010 drop
meta mark { 0x00000001-0x00000005 } drop
tcp dport vmap @m
tcp dport vmap { 22 : accept, 80-90 : drop, * : return }
ip daddr . meta l4proto . th dport vmap @cm
th dport 10250 drop
th dport { 22, 10250 } drop
@nh,8,8 0x3 drop
fib daddr type local accept
fib daddr . iif type != { local, broadcast } drop
fib saddr . iif oif missing drop
fib saddr . iif oif 0 drop
fib saddr type local drop
iifname "eth*" accept
iifname { "eth*", "lo" } accept
iifname @ifn accept
iifname != "eth0" accept
iif "eth0" accept
iif "lo" accept
iif { "lo", "eth0" } accept
oifname "eth0" accept
oif != "eth0" accept
meta iiftype ether accept
meta l4proto { tcp, udp } th dport 53 accept
meta l4proto != tcp accept
meta nfproto ipv4 accept
meta protocol ip accept
meta protocol { ip, ip6 } accept
ether type ip accept
ether saddr aa:bb:cc:dd:ee:ff accept
vlan id 5 accept
ip protocol tcp accept
ip protocol { tcp, udp } accept
ip6 nexthdr tcp accept
ip version 4 accept
ip ttl < 5 drop
ip frag-off & 8191 != 0 drop
ip length 100-200 drop
ip dscp cs1 drop
ip saddr & 255.0.255.0 == 10.0.1.0 drop
ip saddr > 10.0.0.1 drop
ip6 saddr fd00::/8 drop
ip6 saddr { fd00::1-fd00::5, fe80::/10 } drop
ip6 daddr != ::1 drop
limit rate over 10/second drop
limit rate 10 mbytes/second drop
limit rate 10/minute log prefix "x drop " level debug flags all
log group 5 snaplen 20 queue-threshold 3
quota over 100 mbytes drop
quota 100 mbytes used 1 mbytes drop
ct count over 20 drop
add @dyn { ip saddr timeout 10s }
update @dyn { ip saddr limit rate over 10/second } drop
ip saddr @dyn drop
meter mm size 100 { ip saddr limit rate over 10/second } drop
numgen random mod 2 0 drop
numgen inc mod 3 vmap { 0 : accept, 1 : drop }
jhash ip saddr . tcp dport mod 2 seed 0x1 vmap { 0 : accept, 1 : drop }
symhash mod 2 0 accept
meta mark set 0x00000005 accept
meta mark set meta mark | 0x00000010
ct mark set meta mark
ip dscp set cs2
tcp option maxseg exists drop
tcp option maxseg size 1-100 drop
reject with icmpx admin-prohibited
meta l4proto tcp reject with tcp reset
ip protocol tcp reject with icmp host-unreachable
reject
notrack
tcp dport != { 22, 80-90 } drop
tcp dport { 22, 80-90 } tcp sport > 1023 drop
tcp dport >= 10250 drop
tcp dport 10000-10300 drop
tcp dport != 10000-10300 drop
tcp dport & 65280 == 10240 drop
icmp type echo-request accept
icmpv6 type { echo-request, nd-neighbor-solicit } accept
udp dport 53 accept
meta pkttype host accept
meta pkttype != host accept
meta skuid 0 accept
meta cgroup 5 accept
meta time > "2025-01-01 00:00:00" drop
meta hour "08:00"-"17:00" drop
meta day "Monday" drop
exthdr frag exists drop
frag more-fragments 1 drop
ip option lsrr exists drop
rt ip nexthop 10.0.0.1 drop
socket transparent 1 drop
continue
meta nftrace set 1
ip saddr 10.0.0.1 ip saddr 10.0.0.2 tcp dport . ip daddr { 1 . 1.1.1.1 } drop
iifname . ip saddr { "eth0" . 10.0.0.1 } drop
ct state . tcp dport { new . 22 } drop
meta mark . tcp dport vmap { 0x00000001 . 22 : drop }
goto x
"""
"""One of nearly every statement that nft(8) knows and that may stand in a chain at the hook input."""

NAMED = """
set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.0.4-192.168.0.9 } }
set c { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/8 . 80-90, 10.240.0.4 . 22 } }
set dyn { type ipv4_addr; flags dynamic,timeout; timeout 1m; size 100; }
set el { type ipv4_addr; counter; flags timeout; elements = { 1.1.1.1 timeout 1h comment "a, b" } }
set ifn { type ifname; elements = { "eth0", "lo" } }
map m { type inet_service : verdict; elements = { 22 : accept, 10250 : jump x, * : continue } }
map cm { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.0.0.1 . tcp . 80 : goto x } }
chain x { }
"""


def test_every_statement_is_read_the_same_from_text_and_from_json(lab: Lab) -> None:
    """Any that the kernel has a module for, and none of them is left as words that are not known."""
    statements = STATEMENTS.strip().split("\n")
    head = "type filter hook input priority filter; policy accept;"
    lines = ["table inet t {", *NAMED.strip().split("\n"), f"chain input {{ {head} ", *statements, "}", "}"]
    _loaded(lab, lines)
    [text] = read_nftables(lab.run("nft", "-a", "list", "ruleset").stdout).tables
    [other] = read_nftables(lab.run("nft", "-j", "list", "ruleset").stdout).tables
    chain, twin = text.chains["input"], other.chains["input"]
    assert chain.base == twin.base
    assert len(chain.read()) == len(twin.read()) > len(statements) * 0.9
    for v, sources in SOURCES.items():
        for protocol in ("tcp", "udp"):
            question = Question.to_node(
                protocol,
                parse_port_range("10250"),
                sources=parse_prefixes(sources),
                destinations=parse_prefix(NODE[v]),
            )
            for one, same in zip(chain.read(), twin.read(), strict=True):
                assert one.handle == same.handle
                assert not [each for each in one.statements if "unknown" in each], one.text
                found = read_rule(one, 1, Scope(text, "input", question))
                expected = read_rule(same, 1, Scope(other, "input", question))
                assert [structs.replace(rule, text="") for rule in found] == [
                    structs.replace(rule, text="") for rule in expected
                ], f"{one.text}\n{same.text}"


KUBE_PROXY = """
table ip kube-proxy {
    comment "rules for kube-proxy"

    set cluster-ips {
        type ipv4_addr
        comment "Active ClusterIPs"
        elements = { 172.30.0.41, 172.30.0.42 }
    }

    set nodeport-ips {
        type ipv4_addr
        comment "IPs that accept NodePort traffic"
        elements = { 10.240.0.4 }
    }

    map no-endpoint-services {
        type ipv4_addr . inet_proto . inet_service : verdict
        comment "vmap to drop or reject packets to services with no endpoints"
        elements = { 172.30.0.43 . tcp . 80 : goto reject-chain,
                    10.240.0.4 . tcp . 9100 : goto reject-chain }
    }

    map no-endpoint-nodeports {
        type inet_proto . inet_service : verdict
        elements = { tcp . 3001 : goto reject-chain }
    }

    map firewall-ips {
        type ipv4_addr . inet_proto . inet_service : verdict
    }

    map service-ips {
        type ipv4_addr . inet_proto . inet_service : verdict
        elements = { 172.30.0.41 . tcp . 80 : goto service-ULMVA6XW-ns1/svc1/tcp/p80,
                    172.30.0.42 . tcp . 10250 : goto service-ULMVA6XW-ns1/svc1/tcp/p80 }
    }

    map service-nodeports {
        type inet_proto . inet_service : verdict
        elements = { tcp . 3002 : goto service-ULMVA6XW-ns1/svc1/tcp/p80 }
    }

    chain filter-prerouting {
        type filter hook prerouting priority dstnat - 10; policy accept;
        ct state new jump firewall-check
    }

    chain filter-input {
        type filter hook input priority -110; policy accept;
        ct state new jump nodeport-endpoints-check
        ct state new jump service-endpoints-check
    }

    chain nat-prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        jump services
    }

    chain nodeport-endpoints-check {
        ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports
    }

    chain service-endpoints-check {
        ip daddr . meta l4proto . th dport vmap @no-endpoint-services
    }

    chain firewall-check {
        ip daddr . meta l4proto . th dport vmap @firewall-ips
    }

    chain services {
        ip daddr . meta l4proto . th dport vmap @service-ips
        ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
    }

    chain reject-chain {
        reject
    }

    chain mark-for-masquerade {
        meta mark set meta mark | 0x00004000
    }

    chain service-ULMVA6XW-ns1/svc1/tcp/p80 {
        ip daddr 172.30.0.41 tcp dport 80 ip saddr != 10.244.0.0/16 jump mark-for-masquerade
        numgen random mod 1 vmap { 0 : goto endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.244.0.1/80 }
    }

    chain endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.244.0.1/80 {
        ip saddr 10.244.0.1 jump mark-for-masquerade
        meta l4proto tcp dnat to 10.244.0.1:80
    }
}
"""
"""As kube-proxy's mode nftables sets it up (kubernetes, pkg/proxy/nftables)."""


@pytest.mark.parametrize(
    ("port", "known", "verdict"),
    [
        # The kubelet's, a service's on another address, a node port without endpoints, one with some.
        ("10250", True, "allowed"),
        ("9100", True, "blocked"),
        ("3001", True, "blocked"),
        ("3002", True, "unknown"),
        ("22", False, "allowed"),
        ("9100", False, "unknown"),
    ],
)
def test_kube_proxy(lab: Lab, port: str, verdict: str, *, known: bool) -> None:
    """What kube-proxy sets up, as the kernel takes and lists it, in text and in JSON."""
    lab.run("nft", "-f", "-", given=f"flush ruleset\n{KUBE_PROXY}")
    for form in ((), ("-a",), ("-j",), ("-nn",)):
        listed = lab.run("nft", *form, "list", "ruleset").stdout
        question = Question.to_node(
            "tcp",
            parse_port_range(port),
            sources=parse_prefixes(SOURCES[4]),
            destinations=parse_prefix(NODE[4]) if known else None,
        )
        assert answer(read_nftables(listed), question).outcome == verdict, listed


def _load(lab: Lab, chance: Random, *, doubts: bool) -> str:
    """Load a ruleset in the place of all others; lines that nft or the kernel refuses are left out."""
    return _loaded(lab, ruleset(chance, doubts=doubts).split("\n"))


def _loaded(lab: Lab, lines: list[str]) -> str:
    for _ in range(40):
        done = lab.run("nft", "-f", "-", given="\n".join(["flush ruleset", *lines]), check=False)
        if not done.returncode:
            return "\n".join(lines)
        refused = {
            int(one.split(":")[1]) - 2 for one in done.stderr.split("\n") if one.startswith("/dev/stdin:")
        }
        assert refused, done.stderr
        for line in refused:
            # Rules may go; never what holds others.
            assert not lines[line].startswith(("table", "chain", "}", "set", "map")), (
                f"{lines[line]}\n{done.stderr}"
            )
            lines[line] = ""
    raise AssertionError(f"nft takes nothing:\n{done.stderr}")
