"""Errors under ``/v1`` tell OpenAI's clients what to raise and whether to ask again; listings may be public."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from audio_helpers import clip, refusal
from faults_helpers import FAKE
from running_server import HTTP, Server, StartServer
from voices_helpers import openai_refusal, post_file

RUNNING = "chatterbox_requests_running"
LISTINGS = ("/v1/models", "/v1/models/fake", "/v1/models/tts-1", "/v1/audio/models", "/v1/audio/voices")
REPEATED = {"x-should-retry": "false"}


def body(text: str = "Hello there.") -> dict[str, Any]:
    return {"model": "tts-1", "input": text, "voice": "alloy", "response_format": "pcm"}


def advice(headers: Any) -> dict[str, str]:
    """What an answer says of asking again."""
    return {name: headers[name] for name in ("x-should-retry", "retry-after") if name in headers}


def test_permanent_errors_forbid_retry(fake: Server) -> None:
    speech = f"{fake.url}/v1/audio/speech"
    answers = [
        HTTP.post(speech, json=body("")),
        HTTP.post(speech, json=body("x" * 5001)),
        HTTP.post(speech, content=b"{"),
        HTTP.post(speech, json=body() | {"voice": "nobody"}),
        HTTP.get(speech),
        HTTP.get(f"{fake.url}/v1/readyz"),
        HTTP.delete(f"{fake.url}/v1/audio/voices/tone"),
    ]
    assert [answer.status_code for answer in answers] == [422, 400, 400, 404, 405, 404, 403]
    assert all(advice(answer.headers) == REPEATED for answer in answers)
    # Another try may be lucky, and the other dialects have no such header.
    assert advice(HTTP.post(speech, json=body("[[fail]]")).headers) == {}
    assert advice(HTTP.get(f"{fake.url}/nowhere").headers) == {}


def test_full_queue_is_rate_limit_error(server: StartServer) -> None:
    one = server(*FAKE, "--max-concurrent-requests", "1", "--max-queue", "0")
    with ThreadPoolExecutor() as pool:
        busy = pool.submit(HTTP.post, f"{one.url}/v1/audio/speech", json=body("[[slow 0.6]] a"))
        one.wait_metric(RUNNING, 1)
        answer = HTTP.post(f"{one.url}/v1/audio/speech", json=body())
        elsewhere = HTTP.post(f"{one.url}/api/tts", json={"text": "Hello there."})
        assert busy.result().status_code == 200
    openai_refusal(answer, 429, "rate_limit_exceeded")
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert int(answer.headers["retry-after"]) >= 1
    assert "x-should-retry" not in answer.headers
    refusal(elsewhere, 503, "SERVER_BUSY")


def test_loading_is_retryable_server_error(server: StartServer) -> None:
    one = server("--engine", "fake", "--fake-load-seconds", "2", wait=False)
    one.wait_listening()
    answer = HTTP.post(f"{one.url}/v1/audio/speech", json=body())
    openai_refusal(answer, 503, "server_busy")
    assert answer.json()["error"]["type"] == "server_error"
    assert "x-should-retry" not in answer.headers
    assert int(answer.headers["retry-after"]) >= 1
    one.wait_ready()


def test_out_of_memory_is_retryable(fake: Server) -> None:
    answer = HTTP.post(f"{fake.url}/v1/audio/speech", json=body("This is [[oom]] too big."))
    openai_refusal(answer, 503, "server_busy")
    assert set(advice(answer.headers)) == {"retry-after"}


@pytest.mark.parametrize("public", [False, True])
def test_public_listings_setting_opens_listings(server: StartServer, public: bool) -> None:
    one = server(*FAKE, "--api-key", "secret", env={"PUBLIC_LISTINGS": json.dumps(public)})
    key = {"Authorization": "Bearer secret"}
    for path in LISTINGS:
        assert HTTP.get(one.url + path).status_code == (200 if public else 401)
        assert HTTP.get(one.url + path, headers=key).status_code == 200
        assert HTTP.get(one.url + path, headers={"Authorization": "Bearer wrong"}).status_code == (
            200 if public else 401
        )
    # The door is not open any wider.
    refused = [
        HTTP.post(f"{one.url}/v1/audio/speech", json=body()),
        post_file(one, "/v1/audio/voices", "audio_sample", clip(), name="Anna"),
        HTTP.get(f"{one.url}/v1/audio/voices/tone"),
        HTTP.delete(f"{one.url}/v1/audio/voices/tone"),
        HTTP.get(f"{one.url}/v1/audio/voice_consents"),
        HTTP.get(f"{one.url}/api/voices"),
    ]
    for answer in refused:
        assert answer.status_code == 401
    openai_refusal(refused[0], 401, "invalid_api_key")
    assert advice(refused[0].headers) == REPEATED
    assert not one.voice_files()


def test_bridge_detects_server(server: StartServer) -> None:
    one = server(*FAKE, "--api-key", "secret")
    assert HTTP.get(f"{one.url}/v1/test").json() == {"status": "ok"}
    for path in ("/v1/readyz", "/v1/health", "/v1/livez"):
        openai_refusal(HTTP.get(one.url + path), 404, "not_found")
