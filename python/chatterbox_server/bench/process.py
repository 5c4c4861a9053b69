"""A process's memory and processor time, as the system counts them."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

__all__ = ["memory_mb", "peak_memory_mb"]

_STATUS = Path("/proc/self/status")


def peak_memory_mb() -> float:
    """Most memory that this process has had at once, in MB."""
    # ``ru_maxrss`` of a child starts on Linux with what its parent had.
    if _STATUS.exists():
        return _kilobytes("VmHWM") / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def memory_mb() -> float:
    """Memory that this process has now, in MB; the peak where the system has no such figure."""
    return _kilobytes("VmRSS") / 1024 if _STATUS.exists() else peak_memory_mb()


def _kilobytes(name: str) -> int:
    line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])
