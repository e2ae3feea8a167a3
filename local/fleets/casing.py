"""Ids in every case that Azure is known to write them in."""

import hashlib
from typing import Any


def scramble(content: Any, seed: str) -> Any:
    """The same content, with each id in a case of its own."""
    if isinstance(content, dict):
        return {
            _respell(name, f"{seed}/{name}"): scramble(value, f"{seed}/{name}")
            for name, value in content.items()
        }
    if isinstance(content, list):
        return [scramble(value, f"{seed}/{index}") for index, value in enumerate(content)]
    return _respell(content, seed) if isinstance(content, str) else content


def _respell(text: str, seed: str) -> str:
    if not text.startswith("/subscriptions/"):
        return text
    style = hashlib.sha256(seed.encode()).digest()[0] % 4
    if style == 0:
        return text.lower()
    words = text.split("/")
    if style == 1:  # names in upper case
        words = [word.upper() if at % 2 == 0 and at > 1 else word for at, word in enumerate(words)]
    elif style == 2:  # the resource group in lower case, the provider too
        words = [word.lower() if at in {3, 4, 5, 6} else word for at, word in enumerate(words)]
    else:
        words = [word[:1].swapcase() + word[1:] if at > 3 else word for at, word in enumerate(words)]
    return "/".join(words)
