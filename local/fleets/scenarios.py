"""The clusters of the sample fleet: each shows one thing, and what `nsg-kubelet-port` should say of it."""

from dataclasses import dataclass

from local.fleets.clusters import Cluster, Network, Pool, Rule, Subnet

WORKLOADS = "6c0b6a52-3a0e-4a58-9d0c-0f5a3b1e7c41"
PLATFORM = "b1d9f7c4-52c8-4f39-8e27-7d4a9c60e5f2"

SUBSCRIPTIONS = {WORKLOADS: "workloads", PLATFORM: "platform"}
"""Display names by subscription id. Both are made up."""

FIREWALL = "10.0.1.4"
"""The private address of the firewall in the hub."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A cluster, what it shows, and what is expected."""

    cluster: Cluster
    shows: str
    """One line, for the README's table."""
    outcome: str
    """What the check `nsg-kubelet-port` should say."""


WEB_RULES = (
    Rule(name="allow-https-inbound", priority=110, source="Internet", ports="443"),
    Rule(name="allow-bastion-ssh", priority=120, source="10.250.0.0/26", ports="22"),
)
"""What the owner of a subnet usually writes."""


def byo(
    name: str, second: int, *, group: str = "", rules: tuple[Rule, ...] | None = WEB_RULES, prefix: str = ""
) -> Network:
    """A virtual network 10.{second}.0.0/16 in a resource group of its own, with one subnet for nodes."""
    return Network(
        name=f"vnet-{name}",
        group=group or f"rg-net-{name}",
        prefixes=(prefix or f"10.{second}.0.0/16",),
        subnets=(Subnet(name="nodes", prefixes=(prefix or f"10.{second}.0.0/20",), rules=rules),),
    )


def two_subnets(name: str, second: int, *, second_rules: tuple[Rule, ...] = WEB_RULES) -> Network:
    """A virtual network with a subnet for each of two pools."""
    return Network(
        name=f"vnet-{name}",
        group=f"rg-net-{name}",
        prefixes=(f"10.{second}.0.0/16",),
        subnets=(
            Subnet(name="system", prefixes=(f"10.{second}.1.0/24",), rules=WEB_RULES),
            Subnet(name="workers", prefixes=(f"10.{second}.2.0/24",), rules=second_rules),
        ),
    )


NODES = (Pool(subnet="nodes"),)
SYSTEM_AND_WORKERS = (
    Pool(subnet="system"),
    Pool(name="workers", mode="User", subnet="workers", size="Standard_D8ds_v5"),
)


def sample() -> list[Scenario]:
    """Every cluster of the sample fleet."""
    return [*_healthy(), *_faulty(), *_unknown()]


def _healthy() -> list[Scenario]:
    return [
        Scenario(
            Cluster(
                name="aks-web-weu",
                subscription=WORKLOADS,
                plugin="kubenet",
                node_rules=(
                    Rule(
                        name="k8s-azure-lb_allow_IPv4_556f7044ec033071ec1b8ec7ac0bba2f",
                        priority=500,
                        source="Internet",
                        destination=("198.51.100.44",),
                        ports=("80", "443"),
                    ),
                ),
                tags={"env": "production"},
            ),
            "kubenet in the virtual network that AKS made; a rule for a public service at 500",
            "pass",
        ),
        Scenario(
            Cluster(
                name="aks-api-weu",
                subscription=WORKLOADS,
                plugin="azure",
                network=byo("api-weu", 41, group="rg-network-weu"),
                pools=NODES,
                tags={"env": "production"},
            ),
            "Azure CNI, pods with addresses of the subnet; BYO VNet in another resource group",
            "pass",
        ),
        Scenario(
            Cluster(
                name="aks-batch-weu",
                subscription=WORKLOADS,
                network=two_subnets("batch-weu", 42),
                pools=SYSTEM_AND_WORKERS,
            ),
            "two pools in two subnets, an NSG on each",
            "pass",
        ),
        Scenario(
            Cluster(
                name="aks-internal-weu",
                subscription=WORKLOADS,
                network=byo("internal-weu", 43),
                pools=NODES,
                private=True,
            ),
            "private cluster: the API server behind a private endpoint",
            "pass",
        ),
        Scenario(
            Cluster(
                name="aks-auto-neu",
                subscription=WORKLOADS,
                location="northeurope",
                network=Network(
                    name="vnet-auto-neu",
                    group="rg-net-auto-neu",
                    prefixes=("10.44.0.0/16",),
                    subnets=(
                        Subnet(name="nodes", prefixes=("10.44.0.0/20",), rules=WEB_RULES),
                        Subnet(
                            name="apiserver",
                            prefixes=("10.44.240.0/28",),
                            rules=(
                                Rule(
                                    name="allow-nodes",
                                    priority=100,
                                    source="10.44.0.0/20",
                                    destination="10.44.240.0/28",
                                    ports=("443", "4443"),
                                ),
                                Rule(
                                    name="allow-load-balancer-probe",
                                    priority=110,
                                    source="AzureLoadBalancer",
                                    destination="10.44.240.0/28",
                                    ports="9988",
                                ),
                            ),
                            delegation="Microsoft.ContainerService/managedClusters",
                        ),
                    ),
                ),
                pools=NODES,
                api_subnet="apiserver",
                automatic=True,
            ),
            "AKS Automatic, API server VNet integration in a delegated subnet; node resource group locked",
            "pass",
        ),
        Scenario(
            Cluster(
                name="aks-jobs-neu",
                subscription=WORKLOADS,
                location="northeurope",
                outbound="managedNATGateway",
            ),
            "egress through a managed NAT gateway; no load balancer",
            "pass",
        ),
        Scenario(
            Cluster(
                name="aks-secure-weu",
                subscription=WORKLOADS,
                network=Network(
                    name="vnet-secure-weu",
                    group="rg-net-secure-weu",
                    prefixes=("10.47.0.0/16",),
                    subnets=(Subnet(name="nodes", prefixes=("10.47.0.0/20",), rules=WEB_RULES),),
                    firewall=FIREWALL,
                ),
                pools=NODES,
                outbound="userDefinedRouting",
            ),
            "user-defined routing: 0.0.0.0/0 through an Azure Firewall in a peered hub",
            "pass",
        ),
        Scenario(
            Cluster(
                name="aks-desktop-weu",
                subscription=WORKLOADS,
                network=byo("desktop-weu", 48),
                pools=(
                    Pool(subnet="nodes"),
                    Pool(name="win1", mode="User", os="Windows", subnet="nodes", count=2),
                ),
            ),
            "a Windows pool beside the Linux one",
            "pass",
        ),
        Scenario(
            Cluster(
                name="aks-ml-neu",
                subscription=WORKLOADS,
                location="northeurope",
                network=byo("ml-neu", 49),
                pools=(Pool(subnet="nodes", kind="VirtualMachines"),),
            ),
            "a pool of type VirtualMachines: plain VMs and network interfaces, no scale set",
            "pass",
        ),
        Scenario(
            Cluster(name="aks-edge-weu", subscription=WORKLOADS, dual_stack=True),
            "IPv4 and IPv6 in the subnet, the nodes and the load balancer",
            "pass",
        ),
        Scenario(
            Cluster(name="aks-sandbox-neu", subscription=PLATFORM, location="northeurope", stopped=True),
            "stopped: no nodes, scale set at 0",
            "not_applicable",
        ),
        Scenario(
            Cluster(
                name="aks-portal-weu",
                subscription=WORKLOADS,
                network=byo(
                    "portal-weu",
                    52,
                    rules=(
                        Rule(
                            name="deny-kubelet-from-internet",
                            priority=100,
                            access="Deny",
                            source="Internet",
                            ports="10250",
                        ),
                        Rule(
                            name="allow-kubelet-inside",
                            priority=200,
                            source="VirtualNetwork",
                            destination="VirtualNetwork",
                            ports="10250",
                        ),
                        Rule(name="deny-kubelet", priority=300, access="Deny", ports="10250"),
                    ),
                ),
                pools=NODES,
            ),
            "looks bad and is not: 10250 denied from the Internet at 100, and from anywhere at 300, "
            "below an allow at 200",
            "pass",
        ),
    ]


def _faulty() -> list[Scenario]:
    return [
        Scenario(
            Cluster(
                name="aks-orders-weu",
                subscription=WORKLOADS,
                network=byo("orders-weu", 53, rules=(*WEB_RULES, DENY_KUBELET)),
                pools=NODES,
                tags={"env": "production"},
            ),
            "subnet NSG: inbound deny of 10250 at 200, singular fields",
            "fail",
        ),
        Scenario(
            Cluster(
                name="aks-search-weu",
                subscription=PLATFORM,
                network=byo("search-weu", 54, rules=deny_range("10.54.0.0/16")),
                pools=NODES,
            ),
            "deny of ports 9000 and 10000-10300 in plural fields at 250, above an allow of 10250 at 400",
            "fail",
        ),
        Scenario(
            Cluster(
                name="aks-payments-neu",
                subscription=PLATFORM,
                location="northeurope",
                network=byo("payments-neu", 55, group="rg-network-neu", rules=(*WEB_RULES, DENY_VNET)),
                pools=NODES,
            ),
            "BYO VNet and NSG in another resource group: deny of everything from VirtualNetwork at 4096",
            "fail",
        ),
        Scenario(
            Cluster(
                name="aks-media-weu",
                subscription=PLATFORM,
                network=two_subnets("media-weu", 56, second_rules=deny_from("10.56.1.0/24")),
                pools=SYSTEM_AND_WORKERS,
            ),
            "denied only from the system pool's subnet to the workers'; inside each subnet allowed",
            "fail",
        ),
        Scenario(
            Cluster(
                name="aks-events-neu",
                subscription=PLATFORM,
                location="northeurope",
                network=byo("events-neu", 57, rules=(*WEB_RULES, DENY_OUTBOUND)),
                pools=NODES,
            ),
            "outbound deny of 10250 to VirtualNetwork in the NSG of the nodes' subnet",
            "fail",
        ),
        Scenario(
            Cluster(
                name="aks-cache-weu",
                subscription=PLATFORM,
                network=byo("cache-weu", 58),
                pools=NODES,
                node_rules=(DENY_KUBELET,),
            ),
            "deny in the NSG of the network interfaces, in the node resource group; the subnet's allows",
            "fail",
        ),
        Scenario(
            Cluster(
                name="aks-reports-weu",
                subscription=PLATFORM,
                network=byo("reports-weu", 59, prefix="10.59.7.0/24", rules=deny_from("10.59.7.128/25")),
                pools=NODES,
            ),
            "the upper half of the nodes' subnet, 10.59.7.128/25, is denied as a source",
            "fail",
        ),
        Scenario(
            Cluster(
                name="aks-casemix-weu",
                subscription=PLATFORM,
                network=byo("casemix-weu", 62, rules=(*WEB_RULES, DENY_KUBELET)),
                pools=NODES,
                scrambled=True,
            ),
            "every id written in another case each time; a deny that is missed if ids are compared as text",
            "fail",
        ),
    ]


def _unknown() -> list[Scenario]:
    return [
        Scenario(
            Cluster(
                name="aks-partners-neu",
                subscription=PLATFORM,
                location="northeurope",
                network=byo(
                    "partners-neu",
                    60,
                    prefix="25.60.0.0/22",
                    rules=(
                        Rule(
                            name="allow-kubelet-from-cloud",
                            priority=200,
                            source="AzureCloud.northeurope",
                            ports="10250",
                        ),
                        Rule(name="deny-everything-else", priority=4000, access="Deny", protocol="*"),
                    ),
                ),
                pools=NODES,
            ),
            "10250 allowed from the tag AzureCloud.northeurope, the rest denied; the nodes have addresses of "
            "public space (25.60.0.0/22), so only Microsoft's list of prefixes could tell",
            "unknown",
        ),
        Scenario(
            Cluster(
                name="aks-audit-weu",
                subscription=PLATFORM,
                network=byo("audit-weu", 61, group="rg-net-restricted-weu", rules=(*WEB_RULES, DENY_KUBELET)),
                pools=NODES,
            ),
            "the subnet's NSG lies in a resource group where the identity may not read NSGs: 403 when asked "
            "for, left out of lists",
            "unknown",
        ),
    ]


DENY_KUBELET = Rule(name="deny-kubelet", priority=200, access="Deny", ports="10250")
DENY_VNET = Rule(
    name="deny-lateral-movement", priority=4096, access="Deny", protocol="*", source="VirtualNetwork"
)
DENY_OUTBOUND = Rule(
    name="deny-kubelet-out",
    priority=150,
    access="Deny",
    direction="Outbound",
    destination="VirtualNetwork",
    ports="10250",
)


def deny_range(source: str) -> tuple[Rule, ...]:
    """A deny of port ranges in plural fields, and below it an allow of 10250 that never matches."""
    return (
        Rule(
            name="deny-management-ports",
            priority=250,
            access="Deny",
            source=(source,),
            ports=("9000", "10000-10300"),
        ),
        Rule(name="allow-kubelet", priority=400, source="VirtualNetwork", ports="10250"),
    )


def deny_from(source: str) -> tuple[Rule, ...]:
    """A deny of 10250 from some addresses only."""
    return (*WEB_RULES, Rule(name="deny-kubelet", priority=310, access="Deny", source=source, ports="10250"))


def access() -> dict[str, list[dict[str, object]]]:
    """The sample's `access.json`: what the identity may not read."""
    return {
        "deny": [
            {
                "scope": f"/subscriptions/{PLATFORM}/resourceGroups/rg-net-restricted-weu",
                "actions": ["Microsoft.Network/networkSecurityGroups/read"],
            }
        ]
    }
