"""Long-running operations: 202 with `Azure-AsyncOperation` and `Location`, polled until the result is there.

https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations.
"""

import math
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime

from local.azure.arm import ArmError, ArmPath, Json

POLL_SECONDS = 1
"""What `Retry-After` asks of the client; without it the SDK waits for thirty seconds."""

IN_PROGRESS: Json = {"status": "InProgress"}
"""The body of a poll that comes too early."""


@dataclass(slots=True)
class Operation:
    """One operation that was accepted, and what became of it."""

    id: str
    namespace: str
    location: str
    version: str
    done_at: float = math.inf
    """From when on its end can be seen; never, until it has ended."""
    result: Json | None = None
    error: ArmError | None = None
    """Why it failed; None where it did not."""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None

    def headers(self, base: str, subscription: str) -> dict[str, str]:
        """Where to poll, as absolute addresses on this server."""
        root = f"{base}/subscriptions/{subscription}/providers/{self.namespace}/locations/{self.location}"
        # Compute has one path for both, so one action in a role: https://github.com/Azure/azure-cli/issues/32286
        result = (
            f"operations/{self.id}?monitor=true&"
            if self.namespace == "Microsoft.Compute"
            else f"operationResults/{self.id}?"
        )
        return {
            "Azure-AsyncOperation": f"{root}/operations/{self.id}?api-version={self.version}",
            "Location": f"{root}/{result}api-version={self.version}",
            "Retry-After": str(POLL_SECONDS),
        }

    def finish(self, result: Json | ArmError) -> None:
        """End it, with what it was to find out or with what went wrong."""
        self.ended = datetime.now(UTC)
        if isinstance(result, ArmError):
            self.error = result
        else:
            self.result = result
        self.done_at = 0

    def describe(self) -> Json:
        """The body of a poll once it has ended; the compute provider tells more than the network one."""
        body: Json = {"status": "Failed" if self.error else "Succeeded"}
        if self.error:
            body |= self.error.body()
        if self.ended:
            body |= {
                "startTime": self.started.isoformat(),
                "endTime": self.ended.isoformat(),
                "name": self.id,
            }
            if self.result is not None:
                body["properties"] = {"output": self.result}
        return body


class Operations:
    """Every operation accepted since the start."""

    def __init__(self) -> None:
        self._operations: dict[str, Operation] = {}

    def accept(
        self,
        *,
        namespace: str,
        location: str,
        version: str,
        result: Json | None = None,
        done_at: float = math.inf,
    ) -> Operation:
        """Start an operation whose result can be fetched from `done_at` on, or once it was told to finish."""
        operation = Operation(str(uuid.uuid4()), namespace, location, version, done_at, result)
        self._operations[operation.id] = operation
        return operation

    def poll(self, path: ArmPath, now: float, *, monitor: bool = False) -> tuple[int, Json | None]:
        """Answer a poll of either address (`monitor`, of a result): the status code, and the body if any."""
        operation = self._operations.get(path.names[-1].lower())
        if operation is None:
            raise ArmError(
                404, "NotFound", f"The operation '{path.names[-1]}' was not found.", cause="service"
            )
        done = now >= operation.done_at
        if path.types[-1].lower() == "operations" and not monitor:
            return 200, (operation.describe() if done else IN_PROGRESS)
        if done and operation.error:
            raise operation.error
        return (200, operation.result) if done else (202, None)


def is_poll(path: ArmPath) -> bool:
    """Whether a path is one of the two that an accepted operation hands out."""
    kinds = tuple(kind.lower() for kind in path.types)
    return (
        kinds in {("locations", "operations"), ("locations", "operationresults")} and not path.is_collection
    )
