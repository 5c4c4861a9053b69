"""What a RunPod job may ask for, and how long the audio of an answer is; nothing runs here."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest
from chatterbox_server.serverless.job import MAX_BASE64, SAMPLE_RATES, JobError, SpeechJob, read_job
from chatterbox_server.serverless.lengths import audio_seconds
from hypothesis import given, settings
from hypothesis import strategies as st

CLIP = base64.b64encode(b"RIFF a clip").decode()


def job(**parameters: Any) -> SpeechJob:
    return read_job({"operation": "tts", "text": "Hello.", **parameters})


def refused(**parameters: Any) -> str:
    with pytest.raises(JobError) as error:
        job(**parameters)
    return str(error.value)


def test_omitted_job_fields_stay_unset() -> None:
    read = job()
    assert read.fields == {"text": "Hello.", "format": "wav", "sample_rate": 24_000}
    assert (read.clip, read.format, read.sample_rate, read.print_metrics) == (None, "wav", 24_000, True)
    assert read_job({"text": "Hello."}) == read
    assert job(**dict.fromkeys(("exaggeration", "voice_id", "reference_audio", "print_metrics"))) == read


def test_every_parameter_arrives() -> None:
    read = job(
        exaggeration=0.7,
        cfg_weight=0.3,
        temperature=1,
        chunk_size=20,
        context_window=40.0,
        fade_duration=0.015,
        print_metrics=False,
        voice_mode="predefined",
        voice_id="anna.wav",
        output_format="opus",
        sample_rate=16_000,
        audio_normalization="rms",
        model="turbo",
        language_id="en",
        seed=7,
        something_else=[1],
    )
    assert read.fields == {
        "text": "Hello.",
        "exaggeration": 0.7,
        "cfg_weight": 0.3,
        "temperature": 1,
        "audio_tokens_per_slice": 20,
        "context_window": 40,
        "crossfade_duration_milliseconds": 15.0,
        "voice_id": "anna.wav",
        "format": "opus",
        "sample_rate": 16_000,
        "audio_normalization": "rms",
        "model": "turbo",
        "language_id": "en",
        "seed": 7,
    }
    assert (read.format, read.sample_rate, read.print_metrics) == ("opus", 16_000, False)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("exaggeration", (0, 0.5, 1.0)),
        ("cfg_weight", (0.0, 1)),
        ("temperature", (0.1, 2.0)),
        ("chunk_size", (1, 1000)),
        ("context_window", (0, 1000)),
        ("fade_duration", (0, 1.0)),
        ("max_reference_duration_sec", (1, 12.5, 60)),
        ("sample_rate", SAMPLE_RATES),
        ("output_format", ("wav", "opus", "mp3")),
        ("audio_normalization", ("peak", "rms")),
        ("seed", (0, 2**53 - 1)),
        ("print_metrics", (True, False)),
    ],
)
def test_range_limits_are_inclusive(name: str, allowed: tuple[object, ...]) -> None:
    for value in allowed:
        job(**{name: value})


NO_NUMBERS: tuple[object, ...] = ("1", True, [1], {}, math.nan, math.inf, -math.inf, 10**400, -1)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("operation", ("clone", 5, ["tts"])),
        ("text", ("", " \n", 5, ["Hello."], "half \ud800 a character")),
        ("exaggeration", (*NO_NUMBERS, 1.01)),
        ("cfg_weight", (*NO_NUMBERS, 1.01)),
        ("temperature", (*NO_NUMBERS, 0, 0.09, 2.01)),
        ("chunk_size", (*NO_NUMBERS, 0, 1001, 20.5)),
        ("context_window", (*NO_NUMBERS, 1001, 0.5)),
        ("fade_duration", (*NO_NUMBERS, 1.5)),
        ("print_metrics", ("true", 1, [])),
        ("voice_mode", ("other", "", 1, "Clone")),
        ("voice_id", (1, ["a"], "\udfff")),
        ("voice", (1, ["a"])),
        ("reference_audio", (1, [CLIP])),
        ("max_reference_duration_sec", (*NO_NUMBERS, 0, 0.9, 60.1)),
        ("output_format", ("flac", "", 1, "WAV")),
        ("sample_rate", (*NO_NUMBERS, 8000, 24_001, 24_000.5)),
        ("audio_normalization", ("none", "lufs", "", 1)),
        ("model", (1, [])),
        ("language_id", (1, {})),
        ("seed", (*NO_NUMBERS, 2**53, 0.5)),
    ],
)
def test_wrong_value_is_refused_by_name(name: str, wrong: tuple[object, ...]) -> None:
    for value in wrong:
        assert refused(**{name: value}).startswith(f"{name}: "), value


@pytest.mark.parametrize("given", [None, [], "tts", 5, True])
def test_input_is_object(given: object) -> None:
    with pytest.raises(JobError, match=r"^input: "):
        read_job(given)


def test_text_is_needed() -> None:
    with pytest.raises(JobError, match=r"^text: is missing"):
        read_job({"operation": "tts"})


@pytest.mark.parametrize(
    "sent",
    [
        CLIP,
        "\n".join([CLIP[:5], CLIP[5:]]) + "\r\n",
        f"data:audio/wav;base64,{CLIP}",
        f"DATA:audio/ogg;codecs=opus;BASE64,{CLIP}",
        f"data:;base64,{CLIP}",
    ],
)
def test_clip_is_read(sent: str) -> None:
    read = job(voice_mode="clone", reference_audio=sent, max_reference_duration_sec=12)
    assert read.clip == b"RIFF a clip"
    assert read.fields["max_reference_duration_sec"] == 12
    assert "voice_id" not in read.fields


@pytest.mark.parametrize(
    "sent",
    [
        "!" * 8,
        CLIP[:-1],
        "data:audio/wav,RIFF",
        "data:audio/wav;base64,",
        "data:",
        "   ",
        "http://example.com/clip.wav",
        "https://example.com/clip.wav",
        "file:///etc/passwd",
        "/etc/passwd.wav",
        "ä" * 8,
    ],
)
def test_invalid_clip_is_refused(sent: str) -> None:
    assert refused(voice_mode="clone", reference_audio=sent).startswith("reference_audio: ")


def test_oversized_clip_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object, **__: object) -> bytes:
        raise AssertionError("decoded")

    monkeypatch.setattr(base64, "b64decode", decode)
    assert refused(reference_audio="A" * (MAX_BASE64 + 1)).startswith("reference_audio: is longer")


def test_voice_mode_selects_voice() -> None:
    assert job(reference_audio=CLIP).clip == b"RIFF a clip"
    assert refused(voice_mode="clone").startswith("reference_audio: is missing")
    assert refused(voice_mode="clone", reference_audio="").startswith("reference_audio: is missing")
    cloned = job(voice_mode="clone", reference_audio=CLIP, voice="anna")
    assert (cloned.clip, cloned.fields.get("voice_id")) == (b"RIFF a clip", None)
    predefined = job(voice_mode="predefined", reference_audio=CLIP, max_reference_duration_sec=3, voice="anna")
    assert (predefined.clip, predefined.fields["voice_id"]) == (None, "anna")
    assert "max_reference_duration_sec" not in predefined.fields
    assert job(voice_id="anna", voice="anna").fields["voice_id"] == "anna"
    assert refused(voice_id="anna", voice="bert").startswith("voice: ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NAMES = [
    *("operation", "text", "exaggeration", "cfg_weight", "temperature", "chunk_size", "context_window"),
    *("fade_duration", "print_metrics", "voice_mode", "voice", "voice_id", "reference_audio"),
    *("max_reference_duration_sec", "output_format", "sample_rate", "audio_normalization"),
    *("model", "language_id", "seed"),
]


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.dictionaries(st.sampled_from(NAMES), JSON | st.sampled_from([CLIP, "clone", "wav", 24_000, 0.5])))
def test_any_job_is_read_or_refused_by_name(parameters: dict[str, Any]) -> None:
    try:
        read = job(**parameters)
    except JobError as error:
        named = str(error).partition(":")[0]
    else:
        # Whatever is sent on can be sent.
        json.dumps(read.fields, allow_nan=False).encode()
        return
    assert named in NAMES


def test_length_of_empty_audio_is_none() -> None:
    for output_format in ("wav", "opus", "mp3"):
        assert audio_seconds(output_format, 24_000, b"") == 0
        assert audio_seconds(output_format, 24_000, b"\xff\xfb\x00") == 0


def test_length_of_truncated_mp3_counts_whole_frames() -> None:
    frame = bytes([0xFF, 0xFB, 0x94, 0xC4]).ljust(384, b"\0")  # 128 kbit/s at 48 kHz
    assert audio_seconds("mp3", 48_000, frame * 11) == pytest.approx(10 * 1152 / 48_000)
    assert audio_seconds("mp3", 48_000, b"ID3\x04\0\0\0\0\x01\x00" + bytes(128) + frame * 3) == pytest.approx(0.048)
    assert audio_seconds("mp3", 48_000, frame * 3 + b"\xff\xfb\xf4\xc4" + bytes(380)) == pytest.approx(0.048)
