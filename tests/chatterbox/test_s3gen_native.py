"""S3Gen's estimator as the compiled module computes it equals torch's, which equals upstream's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from chatterbox_server._core import FlowEstimator
from chatterbox_server.chatterbox.conditionals import Conditionals
from chatterbox_server.chatterbox.interfaces import MelJob
from chatterbox_server.chatterbox.packed import Precision
from chatterbox_server.chatterbox.s3gen.estimator import TorchNetwork
from chatterbox_server.chatterbox.s3gen.layers import Weights
from chatterbox_server.chatterbox.s3gen.model import S3Gen
from chatterbox_server.chatterbox.s3gen.native import NativeNetwork
from chatterbox_server.chatterbox.s3gen.noise import Noise
from chatterbox_server.chatterbox.tensors import CheckpointError, Tensors, open_tensors
from numpy.typing import NDArray
from torch import Tensor

KINDS = ("standard", "turbo")
FILES = {"standard": "s3gen.safetensors", "turbo": "s3gen_meanflow.safetensors"}
CHANNELS, OUTPUTS = 320, 80
Open = Callable[[str], Tensors]


@pytest.fixture(scope="module")
def tensors(checkpoints: Callable[[str], Path]) -> Open:
    return lambda kind: open_tensors(checkpoints(kind) / FILES[kind])


@pytest.fixture(scope="module")
def estimator(tensors: Open) -> Weights:
    scope = tensors("standard").scope("flow.decoder.estimator.")
    return Weights(scope, device=torch.device("cpu"), dtype=torch.float32)


def job(number: int, tokens: int, *, prompt: int = 20, final: bool = True) -> MelJob:
    generator, noise = torch.Generator().manual_seed(number), Noise(number)
    voice = Conditionals(
        t3_speaker=torch.zeros(256),
        t3_tokens=torch.zeros(0, dtype=torch.int64),
        s3_tokens=torch.randint(0, 6561, (prompt,), generator=generator),
        s3_mel=torch.randn(2 * prompt, 80, generator=generator) - 5,
        s3_speaker=torch.randn(192, generator=generator),
    )
    return MelJob(
        voice=voice,
        tokens=torch.randint(0, 6561, (tokens,), generator=generator),
        noise=noise.mel(0, 2 * tokens),
        prompt_noise=noise.prompt(2 * prompt),
        final=final,
    )


def inputs(weights: Weights, rows: int, frames: int) -> tuple[Tensor, Tensor]:
    """Noisy mels with conditions, and biases of a step."""
    generator = torch.Generator().manual_seed(frames)
    blocks = len(weights.layers("mid_blocks.")) + 2
    width = weights.tensor("final_proj.weight", OUTPUTS, -1, 1).shape[1]
    x = torch.randn(rows, frames, CHANNELS, generator=generator)
    return x, torch.randn(rows, blocks, width, generator=generator)


@pytest.mark.parametrize("frames", [1, 2, 7, 40, 250])
def test_network_equals_torchs(estimator: Weights, frames: int) -> None:
    x, biases = inputs(estimator, 2, frames)
    with torch.inference_mode():
        wanted = TorchNetwork(estimator)(x, biases, None)
        found = NativeNetwork(estimator, "fp32")(x, biases, None)
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_row_is_independent_of_batch(estimator: Weights, precision: Precision) -> None:
    network = NativeNetwork(estimator, precision)
    lengths = [9, 250, 1, 77]
    x, biases = inputs(estimator, len(lengths), max(lengths))
    real = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    x[~real] = torch.nan
    with torch.inference_mode():
        together = network(x, biases, real)
        for row, length in enumerate(lengths):
            alone = network(x[row : row + 1, :length], biases[row : row + 1], None)
            assert torch.equal(together[row, :length], alone[0])
    assert together.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_mels_equal_torchs(tensors: Open, kind: str) -> None:
    wanted = S3Gen.from_tensors(tensors(kind), device="cpu", dtype=torch.float32)
    found = S3Gen.from_tensors(tensors(kind), device="cpu", dtype=torch.float32, backend="native")
    jobs = [job(1, 12), job(2, 30, prompt=41), job(3, 8, final=False)]
    for native, torchs in zip(found.mels(jobs), wanted.mels(jobs), strict=True):
        torch.testing.assert_close(native, torchs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_int8_approximates_fp32(tensors: Open, kind: str) -> None:
    """Ten times nearer than another seed is."""
    exact = S3Gen.from_tensors(tensors(kind), device="cpu", dtype=torch.float32, backend="native")
    near = S3Gen.from_tensors(tensors(kind), device="cpu", dtype=torch.float32, backend="native", precision="int8")
    given = job(1, 30)
    other = MelJob(
        voice=given.voice,
        tokens=given.tokens,
        noise=Noise(9).mel(0, 60),
        prompt_noise=Noise(9).prompt(40),
        final=True,
    )
    (wanted,), (found,), (another,) = exact.mels([given]), near.mels([given]), exact.mels([other])
    distance, yardstick = (found - wanted).abs().mean(), (another - wanted).abs().mean()
    assert 0 < distance < yardstick / 10


def test_damaged_estimator_is_refused(tensors: Open) -> None:
    def changed(name: str, tensor: Tensor | None) -> Tensors:
        whole = tensors("standard")
        content = {key: value for key, value in whole.items() if key != name}
        return Tensors(whole.path, content if tensor is None else {**content, name: tensor})

    name = "flow.decoder.estimator.mid_blocks.0.1.0.ff.net.0.proj.bias"
    for tensor, message in (
        (None, "ff.net.0.proj.bias"),
        (torch.zeros(3), "transformer layer"),
        (torch.zeros(2, 2), name),
    ):
        with pytest.raises(CheckpointError, match=message):
            S3Gen.from_tensors(changed(name, tensor), device="cpu", dtype=torch.float32, backend="native")


def test_wrong_arguments_are_refused(tensors: Open, estimator: Weights) -> None:
    with pytest.raises(ValueError, match="CPU in float32"):
        S3Gen.from_tensors(tensors("standard"), device="cpu", dtype=torch.bfloat16, backend="native")

    def get_weight(name: str, *shape: int) -> NDArray[np.float32]:
        array: NDArray[np.float32] = estimator.tensor(name, *shape).numpy()
        return array

    with pytest.raises(ValueError, match="int3"):
        FlowEstimator(get_weight, (1, [1], 1), 16, "int3")
    with pytest.raises(ValueError, match="layer"):
        FlowEstimator(get_weight, (1, [1], 1), 7, "fp32")
    with pytest.raises(BufferError):
        FlowEstimator(lambda name, *shape: get_weight(name, *shape).astype(np.float64), (1, [1], 1), 16, "fp32")
    x, biases = inputs(estimator, 1, 5)
    layers = [len(estimator.layers(f"mid_blocks.{block}.1.")) for block in range(biases.shape[1] - 2)]
    network = FlowEstimator(get_weight, (len(estimator.layers("down_blocks.0.1.")), layers, 1), 16, "fp32")
    y = np.zeros((1, 5, OUTPUTS), np.float32)
    for arguments in (
        (x.numpy()[:, :, :3].copy(), biases.numpy(), [5], y),
        (x.numpy(), biases.numpy()[:, 1:].copy(), [5], y),
        (x.numpy(), biases.numpy(), [6], y),
        (x.numpy(), biases.numpy(), [5, 5], y),
        (x.numpy(), biases.numpy(), [5], y[:, 1:].copy()),
    ):
        with pytest.raises(ValueError, match=r"shape|longer"):
            network.run(*arguments)
