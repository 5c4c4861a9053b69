"""The networks that embed a clip's speaker: T3's voice encoder and S3Gen's CAMPPlus, in PyTorch's modules.

The voice encoder is upstream's ``voice_encoder.py`` and ``melspec.py``, one batch of windows at a time. CAMPPlus is
upstream's own, the only code of upstream's that is imported, and only when called: it runs once per voice, so nothing
would be gained by rewriting it. Both are built of the sizes that the weights have, which stay where they are mapped.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
import sys
from collections.abc import Generator, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..interfaces import Samples
from ..tensors import Tensors
from .audio import mel_filters, powers, without_silence

__all__ = ["Unfilled", "VoiceEncoder", "fill", "import_all", "resampler", "speaker_encoder"]


ALIGNMENT = 64
"""Bytes to which PyTorch aligns memory of its own."""


class Unfilled(TorchFunctionMode):
    """Leaves untouched the memory that a network fills with random numbers when it is built: weights take its place.

    Memory that is never touched takes no room. Building on the ``meta`` device would come to the same, but makes
    PyTorch import its compiler, for six seconds.
    """

    FILLS = (Tensor.uniform_, Tensor.normal_, Tensor.fill_, Tensor.zero_)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if function in self.FILLS or getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else given["tensor"]
        return function(*args, **given)


def fill(network: Any, tensors: Tensors, device: torch.device) -> Any:
    """Give ``network`` all of its weights. On the CPU they stay in the mapped file.

    Those that lie askew there, as most of a safetensors file do, are copied: the CPU's convolutions round otherwise on
    them, and a vector would differ from upstream's in its last bits.
    """
    state = {}
    for name, empty in network.state_dict().items():
        weight = tensors.shaped(name, *empty.shape).to(device=device, dtype=empty.dtype)
        state[name] = weight.clone() if weight.data_ptr() % ALIGNMENT else weight
    network.load_state_dict(state, assign=True)
    # The move is for the recurrent layers, which lay out their weights again on an accelerator.
    return network.requires_grad_(False).eval().to(device)


RATE = 16_000
FFT, HOP = 400, 160
HIGHEST = 8000.0
WINDOW, STEP = 160, 77
"""Frames of a window, and from window to window: upstream's rate of 1.3 windows in a second."""
COVERAGE = 0.8
"""Least share of the last window that must lie in the clip for it to count."""
BATCH = 32
"""Windows that the network takes at once, upstream's value: another one would change the last bits."""
SILENCE_DB = 20
LAYERS = 3


class _Network(nn.Module):
    """Upstream's ``VoiceEncoder``, by the names of its weights."""

    def __init__(self, mels: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(mels, hidden, num_layers=LAYERS, batch_first=True)
        self.proj = nn.Linear(hidden, outputs)

    def forward(self, windows: Tensor) -> Tensor:
        """Embeddings ``[n, outputs]`` of unit length of ``windows`` ``[n, frames, mels]``."""
        _, (hidden, _) = self.lstm(windows)
        raw = torch.relu(self.proj(hidden[-1]))
        embedded: Tensor = raw / torch.linalg.norm(raw, dim=1, keepdim=True)
        return embedded


class VoiceEncoder:
    """Embeds the speaker of a clip for T3."""

    def __init__(self, tensors: Tensors, device: torch.device) -> None:
        """``tensors`` is the voice encoder's file."""
        self._device = device
        self._mels = tensors["lstm.weight_ih_l0"].shape[1]
        with Unfilled():
            network = _Network(self._mels, tensors["lstm.weight_hh_l0"].shape[1], tensors["proj.weight"].shape[0])
        self._network: _Network = fill(network, tensors, device)

    def voice(self, clip: Samples) -> Generator[None, None, Tensor]:
        """A generator that yields between batches of windows and returns T3's speaker embedding ``[256]`` of the whole
        clip ``[n]`` at 16 kHz.

        Equals upstream's ``VoiceEncoder.embeds_from_wavs``, which takes all the batches in one go.
        """
        windows = self._windows(clip)
        yield
        embedded = []
        for batch in windows.chunk(math.ceil(len(windows) / BATCH)):
            embedded.append(self._embed(batch.to(self._device)))
            yield
        mean = torch.mean(torch.cat(embedded), dim=0, keepdim=True)
        vector: Tensor = mean / torch.linalg.norm(mean, dim=1, keepdim=True)
        return vector[0].to(self._device)

    def _windows(self, clip: Samples) -> Tensor:
        """Overlapping windows ``[n, frames, mels]`` of the clip without the silence around it."""
        loud = without_silence(clip, SILENCE_DB)
        mel = torch.from_numpy(np.dot(_filters(self._mels), powers(loud, FFT, HOP)).T)
        count, left = divmod(max(len(mel) - WINDOW + STEP, 0), STEP)
        if count == 0 or (left + WINDOW - STEP) / WINDOW >= COVERAGE:
            count += 1
        missing = max(0, WINDOW + STEP * (count - 1) - len(mel))
        mel = torch.cat((mel, torch.zeros(missing, self._mels)))
        return torch.stack([mel[index * STEP : index * STEP + WINDOW] for index in range(count)])

    @torch.inference_mode()
    def _embed(self, windows: Tensor) -> Tensor:
        embedded: Tensor = self._network(windows).cpu()
        return embedded


@functools.cache
def _filters(mels: int) -> Samples:
    return mel_filters(RATE, FFT, mels, HIGHEST)


ROOT = f"{__package__}.models"
IMPORTS = ("torchaudio.compliance.kaldi", "torchaudio.transforms", "soxr")
"""What preparing a voice takes besides upstream's file. What ``librosa``, ``pyloudnorm`` and ``s3tokenizer`` would be
imported for is in this package: with what they import in turn they take seconds, and 150 MB."""
SPEAKER = "s3gen.xvector"


def import_all() -> Iterator[None]:
    """Import what preparing a voice needs, yielding between the parts."""
    for name in IMPORTS:
        importlib.import_module(name)
        yield
    _upstream_module(SPEAKER)
    yield


def _upstream_module(name: str) -> Any:
    """The module ``name`` below upstream's ``chatterbox.models``.

    Importing it under its own name would run ``chatterbox/__init__.py`` and ``models/s3gen/__init__.py``, which import
    every model, their training helpers and the watermarker: 12 s and 220 MB for nothing. So upstream's files are
    loaded below an empty package of ours, beside which upstream's real package can still be imported.
    """
    folder = _models_folder()
    _empty_package(ROOT, folder)
    parents = name.split(".")[:-1]
    if parents[0] == "s3gen":
        for depth in range(1, len(parents) + 1):
            _empty_package(f"{ROOT}.{'.'.join(parents[:depth])}", folder.joinpath(*parents[:depth]))
    return importlib.import_module(f"{ROOT}.{name}")


def _models_folder() -> Path:
    spec = importlib.util.find_spec("chatterbox")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("Preparing a voice needs the package chatterbox-tts, which is not installed.")
    return Path(spec.submodule_search_locations[0]) / "models"


def _empty_package(name: str, folder: Path) -> None:
    if name not in sys.modules:
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        sys.modules[name] = importlib.util.module_from_spec(spec)


def resampler(rate: int, target: int, device: torch.device) -> Any:
    """torchaudio's resampler, which upstream's ``embed_ref`` uses; its bits differ from ``soxr``'s."""
    return importlib.import_module("torchaudio.transforms").Resample(rate, target).to(device)


def speaker_encoder(tensors: Tensors, device: torch.device) -> Any:
    """CAMPPlus, from the ``speaker_encoder.`` part of S3Gen's file."""
    layer = "xvector.block1.tdnnd1"
    growth = tensors[f"{layer}.cam_layer.linear_local.weight"].shape[0]
    with Unfilled():
        network = _upstream_module(SPEAKER).CAMPPlus(
            embedding_size=tensors["xvector.dense.linear.weight"].shape[0],
            growth_rate=growth,
            bn_size=tensors[f"{layer}.linear1.weight"].shape[0] // growth,
            init_channels=tensors["xvector.tdnn.linear.weight"].shape[0],
            memory_efficient=False,
        )
    return fill(network, tensors, device)
