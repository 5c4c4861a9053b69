"""Mel frames to samples as they come, with the samples that the whole utterance at once would give.

The source signal gives the vocoder its pitch: harmonics where there is a voice, noise where there is none. It equals
upstream's ``hifigan.py`` (``SineGen``, ``SourceModuleHnNSF``) for the same random numbers, but for its phase: upstream
adds up every sample's step in float32 from the utterance's first, which drifts; here whole frames are added up in
float64 where the device has it, and the sum is carried from one part of an utterance to the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..device import Capturer
from ..speech_tokens import SAMPLE_RATE
from .cuda_graphs import GraphedGenerator, Synthesize
from .generator import Generator, PitchPredictor
from .layers import Weights
from .noise import MEL_CHANNELS, Noise

__all__ = ["LOOKAHEAD", "SAMPLES_PER_FRAME", "Source", "SourceStream", "Vocoder", "VocoderStream"]


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


SAMPLES_PER_FRAME = Generator.samples_per_frame

_LEFT = 15
"""Frames before a frame that its samples depend on; the layers' kernels reach no further than 14.3."""
LOOKAHEAD = 10
"""Frames after a frame that its samples are given. The kernels reach 14.3 there too, but what lies beyond these changes
a sample by less than 1e-5; with 6 frames it would be 1e-3, with 4 3e-3 (of an amplitude of 0.1, random weights)."""


class Vocoder:
    """Equals upstream's ``HiFTGenerator.inference`` for the same random numbers."""

    def __init__(self, weights: Weights, *, generator: Callable[[Weights], Synthesize] = Generator) -> None:
        """``generator`` makes the network that makes samples: torch's, or another that equals it."""
        self._pitch = PitchPredictor(weights.scope("f0_predictor."))
        self._generator = generator(weights)
        self._synthesize = self._generator
        self._source = Source(weights.scope("m_source."), SAMPLES_PER_FRAME)
        self._device = weights.device

    @torch.inference_mode()
    def capture(self, capturer: Capturer) -> None:
        """Have CUDA graphs of the generator. Raises ``RuntimeError`` if one is wrong, or what the device raises."""
        self._synthesize = GraphedGenerator(
            self._generator,
            capturer,
            channels=MEL_CHANNELS,
            samples_per_frame=SAMPLES_PER_FRAME,
            device=self._device,
        )

    def stream(self, noise: Noise, *, lookahead: int = LOOKAHEAD) -> VocoderStream:
        """A smaller ``lookahead`` lets samples leave earlier, but they then differ a little from the whole's."""
        return VocoderStream(
            pitch=self._pitch,
            source=self._source.stream(noise),
            generator=self._generator,
            synthesize=self._synthesize,
            lookahead=lookahead,
            device=self._device,
        )

    def whole(self, mel: Tensor, noise: Noise) -> Tensor:
        """The samples ``[480 n]`` float32, 24 kHz, of a mel ``[80, n]``."""
        stream = self.stream(noise)
        stream.take(mel)
        return stream.finish()


class VocoderStream:
    """One utterance. The samples of its pieces, one after another, do not depend on how its mel was cut.

    A frame's pitch is known 5 frames later and its samples are final ``lookahead`` frames after that: with 10, 300 ms
    of mel are held back until ``finish``.
    """

    @torch.inference_mode()
    def __init__(
        self,
        *,
        pitch: PitchPredictor,
        source: SourceStream,
        generator: Synthesize,
        synthesize: Synthesize,
        lookahead: int,
        device: torch.device,
    ) -> None:
        self._pitch = pitch
        self._source = source
        self._generator = generator
        self._synthesize = synthesize
        self._lookahead = lookahead
        self._mel = torch.empty(MEL_CHANNELS, 0, device=device)
        self._signal = torch.empty(0, device=device)
        self._first = 0
        """The frame with which ``_mel`` and ``_signal`` begin."""
        self._sent = 0
        """Frames whose samples have left."""

    @torch.inference_mode()
    def take(self, mel: Tensor) -> None:
        """Take the next frames ``[80, n]`` without making samples of them."""
        self._mel = torch.cat([self._mel, mel.to(self._mel)], dim=1)

    @torch.inference_mode()
    def push(self, mel: Tensor) -> Tensor:
        """Take the next frames ``[80, n]``; gives the samples that are final, ``[480 m]`` float32, ``m >= 0``."""
        self.take(mel)
        return self._advance(final=False)

    @torch.inference_mode()
    def finish(self) -> Tensor:
        """The rest of the samples. No frame comes after this."""
        return self._advance(final=True)

    def _advance(self, *, final: bool) -> Tensor:
        taken = self._first + self._mel.shape[1]
        self._extend_signal(taken if final else taken - self._pitch.context)
        known = self._first + self._signal.numel() // SAMPLES_PER_FRAME
        ready = known if final else known - self._lookahead
        if ready <= self._sent:
            return self._signal[:0]
        start = max(self._first, self._sent - _LEFT) - self._first
        end = known - self._first
        # Where the utterance ends nothing may be put behind it.
        synthesize = self._generator if final else self._synthesize
        samples = synthesize(
            self._mel[None, :, start:end], self._signal[None, start * SAMPLES_PER_FRAME : end * SAMPLES_PER_FRAME]
        )[0]
        offset = self._first + start
        samples = samples[(self._sent - offset) * SAMPLES_PER_FRAME : (ready - offset) * SAMPLES_PER_FRAME]
        self._sent = ready
        self._forget(max(self._first, ready - _LEFT))
        return samples

    def _extend_signal(self, end: int) -> None:
        """Make the source up to the frame ``end``."""
        known = self._first + self._signal.numel() // SAMPLES_PER_FRAME
        if end <= known:
            return
        start = max(self._first, known - self._pitch.context)
        pitch = self._pitch(self._mel[None, :, start - self._first :])[0, known - start : end - start]
        self._signal = torch.cat([self._signal, self._source.push(pitch)])

    def _forget(self, first: int) -> None:
        """Let go of the frames before ``first``."""
        self._mel = self._mel[:, first - self._first :].clone()
        self._signal = self._signal[(first - self._first) * SAMPLES_PER_FRAME :].clone()
        self._first = first
