"""``/system-status``, and the figures of ``/metrics`` in JSON."""

from __future__ import annotations

import socket
import subprocess

import psutil
import pytest
from audio_helpers import speak
from running_server import HTTP, Server, StartServer

JSON = {"accept": "application/json"}


def test_status_has_its_shape_and_real_figures(fake: Server) -> None:
    answer_body = HTTP.get(f"{fake.url}/system-status").raise_for_status().json()
    assert set(answer_body) == {"cpu", "gpu", "gpus"}
    assert set(answer_body["cpu"]) == {"utilization_percent", "ram_gb"}
    assert 0 <= answer_body["cpu"]["utilization_percent"] <= 100
    ram = answer_body["cpu"]["ram_gb"]
    assert set(ram) == {"total", "used", "free", "percent_used"}
    assert 0 < ram["total"] <= psutil.virtual_memory().total / 2**30 + 0.01
    assert ram["total"] == pytest.approx(ram["used"] + ram["free"], abs=0.02)
    assert ram["percent_used"] == pytest.approx(100 * ram["used"] / ram["total"], abs=0.5)


def listed_gpus() -> list[str]:
    """A line for each GPU that the driver knows. Its program may be there without a driver."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        return []
    return [line for line in listed.stdout.splitlines() if line.startswith("GPU ")] if listed.returncode == 0 else []


def test_gpus_match_driver(fake: Server) -> None:
    answer_body = HTTP.get(f"{fake.url}/system-status").json()
    listed = listed_gpus()
    assert len(answer_body["gpus"]) == len(listed)
    assert answer_body["gpu"] == next(iter(answer_body["gpus"]), None)
    for number, gpu in enumerate(answer_body["gpus"]):
        assert set(gpu) == {"device_id", "name", "utilization_percent", "memory_gb"}
        assert gpu["device_id"] == number
        assert set(gpu["utilization_percent"]) == {"gpu", "memory"}
        assert 0 < gpu["memory_gb"]["used"] < gpu["memory_gb"]["total"]


def test_status_is_available_during_loading(server: StartServer) -> None:
    one = server("--engine", "fake", "--fake-load-seconds", "30", wait=False)
    one.wait_listening()
    assert HTTP.get(f"{one.url}/system-status").status_code == 200


def test_figures_after_known_requests(server: StartServer) -> None:
    one = server("--engine", "fake", "--fake-rtf", "0.1")
    nothing = HTTP.get(f"{one.url}/metrics", headers=JSON).raise_for_status()
    assert nothing.headers["content-type"] == "application/json"
    assert nothing.json() == {
        "request_count": 0,
        "rtf_mean": None,
        "rtf_p95": None,
        "throughput": 0,
        "audio_seconds_per_second": 0,
        "active": 0,
        "queued": 0,
    }
    for _ in range(3):
        assert speak(one.url, "x" * 20).status_code == 200
    assert speak(one.url, seed=-2).status_code == 422
    one.wait_metric("chatterbox_requests_running", 0)
    answer_body = HTTP.get(f"{one.url}/metrics", headers=JSON).json()
    assert answer_body["request_count"] == 4
    assert answer_body["rtf_p95"] >= answer_body["rtf_mean"] >= 0.09
    assert answer_body["throughput"] > 0
    assert answer_body["audio_seconds_per_second"] == pytest.approx(1.2 * answer_body["throughput"])


def test_figures_of_what_runs_and_waits(server: StartServer) -> None:
    one = server("--engine", "fake", "--fake-rtf", "1", "--max-concurrent-requests", "1")
    with HTTP.stream("GET", f"{one.url}/tts/generate", params={"text": "x" * 500}) as first:
        assert first.status_code == 200
        with one_waiting(one):
            one.wait_metric("chatterbox_requests_waiting", 1)
            answer_body = HTTP.get(f"{one.url}/metrics", headers=JSON).json()
            assert (answer_body["active"], answer_body["queued"]) == (1, 1)


def one_waiting(server: Server) -> socket.socket:
    """A connection with a request that waits for a slot."""
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall(b"GET /tts/generate?text=hello HTTP/1.1\r\nhost: localhost\r\n\r\n")
    return connection


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "text/plain"),
        ("text/plain", "text/plain"),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", "text/plain"),
        ("text/html", "text/plain"),
        ("application/json", "application/json"),
        ("application/json, text/plain, */*", "text/plain"),
        ("application/json, */*;q=0.5", "application/json"),
    ],
)
def test_metrics_format_is_negotiated(fake: Server, accept: str, kind: str) -> None:
    answer = HTTP.get(f"{fake.url}/metrics", headers={"accept": accept})
    assert answer.headers["content-type"].startswith(kind)
