from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, cast

import torch
from chatterbox_server.chatterbox.scheduler import Deadline, RenderBatch
from torch import Tensor


@dataclass
class Rendering:
    """An utterance with a slice that is due, until its frames are taken."""

    name: int
    due: bool = True
    due_tokens: int = 100

    def job(self) -> int:
        return self.name


@dataclass(eq=False)
class Live:
    id: int
    rendering: Rendering
    deadline: Deadline
    compute_seconds: float = 0.0


@dataclass
class S3Gen:
    """Takes three Euler steps and gives each job's number as its frames."""

    batches: list[list[int]] = field(default_factory=list)

    def begin(self, jobs: Sequence[Any]) -> Generator[None, None, list[Tensor]]:
        self.batches.append(list(jobs))
        for _ in range(3):
            yield
        return [torch.tensor(job) for job in jobs]


def live(number: int, *, late: float = 0.0, **fields: Any) -> Live:
    return Live(number, Rendering(number, **fields), Deadline(late))


def batch_of(s3gen: S3Gen, size: int, *, pauses: bool = False) -> RenderBatch:
    ticks = count()
    return RenderBatch(cast("Any", s3gen), size=size, pauses=pauses, clock=lambda: float(next(ticks)))


def step(batch: RenderBatch, urgent: Live, lives: Sequence[Live]) -> list[int]:
    """The numbers of the utterances whose frames a step gives; they want no more."""
    done = [one.id for one, _ in batch.step(urgent, lives)]  # type: ignore[arg-type]
    for one in lives:
        one.rendering.due &= one.id not in done
    return done


def test_batch_adds_next_deadlines_to_most_urgent() -> None:
    lives = [live(number, late=float(-number)) for number in range(5)]
    s3gen = S3Gen()
    batch = batch_of(s3gen, 3)
    assert step(batch, lives[0], lives) == [0, 4, 3]
    assert step(batch, lives[1], lives) == [1, 2]
    assert all(one.compute_seconds == 1.0 for one in lives)


def test_single_render_is_batch_of_one() -> None:
    lives = [live(1), live(2)]
    assert step(batch_of(S3Gen(), 1), lives[1], lives) == [2]


def test_batch_excludes_other_lengths_and_later_deadlines() -> None:
    lives = [
        live(1, due_tokens=269),
        live(2, due_tokens=1250),
        live(3, due_tokens=100),
        live(4, due_tokens=378),
        live(5, due=False),
    ]
    assert step(batch_of(S3Gen(), 8), lives[0], lives) == [1, 4]


def test_batch_of_long_renders_is_small() -> None:
    lives = [live(number, due_tokens=1250) for number in range(8)]
    s3gen = S3Gen()
    batch = batch_of(s3gen, 8)
    assert step(batch, lives[0], lives) == [0, 1, 2]
    alone = [live(number, due_tokens=9000) for number in range(2)]
    assert step(batch_of(S3Gen(), 8), alone[0], alone) == [0]


def test_batch_yields_after_every_euler_step() -> None:
    one = live(1)
    batch = batch_of(S3Gen(), 1, pauses=True)
    assert [step(batch, one, [one]) for _ in range(4)] == [[], [], [], [1]]
    assert one.compute_seconds == 4.0


def test_batch_is_preempted_and_resumed() -> None:
    lives = [live(1), live(2), live(3)]
    s3gen = S3Gen()
    batch = batch_of(s3gen, 2, pauses=True)
    assert step(batch, lives[0], lives[:2]) == []
    # Both are in a batch already, so that the newcomer goes alone.
    assert [step(batch, lives[2], lives) for _ in range(4)] == [[], [], [], [3]]
    assert [step(batch, lives[1], lives) for _ in range(3)] == [[], [], [1, 2]]
    assert s3gen.batches == [[1, 2], [3]]


def test_dropped_renders_leave_batch() -> None:
    lives = [live(1), live(2), live(3), live(4)]
    s3gen = S3Gen()
    batch = batch_of(s3gen, 2, pauses=True)
    step(batch, lives[0], lives[:2])
    step(batch, lives[2], lives)
    batch.drop(1)
    batch.drop(7)
    assert [step(batch, lives[1], lives[1:]) for _ in range(3)] == [[], [], [2]]
    batch.drop(3)
    batch.drop(4)
    assert s3gen.batches == [[1, 2], [3, 4]]
    # Under the number of one that was dropped, another begins anew.
    again = live(3)
    assert [step(batch, again, [again]) for _ in range(4)] == [[], [], [], [3]]
