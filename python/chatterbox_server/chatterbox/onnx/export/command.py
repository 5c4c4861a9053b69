"""The command ``chatterbox-server export-onnx``."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from ...tensors import CheckpointError

__all__ = ["main"]

_PROGRAM = "chatterbox-server export-onnx"
_DTYPES = ("fp32", "fp16", "q8", "q4", "q4f16")


def main(arguments: Sequence[str]) -> int:
    """Make graphs of a checkpoint as ``arguments`` say; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Make the ONNX graphs of turbo or nano, for BACKEND=onnx, of a checkpoint in upstream's layout.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT_FOLDER", help="the folder of the weights")
    parser.add_argument("out", type=Path, metavar="OUT_FOLDER", help="where the graphs go, below onnx/")
    parser.add_argument("--model", choices=("turbo", "nano"), default="turbo", help="whose weights they are")
    parser.add_argument(
        "--dtype", action="append", choices=_DTYPES, help="precision; may be given several times (default: fp32)"
    )
    given = parser.parse_args(arguments)
    for package in ("onnx", "torch", "torchaudio"):
        if importlib.util.find_spec(package) is None:
            return _failed(f"the package {package} is missing; run: make install-chatterbox")
    from ...checkpoint import locate
    from .checkpoint import export

    try:
        files = locate(
            given.model, model_path=given.checkpoint, multilingual_version="v2", progress=lambda what, done, total: None
        )
        export(given.model, files, given.out, given.dtype or ["fp32"], print)
    except CheckpointError as error:
        return _failed(str(error))
    except OSError as error:
        return _failed(f"{error.filename or given.out}: {error.strerror}")
    return 0


def _failed(problem: str) -> int:
    print(f"error: {problem}", file=sys.stderr)
    return 1
