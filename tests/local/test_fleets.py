"""The sample fleet and the generator: what they hold is what Azure returns, and hangs together."""

import ipaddress
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.mgmt.compute import models as compute
from azure.mgmt.containerservice import models as aks
from azure.mgmt.network import models as network
from azure.mgmt.resource.subscriptions import models as subscriptions

from local.azure import fleet
from local.azure.actions import TYPES
from local.azure.arm import ArmPath
from local.azure.machines import Layout
from local.azure.store import Store
from local.fleets import build
from local.fleets.clusters import Cluster, Gateway, Pool
from local.fleets.documents import documents
from local.fleets.outbound import default_ports
from local.fleets.scenario import NODES, PLATFORM, SUBSCRIPTIONS, WORKLOADS, byo
from local.fleets.scenarios import LOST, sample
from local.fleets.use import Shape
from local.nodes.client import Fabric, unavailable
from packets.addresses import parse_prefixes
from tests.simulator import ROOT, SAMPLE, RunningSimulator

OUTCOMES = Path(__file__).parent / "sample_outcomes.json"

MODELS: dict[str, Any] = {
    "microsoft.containerservice/managedclusters": aks.ManagedCluster,
    "microsoft.compute/virtualmachines": compute.VirtualMachine,
    "microsoft.compute/virtualmachinescalesets": compute.VirtualMachineScaleSet,
    "microsoft.compute/virtualmachinescalesets/virtualmachines": compute.VirtualMachineScaleSetVM,
    "microsoft.compute/virtualmachinescalesets/virtualmachines/networkinterfaces": network.NetworkInterface,
    "microsoft.network/applicationsecuritygroups": network.ApplicationSecurityGroup,
    "microsoft.network/azurefirewalls": network.AzureFirewall,
    "microsoft.network/firewallpolicies": network.FirewallPolicy,
    "microsoft.network/firewallpolicies/rulecollectiongroups": network.FirewallPolicyRuleCollectionGroup,
    "microsoft.network/ipgroups": network.IpGroup,
    "microsoft.network/loadbalancers": network.LoadBalancer,
    "microsoft.network/natgateways": network.NatGateway,
    "microsoft.network/networkinterfaces": network.NetworkInterface,
    "microsoft.network/networksecuritygroups": network.NetworkSecurityGroup,
    "microsoft.network/publicipaddresses": network.PublicIPAddress,
    "microsoft.network/publicipprefixes": network.PublicIPPrefix,
    "microsoft.network/routetables": network.RouteTable,
    "microsoft.network/virtualnetworks": network.VirtualNetwork,
    "microsoft.resources": subscriptions.Subscription,
}
"""The SDK's model of each type that the sample holds."""

UNMODELLED = {
    "allowPort25Out",  # of a network interface
    "privateIPAllocationMethod",  # of a firewall's IP configuration
}
"""What Azure returns and the SDK has no name for."""


@pytest.fixture(scope="module")
def content() -> fleet.Fleet:
    """The sample as it is loaded."""
    return fleet.load(SAMPLE)


def unmodelled(value: Any, path: str = "") -> Iterator[str]:
    """Every property that the SDK's models do not have; each of the others is read on the way."""
    if hasattr(type(value), "_attr_to_rest_field"):
        names = {part._rest_name: name for name, part in type(value)._attr_to_rest_field.items()}
        for key in value:
            if key not in names:
                yield f"{path}.{key}"
            else:
                yield from unmodelled(getattr(value, names[key]), f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from unmodelled(item, f"{path}[]")


def test_every_resource_fits_the_sdks_model(content: fleet.Fleet) -> None:
    """Each property is one that the SDK knows, and of the type that it expects."""
    for identifier, document in content.resources.items():
        path = ArmPath.parse(identifier)
        model = MODELS[path.type.lower()](document)
        strangers = {found for found in unmodelled(model) if found.rpartition(".")[2] not in UNMODELLED}
        assert not strangers, identifier


async def test_every_resource_is_served(content: fleet.Fleet) -> None:
    """A GET of each id, as it is written in its document, finds it; the forbidden one is forbidden."""
    versions = {name: kind.versions[0] for name, kind in TYPES.items()}
    with RunningSimulator(SAMPLE, "--no-throttle") as simulator:
        headers = {"Authorization": f"Bearer {simulator.token()}"}
        statuses: dict[int, list[str]] = {}
        for identifier, document in content.resources.items():
            version = versions.get(ArmPath.parse(identifier).type.lower(), "2022-12-01")
            path = f"{document['id']}?api-version={version}"
            status, _, body = simulator.raw("GET", path, headers=headers)
            statuses.setdefault(status, []).append(identifier)
            if status == 200:
                assert json.loads(body) == document
    assert statuses.keys() == {200, 403}
    assert [found.rpartition("/")[2] for found in statuses[403]] == ["nsg-audit-weu-nodes"]


ELSEWHERE = re.compile(
    r"/providers/microsoft\.(managedidentity|containerregistry|compute/galleries|containerservice"
    r"/managedclusters/[^/]+/privatelinkresources)/",
    re.IGNORECASE,
)
"""What the simulator does not serve, so that a fleet does not hold it."""


def references(value: Any) -> Iterator[str]:
    """Every id by which one document names another, in whatever property it stands."""
    if isinstance(value, dict):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, str) and "/providers/" in value.lower() and not ELSEWHERE.search(f"{value}/"):
        yield value


def test_nothing_points_nowhere(content: fleet.Fleet) -> None:
    """Whatever a document refers to is in the fleet: as a document, or inside one."""
    inside = {str(part["id"]).lower() for document in content.resources.values() for part in parts(document)}
    for identifier, document in content.resources.items():
        for reference in references(document):
            assert reference.lower() in inside, f"{identifier} refers to {reference}"


def parts(value: Any) -> Iterator[Any]:
    """Every object with an id and a name, however deep: documents and what lies in them."""
    if isinstance(value, dict):
        if "id" in value and "name" in value:
            yield value
        for item in value.values():
            yield from parts(item)
    elif isinstance(value, list):
        for item in value:
            yield from parts(item)


def test_the_sample_is_what_the_builder_makes(tmp_path: Path) -> None:
    """Nobody edited it by hand, or changed the builder without building."""
    build.write(tmp_path / "made", build.sample_files())
    assert files(tmp_path / "made") == files(SAMPLE)
    assert json.loads(OUTCOMES.read_text()) == build.outcomes(sample())


def files(directory: Path) -> dict[str, str]:
    """The content of every file, by its path."""
    return {
        str(file.relative_to(directory)): file.read_text() for file in directory.rglob("*") if file.is_file()
    }


def test_the_readme_tells_of_every_cluster() -> None:
    """Its table is the list of scenarios."""
    readme = (ROOT / "local" / "fleets" / "README.md").read_text()
    outcomes = r" \| (\w+)" * 7
    rows = re.findall(rf"^\| `(aks-[^`]+)` \| (\w+) \| (.+){outcomes} \|$", readme, re.MULTILINE)
    assert rows == [
        (
            item.cluster.name,
            SUBSCRIPTIONS[item.cluster.subscription],
            item.shows,
            *item.outcomes.values(),
        )
        for item in sample()
    ]


def test_the_sample_has_every_kind_of_cluster(content: fleet.Fleet) -> None:
    """The shapes that a check must tell apart are there, in two subscriptions."""
    clusters = [
        document["properties"] | {"subscription": identifier.split("/")[2]}
        for identifier, document in content.resources.items()
        if "/managedclusters/" in identifier
    ]
    assert len(clusters) == len(sample()) >= 14
    assert {item["subscription"] for item in clusters} == {WORKLOADS, PLATFORM}
    pools = [pool for item in clusters for pool in item["agentPoolProfiles"]]
    networks = [item["networkProfile"] for item in clusters]
    assert {pool["type"] for pool in pools} == {"VirtualMachineScaleSets", "VirtualMachines"}
    assert {pool["osType"] for pool in pools} == {"Linux", "Windows"}
    assert {item["powerState"]["code"] for item in clusters} == {"Running", "Stopped"}
    assert {item["networkPlugin"] for item in networks} == {"azure", "kubenet"}
    assert {item["outboundType"] for item in networks} == {
        "loadBalancer",
        "managedNATGateway",
        "none",
        "userDefinedRouting",
    }
    assert any("IPv6" in item["ipFamilies"] for item in networks)
    servers = [item["apiServerAccessProfile"] for item in clusters]
    assert any(item["enablePrivateCluster"] for item in servers)
    assert any(item.get("enableVnetIntegration") for item in servers)


def test_every_outcome_is_in_the_sample() -> None:
    """A check that always says the same is found out."""
    every = {"pass", "fail", "unknown", "not_applicable"}
    assert {item.outcome for item in sample()} == every
    assert {item.egress for item in sample()} == every
    assert {item.snat for item in sample()} == {item.capacity for item in sample()} == every


def test_every_api_server_has_a_name(content: fleet.Fleet) -> None:
    """Public ones in what their region's AzureCloud tag has, private ones inside their network."""
    clusters = {
        document["name"]: document
        for identifier, document in content.resources.items()
        if "/managedclusters/" in identifier
    }
    assert content.service_tags
    tags = {
        value["name"].lower(): [ipaddress.ip_network(one) for one in value["properties"]["addressPrefixes"]]
        for value in content.service_tags["values"]
    }
    called = set()
    for item in sample():
        cluster = clusters[item.cluster.name]
        for field in ("fqdn", "privateFQDN"):
            if name := cluster["properties"].get(field):
                called.add(name)
        if item.cluster.name == LOST:
            assert content.names[cluster["properties"]["fqdn"].lower()] == ()
            continue
        answer = content.names[cluster["properties"]["fqdn"].lower()]
        assert isinstance(answer, tuple)
        [text] = answer
        address = ipaddress.ip_address(text)
        space = tags[f"azurecloud.{cluster['location']}"]
        if item.cluster.private:
            assert item.cluster.network
            space = [ipaddress.ip_network(prefix) for prefix in item.cluster.network.prefixes]
        assert any(address in prefix for prefix in space), item.cluster.name
    assert {name.lower() for name in called} == set(content.names)


def test_regional_tags_are_parts_of_the_whole(content: fleet.Fleet) -> None:
    """As Azure publishes them; of both address families, in both spellings of a region."""
    assert content.service_tags
    tags = {
        value["name"]: [ipaddress.ip_network(one) for one in value["properties"]["addressPrefixes"]]
        for value in content.service_tags["values"]
    }
    regional = {name for name in tags if name.partition(".")[2].lower() in {"westeurope", "northeurope"}}
    assert {"AzureCloud.westeurope", "Storage.WestEurope"} <= regional
    for name in regional:
        assert {prefix.version for prefix in tags[name]} == {4, 6}
        whole = parse_prefixes(str(prefix) for prefix in tags[name.partition(".")[0]])
        assert not parse_prefixes(str(prefix) for prefix in tags[name]) - whole, name


def test_admin_rules_are_in_force_on_networks_of_the_fleet(content: fleet.Fleet) -> None:
    """In the SDK's terms, of both kinds of access that are final."""
    accesses = set()
    for identifier, rules in content.admin_rules.items():
        assert identifier.lower() in content.resources
        for rule in rules:
            assert not set(unmodelled(network.EffectiveSecurityAdminRule(rule)))
            accesses.add(rule["properties"]["access"])
    assert accesses == {"Deny", "AlwaysAllow"}


def of_type(content: fleet.Fleet, kind: str, name: str = "") -> list[Any]:
    """The documents of a type whose id holds a name."""
    return [
        document
        for identifier, document in content.resources.items()
        if ArmPath.parse(identifier).type.lower() == kind.lower() and name in identifier
    ]


def test_peerings_have_two_ends(content: fleet.Fleet) -> None:
    """Each hub and spoke name each other, with the space that the other one has."""
    networks = {
        document["id"].lower(): document["properties"]
        for document in of_type(content, "Microsoft.Network/virtualNetworks")
    }
    ends = {}
    for identifier, network_properties in networks.items():
        for peering in network_properties["virtualNetworkPeerings"]:
            remote = peering["properties"]["remoteVirtualNetwork"]["id"].lower()
            space = peering["properties"]["remoteVirtualNetworkAddressSpace"]
            assert space == networks[remote]["addressSpace"]
            ends[identifier, remote] = peering["name"]
    assert len(ends) == 4
    assert {(remote, identifier) for identifier, remote in ends} == set(ends)


def test_the_firewall_serves_one_of_its_two_spokes(content: fleet.Fleet) -> None:
    """Both are routed to it; its rules name the nodes of the first alone, and its parent's not TCP 443."""
    [firewall] = of_type(content, "Microsoft.Network/azureFirewalls")
    [address] = [one["properties"]["privateIPAddress"] for one in firewall["properties"]["ipConfigurations"]]
    routed = {
        table["name"]
        for table in of_type(content, "Microsoft.Network/routeTables")
        for route in table["properties"]["routes"]
        if (route["properties"]["addressPrefix"], route["properties"].get("nextHopIpAddress"))
        == ("0.0.0.0/0", address)
    }
    assert routed == {"rt-aks-secure-weu", "rt-aks-tenant-weu"}
    [group] = of_type(content, "Microsoft.Network/ipGroups")
    assert group["properties"]["ipAddresses"] == ["10.47.0.0/20"]
    policies = {
        policy["name"]: policy["properties"]
        for policy in of_type(content, "Microsoft.Network/firewallPolicies")
    }
    [base] = [one["basePolicy"]["id"] for one in policies.values() if "basePolicy" in one]
    assert set(policies) == {"afwp-hub-weu", base.rpartition("/")[2]}
    rules = [
        rule
        for one in of_type(content, "Microsoft.Network/firewallPolicies/ruleCollectionGroups", base.lower())
        for collection in one["properties"]["ruleCollections"]
        for rule in collection["rules"]
    ]
    assert {port for rule in rules for port in rule["destinationPorts"]} == {"445", "123"}


def test_no_firewall_stands_at_the_other_appliance(content: fleet.Fleet) -> None:
    """It has an address of a subnet, which is none of an Azure Firewall."""
    [table] = of_type(content, "Microsoft.Network/routeTables", "branch")
    [hop] = [route["properties"]["nextHopIpAddress"] for route in table["properties"]["routes"]]
    [network_document] = of_type(content, "Microsoft.Network/virtualNetworks", "branch")
    [home] = [
        subnet["name"]
        for subnet in network_document["properties"]["subnets"]
        if ipaddress.ip_address(hop) in ipaddress.ip_network(subnet["properties"]["addressPrefix"])
    ]
    assert home == "appliance"
    firewalls = of_type(content, "Microsoft.Network/azureFirewalls")
    assert hop not in json.dumps(firewalls)


def test_the_black_hole_takes_the_api_server(content: fleet.Fleet) -> None:
    """A route without a next hop, for a prefix in which its address lies."""
    [table] = of_type(content, "Microsoft.Network/routeTables", "archive")
    [route] = [one["properties"] for one in table["properties"]["routes"]]
    assert (route["nextHopType"], "nextHopIpAddress" in route) == ("None", False)
    [(_, answer)] = [one for one in content.names.items() if one[0].startswith("aks-archive-")]
    assert not isinstance(answer, str)
    assert ipaddress.ip_address(answer[0]) in ipaddress.ip_network(route["addressPrefix"])


def test_a_group_is_joined_by_one_pool(content: fleet.Fleet) -> None:
    """Pool, scale set, model of the instances and interfaces say the same."""
    [group] = of_type(content, "Microsoft.Network/applicationSecurityGroups")
    [cluster] = of_type(content, "Microsoft.ContainerService/managedClusters", "checkout")
    joined = {
        pool["name"]: pool["networkProfile"].get("applicationSecurityGroups", [])
        for pool in cluster["properties"]["agentPoolProfiles"]
    }
    assert list(joined.values()) == [[], [group["id"]]]
    [member] = [name for name, groups in joined.items() if groups]
    mentions = [
        (identifier, json.dumps(document).count(json.dumps({"id": group["id"]})))
        for identifier, document in content.resources.items()
        if "mc_rg-checkout" in identifier and "/virtualmachinescalesets/" in identifier
    ]
    assert len(mentions) == 14  # two scale sets, six instances, six interfaces
    assert all(count == (f"aks-{member}-" in identifier) for identifier, count in mentions)


def test_tags_decide_where_they_are_published(content: fleet.Fleet) -> None:
    """The nodes of one cluster lie in the tag that its rule names; the tag of another is in no list."""
    assert content.service_tags
    tags = {tag["name"]: tag["properties"]["addressPrefixes"] for tag in content.service_tags["values"]}
    sources = {}
    for name in ("market", "partners"):
        [group] = of_type(content, "Microsoft.Network/networkSecurityGroups", f"nsg-{name}-neu")
        sources[name] = group["properties"]["securityRules"][0]["properties"]["sourceAddressPrefix"]
    assert sources["partners"] not in tags
    [network_document] = of_type(content, "Microsoft.Network/virtualNetworks", "vnet-market-neu")
    space = parse_prefixes(network_document["properties"]["addressSpace"]["addressPrefixes"])
    assert not space - parse_prefixes(tags[sources["market"]])
    servers = [address for answer in content.names.values() for address in answer]
    assert not space & parse_prefixes(servers)
    assert len(servers) == len(set(servers)) == len(sample()) - 1


# Ways out


ASKED: dict[str, dict[str, set[str]]] = {
    "microsoft.network/loadbalancers": {
        "UsedSnatPorts": {"FrontendIPAddress", "BackendIPAddress", "ProtocolType", "IsAwaitingRemoval"},
        "AllocatedSnatPorts": {"FrontendIPAddress", "BackendIPAddress", "ProtocolType", "IsAwaitingRemoval"},
        "SnatConnectionCount": {"FrontendIPAddress", "BackendIPAddress", "ConnectionState"},
    },
    "microsoft.network/natgateways": {
        "SNATConnectionCount": {"Protocol", "ConnectionState"},
        "TotalConnectionCount": {"Protocol"},
        "PacketDropCount": set(),
        "DatapathAvailability": set(),
    },
    "microsoft.network/azurefirewalls": {"SNATPortUtilization": {"Protocol"}},
}
"""The metrics of each type, as Azure writes them, with their dimensions (which a time series has all)."""

type Sampled = dict[str, list[tuple[dict[str, str], dict[str, Any]]]]
"""Time series by metric: their dimensions and their shapes."""


@pytest.fixture(scope="module")
def measured() -> dict[str, Sampled]:
    """What the sample's metrics files hold, by the resource's id in lower case."""
    found: dict[str, Sampled] = {}
    for file in SAMPLE.glob("*/*.metrics.json"):
        for identifier, answer in json.loads(file.read_text()).items():
            assert identifier.lower() not in found
            found[identifier.lower()] = {
                metric["name"]["value"]: [
                    (
                        {one["name"]["value"]: one["value"] for one in series["metadatavalues"]},
                        series["shape"],
                    )
                    for series in metric["timeseries"]
                ]
                for metric in answer["value"]
            }
    return found


def outbound_rules(content: fleet.Fleet, balancer: Any) -> Iterator[tuple[Any, list[str], list[str]]]:
    """Each outbound rule of a load balancer, with the addresses of its frontends and of its nodes."""
    inside = {str(part["id"]).lower(): part["properties"] for part in parts(balancer)}
    for rule in balancer["properties"]["outboundRules"]:
        frontends: list[str] = []
        for frontend in rule["properties"]["frontendIPConfigurations"]:
            held = inside[frontend["id"].lower()]
            source = (held.get("publicIPAddress") or held["publicIPPrefix"])["id"].lower()
            public = content.resources[source]["properties"]
            assert frontend["id"].lower() in json.dumps(public).lower()
            frontends += map(str, ipaddress.ip_network(public.get("ipPrefix") or public["ipAddress"]))
        pool = inside[rule["properties"]["backendAddressPool"]["id"].lower()]
        yield rule, frontends, [address(content, one["id"]) for one in pool["backendIPConfigurations"]]


def address(content: fleet.Fleet, configuration: str) -> str:
    """The address of an interface's IP configuration."""
    interface, _, name = configuration.lower().partition("/ipconfigurations/")
    [held] = [
        one["properties"]["privateIPAddress"]
        for one in content.resources[interface]["properties"]["ipConfigurations"]
        if one["name"].lower() == name
    ]
    return str(held)


def test_metrics_are_azures(content: fleet.Fleet, measured: dict[str, Sampled]) -> None:
    """Of resources of the fleet, by names in Azure's case, each time series once and with every dimension."""
    for identifier, metrics in measured.items():
        assert identifier in content.resources
        known = ASKED[ArmPath.parse(identifier).type.lower()]
        assert metrics.keys() == known.keys()
        for name, several in metrics.items():
            assert several
            assert all(dimensions.keys() == known[name] for dimensions, _ in several)
            assert len({json.dumps(dimensions, sort_keys=True) for dimensions, _ in several}) == len(several)


def test_ports_are_those_of_the_rules(content: fleet.Fleet, measured: dict[str, Sampled]) -> None:
    """Allotted to nodes on frontends of their load balancer, no more than there are, and used in order."""
    for balancer in of_type(content, "Microsoft.Network/loadBalancers"):
        metrics = measured.get(balancer["id"].lower())
        if metrics is None:
            continue
        allotted = {
            (one["FrontendIPAddress"], one["BackendIPAddress"], one["ProtocolType"]): shape["base"]
            for one, shape in metrics["AllocatedSnatPorts"]
        }
        used = {
            (one["FrontendIPAddress"], one["BackendIPAddress"], one["ProtocolType"]): shape
            for one, shape in metrics["UsedSnatPorts"]
        }
        assert used.keys() == allotted.keys()
        assert all(shape.get("cap", allotted[key]) == allotted[key] for key, shape in used.items())
        ruled: dict[tuple[str, str], tuple[Any, list[str]]] = {}
        for rule, frontends, nodes in outbound_rules(content, balancer):
            ruled |= {(frontend, node): (rule, frontends) for frontend in frontends for node in nodes}
            for frontend in frontends:
                every = [ports for key, ports in allotted.items() if key[0] == frontend and key[2] == "TCP"]
                assert 0 < sum(every) <= 64_000
                assert max(every) * len(nodes) <= 64_000
        for frontend, node, protocol in allotted:
            rule, frontends = ruled[frontend, node]
            explicit = rule["properties"]["allocatedOutboundPorts"]
            own = [allotted[one, node, protocol] for one in frontends]
            assert len(set(own)) == 1
            assert not explicit or sum(own) == explicit
            levels = [used[one, node, protocol]["base"] for one in frontends]
            assert all(
                level == 0 or used[before, node, protocol].get("cap")
                for before, level in zip(frontends, levels[1:], strict=False)
            )
        for one, _ in metrics["SnatConnectionCount"]:
            assert (one["FrontendIPAddress"], one["BackendIPAddress"]) in ruled


@pytest.mark.parametrize(
    ("members", "ports"),
    [(1, 1024), (50, 1024), (51, 512), (101, 256), (201, 128), (401, 64), (801, 32), (1000, 32)],
)
def test_ports_by_default(members: int, ports: int) -> None:
    """What Azure's documentation has in its table."""
    assert default_ports(members) == ports


def test_clusters_and_their_load_balancers_agree(content: fleet.Fleet) -> None:
    """On addresses, ports and the idle timeout."""
    kinds = set()
    for document in of_type(content, "Microsoft.ContainerService/managedClusters"):
        profile = document["properties"]["networkProfile"].get("loadBalancerProfile")
        if profile is None:
            continue
        scope = f"/{document['properties']['nodeResourceGroup']}/providers/microsoft.network/loadbalancers/"
        [balancer] = of_type(content, "Microsoft.Network/loadBalancers", scope.lower())
        effective = {one["id"].lower() for one in profile["effectiveOutboundIPs"]}
        inside = {str(part["id"]).lower(): part["properties"] for part in parts(balancer)}
        sources = set()
        for rule in balancer["properties"]["outboundRules"]:
            for name in ("allocatedOutboundPorts", "idleTimeoutInMinutes"):
                assert rule["properties"][name] == profile[name]
            for frontend in rule["properties"]["frontendIPConfigurations"]:
                held = inside[frontend["id"].lower()]
                sources.add((held.get("publicIPAddress") or held["publicIPPrefix"])["id"].lower())
        assert sources == effective
        [kind] = profile.keys() & {"managedOutboundIPs", "outboundIPs", "outboundIPPrefixes"}
        managed = profile.get("managedOutboundIPs", {})
        assert not managed or managed["count"] + managed.get("countIPv6", 0) == len(effective)
        owned = [one for part in profile[kind].values() if kind != "managedOutboundIPs" for one in part]
        assert {one["id"].lower() for one in owned} == (set() if managed else effective)
        kinds.add(kind)
    assert len(kinds) == 3


def test_nat_gateways_hang_where_they_say(content: fleet.Fleet, measured: dict[str, Sampled]) -> None:
    """Subnets, gateways and addresses name each other; whoever gets out by one uses no load balancer."""
    subnets = {
        (subnet["id"].lower(), gateway["id"].lower())
        for document in of_type(content, "Microsoft.Network/virtualNetworks")
        for subnet in document["properties"]["subnets"]
        if (gateway := subnet["properties"].get("natGateway"))
    }
    users = {
        (document["id"].lower(), gateway["id"].lower())
        for document in of_type(content, "Microsoft.Network/publicIPAddresses")
        if (gateway := document["properties"].get("natGateway"))
    }
    gateways = of_type(content, "Microsoft.Network/natGateways")
    for ends, field in ((subnets, "subnets"), (users, "publicIpAddresses")):
        assert ends == {
            (end["id"].lower(), gateway["id"].lower())
            for gateway in gateways
            for end in gateway["properties"][field]
        }
    assert (
        {gateway["id"].lower() for gateway in gateways}
        == {gateway for _, gateway in subnets}
        <= set(measured)
    )
    behind = {
        (identifier.partition("/providers/")[0].split("/")[4], one["properties"]["privateIPAddress"])
        for identifier, document in content.resources.items()
        if "/networkinterfaces/" in identifier
        for one in document["properties"]["ipConfigurations"]
        if one["properties"]["subnet"]["id"].lower() in {subnet for subnet, _ in subnets}
    }
    assert behind
    balanced = {
        (identifier.split("/")[4], dimensions["BackendIPAddress"])
        for identifier, metrics in measured.items()
        for dimensions, _ in metrics.get("UsedSnatPorts", ())
    }
    assert not behind & balanced


def test_who_gets_out_is_measured(content: fleet.Fleet, measured: dict[str, Sampled]) -> None:
    """Every load balancer with nodes behind it, but for the one of which Azure Monitor has nothing."""
    unmeasured = {
        document["id"].split("/")[4].split("_")[2].lower()
        for document in of_type(content, "Microsoft.Network/loadBalancers")
        if document["id"].lower() not in measured
    }
    assert unmeasured == {"aks-sandbox-neu", "aks-loyalty-weu", "aks-signals-neu"}
    [hub] = of_type(content, "Microsoft.Network/azureFirewalls")
    assert hub["id"].lower() in measured


def test_failures_are_where_they_are_told_of(measured: dict[str, Sampled]) -> None:
    """Azure has no time series of what never happened."""
    failing = {
        identifier.split("/")[4].split("_")[2]
        for identifier, metrics in measured.items()
        for name in metrics.keys() & {"SnatConnectionCount", "SNATConnectionCount"}
        if any(dimensions["ConnectionState"] == "Failed" for dimensions, _ in metrics[name])
    }
    assert failing == {"aks-crawler-weu", "aks-notify-neu", "aks-clinic-weu"}


def test_what_a_pool_may_be_told() -> None:
    """How far it grows, how it is upgraded, and whether nodes have addresses of their own to get out by."""
    pools = (
        Pool(most=12, surge="33%"),
        Pool(name="fixed", mode="User", autoscaling=False),
        Pool(name="own", mode="User", public_addresses=True),
    )
    made = documents(Cluster(name="aks-a-weu", subscription=WORKLOADS, pools=pools))
    grows, fixed, own = made["cluster.json"]["properties"]["agentPoolProfiles"]
    assert (grows["minCount"], grows["maxCount"], grows["upgradeSettings"]["maxSurge"]) == (3, 12, "33%")
    assert (fixed["enableAutoScaling"], "maxCount" in fixed) == (False, False)
    assert [one["enableNodePublicIP"] for one in (grows, fixed, own)] == [False, False, True]
    addressed = [
        "publicIPAddressConfiguration" in json.dumps(one) for one in made["scale-sets.json"]["value"]
    ]
    assert addressed == [False, False, True]
    [metrics] = made["use.metrics.json"].values()
    used = {
        one["value"]
        for series in metrics["value"][0]["timeseries"]
        for one in series["metadatavalues"]
        if one["name"]["value"] == "BackendIPAddress"
    }
    assert used == {f"10.224.0.{host}" for host in range(4, 10)}


def test_a_cluster_on_its_owners_nat_gateway() -> None:
    """Nothing of the load balancer is there, and the gateway lies beside the network."""
    made = documents(
        Cluster(
            name="aks-a-weu",
            subscription=WORKLOADS,
            network=byo("a-weu", 1, gateway=Gateway(name="ng", addresses=3)),
            pools=NODES,
            outbound="userAssignedNATGateway",
        )
    )
    assert "loadBalancerProfile" not in made["cluster.json"]["properties"]["networkProfile"]
    types = Counter(one["type"].rpartition("/")[2] for one in made["network.json"])
    assert types == {"virtualNetworks": 1, "natGateways": 1, "publicIPAddresses": 3}
    assert [identifier.split("/")[4:] for identifier in made["use.metrics.json"]] == [
        ["rg-net-a-weu", "providers", "Microsoft.Network", "natGateways", "ng"]
    ]


@pytest.mark.parametrize(
    ("shape", "parts_of_it"),
    [
        (Shape(base=500, daily=90, noise=9), [Shape(base=500, daily=90, noise=9), Shape(base=0)]),
        (Shape(base=1300), [Shape(base=1300, cap=1024), Shape(base=276)]),
        (Shape(base=1000, noise=50), [Shape(base=1000, noise=50, cap=1024), Shape(base=-24, noise=50)]),
        (
            Shape(base=3000, per_day=900, floor=1100, gaps=0.5),
            [
                Shape(base=3000, per_day=900, floor=1100, gaps=0.5, cap=1024),
                Shape(base=1976, per_day=900, floor=76, gaps=0.5, cap=1024),
            ],
        ),
    ],
)
def test_the_first_frontend_is_used_up_before_the_next(shape: Shape, parts_of_it: list[Shape]) -> None:
    """What is beyond the ports on one address is used on the next one."""
    assert [shape.between(low, low + 1024) for low in (0, 1024)] == parts_of_it


# Nodes


def printed(text: str) -> list[str]:
    """The lines of a command's output whatever the order of tables, without counters and remarks."""
    return sorted(
        re.sub(r" \[\d+:\d+\]$", "", line) for line in text.splitlines() if line and not line.startswith("#")
    )


async def output(fabric: Fabric, machine: str, line: str) -> str:
    """All that a command prints on a node, in pieces of what is kept of a script's output."""
    text = ""
    for start in range(1, 100_000, 300):
        done = await fabric.run(machine, f"{line} | sed -n {start},{start + 299}p".encode(), seconds=30)
        if not done.stdout:
            break
        text += done.stdout.decode()
    return text


def own_tables(text: str) -> str:
    """A listing of nftables without what iptables made."""
    managed = r"(?m)^table ip6? (filter|nat|mangle|raw|security) \{\n(.*\n)*?\}\n"
    return re.sub(managed, "", text)


RECORDED = [
    item.cluster.name for item in sample() if any("recorded" in one.content for one in item.cluster.inside)
]


@pytest.mark.skipif(bool(unavailable()), reason=f"no simulated nodes here: {unavailable()}")
@pytest.mark.parametrize("name", RECORDED)
async def test_what_is_recorded_is_what_nodes_print(content: fleet.Fleet, name: str) -> None:
    """Each node's commands, in namespaces, print what is recorded of them for machines without."""
    store = Store(content)
    layout = Layout(store)
    machine = next(
        key
        for key in layout.machines
        if f"_{name}_" in key and (said := store.machine(key)) is not None and said.recorded
    )
    said = store.machine(machine)
    assert said is not None
    fabric = await Fabric.start(layout.network(layout.group_of(machine) or ""))
    try:
        if "No such file" in str(fabric.problems):
            pytest.skip(f"not installed: {fabric.problems[machine]}")
        assert fabric.problems == {}
        for line, text in said.recorded.items():
            assert isinstance(text, str)
            real = await output(fabric, machine, line)
            assert printed(own_tables(real) if line.startswith("nft") else real) == printed(text), line
    finally:
        await fabric.close()


def test_mixed_case_is_mixed(content: fleet.Fleet) -> None:
    """In one cluster the same id is never written the same way for long."""
    spellings: dict[str, set[str]] = {}
    for identifier, document in content.resources.items():
        if "casemix" in identifier:
            for reference in [document["id"], *references(document)]:
                spellings.setdefault(reference.lower(), set()).add(reference)
    assert max(len(found) for found in spellings.values()) >= 4


# The generator


def make(directory: Path, *options: str) -> fleet.Fleet:
    """Build a fleet and load it."""
    assert build.main(["--out", str(directory), *options]) == 0
    return fleet.load(directory)


def test_a_fleet_of_any_size(tmp_path: Path) -> None:
    """As many clusters, subscriptions, nodes and faults as asked for, all of it in the SDK's terms."""
    outcomes = tmp_path / "outcomes.json"
    options = ["--clusters", "40", "--subscriptions", "3", "--nodes", "2", "--faulty", "0.25"]
    made = make(tmp_path / "fleet", *options, "--outcomes", str(outcomes))
    store = Store(made)
    assert len(store.subscriptions()) == 3
    told = [item["nsg-kubelet-port"] for item in json.loads(outcomes.read_text()).values()]
    assert (len(told), told.count("fail"), told.count("pass")) == (40, 10, 30)
    ways_out = [item["egress-tunnel-port"] for item in json.loads(outcomes.read_text()).values()]
    assert ways_out == ["pass"] * 40
    ports = [
        (one["snat-exhaustion"], one["snat-capacity"]) for one in json.loads(outcomes.read_text()).values()
    ]
    assert ports == [("pass", "pass")] * 40
    assert len(list((tmp_path / "fleet").glob("*/use.metrics.json"))) == 40
    assert (len(made.names), bool(made.service_tags)) == (40, True)
    for identifier, document in made.resources.items():
        assert set(unmodelled(MODELS[ArmPath.parse(identifier).type.lower()](document))) <= {
            ".properties.allowPort25Out"
        }
        if identifier.split("/")[-2] == "virtualmachinescalesets":
            assert document["sku"]["capacity"] == 2


def test_many_nodes_have_ports_enough(tmp_path: Path) -> None:
    """Also when pools have grown as far as they may and are upgraded: no step of Azure's default is near."""
    made = make(tmp_path / "fleet", "--clusters", "12", "--nodes", "60")
    for document in of_type(made, "Microsoft.ContainerService/managedClusters"):
        properties = document["properties"]
        most = [pool["maxCount"] for pool in properties["agentPoolProfiles"]]
        ports = properties["networkProfile"]["loadBalancerProfile"]["allocatedOutboundPorts"]
        assert ports % 8 == 0
        assert ports * len(most) > 256
        assert ports * sum(count + -(-count // 10) for count in most) <= 64_000


def test_the_same_seed_makes_the_same_fleet(tmp_path: Path) -> None:
    """And another seed another one; a fleet is written in place of the one before."""
    options = ["--clusters", "6", "--faulty", "0.5"]
    first = make(tmp_path / "one", *options)
    assert make(tmp_path / "two", *options) == first
    assert make(tmp_path / "two", *options, "--seed", "2") != first
    assert len(files(tmp_path / "two")) == 3 + 6 * 6


def test_a_directory_with_other_things_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only a fleet that the builder wrote is replaced."""
    (tmp_path / "thesis.txt").write_text("years of work")
    assert build.main(["--clusters", "1", "--out", str(tmp_path)]) == 1
    assert files(tmp_path) == {"thesis.txt": "years of work"}
    assert "is not empty, and no fleet of ours" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [[], ["--clusters", "0"], ["--clusters", "1"], ["--clusters", "1", "--out", "x", "--faulty", "2"]],
)
def test_options_that_make_no_sense(options: list[str]) -> None:
    """Argparse says so; exit status 2."""
    with pytest.raises(SystemExit) as ended:
        build.main(options)
    assert ended.value.code == 2
