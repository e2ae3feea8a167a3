"""What `iptables --list` prints, read: lines that iptables 1.8 printed on nodes, and older ones."""
# ruff: noqa: E501 - lines as iptables prints them

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from packets.addresses import EVERY_ADDRESS, IntervalSet, parse_prefix
from packets.decisions import Doubt
from packets.dumps.iptables import read_iptables
from packets.netfilter import Action, Interface, Rule

PLAIN = "Chain INPUT (policy ACCEPT)\ntarget     prot opt source               destination         \n"
NUMBERED = "Chain INPUT (policy ACCEPT)\nnum  target     prot opt source               destination         \n"
VERBOSE = """Chain INPUT (policy DROP 167M packets, 12G bytes)
 pkts bytes target     prot opt in     out     source               destination
"""
ALL = """Chain INPUT (policy ACCEPT 12 packets, 345 bytes)
num   pkts bytes target     prot opt in     out     source               destination
"""
TEAM = "\nChain team (1 references)\ntarget     prot opt source               destination         \n"
TEN = parse_prefix("10.240.0.0/16")
TCP = frozenset({"tcp"})
DROP = Action("drop", "DROP")


def rules(head: str, *lines: str) -> tuple[Rule, ...]:
    """The rules of INPUT."""
    [dump] = read_iptables(head + "".join(f"{line}\n" for line in lines) + TEAM)
    return tuple(dump.tables["filter"].chains["INPUT"].rules)


def port(low: int, high: int | None = None) -> IntervalSet:
    """A port, or a range."""
    return IntervalSet(((low, low if high is None else high),))


# --- lines -----------------------------------------------------------------------------------------

KUBELET = {"protocols": TCP, "destination_ports": port(10250)}
LINES: dict[tuple[str, str], dict[str, object]] = {
    (PLAIN, "DROP       tcp  --  10.240.0.0/16        anywhere             tcp dpt:10250"): {
        **KUBELET,
        "sources": TEN,
    },
    (PLAIN, "DROP       tcp  --  10.240.0.0/16        0.0.0.0/0            tcp dpt:10250"): {
        **KUBELET,
        "sources": TEN,
    },
    (PLAIN, "DROP       6    -- !10.240.0.0/16        0.0.0.0/0            tcp dpt:10250"): {
        **KUBELET,
        "sources": EVERY_ADDRESS - TEN,
    },
    (NUMBERED, "7    DROP       tcp  --  anywhere             anywhere             tcp dpt:10250"): {
        **KUBELET,
        "number": 7,
    },
    (NUMBERED, "7               tcp  --  anywhere             anywhere             tcp dpt:10250"): {
        **KUBELET,
        "number": 7,
        "action": Action("continue", ""),
    },
    (PLAIN, "           tcp  --  anywhere             anywhere             tcp dpt:10250"): {
        **KUBELET,
        "action": Action("continue", ""),
    },
    (VERBOSE, " 167M   12K DROP       tcp  --  eth0   any     10.240.0.0/16        anywhere"): {
        "protocols": TCP,
        "sources": TEN,
        "interfaces": (Interface("eth0"),),
    },
    (VERBOSE, "    0     0 DROP       0    --  *      *       0.0.0.0/0            0.0.0.0/0"): {},
    (VERBOSE, "    0     0 DROP       all  --  !lo    *       0.0.0.0/0            0.0.0.0/0"): {
        "interfaces": (Interface("lo", negated=True),)
    },
    (VERBOSE, "    0     0 DROP       all  --  *      eth0    0.0.0.0/0            0.0.0.0/0"): {
        "never": True
    },
    (VERBOSE, "    0     0 DROP       all  -f  *      *       0.0.0.0/0            0.0.0.0/0"): {
        "never": True
    },
    (VERBOSE, "    0     0 DROP       all  !f  *      *       0.0.0.0/0            0.0.0.0/0"): {},
    (VERBOSE, "    0     0            all  --  *      *       0.0.0.0/0            0.0.0.0/0"): {
        "action": Action("continue", "")
    },
    (VERBOSE, "    0     0 DROP       !tcp --  *      *       0.0.0.0/0            0.0.0.0/0"): {
        "other_protocols": TCP
    },
    (VERBOSE, "    0     0 DROP       17   --  *      *       0.0.0.0/0            10.240.0.0/16"): {
        "protocols": frozenset({"udp"}),
        "destinations": TEN,
    },
    (ALL, "3     167M   12G team       all  --  *      *       0.0.0.0/0            0.0.0.0/0"): {
        "number": 3,
        "action": Action("jump", "team", "team"),
    },
    (ALL, "3        0     0            all  --  eth+   *       0.0.0.0/0            0.0.0.0/0"): {
        "number": 3,
        "interfaces": (Interface("eth+"),),
        "action": Action("continue", ""),
    },
    (ALL, "3        0     0 DROP       all      eth0   *       ::/0                 fd00::/8"): {
        "number": 3,
        "interfaces": (Interface("eth0"),),
        "destinations": parse_prefix("fd00::/8"),
    },
    (VERBOSE, "    0     0 DROP       all  --  *      *      !anywhere             anywhere"): {
        "never": True
    },
    (VERBOSE, "    0     0 DROP       all      *      *       fd00::/8             ::/0"): {
        "sources": parse_prefix("fd00::/8")
    },
    (PLAIN, "DROP       tcp      fd00::/8             anywhere             tcp dpt:10250"): {
        **KUBELET,
        "sources": parse_prefix("fd00::/8"),
    },
    (VERBOSE, "    0     0 DROP       all  --  any    any    !localhost/8          localhost/8"): {
        "sources": EVERY_ADDRESS - parse_prefix("127.0.0.0/8"),
        "destinations": parse_prefix("127.0.0.0/8"),
    },
    (VERBOSE, "    0     0 DROP       all  --  any    any     link-local/16        anywhere"): {
        "sources": parse_prefix("169.254.0.0/16")
    },
    (
        VERBOSE,
        "    0     0 team       all  --  *      *       0.0.0.0/0            0.0.0.0/0           [goto]  /* a */",
    ): {"action": Action("goto", "team", "team")},
}


@pytest.mark.parametrize(("line", "fields"), LINES.items(), ids=[line for _, line in LINES])
def test_lines(line: tuple[str, str], fields: dict[str, object]) -> None:
    """A line under the columns of its form, in all the fields of its rule."""
    everything = Rule(number=1, text=" ".join(line[1].split()), action=DROP)
    assert rules(*line) == (structs.replace(everything, **fields),)


EXTRAS: dict[str, dict[str, object]] = {
    "tcp dpt:ssh": {"destination_ports": port(22)},
    "tcp dpts:ssh:telnet": {"destination_ports": port(22, 23)},
    "tcp dpts:10000:10300": {"destination_ports": port(10000, 10300)},
    "tcp dpt:!22": {"destination_ports": port(0, 65535) - port(22)},
    "tcp dpts:!22:23": {"destination_ports": port(0, 65535) - port(22, 23)},
    "tcp spt:domain": {"source_ports": port(53)},
    "tcp spts:1024:65535 dpt:10250": {"source_ports": port(1024, 65535), "destination_ports": port(10250)},
    "multiport dports ssh,10250": {"destination_ports": port(22) | port(10250)},
    "multiport dports  10000:10300": {"destination_ports": port(10000, 10300)},
    "multiport dports  !22,webmin:10300": {
        "destination_ports": port(0, 65535) - port(22) - port(10000, 10300)
    },
    "multiport sports 53": {"source_ports": port(53)},
    "tcp flags:FIN,SYN,RST,ACK/SYN": {},
    "tcp flags:0x17/0x02": {},
    "tcp flags:!0x17/0x02": {"never": True},
    "tcp flags:FIN,SYN/FIN,SYN": {"never": True},
    "ctstate NEW": {"states": frozenset({"new"})},
    "ctstate RELATED,ESTABLISHED": {"states": frozenset({"related", "established"})},
    "! ctstate RELATED,ESTABLISHED,DNAT": {"states": frozenset({"new", "invalid", "untracked"})},
    "state NEW": {"states": frozenset({"new"})},
    "source IP range 10.240.0.0-10.240.255.255": {"sources": TEN},
    "source IP range ! 10.240.0.0-10.240.255.255": {"sources": EVERY_ADDRESS - TEN},
    "destination IP range 10.240.0.0-10.240.255.255": {"destinations": TEN},
    "ADDRTYPE match dst-type LOCAL": {},
    "ADDRTYPE match dst-type !LOCAL": {"destinations": IntervalSet()},
    "ADDRTYPE match src-type LOCAL": {"sources": IntervalSet()},
    "PKTTYPE = broadcast": {"never": True},
    "PKTTYPE != broadcast": {},
    "PHYSDEV match --physdev-in veth1": {"never": True},
    "PHYSDEV match --physdev-is-bridged": {"never": True},
    "recent: SET name: x side: source mask: 255.255.255.255": {},
    "policy match dir in pol none": {},
    "policy match dir in pol ipsec": {"never": True},
    "/* kubelet */": {},
    "/* anything, even */ like code */ tcp dpt:10250": {"destination_ports": port(10250)},
    "/* tcp dpt:22 */ tcp dpt:10250": {"destination_ports": port(10250)},
    "tcp dpt:10250 /* a /* in it */": {"destination_ports": port(10250)},
    "ctstate NEW /* one */ tcp dpt:10250 /* two */": {
        "states": frozenset({"new"}),
        # It may be one comment with all of that in it.
        "doubts": (Doubt("unknown_match", "where its comment ends cannot be told"),),
    },
    "tcp dpt:10250 reject-with tcp-reset": {"destination_ports": port(10250)},
}


@pytest.mark.parametrize(("extra", "fields"), EXTRAS.items(), ids=EXTRAS)
def test_extras(extra: str, fields: dict[str, object]) -> None:
    """What stands after the addresses."""
    line = f"    0     0 DROP       tcp  --  *      *       0.0.0.0/0            0.0.0.0/0            {extra}"
    everything = Rule(number=1, text=" ".join(line.split()), action=DROP, protocols=TCP)
    assert rules(VERBOSE, line) == (structs.replace(everything, **fields),)


DOUBTS = {
    "match-set nodes src": "unknown_set",
    "! match-set nodes src,dst": "unknown_set",
    "mark match 0x8000/0x8000": "unknown_mark",
    "mark match ! 0x1": "unknown_mark",
    "connmark match  0x3": "unknown_mark",
    "limit: avg 5/min burst 5": "rate_limited",
    "limit: up to 1/sec burst 5 mode srcip": "rate_limited",
    "#conn src/32 > 3": "rate_limited",
    "statistic mode random probability 0.50000000000": "rate_limited",
    "recent: UPDATE seconds: 60 hit_count: 4 name: x side: source mask: 255.255.255.255": "rate_limited",
    "recent: CHECK name: x side: source mask: 255.255.255.255": "rate_limited",
    "quota: 100 bytes": "rate_limited",
    "TIME from 01:00:00 to 23:59:59 UTC": "unknown_match",
    "MAC 00:0d:3a:00:00:01": "unknown_match",
    "length 1:2": "unknown_match",
    "TTL match TTL > 5": "unknown_match",
    "tcp option=5": "unknown_match",
    "ctstatus EXPECTED": "unknown_match",
    "source-country XX": "unknown_match",
    "something nobody knows": "unknown_match",
    "tcp dpt:kubelet": "unknown_name",
    "/* a */ b */ tcp dpt:10250 /* c */": "unknown_match",
}


@pytest.mark.parametrize(("extra", "code"), DOUBTS.items(), ids=DOUBTS)
def test_doubts(extra: str, code: str) -> None:
    """What cannot be known from the list, or is not known here, is a doubt."""
    line = f"    0     0 DROP       tcp  --  *      *       0.0.0.0/0            0.0.0.0/0            {extra}"
    [rule] = rules(VERBOSE, line)
    assert rule.never is False
    assert [doubt.code for doubt in rule.doubts] == [code]
    assert all(doubt.why for doubt in rule.doubts)


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        ("ACCEPT     all  --  anywhere             anywhere", ["hidden_interface"]),
        ("DROP       tcp  --  10.240.0.0/16        anywhere", ["hidden_interface"]),
        ("team       all  --  anywhere             anywhere             ctstate NEW", ["hidden_interface"]),
        ("ACCEPT     tcp  --  anywhere             anywhere             tcp dpt:10250", []),
        ("ACCEPT     tcp  --  anywhere             anywhere             multiport dports ssh,10250", []),
        ("DROP       all  --  anywhere             anywhere             PHYSDEV match --physdev-is-in", []),
        ("DROP       all  --  node-7               anywhere             tcp dpt:10250", ["unknown_name"]),
    ],
)
def test_hidden_interfaces(line: str, codes: list[str]) -> None:
    """Without -v a rule may be the loopback interface's, unless it names the port."""
    [rule] = rules(PLAIN, line)
    assert [doubt.code for doubt in rule.doubts] == codes


def test_the_mark_that_kubernetes_sets_itself() -> None:
    """Is never on what comes to the kubelet; in any other chain, or another mark, it is a doubt."""
    line = (
        "DROP       all  --  anywhere             anywhere             /* marked */ mark match 0x8000/0x8000"
    )
    chain = f"Chain KUBE-FIREWALL (2 references)\n{PLAIN.splitlines()[1]}\n{line}\n"
    [dump] = read_iptables(f"{PLAIN}\n{chain}")
    assert [one.never for one in dump.tables["filter"].chains["KUBE-FIREWALL"].rules] == [True]
    [dump] = read_iptables(f"{PLAIN}\n{chain.replace('0x8000/', '0x4000/')}")
    assert [one.never for one in dump.tables["filter"].chains["KUBE-FIREWALL"].rules] == [False]


# --- chains ----------------------------------------------------------------------------------------

COLUMNS = PLAIN.splitlines(keepends=True)[1]


@pytest.mark.parametrize(
    ("head", "policy"),
    [
        ("Chain INPUT (policy ACCEPT)", "accept"),
        ("Chain INPUT (policy DROP)", "drop"),
        ("Chain INPUT (policy DROP 12 packets, 345 bytes)", "drop"),
        ("Chain INPUT (policy ACCEPT 167M packets, 1.2G bytes)", "accept"),
        ("Chain INPUT (policy QUEUE)", "unknown"),
        ("Chain INPUT (0 references)", "accept"),
        ("Chain INPUT (1 references)", "accept"),
    ],
)
def test_heads(head: str, policy: str) -> None:
    """Policies and counters of chains, with no rules at all."""
    [dump] = read_iptables(f"{head}\n{COLUMNS}\n")
    chain = dump.tables["filter"].chains["INPUT"]
    assert (chain.policy, list(chain.rules)) == (policy, [])


def chains(*names: str) -> str:
    """A list with no rules."""
    return "".join(f"Chain {name} (policy ACCEPT)\n{COLUMNS}\n" for name in names)


FILTER = ("INPUT", "FORWARD", "OUTPUT")
NAT = ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")
MANGLE = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        (chains(*FILTER), [("ip", "filter")]),
        (chains(*NAT), [("ip", "nat")]),
        (chains(*MANGLE), [("ip", "mangle")]),
        (chains("PREROUTING", "OUTPUT"), [("ip", "raw")]),
        (chains("INPUT"), [("ip", "filter")]),
        (chains(*FILTER, *NAT), [("ip", "filter"), ("ip", "nat")]),
        (chains(*FILTER, *FILTER), [("ip", "filter"), ("ip", "filter")]),
        (
            f"# iptables -L\n{chains(*FILTER)}\n# ip6tables -L -n\n{chains(*FILTER)}",
            [("ip", "filter"), ("ip6", "filter")],
        ),
        (
            f"# iptables -L INPUT\n{chains('INPUT')}\n# iptables --table mangle -L INPUT\n{chains('INPUT')}",
            [("ip", "filter"), ("ip", "mangle")],
        ),
        (
            f"{chains('INPUT')}DROP       6    --  fd00::/8             ::/0                 tcp dpt:10250\n",
            [("ip6", "filter")],
        ),
    ],
)
def test_tables(text: str, tables: list[tuple[str, str]]) -> None:
    """Which table of which family each list shows, and where the next begins."""
    for end in ("\n", "\r\n"):
        dumps = read_iptables(text.replace("\n", end))
        assert [(dump.family, name) for dump in dumps for name in dump.tables] == tables


RULE = "DROP       tcp  --  10.240.0.0/16        anywhere             tcp dpt:10250"


@pytest.mark.parametrize(
    "text",
    [
        f"{PLAIN}{RULE}\n",
        f"{PLAIN}{RULE}",
        f"root@node:/# iptables -L INPUT\n{PLAIN}{RULE}\nroot@node:/# \n",
        f"$ sudo iptables -L INPUT\n{PLAIN}{RULE}\n$ uptime\n 08:00:01 up 3 days, 0 users\n",
        f"Enable succeeded: \n[stdout]\n{PLAIN}{RULE}\n\n[stderr]\nsomething: went wrong\n",
        f"{PLAIN}{RULE}\n# Warning: ip6tables-nft something\n",
        f"{PLAIN}\n{RULE}\n",
        f"{PLAIN}{RULE.replace('  ', chr(9))}\n",
        f"modprobe: FATAL: Module ip_tables not found in directory /lib/modules/5.15\n{PLAIN}{RULE}\n",
    ],
)
def test_what_stands_around(text: str) -> None:
    """Prompts, other commands' output, what az puts around; and whatever the line ends."""
    for end in ("\n", "\r\n"):
        [dump] = read_iptables(text.replace("\n", end))
        [rule] = dump.tables["filter"].chains["INPUT"].rules
        assert (rule.sources, rule.destination_ports, rule.action) == (TEN, port(10250), DROP)


@pytest.mark.parametrize(
    "text",
    [
        f"{PLAIN}DROP\n",
        f"{PLAIN}DROP tcp\n",
        f"{PLAIN}DROP       tcp  --  10.240.0.0/16\n",
        f"{NUMBERED}x    DROP       tcp  --  anywhere             anywhere\n",
        f"Chain INPUT (policy ACCEPT)\n{RULE}\n",
        f"{PLAIN}{RULE}\nsomething else\n",
    ],
)
def test_what_is_no_list(text: str) -> None:
    """Neither is a line passed over that may be a rule, nor one that is cut off taken for all of one."""
    with pytest.raises(ValueError, match=r"iptables"):
        read_iptables(text)


# --- one rule, in each form ------------------------------------------------------------------------

FORMS = st.tuples(
    st.sampled_from(
        [("", "0.0.0.0/0"), ("-s 10.240.0.0/16", "10.240.0.0/16"), ("! -s 10.0.0.4/32", "!10.0.0.4")]
    ),
    st.sampled_from([("", "0.0.0.0/0"), ("-d 10.240.0.4/32", "10.240.0.4")]),
    st.sampled_from([("", "*"), ("-i eth0", "eth0"), ("! -i cali+", "!cali+")]),
    st.sampled_from(
        [
            ("", "0", ""),
            ("-p udp -m udp --dport 53", "17", "udp dpt:53"),
            ("-p tcp -m tcp --dport 10000:10300", "6", "tcp dpts:10000:10300"),
            ("-p tcp -m tcp ! --dport 22", "tcp", "tcp dpt:!22"),
            ("-p tcp -m multiport --dports 22,10250", "6", "multiport dports 22,10250"),
        ]
    ),
    st.sampled_from(
        [
            ("", ""),
            ("-m conntrack ! --ctstate RELATED,ESTABLISHED", "! ctstate RELATED,ESTABLISHED"),
            ("-m set --match-set x src", "match-set x src"),
            ('-m comment --comment "a b"', "/* a b */"),
            ("-m addrtype ! --dst-type LOCAL", "ADDRTYPE match dst-type !LOCAL"),
        ]
    ),
    st.sampled_from(["DROP", "ACCEPT", "team", "RETURN", ""]),
)


@given(FORMS)
def test_list_and_save_agree(parts: tuple[tuple[str, ...], ...]) -> None:
    """On every field, if the list has -v."""
    source, destination, interface, protocol, match, target = parts
    options = (
        source[0],
        destination[0],
        interface[0],
        protocol[0],
        match[0],
        f"-j {target}" if target else "",
    )
    saved = f":INPUT ACCEPT [0:0]\n:team - [0:0]\n-A INPUT {' '.join(filter(None, options))}".rstrip()
    [dump] = read_iptables(f"*filter\n{saved}\nCOMMIT\n")
    [expected] = dump.tables["filter"].chains["INPUT"].rules
    line = (
        f"    0     0 {target:10} {protocol[1]:4} --  {interface[1]:6} *       {source[1]:20} {destination[1]:20} "
        f"{protocol[2]} {match[1]}"
    )
    [listed] = rules(VERBOSE, line)
    assert structs.replace(listed, text=expected.text) == expected
