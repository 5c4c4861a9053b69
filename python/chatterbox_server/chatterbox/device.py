"""CUDA graphs, and errors of a device that is out of memory.

A CUDA graph repeats its launches on the same addresses, with the same shapes. What differs between calls stands in
tensors that are filled before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["Capturer", "CudaCapturer", "Replay", "compare", "memory_errors", "row_counts"]


RUNS_BEFORE_CAPTURE = 3
"""Libraries choose kernels and take workspace in the first runs, which a capture does not allow."""
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 5e-2}
"""Between what a graph gives and the same launched one by one, as a share of the largest."""

Replay = Callable[[], Tensor]


class Capturer(Protocol):
    """The operations that graphs need of a device."""

    def free_bytes(self) -> int:
        """Memory that is not in use."""

    def capture(self, step: Replay) -> Replay:
        """Something that repeats what ``step`` launches. Its result is always the same tensor, which holds good until
        anything captured here runs again."""


class CudaCapturer:
    """Captures on a stream of its own, into one pool of memory: graphs run one at a time, so they may share it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def free_bytes(self) -> int:
        kept = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        return torch.cuda.mem_get_info(self._device)[0] + kept

    def capture(self, step: Replay) -> Replay:
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(RUNS_BEFORE_CAPTURE):
                step()
        current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads of the process may use the device meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            result = step()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


def compare(replay: Replay, step: Replay, what: str, dtype: torch.dtype) -> None:
    """Raises ``RuntimeError`` if a captured step does not compute what the step itself does. The graph runs first."""
    replayed = replay().clone()
    expected = step()
    error, largest = float((replayed - expected).abs().max()), float(expected.abs().max())
    # So that a NaN fails too.
    if not error <= TOLERANCE[dtype] * largest:
        raise RuntimeError(f"for {what} it gives values that are off by {error:.3g} of {largest:.3g}")


def row_counts(most: int) -> list[int]:
    """1, 2, 4 and so on, and ``most``."""
    return [*(1 << power for power in range((most - 1).bit_length())), most]


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raise errors of a full memory in torch and ONNX Runtime, which are no ``MemoryError``, as one."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise MemoryError from error
        raise
    except Exception as error:
        # Not imported for its exceptions' sake: most servers do without.
        if type(error).__module__.startswith("onnxruntime") and "allocate" in str(error).lower():
            raise MemoryError from error
        raise
