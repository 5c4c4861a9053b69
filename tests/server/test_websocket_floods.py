"""Raw frames: rules of RFC 6455 that are broken, floods, and clients that read nothing."""

from __future__ import annotations

import json
import struct

import psutil
import pytest
from running_server import Server, StartServer
from ws_helpers import RawSocket, frame, talking

TEXT, BINARY, CLOSE, PING, PONG = RawSocket.TEXT, RawSocket.BINARY, RawSocket.CLOSE, RawSocket.PING, RawSocket.PONG
PING_MESSAGE = b'{"type": "ping"}'
MEGABYTE = 1024 * 1024


@pytest.mark.parametrize(
    ("broken", "codes"),
    [
        pytest.param(frame(TEXT, PING_MESSAGE, reserved=4), {1002}, id="reserved bit 1"),
        pytest.param(frame(TEXT, PING_MESSAGE, reserved=1), {1002}, id="reserved bit 3"),
        pytest.param(frame(TEXT, PING_MESSAGE, masked=False), {1002}, id="no mask"),
        pytest.param(frame(3, b""), {1002}, id="reserved opcode"),
        pytest.param(frame(11, b""), {1002}, id="reserved control opcode"),
        pytest.param(frame(0, b"x"), {1002}, id="nothing to continue"),
        pytest.param(frame(TEXT, b"x", fin=False) + frame(TEXT, b"x"), {1002}, id="not continued"),
        pytest.param(frame(PING, b"x", fin=False), {1002}, id="control frame in fragments"),
        pytest.param(frame(PING, b"x" * 126), {1002}, id="long control frame"),
        pytest.param(frame(TEXT, b"\xff\xfe"), {1007}, id="not UTF-8"),
        pytest.param(frame(TEXT, b"\xed\xa0\x80"), {1007}, id="surrogate"),
        pytest.param(frame(TEXT, b"\xc3", fin=False) + frame(0, b"x"), {1007}, id="not UTF-8 across fragments"),
        pytest.param(frame(CLOSE, b"\x03"), {1002}, id="half a close code"),
        pytest.param(frame(CLOSE, struct.pack(">H", 1005)), {1002}, id="close code that is never sent"),
        pytest.param(b"\x81\xff" + struct.pack(">Q", 2**63 - 1) + bytes(4), {1009, 1002}, id="exabytes"),
        pytest.param(b"\x82\xff" + struct.pack(">Q", 2**30) + bytes(4), {1009}, id="a gigabyte"),
    ],
)
def test_protocol_error_closes_socket(fake: Server, broken: bytes, codes: set[int]) -> None:
    # More than once: a close frame must not depend on who is faster.
    for _ in range(5):
        with RawSocket(fake) as client:
            client.receive()
            client.socket.sendall(broken)
            assert client.close_code() in codes
    with talking(fake) as talk:
        talk.alive()


def test_fragments_with_ping_between_them_are_one_message(fake: Server) -> None:
    with RawSocket(fake) as client:
        client.receive()
        for byte in PING_MESSAGE[:-1]:
            opcode = TEXT if byte == PING_MESSAGE[0] else 0
            client.socket.sendall(frame(opcode, bytes([byte]), fin=False))
        client.socket.sendall(frame(PING, b"still there?"))
        assert client.receive() == (PONG, b"still there?")
        client.socket.sendall(frame(0, PING_MESSAGE[-1:]))
        opcode, payload = client.receive()
        assert (opcode, json.loads(payload)) == (TEXT, {"type": "pong"})


def test_close_is_answered_with_same_code(fake: Server) -> None:
    for payload in (struct.pack(">H", 1000) + b"bye", struct.pack(">H", 3999), b""):
        with RawSocket(fake) as client:
            client.receive()
            client.socket.sendall(frame(CLOSE, payload))
            sent = struct.unpack(">H", payload[:2])[0] if payload else 1005
            assert client.close_code() in {sent, 1000}


def _memory(server: Server) -> int:
    return int(psutil.Process(server.process.pid).memory_info().rss)


def _flood(client: RawSocket, frames: bytes, total: int) -> int:
    """Sends until so many bytes are out, or the server takes no more; returns how many it took."""
    client.socket.settimeout(1.0)
    sent = 0
    try:
        while sent < total:
            sent += client.socket.send(frames)
    except TimeoutError:
        pass
    return sent


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(frame(PING, b"p" * 125), id="pings"),
        pytest.param(frame(TEXT, PING_MESSAGE), id="messages"),
        pytest.param(frame(TEXT, b'{"type": "cancel", "id": "' + b"x" * 200 + b'"}'), id="cancels"),
        pytest.param(frame(TEXT, b"?" * 60), id="errors"),
    ],
)
def test_flood_from_client_that_does_not_read_is_bounded(server: StartServer, flood: bytes) -> None:
    strict = server("--engine", "fake", "--fake-rtf", "0", "--stall-timeout", "2")
    with talking(strict) as talk:
        talk.spoken("Hello.")
        before = _memory(strict)
        with RawSocket(strict, receive_buffer=4096) as client:
            _flood(client, flood * (65536 // len(flood)), 48 * MEGABYTE)
            assert _memory(strict) - before < 24 * MEGABYTE
            talk.spoken("Hello.")
        strict.wait_metric("chatterbox_ws_connections", 1)


def test_stalled_socket_is_cut_off_in_bounded_memory(server: StartServer) -> None:
    says = 8
    strict = server(
        "--engine", "fake", "--fake-rtf", "0", "--stall-timeout", "1", "--max-concurrent-requests", str(says)
    )
    text = ("word " * 24 + "end. ") * 40
    with talking(strict) as talk:
        talk.spoken("Hello.")
        before = _memory(strict)
        with RawSocket(strict, receive_buffer=4096) as client:
            for number in range(says):
                # 300 s of audio each, 77 MB as base64.
                audio = {"format": "pcm_f32le", "sample_rate": 48000}
                client.send({"type": "say", "id": str(number), "text": text[:5000], "audio": audio})
            strict.wait_metric("chatterbox_requests_running", says)
            talk.alive()
            highest = 0
            while strict.metrics()["chatterbox_requests_running"]:
                highest = max(highest, _memory(strict))
            strict.wait_metric("chatterbox_ws_connections", 1)
        assert highest - before < 64 * MEGABYTE
        talk.spoken("Hello.")
    metrics = strict.metrics()
    ended = {name: value for name, value in metrics.items() if "requests_total" in name and 'outcome="ok"' not in name}
    assert sum(ended.values()) == says, ended


def test_socket_memory_is_constant_over_streams(server: StartServer) -> None:
    at_once = 16
    one = server("--engine", "fake", "--fake-rtf", "0", "--fake-chunk-ms", "1000")
    with talking(one) as talk:

        def say(rounds: int) -> None:
            for _ in range(rounds):
                for _ in range(at_once):
                    talk.say("a", max_audio_seconds=0.05)
                running = at_once
                while running:
                    message = talk.receive()
                    assert message["type"] in ("chunk", "done"), message
                    running -= message["type"] == "done"

        say(40)
        before = _memory(one)
        say(150)
        # A task and a channel of each would be more than 2 MB.
        assert _memory(one) - before < 1.2 * MEGABYTE
