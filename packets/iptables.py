"""iptables: what its tables do to new packets that come in to the node.

They pass PREROUTING of raw, mangle and nat, then INPUT of mangle, filter and security, and have to survive
all of them (https://www.netfilter.org/documentation/HOWTO/netfilter-hacking-HOWTO-3.html; the priorities are
those of include/uapi/linux/netfilter_ipv4.h). Rules of both back ends, nf_tables and legacy, are in force
at once.
"""

import shlex
from collections.abc import Sequence

from packets.addresses import IPV4, IPV6, to_prefixes
from packets.answers import Answer, RulePart
from packets.decisions import Decision, Doubt
from packets.dumps.iptables import IptablesDump
from packets.dumps.iptables_save import words as words_of
from packets.netfilter import Question, Step, Where, covered, judge
from packets.netfilter import answer as answer_of

_WAY = (
    ("raw", "PREROUTING", -300),
    ("mangle", "PREROUTING", -150),
    ("nat", "PREROUTING", -100),
    ("mangle", "INPUT", -150),
    ("filter", "INPUT", 0),
    ("security", "INPUT", 50),
)
"""The base chains that a packet to the node itself meets, in order."""

_LONG = {
    "-s": "--source",
    "-d": "--destination",
    "-p": "--protocol",
    "-i": "--in-interface",
    "-m": "--match",
    "-f": "--fragment",
    "--sport": "--source-port",
    "--dport": "--destination-port",
}
_JUMPS = {"-j": "--jump", "-g": "--goto"}


def steps(dumps: Sequence[IptablesDump]) -> list[Step]:
    """The base chains of some dumps in the order in which a packet meets them."""
    return [
        Step(dump.tables[table], chain, priority)
        for table, chain, priority in _WAY
        for dump in dumps
        if table in dump.tables and chain in dump.tables[table].chains
    ]


def evaluate(dumps: Sequence[IptablesDump], question: Question) -> tuple[Decision[Where], ...]:
    """Judge every packet of a question, by each base chain that is shown.

    Raises `ValueError` for a dump that cannot be understood where a packet comes by.
    """
    return judge(steps(dumps), question)


def answer(dumps: Sequence[IptablesDump], question: Question) -> Answer:
    """Say which sources get through.

    A family of which no dump shows the filter table is unknown, and so is what is allowed where rules may
    be there that no dump shows.
    """
    decisions = evaluate(dumps, question)
    shown = [step for step in steps(dumps) if step.table.name == "filter"]
    unseen = []
    for family, addresses in (("ip", IPV4), ("ip6", IPV6)):
        sources = question.packets.sources & addresses
        if not sources:
            continue
        doubts = [doubt for dump in dumps if dump.family == family for doubt in dump.doubts]
        if not covered(shown) & sources:
            what = "the table filter" if any(dump.family == family for dump in dumps) else "any table"
            version = "IPv4" if family == "ip" else "IPv6"
            doubts.append(
                Doubt("not_shown", f"the text does not show {what} of {version} with its chain INPUT")
            )
        if doubts:
            unseen.append(
                RulePart(
                    name="not shown",
                    priority=0,
                    access="unknown",
                    matched=to_prefixes(sources),
                    why="; ".join(doubt.why for doubt in doubts),
                )
            )
    return answer_of(decisions, question, unseen=unseen)


def delete_commands(where: Where, *, tool: str = "iptables") -> tuple[str, ...]:
    """The command lines that take a rule away, as the runbook has them: by what it says, and by its number.

    `tool` is `iptables`, `ip6tables` or one of their back ends, `iptables-legacy`. For a policy, what sets
    it to ACCEPT. Raises `ValueError` for a rule whose text cannot be taken apart.
    """
    base = [tool] + (["--table", where.table] if where.table != "filter" else [])
    if not where.number:
        return (shlex.join([*base, "--policy", where.chain, "ACCEPT"]),)
    by_number = shlex.join([*base, "--delete", where.chain, str(where.number)])
    if not where.text.startswith("-A "):
        return (by_number,)
    return (shlex.join([*base, "--delete", where.chain, *_specification(where.text)]), by_number)


def _specification(text: str) -> list[str]:
    """The options of a rule, its target first and the names in full; `-m tcp` goes without saying."""
    words = words_of(text)[2:]
    options: list[str] = []
    protocol = ""
    at = 0
    while at < len(words):
        word, value = words[at], words[at + 1 : at + 2]
        if word in _JUMPS:
            return [_JUMPS[word], *words[at + 1 :], *options]
        if word == "-c":
            # Its counters, which `-S -v` prints.
            at += 3
        elif word == "-m" and value == [protocol]:
            at += 2
        elif word in {"--comment", "-p"}:
            # A comment may look like an option.
            options += [_LONG.get(word, word), *value]
            protocol = value[0] if word == "-p" and value else protocol
            at += 2
        else:
            options.append(_LONG.get(word, word))
            at += 1
    return options
