"""One utterance's speech tokens to samples: which of them are rendered when, and what becomes of samples before they
leave.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .._core import Slicing
from .conditionals import Conditionals
from .interfaces import MelDecoder, MelJob, Samples, Slice
from .speech_tokens import FRAME_MS, FRAMES_PER_TOKEN, LOOKAHEAD, MAX_TOKENS, SAMPLE_RATE

__all__ = ["FADE_IN", "Marker", "RenderOptions", "Rendering", "Slicer"]

CONTEXT_TOKENS = 25
CROSSFADE_MS = 30.0
_MUTED = 480
"""20 ms, in which a rest of the reference clip may be audible."""
FADE_IN = torch.cat([torch.zeros(_MUTED), (torch.cos(torch.linspace(math.pi, 0, _MUTED)) + 1) / 2]).numpy()
"""Gains ``[960]`` of an utterance's first samples: 20 ms of silence, then 20 ms of rise. Equals ``trim_fade`` of
upstream's ``s3gen.py``."""
_CUT_FADE = SAMPLE_RATE // 100
"""10 ms, so that a cut does not click."""


class Marker(Protocol):
    """Marks a stream of samples as machine-made."""

    def push(self, samples: Samples) -> Samples:
        """Samples that are marked, all of them sooner or later."""

    def finish(self) -> Samples:
        """The rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """A request's parameters of rendering."""

    slicing: Slicing
    schedule: tuple[int, ...]
    """Tokens of the first slices where the request does not say; the last one repeats."""
    stream: bool
    speed: float
    max_samples: int


class Slicer:
    """Cuts an utterance by its own length alone: the same tokens give the same slices, however fast they come.

    ``schedule`` has the tokens of the first slices, of which the last one repeats, unless ``slicing`` says how many.
    """

    def __init__(self, slicing: Slicing, schedule: tuple[int, ...], *, stream: bool) -> None:
        self._stream = stream
        fixed = slicing.tokens_per_slice
        self._schedule = (fixed,) if fixed else schedule
        joined = slicing.overlap != "zero"
        context = CONTEXT_TOKENS if slicing.context_window is None else slicing.context_window
        self._context = context if joined else 0
        crossfade = CROSSFADE_MS if slicing.crossfade_ms is None else slicing.crossfade_ms
        self.crossfade_frames = min(round(crossfade / FRAME_MS), FRAMES_PER_TOKEN * self._context)
        self._index = 0
        self.taken = 0
        """Tokens given out so far."""

    def next(self, tokens: int, *, ended: bool) -> Slice | None:
        """The slice to render next, if the utterance's ``tokens`` so far allow it."""
        cut = self._cut(self._index, self.taken, tokens, ended=ended)
        if cut is None:
            return None
        end, final = cut
        part = Slice(context=max(0, self.taken - self._context), start=self.taken, end=end, final=final)
        self._index += 1
        self.taken = end
        return part

    def ready(self, tokens: int, *, ended: bool) -> int:
        """The number of slices that ``next`` would give one after the other."""
        count, taken = 0, self.taken
        while taken < tokens and (cut := self._cut(self._index + count, taken, tokens, ended=ended)):
            taken = cut[0]
            count += 1
        return count

    def _cut(self, index: int, taken: int, tokens: int, *, ended: bool) -> tuple[int, bool] | None:
        """Where the slice after ``taken`` tokens ends, and whether it is the last."""
        size = self._schedule[min(index, len(self._schedule) - 1)]
        left = tokens - taken
        if self._stream:
            # Whether the end is known yet must not move a cut, or the samples would depend on the machine's speed.
            whole = left >= size + LOOKAHEAD
        else:
            # What is longer than T3's longest, a converted clip, is cut too: memory grows with the square of a slice.
            size, whole = MAX_TOKENS, ended and left > MAX_TOKENS + LOOKAHEAD
        final = ended and not whole
        if not final and not whole:
            return None
        return (tokens if final else taken + size), final


class Rendering:
    """Takes an utterance's tokens, tells when a slice of them is due, and fades, caps and marks its samples.

    ``marker`` is ``None`` when nothing is to be marked. ``closing`` tokens are put after the last one.
    """

    def __init__(
        self,
        decoder: MelDecoder,
        voice: Conditionals,
        seed: int,
        options: RenderOptions,
        *,
        marker: Marker | None,
        closing: tuple[int, ...] = (),
    ) -> None:
        self._voice = voice
        self._marker = marker
        self._closing = closing
        self.streamed = options.stream
        self._slicer = Slicer(options.slicing, options.schedule, stream=options.stream)
        crossfade = self._slicer.crossfade_frames
        self._decoder = decoder.stream(voice, seed, speed=options.speed, crossfade_frames=crossfade)
        self._room = options.max_samples
        self._tokens: list[int] = []
        self._ended = False
        self._slice: Slice | None = None
        self._made = 0
        """Samples made so far."""
        self.samples_sent = 0
        self.done = False

    @property
    def tokens(self) -> Sequence[int]:
        """The tokens so far."""
        return self._tokens

    def add(self, tokens: Iterable[int]) -> None:
        self._tokens.extend(tokens)

    def end(self) -> None:
        """No token comes after this. At least one must have come."""
        self._tokens.extend(self._closing)
        self._ended = True

    def truncate(self, count: int) -> None:
        """Keep the first ``count`` tokens, and those that have been rendered."""
        del self._tokens[max(count, self._slicer.taken + LOOKAHEAD) :]

    @property
    def due(self) -> bool:
        """Whether a slice of the tokens can be rendered."""
        if self._slice is None:
            self._slice = self._slicer.next(len(self._tokens), ended=self._ended)
        return self._slice is not None

    @property
    def waiting(self) -> int:
        """The number of slices that the tokens so far suffice for."""
        return int(self.due) + self._slicer.ready(len(self._tokens), ended=self._ended)

    @property
    def due_tokens(self) -> int:
        """The number of tokens that S3Gen decodes for the due slice, the voice's own and the lookahead included."""
        part = self._slice
        assert part is not None, "no slice is due"
        return self._voice.s3_tokens.numel() + part.end - part.context + (0 if part.final else LOOKAHEAD)

    def job(self) -> MelJob:
        """The decoder's job for the due slice; ``accept`` takes its result."""
        part = self._slice
        assert part is not None, "no slice is due"
        return self._decoder.job(self._tokens[part.context : part.end + (0 if part.final else LOOKAHEAD)], part)

    def accept(self, made: Tensor) -> Samples:
        """The samples that are ready to leave with what was ``made`` of the slice that was due."""
        part, self._slice = self._slice, None
        assert part is not None, "no slice was due"
        return self._finished(self._decoder.push(made, part), final=part.final)

    def _finished(self, samples: Samples, *, final: bool) -> Samples:
        samples = self._within_cap(self._faded_in(samples))
        self.done = final or not self._room
        if self._marker is not None:
            samples = self._marker.push(samples)
            if self.done:
                samples = np.concatenate([samples, self._marker.finish()])
        self.samples_sent += samples.size
        return samples

    def _within_cap(self, samples: Samples) -> Samples:
        if samples.size > self._room:
            samples = samples[: self._room].copy()
            fade = min(_CUT_FADE, samples.size)
            samples[samples.size - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
        self._room -= samples.size
        return samples

    def _faded_in(self, samples: Samples) -> Samples:
        start = self._made
        self._made += samples.size
        gains = FADE_IN[start : start + samples.size]
        if not gains.size:
            return samples
        samples = samples.copy()
        samples[: gains.size] *= gains
        return samples
