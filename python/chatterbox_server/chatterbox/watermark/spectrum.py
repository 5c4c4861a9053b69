"""Perth's spectrogram of audio at 24 kHz.

Perth works at 32 kHz with frames of 2048 samples every 320 (``audio_processor.py``, ``hparams.yaml``), and upstream
resamples there and back. Frames of the same duration at 24 kHz have their bins at the same frequencies, so below
12 kHz the spectrum is the same but for a factor, and nothing needs to be resampled.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from ..speech_tokens import SAMPLE_RATE

__all__ = ["FRAME", "HALF", "HOP", "SAMPLE_RATE", "frames", "gain", "level", "synthesise"]

FRAME, HOP = 1536, 240
"""Samples: 64 and 10 ms."""
HALF = FRAME // 2
"""Frame ``t`` is centred at sample ``t * HOP``, so it reaches so far to either side."""

_FACTOR = 2048 / FRAME
"""Of Perth's magnitudes to these: its frames have so many more samples."""
_LOWEST = 1e-9
_RANGE_DB, _LOWEST_DB = 195.0, -180.0
"""Perth's scale: 0 is its lowest level, 1 is 15 dB. See ``normalize`` in its ``utils.py``."""


@functools.cache
def _window(device: torch.device) -> Tensor:
    return torch.hann_window(FRAME, device=device)


def frames(samples: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Spectra ``[..., t, bins]`` of all whole frames of ``samples`` ``[..., n]``, and whether there is sound in each.

    Perth marks no frame below a twentieth of the loudest on its scale: below -170 dB, which nothing but digital
    silence is. That needs no look at the rest of the audio.
    """
    cut = samples.unfold(-1, FRAME, HOP)
    sound = cut.abs().amax(-1) > _LOWEST
    return torch.fft.rfft(cut * _window(samples.device))[..., :bins], sound


def level(spectra: Tensor) -> Tensor:
    """Perth's logarithmic magnitudes, about 0 to 1."""
    decibels = 20 * torch.log10((spectra.abs() * _FACTOR).clip(_LOWEST))
    return (decibels - _LOWEST_DB) / _RANGE_DB


def gain(change: Tensor) -> Tensor:
    """The factor of a magnitude whose ``level`` is to ``change`` by so much."""
    return torch.exp(change * (_RANGE_DB / 20 * math.log(10)))


def synthesise(spectra: Tensor) -> Tensor:
    """Samples ``[..., FRAME]`` of each spectrum ``[..., bins]``; where frames overlap they add up to the signal.

    They are scaled for frames that go on without end to either side. The squared windows then add up to 2.4 with a
    ripple of 0.03 %, which Perth's inverse takes out sample by sample.
    """
    window = _window(spectra.device)
    hops = torch.nn.functional.pad(window**2, (0, -FRAME % HOP)).reshape(-1, HOP).sum(0)
    scale = window / hops.repeat(-(-FRAME // HOP))[:FRAME]
    samples: Tensor = torch.fft.irfft(spectra, n=FRAME)
    return samples * scale
