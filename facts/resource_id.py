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


def parent(resource_id: str) -> str:
    """The id of the resource that contains this one: a subnet's virtual network, a rule's NSG."""
    return resource_id.strip().rstrip("/").rsplit("/", 2)[0]


def is_within(resource_id: str, scope: str) -> bool:
    """Whether an id is the scope itself or lies below it, in whatever case either is written."""
    return key(resource_id) == key(scope) or key(resource_id).startswith(key(scope) + "/")
