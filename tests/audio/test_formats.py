"""The formats over every route, decoded by FFmpeg."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from audio_helpers import Samples, pitch, speak
from chatterbox_server.fake import frequency
from running_server import HTTP, Server
from ws_helpers import talking

TEXT = "Hello there, this is one sentence."
SECONDS = 0.06 * len(TEXT)
"""What the fake engine makes of it."""
AMPLITUDE = 0.1
SEED = 3

# Codec as FFmpeg names it, content type, samples of silence before the audio, samples in the longest frame.
FORMATS = {
    "wav": ("pcm_s16le", "audio/wav", 0, 0),
    "mp3": ("mp3float", "audio/mpeg", 0, 1152),
    "flac": ("flac", "audio/flac", 0, 0),
    "aac": ("aac", "audio/aac", 1024, 1024),
    "fmp4": ("aac", "audio/mp4", 0, 1024),
}
RATES = (8000, 24_000, 44_100)
every_format = pytest.mark.parametrize("name", FORMATS)
every_rate = pytest.mark.parametrize("rate", RATES)


def decoded(data: bytes, codec: str, rate: int) -> Samples:
    """The samples, of a file that is mono, at this rate and of this codec."""
    with av.open(io.BytesIO(data), "r") as container:
        (stream,) = container.streams
        assert isinstance(stream, av.AudioStream)
        context = stream.codec_context
        assert (context.name, context.sample_rate, context.layout.nb_channels) == (codec, rate, 1)
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(stream)]
    scale = 32768.0 if frames[0].dtype == np.int16 else 1.0
    return np.concatenate(frames).astype(np.float64) / scale


def check(data: bytes, name: str, rate: int) -> None:
    """The tone, whole, in time, and nothing else."""
    codec, _, lead, frame = FORMATS[name]
    samples = decoded(data, codec, rate)
    length = round(SECONDS * rate)
    # The silence that fills the last frame is kept; LAME fills half a frame more.
    assert -2 <= len(samples) - lead - length <= 2 + frame * (2 if name == "mp3" else 1)
    tone = samples[lead : lead + length]
    hertz = frequency("fake", "tone", SEED)
    assert pitch(tone, rate) == pytest.approx(hertz, abs=1)
    # Each tenth of a second is as loud as every other: no gap, no fade, no clipping.
    parts = np.array_split(tone, round(SECONDS * 10))[1:-1]
    levels = [float(np.sqrt(np.mean(part**2))) for part in parts]
    assert levels == pytest.approx([AMPLITUDE / np.sqrt(2)] * len(levels), rel=0.08)
    # AAC overshoots by a quarter where a tone that was cut off ends within one of its longest frames.
    assert np.max(np.abs(samples)) < 1.35 * AMPLITUDE
    # The codec's delay is taken off, or known: the tone begins where it should, and silence is all that surrounds it.
    window = max(1, rate // 200)
    assert np.max(np.abs(tone[:window])) > 0.3 * AMPLITUDE
    assert np.max(np.abs(tone[-window:])) > 0.3 * AMPLITUDE


@every_rate
@every_format
def test_streamed_over_http(fake: Server, name: str, rate: int) -> None:
    answer = speak(fake.url, TEXT, seed=SEED, audio={"format": name, "sample_rate": rate})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == FORMATS[name][1]
    assert "content-length" not in answer.headers
    check(answer.content, name, rate)


@every_rate
@every_format
def test_whole_over_http(fake: Server, name: str, rate: int) -> None:
    answer = speak(fake.url, TEXT, seed=SEED, stream=False, audio={"format": name, "sample_rate": rate})
    assert int(answer.headers["content-length"]) == len(answer.content)
    check(answer.content, name, rate)
    if name != "aac":  # which has no place for it
        with av.open(io.BytesIO(answer.content), "r") as container:
            assert container.duration is not None
            duration = container.duration / av.time_base
        assert duration == pytest.approx(SECONDS, abs=2200 / rate)


@every_rate
@every_format
def test_chunks_over_websocket(fake: Server, name: str, rate: int) -> None:
    audio = {"format": name, "sample_rate": rate}
    with talking(fake) as talk:
        answer = talk.spoken(TEXT, seed=SEED, audio=audio)
    assert len(answer.chunks) > 10
    check(answer.data, name, rate)
    assert answer.data == speak(fake.url, TEXT, seed=SEED, audio=audio).content


@every_format
def test_audio_arrives_while_it_is_made(slow: Server, name: str) -> None:
    body = {"text": TEXT, "audio": {"format": name, "sample_rate": 24_000}}
    with HTTP.stream("POST", f"{slow.url}/api/tts", json=body) as answer:
        pieces = answer.iter_raw()
        received = bytearray()
        # More than any head: sound.
        while len(received) < 1500:
            received += next(pieces)
        assert slow.metrics()["chatterbox_requests_running"] == 1
        rest = b"".join(pieces)
    assert len(rest) > 3 * len(received)
    slow.wait_metric("chatterbox_requests_running", 0)


def test_fmp4_is_cut_into_short_fragments(fake: Server) -> None:
    data = speak(fake.url, TEXT, audio={"format": "fmp4", "sample_rate": 24_000}).content
    boxes, position = [], 0
    while position < len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        boxes.append(data[position + 4 : position + 8].decode())
        position += size
    fragments = boxes[2:]
    assert boxes[:2] == ["ftyp", "moov"]
    assert fragments == ["moof", "mdat"] * (len(fragments) // 2)
    assert SECONDS / 0.2 <= len(fragments) / 2 <= SECONDS / 0.1
