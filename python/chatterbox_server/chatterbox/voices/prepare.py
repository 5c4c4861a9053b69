"""Reference clips to ``Conditionals``: upstream's ``prepare_conditionals`` and ``embed_ref``, stage by stage.

Preparing takes a second or two of a CPU, in stages of at most about half a second each, so that the engine can go on
speaking for others in between. Each stage works in inference mode by itself: the mode must not leak out of a
generator that waits.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...model_runner import RequestError
from ..conditionals import Conditionals, aligned
from ..interfaces import Samples
from ..speech_tokens import SAMPLE_RATE
from ..tensors import Tensors, open_tensors
from .audio import MAX_SECONDS, check_level, check_samples, loudness, mel_filters, resample
from .files import read_portable
from .speaker import VoiceEncoder, import_all, resampler, speaker_encoder
from .tokenizer import SpeechTokenizer

__all__ = ["GPT2_RECIPE", "LLAMA_RECIPE", "Recipe", "TorchVoicePreparer", "with_loudness"]

LISTEN_RATE = 16_000
"""Input rate of the tokeniser and both speaker encoders, in Hz."""
REFERENCE_SECONDS = 10
"""Seconds of the clip that S3Gen imitates."""
LOUDNESS = -27.0
"""LUFS to which clips are brought where the recipe says so."""
MIN_REFERENCE_SECONDS = 1.0
MIN_CONVERT_SECONDS = 0.1
MEL_FFT, MEL_HOP, MELS = 1920, 480, 80
"""Of the spectrogram that S3Gen is given of its reference."""
MEL_HIGHEST, MEL_LEAST = 8000.0, 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The models' differences in what they take from a clip."""

    t3_seconds: int
    """Seconds of the clip's start that T3 continues."""
    t3_tokens: int
    """Cap on its speech tokens. A shorter clip gives fewer."""
    normalise_loudness: bool
    """Whether the clip is brought to -27 LUFS first."""


LLAMA_RECIPE = Recipe(t3_seconds=6, t3_tokens=150, normalise_loudness=False)
"""Of ``standard`` and ``multilingual``: upstream's ``tts.py`` and ``mtl_tts.py``."""
GPT2_RECIPE = Recipe(t3_seconds=15, t3_tokens=375, normalise_loudness=True)
"""Of ``turbo`` and ``nano``: upstream's ``tts_turbo.py``."""

Source = Path | Callable[[], Tensors]
Stages = Generator[None, None, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Networks:
    tokenizer: SpeechTokenizer
    speaker: Any
    voice: VoiceEncoder
    to_listen_rate: Any
    """Resampler from 24 to 16 kHz for S3Gen's reference; all else is resampled by ``soxr``."""


class TorchVoicePreparer:
    """Prepares clips for one model. The networks are loaded when first needed; ``release`` drops them."""

    def __init__(
        self, *, s3gen: Source, voice_encoder: Source, recipe: Recipe, device: torch.device | str = "cpu"
    ) -> None:
        """``s3gen`` and ``voice_encoder`` are checkpoint files, or give their tensors when called."""
        self._s3gen = s3gen
        self._voice_encoder = voice_encoder
        self._recipe = recipe
        self._device = torch.device(device)
        self._loaded: _Networks | None = None

    def load(self) -> Iterator[None]:
        """Import and map what preparing needs, so that the first voice does not pay for it; yields between parts."""
        yield from self._networks()

    def release(self) -> None:
        """Drop the networks. A clip in preparation keeps its own until it is done."""
        self._loaded = None

    def prepare(self, pcm: Samples, rate: int) -> Generator[None, None, Conditionals]:
        """A generator that yields between its stages and returns the clip's ``Conditionals``.

        ``pcm`` is ``[n]`` float32, mono, at ``rate`` Hz (8000 to 192000), at least 1 s; of more than 10 min the rest is
        not heard. Raises ``RequestError`` (``UNSUPPORTED_AUDIO``) for a clip that cannot be used, at once where that
        can be seen at once. Upstream's turbo asks for more than 5 s; nothing in the model needs that: a shorter clip
        gives T3 and S3Gen shorter prompts.
        """
        pcm = pcm[: MAX_SECONDS * rate]
        check_samples(pcm, rate, min_seconds=MIN_REFERENCE_SECONDS)
        check_level(pcm[: REFERENCE_SECONDS * rate], rate)
        return self._prepare(pcm, rate)

    def tokens(self, pcm: Samples, rate: int) -> Generator[None, None, Tensor]:
        """A generator that yields between its stages and returns all of a clip's speech tokens, ``[n]`` int64.

        For voice conversion, as upstream's ``vc.py``. ``pcm`` as for ``prepare``, but 0.1 s to 10 min.
        """
        check_samples(pcm, rate, min_seconds=MIN_CONVERT_SECONDS)
        seconds = pcm.size / rate
        if seconds > MAX_SECONDS:
            raise RequestError(
                "UNSUPPORTED_AUDIO", f"The clip lasts {seconds:.0f} s; at most {MAX_SECONDS} s can be converted."
            )
        check_level(pcm, rate)
        return self._tokens(pcm, rate)

    def read_portable(self, data: bytes) -> Conditionals:
        return read_portable(data)

    def _networks(self) -> Generator[None, None, _Networks]:
        if self._loaded is None:
            yield from import_all()
            s3gen = _tensors(self._s3gen)
            self._loaded = _Networks(
                tokenizer=SpeechTokenizer(s3gen.scope("tokenizer."), self._device),
                speaker=speaker_encoder(s3gen.scope("speaker_encoder."), self._device),
                voice=VoiceEncoder(_tensors(self._voice_encoder), self._device),
                to_listen_rate=resampler(SAMPLE_RATE, LISTEN_RATE, self._device),
            )
            yield
        return self._loaded

    def _prepare(self, pcm: Samples, rate: int) -> Generator[None, None, Conditionals]:
        networks = yield from self._networks()
        clip = resample(pcm, rate, SAMPLE_RATE)
        yield
        if self._recipe.normalise_loudness:
            clip = with_loudness(clip, LOUDNESS)
        clip_16k = resample(clip, SAMPLE_RATE, LISTEN_RATE)
        yield
        reference = torch.from_numpy(clip[: REFERENCE_SECONDS * SAMPLE_RATE]).to(self._device)[None]
        mel, reference_16k = _reference_mel(reference), _resampled(networks.to_listen_rate, reference)
        yield
        speaker = _speaker_vector(networks.speaker, reference_16k)
        yield
        s3_tokens = yield from networks.tokenizer.tokens(reference_16k[0])
        s3_tokens, mel = aligned(s3_tokens, mel)
        start = torch.from_numpy(clip_16k[: self._recipe.t3_seconds * LISTEN_RATE])
        t3_tokens = yield from networks.tokenizer.tokens(start, self._recipe.t3_tokens)
        voice = yield from networks.voice.voice(clip_16k)
        # Copies are plain tensors of their own: not parts of larger ones, nor bound to inference mode.
        conditionals = Conditionals(
            t3_speaker=voice.clone(),
            t3_tokens=t3_tokens.clone(),
            s3_tokens=s3_tokens.clone(),
            s3_mel=mel.contiguous().clone(),
            s3_speaker=speaker.clone(),
        )
        if not all(bool(torch.isfinite(tensor).all()) for tensor in conditionals.tensors().values()):
            # The voice encoder divides by the length of a vector that it has cut at zero.
            raise RequestError("UNSUPPORTED_AUDIO", "The clip holds nothing in which the model hears a voice.")
        return conditionals

    def _tokens(self, pcm: Samples, rate: int) -> Stages:
        networks = yield from self._networks()
        clip_16k = resample(pcm, rate, LISTEN_RATE)
        yield
        tokens = yield from networks.tokenizer.tokens(torch.from_numpy(clip_16k))
        return tokens.clone()


def _tensors(source: Source) -> Tensors:
    return open_tensors(source) if isinstance(source, Path) else source()


def with_loudness(clip: Samples, target: float) -> Samples:
    """``clip`` (24 kHz) at ``target`` LUFS; as it is where its loudness is undefined.

    Equals upstream's ``norm_loudness`` in ``tts_turbo.py`` under NumPy 1: under NumPy 2 its gain turns the clip into
    float64, on which its networks fail.
    """
    found = loudness(clip, SAMPLE_RATE)
    gain = 10.0 ** ((target - found) / 20.0) if math.isfinite(found) else 1.0
    return clip * np.float32(gain)


@functools.cache
def _reference_window(device: torch.device) -> tuple[Tensor, Tensor]:
    filters = torch.from_numpy(mel_filters(SAMPLE_RATE, MEL_FFT, MELS, MEL_HIGHEST))
    return filters.to(device), torch.hann_window(MEL_FFT).to(device)


@torch.inference_mode()
def _reference_mel(reference: Tensor) -> Tensor:
    """S3Gen's mel spectrogram ``[frames, 80]`` of ``reference`` ``[1, samples]`` at 24 kHz: upstream's ``mel.py``."""
    filters, window = _reference_window(reference.device)
    beside = (MEL_FFT - MEL_HOP) // 2
    padded = F.pad(reference[:, None], (beside, beside), mode="reflect")[:, 0]
    spectrum = torch.view_as_real(
        torch.stft(padded, MEL_FFT, MEL_HOP, window=window, center=False, return_complex=True)
    )
    magnitudes = torch.sqrt(spectrum.pow(2).sum(-1) + 1e-9)
    return torch.log(torch.clamp(filters @ magnitudes, min=MEL_LEAST)).transpose(1, 2)[0]


@torch.inference_mode()
def _resampled(resampler: Any, reference: Tensor) -> Tensor:
    resampled: Tensor = resampler(reference)
    return resampled


@torch.inference_mode()
def _speaker_vector(network: Any, reference: Tensor) -> Tensor:
    """CAMPPlus' x-vector ``[192]`` of ``reference`` ``[1, samples]`` at 16 kHz."""
    vector: Tensor = network.inference(reference)
    return vector[0]
