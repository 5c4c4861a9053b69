"""Perth's spectrogram of audio at 24 kHz, and its two networks: one puts the mark on, the other finds it.

Equals Perth's ``encoder.py`` and ``decoder.py``, without importing the package: that takes five seconds, 280 MB and a
setuptools older than 81.

Perth works at 32 kHz with frames of 2048 samples every 320 (``audio_processor.py``, ``hparams.yaml``), and upstream
resamples there and back. Frames of the same duration at 24 kHz have their bins at the same frequencies, so below
12 kHz the spectrum is the same but for a factor, and nothing needs to be resampled.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..packed import PackedLinear
from ..speech_tokens import SAMPLE_RATE
from ..tensors import CheckpointError, Tensors

__all__ = [
    "FRAME",
    "HALF",
    "HOP",
    "SAMPLE_RATE",
    "Decoder",
    "Encoder",
    "WatermarkError",
    "frames",
    "gain",
    "level",
    "open_weights",
    "synthesise",
]


FRAME, HOP = 1536, 240
"""Samples: 64 and 10 ms."""
HALF = FRAME // 2
"""Frame ``t`` is centred at sample ``t * HOP``, so it reaches so far to either side."""

_FACTOR = 2048 / FRAME
"""Of Perth's magnitudes to these: its frames have so many more samples."""
_LOWEST = 1e-9
_RANGE_DB, _LOWEST_DB = 195.0, -180.0
"""Perth's scale: 0 is its lowest level, 1 is 15 dB. See ``normalize`` in its ``utils.py``."""


@functools.cache
def _window(device: torch.device) -> Tensor:
    return torch.hann_window(FRAME, device=device)


def frames(samples: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Spectra ``[..., t, bins]`` of all whole frames of ``samples`` ``[..., n]``, and whether there is sound in each.

    Perth marks no frame below a twentieth of the loudest on its scale: below -170 dB, which nothing but digital
    silence is. That needs no look at the rest of the audio.
    """
    cut = samples.unfold(-1, FRAME, HOP)
    sound = cut.abs().amax(-1) > _LOWEST
    return torch.fft.rfft(cut * _window(samples.device))[..., :bins], sound


def level(spectra: Tensor) -> Tensor:
    """Perth's logarithmic magnitudes, about 0 to 1."""
    decibels = 20 * torch.log10((spectra.abs() * _FACTOR).clip(_LOWEST))
    return (decibels - _LOWEST_DB) / _RANGE_DB


def gain(change: Tensor) -> Tensor:
    """The factor of a magnitude whose ``level`` is to ``change`` by so much."""
    return torch.exp(change * (_RANGE_DB / 20 * math.log(10)))


def synthesise(spectra: Tensor) -> Tensor:
    """Samples ``[..., FRAME]`` of each spectrum ``[..., bins]``; where frames overlap they add up to the signal.

    They are scaled for frames that go on without end to either side. The squared windows then add up to 2.4 with a
    ripple of 0.03 %, which Perth's inverse takes out sample by sample.
    """
    window = _window(spectra.device)
    hops = torch.nn.functional.pad(window**2, (0, -FRAME % HOP)).reshape(-1, HOP).sum(0)
    scale = window / hops.repeat(-(-FRAME // HOP))[:FRAME]
    samples: Tensor = torch.fft.irfft(spectra, n=FRAME)
    return samples * scale


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
        # A CPU's convolutions sum in another order for a batch: the bits would depend on how the audio was cut.
        self._layers = _PackedLayers(layers) if device.type == "cpu" else layers.over_time

    def __call__(self, levels: Tensor) -> Tensor:
        """The change of ``levels`` ``[n, t, bins]``, in the same scale. Fifteen frames to either side affect each."""
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
