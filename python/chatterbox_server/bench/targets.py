"""What the engine is to reach, as ratios to upstream in the same run (two cores) where nothing else is said."""

from __future__ import annotations

__all__ = ["target"]

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
