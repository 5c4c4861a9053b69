"""Clips as they come in: what can be used, and at which rate."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...model_runner import RequestError

__all__ = ["MAX_SECONDS", "check_level", "check_samples", "resample"]

Samples = NDArray[np.float32]

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
        import soxr  # not at the top: most processes never hear a clip

        size = math.ceil(pcm.size * (target / rate))
        resampled = soxr.resample(pcm, rate, target, "soxr_hq")[:size]
        pcm = np.pad(resampled, (0, size - resampled.size))
    # PyTorch does not take memory that it may not write to, which a client's bytes are.
    return np.require(pcm, dtype=np.float32, requirements=["C", "W"])


def _decibels(amplitude: float) -> float:
    return 20 * math.log10(max(amplitude, 1e-10))


def _unsupported(message: str) -> RequestError:
    return RequestError("UNSUPPORTED_AUDIO", message)
