"""What a node's iptables do to TCP 10250: dumps as nodes print them, and the verdict."""
# ruff: noqa: E501 - lines as nodes print them

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packets.addresses import IntervalSet, parse_port_range, parse_prefix, parse_prefixes
from packets.answers import Answer
from packets.dumps.iptables import read_iptables
from packets.iptables import answer, delete_commands, evaluate, steps
from packets.netfilter import Question, Where

NODES = "10.240.0.0/24"
LOW, HIGH = "10.240.0.0/25", "10.240.0.128/25"


def judged(
    text: str, *sources: str, node: str = "", protocol: str = "tcp", interface: str = "eth0"
) -> Answer:
    """The answer about port 10250."""
    question = Question.to_node(
        protocol,
        parse_port_range("10250"),
        sources=parse_prefixes(sources or (NODES,)),
        destinations=parse_prefix(node) if node else None,
        interface=interface,
    )
    return answer(read_iptables(text), question)


def lists(said: Answer) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Allowed, blocked, unknown."""
    return said.allowed, said.blocked, said.unknown


ALLOWED, BLOCKED, UNKNOWN = ((NODES,), (), ()), ((), (NODES,), ()), ((), (), (NODES,))
HALF = ((LOW,), (HIGH,), ())

HEAD = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n"


def saved(*rules: str, chains: str = "") -> str:
    """iptables-save of the table filter."""
    declared = "".join(f":{chain} - [0:0]\n" for chain in chains.split())
    return HEAD + declared + "".join(f"-A {rule}\n" for rule in rules) + "COMMIT\n"


# --- rules, one or a few ---------------------------------------------------------------------------

RULES = {
    "INPUT -s 10.240.0.128/25 -p tcp -m tcp --dport 10250 -j DROP": HALF,
    "INPUT -s 10.240.0.128/25 -p tcp -m tcp --dport 10250 -j REJECT --reject-with tcp-reset": HALF,
    "INPUT ! -s 10.240.0.0/25 -p tcp -m tcp --dport 10000:10300 -j DROP": HALF,
    "INPUT -s 10.240.0.128/255.255.255.128 -j DROP": HALF,
    "INPUT -m iprange --src-range 10.240.0.128-10.240.0.255 -j DROP": HALF,
    "INPUT -m iprange ! --src-range 10.0.0.0-10.240.0.127 -j DROP": HALF,
    "INPUT -s 10.240.0.1/255.0.0.255 -j DROP": UNKNOWN,
    "INPUT -p udp -m udp --dport 10250 -j DROP": ALLOWED,
    "INPUT -p tcp -m multiport --dports 22,10240:10260 -j DROP": BLOCKED,
    "INPUT -p tcp -m multiport ! --dports 22,10240:10260 -j DROP": ALLOWED,
    "INPUT -p tcp -m multiport --ports 10250 -j DROP": BLOCKED,
    "INPUT -p tcp -m tcp --sport 1:1023 -j DROP": BLOCKED,
    "INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP": BLOCKED,
    "INPUT -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate NEW -j DROP": ALLOWED,
    "INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,PSH,ACK,URG NONE -j DROP": ALLOWED,
    "INPUT -m conntrack --ctstate INVALID -j DROP": ALLOWED,
    "INPUT -m state --state NEW -j DROP": BLOCKED,
    "INPUT -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP": BLOCKED,
    "INPUT -m addrtype --dst-type LOCAL -j DROP": BLOCKED,
    "INPUT -m addrtype --src-type LOCAL -j DROP": ALLOWED,
    "INPUT -i lo -j DROP": ALLOWED,
    "INPUT ! -i lo -j DROP": BLOCKED,
    "INPUT -i eth+ -j DROP": BLOCKED,
    "INPUT -i cali+ -j DROP": ALLOWED,
    "INPUT -o eth0 -j DROP": ALLOWED,
    "INPUT -d 127.0.0.0/8 -j DROP": ALLOWED,
    "INPUT ! -d 127.0.0.0/8 -j DROP": BLOCKED,
    "INPUT -d 10.240.0.4/32 -j DROP": UNKNOWN,
    "INPUT -m set --match-set blocked src -j DROP": UNKNOWN,
    "INPUT -m set ! --match-set blocked src -j DROP": UNKNOWN,
    "INPUT -m mark --mark 0x8000/0x8000 -j DROP": UNKNOWN,
    "INPUT -p tcp -m limit --limit 5/min -j DROP": UNKNOWN,
    "INPUT -m recent --update --seconds 60 --hitcount 4 --name kubelet --mask 255.255.255.255 --rsource -j DROP": UNKNOWN,
    "INPUT -m recent --set --name kubelet --mask 255.255.255.255 --rsource -j DROP": BLOCKED,
    "INPUT -m statistic --mode random --probability 0.5 -j DROP": UNKNOWN,
    'INPUT -m bpf --bytecode "4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0" -j DROP': UNKNOWN,
    "INPUT -m geoip --source-country XX -j DROP": UNKNOWN,
    "INPUT -m time --timestart 08:00:00 --timestop 18:00:00 -j DROP": UNKNOWN,
    "INPUT -m physdev --physdev-in veth1 -j DROP": ALLOWED,
    "INPUT -m policy --dir in --pol ipsec -j DROP": ALLOWED,
    "INPUT -m mac --mac-source 00:0d:3a:00:00:01 -j DROP": UNKNOWN,
    "INPUT -p tcp -m tcp --dport 10250 -j NFQUEUE --queue-num 0 --queue-bypass": UNKNOWN,
    "INPUT -p tcp -m tcp --dport 10250 -j SOMETHING": UNKNOWN,
    'INPUT -p tcp -m tcp --dport 10250 -j LOG --log-prefix "kubelet -j DROP "': ALLOWED,
    "INPUT -p tcp -m tcp --dport 10250": ALLOWED,
    "INPUT -j MARK --set-xmark 0x1/0xffffffff": ALLOWED,
    "INPUT -g GONE": UNKNOWN,
    'INPUT -m comment --comment "team-g traffic -j ACCEPT" -j DROP': BLOCKED,
    'INPUT -m comment --comment "a \\"quoted\\" -s 10.9.0.0/16" -j DROP': BLOCKED,
}


@pytest.mark.parametrize(("rule", "expected"), RULES.items(), ids=RULES)
def test_rules(rule: str, expected: tuple[tuple[str, ...], ...]) -> None:
    """One rule, and whom it turns away; only one told by its destination needs the node's address."""
    assert lists(judged(saved(rule))) == expected
    known = judged(saved(rule), node="10.240.0.4")
    assert lists(known) == (BLOCKED if "10.240.0.4" in rule else expected)


def test_a_doubt_is_of_those_it_might_match() -> None:
    """What is decided before and after is decided."""
    doubtful = "INPUT -s 10.240.0.128/25 -m set --match-set s src -j {}"
    assert lists(judged(saved(doubtful.format("DROP")))) == ((LOW,), (), (HIGH,))
    assert lists(judged(saved(doubtful.format("ACCEPT")))) == ALLOWED
    assert lists(judged(saved(doubtful.format("DROP"), "INPUT -j DROP"))) == BLOCKED
    assert lists(judged(saved("INPUT -j ACCEPT", doubtful.format("DROP")))) == ALLOWED


# --- dumps of nodes --------------------------------------------------------------------------------

KUBE = """# Generated by iptables-save v1.8.7 (nf_tables) on Tue Nov 24 08:00:00 2026
*mangle
:PREROUTING ACCEPT [8123:901234]
:INPUT ACCEPT [8000:900000]
:FORWARD ACCEPT [123:1234]
:OUTPUT ACCEPT [7000:700000]
:POSTROUTING ACCEPT [7123:701234]
:KUBE-IPTABLES-HINT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-PROXY-CANARY - [0:0]
-A FORWARD -d 168.63.129.16/32 -p tcp -m tcp --dport 80 -j DROP
COMMIT
# Completed on Tue Nov 24 08:00:00 2026
# Generated by iptables-save v1.8.7 (nf_tables) on Tue Nov 24 08:00:00 2026
*security
:INPUT ACCEPT [8000:900000]
:FORWARD ACCEPT [123:1234]
:OUTPUT ACCEPT [7000:700000]
-A OUTPUT -d 168.63.129.16/32 -p tcp -m tcp --dport 53 -j ACCEPT
-A OUTPUT -d 168.63.129.16/32 -p tcp -m owner --uid-owner 0 -j ACCEPT
-A OUTPUT -d 168.63.129.16/32 -p tcp -m conntrack --ctstate INVALID,NEW -j DROP
COMMIT
# Completed on Tue Nov 24 08:00:00 2026
# Generated by iptables-save v1.8.7 (nf_tables) on Tue Nov 24 08:00:00 2026
*filter
:INPUT ACCEPT [167:12345]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [150:11111]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -d 168.63.129.16/32 -p tcp -m tcp --dport 32526 -j DROP
-A KUBE-EXTERNAL-SERVICES -d 20.61.8.9/32 -p tcp -m comment --comment "shop/web:http has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable
-A KUBE-EXTERNAL-SERVICES -p tcp -m comment --comment "shop/web:http has no endpoints" -m addrtype --dst-type LOCAL -m tcp --dport 31234 -j REJECT --reject-with icmp-port-unreachable
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j DROP
-A KUBE-NODEPORTS -p tcp -m comment --comment "kube-system/lb:healthz health check node port" -m tcp --dport 32000 -j ACCEPT
COMMIT
# Completed on Tue Nov 24 08:00:00 2026
# Generated by iptables-save v1.8.7 (nf_tables) on Tue Nov 24 08:00:00 2026
*nat
:PREROUTING ACCEPT [23:1234]
:INPUT ACCEPT [23:1234]
:OUTPUT ACCEPT [45:2345]
:POSTROUTING ACCEPT [45:2345]
:IP-MASQ-AGENT - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-NPX46M4PTMTKRN6Y - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A POSTROUTING -m comment --comment "ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom IP-MASQ-AGENT chain" -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT
-A IP-MASQ-AGENT -d 10.240.0.0/16 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-SEP-AAAAAAAAAAAAAAAA -s 20.61.8.1/32 -m comment --comment "default/kubernetes:https" -j KUBE-MARK-MASQ
-A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m comment --comment "default/kubernetes:https" -m tcp -j DNAT --to-destination 20.61.8.1:443
-A KUBE-SERVICES -d 10.0.0.1/32 -p tcp -m comment --comment "default/kubernetes:https cluster IP" -m tcp --dport 443 -j KUBE-SVC-NPX46M4PTMTKRN6Y
-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-SVC-NPX46M4PTMTKRN6Y -m comment --comment "default/kubernetes:https -> 20.61.8.1:443" -j KUBE-SEP-AAAAAAAAAAAAAAAA
COMMIT
# Completed on Tue Nov 24 08:00:00 2026
"""
_FIRST = "-A INPUT -m conntrack --ctstate NEW -m comment"
MARKED = KUBE.replace(
    "-A KUBE-FIREWALL !",
    '-A KUBE-FIREWALL -m comment --comment "kubernetes firewall for dropping marked packets" -m mark '
    "--mark 0x8000/0x8000 -j DROP\n-A KUBE-FIREWALL !",
)
CALICO = """*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:cali-PREROUTING - [0:0]
:cali-from-host-endpoint - [0:0]
:cali-rpf-skip - [0:0]
-A PREROUTING -m comment --comment "cali:6gwbT8clXdHdC1b1" -j cali-PREROUTING
-A cali-PREROUTING -m comment --comment "cali:XFX5xbM8B9qR10JG" -j MARK --set-xmark 0x0/0xf0000
-A cali-PREROUTING -i azv+ -m comment --comment "cali:EWMPb0zVROM-woQp" -j MARK --set-xmark 0x40000/0x40000
-A cali-PREROUTING -m comment --comment "cali:PWuxTAIaFCtsg5Qa" -m mark --mark 0x40000/0x40000 -j cali-rpf-skip
-A cali-PREROUTING -m comment --comment "cali:fSSbGND7dgyemWU7" -m mark --mark 0x0/0x40000 -j cali-from-host-endpoint
-A cali-PREROUTING -m comment --comment "cali:ImU0-4Rl2WoOI9Ou" -m mark --mark 0x10000/0x10000 -j ACCEPT
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:cali-INPUT - [0:0]
:cali-from-host-endpoint - [0:0]
:cali-wl-to-host - [0:0]
-A INPUT -m comment --comment "cali:Cz_u1IQiXIMmKD4c" -j cali-INPUT
-A cali-INPUT -i azv+ -m comment --comment "cali:FewJpBykm9iJ-YNH" -g cali-wl-to-host
-A cali-INPUT -m comment --comment "cali:hder3ARWznqqv8Va" -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-INPUT -m comment --comment "cali:xgOu2uJft6H9oDGF" -j MARK --set-xmark 0x0/0xf0000
-A cali-INPUT -m comment --comment "cali:_-d-qojMfHM6NwBo" -j cali-from-host-endpoint
-A cali-INPUT -m comment --comment "cali:LqmE76MP94lZTGhA" -m comment --comment "Host endpoint policy accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-wl-to-host -m comment --comment "cali:nSZbcOoG1xPONxb8" -m comment --comment "Configured DefaultEndpointToHostAction" -j DROP
COMMIT
"""
CILIUM = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:CILIUM_INPUT - [0:0]
-A INPUT -m comment --comment "cilium-feeder: CILIUM_INPUT" -j CILIUM_INPUT
-A CILIUM_INPUT -m mark --mark 0x200/0xf00 -m comment --comment "cilium: ACCEPT for proxy traffic" -j ACCEPT
COMMIT
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:CILIUM_PRE_raw - [0:0]
-A PREROUTING -m comment --comment "cilium-feeder: CILIUM_PRE_raw" -j CILIUM_PRE_raw
-A CILIUM_PRE_raw -m mark --mark 0x200/0xf00 -m comment --comment "cilium: NOTRACK for proxy traffic" -j CT --notrack
COMMIT
"""
UFW = """*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-after-input - [0:0]
:ufw-before-input - [0:0]
:ufw-before-logging-input - [0:0]
:ufw-not-local - [0:0]
:ufw-reject-input - [0:0]
:ufw-skip-to-policy-input - [0:0]
:ufw-track-input - [0:0]
:ufw-user-input - [0:0]
:ufw-user-limit - [0:0]
:ufw-user-limit-accept - [0:0]
-A INPUT -j ufw-before-logging-input
-A INPUT -j ufw-before-input
-A INPUT -j ufw-after-input
-A INPUT -j ufw-reject-input
-A INPUT -j ufw-track-input
-A ufw-after-input -p udp -m udp --dport 137 -j ufw-skip-to-policy-input
-A ufw-after-input -m addrtype --dst-type BROADCAST -j ufw-skip-to-policy-input
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A ufw-before-input -j ufw-not-local
-A ufw-before-input -d 224.0.0.251/32 -p udp -m udp --dport 5353 -j ACCEPT
-A ufw-before-input -j ufw-user-input
-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
-A ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN
-A ufw-not-local -m addrtype --dst-type BROADCAST -j RETURN
-A ufw-not-local -m limit --limit 3/min --limit-burst 10 -j LOG
-A ufw-not-local -j DROP
-A ufw-skip-to-policy-input -j DROP
-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT
-A ufw-user-input -s 10.240.0.0/25 -p tcp -m tcp --dport 10250 -j ACCEPT
-A ufw-user-limit -m limit --limit 3/min -j LOG --log-prefix "[UFW LIMIT BLOCK] "
-A ufw-user-limit -j REJECT --reject-with icmp-port-unreachable
-A ufw-user-limit-accept -j ACCEPT
COMMIT
"""
FIREWALLD = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:INPUT_ZONES - [0:0]
:IN_public - [0:0]
:IN_public_allow - [0:0]
:IN_public_deny - [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -j INPUT_ZONES
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -j REJECT --reject-with icmp-host-prohibited
-A INPUT_ZONES -i eth0 -g IN_public
-A INPUT_ZONES -g IN_public
-A IN_public -j IN_public_deny
-A IN_public -j IN_public_allow
-A IN_public -p icmp -j ACCEPT
-A IN_public_allow -p tcp -m tcp --dport 22 -m conntrack --ctstate NEW,UNTRACKED -j ACCEPT
-A IN_public_allow -s 10.240.0.0/25 -p tcp -m tcp --dport 10250 -m conntrack --ctstate NEW,UNTRACKED -j ACCEPT
COMMIT
"""
RUNBOOK = """root@aks-nodepool1-12345678-vmss000000:/# iptables --list --line-numbers
Chain INPUT (policy ACCEPT)
num  target     prot opt source               destination
1    DROP       tcp  --  10.240.0.128/25      anywhere             tcp dpt:10250
2    KUBE-NODEPORTS  all  --  anywhere             anywhere             /* kubernetes health check service ports */
3    KUBE-EXTERNAL-SERVICES  all  --  anywhere             anywhere             ctstate NEW /* kubernetes externally-visible service portals */
4    KUBE-FIREWALL  all  --  anywhere             anywhere

Chain FORWARD (policy ACCEPT)
num  target     prot opt source               destination
1    KUBE-FORWARD  all  --  anywhere             anywhere             /* kubernetes forwarding rules */
2    DROP       tcp  --  anywhere             168.63.129.16        tcp dpt:http

Chain OUTPUT (policy ACCEPT)
num  target     prot opt source               destination
1    KUBE-FIREWALL  all  --  anywhere             anywhere

Chain KUBE-EXTERNAL-SERVICES (1 references)
num  target     prot opt source               destination

Chain KUBE-FIREWALL (2 references)
num  target     prot opt source               destination
1    DROP       all  --  anywhere             anywhere             /* kubernetes firewall for dropping marked packets */ mark match 0x8000/0x8000
2    DROP       all  -- !localhost/8          localhost/8          /* block incoming localnet connections */ ! ctstate RELATED,ESTABLISHED,DNAT

Chain KUBE-FORWARD (1 references)
num  target     prot opt source               destination
1    DROP       all  --  anywhere             anywhere             ctstate INVALID

Chain KUBE-NODEPORTS (1 references)
num  target     prot opt source               destination
root@aks-nodepool1-12345678-vmss000000:/# uptime
 08:00:01 up 3 days,  1:02,  0 users,  load average: 0.10, 0.20, 0.30
"""

DUMPS = {
    "a node": (KUBE, ALLOWED),
    "a node of older Kubernetes": (MARKED, ALLOWED),
    "a rule of somebody's before all": (
        KUBE.replace(_FIRST, f"-A INPUT -s {HIGH} -p tcp -m tcp --dport 10250 -j DROP\n{_FIRST}", 1),
        HALF,
    ),
    "a rule in the kubelet's own chain": (
        KUBE.replace("-A KUBE-FIREWALL !", f"-A KUBE-FIREWALL -s {HIGH} -j DROP\n-A KUBE-FIREWALL !"),
        HALF,
    ),
    "dropped before connection tracking": (
        f"*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -s {HIGH} -p tcp --dport 10250 -j DROP\nCOMMIT\n{KUBE}",
        HALF,
    ),
    "dropped in mangle": (KUBE.replace("-A FORWARD", f"-A INPUT -s {HIGH} -j DROP\n-A FORWARD", 1), HALF),
    "dropped in security": (
        KUBE.replace("-A OUTPUT -d", f"-A INPUT -s {HIGH} -j DROP\n-A OUTPUT -d", 1),
        HALF,
    ),
    "accepted in mangle is not accepted in filter": (
        KUBE.replace("-A FORWARD", "-A INPUT -j ACCEPT\n-A FORWARD", 1).replace(
            "-A INPUT -j KUBE-FIREWALL", f"-A INPUT -s {HIGH} -j DROP"
        ),
        HALF,
    ),
    "sent elsewhere": (
        KUBE.replace(
            "-A PREROUTING -m",
            f"-A PREROUTING -s {HIGH} -p tcp -m tcp --dport 10250 -j REDIRECT --to-ports 1\n-A PREROUTING -m",
        ),
        ((LOW,), (), (HIGH,)),
    ),
    "Calico": (CALICO, ALLOWED),
    "Cilium": (CILIUM, ALLOWED),
    "UFW": (UFW, HALF),
    "firewalld": (FIREWALLD, HALF),
    "the runbook's list": (RUNBOOK, HALF),
    "a policy": (KUBE.replace(":INPUT ACCEPT [167", ":INPUT DROP [167"), BLOCKED),
    "untracked, and not new to those who ask": (
        "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j CT --notrack\nCOMMIT\n"
        + saved("INPUT -m conntrack --ctstate NEW -j ACCEPT", f"INPUT -s {HIGH} -j DROP"),
        HALF,
    ),
    "both back ends": (
        "# Generated by iptables-save v1.8.7 (nf_tables) on Tue Nov 24 08:00:00 2026\n"
        "# Warning: iptables-legacy tables present, use iptables-legacy-save to see them\n"
        + saved()
        + "# Generated by iptables-save v1.8.7 on Tue Nov 24 08:00:00 2026\n"
        + saved(f"INPUT -s {HIGH} -j DROP"),
        HALF,
    ),
    "a back end that is not shown": (
        "# Warning: iptables-legacy tables present, use iptables-legacy to see them\n"
        + saved(f"INPUT -s {HIGH} -j DROP"),
        ((), (HIGH,), (LOW,)),
    ),
    "the other family's legacy is not this one's": (
        "# Generated by iptables-nft-save v1.8.9 (nf_tables) on Tue Nov 24 08:00:00 2026\n"
        "# Warning: iptables-legacy tables present, use iptables-legacy-save to see them\n"
        + saved()
        + "# Generated by ip6tables-save v1.8.9 on Tue Nov 24 08:00:00 2026\n"
        + saved(),
        UNKNOWN,
    ),
    "a table that iptables cannot show": (
        "# Table `filter' is incompatible, use 'nft' tool.\n" + saved(),
        UNKNOWN,
    ),
    "no table filter": ("*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n", UNKNOWN),
    "a chain that is not shown": (
        "Chain INPUT (policy ACCEPT)\ntarget prot opt source destination\nKUBE-FIREWALL tcp -- anywhere anywhere tcp dpt:10250\n",
        UNKNOWN,
    ),
    "rules that somebody picked": (
        f"-A INPUT -s {HIGH} -j DROP\n-A INPUT -j ACCEPT\n",
        ((), (HIGH,), (LOW,)),
    ),
}


@pytest.mark.parametrize(("text", "expected"), DUMPS.values(), ids=DUMPS)
def test_dumps(text: str, expected: tuple[tuple[str, ...], ...]) -> None:
    """What a node prints, and whom it turns away; that the node's address is known changes nothing here."""
    assert lists(judged(text)) == expected
    assert lists(judged(text, node="10.240.0.4")) == expected
    assert lists(judged(text.replace("\n", "\r\n"))) == expected


def test_the_node_ports_of_kube_proxy_are_not_the_kubelet() -> None:
    """A service without endpoints refuses its own node port."""
    question = Question.to_node(
        "tcp", parse_port_range("31234"), sources=parse_prefix(NODES), destinations=None
    )
    said = answer(read_iptables(KUBE), question)
    assert lists(said) == BLOCKED
    assert [one.name for one in said.rules if one.access == "REJECT"] == ["KUBE-EXTERNAL-SERVICES 2"]


def test_families() -> None:
    """Each family needs its own dump, and one says nothing of the other."""
    six = "# Generated by ip6tables-save v1.8.7 on Tue Nov 24 08:00:00 2026\n" + saved(
        "INPUT -s fd00:10:240::/64 -p tcp -m tcp --dport 10250 -j DROP"
    )
    sources = (NODES, "fd00:10::/32")
    assert lists(judged(saved(), *sources)) == ((NODES,), (), ("fd00:10::/32",))
    said = judged(KUBE + six, *sources)
    assert (said.outcome, said.blocked, said.unknown) == ("mixed", ("fd00:10:240::/64",), ())
    assert said.allowed[0] == NODES
    assert judged(six, *sources).unknown == (NODES,)


def test_interfaces() -> None:
    """A rule of another interface is not met; which one is met can be asked."""
    text = saved("INPUT -i eth1 -j DROP")
    assert lists(judged(text)) == ALLOWED
    assert lists(judged(text, interface="eth1")) == BLOCKED


def test_steps_are_in_the_order_of_hooks() -> None:
    """Whatever the order of tables and dumps in the text."""
    tables = [
        "*raw\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n",
        "*mangle\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\nCOMMIT\n",
        "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n",
        saved(),
        "*security\n:INPUT ACCEPT [0:0]\nCOMMIT\n",
    ]
    expected = [
        *(("raw", "PREROUTING"), ("mangle", "PREROUTING"), ("nat", "PREROUTING")),
        *(("mangle", "INPUT"), ("filter", "INPUT"), ("security", "INPUT")),
    ]
    for some in permutations(tables):
        found = [(step.table.name, step.chain) for step in steps(read_iptables("".join(some)))]
        assert found == expected


# --- what takes a rule away ------------------------------------------------------------------------


def blame(text: str) -> Where:
    """The one rule that denies."""
    question = Question.to_node(
        "tcp", parse_port_range("10250"), sources=parse_prefix(NODES), destinations=None
    )
    [where] = {one.rule for one in evaluate(read_iptables(text), question) if one.verdict == "denied"}
    return where


DELETED = {
    "INPUT -s 10.240.0.0/16 -p tcp -m tcp --dport 10250 -j DROP": "iptables --delete INPUT --jump DROP "
    "--source 10.240.0.0/16 --protocol tcp --destination-port 10250",
    "INPUT ! -s 10.9.0.0/16 -i eth0 -j REJECT --reject-with icmp-port-unreachable": "iptables --delete INPUT "
    "--jump REJECT --reject-with icmp-port-unreachable '!' --source 10.9.0.0/16 --in-interface eth0",
    'INPUT -p tcp -m comment --comment "it\\\'s $(x) -j" -j DROP': "iptables --delete INPUT --jump DROP "
    """--protocol tcp --match comment --comment 'it'"'"'s $(x) -j'""",
    "INPUT -m comment --comment -j -c 12 345 -j DROP": "iptables --delete INPUT --jump DROP --match comment "
    "--comment -j",
    "INPUT -p tcp -m multiport --dports 22,10250 -j DROP": "iptables --delete INPUT --jump DROP "
    "--protocol tcp --match multiport --dports 22,10250",
}


@pytest.mark.parametrize(("rule", "command"), DELETED.items())
def test_delete_commands(rule: str, command: str) -> None:
    """By what the rule says, quoted for a shell, and by its number."""
    text = saved("INPUT -p udp -j DROP", rule)
    assert delete_commands(blame(text)) == (command, "iptables --delete INPUT 2")


def test_delete_commands_of_what_is_not_a_rule_of_filter() -> None:
    """Another table, another tool, a policy, and a list, which does not say what the rule is in full."""
    dropped = "*mangle\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n-A INPUT -j DROP\nCOMMIT\n"
    assert delete_commands(blame(dropped), tool="ip6tables-legacy") == (
        "ip6tables-legacy --table mangle --delete INPUT --jump DROP",
        "ip6tables-legacy --table mangle --delete INPUT 1",
    )
    policy = saved().replace(":INPUT ACCEPT", ":INPUT DROP")
    assert delete_commands(blame(policy)) == ("iptables --policy INPUT ACCEPT",)
    assert delete_commands(blame(RUNBOOK)) == ("iptables --delete INPUT 1",)


# --- laws ------------------------------------------------------------------------------------------

MATCHES = st.sampled_from(
    [
        *("", "-s 10.240.0.0/25", "! -s 10.240.0.0/26", "-p tcp", "-p udp", "! -p udp", "-i eth0", "-i lo"),
        *("-p tcp -m tcp --dport 10250", "-p tcp -m tcp ! --dport 22", "-m set --match-set x src"),
        *("-m conntrack --ctstate NEW", "-d 10.240.0.4/32", "-d 127.0.0.0/8"),
    ]
)
TARGETS = st.sampled_from(["", "-j ACCEPT", "-j DROP", "-j RETURN", "-j A", "-g A", "-j LOG", "-j QUEUE"])
RULE_SETS = st.builds(
    lambda rules, deeper, policy: saved(
        *(f"INPUT {match} {target}" for match, target in rules),
        *(f"A {match} {target}" for match, target in deeper if not target.endswith(" A")),
        chains="A",
    ).replace(":INPUT ACCEPT", f":INPUT {policy}"),
    st.lists(st.tuples(MATCHES, TARGETS), max_size=5),
    st.lists(st.tuples(MATCHES, TARGETS), max_size=3),
    st.sampled_from(["ACCEPT", "DROP"]),
)


@given(RULE_SETS)
def test_sources_are_sorted_out(text: str) -> None:
    """Each source is in one list and only one."""
    said = judged(text)
    found = [parse_prefixes(cidrs) for cidrs in lists(said)]
    total: IntervalSet = found[0] | found[1] | found[2]
    assert total == parse_prefix(NODES)
    assert not any(
        one & other for one, other in ((found[0], found[1]), (found[0], found[2]), (found[1], found[2]))
    )


@given(RULE_SETS, st.sampled_from(["\r\n", "\n\n", "\n# a comment\n", "\n  ", "\n\t"]))
def test_what_stands_between_lines_changes_nothing(text: str, between: str) -> None:
    """Line ends, blank lines, comments, indentation, counters."""
    assert judged(text.replace("\n", between)) == judged(text)
    assert judged(text.replace("\n-A ", "\n[12:345] -A ")) == judged(text)
    assert judged(text.removesuffix("COMMIT\n")) == judged(text)


@given(RULE_SETS)
def test_what_is_known_of_the_node_only_takes_doubt_away(text: str) -> None:
    """With the node's address given, who was allowed or blocked still is."""
    vague, exact = judged(text), judged(text, node="10.240.0.4")
    for name in ("allowed", "blocked"):
        before, after = (parse_prefixes(getattr(said, name)) for said in (vague, exact))
        assert before & after == before


@given(RULE_SETS)
def test_rules_that_never_match_change_nothing(text: str) -> None:
    """Neither one about UDP before all others, nor a table that lets everything in."""
    more = text.replace("COMMIT", "COMMIT\n*mangle\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\nCOMMIT")
    udp = text.replace(":A - [0:0]\n", ":A - [0:0]\n-A INPUT -p udp -j DROP\n")
    assert lists(judged(more)) == lists(judged(udp)) == lists(judged(text))


KUBE_MARK = (
    "*filter\n:INPUT ACCEPT [0:0]\n:KUBE-FIREWALL - [0:0]\n-A INPUT -j KUBE-FIREWALL\n"
    "-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP\nCOMMIT\n"
)


@pytest.mark.parametrize(
    ("marking", "outcome"),
    [
        ("", "allowed"),
        ("-A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000", "allowed"),
        ("-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000", "allowed"),
        ("-A PREROUTING -p tcp -m tcp --dport 10250 -j MARK --set-xmark 0x8000/0xffffffff", "unknown"),
        ("-A PREROUTING -j MARK --or-mark 0xc000", "unknown"),
        ("-A PREROUTING -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff", "unknown"),
        ("-A PREROUTING -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80", "allowed"),
    ],
)
def test_the_mark_that_the_kubelet_drops(marking: str, outcome: str) -> None:
    """Kubernetes sets it on no packet to a node's kubelet; where somebody else may, nobody knows."""
    text = f"*mangle\n:PREROUTING ACCEPT [0:0]\n{marking}\nCOMMIT\n{KUBE_MARK}"
    assert judged(text).outcome == outcome
