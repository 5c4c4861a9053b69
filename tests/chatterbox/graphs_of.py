"""ONNX graphs of tiny checkpoints."""

from __future__ import annotations

import functools
from pathlib import Path

from chatterbox_server.chatterbox.checkpoint import locate
from chatterbox_server.chatterbox.onnx.export.checkpoint import export

__all__ = ["graphs_of"]


@functools.cache
def graphs_of(model: str, checkpoint: Path, *dtypes: str) -> Path:
    """The folder that has the graphs of ``model`` in a folder of its name. Read only."""
    root = checkpoint.parent / f"graphs-{'-'.join((model, *dtypes))}"
    files = locate(model, model_path=checkpoint, multilingual_version="v2", progress=lambda what, done, total: None)
    export(model, files, root / model, dtypes, lambda path: None)
    return root
