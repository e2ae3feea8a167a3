"""The clusters of the sample fleet: each shows one thing, and what the checks should say of it."""

from local.fleets import inside, snat
from local.fleets.clusters import (
    AdminRule,
    AdminRules,
    Balancer,
    Cluster,
    Drop,
    Inside,
    Pool,
    Route,
    Rule,
    Subnet,
)
from local.fleets.scenario import (
    DELEGATION,
    HUB,
    NODES,
    PLATFORM,
    SYSTEM_AND_WORKERS,
    THROUGH_FIREWALL,
    WEB_RULES,
    WORKLOADS,
    Scenario,
    blind,
    byo,
    two_subnets,
    with_api_subnet,
)


def sample() -> list[Scenario]:
    """Every cluster of the sample fleet."""
    return [*_healthy(), *_faulty(), *_way_out(), *_on_nodes(), *snat.scenarios(), *_unknown()]


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
                balancer=Balancer(services=("198.51.100.44",)),
                tags={"env": "production"},
            ),
            "kubenet in the virtual network that AKS made; a public service, and a rule for it at 500",
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
                network=byo(
                    "internal-weu", 43, further=(Subnet(name="endpoints", prefixes=("10.43.250.0/28",)),)
                ),
                pools=NODES,
                endpoint_subnet="endpoints",
            ),
            "private cluster: the API server behind a private endpoint",
            "pass",
            snat="not_applicable",
            capacity="not_applicable",
        ),
        Scenario(
            Cluster(
                name="aks-auto-neu",
                subscription=WORKLOADS,
                location="northeurope",
                network=with_api_subnet("auto-neu", 44),
                pools=NODES,
                api_subnet="apiserver",
                automatic=True,
            ),
            "AKS Automatic, API server VNet integration in a delegated subnet; node resource group locked",
            "pass",
            "not_applicable",
            reach="unknown",
            ufw="unknown",
            iptables="unknown",
            snat="not_applicable",
            capacity="not_applicable",
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
                network=byo("secure-weu", 47, hub=HUB, routes=THROUGH_FIREWALL),
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
            "not_applicable",
            reach="not_applicable",
            ufw="not_applicable",
            iptables="not_applicable",
            snat="not_applicable",
            capacity="not_applicable",
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
        Scenario(
            Cluster(
                name="aks-market-neu",
                subscription=PLATFORM,
                location="northeurope",
                network=byo(
                    "market-neu",
                    63,
                    prefix="40.113.16.0/22",
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
            "that tag's public space (40.113.16.0/22)",
            "pass",
        ),
        Scenario(
            Cluster(
                name="aks-metrics-weu",
                subscription=WORKLOADS,
                network=byo("metrics-weu", 64, rules=(*WEB_RULES, DENY_KUBELET)),
                pools=NODES,
                admin=AdminRules(
                    subscription=PLATFORM,
                    collection="platform-access",
                    rules=(
                        AdminRule(
                            name="always-allow-kubelet",
                            priority=10,
                            access="AlwaysAllow",
                            sources=("10.64.0.0/16",),
                            ports=("10250",),
                            description="Kubelets are reached inside every network",
                        ),
                    ),
                ),
            ),
            "a security admin rule always allows 10250 inside the network, over an NSG that denies it",
            "pass",
        ),
        Scenario(
            Cluster(
                name="aks-stream-neu",
                subscription=WORKLOADS,
                location="northeurope",
                network=byo("stream-neu", 65, rules=(*WEB_RULES, *DENY_LEGACY)),
                pools=NODES,
            ),
            "konnectivity: outbound 9000 and 1194 denied, which this tunnel does not use",
            "pass",
        ),
    ]


def _faulty() -> list[Scenario]:
    return [
        Scenario(
            Cluster(
                name="aks-orders-weu",
                drops=(Drop(source="10.53.0.0/16", destination="10.53.0.0/16"),),
                subscription=WORKLOADS,
                network=byo("orders-weu", 53, rules=(*WEB_RULES, DENY_KUBELET)),
                pools=NODES,
                tags={"env": "production"},
            ),
            "subnet NSG: inbound deny of 10250 at 200, singular fields",
            "fail",
            reach="fail",
        ),
        Scenario(
            Cluster(
                name="aks-search-weu",
                drops=(Drop(source="10.54.0.0/16", destination="10.54.0.0/16"),),
                subscription=PLATFORM,
                network=byo("search-weu", 54, rules=deny_range("10.54.0.0/16")),
                pools=NODES,
            ),
            "deny of ports 9000 and 10000-10300 in plural fields at 250, above an allow of 10250 at 400",
            "fail",
            reach="fail",
        ),
        Scenario(
            Cluster(
                name="aks-payments-neu",
                drops=(Drop(source="10.55.0.0/16", destination="10.55.0.0/16"),),
                subscription=PLATFORM,
                location="northeurope",
                network=byo("payments-neu", 55, group="rg-network-neu", rules=(*WEB_RULES, DENY_VNET)),
                pools=NODES,
            ),
            "BYO VNet and NSG in another resource group: deny of everything from VirtualNetwork at 4096",
            "fail",
            reach="fail",
        ),
        Scenario(
            Cluster(
                name="aks-media-weu",
                drops=(Drop(source="10.56.1.0/24", destination="10.56.2.0/24"),),
                subscription=PLATFORM,
                network=two_subnets("media-weu", 56, second_rules=deny_from("10.56.1.0/24")),
                pools=SYSTEM_AND_WORKERS,
            ),
            "denied only from the system pool's subnet to the workers'; inside each subnet allowed",
            "fail",
            reach="fail",
        ),
        Scenario(
            Cluster(
                name="aks-events-neu",
                drops=(Drop(source="10.57.0.0/16", destination="10.57.0.0/16"),),
                subscription=PLATFORM,
                location="northeurope",
                network=byo("events-neu", 57, rules=(*WEB_RULES, DENY_OUTBOUND)),
                pools=NODES,
            ),
            "outbound deny of 10250 to VirtualNetwork in the NSG of the nodes' subnet",
            "fail",
            reach="fail",
        ),
        Scenario(
            Cluster(
                name="aks-cache-weu",
                drops=(Drop(source="10.58.0.0/16", destination="10.58.0.0/16"),),
                subscription=PLATFORM,
                network=byo("cache-weu", 58),
                pools=NODES,
                node_rules=(DENY_KUBELET,),
            ),
            "deny in the NSG of the network interfaces, in the node resource group; the subnet's allows",
            "fail",
            reach="fail",
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
                drops=(Drop(source="10.62.0.0/16", destination="10.62.0.0/16"),),
                subscription=PLATFORM,
                network=byo("casemix-weu", 62, rules=(*WEB_RULES, DENY_KUBELET)),
                pools=NODES,
                scrambled=True,
            ),
            "every id written in another case each time; a deny that is missed if ids are compared as text",
            "fail",
            reach="fail",
        ),
        Scenario(
            Cluster(
                name="aks-checkout-weu",
                drops=(Drop(source="10.66.0.0/16", destination="cards"),),
                subscription=PLATFORM,
                network=byo(
                    "checkout-weu",
                    66,
                    rules=(
                        *WEB_RULES,
                        Rule(
                            name="deny-to-restricted",
                            priority=220,
                            access="Deny",
                            destination=(),
                            destination_groups=("asg-restricted",),
                            ports="10250",
                        ),
                    ),
                ),
                pools=(
                    Pool(subnet="nodes"),
                    Pool(name="cards", mode="User", subnet="nodes", groups=("asg-restricted",)),
                ),
            ),
            "denied to an application security group that one of two pools in the subnet joins",
            "fail",
            reach="fail",
        ),
        Scenario(
            Cluster(
                name="aks-ledger-weu",
                drops=(Drop(source="10.67.0.0/16", destination="10.67.0.0/16"),),
                subscription=PLATFORM,
                network=byo(
                    "ledger-weu",
                    67,
                    rules=(
                        *WEB_RULES,
                        Rule(name="allow-kubelet", priority=130, source="VirtualNetwork", ports="10250"),
                    ),
                ),
                pools=NODES,
                admin=AdminRules(
                    subscription=PLATFORM,
                    collection="high-risk-ports",
                    rules=(
                        AdminRule(
                            name="deny-management-ports",
                            priority=20,
                            access="Deny",
                            ports=("22", "3389", "10250-10259"),
                            description="Management ports are reached through the bastion only",
                        ),
                    ),
                ),
            ),
            "a security admin rule denies 10250-10259 inbound; the subnet's NSG allows 10250",
            "fail",
            reach="fail",
        ),
        Scenario(
            Cluster(
                name="aks-render-weu",
                subscription=WORKLOADS,
                plugin="azure",
                network=byo(
                    "render-weu",
                    68,
                    rules=(
                        *WEB_RULES,
                        Rule(
                            name="deny-kubelet-from-pods",
                            priority=240,
                            access="Deny",
                            source="10.68.64.0/18",
                            ports="10250",
                        ),
                    ),
                    further=(
                        Subnet(name="pods", prefixes=("10.68.64.0/18",), rules=(), delegation=DELEGATION),
                    ),
                ),
                pools=(Pool(subnet="nodes", pod_subnet="pods"),),
            ),
            "Azure CNI with a subnet for pods, from which the nodes' NSG denies 10250",
            "fail",
        ),
        Scenario(
            Cluster(
                name="aks-control-neu",
                subscription=PLATFORM,
                location="northeurope",
                network=with_api_subnet(
                    "control-neu",
                    69,
                    Rule(
                        name="deny-from-control-plane",
                        priority=260,
                        access="Deny",
                        source="10.69.240.0/28",
                        ports="1024-65535",
                    ),
                ),
                pools=NODES,
                api_subnet="apiserver",
            ),
            "API server VNet integration: the nodes' NSG denies what comes from the API server's subnet",
            "fail",
            "not_applicable",
            snat="not_applicable",
            capacity="not_applicable",
        ),
    ]


def _way_out() -> list[Scenario]:
    """Clusters whose way to the control plane is special."""
    return [
        Scenario(
            Cluster(
                name="aks-archive-neu",
                subscription=PLATFORM,
                location="northeurope",
                network=byo(
                    "archive-neu", 70, routes=(Route(name="sinkhole", prefix="20.64.0.0/10", hop="None"),)
                ),
                pools=NODES,
            ),
            "a route without next hop takes 20.64.0.0/10, in which the API server's address lies",
            "pass",
            "fail",
        ),
        Scenario(
            Cluster(
                name="aks-tenant-weu",
                subscription=WORKLOADS,
                network=byo("tenant-weu", 71, hub=HUB, routes=THROUGH_FIREWALL),
                pools=NODES,
                outbound="userDefinedRouting",
            ),
            "user-defined routing through the hub's firewall, whose rules are for another cluster's nodes",
            "pass",
            "fail",
        ),
        Scenario(
            Cluster(
                name="aks-exports-weu",
                subscription=PLATFORM,
                network=byo(
                    "exports-weu",
                    72,
                    rules=(
                        *WEB_RULES,
                        Rule(
                            name="allow-storage",
                            priority=300,
                            direction="Outbound",
                            destination="Storage.WestEurope",
                            ports="443",
                        ),
                        Rule(
                            name="deny-internet",
                            priority=4000,
                            access="Deny",
                            direction="Outbound",
                            protocol="*",
                            destination="Internet",
                        ),
                    ),
                ),
                pools=NODES,
            ),
            "outbound deny of Internet at 4000, below an allow of 443 to Storage.WestEurope alone",
            "pass",
            "fail",
        ),
        Scenario(
            Cluster(
                name="aks-legacy-weu",
                subscription=PLATFORM,
                network=byo("legacy-weu", 73, rules=(*WEB_RULES, *DENY_LEGACY)),
                pools=NODES,
                tags={"tunnelwatch:tunnel": "tunnel-front"},
            ),
            "a tag says that the tunnel is tunnel-front, and outbound 9000 is denied",
            "pass",
            "fail",
        ),
        Scenario(
            Cluster(
                name="aks-vault-neu",
                inside=(Inside(nodes=(0, 1, 2), content=inside.NO_OUTPUT),),
                subscription=WORKLOADS,
                location="northeurope",
                network=byo(
                    "vault-neu",
                    74,
                    rules=(
                        *WEB_RULES,
                        Rule(
                            name="allow-inside",
                            priority=100,
                            direction="Outbound",
                            protocol="*",
                            source="VirtualNetwork",
                            destination="VirtualNetwork",
                        ),
                        Rule(
                            name="deny-outbound",
                            priority=4000,
                            access="Deny",
                            direction="Outbound",
                            protocol="*",
                        ),
                    ),
                    further=(Subnet(name="endpoints", prefixes=("10.74.250.0/28",)),),
                ),
                pools=NODES,
                outbound="none",
                endpoint_subnet="endpoints",
            ),
            "network isolated on purpose: private, outbound type none, denied whatever leaves the network",
            "pass",
            "not_applicable",
            reach="unknown",
            ufw="unknown",
            iptables="unknown",
            snat="not_applicable",
            capacity="not_applicable",
        ),
        Scenario(
            Cluster(
                name="aks-branch-weu",
                subscription=WORKLOADS,
                network=byo(
                    "branch-weu",
                    75,
                    further=(Subnet(name="appliance", prefixes=("10.75.200.0/28",)),),
                    routes=(Route(name="default-to-appliance", prefix="0.0.0.0/0", address="10.75.200.4"),),
                ),
                pools=NODES,
                outbound="userDefinedRouting",
            ),
            "user-defined routing through an appliance at 10.75.200.4 that is no Azure Firewall",
            "pass",
            "unknown",
            snat="unknown",
            capacity="unknown",
        ),
        Scenario(
            Cluster(
                name=LOST,
                subscription=PLATFORM,
                network=byo("travel-weu", 76),
                pools=NODES,
            ),
            "the API server's name does not resolve",
            "pass",
            "unknown",
        ),
    ]


def _on_nodes() -> list[Scenario]:
    """What only the nodes can tell."""

    def cluster(
        name: str, second: int, *insides: Inside, owner: str = PLATFORM, pools: tuple[Pool, ...] = NODES
    ) -> Cluster:
        location = "northeurope" if name.endswith("neu") else "westeurope"
        network = byo(name, second) if pools == NODES else two_subnets(name, second)
        return Cluster(
            name=f"aks-{name}",
            subscription=owner,
            location=location,
            network=network,
            pools=pools,
            inside=insides,
        )

    return [
        Scenario(
            cluster("video-neu", 80, Inside(nodes=None, content=inside.ORDINARY_NODE), owner=WORKLOADS),
            "ordinary nodes: chains of the kubelet, of kube-proxy with 200 services, and Azure's own rules",
            "pass",
        ),
        Scenario(
            cluster(
                "billing-weu",
                81,
                Inside(
                    nodes=(0, 1),
                    content=inside.ufw("allow", 22),
                ),
            ),
            "UFW is on, on two of three nodes, and allows SSH alone",
            "pass",
            reach="fail",
            ufw="fail",
        ),
        Scenario(
            cluster(
                "catalog-neu",
                82,
                Inside(
                    pool="workers",
                    content=inside.ufw("limit", 10250),
                ),
                pools=SYSTEM_AND_WORKERS,
            ),
            "UFW is on, on a worker, and limits the rate of connections to 10250",
            "pass",
            ufw="fail",
        ),
        Scenario(
            cluster("gateway-weu", 83, Inside(content=inside.dropping("10.83.0.0/20"))),
            "iptables on a node drops 10250 from the nodes' subnet, in INPUT",
            "pass",
            reach="fail",
            iptables="fail",
        ),
        Scenario(
            cluster("identity-neu", 84, Inside(nodes=(1,), content=inside.REJECTING)),
            "iptables (legacy) on a node rejects 10248-10256, in a chain of somebody's own",
            "pass",
            reach="fail",
            iptables="fail",
        ),
        Scenario(
            cluster("registry-weu", 85, Inside(nodes=(2,), content=inside.NFTABLES)),
            "nftables on a node: a table of somebody's own drops a set of ports with 10250-10259 in it",
            "pass",
            reach="fail",
            iptables="fail",
        ),
        Scenario(
            cluster("docs-weu", 86, Inside(content=inside.DEAF)),
            "nobody listens on 10250 of a node, though all that can be read allows it",
            "pass",
            reach="fail",
        ),
        Scenario(
            cluster("fraud-weu", 87, Inside(content=inside.IPSET)),
            "iptables on a node drops whoever is in an ipset, whose members no rule shows",
            "pass",
            iptables="unknown",
        ),
        blind(
            Scenario(
                cluster("iot-neu", 88, Inside(content=inside.SILENT)),
                "the agent of a node never answers",
                "pass",
            )
        ),
        blind(
            Scenario(
                cluster("geo-weu", 89, Inside(nodes=(1,), content=inside.TRUNCATED)),
                "what a node prints arrives without its beginning",
                "pass",
            )
        ),
        blind(
            Scenario(
                cluster("staff-neu", 90, Inside(nodes=(2,), content=inside.BUSY)),
                "somebody else's run command keeps a node busy",
                "pass",
            )
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
                            name="allow-kubelet-from-partner",
                            priority=200,
                            source="AzureFluidRelay.NorthEurope",
                            ports="10250",
                        ),
                        Rule(name="deny-everything-else", priority=4000, access="Deny", protocol="*"),
                    ),
                ),
                pools=NODES,
            ),
            "10250 allowed from the tag AzureFluidRelay.NorthEurope, which no published list has, the "
            "rest denied",
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
            "unknown",
        ),
    ]


LOST = "aks-travel-weu"
"""The cluster whose name DNS does not know."""

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


DENY_LEGACY = (
    Rule(
        name="deny-tunnel-front",
        priority=200,
        access="Deny",
        direction="Outbound",
        ports="9000",
    ),
    Rule(
        name="deny-aks-link",
        priority=210,
        access="Deny",
        direction="Outbound",
        protocol="Udp",
        ports="1194",
    ),
)
"""What the tunnels before konnectivity used."""


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
