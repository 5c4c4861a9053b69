from __future__ import annotations

import pytest
import torch
from chatterbox_server.chatterbox.s3gen.stream import Stretch


def stretched(mel: torch.Tensor, speed: float, cuts: list[int]) -> torch.Tensor:
    stretch = Stretch(speed)
    parts = torch.tensor_split(mel, cuts, dim=1)
    return torch.cat([stretch.push(part, final=part is parts[-1]) for part in parts], dim=1)


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.0, 1.25, 2.0])
def test_stretched_length_follows_speed(speed: float) -> None:
    mel = torch.randn(80, 90, generator=torch.Generator().manual_seed(0))
    whole = stretched(mel, speed, [])
    assert whole.shape[1] == pytest.approx(90 / speed, abs=1)
    for cuts in ([1], [30, 60], [30, 31, 32, 89], [0, 0, 40], [40, 40], list(range(1, 90))):
        torch.testing.assert_close(stretched(mel, speed, cuts), whole, rtol=0, atol=1e-5)


def test_stretch_interpolates_between_frames() -> None:
    ramp = torch.arange(10.0).expand(80, 10)
    expected = torch.arange(0, 10, 0.5).clamp(max=9).expand(80, 20)
    torch.testing.assert_close(stretched(ramp, 0.5, [4]), expected)


def test_speed_one_is_input() -> None:
    mel = torch.randn(80, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(stretched(mel, 1.0, [3]), mel)
