"""The workload, the same for both sides."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Clock", "Unavailable", "mel_frames", "sentence", "speech_tokens"]

_SENTENCE = "The morning light fell slowly across the harbour while the boats were still asleep and nobody spoke a word"


class Unavailable(Exception):
    """Something cannot be measured here; the message says why."""


def sentence(characters: int) -> str:
    """A sentence of so many characters or a word more. Spoken, a character takes 60 to 70 ms."""
    words: list[str] = []
    source = _SENTENCE.lower().split()
    while len(" ".join(words)) < characters:
        words.append(source[len(words) % len(source)])
    return " ".join(words).capitalize() + "."


def speech_tokens(count: int) -> Tensor:
    """``[count]`` int64 speech tokens, always the same."""
    return torch.randint(0, 6561, (count,), generator=torch.Generator().manual_seed(7))


def mel_frames(seconds: float) -> Tensor:
    """A made-up log mel ``[80, n]``, always the same."""
    return torch.randn(80, round(50 * seconds), generator=torch.Generator().manual_seed(8)) - 5


class Clock:
    """Measures time until a device has finished its work."""

    def __init__(self, device: str) -> None:
        self._wait: Callable[[], None] = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(
            torch.device(device).type, lambda: None
        )

        self.asynchronous = torch.device(device).type != "cpu"
        """Whether the device works on while the program goes on, so that waiting for it costs time."""

    def now(self) -> float:
        """Seconds, once the device has nothing left to do."""
        self._wait()
        return time.perf_counter()

    def milliseconds(self, work: Callable[[], object]) -> float:
        """How long ``work`` takes."""
        started = self.now()
        work()
        return 1000 * (self.now() - started)
