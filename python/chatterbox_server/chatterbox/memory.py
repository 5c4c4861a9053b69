"""Shortage of memory, whoever says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["memory_errors"]


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
