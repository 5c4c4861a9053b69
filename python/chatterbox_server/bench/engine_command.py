"""Measure the engine part by part and as a whole, in turns with upstream's unmodified package (chatterbox-tts).

Figures are medians; a ratio is the median of pairs that were measured one after the other. A floor is what no
implementation gets below on this machine: the bytes that have to be read, or the floating point operations that have
to be made (of fp32), at the rates that were measured first. A target is "at least / aim", as a ratio.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .. import how_to_install
from ..chatterbox.model_spec import PROFILES
from ..loading import CHATTERBOX
from . import engine
from .child import BenchError
from .comparison import SECTIONS, Effort
from .report import engine_tables

__all__ = ["add_options", "counts", "measure", "render"]

_NORMAL = Effort(
    rounds=5,
    long_rounds=2,
    steps=20,
    characters=70,
    together_seconds=4.0,
    lengths=(2.0, 4.0, 8.0, 16.0),
    distance_tokens=100,
    budget_seconds=60.0,
)
_QUICK = Effort(
    rounds=2,
    long_rounds=1,
    steps=6,
    characters=70,
    together_seconds=1.0,
    lengths=(1.0, 2.0),
    distance_tokens=25,
    budget_seconds=20.0,
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of ``bench engine``."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--model-path",
        type=Path,
        default=_from_environment("MODEL_PATH"),
        metavar="FOLDER",
        help="checkpoints, each in a folder called like its model (environment: MODEL_PATH)",
    )
    source.add_argument(
        "--random-weights",
        type=Path,
        nargs="?",
        const=_cache(),
        metavar="FOLDER",
        help="checkpoints of the real size with random weights, made by upstream's classes in FOLDER (default: "
        f"{_cache()}) unless they are there: 3 GB a model",
    )
    parser.add_argument("--tiny", action="store_true", help="with --random-weights: of a few million weights instead")
    parser.add_argument(
        "--models", type=_names(CHATTERBOX), default=["turbo"], help=f"of {','.join(CHATTERBOX)} (default: turbo)"
    )
    precisions = ",".join(engine.PRECISIONS)
    parser.add_argument(
        "--precisions",
        type=_names(engine.PRECISIONS),
        default=list(engine.PRECISIONS),
        help=f"of {precisions} (default: all that the engine has); S3Gen is fp32, with int8 and int4 int8; -short: it "
        "sees 3 s of the reference; -meanflow: it is turbo's",
    )
    parser.add_argument("--only", type=_names(SECTIONS), default=list(SECTIONS), help=f"of {','.join(SECTIONS)}")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or mps (default: cpu)")
    parser.add_argument("--backend", default="auto", help="auto, native, torch or onnx (default: auto)")
    parser.add_argument("--profile", choices=PROFILES, default="balanced", help="as PROFILE (default: balanced)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: the engine's choice)")
    parser.add_argument(
        "--batches",
        type=counts,
        help="requests at once (default: 1,2,4,8,16; on CUDA 1,4,16,64,256)",
    )
    parser.add_argument("--no-upstream", action="store_true", help="measure this engine alone")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, with rougher figures")


def measure(given: argparse.Namespace, log: Callable[[str], None]) -> dict[str, Any]:
    """All figures, as JSON has them."""
    if importlib.util.find_spec("torch") is None:
        raise BenchError(f"torch cannot be imported; {how_to_install('chatterbox')}")
    if given.tiny and given.random_weights is None:
        raise BenchError("--tiny goes with --random-weights")
    if given.model_path is not None and not given.model_path.is_dir() and given.random_weights is None:
        raise BenchError(f"--model-path: there is no folder {given.model_path}")
    options = engine.EngineOptions(
        models=given.models,
        precisions=given.precisions,
        sections=given.only,
        device=given.device,
        backend=given.backend,
        profile=given.profile,
        threads=given.threads,
        model_path=given.model_path,
        random_weights=_apart(given.random_weights, tiny=given.tiny),
        tiny=given.tiny,
        upstream=not given.no_upstream,
        batches=given.batches or ([1, 4, 16, 64, 256] if given.device == "cuda" else [1, 2, 4, 8, 16]),
        effort=_QUICK if given.quick else _NORMAL,
    )
    return {"bench": "engine", "options": _plain(options)} | engine.measure(options, log)


def render(results: Mapping[str, Any]) -> str:
    return engine_tables(results)


def _names(known: Any) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        found = [name.strip() for name in text.split(",")]
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is unknown; there are {', '.join(known)}")
        return found

    return names


def counts(text: str) -> list[int]:
    """Numbers of 1 and more out of "1,2,4", in order."""
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = [0]
    if found[0] < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers of 1 and more, as in 1,2,4")
    return found


def _from_environment(name: str) -> Path | None:
    value = os.environ.get(name)
    return Path(value) if value else None


def _cache() -> Path:
    """Where checkpoints are made."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "chatterbox-server", "random-weights")


def _apart(folder: Path | None, *, tiny: bool) -> Path | None:
    """Tiny checkpoints have the names of real ones, so they lie in a folder of their own."""
    return folder / "tiny" if folder is not None and tiny else folder


def _plain(options: engine.EngineOptions) -> dict[str, object]:
    return {
        "device": options.device,
        "backend": options.backend,
        "profile": options.profile,
        "threads": options.threads,
        "batches": list(options.batches),
        "weights": "random" if options.random_weights else "given",
        "tiny": options.tiny,
        "rounds": options.effort.rounds,
    }
