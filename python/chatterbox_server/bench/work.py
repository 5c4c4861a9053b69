"""A model's least operations and memory traffic, and the time that they take at a machine's measured rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["BYTES", "Floors", "Rates", "Work"]

BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1.0, "int4": 0.5}
"""Of a weight, by precision; scales of groups not counted."""
_FRAMES_PER_TOKEN = 2
_TOKENS_PER_SECOND = 25
_FRAMES_PER_SECOND = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """The best that a device was seen to do."""

    read_bytes: float
    """Bytes read per second."""
    flops: float
    """Floating point operations per second, in products of large matrices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A model's operations, counted from the shapes of its weights."""

    layer_weights: int
    """T3's weights that every token passes, the head apart."""
    head_weights: int
    """T3's head, as far as its ids are speech."""
    values_per_position: int
    """Keys and values that a position of a row adds to the cache."""
    rows: int
    """Rows of a request: 2 with guidance."""
    prefix: int
    """Positions that depend on the voice alone."""
    prompt: int
    """Positions of the text and what is around it."""
    reference: int
    """Tokens of S3Gen's reference, which come before those that are spoken."""
    encoder_per_token: int
    """Products of S3Gen's encoder, by token."""
    estimator_per_frame: int
    """Products of one evaluation of the estimator, by frame and row."""
    estimator_attention: int
    """Layers of the estimator times channels: products of attention by pair of frames, half of them."""
    estimator_rows: int
    evaluations: int
    """Of the estimator, for one piece of audio."""
    vocoder_per_frame: int
    """Products of the pitch predictor and the generator, by frame."""


@dataclass(frozen=True, slots=True)
class Floors:
    """Milliseconds below which no implementation gets that computes sums as they are written, by what is measured.

    ``t3`` is T3's precision. What is bound by memory is counted in bytes, what is bound by computing in floating point
    operations at the rate of fp32 products, which reduced precisions may exceed. The vocoder may get below its own: on
    a CPU this package's convolutions take half of the products.
    """

    work: Work
    rates: Rates
    t3: str

    def decode(self, requests: int, steps: int) -> float:
        """A step of T3, the middle one of ``steps``: every weight is read once, and all that the cache holds.

        What depends on the voice alone is there once, however many requests have that voice.
        """
        work = self.work
        weights = (work.layer_weights + work.head_weights) * BYTES[self.t3]
        rows = requests * work.rows
        positions = work.prefix + rows * (work.prompt + steps // 2)
        cache = positions * work.values_per_position * (4 if self.t3 == "fp32" else 2)
        products = rows * (work.layer_weights + work.head_weights)
        return self._slower(weights + cache, products)

    def prefill(self, *, warm: bool) -> float:
        """A request's prompt, and its voice's unless that is known."""
        work = self.work
        positions = work.rows * work.prompt + (0 if warm else work.prefix)
        weights = (work.layer_weights + work.head_weights) * BYTES[self.t3]
        return self._slower(weights, positions * work.layer_weights + work.rows * work.head_weights)

    def evaluation(self, tokens: int) -> float:
        """One evaluation of S3Gen's estimator for so many tokens behind the reference."""
        return self._slower(0, self._evaluation(tokens))

    def flow(self, tokens: int) -> float:
        """All that S3Gen does for the mel of so many tokens."""
        encoder = (self.work.reference + tokens) * self.work.encoder_per_token
        return self._slower(0, encoder + self.work.evaluations * self._evaluation(tokens))

    def vocode(self, seconds: float) -> float:
        return self._slower(0, round(seconds * _FRAMES_PER_SECOND) * self.work.vocoder_per_frame)

    def utterance(self, seconds: float) -> float:
        """All of the above, one after the other, of a voice that is known."""
        tokens = round(seconds * _TOKENS_PER_SECOND)
        decoding = tokens * self.decode(1, tokens)
        return self.prefill(warm=True) + decoding + self.flow(tokens) + self.vocode(seconds)

    def _evaluation(self, tokens: int) -> int:
        work = self.work
        frames = _FRAMES_PER_TOKEN * (work.reference + tokens)
        return work.estimator_rows * frames * (work.estimator_per_frame + 2 * frames * work.estimator_attention)

    def _slower(self, read: float, products: float) -> float:
        """Of reading so many bytes and of so many multiplications and additions."""
        return 1000 * max(read / self.rates.read_bytes, 2 * products / self.rates.flops)

    @classmethod
    def of(cls, work: Mapping[str, int], rates: Mapping[str, float], t3: str) -> Floors:
        return cls(Work(**work), Rates(**rates), t3)
