"""Linear layers of the compiled module, and how many threads it takes."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from chatterbox_server._core import LinearLayer
from chatterbox_server.chatterbox.packed import PackedLinear, Precision
from torch.nn import functional

BOUNDS: dict[Precision, float] = {"fp32": 1e-5, "int8": 0.03}
"""Of the largest error, as a part of the largest result."""


def layer(precision: Precision, *, biased: bool = True) -> tuple[PackedLinear, torch.Tensor, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(50, 70, generator=generator)
    bias = torch.randn(50, generator=generator) if biased else None
    return PackedLinear(weight, bias, precision=precision), weight, bias


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("precision", BOUNDS)
def test_packed_linear_equals_torchs(precision: Precision, biased: bool) -> None:
    packed, weight, bias = layer(precision, biased=biased)
    x = torch.randn(3, 5, 70, generator=torch.Generator().manual_seed(2))
    wanted = functional.linear(x, weight, bias)
    found = packed(x)
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= BOUNDS[precision] * wanted.abs().max()


@pytest.mark.parametrize("precision", BOUNDS)
def test_row_is_independent_of_batch(precision: Precision) -> None:
    packed, _, _ = layer(precision)
    x = torch.randn(40, 70, generator=torch.Generator().manual_seed(3))
    together = packed(x)
    assert all(torch.equal(packed(row[None])[0], among) for row, among in zip(x, together, strict=True))
    # Views that are not contiguous, too.
    assert torch.equal(packed(x.T.contiguous().T[::2]), together[::2])


def test_arrays_of_wrong_shape_are_refused() -> None:
    weights, bias = np.zeros((4, 6), np.float32), np.zeros(4, np.float32)
    for bad, beside in ((weights[:0], None), (weights[0], None), (weights, bias[:3])):
        with pytest.raises(ValueError, match="has shape"):
            LinearLayer(bad, beside, "fp32")
    with pytest.raises(ValueError, match="int3"):
        LinearLayer(weights, bias, "int3")
    made = LinearLayer(weights, bias, "fp32")
    fixed = np.zeros((2, 4), np.float32)
    fixed.flags.writeable = False
    for x, y in (
        (np.zeros((2, 5), np.float32), np.zeros((2, 4), np.float32)),
        (np.zeros((2, 6), np.float32), np.zeros((3, 4), np.float32)),
        (np.zeros((6, 2), np.float32).T, np.zeros((2, 4), np.float32)),
        (np.zeros((2, 6), np.float32), fixed),
    ):
        with pytest.raises(ValueError, match=r"has shape|contiguous|read-only"):
            made.run(x, y)


def test_available_threads_follow_affinity() -> None:
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from chatterbox_server import _core; print(_core.available_threads())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert answer.stdout == "1\n"
