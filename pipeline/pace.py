"""How fast Azure may be asked, shared by everything in this process.

Azure Resource Manager gives each principal a bucket of 250 reads per
subscription and region, refilled at 25 a second, and a refused call that comes
back early starts its wait anew
(https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling).
So requests are spaced as the bucket refills, more carefully as the header
`x-ms-ratelimit-remaining-subscription-reads` nears zero, and one 429 holds back
all of its subscription. A POST that only reads may be counted among the writes, of which
there are 200, refilled at 10 a second: it is spaced as they are. Run commands on nodes have a limit
of their own besides, 500 a minute in a subscription and region
(https://learn.microsoft.com/azure/virtual-machines/compute-throttling-limits). Azure Monitor's batch
interface is another service, outside ARM's buckets; nobody documents its limit, so it is asked as moderately.
"""

import asyncio
import re
from typing import Literal
from urllib.parse import urlsplit

from aiolimiter import AsyncLimiter
from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import AsyncHTTPPolicy
from azure.core.rest import AsyncHttpResponse, HttpRequest

from pipeline import telemetry

_SUBSCRIPTION = re.compile(r"/subscriptions/([^/?]+)", re.IGNORECASE)
_REMAINING = "x-ms-ratelimit-remaining-subscription-{}"

Bucket = Literal["reads", "writes", "run-commands", "metrics"]

BURST: dict[Bucket, int] = {"reads": 200, "writes": 150, "run-commands": 100, "metrics": 50}
"""Requests that may go out at once: the bucket's 250 or 200, less what others may have taken."""
REFILL: dict[Bucket, float] = {"reads": 25.0, "writes": 10.0, "run-commands": 8.0, "metrics": 10.0}
"""Requests that come back each second."""
LOW = 50
"""With fewer left than this, every request waits for its refill."""

READING_POSTS = ("/listnetworkmanagereffectivesecurityadminrules",)
"""The ends of paths, in lower case, to which a POST changes nothing."""
METRICS = "/metrics:getbatch"
"""The end of paths, in lower case, to which a POST asks Azure Monitor for metrics."""
RUN_COMMAND = "/runcommand"
"""The end of paths, in lower case, to which a POST runs a script on a node."""


class _Budget:
    """What one subscription still has of one bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.refill = REFILL[bucket]
        self.limiter = AsyncLimiter(BURST[bucket], BURST[bucket] / self.refill)
        self.not_before = 0.0
        self.tight = asyncio.Lock()
        self.remaining: int | None = None

    async def take(self) -> None:
        """Wait for a turn."""
        clock = asyncio.get_running_loop()
        await self.limiter.acquire()
        if self.remaining is not None and self.remaining < LOW:
            async with self.tight:
                await asyncio.sleep(1 / self.refill)
        while (wait := self.not_before - clock.time()) > 0:  # noqa: ASYNC110 - a later 429 may move it
            await asyncio.sleep(wait)

    def learn(self, response: AsyncHttpResponse) -> None:
        """Take note of what an answer says about the bucket."""
        counted = "reads" if self.bucket == "reads" else "writes"
        remaining = response.headers.get(_REMAINING.format(counted), "")
        if remaining.isdecimal():
            self.remaining = int(remaining)
        if response.status_code == 429:
            after = response.headers.get("Retry-After", "")
            seconds = float(after) if after.isdecimal() else 1.0
            self.not_before = max(self.not_before, asyncio.get_running_loop().time() + seconds)


class Pacer:
    """The budgets of all subscriptions, one for a process."""

    def __init__(self) -> None:
        self._budgets: dict[tuple[str, Bucket], _Budget] = {}

    def is_held(self, url: str) -> bool:
        """Whether Azure has said to wait, and the time is not over."""
        now = asyncio.get_running_loop().time()
        return any(self.budget(url, bucket).not_before > now for bucket in BURST)

    def budget(self, url: str, bucket: Bucket = "reads") -> _Budget:
        """The budget that a request draws on; requests outside any subscription share one."""
        found = _SUBSCRIPTION.search(urlsplit(url).path)
        key = (found[1].lower() if found else "", bucket)
        if key not in self._budgets:
            self._budgets[key] = _Budget(bucket)
        return self._budgets[key]


class ReadOnlyError(RuntimeError):
    """Something tried to change Azure."""


class NotRegisteredError(ReadOnlyError):
    """The subscription does not have the resource provider, and so nothing of its kinds.

    The SDK would register the provider, unasked
    (`AsyncARMAutoResourceProviderRegistrationPolicy` of azure-mgmt-core).
    """


class ArmPolicy(AsyncHTTPPolicy[HttpRequest, AsyncHttpResponse]):
    """Paces each try of each request, counts it, and refuses whatever would change Azure.

    Plain HTTP is let through to a loopback endpoint only, where a stand-in for Azure runs; run commands
    only where probes of nodes are switched on.
    """

    def __init__(self, pacer: Pacer, *, loopback: bool, probing: bool = False) -> None:
        super().__init__()
        self._pacer = pacer
        self._loopback = loopback
        self._probing = probing

    async def send(
        self, request: PipelineRequest[HttpRequest]
    ) -> PipelineResponse[HttpRequest, AsyncHttpResponse]:
        """Send one try of a request."""
        http = request.http_request
        bucket = self._bucket(http)
        if self._loopback:
            request.context.options["enforce_https"] = False
        budget = self._pacer.budget(http.url, bucket)
        await budget.take()
        try:
            response = await self.next.send(request)
        except Exception:
            telemetry.count_azure_request(http.url, 0)
            raise
        telemetry.count_azure_request(http.url, response.http_response.status_code)
        budget.learn(response.http_response)
        return response

    def _bucket(self, http: HttpRequest) -> Bucket:
        """Whose limit a request counts against; raises `ReadOnlyError` for one that must not be made."""
        if http.method == "GET":
            return "reads"
        path = urlsplit(http.url).path.lower()
        if http.method == "POST" and path.endswith(READING_POSTS):
            return "writes"
        if http.method == "POST" and path.endswith(METRICS):
            return "metrics"
        if http.method == "POST" and path.endswith(RUN_COMMAND) and self._probing:
            return "run-commands"
        if path.endswith("/register"):
            raise NotRegisteredError(f"a resource provider is not registered: {http.url}")
        raise ReadOnlyError(f"Tunnelwatch only reads, and this is {http.method} {http.url}")
