"""What was asked of the simulator: every ARM request, and how often each Azure action."""

import json
from collections import Counter, deque
from datetime import datetime
from pathlib import Path
from typing import TextIO

from local.azure.arm import Json

KEPT = 100_000
"""Requests that are remembered; older ones are forgotten. Actions are counted for ever."""


class Journal:
    """The requests since the start or the last clearing; as JSON lines in a file too, if one is given."""

    def __init__(self, file: Path | None = None) -> None:
        self._file: TextIO | None = file.open("a", encoding="utf-8", buffering=1) if file else None
        self._entries: deque[Json] = deque(maxlen=KEPT)
        self._actions: Counter[str] = Counter()
        self._last = 0

    def record(self, entry: Json) -> None:
        """Note a request; it gets a number, `seq`."""
        self._last += 1
        numbered = {"seq": self._last} | entry
        self._entries.append(numbered)
        if entry["action"]:
            self._actions[str(entry["action"])] += 1
        if self._file:
            self._file.write(json.dumps(numbered) + "\n")

    def entries(self, since: str | None) -> list[Json]:
        """The requests after a number (`seq`) or from a time (ISO 8601) on; ValueError if it is neither."""
        if since is None:
            return list(self._entries)
        if since.isdigit():
            return [entry for entry in self._entries if entry["seq"] > int(since)]
        moment = datetime.fromisoformat(since)
        return [entry for entry in self._entries if datetime.fromisoformat(entry["time"]) >= moment]

    def actions(self) -> dict[str, int]:
        """How often each Azure action was asked for, in alphabetical order."""
        return dict(sorted(self._actions.items()))

    def clear(self) -> None:
        """Forget all; numbers go on."""
        self._entries.clear()
        self._actions.clear()

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()
