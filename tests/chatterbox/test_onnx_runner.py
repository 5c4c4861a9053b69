from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from chatterbox_server._core import Audio, Cancel, Done, Enrolled, Failed, Forget, Params, Speak
from chatterbox_server.chatterbox.onnx.graphs import locate
from chatterbox_server.chatterbox.tensors import CheckpointError
from chatterbox_server.engine import Command, Engine
from chatterbox_server.model_runner import Event
from engine_helpers import convert, drain, replace, samples, speak
from tiny_engines import engine_of, enroll, graphs_of, voiced

KEY = "ab" * 32
TEXT = "The quick brown fox jumps over the lazy dog."


@pytest.fixture(scope="module")
def root(checkpoints: Callable[[str], Path]) -> Path:
    return graphs_of("turbo", checkpoints("turbo"), "fp32")


@pytest.fixture(scope="module")
def engine(root: Path) -> Engine:
    """Turbo as graphs, idle before and after each test."""
    return engine_of(root, ["turbo"], backend="onnx")


@pytest.fixture(autouse=True)
def left_idle(engine: Engine) -> None:
    assert engine.idle


def say(request_id: int = 1, *, seconds: float = 1.2, **fields: object) -> Speak:
    return replace(speak(request_id, TEXT, model="turbo", max_audio_seconds=seconds), **fields)


def ending(events: Sequence[Event], request_id: int = 1) -> Event:
    own = [event for event in events if event.id == request_id]
    assert [event for event in own if not isinstance(event, Audio)] == own[-1:]
    return own[-1]


def tokens(events: Sequence[Event]) -> tuple[int, ...]:
    end = ending(events)
    assert isinstance(end, Done)
    assert end.stats.tokens is not None
    return tuple(end.stats.tokens)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_tokens_equal_torch_engine(engine: Engine, checkpoints: Callable[[str], Path], temperature: float) -> None:
    weights = engine_of(checkpoints("turbo"), ["turbo"], backend="torch")
    for seed in range(3):
        request = say(seed=seed, params=Params(temperature=temperature), return_tokens=True)
        assert tokens(drain(engine, [request])) == tokens(drain(weights, [request]))


def test_audio_streams_and_is_deterministic(engine: Engine) -> None:
    request = say(seconds=5.0, params=Params(temperature=0.0))
    events = drain(engine, [request])
    assert sum(isinstance(event, Audio) for event in events) >= 3
    audio = samples(events)
    assert np.isfinite(audio).all()
    assert np.abs(audio).max() > 1e-4
    assert audio.size == 5.0 * 24_000
    assert np.array_equal(samples(drain(engine, [request])), audio)


def test_whole_audio_is_about_as_long(engine: Engine) -> None:
    request = replace(say(seconds=60.0), text="Hi.")
    streamed = drain(engine, [request])
    whole = drain(engine, [replace(request, stream=False)])
    assert sum(isinstance(event, Audio) for event in whole) == 1
    # Slices are moved by 10 ms at most where they are joined.
    seams = sum(isinstance(event, Audio) for event in streamed) - 1
    assert seams >= 2
    assert abs(samples(whole).size - samples(streamed).size) <= seams * 240


def test_speech_does_not_depend_on_batch(engine: Engine) -> None:
    alone = samples(drain(engine, [say()]))
    others: list[Command] = [say(number, seconds=0.2 * number, seed=number) for number in range(2, 7)]
    events = engine.step(others[:2])
    events += engine.step([say(), *others[2:]])
    events += drain(engine, [Cancel(id=3)])
    np.testing.assert_allclose(samples(events), alone, atol=2e-4)
    assert not any(isinstance(event, Failed) for event in events)


def test_voice_is_cloned_used_and_forgotten(engine: Engine) -> None:
    end = ending(drain(engine, [enroll(1, KEY, "turbo")]))
    assert isinstance(end, Enrolled)
    assert end.cache_bytes > 0
    default, cloned = (samples(drain(engine, [say(voice=voice)])) for voice in (None, KEY))
    assert cloned.size != default.size or not np.allclose(cloned, default, atol=1e-3)
    drain(engine, [Forget(voice=KEY)])
    gone = ending(drain(engine, [say(voice=KEY)]))
    assert isinstance(gone, Failed)
    assert gone.code == "VOICE_NOT_ENROLLED"


def test_voice_of_other_backend_is_refused(engine: Engine) -> None:
    end = ending(drain(engine, [replace(enroll(1, KEY, "turbo"), portable=b"safetensors")]))
    assert isinstance(end, Failed)
    assert end.code == "CANNOT_CLONE"


def test_prepared_voice_is_kept_on_disk(root: Path, tmp_path: Path) -> None:
    first = engine_of(root, ["turbo"], backend="onnx", voices_dir=tmp_path)
    drain(first, [enroll(1, KEY, "turbo")])
    assert [path.name.split(".")[0] for path in tmp_path.iterdir()] == [KEY]
    expected = samples(drain(first, [say(voice=KEY)]))
    second = engine_of(root, ["turbo"], backend="onnx", voices_dir=tmp_path)
    assert np.array_equal(samples(drain(second, [say(voice=KEY)])), expected)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"params": Params(speed=1.5)}, "speed"),
        ({"text": "word " * 9000}, "text"),
        ({"voice": KEY}, "voice"),
    ],
)
def test_unsupported_parameters_name_field(engine: Engine, fields: dict[str, object], field: str) -> None:
    end = ending(drain(engine, [replace(say(), **fields)]))
    assert isinstance(end, Failed)
    assert end.field == field


def test_clips_are_not_converted(engine: Engine) -> None:
    assert not engine.models[0].can_convert
    command = replace(convert(), model="turbo", pcm=voiced(2.0).astype("<f4").tobytes(), sample_rate=24_000)
    end = ending(drain(engine, [command]), command.id)
    assert isinstance(end, Failed)
    assert end.field == "model"


def test_watermarked_audio_has_same_length(root: Path, engine: Engine) -> None:
    marked = engine_of(root, ["turbo"], backend="onnx", watermark=True)
    assert marked.models[0].watermark
    plain, audio = (samples(drain(each, [say()])) for each in (engine, marked))
    assert audio.size == plain.size
    assert 0 < np.abs(audio - plain).max() < 0.05


def test_missing_graphs_are_named(root: Path, tmp_path: Path) -> None:
    def located(model: str, dtype: str, folder: Path | None) -> None:
        locate(model, dtype=dtype, model_path=folder, progress=lambda what, done, total: None)

    located("turbo", "fp32", root)
    located("turbo", "fp32", root / "turbo")
    with pytest.raises(CheckpointError, match=r"onnx/language_model_q4\.onnx.*hf download.*export-onnx"):
        located("turbo", "q4", root)
    with pytest.raises(CheckpointError, match="nano: there are no published graphs"):
        located("nano", "fp32", None)


def test_damaged_graph_fails_loading(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "turbo"
    (folder / "onnx").mkdir(parents=True)
    for path in (root / "turbo").rglob("*"):
        if path.is_file():
            (folder / path.relative_to(root / "turbo")).symlink_to(path)
    broken = folder / "onnx" / "language_model.onnx"
    broken.unlink()
    broken.write_bytes(b"no graph")
    with pytest.raises(CheckpointError, match=r"language_model\.onnx: cannot be read as an ONNX graph"):
        engine_of(tmp_path, ["turbo"], backend="onnx")
