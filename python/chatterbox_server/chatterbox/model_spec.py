"""The differences between Chatterbox models, backends, precisions and profiles, and the parts of a runner.

Figures are upstream's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace

from .._core import Model, Params, S3GenSettings
from .conditionals import Conditionals
from .interfaces import MelDecoder, VoicePreparer
from .scheduler import RenderBatch
from .t3.decoder import Decoder
from .t3.sampling import Sampling
from .text.encoders import TextEncoder
from .text.languages import LANGUAGES
from .voices.cache import VoiceCache
from .voices.prepare import GPT2_RECIPE, LLAMA_RECIPE, Recipe
from .watermark.watermarker import Watermarker

__all__ = [
    "PROFILES",
    "VARIANTS",
    "Choice",
    "ModelParts",
    "Profile",
    "SettingError",
    "Variant",
    "check_s3gen",
    "choose_backend",
    "variant",
]


_SAME = {"q8": "int8", "q4": "int4"}
"""Precisions by the published graphs' names, and by those of the other backends."""
_OFFERED = {
    "native": ("fp32", "bf16", "int8", "int4"),
    "torch": ("fp32", "bf16", "fp16"),
    "onnx": ("fp32", "fp16", "q8", "q4", "q4f16"),
}
_GRAPHS = ("turbo", "nano")
"""Models that there are graphs of."""


class SettingError(Exception):
    """A setting cannot be met on this machine; the message is a sentence that names it."""


def check_s3gen(settings: S3GenSettings, backend: str, device: str) -> None:
    """Raises ``SettingError`` for what ``backend`` on ``device`` does not have."""
    if backend == "onnx" and settings != S3GenSettings():
        raise SettingError("S3GEN_*: the graphs of BACKEND=onnx have S3Gen built in; leave these settings out.")
    if settings.decoder == "meanflow" and settings.steps is not None:
        raise SettingError("S3GEN_STEPS: a mean-flow decoder has two steps; leave it out with S3GEN_DECODER=meanflow.")
    if settings.dtype == "int8" and backend != "native":
        raise SettingError(f"S3GEN_DTYPE: int8 is computed by BACKEND=native on a CPU, not by {backend}; use fp32.")
    if settings.dtype == "bf16" and (backend, device) != ("torch", "cuda"):
        raise SettingError(f"S3GEN_DTYPE: bf16 is for BACKEND=torch on CUDA, not {backend} on {device}; use fp32.")


@dataclass(frozen=True, slots=True)
class Choice:
    """A backend and a precision that it has, by the name that it has there."""

    backend: str
    dtype: str


def choose_backend(backend: str, dtype: str, *, models: Iterable[str], device: str) -> Choice:
    """What ``BACKEND`` and ``MODEL_DTYPE`` come to for ``models`` on ``device`` ("cpu", "cuda" or "mps").

    Raises ``SettingError`` for what cannot be met.
    """
    if backend == "auto":
        backend = "native" if device == "cpu" and _offers("native", dtype) else "torch"
    if backend == "native" and device != "cpu":
        raise SettingError(f"BACKEND: native computes on the CPU, not on {device}; use torch, or DEVICE=cpu.")
    strangers = [name for name in models if name not in _GRAPHS]
    if backend == "onnx" and strangers:
        raise SettingError(
            f"BACKEND: onnx speaks {' and '.join(_GRAPHS)} alone, there are no graphs of {', '.join(strangers)}; load "
            "one without the other, or use another backend."
        )
    return Choice(backend, _precision(backend, dtype, device))


def _offers(backend: str, dtype: str) -> bool:
    return dtype == "auto" or not _names(dtype).isdisjoint(_OFFERED[backend])


def _names(dtype: str) -> set[str]:
    """A precision's two names."""
    return {dtype, *(name for pair in _SAME.items() if dtype in pair for name in pair)}


def _precision(backend: str, dtype: str, device: str) -> str:
    offered = _OFFERED[backend]
    if dtype == "auto":
        if device != "cuda":
            return "fp32"
        return "fp16" if backend == "onnx" else "bf16"
    names = _names(dtype)
    found = next((name for name in offered if name in names), None)
    if found is None:
        others = [other for other, has in _OFFERED.items() if names & set(has)]
        raise SettingError(
            f"MODEL_DTYPE: BACKEND={backend} has {', '.join(offered)}, not {dtype}; use one of them, "
            f"or BACKEND={' or '.join(others)}."
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Choices that set early audio against much of it. They change an utterance's samples only through its slices."""

    schedule: tuple[int, ...]
    """Tokens of the first slices of a streamed utterance; the last one repeats. A small first slice gives early audio,
    large ones cost less, for each renders the voice's own frames and its context again.

    Vocoder and watermark hold up to 450 ms back, so that of a first slice below 13 tokens no audio would leave."""
    cpu_schedule: tuple[int, ...]
    """The same on a CPU, which is not as far ahead of its listeners: two cores that make a second of audio in 0.7 s
    have the next slice ready before the last one has been played if the first ones are as large as in ``balanced``,
    and are silent after each of the first if they are as in ``latency``."""
    first_audio_seconds: float
    """Target time to the first audio. Until then a new request goes before all whose audio lasts longer."""
    together: int
    """Utterances that a GPU renders together: more are more work in a second, and the first one waits for the last."""


PROFILES = {
    "latency": Profile(
        schedule=(14, 18, 25, 50),
        cpu_schedule=(16, 25, 50, 75, 100),
        first_audio_seconds=0.2,
        together=4,
    ),
    "balanced": Profile(
        schedule=(16, 25, 50, 100),
        cpu_schedule=(50, 50, 50, 75, 100),
        first_audio_seconds=0.5,
        together=8,
    ),
    "throughput": Profile(
        schedule=(25, 100, 200),
        cpu_schedule=(100, 200),
        first_audio_seconds=2.0,
        together=32,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One model's way of doing things."""

    name: str
    languages: tuple[str, ...]
    sampling: Sampling
    """Upstream's defaults of ``generate``."""
    exaggeration: float
    recipe: Recipe
    closing_silence: int
    """Tokens of silence put after the last one."""
    reports_stop: bool
    """Whether upstream's T3 returns the token that stopped it."""

    def resolve(self, params: Params, seed: int) -> Sampling:
        """The sampling of a request: what it asks for, else the model's defaults."""
        names = [field.name for field in fields(Sampling) if field.name != "seed"]
        given = {name: getattr(params, name) for name in names if getattr(params, name) is not None}
        return replace(self.sampling, **given, seed=seed)


_LLAMA = Sampling(temperature=0.8, min_p=0.05, repetition_penalty=1.2, cfg_weight=0.5, seed=0)
_GPT2 = Sampling(temperature=0.8, top_p=0.95, top_k=1000, repetition_penalty=1.2, seed=0)

STANDARD = Variant(
    name="standard",
    languages=("en",),
    sampling=_LLAMA,
    exaggeration=0.5,
    recipe=LLAMA_RECIPE,
    closing_silence=0,
    reports_stop=True,
)
TURBO = Variant(
    name="turbo",
    languages=("en",),
    sampling=_GPT2,
    exaggeration=0.0,
    recipe=GPT2_RECIPE,
    closing_silence=3,
    reports_stop=False,
)
MULTILINGUAL = replace(
    STANDARD, name="multilingual", languages=LANGUAGES, sampling=replace(_LLAMA, repetition_penalty=2.0)
)
VARIANTS = {model.name: model for model in (STANDARD, TURBO, MULTILINGUAL, replace(TURBO, name="nano"))}


def variant(name: str, multilingual_version: str) -> Variant:
    """The variant of the model ``name``; version "v3" of multilingual has another default."""
    found = VARIANTS[name]
    if name == "multilingual" and multilingual_version == "v3":
        return replace(found, sampling=_LLAMA)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelParts:
    """The parts of a runner."""

    model: Model
    variant: Variant
    text: TextEncoder
    decoder: Decoder
    mel_decoder: MelDecoder
    preparer: VoicePreparer
    voices: VoiceCache
    builtin: Conditionals | None
    watermarker: Watermarker | None
    render_batch: RenderBatch
    profile: Profile
    schedule: tuple[int, ...]
    """The profile's, for this kind of device."""
    clock: Callable[[], float]
    """Seconds that never go back."""
    waiting_slices: int | None = None
    """Slices of one request that may wait to be rendered while tokens are decoded; ``None``: any number."""
