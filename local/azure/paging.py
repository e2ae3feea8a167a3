"""Tokens for the next page of a list: opaque to clients, and refused if they were never given out."""

import base64
import binascii

from local.azure.arm import ArmError


def token(start: int) -> str:
    """What stands for the page that begins with an item."""
    return base64.urlsafe_b64encode(f"from:{start}".encode()).decode()


def start(token: str | None) -> int:
    """The item that a token's page begins with, the first without a token; raises ArmError (400)."""
    if token is None:
        return 0
    try:
        name, _, number = base64.urlsafe_b64decode(token).decode().partition(":")
        if name == "from" and int(number) >= 0:
            return int(number)
    except (binascii.Error, ValueError):
        pass
    raise ArmError(400, "InvalidSkipToken", f"The skip token '{token}' is invalid.")
