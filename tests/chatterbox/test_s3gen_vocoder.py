from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from chatterbox_server.chatterbox.s3gen.layers import Weights
from chatterbox_server.chatterbox.s3gen.noise import Noise
from chatterbox_server.chatterbox.s3gen.vocoder import SAMPLES_PER_FRAME, Source, Vocoder
from chatterbox_server.chatterbox.tensors import Tensors, open_tensors
from torch import Tensor

HARMONICS = 9
FRAMES = 44
SEED = 11

Voicing = tuple[float, float]
"""What the pitch classifier's weights and its bias are multiplied by and set to."""
VOICINGS: dict[str, Voicing] = {"unvoiced": (1.0, 0.0), "voiced": (1.0, 220.0), "both": (400.0, 12.0)}


@pytest.fixture(scope="module")
def reference(upstream: Callable[[str], Any]) -> Any:
    """Upstream's vocoder."""
    return upstream("standard").s3gen.mel2wav


@pytest.fixture(scope="module")
def tensors(checkpoints: Callable[[str], Path]) -> Tensors:
    return open_tensors(checkpoints("standard") / "s3gen.safetensors").scope("mel2wav.")


@pytest.fixture(scope="module")
def mel() -> Tensor:
    return torch.randn(80, FRAMES, generator=torch.Generator().manual_seed(5)) * 2 - 5


@pytest.fixture(params=VOICINGS)
def voicing(request: pytest.FixtureRequest, reference: Any) -> Iterator[Voicing]:
    """A pitch that is all below or all above the threshold, or crosses it; upstream's vocoder has it too meanwhile."""
    scale, bias = VOICINGS[request.param]
    classifier = reference.f0_predictor.classifier
    saved = {name: value.clone() for name, value in classifier.state_dict().items()}
    with torch.no_grad():
        classifier.weight.mul_(scale)
        classifier.bias.fill_(bias)
    yield scale, bias
    classifier.load_state_dict(saved)


@pytest.fixture
def vocoder(tensors: Tensors, voicing: Voicing) -> Vocoder:
    scale, bias = voicing
    copy = dict(tensors)
    copy["f0_predictor.classifier.weight"] = copy["f0_predictor.classifier.weight"] * scale
    copy["f0_predictor.classifier.bias"] = torch.full((1,), bias)
    weights = Weights(Tensors(tensors.path, copy), device=torch.device("cpu"), dtype=torch.float32)
    return Vocoder(weights)


def upstream_samples(reference: Any, mel: Tensor, noise: Noise) -> Tensor:
    frames = mel.shape[1]
    source = noise.source(0, frames, harmonics=HARMONICS, samples=SAMPLES_PER_FRAME)[None]

    def normal(like: Tensor) -> Tensor:
        return source if like.shape == source.shape else torch.zeros_like(like)

    def uniform(_: Any, sample_shape: tuple[int, ...]) -> Tensor:
        return noise.phases(HARMONICS).view(sample_shape)

    with (
        mock.patch.object(torch, "randn_like", normal),
        mock.patch.object(torch.distributions.Uniform, "sample", uniform),
    ):
        samples, _ = reference.inference(speech_feat=mel[None])
    result: Tensor = samples[0]
    return result


@pytest.mark.parametrize("frames", [1, 2, FRAMES])
def test_samples_equal_upstreams(vocoder: Vocoder, reference: Any, mel: Tensor, frames: int) -> None:
    noise = Noise(SEED)
    samples = vocoder.whole(mel[:, :frames], noise)
    assert samples.shape == (frames * SAMPLES_PER_FRAME,)
    assert samples.dtype == torch.float32
    torch.testing.assert_close(samples, upstream_samples(reference, mel[:, :frames], noise), atol=1e-4, rtol=0)


def test_test_signal_has_voiced_and_unvoiced_pitch(vocoder: Vocoder, voicing: Voicing, mel: Tensor) -> None:
    with torch.inference_mode():
        voiced = (vocoder._pitch(mel[None]) > 10).float().mean()
    assert {VOICINGS["unvoiced"]: voiced == 0, VOICINGS["voiced"]: voiced == 1}.get(voicing, 0.2 < voiced < 0.8)


def test_other_seed_gives_other_samples(vocoder: Vocoder, mel: Tensor) -> None:
    samples = vocoder.whole(mel, Noise(SEED))
    assert torch.equal(samples, vocoder.whole(mel, Noise(SEED)))
    assert (samples - vocoder.whole(mel, Noise(SEED + 1))).abs().max() > 1e-4


SLICINGS = [
    [FRAMES],
    [1] * FRAMES,
    [20, 24],
    [5] * 8 + [4],
    [16, 1, 11, 16],
    [15, 0, 29],
    [43, 1],
]


@pytest.mark.parametrize("cut", SLICINGS, ids=lambda cut: "-".join(map(str, cut[:4])))
def test_streamed_samples_equal_whole(vocoder: Vocoder, mel: Tensor, cut: list[int]) -> None:
    assert sum(cut) == FRAMES
    noise = Noise(SEED)
    stream = vocoder.stream(noise)
    pieces = [stream.push(piece) for piece in mel.split(cut, dim=1)]
    assert sum(piece.numel() for piece in pieces) == (FRAMES - 15) * SAMPLES_PER_FRAME
    streamed = torch.cat([*pieces, stream.finish()])
    torch.testing.assert_close(streamed, vocoder.whole(mel, noise), atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [0, 1, 2, 14, 15, 16, 17])
def test_short_utterance_equals_whole(vocoder: Vocoder, mel: Tensor, frames: int) -> None:
    noise = Noise(SEED)
    stream = vocoder.stream(noise)
    pieces = [stream.push(mel[:, frame : frame + 1]) for frame in range(frames)]
    streamed = torch.cat([*pieces, stream.finish()])
    assert streamed.numel() == frames * SAMPLES_PER_FRAME
    torch.testing.assert_close(streamed, vocoder.whole(mel[:, :frames], noise), atol=1e-5, rtol=0)


def test_smaller_lookahead_approximates_whole(vocoder: Vocoder, mel: Tensor) -> None:
    noise = Noise(SEED)
    stream = vocoder.stream(noise, lookahead=5)
    first = stream.push(mel[:, :20])
    assert first.numel() == 10 * SAMPLES_PER_FRAME
    streamed = torch.cat([first, stream.push(mel[:, 20:]), stream.finish()])
    error = (streamed - vocoder.whole(mel, noise)).abs().max()
    assert 1e-5 < error < 3e-3


def test_boundaries_do_not_click(vocoder: Vocoder, mel: Tensor) -> None:
    stream = vocoder.stream(Noise(SEED))
    pieces = [stream.push(piece) for piece in mel.split(5, dim=1)] + [stream.finish()]
    pieces = [piece for piece in pieces if piece.numel()]
    jumps = torch.cat(pieces).diff().abs()
    ends = torch.tensor([piece.numel() for piece in pieces]).cumsum(0)[:-1] - 1
    assert len(ends) > 5
    inside = torch.ones_like(jumps, dtype=torch.bool)
    inside[ends] = False
    assert jumps[ends].max() <= jumps[inside].max()


def test_phase_of_long_utterance_does_not_drift(tensors: Tensors) -> None:
    """A minute of a steady tone must keep its frequency, whatever the length of what was made before."""
    copy = {"l_linear.weight": torch.zeros(1, HARMONICS), "l_linear.bias": torch.zeros(1)}
    copy["l_linear.weight"][0, 0] = 1.0  # the fundamental alone
    weights = Weights(Tensors(tensors.path, copy), device=torch.device("cpu"), dtype=torch.float32)
    stream = Source(weights, SAMPLES_PER_FRAME).stream(Noise(SEED))
    with torch.inference_mode():
        for _ in range(30):
            signal = stream.push(torch.full((100,), 200.0))
    samples = SAMPLES_PER_FRAME * 100
    time = torch.arange(29 * samples + 1, 30 * samples + 1, dtype=torch.float64)
    tone = torch.tanh(0.1 * torch.sin(2 * math.pi * 200.0 / 24_000 * time)).float()
    # What is left is the noise of voiced frames, of 0.003.
    assert (signal - tone).std() == pytest.approx(0.003, rel=0.05)
