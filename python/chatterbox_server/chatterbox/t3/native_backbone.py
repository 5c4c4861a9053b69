"""T3's backbone on a CPU, computed by the compiled module from packed weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..packed import to_array
from ..tensors import Tensors
from .cache import Span
from .config import SPEECH_IDS, T3Config
from .torch_backbone import rotation_frequencies

if TYPE_CHECKING:
    from ..._core import T3Backbone, T3Cache

__all__ = ["NativeBackbone", "NativeCache", "Precision"]


Precision = Literal["fp32", "bf16", "int8", "int4"]
"""How weights are kept. Whatever it is, sums are float32; below fp32, keys and values are kept in bf16."""
Array = NDArray[np.float32]


class NativeCache:
    """A cache whose rows grow by pages as they get longer, and share those of what is pasted into them."""

    def __init__(self, pages: T3Cache, most_rows: int) -> None:
        self.pages = pages
        self._most_rows = most_rows

    @property
    def rows(self) -> int:
        return self.pages.rows

    @property
    def nbytes(self) -> int:
        return self.pages.nbytes

    def append(self, rows: int) -> int:
        first = self.rows
        if first + rows > self._most_rows:
            raise ValueError(f"{first + rows} rows are wanted where {self._most_rows} are the most.")
        for _ in range(rows):
            self.pages.append()
        return first

    def reserve(self, positions: int) -> None:
        """Nothing: room is made as positions come."""

    def settle(self, positions: int) -> None:
        """Nothing: there is only one kind of space."""

    def fit(self, positions: int) -> None:
        """Nothing: no row has more than a part of a page too much."""

    def paste(self, row: int, other: Self) -> None:
        self.pages.paste(row, other.pages)

    def remove(self, row: int, last_length: int) -> None:
        del last_length
        self.pages.remove(row)


class NativeBackbone:
    """Packs the weights of a checkpoint, which is not needed after that.

    Raises ``CheckpointError`` for tensors that are no T3's, and ``ValueError`` for sizes that are not supported.
    """

    def __init__(self, config: T3Config, tensors: Tensors, precision: Precision) -> None:
        from ..._core import T3Backbone

        self._packed: T3Backbone
        # Mapped again: pages that were read count as this process's memory for as long as their mapping is there.
        tensors = tensors.reopened()
        body, width = tensors.scope("tfmr."), config.width
        head = _array(tensors, "speech_head.weight", -1, width)[:SPEECH_IDS]
        if config.backbone == "llama":
            self._packed = T3Backbone.llama(
                config.heads,
                precision,
                rotation_frequencies(width // config.heads).numpy(),
                _llama_layers(body, config),
                _array(body, "norm.weight", width),
                head,
            )
        else:
            self._packed = T3Backbone.gpt2(
                config.heads,
                precision,
                _array(body, "wpe.weight", -1, width),
                _gpt2_layers(body, config),
                (_array(body, "ln_f.weight", width), _array(body, "ln_f.bias", width)),
                (head, _array(tensors, "speech_head.bias", -1)[:SPEECH_IDS]),
            )

    def cache(self, most_rows: int) -> NativeCache:
        return NativeCache(self._packed.cache(), most_rows)

    def forward(self, embedded: Tensor, cache: NativeCache, span: Span) -> Tensor:
        return self._forward(embedded, cache, span.first, span.positions[:, 0].tolist())

    def advance(self, embedded: Tensor, cache: NativeCache, lengths: list[int], positions: Tensor) -> Tensor:
        del positions
        return self._forward(embedded, cache, 0, lengths)[:, 0]

    def logits(self, hidden: Tensor) -> Tensor:
        logits = torch.empty(len(hidden), SPEECH_IDS)
        self._packed.logits(hidden.contiguous().numpy(), logits.numpy())
        return logits

    def _forward(self, embedded: Tensor, cache: NativeCache, first: int, starts: list[int]) -> Tensor:
        hidden = torch.empty_like(embedded)
        self._packed.forward(embedded.contiguous().numpy(), hidden.numpy(), cache.pages, first, starts)
        return hidden


def _llama_layers(tensors: Tensors, config: T3Config) -> Iterator[tuple[Array, ...]]:
    width = config.width
    for number in range(config.layers):
        # And once more, so that they never count together.
        layer = tensors.reopened().scope(f"layers.{number}.")
        inner = layer.shaped("mlp.up_proj.weight", -1, width).shape[0]
        yield (
            _array(layer, "input_layernorm.weight", width),
            *(_array(layer, f"self_attn.{name}_proj.weight", width, width) for name in "qkvo"),
            _array(layer, "post_attention_layernorm.weight", width),
            _array(layer, "mlp.gate_proj.weight", inner, width),
            _array(layer, "mlp.up_proj.weight", inner, width),
            _array(layer, "mlp.down_proj.weight", width, inner),
        )


def _gpt2_layers(tensors: Tensors, config: T3Config) -> Iterator[tuple[Array, ...]]:
    width = config.width
    for number in range(config.layers):
        layer = tensors.reopened().scope(f"h.{number}.")
        inner = layer.shaped("mlp.c_fc.weight", width, -1).shape[1]
        shapes: dict[str, tuple[int, ...]] = {
            "ln_1": (width,),
            "attn.c_attn": (width, 3 * width),
            "attn.c_proj": (width, width),
            "ln_2": (width,),
            "mlp.c_fc": (width, inner),
            "mlp.c_proj": (inner, width),
        }
        yield tuple(
            array
            for name, shape in shapes.items()
            for array in (_array(layer, f"{name}.weight", *shape), _array(layer, f"{name}.bias", shape[-1]))
        )


def _array(tensors: Tensors, name: str, *shape: int) -> Array:
    return to_array(tensors.shaped(name, *shape))
