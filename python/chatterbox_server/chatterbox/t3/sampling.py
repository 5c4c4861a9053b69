"""From logits to the next speech token, for a whole batch with each request's own settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .random import exponentials

__all__ = ["Draw", "Sampler", "Sampling"]

LEAST_TEMPERATURE = 1e-6
"""Below this, logits would overflow; the likeliest token is what remains anyway."""

Draw = Callable[[Tensor, Sequence[int]], Tensor]
"""Picks ids ``[rows]`` from probabilities ``[rows, ids]`` of the requests with the given numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are chosen."""

    temperature: float
    """At least 0. 0 (below ``LEAST_TEMPERATURE``) takes the likeliest token after the penalty, whatever is filtered."""
    top_p: float
    """0 to 1; 1 = off."""
    min_p: float
    """0 to 1; 0 = off. Upstream's GPT-2 models have none."""
    top_k: int
    """At least 0; 0 = off. Upstream's Llama models have none."""
    repetition_penalty: float
    """Above 0; 1 = off."""
    cfg_weight: float
    """Guidance away from the prompt without text; 0 = off, which saves half of the work. GPT-2 models have none."""
    seed: int


class Sampler:
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

    def guide(self, logits: Tensor, blind: Tensor) -> Tensor:
        """Lead ``[requests, ids]`` away from the logits without text; for a request without guidance both are equal."""
        return logits + self._columns[4] * (logits - blind) if self._guidance else logits

    def choose(
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
        ids = _race(probabilities, states) if draw is None else draw(probabilities, requests)
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


def _race(probabilities: Tensor, states: Tensor) -> Tensor:
    """Draw by letting exponential clocks race, as ``torch.multinomial`` does.

    Rounding that moves a probability by a millionth changes one draw in a million. In the cumulative distribution the
    same would move the bounds of thousands of ids, and with them far more draws, so that a request's tokens would not
    be the same in another batch.
    """
    ids = torch.arange(probabilities.shape[-1], device=probabilities.device)
    return (probabilities / exponentials(states, ids)).argmax(-1)
