"""What the engine asks of a model: the ``Lane`` protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .messages import Enroll, Enrolled, Event, Failed, Speak

__all__ = ["Lane", "Model", "RequestError", "failure", "has_words"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What a loaded model can do."""

    name: str
    sample_rate: int
    """Rate of the audio it makes, in Hz."""
    can_clone: bool
    languages: tuple[str, ...]
    """ISO 639-1 codes; the first is the default."""
    voices: tuple[str, ...]
    """Names of built-in voices; the first is the default."""
    watermark: bool
    """Whether its audio carries an inaudible watermark."""


class RequestError(Exception):
    """Ends one request and no other. ``code`` is one of ``Failed.code``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Lane(Protocol):
    """One model and the requests that it is speaking.

    ``RequestError`` and ``MemoryError`` may come out of ``submit`` and ``enroll``. Inside ``step`` a lane answers a
    request's own failure with a ``Failed`` event (see ``failure``); what comes out of ``step`` ends the process, save
    a ``MemoryError``, which ends the lane's requests.
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
        """Take a request in; ``step`` works on it from now on."""

    def cancel(self, request_id: int) -> None:
        """Drop a request if it is still live."""

    def enroll(self, command: Enroll) -> Enrolled:
        """Prepare a reference clip."""

    def forget(self, voice: str) -> None:
        """Drop an enrolled clip if it is there."""

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
