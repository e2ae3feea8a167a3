"""How nodes get out: the load balancer, NAT gateways, their addresses, and what is used of them."""

import hashlib
import ipaddress
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from local.fleets.clusters import Cluster, Gateway, Pool, digits
from local.fleets.metrics import Ports, balancer_metrics, gateway_metrics, ordinary
from local.fleets.parts import (
    Json,
    etag,
    group_scope,
    guid,
    public_ip,
    public_prefix,
    ref,
    resource,
)
from local.fleets.use import NodeUse

PORTS_PER_ADDRESS = 64_000
"""What Azure allots of a public address: https://learn.microsoft.com/azure/load-balancer/outbound-rules"""
_PORTS = ((50, 1024), (100, 512), (200, 256), (400, 128), (800, 64), (1000, 32))
"""What a node is allotted on each address by default, in a pool of so many at the most.

https://learn.microsoft.com/azure/load-balancer/load-balancer-outbound-connections
"""


def default_ports(nodes: int) -> int:
    """What Azure allots to each of so many nodes on every address, where nobody says how much."""
    return next(ports for most, ports in _PORTS if nodes <= most)


@dataclass(frozen=True, slots=True)
class Source:
    """A public address, or a prefix of them, that connections seem to come from."""

    id: str
    text: str
    """The address, or the prefix's CIDR."""

    @property
    def name(self) -> str:
        """Its own name, and a frontend's that has it."""
        return self.id.rpartition("/")[2]

    @property
    def addresses(self) -> list[str]:
        """Every address that it has."""
        return [str(address) for address in ipaddress.ip_network(self.text)]

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.text else 4


@dataclass(frozen=True, slots=True)
class Member:
    """A node, as the way out sees it."""

    pool: Pool
    index: int
    nic: str
    addresses: tuple[str, ...]
    """One of each version of IP."""

    def address(self, version: int) -> str:
        """Its address of a version of IP."""
        return next(one for one in self.addresses if (":" in one) == (version == 6))


class Outbound:
    """Makes what a cluster has for its nodes' way out."""

    def __init__(self, cluster: Cluster, *, net: str, byo_net: str, network: str) -> None:
        """`net` and `byo_net`: Microsoft.Network in the node resource group, and in the network's."""
        self.cluster = cluster
        self.net = net
        self.byo_net = byo_net
        self.network = network
        self.number = cluster.number
        self.balanced = cluster.outbound == "loadBalancer"
        self.balancer = f"{net}/loadBalancers/kubernetes"
        self.own_gateway = (
            f"{net}/natGateways/aks-natgateway-{self.number}"
            if cluster.outbound == "managedNATGateway"
            else None
        )
        self.sources = self._sources()
        """What the cluster's profile tells of: the load balancer's, or those of AKS's own NAT gateway."""

    def _sources(self) -> list[Source]:
        cluster = self.cluster
        scope = f"{group_scope(cluster.subscription, cluster.group)}/providers/Microsoft.Network"
        short = cluster.name.removeprefix("aks-")
        balancer = cluster.balancer
        if self.own_gateway:
            return [self._managed(index) for index in range(cluster.gateway.addresses)]
        if not self.balanced:
            return []
        if balancer.source == "prefix":
            length = 32 - int(math.log2(balancer.addresses))
            prefix = f"203.0.113.{int(self.number) % 24 * 8 + 64}/{length}"
            return [Source(f"{scope}/publicIPPrefixes/ippre-{short}", prefix)]
        if balancer.source == "owned":
            return [
                Source(f"{scope}/publicIPAddresses/pip-{short}-{index + 1}", self._address(index))
                for index in range(balancer.addresses)
            ]
        found = [self._managed(index) for index in range(balancer.addresses)]
        if cluster.dual_stack:
            last = int(self.number) % 200 + 10
            six = f"2001:db8:{int(self.number[:4]):x}::{last:x}"
            found.append(Source(self._managed(len(found)).id, six))
        return found

    def _managed(self, index: int) -> Source:
        """An address that AKS makes, in the node resource group."""
        name = guid(f"{self.cluster.id}/outbound/{index}")
        return Source(f"{self.net}/publicIPAddresses/{name}", self._address(index))

    def _address(self, index: int) -> str:
        return f"198.51.100.{int(self.number) % 200 + 10 + index}"

    @property
    def _versions(self) -> tuple[int, ...]:
        return (4, 6) if self.cluster.dual_stack else (4,)

    # What other documents say of it

    def gateway(self, subnet: str) -> str | None:
        """The id of the NAT gateway that hangs on a subnet."""
        if owners := self.cluster.gateway_of(subnet):
            return self._gateway_id(owners)
        return self.own_gateway

    def _gateway_id(self, gateway: Gateway) -> str:
        return f"{self.byo_net}/natGateways/{gateway.name}"

    def backend_pools(self, version: int = 4) -> list[Json]:
        """The load balancer's backend pools that a node's IP configuration is in."""
        if not self.balanced:  # without a load balancer until a service asks for it
            return []
        names = ["aksOutboundBackendPool", "kubernetes"] if version == 4 else ["aksOutboundBackendPoolIPv6"]
        return [ref(f"{self.balancer}/backendAddressPools/{name}") for name in names]

    def profile(self) -> Json:
        """What the cluster's `networkProfile` says of it."""
        effective = [ref(source.id) for source in self.sources]
        cluster, balancer = self.cluster, self.cluster.balancer
        if self.own_gateway:
            return {
                "natGatewayProfile": {
                    "managedOutboundIPProfile": {"count": cluster.gateway.addresses},
                    "effectiveOutboundIPs": effective,
                    "idleTimeoutInMinutes": 4,
                }
            }
        if not self.balanced:
            return {}
        by_source: dict[str, Json] = {
            "managed": {"managedOutboundIPs": {"count": balancer.addresses}},
            "owned": {"outboundIPs": {"publicIPs": effective}},
            "prefix": {"outboundIPPrefixes": {"publicIPPrefixes": effective}},
        }
        addresses = by_source[balancer.source]
        if cluster.dual_stack:
            addresses["managedOutboundIPs"]["countIPv6"] = 1
        return {
            "loadBalancerProfile": {
                **addresses,
                "effectiveOutboundIPs": effective,
                "allocatedOutboundPorts": balancer.ports,
                "idleTimeoutInMinutes": balancer.idle_minutes,
                "backendPoolType": "nodeIPConfiguration",
            }
        }

    # Its own documents

    def documents(self, members: Sequence[Member], subnets: Sequence[str]) -> Iterator[Json]:
        """Load balancer, NAT gateways, and their public addresses."""
        if self.balanced:
            yield self._load_balancer(members)
        if self.own_gateway:
            yield self._nat_gateway(self.own_gateway, self.sources, subnets, self._created())
        yield from self._public_addresses()
        for service in self.cluster.balancer.services:
            name = _service_name(service)
            yield public_ip(
                f"{self.net}/publicIPAddresses/kubernetes-{name}",
                self.cluster.location,
                service,
                {"ipConfiguration": ref(f"{self.balancer}/frontendIPConfigurations/{name}")},
                {"k8s-azure-cluster-name": "kubernetes", "k8s-azure-service": f"default/{name}"},
            )
        for gateway in self.cluster.network.gateways if self.cluster.network else ():
            yield from self._owners_gateway(gateway, subnets)

    def _created(self) -> dict[str, str]:
        return {
            "aks-managed-cluster-name": self.cluster.name,
            "aks-managed-cluster-rg": self.cluster.group,
        }

    def _public_addresses(self) -> Iterator[Json]:
        """The sources that the cluster's profile tells of."""
        balancer = self.cluster.balancer
        for source in self.sources:
            frontend = ref(f"{self.balancer}/frontendIPConfigurations/{source.name}")
            if "/" in source.text:
                yield public_prefix(source.id, self.cluster.location, source.text, frontend)
                continue
            user = (
                {"natGateway": ref(self.own_gateway)} if self.own_gateway else {"ipConfiguration": frontend}
            )
            owned = {"aks-managed-type": "aks-slb-managed-outbound-ip"} | self.cluster.tags
            tags = owned if balancer.source == "managed" else {}
            yield public_ip(
                source.id, self.cluster.location, source.text, user, tags, idle_minutes=balancer.idle_minutes
            )

    def _owners_gateway(self, gateway: Gateway, subnets: Sequence[str]) -> Iterator[Json]:
        identifier = self._gateway_id(gateway)
        last = int(digits(identifier)) % 200 + 10
        sources = [
            Source(
                f"{self.byo_net}/publicIPAddresses/pip-{gateway.name}-{index + 1}",
                f"192.0.2.{last + index}",
            )
            for index in range(gateway.addresses)
        ]
        served = [name for name in subnets if self.gateway(name) == identifier]
        yield self._nat_gateway(identifier, sources, served, {})
        for source in sources:
            user = {"natGateway": ref(identifier)}
            yield public_ip(source.id, self.cluster.location, source.text, user, {}, idle_minutes=4)

    def _nat_gateway(
        self, identifier: str, sources: Sequence[Source], subnets: Sequence[str], tags: dict[str, str]
    ) -> Json:
        return resource(
            identifier,
            "Microsoft.Network/natGateways",
            {
                "provisioningState": "Succeeded",
                "resourceGuid": guid(identifier),
                "idleTimeoutInMinutes": 4,
                "publicIpAddresses": [ref(source.id) for source in sources],
                "subnets": [ref(f"{self.network}/subnets/{name}") for name in subnets],
            },
            location=self.cluster.location,
            tags=tags,
            sku={"name": "Standard"},
        )

    def _load_balancer(self, members: Sequence[Member]) -> Json:
        services = self.cluster.balancer.services
        configuration = {4: "ipconfig1", 6: "ipconfigv6"}
        return resource(
            self.balancer,
            "Microsoft.Network/loadBalancers",
            {
                "provisioningState": "Succeeded",
                "resourceGuid": guid(self.balancer),
                "frontendIPConfigurations": [
                    *(self._outbound_frontend(source) for source in self.sources),
                    *(self._service_frontend(service) for service in services),
                ],
                "backendAddressPools": [
                    self._backend_pool(pool["id"], members, configuration[version])
                    for version in self._versions
                    for pool in self.backend_pools(version)
                ],
                "loadBalancingRules": [self._service_rule(service) for service in services],
                "probes": [self._probe(service) for service in services],
                "inboundNatRules": [],
                "outboundRules": [self._outbound_rule(version) for version in self._versions],
                "inboundNatPools": [],
            },
            location=self.cluster.location,
            tags=self._created(),
            sku={"name": "Standard", "tier": "Regional"},
        )

    def _part(self, kind: str, name: str, properties: Json) -> Json:
        """Something that lies in the load balancer."""
        return {
            "name": name,
            "id": f"{self.balancer}/{kind}/{name}",
            "etag": etag(self.balancer),
            "type": f"Microsoft.Network/loadBalancers/{kind}",
            "properties": {"provisioningState": "Succeeded"} | properties,
        }

    def _outbound_frontend(self, source: Source) -> Json:
        kind = "publicIPPrefix" if "/" in source.text else "publicIPAddress"
        return self._part(
            "frontendIPConfigurations",
            source.name,
            {
                "privateIPAllocationMethod": "Dynamic",
                kind: ref(source.id),
                "outboundRules": [ref(f"{self.balancer}/outboundRules/{_RULES[source.version]}")],
            },
        )

    def _outbound_rule(self, version: int) -> Json:
        return self._part(
            "outboundRules",
            _RULES[version],
            {
                "allocatedOutboundPorts": self.cluster.balancer.ports,
                "protocol": "All",
                "enableTcpReset": True,
                "idleTimeoutInMinutes": self.cluster.balancer.idle_minutes,
                "backendAddressPool": self.backend_pools(version)[0],
                "frontendIPConfigurations": [
                    ref(f"{self.balancer}/frontendIPConfigurations/{source.name}")
                    for source in self.sources
                    if source.version == version
                ],
            },
        )

    def _backend_pool(self, identifier: str, members: Sequence[Member], configuration: str) -> Json:
        return self._part(
            "backendAddressPools",
            identifier.rpartition("/")[2],
            {
                "backendIPConfigurations": [
                    ref(f"{one.nic}/ipConfigurations/{configuration}") for one in members
                ]
            },
        )

    def _service_frontend(self, service: str) -> Json:
        name = _service_name(service)
        return self._part(
            "frontendIPConfigurations",
            name,
            {
                "privateIPAllocationMethod": "Dynamic",
                "publicIPAddress": ref(f"{self.net}/publicIPAddresses/kubernetes-{name}"),
                "loadBalancingRules": [ref(f"{self.balancer}/loadBalancingRules/{name}-TCP-443")],
            },
        )

    def _service_rule(self, service: str) -> Json:
        name = _service_name(service)
        pool = ref(f"{self.balancer}/backendAddressPools/kubernetes")
        return self._part(
            "loadBalancingRules",
            f"{name}-TCP-443",
            {
                "frontendIPConfiguration": ref(f"{self.balancer}/frontendIPConfigurations/{name}"),
                "frontendPort": 443,
                "backendPort": 443,
                "enableFloatingIP": True,
                "idleTimeoutInMinutes": 4,
                "protocol": "Tcp",
                "enableTcpReset": True,
                "loadDistribution": "Default",
                "disableOutboundSnat": True,  # so the way out is the outbound rule's alone
                "backendAddressPool": pool,
                "backendAddressPools": [pool],
                "probe": ref(f"{self.balancer}/probes/{name}-TCP-443"),
            },
        )

    def _probe(self, service: str) -> Json:
        name = f"{_service_name(service)}-TCP-443"
        return self._part(
            "probes",
            name,
            {
                "protocol": "Tcp",
                "port": 31443,
                "intervalInSeconds": 5,
                "numberOfProbes": 2,
                "probeThreshold": 2,
                "loadBalancingRules": [ref(f"{self.balancer}/loadBalancingRules/{name}")],
            },
        )

    # What Azure Monitor has of it

    def metrics(self, members: Sequence[Member]) -> dict[str, Json]:
        """Metrics by resource id, of whatever nodes really get out by: nothing where there are none."""
        cluster = self.cluster
        if cluster.use.silent or not members:
            return {}
        found: dict[str, Json] = {}
        leaving = [
            one for one in members if not self.gateway(one.pool.subnet) and not one.pool.public_addresses
        ]
        if self.balanced and leaving:
            rules = [self._ports(version, leaving, len(members)) for version in self._versions]
            found[self.balancer] = {"value": balancer_metrics(rules)}
        if self.own_gateway:
            found[self.own_gateway] = {"value": gateway_metrics(cluster.gateway.use)}
        for gateway in cluster.network.gateways if cluster.network else ():
            identifier = self._gateway_id(gateway)
            if any(self.gateway(one.pool.subnet) == identifier for one in members):
                found[identifier] = {"value": gateway_metrics(gateway.use)}
        return found

    def _ports(self, version: int, leaving: Sequence[Member], members: int) -> Ports:
        """What the outbound rule for a version of IP allots, and what is used of it."""
        frontends = [
            address for source in self.sources if source.version == version for address in source.addresses
        ]
        ports = self.cluster.balancer.ports
        each = ports // len(frontends) if ports else default_ports(members)
        return Ports(
            frontends=frontends,
            each=each,
            nodes=[(one.address(version), self._use(one, version, each * len(frontends))) for one in leaving],
        )

    def _use(self, member: Member, version: int, ports: int) -> NodeUse:
        use = self.cluster.use
        named = use.nodes.get((member.pool.name, member.index)) or use.others
        return named or ordinary(f"{member.nic}/{version}", ports)


_RULES = {4: "aksOutboundRule", 6: "aksOutboundRuleIPv6"}
"""What AKS calls the outbound rule of a version of IP."""


def _service_name(service: str) -> str:
    """How the cluster names what belongs to a service: by the service's own identifier."""
    return f"a{hashlib.sha256(service.encode()).hexdigest()[:31]}"
