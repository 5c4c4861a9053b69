"""Captures networks without a GPU: recorded operations take the place of CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from chatterbox_server.chatterbox.device import Replay
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class OperationRecorder(TorchDispatchMode):
    """Records operations with the tensors that they had, and repeats them: what a capture does with launches.

    Whatever the host decided while it was recorded stays as it was. What cannot be captured is refused.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.data_dependent_output in func.tags or func._schema.name in ("aten::lift_fresh", "aten::nonzero"):
            raise RuntimeError(f"{func} needs the host")
        result = func(*args, **kwargs)
        self._operations.append((func, args, kwargs, result))
        return result

    def replay(self) -> None:
        for func, args, kwargs, result in self._operations:
            for old, made in zip(tree_leaves(result), tree_leaves(func(*args, **kwargs)), strict=True):
                # Views, and what is written in place, are where they were.
                if old.data_ptr() != made.data_ptr():
                    old.copy_(made)


class RecordingCapturer:
    """Captures without a GPU. ``replayed`` lists the numbers of the replays that were run."""

    def __init__(self, free: int = 1 << 40) -> None:
        self.free = free
        self.captured = 0
        self.replayed: list[int] = []

    def free_bytes(self) -> int:
        return self.free

    def capture(self, step: Replay) -> Replay:
        number = self.captured
        self.captured += 1
        with OperationRecorder() as recorder:
            result = step()

        def replay() -> Tensor:
            self.replayed.append(number)
            recorder.replay()
            return result

        return replay


class FailingCapturer(RecordingCapturer):
    def capture(self, step: Replay) -> Replay:
        if self.captured == 2:
            raise RuntimeError("operation not permitted when stream is capturing")
        return super().capture(step)


class WrongCapturer(RecordingCapturer):
    """Captures what ``spoil`` makes of it, with the third step."""

    def __init__(self, spoil: Callable[[Replay], Replay]) -> None:
        super().__init__()
        self._spoil = spoil

    def capture(self, step: Replay) -> Replay:
        return super().capture(step) if self.captured != 2 else self._spoil(super().capture(step))


def off(replay: Replay) -> Replay:
    return lambda: replay() * 1.001


def nan(replay: Replay) -> Replay:
    return lambda: replay() * float("nan")


def frozen(replay: Replay) -> Replay:
    """As if the inputs had been copied into the graph."""
    first = replay().clone()
    return lambda: first
