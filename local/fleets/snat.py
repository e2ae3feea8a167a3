"""Clusters of the sample whose nodes run out of SNAT ports, will do so, or only look as if they might.

Nothing here hangs on the hour: what is near a threshold has no rhythm, and noise that does not carry it over.
"""

from local.fleets.clusters import Balancer, Cluster, Gateway, Pool, Subnet
from local.fleets.scenario import (
    NODES,
    PLATFORM,
    SYSTEM_AND_WORKERS,
    WORKLOADS,
    Scenario,
    byo,
    two_subnets,
)
from local.fleets.use import GatewayUse, NodeUse, Shape, Use


def scenarios() -> list[Scenario]:
    """All of them."""
    return [*_used_up(), *_near(), *_explained()]


def _used_up() -> list[Scenario]:
    """Connections that fail."""
    return [
        Scenario(
            Cluster(name="aks-crawler-weu", subscription=PLATFORM, use=Use(nodes=_CRAWLERS)),
            "each node has used all its 1,024 TCP ports for 40 minutes, after a day's rise; connections fail",
            "pass",
            snat="fail",
            capacity="fail",
        ),
        Scenario(
            Cluster(
                name="aks-notify-neu",
                subscription=WORKLOADS,
                location="northeurope",
                outbound="managedNATGateway",
                gateway=Gateway(
                    use=GatewayUse(
                        active=Shape(base=9000, daily=900, noise=400),
                        failed=Shape(base=35, noise=15, since="-PT20M"),
                    )
                ),
            ),
            "managed NAT gateway with connections that fail, though its data path is available",
            "pass",
            snat="fail",
        ),
        Scenario(
            Cluster(
                name="aks-clinic-weu",
                subscription=PLATFORM,
                network=byo(
                    "clinic-weu", 92, further=(Subnet(name="endpoints", prefixes=("10.92.250.0/28",)),)
                ),
                pools=NODES,
                endpoint_subnet="endpoints",
                use=Use(
                    nodes={
                        ("system", 0): NodeUse(
                            tcp=Shape(base=973, noise=5), failed=Shape(base=12, noise=8, since="-PT3H")
                        )
                    }
                ),
            ),
            "private cluster whose applications use 95 % of a node's ports, and fail now and then",
            "pass",
            snat="not_applicable",
            capacity="not_applicable",
        ),
    ]


def _near() -> list[Scenario]:
    """Ports that are nearly used up, or will be."""
    return [
        Scenario(
            Cluster(
                name="aks-sync-neu",
                subscription=WORKLOADS,
                location="northeurope",
                use=Use(
                    nodes={
                        ("system", 0): NodeUse(tcp=Shape(base=952, noise=5)),
                        ("system", 1): NodeUse(tcp=Shape(base=799, noise=6)),
                    }
                ),
            ),
            "one node at 93 % of its TCP ports and another at 78 %, for weeks; nothing fails",
            "pass",
            snat="fail",
        ),
        Scenario(
            Cluster(
                name="aks-feeds-weu",
                subscription=WORKLOADS,
                use=Use(
                    nodes={("system", 0): NodeUse(tcp=Shape(base=666, per_day=614, noise=8, floor=60))},
                    others=NodeUse(tcp=Shape(base=68, daily=6, noise=8)),
                ),
            ),
            "a node has kept ports since yesterday: 65 % now, and all 1,024 in about 14 hours",
            "pass",
            capacity="fail",
        ),
        Scenario(
            Cluster(
                name="aks-pricing-weu",
                subscription=PLATFORM,
                pools=(Pool(count=51, most=120),),
                use=Use(nodes={("system", 7): NodeUse(tcp=Shape(base=410, noise=5))}),
            ),
            "51 nodes with 512 ports each by default may become 120 with 256 each; one uses 80 % of its own",
            "pass",
            snat="fail",
            capacity="fail",
        ),
        Scenario(
            Cluster(
                name="aks-delivery-weu",
                subscription=PLATFORM,
                network=two_subnets("delivery-weu", 93, second_gateway=Gateway(name="ng-delivery-weu")),
                pools=SYSTEM_AND_WORKERS,
                use=Use(nodes={("system", 1): NodeUse(tcp=Shape(base=993, noise=4))}),
            ),
            "two ways out: workers by a NAT gateway on their subnet, the system pool by the load balancer, "
            "where a node is at 97 %",
            "pass",
            snat="fail",
        ),
        Scenario(
            Cluster(
                name="aks-quotes-weu",
                subscription=WORKLOADS,
                pools=(Pool(most=12),),
                balancer=Balancer(ports=8000),
            ),
            "8,000 ports for each node from one address: enough for eight, of which there may be twelve",
            "pass",
            capacity="fail",
        ),
    ]


def _explained() -> list[Scenario]:
    """What looks unusual and is all right, or cannot be told."""
    return [
        Scenario(
            Cluster(
                name="aks-loyalty-weu",
                subscription=WORKLOADS,
                network=byo("loyalty-weu", 91, gateway=Gateway(name="ng-loyalty-weu", addresses=2)),
                pools=NODES,
            ),
            "outbound type loadBalancer, but the owner's NAT gateway hangs on the nodes' subnet",
            "pass",
        ),
        Scenario(
            Cluster(
                name="aks-claims-neu",
                subscription=PLATFORM,
                location="northeurope",
                balancer=Balancer(addresses=2, source="owned", ports=4000),
            ),
            "4,000 ports for each node from two addresses of the owner's, in another resource group",
            "pass",
        ),
        Scenario(
            Cluster(
                name="aks-scoring-weu",
                subscription=PLATFORM,
                balancer=Balancer(addresses=4, source="prefix"),
                use=Use(nodes={("system", 0): NodeUse(tcp=Shape(base=2300, daily=90, noise=30))}),
            ),
            "a public prefix of four addresses: a node has used up two of them, and has 1,800 ports left",
            "pass",
        ),
        Scenario(
            Cluster(
                name="aks-demo-neu",
                subscription=WORKLOADS,
                location="northeurope",
                use=Use(others=NodeUse(tcp=Shape(base=4, noise=4, gaps=0.9))),
            ),
            "hardly any traffic: a point now and then, and single digits of ports",
            "pass",
        ),
        Scenario(
            Cluster(
                name="aks-signals-neu",
                subscription=PLATFORM,
                location="northeurope",
                use=Use(silent=True),
            ),
            "Azure Monitor has no data of the load balancer",
            "pass",
            snat="unknown",
            capacity="unknown",
        ),
    ]


_CRAWLERS = {
    # where growth has taken each 40 minutes beyond its 1,024 ports, of which it can have no more
    ("system", index): NodeUse(
        tcp=Shape(base=1024 + per_day / 36, per_day=per_day, floor=140),
        failed=Shape(base=320, noise=140, since="-PT40M") if index < 2 else None,
    )
    for index, per_day in enumerate((900, 936, 864))
}
