"""What only a Chatterbox model has a use for: each parameter and each setting is heard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running_server import HTTP, Server, finish

ASKED = {"text": "The quick brown fox jumps over the lazy dog.", "seed": "1", "format": "raw_pcm"}
LENGTH = {"max_audio_seconds": "2"}
"""Some slices of audio."""
HEARD = {
    "exaggeration": "1.6",
    "cfg_guidance_weight": "0.1",
    "synthesis_temperature": "1.4",
    "top_p": "0.4",
    "min_p": "0.6",
    "repetition_penalty": "2.5",
    "audio_tokens_per_slice": "12",
    "context_window": "4",
    "chunk_overlap_method": "zero",
    "crossfade_duration_milliseconds": "80",
}
SETTINGS = {
    "TTS_VOICE_EXAGGERATION_FACTOR": "exaggeration",
    "TTS_CFG_GUIDANCE_WEIGHT": "cfg_guidance_weight",
    "TTS_SYNTHESIS_TEMPERATURE": "synthesis_temperature",
    "TTS_AUDIO_TOKENS_PER_SLICE": "audio_tokens_per_slice",
    "TTS_CONTEXT_WINDOW": "context_window",
    "TTS_CHUNK_OVERLAP_STRATEGY": "chunk_overlap_method",
    "TTS_CROSSFADE_DURATION_MILLISECONDS": "crossfade_duration_milliseconds",
}
GROUPS = [
    ("TTS_VOICE_EXAGGERATION_FACTOR", "TTS_CHUNK_OVERLAP_STRATEGY"),
    ("TTS_CFG_GUIDANCE_WEIGHT", "TTS_SYNTHESIS_TEMPERATURE", "TTS_AUDIO_TOKENS_PER_SLICE"),
    ("TTS_CONTEXT_WINDOW",),
    ("TTS_CROSSFADE_DURATION_MILLISECONDS",),
]
"""Those that are heard beside each other."""

Start = Callable[..., Server]


@pytest.fixture(scope="module")
def start(checkpoints: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    started: list[Server] = []

    def start_with(**env: str) -> Server:
        model = {"MODEL_PATH": str(checkpoints("standard").parent), "LOAD_STANDARD": "true", "LOAD_LITE": "false"}
        started.append(Server(tmp_path_factory.mktemp("heard"), [], {**model, "ENGINE_THREADS": "1", **env}))
        started[-1].wait_ready()
        return started[-1]

    yield start_with
    for one in started:
        finish(one)


@pytest.fixture(scope="module")
def server(start: Start) -> Server:
    return start()


def samples(server: Server, **fields: str) -> bytes:
    answer = HTTP.get(f"{server.url}/tts/generate", params={**ASKED, **LENGTH, **fields})
    assert answer.status_code == 200, answer.text
    return answer.content


@pytest.fixture(scope="module")
def usual(server: Server) -> bytes:
    return samples(server)


@pytest.mark.parametrize("name", HEARD)
def test_each_parameter_is_heard(server: Server, usual: bytes, name: str) -> None:
    assert samples(server, **{name: HEARD[name]}) != usual


def test_the_same_is_heard_twice(server: Server, usual: bytes) -> None:
    assert samples(server) == usual


@pytest.mark.parametrize("settings", GROUPS)
def test_each_setting_says_what_is_usual(start: Start, server: Server, usual: bytes, settings: tuple[str, ...]) -> None:
    asked = {SETTINGS[setting]: HEARD[SETTINGS[setting]] for setting in settings}
    said = samples(start(**{setting: asked[SETTINGS[setting]] for setting in settings}))
    assert said != usual
    assert said == samples(server, **asked)
    for name in asked if len(asked) > 1 else ():
        assert said != samples(server, **{other: value for other, value in asked.items() if other != name}), name
