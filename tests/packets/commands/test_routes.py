"""`python -m packets routes`: what an engineer gets who pastes a route table or effective routes."""

import io
import json
import subprocess
import sys
from typing import Any

import pytest

from packets.__main__ import main
from tests.processes import ROOT


def route(name: str, prefix: str, hop: str = "VirtualAppliance", **fields: Any) -> dict[str, Any]:
    """A route as the CLI prints it, to a firewall unless said otherwise."""
    address = "10.0.9.4" if hop == "VirtualAppliance" else None
    return {
        "name": name,
        "addressPrefix": prefix,
        "nextHopType": hop,
        "nextHopIpAddress": address,
        "hasBgpOverride": False,
        **fields,
    }


def table(*routes: dict[str, Any], nested: bool = False, **fields: Any) -> dict[str, Any]:
    """A route table, flattened as the CLI prints it or nested as ARM does."""
    if not nested:
        return {"name": "rt", "routes": list(routes), **fields}
    wrapped = [
        {"name": one["name"], "properties": {key: value for key, value in one.items() if key != "name"}}
        for one in routes
    ]
    return {"name": "rt", "properties": {"routes": wrapped, **fields}}


def in_force(prefix: str, hop: str, *addresses: str, **fields: Any) -> dict[str, Any]:
    """An effective route as the CLI prints it."""
    return {
        "addressPrefix": [prefix],
        "name": None,
        "nextHopIpAddress": list(addresses),
        "nextHopType": hop,
        "source": "Default",
        "state": "Active",
        **fields,
    }


def ask(
    document: Any, destination: str, *options: str, capsys: pytest.CaptureFixture[str]
) -> tuple[int, Any, str]:
    """Exit status, answer and error line."""
    text = document if isinstance(document, str) else json.dumps(document)
    try:
        status = main(["routes", "--destination", destination, *options], io.StringIO(text))
    except SystemExit as end:
        status = int(end.code or 0)
    printed = capsys.readouterr()
    return status, json.loads(printed.out) if printed.out else None, printed.err


DEFAULT = route("default", "0.0.0.0/0")
VNET = ("--vnet", "10.0.0.0/16,fd00::/48")
API = "20.1.0.4/32"


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize(
    ("routes", "options", "destination", "status", "outcome", "lists", "deciders"),
    [
        ([], VNET, API, 0, "allowed", ([API], [], []), ["0.0.0.0/0"]),
        ([DEFAULT], VNET, API, 2, "unknown", ([], [], [API]), ["default"]),
        ([route("gone", "20.0.0.0/8", "None")], VNET, API, 1, "blocked", ([], [API], []), ["gone"]),
        (
            [DEFAULT, route("home", "20.0.0.0/8", "VirtualNetworkGateway")],
            VNET,
            API,
            2,
            "unknown",
            ([], [], [API]),
            ["home"],
        ),
        (
            [DEFAULT, route("gone", "20.1.0.0/31", "None"), route("out", "20.1.0.2/31", "Internet")],
            VNET,
            "20.1.0.0/29",
            1,
            "mixed",
            (["20.1.0.2/31"], ["20.1.0.0/31"], ["20.1.0.4/30"]),
            ["gone", "out", "default"],
        ),
        (
            [DEFAULT],
            VNET,
            "10.0.0.0/24,20.1.0.4",
            2,
            "mixed",
            (["10.0.0.0/24"], [], [API]),
            ["10.0.0.0/16", "default"],
        ),
        (
            [],
            (*VNET, "--peered", "10.2.0.0/16"),
            "10.2.0.0/24,10.3.0.0/24,fd00::/64",
            1,
            "mixed",
            (["10.2.0.0/24", "fd00::/64"], ["10.3.0.0/24"], []),
            ["10.2.0.0/16", "10.0.0.0/8", "fd00::/48"],
        ),
        (
            [DEFAULT, route("sql", "Sql", "Internet")],
            (*VNET, "--tag", "SQL=20.1.0.4,20.2.0.0/16"),
            "20.1.0.4/31",
            2,
            "mixed",
            (["20.1.0.4/32"], [], ["20.1.0.5/32"]),
            ["sql", "default"],
        ),
        (
            [DEFAULT, route("sql", "Sql", "Internet")],
            VNET,
            API,
            2,
            "unknown",
            ([], [], [API]),
            ["sql"],
        ),
        (
            [route("sql", "Sql", "Internet")],
            VNET,
            API,
            0,
            "allowed",
            ([API], [], []),
            ["0.0.0.0/0"],
        ),
    ],
)
def test_verdicts(
    routes: list[dict[str, Any]],
    options: tuple[str, ...],
    destination: str,
    status: int,
    outcome: str,
    lists: tuple[list[str], list[str], list[str]],
    deciders: list[str],
    nested: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The three lists speak of destinations, the routes of what each decided, the status of the gravest."""
    code, said, error = ask(table(*routes, nested=nested), destination, *options, capsys=capsys)
    assert (code, error) == (status, "")
    assert said["outcome"] == outcome
    assert (said["allowed"], said["blocked"], said["unknown"]) == lists
    assert [one["name"] for one in said["routes"]] == deciders
    assert all(one["matched"] and one["why"] for one in said["routes"])


def test_the_whole_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """Every field of it, in camelCase; an appliance is named in the reason."""
    both = {"nextHopIpAddresses": ["10.0.9.5", "10.0.9.4"]}
    ecmp = route("both", "20.0.0.0/8", "VirtualApplianceEcmp", nextHop=both)
    assert ask(table(ecmp), "20.1.0.4,21.0.0.4", *VNET, capsys=capsys)[1] == {
        "outcome": "mixed",
        "allowed": ["21.0.0.4/32"],
        "blocked": [],
        "unknown": ["20.1.0.4/32"],
        "routes": [
            {
                "name": "both",
                "prefix": "20.0.0.0/8",
                "source": "user",
                "nextHopType": "VirtualApplianceEcmp",
                "nextHopIpAddresses": ["10.0.9.5", "10.0.9.4"],
                "matched": ["20.1.0.4/32"],
                "why": "decides: led to the appliance at 10.0.9.5, 10.0.9.4, which may pass it on or drop it",
            },
            {
                "name": "0.0.0.0/0",
                "prefix": "0.0.0.0/0",
                "source": "system",
                "nextHopType": "Internet",
                "nextHopIpAddresses": [],
                "matched": ["21.0.0.4/32"],
                "why": "decides: carried on",
            },
        ],
    }


@pytest.mark.parametrize(
    ("routes", "options", "destination", "why"),
    [
        ([], VNET, "10.3.0.4", "decides: dropped"),
        (
            [route("home", "0.0.0.0/0", "VirtualNetworkGateway")],
            VNET,
            API,
            "decides: led to the gateway, which may know the way or not",
        ),
        (
            [DEFAULT, route("sql", "Sql", "None")],
            VNET,
            API,
            'may decide, but the destination service tag "Sql" could not be resolved',
        ),
        (
            [DEFAULT, route("too", "0.0.0.0/0", "None")],
            VNET,
            API,
            'may decide, but route "too" has the same prefix and leads elsewhere',
        ),
        (
            [route("new", "0.0.0.0/0", "Teleport")],
            VNET,
            API,
            'may decide, but its next hop type "Teleport" is not known',
        ),
        (
            [DEFAULT],
            (),
            "10.3.0.4",
            "may belong to the virtual network, whose address space was not given (--vnet)",
        ),
        (
            [DEFAULT],
            (*VNET, "--gateway"),
            API,
            "may decide, but the routes that the gateway learned are not known",
        ),
    ],
)
def test_reasons(
    routes: list[dict[str, Any]],
    options: tuple[str, ...],
    destination: str,
    why: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A sentence for each way, on one route."""
    said = ask(table(*routes), destination, *options, capsys=capsys)[1]
    assert [one["why"] for one in said["routes"]] == [why]


@pytest.mark.parametrize(
    ("routes", "destination", "unknown"),
    [
        ([], "10.0.0.0/24,20.1.0.4,fd00::/64", ["10.0.0.0/24", "fd00::/64"]),
        ([route("near", "10.0.0.0/8", "VnetLocal")], "10.0.0.0/24", []),
        ([route("gone", "10.0.0.4/32", "None")], "10.0.0.4/31", ["10.0.0.5/32"]),
        ([route("gone", "10.0.0.0/24", "None")], "10.0.0.4/31", ["10.0.0.4/31"]),
        ([route("gone", "0.0.0.0/0", "None")], "20.1.0.4", []),
    ],
)
def test_without_the_network(
    routes: list[dict[str, Any]], destination: str, unknown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What is private may belong to it: unknown, unless a route leads there anyway or to that very host."""
    assert ask(table(*routes), destination, capsys=capsys)[1]["unknown"] == unknown


@pytest.mark.parametrize(
    ("fields", "destination", "status"),
    [
        ({}, "10.2.0.0/24", 0),
        ({"disablePeeringRoute": "None"}, "10.2.0.0/24", 0),
        ({"disablePeeringRoute": "All", "disableBgpRoutePropagation": True}, "10.2.0.0/24", 1),
        ({}, API, 2),
        ({"disableBgpRoutePropagation": False}, API, 2),
        ({"disableBgpRoutePropagation": True}, API, 0),
    ],
)
def test_what_the_table_keeps_out(
    fields: dict[str, Any], destination: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A peer that it hides is a private range; where it hides a gateway's routes, they are no doubt."""
    options = (*VNET, "--peered", "10.2.0.0/16", "--gateway")
    assert ask(table(**fields), destination, *options, capsys=capsys)[0] == status


EFFECTIVE = [
    in_force("10.0.0.0/16", "VnetLocal"),
    in_force("10.2.0.0/16", "VNetPeering"),
    in_force("0.0.0.0/0", "Internet", state="Invalid"),
    in_force("0.0.0.0/0", "VirtualAppliance", "10.0.9.4", source="User", name="default"),
    in_force("10.2.0.0/24", "VirtualNetworkGateway", "10.0.8.4", source="VirtualNetworkGateway"),
    in_force("10.7.0.0/16", "VirtualNetworkGateway", "10.0.8.4", source="VirtualNetworkGateway"),
    in_force("10.0.0.0/8", "None"),
]


@pytest.mark.parametrize("document", [{"value": EFFECTIVE, "nextLink": None}, EFFECTIVE])
def test_effective_routes(document: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """They are told by their shape, hold all that is needed, and nothing that is Invalid decides."""
    destination = "10.0.0.4,10.2.0.4,10.3.0.4,10.7.0.4,20.1.0.4,2603::4"
    status, said, error = ask(document, destination, capsys=capsys)
    assert (status, error) == (1, "")
    assert said["allowed"] == ["10.0.0.4/32", "10.2.0.4/32"]
    assert said["blocked"] == ["10.3.0.4/32", "2603::4/128"]
    assert said["unknown"] == ["10.7.0.4/32", "20.1.0.4/32"]
    assert [(one["name"], one["source"]) for one in said["routes"]] == [
        ("10.0.0.0/16", "system"),
        ("10.2.0.0/16", "system"),
        ("10.0.0.0/8", "system"),
        ("10.7.0.0/16", "bgp"),
        ("default", "user"),
        ("", ""),
    ]
    assert said["routes"][-1]["why"] == "no route leads there: dropped"


@pytest.mark.parametrize(
    ("document", "options", "named"),
    [
        ("{", (), "no JSON"),
        ("", (), "no JSON"),
        ("3", (), "no JSON object"),
        ([], (), "holds 0 resources"),
        ({"value": []}, (), "holds 0 resources"),
        ([table(), table()], (), "holds 2 resources"),
        ({"name": "nsg", "securityRules": []}, (), 'no route table (it has no "routes")'),
        ([route("x", "10.0.0.0/8")], (), 'no route table (it has no "routes")'),
        ({"routes": 1}, (), "routes is no list"),
        ({"routes": [1]}, (), "routes[0] is no object"),
        (table(route("x", "10.0.0.0/33")), (), 'addressPrefix of route "x"'),
        (table(route("x", "")), (), 'addressPrefix of route "x"'),
        (table(route("x", "10.0.0.0/8", "")), (), 'nextHopType of route "x"'),
        (table(route("x", "10.0.0.0/8", nextHopIpAddress="fw")), (), 'nextHopIpAddress of route "x"'),
        (table(disablePeeringRoute="Some"), (), 'disablePeeringRoute "Some"'),
        ([*EFFECTIVE, 1], (), "value[7] is no object"),
        ([in_force("10.0.0.0/8", "None", source="Unknown")], (), 'value[0].source "Unknown"'),
        ([in_force("10.0.0.0/40", "None")], (), 'addressPrefix of route "10.0.0.0/40"'),
        (EFFECTIVE, VNET, "--vnet"),
        (EFFECTIVE, ("--peered", "10.2.0.0/16"), "--peered"),
        (EFFECTIVE, ("--gateway",), "--gateway"),
        (table(), ("--destination", "10.0.0.0/33"), "--destination"),
        (table(), ("--vnet", "10.0.0.0/16,"), "--vnet"),
        (table(), ("--vnet", "10.0.0.0-10.0.0.9"), "--vnet"),
        (table(), ("--peered", "vnet"), "--peered"),
        (table(), ("--tag", "Sql"), "--tag"),
        (table(), ("--tag", "Sql=nowhere"), "--tag"),
        (table(), ("--tag", "Sql=10.0.0.0-10.0.0.9"), "--tag"),
    ],
)
def test_unusable_input_is_one_line(
    document: Any, options: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 64, nothing on standard output, and one line that names the field."""
    status, said, error = ask(document, "20.1.0.4", *options, capsys=capsys)
    assert (status, said) == (64, None)
    assert named in error
    assert len(error.strip().splitlines()) == 1


def test_it_runs_as_a_module() -> None:
    """From a shell, with help."""
    command = [sys.executable, "-m", "packets", "routes"]
    helped = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--destination" in helped.stdout
    done = subprocess.run(
        [*command, "--destination", "20.1.0.4"],
        cwd=ROOT,
        input=json.dumps(table(DEFAULT)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, "")
    assert "10.0.9.4" in json.loads(done.stdout)["routes"][0]["why"]
