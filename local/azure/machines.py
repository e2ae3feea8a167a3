"""The machines of a fleet as their network interfaces know them, and the networks that join them."""

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from local.azure.arm import ArmPath, Json, key
from local.azure.nodes import Machine, VirtualNetwork
from local.azure.store import Store
from local.nodes.description import GATEWAY_V6, Address, Drop, Network, Node

MOST = 64
"""Machines of a network that get namespaces of their own: first those of which a fleet says something."""

_INTERFACES = (
    "microsoft.network/networkinterfaces",
    "microsoft.compute/virtualmachinescalesets/virtualmachines/networkinterfaces",
)


@dataclass(slots=True)
class Placed:
    """A machine and where it is."""

    key: str
    """Its id, in lower case."""
    name: str
    """Its host name."""
    mac: str
    virtual_networks: list[str] = field(default_factory=list)
    """The keys of those it has an address in; the first is its own."""
    addresses: list[Address] = field(default_factory=list)


class Layout:
    """Every machine with an address, grouped by what reaches what."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.machines: dict[str, Placed] = {}
        """By key."""
        for kind in _INTERFACES:
            for interface in store.every(kind):
                self._place(interface)
        self._groups = self._join()

    def group_of(self, machine: str) -> str | None:
        """What names the network that a machine is in; None if it is in none."""
        placed = self.machines.get(machine)
        return self._groups[placed.virtual_networks[0]] if placed else None

    def network(self, group: str) -> Network:
        """Everything in a network, as a fabric makes it."""
        members = [
            placed for placed in self.machines.values() if self._groups[placed.virtual_networks[0]] == group
        ]
        members.sort(key=lambda placed: (self._store.machine(placed.key) is None, _order(placed.key)))
        chosen = sorted(members[:MOST], key=lambda placed: _order(placed.key))
        drops: list[Drop] = []
        for network, name in self._groups.items():
            entry = self._store.nodes.get(network)
            if name == group and isinstance(entry, VirtualNetwork):
                drops += entry.drop
        return Network(
            nodes=tuple(self._node(placed) for placed in chosen),
            others=tuple(item.address for placed in members[MOST:] for item in placed.addresses),
            drops=tuple(drops),
        )

    def _node(self, placed: Placed) -> Node:
        said = self._store.machine(placed.key) or Machine()
        return Node(
            key=placed.key,
            name=placed.name,
            mac=placed.mac,
            addresses=tuple(placed.addresses),
            firewall=said.firewall,
            listening=said.listening,
        )

    def _place(self, interface: Json) -> None:
        identifier = machine_of(interface)
        if identifier is None:
            return
        found = list(self._addresses(interface["properties"]))
        if not found:
            return
        wanted = key(identifier)
        placed = self.machines.get(wanted)
        if placed is None:
            mac = str(interface["properties"].get("macAddress") or "").replace("-", ":").lower()
            if not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac):
                mac = "00:0d:3a:" + hashlib.sha256(wanted.encode()).digest()[:3].hex(":")
            placed = Placed(wanted, self._name(wanted), mac)
            self.machines[wanted] = placed
        known = {item.address for item in placed.addresses}
        for network, address in found:
            if address.address not in known:
                placed.virtual_networks.append(network)
                placed.addresses.append(address)

    def _addresses(self, properties: Json) -> Iterator[tuple[str, Address]]:
        """The address of each IP version that the node itself has: further ones are for its pods."""
        configurations = [item.get("properties") or {} for item in properties.get("ipConfigurations") or ()]
        configurations.sort(key=lambda item: not item.get("primary"))
        versions: set[int] = set()
        for item in configurations:
            subnet = (item.get("subnet") or {}).get("id") or ""
            try:
                address = ipaddress.ip_address(item.get("privateIPAddress") or "")
            except ValueError:
                continue
            if not subnet or address.version in versions:
                continue
            versions.add(address.version)
            if address.version == 6:
                yield _network_key(subnet), Address(str(address), 128, GATEWAY_V6)
            else:
                prefix = self._prefix(subnet, address)
                gateway = prefix.network_address + 1
                yield _network_key(subnet), Address(str(address), prefix.prefixlen, str(gateway))

    def _prefix(self, subnet: str, address: ipaddress.IPv4Address) -> ipaddress.IPv4Network:
        """The prefix of a subnet that an address is in; its /24 where the subnet is not to be found."""
        document = self._store.document(_network_key(subnet)) or {}
        for part in (document.get("properties") or {}).get("subnets") or ():
            if str(part.get("name", "")).lower() != subnet.rpartition("/")[2].lower():
                continue
            properties = part.get("properties") or {}
            for text in (properties.get("addressPrefix"), *(properties.get("addressPrefixes") or ())):
                try:
                    found = ipaddress.IPv4Network(text or "")
                except ValueError:
                    continue
                if address in found:
                    return found
        return ipaddress.IPv4Network((address, 24), strict=False)

    def _name(self, machine: str) -> str:
        document = self._store.document(machine) or {}
        profile = (document.get("properties") or {}).get("osProfile") or {}
        path = ArmPath.parse(machine)
        made_up = path.names[0] if len(path.names) == 1 else f"{path.names[0]}{path.names[1]:0>6}"
        return str(profile.get("computerName") or made_up).lower()[:64]

    def _join(self) -> dict[str, str]:
        """By virtual network with machines in it: the name of all that it is one with.

        Networks are one if they are peered, or a machine has a leg in both; not where addresses are
        there twice, for then no packet can tell them apart.
        """
        groups: dict[str, str] = {}
        addresses: dict[str, set[str]] = {}
        for placed in self.machines.values():
            for network in placed.virtual_networks:
                groups.setdefault(network, network)
                addresses.setdefault(network, set())
            addresses[placed.virtual_networks[0]].update(item.address for item in placed.addresses)
        pairs = [
            (placed.virtual_networks[0], other)
            for placed in self.machines.values()
            for other in placed.virtual_networks[1:]
        ]
        pairs += [(network, peer) for network in sorted(groups) for peer in self._peers(network)]
        for one, other in pairs:
            first, second = groups.get(one), groups.get(other)
            if first is None or second is None or first == second or addresses[first] & addresses[second]:
                continue
            addresses[first] |= addresses.pop(second)
            groups = {network: first if name == second else name for network, name in groups.items()}
        return groups

    def _peers(self, network: str) -> Iterator[str]:
        document = self._store.document(network) or {}
        for peering in (document.get("properties") or {}).get("virtualNetworkPeerings") or ():
            properties = peering.get("properties") or {}
            remote = (properties.get("remoteVirtualNetwork") or {}).get("id")
            if remote and properties.get("peeringState", "Connected") == "Connected":
                yield key(remote)


def machine_of(interface: Json) -> str | None:
    """The id of the machine that an interface belongs to; None if it belongs to none."""
    properties = interface.get("properties")
    if not isinstance(properties, dict):
        return None
    identifier = (properties.get("virtualMachine") or {}).get("id")
    return identifier if isinstance(identifier, str) else None


def deallocated(document: Json) -> bool:
    """Whether a machine's document says that it is stopped, by its instance view."""
    view = (document.get("properties") or {}).get("instanceView") or {}
    codes: Iterable[str] = (str(status.get("code", "")) for status in view.get("statuses") or ())
    return any(
        code.lower() in {"powerstate/deallocated", "powerstate/deallocating", "powerstate/stopped"}
        for code in codes
    )


def is_windows(document: Json) -> bool:
    """Whether a machine's document says that it runs Windows."""
    disk = ((document.get("properties") or {}).get("storageProfile") or {}).get("osDisk") or {}
    return str(disk.get("osType", "")).lower() == "windows"


def _network_key(subnet: str) -> str:
    return re.sub(r"/subnets/[^/]*$", "", key(subnet))


def _order(machine: str) -> tuple[str, int, str]:
    """Instances in the order of their numbers."""
    start, _, last = machine.rpartition("/")
    return start, int(last) if last.isdigit() else 0, last
