"""S3Gen's networks on a CPU, computed by the compiled module from packed weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..packed import Precision, to_array
from ..tensors import CheckpointError, head_count
from .generator import DILATIONS, UPSAMPLING, Generator, folded
from .layers import Weights

if TYPE_CHECKING:
    from ..._core import FlowEstimator, VocoderGenerator

__all__ = ["NativeGenerator", "NativeNetwork"]


class NativeNetwork:
    """A ``Network`` whose rows are computed one after the other, each no longer than it is: nothing is padded."""

    def __init__(self, weights: Weights, precision: Precision) -> None:
        self._estimator = _estimator(weights, precision)
        self._outputs = weights.tensor("final_proj.weight", -1, -1, 1).shape[0]

    def __call__(self, x: Tensor, biases: Tensor, real: Tensor | None) -> Tensor:
        rows, frames, _ = x.shape
        lengths = [frames] * rows if real is None else real.sum(1).tolist()
        directions = x.new_zeros(rows, frames, self._outputs)
        self._estimator.run(to_array(x), to_array(biases), lengths, to_array(directions))
        return directions


def _estimator(weights: Weights, precision: Precision) -> FlowEstimator:
    from ..._core import FlowEstimator  # not at the top: torch's networks are there without it

    def get_weight(name: str, *shape: int) -> NDArray[np.float32]:
        return to_array(weights.tensor(name, *shape))

    def layers(block: Weights) -> int:
        return len(block.layers("1."))

    count = (
        layers(weights.scope("down_blocks.0.")),
        [layers(block) for block in weights.layers("mid_blocks.")],
        layers(weights.scope("up_blocks.0.")),
    )
    channels = weights.tensor("down_blocks.0.1.0.attn1.to_q.weight", -1, -1).shape[0]
    try:
        return FlowEstimator(get_weight, count, channels // head_count(channels), precision)
    except ValueError as error:
        raise CheckpointError(f"{weights.path}: the flow's estimator is of another kind: {error}") from error


class NativeGenerator:
    """Equals ``Generator``; utterances of a batch are computed one after the other."""

    def __init__(self, weights: Weights) -> None:
        self._generator = _generator(weights)

    def __call__(self, mel: Tensor, source: Tensor) -> Tensor:
        samples = source.new_empty(source.shape[0], mel.shape[2] * Generator.samples_per_frame)
        for frames, signal, place in zip(mel.transpose(1, 2), source, samples, strict=True):
            self._generator.run(to_array(frames), to_array(signal), to_array(place))
        return samples


def _generator(weights: Weights) -> VocoderGenerator:
    from ..._core import VocoderGenerator  # not at the top: torch's networks are there without it

    def get_weight(name: str, *shape: int) -> NDArray[np.float32]:
        layer = name.removesuffix(".weight")
        is_folded = f"{layer}.parametrizations.weight.original0" in weights
        return to_array(folded(weights, layer) if is_folded else weights.tensor(name, *shape))

    blocks = len(weights.layers("resblocks."))
    try:
        return VocoderGenerator(get_weight, list(UPSAMPLING), blocks, list(DILATIONS))
    except ValueError as error:
        raise CheckpointError(f"{weights.path}: the vocoder is of another kind: {error}") from error
