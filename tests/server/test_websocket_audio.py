"""The samples that come over ``/ws/tts``: exact chunks, every rate and format, the same by every way."""

from __future__ import annotations

import io
import wave

import pytest
from audio_helpers import clip
from running_server import HTTP, Server
from voices_helpers import post_file
from ws_helpers import Answer, talking

TEXT = "It was a bright cold day in April, and the clocks were striking thirteen. Nobody had counted."
SAMPLE_BYTES = {"pcm_s16le": 2, "pcm_f32le": 4}


@pytest.mark.parametrize("name", SAMPLE_BYTES)
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100, 48000])
def test_chunks_are_exact(fake: Server, rate: int, name: str) -> None:
    # 108 characters are one utterance of 6.5 s, so that two chunks of the greatest length come.
    text = "word " * 21 + "end"
    with talking(fake) as talk:
        for chunk_ms in (10, 40, 125, 5000):
            audio = {"format": name, "sample_rate": rate, "chunk_size_ms": chunk_ms}
            answer = talk.spoken(text, audio=audio, seed=1)
            exact = rate * chunk_ms // 1000 * SAMPLE_BYTES[name]
            sizes = [len(chunk) for chunk in answer.chunks]
            assert set(sizes[:-1]) == {exact}
            assert 0 < sizes[-1] <= exact
            assert [header["index"] for header in answer.headers] == list(range(len(sizes)))
            assert [header["is_last"] for header in answer.headers].count(True) == 1
            assert answer.headers[-1]["is_last"]
            seconds = sum(sizes) / SAMPLE_BYTES[name] / rate
            assert seconds == pytest.approx(answer.end["duration_seconds"], abs=0.001)


@pytest.mark.parametrize("stream", [True, False])
def test_wav_decodes(fake: Server, stream: bool) -> None:
    with talking(fake) as talk:
        bare = talk.spoken("Hello there.", seed=5, audio={"sample_rate": 16000})
        answer = talk.spoken("Hello there.", seed=5, stream=stream, audio={"format": "wav", "sample_rate": 16000})
    data = answer.data
    if stream:
        assert data[40:44] == b"\xff\xff\xff\xff", "the length is not known when the head is sent"
        data = data[:40] + (len(data) - 44).to_bytes(4, "little") + data[44:]
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        assert file.readframes(file.getnframes()) == bare.data


def _pieces(server: Server, text: str, size: int) -> Answer:
    with talking(server) as talk:
        talk.send(type="say", id="a", more=True, seed=7)
        for start in range(0, len(text), size):
            talk.send(type="append", id="a", text=text[start : start + size])
        talk.send(type="end", id="a")
        return talk.collect()


def _same_by_every_way(server: Server) -> None:
    with talking(server) as talk:
        whole = talk.spoken(TEXT, seed=7)
        other = talk.spoken(TEXT, seed=7, audio={"chunk_size_ms": 333})
    assert len(whole.data) > 2 * 24000, "a second of audio"
    assert other.data == whole.data
    assert _pieces(server, TEXT, 3).data == whole.data
    body = {"text": TEXT, "seed": 7, "audio": {"format": "pcm_s16le"}}
    http = HTTP.post(server.url + "/api/tts", json=body)
    assert http.status_code == 200, http.text
    assert http.content == whole.data


def test_every_transport_gives_same_samples(fake: Server) -> None:
    _same_by_every_way(fake)


def test_every_transport_gives_same_speech(lite: Server) -> None:
    _same_by_every_way(lite)


def test_lite_speaks_and_refuses_to_clone(lite: Server) -> None:
    with talking(lite) as talk:
        answer = talk.spoken("Hello.", audio={"sample_rate": 8000})
        assert max(answer.data) > 0
        assert post_file(lite, "/voices", "file", clip(), "someone.wav").status_code in (201, 409)
        voice = {"audio_prompt_path": "someone.wav"}
        error = talk.fails("CANNOT_CLONE", type="say", text="Hello.", voice=voice)
        assert "LOAD_TURBO" in error["error"]
        assert "text" in talk.fails("INVALID_PARAMETER", type="say", text="Привет, мир.")["error"]
