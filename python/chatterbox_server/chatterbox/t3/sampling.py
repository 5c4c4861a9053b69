"""From logits to the next speech tokens of all live requests, each with its own settings and random numbers.

Random numbers depend on a seed and a place in its stream, and on nothing else. The generator is SplitMix64 (Steele, Lea
and Flood, 2014), whose n-th number is a function of n, so that a whole batch is drawn at once, with the same result on
any device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .config import SPEECH_IDS, START_SPEECH, Prompt

__all__ = [
    "DecodingRequest",
    "Draw",
    "NativeSampler",
    "Sampler",
    "Sampling",
    "SamplingBatch",
    "TorchSampler",
    "exponentials",
    "make_sampler",
    "mix",
    "step_state",
    "stream_start",
]


INCREMENT = 0x9E3779B97F4A7C15
FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27, 31)
WORD = 1 << 64
NUMBERS_PER_STEP = 8192
"""Steps lie this far apart in a seed's stream."""
BITS = 40
"""Of each word that are used: enough for numbers so small that they decide a draw for an unlikely token."""


def mix(states: Tensor) -> Tensor:
    """SplitMix64's output function, on the bits of int64."""
    for shift, factor in zip(SHIFTS, FACTORS, strict=False):
        states = (states ^ _shifted(states, shift)) * _signed(factor)
    return states ^ _shifted(states, SHIFTS[-1])


def stream_start(seed: int) -> int:
    """State before the first number of the stream of ``seed``, an int64. The seed's low 64 bits count."""
    # Mixed, or the streams of neighbouring seeds would soon hold the same numbers.
    return int(mix(torch.tensor(_signed(seed))))


def step_state(start: int, step: int) -> int:
    """State before the numbers that draw the ``step``-th token in the stream from ``start`` on."""
    return _signed(start + step * NUMBERS_PER_STEP * INCREMENT)


def exponentials(states: Tensor, ids: Tensor) -> Tensor:
    """Exponentially distributed numbers above 0, float32 ``[rows, ids]``, from ``step_state``'s ``[rows]``.

    Each is that of its id, whatever the other ``ids`` are.
    """
    words = mix(states[:, None] + (ids + 1) * _signed(INCREMENT))
    # Odd, so that none is 0; the nearest float32 may be 1, which gives infinity.
    odd = _shifted(words, 64 - BITS) * 2 + 1
    return -torch.log1p(-(odd.float() / 2 ** (BITS + 1)))


def _shifted(states: Tensor, count: int) -> Tensor:
    """To the right, with zeros from the left, which int64 by itself does not do."""
    return states >> count & (1 << 64 - count) - 1


def _signed(word: int) -> int:
    return (word + WORD // 2) % WORD - WORD // 2


LEAST_TEMPERATURE = 1e-6
"""Below this, logits would overflow; the likeliest token is what remains anyway."""

Draw = Callable[[Tensor, Sequence[int]], Tensor]
"""Picks ids ``[rows]`` from probabilities ``[rows, ids]`` of the requests with the given numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are sampled. Each parameter is named as in a request's ``Params``, beside ``seed``.

    What a model does not set is off.
    """

    temperature: float
    """At least 0. 0 (below ``LEAST_TEMPERATURE``) takes the likeliest token after the penalty, whatever is filtered."""
    top_p: float = 1.0
    """0 to 1; 1 = off."""
    min_p: float = 0.0
    """0 to 1; 0 = off. Upstream's GPT-2 models have none."""
    top_k: int = 0
    """At least 0; 0 = off. Upstream's Llama models have none."""
    repetition_penalty: float = 1.0
    """Above 0; 1 = off."""
    cfg_weight: float = 0.0
    """Guidance away from the prompt without text; 0 = off, which saves half of the work. GPT-2 models have none."""
    seed: int


class SamplingBatch:
    """The settings of a batch of requests as vectors. ``T3Sampler`` does the same on a CPU.

    Keeps to upstream's order. Llama (``t3.py`` ``inference``): guidance, repetition penalty, temperature, min-p, top-p.
    GPT-2 (``inference_turbo``): temperature, top-k, top-p, and the penalty last, on what the filters have left. What
    upstream lacks stands before top-p: min-p and top-k, which do not depend on each other's order.
    """

    def __init__(self, settings: Sequence[Sampling], *, penalty_last: bool, device: torch.device) -> None:
        self._penalty_last = penalty_last
        self._greedy = [each.temperature < LEAST_TEMPERATURE for each in settings]
        free = [each for each in settings if each.temperature >= LEAST_TEMPERATURE]
        self._min_p = any(each.min_p > 0 for each in free)
        self._top_p = any(each.top_p < 1 for each in free)
        self._penalty = any(each.repetition_penalty != 1 for each in settings)
        self._guidance = any(each.cfg_weight != 0 for each in settings)
        self._largest_k = max((each.top_k for each in free), default=0)
        self._counts = torch.tensor(
            [0 if greedy else each.top_k for each, greedy in zip(settings, self._greedy, strict=True)], device=device
        )[:, None]
        # The complement of top-p is taken in double precision, as upstream does.
        table = torch.tensor(
            [
                (
                    1.0 if greedy else each.temperature,
                    0.0 if greedy else each.min_p,
                    0.0 if greedy else 1.0 - each.top_p,
                    each.repetition_penalty,
                    each.cfg_weight,
                    float(greedy),
                )
                for each, greedy in zip(settings, self._greedy, strict=True)
            ]
        )
        self._columns = table.to(device).t()[:, :, None]

    def apply_cfg(self, logits: Tensor, unconditional: Tensor) -> Tensor:
        """Lead ``[requests, ids]`` away from the logits without text, equal for a request without guidance."""
        return logits + self._columns[4] * (logits - unconditional) if self._guidance else logits

    def sample(
        self, logits: Tensor, seen: Tensor, states: Tensor, requests: Sequence[int], draw: Draw | None
    ) -> Tensor:
        """The next ids ``[requests]``.

        ``seen`` is a bool ``[requests, ids]`` of what the penalty falls on, ``states`` the random streams' places
        ``[requests]``, which count for nothing where there is a ``draw``.
        """
        logits = self._process(logits, seen)
        if all(self._greedy):
            return logits.argmax(-1)
        probabilities = logits.softmax(-1)
        ids = _exponential_race(probabilities, states) if draw is None else draw(probabilities, requests)
        if not any(self._greedy):
            return ids
        return torch.where(self._columns[5, :, 0] > 0, logits.argmax(-1), ids)

    def _process(self, logits: Tensor, seen: Tensor) -> Tensor:
        if not self._penalty_last:
            logits = self._penalize(logits, seen)
        logits = logits / self._columns[0]
        if self._min_p:
            probabilities = logits.softmax(-1)
            least = self._columns[1] * probabilities.amax(-1, keepdim=True)
            logits = logits.masked_fill(probabilities < least, float("-inf"))
        if self._largest_k:
            best = logits.topk(min(self._largest_k, logits.shape[-1])).values
            place = self._counts.clamp(1, best.shape[-1]) - 1
            least = best.gather(-1, place).masked_fill(self._counts == 0, float("-inf"))
            logits = logits.masked_fill(logits < least, float("-inf"))
        if self._top_p:
            ascending, order = logits.sort(-1)
            unlikely = ascending.softmax(-1).cumsum(-1) <= self._columns[2]
            unlikely[:, -1] = False
            logits = logits.scatter(-1, order, ascending.masked_fill(unlikely, float("-inf")))
        if self._penalty_last:
            logits = self._penalize(logits, seen)
        return logits

    def _penalize(self, logits: Tensor, seen: Tensor) -> Tensor:
        if not self._penalty:
            return logits
        penalty = self._columns[3]
        return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def _exponential_race(probabilities: Tensor, states: Tensor) -> Tensor:
    """Draw by letting exponential clocks race, as ``torch.multinomial`` does.

    Rounding that moves a probability by a millionth changes one draw in a million. In the cumulative distribution the
    same would move the bounds of thousands of ids, and with them far more draws, so that a request's tokens would not
    be the same in another batch.
    """
    ids = torch.arange(probabilities.shape[-1], device=probabilities.device)
    return (probabilities / exponentials(states, ids)).argmax(-1)


@dataclass(slots=True, kw_only=True, eq=False)
class DecodingRequest:
    """A request that is being decoded."""

    request_id: int
    prompt: Prompt
    sampling: Sampling
    max_tokens: int
    rows: list[int]
    """In the cache: with text and, for guidance, without."""
    stream: int
    """Start of its random numbers."""
    length: int = 0
    """Positions that the cache holds in each row."""
    generated: int = 0
    """Tokens sampled so far; the last one is not in the cache."""
    slot: int = -1


class Sampler(Protocol):
    """Remembers which tokens the request in each slot has had."""

    def join(self, live: DecodingRequest) -> None:
        """Begin with ``live``, which has a slot and no tokens."""

    def set_requests(self, lives: Sequence[DecodingRequest]) -> None:
        """Sample for ``lives`` from now on, with the rows that they have now."""

    def sample(self, logits: Tensor) -> Tensor:
        """The next token ids ``[requests]``, on the device, from the logits ``[rows or more, ids]``."""


def make_sampler(latest: Tensor, *, penalty_last: bool, draw: Draw | None) -> Sampler:
    """One that writes each choice to ``latest`` ``[slots]`` too. ``draw`` replaces the seeded draw."""
    if latest.device.type == "cpu" and draw is None:
        return NativeSampler(latest, penalty_last=penalty_last)
    return TorchSampler(latest, penalty_last=penalty_last, draw=draw)


class NativeSampler:
    """On a CPU, where most of a choice by torch would be calls. The same tokens."""

    def __init__(self, latest: Tensor, *, penalty_last: bool) -> None:
        from ..._core import T3Sampler  # not at the top: what is on a GPU is there without it

        self._latest = latest.numpy()
        self._sampler = T3Sampler(len(latest), SPEECH_IDS, START_SPEECH, penalty_last, LEAST_TEMPERATURE)
        self._lives: Sequence[DecodingRequest] = ()

    def join(self, live: DecodingRequest) -> None:
        self._sampler.join(live.slot, live.sampling, live.stream)

    def set_requests(self, lives: Sequence[DecodingRequest]) -> None:
        self._lives = lives

    def sample(self, logits: Tensor) -> Tensor:
        batch = [(live.slot, live.rows[0], live.rows[-1], live.generated) for live in self._lives]
        ids = self._sampler.sample(logits.contiguous().numpy(), batch)
        for live, sampled in zip(self._lives, ids, strict=True):
            self._latest[live.slot] = sampled
        return torch.tensor(ids)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Indices on the device, good until a request joins or leaves."""

    slots: Tensor
    """Slot of each request, ``[requests]``."""
    rows: Tensor
    """Row with text of each request."""
    unconditional_rows: Tensor
    """Row without text; the one with text where there is none."""
    settings: SamplingBatch


class TorchSampler:
    """On any device, all requests at once."""

    def __init__(self, latest: Tensor, *, penalty_last: bool, draw: Draw | None) -> None:
        self._latest = latest
        self._penalty_last = penalty_last
        self._draw = draw
        self._device = latest.device
        # By slot: what the repetition penalty falls on.
        self._seen = torch.zeros(len(latest), SPEECH_IDS, dtype=torch.bool, device=latest.device)
        self._lives: Sequence[DecodingRequest] = ()
        self._layout: _Layout | None = None

    def join(self, live: DecodingRequest) -> None:
        self._seen[live.slot] = False
        self._seen[live.slot, START_SPEECH] = True

    def set_requests(self, lives: Sequence[DecodingRequest]) -> None:
        self._lives, self._layout = lives, None

    def sample(self, logits: Tensor) -> Tensor:
        layout, lives = self._laid_out(), self._lives
        states = self._index([step_state(live.stream, live.generated) for live in lives])
        guided = layout.settings.apply_cfg(logits[layout.rows], logits[layout.unconditional_rows])
        requests = [live.request_id for live in lives]
        ids = layout.settings.sample(guided, self._seen[layout.slots], states, requests, self._draw)
        if self._penalty_last:
            # Upstream's GPT-2 loop penalises the start token before the first token, and only then.
            begun = [live.slot for live in lives if not live.generated]
            if begun:
                self._seen[begun, START_SPEECH] = False
        self._seen[layout.slots, ids] = True
        self._latest[layout.slots] = ids
        return ids

    def _laid_out(self) -> _Layout:
        if self._layout is None:
            lives = self._lives
            settings = [live.sampling for live in lives]
            self._layout = _Layout(
                slots=self._index([live.slot for live in lives]),
                rows=self._index([live.rows[0] for live in lives]),
                unconditional_rows=self._index([live.rows[-1] for live in lives]),
                settings=SamplingBatch(settings, penalty_last=self._penalty_last, device=self._device),
            )
        return self._layout

    def _index(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64).to(self._device, non_blocking=True)
