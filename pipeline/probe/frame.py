r"""The probe script's answer on its way through Run Command: taken out, put together, or refused.

Run Command gives back one string, `Enable succeeded: \n[stdout]\n…\n[stderr]\n…`, with the last 4,096 bytes
of what a script printed and no exit status. So the script frames what it prints:

    tunnelwatch-probe 1 NONCE piece NUMBER PIECES START LENGTH SHA256-FIRST gzip|plain
    answers of addresses, as the body is; "-" where none were asked
    a part of the body, in base64
    tunnelwatch-probe 1 NONCE end SHA256

START is the part's place in the base64 text of the whole body, whose LENGTH and SHA-256 are in every piece;
FIRST is the length of the first part, which a request for a further piece hands back. The last line has the
SHA-256 of the lines before it. In place of a piece may stand `changed SHA256` (the body that a further piece
was asked of is not there any more) or `failed WORDS`. What is around the frame does not matter: the agent's
own words, and what the script's tools printed to standard error. What is inside counts as a whole or not
at all: every fault is a `FrameError`, and there is never a part of a report.
"""

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Sequence
from ipaddress import ip_address
from itertools import pairwise
from typing import Literal, cast, get_args

from msgspec import Struct

from facts.probes import Answered, Reach

MOST_ADDRESSES = 64
"""Answers of more might not fit in one piece."""
MOST_PIECES = 64
MOST_BODY = 8 << 20
"""Bytes of an unpacked body."""
MOST_ANSWERS = 64 << 10
"""Bytes of the unpacked answers."""
_QUOTED = 200
"""Characters of a message that an error quotes."""

_MARK = "tunnelwatch-probe 1 "
_NONCE = re.compile(r"[0-9A-Za-z]{1,64}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}-[1-9][0-9]{0,3}", re.ASCII)
_PIECE = re.compile(
    r"piece (?P<number>[1-9]\d?) (?P<pieces>[1-9]\d?) (?P<start>\d{1,7}) (?P<length>\d{1,7})"
    r" (?P<digest>[0-9a-f]{64}-[1-9]\d{0,3}) (?P<coding>gzip|plain)",
    re.ASCII,
)
_SAMPLE = "This is a sample script"
"""What the portal's placeholder prints. Some versions of the Azure CLI have run it in place of the script."""

Coding = Literal["gzip", "plain"]


class FrameError(Exception):
    """A message that does not hold what was asked for; its words say what was seen instead.

    Codes: `no_output`, `no_frame`, `sample_script`, `wrong_nonce`, `truncated_output`, `garbled_output`,
    `changed`, `incomplete`, `too_large`, `probe_failed`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Piece(Struct, frozen=True, kw_only=True):
    """One piece of a report, as one run of the script printed it."""

    number: int
    """From 1."""
    pieces: int
    """How many there are."""
    start: int
    """The place of `part` in the whole."""
    length: int
    """Of the whole, in characters of base64."""
    digest: str
    """The SHA-256 of the whole and the length of the first piece's part: what a request for another piece of
    the same report has to name."""
    coding: Coding
    part: str
    reach: tuple[Reach, ...] = ()
    """Which addresses answered; only in the first piece."""


def parameters(
    nonce: str, *, addresses: Sequence[str] = (), piece: int = 1, digest: str = ""
) -> tuple[tuple[str, str], ...]:
    """Names and values of a run's parameters.

    `addresses` are tried in the first piece's run; for a further piece `digest` is the first one's. Run
    Command puts values into the script as they are, so nothing gets through that a shell could take for more
    than a word. Raises `ValueError` that names what is wrong.
    """
    if not _NONCE.fullmatch(nonce):
        raise ValueError(f"a nonce is made of 1 to 64 letters and digits, not {nonce!r}")
    if not 1 <= piece <= MOST_PIECES:
        raise ValueError(f"there is no piece {piece}: they are numbered from 1 to {MOST_PIECES}")
    if len(addresses) > MOST_ADDRESSES:
        raise ValueError(f"{len(addresses)} addresses are more than {MOST_ADDRESSES}")
    values = [("tw_nonce", nonce)]
    if piece > 1:
        if addresses:
            raise ValueError("addresses are tried with the first piece only")
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"piece {piece} needs the digest of the first piece, not {digest!r}")
        return (*values, ("tw_piece", str(piece)), ("tw_digest", digest))
    if digest:
        raise ValueError("the first piece is asked for without a digest")
    if addresses:
        values.append(("tw_addresses", ",".join(_address(one) for one in addresses)))
    return tuple(values)


def _address(written: str) -> str:
    try:
        address = ip_address(written)
    except ValueError:
        raise ValueError(f"{written!r} is no IP address") from None
    # A zone may hold anything, and says nothing about another node's address.
    if getattr(address, "scope_id", None) is not None:
        raise ValueError(f"{written!r} is an address with a zone")
    return str(address)


def read_piece(message: str, nonce: str) -> Piece:
    """The piece that a run of the script with this nonce printed.

    Raises `FrameError`, also where the script itself says that there is none.
    """
    lines = message.replace("\r\n", "\n").split("\n")
    marks = [at for at, line in enumerate(lines) if _MARK.rstrip() in line]
    if not marks:
        raise _without_frame(message)
    own = f"{_MARK}{nonce} "
    strange = [lines[at] for at in marks if not lines[at].startswith(own)]
    if strange:
        if all(line.startswith(_MARK) for line in strange):
            raise FrameError(
                "wrong_nonce", f"its output is that of another run of the probe: {_quote(message)}"
            )
        raise FrameError("garbled_output", f"the probe's output is garbled: {_quote(message)}")
    heads = [lines[at].removeprefix(own) for at in marks]
    ends = [at for at, head in zip(marks, heads, strict=True) if head.split(" ")[0] == "end"]
    if len(marks) == 1:
        which = "beginning" if ends else "end"
        raise FrameError(
            "truncated_output", f"the {which} of the probe's output is missing: {_quote(message)}"
        )
    if len(marks) > 2 or ends != [marks[1]]:
        raise FrameError("garbled_output", f"it holds more than one answer of the probe: {_quote(message)}")
    text = "".join(f"{line}\n" for line in lines[marks[0] : marks[1]])
    end = f"end {_sha256(text)}"
    if heads[1] != end:
        if end.startswith(heads[1]) and marks[1] == len(lines) - 1:
            raise FrameError(
                "truncated_output", f"the end of the probe's output is missing: {_quote(message)}"
            )
        raise FrameError("garbled_output", f"the probe's output is garbled: {_quote(message)}")
    return _piece(heads[0], lines[marks[0] + 1 : marks[1]], message)


def _without_frame(message: str) -> FrameError:
    if _SAMPLE in message:
        return FrameError(
            "sample_script",
            f"Run Command ran its sample script and not the probe, as some versions do: {_quote(message)}",
        )
    if not re.sub(r"Enable succeeded:|\[std(out|err)\]", "", message).strip():
        return FrameError(
            "no_output",
            "Run Command gave back no output. The node may not reach Azure on TCP 443, as it must",
        )
    return FrameError("no_frame", f"its output holds no answer of the probe: {_quote(message)}")


def _piece(head: str, content: list[str], message: str) -> Piece:
    """What a frame holds whose checksum is right."""
    if head.startswith("changed "):
        raise FrameError("changed", "the node's rules changed while they were being read")
    if head.startswith("failed "):
        raise FrameError("probe_failed", f"the probe says: {_quote(head.removeprefix('failed '))}")
    found = _PIECE.fullmatch(head)
    if not found or len(content) != 2:
        raise FrameError(
            "garbled_output", f"it is framed as no version of the probe known here does: {_quote(message)}"
        )
    coding: Coding = "gzip" if found["coding"] == "gzip" else "plain"
    answers, part = content
    piece = Piece(
        number=int(found["number"]),
        pieces=int(found["pieces"]),
        start=int(found["start"]),
        length=int(found["length"]),
        digest=found["digest"],
        coding=coding,
        part=part,
        reach=() if answers == "-" else _reach(_unpacked(answers, coding, MOST_ANSWERS)),
    )
    if not 1 <= piece.number <= piece.pieces <= MOST_PIECES:
        raise FrameError("garbled_output", f"there is no piece {piece.number} of {piece.pieces}")
    return piece


def join(pieces: Sequence[Piece]) -> bytes:
    """The body of a report from all of its pieces, in any order. Raises `FrameError`."""
    if not pieces:
        raise FrameError("incomplete", "no piece of the probe's report is there")
    if len({(one.digest, one.length, one.pieces, one.coding) for one in pieces}) > 1:
        raise FrameError("changed", "the node's rules changed while they were being read")
    whole = sorted(pieces, key=lambda one: one.number)
    first = whole[0]
    if [one.number for one in whole] != list(range(1, first.pieces + 1)):
        there = ", ".join(str(one.number) for one in whole)
        raise FrameError(
            "incomplete", f"of the {first.pieces} pieces of the probe's report only {there} are there"
        )
    fits = not first.start and all(one.start + len(one.part) == after.start for one, after in pairwise(whole))
    text = "".join(one.part for one in whole)
    if not fits or len(text) != first.length or _sha256(text) != first.digest.partition("-")[0]:
        raise FrameError("garbled_output", "the pieces of the probe's report do not make up the whole")
    return _unpacked(text, first.coding, MOST_BODY)


def _unpacked(text: str, coding: Coding, most: int) -> bytes:
    """What base64 text holds, if it is no more than some bytes."""
    try:
        packed = base64.b64decode(text, validate=True)
        if coding == "plain":
            rest, found, whole = b"", packed, True
        else:
            unpack = zlib.decompressobj(wbits=31)
            found = unpack.decompress(packed, most + 1)
            rest, whole = unpack.unused_data, unpack.eof
    except (binascii.Error, ValueError, zlib.error) as error:
        raise FrameError("garbled_output", f"the probe's report cannot be unpacked ({error})") from error
    if len(found) > most:
        raise FrameError("too_large", f"the probe's report has more than {most >> 10} KiB")
    if rest or not whole:
        raise FrameError(
            "garbled_output", "the probe's report cannot be unpacked (it does not end where it should)"
        )
    return found


def _reach(text: bytes) -> tuple[Reach, ...]:
    """Answers, a line each: `10.240.0.5 refused nc: connect to …`."""
    found = []
    for line in text.decode("utf-8", "replace").splitlines():
        if not line:
            continue
        address, _, rest = line.partition(" ")
        answer, _, said = rest.partition(" ")
        if answer not in get_args(Answered):
            raise FrameError("garbled_output", f"the probe says of an address what cannot be: {_quote(line)}")
        found.append(Reach(address=address, answer=cast("Answered", answer), said=said.strip()))
    return tuple(found)


def _sha256(text: str) -> str:
    # What is no UTF-8 came out of no script of ours, and must not end in another error.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _quote(message: str) -> str:
    """A message's beginning and end, on one line, for people to see."""
    words = " ".join("".join(c if c.isprintable() else " " for c in message).split())
    if len(words) > _QUOTED:
        half = (_QUOTED - 3) // 2
        words = f"{words[:half]} … {words[-half:]}"
    return f'"{words}"'
