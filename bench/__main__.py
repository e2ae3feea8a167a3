"""Measure everything and print it as a table: `python -m bench [--clusters N] [--quick]`.

The exit status says whether all budgets were kept. Absolute times are this machine's, on this day.
"""

import argparse
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from bench import fleet, forecast, iptables, start, storage, verdicts
from bench.measure import Figure


def measured(asked: argparse.Namespace) -> Iterator[Figure]:
    """All figures, the quick ones first."""
    yield from start.figures()
    yield from verdicts.figures()
    yield from iptables.figures()
    yield from forecast.figures(0 if asked.quick else 8)
    if not asked.quick:
        yield from storage.figures(5000, 50_000)
        yield from fleet.figures(asked.clusters)


def main() -> int:
    """Print the table as it grows."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure what Tunnelwatch costs.")
    parser.add_argument("--clusters", type=int, default=1000, help="size of the fleet (default: 1000)")
    parser.add_argument("--quick", action="store_true", help="only what takes seconds")
    asked = parser.parse_args()
    console = Console()
    table = Table("What", "Measured", "Budget", "")
    kept = True
    with console.status("Measuring …") as status:
        for figure in measured(asked):
            status.update(f"Measured {figure.what} …")
            kept = kept and figure.within
            budget = "" if figure.budget is None else f"≤ {figure.budget:g} {figure.unit}"
            colour = "green" if figure.within else "bold red"
            table.add_row(figure.what, f"[{colour}]{figure.value:.3g} {figure.unit}[/]", budget, figure.note)
    console.print(table)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
