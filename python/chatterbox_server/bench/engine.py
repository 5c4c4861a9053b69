"""The engine, measured beside upstream's package."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .child import BenchError, Child
from .comparison import SECTIONS, Comparison, Effort
from .work import Floors

__all__ = ["PRECISIONS", "EngineOptions", "measure"]

PRECISIONS = {
    "fp32": ("fp32", "fp32"),
    "bf16": ("bf16", "fp32"),
    "int8": ("int8", "int8"),
    "int4": ("int4", "int8"),
}
"""``model_dtype`` and ``s3gen_dtype`` by the name of a precision."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What is measured, and how long."""

    models: Sequence[str]
    precisions: Sequence[str]
    """Names in ``PRECISIONS``; those that the engine does not have are passed over."""
    sections: Sequence[str]
    """Names in ``comparison.SECTIONS``."""
    device: str
    backend: str
    threads: int | None
    model_path: Path | None
    """Folder of the checkpoints; ``None`` leaves the place to the engine, and upstream out."""
    random_weights: Path | None
    """Folder in which checkpoints with random weights are made unless they are there."""
    tiny: bool
    upstream: bool
    batches: Sequence[int]
    effort: Effort


def measure(options: EngineOptions, tell: Tell) -> dict[str, Any]:
    """All figures, as JSON has them. Raises ``BenchError`` if nothing can be measured."""
    with Child("rates", {"device": options.device, "threads": options.threads}) as child:
        rates: dict[str, float] = child.ask("rates")
    tell(f"reads {rates['read_bytes'] / 1e9:.1f} GB/s, multiplies {rates['flops'] / 1e9:.0f} GFLOP/s")
    run = _Run(options, rates, tell)
    return {"rates": rates, "models": [result for model in options.models for result in run.model(model)]}


@dataclass(frozen=True, slots=True)
class _Run:
    options: EngineOptions
    rates: Mapping[str, float]
    tell: Tell

    def model(self, model: str) -> list[dict[str, Any]]:
        """A result for each precision."""
        options = self.options
        if options.random_weights is not None:
            self.tell(f"{model}: random weights in {options.random_weights / model}")
            weights = {"kind": model, "root": str(options.random_weights), "full": not options.tiny}
            with Child("weights", weights):
                pass
        if self._root is not None:
            _read(self._root / model)
        with contextlib.ExitStack() as stack:
            upstream, reason = None, "not asked for"
            if options.upstream:
                try:
                    upstream = stack.enter_context(self._upstream(model))
                    self.tell(f"{model}: upstream loaded in {upstream.seconds:.1f} s")
                except BenchError as error:
                    reason = str(error)
                    self.tell(f"{model}: without upstream: {reason}")
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="chatterbox-bench-"))
            results = [self._precision(model, name, upstream, Path(folder, "fp32")) for name in options.precisions]
        return results if upstream else [result | {"without_upstream": reason} for result in results]

    @property
    def _root(self) -> Path | None:
        return self.options.random_weights or self.options.model_path

    def _upstream(self, model: str) -> Child:
        root, options = self._root, self.options
        if root is None or not (root / model).is_dir():
            raise BenchError(f"its loader wants a folder {model} in --model-path")
        settings = {"models": [model], "checkpoint": str(root / model), "tiny": options.tiny}
        return Child("upstream", settings | {"device": options.device, "threads": options.threads})

    def _precision(self, model: str, precision: str, upstream: Child | None, reference: Path) -> dict[str, Any]:
        options, (t3, s3gen) = self.options, PRECISIONS[precision]
        settings = {
            "models": [model],
            "device": options.device,
            "backend": options.backend,
            "threads": options.threads,
            "model_path": None if self._root is None else str(self._root),
            "model_dtype": t3,
            "s3gen_dtype": s3gen,
            "slots": max(options.batches),
            "watermark": True,
        }
        result: dict[str, Any] = {"model": model, "precision": precision}
        try:
            ours = Child("ours", settings)
        except BenchError as error:
            self.tell(f"{model} {precision}: {error}")
            return result | {"unavailable": str(error)}
        with ours:
            self.tell(f"{model} {precision}: loaded in {ours.seconds:.1f} s")
            comparison = Comparison(
                model=model,
                exact=precision == "fp32",
                ours=ours,
                upstream=upstream,
                effort=options.effort,
                batches=options.batches,
                reference=reference,
            )
            comparison.loading()
            with comparison.part("floors"):
                work = ours.ask("work", characters=options.effort.characters)
                comparison.floors = Floors.of(work, self.rates, t3)
            for name in options.sections:
                self.tell(f"{model} {precision}: {name}")
                SECTIONS[name](comparison)
            return result | comparison.as_json()


def _read(folder: Path) -> None:
    """Read a checkpoint once, so that neither side waits for the disk."""
    block = memoryview(bytearray(16 << 20))
    if folder.is_dir():
        for path in (entry for entry in os.scandir(folder) if entry.is_file()):
            with open(path, "rb", buffering=0) as file:
                while file.readinto(block):
                    pass
