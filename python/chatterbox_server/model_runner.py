"""The engine's interface to a model: the ``ModelRunner`` protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ._core import Audio, Convert, Done, Enroll, Enrolled, Failed, Model, Speak

if TYPE_CHECKING:
    from ._core import FailureCode

__all__ = ["Event", "ModelRunner", "Progress", "RequestError", "failure", "has_words"]

Event = Audio | Done | Failed | Enrolled

Progress = Callable[[str, int, int], None]
"""Takes what is being loaded, how many bytes or parts of it are done, and how many there are (0 if that is not known).

It may be called from any thread."""


class RequestError(Exception):
    """Ends one request and no other.

    ``field`` names the field of the request that is wrong, if one is; ``message`` is a sentence for the client, or what
    is wrong with the field.
    """

    def __init__(self, code: FailureCode, message: str, *, field: str | None = None) -> None:
        super().__init__(message if field is None else f"{field}: {message}")
        self.code = code
        self.field = field
        self.message = message


class ModelRunner(Protocol):
    """Runs one model for its requests: utterances, conversions and enrolments.

    ``submit``, ``convert`` and ``enroll`` may raise ``RequestError`` or ``MemoryError``, which ends that request.
    In ``step`` a runner reports one request's failure with a ``Failed`` event (see ``failure``). Any exception that
    ``step`` raises ends the process, except ``MemoryError``, which ends the runner's requests.
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
        """Accept an utterance; ``step`` works on it from now on."""

    def convert(self, command: Convert) -> None:
        """Accept a clip to convert; ``step`` works on it from now on."""

    def enroll(self, command: Enroll) -> None:
        """Accept a reference clip; ``step`` prepares it and returns ``Enrolled`` or ``Failed``.

        Preparing takes seconds on a CPU, so a step does a part of it: other requests go on meanwhile.
        """

    def cancel(self, request_id: int) -> None:
        """Drop an utterance, a conversion or an enrolment if it is still live."""

    def forget(self, voice: str) -> None:
        """Drop an enrolled voice if it is there; live requests that use it keep it to their end."""

    def release_caches(self) -> None:
        """Free memory whose content can be computed again."""

    def step(self) -> list[Event]:
        """Advance the live requests by one slice of work."""


def failure(request_id: int, error: RequestError | MemoryError) -> Failed:
    """The event that ends a request with ``error``."""
    if isinstance(error, RequestError):
        return Failed(id=request_id, code=error.code, field=error.field, message=error.message)
    return Failed(
        id=request_id,
        code="OUT_OF_MEMORY",
        message="The engine ran out of memory for this request; try again later or with a shorter text.",
    )


def has_words(text: str) -> bool:
    """Whether ``text`` has a letter or a digit: punctuation and emoji alone cannot be spoken."""
    return any(character.isalnum() for character in text)
