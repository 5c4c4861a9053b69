"""Starts and stops the installed server, and reads what it says: what the tests of the running server share."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import psutil

COMMAND = Path(os.environ.get("CHATTERBOX_SERVER") or Path(sys.executable).parent / "chatterbox-server")
"""The console script: beside the interpreter, unless tests run in an environment without it."""

HTTP = httpx.Client(timeout=60, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
"""One client for all tests: making one reads certificates. A connection for each request, as strangers come."""

LOOPBACK = "127.0.0.1,localhost"
"""What a client that reads the environment must be told to ask without a proxy, in ``NO_PROXY``."""

START_SECONDS = 60.0
STOP_SECONDS = 40.0


WITHOUT_ROOTS_RIGHTS = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
    if os.geteuid() == 0
    else []
)
"""Runs a command for which a folder can be read-only, also when root runs the tests."""


def clean_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a server: nothing of the developer's but these, so that no variable leaks into a test."""
    names = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
    return {name: os.environ[name] for name in names if name in os.environ} | processor_environment() | dict(env)


def processor_environment() -> dict[str, str]:
    """The variables with which ``make test-avx2`` hides instructions."""
    names = ("LD_PRELOAD", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS")
    return {name: os.environ[name] for name in names if name in os.environ}


class Server:
    """The console script as a process of its own.

    ``args`` and ``env`` are what it is started with, ``folder`` its working directory, where its logs, its voices
    (``folder / "voices"``, unless ``args`` or ``env`` name others) and perhaps a ``.env`` lie. ``prefix`` is a command
    that starts it.
    """

    def __init__(self, folder: Path, args: Sequence[str], env: Mapping[str, str], prefix: Sequence[str] = ()) -> None:
        self.folder = folder
        self.voices = folder / "voices"
        self._out, self._log = folder / "stdout.txt", folder / "stderr.txt"
        self.url = ""
        with self._out.open("wb") as out, self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix, str(COMMAND), *(() if "--port" in args or env.get("PORT") else ("--port", "0")), *args],
                cwd=folder,
                env=clean_environment({"VOICES_DIR": str(self.voices), "ANNOUNCE": "json", **env}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
            )

    @property
    def ws(self) -> str:
        """The address of the WebSocket."""
        return f"ws{self.url.removeprefix('http')}/ws/tts"

    @property
    def port(self) -> int:
        """The port, once the server has one."""
        return int(self.url.rpartition(":")[2])

    def voice_files(self) -> list[str]:
        """The names in the voices folder, without what the server keeps there for itself."""
        return sorted(path.name for path in self.voices.iterdir() if not path.name.startswith("."))

    def log(self) -> str:
        """Everything on standard error so far."""
        return self._log.read_text("utf-8", "replace")

    def stdout(self) -> str:
        """Everything on standard output so far."""
        return self._out.read_text("utf-8", "replace")

    def wait_ready(self) -> None:
        """Waits for the line that announces readiness."""
        deadline = time.monotonic() + START_SECONDS
        while (url := self._announced()) is None:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log()}"
            assert time.monotonic() < deadline, f"not ready in time:\n{self.log()}"
            time.sleep(0.01)
        self.url = url

    def _announced(self) -> str | None:
        """The address in the line that announces readiness, once all of it is there."""
        line, end, _ = self.stdout().partition("\n")
        return str(json.loads(line)["url"]) if end else None

    def wait_listening(self) -> None:
        """Waits for the socket alone: a server that still loads has one, and announces nothing."""
        deadline = time.monotonic() + START_SECONDS
        process = psutil.Process(self.process.pid)
        while True:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log()}"
            assert time.monotonic() < deadline, f"does not listen:\n{self.log()}"
            listening = [c for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
            if listening:
                self.url = f"http://127.0.0.1:{listening[0].laddr.port}"
                return
            time.sleep(0.01)

    def wait_exit(self) -> int:
        """The exit status, once the process has ended by itself."""
        return self.process.wait(STOP_SECONDS)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal and returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait_exit()

    def kill(self) -> None:
        """Ends the process whatever it does."""
        self.process.kill()
        self.process.wait()

    def metrics(self) -> dict[str, float]:
        """The metrics: sample line (name with labels) to value."""
        return parse_metrics(HTTP.get(self.url + "/metrics").raise_for_status().text)

    def wait_metric(self, name: str, value: float, seconds: float = 20.0) -> None:
        """Waits until a sample has a value."""
        deadline = time.monotonic() + seconds
        while (found := self.metrics().get(name, 0.0)) != value:
            assert time.monotonic() < deadline, f"{name} is {found}, not {value}"
            time.sleep(0.02)


def parse_metrics(text: str) -> dict[str, float]:
    """Reads Prometheus' text format; refuses a line that is none of it."""
    samples: dict[str, float] = {}
    for line in text.splitlines():
        if not line or re.fullmatch(r"# (HELP|TYPE) [a-z_]+ .+", line):
            continue
        found = re.fullmatch(r'([a-z_]+(?:\{(?:[a-z_]+="[^"\\\n]*",?)*\})?) (\S+)', line)
        assert found, f"not a sample: {line!r}"
        samples[found[1]] = float(found[2])
    return samples


StartServer = Callable[..., Server]
"""What the fixture ``server`` is."""


@contextlib.contextmanager
def running(folder: Path, *args: str, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server that is ready as long as the block runs, and must end in order after it."""
    one = Server(folder, args, env or {})
    try:
        one.wait_ready()
        yield one
    finally:
        finish(one)


def finish(server: Server) -> None:
    """Ends a server that a test has left running, which must then end in order."""
    if server.process.poll() is not None:
        return
    try:
        status = server.stop()
    except subprocess.TimeoutExpired:
        status = None
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.process.kill()
    assert status == 0, f"ended with {status}:\n{server.log()}"
