"""How to run another Python with the packages of this one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["environment", "interpreter"]


def interpreter() -> list[str]:
    """The start of a command that runs a Python with the packages of this one."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    # Where Python is inside another program, ``sys.executable`` may be anything.
    beside = Path(sys.exec_prefix, "bin", version)
    return [str(beside) if beside.exists() else sys.executable]


def environment() -> dict[str, str]:
    """The environment in which ``interpreter`` finds the packages."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
