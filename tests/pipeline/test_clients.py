"""Where the clients of Azure look: by cloud, by region, or at a stand-in on this machine."""

import pytest

from pipeline import settings
from pipeline.clients import Clients


@pytest.mark.parametrize(
    ("arm", "endpoint", "scope"),
    [
        (
            "https://management.azure.com",
            "https://westeurope.metrics.monitor.azure.com",
            "https://metrics.monitor.azure.com/.default",
        ),
        (
            "https://management.usgovcloudapi.net",
            "https://westeurope.metrics.monitor.azure.us",
            "https://metrics.monitor.azure.us/.default",
        ),
        (
            "https://management.chinacloudapi.cn/",
            "https://westeurope.metrics.monitor.azure.cn",
            "https://metrics.monitor.azure.cn/.default",
        ),
        (
            "http://127.0.0.1:4566",
            "http://127.0.0.1:4566/metrics/westeurope",
            "https://metrics.monitor.azure.com/.default",
        ),
    ],
    ids=["public", "US government", "China", "stand-in"],
)
async def test_where_metrics_are(arm: str, endpoint: str, scope: str) -> None:
    """One client for each region, whose token is for Azure Monitor and not for ARM."""
    clients = Clients(settings.load({"ARM_ENDPOINT": arm}))
    client = clients.metrics("westeurope")
    assert client is clients.metrics("westeurope")
    assert client is not clients.metrics("northeurope")
    assert client._config.endpoint == endpoint
    assert client._config.credential_scopes == [scope]
    await clients.close()
