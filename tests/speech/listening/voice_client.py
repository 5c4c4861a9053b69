"""Asks a server for speech in each of the ways there are, and gives back its samples."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from running_server import COMMAND, Server, clean_environment
from websockets.sync.client import ClientConnection, connect

Pcm = NDArray[np.int16]
SEED = 7


def body(text: str, rate: int = 24_000, **fields: Any) -> dict[str, Any]:
    """A request for 16-bit samples that come out the same each time."""
    return {"text": text, "seed": SEED, "audio": {"format": "pcm_s16le", "sample_rate": rate}, **fields}


def over_http(server: Server, text: str, rate: int = 24_000, **fields: Any) -> Pcm:
    """The samples of ``POST /api/tts``."""
    answer = httpx.post(f"{server.url}/api/tts", json=body(text, rate, **fields), timeout=100)
    assert answer.status_code == 200, answer.text
    return np.frombuffer(answer.content, "<i2")


def over_websocket(server: Server, text: str, chunk_ms: int = 40) -> tuple[Pcm, list[int]]:
    """The samples of a ``say``, and how many each chunk held."""
    with connect(server.ws) as socket:
        socket.recv(timeout=30)
        socket.send(json.dumps(_say(text, chunk_ms)))
        return _listen(socket)


def piece_by_piece(server: Server, text: str, size: int) -> tuple[Pcm, list[int]]:
    """The samples of a ``say`` whose text arrives ``size`` characters at a time."""
    with connect(server.ws) as socket:
        socket.recv(timeout=30)
        socket.send(json.dumps(_say("", 40) | {"id": "talk", "more": True}))
        for at in range(0, len(text), size):
            socket.send(json.dumps({"type": "append", "id": "talk", "text": text[at : at + size]}))
        socket.send(json.dumps({"type": "end", "id": "talk"}))
        return _listen(socket)


def over_command_line(text: str, folder: Path, *args: str) -> Path:
    """The file that ``chatterbox-server say`` writes, the text coming from standard input."""
    output = folder / "said.wav"
    # Written without the developer's settings, but with the interpreter's own path.
    environment = clean_environment({"VOICES_DIR": str(folder / "voices")})
    command = [str(COMMAND), "say", "-", "-o", str(output), "--seed", str(SEED), *args]
    done = subprocess.run(
        command, input=text.encode(), env=environment, cwd=folder, capture_output=True, timeout=100, check=False
    )
    assert done.returncode == os.EX_OK, done.stderr.decode()
    return output


def _say(text: str, chunk_ms: int) -> dict[str, Any]:
    request = body(text)
    request["audio"]["chunk_size_ms"] = chunk_ms
    return {"type": "say", **request}


def _listen(socket: ClientConnection) -> tuple[Pcm, list[int]]:
    chunks: list[bytes] = []
    for message in _messages(socket):
        if message["type"] == "done":
            break
        assert message["type"] == "chunk", message
        chunks.append(base64.b64decode(message["data"]))
    return np.frombuffer(b"".join(chunks), "<i2"), [len(chunk) // 2 for chunk in chunks]


def _messages(socket: ClientConnection) -> Iterable[dict[str, Any]]:
    while True:
        yield json.loads(socket.recv(timeout=100))
