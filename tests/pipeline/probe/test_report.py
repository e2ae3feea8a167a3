"""Bodies of reports: what each section becomes, above all those that did not go well."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facts.filters import Missing
from facts.probes import Dump, DumpName, NodeReport, Reach, Ufw
from pipeline.probe.report import read_report

NAMES = get_args(DumpName)
MACHINE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/m"
WELL = """|Ubuntu 22.04.5 LTS
section os ok
|eth0
section interface ok
|Status: inactive
section ufw ok
|*filter
|:INPUT ACCEPT [0:0]
|COMMIT
section iptables-nft-save ok
section ip6tables-nft-save ok
section nft ok
section iptables-legacy-save absent
section ip6tables-legacy-save absent
end ok
"""


def read(body: str | bytes, **others: Any) -> NodeReport:
    """The report of a body."""
    content = body if isinstance(body, bytes) else body.encode()
    named = {"node": "aks-0", "machine_id": MACHINE, "taken_at": "2026-11-25T12:00:00Z", **others}
    return read_report(content, named.pop("reach", ()), **named)


def test_a_report() -> None:
    """Everything in its place; a filter without chains of interest has no dump, and is not unread."""
    reach = (Reach(address="10.240.0.5", answer="open"),)
    assert read(WELL, reach=reach) == NodeReport(
        node="aks-0",
        machine_id=MACHINE,
        taken_at="2026-11-25T12:00:00Z",
        os="Ubuntu 22.04.5 LTS",
        interface="eth0",
        ufw=Ufw(installed=True, status="Status: inactive\n"),
        dumps=(Dump(name="iptables-nft-save", text="*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n"),),
        reach=reach,
    )


@pytest.mark.parametrize(
    ("section", "code", "words"),
    [
        ("section NAME timeout", "timeout", "NAME: it did not finish in time."),
        ("|*filter\nsection NAME timeout", "timeout", "NAME: it did not finish in time."),
        (
            "section NAME failed 4 Could not fetch",
            "tool_failed",
            "NAME: it ended with status 4, saying: Could not",
        ),
        ("section NAME failed 4 ", "tool_failed", "NAME: it ended with status 4."),
        ("|*filter\nsection NAME failed 1 x", "tool_failed", "status 1, saying: x."),
        (
            "section NAME no_tool there are tables, and no command",
            "no_tool",
            ": there are tables, and no command.",
        ),
        ("section NAME perhaps", "tool_failed", "cannot be read"),
        ("section NAME", "tool_failed", "cannot be read"),
        ("|*filter\nsection NAME absent", "tool_failed", "cannot be read"),
        ("section NAME ok\nsection NAME ok", "tool_failed", "cannot be read"),
        ("section NAME absent\nsection NAME ok", "tool_failed", "cannot be read"),
        ("", "timeout", ": the probe's time ran out before it came to that."),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_a_filter_that_could_not_be_read(name: str, section: str, code: str, words: str) -> None:
    """It is unread and has no dump, whatever it printed; the others are as they are."""
    body = "".join(f"section {other} absent\n" for other in NAMES if other != name)
    report = read(f"{body}{section.replace('NAME', name)}\n")
    assert report.dumps == ()
    [reason] = report.unread
    command = "nft list ruleset" if name == "nft" else name
    assert (reason.code, reason.resource) == (code, MACHINE)
    assert words.replace("NAME", command) in reason.message
    assert reason.message.startswith('Could not read all packet filter rules of node "aks-0": ')


@pytest.mark.parametrize(
    ("section", "found"),
    [
        ("section ufw absent", Ufw(installed=False)),
        (
            "|Status: active\n|\n|22 ALLOW\nsection ufw ok",
            Ufw(installed=True, status="Status: active\n\n22 ALLOW\n"),
        ),
        ("section ufw timeout", "timeout"),
        ("|Status: inactive\nsection ufw timeout", "timeout"),
        ("section ufw failed 1 ERROR: problem", "tool_failed"),
        ("section ufw no_tool UFW is enabled", "no_tool"),
        ("section ufw ok", "tool_failed"),
        ("section ufw off", "tool_failed"),
        ("", "timeout"),
    ],
)
def test_ufw(section: str, found: Ufw | str) -> None:
    """Not there, what it says, or why nobody knows."""
    ufw = read(f"{section}\n").ufw
    if isinstance(ufw, Missing):
        assert ufw.reason.code == found
        assert ufw.what == 'the status of UFW on node "aks-0"'
        assert (ufw.resource_id, ufw.reason.resource) == (MACHINE, MACHINE)
        assert ufw.reason.message.startswith(f"Could not read {ufw.what}: ")
    else:
        assert ufw == found


def test_odd_characters() -> None:
    """Neither what is no UTF-8 nor what Python takes for the end of a line breaks a rule."""
    rule = b'-A INPUT -m comment --comment "t\xfcr \x0c \xe2\x80\xa8 \x1c" -j DROP'
    [dump] = read(b"|*filter\n|" + rule + b"\nsection nft ok\nend ok\n").dumps
    assert dump.text.split("\n") == ["*filter", rule.decode("utf-8", "replace"), ""]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ("", "|*filter", "|", "section ", "section nft ", "section ufw ", "end ok", "noise")
            ),
            st.sampled_from(("", "ok", "absent", "timeout", "failed 1", "no_tool x", "\x00", "|")),
        ),
        max_size=12,
    )
)
def test_nothing_is_ever_both(lines: list[tuple[str, str]]) -> None:
    """Every filter that the body does not say is read or absent is unread; no dump is unread as well."""
    body = "".join(f"{start}{rest}\n" for start, rest in lines)
    report = read(body)
    fine = [
        name for name in NAMES if body.count(f"section {name} ok\n") or body.count(f"section {name} absent\n")
    ]
    assert len(report.unread) >= len(NAMES) - len(fine)
    assert len(report.unread) + len(report.dumps) <= len(NAMES)
    if "section ufw ok\n" not in body and "section ufw absent\n" not in body:
        assert isinstance(report.ufw, Missing)


@given(st.binary(max_size=300))
def test_any_bytes(body: bytes) -> None:
    """There is no error: what is not understood is unread."""
    report = read(body)
    assert len(report.unread) == len(NAMES)
    assert isinstance(report.ufw, Missing)
