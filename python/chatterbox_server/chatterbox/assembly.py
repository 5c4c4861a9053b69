"""Loads Chatterbox models and makes runners of them: the one place that puts a model's parts together."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from .._core import LoadSettings, Model
from ..model_runner import Progress
from .checkpoint import CheckpointFiles, locate, locate_mean_flow
from .conditionals import Conditionals
from .interfaces import AcousticModel, MelDecoder, VoicePreparer
from .model_spec import (
    PROFILES,
    Choice,
    ModelParts,
    SettingError,
    Variant,
    check_s3gen,
    choose_backend,
    variant,
)
from .reading import ReadingAhead, read_ahead
from .runner import BUILTIN_VOICE, ChatterboxRunner
from .s3gen.model import S3Gen
from .scheduler import RenderBatch
from .speech_tokens import SAMPLE_RATE
from .t3.config import START_SPEECH
from .t3.decoder import Decoder
from .t3.model import T3
from .t3.native_backbone import Precision
from .tensors import open_tensors
from .text.encoders import EnglishEncoder, MultilingualEncoder, SubwordEncoder, TextEncoder
from .voices.cache import VoiceCache
from .voices.files import load_builtin
from .voices.prepare import TorchVoicePreparer
from .watermark.watermarker import Watermarker

__all__ = ["SettingError", "choose_device", "load"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str, backend: str) -> torch.device:
    """The device called ``name``. Raises ``SettingError`` if it is not there for ``backend``."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if backend == "onnx":
        from .onnx.graphs import Providers

        available = {"cpu": True, "cuda": Providers.cuda_available()}
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if available.get(device, False))
    if not available.get(name, False):
        package = (
            "; for BACKEND=onnx it takes the package onnxruntime-gpu" if (backend, name) == ("onnx", "cuda") else ""
        )
        raise SettingError(f"DEVICE: {name} is not available on this machine{package}; use cpu, or auto.")
    return torch.device(name)


def load(names: Sequence[str], settings: LoadSettings, progress: Progress) -> list[ChatterboxRunner]:
    """One runner for each model. Raises ``SettingError``, ``CheckpointError`` or ``WatermarkError``."""
    device = choose_device(settings.device, settings.backend)
    choice = choose_backend(settings.backend, settings.model_dtype, models=names, device=device.type)
    check_s3gen(settings.s3gen, choice.backend, device.type)
    _set_threads(settings.threads)
    # Graphs keep what is theirs on their device; the watermark is torch's.
    on = torch.device("cpu") if choice.backend == "onnx" else device
    watermarker = _watermarker(on) if settings.watermark else None
    share = settings.voice_cache_bytes // len(names)
    runners: list[ChatterboxRunner] = []
    for index, name in enumerate(names):
        progress(f"loading {name}", index, len(names))
        spec = variant(name, settings.multilingual_version)
        read = _read_graphs if choice.backend == "onnx" else _read_weights
        networks = read(spec, settings, choice, device, progress)
        runners.append(_assembled(spec, networks, settings, device=device, watermarker=watermarker, share=share))
    progress("loading", len(names), len(names))
    return runners


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Networks:
    """The contents of a model's files."""

    text: TextEncoder
    tags: tuple[str, ...]
    acoustic_model: AcousticModel
    mel_decoder: MelDecoder
    preparer: VoicePreparer
    builtin: Conditionals | None
    voices_name: str
    """Names the model and the very weights that voices are prepared with: other weights make other voices."""
    voices_device: torch.device
    can_convert: bool
    pauses: bool
    """Whether the mel decoder yields within a slice."""
    render_together: bool
    """Whether several utterances are rendered faster together than one after the other."""


def _assembled(
    spec: Variant,
    networks: _Networks,
    settings: LoadSettings,
    *,
    device: torch.device,
    watermarker: Watermarker | None,
    share: int,
) -> ChatterboxRunner:
    model = Model(
        name=spec.name,
        sample_rate=SAMPLE_RATE,
        can_clone=True,
        can_convert=networks.can_convert,
        languages=spec.languages,
        voices=(BUILTIN_VOICE,) if networks.builtin else (),
        tags=networks.tags,
        watermark=watermarker is not None,
    )
    profile = PROFILES[settings.profile]
    # A voice is small, but what T3 has computed of it is 16 MB and more.
    decoder = Decoder(networks.acoustic_model, slots=settings.slots, prefix_bytes=share - share // 8)
    decoder.warm_up()
    parts = ModelParts(
        model=model,
        variant=spec,
        text=networks.text,
        decoder=decoder,
        mel_decoder=networks.mel_decoder,
        preparer=networks.preparer,
        voices=VoiceCache(
            limit_bytes=share // 8,
            folder=settings.voices_dir,
            model=networks.voices_name,
            device=networks.voices_device,
        ),
        builtin=networks.builtin,
        watermarker=watermarker,
        render_batch=RenderBatch(
            networks.mel_decoder,
            size=profile.together if networks.render_together else 1,
            pauses=networks.pauses,
            clock=time.perf_counter,
        ),
        profile=profile,
        schedule=profile.cpu_schedule if device.type == "cpu" else profile.schedule,
        clock=time.perf_counter,
        waiting_slices=settings.waiting_slices,
    )
    return ChatterboxRunner(parts)


def _read_weights(
    spec: Variant, settings: LoadSettings, choice: Choice, device: torch.device, progress: Progress
) -> _Networks:
    """The networks of a checkpoint, computed by torch or by this package's own kernels."""
    files = locate(
        spec.name,
        model_path=settings.model_path,
        multilingual_version=settings.multilingual_version,
        progress=progress,
    )
    packed = choice.backend == "native"
    with ReadingAhead(
        packed=[files.t3] if packed else [],
        mapped=[] if packed else [files.t3],
        hashed=[files.s3gen, files.voice_encoder],
        progress=progress,
    ) as reading:
        text, tags = _text(spec.name, files)
        t3 = _t3(files.t3, choice, device)
        s3gen = _s3gen(files.s3gen, settings, choice, device, progress)
        s3gen.warm_up()
        builtin = load_builtin(files.conditionals).to(device) if files.conditionals else None
        preparer = TorchVoicePreparer(
            s3gen=files.s3gen, voice_encoder=files.voice_encoder, recipe=spec.recipe, device=device
        )
        _check_preparer(preparer, spec, progress)
        on_cpu = device.type == "cpu"
        return _Networks(
            text=text,
            tags=tags,
            acoustic_model=t3,
            mel_decoder=s3gen,
            preparer=preparer,
            builtin=builtin,
            voices_name=f"{spec.name}-{reading.fingerprint()}",
            voices_device=device,
            can_convert=True,
            pauses=on_cpu,
            # A batch shares a GPU's launches; a CPU is busy with one, and the others would only wait for it.
            render_together=not on_cpu,
        )


def _check_preparer(preparer: VoicePreparer, spec: Variant, progress: Progress) -> None:
    """A damaged file must show now, not at the first voice; the networks themselves are loaded again for it."""
    for _ in preparer.load():
        progress(f"checking {spec.name}'s voice preparation", 0, 1)
    preparer.release()


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


def _read_graphs(
    spec: Variant, settings: LoadSettings, choice: Choice, device: torch.device, progress: Progress
) -> _Networks:
    """The networks of a folder of ONNX graphs."""
    # Not at the top: only this backend needs ONNX Runtime.
    from onnxruntime import InferenceSession

    from .onnx.graphs import Providers, locate, open_session
    from .onnx.s3gen import OnnxS3Gen
    from .onnx.t3 import OnnxBackbone, OnnxT3, OnnxText
    from .onnx.voices import OnnxVoicePreparer, load_voice

    files = locate(spec.name, dtype=choice.dtype, model_path=settings.model_path, progress=progress)
    text = SubwordEncoder(files.tokenizer)
    fingerprint = hashlib.sha256()
    encoder = files.graphs["speech_encoder"]
    # Weights of a graph may be in a file of their own.
    for path in (encoder, encoder.with_name(f"{encoder.name}_data")):
        if path.is_file():
            read_ahead(path, progress, fingerprint.update)
    providers = Providers(device.type, settings.threads)
    sessions: dict[str, InferenceSession] = {}
    for name in ("embed_tokens", "language_model", "conditional_decoder"):
        progress(f"loading {files.graphs[name].name}", len(sessions), 3)
        sessions[name] = open_session(files.graphs[name], providers)
    backbone = OnnxBackbone(sessions["language_model"], device=device.type)
    starts = text.encode("a", None)[-1] == START_SPEECH
    preparer = OnnxVoicePreparer(encoder, providers)
    _check_preparer(preparer, spec, progress)
    return _Networks(
        text=OnnxText(text),
        tags=text.tags,
        acoustic_model=OnnxT3(sessions["embed_tokens"], backbone, starts=starts),
        mel_decoder=OnnxS3Gen(sessions["conditional_decoder"]),
        preparer=preparer,
        builtin=load_voice(files.voice) if files.voice else None,
        voices_name=f"{spec.name}-onnx-{fingerprint.hexdigest()[:16]}",
        voices_device=torch.device("cpu"),
        can_convert=False,
        # A graph cannot be paused within a run.
        pauses=False,
        render_together=False,
    )
