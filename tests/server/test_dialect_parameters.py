"""Every parameter of the dialects whose parameters stand in one level, over each way that takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from audio_helpers import Samples, clip, pitch, read_wav, refusal
from chatterbox_server.fake import frequency
from running_server import HTTP, Server
from voices_helpers import post_file

TEXT = "Hello there, this is one sentence."
LONG = "one two three four five six seven eight nine ten eleven twelve"

Way = Callable[..., httpx.Response]
WAYS: dict[str, Way] = {
    "GET": lambda url, **fields: HTTP.get(f"{url}/tts/generate", params=fields),
    "POST": lambda url, **fields: HTTP.post(f"{url}/tts/generate", json=fields),
    "multipart": lambda url, **fields: HTTP.post(
        f"{url}/tts", files={name: (None, str(value)) for name, value in fields.items()}
    ),
    "form": lambda url, **fields: HTTP.post(f"{url}/tts", data=fields),
    "JSON": lambda url, **fields: HTTP.post(f"{url}/tts", json=fields),
}

WRONG: dict[str, list[Any]] = {
    "exaggeration": [-0.1, 2.1, "much"],
    "cfg_weight": [-0.1, 1.1, "much"],
    "cfg_guidance_weight": [-0.1, 1.1, "much"],
    "temperature": [-0.1, 2.1, "hot"],
    "synthesis_temperature": [-0.1, 2.1, "hot"],
    "top_p": [-0.1, 1.1, "all"],
    "min_p": [-0.1, 1.1, "all"],
    "top_k": [-1, 1.5, "all"],
    "repetition_penalty": [0.9, 10.1, "x"],
    "seed": [-2, 1.5, 1 << 53, "x"],
    "speed": [0.2, 4.1, "fast"],
    "format": ["wave", "pcm_u8"],
    "sample_rate": [11_025, -1, "high"],
    "bitrate": [1, -1, "high"],
    "stream": ["maybe", 2],
    "audio_normalization": ["loud"],
    "max_audio_seconds": [0, 3601, "long"],
    "language_id": ["xx"],
    "text_processing_chunk_size": [19, 1001, 50.5, "x"],
    "audio_tokens_per_slice": [0, 1001, 1.5, "x"],
    "context_window": [-1, 1001, "x"],
    "chunk_overlap_method": ["half"],
    "crossfade_duration_milliseconds": [-1, 1001, "x"],
    "remove_leading_milliseconds": [-1, 10_001, "x"],
    "remove_trailing_milliseconds": [-1, 10_001, "x"],
}
RIGHT: dict[str, Any] = {
    "exaggeration": 0.7,
    "cfg_weight": 0.3,
    "cfg_guidance_weight": 0.3,
    "temperature": 0.5,
    "synthesis_temperature": 0.5,
    "top_p": 0.9,
    "min_p": 0.1,
    "top_k": 50,
    "repetition_penalty": 1.3,
    "audio_tokens_per_slice": 35,
    "context_window": 10,
    "chunk_overlap_method": "zero",
    "crossfade_duration_milliseconds": 30,
}
"""What this engine has no use for; a Chatterbox model uses each of them."""


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


def samples_of(response: httpx.Response) -> Samples:
    """The samples of a WAV answer at 24 kHz."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "audio/wav"
    samples, rate = read_wav(response.content)
    assert rate == 24_000
    return samples


def seconds(response: httpx.Response) -> float:
    return len(samples_of(response)) / 24_000


def test_text_is_spoken(fake: Server, way: Way) -> None:
    assert seconds(way(fake.url, text=TEXT)) == pytest.approx(0.06 * len(TEXT))
    refusal(way(fake.url, seed=1), 422, "MISSING_TEXT")
    refusal(way(fake.url, text=" \n"), 422, "MISSING_TEXT")
    refusal(way(fake.url, text="x" * 5001), 400, "TEXT_TOO_LONG")


def test_seed_and_speed(fake: Server, way: Way) -> None:
    spoken = samples_of(way(fake.url, text=TEXT, seed=4, speed=2))
    assert len(spoken) / 24_000 == pytest.approx(0.03 * len(TEXT))
    assert pitch(spoken, 24_000) == pytest.approx(frequency("fake", "tone", 4), abs=1)


def test_model_and_language(fake: Server, way: Way) -> None:
    answer = way(fake.url, text=TEXT, model="fake", language_id="fr-CA")
    assert (answer.status_code, answer.headers["x-model"]) == (200, "fake")
    assert "fake" in refusal(way(fake.url, text=TEXT, model="turbo"), 404, "MODEL_NOT_LOADED")


def test_rate_and_bitrate(fake: Server, way: Way) -> None:
    sizes = {}
    for kbps in (32, 128):
        answer = way(fake.url, text=TEXT, format="mp3", sample_rate=48_000, bitrate=kbps)
        assert (answer.headers["content-type"], answer.headers["x-sample-rate"]) == ("audio/mpeg", "48000")
        sizes[kbps] = len(answer.content)
    assert sizes[128] > 3 * sizes[32]


def test_whole_answer_has_its_length_and_streamed_one_has_none(fake: Server, way: Way) -> None:
    whole, streamed = (way(fake.url, text=TEXT, seed=1, stream=stream) for stream in (False, True))
    assert int(whole.headers["content-length"]) == len(whole.content)
    assert "content-length" not in streamed.headers
    np.testing.assert_array_equal(samples_of(whole), samples_of(streamed))


def test_level_can_be_set(fake: Server, way: Way) -> None:
    peak = {
        level: np.abs(samples_of(way(fake.url, text=TEXT, stream=False, audio_normalization=level))).max()
        for level in ("none", "peak", "rms", "lufs")
    }
    assert peak["none"] == pytest.approx(0.1, abs=0.001)
    assert peak["peak"] == pytest.approx(0.891, abs=0.001)
    assert len({round(level, 3) for level in peak.values()}) == 4


def test_length_of_audio_can_be_limited(fake: Server, way: Way) -> None:
    assert seconds(way(fake.url, text=TEXT, max_audio_seconds=0.5)) == pytest.approx(0.5)


def test_both_ends_can_be_trimmed(fake: Server, way: Way) -> None:
    trimmed = way(fake.url, text=TEXT, remove_leading_milliseconds=300, remove_trailing_milliseconds=200)
    assert seconds(trimmed) == pytest.approx(0.06 * len(TEXT) - 0.5)


def test_text_chunk_size_is_honoured(fake: Server, way: Way) -> None:
    """Between pieces of a sentence there is a short pause."""
    lengths = [seconds(way(fake.url, text=LONG, text_processing_chunk_size=size)) for size in (20, 40, 200)]
    assert lengths[0] > lengths[1] + 0.1
    assert lengths[1] > lengths[2] + 0.05
    assert lengths[2] == pytest.approx(0.06 * len(LONG))


@pytest.mark.parametrize("name", RIGHT)
def test_unused_parameters_are_accepted(fake: Server, way: Way, name: str) -> None:
    assert seconds(way(fake.url, text=TEXT, **{name: RIGHT[name]})) == pytest.approx(0.06 * len(TEXT))


@pytest.mark.parametrize("name", WRONG)
def test_wrong_value_is_refused_by_name(fake: Server, way: Way, name: str) -> None:
    for value in WRONG[name]:
        extra = {"format": "mp3"} if name == "bitrate" else {}
        said = refusal(way(fake.url, text=TEXT, **extra, **{name: value}), 422, "INVALID_PARAMETER")
        assert said.startswith(f"{name}: "), (value, said)


def test_not_number_is_no_value(fake: Server) -> None:
    for way in ("GET", "multipart", "form"):
        for value in ("NaN", "inf"):
            said = refusal(WAYS[way](fake.url, text=TEXT, temperature=value), 422, "INVALID_PARAMETER")
            assert said.startswith("temperature: ")


def test_two_names_for_same_are_refused(fake: Server, way: Way) -> None:
    said = refusal(way(fake.url, text=TEXT, temperature=1, synthesis_temperature=1), 422, "INVALID_PARAMETER")
    assert said.startswith("synthesis_temperature: ")


def test_unknown_parameters_are_ignored(fake: Server, way: Way) -> None:
    assert seconds(way(fake.url, text=TEXT, _="1700000000")) == pytest.approx(0.06 * len(TEXT))


def test_empty_value_counts_as_left_out(fake: Server, way: Way) -> None:
    empty = dict.fromkeys(set(WRONG) - {"text"}, "")
    assert seconds(way(fake.url, text=TEXT, voice_id="", **empty)) == pytest.approx(0.06 * len(TEXT))


def test_value_that_comes_twice_is_refused(fake: Server) -> None:
    twice: list[tuple[str, Any]] = [("text", TEXT), ("seed", "1"), ("seed", "1")]
    for response in (
        HTTP.get(f"{fake.url}/tts/generate", params=httpx.QueryParams(twice)),
        HTTP.post(f"{fake.url}/tts", data={"text": TEXT, "seed": ["1", "1"]}),
        HTTP.post(f"{fake.url}/tts", files=[(name, (None, value)) for name, value in twice]),
    ):
        assert refusal(response, 422, "INVALID_PARAMETER").startswith("seed: ")


def test_voices(fake: Server, way: Way) -> None:
    assert post_file(fake, "/voices", "file", clip(), "anna.wav").status_code in (201, 409)
    own = way(fake.url, text=TEXT, seed=1)
    for name in ("anna.wav", "anna"):
        cloned = way(fake.url, text=TEXT, seed=1, voice_id=name)
        assert (cloned.status_code, cloned.headers["x-voice"]) == (200, "anna.wav")
        assert abs(pitch(samples_of(cloned), 24_000) - pitch(samples_of(own), 24_000)) > 5
    assert own.headers["x-voice"] == "tone"
    refusal(way(fake.url, text=TEXT, voice_id="nobody"), 404, "VOICE_NOT_FOUND")
    refusal(way(fake.url, text=TEXT, voice_id="../anna.wav/../x"), 404, "VOICE_NOT_FOUND")
