"""Measure a server under load: listeners that each ask for speech again as soon as they have heard the last of it.

A level is carried in real time when nothing failed, at most 1 % of all chunks came after a player had run dry (20 ms
of grace), and 95 % of the requests took less time than their audio lasts. RTF is the time from asking to the end by
the length of the audio, so it counts waiting.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import how_to_install
from ..announcement import ANNOUNCE_JSON, ready_url
from ..interpreter import environment, interpreter
from .child import BenchError
from .engine_command import counts
from .report import server_tables

__all__ = ["add_options", "measure", "render"]

TEXT = "A listener hears every word of this text at the pace of speech, and the words that follow come in time as well."
_STOP_SECONDS = 60.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of ``bench server``."""
    parser.add_argument("--url", help="the server, as in http://127.0.0.1:8081 (default: one is started for it)")
    parser.add_argument(
        "--serve",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="OPTION",
        help="options of the server that is started; the last option here, as in: --serve --load-turbo",
    )
    parser.add_argument("--transports", default="ws,http", type=_transports, help="ws, http or both (default)")
    parser.add_argument("--concurrency", default=[1, 2, 4, 8, 16], type=counts, help="levels (default: 1,2,4,8,16)")
    parser.add_argument(
        "--find-max-concurrency", action="store_true", help="search the most streams that stay in real time instead"
    )
    parser.add_argument("--max-concurrency", default=1024, type=int, metavar="N", help="where the search ends")
    parser.add_argument("--requests", default=20, type=int, metavar="N", help="in all at each level (default: 20)")
    parser.add_argument(
        "--first-audio-limit-ms",
        type=float,
        metavar="MS",
        help="a level is carried only if 95 %% playback something by then",
    )
    parser.add_argument("--text", default=TEXT, help="what is spoken")
    parser.add_argument("--model", help="model that speaks")
    parser.add_argument("--voice", help="a built-in voice, or a file of the voices folder")
    parser.add_argument("--api-key", default=_key(), help="(environment: the first of API_KEY or API_TOKEN)")
    parser.add_argument(
        "--chunk-ms", default=100, type=int, metavar="MS", help="length of WebSocket chunks (default: 100)"
    )


def measure(given: argparse.Namespace, log: Callable[[str], None]) -> dict[str, Any]:
    """All levels, as JSON has them."""
    missing = [name for name in ("httpx", "websockets") if importlib.util.find_spec(name) is None]
    if missing:
        raise BenchError(f"{' and '.join(missing)} cannot be imported; {how_to_install('bench')}")
    if given.requests < 1 or given.max_concurrency < 1:
        raise BenchError("--requests and --max-concurrency are at least 1")
    with _server(given, log) as url:
        transports = asyncio.run(_measure(given, url, log))
    return {"bench": "server", "url": url, "voice": given.voice, "text": given.text, "transports": transports}


def render(results: Mapping[str, Any]) -> str:
    return server_tables(results)


async def _measure(given: argparse.Namespace, url: str, log: Callable[[str], None]) -> dict[str, Any]:
    from .load import Request, Sweep, open_listener

    request = Request(
        url=url.rstrip("/"),
        text=given.text,
        model=given.model,
        voice=given.voice,
        api_key=given.api_key,
        chunk_ms=given.chunk_ms,
    )
    limit = given.first_audio_limit_ms
    results: dict[str, Any] = {}
    for transport in given.transports:
        # Whatever is computed once is computed now; and whether anybody is there.
        async with open_listener(transport, request) as listener:
            playback = await listener.listen()
        if playback.error is not None:
            raise BenchError(f"{url}: a first request over {transport} failed ({playback.error})")
        sweep = Sweep(
            request=request,
            transport=transport,
            requests=given.requests,
            first_audio_limit=None if limit is None else limit / 1000,
            log=log,
        )
        if given.find_max_concurrency:
            results[transport] = await sweep.search(given.max_concurrency)
        else:
            results[transport] = await sweep.levels(given.concurrency)
    return results


@contextlib.contextmanager
def _server(given: argparse.Namespace, log: Callable[[str], None]) -> Iterator[str]:
    """The address of the server to measure, which runs while the block does."""
    if given.url is not None:
        if given.serve:
            raise BenchError("--url and --serve exclude each other")
        yield given.url
        return
    most = max(given.max_concurrency if given.find_max_concurrency else 0, *given.concurrency)
    # None of these is what is measured. Whoever sets one of them means it.
    limits = {
        "--max-concurrent-requests": most,
        "--max-connections": most + 64,
        "--max-ws-connections": most + 64,
        "--max-ws-connections-per-client": most + 64,
    }
    room = [part for name, limit in limits.items() if name not in given.serve for part in (name, str(limit))]
    command = [*interpreter(), "-m", "chatterbox_server", "--port", "0", *room, *given.serve]
    with tempfile.TemporaryDirectory(prefix="chatterbox-bench-") as folder:
        log_path = Path(folder, "log")
        with log_path.open("w", encoding="utf-8") as errors:
            process = subprocess.Popen(
                command, env=environment() | ANNOUNCE_JSON, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        try:
            log("starting a server")
            url = _address(process)
            if url is None:
                process.wait()
                tail = log_path.read_text(encoding="utf-8", errors="replace")[-2000:]
                raise BenchError(f"the server did not start (status {process.returncode}):\n{tail}")
            yield url
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _address(process: subprocess.Popen[str]) -> str | None:
    """The server's address once it is ready; ``None`` if it ends before."""
    assert process.stdout is not None
    for line in process.stdout:
        if url := ready_url(line):
            return url
    return None


def _key() -> str | None:
    """One of the keys that a server with this environment takes."""
    for name in ("API_KEY", "API_TOKEN"):
        text, path = os.environ.get(name, ""), os.environ.get(f"{name}_FILE")
        if not text and path:
            with contextlib.suppress(OSError):
                text = Path(path).read_text(encoding="utf-8")
        if keys := [key.strip() for key in re.split(r"[,\n]", text) if key.strip()]:
            return keys[0]
    return None


def _transports(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in ("ws", "http")]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is unknown; there are ws and http")
    return names
