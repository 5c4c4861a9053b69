"""Loudness as upstream measures it: ``pyloudnorm``, ITU-R BS.1770-4 with its filters, to the bit."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .spectra import Samples

__all__ = ["loudness"]

BLOCK_SECONDS = 0.4
STEP = 0.25
"""From block to block, in blocks."""
OFFSET = -0.691
ABSOLUTE, RELATIVE = -70.0, -10.0
"""Levels below which blocks do not count, the second one beside the mean of those that do."""

Coefficients = tuple[list[float], list[float]]


def loudness(samples: Samples, rate: int) -> float:
    """LUFS of one channel; not finite where none can be told. Raises ``ValueError`` for less than one block."""
    from ..._core import biquad

    if samples.size < BLOCK_SECONDS * rate:
        raise ValueError(f"loudness is that of {BLOCK_SECONDS} s at least")
    samples = np.ascontiguousarray(samples)
    shelved, weighted = np.empty_like(samples), np.empty_like(samples)
    biquad(samples, shelved, *_shelf(rate))
    biquad(shelved, weighted, *_high_pass(rate))
    count = int(np.round((samples.size / rate - BLOCK_SECONDS) / (BLOCK_SECONDS * STEP))) + 1
    bounds = [[int(BLOCK_SECONDS * (block * STEP + end) * rate) for end in (0, 1)] for block in range(count)]
    # Of each block in single precision, of all of them in double.
    means = [(1.0 / (BLOCK_SECONDS * rate)) * np.sum(np.square(weighted[a:b])) for a, b in bounds]
    power = np.array(means, np.float64)
    with np.errstate(divide="ignore"):
        level = OFFSET + 10.0 * np.log10(power)
    heard = level >= ABSOLUTE
    if not heard.any():
        return -math.inf
    heard = (level > OFFSET + 10.0 * np.log10(np.mean(power[heard])) + RELATIVE) & (level > ABSOLUTE)
    return float(OFFSET + 10.0 * np.log10(np.mean(power[heard]))) if heard.any() else -math.inf


def _shelf(rate: int) -> Coefficients:
    """4 dB more above 1500 Hz."""
    gain = 10 ** (4.0 / 40.0)
    angle = 2.0 * np.pi * (1500.0 / rate)
    cosine, slope = np.cos(angle), 2 * np.sqrt(gain) * (np.sin(angle) / (2.0 * (1 / np.sqrt(2))))
    return _normalised(
        [
            gain * ((gain + 1) + (gain - 1) * cosine + slope),
            -2 * gain * ((gain - 1) + (gain + 1) * cosine),
            gain * ((gain + 1) + (gain - 1) * cosine - slope),
        ],
        [
            (gain + 1) - (gain - 1) * cosine + slope,
            2 * ((gain - 1) - (gain + 1) * cosine),
            (gain + 1) - (gain - 1) * cosine - slope,
        ],
    )


def _high_pass(rate: int) -> Coefficients:
    """Nothing below 38 Hz."""
    angle = 2.0 * np.pi * (38.0 / rate)
    cosine, slope = np.cos(angle), np.sin(angle) / (2.0 * 0.5)
    passed = (1 + cosine) / 2
    return _normalised([passed, -(1 + cosine), passed], [1 + slope, -2 * cosine, 1 - slope])


def _normalised(numerator: list[float], denominator: list[float]) -> Coefficients:
    first: NDArray[np.float64] = np.asarray(denominator[0])
    return (np.array(numerator) / first).tolist(), (np.array(denominator) / first).tolist()
