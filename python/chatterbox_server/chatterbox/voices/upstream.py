"""Upstream's network that hears a clip's speaker for S3Gen. The only place that imports upstream's code, and only when
called.

It runs once per voice, so nothing would be gained by writing it anew. It is built of the sizes that the weights have.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import torch

from ..tensors import Tensors
from .networks import Unfilled, fill

__all__ = ["import_all", "resampler", "speaker_encoder"]

ROOT = f"{__package__}.models"
IMPORTS = ("torchaudio.compliance.kaldi", "torchaudio.transforms", "soxr")
"""What preparing a voice takes besides upstream's file. What ``librosa``, ``pyloudnorm`` and ``s3tokenizer`` would be
imported for is in this package: with what they import in turn they take seconds, and 150 MB."""
SPEAKER = "s3gen.xvector"


def import_all() -> Iterator[None]:
    """Import what preparing a voice needs, yielding between the parts."""
    for name in IMPORTS:
        importlib.import_module(name)
        yield
    _upstream_module(SPEAKER)
    yield


def _upstream_module(name: str) -> Any:
    """The module ``name`` below upstream's ``chatterbox.models``.

    Importing it under its own name would run ``chatterbox/__init__.py`` and ``models/s3gen/__init__.py``, which import
    every model, their training helpers and the watermarker: 12 s and 220 MB for nothing. So upstream's files are
    loaded below an empty package of ours, beside which upstream's real package can still be imported.
    """
    folder = _models_folder()
    _empty_package(ROOT, folder)
    parents = name.split(".")[:-1]
    if parents[0] == "s3gen":
        for depth in range(1, len(parents) + 1):
            _empty_package(f"{ROOT}.{'.'.join(parents[:depth])}", folder.joinpath(*parents[:depth]))
    return importlib.import_module(f"{ROOT}.{name}")


def _models_folder() -> Path:
    spec = importlib.util.find_spec("chatterbox")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("Preparing a voice needs the package chatterbox-tts, which is not installed.")
    return Path(spec.submodule_search_locations[0]) / "models"


def _empty_package(name: str, folder: Path) -> None:
    if name not in sys.modules:
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        sys.modules[name] = importlib.util.module_from_spec(spec)


def resampler(rate: int, target: int, device: torch.device) -> Any:
    """torchaudio's resampler, which upstream's ``embed_ref`` uses; its bits differ from ``soxr``'s."""
    return importlib.import_module("torchaudio.transforms").Resample(rate, target).to(device)


def speaker_encoder(tensors: Tensors, device: torch.device) -> Any:
    """CAMPPlus, from the ``speaker_encoder.`` part of S3Gen's file."""
    layer = "xvector.block1.tdnnd1"
    growth = tensors[f"{layer}.cam_layer.linear_local.weight"].shape[0]
    with Unfilled():
        network = _upstream_module(SPEAKER).CAMPPlus(
            embedding_size=tensors["xvector.dense.linear.weight"].shape[0],
            growth_rate=growth,
            bn_size=tensors[f"{layer}.linear1.weight"].shape[0] // growth,
            init_channels=tensors["xvector.tdnn.linear.weight"].shape[0],
            memory_efficient=False,
        )
    return fill(network, tensors, device)
