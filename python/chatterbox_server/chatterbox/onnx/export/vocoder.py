"""The vocoder as part of a graph: mel to samples. The same as ``s3gen/vocoder.py`` and what it uses."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from ...s3gen.noise import Noise
from ...speech_tokens import SAMPLE_RATE
from .graph import Array, Graph, Layers, Name, folded

__all__ = ["SOURCE_FRAMES", "vocoder"]

SOURCE_FRAMES = 200
"""Of the source's noise that the graph holds, 4 s; then it starts over. It is 20 to 40 dB below the voice."""
_SAMPLES = 480
"""Of a frame."""
_FFT, _HOP = 16, 4
_BINS = _FFT // 2 + 1
_UPSAMPLING = (8, 5, 3)
_DILATIONS = (1, 3, 5)
_SLOPE = 0.1
_VOICED_ABOVE_HZ = 10.0
_AMPLITUDE, _VOICED_NOISE = 0.1, 0.003


def vocoder(layers: Layers, mel: Name, seed: int) -> Name:
    """The samples ``[batch, 480 frames]`` of ``mel`` ``[batch, 80, frames]``, with a table of noise from ``seed``."""
    graph = layers.graph
    signal = _source(layers.scope("m_source."), _pitch(layers.scope("f0_predictor."), mel), seed)
    padded = graph.add("Pad", signal, graph.ints(0, 0, _FFT // 2, 0, 0, _FFT // 2), mode="reflect")
    forward, inverse, envelope = _fourier()
    spectrum = graph.add("Conv", padded, graph.constant(forward), strides=[_HOP])
    x = _conv(layers, mel, "conv_pre")
    blocks = layers.count("resblocks.") // len(_UPSAMPLING)
    for stage, rate in enumerate(_UPSAMPLING):
        x = _up(layers, graph.add("LeakyRelu", x, alpha=_SLOPE), f"ups.{stage}", rate)
        if stage == len(_UPSAMPLING) - 1:
            # A spectrum has one frame more than its signal has hops.
            x = graph.add("Pad", x, graph.ints(0, 0, 1, 0, 0, 0), mode="reflect")
        slower = math.prod(_UPSAMPLING[stage + 1 :])
        signal_features = graph.add(
            "Conv",
            *(spectrum, layers.constant(f"source_downs.{stage}.weight"), layers.constant(f"source_downs.{stage}.bias")),
            strides=[slower],
            pads=[0 if slower == 1 else slower // 2] * 2,
        )
        x = graph.add("Add", x, _residual(layers.scope(f"source_resblocks.{stage}."), signal_features))
        results = [_residual(layers.scope(f"resblocks.{blocks * stage + index}."), x) for index in range(blocks)]
        x = graph.add("Mul", graph.add("Sum", *results), graph.number(1 / blocks))
    x = _conv(layers, graph.add("LeakyRelu", x, alpha=0.01), "conv_post")
    loud, turned = graph.slice(x, 1, 0, _BINS), graph.slice(x, 1, _BINS)
    magnitude = graph.add("Min", graph.add("Exp", loud), graph.number(1e2))
    phase = graph.add("Sin", turned)
    parts = [graph.add("Mul", magnitude, graph.add(kind, phase)) for kind in ("Cos", "Sin")]
    spectrum = graph.add("Concat", *parts, axis=1)
    samples = graph.add("ConvTranspose", spectrum, graph.constant(inverse), strides=[_HOP])
    samples = graph.slice(samples, 2, _FFT // 2, -_FFT // 2)
    ends = [
        graph.add("Mul", graph.slice(samples, 2, start, end), graph.constant(gain))
        for start, end, gain in ((0, _HOP, envelope[:_HOP]), (-_HOP, 2**62, envelope[_HOP:]))
    ]
    samples = graph.add("Concat", ends[0], graph.slice(samples, 2, _HOP, -_HOP), ends[1], axis=2)
    samples = graph.add("Clip", samples, graph.number(-0.99), graph.number(0.99))
    return graph.add("Squeeze", samples, graph.ints(1))


def _weights(layers: Layers, name: str) -> tuple[Name, Name, int]:
    """A convolution's weight, its bias, and its kernel's length."""
    scope = f"{name}.parametrizations.weight.original"
    weight = folded(layers.array(f"{scope}1"), layers.array(f"{scope}0"))
    return layers.graph.constant(weight), layers.constant(f"{name}.bias"), weight.shape[2]


def _conv(layers: Layers, x: Name, name: str, dilation: int = 1) -> Name:
    weight, bias, kernel = _weights(layers, name)
    reach = dilation * (kernel - 1) // 2
    return layers.graph.add("Conv", x, weight, bias, pads=[reach, reach], dilations=[dilation])


def _up(layers: Layers, x: Name, name: str, rate: int) -> Name:
    weight, bias, kernel = _weights(layers, name)
    padding = (kernel - rate) // 2
    return layers.graph.add("ConvTranspose", x, weight, bias, strides=[rate], pads=[padding, padding])


def _residual(layers: Layers, x: Name) -> Name:
    for index, dilation in enumerate(_DILATIONS):
        y = _conv(layers, _snake(layers, x, f"activations1.{index}"), f"convs1.{index}", dilation)
        y = _conv(layers, _snake(layers, y, f"activations2.{index}"), f"convs2.{index}")
        x = layers.graph.add("Add", y, x)
    return x


def _snake(layers: Layers, x: Name, name: str) -> Name:
    graph = layers.graph
    alpha = layers.array(f"{name}.alpha")[:, None]
    wave = graph.add("Sin", graph.add("Mul", x, graph.constant(alpha)))
    bent = graph.add("Mul", graph.add("Mul", wave, wave), graph.constant(1.0 / (alpha + np.float32(1e-9))))
    return graph.add("Add", x, bent)


def _pitch(layers: Layers, mel: Name) -> Name:
    """``[batch, frames]`` in Hz."""
    graph, x = layers.graph, mel
    for number in range(layers.count("condnet.")):
        x = graph.add("Elu", _conv(layers, x, f"condnet.{2 * number}"))
    # In float32 whatever the precision: an error in pitch is audible.
    weight, bias = graph.constant(layers.array("classifier.weight").T), layers.constant("classifier.bias")
    out = graph.add("Add", graph.add("MatMul", graph.transpose(x, 0, 2, 1), weight), bias)
    return graph.add("Abs", graph.add("Squeeze", out, graph.ints(2)))


def _source(layers: Layers, pitch: Name, seed: int) -> Name:
    """The signal ``[batch, 1, 480 frames]`` of harmonics and noise that gives the voice its pitch."""
    graph = layers.graph
    weight = layers.array("l_linear.weight")
    harmonics = weight.shape[1]
    noise = Noise(seed)
    multiples = np.arange(1, harmonics + 1, dtype=np.float32)[:, None] / np.float32(SAMPLE_RATE)
    steps = graph.add("Mul", graph.add("Unsqueeze", pitch, graph.ints(1)), graph.constant(multiples))
    # Turns of whole frames are added up in double precision, or a long utterance's phases would drift.
    steps = graph.cast(steps, TensorProto.DOUBLE)
    one = graph.once("turn", lambda: graph.constant(np.array(1.0)))
    per_frame = graph.constant(np.array(float(_SAMPLES)))
    turns = graph.add("Mod", graph.add("Mul", steps, per_frame), one, fmod=1)
    starts = graph.add("CumSum", turns, graph.ints(2), exclusive=1)
    inside = graph.constant(np.arange(1, _SAMPLES + 1, dtype=np.float64))
    steps, starts = (graph.add("Unsqueeze", value, graph.ints(3)) for value in (steps, starts))
    cycles = graph.add("Mod", graph.add("Add", starts, graph.add("Mul", steps, inside)), one, fmod=1)
    angles = graph.add("Mul", graph.cast(cycles, TensorProto.FLOAT), graph.number(2 * math.pi))
    phases = noise.phases(harmonics).numpy()[:, None, None]
    wave = graph.add("Sin", graph.add("Add", angles, graph.constant(phases)))
    voiced = graph.cast(graph.add("Greater", pitch, graph.number(_VOICED_ABOVE_HZ)), TensorProto.FLOAT)
    voiced = graph.add("Unsqueeze", voiced, graph.ints(1, 3))
    random = _source_noise(graph, noise, graph.size(pitch, 1), harmonics)
    quiet = graph.add("Mul", voiced, graph.number(_VOICED_NOISE - _AMPLITUDE / 3))
    quiet = graph.add("Mul", graph.add("Add", quiet, graph.number(_AMPLITUDE / 3)), random)
    wave = graph.add("Add", graph.add("Mul", graph.add("Mul", wave, graph.number(_AMPLITUDE)), voiced), quiet)
    samples = graph.reshape(wave, 0, harmonics, -1)
    merged = graph.add("MatMul", graph.constant(weight), samples)
    bias = graph.constant(layers.array("l_linear.bias")[:, None])
    return graph.add("Tanh", graph.add("Add", merged, bias))


def _source_noise(graph: Graph, noise: Noise, frames: Name, harmonics: int) -> Name:
    """``[harmonics, frames, 480]``."""
    table = noise.source(0, SOURCE_FRAMES, harmonics=harmonics, samples=_SAMPLES).numpy()
    rows = graph.add("Mod", graph.indices(frames), graph.ints(SOURCE_FRAMES))
    return graph.add("Gather", graph.constant(table.reshape(harmonics, SOURCE_FRAMES, _SAMPLES)), rows, axis=1)


def _fourier() -> tuple[Array, Array, Array]:
    """Kernels of the transform of 16 samples every 4 under a Hann window and of its inverse, and the gains of the
    inverse's first and last samples, where fewer windows overlap than in its middle."""
    time = np.arange(_FFT)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * time / _FFT)
    angles = 2 * np.pi * np.outer(np.arange(_BINS), time) / _FFT
    waves = np.concatenate([np.cos(angles), -np.sin(angles)])
    # All but the first and the last bin stand for their mirror images too.
    mirrored = np.full((_BINS, 1), 2.0 / _FFT)
    mirrored[0] = mirrored[-1] = 1.0 / _FFT
    # Of a signal of four windows: its head, its middle, and its tail.
    overlap = np.zeros(_FFT + 3 * _FFT)
    for start in range(0, 3 * _FFT + 1, _HOP):
        overlap[start : start + _FFT] += window**2
    envelope, middle = overlap[_FFT // 2 : -_FFT // 2], overlap[2 * _FFT]
    ends = middle / np.concatenate([envelope[:_HOP], envelope[-_HOP:]])
    inverse = waves * np.tile(mirrored, (2, 1)) * window / middle
    kernels = [np.asarray(kernel[:, None], np.float32) for kernel in (waves * window, inverse)]
    return kernels[0], kernels[1], np.asarray(ends, np.float32)
