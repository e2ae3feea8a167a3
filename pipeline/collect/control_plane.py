"""The way to the control plane: where the API server is, and what stands between it and the nodes."""

from collections.abc import Iterable, Iterator, Mapping

from facts import resource_id
from facts.filters import Firewall, FirewallRule, Missing, NetworkSecurityGroup, RouteTable, SecurityRule
from facts.snapshot import ApiServer, NodePool, Subnet
from packets.addresses import parse_prefixes
from packets.documents.firewall import FirewallModel, RuleCollectionGroup, in_order
from packets.routes import appliances
from packets.tags import Tags, tag_names
from pipeline.collect.documents import ManagedCluster, NetworkModel
from pipeline.collect.inventory import Inventory
from pipeline.collect.kinds import FIREWALLS, IP_GROUPS, NETWORKS, POLICIES
from pipeline.collect.names import resolve
from pipeline.collect.networks import read_subnet, unread

_PARENTS = 8
"""Policies that may stand above each other; Azure allows one parent, and a circle must end."""

ServiceTags = Mapping[str, tuple[str, ...]] | Missing


async def read_api_server(inventory: Inventory, managed: ManagedCluster) -> ApiServer:
    """Where nodes find the API server; its name is looked up only where the tunnel goes by it."""
    cluster = managed.cluster
    if cluster.vnet_integration:
        subnet = await read_subnet(inventory, managed.api_subnet_id) if managed.api_subnet_id else None
        return ApiServer(fqdn=next(iter(managed.fqdns), ""), addresses=(), subnet=subnet)
    if cluster.isolated:
        return ApiServer(fqdn=next(iter(managed.fqdns), ""), addresses=())
    if not managed.fqdns:
        message = "Could not tell where the API server is: the cluster names no FQDN."
        return ApiServer(
            fqdn="", addresses=unread("no_data", "the API server's name", cluster.ref.id, message)
        )
    # A private cluster's own name is known in its network alone, as a rule; its public one leads there too.
    found: tuple[str, ...] | Missing = ()
    for name in reversed(managed.fqdns):
        found = await resolve(inventory.clients, name)
        if not isinstance(found, Missing):
            break
    return ApiServer(fqdn=managed.fqdns[0], addresses=found)


async def read_appliances(
    inventory: Inventory, managed: ManagedCluster, pools: Iterable[NodePool], api_server: ApiServer
) -> dict[str, Firewall | Missing]:
    """What stands at the addresses that routes of the nodes' subnets to the API server lead to."""
    if isinstance(api_server.addresses, Missing) or not api_server.addresses:
        return {}
    wanted = parse_prefixes(api_server.addresses)
    found: dict[str, Firewall | Missing] = {}
    for subnet in subnets_of(pools):
        if not isinstance(subnet.routes, RouteTable):
            continue
        for address in appliances(subnet.routes.routes, wanted, Tags({})):
            if address not in found:
                found[address] = await _appliance(inventory, managed, subnet, address)
    return found


async def read_service_tags(
    inventory: Inventory,
    managed: ManagedCluster,
    subnets: Iterable[Subnet],
    groups: Iterable[NetworkSecurityGroup],
    firewalls: Iterable[Firewall | Missing],
) -> ServiceTags:
    """What the service tags stand for that are named on the way; nothing is read if none is."""
    names = tag_names(_texts(subnets, groups, firewalls))
    if not names:
        return {}
    ref = managed.cluster.ref
    tags = await inventory.service_tags(ref.subscription_id, ref.location)
    return tags if isinstance(tags, Missing) else {name: tags[name] for name in names if name in tags}


def subnets_of(pools: Iterable[NodePool]) -> Iterator[Subnet]:
    """The subnets that nodes stand in and pods take addresses from, each once."""
    seen: set[str] = set()
    for pool in pools:
        for subnet in (*(placement.subnet for placement in pool.placements), pool.pod_subnet):
            if isinstance(subnet, Subnet) and resource_id.key(subnet.id) not in seen:
                seen.add(resource_id.key(subnet.id))
                yield subnet


def _texts(
    subnets: Iterable[Subnet],
    groups: Iterable[NetworkSecurityGroup],
    firewalls: Iterable[Firewall | Missing],
) -> Iterator[str]:
    """Every text that may be the name of a service tag."""
    rules: list[SecurityRule | FirewallRule] = [rule for group in groups for rule in group.rules]
    for subnet in subnets:
        admin = subnet.network.admin_rules
        if admin is not None and not isinstance(admin, Missing):
            rules += admin.rules
        if isinstance(subnet.routes, RouteTable):
            yield from (route.prefix for route in subnet.routes.routes)
    for firewall in firewalls:
        rules += () if isinstance(firewall, Missing) else firewall.rules
    for rule in rules:
        yield from rule.sources
        yield from rule.destinations


async def _appliance(
    inventory: Inventory, managed: ManagedCluster, subnet: Subnet, address: str
) -> Firewall | Missing:
    """The Azure Firewall at an address, in the subnet's network or one that is peered with it."""
    network = await inventory.find(NETWORKS, subnet.network.id)
    peers = network.peer_ids if isinstance(network, NetworkModel) else ()
    near = {resource_id.key(one) for one in (subnet.network.id, *peers)}
    trouble: Missing | None = None
    hub: FirewallModel | None = None
    for subscription_id in _subscriptions((*peers, subnet.network.id, managed.cluster.ref.id)):
        listed = await inventory.listed(FIREWALLS, subscription_id)
        if isinstance(listed, Missing):
            trouble = listed
            continue
        for model in listed.values():
            if address in model.addresses and resource_id.key(model.network_id) in near:
                return await _firewall(inventory, model)
            hub = hub or (model if address in model.addresses and model.hub else None)
    if trouble is not None:
        return trouble
    if hub is not None:
        # Nothing that can be read ties a network to the virtual hub that it is connected to.
        message = (
            f'Could not tell what stands at {address}: Azure Firewall "{hub.name}" of a virtual hub has that '
            "address, but Azure does not show here whether the network is connected to that hub."
        )
        return unread("unreadable_appliance", f"the appliance at {address}", hub.id, message)
    message = (
        f"Could not read the appliance at {address}: it is no Azure Firewall that the identity can see, "
        "so what it lets through is not known."
    )
    return unread("unreadable_appliance", f"the appliance at {address}", subnet.id, message)


def _subscriptions(ids: Iterable[str]) -> list[str]:
    found: dict[str, None] = {}
    for one in ids:
        try:
            found[resource_id.parse(one).subscription_id.lower()] = None
        except ValueError:
            continue
    return list(found)


async def _firewall(inventory: Inventory, model: FirewallModel) -> Firewall | Missing:
    rules: tuple[FirewallRule, ...] = model.rules
    own: tuple[RuleCollectionGroup, ...] = ()
    if model.policy_id:
        policies: list[tuple[RuleCollectionGroup, ...]] = []
        policy_id = model.policy_id
        while policy_id and len(policies) < _PARENTS:
            groups = await inventory.rules_of_policy(policy_id)
            if isinstance(groups, Missing):
                return groups
            policies.insert(0, groups)
            policy = await inventory.find(POLICIES, policy_id)
            if isinstance(policy, Missing):
                return policy
            policy_id = policy.base_id
        rules = in_order(policies)
        own = policies[-1]
    known: dict[str, tuple[str, ...]] = {}
    missing: dict[str, Missing] = {}
    for group_id in dict.fromkeys(
        group for rule in rules for group in (*rule.source_groups, *rule.destination_groups)
    ):
        group = await inventory.find(IP_GROUPS, group_id)
        if isinstance(group, Missing):
            missing[resource_id.key(group_id)] = group
        else:
            known[resource_id.key(group_id)] = group.addresses
    return Firewall(
        id=model.id,
        name=model.name,
        location=model.location,
        public_addresses=model.public_addresses,
        policy=model.policy_id,
        groups={group.name: group.priority for group in own},
        rules=rules,
        ip_groups=known,
        groups_missing=missing,
    )
