"""Azure's errors in our own words: every one becomes a reason that a person can act on."""

import asyncio
import re

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    DecodeError,
    HttpResponseError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ServiceResponseError,
    ServiceResponseTimeoutError,
)

from facts.finding import Reason

_GONE = frozenset({"ResourceNotFound", "ResourceGroupNotFound", "NotFound"})
"""What ARM and the providers call a resource that is not there. Another 404, SubscriptionNotFound say,
may as well mean a lost permission."""
_ACTION = re.compile(r"perform action '([^']+)'")

TRANSIENT = frozenset({"throttled", "timeout", "unreachable", "azure_error", "malformed_answer"})
"""Reasons that may be gone at the next try."""


def reason_for(error: Exception, *, what: str, resource_id: str, action: str) -> Reason:
    """Why something in Azure could not be read.

    `what` is in words (`network security group "web"`); `action` is the Azure action that
    reading it takes, named where Azure's own message does not.
    """
    code, words = _explain(error, action)
    missing = None
    if code == "permission_denied":
        found = _ACTION.search(str(error))
        missing = found[1] if found else action
        words = f"the identity lacks the action {missing} on it"
    return Reason(code=code, message=f"Could not read {what}: {words}.", action=missing, resource=resource_id)


def _explain(error: Exception, action: str) -> tuple[str, str]:
    match error:
        case TimeoutError() | asyncio.TimeoutError():
            return "timeout", "Azure did not answer in time"
        case ServiceRequestTimeoutError() | ServiceResponseTimeoutError():
            return "timeout", "Azure did not answer in time"
        case ClientAuthenticationError():
            return (
                "authentication_failed",
                f"no token was accepted ({_first_line(error)}). Check the identity and its role assignments",
            )
        case DecodeError():
            return "malformed_answer", "Azure's answer was no valid JSON"
        case HttpResponseError(status_code=403):
            return "permission_denied", action
        case HttpResponseError(status_code=404):
            said = error.error.code if error.error else None
            if said in _GONE:
                return "not_found", "it does not exist (any more)"
            return "not_visible", f"Azure does not find it ({said or '404'}): {_first_line(error)}"
        case HttpResponseError(status_code=429):
            return "throttled", "Azure is throttling requests of this subscription"
        case HttpResponseError():
            return "azure_error", f"Azure answered {error.status_code}: {_first_line(error)}"
        case ServiceRequestError() | ServiceResponseError():
            return "unreachable", f"Azure could not be reached: {_first_line(error)}"
        case AzureError():
            return "azure_error", _first_line(error)
        case ValueError():
            return "malformed_answer", f"what Azure has there could not be understood: {_first_line(error)}"
        case _:
            # The SDK met a body that it could not make a model of.
            return "malformed_answer", f"Azure's answer could not be understood ({type(error).__name__})"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")
