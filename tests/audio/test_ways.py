"""Every format at every rate over each route, decoded by FFmpeg."""

from __future__ import annotations

import io
from collections.abc import Callable

import av
import httpx
import numpy as np
import pytest
from audio_helpers import SAMPLE_RATES, Samples, pitch, read_pcm
from chatterbox_server.fake import frequency
from running_server import HTTP, Server
from ws_helpers import talking

TEXT = "Hello there, this is one sentence."
SECONDS = 0.06 * len(TEXT)
SEED = 3
AMPLITUDE = 0.1
OPUS_RATE = 48_000

# Content type, samples of silence before the audio, samples that may fill it up.
FORMATS = {
    "wav": ("audio/wav", 0, 0),
    "raw_pcm": ("audio/pcm", 0, 0),
    "flac": ("audio/flac", 0, 0),
    "mp3": ("audio/mpeg", 0, 2 * 1152),
    "aac": ("audio/aac", 1024, 1024),
    "fmp4": ("audio/mp4", 0, 1024),
    "opus": ("audio/ogg", 0, 960),
    "webm": ("audio/webm", 0, 960),
}


def by_get(server: Server, name: str, rate: int) -> bytes:
    fields: dict[str, str | int] = {"text": TEXT, "seed": SEED, "format": name, "sample_rate": rate}
    return _body(HTTP.get(f"{server.url}/tts/generate", params=fields), name, rate)


def by_post(server: Server, name: str, rate: int) -> bytes:
    fields = {"text": TEXT, "seed": SEED, "format": name, "sample_rate": rate}
    return _body(HTTP.post(f"{server.url}/tts/generate", json=fields), name, rate)


def by_socket(server: Server, name: str, rate: int) -> bytes:
    with talking(server) as talk:
        return talk.spoken(TEXT, seed=SEED, audio={"format": name, "sample_rate": rate}).data


WAYS = (by_get, by_post, by_socket)


def _body(answer: httpx.Response, name: str, rate: int) -> bytes:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == FORMATS[name][0]
    assert answer.headers["x-sample-rate"] == str(rate)
    return answer.content


def decoded(data: bytes, name: str, rate: int) -> tuple[Samples, int]:
    """The samples, of a file that is mono, and their rate."""
    if name == "raw_pcm":
        return read_pcm(data, "pcm_s16le"), rate
    with av.open(io.BytesIO(data), "r") as container:
        (stream,) = container.streams.audio
        assert stream.codec_context.layout.nb_channels == 1
        found = stream.codec_context.sample_rate
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(stream)]
    scale = 32768.0 if frames[0].dtype == np.int16 else 1.0
    return np.concatenate(frames).astype(np.float64) / scale, found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rate", SAMPLE_RATES)
@pytest.mark.parametrize("name", FORMATS)
def test_tone_is_complete_over_every_route(
    fake: Server, name: str, rate: int, way: Callable[[Server, str, int], bytes]
) -> None:
    samples, found = decoded(way(fake, name, rate), name, rate)
    # Opus knows one rate.
    assert found == (OPUS_RATE if name in ("opus", "webm") else rate)
    _, lead, filled = FORMATS[name]
    length = round(SECONDS * found)
    assert -2 <= len(samples) - lead - length <= 2 + filled
    tone = samples[lead : lead + length]
    assert pitch(tone, found) == pytest.approx(frequency("fake", "tone", SEED), abs=1)
    # Each tenth of a second is as loud as every other: no gap, no fade.
    parts = np.array_split(tone, round(SECONDS * 10))[1:-1]
    levels = [float(np.sqrt(np.mean(part**2))) for part in parts]
    assert levels == pytest.approx([AMPLITUDE / np.sqrt(2)] * len(levels), rel=0.08)
    # A tone that is cut off within a frame rings there; nothing comes near to clipping.
    assert np.max(np.abs(tone[: -max(1024, filled)])) < 1.35 * AMPLITUDE
    assert np.max(np.abs(samples)) < 2 * AMPLITUDE
