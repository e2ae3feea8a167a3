"""The list of service tags that Azure would publish for a fleet: real names, prefixes that are made up.

Prefixes are public space, IPv4 and IPv6. A tag with a region is a part of the one without, and what belongs
to a service in a region is a part of that region's AzureCloud.
"""

from local.fleets.clusters import digits
from local.fleets.parts import Json

API_SERVERS = {"westeurope": "20.48.0.0/12", "northeurope": "20.64.0.0/12"}
"""The part of each region's AzureCloud in which API servers have their addresses, and no other service."""

_REGIONS = {"westeurope": ("WestEurope", "18"), "northeurope": ("NorthEurope", "17")}
"""How service tags spell a region, and its number."""

_CLOUD = {
    "westeurope": ("13.69.0.0/17", API_SERVERS["westeurope"], "40.68.0.0/15", "2603:1020:200::/46"),
    "northeurope": ("13.74.0.0/16", API_SERVERS["northeurope"], "40.112.0.0/15", "2603:1020::/46"),
}
_ELSEWHERE = ("51.116.0.0/16", "52.224.0.0/14", "2603:1030:400::/48")
"""What AzureCloud holds of regions that have no tag here."""

_REGIONAL = {
    "Storage": "AzureStorage",
    "Sql": "AzureSQL",
    "AzureKeyVault": "AzureKeyVault",
    "AzureContainerRegistry": "AzureContainerRegistry",
    "MicrosoftContainerRegistry": "MicrosoftContainerRegistry",
    "AzureMonitor": "AzureMonitor",
    "AzureResourceManager": "AzureResourceManager",
    "EventHub": "AzureEventHub",
    "ServiceBus": "AzureServiceBus",
    "AzureCosmosDB": "AzureCosmosDB",
}
"""Services with a tag in each region, and what `systemService` says of them."""

_GLOBAL = {
    "ActionGroup": "ActionGroup",
    "AzureActiveDirectory": "AzureAD",
    "AzureFrontDoor.FirstParty": "AzureFrontDoor",
    "AzureFrontDoor.Frontend": "AzureFrontDoor",
    "AzureTrafficManager": "AzureTrafficManager",
    "GatewayManager": "GatewayManager",
}
"""Services with one tag everywhere."""


def service_tags(subscription: str) -> Json:
    """The answer to `GET …/locations/{location}/serviceTags`, the same for every location."""
    values = [
        _tag("AzureCloud", "", (*(prefix for own in _CLOUD.values() for prefix in own), *_ELSEWHERE)),
        *(_tag(f"AzureCloud.{region}", "", own, region) for region, own in _CLOUD.items()),
    ]
    for number, (name, service) in enumerate(_REGIONAL.items(), start=1):
        parts = {region: _regional(region, number) for region in _REGIONS}
        everywhere = (*(prefix for part in parts.values() for prefix in part), f"52.224.{number}.0/24")
        values.append(_tag(name, service, everywhere))
        for region, part in parts.items():
            values.append(_tag(f"{name}.{_REGIONS[region][0]}", service, part, region))
    for number, (name, service) in enumerate(_GLOBAL.items(), start=1):
        own = (f"13.107.{number}.0/24", f"52.225.{number}.0/24", f"2620:1ec:{number}::/48")
        values.append(_tag(name, service, own))
    return {
        "name": "Public",
        "id": f"/subscriptions/{subscription}/providers/Microsoft.Network/serviceTags/Public",
        "type": "Microsoft.Network/serviceTags",
        "changeNumber": "125",
        "cloud": "Public",
        "values": values,
    }


def _regional(region: str, number: int) -> tuple[str, ...]:
    """The prefixes of one service in a region."""
    if region == "westeurope":
        return f"13.69.{number}.0/26", f"40.68.{number * 4}.0/22", f"2603:1020:201:{number:x}00::/56"
    return f"13.74.{number}.0/26", f"40.112.{number * 4}.0/22", f"2603:1020:1:{number:x}00::/56"


def _tag(name: str, service: str, prefixes: tuple[str, ...], region: str = "") -> Json:
    change = str(int(digits(name)) % 100 + 1)
    return {
        "name": name,
        "id": name,
        "serviceTagChangeNumber": change,
        "properties": {
            "changeNumber": change,
            "region": region,
            "regionId": _REGIONS[region][1] if region else "0",
            "state": "GA",
            "networkFeatures": ["API", "NSG", "UDR", "FW"],
            "platform": "Azure",
            "systemService": service,
            "addressPrefixes": list(prefixes),
        },
    }
