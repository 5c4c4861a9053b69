from __future__ import annotations

import numpy as np
import pytest
from chatterbox_server.chatterbox.onnx.s3gen import Seam
from numpy.typing import NDArray

RATE = 24_000
OVERLAP = 960


def tone(samples: int, phase: float = 0.0, pitch: float = 140.0) -> NDArray[np.float32]:
    time = np.arange(samples) / RATE
    return np.sin(2 * np.pi * pitch * time + phase).astype(np.float32)


def joined(parts: list[tuple[NDArray[np.float32], int]], overlap: int) -> NDArray[np.float32]:
    """What comes of renderings, each with so many samples of context before it."""
    seam, out = Seam(overlap), []
    for index, (samples, context) in enumerate(parts):
        out.append(seam.push(samples, context, samples.size, final=index == len(parts) - 1))
    return np.concatenate(out)


def test_equal_renderings_join_seamlessly() -> None:
    whole = tone(9_600)
    out = joined([(whole[:4_800], 0), (whole[2_400:], 2_400)], OVERLAP)
    np.testing.assert_allclose(out, whole, atol=1e-6)


@pytest.mark.parametrize("phase", [0.5, 2.0, 3.1, -1.5])
def test_out_of_phase_waves_are_aligned(phase: float) -> None:
    out = joined([(tone(4_800), 0), (tone(7_200, phase), 2_400)], OVERLAP)
    seam = out[4_800 - OVERLAP - 200 : 4_800 + 200]
    # Neither a jump, which a cut would make, nor a hole, which waves in opposition would.
    assert np.abs(np.diff(seam)).max() <= np.abs(np.diff(tone(4_800))).max() + 0.01
    periods = seam[: seam.size // 171 * 171].reshape(-1, 171)
    assert np.abs(periods).max(axis=1).min() > 0.9
    assert abs(out.size - 9_600) <= RATE // 100


def test_uncorrelated_renderings_keep_loudness() -> None:
    noise = np.random.default_rng(0).standard_normal((2, 24_000)).astype(np.float32)
    out = joined([(noise[0], 0), (noise[1], 12_000)], 4_800)
    middle = out[24_000 - 4_800 : 24_000]
    assert middle.std() == pytest.approx(1.0, abs=0.08)


def test_zero_overlap_is_hard_cut() -> None:
    first, second = tone(4_800), tone(7_200, 1.0)
    out = joined([(first, 0), (second, 2_400)], 0)
    assert np.array_equal(out, np.concatenate([first, second[2_400:]]))


def test_silence_is_joined_to_silence() -> None:
    silence = np.zeros(4_800, np.float32)
    assert not joined([(silence, 0), (silence, 2_400)], OVERLAP).any()
