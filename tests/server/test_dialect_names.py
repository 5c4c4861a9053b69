"""Names and spellings of other servers' clients: taken, or refused by name, in every dialect."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from audio_helpers import clip, pitch, read_wav, refusal
from chatterbox_server.fake import frequency
from running_server import HTTP, Server
from voices_helpers import openai_refusal, post_file

TEXT = "Hello there."
ROUTES = ("/api/tts", "/tts", "/tts/generate", "/v1/audio/speech")
VOICES = (
    "voice",
    "voice_id",
    "predefined_voice_id",
    "reference_audio_filename",
    "audio_prompt_path",
    "voice_name",
    "speaker",
)


def post(server: Server, path: str, **fields: Any) -> httpx.Response:
    """Speaks; the text and the format have the names of the route."""
    openai = path.startswith("/v1/")
    named = {"input" if openai else "text": TEXT, "seed": 1, **fields}
    if openai and not {"format", "output_format", "audio_format", "audio"} & set(fields):
        named = {"response_format": "wav", **named}
    return HTTP.post(server.url + path, json=named)


def refused_field(answer: httpx.Response, path: str) -> str:
    """The field that a refusal names."""
    if path.startswith("/v1/"):
        openai_refusal(answer, 422, "invalid_parameter")
        return str(answer.json()["error"]["param"])
    return refusal(answer, 422, "INVALID_PARAMETER").partition(":")[0]


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("name", VOICES)
def test_voice_under_any_name_speaks_or_is_not_found(fake: Server, path: str, name: str) -> None:
    assert post_file(fake, "/voices", "file", clip(), "anna.wav").status_code in (201, 409)
    assert post(fake, path, **{name: "anna"}).headers["x-voice"] == "anna.wav"
    assert post(fake, path, **{name: "nobody"}).status_code == 404


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("name", ["format", "output_format", "response_format", "audio_format"])
def test_format_under_any_name_is_taken_or_refused(fake: Server, path: str, name: str) -> None:
    assert post(fake, path, **{name: "mp3"}).headers["content-type"] == "audio/mpeg"
    assert refused_field(post(fake, path, **{name: "mp3_44100_128"}), path) == name
    assert refused_field(post(fake, path, **{name: {"container": "wav"}}), path) == name


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("name", ["language", "lang", "lang_code", "language_code", "language_id"])
def test_language_under_any_name_is_taken_or_refused(fake: Server, path: str, name: str) -> None:
    assert post(fake, path, **{name: "fr"}).status_code == 200
    assert refused_field(post(fake, path, **{name: "tlh"}), path) == name


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("name", ["speed", "speed_factor", "speech_rate", "speaking_rate"])
def test_speed_under_any_name_is_taken_or_refused(fake: Server, path: str, name: str) -> None:
    samples, rate = read_wav(post(fake, path, **{name: 2}).content)
    assert len(samples) / rate == pytest.approx(0.03 * len(TEXT), abs=0.01)
    assert refused_field(post(fake, path, **{name: 9}), path) == name


def test_text_under_any_name_is_spoken(fake: Server) -> None:
    for path in ROUTES:
        for name in ("text", "input", "transcript"):
            answer = HTTP.post(fake.url + path, json={name: TEXT})
            assert answer.status_code == 200, (path, name)


@pytest.mark.parametrize("path", ROUTES)
def test_names_in_another_case_or_object_mean_same(fake: Server, path: str) -> None:
    for name in ("voiceId", "VOICE_ID", "Voice", "voice-id", "predefinedVoiceId"):
        assert post(fake, path, **{name: "nobody"}).status_code == 404, name
    for group in ("extra_body", "options", "parameters", "voice_settings", "voiceSettings"):
        assert post(fake, path, **{group: {"voice": "nobody", "other": 1}}).status_code == 404, group


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("name", ["reference_id", "ref_audio", "audioPrompt", "voice_uuid", "codec", "target_lang"])
def test_unknown_names_of_voices_formats_and_languages_are_refused(fake: Server, path: str, name: str) -> None:
    assert refused_field(post(fake, path, **{name: "nobody"}), path) == name


def test_two_names_for_one_thing_are_refused(fake: Server) -> None:
    for path in ROUTES:
        answer = post(fake, path, voice="tone", voice_id="tone")
        assert refused_field(answer, path) in ("voice", "voice_id")
    assert refused_field(post(fake, "/api/tts", format="mp3", audio={"format": "wav"}), "/api/tts") == "audio.format"


def test_names_are_read_from_queries_and_forms(fake: Server) -> None:
    sent = {"input": TEXT, "voice": "nobody"}
    for answer in (
        HTTP.get(f"{fake.url}/tts/generate", params=sent),
        HTTP.post(f"{fake.url}/tts", data=sent),
        HTTP.post(f"{fake.url}/tts", files={name: (None, value) for name, value in sent.items()}),
    ):
        refusal(answer, 404, "VOICE_NOT_FOUND")


@pytest.mark.parametrize("path", ROUTES)
def test_values_are_read_in_every_form(fake: Server, path: str) -> None:
    for seed in (42, "42", 42.0, "42.0"):
        samples, rate = read_wav(post(fake, path, seed=seed).content)
        assert pitch(samples, rate) == pytest.approx(frequency("fake", "tone", 42), abs=1), seed
    whole = [post(fake, path, stream=stream).headers.get("content-length") for stream in ("no", "Off", 0, "0", False)]
    assert all(whole), whole
    streamed = [post(fake, path, stream=stream).headers.get("content-length") for stream in ("yes", "ON", 1, True)]
    assert not any(streamed), streamed
    assert post(fake, path, speed="1.2", model="", language_id="", voice="", seed="-1").status_code == 200


def test_seed_of_minus_one_is_random(fake: Server) -> None:
    bodies = {post(fake, "/api/tts", seed=-1).content for _ in range(6)}
    assert len(bodies) > 1


@pytest.mark.parametrize("path", ROUTES)
def test_half_characters_are_dropped_and_words_spoken(fake: Server, path: str) -> None:
    name = "input" if path.startswith("/v1/") else "text"
    body = f'{{"{name}": "Hello there. \\ud83d", "seed": 1, "format": "wav"}}'
    answer = HTTP.post(fake.url + path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert answer.content == post(fake, path, **{name: "Hello there. ", "format": "wav"}).content


@pytest.mark.parametrize("path", ROUTES)
def test_byte_order_mark_is_passed_over_and_other_encodings_are_named(fake: Server, path: str) -> None:
    name = "input" if path.startswith("/v1/") else "text"
    body = json.dumps({name: TEXT})
    kind = {"content-type": "application/json"}
    marked = HTTP.post(fake.url + path, content=body.encode("utf-8-sig"), headers=kind)
    assert marked.status_code == 200, marked.text
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        answer = HTTP.post(fake.url + path, content=body.encode(encoding), headers=kind)
        assert answer.status_code == 400
        assert "UTF-8" in answer.text
