"""First match decides: ordered rules take their parts of a question, and what hangs on doubt is kept apart.

Security groups, admin rules and firewalls all work like this. Rules are taken in
order, each takes what it matches from what is still undecided, and the first to
match decides. A rule whose match cannot be known (a service tag nobody resolved, an
enum value from the future) does not decide: the packets that it might match go on
and remember it. They are UNKNOWN only if the rule that decides in the end says
something else than those that they remember.
"""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from packets.addresses import IntervalSet, union
from packets.boxes import Box, Undecided

Effect = Literal["allowed", "denied", "passed"]
"""What a rule may do to a packet; `passed` leaves it to the next filter on the way."""
Verdict = Literal["allowed", "denied", "passed", "unknown"]


class Doubt(Struct, frozen=True):
    """Why it cannot be known whether a rule matches, or what it does."""

    code: str
    """`unknown_service_tag`, `unknown_security_group`, `unknown_rule_value` …"""
    why: str
    """A clause that follows "but": `the source service tag "Sql" could not be resolved`."""


class Match(Struct, frozen=True, gc=False):
    """What a rule matches for sure, and what it might match besides."""

    surely: Box | None
    perhaps: Box | None = None
    """Everything that it might match, the sure part included; `None` where nothing is in doubt."""
    doubt: Doubt | None = None


class Turn[R](Struct, frozen=True, gc=False):
    """A rule when its turn comes."""

    rule: R
    effects: frozenset[Effect]
    """What it does; several if its action is not known."""
    match: Match


class Decision[R](Struct, frozen=True, kw_only=True, gc=False):
    """What became of a part of the question, and which rule decided."""

    verdict: Verdict
    rule: R
    """The rule that decided, or for `unknown` the first that might have."""
    packets: tuple[Box, ...]
    doubt: Doubt | None = None
    """For `unknown`: what could not be known."""
    possible: frozenset[Effect]
    """The verdicts that it may come to: one alone, unless it is `unknown`."""

    @property
    def sources(self) -> IntervalSet:
        """The source addresses of the packets decided."""
        return union(box.sources for box in self.packets)

    @property
    def destinations(self) -> IntervalSet:
        """The destination addresses of the packets decided."""
        return union(box.destinations for box in self.packets)


class _Seen[R](Struct, frozen=True, gc=False):
    """A rule that may have taken a packet already, and why nobody knows."""

    place: int
    turn: Turn[R]


def first_match[R](packets: Box, turns: Iterable[Turn[R]], last: Turn[R]) -> tuple[Decision[R], ...]:
    """Judge every packet: by the first rule that matches, and by `last` where none does.

    Returns one decision for each rule and verdict, in the order of the rules; together
    they cover the packets, and no packet is in two. Rules that decide nothing are not there.
    """
    found: dict[tuple[int, frozenset[Effect]], tuple[Turn[R], list[Box]]] = {}
    undecided: Undecided[_Seen[R]] = Undecided(packets)

    def decide(place: int, turn: Turn[R], box: Box, seen: tuple[_Seen[R], ...]) -> None:
        effects = turn.effects
        if seen:
            effects = effects.union(*(one.turn.effects for one in seen))
        if len(effects) > 1:
            # Named is the first that might say something else than the one that decides in the end.
            doubtful = next((one for one in seen if one.turn.effects != turn.effects), None)
            if doubtful is not None:
                place, turn = doubtful.place, doubtful.turn
        if (place, effects) not in found:
            found[place, effects] = (turn, [])
        found[place, effects][1].append(box)

    place = -1
    for place, turn in enumerate(turns):
        if not undecided:
            break
        match = turn.match
        if match.surely is not None:
            for box, seen in undecided.take(match.surely):
                decide(place, turn, box, seen)
        if match.perhaps is not None:
            undecided.note(match.perhaps, _Seen(place, turn))
    for box, seen in undecided.take(packets):
        decide(place + 1, last, box, seen)
    return tuple(
        Decision(
            verdict=min(effects) if len(effects) == 1 else "unknown",
            rule=turn.rule,
            packets=tuple(boxes),
            doubt=None if len(effects) == 1 else _doubt(turn),
            possible=effects,
        )
        for (_, effects), (turn, boxes) in sorted(
            found.items(), key=lambda item: (item[0][0], len(item[0][1]), sorted(item[0][1]))
        )
    )


def _doubt(turn: Turn[object]) -> Doubt:
    return turn.match.doubt or Doubt("unknown_rule_value", "what it does is not known")
