"""The server that RunPod's worker keeps running."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from chatterbox_server.serverless.process import ChildServer
from running_server import COMMAND, HTTP, clean_environment


def test_a_restart_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = clean_environment({"VOICES_DIR": str(tmp_path)})
    command = [str(COMMAND), "--engine", "fake", "--fake-rtf", "0"]
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
