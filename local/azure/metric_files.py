"""Metrics as Azure Monitor defines them, and time series of them as fleets write them down.

A `*.metrics.json` holds Azure Monitor's answers by resource id:
`{"…/loadBalancers/kubernetes": {"value": [{"name": {"value": "UsedSnatPorts"}, "timeseries": […]}]}}`.
Every time series has a value for each dimension of its metric, and either recorded `data`, whose times may be
relative (`-PT5M`), or a `shape` (see `samples`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from local.azure.arm import ArmPath, MalformedError, key
from local.azure.samples import Recorded, Shape


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's definition."""

    unit: str
    dimensions: tuple[str, ...] = ()


_PORTS = ("FrontendIPAddress", "BackendIPAddress", "ProtocolType", "IsAwaitingRemoval")
_FLOWS = ("FrontendIPAddress", "FrontendPort", "Direction", "Protocol")

# https://learn.microsoft.com/azure/azure-monitor/reference/metrics-index
METRICS: Mapping[str, Mapping[str, Metric]] = {
    "microsoft.network/loadbalancers": {
        "AllocatedSnatPorts": Metric("Count", _PORTS),
        "ByteCount": Metric("Bytes", _FLOWS),
        "DipAvailability": Metric(
            "Count", ("ProtocolType", "BackendPort", "FrontendIPAddress", "FrontendPort", "BackendIPAddress")
        ),
        "PacketCount": Metric("Count", _FLOWS),
        "SYNCount": Metric("Count", _FLOWS),
        "SnatConnectionCount": Metric("Count", ("FrontendIPAddress", "BackendIPAddress", "ConnectionState")),
        "UsedSnatPorts": Metric("Count", _PORTS),
        "VipAvailability": Metric("Count", ("FrontendIPAddress", "FrontendPort")),
    },
    "microsoft.network/natgateways": {
        "ByteCount": Metric("Bytes", ("Protocol", "Direction")),
        "DatapathAvailability": Metric("Count"),
        "PacketCount": Metric("Count", ("Protocol", "Direction")),
        "PacketDropCount": Metric("Count"),
        "SNATConnectionCount": Metric("Count", ("Protocol", "ConnectionState")),
        "TotalConnectionCount": Metric("Count", ("Protocol",)),
    },
    "microsoft.network/azurefirewalls": {
        "FirewallHealth": Metric("Percent", ("Status", "Reason")),
        "SNATPortUtilization": Metric("Percent", ("Protocol",)),
        "Throughput": Metric("BitsPerSecond"),
    },
}


@dataclass(frozen=True, slots=True)
class Series:
    """One time series as it is stored: with every dimension of its metric."""

    metric: str
    dimensions: Mapping[str, str]
    """By name as the definition writes it."""
    source: Recorded | Shape


def check(content: Any) -> dict[str, tuple[str, tuple[Series, ...]]]:
    """Read a `*.metrics.json`: by the key of each resource's id, the id as written and its time series.

    MalformedError says where it is wrong.
    """
    if not isinstance(content, dict):
        raise MalformedError("not a JSON object")
    found: dict[str, tuple[str, tuple[Series, ...]]] = {}
    for identifier, answer in content.items():
        try:
            series = tuple(_of_resource(identifier, answer))
        except MalformedError as error:
            raise MalformedError(f'"{identifier}": {error}') from None
        if key(identifier) in found:
            raise MalformedError(f'"{identifier}": it is there twice')
        found[key(identifier)] = (identifier, series)
    return found


def _of_resource(identifier: str, answer: Any) -> Iterator[Series]:
    path = ArmPath.parse(identifier)
    known = METRICS.get(path.type.lower())
    if known is None or path.is_collection:
        raise MalformedError("no resource whose metrics are served")
    if not isinstance(answer, dict) or not isinstance(answer.get("value"), list):
        raise MalformedError('no list "value"')
    owner = key(identifier)
    for value in answer["value"]:
        name = str(((value.get("name") or {}) if isinstance(value, dict) else {}).get("value"))
        if name not in known:
            raise MalformedError(f"{name!r} is no metric of it: there are {', '.join(known)}")
        rows = value.get("timeseries")
        if not isinstance(rows, list):
            raise MalformedError(f'{name}: no list "timeseries"')
        for place, row in enumerate(rows):
            try:
                yield _one(name, known[name], row, owner)
            except MalformedError as error:
                raise MalformedError(f"{name}: timeseries[{place}]: {error}") from None


def _one(name: str, metric: Metric, row: Any, owner: str) -> Series:
    if not isinstance(row, dict):
        raise MalformedError("no object")
    given = {
        str((item.get("name") or {}).get("value")).lower(): str(item.get("value"))
        for item in row.get("metadatavalues") or ()
        if isinstance(item, dict)
    }
    if given.keys() != {dimension.lower() for dimension in metric.dimensions}:
        raise MalformedError(f"its dimensions are to be {', '.join(metric.dimensions) or 'none'}")
    dimensions = {dimension: given[dimension.lower()] for dimension in metric.dimensions}
    source: Recorded | Shape
    if "shape" in row:
        label = f"{owner} {name} {sorted(dimensions.items())}"
        source = Shape.parse(row["shape"], whole=metric.unit == "Count", name=label)
    else:
        source = Recorded.parse(row.get("data"))
    return Series(name, dimensions, source)
