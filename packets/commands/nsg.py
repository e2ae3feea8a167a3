"""`python -m packets nsg`: what a network security group does to some traffic."""

import argparse

from facts.filters import Direction
from facts.resource_id import key
from packets.addresses import parse_port_range
from packets.answers import Answer
from packets.commands import document, named, prefixes, typed
from packets.documents import properties
from packets.documents.nsg import faults, read_nsg
from packets.nsg import PROTOCOLS, answer
from packets.tags import Tags


def add(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked."""
    add = parser.add_argument
    add("--direction", required=True, choices=("inbound", "outbound"))
    add("--protocol", default="tcp", type=str.lower, choices=sorted(PROTOCOLS))
    add("--port", required=True, type=typed(parse_port_range), help="destination port, or a range 1-1024")
    addresses = typed(prefixes)
    add("--source", required=True, type=addresses, metavar="CIDR[,CIDR]")
    add("--destination", required=True, type=addresses, metavar="CIDR[,CIDR]")
    add(
        "--vnet",
        type=addresses,
        metavar="CIDR[,CIDR]",
        help="address space of the virtual network and its peers; without it what hangs on the tags "
        "VirtualNetwork and Internet is unknown",
    )
    add("--tag", action="append", default=[], type=typed(named), metavar="NAME=CIDR[,CIDR]")
    add("--asg", action="append", default=[], type=typed(named), metavar="ID=CIDR[,CIDR]")
    add("--explain", action="store_true", help="say of each other rule why it was passed over")
    parser.set_defaults(run=run)


def run(asked: argparse.Namespace, text: str) -> Answer:
    """Answer; raises `ValueError` naming what in the document cannot be used."""
    found = document(text, "securityRules")
    body = properties(found)
    if body.get("securityRules") is None and body.get("defaultSecurityRules") is None:
        raise ValueError("standard input has neither securityRules nor defaultSecurityRules: it is no NSG")
    group = read_nsg(found)
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
        explain=asked.explain,
    )
