"""A request that is being spoken."""

from __future__ import annotations

from dataclasses import dataclass, field

from .deadline import Deadline
from .rendering import SliceRendering

__all__ = ["Live"]


@dataclass(slots=True, kw_only=True, eq=False)
class Live:
    """What a lane keeps of a request."""

    id: int
    rendering: SliceRendering
    deadline: Deadline
    returns_tokens: bool = False
    tokens: list[int] = field(default_factory=list)
    """What T3 has made, marks included, as upstream's returns it."""
    decoding: bool = True
    compute_seconds: float = 0.0
