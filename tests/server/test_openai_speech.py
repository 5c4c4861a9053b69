"""``POST /v1/audio/speech``: OpenAI's fields and ours, voices and models by OpenAI's names, and the audio."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
import pytest
from audio_helpers import clip, pitch, read_pcm, read_wav
from chatterbox_server.fake import frequency
from faults_helpers import FAKE, distinct_clips, pitch_of, upload
from running_server import HTTP, Server, StartServer
from voices_helpers import get, openai_refusal

SENTENCE = "Hello there, this is one sentence."
SECONDS = 0.06 * len(SENTENCE)
"""What the fake engine makes of it."""
OPENAI_VOICES = (
    *("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable"),
    *("marin", "nova", "onyx", "sage", "shimmer", "verse"),
)


def speak(server: Server, **fields: Any) -> httpx.Response:
    """Asks for speech as OpenAI's clients do."""
    return HTTP.post(
        f"{server.url}/v1/audio/speech", json={"model": "tts-1", "input": SENTENCE, "voice": "alloy"} | fields
    )


def refused(server: Server, status: int, code: str, **fields: Any) -> str | None:
    """The field that an error names."""
    answer = speak(server, **fields)
    openai_refusal(answer, status, code)
    param: str | None = answer.json()["error"]["param"]
    return param


@pytest.mark.parametrize(
    ("name", "content_type", "magic"),
    [
        (None, "audio/mpeg", b"ID3"),
        ("mp3", "audio/mpeg", b"ID3"),
        ("opus", "audio/ogg", b"OggS"),
        ("aac", "audio/aac", b"\xff"),
        ("flac", "audio/flac", b"fLaC"),
        ("wav", "audio/wav", b"RIFF"),
        ("pcm", "audio/pcm", b""),
        ("fmp4", "audio/mp4", b""),
        ("webm", "audio/webm", b"\x1a\x45\xdf\xa3"),
    ],
)
def test_every_format_has_its_type(fake: Server, name: str | None, content_type: str, magic: bytes) -> None:
    answer = speak(fake, **({} if name is None else {"response_format": name}))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == content_type
    assert answer.content.startswith(magic)
    assert "content-length" not in answer.headers
    headers = {
        name: answer.headers[name] for name in ("cache-control", "x-accel-buffering", "x-sample-rate", "x-model")
    }
    assert list(headers.values()) == ["no-store", "no", "24000", "fake"]


def test_pcm_is_16_bit_at_24_khz(fake: Server) -> None:
    samples = read_pcm(speak(fake, response_format="pcm", seed=3).content, "pcm_s16le")
    assert len(samples) == pytest.approx(SECONDS * 24_000, abs=2)
    assert pitch(samples, 24_000) == pytest.approx(frequency("fake", "tone", 3), abs=1)


def test_extra_fields_are_parameters(fake: Server) -> None:
    fields = {"exaggeration": 0.7, "cfg_weight": 0.3, "temperature": 0.5, "top_p": 0.9, "language_id": "fr"}
    answer = speak(fake, response_format="wav", sample_rate=48_000, seed=7, stream=False, **fields)
    samples, rate = read_wav(answer.content)
    assert (rate, answer.headers["content-length"]) == (48_000, str(len(answer.content)))
    assert pitch(samples, rate) == pytest.approx(frequency("fake", "tone", 7), abs=1)
    for name, value in (
        ("exaggeration", 3),
        ("cfg_weight", 2),
        ("temperature", -1),
        ("temperature", "hot"),
        ("language_id", "xx"),
        ("sample_rate", 12_345),
        ("bitrate", 1),
        ("seed", -2),
        ("max_audio_seconds", 0),
        ("audio_normalization", "loud"),
    ):
        assert refused(fake, 422, "invalid_parameter", **{name: value}) == name


def test_unknown_values_are_ignored(fake: Server) -> None:
    assert speak(fake, instructions="Cheerfully, please.", n=4, user={"id": 1}).status_code == 200


def test_speed_is_rate_of_speech(fake: Server) -> None:
    for speed in (0.25, 2, 4.0):
        samples = read_pcm(speak(fake, response_format="pcm", speed=speed).content, "pcm_s16le")
        assert len(samples) / 24_000 == pytest.approx(SECONDS / speed, abs=0.01)
    for wrong in (0.24, 4.01, "fast"):
        assert refused(fake, 422, "invalid_parameter", speed=wrong) == "speed"


def test_errors_name_fields_as_openai_calls_them(fake: Server) -> None:
    assert refused(fake, 422, "missing_text", input="") == "input"
    assert refused(fake, 422, "missing_text", input=None) == "input"
    assert refused(fake, 422, "missing_text", input="[[mute]]") == "input"
    assert refused(fake, 400, "text_too_long", input="x" * 5001) == "input"
    assert refused(fake, 422, "invalid_parameter", input=5) == "input"
    assert refused(fake, 422, "invalid_parameter", response_format="ac3") == "response_format"
    assert refused(fake, 422, "invalid_parameter", stream_format="websocket") == "stream_format"
    assert refused(fake, 404, "model_not_found", model="gpt-5") == "model"
    for voice in (5, ["alloy"], {}, {"id": None}, {"name": "alloy"}):
        assert refused(fake, 422, "invalid_parameter", voice=voice) == "voice"
    assert refused(fake, 404, "voice_not_found", voice="nobody") is None
    for body in (b"", b"{", b"\xff"):
        openai_refusal(HTTP.post(f"{fake.url}/v1/audio/speech", content=body), 400, "invalid_json")
    openai_refusal(HTTP.post(f"{fake.url}/v1/audio/speech", json=[1]), 422, "invalid_parameter")


@pytest.mark.parametrize("model", ["tts-1", "tts-1-hd", "tts-1-1106", "tts-1-hd-1106", "gpt-4o-mini-tts", None])
def test_openai_models_map_to_default(fake: Server, model: str | None) -> None:
    assert speak(fake, model=model).headers["x-model"] == "fake"


def test_model_is_chosen_by_its_name(server: StartServer) -> None:
    one = server(*FAKE, "--load-turbo", "--load-nano", "--default-model", "nano")
    names = {"gpt-4o-mini-tts-2025-12-15": "nano", "turbo": "turbo", "nano": "nano"}
    assert {name: speak(one, model=name).headers["x-model"] for name in names} == names
    # What only looks like one of OpenAI's is unknown.
    for unknown in ("tts-2", "tts-1-", "tts-1-x", "gpt-4o-mini-tts-", "tts-1-hd-1-x"):
        assert speak(one, model=unknown).status_code == 404
    found = get(one, "/v1/models/tts-1")
    assert (found["id"], found["root"], found["object"]) == ("tts-1", "nano", "model")
    listed = get(one, "/v1/models")["data"]
    assert [model["id"] for model in listed] == ["turbo", "nano", "fake"]
    assert get(one, "/v1/audio/models") == {"models": listed}


def test_openai_voices_map_to_default(server: StartServer) -> None:
    one = server(*FAKE)
    default, nova = distinct_clips(2)

    def spoken(voice: Any) -> tuple[str, int]:
        answer = speak(one, voice=voice, response_format="wav", seed=0)
        assert answer.status_code == 200, answer.text
        return answer.headers["x-voice"], round(pitch(*read_wav(answer.content)))

    for name in OPENAI_VOICES:
        assert spoken(name) == ("tone", pitch_of(None))
    upload(one, "default.wav", default)
    HTTP.post(f"{one.url}/api/voice/default", json={"voice_path": "default.wav"})
    for left_open in ("alloy", "Verse", None):
        assert spoken(left_open) == ("default.wav", pitch_of(default))
    # A voice of the library with such a name is meant before all others.
    upload(one, "nova.wav", nova)
    digest = hashlib.sha256(nova).hexdigest()
    for voice in ("nova", "nova.wav", digest, {"id": "nova.wav"}, {"id": "nova"}):
        assert spoken(voice) == ("nova.wav", pitch_of(nova))
    assert spoken("onyx") == ("default.wav", pitch_of(default))
    assert spoken("tone") == ("tone", pitch_of(None))


def test_model_without_cloning_accepts_openai_voices(lite: Server) -> None:
    upload(lite, "nova.wav", clip())
    for voice in ("alloy", "nova", "heart"):
        answer = speak(lite, voice=voice, response_format="wav")
        assert (answer.status_code, answer.headers["x-voice"]) == (200, "heart")
        assert len(read_wav(answer.content)[0]) > 24_000
    assert refused(lite, 422, "cannot_clone", voice="nova.wav") is None


def test_metrics_have_route_label(server: StartServer) -> None:
    one = server(*FAKE)
    speak(one)
    speak(one, stream_format="sse")
    speak(one, voice="nobody")
    total = 'chatterbox_requests_total{route="/v1/audio/speech",model="%s",outcome="%s"}'
    metrics = one.metrics()
    assert (metrics[total % ("fake", "ok")], metrics[total % ("none", "rejected")]) == (2, 1)
