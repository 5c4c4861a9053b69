"""Builds an engine from the host's settings."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from . import how_to_install
from .engine import Engine
from .model_runner import ModelRunner

__all__ = ["CHATTERBOX", "LoadError", "load"]

CHATTERBOX = ("standard", "turbo", "multilingual", "nano")
"""Models that need the packages of requirements/chatterbox.txt."""


class LoadError(Exception):
    """The engine cannot start; the message is a sentence that says what to do."""


def load(settings: Mapping[str, object]) -> Engine:
    """Load the models named in ``settings`` and return the engine that speaks with them. Raises ``LoadError``.

    ========================  ======================================================================
    ``engine``                "auto" or "fake"
    ``device``                "auto", "cpu", "cuda" or "mps"
    ``backend``               "auto", "native", "torch" or "onnx"
    ``models``                list of names
    ``threads``               CPU threads, or ``None``
    ``model_path``            folder of the weights, or ``None`` for the hub
    ``model_dtype``           "auto", "fp32", "bf16", "fp16", "int8", "int4", "q8", "q4" or "q4f16"
    ``s3gen_dtype``           "fp32", "bf16" or "int8"
    ``s3gen_decoder``         "auto" or "meanflow"
    ``s3gen_steps``           Euler steps, or ``None`` for upstream's
    ``s3gen_prompt_seconds``  how much of a reference S3Gen sees, or ``None`` for all
    ``multilingual_version``  "v2" or "v3"
    ``watermark``             whether Chatterbox's audio is marked
    ``voice_cache_bytes``     most bytes of prepared voices in memory
    ``voices_dir``            folder in which prepared voices are kept, or ``None``
    ``slots``                 requests that one model decodes at once
    ``profile``               "latency", "balanced" or "throughput"
    ``waiting_slices``        slices of one request that may wait to be rendered, or ``None`` for any number
    ``progress``              called with what is done, how much of it is, and how much there is
    ``fake_rtf``              fake engine: compute seconds per second of audio
    ``fake_chunk_ms``         fake engine: a chunk's length
    ``fake_load_seconds``     fake engine: how long loading takes
    ========================  ======================================================================
    """
    engine = settings.get("engine", "auto")
    # Duplicates would load a model twice for one name.
    models = tuple(dict.fromkeys(cast("list[str]", settings.get("models") or [])))
    if engine == "fake":
        return _load_fake(models, settings)
    if engine == "auto":
        return _load_models(models, settings)
    raise LoadError(f"engine: {engine!r} is unknown; use 'auto' or 'fake'.")


def _load_models(models: tuple[str, ...], settings: Mapping[str, object]) -> Engine:
    if not models:
        raise LoadError("models: there is nothing to load; set LOAD_LITE=true, or LOAD_TURBO=true.")
    unknown = [name for name in models if name not in (*CHATTERBOX, "lite")]
    if unknown:
        raise LoadError(f"models: {', '.join(unknown)} is unknown; there are {', '.join(CHATTERBOX)} and lite.")
    runners: list[ModelRunner] = []
    device = "cpu"
    chatterbox = [name for name in models if name in CHATTERBOX]
    if chatterbox:
        loaded, device = _load_chatterbox(chatterbox, settings)
        runners += loaded
    else:
        _check_device(cast("str", settings.get("device", "auto")), cast("str", settings.get("backend", "auto")))
    if "lite" in models:
        runners.append(_load_lite(settings))
    return Engine(runners, device=device)


def _check_device(device: str, backend: str) -> None:
    """Refuse a device that is not there although no model needs it: the operator relies on it."""
    if device in ("auto", "cpu"):
        return
    try:
        from .chatterbox import loading
    except ImportError as error:
        raise LoadError(
            f"DEVICE: {device} cannot be used, since torch is missing ({error}); use cpu, or auto."
        ) from error
    try:
        loading.choose_device(device, backend)
    except loading.SettingError as error:
        raise LoadError(str(error)) from error


def _load_chatterbox(models: list[str], settings: Mapping[str, object]) -> tuple[Sequence[ModelRunner], str]:
    # Torch's threads would go on spinning after each of its operations, on the cores that the native networks compute
    # on next. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        # Most of them are only imported for the first voice, but it is now that the operator is looking.
        for package in ("torch", "chatterbox", "soxr", "torchaudio"):
            if importlib.util.find_spec(package) is None:
                raise ModuleNotFoundError(f"No module named {package!r}")
        from .chatterbox import loading
        from .chatterbox.tensors import CheckpointError
        from .chatterbox.watermark.perth import WatermarkError
    except ImportError as error:
        raise LoadError(
            f"{', '.join(models)}: a package of the Chatterbox models cannot be imported ({error}); "
            f"{how_to_install('chatterbox')}"
        ) from error
    path, folder = settings.get("model_path"), settings.get("voices_dir")
    options = loading.LoadOptions(
        backend=cast("str", settings.get("backend", "auto")),
        device=cast("str", settings.get("device", "auto")),
        dtype=cast("str", settings.get("model_dtype", "auto")),
        s3gen=loading.S3GenOptions(
            dtype=cast("str", settings.get("s3gen_dtype", "fp32")),
            decoder=cast("str", settings.get("s3gen_decoder", "auto")),
            steps=cast("int | None", settings.get("s3gen_steps")),
            prompt_seconds=cast("float | None", settings.get("s3gen_prompt_seconds")),
        ),
        threads=cast("int | None", settings.get("threads")),
        model_path=Path(cast("str", path)) if path else None,
        multilingual_version=cast("str", settings.get("multilingual_version", "v2")),
        watermark=cast("bool", settings.get("watermark", True)),
        voice_cache_bytes=cast("int", settings.get("voice_cache_bytes", 512 << 20)),
        voices_folder=Path(cast("str", folder)) if folder else None,
        slots=cast("int", settings.get("slots", 8)),
        profile=cast("str", settings.get("profile", "balanced")),
        progress=_progress(settings),
        waiting_slices=cast("int | None", settings.get("waiting_slices")),
    )
    try:
        return loading.load(models, options), loading.choose_device(options.device, options.backend).type
    except (CheckpointError, WatermarkError, loading.SettingError) as error:
        raise LoadError(str(error)) from error


def _load_lite(settings: Mapping[str, object]) -> ModelRunner:
    from . import lite

    try:
        return lite.load(threads=cast("int | None", settings.get("threads")))
    except ImportError as error:
        raise LoadError(
            f"The lite model needs a package that cannot be imported ({error}); "
            "run: pip install hibari-tts==0.2.1 onnxruntime"
        ) from error


def _load_fake(models: tuple[str, ...], settings: Mapping[str, object]) -> Engine:
    from . import fake

    runners = fake.load(
        models or ("fake",),
        rtf=cast("float", settings.get("fake_rtf", 0.0)),
        chunk_ms=cast("int", settings.get("fake_chunk_ms", 200)),
        load_seconds=cast("float", settings.get("fake_load_seconds", 0.0)),
        progress=_progress(settings),
    )
    return Engine(runners, device="cpu")


def _progress(settings: Mapping[str, object]) -> Callable[[str, int, int], None]:
    told = settings.get("progress") or (lambda what, done, total: None)
    return cast("Callable[[str, int, int], None]", told)
