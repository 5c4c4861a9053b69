"""How much later than the engine by itself a client has its first audio: the host's own time."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from harness import BareEngine, echo, load, running, table

TEXT = "One second here."
"""The fake engine speaks 60 ms for each character."""
SPOKEN_MS = 60 * len(TEXT)
ALONE_MS = 25
"""A stream by itself asks this often, or there would be too few requests for a percentile."""
STREAMS = (1, 32, 256)
AIM_MS, AIM_STREAMS = 3.0, 32
ENGINE: dict[str, object] = {"engine": "fake", "fake_rtf": 0.0, "fake_chunk_ms": 200}


def measure(generator: Path, *, quick: bool) -> dict[str, Any]:
    """Measure HTTP, WebSocket and the floor at each number of streams."""
    seconds, warmup = (2.5, 0.5) if quick else (12, 2)
    with BareEngine(ENGINE) as engine:
        bare = statistics.median(engine.first_audio_ms(TEXT) for _ in range(200))
    rows = []
    with running("--engine", "fake", "--fake-rtf", "0") as server, echo(generator) as echoing:
        for streams in STREAMS:
            period = ALONE_MS if streams == 1 else SPOKEN_MS
            pace = {"streams": streams, "period_ms": period, "seconds": seconds, "warmup": warmup}
            for name, mode, address, binary in (
                ("TCP echo", "tcp", echoing, {}),
                ("HTTP", "http", server.address, {}),
                ("WebSocket", "ws", server.address, {}),
                ("WebSocket, binary", "ws", server.address, {"binary": True}),
            ):
                if quick and binary:
                    continue
                report = load(generator, mode, address, text=TEXT, **pace, **binary)
                own = 0.0 if mode == "tcp" else bare
                first = report["first_audio_ms"]
                added = {key: max(0.0, first[key] - own) for key in ("p50", "p99", "max")}
                rows.append({"streams": streams, "over": name, "added_ms": added, "report": report})
    return {"engine_first_audio_ms": bare, "rows": rows}


def render(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    rows = [
        (
            row["streams"],
            row["over"],
            *(f"{row['added_ms'][key]:.2f}" for key in ("p50", "p99", "max")),
            row["report"]["first_audio_ms"]["count"],
            sum(row["report"]["errors"].values()),
        )
        for row in result["rows"]
    ]
    worst = max(
        row["added_ms"]["p99"] for row in result["rows"] if row["streams"] == AIM_STREAMS and row["over"] != "TCP echo"
    )
    verdict = "reached" if worst <= AIM_MS else "missed"
    return "\n".join(
        (
            "## Time that the host adds to the first audio",
            "",
            table(("streams", "over", "p50 ms", "p99 ms", "max ms", "requests", "errors"), rows),
            "",
            f"The engine's own time, {result['engine_first_audio_ms']:.3f} ms, is subtracted; TCP echo is the floor.",
            f"Aim: p99 of at most {AIM_MS:g} ms at {AIM_STREAMS} streams: {worst:.2f} ms, {verdict}.",
        )
    )
