"""T3's transformers in torch, on any device and in the type of their weights.

Standard and multilingual equal ``LlamaModel`` of transformers with upstream's ``llama_configs.py``: 64-channel heads
without sharing, SwiGLU, rotary positions scaled as Llama 3's are. Turbo and nano equal its ``GPT2Model``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ..tensors import Tensors
from .cache import KeyValueCache, Span
from .config import SPEECH_IDS, T3Config

__all__ = ["Gpt2", "Linear", "Llama", "TorchBackbone", "Weights"]


class Linear:
    """``x W^T + b``. The only way in which T3 multiplies by weights."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight = weight
        self.bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


class Weights:
    """A checkpoint's tensors, moved when they are taken; those that need no move stay mapped to the file."""

    def __init__(self, tensors: Tensors, *, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = dtype
        self._tensors = tensors

    def scope(self, prefix: str) -> Weights:
        return Weights(self._tensors.scope(prefix), device=self.device, dtype=self.dtype)

    def tensor(self, name: str, *shape: int) -> Tensor:
        """The tensor ``name``, which must have ``shape`` (``-1`` = any)."""
        return self._tensors.shaped(name, *shape).to(self.device, self.dtype)

    def linear(self, name: str, inputs: int, outputs: int, *, bias: bool) -> Linear:
        """A layer stored as ``[outputs, inputs]``; ``-1`` allows any size."""
        weight = self.tensor(f"{name}.weight", outputs, inputs)
        return Linear(weight, self.tensor(f"{name}.bias", outputs) if bias else None)

    def transposed_linear(self, name: str, inputs: int, outputs: int) -> Linear:
        """A layer with bias stored as ``[inputs, outputs]``, as GPT-2's are."""
        weight = self.tensor(f"{name}.weight", inputs, outputs)
        return Linear(weight.t(), self.tensor(f"{name}.bias", outputs))


EPSILON = 1e-5
ROPE_BASE = 500_000.0
ROPE_FACTOR = 8.0
ROPE_LOW, ROPE_HIGH = 1.0, 4.0
ROPE_TRAINED_POSITIONS = 8192


def rotation_frequencies(channels: int) -> Tensor:
    """Radians per position of each pair of a head's channels, ``[channels / 2]`` float32.

    Equals ``_compute_llama3_parameters`` of transformers: long waves are slowed by ``ROPE_FACTOR``, short ones are
    kept, those between are blended.
    """
    frequency = 1.0 / ROPE_BASE ** (torch.arange(0, channels, 2).float() / channels)
    wave = 2 * math.pi / frequency
    keep = (ROPE_TRAINED_POSITIONS / wave - ROPE_LOW) / (ROPE_HIGH - ROPE_LOW)
    blended = (1 - keep) * frequency / ROPE_FACTOR + keep * frequency
    slowed = torch.where(wave > ROPE_TRAINED_POSITIONS / ROPE_LOW, frequency / ROPE_FACTOR, blended)
    return torch.where(wave < ROPE_TRAINED_POSITIONS / ROPE_HIGH, frequency, slowed)


class _LlamaLayer:
    def __init__(self, weights: Weights, config: T3Config, number: int) -> None:
        width = config.width
        self._number = number
        self._heads = config.heads
        self._attention_norm = weights.tensor("input_layernorm.weight", width)
        self._feed_norm = weights.tensor("post_attention_layernorm.weight", width)
        self._query = weights.linear("self_attn.q_proj", width, width, bias=False)
        self._key = weights.linear("self_attn.k_proj", width, width, bias=False)
        self._value = weights.linear("self_attn.v_proj", width, width, bias=False)
        self._output = weights.linear("self_attn.o_proj", width, width, bias=False)
        self._gate = weights.linear("mlp.gate_proj", width, -1, bias=False)
        self._up = weights.linear("mlp.up_proj", width, -1, bias=False)
        self._down = weights.linear("mlp.down_proj", -1, width, bias=False)

    def forward(self, hidden: Tensor, rotation: tuple[Tensor, Tensor], cache: KeyValueCache, span: Span) -> Tensor:
        normed = _rms_norm(hidden, self._attention_norm)
        split = (*hidden.shape[:2], self._heads, -1)
        query = _rotate(self._query(normed).view(split), *rotation)
        key = _rotate(self._key(normed).view(split), *rotation)
        value = self._value(normed).view(split)
        hidden = hidden + self._output(cache.attend(self._number, query, key, value, span))
        normed = _rms_norm(hidden, self._feed_norm)
        return hidden + self._down(functional.silu(self._gate(normed)) * self._up(normed))


class Llama:
    def __init__(self, weights: Weights, config: T3Config) -> None:
        self._layers = [_LlamaLayer(weights.scope(f"layers.{n}."), config, n) for n in range(config.layers)]
        self._norm = weights.tensor("norm.weight", config.width)
        self._frequencies = rotation_frequencies(config.width // config.heads).to(weights.device)

    def forward(self, hidden: Tensor, cache: KeyValueCache, span: Span) -> Tensor:
        """``[rows, new, width]`` through every layer; the result is not yet normed."""
        angles = span.positions[:, :, None].float() * self._frequencies
        angles = torch.cat((angles, angles), dim=-1)[:, :, None]
        rotation = (angles.cos().to(hidden.dtype), angles.sin().to(hidden.dtype))
        for layer in self._layers:
            hidden = layer.forward(hidden, rotation, cache, span)
        return hidden

    def norm(self, hidden: Tensor) -> Tensor:
        """The last norm, of ``[..., width]``."""
        return _rms_norm(hidden, self._norm)


def _rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return functional.rms_norm(x, weight.shape, weight, EPSILON)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class _LayerNorm:
    def __init__(self, weights: Weights, name: str, width: int) -> None:
        self._weight = weights.tensor(f"{name}.weight", width)
        self._bias = weights.tensor(f"{name}.bias", width)

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self._weight.shape, self._weight, self._bias, EPSILON)


class _Gpt2Layer:
    def __init__(self, weights: Weights, config: T3Config, number: int) -> None:
        width = config.width
        self._number = number
        self._heads = config.heads
        self._attention_norm = _LayerNorm(weights, "ln_1", width)
        self._feed_norm = _LayerNorm(weights, "ln_2", width)
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
        self._layers = [_Gpt2Layer(weights.scope(f"h.{n}."), config, n) for n in range(config.layers)]
        self._positions = weights.tensor("wpe.weight", -1, config.width)
        self._norm = _LayerNorm(weights, "ln_f", config.width)

    def forward(self, hidden: Tensor, cache: KeyValueCache, span: Span) -> Tensor:
        """``[rows, new, width]`` through every layer; the result is not yet normed."""
        hidden = hidden + self._positions[span.positions]
        for layer in self._layers:
            hidden = layer.forward(hidden, cache, span)
        return hidden

    def norm(self, hidden: Tensor) -> Tensor:
        """The last norm, of ``[..., width]``."""
        return self._norm(hidden)


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
