"""Messages of Run Command: what comes out of them whole, and what is refused with which words."""

import base64
import gzip
import hashlib
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facts.probes import Reach
from pipeline.probe import frame
from pipeline.probe.frame import FrameError, Piece, join, parameters, read_piece

NONCE = "0123456789abcdef"
BODY = b"|Ubuntu 22.04.5 LTS\nsection os ok\nsection interface ok\nend ok\n"
ANSWERS = (
    b"10.240.0.5 open \n10.240.0.6 refused nc: connect to 10.240.0.6 port 10250 failed: Connection refused\n"
)
REACH = (
    Reach(address="10.240.0.5", answer="open"),
    Reach(
        address="10.240.0.6",
        answer="refused",
        said="nc: connect to 10.240.0.6 port 10250 failed: Connection refused",
    ),
)


def packed(content: bytes, coding: str = "gzip") -> str:
    """As the script packs it."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0) if coding == "gzip" else content).decode()


def sha256(text: str) -> str:
    """Of text, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def framed(*lines: str, nonce: str = NONCE) -> str:
    """What the script prints."""
    text = "".join(f"{line}\n" for line in (f"tunnelwatch-probe 1 {nonce} {lines[0]}", *lines[1:]))
    return f"\n{text}tunnelwatch-probe 1 {nonce} end {sha256(text)}\n"


def message(out: str, err: str = "") -> str:
    """What Run Command makes of what a script printed."""
    return f"Enable succeeded: \n[stdout]\n{out}\n[stderr]\n{err}"


def whole(text: str, at: Sequence[int] = (), *, answers: str = "-", coding: str = "gzip") -> list[str]:
    """The frames of a packed body, cut at some places."""
    cuts = [0, *at, len(text)]
    parts = [text[a:b] for a, b in pairwise(cuts)]
    digest = f"{sha256(text)}-3600"
    return [
        framed(
            f"piece {n} {len(parts)} {cuts[n - 1]} {len(text)} {digest} {coding}",
            answers if n == 1 else "-",
            part,
        )
        for n, part in enumerate(parts, 1)
    ]


def code_of(said: str, nonce: str = NONCE) -> str:
    """Why a message is refused."""
    with pytest.raises(FrameError) as caught:
        read_piece(said, nonce)
    return caught.value.code


# --- parameters ----------------------------------------------------------------------------------

DIGEST = f"{'0' * 64}-3600"


@pytest.mark.parametrize(
    ("given_", "values"),
    [
        ({}, (("tw_nonce", "n1"),)),
        (
            {"addresses": ["10.240.0.4", "FD00::0004"]},
            (("tw_nonce", "n1"), ("tw_addresses", "10.240.0.4,fd00::4")),
        ),
        ({"piece": 2, "digest": DIGEST}, (("tw_nonce", "n1"), ("tw_piece", "2"), ("tw_digest", DIGEST))),
    ],
)
def test_parameters(given_: dict[str, object], values: tuple[tuple[str, str], ...]) -> None:
    """Names as the script knows them; what is not needed is not sent."""
    assert parameters("n1", **given_) == values  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("nonce", "given_", "words"),
    [
        ("", {}, "nonce"),
        ("a b", {}, "'a b'"),
        ("$(id)", {}, "nonce"),
        ("n1\n", {}, "nonce"),
        ("٣", {}, "nonce"),
        ("n1", {"addresses": ["10.0.0.1;reboot"]}, "'10.0.0.1;reboot' is no IP address"),
        ("n1", {"addresses": ["10.0.0.1", "$(reboot)"]}, r"'\$\(reboot\)' is no IP address"),
        ("n1", {"addresses": ["10.0.0.1 10.0.0.2"]}, "is no IP address"),
        ("n1", {"addresses": ["10.0.0.1\n"]}, "is no IP address"),
        ("n1", {"addresses": ["10.0.0.0/24"]}, "is no IP address"),
        ("n1", {"addresses": [""]}, "'' is no IP address"),
        ("n1", {"addresses": ["fe80::1%eth0;reboot"]}, "zone"),
        ("n1", {"addresses": ["10.0.0.1"] * 65}, "65 addresses are more than 64"),
        ("n1", {"addresses": ["10.0.0.1"], "piece": 2, "digest": DIGEST}, "first piece only"),
        ("n1", {"piece": 0}, "no piece 0"),
        ("n1", {"piece": 65, "digest": DIGEST}, "no piece 65"),
        ("n1", {"piece": 2}, "needs the digest"),
        ("n1", {"piece": 2, "digest": f"{DIGEST};id"}, "needs the digest"),
        ("n1", {"piece": 2, "digest": f"{DIGEST}\n"}, "needs the digest"),
        ("n1", {"digest": DIGEST}, "without a digest"),
    ],
)
def test_parameters_that_are_refused(nonce: str, given_: dict[str, object], words: str) -> None:
    """Values stand unquoted in a script that root runs; the error names the bad one."""
    with pytest.raises(ValueError, match=words):
        parameters(nonce, **given_)  # type: ignore[arg-type]


@given(
    st.text(max_size=20), st.lists(st.text(max_size=20), max_size=3), st.integers(0, 70), st.text(max_size=80)
)
def test_no_value_is_more_than_a_word(nonce: str, addresses: list[str], piece: int, digest: str) -> None:
    """Whatever is given: refused, or harmless without quotes."""
    try:
        values = parameters(nonce, addresses=addresses, piece=piece, digest=digest)
    except ValueError:
        return
    harmless = set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz:.,_-")
    assert all(value and set(value) <= harmless for _, value in values)


# --- one piece -----------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["gzip", "plain"])
def test_a_report_in_one_piece(coding: str) -> None:
    """The body as it was, and the answers beside it."""
    [out] = whole(packed(BODY, coding), answers=packed(ANSWERS, coding), coding=coding)
    piece = read_piece(message(out), NONCE)
    assert (piece.number, piece.pieces, piece.reach) == (1, 1, REACH)
    assert join([piece]) == BODY


@pytest.mark.parametrize(
    "around",
    [
        lambda out: message(out, "nc: some warning\n# Warning: iptables-legacy tables present\n"),
        lambda out: message(f"profile says hello{out}"),
        lambda out: message(f"{out}bye\n"),
        lambda out: message(out).replace("\n", "\r\n"),
        lambda out: out,
        lambda out: out.strip(),
    ],
)
def test_what_is_around_does_not_matter(around: object) -> None:
    """Words before and after, on lines of their own; line ends of Windows."""
    [out] = whole(packed(BODY))
    assert callable(around)
    assert join([read_piece(around(out), NONCE)]) == BODY


[GOOD] = whole(packed(BODY), answers=packed(ANSWERS))
HEAD, ANSWER_LINE, PART, END = GOOD.strip().split("\n")


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ("", "no_output", "no output"),
        (message(""), "no_output", "TCP 443"),
        (
            message(
                "This is a sample script\n"
                "Optional parameters: /var/lib/waagent/run-command/download/0/script.sh\n"
            ),
            "sample_script",
            "sample script",
        ),
        (message("", "there is no awk on this node\n"), "no_frame", "there is no awk on this node"),
        (message("\x1b[31mSegmentation\x00 fault\x07"), "no_frame", "[31mSegmentation fault"),
        (message(GOOD.replace(NONCE, "another")), "wrong_nonce", "another run"),
        (message(GOOD.replace(NONCE, f"{NONCE}0")), "wrong_nonce", "another run"),
        (message(GOOD + GOOD), "garbled_output", "more than one answer"),
        (message(GOOD + GOOD.replace(NONCE, "another")), "wrong_nonce", "another run"),
        (message(f"{HEAD}\n{ANSWER_LINE}\n{PART}\n"), "truncated_output", "the end of"),
        (message(f"{PART}\n{END}\n"), "truncated_output", "the beginning of"),
        (GOOD[:-10], "truncated_output", "the end of"),
        (message(f"{END}\n{HEAD}\n"), "garbled_output", "more than one answer"),
        (message(f"{HEAD}\n{ANSWER_LINE}\n{PART}\n{END} trailing\n"), "garbled_output", "garbled"),
        (message(f"{HEAD}\n{ANSWER_LINE}\nnoise\n{PART}\n{END}\n"), "garbled_output", "garbled"),
        (message(f"{HEAD}\n{PART}\n{END}\n"), "garbled_output", "garbled"),
        (message(GOOD.replace(PART, PART[:-1])), "garbled_output", "garbled"),
        (message(f"x{GOOD.lstrip()}"), "garbled_output", "garbled"),
        (message(framed("changed 00")), "changed", "changed while they were being read"),
        (message(framed("failed the rules are too many")), "probe_failed", "the rules are too many"),
        (message(framed("piece 1 1")), "garbled_output", "no version of the probe"),
        (message(framed("something new", "-", "-")), "garbled_output", "no version of the probe"),
        (message(framed(f"piece 1 1 0 4 {DIGEST} zstd", "-", "AAAA")), "garbled_output", "no version of"),
        (message(framed(f"piece 3 2 0 4 {DIGEST} plain", "-", "AAAA")), "garbled_output", "no piece 3 of 2"),
        (
            message(framed(f"piece 1 65 0 4 {DIGEST} plain", "-", "AAAA")),
            "garbled_output",
            "no piece 1 of 65",
        ),
        (
            message(whole(packed(BODY), answers=packed(b"10.0.0.1 perhaps\n"))[0]),
            "garbled_output",
            "10.0.0.1 perhaps",
        ),
        (message(whole(packed(BODY), answers="AAAA")[0]), "garbled_output", "cannot be unpacked"),
        (message(whole(packed(BODY), answers=packed(bytes(1 << 20)))[0]), "too_large", "64 KiB"),
    ],
)
def test_what_is_refused(said: str, code: str, words: str) -> None:
    """Each with its code, and with words that quote what was seen, safe to print."""
    with pytest.raises(FrameError) as caught:
        read_piece(said, NONCE)
    assert (caught.value.code, words in str(caught.value)) == (code, True), str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 350


def test_a_long_message_is_quoted_from_both_ends() -> None:
    """Two hundred characters of it at most."""
    with pytest.raises(FrameError) as caught:
        read_piece(message("begun " + "x" * 5_000 + " ended", "the last word"), NONCE)
    quoted = str(caught.value).partition('"')[2].rpartition('"')[0]
    assert len(quoted) <= 200
    assert "begun" in quoted
    assert quoted.endswith("the last word")


@given(st.integers(0, len(message(GOOD))))
def test_no_beginning_is_taken_for_the_whole(kept: int) -> None:
    """A message that ends early: what was framed, or an error."""
    _exact_or_refused(message(GOOD)[:kept])


@given(st.integers(0, len(message(GOOD))))
def test_no_end_is_taken_for_the_whole(lost: int) -> None:
    """A message of which Run Command kept the end: what was framed, or an error."""
    _exact_or_refused(message(GOOD)[lost:])


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 6))
def test_no_flipped_bit_gets_through(at: int, bit: int) -> None:
    """Wherever it is in the frame."""
    _exact_or_refused(message(GOOD[:at] + chr(ord(GOOD[at]) ^ (1 << bit)) + GOOD[at + 1 :]))


@given(st.integers(0, len(message(GOOD))), st.text(max_size=60))
def test_no_foreign_text_gets_in(at: int, text: str) -> None:
    """Wherever it is in the message, surrogates included."""
    said = message(GOOD)
    _exact_or_refused(said[:at] + text + said[at:])


@given(st.text(st.characters(exclude_categories=[]), max_size=300))
def test_anything_may_come(said: str) -> None:
    """There is no other error."""
    assert code_of(said) in {"no_output", "no_frame"}


def _exact_or_refused(said: str) -> None:
    try:
        piece = read_piece(said, NONCE)
    except FrameError:
        return
    assert join([piece]) == BODY
    assert piece.reach == REACH


# --- all pieces ----------------------------------------------------------------------------------


def pieces(body: bytes = BODY, at: Sequence[int] = (20, 50), coding: str = "gzip") -> list[Piece]:
    """A report's pieces, as they are read."""
    return [read_piece(message(out), NONCE) for out in whole(packed(body, coding), at, coding=coding)]


@given(
    st.binary(max_size=2_000).flatmap(
        lambda body: st.tuples(
            st.just(body),
            st.lists(st.integers(0, len(packed(body))), max_size=8).map(sorted),
            st.randoms(use_true_random=False),
        )
    )
)
def test_any_cut_any_order(case: tuple[bytes, list[int], object]) -> None:
    """The body comes out as it went in, whatever the sizes of the pieces."""
    body, at, random = case
    there = pieces(body, at)
    random.shuffle(there)  # type: ignore[attr-defined]
    assert join(there) == body


@pytest.mark.parametrize(
    ("there", "code", "words"),
    [
        ([], "incomplete", "no piece"),
        (pieces()[:2], "incomplete", "only 1, 2 are there"),
        (pieces()[1:], "incomplete", "only 2, 3 are there"),
        ([*pieces(), pieces()[0]], "incomplete", "only 1, 1, 2, 3 are there"),
        ([*pieces()[:2], pieces(BODY + b"x")[2]], "changed", "changed"),
        ([*pieces()[:2], pieces(at=(20, 51))[2]], "garbled_output", "do not make up the whole"),
        ([pieces()[0], pieces(at=(20, 40))[1], pieces(at=(20, 40))[2]], None, ""),
    ],
)
def test_pieces_that_do_not_belong_together(there: list[Piece], code: str | None, words: str) -> None:
    """Never a report of some of them."""
    if code is None:
        assert join(there) == BODY
        return
    with pytest.raises(FrameError, match=words) as caught:
        join(there)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("text", "coding", "code"),
    [
        ("AAAA", "gzip", "garbled_output"),
        ("AAA", "plain", "garbled_output"),
        ("A!AA", "plain", "garbled_output"),
        (packed(BODY)[:40], "gzip", "garbled_output"),
        (base64.b64encode(gzip.compress(BODY, mtime=0) + b"more").decode(), "gzip", "garbled_output"),
        (base64.b64encode(gzip.compress(BODY, mtime=0) * 2).decode(), "gzip", "garbled_output"),
        (packed(bytes(frame.MOST_BODY + 1)), "gzip", "too_large"),
        (packed(bytes(100 * frame.MOST_BODY)), "gzip", "too_large"),
    ],
)
def test_bodies_that_cannot_be_unpacked(text: str, coding: str, code: str) -> None:
    """Though their checksums are right; what unpacks to gigabytes is left packed."""
    [out] = whole(text, coding=coding)
    with pytest.raises(FrameError) as caught:
        join([read_piece(message(out), NONCE)])
    assert caught.value.code == code


def test_the_largest_body() -> None:
    """To the byte."""
    body = bytes(frame.MOST_BODY)
    assert join(pieces(body, at=())) == body
