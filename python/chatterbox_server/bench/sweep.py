"""A server at one number of listeners after another."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from .listener import Heard, Request, open_listener

__all__ = ["Sweep", "percentile"]

_LATE_SHARE = 0.01
"""Of all chunks: what a listener does not hear as a stutter."""

Tell = Callable[[str], None]


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
    """Seconds within which 95 % must have heard something for a level to count as carried."""
    tell: Tell

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
        """What ``concurrency`` listeners hear at once, each of whom asks again as soon as the answer has ended."""
        self.tell(f"{self.transport}: {concurrency} at once")
        turns: Iterator[int] = iter(range(max(self.requests, 2 * concurrency)))
        heard: list[Heard] = []
        async with AsyncExitStack() as stack:
            listeners = [
                await stack.enter_async_context(open_listener(self.transport, self.request)) for _ in range(concurrency)
            ]

            async def ask(number: int) -> None:
                for _ in turns:
                    heard.append(await listeners[number].listen())

            started = time.perf_counter()
            await asyncio.gather(*(ask(number) for number in range(concurrency)))
            elapsed = time.perf_counter() - started
        return self._result(concurrency, heard, elapsed)

    def _result(self, concurrency: int, heard: Sequence[Heard], elapsed: float) -> dict[str, Any]:
        good = [each for each in heard if each.error is None]
        factors = [each.real_time_factor for each in good]
        first = [each.first_audio for each in good if each.first_audio is not None]
        chunks, late = sum(each.chunks for each in good), sum(each.late for each in good)
        result: dict[str, Any] = {
            "concurrency": concurrency,
            "requests": len(heard),
            "seconds": elapsed,
            "rtf": {"mean": sum(factors) / len(factors) if factors else None} | _percentiles(factors, 50, 95),
            "first_audio_seconds": _percentiles(first, 50, 95, 99),
            "requests_per_second": len(good) / elapsed,
            "audio_seconds_per_second": sum(each.audio_seconds for each in good) / elapsed,
            "chunks": chunks,
            "late_chunks": late,
            "errors": dict(Counter(each.error for each in heard if each.error is not None)),
        }
        return result | {"carried": self._carried(result)}

    def _carried(self, result: dict[str, Any]) -> bool:
        """Whether all of them heard speech in real time."""
        if result["errors"] or not result["chunks"]:
            return False
        in_time = result["late_chunks"] <= _LATE_SHARE * result["chunks"] and result["rtf"]["p95"] < 1
        early = self.first_audio_limit is None or result["first_audio_seconds"]["p95"] <= self.first_audio_limit
        return bool(in_time and early)


def _percentiles(values: Sequence[float], *shares: int) -> dict[str, float | None]:
    return {f"p{share}": percentile(values, share / 100) for share in shares}
