"""The two files of messages, Python's and Rust's, hold together: every field crosses in both directions."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from chatterbox_server import _core
from chatterbox_server.lane import Model
from chatterbox_server.messages import (
    Audio,
    Cancel,
    Convert,
    Done,
    Enroll,
    Enrolled,
    Event,
    Failed,
    Forget,
    Params,
    Slicing,
    Speak,
    Stats,
)

FULL_PARAMS = Params(
    temperature=0.5,
    top_p=0.9,
    min_p=0.05,
    top_k=40,
    repetition_penalty=1.2,
    exaggeration=0.7,
    cfg_weight=0.3,
    speed=1.5,
)
FULL_SLICING = Slicing(
    tokens_per_slice=35,
    context_window=50,
    overlap="full",
    crossfade_ms=30.0,
)
FULL_SPEAK = Speak(
    id=1,
    model="fake",
    text="Grüße 👋",
    language="de",
    voice="tone",
    seed=2**53 - 1,
    params=FULL_PARAMS,
    slicing=FULL_SLICING,
    max_audio_seconds=12.5,
    stream=True,
    return_tokens=True,
    in_hand_seconds=2.5,
)
BARE_SPEAK = dataclasses.replace(
    FULL_SPEAK,
    id=2,
    language=None,
    voice=None,
    params=Params(
        temperature=None,
        top_p=None,
        min_p=None,
        top_k=None,
        repetition_penalty=None,
        exaggeration=None,
        cfg_weight=None,
    ),
    slicing=Slicing(
        tokens_per_slice=None,
        context_window=None,
        overlap=None,
        crossfade_ms=None,
    ),
    stream=False,
    return_tokens=False,
    in_hand_seconds=0.0,
)
HASH = "ab" * 32
PCM = np.array([0.0, 0.5, -1.0], "<f4").tobytes()
CODES = (
    "INVALID_PARAMETER",
    "NOTHING_TO_SAY",
    "CANNOT_CLONE",
    "VOICE_NOT_ENROLLED",
    "UNSUPPORTED_AUDIO",
    "OUT_OF_MEMORY",
    "GENERATION_ERROR",
)


def test_commands_arrive_with_every_field() -> None:
    enroll = Enroll(id=3, voice=HASH, model="fake", pcm=PCM, sample_rate=16_000, portable=b"\x01\x02\xff")
    convert = Convert(
        id=4,
        model="fake",
        voice=HASH,
        pcm=PCM,
        sample_rate=44_100,
        seed=2**53 - 1,
        stream=True,
        max_audio_seconds=300.5,
    )
    bare_convert = dataclasses.replace(convert, id=5, voice=None, stream=False)
    commands = _core.sample_commands()
    expected = [FULL_SPEAK, BARE_SPEAK, Cancel(id=1), enroll, convert, bare_convert, Forget(voice=HASH)]
    assert commands == expected
    # Equality would let 1 pass for 1.0 or for True.
    for command, wanted in zip(commands, expected, strict=True):
        assert kinds(command) == kinds(wanted)


def kinds(message: Any) -> dict[str, object]:
    found = {field.name: getattr(message, field.name) for field in dataclasses.fields(message)}
    return {name: kinds(value) if dataclasses.is_dataclass(value) else type(value) for name, value in found.items()}


def test_models_are_read_with_every_field() -> None:
    model = Model(
        name="fake",
        sample_rate=24_000,
        can_clone=True,
        can_convert=False,
        languages=("en", "fr"),
        voices=("tone",),
        tags=("[laugh]",),
        watermark=True,
    )
    assert _core.read_model(model) == ("fake", 24_000, True, False, ["en", "fr"], ["tone"], ["[laugh]"], True)
    assert len(_core.read_model(model)) == len(dataclasses.fields(model))


@pytest.mark.parametrize(
    ("event", "parts"),
    [
        (Audio(id=7, pcm=PCM), ("Audio", 7, PCM)),
        (
            Done(id=2**63, stats=Stats(audio_seconds=1.25, compute_seconds=0.5, tokens=(0, 6561, 3))),
            ("Done", 2**63, 1.25, 0.5, [0, 6561, 3]),
        ),
        (
            Done(id=0, stats=Stats(audio_seconds=0.0, compute_seconds=0.0, tokens=None)),
            ("Done", 0, 0.0, 0.0, None),
        ),
        (
            Enrolled(id=9, voice=HASH, model="fake", cache_bytes=2**40),
            ("Enrolled", 9, HASH, "fake", 2**40),
        ),
        *((Failed(id=1, code=code, message="ü"), ("Failed", 1, code, "ü")) for code in CODES),
        (Failed(id=1, code="SOMETHING_ELSE", message="x"), ("Failed", 1, "GENERATION_ERROR", "x")),
    ],
)
def test_events_are_read_with_every_field(event: Event, parts: tuple[object, ...]) -> None:
    assert _core.read_event(event) == parts
    fields = [field for field in dataclasses.fields(event) if field.name != "stats"]
    stats = dataclasses.fields(Stats) if isinstance(event, Done) else ()
    assert len(parts) == 1 + len(fields) + len(stats)


def test_a_class_that_is_no_event_is_refused() -> None:
    @dataclasses.dataclass
    class Unknown:
        id: int

    with pytest.raises(TypeError, match="Unknown is not an event"):
        _core.read_event(Unknown(id=1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Cancel is not an event"):
        _core.read_event(Cancel(id=1))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "event",
    [
        Audio(id=-1, pcm=b""),
        Audio(id=1, pcm="text"),  # type: ignore[arg-type]
        Failed(id=1, code=5, message="x"),  # type: ignore[arg-type]
        Done(id=1, stats=None),  # type: ignore[arg-type]
        Enrolled(id=1, voice="", model="", cache_bytes=-1),
    ],
)
def test_a_field_of_a_wrong_kind_is_an_exception(event: Event) -> None:
    with pytest.raises((TypeError, AttributeError, OverflowError)):
        _core.read_event(event)
