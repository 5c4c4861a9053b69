"""Weights on their device and in their type, and the linear layers made of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..tensors import Tensors

__all__ = ["Linear", "Weights"]


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
