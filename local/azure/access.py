"""Role-based access: what the identity may not read, from a fleet's `access.json`.

`{"deny": [{"scope": "/subscriptions/…", "actions": ["Microsoft.Network/networkSecurityGroups/read"]}]}`.
Everything else may be read. Actions take `*` for any run of characters, as in a role definition.
"""

import re
from dataclasses import dataclass
from typing import Any, Self

from local.azure.arm import ArmPath, MalformedError, key


@dataclass(frozen=True, slots=True)
class Denial:
    """Some actions that are refused at a scope and below it."""

    scope: str
    """A subscription, resource group or resource, in lower case."""
    actions: tuple[str, ...]
    """Action names, in lower case; `*` stands for anything."""

    @classmethod
    def parse(cls, entry: Any) -> Self:
        """Read one entry of `deny`; MalformedError says what is wrong with it."""
        if not isinstance(entry, dict):
            raise MalformedError("not an object")
        scope, actions = entry.get("scope"), entry.get("actions")
        if not isinstance(scope, str):
            raise MalformedError('no "scope"')
        ArmPath.parse(scope)
        if not isinstance(actions, list) or not actions or not all(isinstance(item, str) for item in actions):
            raise MalformedError('"actions" is not a list of action names')
        return cls(key(scope), tuple(action.lower() for action in actions))

    def covers(self, action: str, scope: str) -> bool:
        """Whether this refuses the action at a scope (in lower case)."""
        if scope != self.scope and not scope.startswith(self.scope + "/"):
            return False
        return any(_matches(pattern, action.lower()) for pattern in self.actions)


def _matches(pattern: str, action: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), action) is not None


def denied(denials: tuple[Denial, ...], action: str, scope: str) -> bool:
    """Whether any entry refuses the action at the scope, in whatever case the scope is written."""
    wanted = key(scope)
    return any(denial.covers(action, wanted) for denial in denials)
