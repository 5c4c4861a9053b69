"""The network that says in which direction a noisy mel becomes a clean one, and what it knows of time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ..tensors import CheckpointError
from .layers import Weights
from .network import TorchNetwork

__all__ = ["Estimator", "Network", "Schedule"]

_TIME_SCALE = 1000


@dataclass(frozen=True, slots=True)
class Schedule:
    """The Euler steps from noise at 0 to a mel at 1."""

    lengths: Tensor
    """``[steps]``, sum 1."""
    biases: Tensor
    """What the network learns of a step's time, ``[steps, blocks, channels]``."""


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
        """Whether a step's end is told to the network too, which makes two steps enough."""
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
