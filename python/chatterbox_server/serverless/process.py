"""The worker's server: one that runs elsewhere, or a child process that is restarted when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Protocol, TextIO, cast

from ..announcement import ANNOUNCE_JSON, ready_url

__all__ = ["ChildServer", "RunningServer", "Server", "ServerDown"]

_LOG = logging.getLogger(__name__)
_RESTART_SECONDS, _MAX_RESTART_SECONDS = 0.5, 30.0
_READY_SECONDS = 300.0
_LOOK_SECONDS = 0.05


class ServerDown(Exception):
    """The server cannot be asked; the text says why."""


class Server(Protocol):
    """A server that speaks."""

    @property
    def key(self) -> str | None:
        """The key that opens it."""
        ...

    async def url(self) -> str:
        """Its address, once it is ready. Raises ``ServerDown``."""
        ...


class RunningServer:
    """A server that runs elsewhere."""

    def __init__(self, url: str, key: str | None) -> None:
        self.key = key
        self._url = url.rstrip("/")

    async def url(self) -> str:
        return self._url


class ChildServer:
    """A process of its own, on a free port of loopback and with a key of its own.

    Nobody but this worker can ask it anything. What its environment sets holds for it, but where it listens.
    ``ready_seconds`` is how long a job waits for one that is being started again.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        ready_seconds: float = _READY_SECONDS,
        restart_seconds: float = _RESTART_SECONDS,
    ) -> None:
        self.key = secrets.token_urlsafe(32)
        self._command = [*command, "--host", "127.0.0.1", "--port", "0"]
        inherited = os.environ if environment is None else environment
        self._environment = {**inherited, **ANNOUNCE_JSON, "API_KEY": self.key}
        self._ready_seconds, self._restart_seconds = ready_seconds, restart_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._url: str | None = None
        self._stopping = threading.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="server", daemon=True)

    @property
    def pid(self) -> int | None:
        """The process that runs now, or ran last."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts the server and waits until it has loaded its models. Raises ``ServerDown`` if it ends before."""
        self._thread.start()
        self._started.wait()
        if self._url is None:
            raise ServerDown("the server ended before it was ready")

    async def url(self) -> str:
        deadline = time.monotonic() + self._ready_seconds
        while (url := self._url) is None:
            if not self._thread.is_alive():
                raise ServerDown("the server has ended")
            if time.monotonic() > deadline:
                raise ServerDown("the server is being started again; try later")
            await asyncio.sleep(_LOOK_SECONDS)
        return url

    def stop(self) -> None:
        """Asks the server to end, as SIGTERM does, and waits until it has: what it speaks is spoken to its end."""
        with self._lock:
            self._stopping.set()
            self.terminate()
        if self._thread.is_alive():
            self._thread.join()

    def terminate(self) -> None:
        """Sends SIGTERM; the second one ends a server that still speaks."""
        if self._process is not None:
            self._process.terminate()

    def _supervise(self) -> None:
        pause = self._restart_seconds
        while not self._stopping.is_set():
            was_ready, end = self._run()
            if self._stopping.is_set():
                break
            if not self._started.is_set():
                # A model that failed to load would fail again: the platform is to replace the worker.
                _LOG.error("%s", end)
                break
            pause = self._restart_seconds if was_ready else min(2 * pause, _MAX_RESTART_SECONDS)
            _LOG.error("%s; it is started again in %.1f s", end, pause)
            self._stopping.wait(pause)
        self._started.set()

    def _run(self) -> tuple[bool, str]:
        """Runs the server until it ends: whether it was ready, and how it ended."""
        try:
            process = self._spawn()
        except OSError as error:
            return False, f"{self._command[0]} cannot be started: {error.strerror}"
        if process is None:
            return False, "the server is wanted no more"
        was_ready = self._follow(process)
        return was_ready, f"the server ended with status {process.wait()}"

    def _spawn(self) -> subprocess.Popen[str] | None:
        """Starts the process, unless all is to end. Raises ``OSError``."""
        with self._lock:
            if self._stopping.is_set():
                return None
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                # Ctrl-C is for the worker, which lets its jobs end before the server.
                start_new_session=True,
            )
            return self._process

    def _follow(self, process: subprocess.Popen[str]) -> bool:
        """Passes on what the server prints until it ends; whether it was ready."""
        was_ready = False
        with contextlib.closing(cast("TextIO", process.stdout)) as lines:
            for line in lines:
                sys.stderr.write(line)
                if not was_ready and (url := ready_url(line)):
                    self._url, was_ready = url, True
                    self._started.set()
        self._url = None
        return was_ready
