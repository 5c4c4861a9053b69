"""From speech tokens to samples with a graph that does all of it at once.

``conditional_decoder`` makes samples of the tokens that it is given, from noise of its own, and remembers nothing. A
stream is therefore rendered slice by slice, each with its context again, and joined where two renderings of the same
tokens are most alike: see ``joining.py``.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch
from onnxruntime import InferenceSession
from torch import Tensor

from ..conditionals import Conditionals
from ..rendering import Marker, RenderOptions, Samples, SliceRendering
from ..s3gen.flow import MelJob
from ..s3gen.model import S3Gen
from ..s3gen.noise import MEL_CHANNELS
from ..speech_tokens import FRAME_MS, FRAMES_PER_TOKEN, LOOKAHEAD, SAMPLE_RATE
from .joining import Seam
from .sessions import dtype_of, single

__all__ = ["OnnxS3Gen", "WaveRendering"]

_SAMPLES_PER_FRAME = SAMPLE_RATE * FRAME_MS // 1000
_SAMPLES_PER_TOKEN = FRAMES_PER_TOKEN * _SAMPLES_PER_FRAME


class OnnxS3Gen(S3Gen):
    """S3Gen with its vocoder as one graph. Makes samples ``[960 n]`` where the one of the weights makes mel frames."""

    def __init__(self, decoder: InferenceSession) -> None:
        # Nothing of what the class of the weights sets.
        self._decoder = decoder
        inputs = {argument.name: argument for argument in decoder.get_inputs()}
        self._types = {name: dtype_of(inputs[name]) for name in ("speaker_embeddings", "speaker_features")}
        self.mean_flow = True
        self.lookahead = LOOKAHEAD

    def begin(self, jobs: Sequence[MelJob]) -> Generator[None, None, list[Tensor]]:
        """One run for each job, whose noise is not asked for: the graph has its own."""
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


class WaveRendering(SliceRendering):
    """Asks for the samples of slices, and joins them."""

    def __init__(
        self, *, voice: Conditionals, options: RenderOptions, marker: Marker | None, closing: tuple[int, ...] = ()
    ) -> None:
        super().__init__(voice=voice, options=options, marker=marker, closing=closing)
        self._seam = Seam(_SAMPLES_PER_FRAME * self._slicer.crossfade_frames)

    def job(self) -> MelJob:
        part = self._slice
        assert part is not None, "no slice is due"
        tokens = self._tokens[part.context : part.end + (0 if part.final else LOOKAHEAD)]
        none = torch.empty(MEL_CHANNELS, 0)
        return MelJob(
            voice=self._voice,
            tokens=torch.tensor(tokens, dtype=torch.int64),
            noise=none,
            prompt_noise=none,
            final=part.final,
        )

    def accept(self, made: Tensor) -> Samples:
        """The samples that those of the slice that was due, ``[960 n]`` with context and lookahead, make ready."""
        part, self._slice = self._slice, None
        assert part is not None, "no slice was due"
        samples: Samples = made.numpy()
        start, end = (_SAMPLES_PER_TOKEN * (token - part.context) for token in (part.start, part.end))
        # A final slice's samples end where they end: no graph need give exactly as many as there are tokens.
        joined = self._seam.push(samples, start, samples.size if part.final else end, final=part.final)
        return self._finished(np.ascontiguousarray(joined, np.float32), final=part.final)
