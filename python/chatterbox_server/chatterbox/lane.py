"""A Chatterbox model and the requests that it is speaking."""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..lane import Model, RequestError, failure, has_words
from ..messages import Audio, Convert, Done, Enroll, Enrolled, Event, Failed, Slicing, Speak, Stats
from .conditionals import Conditionals
from .guards import loop_start, token_limit
from .live import Live
from .memory import memory_errors
from .render_batch import RenderBatch
from .rendering import Rendering, RenderOptions, Samples
from .s3gen import Noise, S3Gen
from .speech_tokens import SAMPLE_RATE, SILENCE, TOKENS_PER_SECOND, VALID
from .t3 import STOP_SPEECH, Decoder, Prompt
from .tensors import CheckpointError
from .text import TextEncoder
from .variants import Variant
from .voices import VoiceCache, VoicePreparer
from .watermark import Watermarker

__all__ = ["BUILTIN_VOICE", "ChatterboxLane", "Parts"]

logger = logging.getLogger(__name__)

BUILTIN_VOICE = "default"
"""Name of the voice that comes with the weights."""
SPEED_MIN, SPEED_MAX = 0.5, 2.0
"""Beyond this, stretched frames no longer sound like speech."""
_AS_IT_COMES = Slicing(
    tokens_per_slice=None,
    context_window=None,
    overlap=None,
    crossfade_ms=None,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a lane is made of."""

    model: Model
    variant: Variant
    text: TextEncoder
    decoder: Decoder
    s3gen: S3Gen
    preparer: VoicePreparer
    voices: VoiceCache
    builtin: Conditionals | None
    watermarker: Watermarker | None
    rendering: RenderBatch


@dataclass(slots=True)
class _Preparation:
    """A clip on its way through the voice preparation, and what is done with what comes out."""

    id: int
    stages: Iterator[None]
    finish: Callable[[Any], list[Event]]


class ChatterboxLane:
    """One step prepares a clip by one stage, decodes a token for every live request, and renders what is due."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.model = parts.model
        self._live: dict[int, Live] = {}
        self._preparations: deque[_Preparation] = deque()
        self._unwanted: set[str] = set()
        """Voices that were forgotten while clips were being prepared: what comes of them is not kept."""

    @property
    def idle(self) -> bool:
        return not self._live and not self._preparations

    @property
    def voice_cache_bytes(self) -> int:
        return self._parts.voices.nbytes + self._parts.decoder.prefix_bytes

    @memory_errors()
    def submit(self, speak: Speak) -> None:
        parts = self._parts
        _check_speed(speak.params.speed)
        if not has_words(speak.text):
            raise RequestError("NOTHING_TO_SAY", "text: has no letter or digit to speak.")
        ids = parts.text.encode(speak.text, self._language(speak.language))
        voice, voice_key = self._voice(speak.voice)
        exaggeration = speak.params.exaggeration
        prompt = Prompt(
            text_ids=ids,
            voice=voice,
            voice_key=voice_key,
            exaggeration=parts.variant.exaggeration if exaggeration is None else exaggeration,
        )
        sampling = parts.variant.resolve(speak.params, speak.seed)
        options = RenderOptions(
            slicing=speak.slicing,
            stream=speak.stream,
            speed=speak.params.speed,
            max_samples=_samples(speak.max_audio_seconds),
        )
        # Faster speech takes more tokens for a second of audio.
        limit = token_limit(speak.text, speak.max_audio_seconds * speak.params.speed)
        closing = (SILENCE,) * parts.variant.closing_silence
        rendering = self._rendering(voice, speak.seed, options, closing)
        # The last thing that can fail: whatever the decoder has must be live.
        try:
            parts.decoder.add(speak.id, prompt, sampling, limit)
        except ValueError as error:
            raise RequestError("INVALID_PARAMETER", f"text: {error}") from error
        self._live[speak.id] = Live(id=speak.id, rendering=rendering, returns_tokens=speak.return_tokens)

    @memory_errors()
    def convert(self, command: Convert) -> None:
        voice, _ = self._voice(command.voice)
        options = RenderOptions(
            slicing=_AS_IT_COMES, stream=command.stream, speed=1.0, max_samples=_samples(command.max_audio_seconds)
        )

        def finish(tokens: Tensor) -> list[Event]:
            rendering = self._rendering(voice, command.seed, options)
            rendering.add(tokens.tolist())
            rendering.end()
            self._live[command.id] = Live(id=command.id, rendering=rendering, decoding=False)
            return []

        stages = self._parts.preparer.tokens(_clip(command), command.sample_rate)
        self._preparations.append(_Preparation(command.id, stages, finish))

    @memory_errors()
    def enroll(self, command: Enroll) -> None:
        voices = self._parts.voices

        def finish(made: Conditionals | None) -> list[Event]:
            voice = made or voices.get(command.voice)
            if made is not None and command.voice not in self._unwanted:
                voices.put(command.voice, made)
            size = 0 if voice is None else voice.nbytes
            return [Enrolled(id=command.id, voice=command.voice, model=self.model.name, cache_bytes=size)]

        self._unwanted.discard(command.voice)
        known = voices.get(command.voice) is not None
        stages = iter(()) if known else self._parts.preparer.prepare(_clip(command), command.sample_rate)
        self._preparations.append(_Preparation(command.id, stages, finish))

    def cancel(self, request_id: int) -> None:
        if self._live.pop(request_id, None) is not None:
            self._parts.decoder.drop(request_id)
            self._parts.rendering.drop(request_id)
        self._preparations = deque(item for item in self._preparations if item.id != request_id)

    def forget(self, voice: str) -> None:
        if self._preparations:
            self._unwanted.add(voice)
        self._parts.voices.forget(voice)
        self._parts.decoder.forget_voice(voice)

    def release_caches(self) -> None:
        self._parts.decoder.release_caches()
        self._parts.preparer.release()

    def step(self) -> list[Event]:
        with torch.inference_mode(), memory_errors():
            return [*self._prepare(), *self._decode(), *self._render()]

    def _prepare(self) -> list[Event]:
        if not self._preparations:
            self._unwanted.clear()
            return []
        clip = self._preparations[0]
        try:
            with memory_errors():
                next(clip.stages)
        except StopIteration as end:
            self._preparations.popleft()
            return clip.finish(end.value)
        except CheckpointError as error:
            # They were whole when the model was loaded.
            logger.error("voices cannot be prepared any more: %s", error)
            self._preparations.popleft()
            return [Failed(id=clip.id, code="GENERATION_ERROR", message="The model's files have changed; restart it.")]
        except (RequestError, MemoryError) as error:
            self._preparations.popleft()
            return [failure(clip.id, error)]
        return []

    def _decode(self) -> list[Event]:
        decoder = self._parts.decoder
        if decoder.idle:
            return []
        started = time.perf_counter()
        events: list[Event] = []
        for token in decoder.step():
            live = self._live[token.request_id]
            if token.id is not None:
                live.tokens.append(token.id)
                if token.id < VALID:
                    live.rendering.add([token.id])
            elif self._parts.variant.reports_stop:
                live.tokens.append(STOP_SPEECH)
            if token.last or self._loops(live):
                events += self._end_decoding(live)
        elapsed = time.perf_counter() - started
        for live in self._live.values():
            live.compute_seconds += elapsed if live.decoding else 0.0
        return events

    def _loops(self, live: Live) -> bool:
        """Whether ``live`` says the same thing over and over; it is dropped from the batch, and the loop from it."""
        if len(live.tokens) % TOKENS_PER_SECOND:
            return False
        start = loop_start(live.rendering.tokens)
        if start is None:
            return False
        live.rendering.truncate(start)
        self._parts.decoder.drop(live.id)
        return True

    def _end_decoding(self, live: Live) -> list[Event]:
        live.decoding = False
        if live.rendering.tokens:
            live.rendering.end()
            return []
        del self._live[live.id]
        return [Failed(id=live.id, code="NOTHING_TO_SAY", message="text: the model found nothing to say in it.")]

    def _render(self) -> list[Event]:
        rendered = self._parts.rendering.step(self._live.values())
        return [event for live, mel in rendered for event in (*self._heard(live, mel), *self._ending(live))]

    def _heard(self, live: Live, mel: Tensor) -> list[Event]:
        samples = live.rendering.accept(mel)
        if not np.isfinite(samples).all():
            self.cancel(live.id)
            return [
                Failed(id=live.id, code="GENERATION_ERROR", message="The model made no usable audio for this text.")
            ]
        return [Audio(id=live.id, pcm=samples.astype("<f4", copy=False).tobytes())] if samples.size else []

    def _ending(self, live: Live) -> list[Event]:
        if not live.rendering.done or self._live.get(live.id) is not live:
            return []
        # The cap on its audio may have been reached before the model's end.
        self.cancel(live.id)
        stats = Stats(
            audio_seconds=live.rendering.samples_sent / SAMPLE_RATE,
            compute_seconds=live.compute_seconds,
            tokens=tuple(live.tokens) if live.returns_tokens else None,
        )
        return [Done(id=live.id, stats=stats)]

    def _rendering(
        self, voice: Conditionals, seed: int, options: RenderOptions, closing: tuple[int, ...] = ()
    ) -> Rendering:
        watermarker = self._parts.watermarker
        return Rendering(
            voice=voice,
            vocoder=self._parts.s3gen.vocoder,
            noise=Noise(seed),
            options=options,
            marker=watermarker.stream() if watermarker else None,
            closing=closing,
        )

    def _voice(self, name: str | None) -> tuple[Conditionals, str]:
        """A voice and the key it is cached under."""
        if name is None or name == BUILTIN_VOICE:
            if self._parts.builtin is None:
                message = f"voice: {self.model.name}'s weights came without a voice of their own; upload a clip."
                raise RequestError("INVALID_PARAMETER", message)
            return self._parts.builtin, BUILTIN_VOICE
        voice = self._parts.voices.get(name)
        if voice is None:
            raise RequestError("VOICE_NOT_ENROLLED", "voice: this clip is not enrolled for the model.")
        return voice, name

    def _language(self, tag: str | None) -> str | None:
        languages = self.model.languages
        language = languages[0] if tag is None else re.split("[-_]", tag.lower())[0]
        if language not in languages:
            known = ", ".join(languages)
            raise RequestError("INVALID_PARAMETER", f"language_id: {self.model.name} speaks {known}, not {tag!r}.")
        return language


def _check_speed(speed: float) -> None:
    if not SPEED_MIN <= speed <= SPEED_MAX:
        raise RequestError("INVALID_PARAMETER", f"speed: Chatterbox speaks between {SPEED_MIN} and {SPEED_MAX}.")


def _samples(seconds: float) -> int:
    return max(1, int(min(seconds, 86_400.0) * SAMPLE_RATE))


def _clip(command: Enroll | Convert) -> Samples:
    return np.frombuffer(command.pcm, "<f4")
