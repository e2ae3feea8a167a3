"""How long an NSG verdict takes, by the number of rules."""

import random
from collections.abc import Iterator
from functools import partial

from bench.measure import Figure, median_ms
from facts.filters import Direction, NetworkSecurityGroup, SecurityRule
from packets.addresses import EVERY_PORT, IntervalSet, parse_prefix, parse_prefixes
from packets.boxes import Box
from packets.nsg import Question, evaluate
from packets.tags import Tags

_NODES = parse_prefixes(["10.240.0.0/16"])
_QUESTION = Question(
    direction=Direction.INBOUND,
    protocol="tcp",
    packets=Box(_NODES, EVERY_PORT, _NODES, IntervalSet(((10250, 10250),))),
)


def figures() -> Iterator[Figure]:
    """Verdicts over node-to-node TCP 10250, on groups whose rules all cut into the question."""
    tags = Tags.of_network(["10.240.0.0/16"])
    for rules, prefixes, budget in ((10, 2, None), (20, 2, 1.0), (100, 4, None), (1000, 4, 50.0)):
        group = _group(rules, prefixes)
        milliseconds = median_ms(partial(_cold, group, tags), 50 if rules < 1000 else 9)
        yield Figure(
            f"NSG verdict, {rules} rules with {rules * prefixes:,} prefixes", milliseconds, "ms", budget
        )


def _cold(group: NetworkSecurityGroup, tags: Tags) -> None:
    """A verdict on a group whose prefixes were never parsed before."""
    parse_prefix.cache_clear()
    evaluate(group, _QUESTION, tags)


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
