"""The voice library over every dialect: what is uploaded in one is listed, spoken and deleted in all."""

from __future__ import annotations

import hashlib
import io
import json
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_helpers import clip, refusal
from faults_helpers import FAKE, distinct_clips, pitch_of, pitches, speak, upload, wait_until
from running_server import HTTP, Server, StartServer
from voices_helpers import get, openai_refusal, post_file

MARKUP = '<img src=x onerror="alert(1)">'
CACHE = "chatterbox_voice_cache_bytes"


def test_voice_details_can_be_read_and_changed(server: StartServer) -> None:
    one = server(*FAKE)
    before = int(time.time())
    content = clip(seconds=1.5, rate=22_050)
    answer = post_file(one, "/api/voices/upload", "file", content, "anna.wav", name=MARKUP, language="pt-BR")
    assert answer.status_code == 200, answer.text
    voice = get(one, "/api/voices/anna")
    assert before - 1 <= voice.pop("created_at") <= time.time() + 1
    assert voice == {
        "name": MARKUP,
        "id": "anna.wav",
        "path": str(one.voices / "anna.wav"),
        "duration_seconds": 1.5,
        "sample_rate": 22_050,
        "hash": hashlib.sha256(content).hexdigest(),
        "language": "pt-br",
        "consent": None,
        "source": "/api/voices/upload",
        "preloaded": False,
    }
    changed = HTTP.patch(one.url + "/api/voices/anna", json={"id": "berta", "language": None, "consent": "I agree."})
    assert changed.status_code == 200, changed.text
    assert {**voice, **changed.json()} == changed.json()
    assert (changed.json()["id"], changed.json()["language"], changed.json()["consent"]) == (
        "berta.wav",
        None,
        "I agree.",
    )
    assert changed.json()["name"] == MARKUP
    refusal(HTTP.get(one.url + "/api/voices/anna"), 404, "VOICE_NOT_FOUND")
    assert pitches(speak(one, "This is a text.", "berta").content) == {pitch_of(content)}
    one.kill()
    again = server(*FAKE, folder=one.folder)
    assert get(again, "/api/voices/berta") == changed.json()
    assert HTTP.delete(again.url + "/api/voices/berta").json() == {"success": True, "id": "berta.wav"}
    assert get(again, "/api/voices")["voices"] == []
    assert not list((again.voices / ".details").iterdir())


def test_names_with_markup_stay_data(server: StartServer) -> None:
    one = server(*FAKE)
    post_file(one, "/v1/audio/voices", "audio_sample", clip(), name=MARKUP).raise_for_status()
    for path in ("/api/voices", "/v1/audio/voices", "/voices"):
        answer = HTTP.get(one.url + path)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert [voice["name"] for voice in get(one, "/api/voices")["voices"]] == [MARKUP]
    bad = HTTP.patch(one.url + f"/api/voices/{MARKUP}", json={"name": MARKUP})
    assert MARKUP not in bad.text
    assert bad.headers["x-content-type-options"] == "nosniff"


def test_preview_is_short_wav_of_any_clip(server: StartServer) -> None:
    one = server(*FAKE)
    tone = 0.3 * np.sin(np.arange(30 * 16_000) * (2 * np.pi * 220 / 16_000))
    file = io.BytesIO()
    soundfile.write(file, tone, 16_000, format="FLAC")
    assert upload(one, "long.flac", file.getvalue()).status_code == 200
    answer = HTTP.get(one.url + "/api/voices/long/preview")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/wav")
    samples, rate = soundfile.read(io.BytesIO(answer.content))
    assert (len(samples), rate) == (160_000, 16_000)
    assert np.abs(samples[:150_000] - tone[:150_000]).max() < 1e-3
    assert abs(samples[-1]) < 1e-3
    refusal(HTTP.get(one.url + "/api/voices/nobody/preview"), 404, "VOICE_NOT_FOUND")


def test_listings_are_filtered(server: StartServer) -> None:
    one = server(*FAKE)
    for number, (name, language) in enumerate([("Anna", "de"), ("Ben", "en-GB"), ("Annika", "en")]):
        file = f"v{number}.wav"
        post_file(one, "/api/voices/upload", "file", clip(200 + number), file, name=name, language=language)

    def found(query: str) -> list[str]:
        return [voice["name"] for voice in get(one, f"/api/voices?{query}")["voices"]]

    assert found("language=en") == ["Ben", "Annika"]
    assert found("search=ANN") == ["Anna", "Annika"]
    assert found("search=ann&language=en") == ["Annika"]
    assert found("search=&language=") == ["Anna", "Ben", "Annika"]


def test_plain_voice_routes(server: StartServer) -> None:
    one = server(*FAKE)
    answer = post_file(one, "/voices", "file", clip(), "anna.wav")
    assert answer.status_code == 201
    assert answer.json() == {"voice_id": "anna.wav", "message": "Voice uploaded successfully."}
    refusal(post_file(one, "/voices", "file", clip(300), "anna.wav"), 409, "VOICE_EXISTS")
    assert post_file(one, "/voices", "file", clip(300), "anna.wav", overwrite="true").status_code == 201
    refusal(post_file(one, "/voices", "file", clip(300), "anna.wav", overwrite="maybe"), 422, "INVALID_PARAMETER")
    assert get(one, "/voices") == ["anna.wav"]
    deleted = HTTP.delete(one.url + "/voices/anna.wav")
    assert (deleted.status_code, deleted.json()) == (200, {"message": "Voice 'anna.wav' deleted successfully."})
    assert "detail" in HTTP.delete(one.url + "/voices/anna.wav").json()
    refusal(HTTP.delete(one.url + "/voices/anna.wav"), 404, "VOICE_NOT_FOUND")
    assert "voice convert" in refusal(post_file(one, "/voices", "file", clip(), "a.pth"), 415, "UNSUPPORTED_AUDIO")


def test_same_clip_is_registered_under_one_id(server: StartServer) -> None:
    one = server(*FAKE)
    mine, other = distinct_clips(2)
    ids = [post_file(one, "/voices/register", "voice_file", c, n).json() for c, n in [(mine, "a.wav"), (mine, "b.mp3")]]
    key = hashlib.sha256(mine).hexdigest()
    assert ids == [{"voice_id": key, "message": "Voice registered successfully"}] * 2
    assert get(one, "/voices") == [key]
    assert pitches(speak(one, "This is a text.", key).content) == {pitch_of(mine)}
    assert post_file(one, "/voices/register", "voice_file", other).json()["voice_id"] != key
    refusal(post_file(one, "/voices/register", "voice_file", mine, "a.pth"), 415, "UNSUPPORTED_AUDIO")
    refusal(post_file(one, "/voices/register", "file", mine), 400, "NO_FILE")
    assert HTTP.delete(f"{one.url}/voices/{key}").status_code == 200
    assert key not in get(one, "/voices")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "a\nb"),
        ("name", "x" * 129),
        ("language", "<b>"),
        ("language", "english"),
        ("consent", "\x01"),
        ("consent", "cons_" + "a" * 32),
    ],
)
def test_voice_details_are_validated(fake: Server, field: str, value: str) -> None:
    for path, part in (
        ("/api/voices/upload", "file"),
        ("/voices", "file"),
        ("/voices/register", "voice_file"),
        ("/v1/audio/voices", "audio_sample"),
    ):
        answer = post_file(fake, path, part, clip(), **{"name": "x", field: value})
        assert answer.status_code == 422, answer.text
        error = answer.json().get("error", answer.json().get("detail"))
        assert field in json.dumps(error)
        assert value not in answer.text
    assert not [path for path in fake.voices.iterdir() if not path.name.startswith(".")]


def test_preloaded_voices_are_read_only_in_every_dialect(server: StartServer, tmp_path: Path) -> None:
    preloaded = tmp_path / "preloaded"
    preloaded.mkdir()
    (preloaded / "p.wav").write_bytes(clip())
    one = server(*FAKE, env={"PRELOADED_VOICES_DIR": str(preloaded)})
    assert get(one, "/api/voices/p")["preloaded"] is True
    refusal(HTTP.patch(one.url + "/api/voices/p", json={"name": "x"}), 403, "VOICE_READ_ONLY")
    refusal(HTTP.delete(one.url + "/api/voices/p"), 403, "VOICE_READ_ONLY")
    refusal(HTTP.delete(one.url + "/voices/p"), 403, "VOICE_READ_ONLY")
    openai_refusal(HTTP.delete(one.url + "/v1/audio/voices/p"), 403, "voice_read_only")
    assert [path.name for path in preloaded.iterdir()] == ["p.wav"]


def test_every_route_of_voices_needs_key(server: StartServer) -> None:
    one = server(*FAKE, env={"API_KEY": "right"})
    for method, path in (
        ("GET", "/api/voices"),
        ("GET", "/api/voices/a"),
        ("PATCH", "/api/voices/a"),
        ("DELETE", "/api/voices/a"),
        ("GET", "/api/voices/a/preview"),
        ("GET", "/voices"),
        ("POST", "/voices"),
        ("DELETE", "/voices/a"),
        ("POST", "/voices/register"),
        ("GET", "/v1/audio/voices"),
        ("POST", "/v1/audio/voices"),
        ("GET", "/v1/audio/voices/a"),
        ("DELETE", "/v1/audio/voices/a"),
        ("GET", "/v1/audio/voice_consents"),
        ("POST", "/v1/audio/voice_consents"),
        ("GET", "/v1/audio/voice_consents/a"),
        ("POST", "/v1/audio/voice_consents/a"),
        ("DELETE", "/v1/audio/voice_consents/a"),
    ):
        assert HTTP.request(method, one.url + path).status_code == 401, path
        assert HTTP.request(method, one.url + path, headers={"X-API-Key": "right"}).status_code not in (401, 405), path


@pytest.mark.parametrize("size", [3.0, 60.0])
def test_no_route_takes_file_that_is_too_large(server: StartServer, size: float) -> None:
    one = server(*FAKE, env={"MAX_VOICE_FILE_SIZE": "60000"})
    for path, part in (
        ("/voices", "file"),
        ("/voices/register", "voice_file"),
        ("/v1/audio/voices", "audio_sample"),
        ("/v1/audio/voice_consents", "recording"),
    ):
        assert post_file(one, path, part, clip(seconds=1.5), name="a", language="en").is_success
        answer = post_file(one, path, part, clip(seconds=size), name="a", language="en")
        assert answer.status_code == 413, answer.text


@pytest.mark.parametrize("change", ["delete", "replace", "by hand"])
def test_prepared_files_are_removed_with_voice(server: StartServer, change: str) -> None:
    one = server(*FAKE)
    mine, other = distinct_clips(2)
    upload(one, "mine.wav", mine)
    one.wait_metric(CACHE, 8)
    if change == "delete":
        HTTP.delete(one.url + "/voices/mine").raise_for_status()
    elif change == "replace":
        upload(one, "mine.wav", other)
    else:
        (one.voices / "mine.wav").unlink()
        get(one, "/voices")
    one.wait_metric(CACHE, 8 if change == "replace" else 0)
    upload(one, "again.wav", mine)
    assert pitches(speak(one, "This is a text.", "again").content) == {pitch_of(mine)}


def test_running_request_keeps_voice_that_is_deleted(server: StartServer) -> None:
    one = server("--engine", "fake", "--fake-rtf", "0.2", "--fake-chunk-ms", "50")
    mine, *_ = distinct_clips(1)
    upload(one, "mine.wav", mine)
    text = "The first of these. The second of these. The third of these."
    request = {"text": text, "seed": 0, "voice": {"audio_prompt_path": "mine"}, "audio": {"format": "pcm_f32le"}}
    with HTTP.stream("POST", one.url + "/api/tts", json=request) as response:
        pieces = response.iter_bytes()
        pcm = next(pieces)
        HTTP.delete(one.url + "/api/voices/mine").raise_for_status()
        assert one.metrics()["chatterbox_requests_running"] == 1
        pcm += b"".join(pieces)
    assert pitches(pcm) == {pitch_of(mine, seed) for seed in range(3)}
    # Nobody speaks with it any more.
    wait_until(lambda: one.metrics()[CACHE] == 0, "the engine has forgotten the voice")
