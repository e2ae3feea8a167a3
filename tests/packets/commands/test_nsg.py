"""`python -m packets nsg`: what an engineer gets who pastes a document."""

import io
import json
import subprocess
import sys
from typing import Any

import pytest

from packets.__main__ import main
from tests.processes import ROOT

ASG = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/applicationSecurityGroups/web"


def rule(name: str, priority: int, access: str, **fields: Any) -> dict[str, Any]:
    """An inbound rule as the CLI prints it, about everything unless said otherwise."""
    return {
        "name": name,
        "priority": priority,
        "access": access,
        "direction": "Inbound",
        "protocol": "*",
        "sourceAddressPrefix": "*",
        "sourcePortRange": "*",
        "destinationAddressPrefix": "*",
        "destinationPortRange": "*",
        **fields,
    }


def group(*rules: dict[str, Any], nested: bool = False) -> dict[str, Any]:
    """A group, flattened as the CLI prints it or nested as ARM does."""
    if not nested:
        return {"name": "n", "securityRules": list(rules)}
    wrapped = [
        {"name": one["name"], "properties": {key: value for key, value in one.items() if key != "name"}}
        for one in rules
    ]
    return {"name": "n", "properties": {"securityRules": wrapped}}


def ask(
    document: Any, *options: str, source: str = "10.0.0.0/24", capsys: pytest.CaptureFixture[str]
) -> tuple[int, Any, str]:
    """Exit status, answer and error line for TCP 10250 from a source to 10.0.0.0/24."""
    arguments = ["nsg", "--direction", "inbound", "--port", "10250", "--source", source]
    arguments += ["--destination", "10.0.0.0/24", *options]
    text = document if isinstance(document, str) else json.dumps(document)
    try:
        status = main(arguments, io.StringIO(text))
    except SystemExit as end:
        status = int(end.code or 0)
    printed = capsys.readouterr()
    return status, json.loads(printed.out) if printed.out else None, printed.err


DENY_HALF = rule("deny-half", 200, "Deny", sourceAddressPrefix=None, sourceAddressPrefixes=["10.0.0.128/25"])
VNET = ("--vnet", "10.0.0.0/16")


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize(
    ("rules", "options", "status", "outcome", "lists", "deciders"),
    [
        ([], VNET, 0, "allowed", (["10.0.0.0/24"], [], []), ["AllowVnetInBound"]),
        (
            [DENY_HALF],
            VNET,
            1,
            "mixed",
            (["10.0.0.0/25"], ["10.0.0.128/25"], []),
            ["deny-half", "AllowVnetInBound"],
        ),
        ([rule("no", 100, "Deny")], VNET, 1, "blocked", ([], ["10.0.0.0/24"], []), ["no"]),
        ([rule("no", 100, "Deny", protocol="Udp")], VNET, 0, "allowed", None, ["AllowVnetInBound"]),
        (
            [rule("some", 100, "Deny", destinationAddressPrefix="10.0.0.7")],
            VNET,
            1,
            "blocked",
            ([], ["10.0.0.0/24"], []),
            ["some", "AllowVnetInBound"],
        ),
        (
            [rule("cloud", 100, "Deny", sourceAddressPrefix="AzureCloud")],
            VNET,
            2,
            "unknown",
            ([], [], ["10.0.0.0/24"]),
            ["cloud"],
        ),
        (
            [rule("cloud", 100, "Deny", sourceAddressPrefix="AzureCloud")],
            (*VNET, "--tag", "azurecloud=10.0.0.0/26,10.0.0.64/26"),
            1,
            "mixed",
            (["10.0.0.128/25"], ["10.0.0.0/25"], []),
            ["cloud", "AllowVnetInBound"],
        ),
        ([], (), 2, "unknown", ([], [], ["10.0.0.0/24"]), ["AllowVnetInBound"]),
        (
            [
                rule(
                    "web",
                    100,
                    "Deny",
                    sourceAddressPrefix=None,
                    sourceApplicationSecurityGroups=[{"id": ASG.upper()}],
                )
            ],
            (*VNET, "--asg", f"{ASG}=10.0.0.4,10.0.0.5"),
            1,
            "mixed",
            None,
            ["web", "AllowVnetInBound"],
        ),
    ],
)
def test_verdicts(
    rules: list[dict[str, Any]],
    options: tuple[str, ...],
    status: int,
    outcome: str,
    lists: tuple[list[str], list[str], list[str]] | None,
    deciders: list[str],
    nested: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The three lists speak of sources, the rules of what each decided, the status of the gravest."""
    code, said, error = ask(group(*rules, nested=nested), *options, capsys=capsys)
    assert (code, error) == (status, "")
    assert said["outcome"] == outcome
    if lists:
        assert (said["allowed"], said["blocked"], said["unknown"]) == lists
    assert [one["name"] for one in said["rules"]] == deciders
    assert all(one["matched"] and one["why"] for one in said["rules"])


@pytest.mark.parametrize(
    ("document", "options", "named"),
    [
        ("{", (), "no JSON"),
        ("", (), "no JSON"),
        ("3", (), "no JSON object"),
        ([], (), "holds 0 resources"),
        ([group(), group()], (), "holds 2 resources"),
        (group({"name": "x", "access": "Deny"}), (), 'securityRules[0].priority of "x"'),
        ({"securityRules": 1}, (), "securityRules is no list"),
        (group(rule("x", 100, "Deny", destinationPortRange="-5")), (), 'destinationPortRange of rule "x"'),
        (group(rule("x", 100, "Deny", destinationPortRange="70000")), (), 'destinationPortRange of rule "x"'),
        (
            group(rule("x", 100, "Deny", sourceAddressPrefix="10.0.0.300")),
            (),
            'sourceAddressPrefix of rule "x"',
        ),
        (
            group(rule("x", 100, "Deny", destinationAddressPrefix="::/129")),
            (),
            'destinationAddressPrefix of rule "x"',
        ),
        (group(), ("--source", "10.0.0.0/33"), "--source"),
        (group(), ("--source", "fd00::/64"), "no address family in common"),
        (group(), ("--port", "-1"), "--port"),
        (group(), ("--port", "99999"), "--port"),
        (group(), ("--direction", "sideways"), "--direction"),
        (group(), ("--tag", "Sql"), "--tag"),
        (group(), ("--tag", "Sql=nowhere"), "--tag"),
        (group(), ("--vnet", "10.0.0.0/16,"), "--vnet"),
    ],
)
def test_unusable_input_is_one_line(
    document: Any, options: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 64, nothing on standard output, and one line that names the field."""
    status, said, error = ask(document, *options, capsys=capsys)
    assert (status, said) == (64, None)
    assert named in error
    assert len(error.strip().splitlines()) == 1


def test_both_families_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Each source is asked about with the destinations of its own family."""
    denied = rule("six", 100, "Deny", sourceAddressPrefix="fd00::/65")
    status, said, _ = ask(
        group(denied),
        "--vnet",
        "10.0.0.0/16,fd00::/48",
        "--destination",
        "10.0.0.0/24,fd00::/64",
        source="10.0.0.0/24,fd00::/64",
        capsys=capsys,
    )
    assert status == 1
    assert said["allowed"] == ["10.0.0.0/24", "fd00::8000:0:0:0/65"]
    assert said["blocked"] == ["fd00::/65"]


def test_it_runs_as_a_module() -> None:
    """As the manual says, from a shell, with help."""
    command = [sys.executable, "-m", "packets", "nsg"]
    helped = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--source" in helped.stdout
    question = ["--direction", "inbound", "--port", "22", "--source", "10.0.0.4", "--destination", "10.0.0.5"]
    done = subprocess.run(
        [*command, *question], cwd=ROOT, input="nonsense", capture_output=True, text=True, check=False
    )
    assert done.returncode == 64
    assert "Traceback" not in done.stderr


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    """On request each other rule says which of its fields matched, as Network Watcher does."""
    rules = [
        rule("deny-ssh", 100, "Deny", protocol="Tcp", destinationPortRange="22"),
        rule("allow-kubelet", 200, "Allow", destinationPortRange="10000-10300"),
        rule("deny-later", 300, "Deny", protocol="Udp"),
    ]
    _, plain, _ = ask(group(*rules), *VNET, capsys=capsys)
    assert "passedOver" not in plain
    status, said, error = ask(group(*rules), *VNET, "--explain", capsys=capsys)
    assert (status, error) == (0, "")
    assert [one["name"] for one in said["rules"]] == ["allow-kubelet"]
    told = {one["name"]: one for one in said["passedOver"]}
    assert list(told) == [
        "deny-ssh",
        "deny-later",
        "AllowVnetInBound",
        "AllowAzureLoadBalancerInBound",
        "DenyAllInBound",
    ]
    assert told["deny-ssh"] == {
        "name": "deny-ssh",
        "priority": 100,
        "access": "Deny",
        "protocolMatched": True,
        "sourceMatched": True,
        "sourcePortMatched": True,
        "destinationMatched": True,
        "destinationPortMatched": False,
        "why": "its destination port does not match",
    }
    assert told["deny-later"]["protocolMatched"] is False
    assert told["DenyAllInBound"]["why"] == "rules with lower priority numbers decide all that it matches"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 200_000, "nested too deeply"),
        ('{"securityRules": [{"name": "a\\ud800", "priority": 100}]}', "surrogates"),
        ('{"error": {"code": "AuthorizationFailed"}}', "it is no NSG"),
        ('{"securityRules": null}', "it is no NSG"),
    ],
    ids=["nested", "surrogate", "an error's body", "no rules at all"],
)
def test_hostile_input(text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be judged is one line and status 64, never a verdict or a traceback."""
    status, answer, error = ask(text, capsys=capsys)
    assert (status, answer) == (64, None)
    assert said in error
    assert len(error.splitlines()) == 1
