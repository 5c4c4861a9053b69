"""Random numbers that depend on a seed and a place in its stream, and on nothing else.

The generator is SplitMix64 (Steele, Lea and Flood, 2014), whose n-th number is a function of n, so that a whole batch
is drawn at once, with the same result on any device.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["exponentials", "mix", "step_state", "stream_start"]

INCREMENT = 0x9E3779B97F4A7C15
FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27, 31)
WORD = 1 << 64
NUMBERS_PER_STEP = 8192
"""Steps lie this far apart in a seed's stream."""
BITS = 40
"""Of each word that are used: enough for numbers so small that they decide a draw for an unlikely token."""


def mix(states: Tensor) -> Tensor:
    """SplitMix64's output function, on the bits of int64."""
    for shift, factor in zip(SHIFTS, FACTORS, strict=False):
        states = (states ^ _shifted(states, shift)) * _signed(factor)
    return states ^ _shifted(states, SHIFTS[-1])


def stream_start(seed: int) -> int:
    """State before the first number of the stream of ``seed``, an int64. The seed's low 64 bits count."""
    # Mixed, or the streams of neighbouring seeds would soon hold the same numbers.
    return int(mix(torch.tensor(_signed(seed))))


def step_state(start: int, step: int) -> int:
    """State before the numbers that draw the ``step``-th token in the stream from ``start`` on."""
    return _signed(start + step * NUMBERS_PER_STEP * INCREMENT)


def exponentials(states: Tensor, ids: Tensor) -> Tensor:
    """Exponentially distributed numbers above 0, float32 ``[rows, ids]``, from ``step_state``'s ``[rows]``.

    Each is that of its id, whatever the other ``ids`` are.
    """
    words = mix(states[:, None] + (ids + 1) * _signed(INCREMENT))
    # Odd, so that none is 0; the nearest float32 may be 1, which gives infinity.
    odd = _shifted(words, 64 - BITS) * 2 + 1
    return -torch.log1p(-(odd.float() / 2 ** (BITS + 1)))


def _shifted(states: Tensor, count: int) -> Tensor:
    """To the right, with zeros from the left, which int64 by itself does not do."""
    return states >> count & (1 << 64 - count) - 1


def _signed(word: int) -> int:
    return (word + WORD // 2) % WORD - WORD // 2
