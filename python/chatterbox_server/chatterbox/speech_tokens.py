"""Constants of the speech tokens that T3 makes and S3Gen renders, and when an utterance of them ends without the model.

Figures are upstream's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = [
    "FRAMES_PER_TOKEN",
    "FRAME_MS",
    "LOOKAHEAD",
    "MAX_TOKENS",
    "SAMPLE_RATE",
    "SILENCE",
    "TOKENS_PER_SECOND",
    "VALID",
    "loop_start",
    "token_limit",
]


SAMPLE_RATE = 24_000
TOKENS_PER_SECOND = 25
FRAMES_PER_TOKEN = 2
"""Of mel, each 480 samples."""
FRAME_MS = 20
MAX_TOKENS = 1000
"""Tokens that T3 makes at most, 40 s (``tts.py``)."""
VALID = 6561
"""Ids below this are sound; the rest are marks and never reach S3Gen."""
SILENCE = 4299
"""A token that sounds like silence (``S3GEN_SIL`` of ``s3gen/const.py``)."""
LOOKAHEAD = 3
"""Tokens after a slice that S3Gen's encoder wants to see (``pre_lookahead_len``)."""


_LONGEST_PERIOD = TOKENS_PER_SECOND
_LOOP_TOKENS = 5 * TOKENS_PER_SECOND
"""Five seconds: speech does not hold a sound, or repeat a syllable, for so long."""
_TAIL_TOKENS = 2 * TOKENS_PER_SECOND
"""No reader pauses for longer within an utterance; a model that does has lost its place."""
_BASE_TOKENS, _TOKENS_PER_CHARACTER = 10 * TOKENS_PER_SECOND, 8
"""A character takes 2 tokens in fluent speech; a digit, a letter spelled out or a slow speaker takes up to 8."""


def token_limit(text: str, max_audio_seconds: float) -> int:
    """Most speech tokens that ``text`` may take: the request's cap, upstream's, and what no reader of it needs."""
    asked = math.ceil(min(max_audio_seconds, MAX_TOKENS) * TOKENS_PER_SECOND - 1e-6)
    return max(1, min(asked, MAX_TOKENS, _BASE_TOKENS + _TOKENS_PER_CHARACTER * len(text)))


def loop_start(tokens: Sequence[int]) -> int | None:
    """Where the loop begins that ``tokens`` have ended in for five seconds, or two of silence; else ``None``.

    A loop is a pattern of at most a second over and over; its first round counts as speech.
    """
    if len(tokens) >= _TAIL_TOKENS and all(token == SILENCE for token in tokens[-_TAIL_TOKENS:]):
        return len(tokens) - _TAIL_TOKENS + 1
    tail = tokens[-_LOOP_TOKENS:]
    if len(tail) < _LOOP_TOKENS:
        return None
    for period in range(1, _LONGEST_PERIOD + 1):
        if tail[period:] == tail[:-period]:
            return len(tokens) - _LOOP_TOKENS + period
    return None
