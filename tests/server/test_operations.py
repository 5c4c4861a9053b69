"""What a supervisor and an operator see: probes, exit statuses and logs."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from audio_helpers import refusal, speak
from running_server import HTTP, Server, StartServer

FAKE = ("--engine", "fake", "--fake-rtf", "0")


def probes(server: Server) -> dict[str, tuple[int, Any]]:
    """Status and body's ``status`` of every probe."""
    answers = {path: HTTP.get(server.url + path) for path in ("/livez", "/readyz", "/health")}
    return {path: (answer.status_code, answer.json()["status"]) for path, answer in answers.items()}


def test_loading_server_is_live_but_not_ready(server: StartServer) -> None:
    one = server(*FAKE, "--fake-load-seconds", "2", wait=False)
    one.wait_listening()
    assert probes(one) == {"/livez": (200, "alive"), "/readyz": (503, "loading"), "/health": (503, "loading")}
    assert HTTP.get(f"{one.url}/health").json()["loaded_models"] == []
    answer = speak(one.url)
    assert "loading" in refusal(answer, 503, "SERVER_BUSY")
    assert int(answer.headers["retry-after"]) >= 1
    one.wait_ready()
    assert probes(one) == {"/livez": (200, "alive"), "/readyz": (200, "ready"), "/health": (200, "healthy")}


def test_health_lists_loaded_models(fake: Server, lite: Server) -> None:
    for one, model in ((fake, "fake"), (lite, "lite")):
        body = HTTP.get(f"{one.url}/health").json()
        assert body == {"status": "healthy", "loaded_models": [model], "device": "cpu", "version": body["version"]}
        assert body["version"] in one.stdout()


def test_probes_accept_head(fake: Server) -> None:
    for path in ("/livez", "/readyz", "/health"):
        answer = HTTP.request("HEAD", fake.url + path)
        assert (answer.status_code, answer.content) == (200, b"")


def test_draining_server_refuses_requests(server: StartServer) -> None:
    one = server(*FAKE)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(speak, one.url, "[[slow 0.2]] " + "x" * 10)
        one.wait_metric("chatterbox_requests_running", 1)
        one.process.send_signal(signal.SIGTERM)
        while HTTP.get(f"{one.url}/readyz").status_code == 200:
            assert not running.done()
        assert probes(one) == {"/livez": (200, "alive"), "/readyz": (503, "draining"), "/health": (503, "draining")}
        answer = speak(one.url)
        refusal(answer, 503, "DRAINING")
        assert int(answer.headers["retry-after"]) >= 1
        assert running.result().status_code == 200
    assert one.wait_exit() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_idle_server_at_once(server: StartServer, number: signal.Signals) -> None:
    one = server(*FAKE, "--drain-timeout", "30")
    with httpx.Client() as keeping:
        keeping.get(f"{one.url}/livez")
        one.process.send_signal(number)
        assert one.process.wait(4) == 0
    drain = one.log().partition(f"{number.name}: draining")[2]
    assert "drained" in drain
    assert "WARN" not in drain


def test_second_signal_ends_at_once(server: StartServer) -> None:
    one = server(*FAKE)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(speak, one.url, "[[slow 0.5]] " + "x" * 100)
        one.wait_metric("chatterbox_requests_running", 1)
        one.process.send_signal(signal.SIGTERM)
        while HTTP.get(f"{one.url}/readyz").status_code == 200:
            pass
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(4) == 130
        with pytest.raises(httpx.TransportError):
            running.result()


def test_failed_start_has_status_1(server: StartServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        one = server(*FAKE, "--port", port, wait=False)
        assert one.wait_exit() == 1
    assert port in one.log()
    two = server(*FAKE, env={"VOICES_DIR": "/dev/null/voices"}, wait=False)
    assert two.wait_exit() == 1
    assert "VOICES_DIR" in two.log()
    three = server(env={"LOAD_TURBO": "true"}, wait=False)
    assert three.wait_exit() == 1
    assert "turbo" in three.log()


def test_announce_json_prints_one_line(server: StartServer) -> None:
    one = server(*FAKE, "--host", "0.0.0.0", "--announce", "json", env={"ANNOUNCE": "text"})
    (line,) = one.stdout().splitlines()
    announced = json.loads(line)
    version = announced.pop("version")
    assert announced == {
        "event": "ready",
        "url": one.url,
        "host": "127.0.0.1",
        "port": one.port,
        "pid": one.process.pid,
        "models": ["fake"],
    }
    assert version == HTTP.get(f"{one.url}/health").json()["version"]


def printed_for_people(one: Server) -> str:
    """What is on standard output of a server that is ready."""
    deadline = time.monotonic() + 30
    while "Try: " not in one.stdout() or not one.stdout().endswith("\n"):
        assert time.monotonic() < deadline, one.log()
        time.sleep(0.02)
    return one.stdout()


def test_startup_text_names_next_steps(server: StartServer) -> None:
    env = {"ANNOUNCE": "text", "DEFAULT_VOICE": "anna.wav"}
    local = server(*FAKE, env=env, wait=False)
    shown = printed_for_people(local)
    local.wait_listening()
    assert f"listens on {local.url}\n" in shown
    assert f"Open {local.url} in a browser" in shown
    assert f"{local.url}/docs" in shown
    assert "Default voice: anna.wav" in shown
    assert "Only this machine can reach it" in shown
    assert "X-API-Key" not in shown
    (command,) = re.findall(r"^Try: (curl .*)$", shown, re.MULTILINE)
    subprocess.run(shlex.split(command), cwd=local.folder, check=True, capture_output=True, timeout=30)
    assert (local.folder / "hello.wav").read_bytes().startswith(b"RIFF")
    open_to_all = server(*FAKE, env={"ANNOUNCE": "text", "API_KEY": "k"}, wait=False)
    shown = printed_for_people(open_to_all)
    assert "Only this machine" not in shown
    assert '-H "X-API-Key: $API_KEY"' in shown
    assert "Default voice: the model's own" in shown


def test_dead_engine_ends_with_status_70(server: StartServer) -> None:
    one = server(*FAKE)
    answer = speak(one.url, "[[raise]]")
    refusal(answer, 503, "SERVER_BUSY")
    assert answer.headers["retry-after"]
    assert one.wait_exit() == 70
    assert "the text asked for a fatal exception" in one.log()


Records = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def records(server: StartServer) -> Records:
    """The records of a server's log in JSON, after a few requests. Every line has to be one."""

    def collect(*args: str, env: dict[str, str]) -> list[dict[str, Any]]:
        # A server that is open to the network has a warning to log.
        one = server(*FAKE, *args, env={"LOG_FORMAT": "json", "HOST": "0.0.0.0", **env})
        HTTP.post(f"{one.url}/api/tts", json={"text": "Hi."}, headers={"x-request-id": "request-one"})
        HTTP.post(f"{one.url}/api/tts?x=\"'%0a", content="{", headers={"x-request-id": 'odd"\\id'})
        HTTP.get(f"{one.url}/livez", headers={"x-request-id": "probe"})
        speak(one.url, "[[raise]]")
        assert one.wait_exit() == 70
        return [json.loads(line) for line in one.log().splitlines()]

    return collect


def test_every_line_of_json_log_is_json(records: Records) -> None:
    lines = records(env={"RUST_LOG": "debug"})
    for line in lines:
        assert line["timestamp"]
        assert line["level"] in ("DEBUG", "INFO", "WARN", "ERROR")
        assert line["target"]
    # A traceback of Python is one record, not many lines.
    assert any("fatal exception" in json.dumps(line) and "Traceback" in json.dumps(line) for line in lines)


def test_requests_are_logged_with_their_ids(records: Records) -> None:
    lines = records(env={})
    by_id: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_id.setdefault(line.get("span", {}).get("id", ""), []).append(line)
    spoken = next(line for line in by_id["request-one"] if line["message"] == "spoken")
    assert spoken["outcome"] == "Ok"
    assert spoken["audio_seconds"] == pytest.approx(0.2, abs=0.01)
    answered = next(line for line in by_id["request-one"] if line["message"] == "answered")
    assert (answered["status"], answered["span"]["method"], answered["span"]["uri"]) == (200, "POST", "/api/tts")
    assert [line["status"] for line in by_id['odd"\\id']] == [400]
    assert "probe" not in by_id


@pytest.mark.parametrize(
    ("env", "levels"),
    [
        ({"LOG_LEVEL": "error"}, {"ERROR"}),
        ({"LOG_LEVEL": "DEBUG", "RUST_LOG": "error"}, {"ERROR"}),
        ({"LOG_LEVEL": "warn"}, {"WARN", "ERROR"}),
        ({}, {"INFO", "WARN", "ERROR"}),
    ],
)
def test_level_of_log_can_be_chosen(records: Records, env: dict[str, str], levels: set[str]) -> None:
    assert {line["level"] for line in records(env=env)} == levels


LIBRARY = """
import logging, threading, time, warnings

def speak():
    while not logging.getLogger().handlers:
        time.sleep(0.01)
    logging.getLogger("a.library").warning("a record\\nof two lines")
    logging.getLogger("a.library").debug("too small a thing")
    warnings.warn("a warning")

threading.Thread(target=speak, daemon=True).start()
"""
"""Runs in the server's interpreter and logs as a library would."""


@pytest.mark.parametrize("form", ["json", "text"])
def test_python_records_share_log(server: StartServer, tmp_path: Path, form: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(LIBRARY)
    one = server(*FAKE, env={"LOG_FORMAT": form, "PYTHONPATH": str(tmp_path)})
    deadline = time.monotonic() + 20
    while "a warning" not in one.log():
        assert time.monotonic() < deadline, one.log()
        time.sleep(0.02)
    assert one.stop() == 0
    assert "too small a thing" not in one.log()
    lines = one.log().splitlines()
    if form == "text":
        assert any(" WARN python: a record" in line for line in lines)
        assert "a.library" in one.log()
        return
    records = [json.loads(line) for line in lines]
    found = next(record for record in records if record.get("logger") == "a.library")
    assert (found["level"], found["target"], found["message"]) == ("WARN", "python", "a record\nof two lines")
    assert any(record.get("logger") == "py.warnings" for record in records)


def test_text_log_has_line_for_each_request(server: StartServer) -> None:
    one = server(*FAKE)
    HTTP.post(f"{one.url}/api/tts", json={"text": "Hi."}, headers={"x-request-id": "request-one"})
    assert one.stop() == 0
    lines = [line for line in one.log().splitlines() if "request-one" in line]
    assert any("answered" in line and "status=200" in line for line in lines)
    assert any("spoken" in line for line in lines)
    assert "\x1b[" not in one.log()


def test_kept_alive_connection_is_answered_during_drain(server: StartServer) -> None:
    one = server(*FAKE)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(speak, one.url, "[[slow 0.2]] " + "x" * 60)
        one.wait_metric("chatterbox_requests_running", 1)
        with socket.create_connection(("127.0.0.1", one.port), timeout=10) as early:
            # Whoever comes after it is served, so it has been accepted.
            assert HTTP.get(f"{one.url}/livez").status_code == 200
            one.process.send_signal(signal.SIGTERM)
            while HTTP.get(f"{one.url}/readyz").status_code == 200:
                pass
            early.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert early.recv(64).startswith(b"HTTP/1.1 503")
        assert running.result().status_code == 200
    assert one.wait_exit() == 0
