"""Checks a job's input: after this, only the server itself looks at a parameter again."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["MAX_BASE64", "SAMPLE_RATES", "JobError", "SpeechJob", "read_job"]

FORMATS = ("wav", "opus", "mp3")
SAMPLE_RATES = (16_000, 22_050, 24_000, 44_100, 48_000)
NORMALIZATIONS = ("peak", "rms")
VOICE_MODES = ("predefined", "clone")
MAX_BASE64 = 28 * 1024 * 1024
"""Longest ``reference_audio`` in characters, checked before it is decoded. RunPod takes jobs of at most 20 MB."""
MAX_SEED = 2**53 - 1


class JobError(Exception):
    """A job that cannot be done; the text begins with the parameter's name and is meant for the client."""


@dataclass(frozen=True)
class SpeechJob:
    """A job that has been checked."""

    fields: Mapping[str, str | int | float]
    """The fields that are sent to the server, by the names of its form."""
    clip: bytes | None
    """The reference clip of a job that clones, an audio file."""
    format: str
    sample_rate: int
    """In Hz."""
    print_metrics: bool
    """Whether the result and the log have timings."""


def read_job(given: object) -> SpeechJob:
    """Checks the ``input`` of a job; raises ``JobError``. ``null`` counts as left out; what is unknown is ignored."""
    if not isinstance(given, Mapping):
        raise JobError("input: expected an object")
    parameters = _Parameters({name: value for name, value in given.items() if value is not None})
    operation = parameters.text("operation") or "tts"
    if operation != "tts":
        raise JobError("operation: there is none but tts")
    text = parameters.text("text")
    if text is None or not text.strip():
        raise JobError("text: is missing")
    voice, clip = _voice(parameters)
    output_format = parameters.one_of("output_format", FORMATS) or "wav"
    sample_rate = parameters.sample_rate("sample_rate") or 24_000
    print_metrics = parameters.flag("print_metrics")
    fade = parameters.number("fade_duration", 0, 1)
    fields = {
        "text": text,
        "model": parameters.text("model"),
        "language_id": parameters.text("language_id"),
        "seed": parameters.whole("seed", 0, MAX_SEED),
        "voice_id": voice,
        "exaggeration": parameters.number("exaggeration", 0, 1),
        "cfg_weight": parameters.number("cfg_weight", 0, 1),
        "temperature": parameters.number("temperature", 0.1, 2),
        "audio_tokens_per_slice": parameters.whole("chunk_size", 1, 1000),
        "context_window": parameters.whole("context_window", 0, 1000),
        "crossfade_duration_milliseconds": None if fade is None else fade * 1000,
        # Also for a clip that is not used: a wrong value is refused whatever else the job says.
        "max_reference_duration_sec": parameters.number("max_reference_duration_sec", 1, 60),
        "format": output_format,
        "sample_rate": sample_rate,
        "audio_normalization": parameters.one_of("audio_normalization", NORMALIZATIONS),
    }
    if clip is None:
        del fields["max_reference_duration_sec"]
    return SpeechJob(
        fields={name: value for name, value in fields.items() if value is not None},
        clip=clip,
        format=output_format,
        sample_rate=sample_rate,
        print_metrics=print_metrics is not False,
    )


def _voice(parameters: _Parameters) -> tuple[str | None, bytes | None]:
    """The voice's id or the clip; neither is the default voice. ``voice_mode`` decides where both are given."""
    mode = parameters.one_of("voice_mode", VOICE_MODES)
    reference = parameters.text("reference_audio")
    if mode is None:
        mode = "clone" if reference else "predefined"
    if mode == "clone":
        if not reference:
            raise JobError("reference_audio: is missing, and voice_mode clone needs it")
        return None, _decode(reference)
    voice, same = parameters.text("voice_id"), parameters.text("voice")
    if voice and same and voice != same:
        raise JobError("voice: is another name for voice_id, and the two differ")
    return voice or same or None, None


def _decode(reference: str) -> bytes:
    if len(reference) > MAX_BASE64:
        raise JobError(f"reference_audio: is longer than {MAX_BASE64} characters")
    if reference[:5].lower() == "data:":
        head, _, reference = reference.partition(",")
        if not head.lower().endswith(";base64"):
            raise JobError("reference_audio: expected a data URI in base64")
    elif "://" in reference[:16]:
        raise JobError("reference_audio: expected the clip itself in base64; URLs are never fetched")
    try:
        # Lines are what command-line tools make of it.
        clip = base64.b64decode("".join(reference.split()), validate=True)
    except (binascii.Error, ValueError):
        raise JobError("reference_audio: is not base64") from None
    if not clip:
        raise JobError("reference_audio: there is nothing in it")
    return clip


class _Parameters:
    """A job's parameters by name, each of the type and in the range that it has to have, or ``None``."""

    def __init__(self, given: Mapping[Any, object]) -> None:
        self._given = given

    def text(self, name: str) -> str | None:
        value = self._given.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise JobError(f"{name}: expected a text")
        try:
            value.encode()
        except UnicodeEncodeError:
            # JSON can spell halves of characters.
            raise JobError(f"{name}: holds what is no character") from None
        return value

    def one_of(self, name: str, allowed: tuple[str, ...]) -> str | None:
        value = self.text(name)
        if value is not None and value not in allowed:
            raise JobError(f"{name}: expected {' or '.join(allowed)}")
        return value

    def number(self, name: str, low: float, high: float) -> float | None:
        value = self._given.get(name)
        if value is None:
            return None
        # A bool is an int to Python. Not a number is in no range.
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise JobError(f"{name}: expected a number from {low} to {high}")
        return value

    def whole(self, name: str, low: int, high: int) -> int | None:
        value = self.number(name, low, high)
        if value is not None and value != int(value):
            raise JobError(f"{name}: expected a whole number")
        return None if value is None else int(value)

    def sample_rate(self, name: str) -> int | None:
        value = self._given.get(name)
        for rate in SAMPLE_RATES:
            if value == rate:
                return rate
        if value is not None:
            raise JobError(f"{name}: expected one of {', '.join(map(str, SAMPLE_RATES))}")
        return None

    def flag(self, name: str) -> bool | None:
        value = self._given.get(name)
        if value is not None and not isinstance(value, bool):
            raise JobError(f"{name}: expected true or false")
        return value
