"""The estimator's layers, in torch.

Equals upstream's ``decoder.py`` (``ConditionalDecoder`` with causal convolutions), ``matcha/decoder.py`` and
``matcha/transformer.py``, but works on ``[B, T, channels]`` throughout. All its convolutions look back only and its
attention is told where a row ends, so that padding to a row's right may hold anything and is never multiplied away.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..dimensions import head_count
from .layers import Weights

__all__ = ["TorchNetwork"]


class TorchNetwork:
    """The ``Network`` of any device and type."""

    def __init__(self, weights: Weights) -> None:
        down, up = weights.scope("down_blocks.0."), weights.scope("up_blocks.0.")
        self._down = _Block(down)
        self._after_down = down.convolution("2")
        self._middle = [_Block(block) for block in weights.layers("mid_blocks.")]
        self._up = _Block(up)
        self._after_up = up.convolution("2")
        self._final = _Convolution(weights.scope("final_block.block."))
        self._out = weights.convolution("final_proj")

    def __call__(self, x: Tensor, biases: Tensor, real: Tensor | None) -> Tensor:
        keys = None if real is None else real[:, None, None]
        by_block = iter(biases.unsqueeze(2).unbind(1))
        x = skip = self._down(x, next(by_block), keys)
        x = self._after_down(x)
        for block in self._middle:
            x = block(x, next(by_block), keys)
        x = self._up(torch.cat([x, skip], dim=-1), next(by_block), keys)
        return self._out(self._final(self._after_up(x)))


class _Block:
    """A residual block of convolutions, which knows the time, and transformer layers."""

    def __init__(self, weights: Weights) -> None:
        resnet = weights.scope("0.")
        self._first = _Convolution(resnet.scope("block1.block."))
        self._second = _Convolution(resnet.scope("block2.block."))
        self._shortcut = resnet.convolution("res_conv")
        self._layers = [_Transformer(layer) for layer in weights.layers("1.")]

    def __call__(self, x: Tensor, bias: Tensor, keys: Tensor | None) -> Tensor:
        x = self._second(self._first(x) + bias) + self._shortcut(x)
        for layer in self._layers:
            x = layer(x, keys)
        return x


class _Convolution:
    def __init__(self, weights: Weights) -> None:
        self._convolution = weights.convolution("0")
        self._norm = weights.norm("2")

    def __call__(self, x: Tensor) -> Tensor:
        return functional.mish(self._norm(self._convolution(x)))


class _Transformer:
    def __init__(self, weights: Weights) -> None:
        self._heads = head_count(weights.tensor("attn1.to_q.weight", -1, -1).shape[0])
        self._attention_norm = weights.norm("norm1")
        self._inputs = weights.linear("attn1.to_q", "attn1.to_k", "attn1.to_v", bias=False)
        self._mixed = weights.linear("attn1.to_out.0")
        self._feed_forward_norm = weights.norm("norm3")
        self._widen = weights.linear("ff.net.0.proj")
        self._narrow = weights.linear("ff.net.2")

    def __call__(self, x: Tensor, keys: Tensor | None) -> Tensor:
        batch, steps, _ = x.shape
        inputs = self._inputs(self._attention_norm(x)).view(batch, steps, 3, self._heads, -1)
        query, key, value = inputs.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=keys)
        x = self._mixed(mixed.transpose(1, 2).reshape(batch, steps, -1)) + x
        return self._narrow(functional.gelu(self._widen(self._feed_forward_norm(x)))) + x
