"""The settings that change how S3Gen speaks, through the engine that they are given to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from chatterbox_server._core import S3GenSettings
from chatterbox_server.chatterbox.tensors import CheckpointError
from engine_helpers import drain, samples, speak
from numpy.typing import NDArray
from tiny_engines import engine_of

Checkpoints = Callable[[str], Path]


def _spoken(folder: Path, **options: object) -> NDArray[np.float32]:
    engine = engine_of(folder, ["standard"], s3gen=S3GenSettings(**options))  # type: ignore[arg-type]
    return samples(drain(engine, [speak(1, "The quick brown fox.", model="standard", max_audio_seconds=0.6)]))


@pytest.fixture(scope="module")
def both(checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with standard and turbo in it."""
    folder = tmp_path_factory.mktemp("both")
    for kind in ("standard", "turbo"):
        (folder / kind).symlink_to(checkpoints(kind))
    return folder


@pytest.mark.parametrize(
    "options",
    [{"dtype": "int8"}, {"decoder": "meanflow"}, {"steps": 2}, {"prompt_seconds": 1.0}],
    ids=lambda options: next(iter(options)),
)
def test_each_setting_changes_samples_only(both: Path, options: dict[str, object]) -> None:
    usual, changed = _spoken(both), _spoken(both, **options)
    assert usual.size == changed.size > 0
    assert np.isfinite(changed).all()
    assert not np.array_equal(usual, changed)


def test_mean_flow_without_turbo_file_is_error(checkpoints: Checkpoints) -> None:
    with pytest.raises(CheckpointError, match=r"S3GEN_DECODER: meanflow needs turbo's s3gen_meanflow\.safetensors"):
        engine_of(checkpoints("standard"), ["standard"], s3gen=S3GenSettings(decoder="meanflow"))
