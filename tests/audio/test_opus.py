"""Opus in Ogg and in WebM, as FFmpeg's libraries read what the running server sends."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from itertools import pairwise

import av
import numpy as np
import pytest
from audio_helpers import Samples, pitch, read_pcm, speak
from chatterbox_server.fake import frequency
from running_server import HTTP, Server
from ws_helpers import talking

CONTAINERS = {"opus": ("audio/ogg", "ogg"), "webm": ("audio/webm", "matroska,webm")}
"""Content type, and the container's name in FFmpeg."""
RATES = (8000, 24_000, 44_100)
OPUS_RATE = 48_000
FRAME = 0.02
TEXT = "Hello there, this is one sentence."
AMPLITUDE = 0.1


def over_http(server: Server, name: str, rate: int, *, stream: bool) -> bytes:
    answer = speak(server.url, TEXT, seed=3, stream=stream, audio={"format": name, "sample_rate": rate})
    assert answer.status_code == 200, answer.text
    if name in CONTAINERS:
        assert answer.headers["content-type"] == CONTAINERS[name][0]
    assert ("content-length" in answer.headers) == (not stream)
    return answer.content


def streamed(server: Server, name: str, rate: int) -> bytes:
    return over_http(server, name, rate, stream=True)


def whole(server: Server, name: str, rate: int) -> bytes:
    return over_http(server, name, rate, stream=False)


def socket(server: Server, name: str, rate: int) -> bytes:
    with talking(server) as talk:
        answer = talk.spoken(TEXT, seed=3, audio={"format": name, "sample_rate": rate, "chunk_size_ms": 130})
    assert len(answer.chunks) > 5
    return answer.data


WAYS = (streamed, whole, socket)


def decoded(data: bytes, name: str) -> Samples:
    """The file's audio at 48 kHz. FFmpeg drops what the file says is none: before its start and after its end."""
    with av.open(io.BytesIO(data), "r") as container:
        assert container.format.name == CONTAINERS[name][1]
        (stream,) = container.streams.audio
        assert stream.codec_context.name in ("opus", "libopus")
        assert (stream.codec_context.sample_rate, stream.codec_context.channels) == (OPUS_RATE, 1)
        tags = {key.lower(): value for key, value in (container.metadata | stream.metadata).items()}
        assert tags["comment"] == "AI-generated speech (chatterbox-server)"
        frames = list(container.decode(stream))
    for before, after in pairwise(frames):
        assert before.pts is not None
        assert after.pts is not None
        assert before.time_base is not None
        gap = (after.pts - before.pts) * before.time_base - before.samples / OPUS_RATE
        assert abs(gap) <= 0.001, "times are whole milliseconds in WebM"
    return np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(np.float64)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", CONTAINERS)
def test_opus_is_tone_at_full_length(
    fake: Server, name: str, rate: int, way: Callable[[Server, str, int], bytes]
) -> None:
    samples = decoded(way(fake, name, rate), name)
    pcm = read_pcm(way(fake, "pcm_s16le", rate), "pcm_s16le")
    assert len(samples) / OPUS_RATE == pytest.approx(len(pcm) / rate, abs=FRAME)
    hertz = frequency("fake", "tone", 3)
    assert pitch(samples, OPUS_RATE) == pytest.approx(hertz, abs=1)
    # One sine from end to end: a hole, a click or a frame too many would shift its phase, or be left over.
    inner = np.arange(len(samples))[OPUS_RATE // 50 : -OPUS_RATE // 50]
    waves = np.exp(2j * np.pi * hertz / OPUS_RATE * inner)
    basis = np.stack([waves.real, waves.imag], axis=1)
    (cosine, sine), *_ = np.linalg.lstsq(basis, samples[inner], rcond=None)
    assert np.hypot(cosine, sine) == pytest.approx(AMPLITUDE, rel=0.05)
    assert abs(np.arctan2(cosine, sine)) < 0.1, "the sine begins at zero, where the audio begins"
    rest = samples[inner] - basis @ np.array([cosine, sine])
    assert np.sqrt(np.mean(rest**2)) < 0.05 * AMPLITUDE


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", CONTAINERS)
def test_opus_file_is_same_over_every_route(fake: Server, name: str, rate: int) -> None:
    stream = streamed(fake, name, rate)
    assert socket(fake, name, rate) == stream
    file = whole(fake, name, rate)
    assert len(file) == len(stream)
    if name == "opus":
        assert file == stream
    else:
        # The file says how long it is; the stream cannot.
        with av.open(io.BytesIO(file), "r") as container:
            assert container.duration is not None
            assert container.duration / av.time_base == pytest.approx(0.06 * len(TEXT), abs=FRAME)


@pytest.mark.parametrize("name", CONTAINERS)
def test_opus_stream_plays_while_made(slow: Server, name: str) -> None:
    body = {"text": TEXT, "audio": {"format": name}}
    with HTTP.stream("POST", f"{slow.url}/api/tts", json=body) as answer:
        pieces = answer.iter_raw()
        first = next(pieces)
        assert slow.metrics()["chatterbox_requests_running"] == 1
        rest = b"".join(pieces)
    assert 0 < len(decoded(first, name)) < len(decoded(first + rest, name))


@pytest.mark.parametrize("name", CONTAINERS)
def test_opus_chunks_play_while_made(slow: Server, name: str) -> None:
    with talking(slow) as talk:
        talk.say(TEXT, audio={"format": name, "chunk_size_ms": 100})
        first = base64.b64decode(talk.expect("chunk", index=0, is_last=False)["data"])
        assert slow.metrics()["chatterbox_requests_running"] == 1
        rest = talk.collect()
    assert rest.end["type"] == "done"
    assert 0 < len(decoded(first, name)) < len(decoded(first + rest.data, name))
