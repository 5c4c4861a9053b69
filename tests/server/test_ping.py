"""``/ping`` as RunPod's load balancer asks it: 200 takes requests, 204 is on its way, all else is to be replaced."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

from audio_helpers import speak
from running_server import HTTP, Server, StartServer

FAKE = ("--engine", "fake", "--fake-rtf", "0")


def test_ping_follows_model_state(server: StartServer) -> None:
    one = server(*FAKE, "--fake-load-seconds", "2", wait=False)
    one.wait_listening()
    loading = HTTP.get(f"{one.url}/ping")
    assert (loading.status_code, loading.content) == (204, b"")
    one.wait_ready()
    ready = HTTP.get(f"{one.url}/ping")
    assert (ready.status_code, ready.json()) == (200, {"status": "healthy"})


def test_draining_server_fails_ping(server: StartServer) -> None:
    one = server(*FAKE)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(speak, one.url, "[[slow 0.2]] " + "x" * 10)
        one.wait_metric("chatterbox_requests_running", 1)
        one.process.send_signal(signal.SIGTERM)
        while (answer := HTTP.get(f"{one.url}/ping")).status_code == 200:
            assert not running.done()
        assert (answer.status_code, answer.json()) == (503, {"status": "draining"})
        assert running.result().status_code == 200


def test_full_queue_is_still_healthy(server: StartServer) -> None:
    one = server(*FAKE, "--max-concurrent-requests", "1", "--max-queue", "0")
    with ThreadPoolExecutor() as pool:
        running = pool.submit(speak, one.url, "[[slow 0.2]] " + "x" * 10)
        one.wait_metric("chatterbox_requests_running", 1)
        assert speak(one.url).status_code == 503
        assert HTTP.get(f"{one.url}/ping").status_code == 200
        assert running.result().status_code == 200


def test_ping_needs_no_key(server: StartServer) -> None:
    one = server(*FAKE, env={"API_KEY": "secret"})
    assert speak(one.url).status_code == 401
    assert HTTP.get(f"{one.url}/ping").status_code == 200


def test_head_is_answered_without_body(fake: Server) -> None:
    answer = HTTP.head(f"{fake.url}/ping")
    assert (answer.status_code, answer.content) == (200, b"")
