"""The live requests of a decoder: which rows are whose, and what sampling remembers of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .config import SPEECH_IDS, START_SPEECH, T3Config
from .model import Prompt
from .random import step_state
from .sampling import Draw, Sampler, Sampling

__all__ = ["Batch", "Live", "Pending"]


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


@dataclass(frozen=True, slots=True)
class Pending:
    """What the rows of a step are to be fed, one entry for each."""

    slots: list[int]
    """Whose latest token."""
    numbers: list[int]
    """That token's place in its utterance, from 1."""
    lengths: list[int]
    """Positions that the cache holds."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Indices on the device, good until a request joins or leaves."""

    slots: Tensor
    """Slot of each request, ``[requests]``."""
    rows: Tensor
    """Row with text of each request."""
    blind_rows: Tensor
    """Row without text; the one with text where there is none."""
    sampler: Sampler


class Batch:
    """Requests by number in the order in which they joined, each in one of a fixed number of slots."""

    def __init__(self, config: T3Config, slots: int, device: torch.device) -> None:
        self.live: dict[int, Live] = {}
        self._penalty_last = config.backbone == "gpt2"
        self._device = device
        self._free = list(reversed(range(slots)))
        self._owners: list[Live] = []
        self._layout: _Layout | None = None
        self.latest = torch.zeros(slots, dtype=torch.int64, device=device)
        """By slot, the token to feed next. Written in place."""
        # By slot: what the repetition penalty falls on.
        self._seen = torch.zeros(slots, SPEECH_IDS, dtype=torch.bool, device=device)

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def longest(self) -> int:
        """Positions of the longest row."""
        return max((live.length for live in self.live.values()), default=0)

    def join(self, live: Live) -> None:
        """Give ``live`` a slot. Its rows must follow those in use."""
        live.slot = self._free.pop()
        self.live[live.request_id] = live
        self._owners += [live] * len(live.rows)
        self._seen[live.slot] = False
        self._seen[live.slot, START_SPEECH] = True
        self._layout = None

    def leave(self, request_id: int) -> Live:
        """Free a request's slot; its rows stay until ``remove_row``."""
        live = self.live.pop(request_id)
        self._free.append(live.slot)
        self._layout = None
        return live

    def remove_row(self, row: int) -> int:
        """Give ``row`` to the owner of the last one; returns how many positions of that one count."""
        owner = self._owners.pop()
        last = len(self._owners)
        if row != last:
            self._owners[row] = owner
            owner.rows[owner.rows.index(last)] = row
        return owner.length

    def pending(self, rows: int) -> Pending:
        """What the first ``rows`` rows are to be fed."""
        owners = self._owners[:rows]
        return Pending(
            slots=[owner.slot for owner in owners],
            numbers=[owner.generated for owner in owners],
            lengths=[owner.length for owner in owners],
        )

    def fed(self, rows: int) -> None:
        """The cache holds one more position of the first ``rows`` rows."""
        for live in self.live.values():
            live.length += live.rows[0] < rows

    def choose(self, logits: Tensor, draw: Draw | None) -> Tensor:
        """The next token ids ``[requests]``, on the device, from the logits ``[rows or more, ids]``."""
        layout = self._laid_out()
        lives = list(self.live.values())
        states = self._index([step_state(live.stream, live.generated) for live in lives])
        guided = layout.sampler.guide(logits[layout.rows], logits[layout.blind_rows])
        ids = layout.sampler.choose(guided, self._seen[layout.slots], states, list(self.live), draw)
        if self._penalty_last:
            # Upstream's GPT-2 loop penalises the start token before the first token, and only then.
            begun = [live.slot for live in lives if not live.generated]
            if begun:
                self._seen[begun, START_SPEECH] = False
        self._seen[layout.slots, ids] = True
        self.latest[layout.slots] = ids
        return ids

    def _laid_out(self) -> _Layout:
        if self._layout is None:
            lives = list(self.live.values())
            self._layout = _Layout(
                slots=self._index([live.slot for live in lives]),
                rows=self._index([live.rows[0] for live in lives]),
                blind_rows=self._index([live.rows[-1] for live in lives]),
                sampler=Sampler(
                    [live.sampling for live in lives], penalty_last=self._penalty_last, device=self._device
                ),
            )
        return self._layout

    def _index(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64).to(self._device, non_blocking=True)
