"""``/metrics``: every name, with the right values after known requests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from audio_helpers import clip, speak
from running_server import HTTP, Server, StartServer, parse_metrics

FAKE = ("--engine", "fake", "--fake-rtf", "0")
NAMES = {
    "requests_total": "counter",
    "time_to_first_audio_seconds": "histogram",
    "request_duration_seconds": "histogram",
    "queue_time_seconds": "histogram",
    "real_time_factor": "histogram",
    "inter_chunk_seconds": "histogram",
    "audio_seconds_total": "counter",
    "input_characters_total": "counter",
    "requests_running": "gauge",
    "requests_waiting": "gauge",
    "slots": "gauge",
    "ws_connections": "gauge",
    "engine_up": "gauge",
    "voice_cache_bytes": "gauge",
    "build_info": "gauge",
}
TEXT = "x" * 50
"""Three seconds in fifteen chunks."""


def ended(outcome: str) -> str:
    """The sample that counts an outcome."""
    return f'chatterbox_requests_total{{route="/api/tts",model="fake",outcome="{outcome}"}}'


def test_every_metric_has_its_name_its_kind_and_help(fake: Server) -> None:
    speak(fake.url, TEXT)
    fake.wait_metric("chatterbox_requests_running", 0)
    answer = HTTP.get(f"{fake.url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    for name, kind in NAMES.items():
        assert f"# TYPE chatterbox_{name} {kind}" in lines
        assert any(line.startswith(f"# HELP chatterbox_{name} ") for line in lines), name
    declared = {line.split()[2] for line in lines if line.startswith("# TYPE ")}
    assert declared == {f"chatterbox_{name}" for name in NAMES}
    assert parse_metrics(answer.text)


def test_values_after_known_requests(server: StartServer) -> None:
    one = server(*FAKE, "--max-concurrent-requests", "5")
    for _ in range(4):
        assert speak(one.url, TEXT).status_code == 200
    speak(one.url, "[[fail]]")
    speak(one.url, "[[fail-late]]", stream=False)
    speak(one.url, "not a voice", voice={"audio_prompt_path": "nobody.wav"})
    one.wait_metric("chatterbox_requests_running", 0)
    found = one.metrics()
    assert found[ended("ok")] == 4
    assert found[ended("failed")] == 2
    assert found[ended("rejected").replace("fake", "none")] == 1
    assert found['chatterbox_audio_seconds_total{model="fake"}'] == 12
    # What reached the engine; a refused request has no part in it.
    assert found["chatterbox_input_characters_total"] == 4 * len(TEXT) + len("[[fail]]") + len("[[fail-late]]")
    assert found['chatterbox_request_duration_seconds_count{route="/api/tts"}'] == 7
    assert found["chatterbox_queue_time_seconds_count"] == 6
    assert found['chatterbox_time_to_first_audio_seconds_count{model="fake"}'] in (4, 5)
    assert found['chatterbox_real_time_factor_count{model="fake"}'] in (4, 5)
    assert found["chatterbox_inter_chunk_seconds_count"] == 4 * 14
    assert found["chatterbox_slots"] == 5
    assert found["chatterbox_engine_up"] == 1
    assert found["chatterbox_ws_connections"] == 0
    version = HTTP.get(f"{one.url}/health").json()["version"]
    assert found[f'chatterbox_build_info{{version="{version}"}}'] == 1


def test_times_are_measured(server: StartServer) -> None:
    one = server("--engine", "fake", "--fake-rtf", "0.5", "--max-concurrent-requests", "1")
    with ThreadPoolExecutor() as pool:
        # Almost a second of audio each, in five steps of a tenth of a second.
        both = [pool.submit(speak, one.url, "x" * 16) for _ in range(2)]
        assert {each.result().status_code for each in both} == {200}
    found = one.metrics()
    first_audio = found['chatterbox_time_to_first_audio_seconds_sum{model="fake"}']
    assert found["chatterbox_queue_time_seconds_sum"] == pytest.approx(0.5, abs=0.3)
    assert first_audio == pytest.approx(found["chatterbox_queue_time_seconds_sum"] + 0.2, abs=0.3)
    assert found['chatterbox_request_duration_seconds_sum{route="/api/tts"}'] == pytest.approx(1.5, abs=0.6)
    assert found['chatterbox_real_time_factor_sum{model="fake"}'] == pytest.approx(1.0, abs=0.3)
    assert found["chatterbox_inter_chunk_seconds_sum"] == pytest.approx(0.8, abs=0.3)
    assert (
        found['chatterbox_inter_chunk_seconds_bucket{le="+Inf"}'] == found["chatterbox_inter_chunk_seconds_count"] == 8
    )


def test_unknown_path_adds_no_label(fake: Server) -> None:
    HTTP.get(f"{fake.url}/api/canary-path")
    HTTP.post(f"{fake.url}/api/tts", json={"text": "Hi.", "model": "canary-model"})
    assert "canary" not in HTTP.get(f"{fake.url}/metrics").text


def test_cached_voices_are_counted(server: StartServer) -> None:
    one = server(*FAKE)
    assert one.metrics()["chatterbox_voice_cache_bytes"] == 0
    HTTP.post(f"{one.url}/api/voices/upload", files={"file": ("a.wav", clip())}).raise_for_status()
    assert speak(one.url, voice={"audio_prompt_path": "a"}).status_code == 200
    assert one.metrics()["chatterbox_voice_cache_bytes"] > 0


def test_loading_engine_is_not_up(server: StartServer) -> None:
    one = server(*FAKE, "--fake-load-seconds", "1", wait=False)
    one.wait_listening()
    assert one.metrics()["chatterbox_engine_up"] == 0
    one.wait_ready()
    assert one.metrics()["chatterbox_engine_up"] == 1
