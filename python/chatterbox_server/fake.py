"""The fake engine: a model without weights that answers with a tone, for tests of everything around a model.

Every request is a sine at 24 kHz whose frequency follows from voice, model and seed: 60 ms for each character, or as
long as the clip that is converted.
A marker in the text asks for a fault:

======================  ==============================================================
``[[raise]]``           an exception out of ``step``, fatal for the engine
``[[hang]]``            ``step`` never returns
``[[slow 0.5]]``        each step takes this many seconds more while the request is live
``[[die]]``             the process is killed
``[[oom]]``             ``OUT_OF_MEMORY`` for this request
``[[fail]]``            ``GENERATION_ERROR`` at once
``[[fail-late]]``       ``GENERATION_ERROR`` after the first audio
``[[mute]]``            ``NOTHING_TO_SAY``
======================  ==============================================================
"""

from __future__ import annotations

import functools
import os
import re
import signal
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ._core import Audio, Convert, Done, Enroll, Enrolled, Failed, Model, Speak, Stats
from .model_runner import Event, Progress, RequestError, has_words

__all__ = ["FakeRunner", "frequency", "load", "tone"]

SAMPLE_RATE = 24_000
MAX_VOICES = 64
"""Enrolled voices kept; the least recently used one makes room."""

_AMPLITUDE = 0.1
_SECONDS_PER_CHARACTER, _MIN_SECONDS = 0.06, 0.2
_TOKENS_PER_SECOND = 25
_LOAD_PARTS = 10
_PERIOD = SAMPLE_RATE // 10
"""Every frequency is a multiple of 10 Hz, so a tenth of a second repeats without a seam."""
_VOICE_BYTES = 8
_MARKER = re.compile(r"\[\[([a-z-]+)(?: (\d+(?:\.\d+)?))?\]\]")


def frequency(model: str, voice: str, seed: int) -> int:
    """The tone's frequency in Hz: hundreds (200 to 900) from the voice, tens from model and seed."""
    hundreds = 2 + zlib.crc32(voice.encode()) % 8
    tens = zlib.crc32(f"{model} {seed}".encode()) % 10
    return 100 * hundreds + 10 * tens


@functools.lru_cache(maxsize=80)
def _period(hertz: int) -> bytes:
    phase = np.arange(_PERIOD) * (2 * np.pi * hertz / SAMPLE_RATE)
    pcm: bytes = (_AMPLITUDE * np.sin(phase)).astype("<f4").tobytes()
    return pcm


def tone(hertz: int, start: int, count: int) -> bytes:
    """``count`` samples of the tone from sample ``start`` on, as PCM."""
    offset = start % _PERIOD
    repeats = (offset + count + _PERIOD - 1) // _PERIOD
    return (_period(hertz) * repeats)[4 * offset : 4 * (offset + count)]


def load(
    models: Sequence[str], *, rtf: float, chunk_ms: int, load_seconds: float, progress: Progress
) -> list[FakeRunner]:
    """One runner per name. ``load_seconds`` is how long loading takes; ``progress`` is called meanwhile."""
    for part in range(_LOAD_PARTS):
        progress("weights", part, _LOAD_PARTS)
        time.sleep(load_seconds / _LOAD_PARTS)
    progress("weights", _LOAD_PARTS, _LOAD_PARTS)
    return [FakeRunner(name, rtf=rtf, chunk_ms=chunk_ms) for name in models]


@dataclass(slots=True)
class _Live:
    id: int
    hertz: int
    length: int
    """Samples in all."""
    stream: bool
    faults: dict[str, float] = field(default_factory=dict)
    return_tokens: bool = False
    position: int = 0
    """Samples made so far."""
    compute_seconds: float = 0.0


class FakeRunner:
    """Emits the next chunk of every live request per step; enrolments end in the step after they came.

    ``chunk_ms`` is a chunk's length. A step lasts ``rtf`` times that in wall-clock time however many requests share
    it, the way a batch does on a GPU; 0 is as fast as it goes. ``sleep`` waits for seconds.
    """

    def __init__(
        self, name: str, *, rtf: float = 0.0, chunk_ms: int = 200, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.model = Model(
            name=name,
            sample_rate=SAMPLE_RATE,
            can_clone=True,
            can_convert=True,
            languages=("en", "fr", "de"),
            voices=("tone",),
            tags=("[beep]",),
            watermark=False,
        )
        self._chunk = max(1, SAMPLE_RATE * chunk_ms // 1000)
        self._step_seconds = rtf * chunk_ms / 1000
        self._sleep = sleep
        self._live: dict[int, _Live] = {}
        self._enrolling: dict[int, Enroll] = {}
        self._voices: OrderedDict[str, None] = OrderedDict()

    @property
    def idle(self) -> bool:
        return not self._live and not self._enrolling

    @property
    def voice_cache_bytes(self) -> int:
        return _VOICE_BYTES * len(self._voices)

    def submit(self, speak: Speak) -> None:
        faults = {name: float(value or 0) for name, value in _MARKER.findall(speak.text)}
        if "mute" in faults or not has_words(speak.text):
            raise RequestError("NOTHING_TO_SAY", "has no letter or digit to speak.", field="text")
        if "fail" in faults:
            raise RequestError("GENERATION_ERROR", "The text asked for a failure.")
        if "oom" in faults:
            raise MemoryError
        if speak.language is not None and re.split("[-_]", speak.language.lower())[0] not in self.model.languages:
            message = f"{speak.language!r} is not one of en, fr, de."
            raise RequestError("INVALID_PARAMETER", message, field="language_id")
        if not 0.25 <= speak.params.speed <= 4.0:
            raise RequestError("INVALID_PARAMETER", "must be between 0.25 and 4.", field="speed")
        seconds = max(_MIN_SECONDS, _SECONDS_PER_CHARACTER * len(speak.text)) / speak.params.speed
        self._live[speak.id] = _Live(
            id=speak.id,
            hertz=frequency(self.model.name, self._voice(speak.voice), speak.seed),
            length=_samples(seconds, speak.max_audio_seconds),
            stream=speak.stream,
            faults=faults,
            return_tokens=speak.return_tokens,
        )

    def convert(self, command: Convert) -> None:
        self._live[command.id] = _Live(
            id=command.id,
            hertz=frequency(self.model.name, self._voice(command.voice), command.seed),
            length=_samples(len(command.pcm) / 4 / command.sample_rate, command.max_audio_seconds),
            stream=command.stream,
        )

    def _voice(self, name: str | None) -> str:
        if name is None or name in self.model.voices:
            return self.model.voices[0]
        if name not in self._voices:
            raise RequestError("VOICE_NOT_ENROLLED", "this clip is not enrolled.", field="voice")
        self._voices.move_to_end(name)
        return name

    def cancel(self, request_id: int) -> None:
        self._live.pop(request_id, None)
        self._enrolling.pop(request_id, None)

    def enroll(self, command: Enroll) -> None:
        if len(command.pcm) < 4 * command.sample_rate:
            raise RequestError("UNSUPPORTED_AUDIO", "The reference clip is shorter than one second.")
        self._enrolling[command.id] = command

    def forget(self, voice: str) -> None:
        self._voices.pop(voice, None)

    def release_caches(self) -> None:
        """Nothing here is worth giving back."""

    def step(self) -> list[Event]:
        started = time.perf_counter()
        slow = self._inflict_faults()
        events: list[Event] = [self._enrolled(command) for command in self._enrolling.values()]
        self._enrolling.clear()
        ended = [live for live in self._live.values() if self._advance(live, events)]
        elapsed = time.perf_counter() - started
        wait = max(0.0, self._step_seconds - elapsed) + slow
        if wait:
            self._sleep(wait)
        elapsed = time.perf_counter() - started
        for live in self._live.values():
            live.compute_seconds += elapsed
        for live in ended:
            del self._live[live.id]
            events.append(_ending(live))
        return events

    def _enrolled(self, command: Enroll) -> Enrolled:
        self._voices[command.voice] = None
        self._voices.move_to_end(command.voice)
        if len(self._voices) > MAX_VOICES:
            self._voices.popitem(last=False)
        return Enrolled(id=command.id, voice=command.voice, model=self.model.name, cache_bytes=_VOICE_BYTES)

    def _inflict_faults(self) -> float:
        slow = 0.0
        for live in self._live.values():
            if not live.faults:
                continue
            slow += live.faults.get("slow", 0.0)
            if "raise" in live.faults:
                raise RuntimeError("the text asked for a fatal exception")
            if "die" in live.faults:
                os.kill(os.getpid(), signal.SIGKILL)
            while "hang" in live.faults:
                self._sleep(3600.0)
        return slow

    def _advance(self, live: _Live, events: list[Event]) -> bool:
        """Make the next chunk; whether the request ends with it."""
        start = live.position
        live.position = min(start + self._chunk, live.length)
        ended = live.position == live.length or "fail-late" in live.faults
        if live.stream:
            events.append(Audio(id=live.id, pcm=tone(live.hertz, start, live.position - start)))
        elif ended:
            events.append(Audio(id=live.id, pcm=tone(live.hertz, 0, live.position)))
        return ended


def _samples(seconds: float, cap: float) -> int:
    return max(1, round(min(seconds, cap) * SAMPLE_RATE))


def _ending(live: _Live) -> Event:
    if "fail-late" in live.faults:
        return Failed(id=live.id, code="GENERATION_ERROR", message="The text asked for a late failure.")
    seconds = live.length / SAMPLE_RATE
    tokens = range(round(seconds * _TOKENS_PER_SECOND)) if live.return_tokens else None
    return Done(id=live.id, stats=Stats(audio_seconds=seconds, compute_seconds=live.compute_seconds, tokens=tokens))
