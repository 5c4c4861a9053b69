"""SIGTERM: what runs is finished, what waits for nothing is closed, what comes is sent elsewhere."""

from __future__ import annotations

import json
import signal
from typing import Any

import httpx
import pytest
from faults_helpers import LONG_TEXT, REAL_TIME, HttpSpeech, SocketSpeech, body, in_background, speak, wait_until
from running_server import HTTP, StartServer
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

SENTENCE = "This sentence is still going on when the signal comes."


def until_closed(socket: ClientConnection) -> tuple[list[dict[str, Any]], int | None]:
    """The messages up to the close frame, and its code."""
    messages: list[dict[str, Any]] = []
    try:
        while True:
            messages.append(json.loads(socket.recv(30)))
    except ConnectionClosed as closed:
        return messages, closed.rcvd.code if closed.rcvd else None


def test_drain_finishes_running_and_refuses_new_requests(server: StartServer) -> None:
    one = server(*REAL_TIME)
    whole: list[httpx.Response] = []
    with connect(one.ws) as idle, connect(one.ws) as busy:
        assert [json.loads(socket.recv())["type"] for socket in (idle, busy)] == ["ready", "ready"]
        busy.send(json.dumps({"type": "say", "id": "a", **body(SENTENCE)}))
        assert json.loads(busy.recv(30))["index"] == 0
        streaming = in_background(lambda: whole.append(speak(one, SENTENCE)))
        one.wait_metric("chatterbox_requests_running", 2)

        one.process.send_signal(signal.SIGTERM)
        assert until_closed(idle) == ([], 1001)
        assert not whole, "the idle socket is closed at once, not after what runs"
        for path, status in (("/readyz", 503), ("/health", 503), ("/livez", 200)):
            assert HTTP.get(one.url + path).status_code == status, path
        assert HTTP.get(one.url + "/health").json()["status"] == "draining"
        refused = speak(one, "Too late.")
        assert (refused.status_code, refused.json()["code"]) == (503, "DRAINING")
        assert int(refused.headers["retry-after"]) >= 1
        busy.send(json.dumps({"type": "say", "id": "b", **body("Too late.")}))

        messages, code = until_closed(busy)
        assert code == 1001
        assert [(m["id"], m["code"]) for m in messages if m["type"] == "error"] == [("b", "DRAINING")]
        said = [message for message in messages if message["id"] == "a"]
        assert [message["type"] for message in said[-2:]] == ["chunk", "done"]
        assert said[-2]["is_last"] is True
        assert said[-1]["duration_seconds"] == pytest.approx(len(SENTENCE) * 0.06, abs=0.1)
        streaming.join(30)
    assert whole[0].status_code == 200
    assert len(whole[0].content) / 4 / 24_000 == pytest.approx(len(SENTENCE) * 0.06, abs=0.1)
    assert one.wait_exit() == 0


def test_drain_serves_queued_requests(server: StartServer) -> None:
    one = server(*REAL_TIME, env={"MAX_CONCURRENT_REQUESTS": "1"})
    answers: list[httpx.Response] = []
    with HttpSpeech(one, LONG_TEXT) as speaking:
        speaking.wait_audio()
        waiting = in_background(lambda: answers.append(speak(one, "Let me in.")))
        one.wait_metric("chatterbox_requests_waiting", 1)
        one.process.send_signal(signal.SIGTERM)
        wait_until(lambda: HTTP.get(one.url + "/readyz").status_code == 503, "it is not ready any more")
    waiting.join(30)
    assert answers[0].status_code == 200
    assert one.wait_exit() == 0


@pytest.mark.parametrize("kind", [HttpSpeech, SocketSpeech])
def test_drain_timeout_cuts_requests_off(server: StartServer, kind: type[HttpSpeech | SocketSpeech]) -> None:
    one = server(*REAL_TIME, env={"DRAIN_TIMEOUT": "0.5"})
    with kind(one, LONG_TEXT) as endless:
        endless.wait_audio()
        assert one.stop() == 0
        assert endless.cut_off()
    assert "the drain took too long" in one.log()


def test_drain_timeout_sends_error_on_socket(server: StartServer) -> None:
    one = server(*REAL_TIME, env={"DRAIN_TIMEOUT": "0.5"})
    with connect(one.ws) as endless:
        assert json.loads(endless.recv(30))["type"] == "ready"
        endless.send(json.dumps({"type": "say", **body(LONG_TEXT)}))
        assert json.loads(endless.recv(30))["type"] == "chunk"
        one.process.send_signal(signal.SIGTERM)
        messages, code = until_closed(endless)
        assert code == 1001
        assert not any(message["is_last"] for message in messages)
    assert one.wait_exit() == 0


@pytest.mark.parametrize(("first", "second"), [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT)])
def test_second_signal_ends_at_once(server: StartServer, first: signal.Signals, second: signal.Signals) -> None:
    one = server(*REAL_TIME)
    with HttpSpeech(one, LONG_TEXT) as endless:
        endless.wait_audio()
        one.process.send_signal(first)
        wait_until(lambda: "draining" in one.log(), "the first signal is seen")
        assert one.stop(second) == 130


def test_second_signal_ends_wait_for_engine(server: StartServer) -> None:
    one = server(*REAL_TIME, env={"DRAIN_TIMEOUT": "0.1"})
    with HttpSpeech(one, "[[slow 60]] This step lasts."):
        one.wait_metric("chatterbox_requests_running", 1)
        one.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "drained" in one.log(), "the server waits for the engine alone")
        assert one.stop() == 130


def test_hung_engine_is_abandoned(server: StartServer) -> None:
    one = server(*REAL_TIME, env={"DRAIN_TIMEOUT": "0.1"})
    with HttpSpeech(one, "[[slow 60]] This step lasts."):
        one.wait_metric("chatterbox_requests_running", 1)
        assert one.stop() == 0
    assert "the engine's thread did not end" in one.log()
