"""A runner whose networks do nothing but take time, by a clock that stands still otherwise."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from chatterbox_server._core import Audio, Cancel, Done, Enroll, Model
from chatterbox_server.chatterbox.interfaces import Samples, Slice
from chatterbox_server.chatterbox.model_spec import PROFILES, ModelParts, variant
from chatterbox_server.chatterbox.runner import ChatterboxRunner
from chatterbox_server.chatterbox.scheduler import RenderBatch
from chatterbox_server.chatterbox.speech_tokens import SAMPLE_RATE, TOKENS_PER_SECOND
from chatterbox_server.chatterbox.t3.decoder import Token
from chatterbox_server.model_runner import Event
from engine_helpers import speak
from torch import Tensor


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Decoder:
    """Gives every request that has a slot a token, as many to each as its text has letters."""

    clock: Clock
    seconds: float
    slots: int
    live: dict[int, int] = field(default_factory=dict)
    waiting: dict[int, int] = field(default_factory=dict)

    @property
    def full(self) -> bool:
        return len(self.live) == self.slots

    def holds(self, request_id: int) -> bool:
        return request_id in self.live

    def add(self, request_id: int, prompt: Any, sampling: Any, max_tokens: int) -> None:
        self.waiting[request_id] = len(prompt.text_ids)

    def drop(self, request_id: int) -> None:
        self.live.pop(request_id, None)
        self.waiting.pop(request_id, None)

    def step(self) -> list[Token]:
        while self.waiting and not self.full:
            first = next(iter(self.waiting))
            self.live[first] = self.waiting.pop(first)
        self.clock.now += self.seconds
        tokens = []
        for number in list(self.live):
            self.live[number] -= 1
            last = not self.live[number]
            # No loop, which would end it.
            tokens.append(Token(number, id=int(torch.randint(1000, ())), last=last))
            if last:
                del self.live[number]
        return tokens


@dataclass
class SliceDecoder:
    """Makes a token's worth of samples of each token. Holds nothing back."""

    def job(self, tokens: Sequence[int], part: Slice) -> int:
        return part.end - part.start

    def push(self, made: Tensor, part: Slice) -> Samples:
        return np.ones(made.shape[1] * SAMPLE_RATE // TOKENS_PER_SECOND, np.float32)


@dataclass
class MelDecoder:
    clock: Clock
    seconds: float
    steps: int

    def check_speed(self, speed: float) -> None:
        assert speed == 1.0

    def stream(self, voice: Any, seed: int, *, speed: float, crossfade_frames: int) -> SliceDecoder:
        return SliceDecoder()

    def begin(self, jobs: Sequence[int]) -> Generator[None, None, list[Tensor]]:
        for _ in range(self.steps):
            self.clock.now += self.seconds * len(jobs)
            yield
        return [torch.empty(80, tokens) for tokens in jobs]


@dataclass
class Preparer:
    """Prepares a clip in four stages."""

    clock: Clock
    seconds: float

    def prepare(self, pcm: Samples, rate: int) -> Iterator[None]:
        for _ in range(4):
            self.clock.now += self.seconds
            yield


@dataclass
class Playback:
    """What a request's listener got."""

    asked: float
    first: float = float("inf")
    plays_until: float = 0.0
    silence: float = 0.0
    """Seconds for which the listener had to wait in the middle."""
    tokens: int = 0
    ended: float = float("inf")


class TimedRunner:
    """Steps a runner, records each request's playback. ``decode``, ``render``, ``prepare``: seconds that steps take."""

    def __init__(
        self,
        *,
        decode: float = 0.02,
        render: float = 0.3,
        steps: int = 2,
        prepare: float = 0.4,
        slots: int = 8,
        together: int = 1,
        waiting_slices: int | None = None,
    ) -> None:
        self.clock = Clock()
        self.playbacks: dict[int, Playback] = {}
        self.decoder = Decoder(self.clock, decode, slots)
        mel_decoder = cast("Any", MelDecoder(self.clock, render, steps))
        render_batch = RenderBatch(mel_decoder, size=together, pauses=together == 1, clock=self.clock)
        model = Model(
            name="turbo",
            sample_rate=SAMPLE_RATE,
            can_clone=True,
            can_convert=True,
            languages=("en",),
            voices=("default",),
            tags=(),
            watermark=False,
        )
        parts = ModelParts(
            model=model,
            variant=replace(variant("turbo", "v2"), closing_silence=0),
            text=cast("Any", SimpleNamespace(encode=lambda text, language: [1] * len(text))),
            decoder=cast("Any", self.decoder),
            mel_decoder=mel_decoder,
            preparer=cast("Any", Preparer(self.clock, prepare)),
            voices=cast("Any", SimpleNamespace(get=lambda name: None)),
            builtin=cast("Any", SimpleNamespace(s3_tokens=torch.zeros(0))),
            watermarker=None,
            render_batch=render_batch,
            profile=PROFILES["balanced"],
            schedule=PROFILES["balanced"].schedule,
            clock=self.clock,
            waiting_slices=waiting_slices,
        )
        self.runner = ChatterboxRunner(parts)

    def ask(self, number: int, tokens: int, *, stream: bool = True, in_hand: float = 0.0) -> None:
        """A request for an utterance of so many tokens comes in."""
        self.playbacks[number] = Playback(self.clock.now)
        text = "a" * tokens
        given = speak(number, text, model="turbo", max_audio_seconds=60.0, stream=stream, in_hand_seconds=in_hand)
        self.runner.submit(given)

    def enroll(self, number: int) -> None:
        self.playbacks[number] = Playback(self.clock.now)
        self.runner.enroll(Enroll(id=number, voice="ab" * 32, model="turbo", pcm=b"\0" * 64, sample_rate=24_000))

    def cancel(self, number: int) -> None:
        self.runner.cancel(Cancel(id=number).id)

    def step(self) -> list[Event]:
        events = self.runner.step()
        for event in events:
            playback = self.playbacks[event.id]
            if isinstance(event, Audio):
                playback.first = min(playback.first, self.clock.now)
                playback.silence += max(0.0, self.clock.now - playback.plays_until) if playback.tokens else 0.0
                tokens = len(event.pcm) // 4 * TOKENS_PER_SECOND // SAMPLE_RATE
                playback.plays_until = max(playback.plays_until, self.clock.now) + tokens / TOKENS_PER_SECOND
                playback.tokens += tokens
            else:
                playback.ended = self.clock.now
                assert not isinstance(event, Done) or event.stats.compute_seconds > 0
        return events

    def run(self, until: float = float("inf")) -> None:
        """Work until a time, or until there is nothing to do."""
        while not self.runner.idle and self.clock.now < until:
            self.step()
        if self.runner.idle and until < float("inf"):
            self.clock.now = max(self.clock.now, until)
