"""Which tokens are rendered when, for an utterance that is heard while it is made."""

from __future__ import annotations

from dataclasses import dataclass

from .._core import Slicing
from .speech_tokens import FRAME_MS, FRAMES_PER_TOKEN, LOOKAHEAD, MAX_TOKENS

__all__ = ["Slice", "Slicer"]

CONTEXT_TOKENS = 25
CROSSFADE_MS = 30.0


@dataclass(frozen=True, slots=True)
class Slice:
    """A run of an utterance's tokens, by position: rendered from ``context`` on, heard from ``start`` on to ``end``."""

    context: int
    start: int
    end: int
    final: bool


class Slicer:
    """Cuts an utterance by its own length alone: the same tokens give the same slices, however fast they come.

    ``schedule`` has the tokens of the first slices, of which the last one repeats, unless ``slicing`` says how many.
    """

    def __init__(self, slicing: Slicing, schedule: tuple[int, ...], *, stream: bool) -> None:
        self._stream = stream
        fixed = slicing.tokens_per_slice
        self._schedule = (fixed,) if fixed else schedule
        joined = slicing.overlap != "zero"
        context = CONTEXT_TOKENS if slicing.context_window is None else slicing.context_window
        self._context = context if joined else 0
        crossfade = CROSSFADE_MS if slicing.crossfade_ms is None else slicing.crossfade_ms
        self.crossfade_frames = min(round(crossfade / FRAME_MS), FRAMES_PER_TOKEN * self._context)
        self._index = 0
        self.taken = 0
        """Tokens given out so far."""

    def next(self, tokens: int, *, ended: bool) -> Slice | None:
        """The slice to render next, if the utterance's ``tokens`` so far allow it."""
        cut = self._cut(self._index, self.taken, tokens, ended=ended)
        if cut is None:
            return None
        end, final = cut
        part = Slice(context=max(0, self.taken - self._context), start=self.taken, end=end, final=final)
        self._index += 1
        self.taken = end
        return part

    def ready(self, tokens: int, *, ended: bool) -> int:
        """How many slices ``next`` would give one after the other."""
        count, taken = 0, self.taken
        while taken < tokens and (cut := self._cut(self._index + count, taken, tokens, ended=ended)):
            taken = cut[0]
            count += 1
        return count

    def _cut(self, index: int, taken: int, tokens: int, *, ended: bool) -> tuple[int, bool] | None:
        """Where the slice after ``taken`` tokens ends, and whether it is the last."""
        size = self._schedule[min(index, len(self._schedule) - 1)]
        left = tokens - taken
        if self._stream:
            # Whether the end is known yet must not move a cut, or the samples would depend on the machine's speed.
            whole = left >= size + LOOKAHEAD
        else:
            # What is longer than T3's longest, a converted clip, is cut too: memory grows with the square of a slice.
            size, whole = MAX_TOKENS, ended and left > MAX_TOKENS + LOOKAHEAD
        final = ended and not whole
        if not final and not whole:
            return None
        return (tokens if final else taken + size), final
