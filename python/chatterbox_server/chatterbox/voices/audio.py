"""Clips as they come in: what can be used, at which rate, how loud, and their spectra.

This is what ``librosa`` and ``pyloudnorm`` (ITU-R BS.1770-4 with its filters) compute for upstream, to the bit, without
them: importing them takes seconds and 150 MB.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import NDArray

from ...model_runner import RequestError
from ..interfaces import Samples

__all__ = [
    "MAX_SECONDS",
    "check_level",
    "check_samples",
    "loudness",
    "mel_filters",
    "powers",
    "resample",
    "without_silence",
]


MIN_RATE, MAX_RATE = 8_000, 192_000
MAX_SECONDS = 600
MIN_PEAK = 1e-4
MAX_PEAK = 1e4
MIN_LEVEL_DB = -80.0


def check_samples(pcm: Samples, rate: int, *, min_seconds: float) -> None:
    """Refuse a clip that is too short, of an odd rate, or not made of finite numbers.

    ``pcm`` is ``[n]`` float32, ``rate`` in Hz. Raises ``RequestError`` with the code ``UNSUPPORTED_AUDIO``.
    """
    if pcm.ndim != 1 or pcm.dtype != np.float32:
        raise ValueError(f"a clip is one row of float32, not {pcm.dtype} of shape {pcm.shape}")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise _unsupported(f"The clip's rate is {rate} Hz; {MIN_RATE} to {MAX_RATE} Hz can be used.")
    seconds = pcm.size / rate
    if seconds < min_seconds:
        raise _unsupported(f"The clip lasts {seconds:.2f} s; at least {min_seconds:g} s are needed.")
    broken = pcm.size - int(np.count_nonzero(np.isfinite(pcm)))
    if broken:
        raise _unsupported(f"{broken} of the clip's {pcm.size} samples are not finite numbers.")
    peak = float(np.abs(pcm).max())
    if peak > MAX_PEAK:
        raise _unsupported(f"The clip reaches {peak:.3g} where full scale is 1; at most {MAX_PEAK:g} can be used.")


def check_level(pcm: Samples, rate: int) -> None:
    """Refuse a clip that holds nothing but silence. Raises ``RequestError`` with the code ``UNSUPPORTED_AUDIO``."""
    peak = float(np.abs(pcm).max())
    level = _decibels(math.sqrt(float(np.mean(np.square(pcm, dtype=np.float64)))))
    if peak < MIN_PEAK or level < MIN_LEVEL_DB:
        raise _unsupported(
            f"The first {pcm.size / rate:.1f} s of the clip are silent: they reach {_decibels(peak):.0f} dBFS and "
            f"{level:.0f} dBFS on average; at least {_decibels(MIN_PEAK):.0f} and {MIN_LEVEL_DB:.0f} dBFS are needed."
        )


def resample(pcm: Samples, rate: int, target: int) -> Samples:
    """``pcm`` at ``target`` Hz, writable, the bits that upstream's ``librosa.load`` and ``librosa.resample`` give."""
    if rate != target:
        import soxr  # not at the top: most processes never resample a clip

        size = math.ceil(pcm.size * (target / rate))
        resampled = soxr.resample(pcm, rate, target, "soxr_hq")[:size]
        pcm = np.pad(resampled, (0, size - resampled.size))
    # PyTorch does not take memory that it may not write to, which a client's bytes are.
    return np.require(pcm, dtype=np.float32, requirements=["C", "W"])


def _decibels(amplitude: float) -> float:
    return 20 * math.log10(max(amplitude, 1e-10))


def _unsupported(message: str) -> RequestError:
    return RequestError("UNSUPPORTED_AUDIO", message)


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
    (loud,) = np.nonzero(decibels > -below)
    return samples[loud[0] * SILENCE_HOP : (loud[-1] + 1) * SILENCE_HOP] if loud.size else samples[:0]


BLOCK_SECONDS = 0.4
STEP = 0.25
"""From block to block, in blocks."""
OFFSET = -0.691
ABSOLUTE, RELATIVE = -70.0, -10.0
"""Levels below which blocks do not count, the second one beside the mean of those that do."""

Coefficients = tuple[list[float], list[float]]


def loudness(samples: Samples, rate: int) -> float:
    """LUFS of one channel; not finite where it is undefined. Raises ``ValueError`` for less than one block."""
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
    gated = level >= ABSOLUTE
    if not gated.any():
        return -math.inf
    gated = (level > OFFSET + 10.0 * np.log10(np.mean(power[gated])) + RELATIVE) & (level > ABSOLUTE)
    return float(OFFSET + 10.0 * np.log10(np.mean(power[gated]))) if gated.any() else -math.inf


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
