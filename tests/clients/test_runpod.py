"""The official ``runpod`` SDK with this server's handler: its local API, and its worker loop on a platform's jobs."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from audio_helpers import Samples, clip
from client_helpers import KEY, SECONDS, SENTENCE, decoded, judge_speech, judge_tone
from running_server import COMMAND, Server
from runpod_helpers import LocalApi, Platform, RunpodWorker

FAKE = ("--engine", "fake", "--fake-rtf", "0")
CUT_AND_SHORT: tuple[tuple[float, dict[str, Any]], ...] = ((3.0, {"max_reference_duration_sec": 2}), (2.0, {}))
RATES = (16_000, 22_050, 24_000, 44_100, 48_000)
Items = list[dict[str, Any]]


@pytest.fixture(scope="session")
def api(fake: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApi]:
    """The SDK's API before a server that runs already and wants a key."""
    env = {"CHATTERBOX_SERVER_URL": fake.url, "API_KEY": f"{KEY},other"}
    with LocalApi(tmp_path_factory.mktemp("runpod"), env) as worker:
        yield worker


def joined(items: Items) -> bytes:
    """The pieces as a file."""
    assert [item.get("index") for item in items[:-1]] == list(range(len(items) - 1)), items[-1]
    assert items[-1]["finished"] is True, items[-1]
    return b"".join(base64.b64decode(item["audio"], validate=True) for item in items[:-1])


def audio(items: Items) -> tuple[Samples, int]:
    return decoded(joined(items), items[-1]["format"])


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", ["wav", "opus", "mp3"])
def test_every_format_at_every_rate(api: LocalApi, name: str, rate: int) -> None:
    items = api.runsync(text=SENTENCE, output_format=name, sample_rate=rate)
    assert all((item["format"], item["sample_rate"]) == (name, rate) for item in items)
    samples, decoded_rate = audio(items)
    assert decoded_rate == (48_000 if name == "opus" else rate)
    judge_tone(samples, decoded_rate)
    metrics = items[-1]["metrics"]
    assert metrics["duration_seconds"] == pytest.approx(SECONDS, abs=0.11)
    assert metrics["time_to_first_audio_ms"] > 0
    assert metrics["rtf"] > 0


def test_job_is_run_and_streamed(api: LocalApi) -> None:
    begun = api.post("/run", {"input": {"operation": "tts", "text": SENTENCE}})
    assert begun["status"] == "IN_PROGRESS"
    streamed = api.post(f"/stream/{begun['id']}")
    assert streamed["status"] == "COMPLETED"
    judge_tone(*audio([part["output"] for part in streamed["stream"]]))


def test_job_is_run_and_asked_for(api: LocalApi) -> None:
    begun = api.post("/run", {"input": {"operation": "tts", "text": SENTENCE, "output_format": "mp3"}})
    status = api.post(f"/status/{begun['id']}")
    assert status["status"] == "COMPLETED"
    judge_tone(*audio(status["output"]))


def test_older_worker_job_is_accepted(api: LocalApi) -> None:
    items = api.runsync(
        text=SENTENCE,
        exaggeration=0.5,
        cfg_weight=0.5,
        temperature=0.8,
        chunk_size=25,
        context_window=50,
        fade_duration=0.02,
        print_metrics=False,
        voice_mode="predefined",
        audio_normalization="peak",
    )
    samples, rate = audio(items)
    assert rate == 24_000
    assert float(abs(samples).max()) > 0.6
    assert "metrics" not in items[-1]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("operation", "sing"),
        ("text", " "),
        ("exaggeration", 1.1),
        ("cfg_weight", -0.1),
        ("temperature", "hot"),
        ("chunk_size", 0),
        ("context_window", 1.5),
        ("fade_duration", -1),
        ("print_metrics", "yes"),
        ("voice_mode", "none"),
        ("reference_audio", "http://127.0.0.1/clip.wav"),
        ("max_reference_duration_sec", 61),
        ("output_format", "aiff"),
        ("sample_rate", 8000),
        ("audio_normalization", "loud"),
        ("model", 5),
        ("language_id", "xx"),
        ("seed", -1),
    ],
)
def test_wrong_parameter_is_named_and_worker_continues(api: LocalApi, name: str, wrong: object) -> None:
    (only,) = api.runsync(**{"text": SENTENCE, name: wrong})
    assert only["error"].startswith(f"{name}: ")
    assert only["code"] == "INVALID_PARAMETER"
    assert joined(api.runsync(text="Hi."))


def test_clip_is_used_for_one_job_only(api: LocalApi, fake: Server) -> None:
    key = hashlib.sha256(clip()).hexdigest()
    for sent in (base64.b64encode(clip()).decode(), f"data:audio/wav;base64,{base64.b64encode(clip()).decode()}"):
        items = api.runsync(text=SENTENCE, voice_mode="clone", reference_audio=sent)
        assert items[-1]["voice"] == key
        judge_tone(*audio(items))
    assert fake.voice_files() == []
    assert api.runsync(text=SENTENCE, voice_id=key)[-1]["code"] == "VOICE_NOT_FOUND"


def test_worker_starts_its_own_server(tmp_path: Path) -> None:
    with LocalApi(tmp_path, {}, serve=()) as worker:
        (server,) = [child for child in psutil.Process(worker.process.pid).children() if child.net_connections("tcp")]
        judge_speech(*audio(worker.runsync(text=SENTENCE)))
        refused = worker.runsync(text=SENTENCE, voice_mode="clone", reference_audio=base64.b64encode(clip()).decode())
        assert [item["code"] for item in refused] == ["CANNOT_CLONE"]
        # The SDK's own default would write every piece into the log.
        assert "'audio'" not in worker.log()
        assert worker.stop() == 0
    assert not server.is_running()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny weights of turbo, made where the server is installed."""
    folder = tmp_path_factory.mktemp("checkpoint")
    code = (
        "import pathlib, sys; from chatterbox_server.bench import random_weights; "
        "random_weights.write('turbo', pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([COMMAND.parent / "python", "-c", code, folder / "turbo"], check=True, timeout=200)
    return folder


@pytest.mark.timeout(300)
def test_job_clones_with_chatterbox(checkpoint: Path, tmp_path: Path) -> None:
    settings = {"MODEL_PATH": str(checkpoint), "LOAD_TURBO": "true", "LOAD_LITE": "false", "ENGINE_THREADS": "1"}
    job: dict[str, Any] = {
        "text": "Hello there.",
        "voice_mode": "clone",
        "seed": 1,
        "chunk_size": 20,
        "context_window": 40,
    }
    with LocalApi(tmp_path, settings, serve=()) as worker:
        cut, short = (
            worker.runsync(**job, reference_audio=base64.b64encode(clip(seconds=seconds)).decode(), **limit)
            for seconds, limit in CUT_AND_SHORT
        )
        assert worker.stop() == 0
    assert cut[-1]["model"] == "turbo"
    assert cut[-1]["watermark"] == "perth"
    assert decoded(joined(cut), "wav")[1] == 24_000
    # A clip that is cut is the clip that ends there.
    assert joined(cut) == joined(short)


def test_worker_runs_platform_jobs(tmp_path: Path) -> None:
    jobs: dict[str, dict[str, Any]] = {
        "good": {
            "text": "A job whose pieces arrive one by one and long before it is done and has a result",
            "output_format": "mp3",
        },
        "wrong": {"text": SENTENCE, "temperature": 5},
        "broken": {"text": "Half of it [[fail-late]] is lost."},
        "last": {"text": SENTENCE},
    }
    platform = Platform([{"id": name, "input": {"operation": "tts", **given}} for name, given in jobs.items()])
    serve = ("--engine", "fake", "--fake-rtf", "0.1")
    with contextlib.closing(platform), RunpodWorker(tmp_path, [], platform.environment, serve=serve) as worker:
        worker.wait_for(r'"event":"ready"')
        brought = platform.wait_done(len(jobs))
        assert worker.stop() == 0, worker.log()
    for name in ("good", "last"):
        kinds = [kind for kind, _ in brought[name]]
        assert kinds == ["job-stream"] * (len(kinds) - 1) + ["job-done"]
        pieces = [event["output"] for _, event in brought[name][:-1]]
        # The result is all of what was streamed.
        assert brought[name][-1][1] == {"output": pieces}
        judge_tone(*audio(pieces), seconds=0.06 * len(jobs[name]["text"].strip()))
    assert len(brought["good"]) > 4
    (wrong,) = brought["wrong"]
    assert wrong[0] == "job-done"
    assert wrong[1]["error"].startswith("temperature: ")
    assert set(brought["broken"][-1][1]) == {"error"}
