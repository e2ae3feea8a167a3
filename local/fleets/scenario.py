"""One cluster of a sample with what is expected of it, and the pieces that several are made of."""

from dataclasses import dataclass, replace

from local.fleets.clusters import Cluster, Gateway, Hub, Network, Pool, Route, Rule, Subnet

WORKLOADS = "6c0b6a52-3a0e-4a58-9d0c-0f5a3b1e7c41"
PLATFORM = "b1d9f7c4-52c8-4f39-8e27-7d4a9c60e5f2"

SUBSCRIPTIONS = {WORKLOADS: "workloads", PLATFORM: "platform"}
"""Display names by subscription id. Both are made up."""

HUB = Hub(
    name="hub-weu", subscription=WORKLOADS, location="westeurope", prefix="10.0.0.0/16", firewall="10.0.1.4"
)
"""The network in the middle, with an Azure Firewall."""
THROUGH_FIREWALL = (Route(name="default-to-firewall", prefix="0.0.0.0/0", address=HUB.firewall),)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A cluster, what it shows, and what is expected."""

    cluster: Cluster
    shows: str
    """One line, for the README's table."""
    outcome: str
    """What the check `nsg-kubelet-port` should say."""
    egress: str = "pass"
    """What the check `egress-tunnel-port` should say."""
    reach: str = "pass"
    """What the check `kubelet-reachability` should say, where nodes are probed."""
    ufw: str = "pass"
    """What the check `ufw-kubelet-port` should say then."""
    iptables: str = "pass"
    """What the check `iptables-kubelet-port` should say then."""
    snat: str = "pass"
    """What the check `snat-exhaustion` should say."""
    capacity: str = "pass"
    """What the check `snat-capacity` should say."""

    @property
    def outcomes(self) -> dict[str, str]:
        """What each check should say, by its id."""
        return {
            "nsg-kubelet-port": self.outcome,
            "egress-tunnel-port": self.egress,
            "kubelet-reachability": self.reach,
            "ufw-kubelet-port": self.ufw,
            "iptables-kubelet-port": self.iptables,
            "snat-exhaustion": self.snat,
            "snat-capacity": self.capacity,
        }


def blind(scenario: Scenario, what: str = "unknown") -> Scenario:
    """The same, but probes of its nodes tell nothing."""
    return replace(scenario, reach=what, ufw=what, iptables=what)


WEB_RULES = (
    Rule(name="allow-https-inbound", priority=110, source="Internet", ports="443"),
    Rule(name="allow-bastion-ssh", priority=120, source="10.250.0.0/26", ports="22"),
)
"""What the owner of a subnet usually writes."""


def byo(
    name: str,
    second: int,
    *,
    group: str = "",
    rules: tuple[Rule, ...] | None = WEB_RULES,
    prefix: str = "",
    further: tuple[Subnet, ...] = (),
    hub: Hub | None = None,
    routes: tuple[Route, ...] = (),
    gateway: Gateway | None = None,
) -> Network:
    """A virtual network 10.{second}.0.0/16 in a resource group of its own, with one subnet for nodes."""
    return Network(
        name=f"vnet-{name}",
        group=group or f"rg-net-{name}",
        prefixes=(prefix or f"10.{second}.0.0/16",),
        subnets=(
            Subnet(
                name="nodes",
                prefixes=(prefix or f"10.{second}.0.0/20",),
                rules=rules,
                gateway=gateway.name if gateway else None,
            ),
            *further,
        ),
        hub=hub,
        routes=routes,
        gateways=(gateway,) if gateway else (),
    )


def two_subnets(
    name: str,
    second: int,
    *,
    second_rules: tuple[Rule, ...] = WEB_RULES,
    second_gateway: Gateway | None = None,
) -> Network:
    """A virtual network with a subnet for each of two pools."""
    return Network(
        name=f"vnet-{name}",
        group=f"rg-net-{name}",
        prefixes=(f"10.{second}.0.0/16",),
        subnets=(
            Subnet(name="system", prefixes=(f"10.{second}.1.0/24",), rules=WEB_RULES),
            Subnet(
                name="workers",
                prefixes=(f"10.{second}.2.0/24",),
                rules=second_rules,
                gateway=second_gateway.name if second_gateway else None,
            ),
        ),
        gateways=(second_gateway,) if second_gateway else (),
    )


def with_api_subnet(name: str, second: int, *rules: Rule) -> Network:
    """A virtual network with a subnet for nodes, and one into which the API server is projected."""
    nodes, server = f"10.{second}.0.0/20", f"10.{second}.240.0/28"
    api_rules = (
        Rule(name="allow-nodes", priority=100, source=nodes, destination=server, ports=("443", "4443")),
        Rule(
            name="allow-load-balancer-probe",
            priority=110,
            source="AzureLoadBalancer",
            destination=server,
            ports="9988",
        ),
    )
    further = Subnet(name="apiserver", prefixes=(server,), rules=api_rules, delegation=DELEGATION)
    return byo(name, second, rules=(*WEB_RULES, *rules), further=(further,))


DELEGATION = "Microsoft.ContainerService/managedClusters"
NODES = (Pool(subnet="nodes"),)
SYSTEM_AND_WORKERS = (
    Pool(subnet="system"),
    Pool(name="workers", mode="User", subnet="workers", size="Standard_D8ds_v5"),
)
