"""What Azure Monitor has of load balancers, NAT gateways and firewalls: the content of a `*.metrics.json`.

Names, units and dimensions are Azure's: https://learn.microsoft.com/azure/azure-monitor/reference/metrics-index
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from local.fleets.clusters import digits
from local.fleets.parts import Json
from local.fleets.use import GatewayUse, NodeUse, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What an outbound rule allots to nodes, and what they use of it."""

    frontends: Sequence[str]
    """Addresses, in the order in which they are used up."""
    each: int
    """Ports of a node on one of them, for each protocol."""
    nodes: Sequence[tuple[str, NodeUse]]
    """The nodes' addresses, of the same version of IP."""


def ordinary(node: str, ports: int) -> NodeUse:
    """What a node of that name uses where all is well: 8 to 20 % of its ports, more by day than by night."""
    share = 0.1 + int(digits(node)) % 60 / 1000
    return NodeUse(
        tcp=Shape(
            base=round(share * ports), daily=round(0.12 * share * ports), noise=round(0.05 * share * ports)
        )
    )


def balancer_metrics(rules: Sequence[Ports]) -> list[Json]:
    """The metrics of a load balancer by which nodes get out."""
    return [
        _metric("UsedSnatPorts", [series for rule in rules for series in _used(rule)]),
        _metric("AllocatedSnatPorts", [series for rule in rules for series in _allocated(rule)]),
        _metric("SnatConnectionCount", [series for rule in rules for series in _connections(rule)]),
    ]


def gateway_metrics(use: GatewayUse) -> list[Json]:
    """The metrics of a NAT gateway."""
    datagrams = Shape(base=90, daily=20, noise=15)
    counted = [
        _series(use.active.times(0.4), Protocol="6", ConnectionState="Attempted"),
        _series(datagrams, Protocol="17", ConnectionState="Attempted"),
    ]
    if use.failed:
        counted.append(_series(use.failed, Protocol="6", ConnectionState="Failed"))
    active = [_series(use.active, Protocol="6"), _series(datagrams, Protocol="17")]
    return [
        _metric("SNATConnectionCount", counted),
        _metric("TotalConnectionCount", active),
        _metric("PacketDropCount", [_series(Shape(base=0))]),
        _metric("DatapathAvailability", [_series(Shape(base=100))]),
    ]


def firewall_metrics() -> list[Json]:
    """The metrics of an Azure Firewall that has ports enough."""
    shapes = {"TCP": Shape(base=20, daily=4, noise=2), "UDP": Shape(base=3, daily=1, noise=1)}
    utilization = [_series(shape, Protocol=protocol) for protocol, shape in shapes.items()]
    return [_metric("SNATPortUtilization", utilization, unit="Percent")]


def written(metrics: dict[str, Json]) -> str:
    """A `*.metrics.json`, a time series a line."""
    resources = [
        f"{json.dumps(identifier)}: " + '{"value": [\n' + ",\n".join(map(_written, content["value"])) + "\n]}"
        for identifier, content in metrics.items()
    ]
    return "{\n" + ",\n".join(resources) + "\n}\n"


def _written(metric: Json) -> str:
    head = json.dumps({name: value for name, value in metric.items() if name != "timeseries"})
    series = ",\n".join(json.dumps(one, separators=(",", ":")) for one in metric["timeseries"])
    return f'{head[:-1]}, "timeseries": [\n{series}\n]}}'


def _used(rule: Ports) -> Iterator[Json]:
    """Used ports: the first frontend is used up before the next one is taken."""
    for address, use in rule.nodes:
        for protocol, shape in (("TCP", use.tcp), ("UDP", _datagrams(use))):
            for index, frontend in enumerate(rule.frontends):
                part = shape.between(index * rule.each, (index + 1) * rule.each)
                yield _series(part, **_port_dimensions(frontend, address, protocol))


def _allocated(rule: Ports) -> Iterator[Json]:
    for address, _ in rule.nodes:
        for protocol in ("TCP", "UDP"):
            for frontend in rule.frontends:
                yield _series(Shape(base=rule.each), **_port_dimensions(frontend, address, protocol))


def _connections(rule: Ports) -> Iterator[Json]:
    """New connections, by frontends that are in use; those that fail were tried with the last of them."""
    for address, use in rule.nodes:
        for index, frontend in enumerate(rule.frontends):
            part = use.tcp.between(index * rule.each, (index + 1) * rule.each)
            if part.most > 0:
                yield _series(part.times(0.6), **_connection_dimensions(frontend, address, "Successful"))
        if use.failed:
            yield _series(use.failed, **_connection_dimensions(rule.frontends[-1], address, "Failed"))


def _datagrams(use: NodeUse) -> Shape:
    """UDP is little beside TCP: names are asked of the cluster's own servers."""
    return Shape(base=4, noise=3, gaps=use.tcp.gaps)


def _port_dimensions(frontend: str, address: str, protocol: str) -> dict[str, str]:
    return {
        "FrontendIPAddress": frontend,
        "BackendIPAddress": address,
        "ProtocolType": protocol,
        "IsAwaitingRemoval": "false",
    }


def _connection_dimensions(frontend: str, address: str, state: str) -> dict[str, str]:
    return {"FrontendIPAddress": frontend, "BackendIPAddress": address, "ConnectionState": state}


def _metric(name: str, series: list[Json], *, unit: str = "Count") -> Json:
    return {"name": {"value": name}, "unit": unit, "timeseries": series}


def _series(shape: Shape, **dimensions: str) -> Json:
    """A time series; `dimensions` are all that its metric has."""
    metadata: list[dict[str, Any]] = [
        {"name": {"value": name}, "value": value} for name, value in dimensions.items()
    ]
    return {"metadatavalues": metadata, "shape": shape.json()}
