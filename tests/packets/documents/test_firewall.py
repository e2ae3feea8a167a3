"""Azure's documents of firewalls and policies: nested as ARM writes them, flat as the CLI prints them."""

import json
from typing import Any

import pytest
from msgspec import structs

from packets.documents.firewall import (
    FirewallModel,
    faults,
    in_order,
    read_classic_rules,
    read_firewall,
    read_ip_group,
    read_policy,
    read_rule_collection_group,
)
from tests.processes import ROOT

Document = dict[str, Any]

NETWORK = "/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590/resourceGroups/rg/providers/Microsoft.Network"
FIREWALL = f"{NETWORK}/azureFirewalls/afw"
POLICY = f"{NETWORK}/firewallPolicies/afwp"
GROUP = f"{POLICY}/ruleCollectionGroups/rcg"
IP_GROUP = f"{NETWORK}/ipGroups/nodes"
SUBNET = f"{NETWORK}/virtualNetworks/hub/subnets/AzureFirewallSubnet"

CLASSIC: Document = {
    "id": FIREWALL,
    "name": "afw",
    "type": "Microsoft.Network/azureFirewalls",
    "properties": {
        "sku": {"name": "AZFW_VNet", "tier": "Standard"},
        "ipConfigurations": [
            {
                "name": "main",
                "properties": {"privateIPAddress": "10.0.1.4", "subnet": {"id": SUBNET}},
            },
            {"name": "second", "properties": {"publicIPAddress": {"id": "/pip"}, "subnet": None}},
        ],
        "networkRuleCollections": [
            {
                "name": "late",
                "id": f"{FIREWALL}/networkRuleCollections/late",
                "properties": {
                    "priority": 300,
                    "action": {"type": "Allow"},
                    "rules": [
                        {
                            "name": "api-server",
                            "protocols": ["TCP", "Any", "TCP"],
                            "sourceAddresses": [],
                            "sourceIpGroups": [IP_GROUP],
                            "destinationAddresses": ["AzureCloud.westeurope", None],
                            "destinationIpGroups": None,
                            "destinationFqdns": ["ntp.ubuntu.com"],
                            "destinationPorts": ["443", "9000-9001"],
                        }
                    ],
                },
            },
            {
                "name": "early",
                "id": f"{FIREWALL}/networkRuleCollections/early",
                "properties": {"priority": 200, "action": {"type": "Deny"}, "rules": [{"name": "first"}, {}]},
            },
        ],
        "applicationRuleCollections": [
            {
                "name": "web",
                "id": f"{FIREWALL}/applicationRuleCollections/web",
                "properties": {
                    "priority": 100,
                    "action": {"type": "Allow"},
                    "rules": [
                        {
                            "name": "aks",
                            "protocols": [
                                {"protocolType": "Https", "port": 443},
                                {"protocolType": "Http"},
                                {"protocolType": "Https", "port": 443},
                            ],
                            "sourceAddresses": ["10.1.0.0/16"],
                            "targetFqdns": ["*.hcp.westeurope.azmk8s.io"],
                            "fqdnTags": ["AzureKubernetesService"],
                        }
                    ],
                },
            }
        ],
        "natRuleCollections": [{"name": "dnat", "properties": {"rules": [{"name": "ssh"}]}}],
    },
}
HUB: Document = {
    "id": FIREWALL,
    "name": None,
    "properties": {
        "sku": {"name": "AZFW_Hub", "tier": "Premium"},
        "virtualHub": {"id": f"{NETWORK}/virtualHubs/hub"},
        "hubIPAddresses": {"publicIPs": {"count": 1}, "privateIPAddress": "10.9.64.4"},
        "firewallPolicy": {"id": POLICY},
    },
}
POLICY_GROUP: Document = {
    "id": GROUP,
    "name": "rcg",
    "type": "Microsoft.Network/firewallPolicies/ruleCollectionGroups",
    "properties": {
        "priority": 200,
        "ruleCollections": [
            {
                "ruleCollectionType": "FirewallPolicyNatRuleCollection",
                "name": "dnat",
                "action": {"type": "DNAT"},
                "rules": [{"ruleType": "NatRule", "name": "ssh"}],
            },
            {
                "ruleCollectionType": "FirewallPolicyFilterRuleCollection",
                "name": "aks-application",
                "priority": 300,
                "action": {"type": "Allow"},
                "rules": [
                    {
                        "ruleType": "ApplicationRule",
                        "name": "aks",
                        "protocols": [{"protocolType": "Https", "port": 443}],
                        "fqdnTags": ["AzureKubernetesService"],
                        "webCategories": ["computersAndTechnology"],
                        "targetUrls": [],
                        "terminateTLS": True,
                        "sourceAddresses": ["*"],
                        "destinationAddresses": ["20.0.0.0/8"],
                        "sourceIpGroups": [],
                        "httpHeadersToInsert": [{"headerName": "x", "headerValue": "y"}],
                    }
                ],
            },
            {
                "ruleCollectionType": "FirewallPolicyFilterRuleCollection",
                "name": "aks-network",
                "priority": 200,
                "action": {"type": "Allow"},
                "rules": [
                    {
                        "ruleType": "NetworkRule",
                        "name": "tunnel",
                        "ipProtocols": ["UDP"],
                        "sourceAddresses": ["10.1.0.0/16"],
                        "sourceIpGroups": [],
                        "sourceKubeSelectorGroups": ["agents"],
                        "destinationAddresses": [],
                        "destinationIpGroups": [IP_GROUP],
                        "destinationFqdns": [],
                        "destinationPorts": ["1194"],
                        "destinationGeoLocations": [],
                    },
                    {"ruleType": "NatRule", "name": "ssh"},
                    {"ruleType": "QuicRule", "name": "quic", "sourceAddresses": "any"},
                ],
            },
        ],
    },
}


def flat(document: Document) -> Document:
    """The document as `az` prints it: properties beside the names, and acronyms in the CLI's own case."""
    respelled = {
        "privateIPAddress": "privateIpAddress",
        "hubIPAddresses": "hubIpAddresses",
        "terminateTLS": "terminateTls",
    }
    flattened = {}
    for name, value in (document | document.get("properties", {})).items():
        if name != "properties":
            found = value
            if isinstance(value, dict):
                found = flat(value)
            elif isinstance(value, list):
                found = [flat(one) if isinstance(one, dict) else one for one in value]
            flattened[respelled.get(name, name)] = found
    return flattened


def test_nested_and_flat_are_the_same() -> None:
    """ARM's form and the CLI's give equal values."""
    assert read_firewall(CLASSIC) == read_firewall(flat(CLASSIC))
    assert read_firewall(HUB) == read_firewall(flat(HUB))
    assert read_rule_collection_group(POLICY_GROUP) == read_rule_collection_group(flat(POLICY_GROUP))


# --- classic -------------------------------------------------------------------------------------


def test_classic_rules() -> None:
    """By priority, network rules first; `null` and empty lists add nothing, values are there once."""
    first, unnamed, api_server, aks = read_classic_rules(CLASSIC)
    assert [rule.kind for rule in (first, unnamed, api_server, aks)] == [*["network"] * 3, "application"]
    assert (api_server.name, api_server.collection, api_server.group, api_server.policy) == (
        "api-server",
        "late",
        "",
        "",
    )
    assert (api_server.priority, api_server.action) == (300, "Allow")
    assert api_server.id == f"{FIREWALL}/networkRuleCollections/late/rules/api-server"
    assert api_server.protocols == ("TCP", "Any")
    assert (api_server.sources, api_server.source_groups) == ((), (IP_GROUP,))
    assert (api_server.destinations, api_server.destination_groups) == (("AzureCloud.westeurope",), ())
    assert api_server.fqdns == ("ntp.ubuntu.com",)
    assert api_server.destination_ports == ("443", "9000-9001")
    assert aks.protocols == ("Https:443", "Http")
    assert aks.fqdns == ("*.hcp.westeurope.azmk8s.io",)
    assert aks.fqdn_tags == ("AzureKubernetesService",)
    assert (aks.sources, aks.destinations, aks.limits, aks.terminates_tls) == (
        ("10.1.0.0/16",),
        (),
        (),
        False,
    )
    assert (first.name, first.action, unnamed.name) == ("first", "Deny", "rules[1]")


def test_ids_are_unique() -> None:
    """Every rule has an id of its own, also where collections have no id."""
    bare = {"id": FIREWALL, "networkRuleCollections": [{"name": "some", "priority": 1, "rules": [{}, {}]}]}
    ids = [rule.id for rule in (*read_classic_rules(CLASSIC), *read_classic_rules(bare))]
    assert len(set(ids)) == len(ids)
    assert all(one.startswith(FIREWALL) for one in ids)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            CLASSIC,
            FirewallModel(
                id=FIREWALL,
                name="afw",
                addresses=("10.0.1.4",),
                network_id=f"{NETWORK}/virtualNetworks/hub",
                hub=False,
                policy_id="",
                public_addresses=1,
            ),
        ),
        (
            HUB,
            FirewallModel(
                id=FIREWALL,
                name="afw",
                addresses=("10.9.64.4",),
                network_id="",
                hub=True,
                policy_id=POLICY,
                public_addresses=1,
            ),
        ),
        (
            {"virtualHub": {"id": "/hub"}, "sku": None, "hubIPAddresses": None, "ipConfigurations": None},
            FirewallModel(id="", name="", addresses=(), network_id="", hub=True, policy_id=""),
        ),
        ({}, FirewallModel(id="", name="", addresses=(), network_id="", hub=False, policy_id="")),
    ],
)
def test_a_firewall(document: Document, expected: FirewallModel) -> None:
    """Where it stands, what routes lead to, and whom it obeys."""
    assert structs.replace(read_firewall(document), rules=()) == expected


def test_a_firewall_holds_its_classic_rules() -> None:
    """And none if a policy has them."""
    assert read_firewall(CLASSIC).rules == read_classic_rules(CLASSIC)
    assert read_firewall(HUB).rules == ()


# --- policies ------------------------------------------------------------------------------------


def test_a_rule_collection_group() -> None:
    """Collections by priority, DNAT left out, and what is known of each rule."""
    group = read_rule_collection_group(POLICY_GROUP)
    assert (group.id, group.name, group.priority, group.policy_id) == (GROUP, "rcg", 200, POLICY)
    network, application = group.collections
    assert [(one.name, one.priority) for one in group.collections] == [
        ("aks-network", 200),
        ("aks-application", 300),
    ]
    [tunnel, quic] = network.rules
    assert (tunnel.kind, tunnel.id) == ("network", f"{GROUP}/ruleCollections/aks-network/rules/tunnel")
    assert (tunnel.collection, tunnel.group, tunnel.policy) == ("aks-network", "rcg", POLICY)
    assert (tunnel.priority, tunnel.action, tunnel.protocols) == (200, "Allow", ("UDP",))
    assert (tunnel.sources, tunnel.destination_groups) == (("10.1.0.0/16",), (IP_GROUP,))
    assert tunnel.destination_ports == ("1194",)
    assert tunnel.limits == ("sourceKubeSelectorGroups",)
    assert (quic.name, quic.action, quic.limits) == ("quic", "", ('ruleType "QuicRule"',))
    [aks] = application.rules
    assert (aks.kind, aks.protocols, aks.sources) == ("application", ("Https:443",), ("*",))
    assert (aks.destinations, aks.limits, aks.terminates_tls) == (("20.0.0.0/8",), ("webCategories",), True)


@pytest.mark.parametrize("kind", ["FirewallPolicyQuicRuleCollection", "", None])
def test_a_collection_of_no_known_type_does_not_vanish(kind: str | None) -> None:
    """It becomes one rule, without an action, that names the type."""
    odd: Document = {
        "ruleCollectionType": kind,
        "name": "odd",
        "priority": 100,
        "action": {"type": "Allow"},
        "rules": [],
    }
    [collection] = read_rule_collection_group({"priority": 1, "ruleCollections": [odd]}).collections
    [rule] = collection.rules
    assert (rule.name, rule.action, rule.limits) == ("odd", "", (f'ruleCollectionType "{kind or ""}"',))


@pytest.mark.parametrize(
    ("kind", "field", "limits"),
    [
        ("NetworkRule", "sourceGeoLocations", ("sourceGeoLocations",)),
        ("NetworkRule", "destinationGeoLocations", ("destinationGeoLocations",)),
        ("NetworkRule", "sourcePorts", ("sourcePorts",)),
        ("NetworkRule", "webCategories", ("webCategories",)),
        ("NetworkRule", "destinationFqdns", ()),
        ("NetworkRule", "description", ()),
        ("ApplicationRule", "targetUrls", ("targetUrls",)),
        ("ApplicationRule", "sourceKubeSelectorGroups", ("sourceKubeSelectorGroups",)),
        ("ApplicationRule", "destinationIpGroups", ("destinationIpGroups",)),
        ("ApplicationRule", "httpHeadersToInsert", ()),
        ("ApplicationRule", "targetFqdns", ()),
    ],
)
def test_fields_that_nobody_evaluates_are_named(kind: str, field: str, limits: tuple[str, ...]) -> None:
    """Those that say what a rule is about, newer ones than this code included; empty ones say nothing."""

    def read(value: object) -> tuple[str, ...]:
        rule = {"ruleType": kind, field: value}
        collection = {
            "ruleCollectionType": "FirewallPolicyFilterRuleCollection",
            "priority": 1,
            "rules": [rule],
        }
        group = read_rule_collection_group({"priority": 1, "ruleCollections": [collection]})
        return group.collections[0].rules[0].limits

    assert read(["x"]) == limits
    assert read([]) == read(None) == ()


@pytest.mark.parametrize("spelled", [str.upper, str.lower])
def test_types_in_any_case(spelled: Any) -> None:
    """Enum values are compared without regard to case."""
    other = json.loads(json.dumps(POLICY_GROUP))
    for collection in other["properties"]["ruleCollections"]:
        collection["ruleCollectionType"] = spelled(collection["ruleCollectionType"])
        for rule in collection["rules"]:
            rule["ruleType"] = spelled(rule["ruleType"]) if rule["name"] != "quic" else "QuicRule"
    assert read_rule_collection_group(other) == read_rule_collection_group(POLICY_GROUP)


def test_what_a_group_may_lack() -> None:
    """Everything but priorities: names follow from places, texts are empty."""
    empty = read_rule_collection_group({"priority": 100})
    assert (empty.id, empty.name, empty.policy_id, empty.collections) == ("", "", "", ())
    bare = {
        "ruleCollectionType": "FirewallPolicyFilterRuleCollection",
        "priority": 1,
        "rules": [{"ruleType": "NetworkRule"}],
    }
    group = read_rule_collection_group(
        {"id": GROUP, "properties": {"priority": 2, "ruleCollections": [bare]}}
    )
    assert (group.name, group.policy_id) == ("rcg", POLICY)
    [collection] = group.collections
    [rule] = collection.rules
    assert (rule.name, rule.collection, rule.action) == ("rules[0]", "ruleCollections[0]", "")
    assert rule.protocols == rule.sources == rule.destinations == rule.fqdns == rule.destination_ports == ()


def test_policies_in_order() -> None:
    """Network rules of all policies, the topmost first, then application rules of all."""
    child = read_rule_collection_group(POLICY_GROUP)
    parent = structs.replace(
        child,
        priority=60000,
        collections=tuple(
            structs.replace(
                one, rules=tuple(structs.replace(rule, name=f"parent-{rule.name}") for rule in one.rules)
            )
            for one in reversed(child.collections)
        ),
    )
    assert [rule.name for rule in in_order([[parent], [], [child]])] == [
        "parent-tunnel",
        "parent-quic",
        "tunnel",
        "quic",
        "parent-aks",
        "aks",
    ]
    assert in_order([]) == ()


def test_the_sample_firewall() -> None:
    """Documents as Azure returns them."""
    firewall, policy, group = json.loads((ROOT / "local/fleets/sample/hub-weu/firewall.json").read_text())
    model = read_firewall(firewall)
    assert (model.name, model.addresses, model.hub) == ("afw-hub-weu", ("10.0.1.4",), False)
    assert model.network_id.endswith("/virtualNetworks/vnet-hub-weu")
    assert model.policy_id == read_policy(policy).id == read_rule_collection_group(group).policy_id
    assert [rule.name for rule in in_order([[read_rule_collection_group(group)]])] == [
        "tunnel-udp",
        "tunnel-tcp",
        "api-server",
        "time",
        "aks",
        "api-server",
    ]


@pytest.mark.parametrize(
    ("document", "base"),
    [
        ({"id": POLICY, "properties": {"basePolicy": {"id": f"{POLICY}-base"}}}, f"{POLICY}-base"),
        ({"id": POLICY, "basePolicy": {"id": f"{POLICY}-base"}}, f"{POLICY}-base"),
        ({"id": POLICY, "properties": {"basePolicy": None}}, ""),
        ({"id": POLICY}, ""),
    ],
)
def test_a_policy_and_its_parent(document: Document, base: str) -> None:
    """The parent's id, empty if there is none."""
    policy = read_policy(document)
    assert (policy.id, policy.base_id) == (POLICY, base)


@pytest.mark.parametrize(
    ("document", "addresses"),
    [
        ({"id": IP_GROUP, "properties": {"ipAddresses": ["10.0.0.0/24", "10.1.0.4-10.1.0.9"]}}, 2),
        ({"id": IP_GROUP, "ipAddresses": ["10.0.0.0/24", "10.0.0.0/24", None, ""]}, 1),
        ({"id": IP_GROUP, "properties": {"ipAddresses": None}}, 0),
        ({"id": IP_GROUP}, 0),
    ],
)
def test_an_ip_group(document: Document, addresses: int) -> None:
    """Its addresses as written, each once."""
    group = read_ip_group(document)
    assert (group.id, len(group.addresses)) == (IP_GROUP, addresses)


# --- what cannot be used -------------------------------------------------------------------------


def of_policy(**rule: Any) -> Document:
    """A group with one rule after a good one."""
    good = {"ruleType": "NetworkRule", "name": "good"}
    collection = {
        "ruleCollectionType": "FirewallPolicyFilterRuleCollection",
        "name": "some",
        "priority": 100,
        "rules": [good, rule],
    }
    return {"name": "rcg", "priority": 100, "ruleCollections": [collection]}


FILTER = {"ruleCollectionType": "FirewallPolicyFilterRuleCollection", "name": "some"}


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"name": "rcg"}, 'priority of "rcg" is missing or no number'),
        ({"name": "rcg", "priority": "100"}, 'priority of "rcg" is missing or no number'),
        ({"priority": True}, 'priority of "" is missing or no number'),
        ({"priority": 1, "ruleCollections": {}} | {"ruleCollections": "all"}, "ruleCollections is no list"),
        ({"priority": 1, "ruleCollections": [None]}, "ruleCollections[0] is no object"),
        ({"priority": 1, "ruleCollections": [FILTER]}, 'ruleCollections[0].priority of "some" is missing'),
        (
            {"priority": 1, "ruleCollections": [FILTER | {"priority": 1.5}]},
            'ruleCollections[0].priority of "some" is missing or no number',
        ),
        (
            {"priority": 1, "ruleCollections": [FILTER | {"priority": 1, "rules": "all"}]},
            "ruleCollections[0].rules is no list",
        ),
        (
            {"priority": 1, "ruleCollections": [FILTER | {"priority": 1, "rules": [[]]}]},
            "ruleCollections[0].rules[0] is no object",
        ),
        (
            of_policy(ruleType="NetworkRule", sourceAddresses="10.0.0.0/8"),
            "ruleCollections[0].rules[1].sourceAddresses is no list",
        ),
        (
            of_policy(ruleType="NetworkRule", destinationPorts=443),
            "ruleCollections[0].rules[1].destinationPorts is no list",
        ),
        (
            of_policy(ruleType="ApplicationRule", protocols=["Https:443"]),
            "ruleCollections[0].rules[1].protocols[0] is no object",
        ),
        (
            of_policy(ruleType="ApplicationRule", targetFqdns="*"),
            "ruleCollections[0].rules[1].targetFqdns is no list",
        ),
    ],
)
def test_a_group_that_cannot_be_used_names_the_field(document: Document, named: str) -> None:
    """The way to the field, in the document's own words."""
    with pytest.raises(ValueError) as error:
        read_rule_collection_group(document)
    assert str(error.value).startswith(named)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"networkRuleCollections": 1}, "networkRuleCollections is no list"),
        ({"networkRuleCollections": ["x"]}, "networkRuleCollections[0] is no object"),
        (
            {"applicationRuleCollections": [{"name": "web"}]},
            'applicationRuleCollections[0].priority of "web" is missing or no number',
        ),
        (
            {
                "networkRuleCollections": [
                    {"properties": {"priority": 1, "rules": [{}, {"protocols": "TCP"}]}}
                ]
            },
            "networkRuleCollections[0].rules[1].protocols is no list",
        ),
        ({"ipConfigurations": [1]}, "ipConfigurations[0] is no object"),
    ],
)
@pytest.mark.parametrize("nested", [True, False])
def test_a_firewall_that_cannot_be_used_names_the_field(body: Document, named: str, nested: bool) -> None:
    """The same, in both forms."""
    with pytest.raises(ValueError) as error:
        read_firewall({"id": FIREWALL, "properties": body} if nested else body)
    assert str(error.value).startswith(named)


def test_an_ip_group_that_cannot_be_used() -> None:
    """A text where a list belongs."""
    with pytest.raises(ValueError, match=r"^ipAddresses is no list$"):
        read_ip_group({"ipAddresses": "10.0.0.0/8"})


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"destinationPorts": ["443", "70000"]}, 'destinationPorts of rule "r" of collection "some": '),
        ({"sourceAddresses": ["10.0.0.300"]}, 'sourceAddresses of rule "r" of collection "some": '),
        ({"destinationAddresses": ["10.0.0.9-10.0.0.4"]}, 'destinationAddresses of rule "r" of collection '),
        ({"destinationAddresses": ["AzureCloud", "*", "10.0.0.4-10.0.0.9", "fd00::/64"]}, None),
        ({"destinationPorts": ["*", "0-65535"], "sourceAddresses": ["10.0.0.77/24"]}, None),
    ],
)
def test_what_cannot_be_meant(fields: Document, fault: str | None) -> None:
    """Ports and addresses that are none; tags, ranges and host bits are fine."""
    rules = in_order([[read_rule_collection_group(of_policy(ruleType="NetworkRule", name="r", **fields))]])
    found = list(faults(rules))
    assert len(found) == (fault is not None)
    assert all(one.startswith(str(fault)) for one in found)
