"""T3's voice encoder: upstream's ``voice_encoder.py`` and ``melspec.py``, one batch of windows at a time."""

from __future__ import annotations

import functools
import math
from collections.abc import Generator

import numpy as np
import torch
from torch import Tensor, nn

from ..tensors import Tensors
from .networks import Unfilled, fill
from .spectra import Samples, mel_filters, powers, without_silence

__all__ = ["VoiceListener"]

RATE = 16_000
FFT, HOP = 400, 160
HIGHEST = 8000.0
WINDOW, STEP = 160, 77
"""Frames that the network hears at once, and from window to window: upstream's rate of 1.3 windows in a second."""
COVERAGE = 0.8
"""How much of the last window must be of the clip for it to count."""
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


class VoiceListener:
    """Hears who speaks in a clip."""

    def __init__(self, tensors: Tensors, device: torch.device) -> None:
        """``tensors`` is the voice encoder's file."""
        self._device = device
        self._mels = tensors["lstm.weight_ih_l0"].shape[1]
        with Unfilled():
            network = _Network(self._mels, tensors["lstm.weight_hh_l0"].shape[1], tensors["proj.weight"].shape[0])
        self._network: _Network = fill(network, tensors, device)

    def voice(self, heard: Samples) -> Generator[None, None, Tensor]:
        """A generator that yields between batches of windows and returns T3's speaker embedding ``[256]`` of the whole
        clip ``[n]`` at 16 kHz.

        Equals upstream's ``VoiceEncoder.embeds_from_wavs``, which takes all the batches in one go.
        """
        windows = self._windows(heard)
        yield
        embedded = []
        for batch in windows.chunk(math.ceil(len(windows) / BATCH)):
            embedded.append(self._embed(batch.to(self._device)))
            yield
        mean = torch.mean(torch.cat(embedded), dim=0, keepdim=True)
        vector: Tensor = mean / torch.linalg.norm(mean, dim=1, keepdim=True)
        return vector[0].to(self._device)

    def _windows(self, heard: Samples) -> Tensor:
        """Overlapping windows ``[n, frames, mels]`` of the clip without the silence around it."""
        loud = without_silence(heard, SILENCE_DB)
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
