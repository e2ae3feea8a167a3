"""The effective security rules of a network interface: those of its subnet's NSG and of its own.

`POST …/networkInterfaces/{nic}/effectiveNetworkSecurityGroups`, as documented under
https://learn.microsoft.com/rest/api/virtualnetwork/network-interfaces/list-effective-network-security-groups.
Service tags are left as they are written: their prefixes are Microsoft's to publish.
"""

from collections.abc import Iterator

from local.azure.arm import Json
from local.azure.store import Store

_PROTOCOLS = {"*": "All"}
_EVERY_PORT = {"*": "0-65535"}


def effective_groups(store: Store, interface: Json) -> Json:
    """The body of the answer: `{"value": [{networkSecurityGroup, association, effectiveSecurityRules}]}`."""
    return {"value": list(_groups(store, interface))}


def _groups(store: Store, interface: Json) -> Iterator[Json]:
    properties = interface.get("properties") or {}
    subnets: dict[str, None] = {}
    for configuration in properties.get("ipConfigurations") or ():
        subnet = (configuration.get("properties") or {}).get("subnet") or {}
        if "id" in subnet:
            subnets[subnet["id"]] = None
    for subnet_id in subnets:
        network, _, name = subnet_id.rpartition("/subnets/")
        parts = ((store.document(network) or {}).get("properties") or {}).get("subnets") or ()
        for part in parts:
            reference = (part.get("properties") or {}).get("networkSecurityGroup")
            if reference and part.get("name", "").lower() == name.lower():
                yield _group(store, reference, {"subnet": {"id": subnet_id}})
    if reference := properties.get("networkSecurityGroup"):
        yield _group(store, reference, {"networkInterface": {"id": interface["id"]}})


def _group(store: Store, reference: Json, association: Json) -> Json:
    properties = (store.document(reference["id"]) or {}).get("properties") or {}
    rules = [
        _rule(f"{kind}/{rule['name']}", rule["properties"])
        for kind in ("securityRules", "defaultSecurityRules")
        for rule in properties.get(kind) or ()
    ]
    return {
        "networkSecurityGroup": {"id": reference["id"]},
        "association": association,
        "effectiveSecurityRules": rules,
    }


def _rule(name: str, rule: Json) -> Json:
    effective: Json = {
        "name": name,
        "protocol": _PROTOCOLS.get(rule["protocol"], rule["protocol"]),
        "access": rule["access"],
        "priority": rule["priority"],
        "direction": rule["direction"],
    }
    for side in ("source", "destination"):
        ports = rule.get(f"{side}PortRanges") or [rule.get(f"{side}PortRange", "*")]
        ports = [_EVERY_PORT.get(port, port if "-" in port else f"{port}-{port}") for port in ports]
        prefixes = rule.get(f"{side}AddressPrefixes") or [rule.get(f"{side}AddressPrefix", "*")]
        prefixes = ["0.0.0.0/0" if prefix == "*" else prefix for prefix in prefixes]
        effective |= {
            f"{side}PortRange": ports[0],
            f"{side}PortRanges": ports,
            f"{side}AddressPrefix": prefixes[0],
            f"{side}AddressPrefixes": prefixes,
            f"expanded{side.capitalize()}AddressPrefix": [],
        }
    return effective
