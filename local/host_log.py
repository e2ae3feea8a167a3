"""What the Functions host writes to its terminal: one readable line for each event, with time and function.

::

    [2026-11-23T01:38:02.114Z] collect: Executing 'Functions.collect' (Reason='New queue message …', Id=…)
    [2026-11-23T01:38:02.120Z] collect: 3 node pools
    [2026-11-23T01:38:02.310Z] collect: warn: throttled, waiting 2 s

What is shown is decided by ``logging.logLevel`` of ``host.json``, by the longest category that matches, as in
Azure: ``Function.collect.User`` is what a function logs, ``Function.collect`` what the host says of it,
``Host`` the rest.
"""

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

HOST = "Host"
"""The category of what concerns no single function."""

LEVELS = {
    "trace": 5,
    "debug": logging.DEBUG,
    "information": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "none": logging.CRITICAL + 10,
}
"""The level names of ``host.json``, in the numbers of :mod:`logging`."""

_COLOURS = {"warn: ": "\033[33m", "fail: ": "\033[31m"}


class HostLog:
    """The host's log, on a terminal or in a file."""

    def __init__(self, file: Path | None = None) -> None:
        self._levels: list[tuple[str, int]] = []
        self._default = logging.INFO
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        self._stream: TextIO = sys.stdout if file is None else file.open("a", encoding="utf-8")
        self._coloured = self._stream.isatty()

    def set_levels(self, levels: Mapping[str, str]) -> None:
        """Take over ``logging.logLevel``; names that are no level are left out."""
        known = {
            category: LEVELS[name.lower()] for category, name in levels.items() if name.lower() in LEVELS
        }
        self._default = next(
            (level for category, level in known.items() if category.lower() == "default"), logging.INFO
        )
        self._levels = sorted(known.items(), key=lambda item: -len(item[0]))

    def _threshold(self, category: str) -> int:
        for prefix, level in self._levels:
            if category == prefix or category.startswith(prefix + "."):
                return level
        return self._default

    def write(self, level: int, message: str, *, function: str | None = None, user: bool = False) -> None:
        """Write one event, unless its level is below what is asked for."""
        category = HOST if function is None else f"Function.{function}" + (".User" if user else "")
        if level < self._threshold(category):
            return
        mark = "fail: " if level >= logging.ERROR else "warn: " if level >= logging.WARNING else ""
        time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        name = f"{function}: " if function else ""
        line = f"[{time}Z] {name}{mark}{message.rstrip()}"
        if self._coloured and mark:
            line = f"{_COLOURS[mark]}{line}\033[0m"
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except BrokenPipeError:  # whoever read the terminal has gone; the functions go on
            return

    def info(self, message: str, *, function: str | None = None) -> None:
        """Write something ordinary."""
        self.write(logging.INFO, message, function=function)

    def warning(self, message: str, *, function: str | None = None) -> None:
        """Write something to look at."""
        self.write(logging.WARNING, message, function=function)

    def error(self, message: str, *, function: str | None = None) -> None:
        """Write something that failed."""
        self.write(logging.ERROR, message, function=function)
