"""The tones that the fake engine makes of voices, and clients that leave in every way a client can."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import httpx
import numpy as np
import psutil
from audio_helpers import clip
from chatterbox_server.fake import SAMPLE_RATE, frequency
from running_server import HTTP, Server
from ws_helpers import Message, RawSocket, frame

FAKE = ("--engine", "fake", "--fake-rtf", "0")
REAL_TIME = ("--engine", "fake", "--fake-rtf", "1", "--fake-chunk-ms", "50")
LONG_TEXT = "This is one of very many sentences. " * 60
"""Two minutes of tone."""

CONNECT_SECONDS = 30.0
CHUNK_MS = 40
_WINDOW = SAMPLE_RATE // 10


def distinct_clips(count: int) -> list[bytes]:
    """Voice files of different tones: those of two files may well be the same."""
    found = {pitch_of(None): b""}
    hertz = 100
    while len(found) <= count:
        content = clip(hertz)
        found.setdefault(pitch_of(content), content)
        hertz += 1
    return list(found.values())[1:]


def pitch_of(content: bytes | None, seed: int = 0) -> int:
    """The tone of the fake engine in the voice of a file, or in its own."""
    voice = "tone" if content is None else hashlib.sha256(content).hexdigest()
    return frequency("fake", voice, seed)


def pitches(pcm: bytes) -> set[int]:
    """The tones in 32-bit samples at the engine's rate, without what is fading or quiet."""
    samples = np.frombuffer(pcm, "<f4")
    windows = samples[: len(samples) // _WINDOW * _WINDOW].reshape(-1, _WINDOW)
    loudness = np.sqrt(np.mean(windows**2, axis=1))
    loud = windows[loudness > 0.9 * loudness.max()]
    return {int(10 * np.argmax(np.abs(np.fft.rfft(window)))) for window in loud}


def body(text: str, voice: str | None = None, *, stream: bool = True) -> dict[str, Any]:
    """A request for samples as the engine makes them, with a seed."""
    audio = {"format": "pcm_f32le", "sample_rate": SAMPLE_RATE, "chunk_size_ms": CHUNK_MS}
    return {"text": text, "seed": 0, "voice": {"audio_prompt_path": voice}, "audio": audio, "stream": stream}


def speak(server: Server, text: str, voice: str | None = None, *, stream: bool = True) -> httpx.Response:
    """The answer to ``POST /api/tts``, read to its end."""
    return HTTP.post(server.url + "/api/tts", json=body(text, voice, stream=stream))


def upload(server: Server, name: str, content: bytes) -> httpx.Response:
    """The answer to an upload, which takes the place of a voice of the same id."""
    files = {"file": (name, content)}
    return HTTP.post(server.url + "/api/voices/upload", files=files, data={"overwrite": "true"})


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Waits for something that the server does in its own time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)


def handles_and_threads(server: Server) -> tuple[int, int]:
    """What the process holds of both."""
    process = psutil.Process(server.process.pid)
    return process.num_fds(), process.num_threads()


def in_background(work: Callable[[], object]) -> threading.Thread:
    """A thread that runs ``work``; a test that fails before it joins the thread does not hang."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def abort_on_close(connection: socket.socket) -> None:
    """Makes closing a reset, as when a process dies or a line is cut."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class HttpSpeech:
    """``POST /api/tts`` on a connection of its own; the answer is read as far as it is asked for."""

    def __init__(self, server: Server, text: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=CONNECT_SECONDS)
        self._reader = self.socket.makefile("rb")
        payload = json.dumps(body(text)).encode()
        head = f"host: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(payload)}\r\n\r\n"
        self.socket.sendall(b"POST /api/tts HTTP/1.1\r\n" + head.encode() + payload)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def wait_audio(self) -> None:
        """Returns when audio has come."""
        self.read_pieces(0)
        assert self._reader.read(64)

    def read_pieces(self, count: int) -> None:
        """Reads the head and about ``count`` tenths of a second."""
        assert self._reader.readline().startswith(b"HTTP/1.1 200 ")
        while self._reader.readline().strip():
            pass
        self._reader.read(count * _WINDOW * 4)

    def cut_off(self) -> bool:
        """Reads to the end; whether that comes before the end of the body, which is a chunk of no length."""
        data = b""
        try:
            while more := self._reader.read(65_536):
                data = more
        except ConnectionError:
            return True
        return not data.endswith(b"0\r\n\r\n")

    def leave(self, *, reset: bool = False) -> None:
        """Closes the connection."""
        if reset:
            abort_on_close(self.socket)
        self._reader.close()
        self.socket.close()


class SocketSpeech(RawSocket):
    """A WebSocket with one say on it."""

    def __init__(self, server: Server, text: str) -> None:
        super().__init__(server)
        assert self.message()["type"] == "ready"
        self.send({"type": "say", "id": "a", **body(text)})

    def __enter__(self) -> Self:
        return self

    def message(self) -> Message:
        """The next message."""
        kind, payload = self.receive()
        assert kind == self.TEXT, f"not a text frame: {kind}"
        message: Message = json.loads(payload)
        return message

    def wait_audio(self) -> None:
        """Returns when audio has come."""
        assert self.message()["type"] == "chunk"

    def read_pieces(self, count: int) -> None:
        """Reads about ``count`` tenths of a second."""
        for _ in range(count * 100 // CHUNK_MS):
            self.message()

    def cut_off(self) -> bool:
        """Reads to the end; whether that comes without the say's last chunk."""
        try:
            while (message := self.message())["type"] == "chunk":
                if message["is_last"]:
                    return False
        except (ConnectionError, AssertionError):
            pass
        return True

    def leave(self, *, reset: bool = False) -> None:
        """Closes the connection without a word."""
        if reset:
            abort_on_close(self.socket)
        self.socket.close()

    def close(self) -> None:
        """Performs the closing handshake of RFC 6455, then closes."""
        self.socket.sendall(frame(self.CLOSE, struct.pack("!H", 1000)))
        self.leave()

    def cancel(self) -> None:
        """Takes the say back, and leaves when that is confirmed."""
        self.send({"type": "cancel", "id": "a"})
        while self.message()["type"] != "cancelled":
            pass
        self.leave()
