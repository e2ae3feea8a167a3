"""`iptables-kubelet-port`: what nodes' packet filters hold and what is said of it, and what it recommends."""

import shlex

import pytest

from checks.iptables_kubelet_port import check
from facts.finding import Fault, NotApplicable, Reason, Statement, Unknown
from facts.probes import DumpName, NodeReport, Probes
from facts.snapshot import Snapshot
from tests import snapshots as make

NODES = make.subnet("nodes", "10.240.0.0/24")
USERS = make.subnet("users", "10.240.1.0/24")
DUAL = make.subnet("dual", "10.240.2.0/24 fd00:10:0:2::/64")
SYSTEM = make.pool("system", NODES, "10.240.0.4 10.240.0.5", mode="System")
USER = make.pool("user", USERS, "10.240.1.4")
WINDOWS = make.pool("win", USERS, "10.240.1.9", os_type="Windows")

KUBE = (
    "-A INPUT -j KUBE-FIREWALL",
    '-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block localnet" -j DROP',
    '-A KUBE-FIREWALL -m comment --comment "marked packets" -m mark --mark 0x8000/0x8000 -j DROP',
)
"""What stands on every node."""
DROP = "-A INPUT -s 10.240.0.0/16 -p tcp -m tcp --dport 10250 -j DROP"
REJECT = "-A team-a -p tcp -m tcp --dport 10000:11000 -j REJECT --reject-with icmp-port-unreachable"
JUMP = "-A INPUT -j team-a"
ONE = "-A INPUT -s 10.240.1.4/32 -p tcp -m tcp --dport 10250 -j DROP"
NOBODY = "-A INPUT -s 10.240.1.200/32 -p tcp -j DROP"
ITSELF = "-A INPUT -s 10.240.0.4/32 -p tcp -j DROP"
IPSET = "-A INPUT -m set --match-set banned src -j DROP"
MARK = "-A INPUT -m mark --mark 0x1 -j DROP"
SSH = "-A INPUT -p tcp -m tcp --dport 22 -j DROP"
UFW = (
    "-A INPUT -j ufw-before-input",
    "-A INPUT -j ufw-after-input",
    "-A ufw-before-input -i lo -j ACCEPT",
    "-A ufw-before-input -j ufw-user-input",
    "-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT",
)
UFW_ON = "Status: active\nDefault: deny (incoming), allow (outgoing), disabled (routed)\n"


def filters(*rules: str, policy: str = "ACCEPT", table: str = "filter", base: str = "INPUT") -> str:
    """What iptables-save prints of one table."""
    named = (word for line in rules for word in (line.split()[1], line.split()[-1]))
    users = dict.fromkeys(word for word in named if not word.isupper() or word.startswith("KUBE-"))
    declared = "".join(f":{user} - [0:0]\n" for user in users)
    return f"*{table}\n:{base} {policy} [0:0]\n{declared}" + "\n".join([*rules, "COMMIT", ""])


def with_rules(
    *rules: str, name: DumpName = "iptables-nft-save", policy: str = "ACCEPT", ufw: str = ""
) -> NodeReport:
    """What the first system node reported."""
    return make.report("system", 0, dumps={name: filters(*rules, policy=policy)}, ufw=ufw)


def a_cluster(*reports: NodeReport) -> Snapshot:
    """The cluster, whose other nodes have what every node has."""
    there = {report.node for report in reports}
    others = [
        make.report(pool, number, dumps={"iptables-nft-save": filters(*KUBE)})
        for pool, number in (("system", 0), ("system", 1), ("user", 0))
    ]
    return make.snapshot(
        SYSTEM, USER, probes=Probes(reports=(*reports, *(one for one in others if one.node not in there)))
    )


Said = tuple[str, str]


def gist(what: Snapshot) -> list[Said]:
    """What is said, in two words each: severity and where, or that it is unknown and why."""
    return sorted(_gist(one) for one in check(what))


def _gist(one: Statement) -> Said:
    if isinstance(one, Fault):
        words = one.subject.partition("/agentPools/")[2].split("/")
        return one.severity or "critical", "/".join(words[:4])
    assert isinstance(one, (Unknown, NotApplicable))
    return ("unknown" if isinstance(one, Unknown) else "not applicable"), one.reason.code


NFT = """table inet hardening {
	set nodes {
		type ipv4_addr
		flags interval
		elements = { 10.240.0.0-10.240.1.255 }
	}
	chain input {
		type filter hook input priority filter; policy accept;
		ct state established,related accept
		ip saddr @nodes tcp dport { 22, 10250 } drop comment "it's ours"
	}
}
"""


CASES: dict[str, tuple[Snapshot, list[Said]]] = {
    "what stands on every node": (a_cluster(), []),
    "no rule at all": (a_cluster(make.report("system", 0)), []),
    "a drop": (a_cluster(with_rules(*KUBE, DROP)), [("critical", "system/iptables-nft/filter/INPUT")]),
    "a drop after everything is accepted": (a_cluster(with_rules("-A INPUT -j ACCEPT", DROP)), []),
    "a drop of another port": (a_cluster(with_rules(SSH)), []),
    "a rejection in a chain of somebody's own": (
        a_cluster(with_rules(JUMP, REJECT, name="iptables-legacy-save")),
        [("critical", "system/iptables-legacy/filter/team-a")],
    ),
    "a policy": (a_cluster(with_rules(policy="DROP")), [("critical", "system/iptables-nft/filter/INPUT")]),
    "one node is turned away": (
        a_cluster(with_rules(ONE)),
        [("critical", "system/iptables-nft/filter/INPUT")],
    ),
    "an address that no machine has": (
        a_cluster(with_rules(NOBODY)),
        [("warning", "system/iptables-nft/filter/INPUT")],
    ),
    "the node's own address": (a_cluster(with_rules(ITSELF)), []),
    "two rules are two findings": (
        a_cluster(with_rules(ONE, JUMP, REJECT)),
        [("critical", "system/iptables-nft/filter/INPUT"), ("critical", "system/iptables-nft/filter/team-a")],
    ),
    "both back ends": (
        a_cluster(
            make.report(
                "system",
                0,
                dumps={"iptables-nft-save": filters(DROP), "iptables-legacy-save": filters(DROP)},
            )
        ),
        [
            ("critical", "system/iptables-legacy/filter/INPUT"),
            ("critical", "system/iptables-nft/filter/INPUT"),
        ],
    ),
    "another table": (
        a_cluster(
            make.report(
                "system",
                0,
                dumps={
                    "iptables-nft-save": filters(
                        "-A PREROUTING -p tcp -m tcp --dport 10250 -j DROP", table="raw", base="PREROUTING"
                    )
                },
            )
        ),
        [("critical", "system/iptables-nft/raw/PREROUTING")],
    ),
    "IPv6's rules, on a node without": (
        a_cluster(with_rules("-A INPUT -p tcp -j DROP", name="ip6tables-nft-save")),
        [],
    ),
    "IPv6's rules, on a node with": (
        make.snapshot(
            make.pool("dual", DUAL, "10.240.2.4,fd00:10:0:2::4 10.240.2.5,fd00:10:0:2::5"),
            probes=Probes(
                reports=(
                    make.report("dual", 0, dumps={"ip6tables-nft-save": filters("-A INPUT -p tcp -j DROP")}),
                )
            ),
        ),
        [("critical", "dual/ip6tables-nft/filter/INPUT")],
    ),
    "nftables": (
        a_cluster(make.report("system", 0, dumps={"nft": NFT})),
        [("critical", "system/nft/hardening/input")],
    ),
    "nftables, and another port": (
        a_cluster(make.report("system", 0, dumps={"nft": NFT.replace("10250", "10251")})),
        [],
    ),
    "a set of nftables whose members come and go": (
        a_cluster(
            make.report("system", 0, dumps={"nft": NFT.replace("flags interval", "flags dynamic,timeout")})
        ),
        [("unknown", "unknown_set")],
    ),
    "a ruleset that is none": (
        a_cluster(make.report("system", 0, dumps={"nft": "Error: something"})),
        [("unknown", "malformed_answer")],
    ),
    "two rules that differ in case alone": (
        a_cluster(
            with_rules(
                '-A INPUT -s 10.240.1.4/32 -m comment --comment "Team A" -j DROP',
                '-A INPUT -s 10.240.0.5/32 -m comment --comment "Team A" -j DROP',
                "-A Team -p tcp -j DROP",
                "-A team -p tcp -j DROP",
                "-A INPUT -s 10.240.0.5/32 -j Team",
                "-A INPUT -s 10.240.1.4/32 -j team",
            )
        ),
        [("critical", "system/iptables-nft/filter/INPUT")] * 2,
    ),
    "an ipset decides": (a_cluster(with_rules(IPSET)), [("unknown", "unknown_set")]),
    "a mark decides": (a_cluster(with_rules(MARK)), [("unknown", "unknown_mark")]),
    "an ipset that comes too late": (a_cluster(with_rules("-A INPUT -j ACCEPT", IPSET)), []),
    "an ipset beside a drop": (
        a_cluster(with_rules(ONE, IPSET)),
        [("critical", "system/iptables-nft/filter/INPUT"), ("unknown", "unknown_set")],
    ),
    "rules that are none": (
        a_cluster(make.report("system", 0, dumps={"iptables-nft-save": "*filter\n-A INPUT -j\nCOMMIT\n"})),
        [("unknown", "malformed_answer")],
    ),
    "rules that could not be listed": (
        a_cluster(
            make.report("system", 0, unread=(Reason(code="timeout", message="iptables-nft-save hung."),))
        ),
        [("unknown", "timeout")],
    ),
    "UFW's chains, of which UFW tells": (a_cluster(with_rules(*UFW, policy="DROP", ufw=UFW_ON)), []),
    "UFW's chains, and UFW says that it is off": (
        a_cluster(with_rules(*UFW, policy="DROP", ufw="Status: inactive")),
        [("critical", "system/iptables-nft/filter/INPUT")],
    ),
    "somebody's rule before UFW's": (
        a_cluster(with_rules(DROP, *UFW, policy="DROP", ufw=UFW_ON)),
        [("critical", "system/iptables-nft/filter/INPUT")],
    ),
    "probes are off": (make.snapshot(SYSTEM), [("unknown", "probes_disabled")]),
    "a node that is busy": (
        make.snapshot(
            USER,
            SYSTEM,
            probes=Probes(reports=(make.report("user", 0),), unread=(make.unprobed("system", 1),)),
        ),
        [("unknown", "busy")],
    ),
    "nothing but Windows": (make.snapshot(WINDOWS), [("not applicable", "no_linux_nodes")]),
    "stopped": (make.snapshot(make.pool("x", NODES, stopped=True)), [("not applicable", "stopped")]),
}


@pytest.mark.parametrize("name", CASES)
def test_verdicts(name: str) -> None:
    """Severity and place of each finding, and each reason."""
    what, said = CASES[name]
    assert gist(what) == sorted(said)


def test_one_rule_on_many_nodes_is_one_finding() -> None:
    """With the number that it has on each, whatever else stands before it."""
    what = a_cluster(
        with_rules(*KUBE, DROP),
        make.report("system", 1, dumps={"iptables-nft-save": filters(SSH, SSH, DROP)}),
    )
    [found] = check(what)
    assert isinstance(found, Fault)
    assert [(node["machineId"], node["line"]) for node in found.evidence["nodes"]] == [
        (make.machine_id("system", 0), 2),
        (make.machine_id("system", 1), 3),
    ]
    assert found.evidence["rule"] == DROP
    assert "on 2 nodes of node pool system" in found.title
    by_rule, by_number = found.remediation
    scripts = [
        shlex.split(command)[shlex.split(command).index("--scripts") + 1] for command in by_rule.commands
    ]
    delete = "iptables-nft --delete INPUT --jump DROP --source 10.240.0.0/16 --protocol tcp"
    assert scripts == [f"{delete} --destination-port 10250"] * 2
    assert [
        command.partition("--scripts ")[2].partition(" --output")[0] for command in by_number.commands
    ] == [
        "'iptables-nft --delete INPUT 2'",
        "'iptables-nft --delete INPUT 3'",
    ]
    assert "support policy" in by_rule.summary


def test_a_policy_is_set_to_accept() -> None:
    """It has no number, and nothing to delete."""
    [found] = check(a_cluster(with_rules(policy="DROP", name="iptables-legacy-save")))
    assert isinstance(found, Fault)
    [only] = found.remediation
    assert "'iptables-legacy --policy INPUT ACCEPT'" in only.commands[0]


def test_what_others_saw_makes_it_observed() -> None:
    """Nobody who tried got through."""
    what = a_cluster(
        with_rules(DROP),
        make.report("user", 0, reach="10.240.0.4:timeout", dumps={"iptables-nft-save": filters(*KUBE)}),
    )
    [found] = check(what)
    assert isinstance(found, Fault)
    assert (found.confidence, found.evidence["unreachable"]) == ("observed", ["aks-system-0"])


def test_a_rule_of_nftables_is_deleted_by_its_handle() -> None:
    """Which the node is asked for, by what the rule says."""
    [found] = check(a_cluster(make.report("system", 0, dumps={"nft": NFT})))
    assert isinstance(found, Fault)
    [only] = found.remediation
    words = shlex.split(only.commands[0])
    script = words[words.index("--scripts") + 1]
    assert script.startswith("nft delete rule inet hardening input handle $(nft -s -a list chain inet ")
    assert 'comment "it' in script
