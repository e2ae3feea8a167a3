"""Subnets and what hangs on them: security groups, routes, the admin rules of their network."""

from facts import resource_id
from facts.filters import Missing, NetworkSecurityGroup
from facts.finding import Reason
from facts.snapshot import Subnet, VirtualNetwork
from packets.addresses import parse_prefixes
from pipeline.collect.documents import NetworkModel, SubnetModel
from pipeline.collect.inventory import Inventory
from pipeline.collect.kinds import NETWORKS, ROUTE_TABLES, SECURITY_GROUPS
from pipeline.collect.ways_out import read_nat_gateway


async def read_subnet(inventory: Inventory, subnet_id: str) -> Subnet | Missing:
    """A subnet with everything that filters and routes its traffic."""
    network = await inventory.find(NETWORKS, resource_id.parent(subnet_id))
    if isinstance(network, Missing):
        return network
    what = f'subnet "{subnet_id.rsplit("/", 1)[-1]}"'
    for subnet in network.subnets:
        if resource_id.key(subnet.id) != resource_id.key(subnet_id):
            continue
        space = (*subnet.prefixes, *network.prefixes, *network.peered_prefixes)
        try:
            parse_prefixes(space)
        except ValueError as error:
            return unread("malformed_answer", what, subnet_id, f"Could not read {what}: {error}.")
        if not subnet.prefixes:
            message = f"Could not read {what}: Azure names no address prefix of it."
            return unread("no_data", what, subnet_id, message)
        return await _subnet(inventory, network, subnet)
    message = f"Could not read {what}: its virtual network does not have it."
    return unread("not_found", what, subnet_id, message)


async def read_group(inventory: Inventory, nsg_id: str) -> NetworkSecurityGroup | Missing | None:
    """A network security group, if one is attached."""
    return await inventory.find(SECURITY_GROUPS, nsg_id) if nsg_id else None


def unread(code: str, what: str, resource: str, message: str) -> Missing:
    """Something that could not be read, for a reason of our own."""
    return Missing(
        what=what, resource_id=resource, reason=Reason(code=code, message=message, resource=resource)
    )


async def _subnet(inventory: Inventory, network: NetworkModel, subnet: SubnetModel) -> Subnet:
    routes = subnet.route_table_id
    return Subnet(
        id=subnet.id,
        prefixes=subnet.prefixes,
        network=VirtualNetwork(
            id=network.id,
            prefixes=network.prefixes,
            peered_prefixes=network.peered_prefixes,
            gateway=network.gateway,
            admin_rules=await inventory.admin_rules(network.id),
        ),
        nsg=await read_group(inventory, subnet.nsg_id),
        routes=await inventory.find(ROUTE_TABLES, routes) if routes else None,
        nat_gateway=await read_nat_gateway(inventory, subnet.nat_gateway_id),
    )
