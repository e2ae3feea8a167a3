"""The service tags that Microsoft publishes, from a fleet's `service-tags.json`.

`GET …/locations/{location}/serviceTags`, as documented under
https://learn.microsoft.com/rest/api/virtualnetwork/service-tags/list. The location is a reference for the
version of the list and no filter: whichever is asked for, the answer holds the tags of every region.
"""

from typing import Any

from local.azure.arm import Json, MalformedError


def check(content: Any) -> Json:
    """Say whether something is Azure's list of service tags; MalformedError if it is not."""
    if not isinstance(content, dict):
        raise MalformedError("not a JSON object")
    values = content.get("values")
    if not isinstance(values, list):
        raise MalformedError('no list "values"')
    for index, tag in enumerate(values):
        if not isinstance(tag, dict):
            raise MalformedError(f"values[{index}]: not an object")
        if not isinstance(tag.get("name"), str):
            raise MalformedError(f'values[{index}]: no "name"')
    return content


def nothing(subscription: str) -> Json:
    """The answer where a fleet holds no tags: a list without any."""
    return {
        "name": "Public",
        "id": f"/subscriptions/{subscription}/providers/Microsoft.Network/serviceTags/Public",
        "type": "Microsoft.Network/serviceTags",
        "changeNumber": "0",
        "cloud": "Public",
        "values": [],
    }
