"""Resampling, filters and loudness of clips equal those of upstream's packages to the bit."""

from __future__ import annotations

import importlib
import math
from typing import Any

import clips
import numpy as np
import pytest
from chatterbox_server._core import biquad
from chatterbox_server.chatterbox.voices.audio import loudness, mel_filters, powers, resample, without_silence

librosa: Any = importlib.import_module("librosa")


@pytest.mark.parametrize(("rate", "target"), [(44_100, 24_000), (8_000, 16_000), (24_000, 16_000), (11_025, 16_000)])
@pytest.mark.parametrize("samples", [8_001, 20_000])
def test_resampling_equals_librosa(rate: int, target: int, samples: int) -> None:
    clip = clips.voiced(3.0, rate)[:samples]
    found = resample(clip, rate, target)
    assert np.array_equal(found, librosa.resample(clip, orig_sr=rate, target_sr=target))


@pytest.mark.parametrize(
    ("rate", "fft", "mels", "highest"),
    [(16_000, 400, 128, 8000.0), (16_000, 400, 40, 8000.0), (24_000, 1920, 80, 8000.0)],
)
def test_filters_equal_librosa(rate: int, fft: int, mels: int, highest: float) -> None:
    expected = librosa.filters.mel(sr=rate, n_fft=fft, n_mels=mels, fmin=0, fmax=highest)
    found = mel_filters(rate, fft, mels, highest)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("samples", [512, 1_600, 16_000, 16_333, 400_000])
def test_power_spectra_equal_librosa(samples: int) -> None:
    clip = clips.voiced(26.0, 16_000)[:samples]
    expected = np.abs(librosa.stft(clip, n_fft=400, hop_length=160, pad_mode="reflect")) ** 2
    found = powers(clip, 400, 160)
    assert np.array_equal(found, expected)
    # What they are multiplied with next goes through them in the order in which they lie.
    assert found.flags.f_contiguous == expected.flags.f_contiguous


@pytest.mark.parametrize("start", [0, 3_000, 9_999])
@pytest.mark.parametrize("end", [0, 1_000, 20_000])
def test_silence_detection_equals_librosa(start: int, end: int) -> None:
    quiet = np.random.default_rng(1).normal(0, 1e-3, start + end).astype(np.float32)
    clip = np.concatenate([quiet[:start], clips.voiced(1.0, 16_000), quiet[start:]])
    expected, _ = librosa.effects.trim(clip, top_db=20)
    assert np.array_equal(without_silence(clip, 20), expected)
    assert expected.size < clip.size or start + end < 2_048


@pytest.mark.parametrize("rate", [24_000, 16_000])
@pytest.mark.parametrize("seconds", [0.4, 1.234, 5.0])
def test_loudness_equals_pyloudnorm(rate: int, seconds: float) -> None:
    meter: Any = importlib.import_module("pyloudnorm").Meter(rate)
    clip = clips.voiced(seconds, rate)
    # A quiet half, whose blocks do not count.
    clip[: clip.size // 2] *= np.float32(1e-3)
    assert loudness(clip, rate) == float(meter.integrated_loudness(clip))


def test_loudness_of_silence_is_undefined() -> None:
    assert loudness(np.zeros(24_000, np.float32), 24_000) == -math.inf
    with pytest.raises(ValueError, match=r"0\.4 s"):
        loudness(np.zeros(9_599, np.float32), 24_000)


def test_filtering_does_not_change_input() -> None:
    scipy_signal: Any = importlib.import_module("scipy.signal")
    clip = clips.voiced(1.0, 24_000)
    given, found = clip.copy(), np.empty_like(clip)
    numerator, denominator = [0.2, -0.1, 0.3], [1.0, -1.6, 0.8]
    biquad(given, found, numerator, denominator)
    assert np.array_equal(given, clip)
    assert np.array_equal(found, scipy_signal.lfilter(numerator, denominator, clip).astype(np.float32))


@pytest.mark.parametrize(
    ("samples", "out", "denominator", "said"),
    [
        (np.zeros((2, 2), np.float32), np.zeros(4, np.float32), [1.0, 0.0, 0.0], "samples has shape"),
        (np.zeros(4, np.float32), np.zeros(3, np.float32), [1.0, 0.0, 0.0], "out has shape"),
        (np.zeros(4, np.float32), np.zeros(4, np.float32), [2.0, 0.0, 0.0], "denominator"),
    ],
)
def test_invalid_filters_are_refused(samples: Any, out: Any, denominator: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        biquad(samples, out, [1.0, 0.0, 0.0], denominator)
