"""The live requests of a decoder: which rows are whose, what each gets next, tokens on their way to the host, and the
prefixes of voices, computed once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..interfaces import Cache
from .config import T3Config
from .sampling import DecodingRequest, Draw, make_sampler

__all__ = ["Batch", "Pending", "Prefixes", "SampledTokens"]


@dataclass(frozen=True, slots=True)
class Pending:
    """Inputs of a step's rows, one entry for each."""

    slots: list[int]
    """Whose latest token."""
    numbers: list[int]
    """That token's place in its utterance, from 1."""
    lengths: list[int]
    """Positions that the cache holds."""


class Batch:
    """Requests by number in the order in which they joined, each in one of a fixed number of slots."""

    def __init__(self, config: T3Config, slots: int, device: torch.device, draw: Draw | None) -> None:
        self.live: dict[int, DecodingRequest] = {}
        self._free = list(reversed(range(slots)))
        self._owners: list[DecodingRequest] = []
        self.latest = torch.zeros(slots, dtype=torch.int64, device=device)
        """By slot, the token to feed next. Written in place."""
        self._sampler = make_sampler(self.latest, penalty_last=config.backbone == "gpt2", draw=draw)
        # Whether the sampler has the requests as they are now.
        self._sampler_current = False

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def longest(self) -> int:
        """Positions of the longest row."""
        return max((live.length for live in self.live.values()), default=0)

    def join(self, live: DecodingRequest) -> None:
        """Give ``live`` a slot. Its rows must follow those in use."""
        live.slot = self._free.pop()
        self.live[live.request_id] = live
        self._owners += [live] * len(live.rows)
        self._sampler.join(live)
        self._sampler_current = False

    def leave(self, request_id: int) -> DecodingRequest:
        """Free a request's slot; its rows stay until ``remove_row``."""
        live = self.live.pop(request_id)
        self._free.append(live.slot)
        self._sampler_current = False
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
        """Inputs of the first ``rows`` rows."""
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

    def sample(self, logits: Tensor) -> Tensor:
        """The next token ids ``[requests]``, on the device, from the logits ``[rows or more, ids]``."""
        if not self._sampler_current:
            self._sampler.set_requests(list(self.live.values()))
            self._sampler_current = True
        return self._sampler.sample(logits)


class SampledTokens:
    """Copies ``ids`` ``[requests]`` to the host while the device goes on with what it is given next."""

    def __init__(self, lives: Sequence[DecodingRequest], ids: Tensor) -> None:
        self._lives = [(live, live.generated == live.max_tokens) for live in lives]
        self._ids = ids
        self._copied: torch.cuda.Event | None = None
        if ids.device.type == "cuda":
            self._ids = torch.empty(ids.shape, dtype=ids.dtype, pin_memory=True)
            self._ids.copy_(ids, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()

    @property
    def ends_one(self) -> bool:
        """Whether a request has all of its tokens with these, so that no step may feed it one more."""
        return any(last for _, last in self._lives)

    def read(self) -> list[tuple[DecodingRequest, int, bool]]:
        """Each request, its token, and whether it may have no more. Here alone the host waits for the device."""
        if self._copied is not None:
            self._copied.synchronize()
        return [(live, token, last) for (live, last), token in zip(self._lives, self._ids.tolist(), strict=True)]


class Prefixes:
    """Keys and values of voices' prefixes, one row each, up to ``limit`` bytes.

    The one least recently used goes first; the one put in last always stays, however large it is.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[str, Cache] = OrderedDict()

    @property
    def nbytes(self) -> int:
        return sum(entry.nbytes for entry in self._entries.values())

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def get(self, key: str) -> Cache | None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: str, entry: Cache) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        while len(self._entries) > 1 and self.nbytes > self._limit:
            self._entries.popitem(last=False)

    def forget(self, key: str) -> None:
        self._entries.pop(key, None)

    def clear(self) -> None:
        self._entries.clear()
