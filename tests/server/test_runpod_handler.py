"""RunPod jobs, done by a real server, without RunPod's SDK."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import io
import logging
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import av
import numpy as np
import psutil
import pytest
from audio_helpers import Samples, clip, pitch, read_wav
from chatterbox_server.fake import frequency
from chatterbox_server.serverless.handler import Worker
from chatterbox_server.serverless.job import SAMPLE_RATES, read_job
from chatterbox_server.serverless.process import ChildServer, RunningServer
from running_server import COMMAND, HTTP, Server, StartServer, clean_environment

FAKE = ("--engine", "fake", "--fake-rtf", "0")
TEXT = "Every piece of this is sent when it is there, and all of them are one file."
VOICE = "tone"
"""The fake engine's own voice."""
SECONDS = 0.06 * len(TEXT)

Items = list[dict[str, Any]]


async def _done(worker: Worker, job: dict[str, Any]) -> Items:
    return [item async for item in worker.handle(job)]


def done(server: Server | RunningServer, text: str = TEXT, /, **parameters: Any) -> Items:
    """All that a job is answered with."""
    where = RunningServer(server.url, None) if isinstance(server, Server) else server
    job = {"id": "job-1", "input": {"operation": "tts", "text": text, **parameters}}
    return asyncio.run(_done(Worker(where), job))


def joined(items: Items) -> bytes:
    """The pieces as a file."""
    assert [item["index"] for item in items[:-1]] == list(range(len(items) - 1))
    assert items[-1]["finished"] is True
    assert items[-1]["pieces"] == len(items) - 1
    return b"".join(base64.b64decode(item["audio"], validate=True) for item in items[:-1])


def decoded(data: bytes) -> tuple[Samples, int]:
    """The samples of a file and their rate, as FFmpeg reads them."""
    with av.open(io.BytesIO(data), "r") as file:
        plain = av.AudioResampler(format="dbl", layout="mono")
        parts = [part.to_ndarray()[0] for frame in file.decode(audio=0) for part in plain.resample(frame)]
        return np.concatenate(parts), file.streams.audio[0].rate


def failure(items: Items) -> tuple[str, str]:
    """Code and sentence of a job that failed: the last that was said of it."""
    assert set(items[-1]) == {"error", "code"}
    assert not any("error" in item or "finished" in item for item in items[:-1])
    return items[-1]["code"], items[-1]["error"]


@pytest.mark.parametrize("rate", SAMPLE_RATES)
@pytest.mark.parametrize("name", ["wav", "opus", "mp3"])
def test_streamed_outputs_form_one_file(fake: Server, name: str, rate: int) -> None:
    items = done(fake, output_format=name, sample_rate=rate, seed=3)
    kinds = {"wav": "audio/wav", "opus": "audio/ogg", "mp3": "audio/mpeg"}
    assert all((item["format"], item["sample_rate"]) == (name, rate) for item in items)
    assert all(item["content_type"] == kinds[name] for item in items[:-1])
    assert (items[-1]["model"], items[-1]["watermark"]) == ("fake", "none")
    samples, decoded_rate = decoded(joined(items))
    assert decoded_rate == (48_000 if name == "opus" else rate)
    # A frame of mp3 at 16 kHz, and what its encoder adds, is the most that a format may add.
    assert len(samples) / decoded_rate == pytest.approx(SECONDS, abs=0.002 if name != "mp3" else 0.15)
    assert pitch(samples, decoded_rate) == pytest.approx(frequency("fake", VOICE, 3), abs=2)
    metrics = items[-1]["metrics"]
    assert metrics["duration_seconds"] == pytest.approx(len(samples) / decoded_rate, abs=0.1)
    assert 0 < metrics["time_to_first_audio_ms"] <= metrics["generation_seconds"] * 1000 + 1
    assert metrics["rtf"] == pytest.approx(metrics["generation_seconds"] / metrics["duration_seconds"], abs=0.01)


def test_outputs_arrive_before_audio_is_complete(server: StartServer) -> None:
    one = server("--engine", "fake", "--fake-rtf", "0", "--max-concurrent-requests", "1")

    async def first_piece() -> int:
        worker = Worker(RunningServer(one.url, None))
        items = worker.handle({"id": "1", "input": {"text": "[[slow 0.05]] " + "x" * 400}})
        async with contextlib.aclosing(items):
            async for item in items:
                assert item["index"] == 0
                break
            # It is still spoken, and a job that nobody waits for any more is given up.
            return int(one.metrics()["chatterbox_requests_running"])

    assert asyncio.run(first_piece()) == 1
    one.wait_metric("chatterbox_requests_running", 0)
    assert any('outcome="cancelled"' in name for name, value in one.metrics().items() if value)


def test_print_metrics_controls_result_and_log(fake: Server, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "chatterbox_server.serverless"):
        assert "metrics" not in done(fake, print_metrics=False)[-1]
        assert not caplog.messages
        assert "metrics" in done(fake, print_metrics=True)[-1]
    assert ["job-1" in message and "rtf" in message for message in caplog.messages] == [True]


def test_level_is_honoured(fake: Server) -> None:
    plain, peak, rms = (
        read_wav(joined(done(fake, "x" * 60, **asked)))[0]
        for asked in ({}, {"audio_normalization": "peak"}, {"audio_normalization": "rms"})
    )
    assert np.abs(plain).max() == pytest.approx(0.1, abs=0.01)
    assert 20 * np.log10(np.abs(peak[-24_000:]).max()) == pytest.approx(-1, abs=0.5)
    assert 20 * np.log10(np.sqrt(np.mean(rms[-24_000:] ** 2))) == pytest.approx(-20, abs=0.5)


def pitch_of_items(items: Items) -> int:
    samples, rate = read_wav(joined(items))
    return round(pitch(samples, rate) / 10) * 10


def test_clip_is_forgotten_after_job(fake: Server) -> None:
    spoken = clip(hertz=150)
    key = hashlib.sha256(spoken).hexdigest()
    job = {"voice_mode": "clone", "reference_audio": base64.b64encode(spoken).decode(), "seed": 1}
    items = done(fake, **job)
    assert pitch_of_items(items) == frequency("fake", key, 1)
    assert items[-1]["voice"] == key
    assert fake.voice_files() == []
    code, sentence = failure(done(fake, voice_id=key))
    assert code == "VOICE_NOT_FOUND"
    assert f"The voice `{key}` was not found." in sentence


def test_clip_is_cut_to_what_job_allows(fake: Server) -> None:
    job = {"reference_audio": base64.b64encode(clip(seconds=3.0)).decode(), "seed": 1}
    voices = [done(fake, **job, **cut)[-1]["voice"] for cut in ({}, {"max_reference_duration_sec": 3})]
    assert voices[0] == voices[1]
    cut = [done(fake, **job, max_reference_duration_sec=seconds)[-1]["voice"] for seconds in (1, 1.5, 1)]
    assert cut[0] == cut[2]
    assert len({voices[0], *cut}) == 3


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"not audio at all" * 100, "UNSUPPORTED_AUDIO"),
        (clip(seconds=0.3), "INVALID_PARAMETER"),
        (b"\x80\x04\x95pickle" * 100, "UNSUPPORTED_AUDIO"),
    ],
)
def test_invalid_clip_fails_job(fake: Server, sent: bytes, code: str) -> None:
    found, sentence = failure(done(fake, reference_audio=base64.b64encode(sent).decode()))
    assert found == code
    assert sentence.startswith("reference_audio: ")


def test_model_without_cloning_is_named(lite: Server) -> None:
    code, sentence = failure(done(lite, reference_audio=base64.b64encode(clip()).decode()))
    assert code == "CANNOT_CLONE"
    assert "cannot clone" in sentence


def test_voice_of_library_speaks(fake: Server) -> None:
    (fake.voices / "anna.wav").write_bytes(clip(hertz=180))
    key = hashlib.sha256(clip(hertz=180)).hexdigest()
    try:
        for name in ("anna.wav", "anna"):
            items = done(fake, voice_mode="predefined", voice=name, seed=2)
            assert (items[-1]["voice"], pitch_of_items(items)) == ("anna.wav", frequency("fake", key, 2))
    finally:
        (fake.voices / "anna.wav").unlink()


@pytest.mark.parametrize(
    ("parameters", "code", "words"),
    [
        ({"temperature": 9}, "INVALID_PARAMETER", "temperature: "),
        ({"model": "none"}, "MODEL_NOT_LOADED", "fake"),
        ({"voice_id": "nobody"}, "VOICE_NOT_FOUND", "not found"),
        ({"language_id": "xx"}, "INVALID_PARAMETER", "language_id: "),
        ({"text": "x" * 6000}, "TEXT_TOO_LONG", "5000"),
        ({"text": "[[fail]]"}, "GENERATION_ERROR", ""),
        ({"text": "[[oom]]"}, "SERVER_BUSY", ""),
        ({"text": "[[slow 1.3]]"}, "TIMEOUT", ""),
        ({"text": "[[mute]]"}, "MISSING_TEXT", ""),
    ],
)
def test_job_that_fails_ends_with_reason(
    server: StartServer, fake: Server, parameters: dict[str, Any], code: str, words: str
) -> None:
    # Memory that ran out leaves its mark on a server; and only one of them has no time.
    own = {"[[oom]]": FAKE, "[[slow 1.3]]": (*FAKE, "--request-timeout", "1")}.get(parameters.get("text", ""))
    one = server(*own) if own else fake
    items = done(one, parameters.get("text", TEXT), **{k: v for k, v in parameters.items() if k != "text"})
    assert len(items) == 1
    assert failure(items)[0] == code
    assert words in failure(items)[1]
    assert joined(done(one))


def test_server_reads_every_field_of_worker(fake: Server) -> None:
    everything = read_job(
        {
            **{"text": "Hi.", "model": "fake", "language_id": "en", "seed": 1, "voice_id": "anna", "exaggeration": 1},
            **{"cfg_weight": 1, "temperature": 1, "chunk_size": 1, "context_window": 1, "fade_duration": 1},
            **{"audio_normalization": "rms"},
        }
    )
    assert len(everything.fields) == 14
    for name in everything.fields:
        answer = HTTP.post(f"{fake.url}/tts", json={"text": "Hi.", name: []})
        assert (answer.status_code, answer.json()["field"]) == (422, name)
        assert answer.json()["detail"].startswith(f"{name}: ")
    for wrong in ("0.5", "61", "nan", "x"):
        form = {"text": "Hi.", "max_reference_duration_sec": wrong}
        answer = HTTP.post(f"{fake.url}/tts", data=form, files={"voice_file": ("clip", clip())})
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("max_reference_duration_sec: ")


def test_truncated_audio_fails_job(fake: Server) -> None:
    items = done(fake, "[[fail-late]] " + TEXT)
    assert failure(items)[0] == "GENERATION_ERROR"
    assert "complete" in failure(items)[1]


def test_wrong_address_is_jobs_error(fake: Server) -> None:
    assert failure(done(RunningServer("http://127.0.0.1:1", None))) == ("SERVER_BUSY", "the server cannot be reached")
    assert failure(done(RunningServer(fake.url + "/nowhere", None)))[0] == "NOT_FOUND"


@pytest.fixture
def stranger() -> Iterator[str]:
    """The address of a server that is none of ours."""

    class Stranger(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(502)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Stranger)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_foreign_response_is_error(stranger: str) -> None:
    assert failure(done(RunningServer(stranger, None)))[1] == "the server answered with status 502"


def test_key_and_job_id_reach_server(server: StartServer) -> None:
    one = server(*FAKE, env={"API_KEY": "secret"})
    assert failure(done(one))[0] == "UNAUTHORIZED"
    assert joined(done(RunningServer(one.url, "secret")))
    assert "job-1" in one.log()
    assert "secret" not in one.log()


def test_jobs_run_concurrently(fake: Server) -> None:
    async def all_at_once() -> list[Items]:
        worker = Worker(RunningServer(fake.url, None))
        jobs = [{"id": str(number), "input": {"text": TEXT, "seed": number}} for number in range(6)]
        return await asyncio.gather(*(_done(worker, job) for job in jobs))

    assert [pitch_of_items(items) for items in asyncio.run(all_at_once())] == [
        frequency("fake", VOICE, n) for n in range(6)
    ]


@pytest.fixture
def child(tmp_path: Path) -> Iterator[ChildServer]:
    environment = clean_environment({"VOICES_DIR": str(tmp_path / "voices"), "HOST": "0.0.0.0", "PORT": "1"})
    server = ChildServer([str(COMMAND), *FAKE], environment, ready_seconds=30, restart_seconds=0.05)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def test_child_server_is_loopback_only_with_key(child: ChildServer) -> None:
    url = asyncio.run(child.url())
    assert url.startswith("http://127.0.0.1:")
    process = psutil.Process(child.pid)
    listening = {c.laddr.ip for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}
    assert failure(done(RunningServer(url, None)))[0] == "UNAUTHORIZED"
    assert joined(asyncio.run(_done(Worker(child), {"id": "1", "input": {"text": "Hello."}})))


def test_dead_child_is_restarted_and_fails_only_its_job(child: ChildServer) -> None:
    first = child.pid
    died = asyncio.run(_done(Worker(child), {"id": "1", "input": {"text": "[[die]] Hello."}}))
    assert failure(died)[0] == "GENERATION_ERROR"
    # The next job waits for the server that is on its way.
    deadline = time.monotonic() + 30
    while True:
        items = asyncio.run(_done(Worker(child), {"id": "2", "input": {"text": "Hello."}}))
        if "error" not in items[-1]:
            break
        assert time.monotonic() < deadline, items
    assert joined(items)
    assert child.pid != first


def test_child_drains_when_it_is_stopped(child: ChildServer) -> None:
    async def stopped_meanwhile() -> Items:
        items: Items = []
        stopping: asyncio.Task[None] | None = None
        async for item in Worker(child).handle({"id": "1", "input": {"text": "[[slow 0.05]] " + "x" * 60}}):
            items.append(item)
            stopping = stopping or asyncio.create_task(asyncio.to_thread(child.stop))
        assert stopping is not None
        await stopping
        return items

    assert joined(asyncio.run(stopped_meanwhile()))
    assert not psutil.pid_exists(child.pid or 0)
    assert failure(asyncio.run(_done(Worker(child), {"id": "2", "input": {"text": "Hi."}})))[0] == "SERVER_BUSY"
