"""Measures one model in one precision: both sides alternate, so that load on the machine affects both alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .child import BenchError, Child
from .rows import Row, target
from .work import Floors

__all__ = ["SECTIONS", "Comparison", "Effort"]

SECONDS = 4.0
"""Of the utterance that is measured as a whole: 100 tokens."""
CHUNK = 25
"""Tokens of a chunk: one second."""
_WARM_SECONDS = 0.4
"""Of utterances that are spoken before any counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How often and how much."""

    rounds: int
    """Of what takes up to a second; what takes longer has fewer."""
    long_rounds: int
    steps: int
    """Of T3, in a round."""
    characters: int
    """Of the text that T3 is measured with."""
    together_seconds: float
    """Of each utterance where there are many."""
    lengths: Sequence[float]
    """Seconds of utterances that show how cost grows."""
    distance_tokens: int
    budget_seconds: float
    """A sweep ends after a trial that took longer."""


@dataclass(slots=True, kw_only=True)
class Comparison:
    """A model in one precision, and what was measured of it so far."""

    model: str
    exact: bool
    mean_flow: bool
    """Whether S3Gen is another model's, which is."""
    ours: Child
    upstream: Child | None
    effort: Effort
    batches: Sequence[int]
    reference: Path
    """Where fp32 leaves what the others are held against."""
    floors: Floors | None = None
    rows: list[Row] = field(default_factory=list)
    throughput: list[dict[str, float]] = field(default_factory=list)
    lengths: list[dict[str, float]] = field(default_factory=list)
    distance: dict[str, float] | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    """Reasons, by what could not be measured."""

    def row(self, name: str, unit: str, floor: float | None = None, note: str = "") -> Row:
        """A row of the table."""
        aim = target(name, self.model, exact=self.exact, mean_flow=self.mean_flow)
        made = Row(name=name, unit=unit, floor=floor, target=aim, note=note)
        self.rows.append(made)
        return made

    def least(self, work: str, *arguments: float, **named: bool) -> float | None:
        """The floor of a piece of work, a method of ``Floors``; ``None`` where it is not known."""
        return None if self.floors is None else getattr(self.floors, work)(*arguments, **named)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Something that may turn out not to be measurable."""
        try:
            yield
        except BenchError as error:
            self.skipped[name] = str(error)

    def theirs(self, measure: str, **arguments: object) -> Any:
        """Upstream's answer, or an empty one. If it fails, it is left out from then on."""
        if self.upstream is not None:
            try:
                return self.upstream.ask(measure, **arguments)
            except BenchError as error:
                self.skipped["upstream"] = str(error)
                self.upstream = None
        return {}

    def rounds(self, row: Row, measure: str, count: int, **arguments: object) -> None:
        """Measure what both sides call by one name, after a round that does not count."""
        for number in range(count + 1):
            theirs, ours = self.theirs(measure, **arguments), self.ours.ask(measure, **arguments)
            if number:
                row.pair(ours, theirs)

    def loading(self) -> None:
        """Seconds until both processes were ready."""
        theirs = [] if self.upstream is None else [self.upstream]
        self.row("load", "s").pair([self.ours.seconds], [child.seconds for child in theirs])
        self.row("peak memory", "MB").pair([self.ours.loaded["peak_mb"]], [child.loaded["peak_mb"] for child in theirs])

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": [row.as_json() for row in self.rows],
            "throughput": self.throughput,
            "lengths": self.lengths,
            "distance": self.distance,
            "skipped": self.skipped,
        }


def _t3(case: Comparison) -> None:
    effort = case.effort
    steps, characters = effort.steps, effort.characters
    with case.part("t3"):
        step = case.row("T3 step, 1 request", "ms", case.least("decode", 1, steps))
        cold = case.row("T3 prefill", "ms", case.least("prefill", warm=False))
        warm = case.row("T3 prefill, warm voice", "ms", case.least("prefill", warm=True))
        many = [count for count in case.batches if count > 1]
        batches = {
            count: case.row(
                f"T3 step, {count} requests",
                "ms",
                case.least("decode", count, steps),
                note="upstream: a step of each",
            )
            for count in many
        }
        for number in range(effort.rounds + 1):
            theirs = case.theirs("decode", steps=steps, characters=characters)
            decode, prefill = theirs.get("decode"), theirs.get("prefill")
            one = case.ours.ask("decode", requests=1, steps=steps, characters=characters)
            known = [case.ours.ask("prefill", characters=characters, warm=is_warm) for is_warm in (False, True)]
            together = {
                count: case.ours.ask("decode", requests=count, steps=max(2, steps // 2), characters=characters)
                for count in many
            }
            if number:
                step.pair(one, decode)
                cold.pair(known[0], prefill)
                warm.pair(known[1], prefill)
                for count, times in together.items():
                    batches[count].pair(times, decode and [count * each for each in decode])


def _s3gen(case: Comparison) -> None:
    effort = case.effort
    for tokens, rounds in ((CHUNK, effort.rounds), (round(SECONDS * 25), effort.long_rounds)):
        with case.part(f"s3gen {tokens}"):
            whole = case.row(f"S3Gen, {tokens} tokens", "ms", case.least("flow", tokens))
            once = case.row(f"estimator, once, {tokens} tokens", "ms", case.least("evaluation", tokens))
            for number in range(rounds + 1):
                theirs, ours = case.theirs("flow", tokens=tokens), case.ours.ask("flow", tokens=tokens)
                if number:
                    whole.pair(ours["total"], theirs.get("total"))
                    once.pair(ours["evaluation"], theirs.get("evaluation"))
    with case.part("vocoder"):
        row = case.row("vocoder, 1 s", "ms", case.least("vocode", 1.0))
        case.rounds(row, "vocode", effort.rounds, seconds=1.0)
    with case.part("watermark"):
        case.rounds(case.row("watermark, 1 s", "ms"), "watermark", effort.rounds, seconds=1.0)


def _utterance(case: Comparison) -> None:
    with case.part("utterance"):
        whole = case.row("4 s utterance, whole", "ms", case.least("utterance", SECONDS))
        factor = case.row("4 s utterance, real-time factor", "RTF")
        first = case.row("first audio, streamed", "ms", note="upstream: the whole utterance")
        last = case.row("4 s utterance, streamed", "ms", note="upstream: whole")
        # What happens once in a process is no part of an utterance's cost, for either side.
        case.theirs("utterance", seconds=_WARM_SECONDS)
        case.ours.ask("utterance", seconds=_WARM_SECONDS)
        case.ours.ask("streamed", seconds=_WARM_SECONDS)
        for _ in range(case.effort.long_rounds):
            theirs = case.theirs("utterance", seconds=SECONDS) or None
            ours = case.ours.ask("utterance", seconds=SECONDS)
            whole.pair(ours, theirs)
            factor.pair(_factors(ours), theirs and _factors(theirs))
            streamed = case.ours.ask("streamed", seconds=SECONDS)
            first.pair(streamed["first"], theirs)
            last.pair(streamed["whole"], theirs)


def _factors(times: Sequence[float]) -> list[float]:
    return [milliseconds / 1000 / SECONDS for milliseconds in times]


def _together(case: Comparison) -> None:
    seconds = case.effort.together_seconds
    with case.part("together"):
        gain = case.row("8 at once, against in a row", "x")
        case.ours.ask("together", requests=max(case.batches), seconds=_WARM_SECONDS, at_once=True)
        for count in case.batches:
            started = time.perf_counter()
            at_once = case.ours.ask("together", requests=count, seconds=seconds, at_once=True)
            case.throughput.append(
                {"requests": count, "audio_seconds_per_second": at_once["audio_seconds"] / at_once["seconds"]}
            )
            if count == 8:
                in_a_row = case.ours.ask("together", requests=count, seconds=seconds, at_once=False)
                per_second = in_a_row["audio_seconds"] / in_a_row["seconds"]
                gain.pair([at_once["audio_seconds"] / at_once["seconds"] / per_second], None)
            if time.perf_counter() - started > case.effort.budget_seconds:
                break


def _scale(case: Comparison) -> None:
    with case.part("scale"):
        for seconds in case.effort.lengths:
            started = time.perf_counter()
            case.lengths.append({"length_seconds": seconds, **case.ours.ask("length", seconds=seconds)})
            if time.perf_counter() - started > case.effort.budget_seconds:
                break


def _distance(case: Comparison) -> None:
    with case.part("distance"):
        arguments = {"tokens": case.effort.distance_tokens, "reference": str(case.reference)}
        if case.exact:
            case.ours.ask("distance", **arguments, write=True)
        elif case.reference.exists():
            case.distance = case.ours.ask("distance", **arguments, write=False)
        else:
            raise BenchError("there is no fp32 to hold it against; measure that first")


SECTIONS: dict[str, Callable[[Comparison], None]] = {
    "t3": _t3,
    "s3gen": _s3gen,
    "utterance": _utterance,
    "together": _together,
    "scale": _scale,
    "distance": _distance,
}
"""Each measures a part and writes it down."""
