"""The other end of ``worker``."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping
from typing import Any, Self

from ..interpreter import environment, interpreter

__all__ = ["BenchError", "Child"]

_LOG_TAIL = 2000
_END_SECONDS = 30.0


class BenchError(Exception):
    """Something cannot be measured; the message is a sentence that says why."""


class Child:
    """A worker that runs until it is closed. ``seconds`` is how long it took to load, interpreter and imports included.

    Raises ``BenchError`` when it cannot be started.
    """

    def __init__(self, side: str, settings: Mapping[str, Any]) -> None:
        self.side = side
        # Closed by ``close``.
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        command = [*interpreter(), "-m", "chatterbox_server.bench.worker", side, json.dumps(settings)]
        started = time.perf_counter()
        self._process = subprocess.Popen(
            command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        try:
            self.loaded: dict[str, float] = self._answer()
        except BaseException:
            self.close()
            raise
        self.seconds = time.perf_counter() - started

    def ask(self, measure: str, **arguments: object) -> Any:
        """The worker's answer. Raises ``BenchError`` with its reason if it fails."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"measure": measure, **arguments}) + "\n")
            self._process.stdin.flush()
        except OSError:
            # The worker has ended: reading its answer raises the reason.
            pass
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._log.seek(0)
            raise BenchError(f"{self.side}: the process ended with status {status}: {self._log.read()[-_LOG_TAIL:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise BenchError(_sentence(answer))
        return answer["result"]

    def close(self) -> None:
        """End the worker and give its memory back."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _sentence(answer: Mapping[str, str]) -> str:
    written_for_people = answer["kind"] in ("LoadError", "Unavailable")
    return answer["error"] if written_for_people else f"{answer['kind']}: {answer['error']}"
