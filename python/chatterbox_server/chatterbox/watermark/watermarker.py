"""Perth's watermark: marking, detecting, and a check that both work on this machine."""

from __future__ import annotations

import numpy as np
import soxr
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from .marker import Samples, WatermarkStream
from .network import Decoder, Encoder, WatermarkError, open_weights
from .spectrum import HALF, HOP, SAMPLE_RATE, frames, level

__all__ = ["Watermarker"]

_MARKED = 0.5
"""Upstream rounds the detector's answer."""
_SHORTEST = 4
"""Frames without which there is nothing to look at: 30 ms."""


class Watermarker:
    """Marks audio of any number of utterances at once."""

    def __init__(self, encoder: Encoder, decoder: Decoder, device: torch.device) -> None:
        self._encoder = encoder
        self._decoder = decoder
        self._device = device

    @classmethod
    def load(cls, device: torch.device) -> Watermarker:
        """With the weights that the package ``resemble-perth`` brings. Raises ``WatermarkError``."""
        if device.type not in ("cpu", "cuda"):
            # Others lack some of the transforms on complex numbers, and the networks are small.
            device = torch.device("cpu")
        weights = open_weights()
        # Little is ever detected, so that network stays in the mapped file.
        return cls(Encoder(weights, device), Decoder(weights, torch.device("cpu")), device)

    def stream(self) -> WatermarkStream:
        """Marks one utterance."""
        return WatermarkStream(self._encoder, self._device)

    def whole(self, samples: Samples) -> Samples:
        """The same for ``samples`` at 24 kHz that are all there."""
        stream = self.stream()
        return np.concatenate([stream.push(samples), stream.finish()])

    @torch.inference_mode()
    def detect(self, samples: NDArray[np.floating], rate: int) -> float:
        """How surely ``samples`` are marked: upstream takes 0.5 or more for yes. Silence is not."""
        mono = np.ascontiguousarray(samples, np.float32)
        if rate != SAMPLE_RATE:
            mono = soxr.resample(mono, rate, SAMPLE_RATE)
        if mono.size < _SHORTEST * HOP:
            return 0.0
        mode = "reflect" if mono.size > HALF else "constant"
        extended = F.pad(torch.from_numpy(mono)[None], (HALF, HALF), mode=mode)[0]
        spectra, sound = frames(extended, self._decoder.bins)
        if not sound.any():
            return 0.0
        return float(self._decoder(level(spectra), sound).clip(0, 1))

    def self_test(self) -> None:
        """Raises ``WatermarkError`` if a second of made-up voice is not told from the same, marked."""
        voice = _voice()
        found, mistaken = self.detect(self.whole(voice), SAMPLE_RATE), self.detect(voice, SAMPLE_RATE)
        # Not a comparison that is false for NaN, which is what a broken device gives.
        if not (found >= _MARKED > mistaken):
            raise WatermarkError(
                f"The watermark does not work on this machine: its detector gives {found:.2f} for marked audio and "
                f"{mistaken:.2f} for unmarked. Reinstall torch, or set WATERMARK=off to send audio unmarked."
            )


def _voice() -> Samples:
    """One second like a voice: harmonics of a moving pitch, in syllables, with a little noise."""
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(140 * (1 + 0.2 * np.sin(2 * np.pi * 2.3 * time))) / SAMPLE_RATE
    tone = sum(np.sin(number * phase) / number for number in range(1, 20))
    noise = np.random.default_rng(1).standard_normal(SAMPLE_RATE)
    syllables = 0.6 + 0.4 * np.sin(2 * np.pi * 3.1 * time)
    return np.asarray(0.1 * tone * syllables + 0.002 * noise, np.float32)
