"""The first audio of the embedded voice over WebSocket, against the engine's own time for the same text."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from harness import BareEngine, load, running, table

# One utterance each, so that the host hands the engine what the engine by itself is given.
TEXTS = (
    "Hello there.",
    "The train to the coast leaves from platform nine in ten minutes.",
    "When the rain had stopped, the children ran down to the river to see how high the water stood.",
)
AIM = 2.0


def measure(generator: Path, *, quick: bool) -> dict[str, Any]:
    """Take turns: the engine by itself, then the server, so that both meet the same machine."""
    rounds = 5 if quick else 25
    rows = []
    with running("--load-lite") as server, BareEngine({"engine": "auto", "models": ["lite"]}) as engine:
        for text in TEXTS:
            alone: list[float] = []
            served: list[float] = []
            for number in range(rounds + 1):
                own = engine.first_audio_ms(text)
                report = load(generator, "ws", server.address, text=text, says=1, seconds=60)
                # The first round warms both up.
                if number:
                    alone.append(own)
                    served.append(report["first_audio_ms"]["p50"])
            ratios = [host / own for host, own in zip(served, alone, strict=True)]
            rows.append({"text": text, "engine_ms": alone, "served_ms": served, "ratio": statistics.median(ratios)})
    return {"rows": rows}


def render(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    rows = [
        (
            len(row["text"]),
            f"{statistics.median(row['engine_ms']):.1f}",
            f"{statistics.median(row['served_ms']):.1f}",
            f"{row['ratio']:.2f}",
        )
        for row in result["rows"]
    ]
    worst = max(row["ratio"] for row in result["rows"])
    return "\n".join(
        (
            "## First audio of the embedded voice (lite) over WebSocket",
            "",
            table(("characters", "engine alone ms (median)", "over WebSocket ms (median)", "median ratio"), rows),
            "",
            f"Aim: a ratio of at most {AIM:g}: {worst:.2f}, {'reached' if worst <= AIM else 'missed'}.",
        )
    )
