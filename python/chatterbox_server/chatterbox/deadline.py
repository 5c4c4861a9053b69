"""By when a request must be worked on."""

from __future__ import annotations

__all__ = ["WHOLE_SECONDS", "Deadline"]

WHOLE_SECONDS = 10.0
"""Whoever wants an utterance as a whole waits this long behind all who listen already, and then no longer."""


class Deadline:
    """The time, in seconds of some clock, at which a request is late; work on the earliest goes first.

    A listener who has heard nothing is late some time after asking, and one who has heard something when that is played
    out. Each piece of audio moves a deadline beyond the present, so that every other one is the earliest sooner or
    later: nobody waits for ever.
    """

    def __init__(self, first: float, *, hears: bool = False) -> None:
        """``hears`` tells that the listener is hearing something already, until ``first``."""
        self.at = first
        self._hears = hears

    def hear(self, seconds: float, now: float) -> None:
        """The listener gets ``seconds`` of audio ``now``, and plays them after those there were."""
        # Audio that comes too late is played when it comes, and what comes first is not kept until it was due.
        self.at = (max(self.at, now) if self._hears else now) + seconds
        self._hears = True
