"""The OpenAI plugin of ``livekit-agents``: it asks for events, and reads what the content type says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from client_helpers import FORMATS, KEY, LATE_FAILURE, SECONDS, SENTENCE, judge_speech, judge_tone, samples_of
from livekit.agents import APIConnectionError, APIConnectOptions, APIStatusError
from livekit.plugins import openai
from running_server import Server

ONCE = APIConnectOptions(max_retry=0, timeout=30)
RUNNING = "chatterbox_requests_running"
EVENTS = "gpt-4o-mini-tts"
AUDIO = "tts-1"


def with_tts(server: Server, work: Callable[[Any], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    """What ``work`` makes of the plugin."""

    async def run() -> Any:
        tts = openai.TTS(base_url=f"{server.url}/v1", api_key=KEY, **options)
        try:
            return await work(tts)
        finally:
            await tts.aclose()

    return asyncio.run(run())


async def collected(tts: Any, text: str = SENTENCE) -> Any:
    """The whole audio of a text, as one frame."""
    async with tts.synthesize(text, conn_options=ONCE) as stream:
        return await stream.collect()


def judge(frame: Any, judgement: Callable[..., None], **expected: Any) -> None:
    assert (frame.sample_rate, frame.num_channels) == (24_000, 1)
    judgement(samples_of(frame.data), frame.sample_rate, **expected)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("model", [EVENTS, AUDIO])
def test_plugin_speaks(fake: Server, model: str, name: str) -> None:
    judge(with_tts(fake, collected, model=model, response_format=name), judge_tone)


def test_plugin_needs_only_base_url(lite: Server) -> None:
    judge(with_tts(lite, collected), judge_speech)


def test_instructions_and_speed_are_accepted(fake: Server) -> None:
    frame = with_tts(fake, collected, voice="coral", speed=0.5, instructions="Slowly.", response_format="pcm")
    judge(frame, judge_tone, seconds=2 * SECONDS)


@pytest.mark.parametrize("model", [EVENTS, AUDIO])
def test_frames_arrive_while_rest_is_made(paced: Server, model: str) -> None:
    async def first(tts: Any) -> float:
        async with tts.synthesize(SENTENCE, conn_options=ONCE) as stream:
            await anext(stream)
            return paced.metrics()[RUNNING]

    assert with_tts(paced, first, model=model, response_format="pcm") == 1
    # Who stops listening is not spoken to.
    paced.wait_metric(RUNNING, 0)


def test_usage_metrics_are_reported(fake: Server) -> None:
    async def measured(tts: Any) -> Any:
        found: list[Any] = []
        tts.on("metrics_collected", found.append)
        await collected(tts)
        (metrics,) = found
        return metrics

    metrics = with_tts(fake, measured)
    assert metrics.input_tokens == len(SENTENCE)
    assert metrics.output_tokens == pytest.approx(25 * SECONDS, abs=1)
    assert metrics.audio_duration == pytest.approx(SECONDS, abs=0.11)


def test_errors_are_reported(fake: Server) -> None:
    with pytest.raises(APIStatusError) as raised:
        with_tts(fake, lambda tts: collected(tts, "x" * 5001))
    assert raised.value.status_code == 400
    with pytest.raises(APIStatusError) as raised:
        with_tts(fake, collected, voice="nobody")
    assert raised.value.status_code == 404


@pytest.mark.parametrize("model", [EVENTS, AUDIO])
def test_truncated_audio_is_error(fake: Server, model: str) -> None:
    with pytest.raises(APIConnectionError):
        with_tts(fake, lambda tts: collected(tts, LATE_FAILURE), model=model, response_format="pcm")
