"""This engine, part by part and as a whole."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .._core import Audio, Done, Failed, LoadSettings, Params, S3GenSettings, Speak
from ..chatterbox.checkpoint import locate, locate_mean_flow
from ..chatterbox.interfaces import MelJob
from ..chatterbox.model_spec import ModelParts
from ..chatterbox.runner import BUILTIN_VOICE, ChatterboxRunner
from ..chatterbox.s3gen.model import S3Gen
from ..chatterbox.s3gen.noise import Noise
from ..chatterbox.speech_tokens import FRAMES_PER_TOKEN, SAMPLE_RATE, TOKENS_PER_SECOND
from ..chatterbox.t3.config import Prompt
from ..engine import Engine
from ..loading import load
from .distance import compare, decibels, distributions
from .machine import count_work
from .process import memory_mb
from .subjects import Clock, Unavailable, mel_frames, sentence, speech_tokens

__all__ = ["Ours"]

_ATTEMPTS = 5
"""Random weights stop by themselves once in some thousand tokens: an utterance that is too short is spoken again."""
_KEPT_STEPS = 2
"""Steps after which the memory of a batch of this size has been taken."""

Samples = list[float]


class Ours:
    """An engine with one model, loaded as the server loads it."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        loaded = LoadSettings(**{**settings, "s3gen": S3GenSettings(**settings["s3gen"])})
        model = loaded.models[0]
        self._engine: Engine = load(loaded)
        self._model = model
        self._clock = Clock(self._engine.device)
        self._next_id = 0
        folder, version = loaded.model_path, loaded.multilingual_version
        self._files = locate(model, model_path=folder, multilingual_version=version, progress=_quietly)
        if loaded.s3gen.decoder == "meanflow":
            s3gen = locate_mean_flow(model_path=folder, progress=_quietly)
            self._files = dataclasses.replace(self._files, s3gen=s3gen)
        self._reference_seconds = loaded.s3gen.prompt_seconds or math.inf

    @property
    def _parts(self) -> ModelParts:
        runner = self._engine.runners[self._model]
        if not isinstance(runner, ChatterboxRunner):
            raise Unavailable(f"{type(runner).__name__} has no parts that could be measured one by one")
        if runner.parts.builtin is None:
            raise Unavailable(f"{self._model}'s checkpoint has no voice of its own (conds.pt)")
        return runner.parts

    def work(self, characters: int) -> dict[str, int]:
        """The model's operations, as ``work.Work``."""
        parts, prompt = self._parts, self._prompt(characters)
        reference = min(len(prompt.voice.s3_tokens), self._reference_seconds * TOKENS_PER_SECOND)
        return dataclasses.asdict(
            count_work(
                self._files,
                parts.decoder.t3.config,
                t3_tokens=len(prompt.voice.t3_tokens),
                reference=int(reference),
                text=len(prompt.text_ids),
            )
        )

    def decode(self, requests: int, steps: int, characters: int) -> Samples:
        """Milliseconds of each of ``steps`` steps of T3 with so many requests; their mean on a GPU, which is not to be
        waited for after each of them."""
        decoder = self._parts.decoder
        block = steps if self._clock.asynchronous else 1
        added: list[int] = []
        times: Samples = []
        warm = 0
        while len(times) * block < steps:
            # Now and then one of them stops.
            for _ in range(requests - decoder.slots_used - decoder.waiting):
                added += self._ids(1)
                self._add(added[-1], characters, 2000)
            if decoder.waiting or warm < _KEPT_STEPS:
                warm += not decoder.waiting
                decoder.step()
                continue
            started = self._clock.now()
            for _ in range(block):
                decoder.step()
            times.append(1000 * (self._clock.now() - started) / block)
        for request_id in added:
            decoder.drop(request_id)
        return times

    def prefill(self, characters: int, *, warm: bool) -> Samples:
        """Milliseconds until the first token of a request is there, of a voice that has been used before or not."""
        decoder = self._parts.decoder
        (request_id,) = self._ids(1)
        if not warm:
            decoder.forget_voice(BUILTIN_VOICE)
        self._add(request_id, characters, 1)
        return [self._clock.milliseconds(decoder.step)]

    def flow(self, tokens: int) -> dict[str, Samples]:
        """Milliseconds for the mel of so many tokens, and of the Euler steps after the first."""
        steps = self._parts.mel_decoder.begin([self._job(tokens, seed=1)])
        marks = [self._clock.now()]
        with torch.inference_mode():
            for _ in steps:
                marks.append(self._clock.now())
        marks.append(self._clock.now())
        evaluations = [1000 * (after - before) for before, after in itertools.pairwise(marks[1:-1])]
        return {"total": [1000 * (marks[-1] - marks[0])], "evaluation": evaluations}

    def vocode(self, seconds: float) -> Samples:
        """Milliseconds for the samples of so many seconds of mel."""
        vocoder, mel = self._s3gen.vocoder, mel_frames(seconds)
        return [self._clock.milliseconds(lambda: vocoder.whole(mel, Noise(1)))]

    def watermark(self, seconds: float) -> Samples:
        """Milliseconds to mark so many seconds."""
        watermarker = self._parts.watermarker
        if watermarker is None:
            raise Unavailable("the watermark is off")
        samples = np.random.default_rng(3).normal(0, 0.1, round(SAMPLE_RATE * seconds)).astype(np.float32)
        return [self._clock.milliseconds(lambda: watermarker.whole(samples))]

    def utterance(self, seconds: float) -> Samples:
        """Milliseconds for a whole utterance of so many seconds, delivered at its end."""
        for seed in range(_ATTEMPTS):
            started = self._clock.now()
            (done,) = self._spoken([self._speak(seconds, seed, stream=False)])
            elapsed = 1000 * (self._clock.now() - started)
            if _whole(done, seconds):
                return [elapsed]
        raise Unavailable(f"the model stops before {seconds:g} s")

    def streamed(self, seconds: float) -> dict[str, Samples]:
        """Milliseconds to the first audio of an utterance of so many seconds, and to its last if nothing waits for a
        listener. Its voice has been used before."""
        speak = self._speak(seconds, 0, stream=True)
        first: Samples = []
        started = self._clock.now()
        for event in self._events([speak]):
            if isinstance(event, Failed):
                raise Unavailable(event.message)
            if isinstance(event, Audio) and not first:
                first.append(1000 * (time.perf_counter() - started))
        return {"first": first, "whole": [1000 * (self._clock.now() - started)]}

    def together(self, requests: int, seconds: float, *, at_once: bool) -> dict[str, float]:
        """How long so many whole utterances take at once, or one after the other, and how much audio they are."""
        speaks = [self._speak(seconds, seed, stream=False) for seed in range(requests)]
        started = self._clock.now()
        batches = [speaks] if at_once else [[speak] for speak in speaks]
        spoken = [done for batch in batches for done in self._spoken(batch)]
        elapsed = self._clock.now() - started
        return {"seconds": elapsed, "audio_seconds": sum(done.stats.audio_seconds for done in spoken)}

    def length(self, seconds: float) -> dict[str, float]:
        """What an utterance of so many seconds costs that is streamed, and the process's memory after it."""
        started = self._clock.now()
        (done,) = self._spoken([self._speak(seconds, 0, stream=True)])
        elapsed = self._clock.now() - started
        return {"seconds": elapsed, "audio_seconds": done.stats.audio_seconds, "memory_mb": memory_mb()}

    def distance(self, tokens: int, reference: str, *, write: bool) -> dict[str, float]:
        """How far this precision is from the one that wrote ``reference``, a file; ``write`` writes it.

        T3 is made to say the reference's tokens: mean Kullback-Leibler divergence of its distributions in nats (before
        any filter), and how often the likeliest token is the same. S3Gen is given the same tokens and noise: mean
        absolute difference of its log mel in dB, and the same for another noise in ``write``'s own precision, as a
        yardstick.
        """
        parts, prompt = self._parts, self._prompt(60)
        mel = self._mel(tokens, seed=1)
        if write:
            spoken, probabilities = distributions(parts, prompt, tokens)
            with Path(reference).open("wb") as file:
                np.savez(file, tokens=spoken, probabilities=probabilities, mel=mel, other=self._mel(tokens, seed=2))
            return {}
        with np.load(reference) as saved:
            _, probabilities = distributions(parts, prompt, tokens, forced=saved["tokens"].tolist())
            return compare(saved["probabilities"], probabilities) | {
                "mel_db": decibels(mel, saved["mel"]),
                "other_seed_db": decibels(saved["other"], saved["mel"]),
            }

    @property
    def _s3gen(self) -> S3Gen:
        if not isinstance(self._parts.mel_decoder, S3Gen):
            raise Unavailable("the vocoder is inside a graph")
        return self._parts.mel_decoder

    def _mel(self, tokens: int, *, seed: int) -> Any:
        return self._s3gen.mels([self._job(tokens, seed=seed)])[0].cpu().numpy()

    def _job(self, tokens: int, *, seed: int) -> MelJob:
        voice, noise = self._parts.builtin, Noise(seed)
        assert voice is not None
        return MelJob(
            voice=voice,
            tokens=speech_tokens(tokens),
            noise=noise.mel(0, FRAMES_PER_TOKEN * tokens),
            prompt_noise=noise.prompt(voice.s3_mel.shape[0]),
            final=True,
        )

    def _ids(self, count: int) -> range:
        self._next_id += count
        return range(self._next_id - count, self._next_id)

    def _prompt(self, characters: int) -> Prompt:
        parts = self._parts
        assert parts.builtin is not None
        return Prompt(
            text_ids=parts.text.encode(sentence(characters), parts.variant.languages[0]),
            voice=parts.builtin,
            voice_key=BUILTIN_VOICE,
            exaggeration=parts.variant.exaggeration,
        )

    def _add(self, request_id: int, characters: int, most: int) -> None:
        sampling = self._parts.variant.resolve(Params(), seed=request_id)
        self._parts.decoder.add(request_id, self._prompt(characters), sampling, most)

    def _speak(self, seconds: float, seed: int, *, stream: bool) -> Speak:
        (request_id,) = self._ids(1)
        return Speak(
            id=request_id,
            model=self._model,
            # Too much text for the time, so that no model is done before.
            text=sentence(round(30 * seconds)),
            seed=seed,
            max_audio_seconds=seconds,
            stream=stream,
            return_tokens=True,
        )

    def _events(self, speaks: Sequence[Speak]) -> Iterator[object]:
        yield from self._engine.step(speaks)
        while not self._engine.idle:
            yield from self._engine.step([])

    def _spoken(self, speaks: Sequence[Speak]) -> list[Done]:
        finished: list[Done] = []
        for event in self._events(speaks):
            if isinstance(event, Failed):
                raise Unavailable(event.message)
            if isinstance(event, Done):
                finished.append(event)
        return finished


def _quietly(what: str, done: int, total: int) -> None:
    """Discards the progress of downloads."""


def _whole(done: Done, seconds: float) -> bool:
    """Whether the utterance has as many tokens as were allowed."""
    return len(done.stats.tokens or ()) >= round(TOKENS_PER_SECOND * seconds)
