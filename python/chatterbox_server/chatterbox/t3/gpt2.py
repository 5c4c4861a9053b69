"""The GPT-2 backbone of the turbo and nano models. Equals ``GPT2Model`` of transformers."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from .cache import KeyValueCache, Span
from .config import T3Config
from .weights import Weights

__all__ = ["Gpt2"]

EPSILON = 1e-5


class _Norm:
    def __init__(self, weights: Weights, name: str, width: int) -> None:
        self._weight = weights.tensor(f"{name}.weight", width)
        self._bias = weights.tensor(f"{name}.bias", width)

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self._weight.shape, self._weight, self._bias, EPSILON)


class _Layer:
    def __init__(self, weights: Weights, config: T3Config, number: int) -> None:
        width = config.width
        self._number = number
        self._heads = config.heads
        self._attention_norm = _Norm(weights, "ln_1", width)
        self._feed_norm = _Norm(weights, "ln_2", width)
        self._projections = weights.transposed_linear("attn.c_attn", width, 3 * width)
        self._output = weights.transposed_linear("attn.c_proj", width, width)
        self._up = weights.transposed_linear("mlp.c_fc", width, -1)
        self._down = weights.transposed_linear("mlp.c_proj", -1, width)

    def forward(self, hidden: Tensor, cache: KeyValueCache, span: Span) -> Tensor:
        projections = self._projections(self._attention_norm(hidden))
        query, key, value = projections.view(*hidden.shape[:2], 3, self._heads, -1).unbind(2)
        hidden = hidden + self._output(cache.attend(self._number, query, key, value, span))
        up = functional.gelu(self._up(self._feed_norm(hidden)), approximate="tanh")
        return hidden + self._down(up)


class Gpt2:
    def __init__(self, weights: Weights, config: T3Config) -> None:
        self._layers = [_Layer(weights.scope(f"h.{n}."), config, n) for n in range(config.layers)]
        self._positions = weights.tensor("wpe.weight", -1, config.width)
        self._norm = _Norm(weights, "ln_f", config.width)

    def forward(self, hidden: Tensor, cache: KeyValueCache, span: Span) -> Tensor:
        """``[rows, new, width]`` through every layer; the result is not yet normed."""
        hidden = hidden + self._positions[span.positions]
        for layer in self._layers:
            hidden = layer.forward(hidden, cache, span)
        return hidden

    def norm(self, hidden: Tensor) -> Tensor:
        """The last norm, of ``[..., width]``."""
        return self._norm(hidden)
