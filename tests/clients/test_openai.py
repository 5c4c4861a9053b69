"""The official ``openai`` package: formats, streams, events, voices with consent, models, and its asynchronous half."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import openai
import pytest
from audio_helpers import Samples, clip, pitch
from client_helpers import (
    FORMATS,
    KEY,
    LATE_FAILURE,
    SECONDS,
    SENTENCE,
    Connect,
    decoded,
    judge_speech,
    judge_tone,
)
from running_server import HTTP, Server, StartServer

RUNNING = "chatterbox_requests_running"
SLOWLY = "This is said while it is heard."


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_decodes(fake: Server, name: Any, connect: Connect) -> None:
    speech = connect(fake).audio.speech
    answer = speech.create(model="gpt-4o-mini-tts", voice="alloy", input=SENTENCE, response_format=name)
    samples, rate = decoded(answer.read(), name)
    assert rate == (48_000 if name == "opus" else 24_000)
    judge_tone(samples, rate)


def test_default_format_is_mp3(fake: Server, connect: Connect) -> None:
    answer = connect(fake).audio.speech.create(model="tts-1", voice="alloy", input=SENTENCE, speed=2)
    judge_tone(*decoded(answer.read(), "mp3"), seconds=SECONDS / 2)


@pytest.mark.parametrize("name", FORMATS)
def test_embedded_voice_speaks(lite: Server, name: Any, connect: Connect) -> None:
    speech = connect(lite).audio.speech
    answer = speech.create(model="tts-1-hd", voice="shimmer", input=SENTENCE, response_format=name)
    judge_speech(*decoded(answer.read(), name))


@pytest.mark.parametrize("name", FORMATS)
def test_first_bytes_arrive_long_before_last(paced: Server, name: Any, connect: Connect) -> None:
    speech = connect(paced).audio.speech.with_streaming_response
    with speech.create(model="tts-1", voice="alloy", input=SLOWLY, response_format=name) as answer:
        pieces = answer.iter_bytes()
        first = next(pieces)
        # Speech is made as fast as it is heard here.
        assert paced.metrics()[RUNNING] == 1
        data = first + b"".join(pieces)
    assert len(first) < len(data) / 2
    judge_tone(*decoded(data, name), seconds=0.06 * len(SLOWLY))


def test_abandoned_stream_releases_slot(paced: Server, connect: Connect) -> None:
    speech = connect(paced).audio.speech.with_streaming_response
    with speech.create(model="tts-1", voice="alloy", input=SLOWLY * 10, response_format="pcm") as answer:
        next(answer.iter_bytes())
    paced.wait_metric(RUNNING, 0)


def test_failed_stream_raises(fake: Server, connect: Connect) -> None:
    speech = connect(fake).audio.speech.with_streaming_response
    with (
        speech.create(model="tts-1", voice="alloy", input=LATE_FAILURE, response_format="pcm") as answer,
        pytest.raises(Exception, match=r"peer closed connection|incomplete"),
    ):
        answer.read()


def events(client: openai.OpenAI, text: str) -> openai.Stream[Any]:
    """Speech as events. The client has no method that reads them, but what reads all other events."""
    body = {"model": "gpt-4o-mini-tts", "voice": "ash", "input": text, "response_format": "pcm", "stream_format": "sse"}
    stream: openai.Stream[Any] = client.post(
        "/audio/speech", cast_to=dict[str, Any], body=body, stream=True, stream_cls=openai.Stream[dict[str, Any]]
    )
    return stream


def test_events_arrive_while_rest_is_made(paced: Server, connect: Connect) -> None:
    stream = events(connect(paced), SLOWLY)
    found = [next(stream)]
    assert paced.metrics()[RUNNING] == 1
    *deltas, done = found + list(stream)
    assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
    pcm = b"".join(base64.b64decode(delta["audio"]) for delta in deltas)
    judge_tone(*decoded(pcm, "pcm"), seconds=0.06 * len(SLOWLY))
    assert done["type"] == "speech.audio.done"
    usage = done["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > len(SLOWLY)


def test_failed_events_raise_error(fake: Server, connect: Connect) -> None:
    stream = events(connect(fake), LATE_FAILURE)
    assert next(stream)["type"] == "speech.audio.delta"
    with pytest.raises(openai.APIError, match="late failure") as raised:
        list(stream)
    assert raised.value.code == "generation_error"


def test_events_line_by_line(fake: Server, connect: Connect) -> None:
    speech = connect(fake).audio.speech.with_streaming_response
    with speech.create(
        model="gpt-4o-mini-tts", voice="ash", input=SENTENCE, response_format="mp3", stream_format="sse"
    ) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        found = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]
    data = b"".join(base64.b64decode(event["audio"]) for event in found[:-1])
    judge_tone(*decoded(data, "mp3"))


def test_further_parameters_go_into_body(fake: Server, connect: Connect) -> None:
    raw = connect(fake).audio.speech.with_raw_response.create(
        model="fake",
        voice="tone",
        input=SENTENCE,
        response_format="wav",
        instructions="Speak calmly.",
        extra_body={"sample_rate": 48_000, "exaggeration": 0.7, "seed": 5},
    )
    samples, rate = decoded(raw.content, "wav")
    assert rate == 48_000
    judge_tone(samples, rate)
    assert (raw.headers["x-model"], raw.headers["x-voice"]) == ("fake", "tone")


def native(server: Server, voice: str | None) -> Samples:
    """The same sentence over the native API."""
    body = {"text": SENTENCE, "seed": 0, "voice": {"audio_prompt_path": voice}, "audio": {"format": "pcm"}}
    return decoded(HTTP.post(f"{server.url}/api/tts", json=body).content, "pcm")[0]


def test_voice_is_made_with_consent_spoken_with_and_deleted(server: StartServer, connect: Connect) -> None:
    one = server("--engine", "fake", "--fake-rtf", "0")
    client = connect(one)
    recording = ("consent.wav", clip(300), "audio/wav")
    consent = client.audio.voice_consents.create(name="Anna's", language="en-US", recording=recording)
    assert consent.object == "audio.voice_consent"
    voice = client.audio.voices.create(name="Anna", audio_sample=("anna.wav", clip(), "audio/wav"), consent=consent.id)
    assert (voice.object, voice.type, voice.name) == ("audio.voice", "audio_sample", "Anna")
    assert voice.created_at >= consent.created_at

    def spoken(voice: Any) -> float:
        answer = client.audio.speech.create(
            model="tts-1", voice=voice, input=SENTENCE, response_format="pcm", extra_body={"seed": 0}
        )
        return pitch(decoded(answer.read(), "pcm")[0], 24_000)

    own = pitch(native(one, voice.id), 24_000)
    assert own != pitch(native(one, None), 24_000)
    assert spoken({"id": voice.id}) == spoken(voice.id) == own

    deleted = client.audio.voices.delete(voice.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (voice.id, "audio.voice.deleted", True)
    with pytest.raises(openai.NotFoundError):
        client.audio.voices.delete(voice.id)
    with pytest.raises(openai.NotFoundError):
        spoken({"id": voice.id})
    with pytest.raises(openai.UnprocessableEntityError) as raised:
        client.audio.voices.create(name="Eve", audio_sample=("eve.wav", clip()), consent="cons_" + "0" * 32)
    assert raised.value.param == "consent"


def test_consents_are_listed_renamed_and_deleted(server: StartServer, connect: Connect) -> None:
    consents = connect(server("--engine", "fake", "--fake-rtf", "0")).audio.voice_consents
    made = [consents.create(name=f"n{n}", language="en", recording=("c.wav", clip())).id for n in range(3)]
    # The client asks for one page after the other.
    assert sorted(consent.id for consent in consents.list(limit=2)) == sorted(made)
    assert consents.retrieve(made[0]).name == "n0"
    assert consents.update(made[0], name="Anna").name == "Anna"
    deleted = consents.delete(made[0])
    assert (deleted.id, deleted.object, deleted.deleted) == (made[0], "audio.voice_consent", True)
    assert len(list(consents.list())) == 2


def test_models_are_listed_and_found(fake: Server, connect: Connect) -> None:
    client = connect(fake)
    assert [model.id for model in client.models.list()] == ["fake"]
    for name in ("fake", "tts-1", "tts-1-hd", "gpt-4o-mini-tts"):
        model = client.models.retrieve(name)
        assert (model.id, model.object, model.owned_by) == (name, "model", "chatterbox-server")


def test_concurrent_requests_are_served(fake: Server) -> None:
    async def all_of_them() -> list[bytes]:
        async with openai.AsyncOpenAI(base_url=f"{fake.url}/v1", api_key=KEY) as client:

            async def one(number: int) -> bytes:
                answer = await client.audio.speech.create(
                    model="tts-1", voice="nova", input="x" * (10 + number), response_format="pcm"
                )
                return bytes(answer.content)

            return await asyncio.gather(*map(one, range(16)))

    for number, pcm in enumerate(asyncio.run(all_of_them())):
        judge_tone(*decoded(pcm, "pcm"), seconds=0.06 * (10 + number))
