"""The clients of Azure, one of each for a process, made when first needed.

An aio client belongs to the event loop that it was made on; the Functions worker
has one loop for its life, and whoever runs several (a test) gets a set for each.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from msgspec import Struct

from pipeline import settings, telemetry
from pipeline.settings import PUBLIC_CLOUD, Settings, SettingsError

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.data.tables.aio import TableServiceClient
    from azure.mgmt.compute.aio import ComputeManagementClient
    from azure.mgmt.containerservice.aio import ContainerServiceClient
    from azure.mgmt.network.aio import NetworkManagementClient
    from azure.mgmt.resource.subscriptions.aio import SubscriptionClient
    from azure.monitor.querymetrics.aio import MetricsClient

    from pipeline.pace import Pacer

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})
_METRICS = {
    "management.usgovcloudapi.net": "metrics.monitor.azure.us",
    "management.chinacloudapi.cn": "metrics.monitor.azure.cn",
}
"""Where Azure Monitor's batch interface is in clouds other than the public one, by ARM's host."""
_PUBLIC_METRICS = "metrics.monitor.azure.com"
_CONNECTIONS = 64
"""To Azure at once, over all clients: more only meets the throttle sooner."""
_RUN_COMMANDS = 40
"""Run commands on nodes that this process waits for at once."""
_METRICS_AT_ONCE = 3
"""Queries for metrics at once: each answer may be 10 MB, and several times that while it is read."""

# The emulator's account and key, which its documentation publishes
# (https://learn.microsoft.com/azure/storage/common/storage-connect-azurite).
_EMULATOR = (
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;"
    "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"
    "TableEndpoint=http://127.0.0.1:10002/devstoreaccount1;"
)


class SubscriptionClients(Struct, frozen=True):
    """The management clients of one subscription."""

    containers: ContainerServiceClient
    compute: ComputeManagementClient
    network: NetworkManagementClient


class Clients:
    """Everything that talks to Azure from this process."""

    def __init__(self, config: Settings) -> None:
        self.settings = config
        self.identity: AsyncTokenCredential | None = None
        self.session: Any = None
        self.pacer: Pacer | None = None
        self.by_subscription: dict[str, SubscriptionClients] = {}
        self.by_region: dict[str, MetricsClient] = {}
        self.tables: TableServiceClient | None = None
        self.inventories: dict[str, Any] = {}
        self.service_tags: dict[str, Any] = {}
        self.histories: dict[str, Any] = {}
        self.run_commands = asyncio.Semaphore(_RUN_COMMANDS)
        self.metric_queries = asyncio.Semaphore(_METRICS_AT_ONCE)

    def credential(self) -> AsyncTokenCredential:
        """The identity that the app runs as: managed identity in Azure, `az login` on a laptop."""
        if self.identity is None:
            from azure.identity.aio import DefaultAzureCredential

            self.identity = DefaultAzureCredential()
        return self.identity

    def for_subscription(self, subscription_id: str) -> SubscriptionClients:
        """The management clients of one subscription."""
        from azure.mgmt.compute.aio import ComputeManagementClient
        from azure.mgmt.containerservice.aio import ContainerServiceClient
        from azure.mgmt.network.aio import NetworkManagementClient

        key = subscription_id.lower()
        if key not in self.by_subscription:
            options = self._arm_options()
            self.by_subscription[key] = SubscriptionClients(
                containers=ContainerServiceClient(self.credential(), subscription_id, **options),
                compute=ComputeManagementClient(self.credential(), subscription_id, **options),
                network=NetworkManagementClient(self.credential(), subscription_id, **options),
            )
        return self.by_subscription[key]

    def subscriptions(self) -> SubscriptionClient:
        """The client that lists subscriptions."""
        from azure.mgmt.resource.subscriptions.aio import SubscriptionClient

        return SubscriptionClient(self.credential(), **self._arm_options())

    def metrics(self, region: str) -> MetricsClient:
        """The client of Azure Monitor's batch interface in a region."""
        from azure.monitor.querymetrics.aio import MetricsClient

        if region not in self.by_region:
            options = self._arm_options()
            arm = urlsplit(options.pop("base_url"))
            host = _METRICS.get(arm.hostname or "", _PUBLIC_METRICS)
            # A stand-in on this machine has all regions at one address.
            stand_in = f"{self.settings.arm_endpoint}/metrics/{region}"
            options["credential_scopes"] = [f"https://{host}/.default"]
            self.by_region[region] = MetricsClient(
                stand_in if arm.hostname in _LOOPBACK else f"https://{region}.{host}",
                self.credential(),
                **options,
            )
        return self.by_region[region]

    def table_service(self) -> TableServiceClient:
        """The client of the storage account's tables; raises `SettingsError` if none is configured."""
        from azure.data.tables.aio import TableServiceClient

        if self.tables is None:
            storage = self.settings.storage
            connection = storage.get("AzureWebJobsStorage", "")
            account = storage.get("AzureWebJobsStorage__accountName", "")
            endpoint = storage.get("AzureWebJobsStorage__tableServiceUri", "") or (
                f"https://{account}.table.core.windows.net" if account else ""
            )
            retries: dict[str, Any] = {"retry_total": 3, "connection_timeout": 5, "read_timeout": 30}
            try:
                if connection:
                    emulated = connection.strip().rstrip(";").lower() == "usedevelopmentstorage=true"
                    self.tables = TableServiceClient.from_connection_string(
                        _EMULATOR if emulated else connection, **retries
                    )
                elif endpoint:
                    self.tables = TableServiceClient(endpoint, credential=self.credential(), **retries)
            except ValueError as error:
                raise SettingsError(f"AzureWebJobsStorage: no usable connection string ({error})") from error
            if self.tables is None:
                raise SettingsError(
                    "AzureWebJobsStorage: neither a connection string nor AzureWebJobsStorage__accountName "
                    "or AzureWebJobsStorage__tableServiceUri is set"
                )
        return self.tables

    def _arm_options(self) -> dict[str, Any]:
        import aiohttp
        from azure.core.pipeline.transport import AioHttpTransport

        from pipeline.pace import ArmPolicy, Pacer

        endpoint = self.settings.arm_endpoint
        if self.session is None:
            # As the SDK makes its own: it decompresses itself, keeps no cookies and honours a proxy.
            self.session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=True,
            )
            self.pacer = Pacer()
        assert self.pacer is not None  # noqa: S101 - made together with the session
        loopback = urlsplit(endpoint).hostname in _LOOPBACK
        return {
            "base_url": endpoint,
            # A stand-in on this machine wants tokens for the real thing.
            "credential_scopes": [f"{PUBLIC_CLOUD if loopback else endpoint}/.default"],
            "transport": AioHttpTransport(session=self.session, session_owner=False),
            "per_retry_policies": [
                ArmPolicy(self.pacer, loopback=loopback, probing=self.settings.node_probes)
            ],
            # Four more tries, 0.8 s to 12.8 s apart, or as Retry-After says.
            "retry_total": 4,
            "connection_timeout": 10,
            "read_timeout": 30,
        }

    async def close(self) -> None:
        """Close every connection."""
        for clients in self.by_subscription.values():
            for client in (clients.containers, clients.compute, clients.network):
                await client.close()
        for metrics in self.by_region.values():
            await metrics.close()
        for closable in (self.session, self.tables, self.identity):
            if closable is not None:
                await closable.close()


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Clients] = WeakKeyDictionary()


def get() -> Clients:
    """The clients of the running event loop, made from the app settings at the first call.

    Raises `SettingsError` naming a setting that cannot be used.
    """
    loop = asyncio.get_running_loop()
    if loop not in _of_loop:
        config = settings.load()
        # The SDK tells of each token and each request; its warnings are what matters here.
        logging.getLogger("azure").setLevel(logging.WARNING)
        telemetry.start(config.otlp_endpoint)
        _of_loop[loop] = Clients(config)
    return _of_loop[loop]
