"""The engine, measured beside upstream's package."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .child import BenchError, Child
from .comparison import SECTIONS, Comparison, Effort
from .work import Floors

__all__ = ["PRECISIONS", "EngineOptions", "measure"]


@dataclass(frozen=True, slots=True)
class Precision:
    """An engine's settings, by their names."""

    model_dtype: str
    s3gen: Mapping[str, object]


PRECISIONS = {
    "fp32": Precision("fp32", {"dtype": "fp32"}),
    "bf16": Precision("bf16", {"dtype": "fp32"}),
    "int8": Precision("int8", {"dtype": "int8"}),
    "int4": Precision("int4", {"dtype": "int8"}),
    "int4-short": Precision("int4", {"dtype": "int8", "prompt_seconds": 3.0}),
    "int8-meanflow": Precision("int8", {"dtype": "int8", "decoder": "meanflow"}),
}
"""By name. The last two change more than the rounding, and are named after what they change: S3Gen sees the last
seconds of the reference only, or is turbo's."""
_OWN_MEAN_FLOW = ("turbo", "nano")

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """The models, precisions and lengths to measure."""

    models: Sequence[str]
    precisions: Sequence[str]
    """Names in ``PRECISIONS``; those that the engine does not have are skipped."""
    sections: Sequence[str]
    """Names in ``comparison.SECTIONS``."""
    device: str
    backend: str
    profile: str
    threads: int | None
    model_path: Path | None
    """Folder of the checkpoints; ``None`` leaves the place to the engine, and upstream out."""
    random_weights: Path | None
    """Folder in which checkpoints with random weights are made unless they are there."""
    tiny: bool
    upstream: bool
    batches: Sequence[int]
    effort: Effort


def measure(options: EngineOptions, log: Log) -> dict[str, Any]:
    """All figures, as JSON has them. Raises ``BenchError`` if nothing can be measured."""
    with Child("rates", {"device": options.device, "threads": options.threads}) as child:
        rates: dict[str, float] = child.ask("rates")
    log(f"reads {rates['read_bytes'] / 1e9:.1f} GB/s, multiplies {rates['flops'] / 1e9:.0f} GFLOP/s")
    run = _Run(options, rates, log)
    return {"rates": rates, "models": [result for model in options.models for result in run.model(model)]}


@dataclass(frozen=True, slots=True)
class _Run:
    options: EngineOptions
    rates: Mapping[str, float]
    log: Log

    def model(self, model: str) -> list[dict[str, Any]]:
        """A result for each precision."""
        options = self.options
        if options.random_weights is not None:
            self.log(f"{model}: random weights in {options.random_weights / model}")
            self._made(model)
            if self._precisions(model, "meanflow"):
                self._made("turbo")
        if self._root is not None:
            _read(self._root / model)
        with contextlib.ExitStack() as stack:
            upstream, reason = None, "not asked for"
            if options.upstream:
                try:
                    upstream = stack.enter_context(self._upstream(model))
                    self.log(f"{model}: upstream loaded in {upstream.seconds:.1f} s")
                except BenchError as error:
                    reason = str(error)
                    self.log(f"{model}: without upstream: {reason}")
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="chatterbox-bench-"))
            results = [self._precision(model, name, upstream, Path(folder, "fp32")) for name in self._precisions(model)]
        return results if upstream else [result | {"without_upstream": reason} for result in results]

    def _made(self, model: str) -> None:
        """Make a checkpoint unless it is there."""
        options = self.options
        with Child("weights", {"kind": model, "root": str(options.random_weights), "full": not options.tiny}):
            pass

    def _precisions(self, model: str, decoder: str | None = None) -> list[str]:
        """The names of those to be measured; a decoder that the model has anyway is no other one."""
        known = {name: PRECISIONS[name].s3gen.get("decoder", "auto") for name in self.options.precisions}
        own = "meanflow" if model in _OWN_MEAN_FLOW else None
        return [name for name, of in known.items() if of != own and (decoder is None or of == decoder)]

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
        options, chosen = self.options, PRECISIONS[precision]
        settings = {
            "models": [model],
            "device": options.device,
            "backend": options.backend,
            "profile": options.profile,
            "threads": options.threads,
            "model_path": None if self._root is None else str(self._root),
            **asdict(chosen),
            "slots": max(options.batches),
            "watermark": True,
        }
        result: dict[str, Any] = {"model": model, "precision": precision}
        try:
            ours = Child("ours", settings)
        except BenchError as error:
            self.log(f"{model} {precision}: {error}")
            return result | {"unavailable": str(error)}
        with ours:
            self.log(f"{model} {precision}: loaded in {ours.seconds:.1f} s")
            comparison = Comparison(
                model=model,
                exact=precision == "fp32",
                mean_flow=chosen.s3gen.get("decoder") == "meanflow",
                ours=ours,
                upstream=upstream,
                effort=options.effort,
                batches=options.batches,
                reference=reference,
            )
            comparison.loading()
            with comparison.part("floors"):
                work = ours.ask("work", characters=options.effort.characters)
                comparison.floors = Floors.of(work, self.rates, chosen.model_dtype)
            for name in options.sections:
                self.log(f"{model} {precision}: {name}")
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
