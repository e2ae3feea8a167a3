"""What Azure Monitor's numbers say of ports and connections."""

import json

import pytest

from checks._snat_use import DRAWN, at, connections, drawn, hourly, ports
from facts.outbound import Series
from tests.snapshots import history, node_ports, series, window

A, B = "10.240.0.4", "10.240.0.5"


def test_ports_by_node_and_protocol() -> None:
    """A node's peak is the part of what it may use."""
    found = ports(
        window(
            *node_ports(A, "100*20 512*9 900"),
            *node_ports(A, "3*30", "1024*30", protocol="UDP"),
            *node_ports(B, "256*30"),
        )
    )
    assert [(one.address, one.protocol, one.highest, one.peak) for one in found] == [
        (A, "TCP", 900.0, 900 / 1024),
        (A, "UDP", 3.0, 3 / 1024),
        (B, "TCP", 256.0, 0.25),
    ]


def test_frontends_add_up() -> None:
    """The next frontend is taken when one is full: what counts is the sum of what a node uses and has."""
    [one] = ports(
        window(
            *node_ports(A, "1024*30", front="198.51.100.10"),
            *node_ports(A, "- - 512*28", front="198.51.100.11"),
        )
    )
    assert one.used[:3] == (1024.0, 1024.0, 1536.0)
    assert set(one.allocated) == {2048.0}
    assert one.peak == 0.75
    assert one.frontends == ("198.51.100.10", "198.51.100.11")


@pytest.mark.parametrize(
    ("used", "allocated", "peak"),
    [
        ("- - 512", "- 1024 -", 0.5),  # what is allotted holds until Azure says otherwise
        ("512 512 512", "- - 1024", 0.5),
        ("512 - 300", "1024 1024 512", 300 / 512),  # allotted anew, as more nodes came
        ("5 5 5", "0 0 0", 1.0),  # no port at all
        ("0 0 0", "0 0 0", 1.0),
        ("0 0 5", "0 0 1024", 5 / 1024),  # not yet
        ("0 3 5", "0 0 1024", 1.0),
        ("- - -", "1024*3", None),
        ("5 5 5", "- - -", None),
    ],
)
def test_points_that_are_missing(used: str, allocated: str, peak: float | None) -> None:
    """No traffic, no point; that is not 0 of what is allotted."""
    [one] = ports(window(*node_ports(A, used, allocated), steps=3))
    assert one.peak == peak


def test_only_one_of_the_metrics() -> None:
    """Ports in use of which nobody says how many there are; and allotted ones that nobody used."""
    used, allocated = node_ports(A, "5*30")
    assert [one.peak for one in ports(window(used))] == [None]
    assert [(one.peak, one.highest) for one in ports(window(allocated))] == [(None, 0.0)]
    assert ports(window()) == []


def test_connections_at_both_kinds() -> None:
    """Azure writes the metric, the protocols and the states in two ways."""
    found = connections(
        window(
            series("SnatConnectionCount", "3 -", backendipaddress=A, connectionstate="Failed"),
            series("SNATConnectionCount", "5 5", protocol="6", connectionstate="Attempted"),
            series("SNATConnectionCount", "1 1", protocol="17", connectionstate="failed"),
            series("UsedSnatPorts", "1 1"),
            steps=2,
        )
    )
    assert [(one.address, one.protocol, one.state, one.total) for one in found] == [
        (A, "", "failed", 3.0),
        ("", "TCP", "attempted", 10.0),
        ("", "UDP", "failed", 2.0),
    ]


def test_a_history_by_protocol_and_version() -> None:
    """Frontends of one version are summed, those of another version are ports of another kind."""

    def hours(front: str, values: str) -> Series:
        return series("UsedSnatPorts", values, frontendipaddress=front, protocoltype="TCP")

    found = hourly(
        history(
            hours("198.51.100.10", "5 6 -"), hours("198.51.100.11", "1 - -"), hours("2001:db8::1", "9 9 9")
        ),
        "UsedSnatPorts",
    )
    assert {key: values[-3:] for key, values in found.items()} == {
        ("TCP", 4): (6.0, 6.0, None),
        ("TCP", 6): (9.0, 9.0, 9.0),
    }
    total = hourly(history(series("TotalConnectionCount", "60 120")), "TotalConnectionCount")
    assert list(total) == [("", 4)]


def test_steps_have_their_times() -> None:
    """By the window's start."""
    assert at(window(), 0) == "2026-03-01T07:30:00Z"
    assert at(window(), 29) == "2026-03-01T07:59:00Z"
    assert at(window(minutes=60), 2) == "2026-03-01T09:30:00Z"


@pytest.mark.parametrize(
    ("values", "summing", "step", "expected"),
    [
        ((1.0, None, 2.5), False, 1, [1, None, 2.5]),
        ((1.0, None) * 60, False, 2, [1] * 60),
        ((1.0, 2.0, None) * 60, True, 3, [3] * 60),
        ((None,) * 180, True, 3, [None] * 60),
        ((), False, 1, []),
    ],
    ids=["as it is", "highest of two", "sum of three", "nothing", "empty"],
)
def test_drawing(
    values: tuple[float | None, ...], summing: bool, step: int, expected: list[float | None]
) -> None:
    """Evidence is small enough to keep, whatever the window."""
    found = drawn(window(), values, summing=summing)
    assert (found["stepMinutes"], found["values"]) == (step, expected)
    assert len(found["values"]) <= DRAWN
    assert len(json.dumps(found)) < 1000
