"""Does the server hold on to anything? Memory and file handles under load, with clients that hang up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil
import websockets
from harness import running, table

CLIENTS = 40
HANG_UPS = 0.1
SECONDS, QUICK_SECONDS = 1800, 60
SAMPLE_SECONDS = 2.0
WARM_UP = 0.25
"""The first share of the samples does not count: allocators and pools grow to their size."""
MOST_MB_A_MINUTE = 1.0
SENTENCE = "The quick brown fox jumps over the lazy dog. "


async def speak_http(client: httpx.AsyncClient, url: str, text: str, leave: bool) -> str:
    async with client.stream("POST", url + "/api/tts", json={"text": text}) as answer:
        async for _ in answer.aiter_raw():
            if leave:
                return "hung up"
    return f"http {answer.status_code}"


async def speak_ws(url: str, text: str, leave: bool) -> str:
    async with websockets.connect("ws" + url.removeprefix("http") + "/ws/tts", max_queue=None) as socket:
        await socket.recv()
        await socket.send(json.dumps({"type": "say", "text": text}))
        async for message in socket:
            kind = json.loads(message)["type"]
            if leave and kind == "chunk":
                socket.transport.abort()
                return "hung up"
            if kind in ("done", "error"):
                return f"ws {kind}"
    return "ws closed"


async def talk(url: str, seed: int, until: float, outcomes: Counter[str]) -> None:
    """One client: a request after the other, over HTTP and WebSocket, of one to six sentences."""
    dice = random.Random(seed)
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        while time.monotonic() < until:
            text, leave = SENTENCE * dice.randint(1, 6), dice.random() < HANG_UPS
            speaking = speak_http(client, url, text, leave) if dice.random() < 0.5 else speak_ws(url, text, leave)
            outcomes[await speaking] += 1


async def watch(pid: int, until: float, samples: list[tuple[float, float, int]]) -> None:
    process = psutil.Process(pid)
    began = time.monotonic()
    while time.monotonic() < until:
        samples.append((time.monotonic() - began, process.memory_info().rss / 2**20, process.num_fds()))
        await asyncio.sleep(SAMPLE_SECONDS)


async def soak(url: str, pid: int, seconds: float) -> tuple[Counter[str], list[tuple[float, float, int]]]:
    outcomes: Counter[str] = Counter()
    samples: list[tuple[float, float, int]] = []
    until = time.monotonic() + seconds
    await asyncio.gather(watch(pid, until, samples), *(talk(url, seed, until, outcomes) for seed in range(CLIENTS)))
    return outcomes, samples


def measure(generator: Path, *, quick: bool) -> dict[str, Any]:
    del generator  # it never hangs up
    arguments = ("--engine", "fake", "--fake-rtf", "0.2")
    with running(*arguments) as server:
        url = f"http://{server.address}"
        outcomes, samples = asyncio.run(soak(url, server.pid, QUICK_SECONDS if quick else SECONDS))
        process = psutil.Process(server.pid)
        with contextlib.suppress(psutil.Error):
            time.sleep(2)
        after = (process.memory_info().rss / 2**20, process.num_fds())
    steady = samples[int(len(samples) * WARM_UP) :]
    slope, _ = statistics.linear_regression([at for at, _, _ in steady], [rss for _, rss, _ in steady])
    return {
        "outcomes": dict(outcomes),
        "minutes": samples[-1][0] / 60,
        "rss_mb": {"first": samples[0][1], "steady": steady[0][1], "last": steady[-1][1], "after": after[0]},
        "mb_a_minute": slope * 60,
        "file_handles": {"most": max(fds for _, _, fds in samples), "before": samples[0][2], "after": after[1]},
    }


def render(result: dict[str, Any]) -> str:
    rss, handles = result["rss_mb"], result["file_handles"]
    rows = [
        ["minutes", f"{result['minutes']:.1f}"],
        ["requests", sum(result["outcomes"].values())],
        *([f"… {outcome}", count] for outcome, count in sorted(result["outcomes"].items())),
        ["memory, MB: start, warm, end, idle after", " / ".join(f"{rss[key]:.1f}" for key in rss)],
        ["memory, MB a minute once warm", f"{result['mb_a_minute']:.2f}"],
        ["file handles: start, most, idle after", f"{handles['before']} / {handles['most']} / {handles['after']}"],
    ]
    verdict = "kept" if result["mb_a_minute"] < MOST_MB_A_MINUTE else "MISSED"
    head = "## Soak: what is held on to"
    return f"{head}\n\n{table(['', ''], rows)}\n\nAim: less than {MOST_MB_A_MINUTE} MB a minute: {verdict}."
