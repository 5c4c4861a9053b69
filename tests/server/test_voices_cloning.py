"""Cloned voices: prepared when needed, followed when they change, kept by who speaks with them.

The fake engine's tone depends on the content of the voice's file, so the tone identifies the voice.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import httpx
import pytest
from audio_helpers import clip
from chatterbox_server.fake import MAX_VOICES
from faults_helpers import (
    FAKE,
    LONG_TEXT,
    HttpSpeech,
    body,
    distinct_clips,
    in_background,
    pitch_of,
    pitches,
    speak,
    upload,
    wait_until,
)
from running_server import HTTP, Server, StartServer
from ws_helpers import Talk, talking

CACHE = "chatterbox_voice_cache_bytes"
BYTES = 8
"""What one voice takes in the fake engine."""
LAZY = {"VOICE_CACHE": "lazy"}


def spoken_pitches(server: Server, voice: str | None = None) -> set[int]:
    """The tones of a short text."""
    response = speak(server, "This is a text.", voice)
    assert response.status_code == 200, response.text
    return pitches(response.content)


def default_voice(server: Server) -> str | None:
    """The id that the server names."""
    voice: str | None = HTTP.get(server.url + "/api/voice/default").json()["default_voice"]
    return voice


def test_voice_is_prepared_at_its_first_use(server: StartServer) -> None:
    one = server(*FAKE, env=LAZY)
    first, second = distinct_clips(2)
    assert upload(one, "first.wav", first).status_code == upload(one, "second.wav", second).status_code == 200
    assert one.metrics()[CACHE] == 0
    for _ in range(2):
        assert spoken_pitches(one, "first.wav") == {pitch_of(first)}
        assert one.metrics()[CACHE] == BYTES
    assert spoken_pitches(one, "second") == {pitch_of(second)}
    assert one.metrics()[CACHE] == 2 * BYTES
    assert spoken_pitches(one) == {pitch_of(None)}


def test_voices_are_prepared_before_they_are_used(server: StartServer, tmp_path: Path) -> None:
    home = tmp_path / "prepared"
    (home / "voices").mkdir(parents=True)
    (home / "voices" / "before.wav").write_bytes(clip(1))
    one = server(*FAKE, folder=home)
    one.wait_metric(CACHE, BYTES)
    upload(one, "after.wav", clip(2))
    one.wait_metric(CACHE, 2 * BYTES)


def test_failed_preparation_does_not_block_others(server: StartServer, tmp_path: Path) -> None:
    home = tmp_path / "prepared"
    (home / "voices").mkdir(parents=True)
    for name, seconds in (("a.wav", 1.5), ("b.wav", 0.5), ("c.wav", 2.0)):
        (home / "voices" / name).write_bytes(clip(1, seconds))
    (home / "voices" / ".conditionals").mkdir()
    (home / "voices" / ".conditionals" / f"{'ab' * 32}.wav").write_bytes(clip(2))
    one = server(*FAKE, folder=home)
    one.wait_metric(CACHE, 2 * BYTES)
    wait_until(lambda: one.log().count("voice prepared") == 2, "both are logged")
    (line,) = [line for line in one.log().splitlines() if "voice not prepared" in line]
    assert "b.wav" in line
    assert "shorter than one second" in line
    listed = HTTP.get(f"{one.url}/api/voices").json()["voices"]
    assert [voice["id"] for voice in listed] == ["a.wav", "b.wav", "c.wav"]


def test_readiness_does_not_wait_for_voices(server: StartServer, tmp_path: Path) -> None:
    home = tmp_path / "slow"
    (home / "voices").mkdir(parents=True)
    for number in range(4):
        (home / "voices" / f"{number}.wav").write_bytes(clip(100 + number))
    # A step, and with it a preparation, takes half a second.
    one = server("--engine", "fake", "--fake-rtf", "1", "--fake-chunk-ms", "500", folder=home)
    assert HTTP.get(f"{one.url}/readyz").status_code == 200
    assert one.metrics()[CACHE] < 4 * BYTES
    one.wait_metric(CACHE, 4 * BYTES)


def test_replaced_file_is_another_voice(server: StartServer) -> None:
    one = server(*FAKE)
    contents = distinct_clips(3)
    for content in contents[:2]:
        assert upload(one, "mine.wav", content).status_code == 200
        assert spoken_pitches(one, "mine.wav") == {pitch_of(content)}
    (one.voices / "mine.wav").write_bytes(contents[2])
    assert spoken_pitches(one, "mine.wav") == {pitch_of(contents[2])}
    (one.voices / "mine.wav").unlink()
    assert speak(one, "Hello.", "mine.wav").json()["code"] == "VOICE_NOT_FOUND"


def test_evicted_voice_is_prepared_again(server: StartServer) -> None:
    one = server(*FAKE, env=LAZY)
    mine, *_ = distinct_clips(1)
    upload(one, "mine.wav", mine)
    assert spoken_pitches(one, "mine.wav") == {pitch_of(mine)}
    for number in range(MAX_VOICES):
        (one.voices / f"other-{number}.wav").write_bytes(clip(1000 + number, 1.0))
        assert speak(one, "Hi.", f"other-{number}.wav").status_code == 200
    assert one.metrics()[CACHE] == MAX_VOICES * BYTES
    assert spoken_pitches(one, "mine.wav") == {pitch_of(mine)}
    with talking(one) as talk:
        talk.spoken(**body("Hi.", "other-0.wav"))
    assert one.metrics()[CACHE] == MAX_VOICES * BYTES


def test_clip_that_is_too_short_is_refused_where_it_is_used(server: StartServer) -> None:
    one = server(*FAKE)
    (one.voices / "short.wav").write_bytes(clip(1, 0.5))
    for _ in range(2):
        response = speak(one, "Hello.", "short.wav")
        assert (response.status_code, response.json()["code"]) == (422, "INVALID_PARAMETER")
        assert "shorter than one second" in response.json()["error"]
    with talking(one) as talk:
        talk.fails("INVALID_PARAMETER", type="say", **body("Hello.", "short.wav"))
        talk.spoken("Hello.")


def spoken_pitches_over(talk: Talk, voice: str | None = None) -> set[int]:
    """The tones of a short text."""
    return pitches(talk.spoken(**body("This is a text.", voice)).data)


def test_default_voice_is_used_where_none_is_named(server: StartServer) -> None:
    one = server(*FAKE)
    mine, other = distinct_clips(2)
    upload(one, "mine.wav", mine)
    upload(one, "other.wav", other)
    with talking(one) as talk:
        assert spoken_pitches(one) == spoken_pitches_over(talk) == {pitch_of(None)}
        assert talk.ask(type="set_voice", voice_path="voices/mine.wav") == {
            "type": "voice_set",
            "voice_path": "mine.wav",
        }
        assert spoken_pitches(one) == spoken_pitches_over(talk) == {pitch_of(mine)}
        assert spoken_pitches(one, "other") == spoken_pitches_over(talk, "other") == {pitch_of(other)}
    assert one.stop() == 0

    again = server(*FAKE, folder=one.folder)
    assert default_voice(again) == "mine.wav"
    assert spoken_pitches(again) == {pitch_of(mine)}
    (again.voices / "mine.wav").unlink()
    assert spoken_pitches(again) == {pitch_of(None)}
    assert default_voice(again) is None
    assert "the file of the default voice is gone" in again.log()


def test_connection_voice_is_private(server: StartServer) -> None:
    one = server(*FAKE)
    mine, other = distinct_clips(2)
    upload(one, "mine.wav", mine)
    upload(one, "other.wav", other)
    with talking(one) as talk, talking(one) as stranger:
        talk.send(type="set_voice", voice_path="mine", scope="connection")
        talk.expect("voice_set", voice_path="mine.wav")
        assert spoken_pitches_over(talk) == {pitch_of(mine)}
        assert spoken_pitches_over(talk, "other") == {pitch_of(other)}
        assert spoken_pitches_over(stranger) == spoken_pitches(one) == {pitch_of(None)}
        assert default_voice(one) is None


@pytest.mark.parametrize("change", ["upload", "by hand", "delete"])
def test_running_request_keeps_its_voice(server: StartServer, change: str) -> None:
    one = server("--engine", "fake", "--fake-rtf", "0.2", "--fake-chunk-ms", "50")
    old, new = distinct_clips(2)
    upload(one, "mine.wav", old)
    text = "The first of these. The second of these. The third of these."
    pcm = b""
    with HTTP.stream("POST", one.url + "/api/tts", json=body(text, "mine.wav")) as response:
        pieces = response.iter_bytes()
        pcm += next(pieces)
        if change == "upload":
            upload(one, "mine.wav", new)
        elif change == "by hand":
            (one.voices / "mine.wav").write_bytes(new)
        else:
            (one.voices / "mine.wav").unlink()
        assert one.metrics()["chatterbox_requests_running"] == 1
        pcm += b"".join(pieces)
    # Each sentence has a seed of its own.
    assert pitches(pcm) == {pitch_of(old, seed) for seed in range(3)}
    if change == "delete":
        assert speak(one, "Hello.", "mine.wav").status_code == 404
    else:
        assert spoken_pitches(one, "mine.wav") == {pitch_of(new)}


def test_queued_request_survives_voice_replacement(server: StartServer) -> None:
    one = server("--engine", "fake", "--fake-rtf", "1", env={"MAX_CONCURRENT_REQUESTS": "1", **LAZY})
    old, new = distinct_clips(2)
    upload(one, "mine.wav", old)
    answers: list[httpx.Response] = []
    with HttpSpeech(one, LONG_TEXT) as speaking:
        speaking.wait_audio()
        waiting = in_background(lambda: answers.append(speak(one, "This is a text.", "mine.wav")))
        one.wait_metric("chatterbox_requests_waiting", 1)
        upload(one, "mine.wav", new)
    waiting.join(30)
    assert answers[0].status_code == 200, answers[0].text
    assert pitches(answers[0].content) in ({pitch_of(old)}, {pitch_of(new)})


@pytest.mark.parametrize("cache", ["eager", "lazy"])
def test_concurrent_upload_delete_and_use_of_voice(server: StartServer, cache: str) -> None:
    one = server(*FAKE, env={"VOICE_CACHE": cache, "MAX_CONCURRENT_REQUESTS": "4"})
    contents = distinct_clips(4)
    allowed = [{pitch_of(content)} for content in contents]
    upload(one, "mine.wav", contents[0])
    stop = threading.Event()
    wrong: list[str] = []
    right: list[str] = []

    def replace() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            response = upload(one, "mine.wav", contents[turn % len(contents)])
            if response.status_code != 200:
                wrong.append(response.text)

    def delete() -> None:
        while not stop.wait(0.01):
            with contextlib.suppress(FileNotFoundError):
                (one.voices / "mine.wav").unlink()

    def use() -> None:
        while not stop.is_set():
            response = speak(one, "This is a text.", "mine.wav")
            if response.status_code == 200:
                tones = pitches(response.content)
                (right if tones in allowed else wrong).append(str(tones))
            elif response.json()["code"] != "VOICE_NOT_FOUND":
                wrong.append(response.text)

    workers = [in_background(work) for work in (replace, delete, use, use, use)]
    try:
        wait_until(lambda: bool(wrong) or len(right) >= 100, "a hundred answers in a voice", seconds=60)
    finally:
        stop.set()
    for worker in workers:
        worker.join(30)
    assert not wrong
    assert upload(one, "mine.wav", contents[0]).status_code == 200
    assert spoken_pitches(one, "mine.wav") == allowed[0]
