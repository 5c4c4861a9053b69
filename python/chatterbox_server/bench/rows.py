"""A measurement of both sides, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

__all__ = ["Row"]


@dataclass(slots=True, kw_only=True)
class Row:
    """One line of a table. Lower is better, except where ``unit`` is a rate."""

    name: str
    unit: str
    """"ms", "s", "MB", "RTF" or "x" (of which more is better)."""
    ours: list[float] = field(default_factory=list)
    """The median of each round."""
    upstream: list[float] = field(default_factory=list)
    """The same of upstream, whose rounds alternated with ours; empty where it cannot or was not to be measured."""
    floor: float | None = None
    """Below which nothing gets on this machine."""
    target: str = ""
    note: str = ""

    def pair(self, ours: Sequence[float], upstream: Sequence[float] | None) -> None:
        """Add a round."""
        if ours:
            self.ours.append(median(ours))
            if upstream:
                self.upstream.append(median(upstream))

    @property
    def ratio(self) -> float | None:
        """How many times better than upstream: the median over the rounds, each with its own neighbour."""
        pairs = list(zip(self.upstream, self.ours, strict=False))
        return median(theirs / ours for theirs, ours in pairs) if pairs and all(self.ours) else None

    @property
    def of_floor(self) -> float | None:
        """How many times the floor it takes."""
        return median(self.ours) / self.floor if self.floor and self.ours else None

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": median(self.ours) if self.ours else None,
            "upstream": median(self.upstream) if self.upstream else None,
            "ratio": self.ratio,
            "floor": self.floor,
            "times_floor": self.of_floor,
            "target": self.target,
            "note": self.note,
            "rounds": {"ours": self.ours, "upstream": self.upstream},
        }
