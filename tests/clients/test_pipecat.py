"""``OpenAITTSService`` of ``pipecat-ai``: it knows OpenAI's voices alone, and takes bare PCM at 24 kHz."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from client_helpers import KEY, SECONDS, SENTENCE, judge_speech, judge_tone, samples_of
from openai import DefaultAsyncHttpxClient
from pipecat.frames.frames import ErrorFrame, Frame, TTSAudioRawFrame, TTSSpeakFrame, TTSStartedFrame, TTSStoppedFrame
from pipecat.services.openai.tts import VALID_VOICES, OpenAITTSService
from pipecat.tests.utils import run_test
from running_server import Server


def spoken(server: Server, *texts: str, **settings: Any) -> tuple[Sequence[Frame], Sequence[Frame]]:
    """What the service hands on, and what it reports back, when it is told to say the texts."""

    async def run() -> tuple[Sequence[Frame], Sequence[Frame]]:
        # The service does not close a client that it has made itself.
        async with DefaultAsyncHttpxClient() as http:
            service = OpenAITTSService(
                api_key=KEY,
                base_url=f"{server.url}/v1",
                http_client=http,
                sample_rate=24_000,
                settings=OpenAITTSService.Settings(**settings),
            )
            down, up = await run_test(service, frames_to_send=[TTSSpeakFrame(text) for text in texts])
            return down, up

    return asyncio.run(run())


def audio(frames: Sequence[Frame]) -> bytes:
    """The audio of frames that are as they say."""
    found = [frame for frame in frames if isinstance(frame, TTSAudioRawFrame)]
    assert {(frame.sample_rate, frame.num_channels) for frame in found} == {(24_000, 1)}
    return b"".join(frame.audio for frame in found)


def test_plugin_speaks(fake: Server) -> None:
    down, up = spoken(fake, SENTENCE)
    judge_tone(samples_of(audio(down)), 24_000)
    kinds = [type(frame) for frame in down]
    assert kinds.index(TTSStartedFrame) < kinds.index(TTSAudioRawFrame) < kinds.index(TTSStoppedFrame)
    # It comes in pieces, so that it can be played as it is made.
    assert kinds.count(TTSAudioRawFrame) > 2
    assert not [frame for frame in up if isinstance(frame, ErrorFrame)]


def test_embedded_voice_speaks(lite: Server) -> None:
    judge_speech(samples_of(audio(spoken(lite, SENTENCE, voice="nova")[0])), 24_000)


@pytest.mark.parametrize("voice", sorted(VALID_VOICES))
def test_every_known_voice_speaks(fake: Server, voice: str) -> None:
    judge_tone(samples_of(audio(spoken(fake, SENTENCE, voice=voice)[0])), 24_000)


def test_instructions_speed_and_model_are_accepted(fake: Server) -> None:
    down, _ = spoken(fake, SENTENCE, model="tts-1-hd", speed=2.0, instructions="Fast.")
    judge_tone(samples_of(audio(down)), 24_000, seconds=SECONDS / 2)


def test_errors_are_reported(fake: Server) -> None:
    down, up = spoken(fake, "x" * 5001)
    assert not [frame for frame in down if isinstance(frame, TTSAudioRawFrame)]
    errors = [frame.error for frame in up if isinstance(frame, ErrorFrame)]
    assert "at most 5000" in errors[0]
