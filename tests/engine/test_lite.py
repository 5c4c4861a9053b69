from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from chatterbox_server import lite
from chatterbox_server._core import Audio, Cancel, Done, Enroll, Failed, Speak
from chatterbox_server.engine import Engine
from chatterbox_server.lite import LiteRunner, loudness
from chatterbox_server.model_runner import Event, RequestError
from engine_helpers import convert, drain, samples, speak

PANGRAM = "The quick brown fox jumps over the lazy dog, while the committee reviews the annual report."
SENTENCES = [
    PANGRAM,
    "She sells sea shells by the sea shore.",
    "On the 3rd of March 2024, 1,250 people paid $9.99 each to hear it read at 7:30 pm.",
    "Could you repeat that a little more slowly, please?",
    "Her brother is an engineer who works on railway bridges.",
]


@pytest.fixture(scope="module")
def runner() -> LiteRunner:
    return lite.load(threads=1)


@pytest.fixture
def engine(runner: LiteRunner) -> Iterator[Engine]:
    engine = Engine([runner], device="cpu")
    yield engine
    engine.close()
    assert engine.idle


def say(text: str = "Hello there.", request_id: int = 1, *, speed: float = 1.0, **fields: object) -> Speak:
    return speak(request_id, text, speed=speed, model="lite", **fields)


def refusal(engine: Engine, command: Speak) -> Failed:
    (event,) = drain(engine, [command])
    assert isinstance(event, Failed)
    return event


def test_seed_fixes_samples(engine: Engine) -> None:
    first = samples(drain(engine, [say(seed=5)]))
    again = samples(drain(engine, [say(seed=5), say(PANGRAM, 2)]))
    other = samples(drain(engine, [say(seed=6)]))
    np.testing.assert_array_equal(first, again)
    assert first.size == other.size
    assert not np.array_equal(first, other)
    assert samples(drain(engine, [say(seed=2**64 - 1)])).size


def test_stats_add_up(engine: Engine) -> None:
    events = drain(engine, [say(PANGRAM, return_tokens=True)])
    done = events[-1]
    assert isinstance(done, Done)
    assert done.stats.audio_seconds == samples(events).size / 24_000
    assert 0.0 < done.stats.compute_seconds < 5.0
    assert done.stats.tokens is None


def test_speech_is_at_minus_20_lufs(engine: Engine) -> None:
    pyloudnorm = pytest.importorskip("pyloudnorm")
    meter = pyloudnorm.Meter(24_000)
    for sentence in SENTENCES:
        audio = samples(drain(engine, [say(sentence)]))
        assert meter.integrated_loudness(audio.astype(np.float64)) == pytest.approx(-20.0, abs=1.5)
        assert np.abs(audio).max() < 0.97


def test_limiter_leaves_samples_below_its_knee_alone() -> None:
    ramp = np.linspace(-4.0, 4.0, 80_001, dtype=np.float32)
    limited = loudness(ramp)
    gain = loudness(np.array([0.01], np.float32))[0] / np.float32(0.01)
    below = np.abs(ramp * gain) < 0.7
    np.testing.assert_allclose(limited[below], ramp[below] * gain, rtol=1e-6)
    assert np.abs(limited).max() < 0.97
    steps = np.diff(limited)
    assert (steps >= 0).all()
    assert steps.max() <= 1.01 * gain * 1e-4
    np.testing.assert_allclose(limited, -limited[::-1], atol=1e-6)
    halves = np.concatenate([loudness(ramp[:40_000]), loudness(ramp[40_000:])])
    np.testing.assert_array_equal(limited, halves)


def test_speed_changes_pace(engine: Engine) -> None:
    seconds = {speed: samples(drain(engine, [say(PANGRAM, speed=speed)])).size for speed in (0.5, 1.0, 2.0)}
    assert seconds[0.5] == pytest.approx(2 * seconds[1.0], rel=0.1)
    assert seconds[2.0] == pytest.approx(seconds[1.0] / 2, rel=0.2)


@pytest.mark.parametrize("speed", [0.25, 0.49, 2.01, 4.0, float("nan"), float("inf")])
def test_other_speeds_are_refused(engine: Engine, speed: float) -> None:
    failed = refusal(engine, say(speed=speed))
    assert (failed.code, failed.field) == ("INVALID_PARAMETER", "speed")
    assert failed.message == "lite speaks between 0.5 and 2.0."


@pytest.mark.parametrize("cap", [0.001, 0.5, 3.0])
def test_cap_cuts_with_fade(engine: Engine, cap: float) -> None:
    whole = samples(drain(engine, [say(PANGRAM)]))
    events = drain(engine, [say(f"{PANGRAM} {PANGRAM}", max_audio_seconds=cap)])
    audio = samples(events)
    assert audio.size == int(cap * 24_000)
    assert audio[-1] == 0.0
    faded = min(240, audio.size)
    np.testing.assert_array_equal(audio[:-faded], whole[: audio.size - faded])
    assert isinstance(events[-1], Done)


@pytest.mark.parametrize("cap", [0.0, -1.0, float("nan")])
def test_senseless_cap_is_refused(engine: Engine, cap: float) -> None:
    failed = refusal(engine, say(max_audio_seconds=cap))
    assert (failed.code, failed.field) == ("INVALID_PARAMETER", "max_audio_seconds")


@pytest.mark.parametrize("voice", ["emma", "ab" * 32, ""])
def test_lite_cannot_clone(engine: Engine, voice: str) -> None:
    failed = refusal(engine, say(voice=voice))
    assert (failed.code, failed.field) == ("CANNOT_CLONE", "voice")
    assert "standard, turbo and multilingual" in failed.message
    assert "LOAD_TURBO=true" in failed.message
    assert "make install-chatterbox" in failed.message
    (event,) = engine.step([Enroll(id=3, voice="ab" * 32, model="lite", pcm=bytes(64_000), sample_rate=8000)])
    assert isinstance(event, Failed)
    assert event.code == "CANNOT_CLONE"


def test_lite_cannot_convert(engine: Engine) -> None:
    (event,) = engine.step([convert(3, model="lite")])
    assert isinstance(event, Failed)
    assert (event.code, event.field) == ("INVALID_PARAMETER", "model")
    assert event.message.startswith("'lite' cannot convert voices")


@pytest.mark.parametrize("language", ["en", "EN", "en-US", "en_gb"])
def test_english_tags_are_taken(engine: Engine, language: str) -> None:
    assert samples(drain(engine, [say("Yes.", language=language, voice="heart")])).size


@pytest.mark.parametrize("language", ["fr", "eng-x", "", "e"])
def test_other_languages_are_refused(engine: Engine, language: str) -> None:
    failed = refusal(engine, say(language=language))
    assert (failed.code, failed.field) == ("INVALID_PARAMETER", "language_id")


@pytest.mark.parametrize("text", ["", "   \n", "...", "—!?", "😀😀", "\x00\x07", "_____", "()[]", "👩‍👩‍👧"])
def test_text_without_words_is_refused(engine: Engine, text: str) -> None:
    assert refusal(engine, say(text)).code == "NOTHING_TO_SAY"


@pytest.mark.parametrize("text", ["你好世界", "Привет, мир", "مرحبا", "สวัสดี", "Hi 你好世界", "ᄒ", "a " * 2501])
def test_unreadable_text_is_refused(engine: Engine, text: str) -> None:
    failed = refusal(engine, say(text))
    assert (failed.code, failed.field) == ("INVALID_PARAMETER", "text")


@pytest.mark.parametrize(
    ("text", "least_seconds"),
    [
        ("Café naïve résumé, São Paulo, Dvořák.", 2.0),
        ("Tiếng Việt rất hay", 1.0),
        ("🎉 Hello 世界, my friends", 1.0),
        ("a" * 150, 5.0),
        ("7" * 150, 30.0),
        ("Hello\x00\x01 there\x1b[31m you\u200b\u202e fri\u00adend", 1.5),
        ("Visit https://example.com/a/b?x=1&y=2#top today", 4.0),
        ("𝐇𝐞𝐥𝐥𝐨 ｈｅｌｌｏ ﬁne", 1.0),
        ("NaN", 0.5),
        ("<speak>Hello</speak>", 1.0),
        ("h̷̢e̸l̵l̶o̴", 0.5),
        ("x² + y³ = ½ at 20°C", 3.0),
        ("One.\n\n...\n\nTwo.", 0.8),
        ("123", 1.0),
        ("٣٤٥", 1.0),
        ("!" * 3000 + "a", 0.2),
        ("-1" * 200, 20.0),
        ("1,000" + ",000" * 40, 3.0),
        ("¹u x⁴ ⅓ ①", 1.0),
    ],
)
def test_odd_text_is_spoken(engine: Engine, text: str, least_seconds: float) -> None:
    events = drain(engine, [say(text, max_audio_seconds=31.0)])
    assert isinstance(events[-1], Done)
    audio = samples(events)
    assert audio.size >= least_seconds * 24_000
    assert np.abs(audio).max() > 0.05
    assert np.isfinite(audio).all()


@pytest.mark.parametrize(
    "link", ["[hello](/fˈO/)", "[[a](b)](/fˈO/)", "[a]\u200b(/fˈO/)", "[a]\x00(/fˈO/)", "[a]*(/fˈO/)"]
)
def test_text_cannot_dictate_phonemes(runner: LiteRunner, link: str) -> None:
    # hibari itself would say "fO" here and nothing of the label.
    assert "fˈO" not in "".join(runner._pieces(f"{link} there"))


def test_long_texts_alternate(engine: Engine) -> None:
    # No punctuation at all: the text has to be cut between words.
    long = "the quick brown fox jumps over the lazy dog and then " * 12
    events: list[Event] = engine.step([say(long, 1), say(long, 2), say("Hi.", 3)])
    while not engine.idle:
        events += engine.step([])
    order = [event.id for event in events if isinstance(event, Audio)]
    assert order[:5] == [1, 2, 3, 1, 2]
    assert order.count(1) == order.count(2) >= 3
    longest = max(len(event.pcm) for event in events if isinstance(event, Audio))
    assert longest / 4 / 24_000 < 20.0


def test_cancelled_request_stops(engine: Engine) -> None:
    engine.step([say(f"{PANGRAM} {PANGRAM}", 1), say("Hi.", 2)])
    events = drain(engine, [Cancel(id=1)])
    assert {event.id for event in events} == {2}


class Broken:
    """A voice that fails in the asked way."""

    def __init__(self, error: Exception | None, audio: np.ndarray | None = None) -> None:
        self.error = error
        self.audio = np.zeros(0, np.float32) if audio is None else audio

    def phonemize(self, text: str) -> list[str]:
        if text == "unreadable":
            raise IndexError("secret")
        return [] if text == "unknown" else ["həlˈO"]

    def ids(self, phonemes: str) -> list[int]:
        return [0, 1, 0]

    def from_ids(self, ids: list[int], speed: float, rng: np.random.Generator) -> np.ndarray:
        if self.error:
            raise self.error
        return self.audio


@pytest.mark.parametrize(
    ("voice", "code"),
    [
        (Broken(MemoryError()), "OUT_OF_MEMORY"),
        (Broken(ValueError("secret")), "GENERATION_ERROR"),
        (Broken(None), "GENERATION_ERROR"),
        (Broken(None, np.full(10, np.nan, np.float32)), "GENERATION_ERROR"),
    ],
)
def test_failing_model_fails_request_only(voice: Broken, code: str) -> None:
    engine = Engine([LiteRunner(voice)], device="cpu")
    events = drain(engine, [say("Hi.", 1), say("Hi.", 2)])
    assert [(event.id, event.code) for event in events if isinstance(event, Failed)] == [(1, code), (2, code)]
    assert not any("secret" in event.message for event in events if isinstance(event, Failed))


@pytest.mark.parametrize("text", ["unreadable", "unknown"])
def test_text_without_phonemes_fails_request(text: str) -> None:
    engine = Engine([LiteRunner(Broken(None, np.ones(10, np.float32)))], device="cpu")
    events = drain(engine, [say(text, 1), say("Hi.", 2)])
    (failed,) = (event for event in events if isinstance(event, Failed))
    assert (failed.id, failed.code, failed.field) == (1, "INVALID_PARAMETER", "text")
    assert "secret" not in failed.message
    assert samples(events, 2).size


def test_random_text_never_raises(runner: LiteRunner, engine: Engine) -> None:
    generator = random.Random(20)
    pools = [
        "abcdefgh ABCIVX.'-,!?;:()[]/0123456789$%&@#*+=<>~^|\\\"\n\t",
        "éüßñçøłřž’‘“”—–…½²³°§£€¥™",
        "[](/ˈəOfʃ/)",
        "".join(map(chr, range(0x20, 0x600))),
    ]
    for number in range(600):
        pool = generator.choice(pools) + generator.choice(pools)
        text = "".join(generator.choices(pool, k=generator.randrange(1, 60)))
        if number % 5 == 0:
            odd = "".join(chr(generator.randrange(sys.maxunicode)) for _ in range(8))
            # The host's texts are valid Unicode: halves of surrogate pairs do not reach an engine.
            text = odd.encode("utf-8", "replace").decode("utf-8") + text
        if number % 20 == 0:
            last = drain(engine, [say(text, max_audio_seconds=1.0)])[-1]
            assert isinstance(last, Done) or (isinstance(last, Failed) and last.code != "GENERATION_ERROR")
        with contextlib.suppress(RequestError):
            pieces = runner._pieces(text)
            assert pieces
            assert all(0 < len(piece) <= lite._MAX_PHONEMES for piece in pieces)
