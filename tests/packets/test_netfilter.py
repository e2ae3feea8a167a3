"""The walk through chains: jumps, gotos, returns, policies, and what stays in doubt."""

from collections.abc import Mapping, Sequence

import pytest
from msgspec import structs

from packets.addresses import EVERY_ADDRESS, IntervalSet, parse_port_range, parse_prefixes, to_prefixes
from packets.decisions import Doubt
from packets.netfilter import Action, Chain, Hook, Kind, Policy, Question, Rule, Step, Table, answer, judge

NODES = parse_prefixes(["10.240.0.0/24"])
LOW = parse_prefixes(["10.240.0.0/25"])
DOUBT = (Doubt("unknown_set", 'the members of ipset "x" are not shown'),)


def rule(
    kind: Kind, chain: str = "", *, sources: IntervalSet = EVERY_ADDRESS, doubtful: bool = False
) -> Rule:
    """A rule about some sources, or all."""
    return Rule(
        number=1,
        text=kind,
        action=Action(kind, kind, chain),
        sources=sources,
        doubts=DOUBT if doubtful else (),
    )


def table(chains: Mapping[str, Sequence[Rule]], policy: Policy) -> Table:
    """A table of IPv4 whose base chain is INPUT."""
    made = {
        name: Chain(name, rules, policy if name == "INPUT" else "accept") for name, rules in chains.items()
    }
    return Table("ip", "filter", made)


ACCEPT, DROP, RETURN = rule("accept"), rule("drop"), rule("return")
MAYBE_DROP, MAYBE_ACCEPT = rule("drop", doubtful=True), rule("accept", doubtful=True)
DROP_LOW = rule("drop", sources=LOW)

CASES: dict[str, tuple[dict[str, Sequence[Rule]], Policy, str, tuple[str, ...], tuple[str, ...]]] = {
    # chains, policy, outcome, blocked, unknown
    "nothing but a policy": ({"INPUT": ()}, "accept", "allowed", (), ()),
    "a policy that drops": ({"INPUT": ()}, "drop", "blocked", ("10.240.0.0/24",), ()),
    "the first match decides": ({"INPUT": (ACCEPT, DROP)}, "drop", "allowed", (), ()),
    "half of the sources": ({"INPUT": (DROP_LOW,)}, "accept", "mixed", ("10.240.0.0/25",), ()),
    "a jump that drops": (
        {"INPUT": (rule("jump", "A"),), "A": (DROP,)},
        "accept",
        "blocked",
        ("10.240.0.0/24",),
        (),
    ),
    "a jump that comes back": ({"INPUT": (rule("jump", "A"), ACCEPT), "A": ()}, "drop", "allowed", (), ()),
    "a return in a jump": (
        {"INPUT": (rule("jump", "A"), ACCEPT), "A": (RETURN, DROP)},
        "drop",
        "allowed",
        (),
        (),
    ),
    "a return in the base chain meets the policy": (
        {"INPUT": (RETURN, ACCEPT)},
        "drop",
        "blocked",
        ("10.240.0.0/24",),
        (),
    ),
    "a goto does not come back": (
        {"INPUT": (rule("goto", "A"), ACCEPT), "A": ()},
        "drop",
        "blocked",
        ("10.240.0.0/24",),
        (),
    ),
    "a goto in a jump comes back to the first chain": (
        {"INPUT": (rule("jump", "A"), ACCEPT), "A": (rule("goto", "B"), DROP), "B": ()},
        "drop",
        "allowed",
        (),
        (),
    ),
    "a set nobody knows before a policy that says the same": (
        {"INPUT": (MAYBE_DROP,)},
        "drop",
        "blocked",
        ("10.240.0.0/24",),
        (),
    ),
    "a set nobody knows decides": ({"INPUT": (MAYBE_DROP,)}, "accept", "unknown", (), ("10.240.0.0/24",)),
    "what comes first is sure": ({"INPUT": (ACCEPT, MAYBE_DROP)}, "accept", "allowed", (), ()),
    "a jump that may happen": (
        {"INPUT": (rule("jump", "A", doubtful=True),), "A": (DROP_LOW,)},
        "accept",
        "mixed",
        (),
        ("10.240.0.0/25",),
    ),
    "a jump that may happen, and changes nothing": (
        {"INPUT": (rule("jump", "A", doubtful=True), DROP), "A": (RETURN, ACCEPT)},
        "accept",
        "blocked",
        ("10.240.0.0/24",),
        (),
    ),
    "a doubt within a jump": (
        {"INPUT": (rule("jump", "A"), DROP), "A": (MAYBE_ACCEPT,)},
        "accept",
        "unknown",
        (),
        ("10.240.0.0/24",),
    ),
    "a doubt within a goto": (
        {"INPUT": (rule("goto", "A"), DROP), "A": (MAYBE_ACCEPT,)},
        "accept",
        "allowed",
        (),
        (),
    ),
    "a program decides": ({"INPUT": (rule("unknown"),)}, "accept", "unknown", (), ("10.240.0.0/24",)),
    "a chain that is not shown": (
        {"INPUT": (rule("jump", "A"),)},
        "accept",
        "unknown",
        (),
        ("10.240.0.0/24",),
    ),
    "a policy that is not shown": ({"INPUT": ()}, "unknown", "unknown", (), ("10.240.0.0/24",)),
    "what only looks goes on": (
        {"INPUT": (rule("continue"), DROP)},
        "accept",
        "blocked",
        ("10.240.0.0/24",),
        (),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_chain(name: str) -> None:
    """The verdict of a base chain on all sources of a question."""
    chains, policy, outcome, blocked, unknown = CASES[name]
    question = Question.to_node(
        "tcp", parse_port_range("10250"), sources=NODES, destinations=parse_prefixes(["10.240.0.4"])
    )
    decisions = judge([Step(table(chains, policy), "INPUT", 0)], question)
    said = answer(decisions, question)
    assert (said.outcome, said.blocked, said.unknown) == (outcome, blocked, unknown)
    seen = [box.sources for one in decisions for box in one.packets]
    assert to_prefixes(IntervalSet.of(part for one in seen for part in one.intervals)) == ("10.240.0.0/24",)


def test_a_circle_is_refused() -> None:
    """The kernel never has one; a text may."""
    chains = {"INPUT": (rule("jump", "A"),), "A": (rule("jump", "A"),)}
    question = Question.to_node("tcp", parse_port_range("10250"), sources=NODES, destinations=None)
    with pytest.raises(ValueError, match="circle"):
        judge([Step(table(chains, "accept"), "INPUT", 0)], question)


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        # Connection tracking is at the priority -200 of the hook prerouting.
        (("prerouting", -300), "blocked"),
        (("prerouting", -150), "allowed"),
        (("input", -300), "allowed"),
        (("ingress", 0), "blocked"),
    ],
)
def test_what_is_not_tracked_yet_is_invalid(step: tuple[Hook, int], outcome: str) -> None:
    """A rule that drops what is invalid drops all before connection tracking has seen it."""
    invalid = structs.replace(DROP, states=frozenset({"invalid"}))
    made = Table("netdev", "t", {"c": Chain("c", (invalid,))})
    question = Question.to_node("tcp", parse_port_range("10250"), sources=NODES, destinations=None)
    hook, priority = step
    said = answer(judge([Step(made, "c", priority, hook)], question), question)
    assert said.outcome == outcome
    assert {rule.why.partition(":")[0] for rule in said.rules} <= {
        "table netdev t",
        "policy of chain c, table netdev t",
    }


def test_chains_that_are_met_in_very_many_ways() -> None:
    """Each jumps twice to the next: 2**60 ways, and an answer all the same."""
    chains: dict[str, Sequence[Rule]] = {
        f"C{number}": (rule("jump", f"C{number + 1}"), rule("jump", f"C{number + 1}")) for number in range(60)
    }
    chains |= {"INPUT": (rule("jump", "C0"),), "C60": (DROP_LOW,)}
    question = Question.to_node("tcp", parse_port_range("10250"), sources=NODES, destinations=None)
    said = answer(judge([Step(table(chains, "accept"), "INPUT", 0)], question), question)
    assert (said.blocked, said.allowed) == (("10.240.0.0/25",), ("10.240.0.128/25",))


def test_what_nobody_can_judge_is_said() -> None:
    """Every way meets other packets: after so many it is given up, in words."""
    halves = [parse_prefixes([f"10.240.0.{number}/32"]) for number in range(200)]
    chains: dict[str, Sequence[Rule]] = {
        f"C{number}": (
            rule("accept", sources=halves[number], doubtful=True),
            rule("jump", f"C{number + 1}", sources=NODES - halves[number]),
            rule("jump", f"C{number + 1}", sources=NODES - halves[number + 100]),
        )
        for number in range(100)
    }
    chains |= {"INPUT": (rule("jump", "C0"),), "C100": ()}
    question = Question.to_node("tcp", parse_port_range("10250"), sources=NODES, destinations=None)
    with pytest.raises(ValueError, match="too many ways"):
        judge([Step(table(chains, "accept"), "INPUT", 0)], question)
