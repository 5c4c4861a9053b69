"""Networks of PyTorch's modules whose weights stay where they are mapped."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..tensors import Tensors

__all__ = ["Unfilled", "fill"]

ALIGNMENT = 64
"""Bytes to which PyTorch aligns memory of its own."""


class Unfilled(TorchFunctionMode):
    """Leaves untouched the memory that a network fills with random numbers when it is built: weights take its place.

    Memory that is never touched takes no room. Building on the ``meta`` device would come to the same, but makes
    PyTorch import its compiler, for six seconds.
    """

    FILLS = (Tensor.uniform_, Tensor.normal_, Tensor.fill_, Tensor.zero_)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if function in self.FILLS or getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else given["tensor"]
        return function(*args, **given)


def fill(network: Any, tensors: Tensors, device: torch.device) -> Any:
    """Give ``network`` all of its weights. On the CPU they stay in the mapped file.

    Those that lie askew there, as most of a safetensors file do, are copied: the CPU's convolutions round otherwise on
    them, and a vector would differ from upstream's in its last bits.
    """
    state = {}
    for name, empty in network.state_dict().items():
        weight = tensors.shaped(name, *empty.shape).to(device=device, dtype=empty.dtype)
        state[name] = weight.clone() if weight.data_ptr() % ALIGNMENT else weight
    network.load_state_dict(state, assign=True)
    # The move is for the recurrent layers, which lay out their weights anew on an accelerator.
    return network.requires_grad_(False).eval().to(device)
