"""Listeners that read in real time get everything; listeners that stop reading are cut off."""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from running_server import HTTP, Server, running
from ws_helpers import RawSocket

STALL_SECONDS = 3.0
RATE = 48_000
"""Bytes a second of 16-bit audio at 24 kHz, in real time."""
SECONDS = 36
"""More audio than the kernels' buffers and the server hold, and far more than the stall timeout."""
TEXT = "x" * int(SECONDS / 0.06)


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that makes audio at once and gives up soon on a client that does not read."""
    limits = ("--stall-timeout", str(STALL_SECONDS), "--request-timeout", "4", "--ws-ping-interval", "1")
    # All listeners of a test are served at once: one that waited for a slot would time out.
    fake = ("--engine", "fake", "--fake-rtf", "0", "--max-concurrent-requests", "8")
    with running(tmp_path_factory.mktemp("hasty"), *fake, *limits) as one:
        yield one


def ended(one: Server, route: str, outcome: str) -> float:
    """How many requests of a route ended so."""
    name = f'chatterbox_requests_total{{route="{route}",model="fake",outcome="{outcome}"}}'
    return one.metrics().get(name, 0)


def wait_ended(one: Server, route: str, outcome: str, count: float) -> None:
    """Waits until so many requests of a route have ended so."""
    one.wait_metric(f'chatterbox_requests_total{{route="{route}",model="fake",outcome="{outcome}"}}', count)


def test_readers_at_real_time_get_everything(hasty: Server, tmp_path: Path) -> None:
    """With curl, streams of both kinds, a whole file and events, side by side."""
    events: dict[str, object] = {"input": TEXT, "response_format": "pcm", "stream_format": "sse"}
    requests: list[tuple[str, dict[str, object], int]] = [
        ("/api/tts", {"text": TEXT, "audio": {"format": "pcm_s16le"}}, SECONDS * RATE),
        ("/api/tts", {"text": TEXT}, SECONDS * RATE + 44),
        ("/api/tts", {"text": TEXT, "stream": False}, SECONDS * RATE + 44),
        ("/v1/audio/speech", events, SECONDS * RATE * 4 // 3),
    ]
    with contextlib.ExitStack() as stack:
        curls = []
        for number, (path, body, size) in enumerate(requests):
            command = ["curl", "--silent", "--show-error", "--fail", "--limit-rate", str(size // SECONDS)]
            command += ["--output", str(number), "--header", "Content-Type: application/json"]
            command += ["--data", json.dumps(body), hasty.url + path]
            curls.append(stack.enter_context(subprocess.Popen(command, cwd=tmp_path)))
            stack.callback(curls[-1].kill)
        ends = [curl.wait(4 * SECONDS) for curl in curls]
    assert ends == [0] * len(requests)
    for number, (_, _, size) in enumerate(requests):
        assert (tmp_path / str(number)).stat().st_size >= size
    assert not any("stalled" in name for name in hasty.metrics())


def test_websocket_reader_at_real_time_gets_everything(hasty: Server) -> None:
    ok = ended(hasty, "/ws/tts", "ok")
    with RawSocket(hasty, receive_buffer=64 * 1024) as client:
        client.send({"type": "say", "id": "a", "text": TEXT})
        began, chunks = time.monotonic(), 0
        while True:
            opcode, payload = client.receive()
            if opcode == client.PING:
                client.pong(payload)
                continue
            message = json.loads(payload)
            assert message["type"] in {"ready", "chunk", "done"}, message
            if message["type"] == "done":
                break
            if message["type"] == "chunk":
                chunks += 1
                time.sleep(max(0.0, began + 0.04 * chunks - time.monotonic()))
        # The last one may be short.
        assert chunks >= SECONDS * 25
    wait_ended(hasty, "/ws/tts", "ok", ok + 1)


def endless() -> str:
    """A text whose audio fits into no buffer."""
    return "word " * 999


@pytest.mark.parametrize(("path", "field"), [("/api/tts", "text"), ("/v1/audio/speech", "input")])
def test_stalled_reader_releases_slot(hasty: Server, path: str, field: str) -> None:
    stalled = ended(hasty, path, "stalled")
    body = {field: endless(), "response_format": "pcm", "stream_format": "sse"}
    with HTTP.stream("POST", hasty.url + path, json=body) as answer:
        assert answer.status_code == 200
        began = time.monotonic()
        wait_ended(hasty, path, "stalled", stalled + 1)
        assert STALL_SECONDS * 0.8 < time.monotonic() - began < STALL_SECONDS + 8
        assert hasty.metrics()["chatterbox_requests_running"] == 0
        process = psutil.Process(hasty.process.pid)
        deadline = time.monotonic() + 10
        while any(c.status == psutil.CONN_ESTABLISHED for c in process.net_connections("tcp")):
            assert time.monotonic() < deadline, "the connection is still held"
            time.sleep(0.1)


def test_stalled_websocket_gets_error_and_close_frame(hasty: Server) -> None:
    stalled = ended(hasty, "/ws/tts", "stalled")
    with RawSocket(hasty, receive_buffer=64 * 1024) as client:
        for number in range(2):
            client.send({"type": "say", "id": str(number), "text": endless()})
        wait_ended(hasty, "/ws/tts", "stalled", stalled + 2)
        assert hasty.metrics()["chatterbox_requests_running"] == 0
        # It comes back, and learns why there is no more.
        errors, code = {}, None
        while code is None:
            opcode, payload = client.receive()
            if opcode == client.CLOSE:
                (code,) = struct.unpack(">H", payload[:2])
            elif opcode == client.TEXT and (message := json.loads(payload))["type"] == "error":
                errors[message["id"]] = message["code"]
    assert errors == {"0": "STALLED", "1": "STALLED"}
    assert code == 1008
    hasty.wait_metric("chatterbox_ws_connections", 0)
