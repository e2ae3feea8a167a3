"""What a measurement says, and how a process is watched from outside."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct


class Figure(Struct, frozen=True):
    """One measured number beside its budget."""

    what: str
    value: float
    unit: str
    budget: float | None = None
    note: str = ""

    @property
    def within(self) -> bool:
        """Whether the budget is kept."""
        return self.budget is None or self.value <= self.budget


def median_ms(work: Callable[[], object], runs: int) -> float:
    """The median time of a piece of work, in milliseconds, after one run that does not count."""
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def peak_mb(pid: int) -> float:
    """The most memory that a process has had, in MB, as the kernel counts it."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0
