"""Spectra of clips and the speaker encoders as parts of a graph."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
from onnx import TensorProto

from ...speech_tokens import SAMPLE_RATE
from ...voices.audio import mel_filters
from .graph import Array, Graph, Layers, Name

__all__ = [
    "LISTEN_RATE",
    "kaldi",
    "log_mel",
    "power",
    "reference_mel",
    "resampled",
    "s3_speaker",
    "t3_speaker",
    "voice_mel",
]


LISTEN_RATE = 16_000
"""Input rate of all networks but S3Gen, in Hz."""
_FFT, _HOP = 400, 160


def resampled(graph: Graph, audio: Name) -> Name:
    """``[1, n]`` at 24 kHz to 16 kHz, as ``torchaudio.transforms.Resample`` does it."""
    how: Any = importlib.import_module("torchaudio.transforms").Resample(SAMPLE_RATE, LISTEN_RATE)
    divisor = math.gcd(SAMPLE_RATE, LISTEN_RATE)
    step, phases = SAMPLE_RATE // divisor, LISTEN_RATE // divisor
    padded = graph.add("Pad", audio, graph.ints(0, how.width, 0, how.width + step))
    kernel = graph.once("resampling", lambda: graph.constant(how.kernel.numpy()))
    samples = graph.add("Conv", graph.add("Unsqueeze", padded, graph.ints(1)), kernel, strides=[step])
    # The samples of the phases interleaved, rounded up as many as the rate asks for.
    samples = graph.reshape(graph.transpose(samples, 0, 2, 1), 1, -1)
    scaled = graph.add("Mul", graph.size(audio, 1), graph.ints(phases))
    return graph.slice(
        samples, 1, 0, graph.add("Div", graph.add("Add", scaled, graph.ints(step - 1)), graph.ints(step))
    )


def power(graph: Graph, audio: Name, frames: Array, hop: int) -> Name:
    """Power ``[1, bins, frames]`` of ``audio`` ``[1, n]`` under the complex kernels ``frames`` ``[bins, length]``."""
    key = ("frames", frames.tobytes())
    parts = np.concatenate([frames.real, frames.imag])[:, None].astype(np.float32)
    kernel = graph.once(key, lambda: graph.constant(parts))
    waves = graph.add("Conv", graph.add("Unsqueeze", audio, graph.ints(1)), kernel, strides=[hop])
    squares = graph.add("Mul", waves, waves)
    bins = len(frames)
    return graph.add("Add", graph.slice(squares, 1, 0, bins), graph.slice(squares, 1, bins))


def log_mel(graph: Graph, audio: Name, filters: Array) -> Name:
    """The speech tokeniser's log-mel ``[1, mels, n / 160]`` of audio at 16 kHz."""
    centred = _reflected(graph, audio, _FFT // 2)
    mel = graph.add("MatMul", graph.constant(filters), power(graph, centred, _hann(_FFT), _HOP))
    mel = graph.slice(mel, 2, 0, -1)
    log = graph.add("Log", graph.add("Max", mel, graph.number(1e-10)))
    log = graph.add("Mul", log, graph.number(1 / math.log(10)))
    least = graph.add("Sub", graph.add("ReduceMax", log, keepdims=1), graph.number(8.0))
    return graph.add("Mul", graph.add("Add", graph.add("Max", log, least), graph.number(4.0)), graph.number(0.25))


def reference_mel(graph: Graph, audio: Name) -> Name:
    """S3Gen's mel ``[1, n / 480, 80]`` of audio at 24 kHz: upstream's ``mel_spectrogram``."""
    fft, hop = 1920, 480
    padded = _reflected(graph, audio, (fft - hop) // 2)
    loud = graph.add("Sqrt", graph.add("Add", power(graph, padded, _hann(fft), hop), graph.number(1e-9)))
    mel = graph.add("MatMul", graph.constant(_mel(SAMPLE_RATE, fft, 80)), loud)
    return graph.transpose(graph.add("Log", graph.add("Max", mel, graph.number(1e-5))), 0, 2, 1)


def voice_mel(graph: Graph, audio: Name, mels: int) -> Name:
    """The voice encoder's mel ``[1 + n / 160, mels]`` of audio at 16 kHz."""
    spectrum = power(graph, _reflected(graph, audio, _FFT // 2), _hann(_FFT), _HOP)
    mel = graph.add("MatMul", graph.constant(_mel(LISTEN_RATE, _FFT, mels)), spectrum)
    return graph.add("Squeeze", graph.transpose(mel, 0, 2, 1), graph.ints(0))


def kaldi(graph: Graph, audio: Name, mels: int) -> Name:
    """Kaldi's filter banks ``[1, mels, frames]`` of audio at 16 kHz, less their mean."""
    fft = 512
    package: Any = importlib.import_module("torchaudio.compliance.kaldi")
    banks, _ = package.get_mel_banks(mels, fft, float(LISTEN_RATE), 20.0, 0.0, 100.0, -500.0, 1.0)
    filters = np.pad(banks.numpy(), ((0, 0), (0, 1)))
    without_mean = np.eye(_FFT) - 1 / _FFT
    emphasis = np.eye(_FFT) - 0.97 * np.eye(_FFT, k=-1)
    emphasis[0, 0] = 1 - 0.97
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FFT) / (_FFT - 1))) ** 0.85
    frames = _waves(fft)[:, :_FFT] * window @ emphasis @ without_mean
    mel = graph.add("MatMul", graph.constant(filters), power(graph, audio, frames, _HOP))
    log = graph.add("Log", graph.add("Max", mel, graph.number(float(np.finfo(np.float32).eps))))
    return graph.add("Sub", log, graph.add("ReduceMean", log, graph.ints(2), keepdims=1))


def _reflected(graph: Graph, audio: Name, count: int) -> Name:
    return graph.add("Pad", audio, graph.ints(0, count, 0, count), mode="reflect")


def _waves(length: int) -> Array:
    """``[bins, length]`` of a Fourier transform of real numbers."""
    waves: Array = np.exp(-2j * np.pi * np.outer(np.arange(length // 2 + 1), np.arange(length)) / length)
    return waves


def _hann(length: int) -> Array:
    """The same of frames under a window."""
    return _waves(length) * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length))


def _mel(rate: int, fft: int, mels: int) -> Array:
    return mel_filters(rate, fft, mels, 8000.0)


_EPSILON = 1e-5
_SEGMENT = 100
_DILATIONS = (1, 2, 2)
"""Of CAMPPlus' three dense blocks."""
_WINDOW, _STEP = 160, 77
"""Frames that the voice encoder takes at once, and from window to window."""
_COVERED = 128 - (_WINDOW - _STEP)
"""Frames behind the last whole window from which on another one is worth its padding: 80 % of it is filled."""
_SILENCE_FRAME, _SILENCE_HOP = 2048, 512
"""Of the measure of loudness that finds the silence around a clip."""
_SILENCE = 0.01
"""Of the loudest frame's power: 20 dB."""


def s3_speaker(layers: Layers, features: Name) -> Name:
    """CAMPPlus' vector ``[1, 192]`` of filter banks ``[1, 80, frames]``."""
    graph, head = layers.graph, layers.scope("head.")
    x = graph.add("Unsqueeze", features, graph.ints(1))
    x = _relu(graph, _normed(head, _conv(head, x, "conv1", pads=[1] * 4), "bn1"))
    for layer in ("layer1.", "layer2."):
        for number in range(head.count(layer)):
            x = _residual(head.scope(f"{layer}{number}."), x, 1 if number else 2)
    x = _relu(graph, _normed(head, _conv(head, x, "conv2", pads=[1] * 4, strides=[2, 1]), "bn2"))
    channels = layers.array("xvector.tdnn.linear.weight").shape[1]
    x = graph.reshape(x, 1, channels, -1)
    body = layers.scope("xvector.")
    x = _conv(body, x, "tdnn.linear", pads=[2, 2], strides=[2])
    x = _relu(graph, _normed(body, x, "tdnn.nonlinear.batchnorm"))
    for stage, dilation in enumerate(_DILATIONS, start=1):
        for number in range(1, 1 + body.count(f"block{stage}.")):
            dense = _dense(body.scope(f"block{stage}.tdnnd{number}."), x, dilation)
            x = graph.add("Concat", x, dense, axis=1)
        transit = body.scope(f"transit{stage}.")
        x = _conv(transit, _relu(graph, _normed(transit, x, "nonlinear.batchnorm")), "linear")
    x = _relu(graph, _normed(body, x, "out_nonlinear.batchnorm"))
    mean = graph.add("ReduceMean", x, graph.ints(2), keepdims=1)
    apart = graph.add("Sub", x, mean)
    squares = graph.add("ReduceSum", graph.add("Mul", apart, apart), graph.ints(2), keepdims=1)
    count = graph.cast(graph.add("Sub", graph.size(x, 2), graph.ints(1)), TensorProto.FLOAT)
    pooled = graph.add("Concat", mean, graph.add("Sqrt", graph.add("Div", squares, count)), axis=1)
    return graph.add(
        "Squeeze", _normed(body, _conv(body, pooled, "dense.linear"), "dense.nonlinear.batchnorm"), graph.ints(2)
    )


def t3_speaker(layers: Layers, audio: Name) -> Name:
    """The voice encoder's vector ``[1, 256]`` of audio ``[1, n]`` at 16 kHz."""
    graph = layers.graph
    mels = layers.array("lstm.weight_ih_l0").shape[1]
    windows = _windows(graph, voice_mel(graph, _without_silence(graph, audio), mels))
    x = graph.transpose(windows, 1, 0, 2)
    for number in range(3):
        weights = [_gates(layers.array(f"lstm.weight_{part}_l{number}"))[None] for part in ("ih", "hh")]
        biases = [_gates(layers.array(f"lstm.bias_{part}_l{number}")) for part in ("ih", "hh")]
        hidden = weights[1].shape[2]
        given = [graph.constant(array) for array in (*weights, np.concatenate(biases)[None])]
        sequence, last = graph.split("LSTM", 2, x, *given, hidden_size=hidden)
        x = graph.add("Squeeze", sequence, graph.ints(1))
    embeddings = layers.linear(graph.add("Squeeze", last, graph.ints(0)), "proj")
    embeddings = graph.add("LpNormalization", graph.add("Relu", embeddings), axis=1, p=2)
    return graph.add("LpNormalization", graph.add("ReduceMean", embeddings, graph.ints(0), keepdims=1), axis=1, p=2)


def _conv(layers: Layers, x: Name, name: str, **how: Any) -> Name:
    return layers.graph.add("Conv", x, layers.constant(f"{name}.weight"), **how)


def _relu(graph: Graph, x: Name) -> Name:
    return graph.add("Relu", x)


def _normed(layers: Layers, x: Name, name: str) -> Name:
    """A batch norm; one without weights only subtracts and divides."""
    mean, variance = (layers.array(f"{name}.running_{part}") for part in ("mean", "var"))
    affine = f"{name}.weight" in layers
    weight = layers.array(f"{name}.weight") if affine else np.ones_like(mean)
    bias = layers.array(f"{name}.bias") if affine else np.zeros_like(mean)
    given = [layers.graph.constant(array) for array in (weight, bias, mean, variance)]
    return layers.graph.add("BatchNormalization", x, *given, epsilon=_EPSILON)


def _residual(layers: Layers, x: Name, stride: int) -> Name:
    graph = layers.graph
    inner = _relu(graph, _normed(layers, _conv(layers, x, "conv1", pads=[1] * 4, strides=[stride, 1]), "bn1"))
    inner = _normed(layers, _conv(layers, inner, "conv2", pads=[1] * 4), "bn2")
    if "shortcut.0.weight" in layers:
        x = _normed(layers, _conv(layers, x, "shortcut.0", strides=[stride, 1]), "shortcut.1")
    return _relu(graph, graph.add("Add", inner, x))


def _dense(layers: Layers, x: Name, dilation: int) -> Name:
    """A layer whose outputs are weighted by the context around them."""
    graph = layers.graph
    x = _conv(layers, _relu(graph, _normed(layers, x, "nonlinear1.batchnorm")), "linear1")
    x = _relu(graph, _normed(layers, x, "nonlinear2.batchnorm"))
    cam = layers.scope("cam_layer.")
    local = _conv(cam, x, "linear_local", pads=[dilation] * 2, dilations=[dilation])
    around = graph.add("Add", graph.add("ReduceMean", x, graph.ints(2), keepdims=1), _by_segment(graph, x))
    first, second = ((cam.constant(f"linear{n}.weight"), cam.constant(f"linear{n}.bias")) for n in (1, 2))
    weight = graph.add("Sigmoid", graph.add("Conv", _relu(graph, graph.add("Conv", around, *first)), *second))
    return graph.add("Mul", local, weight)


def _by_segment(graph: Graph, x: Name) -> Name:
    """The mean of each segment of ``[1, channels, n]`` at all of its places; the last one may be shorter."""
    length = graph.size(x, 2)
    missing = graph.add("Mod", graph.add("Neg", length), graph.ints(_SEGMENT))
    padded = graph.add("Pad", x, graph.shape(0, 0, 0, 0, 0, missing))
    sums = graph.add("ReduceSum", graph.reshape(padded, 0, 0, -1, _SEGMENT), graph.ints(3), keepdims=1)
    starts = graph.add("Mul", graph.indices(graph.size(sums, 2)), graph.ints(_SEGMENT))
    counts = graph.add("Min", graph.add("Sub", length, starts), graph.ints(_SEGMENT))
    counts = graph.add("Unsqueeze", graph.cast(counts, TensorProto.FLOAT), graph.ints(1))
    everywhere = graph.add("Expand", graph.add("Div", sums, counts), graph.ints(1, 1, 1, _SEGMENT))
    return graph.slice(graph.reshape(everywhere, 0, 0, -1), 2, 0, length)


def _without_silence(graph: Graph, audio: Name) -> Name:
    """``librosa.effects.trim``."""
    squares = graph.add("Unsqueeze", graph.add("Mul", audio, audio), graph.ints(1))
    mean = graph.constant(np.full((1, 1, _SILENCE_FRAME), 1 / _SILENCE_FRAME, np.float32))
    loud = graph.add("Conv", squares, mean, strides=[_SILENCE_HOP], pads=[_SILENCE_FRAME // 2] * 2)
    least = graph.add("Mul", graph.add("ReduceMax", loud, keepdims=1), graph.number(_SILENCE))
    above = graph.add("NonZero", graph.reshape(graph.add("Greater", loud, least), -1))
    frames = graph.reshape(above, -1)
    first, last = graph.slice(frames, 0, 0, 1), graph.slice(frames, 0, -1)
    hop = graph.ints(_SILENCE_HOP)
    end = graph.add("Mul", graph.add("Add", last, graph.ints(1)), hop)
    return graph.slice(audio, 1, graph.add("Mul", first, hop), end)


def _windows(graph: Graph, mel: Name) -> Name:
    """``[windows, 160, mels]`` of ``[frames, mels]``."""
    frames = graph.size(mel, 0)
    beyond = graph.add("Max", graph.add("Sub", frames, graph.ints(_WINDOW - _STEP)), graph.ints(0))
    whole, left = graph.add("Div", beyond, graph.ints(_STEP)), graph.add("Mod", beyond, graph.ints(_STEP))
    none = graph.add("Equal", whole, graph.ints(0))
    another = graph.add("Or", none, graph.add("GreaterOrEqual", left, graph.ints(_COVERED)))
    count = graph.add("Add", whole, graph.cast(another, TensorProto.INT64))
    starts = graph.add("Mul", graph.add("Unsqueeze", graph.indices(count), graph.ints(1)), graph.ints(_STEP))
    places = graph.add("Add", starts, graph.constant(np.arange(_WINDOW)))
    return graph.add("Gather", graph.add("Pad", mel, graph.ints(0, 0, _WINDOW, 0)), places)


def _gates(array: Array) -> Array:
    """An LSTM's gates in ONNX's order: input, output, forget, cell; torch has input, forget, cell, output."""
    gate_in, forget, cell, out = np.split(array, 4)
    return np.concatenate([gate_in, out, forget, cell])
