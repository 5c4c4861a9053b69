"""One utterance's way from speech tokens to samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._core import Slicing
from .conditionals import Conditionals
from .s3gen.fade import FADE_IN
from .s3gen.flow import MelJob
from .s3gen.noise import Noise
from .s3gen.vocoder import Vocoder
from .slicing import Slice, Slicer
from .speech_tokens import FRAMES_PER_TOKEN, LOOKAHEAD, SAMPLE_RATE
from .stretch import Stretch

__all__ = ["Marker", "RenderOptions", "Rendering", "Samples", "SliceRendering"]

_FADE_IN = FADE_IN.numpy()
_CUT_FADE = SAMPLE_RATE // 100
"""10 ms, so that a cut does not click."""

Samples = NDArray[np.float32]


class Marker(Protocol):
    """Marks samples as machine-made, piece by piece."""

    def push(self, samples: Samples) -> Samples:
        """Samples that are marked, all of them sooner or later."""

    def finish(self) -> Samples:
        """The rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """What a request may say of its rendering."""

    slicing: Slicing
    schedule: tuple[int, ...]
    """Tokens of the first slices where the request does not say; the last one repeats."""
    stream: bool
    speed: float
    max_samples: int


class SliceRendering(ABC):
    """Takes an utterance's tokens, tells when a slice of them is due, and sees to samples before they leave.

    ``marker`` is ``None`` when nothing is to be marked. ``closing`` tokens are put after the last one.
    """

    def __init__(
        self, *, voice: Conditionals, options: RenderOptions, marker: Marker | None, closing: tuple[int, ...] = ()
    ) -> None:
        self._voice = voice
        self._marker = marker
        self._closing = closing
        self.streamed = options.stream
        self._slicer = Slicer(options.slicing, options.schedule, stream=options.stream)
        self._room = options.max_samples
        self._tokens: list[int] = []
        self._ended = False
        self._slice: Slice | None = None
        self._heard = 0
        """Samples made so far."""
        self.samples_sent = 0
        self.done = False

    @property
    def tokens(self) -> Sequence[int]:
        """The tokens so far."""
        return self._tokens

    def add(self, tokens: Iterable[int]) -> None:
        self._tokens.extend(tokens)

    def end(self) -> None:
        """No token comes after this. At least one must have come."""
        self._tokens.extend(self._closing)
        self._ended = True

    def truncate(self, count: int) -> None:
        """Keep the first ``count`` tokens, and those that have been rendered."""
        del self._tokens[max(count, self._slicer.taken + LOOKAHEAD) :]

    @property
    def due(self) -> bool:
        """Whether a slice of the tokens can be rendered."""
        if self._slice is None:
            self._slice = self._slicer.next(len(self._tokens), ended=self._ended)
        return self._slice is not None

    @property
    def waiting(self) -> int:
        """How many slices of the tokens can be rendered one after the other."""
        return int(self.due) + self._slicer.ready(len(self._tokens), ended=self._ended)

    @property
    def due_tokens(self) -> int:
        """How many tokens S3Gen works on for the slice that is due, the voice's own and the lookahead included."""
        part = self._slice
        assert part is not None, "no slice is due"
        return self._voice.s3_tokens.numel() + part.end - part.context + (0 if part.final else LOOKAHEAD)

    @abstractmethod
    def job(self) -> MelJob:
        """What S3Gen is to make of the slice that is due; ``accept`` takes it."""

    @abstractmethod
    def accept(self, made: Tensor) -> Samples:
        """The samples that are ready to leave with what was ``made`` of the slice that was due."""

    def _finished(self, samples: Samples, *, final: bool) -> Samples:
        samples = self._within_cap(self._faded_in(samples))
        self.done = final or not self._room
        if self._marker is not None:
            samples = self._marker.push(samples)
            if self.done:
                samples = np.concatenate([samples, self._marker.finish()])
        self.samples_sent += samples.size
        return samples

    def _within_cap(self, samples: Samples) -> Samples:
        if samples.size > self._room:
            samples = samples[: self._room].copy()
            fade = min(_CUT_FADE, samples.size)
            samples[samples.size - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
        self._room -= samples.size
        return samples

    def _faded_in(self, samples: Samples) -> Samples:
        start = self._heard
        self._heard += samples.size
        gains = _FADE_IN[start : start + samples.size]
        if not gains.size:
            return samples
        samples = samples.copy()
        samples[: gains.size] *= gains
        return samples


class Rendering(SliceRendering):
    """Asks for the mel frames of slices, and turns these into samples."""

    def __init__(
        self,
        *,
        voice: Conditionals,
        vocoder: Vocoder,
        noise: Noise,
        options: RenderOptions,
        marker: Marker | None,
        closing: tuple[int, ...] = (),
    ) -> None:
        super().__init__(voice=voice, options=options, marker=marker, closing=closing)
        self._noise = noise
        self._prompt_noise = noise.prompt(voice.s3_mel.shape[0])
        self._vocoder = vocoder.stream(noise)
        self._stretch = Stretch(options.speed)
        self._tail: Tensor | None = None

    def job(self) -> MelJob:
        """The frames of the slice that is due; ``accept`` takes them."""
        part = self._slice
        assert part is not None, "no slice is due"
        tokens = self._tokens[part.context : part.end + (0 if part.final else LOOKAHEAD)]
        return MelJob(
            voice=self._voice,
            tokens=torch.tensor(tokens, dtype=torch.int64),
            noise=self._noise.mel(FRAMES_PER_TOKEN * part.context, FRAMES_PER_TOKEN * len(tokens)),
            prompt_noise=self._prompt_noise,
            final=part.final,
            steps=None,
        )

    def accept(self, mel: Tensor) -> Samples:
        """The samples that the frames ``mel`` ``[80, n]`` of the slice that was due make ready to leave."""
        part, self._slice = self._slice, None
        assert part is not None, "no slice was due"
        mel = self._joined(mel, part)
        mel = self._stretch.push(mel, final=part.final)
        if part.final:
            self._vocoder.take(mel)
            samples = self._vocoder.finish()
        else:
            samples = self._vocoder.push(mel)
        return self._finished(samples.float().cpu().numpy(), final=part.final)

    def _joined(self, mel: Tensor, part: Slice) -> Tensor:
        """The slice's own frames, faded over from the end of the one before, less its own end if another follows."""
        frames = self._slicer.crossfade_frames
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
