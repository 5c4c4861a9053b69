"""Commands with defaults, and PCM as samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from chatterbox_server.engine import Engine
from chatterbox_server.messages import Audio, Command, Event, Params, Slicing, Speak
from numpy.typing import NDArray

PARAMS = Params(
    temperature=None,
    top_p=None,
    min_p=None,
    top_k=None,
    repetition_penalty=None,
    exaggeration=None,
    cfg_weight=None,
)
SLICING = Slicing(
    tokens_per_slice=None,
    context_window=None,
    overlap=None,
    crossfade_ms=None,
    trim_leading_ms=0.0,
    trim_trailing_ms=0.0,
)
SPEAK = Speak(
    id=1,
    model="fake",
    text="Hello there.",
    language=None,
    voice=None,
    seed=7,
    params=PARAMS,
    slicing=SLICING,
    max_audio_seconds=40.0,
    stream=True,
    return_tokens=False,
)


def speak(request_id: int = 1, text: str = "Hello there.", *, speed: float = 1.0, **fields: object) -> Speak:
    """A request of the fake model unless ``fields`` say otherwise."""
    command = replace(SPEAK, id=request_id, text=text, params=replace(PARAMS, speed=speed))
    return replace(command, **fields)  # type: ignore[arg-type]


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
