"""What S3Gen may do otherwise than upstream, if it is told to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from chatterbox_server.chatterbox import checkpoint
from chatterbox_server.chatterbox.checkpoint import locate_mean_flow
from chatterbox_server.chatterbox.conditionals import Conditionals
from chatterbox_server.chatterbox.interfaces import MelJob
from chatterbox_server.chatterbox.s3gen.model import S3Gen
from chatterbox_server.chatterbox.s3gen.noise import Noise
from chatterbox_server.chatterbox.tensors import CheckpointError, Tensors, open_tensors

FILES = {"standard": "s3gen.safetensors", "turbo": "s3gen_meanflow.safetensors"}
Load = Callable[..., S3Gen]


@pytest.fixture(scope="module")
def tensors(checkpoints: Callable[[str], Path]) -> Callable[[str], Tensors]:
    return lambda kind: open_tensors(checkpoints(kind) / FILES[kind])


@pytest.fixture(scope="module")
def load(tensors: Callable[[str], Tensors]) -> Load:
    def load(kind: str, **options: Any) -> S3Gen:
        return S3Gen.from_tensors(tensors(kind), device="cpu", dtype=torch.float32, **options)

    return load


def voice(reference: int) -> Conditionals:
    """A voice with so many tokens of reference, whose longer ones begin like the shorter ones."""
    generator = torch.Generator().manual_seed(5)
    return Conditionals(
        t3_speaker=torch.zeros(256),
        t3_tokens=torch.arange(7),
        s3_tokens=torch.randint(0, 6561, (100,), generator=generator)[:reference],
        s3_mel=torch.randn(200, 80, generator=generator)[: 2 * reference] - 5,
        s3_speaker=torch.randn(192, generator=generator),
    )


def job(reference: int, steps: int | None = None) -> MelJob:
    known, noise = voice(reference), Noise(3)
    return MelJob(
        voice=known,
        tokens=torch.arange(12) * 500,
        noise=noise.mel(0, 24),
        prompt_noise=noise.prompt(known.s3_mel.shape[0]),
        final=True,
        steps=steps,
    )


def test_fewer_steps(load: Load) -> None:
    (wanted,) = load("standard").mels([job(20, steps=4)])
    model = load("standard", steps=4)
    (found,) = model.mels([job(20)])
    assert torch.equal(found, wanted)
    stages = model.begin([job(20)])
    with torch.inference_mode():
        assert sum(1 for _ in stages) == 4


def test_mean_flow_refuses_steps(load: Load) -> None:
    assert torch.equal(load("turbo", steps=4).mels([job(20)])[0], load("turbo").mels([job(20)])[0])


@pytest.mark.parametrize("kind", FILES)
def test_cut_reference_equals_shorter_reference(load: Load, kind: str) -> None:
    whole, cut = load(kind), load(kind, reference_seconds=1.2)
    assert torch.equal(cut.mels([job(80)])[0], whole.mels([job(30)])[0])
    assert not torch.equal(whole.mels([job(80)])[0], whole.mels([job(30)])[0])
    # What is short already stays as it is.
    assert torch.equal(cut.mels([job(17)])[0], whole.mels([job(17)])[0])


def test_shortened_voice_changes_only_s3gen_reference() -> None:
    long = voice(80)
    short = long.shortened(30)
    assert (short.s3_tokens.numel(), short.s3_mel.shape) == (30, (60, 80))
    for name in ("t3_speaker", "t3_tokens", "s3_speaker"):
        assert getattr(short, name) is getattr(long, name)
    assert long.shortened(80) is long


def test_mean_flow_decoder_is_turbos_file(checkpoints: Callable[[str], Path], tmp_path: Path) -> None:
    def locate(root: Path | None) -> Path:
        return locate_mean_flow(model_path=root, progress=lambda what, done, total: None)

    name = FILES["turbo"]
    assert locate(checkpoints("turbo").parent) == checkpoints("turbo") / name
    assert locate(checkpoints("turbo")) == checkpoints("turbo") / name
    with pytest.raises(CheckpointError, match=f"S3GEN_DECODER.*{name}.*hf download"):
        locate(tmp_path)
    (tmp_path / "chatterbox-turbo").mkdir()
    (tmp_path / "chatterbox-turbo" / name).touch()
    assert locate(tmp_path) == tmp_path / "chatterbox-turbo" / name
    with mock.patch.object(checkpoint, "fetch", return_value={name: tmp_path / name}) as fetch:
        assert locate(None) == tmp_path / name
    assert fetch.call_args.args[1] == (name,)
