"""``POST /api/vc`` and ``chatterbox-server convert``: a clip, spoken again in another voice."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from audio_helpers import clip, pitch, read_pcm, read_wav, refusal
from chatterbox_server.fake import frequency
from command_helpers import FIGURES, run
from faults_helpers import FAKE, distinct_clips, pitch_of, pitches, upload, wait_until
from running_server import HTTP, Server, StartServer

RATE = 24_000


def convert(server: Server, content: bytes = clip(), /, **fields: Any) -> httpx.Response:
    return HTTP.post(f"{server.url}/api/vc", files={"file": ("clip.wav", content)}, data=fields)


@pytest.mark.parametrize("stream", ["true", "false"])
def test_conversion_keeps_length_and_uses_model_voice(fake: Server, stream: str) -> None:
    answer = convert(fake, clip(seconds=2.5, rate=44_100), seed=3, stream=stream)
    assert answer.status_code == 200, answer.text
    samples, rate = read_wav(answer.content)
    assert (len(samples), rate) == (round(2.5 * RATE), RATE)
    assert pitch(samples, rate) == pytest.approx(frequency("fake", "tone", 3), abs=1)
    assert answer.headers["content-type"] == "audio/wav"
    assert (answer.headers["x-model"], answer.headers["x-voice"]) == ("fake", "tone")
    assert int(answer.headers["x-time-to-first-audio-ms"]) >= int(answer.headers["x-queue-time-ms"])
    assert ("content-length" in answer.headers) == (stream == "false")


def test_library_voice_speaks(server: StartServer) -> None:
    one = server(*FAKE, env={"VOICE_CACHE": "lazy"})
    mine, default = distinct_clips(2)
    upload(one, "mine.wav", mine)
    upload(one, "usual.wav", default)
    wanted = {"format": "pcm_f32le", "seed": "0"}
    assert pitches(convert(one, voice="mine.wav", **wanted).content) == {pitch_of(mine)}
    HTTP.post(f"{one.url}/api/voice/default", json={"voice_path": "usual.wav"})
    answer = convert(one, voice="", **wanted)
    assert pitches(answer.content) == {pitch_of(default)}
    assert answer.headers["x-voice"] == "usual.wav"
    assert pitches(convert(one, voice="tone", **wanted).content) == {pitch_of(None)}


def test_format_and_rate_are_honoured(fake: Server) -> None:
    answer = convert(fake, clip(seconds=1.0), format="pcm_s16le", sample_rate="8000")
    assert answer.headers["x-sample-rate"] == "8000"
    assert len(read_pcm(answer.content, "pcm_s16le")) == pytest.approx(8000, abs=2)


@pytest.mark.parametrize(
    ("fields", "status", "code", "said"),
    [
        ({"format": "vorbis"}, 422, "INVALID_PARAMETER", "format:"),
        ({"sample_rate": "11025"}, 422, "INVALID_PARAMETER", "sample_rate:"),
        ({"sample_rate": "fast"}, 422, "INVALID_PARAMETER", "sample_rate: expected a whole number"),
        ({"seed": "-2"}, 422, "INVALID_PARAMETER", "seed:"),
        ({"seed": str(2**53)}, 422, "INVALID_PARAMETER", "seed:"),
        ({"stream": "maybe"}, 422, "INVALID_PARAMETER", "stream:"),
        ({"voice": "x" * 2000}, 404, "VOICE_NOT_FOUND", "not found"),
        ({"voice": "nobody.wav"}, 404, "VOICE_NOT_FOUND", "not found"),
        ({"voice": "../../etc/passwd"}, 404, "VOICE_NOT_FOUND", "not found"),
        ({"model": "turbo"}, 404, "MODEL_NOT_LOADED", "fake"),
    ],
)
def test_wrong_part_is_named(fake: Server, fields: dict[str, str], status: int, code: str, said: str) -> None:
    assert said in refusal(convert(fake, **fields), status, code)


def test_missing_or_invalid_clip_is_refused(fake: Server) -> None:
    refusal(HTTP.post(f"{fake.url}/api/vc", files={"other": b"x"}), 400, "NO_FILE")
    refusal(HTTP.post(f"{fake.url}/api/vc", json={"voice": "tone"}), 400, "BAD_REQUEST")
    refusal(convert(fake, b"this is no audio at all" * 10), 415, "UNSUPPORTED_AUDIO")
    refusal(convert(fake, clip(seconds=0.0)), 415, "UNSUPPORTED_AUDIO")


def test_clip_has_limits(server: StartServer) -> None:
    one = server(*FAKE, env={"MAX_CONVERT_SECONDS": "2", "MAX_VOICE_FILE_SIZE": "100000"})
    assert convert(one, clip(seconds=2.0)).status_code == 200
    assert refusal(convert(one, clip(seconds=2.1)), 422, "INVALID_PARAMETER").startswith("file:")
    refusal(convert(one, clip(seconds=4.0)), 413, "FILE_TOO_LARGE")
    refusal(convert(one, clip(seconds=60.0)), 413, "FILE_TOO_LARGE")


def test_error_names_models_that_convert(lite: Server, server: StartServer) -> None:
    said = refusal(convert(lite), 404, "MODEL_NOT_LOADED")
    assert "load one that does, such as turbo (LOAD_TURBO=true)" in said
    said = refusal(convert(lite, model="lite"), 422, "INVALID_PARAMETER")
    assert said.startswith("model: lite cannot convert voices")


def test_conversion_is_counted_and_needs_key(server: StartServer) -> None:
    one = server(*FAKE, "--api-key", "secret")
    assert convert(one).status_code == 401
    key = {"X-API-Key": "secret"}
    files = {"file": ("clip.wav", clip())}
    assert HTTP.post(f"{one.url}/api/vc", files=files, headers=key).status_code == 200
    assert HTTP.post(f"{one.url}/api/vc", files={"none": b""}, headers=key).status_code == 400
    shown = HTTP.get(f"{one.url}/metrics", headers=key).text
    assert 'chatterbox_requests_total{route="/api/vc",model="fake",outcome="ok"} 1' in shown
    assert 'chatterbox_requests_total{route="/api/vc",model="none",outcome="rejected"} 1' in shown


def test_conversion_takes_slot_and_queues(server: StartServer) -> None:
    env = {"MAX_CONCURRENT_REQUESTS": "1", "MAX_QUEUE": "0"}
    one = server("--engine", "fake", "--fake-rtf", "1", env=env)
    with HTTP.stream("POST", f"{one.url}/api/vc", files={"file": ("a.wav", clip(seconds=20.0))}) as running:
        # Held: a generator that goes away closes the connection.
        pieces = running.iter_bytes()
        next(pieces)
        assert one.metrics()["chatterbox_requests_running"] == 1
        answer = convert(one)
        refusal(answer, 503, "SERVER_BUSY")
        assert int(answer.headers["retry-after"]) >= 1
    # Hanging up is cancelling.
    one.wait_metric("chatterbox_requests_running", 0)
    one.wait_metric('chatterbox_requests_total{route="/api/vc",model="fake",outcome="cancelled"}', 1)


def test_waiting_clips_are_bounded(server: StartServer) -> None:
    one = server("--engine", "fake", "--fake-rtf", "1", env={"MAX_CONCURRENT_REQUESTS": "1", "MAX_QUEUE": "64"})
    content = clip(seconds=60.0, rate=8_000)
    body = httpx.Request("POST", f"{one.url}/api/vc", files={"file": ("clip.wav", content)})
    payload = body.read()
    head = f"POST /api/vc HTTP/1.1\r\nHost: localhost\r\nContent-Type: {body.headers['content-type']}\r\n"
    request = f"{head}Content-Length: {len(payload)}\r\n\r\n".encode() + payload
    with contextlib.ExitStack() as stack:
        for number in range(16):
            connection = socket.create_connection(("127.0.0.1", one.port), timeout=10)
            stack.enter_context(connection).sendall(request)
            one.wait_metric("chatterbox_requests_running", 1)
            one.wait_metric("chatterbox_requests_waiting", number)
        refusal(convert(one), 503, "SERVER_BUSY")
    wait_until(lambda: convert(one).status_code == 200, "a place")


def test_stopped_clip_upload_times_out(server: StartServer) -> None:
    one = server(*FAKE, env={"BODY_TIMEOUT": "0.5"})
    refusal(HTTP.post(f"{one.url}/api/vc", **stopping()), 408, "SLOW_BODY")
    refusal(HTTP.post(f"{one.url}/api/voices/upload", **stopping()), 408, "SLOW_BODY")


def test_trickled_clip_upload_times_out(server: StartServer) -> None:
    one = server(*FAKE, env={"REQUEST_TIMEOUT": "1"})
    refusal(HTTP.post(f"{one.url}/api/vc", **stopping(pause=0.1)), 408, "SLOW_BODY")


def stopping(pause: float = 3.0) -> dict[str, Any]:
    """A body whose file takes three seconds to come, with pauses of so many seconds."""

    def parts() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        for _ in range(round(3.0 / pause)):
            yield b"RIFF"
            time.sleep(pause)

    return {"content": parts(), "headers": {"content-type": "multipart/form-data; boundary=b"}}


def test_command_converts_file(tmp_path: Path) -> None:
    (tmp_path / "in.wav").write_bytes(clip(seconds=1.5, rate=16_000))
    done = run(tmp_path, "convert", "in.wav", "-o", "out.flac", "--seed", "3", *FAKE)
    assert done.returncode == 0, done.stderr
    samples, rate = soundfile.read(tmp_path / "out.flac")
    assert len(samples) / rate == pytest.approx(1.5, abs=0.01)
    assert pitch(samples, rate) == pytest.approx(frequency("fake", "tone", 3), abs=1)
    figures = FIGURES.search(done.stderr.decode())
    assert figures
    assert float(figures[1]) == pytest.approx(1.5, abs=0.01)


def test_command_equals_server(tmp_path: Path, fake: Server) -> None:
    content = clip(seconds=1.25)
    done = run(tmp_path, "convert", "-", "-o", "-", "--seed", "5", "--format", "pcm_f32le", *FAKE, text=content)
    assert done.returncode == 0, done.stderr
    served = convert(fake, content, seed=5, format="pcm_f32le")
    np.testing.assert_array_equal(read_pcm(done.stdout, "pcm_f32le"), read_pcm(served.content, "pcm_f32le"))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["missing.wav"], "missing.wav"),
        (["in.txt"], "not audio"),
        (["in.wav", "--voice", "nobody"], "voice"),
        (["in.wav", "--model", "turbo"], "model"),
        (["in.wav", "-o", "no/such/folder.wav"], "no/such/folder.wav"),
    ],
)
def test_command_error_is_one_sentence(tmp_path: Path, args: list[str], said: str) -> None:
    (tmp_path / "in.wav").write_bytes(clip())
    (tmp_path / "in.txt").write_text("This is a text.")
    done = run(tmp_path, "convert", *args, *FAKE)
    assert done.returncode == 1, done.stderr
    assert said in done.stderr.decode().partition("error: ")[2].lower()
    assert not (tmp_path / "speech.wav").exists()
