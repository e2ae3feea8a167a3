"""How nodes get out: the load balancers and NAT gateways in use, with their public addresses."""

import asyncio
from collections.abc import Iterable

from facts import resource_id
from facts.filters import Firewall, Missing
from facts.outbound import Frontend, LoadBalancer, NatGateway, OutboundRule, Usage
from facts.snapshot import Cluster, Subnet
from pipeline.collect.inventory import Inventory
from pipeline.collect.kinds import LOAD_BALANCERS, NAT_GATEWAYS, PUBLIC_ADDRESSES, PUBLIC_PREFIXES
from pipeline.collect.metrics import read_usage
from pipeline.collect.outbound_documents import FrontendModel, OutboundRuleModel


async def read_nat_gateway(inventory: Inventory, gateway_id: str) -> NatGateway | Missing | None:
    """The NAT gateway of a subnet, if it has one."""
    if not gateway_id:
        return None
    model = await inventory.find(NAT_GATEWAYS, gateway_id)
    if isinstance(model, Missing):
        return model
    sources = (*model.address_ids, *model.prefix_ids)
    return NatGateway(
        id=model.id,
        name=model.name,
        location=model.location,
        sku=model.sku,
        idle_timeout_minutes=model.idle_timeout_minutes,
        frontends=tuple(
            [
                await _frontend(
                    inventory, FrontendModel(id=one, name=one.rsplit("/", 1)[-1], source_id=one, rules=0)
                )
                for one in sources
            ]
        ),
    )


async def read_load_balancers(inventory: Inventory, cluster: Cluster) -> tuple[LoadBalancer, ...] | Missing:
    """Whatever in the node resource group translates the addresses of nodes: what has outbound rules."""
    found = await inventory.in_group(LOAD_BALANCERS, cluster.ref.subscription_id, cluster.node_resource_group)
    if isinstance(found, Missing):
        return found
    return tuple(
        [
            LoadBalancer(
                id=model.id,
                name=model.name,
                location=model.location,
                rules=tuple([await _rule(inventory, rule) for rule in model.rules]),
                backends=model.backends,
            )
            for model in found
            if model.rules
        ]
    )


async def read_usages(
    inventory: Inventory,
    balancers: tuple[LoadBalancer, ...] | Missing,
    subnets: Iterable[Subnet],
    appliances: Iterable[Firewall | Missing],
) -> dict[str, Usage]:
    """What Azure Monitor counted at everything by which nodes may get out, by the key of its id."""
    gateways = (subnet.nat_gateway for subnet in subnets)
    counted: list[LoadBalancer | NatGateway | Firewall] = [
        *(() if isinstance(balancers, Missing) else balancers),
        *(one for one in gateways if isinstance(one, NatGateway)),
        *(one for one in appliances if isinstance(one, Firewall)),
    ]
    wanted = {resource_id.key(one.id): one for one in counted}
    found = await asyncio.gather(*(read_usage(inventory, one.id, one.location) for one in wanted.values()))
    return dict(zip(wanted, found, strict=True))


async def _rule(inventory: Inventory, rule: OutboundRuleModel) -> OutboundRule:
    return OutboundRule(
        id=rule.id,
        name=rule.name,
        protocol=rule.protocol,
        allocated_ports=rule.allocated_ports,
        idle_timeout_minutes=rule.idle_timeout_minutes,
        frontends=tuple([await _frontend(inventory, one) for one in rule.frontends]),
        members=rule.members,
    )


async def _frontend(inventory: Inventory, model: FrontendModel) -> Frontend:
    return Frontend(
        id=model.id,
        name=model.name,
        source_id=model.source_id,
        addresses=await _addresses(inventory, model.source_id),
        rules=model.rules,
    )


async def _addresses(inventory: Inventory, source_id: str) -> tuple[str, ...] | Missing:
    if not source_id:
        return ()
    prefix = "/publicipprefixes/" in source_id.lower()
    found = await inventory.find(PUBLIC_PREFIXES if prefix else PUBLIC_ADDRESSES, source_id)
    if isinstance(found, Missing):
        return found
    return (found.text,) if found.text else ()
