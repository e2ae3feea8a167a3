"""`python -m packets iptables`: what a node's iptables do to connections to one of its ports."""

import argparse

from packets.addresses import parse_port_range
from packets.answers import Answer
from packets.commands import prefixes, typed
from packets.dumps.iptables import read_iptables
from packets.iptables import answer
from packets.netfilter import Question


def add(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked."""
    add_question(parser)
    parser.set_defaults(run=run)


def add_question(parser: argparse.ArgumentParser) -> None:
    """The options that say which packets are asked about; the same for all of a node's packet filters."""
    add = parser.add_argument
    add("--protocol", default="tcp", type=str.lower, choices=("tcp", "udp", "sctp"))
    add("--port", required=True, type=typed(parse_port_range), help="destination port, or a range 1-1024")
    addresses = typed(prefixes)
    add("--source", required=True, type=addresses, metavar="CIDR[,CIDR]")
    add(
        "--destination",
        type=addresses,
        metavar="CIDR[,CIDR]",
        help="the node's own addresses; without them what hangs on a rule about some destination is unknown",
    )
    add("--interface", default="eth0", help="the interface that packets come in by (default: %(default)s)")


def question_of(asked: argparse.Namespace) -> Question:
    """The question that the options make."""
    return Question.to_node(
        asked.protocol,
        asked.port,
        sources=asked.source,
        destinations=asked.destination,
        interface=asked.interface,
    )


def run(asked: argparse.Namespace, text: str) -> Answer:
    """Answer; raises `ValueError` naming what in the text cannot be used."""
    return answer(read_iptables(text), question_of(asked))
