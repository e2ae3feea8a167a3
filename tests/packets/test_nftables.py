"""The nftables engine: which base chains a packet meets, in what order, and how a rule is taken away."""

import pytest

from packets.addresses import parse_port_range, parse_prefixes
from packets.dumps.nftables import read_nftables
from packets.netfilter import Question, Where
from packets.nftables import answer, delete_commands, evaluate, handle_of, is_of_iptables, steps

NODES = "10.240.0.0/24"


def ask(text: str, sources: str = NODES, *, interface: str = "eth0") -> tuple[str, list[str]]:
    """Outcome, and the names of what decided."""
    question = Question.to_node(
        "tcp",
        parse_port_range("10250"),
        sources=parse_prefixes(sources.split(",")),
        destinations=None,
        interface=interface,
    )
    said = answer(read_nftables(text), question)
    return said.outcome, [rule.name for rule in said.rules]


def chain(name: str, base: str, *rules: str) -> str:
    """A chain as it is listed."""
    return "\n".join([f"\tchain {name} {{", *(f"\t\t{line}" for line in (base, *rules) if line), "\t}"])


def table(head: str, *chains: str) -> str:
    """A table as it is listed."""
    return "\n".join([f"table {head} {{", *chains, "}\n"])


def base(hook: str, priority: str = "filter", policy: str = "accept", kind: str = "filter") -> str:
    """What makes a base chain."""
    return f"type {kind} hook {hook} priority {priority}; policy {policy};"


DROPS = chain("d", base("input"), "drop")

NO_DEVICES = (
    '{"nftables": [{"chain": {"family": "netdev", "table": "t", "name": "i", "type": "filter",'
    ' "hook": "ingress", "prio": 0, "policy": "drop"}}]}'
)


@pytest.mark.parametrize(
    ("text", "sources", "outcome", "deciding"),
    [
        # Whatever drops wins; accept ends its own chain alone.
        (table("inet a", chain("a", base("input", "-5"), "accept"), DROPS), NODES, "blocked", ["a 1", "d 1"]),
        (
            table("inet a", chain("a", base("input", "filter + 10"), "accept"), DROPS),
            NODES,
            "blocked",
            ["d 1", "a 1"],
        ),
        (table("inet a", chain("in", base("input", policy="drop"))), NODES, "blocked", ["in"]),
        (
            table("inet a", chain("in", base("input", policy="drop"), "tcp dport 10250 accept")),
            NODES,
            "allowed",
            ["in 1"],
        ),
        (table("inet a", chain("in", base("prerouting", "raw", "drop"))), NODES, "blocked", ["in"]),
        # Other hooks, families, and tables that are switched off have nothing to do with it.
        (table("inet a", chain("x", base("forward", policy="drop"))), NODES, "allowed", ["ruleset"]),
        (table("inet a", chain("x", base("output", policy="drop"))), NODES, "allowed", ["ruleset"]),
        (table("inet a", chain("x", base("postrouting", policy="drop"))), NODES, "allowed", ["ruleset"]),
        (table("inet a", chain("x", "", "drop")), NODES, "allowed", ["ruleset"]),
        (table("bridge a", chain("x", base("input", policy="drop"))), NODES, "allowed", ["ruleset"]),
        (table("arp a", chain("x", base("input", policy="drop"))), NODES, "allowed", ["ruleset"]),
        (table("inet a", "\tflags dormant\n", DROPS), NODES, "allowed", ["ruleset"]),
        (table("ip6 a", DROPS), NODES, "allowed", ["ruleset"]),
        (table("ip6 a", DROPS), "fd00::/64", "blocked", ["d 1"]),
        (table("ip a", DROPS), f"{NODES},fd00::/64", "mixed", ["d 1"]),
        # At ingress, by the devices that a chain is about.
        (
            table("netdev n", chain("i", 'type filter hook ingress device "eth0" priority 0; policy drop;')),
            NODES,
            "blocked",
            ["i"],
        ),
        (
            table("netdev n", chain("i", 'type filter hook ingress device "eth1" priority 0; policy drop;')),
            NODES,
            "allowed",
            ["ruleset"],
        ),
        (
            table(
                "inet n",
                chain("i", "type filter hook ingress devices = { lo, eth0 } priority -500; policy drop;"),
            ),
            NODES,
            "blocked",
            ["i"],
        ),
        (
            table(
                "netdev n",
                chain("i", 'type filter hook ingress devices = { "eth*" } priority 0; policy drop;'),
            ),
            NODES,
            "blocked",
            ["i"],
        ),
        # Until connection tracking has seen a packet it is invalid, and after notrack it is untracked.
        (
            table("inet a", chain("r", base("prerouting", "raw"), "ct state invalid drop")),
            NODES,
            "blocked",
            ["r 1"],
        ),
        (
            table("inet a", chain("r", base("prerouting", "-150"), "ct state invalid drop")),
            NODES,
            "allowed",
            ["r"],
        ),
        (
            table("inet a", chain("r", base("input", "-300"), "ct state invalid drop")),
            NODES,
            "allowed",
            ["r"],
        ),
        (
            table(
                "inet a",
                chain("r", base("prerouting", "raw"), "notrack"),
                chain("in", base("input"), "ct state untracked drop"),
            ),
            NODES,
            "blocked",
            ["r", "in 1"],
        ),
        # What is untracked passes no NAT.
        (
            table(
                "ip a",
                chain("r", base("prerouting", "raw"), "notrack"),
                chain("n", base("prerouting", "dstnat", kind="nat"), "drop"),
            ),
            NODES,
            "allowed",
            ["r", "n"],
        ),
        (
            table("ip a", chain("n", base("prerouting", "dstnat", kind="nat"), "drop")),
            NODES,
            "blocked",
            ["n 1"],
        ),
        # Jumps, and what comes back from them.
        (
            table("inet a", chain("in", base("input"), "jump x", "drop"), chain("x", "", "return", "accept")),
            NODES,
            "blocked",
            ["in 2"],
        ),
        (
            table("inet a", chain("in", base("input"), "goto x", "drop"), chain("x", "", "return", "drop")),
            NODES,
            "allowed",
            ["in"],
        ),
        (
            table(
                "inet a",
                chain("in", base("input"), "tcp dport vmap { 10250 : goto x }", "drop"),
                chain("x", ""),
            ),
            NODES,
            "allowed",
            ["in"],
        ),
        # The devices of a chain that JSON of nft 1.0.6 leaves out.
        (
            NO_DEVICES,
            NODES,
            "unknown",
            ["i"],
        ),
    ],
)
def test_what_a_packet_meets(text: str, sources: str, outcome: str, deciding: list[str]) -> None:
    """Outcome, and the rules and policies that decided, in the order in which a packet meets them."""
    assert ask(text, sources) == (outcome, deciding)


def test_priorities() -> None:
    """Names and numbers, of each hook by itself."""
    written = [
        "raw",
        "mangle",
        "dstnat",
        "filter",
        "security",
        "srcnat",
        "filter + 10",
        "filter - 1",
        "-42",
        "7",
    ]
    chains = [chain(f"p{at}", base("prerouting", one)) for at, one in enumerate(written)]
    chains += [
        chain("i", base("input", "-500")),
        chain("g", 'type filter hook ingress device "eth0" priority 9;'),
    ]
    question = Question.to_node(
        "tcp", parse_port_range("10250"), sources=parse_prefixes([NODES]), destinations=None
    )
    met = steps(read_nftables(table("inet a", *chains)), question)
    assert [(step.chain, step.priority, step.hook) for step in met] == [
        ("g", 9, "ingress"),
        ("p0", -300, "prerouting"),
        ("p1", -150, "prerouting"),
        ("p2", -100, "prerouting"),
        ("p8", -42, "prerouting"),
        ("p7", -1, "prerouting"),
        ("p3", 0, "prerouting"),
        ("p9", 7, "prerouting"),
        ("p6", 10, "prerouting"),
        ("p4", 50, "prerouting"),
        ("p5", 100, "prerouting"),
        ("i", -500, "input"),
    ]


def test_an_interface_that_nobody_knows() -> None:
    """A chain at ingress may be about it, unless it is about loopback alone."""
    for device, outcome in (("eth0", "unknown"), ("lo", "allowed")):
        ingress = f'type filter hook ingress device "{device}" priority 0; policy drop;'
        assert ask(table("netdev n", chain("i", ingress)), interface="")[0] == outcome


HANDLES = """table inet filter { # handle 2
	chain input { # handle 1
		type filter hook input priority filter; policy accept;
		ct state established,related accept # handle 7
		ip saddr 10.240.0.0/24 counter packets 0 bytes 0 drop comment "# handle 99" # handle 12
	}
}
"""


def decided(text: str) -> Where:
    """The rule that denies, or the policy."""
    question = Question.to_node(
        "tcp", parse_port_range("10250"), sources=parse_prefixes([NODES]), destinations=None
    )
    [found] = [one.rule for one in evaluate(read_nftables(text), question) if one.verdict == "denied"]
    return found


def test_how_a_rule_is_taken_away() -> None:
    """By its handle; where none is shown by the way to it; a policy by setting it."""
    where = decided(HANDLES)
    assert (where.family, where.table, where.chain, where.number) == ("inet", "filter", "input", 2)
    assert handle_of(read_nftables(HANDLES), where) == 12
    assert delete_commands(where, 12) == ("nft delete rule inet filter input handle 12",)
    plain = "\n".join(line.partition(" # handle")[0] for line in HANDLES.replace('"# h', '"h').split("\n"))
    assert handle_of(read_nftables(plain), decided(plain)) is None
    assert delete_commands(where) == (
        "nft -a list chain inet filter input",
        "nft delete rule inet filter input handle HANDLE",
    )
    policy = decided(
        table("ip6", "").replace("ip6", "inet x") + table("ip t", chain("c", base("input", policy="drop")))
    )
    assert (policy.number, policy.table) == (0, "t")
    assert delete_commands(policy) == ("nft chain ip t c '{ policy accept ; }'",)
    assert handle_of(read_nftables(HANDLES), policy) is None


@pytest.mark.parametrize(
    ("text", "own"),
    [
        (table("ip filter", chain("INPUT", base("input"), "drop"), chain("KUBE-FIREWALL", "")), True),
        (table("ip6 raw", chain("PREROUTING", base("prerouting", "raw"))), True),
        (table("ip nat", chain("PREROUTING", base("prerouting", "dstnat", kind="nat"))), True),
        # Somebody else's, or with something of somebody else's in it.
        (table("ip filter", chain("input", base("input"))), False),
        (table("ip filter", chain("INPUT", base("input")), chain("mine", base("input", "-5"))), False),
        (table("ip filter", chain("INPUT", base("prerouting"))), False),
        (table("inet filter", chain("INPUT", base("input"))), False),
        (table("ip other", chain("INPUT", base("input"))), False),
        (table("ip filter", chain("KUBE-FIREWALL", "")), False),
    ],
)
def test_tables_of_iptables(text: str, own: bool) -> None:
    """Told by family, name and base chains."""
    [found] = read_nftables(text).tables
    assert is_of_iptables(found) is own
