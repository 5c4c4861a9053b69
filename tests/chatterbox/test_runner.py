from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from chatterbox_server._core import Audio, Cancel, Done, Enrolled, Failed, Forget, Params, Speak
from chatterbox_server.engine import Command, Engine
from chatterbox_server.model_runner import Event
from engine_helpers import convert, drain, replace, samples, speak
from numpy.typing import NDArray
from tiny_engines import engine_of, enroll, voiced

MODELS = ("standard", "turbo", "multilingual", "nano")
KEY = "ab" * 32
TEXT = "The quick brown fox jumps over the lazy dog."


@pytest.fixture(scope="module")
def root(checkpoints: Callable[[str], Path]) -> Path:
    """The folder that holds one folder per model."""
    return {checkpoints(model).parent for model in MODELS}.pop()


@pytest.fixture(scope="module")
def engine(root: Path) -> Engine:
    """All four models in one engine, idle before and after each test."""
    return engine_of(root, MODELS)


@pytest.fixture(autouse=True)
def left_idle(engine: Engine) -> None:
    assert engine.idle


def say(model: str, request_id: int = 1, *, seconds: float = 1.2, **fields: object) -> Speak:
    return replace(speak(request_id, TEXT, model=model, max_audio_seconds=seconds), **fields)


def ending(events: Sequence[Event], request_id: int = 1) -> Event:
    """The one event that ends a request; nothing of it comes afterwards."""
    own = [event for event in events if event.id == request_id]
    assert [event for event in own if not isinstance(event, Audio)] == own[-1:]
    return own[-1]


def spoken(events: Sequence[Event], request_id: int = 1) -> NDArray[np.float32]:
    """The samples of a request that was completed."""
    assert isinstance(ending(events, request_id), Done), ending(events, request_id)
    return samples(events, request_id)


def tokens(events: Sequence[Event]) -> tuple[int, ...]:
    """The speech tokens of the one request, which was completed and asked for them."""
    end = ending(events)
    assert isinstance(end, Done)
    assert end.stats.tokens is not None
    return tuple(end.stats.tokens)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_speaks(engine: Engine, model: str) -> None:
    events = drain(engine, [say(model, return_tokens=True)])
    audio, end = spoken(events), ending(events)
    assert isinstance(end, Done)
    assert 1 <= len(tokens(events)) <= 30
    assert audio.size == round(end.stats.audio_seconds * 24_000)
    assert 0 < audio.size <= 1.2 * 24_000
    assert np.isfinite(audio).all()
    assert np.abs(audio).max() > 1e-4
    assert end.stats.compute_seconds > 0


@pytest.mark.parametrize("model", ["standard", "turbo"])
def test_first_audio_precedes_end_of_decoding(engine: Engine, model: str) -> None:
    events = engine.step([say(model, seconds=8.0, params=Params(temperature=0.0))])
    steps = 1
    while not any(isinstance(event, Audio) for event in events):
        events += engine.step([])
        steps += 1
    assert steps <= 40
    assert not engine.idle
    drain(engine, [Cancel(id=1)])


def test_first_slice_on_cpu_is_two_seconds(root: Path) -> None:
    engine = engine_of(root, ["turbo"], profile="balanced")
    events = drain(engine, [say("turbo", seconds=8.0, params=Params(temperature=0.0))])
    first, second, *_ = [len(event.pcm) // 4 / 24_000 for event in events if isinstance(event, Audio)]
    # The vocoder holds 300 ms back, and slices are faded over.
    assert 1.6 < first < 2.0
    assert second == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("model", MODELS)
def test_audio_does_not_depend_on_batch(engine: Engine, model: str) -> None:
    alone = spoken(drain(engine, [say(model)]))
    others: list[Command] = [say(model, number, seconds=0.2 * number, seed=number) for number in range(2, 7)]
    events = engine.step(others[:2])
    events += engine.step([say(model), *others[2:]])
    for _ in range(7):
        events += engine.step([])
    events += drain(engine, [Cancel(id=3)])
    together = spoken(events)
    assert together.size == alone.size
    np.testing.assert_allclose(together, alone, atol=2e-4)
    assert not any(isinstance(event, Failed) for event in events)


def test_models_run_concurrently(engine: Engine) -> None:
    events = drain(engine, [say(model, number) for number, model in enumerate(MODELS, start=1)])
    for number, model in enumerate(MODELS, start=1):
        together, alone = spoken(events, number), spoken(drain(engine, [say(model)]))
        np.testing.assert_allclose(together, alone, atol=2e-4)


def test_seeds_differ_and_repeat(engine: Engine) -> None:
    first, again, other = (spoken(drain(engine, [say("turbo", seed=seed)])) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert first.size != other.size or not np.allclose(first, other, atol=1e-3)


def test_whole_and_streamed_audio_have_equal_length(engine: Engine) -> None:
    streamed = spoken(drain(engine, [say("turbo", seconds=4.0)]))
    events = drain(engine, [say("turbo", seconds=4.0, stream=False)])
    assert sum(isinstance(event, Audio) for event in events) == 1
    assert spoken(events).size == streamed.size


@pytest.mark.parametrize("model", ["standard", "turbo"])
def test_chunk_boundaries_do_not_click(engine: Engine, model: str) -> None:
    events = drain(engine, [say(model, seconds=6.0, params=Params(temperature=1.0))])
    sizes = [len(event.pcm) // 4 for event in events if isinstance(event, Audio)]
    assert len(sizes) >= 3
    jumps = np.abs(np.diff(spoken(events)))
    boundaries = np.cumsum(sizes)[:-1] - 1
    assert jumps[boundaries].max() <= np.delete(jumps, boundaries).max()


def test_voice_preparation_does_not_block_requests(engine: Engine) -> None:
    events = engine.step([say("turbo", 1, seconds=4.0), enroll(2, KEY, "turbo")])
    steps = 1
    while not any(isinstance(event, Enrolled) for event in events):
        events += engine.step([])
        steps += 1
    assert steps >= 4, "the preparation was one long step"
    events += drain(engine)
    default = spoken(events)
    assert engine.voice_cache_bytes > 0
    cloned = spoken(drain(engine, [say("turbo", voice=KEY, seconds=4.0)]))
    assert cloned.size != default.size or not np.allclose(cloned, default, atol=1e-3)
    drain(engine, [Forget(voice=KEY)])
    end = ending(drain(engine, [say("turbo", voice=KEY)]))
    assert isinstance(end, Failed)
    assert end.code == "VOICE_NOT_ENROLLED"


def test_forgotten_voice_finishes_running_request(engine: Engine) -> None:
    drain(engine, [enroll(2, KEY, "standard")])
    whole = spoken(drain(engine, [say("standard", voice=KEY)]))
    events = engine.step([say("standard", voice=KEY)])
    events += drain(engine, [Forget(voice=KEY)])
    assert np.array_equal(spoken(events), whole)


def test_exaggeration_changes_speech_without_another_preparation(engine: Engine) -> None:
    def spoken_with(exaggeration: float) -> list[tuple[int, ...]]:
        params = Params(exaggeration=exaggeration)
        requests = [say("standard", seed=seed, params=params, return_tokens=True) for seed in range(6)]
        return [tokens(drain(engine, [request])) for request in requests]

    assert spoken_with(0.0) != spoken_with(1.0)


@pytest.mark.parametrize("model", ["standard", "turbo"])
def test_clip_is_converted_to_voice(engine: Engine, model: str) -> None:
    pcm = voiced(3.0).astype("<f4").tobytes()
    events = drain(engine, [replace(convert(), model=model, pcm=pcm, sample_rate=24_000)])
    assert spoken(events).size == pytest.approx(3.0 * 24_000, abs=2 * 960)


def test_cancelling_frees_slot_within_one_step(engine: Engine) -> None:
    engine.step([say("standard", number, seconds=20.0) for number in range(1, 9)])
    engine.step([])
    assert engine.step([Cancel(id=number) for number in range(1, 9)]) == []
    assert engine.idle


def test_more_requests_than_slots_are_all_served(engine: Engine) -> None:
    events = drain(engine, [say("nano", number, seconds=0.4) for number in range(1, 12)])
    assert all(isinstance(ending(events, number), Done) for number in range(1, 12))


@pytest.mark.parametrize(
    ("fields", "code", "field", "message"),
    [
        ({"text": "?!…"}, "NOTHING_TO_SAY", "text", "has no letter"),
        ({"language": "fr"}, "INVALID_PARAMETER", "language_id", "standard speaks en"),
        ({"voice": KEY}, "VOICE_NOT_ENROLLED", "voice", "this clip"),
        ({"text": "word " * 2000}, "INVALID_PARAMETER", "text", ""),
        ({"params": Params(speed=3.0)}, "INVALID_PARAMETER", "speed", "Chatterbox speaks between"),
    ],
)
def test_bad_requests_are_refused_by_field(
    engine: Engine, fields: dict[str, object], code: str, field: str, message: str
) -> None:
    end = ending(drain(engine, [replace(say("standard"), **fields)]))
    assert isinstance(end, Failed)
    assert (end.code, end.field) == (code, field)
    assert end.message.startswith(message)


@pytest.mark.parametrize("text", ["Hi.", "5", "[laugh] yes", "日本", "a" * 60, "[START] [STOP] \u0000 x", "😀 ok"])
@pytest.mark.parametrize("model", MODELS)
def test_odd_texts_are_spoken_or_refused(engine: Engine, model: str, text: str) -> None:
    end = ending(drain(engine, [replace(say(model, seconds=0.6), text=text)]))
    assert isinstance(end, Done) or (isinstance(end, Failed) and end.code == "NOTHING_TO_SAY")


def test_multilingual_speaks_every_language_and_region(engine: Engine) -> None:
    for tag in ("en", "fr", "zh", "ja", "he", "pt-BR"):
        spoken(drain(engine, [say("multilingual", language=tag, seconds=0.4)]))


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_speed_changes_length(engine: Engine, speed: float) -> None:
    greedy = Params(temperature=0.0)
    usual = spoken(drain(engine, [say("turbo", seconds=1.0, params=greedy)])).size
    changed = spoken(drain(engine, [say("turbo", seconds=1.0 / speed, params=replace(greedy, speed=speed))])).size
    assert changed == pytest.approx(usual / speed, abs=2 * 960)


def test_greedy_guidance_weights_may_differ_within_one_batch(engine: Engine) -> None:
    def weighted(weight: float) -> Speak:
        return say("standard", int(10 * weight) + 1, params=Params(temperature=0.0, cfg_weight=weight))

    weights = (0.0, 0.3, 1.0)
    together = drain(engine, [weighted(weight) for weight in weights])
    for weight in weights:
        number = int(10 * weight) + 1
        alone = spoken(drain(engine, [weighted(weight)]), number)
        np.testing.assert_allclose(spoken(together, number), alone, atol=2e-4)


def test_watermarked_audio_has_same_length_and_sounds_almost_same(root: Path, engine: Engine) -> None:
    marked = engine_of(root, ["turbo"], watermark=True)
    assert marked.models[0].watermark
    plain, audio = (spoken(drain(each, [say("turbo")])) for each in (engine, marked))
    assert audio.size == plain.size
    assert 0 < np.abs(audio - plain).max() < 0.05
