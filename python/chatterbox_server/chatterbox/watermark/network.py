"""Perth's two networks: one puts the mark on, the other finds it. Equals Perth's ``encoder.py`` and ``decoder.py``.

The package itself is never imported: that takes five seconds, 280 MB and a setuptools older than 81.
"""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..packed import PackedLinear
from ..tensors import CheckpointError, Tensors

__all__ = ["Decoder", "Encoder", "WatermarkError", "open_weights"]

_FILE = Path("perth_net", "pretrained", "implicit", "perth_net_250000.pth.tar")
_WIDE = 7
"""Frames that an inner layer sees: three to either side of its own."""
_INNER = 5
_PACES = {"slow": 1.25, "normal": 1.0, "fast": 0.75}
"""The decoder looks for marks in audio that was played at other speeds too."""


class WatermarkError(Exception):
    """Audio cannot be marked; the message is a sentence that says why and what to do."""


def open_weights() -> Tensors:
    """The weights inside the installed package ``resemble-perth``. Raises ``WatermarkError``."""
    advice = "run `make install-chatterbox`, or set WATERMARK=off to send audio unmarked."
    try:
        spec = importlib.util.find_spec("perth")
    except ValueError:  # a module of that name is there, and is no package
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise WatermarkError(f"The watermark needs the package resemble-perth, which is not installed: {advice}")
    path = Path(spec.submodule_search_locations[0]) / _FILE
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return Tensors(path, dict(saved["model"]))
    except Exception as error:  # a damaged pickle may ask for anything, and fail as anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WatermarkError(f"The watermark's weights {path} cannot be read ({reason}): {advice}") from error


class _Layers:
    """Convolutions over frames, the first and the last over one frame alone."""

    def __init__(self, tensors: Tensors, bins: int, outputs: int, device: torch.device) -> None:
        hidden = tensors["0.conv.weight"].shape[0]
        widths = [bins, *[hidden] * (_INNER + 1), outputs]
        self.weights = []
        """Of each layer: weights ``[outputs, inputs, frames]``, bias, and frames to either side."""
        for index, (inputs, channels) in enumerate(pairwise(widths)):
            reach = _WIDE if 0 < index <= _INNER else 1
            weight = tensors.shaped(f"{index}.conv.weight", channels, inputs, reach)
            bias = tensors.shaped(f"{index}.conv.bias", channels)
            self.weights.append((weight.to(device), bias.to(device), reach // 2))

    def __call__(self, values: Tensor) -> Tensor:
        for index, (weight, bias, reach) in enumerate(self.weights):
            if index:
                values = F.leaky_relu(values)
            values = F.conv1d(values, weight, bias, padding=reach)
        return values

    def over_time(self, values: Tensor) -> Tensor:
        """The same on ``[n, t, channels]``."""
        return self(values.transpose(1, 2)).transpose(1, 2)


class _PackedLayers:
    """The same on ``[n, t, channels]``, on a CPU: however many rows there are, each comes out to the same bits."""

    def __init__(self, layers: _Layers) -> None:
        self._layers = [
            (PackedLinear(weight.flatten(1), bias, precision="fp32"), reach) for weight, bias, reach in layers.weights
        ]

    def __call__(self, values: Tensor) -> Tensor:
        for index, (linear, reach) in enumerate(self._layers):
            if index:
                values = F.leaky_relu(values)
            if reach:
                values = F.pad(values, (0, 0, reach, reach)).unfold(1, 2 * reach + 1, 1).flatten(2)
            values = linear(values)
        return values


class Encoder:
    """Says how a spectrum must change to carry the mark."""

    def __init__(self, tensors: Tensors, device: torch.device) -> None:
        self.bins = _bins(tensors)
        layers = _opened(tensors.scope("encoder.layers."), self.bins, self.bins, device)
        # A CPU's convolutions sum in another order for a batch: the bits would tell how the audio was cut.
        self._layers = _PackedLayers(layers) if device.type == "cpu" else layers.over_time

    def __call__(self, levels: Tensor) -> Tensor:
        """The change of ``levels`` ``[n, t, bins]``, in the same scale. Fifteen frames to either side tell on each."""
        return self._layers(levels)


class Decoder:
    """Says how sure it is that a spectrum carries the mark."""

    def __init__(self, tensors: Tensors, device: torch.device) -> None:
        self.bins = _bins(tensors)
        self._branches = [
            (pace, _opened(tensors.scope(f"decoder.{name}_layers."), self.bins, 2, device))
            for name, pace in _PACES.items()
        ]

    def __call__(self, levels: Tensor, sound: Tensor) -> Tensor:
        """From about 0 to about 1, of ``levels`` ``[t, bins]``; only frames with ``sound`` ``[t]`` count."""
        values, mask = levels.T[None], sound.to(levels.dtype)[None, None]
        count = values.shape[2]
        attention, marks = [], []
        for pace, layers in self._branches:
            size = int(count * pace)
            paced = values if size == count else F.interpolate(values, size=size, mode="linear", align_corners=True)
            weight = F.interpolate(mask, size=size, mode="nearest")
            means = (layers(paced) * weight).sum(2) / weight.sum(2)
            attention.append(means[0, 0])
            marks.append(means[0, 1])
        return (torch.stack(marks) * torch.stack(attention).softmax(0)).sum()


def _bins(tensors: Tensors) -> int:
    """The lowest bins of the spectrum, which alone carry the mark: up to 2 kHz."""
    return tensors["encoder.layers.0.conv.weight"].shape[1]


def _opened(tensors: Tensors, bins: int, outputs: int, device: torch.device) -> _Layers:
    try:
        return _Layers(tensors, bins, outputs, device)
    except CheckpointError as error:
        raise WatermarkError(f"The watermark's weights are not those of Perth: {error}") from error
