"""`python -m local.fleets.build`: write the sample fleet, or one of any size.

A fleet of N clusters is healthy but for a given share, which gets one of the faults of the sample. The same
options always write the same files.
"""

import argparse
import json
import math
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from local.arguments import whole_number
from local.fleets import hub
from local.fleets.clusters import Balancer, Cluster, Pool, with_rules
from local.fleets.documents import documents
from local.fleets.metrics import written
from local.fleets.names import names
from local.fleets.outbound import PORTS_PER_ADDRESS
from local.fleets.parts import Json, guid, subscription
from local.fleets.scenario import (
    HUB,
    NODES,
    SUBSCRIPTIONS,
    SYSTEM_AND_WORKERS,
    WEB_RULES,
    Scenario,
    byo,
    two_subnets,
)
from local.fleets.scenarios import (
    DENY_KUBELET,
    DENY_OUTBOUND,
    DENY_VNET,
    LOST,
    access,
    deny_from,
    deny_range,
    sample,
)
from local.fleets.tags import service_tags

SAMPLE = Path(__file__).parent / "sample"

_LOCATIONS = (("westeurope", "weu"), ("northeurope", "neu"))
_MARKER = "subscriptions.json"


def main(arguments: list[str] | None = None) -> int:
    """Write a fleet; exit status 0, or 1 if the directory holds something else."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.clusters and options.out is None:
        parser.error("--clusters needs --out DIR")
    scenarios = sample() if options.sample else list(generate(options))
    out: Path = SAMPLE if options.sample and options.out is None else options.out
    if out.is_dir() and any(out.iterdir()) and not (out / _MARKER).is_file():
        print(f"local.fleets.build: {out} is not empty, and no fleet of ours", file=sys.stderr)
        return 1
    if options.sample:
        write(out, sample_files())
    else:
        owners = dict.fromkeys(item.cluster.subscription for item in scenarios)
        named = {owner: f"subscription {number}" for number, owner in enumerate(owners, start=1)}
        write(out, fleet_files(scenarios, named))
    if options.outcomes:
        _save(options.outcomes, outcomes(scenarios))
    print(f"{len(scenarios)} clusters in {out}")
    return 0


def sample_files() -> Iterator[tuple[str, Any]]:
    """The sample fleet: (path in the fleet, content)."""
    yield from fleet_files(sample(), SUBSCRIPTIONS, lost=frozenset({LOST}))
    yield "access.json", access()
    clusters = [item.cluster for item in sample()]
    spokes = [one for one in clusters if one.network and one.network.hub == HUB]
    for name, content in hub.documents(HUB, spokes).items():
        yield f"{HUB.name}/{name}", content


def fleet_files(
    scenarios: list[Scenario], owners: dict[str, str], *, lost: frozenset[str] = frozenset()
) -> Iterator[tuple[str, Any]]:
    """A fleet with one folder a cluster: (path in the fleet, content).

    Subscriptions have names; the API servers of the clusters that are `lost` have none that resolves.
    """
    subscriptions: list[Json] = [subscription(identifier, name) for identifier, name in owners.items()]
    yield _MARKER, {"value": subscriptions, "count": {"type": "Total", "value": len(subscriptions)}}
    yield (
        "names.json",
        {
            name: [] if scenario.cluster.name in lost else addresses
            for scenario in scenarios
            for name, addresses in names(scenario.cluster).items()
        },
    )
    yield "service-tags.json", service_tags(next(iter(owners)))
    for scenario in scenarios:
        for name, content in documents(scenario.cluster).items():
            yield f"{scenario.cluster.name}/{name}", content


def write(directory: Path, files: Iterator[tuple[str, Any]]) -> None:
    """Write the files, in place of the fleet that was there."""
    if directory.is_dir():
        shutil.rmtree(directory)
    for name, content in files:
        _save(directory / name, content)


def outcomes(scenarios: list[Scenario]) -> dict[str, dict[str, str]]:
    """What each check should say of each cluster, by name."""
    return {item.cluster.name: item.outcomes for item in scenarios}


def generate(options: argparse.Namespace) -> Iterator[Scenario]:
    """Clusters of every shape that is not special, some of them with a fault."""
    chance = random.Random(options.seed)  # noqa: S311 - the same seed must give the same fleet
    bad = set(chance.sample(range(options.clusters), round(options.clusters * options.faulty)))
    for index in range(options.clusters):
        location, short = _LOCATIONS[index % 2]
        scenario = chance.choice(_SHAPES)(f"c{index:05d}-{short}", index % 250 + 1)
        if index in bad:
            scenario = chance.choice(_FAULTS)(f"c{index:05d}-{short}", index % 250 + 1)
        pools = tuple(replace(pool, count=options.nodes) for pool in scenario.cluster.pools)
        balancer = _balancer(sum(_most(pool) for pool in pools))
        owner = guid(f"subscription {options.seed} {index % options.subscriptions}")
        cluster = replace(
            scenario.cluster, subscription=owner, location=location, pools=pools, balancer=balancer
        )
        yield replace(scenario, cluster=cluster)


def _most(pool: Pool) -> int:
    """Nodes of a pool at the very most: grown as far as it may, and being upgraded."""
    return math.ceil(1.1 * (pool.count + 7)) + 1


def _balancer(most: int) -> Balancer:
    """What leaves nodes as many ports when there are more of them: Azure's default does up to 50."""
    if most <= 50:
        return Balancer()
    return Balancer(ports=PORTS_PER_ADDRESS // most // 8 * 8)


def _cluster(name: str, **more: Any) -> Cluster:
    return Cluster(name=f"aks-{name}", subscription="", **more)


_SHAPES: tuple[Callable[[str, int], Scenario], ...] = (
    lambda name, _: Scenario(_cluster(name), "overlay, managed VNet", "pass"),
    lambda name, _: Scenario(_cluster(name, plugin="kubenet"), "kubenet, managed VNet", "pass"),
    lambda name, second: Scenario(
        _cluster(name, network=byo(name, second), pools=NODES), "overlay, BYO VNet", "pass"
    ),
    lambda name, second: Scenario(
        _cluster(name, plugin="azure", network=byo(name, second), pools=NODES), "Azure CNI, BYO VNet", "pass"
    ),
    lambda name, second: Scenario(
        _cluster(name, network=two_subnets(name, second), pools=SYSTEM_AND_WORKERS), "two subnets", "pass"
    ),
    lambda name, _: Scenario(
        _cluster(name, pools=(Pool(), Pool(name="user1", mode="User"))), "two pools, managed VNet", "pass"
    ),
)

_FAULTS: tuple[Callable[[str, int], Scenario], ...] = (
    lambda name, second: Scenario(
        _cluster(name, network=byo(name, second, rules=(*WEB_RULES, DENY_KUBELET)), pools=NODES),
        "deny at 200",
        "fail",
    ),
    lambda name, second: Scenario(
        _cluster(name, network=byo(name, second, rules=deny_range(f"10.{second}.0.0/16")), pools=NODES),
        "deny of a port range",
        "fail",
    ),
    lambda name, second: Scenario(
        _cluster(name, network=byo(name, second, rules=(*WEB_RULES, DENY_VNET)), pools=NODES),
        "deny from VirtualNetwork",
        "fail",
    ),
    lambda name, second: Scenario(
        _cluster(
            name,
            network=with_rules(two_subnets(name, second), "workers", deny_from(f"10.{second}.1.0/24")),
            pools=SYSTEM_AND_WORKERS,
        ),
        "deny between pools",
        "fail",
    ),
    lambda name, second: Scenario(
        _cluster(name, network=byo(name, second, rules=(*WEB_RULES, DENY_OUTBOUND)), pools=NODES),
        "outbound deny",
        "fail",
    ),
    lambda name, second: Scenario(
        _cluster(name, network=byo(name, second), pools=NODES, node_rules=(DENY_KUBELET,)),
        "deny on the network interfaces",
        "fail",
    ),
)


def _save(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    metrics = file.name.endswith(".metrics.json")
    text = written(content) if metrics else json.dumps(content, indent=2) + "\n"
    file.write_text(text, encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local.fleets.build",
        description="Write a fleet of raw ARM JSON: the sample, or one of any size.",
    )
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--sample", action="store_true", help="write the sample fleet, to local/fleets/sample")
    what.add_argument(
        "--clusters", type=whole_number(1, 100_000), metavar="N", help="write a fleet of N clusters"
    )
    add("--out", type=Path, metavar="DIR", help="where to; a fleet that is there is replaced")
    add(
        "--subscriptions",
        type=whole_number(1, 100_000),
        default=1,
        metavar="N",
        help="spread over N (default: 1)",
    )
    room = 200  # in the smallest subnet
    add("--nodes", type=whole_number(1, room), default=3, metavar="N", help="nodes in each pool (default: 3)")
    add("--faulty", type=_share, default=0.0, metavar="SHARE", help="share with a fault, 0 to 1 (default: 0)")
    add("--seed", type=int, default=1, help="another seed, another fleet (default: 1)")
    add("--outcomes", type=Path, metavar="FILE", help="write what each check should say of each cluster")
    return parser


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return share


if __name__ == "__main__":
    sys.exit(main())
