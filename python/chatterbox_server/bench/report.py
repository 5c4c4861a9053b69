"""Results as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["engine_tables", "server_tables", "table"]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns stand under each other."""
    widths = [max(len(cells[column]) for cells in (head, *rows)) for column in range(len(head))]
    # The first column is words, the others are figures.
    lines = [
        "| " + " | ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]) + " |"
        for cells in (head, *rows)
    ]
    rule = "|" + "|".join("-" * (width + 1) + (":" if column else "-") for column, width in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def engine_tables(results: Mapping[str, Any]) -> str:
    """All of ``engine.measure``."""
    rates = results["rates"]
    parts = [
        f"Rates for the floors: {rates['read_bytes'] / 1e9:.1f} GB/s read, {rates['flops'] / 1e9:.0f} GFLOP/s.",
        *(_model(result) for result in results["models"]),
    ]
    return "\n\n".join(parts)


def _model(result: Mapping[str, Any]) -> str:
    title = f"## {result['model']}, {result['precision']}"
    if "unavailable" in result:
        return f"{title}\n\nNot measured: {result['unavailable']}"
    head = ("", "this", "upstream", "ratio", "floor", "this / floor", "target")
    parts = [title, table(head, [_row(row) for row in result["rows"]])]
    if result["throughput"]:
        rates = [(f"{each['requests']}", f"{each['audio_seconds_per_second']:.2f}") for each in result["throughput"]]
        parts.append(table(("utterances at once", "audio s/s"), rates))
    if result["lengths"]:
        parts.append(
            table(("length, s", "s", "s per s of audio", "memory, MB"), [_length(e) for e in result["lengths"]])
        )
    if distance := result["distance"]:
        parts.append(
            f"Distance from fp32: logit KL {distance['logit_kl']:.2g} nats, likeliest token the same "
            f"{100 * distance['top1']:.1f} %, log mel {distance['mel_db']:.2f} dB "
            f"(another seed: {distance['other_seed_db']:.2f} dB)"
        )
    if "without_upstream" in result:
        parts.append(f"Without upstream: {result['without_upstream']}")
    parts += [f"{name}: not measured: {reason}" for name, reason in result["skipped"].items()]
    return "\n\n".join(parts)


def _row(row: Mapping[str, Any]) -> list[str]:
    unit = row["unit"]
    name = f"{row['name']}, {unit}" + (f" ({row['note']})" if row["note"] else "")
    ratio, of_floor = row["ratio"], row["times_floor"]
    return [
        name,
        _figure(row["ours"]),
        _figure(row["upstream"]),
        "" if ratio is None else f"{ratio:.2f}x",
        _figure(row["floor"]),
        "" if of_floor is None else f"{of_floor:.1f}x",
        row["target"],
    ]


def _length(each: Mapping[str, float]) -> list[str]:
    per_second = each["seconds"] / each["audio_seconds"] if each["audio_seconds"] else float("nan")
    return [f"{each['length_seconds']:g}", f"{each['seconds']:.2f}", f"{per_second:.2f}", f"{each['memory_mb']:.0f}"]


def _figure(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


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
