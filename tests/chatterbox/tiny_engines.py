"""Engines and ONNX graphs of tiny checkpoints, and clips to clone."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from chatterbox_server._core import Enroll, LoadSettings
from chatterbox_server.chatterbox.assembly import load
from chatterbox_server.chatterbox.checkpoint import locate
from chatterbox_server.chatterbox.onnx.export.checkpoint import export
from chatterbox_server.engine import Engine
from engine_helpers import replace
from numpy.typing import NDArray

SETTINGS = LoadSettings(
    device="cpu",
    threads=1,
    watermark=False,
    voice_cache_bytes=64 << 20,
    slots=4,
    # Slices so small that short utterances have several.
    profile="latency",
)


def engine_of(folder: Path, models: Sequence[str], **changes: object) -> Engine:
    """An engine with ``models``, whose weights lie in folders of their names under ``folder``."""
    settings = replace(SETTINGS, model_path=folder, **changes)
    return Engine(load(models, settings, lambda what, done, total: None), device="cpu")


def voiced(seconds: float, rate: int = 24_000, pitch: float = 140.0) -> NDArray[np.float32]:
    """Something like a voice: a gliding pitch with harmonics, syllables, and a little noise."""
    time = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.15 * np.sin(2 * np.pi * 0.7 * time))) / rate
    harmonics = sum(np.sin(number * phase) / number for number in range(1, 12))
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 3.1 * time)
    noise = np.random.default_rng(5).standard_normal(time.size)
    return (0.12 * syllables * harmonics + 0.003 * noise).astype(np.float32)


def enroll(request_id: int, key: str, model: str, *, seconds: float = 6.0, pitch: float = 140.0) -> Enroll:
    """The command that prepares a made-up clip under ``key``."""
    pcm = voiced(seconds, pitch=pitch).astype("<f4").tobytes()
    return Enroll(id=request_id, voice=key, model=model, pcm=pcm, sample_rate=24_000)


@functools.cache
def graphs_of(model: str, checkpoint: Path, *dtypes: str) -> Path:
    """The folder that has the graphs of ``model`` in a folder of its name. Read only."""
    root = checkpoint.parent / f"graphs-{'-'.join((model, *dtypes))}"
    files = locate(model, model_path=checkpoint, multilingual_version="v2", progress=lambda what, done, total: None)
    export(model, files, root / model, dtypes, lambda path: None)
    return root
