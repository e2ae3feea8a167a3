"""ARM's throttle: a token bucket for each subscription, identity and kind of request.

250 reads refilled at 25 a second, 200 writes refilled at 10 a second:
https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling.
"""

import math
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Limit:
    """How many requests may come at once, and how many a second in the long run."""

    capacity: float
    refill: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `CAPACITY:REFILL`, such as `250:25`; ValueError if it is not that."""
        capacity, _, refill = text.partition(":")
        limit = cls(float(capacity), float(refill))
        if not (limit.capacity >= 1 and limit.refill > 0):
            raise ValueError("a capacity of 1 or more and a refill above 0")
        return limit


READS = Limit(250, 25)
WRITES = Limit(200, 10)
METRICS = Limit(500, 50)
"""Of Azure Monitor's batch interface, which is not behind ARM; nobody documents a limit."""


class Bucket:
    """Tokens that come back with time; a refused request takes none."""

    def __init__(self, limit: Limit, now: float) -> None:
        self._limit = limit
        self._tokens = limit.capacity
        self._at = now

    def take(self, now: float) -> int:
        """Take a token and return 0, or the whole seconds until there is one."""
        self._tokens = min(self._limit.capacity, self._tokens + (now - self._at) * self._limit.refill)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0
        return max(1, math.ceil((1 - self._tokens) / self._limit.refill))

    @property
    def remaining(self) -> int:
        """What `x-ms-ratelimit-remaining-*` tells."""
        return int(self._tokens)


class Throttle:
    """All the buckets; `enabled=False` counts on but never refuses."""

    def __init__(self, *, reads: Limit = READS, writes: Limit = WRITES, enabled: bool = True) -> None:
        self._limits = {"read": reads, "write": writes, "metric": METRICS}
        self._enabled = enabled
        self._buckets: dict[tuple[str, str, str], Bucket] = {}

    def take(self, kind: str, scope: str, actor: str, now: float) -> tuple[int, int]:
        """Let a `read`, `write` or `metric` query through, or not: (seconds to wait or 0, tokens left)."""
        name = (kind, scope, actor)
        if name not in self._buckets:
            self._buckets[name] = Bucket(self._limits[kind], now)
        bucket = self._buckets[name]
        wait = bucket.take(now)
        return (wait if self._enabled else 0), bucket.remaining
