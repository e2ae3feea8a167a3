"""`ufw-kubelet-port`: what nodes printed and what is said of it, and what it recommends."""

import shlex

import pytest

from checks.ufw_kubelet_port import check
from facts.filters import Missing
from facts.finding import Fault, NotApplicable, Reason, Severity, Statement, Unknown
from facts.probes import NodeReport, Probes
from facts.snapshot import Snapshot
from tests import snapshots as make

NODES = make.subnet("nodes", "10.240.0.0/24")
USERS = make.subnet("users", "10.240.1.0/24")

SYSTEM = make.pool("system", NODES, "10.240.0.4 10.240.0.5", mode="System")
USER = make.pool("user", USERS, "10.240.1.4")
WINDOWS = make.pool("win", USERS, "10.240.1.9", os_type="Windows")

INACTIVE = "Status: inactive"


def active(*rules: str, default: str = "deny") -> str:
    """What `ufw status verbose` prints, with rules as its lines."""
    head = (
        "Status: active\nLogging: on (low)\n"
        f"Default: {default} (incoming), allow (outgoing), disabled (routed)\nNew profiles: skip\n"
    )
    if not rules:
        return head
    table = "\nTo                         Action      From\n--                         ------      ----\n"
    return head + table + "\n".join(rules) + "\n"


ALLOW_SSH = "22/tcp                     ALLOW IN    Anywhere"
ALLOW = "10250/tcp                  ALLOW IN    Anywhere"
ALLOW_NODES = "Anywhere                   ALLOW IN    10.240.0.0/16"
ALLOW_SYSTEM = "10250/tcp                  ALLOW IN    10.240.0.0/24"
DENY = "10250                      DENY IN     Anywhere"
REJECT_ONE = "10250/tcp                  REJECT IN   10.240.1.4"
REJECT_ALL = "10250/tcp                  REJECT IN   Anywhere"
DENY_NOBODY = "10250/tcp                  DENY IN     10.240.1.200"
LIMIT = "10250/tcp                  LIMIT IN    Anywhere"
PROFILE = "Kubelet                    ALLOW IN    Anywhere"


def a_cluster(*reports: NodeReport, unread: tuple[Missing, ...] = ()) -> Snapshot:
    """The cluster with two pools, whose nodes reported this."""
    return make.snapshot(SYSTEM, USER, probes=Probes(reports=reports, unread=unread))


def all_say(first: str, second: str = INACTIVE, third: str = INACTIVE) -> Snapshot:
    """Both nodes of the system pool, and the user pool's."""
    return a_cluster(
        make.report("system", 0, ufw=first),
        make.report("system", 1, ufw=second),
        make.report("user", 0, ufw=third),
    )


Said = tuple[str, str]


def gist(what: Snapshot) -> list[Said]:
    """What is said, in two words each."""
    return sorted(_gist(one) for one in check(what))


def _gist(one: Statement) -> Said:
    if isinstance(one, Fault):
        return one.severity or Severity.CRITICAL, "/".join(one.subject.split("/")[-2:])
    assert isinstance(one, (Unknown, NotApplicable))
    return ("unknown" if isinstance(one, Unknown) else "not applicable"), one.reason.code


MISSING_STATUS = Missing(
    what="UFW",
    resource_id=make.machine_id("user", 0),
    reason=Reason(code="timeout", message="`ufw status` did not finish."),
)

CASES: dict[str, tuple[Snapshot, list[Said]]] = {
    "not installed, or switched off": (all_say("", "", INACTIVE), []),
    "on, and the port allowed": (all_say(active(ALLOW), active(ALLOW_NODES)), []),
    "on, with nothing but SSH": (all_say(active(ALLOW_SSH)), [("critical", "system/blocked")]),
    "on, with no rule at all": (all_say(active()), [("critical", "system/blocked")]),
    "on, and everything allowed that no rule names": (all_say(active(default="allow")), []),
    "a rule against the port, before what would allow it": (
        all_say(active(DENY, ALLOW)),
        [("critical", "system/blocked")],
    ),
    "allowed from its own subnet, and others have nodes too": (
        all_say(active(ALLOW_SYSTEM)),
        [("critical", "system/blocked")],
    ),
    "one node is turned away": (
        all_say(active(REJECT_ONE, default="allow")),
        [("critical", "system/blocked")],
    ),
    "an address that no node has is turned away": (
        all_say(active(DENY_NOBODY, default="allow")),
        [("warning", "system/blocked")],
    ),
    "an address that no node can have is turned away": (
        all_say(active(DENY_NOBODY.replace("10.240.1.200", "10.240.1.1  "), default="allow")),
        [],
    ),
    "a limit": (all_say(active(LIMIT)), [("warning", "system/limited")]),
    "two pools, each with its own finding": (
        all_say(active(), active(), active(LIMIT)),
        [("critical", "system/blocked"), ("warning", "user/limited")],
    ),
    "blocked on one node and limited on the other": (
        all_say(active(), active(LIMIT)),
        [("critical", "system/blocked"), ("warning", "system/limited")],
    ),
    "a profile that nobody knows": (
        all_say(active(PROFILE)),
        [("unknown", "unknown_profile")],
    ),
    "a status that is none": (all_say("ufw: something new"), [("unknown", "malformed_answer")]),
    "a status that did not come": (
        a_cluster(
            make.report("system", 0, ufw=INACTIVE),
            make.report("user", 0, ufw=MISSING_STATUS),
        ),
        [("unknown", "timeout")],
    ),
    "a node that is busy, beside one that is blocked": (
        a_cluster(
            make.report("system", 0, ufw=active()),
            make.report("user", 0, ufw=INACTIVE),
            unread=(make.unprobed("system", 1),),
        ),
        [("critical", "system/blocked"), ("unknown", "busy")],
    ),
    "a pool that has not been probed": (
        a_cluster(make.report("system", 0, ufw=INACTIVE)),
        [("unknown", "no_data")],
    ),
    "a report of a node that is gone": (
        a_cluster(make.report("system", 9, ufw=active()), make.report("system", 0), make.report("user", 0)),
        [],
    ),
    "a node whose addresses nobody knows": (
        make.snapshot(
            make.pool("odd", NODES, "none 10.240.0.9"),
            probes=Probes(reports=(make.report("odd", 0, ufw=active()), make.report("odd", 1))),
        ),
        [("critical", "odd/blocked")],
    ),
    "probes are off": (make.snapshot(SYSTEM, USER), [("unknown", "probes_disabled")]),
    "nothing but Windows": (make.snapshot(WINDOWS), [("not applicable", "no_linux_nodes")]),
    "no pool of one's own": (make.snapshot(), [("not applicable", "no_linux_nodes")]),
    "a Windows pool beside": (
        make.snapshot(SYSTEM, WINDOWS, probes=Probes(reports=(make.report("system", 0, ufw=active()),))),
        [("critical", "system/blocked")],
    ),
    "every pool is stopped": (
        make.snapshot(make.pool("system", NODES, stopped=True)),
        [("not applicable", "stopped")],
    ),
    "a pool of no nodes": (make.snapshot(make.pool("system", NODES), probes=Probes()), []),
}


@pytest.mark.parametrize("name", CASES)
def test_verdicts(name: str) -> None:
    """Severity and subject of each finding, and each reason."""
    what, said = CASES[name]
    assert gist(what) == sorted(said)


def the_fault(what: Snapshot) -> Fault:
    """The one thing that is said, a fault."""
    [only] = check(what)
    assert isinstance(only, Fault)
    return only


def test_a_finding_names_nodes_and_rules() -> None:
    """And the machines, by which they are probed again."""
    found = the_fault(all_say(active(ALLOW_SSH), active(DENY)))
    assert found.title == "UFW blocks TCP 10250 on 2 nodes of node pool system"
    assert [node["machineId"] for node in found.evidence["nodes"]] == [
        make.machine_id("system", 0),
        make.machine_id("system", 1),
    ]
    assert found.evidence["nodes"][1]["rules"] == ["10250 DENY IN Anywhere"]
    assert "default (incoming)" in found.detail
    assert "from 10.240.0.0/23, by:" in found.detail
    assert found.evidence["ufwStatus"][0] == "Status: active"


@pytest.mark.parametrize(
    ("status", "script"),
    [
        (active(ALLOW_SSH), "ufw allow 10250"),
        (active(DENY), "ufw prepend allow 10250/tcp"),
        (active(DENY, REJECT_ALL), "ufw delete deny 10250 && ufw prepend allow 10250"),
        (active(REJECT_ONE, default="allow"), "ufw prepend allow 10250"),
        (active(LIMIT), "ufw prepend allow 10250"),
    ],
)
def test_commands_are_the_runbooks(status: str, script: str) -> None:
    """Through run-command with the real names; where a rule decides, the new one has to stand before it."""
    allow, disable = the_fault(all_say(status)).remediation
    [command] = allow.commands
    words = shlex.split(command)
    assert words[:4] == ["az", "vmss", "run-command", "invoke"]
    options = dict(zip(words[4::2], words[5::2], strict=True))
    assert options == {
        "--subscription": make.SUBSCRIPTION,
        "--resource-group": make.NODE_GROUP,
        "--name": "aks-system-vmss",
        "--instance-id": "0",
        "--command-id": "RunShellScript",
        "--scripts": script,
        "--output": "tsv",
        "--query": "value[0].message",
    }
    assert "'ufw disable'" in disable.commands[0]
    assert "support policy" in allow.summary
    assert allow.docs is not None


def test_what_others_saw_makes_it_observed() -> None:
    """A node that turns others away, as its rules say and as they found."""
    seen = a_cluster(
        make.report("system", 0, ufw=active()),
        make.report("system", 1, ufw=INACTIVE, reach="10.240.0.4:timeout"),
        make.report("user", 0, ufw=INACTIVE, reach="10.240.0.4:timeout 10.240.0.5:open"),
    )
    assert the_fault(seen).confidence == "observed"
    assert the_fault(all_say(active())).confidence == "derived"


def test_nothing_is_not_applicable_for_a_pool_of_a_stopped_kind() -> None:
    """A stopped pool beside a running one is left out, and says nothing."""
    stopped = make.pool("night", USERS, "10.240.1.30", stopped=True)
    probes = Probes(reports=(make.report("system", 0), make.report("night", 0, ufw=active())))
    assert not list(check(make.snapshot(SYSTEM, stopped, probes=probes)))
    assert isinstance(next(check(make.snapshot(stopped, probes=probes))), NotApplicable)
