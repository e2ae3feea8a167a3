"""The managed-identity endpoint, in the style of App Service, and the tokens it gives out.

`GET /msi/token?api-version=2019-08-01&resource=…[&client_id=…]` with the secret in `X-IDENTITY-HEADER`:
https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference.
A token is a JSON Web Token signed with a key made from that secret, so one that was given out before a
restart of the simulator is good after it.
"""

import base64
import binascii
import hashlib
import hmac
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from local.azure.arm import ArmError, Json
from local.azure.store import TENANT

AUDIENCES = frozenset({"https://management.azure.com", "https://management.core.windows.net"})
"""What ARM accepts a token for."""

SYSTEM_ASSIGNED = "0d9c61f3-7b52-4c0e-a8d4-e1f2a3b4c5d6"
"""The client id of the app's own identity."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking."""

    client: str
    """The client (application) id."""
    object: str
    """The object id of the service principal."""


class Identity:
    """Gives out tokens and knows them again."""

    def __init__(self, secret: str, *, lifetime: int = 86_400) -> None:
        self._secret = secret
        self._key = hashlib.sha256(b"token signing:" + secret.encode()).digest()
        self._lifetime = lifetime

    def issue(self, *, header: str | None, resource: str | None, client: str | None, now: float) -> Json:
        """Answer a token request, or raise ArmError with App Service's `statusCode` and `message`."""
        if header is None or not hmac.compare_digest(_bytes(header), _bytes(self._secret)):
            raise ArmError(401, "Unauthorized", "The X-IDENTITY-HEADER header is missing or wrong.")
        if not resource:
            raise ArmError(400, "BadRequest", "The resource parameter is required.")
        if client is not None and not _is_guid(client):
            raise ArmError(
                400,
                "BadRequest",
                "No User Assigned or Delegated Managed Identity found for specified "
                "ClientId/ResourceId/PrincipalId.",
            )
        client = (client or SYSTEM_ASSIGNED).lower()
        expires = int(now) + self._lifetime
        claims = {
            "aud": resource,
            "iss": f"https://sts.windows.net/{TENANT}/",
            "iat": int(now),
            "nbf": int(now),
            "exp": expires,
            "appid": client,
            "idtyp": "app",
            "oid": str(uuid.uuid5(uuid.NAMESPACE_OID, client)),
            "tid": TENANT,
        }
        signed = _encode({"alg": "HS256", "typ": "JWT"}) + "." + _encode(claims)
        return {
            "access_token": signed + "." + self._sign(signed),
            "expires_on": str(expires),
            "resource": resource,
            "token_type": "Bearer",
            "client_id": client,
        }

    def authenticate(
        self, authorization: str | None, now: float, audiences: frozenset[str] = AUDIENCES
    ) -> Principal:
        """Know the bearer of a token, or raise ARM's 401 with its challenge."""
        if authorization is None:
            raise _refusal(
                "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing."
            )
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise _refusal(
                "AuthenticationFailed",
                "Authentication failed. The 'Authorization' header is provided in an invalid format.",
            )
        signed, _, signature = token.strip().rpartition(".")
        if not hmac.compare_digest(_bytes(signature), _bytes(self._sign(signed))):
            raise _refusal("InvalidAuthenticationToken", "The access token is invalid.")
        claims = _decode(signed.partition(".")[2])
        if claims["exp"] <= now:
            raise _refusal(
                "ExpiredAuthenticationToken",
                f"The access token expiry UTC time '{_moment(claims['exp'])}' is earlier than "
                f"current UTC time '{_moment(now)}'.",
            )
        if claims["aud"].rstrip("/") not in audiences:
            raise _refusal(
                "InvalidAuthenticationTokenAudience",
                f"The access token has been obtained for wrong audience or resource '{claims['aud']}'. "
                "It should exactly match with one of the allowed audiences "
                f"{','.join(repr(audience) for audience in sorted(audiences))}.",
            )
        return Principal(claims["appid"], claims["oid"])

    def _sign(self, text: str) -> str:
        digest = hmac.new(self._key, _bytes(text), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _refusal(code: str, message: str) -> ArmError:
    error = "invalid_token" if code != "AuthenticationFailed" else "invalid_request"
    challenge = (
        f'Bearer authorization_uri="https://login.windows.net/{TENANT}", '
        f'error="{error}", error_description="{message}"'
    )
    return ArmError(401, code, message, headers={"WWW-Authenticate": challenge})


def _bytes(text: str) -> bytes:
    """A header's text as it came: what was not UTF-8 in it is in surrogates."""
    return text.encode(errors="surrogateescape")


def _encode(content: Json) -> str:
    raw = json.dumps(content, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> Json:
    try:
        content: Json = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError):
        raise _refusal("InvalidAuthenticationToken", "The access token is invalid.") from None
    return content


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%m/%d/%Y %I:%M:%S %p")


def _is_guid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
