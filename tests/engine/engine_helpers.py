"""Commands with defaults, and PCM as samples."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from chatterbox_server._core import Audio, Convert, Params, Speak
from chatterbox_server.engine import Command, Engine
from chatterbox_server.model_runner import Event
from numpy.typing import NDArray

Message = TypeVar("Message")

SPEAK = Speak(id=1, model="fake", text="Hello there.", seed=7, max_audio_seconds=40.0)
CONVERT = Convert(id=1, model="fake", pcm=bytes(4 * 8000), sample_rate=8000, seed=7, max_audio_seconds=300.0)


def fields(message: type) -> list[str]:
    """The names of a message's fields."""
    return list(inspect.signature(message).parameters)


def replace(message: Message, **changes: object) -> Message:
    """``message`` with some fields changed, as ``dataclasses.replace`` does it."""
    kept = {name: getattr(message, name) for name in fields(type(message))}
    return type(message)(**{**kept, **changes})


def speak(request_id: int = 1, text: str = "Hello there.", *, speed: float = 1.0, **changes: object) -> Speak:
    """A request of the fake model unless ``changes`` say otherwise."""
    return replace(SPEAK, **{"id": request_id, "text": text, "params": Params(speed=speed), **changes})


def convert(request_id: int = 1, seconds: float = 1.0, **changes: object) -> Convert:
    """A silent clip to be converted by the fake model unless ``changes`` say otherwise."""
    pcm = bytes(4 * int(CONVERT.sample_rate * seconds))
    return replace(CONVERT, **{"id": request_id, "pcm": pcm, **changes})


def drain(engine: Engine, commands: Sequence[Command] = (), *, steps: int = 1000) -> list[Event]:
    """The events of ``commands`` and of all steps until the engine is idle."""
    events = engine.step(list(commands))
    for _ in range(steps):
        if engine.idle:
            return events
        events += engine.step([])
    raise AssertionError(f"not idle after {steps} steps")


def samples(events: Sequence[Event], request_id: int = 1) -> NDArray[np.float32]:
    """All audio of a request."""
    pcm = b"".join(event.pcm for event in events if isinstance(event, Audio) and event.id == request_id)
    return np.frombuffer(pcm, dtype="<f4")
