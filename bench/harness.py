"""Shared by all benchmarks: a running server, the load generator, the engine by itself, and resource use."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
SERVER = Path(sys.executable).with_name("chatterbox-server")
SLOTS = 8192
"""More than any benchmark uses, so that none measures the queue."""
START_SECONDS = 60.0


def build_load() -> Path:
    """Build the load generator and return its path."""
    subprocess.run(["cargo", "build", "--release", "--locked", "--package", "chatterbox-load"], cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "release" / "chatterbox-load"


@dataclass(frozen=True, slots=True)
class Cost:
    """A process's use of the machine over a span of time."""

    cores: float
    """CPU seconds per second."""
    rss_mb: float


class Meter:
    """Measures a process from its making to ``read``."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._began = time.perf_counter()
        self._used = self._cpu_seconds()

    def _cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def read(self) -> Cost:
        used = self._cpu_seconds() - self._used
        seconds = time.perf_counter() - self._began
        return Cost(cores=used / seconds, rss_mb=self._process.memory_info().rss / 2**20)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs: ``address`` is ``host:port``."""

    address: str
    pid: int


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[Server]:
    """Run the installed server with ``arguments`` while the block runs."""
    # A setting of the caller's shell would change what is measured.
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
    environment = {name: value for name, value in os.environ.items() if name in kept}
    with tempfile.TemporaryDirectory(prefix="chatterbox-bench-") as folder:
        log = Path(folder, "log")
        limits = [
            *("--max-concurrent-requests", SLOTS, "--max-connections", SLOTS),
            *("--max-ws-connections", SLOTS, "--max-ws-connections-per-client", SLOTS),
        ]
        command = [
            str(SERVER),
            "--port",
            "0",
            "--announce",
            "json",
            "--voices-dir",
            f"{folder}/voices",
            *map(str, limits),
            *arguments,
        ]
        with log.open("w", encoding="utf-8") as stderr:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        with stopping(process):
            address = first_line(process, r'"event":"ready".*"url":"http://([^"]+)"')
            if address is None:
                sys.exit(f"the server did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")
            yield Server(address=address, pid=process.pid)


@contextlib.contextmanager
def stopping(process: subprocess.Popen[str]) -> Iterator[None]:
    """End ``process`` with the block."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        if process.stdin is not None:
            process.stdin.close()


def first_line(process: subprocess.Popen[str], pattern: str) -> str | None:
    """Wait for a line that matches and return its group; ``None`` when the output ended first."""
    assert process.stdout is not None
    for line in process.stdout:
        if match := re.search(pattern, line):
            return match[1]
    return None


def load(generator: Path, mode: str, address: str, **options: object) -> dict[str, Any]:
    """Run the load generator to its end and return its report."""
    return LoadRun(generator, mode, address, **options).report()


class LoadRun:
    """A load generator that runs."""

    def __init__(self, generator: Path, mode: str, address: str, **options: object) -> None:
        command = [str(generator), mode, address]
        for name, value in options.items():
            flag = "--" + name.replace("_", "-")
            if value is True:
                command.append(flag)
            elif value is not False:
                command += [flag, str(value)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid

    def report(self) -> dict[str, Any]:
        """Wait for the end and return the report."""
        output, _ = self._process.communicate()
        if self._process.returncode != 0:
            sys.exit(f"the load generator failed with status {self._process.returncode}")
        report: dict[str, Any] = json.loads(output)
        return report


@contextlib.contextmanager
def echo(generator: Path) -> Iterator[str]:
    """Run the generator's echo server while the block runs; gives its address."""
    process = subprocess.Popen([str(generator), "echo"], stdout=subprocess.PIPE, text=True)
    with stopping(process):
        address = first_line(process, r"(\S+:\d+)")
        if address is None:
            sys.exit("the echo server did not start")
        yield address


class BareEngine:
    """The engine by itself, in a process of its own: no host, no socket."""

    def __init__(self, settings: dict[str, object]) -> None:
        command = [sys.executable, str(Path(__file__).with_name("bare_engine.py")), json.dumps(settings)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def first_audio_ms(self, text: str) -> float:
        """Milliseconds from handing over the text to the first audio."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(text) + "\n")
        seconds = first_line(self._process, r"^(\d\S*)$")
        if seconds is None:
            sys.exit("the engine failed")
        return 1000 * float(seconds)

    def __enter__(self) -> BareEngine:
        return self

    def __exit__(self, *_: object) -> None:
        with stopping(self._process):
            pass


def installed(*arguments: str) -> dict[str, Any]:
    """Run ``chatterbox-server bench`` with ``arguments`` and return what it wrote."""
    with tempfile.TemporaryDirectory(prefix="chatterbox-bench-") as folder:
        path = Path(folder, "results.json")
        command = [str(SERVER), "bench", *arguments, "--json", str(path)]
        # Its tables are printed with all the others.
        done = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            sys.exit(f"chatterbox-server bench {arguments[0]} failed with status {done.returncode}")
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return results


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    cells = [list(head), ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)


def machine() -> dict[str, object]:
    """The machine that the figures were taken on."""
    return {
        "cores": psutil.cpu_count(),
        "load_average": os.getloadavg()[0],
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }


def raise_open_files() -> None:
    """Allow as many open files as may be: every stream is one here and one in the server."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
