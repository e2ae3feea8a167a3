"""What a node's own firewalls do to TCP 10250: UFW as it tells it, iptables and nftables as they are."""

from collections.abc import Iterable

from msgspec import Struct

from checks._kubelet import KUBELET
from checks._probed import Probed, Sources, few, unreadable
from facts.filters import Missing
from facts.finding import Reason, Unknown
from facts.probes import Dump
from packets.addresses import IntervalSet, to_prefixes, union
from packets.decisions import Decision, Doubt
from packets.dumps.iptables import read_iptables
from packets.dumps.nftables import read_nftables
from packets.dumps.ufw import read_ufw_status
from packets.iptables import evaluate as evaluate_iptables
from packets.netfilter import Family, Question, Where
from packets.nftables import evaluate as evaluate_nftables
from packets.ufw import RATE_LIMITED, UfwQuestion, UfwRule
from packets.ufw import evaluate as evaluate_ufw

_PORT = IntervalSet(((KUBELET, KUBELET),))


class Filtered(Struct, frozen=True):
    """What one packet filter of a node does to TCP 10250."""

    tool: str
    """What its rules are changed with: `iptables-nft`, `ip6tables-legacy`, `nft` …"""
    decisions: tuple[Decision[Where], ...]
    """Where sources matter; what is allowed is left out."""

    @property
    def refusals(self) -> dict[Where, IntervalSet]:
        """Rules and policies that deny something, with the sources that they deny."""
        found: dict[Where, list[IntervalSet]] = {}
        for decision in self.decisions:
            if decision.verdict == "denied":
                found.setdefault(decision.rule, []).append(decision.sources)
        return {where: union(parts) for where, parts in found.items()}


class Culprit(Struct, frozen=True):
    """Something on a node that turns connections away."""

    check: str
    """The check that finds it."""
    cause: int
    words: str
    rule: str
    sources: IntervalSet


class Guard(Struct, frozen=True):
    """All that is known of a node's own firewalls."""

    culprits: tuple[Culprit, ...]
    unread: tuple[str, ...]
    """What could not be looked at, or may decide, in words."""

    def against(self, sources: IntervalSet) -> Culprit | None:
        """What turns some sources away."""
        return next((one for one in self.culprits if one.sources & sources), None)


def judge_ufw(probed: Probed, sources: Sources) -> tuple[Decision[UfwRule | None], ...] | Missing:
    """What UFW of a node does to TCP 10250, from wherever a machine may be.

    Nothing where it is not installed; raises `ValueError` if it cannot be read.
    """
    ufw = probed.report.ufw
    if isinstance(ufw, Missing):
        return ufw
    if not ufw.installed:
        return ()
    question = UfwQuestion(
        protocol="tcp",
        sources=sources.to(probed),
        ports=_PORT,
        destinations=probed.addresses or None,
        interface=probed.report.interface,
    )
    decisions = evaluate_ufw(read_ufw_status(ufw.status), question)
    return tuple(decision for decision in decisions if sources.matter(decision.sources, probed))


def judge_filters(probed: Probed, sources: Sources) -> tuple[list[Filtered], list[Unknown]]:
    """What iptables and nftables of a node do to TCP 10250, and what of them could not be judged.

    What UFW made in them is left to what UFW itself says, where that comes to the same.
    """
    question = Question.to_node(
        "tcp",
        _PORT,
        sources=sources.to(probed),
        destinations=probed.addresses or None,
        interface=probed.report.interface,
    )
    unknown = [Unknown(reason=reason) for reason in probed.report.unread]
    found = []
    for dump in probed.report.dumps:
        try:
            decisions, doubts = _decisions(dump, question)
        except ValueError as error:
            unknown.append(unreadable(probed.node, f"`{dump.name}`", error))
            continue
        unknown += [_not_shown(probed, dump, doubt) for doubt in doubts]
        matter = tuple(one for one in decisions if sources.matter(one.sources, probed))
        own = _without_ufws(matter, dump, probed, sources)
        found.append(Filtered(tool=dump.name.removesuffix("-save"), decisions=own))
        unknown += [_hangs(probed, dump, one) for one in own if one.verdict == "unknown"]
    return found, unknown


def guard(probed: Probed, sources: Sources) -> Guard:
    """Everything that turns others away from a node, and what could not be looked at."""
    culprits: list[Culprit] = []
    unread: list[str] = []
    try:
        ufw = judge_ufw(probed, sources)
    except ValueError as error:
        unread.append(unreadable(probed.node, "`ufw status verbose`", error).reason.message)
    else:
        if isinstance(ufw, Missing):
            unread.append(ufw.reason.message)
        else:
            culprits += _by_ufw(ufw)
    filters, unknown = judge_filters(probed, sources)
    unread += [one.reason.message for one in unknown]
    culprits += [
        Culprit(
            check="iptables-kubelet-port",
            cause=3,
            words=f"{each.tool}: {named(where, each.tool)}",
            rule=where.text or named(where, each.tool),
            sources=denied,
        )
        for each in filters
        for where, denied in each.refusals.items()
    ]
    return Guard(tuple(culprits), tuple(unread))


def named(where: Where, tool: str) -> str:
    """A rule as `iptables --delete` takes it, its table before it unless it is filter; or the policy.

    Those of nftables with the family and the table, as `nft` takes them.
    """
    if tool == "nft":
        table = f"{where.family} {where.table} "
    else:
        table = "" if where.table == "filter" else f"table {where.table} "
    return f"{table}{where.chain} {where.number}" if where.number else f"policy of {table}{where.chain}"


def _decisions(dump: Dump, question: Question) -> tuple[tuple[Decision[Where], ...], tuple[Doubt, ...]]:
    """What a dump's rules do but allow, and why there may be others; raises `ValueError`."""
    if dump.name == "nft":
        ruleset = read_nftables(dump.text)
        decisions, doubts = evaluate_nftables(ruleset, question), ruleset.doubts
    else:
        family: Family = "ip6" if dump.name.startswith("ip6") else "ip"
        dumps = read_iptables(dump.text, family=family)
        decisions = evaluate_iptables(dumps, question)
        # That legacy tables are there besides is no news: they were listed by themselves.
        doubts = ()
    return tuple(decision for decision in decisions if decision.verdict != "allowed"), tuple(doubts)


def _by_ufw(decisions: Iterable[Decision[UfwRule | None]]) -> list[Culprit]:
    return [
        Culprit(
            check="ufw-kubelet-port",
            cause=2,
            words=f"UFW: {decision.rule.written if decision.rule else 'default (incoming)'}",
            rule=decision.rule.written if decision.rule else "default (incoming)",
            sources=decision.sources,
        )
        for decision in decisions
        if decision.verdict == "denied" or (decision.doubt and decision.doubt.code == RATE_LIMITED)
    ]


def _without_ufws(
    decisions: tuple[Decision[Where], ...], dump: Dump, probed: Probed, sources: Sources
) -> tuple[Decision[Where], ...]:
    """Decisions that UFW does not tell of itself: its chains, and the policy that it sets."""
    if ":ufw" not in dump.text:
        return decisions
    try:
        judged = judge_ufw(probed, sources)
    except ValueError:
        return decisions
    if isinstance(judged, Missing):
        return decisions
    told = union(one.sources for one in judged if one.verdict != "allowed")
    return tuple(one for one in decisions if not (_is_ufws(one.rule) and not one.sources - told))


def _is_ufws(where: Where) -> bool:
    return where.chain.startswith(("ufw-", "ufw6-")) or (where.chain == "INPUT" and not where.number)


def _not_shown(probed: Probed, dump: Dump, doubt: Doubt) -> Unknown:
    message = f'Of node "{probed.node.name}" not all rules are known: {doubt.why} (`{dump.name}`).'
    return Unknown(reason=Reason(code=doubt.code, message=message, resource=probed.node.machine_id))


def _hangs(probed: Probed, dump: Dump, decision: Decision[Where]) -> Unknown:
    assert decision.doubt is not None  # noqa: S101 - of a decision that is unknown
    where, tool = decision.rule, dump.name.removesuffix("-save")
    said = f' ("{where.text}")' if where.text else ""
    message = (
        f'On node "{probed.node.name}" {named(where, tool)} of {tool}{said} decides TCP '
        f"{KUBELET} from {few(to_prefixes(decision.sources))}, but {decision.doubt.why}."
    )
    return Unknown(reason=Reason(code=decision.doubt.code, message=message, resource=probed.node.machine_id))
