"""A small fleet with nodes in it, and commands sent to them by the real Azure SDK.

Two clusters: the first has a scale set in each of two subnets, with IPv4 and IPv6, and a plain machine; the
second has the same addresses in a virtual network of its own. A third network is peered with the first.
"""

import json
from pathlib import Path
from typing import Any

from azure.mgmt.compute.aio import ComputeManagementClient

from local.azure.arm import ArmPath
from tests.simulator import WORKLOADS, RunningSimulator, client

GROUP = "MC_rg-a_a_westeurope"
SYSTEM = "aks-system-1-vmss"
VMSS = "aks-work-2-vmss"
TWIN = "aks-twin-3-vmss"
PEER = "aks-peer-4-vmss"
HEALTHY: dict[str, Any] = {}
"""What is said of a machine of which there is nothing to say."""

_PROVIDERS = f"/subscriptions/{WORKLOADS}/resourceGroups/{GROUP}/providers"
NETWORK = f"{_PROVIDERS}/Microsoft.Network/virtualNetworks/one"


def instance(scale_set: str, number: int) -> str:
    """The id of an instance of a scale set."""
    return f"{_PROVIDERS}/Microsoft.Compute/virtualMachineScaleSets/{scale_set}/virtualMachines/{number}"


def plain_machine(name: str) -> str:
    """The id of a machine that is in no scale set."""
    return f"{_PROVIDERS}/Microsoft.Compute/virtualMachines/{name}"


def show(scale_set: str, number: int) -> dict[str, Any]:
    """The document of an instance's interface."""
    subnet, third, six = {
        SYSTEM: ("one/subnets/system", 1, True),
        VMSS: ("one/subnets/work", 2, True),
        TWIN: ("two/subnets/system", 1, False),
        PEER: ("three/subnets/nodes", 9, False),
        "akswin": ("three/subnets/nodes", 10, False),
    }[scale_set]
    addresses = [f"10.1.{third}.{number + 4}", *([f"fd00:1:{third}::{number + 4}"] if six else [])]
    return _interface(instance(scale_set, number), subnet, addresses)


def write(directory: Path) -> Path:
    """Write the fleet into a directory."""
    documents = [
        _network("one", {"system": "10.1.1.0/24", "work": "10.1.2.0/24"}, peer="three"),
        _network("two", {"system": "10.1.1.0/24"}),
        _network("three", {"nodes": "10.1.8.0/21"}, peer="one"),
        _machine(plain_machine("nowhere")),
        _machine(plain_machine("stopped"), power="PowerState/deallocated"),
        _machine(plain_machine("aks-plain-vm0")),
        _interface(plain_machine("aks-plain-vm0"), "one/subnets/system", ["10.1.1.100"]),
    ]
    for scale_set, count in ((SYSTEM, 3), (VMSS, 2), (TWIN, 2), (PEER, 1), ("akswin", 1)):
        kind = f"{_PROVIDERS}/Microsoft.Compute/virtualMachineScaleSets/{scale_set}"
        documents.append({"id": kind, "name": scale_set, "location": "westeurope", "properties": {}})
        for number in range(count):
            system = "Windows" if scale_set == "akswin" else "Linux"
            documents += [_machine(instance(scale_set, number), system=system), show(scale_set, number)]
    (directory / "fleet.json").write_text(json.dumps(documents))
    return directory


async def send(
    simulator: RunningSimulator, machine: str, *script: str, parameters: dict[str, str] | None = None
) -> tuple[str, str]:
    """Run a script on a machine, and return what it wrote to standard output and to standard error."""
    path = ArmPath.parse(machine)
    body = {
        "commandId": "RunShellScript",
        "script": list(script),
        "parameters": [{"name": name, "value": value} for name, value in (parameters or {}).items()],
    }
    async with client(ComputeManagementClient, simulator) as compute:
        operations = (
            compute.virtual_machines if len(path.names) == 1 else compute.virtual_machine_scale_set_vms
        )
        poller = await operations.begin_run_command(path.resource_group, *path.names, body)
        result = await poller.result()
    (said,) = result.value
    head, _, rest = said.message.partition("[stdout]\n")
    assert (said.code, head) == ("ProvisioningState/succeeded", "Enable succeeded: \n")
    stdout, _, stderr = rest.partition("\n[stderr]\n")
    return stdout, stderr


def _network(name: str, subnets: dict[str, str], peer: str | None = None) -> dict[str, Any]:
    base = NETWORK.rpartition("/")[0]
    peering = {
        "name": f"to-{peer}",
        "properties": {"peeringState": "Connected", "remoteVirtualNetwork": {"id": f"{base}/{peer}".upper()}},
    }
    return {
        "id": f"{base}/{name}",
        "name": name,
        "location": "westeurope",
        "properties": {
            "subnets": [
                {"name": subnet, "properties": {"addressPrefixes": [prefix]}}
                for subnet, prefix in subnets.items()
            ],
            "virtualNetworkPeerings": [peering] if peer else [],
        },
    }


def _machine(identifier: str, *, system: str = "Linux", power: str = "PowerState/running") -> dict[str, Any]:
    return {
        "id": identifier,
        "name": identifier.rpartition("/")[2],
        "location": "westeurope",
        "properties": {
            "storageProfile": {"osDisk": {"osType": system}},
            "instanceView": {"statuses": [{"code": "ProvisioningState/succeeded"}, {"code": power}]},
        },
    }


def _interface(machine: str, subnet: str, addresses: list[str]) -> dict[str, Any]:
    plain = "/virtualMachineScaleSets/" not in machine
    nic = f"nic-{machine.rpartition('/')[2]}"
    place = f"{_PROVIDERS}/Microsoft.Network" if plain else machine
    configurations = [
        {
            "name": f"ipconfig{index}",
            "properties": {
                "primary": index == 0,
                "privateIPAddress": address,
                "privateIPAddressVersion": "IPv6" if ":" in address else "IPv4",
                "subnet": {"id": f"{NETWORK.rpartition('/')[0]}/{subnet}"},
            },
        }
        # the last is a pod's: Azure CNI puts them on the interface, and none of them on the node itself
        for index, address in enumerate([*addresses, f"10.1.7.{addresses[0].rpartition('.')[2]}"])
    ]
    return {
        "id": f"{place}/networkInterfaces/{nic}",
        "name": nic,
        "location": "westeurope",
        "properties": {"virtualMachine": {"id": machine}, "ipConfigurations": configurations},
    }
