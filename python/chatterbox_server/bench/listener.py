"""Listeners: each asks for speech and hears it as a player would."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

__all__ = ["TRANSPORTS", "Heard", "Listener", "Request", "open_listener"]

TRANSPORTS = ("ws", "http")
LATE_SECONDS = 0.02
"""What a player has in hand against the network."""
_SAMPLE_RATE = 24_000
_BYTES_PER_SECOND = 2 * _SAMPLE_RATE
_PATIENCE_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for, and of whom."""

    url: str
    """Of the server: ``http://host:port``."""
    text: str
    model: str | None
    voice: str | None
    api_key: str | None
    chunk_ms: int

    def body(self, **more: object) -> dict[str, Any]:
        """The fields of ``POST /api/tts``."""
        body: dict[str, Any] = {"text": self.text, "stream": True, **more}
        body["audio"] = {
            "format": "pcm_s16le",
            "sample_rate": _SAMPLE_RATE,
            "chunk_size_ms": self.chunk_ms,
            "binary": True,
        }
        if self.model:
            body["model"] = self.model
        if self.voice:
            body["voice"] = {"audio_prompt_path": self.voice}
        return body

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}


@dataclass(slots=True)
class Heard:
    """One answer. A player starts with the first chunk; each later one is due when what came before has been played."""

    started: float = field(default_factory=time.perf_counter)
    first_audio: float | None = None
    """Seconds from asking to hearing."""
    ended: float = 0.0
    """Seconds from asking to the end."""
    audio_seconds: float = 0.0
    chunks: int = 0
    late: int = 0
    error: str | None = None

    def take(self, size: int) -> None:
        """So many bytes of audio have come."""
        now = time.perf_counter() - self.started
        if self.first_audio is None:
            self.first_audio = now
        self.late += now - self.first_audio > self.audio_seconds + LATE_SECONDS
        self.chunks += 1
        self.audio_seconds += size / _BYTES_PER_SECOND

    def end(self) -> None:
        self.ended = time.perf_counter() - self.started
        if not self.audio_seconds and self.error is None:
            self.error = "no audio came"

    @property
    def real_time_factor(self) -> float:
        """Seconds that it took for a second of audio."""
        return self.ended / self.audio_seconds


class Listener(Protocol):
    """A client that stays and asks for one thing after another."""

    async def listen(self) -> Heard: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_listener(transport: str, request: Request) -> Listener:
    """One of ``TRANSPORTS``."""
    return _WebSocket(request) if transport == "ws" else _Http(request)


class _WebSocket:
    def __init__(self, request: Request) -> None:
        self._request = request
        self._socket: ClientConnection | None = None

    async def listen(self) -> Heard:
        heard = Heard()
        try:
            socket = await self._connected()
            heard.started = time.perf_counter()
            await socket.send(json.dumps(self._request.body(type="say", id="1")))
            async for frame in socket:
                if isinstance(frame, bytes):
                    heard.take(len(frame))
                    continue
                message = json.loads(frame)
                if message["type"] == "error":
                    heard.error = message["code"]
                if message["type"] in ("done", "error"):
                    break
            else:
                heard.error = "the connection was closed"
                self._socket = None
        except (OSError, WebSocketException) as error:
            heard.error = type(error).__name__
            self._socket = None
        heard.end()
        return heard

    async def _connected(self) -> ClientConnection:
        """A connection that has greeted; after a failure, a fresh one."""
        if self._socket is None:
            url = f"ws{self._request.url.removeprefix('http')}/ws/tts"
            self._socket = await connect(
                url,
                additional_headers=self._request.headers(),
                max_size=None,
                open_timeout=_PATIENCE_SECONDS,
                ping_interval=None,
                compression=None,
                proxy=None,
            )
            await self._socket.recv()
        return self._socket

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._socket is not None:
            await self._socket.close()


class _Http:
    def __init__(self, request: Request) -> None:
        self._request = request
        self._client = httpx.AsyncClient(timeout=_PATIENCE_SECONDS, trust_env=False, headers=request.headers())

    async def listen(self) -> Heard:
        heard = Heard()
        try:
            async for piece in self._pieces(heard):
                heard.take(len(piece))
        except httpx.HTTPError as error:
            heard.error = type(error).__name__
        heard.end()
        return heard

    async def _pieces(self, heard: Heard) -> AsyncIterator[bytes]:
        url = f"{self._request.url}/api/tts"
        async with self._client.stream("POST", url, json=self._request.body()) as response:
            if response.status_code != 200:
                heard.error = f"status {response.status_code}"
                return
            async for piece in response.aiter_raw():
                yield piece

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()
