"""The iptables engine against the kernel: rules that iptables loads, and who gets through.

Rule sets are drawn by a seed, which is printed. TUNNELWATCH_IPTABLES_SETS says how many (100), and
TUNNELWATCH_IPTABLES_SEED draws others. Every form in which iptables prints the rules is judged: none may
contradict the kernel, and iptables-save has to know wherever it can be known.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random

import pytest
from msgspec import structs

from packets.addresses import IntervalSet, parse_port_range, parse_prefix, parse_prefixes
from packets.answers import Answer
from packets.dumps.iptables import read_iptables
from packets.iptables import answer, delete_commands, evaluate
from packets.netfilter import Question
from tests.kernel import Lab, open_lab, skip_without_namespaces

SETS = int(os.environ.get("TUNNELWATCH_IPTABLES_SETS", "100"))
SEED = os.environ.get("TUNNELWATCH_IPTABLES_SEED", "102")

NODE = ("10.240.0.4", "fd00:10:240::4")
SOURCES = {
    4: ("10.240.0.5", "10.240.0.77", "10.240.0.200", "10.240.1.5", "10.241.3.9", "192.0.2.1"),
    6: ("fd00:10:240::5", "fd00:10:240::8000", "fd00:10:240:1::5", "fd00:10:241::9", "2001:db8::1"),
}
PREFIXES = {
    4: ("10.240.0.0/16", "10.240.0.0/24", "10.240.0.128/25", "10.240.0.5", "10.240.0.64/255.255.255.192"),
    6: ("fd00:10:240::/48", "fd00:10:240::/64", "fd00:10:240::/113", "fd00:10:240::5", "fd00:10:241::/48"),
}
OWN = {
    4: ("10.240.0.4", "10.240.0.0/30", "10.240.0.0/29", "127.0.0.0/8"),
    6: ("fd00:10:240::4", "fd00:9::9", "::1"),
}
RANGES = {4: "10.240.0.60-10.240.0.220", 6: "fd00:10:240::1-fd00:10:240::ff"}
PORTS = ("10250", "10000:10300", "22", "443", ":1024", "10251:", "10250:10250")
USER = ("KUBE-FIREWALL", "team", "OTHER-1", "deep")

Draw = Callable[[Random, int], str]


def _negate(chance: Random, text: str, share: float = 0.2) -> str:
    return f"! {text}" if chance.random() < share else text


def _of(option: str, *values: str, negate: float = 0.2) -> Draw:
    """An option with one of some values."""
    return lambda chance, _: _negate(chance, f"{option} {chance.choice(values)}", negate)


def _with(head: str, draw: Draw) -> Draw:
    return lambda chance, v: f"{head} {draw(chance, v)}"


# What a SYN does not match and a later packet does would cut a connection that has begun: not the question.
KNOWN: tuple[Draw, ...] = (
    lambda chance, v: _negate(chance, f"-s {chance.choice(PREFIXES[v])}"),
    lambda chance, v: _negate(chance, f"-d {chance.choice(OWN[v])}"),
    _of("-i", "lo", "eth0", "eth+", "cali+", "docker0"),
    _of("-p", "udp", "17", "sctp", "esp"),
    _with("-p tcp -m tcp", _of("--dport", *PORTS)),
    _with("-p tcp -m tcp", _of("--dport", *PORTS)),
    _with("-p tcp -m tcp", _of("--sport", "1:65535", negate=0.1)),
    _with("-p tcp -m multiport", _of("--dports", "22,10250", "80,443", "1:1000,10249:10251")),
    _with("-p tcp -m multiport", _of("--ports", "22,10250", "80,443")),
    lambda chance, v: f"-m iprange {_negate(chance, f'--src-range {RANGES[v]}')}",
    _with("-m conntrack", _of("--ctstate", "INVALID", "RELATED", "DNAT", "RELATED,INVALID")),
    _with("-m conntrack", _of("--ctstate", "NEW", "NEW,UNTRACKED", negate=0)),
    _with("-m conntrack", _of("--ctstate", "RELATED,ESTABLISHED,DNAT", negate=1)),
    _with("-m state", _of("--state", "NEW", negate=0)),
    _with("-p tcp -m tcp", _of("--tcp-flags", "FIN,SYN,RST,ACK SYN", "SYN SYN", negate=0)),
    _with("-p tcp -m tcp", _of("--tcp-flags", "ALL NONE", "SYN,FIN SYN,FIN", "ALL ALL")),
    _with("-m addrtype", _of("--dst-type", "LOCAL", "BROADCAST", "MULTICAST")),
    _with("-m addrtype", _of("--src-type", "LOCAL", "UNICAST")),
    _with("-m pkttype", _of("--pkt-type", "unicast", "broadcast")),
    _of(
        "-m comment --comment",
        *('"team-g traffic -j DROP"', '"a \\"quoted\\" word"', '"it\'s */ odd"', "plain"),
        negate=0,
    ),
    lambda *_: "-m recent --set --name r --rsource",
)
"""Matches whose outcome the rule tells."""
DOUBTFUL: tuple[Draw, ...] = (
    _with("-m mark", _of("--mark", "0x1", "0x8000/0x8000")),
    lambda chance, v: f"-m set {_negate(chance, f'--match-set set{v} src')}",
    lambda *_: "-m limit --limit 1/sec --limit-burst 1",
    lambda *_: "-m hashlimit --hashlimit-upto 1/sec --hashlimit-name h --hashlimit-mode srcip",
    lambda *_: "-m connlimit --connlimit-above 1",
    lambda *_: "-m recent --update --seconds 60 --hitcount 2 --name r --rsource",
    lambda *_: "-m statistic --mode nth --every 2 --packet 0",
    lambda *_: "-m length --length 0:50",
)
"""Matches whose outcome hangs on what no rule says."""
FINAL = ("DROP", "DROP", "ACCEPT", "ACCEPT", "REJECT", "RETURN", "REJECT --reject-with tcp-reset")
PASSING = ('LOG --log-prefix "a -j DROP"', "MARK --set-xmark 0x1/0xffffffff", "", "NFLOG", "CT --notrack")


def rule(chance: Random, v: int, table: str, chain: str, targets: tuple[str, ...], *, doubts: bool) -> str:
    """A rule of up to three matches."""
    draws = [chance.choice(KNOWN) for _ in range(chance.randrange(4))]
    if doubts and chance.random() < 0.4:
        draws.append(chance.choice(DOUBTFUL))
    words = [draw(chance, v) for draw in draws]
    protocols = [word for word in words if "-p " in word]
    words = [word for word in words if "-p " not in word] + protocols[:1]
    words.sort(key=lambda word: "-p " not in word)
    addresses = [word for word in words if word.lstrip("! ").startswith(("-s", "-d", "-i"))]
    once = {word.lstrip("! ")[:2]: word for word in addresses}
    words = [word for word in words if word not in addresses] + list(once.values())
    kind = chance.random()
    if kind < 0.2 and targets:
        target = f"{chance.choice(('-j', '-j', '-g'))} {chance.choice(targets)}"
    elif kind < 0.35:
        passing = chance.choice(PASSING)
        if "CT" in passing and table != "raw":
            passing = "LOG"
        target = f"-j {passing}" if passing else ""
    else:
        final = chance.choice(FINAL)
        if "REJECT" in final and table != "filter":
            final = "DROP"
        if "tcp-reset" in final and "-p tcp" not in " ".join(words):
            final = "REJECT"
        if "tcp-reset" in final and "! -p tcp" in " ".join(words):
            final = "REJECT"
        target = f"-j {final}"
    return " ".join(("-A", chain, *words, target)).strip()


def rule_set(chance: Random, v: int, *, doubts: bool) -> str:
    """What `iptables-restore` takes: filter, and at times raw and mangle."""
    tables: list[tuple[str, tuple[str, ...]]] = [("filter", ("INPUT",))]
    if chance.random() < 0.3:
        tables.append(("raw", ("PREROUTING",)))
    if chance.random() < 0.3:
        tables.append(("mangle", ("PREROUTING", "INPUT")))
    lines = []
    for table, bases in tables:
        users = USER[: chance.randrange(len(USER) + 1)]
        lines.append(f"*{table}")
        for base in bases:
            policy = "DROP" if table == "filter" and chance.random() < 0.3 else "ACCEPT"
            lines.append(f":{base} {policy} [0:0]")
        lines += [f":{user} - [0:0]" for user in users]
        if table == "filter":
            # As real firewalls have it: what comes after the first packet is not the question.
            lines.append("-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
        for chain, deeper in [
            *((base, users) for base in bases),
            *((users[i], users[i + 1 :]) for i in range(len(users))),
        ]:
            lines += [
                rule(chance, v, table, chain, deeper, doubts=doubts) for _ in range(chance.randrange(1, 5))
            ]
        lines.append("COMMIT")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """One lab for all rule sets; ipsets with one member each."""
    skip_without_namespaces("iptables", "ip6tables", "ipset")
    with open_lab(NODE) as made:
        # Without -n iptables asks for the names of addresses, and there is nobody to ask.
        quiet = (
            "echo 'hosts: files' >/run/nsswitch.conf && mount --bind /run/nsswitch.conf /etc/nsswitch.conf"
        )
        made.run("sh", "-c", quiet)
        made.run("ipset", "create", "set4", "hash:net")
        made.run("ipset", "add", "set4", "10.240.0.0/24")
        made.run("ipset", "create", "set6", "hash:net", "family", "inet6")
        made.run("ipset", "add", "set6", "fd00:10:240::/64")
        yield made


def judged(text: str, v: int, *, known: bool = True) -> Answer:
    """What the engine says of all sources."""
    question = Question.to_node(
        "tcp",
        parse_port_range("10250"),
        sources=parse_prefixes(SOURCES[v]),
        destinations=parse_prefix(NODE[v == 6]) if known else None,
    )
    # Those that the kernel gives to whoever asks for none.
    packets = structs.replace(question.packets, source_ports=IntervalSet(((1025, 65535),)))
    question = structs.replace(question, packets=packets)
    return answer(read_iptables(text, family="ip6" if v == 6 else "ip"), question)


def verdicts(said: Answer, v: int) -> dict[str, str]:
    """The verdict on each source."""
    lists = {"allowed": said.allowed, "blocked": said.blocked, "unknown": said.unknown}
    found = {}
    for source in SOURCES[v]:
        one = parse_prefix(source)
        [found[source]] = [name for name, cidrs in lists.items() if cidrs and parse_prefixes(cidrs) & one]
    return found


FORMS = (
    ("-S",),
    ("-L",),
    ("-L", "-n"),
    ("-L", "-v"),
    ("-L", "-n", "-v", "--line-numbers"),
    ("--list", "--line-numbers"),
    ("-L", "INPUT", "-v", "-n"),
    ("-S", "INPUT"),
)


@pytest.mark.parametrize("doubts", [False, True], ids=["known", "doubtful"])
@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_the_kernel_agrees(lab: Lab, backend: str, *, doubts: bool) -> None:
    """Every form of every rule set."""
    print(f"TUNNELWATCH_IPTABLES_SEED={SEED}")  # noqa: T201 - shown where the test fails
    chance = Random(f"{SEED} {backend} {doubts}")  # noqa: S311 - the seed is printed
    seen: Counter[str] = Counter()
    for number in range(SETS // 4):
        v = 6 if chance.random() < 0.3 else 4
        tool = f"ip{'6' * (v == 6)}tables-{backend}"
        rules = _load(lab, tool, chance, v, doubts=doubts)
        saved = lab.run(f"{tool}-save").stdout
        through = lab.connects(SOURCES[v], NODE[v == 6])
        said = verdicts(judged(saved, v), v)
        for source, verdict in said.items():
            seen[verdict] += 1
            told = f"set {number}, {source} gets through: {through[source]}, said {verdict}\n{rules}"
            assert verdict != ("blocked" if through[source] else "allowed"), told
            assert doubts or verdict != "unknown", told
        assert verdicts(judged(rules, v), v) == said, "what was loaded, and what was saved"
        for form in FORMS:
            listed = lab.run(tool, *form).stdout
            # A list shows one table: what others drop, it cannot know.
            if "*raw" in rules or "*mangle" in rules or _hides(rules, form):
                continue
            for source, verdict in verdicts(judged(listed, v), v).items():
                told = f"set {number}, {form}, {source}: {through[source]}, said {verdict}\n{rules}\n{listed}"
                assert verdict == "unknown" or (verdict == "allowed") is through[source], told
                if {"-n", "-v"} <= {*form} and "INPUT" not in form and not doubts:
                    assert verdict == said[source], told
    assert seen["allowed"]
    assert seen["blocked"]


def _cuts(rules: str) -> bool:
    """Whether the first packet may go untracked, and a later one be taken for the first: not the question."""
    raw = rules.partition("*raw")[2].partition("COMMIT")[0]
    passing = ("--tcp-flags", "statistic", "limit", "recent --update", "length")
    return "--notrack" in raw and any(match in raw for match in passing)


def _hides(rules: str, form: tuple[str, ...]) -> bool:
    """Whether a form leaves out the interface of a rule that names a port, and so is taken as it stands."""
    hidden = not {"-v", "-S"} & {*form}
    return hidden and any("-i " in line and "port" in line for line in rules.splitlines())


def _load(lab: Lab, tool: str, chance: Random, v: int, *, doubts: bool) -> str:
    """Load a rule set in the place of all others of all tables; one that the kernel refuses is drawn anew."""
    _clear(lab)
    for _ in range(50):
        rules = rule_set(chance, v, doubts=doubts)
        if _cuts(rules):
            continue
        if lab.run(f"{tool}-restore", given=rules, check=False).returncode == 0:
            return rules
        # What it refuses in one table it may have taken in another.
        _clear(lab, tool)
    raise AssertionError("the kernel takes nothing")


EMPTY = "".join(
    f"*{table}\n" + "".join(f":{chain} ACCEPT [0:0]\n" for chain in chains) + "COMMIT\n"
    for table, chains in (
        ("raw", ("PREROUTING", "OUTPUT")),
        ("mangle", ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")),
        ("filter", ("INPUT", "FORWARD", "OUTPUT")),
    )
)


# --- matches, one by one ---------------------------------------------------------------------------

SINGLE = (
    *("-i eth0", "! -i eth0", "! -i lo", "-p all", "! -p tcp", "-p 6", "-f", "! -f"),
    *(f"-m conntrack {sign}--ctstatus {status}" for sign in ("", "! ") for status in ("NONE", "CONFIRMED")),
    *("-m conntrack --ctdir ORIGINAL", "-m conntrack --ctdir REPLY", "-m conntrack ! --ctstate SNAT,NEW"),
    *("-p tcp -m conntrack --ctproto 6 --ctorigdstport 10250", "-p tcp -m conntrack ! --ctorigdstport 10250"),
    *(
        f"-m addrtype {sign}--{side}-type {kinds}"
        for sign in ("", "! ")
        for side in ("src", "dst")
        for kinds in ("LOCAL", "UNICAST", "UNICAST,LOCAL", "LOCAL,MULTICAST", "ANYCAST,UNICAST", "UNSPEC")
    ),
    "-m addrtype --dst-type LOCAL --limit-iface-in",
    *("-m physdev --physdev-is-in", "-m physdev ! --physdev-in eth9", "-m physdev ! --physdev-is-bridged"),
    *("-m pkttype --pkt-type unicast", "-m policy --dir in --pol none", "-m policy --dir in --pol ipsec"),
    *("-m recent --set --name q", "-m recent ! --set --name q", "-p tcp ! --syn", "-p tcp --syn"),
    *("-p tcp ! --tcp-flags ALL SYN", "-p tcp --tcp-flags SYN,ACK SYN", "-p tcp --tcp-flags ALL NONE"),
    *("-p tcp --dport 10250:", "-p tcp ! --dport :10249", "-p tcp -m multiport ! --ports 1:1000"),
)
"""Matches whose outcome is known, each of which decides alone."""


@pytest.mark.parametrize("backend", ["nft", "legacy"])
@pytest.mark.parametrize("v", [4, 6])
def test_each_match(lab: Lab, backend: str, v: int) -> None:
    """A rule with one match alone drops exactly if the engine says so, whether or not the node is known."""
    _clear(lab)
    tool = f"ip{'6' * (v == 6)}tables-{backend}"
    tried = 0
    for match in SINGLE:
        lab.run(tool, "-F", "INPUT")
        if lab.run(tool, "-A", "INPUT", *match.split(), "-j", "DROP", check=False).returncode:
            continue
        tried += 1
        source = SOURCES[v][0]
        through = lab.connects([source], NODE[v == 6])[source]
        wanted = "allowed" if through else "blocked"
        saved = lab.run(f"{tool}-save").stdout
        assert {verdicts(judged(saved, v, known=known), v)[source] for known in (True, False)} == {wanted}, (
            match
        )
        listed = verdicts(judged(lab.run(tool, "-L", "-v", "-n").stdout, v), v)[source]
        assert listed in {wanted, "unknown"}, match
        assert listed == wanted or "ctstat" in match or "--ctdir" in match or "--ctorig" in match, match
    lab.run(tool, "-F", "INPUT")
    assert tried > len(SINGLE) / 2


# --- rules taken away ------------------------------------------------------------------------------

TURNED_AWAY = (
    "-s 10.240.0.0/16 -p tcp --dport 10250 -j DROP",
    "-s 10.240.0.0/16 -p tcp --dport 10250 -j REJECT",
    "-p tcp --dport 10250 -j REJECT --reject-with tcp-reset",
    "! -s 192.0.2.77 -p tcp ! --dport 22 -j DROP",
    "-p tcp -m multiport --dports 22,10250 -j DROP",
    "-p tcp -m multiport ! --dports 22,443 -j DROP",
    '-p tcp -m comment --comment "team-g traffic -j ACCEPT" -j DROP',
    '-p tcp -m comment --comment "-j" -m conntrack --ctstate NEW -j DROP',
    "-m comment --comment -s -p tcp -j DROP",
    r"""-m comment --comment "it's a \"quoted\" \\ word; $(reboot)" -j DROP""",
    "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP",
    "-i eth0 -m addrtype --dst-type LOCAL -j DROP",
    "-m iprange --src-range 10.240.0.0-10.241.0.0 -j DROP",
    "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
)


@pytest.mark.parametrize("tool", ["iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize("table", ["filter", "mangle"])
def test_rules_are_taken_away(lab: Lab, tool: str, table: str) -> None:
    """Both commands take away the rule that turned a source away: that one, of others much like it."""
    _clear(lab)
    for rule in TURNED_AWAY:
        if table == "mangle" and "REJECT" in rule:
            continue
        _taken_away(lab, tool, table, rule, "10.240.0.5")


@pytest.mark.parametrize("tool", ["ip6tables-nft", "ip6tables-legacy"])
def test_rules_of_ipv6_are_taken_away(lab: Lab, tool: str) -> None:
    """The same of ip6tables, by its own name."""
    _clear(lab)
    for rule in (
        "-s fd00:10:240::/64 -p tcp --dport 10250 -j DROP",
        "-j REJECT --reject-with icmp6-adm-prohibited",
    ):
        _taken_away(lab, tool, "filter", rule, "fd00:10:240::5")


def _taken_away(lab: Lab, tool: str, table: str, rule: str, source: str) -> None:
    v = 6 if ":" in source else 4
    others = ("-p udp -j DROP", f"-s {source} -p tcp --dport 22 -j DROP", "-p tcp -j team")
    after = ("-p tcp --dport 10250 -j ACCEPT", "-m comment --comment later -j ACCEPT")
    lines = (*others, rule, *after)
    rules = "".join(f"-A INPUT {line}\n" for line in lines)
    loaded = f"*{table}\n:INPUT ACCEPT [0:0]\n:team - [0:0]\n{rules}COMMIT\n"
    dumps = (f"{tool}-save",), (tool, "-t", table, "-S", "-v")
    for dump in dumps:
        _clear(lab, tool)
        lab.run(f"{tool}-restore", given=loaded)
        read = read_iptables(lab.run(*dump).stdout, family="ip6" if v == 6 else "ip")
        before = lab.run(tool, "-t", table, "-S", "INPUT").stdout.splitlines()
        [where] = {one.rule for one in evaluate(read, _question(source, v)) if one.verdict == "denied"}
        assert (where.chain, where.number) == ("INPUT", 4)
        # `-S` does not say which table it shows.
        commands = delete_commands(structs.replace(where, table=table), tool=tool)
        assert not lab.connects([source], NODE[v == 6])[source], rule
        for command in commands:
            lab.run(f"{tool}-restore", given=loaded)
            lab.run("sh", "-c", command)
            assert lab.run(tool, "-t", table, "-S", "INPUT").stdout.splitlines() == before[:4] + before[5:]
            assert lab.connects([source], NODE[v == 6])[source], rule


def test_a_policy_is_set(lab: Lab) -> None:
    """A policy that drops is set to let packets in."""
    _clear(lab)
    lab.run("iptables-nft", "-P", "INPUT", "DROP")
    dumps = read_iptables(lab.run("iptables-nft-save").stdout)
    [where] = {one.rule for one in evaluate(dumps, _question("10.240.0.5", 4)) if one.verdict == "denied"}
    assert delete_commands(where) == ("iptables --policy INPUT ACCEPT",)
    lab.run("sh", "-c", delete_commands(where, tool="iptables-nft")[0])
    assert lab.connects(["10.240.0.5"], NODE[0])["10.240.0.5"]


def _question(source: str, v: int) -> Question:
    return Question.to_node(
        "tcp",
        parse_port_range("10250"),
        sources=parse_prefix(source),
        destinations=parse_prefix(NODE[v == 6]),
    )


def _clear(lab: Lab, *tools: str) -> None:
    """No rules of anybody's, or none of some tools'."""
    for tool in tools or ("iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"):
        lab.run(f"{tool}-restore", given=EMPTY)
