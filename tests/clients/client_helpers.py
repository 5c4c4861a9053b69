"""What the tests of the clients share: their texts, and how the audio is judged."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import openai
import pytest
from audio_helpers import Samples, pitch

Connect = Callable[..., openai.OpenAI]

KEY = "secret"
SENTENCE = "Hello there, this is one sentence."
SECONDS = 0.06 * len(SENTENCE)
"""What the fake engine makes of it."""
LATE_FAILURE = "Half of it [[fail-late]] is lost."
FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm")


def decoded(data: bytes, name: str) -> tuple[Samples, int]:
    """The samples of a file and their rate, as FFmpeg reads them; bare PCM has no head that tells."""
    if name == "pcm":
        return np.frombuffer(data, "<i2").astype(np.float64) / 32768, 24_000
    with av.open(io.BytesIO(data), "r") as file:
        (stream,) = file.streams
        assert isinstance(stream, av.AudioStream)
        assert stream.codec_context.name.startswith({"wav": "pcm_s16le", "mp3": "mp3"}.get(name, name))
        plain = av.AudioResampler(format="dbl", layout="mono")
        parts = [part.to_ndarray()[0] for frame in file.decode(audio=0) for part in plain.resample(frame)]
        return np.concatenate(parts), stream.codec_context.sample_rate


def judge_tone(samples: Samples, rate: int, seconds: float = SECONDS) -> None:
    """Whether this is the fake engine's tone for so long, give or take what an encoder puts before and after it."""
    assert len(samples) / rate == pytest.approx(seconds, abs=0.11)
    assert 0.05 < float(np.sqrt(np.mean(samples**2))) < 0.09
    # All of its tones are multiples of 10 Hz, from 200 to 990.
    hertz = pitch(samples, rate)
    assert 195 < hertz < 995
    assert hertz == pytest.approx(round(hertz, -1), abs=2)


def judge_speech(samples: Samples, rate: int) -> None:
    """Whether somebody speaks for as long as the sentence takes."""
    assert 1.0 < len(samples) / rate < 6.0
    assert 0.01 < float(np.sqrt(np.mean(samples**2))) < 0.5
    assert float(np.max(np.abs(samples))) < 1.0


def samples_of(frame: Any) -> Samples:
    """The samples of 16-bit mono audio that a client hands out."""
    return np.frombuffer(bytes(frame), "<i2").astype(np.float64) / 32768
