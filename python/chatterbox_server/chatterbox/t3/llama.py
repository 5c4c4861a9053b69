"""The Llama backbone of the standard and multilingual models.

Equals ``LlamaModel`` of transformers with upstream's ``llama_configs.py``: 64-channel heads without sharing, SwiGLU,
rotary positions scaled as Llama 3's are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from .cache import KeyValueCache, Span
from .config import T3Config
from .weights import Weights

__all__ = ["Llama"]

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


class _Layer:
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
        normed = _norm(hidden, self._attention_norm)
        split = (*hidden.shape[:2], self._heads, -1)
        query = _rotate(self._query(normed).view(split), *rotation)
        key = _rotate(self._key(normed).view(split), *rotation)
        value = self._value(normed).view(split)
        hidden = hidden + self._output(cache.attend(self._number, query, key, value, span))
        normed = _norm(hidden, self._feed_norm)
        return hidden + self._down(functional.silu(self._gate(normed)) * self._up(normed))


class Llama:
    def __init__(self, weights: Weights, config: T3Config) -> None:
        self._layers = [_Layer(weights.scope(f"layers.{n}."), config, n) for n in range(config.layers)]
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
        return _norm(hidden, self._norm)


def _norm(x: Tensor, weight: Tensor) -> Tensor:
    return functional.rms_norm(x, weight.shape, weight, EPSILON)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
