"""Upstream's package, part by part and as a whole, with no change but a limit on what it says."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import upstream_package
from .subjects import Clock, Unavailable, mel_frames, sentence, speech_tokens

__all__ = ["Upstream"]

_STOP = 6562
_NEVER = -1e4
"""A logit so low that its token is not drawn. Not minus infinity, which guidance would turn into a NaN."""

Samples = list[float]


def _never_stop() -> None:
    """Let the multilingual model's analyzer, which ends speech that it does not like, look and not end it."""
    from chatterbox.models.t3 import t3

    class Patient(t3.AlignmentStreamAnalyzer):  # type: ignore[misc]
        def step(self, logits: torch.Tensor, next_token: int | None = None) -> torch.Tensor:
            looked: torch.Tensor = super().step(logits, next_token=next_token)
            looked[..., _STOP:] = _NEVER
            return looked

    t3.AlignmentStreamAnalyzer = Patient


class Upstream:
    """One of upstream's models, made to speak a given number of tokens."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._kind: str = settings["models"][0]
        self._device = "cuda" if settings["device"] == "auto" and torch.cuda.is_available() else settings["device"]
        self._device = "cpu" if self._device == "auto" else self._device
        if settings["threads"]:
            torch.set_num_threads(settings["threads"])
        if settings["tiny"]:
            upstream_package.shrink()
        self._model = upstream_package.load(self._kind, Path(settings["checkpoint"]), self._device)
        if self._model.conds is None:
            raise Unavailable(f"{self._kind}'s checkpoint has no voice of its own (conds.pt)")
        self._clock = Clock(self._device)
        if self._kind == "multilingual":
            _never_stop()
        self._llama = self._kind in ("standard", "multilingual")
        self._language = {"language_id": "en"} if self._kind == "multilingual" else {}
        self._decoded: list[float] = []
        self._model.t3.speech_head.register_forward_hook(self._note)
        self._evaluated: list[float] = []
        estimator = self._model.s3gen.flow.decoder.estimator
        estimator.forward = self._timed(estimator.forward, self._evaluated)

    def decode(self, steps: int, characters: int) -> dict[str, Samples]:
        """Milliseconds until the first token's logits are there, and of each of ``steps`` steps after that."""
        started = self._clock.now()
        self._decoded.clear()
        self._speak(characters, steps + 1, self._decode_only)
        marks = self._decoded[: steps + 1]
        times = [1000 * (after - before) for before, after in itertools.pairwise(marks)]
        return {"prefill": [1000 * (marks[0] - started)], "decode": times}

    def flow(self, tokens: int) -> dict[str, Samples]:
        """Milliseconds for the mel of so many tokens, and of the estimator's evaluations."""
        self._evaluated.clear()
        spoken = speech_tokens(tokens).to(self._device)
        s3gen, voice = self._model.s3gen, self._model.conds.gen
        total = self._clock.milliseconds(lambda: s3gen.flow_inference(spoken, ref_dict=voice, finalize=True))
        return {"total": [total], "evaluation": [1000 * seconds for seconds in self._evaluated[1:]]}

    def vocode(self, seconds: float) -> Samples:
        """Milliseconds for the samples of so many seconds of mel."""
        mel = mel_frames(seconds)[None].to(self._device)
        s3gen = self._model.s3gen
        return [self._clock.milliseconds(lambda: s3gen.hift_inference(mel))]

    def watermark(self, seconds: float) -> Samples:
        """Milliseconds to mark so many seconds."""
        marker, rate = self._model.watermarker, self._model.sr
        samples = np.random.default_rng(3).normal(0, 0.1, round(rate * seconds)).astype(np.float32)
        return [self._clock.milliseconds(lambda: marker.apply_watermark(samples, sample_rate=rate))]

    def utterance(self, seconds: float) -> Samples:
        """Milliseconds for a whole utterance of so many seconds; there is no other."""
        tokens = round(25 * seconds)

        def generate(text: str) -> None:
            self._model.generate(text, **self._language)

        return [self._clock.milliseconds(lambda: self._speak(round(30 * seconds), tokens, generate))]

    def _speak(self, characters: int, tokens: int, speak: Callable[[str], object]) -> None:
        """Let ``speak`` say so many tokens, where upstream's limit is 1000."""
        t3 = self._model.t3
        turbo = ("inference_turbo", "max_gen_len", tokens - 1)
        name, limit, count = ("inference", "max_new_tokens", tokens) if self._llama else turbo
        whole = getattr(t3, name)
        setattr(t3, name, lambda *given, **named: whole(*given, **{**named, limit: count}))
        try:
            speak(sentence(characters))
        finally:
            delattr(t3, name)

    def _decode_only(self, text: str) -> None:
        """The part of ``generate`` up to the tokens, with its own defaults."""

        class Decoded(Exception):
            pass

        def stop(*_given: object, **_named: object) -> None:
            raise Decoded

        s3gen = self._model.s3gen
        s3gen.inference = stop
        try:
            with contextlib.suppress(Decoded):
                self._model.generate(text, **self._language)
        finally:
            del s3gen.inference

    def _note(self, _module: object, _inputs: object, logits: torch.Tensor) -> torch.Tensor:
        """When logits are there; and that they stop at nothing, nor at what upstream's S3Gen fails on."""
        self._decoded.append(self._clock.now())
        logits[..., _STOP:] = _NEVER
        return logits

    def _timed(self, work: Callable[..., Any], times: list[float]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            started = self._clock.now()
            answer = work(*given, **named)
            times.append(self._clock.now() - started)
            return answer

        return call
