"""Linear layers on a CPU whose packed weights the compiled module multiplies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from .._core import LinearLayer

__all__ = ["PackedLinear", "Precision", "to_array"]

Precision = Literal["fp32", "int8"]
"""How weights are kept and multiplied; everything else is float32."""


class PackedLinear:
    """``x W^T + b`` on ``[..., inputs]``. What a row gives does not depend on the rows beside it, to the bit."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, precision: Precision) -> None:
        from .._core import LinearLayer  # not at the top: torch's networks are there without it

        self._outputs = weight.shape[0]
        self._layer: LinearLayer = LinearLayer(to_array(weight), None if bias is None else to_array(bias), precision)

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        found = rows.new_empty(rows.shape[0], self._outputs)
        self._layer.run(to_array(rows), to_array(found))
        return found.view(*x.shape[:-1], self._outputs)


def to_array(tensor: Tensor) -> NDArray[np.float32]:
    """Input of the compiled module: C-contiguous float32, which shares the tensor's memory where that is so already."""
    whole = tensor.detach().float().contiguous()
    # A file may hold its tensors at any byte.
    array: NDArray[np.float32] = (whole.clone() if whole.data_ptr() % whole.element_size() else whole).numpy()
    return array
