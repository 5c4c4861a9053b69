"""The network that gives the direction in which a noisy mel becomes a clean one, and its embedding of time.

Equals upstream's ``decoder.py`` (``ConditionalDecoder`` with causal convolutions), ``matcha/decoder.py`` and
``matcha/transformer.py``, but works on ``[B, T, channels]`` throughout. All its convolutions look back only and its
attention knows where a row ends, so that padding to a row's right may hold anything and is never multiplied away.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ..tensors import CheckpointError, head_count
from .layers import Weights

__all__ = ["Estimator", "Network", "Schedule", "TorchNetwork"]


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


_TIME_SCALE = 1000


@dataclass(frozen=True, slots=True)
class Schedule:
    """The Euler steps from noise at 0 to a mel at 1."""

    lengths: Tensor
    """``[steps]``, sum 1."""
    biases: Tensor
    """The embedding of each step's time, ``[steps, blocks, channels]``."""


class Network(Protocol):
    """The estimator but for what it knows of time."""

    def __call__(self, x: Tensor, biases: Tensor, real: Tensor | None) -> Tensor:
        """As ``Estimator``'s."""


class Estimator:
    """``network`` makes the layers of the same weights."""

    def __init__(self, weights: Weights, network: Callable[[Weights], Network] = TorchNetwork) -> None:
        if "down_blocks.1.0.block1.block.0.weight" in weights:
            raise CheckpointError("The flow's estimator has several resolutions, which no published model has.")
        self._network = network(weights)
        blocks = [weights.scope("down_blocks.0."), *weights.layers("mid_blocks."), weights.scope("up_blocks.0.")]
        self._block_times = [block.linear("0.mlp.1") for block in blocks]
        self._time_hidden = weights.linear("time_mlp.linear_1")
        self._time_out = weights.linear("time_mlp.linear_2")
        self._time_width = weights.tensor("time_mlp.linear_1.weight", -1, -1).shape[1]
        self.mean_flow = "time_embed_mixer.weight" in weights
        """Whether the network takes a step's end too, which makes two steps enough."""
        self._mix_times = weights.linear("time_embed_mixer", bias=False) if self.mean_flow else None
        self._device = weights.device
        self._dtype = weights.dtype

    def __call__(self, x: Tensor, biases: Tensor, real: Tensor | None) -> Tensor:
        """``x`` is the mel so far with its conditions, ``[B, T, 320]``; ``biases`` is ``[B, blocks, channels]``, each
        row's from a ``Schedule``; ``real`` is ``[B, T]`` booleans, false at padding, or ``None``. Gives ``[B, T, 80]``.
        """
        return self._network(x, biases, real)

    def schedule(self, steps: int) -> Schedule:
        """Equal steps for a mean-flow model, otherwise such that those near the noise are short."""
        times = torch.linspace(0, 1, steps + 1, dtype=torch.float32)
        if not self.mean_flow:
            times = 1 - torch.cos(times * 0.5 * torch.pi)
        embedded = self._embed_times(times)
        if self._mix_times is None:
            embedded = embedded[:-1]
        else:
            embedded = self._mix_times(torch.cat([embedded[:-1], embedded[1:]], dim=-1))
        biases = torch.stack([time(functional.mish(embedded)) for time in self._block_times], dim=1)
        return Schedule((times[1:] - times[:-1]).to(self._device), biases)

    def _embed_times(self, times: Tensor) -> Tensor:
        half = self._time_width // 2
        rates = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10_000) / (half - 1)))
        angles = _TIME_SCALE * times.unsqueeze(1) * rates
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1).to(self._device, self._dtype)
        return self._time_out(functional.silu(self._time_hidden(waves)))
