"""What a node printed, by itself and as `az vmss run-command invoke` gives it back."""

import json

import pytest

from packets.commands.on_node import printed

RULES = "-P INPUT ACCEPT\n-A INPUT -p tcp -m tcp --dport 10250 -j DROP\n"
MESSAGE = f"Enable succeeded: \n[stdout]\n{RULES}\n[stderr]\n"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (RULES, RULES),
        ("", ""),
        (json.dumps({"value": [{"code": "ProvisioningState/succeeded", "message": MESSAGE}]}), MESSAGE),
        ("\ufeff" + json.dumps({"value": [{"message": MESSAGE}]}), MESSAGE),
        ('{"value": []}', ""),
        ('{"nftables": []}', '{"nftables": []}'),
        ('{"nftables": [ cut', '{"nftables": [ cut'),
    ],
)
def test_what_was_printed(given: str, text: str) -> None:
    """JSON of az is unwrapped, and everything else left as it is."""
    assert printed(given) == text


@pytest.mark.parametrize("given", ['{"value": [{}]}', '{"value": 5}', '{"value": ["x"]}', "{}", "{ no JSON"])
def test_json_that_az_does_not_print(given: str) -> None:
    """Said in one line."""
    with pytest.raises(ValueError, match="run-command invoke"):
        printed(given)
