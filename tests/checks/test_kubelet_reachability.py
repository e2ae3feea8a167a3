"""`kubelet-reachability`: who could not reach whom, and what is made of it."""

import shlex

import pytest
from msgspec import structs

from checks.kubelet_reachability import check
from facts.finding import Fault, NotApplicable, Statement, Unknown
from facts.probes import NodeReport, Probes
from facts.snapshot import NodePool, Snapshot
from tests import snapshots as make

A, B = "10.240.0.0/24", "10.240.1.0/24"
DENY = make.nsg("b", make.rule("deny-kubelet", 100, sources=A))
SUBNET_A, SUBNET_B = make.subnet("a", A), make.subnet("b", B)
GUARDED = make.subnet("b", B, DENY)
UNREAD = make.subnet("b", B, make.missing("b"))

S0, S1, U0, U1 = "10.240.0.4", "10.240.0.5", "10.240.1.4", "10.240.1.5"
SYSTEM = make.pool("system", SUBNET_A, f"{S0} {S1}", mode="System")
USER = make.pool("user", SUBNET_B, f"{U0} {U1}")
WINDOWS = make.pool("win", SUBNET_B, "10.240.1.99", os_type="Windows")

UFW_ON = "Status: active\nDefault: deny (incoming), allow (outgoing), disabled (routed)\n"
DROP = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --dport 10250 -j DROP\nCOMMIT\n"


def answers(**failed: str) -> str:
    """What a node's tries brought: all of `S0 S1 U0 U1` open but for those named."""
    known = {"s0": S0, "s1": S1, "u0": U0, "u1": U1}
    return " ".join(f"{address}:{failed.get(name, 'open')}" for name, address in known.items())


def a_cluster(*reports: NodeReport, user: NodePool = USER) -> Snapshot:
    """The cluster; nodes of which nothing is said reached everybody."""
    there = {report.node for report in reports}
    others = [
        make.report(pool, number, reach=answers())
        for pool, number in (("system", 0), ("system", 1), ("user", 0), ("user", 1))
    ]
    every = (*reports, *(one for one in others if one.node not in there))
    return make.snapshot(SYSTEM, user, probes=Probes(reports=every))


def nobody_reaches_u0(**report: str) -> Snapshot:
    """One node that does not answer, with what is known of it."""
    own = make.report(
        "user",
        0,
        reach=answers(),
        ufw=report.get("ufw", ""),
        dumps={"iptables-nft-save": report["dump"]} if "dump" in report else {},
    )
    return a_cluster(
        own,
        *(
            make.report(pool, number, reach=answers(u0=report.get("answer", "timeout")))
            for pool, number in (("system", 0), ("system", 1), ("user", 1))
        ),
    )


def across(user: NodePool) -> Snapshot:
    """From the system pool's subnet nobody reaches the user pool's."""
    return a_cluster(
        *(make.report("system", number, reach=answers(u0="timeout", u1="timeout")) for number in (0, 1)),
        user=user,
    )


Said = tuple[str, str, int | None]


def gist(what: Snapshot) -> list[Said]:
    """What is said, in a few words each."""
    return sorted((_gist(one) for one in check(what)), key=str)


def _gist(one: Statement) -> Said:
    if isinstance(one, Fault):
        return (
            one.severity or "critical",
            one.subject.partition("/agentPools/")[2].split("/")[0] + "/" + one.subject.rsplit("/", 1)[-1],
            one.cause,
        )
    assert isinstance(one, (Unknown, NotApplicable))
    return ("unknown" if isinstance(one, Unknown) else "not applicable"), one.reason.code, None


CASES: dict[str, tuple[Snapshot, list[Said]]] = {
    "everybody answers": (a_cluster(), []),
    "one node does not, by its UFW": (
        nobody_reaches_u0(ufw=UFW_ON),
        [("critical", "user/unreachable", 2)],
    ),
    "one node does not, by its iptables": (
        nobody_reaches_u0(dump=DROP),
        [("critical", "user/unreachable", 3)],
    ),
    "across subnets, by a security group": (
        across(make.pool("user", GUARDED, f"{U0} {U1}")),
        [("critical", "user/unreachable", 1)],
    ),
    "one node does not, and everything allows it": (
        nobody_reaches_u0(),
        [("critical", "user/unreachable", None)],
    ),
    "refused is no answer either": (
        nobody_reaches_u0(answer="refused"),
        [("critical", "user/unreachable", None)],
    ),
    "no way there": (nobody_reaches_u0(answer="unreachable"), [("critical", "user/unreachable", None)]),
    "a group that could not be read may explain it": (
        across(make.pool("user", UNREAD, f"{U0} {U1}")),
        [("critical", "user/unreachable", None)],
    ),
    "two pools are two findings": (
        make.snapshot(
            SYSTEM,
            make.pool("user", GUARDED, f"{U0} {U1}"),
            probes=Probes(
                reports=(
                    make.report("system", 0, reach=answers(u0="timeout", u1="timeout", s1="refused")),
                    make.report("system", 1, reach=answers()),
                    make.report("user", 0, reach=answers()),
                )
            ),
        ),
        [("critical", "system/unreachable", None), ("critical", "user/unreachable", 1)],
    ),
    "a try that failed by itself": (
        a_cluster(make.report("system", 0, reach=answers(u0="error"))),
        [("unknown", "probe_failed", None)],
    ),
    "a node that is gone was tried": (
        a_cluster(make.report("system", 0, reach="10.240.1.77:timeout 10.240.0.5:open")),
        [],
    ),
    "a node that tried itself": (a_cluster(make.report("system", 0, reach=f"{S0}:timeout {S1}:open")), []),
    "a Windows node does not answer": (
        make.snapshot(
            SYSTEM,
            WINDOWS,
            probes=Probes(reports=(make.report("system", 0, reach=f"10.240.1.99:timeout {S1}:open"),)),
        ),
        [],
    ),
    "nobody tried": (
        make.snapshot(SYSTEM, probes=Probes(reports=(make.report("system", 0),))),
        [("unknown", "no_data", None)],
    ),
    "one node alone": (
        make.snapshot(make.pool("tiny", SUBNET_A, S0), probes=Probes(reports=(make.report("tiny", 0),))),
        [("not applicable", "single_node", None)],
    ),
    "a node that could not be probed": (
        make.snapshot(
            SYSTEM,
            probes=Probes(
                reports=(make.report("system", 0, reach=answers()),),
                unread=(make.unprobed("system", 1, "no_answer"),),
            ),
        ),
        [("unknown", "no_answer", None)],
    ),
    "probes are off": (make.snapshot(SYSTEM), [("unknown", "probes_disabled", None)]),
    "stopped": (make.snapshot(make.pool("x", SUBNET_A, stopped=True)), [("not applicable", "stopped", None)]),
}


@pytest.mark.parametrize("name", CASES)
def test_verdicts(name: str) -> None:
    """Severity, pool and explanation of each finding, with its cause; and each reason."""
    what, said = CASES[name]
    assert gist(what) == sorted(said, key=str)


def the_fault(what: Snapshot) -> Fault:
    """The one thing that is said, a fault."""
    [only] = check(what)
    assert isinstance(only, Fault)
    return only


def test_the_contradiction_is_told() -> None:
    """Everything allows it, and it fails: the line that nobody finds by reading configuration."""
    found = the_fault(nobody_reaches_u0())
    assert found.title.endswith("does not answer others, though all that was read allows it")
    assert "Everything that was read allows it" in found.detail
    assert found.confidence == "observed"
    assert found.evidence["explainedBy"] == []
    assert not found.evidence["notRead"]


def test_what_was_not_read_is_told() -> None:
    """Then nobody may say that everything allows it."""
    found = the_fault(across(make.pool("user", UNREAD, f"{U0} {U1}")))
    assert "though" not in found.title
    assert "not everything could be" in found.detail
    assert found.evidence["notRead"] == ["Could not read b."]


def test_pairs_and_those_to_be_probed_again() -> None:
    """Who could not reach whom, in whose words; and the machines at both ends."""
    found = the_fault(nobody_reaches_u0(ufw=UFW_ON))
    assert {(pair["from"], pair["to"], pair["answer"]) for pair in found.evidence["pairs"]} == {
        (source, "aks-user-0", "timeout") for source in ("aks-system-0", "aks-system-1", "aks-user-1")
    }
    assert found.evidence["pairs"][0]["said"] == "nc: timeout"
    assert {node["machineId"] for node in found.evidence["nodes"]} == {
        make.machine_id("user", 0),
        make.machine_id("user", 1),
        make.machine_id("system", 0),
        make.machine_id("system", 1),
    }
    assert found.evidence["explainedBy"] == [{"check": "ufw-kubelet-port", "rule": "default (incoming)"}]
    assert found.evidence["pairs"][0]["toMachine"] == make.machine_id("user", 0)


def test_identity_does_not_hang_on_who_was_probed() -> None:
    """The node that does not answer may itself be probed in one round and not in the next."""
    probed = the_fault(nobody_reaches_u0(ufw=UFW_ON))
    unprobed = the_fault(
        make.snapshot(
            SYSTEM,
            USER,
            probes=Probes(
                reports=(
                    make.report("system", 0, reach=answers(u0="timeout")),
                    make.report("user", 1, reach=answers(u0="timeout")),
                )
            ),
        )
    )
    assert probed.subject == unprobed.subject


def test_addresses_that_passed_to_other_machines() -> None:
    """What was tried was a node that is gone; and what was asked and not answered is told."""
    first = make.report("system", 0, reach=f"{U0}:timeout {S1}:open")
    gone = structs.replace(first, asked={U0: make.machine_id("user", 9), S1: make.machine_id("system", 1)})
    assert gist(a_cluster(gone)) == []
    late = structs.replace(first, asked={U0: make.machine_id("user", 0), U1: make.machine_id("user", 1)})
    assert ("unknown", "timeout", None) in gist(a_cluster(late))


def test_a_node_of_which_no_machine_is_known() -> None:
    """No command can be written for it; the finding is there all the same."""
    [place] = USER.placements
    nameless = structs.replace(place.nodes[0], machine_id="")
    user = structs.replace(USER, placements=(structs.replace(place, nodes=(nameless, place.nodes[1])),))
    what = make.snapshot(
        SYSTEM, user, probes=Probes(reports=(make.report("system", 0, reach=f"{U0}:refused {S1}:open"),))
    )
    found = [one for one in check(what) if isinstance(one, Fault)]
    assert len(found) == 1
    assert len(found[0].remediation[0].commands) == 1


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (nobody_reaches_u0(), "Nobody who tried reaches this one node"),
        (across(USER), "goes from one subnet to another"),
        (
            a_cluster(make.report("system", 0, reach=answers(s1="timeout", u0="timeout", u1="timeout"))),
            "One node, aks-system-0, reaches nobody",
        ),
        (
            a_cluster(make.report("user", 1, reach=answers(u0="timeout"))),
            "Some nodes reach them and some do not",
        ),
        (
            make.snapshot(SYSTEM, probes=Probes(reports=(make.report("system", 0, reach=f"{S1}:timeout"),))),
            "No connection came through at all",
        ),
    ],
)
def test_patterns(what: Snapshot, words: str) -> None:
    """What the pairs that fail have in common."""
    assert any(words in one.detail for one in check(what) if isinstance(one, Fault))


def test_the_test_by_hand_is_the_runbooks() -> None:
    """From a node that failed, with the real names."""
    found = the_fault(nobody_reaches_u0())
    test, kubelet = (shlex.split(command) for command in found.remediation[0].commands)
    assert test[:4] == ["az", "vmss", "run-command", "invoke"]
    assert test[test.index("--scripts") + 1] == f"nc -v -w 2 {U0} 10250"
    assert kubelet[kubelet.index("--name") + 1] == "aks-user-vmss"
