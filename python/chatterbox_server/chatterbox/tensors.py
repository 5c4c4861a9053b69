"""Weights as they lie in a checkpoint file, mapped into memory and read when they are used."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

__all__ = ["CheckpointError", "Tensors", "head_count", "open_tensors"]


_POINTER = b"version https://git-lfs."
"""How a file begins that a clone without Git LFS leaves in place of the weights."""


class CheckpointError(Exception):
    """A checkpoint is missing, damaged or of another model; the message names the file and what is wrong."""


class Tensors(Mapping[str, Tensor]):
    """Tensors of one file by name; a name that is not there raises ``CheckpointError`` with the file's name.

    ``scope("flow.encoder.")`` is the part below a prefix.
    """

    def __init__(self, path: Path, tensors: Mapping[str, Tensor], prefix: str = "", *, mapped: bool = False) -> None:
        self.path = path
        self._tensors = tensors
        self._prefix = prefix
        self._mapped = mapped

    def __getitem__(self, name: str) -> Tensor:
        try:
            return self._tensors[self._prefix + name]
        except KeyError:
            raise CheckpointError(
                f"{self.path}: there is no tensor {self._prefix + name!r} in it; is it the file of another model?"
            ) from None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._prefix + name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return (name.removeprefix(self._prefix) for name in self._tensors if name.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def scope(self, prefix: str) -> Tensors:
        return Tensors(self.path, self._tensors, self._prefix + prefix, mapped=self._mapped)

    def reopened(self) -> Tensors:
        """The same file, mapped again: pages read through it count as this process's memory while it lives."""
        return open_tensors(self.path).scope(self._prefix) if self._mapped else self

    def shaped(self, name: str, *shape: int) -> Tensor:
        """The tensor ``name``, which must have ``shape``; ``-1`` allows any size."""
        tensor = self[name]
        fits = len(shape) == tensor.dim() and all(
            want in (-1, size) for want, size in zip(shape, tensor.shape, strict=True)
        )
        if not fits:
            found, wanted = list(tensor.shape), ["any" if size == -1 else size for size in shape]
            raise CheckpointError(
                f"{self.path}: {self._prefix + name!r} has shape {found} where {wanted} was expected."
            )
        return tensor


class _Mapped(Mapping[str, Tensor]):
    """Of a safetensors file. One is made when it is asked for: a file has thousands, and is opened for every layer."""

    def __init__(self, path: Path) -> None:
        file: Any = safe_open(path, framework="pt")  # type: ignore[no-untyped-call]
        self._file = file
        self._names: dict[str, None] = dict.fromkeys(file.keys())

    def __getitem__(self, name: str) -> Tensor:
        # The file's own error does not say that it is this that is wrong.
        if name not in self._names:
            raise KeyError(name)
        tensor: Tensor = self._file.get_tensor(name)
        return tensor

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def open_tensors(path: Path) -> Tensors:
    """The tensors of a ``.safetensors`` file, or of a ``.pt`` file that holds nothing else. On the CPU, memory mapped.

    Only a ``.pt`` file in the format from before torch 1.6, which cannot be mapped, is read as a whole.
    A ``.pt`` file is a pickle, which can carry code; only what tensors are made of is unpickled, and none is run.
    Raises ``CheckpointError``.
    """
    try:
        if path.suffix == ".safetensors":
            return Tensors(path, _Mapped(path), mapped=True)
        mapped = zipfile.is_zipfile(path)
        found: object = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file.") from None
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle may ask for anything, and fail as anything
        raise CheckpointError(f"{path}: {_trouble(path, error)}") from error
    if not isinstance(found, Mapping) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise CheckpointError(f"{path}: holds something other than tensors; is it a checkpoint's weights?")
    return Tensors(path, found, mapped=mapped)


def _trouble(path: Path, error: Exception) -> str:
    """The message for a file that could not be opened because of ``error``."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
    except OSError as unreadable:
        return f"cannot be read ({unreadable.strerror})."
    if start == _POINTER:
        return "is a Git LFS pointer and not the weights themselves; run `git lfs pull` where it was cloned."
    if not start:
        return "is empty."
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"cannot be read as a checkpoint; it may be damaged or cut short ({reason})."


HEAD_CHANNELS = 64
"""Channels of an attention head in every published Chatterbox model."""
SMALL_HEAD_CHANNELS = 16
"""The same in a model too narrow to be a published one."""
SMALL_WIDTH = 256


def head_count(width: int) -> int:
    """Attention heads of a layer with ``width`` channels, which the weights' shapes do not show."""
    channels = SMALL_HEAD_CHANNELS if width < SMALL_WIDTH else HEAD_CHANNELS
    if width <= 0 or width % channels:
        raise ValueError(f"{width} channels cannot be split into attention heads of {channels}.")
    return width // channels
