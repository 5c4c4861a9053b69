"""What ends an utterance when the model does not."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .speech_tokens import MAX_TOKENS, SILENCE, TOKENS_PER_SECOND

__all__ = ["loop_start", "token_limit"]

_LONGEST_PERIOD = TOKENS_PER_SECOND
_LOOP_TOKENS = 5 * TOKENS_PER_SECOND
"""Nobody holds a sound, or says the same syllable, for five seconds."""
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
