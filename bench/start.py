"""What a cold start pays: importing the function app, in a process of its own each time."""

import statistics
import subprocess
import sys
from collections.abc import Iterator

from bench.measure import Figure

_RUNS = 7
_CODE = """
import sys, time
start = time.perf_counter()
import {module}
print(time.perf_counter() - start)
print(sum(name.startswith("azure.mgmt") for name in sys.modules))
"""


def figures() -> Iterator[Figure]:
    """Import time of the app, and what a query over HTTP imports."""
    for module, what, budget in (
        ("function_app", "importing function_app", 0.5),
        ("pipeline.report", "importing what a query needs", None),
    ):
        printed = [
            subprocess.run(
                [sys.executable, "-c", _CODE.format(module=module)],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()
            for _ in range(_RUNS)
        ]
        yield Figure(what, statistics.median(float(line[0]) for line in printed), "s", budget)
        yield Figure(f"{what}: modules of azure.mgmt", max(int(line[1]) for line in printed), "", 0)
