"""The vocoder's generator on a CPU, computed by the compiled module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..packed import to_array
from ..tensors import CheckpointError
from .generator import DILATIONS, UPSAMPLING, Generator, folded
from .layers import Weights

if TYPE_CHECKING:
    from ..._core import VocoderGenerator

__all__ = ["NativeGenerator"]


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
