"""How far loading is: in ``/health``, in the log, and as a bar in a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import pytest
from faults_helpers import wait_until
from running_server import COMMAND, HTTP, StartServer, clean_environment

SLOW = ("--engine", "fake", "--fake-load-seconds", "2")


def test_health_reports_loading_progress(server: StartServer) -> None:
    one = server(*SLOW, wait=False)
    one.wait_listening()
    seen: list[int] = []

    def loaded() -> bool:
        body = HTTP.get(f"{one.url}/health").json()
        if body["status"] == "healthy":
            assert "loading" not in body
            return True
        if body["loading"] is not None:
            assert (body["loading"]["what"], body["loading"]["total"]) == ("weights", 10)
            seen.append(body["loading"]["done"])
        return False

    wait_until(loaded, "loaded")
    assert len(set(seen)) > 2
    assert seen == sorted(seen)


@pytest.mark.parametrize("form", ["text", "json"])
def test_log_reports_start_and_end_of_loading(server: StartServer, form: str) -> None:
    one = server(*SLOW, env={"LOG_FORMAT": form})
    lines: list[str] = []

    def both_reported() -> bool:
        lines[:] = [line for line in one.log().splitlines() if "weights" in line]
        return len(lines) >= 2

    wait_until(both_reported, "both lines")
    if form == "json":
        progress = [json.loads(line) for line in lines]
        found = [(line["message"], line["what"], line["done"], line["total"]) for line in progress]
        assert found == [("loading", "weights", 0, 10), ("loading", "weights", 10, 10)]
    else:
        assert len(lines) == 2
        assert "done=0 total=10" in lines[0]
        assert "done=10 total=10" in lines[1]
        assert "%" not in one.log()


@pytest.mark.parametrize(("form", "bar"), [("text", True), ("json", False)])
def test_terminal_shows_bar(tmp_path: Path, form: str, bar: bool) -> None:
    command = [str(COMMAND), "--port", "0", *SLOW]
    env = clean_environment({"TERM": "xterm", "VOICES_DIR": str(tmp_path), "LOG_FORMAT": form})
    ours, theirs = pty.openpty()
    drawn = b""
    with subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        try:
            while b"ready" not in drawn:
                drawn += os.read(ours, 4096)
            process.send_signal(signal.SIGTERM)
            while data := os.read(ours, 4096):
                drawn += data
        except OSError:
            # Linux says so when the other end of a terminal is closed.
            pass
        finally:
            os.close(ours)
        assert process.wait(60) == 0
    shown = [int(found) for found in re.findall(rb"weights [^%]* (\d+) ?%", drawn)]
    if bar:
        assert len(set(shown)) > 2, drawn
        assert shown == sorted(shown)
        # The log goes on as whole lines around it.
        assert re.search(rb"INFO.* ready .*\r\n", drawn), drawn
    else:
        assert not shown


def test_without_watermark_log_warns(server: StartServer) -> None:
    warning = "WATERMARK is off"
    assert warning in server("--engine", "fake", env={"WATERMARK": "off"}).log()
    assert warning not in server("--engine", "fake").log()
