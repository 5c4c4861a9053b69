"""What the operator wants most of a machine: early audio, or much of it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PROFILES", "Profile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Choices that set early audio against much of it. They change an utterance's samples only through its slices."""

    schedule: tuple[int, ...]
    """Tokens of the first slices of a streamed utterance; the last one repeats. A small first slice is heard early,
    large ones cost less, for each renders the voice's own frames and its context again.

    Vocoder and watermark hold up to 450 ms back, so that of a first slice below 13 tokens nothing would be heard."""
    cpu_schedule: tuple[int, ...]
    """The same on a CPU, which is not as far ahead of its listeners: two cores that make a second of audio in 0.7 s
    have the next slice ready before the last one has been played if the first ones are as large as in ``balanced``,
    and are silent after each of the first if they are as in ``latency``."""
    first_audio_seconds: float
    """How soon a listener is to hear something. Until then a new request goes before all whose audio lasts longer."""
    together: int
    """Utterances that a GPU renders together: more are more work in a second, and the first one waits for the last."""


PROFILES = {
    "latency": Profile(
        schedule=(14, 18, 25, 50),
        cpu_schedule=(16, 25, 50, 75, 100),
        first_audio_seconds=0.2,
        together=4,
    ),
    "balanced": Profile(
        schedule=(16, 25, 50, 100),
        cpu_schedule=(50, 50, 50, 75, 100),
        first_audio_seconds=0.5,
        together=8,
    ),
    "throughput": Profile(
        schedule=(25, 100, 200),
        cpu_schedule=(100, 200),
        first_audio_seconds=2.0,
        together=32,
    ),
}
