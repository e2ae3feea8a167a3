"""Azure Resource Manager's grammar of ids, and its errors, word for word."""

import uuid
from dataclasses import dataclass, field
from typing import Any, Self

type Json = dict[str, Any]


class MalformedError(ValueError):
    """Input that is not what it should be; the message says how, for whoever wrote it."""


@dataclass(frozen=True, slots=True)
class ArmPath:
    """A resource id, or the path of a collection of resources, split into its parts.

    A collection has one type more than it has names: `…/networkSecurityGroups` against
    `…/networkSecurityGroups/web`. Parts keep the case in which they were written.
    """

    subscription: str
    """The subscription's id, `6c0b6a52-…`."""
    resource_group: str | None
    """None for a path at subscription scope."""
    namespace: str | None
    """The resource provider, `Microsoft.Network`; None for a subscription or a resource group itself."""
    types: tuple[str, ...]
    """`("virtualNetworks", "subnets")`."""
    names: tuple[str, ...]
    """`("vnet-web", "nodes")`."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Split a path; MalformedError says what is wrong with it.

        `/subscriptions/{id}[/resourceGroups/{name}][/providers/{namespace}/{type}[/{name}[/{type}…]]]`,
        its fixed words in any case.
        """
        if not text.startswith("/"):
            raise MalformedError("an ARM id starts with /subscriptions/")
        words = text.rstrip("/").split("/")[1:]
        if any(not word for word in words):
            raise MalformedError("an empty segment")
        if len(words) < 2 or words[0].lower() != "subscriptions":
            raise MalformedError("an ARM id starts with /subscriptions/{subscriptionId}")
        subscription, rest = words[1], words[2:]
        group: str | None = None
        if rest and rest[0].lower() == "resourcegroups":
            if len(rest) < 2:
                raise MalformedError("resourceGroups without a name")
            group, rest = rest[1], rest[2:]
        if not rest:
            return cls(subscription, group, None, (), ())
        if rest[0].lower() != "providers" or len(rest) < 3:
            raise MalformedError(f"'{rest[0]}' where /providers/{{namespace}}/{{type}} is expected")
        return cls(subscription, group, rest[1], tuple(rest[2::2]), tuple(rest[3::2]))

    @property
    def is_collection(self) -> bool:
        """Whether this names many resources of one type, rather than one."""
        return len(self.types) > len(self.names)

    @property
    def type(self) -> str:
        """The full resource type, `Microsoft.Network/virtualNetworks/subnets`."""
        return "/".join((self.namespace or "Microsoft.Resources", *self.types))

    @property
    def parent(self) -> str | None:
        """The id of the resource that this one, or this collection, belongs to; None at the top."""
        if len(self.types) < 2:
            return None
        depth = len(self.types) - 1
        return self._scope() + "".join(
            f"/{kind}/{name}" for kind, name in zip(self.types[:depth], self.names[:depth], strict=True)
        )

    @property
    def name(self) -> str:
        """The resource as ARM's messages name it, `Microsoft.Network/virtualNetworks/web/subnets/nodes`."""
        pairs = zip(self.types, self.names, strict=False)
        return "/".join((self.namespace or "", *(word for pair in pairs for word in pair)))

    def _scope(self) -> str:
        group = f"/resourceGroups/{self.resource_group}" if self.resource_group else ""
        return f"/subscriptions/{self.subscription}{group}/providers/{self.namespace}"


def key(identifier: str) -> str:
    """The form in which ids are compared: ARM ids are case-insensitive throughout."""
    return identifier.rstrip("/").lower()


@dataclass(slots=True)
class ArmError(Exception):
    """A refusal, with the status and the body that ARM would send."""

    status: int
    code: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)
    cause: str = "gateway"
    """`x-ms-failure-cause`: `gateway` where ARM itself refuses, `service` where the provider does."""

    def body(self) -> Json:
        """The error envelope of ARM: https://github.com/Azure/azure-resource-manager-rpc."""
        return {"error": {"code": self.code, "message": self.message}}


def subscription_not_found(subscription: str) -> ArmError:
    """A subscription that does not exist, or not for this identity."""
    return ArmError(404, "SubscriptionNotFound", f"The subscription '{subscription}' could not be found.")


def group_not_found(group: str) -> ArmError:
    """A resource group that does not exist."""
    return ArmError(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.")


def resource_not_found(path: ArmPath) -> ArmError:
    """A top-level or stored resource that does not exist."""
    return ArmError(
        404,
        "ResourceNotFound",
        f"The Resource '{path.name}' under resource group '{path.resource_group}' was not found. "
        "For more details please go to https://aka.ms/ARMResourceNotFoundFix",
    )


def parent_not_found(path: ArmPath) -> ArmError:
    """A child was asked for and its parent does not exist."""
    kinds = "/".join(path.types)
    return ArmError(
        404,
        "ParentResourceNotFound",
        f"Failed to perform 'read' on resource(s) of type '{kinds}', "
        f"because the parent resource '{path.parent}' could not be found.",
    )


def child_not_found(identifier: str) -> ArmError:
    """A child kept inside its parent's document that is not there: the provider answers, not ARM."""
    return ArmError(404, "NotFound", f"Resource {identifier} not found.", cause="service")


def namespace_unknown(namespace: str) -> ArmError:
    """A resource provider that the simulator does not have."""
    return ArmError(404, "InvalidResourceNamespace", f"The resource namespace '{namespace}' is invalid.")


def type_unknown(path: ArmPath, version: str) -> ArmError:
    """A resource type that the simulator does not have."""
    return ArmError(
        404,
        "InvalidResourceType",
        f"The resource type '{'/'.join(path.types)}' could not be found in the namespace "
        f"'{path.namespace}' for api version '{version}'.",
    )


def version_missing() -> ArmError:
    """No `api-version` in the query."""
    return ArmError(
        400,
        "MissingApiVersionParameter",
        "The api-version query parameter (?api-version=) is required for all requests.",
    )


def version_invalid(version: str, accepted: tuple[str, ...]) -> ArmError:
    """An API version that ARM's own types do not know."""
    return ArmError(
        400,
        "InvalidApiVersionParameter",
        f"The api-version '{version}' is invalid. The supported versions are '{','.join(accepted)}'.",
    )


def version_unregistered(path: ArmPath, version: str, accepted: tuple[str, ...], location: str) -> ArmError:
    """An API version that a resource provider does not know for this type."""
    return ArmError(
        400,
        "NoRegisteredProviderFound",
        f"No registered resource provider found for location '{location}' and API version '{version}' "
        f"for type '{'/'.join(path.types)}'. The supported api-versions are '{', '.join(accepted)}'. "
        f"The supported locations are '{location}'.",
    )


def authorization_failed(*, client: str, principal: str, action: str, scope: str) -> ArmError:
    """The identity has no role that contains the action at the scope."""
    return ArmError(
        403,
        "AuthorizationFailed",
        f"The client '{client}' with object id '{principal}' does not have authorization to perform action "
        f"'{action}' over scope '{scope}' or the scope is invalid. "
        "If access was recently granted, please refresh your credentials.",
    )


def deny_assigned(*, client: str, principal: str, action: str, scope: str, group: str) -> ArmError:
    """A role would allow the action, and a deny assignment on the resource group forbids it."""
    return ArmError(
        403,
        "DenyAssignmentAuthorizationFailed",
        f"The client '{client}' with object id '{principal}' has permission to perform action '{action}' on "
        f"scope '{scope}'; however, the access is denied because of the deny assignment with name 'node "
        f"resource group lockdown' and Id '{uuid.uuid5(uuid.NAMESPACE_URL, group).hex}' at scope '{group}'.",
    )


def throttled(*, kind: str, subscription: str, actor: str, wait: int) -> ArmError:
    """ARM's token bucket is empty; a body recorded from Azure in September 2026 has this wording."""
    return ArmError(
        429,
        "SubscriptionRequestsThrottled",
        f"Number of '{kind}' requests for subscription '{subscription}' actor '{actor}' exceeded. "
        f"Please try again after '{wait}' seconds.",
        headers={"Retry-After": str(wait)},
    )


def request_id() -> str:
    """A new id, as for `x-ms-request-id`."""
    return str(uuid.uuid4())
