"""A step's tokens on their way from the device to the host."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .live import Live

__all__ = ["Chosen"]


class Chosen:
    """Copies ``ids`` ``[requests]`` to the host while the device goes on with what it is given next."""

    def __init__(self, lives: Sequence[Live], ids: Tensor) -> None:
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

    def read(self) -> list[tuple[Live, int, bool]]:
        """Each request, its token, and whether it may have no more. Here alone the host waits for the device."""
        if self._copied is not None:
            self._copied.synchronize()
        return [(live, token, last) for (live, last), token in zip(self._lives, self._ids.tolist(), strict=True)]
