from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from chatterbox_server._core import LoadSettings
from chatterbox_server.chatterbox.runner import ChatterboxRunner
from chatterbox_server.chatterbox.watermark.perth import WatermarkError
from chatterbox_server.chatterbox.watermark.watermarker import Watermarker
from chatterbox_server.loading import LoadError, load
from engine_helpers import drain, replace, samples, speak
from tiny_engines import engine_of


def settings(folder: Path, **changes: object) -> LoadSettings:
    return replace(LoadSettings(models=["turbo"], model_path=folder, device="cpu", watermark=False), **changes)


def test_progress_names_file_and_bytes(checkpoints: Callable[[str], Path]) -> None:
    progress_calls: list[tuple[str, int, int]] = []
    load(settings(checkpoints("turbo")), lambda *progress: progress_calls.append(progress))
    for name in ("t3_turbo_v1.safetensors", "s3gen_meanflow.safetensors"):
        size = (checkpoints("turbo") / name).stat().st_size
        assert (f"reading {name}", size, size) in progress_calls
    assert all(0 <= done <= total for _, done, total in progress_calls)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_t3_may_have_less_precision(checkpoints: Callable[[str], Path], dtype: str) -> None:
    engine = engine_of(checkpoints("turbo"), ["turbo"], model_dtype=dtype)
    audio = samples(drain(engine, [speak(1, "The quick brown fox.", model="turbo", max_audio_seconds=0.6)]))
    assert audio.size > 0
    assert np.isfinite(audio).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_dtype": "int4", "backend": "torch"}, "MODEL_DTYPE"),
        ({"models": ["turbo", "nothing"]}, "nothing is unknown"),
        ({"models": []}, "nothing to load"),
        ({"device": "cuda"}, "DEVICE: cuda is not available"),
    ],
)
def test_unmet_setting_is_named(
    checkpoints: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], said: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LoadError, match=said):
        load(settings(checkpoints("turbo"), **changes))


@pytest.mark.parametrize("waiting", [None, 1])
def test_number_of_waiting_slices_reaches_every_model(checkpoints: Callable[[str], Path], waiting: int | None) -> None:
    runner = load(settings(checkpoints("turbo"), waiting_slices=waiting)).runners["turbo"]
    assert isinstance(runner, ChatterboxRunner)
    assert runner.parts.waiting_slices == waiting


def test_broken_watermark_fails_loading(checkpoints: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Watermarker) -> None:
        raise WatermarkError("The watermark does not work on this machine.")

    monkeypatch.setattr(Watermarker, "self_test", broken)
    with pytest.raises(LoadError, match="watermark"):
        load(settings(checkpoints("turbo"), watermark=True))
    load(settings(checkpoints("turbo"), watermark=False))
