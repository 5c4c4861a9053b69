"""Constants of the speech tokens that T3 makes and S3Gen renders. Figures are upstream's."""

from __future__ import annotations

__all__ = [
    "FRAMES_PER_TOKEN",
    "FRAME_MS",
    "LOOKAHEAD",
    "MAX_TOKENS",
    "SAMPLE_RATE",
    "SILENCE",
    "TOKENS_PER_SECOND",
    "VALID",
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
