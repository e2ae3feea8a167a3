"""Azure's documents of security groups: nested as ARM writes them, flat as the CLI prints them."""

from typing import Any

import pytest

from packets.documents.nsg import read_admin_rules, read_nsg

ID = (
    "/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590/resourceGroups/rg/providers/"
    "Microsoft.Network/networkSecurityGroups/nodes-nsg"
)

DENY = {
    "name": "deny-kubelet",
    "id": f"{ID}/securityRules/deny-kubelet",
    "etag": 'W/"0"',
    "type": "Microsoft.Network/networkSecurityGroups/securityRules",
    "properties": {
        "provisioningState": "Succeeded",
        "protocol": "Tcp",
        "sourcePortRange": "*",
        "sourcePortRanges": [],
        "destinationPortRange": None,
        "destinationPortRanges": ["10250", "10255-10256"],
        "sourceAddressPrefix": "10.0.0.0/8",
        "sourceAddressPrefixes": [],
        "destinationAddressPrefix": "VirtualNetwork",
        "destinationAddressPrefixes": [],
        "access": "Deny",
        "priority": 200,
        "direction": "Inbound",
    },
}
ALLOW_WEB = {
    "name": "allow-web",
    "id": f"{ID}/securityRules/allow-web",
    "properties": {
        "protocol": "*",
        "sourcePortRange": "*",
        "destinationPortRange": "443",
        "sourceApplicationSecurityGroups": [
            {"id": ID.replace("networkSecurityGroups", "applicationSecurityGroups")}
        ],
        "destinationAddressPrefix": "*",
        "access": "Allow",
        "priority": 300,
        "direction": "Inbound",
    },
}
DEFAULT_DENY = {
    "name": "DenyAllInBound",
    "id": f"{ID}/defaultSecurityRules/DenyAllInBound",
    "properties": {
        "protocol": "*",
        "sourcePortRange": "*",
        "destinationPortRange": "*",
        "sourceAddressPrefix": "*",
        "destinationAddressPrefix": "*",
        "access": "Deny",
        "priority": 65500,
        "direction": "Inbound",
    },
}
NESTED = {
    "id": ID,
    "name": "nodes-nsg",
    "location": "westeurope",
    "properties": {"securityRules": [DENY, ALLOW_WEB], "defaultSecurityRules": [DEFAULT_DENY]},
}


def flat(document: dict[str, Any]) -> dict[str, Any]:
    """The document as `az network nsg show` prints it."""
    flattened = {name: value for name, value in document.items() if name != "properties"}
    for name, value in document.get("properties", {}).items():
        flattened[name] = (
            [flat(one) if isinstance(one, dict) else one for one in value]
            if isinstance(value, list)
            else value
        )
    return flattened


def one_rule(**fields: Any) -> dict[str, Any]:
    """A group with one rule of these properties."""
    return {"id": ID, "name": "nsg", "properties": {"securityRules": [{"name": "r", "properties": fields}]}}


def test_nested_and_flat_are_the_same_group() -> None:
    """ARM's form and the CLI's give equal values."""
    assert read_nsg(NESTED) == read_nsg(flat(NESTED))


def test_what_is_read() -> None:
    """Singular and plural fields are joined, `null` and empty lists add nothing, default rules are marked."""
    group = read_nsg(NESTED)
    deny, web, last = group.rules
    assert (group.id, group.name) == (ID, "nodes-nsg")
    assert (deny.id, deny.priority, deny.direction, deny.access, deny.protocol, deny.default) == (
        f"{ID}/securityRules/deny-kubelet",
        200,
        "Inbound",
        "Deny",
        "Tcp",
        False,
    )
    assert deny.sources == ("10.0.0.0/8",)
    assert deny.source_ports == ("*",)
    assert deny.destinations == ("VirtualNetwork",)
    assert deny.destination_ports == ("10250", "10255-10256")
    assert web.sources == ()
    assert web.source_groups == (ID.replace("networkSecurityGroups", "applicationSecurityGroups").lower(),)
    assert (last.name, last.default) == ("DenyAllInBound", True)


@pytest.mark.parametrize(
    ("singular", "plural", "joined"),
    [
        ("10250", None, ("10250",)),
        (None, ["10250"], ("10250",)),
        ("", ["10250"], ("10250",)),
        ("443", ["10250", "443"], ("443", "10250")),
        (None, None, ()),
        (None, [], ()),
        ("", [None, ""], ()),
        (10250, [443], ("10250", "443")),
    ],
)
def test_singular_and_plural(singular: object, plural: object, joined: tuple[str, ...]) -> None:
    """A field holds every value of both forms, each once; numbers are taken as text."""
    document = one_rule(priority=100, destinationPortRange=singular, destinationPortRanges=plural)
    assert read_nsg(document).rules[0].destination_ports == joined


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"properties": None},
        {"properties": {}},
        {"properties": {"securityRules": None, "defaultSecurityRules": None}},
        {"securityRules": [], "id": None, "name": None},
    ],
)
def test_a_group_without_rules(document: dict[str, Any]) -> None:
    """Missing lists and nulls are no rules, and a group may have neither id nor name."""
    group = read_nsg(document)
    assert (group.id, group.name, group.rules) == ("", "", ())


def test_what_a_rule_may_lack() -> None:
    """Everything but the priority: the id follows from the group's, texts are empty."""
    named = read_nsg({"id": ID, "securityRules": [{"name": "r", "priority": 100}]})
    [rule] = named.rules
    assert (named.name, rule.id) == ("nodes-nsg", f"{ID}/securityRules/r")
    assert (rule.direction, rule.access, rule.protocol) == ("", "", "")
    assert rule.sources == rule.destinations == rule.source_groups == rule.source_ports == ()
    [anonymous] = read_nsg({"securityRules": [{"priority": 100}]}).rules
    assert anonymous.name == "securityRules[0]"


@pytest.mark.parametrize("priority", [None, "100", 100.5, [100]])
@pytest.mark.parametrize("field", ["securityRules", "defaultSecurityRules"])
def test_a_priority_that_is_no_number_is_named(field: str, priority: object) -> None:
    """Without a priority there is no order: the error names the list, the place, the field and the rule."""
    rules = [{"name": "fine", "priority": 100}, {"name": "broken", "priority": priority}]
    with pytest.raises(ValueError, match=rf'^{field}\[1\]\.priority of "broken"'):
        read_nsg({"id": ID, field: rules})


@pytest.mark.parametrize(
    "document",
    [
        {"securityRules": [None]},
        {"securityRules": ["deny"]},
        {"securityRules": "deny"},
        {"securityRules": {"deny": {}}},
        {"securityRules": 1},
        {"defaultSecurityRules": [[]]},
    ],
)
def test_rules_that_are_no_objects_are_named(document: dict[str, Any]) -> None:
    """A document of another shape is the document's fault, and says where: it is a ValueError."""
    with pytest.raises(ValueError, match=r"(?i)securityRules"):
        read_nsg(document)


@pytest.mark.parametrize(
    "document",
    [
        one_rule(priority=100, sourceApplicationSecurityGroups="web-asg"),
        one_rule(priority=100, sourceAddressPrefixes="10.0.0.0/8"),
        one_rule(priority=100, destinationPortRanges={"from": 1}),
    ],
)
def test_fields_that_are_no_lists_are_named(document: dict[str, Any]) -> None:
    """A text where a list belongs is not taken letter by letter."""
    with pytest.raises(ValueError, match=r"^(source|destination)\w+ is no list$"):
        read_nsg(document)


@pytest.mark.parametrize("group", [None, "web-asg", 1, {}, {"id": None}])
def test_groups_without_an_id_are_not_dropped(group: object) -> None:
    """A group that nobody can name is still a group whose members are not known."""
    [rule] = read_nsg(one_rule(priority=100, sourceApplicationSecurityGroups=[group])).rules
    assert len(rule.source_groups) == 1


# --- security admin rules ------------------------------------------------------------------------

NETWORK = ID.replace("networkSecurityGroups/nodes-nsg", "virtualNetworks/vnet")
CONFIGURATION = ID.replace(
    "networkSecurityGroups/nodes-nsg", "networkManagers/avnm/securityAdminConfigurations/baseline"
)
CUSTOM = {
    "id": f"{CONFIGURATION}/ruleCollections/nodes/rules/deny-kubelet",
    "kind": "Custom",
    "configurationDescription": "What no workload may do",
    "ruleGroups": [{"networkGroup": {"id": f"{CONFIGURATION}/networkGroups/spokes"}}],
    "properties": {
        "protocol": "Any",
        "sources": [
            {"addressPrefix": "10.0.0.0/8", "addressPrefixType": "IPPrefix"},
            {"addressPrefix": "Internet", "addressPrefixType": "ServiceTag"},
            {"addressPrefix": "10.0.0.0/8", "addressPrefixType": "IPPrefix"},
        ],
        "destinations": [{"addressPrefix": "*", "addressPrefixType": "IPPrefix"}],
        "sourcePortRanges": ["0-65535"],
        "destinationPortRanges": ["10250", "22"],
        "access": "Deny",
        "priority": 10,
        "direction": "Inbound",
    },
}
DEFAULT_ADMIN = {
    "id": f"{CONFIGURATION}/ruleCollections/azure/rules/8d1b",
    "kind": "Default",
    "properties": {
        "flag": "AllowVnetInbound",
        "protocol": "Any",
        "sources": [{"addressPrefix": "VirtualNetwork", "addressPrefixType": "ServiceTag"}],
        "destinations": None,
        "access": "AlwaysAllow",
        "priority": 4096,
        "direction": "Outbound",
    },
}


def test_admin_rules_nested_and_flat_are_the_same() -> None:
    """ARM's form and the CLI's give equal values."""
    documents: list[dict[str, Any]] = [CUSTOM, DEFAULT_ADMIN]
    assert read_admin_rules(NETWORK, documents) == read_admin_rules(NETWORK, map(flat, documents))


def test_what_is_read_of_admin_rules() -> None:
    """Address items are joined, each once; a custom rule is named by its id, a default one by its flag."""
    found = read_admin_rules(NETWORK, [CUSTOM, DEFAULT_ADMIN])
    custom, default = found.rules
    assert found.network_id == NETWORK
    assert (custom.id, custom.name, custom.default) == (CUSTOM["id"], "deny-kubelet", False)
    assert (custom.access, custom.priority, custom.direction, custom.protocol) == (
        "Deny",
        10,
        "Inbound",
        "Any",
    )
    assert (custom.sources, custom.destinations) == (("10.0.0.0/8", "Internet"), ("*",))
    assert (custom.source_ports, custom.destination_ports) == (("0-65535",), ("10250", "22"))
    assert (default.name, default.default, default.access) == ("AllowVnetInbound", True, "AlwaysAllow")
    assert (default.destinations, default.source_ports) == ((), ())


def test_admin_rules_without_id_are_told_apart() -> None:
    """Two rules that Azure gave no id have ids of their own, below the network's."""
    nameless = {"kind": "custom", "properties": CUSTOM["properties"]}
    found = read_admin_rules(NETWORK, [nameless, nameless]).rules
    assert len({one.id for one in found}) == 2
    assert all(one.id.startswith(f"{NETWORK}/") for one in found)
    assert read_admin_rules(NETWORK, []).rules == ()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"priority": None}, "value[0].priority"),
        ({"priority": True}, "value[0].priority"),
        ({"sources": "10.0.0.0/8"}, "sources is no list"),
        ({"destinations": ["*"]}, "destinations[0] is no object"),
    ],
)
def test_odd_admin_rules_name_the_field(fields: dict[str, Any], words: str) -> None:
    """What cannot be read is told with the field at fault."""
    body: dict[str, Any] = {"priority": 1, "access": "Deny"} | fields
    with pytest.raises(ValueError) as caught:
        read_admin_rules(NETWORK, [{"id": "/rule", "properties": body}])
    assert words in str(caught.value)
