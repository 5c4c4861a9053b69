"""Who chooses the next tokens of the live requests: torch on any device, the compiled module in one call on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .config import SPEECH_IDS, START_SPEECH
from .live import Live
from .random import step_state
from .sampling import LEAST_TEMPERATURE, Draw, Sampler

__all__ = ["Chooser", "NativeChooser", "TorchChooser", "chooser"]


class Chooser(Protocol):
    """Remembers which tokens the request in each slot has had."""

    def join(self, live: Live) -> None:
        """Begin with ``live``, which has a slot and no tokens."""

    def arrange(self, lives: Sequence[Live]) -> None:
        """Choose for ``lives`` from now on, with the rows that they have now."""

    def choose(self, logits: Tensor) -> Tensor:
        """The next token ids ``[requests]``, on the device, from the logits ``[rows or more, ids]``."""


def chooser(latest: Tensor, *, penalty_last: bool, draw: Draw | None) -> Chooser:
    """One that writes each choice to ``latest`` ``[slots]`` too. ``draw`` replaces the seeded draw."""
    if latest.device.type == "cpu" and draw is None:
        return NativeChooser(latest, penalty_last=penalty_last)
    return TorchChooser(latest, penalty_last=penalty_last, draw=draw)


class NativeChooser:
    """On a CPU, where most of a choice by torch would be calls. The same tokens."""

    def __init__(self, latest: Tensor, *, penalty_last: bool) -> None:
        from ..._core import T3Sampler  # not at the top: what is on a GPU is there without it

        self._latest = latest.numpy()
        self._sampler = T3Sampler(len(latest), SPEECH_IDS, START_SPEECH, penalty_last, LEAST_TEMPERATURE)
        self._lives: Sequence[Live] = ()

    def join(self, live: Live) -> None:
        self._sampler.join(live.slot, live.sampling, live.stream)

    def arrange(self, lives: Sequence[Live]) -> None:
        self._lives = lives

    def choose(self, logits: Tensor) -> Tensor:
        batch = [(live.slot, live.rows[0], live.rows[-1], live.generated) for live in self._lives]
        ids = self._sampler.sample(logits.contiguous().numpy(), batch)
        for live, chosen in zip(self._lives, ids, strict=True):
            self._latest[live.slot] = chosen
        return torch.tensor(ids)


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


class TorchChooser:
    """On any device, all requests at once."""

    def __init__(self, latest: Tensor, *, penalty_last: bool, draw: Draw | None) -> None:
        self._latest = latest
        self._penalty_last = penalty_last
        self._draw = draw
        self._device = latest.device
        # By slot: what the repetition penalty falls on.
        self._seen = torch.zeros(len(latest), SPEECH_IDS, dtype=torch.bool, device=latest.device)
        self._lives: Sequence[Live] = ()
        self._layout: _Layout | None = None

    def join(self, live: Live) -> None:
        self._seen[live.slot] = False
        self._seen[live.slot, START_SPEECH] = True

    def arrange(self, lives: Sequence[Live]) -> None:
        self._lives, self._layout = lives, None

    def choose(self, logits: Tensor) -> Tensor:
        layout, lives = self._laid_out(), self._lives
        states = self._index([step_state(live.stream, live.generated) for live in lives])
        guided = layout.sampler.guide(logits[layout.rows], logits[layout.blind_rows])
        requests = [live.request_id for live in lives]
        ids = layout.sampler.choose(guided, self._seen[layout.slots], states, requests, self._draw)
        if self._penalty_last:
            # Upstream's GPT-2 loop penalises the start token before the first token, and only then.
            begun = [live.slot for live in lives if not live.generated]
            if begun:
                self._seen[begun, START_SPEECH] = False
        self._seen[layout.slots, ids] = True
        self._latest[layout.slots] = ids
        return ids

    def _laid_out(self) -> _Layout:
        if self._layout is None:
            lives = self._lives
            settings = [live.sampling for live in lives]
            self._layout = _Layout(
                slots=self._index([live.slot for live in lives]),
                rows=self._index([live.rows[0] for live in lives]),
                blind_rows=self._index([live.rows[-1] for live in lives]),
                sampler=Sampler(settings, penalty_last=self._penalty_last, device=self._device),
            )
        return self._layout

    def _index(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64).to(self._device, non_blocking=True)
