"""The live requests of a decoder: which rows are whose, and what each gets next."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .choosing import chooser
from .config import T3Config
from .live import Live
from .sampling import Draw

__all__ = ["Batch", "Pending"]


@dataclass(frozen=True, slots=True)
class Pending:
    """What the rows of a step are to be fed, one entry for each."""

    slots: list[int]
    """Whose latest token."""
    numbers: list[int]
    """That token's place in its utterance, from 1."""
    lengths: list[int]
    """Positions that the cache holds."""


class Batch:
    """Requests by number in the order in which they joined, each in one of a fixed number of slots."""

    def __init__(self, config: T3Config, slots: int, device: torch.device, draw: Draw | None) -> None:
        self.live: dict[int, Live] = {}
        self._free = list(reversed(range(slots)))
        self._owners: list[Live] = []
        self.latest = torch.zeros(slots, dtype=torch.int64, device=device)
        """By slot, the token to feed next. Written in place."""
        self._chooser = chooser(self.latest, penalty_last=config.backbone == "gpt2", draw=draw)
        # Whether the chooser knows who is there.
        self._arranged = False

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
        self._chooser.join(live)
        self._arranged = False

    def leave(self, request_id: int) -> Live:
        """Free a request's slot; its rows stay until ``remove_row``."""
        live = self.live.pop(request_id)
        self._free.append(live.slot)
        self._arranged = False
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

    def choose(self, logits: Tensor) -> Tensor:
        """The next token ids ``[requests]``, on the device, from the logits ``[rows or more, ids]``."""
        if not self._arranged:
            self._chooser.arrange(list(self.live.values()))
            self._arranged = True
        return self._chooser.choose(logits)
