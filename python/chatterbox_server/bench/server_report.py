"""A sweep as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["server_tables"]

_COLUMNS = (
    ("Conc", 6),
    ("RTF Mean", 10),
    ("RTF P50", 10),
    ("RTF P95", 10),
    ("Throughput", 12),
    ("Audio/s", 10),
    ("First P50", 10),
    ("First P95", 10),
    ("First P99", 10),
    ("Late", 8),
    ("Errors", 8),
)
_WIDTH = sum(width + 3 for _, width in _COLUMNS)


def server_tables(results: Mapping[str, Any]) -> str:
    """All of ``server_command.measure``."""
    head = [
        "=" * 62,
        "BENCHMARK REPORT",
        "=" * 62,
        f"Server: {results['url']}",
        f"Voice ID: {results['voice'] or 'default'}",
        f"Timestamp: {results['began']}",
    ]
    return "\n".join(head + [line for name, levels in results["transports"].items() for line in _sweep(name, levels)])


def _sweep(transport: str, levels: Sequence[Mapping[str, Any]]) -> list[str]:
    spoken = [level for level in levels if level["rtf"]["mean"] is not None]
    best = min(spoken, key=lambda level: level["rtf"]["mean"], default=None)
    faster = [level["concurrency"] for level in spoken if level["rtf"]["mean"] < 1]
    carried = [level["concurrency"] for level in levels if level["carried"]]
    name = {"ws": "WebSocket", "http": "HTTP"}[transport]
    return [
        "",
        f"{name}:",
        f"Optimal concurrency (lowest mean RTF): {best['concurrency'] if best else 'none'}",
        f"Max concurrency with RTF < 1.0: {max(faster, default='none')}",
        f"Most streams in real time: {max(carried, default='none')}",
        "",
        "=" * _WIDTH,
        " | ".join(name.rjust(width) for name, width in _COLUMNS),
        "=" * _WIDTH,
        *(
            " | ".join(cell.rjust(width) for cell, (_, width) in zip(_cells(level), _COLUMNS, strict=True))
            for level in levels
        ),
        "=" * _WIDTH,
    ]


def _cells(level: Mapping[str, Any]) -> list[str]:
    rtf, first = level["rtf"], level["first_audio_seconds"]
    return [
        str(level["concurrency"]),
        *(_three(rtf[name]) for name in ("mean", "p50", "p95")),
        f"{level['requests_per_second']:.2f}/s",
        f"{level['audio_seconds_per_second']:.1f}x",
        *("-" if first[name] is None else f"{1000 * first[name]:.0f} ms" for name in ("p50", "p95", "p99")),
        f"{100 * level['late_chunks'] / level['chunks']:.1f} %" if level["chunks"] else "-",
        str(sum(level["errors"].values())),
    ]


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
