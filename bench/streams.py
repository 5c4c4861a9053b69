"""How many WebSocket streams this machine carries in real time, load generator included."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from harness import LoadRun, Meter, Server, running, table

CHUNK_MS = 40
FAKE_RTF = 0.8
"""The engine is ahead of its listeners by a fifth, whatever their number: what comes late was late in the host."""
LATE_MS = 20.0
FIRST_TRIAL, MOST = 64, 4096
AIM_STREAMS = 300
TEXT = "A listener hears every word of this text at the pace of speech, and the words that follow come in time as well."


def measure(generator: Path, *, quick: bool) -> dict[str, Any]:
    """Search the largest number of streams, for text and for binary frames."""
    result = {}
    for name, binary in (("text", False), ("binary", True)):
        engine = ("--engine", "fake", "--fake-rtf", str(FAKE_RTF), "--fake-chunk-ms", str(CHUNK_MS))
        with running(*engine) as server:
            result[name] = _search(generator, server, binary=binary, quick=quick)
    return result


def _search(generator: Path, server: Server, *, binary: bool, quick: bool) -> list[dict[str, Any]]:
    """Double until it is too many, then halve the gap down to an eighth of what is carried; all trials in order.

    Too many is what failed twice: the machine may have had something else to do for a moment.
    """
    trials: list[dict[str, Any]] = []
    carried, refused, streams = 0, 0, FIRST_TRIAL * (4 if quick else 1)
    while streams <= MOST:
        for _ in range(1 if quick else 2):
            trial = _trial(generator, server, streams, binary=binary, quick=quick)
            trials.append(trial)
            if trial["carried"]:
                break
        if trials[-1]["carried"]:
            carried = streams
        else:
            refused = streams
        if refused and (refused - carried <= max(8, carried // 8) or (quick and carried)):
            break
        streams = (carried + refused) // 2 if refused else 2 * streams
    return trials


def _trial(generator: Path, server: Server, streams: int, *, binary: bool, quick: bool) -> dict[str, Any]:
    ramp, warmup, seconds = (0.5, 1.0, 2.0) if quick else (1.0, 1.5, 6.0)
    run = LoadRun(
        generator,
        "ws",
        server.address,
        text=TEXT,
        streams=streams,
        chunk_ms=CHUNK_MS,
        binary=binary,
        ramp=ramp,
        warmup=warmup,
        seconds=seconds,
    )
    time.sleep(ramp + warmup)
    meters = {"server": Meter(server.pid), "generator": Meter(run.pid)}
    # Both are read while the load is still on.
    time.sleep(0.9 * seconds)
    costs = {name: meter.read() for name, meter in meters.items()}
    report = run.report()
    carried = not report["errors"] and report["streams_served"] == streams and report["lateness_ms"]["p99"] < LATE_MS
    # Cancelled requests must have ended before the next trial.
    time.sleep(0.5)
    return {
        "streams": streams,
        "carried": carried,
        "server_cores": costs["server"].cores,
        "generator_cores": costs["generator"].cores,
        "server_rss_mb": costs["server"].rss_mb,
        "report": report,
    }


def render(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    rows = []
    best = {}
    for name, trials in result.items():
        best[name] = max((trial["streams"] for trial in trials if trial["carried"]), default=0)
        for trial in sorted(trials, key=lambda trial: int(trial["streams"])):
            late = trial["report"]["lateness_ms"]
            rows.append(
                (
                    name,
                    trial["streams"],
                    "yes" if trial["carried"] else "no",
                    f"{late['p50']:.1f}",
                    f"{late['p99']:.1f}",
                    f"{late['max']:.1f}",
                    f"{trial['server_cores']:.2f}",
                    f"{trial['generator_cores']:.2f}",
                    f"{trial['server_rss_mb']:.0f}",
                    sum(trial["report"]["errors"].values()),
                )
            )
    head = ("frames", "streams", "carried", "late p50 ms", "p99 ms", "max ms", "server cores", "generator cores")
    verdict = "reached" if min(best.values()) >= AIM_STREAMS else "missed"
    return "\n".join(
        (
            f"## WebSocket streams of {CHUNK_MS} ms chunks in real time (p99 less than {LATE_MS:g} ms late)",
            "",
            table((*head, "server RSS MB", "errors"), rows),
            "",
            ", ".join(f"{name} frames: {count} streams" for name, count in best.items())
            + f". Aim: at least {AIM_STREAMS} on two cores, {verdict}.",
        )
    )
