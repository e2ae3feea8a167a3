"""What is used of a way out: how the numbers of Azure Monitor go up and down, in a few words."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the samples of a time series are computed from, minute by minute."""

    base: float
    """The level now, before rhythm and noise."""
    per_day: float = 0.0
    """Growth in a day; it was lower before."""
    daily: float = 0.0
    """What the rhythm of the day adds at its peak, 14:00 UTC, and takes away at night."""
    noise: float = 0.0
    since: str | None = None
    """From when on there are samples, as a negative duration: `-PT40M`."""
    gaps: float = 0.0
    """Share of the minutes without a sample."""
    floor: float = 0.0
    """What it does not fall below: with growth, the level before the growth began."""
    cap: float | None = None

    def json(self) -> dict[str, Any]:
        """As a `*.metrics.json` has it: what goes without saying is left out."""
        found: dict[str, Any] = {"base": _number(self.base)}
        for name, value in (
            ("perDay", self.per_day),
            ("daily", self.daily),
            ("noise", self.noise),
            ("gaps", self.gaps),
            ("floor", self.floor),
        ):
            if value:
                found[name] = _number(value)
        if self.since:
            found["from"] = self.since
        if self.cap is not None:
            found["cap"] = _number(self.cap)
        return found

    def times(self, factor: float) -> "Shape":
        """The same ups and downs at another level."""
        return replace(
            self,
            base=self.base * factor,
            per_day=self.per_day * factor,
            daily=self.daily * factor,
            noise=self.noise * factor,
            floor=self.floor * factor,
            cap=None if self.cap is None else self.cap * factor,
        )

    def between(self, low: float, high: float) -> "Shape":
        """The part of it above one value and up to another, beginning at 0."""
        if self.most <= low:
            return Shape(base=0, since=self.since, gaps=self.gaps)
        cap = high if self.most > high else self.cap
        return replace(
            self,
            base=self.base - low,
            floor=max(0.0, self.floor - low),
            cap=None if cap is None else cap - low,
        )

    @property
    def most(self) -> float:
        """What it does not exceed; it does not come down from anywhere."""
        highest = max(self.base + self.daily + self.noise, self.floor)
        return highest if self.cap is None else min(highest, self.cap)


def _number(value: float) -> float:
    """Rounded to three places; whole numbers as such."""
    rounded = round(value, 3)
    return int(rounded) if rounded == int(rounded) else rounded


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUse:
    """What one node uses of a load balancer's ports."""

    tcp: Shape
    """Its TCP ports, on all the frontends together."""
    failed: Shape | None = None
    """Connections a minute that fail; Azure has no such time series where none does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayUse:
    """What is used of a NAT gateway."""

    active: Shape = Shape(base=2400, daily=500, noise=150)
    """TCP connections at a time."""
    failed: Shape | None = None
    """TCP connections a minute that fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What a cluster's nodes use of the load balancer, where it is no ordinary use."""

    nodes: Mapping[tuple[str, int], NodeUse] = field(default_factory=dict)
    """By pool and number."""
    others: NodeUse | None = None
    """The nodes that are not named; None: they use 8 to 20 % of their ports."""
    silent: bool = False
    """Whether Azure Monitor has nothing at all."""
