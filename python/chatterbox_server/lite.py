"""The ``lite`` model: hibari, a small English voice whose weights come inside its wheel. Runs on the CPU."""

from __future__ import annotations

import logging
import re
import time
import unicodedata
from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ._core import Audio, Convert, Done, Enroll, Failed, Model, Speak, Stats
from .model_runner import Event, RequestError, failure, has_words

__all__ = ["LiteRunner", "load", "loudness"]

logger = logging.getLogger(__name__)

Samples = NDArray[np.float32]

MODEL = Model(
    name="lite",
    sample_rate=24_000,
    can_clone=False,
    can_convert=False,
    languages=("en",),
    voices=("heart",),
    tags=(),
    watermark=False,
)
SPEED_MIN, SPEED_MAX = 0.5, 2.0
"""The range that hibari was made for. Above it the pace stops following: 4 is only 2.3 times faster than 1."""

_GAIN = 2.01
"""Brings hibari's speech from -26 LUFS to -20 LUFS (means over 24 sentences, each within 1 LU)."""
_KNEE, _CEILING = 0.7, 0.97
_FADE_SAMPLES = MODEL.sample_rate // 100
"""10 ms, so that a cut does not click."""
_MAX_PHONEMES = 200
"""Longest piece rendered at once: about 12 s of audio, a sixth of a second of work. Nobody else is served meanwhile."""
_QUIET = 10 ** (-50 / 20)
_INNER_SILENCE = MODEL.sample_rate * 70 // 1000
"""Samples kept beyond the sound where two pieces of one utterance meet: 140 ms in all, the pause inside a sentence."""
_MAX_CHARACTERS = 5000
"""Of one utterance: minutes of speech. Its phonemes are found at once: 40 ms for prose, 2 s for the oddest input."""
_CANNOT_CLONE = (
    "lite speaks with its own voice, heart, and cannot clone; the models standard, turbo and multilingual can: "
    "run make install-chatterbox, then start the server with LOAD_TURBO=true."
)
_CANNOT_CONVERT = "'lite' cannot convert voices; the models standard, turbo and multilingual can."


class Voice(Protocol):
    """The part of hibari that the runner uses."""

    def phonemize(self, text: str) -> list[str]:
        """Phonemes, one string per sentence."""

    def ids(self, phonemes: str) -> list[int]:
        """Phonemes as the network's input."""

    def from_ids(self, ids: list[int], speed: float, rng: np.random.Generator) -> Samples:
        """Audio at 24 kHz; ``rng`` makes the noise in it."""


def load(threads: int | None = None) -> LiteRunner:
    """Load and warm up the model with ``threads`` CPU threads (default: up to 2). Raises ``ImportError``."""
    from hibari import Hibari
    from hibari.voices import voice_path

    from . import _core

    # Naming the file keeps hibari from ever fetching one.
    path = voice_path("heart", download_missing=False)
    voice: Voice = Hibari(voice="heart", model=path, threads=threads or min(2, _core.available_threads()))
    # The first use loads the lexicon, the network for unknown words and the synthesiser's tables.
    for phonemes in voice.phonemize("Ready to speak, Zqorvax."):
        voice.from_ids(voice.ids(phonemes), 1.0, np.random.default_rng(0))
    return LiteRunner(voice)


@dataclass(slots=True)
class _Live:
    id: int
    pieces: deque[str]
    rng: np.random.Generator
    speed: float
    samples_left: int
    """Until the cap on the utterance's audio."""
    samples_sent: int
    compute_seconds: float
    begun: bool = False


class LiteRunner:
    """Renders one piece of one utterance per step, the live utterances in turn.

    Sampling options other than ``speed`` have no meaning for this model and are ignored; it has no speech tokens.
    """

    model = MODEL
    voice_cache_bytes = 0

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._queue: deque[_Live] = deque()

    @property
    def idle(self) -> bool:
        return not self._queue

    def submit(self, speak: Speak) -> None:
        started = time.perf_counter()
        _check(speak)
        pieces = self._pieces(speak.text)
        self._queue.append(
            _Live(
                id=speak.id,
                pieces=deque(pieces),
                rng=np.random.default_rng(speak.seed),
                speed=speak.params.speed,
                samples_left=max(1, int(min(speak.max_audio_seconds, 86_400.0) * MODEL.sample_rate)),
                samples_sent=0,
                compute_seconds=time.perf_counter() - started,
            )
        )

    def cancel(self, request_id: int) -> None:
        self._queue = deque(live for live in self._queue if live.id != request_id)

    def convert(self, command: Convert) -> None:
        raise RequestError("INVALID_PARAMETER", _CANNOT_CONVERT, field="model")

    def enroll(self, command: Enroll) -> None:
        raise RequestError("CANNOT_CLONE", _CANNOT_CLONE, field="voice")

    def forget(self, voice: str) -> None:
        """Nothing is ever enrolled."""

    def release_caches(self) -> None:
        """Nothing is cached."""

    def step(self) -> list[Event]:
        if not self._queue:
            return []
        live = self._queue.popleft()
        try:
            pcm = self._render(live)
        except (MemoryError, RequestError) as error:
            return [failure(live.id, error)]
        except Exception:
            logger.exception("lite could not render an utterance")
            return [Failed(id=live.id, code="GENERATION_ERROR", message="lite could not speak this text.")]
        events: list[Event] = [Audio(id=live.id, pcm=pcm)]
        if live.pieces and live.samples_left:
            self._queue.append(live)
        else:
            stats = Stats(
                audio_seconds=live.samples_sent / MODEL.sample_rate, compute_seconds=live.compute_seconds, tokens=None
            )
            events.append(Done(id=live.id, stats=stats))
        return events

    def _render(self, live: _Live) -> bytes:
        started = time.perf_counter()
        ids = self._voice.ids(live.pieces.popleft())
        samples = loudness(self._voice.from_ids(ids, live.speed, live.rng))
        if not samples.size or not np.isfinite(samples).all():
            raise RequestError("GENERATION_ERROR", "lite made no usable audio for this text.")
        samples = _without_silence(samples, lead=live.begun, tail=bool(live.pieces))
        live.begun = True
        if samples.size > live.samples_left:
            samples = samples[: live.samples_left]
            fade = min(_FADE_SAMPLES, samples.size)
            samples[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
        live.samples_left -= samples.size
        live.samples_sent += samples.size
        live.compute_seconds += time.perf_counter() - started
        return samples.astype("<f4", copy=False).tobytes()

    def _pieces(self, text: str) -> list[str]:
        text = _clean(text)
        letters = [character for character in text if character.isalpha()]
        latin = sum(character < "\u0250" for character in letters)
        if latin * 2 < len(letters):
            raise RequestError("INVALID_PARAMETER", _NOT_LATIN, field="text")
        try:
            sentences = self._voice.phonemize(_breakable(text))
        except MemoryError:
            raise
        except Exception as error:
            # Rules written for prose may trip over odd input.
            logger.warning("lite could not read a text aloud", exc_info=error)
            raise RequestError("INVALID_PARAMETER", "lite cannot read this text aloud.", field="text") from error
        pieces = [piece for sentence in sentences for piece in _split(sentence) if has_words(piece)]
        if not pieces:
            raise RequestError("INVALID_PARAMETER", _NOT_LATIN, field="text")
        return pieces


def loudness(samples: Samples) -> Samples:
    """``samples`` at speech level: a fixed gain, then a limiter that leaves everything below its knee alone.

    The limiter bends each sample by itself (tanh, of slope 1 at the knee), so audio can be cut anywhere.
    """
    louder = samples * np.float32(_GAIN)
    level = np.abs(louder)
    loud = level > _KNEE
    room = _CEILING - _KNEE
    limited = np.minimum(_KNEE + room * np.tanh((level[loud] - _KNEE) / room), _CEILING - 1e-6)
    louder[loud] = np.copysign(limited, louder[loud])
    return louder


def _without_silence(samples: Samples, *, lead: bool, tail: bool) -> Samples:
    """``samples`` less the silence that each piece begins and ends with, at the ends asked for."""
    loud = np.flatnonzero(np.abs(samples) > _QUIET)
    if not loud.size:
        return samples
    first = max(0, int(loud[0]) - _INNER_SILENCE) if lead else 0
    last = int(loud[-1]) + 1 + _INNER_SILENCE if tail else samples.size
    return samples[first:last]


_NOT_LATIN = (
    "lite speaks English in Latin letters; write it so, or use a model that speaks the language (multilingual)."
)
_LONG_NUMBER = re.compile(r"\d{13,}")
_LONG_WORD = re.compile(r"([^\W\d_]{24}|\S{32})(?=\S)")
_REPEATED_MARK = re.compile(r"([^\w\s])\1{3,}")
_CLAUSE_END = re.compile(r".*[,;:.!?…—]\s", re.DOTALL)


def _check(speak: Speak) -> None:
    if speak.voice not in (None, *MODEL.voices):
        raise RequestError("CANNOT_CLONE", _CANNOT_CLONE, field="voice")
    if speak.language is not None and re.split("[-_]", speak.language.lower())[0] not in MODEL.languages:
        message = f"lite speaks English only (en), not {speak.language!r}."
        raise RequestError("INVALID_PARAMETER", message, field="language_id")
    if not SPEED_MIN <= speak.params.speed <= SPEED_MAX:
        message = f"lite speaks between {SPEED_MIN} and {SPEED_MAX}."
        raise RequestError("INVALID_PARAMETER", message, field="speed")
    if not speak.max_audio_seconds > 0:
        raise RequestError("INVALID_PARAMETER", "must be above 0.", field="max_audio_seconds")
    if len(speak.text) > _MAX_CHARACTERS:
        message = f"lite takes up to {_MAX_CHARACTERS} characters an utterance."
        raise RequestError("INVALID_PARAMETER", message, field="text")
    if not has_words(speak.text):
        raise RequestError("NOTHING_TO_SAY", "has no letter or digit to speak.", field="text")


def _clean(text: str) -> str:
    """``text`` without what is not read: control characters, emoji, and marks that hibari's tables do not know."""
    text = "".join(map(_clean_character, unicodedata.normalize("NFC", text)))
    # hibari takes [word](/phonemes/) as instructions on how to say the word; a client's text is only ever text.
    return text.replace("](", "] (")


def _clean_character(character: str) -> str:
    if character.isascii() and character.isprintable():
        return character
    category = unicodedata.category(character)
    is_picture = category in ("So", "Sk") and character >= "\u2300"
    if character.isspace() or category == "Cc" or is_picture:
        return "\n" if character in "\n\r\u2028\u2029" else " "
    if category[0] in "CM":
        return ""
    if category == "No" and character not in "²³½¼¾":
        # Superscripts, circled numbers, other fractions: hibari takes them for digits and fails.
        return unicodedata.normalize("NFKC", character).replace("\N{FRACTION SLASH}", "/")
    if category[0] == "L" and character > "\u017f":
        # Vietnamese letters, ligatures, mathematical alphabets: what they are made of.
        parts = "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
        if parts.isascii():
            return parts
    return character


def _breakable(text: str) -> str:
    """``text`` without runs that hibari drops (words past 24 letters), trips over or takes cubic time for."""
    text = _REPEATED_MARK.sub(r"\1\1\1", text)
    text = _LONG_NUMBER.sub(lambda match: " ".join(match.group()), text)
    return _LONG_WORD.sub(r"\1 ", text)


def _split(phonemes: str) -> list[str]:
    """``phonemes`` in pieces of at most ``_MAX_PHONEMES``, cut after a clause if there is one, else between words."""
    pieces = []
    while len(phonemes) > _MAX_PHONEMES:
        # Even pieces: a short last one would be read like a sentence of its own.
        even = len(phonemes) // -(-len(phonemes) // _MAX_PHONEMES)
        head = phonemes[: min(_MAX_PHONEMES, even + even // 4)]
        clause = _CLAUSE_END.match(head)
        cut = clause.end() if clause else head.rfind(" ") + 1 or len(head)
        pieces.append(phonemes[:cut].strip())
        phonemes = phonemes[cut:]
    pieces.append(phonemes.strip())
    return pieces
