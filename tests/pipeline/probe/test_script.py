"""The probe script under both shells, on nodes that are namespaces of the real kernel."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from facts.filters import Missing
from facts.probes import Answered, Ufw
from pipeline.probe.frame import FrameError, join, parameters
from tests.kernel import Lab, open_lab, skip_without_namespaces
from tests.pipeline.probe.runs import FILTERS, KEPT, SCRIPT, TOOLS, Node, dumps, unread

BACK_ENDS = ("nft", "legacy")
ALL_TOOLS = (*TOOLS, *FILTERS)
Make = Callable[[], Node]


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A node, and what is on the other side of its network."""
    skip_without_namespaces("iptables-nft", "iptables-legacy", "ip6tables-nft", "nft", "nc")
    with open_lab() as made:
        yield made


@pytest.fixture(params=["dash", "bash"])
def node(request: pytest.FixtureRequest, lab: Lab, tmp_path: Path) -> Node:
    """The node with each of the shells that are `sh` on AKS images."""
    return Node(lab, tmp_path, shell=request.param)


@pytest.fixture
def dash(lab: Lab, tmp_path: Path) -> Node:
    """The node with the shell of Ubuntu, for what has nothing to do with the shell."""
    return Node(lab, tmp_path)


def restore(lab: Lab, back_end: str, rules: str, family: str = "iptables") -> None:
    """Load rules as iptables-save writes them."""
    for table in rules.split("COMMIT\n")[:-1]:
        name, *lines = table.splitlines()
        # Without root's rights a message to the kernel has a limit.
        for start in range(0, len(lines), 300):
            part = "\n".join([name, *lines[start : start + 300], "COMMIT", ""])
            lab.run(f"{family}-{back_end}-restore", "--noflush", given=part)


# --- packet filters ------------------------------------------------------------------------------

RULES = r"""*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -s 10.9.0.0/16 -j DROP
-A OUTPUT -p udp -j DROP
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
-A PREROUTING -m mark --mark 0x5 -j DROP
-A INPUT -i eth1 -j DROP
-A FORWARD -j DROP
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:deep - [0:0]
:elsewhere - [0:0]
:gone - [0:0]
:team-g - [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -s 10.240.0.0/16 -p tcp -m tcp --dport 10250 -m comment --comment "team-g -j gone \"1\"" -j team-g
-A INPUT -p tcp -m multiport --dports 22,10250:10255 -g deep
-A FORWARD -j elsewhere
-A deep -p tcp -m tcp --dport 10250 -j REJECT --reject-with icmp-admin-prohibited
-A elsewhere -j DROP
-A team-g -j deep
-A team-g -j ACCEPT
COMMIT
"""
KEPT_RULES = r"""*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING -s 10.9.0.0/16 -j DROP
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
-A PREROUTING -m mark --mark 0x5 -j DROP
-A INPUT -i eth1 -j DROP
COMMIT
*filter
:INPUT DROP [0:0]
:deep - [0:0]
:team-g - [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -s 10.240.0.0/16 -p tcp -m tcp --dport 10250 -m comment --comment "team-g -j gone \"1\"" -j team-g
-A INPUT -p tcp -m multiport --dports 22,10250:10255 -g deep
-A deep -p tcp -m tcp --dport 10250 -j REJECT --reject-with icmp-admin-prohibited
-A team-g -j deep
-A team-g -j ACCEPT
COMMIT
"""


def tables(text: str) -> set[str]:
    """A dump's tables, whatever order they are in."""
    return set(re.findall(r"(?s)\*.*?\nCOMMIT\n", text))


@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_rules_on_the_way_in(node: Node, back_end: str) -> None:
    """All rules of the chains that a packet can come to, as iptables-save prints them, and no others."""
    restore(node.lab, back_end, RULES)
    report = node.report()
    found = dumps(report)
    assert set(found) == {f"iptables-{back_end}-save"}
    assert tables(found[f"iptables-{back_end}-save"]) == tables(KEPT_RULES)
    assert report.unread == ()
    assert report.os
    assert report.interface == "eth0"


@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_both_families(node: Node, back_end: str) -> None:
    """IPv6 has dumps of its own."""
    rules = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s fd00::/8 -p tcp -m tcp --dport 10250 -j DROP\nCOMMIT\n"
    restore(node.lab, back_end, rules, "ip6tables")
    assert dumps(node.report()) == {f"ip6tables-{back_end}-save": rules}


def test_all_filters_at_once(dash: Node) -> None:
    """One does not hide another."""
    for back_end in BACK_ENDS:
        restore(
            dash.lab,
            back_end,
            f"*filter\n-A INPUT -s 10.0.0.1 -j DROP -m comment --comment {back_end}\nCOMMIT\n",
        )
    dash.lab.run("nft", "-f", "-", given=table("tcp dport 10250 drop"))
    found = dumps(dash.report())
    assert {name: text.count("10.0.0.1/32") for name, text in found.items()} == {
        "iptables-nft-save": 1,
        "iptables-legacy-save": 1,
        "nft": 0,
    }
    assert "tcp dport 10250 drop" in found["nft"]


def test_a_node_without_rules(node: Node) -> None:
    """Nothing is there, nothing is unread."""
    report = node.report()
    assert (report.dumps, report.unread, report.reach) == ((), (), ())


@pytest.mark.parametrize("back_end", BACK_ENDS)
@pytest.mark.parametrize(
    "comment",
    [
        'say "-j DROP"',
        "it's \\ a backslash \\\\",
        "a line\n-A INPUT -j DROP\nbreak",
        'both "of\nthem" -j OTHER',
        "#status 0\n#status 0 ",
        "\nCOMMIT\n*filter\n:INPUT DROP [0:0]",
        "| section nft ok",
        "t\xfcr",
    ],
)
def test_comments_are_only_comments(node: Node, back_end: str, comment: str) -> None:
    """Whatever is in one: it is a rule with a comment, on one line; the next keeps its number."""
    for rule in (["-m", "comment", "--comment", comment, "-j", "ACCEPT"], ["-j", "DROP"]):
        node.lab.run(f"iptables-{back_end}", "-A", "INPUT", *rule)
    report = node.report()
    assert report.unread == ()
    text = dumps(report)[f"iptables-{back_end}-save"]
    lines = text.splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["*filter", ":INPUT", "-A", "-A", "COMMIT"]
    assert re.fullmatch(r"-A INPUT -m comment --comment .* -j ACCEPT", lines[2])
    assert lines[3] == "-A INPUT -j DROP"


def test_sets_are_named(dash: Node) -> None:
    """A match on an ipset comes as it stands."""
    skip_without_namespaces("ipset")
    made = dash.lab.run("ipset", "create", "blocked", "hash:net", check=False)
    if made.returncode:
        pytest.skip(f"this kernel has no ipset: {made.stderr.strip()}")
    dash.lab.run("iptables-nft", "-A", "INPUT", "-m", "set", "--match-set", "blocked", "src", "-j", "DROP")
    assert "-A INPUT -m set --match-set blocked src -j DROP\n" in dumps(dash.report())["iptables-nft-save"]


# --- nat -----------------------------------------------------------------------------------------

KUBE_PROXY = """-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.0.0.1/32 -p tcp -m tcp --dport 443 -j KUBE-SVC-A
-A KUBE-SVC-A -j KUBE-SEP-A
-A KUBE-SEP-A -p tcp -j DNAT --to-destination 10.244.0.2:10250
"""
HOST_PORTS = (
    "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n-A CNI-HOSTPORT-DNAT {} -j CNI-DN-1\n"
)
TO = "-j DNAT --to-destination 10.244.0.3:80"


def nat(rules: str) -> str:
    """A nat table with these rules, and every chain that they lead to."""
    chains = dict.fromkeys(re.findall(r"-[Ajg] ((?:KUBE|CNI|own)-?\S*)", rules))
    declared = "".join(f":{chain} - [0:0]\n" for chain in chains)
    return f"*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n{declared}{rules}COMMIT\n"


@pytest.mark.parametrize("back_end", BACK_ENDS)
@pytest.mark.parametrize(
    ("rules", "there"),
    [
        (KUBE_PROXY, False),
        (f"{KUBE_PROXY}-A PREROUTING -p tcp --dport 80 {TO}\n", False),
        (f"{KUBE_PROXY}-A PREROUTING -p tcp --dport 10250 {TO}\n", True),
        (f"-A PREROUTING -p tcp --dport 10000:11000 {TO}\n", True),
        (f"-A PREROUTING -p tcp --dport 10251:11000 {TO}\n", False),
        (f"-A PREROUTING -p tcp -m multiport --dports 80,10250 {TO}\n", True),
        (f"-A PREROUTING -p tcp -m multiport --dports 80,443 {TO}\n", False),
        (f"-A PREROUTING -p tcp -m multiport ! --dports 80,443 {TO}\n", True),
        (f"-A PREROUTING -p tcp ! --dport 10250 {TO}\n", False),
        ("-A PREROUTING -i eth1 -j REDIRECT\n", True),
        ("-A PREROUTING -p udp -j REDIRECT\n", False),
        ("-A PREROUTING ! -p udp -j REDIRECT\n", True),
        ("-A PREROUTING -p tcp --sport 10250 -j REDIRECT --to-ports 1\n", True),
        ("-A PREROUTING -d 10.240.0.4 -j NETMAP --to 10.9.0.4\n", True),
        ('-A PREROUTING -m comment --comment "x --dport 80" -j own\n-A own -p tcp -j REDIRECT\n', True),
        ("-A OUTPUT -p tcp --dport 10250 -j REDIRECT --to-ports 1\n", False),
        (
            KUBE_PROXY
            + HOST_PORTS.format("-p tcp -m multiport --dports 8080")
            + f"-A CNI-DN-1 -p tcp --dport 8080 {TO}\n",
            False,
        ),
        (
            KUBE_PROXY
            + HOST_PORTS.format("-p tcp -m multiport --dports 10250")
            + f"-A CNI-DN-1 -p tcp --dport 10250 {TO}\n",
            True,
        ),
    ],
)
def test_nat_where_it_matters(dash: Node, back_end: str, rules: str, there: bool) -> None:
    """It is there if it does something to TCP 10250; kube-proxy's chains never are, but jumps to them."""
    restore(dash.lab, back_end, nat(rules))
    text = "".join(dumps(dash.report()).values())
    assert ("*nat" in text) == there
    if there:
        assert text.count("-A PREROUTING") == rules.count("-A PREROUTING")
        assert "-A KUBE" not in text
        assert (":KUBE-SERVICES - [0:0]\n" in text) == ("-j KUBE-SERVICES" in rules)
        assert text.count("-A CNI-") == rules.count("-A CNI-")


# --- nftables ------------------------------------------------------------------------------------


def table(*rules: str, name: str = "inet own", chain: str = "in", hook: str = "filter hook input") -> str:
    """A table with one chain that hooks in, for nft."""
    body = "\n".join(rules)
    return f"table {name} {{\nchain {chain} {{\ntype {hook} priority 5; policy accept;\n{body}\n}}\n}}\n"


NATIVE = """table inet own {
	set bad {
		type ipv4_addr
		flags timeout
		elements = { 10.9.0.1 timeout 1d comment "} jump away" }
	}
	set unused {
		type ipv4_addr
		elements = { 10.9.9.9 }
	}
	map verdicts {
		type ipv4_addr : verdict
		elements = { 10.9.0.2 : jump extra, 10.9.0.3 : drop }
	}
	limit slow {
		rate 10/second
	}
	chain away {
		drop
	}
	chain extra {
		tcp dport 10250 drop
	}
	chain second {
		limit name "slow" accept
	}
	chain in {
		type filter hook input priority filter + 5; policy accept;
		ip saddr @bad drop comment "jump away"
		ip saddr vmap @verdicts
		tcp dport vmap { 1 : drop, 10250 : goto second }
	}
	chain out {
		type filter hook output priority filter; policy accept;
		jump away
	}
}
"""


def without(text: str, *blocks: str) -> str:
    """A ruleset as nft lists it, without some of its chains and sets."""
    for block in blocks:
        text, times = re.subn(rf"(?s)\t{block} \{{\n.*?\n\t\}}\n", "", text)
        assert times == 1
    return text


def test_nftables_on_the_way_in(node: Node) -> None:
    """Chains that hook in on the way, what they lead to and what these name; no others."""
    node.lab.run("nft", "-f", "-", given=NATIVE)
    # nft lists named limits and the like first.
    listed = node.lab.run("nft", "-s", "list", "ruleset").stdout
    assert sorted(filter(None, listed.splitlines())) == sorted(NATIVE.splitlines())
    found = dumps(node.report())
    assert set(found) == {"nft"}
    assert found["nft"] == without(listed.replace("\n\n", "\n"), "set unused", "chain away", "chain out")


@pytest.mark.parametrize(
    ("ruleset", "there"),
    [
        (table("tcp dport 10250 drop", name="ip x", hook="filter hook prerouting"), True),
        (table("tcp dport 10250 drop", name="ip6 x"), True),
        (table("tcp dport 10250 drop", name="netdev x", hook='filter hook ingress device "eth0"'), True),
        (table("tcp dport 10250 redirect to :1", name="ip x", hook="nat hook prerouting"), True),
        (table("tcp dport 10250 drop", hook="filter hook output"), False),
        (table("tcp dport 10250 drop", hook="filter hook forward"), False),
        (table("tcp dport 10250 drop", name="ip kube-proxy", hook="filter hook input"), True),
        (table("tcp dport 10250 drop", name="ip kube-proxy", hook="filter hook prerouting"), True),
        (table("tcp dport 10250 redirect to :1", name="ip kube-proxy", hook="nat hook prerouting"), False),
    ],
)
def test_which_hooks_count(dash: Node, ruleset: str, there: bool) -> None:
    """What a packet meets before it is at the kubelet, kube-proxy's translation aside."""
    dash.lab.run("nft", "-f", "-", given=ruleset)
    assert ("10250" in dumps(dash.report()).get("nft", "")) == there


@pytest.mark.parametrize(
    "rule",
    [
        "tcp dport { 1, 10250 } drop",
        "ip saddr { 10.0.0.1, 10.0.0.2 } counter drop",
        "ct state new tcp dport 10250 drop",
        "ip saddr vmap { 10.0.0.1 : drop }",
    ],
)
def test_rules_that_iptables_cannot_show(dash: Node, rule: str) -> None:
    """iptables-nft-save prints `-p tcp -j DROP` of the first: such a table comes as nft lists it."""
    dash.lab.run(
        "iptables-nft", "-A", "INPUT", "-p", "tcp", "-m", "multiport", "--dports", "80,443", "-j", "ACCEPT"
    )
    dash.lab.run("nft", f"add rule ip filter INPUT {rule}")
    found = dumps(dash.report())
    assert set(found) == {"nft"}
    assert f"\t\t{rule}\n" in found["nft"]


def test_a_chain_that_iptables_does_not_show(dash: Node) -> None:
    """A base chain under another name in iptables' own table: iptables-nft-save leaves it to nft."""
    dash.lab.run("iptables-nft", "-A", "INPUT", "-s", "10.0.0.1", "-j", "DROP")
    dash.lab.run("nft", "-f", "-", given=table("tcp dport 10250 drop", name="ip filter", chain="own"))
    found = dumps(dash.report())
    # A rule of somebody else's making: from here on the whole table is nft's to show.
    assert "tcp dport 10250 drop" in found["nft"]
    assert "10.0.0.1" in "".join(found.values())


def test_a_chain_of_nobody_in_a_table_of_iptables(dash: Node) -> None:
    """If all rules in the table are such as iptables makes, its own chains stay with iptables-nft-save."""
    dash.lab.run("iptables-nft", "-A", "INPUT", "-s", "10.0.0.1", "-j", "DROP")
    dash.lab.run("nft", "-f", "-", given=table("tcp dport 10250 counter drop", name="ip filter", chain="own"))
    found = dumps(dash.report())
    assert "-A INPUT -s 10.0.0.1/32 -j DROP" in found["iptables-nft-save"]
    assert "10.0.0.1" not in found["nft"]
    assert "tcp dport 10250 counter drop" in found["nft"]


def test_tables_of_iptables_where_nft_is_all_there_is(dash: Node) -> None:
    """Without iptables-nft-save nft lists them."""
    restore(dash.lab, "nft", RULES)
    restore(dash.lab, "nft", nat(KUBE_PROXY))
    dash.only([name for name in ALL_TOOLS if "nft-" not in name and name != "iptables"])
    report = dash.report()
    text = dumps(report)["nft"]
    assert set(dumps(report)) == {"nft"}
    assert "chain deep {" in text
    assert "chain elsewhere {" not in text
    assert "\tchain KUBE-SERVICES {\n\t}\n" in text
    assert "10.244.0.2" not in text


# --- UFW -----------------------------------------------------------------------------------------


@pytest.fixture
def ufw(lab: Lab, tmp_path: Path) -> Lab:
    """The node with a UFW whose configuration is its own."""
    skip_without_namespaces("ufw")
    for place in ("/etc/ufw", "/etc/default/ufw"):
        own = tmp_path / place.replace("/", "_")
        lab.run("cp", "-a", place, str(own))
        lab.run("mount", "--bind", str(own), place)
    return lab


def test_ufw_is_asked(ufw: Lab, node: Node) -> None:
    """Its own words, whatever the machine speaks; and its chains."""
    for command in (["allow", "22/tcp"], ["limit", "10250/tcp"], ["--force", "enable"]):
        ufw.run("ufw", *command)
    report = node.report()
    assert isinstance(report.ufw, Ufw)
    assert report.ufw.installed
    assert report.ufw.status.startswith("Status: active\nLogging: ")
    assert re.search(r"^10250/tcp +LIMIT IN +Anywhere", report.ufw.status, re.MULTILINE)
    text = "".join(dumps(report).values())
    assert "-A INPUT -j ufw-before-input\n" in text
    assert "ufw-before-output" not in text


@pytest.mark.usefixtures("ufw")
def test_ufw_that_is_off(node: Node) -> None:
    """As installed on AKS nodes."""
    assert node.report().ufw == Ufw(installed=True, status="Status: inactive\n")


@pytest.mark.usefixtures("ufw")
def test_ufw_that_is_not_there(dash: Node) -> None:
    """No command, and no configuration that has it on."""
    dash.only([name for name in ALL_TOOLS if name != "ufw"])
    assert dash.report().ufw == Ufw(installed=False)


def test_ufw_without_its_command(ufw: Lab, dash: Node) -> None:
    """It may have set up rules; nobody can tell what they are about."""
    ufw.run("sed", "-i", "s/^ENABLED=.*/ENABLED=yes/", "/etc/ufw/ufw.conf")
    dash.only([name for name in ALL_TOOLS if name != "ufw"])
    found = dash.report().ufw
    assert isinstance(found, Missing)
    assert found.reason.code == "no_tool"
    assert "UFW is enabled in /etc/ufw/ufw.conf, and its command is not there" in found.reason.message


@pytest.mark.parametrize("loaded", [False, True])
def test_ufw_is_not_asked_where_that_would_make_a_table(dash: Node, loaded: bool) -> None:
    """`iptables-legacy -L`, which it runs, makes the table; without one UFW would say what is said here."""
    if loaded:
        dash.lab.run("iptables-legacy", "-A", "INPUT", "-j", "ACCEPT")
    before = dash.lab.run("cat", "/proc/net/ip_tables_names").stdout
    asking = "/usr/sbin/iptables-legacy -L -n >/dev/null; echo Status: inactive, it says itself"
    dash.only(ALL_TOOLS, {"iptables": 'exec /usr/sbin/iptables-legacy "$@"', "ufw": asking})
    status = "Status: inactive, it says itself\n" if loaded else "Status: inactive\n"
    assert dash.report().ufw == Ufw(installed=True, status=status)
    assert dash.lab.run("cat", "/proc/net/ip_tables_names").stdout == before


@pytest.mark.parametrize(
    ("does", "code", "words"),
    [
        ("echo ERROR: problem running iptables >&2; exit 1", "tool_failed", "problem running iptables"),
        ("sleep 60", "timeout", "did not finish in time"),
        ("exit 0", "tool_failed", "printed nothing"),
    ],
)
def test_ufw_that_does_not_answer(dash: Node, does: str, code: str, words: str) -> None:
    """Installed, and not known to be inactive."""
    dash.lab.run("iptables-nft", "-A", "INPUT", "-j", "ACCEPT")
    dash.lab.run("iptables-legacy", "-A", "INPUT", "-j", "ACCEPT")
    dash.hasten()
    dash.only(ALL_TOOLS, {"ufw": does})
    found = dash.report().ufw
    assert isinstance(found, Missing)
    assert (found.reason.code, words in found.reason.message) == (code, True), found.reason.message


# --- who answers ---------------------------------------------------------------------------------

# Of the kubelet's port alone: what a node sends to itself has the same address at both ends.
TO_KUBELET = ("-p", "tcp", "--dport", "10250")
ANSWERS: dict[str, tuple[str, Answered]] = {
    "10.240.0.4": ("", "open"),
    "10.240.0.11": ("-j REJECT --reject-with tcp-reset", "refused"),
    "10.240.0.12": ("-j REJECT", "refused"),
    "10.240.0.13": ("-j DROP", "timeout"),
    "10.240.0.14": ("-j REJECT --reject-with icmp-admin-prohibited", "unreachable"),
    "10.240.0.15": ("-j REJECT --reject-with icmp-net-unreachable", "unreachable"),
    "fd00:10:240::4": ("", "open"),
    "fd00:10:240::11": ("-j REJECT --reject-with tcp-reset", "refused"),
    "fd00:10:240::13": ("-j DROP", "timeout"),
    "fd00:10:240::14": ("-j REJECT --reject-with icmp6-no-route", "unreachable"),
}


@pytest.fixture
def answering(lab: Lab) -> Lab:
    """A node that answers on each of its addresses in another way."""
    for address, (rule, _) in ANSWERS.items():
        family, length = ("ip6tables", 128) if ":" in address else ("iptables", 32)
        if rule:
            lab.run("ip", "address", "add", f"{address}/{length}", "dev", "lo")
            lab.run(f"{family}-nft", "-A", "INPUT", "-d", address, *TO_KUBELET, *rule.split())
    return lab


def asked(node: Node) -> dict[str, Answered]:
    """What each address answers; those that do not accept say why."""
    reach = node.report(tuple(ANSWERS)).reach
    assert [one.address for one in reach] == list(ANSWERS)
    assert all(bool(one.said) != (one.answer == "open") for one in reach)
    return {one.address: one.answer for one in reach}


@pytest.mark.usefixtures("answering")
def test_answers(node: Node) -> None:
    """As netcat-openbsd tells them."""
    assert asked(node) == {address: answer for address, (_, answer) in ANSWERS.items()}


@pytest.mark.usefixtures("answering")
def test_answers_without_netcat(node: Node) -> None:
    """As bash tells them."""
    node.only([name for name in ALL_TOOLS if name != "nc"])
    assert asked(node) == {address: answer for address, (_, answer) in ANSWERS.items()}


@pytest.mark.usefixtures("answering")
def test_answers_of_ncat(dash: Node) -> None:
    """As Ncat tells them, which is `nc` on Azure Linux."""
    ncat = shutil.which("ncat")
    if ncat is None:
        pytest.skip("not installed: ncat")
    dash.only(ALL_TOOLS, {"nc": f'exec {ncat} "$@"'})
    assert asked(dash) == {address: answer for address, (_, answer) in ANSWERS.items()}


NCAT = """case "$*" in
-h) echo 'Ncat 7.93 ( https://nmap.org/ncat )'; echo 'Usage: ncat [options] [hostname] [port]' ;;
*-z*) echo "ncat: unrecognized option -- 'z'" >&2; exit 2 ;;
"-4 -n -v -w 2 --send-only 10.240.0.5 10250" | "-6 -n -v -w 2 --send-only fd00::5 10250")
  echo 'Ncat: Version 7.93 ( https://nmap.org/ncat )' >&2
  echo 'Ncat: {}' >&2
  exit {} ;;
*) exit 3 ;;
esac"""


@pytest.mark.parametrize(
    ("said", "status", "answer"),
    [
        ("Connected to 10.240.0.5:10250.", 0, "open"),
        ("Connection refused.", 1, "refused"),
        ("TIMEOUT.", 1, "timeout"),
        ("Connection timed out.", 1, "timeout"),
        ("No route to host.", 1, "unreachable"),
        ("Network is unreachable.", 1, "unreachable"),
        ("Operation not permitted.", 1, "error"),
    ],
)
def test_what_ncat_says(dash: Node, said: str, status: int, answer: Answered) -> None:
    """Recorded of Ncat 7.93, which is asked without -z: it is younger than some that are in use."""
    dash.only(ALL_TOOLS, {"nc": NCAT.format(said, status)})
    reach = dash.report(("10.240.0.5", "fd00::5")).reach
    assert [(one.answer, one.said) for one in reach] == [(answer, f"Ncat: {said}" if status else "")] * 2


def test_nobody_to_ask(node: Node) -> None:
    """Neither nc nor bash: the answer is that the test failed."""
    node.only([name for name in ALL_TOOLS if name not in {"nc", "bash"}])
    assert [(one.answer, one.said) for one in node.report(("10.240.0.4",)).reach] == [
        ("error", "there is neither nc nor bash on the node")
    ]


def test_as_many_addresses_as_there_may_be(dash: Node) -> None:
    """Their answers fit in one piece with what is around them; they come in the order of the question."""
    many = [
        f"fd{n:02x}:{n * 257 % 65521:x}:{n * 7919 % 65521:x}:{n:x}::{n * 104729 % 65521:x}"
        for n in range(1, 65)
    ]
    dash.lab.run(
        "ip6tables-nft", "-A", "OUTPUT", "-p", "tcp", "-j", "REJECT", "--reject-with", "icmp6-adm-prohibited"
    )
    reach = dash.report(many).reach
    assert [one.address for one in reach] == many
    assert {one.answer for one in reach} <= {"refused", "unreachable", "error", "timeout"}


def test_time_runs_out_among_the_addresses(dash: Node) -> None:
    """Those that were not asked are not in the answer; the rules still are."""
    many = [f"10.250.0.{n}" for n in range(1, 65)]
    dash.lab.run("iptables-nft", "-A", "OUTPUT", "-d", "10.250.0.0/24", "-j", "DROP")
    dash.change("\nASK=12 ", "\nASK=1 ")
    report = dash.report(many)
    # How many come before the second is over is the machine's affair; all of them cannot.
    asked = len(report.reach)
    assert asked in {0, 16, 32}
    assert [(one.address, one.answer) for one in report.reach] == [(one, "timeout") for one in many[:asked]]
    assert set(dumps(report)) == {"iptables-nft-save"}
    assert report.unread == ()


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("hung", ["iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "nft"])
def test_a_command_that_hangs(node: Node, hung: str) -> None:
    """It is unread with its reason; what was printed before is not taken for all."""
    for back_end in BACK_ENDS:
        restore(node.lab, back_end, RULES)
    node.hasten()
    part = "*filter\\n:INPUT ACCEPT [0:0]\\n"
    node.only(ALL_TOOLS, {hung: f"printf '{part}'; trap '' TERM; sleep 60; sleep 60"})
    report = node.report()
    assert hung not in dumps(report)
    mine = [reason for reason in report.unread if f" {hung}" in reason.message]
    assert [reason.code for reason in mine] == ["timeout"]
    assert 'node "aks-0"' in mine[0].message


def test_a_command_that_nothing_ends(node: Node, tmp_path: Path) -> None:
    """Its child keeps the pipe open and cannot be waited for: the frame comes, without the rest."""
    node.hasten()
    child = tmp_path / "child"
    does = f"/usr/bin/setsid /bin/sh -c 'echo $$ >{child}; exec sleep 60' &"
    node.only(ALL_TOOLS, {"iptables-nft-save": does})
    restore(node.lab, "legacy", RULES)
    report = node.report()
    pid = int(child.read_text())
    assert Path("/proc", str(pid), "cmdline").read_bytes() == b"sleep\x0060\x00", "the script waited for it"
    os.kill(pid, signal.SIGKILL)
    assert report.os
    assert report.dumps == ()
    assert {reason.code for reason in report.unread} == {"timeout"}
    assert len(report.unread) == 5
    assert all("time ran out" in reason.message for reason in report.unread)


@pytest.mark.parametrize(
    "cut", ["*filter\n:INPUT ACCEPT [0:0]", '*filter\n-A INPUT -m comment --comment "a', "*filter"]
)
def test_half_a_table(dash: Node, cut: str) -> None:
    """A dump that ends too early is unread, even if its command says that all is well."""
    quoted = cut.replace('"', '\\"')
    dash.only(ALL_TOOLS, {"iptables-nft-save": f'echo "{quoted}"'})
    [(message, code)] = unread(dash.report()).items()
    assert code == "tool_failed"
    assert "ends in the middle of a table" in message


def test_a_command_that_fails(dash: Node) -> None:
    """Its own words are in the reason, on one line."""
    dash.only(ALL_TOOLS, {"nft": "echo 'netlink: Error:' >&2; echo 'Operation\tnot permitted' >&2; exit 1"})
    [(message, code)] = unread(dash.report()).items()
    assert code == "tool_failed"
    assert (
        "nft list ruleset: it ended with status 1, saying: netlink: Error: Operation not permitted."
        in message
    )


def test_no_tool_for_tables_that_are_there(dash: Node) -> None:
    """They are there and nobody knows what they do."""
    restore(dash.lab, "legacy", RULES)
    dash.only(TOOLS)
    [(message, code)] = unread(dash.report()).items()
    assert code == "no_tool"
    assert "the kernel has tables of iptables-legacy, and there is no command to list them" in message


def test_no_tool_for_nftables(dash: Node) -> None:
    """Tables of nftables' own are shown by nft alone."""
    restore(dash.lab, "nft", RULES)
    dash.only([name for name in ALL_TOOLS if name != "nft"])
    report = dash.report()
    assert set(dumps(report)) == {"iptables-nft-save"}
    [(message, code)] = unread(report).items()
    assert code == "no_tool"
    assert "nft is not there to list all of its tables" in message


@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_one_iptables_save_for_all(dash: Node, back_end: str) -> None:
    """Where there is only one command, under its short name, it says itself what it lists."""
    restore(dash.lab, back_end, RULES)
    dash.only(TOOLS, {"iptables-save": f'exec /usr/sbin/iptables-{back_end}-save "$@"'})
    report = dash.report()
    assert report.unread == ()
    assert tables(dumps(report)[f"iptables-{back_end}-save"]) == tables(KEPT_RULES)


@pytest.mark.parametrize("lost", ["gzip", "timeout", "date"])
def test_it_does_without(node: Node, lost: str) -> None:
    """The same rules, packed or not, with limits or not."""
    restore(node.lab, "nft", RULES)
    node.only([name for name in ALL_TOOLS if name not in {lost, "ufw"}])
    assert tables(dumps(node.report())["iptables-nft-save"]) == tables(KEPT_RULES)


@pytest.mark.parametrize("lost", ["awk", "sha256sum", "base64"])
def test_it_cannot_do_without(node: Node, lost: str) -> None:
    """There is no frame, and the reason is quoted."""
    node.only([name for name in ALL_TOOLS if name != lost])
    with pytest.raises(FrameError, match=f"there is no {lost} on this node") as caught:
        node.report()
    assert caught.value.code == "no_frame"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"tw_piece": "0"}, "tw_piece is no number from 1 to 64"),
        ({"tw_piece": "2x"}, "tw_piece is no number from 1 to 64"),
        ({"tw_piece": "2"}, "tw_digest is not what a first piece says"),
        ({"tw_piece": "2", "tw_digest": "ab-cd"}, "tw_digest is not what a first piece says"),
        ({"tw_addresses": "node-1"}, "tw_addresses holds something that is no address"),
    ],
)
def test_the_script_checks_its_parameters(node: Node, values: dict[str, str], words: str) -> None:
    """Whoever sent them: it says so in a frame."""
    message = node.message([("tw_nonce", "n1"), *values.items()])
    assert "tunnelwatch-probe 1 n1 failed " + words in message


def test_the_script_wants_a_nonce(node: Node) -> None:
    """Without one there is nothing to frame an answer with."""
    message = node.message([("unrelated", "1")])
    assert "tunnelwatch" not in message
    assert "tw_nonce is missing" in message


# --- pieces --------------------------------------------------------------------------------------


def kube_proxy(services: int, health_checks: int) -> str:
    """Rules as kube-proxy writes them for many services, with chains that all of them are in."""
    lines = ["*filter", ":INPUT ACCEPT [0:0]", ":KUBE-NODEPORTS - [0:0]", "-A INPUT -j KUBE-NODEPORTS"]
    lines += [
        f'-A KUBE-NODEPORTS -p tcp -m comment --comment "ns/svc-{n * 7919 % 65521:x} health check node port" '
        f"-m tcp --dport {30000 + n} -j ACCEPT"
        for n in range(health_checks)
    ]
    lines += ["COMMIT", "*nat", ":PREROUTING ACCEPT [0:0]", ":KUBE-SERVICES - [0:0]"]
    lines += [f":KUBE-S{kind}-{n:016X} - [0:0]" for n in range(services) for kind in ("VC", "EP")]
    lines += ["-A PREROUTING -j KUBE-SERVICES"]
    for n in range(services):
        lines += [
            f"-A KUBE-SERVICES -d 10.0.{n >> 8}.{n & 255}/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-{n:016X}",
            f"-A KUBE-SVC-{n:016X} -j KUBE-SEP-{n:016X}",
            f"-A KUBE-SEP-{n:016X} -p tcp -m tcp -j DNAT --to-destination 10.244.0.9:8080",
        ]
    return "\n".join([*lines, "COMMIT", ""])


@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_a_report_in_pieces(node: Node, back_end: str) -> None:
    """Of thousands of rules only those on the way in come, in as many runs as they take, each whole."""
    restore(node.lab, back_end, kube_proxy(2_000, 1_200))
    listed = node.lab.run(f"iptables-{back_end}-save", "-t", "filter").stdout.splitlines()
    pieces = node.pieces(["10.240.0.4"])
    assert len(pieces) > 2
    assert [len(one.reach) for one in pieces] == [1] + [0] * (len(pieces) - 1)
    text = join(pieces).decode()
    wanted = [f"|{line}" for line in listed if line.startswith(("-A INPUT", "-A KUBE-NODEPORTS"))]
    assert len(wanted) == 1_201
    assert [line for line in text.splitlines() if line.startswith("|-A")] == wanted


def test_every_piece_fits(dash: Node) -> None:
    """Nothing that is printed is cut off by Run Command, however long the nonce and the answers are."""
    restore(dash.lab, "legacy", kube_proxy(0, 1_200))
    nonce = "n" * 64
    many = [f"10.250.{n}.{n * 37 % 251}" for n in range(64)]
    dash.lab.run("iptables-nft", "-A", "OUTPUT", "-p", "tcp", "-j", "REJECT")
    first = dash.piece(addresses=many)
    for values in (
        parameters(nonce, addresses=many),
        *(parameters(nonce, piece=n, digest=first.digest) for n in range(2, first.pieces + 1)),
    ):
        out = dash.message(values).partition("[stdout]\n")[2].partition("\n[stderr]")[0]
        assert out.startswith("\ntunnelwatch-probe")
        assert len(out) < KEPT


def test_rules_change_between_pieces(node: Node) -> None:
    """A piece of another whole is not given out."""
    restore(node.lab, "legacy", kube_proxy(0, 1_200))
    first = node.piece()
    node.lab.run("iptables-legacy", "-A", "INPUT", "-j", "DROP")
    with pytest.raises(FrameError, match="changed while they were being read") as caught:
        node.piece(piece=2, digest=first.digest)
    assert caught.value.code == "changed"


def test_a_piece_that_is_not_there(dash: Node) -> None:
    """The script says how many there are."""
    first = dash.piece()
    with pytest.raises(FrameError, match="there are 1 pieces, and tw_piece is 2"):
        dash.piece(piece=2, digest=first.digest)


def test_more_rules_than_can_be_brought(dash: Node) -> None:
    """The script says so; there is no part of them."""
    restore(dash.lab, "legacy", kube_proxy(0, 1_200))
    dash.change("\nPIECES=64\n", "\nPIECES=2\n")
    with pytest.raises(FrameError, match="the rules are too many") as caught:
        dash.report()
    assert caught.value.code == "probe_failed"


# --- on somebody's production nodes --------------------------------------------------------------


def state(lab: Lab) -> list[str]:
    """All rules, tables and modules of a node. Looks at iptables-legacy only where it would make nothing."""
    names = lab.run("cat", "/proc/net/ip_tables_names", "/proc/net/ip6_tables_names").stdout
    commands = ["nft -s list ruleset", "ip address", "ip route show table all", "cut -d\\  -f1 /proc/modules"]
    if names:
        commands += ["iptables-legacy-save", "ip6tables-legacy-save"]
    seen = [lab.run("sh", "-c", f"{command} | grep -v '^#'", check=False).stdout for command in commands]
    return [names, *(re.sub(r"\[\d+:\d+\]|valid_lft.*", "", text) for text in seen)]


@pytest.mark.parametrize("rules", ["none", "nft", "legacy", "ufw"])
def test_it_changes_nothing(ufw: Lab, node: Node, rules: str) -> None:
    """Rules, tables and modules are what they were, and it works with every file system read-only."""
    if rules == "ufw":
        ufw.run("ufw", "--force", "enable")
    elif rules != "none":
        restore(ufw, rules, RULES)
        restore(ufw, rules, nat(KUBE_PROXY))
    before = state(ufw)
    node.message(parameters("first", addresses=["10.240.0.4"]))
    assert state(ufw) == before


@pytest.mark.parametrize("rules", ["none", "nft", "legacy"])
def test_it_writes_no_file(node: Node, rules: str) -> None:
    """It brings the same where nothing can be written: bash, for one, keeps here-documents in files."""
    if rules != "none":
        restore(node.lab, rules, RULES)
    # UFW and iptables -L, which it asks, lock a file each.
    node.only([name for name in ALL_TOOLS if name != "ufw"])
    before = node.piece()
    for place in ("/", "/run", "/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108 - they are the node's
        node.lab.run("mount", "-o", "remount,bind,ro", place, check=False)
        assert node.lab.run("touch", f"{place}/x", check=False).returncode == 1
    assert join([node.piece()]) == join([before])


@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_it_says_the_same_twice(node: Node, back_end: str) -> None:
    """Byte for byte, though packets were counted and time has passed for the elements of a set."""
    restore(node.lab, back_end, RULES)
    node.lab.run("nft", "-f", "-", given=NATIVE)
    first = node.piece()
    node.lab.connects(["10.240.9.1", "10.240.9.2"], node.lab.address)
    second = node.piece()
    assert join([first]) == join([second])
    assert first.digest == second.digest


def test_awk_of_azure_linux(dash: Node) -> None:
    """It has gawk, which cuts as mawk does."""
    gawk = shutil.which("gawk")
    if gawk is None:
        pytest.skip("not installed: gawk")
    restore(dash.lab, "nft", RULES)
    dash.lab.run("nft", "-f", "-", given=NATIVE)
    before = dash.piece()
    dash.only(ALL_TOOLS, {"awk": f'exec {gawk} --posix "$@"'})
    assert join([dash.piece()]) == join([before])


@pytest.mark.parametrize("metrics", [(100, 200), (200, 100)])
def test_the_interface_of_the_default_route(node: Node, metrics: tuple[int, int]) -> None:
    """Of two the one with the lower metric."""
    node.lab.run("ip", "route", "del", "default")
    node.lab.run("ip", "link", "add", "eth9", "type", "veth", "peer", "name", "peer9")
    for device in ("eth9", "peer9"):
        node.lab.run("ip", "link", "set", device, "up")
    for device, metric in zip(("eth0", "eth9"), metrics, strict=True):
        node.lab.run("ip", "route", "add", "default", "dev", device, "metric", str(metric))
    assert node.report().interface == ("eth0" if metrics[0] < metrics[1] else "eth9")


def test_a_node_without_a_default_route(node: Node) -> None:
    """First IPv4, then IPv6, then none."""
    node.lab.run("ip", "route", "del", "default")
    assert node.report().interface == "eth0"
    node.lab.run("ip", "-6", "route", "del", "default")
    assert node.report().interface == ""


def test_shellcheck() -> None:
    """It has nothing to say."""
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("not installed: shellcheck")
    done = subprocess.run([shellcheck, "-s", "sh", str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_no_bashisms() -> None:
    """Each shell that is `sh` somewhere can parse it."""
    for shell in ("dash", "bash"):
        done = subprocess.run(
            [f"/bin/{shell}", "-n", str(SCRIPT)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
