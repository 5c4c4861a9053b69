"""Normalisation: how loud answers are, whole and streamed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyloudnorm
import pytest
from audio_helpers import Samples, clip, read_pcm, read_wav, refusal, speak
from command_helpers import run
from running_server import HTTP, Server
from ws_helpers import talking

TEXT = "It was a bright cold day in April, and the clocks were striking thirteen."
FAKE = ("--engine", "fake", "--fake-rtf", "0")
RATES = (8000, 24_000, 48_000)
FLOATS = {"format": "pcm_f32le"}
CEILING = 10 ** (-1 / 20)


def decibels(value: float) -> float:
    return 20 * float(np.log10(value))


def level(samples: Samples, rate: int, kind: str) -> float:
    """The level in dBFS or LUFS, after other people's definition."""
    if kind == "peak":
        return decibels(float(np.max(np.abs(samples))))
    if kind == "rms":
        return decibels(float(np.sqrt(np.mean(samples**2))))
    return float(pyloudnorm.Meter(rate).integrated_loudness(samples))


TARGETS = {"peak": -1.0, "rms": -20.0, "lufs": -18.0}
STREAMED = ("peak", "rms")


def whole(server: Server, kind: str, rate: int = 24_000, **fields: Any) -> Samples:
    audio = {**FLOATS, "sample_rate": rate}
    answer = speak(server.url, TEXT, audio=audio, audio_normalization=kind, stream=False, seed=3, **fields)
    assert answer.status_code == 200, answer.text
    return read_pcm(answer.content, "pcm_f32le")


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("kind", TARGETS)
def test_whole_answer_has_its_level(fake: Server, kind: str, rate: int) -> None:
    samples = whole(fake, kind, rate)
    plain = whole(fake, "none", rate)
    assert len(samples) == len(plain)
    # The meter of the test approximates the standard's filter at low rates.
    assert level(samples, rate, kind) == pytest.approx(TARGETS[kind], abs=0.3 if kind == "lufs" else 0.01)
    gain = np.max(np.abs(samples)) / np.max(np.abs(plain))
    assert np.max(np.abs(samples - gain * plain)) < 1e-4, "one gain for all of it"


@pytest.mark.parametrize("kind", TARGETS)
def test_speech_has_its_level_and_is_not_clipped(lite: Server, kind: str) -> None:
    samples = whole(lite, kind)
    assert level(samples, 24_000, kind) == pytest.approx(TARGETS[kind], abs=0.3)
    assert np.max(np.abs(samples)) <= CEILING + 1e-6


@pytest.mark.parametrize("kind", STREAMED)
def test_stream_reaches_its_level(fake: Server, kind: str) -> None:
    body = {"seed": 3, "audio": FLOATS, "audio_normalization": kind}
    answer = speak(fake.url, TEXT, **body)
    assert "content-length" not in answer.headers
    samples = read_pcm(answer.content, "pcm_f32le")
    assert len(samples) == len(whole(fake, "none"))
    second = 24_000
    first, later = samples[: second // 20], samples[3 * second // 2 :]
    assert level(later, second, kind) == pytest.approx(TARGETS[kind], abs=0.1)
    # It begins as the model speaks.
    assert level(first, second, kind) == pytest.approx(level(whole(fake, "none"), second, kind), abs=1.5)
    assert np.max(np.abs(samples)) <= CEILING + 1e-6
    with talking(fake) as talk:
        assert talk.spoken(TEXT, **body).data == answer.content


def test_whole_answer_over_socket_is_same(fake: Server) -> None:
    with talking(fake) as talk:
        answer = talk.spoken(TEXT, stream=False, seed=3, audio=FLOATS, audio_normalization="lufs")
    assert read_pcm(answer.data, "pcm_f32le") == pytest.approx(whole(fake, "lufs"))


def test_loudness_is_for_whole_answers(fake: Server) -> None:
    said = refusal(speak(fake.url, audio_normalization="lufs"), 422, "INVALID_PARAMETER")
    assert said.startswith("audio_normalization:")
    assert "stream" in said
    said = refusal(speak(fake.url, audio_normalization="loud"), 422, "INVALID_PARAMETER")
    assert said == "audio_normalization: expected one of none, peak, rms, lufs"


@pytest.mark.parametrize("name", ["mp3", "aac", "fmp4", "opus", "webm", "flac", "wav"])
def test_peak_normalized_audio_does_not_clip_in_any_format(lite: Server, name: str) -> None:
    answer = speak(lite.url, TEXT, seed=3, stream=False, audio_normalization="peak", audio={"format": name})
    with av.open(io.BytesIO(answer.content), "r") as container:
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    samples = np.concatenate(frames).astype(np.float64) / (32768 if frames[0].dtype == np.int16 else 1)
    # The ceiling of -1 dBFS leaves a lossy codec 1 dB, an error of 12 % of the peak, to full scale; the same error may
    # take the peak 1.1 dB down, and which of the two a codec does depends on the voice's last bits.
    margin = 0.01 if name in ("flac", "wav") else 1.1
    peak = decibels(float(np.max(np.abs(samples))))
    assert peak < 0
    assert peak == pytest.approx(-1, abs=margin)


def test_limit_on_length_is_kept(fake: Server) -> None:
    for stream in (True, False):
        answer = speak(fake.url, TEXT, max_audio_seconds=1.5, stream=stream, audio_normalization="rms", audio=FLOATS)
        samples = read_pcm(answer.content, "pcm_f32le")
        assert len(samples) == 36_000
        assert abs(samples[-1]) < 1e-4


def test_conversion_has_its_level_too(fake: Server) -> None:
    fields = {"stream": "false", "format": "pcm_f32le", "audio_normalization": "rms"}
    answer = HTTP.post(f"{fake.url}/api/vc", files={"file": ("clip.wav", clip())}, data=fields)
    assert answer.status_code == 200, answer.text
    assert level(read_pcm(answer.content, "pcm_f32le"), 24_000, "rms") == pytest.approx(-20, abs=0.01)


@pytest.mark.parametrize("kind", TARGETS)
def test_file_of_command_line_has_its_level(tmp_path: Path, kind: str) -> None:
    done = run(tmp_path, "say", TEXT, "-o", "said.wav", "--audio-normalization", kind, *FAKE)
    assert done.returncode == 0, done.stderr
    samples, rate = read_wav((tmp_path / "said.wav").read_bytes())
    assert level(samples, rate, kind) == pytest.approx(TARGETS[kind], abs=0.1)
