"""Small builders for what tests look at: rules, groups, routes, firewalls, subnets, pools and clusters.

Fields with several values take them as one text, parted by blanks: `sources="10.0.0.4 Sql"`.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from msgspec import structs

from facts.filters import (
    AdminRules,
    Firewall,
    FirewallRule,
    Missing,
    NetworkSecurityGroup,
    Route,
    RouteTable,
    SecurityRule,
)
from facts.finding import ClusterRef, Reason
from facts.outbound import (
    Frontend,
    LoadBalancer,
    NatGateway,
    OutboundRule,
    Series,
    Usage,
    Window,
)
from facts.probes import Dump, DumpName, NodeReport, Probes, Reach, Ufw
from facts.snapshot import (
    PROBES_DISABLED,
    ApiServer,
    Cluster,
    Node,
    NodePool,
    Placement,
    Snapshot,
    Subnet,
    VirtualNetwork,
)

SUBSCRIPTION = "0b1f6471-1bf0-4dda-aec3-cb9272f09590"
NODE_GROUP = "MC_rg-shop_aks-shop_westeurope"
NETWORK_GROUP = "rg-network"
TAKEN_AT = "2026-03-01T08:00:00Z"
FQDN = "aks-shop-1a2b3c4d.hcp.westeurope.azmk8s.io"

CLUSTER = ClusterRef(
    id=f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-shop/providers/"
    "Microsoft.ContainerService/managedClusters/aks-shop",
    name="aks-shop",
    subscription_id=SUBSCRIPTION,
    resource_group="rg-shop",
    location="westeurope",
)


def network_id(kind: str, name: str, group: str = NETWORK_GROUP) -> str:
    """The id of something of Microsoft.Network: `network_id("virtualNetworks", "vnet")`."""
    return f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{group}/providers/Microsoft.Network/{kind}/{name}"


def rule(
    name: str,
    priority: int,
    access: str = "Deny",
    *,
    direction: str = "Inbound",
    protocol: str = "Tcp",
    sources: str = "*",
    source_groups: str = "",
    source_ports: str = "*",
    destinations: str = "*",
    destination_groups: str = "",
    ports: str = "10250",
) -> SecurityRule:
    """A rule that, by default, denies everybody's inbound TCP 10250; `nsg` and `admin` give it its id."""
    return SecurityRule(
        id=f"securityRules/{name}",
        name=name,
        priority=priority,
        direction=direction,
        access=access,
        protocol=protocol,
        sources=tuple(sources.split()),
        source_groups=tuple(source_groups.split()),
        source_ports=tuple(source_ports.split()),
        destinations=tuple(destinations.split()),
        destination_groups=tuple(destination_groups.split()),
        destination_ports=tuple(ports.split()),
    )


def nsg(name: str, *rules: SecurityRule, group: str = NETWORK_GROUP) -> NetworkSecurityGroup:
    """A security group; Azure's default rules are not written out."""
    group_id = network_id("networkSecurityGroups", name, group)
    named = (structs.replace(one, id=f"{group_id}/securityRules/{one.name}") for one in rules)
    return NetworkSecurityGroup(id=group_id, name=name, rules=tuple(named))


def asg(name: str) -> str:
    """The key of an application security group."""
    return network_id("applicationSecurityGroups", name).lower()


def admin(*rules: SecurityRule, network: str = "vnet") -> AdminRules:
    """The security admin rules in force on a network, all of one network manager's configuration."""
    collection = (
        f"{network_id('networkManagers', 'manager')}/securityAdminConfigurations/baseline"
        "/ruleCollections/nodes"
    )
    named = (structs.replace(one, id=f"{collection}/rules/{one.name}") for one in rules)
    return AdminRules(network_id=network_id("virtualNetworks", network), rules=tuple(named))


def missing(name: str, code: str = "permission_denied", kind: str = "networkSecurityGroups") -> Missing:
    """Something that could not be read."""
    what = network_id(kind, name)
    reason = Reason(code=code, message=f"Could not read {name}.", resource=what)
    return Missing(what=name, resource_id=what, reason=reason)


def route(name: str, prefix: str, hop: str, addresses: str = "") -> Route:
    """A user-defined route; `route_table` gives it its id."""
    return Route(name=name, prefix=prefix, hop=hop, addresses=tuple(addresses.split()))


def route_table(name: str, *routes: Route, gateway_routes: bool = True) -> RouteTable:
    """A route table."""
    table = network_id("routeTables", name)
    return RouteTable(
        id=table,
        name=name,
        routes=tuple(structs.replace(one, id=f"{table}/routes/{one.name}") for one in routes),
        gateway_routes=gateway_routes,
    )


def firewall_rule(
    name: str,
    kind: Literal["network", "application"] = "network",
    action: str = "Allow",
    *,
    policy: str = "policy",
    group: str = "group",
    collection: str = "collection",
    priority: int = 200,
    protocols: str = "",
    sources: str = "*",
    source_groups: str = "",
    destinations: str = "",
    destination_groups: str = "",
    ports: str = "443",
    fqdns: str = "",
    terminates_tls: bool = False,
) -> FirewallRule:
    """A rule of a policy, or with `policy=""` a classic one: TCP 443 to anywhere, HTTPS to the API server."""
    network = kind == "network"
    if policy:
        policy = network_id("firewallPolicies", policy)
        place = f"{policy}/ruleCollectionGroups/{group}/ruleCollections/{collection}"
    else:
        group, place = "", f"{network_id('azureFirewalls', 'fw')}/{kind}RuleCollections/{collection}"
    return FirewallRule(
        kind=kind,
        id=f"{place}/rules/{name}",
        name=name,
        collection=collection,
        group=group,
        policy=policy,
        priority=priority,
        action=action,
        protocols=tuple((protocols or ("TCP" if network else "Https:443")).split()),
        sources=tuple(sources.split()),
        source_groups=tuple(source_groups.split()),
        destinations=tuple((destinations or "*" * (network and not destination_groups)).split()),
        destination_groups=tuple(destination_groups.split()),
        destination_ports=tuple(ports.split()) if network else (),
        fqdns=tuple((fqdns or ("" if network else FQDN)).split()),
        terminates_tls=terminates_tls,
    )


def firewall(
    *rules: FirewallRule,
    policy: str = "policy",
    groups: Mapping[str, int] | None = None,
    ip_groups: Mapping[str, str] | None = None,
    unread: Mapping[str, Missing] | None = None,
) -> Firewall:
    """The Azure Firewall `fw`, with rules in the order in which it goes through them."""
    return Firewall(
        id=network_id("azureFirewalls", "fw"),
        name="fw",
        policy=network_id("firewallPolicies", policy) if policy else "",
        groups=({"group": 300} if groups is None else groups) if policy else {},
        rules=rules,
        ip_groups={name.lower(): tuple(members.split()) for name, members in (ip_groups or {}).items()},
        groups_missing={name.lower(): why for name, why in (unread or {}).items()},
    )


def subnet(
    name: str,
    prefixes: str,
    group: NetworkSecurityGroup | Missing | None = None,
    *,
    network: str = "vnet",
    space: str = "10.240.0.0/16 fd00:10::/48",
    peers: str = "",
    gateway: bool = False,
    admin_rules: AdminRules | Missing | None = None,
    routes: RouteTable | Missing | None = None,
    gate: NatGateway | Missing | None = None,
) -> Subnet:
    """A subnet of a network which has the address space and the peers given."""
    vnet = network_id("virtualNetworks", network)
    return Subnet(
        id=f"{vnet}/subnets/{name}",
        prefixes=tuple(prefixes.split()),
        network=VirtualNetwork(
            id=vnet,
            prefixes=tuple(space.split()),
            peered_prefixes=tuple(peers.split()),
            gateway=gateway,
            admin_rules=admin_rules,
        ),
        nsg=group,
        routes=routes,
        nat_gateway=gate,
    )


def machine_id(pool: str, number: int) -> str:
    """The id of a scale set's instance."""
    return (
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{NODE_GROUP}/providers/Microsoft.Compute"
        f"/virtualMachineScaleSets/aks-{pool}-vmss/virtualMachines/{number}"
    )


def pool(
    name: str,
    place: Subnet | Missing,
    nodes: str = "",
    *,
    nic: NetworkSecurityGroup | Missing | None = None,
    count: int | None = None,
    stopped: bool = False,
    lost: tuple[Missing, ...] = (),
    pods: Subnet | Missing | None = None,
    joins: str = "",
    mode: str = "User",
    os_type: str = "Linux",
    most: int | None = None,
    surge: str = "",
    public: bool = False,
) -> NodePool:
    """A pool whose nodes have the addresses given, one each; `a,b` for a node with two.

    `joins` are the application security groups of nodes to come; `joined` says of those that exist. `most` is
    the autoscaler's maximum.
    """
    machines = tuple(
        Node(
            name=f"aks-{name}-{number}",
            instance_id=str(number),
            addresses=tuple(addresses.split(",")),
            machine_id=machine_id(name, number),
        )
        for number, addresses in enumerate(nodes.split())
    )
    return NodePool(
        name=name,
        mode=mode,
        os_type=os_type,
        type="VirtualMachineScaleSets",
        count=len(machines) if count is None else count,
        power_state="Stopped" if stopped else "Running",
        resource_ids=(f"/vmss/{name}",),
        placements=(
            Placement(
                subnet=place,
                nic_nsg=nic,
                nodes=machines,
                groups=tuple(asg(group) for group in joins.split()),
            ),
        ),
        pod_subnet=pods,
        max_count=most,
        max_surge=surge,
        public_addresses=public,
        missing=lost,
    )


def joined(what: NodePool, group: str, *addresses: str) -> NodePool:
    """A pool whose nodes, one after the other, have these addresses in an application security group."""
    [place] = what.placements
    nodes = [
        structs.replace(node, members={**node.members, asg(group): tuple(own.split())}) if own else node
        for node, own in zip(place.nodes, addresses, strict=True)
    ]
    return structs.replace(what, placements=(structs.replace(place, nodes=tuple(nodes)),))


def api_server(addresses: str | Missing = "20.50.1.4", subnet: Subnet | Missing | None = None) -> ApiServer:
    """Where the API server is."""
    found = addresses if isinstance(addresses, Missing) else tuple(addresses.split())
    return ApiServer(fqdn=FQDN, addresses=found, subnet=subnet)


def snapshot(
    *pools: NodePool,
    stopped: bool = False,
    api: ApiServer | None = None,
    service_tags: Mapping[str, tuple[str, ...]] | Missing | None = None,
    appliances: Mapping[str, Firewall | Missing] | None = None,
    balancers: tuple[LoadBalancer, ...] | Missing = (),
    used: Mapping[str, Usage] | None = None,
    probes: Probes | Missing = PROBES_DISABLED,
    **fields: Any,
) -> Snapshot:
    """A cluster with these pools; `fields` are the cluster's own."""
    cluster = Cluster(
        ref=CLUSTER,
        node_resource_group=NODE_GROUP,
        power_state="Stopped" if stopped else "Running",
        provisioning_state="Succeeded",
        kubernetes_version="1.33.2",
        private=False,
        vnet_integration=False,
        outbound_type="loadBalancer",
        network_plugin="azure",
        network_plugin_mode="overlay",
        tags={},
    )
    return Snapshot(
        cluster=structs.replace(cluster, **fields),
        pools=pools,
        api_server=api,
        service_tags=service_tags or {},
        appliances=appliances or {},
        load_balancers=balancers,
        usage={key.lower(): usage for key, usage in (used or {}).items()},
        probes=probes,
        taken_at=TAKEN_AT,
    )


def frontend(name: str = "one", addresses: str | Missing = "198.51.100.10", *, rules: int = 0) -> Frontend:
    """A frontend of the load balancer, or an address of a NAT gateway; a CIDR is a prefix."""
    prefix = isinstance(addresses, str) and "/" in addresses
    return Frontend(
        id=f"{BALANCER}/frontendIPConfigurations/{name}",
        name=name,
        source_id=network_id("publicIPPrefixes" if prefix else "publicIPAddresses", name, NODE_GROUP),
        addresses=addresses if isinstance(addresses, Missing) else tuple(addresses.split()),
        rules=rules,
    )


def outbound_rule(
    *frontends: Frontend,
    ports: int = 0,
    name: str = "aksOutboundRule",
    members: int | None = None,
    protocol: str = "All",
    idle: int | None = 30,
) -> OutboundRule:
    """An outbound rule; without frontends it has one."""
    return OutboundRule(
        id=f"{BALANCER}/outboundRules/{name}",
        name=name,
        protocol=protocol,
        allocated_ports=ports,
        idle_timeout_minutes=idle,
        frontends=frontends or (frontend(),),
        members=members,
    )


def balancer(*rules: OutboundRule, backends: str | None = None, name: str = "kubernetes") -> LoadBalancer:
    """The load balancer that AKS makes, for every pool unless `backends` name scale sets or addresses."""
    return LoadBalancer(
        id=network_id("loadBalancers", name, NODE_GROUP),
        name=name,
        location="westeurope",
        rules=rules or (outbound_rule(),),
        backends=None if backends is None else frozenset(backends.split()),
    )


BALANCER = network_id("loadBalancers", "kubernetes", NODE_GROUP)
GATEWAY = network_id("natGateways", "gateway")


def nat_gateway(*frontends: Frontend, name: str = "gateway") -> NatGateway:
    """A NAT gateway of the owner's; without frontends it has one address."""
    return NatGateway(
        id=network_id("natGateways", name),
        name=name,
        location="westeurope",
        sku="Standard",
        idle_timeout_minutes=4,
        frontends=frontends or (frontend("nat", "198.51.100.200"),),
    )


def series(metric: str, values: str | tuple[float | None, ...], **dimensions: str) -> Series:
    """A time series: `series("UsedSnatPorts", "5 - 7", backendipaddress="10.240.0.4")`; `-` is no point.

    `100*60` stands for sixty points.
    """
    if isinstance(values, str):
        found: list[float | None] = []
        for word in values.split():
            value, _, times = word.partition("*")
            found += [None if value == "-" else float(value)] * int(times or 1)
        values = tuple(found)
    return Series(metric=metric, dimensions=dimensions, values=values)


def window(
    *several: Series, minutes: int = 1, start: str = "2026-03-01T07:30:00Z", steps: int = 30
) -> Window:
    """Series over the same steps, filled up at their beginning with no points."""
    filled = (
        structs.replace(one, values=(None,) * (steps - len(one.values)) + one.values) for one in several
    )
    return Window(start=start, step_minutes=minutes, steps=steps, series=tuple(filled))


def history(*several: Series, days: int = 28) -> Window:
    """Series hour by hour, up to when the snapshot was taken."""
    start = datetime.fromisoformat(TAKEN_AT) - timedelta(days=days)
    return window(*several, minutes=60, start=start.strftime("%Y-%m-%dT%H:%M:%SZ"), steps=24 * days)


def usage(recent: Window | Missing | None = None, past: Window | Missing | None = None) -> Usage:
    """What Azure Monitor counted."""
    return Usage(recent=window() if recent is None else recent, history=history() if past is None else past)


def node_ports(
    address: str,
    used: str,
    allocated: str = "1024*30",
    *,
    protocol: str = "TCP",
    front: str = "198.51.100.10",
) -> tuple[Series, Series]:
    """The ports of a node on a frontend, minute by minute."""
    dimensions = {"backendipaddress": address, "frontendipaddress": front, "protocoltype": protocol}
    return (
        series("UsedSnatPorts", used, **dimensions),
        series("AllocatedSnatPorts", allocated, **dimensions),
    )


def report(
    pool: str,
    number: int,
    *,
    ufw: str | Missing = "",
    dumps: Mapping[DumpName, str] | None = None,
    unread: tuple[Reason, ...] = (),
    reach: str = "",
    interface: str = "eth0",
) -> NodeReport:
    """What a probe brought back from a node: `ufw` is its status, empty where UFW is not installed.

    `reach` is what answered, as `10.240.0.5:open 10.240.1.4:timeout`.
    """
    answers = [word.rsplit(":", 1) for word in reach.split()]
    return NodeReport(
        node=f"aks-{pool}-{number}",
        machine_id=machine_id(pool, number),
        taken_at=TAKEN_AT,
        os="Ubuntu 22.04.5 LTS",
        interface=interface,
        ufw=ufw if isinstance(ufw, Missing) else Ufw(installed=bool(ufw), status=ufw),
        dumps=tuple(Dump(name=name, text=text) for name, text in (dumps or {}).items()),
        unread=unread,
        reach=tuple(
            Reach(address=address, answer=answer, said="" if answer == "open" else f"nc: {answer}")  # type: ignore[arg-type]
            for address, answer in answers
        ),
    )


def unprobed(pool: str, number: int, code: str = "busy") -> Missing:
    """A node that could not be probed."""
    what = machine_id(pool, number)
    reason = Reason(code=code, message=f"Could not probe aks-{pool}-{number}.", resource=what)
    return Missing(what=f"aks-{pool}-{number}", resource_id=what, reason=reason)
