"""Clients that leave: the slot is free within a step, the next request begins, and nothing stays behind."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from faults_helpers import FAKE, LONG_TEXT, REAL_TIME, HttpSpeech, SocketSpeech, handles_and_threads, speak, wait_until
from running_server import HTTP, Server, StartServer, finish

CLIENTS = 200
AT_ONCE = 8
SLOTS = 3
SENTENCE = "This takes a little while."
PIECES = 15
"""Tenths of a second that the sentence lasts."""

Leave = Callable[[HttpSpeech | SocketSpeech], None]


def close(client: HttpSpeech | SocketSpeech) -> None:
    if isinstance(client, SocketSpeech):
        client.close()
    else:
        client.leave()


def hang_up(client: HttpSpeech | SocketSpeech) -> None:
    client.leave()


def reset(client: HttpSpeech | SocketSpeech) -> None:
    client.leave(reset=True)


def cancel(client: HttpSpeech | SocketSpeech) -> None:
    assert isinstance(client, SocketSpeech)
    client.cancel()


WAYS: list[tuple[type[HttpSpeech | SocketSpeech], Leave]] = [
    (HttpSpeech, close),
    (HttpSpeech, reset),
    (SocketSpeech, close),
    (SocketSpeech, hang_up),
    (SocketSpeech, reset),
    (SocketSpeech, cancel),
]


def ended(server: Server, outcome: str) -> float:
    """How many requests have ended in this way."""
    samples = server.metrics().items()
    return sum(value for name, value in samples if name.startswith("chatterbox_requests_total") and outcome in name)


@pytest.fixture(scope="module")
def one_slot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose only slot is taken for minutes by every long text."""
    one = Server(tmp_path_factory.mktemp("one-slot"), REAL_TIME, {"MAX_CONCURRENT_REQUESTS": "1"})
    one.wait_ready()
    yield one
    finish(one)


@pytest.mark.parametrize("moment", ["before the first audio", "while speaking"])
@pytest.mark.parametrize(("kind", "leave"), WAYS)
def test_disconnect_releases_slot_to_queue(
    one_slot: Server, kind: type[HttpSpeech | SocketSpeech], leave: Leave, moment: str
) -> None:
    cancelled = ended(one_slot, "cancelled")
    slow = "[[slow 0.3]] " if moment == "before the first audio" else ""
    with kind(one_slot, slow + LONG_TEXT) as speaking:
        if moment == "while speaking":
            speaking.wait_audio()
        one_slot.wait_metric("chatterbox_requests_running", 1)
        with kind(one_slot, LONG_TEXT) as impatient, HttpSpeech(one_slot, SENTENCE) as patient:
            one_slot.wait_metric("chatterbox_requests_waiting", 2)
            leave(impatient)
            one_slot.wait_metric("chatterbox_requests_waiting", 1)
            leave(speaking)
            left = time.monotonic()
            # Without the cancellation this would wait for minutes, without its being noticed until the next ping.
            patient.wait_audio()
            assert time.monotonic() - left < 5
            assert one_slot.metrics()["chatterbox_requests_waiting"] == 0
    one_slot.wait_metric("chatterbox_requests_running", 0)
    wait_until(lambda: ended(one_slot, "cancelled") >= cancelled + 2, "both are counted")


def test_disconnect_stops_engine_work(server: StartServer) -> None:
    one = server(*FAKE, "--fake-chunk-ms", "20")
    for kind, leave in WAYS:
        with kind(one, "[[slow 0.1]] " + LONG_TEXT) as speaking:
            speaking.wait_audio()
            leave(speaking)
        one.wait_metric("chatterbox_requests_running", 0)
        # The engine gets the cancellation after the current step.
        speak(one, "Hello.")
        began = time.monotonic()
        assert speak(one, "Hello again.").status_code == 200
        # Three dozen steps, each of which would last as long as those for the one who left.
        assert time.monotonic() - began < 2


def leave_at_random(server: Server, chance: random.Random) -> None:
    """One client that comes, stays for a while or for a part of the audio, and goes."""
    kind, leave = chance.choice(WAYS)
    wait, pieces = chance.uniform(0.0, 0.2), chance.choice([0, 0, chance.randrange(PIECES), PIECES - 1])
    with kind(server, SENTENCE) as client:
        if pieces:
            client.read_pieces(pieces)
        else:
            time.sleep(wait)
        leave(client)


def test_random_disconnects_leave_no_state(server: StartServer) -> None:
    options = {"MAX_CONCURRENT_REQUESTS": str(SLOTS), "FAKE_RTF": "0.05", "FAKE_CHUNK_MS": "100"}
    one = server("--engine", "fake", env=options)
    speak(one, SENTENCE)
    handles, threads = handles_and_threads(one)
    chances = [random.Random(seed) for seed in range(CLIENTS)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(lambda chance: leave_at_random(one, chance), chances):
            pass
    for gauge in ("requests_running", "requests_waiting", "ws_connections"):
        one.wait_metric(f"chatterbox_{gauge}", 0)
    # Some had the whole before they left.
    wait_until(lambda: ended(one, "cancelled") + ended(one, '"ok"') == CLIENTS + 1, "every request is counted once")
    assert ended(one, "cancelled") > CLIENTS / 2

    with contextlib.ExitStack() as stack:
        speaking = [stack.enter_context(HttpSpeech(one, LONG_TEXT)) for _ in range(SLOTS)]
        for client in speaking:
            client.wait_audio()
        one.wait_metric("chatterbox_requests_running", SLOTS)
    one.wait_metric("chatterbox_requests_running", 0)
    wait_until(lambda: handles_and_threads(one)[0] <= handles, f"not more than {handles} file handles are open")
    # The runtime keeps a few threads for blocking work and lets them go after some seconds.
    assert handles_and_threads(one)[1] <= threads + AT_ONCE
    assert HTTP.get(one.url + "/livez").status_code == 200
