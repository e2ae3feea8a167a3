"""A scan of a large fleet: one host process, Azure slow and throttling."""

import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Figure, peak_mb
from tests.end_to_end.monitor import Monitor

LATENCY_MS = 50


def figures(clusters: int) -> Iterator[Figure]:
    """One full scan of a fleet in one subscription."""
    with tempfile.TemporaryDirectory() as directory:
        fleet = Path(directory) / "fleet"
        build = [sys.executable, "-m", "local.fleets.build", "--clusters", str(clusters), "--out", str(fleet)]
        subprocess.run(build, check=True, capture_output=True)
        options = ("--latency-ms", str(LATENCY_MS))
        with Monitor(Path(directory), fleet, options=options, visibilityTimeout="00:00:30") as monitor:
            start = time.monotonic()
            state = monitor.wait_for(monitor.start_scan(), 600)
            seconds = time.monotonic() - start
            requests = monitor.azure.requests()
            statuses = Counter(request["status"] for request in requests)
            memory = peak_mb(monitor.host.pid) + sum(peak_mb(pid) for pid in monitor.worker_pids())
        what = f"{clusters:,} clusters, {LATENCY_MS} ms"
        note = f"{state['done']} done, {state['failed']} failed, {state['unknown']} unknown"
        yield Figure(f"{what}: one scan", seconds, "s", 120, note)
        yield Figure(f"{what}: Azure reads a cluster", len(requests) / clusters, "", 3)
        yield Figure(f"{what}: answers 429", 100 * statuses[429] / len(requests), "%", 1)
        yield Figure(f"{what}: peak memory of host and worker", memory, "MB", 512)
