"""What an engine answers when it is asked about a set of sources; one shape for all engines."""

from typing import Literal

from msgspec import Struct

from packets.addresses import IntervalSet, to_prefixes


class RulePart(Struct, frozen=True, kw_only=True):
    """What one rule did."""

    name: str
    priority: int
    access: str
    matched: tuple[str, ...]
    """The source addresses of what it decided, as CIDRs."""
    why: str


class PassedOver(Struct, frozen=True, kw_only=True, rename="camel"):
    """A rule that decided nothing, and which of its fields matched no packet that was asked about."""

    name: str
    priority: int
    access: str
    protocol_matched: bool
    source_matched: bool
    source_port_matched: bool
    destination_matched: bool
    destination_port_matched: bool
    why: str


class Answer(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What becomes of the sources that were asked about, as the fewest CIDRs.

    A source is allowed only if all of its traffic is, blocked if any of it is denied, and
    unknown if nothing of it is denied and something hangs on what cannot be known.
    """

    outcome: Literal["allowed", "blocked", "mixed", "unknown"]
    allowed: tuple[str, ...]
    blocked: tuple[str, ...]
    unknown: tuple[str, ...]
    rules: tuple[RulePart, ...]
    passed_over: tuple[PassedOver, ...] | None = None
    """The other rules, if they were asked for."""

    @classmethod
    def of(
        cls,
        asked: IntervalSet,
        *,
        denied: IntervalSet,
        doubtful: IntervalSet,
        rules: tuple[RulePart, ...],
        passed_over: tuple[PassedOver, ...] | None = None,
    ) -> "Answer":
        """Sort sources out: those with traffic that is denied, with some that hangs on doubt, the others."""
        unknown = doubtful - denied
        allowed = asked - denied - unknown
        found: list[Literal["allowed", "blocked", "unknown"]] = []
        found += ["allowed"] if allowed else []
        found += ["blocked"] if denied else []
        found += ["unknown"] if unknown else []
        return cls(
            outcome=found[0] if len(found) == 1 else "mixed",
            allowed=to_prefixes(allowed),
            blocked=to_prefixes(denied),
            unknown=to_prefixes(unknown),
            rules=rules,
            passed_over=passed_over,
        )
