"""Speech tokens of audio: upstream's ``S3Tokenizer``, one piece of work at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tensors import Tensors
from .upstream import token_encoder

__all__ = ["SpeechTokenizer", "mel_filters"]

RATE = 16_000
FFT, HOP = 400, 160
FRAMES_PER_TOKEN = 4
WINDOW, STRIDE = 3000, 2600
"""Frames that the network takes at once, 30 s, and from window to window: neighbours share 4 s."""
MARGIN = (WINDOW - STRIDE) // 2 // FRAMES_PER_TOKEN
"""Tokens dropped at a seam on either side of it: each window speaks for half of what it shares."""

MASKED = -1e10
"""Added to attention that falls on padding."""


class SpeechTokenizer:
    """Turns 16 kHz audio into speech tokens, 25 per second.

    Equals upstream's ``s3tokenizer.py`` and the package ``s3tokenizer``, ``model_v2.py``. Memory is bounded: of long
    audio one window of 30 s is in work at a time.
    """

    def __init__(self, tensors: Tensors, device: torch.device) -> None:
        """``tensors`` is the ``tokenizer.`` part of S3Gen's file."""
        self._device = device
        self._encoder, self._quantizer = token_encoder(tensors, device)
        self._window = _buffer(tensors, "window", lambda: torch.hann_window(FFT), device)
        mels = tensors["encoder.conv1.weight"].shape[1]
        self._filters = _buffer(tensors, "_mel_filters", lambda: mel_filters(mels), device)

    def tokens(self, audio: Tensor, max_tokens: int | None = None) -> Generator[None, None, Tensor]:
        """Tokens ``[n]`` int64 of ``audio`` ``[samples]`` at 16 kHz, at most ``max_tokens``. Yields between pieces.

        Upstream starts another window where the one before has reached the end already, and then drops up to 2 s of
        speech between the two; here the window that reaches the end is the last.
        """
        mel = self._log_mel(audio.to(self._device))
        if max_tokens is not None:
            mel = mel[:, : FRAMES_PER_TOKEN * max_tokens]
        yield
        frames = mel.shape[1]
        if frames <= WINDOW:
            return (yield from self._encode(mel))
        parts = []
        for start in range(0, frames - WINDOW + STRIDE, STRIDE):
            window = mel[:, start : start + WINDOW]
            codes = yield from self._encode(window, pad=WINDOW - window.shape[1])
            first = start == 0
            last = start + WINDOW >= frames
            parts.append(codes[0 if first else MARGIN : None if last else -MARGIN])
            yield
        return torch.cat(parts)

    @torch.inference_mode()
    def _log_mel(self, audio: Tensor) -> Tensor:
        """Whisper's log-mel spectrogram ``[mels, frames]``, 100 frames per second."""
        spectrum = torch.stft(audio[None], FFT, HOP, window=self._window, return_complex=True)
        power = spectrum[..., :-1].abs() ** 2
        log = torch.clamp(self._filters @ power, min=1e-10).log10()
        log = torch.maximum(log, log.max() - 8.0)
        return ((log + 4.0) / 4.0)[0]

    def _encode(self, mel: Tensor, pad: int = 0) -> Generator[None, None, Tensor]:
        """Tokens of one window ``[mels, frames]``. Yields between the halves of the network's blocks."""
        hidden, mask, bias, length = self._subsample(F.pad(mel, (0, pad))[None], mel.shape[1])
        rotary = self._encoder.freqs_cis[: hidden.shape[1]]
        for block in self._encoder.blocks:
            hidden = self._attend(block, hidden, mask, bias, rotary)
            yield
            hidden = self._feed_forward(block, hidden)
            yield
        return self._quantise(hidden)[0, :length].long()

    @torch.inference_mode()
    def _subsample(self, mel: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor, int]:
        """Hidden states ``[1, t, width]``, a mask ``[1, t, 1]`` of those that are audio, attention's bias, how many.

        ``mel`` ``[1, mels, frames]`` is audio in its first ``length`` frames.
        """
        hidden, mask = mel, _first(length, mel)
        for convolution in (self._encoder.conv1, self._encoder.conv2):
            hidden = F.gelu(convolution(hidden * mask))
            length = (length - 1) // 2 + 1
            mask = _first(length, hidden)
        bias = (1.0 - mask.to(hidden.dtype)) * MASKED
        return hidden.permute(0, 2, 1), mask.transpose(1, 2), bias.unsqueeze(1), length

    @torch.inference_mode()
    def _attend(self, block: Any, hidden: Tensor, mask: Tensor, bias: Tensor, rotary: Tensor) -> Tensor:
        attended, _ = block.attn(block.attn_ln(hidden), mask=bias, mask_pad=mask, freqs_cis=rotary)
        out: Tensor = hidden + attended
        return out

    @torch.inference_mode()
    def _feed_forward(self, block: Any, hidden: Tensor) -> Tensor:
        out: Tensor = hidden + block.mlp(block.mlp_ln(hidden))
        return out

    @torch.inference_mode()
    def _quantise(self, hidden: Tensor) -> Tensor:
        codes: Tensor = self._quantizer.encode(hidden)
        return codes


def _first(length: int, like: Tensor) -> Tensor:
    """``[1, 1, t]`` bool: the first ``length`` positions of ``like`` ``[1, channels, t]``."""
    return (torch.arange(like.shape[-1], device=like.device) < length)[None, None]


def _buffer(tensors: Tensors, name: str, make: Callable[[], Tensor], device: torch.device) -> Tensor:
    """The constant ``name``, which some checkpoints hold and others leave to the program."""
    return (tensors[name] if name in tensors else make()).to(device)


def mel_filters(mels: int) -> Tensor:
    """``[mels, bins]`` of the log-mel spectrogram."""
    import librosa

    return torch.from_numpy(librosa.filters.mel(sr=RATE, n_fft=FFT, n_mels=mels)).float()
