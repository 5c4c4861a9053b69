"""Results as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["draw"]


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Write the figures of either bench as a PNG to ``path``."""
    figure = _engine(results) if results["bench"] == "engine" else _server(results)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=120)


def _engine(results: Mapping[str, Any]) -> Figure:
    """A panel for each model and precision: how many times faster than upstream."""
    measured = [result for result in results["models"] if "rows" in result]
    figure = Figure(figsize=(9, 1 + 4.5 * max(1, len(measured))), layout="constrained")
    panels: Any = figure.subplots(max(1, len(measured)), 1, squeeze=False)
    for result, (axes,) in zip(measured, panels, strict=False):
        _ratios(axes, result)
    return figure


def _ratios(axes: Axes, result: Mapping[str, Any]) -> None:
    compared = [row for row in result["rows"] if row["ratio"] is not None]
    rows = compared or [row for row in result["rows"] if row["times_floor"] is not None]
    values = [row["ratio"] if compared else row["times_floor"] for row in rows]
    bars = axes.barh([row["name"] for row in rows], values, color="#4477aa")
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel("times better than upstream" if compared else "times the floor")
    axes.set_title(f"{result['model']}, {result['precision']}")
    axes.margins(x=0.12)


def _server(results: Mapping[str, Any]) -> Figure:
    """Four panels over the number of listeners, a line for each transport."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    panels: Any = figure.subplots(2, 2)
    (factor, first), (audio, late) = panels
    for name, levels in results["transports"].items():
        _line(factor, name, levels, [level["rtf"]["p95"] for level in levels])
        milliseconds = [_milliseconds(level["first_audio_seconds"]["p95"]) for level in levels]
        _line(first, name, levels, milliseconds)
        _line(audio, name, levels, [level["audio_seconds_per_second"] for level in levels])
        shares = [100 * level["late_chunks"] / level["chunks"] if level["chunks"] else None for level in levels]
        _line(late, name, levels, shares)
    factor.axhline(1.0, color="black", linewidth=0.8)
    titles = ("RTF, p95", "time to first audio, p95, ms", "audio seconds per second", "late chunks, %")
    for axes, title in zip((factor, first, audio, late), titles, strict=True):
        axes.set_title(title)
        axes.set_xlabel("listeners at once")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def _line(axes: Axes, name: str, levels: Sequence[Mapping[str, Any]], values: Sequence[float | None]) -> None:
    known = [(level["concurrency"], value) for level, value in zip(levels, values, strict=True) if value is not None]
    axes.plot([count for count, _ in known], [value for _, value in known], marker="o", label=name)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds
