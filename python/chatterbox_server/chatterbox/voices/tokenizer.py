"""Speech tokens of audio: upstream's ``S3Tokenizer``, one piece of work at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tensors import CheckpointError, Tensors
from .audio import mel_filters as slaney_filters

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
HEAD, MOST_STATES = 64, 2048
"""Channels of an attention head, and places, for which upstream's rotary table is made."""
CLIPPED = 0.9990000128746033
"""So that no number is rounded to one beyond the three levels of a token's digit."""


class SpeechTokenizer:
    """Turns 16 kHz audio into speech tokens, 25 per second.

    Equals upstream's ``s3tokenizer.py`` and the package ``s3tokenizer``, ``model_v2.py``. Memory is bounded: of long
    audio one window of 30 s is in work at a time. Weights stay in the mapped file.
    """

    def __init__(self, tensors: Tensors, device: torch.device) -> None:
        """``tensors`` is the ``tokenizer.`` part of S3Gen's file."""
        self._device = device
        encoder = tensors.scope("encoder.")
        mels, width = tensors.shaped("encoder.conv1.weight", -1, -1, 3).shape[1::-1]
        self._conv_stem = [
            (
                _weight(encoder, f"conv{number}.weight", width, inputs, 3, device=device),
                _weight(encoder, f"conv{number}.bias", width, device=device),
            )
            for number, inputs in ((1, mels), (2, width))
        ]
        numbers = {name.split(".")[1] for name in encoder if name.startswith("blocks.")}
        if not numbers:
            raise CheckpointError(f"{tensors.path}: there are no blocks of the speech tokeniser in it.")
        self._blocks = [_Block(encoder.scope(f"blocks.{number}."), width, device) for number in range(len(numbers))]
        codebook = tensors.scope("quantizer._codebook.")
        self._down = _linear(codebook, "project_down", 8, width, device)
        rates = 1.0 / (10000.0 ** (torch.arange(0, HEAD, 2)[: HEAD // 2].float() / HEAD))
        angles = torch.outer(torch.arange(MOST_STATES), rates).float()
        # By way of complex numbers, as upstream: they have other last bits than sines.
        rotations = torch.polar(torch.ones_like(angles), angles).to(device)
        self._rotations = torch.cat((rotations, rotations), dim=-1)
        self._window = _buffer(tensors, "window", lambda: torch.hann_window(FFT), device)
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
        rotations = torch.view_as_real(self._rotations[: hidden.shape[1]])[None, :, None]
        rotary = (rotations[..., 0], rotations[..., 1])
        for block in self._blocks:
            hidden = block.attend(hidden, mask, bias, rotary)
            yield
            hidden = block.feed_forward(hidden)
            yield
        return self._quantise(hidden)[0, :length].long()

    @torch.inference_mode()
    def _subsample(self, mel: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor, int]:
        """Hidden states ``[1, t, width]``, a mask ``[1, t, 1]`` of those that are audio, attention's bias, how many.

        ``mel`` ``[1, mels, frames]`` is audio in its first ``length`` frames.
        """
        hidden, mask = mel, _first(length, mel)
        for weight, offset in self._conv_stem:
            hidden = F.gelu(F.conv1d(hidden * mask, weight, offset, stride=2, padding=1))
            length = (length - 1) // 2 + 1
            mask = _first(length, hidden)
        bias = (1.0 - mask.to(hidden.dtype)) * MASKED
        return hidden.permute(0, 2, 1), mask.transpose(1, 2), bias.unsqueeze(1), length

    @torch.inference_mode()
    def _quantise(self, hidden: Tensor) -> Tensor:
        """Ids ``[1, t]``: eight digits of three levels."""
        digits = (F.linear(hidden, *self._down).float().tanh() * CLIPPED).round() + 1
        powers = torch.pow(3, torch.arange(8, device=hidden.device, dtype=digits.dtype))
        return torch.sum(digits * powers, dim=-1).int()


class _Block:
    """A layer of the encoder: attention, which remembers its neighbourhood besides, and a feed-forward part."""

    def __init__(self, tensors: Tensors, width: int, device: torch.device) -> None:
        def norm(name: str) -> tuple[Tensor, Tensor]:
            weight, bias = (_weight(tensors, f"{name}.{part}", width, device=device) for part in ("weight", "bias"))
            return weight, bias

        attention = tensors.scope("attn.")
        self._width = width
        self._attention_norm, self._feed_norm = norm("attn_ln"), norm("mlp_ln")
        self._query, self._value, self._out = (
            _linear(attention, name, width, width, device) for name in ("query", "value", "out")
        )
        self._key = _weight(attention, "key.weight", width, width, device=device)
        self._memory = _weight(attention, "fsmn_block.weight", width, 1, -1, device=device)
        inner = tensors.shaped("mlp.0.weight", -1, width).shape[0]
        self._up = _linear(tensors, "mlp.0", inner, width, device)
        self._down = _linear(tensors, "mlp.2", width, inner, device)

    @torch.inference_mode()
    def attend(self, hidden: Tensor, mask: Tensor, bias: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        normed = F.layer_norm(hidden, (self._width,), *self._attention_norm)
        heads = (*normed.shape[:2], self._width // HEAD, HEAD)
        query, key = (
            _turned(x.view(heads), rotary) for x in (F.linear(normed, *self._query), F.linear(normed, self._key))
        )
        value = F.linear(normed, *self._value)
        # Upstream scales both sides of the product.
        scale = HEAD**-0.25
        scores = (query.permute(0, 2, 1, 3) * scale) @ (key.permute(0, 2, 3, 1) * scale) + bias
        mixed = torch.softmax(scores.float(), dim=-1) @ value.view(heads).permute(0, 2, 1, 3)
        attended = F.linear(mixed.permute(0, 2, 1, 3).flatten(start_dim=2), *self._out)
        return hidden + (attended + self._fsmn(value, mask))

    def _fsmn(self, value: Tensor, mask: Tensor) -> Tensor:
        audio = value * mask
        taps = self._memory.shape[2]
        padded = F.pad(audio.transpose(1, 2), ((taps - 1) // 2, taps // 2))
        memory = F.conv1d(padded, self._memory, groups=self._width).transpose(1, 2)
        return (memory + audio) * mask

    @torch.inference_mode()
    def feed_forward(self, hidden: Tensor) -> Tensor:
        normed = F.layer_norm(hidden, (self._width,), *self._feed_norm)
        return hidden + F.linear(F.gelu(F.linear(normed, *self._up)), *self._down)


def _turned(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """``x`` ``[1, t, heads, HEAD]`` with pairs of channels turned by their place."""
    cosine, sine = rotary
    left, right = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-right, left), dim=-1) * sine


def _linear(tensors: Tensors, name: str, outputs: int, inputs: int, device: torch.device) -> tuple[Tensor, Tensor]:
    weight = _weight(tensors, f"{name}.weight", outputs, inputs, device=device)
    return weight, _weight(tensors, f"{name}.bias", outputs, device=device)


def _weight(tensors: Tensors, name: str, *shape: int, device: torch.device) -> Tensor:
    return tensors.shaped(name, *shape).to(device, torch.float32)


def _first(length: int, like: Tensor) -> Tensor:
    """``[1, 1, t]`` bool: the first ``length`` positions of ``like`` ``[1, channels, t]``."""
    return (torch.arange(like.shape[-1], device=like.device) < length)[None, None]


def _buffer(tensors: Tensors, name: str, make: Callable[[], Tensor], device: torch.device) -> Tensor:
    """The constant ``name``, which some checkpoints hold and others leave to the program."""
    return (tensors[name] if name in tensors else make()).to(device, torch.float32)


def mel_filters(mels: int) -> Tensor:
    """``[mels, bins]`` of the log-mel spectrogram."""
    return torch.from_numpy(slaney_filters(RATE, FFT, mels, RATE / 2))
