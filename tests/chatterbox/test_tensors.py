"""Weights are mapped and not read, and a file that is none is refused by name."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from chatterbox_server.chatterbox.tensors import CheckpointError, open_tensors
from safetensors.torch import save_file

WEIGHTS = {"encoder.layer.weight": torch.arange(12.0).reshape(3, 4), "bias": torch.ones(5, dtype=torch.bfloat16)}


def written(folder: Path, end: str) -> Path:
    path = folder / f"weights.{end}"
    if end == "pt":
        torch.save(WEIGHTS, path)
    else:
        save_file(WEIGHTS, path)
    return path


@pytest.fixture(params=["safetensors", "pt"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return written(tmp_path, request.param)


def test_tensors_round_trip(path: Path) -> None:
    tensors = open_tensors(path)
    assert dict(tensors).keys() == WEIGHTS.keys()
    for name, tensor in WEIGHTS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_oldest_format_is_read(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    tensors = open_tensors(tmp_path / "old.pt")
    assert all(torch.equal(tensors[name], tensor) for name, tensor in WEIGHTS.items())


def test_scopes_are_parts_of_names(path: Path) -> None:
    tensors = open_tensors(path)
    inner = tensors.scope("encoder.").scope("layer.")
    assert list(inner) == ["weight"]
    assert len(inner) == 1
    assert "weight" in inner
    assert "bias" not in inner
    assert inner.shaped("weight", 3, -1).shape == (3, 4)


def test_missing_tensor_is_named_with_its_file(path: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"{path.name}: there is no tensor 'encoder\.head'"):
        open_tensors(path).scope("encoder.")["head"]


@pytest.mark.parametrize("shape", [(4, 3), (3, 4, 1), (12,), (-1, 5)])
def test_another_shape_is_refused(path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError, match=r"'encoder\.layer\.weight' has shape \[3, 4\] where"):
        open_tensors(path).scope("encoder.").shaped("layer.weight", *shape)


@pytest.mark.parametrize("end", ["safetensors", "pt"])
def test_opening_reads_no_weights(tmp_path: Path, end: str) -> None:
    """In a process of its own, for a file of 256 MB that is a hole on the disk."""
    path = tmp_path / f"large.{end}"
    large = {"weight": torch.zeros(64 << 20)}
    if end == "pt":
        torch.save(large, path)
    else:
        save_file(large, path)
    program = """
        import sys, pathlib, torch
        from chatterbox_server.chatterbox.tensors import open_tensors

        def resident():
            lines = pathlib.Path("/proc/self/status").read_text().splitlines()
            return sum(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmRSS"))

        open_tensors(pathlib.Path(sys.argv[2]))
        before = resident()
        tensors = open_tensors(pathlib.Path(sys.argv[1]))
        part = tensors["weight"][1 << 20 : 2 << 20].sum().item()
        mapped = resident() - before
        tensors["weight"].sum()
        print(mapped, resident() - before)
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("the system does not tell how much memory is in use")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(path), str(written(tmp_path, end))],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    mapped, used = map(int, done.stdout.split())
    assert mapped < 64
    assert used > 192


@pytest.mark.parametrize("end", ["safetensors", "pt"])
def test_missing_file_is_reported(tmp_path: Path, end: str) -> None:
    with pytest.raises(CheckpointError, match=f"weights.{end}: there is no such file"):
        open_tensors(tmp_path / f"weights.{end}")


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped_header(data: bytes) -> bytes:
    return data[:8] + bytes(byte ^ 0x55 for byte in data[8:40]) + data[40:]


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut": (cut, "damaged or cut short"),
    "cut early": (lambda data: data[:6], "damaged or cut short"),
    "header": (flipped_header, "damaged or cut short"),
    "empty": (lambda data: b"", "is empty"),
    "text": (lambda data: b"<html>Not found</html>\n" * 50, "damaged or cut short"),
    "zeros": (lambda data: bytes(4096), "damaged or cut short"),
    "pointer": (
        lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "Git LFS pointer",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_file_is_named(path: Path, damage: str) -> None:
    change, reason = DAMAGE[damage]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(CheckpointError, match=rf"{path.name}: .*{reason}"):
        open_tensors(path)


@pytest.mark.parametrize("end", ["safetensors", "pt"])
def test_folder_is_refused_as_checkpoint(tmp_path: Path, end: str) -> None:
    (tmp_path / f"weights.{end}").mkdir()
    with pytest.raises(CheckpointError, match=f"weights.{end}: cannot be read"):
        open_tensors(tmp_path / f"weights.{end}")


@pytest.mark.parametrize("end", ["safetensors", "pt"])
def test_other_file_format_is_refused(tmp_path: Path, end: str) -> None:
    other = written(tmp_path, "pt" if end == "safetensors" else "safetensors")
    path = tmp_path / f"renamed.{end}"
    other.rename(path)
    with pytest.raises(CheckpointError, match=f"renamed.{end}: cannot be read as a checkpoint"):
        open_tensors(path)


@pytest.mark.parametrize("value", [[torch.ones(2)], {"model": {"weight": torch.ones(2)}}, {"epoch": 3}])
def test_pickle_of_other_objects_is_refused(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=r"weights\.pt: holds something other than tensors"):
        open_tensors(tmp_path / "weights.pt")


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickle_code_is_not_executed(tmp_path: Path, zipped: bool) -> None:
    path, mark = tmp_path / "weights.pt", tmp_path / "it was run"
    torch.save({"weight": torch.ones(2), "more": Trap(mark)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"weights\.pt: cannot be read as a checkpoint"):
        open_tensors(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()
