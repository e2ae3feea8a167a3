"""How long an NSG verdict takes, by the number of rules, and against a solver that is asked the same."""

import random
from collections.abc import Iterator
from functools import partial
from typing import Any

from bench.measure import Figure, median_ms
from facts.filters import Direction, NetworkSecurityGroup, SecurityRule
from packets.addresses import EVERY_PORT, IntervalSet, parse_port_range, parse_prefix, parse_prefixes, union
from packets.boxes import Box
from packets.nsg import DEFAULT_RULES, Question, evaluate
from packets.tags import Tags

_NODES = parse_prefixes(["10.240.0.0/16"])
_QUESTION = Question(
    direction=Direction.INBOUND,
    protocol="tcp",
    packets=Box(_NODES, EVERY_PORT, _NODES, IntervalSet(((10250, 10250),))),
)
_TAGS = Tags.of_network(["10.240.0.0/16"])


def figures() -> Iterator[Figure]:
    """Verdicts over node-to-node TCP 10250, on groups whose rules all cut into the question."""
    for rules, prefixes, budget in ((10, 2, None), (20, 2, 1.0), (100, 4, None), (1000, 4, 50.0)):
        group = _group(rules, prefixes)
        ours = median_ms(partial(_cold, group), 50 if rules < 1000 else 15)
        yield Figure(f"NSG verdict, {rules} rules with {rules * prefixes:,} prefixes", ours, "ms", budget)
        # The engine says which part each rule decides; the solver is asked less: whether any is denied.
        for what, asked in (("some denied", group), ("none denied", _harmless(group))):
            engine = median_ms(partial(_cold, asked), 15)
            denied = any(one.verdict == "denied" for one in evaluate(asked, _QUESTION, _TAGS))
            solver = median_ms(partial(_solved, asked, expected=denied), 1 if rules > 100 else 3)
            yield Figure(
                f"… {what}: z3 asked whether any is",
                solver,
                "ms",
                None,
                f"{solver / engine:,.0f} times the engine's {engine:.3g} ms",
            )


def _cold(group: NetworkSecurityGroup) -> None:
    """A verdict on a group whose prefixes were never parsed before."""
    parse_prefix.cache_clear()
    evaluate(group, _QUESTION, _TAGS)


def _solved(group: NetworkSecurityGroup, *, expected: bool) -> None:
    """Ask the solver whether some packet of the question is denied; its answer has to be the engine's."""
    import z3

    source, destination = z3.BitVec("source", 32), z3.BitVec("destination", 32)
    source_port, port = z3.BitVec("source_port", 16), z3.BitVec("port", 16)

    def within(value: Any, wanted: IntervalSet) -> Any:
        return z3.Or([z3.And(z3.UGE(value, low), z3.ULE(value, high)) for low, high in wanted.intervals])

    def addresses(value: Any, texts: tuple[str, ...]) -> Any:
        if "*" in texts:
            return z3.BoolVal(val=True)
        return within(value, union(_TAGS.field((text,), (), "source").surely for text in texts))

    defaults = [rule for rule in DEFAULT_RULES if rule.direction == Direction.INBOUND]
    denied = z3.BoolVal(val=True)
    for rule in reversed([*sorted(group.rules, key=lambda one: one.priority), *defaults[:1], defaults[-1]]):
        matches = z3.And(
            addresses(source, rule.sources),
            within(source_port, union(parse_port_range(text) for text in rule.source_ports)),
            addresses(destination, rule.destinations),
            within(port, union(parse_port_range(text) for text in rule.destination_ports)),
        )
        denied = z3.If(matches, z3.BoolVal(rule.access == "Deny"), denied)
    solver = z3.SolverFor("QF_BV")
    solver.add(within(source, _NODES), within(destination, _NODES), port == 10250, denied)
    if (solver.check() == z3.sat) is not expected:
        raise AssertionError("the solver and the engine disagree")


def _harmless(group: NetworkSecurityGroup) -> NetworkSecurityGroup:
    """The same rules, with those that deny about another port: nothing of the question is denied."""
    return NetworkSecurityGroup(
        id=group.id,
        name=group.name,
        rules=tuple(
            rule
            if rule.access == "Allow"
            else SecurityRule(
                id=rule.id,
                name=rule.name,
                priority=rule.priority,
                direction=rule.direction,
                access=rule.access,
                protocol=rule.protocol,
                sources=rule.sources,
                source_ports=rule.source_ports,
                destinations=rule.destinations,
                destination_ports=("10251-10300",),
            )
            for rule in group.rules
        ),
    )


def _group(rules: int, prefixes: int) -> NetworkSecurityGroup:
    chance = random.Random(rules)  # noqa: S311 - the same group in every run

    def some() -> tuple[str, ...]:
        return tuple(
            f"10.240.{chance.randrange(256)}.{chance.randrange(0, 256, 16)}/28" for _ in range(prefixes)
        )

    return NetworkSecurityGroup(
        id="/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/networkSecurityGroups/n",
        name="n",
        rules=tuple(
            SecurityRule(
                id=f"rule-{number}",
                name=f"rule-{number}",
                priority=100 + number,
                direction="Inbound",
                access=chance.choice(("Allow", "Deny")),
                protocol="Tcp",
                sources=some(),
                source_ports=("*",),
                destinations=("*",) if number % 3 else some(),
                destination_ports=("10000-10300",),
            )
            for number in range(rules)
        ),
    )
