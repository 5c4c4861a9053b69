"""Sends Python's log records and warnings to the host's log."""

from __future__ import annotations

import logging
from collections.abc import Callable

__all__ = ["install"]

Log = Callable[[int, str, str], None]
"""Takes a ``logging`` level, the logger's name and the message with its traceback, if any."""


class _ForwardingHandler(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._log(record.levelno, record.name, self.format(record))
        except Exception:
            self.handleError(record)


def install(log: Log, level: int = logging.INFO) -> None:
    """Make ``log`` the only receiver of records at or above ``level`` and of ``warnings``. Calling again replaces it.

    ``sys.excepthook`` is left alone: exceptions reach the host as exceptions.
    """
    root = logging.getLogger()
    root.handlers[:] = [_ForwardingHandler(log)]
    root.setLevel(level)
    logging.captureWarnings(True)
