"""The way to the control plane as it is read: names, routes, firewalls, service tags, admin rules."""

import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from aiohttp import web

from facts.filters import Firewall, Missing, RouteTable
from facts.snapshot import Snapshot, Subnet
from pipeline import settings
from pipeline.clients import Clients
from pipeline.collect import collect, names
from pipeline.collect.inventory import ADMIN_RULES, ADMIN_RULES_PAGE, RULE_COLLECTION_GROUPS, Inventory
from pipeline.collect.kinds import FIREWALLS, IP_GROUPS, POLICIES, ROUTE_TABLES
from tests.processes import free_ports
from tests.simulator import SAMPLE, WORKLOADS, RunningSimulator, documents

Resource = dict[str, Any]

SECURE = "aks-secure-weu"
"""Routed through the firewall of the hub."""
CLUSTERS = ("aks-web-weu", "aks-internal-weu", "aks-auto-neu", SECURE)
ADDRESS = "20.101.7.4"
APPLIANCE = "10.0.1.4"
NETWORK = f"/subscriptions/{WORKLOADS}/resourceGroups"
HUB = f"{NETWORK}/rg-hub-weu/providers/Microsoft.Network"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSimulator]:
    """Some clusters and the hub, with nothing forbidden, and a list of service tags of our own."""
    fleet = tmp_path_factory.mktemp("fleet")
    for name in (*CLUSTERS, "hub-weu"):
        shutil.copytree(SAMPLE / name, fleet / name)
    for file in fleet.rglob("*.adminrules.json"):
        file.unlink()
    tags = {
        "AzureCloud.westeurope": ["20.101.0.0/16", "2603:1020::/32"],
        "AzureCloud.northeurope": ["20.50.0.0/16"],
        "Storage.WestEurope": ["20.60.0.0/24"],
    }
    document = {
        "name": "Public",
        "id": f"/subscriptions/{WORKLOADS}/providers/Microsoft.Network/serviceTags/Public",
        "type": "Microsoft.Network/serviceTags",
        "values": [
            {"name": name, "id": name, "properties": {"addressPrefixes": prefixes}}
            for name, prefixes in tags.items()
        ],
    }
    (fleet / "service-tags.json").write_text(json.dumps(document))
    with RunningSimulator(fleet, dns=True) as running:
        yield running


@pytest.fixture
def azure(shared: RunningSimulator) -> Iterator[RunningSimulator]:
    """The fleet as it is in its files, each API server's public name at one address."""
    shared.set_names({fqdn(name): [ADDRESS] for name in CLUSTERS})
    shared.clear_requests()
    yield shared
    shared.clear_faults()
    shared.reload()


@pytest.fixture
async def clients(azure: RunningSimulator, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Clients]:
    """Clients of the simulator, as the app makes them from its settings."""
    for name, value in azure.identity_env().items():
        monkeypatch.setenv(name, value)
    made = Clients(settings.load())
    yield made
    await made.close()


def cluster(name: str) -> Resource:
    """A cluster's own document."""
    [found] = documents(name, "/managedClusters")
    return found


def fqdn(name: str, field: str = "fqdn") -> str:
    """The name of a cluster's API server."""
    return str(cluster(name)["properties"][field])


async def seen(clients: Clients, name: str) -> Snapshot:
    """What a scan of a cluster reads."""
    found = await collect(Inventory(clients), cluster(name)["id"])
    assert isinstance(found, Snapshot)
    return found


# --- where the API server is ---------------------------------------------------------------------


async def test_a_public_name(clients: Clients) -> None:
    """It is what nodes use."""
    api_server = (await seen(clients, "aks-web-weu")).api_server
    assert api_server
    assert (api_server.fqdn, api_server.addresses) == (fqdn("aks-web-weu"), (ADDRESS,))


async def test_a_private_cluster_is_found_by_its_public_name(clients: Clients) -> None:
    """Nodes use the private name, which is known in their network alone."""
    api_server = (await seen(clients, "aks-internal-weu")).api_server
    assert api_server
    private = fqdn("aks-internal-weu", "privateFQDN")
    assert (api_server.fqdn, api_server.addresses) == (private, (ADDRESS,))


async def test_a_private_name_alone(azure: RunningSimulator, clients: Clients) -> None:
    """With the public one switched off: found where the resolver knows it, else a reason that names it."""
    document = cluster("aks-internal-weu")
    private = document["properties"]["privateFQDN"]
    del document["properties"]["fqdn"]
    azure.put(document)
    azure.set_names({private: ["10.43.255.4"]})
    api_server = (await seen(clients, "aks-internal-weu")).api_server
    assert api_server
    assert api_server.addresses == ("10.43.255.4",)
    azure.set_names({private: []})
    api_server = (await seen(clients, "aks-internal-weu")).api_server
    assert api_server
    assert isinstance(api_server.addresses, Missing)
    assert api_server.addresses.reason.code == "name_not_resolved"
    assert private in api_server.addresses.reason.message


async def test_a_name_that_nobody_answers_for(
    azure: RunningSimulator, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent resolver costs a cluster some seconds and one answer, not its scan."""
    monkeypatch.setattr(names, "ANSWER_SECONDS", 0.5)
    azure.set_names({fqdn("aks-web-weu"): "timeout"})
    found = await seen(clients, "aks-web-weu")
    assert found.api_server
    assert isinstance(found.api_server.addresses, Missing)
    assert found.api_server.addresses.reason.code == "timeout"
    assert found.pools


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("aks-auto-neu", {}),
        ("aks-web-weu", {"outboundType": "none"}),
        ("aks-web-weu", {"outboundType": "Block"}),
    ],
)
async def test_no_name_is_looked_up_that_nobody_needs(
    azure: RunningSimulator, clients: Clients, name: str, change: Resource
) -> None:
    """With VNet integration there is no tunnel; a cluster that is cut off has no way out to follow."""
    document = cluster(name)
    document["properties"]["networkProfile"] |= change
    azure.put(document)
    azure.set_names({fqdn(name): "timeout"})
    api_server = (await seen(clients, name)).api_server
    assert api_server
    assert api_server.addresses == ()
    integrated = name == "aks-auto-neu"
    assert isinstance(api_server.subnet, Subnet) == integrated


# --- what the tunnel is --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "setting", "tunnel"),
    [
        ({}, "", "konnectivity"),
        ({}, "tunnel-front", "tunnel-front"),
        ({"tunnelwatch:tunnel": "aks-link"}, "", "aks-link"),
        ({"Tunnelwatch:Tunnel": " AKS-Link "}, "tunnel-front", "aks-link"),
        ({"tunnelwatch:tunnel": "konnectivity"}, "tunnel-front", "konnectivity"),
        ({"tunnelwatch:tunnel": ""}, "tunnel-front", "tunnel-front"),
        ({"tunnelwatch:tunnel": "openvpn"}, "", "openvpn"),
    ],
)
async def test_which_tunnel_a_cluster_has(
    azure: RunningSimulator,
    monkeypatch: pytest.MonkeyPatch,
    tags: dict[str, str],
    setting: str,
    tunnel: str,
) -> None:
    """Its tag, in any case, or else the setting; what is none of the three is kept for the check to tell."""
    for name, value in azure.identity_env().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TUNNEL", setting)
    azure.put(cluster("aks-web-weu") | {"tags": tags})
    made = Clients(settings.load())
    try:
        assert (await seen(made, "aks-web-weu")).cluster.tunnel == tunnel
    finally:
        await made.close()


# --- routes and firewalls ------------------------------------------------------------------------


def own_appliances(snapshot: Snapshot) -> dict[str, Any]:
    """What stands on the way, by address."""
    return dict(snapshot.appliances)


async def test_a_firewall_with_its_policy(azure: RunningSimulator, clients: Clients) -> None:
    """The firewall at the address of the route, its rules in order, the addresses of the IP groups."""
    snapshot = await seen(clients, SECURE)
    [placement] = snapshot.pools[0].placements
    assert isinstance(placement.subnet, Subnet)
    assert isinstance(placement.subnet.routes, RouteTable)
    assert list(snapshot.appliances) == [APPLIANCE]
    firewall = snapshot.appliances[APPLIANCE]
    assert isinstance(firewall, Firewall)
    assert firewall.id.lower() == f"{HUB}/azureFirewalls/afw-hub-weu".lower()
    kinds = [rule.kind for rule in firewall.rules]
    assert kinds == sorted(kinds, key=["network", "application"].index)
    assert any(rule.fqdn_tags == ("AzureKubernetesService",) for rule in firewall.rules)
    assert "10.47.0.0/20" in {prefix for group in firewall.ip_groups.values() for prefix in group}
    assert not firewall.groups_missing
    assert firewall.groups
    asked = Counter(request["action"] for request in azure.requests())
    assert asked[FIREWALLS.action] == 1


async def test_a_parent_policys_rules_come_first(azure: RunningSimulator, clients: Clients) -> None:
    """Whatever its priorities; a circle of parents ends."""
    parent = f"{HUB}/firewallPolicies/afwp-top"
    own = f"{HUB}/firewallPolicies/afwp-hub-weu"
    rule = {
        "ruleType": "NetworkRule",
        "name": "deny-smb",
        "ipProtocols": ["TCP"],
        "sourceAddresses": ["*"],
        "destinationAddresses": ["*"],
        "destinationPorts": ["445"],
    }
    collection = {
        "ruleCollectionType": "FirewallPolicyFilterRuleCollection",
        "name": "baseline",
        "priority": 65000,
        "action": {"type": "Deny"},
        "rules": [rule],
    }
    child = azure.get(own)
    child["properties"]["basePolicy"] = {"id": parent.upper()}
    azure.put(
        {
            "id": parent,
            "name": "afwp-top",
            "location": "westeurope",
            "properties": {"basePolicy": {"id": own}},
        },
        {
            "id": f"{parent}/ruleCollectionGroups/baseline",
            "name": "baseline",
            "properties": {"priority": 65000, "ruleCollections": [collection]},
        },
        child,
    )
    firewall = (await seen(clients, SECURE)).appliances[APPLIANCE]
    assert isinstance(firewall, Firewall)
    network = [one.name for one in firewall.rules if one.kind == "network"]
    assert "deny-smb" in network
    assert network.index("deny-smb") < network.index("api-server")
    assert "baseline" not in firewall.groups


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (FIREWALLS.action, "permission_denied"),
        (RULE_COLLECTION_GROUPS, "permission_denied"),
        (POLICIES.action, "permission_denied"),
    ],
)
async def test_a_firewall_that_cannot_be_read(
    azure: RunningSimulator, clients: Clients, action: str, code: str
) -> None:
    """The reason names the action; nothing that was read is taken for the whole."""
    azure.fault(kind="403", match={"action": action})
    found = (await seen(clients, SECURE)).appliances[APPLIANCE]
    assert isinstance(found, Missing)
    assert (found.reason.code, found.reason.action) == (code, action)


async def test_an_ip_group_that_cannot_be_read(azure: RunningSimulator, clients: Clients) -> None:
    """The firewall is judged all the same: what hangs on the group alone is unknown."""
    azure.fault(kind="403", match={"action": IP_GROUPS.action})
    found = (await seen(clients, SECURE)).appliances[APPLIANCE]
    assert isinstance(found, Firewall)
    assert not found.ip_groups
    assert {one.reason.action for one in found.groups_missing.values()} == {IP_GROUPS.action}


@pytest.mark.parametrize(
    "edit",
    [
        lambda firewall: firewall["properties"]["ipConfigurations"][0]["properties"].update(
            privateIPAddress="10.0.1.9"
        ),
        lambda firewall: firewall["properties"]["ipConfigurations"][0]["properties"].update(
            subnet={"id": f"{HUB}/virtualNetworks/another/subnets/AzureFirewallSubnet"}
        ),
    ],
    ids=["at another address", "at the same address in a network that is not peered"],
)
async def test_an_appliance_that_is_no_firewall_we_see(
    azure: RunningSimulator, clients: Clients, edit: Callable[[Resource], object]
) -> None:
    """Nobody can say what it lets through; the reason has its address."""
    firewall = azure.get(f"{HUB}/azureFirewalls/afw-hub-weu")
    edit(firewall)
    azure.put(firewall)
    found = (await seen(clients, SECURE)).appliances[APPLIANCE]
    assert isinstance(found, Missing)
    assert found.reason.code == "unreadable_appliance"
    assert APPLIANCE in found.reason.message


async def test_a_firewall_of_a_virtual_hub(azure: RunningSimulator, clients: Clients) -> None:
    """Its address alone does not say that it is the one of the hub that this network is connected to."""
    firewall = azure.get(f"{HUB}/azureFirewalls/afw-hub-weu")
    firewall["properties"] |= {
        "ipConfigurations": None,
        "sku": {"name": "AZFW_Hub", "tier": "Standard"},
        "virtualHub": {"id": f"{HUB}/virtualHubs/hub"},
        "hubIPAddresses": {"privateIPAddress": APPLIANCE},
    }
    azure.put(firewall)
    found = (await seen(clients, SECURE)).appliances[APPLIANCE]
    assert isinstance(found, Missing)
    assert found.reason.code == "unreadable_appliance"
    assert firewall["name"] in found.reason.message


async def test_a_policy_id_that_is_none(azure: RunningSimulator, clients: Clients) -> None:
    """One odd reference makes a firewall unreadable; it does not end the scan."""
    firewall = azure.get(f"{HUB}/azureFirewalls/afw-hub-weu")
    firewall["properties"]["firewallPolicy"] = {"id": "afwp-hub-weu"}
    azure.put(firewall)
    found = (await seen(clients, SECURE)).appliances[APPLIANCE]
    assert isinstance(found, Missing)
    assert found.reason.code == "malformed_answer"


async def test_firewalls_are_read_only_where_a_route_leads_to_one(
    azure: RunningSimulator, clients: Clients
) -> None:
    """A cluster with kubenet has routes too, from node to node."""
    snapshot = await seen(clients, "aks-web-weu")
    assert any(
        isinstance(placement.subnet, Subnet) and isinstance(placement.subnet.routes, RouteTable)
        for placement in snapshot.pools[0].placements
    )
    assert own_appliances(snapshot) == {}
    assert FIREWALLS.action not in azure.actions()


async def test_a_route_table_that_cannot_be_read(azure: RunningSimulator, clients: Clients) -> None:
    """The subnet says so, with the action."""
    azure.fault(kind="403", match={"action": ROUTE_TABLES.action})
    [placement] = (await seen(clients, SECURE)).pools[0].placements
    assert isinstance(placement.subnet, Subnet)
    assert isinstance(placement.subnet.routes, Missing)
    assert placement.subnet.routes.reason.action == ROUTE_TABLES.action


# --- service tags --------------------------------------------------------------------------------


async def test_tags_are_read_where_one_is_named_and_kept_for_a_day(
    azure: RunningSimulator, clients: Clients
) -> None:
    """The firewall's rules name one: it alone is in the snapshot. The next scan does not ask again."""
    snapshot = await seen(clients, SECURE)
    assert not isinstance(snapshot.service_tags, Missing)
    assert dict(snapshot.service_tags) == {"azurecloud.westeurope": ("20.101.0.0/16", "2603:1020::/32")}
    again = await seen(clients, SECURE)
    assert again.service_tags == snapshot.service_tags
    assert azure.actions()["Microsoft.Network/locations/serviceTags/read"] == 1


async def test_tags_are_not_read_where_none_is_named(azure: RunningSimulator, clients: Clients) -> None:
    """VirtualNetwork, Internet and AzureLoadBalancer follow from the network itself."""
    snapshot = await seen(clients, "aks-internal-weu")
    assert snapshot.service_tags == {}
    assert "Microsoft.Network/locations/serviceTags/read" not in azure.actions()


async def test_tags_that_cannot_be_read(azure: RunningSimulator, clients: Clients) -> None:
    """The reason is kept for what hangs on them, and the next scan tries again."""
    azure.fault(kind="403", match={"action": "Microsoft.Network/locations/serviceTags/read"})
    found = (await seen(clients, SECURE)).service_tags
    assert isinstance(found, Missing)
    assert found.reason.action == "Microsoft.Network/locations/serviceTags/read"
    azure.clear_faults()
    assert not isinstance((await seen(clients, SECURE)).service_tags, Missing)


async def test_tags_may_come_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's call does not follow the link to the next page."""

    async def serve(request: web.Request) -> web.Response:
        if request.path == "/msi/token":
            token = {"access_token": "t", "expires_on": "4102444800", "resource": "r", "token_type": "Bearer"}
            return web.json_response(token)
        page = int(request.query.get("page", "1"))
        value = {"name": f"Tag{page}", "properties": {"addressPrefixes": [f"20.{page}.0.0/16"]}}
        body: Resource = {"values": [value]}
        if page < 3:
            body["nextLink"] = str(request.url.update_query({"page": str(page + 1)}))
        return web.json_response(body)

    app = web.Application()
    app.router.add_get("/{path:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    [port] = free_ports(1)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    monkeypatch.setenv("ARM_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{port}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "x")
    made = Clients(settings.load())
    try:
        tags = await Inventory(made).service_tags(WORKLOADS, "westeurope")
    finally:
        await made.close()
        await runner.cleanup()
    assert tags == {f"tag{page}": (f"20.{page}.0.0/16",) for page in (1, 2, 3)}


# --- admin rules ---------------------------------------------------------------------------------


def admin_rule(number: int) -> Resource:
    """One rule as Azure lists it."""
    return {
        "id": f"{NETWORK}/g/providers/Microsoft.Network/networkManagers/m/securityAdminConfigurations/c"
        f"/ruleCollections/r/rules/rule-{number}",
        "kind": "Custom",
        "properties": {
            "protocol": "Tcp",
            "sources": [{"addressPrefix": "*", "addressPrefixType": "IPPrefix"}],
            "destinations": [{"addressPrefix": "*", "addressPrefixType": "IPPrefix"}],
            "sourcePortRanges": ["0-65535"],
            "destinationPortRanges": ["10250"],
            "access": "Deny",
            "priority": number,
            "direction": "Inbound",
        },
    }


def network_of(snapshot: Snapshot) -> Any:
    """The virtual network of the first pool."""
    subnet = snapshot.pools[0].placements[0].subnet
    assert isinstance(subnet, Subnet)
    return subnet.network


async def test_admin_rules_in_pages(azure: RunningSimulator, clients: Clients) -> None:
    """All of them, by the token that each page has in its body; asked once for all subnets of the network."""
    network = network_of(await seen(clients, SECURE))
    assert network.admin_rules is None
    wanted = 2 * ADMIN_RULES_PAGE + 1
    azure.set_admin_rules(network.id, *(admin_rule(number) for number in range(1, wanted + 1)))
    azure.clear_requests()
    found = network_of(await seen(clients, SECURE)).admin_rules
    assert [rule.name for rule in found.rules] == [f"rule-{number}" for number in range(1, wanted + 1)]
    posts = [request for request in azure.requests() if "listNetworkManager" in request["path"]]
    assert len(posts) == 3
    assert {request["action"] for request in posts} == {ADMIN_RULES}


async def test_admin_rules_that_cannot_be_read(azure: RunningSimulator, clients: Clients) -> None:
    """Not none: missing, with the action."""
    azure.fault(kind="403", match={"action": ADMIN_RULES})
    found = network_of(await seen(clients, SECURE)).admin_rules
    assert isinstance(found, Missing)
    assert (found.reason.code, found.reason.action) == ("permission_denied", ADMIN_RULES)


async def test_an_odd_admin_rule_is_not_left_out(azure: RunningSimulator, clients: Clients) -> None:
    """One that cannot be understood makes all of them missing: it may deny anything."""
    network = network_of(await seen(clients, SECURE))
    odd = admin_rule(1)
    del odd["properties"]["priority"]
    azure.set_admin_rules(network.id, odd, admin_rule(2))
    found = network_of(await seen(clients, SECURE)).admin_rules
    assert isinstance(found, Missing)
    assert found.reason.code == "malformed_answer"
    assert "rule-1" in found.reason.message
