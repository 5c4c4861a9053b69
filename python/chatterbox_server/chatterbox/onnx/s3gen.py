"""From speech tokens to samples with a graph that does all of it at once.

``conditional_decoder`` makes samples of the tokens that it is given, from noise of its own, and remembers nothing. A
stream is therefore rendered slice by slice, each with its context again, and joined where two renderings of the same
tokens, which agree in what they say but not in their waves, are most alike.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch
from onnxruntime import InferenceSession
from torch import Tensor

from ...model_runner import RequestError
from ..conditionals import Conditionals
from ..interfaces import MelJob, Samples, Slice
from ..s3gen.noise import MEL_CHANNELS
from ..speech_tokens import FRAME_MS, FRAMES_PER_TOKEN, SAMPLE_RATE
from .graphs import dtype_of, single

__all__ = ["OnnxS3Gen", "Seam", "WaveStream"]

_SAMPLES_PER_FRAME = SAMPLE_RATE * FRAME_MS // 1000
_SAMPLES_PER_TOKEN = FRAMES_PER_TOKEN * _SAMPLES_PER_FRAME
_SHIFT = SAMPLE_RATE // 100
"""Samples, 10 ms: how far a rendering is moved at most, so that a pitch from 50 Hz on finds its phase."""


class Seam:
    """Fades from slice to slice over ``overlap`` samples, where the later one is moved to be most like the earlier.

    An overlap-and-add of waves in phase (WSOLA's idea, Verhelst and Roelands 1993). Its gains keep the loudness that
    waves which are as alike as these would lose: none if they are equal, 3 dB in the middle if they are strangers.
    """

    def __init__(self, overlap: int) -> None:
        self._overlap = overlap
        self._tail: Samples | None = None

    def push(self, samples: Samples, start: int, end: int, *, final: bool) -> Samples:
        """The part of a rendering ``samples`` that may leave; its slice is ``start`` to ``end``, after the context."""
        if self._tail is not None:
            start, head = self._faded(self._tail, samples, start)
        else:
            head = samples[:0]
        kept = end if final else max(start, end - self._overlap)
        self._tail = None if final or kept == end else samples[kept:end]
        return np.concatenate([head, samples[start:kept]])

    def _faded(self, tail: Samples, samples: Samples, start: int) -> tuple[int, Samples]:
        """The offset at which the slice continues after the seam, and the seam itself."""
        begin = start - tail.size
        reach = max(0, min(_SHIFT, begin, samples.size - start))
        shift, likeness = _best_shift(tail, samples[begin - reach : start + reach], reach)
        later = samples[begin + shift : start + shift]
        weight = np.arange(1, tail.size + 1, dtype=np.float32) / (tail.size + 1)
        power = weight**2 + (1 - weight) ** 2 + 2 * likeness * weight * (1 - weight)
        faded = ((1 - weight) * tail + weight * later) / np.sqrt(power)
        return start + shift, faded.astype(np.float32)


def _best_shift(tail: Samples, around: Samples, reach: int) -> tuple[int, float]:
    """By how much ``around`` is to be moved, from ``-reach`` to ``reach``, and how like ``tail`` it is then, 0 to 1."""
    products = np.correlate(around, tail)
    energies = np.convolve(np.square(around, dtype=np.float64), np.ones(tail.size), "valid")
    scale = np.sqrt(np.maximum(energies * np.square(tail, dtype=np.float64).sum(), 1e-12))
    likeness = products / scale
    best = int(likeness.argmax())
    return best - reach, float(np.clip(likeness[best], 0, 1))


class WaveStream:
    """The ``SliceDecoder`` of ``OnnxS3Gen``."""

    def __init__(self, voice: Conditionals, *, crossfade_frames: int) -> None:
        self._voice = voice
        self._seam = Seam(_SAMPLES_PER_FRAME * crossfade_frames)

    def job(self, tokens: Sequence[int], part: Slice) -> MelJob:
        # The graph has noise of its own.
        none = torch.empty(MEL_CHANNELS, 0)
        return MelJob(
            voice=self._voice,
            tokens=torch.tensor(tokens, dtype=torch.int64),
            noise=none,
            prompt_noise=none,
            final=part.final,
        )

    def push(self, made: Tensor, part: Slice) -> Samples:
        """``made`` is the samples ``[960 n]`` of the slice with context and lookahead."""
        samples: Samples = made.numpy()
        start, end = (_SAMPLES_PER_TOKEN * (token - part.context) for token in (part.start, part.end))
        # A final slice's samples end where they end: no graph need give exactly as many as there are tokens.
        joined = self._seam.push(samples, start, samples.size if part.final else end, final=part.final)
        return np.ascontiguousarray(joined, np.float32)


class OnnxS3Gen:
    """A ``MelDecoder`` whose vocoder is in the graph: ``begin`` makes samples ``[960 n]``, not mel frames."""

    def __init__(self, decoder: InferenceSession) -> None:
        self._decoder = decoder
        inputs = {argument.name: argument for argument in decoder.get_inputs()}
        self._types = {name: dtype_of(inputs[name]) for name in ("speaker_embeddings", "speaker_features")}

    def check_speed(self, speed: float) -> None:
        if speed != 1.0:
            message = "BACKEND=onnx speaks at 1.0 alone, for its graphs show no frames that could be stretched."
            raise RequestError("INVALID_PARAMETER", message, field="speed")

    def stream(self, voice: Conditionals, seed: int, *, speed: float, crossfade_frames: int) -> WaveStream:
        del seed, speed
        return WaveStream(voice, crossfade_frames=crossfade_frames)

    def begin(self, jobs: Sequence[MelJob]) -> Generator[None, None, list[Tensor]]:
        made = []
        for job in jobs:
            made.append(self._samples(job))
            yield
        return made

    def _samples(self, job: MelJob) -> Tensor:
        voice = job.voice
        given = {"speaker_embeddings": voice.s3_speaker, "speaker_features": voice.s3_mel}
        feed = {name: tensor[None].numpy().astype(self._types[name], copy=False) for name, tensor in given.items()}
        feed["speech_tokens"] = torch.cat([voice.s3_tokens, job.tokens])[None].numpy()
        return torch.from_numpy(single(self._decoder.run(None, feed)[0][0]))
