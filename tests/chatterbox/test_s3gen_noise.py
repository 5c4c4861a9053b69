from __future__ import annotations

import math

import pytest
import torch
from chatterbox_server.chatterbox.s3gen.noise import Noise, _Use

CUTS = [[37], [1] * 37, [20, 17], [5, 1, 30, 1]]


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_noise_does_not_depend_on_cuts(cut: list[int]) -> None:
    starts = [sum(cut[:index]) for index in range(len(cut))]
    mel = [Noise(7).mel(start, frames) for start, frames in zip(starts, cut, strict=True)]
    assert torch.equal(torch.cat(mel, dim=1), Noise(7).mel(0, 37))
    source = [
        Noise(7).source(start, frames, harmonics=9, samples=480) for start, frames in zip(starts, cut, strict=True)
    ]
    assert torch.equal(torch.cat(source, dim=1), Noise(7).source(0, 37, harmonics=9, samples=480))


def test_noise_differs_by_use_and_seed() -> None:
    pieces = [noise for seed in (0, 1, 2**64 - 1, -2) for noise in (Noise(seed).prompt(50), Noise(seed).mel(0, 50))]
    pieces.append(Noise(0).mel(50, 50))
    flat = torch.stack([piece.flatten() for piece in pieces])
    correlations = torch.corrcoef(flat) - torch.eye(len(pieces))
    assert correlations.abs().max() < 0.1
    assert torch.equal(Noise(-1).mel(0, 3), Noise(2**64 - 1).mel(0, 3))


@pytest.mark.parametrize(
    "noise", [Noise(3).mel(0, 2000).flatten(), Noise(3).source(5, 40, harmonics=9, samples=480).flatten()], ids=len
)
def test_noise_is_normal(noise: torch.Tensor) -> None:
    assert noise.isfinite().all()
    assert abs(noise.mean()) < 0.01
    assert noise.std() == pytest.approx(1, abs=0.01)
    for quantile, value in ((0.0228, -2), (0.1587, -1), (0.8413, 1), (0.9772, 2)):
        assert (noise < value).float().mean() == pytest.approx(quantile, abs=0.005)
    assert abs(torch.corrcoef(torch.stack([noise[:-1], noise[1:]]))[0, 1]) < 0.01


def test_phases_are_uniform_and_fundamental_is_zero() -> None:
    phases = torch.stack([Noise(seed).phases(9) for seed in range(500)])
    assert (phases[:, 0] == 0).all()
    rest = phases[:, 1:]
    assert rest.abs().max() <= math.pi
    assert abs(rest.mean()) < 0.1
    assert rest.std() == pytest.approx(math.pi / math.sqrt(3), abs=0.05)


def test_noise_of_seed_is_fixed() -> None:
    # What is heard for a seed would change with them.
    assert Noise(1234).mel(2, 1)[:3, 0].tolist() == pytest.approx([0.904813, 0.685336, 0.187943], abs=1e-5)


@pytest.mark.parametrize("frames", [1, 7])
def test_noise_is_same_on_every_device(frames: int) -> None:
    noise = Noise(2**64 - 5)
    wanted = torch.from_numpy(noise._normal(_Use.SOURCE, 12, frames, 9 * 48))
    made = noise._normal_on(torch.device("cpu"), _Use.SOURCE, 12, frames, 9 * 48)
    assert made.shape == wanted.shape
    torch.testing.assert_close(made, wanted, atol=2e-6, rtol=0)
