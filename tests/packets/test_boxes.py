"""Sets of packets: the algebra of boxes, and what is left while rules take their parts."""

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from packets.addresses import IntervalSet
from packets.boxes import Box, Undecided

LAW = settings(deadline=None, max_examples=150)
SETS = st.lists(st.integers(0, 6).map(lambda number: (number, number)), max_size=5).map(IntervalSet.of)
BOXES = st.builds(Box, SETS, SETS, SETS, SETS)

Packet = tuple[int, ...]


def packets(box: Box) -> set[Packet]:
    """Every packet of a box."""
    fields = (box.sources, box.source_ports, box.destinations, box.destination_ports)
    return set(
        product(*([n for low, high in field.intervals for n in range(low, high + 1)] for field in fields))
    )


@LAW
@given(BOXES, BOXES)
def test_boxes_split_like_sets(one: Box, other: Box) -> None:
    """What two boxes share, and what is left of the first, in boxes that do not overlap."""
    common, left = one.split(other)
    assert (packets(common) if common else set()) == packets(one) & packets(other)
    pieces = [packets(box) for box in left]
    assert set().union(*pieces) == packets(one) - packets(other)
    assert sum(map(len, pieces)) == len(packets(one) - packets(other))
    assert one.empty == (not packets(one))


@LAW
@given(BOXES, st.lists(st.tuples(BOXES, st.sampled_from(["take", "note"])), max_size=6))
def test_rules_take_what_is_left(question: Box, rules: list[tuple[Box, str]]) -> None:
    """Each rule gets just what is still there, with the notes of those that came before it."""
    undecided: Undecided[int] = Undecided(question)
    there: dict[Packet, tuple[int, ...]] = dict.fromkeys(packets(question), ())
    for number, (box, what) in enumerate(rules):
        assert bool(undecided) == bool(there)
        if what == "note":
            undecided.note(box, number)
            there = {
                packet: (*notes, number) if packet in packets(box) else notes
                for packet, notes in there.items()
            }
            continue
        taken = [(packet, notes) for part, notes in undecided.take(box) for packet in packets(part)]
        assert len(taken) == len(dict(taken)), "a packet was taken twice"
        assert dict(taken) == {packet: notes for packet, notes in there.items() if packet in packets(box)}
        there = {packet: notes for packet, notes in there.items() if packet not in packets(box)}
    rest = {packet: notes for part, notes in undecided.take(question) for packet in packets(part)}
    assert rest == there
    assert not undecided
