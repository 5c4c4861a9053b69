"""The runner's interface to a model, whichever backend computes it: torch, this package's CPU kernels, or ONNX graphs.

Implementations inherit nothing from each other; what they share are functions and parts.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .conditionals import Conditionals
from .t3.cache import Span
from .t3.config import T3Config

__all__ = ["AcousticModel", "Cache", "MelDecoder", "MelJob", "Samples", "Slice", "SliceDecoder", "VoicePreparer"]

Samples = NDArray[np.float32]


class Cache(Protocol):
    """Keys and values of the past positions of some rows, the first ones, without gaps."""

    @property
    def rows(self) -> int:
        """Rows in use."""

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""

    def append(self, rows: int) -> int:
        """Add ``rows`` at the end and return the first one's number. Their content is undefined."""

    def reserve(self, positions: int) -> None:
        """Make room for ``positions`` in every row."""

    def settle(self, positions: int) -> None:
        """Before a step: ``positions`` are the most that a row will hold after it."""

    def fit(self, positions: int) -> None:
        """Give back what rows of ``positions`` do not need."""

    def paste(self, row: int, other: Self) -> None:
        """Put all of the single row of ``other`` at the start of ``row``."""

    def remove(self, row: int, last_length: int) -> None:
        """Drop ``row``; the last one, of which ``last_length`` positions count, takes its number."""


class AcousticModel(Protocol):
    """Text and a voice to speech tokens, one forward pass at a time: T3. A cache is used with the model that made it.

    Has no state: any number of decoders may share one. A sequence is *prefix* (depends on the voice alone), *prompt*
    (emotion, text, start) and *speech tokens*.
    """

    @property
    def config(self) -> T3Config: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def cache(self, most_rows: int) -> Cache:
        """An empty cache for this model."""

    def prefix(self, voice: Conditionals) -> Tensor:
        """Embeddings that depend on the voice alone, ``[prefix, width]``."""

    def prompt(self, text_ids: Sequence[int], exaggeration: float, *, guided: bool = False) -> Tensor:
        """Embeddings between prefix and speech, ``[1, new, width]``: emotion, text, start of speech.

        ``guided`` adds the unconditional row, without text, that guidance leads away from: ``[2, new, width]``.
        """

    def speech(self, ids: Tensor, numbers: Tensor) -> Tensor:
        """Embeddings ``[rows, 1, width]`` of the speech tokens ``ids``, each its utterance's ``numbers``-th, from 1."""

    def forward(self, embedded: Tensor, cache: Any, span: Span) -> Tensor:
        """``[rows, new, width]`` through the transformer, behind what ``cache`` holds; not yet normed."""

    def advance(self, embedded: Tensor, cache: Any, lengths: list[int], positions: Tensor) -> Tensor:
        """As ``forward``, one token ``[rows, 1, width]`` for each of the first rows; gives ``[rows, width]``.

        The rows hold ``lengths`` positions; ``positions`` is the same, on the device.
        """

    def logits(self, hidden: Tensor) -> Tensor:
        """Of the next speech token, ``[rows, SPEECH_IDS]`` float32, from the last position's ``[rows, width]``."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A run of an utterance's tokens, by position: rendered from ``context`` on, output from ``start`` to ``end``."""

    context: int
    start: int
    end: int
    final: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MelJob:
    """Tokens of one utterance to be turned into mel frames."""

    voice: Conditionals
    tokens: Tensor
    """``[n]`` int64 below 6561: context and the slice itself, at least one more than the lookahead if not final."""
    noise: Tensor
    """Normal noise ``[80, 2 n]`` of these tokens' frames."""
    prompt_noise: Tensor
    """Normal noise ``[80, 2 p]`` of the voice's own frames."""
    final: bool
    """Whether the utterance ends here. If not, the last tokens are lookahead and give no frames."""
    steps: int | None = None
    """Euler steps, or ``None`` for as many as the model is made for."""


class SliceDecoder(Protocol):
    """One utterance's slices on their way to samples, in order."""

    def job(self, tokens: Sequence[int], part: Slice) -> MelJob:
        """The job for ``MelDecoder.begin`` of the slice ``part``, whose ``tokens`` begin with its context."""

    def push(self, made: Tensor, part: Slice) -> Samples:
        """The samples that are ready to leave with what was ``made`` of ``part``; with a final one, all of them."""


class MelDecoder(Protocol):
    """Speech tokens to samples by way of a mel spectrogram, for any number of utterances at once: S3Gen."""

    def check_speed(self, speed: float) -> None:
        """Raises ``RequestError`` for a speaking rate that it does not have."""

    def stream(self, voice: Conditionals, seed: int, *, speed: float, crossfade_frames: int) -> SliceDecoder:
        """Begin an utterance, whose slices are faded over ``crossfade_frames`` of mel."""

    def begin(self, jobs: Sequence[MelJob]) -> Generator[None, None, list[Tensor]]:
        """Works on what ``SliceDecoder.job`` gave, for ``push``. Yields where something else may be done.

        To be run under ``torch.inference_mode()``.
        """


class VoicePreparer(Protocol):
    """Reference clips to ``Conditionals``, stage by stage. Networks are loaded when first needed."""

    def load(self) -> Iterator[None]:
        """Load what preparing needs, so that the first voice does not wait for it; yields between parts."""

    def release(self) -> None:
        """Drop the networks. A clip in preparation keeps its own until it is done."""

    def prepare(self, pcm: Samples, rate: int) -> Generator[None, None, Conditionals]:
        """Yields between its stages and returns the clip's ``Conditionals``.

        ``pcm`` is ``[n]`` float32, mono, at ``rate`` Hz. Raises ``RequestError`` (``UNSUPPORTED_AUDIO``) for a clip
        that cannot be used, at once where that can be seen at once.
        """

    def tokens(self, pcm: Samples, rate: int) -> Generator[None, None, Tensor]:
        """Yields between its stages and returns all of a clip's speech tokens, ``[n]`` int64, for conversion."""

    def read_portable(self, data: bytes) -> Conditionals:
        """The voice in a file of ``voice convert``. Raises ``RequestError`` where there is none for this model."""
