"""Settings under the names that older servers gave them: each does something."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from audio_helpers import read_wav, refusal
from running_server import HTTP, Server, StartServer

FAKE = ("--engine", "fake", "--fake-rtf", "0")
LONG = "one two three four five six seven eight nine ten eleven twelve"

EXAMPLE = """\
# Server Settings
API_KEY="your-super-secret-api-key"
HOST="127.0.0.1"
CONCURRENT_REQUESTS_PER_WORKER=2 # Allow 2 TTS tasks per GPU
DEBUG=False
LOG_LEVEL=INFO
CORS_ORIGINS="http://localhost:3000,https://your-frontend.com"

# TTS Tuning for Low Latency
TTS_VOICE_EXAGGERATION_FACTOR=0.5
TTS_CFG_GUIDANCE_WEIGHT=0.5
TTS_SYNTHESIS_TEMPERATURE=0.8
TTS_TEXT_PROCESSING_CHUNK_SIZE=20
TTS_AUDIO_TOKENS_PER_SLICE=35
TTS_REMOVE_LEADING_MILLISECONDS=0
TTS_REMOVE_TRAILING_MILLISECONDS=100
TTS_CHUNK_OVERLAP_STRATEGY="full"
TTS_CROSSFADE_DURATION_MILLISECONDS=30
TTS_SPEECH_TOKEN_QUEUE_MAX_SIZE=2
TTS_PCM_CHUNK_QUEUE_MAX_SIZE=3
"""


def seconds(server: Server, text: str, **fields: object) -> float:
    answer = HTTP.post(f"{server.url}/tts/generate", json={"text": text, **fields})
    assert answer.status_code == 200, answer.text
    samples, rate = read_wav(answer.content)
    return len(samples) / rate


def test_env_file_with_all_settings_is_read(server: StartServer, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(EXAMPLE)
    one = server(*FAKE, folder=tmp_path)
    refusal(HTTP.get(f"{one.url}/tts/generate", params={"text": LONG}), 401, "UNAUTHORIZED")
    headers = {"x-api-key": "your-super-secret-api-key", "origin": "http://localhost:3000"}
    answer = HTTP.get(f"{one.url}/tts/generate", params={"text": LONG}, headers=headers)
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
    samples, rate = read_wav(answer.content)
    # Cut into four, with pauses between them.
    assert len(samples) / rate > 0.06 * len(LONG)
    metrics = HTTP.get(f"{one.url}/metrics", headers=headers).text
    assert "chatterbox_slots 2" in metrics


def test_concurrency_setting_has_two_names(server: StartServer) -> None:
    other = {"CONCURRENT_REQUESTS_PER_WORKER": "5"}
    assert server(*FAKE, env=other).metrics()["chatterbox_slots"] == 5
    both = {**other, "MAX_CONCURRENT_REQUESTS": "7"}
    assert server(*FAKE, env=both).metrics()["chatterbox_slots"] == 7


def test_debug_logs_more_unless_level_is_named(server: StartServer) -> None:
    def levels(**env: str) -> set[str]:
        one = server(*FAKE, env=env)
        # Its folder is written to, so that there is something to tell of.
        HTTP.get(f"{one.url}/system-status")
        one.stop()
        return {level for level in ("DEBUG", "INFO") if f" {level} " in one.log()}

    assert levels() == {"INFO"}
    assert levels(DEBUG="1") == {"DEBUG", "INFO"}
    assert levels(DEBUG="true", LOG_LEVEL="INFO") == {"INFO"}
    assert levels(DEBUG="true", LOG_LEVEL="warning") == set()


def test_text_chunk_size_setting_and_parameter(server: StartServer) -> None:
    one = server(*FAKE, env={"TTS_TEXT_PROCESSING_CHUNK_SIZE": "20"})
    uncut = 0.06 * len(LONG)
    assert seconds(one, LONG) > uncut + 0.2
    assert seconds(one, LONG, text_processing_chunk_size=200) == pytest.approx(uncut)


@pytest.mark.parametrize(("size", "outcome"), [("1", "stalled"), ("64", "ok")])
def test_chunk_queue_of_slow_client_is_bounded(server: StartServer, size: str, outcome: str) -> None:
    """Two minutes, 23 MB: the connection holds some of it, and a long queue the rest."""
    env = {"TTS_PCM_CHUNK_QUEUE_MAX_SIZE": size, "STALL_TIMEOUT": "1", "TTS_TEXT_PROCESSING_CHUNK_SIZE": "1000"}
    one = server(*FAKE, "--fake-chunk-ms", "5000", env=env)
    query = f"text={'x' * 2000}&format=pcm_f32le&sample_rate=48000"
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        client.connect(("127.0.0.1", one.port))
        client.sendall(f"GET /tts/generate?{query} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        ended = 'chatterbox_requests_total{route="/tts/generate",model="fake",outcome="%s"}'
        one.wait_metric(ended % outcome, 1)
