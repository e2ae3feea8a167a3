"""`python -m packets ufw`: who may open connections to a node, by what `ufw status` prints there."""

import argparse
import json

from packets.addresses import parse_port_range
from packets.answers import Answer
from packets.commands import prefixes, typed
from packets.dumps.ufw import read_ufw_status
from packets.ufw import answer


def add(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked."""
    add = parser.add_argument
    add("--protocol", default="tcp", type=str.lower, choices=("tcp", "udp"))
    add("--port", required=True, type=typed(parse_port_range), help="destination port, or a range 1-1024")
    addresses = typed(prefixes)
    add("--source", required=True, type=addresses, metavar="CIDR[,CIDR]")
    add(
        "--destination",
        type=addresses,
        metavar="CIDR[,CIDR]",
        help="addresses of the node; without them what hangs on rules about some of them is unknown",
    )
    add("--interface", default="eth0", metavar="NAME", help="where the packets come in (default: eth0)")
    parser.set_defaults(run=run)


def run(asked: argparse.Namespace, text: str) -> Answer:
    """Answer; raises `ValueError` naming what in the text cannot be used."""
    return answer(
        read_ufw_status(_messages(text)),
        asked.protocol,
        sources=asked.source,
        ports=asked.port,
        destinations=asked.destination,
        interface=asked.interface,
    )


def _messages(text: str) -> str:
    """What a command printed on a node: the text itself, or what `az vmss run-command invoke` made of it."""
    if not text.lstrip("\ufeff \t\r\n").startswith("{"):
        return text
    try:
        return "\n".join(str(value["message"]) for value in json.loads(text.lstrip("\ufeff"))["value"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(
            "standard input is JSON, and not what `az vmss run-command invoke` prints (value[].message)"
        ) from error
