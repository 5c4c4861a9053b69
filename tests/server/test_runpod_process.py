"""RunPod's worker as a process: the server that it keeps running, its options, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from chatterbox_server.serverless.process import ChildServer, ServerDown
from running_server import COMMAND, HTTP, clean_environment

FAKE = ("--engine", "fake", "--fake-rtf", "0")


def test_failed_restart_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = clean_environment({"VOICES_DIR": str(tmp_path)})
    command = [str(COMMAND), *FAKE]
    child = ChildServer(command, environment, restart_seconds=0.05)
    child.start()
    try:
        first = child.pid
        assert first is not None
        start, refused = subprocess.Popen, [errno.ENOMEM, errno.EAGAIN]

        def busy(*arguments: Any, **options: Any) -> subprocess.Popen[str]:
            if refused:
                raise OSError(refused.pop(), "the machine is busy")
            return start(*arguments, **options)

        monkeypatch.setattr(subprocess, "Popen", busy)
        os.kill(first, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while child.pid == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        url = asyncio.run(child.url())
        assert not refused
        assert HTTP.get(url + "/readyz").status_code == 200
    finally:
        child.stop()


def test_child_that_cannot_load_is_not_restarted(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    command = [sys.executable, "-c", f"open({str(marks)!r}, 'a').write('x'); raise SystemExit(3)"]
    server = ChildServer(command, restart_seconds=0.01)
    with pytest.raises(ServerDown):
        server.start()
    server.stop()
    assert marks.read_text() == "x"


def test_unreachable_server_is_error(tmp_path: Path) -> None:
    server = ChildServer([str(tmp_path / "nothing")])
    with pytest.raises(ServerDown):
        server.start()
    server.stop()


def test_command_names_missing_package() -> None:
    run = subprocess.run(
        [COMMAND, "runpod"], env=clean_environment({}), capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stdout) == (1, "")
    assert "chatterbox-speech-server[runpod]" in run.stderr


@pytest.mark.parametrize("wrong", [("--concurrency", "0"), ("--concurrency", "x"), ("--server-url", "localhost:80")])
def test_command_refuses_invalid_options(wrong: tuple[str, str]) -> None:
    run = subprocess.run(
        [COMMAND, "runpod", *wrong], env=clean_environment({}), capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 2
    assert wrong[0] in run.stderr


def test_command_has_help() -> None:
    run = subprocess.run(
        [COMMAND, "runpod", "--help"], env=clean_environment({}), capture_output=True, text=True, timeout=60, check=True
    )
    for option in ("--server-url", "--api-key", "--server-command", "--concurrency", "--rp_serve_api"):
        assert option in run.stdout


SDK = """
import signal, time
def start(config):
    print("concurrency", config["concurrency_modifier"](1), config["return_aggregate_stream"], flush=True)
    while True:
        time.sleep(0.05)
class serverless:
    start = staticmethod(start)
"""


@contextlib.contextmanager
def nothing_left_of(process: subprocess.Popen[str]) -> Iterator[None]:
    """Ends a process and its children, if a test that failed has left them running."""
    with process:
        try:
            yield
        finally:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()


def test_signal_ends_worker_and_its_server(tmp_path: Path) -> None:
    (tmp_path / "runpod.py").write_text(SDK)
    environment = clean_environment({"VOICES_DIR": str(tmp_path / "voices"), "PYTHONPATH": str(tmp_path)})
    environment |= {"MAX_CONCURRENT_REQUESTS": "5", "CHATTERBOX_SERVER_COMMAND": shlex.join([str(COMMAND), *FAKE])}
    worker = subprocess.Popen(
        [COMMAND, "runpod"], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with nothing_left_of(worker):
        assert worker.stdout is not None
        assert worker.stdout.readline() == "concurrency 5 True\n"
        (server,) = psutil.Process(worker.pid).children()
        worker.send_signal(signal.SIGTERM)
        _, log = worker.communicate(timeout=30)
    assert worker.returncode == 0, log
    assert not server.is_running()
    assert "drained" in log
