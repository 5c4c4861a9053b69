"""The vocoder's generator as the compiled module computes it equals torch's, which equals upstream's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from chatterbox_server._core import VocoderGenerator
from chatterbox_server.chatterbox.s3gen.generator import Generator
from chatterbox_server.chatterbox.s3gen.layers import Weights
from chatterbox_server.chatterbox.s3gen.model import S3Gen
from chatterbox_server.chatterbox.s3gen.native import NativeGenerator
from chatterbox_server.chatterbox.s3gen.noise import Noise
from chatterbox_server.chatterbox.s3gen.vocoder import SAMPLES_PER_FRAME, Vocoder
from chatterbox_server.chatterbox.tensors import CheckpointError, Tensors, open_tensors
from torch import Tensor

FRAMES = 44


@pytest.fixture(scope="module")
def tensors(checkpoints: Callable[[str], Path]) -> Tensors:
    return open_tensors(checkpoints("standard") / "s3gen.safetensors")


def weights_of(tensors: Tensors) -> Weights:
    return Weights(tensors.scope("mel2wav."), device=torch.device("cpu"), dtype=torch.float32)


def inputs(frames: int, *, rows: int = 1) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(frames)
    mel = torch.randn(rows, 80, frames, generator=random) * 2 - 5
    return mel, 0.1 * torch.randn(rows, frames * SAMPLES_PER_FRAME, generator=random)


@pytest.mark.parametrize("frames", [1, 2, 7, 60])
def test_samples_equal_torchs(tensors: Tensors, frames: int) -> None:
    mel, source = inputs(frames, rows=2)
    with torch.inference_mode():
        wanted = Generator(weights_of(tensors))(mel, source)
        found = NativeGenerator(weights_of(tensors))(mel, source)
    assert wanted.abs().max() > 1e-3
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_loud_samples_are_limited_as_torchs_are(tensors: Tensors) -> None:
    """Magnitudes beyond the largest, and samples beyond the loudest."""
    name = "mel2wav.conv_post.bias"
    bias = tensors[name].clone()
    bias[:9] = 6.0
    loud = Tensors(tensors.path, {**dict(tensors.items()), name: bias})
    mel, source = inputs(5)
    with torch.inference_mode():
        wanted = Generator(weights_of(loud))(mel, source)
        found = NativeGenerator(weights_of(loud))(mel, source)
    assert wanted.abs().max() == pytest.approx(0.99)
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=0)


@pytest.mark.parametrize("cut", [[1] * FRAMES, [20, 24], [5] * 8 + [4]], ids=["1", "20-24", "5"])
def test_streamed_samples_equal_whole(tensors: Tensors, cut: list[int]) -> None:
    vocoder = Vocoder(weights_of(tensors), generator=NativeGenerator)
    mel, noise = inputs(FRAMES)[0][0], Noise(11)
    stream = vocoder.stream(noise)
    streamed = torch.cat([*(stream.push(piece) for piece in mel.split(cut, dim=1)), stream.finish()])
    torch.testing.assert_close(streamed, vocoder.whole(mel, noise), atol=1e-5, rtol=0)
    torch.testing.assert_close(streamed, Vocoder(weights_of(tensors)).whole(mel, noise), atol=1e-5, rtol=0)


def test_native_backend_uses_native_generator(tensors: Tensors) -> None:
    mel, noise = inputs(12)[0][0], Noise(3)
    native = S3Gen.from_tensors(tensors, device="cpu", dtype=torch.float32, backend="native")
    torchs = S3Gen.from_tensors(tensors, device="cpu", dtype=torch.float32)
    assert isinstance(native.vocoder._generator, NativeGenerator)
    assert isinstance(torchs.vocoder._generator, Generator)
    found, wanted = native.vocoder.whole(mel, noise), torchs.vocoder.whole(mel, noise)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("conv_pre.bias", None, "conv_pre.bias"),
        ("conv_post.bias", (3,), "conv_post"),
        ("resblocks.4.activations1.0.alpha", (3,), "stage 1"),
        ("source_downs.1.weight", (3, 18, 6), "source_downs.1"),
        ("source_downs.2.bias", (2, 2), "source_downs.2"),
    ],
)
def test_damaged_generator_is_refused(tensors: Tensors, name: str, shape: tuple[int, ...] | None, message: str) -> None:
    name = f"mel2wav.{name}"
    content = {key: value for key, value in tensors.items() if key != name}
    if shape is not None:
        content[name] = torch.zeros(shape)
    with pytest.raises(CheckpointError, match=message):
        NativeGenerator(weights_of(Tensors(tensors.path, content)))


def test_wrong_arguments_are_refused(tensors: Tensors) -> None:
    generator = NativeGenerator(weights_of(tensors))._generator
    mel, source = np.zeros((2, 80), np.float32), np.zeros(2 * SAMPLES_PER_FRAME, np.float32)
    for arguments in (
        (mel[:, 1:].copy(), source, source.copy()),
        (mel[:0], source[:0], source[:0].copy()),
        (mel, source[1:], source.copy()),
        (mel, source, source[1:].copy()),
    ):
        with pytest.raises(ValueError, match="has shape"):
            generator.run(*arguments)
    with pytest.raises(ValueError, match="is 0"):
        VocoderGenerator(lambda name, *shape: mel, [8, 0, 3], 9, [1, 3, 5])
