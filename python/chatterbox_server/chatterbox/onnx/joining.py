"""Joins renderings of one utterance's slices that agree in what they say, but not in their waves."""

from __future__ import annotations

import numpy as np

from ..rendering import Samples
from ..speech_tokens import SAMPLE_RATE

__all__ = ["Seam"]

_SHIFT = SAMPLE_RATE // 100
"""Samples, 10 ms: how far a rendering is moved at most, so that a pitch from 50 Hz on finds its phase."""


class Seam:
    """Fades from slice to slice over ``overlap`` samples, where the later one is moved to be most like the earlier.

    An overlap-and-add of waves in phase (WSOLA's idea, Verhelst and Roelands 1993). Its gains keep the loudness that
    waves which are as alike as these would lose: none if they are equal, 3 dB in the middle if they are strangers.
    """

    def __init__(self, overlap: int) -> None:
        self._overlap = overlap
        self._tail: Samples | None = None

    def push(self, samples: Samples, start: int, end: int, *, final: bool) -> Samples:
        """What may leave of a rendering ``samples``, whose slice is ``start`` to ``end``. Context stands before it."""
        if self._tail is not None:
            start, head = self._faded(self._tail, samples, start)
        else:
            head = samples[:0]
        kept = end if final else max(start, end - self._overlap)
        self._tail = None if final or kept == end else samples[kept:end]
        return np.concatenate([head, samples[start:kept]])

    def _faded(self, tail: Samples, samples: Samples, start: int) -> tuple[int, Samples]:
        """Where the slice goes on behind the seam, and the seam itself."""
        begin = start - tail.size
        reach = max(0, min(_SHIFT, begin, samples.size - start))
        shift, likeness = _best_shift(tail, samples[begin - reach : start + reach], reach)
        later = samples[begin + shift : start + shift]
        weight = np.arange(1, tail.size + 1, dtype=np.float32) / (tail.size + 1)
        power = weight**2 + (1 - weight) ** 2 + 2 * likeness * weight * (1 - weight)
        faded = ((1 - weight) * tail + weight * later) / np.sqrt(power)
        return start + shift, faded.astype(np.float32)


def _best_shift(tail: Samples, around: Samples, reach: int) -> tuple[int, float]:
    """By how much ``around`` is to be moved, from ``-reach`` to ``reach``, and how like ``tail`` it is then, 0 to 1."""
    products = np.correlate(around, tail)
    energies = np.convolve(np.square(around, dtype=np.float64), np.ones(tail.size), "valid")
    scale = np.sqrt(np.maximum(energies * np.square(tail, dtype=np.float64).sum(), 1e-12))
    likeness = products / scale
    best = int(likeness.argmax())
    return best - reach, float(np.clip(likeness[best], 0, 1))
