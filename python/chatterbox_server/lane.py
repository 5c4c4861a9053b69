"""What the engine asks of a model: the ``Lane`` protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .messages import Convert, Enroll, Event, Failed, Speak

__all__ = ["Lane", "Model", "RequestError", "failure", "has_words"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What a loaded model can do."""

    name: str
    sample_rate: int
    """Rate of the audio it makes, in Hz."""
    can_clone: bool
    """Whether it speaks with the voice of a reference clip."""
    can_convert: bool
    """Whether it speaks a clip again in another voice."""
    languages: tuple[str, ...]
    """ISO 639-1 codes; the first is the default."""
    voices: tuple[str, ...]
    """Names of built-in voices; the first is the default."""
    tags: tuple[str, ...]
    """Paralinguistic tags that a text may carry, with their brackets: ``"[laugh]"``."""
    watermark: bool
    """Whether its audio carries an inaudible watermark."""


class RequestError(Exception):
    """Ends one request and no other. ``code`` is one of ``Failed.code``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Lane(Protocol):
    """One model and its requests: utterances, conversions and enrolments.

    ``RequestError`` and ``MemoryError`` may come out of ``submit``, ``convert`` and ``enroll``, and end that request.
    Inside ``step`` a lane answers a request's own failure with a ``Failed`` event (see ``failure``); what comes out of
    ``step`` ends the process, save a ``MemoryError``, which ends the lane's requests.
    """

    @property
    def model(self) -> Model: ...

    @property
    def idle(self) -> bool:
        """Whether ``step`` has nothing to do."""

    @property
    def voice_cache_bytes(self) -> int:
        """Bytes held by enrolled voices."""

    def submit(self, speak: Speak) -> None:
        """Take an utterance in; ``step`` works on it from now on."""

    def convert(self, command: Convert) -> None:
        """Take a clip to convert in; ``step`` works on it from now on."""

    def enroll(self, command: Enroll) -> None:
        """Take a reference clip in; ``step`` prepares it and brings ``Enrolled`` or ``Failed``.

        Preparing takes seconds on a CPU: a step does a part of it, so that nobody else is held up.
        """

    def cancel(self, request_id: int) -> None:
        """Drop an utterance, a conversion or an enrolment if it is still live."""

    def forget(self, voice: str) -> None:
        """Drop an enrolled clip if it is there; who speaks with it keeps it to the end."""

    def release_caches(self) -> None:
        """Give back memory that can be had again by computing."""

    def step(self) -> list[Event]:
        """Advance the live requests by one slice of work."""


def failure(request_id: int, error: RequestError | MemoryError) -> Failed:
    """The event that ends a request with ``error``."""
    if isinstance(error, RequestError):
        return Failed(id=request_id, code=error.code, message=error.message)
    return Failed(
        id=request_id,
        code="OUT_OF_MEMORY",
        message="The engine ran out of memory for this request; try again later or with a shorter text.",
    )


def has_words(text: str) -> bool:
    """Whether any letter or digit is in ``text``: punctuation and emoji alone give nothing to say."""
    return any(character.isalnum() for character in text)
