"""One utterance's mel frames to samples: slices joined, stretched to the speaking rate, and vocoded."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..conditionals import Conditionals
from ..interfaces import MelJob, Samples, Slice
from ..speech_tokens import FRAMES_PER_TOKEN
from .noise import Noise
from .vocoder import Vocoder

__all__ = ["MelStream", "Stretch"]


class Stretch:
    """Linear interpolation between frames, as they come. ``speed`` 2 halves the number of frames; 1 changes nothing.

    Output frame ``j`` lies at input position ``j * speed``, so the result does not depend on how the input is cut.
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._taken = 0
        self._made = 0
        self._last: Tensor | None = None

    def push(self, mel: Tensor, *, final: bool) -> Tensor:
        """``mel`` ``[80, n]`` stretched, as far as it is known; with ``final``, to the end."""
        if self._speed == 1.0 or (not mel.shape[1] and not final):
            return mel
        first = self._taken
        if self._last is not None:
            mel, first = torch.cat([self._last, mel], dim=1), first - 1
        self._taken = first + mel.shape[1]
        self._last = mel[:, -1:]
        # Positions up to the last frame known; a final frame is held, not extrapolated.
        end = self._taken if final else self._taken - 1
        count = max(0, math.ceil(end / self._speed) - self._made)
        positions = (self._made + torch.arange(count, dtype=torch.float64)) * self._speed - first
        self._made += count
        left = positions.floor().clamp(0, mel.shape[1] - 1).long()
        right = (left + 1).clamp(max=mel.shape[1] - 1)
        weight = (positions - left).clamp(0, 1).to(mel).unsqueeze(0)
        left, right = left.to(mel.device), right.to(mel.device)
        return torch.lerp(mel[:, left], mel[:, right], weight)


class MelStream:
    """The ``SliceDecoder`` of ``S3Gen``. The seed is that of its noise, which belongs to absolute frames."""

    def __init__(
        self, voice: Conditionals, vocoder: Vocoder, noise: Noise, *, speed: float, crossfade_frames: int
    ) -> None:
        self._voice = voice
        self._noise = noise
        self._prompt_noise = noise.prompt(voice.s3_mel.shape[0])
        self._vocoder = vocoder.stream(noise)
        self._stretch = Stretch(speed)
        self._crossfade = crossfade_frames
        self._tail: Tensor | None = None

    def job(self, tokens: Sequence[int], part: Slice) -> MelJob:
        return MelJob(
            voice=self._voice,
            tokens=torch.tensor(tokens, dtype=torch.int64),
            noise=self._noise.mel(FRAMES_PER_TOKEN * part.context, FRAMES_PER_TOKEN * len(tokens)),
            prompt_noise=self._prompt_noise,
            final=part.final,
        )

    def push(self, made: Tensor, part: Slice) -> Samples:
        """``made`` is the mel ``[80, n]`` of the slice with its context."""
        mel = self._stretch.push(self._joined(made, part), final=part.final)
        if part.final:
            self._vocoder.take(mel)
            samples = self._vocoder.finish()
        else:
            samples = self._vocoder.push(mel)
        return samples.float().cpu().numpy()

    def _joined(self, mel: Tensor, part: Slice) -> Tensor:
        """The slice's own frames, faded over from the end of the one before, less its own end if another follows."""
        frames = self._crossfade
        mel = mel[
            :, FRAMES_PER_TOKEN * (part.start - part.context) - (0 if self._tail is None else self._tail.shape[1]) :
        ]
        if self._tail is not None:
            overlap = self._tail.shape[1]
            weight = (torch.arange(1, overlap + 1, device=mel.device) / (overlap + 1)).to(mel.dtype)
            blended = torch.lerp(self._tail, mel[:, :overlap], weight)
            mel = torch.cat([blended, mel[:, overlap:]], dim=1)
        if part.final or not frames:
            self._tail = None
            return mel
        # The next slice renders them again, if its context reaches that far.
        frames = min(frames, mel.shape[1])
        self._tail = mel[:, mel.shape[1] - frames :]
        return mel[:, : mel.shape[1] - frames]
