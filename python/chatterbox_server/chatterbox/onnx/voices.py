"""Voices as the graphs know them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...model_runner import RequestError
from ..conditionals import Conditionals, aligned
from ..interfaces import Samples
from ..speech_tokens import SAMPLE_RATE
from ..tensors import CheckpointError
from ..voices.audio import check_level, check_samples, resample
from ..voices.prepare import LOUDNESS, MIN_REFERENCE_SECONDS, REFERENCE_SECONDS, with_loudness
from .graphs import Providers, open_session, single

__all__ = ["OnnxVoicePreparer", "conditionals", "load_voice", "save_voice"]

_MAX_SECONDS = 30
"""Seconds of a clip that are used. Half of it would do for all but T3's speaker embedding, which is of the whole."""
_OUTPUTS = ("audio_features", "audio_tokens", "speaker_embeddings", "speaker_features")


def conditionals(features: Tensor, tokens: Tensor, speaker: Tensor, mel: Tensor) -> Conditionals:
    """A voice of what ``speech_encoder`` gives, each ``[1, …]``.

    T3's conditioning comes embedded, as ``[prefix, width]``, and takes the place of the speaker's vector; of the
    prompt's tokens, which are in it, there is only the number.
    """
    s3_tokens, s3_mel = aligned(tokens[0].long(), mel[0].float())
    return Conditionals(
        t3_speaker=features[0].float().clone(),
        t3_tokens=torch.zeros(features.shape[1] - 1, dtype=torch.int64),
        s3_tokens=s3_tokens.clone(),
        s3_mel=s3_mel.clone(),
        s3_speaker=speaker[0].float().clone(),
    )


def load_voice(path: Path) -> Conditionals:
    """The voice in a file of ``save_voice``. Raises ``CheckpointError``."""
    try:
        tensors = load_file(path)
        return conditionals(*(tensors[name] for name in _OUTPUTS))
    except (OSError, SafetensorError, LookupError) as error:
        raise CheckpointError(f"{path}: cannot be read as a voice ({error}).") from error


def save_voice(path: Path, features: Tensor, tokens: Tensor, speaker: Tensor, mel: Tensor) -> None:
    """Write what ``speech_encoder`` would give for a voice, each ``[1, …]``."""
    given = (features, tokens, speaker, mel)
    save_file({name: tensor.contiguous() for name, tensor in zip(_OUTPUTS, given, strict=True)}, path)


class OnnxVoicePreparer:
    """Prepares clips with the graph ``speech_encoder``, which is loaded when first needed; ``release`` drops it.

    A graph runs as a whole, so that one stage takes a second or so of a CPU.
    """

    def __init__(self, graph: Path, providers: Providers) -> None:
        self._graph = graph
        self._providers = providers
        self._session: InferenceSession | None = None

    def load(self) -> Iterator[None]:
        self._encoder()
        yield

    def release(self) -> None:
        self._session = None

    def prepare(self, pcm: Samples, rate: int) -> Generator[None, None, Conditionals]:
        """Of the clip's first 30 s."""
        pcm = pcm[: _MAX_SECONDS * rate]
        check_samples(pcm, rate, min_seconds=MIN_REFERENCE_SECONDS)
        check_level(pcm[: REFERENCE_SECONDS * rate], rate)
        return self._prepared(pcm, rate)

    def tokens(self, pcm: Samples, rate: int) -> Generator[None, None, Tensor]:
        message = "BACKEND=onnx cannot convert clips; its graphs only speak."
        raise RequestError("INVALID_PARAMETER", message, field="model")

    def read_portable(self, data: bytes) -> Conditionals:
        message = "BACKEND=onnx prepares voices in its own way; upload the clip that this one was made of."
        raise RequestError("CANNOT_CLONE", message, field="voice")

    def _prepared(self, pcm: Samples, rate: int) -> Generator[None, None, Conditionals]:
        encoder = self._encoder()
        yield
        clip = with_loudness(resample(pcm, rate, SAMPLE_RATE), LOUDNESS)
        yield
        features, tokens, speaker, mel = encoder.run(None, {"audio_values": clip[None]})
        given = [torch.from_numpy(np.ascontiguousarray(array)) for array in _singles(features, speaker, mel)]
        voice = conditionals(given[0], torch.from_numpy(tokens), given[1], given[2])
        if not all(bool(torch.isfinite(tensor).all()) for tensor in voice.tensors().values()):
            raise RequestError("UNSUPPORTED_AUDIO", "The clip holds nothing in which the model hears a voice.")
        return voice

    def _encoder(self) -> InferenceSession:
        if self._session is None:
            self._session = open_session(self._graph, self._providers)
        return self._session


def _singles(*arrays: NDArray[np.floating]) -> list[NDArray[np.float32]]:
    return [single(array) for array in arrays]
