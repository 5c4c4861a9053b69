"""Which utterances S3Gen renders next, and how much of it a step does."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from .live import Live
from .s3gen.flow import MelJob

__all__ = ["RenderBatch", "Renderer"]

LONGEST_TO_SHORTEST = 1.5
"""Between utterances of a batch. All take as long as the longest, whose padding is work for nothing."""
_TOKENS_EACH = 500
"""Of a full batch on average, at most: 20 s, of which 10 s may be the voice's. Memory grows with a batch's tokens, and
whole utterances, which are not cut into slices, are long."""


class Renderer(Protocol):
    """S3Gen, whatever computes it and whether or not it goes on to samples."""

    def begin(self, jobs: Sequence[MelJob]) -> Generator[None, None, list[Tensor]]:
        """Works on what ``SliceRendering.job`` gave, for ``accept``. Yields where something else may be done."""


@dataclass(frozen=True, slots=True)
class _Running:
    lives: list[Live]
    steps: Generator[None, None, list[Tensor]]
    dropped: set[int] = field(default_factory=set)

    def holds(self, live: Live) -> bool:
        return any(each is live for each in self.lives)


class RenderBatch:
    """Renders slices that are due, up to ``size`` utterances together.

    With ``pauses`` a step ends after each of S3Gen's Euler steps, which take long on a CPU: the batch that is under way
    stays as it is while a more urgent one is rendered, or tokens are decoded.
    """

    def __init__(self, s3gen: Renderer, *, size: int, pauses: bool, clock: Callable[[], float]) -> None:
        self._s3gen = s3gen
        self._size = size
        self._pauses = pauses
        self._clock = clock
        self._running: list[_Running] = []

    def drop(self, request_id: int) -> None:
        """Nobody waits for this request any more."""
        for running in self._running:
            if any(live.id == request_id for live in running.lives):
                running.dropped.add(request_id)
                if all(live.id in running.dropped for live in running.lives):
                    self._running.remove(running)
                return

    def step(self, urgent: Live, lives: Iterable[Live]) -> list[tuple[Live, Tensor]]:
        """Work on the slice of ``urgent`` that is due, together with others of ``lives``.

        Gives the frames of each utterance of a batch when they are there.
        """
        running = self._of(urgent)
        if running is None:
            running = self._begin(urgent, lives)
            self._running.append(running)
        started = self._clock()
        mels = self._advance(running)
        elapsed = self._clock() - started
        for live in running.lives:
            live.compute_seconds += elapsed
        if mels is None:
            return []
        self._running.remove(running)
        done = zip(running.lives, mels, strict=True)
        return [(live, mel) for live, mel in done if live.id not in running.dropped]

    def _of(self, live: Live) -> _Running | None:
        return next((running for running in self._running if running.holds(live)), None)

    def _begin(self, urgent: Live, lives: Iterable[Live]) -> _Running:
        batch = [urgent]
        if self._size > 1:
            size = urgent.rendering.due_tokens
            others = [live for live in lives if live is not urgent and self._fits(live, size)]
            others.sort(key=lambda live: live.deadline.at)
            longest = max([size, *(live.rendering.due_tokens for live in others)])
            batch += others[: max(1, min(self._size, self._size * _TOKENS_EACH // longest)) - 1]
        return _Running(batch, self._s3gen.begin([live.rendering.job() for live in batch]))

    def _fits(self, live: Live, size: int) -> bool:
        """Whether a slice of ``live`` is due, not begun, and about as long as one of ``size`` tokens."""
        if not live.rendering.due or self._of(live) is not None:
            return False
        own = live.rendering.due_tokens
        return max(own, size) <= LONGEST_TO_SHORTEST * min(own, size)

    def _advance(self, running: _Running) -> list[Tensor] | None:
        try:
            while True:
                next(running.steps)
                if self._pauses:
                    return None
        except StopIteration as end:
            mels: list[Tensor] = end.value
            return mels
