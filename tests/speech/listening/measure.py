"""Measures of audio: where it is silent, how loud, how far apart two renderings are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]

_QUIET_POWER = 1e-5
"""-50 dB of full scale."""


def to_float(pcm: NDArray[np.int16]) -> Samples:
    """16-bit samples as fractions of full scale."""
    return (pcm / np.float32(32_768)).astype(np.float32)


@dataclass(frozen=True)
class Gap:
    """A stretch without speech, in seconds from the beginning."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin


def gaps(samples: Samples, rate: int, least_seconds: float = 0.1) -> list[Gap]:
    """The stretches without speech between the first speech and the last, in windows of 5 ms."""
    window = rate // 200
    power = (samples[: samples.size // window * window].reshape(-1, window).astype(np.float64) ** 2).mean(axis=1)
    loud = np.flatnonzero(power > _QUIET_POWER)
    ends = zip(loud[:-1] + 1, loud[1:], strict=True)
    found = [Gap(begin * window / rate, end * window / rate) for begin, end in ends]
    return [gap for gap in found if gap.seconds >= least_seconds]


def jumps(samples: Samples) -> Samples:
    """How far each sample is from the one before it."""
    return np.abs(np.diff(samples))


def band_share(samples: Samples, rate: int, above_hz: float) -> float:
    """The part of the power that lies above a frequency."""
    spectrum = np.abs(np.fft.rfft(samples.astype(np.float64))) ** 2
    frequencies = np.fft.rfftfreq(samples.size, 1 / rate)
    return float(spectrum[frequencies > above_hz].sum() / spectrum.sum())


def low_band(samples: Samples, rate: int) -> Samples:
    """``samples`` at 48 kHz, without what lies above 3 kHz."""
    return np.asarray(soxr.resample(soxr.resample(samples, rate, 6000), 6000, 48_000), np.float32)


def difference_db(samples: Samples, reference: Samples) -> float:
    """The largest difference in any 480 samples, against the reference's mean power, in dB."""
    window = 480
    size = min(samples.size, reference.size) // window * window
    error = (samples[:size].astype(np.float64) - reference[:size]).reshape(-1, window)
    worst = (error**2).mean(axis=1).max()
    return float(10 * np.log10(worst / (reference.astype(np.float64) ** 2).mean()))
