"""``/tts`` and ``/tts/json``: clips that are a voice for one request, and figures instead of audio."""

from __future__ import annotations

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import soundfile
from audio_helpers import clip, pitch, read_wav, refusal
from chatterbox_server.fake import frequency
from running_server import HTTP, Server, StartServer
from voices_helpers import get, post_file

FAKE = ("--engine", "fake", "--fake-rtf", "0")
TEXT = "Hello there, this is one sentence."


def tts(server: Server, content: bytes, /, path: str = "/tts", **texts: str) -> httpx.Response:
    """Speaks with a clip."""
    return post_file(server, path, "voice_file", content, "clip.wav", text=TEXT, **texts)


def key(content: bytes) -> str:
    """The name under which the engine has a clip."""
    return hashlib.sha256(content).hexdigest()


def test_clip_speaks(fake: Server) -> None:
    content = clip(300)
    answer = tts(fake, content, seed="5")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/wav")
    assert answer.headers["x-voice"] == key(content)
    assert "content-length" not in answer.headers
    samples, rate = read_wav(answer.content)
    assert len(samples) / rate == pytest.approx(0.06 * len(TEXT))
    assert pitch(samples, rate) == pytest.approx(frequency("fake", key(content), 5), abs=1)


@pytest.mark.parametrize("path", ["/tts", "/tts/json"])
def test_clip_is_forgotten_when_its_request_ends(server: StartServer, path: str) -> None:
    one = server(*FAKE)
    before = sorted(one.voices.rglob("*"))
    for _ in range(2):
        assert tts(one, clip(), path=path).status_code == 200
        one.wait_metric("chatterbox_voice_cache_bytes", 0)
    assert get(one, "/voices") == []
    assert sorted(one.voices.rglob("*")) == before


def test_clip_is_forgotten_when_client_disconnects(server: StartServer) -> None:
    one = server("--engine", "fake", "--fake-rtf", "1")
    with HTTP.stream(
        "POST", f"{one.url}/tts", data={"text": "x" * 1000}, files={"voice_file": ("v.wav", clip())}
    ) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        assert one.metrics()["chatterbox_requests_running"] == 1
    one.wait_metric("chatterbox_requests_running", 0)
    # The fake engine tells of its cache when it has done something.
    assert HTTP.post(f"{one.url}/tts", data={"text": "Hi."}).status_code == 200
    one.wait_metric("chatterbox_voice_cache_bytes", 0)


def test_clip_equal_to_stored_voice_stays_stored(server: StartServer) -> None:
    one = server(*FAKE)
    post_file(one, "/voices", "file", clip(), "anna.wav").raise_for_status()
    one.wait_metric("chatterbox_voice_cache_bytes", 8)
    assert tts(one, clip()).headers["x-voice"] == key(clip())
    assert tts(one, clip(330)).status_code == 200
    one.wait_metric("chatterbox_voice_cache_bytes", 8)
    assert get(one, "/voices") == ["anna.wav"]
    assert HTTP.post(f"{one.url}/tts", data={"text": TEXT, "voice_id": "anna"}).headers["x-voice"] == "anna.wav"


def test_concurrent_clips_are_separate_voices(fake: Server) -> None:
    clips = [clip(200 + 10 * number) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda content: tts(fake, content, seed="1"), clips))
    for content, answer in zip(clips, answers, strict=True):
        samples, rate = read_wav(answer.content)
        assert pitch(samples, rate) == pytest.approx(frequency("fake", key(content), 1), abs=1)


@pytest.mark.parametrize("path", ["/tts", "/tts/json"])
def test_invalid_clips_are_refused(fake: Server, path: str) -> None:
    short, silent = io.BytesIO(), io.BytesIO()
    soundfile.write(short, [0.3, -0.3] * 4000, 16_000, format="WAV")
    soundfile.write(silent, [0.0] * 32_000, 16_000, format="WAV")
    refusal(tts(fake, short.getvalue(), path=path), 422, "INVALID_PARAMETER")
    refusal(tts(fake, silent.getvalue(), path=path), 422, "INVALID_PARAMETER")
    refusal(tts(fake, b"no audio at all", path=path), 415, "UNSUPPORTED_AUDIO")
    pickle = post_file(fake, path, "voice_file", b"\x80\x04.", "voice.pth", text=TEXT)
    assert "voice convert" in refusal(pickle, 415, "UNSUPPORTED_AUDIO")
    said = refusal(tts(fake, clip(), path=path, voice_id="anna.wav"), 422, "INVALID_PARAMETER")
    assert said.startswith("voice_id: ")


def test_clip_may_be_as_large_as_voice(server: StartServer) -> None:
    one = server(*FAKE, env={"MAX_VOICE_FILE_SIZE": "60000"})
    assert tts(one, clip(seconds=1.5)).status_code == 200
    refusal(tts(one, clip(seconds=3)), 413, "FILE_TOO_LARGE")


def test_model_without_cloning_refuses_clip(lite: Server) -> None:
    assert "cannot clone" in refusal(tts(lite, clip()), 422, "CANNOT_CLONE")
    refusal(tts(lite, clip(), path="/tts/json"), 422, "CANNOT_CLONE")


@pytest.mark.parametrize("kind", ["form", "multipart", "JSON"])
def test_figures_instead_of_audio(fake: Server, kind: str) -> None:
    url = f"{fake.url}/tts/json"
    if kind == "JSON":
        answer = HTTP.post(url, json={"text": TEXT})
    elif kind == "form":
        answer = HTTP.post(url, data={"text": TEXT})
    else:
        answer = HTTP.post(url, files={"text": (None, TEXT)})
    answer_body = answer.raise_for_status().json()
    assert answer.headers["content-type"] == "application/json"
    assert set(answer_body) == {
        "duration_seconds",
        "generation_seconds",
        "rtf",
        "time_to_first_audio_ms",
        "voice_id",
        "model",
    }
    assert answer_body["duration_seconds"] == pytest.approx(0.06 * len(TEXT))
    assert answer_body["rtf"] == pytest.approx(answer_body["generation_seconds"] / answer_body["duration_seconds"])
    assert answer_body["time_to_first_audio_ms"] > 0
    assert (answer_body["voice_id"], answer_body["model"]) == ("tone", "fake")


def test_figures_of_clip_and_of_voice(fake: Server) -> None:
    assert tts(fake, clip(310), path="/tts/json").json()["voice_id"] == key(clip(310))
    registered = post_file(fake, "/voices/register", "voice_file", clip(320)).json()["voice_id"]
    spoken = HTTP.post(f"{fake.url}/tts/json", data={"text": TEXT, "voice_id": registered}).json()
    assert spoken["voice_id"].startswith(registered)


def test_figures_take_as_long_as_engine_does(server: StartServer) -> None:
    one = server("--engine", "fake", "--fake-rtf", "0.5")
    answer_body = HTTP.post(f"{one.url}/tts/json", data={"text": TEXT}).json()
    assert answer_body["rtf"] >= 0.45
    assert answer_body["time_to_first_audio_ms"] >= 90


def test_late_failure_is_error(fake: Server) -> None:
    for text in ("[[fail]]", "[[fail-late]]" + "x" * 50):
        refusal(HTTP.post(f"{fake.url}/tts/json", data={"text": text}), 500, "GENERATION_ERROR")


def test_invalid_form_bodies_are_refused(fake: Server) -> None:
    for path in ("/tts", "/tts/json"):
        url = fake.url + path
        refusal(HTTP.post(url, content=b"text=a"), 400, "BAD_REQUEST")
        refusal(HTTP.post(url, content=b"x", headers={"content-type": "text/plain"}), 400, "BAD_REQUEST")
        refusal(HTTP.post(url, content=b"x", headers={"content-type": "multipart/form-data"}), 400, "BAD_REQUEST")
        refusal(HTTP.post(url, content=b"{", headers={"content-type": "application/json"}), 400, "INVALID_JSON")
        refusal(HTTP.post(url, json={"text": "x" * 2_000_000}), 413, "BODY_TOO_LARGE")
        refusal(HTTP.get(url), 405, "METHOD_NOT_ALLOWED")


def test_key_is_required(server: StartServer) -> None:
    one = server(*FAKE, env={"API_KEY": "canary", "HOST": "127.0.0.1"})
    for path in ("/tts", "/tts/json"):
        refusal(HTTP.post(one.url + path, data={"text": TEXT}), 401, "UNAUTHORIZED")
        kept = HTTP.post(one.url + path, data={"text": TEXT}, headers={"x-api-key": "canary"})
        assert kept.status_code == 200
    for path in ("/system-status", "/metrics"):
        refusal(HTTP.get(one.url + path), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("path", ["/tts", "/tts/json"])
def test_empty_file_part_is_ignored(fake: Server, path: str) -> None:
    """As browsers send it."""
    edge, text = "edge", 'Content-Disposition: form-data; name="text"\r\n\r\nHi.'
    nothing = (
        'Content-Disposition: form-data; name="voice_file"; filename=""\r\nContent-Type: application/octet-stream',
        'Content-Disposition: form-data; name="voice_file"',
    )
    for head in nothing:
        body = "".join(f"--{edge}\r\n{part}\r\n" for part in (text, f"{head}\r\n\r\n")) + f"--{edge}--\r\n"
        kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        answer = HTTP.post(fake.url + path, content=body.encode(), headers=kind)
        assert answer.status_code == 200, answer.text


def test_text_may_be_as_long_as_server_allows(server: StartServer) -> None:
    one = server("--engine", "fake", "--fake-rtf", "0", "--max-text-length", "200000")
    text = "å" * 150_000
    for body in ({"data": {"text": text}}, {"files": {"text": (None, text)}}, {"json": {"text": text}}):
        assert HTTP.post(one.url + "/tts/json", **body).status_code == 200
    long = HTTP.post(one.url + "/tts/json", json={"text": "å" * 200_001})
    assert long.status_code == 400
    assert long.json()["code"] == "TEXT_TOO_LONG"
