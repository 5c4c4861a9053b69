"""Engines on tiny checkpoints, and clips to clone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from chatterbox_server._core import Enroll
from chatterbox_server.chatterbox.loading import LoadOptions, S3GenOptions, load
from chatterbox_server.engine import Engine
from numpy.typing import NDArray

OPTIONS = LoadOptions(
    backend="auto",
    s3gen=S3GenOptions(),
    device="cpu",
    dtype="auto",
    threads=1,
    model_path=None,
    multilingual_version="v2",
    watermark=False,
    voice_cache_bytes=64 << 20,
    voices_folder=None,
    slots=4,
    # Slices so small that short utterances have several.
    profile="latency",
    progress=lambda what, done, total: None,
)


def engine_of(folder: Path, models: Sequence[str], **options: object) -> Engine:
    """An engine with ``models``, whose weights lie in folders of their names under ``folder``."""
    return Engine(load(models, replace(OPTIONS, model_path=folder, **options)), device="cpu")  # type: ignore[arg-type]


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
