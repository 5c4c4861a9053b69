"""The installed server on tiny checkpoints: what only the whole of it can show."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from running_server import COMMAND, HTTP, Server, clean_environment, running
from tiny_engines import voiced

MODELS = ("standard", "turbo", "multilingual", "nano")
GONE = "0" * 64
TEXT = "The quick brown fox jumps over the lazy dog."


@pytest.fixture(scope="module")
def root(checkpoints: Callable[[str], Path]) -> Path:
    return {checkpoints(model).parent for model in MODELS}.pop()


@pytest.fixture(scope="module")
def server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """All models in one process, watermarked, with one voice that was there before the start."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "voices").mkdir()
    soundfile.write(folder / "voices" / "early.wav", voiced(6.0), 24_000)
    (folder / "voices" / ".conditionals").mkdir()
    (folder / "voices" / ".conditionals" / f"{GONE}.turbo-1.safetensors").write_bytes(b"of a clip that was deleted")
    loads = {f"LOAD_{model.upper()}": "true" for model in MODELS}
    env = {"MODEL_PATH": str(root), "ENGINE_THREADS": "1", "LOAD_LITE": "false", **loads}
    with running(folder, env=env) as one:
        yield one


def test_weights_are_found_under_hf_home(tmp_path: Path) -> None:
    home = tmp_path / "weights"
    one = Server(tmp_path, (), {"LOAD_TURBO": "true", "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"})
    try:
        assert one.wait_exit() == 1
    finally:
        one.kill()
    assert f"is not in the cache {home / 'hub'}" in one.log()


def say(server: Server, **fields: object) -> bytes:
    body = {"text": TEXT, "max_audio_seconds": 1.2, "audio": {"format": "wav"}, **fields}
    answer = HTTP.post(server.url + "/api/tts", json=body)
    assert answer.status_code == 200, answer.text
    return answer.content


def seconds(wav: bytes) -> float:
    audio, rate = soundfile.read(io.BytesIO(wav))
    assert np.abs(audio).max() > 0
    return float(len(audio) / rate)


def test_health_names_every_model(server: Server) -> None:
    health = HTTP.get(server.url + "/health").json()
    assert health["status"] == "healthy"
    assert set(MODELS) <= set(health["loaded_models"])


def test_models_list_their_languages_and_tags(server: Server) -> None:
    models = {model["id"]: model for model in HTTP.get(server.url + "/v1/models").json()["data"]}
    assert "[laugh]" in models["turbo"]["tags"]
    assert models["standard"]["tags"] == []
    assert len(models["multilingual"]["languages"]) == 23
    assert all(models[name]["can_clone"] and models[name]["watermark"] for name in MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_speaks(server: Server, model: str) -> None:
    assert 0.1 < seconds(say(server, model=model)) <= 1.3


@pytest.mark.parametrize("model", MODELS)
def test_voices_added_before_and_after_start_are_cloned(server: Server, model: str) -> None:
    clip = io.BytesIO()
    soundfile.write(clip, voiced(2.0, pitch=220.0), 24_000, format="WAV")
    upload = HTTP.post(server.url + "/api/voices/upload", files={"file": (f"late-{model}.wav", clip.getvalue())})
    assert upload.status_code == 200, upload.text
    early, late, own = (
        say(server, model=model, seed=1, voice=voice)
        for voice in ({"audio_prompt_path": "early.wav"}, {"audio_prompt_path": f"late-{model}.wav"}, {})
    )
    assert len({early, late, own}) == 3


def test_prepared_voices_are_kept_with_their_files(server: Server) -> None:
    say(server, model="turbo", voice={"audio_prompt_path": "early.wav"})
    kept = [path.name for path in (server.voices / ".conditionals").iterdir()]
    assert any(".turbo-" in name for name in kept)
    assert not any(name.startswith(GONE) for name in kept)


def test_unknown_model_error_lists_models(server: Server) -> None:
    answer = HTTP.post(server.url + "/api/tts", json={"text": TEXT, "model": "lite"})
    assert answer.status_code == 404
    assert all(model in answer.text for model in MODELS)


def test_unsupported_language_is_refused(server: Server) -> None:
    answer = HTTP.post(server.url + "/api/tts", json={"text": TEXT, "model": "multilingual", "language_id": "xx"})
    assert answer.status_code == 422
    assert "language_id" in answer.text


def test_clip_is_converted(server: Server) -> None:
    clip = io.BytesIO()
    soundfile.write(clip, voiced(2.0, rate=44_100), 44_100, format="FLAC")
    answer = HTTP.post(
        server.url + "/api/vc", files={"file": ("clip.flac", clip.getvalue())}, data={"voice": "early.wav"}
    )
    assert answer.status_code == 200, answer.text
    assert seconds(answer.content) == pytest.approx(2.0, abs=0.2)


def run(folder: Path, root: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = clean_environment({"MODEL_PATH": str(root), "ENGINE_THREADS": "1", **env})
    command = [str(COMMAND), *args]
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.parametrize("model", ["standard", "turbo"])
def test_dumped_tokens_equal_upstream(
    root: Path, upstream: Callable[[str], Any], tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ("--model", model, "--temperature", "0", "--max-audio-seconds", "2.4", "--dump-tokens", "tokens.json")
    done = run(tmp_path, root, "say", TEXT, *args, "-o", "speech.wav")
    assert done.returncode == 0, done.stderr
    utterances = json.loads((tmp_path / "tokens.json").read_text())["utterances"]
    assert [utterance["text"] for utterance in utterances] == [TEXT]
    monkeypatch.setattr(torch, "multinomial", lambda probs, num_samples: probs[:, :6563].argmax(-1, keepdim=True))
    assert utterances[0]["tokens"] == upstream_tokens(upstream(model), model)


def upstream_tokens(oracle: Any, model: str) -> list[int]:
    """The first 60 greedy tokens of ``TEXT`` by upstream's own T3."""
    with torch.inference_mode():
        if model == "turbo":
            from chatterbox.tts_turbo import punc_norm

            ids = oracle.tokenizer(punc_norm(TEXT), return_tensors="pt").input_ids
            tokens = oracle.t3.inference_turbo(t3_cond=oracle.conds.t3, text_tokens=ids, max_gen_len=59)
            return [int(token) for token in tokens[0]]
        from chatterbox.tts import punc_norm

        ids = oracle.tokenizer.text_to_tokens(punc_norm(TEXT))
        ids = torch.nn.functional.pad(torch.cat([ids, ids]), (1, 1))
        ids[:, 0], ids[:, -1] = 255, 0
        tokens = oracle.t3.inference(
            t3_cond=oracle.conds.t3, text_tokens=ids, max_new_tokens=60, top_p=1.0, min_p=0.05, cfg_weight=0.5
        )
        return [int(token) for token in tokens[0]]


def test_convert_writes_file(root: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "clip.wav", voiced(2.0), 24_000)
    done = run(tmp_path, root, "convert", "clip.wav", "--model", "turbo", "-o", "out.wav")
    assert done.returncode == 0, done.stderr
    assert soundfile.info(tmp_path / "out.wav").duration == pytest.approx(2.0, abs=0.2)


def test_missing_weights_fail_startup_with_names(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run(tmp_path, tmp_path / "empty", LOAD_TURBO="true")
    assert done.returncode == 1
    assert "t3_turbo_v1.safetensors" in done.stderr
    assert str(tmp_path / "empty") in done.stderr


def test_damaged_file_fails_startup_with_its_name(root: Path, tmp_path: Path) -> None:
    for path in (root / "turbo").iterdir():
        (tmp_path / path.name).symlink_to(path)
    broken = tmp_path / "s3gen_meanflow.safetensors"
    data = broken.read_bytes()
    broken.unlink()
    broken.write_bytes(data[: len(data) // 2])
    done = run(tmp_path, tmp_path, LOAD_TURBO="true")
    assert done.returncode == 1
    assert "s3gen_meanflow.safetensors" in done.stderr
