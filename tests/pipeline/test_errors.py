"""Azure's errors, as its SDK raises them, and the reason that each becomes."""

import json
from typing import Any

import pytest
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    DecodeError,
    HttpResponseError,
    IncompleteReadError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ServiceResponseError,
    ServiceResponseTimeoutError,
    map_error,
)
from azure.identity import CredentialUnavailableError

from pipeline.errors import TRANSIENT, reason_for

NSG = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/networkSecurityGroups/web"
READ = "Microsoft.Network/networkSecurityGroups/read"
MAP = {401: ClientAuthenticationError, 404: ResourceNotFoundError}


class Response:
    """An answer of ARM, as much of it as the SDK's errors read."""

    def __init__(self, status: int, body: Any) -> None:
        self.status_code = status
        self.reason = "Reason"
        self._body = body if isinstance(body, str) else json.dumps(body)

    def text(self, encoding: str | None = None) -> str:
        """The body."""
        del encoding
        return self._body


def answered(status: int, code: str = "Code", message: str = "Something is wrong.") -> HttpResponseError:
    """What the management clients raise for an answer: by status, or else the general error."""
    response: Any = Response(status, {"error": {"code": code, "message": message}})
    try:
        map_error(status_code=status, response=response, error_map=MAP)
    except HttpResponseError as error:
        return error
    return HttpResponseError(response=response)


REFUSED = (
    "The client '9c1d' with object id '9c1d' does not have authorization to perform action "
    "'Microsoft.Network/networkSecurityGroups/securityRules/read' over scope "
    f"'{NSG}' or the scope is invalid."
)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            answered(403, "AuthorizationFailed"),
            "permission_denied",
            f"the identity lacks the action {READ} on it",
        ),
        (answered(404, "ResourceNotFound"), "not_found", "it does not exist"),
        (answered(429, "OperationNotAllowed"), "throttled", "throttling"),
        (
            answered(500, "InternalServerError"),
            "azure_error",
            "Azure answered 500: (InternalServerError) Something",
        ),
        (answered(503), "azure_error", "Azure answered 503"),
        (answered(409, "Conflict"), "azure_error", "Azure answered 409"),
        (answered(401, "InvalidAuthenticationToken"), "authentication_failed", "no token was accepted"),
        (
            ClientAuthenticationError("AADSTS700016: not found\nTrace ID: 1"),
            "authentication_failed",
            "AADSTS700016",
        ),
        (CredentialUnavailableError("no managed identity"), "authentication_failed", "no managed identity"),
        (DecodeError("JSON is invalid"), "malformed_answer", "no valid JSON"),
        (IncompleteReadError("cut short"), "malformed_answer", "no valid JSON"),
        (ServiceRequestTimeoutError("timed out"), "timeout", "did not answer in time"),
        (ServiceResponseTimeoutError("timed out"), "timeout", "did not answer in time"),
        (TimeoutError(), "timeout", "did not answer in time"),
        (ServiceRequestError("Cannot connect to host x"), "unreachable", "Cannot connect to host x"),
        (ServiceResponseError("Connection reset by peer"), "unreachable", "Connection reset by peer"),
        (AzureError("something else"), "azure_error", "something else"),
        (AttributeError("'NoneType' object has no attribute 'get'"), "malformed_answer", "AttributeError"),
        (ValueError("not an Azure resource id"), "malformed_answer", "not an Azure resource id"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_the_reason_for_an_error(error: Exception, code: str, words: str) -> None:
    """A code, a sentence that says what could not be read and why, and the id of it."""
    reason = reason_for(error, what='network security group "web"', resource_id=NSG, action=READ)
    assert reason.code == code
    assert reason.message.startswith('Could not read network security group "web": ')
    assert words in reason.message
    assert reason.message.endswith(".")
    assert "\n" not in reason.message
    assert reason.resource == NSG
    assert (reason.action is not None) is (code == "permission_denied")


def test_azures_own_words_name_the_missing_action() -> None:
    """Where Azure says which action is missing, that is the one; else the one that was tried."""
    refused = reason_for(
        answered(403, "AuthorizationFailed", REFUSED), what="x", resource_id=NSG, action=READ
    )
    assert refused.action == "Microsoft.Network/networkSecurityGroups/securityRules/read"
    assert refused.action in refused.message
    plain = reason_for(answered(403, "Forbidden"), what="x", resource_id=NSG, action=READ)
    assert plain.action == READ


def test_a_long_answer_is_cut() -> None:
    """A page of HTML does not become a sentence."""
    long = reason_for(answered(502, "BadGateway", "x" * 5000), what="x", resource_id=NSG, action=READ)
    assert len(long.message) < 400


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (answered(429), True),
        (answered(500), True),
        (TimeoutError(), True),
        (ServiceResponseError("reset"), True),
        (DecodeError("cut"), True),
        (answered(403), False),
        (answered(404), False),
        (answered(401), False),
    ],
)
def test_what_may_be_gone_at_the_next_try(error: Exception, transient: bool) -> None:
    """Missing rights and missing resources stay; the rest is worth another try."""
    code = reason_for(error, what="x", resource_id=NSG, action=READ).code
    assert (code in TRANSIENT) is transient
