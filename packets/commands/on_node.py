"""What the command lines of a node's packet filters have in common: the question, and the text's source."""

import argparse
import json
import re

from packets.addresses import parse_port_range
from packets.commands import prefixes, typed
from packets.netfilter import Question

_NFT = re.compile(r'[\ufeff\s]*\{\s*"nftables"\s*:')


def add_question(parser: argparse.ArgumentParser) -> None:
    """The options that say which packets are asked about."""
    add = parser.add_argument
    add("--protocol", default="tcp", type=str.lower, choices=("tcp", "udp"))
    add("--port", required=True, type=typed(parse_port_range), help="destination port, or a range 1-1024")
    addresses = typed(prefixes)
    add("--source", required=True, type=addresses, metavar="CIDR[,CIDR]")
    add(
        "--destination",
        type=addresses,
        metavar="CIDR[,CIDR]",
        help="the node's own addresses; without them what hangs on a rule about some destination is unknown",
    )
    add("--interface", default="eth0", metavar="NAME", help="where packets come in (default: %(default)s)")


def question_of(asked: argparse.Namespace) -> Question:
    """The question that the options make, to chains of netfilter."""
    return Question.to_node(
        asked.protocol,
        asked.port,
        sources=asked.source,
        destinations=asked.destination,
        interface=asked.interface,
    )


def printed(text: str) -> str:
    """What a command printed on a node: the text itself, or what `az vmss run-command invoke` made of it.

    nft's own JSON is left as it is. Raises `ValueError` for other JSON.
    """
    if not text.lstrip("\ufeff \t\r\n").startswith("{") or _NFT.match(text):
        return text
    try:
        return "\n".join(str(value["message"]) for value in json.loads(text.lstrip("\ufeff"))["value"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(
            "standard input is JSON, and not what `az vmss run-command invoke` prints (value[].message)"
        ) from error
