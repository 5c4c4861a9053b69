"""Parameters and settings of the dialects that only a Chatterbox model reads, on tiny checkpoints."""

from __future__ import annotations

import contextlib
import hashlib
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from running_server import HTTP, Server, running
from tiny_engines import voiced

TEXT = "The quick brown fox."
BASE: dict[str, Any] = {"text": TEXT, "seed": 8, "max_audio_seconds": 1.2, "format": "raw_pcm"}
SAMPLING: dict[str, tuple[str, Any]] = {
    "exaggeration": ("standard", 0.0),
    "cfg_weight": ("standard", 0.1),
    "temperature": ("standard", 0.3),
    "top_p": ("standard", 0.3),
    "min_p": ("standard", 0.6),
    "repetition_penalty": ("turbo", 1.0),
    "top_k": ("turbo", 2),
}
"""A model that reads it, and a value that is not its own."""
SLICING: dict[str, Any] = {
    "audio_tokens_per_slice": 25,
    "context_window": 3,
    "chunk_overlap_method": "zero",
    "crossfade_duration_milliseconds": 0,
}
NEUTRAL: dict[str, Any] = {
    "exaggeration": 0.5,
    "cfg_guidance_weight": 0.5,
    "synthesis_temperature": 0.8,
    "audio_tokens_per_slice": 10,
    "chunk_overlap_method": "full",
    "crossfade_duration_milliseconds": 30,
    "context_window": 25,
}
SETTINGS = {
    "TTS_VOICE_EXAGGERATION_FACTOR": ("exaggeration", "0"),
    "TTS_CFG_GUIDANCE_WEIGHT": ("cfg_guidance_weight", "0.1"),
    "TTS_SYNTHESIS_TEMPERATURE": ("synthesis_temperature", "0.3"),
    "TTS_AUDIO_TOKENS_PER_SLICE": ("audio_tokens_per_slice", "7"),
    "TTS_CHUNK_OVERLAP_STRATEGY": ("chunk_overlap_method", "zero"),
    "TTS_CROSSFADE_DURATION_MILLISECONDS": ("crossfade_duration_milliseconds", "0"),
    "TTS_CONTEXT_WINDOW": ("context_window", "3"),
}
"""The parameter that a setting stands for, and a value that is not neutral."""


@pytest.fixture(scope="module")
def root(checkpoints: Callable[[str], Path]) -> Path:
    return {checkpoints(model).parent for model in ("standard", "turbo")}.pop()


def speaking(folder: Path, root: Path, **env: str) -> contextlib.AbstractContextManager[Server]:
    loads = {"LOAD_STANDARD": "true", "LOAD_TURBO": "true", "LOAD_LITE": "false", "WATERMARK": "off"}
    return running(folder, env={"MODEL_PATH": str(root), "ENGINE_THREADS": "1", **loads, **env})


@pytest.fixture(scope="module")
def server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with speaking(tmp_path_factory.mktemp("server"), root) as one:
        yield one


@pytest.fixture(scope="module")
def tuned(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose settings are not the models' own. Its queue of speech tokens changes no sample."""
    env = {name: value for name, (_, value) in SETTINGS.items()}
    with speaking(tmp_path_factory.mktemp("tuned"), root, TTS_SPEECH_TOKEN_QUEUE_MAX_SIZE="1", **env) as one:
        yield one


def generated(server: Server, **fields: Any) -> bytes:
    answer = HTTP.get(f"{server.url}/tts/generate", params={**BASE, **fields})
    assert answer.status_code == 200, answer.text
    return answer.content


@pytest.mark.parametrize("name", SAMPLING)
def test_sampling_parameters_reach_model(server: Server, name: str) -> None:
    model, value = SAMPLING[name]
    # Only who always takes the likeliest token says one twice, of so many.
    beside = {"temperature": 0} if name == "repetition_penalty" else {}
    assert generated(server, model=model, **beside) != generated(server, model=model, **beside, **{name: value})


def test_json_equals_query(server: Server) -> None:
    wanted = {**BASE, **NEUTRAL, "model": "standard"}
    assert HTTP.post(f"{server.url}/tts/generate", json=wanted).content == generated(server, **wanted)


def test_aliases_mean_same(server: Server) -> None:
    for usual, other in (("temperature", "synthesis_temperature"), ("cfg_weight", "cfg_guidance_weight")):
        assert generated(server, **{usual: 0.3}) == generated(server, **{other: 0.3})


@pytest.mark.parametrize("name", SLICING)
def test_slicing_parameters_reach_model(server: Server, name: str) -> None:
    small = {"model": "standard", "audio_tokens_per_slice": 10}
    assert generated(server, **small) != generated(server, **{**small, name: SLICING[name]})


@pytest.mark.parametrize("setting", SETTINGS)
def test_setting_equals_request_parameter(server: Server, tuned: Server, setting: str) -> None:
    name, value = SETTINGS[setting]
    unsaid = {other: neutral for other, neutral in NEUTRAL.items() if other != name}
    tuned_audio = generated(tuned, model="standard", **unsaid)
    assert tuned_audio == generated(server, model="standard", **{**NEUTRAL, name: value})
    assert tuned_audio != generated(server, model="standard", **NEUTRAL)


def test_request_overrides_settings(server: Server, tuned: Server) -> None:
    assert generated(tuned, model="standard", **NEUTRAL) == generated(server, model="standard", **NEUTRAL)


@pytest.mark.parametrize("model", ["standard", "turbo"])
def test_clip_equals_stored_voice_and_is_forgotten(server: Server, model: str) -> None:
    clip = io.BytesIO()
    soundfile.write(clip, voiced(1.5, pitch=200.0 if model == "turbo" else 180.0), 24_000, format="WAV")
    content = clip.getvalue()
    key = hashlib.sha256(content).hexdigest()
    fields = {name: str(value) for name, value in BASE.items()} | {"model": model}

    def speak() -> bytes:
        answer = HTTP.post(f"{server.url}/tts", data=fields, files={"voice_file": ("clip.wav", content)})
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-voice"] == key
        return answer.content

    def kept() -> list[Path]:
        return [path for path in server.voices.rglob("*") if key in path.name]

    once = speak()
    assert once != HTTP.post(f"{server.url}/tts", data=fields).content
    deadline = time.monotonic() + 20
    while kept():
        assert time.monotonic() < deadline, kept()
        time.sleep(0.02)
    assert HTTP.get(f"{server.url}/voices").json() == []
    assert speak() == once
    registered = HTTP.post(f"{server.url}/voices/register", files={"voice_file": ("clip.wav", content)})
    voice = registered.raise_for_status().json()["voice_id"]
    assert HTTP.post(f"{server.url}/tts", data={**fields, "voice_id": voice}).content == once
    # It is a voice now, which a request with its clip does not take away.
    assert speak() == once
    assert kept()
    HTTP.delete(f"{server.url}/voices/{voice}").raise_for_status()
