"""S3Gen's networks as CUDA graphs: one launch instead of some thousand.

There is a graph for each of a few lengths and numbers of rows; a call is padded to the smallest one that it fits. Both
networks give the same for what is not padding, whatever their padding is.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from typing import Protocol

import torch
from torch import Tensor

from ..device import Capturer, Replay, compare, row_counts

__all__ = ["Evaluate", "GraphedEstimator", "GraphedGenerator", "Synthesize"]


logger = logging.getLogger(__name__)

ESTIMATOR_FRAMES = (320, 384, 448, 512, 544, 608, 672, 768, 896, 1024)
"""A voice of 10 s has 500 frames, to which the slices of a streamed utterance bring 32, 82, 150 and then 250. Whatever
is longer keeps a device so busy that its launches do not matter."""
ESTIMATOR_ROWS = 16
"""Rows of the largest graphs, two to an utterance where there is guidance."""
GENERATOR_FRAMES = (32, 64, 96, 128, 160, 192, 256, 320, 448)
"""Slices of 16, 25, 50, 100 and 200 tokens, and 25 frames around them."""


class Evaluate(Protocol):
    """The interface of ``Estimator``."""

    def __call__(self, x: Tensor, biases: Tensor, real: Tensor | None) -> Tensor: ...


class Synthesize(Protocol):
    """The interface of ``Generator``."""

    def __call__(self, mel: Tensor, source: Tensor) -> Tensor: ...


class GraphedEstimator:
    """The estimator for up to 1024 frames and 16 rows; beyond, it is called as it is.

    ``blocks`` is the shape ``[blocks, channels]`` of a row's time biases, ``channels`` the width of ``x``. Raises
    ``RuntimeError`` if a graph does not compute what the estimator does, or what a device raises.
    """

    def __init__(
        self, estimator: Evaluate, capturer: Capturer, *, channels: int, blocks: tuple[int, int], like: Tensor
    ) -> None:
        self._estimator = estimator
        self._rows = row_counts(ESTIMATOR_ROWS)
        most = ESTIMATOR_ROWS * ESTIMATOR_FRAMES[-1]
        self._x = torch.zeros(most * channels, dtype=like.dtype, device=like.device)
        self._biases = torch.zeros(ESTIMATOR_ROWS, *blocks, dtype=like.dtype, device=like.device)
        self._real = torch.ones(most, dtype=torch.bool, device=like.device)
        self._channels = channels
        self._replays: dict[tuple[int, int], Replay] = {}
        random = torch.Generator(like.device).manual_seed(0)
        # The largest first, whose memory is enough for the others.
        for rows in reversed(self._rows):
            for frames in reversed(ESTIMATOR_FRAMES):
                step = self._step(rows, frames)
                replay = capturer.capture(step)
                self._x.normal_(generator=random)
                self._biases.normal_(generator=random)
                _, _, real = self._inputs(rows, frames)
                real.fill_(True)
                real[rows // 2 :, frames // 2 :] = False
                compare(replay, step, f"{rows} rows of {frames} frames", like.dtype)
                self._replays[rows, frames] = replay

    def __call__(self, x: Tensor, biases: Tensor, real: Tensor | None) -> Tensor:
        batch, frames, _ = x.shape
        if batch > ESTIMATOR_ROWS or frames > ESTIMATOR_FRAMES[-1]:
            return self._estimator(x, biases, real)
        rows = self._rows[bisect_left(self._rows, batch)]
        length = ESTIMATOR_FRAMES[bisect_left(ESTIMATOR_FRAMES, frames)]
        padded, times, mask = self._inputs(rows, length)
        # Nothing that is not a number may be left there: attention multiplies it by nothing, which is no number either.
        padded.zero_()
        padded[:batch, :frames] = x
        times[:batch] = biases
        mask.zero_()
        # A row needs something to attend to.
        mask[:, 0] = True
        mask[:batch, :frames] = True if real is None else real
        return self._replays[rows, length]()[:batch, :frames]

    def _inputs(self, rows: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
        count = rows * frames
        x = self._x[: count * self._channels].view(rows, frames, self._channels)
        return x, self._biases[:rows], self._real[:count].view(rows, frames)

    def _step(self, rows: int, frames: int) -> Replay:
        inputs = self._inputs(rows, frames)
        return lambda: self._estimator(*inputs)


class GraphedGenerator:
    """The vocoder's generator for up to 448 frames of one utterance; beyond, it is called as it is.

    What is padded must go on: the samples at its end are those before more frames, as in a slice that is not the last.
    """

    def __init__(
        self, generator: Synthesize, capturer: Capturer, *, channels: int, samples_per_frame: int, device: torch.device
    ) -> None:
        self._generator = generator
        self._per_frame = samples_per_frame
        self._mel = torch.zeros(1, channels, GENERATOR_FRAMES[-1], device=device)
        self._source = torch.zeros(1, GENERATOR_FRAMES[-1] * samples_per_frame, device=device)
        self._replays: dict[int, Replay] = {}
        random = torch.Generator(device).manual_seed(0)
        for frames in reversed(GENERATOR_FRAMES):
            step = self._step(frames)
            replay = capturer.capture(step)
            self._mel.normal_(generator=random)
            self._source.uniform_(-0.1, 0.1, generator=random)
            compare(replay, step, f"{frames} frames of samples", torch.float32)
            self._replays[frames] = replay

    def __call__(self, mel: Tensor, source: Tensor) -> Tensor:
        batch, _, frames = mel.shape
        if batch > 1 or frames > GENERATOR_FRAMES[-1]:
            return self._generator(mel, source)
        length = GENERATOR_FRAMES[bisect_left(GENERATOR_FRAMES, frames)]
        self._mel[:, :, :length].zero_()
        self._mel[:, :, :frames] = mel
        self._source[:, : length * self._per_frame].zero_()
        self._source[:, : frames * self._per_frame] = source
        # The next call would write over it.
        return self._replays[length]()[:, : frames * self._per_frame].clone()

    def _step(self, frames: int) -> Replay:
        mel, source = self._mel[:, :, :frames], self._source[:, : frames * self._per_frame]
        return lambda: self._generator(mel, source)
