"""The decode step as CUDA graphs: one launch instead of hundreds.

A graph repeats its launches on the same addresses, so there is one for each of a few numbers of rows and of positions;
what differs between steps stands in tensors that are filled before. A step takes the smallest one that it fits.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from typing import Self

import torch
from torch import Tensor

from ..device import Capturer, Replay, compare, row_counts
from ..interfaces import AcousticModel
from .batch import Pending
from .cache import KeyValueCache, Span
from .config import SPEECH_IDS

__all__ = ["POSITIONS", "Graphs", "StaticStep"]


logger = logging.getLogger(__name__)

POSITIONS = (512, 768, 1024, 2048)
"""A step looks at one of these numbers of positions. Longer requests are decoded without graphs."""
LEAST_CAPACITY = 1024
"""With less room most requests would outgrow the fixed cache."""
MEMORY_SHARE = 0.5
"""Of the device's free memory, what the fixed cache may take. Other models and the vocoder need theirs."""


class StaticStep:
    """One token for each row, by the same launches whatever is in the tensors.

    ``inputs`` is int64 ``[4, rows]``: slots, tokens' numbers, lengths (below ``positions``), and the cache's rows that
    are written. The cache must be in its fixed space. Gives logits ``[rows, SPEECH_IDS]``.
    """

    def __init__(self, t3: AcousticModel, cache: KeyValueCache, latest: Tensor, inputs: Tensor, positions: int) -> None:
        self._t3 = t3
        self._cache = cache
        self._latest = latest
        self._inputs = inputs
        self._positions = positions

    def __call__(self) -> Tensor:
        slots, numbers, lengths, targets = self._inputs.unbind()
        span = Span.fixed_token(lengths, targets, self._positions, self._t3.dtype)
        hidden = self._t3.forward(self._t3.speech(self._latest[slots], numbers), self._cache, span)
        return self._t3.logits(hidden[:, 0])


class Graphs:
    """The captured steps of a decoder whose cache has ``positions`` in its fixed space.

    Raises ``RuntimeError`` if a captured step does not compute what the step itself does.
    """

    def __init__(
        self, t3: AcousticModel, cache: KeyValueCache, latest: Tensor, capturer: Capturer, positions: int
    ) -> None:
        self._cache = cache
        self._positions = [each for each in POSITIONS if each <= positions]
        self._rows = row_counts(cache.scratch_row)
        self._inputs = {rows: torch.zeros(4, rows, dtype=torch.int64, device=latest.device) for rows in self._rows}
        self._replays: dict[tuple[int, int], Replay] = {}
        check = _Check(t3, cache, latest)
        # The largest first, whose memory is enough for the others.
        for rows in reversed(self._rows):
            for count in reversed(self._positions):
                step = StaticStep(t3, cache, latest, self._inputs[rows], count)
                replay = capturer.capture(step)
                check(step, replay, self._inputs[rows], count)
                self._replays[rows, count] = replay

    @classmethod
    def prepare(cls, t3: AcousticModel, cache: KeyValueCache, latest: Tensor, capturer: Capturer) -> Self | None:
        """Fix the cache and capture all steps.

        ``None`` if there is too little memory or a capture fails, with the reason in the log and the cache as it was.
        """
        try:
            free = capturer.free_bytes()
            fitting = [each for each in POSITIONS if cache.fixed_bytes(each) <= MEMORY_SHARE * free]
            if not fitting or fitting[-1] < LEAST_CAPACITY:
                logger.warning(
                    "T3 decodes without CUDA graphs, which is slower: their cache for %d rows would take %.2f GiB, "
                    "more than half of the %.2f GiB of device memory that are free. Fewer slots take less.",
                    cache.scratch_row,
                    cache.fixed_bytes(LEAST_CAPACITY) / 2**30,
                    free / 2**30,
                )
                return None
            cache.fix(fitting[-1])
            graphs = cls(t3, cache, latest, capturer, fitting[-1])
        except Exception as error:
            # Whatever it is, speech without graphs is better than none.
            logger.warning("T3 decodes without CUDA graphs, which is slower: capturing them failed: %s", error)
            cache.unfix()
            return None
        cache.wipe()
        logger.info(
            "T3 decodes with %d CUDA graphs for up to %d rows of %d positions; their cache takes %.2f GiB.",
            len(graphs._replays),
            cache.scratch_row,
            fitting[-1],
            cache.nbytes / 2**30,
        )
        return graphs

    def step(self, pending: Pending) -> Tensor | None:
        """Logits ``[rows or more, SPEECH_IDS]``, which hold good until the next call.

        ``None`` if a row is too long: nothing is done then.
        """
        count, longest = len(pending.lengths), max(pending.lengths) + 1
        if not self._cache.in_place or longest > self._positions[-1]:
            return None
        rows = self._rows[bisect_left(self._rows, count)]
        positions = self._positions[bisect_left(self._positions, longest)]
        padding = [0] * (rows - count)
        # The rows that follow may be those of prompts just computed, so what is fed for padding is written elsewhere.
        targets = [*range(count), *[self._cache.scratch_row] * len(padding)]
        fed = ([*each, *padding] for each in (pending.slots, pending.numbers, pending.lengths))
        self._inputs[rows].copy_(torch.tensor([*fed, targets]), non_blocking=True)
        return self._replays[rows, positions]()


class _Check:
    """Compares captured steps with the steps themselves, on a cache and inputs drawn at random.

    Leaves random numbers in all that it is given. In ``latest`` they do no harm: a slot is written before it counts.
    """

    def __init__(self, t3: AcousticModel, cache: KeyValueCache, latest: Tensor) -> None:
        self._config = t3.config
        self._slots = len(latest)
        self._dtype = t3.dtype
        self._random = torch.Generator().manual_seed(0)
        random_on_device = torch.Generator(latest.device).manual_seed(0)
        for tensor in (*cache.keys, *cache.values):
            tensor.normal_(generator=random_on_device)
        latest.copy_(self._below(SPEECH_IDS, self._slots))

    def __call__(self, step: Replay, replay: Replay, inputs: Tensor, positions: int) -> None:
        """Raises ``RuntimeError`` if they differ."""
        rows, config = inputs.shape[1], self._config
        drawn = (
            self._below(self._slots, rows),
            self._below(min(positions, config.speech_positions or positions), rows),
            self._below(min(positions, config.positions or positions), rows),
            torch.arange(rows),
        )
        inputs.copy_(torch.stack(drawn))
        # The graph goes first, or it would find in the cache what it is to write there.
        compare(replay, step, f"{rows} rows of {positions} positions", self._dtype)

    def _below(self, end: int, count: int) -> Tensor:
        return torch.randint(end, (count,), generator=self._random)
