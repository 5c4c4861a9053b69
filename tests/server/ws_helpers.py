"""A client of ``/ws/tts``, and a raw one that can break the rules of RFC 6455."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from running_server import Server
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

PATIENCE = 20.0
"""Seconds after which a message that did not come counts as lost."""

Message = dict[str, Any]


@dataclass
class Answer:
    """Everything that came for one say."""

    chunks: list[bytes] = field(default_factory=list)
    headers: list[Message] = field(default_factory=list)
    end: Message = field(default_factory=dict)
    """``done``, ``error`` or ``cancelled``."""

    @property
    def data(self) -> bytes:
        return b"".join(self.chunks)


class Talk:
    """One open socket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def send(self, **message: object) -> None:
        self.connection.send(json.dumps(message))

    def say(self, text: str, **fields: object) -> None:
        self.send(type="say", text=text, **fields)

    def receive(self, patience: float = PATIENCE) -> Message:
        """The next message, which is JSON."""
        text = self.connection.recv(timeout=patience)
        assert isinstance(text, str), "a binary frame came"
        message: Message = json.loads(text)
        return message

    def expect(self, kind: str, **fields: object) -> Message:
        """The next message, which is of this type and has these fields."""
        message = self.receive()
        assert message["type"] == kind, message
        assert {name: message.get(name) for name in fields} == fields, message
        return message

    def ask(self, **message: object) -> Message:
        """Sends a message and returns the next one that comes."""
        self.send(**message)
        return self.receive()

    def fails(self, code: str, **message: object) -> Message:
        """Sends a message that is answered with an error, after which the socket is still open."""
        self.send(**message)
        error = self.expect("error", code=code)
        assert error["error"] == error["message"] != ""
        self.alive()
        return error

    def alive(self) -> None:
        self.send(type="ping")
        self.expect("pong")

    def collect(self, *, binary: bool = False) -> Answer:
        """What comes until a say's end, on a socket that says nothing else."""
        answer = Answer()
        while True:
            message = self.receive()
            if message["type"] not in ("chunk", "audio"):
                answer.end = message
                return answer
            answer.headers.append(message)
            if binary:
                frame = self.connection.recv(timeout=PATIENCE)
                assert isinstance(frame, bytes)
                assert "data" not in message
                answer.chunks.append(frame)
            else:
                answer.chunks.append(base64.b64decode(message["data"], validate=True))

    def spoken(self, text: str, **fields: object) -> Answer:
        """Says a text and returns its audio."""
        self.say(text, **fields)
        answer = self.collect()
        assert answer.end["type"] == "done", answer.end
        return answer

    def closed(self, patience: float = PATIENCE) -> int:
        """Waits until the server closes the socket; returns the code. Messages before that are skipped."""
        try:
            while True:
                self.connection.recv(timeout=patience)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006


@contextmanager
def talking(server: Server, **options: Any) -> Iterator[Talk]:
    """A socket on which the server has said that it is ready."""
    with connect(server.ws, max_size=None, max_queue=None, proxy=None, close_timeout=PATIENCE, **options) as connection:
        talk = Talk(connection)
        talk.expect("ready")
        yield talk


class RawSocket:
    """A WebSocket client that sends any bytes and answers nothing by itself."""

    TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

    def __init__(self, server: Server, *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", server.port))
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /ws/tts HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self._buffer = b""
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self.socket.recv(4096)
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 101 "), head

    def __enter__(self) -> RawSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, message: Message) -> None:
        self.socket.sendall(frame(self.TEXT, json.dumps(message).encode()))

    def pong(self, payload: bytes) -> None:
        """Answers a ping."""
        self.socket.sendall(frame(self.PONG, payload))

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionResetError
            self._buffer += more
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def receive(self) -> tuple[int, bytes]:
        """The next frame: its opcode and its payload."""
        first, length = self._exactly(2)
        assert first & 0x80, "the server sends no fragments"
        if length == 126:
            (length,) = struct.unpack(">H", self._exactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self._exactly(8))
        return first & 0x0F, self._exactly(length)

    def close_code(self) -> int | None:
        """Reads until the connection is over; the code of the close frame, if there was one."""
        code = None
        try:
            while True:
                opcode, payload = self.receive()
                if opcode == self.CLOSE:
                    code = struct.unpack(">H", payload[:2])[0] if payload else 1005
        except ConnectionResetError:
            return code


def frame(opcode: int, payload: bytes, *, fin: bool = True, reserved: int = 0, masked: bool = True) -> bytes:
    """One frame of a client; the mask is all zeros, which leaves the payload as it is."""
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        head = struct.pack(">BB", first, mask_bit | len(payload))
    elif len(payload) < 65536:
        head = struct.pack(">BBH", first, mask_bit | 126, len(payload))
    else:
        head = struct.pack(">BBQ", first, mask_bit | 127, len(payload))
    return head + (bytes(4) if masked else b"") + payload
