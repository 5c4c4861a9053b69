"""The ``chatterbox-server`` command."""

from __future__ import annotations

import signal
import sys

from . import _core

__all__ = ["main"]


def main() -> int:
    """Serve until stopped; returns the exit status."""
    # The host handles SIGINT itself: Python's handler would only set a flag that no bytecode is there to look at.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _core.main(sys.argv)
