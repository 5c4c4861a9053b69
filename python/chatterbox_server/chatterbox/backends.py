"""What computes the models, and in which precision: which choices go together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .._core import S3GenSettings

__all__ = ["Choice", "SettingError", "check_s3gen", "choose"]

_SAME = {"q8": "int8", "q4": "int4"}
"""What the published graphs call precisions, and what the other backends do."""
_OFFERED = {
    "native": ("fp32", "bf16", "int8", "int4"),
    "torch": ("fp32", "bf16", "fp16"),
    "onnx": ("fp32", "fp16", "q8", "q4", "q4f16"),
}
_GRAPHS = ("turbo", "nano")
"""Models that there are graphs of."""


class SettingError(Exception):
    """A setting cannot be met on this machine; the message is a sentence that names it."""


def check_s3gen(settings: S3GenSettings, backend: str, device: str) -> None:
    """Raises ``SettingError`` for what ``backend`` on ``device`` does not have."""
    if backend == "onnx" and settings != S3GenSettings():
        raise SettingError("S3GEN_*: the graphs of BACKEND=onnx have S3Gen built in; leave these settings out.")
    if settings.decoder == "meanflow" and settings.steps is not None:
        raise SettingError("S3GEN_STEPS: a mean-flow decoder has two steps; leave it out with S3GEN_DECODER=meanflow.")
    if settings.dtype == "int8" and backend != "native":
        raise SettingError(f"S3GEN_DTYPE: int8 is computed by BACKEND=native on a CPU, not by {backend}; use fp32.")
    if settings.dtype == "bf16" and (backend, device) != ("torch", "cuda"):
        raise SettingError(f"S3GEN_DTYPE: bf16 is for BACKEND=torch on CUDA, not {backend} on {device}; use fp32.")


@dataclass(frozen=True, slots=True)
class Choice:
    """A backend and a precision that it has, by the name that it has there."""

    backend: str
    dtype: str


def choose(backend: str, dtype: str, *, models: Iterable[str], device: str) -> Choice:
    """What ``BACKEND`` and ``MODEL_DTYPE`` come to for ``models`` on ``device`` ("cpu", "cuda" or "mps").

    Raises ``SettingError`` for what cannot be met.
    """
    if backend == "auto":
        backend = "native" if device == "cpu" and _offers("native", dtype) else "torch"
    if backend == "native" and device != "cpu":
        raise SettingError(f"BACKEND: native computes on the CPU, not on {device}; use torch, or DEVICE=cpu.")
    strangers = [name for name in models if name not in _GRAPHS]
    if backend == "onnx" and strangers:
        raise SettingError(
            f"BACKEND: onnx speaks {' and '.join(_GRAPHS)} alone, there are no graphs of {', '.join(strangers)}; load "
            "one without the other, or use another backend."
        )
    return Choice(backend, _precision(backend, dtype, device))


def _offers(backend: str, dtype: str) -> bool:
    return dtype == "auto" or not _names(dtype).isdisjoint(_OFFERED[backend])


def _names(dtype: str) -> set[str]:
    """What a precision is called, here and there."""
    return {dtype, *(name for pair in _SAME.items() if dtype in pair for name in pair)}


def _precision(backend: str, dtype: str, device: str) -> str:
    offered = _OFFERED[backend]
    if dtype == "auto":
        if device != "cuda":
            return "fp32"
        return "fp16" if backend == "onnx" else "bf16"
    names = _names(dtype)
    found = next((name for name in offered if name in names), None)
    if found is None:
        others = [other for other, has in _OFFERED.items() if names & set(has)]
        raise SettingError(
            f"MODEL_DTYPE: BACKEND={backend} has {', '.join(offered)}, not {dtype}; use one of them, "
            f"or BACKEND={' or '.join(others)}."
        )
    return found
