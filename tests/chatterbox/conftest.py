from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chatterbox_server.bench import random_weights, upstream_package
from chatterbox_server.chatterbox.voices.prepare import GPT2_RECIPE, LLAMA_RECIPE, TorchVoicePreparer
from voice_preparation import FILES


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a tiny checkpoint of a kind: standard, turbo, multilingual or nano. Read only."""
    root = tmp_path_factory.mktemp("checkpoints")
    return functools.cache(lambda kind: random_weights.write(kind, root / kind))


@pytest.fixture(scope="session")
def upstream(checkpoints: Callable[[str], Path]) -> Callable[[str], Any]:
    """Gives upstream's own model of a kind, loaded from the tiny checkpoint. Tests must not change it."""
    return functools.cache(lambda kind: upstream_package.load(kind, checkpoints(kind)))


@pytest.fixture(scope="session")
def preparers(checkpoints: Callable[[str], Path]) -> Callable[[str], TorchVoicePreparer]:
    """Gives what prepares voices for a kind of model."""

    def make(kind: str) -> TorchVoicePreparer:
        s3gen, voice_encoder = (checkpoints(kind) / name for name in FILES[kind])
        recipe = GPT2_RECIPE if kind == "turbo" else LLAMA_RECIPE
        return TorchVoicePreparer(s3gen=s3gen, voice_encoder=voice_encoder, recipe=recipe)

    return functools.cache(make)


@pytest.fixture
def reference(upstream: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Gives upstream's model of a kind, whose conditionals a test may replace."""
    import pyloudnorm

    # Under NumPy 2 upstream's gain is a float64 that turns the clip into float64; under NumPy 1 it does not.
    measure = pyloudnorm.Meter.integrated_loudness
    monkeypatch.setattr(pyloudnorm.Meter, "integrated_loudness", lambda self, clip: float(measure(self, clip)))

    def make(kind: str) -> Any:
        model = copy.copy(upstream(kind))
        for block in model.s3gen.tokenizer.encoder.blocks:
            # The rotary table of upstream's tokeniser has room for heads of 64 channels only.
            block.attn.n_head = block.attn.query.weight.shape[0] // 64
        return model

    return make
