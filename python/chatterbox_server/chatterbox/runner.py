"""A Chatterbox model and the requests that it is speaking."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from .._core import Audio, Convert, Done, Enroll, Enrolled, Failed, Model, Slicing, Speak, Stats
from ..model_runner import Event, RequestError, has_words
from .conditionals import Conditionals
from .device import memory_errors
from .interfaces import Samples
from .model_spec import ModelParts
from .rendering import Rendering, RenderOptions
from .scheduler import WHOLE_SECONDS, Deadline, LiveRequest, Preparation, Preparations
from .speech_tokens import SAMPLE_RATE, SILENCE, TOKENS_PER_SECOND, VALID, loop_start, token_limit
from .t3.config import STOP_SPEECH, Prompt

__all__ = ["BUILTIN_VOICE", "ChatterboxRunner"]


_LONGEST_SECONDS = 86_400.0
"""Keeps the number of samples finite."""


def _language_of(model: Model, tag: str | None) -> str | None:
    """The language of a BCP 47 tag, without its region. Raises ``RequestError`` if ``model`` does not speak it."""
    languages = model.languages
    language = languages[0] if tag is None else re.split("[-_]", tag.lower())[0]
    if language not in languages:
        known = ", ".join(languages)
        message = f"{model.name} speaks {known}, not {tag!r}."
        raise RequestError("INVALID_PARAMETER", message, field="language_id")
    return language


def _samples_in(seconds: float) -> int:
    """Samples of so much audio, at least one."""
    return max(1, int(min(seconds, _LONGEST_SECONDS) * SAMPLE_RATE))


def _clip_of(command: Enroll | Convert) -> Samples:
    """The clip's samples, at its own rate."""
    return np.frombuffer(command.pcm, "<f4")


BUILTIN_VOICE = "default"
"""Name of the voice that comes with the weights."""


class ChatterboxRunner:
    """One step does what the most urgent request needs next: it prepares a clip by one stage, decodes a token for all,
    or renders a slice.

    What is done when depends on time; what comes of it does not.
    """

    def __init__(self, parts: ModelParts) -> None:
        self._parts = parts
        self.model = parts.model
        self._live: dict[int, LiveRequest] = {}
        self._preparations = Preparations()
        self._unwanted: set[str] = set()
        """Voices that were forgotten while clips were being prepared: what comes of them is not kept."""

    @property
    def parts(self) -> ModelParts:
        """The runner's parts, to be measured one by one while it is idle."""
        return self._parts

    @property
    def idle(self) -> bool:
        return not self._live and self._preparations.idle

    @property
    def voice_cache_bytes(self) -> int:
        return self._parts.voices.nbytes + self._parts.decoder.prefix_bytes

    @memory_errors()
    def submit(self, speak: Speak) -> None:
        parts = self._parts
        parts.mel_decoder.check_speed(speak.params.speed)
        if not has_words(speak.text):
            raise RequestError("NOTHING_TO_SAY", "has no letter or digit to speak.", field="text")
        ids = parts.text.encode(speak.text, _language_of(self.model, speak.language))
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
            schedule=parts.schedule,
            stream=speak.stream,
            speed=speak.params.speed,
            max_samples=_samples_in(speak.max_audio_seconds),
        )
        # Faster speech takes more tokens for a second of audio.
        limit = token_limit(speak.text, speak.max_audio_seconds * speak.params.speed)
        closing = (SILENCE,) * parts.variant.closing_silence
        rendering = self._rendering(voice, speak.seed, options, closing)
        # The last thing that can fail: whatever the decoder has must be live.
        try:
            parts.decoder.add(speak.id, prompt, sampling, limit)
        except ValueError as error:
            raise RequestError("INVALID_PARAMETER", str(error), field="text") from error
        self._live[speak.id] = LiveRequest(
            id=speak.id,
            rendering=rendering,
            deadline=self._deadline(speak),
            returns_tokens=speak.return_tokens,
        )

    @memory_errors()
    def convert(self, command: Convert) -> None:
        voice, _ = self._voice(command.voice)
        options = RenderOptions(
            slicing=Slicing(),
            schedule=self._parts.schedule,
            stream=command.stream,
            speed=1.0,
            max_samples=_samples_in(command.max_audio_seconds),
        )

        due = self._due(stream=command.stream)

        def finish(tokens: Tensor) -> list[Event]:
            rendering = self._rendering(voice, command.seed, options)
            rendering.add(tokens.tolist())
            rendering.end()
            self._live[command.id] = LiveRequest(
                id=command.id, rendering=rendering, deadline=Deadline(due), decoding=False
            )
            return []

        stages = self._parts.preparer.tokens(_clip_of(command), command.sample_rate)
        self._preparations.add(Preparation(id=command.id, deadline=due, stages=stages, finish=finish))

    @memory_errors()
    def enroll(self, command: Enroll) -> None:
        voices = self._parts.voices

        def finish(made: Conditionals | None) -> list[Event]:
            voice = made or voices.get(command.voice)
            if made is not None and command.voice not in self._unwanted:
                voices.put(command.voice, made)
            size = 0 if voice is None else voice.nbytes
            return [Enrolled(id=command.id, voice=command.voice, model=self.model.name, cache_bytes=size)]

        if self._preparations.idle:
            self._unwanted.clear()
        self._unwanted.discard(command.voice)
        if command.portable is not None:
            voices.put(command.voice, self._parts.preparer.read_portable(command.portable))
        known = voices.get(command.voice) is not None
        stages = iter(()) if known else self._parts.preparer.prepare(_clip_of(command), command.sample_rate)
        # A listener may be waiting for this audio.
        due = self._due(stream=True)
        self._preparations.add(Preparation(id=command.id, deadline=due, stages=stages, finish=finish))

    def cancel(self, request_id: int) -> None:
        if self._live.pop(request_id, None) is not None:
            self._parts.decoder.drop(request_id)
            self._parts.render_batch.drop(request_id)
        self._preparations.drop(request_id)

    def forget(self, voice: str) -> None:
        if not self._preparations.idle:
            self._unwanted.add(voice)
        self._parts.voices.forget(voice)
        self._parts.decoder.forget_voice(voice)

    def release_caches(self) -> None:
        self._parts.decoder.release_caches()
        self._parts.preparer.release()

    def step(self) -> list[Event]:
        with torch.inference_mode(), memory_errors():
            urgent = self._most_urgent()
            preparations = self._preparations
            if not preparations.idle and (urgent is None or preparations.deadline <= urgent.deadline.at):
                return preparations.step(self._parts.clock)
            if urgent is None:
                return []
            rendered = urgent if urgent.rendering.due else self._most_backlogged()
            return self._decode() if rendered is None else self._render(rendered)

    def _most_urgent(self) -> LiveRequest | None:
        """The live request that is late first, of those that a step can bring on."""
        lives: Iterable[LiveRequest] = self._live.values()
        decoder = self._parts.decoder
        if decoder.full:
            # Decoding for a request that waits for a slot would delay others, whose audio may be about to run out.
            lives = [live for live in lives if not live.decoding or decoder.holds(live.id)]
        return min(lives, key=lambda live: live.deadline.at, default=None)

    def _most_backlogged(self) -> LiveRequest | None:
        """The request that is late first, of those with more slices to be rendered than may wait."""
        most = self._parts.waiting_slices
        if most is None:
            return None
        backlogged = (live for live in self._live.values() if live.rendering.waiting > most)
        return min(backlogged, key=lambda live: live.deadline.at, default=None)

    def _deadline(self, speak: Speak) -> Deadline:
        if speak.stream and speak.in_hand_seconds > 0:
            return Deadline(self._parts.clock() + speak.in_hand_seconds, playing=True)
        return Deadline(self._due(stream=speak.stream))

    def _due(self, *, stream: bool) -> float:
        """When a request that comes now is late."""
        return self._parts.clock() + (self._parts.profile.first_audio_seconds if stream else WHOLE_SECONDS)

    def _decode(self) -> list[Event]:
        started = self._parts.clock()
        events: list[Event] = []
        for token in self._parts.decoder.step():
            live = self._live[token.request_id]
            if token.id is not None:
                live.tokens.append(token.id)
                if token.id < VALID:
                    live.rendering.add([token.id])
            elif self._parts.variant.reports_stop:
                live.tokens.append(STOP_SPEECH)
            if token.last or self._loops(live):
                events += self._end_decoding(live)
        elapsed = self._parts.clock() - started
        for live in self._live.values():
            live.compute_seconds += elapsed if live.decoding else 0.0
        return events

    def _loops(self, live: LiveRequest) -> bool:
        """Whether ``live`` says the same thing over and over; it is dropped from the batch, and the loop from it."""
        if len(live.tokens) % TOKENS_PER_SECOND:
            return False
        start = loop_start(live.rendering.tokens)
        if start is None:
            return False
        live.rendering.truncate(start)
        self._parts.decoder.drop(live.id)
        return True

    def _end_decoding(self, live: LiveRequest) -> list[Event]:
        live.decoding = False
        if live.rendering.tokens:
            live.rendering.end()
            return []
        del self._live[live.id]
        message = "the model found nothing to say in it."
        return [Failed(id=live.id, code="NOTHING_TO_SAY", field="text", message=message)]

    def _render(self, urgent: LiveRequest) -> list[Event]:
        rendered = self._parts.render_batch.step(urgent, self._live.values())
        return [event for live, mel in rendered for event in (*self._audio_events(live, mel), *self._end_events(live))]

    def _audio_events(self, live: LiveRequest, mel: Tensor) -> list[Event]:
        samples = live.rendering.accept(mel)
        if not np.isfinite(samples).all():
            self.cancel(live.id)
            return [
                Failed(id=live.id, code="GENERATION_ERROR", message="The model made no usable audio for this text.")
            ]
        if not samples.size:
            return []
        if live.rendering.streamed:
            live.deadline.add_audio(samples.size / SAMPLE_RATE, self._parts.clock())
        return [Audio(id=live.id, pcm=samples.astype("<f4", copy=False).tobytes())]

    def _end_events(self, live: LiveRequest) -> list[Event]:
        if not live.rendering.done or self._live.get(live.id) is not live:
            return []
        # The cap on its audio may have been reached before the model's end.
        self.cancel(live.id)
        stats = Stats(
            audio_seconds=live.rendering.samples_sent / SAMPLE_RATE,
            compute_seconds=live.compute_seconds,
            tokens=live.tokens if live.returns_tokens else None,
        )
        return [Done(id=live.id, stats=stats)]

    def _rendering(
        self, voice: Conditionals, seed: int, options: RenderOptions, closing: tuple[int, ...] = ()
    ) -> Rendering:
        parts = self._parts
        marker = parts.watermarker.stream() if parts.watermarker else None
        return Rendering(parts.mel_decoder, voice, seed, options, marker=marker, closing=closing)

    def _voice(self, name: str | None) -> tuple[Conditionals, str]:
        """A voice and the key it is cached under."""
        if name is None or name == BUILTIN_VOICE:
            if self._parts.builtin is None:
                message = f"{self.model.name}'s weights came without a voice of their own; upload a clip."
                raise RequestError("INVALID_PARAMETER", message, field="voice")
            return self._parts.builtin, BUILTIN_VOICE
        voice = self._parts.voices.get(name)
        if voice is None:
            raise RequestError("VOICE_NOT_ENROLLED", "this clip is not enrolled for the model.", field="voice")
        return voice, name
