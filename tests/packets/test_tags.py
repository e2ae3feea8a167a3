"""Names for addresses: what a rule's field holds for sure, what it may hold, and why nobody knows."""

import pytest
from msgspec import structs

from packets.addresses import EVERY_ADDRESS, parse_prefixes, to_prefixes
from packets.decisions import Doubt
from packets.tags import Tags, tag_names

ASG = "/subscriptions/s/resourcegroups/g/providers/microsoft.network/applicationsecuritygroups/web"
OTHER = ASG.replace("web", "db")
NETWORK = Tags.of_network(
    ["10.0.0.0/16"],
    {"Sql": parse_prefixes(["20.1.0.0/16"]), "AzureCloud.WestEurope": parse_prefixes(["20.0.0.0/8"])},
    {ASG: parse_prefixes(["10.0.0.4", "10.0.0.5"])},
)
EVERYTHING = to_prefixes(EVERY_ADDRESS)


def field(tags: Tags, texts: str, groups: str = "") -> tuple[list[str], list[str] | str, str]:
    """For sure, what else may be in it (or `everything`), and the code of the doubt."""
    found = tags.field(tuple(texts.split()), tuple(groups.split()), "source")
    more = found.perhaps - found.surely
    beyond = "everything" if found.perhaps == EVERY_ADDRESS and more else list(to_prefixes(more))
    return list(to_prefixes(found.surely)), beyond, found.doubt.code if found.doubt else ""


@pytest.mark.parametrize(
    ("texts", "groups", "surely", "beyond", "code"),
    [
        ("10.0.0.4", "", ["10.0.0.4/32"], [], ""),
        ("10.0.0.4 10.0.0.5", "", ["10.0.0.4/31"], [], ""),
        ("Sql", "", ["20.1.0.0/16"], [], ""),
        ("sql 10.0.0.4", "", ["10.0.0.4/32", "20.1.0.0/16"], [], ""),
        ("azurecloud.westeurope", "", ["20.0.0.0/8"], [], ""),
        ("VirtualNetwork", "", ["10.0.0.0/16", "168.63.129.16/32", "fe80::1234:5678:9abc/128"], [], ""),
        ("", ASG, ["10.0.0.4/31"], [], ""),
        ("", ASG.upper(), ["10.0.0.4/31"], [], ""),
        ("10.0.0.9", ASG, ["10.0.0.4/31", "10.0.0.9/32"], [], ""),
        ("Storage", "", [], "everything", "unknown_service_tag"),
        ("Storage Sql", "", ["20.1.0.0/16"], "everything", "unknown_service_tag"),
        ("", OTHER, [], "everything", "unknown_security_group"),
        ("", f"{ASG} {OTHER}", ["10.0.0.4/31"], "everything", "unknown_security_group"),
        ("/x/networkManagers/m/networkGroups/prod", "", [], "everything", "unknown_network_group"),
        ("10.0.0.0/33", "", [], "everything", "unknown_service_tag"),
        ("", "", [], "everything", "unknown_rule_value"),
        ("Storage *", "", list(EVERYTHING), [], ""),
    ],
)
def test_a_field(texts: str, groups: str, surely: list[str], beyond: list[str] | str, code: str) -> None:
    """What is named is known exactly, or in doubt beyond what is known of it."""
    assert field(NETWORK, texts, groups) == (surely, beyond, code)


def test_groups_that_are_all_known() -> None:
    """Where all members that matter are known, a group that is not there has none."""
    tags = structs.replace(NETWORK, only_groups=True)
    assert field(tags, "", OTHER) == ([], [], "")
    assert field(tags, "", f"{ASG} {OTHER}") == (["10.0.0.4/31"], [], "")


def test_a_group_that_may_hold_more() -> None:
    """Only the addresses that may join it are in doubt."""
    tags = structs.replace(
        NETWORK, only_groups=True, perhaps={OTHER: parse_prefixes(["10.0.0.8/30"]), **NETWORK.perhaps}
    )
    assert field(tags, "", OTHER) == ([], ["10.0.0.8/30"], "unknown_security_group")
    assert field(tags, "10.0.0.8/31", OTHER) == (["10.0.0.8/31"], ["10.0.0.10/31"], "unknown_security_group")


def test_why_tags_could_not_be_read() -> None:
    """The doubt carries that reason's code, and says it in words beside the tag's name."""
    tags = structs.replace(NETWORK, unread=Doubt("permission_denied", "Could not read service tags"))
    doubt = tags.field(("Storage",), (), "destination").doubt
    assert doubt
    assert doubt.code == "permission_denied"
    assert doubt.why == (
        'the destination service tag "Storage" (Could not read service tags) could not be resolved'
    )


@pytest.mark.parametrize(
    ("routed", "network", "network_beyond", "internet_without"),
    [
        ([], "10.0.0.0/16", [], ""),
        (["10.9.0.0/16"], "10.0.0.0/16 10.9.0.0/16", [], ""),
        (["20.5.0.0/16"], "10.0.0.0/16 20.5.0.0/16", [], "20.5.0.0/16"),
        (["Storage", "AzureCloud.WestEurope"], "10.0.0.0/16", [], ""),
        (["0.0.0.0/0"], "10.0.0.0/16", ["0.0.0.0/0"], ""),
        (["::/0"], "10.0.0.0/16", ["::/0"], ""),
    ],
)
def test_routes_widen_the_network(
    routed: list[str], network: str, network_beyond: list[str], internet_without: str
) -> None:
    """Prefixes of user-defined routes belong to VirtualNetwork; a default route puts the rest in doubt.

    Internet keeps what only a default route covers, and is in doubt about what a narrower one does.
    """
    tags = Tags.of_network(["10.0.0.0/16"], routed=routed)
    own = tags.field(("VirtualNetwork",), (), "source")
    expected = parse_prefixes(network.split())
    assert not expected - own.surely
    assert not (own.surely - expected) & parse_prefixes(["10.0.0.0/8", "20.0.0.0/8"])
    beyond = parse_prefixes(network_beyond)
    assert own.perhaps == own.surely | beyond
    assert bool(own.doubt) == bool(network_beyond)
    internet = tags.field(("Internet",), (), "source")
    narrow = parse_prefixes(internet_without.split())
    public = parse_prefixes(["20.0.0.0/8", "2603:1020::/32"])
    assert (public & internet.surely) == public - narrow
    assert not narrow - internet.perhaps
    assert bool(internet.doubt) == bool(narrow)


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ([], set()),
        (["*", "Any", "0.0.0.0/0", "10.0.0.4", "10.0.0.0-10.0.0.9", "fd00::/8"], set()),
        (["VirtualNetwork", "internet", "AzureLoadBalancer"], set()),
        (["Sql", "SQL", " Storage.WestEurope "], {"sql", "storage.westeurope"}),
        (["/x/networkGroups/prod"], set()),
    ],
)
def test_names_of_published_tags(texts: list[str], names: set[str]) -> None:
    """What has to be looked up: neither addresses, nor what follows from the network, nor ids."""
    assert tag_names(texts) == names
