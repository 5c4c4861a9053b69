"""Which utterances S3Gen renders next, and how much of it a step does."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass

from torch import Tensor

from .live import Live
from .s3gen import S3Gen

__all__ = ["RenderBatch"]


@dataclass(frozen=True, slots=True)
class _Running:
    lives: list[Live]
    steps: Generator[None, None, list[Tensor]]


class RenderBatch:
    """Renders slices that are due, up to ``size`` utterances together, one batch after the other.

    With ``pauses`` a step ends after each of S3Gen's Euler steps: on a CPU they take long, and decoding goes on.
    """

    def __init__(self, s3gen: S3Gen, *, size: int, pauses: bool) -> None:
        self._s3gen = s3gen
        self._size = size
        self._pauses = pauses
        self._running: _Running | None = None
        self._dropped: set[int] = set()

    def drop(self, request_id: int) -> None:
        """Nobody waits for this request any more."""
        running = self._running
        if running is None:
            return
        self._dropped.add(request_id)
        if all(live.id in self._dropped for live in running.lives):
            self._end()

    def step(self, lives: Iterable[Live]) -> list[tuple[Live, Tensor]]:
        """Work on the batch that is under way, or begin one; gives the frames of each utterance when they are there."""
        if self._running is None:
            self._running = self._begin(lives)
        running = self._running
        if running is None:
            return []
        started = time.perf_counter()
        mels = self._advance(running)
        elapsed = time.perf_counter() - started
        for live in running.lives:
            live.compute_seconds += elapsed
        if mels is None:
            return []
        done = zip(running.lives, mels, strict=True)
        rendered = [(live, mel) for live, mel in done if live.id not in self._dropped]
        self._end()
        return rendered

    def _begin(self, lives: Iterable[Live]) -> _Running | None:
        due = [live for live in lives if live.rendering.due]
        if not due:
            return None
        # Whoever listens goes first, and has heard least runs dry first; the order is the requests' own among equals.
        due.sort(key=lambda live: (not live.rendering.streamed, live.rendering.samples_sent))
        due = due[: self._size]
        return _Running(due, self._s3gen.begin([live.rendering.job() for live in due]))

    def _advance(self, running: _Running) -> list[Tensor] | None:
        try:
            while True:
                next(running.steps)
                if self._pauses:
                    return None
        except StopIteration as end:
            mels: list[Tensor] = end.value
            return mels

    def _end(self) -> None:
        self._running = None
        self._dropped.clear()
