"""The Azure simulator, asked by the real Azure SDK, and its parts on their own."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
    ServiceResponseTimeoutError,
)
from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential
from azure.mgmt.compute.aio import ComputeManagementClient
from azure.mgmt.containerservice.aio import ContainerServiceClient
from azure.mgmt.network.aio import NetworkManagementClient
from azure.mgmt.resource.subscriptions.aio import SubscriptionClient

from local.azure.__main__ import main
from local.azure.access import Denial, denied
from local.azure.arm import ArmError, ArmPath
from local.azure.faults import parse as parse_fault
from local.azure.fleet import load
from local.azure.identity import Identity
from local.azure.throttle import READS, WRITES, Bucket, Limit, Throttle
from tests.simulator import (
    ROOT,
    SAMPLE,
    WORKLOADS,
    FixedToken,
    LoopbackPolicy,
    RunningSimulator,
    ask,
    client,
    wait_for,
)

PLATFORM = "b1d9f7c4-52c8-4f39-8e27-7d4a9c60e5f2"
NSG = "Microsoft.Network/networkSecurityGroups"


@pytest.fixture(scope="module")
def running() -> Iterator[RunningSimulator]:
    """One simulator of the sample fleet for all the tests of this module that leave no trace."""
    with RunningSimulator() as simulator:
        yield simulator


@pytest.fixture
def sim(running: RunningSimulator) -> Iterator[RunningSimulator]:
    """The running simulator, put back as it was afterwards."""
    running.clear_requests()
    yield running
    running.clear_faults()
    running.latency(0)
    running.reload()


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """A copy of two clusters of the sample, to be edited."""
    for name in ("aks-orders-weu", "aks-audit-weu"):
        shutil.copytree(SAMPLE / name, tmp_path / name)
    shutil.copy(SAMPLE / "access.json", tmp_path)
    return tmp_path


def code_of(error: HttpResponseError) -> str | None:
    """ARM's code, as the SDK understood it."""
    return error.error.code if error.error else None


def group_id(name: str = "orders-weu", subscription: str = WORKLOADS) -> str:
    """The id of the NSG of a sample cluster's subnet."""
    return f"/subscriptions/{subscription}/resourceGroups/rg-net-{name}/providers/{NSG}/nsg-{name}-nodes"


# Lists and pages


def held(kind: str) -> int:
    """How many resources of a type the sample's files hold for the subscription that is asked about."""
    prefix, middle = f"/subscriptions/{WORKLOADS}/", f"/providers/{kind}/".lower()
    found = [name for name in load(SAMPLE).resources if name.startswith(prefix) and middle in name]
    assert len(found) > 10
    return len(found)


async def test_a_list_comes_in_pages() -> None:
    """Pages of the size asked for, until there is no nextLink."""
    with RunningSimulator(SAMPLE, "--page-size", "4") as simulator:
        async with client(NetworkManagementClient, simulator) as network:
            pages = [
                [item.name async for item in page]
                async for page in network.network_security_groups.list_all().by_page()
            ]
        sizes = [len(page) for page in pages]
        assert sizes == [4] * (len(sizes) - 1) + [sizes[-1]]
        assert len({name for page in pages for name in page}) == sum(sizes) == held(NSG)
        _, _, body = ask(simulator, f"/subscriptions/{WORKLOADS}/providers/{NSG}?api-version=2026-03-01")
        assert body["nextLink"].startswith(f"{simulator.url}/subscriptions/{WORKLOADS}/providers/{NSG}?")
        assert "api-version=2026-03-01" in body["nextLink"]
        assert "%24skiptoken=" in body["nextLink"]


async def test_an_empty_list_has_a_value(sim: RunningSimulator) -> None:
    """A list of nothing is `{"value": []}`."""
    status, _, body = ask(
        sim, f"/subscriptions/{PLATFORM}/providers/Microsoft.Network/ipGroups?api-version=2026-03-01"
    )
    assert (status, body) == (200, {"value": []})


async def test_a_skip_token_that_was_never_given_out_is_refused(sim: RunningSimulator) -> None:
    """A made-up token is an error, not the first page."""
    path = f"/subscriptions/{WORKLOADS}/providers/{NSG}?api-version=2026-03-01&$skiptoken=abc"
    status, _, body = ask(sim, path)
    assert (status, body["error"]["code"]) == (400, "InvalidSkipToken")


async def test_the_clients_read_all_that_a_cluster_consists_of(sim: RunningSimulator) -> None:
    """Cluster, pools, scale sets, instances, interfaces: each found from the one before."""
    async with (
        client(ContainerServiceClient, sim) as aks,
        client(ComputeManagementClient, sim) as compute,
        client(NetworkManagementClient, sim) as network,
    ):
        clusters = {item.name: item async for item in aks.managed_clusters.list()}
        assert len(clusters) == held("Microsoft.ContainerService/managedClusters")
        cluster = await aks.managed_clusters.get("rg-batch-weu", "aks-batch-weu")
        assert [item.name async for item in aks.managed_clusters.list_by_resource_group("rg-batch-weu")] == [
            "aks-batch-weu"
        ]
        pools = {item.name: item async for item in aks.agent_pools.list("rg-batch-weu", "aks-batch-weu")}
        assert {name: pool.properties.vnet_subnet_id.rpartition("/")[2] for name, pool in pools.items()} == {
            "system": "system",
            "workers": "workers",
        }
        pool = await aks.agent_pools.get("rg-batch-weu", "aks-batch-weu", "WORKERS")
        assert pool.id == f"{cluster.id}/agentPools/workers"
        nodes = cluster.properties.node_resource_group
        scale_sets = [item async for item in compute.virtual_machine_scale_sets.list(nodes)]
        assert {item.tags["aks-managed-poolName"] for item in scale_sets} == {"system", "workers"}
        for scale_set in scale_sets:
            name = scale_set.name
            again = await compute.virtual_machine_scale_sets.get(nodes, name)
            assert again.id == scale_set.id
            machines = [item async for item in compute.virtual_machine_scale_set_vms.list(nodes, name)]
            assert [item.instance_id for item in machines] == ["0", "1", "2"]
            one = await compute.virtual_machine_scale_set_vms.get(nodes, name, "1")
            assert one.os_profile.computer_name == f"{name}000001"
            listed = network.network_interfaces.list_virtual_machine_scale_set_network_interfaces(nodes, name)
            interfaces = [item async for item in listed]
            assert [item.virtual_machine.id for item in interfaces] == [item.id for item in machines]
            single = network.network_interfaces.list_virtual_machine_scale_set_vm_network_interfaces(
                nodes, name, "2"
            )
            assert [item.id async for item in single] == [interfaces[2].id]


async def test_children_that_lie_in_their_parents_document(sim: RunningSimulator) -> None:
    """Subnets and rules are served from the documents of their networks and NSGs."""
    async with client(NetworkManagementClient, sim) as network:
        subnets = network.subnets.list("rg-net-batch-weu", "vnet-batch-weu")
        assert [item.name async for item in subnets] == ["system", "workers"]
        subnet = await network.subnets.get("rg-net-batch-weu", "vnet-batch-weu", "Workers")
        assert subnet.address_prefix == "10.42.2.0/24"
        rules = network.security_rules.list("rg-net-orders-weu", "nsg-orders-weu-nodes")
        assert [item.name async for item in rules] == [
            "allow-https-inbound",
            "allow-bastion-ssh",
            "deny-kubelet",
        ]
        groups = network.firewall_policy_rule_collection_groups.list("rg-hub-weu", "afwp-hub-weu")
        assert [item.name async for item in groups] == ["rcg-aks"]
        routes = network.routes.list("rg-net-secure-weu", "rt-aks-secure-weu")
        assert [item.next_hop_ip_address async for item in routes] == ["10.0.1.4"]


@pytest.mark.parametrize(
    "respell",
    [
        str.lower,
        str.upper,
        lambda text: text.replace("resourceGroups", "resourcegroups"),
        lambda text: text.replace("rg-net-orders-weu", "RG-NET-Orders-WEU"),
        lambda text: text.replace("Microsoft.Network", "microsoft.network"),
    ],
)
def test_ids_are_found_in_any_case(sim: RunningSimulator, respell: Callable[[str], str]) -> None:
    """Every part of a path may be written in any case; the answer has the document's own."""
    status, _, body = ask(sim, respell(group_id()) + "?api-version=2026-03-01")
    assert (status, body["id"]) == (200, group_id())


def test_a_document_is_served_as_it_is_written(sim: RunningSimulator) -> None:
    """Default rules that a document lacks are not made up."""
    document = {"id": group_id("new"), "name": "nsg-new-nodes", "properties": {"securityRules": []}}
    sim.put(document)
    assert ask(sim, group_id("NEW") + "?api-version=2026-03-01")[2] == document


# Identity


async def test_the_real_credential_gets_a_token(
    sim: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DefaultAzureCredential finds the managed identity by the two variables, as on App Service."""
    for name, value in sim.identity_env().items():
        monkeypatch.setenv(name, value)
    async with (
        DefaultAzureCredential() as credential,
        SubscriptionClient(
            credential, base_url=sim.url, per_call_policies=[LoopbackPolicy()]
        ) as subscriptions,
    ):
        found = {item.subscription_id: item async for item in subscriptions.subscriptions.list()}
        assert found.keys() == {WORKLOADS, PLATFORM}
        one = await subscriptions.subscriptions.get(WORKLOADS)
        assert (one.display_name, one.state) == ("workloads", "Enabled")
    assert sim.actions() == {"Microsoft.Resources/subscriptions/read": 2}


async def test_a_user_assigned_identity_is_another_principal(
    sim: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client id asked for is the one that is told about in refusals."""
    for name, value in sim.identity_env().items():
        monkeypatch.setenv(name, value)
    client_id = "2f6b1f0e-55c1-4be2-8e0f-6a1d7a3c9b10"
    async with (
        ManagedIdentityCredential(client_id=client_id) as credential,
        NetworkManagementClient(
            credential, PLATFORM, base_url=sim.url, per_call_policies=[LoopbackPolicy()]
        ) as network,
    ):
        with pytest.raises(HttpResponseError, match=f"The client '{client_id}' with object id"):
            await network.network_security_groups.get("rg-net-restricted-weu", "nsg-audit-weu-nodes")


@pytest.mark.parametrize(
    ("query", "header", "status", "message"),
    [
        ("api-version=2019-08-01&resource=r", "wrong", 401, "X-IDENTITY-HEADER"),
        ("api-version=2019-08-01&resource=r", None, 401, "X-IDENTITY-HEADER"),
        ("api-version=2019-08-01", "right", 400, "resource"),
        ("api-version=2017-09-01&resource=r", "right", 400, "2019-08-01"),
        ("api-version=2019-08-01&resource=r&client_id=me", "right", 400, "No User Assigned"),
    ],
)
def test_a_token_request_that_is_refused(
    sim: RunningSimulator, query: str, header: str | None, status: int, message: str
) -> None:
    """App Service's statusCode and message, which the SDK puts into its error."""
    secret = sim.identity_env()["IDENTITY_HEADER"] if header == "right" else header
    headers = {"X-IDENTITY-HEADER": secret} if secret else {}
    received, _, content = sim.raw("GET", f"/msi/token?{query}", headers=headers)
    body = json.loads(content)
    assert (received, body["statusCode"]) == (status, status)
    assert message in body["message"]


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "AuthenticationFailed"),
        ("Basic dXNlcjpwYXNz", "AuthenticationFailed"),
        ("Bearer nonsense", "InvalidAuthenticationToken"),
        ("Bearer a.b.c", "InvalidAuthenticationToken"),
        ("Bearer é", "InvalidAuthenticationToken"),
    ],
)
def test_no_token_no_answer(sim: RunningSimulator, authorization: str | None, code: str) -> None:
    """401 with ARM's body and its challenge."""
    headers = {"Authorization": authorization} if authorization else {}
    status, received, content = sim.raw("GET", "/subscriptions?api-version=2022-12-01", headers=headers)
    assert (status, json.loads(content)["error"]["code"]) == (401, code)
    assert received["www-authenticate"].startswith('Bearer authorization_uri="https://login.windows.net/')


async def test_a_token_for_something_else_is_refused(sim: RunningSimulator) -> None:
    """The SDK's own error for a token of another audience."""
    token = sim.token(resource="https://storage.azure.com")
    async with NetworkManagementClient(
        FixedToken(token), WORKLOADS, base_url=sim.url, per_call_policies=[LoopbackPolicy()]
    ) as network:
        with pytest.raises(ClientAuthenticationError, match="InvalidAuthenticationTokenAudience"):
            await network.route_tables.get("rg-net-secure-weu", "rt-aks-secure-weu")


def test_a_token_ends_and_outlives_a_restart() -> None:
    """It is good for its lifetime, also for a simulator started later with the same secret."""
    issued = Identity("secret", lifetime=60).issue(
        header="secret", resource="https://management.azure.com/", client=None, now=1000
    )
    assert issued["expires_on"] == "1060"
    bearer = f"Bearer {issued['access_token']}"
    later = Identity("secret")
    assert later.authenticate(bearer, 1059).client == issued["client_id"]
    with pytest.raises(ArmError, match="expiry UTC time '01/01/1970 12:17:40 AM' is earlier") as expired:
        later.authenticate(bearer, 1060)
    assert expired.value.code == "ExpiredAuthenticationToken"
    with pytest.raises(ArmError) as unknown:
        Identity("another secret").authenticate(bearer, 1001)
    assert unknown.value.code == "InvalidAuthenticationToken"


# Access


async def test_what_may_not_be_read_is_refused_or_left_out(sim: RunningSimulator) -> None:
    """403 in ARM's words for the resource and its group; the subscription's list goes without it."""
    async with client(NetworkManagementClient, sim, PLATFORM) as network:
        with pytest.raises(HttpResponseError) as refused:
            await network.network_security_groups.get("RG-net-restricted-weu", "nsg-audit-weu-nodes")
        assert (refused.value.status_code, code_of(refused.value)) == (403, "AuthorizationFailed")
        assert f"perform action '{NSG}/read' over scope '/subscriptions/{PLATFORM}/" in refused.value.message
        assert refused.value.message.endswith("granted, please refresh your credentials.")
        with pytest.raises(HttpResponseError, match=f"action '{NSG}/read'"):
            _ = [item async for item in network.network_security_groups.list("rg-net-restricted-weu")]
        names = {item.name async for item in network.network_security_groups.list_all()}
        assert "nsg-audit-weu-nodes" not in names
        assert "nsg-search-weu-nodes" in names
        allowed = await network.virtual_networks.get("rg-net-restricted-weu", "vnet-audit-weu")
        assert allowed.subnets[0].network_security_group.id.endswith("/nsg-audit-weu-nodes")


async def test_a_subscription_that_may_not_be_read(fleet: Path) -> None:
    """It is not among the subscriptions, and everything in it is refused."""
    denial = {"scope": f"/subscriptions/{PLATFORM}", "actions": ["*/read"]}
    (fleet / "access.json").write_text(json.dumps({"deny": [denial]}))
    with RunningSimulator(fleet) as simulator:
        _, _, body = ask(simulator, "/subscriptions?api-version=2022-12-01")
        assert [item["subscriptionId"] for item in body["value"]] == [WORKLOADS]
        async with client(ComputeManagementClient, simulator, PLATFORM) as compute:
            with pytest.raises(HttpResponseError, match="AuthorizationFailed"):
                _ = [item async for item in compute.virtual_machine_scale_sets.list_all()]


@pytest.mark.parametrize(
    ("scope", "actions", "action", "asked", "expected"),
    [
        ("/subscriptions/s", ["*/read"], "N/a/read", "/subscriptions/s/resourceGroups/g", True),
        ("/subscriptions/s", ["*/read"], "N/a/action", "/subscriptions/s", False),
        ("/subscriptions/s", ["*"], "N/a/read", "/subscriptions/s2", False),
        (
            "/subscriptions/S/resourceGroups/G",
            ["n/A/read"],
            "N/a/read",
            "/SUBSCRIPTIONS/s/resourcegroups/g",
            True,
        ),
        ("/subscriptions/s/resourceGroups/g", ["N/a/read"], "N/a/read", "/subscriptions/s", False),
        ("/subscriptions/s", ["N/a/read"], "N/a/b/read", "/subscriptions/s", False),
        ("/subscriptions/s", ["N/*/read"], "N/a/b/read", "/subscriptions/s", True),
    ],
)
def test_a_denial_covers_its_scope_and_below(
    scope: str, actions: list[str], action: str, asked: str, expected: bool
) -> None:
    """Scopes end at a slash, actions take `*`, and case does not count."""
    assert denied((Denial.parse({"scope": scope, "actions": actions}),), action, asked) is expected


# Errors


RG = f"/subscriptions/{WORKLOADS}/resourceGroups/rg-net-orders-weu"


@pytest.mark.parametrize(
    ("path", "status", "code", "words"),
    [
        (
            "/subscriptions/00000000-0000-0000-0000-000000000000",
            404,
            "SubscriptionNotFound",
            "The subscription '00000000-0000-0000-0000-000000000000' could not be found.",
        ),
        (
            f"/subscriptions/{WORKLOADS}/resourceGroups/nowhere/providers/{NSG}",
            404,
            "ResourceGroupNotFound",
            "Resource group 'nowhere' could not be found.",
        ),
        (
            f"{RG}/providers/{NSG}/none",
            404,
            "ResourceNotFound",
            f"The Resource '{NSG}/none' under resource group 'rg-net-orders-weu' was not found. For more",
        ),
        (
            f"{RG}/providers/Microsoft.Network/virtualNetworks/none/subnets/x",
            404,
            "ParentResourceNotFound",
            f"parent resource '{RG}/providers/Microsoft.Network/virtualNetworks/none' could not be found.",
        ),
        (
            f"{RG}/providers/Microsoft.Network/virtualNetworks/vnet-orders-weu/subnets/x",
            404,
            "NotFound",
            "/subnets/x not found.",
        ),
        (f"{RG}/providers/Microsoft.Nothing/x", 404, "InvalidResourceNamespace", "'Microsoft.Nothing'"),
        (f"{RG}/providers/Microsoft.Network/x/y", 404, "InvalidResourceType", "'x' could not be found"),
        (f"{RG}/deployments", 400, "InvalidRequestUri", "'deployments'"),
        (RG, 404, "NotFound", "Resource groups"),
    ],
)
def test_what_does_not_exist(sim: RunningSimulator, path: str, status: int, code: str, words: str) -> None:
    """ARM's code, ARM's words, and who refused."""
    version = "2022-12-01" if path.count("/") == 2 else "2026-03-01"
    received, headers, body = ask(sim, f"{path}?api-version={version}")
    assert (received, body["error"]["code"]) == (status, code)
    assert words in body["error"]["message"]
    assert headers["x-ms-failure-cause"] in {"gateway", "service"}


@pytest.mark.parametrize(
    ("path", "version", "code", "words"),
    [
        ("/subscriptions", "", "MissingApiVersionParameter", "(?api-version=) is required"),
        ("/subscriptions", "2000-01-01", "InvalidApiVersionParameter", "versions are '2022-12-01'"),
        (group_id(), "2000-01-01", "NoRegisteredProviderFound", "for location 'westeurope' and API version"),
        (group_id(), "2018-10-01", "NoRegisteredProviderFound", "for type 'networkSecurityGroups'"),
    ],
)
def test_api_versions(sim: RunningSimulator, path: str, version: str, code: str, words: str) -> None:
    """Only what the pinned SDK sends is taken."""
    status, _, body = ask(sim, path + (f"?api-version={version}" if version else ""))
    assert (status, body["error"]["code"]) == (400, code)
    assert words in body["error"]["message"]


async def test_a_missing_resource_is_the_sdks_own_error(sim: RunningSimulator) -> None:
    """The client raises ResourceNotFoundError with ARM's code."""
    async with client(NetworkManagementClient, sim) as network:
        with pytest.raises(ResourceNotFoundError) as missing:
            await network.network_security_groups.get("rg-net-orders-weu", "none")
    assert code_of(missing.value) == "ResourceNotFound"


def test_nothing_can_be_changed_through_arm(sim: RunningSimulator) -> None:
    """Whoever watches is not to write."""
    for method in ("PUT", "PATCH", "DELETE", "POST"):
        status, _, body = ask(sim, group_id() + "?api-version=2026-03-01", method=method)
        assert (status, body["error"]["code"]) == (405, "HttpMethodNotAllowed")


def test_every_answer_says_what_ARM_says(sim: RunningSimulator) -> None:  # noqa: N802 - its name
    """Request ids and what is left in the bucket."""
    _, headers, _ = ask(sim, group_id() + "?api-version=2026-03-01")
    assert headers["x-ms-request-id"] == headers["x-ms-correlation-request-id"]
    assert 0 < int(headers["x-ms-ratelimit-remaining-subscription-reads"]) <= 250
    _, headers, _ = ask(sim, group_id("none") + "?api-version=2026-03-01")
    assert headers["x-ms-request-id"]
    assert headers["x-ms-ratelimit-remaining-subscription-reads"]


# Throttle


def test_a_bucket_empties_and_fills() -> None:
    """250 at once, 25 a second afterwards; a refused request costs nothing."""
    bucket = Bucket(READS, now=0)
    assert [bucket.take(0) for _ in range(251)] == [0] * 250 + [1]
    assert [bucket.take(0.9) for _ in range(23)] == [0] * 22 + [1]
    assert bucket.take(3600) == 0
    assert bucket.remaining == 249
    slow = Bucket(Limit(1, 0.1), now=0)
    assert [slow.take(0), slow.take(0), slow.take(4), slow.take(10)] == [0, 10, 6, 0]


def test_buckets_are_apart() -> None:
    """One for each kind, subscription and principal."""
    throttle = Throttle(reads=Limit(1, 1), writes=WRITES)
    assert throttle.take("read", "a", "me", 0) == (0, 0)
    assert throttle.take("read", "a", "me", 0) == (1, 0)
    assert throttle.take("read", "b", "me", 0) == (0, 0)
    assert throttle.take("read", "a", "you", 0) == (0, 0)
    assert throttle.take("write", "a", "me", 0) == (0, 199)
    assert Throttle(reads=Limit(1, 1), enabled=False).take("read", "a", "me", 0) == (0, 0)


@pytest.mark.parametrize("text", ["", "250", "0:1", "5:0", "a:b", "nan:1"])
def test_a_limit_is_two_numbers(text: str) -> None:
    """N:M, both above nothing."""
    with pytest.raises(ValueError):
        Limit.parse(text)


async def test_the_throttle_is_felt_by_the_client() -> None:
    """429 with Retry-After in ARM's words, and the SDK waits for as long as it is told."""
    with RunningSimulator(SAMPLE, "--reads", "3:1") as simulator:
        async with client(NetworkManagementClient, simulator) as network:
            for _ in range(3):
                await network.route_tables.get("rg-net-secure-weu", "rt-aks-secure-weu")
            with pytest.raises(HttpResponseError) as throttled:
                await network.route_tables.get("rg-net-secure-weu", "rt-aks-secure-weu")
        assert throttled.value.status_code == 429
        assert code_of(throttled.value) == "SubscriptionRequestsThrottled"
        assert f"Number of 'read' requests for subscription '{WORKLOADS}'" in throttled.value.message
        answer: Any = throttled.value.response
        assert answer.headers["Retry-After"] == "1"
        assert answer.headers["x-ms-ratelimit-remaining-subscription-reads"] == "0"
        async with client(NetworkManagementClient, simulator, retry_total=3) as network:
            before = time.monotonic()
            for _ in range(2):
                await network.route_tables.get("rg-net-secure-weu", "rt-aks-secure-weu")
            assert time.monotonic() - before > 0.5
    with RunningSimulator(SAMPLE, "--reads", "1:1", "--no-throttle") as simulator:
        for _ in range(3):
            assert ask(simulator, group_id() + "?api-version=2026-03-01")[0] == 200


# Faults


async def test_a_429_is_waited_out(sim: RunningSimulator) -> None:
    """The SDK honours Retry-After, then the fault is over."""
    sim.fault(kind="429", match={"action": f"{NSG}/read"}, times=1, seconds=1)
    async with client(NetworkManagementClient, sim, retry_total=3) as network:
        before = time.monotonic()
        await network.network_security_groups.get("rg-net-orders-weu", "nsg-orders-weu-nodes")
        assert time.monotonic() - before >= 1
    assert [(item["status"], item["fault"]) for item in sim.requests()] == [(429, "429"), (200, None)]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("403", "AuthorizationFailed"),
        ("404", "ResourceNotFound"),
        ("429", "TooManyRequests"),
        ("500", "InternalServerError"),
        ("503", "ServiceUnavailable"),
    ],
)
async def test_a_refusal_on_demand(sim: RunningSimulator, kind: str, code: str) -> None:
    """Each has its status and ARM's code for it."""
    sim.fault(kind=kind, match={"path": "/networkSecurityGroups/"})
    async with client(NetworkManagementClient, sim) as network:
        with pytest.raises(HttpResponseError) as refused:
            await network.network_security_groups.get("rg-net-orders-weu", "nsg-orders-weu-nodes")
    assert (str(refused.value.status_code), code_of(refused.value)) == (kind, code)


@pytest.mark.parametrize("kind", ["reset", "truncated", "empty", "malformed"])
async def test_a_broken_answer_on_demand(sim: RunningSimulator, kind: str) -> None:
    """The SDK does not take it for an answer; once it is over, the same client goes on."""
    times = 2 if kind == "reset" else 1  # aiohttp itself repeats a GET once
    sim.fault(kind=kind, match={"subscription": WORKLOADS, "method": "get"}, times=times)
    async with client(NetworkManagementClient, sim) as network:
        with pytest.raises((AzureError, json.JSONDecodeError)):
            _ = [item async for item in network.network_security_groups.list_all()]
        assert [item async for item in network.network_security_groups.list_all()]
    assert sim.requests()[0]["fault"] == kind


async def test_a_reset_is_retried(sim: RunningSimulator) -> None:
    """With retries the client gets its answer."""
    sim.fault(kind="reset", times=3)
    async with client(NetworkManagementClient, sim, retry_total=3) as network:
        assert await network.network_security_groups.get("rg-net-orders-weu", "nsg-orders-weu-nodes")
    assert [item["fault"] for item in sim.requests()] == ["reset", "reset", "reset", None]


async def test_a_hang_ends_in_the_clients_timeout(sim: RunningSimulator) -> None:
    """Nothing comes until the client gives up."""
    sim.fault(kind="hang", times=1)
    async with client(NetworkManagementClient, sim, read_timeout=0.3) as network:
        with pytest.raises(ServiceResponseTimeoutError):
            await network.network_security_groups.get("rg-net-orders-weu", "nsg-orders-weu-nodes")


async def test_a_short_hang_ends_in_a_reset(sim: RunningSimulator) -> None:
    """`seconds` says how long it lasts."""
    sim.fault(kind="hang", seconds=0.2)
    async with client(NetworkManagementClient, sim) as network:
        before = time.monotonic()
        with pytest.raises(AzureError):
            await network.network_security_groups.get("rg-net-orders-weu", "nsg-orders-weu-nodes")
        assert time.monotonic() - before >= 0.2


def test_faults_are_chosen_by_what_they_match(sim: RunningSimulator) -> None:
    """All that is given must hold; the first one made wins; chance may say no."""
    path = group_id() + "?api-version=2026-03-01"
    sim.fault(kind="500", match={"subscription": PLATFORM})
    sim.fault(kind="500", match={"action": "Microsoft.Network/routeTables/read"})
    sim.fault(kind="500", match={"path": "nsg-orders", "method": "POST"})
    sim.fault(kind="500", probability=0)
    assert ask(sim, path)[0] == 200
    sim.fault(kind="404", match={"action": f"{NSG}/READ", "path": "NSG-orders"}, times=1)
    sim.fault(kind="503")
    assert [ask(sim, path)[0] for _ in range(2)] == [404, 503]


def test_faults_are_listed_and_ended(sim: RunningSimulator) -> None:
    """By their ids, which can be chosen."""
    assert sim.fault(id="mine", kind="500", times=2) == "mine"
    other = sim.fault(kind="hang", match={"path": "x"})
    assert [item["id"] for item in sim.call("GET", "/_sim/faults")] == ["mine", other]
    ask(sim, group_id() + "?api-version=2026-03-01")
    assert sim.call("GET", "/_sim/faults/mine")["times"] == 1
    sim.fault(id="mine", kind="503")
    assert sim.call("GET", "/_sim/faults/mine")["kind"] == "503"
    sim.call("DELETE", "/_sim/faults/mine")
    assert sim.raw("GET", "/_sim/faults/mine")[0] == sim.raw("DELETE", "/_sim/faults/mine")[0] == 404
    sim.clear_faults()
    assert sim.call("GET", "/_sim/faults") == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "not an object"),
        ({}, "kind is one of 403"),
        ({"kind": "418"}, "kind is one of"),
        ({"kind": "500", "mach": {}}, "unknown field mach"),
        ({"kind": "500", "match": {"url": "x"}}, "match is an object with any of action, method"),
        ({"kind": "500", "match": {"path": 1}}, "match holds strings"),
        ({"kind": "500", "match": {"path": "("}}, "no regular expression"),
        ({"kind": "500", "times": 0}, "times is a whole number"),
        ({"kind": "500", "times": True}, "times is a whole number"),
        ({"kind": "hang", "seconds": -1}, "seconds is a number"),
        ({"kind": "hang", "probability": 2}, "probability is a number"),
    ],
)
def test_a_fault_that_makes_no_sense(content: Any, words: str) -> None:
    """One line says what is wrong with it."""
    with pytest.raises(ValueError, match=words.replace("(", "\\(")):
        parse_fault(content)


# Control


async def test_requests_and_actions_are_remembered(sim: RunningSimulator) -> None:
    """What was asked, in Azure's terms; `since` gives the newer ones."""
    async with client(NetworkManagementClient, sim) as network:
        _ = [item async for item in network.network_security_groups.list_all()]
        await network.subnets.get("rg-net-orders-weu", "vnet-orders-weu", "nodes")
    first, second = sim.requests()
    assert (first["method"], first["status"], first["subscription"]) == ("GET", 200, WORKLOADS)
    assert first["path"] == f"/subscriptions/{WORKLOADS}/providers/{NSG}"
    assert first["clientRequestId"]
    assert second["action"] == "Microsoft.Network/virtualNetworks/subnets/read"
    assert sim.actions() == {f"{NSG}/read": 1, "Microsoft.Network/virtualNetworks/subnets/read": 1}
    assert sim.requests(since=first["seq"]) == [second] == sim.requests(since=second["time"])
    assert sim.raw("GET", "/_sim/requests?since=yesterday")[0] == 400
    sim.clear_requests()
    assert (sim.requests(), sim.actions()) == ([], {})


def test_resources_are_put_and_deleted(sim: RunningSimulator) -> None:
    """By id in any case; what is deleted takes its children along; a reload brings the files back."""
    document = sim.get(group_id())
    changed = document | {"id": document["id"].upper(), "tags": {"by": "test"}}
    sim.put(changed)
    assert ask(sim, group_id() + "?api-version=2026-03-01")[2]["tags"] == {"by": "test"}
    sim.delete(group_id().lower())
    assert ask(sim, group_id() + "?api-version=2026-03-01")[0] == 404
    nodes = f"/subscriptions/{WORKLOADS}/resourceGroups/MC_rg-orders-weu_aks-orders-weu_westeurope"
    scale_sets = f"{nodes}/providers/Microsoft.Compute/virtualMachineScaleSets"
    _, _, listed = ask(sim, f"{scale_sets}?api-version=2026-04-01")
    (scale_set,) = listed["value"]
    sim.delete(scale_set["id"])
    assert ask(sim, f"{scale_sets}?api-version=2026-04-01")[2] == {"value": []}
    missing = f"{scale_set['id']}/networkInterfaces?api-version=2018-10-01"
    assert ask(sim, missing)[2]["error"]["code"] == "ParentResourceNotFound"
    sim.reload()
    assert ask(sim, group_id() + "?api-version=2026-03-01")[2] == document
    assert len(ask(sim, missing)[2]["value"]) == 3


def test_a_new_resource_is_in_every_list_it_belongs_to(sim: RunningSimulator) -> None:
    """A subscription that did not exist does once something lies in it."""
    new = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/g/providers"
    sim.put(
        {"id": f"{new}/{NSG}/n", "name": "n"},
        {
            "id": f"{new}/Microsoft.Compute/virtualMachineScaleSets/s",
            "name": "s",
        },
        {
            "id": f"{new}/Microsoft.Compute/virtualMachineScaleSets/s/virtualMachines/0/networkInterfaces/i",
            "name": "i",
        },
    )
    subscription = new.partition("/resourceGroups")[0]
    for path, version in (
        (f"{subscription}/providers/{NSG}", "2026-03-01"),
        (f"{new}/{NSG}", "2026-03-01"),
        (f"{new}/Microsoft.Compute/virtualMachineScaleSets/S/networkInterfaces", "2018-10-01"),
    ):
        assert len(ask(sim, f"{path}?api-version={version}")[2]["value"]) == 1
    assert ask(sim, f"{subscription}?api-version=2022-12-01")[2]["state"] == "Enabled"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("PUT", "/_sim/resources", "{", 400, "not JSON"),
        ("PUT", "/_sim/resources", '{"name": "x"}', 400, 'no \\"id\\"'),
        ("PUT", "/_sim/resources", "[1]", 400, "not an object"),
        ("DELETE", "/_sim/resources?id=/subscriptions/none", None, 404, "no resource"),
        ("GET", "/_sim/resources", None, 404, "no resource"),
        ("PUT", "/_sim/admin-rules", "[]", 400, "not a JSON object"),
        ("PUT", "/_sim/admin-rules", '{"v": []}', 400, "no ARM id"),
        ("PUT", "/_sim/names", "{", 400, "not JSON"),
        ("PUT", "/_sim/names", '{"a": ["x"]}', 400, "not an IP address"),
        ("POST", "/_sim/faults", '{"kind": "418"}', 400, "kind is one of"),
        ("PUT", "/_sim/latency", '{"ms": -1}', 400, "ms is a number"),
        ("PUT", "/_sim/latency", "[]", 400, "ms is a number"),
    ],
)
def test_what_the_control_api_refuses(
    sim: RunningSimulator, method: str, path: str, body: str | None, status: int, words: str
) -> None:
    """It says why, in one line."""
    received, _, content = sim.raw(method, path, body=body)
    assert received == status
    assert words in content


def test_latency(sim: RunningSimulator) -> None:
    """Every answer of ARM waits, the control API does not."""
    sim.latency(300)
    before = time.monotonic()
    ask(sim, group_id() + "?api-version=2026-03-01")
    assert time.monotonic() - before >= 0.3
    assert sim.health()["latencyMs"] == 300


async def test_effective_rules_of_an_interface(sim: RunningSimulator) -> None:
    """A long-running operation: 202, polled, then the rules of the subnet's NSG and the interface's."""
    nodes = "MC_rg-ml-neu_aks-ml-neu_northeurope"
    async with client(NetworkManagementClient, sim) as network:
        interface = await anext(aiter(network.network_interfaces.list(nodes)))
        poller = await network.network_interfaces.begin_list_effective_network_security_groups(
            nodes, interface.name
        )
        result = await poller.result()
    groups = result.value
    assert [item.association.subnet is not None for item in groups] == [True, False]
    assert groups[0].network_security_group.id.endswith("/nsg-ml-neu-nodes")
    rules = {rule.name: rule for rule in groups[0].effective_security_rules}
    assert rules["securityRules/allow-https-inbound"].destination_port_range == "443-443"
    assert rules["defaultSecurityRules/DenyAllInBound"].protocol == "All"
    assert set(sim.actions()) == {
        "Microsoft.Network/networkInterfaces/read",
        "Microsoft.Network/networkInterfaces/effectiveNetworkSecurityGroups/action",
        "Microsoft.Network/locations/operations/read",
        "Microsoft.Network/locations/operationResults/read",
    }
    posted = next(item for item in sim.requests() if item["method"] == "POST")
    assert posted["status"] == 202


# The fleet on disk


def test_an_edited_file_is_served(fleet: Path) -> None:
    """A fault repaired in an editor is gone; a broken file changes nothing and is reported with its place."""
    file = fleet / "aks-orders-weu" / "security-groups.json"
    with RunningSimulator(fleet) as simulator:
        before = file.read_text()
        simulator.put({"id": group_id("other"), "name": "put"})

        def rules() -> list[str]:
            found = simulator.get(group_id())["properties"]["securityRules"]
            return [rule["name"] for rule in found]

        assert "deny-kubelet" in rules()
        groups = json.loads(before)
        groups[1]["properties"]["securityRules"].pop()
        file.write_text(json.dumps(groups))
        wait_for(lambda: "deny-kubelet" not in rules())
        assert simulator.get(group_id("other"))["name"] == "put"
        file.write_text(before.replace("[", "", 1))
        wait_for(lambda: simulator.health()["status"] == "stale")
        assert "deny-kubelet" not in rules()
        with pytest.raises(RuntimeError, match=r"422.*security-groups\.json:"):
            simulator.reload()
        wait_for(lambda: f"{file}:" in simulator.errors)
        assert "still serving the fleet as it was" in simulator.errors
        file.write_text(before)
        wait_for(lambda: "deny-kubelet" in rules())
        assert simulator.health()["status"] == "ok"


ID = f"/subscriptions/{WORKLOADS}/resourceGroups/g/providers/{NSG}/n"
VNET = f"/subscriptions/{WORKLOADS}/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v"


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({}, "{fleet}: no *.json file in it"),
        ({"a.json": '{\n  "id": x}'}, "{fleet}/a.json:2:9: not JSON: Expecting value"),
        ({"a.json": "\udcff"}, "{fleet}/a.json: byte 0: not UTF-8"),
        ({"a.json": "1"}, "{fleet}/a.json: not an object"),
        ({"a.json": '[{"name": "n"}]'}, '{fleet}/a.json: [0]: no "id"'),
        ({"x/a.json": '{"value": [{"id": "n"}]}'}, '{fleet}/x/a.json: value[0]: "id" is no ARM id: '),
        ({"a.json": '{"id": "/subscriptions//resourceGroups/g"}'}, "an empty segment"),
        ({"a.json": json.dumps({"id": ID.rpartition("/")[0]})}, "ends in a type without a name"),
        (
            {"a.json": json.dumps({"id": ID}), "b.json": json.dumps([{"id": ID.upper(), "name": "n"}])},
            "{fleet}/b.json: [0]: " + ID.upper() + " is also in {fleet}/a.json, with other content",
        ),
        ({"access.json": "{}"}, '{fleet}/access.json: no list "deny"'),
        ({"access.json": '{"deny": [{"scope": "x"}]}'}, "{fleet}/access.json: deny[0]: "),
        (
            {"access.json": '{"deny": [{"scope": "/subscriptions/s"}]}'},
            '{fleet}/access.json: deny[0]: "actions" is not a list of action names',
        ),
        ({"a.metrics.json": "[]"}, "{fleet}/a.metrics.json: not a JSON object"),
        ({"a.nodes.json": "[]"}, "{fleet}/a.nodes.json: not a JSON object"),
        ({"service-tags.json": "[]"}, "{fleet}/service-tags.json: not a JSON object"),
        ({"service-tags.json": '{"value": []}'}, '{fleet}/service-tags.json: no list "values"'),
        ({"service-tags.json": '{"values": [1]}'}, "{fleet}/service-tags.json: values[0]: not an object"),
        (
            {"service-tags.json": '{"values": [{"name": "Sql"}, {"id": "Sql"}]}'},
            '{fleet}/service-tags.json: values[1]: no "name"',
        ),
        (
            {"a/service-tags.json": '{"values": []}', "service-tags.json": '{"values": [{"name": "Sql"}]}'},
            "{fleet}/service-tags.json: the list of service tags is also in {fleet}/a/service-tags.json",
        ),
        ({"a.adminrules.json": "[]"}, "{fleet}/a.adminrules.json: not a JSON object"),
        ({"a.adminrules.json": '{"v": []}'}, '{fleet}/a.adminrules.json: "v" is no ARM id: '),
        (
            {"a.adminrules.json": json.dumps({ID: []})},
            f'{{fleet}}/a.adminrules.json: "{ID}" is not the id of a virtual network',
        ),
        (
            {"a.adminrules.json": json.dumps({VNET.rpartition("/")[0]: []})},
            f'"{VNET.rpartition("/")[0]}" is not the id of a virtual network',
        ),
        (
            {"a.adminrules.json": json.dumps({VNET: {}})},
            f'{{fleet}}/a.adminrules.json: "{VNET}": not a list of rules',
        ),
        (
            {"a.adminrules.json": json.dumps({VNET: [{"id": "r"}, None]})},
            f'{{fleet}}/a.adminrules.json: "{VNET}"[1]: not an object',
        ),
        (
            {"a.adminrules.json": json.dumps({VNET: [{"kind": "Custom"}]})},
            f'{{fleet}}/a.adminrules.json: "{VNET}"[0]: no "id"',
        ),
        (
            {
                "a.adminrules.json": json.dumps({VNET: [{"id": "r"}]}),
                "b.adminrules.json": json.dumps({VNET.upper(): [{"id": "R", "kind": "Custom"}]}),
            },
            f'"{VNET.upper()}"[0]: R is also in {{fleet}}/a.adminrules.json: "{VNET}"[0], with other content',
        ),
        ({"names.json": "[]"}, "{fleet}/names.json: not a JSON object"),
        ({"names.json": '{"a..b": []}'}, '{fleet}/names.json: "a..b" is no host name: '),
        ({"names.json": '{".": []}'}, '{fleet}/names.json: "." is no host name'),
        ({"names.json": '{"": []}'}, '{fleet}/names.json: "" is no host name'),
        (
            {"names.json": '{"a": "nxdomain"}'},
            '{fleet}/names.json: "a": neither a list of addresses nor "timeout" or "servfail"',
        ),
        ({"names.json": '{"a": null}'}, '{fleet}/names.json: "a": neither a list'),
        (
            {"names.json": '{"a": ["10.0.0.1", "10.0.0"]}'},
            '{fleet}/names.json: "a"[1]: not an IP address: 10.0.0',
        ),
        ({"names.json": '{"a": [1]}'}, '{fleet}/names.json: "a"[0]: not an IP address: 1'),
        ({"names.json": '{"a": ["fe80::1%eth0"]}'}, '"a"[0]: an IP address with a zone: fe80::1%eth0'),
        (
            {"names.json": '{"A": [], "a.": ["10.0.0.1"]}'},
            '{fleet}/names.json: "a." is there as "A" too, with other content',
        ),
        (
            {"names.json": '{"a": []}', "z/names.json": '{"A.": "timeout"}'},
            '{fleet}/z/names.json: "A." is also in {fleet}/names.json, with other content',
        ),
    ],
)
def test_a_fleet_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str], line: str
) -> None:
    """One line names the file, the place in it, and what is wrong; exit status 2."""
    for name, content in files.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content.encode(errors="surrogateescape"))
    assert main(["--fleet", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert line.replace("{fleet}", str(tmp_path)) in said


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the simulator's command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "local.azure", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "ARM_PORT"},
    )


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """The same kind of line."""
    ended = run("--fleet", str(tmp_path / "none"))
    assert (ended.returncode, ended.stderr) == (2, f"local.azure: {tmp_path / 'none'}: no such directory\n")


def test_fleet_files_of_every_kind_are_taken(tmp_path: Path) -> None:
    """A resource, an array, a list response, a byte order mark, the same thing twice, every kept name."""
    document = {"id": ID, "name": "n"}
    (tmp_path / "one.json").write_text(json.dumps(document), encoding="utf-8-sig")
    (tmp_path / "same.json").write_text(json.dumps([document]))
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "list.json").write_text(
        json.dumps({"value": [{"id": ID + "2", "name": "m"}]})
    )
    (tmp_path / "load.metrics.json").write_text("{}")
    (tmp_path / "some.nodes.json").write_text("{}")
    for directory in (tmp_path, tmp_path / "deep"):
        (directory / "service-tags.json").write_text('{"values": [{"name": "Sql"}, {"name": "Storage"}]}')
        (directory / "hub.adminrules.json").write_text(json.dumps({VNET: [{"id": "r"}, {"id": "s"}]}))
        (directory / "names.json").write_text('{"a.example": ["10.0.0.1"], "b.example": []}')
    (tmp_path / "deep" / "spoke.adminrules.json").write_text(json.dumps({VNET.lower(): [{"id": "t"}]}))
    with RunningSimulator(tmp_path) as simulator:
        health = simulator.health()
    assert (health["resources"], health["metricsFiles"], health["nodesFiles"]) == (2, 1, 1)
    assert (health["serviceTags"], health["adminRules"], health["names"]) == (2, 3, 2)
    assert health["subscriptions"] == [WORKLOADS]


# The process


def test_a_port_that_is_taken() -> None:
    """One line names the port and how to choose another; exit status 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run("--fleet", str(SAMPLE), "--port", str(port))
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert f"port {port}" in ended.stderr
    assert "ARM_PORT" in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_when_told_to(number: int) -> None:
    """At once and with 0, even while a request hangs."""
    with RunningSimulator() as simulator:
        simulator.fault(kind="hang")
        host = urlsplit(simulator.url)
        _, writer = await asyncio.open_connection(host.hostname, host.port)
        writer.write(
            f"GET {group_id()}?api-version=2026-03-01 HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {simulator.token()}\r\n\r\n".encode()
        )
        await writer.drain()
        await asyncio.sleep(0.1)
        before = time.monotonic()
        assert simulator.stop(number) == 0
        assert time.monotonic() - before < 3
        writer.close()
        assert simulator.errors == ""


def test_requests_are_written_to_a_file(tmp_path: Path) -> None:
    """As JSON lines, one a request."""
    log = tmp_path / "arm.log"
    with RunningSimulator(SAMPLE, "--log-file", str(log)) as simulator:
        ask(simulator, group_id() + "?api-version=2026-03-01")
    (line,) = log.read_text().splitlines()
    assert json.loads(line)["action"] == f"{NSG}/read"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--page-size", "0"], "0 is not from 1"),
        (["--reads", "x"], "x is not N:M"),
        (["--port", "x"], "invalid int value: 'x'"),
        (["--dns-port", "65536"], "65536 is not from 0 to 65535"),
    ],
)
def test_options_that_make_no_sense(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """Argparse says so; exit status 2."""
    with pytest.raises(SystemExit) as ended:
        main(["--fleet", str(SAMPLE), *arguments])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("/subscriptions/s", ("s", None, None, (), ())),
        ("/SUBSCRIPTIONS/S/ResourceGroups/G/", ("S", "G", None, (), ())),
        ("/subscriptions/s/providers/N/t", ("s", None, "N", ("t",), ())),
        ("/subscriptions/s/resourcegroups/g/providers/N/t/n/u", ("s", "g", "N", ("t", "u"), ("n",))),
    ],
)
def test_arm_paths(text: str, parts: tuple[Any, ...]) -> None:
    """Fixed words in any case, types and names in turn."""
    path = ArmPath.parse(text)
    assert (path.subscription, path.resource_group, path.namespace, path.types, path.names) == parts
