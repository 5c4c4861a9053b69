"""The source signal that gives the vocoder its pitch: harmonics where there is a voice, noise where there is none.

Equals upstream's ``hifigan.py`` (``SineGen``, ``SourceModuleHnNSF``) for the same random numbers, but for its phase:
upstream adds up every sample's step in float32 from the utterance's first, which drifts; here whole frames are added
up in float64 where the device has it, and the sum is carried from one part of an utterance to the next.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..speech_tokens import SAMPLE_RATE
from .layers import Weights
from .noise import Noise

__all__ = ["Source", "SourceStream"]

_VOICED_ABOVE_HZ = 10.0
_AMPLITUDE = 0.1
_VOICED_NOISE = 0.003
_UNVOICED_NOISE = _AMPLITUDE / 3


class Source:
    def __init__(self, weights: Weights, samples_per_frame: int) -> None:
        self._merge = weights.linear("l_linear")
        harmonics = weights.tensor("l_linear.weight", 1, -1).shape[1]
        self._device = weights.device
        self._exact = torch.float32 if weights.device.type == "mps" else torch.float64
        self._multiples = torch.arange(1, harmonics + 1, device=self._device).unsqueeze(1)
        self._samples = torch.arange(1, samples_per_frame + 1, device=self._device, dtype=self._exact)

    def stream(self, noise: Noise) -> SourceStream:
        return SourceStream(self, noise)

    def begin(self, noise: Noise) -> tuple[Tensor, Tensor]:
        """The harmonics' first phases in radians and the cycles they have done since, each ``[harmonics, 1]``."""
        phases = noise.phases(self._multiples.numel()).to(self._device).unsqueeze(1)
        return phases, torch.zeros_like(phases, dtype=self._exact)

    def render(self, pitch: Tensor, noise: Noise, frame: int, phases: Tensor, turned: Tensor) -> tuple[Tensor, Tensor]:
        """The signal ``[480 n]`` of ``pitch`` ``[n]`` in Hz, the first of which is of ``frame``; and how far the phases
        have come at its end."""
        harmonics, frames, samples = self._multiples.numel(), pitch.numel(), self._samples.numel()
        steps = (pitch * self._multiples / SAMPLE_RATE).to(self._exact)
        ends = turned + torch.cumsum(steps * samples % 1, dim=1)
        starts = torch.cat([turned, ends[:, :-1]], dim=1)
        cycles = (starts.unsqueeze(2) + steps.unsqueeze(2) * self._samples) % 1
        angles = 2 * math.pi * cycles.float().view(harmonics, -1) + phases
        voiced = (pitch > _VOICED_ABOVE_HZ).float().repeat_interleave(samples)
        loudness = voiced * _VOICED_NOISE + (1 - voiced) * _UNVOICED_NOISE
        random = noise.source(frame, frames, harmonics=harmonics, samples=samples, device=self._device)
        waves = _AMPLITUDE * torch.sin(angles) * voiced + loudness * random
        return torch.tanh(self._merge(waves.T)).squeeze(1), ends[:, -1:] % 1


class SourceStream:
    """An utterance's source, part by part."""

    def __init__(self, source: Source, noise: Noise) -> None:
        self._source = source
        self._noise = noise
        self._phases, self._turned = source.begin(noise)
        self._frames = 0

    def push(self, pitch: Tensor) -> Tensor:
        """The signal ``[480 n]`` of the next ``n`` frames' ``pitch`` in Hz."""
        signal, self._turned = self._source.render(pitch, self._noise, self._frames, self._phases, self._turned)
        self._frames += pitch.numel()
        return signal
