"""Random numbers that depend on a request's seed and on where they are used, and on nothing else."""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["MEL_CHANNELS", "Noise"]

MEL_CHANNELS = 80
_BLOCK = 4
"""64-bit words that Philox gives for one value of its counter."""
_SEEDS = 2**64


class _Use(IntEnum):
    PROMPT = 0
    MEL = 1
    SOURCE = 2
    PHASE = 3


class Noise:
    """Normal noise by frame: a frame has the same noise however the utterance is cut and whatever else is made.

    The numbers are Philox 4x64 words, whose counter is the frame's position, turned into normal pairs by Box and
    Muller's formula; numpy guarantees the former to stay. They are made on the CPU, so that a seed sounds the same on
    every device.
    """

    def __init__(self, seed: int) -> None:
        """``seed`` is any integer; those that are equal modulo 2^64 are the same."""
        self._seed = seed % _SEEDS

    def prompt(self, frames: int) -> Tensor:
        """The noise of the voice's own frames, ``[80, frames]``."""
        return torch.from_numpy(self._normal(_Use.PROMPT, 0, frames, MEL_CHANNELS).T)

    def mel(self, start: int, frames: int) -> Tensor:
        """The noise of the utterance's frames from ``start`` on, ``[80, frames]``."""
        return torch.from_numpy(self._normal(_Use.MEL, start, frames, MEL_CHANNELS).T)

    def source(
        self, start: int, frames: int, *, harmonics: int, samples: int, device: torch.device | str = "cpu"
    ) -> Tensor:
        """The noise of the vocoder's source in the frames of ``samples`` samples from ``start`` on,
        ``[harmonics, frames samples]``, on ``device``.

        It is by far the most noise. A GPU turns the random words into normal numbers by itself, which are the CPU's to
        rounding: for hundreds of streams the host would be too slow.
        """
        device, per_frame = torch.device(device), harmonics * samples
        if device.type == "cuda":
            flat = self._normal_on(device, _Use.SOURCE, start, frames, per_frame)
        else:
            flat = torch.from_numpy(self._normal(_Use.SOURCE, start, frames, per_frame)).to(device)
        return flat.view(frames, harmonics, samples).transpose(0, 1).reshape(harmonics, frames * samples)

    def phases(self, harmonics: int) -> Tensor:
        """Where the vocoder's harmonics begin, ``[harmonics]`` in -pi to pi; 0 for the fundamental."""
        words = self._words(_Use.PHASE, 0, -(-harmonics // _BLOCK))[:harmonics]
        phases = ((words >> np.uint64(32)).astype(np.float64) / 2**32 * 2 - 1) * math.pi
        phases[0] = 0
        return torch.from_numpy(phases.astype(np.float32))

    def _normal(self, use: _Use, start: int, frames: int, per_frame: int) -> NDArray[np.float32]:
        blocks = -(-per_frame // (2 * _BLOCK))
        words = self._words(use, start * blocks, frames * blocks)
        high = (words >> np.uint64(32)).astype(np.float32)
        low = words.astype(np.uint32).astype(np.float32)
        scale = np.float32(2.0**-32)
        radius = np.sqrt(np.float32(-2) * np.log((high + np.float32(0.5)) * scale))
        angle = low * (scale * np.float32(2 * math.pi))
        pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
        return pairs.reshape(frames, 2 * _BLOCK * blocks)[:, :per_frame]

    def _normal_on(self, device: torch.device, use: _Use, start: int, frames: int, per_frame: int) -> Tensor:
        """The same, made by ``device``."""
        blocks = -(-per_frame // (2 * _BLOCK))
        words = torch.from_numpy(self._words(use, start * blocks, frames * blocks).view(np.int32))
        if device.type == "cuda":
            words = words.pin_memory()
        halves = (words.to(device, non_blocking=True).to(torch.int64) & 0xFFFF_FFFF).float().view(-1, 2)
        low, high = halves.unbind(1)
        radius = torch.sqrt(-2 * torch.log((high + 0.5) * 2.0**-32))
        angle = low * (2.0**-32 * 2 * math.pi)
        pairs = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=-1)
        return pairs.view(frames, 2 * _BLOCK * blocks)[:, :per_frame].contiguous()

    def _words(self, use: _Use, block: int, blocks: int) -> NDArray[np.uint64]:
        # The counter is raised before it is used.
        counter = (block - 1) % 2**256
        key = self._seed | (int(use) << 64)
        return np.random.Philox(key=key, counter=counter).random_raw(_BLOCK * blocks)
