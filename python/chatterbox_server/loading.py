"""Builds an engine from the host's settings."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence

from . import how_to_install
from ._core import LoadSettings
from .engine import Engine
from .model_runner import ModelRunner, Progress

__all__ = ["CHATTERBOX", "LoadError", "load"]

CHATTERBOX = ("standard", "turbo", "multilingual", "nano")
"""Models that need the packages of requirements/chatterbox.txt."""


class LoadError(Exception):
    """The engine cannot start; the message is a sentence that says what to do."""


def load(settings: LoadSettings, progress: Progress = lambda what, done, total: None) -> Engine:
    """Load the models that ``settings`` name and return the engine that runs them. Raises ``LoadError``."""
    if settings.hf_home is not None:
        # Python copied the environment before the host read its options.
        os.environ["HF_HOME"] = settings.hf_home
    # Duplicates would load a model twice for one name.
    models = list(dict.fromkeys(settings.models))
    if settings.engine == "fake":
        return _load_fake(models or ["fake"], settings, progress)
    if not models:
        raise LoadError("models: there is nothing to load; set LOAD_LITE=true, or LOAD_TURBO=true.")
    unknown = [name for name in models if name not in (*CHATTERBOX, "lite")]
    if unknown:
        raise LoadError(f"models: {', '.join(unknown)} is unknown; there are {', '.join(CHATTERBOX)} and lite.")
    runners: list[ModelRunner] = []
    device = "cpu"
    chatterbox = [name for name in models if name in CHATTERBOX]
    if chatterbox:
        loaded, device = _load_chatterbox(chatterbox, settings, progress)
        runners += loaded
    else:
        _check_device(settings.device, settings.backend)
    if "lite" in models:
        runners.append(_load_lite(settings))
    return Engine(runners, device=device)


def _check_device(device: str, backend: str) -> None:
    """Refuse a device that is not there although no model needs it: the operator relies on it."""
    if device in ("auto", "cpu"):
        return
    try:
        from .chatterbox import assembly
    except ImportError as error:
        raise LoadError(
            f"DEVICE: {device} cannot be used, since torch is missing ({error}); use cpu, or auto."
        ) from error
    try:
        assembly.choose_device(device, backend)
    except assembly.SettingError as error:
        raise LoadError(str(error)) from error


def _load_chatterbox(
    models: list[str], settings: LoadSettings, progress: Progress
) -> tuple[Sequence[ModelRunner], str]:
    # Torch's threads would go on spinning after each of its operations, on the cores that the native networks compute
    # on next. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        # Most of them are only imported for the first voice, but it is now that the operator is looking.
        for package in ("torch", "chatterbox", "soxr", "torchaudio"):
            if importlib.util.find_spec(package) is None:
                raise ModuleNotFoundError(f"No module named {package!r}")
        from .chatterbox import assembly
        from .chatterbox.tensors import CheckpointError
        from .chatterbox.watermark.perth import WatermarkError
    except ImportError as error:
        raise LoadError(
            f"{', '.join(models)}: a package of the Chatterbox models cannot be imported ({error}); "
            f"{how_to_install('chatterbox')}"
        ) from error
    try:
        runners = assembly.load(models, settings, progress)
        return runners, assembly.choose_device(settings.device, settings.backend).type
    except (CheckpointError, WatermarkError, assembly.SettingError) as error:
        raise LoadError(str(error)) from error


def _load_lite(settings: LoadSettings) -> ModelRunner:
    from . import lite

    try:
        return lite.load(threads=settings.threads)
    except ImportError as error:
        raise LoadError(
            f"The lite model needs a package that cannot be imported ({error}); "
            "run: pip install hibari-tts==0.2.1 onnxruntime"
        ) from error


def _load_fake(models: Sequence[str], settings: LoadSettings, progress: Progress) -> Engine:
    from . import fake

    runners = fake.load(
        models,
        rtf=settings.fake_rtf,
        chunk_ms=settings.fake_chunk_ms,
        load_seconds=settings.fake_load_seconds,
        progress=progress,
    )
    return Engine(runners, device="cpu")
