"""Speaking rate, by stretching the mel spectrogram in time. Pitch stays: the vocoder reads it off each frame."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["Stretch"]


class Stretch:
    """Linear interpolation between frames, as they come. ``speed`` 2 halves the number of frames; 1 changes nothing.

    Output frame ``j`` lies at input position ``j * speed``, so the result does not depend on how the input is cut.
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._taken = 0
        self._made = 0
        self._last: Tensor | None = None

    def push(self, mel: Tensor, *, final: bool) -> Tensor:
        """``mel`` ``[80, n]`` stretched, as far as it is known; with ``final``, to the end."""
        if self._speed == 1.0 or (not mel.shape[1] and not final):
            return mel
        first = self._taken
        if self._last is not None:
            mel, first = torch.cat([self._last, mel], dim=1), first - 1
        self._taken = first + mel.shape[1]
        self._last = mel[:, -1:]
        # Positions up to the last frame known; a final frame is held, not extrapolated.
        end = self._taken if final else self._taken - 1
        count = max(0, math.ceil(end / self._speed) - self._made)
        positions = (self._made + torch.arange(count, dtype=torch.float64)) * self._speed - first
        self._made += count
        left = positions.floor().clamp(0, mel.shape[1] - 1).long()
        right = (left + 1).clamp(max=mel.shape[1] - 1)
        weight = (positions - left).clamp(0, 1).to(mel).unsqueeze(0)
        left, right = left.to(mel.device), right.to(mel.device)
        return torch.lerp(mel[:, left], mel[:, right], weight)
