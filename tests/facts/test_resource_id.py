"""Ids of Azure Resource Manager: taken apart, compared, put in relation."""

import pytest

from facts.resource_id import is_within, key, parent, parse

S = "/subscriptions/0b1f6471-1bf0-4dda-aec3-cb9272f09590"
VNET = f"{S}/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/vnet"


@pytest.mark.parametrize(
    ("text", "group", "kind", "names", "name"),
    [
        (S, "", "", (), "0b1f6471-1bf0-4dda-aec3-cb9272f09590"),
        (f"{S}/resourceGroups/rg", "rg", "", (), "rg"),
        (VNET, "rg", "Microsoft.Network/virtualNetworks", ("vnet",), "vnet"),
        (
            f"{VNET}/subnets/nodes",
            "rg",
            "Microsoft.Network/virtualNetworks/subnets",
            ("vnet", "nodes"),
            "nodes",
        ),
        (f"  {VNET}/ ", "rg", "Microsoft.Network/virtualNetworks", ("vnet",), "vnet"),
        (VNET.upper(), "RG", "MICROSOFT.NETWORK/VIRTUALNETWORKS", ("VNET",), "VNET"),
        (
            VNET.replace("resourceGroups", "resourcegroups"),
            "rg",
            "Microsoft.Network/virtualNetworks",
            ("vnet",),
            "vnet",
        ),
    ],
)
def test_parse(text: str, group: str, kind: str, names: tuple[str, ...], name: str) -> None:
    """The parts in the case received; blanks around and a slash at the end do not belong to it."""
    parts = parse(text)
    assert parts.subscription_id.lower() == "0b1f6471-1bf0-4dda-aec3-cb9272f09590"
    assert (parts.resource_group, parts.type, parts.names, parts.name) == (group, kind, names, name)
    assert parts.text == text.strip().rstrip("/")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vnet",
        "/",
        "/subscriptions",
        "/subscriptions/",
        f"{S}/resourceGroups",
        f"{S}/resourceGroups/rg/providers/Microsoft.Network",
        f"{S}/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks",
        f"{VNET}/subnets",
        f"{S}/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks//x",
        f"x{VNET}",
        f"https://management.azure.com{VNET}",
    ],
)
def test_what_is_no_id_is_named(text: str) -> None:
    """The error shows what was given, no more than 200 characters of it."""
    with pytest.raises(ValueError, match="not an Azure resource id: ") as raised:
        parse(text)
    assert repr(text) in str(raised.value)
    with pytest.raises(ValueError) as long:
        parse("x" * 10_000)
    assert len(str(long.value)) < 300


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (VNET, VNET.upper(), True),
        (VNET, f" {VNET}/ ", True),
        (VNET, f"{VNET}2", False),
        (VNET, f"{VNET}/subnets/nodes", False),
    ],
)
def test_ids_are_equal_whatever_their_case(one: str, other: str, same: bool) -> None:
    """`key` is what ids are compared by."""
    assert (key(one) == key(other)) is same


def test_parent() -> None:
    """A subnet's is its network, in the case received."""
    assert parent(f"{VNET}/subnets/Nodes/") == VNET
    assert parent(f"{VNET.upper()}/SUBNETS/X") == VNET.upper()


@pytest.mark.parametrize(
    ("inner", "scope", "within"),
    [
        (VNET, VNET, True),
        (VNET, f"{S}/resourceGroups/RG", True),
        (VNET, S.upper(), True),
        (f"{VNET}/subnets/a", VNET, True),
        (f"{VNET}2", VNET, False),
        (f"{S}/resourceGroups/rg2", f"{S}/resourceGroups/rg", False),
        (S, VNET, False),
    ],
)
def test_is_within(inner: str, scope: str, within: bool) -> None:
    """A scope holds itself and what lies below it; names that merely begin alike are beside it."""
    assert is_within(inner, scope) is within
