"""Azure Resource Manager ids, which arrive in any case.

ARM compares ids without regard to case and its services return the same id in
different cases, so ids are compared by `key` and shown as they were received.
"""

import re

from msgspec import Struct

_ID = re.compile(
    r"^/subscriptions/(?P<subscription>[^/]+)"
    r"(?:/resourceGroups/(?P<group>[^/]+)"
    r"(?:/providers/(?P<provider>[^/]+)/(?P<path>.+))?)?$",
    re.IGNORECASE,
)


class ResourceId(Struct, frozen=True):
    """The parts of an ARM id: `/subscriptions/S/resourceGroups/G/providers/P/type/name[/type/name…]`."""

    text: str
    """The id as it was received."""
    subscription_id: str
    resource_group: str
    """Empty for an id that names a subscription."""
    type: str
    """`Microsoft.Network/virtualNetworks/subnets`, in the case received; empty for a resource group."""
    names: tuple[str, ...]
    """One name for each type segment: `("vnet", "subnet")`."""

    @property
    def name(self) -> str:
        """The last name of the id, or the group's, or the subscription's."""
        if self.names:
            return self.names[-1]
        return self.resource_group or self.subscription_id


_GUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)
# 1 to 63 letters, digits, underscores and hyphens, as Azure has it for managed clusters
# (https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules).
_CLUSTER_NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?$")
_GROUP_NAME = re.compile(r"^[\w.()-]{1,90}$")


def key(resource_id: str) -> str:
    """The form under which two ids of one resource are equal."""
    return resource_id.strip().rstrip("/").lower()


def parse(resource_id: str) -> ResourceId:
    """Take an id apart; raises `ValueError` for what is no ARM id."""
    text = resource_id.strip().rstrip("/")
    match = _ID.match(text)
    if match is None:
        raise ValueError(f"not an Azure resource id: {resource_id[:200]!r}")
    segments = (match["path"] or "").split("/") if match["path"] else []
    if len(segments) % 2 or not all(segments):
        raise ValueError(f"not an Azure resource id: {resource_id[:200]!r}")
    types = [match["provider"], *segments[::2]] if segments else []
    return ResourceId(
        text=text,
        subscription_id=match["subscription"],
        resource_group=match["group"] or "",
        type="/".join(types),
        names=tuple(segments[1::2]),
    )


def parse_cluster(resource_id: str) -> ResourceId:
    """Take the id of a managed cluster apart; raises `ValueError` for whatever cannot be one."""
    parts = parse(resource_id)
    if (
        parts.type.lower() != "microsoft.containerservice/managedclusters"
        or not _GUID.match(parts.subscription_id)
        or not _GROUP_NAME.match(parts.resource_group)
        or not _CLUSTER_NAME.match(parts.name)
    ):
        raise ValueError(f"not the id of a managed cluster: {resource_id[:200]!r}")
    return parts


def parent(resource_id: str) -> str:
    """The id of the resource that contains this one: a subnet's virtual network, a rule's NSG."""
    return resource_id.strip().rstrip("/").rsplit("/", 2)[0]


def is_within(resource_id: str, scope: str) -> bool:
    """Whether an id is the scope itself or lies below it, in whatever case either is written."""
    return key(resource_id) == key(scope) or key(resource_id).startswith(key(scope) + "/")
