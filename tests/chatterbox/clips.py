"""Synthetic voiced clips: harmonics of a moving pitch in syllables, over a little noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

__all__ = ["voiced", "write"]


def voiced(seconds: float, rate: int, *, pitch: float = 140.0, level: float = 0.2) -> NDArray[np.float32]:
    """``[seconds * rate]`` samples; the same for the same arguments."""
    time = np.arange(round(seconds * rate)) / rate
    frequency = pitch * (1 + 0.25 * np.sin(2 * np.pi * 0.7 * time) + 0.1 * np.sin(2 * np.pi * 2.3 * time))
    phase = 2 * np.pi * np.cumsum(frequency) / rate
    harmonics = range(1, min(20, int(rate / 2 / (1.4 * pitch))))
    tone = sum(np.sin(index * phase) / index**1.2 for index in harmonics)
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 3.1 * time)
    noise = np.random.default_rng(7).standard_normal(time.size)
    return np.asarray(level * (0.5 * tone * syllables + 0.02 * noise), dtype=np.float32)


def write(path: Path, pcm: NDArray[np.float32], rate: int) -> Path:
    soundfile.write(path, pcm, rate, subtype="FLOAT")
    return path
