"""How many listeners an engine serves in real time, profile by profile, without a server around it.

``python bench/listeners.py MODEL_PATH --model turbo`` needs a checkpoint, which may have random weights: every
utterance is cut off at one length. Each listener asks for an utterance, plays it as it comes, and asks for the next
when it has been played; they start one after the other. The engine is called from one thread, as the server does.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from chatterbox_server._core import Audio, Done, Failed, LoadSettings, S3GenSettings, Speak
from chatterbox_server.chatterbox.model_spec import PROFILES
from chatterbox_server.engine import Engine
from chatterbox_server.loading import load

TEXT = "The quick brown fox jumps over the lazy dog, and then it goes home to sleep until the sun is up again. " * 3
BYTES_PER_SECOND = 4 * 24_000
LATE_SECONDS = 0.02
"""A player's buffer against jitter of the network."""
CARRIED_SHARE = 0.01
"""Utterances that may have a gap."""


@dataclass
class Playback:
    """An utterance, as it is played."""

    asked: float
    first: float | None = None
    ends: float = 0.0
    gap: float = 0.0

    def take(self, seconds: float, now: float) -> None:
        if self.first is None:
            self.first, self.ends = now - self.asked, now
        self.gap += max(0.0, now - self.ends - LATE_SECONDS)
        self.ends = max(self.ends, now) + seconds


@dataclass
class Room:
    """Listeners of one engine."""

    engine: Engine
    seconds: float
    stream: bool = True
    number: int = 0
    busy: dict[int, Playback] = field(default_factory=dict)
    playbacks: list[Playback] = field(default_factory=list)

    def serve(self, listeners: int, duration: float) -> float:
        """Serve so many for so long; gives the seconds of audio made in a second."""
        began = time.perf_counter()
        # One after the other within an utterance's length, so that they do not all ask at once.
        asking = [began + self.seconds * listener / listeners for listener in range(listeners)]
        made = 0.0
        while (now := time.perf_counter()) < began + duration:
            commands = [self._ask(when) for when in asking if when <= now]
            asking = [when for when in asking if when > now]
            if self.engine.idle and not commands:
                time.sleep(max(0.0, min(asking) - now))
                continue
            made += self._take(self.engine.step(commands), asking)
        made /= time.perf_counter() - began
        for playback in self.busy.values():
            # A listener that has waited long without audio counts as well.
            playback.first = time.perf_counter() - playback.asked if playback.first is None else playback.first
            self.playbacks.append(playback)
        self._empty()
        return made

    def whole(self, requests: int, *, at_once: bool) -> float:
        """Seconds for utterances that are delivered whole."""
        self.stream = False
        began = time.perf_counter()
        groups = [requests] if at_once else [1] * requests
        for count in groups:
            self._take(self.engine.step([self._ask(began) for _ in range(count)]), [])
            self._empty()
        self.stream = True
        return time.perf_counter() - began

    def _ask(self, when: float) -> Speak:
        self.number += 1
        self.busy[self.number] = Playback(when)
        return Speak(
            id=self.number,
            model=self.engine.models[0].name,
            text=TEXT,
            seed=self.number,
            max_audio_seconds=self.seconds,
            stream=self.stream,
        )

    def _take(self, events: list[Any], asking: list[float]) -> float:
        made, now = 0.0, time.perf_counter()
        for event in events:
            playback = self.busy[event.id]
            if isinstance(event, Audio):
                made += len(event.pcm) / BYTES_PER_SECOND
                playback.take(len(event.pcm) / BYTES_PER_SECOND, now)
            elif isinstance(event, Failed):
                sys.exit(f"{event.code}: {event.message}")
            elif isinstance(event, Done):
                self.playbacks.append(self.busy.pop(event.id))
                asking.append(max(now, playback.ends))
        return made

    def _empty(self) -> None:
        while not self.engine.idle:
            self._take(self.engine.step([]), [])
        self.busy.clear()


def measure(engine: Engine, listeners: int, *, seconds: float, duration: float) -> dict[str, Any]:
    """Figures of so many listeners at once."""
    room = Room(engine, seconds)
    made = room.serve(listeners, duration)
    first = sorted(playback.first for playback in room.playbacks if playback.first is not None)
    gaps = [playback.gap for playback in room.playbacks]
    return {
        "listeners": listeners,
        "utterances": len(first),
        "first_audio_p50": median(first),
        "first_audio_p95": first[min(len(first) - 1, int(0.95 * len(first)))],
        "share_with_gap": sum(gap > 0 for gap in gaps) / len(gaps),
        "worst_gap": max(gaps),
        "audio_seconds_per_second": made,
    }


def carried(row: dict[str, Any], first_audio: float) -> bool:
    """Whether all listeners were served in real time."""
    return bool(row["share_with_gap"] <= CARRIED_SHARE and row["first_audio_p95"] <= first_audio)


def settings(profile: str, given: argparse.Namespace) -> LoadSettings:
    return LoadSettings(
        models=[given.model],
        device=given.device,
        model_dtype=given.dtype,
        s3gen=S3GenSettings(dtype=given.s3gen_dtype, prompt_seconds=given.s3gen_prompt_seconds),
        threads=given.threads,
        model_path=given.model_path,
        profile=profile,  # type: ignore[arg-type]
        slots=max([*given.listeners, given.together]),
    )


def bench(profile: str, given: argparse.Namespace) -> dict[str, Any]:
    """All figures of one profile: alone, a sweep until it is too many, and several at once against in a row."""
    engine = load(settings(profile, given))
    Room(engine, 1.0).whole(2, at_once=True)
    rows: list[dict[str, Any]] = []
    for listeners in given.listeners:
        rows.append(measure(engine, listeners, seconds=given.seconds, duration=given.duration))
        print(json.dumps({"profile": profile, **rows[-1]}), file=sys.stderr, flush=True)
        if listeners > 1 and not carried(rows[-1], given.first_audio):
            break
    real_time = max((row["listeners"] for row in rows if carried(row, given.first_audio)), default=0)
    result = {"profile": profile, "rows": rows, "real_time_listeners": real_time}
    if given.together > 1:
        in_a_row, at_once = (Room(engine, given.seconds).whole(given.together, at_once=once) for once in (False, True))
        result |= {"together": given.together, "in_a_row_seconds": in_a_row, "at_once_seconds": at_once}
    engine.close()
    return result


def table(results: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    head = ("profile", "listeners", "first audio p50 s", "p95 s", "with a gap", "worst gap s", "audio s per s")
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for result in results:
        lines += [
            f"| {result['profile']} | {row['listeners']} | {row['first_audio_p50']:.3f} | {row['first_audio_p95']:.3f} "
            f"| {row['share_with_gap']:.0%} | {row['worst_gap']:.2f} | {row['audio_seconds_per_second']:.2f} |"
            for row in result["rows"]
        ]
    for result in results:
        together = ""
        if "together" in result:
            gain = result["in_a_row_seconds"] / result["at_once_seconds"]
            together = f"; {result['together']} whole utterances at once: {gain:.2f} times faster than in a row"
        lines += ["", f"{result['profile']}: {result['real_time_listeners']} listeners in real time{together}"]
    return "\n".join(lines)


def _counts(text: str) -> list[int]:
    return sorted(int(number) for number in text.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_path", type=Path)
    parser.add_argument("--model", default="turbo")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto", help="MODEL_DTYPE")
    parser.add_argument("--s3gen-dtype", default="fp32", help="S3GEN_DTYPE")
    parser.add_argument("--s3gen-prompt-seconds", type=float, help="S3GEN_PROMPT_SECONDS")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--profiles", type=lambda text: text.split(","), default=list(PROFILES))
    parser.add_argument("--listeners", type=_counts, default=[1, 2, 4], help="how many, in order; ends at too many")
    parser.add_argument("--seconds", type=float, default=6.0, help="of an utterance")
    parser.add_argument("--duration", type=float, default=30.0, help="seconds that a number of listeners is served")
    parser.add_argument("--first-audio", type=float, default=1.0, help="most that its p95 may be, in seconds")
    parser.add_argument("--together", type=int, default=8, help="whole utterances at once against in a row; 0 for none")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    given = parser.parse_args()
    results = [bench(profile, given) for profile in given.profiles]
    if given.json:
        given.json.write_text(json.dumps({"bench": "listeners", "results": results}, indent=2), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
