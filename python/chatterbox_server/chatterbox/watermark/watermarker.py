"""Perth's watermark: marking one utterance piece by piece, detecting, and a check that both work on this machine."""

from __future__ import annotations

import numpy as np
import soxr
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from .perth import (
    FRAME,
    HALF,
    HOP,
    SAMPLE_RATE,
    Decoder,
    Encoder,
    WatermarkError,
    frames,
    gain,
    level,
    open_weights,
    synthesise,
)

__all__ = ["WatermarkStream", "Watermarker"]


Samples = NDArray[np.float32]

_BLOCK = 6
"""Frames that are marked at once. Blocks lie on a grid of their own, so it does not matter how the audio is cut."""
_BEFORE, _AFTER = 6, 4
"""Frames around a block that the network sees with it.

Fifteen to either side would make the mark equal to that of the whole file. With these it is as well detected, is as
strong (within 4 %) and has nearly the same form (a correlation of 0.997), and audio is held back for 110 ms less.
"""
_STEP = _BLOCK * HOP
_SEEN = (_BEFORE + _BLOCK + _AFTER - 1) * HOP + FRAME
"""Samples that the frames of a block and around it cover."""
_COVERED = (_BLOCK - 1) * HOP + FRAME
_FIRST = -(HALF // HOP)
"""The first frame that reaches into the audio."""


class WatermarkStream:
    """Takes samples at 24 kHz in and gives as many out, 94 to 154 ms later; ``finish`` gives the rest.

    The mark is a signal that is added: nothing above 2 kHz is touched, silence stays silent, and there are no seams,
    since it is made of frames that overlap by five sixths.
    """

    def __init__(self, encoder: Encoder, device: torch.device) -> None:
        self._encoder = encoder
        self._device = device
        # Before the audio there is silence, as far as the first block looks back.
        self._waiting: Samples = np.zeros((_BEFORE - _FIRST) * HOP + HALF, np.float32)
        self._overlap: Samples = np.zeros(_COVERED - _STEP, np.float32)
        self._ahead = HALF - _FIRST * HOP
        """Samples that will come out before the first that went in."""
        self._owed = 0

    def push(self, samples: Samples) -> Samples:
        """The marked samples that are ready."""
        self._owed += samples.size
        return self._through(samples)

    def finish(self) -> Samples:
        """The rest of the samples. Nothing may be pushed after it."""
        # What is held back at most. The silence itself is not given out.
        return self._through(np.zeros(FRAME + (_BLOCK + _AFTER) * HOP, np.float32))

    def _through(self, samples: Samples) -> Samples:
        self._waiting = np.concatenate([self._waiting, samples], dtype=np.float32)
        blocks = (self._waiting.size - _SEEN) // _STEP + 1
        if blocks <= 0:
            return np.zeros(0, np.float32)
        ready = blocks * _STEP
        mark = np.zeros(ready + self._overlap.size, np.float32)
        mark[: self._overlap.size] = self._overlap
        for start, part in zip(range(0, ready, _STEP), self._marks(blocks), strict=True):
            mark[start : start + _COVERED] += part
        marked = self._waiting[_BEFORE * HOP :][:ready] + mark[:ready]
        self._overlap = mark[ready:].copy()
        self._waiting = self._waiting[ready:].copy()
        skipped = min(self._ahead, marked.size)
        self._ahead -= skipped
        marked = marked[skipped : skipped + self._owed]
        self._owed -= marked.size
        return marked

    @torch.inference_mode()
    def _marks(self, blocks: int) -> Samples:
        """The watermark of each of the next ``blocks``: ``[blocks, _COVERED]``."""
        needed = (blocks - 1) * _STEP + _SEEN
        waiting = torch.from_numpy(self._waiting[:needed]).to(self._device)
        spectra, sound = frames(waiting.unfold(0, _SEEN, _STEP), self._encoder.bins)
        change = self._encoder(level(spectra))
        own = slice(_BEFORE, _BEFORE + _BLOCK)
        added = spectra[:, own] * (gain(change[:, own]) - 1) * sound[:, own, None]
        parts = synthesise(added)
        covered = parts.new_zeros(blocks, _COVERED)
        for index in range(_BLOCK):
            covered[:, index * HOP :][:, :FRAME] += parts[:, index]
        return covered.cpu().numpy()


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
        """Confidence that ``samples`` are marked: upstream takes 0.5 or more for yes. Silence is not."""
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
        """Raises ``WatermarkError`` if a second of synthetic voice and the same, marked, are not distinguished."""
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
