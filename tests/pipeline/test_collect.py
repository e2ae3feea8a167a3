"""What Azure answers in part is not healthy: each gap in its documents is a reason, never a pass."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from msgspec import structs

from facts.filters import Missing
from facts.finding import Outcome
from facts.snapshot import Snapshot
from pipeline import discover as discovering
from pipeline import settings
from pipeline.clients import Clients
from pipeline.collect import Deleted, collect
from pipeline.collect.documents import ManagedCluster
from pipeline.collect.inventory import Inventory
from pipeline.collect.kinds import CLUSTERS
from pipeline.run import examine
from pipeline.store import Store
from tests.processes import Azurite
from tests.simulator import RunningSimulator, documents

Resource = dict[str, Any]
Edit = Callable[[Resource], object]

CLUSTER = "Microsoft.ContainerService/managedClusters"


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningSimulator]:
    """The sample fleet."""
    with RunningSimulator() as running:
        yield running


@pytest.fixture
def azure(shared: RunningSimulator) -> Iterator[RunningSimulator]:
    """The sample fleet as it is in its files."""
    yield shared
    shared.clear_faults()
    shared.reload()


@pytest.fixture
async def clients(
    azure: RunningSimulator, azurite: Azurite, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Clients]:
    """Clients of the simulator, as the app makes them from its settings."""
    for name, value in azure.identity_env().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AzureWebJobsStorage", azurite.connection_string)
    made = Clients(settings.load())
    yield made
    await made.close()


async def judged(clients: Clients, name: str) -> tuple[Outcome, list[str]]:
    """Outcome of `nsg-kubelet-port` and the codes of its reasons."""
    (cluster,) = documents(name, CLUSTER)
    seen = await collect(Inventory(clients), cluster["id"])
    assert isinstance(seen, Snapshot), seen
    [result] = [one for one in examine(seen, scan_id="s") if one.check == "nsg-kubelet-port"]
    return result.outcome, [reason.code for reason in result.reasons]


def each_subnet(edit: Edit) -> Edit:
    """An edit of every subnet of a virtual network."""

    def apply(network: Resource) -> None:
        for subnet in network["properties"]["subnets"]:
            edit(subnet["properties"])

    return apply


def no_prefix(subnet: Resource) -> None:
    """Take the prefixes away."""
    subnet.pop("addressPrefix", None)
    subnet["addressPrefixes"] = []


def odd_prefix(subnet: Resource) -> None:
    """A prefix that is none."""
    subnet.pop("addressPrefix", None)
    subnet["addressPrefixes"] = ["10.0.0.0/99"]


@pytest.mark.parametrize(
    ("kind", "edit", "outcome", "codes"),
    [
        (
            "Microsoft.ContainerService/managedClusters",
            lambda it: it["properties"].pop("nodeResourceGroup"),
            Outcome.UNKNOWN,
            {"no_data"},
        ),
        (
            "Microsoft.ContainerService/managedClusters",
            lambda it: it["properties"].update(agentPoolProfiles=[]),
            Outcome.UNKNOWN,
            {"no_data"},
        ),
        (
            "Microsoft.ContainerService/managedClusters",
            lambda it: it["properties"]["agentPoolProfiles"].append(None),
            Outcome.PASS,
            set(),
        ),
        (
            "Microsoft.ContainerService/managedClusters",
            lambda it: [pool.update(count="many") for pool in it["properties"]["agentPoolProfiles"]],
            Outcome.PASS,
            set(),
        ),
        ("Microsoft.Network/virtualNetworks", each_subnet(no_prefix), Outcome.UNKNOWN, {"no_data"}),
        ("Microsoft.Network/virtualNetworks", each_subnet(odd_prefix), Outcome.UNKNOWN, {"malformed_answer"}),
        (
            "Microsoft.Network/virtualNetworks",
            lambda it: it["properties"]["subnets"].append(None),
            Outcome.PASS,
            set(),
        ),
        (
            "Microsoft.Network/virtualNetworks",
            lambda it: it["properties"].update(subnets=None),
            Outcome.UNKNOWN,
            {"not_found"},
        ),
        (
            "Microsoft.Network/networkSecurityGroups",
            lambda it: it.pop("properties"),
            Outcome.UNKNOWN,
            {"malformed_answer"},
        ),
        (
            "Microsoft.Network/networkSecurityGroups",
            lambda it: it["properties"].update(securityRules=[None]),
            Outcome.UNKNOWN,
            {"malformed_answer"},
        ),
    ],
)
async def test_a_gap_in_a_document(
    azure: RunningSimulator, clients: Clients, kind: str, edit: Edit, outcome: Outcome, codes: set[str]
) -> None:
    """What is missing or odd in the documents of a healthy cluster."""
    assert await judged(clients, "aks-web-weu") == (Outcome.PASS, [])
    edited = documents("aks-web-weu", kind)
    assert edited
    for document in edited:
        edit(document)
    azure.put(*edited)
    said, reasons = await judged(clients, "aks-web-weu")
    assert (said, set(reasons)) == (outcome, codes)


async def test_an_empty_list_of_interfaces_is_unknown(azure: RunningSimulator, clients: Clients) -> None:
    """The pool has nodes, Azure lists no interface of them: their security groups were not seen."""
    interfaces = [one for one in documents("aks-web-weu") if "/networkinterfaces/" in one["id"].lower()]
    assert interfaces
    for interface in interfaces:
        azure.delete(interface["id"])
    assert await judged(clients, "aks-web-weu") == (Outcome.UNKNOWN, ["no_data"])


@pytest.mark.parametrize(
    "profile",
    [
        {"count": None, "virtualMachinesProfile": {"scale": {"manual": [{"count": 3}]}}},
        {"count": None},
        {"count": 3},
    ],
)
async def test_a_pool_of_machines_that_are_not_there(
    azure: RunningSimulator, clients: Clients, profile: Resource
) -> None:
    """Whether Azure says how many or not: only a pool of none may have none."""
    (cluster,) = documents("aks-ml-neu", CLUSTER)
    for pool in cluster["properties"]["agentPoolProfiles"]:
        if pool["type"] == "VirtualMachines":
            pool.update(profile, vnetSubnetID=None)
    azure.put(cluster)
    for machine in documents("aks-ml-neu", "Microsoft.Compute/virtualMachines"):
        azure.delete(machine["id"])
    assert await judged(clients, "aks-ml-neu") == (Outcome.UNKNOWN, ["no_data"])


async def test_deleted_is_only_what_azure_calls_not_found(clients: Clients) -> None:
    """A cluster that is gone is deleted; a subscription that is gone may be a lost permission."""
    (cluster,) = documents("aks-web-weu", CLUSTER)
    gone = cluster["id"].replace("aks-web-weu", "aks-gone-weu")
    assert isinstance(await collect(Inventory(clients), gone), Deleted)
    elsewhere = "/".join([*gone.split("/")[:2], "00000000-0000-0000-0000-000000000009", *gone.split("/")[3:]])
    seen = await collect(Inventory(clients), elsewhere)
    assert isinstance(seen, Missing)
    assert "SubscriptionNotFound" in seen.reason.message


async def test_a_cluster_that_cannot_be_made_sense_of_is_still_scanned(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One odd document hides neither itself nor the others."""

    def odd(document: Any) -> ManagedCluster:
        if document["name"] == "aks-web-weu":
            raise AttributeError("'NoneType' object has no attribute 'get'")
        return CLUSTERS.read(document)

    monkeypatch.setattr(discovering, "CLUSTERS", structs.replace(CLUSTERS, read=odd))
    found = await discovering.discover(clients, Inventory(clients), Store(clients.table_service()))
    names = [one.rsplit("/", 1)[-1].lower() for one in found.cluster_ids]
    assert "aks-web-weu" in names
    assert len(names) >= 22


async def test_machines_that_no_pool_has_are_looked_at(azure: RunningSimulator, clients: Clients) -> None:
    """With node auto-provisioning: a machine that AKS made by itself, in a subnet that denies everything."""
    [cluster] = documents("aks-ml-neu", CLUSTER)
    machines = documents("aks-ml-neu", "Microsoft.Compute/virtualMachines")
    interfaces = documents("aks-ml-neu", "Microsoft.Network/networkInterfaces")
    assert await judged(clients, "aks-ml-neu") == (Outcome.PASS, [])
    cluster["properties"]["nodeProvisioningProfile"] = {"mode": "Auto"}
    azure.put(cluster)
    assert await judged(clients, "aks-ml-neu") == (Outcome.PASS, [])
    [machine, *_], [interface, *_] = machines, interfaces
    group = documents("aks-orders-weu", "Microsoft.Network/networkSecurityGroups")[-1]["id"]
    name = "aks-default-x7k2p"
    interface |= {"id": f"{interface['id']}-{name}", "name": f"{interface['name']}-{name}"}
    interface["properties"]["networkSecurityGroup"] = {"id": group}
    interface["properties"]["ipConfigurations"][0]["properties"]["privateIPAddress"] = "10.49.0.200"
    machine |= {"id": machine["id"].rpartition("/")[0] + f"/{name}", "name": name, "tags": {}}
    machine["properties"]["networkProfile"] = {"networkInterfaces": [{"id": interface["id"]}]}
    azure.put(machine, interface)
    outcome, reasons = await judged(clients, "aks-ml-neu")
    assert (outcome, reasons) == (Outcome.FAIL, [])
    azure.fault(kind="403", match={"action": "Microsoft.Compute/virtualMachines/read"})
    assert (await judged(clients, "aks-ml-neu"))[0] == Outcome.UNKNOWN
    azure.clear_faults()
    cluster["properties"]["nodeProvisioningProfile"] = {"mode": "Manual"}
    azure.put(cluster)
    assert await judged(clients, "aks-ml-neu") == (Outcome.PASS, [])
