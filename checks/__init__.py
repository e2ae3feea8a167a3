"""One file per check, found by being here.

A check is a module of this package with a docstring that is its manual, the
constants `ID`, `CAUSE`, `SEVERITY` and `AFFECTS`, and a pure function
`check(snapshot)` that yields `Fault`, `Unknown` and `NotApplicable`. A check that
yields nothing has looked at everything and found all well.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache

from msgspec import Struct

from facts.finding import Severity, Statement
from facts.snapshot import Snapshot

SECTIONS = ("Reads", "Why", "Fails when", "Unknown when", "Not applicable when", "Fix", "Documentation")
"""What each docstring says, in this order: paragraphs that open with the name and a colon."""


class Check(Struct, frozen=True, kw_only=True):
    """One check, as its module describes it."""

    id: str
    cause: int
    """The number of the cause in the tunnel runbook."""
    severity: Severity
    """Of its findings, unless one says otherwise."""
    affects: tuple[str, ...]
    """What breaks in the cluster: `logs`, `exec`, `port-forward`, `webhooks`."""
    manual: str
    run: Callable[[Snapshot], Iterator[Statement]]


@cache
def all_checks() -> tuple[Check, ...]:
    """Every check of this package, in order of cause and then id."""
    checks = []
    for found in pkgutil.iter_modules(__path__):
        if found.name.startswith("_"):
            continue
        module = importlib.import_module(f"{__name__}.{found.name}")
        checks.append(
            Check(
                id=module.ID,
                cause=module.CAUSE,
                severity=module.SEVERITY,
                affects=module.AFFECTS,
                manual=module.__doc__ or "",
                run=module.check,
            )
        )
    return tuple(sorted(checks, key=lambda check: (check.cause, check.id)))
