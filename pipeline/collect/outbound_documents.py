"""Azure's JSON documents of load balancers, NAT gateways and public addresses, as our types."""

from collections.abc import Iterable

from msgspec import Struct

from facts import resource_id
from packets.documents import Document, number, objects, properties, reference, text


class FrontendModel(Struct, frozen=True, kw_only=True):
    """A frontend of a load balancer."""

    id: str
    name: str
    source_id: str
    """Of its public address or prefix; empty for a private frontend."""
    rules: int
    """Load balancing and inbound NAT rules that use it."""


class OutboundRuleModel(Struct, frozen=True, kw_only=True):
    """An outbound rule, with what it refers to."""

    id: str
    name: str
    protocol: str
    allocated_ports: int
    idle_timeout_minutes: int | None
    frontends: tuple[FrontendModel, ...]
    members: int | None


class BalancerModel(Struct, frozen=True, kw_only=True):
    """A load balancer as its own document describes it."""

    id: str
    name: str
    location: str
    rules: tuple[OutboundRuleModel, ...]
    """Outbound rules alone."""
    backends: frozenset[str] | None
    """As `facts.outbound.LoadBalancer` has it."""


class GatewayModel(Struct, frozen=True, kw_only=True):
    """A NAT gateway as its own document describes it."""

    id: str
    name: str
    location: str
    sku: str
    idle_timeout_minutes: int | None
    address_ids: tuple[str, ...]
    prefix_ids: tuple[str, ...]
    subnet_ids: tuple[str, ...]


class Addresses(Struct, frozen=True):
    """A public address, or a prefix of them."""

    text: str
    """The address or CIDR; empty while Azure has not given it one."""


def read_balancer(document: Document) -> BalancerModel:
    """`Microsoft.Network/loadBalancers`; raises `ValueError` naming the field at fault."""
    body = properties(document)
    pools = {resource_id.key(text(pool, "id")): pool for pool in objects(body, "backendAddressPools")}
    frontends = {
        resource_id.key(text(one, "id")): _frontend(one, body)
        for one in objects(body, "frontendIPConfigurations")
    }
    rules = []
    backends: set[str] | None = set()
    for rule in objects(body, "outboundRules"):
        held = properties(rule)
        pool = pools.get(resource_id.key(reference(held, "backendAddressPool")))
        members = None if pool is None else _members(pool)
        rules.append(
            OutboundRuleModel(
                id=text(rule, "id"),
                name=text(rule, "name"),
                protocol=text(held, "protocol") or "All",
                allocated_ports=number(held, "allocatedOutboundPorts") or 0,
                idle_timeout_minutes=number(held, "idleTimeoutInMinutes"),
                frontends=tuple(
                    frontends[key]
                    for one in objects(held, "frontendIPConfigurations")
                    if (key := resource_id.key(text(one, "id"))) in frontends
                ),
                members=None if members is None else len(members),
            )
        )
        if members is None or not all(members):
            backends = None
        elif backends is not None:
            backends |= {_carrier(member) for member in members}
    return BalancerModel(
        id=text(document, "id"),
        name=text(document, "name"),
        location=text(document, "location"),
        rules=tuple(rules),
        backends=None if backends is None else frozenset(backends),
    )


def _frontend(document: Document, balancer: Document) -> FrontendModel:
    held = properties(document)
    own = resource_id.key(text(document, "id"))
    uses = [*objects(balancer, "loadBalancingRules"), *objects(balancer, "inboundNatRules")]
    return FrontendModel(
        id=text(document, "id"),
        name=text(document, "name"),
        source_id=reference(held, "publicIPAddress") or reference(held, "publicIPPrefix"),
        rules=sum(
            resource_id.key(reference(properties(use), "frontendIPConfiguration")) == own for use in uses
        ),
    )


def _members(pool: Document) -> list[str] | None:
    """The IP configurations of a backend pool by id, or its addresses; `None` where neither is shown.

    A member of which Azure shows nothing but that it is there is an empty text.
    """
    held = properties(pool)
    if by_interface := [text(one, "id") for one in objects(held, "backendIPConfigurations")]:
        return by_interface
    if by_address := objects(held, "loadBalancerBackendAddresses"):
        held_by = [properties(one) for one in by_address]
        return [
            text(one, "ipAddress") or reference(one, "networkInterfaceIPConfiguration") for one in held_by
        ]
    return [] if "backendIPConfigurations" in held or "loadBalancerBackendAddresses" in held else None


def _carrier(member: str) -> str:
    """The key of the scale set or interface that an IP configuration belongs to; an address as it is."""
    key = resource_id.key(member)
    return key.partition("/virtualmachines/")[0].partition("/ipconfigurations/")[0]


def read_gateway(document: Document) -> GatewayModel:
    """`Microsoft.Network/natGateways`; raises `ValueError` naming the field at fault."""
    body = properties(document)
    sku = document.get("sku")
    return GatewayModel(
        id=text(document, "id"),
        name=text(document, "name"),
        location=text(document, "location"),
        sku=str(sku.get("name") or "Standard") if isinstance(sku, dict) else "Standard",
        idle_timeout_minutes=number(body, "idleTimeoutInMinutes"),
        address_ids=_ids(
            (*objects(body, "publicIpAddresses"), *objects(body, "publicIpAddressesV6")),
        ),
        prefix_ids=_ids((*objects(body, "publicIpPrefixes"), *objects(body, "publicIpPrefixesV6"))),
        subnet_ids=_ids(objects(body, "subnets")),
    )


def read_address(document: Document) -> Addresses:
    """`Microsoft.Network/publicIPAddresses`."""
    return Addresses(text(properties(document), "ipAddress"))


def read_prefix(document: Document) -> Addresses:
    """`Microsoft.Network/publicIPPrefixes`."""
    return Addresses(text(properties(document), "ipPrefix"))


def _ids(documents: Iterable[Document]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found for one in documents if (found := text(one, "id"))))
