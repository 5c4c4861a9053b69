"""What is read out of a request before anything is done for it."""

from __future__ import annotations

import re

import numpy as np

from .._core import Convert, Enroll, Model
from ..model_runner import RequestError
from .rendering import Samples
from .speech_tokens import SAMPLE_RATE

__all__ = ["SPEED_MAX", "SPEED_MIN", "check_speed", "clip_of", "language_of", "samples_in"]

SPEED_MIN, SPEED_MAX = 0.5, 2.0
"""Beyond this, stretched frames no longer sound like speech."""
_LONGEST_SECONDS = 86_400.0
"""So that no number of samples is beyond all bounds."""


def check_speed(speed: float) -> None:
    """Raises ``RequestError`` for a rate that Chatterbox does not speak at."""
    if not SPEED_MIN <= speed <= SPEED_MAX:
        message = f"Chatterbox speaks between {SPEED_MIN} and {SPEED_MAX}."
        raise RequestError("INVALID_PARAMETER", message, field="speed")


def language_of(model: Model, tag: str | None) -> str | None:
    """The language of a BCP 47 tag, without its region. Raises ``RequestError`` if ``model`` does not speak it."""
    languages = model.languages
    language = languages[0] if tag is None else re.split("[-_]", tag.lower())[0]
    if language not in languages:
        known = ", ".join(languages)
        message = f"{model.name} speaks {known}, not {tag!r}."
        raise RequestError("INVALID_PARAMETER", message, field="language_id")
    return language


def samples_in(seconds: float) -> int:
    """Samples of so much audio, at least one."""
    return max(1, int(min(seconds, _LONGEST_SECONDS) * SAMPLE_RATE))


def clip_of(command: Enroll | Convert) -> Samples:
    """The clip's samples, at its own rate."""
    return np.frombuffer(command.pcm, "<f4")
