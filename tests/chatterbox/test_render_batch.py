from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from chatterbox_server.chatterbox.render_batch import RenderBatch
from torch import Tensor


@dataclass
class Rendering:
    """An utterance with a slice that is due."""

    name: int
    streamed: bool = True
    samples_sent: int = 0
    due: bool = True

    def job(self) -> int:
        self.due = False
        return self.name


@dataclass
class Live:
    id: int
    rendering: Rendering
    compute_seconds: float = 0.0


class S3Gen:
    """Takes three Euler steps and gives each job's number as its frames."""

    def begin(self, jobs: Sequence[Any]) -> Generator[None, None, list[Tensor]]:
        for _ in range(3):
            yield
        return [torch.tensor(job) for job in jobs]


def live(number: int, **fields: Any) -> Live:
    return Live(number, Rendering(number, **fields))


def rendered(batch: RenderBatch, lives: Sequence[Live], steps: int) -> list[list[int]]:
    """The numbers of the utterances that come out of each step."""
    return [[one.id for one, _ in batch.step(lives)] for _ in range(steps)]  # type: ignore[arg-type]


def batch_of(size: int, *, pauses: bool = False) -> RenderBatch:
    return RenderBatch(S3Gen(), size=size, pauses=pauses)  # type: ignore[arg-type]


def test_listeners_go_first_and_those_who_have_heard_least() -> None:
    lives = [live(1, streamed=False), live(2, samples_sent=9), live(3, samples_sent=5), live(4, samples_sent=5)]
    assert rendered(batch_of(1), lives, 5) == [[3], [4], [2], [1], []]


def test_a_batch_is_rendered_together() -> None:
    lives = [live(number) for number in range(5)]
    assert rendered(batch_of(3), lives, 3) == [[0, 1, 2], [3, 4], []]


def test_a_pause_after_every_euler_step() -> None:
    lives = [live(1), live(2)]
    assert rendered(batch_of(1, pauses=True), lives, 8) == [[], [], [], [1], [], [], [], [2]]
    assert all(one.compute_seconds > 0 for one in lives)


def test_who_is_dropped_gets_nothing_and_a_batch_of_none_ends_at_once() -> None:
    lives = [live(1), live(2), live(3)]
    batch = batch_of(2, pauses=True)
    assert rendered(batch, lives, 1) == [[]]
    batch.drop(1)
    assert rendered(batch, lives, 3) == [[], [], [2]]
    lives.append(live(4))
    assert rendered(batch, lives, 1) == [[]]
    batch.drop(3)
    batch.drop(4)
    lives.append(live(5))
    assert rendered(batch, lives, 4) == [[], [], [], [5]]
