"""Every format carries the words, at a rate of its own, as FFmpeg decodes it."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from measure import Samples, gaps
from recogniser import Recogniser, word_errors, words
from running_server import HTTP, Server
from sentences import STORY
from voice_client import SEED

WAYS = [
    ("wav", 8000, None),
    ("mp3", 24_000, None),
    ("mp3", 44_100, 32),
    ("aac", 22_050, None),
    ("fmp4", 44_100, None),
    ("fmp4", 16_000, 24),
    ("flac", 16_000, None),
    ("opus", 24_000, 12),
    ("webm", 48_000, None),
]
"""Format, sample rate, bit rate where it is not the usual one."""


def decoded(data: bytes) -> tuple[Samples, int]:
    """The samples and their rate."""
    with av.open(io.BytesIO(data), "r") as container:
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
        rate: int = container.streams.audio[0].codec_context.sample_rate
    scale = 32_768 if frames[0].dtype == np.int16 else 1
    return np.concatenate(frames).astype(np.float32) / np.float32(scale), rate


@pytest.mark.parametrize(("name", "rate", "kbps"), WAYS)
def test_words_survive_every_format(
    lite: Server, recogniser: Recogniser, name: str, rate: int, kbps: int | None
) -> None:
    text = STORY.split("\n\n")[2]
    audio = {"format": name, "sample_rate": rate, "bitrate": kbps}
    answer = HTTP.post(f"{lite.url}/api/tts", json={"text": text, "seed": SEED, "audio": audio})
    assert answer.status_code == 200, answer.text
    samples, found_rate = decoded(answer.content)
    assert found_rate == (48_000 if name in ("opus", "webm") else rate)
    wanted, heard = words(text), words(recogniser.transcript(samples, found_rate))
    assert word_errors(wanted, heard) <= 0.05 * len(wanted), heard
    assert np.max(np.abs(samples)) < 1
    assert max((gap.seconds for gap in gaps(samples, found_rate)), default=0) < 0.9
