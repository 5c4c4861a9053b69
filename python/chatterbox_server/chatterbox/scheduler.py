"""Decides what a step works on, by deadlines: live requests, clips in preparation, batches of slices to render."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .._core import Failed
from ..model_runner import Event, RequestError, failure
from .device import memory_errors
from .interfaces import MelDecoder
from .rendering import Rendering
from .tensors import CheckpointError

__all__ = ["WHOLE_SECONDS", "Deadline", "LiveRequest", "Preparation", "Preparations", "RenderBatch"]


WHOLE_SECONDS = 10.0
"""Longest time, in seconds, that a whole utterance yields to those that are streamed."""


class Deadline:
    """The time, in seconds of some clock, at which a request is late; work on the earliest goes first.

    A listener without audio is late some time after the request, and one with audio when that is played
    out. Each piece of audio moves a deadline beyond the present, so that every other one is the earliest sooner or
    later: no request starves.
    """

    def __init__(self, first: float, *, playing: bool = False) -> None:
        """``playing``: the listener plays earlier audio, until ``first``."""
        self.at = first
        self._playing = playing

    def add_audio(self, seconds: float, now: float) -> None:
        """The listener gets ``seconds`` of audio ``now``, and plays them after those there were."""
        # Audio that comes too late is played when it comes, and what comes first is not kept until it was due.
        self.at = (max(self.at, now) if self._playing else now) + seconds
        self._playing = True


@dataclass(slots=True, kw_only=True, eq=False)
class LiveRequest:
    """A request's rendering, its deadline, and its tokens so far."""

    id: int
    rendering: Rendering
    deadline: Deadline
    returns_tokens: bool = False
    tokens: list[int] = field(default_factory=list)
    """T3's output, marks included, as upstream's returns it."""
    decoding: bool = True
    compute_seconds: float = 0.0


STAGE_SECONDS = 0.2
"""Deadline of a clip's next stage, in seconds after the one before."""

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Preparation:
    """A clip in the voice preparation, and what is done with its result."""

    id: int
    deadline: float
    """When its request is late; each stage moves it beyond the present, as audio does a listener's: a long clip that is
    late must not interrupt all streams until it is done."""
    stages: Iterator[None]
    finish: Callable[[Any], list[Event]]


class Preparations:
    """A queue: the networks that prepare voices are in memory for one clip at a time."""

    def __init__(self) -> None:
        self._waiting: deque[Preparation] = deque()

    @property
    def idle(self) -> bool:
        return not self._waiting

    @property
    def deadline(self) -> float:
        """The earliest deadline: work for other requests must be done by then. Infinite if there is none."""
        return min((clip.deadline for clip in self._waiting), default=math.inf)

    def add(self, clip: Preparation) -> None:
        self._waiting.append(clip)

    def drop(self, request_id: int) -> None:
        """Forget a clip; an unknown one is ignored."""
        self._waiting = deque(clip for clip in self._waiting if clip.id != request_id)

    def step(self, clock: Callable[[], float]) -> list[Event]:
        """Take the first clip one stage further."""
        clip = self._waiting[0]
        try:
            with memory_errors():
                next(clip.stages)
        except StopIteration as end:
            self._waiting.popleft()
            return clip.finish(end.value)
        except CheckpointError as error:
            # They were whole when the model was loaded.
            logger.error("voices cannot be prepared any more: %s", error)
            self._waiting.popleft()
            return [Failed(id=clip.id, code="GENERATION_ERROR", message="The model's files have changed; restart it.")]
        except (RequestError, MemoryError) as error:
            self._waiting.popleft()
            return [failure(clip.id, error)]
        clip.deadline = max(clip.deadline, clock() + STAGE_SECONDS)
        return []


LONGEST_TO_SHORTEST = 1.5
"""Between utterances of a batch. All take as long as the longest, whose padding is work for nothing."""
_TOKENS_EACH = 500
"""Of a full batch on average, at most: 20 s, of which 10 s may be the voice's. Memory grows with a batch's tokens, and
whole utterances, which are not cut into slices, are long."""


@dataclass(frozen=True, slots=True)
class _Running:
    lives: list[LiveRequest]
    steps: Generator[None, None, list[Tensor]]
    dropped: set[int] = field(default_factory=set)

    def holds(self, live: LiveRequest) -> bool:
        return any(each is live for each in self.lives)


class RenderBatch:
    """Renders slices that are due, up to ``size`` utterances together.

    With ``pauses`` a step ends after each of S3Gen's Euler steps, which take long on a CPU: the batch that is under way
    stays as it is while a more urgent one is rendered, or tokens are decoded.
    """

    def __init__(self, decoder: MelDecoder, *, size: int, pauses: bool, clock: Callable[[], float]) -> None:
        self._decoder = decoder
        self._size = size
        self._pauses = pauses
        self._clock = clock
        self._running: list[_Running] = []

    def drop(self, request_id: int) -> None:
        """Drop a request that was cancelled."""
        for running in self._running:
            if any(live.id == request_id for live in running.lives):
                running.dropped.add(request_id)
                if all(live.id in running.dropped for live in running.lives):
                    self._running.remove(running)
                return

    def step(self, urgent: LiveRequest, lives: Iterable[LiveRequest]) -> list[tuple[LiveRequest, Tensor]]:
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

    def _of(self, live: LiveRequest) -> _Running | None:
        return next((running for running in self._running if running.holds(live)), None)

    def _begin(self, urgent: LiveRequest, lives: Iterable[LiveRequest]) -> _Running:
        batch = [urgent]
        if self._size > 1:
            size = urgent.rendering.due_tokens
            others = [live for live in lives if live is not urgent and self._fits(live, size)]
            others.sort(key=lambda live: live.deadline.at)
            longest = max([size, *(live.rendering.due_tokens for live in others)])
            batch += others[: max(1, min(self._size, self._size * _TOKENS_EACH // longest)) - 1]
        return _Running(batch, self._decoder.begin([live.rendering.job() for live in batch]))

    def _fits(self, live: LiveRequest, size: int) -> bool:
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
