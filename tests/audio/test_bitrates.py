"""The bit rate of the compressed formats: what is asked for is what comes, or is refused by name."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from audio_helpers import clip, pitch, refusal, speak
from chatterbox_server.fake import frequency
from command_helpers import run
from running_server import HTTP, Server
from ws_helpers import talking

TEXT = "It was a bright cold day in April, and the clocks were striking thirteen."
SECONDS = 0.06 * len(TEXT)
SEED = 3
FAKE = ("--engine", "fake", "--fake-rtf", "0")

CONSTANT = [
    ("mp3", 8000, 16),
    ("mp3", 24_000, 24),
    ("mp3", 24_000, 160),
    ("mp3", 44_100, 32),
    ("mp3", 44_100, 320),
    ("aac", 8000, 48),
    ("aac", 24_000, 24),
    ("aac", 24_000, 128),
    ("aac", 48_000, 192),
    ("fmp4", 24_000, 32),
    ("fmp4", 44_100, 128),
]
"""Format, sample rate and bit rate in kbit/s."""

REFUSED = [
    ("mp3", 24_000, 320, "160"),
    ("mp3", 24_000, 63, "64"),
    ("mp3", 48_000, 24, "32"),
    ("mp3", 8000, 128, "64"),
    ("aac", 8000, 49, "48"),
    ("aac", 48_000, 8, "16"),
    ("fmp4", 24_000, 64_000, "144"),
    ("opus", 24_000, 5, "6"),
    ("webm", 24_000, 257, "256"),
    ("wav", 24_000, 64, "mp3, fmp4, webm, opus, aac"),
    ("flac", 24_000, 64, "mp3, fmp4, webm, opus, aac"),
    ("pcm", 24_000, 64, "mp3, fmp4, webm, opus, aac"),
]
"""And the word of the error that helps."""


def bitrate(data: bytes, rate: int) -> float:
    """That of the packets, in kbit/s, which hold the tone and are as long as it."""
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.audio[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        frames = [frame for packet in packets for frame in packet.decode()]
        seconds = sum(float((packet.duration or 0) * packet.time_base) for packet in packets)
        assert stream.codec_context.sample_rate == rate
    samples = np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames]).astype(np.float64)
    assert len(samples) / rate == pytest.approx(SECONDS, abs=0.3)
    assert pitch(samples, rate) == pytest.approx(frequency("fake", "tone", SEED), abs=1)
    return 8 * sum(packet.size for packet in packets) / seconds / 1000


@pytest.mark.parametrize(("name", "rate", "kbps"), CONSTANT)
def test_constant_bit_rate_is_kept(fake: Server, name: str, rate: int, kbps: int) -> None:
    audio = {"format": name, "sample_rate": rate, "bitrate": kbps}
    answer = speak(fake.url, TEXT, seed=SEED, audio=audio)
    assert answer.status_code == 200, answer.text
    assert bitrate(answer.content, rate) == pytest.approx(kbps, rel=0.08)
    with talking(fake) as talk:
        assert talk.spoken(TEXT, seed=SEED, audio=audio).data == answer.content


@pytest.mark.parametrize("name", ["opus", "webm"])
def test_variable_bit_rate_follows(fake: Server, name: str) -> None:
    def found(kbps: int | None) -> float:
        audio = {"format": name, "bitrate": kbps}
        return bitrate(speak(fake.url, TEXT, seed=SEED, audio=audio).content, 48_000)

    usual = found(None)
    assert found(12) < 0.6 * usual
    assert found(48) == usual
    assert found(128) > 1.5 * usual


@pytest.mark.parametrize(("name", "rate", "kbps", "hint"), REFUSED)
def test_unsupported_bit_rate_is_refused(fake: Server, name: str, rate: int, kbps: int, hint: str) -> None:
    audio = {"format": name, "sample_rate": rate, "bitrate": kbps}
    said = refusal(speak(fake.url, TEXT, audio=audio), 422, "INVALID_PARAMETER")
    assert said.startswith("audio.bitrate:")
    assert hint in said
    with talking(fake) as talk:
        assert talk.fails("INVALID_PARAMETER", type="say", text=TEXT, audio=audio)["error"] == said


def test_conversion_has_bit_rate(fake: Server) -> None:
    def convert(**fields: str) -> bytes:
        answer = HTTP.post(f"{fake.url}/api/vc", files={"file": ("clip.wav", clip())}, data={"format": "mp3", **fields})
        assert answer.status_code == 200, answer.text
        return answer.content

    assert len(convert(bitrate="160")) > 2 * len(convert())
    files = {"file": ("clip.wav", clip())}
    answer = HTTP.post(f"{fake.url}/api/vc", files=files, data={"format": "mp3", "bitrate": "1"})
    assert refusal(answer, 422, "INVALID_PARAMETER").startswith("bitrate:")


def test_command_line_has_bit_rate(tmp_path: Path) -> None:
    for kbps in (24, 160):
        done = run(tmp_path, "say", TEXT, "-o", f"{kbps}.mp3", "--bitrate", str(kbps), "--seed", str(SEED), *FAKE)
        assert done.returncode == 0, done.stderr
        assert bitrate((tmp_path / f"{kbps}.mp3").read_bytes(), 24_000) == pytest.approx(kbps, rel=0.05)
    done = run(tmp_path, "say", TEXT, "-o", "a.wav", "--bitrate", "64", *FAKE)
    assert done.returncode == 1
    assert b"bitrate: wav has none" in done.stderr
