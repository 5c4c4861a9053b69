"""A measurement of both sides, what follows from it, and what the engine is to reach.

Targets are ratios to upstream in the same run (two cores) where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

__all__ = ["Row", "target"]


_RATIOS: dict[tuple[str, str, bool], tuple[float, float]] = {
    ("T3 step, 1 request", "standard", True): (3.5, 4),
    ("T3 step, 1 request", "standard", False): (8, 14),
    ("T3 step, 1 request", "turbo", True): (2, 2.8),
    ("T3 step, 1 request", "turbo", False): (4, 8),
    ("4 s utterance, whole", "standard", True): (2, 2.6),
    ("4 s utterance, whole", "standard", False): (3.5, 6),
    ("4 s utterance, whole", "turbo", True): (2.2, 3),
    ("4 s utterance, whole", "turbo", False): (4, 7),
    ("first audio, streamed", "turbo", False): (3, 4),
}
"""By row, model and whether the precision is exact: at least, and aim."""
_ANY: dict[str, tuple[float, float]] = {
    "8 at once, against in a row": (1.5, 2.5),
    "load": (1 / 0.6, 1 / 0.3),
    "peak memory": (1 / 0.6, 1 / 0.5),
}
_REAL_TIME: dict[tuple[str, bool], str] = {
    ("nano", False): "RTF 0.5 / 0.3",
    ("turbo", False): "RTF 0.55",
}


_MEAN_FLOW: dict[tuple[str, str], tuple[float, float]] = {("4 s utterance, whole", "standard"): (8, 14)}
"""With another model's decoder, by row and model."""


def target(row: str, model: str, *, exact: bool, mean_flow: bool = False) -> str:
    """At least and aim of a row, or nothing."""
    if row == "4 s utterance, real-time factor":
        return _REAL_TIME.get((model, exact), "")
    found = (_MEAN_FLOW.get((row, model)) if mean_flow else None) or _RATIOS.get((row, model, exact)) or _ANY.get(row)
    return "" if found is None else f"{found[0]:.2g}x / {found[1]:.2g}x"


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
        """The ratio to upstream: the median over the rounds, each against the round beside it."""
        pairs = list(zip(self.upstream, self.ours, strict=False))
        return median(theirs / ours for theirs, ours in pairs) if pairs and all(self.ours) else None

    @property
    def of_floor(self) -> float | None:
        """The ratio to the floor."""
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
