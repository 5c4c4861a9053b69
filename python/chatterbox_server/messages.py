"""The messages that cross between the Rust host and the engine.

The host builds commands by calling these classes with keyword arguments and reads events by attribute.
PCM is ``bytes`` of little-endian 32-bit floats, mono, at the model's sample rate unless a field says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "Audio",
    "Cancel",
    "Command",
    "Convert",
    "Done",
    "Enroll",
    "Enrolled",
    "Event",
    "Failed",
    "Forget",
    "Params",
    "Slicing",
    "Speak",
    "Stats",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """How to sample an utterance. ``None`` means the model's own default; a model ignores what it has no use for."""

    temperature: float | None
    """Softmax temperature, 0 to 2; 0 is greedy."""
    top_p: float | None
    """Nucleus: smallest set of tokens with this probability mass, 0 to 1; the likeliest token always stays."""
    min_p: float | None
    """Drops tokens less likely than this share of the likeliest one, 0 to 1."""
    top_k: int | None
    """Keeps this many of the likeliest tokens; 0 keeps all."""
    repetition_penalty: float | None
    """Divides the logits of tokens already spoken, at least 1 (1 = none)."""
    exaggeration: float | None
    """Emotion intensity, 0 to 2 (0.5 = neutral)."""
    cfg_weight: float | None
    """Classifier-free guidance weight, 0 to 1 (0 = none)."""
    speed: float = 1.0
    """Speaking rate relative to the model's own, 0.25 to 4; a model may allow a narrower range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slicing:
    """How a model that decodes speech tokens cuts a streamed utterance into audio slices."""

    tokens_per_slice: int | None
    """Speech tokens rendered per slice, at least 1; ``None`` lets slices grow."""
    context_window: int | None
    """Speech tokens of earlier slices rendered again as context, at least 0."""
    overlap: str | None
    """``"full"`` (also ``None``) renders slices with their context and fades them over, ``"zero"`` does neither."""
    crossfade_ms: float | None
    """Cross-fade between neighbouring slices in milliseconds, at least 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speak:
    """Speak one utterance. Answered by any number of ``Audio``, then one ``Done`` or ``Failed``."""

    id: int
    """Names the request in its events; not in use by another live request."""
    model: str
    """Name of a loaded model."""
    text: str
    """The utterance, a sentence or a few."""
    language: str | None
    """BCP 47 language tag; ``None`` = the model's first language."""
    voice: str | None
    """A built-in voice's name, or an enrolled clip's key (content hash, 64 hex digits); ``None`` = the default."""
    seed: int
    """Same seed, same text and same options give the same samples."""
    params: Params
    slicing: Slicing
    max_audio_seconds: float
    """Hard cap on this utterance's audio in seconds, above 0."""
    stream: bool
    """``False``: nobody listens before the end, so the utterance may be rendered at once."""
    return_tokens: bool
    """Ask for the speech tokens in ``Stats.tokens``."""
    in_hand_seconds: float
    """Seconds of audio that the listener has yet to hear of what came before this utterance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convert:
    """Speak a clip again in another voice. Answered like ``Speak``."""

    id: int
    """Names the request in its events; not in use by another live request."""
    model: str
    """Name of a loaded model that can convert."""
    voice: str | None
    """The target: a built-in voice's name, or an enrolled clip's key; ``None`` = the default."""
    pcm: bytes
    """The clip to convert, at its native rate."""
    sample_rate: int
    """The clip's rate in Hz."""
    seed: int
    """Same seed, same clip and same voice give the same samples."""
    stream: bool
    """``False``: nobody listens before the end, so the clip may be rendered at once."""
    max_audio_seconds: float
    """Hard cap on the audio in seconds, above 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Drop a request. No event of this id follows; an unknown id is ignored."""

    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Enroll:
    """Prepare a voice for one model. Answered by one ``Enrolled`` or ``Failed``, after any number of steps."""

    id: int
    voice: str
    """The file's key: content hash, 64 hex digits."""
    model: str
    pcm: bytes
    """The reference clip at its native rate."""
    sample_rate: int
    """The clip's rate in Hz."""
    portable: bytes | None = None
    """Instead of a clip, a voice that was computed elsewhere: a file of ``chatterbox-server voice convert``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """Drop an enrolled clip from every model. Has no answer; an unknown key is ignored."""

    voice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What an utterance took."""

    audio_seconds: float
    """Seconds of audio sent."""
    compute_seconds: float
    """Wall-clock seconds of the steps that worked on this utterance, shared steps counted in full."""
    tokens: tuple[int, ...] | None
    """Speech tokens when they were asked for and the model has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    """The next samples of an utterance, never empty."""

    id: int
    pcm: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The utterance is complete."""

    id: int
    stats: Stats


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The request ended without completing."""

    id: int
    code: str
    """``INVALID_PARAMETER``, ``NOTHING_TO_SAY``, ``CANNOT_CLONE``, ``VOICE_NOT_ENROLLED``, ``UNSUPPORTED_AUDIO``,
    ``OUT_OF_MEMORY`` or ``GENERATION_ERROR``."""
    message: str
    """A sentence for the client; for ``INVALID_PARAMETER`` it starts with the field's name and a colon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """The clip can be spoken with, until it is forgotten or evicted."""

    id: int
    voice: str
    model: str
    cache_bytes: int
    """Bytes that this voice holds in the model's voice cache."""


Command = Speak | Convert | Cancel | Enroll | Forget
Event = Audio | Done | Failed | Enrolled
