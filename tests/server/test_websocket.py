"""One conversation over ``/ws/tts``, message by message."""

from __future__ import annotations

import json
import re
import uuid

import pytest
from audio_helpers import clip
from running_server import HTTP, Server, StartServer
from websockets.sync.client import connect
from ws_helpers import PATIENCE, Talk, talking

LONG = "This sentence has many words, and it is said again. " * 40


def test_ready_is_first_and_lists_models(fake: Server) -> None:
    with connect(fake.ws, proxy=None) as connection:
        ready = json.loads(connection.recv(timeout=PATIENCE))
    health = HTTP.get(fake.url + "/health").json()
    assert ready == {
        "type": "ready",
        "models": ["fake"],
        "device": health["device"],
        "version": health["version"],
        "sample_rate": 24000,
    }
    assert connection.close_code == 1000


def test_say_is_answered_with_chunks_and_done(fake: Server) -> None:
    with talking(fake) as talk:
        answer = talk.spoken("Hello there, you.", id="a")
    assert [header["index"] for header in answer.headers] == list(range(len(answer.headers)))
    assert [header["is_last"] for header in answer.headers] == [False] * (len(answer.headers) - 1) + [True]
    assert {header["id"] for header in answer.headers} == {"a"}
    done = answer.end
    assert done["id"] == "a"
    assert done["cancelled"] is False
    assert done["duration_seconds"] == pytest.approx(len(answer.data) / 2 / 24000, abs=0.001)
    assert 0 < done["time_to_first_audio_ms"] < 20_000
    assert done["real_time_factor"] >= 0
    assert set(done) == {
        "type",
        "id",
        "duration_seconds",
        "time_to_first_audio_ms",
        "real_time_factor",
        "cancelled",
    }


def test_missing_id_is_generated(fake: Server) -> None:
    with talking(fake) as talk:
        ids = {talk.spoken("Hello.").end["id"] for _ in range(2)}
    assert len(ids) == 2
    assert all(uuid.UUID(made) for made in ids)


@pytest.mark.parametrize("where", ["top", "audio"])
def test_whole_audio_comes_in_one_message(fake: Server, where: str) -> None:
    fields: dict[str, object] = {"stream": False} if where == "top" else {"audio": {"stream": False}}
    with talking(fake) as talk:
        streamed = talk.spoken("Hello there.", seed=3)
        whole = talk.spoken("Hello there.", seed=3, id="w", **fields)
    (audio,) = whole.headers
    assert audio["type"] == "audio"
    assert audio["id"] == "w"
    assert audio["sample_rate"] == 24000
    assert audio["duration_seconds"] == whole.end["duration_seconds"]
    assert whole.data == streamed.data


def test_binary_frames_carry_same_audio(fake: Server) -> None:
    with talking(fake) as talk:
        text = talk.spoken("Hello there.", seed=3)
        for stream in (True, False):
            talk.say("Hello there.", seed=3, stream=stream, audio={"binary": True})
            binary = talk.collect(binary=True)
            assert binary.end["type"] == "done"
            assert binary.data == text.data


def test_concurrent_streams_interleave_in_order(server: StartServer) -> None:
    paced = server("--engine", "fake", "--fake-rtf", "0.05")
    with talking(paced) as talk:
        names = ["a", "b", "c"]
        for name in names:
            talk.say(LONG[:250], id=name)
        spoke_before_the_first_end: set[str] = set()
        indices: dict[str, list[int]] = {name: [] for name in names}
        last: list[str] = []
        ended: list[str] = []
        while len(ended) < len(names):
            message = talk.receive()
            name = message["id"]
            if message["type"] == "done":
                ended.append(name)
            else:
                assert message["type"] == "chunk"
                assert name not in last
                indices[name].append(message["index"])
                if not ended:
                    spoke_before_the_first_end.add(name)
                last += [name] * message["is_last"]
    assert sorted(last) == sorted(ended) == names
    assert all(found == list(range(len(found))) for found in indices.values())
    assert spoke_before_the_first_end == set(names), "they spoke one after the other"


def test_with_more_text_audio_starts_before_end(fake: Server) -> None:
    with talking(fake) as talk:
        talk.say("The first sentence", id="a", more=True)
        talk.send(type="append", id="a", text=" is whole now. And th")
        first = talk.expect("chunk", id="a", index=0)
        assert first["is_last"] is False
        talk.send(type="append", id="a", text="en it goes on")
        talk.send(type="end", id="a")
        answer = talk.collect()
        assert answer.end["type"] == "done"
        assert [header["is_last"] for header in answer.headers].count(True) == 1
        assert talk.fails("INVALID_PARAMETER", type="append", id="a", text="late")["id"] == "a"


@pytest.mark.parametrize("scope", ["server", "connection"])
def test_set_voice_scopes(server: StartServer, scope: str) -> None:
    voiced = server("--engine", "fake", "--fake-rtf", "0")
    upload = HTTP.post(voiced.url + "/api/voices/upload", files={"file": ("someone.wav", clip())})
    assert upload.status_code == 200, upload.text
    with talking(voiced) as talk, talking(voiced) as other:
        before = talk.spoken("Hello.", seed=1).data
        named = talk.spoken("Hello.", seed=1, voice={"audio_prompt_path": "someone.wav"}).data
        assert named != before
        set_voice = {"type": "set_voice", "voice_path": "/app/voices/someone.wav", "scope": scope}
        answer = talk.ask(**set_voice)
        assert answer["type"] == "voice_set"
        assert answer["voice_path"].endswith("someone.wav")
        assert talk.spoken("Hello.", seed=1).data == named
        assert other.spoken("Hello.", seed=1).data == (named if scope == "server" else before)
    default = HTTP.get(voiced.url + "/api/voice/default").json()["default_voice"]
    assert (default is not None) == (scope == "server")


def _cancel(talk: Talk, **message: object) -> None:
    """Cancels; nothing of what was cancelled comes after the acknowledgement."""
    talk.send(type="cancel", **message)
    while talk.receive()["type"] == "chunk":
        pass
    talk.alive()


def test_cancel_frees_slot_at_once(server: StartServer) -> None:
    paced = server("--engine", "fake", "--fake-rtf", "0.5", "--max-concurrent-requests", "1")
    with talking(paced) as talk:
        for message in ({"id": "long"}, {}):
            talk.say(LONG, id="long")
            talk.expect("chunk", id="long", index=0)
            _cancel(talk, **message)
            paced.wait_metric("chatterbox_requests_running", 0)
            answer = talk.spoken("Short.", id="short")
            assert {header["id"] for header in answer.headers} == {"short"}
        assert talk.ask(type="cancel", id="unknown") == {"type": "cancelled", "id": "unknown"}
    counted = [value for name, value in paced.metrics().items() if re.search(r'requests_total.*"cancelled"', name)]
    assert sum(counted) == 2


def test_cancel_ends_one_of_two(server: StartServer) -> None:
    paced = server("--engine", "fake", "--fake-rtf", "0.2")
    with talking(paced) as talk:
        talk.say(LONG, id="gone")
        talk.say(LONG[:100], id="kept")
        talk.expect("chunk")
        talk.send(type="cancel", id="gone")
        cancelled = False
        while (message := talk.receive())["type"] != "done":
            cancelled |= message["type"] == "cancelled"
            assert not (cancelled and message["type"] == "chunk" and message["id"] == "gone")
        assert cancelled
        assert message["id"] == "kept"


def test_closing_socket_cancels_streams(server: StartServer) -> None:
    paced = server("--engine", "fake", "--fake-rtf", "1", "--max-concurrent-requests", "2")
    with talking(paced) as talk:
        for name in ("first", "second", "queued"):
            talk.say(LONG, id=name)
        talk.expect("chunk")
        paced.wait_metric("chatterbox_requests_waiting", 1)
    for gauge in ("requests_running", "requests_waiting", "ws_connections"):
        paced.wait_metric(f"chatterbox_{gauge}", 0)
