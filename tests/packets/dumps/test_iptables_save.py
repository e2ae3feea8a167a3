"""What iptables-save and `iptables -S` print, read: rules by their words, tables by their lines."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from packets.addresses import EVERY_ADDRESS, IntervalSet, parse_prefix, parse_prefixes
from packets.dumps.iptables import IptablesDump, read_iptables
from packets.dumps.iptables_rules import read_rule
from packets.dumps.iptables_save import words
from packets.netfilter import Action, Interface, Rule

HEAD = "*filter\n:INPUT DROP [0:0]\n:team - [0:0]\n"
TEN = parse_prefix("10.240.0.0/16")


def rules(*lines: str) -> tuple[Rule, ...]:
    """The rules of INPUT."""
    [dump] = read_iptables(HEAD + "".join(f"-A INPUT {line}\n" for line in lines) + "COMMIT\n")
    return tuple(dump.tables["filter"].chains["INPUT"].rules)


def port(low: int, high: int | None = None) -> IntervalSet:
    """A port, or a range."""
    return IntervalSet(((low, low if high is None else high),))


# --- one rule --------------------------------------------------------------------------------------

DROP = Action("drop", "DROP")
TCP = frozenset({"tcp"})
FIELDS: dict[str, dict[str, object]] = {
    "-j DROP": {},
    "-s 10.240.0.0/16 -j DROP": {"sources": TEN},
    "! -s 10.240.0.0/16 -j DROP": {"sources": EVERY_ADDRESS - TEN},
    "-s 10.240.0.0/255.255.0.0 -j DROP": {"sources": TEN},
    "-s ! 10.240.0.0/16 -j DROP": {"sources": EVERY_ADDRESS - TEN},
    "-s 10.240.0.0/17,10.240.128.0/17 -j DROP": {"sources": TEN},
    "-d 10.240.0.0/16 -j DROP": {"destinations": TEN},
    "--source 10.240.0.0/16 --destination 10.240.0.0/16 --jump DROP": {"sources": TEN, "destinations": TEN},
    "-m iprange --src-range 10.240.0.0-10.240.255.255 -j DROP": {"sources": TEN},
    "-m iprange ! --dst-range 10.240.0.0-10.240.255.255 -j DROP": {"destinations": EVERY_ADDRESS - TEN},
    "-p tcp -j DROP": {"protocols": TCP},
    "-p 6 -j DROP": {"protocols": TCP},
    "-p all -j DROP": {},
    "! -p tcp -j DROP": {"other_protocols": TCP},
    "! -p all -j DROP": {"never": True},
    "-p tcp -m tcp --dport 10250 -j DROP": {"protocols": TCP, "destination_ports": port(10250)},
    "-p tcp --dport 10250 -j DROP": {"protocols": TCP, "destination_ports": port(10250)},
    "-p tcp -m tcp --dport 1024: -j DROP": {"protocols": TCP, "destination_ports": port(1024, 65535)},
    "-p tcp -m tcp --sport :1023 -j DROP": {"protocols": TCP, "source_ports": port(0, 1023)},
    "-p tcp -m tcp ! --dport 22 -j DROP": {
        "protocols": TCP,
        "destination_ports": port(0, 65535) - port(22),
    },
    "-p tcp -m multiport --dports ssh,10000:10300 -j DROP": {
        "protocols": TCP,
        "destination_ports": port(22) | port(10000, 10300),
    },
    "-p tcp -m multiport ! --ports 22 -j DROP": {
        "protocols": TCP,
        "source_ports": port(0, 65535) - port(22),
        "destination_ports": port(0, 65535) - port(22),
    },
    "-i eth0 -j DROP": {"interfaces": (Interface("eth0"),)},
    "! -i cali+ -j DROP": {"interfaces": (Interface("cali+", negated=True),)},
    "-o eth0 -j DROP": {"never": True},
    "! -o eth0 -j DROP": {},
    "-m conntrack --ctstate RELATED,ESTABLISHED -j DROP": {"states": frozenset({"related", "established"})},
    "-m state --state NEW -j DROP": {"states": frozenset({"new"})},
    "-m conntrack ! --ctstate NEW,DNAT -j DROP": {
        "states": frozenset({"established", "related", "invalid", "untracked"})
    },
    "-m conntrack --ctstatus NONE -j DROP": {"never": True},
    "-m conntrack --ctdir REPLY -j DROP": {"never": True},
    "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP": {"protocols": TCP},
    "-p tcp -m tcp --tcp-flags FIN,SYN FIN,SYN -j DROP": {"protocols": TCP, "never": True},
    "-p tcp -m tcp ! --tcp-flags FIN,SYN FIN,SYN -j DROP": {"protocols": TCP},
    "-p tcp ! --syn -j DROP": {"protocols": TCP, "never": True},
    "-m addrtype --dst-type LOCAL -j DROP": {},
    "-m pkttype --pkt-type broadcast -j DROP": {"never": True},
    "-m physdev --physdev-in veth1 -j DROP": {"never": True},
    "-m recent --set --name x --mask 255.255.255.255 --rsource -j DROP": {},
    '-m comment --comment "-s 10.0.0.0/8 -j ACCEPT" -j DROP': {},
    "-m comment --comment -j -j DROP": {},
    "-c 12 345 -j DROP": {},
    "-j REJECT --reject-with icmp-port-unreachable": {"action": Action("drop", "REJECT")},
    "-j team": {"action": Action("jump", "team", "team")},
    "-g team": {"action": Action("goto", "team", "team")},
    "-j other": {"action": Action("unknown", "other")},
    "-j CT --notrack": {"action": Action("untrack", "CT")},
    "-j CT --helper ftp": {"action": Action("continue", "CT")},
    '-j LOG --log-prefix "-j DROP "': {"action": Action("continue", "LOG")},
    "-j DNAT --to-destination 10.0.0.1:1": {"action": Action("unknown", "DNAT")},
    "-j NFQUEUE --queue-num 1 --queue-bypass": {"action": Action("unknown", "NFQUEUE")},
    "-s 10.240.0.0/16": {"sources": TEN, "action": Action("continue", "")},
}


@pytest.mark.parametrize(("line", "fields"), FIELDS.items(), ids=FIELDS)
def test_rules(line: str, fields: dict[str, object]) -> None:
    """The rule in all its fields; what is not told is as in one that matches everything."""
    everything = Rule(number=1, text=f"-A INPUT {line}", action=DROP)
    assert rules(line) == (structs.replace(everything, **fields),)


def test_either_port() -> None:
    """Ports of which either side may have one are two rules of one number."""
    found = rules("-p tcp -m multiport --ports 22,443 -j DROP")
    both = port(22) | port(443)
    assert [(one.number, one.source_ports, one.destination_ports) for one in found] == [
        (1, port(0, 65535), both),
        (1, both, port(0, 65535)),
    ]


DOUBTS = {
    "-m set --match-set nodes src -j DROP": "unknown_set",
    "-m set ! --match-set nodes src,src -j DROP": "unknown_set",
    "-m mark --mark 0x8000/0x8000 -j DROP": "unknown_mark",
    "-m connmark ! --mark 0x1 -j DROP": "unknown_mark",
    "-m limit --limit 5/min --limit-burst 7 -j DROP": "rate_limited",
    "-m hashlimit --hashlimit-upto 1/sec --hashlimit-name h -j DROP": "rate_limited",
    "-m connlimit --connlimit-above 3 --connlimit-mask 32 --connlimit-saddr -j DROP": "rate_limited",
    "-m recent --rcheck --seconds 60 --name x --rsource -j DROP": "rate_limited",
    "-m recent ! --update --name x -j DROP": "rate_limited",
    "-m statistic --mode nth --every 2 --packet 0 -j DROP": "rate_limited",
    "-m quota --quota 100 -j DROP": "rate_limited",
    "-m time --timestart 01:00:00 -j DROP": "unknown_match",
    "-m bpf --object-pinned /sys/fs/bpf/x -j DROP": "unknown_match",
    '-m u32 --u32 "0x0=0x0" -j DROP': "unknown_match",
    '-m string --string "-j DROP" --algo bm -j DROP': "unknown_match",
    "-m rpfilter --invert -j DROP": "unknown_match",
    "-m socket --transparent -j DROP": "unknown_match",
    "-m length --length 0:100 -j DROP": "unknown_match",
    "-m ttl ! --ttl-eq 5 -j DROP": "unknown_match",
    "-m mac --mac-source 00:0d:3a:00:00:01 -j DROP": "unknown_match",
    "-p tcp -m tcp --tcp-option 5 -j DROP": "unknown_match",
    "-m nobody --knows this -j DROP": "unknown_match",
    "--something -j DROP": "unknown_match",
    "-s node-1.example.com -j DROP": "unknown_name",
    "-s 10.0.0.1/255.0.0.255 -j DROP": "unknown_name",
    "-p tcp -m tcp --dport kubelet -j DROP": "unknown_name",
    "-m conntrack --ctstatus EXPECTED -j DROP": "unknown_state",
}


@pytest.mark.parametrize(("line", "code"), DOUBTS.items(), ids=DOUBTS)
def test_doubts(line: str, code: str) -> None:
    """A match that nobody can tell the outcome of is a doubt, with a reason; never left out, nor never."""
    [rule] = rules(line)
    assert (rule.never, rule.action.words) == (False, "DROP")
    assert [doubt.code for doubt in rule.doubts] == [code]
    assert all(doubt.why for doubt in rule.doubts)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("-s", "rule INPUT 1 cannot be read, ends in the middle of an option"),
        ("-j", "ends in the middle"),
        ("tcp -j DROP", "not understood at 'tcp'"),
        ("-m iprange --src-range here -j DROP", "not an address, CIDR or range: 'here'"),
    ],
)
def test_what_is_no_rule(line: str, says: str) -> None:
    """The error says what, and which line."""
    with pytest.raises(ValueError, match="rule INPUT 1 cannot be read") as raised:
        rules(line)
    assert says in str(raised.value)
    assert f"-A INPUT {line}" in str(raised.value)


# --- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-A INPUT  -j\tDROP", ["-A", "INPUT", "-j", "DROP"]),
        ('--comment "team-g traffic" -j A', ["--comment", "team-g traffic", "-j", "A"]),
        (r'--comment "a \"b\" \\ it\'s" -j A', ["--comment", 'a "b" \\ it\'s', "-j", "A"]),
        ('--comment "" -j A', ["--comment", "", "-j", "A"]),
        ('--comment "two\nlines" -j A', ["--comment", "two\nlines", "-j", "A"]),
        ("--comment it's -j A", ["--comment", "it's", "-j", "A"]),
    ],
)
def test_words(line: str, expected: list[str]) -> None:
    """As a shell would have them, for what iptables-save quotes."""
    assert words(line) == expected


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8), max_size=6))
def test_words_come_back(some: list[str]) -> None:
    """Whatever iptables-save quotes is read as it was."""

    def quoted(word: str) -> str:
        return '"' + "".join(f"\\{letter}" if letter in "\"\\'" else letter for letter in word) + '"'

    assert words(" ".join(map(quoted, some))) == some


# --- tables ----------------------------------------------------------------------------------------

RULE = "-A INPUT -s 10.240.0.0/16 -j DROP\n"


def told(dumps: tuple[IptablesDump, ...]) -> list[tuple[str, dict[str, list[str]]]]:
    """Family and chains of each dump, by table."""
    return [
        (dump.family, {name: sorted(table.chains) for name, table in dump.tables.items()}) for dump in dumps
    ]


FORMS = {
    "save": (f"{HEAD}{RULE}COMMIT\n", [("ip", {"filter": ["INPUT", "team"]})]),
    "without COMMIT": (f"{HEAD}{RULE}", [("ip", {"filter": ["INPUT", "team"]})]),
    "with counters": (f"{HEAD}[12:345] {RULE}COMMIT\n", [("ip", {"filter": ["INPUT", "team"]})]),
    "indented": (
        "".join(f"  {line}\n" for line in f"{HEAD}{RULE}COMMIT".splitlines()),
        [("ip", {"filter": ["INPUT", "team"]})],
    ),
    "two tables": (
        f"*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n{HEAD}COMMIT\n",
        [("ip", {"nat": ["PREROUTING"], "filter": ["INPUT", "team"]})],
    ),
    "two dumps": (
        f"{HEAD}COMMIT\n{HEAD}COMMIT\n",
        [("ip", {"filter": ["INPUT", "team"]}), ("ip", {"filter": ["INPUT", "team"]})],
    ),
    "ip6tables-save": (
        f"# Generated by ip6tables-save v1.8.9 on Tue Nov 24 08:00:00 2026\n{HEAD}COMMIT\n",
        [("ip6", {"filter": ["INPUT", "team"]})],
    ),
    "ip6tables-nft-save": (
        f"# Generated by ip6tables-nft-save v1.8.9 (nf_tables) on Tue Nov 24 08:00:00 2026\n{HEAD}COMMIT\n",
        [("ip6", {"filter": ["INPUT", "team"]})],
    ),
    "told by its addresses": (
        f"{HEAD}-A INPUT -s fd00::/8 -j DROP\nCOMMIT\n",
        [("ip6", {"filter": ["INPUT", "team"]})],
    ),
    "addresses in a comment": (
        f'{HEAD}-A INPUT -m comment --comment "not fd00::/8 -j DROP" -j DROP\nCOMMIT\n',
        [("ip", {"filter": ["INPUT", "team"]})],
    ),
    "-S": (f"-P INPUT ACCEPT\n-N team\n{RULE}", [("ip", {"filter": ["INPUT", "team"]})]),
    "-S of one chain": (f"-P INPUT ACCEPT\n{RULE}", [("ip", {"filter": ["INPUT"]})]),
    "-S -v": (
        f"-P INPUT ACCEPT -c 0 0\n{RULE.replace(' -j', ' -c 1 2 -j')}",
        [("ip", {"filter": ["INPUT"]})],
    ),
    "-S of two families": (
        f"# iptables -S\n-P INPUT ACCEPT\n{RULE}# ip6tables -S\n-P INPUT ACCEPT\n",
        [("ip", {"filter": ["INPUT"]}), ("ip6", {"filter": ["INPUT"]})],
    ),
    "-S after -S": (
        "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT\n-P INPUT DROP\n-P FORWARD ACCEPT\n",
        [("ip", {"filter": ["FORWARD", "INPUT", "OUTPUT"]}), ("ip", {"filter": ["FORWARD", "INPUT"]})],
    ),
    "-S of another table": (
        "# iptables -S INPUT\n-P INPUT ACCEPT\nroot@node:/# iptables -t mangle -S INPUT\n-P INPUT DROP\n",
        [("ip", {"filter": ["INPUT"]}), ("ip", {"mangle": ["INPUT"]})],
    ),
    "-S after save": (
        f"{HEAD}COMMIT\n*nat\n:INPUT ACCEPT [0:0]\nCOMMIT\n-P INPUT ACCEPT\n",
        [("ip", {"filter": ["INPUT", "team"], "nat": ["INPUT"]}), ("ip", {"filter": ["INPUT"]})],
    ),
    "a byte order mark": (f"\ufeff{HEAD}COMMIT\n", [("ip", {"filter": ["INPUT", "team"]})]),
    "prompts and other output": (
        f"user@host:~$ sudo iptables-save\n{HEAD}{RULE}COMMIT\n$ date\nTue Nov 24 08:00:00 UTC 2026\n",
        [("ip", {"filter": ["INPUT", "team"]})],
    ),
    "az run-command": (
        f"Enable succeeded: \n[stdout]\n-P INPUT ACCEPT\n{RULE}\n[stderr]\nsomething went wrong\n",
        [("ip", {"filter": ["INPUT"]})],
    ),
}


@pytest.mark.parametrize(("text", "expected"), FORMS.values(), ids=FORMS)
def test_forms(text: str, expected: list[tuple[str, dict[str, list[str]]]]) -> None:
    """Dumps, their families, tables and chains; whatever the line ends."""
    assert told(read_iptables(text)) == expected
    assert told(read_iptables(text.replace("\n", "\r\n"))) == expected


def test_policies() -> None:
    """A base chain's own; unknown where only its rules are shown, which then may not be all."""
    [dump] = read_iptables(f"{HEAD}COMMIT\n")
    chains = dump.tables["filter"].chains
    assert (chains["INPUT"].policy, chains["team"].policy, dump.doubts) == ("drop", "accept", ())
    [dump] = read_iptables(RULE)
    assert dump.tables["filter"].chains["INPUT"].policy == "unknown"
    assert [doubt.code for doubt in dump.doubts] == ["hidden_rules"]


def test_a_comment_of_two_lines() -> None:
    """It is one rule, whose text is what iptables has to be given."""
    found = rules('-m comment --comment "one\ntwo" -j DROP', "-j ACCEPT")
    assert [one.number for one in found] == [1, 2]
    assert found[0].text.endswith('"one\ntwo" -j DROP')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f'{HEAD}-A team -m comment --comment "one\n{RULE}COMMIT\n', "line 4 holds a quotation"),
        (f'{HEAD}{RULE}-A team -m comment --comment "one\n', "line 5 holds a quotation"),
        (f"{HEAD}{RULE}10.0.0.0/8 -j DROP\n", "line 5 is no rule of iptables: '10.0.0.0/8 -j DROP'"),
        (f"{HEAD}:broken\n", "line 4 is no rule of iptables: ':broken'"),
        (f"-P INPUT ACCEPT\n{RULE}-P \n", "line 3 is no rule of iptables"),
        ("-A \n", "line 1 is no rule of iptables"),
    ],
)
def test_what_is_no_dump(text: str, says: str) -> None:
    """Nothing is passed over that may be a rule, even in chains that no packet comes to."""
    with pytest.raises(ValueError, match="line") as raised:
        read_iptables(text)
    assert says in str(raised.value)


# --- laws ------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *(
            "-A INPUT",
            "-A ",
            "-P INPUT",
            "-P",
            "-N",
            ":INPUT",
            "*filter",
            "COMMIT",
            "ACCEPT",
            "DROP",
            "\n",
            "\n",
        ),
        *("Chain INPUT (policy DROP)", "Chain team (0 references)", "target prot opt source destination"),
        *(
            "-j",
            "-g",
            "-m",
            "-s",
            "--dport",
            "-p",
            "tcp",
            "!",
            '"',
            "\\",
            "/*",
            "*/",
            "--",
            "10.0.0.0/8",
            "[0:0]",
        ),
        *(
            "multiport",
            "--ports",
            "--tcp-flags",
            "--ctstate",
            "--mark",
            "anywhere",
            "[stdout]",
            "$ ",
            "# ",
            "\t",
        ),
    ]
)


@given(st.one_of(st.text(), st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=40).map(" ".join)))
def test_any_text_is_read_or_refused(text: str) -> None:
    """With one error, and no other, whatever it is."""
    with contextlib.suppress(ValueError):
        for dump in read_iptables(text):
            for table in dump.tables.values():
                for chain in table.chains.values():
                    assert all(rule.number >= 0 for rule in chain.rules)


ADDRESS = st.sampled_from(["10.240.0.0/16", "10.0.0.1/32", "0.0.0.0/0", "192.168.1.7", "10.1.2.3/9"])
OPTIONS = (
    st.sampled_from(["", "-s {}", "! -s {}"]),
    st.sampled_from(["", "-d {}", "! -d {}"]),
    st.sampled_from(["", "-p tcp", "-p udp", "-p esp"]),
    st.sampled_from(
        ["", '-m comment --comment "a -j {} b"', "-m comment --comment word", '-m comment --comment "!"']
    ),
    st.sampled_from(["", "-m tcp --dport 10250", "-m tcp", "-m udp --dport 53", "-m tcp --dport 99999"]),
    st.sampled_from(["", "-m conntrack --ctstate NEW", "-m statistic --mode random --probability 0.5"]),
    st.sampled_from(
        ["", "-j DROP", "-j team", "-j LOG --log-level 4", "-j CT --notrack", "-g team", "-j DNAT"]
    ),
)


@given(st.tuples(*OPTIONS), ADDRESS)
def test_the_short_way_is_the_same(options: tuple[str, ...], address: str) -> None:
    """Lines like kube-proxy's are read by one pattern: to what their words say one by one."""
    line = " ".join(option.format(address) for option in options if option)
    text = f"-A INPUT {line}".rstrip()
    try:
        expected = read_rule(words(text)[2:], "INPUT", 1, text, ("INPUT", "team"))
    except ValueError:
        with pytest.raises(ValueError, match="rule INPUT 1"):
            rules(line)
    else:
        [found] = rules(line) if line else rules("")
        assert (structs.replace(found, text=text),) == expected


@given(st.lists(ADDRESS, min_size=1, max_size=4))
def test_a_list_of_sources_is_their_union(addresses: list[str]) -> None:
    """And its negation all others."""
    [rule], [negated] = rules(f"-s {','.join(addresses)}"), rules(f"! -s {','.join(addresses)}")
    assert rule.sources == parse_prefixes(addresses)
    assert negated.sources == EVERY_ADDRESS - rule.sources
