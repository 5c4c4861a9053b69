"""What a decoder wants of the transformer that it drives, and the one that torch computes."""

from __future__ import annotations

from typing import Any, Protocol, Self

from torch import Tensor

from .cache import KeyValueCache, Span
from .config import SPEECH_IDS, T3Config
from .gpt2 import Gpt2
from .llama import Llama
from .weights import Linear, Weights

__all__ = ["Backbone", "Cache", "TorchBackbone"]


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


class Backbone(Protocol):
    """The transformer and the head of a T3. A cache is used with the backbone that made it."""

    def cache(self, most_rows: int) -> Cache:
        """An empty cache."""

    def forward(self, embedded: Tensor, cache: Any, span: Span) -> Tensor:
        """``[rows, new, width]`` through every layer, behind what ``cache`` holds; not yet normed."""

    def advance(self, embedded: Tensor, cache: Any, lengths: list[int], positions: Tensor) -> Tensor:
        """As ``forward``, one token ``[rows, 1, width]`` for each of the first rows; gives ``[rows, width]``.

        The rows hold ``lengths`` positions; ``positions`` is the same, on the device.
        """

    def logits(self, hidden: Tensor) -> Tensor:
        """Of the next speech token, ``[rows, SPEECH_IDS]`` float32, from the last position's ``[rows, width]``."""


class TorchBackbone:
    """On any device, in the type of its weights."""

    def __init__(self, config: T3Config, weights: Weights) -> None:
        self._config = config
        self._device, self._dtype = weights.device, weights.dtype
        gpt2 = config.backbone == "gpt2"
        body = weights.scope("tfmr.")
        self._layers: Llama | Gpt2 = Gpt2(body, config) if gpt2 else Llama(body, config)
        head = weights.linear("speech_head", config.width, -1, bias=gpt2)
        # Ids above are no speech and break S3Gen when they are drawn, so they get no logits at all.
        self._head = Linear(head.weight[:SPEECH_IDS], None if head.bias is None else head.bias[:SPEECH_IDS])

    def cache(self, most_rows: int) -> KeyValueCache:
        config = self._config
        return KeyValueCache(
            layers=config.layers,
            heads=config.heads,
            channels=config.width // config.heads,
            most_rows=most_rows,
            device=self._device,
            dtype=self._dtype,
        )

    def forward(self, embedded: Tensor, cache: KeyValueCache, span: Span) -> Tensor:
        return self._layers.forward(embedded, cache, span)

    def advance(self, embedded: Tensor, cache: KeyValueCache, lengths: list[int], positions: Tensor) -> Tensor:
        return self.forward(embedded, cache, Span.token(lengths, positions))[:, 0]

    def logits(self, hidden: Tensor) -> Tensor:
        return self._head(self._layers.norm(hidden)).float()
