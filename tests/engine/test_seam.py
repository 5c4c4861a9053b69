"""The messages between host and engine, as Python sees them, and ``_core.pyi``, which types them."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from chatterbox_server import _core
from chatterbox_server._core import (
    Audio,
    Cancel,
    Convert,
    Done,
    Enroll,
    Enrolled,
    Failed,
    Forget,
    LoadSettings,
    Model,
    Params,
    S3GenSettings,
    Slicing,
    Speak,
    Stats,
)
from chatterbox_server.engine import Command
from chatterbox_server.model_runner import Event
from engine_helpers import SPEAK, fields, replace, speak

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
PARAMS: dict[str, object] = {
    "temperature": 0.5,
    "top_p": 0.9,
    "min_p": 0.05,
    "top_k": 40,
    "repetition_penalty": 1.2,
    "exaggeration": 0.7,
    "cfg_weight": 0.3,
    "speed": 1.5,
}
SLICING: dict[str, object] = {"tokens_per_slice": 35, "context_window": 50, "overlap": "full", "crossfade_ms": 30.0}
UTTERANCE: dict[str, object] = {
    "id": 1,
    "model": "fake",
    "text": "Grüße 👋",
    "language": "de",
    "voice": "tone",
    "seed": 2**64 - 1,
    "params": Params(**PARAMS),  # type: ignore[arg-type]
    "slicing": Slicing(**SLICING),  # type: ignore[arg-type]
    "max_audio_seconds": 12.5,
    "stream": False,
    "return_tokens": True,
    "in_hand_seconds": 2.5,
}
CLIP: dict[str, object] = {"id": 3, "voice": HASH, "model": "fake", "pcm": PCM, "sample_rate": 44_100}
STATS: dict[str, object] = {"audio_seconds": 1.25, "compute_seconds": 0.5, "tokens": [0, 6561, 3]}
MODEL: dict[str, object] = {
    "name": "fake",
    "sample_rate": 24_000,
    "can_clone": True,
    "can_convert": False,
    "languages": ["en", "fr"],
    "voices": ["tone"],
    "tags": ["[laugh]"],
    "watermark": True,
}
S3GEN: dict[str, object] = {"dtype": "int8", "decoder": "meanflow", "steps": 3, "prompt_seconds": 2.5}
SETTINGS: dict[str, object] = {
    "engine": "fake",
    "models": ["turbo", "lite"],
    "device": "mps",
    "multilingual_version": "v3",
    "model_path": Path("/weights"),
    "backend": "onnx",
    "model_dtype": "q4f16",
    "s3gen": S3GenSettings(**S3GEN),  # type: ignore[arg-type]
    "profile": "throughput",
    "watermark": False,
    "slots": 3,
    "voice_cache_bytes": 2**40,
    "voices_dir": Path("/voices"),
    "hf_home": "/hub",
    "threads": 2,
    "waiting_slices": 1,
    "fake_rtf": 0.5,
    "fake_chunk_ms": 10,
    "fake_load_seconds": 1.5,
}
FULL: list[tuple[type, dict[str, object]]] = [
    (Params, PARAMS),
    (Slicing, SLICING),
    (Speak, UTTERANCE),
    (Convert, {**CLIP, "seed": 2**53 - 1, "stream": False, "max_audio_seconds": 300.5}),
    (Cancel, {"id": 1}),
    (Enroll, {**CLIP, "portable": b"\x01\x02\xff"}),
    (Forget, {"voice": HASH}),
    (Stats, STATS),
    (Audio, {"id": 7, "pcm": PCM}),
    (Done, {"id": 2**63, "stats": Stats(**STATS)}),  # type: ignore[arg-type]
    *((Failed, {"id": 1, "code": code, "field": "text", "message": "ü"}) for code in CODES),
    (Enrolled, {"id": 9, "voice": HASH, "model": "fake", "cache_bytes": 2**40}),
    (Model, MODEL),
    (S3GenSettings, S3GEN),
    (LoadSettings, SETTINGS),
]
NAMED: list[tuple[str, object, str]] = [
    ("FailureCode", Failed(id=1, code="OUT_OF_MEMORY", message=""), "code"),
    ("EngineKind", LoadSettings(), "engine"),
    ("Device", LoadSettings(), "device"),
    ("Backend", LoadSettings(), "backend"),
    ("Dtype", LoadSettings(), "model_dtype"),
    ("Profile", LoadSettings(), "profile"),
    ("MultilingualVersion", LoadSettings(), "multilingual_version"),
    ("S3GenDtype", S3GenSettings(), "dtype"),
    ("S3GenDecoder", S3GenSettings(), "decoder"),
]
STUB = ast.parse((Path(str(_core.__file__)).parent / "_core.pyi").read_text("utf-8"))
TYPED = {
    node.name: [field for field in node.body if isinstance(field, ast.AnnAssign)]
    for node in STUB.body
    if isinstance(node, ast.ClassDef) and any(ast.unparse(mark) == "_message" for mark in node.decorator_list)
}


@pytest.mark.parametrize(("message", "values"), FULL)
def test_message_fields_keep_value_and_type(message: type, values: dict[str, object]) -> None:
    made = message(**values)
    assert fields(message) == fields(made.__class__)
    assert set(fields(message)) == set(values)
    for name, value in values.items():
        found = getattr(made, name)
        # Equality would let 1 pass for 1.0 or for True.
        assert (type(found), found) == (type(value), value)
    assert made == message(**values)
    assert message.__name__ in repr(made)


@pytest.mark.parametrize("name", TYPED)
def test_stub_has_fields_of_class(name: str) -> None:
    signature = inspect.signature(getattr(_core, name))
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in signature.parameters.values())
    found = {name: given.default is not given.empty for name, given in signature.parameters.items()}
    assert {ast.unparse(field.target): field.value is not None for field in TYPED[name]} == found


def test_stub_types_every_message() -> None:
    assert set(TYPED) == {message.__name__ for message, _ in FULL}
    assert set(TYPED) > {message.__name__ for message in (*get_args(Command), *get_args(Event))}


@pytest.mark.parametrize(("kind", "message", "field"), NAMED)
def test_stub_has_names_of_enum(kind: str, message: object, field: str) -> None:
    with pytest.raises(ValueError, match='"" is unknown; use ') as error:
        replace(message, **{field: ""})
    names = str(error.value).removeprefix('"" is unknown; use ').split(", ")
    assert f"{kind} = Literal[{', '.join(map(repr, names))}]" in map(ast.unparse, STUB.body)
    assert [getattr(replace(message, **{field: name}), field) for name in names] == names


def test_omitted_parameters_are_none() -> None:
    params = Params()
    assert {getattr(params, name) for name in fields(Params) if name != "speed"} == {None}
    assert params.speed == 1.0
    assert {getattr(Slicing(), name) for name in fields(Slicing)} == {None}
    assert (SPEAK.params, SPEAK.slicing, SPEAK.language, SPEAK.voice) == (params, Slicing(), None, None)


def test_messages_are_frozen() -> None:
    with pytest.raises(AttributeError):
        SPEAK.text = "other"  # type: ignore[misc]
    assert speak() == speak()
    assert speak() != speak(seed=8)


def test_missing_field_is_refused() -> None:
    with pytest.raises(TypeError, match="text"):
        Speak(id=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Params(1.0)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        (Audio(id=1, pcm=b""), {"id": -1}),
        (Audio(id=1, pcm=b""), {"pcm": "text"}),
        (Audio(id=1, pcm=b""), {"pcm": b"123"}),
        (Failed(id=1, code="OUT_OF_MEMORY", message="x"), {"code": 5}),
        (Failed(id=1, code="OUT_OF_MEMORY", message="x"), {"code": "SOMETHING_ELSE"}),
        (Done(id=1, stats=Stats(audio_seconds=0, compute_seconds=0)), {"stats": None}),
        (Enrolled(id=1, voice="", model="", cache_bytes=0), {"cache_bytes": -1}),
        (SPEAK, {"seed": -1}),
        (SPEAK, {"params": None}),
    ],
)
def test_field_of_wrong_kind_is_exception(message: object, changes: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        replace(message, **changes)
