"""The official ``openai`` package when something is wrong: what it raises, and when it tries again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from client_helpers import KEY, SENTENCE, Connect, decoded, judge_tone
from running_server import Server, StartServer

RUNNING = "chatterbox_requests_running"
REFUSED = 'chatterbox_requests_total{route="/v1/audio/speech",model="none",outcome="rejected"}'


def speak(client: openai.OpenAI, **fields: Any) -> bytes:
    """The bytes of an answer."""
    asked: dict[str, Any] = {"model": "tts-1", "voice": "alloy", "input": SENTENCE, "response_format": "pcm"}
    content: bytes = client.audio.speech.create(**asked | fields).content
    return content


@pytest.mark.parametrize(
    ("fields", "error", "named"),
    [
        ({"input": "x" * 5001}, openai.BadRequestError, ("input", "text_too_long")),
        ({"input": ""}, openai.UnprocessableEntityError, ("input", "missing_text")),
        ({"speed": 9}, openai.UnprocessableEntityError, ("speed", "invalid_parameter")),
        ({"response_format": "au"}, openai.UnprocessableEntityError, ("response_format", "invalid_parameter")),
        ({"extra_body": {"cfg_weight": -1}}, openai.UnprocessableEntityError, ("cfg_weight", "invalid_parameter")),
        ({"model": "gpt-5"}, openai.NotFoundError, ("model", "model_not_found")),
        ({"voice": "nobody"}, openai.NotFoundError, (None, "voice_not_found")),
        ({"voice": {"id": "../x"}}, openai.NotFoundError, (None, "voice_not_found")),
        ({"input": "It will [[fail]]."}, openai.InternalServerError, (None, "generation_error")),
    ],
)
def test_errors_map_to_client_classes(
    fake: Server, connect: Connect, fields: dict[str, Any], error: type[openai.APIStatusError], named: tuple[str, str]
) -> None:
    """``named`` is the field and the code."""
    with pytest.raises(error) as raised:
        speak(connect(fake), **fields)
    found = raised.value
    assert type(found) is error
    assert (found.param, found.code) == named
    assert found.request_id == found.response.headers["x-request-id"]
    assert str(found.status_code) in found.message


def test_wrong_key_is_authentication_error(fake: Server, connect: Connect) -> None:
    for key in ("wrong", KEY + "x"):
        client = connect(fake, api_key=key)
        calls: list[Callable[[], Any]] = [lambda: speak(client), client.models.list]  # noqa: B023
        for call in calls:
            with pytest.raises(openai.AuthenticationError) as raised:
                call()
            assert raised.value.code == "invalid_api_key"


def test_builtin_voice_cannot_be_deleted(fake: Server, connect: Connect) -> None:
    with pytest.raises(openai.PermissionDeniedError):
        connect(fake).audio.voices.delete("tone")


def test_permanent_errors_are_not_retried(server: StartServer, connect: Connect) -> None:
    one = server("--engine", "fake", "--fake-rtf", "0")
    with pytest.raises(openai.UnprocessableEntityError):
        speak(connect(one, max_retries=5), input="")
    assert one.metrics()[REFUSED] == 1


def test_full_queue_is_retried_after_delay(server: StartServer, connect: Connect) -> None:
    one = server("--engine", "fake", "--fake-rtf", "0", "--max-concurrent-requests", "1", "--max-queue", "0")
    with ThreadPoolExecutor() as pool:
        busy = pool.submit(speak, connect(one), input="[[slow 0.5]] a", timeout=60)
        one.wait_metric(RUNNING, 1)
        with pytest.raises(openai.RateLimitError) as raised:
            speak(connect(one))
        assert raised.value.code == "rate_limit_exceeded"
        assert int(raised.value.response.headers["retry-after"]) >= 1
        again = connect(one, max_retries=20).audio.speech.with_raw_response
        answer = again.create(model="tts-1", voice="alloy", input=SENTENCE, response_format="pcm")
        assert busy.result()
    assert answer.retries_taken >= 1
    judge_tone(*decoded(answer.content, "pcm"))


def test_loading_server_is_retried(server: StartServer, connect: Connect) -> None:
    one = server("--engine", "fake", "--fake-rtf", "0", "--fake-load-seconds", "3", wait=False)
    one.wait_listening()
    with pytest.raises(openai.InternalServerError) as raised:
        speak(connect(one))
    assert (raised.value.status_code, raised.value.code) == (503, "server_busy")
    judge_tone(*decoded(speak(connect(one, max_retries=10)), "pcm"))
    assert one.metrics()[REFUSED] >= 2
