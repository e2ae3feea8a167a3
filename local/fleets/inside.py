"""What nodes of the sample are like inside: firewalls as people and software leave them, agents that fail."""

import hashlib
from collections.abc import Mapping
from typing import Any

type Content = Mapping[str, Any]

_UFW_HEAD = """Status: active
Logging: on (low)
Default: deny (incoming), allow (outgoing), disabled (routed)
New profiles: skip

To                         Action      From
--                         ------      ----
"""


def _services(count: int) -> list[str]:
    """What kube-proxy writes for services without endpoints, and for one with an address outside."""
    lines = []
    for number in range(count):
        address = f"10.0.{number // 250}.{number % 250 + 1}"
        lines.append(
            f'-A KUBE-SERVICES -d {address}/32 -p tcp -m comment --comment "shop/s{number} has no endpoints" '
            "-m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable"
        )
    return lines


_KUBERNETES = """*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-IPTABLES-HINT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment "load balancer firewall" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment "service portals" -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "service portals" -j KUBE-SERVICES
-A FORWARD -d 168.63.129.16/32 -p tcp -m tcp --dport 80 -j DROP
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-EXTERNAL-SERVICES -p tcp -m addrtype --dst-type LOCAL -m tcp --dport 31380 -j DROP
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FIREWALL -m comment --comment "marked packets" -m mark --mark 0x8000/0x8000 -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
"""
ORDINARY = _KUBERNETES + "\n".join((*_services(300), "COMMIT", ""))
"""A node as AKS leaves it: what the kubelet, kube-proxy and Azure write."""


def _saved(*rules: str, chains: tuple[str, ...] = ()) -> str:
    declared = "".join(f":{chain} - [0:0]\n" for chain in chains)
    return f"*filter\n:INPUT ACCEPT [0:0]\n{declared}" + "\n".join((*rules, "COMMIT", ""))


def _recorded(rules: str) -> dict[str, str]:
    """What the node's tools print where it is no namespace."""
    return {"iptables-nft-save": rules, "nft -s list ruleset": ""}


def ufw(*rules: str, listed: str) -> Content:
    """UFW switched on, with rules as `ufw` takes them; `listed` is what it shows of them."""
    return {
        "firewall": {"ufw": ["default deny incoming", "default allow outgoing", *rules, "--force enable"]},
        "recorded": {"ufw status verbose": f"{_UFW_HEAD}{listed}\n", **_recorded(ORDINARY)},
        "answers": "timeout" if "10250" not in listed else "open",
    }


def dropping(source: str) -> Content:
    """A rule in INPUT, beside what is on every node."""
    drop = f"-A INPUT -s {source} -p tcp -m tcp --dport 10250 -j DROP"
    rules = ORDINARY.replace("-A INPUT -j KUBE-FIREWALL\n", f"-A INPUT -j KUBE-FIREWALL\n{drop}\n")
    return {"firewall": {"iptables": rules}, "recorded": _recorded(rules), "answers": "timeout"}


def rejecting() -> Content:
    """A rejection in a chain of somebody's own, in the back end that is no longer the default."""
    rules = _saved(
        "-A INPUT -i lo -j ACCEPT",
        "-A INPUT -p tcp -m multiport --dports 10248:10256 -j host-hardening",
        '-A host-hardening -m comment --comment "ports of kubernetes -j ACCEPT by ticket only" '
        "-j REJECT --reject-with icmp-port-unreachable",
        chains=("host-hardening",),
    )
    return {
        "firewall": {"iptables": rules, "backend": "legacy"},
        # Which legacy tables there are the kernel tells, and this machine's has none.
        "recorded": _recorded(rules),
        "answers": "refused",
    }


NFT = """table inet hardening {
	set management {
		type ipv4_addr
		flags interval
		elements = { 10.250.0.0/26, 192.0.2.7 }
	}

	chain input {
		type filter hook input priority filter + 5; policy accept;
		ct state established,related accept
		iifname "lo" accept
		ip saddr @management accept
		tcp dport { 2379, 2380, 10250-10259 } counter drop comment "no control plane ports from anywhere"
	}
}
"""
NFTABLES: Content = {
    "firewall": {"iptables": ORDINARY, "nftables": NFT},
    "recorded": {"iptables-nft-save": ORDINARY, "nft -s list ruleset": NFT},
    "answers": "timeout",
}
"""A table of somebody's own, beside what is on every node."""

_BANNED = ORDINARY.replace(
    "-A INPUT -j KUBE-FIREWALL\n",
    "-A INPUT -m set --match-set banned src -j DROP\n-A INPUT -j KUBE-FIREWALL\n",
)
IPSET: Content = {
    "firewall": {
        "ipset": ["create banned hash:net", "add banned 203.0.113.0/24"],
        "iptables": _BANNED,
    },
    "recorded": _recorded(_BANNED),
    "answers": "open",
}
"""A drop of whoever is in an ipset, whose members no list of rules shows."""
ORDINARY_NODE: Content = {
    "firewall": {"iptables": ORDINARY},
    "recorded": _recorded(ORDINARY),
    "answers": "open",
}
DEAF: Content = {"listening": False}
"""Nobody listens on the kubelet's port."""
SILENT: Content = {"runCommand": {"fault": "silent", "seconds": 2}}
"""The agent never answers; Azure gives up, sooner than the 90 minutes that it takes."""
BUSY: Content = {"runCommand": "busy"}
NO_OUTPUT: Content = {"runCommand": "no-output"}
"""What happens where a node does not reach Azure."""


def _someone(number: int) -> str:
    """Some address, one for each number up to 255."""
    return ".".join(str(byte) for byte in hashlib.sha256(bytes([number])).digest()[:4])


_BLOCKED = "".join(f"-A INPUT -s {_someone(number)}/32 -p udp -j DROP\n" for number in range(250))
_LONG = ORDINARY.replace("-A INPUT -j KUBE-FIREWALL\n", f"{_BLOCKED}-A INPUT -j KUBE-FIREWALL\n")
TRUNCATED: Content = {
    "firewall": {"iptables": _LONG},
    "recorded": _recorded(_LONG),
    "runCommand": "truncated",
}
"""A list of rules that is long, and whose output loses more than Azure drops."""
