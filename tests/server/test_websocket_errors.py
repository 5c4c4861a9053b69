"""Errors over ``/ws/tts``: each has its code, and the socket stays open."""

from __future__ import annotations

import json
import signal
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running_server import HTTP, Server, StartServer
from ws_helpers import Message, talking

LONG = "This sentence has many words, and it is said again. " * 40


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("UNKNOWN_TYPE", {}),
        ("UNKNOWN_TYPE", {"type": "sing"}),
        ("MISSING_TEXT", {"type": "say"}),
        ("MISSING_TEXT", {"type": "say", "text": " \n"}),
        ("TEXT_TOO_LONG", {"type": "say", "text": "a" * 5001}),
        ("MISSING_TEXT", {"type": "say", "text": "...", "id": "x"}),
        ("MODEL_NOT_LOADED", {"type": "say", "text": "Hello.", "model": "gigantic"}),
        ("VOICE_NOT_FOUND", {"type": "say", "text": "Hello.", "voice": {"audio_prompt_path": "nobody.wav"}}),
        ("GENERATION_ERROR", {"type": "say", "text": "Hello [[fail]]", "id": "x"}),
        ("SERVER_BUSY", {"type": "say", "text": "Hello [[oom]]", "id": "x"}),
        ("MISSING_VOICE_PATH", {"type": "set_voice"}),
        ("VOICE_NOT_FOUND", {"type": "set_voice", "voice_path": "../../etc/passwd"}),
        ("VOICE_NOT_FOUND", {"type": "set_voice", "voice_path": "nobody.wav", "scope": "connection"}),
    ],
)
def test_each_error_has_its_code(fake: Server, code: str, message: Message) -> None:
    with talking(fake) as talk:
        error = talk.fails(code, **message)
    assert error.get("id") == message.get("id")
    assert "passwd" not in json.dumps(error)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("text", {"text": 5}),
        ("id", {"id": ["x"]}),
        ("seed", {"seed": -2}),
        ("seed", {"seed": 2**60}),
        ("speed", {"speed": 0}),
        ("language_id", {"language_id": "tlh"}),
        ("max_audio_seconds", {"max_audio_seconds": -1}),
        ("audio.format", {"audio": {"format": "gramophone"}}),
        ("audio.sample_rate", {"audio": {"sample_rate": 12345}}),
        ("audio.chunk_size_ms", {"audio": {"chunk_size_ms": 9}}),
        ("audio.chunk_size_ms", {"audio": {"chunk_size_ms": 5001}}),
        ("audio.binary", {"audio": {"binary": "maybe"}}),
        ("voice.temperature", {"voice": {"temperature": "hot"}}),
        ("voice.top_p", {"voice": {"top_p": 1.5}}),
        ("voice.cfg_weight", {"voice": {"cfg_weight": -0.1}}),
    ],
)
def test_bad_value_names_its_field(fake: Server, field: str, message: Message) -> None:
    with talking(fake) as talk:
        error = talk.fails("INVALID_PARAMETER", **{"type": "say", "text": "Hello.", **message})
    assert field in error["error"]


@pytest.mark.parametrize("text", ["", "hello", "{", "[]", "5", '{"type": "ping"} x', "NaN", "[" * 100_000])
def test_non_object_is_parse_error(fake: Server, text: str) -> None:
    with talking(fake) as talk:
        talk.connection.send(text)
        talk.expect("error", code="PARSE_ERROR")
        talk.connection.send(text.encode())
        talk.expect("error", code="PARSE_ERROR")
        talk.alive()


def test_failure_after_audio_is_last_message(fake: Server) -> None:
    with talking(fake) as talk:
        talk.say("Hello to all of you who listen [[fail-late]]", id="a", audio={"chunk_size_ms": 10})
        answer = talk.collect()
        assert answer.end["type"] == "error"
        assert (answer.end["code"], answer.end["id"]) == ("GENERATION_ERROR", "a")
        assert answer.headers
        assert not any(header["is_last"] for header in answer.headers)
        talk.alive()
        talk.spoken("Hello.", id="a")


def test_full_queue_is_busy_with_retry_after(server: StartServer) -> None:
    small = server("--engine", "fake", "--fake-rtf", "1", "--max-concurrent-requests", "1", "--max-queue", "0")
    with talking(small) as talk, talking(small) as other:
        talk.say(LONG)
        talk.expect("chunk")
        error = other.fails("SERVER_BUSY", type="say", text="Hello.", id="late")
        assert error["retry_after"] >= 1
        assert error["id"] == "late"


def test_slow_request_times_out(server: StartServer) -> None:
    hasty = server("--engine", "fake", "--request-timeout", "0.3", "--stall-timeout", "0.3")
    with talking(hasty) as talk:
        talk.fails("TIMEOUT", type="say", text="Hello [[slow 1]]")
        assert "end" in talk.fails("TIMEOUT", type="say", more=True, id="a")["error"]
        talk.fails("INVALID_PARAMETER", type="append", id="a", text="too late")
        hasty.wait_metric("chatterbox_requests_running", 0)


def test_draining_server_finishes_and_closes(server: StartServer) -> None:
    paced = server("--engine", "fake", "--fake-rtf", "0.2")
    with talking(paced) as talk, talking(paced) as idle:
        talk.say(LONG[:250], id="a")
        talk.expect("chunk", id="a")
        paced.process.send_signal(signal.SIGTERM)
        while HTTP.get(paced.url + "/readyz").status_code != 503:
            time.sleep(0.01)
        assert idle.closed() == 1001
        talk.send(type="say", text="Hello.", id="b")
        kinds: list[str] = []
        while not kinds or kinds[-1] != "done":
            message = talk.receive()
            kinds.append(message["type"])
            if message["type"] == "error":
                assert (message["code"], message["id"]) == ("DRAINING", "b")
        assert kinds.count("error") == 1
        assert talk.closed() == 1001
    assert paced.wait_exit() == 0


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["id", "text", "more", "model", "voice", "audio", "seed", "stream", "speed", "scope", "voice_path", "top_k"]
)
MESSAGES = st.builds(
    lambda kind, fields: {**fields, "type": kind},
    st.sampled_from(["say", "append", "end", "cancel", "set_voice", "ping"]) | VALUES,
    st.dictionaries(KEYS, VALUES | st.sampled_from(["a", "b", "Hello."]), max_size=5),
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(MESSAGES.map(json.dumps) | st.text(max_size=40), max_size=8))
def test_no_message_closes_socket(fake: Server, messages: list[str]) -> None:
    with talking(fake) as talk:
        for text in messages:
            talk.connection.send(text)
        talk.send(type="cancel")
        talk.send(type="cancel", id="the end")
        while (message := talk.receive()) != {"type": "cancelled", "id": "the end"}:
            assert message["type"] in {"chunk", "audio", "done", "cancelled", "error", "voice_set", "pong"}
            assert message.get("code") != "GENERATION_ERROR", message


def test_surrogate_halves_are_joined_or_dropped(fake: Server) -> None:
    with talking(fake) as talk:
        talk.connection.send('{"type": "say", "id": "1", "text": "Hello \\ud83d", "more": true, "seed": 1}')
        talk.connection.send('{"type": "append", "id": "1", "text": "\\ude00 there, \\ud83d"}')
        talk.connection.send('{"type": "append", "id": "1", "text": "you."}')
        talk.send(type="end", id="1")
        end = talk.collect().end
    assert (end["type"], end["id"]) == ("done", "1")


def test_byte_order_mark_before_message_is_passed_over(fake: Server) -> None:
    with talking(fake) as talk:
        talk.connection.send('\ufeff{"type": "ping"}')
        talk.expect("pong")


def test_error_of_one_field_carries_id(fake: Server) -> None:
    with talking(fake) as talk:
        talk.connection.send('{"type": "say", "id": "7", "text": "Hello.", "speed": 1e999}')
        assert talk.expect("error", code="INVALID_PARAMETER")["id"] == "7"
