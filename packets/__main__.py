"""The engines on the command line: `python -m packets nsg … < nsg.json`.

JSON on standard output. Exit status: 0 all allowed, 1 some source blocked, 2 none blocked
but some unknown, 64 unusable input, with one line on standard error that names what is wrong.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TextIO

import msgspec

from facts.resource_id import key
from facts.snapshot import Direction
from packets.addresses import IntervalSet, parse_port_range, parse_prefixes
from packets.answers import Answer
from packets.documents import faults, read_nsg
from packets.nsg import PROTOCOLS, Tags, answer

UNUSABLE = 64
"""EX_USAGE of sysexits.h."""
_STATUS = {"allowed": 0, "unknown": 2}


class _Parser(argparse.ArgumentParser):
    """Ends with one line and the status for unusable input."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {message}\n")
        sys.exit(UNUSABLE)


def main(arguments: Sequence[str] | None = None, given: TextIO | None = None) -> int:
    """Answer one question; returns the exit status."""
    parser = _Parser(
        prog="python -m packets",
        description="Say what a packet filter does to packets, from a document on standard input.",
    )
    engines = parser.add_subparsers(dest="engine", required=True, metavar="ENGINE")
    _add_nsg(engines.add_parser("nsg", help="a network security group, as ARM returns it or az prints it"))
    asked = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace, str], Answer] = asked.run
    try:
        text = (given or sys.stdin).read()
        said = run(asked, text)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{parser.prog} {asked.engine}: {error}\n")
        return UNUSABLE
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(said), indent=2).decode() + "\n")
    return 1 if said.blocked else _STATUS.get(said.outcome, 2)


def _add_nsg(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--direction", required=True, choices=("inbound", "outbound"))
    add("--protocol", default="tcp", type=str.lower, choices=sorted(PROTOCOLS))
    add("--port", required=True, type=_typed(parse_port_range), help="destination port, or a range 1-1024")
    addresses = _typed(_prefixes)
    add("--source", required=True, type=addresses, metavar="CIDR[,CIDR]")
    add("--destination", required=True, type=addresses, metavar="CIDR[,CIDR]")
    add(
        "--vnet",
        type=addresses,
        metavar="CIDR[,CIDR]",
        help="address space of the virtual network and its peers; without it what hangs on the tags "
        "VirtualNetwork and Internet is unknown",
    )
    add("--tag", action="append", default=[], type=_typed(_named), metavar="NAME=CIDR[,CIDR]")
    add("--asg", action="append", default=[], type=_typed(_named), metavar="ID=CIDR[,CIDR]")
    parser.set_defaults(run=_nsg)


def _nsg(asked: argparse.Namespace, text: str) -> Answer:
    group = read_nsg(_document(text, "securityRules"))
    for fault in faults(group):
        raise ValueError(fault)
    groups = {key(name): addresses for name, addresses in asked.asg}
    tags = Tags.of_network(asked.vnet, dict(asked.tag), groups)
    return answer(
        group,
        Direction.INBOUND if asked.direction == "inbound" else Direction.OUTBOUND,
        asked.protocol,
        tags,
        sources=asked.source,
        destinations=asked.destination,
        ports=asked.port,
    )


def _document(text: str, field: str) -> Mapping[str, Any]:
    """The one resource of a document: an object, or a list with a single one."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ValueError(f"standard input is no JSON: {error}") from error
    if isinstance(document, dict) and isinstance(document.get("value"), list):
        document = document["value"]
    if isinstance(document, list):
        if len(document) != 1:
            raise ValueError(f"standard input holds {len(document)} resources; one is judged at a time")
        document = document[0]
    if not isinstance(document, dict):
        raise ValueError(f"standard input is no JSON object with {field}")
    return document


def _typed[T](parse: Callable[[str], T]) -> Callable[[str], T]:
    """A parser for argparse, whose own message for a ValueError would hide ours."""

    def parsed(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parsed


def _prefixes(text: str) -> IntervalSet:
    return parse_prefixes(part for part in text.split(","))


def _named(text: str) -> tuple[str, IntervalSet]:
    name, equals, prefixes = text.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"not of the form NAME=CIDR[,CIDR]: {text!r}")
    return name.strip(), _prefixes(prefixes)


if __name__ == "__main__":
    sys.exit(main())
