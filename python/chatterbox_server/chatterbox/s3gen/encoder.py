"""The conformer that turns embedded speech tokens into a coarse mel's features, two frames a token.

Equals upstream's ``transformer/upsample_encoder.py``, ``encoder_layer.py``, ``attention.py`` (relative positions) and
``embedding.py``. In a batch of rows of different lengths upstream lets its lookahead layer read the padding, which
spoils a short row's last three tokens; here padding is silent and a row comes out as it would alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from .layers import Weights

__all__ = ["Encoder"]

_TABLE_STEP = 256
"""Positions by which a table grows, so that slightly longer inputs do not each make another one."""


class Encoder:
    """``[B, T, width]`` embeddings to ``[B, 2 T, width]`` features."""

    def __init__(self, weights: Weights) -> None:
        self._embed = _Embed(weights.scope("embed.out."))
        lookahead = weights.scope("pre_lookahead_layer.")
        self.lookahead = lookahead.tensor("conv1.weight", -1, -1, -1).shape[2] - 1
        """Tokens to the right of a token that its features depend on, before any attention."""
        self._look_ahead = lookahead.convolution("conv1", lookahead=True)
        self._look_back = lookahead.convolution("conv2")
        positions = _Positions(weights)
        self._layers = [_Layer(layer, positions) for layer in weights.layers("encoders.")]
        self._upsample = weights.convolution("up_layer.conv")
        self._up_embed = _Embed(weights.scope("up_embed.out."))
        self._up_layers = [_Layer(layer, positions) for layer in weights.layers("up_encoders.")]
        self._norm = weights.norm("after_norm")

    def __call__(self, x: Tensor, real: Tensor | None) -> Tensor:
        """``real`` is ``[B, T]`` booleans, false at the padding on the right, or ``None`` if there is no padding."""
        x = self._embed(x)
        if real is not None:
            x = x * real.unsqueeze(-1)
        x = self._look_back(functional.leaky_relu(self._look_ahead(x))) + x
        for layer in self._layers:
            x = layer(x, real)
        # Everything from here on looks back only, apart from attention, so that padding may hold anything.
        x = self._up_embed(self._upsample(x.repeat_interleave(2, dim=1)))
        doubled = None if real is None else real.repeat_interleave(2, dim=1)
        for layer in self._up_layers:
            x = layer(x, doubled)
        return self._norm(x)


class _Embed:
    def __init__(self, weights: Weights) -> None:
        self._linear = weights.linear("0")
        self._norm = weights.norm("1")

    def __call__(self, x: Tensor) -> Tensor:
        return self._norm(self._linear(x)) * math.sqrt(x.shape[-1])


class _Positions:
    """Sinusoids of the distances ``n - 1`` down to ``1 - n``, as ``[2 n - 1, width]``."""

    def __init__(self, weights: Weights) -> None:
        self._device = weights.device
        self._dtype = weights.dtype

    def table(self, n: int, width: int) -> Tensor:
        distances = torch.arange(n - 1, -n, -1, dtype=torch.float32).unsqueeze(1)
        rates = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * -(math.log(10_000.0) / width))
        table = torch.empty(2 * n - 1, width)
        table[:, 0::2] = torch.sin(distances * rates)
        table[:, 1::2] = torch.cos(distances * rates)
        return table.to(self._device, self._dtype)


class _Layer:
    def __init__(self, weights: Weights, positions: _Positions) -> None:
        self._attention = _Attention(weights.scope("self_attn."), positions)
        self._attention_norm = weights.norm("norm_mha", 1e-12)
        self._widen = weights.linear("feed_forward.w_1")
        self._narrow = weights.linear("feed_forward.w_2")
        self._feed_forward_norm = weights.norm("norm_ff", 1e-12)

    def __call__(self, x: Tensor, real: Tensor | None) -> Tensor:
        x = x + self._attention(self._attention_norm(x), real)
        return x + self._narrow(functional.silu(self._widen(self._feed_forward_norm(x))))


class _Attention:
    """Attention whose scores also depend on how far apart two positions are (arXiv 1901.02860, section 3.3)."""

    def __init__(self, weights: Weights, positions: _Positions) -> None:
        self._content_bias = weights.tensor("pos_bias_u", -1, -1)
        self._heads, self._head_width = self._content_bias.shape
        self._distance_bias = weights.tensor("pos_bias_v", self._heads, self._head_width)
        self._inputs = weights.linear("linear_q", "linear_k", "linear_v")
        self._out = weights.linear("linear_out")
        self._project = weights.linear("linear_pos", bias=False)
        self._positions = positions
        self._distances = torch.empty(self._heads, self._head_width, 0)

    def __call__(self, x: Tensor, real: Tensor | None) -> Tensor:
        batch, steps, width = x.shape
        query, key, value = self._inputs(x).view(batch, steps, 3, self._heads, self._head_width).unbind(2)
        scores = self._shift((query + self._distance_bias).transpose(1, 2) @ self._distance_keys(steps, width))
        if real is not None:
            scores = scores.masked_fill(~real[:, None, None], -math.inf)
        mixed = functional.scaled_dot_product_attention(
            (query + self._content_bias).transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=scores
        )
        return self._out(mixed.transpose(1, 2).reshape(batch, steps, width))

    def _distance_keys(self, steps: int, width: int) -> Tensor:
        """The projected distances ``steps - 1`` to ``1 - steps``, ``[heads, head width, 2 steps - 1]``, divided by the
        root of the head's width. They depend on nothing else, so they are kept."""
        have = (self._distances.shape[2] + 1) // 2
        if have < steps:
            have = -(-steps // _TABLE_STEP) * _TABLE_STEP
            table = self._project(self._positions.table(have, width)) / math.sqrt(self._head_width)
            self._distances = table.view(-1, self._heads, self._head_width).permute(1, 2, 0).contiguous()
        return self._distances[:, :, have - steps : have + steps - 1]

    @staticmethod
    def _shift(scores: Tensor) -> Tensor:
        """From scores by distance, ``[B, heads, T, 2 T - 1]``, those by position, ``[B, heads, T, T]``: a query's row
        begins one distance further left than the row before it."""
        batch, heads, steps, distances = scores.shape
        scores = scores.contiguous()
        return scores.as_strided(
            (batch, heads, steps, steps),
            (heads * steps * distances, steps * distances, distances - 1, 1),
            scores.storage_offset() + steps - 1,
        )
