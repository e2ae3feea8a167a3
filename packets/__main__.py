"""The engines on the command line: `python -m packets nsg … < nsg.json`.

JSON on standard output. Exit status: 0 all allowed, 1 some source blocked, 2 none blocked
but some unknown, 64 unusable input, with one line on standard error that names what is wrong.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

import msgspec

from packets.commands import UNUSABLE, Parser, Said, firewall, iptables, nftables, nsg, routes, ufw

_STATUS = {"allowed": 0, "unknown": 2}


def main(arguments: Sequence[str] | None = None, given: TextIO | None = None) -> int:
    """Answer one question; returns the exit status."""
    parser = Parser(
        prog="python -m packets",
        description="Say what a packet filter does to packets, from a document on standard input.",
    )
    engines = parser.add_subparsers(dest="engine", required=True, metavar="ENGINE")
    nsg.add(engines.add_parser("nsg", help="a network security group, as ARM returns it or az prints it"))
    firewall.add(
        engines.add_parser("firewall", help="an Azure Firewall: its classic rules, or its policy's groups")
    )
    routes.add(engines.add_parser("routes", help="a route table, or the effective routes of an interface"))
    ufw.add(engines.add_parser("ufw", help="UFW of a node, as ufw status [verbose|numbered] prints it"))
    iptables.add(engines.add_parser("iptables", help="iptables-save, iptables -S, or iptables --list"))
    nftables.add(engines.add_parser("nftables", help="nft list ruleset, as text or as JSON (nft -j)"))
    asked = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace, str], Said] = asked.run
    try:
        text = (given or sys.stdin).read()
        said = run(asked, text)
        written = msgspec.json.format(msgspec.json.encode(said), indent=2).decode()
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{parser.prog} {asked.engine}: {error}\n")
        return UNUSABLE
    sys.stdout.write(f"{written}\n")
    return 1 if said.blocked else _STATUS.get(said.outcome, 2)


if __name__ == "__main__":
    sys.exit(main())
