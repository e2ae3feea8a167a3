"""What nft prints of its rules, text or JSON, as the same types."""

import json
import re

import msgspec

from packets.dumps.nftables_json import read_json
from packets.dumps.nftables_listing import Ruleset
from packets.dumps.nftables_text import read_text

_JSON = re.compile(r'\{\s*"nftables"\s*:')


def read_nftables(text: str) -> Ruleset:
    """The ruleset that a text holds, whatever stands before it; raises `ValueError` for one that has none."""
    found = _JSON.search(text)
    if found is None or "\ntable " in f"\n{text[: found.start()]}":
        return read_text(text)
    return read_json(_document(text[found.start() :]))


def _document(text: str) -> object:
    """The JSON that a text begins with."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        pass
    # A prompt may follow it, and what cannot be read is told more clearly.
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"the JSON of nft cannot be read, it may be cut off: {error}") from error
