"""What a simulated network consists of, and what is said between the Azure simulator and a fabric.

The two speak in JSON lines. The first line to a fabric is a `Network`, and its first answer says that it
stands; then come requests, answered in any order under their number.
"""

import ipaddress
from typing import Literal

import msgspec

KUBELET = 10250
"""The port on which nodes listen."""
FABRIC_MAC = "12:34:56:78:9a:bc"
"""What answers for every address of an Azure network, gateways and neighbours alike."""
GATEWAY_V6 = "fe80::1234:5678:9abc"
"""Where Azure's router advertisements come from."""


class Firewall(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """What is done to a node's packet filter, in the order of these fields."""

    ipset: tuple[str, ...] = ()
    """Arguments of `ipset`, a command each: `create blocked hash:net`, `add blocked 10.0.0.0/24`."""
    iptables: tuple[str, ...] | str = ()
    """Arguments of `iptables`, a command each (`-A INPUT -p tcp --dport 10250 -j DROP`, `-t nat -N X`); or,
    as one text, what `iptables-save` prints."""
    ip6tables: tuple[str, ...] | str = ()
    """The same for IPv6."""
    backend: Literal["nft", "legacy"] = "nft"
    """Which of the kernel's two filters `iptables` and `ip6tables` fill."""
    nftables: str = ""
    """A ruleset for `nft -f`."""
    ufw: tuple[str, ...] = ()
    """Arguments of `ufw`, a command each: `default deny incoming`, `allow 22/tcp`, `--force enable`."""


class Address(msgspec.Struct, frozen=True):
    """One address of a node, as Azure's DHCP gives it."""

    address: str
    prefix: int
    """The length of its subnet's prefix; 128 for IPv6."""
    gateway: str


class Node(msgspec.Struct, frozen=True):
    """One machine."""

    key: str
    """Its ARM id, in lower case."""
    name: str
    """Its host name."""
    mac: str
    addresses: tuple[Address, ...]
    firewall: Firewall = Firewall()
    listening: bool = True
    """Whether anybody accepts connections on 10250."""


class Drop(msgspec.Struct, frozen=True, rename={"source": "from", "destination": "to"}):
    """TCP 10250 from some addresses to others is dropped by the network itself, as an NSG would."""

    source: str
    """A CIDR."""
    destination: str
    """A CIDR of the same IP version."""

    def covers(self, source: str, destination: str) -> bool:
        """Whether a packet from one address to another is dropped."""
        return _within(source, self.source) and _within(destination, self.destination)


class Network(msgspec.Struct, frozen=True):
    """Everything that a fabric makes."""

    nodes: tuple[Node, ...]
    others: tuple[str, ...] = ()
    """Addresses of machines that get no namespaces of their own: one stands for all of them."""
    drops: tuple[Drop, ...] = ()


class Request(msgspec.Struct, frozen=True):
    """Something asked of a fabric; `node` is None where the network itself is meant."""

    number: int
    node: str | None = None
    """The key of a node; empty for the one that stands for all others."""
    script: bytes | None = None
    """Run this with /bin/sh."""
    seconds: float = 0
    """For so long at the most."""
    firewall: Firewall | None = None
    """Take this firewall in the place of the present one, and …"""
    listening: bool = True
    """… listen or do not."""
    drops: tuple[Drop, ...] | None = None
    """Drop this from now on, and nothing else."""


class Outcome(msgspec.Struct, frozen=True):
    """What came of a script."""

    stdout: bytes = b""
    """The end of what it wrote, `script.KEPT` bytes at the most."""
    stderr: bytes = b""
    status: int | None = None
    """Its exit status; None where it was killed, its time being over."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a request; number 0 says that the network stands."""

    number: int
    outcome: Outcome | None = None
    problem: str = ""
    """Why it could not be done, in one line; empty where it was."""
    lost: bool = False
    """Whether the node has no process any more."""
    problems: dict[str, str] = {}
    """With number 0: why a node is not as described, by its key."""


def _within(address: str, cidr: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(cidr, strict=False)


encode = msgspec.json.Encoder().encode
"""A message as a line, without its end."""
