"""Print the manual of all checks, as `docs/checks.md` keeps it: `python -m checks > docs/checks.md`."""

import inspect
import sys

from checks import SECTIONS, Check, all_checks


def manual(checks: tuple[Check, ...]) -> str:
    """The checks' docstrings as one Markdown page."""
    lines = [
        "# Checks",
        "",
        "Generated from the checks' own docstrings by `python -m checks > docs/checks.md`.",
    ]
    for check in checks:
        title, _, body = inspect.cleandoc(check.manual).partition("\n")
        for section in SECTIONS:
            body = body.replace(f"\n{section}: ", f"\n**{section}:** ")
        lines += [
            "",
            f"## `{check.id}`",
            "",
            title,
            "",
            f"Cause {check.cause} of the runbook, {check.severity}. Affects {', '.join(check.affects)}.",
            body.rstrip(),
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(manual(all_checks()))
