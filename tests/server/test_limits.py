"""Slots, queue and deadlines under more requests than can be spoken at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest
from audio_helpers import read_wav, refusal, speak
from running_server import HTTP, Server, StartServer

SLOTS, PLACES = 2, 4
RUNNING, WAITING = "chatterbox_requests_running", "chatterbox_requests_waiting"
LONG = "[[slow 0.04]] " + "x" * 20
"""Eleven chunks, each of which takes 80 ms where two are spoken at once: about a second in a slot."""

Ask = Callable[[int], list["Future[httpx.Response]"]]


@pytest.fixture
def small(server: StartServer) -> Server:
    """A server with few slots and a short queue."""
    slots = ("--max-concurrent-requests", str(SLOTS), "--max-queue", str(PLACES))
    return server("--engine", "fake", "--fake-rtf", "0", *slots)


@pytest.fixture
def ask(small: Server) -> Iterator[Ask]:
    """Sends so many requests at once."""
    with ThreadPoolExecutor(64) as pool:
        yield lambda count: [pool.submit(speak, small.url, LONG) for _ in range(count)]


def test_overload_is_refused_and_admitted_requests_finish(small: Server, ask: Ask) -> None:
    admitted = ask(SLOTS)
    small.wait_metric(RUNNING, SLOTS)
    assert small.metrics()[WAITING] == 0
    admitted += ask(PLACES)
    small.wait_metric(WAITING, PLACES)
    for refused in ask(10 * SLOTS):
        answer = refused.result()
        said = refusal(answer, 503, "SERVER_BUSY")
        assert str(SLOTS) in said
        assert 1 <= int(answer.headers["retry-after"]) <= 600
    # A full queue is a reason to wait, not to be taken out of service.
    assert HTTP.get(f"{small.url}/readyz").status_code == 200
    for one in admitted:
        samples, rate = read_wav(one.result().content)
        assert len(samples) / rate == pytest.approx(0.06 * len(LONG), abs=0.01)
    small.wait_metric(RUNNING, 0)
    metrics = small.metrics()
    assert metrics[WAITING] == 0
    assert metrics['chatterbox_requests_total{route="/api/tts",model="fake",outcome="ok"}'] == SLOTS + PLACES
    assert metrics['chatterbox_requests_total{route="/api/tts",model="fake",outcome="rejected"}'] == 10 * SLOTS


def test_requests_within_limits_are_never_refused(small: Server, ask: Ask) -> None:
    assert [one.result().status_code for one in ask(SLOTS + PLACES)] == [200] * (SLOTS + PLACES)


def test_retry_after_grows_with_time_that_requests_take(server: StartServer) -> None:
    slots = ("--max-concurrent-requests", "1", "--max-queue", "0")
    # Each of these texts is spoken in a single step.
    one = server("--engine", "fake", "--fake-rtf", "0", "--fake-chunk-ms", "1000", *slots)
    with ThreadPoolExecutor() as pool:
        # The mean of service times starts at a second; one request of six seconds makes it two.
        speak(one.url, "[[slow 6]] a")
        busy = pool.submit(speak, one.url, "[[slow 1]] a")
        one.wait_metric(RUNNING, 1)
        assert int(speak(one.url).headers["retry-after"]) >= 2
        assert busy.result().status_code == 200


def test_queued_request_times_out(server: StartServer) -> None:
    one = server("--engine", "fake", "--fake-rtf", "0", "--max-concurrent-requests", "1", "--request-timeout", "0.5")
    with ThreadPoolExecutor() as pool:
        busy = pool.submit(speak, one.url, "[[slow 0.3]] a")
        one.wait_metric(RUNNING, 1)
        late = speak(one.url)
        refusal(late, 504, "TIMEOUT")
        assert int(late.headers["retry-after"]) >= 1
        # Each of its pieces comes in time, so the whole may take longer than the limit.
        assert busy.result().status_code == 200
    # Nothing comes out of the engine in time.
    refusal(speak(one.url, "[[slow 0.8]] Hi."), 504, "TIMEOUT")
    one.wait_metric(RUNNING, 0)
    assert one.metrics()['chatterbox_requests_total{route="/api/tts",model="fake",outcome="timeout"}'] == 2


def test_probes_answer_while_every_slot_is_busy(server: StartServer) -> None:
    slots = 16
    one = server("--engine", "fake", "--fake-rtf", "0", "--max-concurrent-requests", str(slots))
    with ThreadPoolExecutor(slots) as pool:
        busy = [pool.submit(speak, one.url, "[[slow 0.03]] a") for _ in range(slots)]
        one.wait_metric(RUNNING, slots)
        took = []
        for _ in range(50):
            began = time.perf_counter()
            assert HTTP.get(f"{one.url}/livez").status_code == 200
            took.append(time.perf_counter() - began)
        assert not all(each.done() for each in busy)
        # A probe that waited for the engine would take a step's half second or more.
        assert sorted(took)[-2] < 0.3
        assert {each.result().status_code for each in busy} == {200}


def test_excess_connection_waits(server: StartServer) -> None:
    one = server("--engine", "fake", "--fake-rtf", "0", "--max-connections", "2")
    with ThreadPoolExecutor() as pool, httpx.Client() as keeping, httpx.Client() as keeping_too:
        keeping.get(f"{one.url}/livez")
        keeping_too.get(f"{one.url}/livez")
        third = pool.submit(HTTP.get, f"{one.url}/livez")
        with pytest.raises(TimeoutError):
            third.result(0.5)
        keeping.close()
        assert third.result().status_code == 200
