"""`python -m packets iptables`: what a node's iptables do to connections to one of its ports."""

import argparse

from packets.answers import Answer
from packets.commands.on_node import add_question, printed, question_of
from packets.dumps.iptables import read_iptables
from packets.iptables import answer


def add(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked."""
    add_question(parser)
    parser.set_defaults(run=run)


def run(asked: argparse.Namespace, text: str) -> Answer:
    """Answer; raises `ValueError` naming what in the text cannot be used."""
    return answer(read_iptables(printed(text)), question_of(asked))
