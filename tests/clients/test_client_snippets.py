"""The programs of the pages that use a client's package, run as they are printed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from client_helpers import SENTENCE, decoded, judge_speech, samples_of
from documents import ADDRESS, blocks
from pipecat.frames.frames import TTSAudioRawFrame, TTSSpeakFrame
from pipecat.tests.utils import run_test
from running_server import Server


def run(client: str, server: Server) -> dict[str, Any]:
    """What the page's program for a client has defined when it ends, with the server's address in it."""
    (block,) = (block for block in blocks() if block.mark == f"client: {client}")
    names: dict[str, Any] = {}
    exec(compile(block.code.replace(ADDRESS, server.url), block.name, "exec"), names)
    return names


def test_openai_snippet_writes_file(lite: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("openai", lite)["client"].close()
    judge_speech(*decoded((tmp_path / "hello.mp3").read_bytes(), "mp3"))


def test_livekit_snippet_speaks(lite: Server) -> None:
    async def speak() -> Any:
        tts = run("livekit", lite)["tts"]
        try:
            async with tts.synthesize(SENTENCE) as stream:
                return await stream.collect()
        finally:
            await tts.aclose()

    frame = asyncio.run(speak())
    judge_speech(samples_of(frame.data), frame.sample_rate)


def test_pipecat_snippet_speaks(lite: Server) -> None:
    async def speak() -> bytes:
        service = run("pipecat", lite)["tts"]
        frames, _ = await run_test(service, frames_to_send=[TTSSpeakFrame(SENTENCE)])
        # The service does not close a client that it has made itself.
        await service._client.close()
        return b"".join(frame.audio for frame in frames if isinstance(frame, TTSAudioRawFrame))

    judge_speech(samples_of(asyncio.run(speak())), 24_000)
