"""What probes saw on nodes: their firewalls as the node itself prints them, and who answers on TCP 10250.

A probe is one run of the script in `pipeline/probe` on one node. What a node could not be asked, or did
not answer, is a `Missing` with its reason and never an empty report.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from facts.filters import Missing
from facts.finding import Reason

Answered = Literal["open", "refused", "timeout", "unreachable", "error"]
"""How a connection ended: accepted, reset by the other side (or rejected by a firewall that says so with
"connection refused"), no answer in time, no way there (an ICMP error, no route), or the test failed."""

DumpName = Literal[
    "iptables-nft-save", "iptables-legacy-save", "ip6tables-nft-save", "ip6tables-legacy-save", "nft"
]
"""The command that printed a dump; `nft` is `nft -s list ruleset`, without the tables that the first and the
third show already."""


class Reach(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Whether TCP 10250 of one address answered."""

    address: str
    answer: Answered
    said: str = ""
    """The tool's own words, one line, where the answer is not `open`."""


class Ufw(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, tag=True):
    """The Uncomplicated Firewall of a node."""

    installed: bool
    status: str = ""
    """What `ufw status verbose` printed (with `LC_ALL=C`); empty where it is not installed."""


class Dump(Struct, frozen=True, kw_only=True, rename="camel"):
    """The rules of one packet filter, as far as a packet can meet them on its way in."""

    name: DumpName
    text: str


class NodeReport(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What one probe of one node brought back."""

    node: str
    """The Kubernetes node name."""
    machine_id: str
    """The id of the scale set's instance, or of the virtual machine."""
    taken_at: str
    """UTC, ISO 8601: when Azure was asked to run the probe."""
    os: str = ""
    """`PRETTY_NAME` of /etc/os-release: `Ubuntu 22.04.5 LTS`."""
    interface: str = ""
    """The interface of the default route, `eth0`; empty where the node has none."""
    ufw: Ufw | Missing
    dumps: tuple[Dump, ...] = ()
    """One for each packet filter that holds any rule or chain of interest."""
    unread: tuple[Reason, ...] = ()
    """Packet filters that are there and could not be listed: what they do is not known."""
    asked: Mapping[str, str] = {}
    """The addresses that it was to try, with the id of the machine that had each then."""
    reach: tuple[Reach, ...] = ()
    """An answer for each address that was asked about, in that order; fewer if time ran out."""


class Probes(Struct, frozen=True, kw_only=True):
    """What is known of a cluster's nodes from probes, the latest of each node."""

    reports: tuple[NodeReport, ...] = ()
    unread: tuple[Missing, ...] = ()
    """Nodes that were chosen and could not be probed; `resource_id` is the machine's id."""
