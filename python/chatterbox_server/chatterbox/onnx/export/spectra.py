"""What networks hear of a clip, as parts of a graph: resampling and the spectrograms that upstream takes.

Every one of them is a convolution with fixed kernels: a transform of frames is a product, and what is done to a frame
before it (mean, emphasis, window) is part of the same product.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np

from ...speech_tokens import SAMPLE_RATE
from ...voices.spectra import mel_filters
from .graph import Array, Graph, Name

__all__ = ["LISTEN_RATE", "kaldi", "log_mel", "power", "reference_mel", "resampled", "voice_mel"]

LISTEN_RATE = 16_000
"""Rate that all networks but S3Gen hear, in Hz."""
_FFT, _HOP = 400, 160


def resampled(graph: Graph, audio: Name) -> Name:
    """``[1, n]`` at 24 kHz to 16 kHz, as ``torchaudio.transforms.Resample`` does it."""
    how: Any = importlib.import_module("torchaudio.transforms").Resample(SAMPLE_RATE, LISTEN_RATE)
    divisor = math.gcd(SAMPLE_RATE, LISTEN_RATE)
    step, phases = SAMPLE_RATE // divisor, LISTEN_RATE // divisor
    padded = graph.add("Pad", audio, graph.ints(0, how.width, 0, how.width + step))
    kernel = graph.once("resampling", lambda: graph.constant(how.kernel.numpy()))
    heard = graph.add("Conv", graph.add("Unsqueeze", padded, graph.ints(1)), kernel, strides=[step])
    # The samples of the phases in turns, rounded up as many as the rate asks for.
    heard = graph.reshape(graph.transpose(heard, 0, 2, 1), 1, -1)
    scaled = graph.add("Mul", graph.size(audio, 1), graph.ints(phases))
    return graph.slice(heard, 1, 0, graph.add("Div", graph.add("Add", scaled, graph.ints(step - 1)), graph.ints(step)))


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
    heard = power(graph, _reflected(graph, audio, _FFT // 2), _hann(_FFT), _HOP)
    mel = graph.add("MatMul", graph.constant(_mel(LISTEN_RATE, _FFT, mels)), heard)
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
