"""Who may open ``/ws/tts``, how much one socket may ask for, and when it is closed."""

from __future__ import annotations

import json
import time

import pytest
from running_server import Server, StartServer
from websockets.exceptions import InvalidStatus
from ws_helpers import RawSocket, talking

LONG = "This sentence has many words, and it is said again. " * 40


def _refused(server: Server, **options: object) -> tuple[int, str]:
    """The status and the code with which a handshake is refused."""
    with pytest.raises(InvalidStatus) as refused, talking(server, **options):
        pass
    response = refused.value.response
    assert response.body is not None
    code: str = json.loads(response.body)["code"]
    return response.status_code, code


def test_streams_per_socket_are_limited(server: StartServer) -> None:
    small = server("--engine", "fake", "--fake-rtf", "1", "--max-says-per-connection", "2")
    with talking(small) as talk, talking(small) as other:
        talk.say(LONG, id="a", audio={"chunk_size_ms": 5000})
        talk.say(LONG, id="b", audio={"chunk_size_ms": 5000})
        error = talk.fails("TOO_MANY_REQUESTS", type="say", text="Hello.", id="c")
        assert error["id"] == "c"
        assert other.spoken("Hello.").data
        talk.send(type="cancel", id="a")
        talk.expect("cancelled", id="a")
        talk.say("Hello.", id="c")
        assert talk.expect("chunk", id="c")["index"] == 0


@pytest.mark.parametrize("option", ["MAX_WS_CONNECTIONS", "MAX_WS_CONNECTIONS_PER_CLIENT"])
def test_sockets_are_limited(server: StartServer, option: str) -> None:
    small = server("--engine", "fake", env={option: "2"})
    with talking(small), talking(small):
        assert _refused(small) == (503, "SERVER_BUSY")
    small.wait_metric("chatterbox_ws_connections", 0)
    with talking(small) as talk:
        talk.alive()


def test_only_listed_pages_may_open_socket(server: StartServer) -> None:
    listed = server("--engine", "fake", env={"CORS_ORIGINS": "https://good.example,http://localhost:3000"})
    for origin in ("https://good.example", "http://localhost:3000", None):
        with talking(listed, origin=origin) as talk:
            talk.alive()
    for origin in ("https://evil.example", "null", "https://good.example.evil.example", "http://good.example"):
        assert _refused(listed, origin=origin) == (403, "FORBIDDEN_ORIGIN")


def test_key_may_come_as_subprotocol(server: StartServer) -> None:
    locked = server("--engine", "fake", env={"API_KEY": "first-key,second-key"})
    for key in ("first-key", "second-key"):
        with talking(locked, subprotocols=["chat", f"api-key.{key}"]) as talk:
            assert talk.connection.subprotocol == f"api-key.{key}"
            talk.alive()
    with talking(locked, additional_headers={"Authorization": "Bearer first-key"}) as talk:
        assert talk.connection.subprotocol is None
    for subprotocols in (["api-key.wrong"], ["api-key."], ["first-key"], None):
        assert _refused(locked, subprotocols=subprotocols) == (401, "UNAUTHORIZED")


def test_oversized_message_closes_socket(fake: Server) -> None:
    limit = 1024 * 1024
    with talking(fake) as talk:
        talk.connection.send(b" " * limit)
        talk.expect("error", code="PARSE_ERROR")
        talk.connection.send("x" * (limit + 1))
        assert talk.closed() == 1009
    with talking(fake) as talk:
        talk.connection.send(["x" * (limit // 2), "x" * (limit // 2), "x"])
        assert talk.closed() == 1009


def test_silent_socket_is_closed(server: StartServer) -> None:
    strict = server("--engine", "fake", "--ws-idle-timeout", "0.4")
    with talking(strict) as talk:
        assert talk.closed() == 1001


def test_idle_time_starts_after_last_stream(server: StartServer) -> None:
    strict = server("--engine", "fake", "--fake-rtf", "0.2", "--ws-idle-timeout", "1")
    with talking(strict) as talk:
        talk.spoken(LONG[:150])
        talk.alive()
        assert talk.closed() == 1001


def test_client_without_pongs_is_dropped(server: StartServer) -> None:
    strict = server("--engine", "fake", "--ws-ping-interval", "0.2")
    with talking(strict) as talk, RawSocket(strict) as silent:
        started = time.monotonic()
        assert silent.close_code() in {None, 1005}
        # Two pings go unanswered, and the third is never sent.
        assert time.monotonic() - started >= 0.5
        strict.wait_metric("chatterbox_ws_connections", 1)
        talk.alive()


def test_unresponsive_client_releases_slot(server: StartServer) -> None:
    strict = server("--engine", "fake", "--fake-rtf", "1", "--ws-ping-interval", "0.2")
    with RawSocket(strict) as silent:
        silent.send({"type": "say", "text": LONG})
        strict.wait_metric("chatterbox_requests_running", 1)
        strict.wait_metric("chatterbox_requests_running", 0)
        strict.wait_metric("chatterbox_ws_connections", 0)
