"""What the simulator serves of networks, asked by the real SDK: routes, firewalls, tags, admin rules."""

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.mgmt.network.aio import NetworkManagementClient
from azure.mgmt.network.models import (
    EffectiveDefaultSecurityAdminRule,
    EffectiveSecurityAdminRule,
    QueryRequestOptions,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from local.azure import admin_rules
from local.azure.arm import ArmError
from tests.simulator import WORKLOADS, RunningSimulator, ask, client, wait_for

Document = dict[str, Any]

SUBSCRIPTION = f"/subscriptions/{WORKLOADS}"
HUB = f"{SUBSCRIPTION}/resourceGroups/rg-hub/providers/Microsoft.Network"
SPOKE = f"{SUBSCRIPTION}/resourceGroups/rg-spoke/providers/Microsoft.Network"
VNET = f"{SPOKE}/virtualNetworks/vnet-web"
MANAGER = f"{HUB}/networkManagers/nm/securityAdminConfigurations/cfg/ruleCollections/rc/rules"
ADMIN_ACTION = "Microsoft.Network/virtualNetworks/listNetworkManagerEffectiveSecurityAdminRules/action"
TAGS_ACTION = "Microsoft.Network/locations/serviceTags/read"


def resource(identifier: str, **properties: Any) -> Document:
    """A document as ARM returns it."""
    return {"id": identifier, "name": identifier.rpartition("/")[2], "properties": properties}


RESOURCES = [
    resource(
        f"{SPOKE}/routeTables/rt-web",
        routes=[
            resource(
                f"{SPOKE}/routeTables/rt-web/routes/default",
                addressPrefix="0.0.0.0/0",
                nextHopType="VirtualAppliance",
                nextHopIpAddress="10.0.1.4",
            )
        ],
    ),
    resource(f"{HUB}/routeTables/rt-hub", routes=[]),
    resource(
        f"{HUB}/azureFirewalls/afw",
        firewallPolicy={"id": f"{HUB}/firewallPolicies/afwp"},
        ipConfigurations=[{"name": "main", "properties": {"privateIPAddress": "10.0.1.4"}}],
    ),
    resource(f"{SPOKE}/azureFirewalls/afw-classic", networkRuleCollections=[]),
    resource(f"{HUB}/firewallPolicies/afwp", basePolicy={"id": f"{HUB}/firewallPolicies/afwp-base"}),
    resource(f"{HUB}/firewallPolicies/afwp-base"),
    resource(
        f"{HUB}/firewallPolicies/afwp/ruleCollectionGroups/rcg-aks",
        priority=200,
        ruleCollections=[
            {
                "ruleCollectionType": "FirewallPolicyFilterRuleCollection",
                "name": "tunnel",
                "priority": 100,
                "action": {"type": "Deny"},
                "rules": [
                    {
                        "ruleType": "NetworkRule",
                        "name": "deny-9000",
                        "ipProtocols": ["TCP"],
                        "sourceIpGroups": [f"{HUB}/ipGroups/ipg-nodes"],
                        "destinationAddresses": ["AzureCloud.westeurope"],
                        "destinationPorts": ["9000"],
                    }
                ],
            }
        ],
    ),
    resource(f"{HUB}/firewallPolicies/afwp/ruleCollectionGroups/rcg-web", priority=300, ruleCollections=[]),
    resource(f"{HUB}/firewallPolicies/afwp-base/ruleCollectionGroups/rcg-base", priority=100),
    resource(f"{HUB}/ipGroups/ipg-nodes", ipAddresses=["10.1.0.0/24", "10.2.0.7"]),
    resource(f"{SPOKE}/ipGroups/ipg-web", ipAddresses=[]),
    resource(f"{HUB}/applicationSecurityGroups/asg-hub"),
    resource(f"{SPOKE}/applicationSecurityGroups/asg-web"),
    resource(VNET, addressSpace={"addressPrefixes": ["10.1.0.0/16"]}),
    resource(f"{HUB}/virtualNetworks/vnet-hub", addressSpace={"addressPrefixes": ["10.0.0.0/16"]}),
]

TAGS: Document = {
    "name": "Public",
    "id": f"{SUBSCRIPTION}/providers/Microsoft.Network/serviceTags/Public",
    "type": "Microsoft.Network/serviceTags",
    "changeNumber": "125",
    "cloud": "Public",
    "values": [
        {
            "name": "AzureCloud.westeurope",
            "id": "AzureCloud.westeurope",
            "serviceTagChangeNumber": "60",
            "properties": {
                "changeNumber": "60",
                "region": "westeurope",
                "regionId": 18,
                "state": "GA",
                "networkFeatures": ["API", "NSG", "UDR", "FW"],
                "platform": "Azure",
                "systemService": "AzureCloud",
                "addressPrefixes": ["20.101.0.0/16", "2603:1020:206::/47"],
            },
        },
        {
            "name": "AzureCloud.northeurope",
            "id": "AzureCloud.northeurope",
            "properties": {"region": "northeurope", "addressPrefixes": ["20.107.0.0/16"]},
        },
    ],
}


def admin_rule(name: str, access: str = "Deny", **properties: Any) -> Document:
    """A custom rule as Azure returns it."""
    return {
        "id": f"{MANAGER}/{name}",
        "configurationDescription": "what everybody must keep to",
        "ruleCollectionDescription": "",
        "ruleCollectionAppliesToGroups": [{"networkGroupId": f"{HUB}/networkManagers/nm/networkGroups/all"}],
        "ruleGroups": [],
        "kind": "Custom",
        "properties": {
            "description": "",
            "protocol": "Tcp",
            "sources": [{"addressPrefix": "*", "addressPrefixType": "IPPrefix"}],
            "destinations": [{"addressPrefix": "10.1.0.0/24", "addressPrefixType": "IPPrefix"}],
            "sourcePortRanges": ["0-65535"],
            "destinationPortRanges": ["10250"],
            "access": access,
            "priority": 10,
            "direction": "Inbound",
            "provisioningState": "Succeeded",
            "resourceGuid": "3f6d2c8e-3f5e-4d25-9c4a-0e6b6a2f7d11",
        }
        | properties,
    }


DEFAULT_RULE: Document = {
    "id": f"{MANAGER}/block-rdp",
    "kind": "Default",
    "properties": {"flag": "BLOCK_RDP", "protocol": "Tcp", "access": "Deny", "priority": 1},
}


def write_fleet(directory: Path) -> Path:
    """The fleet of these tests: a hub and a spoke, with tags and two network managers."""
    (directory / "resources.json").write_text(json.dumps(RESOURCES))
    (directory / "service-tags.json").write_text(json.dumps(TAGS))
    (directory / "one.adminrules.json").write_text(
        json.dumps({VNET.replace("vnet-web", "VNET-Web"): [admin_rule("deny-kubelet"), DEFAULT_RULE]})
    )
    (directory / "two.adminrules.json").write_text(
        json.dumps({VNET.lower(): [admin_rule("allow-dns", "AlwaysAllow", protocol="Any", priority=5)]})
    )
    return directory


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    """One simulator for all the tests of this module that leave no trace."""
    with RunningSimulator(write_fleet(tmp_path_factory.mktemp("fleet"))) as simulator:
        yield simulator


@pytest.fixture
def sim(running: RunningSimulator) -> Iterator[RunningSimulator]:
    """The running simulator, put back as it was afterwards."""
    running.clear_requests()
    yield running
    running.clear_faults()
    running.reload()


def code_of(error: HttpResponseError) -> str | None:
    """ARM's code, as the SDK understood it."""
    return error.error.code if error.error else None


# Routes, firewalls, groups

type Call = Callable[[Any], Any]


@pytest.mark.parametrize(
    ("call", "names", "action"),
    [
        (lambda net: net.route_tables.list_all(), {"rt-web", "rt-hub"}, "routeTables"),
        (lambda net: net.route_tables.list("RG-Spoke"), {"rt-web"}, "routeTables"),
        (lambda net: net.azure_firewalls.list_all(), {"afw", "afw-classic"}, "azureFirewalls"),
        (lambda net: net.azure_firewalls.list("rg-hub"), {"afw"}, "azureFirewalls"),
        (lambda net: net.firewall_policies.list_all(), {"afwp", "afwp-base"}, "firewallPolicies"),
        (lambda net: net.firewall_policies.list("rg-hub"), {"afwp", "afwp-base"}, "firewallPolicies"),
        (
            lambda net: net.firewall_policy_rule_collection_groups.list("rg-hub", "afwp"),
            {"rcg-aks", "rcg-web"},
            "firewallPolicies/ruleCollectionGroups",
        ),
        (
            lambda net: net.firewall_policy_rule_collection_groups.list("rg-hub", "AFWP-base"),
            {"rcg-base"},
            "firewallPolicies/ruleCollectionGroups",
        ),
        (lambda net: net.ip_groups.list(), {"ipg-nodes", "ipg-web"}, "ipGroups"),
        (lambda net: net.ip_groups.list_by_resource_group("rg-hub"), {"ipg-nodes"}, "ipGroups"),
        (
            lambda net: net.application_security_groups.list_all(),
            {"asg-hub", "asg-web"},
            "applicationSecurityGroups",
        ),
        (
            lambda net: net.application_security_groups.list("rg-hub"),
            {"asg-hub"},
            "applicationSecurityGroups",
        ),
    ],
)
async def test_lists(sim: RunningSimulator, call: Call, names: set[str], action: str) -> None:
    """Each holds what lies in the subscription, the group or the policy, and is one action of a role."""
    async with client(NetworkManagementClient, sim) as network:
        assert {item.name async for item in call(network)} == names
    assert sim.actions() == {f"Microsoft.Network/{action}/read": 1}


@pytest.mark.parametrize(
    ("call", "see", "seen", "action"),
    [
        (
            lambda net: net.route_tables.get("rg-spoke", "rt-web"),
            lambda table: [(route.address_prefix, route.next_hop_ip_address) for route in table.routes],
            [("0.0.0.0/0", "10.0.1.4")],
            "routeTables",
        ),
        (
            lambda net: net.azure_firewalls.get("rg-hub", "AFW"),
            lambda firewall: (
                firewall.ip_configurations[0].private_ip_address,
                firewall.firewall_policy.id,
            ),
            ("10.0.1.4", f"{HUB}/firewallPolicies/afwp"),
            "azureFirewalls",
        ),
        (
            lambda net: net.firewall_policies.get("rg-hub", "afwp"),
            lambda policy: policy.base_policy.id,
            f"{HUB}/firewallPolicies/afwp-base",
            "firewallPolicies",
        ),
        (
            lambda net: net.firewall_policy_rule_collection_groups.get("rg-hub", "afwp", "rcg-aks"),
            lambda group: [
                (collection.action.type, rule.name, rule.destination_ports, rule.source_ip_groups)
                for collection in group.rule_collections
                for rule in collection.rules
            ],
            [("Deny", "deny-9000", ["9000"], [f"{HUB}/ipGroups/ipg-nodes"])],
            "firewallPolicies/ruleCollectionGroups",
        ),
        (
            lambda net: net.ip_groups.get("rg-hub", "ipg-nodes"),
            lambda group: group.ip_addresses,
            ["10.1.0.0/24", "10.2.0.7"],
            "ipGroups",
        ),
        (
            lambda net: net.application_security_groups.get("rg-hub", "asg-hub"),
            lambda group: group.name,
            "asg-hub",
            "applicationSecurityGroups",
        ),
    ],
)
async def test_single_resources(
    sim: RunningSimulator, call: Call, see: Callable[[Any], Any], seen: Any, action: str
) -> None:
    """The SDK reads what the document says."""
    async with client(NetworkManagementClient, sim) as network:
        assert see(await call(network)) == seen
    assert sim.actions() == {f"Microsoft.Network/{action}/read": 1}


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda net: net.azure_firewalls.get("rg-hub", "none"), "ResourceNotFound"),
        (lambda net: net.ip_groups.get("rg-hub", "none"), "ResourceNotFound"),
        (
            lambda net: net.firewall_policy_rule_collection_groups.get("rg-hub", "afwp", "none"),
            "ResourceNotFound",
        ),
        (
            lambda net: net.firewall_policy_rule_collection_groups.get("rg-hub", "none", "rcg-aks"),
            "ParentResourceNotFound",
        ),
    ],
)
async def test_what_is_not_there(
    sim: RunningSimulator, call: Callable[[Any], Awaitable[Any]], code: str
) -> None:
    """404 with ARM's code for it."""
    async with client(NetworkManagementClient, sim) as network:
        with pytest.raises(ResourceNotFoundError) as missing:
            await call(network)
    assert code_of(missing.value) == code


# Service tags


@pytest.mark.parametrize("location", ["westeurope", "northeurope", "NowhereCentral"])
async def test_every_location_has_every_tag(sim: RunningSimulator, location: str) -> None:
    """The location is a reference and no filter."""
    async with client(NetworkManagementClient, sim) as network:
        listed = await network.service_tags.list(location)
    assert (listed.change_number, listed.cloud) == ("125", "Public")
    found = {tag.name: tag.properties.address_prefixes for tag in listed.values_property}
    assert found == {
        "AzureCloud.westeurope": ["20.101.0.0/16", "2603:1020:206::/47"],
        "AzureCloud.northeurope": ["20.107.0.0/16"],
    }
    assert sim.actions() == {TAGS_ACTION: 1}


TAGS_PATH = f"{SUBSCRIPTION}/providers/Microsoft.Network/locations/westeurope/serviceTags"


def test_tags_are_served_as_they_are_written(sim: RunningSimulator) -> None:
    """Also what the SDK's models have no name for; paths are in any case, and nothing is cut into pages."""
    for path in (TAGS_PATH, TAGS_PATH.upper().replace("/SUBSCRIPTIONS/", "/subscriptions/")):
        status, headers, body = ask(sim, f"{path}?api-version=2026-03-01")
        assert (status, body) == (200, TAGS)
        assert "x-ms-ratelimit-remaining-subscription-reads" in headers


async def test_a_fleet_without_tags(tmp_path: Path) -> None:
    """A list of none, and what the file says from then on."""
    (tmp_path / "resources.json").write_text(json.dumps(RESOURCES))
    with RunningSimulator(tmp_path) as simulator:
        async with client(NetworkManagementClient, simulator) as network:
            listed = await network.service_tags.list("westeurope")
            assert (listed.name, listed.type) == ("Public", "Microsoft.Network/serviceTags")
            assert listed.id == TAGS["id"]
            assert listed.values_property == []
            (tmp_path / "service-tags.json").write_text(json.dumps(TAGS))
            wait_for(lambda: simulator.health()["serviceTags"] == 2)
            assert len((await network.service_tags.list("westeurope")).values_property) == 2


@pytest.mark.parametrize(
    ("method", "path", "version", "status", "code"),
    [
        ("GET", TAGS_PATH, "2018-10-01", 400, "NoRegisteredProviderFound"),
        ("GET", TAGS_PATH, "", 400, "MissingApiVersionParameter"),
        ("POST", TAGS_PATH, "2026-03-01", 405, "HttpMethodNotAllowed"),
        ("GET", f"{TAGS_PATH}/Sql", "2026-03-01", 404, "InvalidResourceType"),
        ("GET", f"{HUB}/locations/westeurope/serviceTags", "2026-03-01", 404, "InvalidResourceType"),
        (
            "GET",
            TAGS_PATH.replace(WORKLOADS, "00000000-0000-0000-0000-000000000000"),
            "2026-03-01",
            404,
            "SubscriptionNotFound",
        ),
    ],
)
def test_requests_for_tags_that_are_refused(
    sim: RunningSimulator, method: str, path: str, version: str, status: int, code: str
) -> None:
    """The same checks as for any list, in ARM's words."""
    query = f"?api-version={version}" if version else ""
    received, _, body = ask(sim, path + query, method=method)
    assert (received, body["error"]["code"]) == (status, code)


# Security admin rules


def rules_path(network: str = VNET, query: str = "") -> str:
    """The path of the action on a virtual network."""
    return f"{network}/listNetworkManagerEffectiveSecurityAdminRules?api-version=2026-03-01{query}"


async def every_page(
    network: Any, name: str = "vnet-web", group: str = "rg-spoke", **options: Any
) -> list[list[Any]]:
    """The rules of a virtual network, page by page as the SDK has to ask for them."""
    pages: list[list[Any]] = []
    token = None
    while token or not pages:
        answer = await network.list_network_manager_effective_security_admin_rules(
            group, name, QueryRequestOptions(skip_token=token), **options
        )
        pages.append(answer.value)
        token = answer.skip_token
    return pages


async def test_the_rules_of_a_network(sim: RunningSimulator) -> None:
    """Of every network manager, under the network's id in any case; custom and default ones."""
    async with client(NetworkManagementClient, sim) as network:
        ((kubelet, rdp, dns),) = await every_page(network, "Vnet-WEB", "RG-spoke", top=100)
    assert isinstance(kubelet, EffectiveSecurityAdminRule)
    assert isinstance(rdp, EffectiveDefaultSecurityAdminRule)
    assert (kubelet.access, kubelet.priority, kubelet.direction) == ("Deny", 10, "Inbound")
    assert [source.address_prefix for source in kubelet.sources] == ["*"]
    assert (rdp.flag, rdp.access) == ("BLOCK_RDP", "Deny")
    assert (dns.access, dns.protocol, dns.priority) == ("AlwaysAllow", "Any", 5)
    assert sim.actions() == {ADMIN_ACTION: 1}
    (request,) = sim.requests()
    assert (request["method"], request["status"], request["subscription"]) == ("POST", 200, WORKLOADS)


async def test_a_network_without_rules(sim: RunningSimulator) -> None:
    """One that no file names has none, and that is no error."""
    async with client(NetworkManagementClient, sim) as network:
        assert await every_page(network, "vnet-hub", "rg-hub") == [[]]


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({}, [3, 3, 1]),
        ({"top": 100}, [3, 3, 1]),
        ({"top": 3}, [3, 3, 1]),
        ({"top": 2}, [2, 2, 2, 1]),
        ({"top": 1}, [1] * 7),
    ],
)
async def test_rules_come_in_pages(tmp_path: Path, options: dict[str, Any], sizes: list[int]) -> None:
    """No longer than asked for, nor than the simulator's pages; the last one has no token."""
    with RunningSimulator(write_fleet(tmp_path), "--page-size", "3") as simulator:
        simulator.set_admin_rules(VNET, *(admin_rule(f"r{number}") for number in range(7)))
        async with client(NetworkManagementClient, simulator) as network:
            pages = await every_page(network, **options)
    assert [len(page) for page in pages] == sizes
    assert [rule.id.rpartition("/")[2] for page in pages for rule in page] == [f"r{n}" for n in range(7)]


@given(
    count=st.integers(0, 30),
    page_size=st.integers(1, 12),
    top=st.none() | st.integers(1, 12),
)
@settings(deadline=None)
def test_the_pages_make_the_list(count: int, page_size: int, top: int | None) -> None:
    """Whatever the sizes: each rule once, in order, no page too long, and none empty but of an empty list."""
    rules = [admin_rule(f"r{number}") for number in range(count)]
    seen: list[Document] = []
    sizes: list[int] = []
    body = b"{}"
    while True:
        page = admin_rules.page(rules, body=body, top=None if top is None else str(top), page_size=page_size)
        seen += page["value"]
        sizes.append(len(page["value"]))
        if "skipToken" not in page:
            break
        body = json.dumps({"skipToken": page["skipToken"]}).encode()
    assert seen == rules
    assert max(sizes) <= min(page_size, top or page_size)
    assert 0 not in sizes or sizes == [0]


@pytest.mark.parametrize("body", ["{}", '{"skipToken": null}', '{"skipToken": ""}', '{"other": 1}'])
def test_a_body_without_a_token(sim: RunningSimulator, body: str) -> None:
    """It asks for the first page."""
    status, headers, answer = ask(sim, rules_path(), method="POST", body=body)
    assert (status, len(answer["value"]), "skipToken" in answer) == (200, 3, False)
    assert "x-ms-ratelimit-remaining-subscription-writes" in headers
    assert answer["value"][0] == admin_rule("deny-kubelet")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (rules_path(), '{"skipToken": "abc"}', 400, "InvalidSkipToken"),
        (rules_path(), '{"skipToken": "ZnJvbTotMQ=="}', 400, "InvalidSkipToken"),
        (rules_path(), "{", 400, "InvalidRequestFormat"),
        (rules_path(), "", 400, "InvalidRequestFormat"),
        (rules_path(), "null", 400, "InvalidRequestFormat"),
        (rules_path(), "[]", 400, "InvalidRequestFormat"),
        (rules_path(), '{"skipToken": 1}', 400, "InvalidRequestFormat"),
        (rules_path(query="&$top=0"), "{}", 400, "InvalidParameter"),
        (rules_path(query="&$top=ten"), "{}", 400, "InvalidParameter"),
        (rules_path(query="&$top=" + "9" * 5000), "{}", 400, "InvalidParameter"),
        (rules_path().replace("2026-03-01", "2018-10-01"), "{}", 400, "NoRegisteredProviderFound"),
        (rules_path().replace("2026-03-01", ""), "{}", 400, "MissingApiVersionParameter"),
        (rules_path(f"{SPOKE}/virtualNetworks/none"), "{}", 404, "ResourceNotFound"),
        (rules_path(VNET.replace("rg-spoke", "rg-none")), "{}", 404, "ResourceGroupNotFound"),
        (rules_path(f"{SPOKE}/routeTables/rt-web"), "{}", 404, "InvalidResourceType"),
    ],
)
def test_requests_for_rules_that_are_refused(
    sim: RunningSimulator, path: str, body: str, status: int, code: str
) -> None:
    """In ARM's error body, and written down like any other request."""
    received, _, answer = ask(sim, path, method="POST", body=body)
    assert (received, answer["error"]["code"]) == (status, code)
    assert [item["status"] for item in sim.requests()] == [status]


def test_rules_are_asked_for_with_a_post(sim: RunningSimulator) -> None:
    """Nothing else is known at that path."""
    for method in ("GET", "PUT", "DELETE"):
        status, _, body = ask(sim, rules_path(), method=method)
        assert (status, body["error"]["code"]) == (404, "InvalidResourceType")


@pytest.mark.parametrize(
    ("action", "scope", "refused"),
    [
        (ADMIN_ACTION.lower(), SUBSCRIPTION, {"rules"}),
        (ADMIN_ACTION, VNET.upper(), {"rules"}),
        (ADMIN_ACTION, f"{HUB}/virtualNetworks/vnet-hub", set()),
        (TAGS_ACTION, SUBSCRIPTION, {"tags"}),
        (TAGS_ACTION, f"{SUBSCRIPTION}/resourceGroups/rg-hub", set()),
        ("*/read", SUBSCRIPTION, {"tags"}),
        ("*/action", SUBSCRIPTION, {"rules"}),
        ("*", SUBSCRIPTION, {"rules", "tags"}),
    ],
)
async def test_what_may_not_be_done(tmp_path: Path, action: str, scope: str, refused: set[str]) -> None:
    """403 in ARM's words, by the action's own name and where it was denied."""
    denial = {"scope": scope, "actions": [action]}
    (write_fleet(tmp_path) / "access.json").write_text(json.dumps({"deny": [denial]}))
    calls: dict[str, tuple[str, Call]] = {
        "rules": (ADMIN_ACTION, every_page),
        "tags": (TAGS_ACTION, lambda net: net.service_tags.list("westeurope")),
    }
    with RunningSimulator(tmp_path) as simulator:
        async with client(NetworkManagementClient, simulator) as network:
            for name, (own, call) in calls.items():
                if name not in refused:
                    await call(network)
                    continue
                with pytest.raises(HttpResponseError, match=f"to perform action '{own}' over") as denied:
                    await call(network)
                assert (denied.value.status_code, code_of(denied.value)) == (403, "AuthorizationFailed")


async def test_rules_are_spent_from_the_writes(tmp_path: Path) -> None:
    """Two at once and no third, however many reads are left."""
    with RunningSimulator(write_fleet(tmp_path), "--writes", "2:0.01") as simulator:
        async with client(NetworkManagementClient, simulator) as network:
            for _ in range(2):
                await every_page(network)
            with pytest.raises(HttpResponseError, match="Number of 'write' requests") as throttled:
                await every_page(network)
            await network.service_tags.list("westeurope")
    assert throttled.value.status_code == 429


@pytest.mark.parametrize(
    ("kind", "status"), [("403", 403), ("429", 429), ("503", 503), ("empty", None), ("malformed", None)]
)
@pytest.mark.parametrize("action", [ADMIN_ACTION, TAGS_ACTION])
async def test_faults_happen_here_too(
    sim: RunningSimulator, kind: str, status: int | None, action: str
) -> None:
    """Once, by the action's name; then all is well again."""

    async def both(network: Any) -> None:
        await network.service_tags.list("westeurope")
        await every_page(network)

    sim.fault(kind=kind, match={"action": action}, times=1)
    async with client(NetworkManagementClient, sim) as network:
        with pytest.raises((HttpResponseError, json.JSONDecodeError)) as broken:
            await both(network)
        if status:
            assert isinstance(broken.value, HttpResponseError)
            assert broken.value.status_code == status
        await both(network)
    assert [item["fault"] for item in sim.requests() if item["fault"]] == [kind]


async def test_rules_are_set_while_it_runs(tmp_path: Path) -> None:
    """What a test sets stands until the files say something new of that network, or all are read again."""
    fleet = write_fleet(tmp_path)
    with RunningSimulator(fleet) as simulator:
        async with client(NetworkManagementClient, simulator) as network:

            async def names() -> list[str]:
                return [rule.id.rpartition("/")[2] for page in await every_page(network) for rule in page]

            simulator.set_admin_rules(VNET.upper(), admin_rule("mine"))
            assert await names() == ["mine"]
            assert [*simulator.call("GET", "/_sim/admin-rules")] == [VNET.lower()]
            hub = f"{HUB}/virtualNetworks/vnet-hub"
            (fleet / "hub.adminrules.json").write_text(json.dumps({hub: [admin_rule("hub")]}))
            wait_for(lambda: simulator.health()["adminRules"] == 2)
            assert await names() == ["mine"]
            (fleet / "two.adminrules.json").unlink()
            wait_for(lambda: simulator.health()["adminRules"] == 3)
            assert await names() == ["deny-kubelet", "block-rdp"]
            simulator.set_admin_rules(VNET)
            assert await names() == []
            simulator.reload()
            assert await names() == ["deny-kubelet", "block-rdp"]


def test_a_token_beyond_the_end() -> None:
    """A list that has become shorter since ends there."""
    rules = [admin_rule("a"), admin_rule("b")]
    token = admin_rules.page(rules, body=b"{}", top="1", page_size=50)["skipToken"]
    body = json.dumps({"skipToken": token}).encode()
    assert admin_rules.page(rules[:1], body=body, top=None, page_size=50) == {"value": []}
    with pytest.raises(ArmError, match="The skip token 'x' is invalid"):
        admin_rules.page(rules, body=b'{"skipToken": "x"}', top=None, page_size=50)
