"""Faults on demand: which requests go wrong, and how.

A fault is a JSON object:
`{"match": {"action", "path", "subscription", "method"}, "kind": …, "times", "seconds", "probability"}`.
Every field of `match` that is given must hold; `path` is a regular expression searched for in the path, in
any case. The first fault that matches, in the order in which they were made, is the one that happens.

aiohttp, which carries the `aio` clients' requests, repeats a GET once by itself when its connection is cut:
it takes two resets for the SDK to see one.
"""

import re
import uuid
from dataclasses import dataclass
from typing import Any

from local.azure.arm import ArmError, Json, MalformedError, authorization_failed
from local.azure.identity import Principal

REFUSALS = ("403", "404", "429", "500", "503")
"""Kinds that are an error body with that status."""
BREAKAGES = ("reset", "hang", "empty", "malformed", "truncated")
"""Kinds that break the transport or the body."""

_FIELDS = {"id", "match", "kind", "times", "seconds", "probability"}
_MATCHES = {"action", "path", "subscription", "method"}


@dataclass(slots=True)
class Fault:
    """One fault, and how often it will still happen."""

    id: str
    kind: str
    match: dict[str, str]
    times: int | None
    """How many more requests it takes; None for all of them."""
    seconds: float | None
    """How long a `hang` lasts, or what `Retry-After` says."""
    probability: float

    def describe(self) -> Json:
        """The fault as `/_sim/faults` shows it."""
        return {
            "id": self.id,
            "kind": self.kind,
            "match": self.match,
            "times": self.times,
            "seconds": self.seconds,
            "probability": self.probability,
        }

    def matches(self, *, method: str, path: str, action: str, subscription: str) -> bool:
        """Whether it concerns a request."""
        actual = {"method": method, "action": action, "subscription": subscription}
        return all(
            re.search(wanted, path, re.IGNORECASE) is not None
            if name == "path"
            else wanted.lower() == actual[name].lower()
            for name, wanted in self.match.items()
        )

    def refusal(self, *, principal: Principal, action: str, path: str) -> ArmError:
        """The error of a fault of one of the kinds in REFUSALS."""
        wait = {"Retry-After": f"{self.seconds:g}"} if self.seconds is not None else {}
        match self.kind:
            case "403":
                return authorization_failed(
                    client=principal.client, principal=principal.object, action=action, scope=path
                )
            case "404":
                return ArmError(404, "ResourceNotFound", f"The Resource '{path}' was not found.")
            case "429":
                wait = wait or {"Retry-After": "1"}
                message = "The request is being throttled as the limit has been reached for operation type."
                return ArmError(429, "TooManyRequests", message, headers=wait)
            case "503":
                message = "The service is temporarily unavailable. Please retry later."
                return ArmError(503, "ServiceUnavailable", message, headers=wait, cause="service")
            case _:
                message = "Encountered internal server error."
                return ArmError(500, "InternalServerError", message, headers=wait, cause="service")


def parse(content: Any) -> Fault:
    """Read a fault; MalformedError says what is wrong with it."""
    if not isinstance(content, dict):
        raise MalformedError("not an object")
    if unknown := content.keys() - _FIELDS:
        raise MalformedError(f"unknown field {', '.join(sorted(unknown))}")
    kind = str(content.get("kind"))
    if kind not in REFUSALS + BREAKAGES:
        raise MalformedError(f"kind is one of {', '.join(REFUSALS + BREAKAGES)}")
    match = content.get("match", {})
    if not isinstance(match, dict) or match.keys() - _MATCHES:
        raise MalformedError(f"match is an object with any of {', '.join(sorted(_MATCHES))}")
    if not all(isinstance(value, str) for value in match.values()):
        raise MalformedError("match holds strings")
    try:
        re.compile(match.get("path", ""))
    except re.error as error:
        raise MalformedError(f"match.path is no regular expression: {error}") from None
    times = content.get("times")
    if times is not None and not (_is_number(times, int) and times >= 1):
        raise MalformedError("times is a whole number above 0")
    seconds = content.get("seconds")
    if seconds is not None and not (_is_number(seconds, int, float) and seconds >= 0):
        raise MalformedError("seconds is a number, 0 or more")
    probability = content.get("probability", 1)
    if not (_is_number(probability, int, float) and 0 <= probability <= 1):
        raise MalformedError("probability is a number from 0 to 1")
    identifier = content.get("id") or uuid.uuid4().hex[:8]
    return Fault(str(identifier), kind, match, times, seconds, probability)


def _is_number(value: Any, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
