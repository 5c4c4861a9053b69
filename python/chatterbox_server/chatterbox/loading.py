"""Loads Chatterbox models and makes lanes of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..lane import Model
from .checkpoint import CheckpointFiles, Progress, locate
from .lane import BUILTIN_VOICE, ChatterboxLane, Parts
from .render_batch import RenderBatch
from .s3gen import S3Gen
from .speech_tokens import SAMPLE_RATE
from .t3 import T3, Decoder
from .tensors import open_tensors
from .text import EnglishEncoder, MultilingualEncoder, SubwordEncoder, TextEncoder
from .variants import Variant, variant
from .voices import VoiceCache, VoicePreparer, load_builtin
from .watermark import Watermarker

__all__ = ["LoadOptions", "SettingError", "choose_device", "load"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class SettingError(Exception):
    """A setting cannot be met on this machine; the message is a sentence that names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What the operator chose for all Chatterbox models."""

    device: str
    """"auto", "cpu", "cuda" or "mps"."""
    dtype: str
    """"auto", "fp32", "bf16" or "fp16": of T3's weights; auto is bf16 on CUDA and fp32 elsewhere."""
    threads: int | None
    """CPU threads; ``None`` leaves the choice to torch."""
    model_path: Path | None
    """Folder of the weights; ``None`` fetches them from the hub."""
    multilingual_version: str
    watermark: bool
    voice_cache_bytes: int
    """Of all models' voices in memory."""
    voices_folder: Path | None
    """Where prepared voices are kept; ``None`` keeps them in memory alone."""
    slots: int
    """Requests that one model decodes at once."""
    progress: Progress


def choose_device(name: str) -> torch.device:
    """The device called ``name``. Raises ``SettingError`` if it is not there."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if available[device])
    if not available.get(name, False):
        raise SettingError(f"DEVICE: {name} is not available on this machine; use cpu, or auto.")
    return torch.device(name)


def load(names: Sequence[str], options: LoadOptions) -> list[ChatterboxLane]:
    """One lane for each model. Raises ``SettingError``, ``CheckpointError`` or ``WatermarkError``."""
    device = choose_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    watermarker = _watermarker(device) if options.watermark else None
    lanes = []
    for index, name in enumerate(names):
        options.progress(f"loading {name}", index, len(names))
        lanes.append(_lane(variant(name, options.multilingual_version), options, device, watermarker, len(names)))
    options.progress("loading", len(names), len(names))
    return lanes


def _watermarker(device: torch.device) -> Watermarker:
    watermarker = Watermarker.load(device)
    watermarker.self_test()
    return watermarker


def _lane(
    chosen: Variant, options: LoadOptions, device: torch.device, watermarker: Watermarker | None, models: int
) -> ChatterboxLane:
    files = locate(
        chosen.name,
        model_path=options.model_path,
        multilingual_version=options.multilingual_version,
        progress=options.progress,
    )
    text, tags = _text(chosen.name, files)
    _read_ahead(files.t3, options.progress)
    # What voices are prepared with: other weights make other voices.
    fingerprint = hashlib.sha256()
    for path in (files.s3gen, files.voice_encoder):
        _read_ahead(path, options.progress, fingerprint.update)
    t3 = T3.from_tensors(open_tensors(files.t3), device=device, dtype=_dtype(options.dtype, device))
    s3gen = S3Gen.from_tensors(open_tensors(files.s3gen), device=device, dtype=torch.float32)
    builtin = load_builtin(files.conditionals).to(device) if files.conditionals else None
    model = Model(
        name=chosen.name,
        sample_rate=SAMPLE_RATE,
        can_clone=True,
        can_convert=True,
        languages=chosen.languages,
        voices=(BUILTIN_VOICE,) if builtin else (),
        tags=tags,
        watermark=watermarker is not None,
    )
    # A voice is small, but what T3 has computed of it is 16 MB and more.
    share = options.voice_cache_bytes // models
    decoder = Decoder(t3, slots=options.slots, prefix_bytes=share - share // 8)
    decoder.warm_up()
    preparer = VoicePreparer(s3gen=files.s3gen, voice_encoder=files.voice_encoder, recipe=chosen.recipe, device=device)
    # A damaged file must show now, not at the first voice; the networks themselves are loaded again for it.
    for _ in preparer.load():
        options.progress(f"checking {chosen.name}'s voice preparation", 0, 1)
    preparer.release()
    on_cpu = device.type == "cpu"
    parts = Parts(
        model=model,
        variant=chosen,
        text=text,
        decoder=decoder,
        s3gen=s3gen,
        preparer=preparer,
        voices=VoiceCache(
            limit_bytes=share // 8,
            folder=options.voices_folder,
            model=f"{chosen.name}-{fingerprint.hexdigest()[:16]}",
            device=device,
        ),
        builtin=builtin,
        watermarker=watermarker,
        # A batch shares a GPU's launches; a CPU is busy with one, and the others would only wait for it.
        rendering=RenderBatch(s3gen, size=1 if on_cpu else 8, pauses=on_cpu),
    )
    return ChatterboxLane(parts)


def _read_ahead(path: Path, progress: Progress, take: Callable[[memoryview], None] | None = None) -> None:
    """Read a file once, so that the system has it in memory: else the first request would, page by page.

    ``take`` is given all of its content.
    """
    size, done, block = path.stat().st_size, 0, memoryview(bytearray(16 << 20))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            done += count
            if take is not None:
                take(block[:count])
            progress(f"reading {path.name}", done, size)


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        name = "bf16" if device.type == "cuda" else "fp32"
    if name not in _DTYPES:
        raise SettingError(f"MODEL_DTYPE: {name!r} is unknown; use auto, {', '.join(_DTYPES)}.")
    return _DTYPES[name]


def _text(name: str, files: CheckpointFiles) -> tuple[TextEncoder, tuple[str, ...]]:
    """The model's text side and the tags that it knows."""
    if name == "standard":
        return EnglishEncoder(files.tokenizer), ()
    if name == "multilingual":
        return MultilingualEncoder(files.tokenizer, files.cangjie), ()
    encoder = SubwordEncoder(files.tokenizer)
    return encoder, encoder.tags
