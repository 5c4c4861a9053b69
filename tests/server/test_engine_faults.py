"""What clients see when the engine fails: for one request, for good, or with the whole process."""

from __future__ import annotations

import signal

import httpx
import pytest
from faults_helpers import FAKE, LONG_TEXT, REAL_TIME, HttpSpeech, SocketSpeech, body, in_background, speak
from running_server import HTTP, Server, StartServer
from ws_helpers import talking


def assert_retryable(response: httpx.Response) -> None:
    assert (response.status_code, response.json()["code"]) == (503, "SERVER_BUSY")
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize("fault", ["raise", "hang"])
def test_broken_engine_fails_requests_and_ends_server(server: StartServer, fault: str) -> None:
    one = server(*REAL_TIME, env={"ENGINE_STALL_TIMEOUT": "1"})
    answers: list[httpx.Response] = []
    with (
        HttpSpeech(one, LONG_TEXT) as streaming,
        SocketSpeech(one, LONG_TEXT) as socket,
    ):
        streaming.wait_audio()
        socket.wait_audio()
        # The fault is in the second sentence, so that there is a second in which to queue up.
        with HttpSpeech(one, f"This one speaks for a second. Then [[{fault}]] comes.") as breaking:
            breaking.wait_audio()
            waiting = in_background(lambda: answers.append(speak(one, "I wait for a slot.")))
            one.wait_metric("chatterbox_requests_waiting", 1)
            assert breaking.cut_off()
        while (message := socket.message())["type"] == "chunk":
            assert message["is_last"] is False
        assert (message["type"], message["code"], message["id"]) == ("error", "SERVER_BUSY", "a")
        assert message["retry_after"] >= 1
        health = HTTP.get(one.url + "/health")
        assert (health.status_code, health.json()["status"]) == (503, "failed")
        assert [HTTP.get(one.url + path).status_code for path in ("/readyz", "/livez")] == [503, 503]
        assert streaming.cut_off()
    waiting.join(10)
    assert_retryable(answers[0])
    assert one.wait_exit() == 70


@pytest.mark.parametrize("fault", ["engine", "kill"])
def test_process_that_is_killed_drops_its_connections(server: StartServer, fault: str) -> None:
    one = server(*REAL_TIME)
    with HttpSpeech(one, LONG_TEXT) as streaming, SocketSpeech(one, LONG_TEXT) as socket:
        streaming.wait_audio()
        socket.wait_audio()
        if fault == "kill":
            one.process.send_signal(signal.SIGKILL)
        else:
            with pytest.raises(httpx.TransportError):
                speak(one, "Please [[die]] now.")
        assert streaming.cut_off()
        assert socket.cut_off()
    assert one.wait_exit() == -signal.SIGKILL


def test_failed_model_load_ends_startup_with_reason(server: StartServer) -> None:
    one = server(wait=False)
    one.kill()
    (one.folder / "hibari").mkdir()
    (one.folder / "hibari" / "__init__.py").write_text("raise ImportError('this copy is broken')\n")
    two = server(env={"PYTHONPATH": str(one.folder)}, wait=False)
    assert two.wait_exit() == 1
    assert two.stdout() == ""
    assert "The lite model needs a package that cannot be imported (this copy is broken)" in two.log()


def test_out_of_memory_twice_ends_server(server: StartServer) -> None:
    one = server("--engine", "fake", "--fake-rtf", "0.2", "--fake-chunk-ms", "50")
    text = "This sentence goes on while another fails."
    others: list[httpx.Response] = []
    other = in_background(lambda: others.append(speak(one, text)))
    one.wait_metric("chatterbox_requests_running", 1)
    assert_retryable(speak(one, "Too much [[oom]] for me."))
    assert HTTP.get(one.url + "/readyz").status_code == 200
    other.join(30)
    assert others[0].status_code == 200
    assert others[0].content == speak(one, text).content
    assert_retryable(speak(one, "Too much [[oom]] again."))
    assert one.wait_exit() == 70


def test_out_of_memory_leaves_socket_open(server: StartServer) -> None:
    with talking(server(*FAKE)) as talk:
        failed = talk.ask(type="say", id="a", text="Too much [[oom]] for me.")
        assert (failed["code"], failed["id"]) == ("SERVER_BUSY", "a")
        assert failed["retry_after"] >= 1
        talk.spoken("This is fine.")


@pytest.mark.parametrize("stream", [True, False])
def test_failure_before_first_audio_has_status(fake: Server, stream: bool) -> None:
    response = speak(fake, "Please [[fail]] now.", stream=stream)
    assert (response.status_code, response.json()["code"]) == (500, "GENERATION_ERROR")


def test_late_failure_aborts_body(fake: Server) -> None:
    with httpx.stream("POST", fake.url + "/api/tts", json=body("Please [[fail-late]] now.")) as response:
        assert response.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            response.read()


def test_late_failure_of_whole_answer_has_status(fake: Server) -> None:
    response = speak(fake, "Please [[fail-late]] now.", stream=False)
    assert (response.status_code, response.json()["code"]) == (500, "GENERATION_ERROR")


@pytest.mark.parametrize("marker", ["fail", "fail-late"])
def test_failed_stream_ends_with_error(fake: Server, marker: str) -> None:
    with talking(fake) as talk:
        talk.say(f"Please [[{marker}]] now.")
        answer = talk.collect()
        assert (answer.end["type"], answer.end["code"]) == ("error", "GENERATION_ERROR")
        assert not any(header["is_last"] for header in answer.headers)
        assert bool(answer.headers) == (marker == "fail-late")
        # Nothing of the failed one comes after its error, and the socket still speaks.
        talk.alive()
        talk.spoken("This is fine.")


def test_sentence_without_sound_is_skipped_among_others(fake: Server) -> None:
    with_silent = speak(fake, "This is the first. Quiet [[mute]] here. This is the last.")
    without = speak(fake, "This is the first. This is the last.")
    assert with_silent.status_code == without.status_code == 200
    assert abs(len(with_silent.content) - len(without.content)) / 4 / 24_000 < 0.05


def test_text_of_silent_sentences_only_is_refused(fake: Server) -> None:
    for stream in (True, False):
        response = speak(fake, "Quiet [[mute]] here. Quiet [[mute]] there.", stream=stream)
        assert (response.status_code, response.json()["code"]) == (422, "MISSING_TEXT")
        assert response.json()["error"].startswith("text:")
    with talking(fake) as talk:
        talk.fails("MISSING_TEXT", type="say", text="Quiet [[mute]] here.")
        talk.spoken("This is fine.")
