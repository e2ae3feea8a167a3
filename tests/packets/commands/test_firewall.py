"""`python -m packets firewall`: what an engineer gets who pastes a firewall, or a policy's groups."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from packets.__main__ import main
from tests.processes import ROOT

Document = dict[str, Any]

NETWORK = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network"
IP_GROUP = f"{NETWORK}/ipGroups/nodes"
NAME = "aks.hcp.westeurope.azmk8s.io"


def network(name: str, **fields: Any) -> Document:
    """A network rule about TCP 443 from and to everywhere unless said otherwise."""
    return {
        "ruleType": "NetworkRule",
        "name": name,
        "ipProtocols": ["TCP"],
        "protocols": ["TCP"],
        "sourceAddresses": ["*"],
        "destinationAddresses": ["*"],
        "destinationPorts": ["443"],
        **fields,
    }


def application(name: str, **fields: Any) -> Document:
    """An application rule about TLS on port 443 to control planes."""
    return {
        "ruleType": "ApplicationRule",
        "name": name,
        "protocols": [{"protocolType": "Https", "port": 443}],
        "sourceAddresses": ["*"],
        "targetFqdns": ["*.hcp.westeurope.azmk8s.io"],
        **fields,
    }


def collection(priority: int, action: str, *rules: Document) -> Document:
    """A filter collection."""
    return {
        "ruleCollectionType": "FirewallPolicyFilterRuleCollection",
        "name": f"{action}-{priority}",
        "priority": priority,
        "action": {"type": action},
        "rules": list(rules),
    }


def group(
    *collections: Document, name: str = "rcg", priority: int = 200, policy: str = "afwp", nested: bool = False
) -> Document:
    """A rule collection group of a policy, flattened as the CLI prints it or nested as ARM does."""
    identity = {"id": f"{NETWORK}/firewallPolicies/{policy}/ruleCollectionGroups/{name}", "name": name}
    body = {"priority": priority, "ruleCollections": list(collections)}
    return identity | ({"properties": body} if nested else body)


def classic(**collections: list[Document]) -> Document:
    """A firewall with classic rules."""
    return {
        "id": f"{NETWORK}/azureFirewalls/afw",
        "name": "afw",
        "type": "Microsoft.Network/azureFirewalls",
        "properties": {"networkRuleCollections": [], "applicationRuleCollections": [], **collections},
    }


def ask(
    document: Any, *options: str, source: str = "10.0.0.0/24", capsys: pytest.CaptureFixture[str]
) -> tuple[int, Any, str]:
    """Exit status, answer and error line for TCP 443 from a source to 20.0.0.4."""
    arguments = ["firewall", "--port", "443", "--source", source, "--destination", "20.0.0.4", *options]
    text = document if isinstance(document, str) else json.dumps(document)
    try:
        status = main(arguments, io.StringIO(text))
    except SystemExit as end:
        status = int(end.code or 0)
    printed = capsys.readouterr()
    return status, json.loads(printed.out) if printed.out else None, printed.err


ALL, HALVES = ["10.0.0.0/24"], ["10.0.0.0/25", "10.0.0.128/25"]
FQDN = ("--fqdn", NAME)


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize(
    ("collections", "options", "status", "lists", "deciders"),
    [
        ([], (), 1, ([], ALL, []), ["default deny"]),
        ([collection(100, "Allow", network("r"))], (), 0, (ALL, [], []), ["r"]),
        (
            [collection(100, "Allow", network("r", sourceAddresses=["10.0.0.0/25"]))],
            (),
            1,
            ([HALVES[0]], [HALVES[1]], []),
            ["r", "default deny"],
        ),
        ([collection(100, "Allow", application("r"))], FQDN, 0, (ALL, [], []), ["r"]),
        ([collection(100, "Allow", application("r"))], (), 2, ([], [], ALL), ["r"]),
        (
            [collection(100, "Allow", application("r"))],
            (*FQDN, "--no-tls"),
            1,
            ([], ALL, []),
            ["default deny"],
        ),
        ([collection(100, "Allow", application("r", terminateTLS=True))], FQDN, 1, ([], ALL, []), ["r"]),
        (
            [collection(100, "Allow", application("a")), collection(200, "Deny", network("n"))],
            FQDN,
            1,
            ([], ALL, []),
            ["n"],
        ),
        (
            [collection(100, "Allow", network("r", destinationAddresses=["AzureCloud"]))],
            (),
            2,
            ([], [], ALL),
            ["r"],
        ),
        (
            [collection(100, "Allow", network("r", destinationAddresses=["AzureCloud"]))],
            ("--tag", "azurecloud=20.0.0.0/24"),
            0,
            (ALL, [], []),
            ["r"],
        ),
        (
            [collection(100, "Allow", network("r", sourceAddresses=[], sourceIpGroups=[IP_GROUP]))],
            ("--ip-group", f"{IP_GROUP.upper()}=10.0.0.0/26,10.0.0.64/26"),
            1,
            ([HALVES[0]], [HALVES[1]], []),
            ["r", "default deny"],
        ),
        (
            [collection(100, "Allow", network("r", sourceAddresses=[], sourceIpGroups=[IP_GROUP]))],
            ("--ip-group", "Nodes=10.0.0.0/16"),
            0,
            (ALL, [], []),
            ["r"],
        ),
        (
            [collection(100, "Allow", network("r", sourceAddresses=[], sourceIpGroups=[IP_GROUP]))],
            ("--ip-group", "others=10.0.0.0/16"),
            2,
            ([], [], ALL),
            ["r"],
        ),
        (
            [collection(100, "Allow", network("r", ipProtocols=["UDP"]))],
            ("--protocol", "UDP"),
            0,
            None,
            ["r"],
        ),
    ],
)
def test_verdicts_on_a_group(
    collections: list[Document],
    options: tuple[str, ...],
    status: int,
    lists: tuple[list[str], list[str], list[str]] | None,
    deciders: list[str],
    nested: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The three lists speak of sources, the rules of what each decided, the status of the gravest."""
    code, said, error = ask(group(*collections, nested=nested), *options, capsys=capsys)
    assert (code, error) == (status, "")
    if lists:
        assert (said["allowed"], said["blocked"], said["unknown"]) == lists
    assert [one["name"] for one in said["rules"]] == deciders
    assert all(one["matched"] and one["why"] for one in said["rules"])


def test_a_rule_part(capsys: pytest.CaptureFixture[str]) -> None:
    """Name, priority and action are the rule's and its collection's; the default deny comes after all."""
    some = group(collection(300, "Allow", network("r", sourceAddresses=["10.0.0.0/25"])))
    _, said, _ = ask(some, capsys=capsys)
    assert said["outcome"] == "mixed"
    assert said["rules"] == [
        {
            "name": "r",
            "priority": 300,
            "access": "Allow",
            "matched": ["10.0.0.0/25"],
            "why": 'network rule "r" of collection "Allow-300" (group "rcg") is the first to match '
            "what goes to 20.0.0.4/32: allowed",
        },
        {
            "name": "default deny",
            "priority": 65001,
            "access": "Deny",
            "matched": ["10.0.0.128/25"],
            "why": "no rule matches what goes to 20.0.0.4/32: denied",
        },
    ]


ALLOW, DENY = collection(500, "Allow", network("allow")), collection(500, "Deny", network("deny"))


@pytest.mark.parametrize(
    ("document", "decider"),
    [
        ([group(ALLOW, priority=300), group(DENY, name="other", priority=200)], "deny"),
        ({"value": [group(ALLOW, priority=100), group(DENY, name="other", priority=200)]}, "allow"),
        ({"value": [group(ALLOW, nested=True)], "nextLink": None}, "allow"),
        ([], "default deny"),
        ({"value": []}, "default deny"),
        (classic(networkRuleCollections=[ALLOW, DENY | {"priority": 400}]), "deny"),
        ([classic(networkRuleCollections=[ALLOW])], "allow"),
        (classic(), "default deny"),
        ({"networkRuleCollections": [ALLOW]}, "allow"),
        (classic(applicationRuleCollections=[collection(1, "Allow", application("app"))]), "app"),
        ({"type": "Microsoft.Network/FirewallPolicies/RuleCollectionGroups", "priority": 1}, "default deny"),
    ],
)
def test_what_can_be_pasted(document: Any, decider: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A group, a policy's list of groups, or a firewall with classic rules."""
    _, said, error = ask(document, *FQDN, capsys=capsys)
    assert error == ""
    assert [one["name"] for one in said["rules"]] == [decider]


def test_parents_come_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The topmost parent's rules decide, whatever the priorities; network rules of all come first."""
    top, base = tmp_path / "top.json", tmp_path / "base.json"
    top.write_text(
        json.dumps([group(collection(60000, "Deny", network("top")), policy="top", priority=60000)])
    )
    base.write_text(json.dumps({"value": [group(DENY, policy="base")]}))
    child = [group(collection(100, "Allow", network("allow")), priority=100)]

    def decider(*options: str) -> list[str]:
        _, said, error = ask(child, *options, capsys=capsys)
        assert error == ""
        return [one["name"] for one in said["rules"]]

    assert decider() == ["allow"]
    assert decider("--parent", str(base)) == ["deny"]
    assert decider("--parent", str(top), "--parent", str(base)) == ["top"]
    assert decider("--parent", str(base), "--parent", str(top)) == ["deny"]


@pytest.mark.parametrize(
    ("document", "options", "named"),
    [
        ("{", (), "no JSON"),
        ("", (), "no JSON"),
        ("3", (), "no JSON object"),
        ([group(), 3], (), "standard input[1] is no JSON object"),
        ({}, (), "it has no ruleCollections"),
        ([group(), classic()], (), "standard input[1] is neither"),
        ({"value": [group()], "nextLink": "https://management.azure.com/"}, (), "nextLink"),
        ({"type": "Microsoft.Network/firewallPolicies", "basePolicy": None}, (), "it has no ruleCollections"),
        ([group(), group(policy="base")], (), "several policies (afwp, base)"),
        (
            {"firewallPolicy": {"id": "/x/afwp"}, "networkRuleCollections": []},
            (),
            'obeys policy "afwp", which holds its rules: paste the policy\'s rule collection groups',
        ),
        (group() | {"priority": None}, (), 'priority of "rcg" is missing or no number'),
        ([group(), group() | {"priority": None}], (), 'standard input[1]: priority of "rcg"'),
        (group(collection(1, "Deny", network("r", sourceAddresses="*"))), (), "sourceAddresses is no list"),
        (
            group(collection(1, "Deny", network("r", destinationPorts=["70000"]))),
            (),
            'destinationPorts of rule "r" of collection "Deny-1"',
        ),
        (
            group(collection(1, "Deny", network("r", sourceAddresses=["10.0.0.300"]))),
            (),
            'sourceAddresses of rule "r"',
        ),
        (
            classic(networkRuleCollections=[{"name": "some"}]),
            (),
            'networkRuleCollections[0].priority of "some"',
        ),
        (classic(), ("--parent", "x.json"), "--parent goes with"),
        (group(), ("--parent", "no/such/file.json"), "no/such/file.json"),
        (group(), ("--parent", "README.md"), "--parent README.md is no JSON"),
        (group(), ("--source", "10.0.0.0/33"), "--source"),
        (group(), ("--source", "fd00::/64"), "no address family in common"),
        (group(), ("--port", "-1"), "--port"),
        (group(), ("--protocol", "icmp"), "--protocol"),
        (group(), ("--tag", "Sql"), "--tag"),
        (group(), ("--ip-group", "nodes=nowhere"), "--ip-group"),
    ],
)
def test_unusable_input_is_one_line(
    document: Any,
    options: tuple[str, ...],
    named: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Status 64, nothing on standard output, and one line that names the field."""
    monkeypatch.chdir(ROOT)
    status, said, error = ask(document, *options, capsys=capsys)
    assert (status, said) == (64, None)
    assert named in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "named"),
    [(json.dumps([classic()]), "is neither"), ("[" * 100_000, "is nested too deeply"), ("[", "is no JSON")],
)
def test_a_parent_that_cannot_be_used(
    text: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names the file."""
    path = tmp_path / "parent.json"
    path.write_text(text)
    status, _, error = ask(group(), "--parent", str(path), capsys=capsys)
    assert status == 64
    assert f"--parent {path} {named}" in error
    assert len(error.strip().splitlines()) == 1


def test_both_families_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Each source is asked about with the destinations of its own family."""
    some = group(collection(100, "Allow", network("six", sourceAddresses=["fd00::/65"])))
    status, said, _ = ask(
        some, "--destination", "20.0.0.4,fd00:20::4", source="10.0.0.0/24,fd00::/64", capsys=capsys
    )
    assert status == 1
    assert said["allowed"] == ["fd00::/65"]
    assert said["blocked"] == ["10.0.0.0/24", "fd00::8000:0:0:0/65"]


def test_it_runs_as_a_module() -> None:
    """As the manual says, from a shell, with help."""
    command = [sys.executable, "-m", "packets", "firewall"]
    helped = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--ip-group" in helped.stdout
    question = ["--port", "443", "--source", "10.0.0.4", "--destination", "20.0.0.4"]
    done = subprocess.run(
        [*command, *question],
        cwd=ROOT,
        input=json.dumps(group()),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["blocked"] == ["10.0.0.4/32"]
