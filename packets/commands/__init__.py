"""The engines' command lines, a module each, and what they have in common."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

from packets.addresses import IntervalSet, parse_prefixes

UNUSABLE = 64
"""EX_USAGE of sysexits.h."""


class Said(Protocol):
    """What every engine's answer says."""

    outcome: str
    blocked: tuple[str, ...]


class Parser(argparse.ArgumentParser):
    """Ends with one line and the status for unusable input."""

    def error(self, message: str) -> NoReturn:
        """Print the line; no usage around it."""
        sys.stderr.write(f"{self.prog}: {message}\n")
        sys.exit(UNUSABLE)


def parsed(text: str) -> Any:
    """The JSON that was pasted; raises `ValueError` saying where it is none."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"standard input is no JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("standard input is nested too deeply") from error


def document(text: str, field: str) -> Mapping[str, Any]:
    """The one resource that was pasted: an object, or a list with a single one."""
    found = parsed(text)
    if isinstance(found, dict) and isinstance(found.get("value"), list):
        found = found["value"]
    if isinstance(found, list):
        if len(found) != 1:
            raise ValueError(f"standard input holds {len(found)} resources; one is judged at a time")
        found = found[0]
    if not isinstance(found, dict):
        raise ValueError(f"standard input is no JSON object with {field}")
    return found


def typed[T](parse: Callable[[str], T]) -> Callable[[str], T]:
    """A parser for argparse, whose own message for a ValueError would hide ours."""

    def checked(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return checked


def prefixes(text: str) -> IntervalSet:
    """`CIDR[,CIDR]`."""
    return parse_prefixes(part for part in text.split(","))


def named(text: str) -> tuple[str, IntervalSet]:
    """`NAME=CIDR[,CIDR]`."""
    name, equals, listed = text.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"not of the form NAME=CIDR[,CIDR]: {text!r}")
    return name.strip(), prefixes(listed)
