"""The network that turns a mel and a source signal into samples, and the one that reads the pitch.

Equals upstream's ``hifigan.py`` (``HiFTGenerator.decode``) and ``f0_predictor.py``. Weight norms are multiplied
out when the weights are loaded. The Fourier transforms of 16 samples are convolutions here, which every device has.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from .layers import Weights

__all__ = ["DILATIONS", "UPSAMPLING", "Generator", "PitchPredictor", "folded"]

_FFT = 16
_HOP = 4
_BINS = _FFT // 2 + 1
UPSAMPLING = (8, 5, 3)
DILATIONS = (1, 3, 5)
_SLOPE = 0.1
_LOUDEST = 0.99
_LARGEST_MAGNITUDE = 1e2

_Layer = Callable[[Tensor], Tensor]


def folded(weights: Weights, name: str) -> Tensor:
    """A convolution's weight of which the file has direction and length."""
    length = weights.tensor(f"{name}.parametrizations.weight.original0", -1, 1, 1)
    direction = weights.tensor(f"{name}.parametrizations.weight.original1", length.shape[0], -1, -1)
    return torch._weight_norm(direction, length, 0)


class _Convolution:
    def __init__(self, weights: Weights, name: str, dilation: int = 1) -> None:
        self._weight = folded(weights, name)
        self._bias = weights.tensor(f"{name}.bias", -1)
        self._dilation = dilation
        self.reach = dilation * (self._weight.shape[2] - 1) // 2
        """Steps to either side that an output depends on."""

    def __call__(self, x: Tensor) -> Tensor:
        return functional.conv1d(x, self._weight, self._bias, padding=self.reach, dilation=self._dilation)


class _Upsampling:
    def __init__(self, weights: Weights, name: str, rate: int) -> None:
        self._weight = folded(weights, name)
        self._bias = weights.tensor(f"{name}.bias", -1)
        self._rate = rate
        self._padding = (self._weight.shape[2] - rate) // 2

    def __call__(self, x: Tensor) -> Tensor:
        return functional.conv_transpose1d(x, self._weight, self._bias, stride=self._rate, padding=self._padding)


class _Snake:
    """``x + sin(a x)^2 / a`` by channel (arXiv 2006.08195)."""

    def __init__(self, weights: Weights, name: str) -> None:
        self._alpha = weights.tensor(f"{name}.alpha", -1).unsqueeze(1)
        self._inverse = 1.0 / (self._alpha + 1e-9)

    def __call__(self, x: Tensor) -> Tensor:
        return x + self._inverse * torch.sin(x * self._alpha).square()


class _Residual:
    def __init__(self, weights: Weights) -> None:
        self._pairs: list[tuple[_Layer, ...]] = [
            (
                _Snake(weights, f"activations1.{index}"),
                _Convolution(weights, f"convs1.{index}", dilation),
                _Snake(weights, f"activations2.{index}"),
                _Convolution(weights, f"convs2.{index}"),
            )
            for index, dilation in enumerate(DILATIONS)
        ]

    def __call__(self, x: Tensor) -> Tensor:
        for layers in self._pairs:
            y = x
            for layer in layers:
                y = layer(y)
            x = y + x
        return x


class _SourceInput:
    """Brings the source's spectrum to a stage's rate: ``rate`` is how much slower that is than the spectrum's."""

    def __init__(self, weights: Weights, index: int, rate: int) -> None:
        self._weight = weights.tensor(f"source_downs.{index}.weight", -1, 2 * _BINS, -1)
        self._bias = weights.tensor(f"source_downs.{index}.bias", -1)
        self._rate = rate
        self._padding = 0 if rate == 1 else rate // 2
        self._residual = _Residual(weights.scope(f"source_resblocks.{index}."))

    def __call__(self, spectrum: Tensor) -> Tensor:
        x = functional.conv1d(spectrum, self._weight, self._bias, stride=self._rate, padding=self._padding)
        return self._residual(x)


class Generator:
    """Mel ``[B, 80, n]`` and source ``[B, 480 n]`` to samples ``[B, 480 n]`` in -0.99 to 0.99."""

    samples_per_frame = math.prod(UPSAMPLING) * _HOP

    def __init__(self, weights: Weights) -> None:
        self._before = _Convolution(weights, "conv_pre")
        self._up = [_Upsampling(weights, f"ups.{index}", rate) for index, rate in enumerate(UPSAMPLING)]
        rates = [math.prod(UPSAMPLING[index + 1 :]) for index in range(len(UPSAMPLING))]
        self._sources = [_SourceInput(weights, index, rate) for index, rate in enumerate(rates)]
        blocks = [_Residual(block) for block in weights.layers("resblocks.")]
        per_stage = len(blocks) // len(UPSAMPLING)
        self._blocks = [blocks[start : start + per_stage] for start in range(0, len(blocks), per_stage)]
        self._after = _Convolution(weights, "conv_post")
        self._fourier = _Fourier(weights.device)

    def __call__(self, mel: Tensor, source: Tensor) -> Tensor:
        spectrum = self._fourier.forward(source)
        x = self._before(mel)
        for index, (up, source_input, blocks) in enumerate(zip(self._up, self._sources, self._blocks, strict=True)):
            x = up(functional.leaky_relu(x, _SLOPE))
            if index == len(self._up) - 1:
                # A spectrum has one frame more than its signal has hops.
                x = functional.pad(x, (1, 0), mode="reflect")
            x = x + source_input(spectrum)
            total = blocks[0](x)
            for block in blocks[1:]:
                total = total + block(x)
            x = total / len(blocks)
        x = self._after(functional.leaky_relu(x))
        magnitude = torch.exp(x[:, :_BINS]).clamp(max=_LARGEST_MAGNITUDE)
        phase = torch.sin(x[:, _BINS:])
        samples = self._fourier.inverse(magnitude * torch.cos(phase), magnitude * torch.sin(phase))
        return samples.clamp(-_LOUDEST, _LOUDEST)


class _Fourier:
    """``torch.stft`` and ``torch.istft`` of centred Hann windows of 16 samples every 4, on real numbers."""

    def __init__(self, device: torch.device) -> None:
        time = torch.arange(_FFT, dtype=torch.float64)
        window = 0.5 - 0.5 * torch.cos(2 * math.pi * time / _FFT)
        angles = 2 * math.pi * torch.outer(torch.arange(_BINS, dtype=torch.float64), time) / _FFT
        waves = torch.cat([torch.cos(angles), -torch.sin(angles)])
        # All but the first and the last bin stand for their mirror images too.
        weights = torch.full((_BINS, 1), 2.0 / _FFT, dtype=torch.float64)
        weights[0] = weights[-1] = 1.0 / _FFT
        envelope = functional.conv_transpose1d(
            torch.ones(1, 1, _FFT, dtype=torch.float64), window.square().view(1, 1, -1), stride=_HOP
        )[0, 0, _FFT // 2 : -_FFT // 2]
        middle = envelope[envelope.numel() // 2]
        self._forward = (waves * window).unsqueeze(1).float().to(device)
        self._inverse = (waves * weights.repeat(2, 1) * window / middle).unsqueeze(1).float().to(device)
        # Where the windows begin and end fewer of them overlap.
        self._head = (middle / envelope[:_HOP]).float().to(device)
        self._tail = (middle / envelope[-_HOP:]).float().to(device)

    def forward(self, samples: Tensor) -> Tensor:
        """``[B, n]`` to ``[B, 2 bins, n / 4 + 1]``: real parts, then imaginary ones."""
        padded = functional.pad(samples.unsqueeze(1), (_FFT // 2, _FFT // 2), mode="reflect")
        return functional.conv1d(padded, self._forward, stride=_HOP)

    def inverse(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """The samples ``[B, n]`` of two ``[B, bins, n / 4 + 1]``."""
        samples = functional.conv_transpose1d(torch.cat([real, imaginary], dim=1), self._inverse, stride=_HOP)
        samples = samples[:, 0, _FFT // 2 : -_FFT // 2]
        samples[:, :_HOP] *= self._head
        samples[:, -_HOP:] *= self._tail
        return samples


class PitchPredictor:
    """Mel ``[B, 80, n]`` to pitch ``[B, n]`` in Hz, low or 0 where there is no voice."""

    def __init__(self, weights: Weights) -> None:
        # An activation comes after every convolution and takes a number of its own.
        count = len(weights.layers("condnet."))
        self._layers = [_Convolution(weights, f"condnet.{2 * index}") for index in range(count)]
        self._out = weights.linear("classifier")
        self.context = sum(layer.reach for layer in self._layers)
        """Frames to either side that a frame's pitch depends on."""

    def __call__(self, mel: Tensor) -> Tensor:
        for layer in self._layers:
            mel = functional.elu(layer(mel))
        return self._out(mel.transpose(1, 2)).squeeze(-1).abs()
