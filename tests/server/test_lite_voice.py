"""What the embedded voice does and refuses, over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest
from audio_helpers import clip
from numpy.typing import NDArray
from running_server import Server
from voices_helpers import post_file

RATE = 24_000
TEXT = "She sells sea shells by the sea shore."

Pcm = NDArray[np.int16]


def ask(server: Server, text: str, **fields: Any) -> httpx.Response:
    request = {"text": text, "audio": {"format": "pcm_s16le"}, **fields}
    return httpx.post(f"{server.url}/api/tts", json=request, timeout=100)


def speak(server: Server, text: str, **fields: Any) -> Pcm:
    answer = ask(server, text, **fields)
    assert answer.status_code == 200, answer.text
    return np.frombuffer(answer.content, "<i2")


def refusal(server: Server, text: str, **fields: Any) -> tuple[int, str, str]:
    answer = ask(server, text, **fields)
    body = answer.json()
    assert set(body) - {"field"} == {"error", "code", "request_id"}
    assert body["request_id"] == answer.headers["x-request-id"]
    return answer.status_code, body["code"], body["error"]


def longest_pause(pcm: Pcm) -> float:
    """The longest stretch below -50 dB between speech and speech, in seconds."""
    frames = pcm[: pcm.size // 120 * 120].reshape(-1, 120) / 32_768
    loud = np.flatnonzero((frames**2).mean(axis=1) > 1e-5)
    return float(np.diff(loud).max() - 1) * 120 / RATE


@pytest.mark.parametrize("text", ["你好，世界", "Привет, как дела?", "مرحبا بالعالم", "Hi. Привет, как дела сегодня?"])
def test_other_scripts_are_refused(lite: Server, text: str) -> None:
    status, code, message = refusal(lite, text, stream=False)
    assert (status, code) == (422, "INVALID_PARAMETER")
    assert message.startswith("text: ")
    assert "multilingual" in message


@pytest.mark.parametrize("text", ["😀🎉", "...", "?!", "— — —"])
def test_text_without_word_is_refused(lite: Server, text: str) -> None:
    status, code, message = refusal(lite, text)
    assert (status, code) == (422, "MISSING_TEXT")
    assert message.startswith("text: ")


def test_emoji_beside_words_are_passed_over(lite: Server) -> None:
    np.testing.assert_array_equal(speak(lite, "Well done 🎉", seed=1), speak(lite, "Well done", seed=1))


def test_seed_fixes_samples(lite: Server) -> None:
    first, again, other = (speak(lite, TEXT, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_without_seed_no_two_are_same(lite: Server) -> None:
    assert not np.array_equal(speak(lite, TEXT), speak(lite, TEXT))


def test_speed_changes_pace(lite: Server) -> None:
    sizes = {speed: speak(lite, TEXT, speed=speed).size for speed in (0.5, 1, 2)}
    assert sizes[0.5] == pytest.approx(2 * sizes[1], rel=0.12)
    assert sizes[2] == pytest.approx(sizes[1] / 2, rel=0.2)


def test_engine_refusal_names_field(lite: Server) -> None:
    plain = httpx.post(f"{lite.url}/tts", json={"text": TEXT, "speed": 3}, timeout=100)
    assert (plain.status_code, plain.json()["field"]) == (422, "speed")
    assert plain.json()["detail"] == "speed: lite speaks between 0.5 and 2.0."
    openai = {"model": "lite", "input": TEXT, "voice": "heart", "speed": 3}
    answer = httpx.post(f"{lite.url}/v1/audio/speech", json=openai, timeout=100)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "speed")


@pytest.mark.parametrize("speed", [0.4, 3, 5])
def test_speed_out_of_range_is_refused(lite: Server, speed: float) -> None:
    status, code, message = refusal(lite, TEXT, speed=speed)
    assert (status, code) == (422, "INVALID_PARAMETER")
    assert message.startswith("speed: ")


@pytest.mark.parametrize(("voice", "named"), [("nobody.wav", True), ("../../etc/passwd", False)])
def test_missing_voice_error_lists_voices(lite: Server, voice: str, named: bool) -> None:
    status, code, message = refusal(lite, TEXT, voice={"audio_prompt_path": voice})
    assert (status, code) == (404, "VOICE_NOT_FOUND")
    assert "heart" in message
    assert (voice in message) is named


@pytest.mark.parametrize("voice", ["me.wav", "/app/voices/me.wav"])
def test_cloning_is_refused_with_what_to_load(lite: Server, voice: str) -> None:
    assert post_file(lite, "/voices", "file", clip(), "me.wav").status_code in (201, 409)
    status, code, message = refusal(lite, TEXT, voice={"audio_prompt_path": voice})
    assert (status, code) == (422, "CANNOT_CLONE")
    assert "Load one that can, such as turbo (LOAD_TURBO=true)." in message
    assert voice not in message


@pytest.mark.parametrize("voice", [None, {}, {"audio_prompt_path": "heart"}, {"audio_prompt_path": ""}])
def test_own_voice_is_accepted(lite: Server, voice: dict[str, str] | None) -> None:
    answer = ask(lite, "Yes.", voice=voice)
    assert answer.status_code == 200
    assert answer.headers["x-voice"] == "heart"
    assert answer.headers["x-model"] == "lite"
    assert answer.headers["x-watermark"] == "none"


@pytest.mark.parametrize("language", ["fr", "xx", "eng"])
def test_other_languages_are_refused(lite: Server, language: str) -> None:
    status, code, message = refusal(lite, TEXT, language_id=language)
    assert (status, code) == (422, "INVALID_PARAMETER")
    assert message.startswith("language_id: ")


@pytest.mark.parametrize("language", ["en", "EN-us"])
def test_english_is_accepted(lite: Server, language: str) -> None:
    assert ask(lite, "Yes.", language_id=language).status_code == 200


@pytest.mark.parametrize("seconds", [0.5, 3.0])
def test_cap_on_audio_is_kept(lite: Server, seconds: float) -> None:
    """Of all sentences together, and used up."""
    whole = speak(lite, f"{TEXT} {TEXT}", seed=1)
    cut = speak(lite, f"{TEXT} {TEXT}", seed=1, max_audio_seconds=seconds)
    assert whole.size > seconds * RATE
    assert seconds - 0.02 <= cut.size / RATE <= seconds
    assert np.abs(cut[-5:]).max() < 200


def test_sentence_of_numbers_is_spoken_to_its_end(lite: Server) -> None:
    """Many words in few characters: the longest that 150 characters can be."""
    numbers = ", ".join(["777,777,777"] * 11)
    assert len(numbers) <= 150
    one = speak(lite, "777,777,777", seed=1).size
    assert speak(lite, numbers, seed=1).size > 9.5 * one


def test_long_utterance_has_no_gap(lite: Server) -> None:
    """More phonemes than are rendered at once: the pieces follow each other as one sentence does."""
    shares = ", and ".join(["1,117 shares at $33.33"] * 5)
    assert len(f"We sold {shares}.") <= 150
    assert longest_pause(speak(lite, f"We sold {shares}.", seed=1)) < 0.6


def test_long_text_streams_early(lite: Server) -> None:
    """Its first sentence is there when next to nothing of the whole has been made."""
    sentence = "The committee met again on Tuesday to talk about the bridge."
    text = " ".join([sentence] * (4000 // (len(sentence) + 1)))
    request = {"text": text, "audio": {"format": "pcm_s16le"}}
    with httpx.stream("POST", f"{lite.url}/api/tts", json=request, timeout=100) as answer:
        assert answer.status_code == 200
        assert "content-length" not in answer.headers
        running_at_first = None
        size = 0
        for part in answer.iter_raw():
            if running_at_first is None:
                running_at_first = lite.metrics()["chatterbox_requests_running"]
            size += len(part)
    first_audio = float(answer.headers["x-time-to-first-audio-ms"]) / 1000
    whole = answer.elapsed.total_seconds()
    assert running_at_first == 1
    assert first_audio < whole / 5
    assert size / 2 / RATE > 150
