"""``POST /v1/audio/speech`` with ``stream_format: sse``: the audio in events, and how a failure ends them."""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from running_server import HTTP, Server, StartServer
from voices_helpers import openai_refusal

SENTENCE = "Hello there, this is one sentence."


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "tts-1", "input": SENTENCE, "voice": "alloy", "response_format": "pcm", "seed": 1} | fields


def events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The events of an answer; a line that is none of it fails."""
    for line in lines:
        if line:
            assert line.startswith("data: ")
            yield json.loads(line.removeprefix("data: "))


@pytest.mark.parametrize("name", ["mp3", "opus", "aac", "flac", "wav", "pcm", "fmp4", "webm"])
def test_deltas_decode_to_audio(fake: Server, name: str) -> None:
    url = f"{fake.url}/v1/audio/speech"
    plain = HTTP.post(url, json=body(response_format=name))
    answer = HTTP.post(url, json=body(response_format=name, stream_format="sse"))
    assert answer.headers["content-type"] == "text/event-stream"
    assert (answer.headers["cache-control"], answer.headers["x-sample-rate"]) == ("no-store", "24000")
    *deltas, done = events(iter(answer.text.split("\n")))
    assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
    assert all(set(delta) == {"type", "audio"} for delta in deltas)
    assert b"".join(base64.b64decode(delta["audio"]) for delta in deltas) == plain.content
    # Characters in, and 25 speech tokens for each second of audio out.
    tokens = -(-25 * 6 * len(SENTENCE) // 100)
    usage = {"input_tokens": len(SENTENCE), "output_tokens": tokens, "total_tokens": len(SENTENCE) + tokens}
    assert done == {"type": "speech.audio.done", "usage": usage}


def test_first_delta_arrives_early(server: StartServer) -> None:
    slow = server("--engine", "fake", "--fake-rtf", "1")
    request = body(input="x" * 50, stream_format="sse")
    with HTTP.stream("POST", f"{slow.url}/v1/audio/speech", json=request) as answer:
        found = events(answer.iter_lines())
        assert next(found)["type"] == "speech.audio.delta"
        assert slow.metrics()["chatterbox_requests_running"] == 1
        *_, last = found
    assert last["type"] == "speech.audio.done"


def test_failure_before_first_audio_has_status_of_its_own(fake: Server) -> None:
    answer = HTTP.post(f"{fake.url}/v1/audio/speech", json=body(input="It will [[fail]].", stream_format="sse"))
    openai_refusal(answer, 500, "generation_error")


def test_failure_in_stream_sends_error_and_aborts(fake: Server) -> None:
    request = body(input="Half of it [[fail-late]] is lost.", stream_format="sse")
    found: list[dict[str, Any]] = []
    with HTTP.stream("POST", f"{fake.url}/v1/audio/speech", json=request) as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            deque(map(found.append, events(answer.iter_lines())))
    *deltas, failure = found
    assert deltas
    assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
    assert failure["type"] == "error"
    assert failure["error"] == {
        "message": "The text asked for a late failure.",
        "type": "server_error",
        "param": None,
        "code": "generation_error",
    }
