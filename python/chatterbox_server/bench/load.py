"""Listeners, each of which asks for speech and plays it in real time, and sweeps over numbers of them."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

__all__ = ["TRANSPORTS", "Listener", "Playback", "Request", "Sweep", "open_listener", "percentile"]


TRANSPORTS = ("ws", "http")
LATE_SECONDS = 0.02
"""A player's buffer against jitter of the network."""
_SAMPLE_RATE = 24_000
_BYTES_PER_SECOND = 2 * _SAMPLE_RATE
_PATIENCE_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request and its server."""

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
class Playback:
    """One answer. A player starts with the first chunk; each later one is due when what came before has been played."""

    started: float = field(default_factory=time.perf_counter)
    first_audio: float | None = None
    """Seconds from the request to the first audio."""
    ended: float = 0.0
    """Seconds from the request to the end."""
    audio_seconds: float = 0.0
    chunks: int = 0
    late: int = 0
    error: str | None = None

    def take(self, size: int) -> None:
        """Record ``size`` bytes of audio."""
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

    async def listen(self) -> Playback: ...

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

    async def listen(self) -> Playback:
        playback = Playback()
        try:
            socket = await self._connected()
            playback.started = time.perf_counter()
            await socket.send(json.dumps(self._request.body(type="say", id="1")))
            async for frame in socket:
                if isinstance(frame, bytes):
                    playback.take(len(frame))
                    continue
                message = json.loads(frame)
                if message["type"] == "error":
                    playback.error = message["code"]
                if message["type"] in ("done", "error"):
                    break
            else:
                playback.error = "the connection was closed"
                self._socket = None
        except (OSError, WebSocketException) as error:
            playback.error = type(error).__name__
            self._socket = None
        playback.end()
        return playback

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

    async def listen(self) -> Playback:
        playback = Playback()
        try:
            async for chunk in self._chunks(playback):
                playback.take(len(chunk))
        except httpx.HTTPError as error:
            playback.error = type(error).__name__
        playback.end()
        return playback

    async def _chunks(self, playback: Playback) -> AsyncIterator[bytes]:
        url = f"{self._request.url}/api/tts"
        async with self._client.stream("POST", url, json=self._request.body()) as response:
            if response.status_code != 200:
                playback.error = f"status {response.status_code}"
                return
            async for chunk in response.aiter_raw():
                yield chunk

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()


_LATE_SHARE = 0.01
"""The share of late chunks that is still tolerated."""

Log = Callable[[str], None]


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest of ``values`` that ``share`` of them do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """``requests`` in all at each level, and at least two of each listener."""

    request: Request
    transport: str
    requests: int
    first_audio_limit: float | None
    """Seconds within which 95 % must have had their first audio for a level to count as carried."""
    log: Log

    async def levels(self, concurrencies: Sequence[int]) -> list[dict[str, Any]]:
        """One result for each."""
        return [await self.level(count) for count in concurrencies]

    async def search(self, most: int) -> list[dict[str, Any]]:
        """Double until it is too many, then halve the gap down to an eighth; all levels in the order of their size."""
        results: dict[int, dict[str, Any]] = {}
        carried, refused, count = 0, 0, 1
        while carried < most:
            results[count] = await self.level(count)
            carried, refused = (count, refused) if results[count]["carried"] else (carried, count)
            if refused and refused - carried <= max(1, carried // 8):
                break
            count = (carried + refused) // 2 if refused else min(2 * count, most)
        return [results[count] for count in sorted(results)]

    async def level(self, concurrency: int) -> dict[str, Any]:
        """Figures of ``concurrency`` listeners at once, each of which asks again as soon as its answer has ended."""
        self.log(f"{self.transport}: {concurrency} at once")
        requests_left: Iterator[int] = iter(range(max(self.requests, 2 * concurrency)))
        playbacks: list[Playback] = []
        async with AsyncExitStack() as stack:
            listeners = [
                await stack.enter_async_context(open_listener(self.transport, self.request)) for _ in range(concurrency)
            ]

            async def ask(number: int) -> None:
                for _ in requests_left:
                    playbacks.append(await listeners[number].listen())

            started = time.perf_counter()
            await asyncio.gather(*(ask(number) for number in range(concurrency)))
            elapsed = time.perf_counter() - started
        return self._result(concurrency, playbacks, elapsed)

    def _result(self, concurrency: int, playbacks: Sequence[Playback], elapsed: float) -> dict[str, Any]:
        good = [each for each in playbacks if each.error is None]
        factors = [each.real_time_factor for each in good]
        first = [each.first_audio for each in good if each.first_audio is not None]
        chunks, late = sum(each.chunks for each in good), sum(each.late for each in good)
        result: dict[str, Any] = {
            "concurrency": concurrency,
            "requests": len(playbacks),
            "seconds": elapsed,
            "rtf": {"mean": sum(factors) / len(factors) if factors else None} | _percentiles(factors, 50, 95),
            "first_audio_seconds": _percentiles(first, 50, 95, 99),
            "requests_per_second": len(good) / elapsed,
            "audio_seconds_per_second": sum(each.audio_seconds for each in good) / elapsed,
            "chunks": chunks,
            "late_chunks": late,
            "errors": dict(Counter(each.error for each in playbacks if each.error is not None)),
        }
        return result | {"carried": self._carried(result)}

    def _carried(self, result: dict[str, Any]) -> bool:
        """Whether all listeners were served in real time."""
        if result["errors"] or not result["chunks"]:
            return False
        in_time = result["late_chunks"] <= _LATE_SHARE * result["chunks"] and result["rtf"]["p95"] < 1
        early = self.first_audio_limit is None or result["first_audio_seconds"]["p95"] <= self.first_audio_limit
        return bool(in_time and early)


def _percentiles(values: Sequence[float], *shares: int) -> dict[str, float | None]:
    return {f"p{share}": percentile(values, share / 100) for share in shares}
