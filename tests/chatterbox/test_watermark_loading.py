"""A watermark that cannot work is said to, and why."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from chatterbox_server.chatterbox.tensors import Tensors
from chatterbox_server.chatterbox.watermark import perth
from chatterbox_server.chatterbox.watermark.perth import WatermarkError
from chatterbox_server.chatterbox.watermark.watermarker import Watermarker


@pytest.fixture(scope="module")
def watermarker() -> Watermarker:
    return Watermarker.load(torch.device("cpu"))


def test_self_test_passes(watermarker: Watermarker) -> None:
    watermarker.self_test()


@pytest.mark.parametrize("change", [0.0, float("nan")])
def test_undetected_mark_fails_self_test(watermarker: Watermarker, change: float) -> None:
    def broken(levels: torch.Tensor) -> torch.Tensor:
        return torch.full_like(levels, change)

    broken.bins = 128  # type: ignore[attr-defined]
    useless = Watermarker(broken, watermarker._decoder, torch.device("cpu"))  # type: ignore[arg-type]
    with pytest.raises(WatermarkError, match=r"does not work on this machine: .*WATERMARK=off"):
        useless.self_test()


def test_missing_package_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WatermarkError, match=r"resemble-perth, which is not installed: .*WATERMARK=off"):
        Watermarker.load(torch.device("cpu"))


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut short"])
def test_damaged_weights_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "weights").write_bytes(content)
    monkeypatch.setattr(perth, "_FILE", tmp_path / "weights")
    with pytest.raises(WatermarkError, match=rf"{tmp_path}/weights cannot be read"):
        Watermarker.load(torch.device("cpu"))


def test_foreign_weights_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = perth.open_weights()
    other = Tensors(whole.path, {name: tensor[..., :3] for name, tensor in whole.items()})
    monkeypatch.setattr("chatterbox_server.chatterbox.watermark.watermarker.open_weights", lambda: other)
    with pytest.raises(WatermarkError, match="not those of Perth"):
        Watermarker.load(torch.device("cpu"))


def test_perth_itself_is_not_imported() -> None:
    """In a process of its own, in which Perth's own package could not be imported."""
    program = """
        import sys, torch
        sys.modules["pkg_resources"] = sys.modules["librosa"] = sys.modules["torchaudio"] = None
        from chatterbox_server.chatterbox.watermark.watermarker import Watermarker
        Watermarker.load(torch.device("cpu")).self_test()
        assert not [name for name in sys.modules if name.partition(".")[0] in ("perth", "scipy", "numba")]
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        env={"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
