"""Loads Chatterbox models and makes lanes of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch

from .._core import LoadSettings, Model
from ..model_runner import Progress
from .backends import Choice, SettingError, check_s3gen, choose
from .checkpoint import CheckpointFiles, locate, locate_mean_flow
from .lane import BUILTIN_VOICE, ChatterboxLane, Parts
from .profiles import PROFILES
from .reading import ReadingAhead
from .render_batch import RenderBatch
from .s3gen.model import S3Gen
from .speech_tokens import SAMPLE_RATE
from .t3.decoder import Decoder
from .t3.model import T3
from .t3.native_backbone import Precision
from .tensors import open_tensors
from .text.encoders import EnglishEncoder, MultilingualEncoder, SubwordEncoder, TextEncoder
from .variants import Variant, variant
from .voices import VoiceCache, VoicePreparer, load_builtin
from .watermark.watermarker import Watermarker

__all__ = ["SettingError", "choose_device", "load"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str, backend: str) -> torch.device:
    """The device called ``name``. Raises ``SettingError`` if it is not there for ``backend``."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if backend == "onnx":
        from .onnx.sessions import Providers

        available = {"cpu": True, "cuda": Providers.cuda_available()}
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if available.get(device, False))
    if not available.get(name, False):
        package = (
            "; for BACKEND=onnx it takes the package onnxruntime-gpu" if (backend, name) == ("onnx", "cuda") else ""
        )
        raise SettingError(f"DEVICE: {name} is not available on this machine{package}; use cpu, or auto.")
    return torch.device(name)


def load(names: Sequence[str], settings: LoadSettings, progress: Progress) -> list[ChatterboxLane]:
    """One lane for each model. Raises ``SettingError``, ``CheckpointError`` or ``WatermarkError``."""
    device = choose_device(settings.device, settings.backend)
    choice = choose(settings.backend, settings.model_dtype, models=names, device=device.type)
    check_s3gen(settings.s3gen, choice.backend, device.type)
    _set_threads(settings.threads)
    # Graphs keep what is theirs on their device; the watermark is torch's.
    on = torch.device("cpu") if choice.backend == "onnx" else device
    watermarker = _watermarker(on) if settings.watermark else None
    share = settings.voice_cache_bytes // len(names)
    lanes: list[ChatterboxLane] = []
    for index, name in enumerate(names):
        progress(f"loading {name}", index, len(names))
        chosen = variant(name, settings.multilingual_version)
        if choice.backend == "onnx":
            from .onnx.loading import graph_lane

            lanes.append(
                graph_lane(
                    chosen,
                    settings,
                    choice,
                    progress=progress,
                    device=device.type,
                    watermarker=watermarker,
                    share=share,
                )
            )
        else:
            lanes.append(
                _lane(chosen, settings, choice, progress=progress, device=device, watermarker=watermarker, share=share)
            )
    progress("loading", len(names), len(names))
    return lanes


def _set_threads(threads: int | None) -> None:
    from .. import _core

    # Torch counts the machine's cores, of which a container may have a part.
    count = threads or min(torch.get_num_threads(), _core.available_threads())
    # They compute in turns, never at once, so both may have all of them.
    torch.set_num_threads(count)
    _core.set_threads(count)


def _watermarker(device: torch.device) -> Watermarker:
    watermarker = Watermarker.load(device)
    watermarker.self_test()
    return watermarker


def _lane(
    chosen: Variant,
    settings: LoadSettings,
    choice: Choice,
    *,
    progress: Progress,
    device: torch.device,
    watermarker: Watermarker | None,
    share: int,
) -> ChatterboxLane:
    files = locate(
        chosen.name,
        model_path=settings.model_path,
        multilingual_version=settings.multilingual_version,
        progress=progress,
    )
    packed = choice.backend == "native"
    with ReadingAhead(
        packed=[files.t3] if packed else [],
        mapped=[] if packed else [files.t3],
        # What voices are prepared with: other weights make other voices.
        hashed=[files.s3gen, files.voice_encoder],
        progress=progress,
    ) as reading:
        return _assembled(
            chosen,
            files,
            settings,
            choice,
            reading,
            progress=progress,
            device=device,
            watermarker=watermarker,
            share=share,
        )


def _assembled(
    chosen: Variant,
    files: CheckpointFiles,
    settings: LoadSettings,
    choice: Choice,
    reading: ReadingAhead,
    *,
    progress: Progress,
    device: torch.device,
    watermarker: Watermarker | None,
    share: int,
) -> ChatterboxLane:
    text, tags = _text(chosen.name, files)
    t3 = _t3(files.t3, choice, device)
    s3gen = _s3gen(files.s3gen, settings, choice, device, progress)
    s3gen.warm_up()
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
    decoder = Decoder(t3, slots=settings.slots, prefix_bytes=share - share // 8)
    decoder.warm_up()
    preparer = VoicePreparer(s3gen=files.s3gen, voice_encoder=files.voice_encoder, recipe=chosen.recipe, device=device)
    # A damaged file must show now, not at the first voice; the networks themselves are loaded again for it.
    for _ in preparer.load():
        progress(f"checking {chosen.name}'s voice preparation", 0, 1)
    preparer.release()
    on_cpu = device.type == "cpu"
    profile = PROFILES[settings.profile]
    parts = Parts(
        model=model,
        variant=chosen,
        text=text,
        decoder=decoder,
        s3gen=s3gen,
        preparer=preparer,
        voices=VoiceCache(
            limit_bytes=share // 8,
            folder=settings.voices_dir,
            model=f"{chosen.name}-{reading.fingerprint()}",
            device=device,
        ),
        builtin=builtin,
        watermarker=watermarker,
        # A batch shares a GPU's launches; a CPU is busy with one, and the others would only wait for it.
        rendering=RenderBatch(s3gen, size=1 if on_cpu else profile.together, pauses=on_cpu, clock=time.perf_counter),
        profile=profile,
        schedule=profile.cpu_schedule if on_cpu else profile.schedule,
        clock=time.perf_counter,
        waiting_slices=settings.waiting_slices,
    )
    return ChatterboxLane(parts)


def _t3(path: Path, choice: Choice, device: torch.device) -> T3:
    if choice.backend == "native":
        precision = cast("Precision", choice.dtype)
        return T3.from_tensors(
            open_tensors(path), device=device, dtype=torch.float32, backend="native", precision=precision
        )
    return T3.from_tensors(open_tensors(path), device=device, dtype=_DTYPES[choice.dtype])


def _s3gen(own: Path, settings: LoadSettings, choice: Choice, device: torch.device, progress: Progress) -> S3Gen:
    path, wanted = own, settings.s3gen
    if wanted.decoder == "meanflow":
        path = locate_mean_flow(model_path=settings.model_path, progress=progress)
    return S3Gen.from_tensors(
        open_tensors(path),
        device=device,
        dtype=_DTYPES.get(wanted.dtype, torch.float32),
        backend="native" if choice.backend == "native" else "torch",
        precision="int8" if wanted.dtype == "int8" else "fp32",
        steps=wanted.steps,
        reference_seconds=wanted.prompt_seconds,
    )


def _text(name: str, files: CheckpointFiles) -> tuple[TextEncoder, tuple[str, ...]]:
    """The model's text side and the tags that it knows."""
    if name == "standard":
        return EnglishEncoder(files.tokenizer), ()
    if name == "multilingual":
        return MultilingualEncoder(files.tokenizer, files.cangjie), ()
    encoder = SubwordEncoder(files.tokenizer)
    return encoder, encoder.tags
