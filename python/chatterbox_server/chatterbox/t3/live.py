"""A request that is being decoded."""

from __future__ import annotations

from dataclasses import dataclass

from .model import Prompt
from .sampling import Sampling

__all__ = ["Live"]


@dataclass(slots=True, kw_only=True, eq=False)
class Live:
    """A request that is being decoded."""

    request_id: int
    prompt: Prompt
    sampling: Sampling
    max_tokens: int
    rows: list[int]
    """In the cache: with text and, for guidance, without."""
    stream: int
    """Start of its random numbers."""
    length: int = 0
    """Positions that the cache holds in each row."""
    generated: int = 0
    """Tokens chosen so far; the last one is not in the cache."""
    slot: int = -1
