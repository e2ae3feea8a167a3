"""What rules of nftables match, by table: each drops what it matches in a chain that accepts all else.

Asked is about TCP 10250 of a node, from 10.240.0.7 and from fd00:10:240::7, coming in by eth0.
"""

import pytest

from packets.addresses import EVERY_PORT, IntervalSet, parse_port_range, parse_prefixes
from packets.boxes import Box
from packets.dumps.nftables import read_nftables
from packets.netfilter import Question
from packets.nftables import evaluate

SOURCES = {4: "10.240.0.7", 6: "fd00:10:240::7"}
NODE = {4: "10.240.0.4", 6: "fd00:10:240::4"}
BOTH, FOUR, SIX, NONE = "46", "4", "6", ""

BASE = "type filter hook input priority filter; policy accept;"
SETS = """
    set nodes {
        type ipv4_addr
        flags interval
        elements = { 10.240.0.0/24, 10.241.0.4-10.241.0.9 }
    }

    set nobody {
        type ipv4_addr
    }

    set seen {
        type ipv4_addr
        size 65535
        flags dynamic,timeout
        timeout 1m
    }

    set timed {
        type ipv4_addr
        flags timeout
        elements = { 10.240.0.7 timeout 1h expires 59m59s992ms comment "a, } b" }
    }

    set counted {
        type ipv4_addr
        counter
        elements = { 10.240.0.7 counter packets 3 bytes 180, 10.240.0.8 counter packets 0 bytes 0 }
    }

    set pairs {
        type ipv4_addr . inet_service
        flags interval
        elements = { 10.240.0.0/24 . 10000-10300,
                 10.240.1.0/24 . 22 }
    }

    map ports {
        type inet_service : verdict
        elements = { 22 : accept, 10250 : drop }
    }

    map others {
        type ipv4_addr : verdict
        elements = { 10.240.0.7 comment "x : y" : continue, * : drop }
    }
"""


def verdicts(
    rule: str, *, known: bool = True, chain: str = "input", interface: str = "eth0"
) -> dict[int, str]:
    """What becomes of packets of both versions of IP."""
    ruleset = read_nftables(f"table inet t {{{SETS}\n chain {chain} {{\n  {BASE}\n  {rule}\n }}\n}}\n")
    assert not ruleset.doubts
    found = {}
    for version, source in SOURCES.items():
        question = Question(
            protocol="tcp",
            packets=Box(
                parse_prefixes([source]),
                EVERY_PORT,
                parse_prefixes([NODE[version]]),
                parse_port_range("10250"),
            ),
            interface=interface,
            destination_known=known,
        )
        [found[version]] = {
            f"unknown: {one.doubt.code}" if one.verdict == "unknown" and one.doubt else one.verdict
            for one in evaluate(ruleset, question)
        }
    return found


@pytest.mark.parametrize(
    ("match", "dropped"),
    [
        ("", BOTH),
        ("tcp dport 10250", BOTH),
        ("tcp dport 22", NONE),
        ("tcp dport != 22", BOTH),
        ("tcp dport 10000-10300", BOTH),
        ("tcp dport != 10000-10300", NONE),
        ("tcp dport { 22, 10250 }", BOTH),
        ("tcp dport { 22, 80-90 }", NONE),
        ("tcp dport != { 22, 80-90 }", BOTH),
        ("tcp dport >= 10250", BOTH),
        ("tcp dport > 10250", NONE),
        ("tcp dport < 10251", BOTH),
        ("tcp dport & 0xff00 == 0x2800", BOTH),
        ("tcp dport & 65280 == 10240", BOTH),
        ("tcp dport & 0xff00 != 10240", NONE),
        ('tcp dport "ssh"', NONE),
        ('tcp dport != "ssh"', BOTH),
        ("udp dport 10250", NONE),
        ("udp dport != 53", NONE),
        ("th dport 10250", BOTH),
        ("@th,16,16 10250", BOTH),
        ("@th,16,16 0x280a", BOTH),
        ("@th,16,16 != { 22, 10250 }", NONE),
        ("tcp sport 0-65535", BOTH),
        ("ip saddr 10.240.0.7", FOUR),
        ("ip saddr 10.240.0.0/16", FOUR),
        ("ip saddr != 10.240.0.0/16", NONE),
        ("ip saddr != 10.241.0.0/16", FOUR),
        ("ip saddr 10.240.0.1-10.240.0.9", FOUR),
        ("ip saddr { 10.240.0.1-10.240.0.6, 10.240.0.8 }", NONE),
        ("ip saddr & 255.0.255.0 == 10.0.0.0", FOUR),
        ("ip saddr & 255.255.255.248 == 10.240.0.0", FOUR),
        ("ip saddr > 10.240.0.6", FOUR),
        ("ip saddr <= 10.240.0.6", NONE),
        ("ip6 saddr fd00::/8", SIX),
        ("ip6 saddr { fd00:10:240::1-fd00:10:240::5, fe80::/10 }", NONE),
        ("ip6 saddr & ffff:: == fd00::", SIX),
        ("ip daddr 10.240.0.4", FOUR),
        ("ip daddr != 10.240.0.4", NONE),
        ("ip daddr 127.0.0.0/8 ip saddr != 127.0.0.0/8", NONE),
        ("ip saddr @nodes", FOUR),
        ("ip saddr != @nodes", NONE),
        ("ip saddr @nobody", NONE),
        ("ip saddr != @nobody", FOUR),
        ("ip saddr @counted", FOUR),
        ("ip saddr . tcp dport @pairs", FOUR),
        ("ip saddr . tcp dport != @pairs", NONE),
        ("ip saddr . tcp dport { 10.240.0.7 . 22, 10.0.0.0/8 . 10000-10300 }", FOUR),
        ("ip saddr . tcp dport { 10.240.0.7 . 22, 10.240.0.8 . 10250 }", NONE),
        ("ip saddr . tcp dport != { 10.240.0.7 . 22, 10.240.0.8 . 10250 }", FOUR),
        ("ip daddr . meta l4proto . th dport { 10.240.0.4 . tcp . 10250 }", FOUR),
        ("ip daddr . meta l4proto . th dport { 10.240.0.4 . udp . 10250 }", NONE),
        ("ct state . tcp dport { new . 10250 }", BOTH),
        ('iifname . ip saddr { "eth0" . 10.240.0.7 }', FOUR),
        ('iifname . ip saddr { "eth1" . 10.240.0.7 }', NONE),
        ("meta l4proto tcp", BOTH),
        ("meta l4proto != 6", NONE),
        ("meta l4proto { udp, 132, ospfigp }", NONE),
        ("meta nfproto ipv4", FOUR),
        ("meta nfproto != ipv4", SIX),
        ("meta protocol { ip, ip6 }", BOTH),
        ("meta protocol 0x86dd", SIX),
        ("ether type ip", FOUR),
        ("ip protocol tcp", FOUR),
        ("ip protocol != udp", FOUR),
        ("ip6 nexthdr { tcp, udp }", SIX),
        ("ip version 4", FOUR),
        ("icmp type echo-request", NONE),
        ("icmpv6 type { echo-request, nd-neighbor-solicit }", NONE),
        ("tcp flags syn", BOTH),
        ("tcp flags & (fin|syn|rst|ack) == syn", BOTH),
        ("tcp flags & (fin | syn | rst | ack) != syn", NONE),
        ("tcp flags syn / fin,syn,rst,ack", BOTH),
        ("tcp flags 0x2 / 0x1,0x2,0x4,0x10", BOTH),
        ("tcp flags != syn / syn,ack", NONE),
        ("tcp flags & (syn|ack) == syn|ack", NONE),
        ("tcp flags { syn | ack, ack }", NONE),
        ("tcp flags ! syn", NONE),
        ("tcp flags == 0x0", NONE),
        ("ct state new", BOTH),
        ("ct state established,related", NONE),
        ("ct state 0x2,0x8", BOTH),
        ("ct state != established", BOTH),
        ("ct state ! established,new", NONE),
        ("ct state { new, untracked }", BOTH),
        ("ct state invalid", NONE),
        ("ct status dnat", NONE),
        ("ct status ! snat,dnat", BOTH),
        ("ct direction original", BOTH),
        ("ct direction reply", NONE),
        ("ct original ip saddr 10.240.0.0/16", FOUR),
        ("ct original proto-dst 10250", BOTH),
        ('iifname "eth0"', BOTH),
        ('iifname "eth*"', BOTH),
        ('iifname != "eth*"', NONE),
        ('iifname { "lo", "ens*" }', NONE),
        ('iif "lo"', NONE),
        ('iif != "lo"', BOTH),
        ('oifname "eth0"', NONE),
        ('oifname != "docker0"', BOTH),
        ('oif "eth0"', NONE),
        ("meta iiftype loopback", NONE),
        ("meta pkttype host", BOTH),
        ("meta pkttype { broadcast, multicast }", NONE),
        ("meta skuid 0", NONE),
        ("fib daddr type local", BOTH),
        ("fib daddr type != local", NONE),
        ("fib daddr type 2", BOTH),
        ("fib saddr type local", NONE),
        ("ip frag-off & 0x1fff != 0", NONE),
        ("exthdr frag exists", NONE),
        ("exthdr frag missing", SIX),
        ("frag more-fragments 1", NONE),
        ("ip option lsrr exists", NONE),
        ("vxlan vni 5", NONE),
        ("sctp chunk init exists", NONE),
        # What holds nothing up.
        ("counter packets 12 bytes 720", BOTH),
        ('log prefix "drop accept { " level warn flags tcp sequence,options flags ip options', BOTH),
        ("log group 5 snaplen 20 queue-threshold 3", BOTH),
        ("meta mark set 0x00000005 ct mark set meta mark", BOTH),
        ("meta mark set meta mark | 0x00004000", BOTH),
        ("update @seen { ip saddr timeout 10s }", BOTH),
        ("add @seen { ip saddr counter }", BOTH),
        ("notrack", BOTH),
        ('ct helper set "ftp"', BOTH),
        ("last used never", BOTH),
        ('dup to 10.0.0.1 device "eth1"', BOTH),
        ('xt match "comment"', BOTH),
        ('xt target "LOG"', BOTH),
        ("# xt_comment", BOTH),
    ],
)  # fmt: skip
def test_what_can_be_known(match: str, dropped: str) -> None:
    """Which versions of IP a rule drops."""
    expected = {version: "denied" if str(version) in dropped else "allowed" for version in (4, 6)}
    assert verdicts(f"{match} drop") == expected
    assert verdicts(f"{match} counter packets 0 bytes 0 reject with icmpx port-unreachable") == expected


@pytest.mark.parametrize(
    ("match", "code"),
    [
        ("meta mark 0x00000010", "unknown_mark"),
        ("meta mark & 0x00008000 == 0x00008000", "unknown_mark"),
        ("meta mark { 0x00000001-0x00000005 }", "unknown_mark"),
        ("ct mark != 0x1", "unknown_mark"),
        ("limit rate 10/second burst 5 packets", "rate_limited"),
        ("limit rate over 10 mbytes/second burst 64 kbytes", "rate_limited"),
        ('limit name "x"', "rate_limited"),
        ("quota over 100 mbytes used 1 mbytes", "rate_limited"),
        ("ct count over 20", "rate_limited"),
        ("numgen random mod 2 0", "rate_limited"),
        ("meter m size 100 { tcp dport limit rate over 10/second }", "rate_limited"),
        ("update @seen { tcp dport limit rate over 10/second }", "rate_limited"),
        ("jhash tcp sport . tcp dport mod 2 seed 0x1 0", "unknown_match"),
        ("symhash mod 2 0", "unknown_match"),
        ("@nh,8,8 0x3", "unknown_match"),
        ("@ih,32,32 0x1", "unknown_match"),
        ("tcp option maxseg size 1-100", "unknown_match"),
        ("tcp option maxseg exists", "unknown_match"),
        ("tcp window 1024", "unknown_match"),
        ('meta hour "08:00"-"17:00"', "unknown_match"),
        ('meta day { "Monday", "Friday" }', "unknown_match"),
        ("meta length < 50", "unknown_match"),
        ("ether saddr aa:bb:cc:dd:ee:ff", "unknown_match"),
        ("vlan id 5", "unknown_match"),
        ("fib saddr . iif oif missing", "unknown_match"),
        ("fib saddr . iif oif 0", "unknown_match"),
        ("fib daddr . iif type != { local, broadcast }", "unknown_match"),
        ("socket transparent 1", "unknown_match"),
        ('socket cgroupv2 level 1 "system.slice"', "unknown_match"),
        ("rt classid 5", "unknown_match"),
        ("ipsec in reqid 1", "unknown_match"),
        ('osf name "Linux"', "unknown_match"),
        ("ct zone 5", "unknown_match"),
        ('tcp dport "no-such-service"', "unknown_name"),
        ("iif 17", "unknown_interface"),
        ("something quite new", "unknown_match"),
        ("meta novelty { 1, 2 }", "unknown_match"),
        ('xt match "set"', "unknown_set"),
        ('xt match "mark"', "unknown_mark"),
        ('xt match "hashlimit"', "rate_limited"),
        ('xt match "bpf"', "unknown_match"),
        ("# xt_recent", "rate_limited"),
    ],
)
def test_what_cannot_be_known(match: str, code: str) -> None:
    """The code of the doubt; with what is known beside it the rule is no doubt at all where that says no."""
    assert set(verdicts(f"{match} drop").values()) == {f"unknown: {code}"}
    assert set(verdicts(f"tcp dport 22 {match} drop").values()) == {"allowed"}
    assert set(verdicts(f"{match} accept").values()) == {"allowed"}


@pytest.mark.parametrize(
    ("rule", "four", "six"),
    [
        ("ip saddr @seen drop", "unknown: unknown_set", "allowed"),
        ("ip saddr != @seen drop", "unknown: unknown_set", "allowed"),
        ("ip saddr @timed drop", "unknown: unknown_set", "allowed"),
        ("ip saddr @lost drop", "unknown: unknown_set", "allowed"),
        ("ip saddr vmap @lost", "unknown: unknown_set", "allowed"),
        # As many intervals as nobody counts.
        ("ip saddr & 0.0.0.255 == 0.0.0.8 drop", "unknown: unknown_match", "allowed"),
        ("ip ttl < 5 drop", "unknown: unknown_match", "allowed"),
        ("ip dscp cs1 drop", "unknown: unknown_match", "allowed"),
        ("ip6 hoplimit 1 drop", "allowed", "unknown: unknown_match"),
        ("tcp dport vmap { 22 : accept, 10250 : drop }", "denied", "denied"),
        ("tcp dport vmap { 22 : drop, 80-90 : drop, * : accept }", "allowed", "allowed"),
        ("tcp dport vmap { 22 : accept, * : drop }", "denied", "denied"),
        ("tcp dport vmap { 22 : drop } accept", "allowed", "allowed"),
        ("tcp dport vmap @ports", "denied", "denied"),
        ("ip saddr vmap @others", "allowed", "allowed"),
        ("ip saddr vmap @others drop", "denied", "allowed"),
        ("ip saddr . tcp dport vmap { 10.240.0.7 . 10250 : drop }", "denied", "allowed"),
        ("ip saddr . tcp dport vmap { 10.240.0.7 . 22 : drop, * : continue }", "allowed", "allowed"),
        ("ct state vmap { established : accept, new : drop }", "denied", "denied"),
        ("ct state vmap { 0x1 : drop, 0x2 : accept }", "allowed", "allowed"),
        ("meta nfproto vmap { ipv4 : drop, ipv6 : return }", "denied", "allowed"),
        ("numgen inc mod 2 vmap { 0 : accept, 1 : drop }", "unknown: rate_limited", "unknown: rate_limited"),
        (
            "meta mark . tcp dport vmap { 0x1 . 10250 : drop }",
            "unknown: unknown_mark",
            "unknown: unknown_mark",
        ),
        ("meta mark . tcp dport vmap { 0x1 . 22 : drop }", "allowed", "allowed"),
        ("tcp dport vmap { 10250 : jump elsewhere }", "unknown: chain_not_shown", "unknown: chain_not_shown"),
        ("queue num 5 bypass", "unknown: unknown_target", "unknown: unknown_target"),
        ("queue flags bypass to 1-3", "unknown: unknown_target", "unknown: unknown_target"),
        ("ip saddr 10.240.0.7 dnat ip to 10.0.0.5:8080", "unknown: unknown_target", "allowed"),
        ('tcp dport 10250 redirect to :"http"', "unknown: unknown_target", "unknown: unknown_target"),
        ("tcp dport 10250 tproxy to :8080 accept", "unknown: unknown_target", "unknown: unknown_target"),
        ('fwd to "eth1"', "unknown: unknown_target", "unknown: unknown_target"),
        ("something quite new", "unknown: unknown_target", "unknown: unknown_target"),
        ('xt target "NFQUEUE"', "unknown: unknown_target", "unknown: unknown_target"),
        ("# xt_DNAT", "unknown: unknown_target", "unknown: unknown_target"),
        ('xt target "REJECT"', "denied", "denied"),
        # Another word of the same kind in a comment is none.
        ('accept comment "drop { # handle 3"', "allowed", "allowed"),
        ('ip saddr 10.240.0.8 comment "x" drop', "allowed", "allowed"),
        ("continue", "allowed", "allowed"),
        ("tcp dport 10250 counter packets 5 bytes 300", "allowed", "allowed"),
        ("return", "allowed", "allowed"),
    ],
)
def test_what_rules_do(rule: str, four: str, six: str) -> None:
    """Verdicts, maps of them, and what is neither."""
    assert verdicts(rule) == {4: four, 6: six}


def test_the_node_may_have_any_address() -> None:
    """What hangs on its address is not known, but for addresses that no node has."""
    assert verdicts("ip daddr 10.240.0.0/24 drop", known=False)[4] == "denied"
    question = Question.to_node(
        "tcp", IntervalSet(((10250, 10250),)), sources=parse_prefixes(["10.240.0.7"]), destinations=None
    )
    for rule, expected in (
        ("ip daddr 10.240.0.4 drop", {"unknown"}),
        ("ip daddr != 10.240.0.4 drop", {"unknown"}),
        ("ip daddr 127.0.0.0/8 drop", {"allowed"}),
        ("ip daddr { 224.0.0.0/4, 127.0.0.1 } drop", {"allowed"}),
        ("ip daddr . tcp dport { 10.0.0.1 . 443 } drop", {"allowed"}),
        ("ip daddr . tcp dport { 10.0.0.1 . 10250 } drop", {"unknown"}),
    ):
        text = f"table ip t {{\n chain c {{\n  {BASE}\n  {rule}\n }}\n}}\n"
        assert {one.verdict for one in evaluate(read_nftables(text), question)} == expected, rule


def test_the_mark_that_kubelets_drop() -> None:
    """Kubernetes never sets it on packets to a kubelet; other marks, and elsewhere, may be on any packet."""
    assert verdicts("meta mark & 0x00008000 == 0x00008000 drop", chain="KUBE-FIREWALL")[4] == "allowed"
    assert verdicts("mark and 0x8000 == 0x8000 drop", chain="KUBE-FIREWALL")[4] == "allowed"
    for rule in ("meta mark & 0x00004000 == 0x00004000 drop", "meta mark & 0x00008000 != 0x00008000 drop"):
        assert verdicts(rule, chain="KUBE-FIREWALL")[4] == "unknown: unknown_mark"


def test_an_interface_that_nobody_knows() -> None:
    """Not by loopback, for the packet comes from another machine; by which it does is in doubt."""
    for rule, expected in (
        ('iifname "lo" drop', "allowed"),
        ('iifname != "lo" drop', "denied"),
        ('iifname "eth0" drop', "unknown: unknown_interface"),
        ('iifname { "lo", "eth0" } drop', "unknown: unknown_interface"),
    ):
        assert verdicts(rule, interface="") == {4: expected, 6: expected}, rule
