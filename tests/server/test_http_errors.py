"""What ``POST /api/tts`` refuses, and the bodies of errors."""

from __future__ import annotations

from typing import Any

import pytest
from audio_helpers import refusal, speak
from running_server import HTTP, Server, StartServer

RANGES: list[tuple[str, list[Any], list[Any]]] = [
    ("voice.temperature", [-0.1, 2.01], [0, 2]),
    ("voice.top_p", [-0.1, 1.01], [0.1, 1]),
    ("voice.repetition_penalty", [0.99, 10.1], [1, 10]),
    ("voice.exaggeration", [-0.01, 2.1], [0.25, 2]),
    ("voice.cfg_weight", [-0.01, 1.01], [0, 1]),
    ("min_p", [-0.01, 1.01], [0, 1]),
    ("top_k", [-1, 1.5, 2**32], [1, 1000]),
    ("speed", [0.24, 4.01], [0.25, 4]),
    ("seed", [-2, 0.5, 2**53], [-1, 0, 2**53 - 1]),
    ("max_audio_seconds", [0, -1, 3601], [0.5, 3600]),
    ("audio.sample_rate", [0, 11_025, 96_000, -1], [8000, 48_000]),
    ("audio.format", ["vorbis", "wave"], ["wav", "WAV", "pcm"]),
    ("audio_normalization", ["loud", "PEAK"], ["none", "peak", "rms"]),
    ("audio_tokens_per_slice", [0, 1001, -1, 2.5], [1, 1000]),
    ("context_window", [1001, -1], [0, 1000]),
    ("chunk_overlap_method", ["half", "FULL"], ["full", "zero"]),
    ("crossfade_duration_milliseconds", [-0.1, 1001], [0, 30.5, 1000]),
    ("remove_leading_milliseconds", [-1, 10_001], [0, 20.5, 100]),
    ("remove_trailing_milliseconds", [-1, 10_001], [0, 20.5, 100]),
    ("language_id", ["zz"], ["en", "FR", "de-AT"]),
]

WORDS = ("audio.format", "audio_normalization", "language_id", "chunk_overlap_method")
NOT_UTF8 = b'{"text": "\xff", "voice_path": "\xff"}'


def nested(field: str, value: object) -> dict[str, Any]:
    """A body's part with one field, whose name may have a dot."""
    outer, dot, inner = field.partition(".")
    return {outer: {inner: value}} if dot else {outer: value}


@pytest.mark.parametrize(("field", "bad", "good"), RANGES, ids=[field for field, _, _ in RANGES])
def test_parameters_have_ranges_and_refusals_name_field(
    fake: Server, field: str, bad: list[Any], good: list[Any]
) -> None:
    for value in [*bad, [1], {"a": 1}, 7 if field in WORDS else True]:
        said = refusal(speak(fake.url, **nested(field, value)), 422, "INVALID_PARAMETER")
        assert said.startswith(f"{field}:"), (value, said)
    for value in [*good, None, ""]:
        assert speak(fake.url, **nested(field, value)).status_code == 200, value


@pytest.mark.parametrize("body", ["{}", '{"text": null}', '{"text": ""}', '{"text": " \\n\\t "}'])
def test_text_without_words_is_missing_text(fake: Server, body: str) -> None:
    assert refusal(HTTP.post(f"{fake.url}/api/tts", content=body), 422, "MISSING_TEXT").startswith("text:")


def test_length_of_text_counts_in_characters(fake: Server) -> None:
    assert speak(fake.url, "ü" * 5000, max_audio_seconds=1).status_code == 200
    assert "5000" in refusal(speak(fake.url, "u" * 5001), 400, "TEXT_TOO_LONG")


def test_unknown_model_error_lists_loaded_models(fake: Server) -> None:
    assert "fake" in refusal(speak(fake.url, model="turbo"), 404, "MODEL_NOT_LOADED")
    assert speak(fake.url, model="fake").status_code == 200


def test_unknown_voice_is_named(fake: Server) -> None:
    said = refusal(speak(fake.url, voice={"audio_prompt_path": "nobody.wav"}), 404, "VOICE_NOT_FOUND")
    assert "`nobody.wav`" in said
    for none in (None, "", "  "):
        assert speak(fake.url, voice={"audio_prompt_path": none}).headers["x-voice"] == "tone"


def test_unknown_fields_are_ignored(fake: Server) -> None:
    assert speak(fake.url, unknown={"a": [1]}, voice={"unknown": 1}, audio={"unknown": 1}).status_code == 200


@pytest.mark.parametrize("path", ["/api/nothing", "/nothing", "/api/tts/x", "/health/x"])
def test_unknown_route_is_answered_in_its_dialect(fake: Server, path: str) -> None:
    answer = HTTP.get(fake.url + path)
    refusal(answer, 404, "NOT_FOUND")
    assert ("error" if path.startswith("/api") else "detail") in answer.json()


@pytest.mark.parametrize("path", ["/v1", "/v1/nothing", "/v1/audio/voices/nobody"])
def test_unknown_openai_route_is_answered_in_its_dialect(fake: Server, path: str) -> None:
    answer = HTTP.get(fake.url + path)
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "invalid_request_error")


@pytest.mark.parametrize("base", ["/v1/v1", "/tts/v1", "/api/v1", "", "/v1/audio/speech/v1"])
def test_wrong_base_url_gets_hint(fake: Server, base: str) -> None:
    answer = HTTP.post(f"{fake.url}{base}/audio/speech", json={"input": "Hello."})
    assert answer.status_code == 404
    assert "/v1/audio/speech?" in answer.text


@pytest.mark.parametrize("path", ["/api/tts/", "//api/tts", "/api//tts", "//api///tts//"])
def test_extra_slashes_reach_same_route(fake: Server, path: str) -> None:
    answer = HTTP.post(f"{fake.url}{path}?x=//", json={"text": "Hello."})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/wav")


def test_extra_slashes_do_not_bypass_key(server: StartServer) -> None:
    one = server("--engine", "fake", env={"API_KEY": "canary", "HOST": "127.0.0.1"})
    for path in ("//metrics", "/metrics/", "//v1/models/", "/api//voices"):
        assert HTTP.get(one.url + path).status_code == 401
    assert HTTP.get(f"{one.url}//health/").status_code == 200


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/tts"), ("PUT", "/api/voices"), ("POST", "/health"), ("DELETE", "/metrics")]
)
def test_wrong_method_is_answered_in_its_dialect(fake: Server, method: str, path: str) -> None:
    answer = HTTP.request(method, fake.url + path)
    refusal(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"]


@pytest.mark.parametrize("path", ["/api/tts", "/api/voice/default"])
def test_body_that_is_too_large_is_refused(fake: Server, path: str) -> None:
    body = '{"text": "' + "x" * (1024 * 1024) + '"}'
    refusal(HTTP.post(fake.url + path, content=body), 413, "BODY_TOO_LARGE")


@pytest.mark.parametrize("path", ["/api/tts", "/api/voice/default"])
@pytest.mark.parametrize("body", [b"", b"{", b"text=Hello", b"\xff\xfe", b'{"text": "a"} {}', NOT_UTF8])
def test_non_json_body_is_refused(fake: Server, path: str, body: bytes) -> None:
    refusal(HTTP.post(fake.url + path, content=body), 400, "INVALID_JSON")


def test_websocket_without_handshake_is_refused(fake: Server) -> None:
    refusal(HTTP.get(f"{fake.url}/ws/tts"), 400, "BAD_REQUEST")
