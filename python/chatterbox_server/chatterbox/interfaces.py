"""What the runner drives a model through, whatever computes it: torch, this package's own CPU kernels, or ONNX graphs.

Implementations inherit nothing from each other; what they share are functions and parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from .conditionals import Conditionals
from .t3.cache import Span
from .t3.config import T3Config

__all__ = ["AcousticModel", "Cache"]


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
