"""What the engine asks of a model's text side."""

from __future__ import annotations

from typing import Protocol

__all__ = ["TextEncoder"]


class TextEncoder(Protocol):
    """Turns an utterance into T3's text ids."""

    def encode(self, text: str, language: str | None) -> tuple[int, ...]:
        """The ids of ``text``, just as upstream hands them to T3; ``language`` is one of the model's or ``None``."""
