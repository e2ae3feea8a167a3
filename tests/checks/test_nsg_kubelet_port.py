"""`nsg-kubelet-port`: snapshots and what is said of them, and that what it recommends helps."""

from collections.abc import Iterable, Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from checks.nsg_kubelet_port import check
from facts.filters import AdminRules, Direction, Missing, NetworkSecurityGroup, SecurityRule
from facts.finding import Fault, Observed, Remediation, Severity, Statement, Unknown
from facts.probes import Probes
from facts.snapshot import NodePool, Placement, Snapshot, Subnet
from packets.addresses import parse_prefix, parse_prefixes
from packets.nsg import free_priority
from tests.commands import Options, mended, parse, verb
from tests.snapshots import (
    NETWORK_GROUP,
    NODE_GROUP,
    SUBSCRIPTION,
    admin,
    api_server,
    asg,
    joined,
    missing,
    network_id,
    nsg,
    pool,
    report,
    route,
    route_table,
    rule,
    snapshot,
    subnet,
)

LAW = settings(deadline=None, max_examples=80)

A, B = "10.240.1.0/24", "10.240.2.0/24"
TWO_NODES = "10.240.1.4 10.240.1.5"
OTHER_NODES = "10.240.2.4 10.240.2.5"


def said(what: Snapshot) -> list[Statement]:
    """Everything that the check says of a cluster."""
    return list(check(what))


def faults(what: Snapshot) -> list[Fault]:
    """What it finds wrong; nothing may be unknown beside it."""
    found = said(what)
    assert not [one for one in found if not isinstance(one, Fault)]
    return [one for one in found if isinstance(one, Fault)]


def fault(what: Snapshot) -> Fault:
    """The one thing that it finds wrong."""
    [only] = faults(what)
    return only


def codes(what: Snapshot) -> list[str]:
    """The reasons for what it cannot say; nothing may be wrong beside it."""
    found = said(what)
    assert not [one for one in found if not isinstance(one, Unknown)]
    return [one.reason.code for one in found if isinstance(one, Unknown)]


def summary(one: Fault) -> tuple[str, str, list[str], list[tuple[str, str]]]:
    """Rule, layer, the pools it concerns, and the broken ways between them."""
    return (
        one.evidence["rule"]["name"],
        one.evidence["layer"],
        one.evidence["pools"],
        sorted((pair["from"], pair["to"]) for pair in one.evidence["pairs"]),
    )


def one_subnet(*rules: SecurityRule, nodes: str = TWO_NODES) -> Snapshot:
    """One pool in one subnet, whose group has these rules."""
    return snapshot(pool("np", subnet("nodes", A, nsg("nodes", *rules)), nodes))


def two_subnets(
    left: NetworkSecurityGroup | None,
    right: NetworkSecurityGroup | None,
    *,
    nodes: tuple[str, str] = (TWO_NODES, OTHER_NODES),
) -> Snapshot:
    """Pools a and b in a subnet each."""
    return snapshot(
        pool("a", subnet("a", A, left), nodes[0]),
        pool("b", subnet("b", B, right), nodes[1]),
    )


DENY = rule("deny-kubelet", 200)
DENY_OUT = rule("deny-out", 200, direction="Outbound")
WEB = asg("web")
OUT = rule("allow-out", 200, "Allow", direction="Outbound", protocol="*", ports="*")


# --- all is well ---------------------------------------------------------------------------------

HEALTHY: list[tuple[str, Snapshot]] = [
    ("no groups at all", snapshot(pool("np", subnet("nodes", A), TWO_NODES))),
    ("a group with nothing but Azure's rules", one_subnet()),
    ("an allow above the deny", one_subnet(DENY, rule("allow", 150, "Allow", sources=A))),
    ("a deny for another port", one_subnet(rule("deny", 200, ports="10255"))),
    ("a deny for another protocol", one_subnet(rule("deny", 200, protocol="Udp"))),
    ("a deny of what comes from the Internet", one_subnet(rule("deny", 200, sources="Internet", ports="*"))),
    ("a deny for another subnet", one_subnet(rule("deny", 200, sources="10.250.0.0/16"))),
    ("a deny for pods, not nodes", one_subnet(rule("deny", 200, destinations="10.241.0.0/16"))),
    ("a deny from the gateway, which no node has", one_subnet(rule("deny", 200, sources="10.240.1.1"))),
    ("a deny to the broadcast address", one_subnet(rule("deny", 200, destinations="10.240.1.255"))),
    ("an unknown tag about another port", one_subnet(rule("sql", 150, sources="Sql", ports="1433"))),
    ("an unknown tag above the same verdict", one_subnet(rule("x", 150, "Allow", sources="AzureMonitor"))),
    (
        "an unknown tag for the gateway alone",
        one_subnet(
            rule("allow", 140, "Allow", sources="10.240.1.2-10.240.1.255"), rule("x", 150, sources="Sql")
        ),
    ),
    (
        "a deny on the subnet of a pool that is stopped",
        snapshot(
            pool("a", subnet("a", A), TWO_NODES),
            pool("b", subnet("b", B, nsg("b", DENY)), stopped=True),
        ),
    ),
    (
        "a peered network's addresses belong to VirtualNetwork",
        snapshot(
            pool("a", subnet("a", A, nsg("a"), space=A, peers=B), TWO_NODES),
            pool("b", subnet("b", B, nsg("b"), space=B, peers=A), OTHER_NODES),
        ),
    ),
    (
        "a deny of IPv6 in a cluster that has none",
        one_subnet(rule("deny", 200, sources="fd00::/8", destinations="fd00::/8")),
    ),
    (
        "a dual-stack cluster with an allow for each family, the only way that Azure takes it",
        snapshot(
            pool(
                "np",
                subnet(
                    "nodes",
                    f"{A} fd00:10::/64",
                    nsg(
                        "nodes",
                        DENY,
                        rule("allow-4", 100, "Allow", sources=A, destinations=A),
                        rule("allow-6", 101, "Allow", sources="fd00:10::/64", destinations="fd00:10::/64"),
                    ),
                ),
                "10.240.1.4,fd00:10::4 10.240.1.5,fd00:10::5",
            )
        ),
    ),
    (
        "a deny on one pool's interfaces for the address of another pool's node",
        snapshot(
            pool(
                "a",
                subnet("nodes", A),
                "10.240.1.4",
                nic=nsg("nic", rule("deny", 200, destinations="10.240.1.5")),
            ),
            pool("b", subnet("nodes", A), "10.240.1.5"),
        ),
    ),
    (
        "a deny of all IPv6 in a cluster that has none",
        one_subnet(rule("deny", 200, sources="::/0", destinations="::/0")),
    ),
]


@pytest.mark.parametrize("what", [case[1] for case in HEALTHY], ids=[case[0] for case in HEALTHY])
def test_healthy(what: Snapshot) -> None:
    """Nothing is said of a cluster whose nodes reach each other."""
    assert said(what) == []


# --- what is wrong, by which rule, where ---------------------------------------------------------

BROKEN: list[tuple[str, Snapshot, tuple[str, str, list[str], list[tuple[str, str]]]]] = [
    (
        "a deny on the subnet",
        one_subnet(DENY),
        ("deny-kubelet", "subnet inbound", ["np"], [("np", "np")]),
    ),
    (
        "a deny in a plural field and a range",
        one_subnet(rule("deny", 300, protocol="*", sources="10.0.0.0/8 Internet", ports="22 10000-10300")),
        ("deny", "subnet inbound", ["np"], [("np", "np")]),
    ),
    (
        "an outbound deny",
        one_subnet(DENY_OUT),
        ("deny-out", "subnet outbound", ["np"], [("np", "np")]),
    ),
    (
        "a deny on the interface",
        snapshot(pool("np", subnet("nodes", A), TWO_NODES, nic=nsg("nic", DENY))),
        ("deny-kubelet", "interface inbound", ["np"], [("np", "np")]),
    ),
    (
        "the same group on subnet and interface is told once",
        snapshot(pool("np", subnet("nodes", A, nsg("same", DENY)), TWO_NODES, nic=nsg("same", DENY))),
        ("deny-kubelet", "interface and subnet inbound", ["np"], [("np", "np")]),
    ),
    (
        "two pools in two subnets, one group denies inbound",
        two_subnets(None, nsg("b", DENY)),
        ("deny-kubelet", "subnet inbound", ["a", "b"], [("a", "b"), ("b", "b")]),
    ),
    (
        "two pools in two subnets, one group denies outbound",
        two_subnets(nsg("a", DENY_OUT), None),
        ("deny-out", "subnet outbound", ["a", "b"], [("a", "a"), ("a", "b")]),
    ),
    (
        "only between the subnets",
        two_subnets(None, nsg("b", rule("deny", 200, sources=A))),
        ("deny", "subnet inbound", ["a", "b"], [("a", "b")]),
    ),
    (
        "one group guards both subnets",
        two_subnets(nsg("both", DENY), nsg("both", DENY)),
        ("deny-kubelet", "subnet inbound", ["a", "b"], [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]),
    ),
    (
        "pools side by side in one subnet",
        snapshot(
            pool("a", subnet("nodes", A, nsg("nodes", DENY)), "10.240.1.4"),
            pool("b", subnet("nodes", A, nsg("nodes", DENY)), "10.240.1.5"),
        ),
        ("deny-kubelet", "subnet inbound", ["a", "b"], [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]),
    ),
    (
        "Azure's own deny, where the networks do not know each other",
        snapshot(
            pool("a", subnet("a", A, space=A), TWO_NODES),
            pool("b", subnet("b", B, nsg("b", OUT), space=B), OTHER_NODES),
        ),
        ("DenyAllInBound", "subnet inbound", ["a", "b"], [("a", "b")]),
    ),
    (
        "the IPv6 half of a dual-stack cluster",
        snapshot(
            pool(
                "np",
                subnet("nodes", f"{A} fd00:10::/64", nsg("nodes", rule("deny-6", 200, sources="fd00::/8"))),
                "10.240.1.4,fd00:10::4 10.240.1.5,fd00:10::5",
            )
        ),
        ("deny-6", "subnet inbound", ["np"], [("np", "np")]),
    ),
]


@pytest.mark.parametrize(
    ("what", "expected"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN]
)
def test_broken(what: Snapshot, expected: tuple[str, str, list[str], list[tuple[str, str]]]) -> None:
    """The rule that denies, the layer it stands at, the pools and the ways between them."""
    found = fault(what)
    assert summary(found) == expected
    assert found.severity is None
    assert found.subject == found.resource.lower()
    assert found.resource.endswith(f"ecurityRules/{expected[0]}")


def test_each_rule_is_a_finding() -> None:
    """Two rules that deny, two findings; a rule that denies nothing any more is none."""
    found = faults(
        one_subnet(
            rule("deny-half", 200, sources="10.240.1.0/25"),
            rule("deny-rest", 300),
            rule("deny-nothing", 400),
            DENY_OUT,
        )
    )
    assert [summary(one)[:2] for one in found] == [
        ("deny-half", "subnet inbound"),
        ("deny-rest", "subnet inbound"),
        ("deny-out", "subnet outbound"),
    ]


def test_both_ends_of_a_way_may_be_at_fault() -> None:
    """The source's outbound rule and the destination's inbound one have to be mended both."""
    found = faults(two_subnets(nsg("a", DENY_OUT), nsg("b", DENY)))
    assert {summary(one)[:2] for one in found} == {
        ("deny-out", "subnet outbound"),
        ("deny-kubelet", "subnet inbound"),
    }


def test_evidence_of_a_fault() -> None:
    """The rule in ARM's words, prefixes of both ends, the nodes that cannot be reached now."""
    found = fault(
        two_subnets(None, nsg("b", rule("deny", 200, sources=A, destinations="10.240.2.0/25", ports="10250")))
    )
    assert found.evidence["nsg"] == network_id("networkSecurityGroups", "b")
    assert found.evidence["rule"] == {
        "name": "deny",
        "priority": 200,
        "direction": "Inbound",
        "access": "Deny",
        "protocol": "Tcp",
        "sourceAddressPrefixes": (A,),
        "sourcePortRanges": ("*",),
        "destinationAddressPrefixes": ("10.240.2.0/25",),
        "destinationPortRanges": ("10250",),
    }
    assert found.evidence["pairs"] == [
        {"from": "a", "to": "b", "sources": (A,), "destinations": ("10.240.2.0/25",)}
    ]
    assert found.evidence["nodes"] == ["aks-b-0", "aks-b-1"]
    assert (found.evidence["nodeCount"], found.evidence["pairCount"]) == (2, 1)
    for words in ("deny", "TCP 10250", "inbound", "10.240.1.0/24", "10.240.2.0/25", "priority 200"):
        assert words in found.detail
    assert found.confidence == "derived"


@pytest.mark.parametrize(
    ("nodes", "count", "denied", "severity"),
    [
        ("10.240.1.4 10.240.1.5", None, "*", None),
        ("10.240.1.4", None, "*", Severity.WARNING),
        ("", 0, "*", Severity.WARNING),
        ("", 3, "*", None),
        ("10.240.1.4 10.240.1.5", None, "10.240.1.128/25", Severity.WARNING),
        ("10.240.1.4 10.240.1.200", None, "10.240.1.128/25", None),
        ("10.240.1.200 10.240.1.201", None, "10.240.1.200", None),
    ],
    ids=[
        "two nodes",
        "a single node reaches itself",
        "no node yet",
        "nodes that could not be listed",
        "the denied half is empty",
        "one node in the denied half, one outside",
        "one of two nodes is denied",
    ],
)
def test_severity(nodes: str, count: int | None, denied: str, severity: Severity | None) -> None:
    """Critical, the check's own severity, where nodes that exist cannot be reached; else a warning."""
    group = nsg("nodes", rule("deny", 200, destinations=denied))
    assert fault(snapshot(pool("np", subnet("nodes", A, group), nodes, count=count))).severity is severity


@pytest.mark.parametrize(
    ("nodes", "count", "severity"),
    [
        ("10.240.1.4 10.240.1.5", 3, None),
        ("10.240.1.4", 3, None),
        ("", 3, None),
        ("", 0, Severity.WARNING),
    ],
    ids=["some were listed", "one was listed", "none was listed", "there are none"],
)
def test_nodes_that_could_not_be_listed_may_be_affected(
    nodes: str, count: int | None, severity: Severity | None
) -> None:
    """Where machines of a pool could not be read, one of them may have an address that is denied."""
    group = nsg("nodes", rule("deny", 200, destinations="10.240.1.128/25"))
    lost = (missing("vm-2", kind="networkInterfaces"),)
    what = snapshot(pool("np", subnet("nodes", A, group), nodes, count=count, lost=lost))
    [found] = [one for one in said(what) if isinstance(one, Fault)]
    assert found.severity is severity


@pytest.mark.parametrize(
    ("lost", "severity"), [((), Severity.WARNING), ((missing("vmss", kind="virtualMachineScaleSets"),), None)]
)
def test_a_place_where_no_node_stands_yet(lost: tuple[Missing, ...], severity: Severity | None) -> None:
    """The scale set's new model denies, no instance has it yet: a warning, unless nodes may be missing."""
    place = subnet("nodes", A)
    nodes = pool("np", place, "10.240.1.4 10.240.1.5", lost=lost)
    model = Placement(subnet=place, nic_nsg=nsg("new", DENY))
    both = structs.replace(nodes, placements=(model, *nodes.placements))
    (found,) = [said for said in check(snapshot(both)) if isinstance(said, Fault)]
    assert found.severity is severity


def test_a_long_list_of_nodes_is_cut() -> None:
    """Fifty nodes are named, all are counted."""
    found = fault(one_subnet(DENY, nodes=" ".join(f"10.240.1.{host}" for host in range(4, 84))))
    assert len(found.evidence["nodes"]) == 50
    assert found.evidence["nodeCount"] == 80
    assert "80 nodes cannot be reached now" in found.detail


# --- what cannot be said -------------------------------------------------------------------------

UNKNOWN: list[tuple[str, Snapshot, list[str]]] = [
    ("no pools", snapshot(), ["no_data"]),
    (
        "a tag decides",
        one_subnet(rule("deny-sql", 150, sources="Sql")),
        ["unknown_service_tag"],
    ),
    (
        "a tag decides in both directions",
        one_subnet(
            rule("deny-sql", 150, sources="Sql"),
            rule("deny-out", 150, direction="Outbound", destinations="Sql"),
        ),
        ["unknown_service_tag", "unknown_service_tag"],
    ),
    (
        "a security group decides, and it is not known who is in it",
        snapshot(
            pool(
                "np",
                subnet("nodes", A, nsg("nodes", rule("deny-web", 150, sources="", source_groups=WEB))),
                TWO_NODES,
                lost=(missing("vmss", "throttled", "virtualMachineScaleSets"),),
            )
        ),
        ["throttled", "unknown_security_group"],
    ),
    (
        "a value that nobody knows decides",
        one_subnet(rule("odd", 150, "AlwaysDeny")),
        ["unknown_rule_value"],
    ),
    (
        "the subnet's group could not be read",
        snapshot(pool("np", subnet("nodes", A, missing("nodes")), TWO_NODES)),
        ["permission_denied"],
    ),
    (
        "the interface's group could not be read",
        snapshot(pool("np", subnet("nodes", A), TWO_NODES, nic=missing("nic", "throttled"))),
        ["throttled"],
    ),
    (
        "a group that guards two subnets is told once",
        snapshot(
            pool("a", subnet("a", A, missing("both")), TWO_NODES),
            pool("b", subnet("b", B, missing("BOTH")), OTHER_NODES),
        ),
        ["permission_denied"],
    ),
    (
        "the network of one pool could not be read",
        snapshot(
            pool("a", subnet("a", A), TWO_NODES),
            pool("b", missing("vnet-b", "timeout", "virtualNetworks")),
        ),
        ["timeout"],
    ),
    (
        "the machines of one pool could not be read",
        snapshot(pool("a", subnet("a", A), TWO_NODES, lost=(missing("vmss", "not_found"),))),
        ["not_found"],
    ),
]


@pytest.mark.parametrize(
    ("what", "expected"), [case[1:] for case in UNKNOWN], ids=[case[0] for case in UNKNOWN]
)
def test_unknown(what: Snapshot, expected: list[str]) -> None:
    """What could not be looked at, or what decides and cannot be known, with its code."""
    assert codes(what) == expected


def test_a_doubt_names_the_rule_and_the_pool() -> None:
    """An engineer can find the rule and see what could not be resolved."""
    [statement] = said(one_subnet(rule("deny-sql", 150, sources="Sql")))
    assert isinstance(statement, Unknown)
    assert (
        statement.reason.resource == f"{network_id('networkSecurityGroups', 'nodes')}/securityRules/deny-sql"
    )
    for words in (
        '"deny-sql"',
        "priority 150",
        '"nodes"',
        "node pool np",
        'service tag "Sql"',
        "10.240.1.0/24",
    ):
        assert words in statement.reason.message


def test_a_doubt_names_all_that_hangs_on_it() -> None:
    """A rule in doubt that guards two subnets, in two address families, is one reason about all of them."""
    both = nsg("both", rule("deny-sql", 150, sources="Sql"))
    what = snapshot(
        pool("a", subnet("a", f"{A} fd00:10::/64", both), "10.240.1.4,fd00:10::4"),
        pool("b", subnet("b", B, both), OTHER_NODES),
    )
    [statement] = said(what)
    assert isinstance(statement, Unknown)
    to = statement.reason.message.partition(" to ")[2]
    for words in (A, B, "fd00:10::/64", "node pool a", "node pool b"):
        assert words in to


def test_a_doubt_leaves_out_what_an_admin_rule_settles() -> None:
    """Packets that no group sees are not among those that hang on the group's rule."""
    always = rule("always", 10, "AlwaysAllow", sources="10.240.1.0/25")
    [statement] = said(under(admin(always), rule("deny-sql", 150, sources="Sql")))
    assert isinstance(statement, Unknown)
    assert "from 10.240.1.128/25 to 10.240.1.0/24" in statement.reason.message


def test_what_is_wrong_is_told_beside_what_is_unknown() -> None:
    """A group that cannot be read does not hide the fault of another one."""
    what = snapshot(
        pool("a", subnet("a", A, nsg("a", DENY)), TWO_NODES),
        pool("b", subnet("b", B, missing("b")), OTHER_NODES),
    )
    kinds = {type(statement) for statement in said(what)}
    assert kinds == {Fault, Unknown}


def test_a_subnet_that_cannot_be_read_leaves_the_others() -> None:
    """The pools whose place is known are judged among themselves."""
    what = snapshot(
        pool("a", subnet("a", A, nsg("a", DENY)), TWO_NODES),
        pool("b", missing("vnet-b", kind="virtualNetworks")),
    )
    [found] = [statement for statement in said(what) if isinstance(statement, Fault)]
    assert found.evidence["pools"] == ["a"]


# --- security admin rules ------------------------------------------------------------------------

ALWAYS = rule("always", 10, "AlwaysAllow", protocol="Any")
GO_ON = rule("allow", 10, "Allow", protocol="Any")
ODD = rule("odd", 10, "AuditOnly", protocol="Any")
ADMIN_DENY = rule("admin-deny", 20, protocol="Any", ports="*")
VAGUE = rule("vague", 10, "AlwaysAllow", sources="Sql")
GROUP_OF_NETWORKS = network_id("networkManagers", "avnm/networkGroups/spokes")


def under(rules: AdminRules | Missing, *own: SecurityRule, nodes: str = TWO_NODES) -> Snapshot:
    """One pool in a network with admin rules; its subnet's group has rules of its own."""
    return snapshot(pool("np", subnet("nodes", A, nsg("nodes", *own), admin_rules=rules), nodes))


Told = tuple[str, str]
"""A rule that denies with its layer, or `unknown` with the code."""


def gist(what: Snapshot) -> list[Told]:
    """What is said in two words each, in order."""
    return [
        summary(one)[:2]
        if isinstance(one, Fault)
        else ("unknown", one.reason.code if isinstance(one, Unknown) else "not applicable")
        for one in said(what)
    ]


ADMIN: list[tuple[str, Snapshot, list[Told]]] = [
    (
        "a deny, whatever the group allows",
        under(admin(ADMIN_DENY), rule("allow", 100, "Allow")),
        [("admin-deny", "virtual network inbound")],
    ),
    ("an outbound deny", under(admin(DENY_OUT)), [("deny-out", "virtual network outbound")]),
    ("a deny of another port", under(admin(rule("deny", 20, ports="22 3389"))), []),
    ("a deny after an always", under(admin(ADMIN_DENY, ALWAYS)), []),
    ("a deny after an allow", under(admin(ADMIN_DENY, GO_ON)), []),
    ("an always over a group that denies", under(admin(ALWAYS), DENY), []),
    (
        "an always for inbound does nothing for outbound",
        under(admin(ALWAYS), DENY, DENY_OUT),
        [("deny-out", "subnet outbound")],
    ),
    (
        "an always for a part of the sources leaves the rest",
        under(admin(rule("always", 10, "AlwaysAllow", sources="10.240.1.4")), DENY),
        [("deny-kubelet", "subnet inbound")],
    ),
    (
        "an always for every node there can be",
        under(admin(rule("always", 10, "AlwaysAllow", sources="10.240.1.4-10.240.1.254")), DENY),
        [],
    ),
    (
        "an allow goes on to the group, which denies",
        under(admin(GO_ON), DENY),
        [("deny-kubelet", "subnet inbound")],
    ),
    ("an allow goes on to the group, which allows", under(admin(GO_ON)), []),
    (
        "both deny: both have to be mended",
        under(admin(ADMIN_DENY), DENY),
        [("admin-deny", "virtual network inbound"), ("deny-kubelet", "subnet inbound")],
    ),
    (
        "they could not be read: told once for two pools and two directions",
        snapshot(
            pool("a", subnet("a", A, admin_rules=missing("vnet", kind="virtualNetworks")), TWO_NODES),
            pool("b", subnet("b", B, admin_rules=missing("VNET", kind="virtualNetworks")), OTHER_NODES),
        ),
        [("unknown", "permission_denied")],
    ),
    (
        "they could not be read, and a group denies all the same",
        under(missing("vnet", kind="virtualNetworks"), DENY),
        [("unknown", "permission_denied"), ("deny-kubelet", "subnet inbound")],
    ),
    (
        "a new access over a group that allows",
        under(admin(ODD)),
        [("unknown", "unknown_rule_value")],
    ),
    (
        "a new access over a group that denies may be an always",
        under(admin(ODD), DENY),
        [("unknown", "unknown_rule_value")],
    ),
    (
        "an always in doubt over a group that denies",
        under(admin(VAGUE), DENY),
        [("unknown", "unknown_service_tag")],
    ),
    ("an always in doubt over a group that allows", under(admin(VAGUE)), []),
    (
        "a deny in doubt over a group that denies: the group is at fault either way",
        under(admin(rule("vague", 10, sources="Sql")), DENY),
        [("unknown", "unknown_service_tag"), ("deny-kubelet", "subnet inbound")],
    ),
    (
        "a service tag that can be read",
        under(admin(rule("deny", 10, sources="VirtualNetwork"))),
        [("deny", "virtual network inbound")],
    ),
    (
        "a network group, which nobody here can take apart",
        under(admin(rule("deny", 10, sources=GROUP_OF_NETWORKS))),
        [("unknown", "unknown_network_group")],
    ),
    (
        "an allow for a network group, above nothing that denies",
        under(admin(rule("allow", 10, "Allow", sources=GROUP_OF_NETWORKS))),
        [],
    ),
    (
        "a deny in one family leaves the other",
        under(admin(rule("deny-6", 10, sources="::/0", destinations="::/0"))),
        [],
    ),
]


@pytest.mark.parametrize(("what", "expected"), [case[1:] for case in ADMIN], ids=[case[0] for case in ADMIN])
def test_admin_rules(what: Snapshot, expected: list[Told]) -> None:
    """Admin rules come first: deny is final, always-allow passes every group, allow goes on to them."""
    assert sorted(gist(what)) == sorted(expected)


def two_networks(left: AdminRules | None, right: AdminRules | None) -> Snapshot:
    """Pools a and b in peered networks."""
    return snapshot(
        pool("a", subnet("a", A, space=A, peers=B, network="one", admin_rules=left), TWO_NODES),
        pool("b", subnet("b", B, space=B, peers=A, network="two", admin_rules=right), OTHER_NODES),
    )


def test_an_admin_rule_in_force_on_two_networks_is_one_finding() -> None:
    """It is one rule of one network manager, and lists the ways in both."""
    what = two_networks(admin(ADMIN_DENY, network="one"), admin(ADMIN_DENY, network="two"))
    found = fault(what)
    assert summary(found)[3] == [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]
    assert found.evidence["nodeCount"] == 4
    assert "nsg" not in found.evidence


@pytest.mark.parametrize(
    ("given", "pairs"),
    [(ADMIN_DENY, [("a", "b"), ("b", "b")]), (DENY_OUT, [("b", "a"), ("b", "b")])],
    ids=["inbound", "outbound"],
)
def test_admin_rules_of_one_network_guard_it_alone(given: SecurityRule, pairs: list[Told]) -> None:
    """The source's network decides what goes out, the destination's what comes in."""
    found = fault(two_networks(None, admin(given, network="two")))
    assert summary(found)[3] == pairs
    assert found.evidence["network"] == network_id("virtualNetworks", "two")
    assert 'virtual network "two"' in found.detail


def test_what_is_left_by_an_always_allow_is_told_exactly() -> None:
    """Only the packets that reach the group are in the evidence of its rule."""
    what = under(admin(rule("always", 10, "AlwaysAllow", sources="10.240.1.0/25")), DENY)
    [pair] = fault(what).evidence["pairs"]
    assert pair["sources"] == ("10.240.1.128/25",)


# --- pods, and the API server in the network -----------------------------------------------------

PODS = "10.241.0.0/20"
WIDE = "10.240.0.0/16 10.241.0.0/16"


def with_pods(
    nodes: NetworkSecurityGroup | None,
    pods: NetworkSecurityGroup | Missing | None,
    *,
    count: int | None = None,
) -> Snapshot:
    """A pool whose pods have a subnet of their own."""
    own = subnet("pods", PODS, pods, space=WIDE)
    return snapshot(pool("np", subnet("nodes", A, nodes, space=WIDE), TWO_NODES, pods=own, count=count))


def with_server(nodes: NetworkSecurityGroup | None, place: Subnet | Missing | None) -> Snapshot:
    """A cluster whose API server is projected into its network."""
    return snapshot(
        pool("np", subnet("nodes", A, nodes, space=WIDE), TWO_NODES),
        api=api_server("", place),
        vnet_integration=True,
    )


SERVER = "10.241.16.0/28"
ENDS: list[tuple[str, Snapshot, list[Told], list[Told]]] = [
    (
        "pods are denied what nodes are not",
        with_pods(nsg("nodes", rule("deny", 200, sources=PODS)), None),
        [("deny", "subnet inbound")],
        [("pods of node pool np", "np")],
    ),
    (
        "the pods' own group lets nothing out",
        with_pods(None, nsg("pods", DENY_OUT)),
        [("deny-out", "subnet outbound")],
        [("pods of node pool np", "np")],
    ),
    ("the pods' group lets nothing in, which nobody asks", with_pods(None, nsg("pods", DENY)), [], []),
    (
        "everything is denied: one finding with both ways",
        with_pods(nsg("nodes", DENY), None),
        [("deny-kubelet", "subnet inbound")],
        [("np", "np"), ("pods of node pool np", "np")],
    ),
    (
        "the pods' subnet could not be read",
        snapshot(pool("np", subnet("nodes", A), TWO_NODES, pods=missing("pods", kind="virtualNetworks"))),
        [("unknown", "permission_denied")],
        [],
    ),
    (
        "the pods' subnet could not be read, and the pool is stopped",
        snapshot(
            pool("a", subnet("a", A), TWO_NODES),
            pool("b", subnet("b", B), stopped=True, pods=missing("pods", kind="virtualNetworks")),
        ),
        [],
        [],
    ),
    (
        "the pods' group could not be read",
        with_pods(None, missing("pods", "timeout")),
        [("unknown", "timeout")],
        [],
    ),
    (
        "the API server is denied",
        with_server(nsg("nodes", rule("deny", 200, sources=SERVER)), subnet("api", SERVER, space=WIDE)),
        [("deny", "subnet inbound")],
        [("API server", "np")],
    ),
    (
        "the API server's own group lets nothing out",
        with_server(None, subnet("api", SERVER, nsg("api", DENY_OUT), space=WIDE)),
        [("deny-out", "subnet outbound")],
        [("API server", "np")],
    ),
    (
        "all is well with the API server in the network",
        with_server(nsg("nodes"), subnet("api", SERVER, nsg("api"), space=WIDE)),
        [],
        [],
    ),
    (
        "the API server's subnet could not be read",
        with_server(None, missing("api", "not_found", "virtualNetworks")),
        [("unknown", "not_found")],
        [],
    ),
    ("the cluster names no subnet of the API server", with_server(None, None), [("unknown", "no_data")], []),
    (
        "nothing was asked about the API server",
        structs.replace(with_server(None, None), api_server=None),
        [("unknown", "no_data")],
        [],
    ),
    (
        "a subnet that is named counts for nothing without the integration",
        snapshot(
            pool("np", subnet("nodes", A, nsg("nodes", rule("deny", 200, sources=SERVER))), TWO_NODES),
            api=api_server(subnet=subnet("api", SERVER)),
        ),
        [],
        [],
    ),
]


@pytest.mark.parametrize(
    ("what", "expected", "pairs"), [case[1:] for case in ENDS], ids=[case[0] for case in ENDS]
)
def test_where_the_tunnel_may_come_from(what: Snapshot, expected: list[Told], pairs: list[Told]) -> None:
    """Pods with addresses of their own, and an API server in the network, are asked about like nodes."""
    assert sorted(gist(what)) == sorted(expected)
    assert [pair for one in said(what) if isinstance(one, Fault) for pair in summary(one)[3]] == pairs
    assert {name for one in said(what) if isinstance(one, Fault) for name in one.evidence["pools"]} <= {"np"}


@pytest.mark.parametrize(("count", "severity"), [(0, Severity.WARNING), (2, None)])
def test_pods_are_where_their_pool_has_nodes(count: int, severity: Severity | None) -> None:
    """What keeps the pods of a pool off that has no node keeps nobody off yet."""
    denied = nsg("a", rule("deny", 200, sources=PODS))
    what = snapshot(
        pool("a", subnet("a", A, denied, space=WIDE), TWO_NODES),
        pool("b", subnet("b", B, space=WIDE), count=count, pods=subnet("pods", PODS, space=WIDE)),
    )
    assert fault(what).severity is severity


def test_a_rule_that_keeps_pods_off_is_mended_for_pods() -> None:
    """The allow that is recommended names the pods' subnet, and helps."""
    what = with_pods(nsg("nodes", rule("deny", 200, sources=PODS)), nsg("pods", DENY_OUT))
    for one in faults(what):
        for way in one.remediation:
            assert one.subject not in subjects(mended(what, way.commands))
    assert creation(faults(what)[0].remediation)["--source-address-prefixes"] == [PODS]


# --- application security groups -----------------------------------------------------------------

FROM_WEB = nsg("nodes", rule("from-web", 200, sources="", source_groups=WEB))
TO_WEB = nsg("nodes", rule("to-web", 200, destinations="", destination_groups=WEB))
UPPER = structs.replace(TO_WEB.rules[0], destination_groups=(WEB.upper(),))


def grouped(group: NetworkSecurityGroup, first: str = "", second: str = "", joins: str = "") -> Snapshot:
    """One pool of two nodes with some addresses in the group `web`."""
    nodes = pool("np", subnet("nodes", A, group), TWO_NODES, joins=joins)
    return snapshot(joined(nodes, "web", first, second))


def beside(first: str, second: str, *, halted: bool = False, lost: tuple[Missing, ...] = ()) -> Snapshot:
    """Two pools in one subnet, whose nodes join the groups given when they are added; b may be stopped."""
    place = subnet("nodes", A, TO_WEB)
    return snapshot(
        pool("a", place, "10.240.1.4", joins=first),
        pool("b", place, "10.240.1.5", joins=second, lost=lost, stopped=halted),
    )


def test_an_address_of_a_pod_is_not_free_for_nodes_to_come() -> None:
    """Nodes to come join one group; a pod's address that is in another by itself does not."""
    own = nsg("nodes", rule("to-db", 200, destinations="", destination_groups=asg("db")))
    nodes = joined(pool("np", subnet("nodes", A, own), TWO_NODES, joins="db"), "web", "10.240.1.77", "")
    [pair] = fault(snapshot(nodes)).evidence["pairs"]
    assert not parse_prefixes(pair["destinations"]) & parse_prefixes(["10.240.1.77"])
    assert parse_prefixes(pair["destinations"]) & parse_prefixes(["10.240.1.78"])


FREE = ("10.240.1.6", "10.240.1.200")
GROUPS: list[tuple[str, Snapshot, list[Told], list[str], Severity | None]] = [
    ("from a group that nobody is in", grouped(FROM_WEB), [], [], None),
    ("to a group that nobody is in", grouped(TO_WEB), [], [], None),
    (
        "from one of two nodes",
        grouped(FROM_WEB, "10.240.1.4"),
        [("from-web", "subnet inbound")],
        ["10.240.1.4/32"],
        None,
    ),
    (
        "to one of two nodes",
        grouped(TO_WEB, "", "10.240.1.5"),
        [("to-web", "subnet inbound")],
        ["10.240.1.5/32"],
        None,
    ),
    (
        "to all nodes, and none that will be added",
        grouped(TO_WEB, *TWO_NODES.split()),
        [("to-web", "subnet inbound")],
        ["10.240.1.4/31"],
        None,
    ),
    (
        "the group's id in another case",
        grouped(structs.replace(TO_WEB, rules=(UPPER,)), "", "10.240.1.5"),
        [("to-web", "subnet inbound")],
        ["10.240.1.5/32"],
        None,
    ),
    (
        "to nodes that will be added, though none is in it now",
        grouped(TO_WEB, joins="web"),
        [("to-web", "subnet inbound")],
        [],
        Severity.WARNING,
    ),
    (
        "to a pod on a node, by its secondary address",
        grouped(TO_WEB, "10.240.1.77"),
        [("to-web", "subnet inbound")],
        ["10.240.1.77/32"],
        Severity.WARNING,
    ),
    (
        "both pools of the subnet will join it",
        beside("web", "web"),
        [("to-web", "subnet inbound")],
        [],
        Severity.WARNING,
    ),
    (
        "one of two pools in the subnet will join it: a node is judged when it is there",
        beside("web", ""),
        [],
        [],
        None,
    ),
    (
        "one of two pools in the subnet will join it, and the other is stopped",
        beside("web", "", halted=True),
        [("to-web", "subnet inbound")],
        [],
        Severity.WARNING,
    ),
    (
        "the machines of a pool that is stopped could not be read",
        beside("web", "", halted=True, lost=(missing("vmss", "timeout", "virtualMachineScaleSets"),)),
        [("to-web", "subnet inbound")],
        [],
        Severity.WARNING,
    ),
    (
        "the machines of one pool could not be read",
        beside("web", "web", lost=(missing("vmss", "timeout", "virtualMachineScaleSets"),)),
        [("unknown", "timeout"), ("unknown", "unknown_security_group")],
        [],
        None,
    ),
]


@pytest.mark.parametrize(
    ("what", "expected", "addresses", "severity"),
    [case[1:] for case in GROUPS],
    ids=[case[0] for case in GROUPS],
)
def test_application_security_groups(
    what: Snapshot, expected: list[Told], addresses: list[str], severity: Severity | None
) -> None:
    """A group is its members among the nodes: those who are in it now, and those who will be."""
    assert sorted(gist(what)) == sorted(expected)
    for one in said(what):
        if isinstance(one, Fault):
            assert one.severity is severity
            side = "sources" if "from" in summary(one)[0] else "destinations"
            found = {prefix for pair in one.evidence["pairs"] for prefix in pair[side]}
            if addresses:
                assert sorted(found) == addresses
            else:
                there = parse_prefixes(found)
                assert all(parse_prefix(address) & there for address in FREE)
                assert not parse_prefixes(TWO_NODES.split()) & there


# --- service tags --------------------------------------------------------------------------------

REGION = {"azurecloud.westeurope": ("20.0.0.0/8", "10.240.1.0/25"), "sql": ("10.240.9.0/24",)}


def tagged(text: str, tags: dict[str, tuple[str, ...]] | Missing) -> Snapshot:
    """One pool whose group denies what comes from a service tag."""
    group = nsg("nodes", rule("deny-tag", 200, sources=text))
    return snapshot(pool("np", subnet("nodes", A, group), TWO_NODES), service_tags=tags)


def routed(prefix: str | Missing) -> Snapshot:
    """Two networks that are not peered; a route of b's leads to a's through an appliance."""
    table = (
        prefix
        if isinstance(prefix, Missing)
        else route_table("rt", route("to-a", prefix, "VirtualAppliance", "10.240.2.200"))
    )
    return snapshot(
        pool("a", subnet("a", A, space=A, network="one"), TWO_NODES),
        pool("b", subnet("b", B, nsg("b", OUT), space=B, network="two", routes=table), OTHER_NODES),
    )


TAGS: list[tuple[str, Snapshot, list[Told]]] = [
    ("a published tag that holds none of the nodes", tagged("Sql", REGION), []),
    (
        "a published tag that holds half of them",
        tagged("AzureCloud.westeurope", REGION),
        [("deny-tag", "subnet inbound")],
    ),
    (
        "in another case",
        tagged("azurecloud.WestEurope", REGION),
        [("deny-tag", "subnet inbound")],
    ),
    ("one that Azure does not publish", tagged("Newest", REGION), [("unknown", "unknown_service_tag")]),
    (
        "the published ones could not be read",
        tagged("Sql", missing("serviceTags", "permission_denied", "locations")),
        [("unknown", "permission_denied")],
    ),
    (
        "a tag of the network itself needs no list",
        tagged("VirtualNetwork", missing("serviceTags", "permission_denied", "locations")),
        [("deny-tag", "subnet inbound")],
    ),
    ("a route's prefix belongs to VirtualNetwork", routed(A), []),
    (
        "a default route may make VirtualNetwork everything",
        routed("0.0.0.0/0"),
        [("unknown", "unknown_service_tag")],
    ),
    (
        "another route does not",
        routed("10.99.0.0/16"),
        [("DenyAllInBound", "subnet inbound")],
    ),
    (
        "a route table that could not be read may make VirtualNetwork anything",
        routed(missing("rt", "timeout", "routeTables")),
        [("unknown", "timeout")],
    ),
    (
        "a route table that could not be read matters only where the tag decides",
        snapshot(
            pool("np", subnet("nodes", A, nsg("nodes"), routes=missing("rt", kind="routeTables")), TWO_NODES)
        ),
        [],
    ),
]


@pytest.mark.parametrize(("what", "expected"), [case[1:] for case in TAGS], ids=[case[0] for case in TAGS])
def test_service_tags(what: Snapshot, expected: list[Told]) -> None:
    """What Azure publishes decides exactly; what nobody resolved decides nothing."""
    assert sorted(gist(what)) == sorted(expected)


def test_a_tag_is_taken_apart_exactly() -> None:
    """Only the part of the subnet that a published tag holds is denied."""
    [pair] = fault(tagged("AzureCloud.westeurope", REGION)).evidence["pairs"]
    assert pair["sources"] == ("10.240.1.0/25",)


def test_tags_that_could_not_be_read_say_why() -> None:
    """The reason of the reading is in the sentence, so that somebody can mend the reading."""
    [statement] = said(tagged("Sql", missing("serviceTags", "throttled", "locations")))
    assert isinstance(statement, Unknown)
    assert statement.reason.code == "throttled"
    for words in ('"Sql"', "Could not read serviceTags", '"deny-tag"'):
        assert words in statement.reason.message


def test_a_route_table_that_could_not_be_read_is_named() -> None:
    """Who reads that VirtualNetwork is in doubt learns what to make readable."""
    [statement] = said(routed(missing("rt", "timeout", "routeTables")))
    assert isinstance(statement, Unknown)
    for words in ('"VirtualNetwork"', "Could not read rt", "AllowVnetInBound"):
        assert words in statement.reason.message


# --- the same fault is the same finding ----------------------------------------------------------


def respell(group: NetworkSecurityGroup | Missing | None) -> NetworkSecurityGroup | Missing | None:
    """A group whose ids come back in another case."""
    if not isinstance(group, NetworkSecurityGroup):
        return group
    rules = tuple(structs.replace(one, id=one.id.upper()) for one in group.rules)
    return structs.replace(group, id=group.id.upper(), rules=rules)


def respelled(one: NodePool) -> NodePool:
    """A pool whose groups and subnets come back in another case."""
    placements = tuple(
        structs.replace(
            place,
            nic_nsg=respell(place.nic_nsg),
            subnet=structs.replace(place.subnet, id=place.subnet.id.upper(), nsg=respell(place.subnet.nsg)),
        )
        for place in one.placements
        if isinstance(place.subnet, Subnet)
    )
    return structs.replace(one, placements=placements)


PREFIXES = (A, B, "10.240.1.0/25", "10.240.2.4", "10.240.1.1", "10.0.0.0/8", "*", "Internet", "Sql")


@st.composite
def rules(draw: st.DrawFn, *, names: Sequence[str] = PREFIXES) -> tuple[SecurityRule, ...]:
    """Up to six rules in both directions, close to what is asked; their names are those of real life."""
    priorities = draw(st.lists(st.integers(100, 112), min_size=1, max_size=6, unique=True))
    return tuple(
        rule(
            draw(st.sampled_from((f"rule {priority}", f"rule-{priority}", f"o'rule{priority}"))),
            priority,
            draw(st.sampled_from(("Deny", "Deny", "Allow"))),
            direction=draw(st.sampled_from(("Inbound", "Inbound", "Outbound"))),
            protocol=draw(st.sampled_from(("Tcp", "*"))),
            sources=draw(st.sampled_from(names)),
            destinations=draw(st.sampled_from(names)),
            ports=draw(st.sampled_from(("10250", "*", "10000-10300", "443"))),
        )
        for priority in priorities
    )


def clusters(inside: Sequence[SecurityRule], outside: Sequence[SecurityRule], *, shared: bool) -> Snapshot:
    """Two subnets under one group or under two, three pools, one of them with a group on its interfaces."""
    first = nsg("first", *inside)
    second = first if shared else nsg("second", *outside)
    return snapshot(
        pool("a", subnet("a", A, first), TWO_NODES),
        pool("b", subnet("b", B, second), OTHER_NODES, nic=nsg("aks-nsg", *outside, group=NODE_GROUP)),
        pool("c", subnet("a", A, first), "10.240.1.6"),
    )


def told(statements: Iterable[Statement]) -> set[tuple[str, str, Severity | None]]:
    """What was said, apart from the order, the case of ids and the wording."""
    return {
        ("fault", one.subject, one.severity)
        if isinstance(one, Fault)
        else ("unknown", f"{one.reason.code} {(one.reason.resource or '').lower()}", None)
        for one in statements
        if not isinstance(one, Observed)
    }


def test_a_group_whose_id_comes_in_two_cases_is_one_group() -> None:
    """Two subnets under one group, whose id each of them writes in its own way: one finding for the rule."""
    both = nsg("both", DENY)
    other = respell(both)
    assert isinstance(other, NetworkSecurityGroup)
    found = fault(two_subnets(both, other))
    assert len(found.evidence["pairs"]) == 4


@LAW
@given(rules(), rules(), st.booleans(), st.randoms(use_true_random=False))
def test_neither_order_nor_case_matters(
    inside: tuple[SecurityRule, ...],
    outside: tuple[SecurityRule, ...],
    shared: bool,
    random: Random,
) -> None:
    """Rules and pools in another order and ids in another case are the same findings."""
    what = clusters(inside, outside, shared=shared)
    orders = [list(inside), list(outside)]
    for order in orders:
        random.shuffle(order)
    again = clusters(*orders, shared=shared)
    pools = [respelled(one) if random.random() < 0.5 else one for one in again.pools]
    random.shuffle(pools)
    assert told(check(structs.replace(again, pools=tuple(pools)))) == told(check(what))


# --- what it recommends --------------------------------------------------------------------------


def subjects(what: Snapshot) -> set[str]:
    """What is wrong, by subject."""
    return {one.subject for one in said(what) if isinstance(one, Fault)}


@LAW
@given(rules(), rules(), st.booleans())
def test_every_way_to_mend_a_fault_mends_it(
    inside: tuple[SecurityRule, ...], outside: tuple[SecurityRule, ...], shared: bool
) -> None:
    """After the commands of any one recommendation the rule no longer denies anything, and none is new."""
    what = clusters(inside, outside, shared=shared)
    for one in said(what):
        if isinstance(one, Fault):
            assert any(way.commands for way in one.remediation)
            for way in (way for way in one.remediation if way.commands):
                after = subjects(mended(what, way.commands))
                assert one.subject not in after
                if "--access" in way.commands[-1]:
                    assert after <= subjects(what)


@LAW
@given(rules(names=PREFIXES[:-1]), rules(names=PREFIXES[:-1]), st.booleans())
def test_mending_fault_by_fault_comes_to_an_end(
    inside: tuple[SecurityRule, ...], outside: tuple[SecurityRule, ...], shared: bool
) -> None:
    """Somebody who always follows the first recommendation of the first finding ends with none."""
    what = clusters(inside, outside, shared=shared)
    for _ in range(30):
        found = faults(what)
        if not found:
            break
        what = mended(what, found[0].remediation[0].commands)
    assert said(what) == []


@LAW
@given(rules(names=PREFIXES[:-1]), rules(names=PREFIXES[:-1]), st.booleans())
def test_mending_all_faults_at_once_works(
    inside: tuple[SecurityRule, ...], outside: tuple[SecurityRule, ...], shared: bool
) -> None:
    """Whoever follows the first recommendation of every finding of one scan is rid of all of them."""
    what = clusters(inside, outside, shared=shared)
    commands = dict.fromkeys(command for one in faults(what) for command in one.remediation[0].commands)
    assert not subjects(mended(what, commands)) & subjects(what)


def test_two_rules_that_deny_different_ways_are_both_mended() -> None:
    """What is recommended for one of them does not undo what is recommended for the other."""
    both = nsg(
        "both",
        rule("deny-a-to-b", 200, sources=A, destinations=B),
        rule("deny-b-to-a", 300, sources=B, destinations=A),
    )
    what = two_subnets(both, both)
    found = faults(what)
    assert len(found) == 2
    commands = dict.fromkeys(command for one in found for command in one.remediation[0].commands)
    assert subjects(mended(what, commands)) == set()


def creation(ways: Iterable[Remediation]) -> Options:
    """The options of the one rule that is recommended to be made."""
    [made] = [
        options
        for way in ways
        for path, options in map(parse, way.commands)
        if path == "network nsg rule create"
    ]
    return made


def test_the_command_is_complete() -> None:
    """Real names, prefixes of the subnets, a free priority above the deny: nothing left to fill in."""
    found = fault(two_subnets(None, nsg("b", DENY)))
    allow, remove = found.remediation
    assert [parse(command) for command in allow.commands] == [
        (
            "network nsg rule create",
            {
                "--subscription": [SUBSCRIPTION],
                "--resource-group": [NETWORK_GROUP],
                "--nsg-name": ["b"],
                "--name": ["AllowKubeletInbound"],
                "--priority": ["199"],
                "--direction": ["Inbound"],
                "--access": ["Allow"],
                "--protocol": ["Tcp"],
                "--source-address-prefixes": [A, B],
                "--source-port-ranges": ["*"],
                "--destination-address-prefixes": [B],
                "--destination-port-ranges": ["10250"],
            },
        )
    ]
    assert [verb(command) for command in remove.commands] == ["delete"]
    assert parse(remove.commands[0])[1]["--name"] == ["deny-kubelet"]
    assert (allow.docs or "").startswith("https://learn.microsoft.com/")


@pytest.mark.parametrize("denied", ["*", "10.0.0.0/8", "fd00::/8"])
def test_a_dual_stack_cluster_gets_a_rule_for_each_family(denied: str) -> None:
    """Azure refuses a rule with prefixes of both families; what is recommended it takes, and that helps."""
    group = nsg("nodes", rule("deny", 200, sources=denied))
    nodes = "10.240.1.4,fd00:10::4 10.240.1.5,fd00:10::5"
    what = snapshot(pool("np", subnet("nodes", f"{A} fd00:10::/64", group), nodes))
    allow = fault(what).remediation[0]
    assert said(mended(what, allow.commands)) == []


@pytest.mark.parametrize(
    ("name", "group"),
    [("deny all; reboot", "nodes"), ("o'deny", "nsg $(id)"), ("deny-*", "nodes`x`"), ("déni", "nœuds")],
)
def test_names_are_quoted_for_a_shell(name: str, group: str) -> None:
    """Whatever a rule or a group is called is one word of the command, and nothing of it is run."""
    what = snapshot(pool("np", subnet("nodes", A, nsg(group, rule(name, 200))), TWO_NODES))
    for way in fault(what).remediation:
        for command in way.commands:
            options = parse(command)[1]
            assert options["--nsg-name"] == [group]
            assert options["--name"] in (["AllowKubeletInbound"], [name])


@LAW
@given(rules(names=PREFIXES[:-1]))
def test_the_priority_is_free_and_above_the_deny(inside: tuple[SecurityRule, ...]) -> None:
    """While a lower number is free: the highest one, below that of every rule that nodes can feel."""
    what = one_subnet(*inside)
    found = faults(what)
    for direction in Direction:
        own = [one for one in found if one.evidence["rule"]["direction"] == direction]
        if not own:
            continue
        first = min(one.evidence["rule"]["priority"] for one in own)
        expected = free_priority(nsg("nodes", *inside), direction, first)
        for one in own:
            priority = int(creation(one.remediation)["--priority"][0])
            assert priority == (first if expected is None else expected)


def test_a_deny_that_nobody_feels_does_not_push_the_allow_up() -> None:
    """A rule about the gateway alone breaks nothing and needs no rule above it."""
    what = one_subnet(rule("deny-gateway", 100, sources="10.240.1.1"), DENY)
    allow = fault(what).remediation[0]
    assert [verb(command) for command in allow.commands] == ["create"]
    assert parse(allow.commands[0])[1]["--priority"] == ["199"]


def test_where_no_lower_priority_is_free_the_deny_moves() -> None:
    """A deny at 100 makes room, to the next number that is free, and the allow takes its place."""
    what = one_subnet(rule("deny", 100), rule("web", 101, "Allow", ports="443"))
    allow = fault(what).remediation[0]
    (update, moved), (create, made) = map(parse, allow.commands)
    assert (update, moved["--name"], moved["--priority"]) == ("network nsg rule update", ["deny"], ["102"])
    assert (create, made["--priority"]) == ("network nsg rule create", ["100"])
    assert said(mended(what, allow.commands)) == []


@pytest.mark.parametrize("last", [4096, 4095])
def test_where_no_priority_is_free_at_all_it_says_so(last: int) -> None:
    """With every number from the deny's up taken there is nothing to move; removing still works."""
    full = [
        rule("deny", 100),
        *(rule(f"web-{number}", number, "Allow", ports="443") for number in range(101, last + 1)),
    ]
    what = one_subnet(*full)
    allow, remove = fault(what).remediation
    if last == 4096:
        assert allow.commands == ()
        assert "No priority is free" in allow.summary
    else:
        assert said(mended(what, allow.commands)) == []
    assert said(mended(what, remove.commands)) == []


def test_azures_own_deny_cannot_be_removed() -> None:
    """For a default rule there is the allow alone, at the highest number of custom rules."""
    what = snapshot(
        pool("a", subnet("a", A, space=A), TWO_NODES),
        pool("b", subnet("b", B, nsg("b", OUT), space=B), OTHER_NODES),
    )
    found = fault(what)
    assert len(found.remediation) == 1
    assert creation(found.remediation)["--priority"] == ["4096"]
    assert said(mended(what, found.remediation[0].commands)) == []


def test_azures_own_deny_in_the_group_that_aks_manages_comes_with_a_caution() -> None:
    """There is nothing to remove, and a rule of one's own may be undone: it says so."""
    what = snapshot(
        pool("a", subnet("a", A, space=A), TWO_NODES),
        pool("b", subnet("b", B, space=B), OTHER_NODES, nic=nsg("aks-nsg", OUT, group=NODE_GROUP)),
    )
    [way] = fault(what).remediation
    assert "AKS manages this group" in way.summary
    assert said(mended(what, way.commands)) == []


def test_an_admin_rule_is_changed_in_its_configuration() -> None:
    """The rule is updated, and its configuration deployed again to the cluster's region: that mends it."""
    what = two_networks(admin(ADMIN_DENY, network="one"), admin(ADMIN_DENY, network="two"))
    [way] = fault(what).remediation
    assert [parse(command)[0] for command in way.commands] == [
        "network manager security-admin-config rule-collection rule update",
        "network manager post-commit",
    ]
    assert said(mended(what, way.commands)) == []


@pytest.mark.parametrize(
    "odd",
    [
        "",
        "deny-all",
        f"{network_id('virtualNetworks', 'vnet')}/securityAdminRules/deny",
        f"{network_id('networkManagers', 'manager')}/securityAdminConfigurations/baseline",
    ],
)
def test_an_admin_rule_that_cannot_be_addressed_gets_no_command(odd: str) -> None:
    """Where its id names no rule of a configuration it says what to do, and who can, in words alone."""
    rules = admin(ADMIN_DENY)
    what = under(structs.replace(rules, rules=(structs.replace(rules.rules[0], id=odd),)))
    [way] = fault(what).remediation
    assert way.commands == ()
    assert '"admin-deny"' in way.summary
    assert "network manager" in way.summary


def test_a_name_that_is_taken_is_not_overwritten() -> None:
    """`create` over an existing rule would replace it."""
    what = one_subnet(DENY, rule("allowkubeletinbound", 300, "Allow", ports="443"))
    allow = fault(what).remediation[0]
    assert creation([allow])["--name"] != ["allowkubeletinbound"]
    after = mended(what, allow.commands)
    assert said(after) == []
    place = after.pools[0].placements[0]
    assert isinstance(place.subnet, Subnet)
    assert isinstance(place.subnet.nsg, NetworkSecurityGroup)
    assert {one.name for one in place.subnet.nsg.rules} > {"allowkubeletinbound", "deny-kubelet"}


@pytest.mark.parametrize(
    ("group", "on_interface", "verbs"),
    [
        (NODE_GROUP, True, ["delete", "create"]),
        (NODE_GROUP.lower(), True, ["delete", "create"]),
        (NODE_GROUP, False, ["create", "delete"]),
        (NETWORK_GROUP, True, ["create", "delete"]),
        (NETWORK_GROUP, False, ["create", "delete"]),
    ],
)
def test_on_the_group_that_aks_manages_removing_comes_first(
    group: str,
    on_interface: bool,
    verbs: list[str],
) -> None:
    """AKS does not support rules of one's own on the interface-level group in its node resource group."""
    own = nsg("aks-agentpool-12345678-nsg", DENY, group=group)
    what = snapshot(
        pool(
            "np",
            subnet("nodes", A, None if on_interface else own),
            TWO_NODES,
            nic=own if on_interface else None,
        )
    )
    ways = fault(what).remediation
    assert [verb(way.commands[0]) for way in ways] == verbs
    assert ("AKS manages this group" in "".join(way.summary for way in ways)) is (verbs[0] == "delete")


@pytest.mark.parametrize(
    ("reach", "confidence", "words"),
    [
        ("", "derived", ""),
        ("10.240.2.4:timeout", "observed", "1 of 1 connection failed"),
        ("10.240.2.4:open", "derived", "1 connection of probes came through"),
        ("10.240.1.5:timeout", "derived", ""),
    ],
)
def test_probes_confirm_or_contradict(reach: str, confidence: str, words: str) -> None:
    """What nodes saw of the very connections that a rule denies; others say nothing of it."""
    first = subnet("a", "10.240.1.0/24")
    second = subnet("b", "10.240.2.0/24", nsg("b", rule("deny", 100, sources="10.240.1.0/24")))
    pools = (pool("one", first, "10.240.1.4 10.240.1.5"), pool("two", second, "10.240.2.4"))
    probes = Probes(reports=(report("one", 0, reach=reach),))
    [found] = [one for one in check(snapshot(*pools, probes=probes)) if isinstance(one, Fault)]
    assert found.confidence == confidence
    assert words in found.detail
    assert ("Probes" in found.detail or "probes" in found.detail) is bool(words)
