"""RunPod's worker as a process of its own, and a platform that hands it jobs."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from running_server import COMMAND, HTTP, clean_environment

SOURCES = Path(__file__).parents[2] / "python"
START_SECONDS = 90.0
STOP_SECONDS = 40.0
# What `chatterbox-server runpod` calls, in the environment that has the SDK and not the server.
MAIN = f"""
import sys
sys.path.insert(0, {str(SOURCES)!r})
from chatterbox_server.serverless.command import main
sys.exit(main(sys.argv[1:]))
"""


class RunpodWorker:
    """The worker under RunPod's SDK, with a server that it starts (``serve`` are its options) or one that runs."""

    def __init__(
        self, folder: Path, options: Sequence[str], env: Mapping[str, str], serve: Sequence[str] | None = None
    ) -> None:
        self._log = folder / "log.txt"
        settings = {"VOICES_DIR": str(folder / "voices"), "PYTHONUNBUFFERED": "1", **env}
        if serve is not None:
            settings["CHATTERBOX_SERVER_COMMAND"] = shlex.join([str(COMMAND), *serve])
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", MAIN, *options],
                cwd=folder,
                env=clean_environment(settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def log(self) -> str:
        """All that worker, SDK and server said."""
        return self._log.read_text("utf-8", "replace")

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Waits for something in the log."""
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(pattern, self.log())):
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log()}"
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)
        return found

    def stop(self) -> int:
        """Ends it as the platform does; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        finally:
            self.process.kill()
            self.process.wait()


class LocalApi(RunpodWorker):
    """The SDK's own API server, which stands for the platform: ``--rp_serve_api``."""

    def __init__(self, folder: Path, env: Mapping[str, str], serve: Sequence[str] | None = None) -> None:
        super().__init__(folder, ["--rp_serve_api", "--rp_api_host", "127.0.0.1", "--rp_api_port", "0"], env, serve)
        try:
            self.url = self.wait_for(r"Uvicorn running on (http://\S+)")[1]
        except BaseException:
            self.stop()
            raise

    def post(self, path: str, body: object = None) -> dict[str, Any]:
        """What a route answers."""
        answer = HTTP.post(self.url + path, json=body)
        assert answer.status_code == 200, answer.text
        payload: dict[str, Any] = answer.json()
        return payload

    def runsync(self, **parameters: Any) -> list[dict[str, Any]]:
        """All that a job gives, in one answer."""
        payload = self.post("/runsync", {"input": {"operation": "tts", **parameters}})
        assert payload["status"] == "COMPLETED"
        output: list[dict[str, Any]] = payload["output"]
        return output


class Platform:
    """What RunPod's workers talk with: jobs are taken from it, and pieces and results are brought to it."""

    def __init__(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        self._jobs = list(jobs)
        self._lock = threading.Condition()
        self._events: list[tuple[str, str, dict[str, Any]]] = []
        platform = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """A job, if there is one that is not taken."""
                kind = self.path.split("/")[1]
                jobs = platform.take() if kind.startswith("job-take") else []
                if not jobs:
                    # As the platform does for longer: who asks waits a little for an answer.
                    time.sleep(0.05)
                    self.send_response(204)
                    self.end_headers()
                    return
                self.answer(jobs if kind == "job-take-batch" else jobs[0])

            def do_POST(self) -> None:
                """A piece or a result."""
                _, kind, job, *_ = re.split(r"[/?]", self.path)
                platform.record(kind, job, json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.answer({})

            def answer(self, body: object) -> None:
                data = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """How a worker finds its platform."""
        url = f"http://127.0.0.1:{self._server.server_port}"
        return {
            "RUNPOD_WEBHOOK_GET_JOB": f"{url}/job-take/$ID?gpu=none",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{url}/job-stream/$ID?gpu=none",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{url}/job-done/$ID?gpu=none",
            # What these look at is the machine, which is none of RunPod's.
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
            "RUNPOD_SKIP_GPU_CHECK": "true",
        }

    def take(self) -> list[Mapping[str, Any]]:
        """The next job."""
        with self._lock:
            return [self._jobs.pop(0)] if self._jobs else []

    def record(self, kind: str, job: str, payload: dict[str, Any]) -> None:
        """Notes what a worker brings."""
        with self._lock:
            self._events.append((kind, job, payload))
            self._lock.notify_all()

    def wait_done(self, jobs: int) -> dict[str, list[tuple[str, dict[str, Any]]]]:
        """What was brought for each job, in order, once that many have ended."""
        with self._lock:
            ended = self._lock.wait_for(
                lambda: sum(kind == "job-done" for kind, _, _ in self._events) == jobs, START_SECONDS
            )
            assert ended, self._events
            by_job: dict[str, list[tuple[str, dict[str, Any]]]] = {}
            for kind, job, payload in self._events:
                by_job.setdefault(job, []).append((kind, payload))
            return by_job

    def close(self) -> None:
        """Takes no more."""
        self._server.shutdown()
        self._server.server_close()
