"""`python -m packets ufw`: who may open connections to a node, by what `ufw status` prints there."""

import argparse

from packets.answers import Answer
from packets.commands.on_node import add_question, printed
from packets.dumps.ufw import read_ufw_status
from packets.ufw import answer


def add(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked."""
    add_question(parser)
    parser.set_defaults(run=run)


def run(asked: argparse.Namespace, text: str) -> Answer:
    """Answer; raises `ValueError` naming what in the text cannot be used."""
    return answer(
        read_ufw_status(printed(text)),
        asked.protocol,
        sources=asked.source,
        ports=asked.port,
        destinations=asked.destination,
        interface=asked.interface,
    )
