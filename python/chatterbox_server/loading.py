"""Builds an engine from the host's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from .engine import Engine

__all__ = ["LoadError", "load"]


class LoadError(Exception):
    """The engine cannot start; the message is a sentence that says what to do."""


def load(settings: Mapping[str, object]) -> Engine:
    """Load the models named in ``settings`` and return the engine that speaks with them.

    Keys: ``engine`` ("auto" or "fake"), ``device`` ("auto", "cpu", "cuda", "mps"), ``models`` (list of names),
    ``threads`` (CPU threads or ``None``) and, for the fake engine, ``fake_rtf`` (compute seconds per second of audio),
    ``fake_chunk_ms`` and ``fake_load_seconds``. Raises ``LoadError``.
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
        raise LoadError("models: there is nothing to load; set LOAD_LITE=true.")
    missing = [name for name in models if name != "lite"]
    if missing:
        raise LoadError(
            f"models: this build has no Chatterbox engine, so it cannot load {', '.join(missing)}; it can load: lite."
        )
    from . import lite

    try:
        lane = lite.load(threads=cast("int | None", settings.get("threads")))
    except ImportError as error:
        raise LoadError(
            f"The lite model needs a package that cannot be imported ({error}); "
            "run: pip install hibari-tts==0.2.1 onnxruntime"
        ) from error
    return Engine([lane], device="cpu")


def _load_fake(models: tuple[str, ...], settings: Mapping[str, object]) -> Engine:
    from . import fake

    lanes = fake.load(
        models or ("fake",),
        rtf=cast("float", settings.get("fake_rtf", 0.0)),
        chunk_ms=cast("int", settings.get("fake_chunk_ms", 200)),
        load_seconds=cast("float", settings.get("fake_load_seconds", 0.0)),
    )
    return Engine(lanes, device="cpu")
