"""``POST /api/tts``: the audio, its headers, and how failures look."""

from __future__ import annotations

import json
from collections import deque

import httpx
import numpy as np
import pytest
from audio_helpers import SAMPLE_RATES, Samples, clip, pitch, read_pcm, read_wav, refusal, speak
from chatterbox_server.fake import frequency
from running_server import HTTP, Server, StartServer
from voices_helpers import post_file

CONTENT_TYPES = {"wav": "audio/wav", "pcm_s16le": "audio/pcm", "pcm_f32le": "audio/pcm"}
SENTENCE = "Hello there, this is one sentence."
SECONDS = 0.06 * len(SENTENCE)
"""What the fake engine makes of it: more than ten of its chunks."""
AMPLITUDE = 0.1


@pytest.mark.parametrize("rate", SAMPLE_RATES)
@pytest.mark.parametrize("name", CONTENT_TYPES)
def test_every_format_at_every_rate(fake: Server, name: str, rate: int) -> None:
    answer = speak(fake.url, SENTENCE, seed=3, audio={"format": name, "sample_rate": rate})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == CONTENT_TYPES[name]
    assert answer.headers["x-sample-rate"] == str(rate)
    if name == "wav":
        samples, found_rate = read_wav(answer.content)
        assert found_rate == rate
    else:
        samples = read_pcm(answer.content, name)
    assert len(samples) == pytest.approx(SECONDS * rate, abs=2)
    hertz = frequency("fake", "tone", 3)
    assert pitch(samples, rate) == pytest.approx(hertz, abs=1)
    # A seam between chunks, of the engine's or of the resampler's, would be steeper than the sine is anywhere.
    assert np.max(np.abs(np.diff(samples))) < 1.02 * AMPLITUDE * 2 * np.pi * hertz / rate + 2 / 32768
    assert np.max(np.abs(samples)) == pytest.approx(AMPLITUDE, rel=0.02)


def test_streamed_answer_has_unknown_sizes(fake: Server) -> None:
    answer = speak(fake.url)
    assert "content-length" not in answer.headers
    assert "accept-ranges" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.content[:4] == b"RIFF"
    assert answer.content[4:8] == b"\xff\xff\xff\xff"
    assert answer.content[40:44] == b"\xff\xff\xff\xff"


def test_whole_answer_has_real_sizes(fake: Server) -> None:
    answer = speak(fake.url, stream=False)
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert int.from_bytes(answer.content[4:8], "little") == len(answer.content) - 8
    samples = int.from_bytes(answer.content[40:44], "little")
    # What says who made it comes after the samples.
    assert answer.content[44 + samples :].startswith(b"LIST")


@pytest.mark.parametrize("name", CONTENT_TYPES)
def test_streamed_or_whole_samples_are_same(fake: Server, name: str) -> None:
    head = 44 if name == "wav" else 0
    audio = {"format": name, "sample_rate": 44_100}
    streamed = speak(fake.url, SENTENCE, seed=1, audio=audio)
    whole = speak(fake.url, SENTENCE, seed=1, audio=audio, stream=False)
    assert len(streamed.content) > 1000
    assert streamed.content[head:] == whole.content[head : len(streamed.content)]


def test_headers_name_voice_model_and_times(fake: Server) -> None:
    headers = speak(fake.url).headers
    assert headers["x-model"] == "fake"
    assert headers["x-voice"] == "tone"
    assert headers["x-watermark"] == "none"
    assert int(headers["x-queue-time-ms"]) >= 0
    assert int(headers["x-time-to-first-audio-ms"]) >= int(headers["x-queue-time-ms"])


def test_audio_arrives_while_it_is_made(server: StartServer) -> None:
    slow = server("--engine", "fake", "--fake-rtf", "0.5")
    with HTTP.stream("POST", f"{slow.url}/api/tts", json={"text": "x" * 100}) as answer:
        pieces = answer.iter_raw()
        first = next(pieces)
        assert slow.metrics()["chatterbox_requests_running"] == 1
        rest = b"".join(pieces)
    assert 0 < len(first) < len(rest)


def test_failure_before_first_audio_has_status_of_its_own(fake: Server) -> None:
    refusal(speak(fake.url, "This will [[fail]] at once."), 500, "GENERATION_ERROR")
    out_of_memory = speak(fake.url, "This is [[oom]] too big.")
    refusal(out_of_memory, 503, "SERVER_BUSY")
    assert int(out_of_memory.headers["retry-after"]) >= 1
    assert "letter" in refusal(speak(fake.url, "[[mute]]"), 422, "MISSING_TEXT")


def test_failure_after_first_audio_aborts_transfer(fake: Server) -> None:
    received = bytearray()
    with HTTP.stream("POST", f"{fake.url}/api/tts", json={"text": "Half of it [[fail-late]] is lost."}) as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            deque(map(received.extend, answer.iter_raw()))
    assert received[:4] == b"RIFF"
    late = speak(fake.url, "Half of it [[fail-late]] is lost.", stream=False)
    refusal(late, 500, "GENERATION_ERROR")


def utterances(samples: Samples, rate: int) -> list[Samples]:
    """The stretches between pauses of a tenth of a second or more."""
    window = rate // 100
    loud = np.array([np.max(np.abs(part)) > 0.01 for part in np.array_split(samples, len(samples) // window)])
    edges = np.flatnonzero(np.diff(np.concatenate(([False], loud, [False])).astype(int)))
    return [samples[start * window : end * window] for start, end in zip(edges[::2], edges[1::2], strict=True)]


def test_text_is_cut_at_sentences_and_spoken_in_order(server: StartServer) -> None:
    cutting = server("--engine", "fake", "--fake-rtf", "0", "--text-chunk-size", "40")
    sentences = ["The first sentence is spoken.", "Then the second one follows.", "Last of all comes the third."]
    answer = speak(cutting.url, " ".join(sentences), seed=100)
    samples, rate = read_wav(answer.content)
    spoken = utterances(samples, rate)
    # Each utterance has the seed of the one before it plus one, and so a tone of its own.
    assert [round(pitch(part, rate), -1) for part in spoken] == [frequency("fake", "tone", 100 + i) for i in range(3)]
    for part, sentence in zip(spoken, sentences, strict=True):
        assert len(part) / rate == pytest.approx(0.06 * len(sentence), abs=0.08)
    assert len(samples) / rate == pytest.approx(0.06 * sum(map(len, sentences)) + 2 * 0.35, abs=0.15)


def test_max_audio_seconds_ends_audio(fake: Server) -> None:
    text = "This is a sentence with a good deal of text in it. " * 8
    samples, rate = read_wav(speak(fake.url, text, max_audio_seconds=2.5).content)
    assert len(samples) == 2.5 * rate


def test_endless_utterance_is_ended(server: StartServer) -> None:
    one = server("--engine", "fake", "--fake-rtf", "0", env={"TTS_TEXT_PROCESSING_CHUNK_SIZE": "1000"})
    # The fake engine would speak for four minutes.
    samples, rate = read_wav(speak(one.url, "word " * 199, speed=0.25).content)
    assert len(samples) / rate == pytest.approx(120, abs=1)


def test_speed_changes_length(fake: Server) -> None:
    samples, rate = read_wav(speak(fake.url, SENTENCE, speed=2).content)
    assert len(samples) / rate == pytest.approx(SECONDS / 2, abs=0.01)


def test_seed_decides(lite: Server) -> None:
    first, again, other = (speak(lite.url, "The same words.", seed=seed).content for seed in (5, 5, 6))
    assert first == again
    assert len(first) > 20_000
    assert first != other


def test_lite_cloning_error_names_setting(lite: Server) -> None:
    assert post_file(lite, "/voices", "file", clip(), "someone.wav").status_code in (201, 409)
    said = refusal(speak(lite.url, voice={"audio_prompt_path": "someone.wav"}), 422, "CANNOT_CLONE")
    assert "Load one that can, such as turbo (LOAD_TURBO=true)." in said


def test_request_id_is_taken_over_or_made(fake: Server) -> None:
    def answer(given: str) -> httpx.Response:
        return HTTP.post(f"{fake.url}/api/tts", json={"text": ""}, headers={"x-request-id": given})

    taken = answer("my-id-1")
    assert json.loads(taken.content)["request_id"] == taken.headers["x-request-id"] == "my-id-1"
    for bad in ("two words", "x" * 129):
        made = answer(bad)
        assert json.loads(made.content)["request_id"] == made.headers["x-request-id"] != bad
    assert speak(fake.url).headers["x-request-id"] != speak(fake.url).headers["x-request-id"]
