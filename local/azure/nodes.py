"""What nodes are like inside, and what their networks drop, from a fleet's `*.nodes.json`.

An object by ARM id, in any case: of a machine (`…/virtualMachineScaleSets/{s}/virtualMachines/{n}` or
`…/virtualMachines/{name}`), of a scale set, which speaks for all its machines without an entry of their own,
or of a virtual network. Machines of which nothing is said are ordinary ones: no firewall, the kubelet
listens, Run Command works.
"""

import ipaddress
from typing import Any, Literal

import msgspec

from local.azure.arm import ArmPath, Json, MalformedError, key
from local.nodes.description import Drop, Firewall
from local.nodes.recorded import Answers, Printed, check_line

MACHINES = frozenset(
    {"microsoft.compute/virtualmachines", "microsoft.compute/virtualmachinescalesets/virtualmachines"}
)
"""The types that Run Command works on, in lower case."""
SCALE_SET = "microsoft.compute/virtualmachinescalesets"
VIRTUAL_NETWORK = "microsoft.network/virtualnetworks"

Fault = Literal["silent", "busy", "stopped", "locked", "sample-script", "truncated", "garbled", "no-output"]
"""How Run Command misbehaves: it never finishes; 409, another runs; 409, the machine does not; 403 by a deny
assignment; Azure's sample script runs instead; more of the output's head is lost than Azure drops; bytes of
it are damaged; all of it is lost."""


class Misbehaviour(
    msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True
):
    """How Run Command misbehaves, and how often."""

    fault: Fault
    times: int | None = None
    """It mends itself after so many commands; None: never."""
    seconds: float = 5400
    """How long a `silent` one takes to time out: Azure's 90 minutes, unless less is said."""


class Machine(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """One machine, or each of a scale set."""

    firewall: Firewall = Firewall()
    listening: bool = True
    """Whether anybody listens on 10250."""
    run_command: Misbehaviour | Fault | None = None
    recorded: dict[str, str | Printed] = {}
    """What commands print where there are no namespaces, by command line: `{"ufw status verbose": "…"}`."""
    answers: Answers | None = None
    """How it answers on 10250 where there are no namespaces; without it, as it listens."""

    @property
    def misbehaviour(self) -> Misbehaviour | None:
        """How Run Command misbehaves."""
        return Misbehaviour(self.run_command) if isinstance(self.run_command, str) else self.run_command


class VirtualNetwork(
    msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True
):
    """What a network does to packets between nodes, beside carrying them."""

    drop: tuple[Drop, ...] = ()
    """TCP 10250 that it drops: `[{"from": "10.1.0.0/24", "to": "10.2.0.0/24"}]`."""


type Entry = Machine | VirtualNetwork


def check(content: Any) -> dict[str, tuple[str, Entry]]:
    """Read a file: by the key of each id, how it is written and what is said of it.

    MalformedError says where something is not what it should be.
    """
    if not isinstance(content, dict):
        raise MalformedError("not a JSON object")
    found: dict[str, tuple[str, Entry]] = {}
    for identifier, value in content.items():
        kind = _kind(identifier)
        try:
            entry = msgspec.convert(value, type=kind)
            _look_over(entry)
        except ValueError as error:
            raise MalformedError(f'"{identifier}": {error}') from None
        earlier, known = found.setdefault(key(identifier), (identifier, entry))
        if known != entry:
            raise MalformedError(f'"{identifier}" is there as "{earlier}" too, with other content')
    return found


def describe(entries: dict[str, Entry]) -> Json:
    """Entries as a file would hold them."""
    return {identifier: msgspec.to_builtins(entry) for identifier, entry in entries.items()}


def _kind(identifier: str) -> type[Entry]:
    try:
        path = ArmPath.parse(identifier)
    except MalformedError as error:
        raise MalformedError(f'"{identifier}" is no ARM id: {error}') from None
    kind = path.type.lower()
    if not path.is_collection and kind in MACHINES | {SCALE_SET}:
        return Machine
    if not path.is_collection and kind == VIRTUAL_NETWORK:
        return VirtualNetwork
    raise MalformedError(f'"{identifier}" is not the id of a machine, a scale set or a virtual network')


def _look_over(entry: Entry) -> None:
    """Raise ValueError for what its type alone does not forbid."""
    if isinstance(entry, VirtualNetwork):
        for index, drop in enumerate(entry.drop):
            versions = {
                ipaddress.ip_network(_cidr(index, cidr), strict=False).version
                for cidr in (drop.source, drop.destination)
            }
            if len(versions) > 1:
                raise ValueError(f"drop[{index}]: one prefix is IPv4 and the other IPv6")
        return
    misbehaviour = entry.misbehaviour
    if misbehaviour and misbehaviour.times is not None and misbehaviour.times < 1:
        raise ValueError("runCommand.times is a whole number above 0")
    if misbehaviour and not misbehaviour.seconds >= 0:
        raise ValueError("runCommand.seconds is a number, 0 or more")
    for line in entry.recorded:
        check_line(line)


def _cidr(index: int, text: str) -> str:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"drop[{index}]: not an IP prefix: {text}") from None
    return text
