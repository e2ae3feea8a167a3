"""Azure's JSON documents of packet filters, as our types: one module for each kind.

Documents come as Azure Resource Manager returns them, with `properties` nested,
or as the CLI prints them, flattened. Properties may be missing, `null`, or there
both as a single value and as a list.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from packets.addresses import parse_prefix

Document = Mapping[str, Any]

# Service tags begin with a letter and hold neither colon nor slash.
_TAG = re.compile(r"[A-Za-z][\w.\-]*")


def properties(document: Document) -> Document:
    """The properties of a resource, wherever they stand."""
    nested = document.get("properties")
    return nested if isinstance(nested, Mapping) else document


def both(document: Document, singular: str, plural: str) -> tuple[str, ...]:
    """The values of a field that Azure keeps as one value or as a list, each once."""
    values = [document.get(singular), *listed(document, plural)]
    return tuple(dict.fromkeys(str(value) for value in values if value not in (None, "")))


def texts(document: Document, field: str) -> tuple[str, ...]:
    """The values of a list of texts, each once; raises `ValueError` if the field is no list."""
    return tuple(dict.fromkeys(str(value) for value in listed(document, field) if value not in (None, "")))


def listed(document: Document, field: str) -> Sequence[Any]:
    """What a list holds, nothing if it is missing; raises `ValueError` if the field is no list."""
    value = document.get(field) or ()
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{field} is no list")
    return value


def objects(document: Document, field: str) -> list[Document]:
    """The objects of a list; raises `ValueError` naming the first element that is none."""
    found = []
    for place, one in enumerate(listed(document, field)):
        if not isinstance(one, Mapping):
            raise ValueError(f"{field}[{place}] is no object")
        found.append(one)
    return found


def text(document: Document, field: str) -> str:
    """A text, empty if it is missing."""
    value = document.get(field)
    return "" if value is None else str(value)


def number(document: Document, field: str) -> int | None:
    """A whole number; `None` if it is missing, or no number."""
    value = document.get(field)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def reference(document: Document, field: str) -> str:
    """The id of the resource that a field refers to, empty if it refers to none."""
    value = document.get(field)
    return text(value, "id") if isinstance(value, Mapping) else ""


def check_address(text: str) -> None:
    """Raises `ValueError` for what is neither an address, CIDR or range nor may be a service tag.

    A live document may hold values that are newer than this code, and is judged as far as it can be; in one
    that somebody pasted it is more likely a slip.
    """
    if text != "*" and not _TAG.fullmatch(text):
        parse_prefix(text)
