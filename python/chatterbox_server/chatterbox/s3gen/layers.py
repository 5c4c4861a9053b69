"""Weights on their device and in their type, and the layers made of them. All of them work on ``[..., channels]``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ..tensors import Tensors

__all__ = ["Convolution", "Layer", "LayerNorm", "Linear", "MakeLinear", "Weights"]

Layer = Callable[[Tensor], Tensor]
MakeLinear = Callable[[Tensor, Tensor | None], Layer]
"""Makes ``x W^T + b`` of ``W`` ``[outputs, inputs]`` and ``b`` ``[outputs]``."""


class Linear:
    """``x W^T + b``, in torch."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self._weight, self._bias)


class LayerNorm:
    def __init__(self, weight: Tensor, bias: Tensor, eps: float) -> None:
        self._weight = weight
        self._bias = bias
        self._eps = eps

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self._weight.shape, self._weight, self._bias, self._eps)


class Convolution:
    """A convolution over time, ``[B, T, in]`` to ``[B, T, out]``, that sees ``ahead`` steps to its right and the rest
    of its kernel to its left. Beyond both ends there are zeros.

    It is one linear layer over the kernel's steps side by side, so that it is computed, packed and shared as linear
    layers are and needs no other memory layout than they do.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, ahead: int = 0, linear: MakeLinear = Linear) -> None:
        outputs, inputs, self._kernel = weight.shape
        self._linear = linear(weight.transpose(1, 2).reshape(outputs, self._kernel * inputs), bias)
        self._ahead = ahead

    def __call__(self, x: Tensor) -> Tensor:
        if self._kernel == 1:
            return self._linear(x)
        steps = x.shape[1]
        padded = functional.pad(x, (0, 0, self._kernel - 1 - self._ahead, self._ahead))
        return self._linear(torch.cat([padded[:, k : k + steps] for k in range(self._kernel)], dim=-1))


class Weights:
    """A checkpoint's tensors, moved when they are taken; those that need no move stay mapped to the file."""

    def __init__(
        self, tensors: Tensors, *, device: torch.device, dtype: torch.dtype, make_linear: MakeLinear = Linear
    ) -> None:
        self.device = device
        self.dtype = dtype
        self._tensors = tensors
        self._make_linear = make_linear

    @property
    def path(self) -> Path:
        """The file that they come from."""
        return self._tensors.path

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def scope(self, prefix: str) -> Weights:
        return self._with(self._tensors.scope(prefix), self._make_linear)

    def with_linear(self, make: MakeLinear) -> Weights:
        """The same weights, of which ``make`` makes the linear layers."""
        return self._with(self._tensors, make)

    def _with(self, tensors: Tensors, make: MakeLinear) -> Weights:
        return Weights(tensors, device=self.device, dtype=self.dtype, make_linear=make)

    def layers(self, prefix: str) -> list[Weights]:
        """The scopes ``prefix0.``, ``prefix1.`` and so on, as far as there are names."""
        count = len({name.split(".", 1)[0] for name in self._tensors.scope(prefix)})
        return [self.scope(f"{prefix}{index}.") for index in range(count)]

    def tensor(self, name: str, *shape: int) -> Tensor:
        """The tensor ``name``, which must have ``shape`` (``-1`` = any)."""
        return self._tensors.shaped(name, *shape).to(self.device, self.dtype)

    def linear(self, *names: str, bias: bool = True) -> Layer:
        """The linear layer ``name``; several of one input are one layer with their outputs side by side."""
        weights = [self.tensor(f"{name}.weight", -1, -1) for name in names]
        biases = [self.tensor(f"{name}.bias", -1) for name in names] if bias else []
        if len(names) == 1:
            return self._make_linear(weights[0], biases[0] if biases else None)
        return self._make_linear(torch.cat(weights), torch.cat(biases) if biases else None)

    def convolution(self, name: str, *, lookahead: bool = False) -> Convolution:
        """A causal convolution, or one that sees nothing before the present step."""
        weight = self.tensor(f"{name}.weight", -1, -1, -1)
        ahead = weight.shape[2] - 1 if lookahead else 0
        return Convolution(weight, self.tensor(f"{name}.bias", -1), ahead=ahead, linear=self._make_linear)

    def norm(self, name: str, eps: float = 1e-5) -> LayerNorm:
        return LayerNorm(self.tensor(f"{name}.weight", -1), self.tensor(f"{name}.bias", -1), eps)
