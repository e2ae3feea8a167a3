"""What nodes of the sample are like inside: firewalls as people and software leave them, agents that fail.

What is recorded, for machines without network namespaces, is what the node's commands print, but for two
things: counters, and `nft list ruleset` leaves out the tables that iptables-nft-save shows.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from local.fleets.kube_rules import node_rules

type Content = Mapping[str, Any]

_UFW_CHAINS = Path(__file__).parent / "recorded"
"""What the save commands print where UFW is on, without the rules that somebody gave it."""
_UFW_HEAD = """Status: active
Logging: on (low)
Default: deny (incoming), allow (outgoing), disabled (routed)
New profiles: skip

To                         Action      From
--                         ------      ----
"""
_UFW_RULES = {
    "allow": "-A {chains}-user-input -p tcp -m tcp --dport {port} -j ACCEPT\n",
    "limit": """\
-A {chains}-user-input -p tcp -m tcp --dport {port} -m conntrack --ctstate NEW \
-m recent --set --name DEFAULT --mask {mask} --rsource
-A {chains}-user-input -p tcp -m tcp --dport {port} -m conntrack --ctstate NEW \
-m recent --update --seconds 30 --hitcount 6 --name DEFAULT --mask {mask} --rsource -j {chains}-user-limit
-A {chains}-user-input -p tcp -m tcp --dport {port} -j {chains}-user-limit-accept
""",
}


def _recorded(**printed: str) -> dict[str, str]:
    """What the commands of a node print: nothing, and UFW that it is off, but for those that are named."""
    quiet = {
        "ufw status verbose": "Status: inactive\n",
        "iptables-nft-save": "",
        "ip6tables-nft-save": "",
        "iptables-legacy-save": "",
        "ip6tables-legacy-save": "",
        "nft -s list ruleset": "",
    }
    named = {"ufw": "ufw status verbose", "nft": "nft -s list ruleset"}
    return quiet | {
        named.get(command, f"{command.replace('_', '-')}-save"): text for command, text in printed.items()
    }


def ufw(action: Literal["allow", "limit"], port: int) -> Content:
    """UFW switched on, with one rule about a TCP port."""
    listed = "".join(
        f"{f'{port}/tcp{v6}':<27}{f'{action.upper()} IN':<12}{f'Anywhere{v6}':<26}\n" for v6 in ("", " (v6)")
    )
    return {
        "firewall": {"ufw": ["default deny incoming", f"{action} {port}/tcp", "--force enable"]},
        "recorded": _recorded(
            ufw=f"{_UFW_HEAD}{listed}\n",
            iptables_nft=_ufw_chains(action, port, "iptables", "ufw", "255.255.255.255"),
            ip6tables_nft=_ufw_chains(action, port, "ip6tables", "ufw6", ":".join(["ffff"] * 8)),
        ),
        "answers": "open" if port == 10250 else "timeout",
    }


def _ufw_chains(action: str, port: int, tool: str, chains: str, mask: str) -> str:
    rules = _UFW_RULES[action].format(chains=chains, port=port, mask=mask)
    before = f"-A {chains}-user-limit "
    text = (_UFW_CHAINS / f"ufw.{tool}-save").read_text(encoding="utf-8")
    return text.replace(before, rules + before, 1)


def _iptables(rules: str, **more: Any) -> Content:
    """A node with these rules in the back end that is the default."""
    return {"firewall": {"iptables": rules}, "recorded": _recorded(iptables_nft=rules), **more}


_SERVICES = 20
"""Services of the cluster, where their number is not the point."""
ORDINARY_NODE = _iptables(node_rules(200), answers="open")
"""A node as AKS leaves it."""


def dropping(source: str) -> Content:
    """A rule in INPUT, beside what is on every node."""
    drop = f"-A INPUT -s {source} -p tcp -m tcp --dport 10250 -j DROP"
    return _iptables(node_rules(_SERVICES, drop), answers="timeout")


_HARDENED = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:host-hardening - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -m multiport --dports 10248:10256 -j host-hardening
-A host-hardening -m comment --comment "ports of kubernetes -j ACCEPT by ticket only" \
-j REJECT --reject-with icmp-port-unreachable
COMMIT
"""
REJECTING: Content = {
    "firewall": {"iptables": _HARDENED, "backend": "legacy"},
    "recorded": _recorded(iptables_legacy=_HARDENED),
    "answers": "refused",
}
"""A rejection in a chain of somebody's own, in the back end that is no longer the default."""

_NFT = """table inet hardening {
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
		tcp dport { 2379-2380, 10250-10259 } counter drop comment "no control plane ports from anywhere"
	}
}
"""
NFTABLES: Content = {
    "firewall": {"iptables": node_rules(_SERVICES), "nftables": _NFT},
    "recorded": _recorded(iptables_nft=node_rules(_SERVICES), nft=_NFT),
    "answers": "timeout",
}
"""A table of somebody's own, beside what is on every node."""

_BANNED = node_rules(_SERVICES, "-A INPUT -m set --match-set banned src -j DROP")
IPSET: Content = {
    "firewall": {
        "ipset": ["create banned hash:net", "add banned 203.0.113.0/24"],
        "iptables": _BANNED,
    },
    "recorded": _recorded(iptables_nft=_BANNED),
    "answers": "open",
}
"""A drop of whoever is in an ipset, whose members no list of rules shows."""
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


_BLOCKED = (f"-A INPUT -s {_someone(number)}/32 -p udp -j DROP" for number in range(250))
TRUNCATED = _iptables(node_rules(_SERVICES, *_BLOCKED), answers="open", runCommand="truncated")
"""A list of rules that is long, and whose output loses more than Azure drops."""
