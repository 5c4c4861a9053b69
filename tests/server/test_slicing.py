"""What is cut off a request's audio, and how it is sliced: by the request, else by the settings."""

from __future__ import annotations

import numpy as np
import pytest
from audio_helpers import refusal, speak
from faults_helpers import body
from running_server import HTTP, Server, StartServer
from ws_helpers import talking

RATE = 24_000
TEXT = "This is the first sentence. This is the second one, which is the last."


def samples(server: Server, **fields: object) -> np.ndarray:
    response = HTTP.post(server.url + "/api/tts", json={**body(TEXT), **fields})
    assert response.status_code == 200, response.text
    return np.frombuffer(response.content, "<f4")


@pytest.mark.parametrize("stream", [True, False])
def test_both_ends_of_whole_audio_are_trimmed(fake: Server, stream: bool) -> None:
    whole = samples(fake)
    trimmed = samples(fake, remove_leading_milliseconds=300, remove_trailing_milliseconds=200.5, stream=stream)
    leading, trailing, fade = 7200, 4812, 120
    assert trimmed.size == whole.size - leading - trailing
    np.testing.assert_array_equal(trimmed[fade:-fade], whole[leading + fade : -trailing - fade])
    assert abs(trimmed[-1]) < 1e-4


def test_streamed_audio_is_trimmed_as_whole(fake: Server) -> None:
    wanted = {**body(TEXT), "remove_leading_milliseconds": 300, "remove_trailing_milliseconds": 200}
    expected = samples(fake, remove_leading_milliseconds=300, remove_trailing_milliseconds=200)
    with talking(fake) as talk:
        found = talk.spoken(**wanted).data
    np.testing.assert_array_equal(np.frombuffer(found, "<f4"), expected)


def test_max_length_counts_after_trimming(fake: Server) -> None:
    trimmed = samples(fake, remove_leading_milliseconds=500, max_audio_seconds=0.5)
    assert trimmed.size == RATE // 2


def test_trimming_everything_is_refused(fake: Server) -> None:
    said = refusal(speak(fake.url, "Hello.", remove_leading_milliseconds=10_000), 422, "INVALID_PARAMETER")
    assert said.startswith("remove_leading_milliseconds:")


def test_trim_settings_are_defaults(server: StartServer, fake: Server) -> None:
    env = {"TTS_REMOVE_LEADING_MILLISECONDS": "100", "TTS_REMOVE_TRAILING_MILLISECONDS": "50"}
    one = server("--engine", "fake", "--fake-rtf", "0", env=env)
    whole = samples(fake)
    assert samples(one).size == whole.size - 3600
    assert samples(one, remove_leading_milliseconds=0, remove_trailing_milliseconds=0).size == whole.size


def test_socket_refuses_wrong_slice_and_stays_open(fake: Server) -> None:
    with talking(fake) as talk:
        talk.fails("INVALID_PARAMETER", type="say", text="Hello.", audio_tokens_per_slice=0)
        talk.spoken("Hello.")
