"""What ``librosa`` computes of clips for upstream, to the bit, without it: importing it takes seconds and 150 MB."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

__all__ = ["Samples", "mel_filters", "powers", "without_silence"]

Samples = NDArray[np.float32]

SILENCE_FRAME, SILENCE_HOP = 2048, 512
"""Samples in which silence is looked for, and from frame to frame."""
LEAST_POWER = 1e-10


def mel_filters(rate: int, fft: int, mels: int, highest: float) -> Samples:
    """Slaney's filters ``[mels, fft / 2 + 1]`` from 0 to ``highest`` Hz: ``librosa.filters.mel``."""
    edges = _from_mel(np.linspace(0.0, _to_mel(highest), mels + 2))
    width = np.diff(edges)
    ramps = np.subtract.outer(edges, np.fft.rfftfreq(fft, 1.0 / rate))
    filters = np.zeros((mels, 1 + fft // 2), np.float32)
    for mel, row in enumerate(filters):
        row[:] = np.maximum(0, np.minimum(-ramps[mel] / width[mel], ramps[mel + 2] / width[mel + 1]))
    filters *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return filters


# Linear up to 1000 Hz, 15 mel, and from there on in steps of equal ratio.
_HZ_PER_MEL, _LOG_HZ = 200.0 / 3, 1000.0
_LOG_MEL, _LOG_STEP = _LOG_HZ / _HZ_PER_MEL, np.log(6.4) / 27.0


def _to_mel(hz: float) -> np.float64:
    return np.float64(_LOG_MEL + np.log(hz / _LOG_HZ) / _LOG_STEP if hz >= _LOG_HZ else hz / _HZ_PER_MEL)


def _from_mel(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    hz = _HZ_PER_MEL * mels
    log = mels >= _LOG_MEL
    hz[log] = _LOG_HZ * np.exp(_LOG_STEP * (mels[log] - _LOG_MEL))
    return hz


def powers(samples: Samples, fft: int, hop: int) -> Samples:
    """The power spectrum ``[fft / 2 + 1, frames]`` of frames centred at every ``hop``: ``librosa.stft``, squared."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, fft // 2, mode="reflect"), fft)[::hop].T
    # Column by column, as in librosa: the product with the filters depends on it in its last bits.
    spectrum = np.zeros((1 + fft // 2, frames.shape[1]), np.complex64, order="F")
    # Some frames at a time: each takes fifteen times its hop in double precision.
    for first in range(0, frames.shape[1], 1024):
        some = slice(first, first + 1024)
        spectrum[:, some] = np.fft.rfft(_hann(fft)[:, None] * frames[:, some], axis=0)
    magnitudes = np.abs(spectrum)
    magnitudes **= 2.0
    return magnitudes


@functools.cache
def _hann(size: int) -> NDArray[np.float64]:
    """``scipy.signal.get_window("hann", size)``."""
    phase = np.linspace(-np.pi, np.pi, size + 1)
    window: NDArray[np.float64] = (0.5 + 0.5 * np.cos(phase))[:-1]
    return window


def without_silence(samples: Samples, below: float) -> Samples:
    """``samples`` less what at either end is ``below`` decibels under the loudest frame: ``librosa.effects.trim``."""
    half = SILENCE_FRAME // 2
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, half), SILENCE_FRAME)[::SILENCE_HOP].T
    level = np.sqrt(np.mean(np.square(frames, dtype=np.float32), axis=0))
    loudest = level.max() ** 2
    decibels = 10.0 * np.log10(np.maximum(LEAST_POWER, np.square(level)))
    decibels -= 10.0 * np.log10(np.maximum(LEAST_POWER, loudest))
    (heard,) = np.nonzero(decibels > -below)
    return samples[heard[0] * SILENCE_HOP : (heard[-1] + 1) * SILENCE_HOP] if heard.size else samples[:0]
