"""Turns a voice that the Python package of Chatterbox has saved into one that the server reads.

Such a file is a pickle, which can run code when it is read as one. Here only tensors are read, and anything else is
refused; the server itself never opens one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ... import how_to_install

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Write the voice in the file ``arguments[0]`` to ``arguments[1]``; returns the exit status."""
    source, target = (Path(argument) for argument in arguments)
    try:
        from ..tensors import CheckpointError
        from .files import load_builtin, read_portable, write_portable
    except ImportError as error:
        print(f"error: {error}; {how_to_install('chatterbox')}", file=sys.stderr)
        return 1
    from ...model_runner import RequestError

    try:
        data = write_portable(load_builtin(source))
        read_portable(data)
        target.write_bytes(data)
    except (CheckpointError, RequestError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
