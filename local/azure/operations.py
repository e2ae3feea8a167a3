"""Long-running operations: 202 with `Azure-AsyncOperation` and `Location`, polled until the result is there.

https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations.
"""

import uuid
from dataclasses import dataclass

from local.azure.arm import ArmError, ArmPath, Json

POLL_SECONDS = 1
"""What `Retry-After` asks of the client; without it the SDK waits for thirty seconds."""

IN_PROGRESS: Json = {"status": "InProgress"}
"""The body of a poll that comes too early."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation that was accepted."""

    id: str
    namespace: str
    location: str
    version: str
    done_at: float
    result: Json

    def headers(self, base: str, subscription: str) -> dict[str, str]:
        """Where to poll, as absolute addresses on this server."""
        root = f"{base}/subscriptions/{subscription}/providers/{self.namespace}/locations/{self.location}"
        return {
            "Azure-AsyncOperation": f"{root}/operations/{self.id}?api-version={self.version}",
            "Location": f"{root}/operationResults/{self.id}?api-version={self.version}",
            "Retry-After": str(POLL_SECONDS),
        }


class Operations:
    """Every operation accepted since the start."""

    def __init__(self) -> None:
        self._operations: dict[str, Operation] = {}

    def accept(
        self, *, namespace: str, location: str, version: str, result: Json, done_at: float
    ) -> Operation:
        """Start an operation whose result can be fetched from `done_at` on."""
        operation = Operation(str(uuid.uuid4()), namespace, location, version, done_at, result)
        self._operations[operation.id] = operation
        return operation

    def poll(self, path: ArmPath, now: float) -> tuple[int, Json | None]:
        """Answer a poll of either address: the status code, and the body if there is one."""
        operation = self._operations.get(path.names[-1].lower())
        if operation is None:
            raise ArmError(
                404, "NotFound", f"The operation '{path.names[-1]}' was not found.", cause="service"
            )
        done = now >= operation.done_at
        if path.types[-1].lower() == "operations":
            return 200, ({"status": "Succeeded"} if done else IN_PROGRESS)
        return (200, operation.result) if done else (202, None)


def is_poll(path: ArmPath) -> bool:
    """Whether a path is one of the two that an accepted operation hands out."""
    kinds = tuple(kind.lower() for kind in path.types)
    return (
        kinds in {("locations", "operations"), ("locations", "operationresults")} and not path.is_collection
    )
