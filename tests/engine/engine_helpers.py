"""Commands with defaults, and PCM as samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from chatterbox_server.engine import Engine
from chatterbox_server.messages import Audio, Command, Convert, Event, Params, Slicing, Speak
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
    in_hand_seconds=0.0,
)
CONVERT = Convert(
    id=1,
    model="fake",
    voice=None,
    pcm=bytes(4 * 8000),
    sample_rate=8000,
    seed=7,
    stream=True,
    max_audio_seconds=300.0,
)


def speak(request_id: int = 1, text: str = "Hello there.", *, speed: float = 1.0, **fields: object) -> Speak:
    """A request of the fake model unless ``fields`` say otherwise."""
    command = replace(SPEAK, id=request_id, text=text, params=replace(PARAMS, speed=speed))
    return replace(command, **fields)  # type: ignore[arg-type]


def convert(request_id: int = 1, seconds: float = 1.0, **fields: object) -> Convert:
    """A silent clip to be converted by the fake model unless ``fields`` say otherwise."""
    pcm = bytes(4 * int(CONVERT.sample_rate * seconds))
    return replace(CONVERT, id=request_id, pcm=pcm, **fields)  # type: ignore[arg-type]


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
