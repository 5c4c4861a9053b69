"""What goes wrong with one request, or one file, and must go no further."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from chatterbox_server._core import Audio, Done, Enrolled, Failed, Forget, Params
from chatterbox_server.chatterbox.runner import ChatterboxRunner
from chatterbox_server.chatterbox.tensors import CheckpointError
from chatterbox_server.engine import Engine
from chatterbox_server.model_runner import Event
from engine_helpers import drain, replace, speak
from safetensors.torch import load_file, save_file
from tiny_engines import engine_of, enroll, voiced

KEY = "cd" * 32
SAY = speak(1, "The quick brown fox.", model="turbo", max_audio_seconds=0.6)


def copied(folder: Path, to: Path, changed: str) -> Path:
    """A checkpoint in which the file ``changed`` may be replaced."""
    for path in folder.iterdir():
        if path.name != changed:
            (to / path.name).symlink_to(path)
    return to / changed


@pytest.fixture
def engine(checkpoints: Callable[[str], Path]) -> Engine:
    return engine_of(checkpoints("turbo"), ["turbo"])


def codes(events: list[Event]) -> dict[int, str]:
    endings = [event for event in events if not isinstance(event, Audio)]
    return {event.id: event.code if isinstance(event, Failed) else type(event).__name__ for event in endings}


def out_of_memory(*_: object, **__: object) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_damaged_voice_encoders_are_found_while_loading(checkpoints: Callable[[str], Path], tmp_path: Path) -> None:
    copied(checkpoints("turbo"), tmp_path, "ve.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(CheckpointError, match=r"ve\.safetensors"):
        engine_of(tmp_path, ["turbo"])


def test_tokeniser_without_layers_is_found_while_loading(checkpoints: Callable[[str], Path], tmp_path: Path) -> None:
    path = copied(checkpoints("turbo"), tmp_path, "s3gen_meanflow.safetensors")
    weights = load_file(checkpoints("turbo") / path.name)
    save_file({name: weight for name, weight in weights.items() if "tokenizer.encoder.blocks" not in name}, path)
    with pytest.raises(CheckpointError, match="tokeniser"):
        engine_of(tmp_path, ["turbo"])


def test_out_of_memory_at_admission_fails_only_that_request(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ChatterboxRunner, "_rendering", out_of_memory)
        assert codes(drain(engine, [SAY])) == {1: "OUT_OF_MEMORY"}
    assert codes(drain(engine, [SAY])) == {1: "Done"}


def test_out_of_memory_in_preparation_fails_only_clip(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatterbox_server.chatterbox.voices.prepare.resample", out_of_memory)
    assert codes(drain(engine, [SAY, enroll(2, KEY, "turbo")])) == {1: "Done", 2: "OUT_OF_MEMORY"}


def test_out_of_memory_in_decoding_fails_running_requests_only(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.step([SAY])
    with monkeypatch.context() as patch:
        patch.setattr("chatterbox_server.chatterbox.t3.decoder.Decoder._advance", out_of_memory)
        assert codes(drain(engine)) == {1: "OUT_OF_MEMORY"}
    assert codes(drain(engine, [SAY])) == {1: "Done"}


def test_voice_forgotten_during_preparation_is_not_kept(checkpoints: Callable[[str], Path], tmp_path: Path) -> None:
    engine = engine_of(checkpoints("turbo"), ["turbo"], voices_dir=tmp_path)
    engine.step([enroll(1, KEY, "turbo")])
    events = drain(engine, [Forget(voice=KEY)])
    assert any(isinstance(event, Enrolled) for event in events)
    assert list(tmp_path.iterdir()) == []
    assert codes(drain(engine, [replace(SAY, voice=KEY)])) == {1: "VOICE_NOT_ENROLLED"}
    # Asked for again, it is.
    drain(engine, [enroll(2, KEY, "turbo")])
    assert codes(drain(engine, [replace(SAY, voice=KEY)])) == {1: "Done"}


def test_cached_voices_of_other_weights_are_not_used(checkpoints: Callable[[str], Path], tmp_path: Path) -> None:
    voices, changed = tmp_path / "voices", tmp_path / "changed"
    changed.mkdir()
    drain(engine_of(checkpoints("turbo"), ["turbo"], voices_dir=voices), [enroll(1, KEY, "turbo")])
    path = copied(checkpoints("turbo"), changed, "ve.safetensors")
    save_file({name: 2 * weight for name, weight in load_file(checkpoints("turbo") / path.name).items()}, path)
    other = engine_of(changed, ["turbo"], voices_dir=voices)
    assert codes(drain(other, [replace(SAY, voice=KEY)])) == {1: "VOICE_NOT_ENROLLED"}
    again = engine_of(checkpoints("turbo"), ["turbo"], voices_dir=voices)
    assert codes(drain(again, [replace(SAY, voice=KEY)])) == {1: "Done"}


@pytest.mark.parametrize("temperature", [1e-40, 5e-324])
def test_tiny_temperature_is_greedy(engine: Engine, temperature: float) -> None:
    def tokens(value: float) -> tuple[int, ...]:
        request = replace(SAY, params=Params(temperature=value), return_tokens=True)
        end = drain(engine, [request])[-1]
        assert isinstance(end, Done)
        return tuple(end.stats.tokens or ())

    assert tokens(temperature) == tokens(0.0)


def test_overloud_clip_is_refused(engine: Engine) -> None:
    pcm = (voiced(2.0) * 1e19).astype("<f4").tobytes()
    assert codes(drain(engine, [replace(enroll(1, KEY, "turbo"), pcm=pcm)])) == {1: "UNSUPPORTED_AUDIO"}
