"""Reads checkpoints ahead of their use, and fingerprints them."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ..model_runner import Progress

__all__ = ["ReadingAhead", "read_ahead"]

BLOCK = 8 << 20
"""Bytes read at a time: so many that the interpreter's lock is seldom waited for, and few enough for a cache."""
ASKED = 128 << 10
"""Bytes asked for at a time: of more, systems fetch a part."""


class ReadingAhead:
    """A thread that gets files from the disk while weights are packed, for as long as it is entered.

    It ends with the block, whatever happens in it.
    """

    def __init__(
        self, *, packed: Iterable[Path], mapped: Iterable[Path], hashed: Sequence[Path], progress: Progress
    ) -> None:
        """In this order: ``packed`` are prefetched, since packing reads all of them once; ``mapped`` are read;
        so are ``hashed``, of whose content ``fingerprint`` is the hash."""
        self._stopped = threading.Event()
        self._digest = hashlib.sha256()
        self._error: BaseException | None = None
        self._all_read = False

        def read() -> None:
            try:
                for path in packed:
                    _ask_for(path, progress, stopped=self._stopped.is_set)
                for path in mapped:
                    read_ahead(path, progress, stopped=self._stopped.is_set)
                for path in hashed:
                    read_ahead(path, progress, self._digest.update, stopped=self._stopped.is_set)
                self._all_read = not self._stopped.is_set()
            except BaseException as error:  # raised where the fingerprint is asked for
                self._error = error

        self._thread = threading.Thread(target=read, name="read-ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def fingerprint(self) -> str:
        """Waits until everything is read. Raises what reading raised, and ``RuntimeError`` if it was stopped."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        if not self._all_read:
            raise RuntimeError("files were not read to their ends")
        return self._digest.hexdigest()[:16]


def read_ahead(
    path: Path,
    progress: Progress,
    take: Callable[[memoryview], None] | None = None,
    *,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Read a file once, so that the system has it in memory: else the first request would, page by page.

    ``take`` is given all of its content, unless reading is ``stopped``.
    """
    size, done, block = path.stat().st_size, 0, memoryview(bytearray(BLOCK))
    with path.open("rb", buffering=0) as file:
        while not stopped() and (count := file.readinto(block)):
            done += count
            if take is not None:
                take(block[:count])
            progress(f"reading {path.name}", done, size)


def _ask_for(path: Path, progress: Progress, *, stopped: Callable[[], bool]) -> None:
    """Have the system fetch a file that will soon be read by the page. What it has already costs next to nothing."""
    size = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        for start in range(0, size, BLOCK):
            if stopped():
                return
            end = min(start + BLOCK, size)
            if hasattr(os, "posix_fadvise"):  # not everywhere, and no more than a hint
                for at in range(start, end, ASKED):
                    os.posix_fadvise(file.fileno(), at, ASKED, os.POSIX_FADV_WILLNEED)
            progress(f"reading {path.name}", end, size)
