from __future__ import annotations

import multiprocessing
import signal

import numpy as np
import pytest
from chatterbox_server import fake
from chatterbox_server._core import Audio, Cancel, Done, Enroll, Enrolled, Failed, Forget
from chatterbox_server.engine import Engine
from chatterbox_server.fake import FakeRunner, frequency, tone
from chatterbox_server.model_runner import Event
from engine_helpers import convert, drain, samples, speak

KEY = "ab" * 32


def engine(*, chunk_ms: int = 200, rtf: float = 0.0, sleeps: list[float] | None = None) -> Engine:
    runner = FakeRunner("fake", chunk_ms=chunk_ms, rtf=rtf, sleep=([] if sleeps is None else sleeps).append)
    return Engine([runner], device="cpu")


def enroll(voice: str = KEY, seconds: float = 1.0, request_id: int = 100) -> Enroll:
    return Enroll(id=request_id, voice=voice, model="fake", pcm=bytes(4 * int(8000 * seconds)), sample_rate=8000)


def failures(events: list[Event]) -> list[tuple[int, str]]:
    return [(event.id, event.code) for event in events if isinstance(event, Failed)]


@pytest.mark.parametrize(
    ("text", "speed", "cap", "seconds"),
    [("a", 1.0, 40.0, 0.2), ("a" * 50, 1.0, 40.0, 3.0), ("a" * 50, 2.0, 40.0, 1.5), ("a" * 50, 1.0, 0.5, 0.5)],
)
def test_length_follows_text(text: str, speed: float, cap: float, seconds: float) -> None:
    events = drain(engine(), [speak(1, text, speed=speed, max_audio_seconds=cap)])
    assert samples(events).size == round(seconds * 24_000)
    done = events[-1]
    assert isinstance(done, Done)
    assert done.stats.audio_seconds == pytest.approx(seconds)
    assert done.stats.tokens is None


@pytest.mark.parametrize("chunk_ms", [37, 200])
def test_tone_goes_on_across_chunks(chunk_ms: int) -> None:
    audio = samples(drain(engine(chunk_ms=chunk_ms), [speak(1, "a" * 40)]))
    hertz = frequency("fake", "tone", 7)
    expected = 0.1 * np.sin(2 * np.pi * hertz * np.arange(audio.size) / 24_000)
    np.testing.assert_allclose(audio, expected, atol=1e-5)


def test_whole_audio_equals_streamed() -> None:
    streamed = drain(engine(), [speak(1, "a" * 40)])
    whole = drain(engine(), [speak(1, "a" * 40, stream=False, return_tokens=True)])
    assert [type(event) for event in whole] == [Audio, Done]
    np.testing.assert_array_equal(samples(streamed), samples(whole))
    done = whole[-1]
    assert isinstance(done, Done)
    assert done.stats.tokens == list(range(60))


def test_frequency_differs_by_voice_and_seed() -> None:
    voices = {frequency("fake", f"{n:064x}", 0) // 100 for n in range(40)}
    seeds = {frequency("fake", KEY, seed) % 100 for seed in range(40)}
    assert voices == set(range(2, 10))
    assert len(seeds) == 10
    assert len(tone(440, 23_999, 3)) == 12


def test_batch_takes_steps_of_one_request() -> None:
    sleeps_alone: list[float] = []
    sleeps_together: list[float] = []
    alone = drain(engine(rtf=0.5, sleeps=sleeps_alone), [speak(1, "a" * 50)])
    together = drain(engine(rtf=0.5, sleeps=sleeps_together), [speak(n, "a" * 50) for n in range(40)])
    assert len(sleeps_alone) == len(sleeps_together) == 15
    assert sum(isinstance(event, Done) for event in together) == 40
    assert samples(together, 39).size == samples(alone).size
    assert all(0.05 < sleep <= 0.1 for sleep in sleeps_alone + sleeps_together)


def test_requests_join_and_leave_running_batch() -> None:
    batch = engine()
    batch.step([speak(1, "a" * 50)])
    events = batch.step([speak(2, "a" * 50)])
    assert {event.id for event in events} == {1, 2}
    assert {event.id for event in batch.step([Cancel(id=1)])} == {2}


def test_enrolled_voices_speak() -> None:
    batch = engine()
    assert failures(batch.step([speak(1, voice=KEY)])) == [(1, "VOICE_NOT_ENROLLED")]
    (enrolled,) = batch.step([enroll()])
    assert isinstance(enrolled, Enrolled)
    assert batch.voice_cache_bytes == enrolled.cache_bytes > 0
    audio = samples(drain(batch, [speak(1, voice=KEY)]))
    expected = np.frombuffer(tone(frequency("fake", KEY, 7), 0, audio.size), dtype="<f4")
    np.testing.assert_array_equal(audio, expected)
    batch.step([Forget(voice=KEY)])
    assert failures(batch.step([speak(1, voice=KEY)])) == [(1, "VOICE_NOT_ENROLLED")]
    assert batch.voice_cache_bytes == 0


def test_least_recently_used_voice_is_evicted() -> None:
    batch = engine()
    keys = [f"{n:064x}" for n in range(fake.MAX_VOICES)]
    batch.step([enroll(key, request_id=100 + n) for n, key in enumerate(keys)])
    drain(batch, [speak(1, voice=keys[0])])
    batch.step([enroll(KEY)])
    assert failures(drain(batch, [speak(1, voice=keys[0]), speak(2, voice=keys[1])])) == [(2, "VOICE_NOT_ENROLLED")]


@pytest.mark.parametrize("stream", [True, False])
def test_conversion_is_as_long_as_clip(stream: bool) -> None:
    batch = engine()
    batch.step([enroll()])
    events = drain(batch, [convert(1, 0.5, voice=KEY, stream=stream), convert(2, 3.0, max_audio_seconds=1.0)])
    for request_id, voice, seconds in ((1, KEY, 0.5), (2, "tone", 1.0)):
        audio = samples(events, request_id)
        expected = np.frombuffer(tone(frequency("fake", voice, 7), 0, round(24_000 * seconds)), dtype="<f4")
        np.testing.assert_array_equal(audio, expected)
    assert failures(drain(batch, [convert(3, voice="0" * 64)])) == [(3, "VOICE_NOT_ENROLLED")]


def test_short_clip_is_refused() -> None:
    assert failures(engine().step([enroll(seconds=0.9)])) == [(100, "UNSUPPORTED_AUDIO")]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (speak(1, "x [[fail]]"), "GENERATION_ERROR"),
        (speak(1, "x [[mute]]"), "NOTHING_TO_SAY"),
        (speak(1, "…!"), "NOTHING_TO_SAY"),
        (speak(1, "x [[oom]]"), "OUT_OF_MEMORY"),
        (speak(1, language="ja"), "INVALID_PARAMETER"),
        (speak(1, speed=float("nan")), "INVALID_PARAMETER"),
    ],
)
def test_faults_at_start_end_one_request(command: object, code: str) -> None:
    events = drain(engine(), [command, speak(2)])  # type: ignore[list-item]
    assert failures(events) == [(1, code)]
    assert not samples(events, 1).size
    assert any(isinstance(event, Done) and event.id == 2 for event in events)


def test_fail_late_comes_after_audio() -> None:
    events = drain(engine(), [speak(1, "a long text [[fail-late]]"), speak(2)])
    assert samples(events, 1).size == 4800
    assert failures(events) == [(1, "GENERATION_ERROR")]
    assert any(isinstance(event, Done) and event.id == 2 for event in events)


def test_raise_is_fatal() -> None:
    with pytest.raises(RuntimeError):
        engine().step([speak(1, "[[raise]]")])


def test_slow_lengthens_every_step_while_it_lives() -> None:
    sleeps: list[float] = []
    drain(engine(sleeps=sleeps), [speak(1, "[[slow 0.5]]"), speak(2, "a" * 30)])
    assert sleeps == [0.5] * 4


def test_hang_never_returns() -> None:
    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        if len(sleeps) == 3:
            raise TimeoutError

    sleeps: list[float] = []
    runner = FakeRunner("fake", sleep=sleep)
    with pytest.raises(TimeoutError):
        Engine([runner], device="cpu").step([speak(1, "[[hang]]")])


def _die() -> None:
    engine().step([speak(1, "[[die]]")])


def test_die_kills_process() -> None:
    process = multiprocessing.get_context("spawn").Process(target=_die)
    process.start()
    process.join(10)
    assert process.exitcode == -signal.SIGKILL
