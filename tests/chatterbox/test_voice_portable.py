"""Voices of Chatterbox's own package, turned into voices that the server reads."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from chatterbox_server.chatterbox.conditionals import Conditionals
from chatterbox_server.chatterbox.voices.convert import main
from chatterbox_server.chatterbox.voices.files import load_builtin, read_portable, write_portable
from chatterbox_server.model_runner import RequestError
from command_helpers import run
from running_server import HTTP, Server, running

Folder = Callable[[str], Path]


@pytest.fixture(scope="module")
def saved(checkpoints: Folder) -> Path:
    """A voice as upstream's ``Conditionals.save`` writes it."""
    return checkpoints("standard") / "conds.pt"


class Program:
    """What runs when it is unpickled: it touches a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.mark,)


def test_converted_voice_equals_original(saved: Path, tmp_path: Path) -> None:
    assert main([str(saved), str(tmp_path / "anna.safetensors")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["anna.safetensors"]
    ours, theirs = read_portable((tmp_path / "anna.safetensors").read_bytes()), load_builtin(saved)
    for name, tensor in theirs.tensors().items():
        assert torch.equal(ours.tensors()[name], tensor)


@pytest.mark.parametrize("torch_file", [False, True], ids=["pickle", "archive"])
def test_portable_file_executes_no_code(
    saved: Path, tmp_path: Path, torch_file: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    mark, bad = tmp_path / "ran", tmp_path / "bad.pth"
    if torch_file:
        content = torch.load(saved, weights_only=True)
        torch.save({**content, "extra": Program(mark)}, bad)
    else:
        bad.write_bytes(pickle.dumps(Program(mark), protocol=2))
    pickle.loads(pickle.dumps(Program(mark)))
    assert mark.exists(), "the program must work for its absence to mean anything"
    mark.unlink()
    assert main([str(bad), str(tmp_path / "bad.safetensors")]) == 1
    assert "bad.pth" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.pth"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("t3_speaker", torch.zeros(255)),
        ("s3_speaker", torch.zeros(192, dtype=torch.float16)),
        ("s3_mel", torch.zeros(7, 80)),
        ("s3_speaker", torch.full((192,), float("nan"))),
        ("s3_tokens", torch.zeros(0, dtype=torch.int64)),
        ("t3_tokens", torch.full((5,), 6561)),
        ("t3_tokens", torch.full((5,), -1)),
        ("t3_tokens", torch.zeros(1501, dtype=torch.int64)),
    ],
)
def test_unusable_voice_file_is_refused(saved: Path, field: str, value: torch.Tensor) -> None:
    voice: Conditionals = replace(load_builtin(saved), **{field: value})
    with pytest.raises(RequestError, match="cannot be used"):
        read_portable(write_portable(voice))


def test_damaged_file_is_refused(saved: Path) -> None:
    data = write_portable(load_builtin(saved))
    for bad in (b"", data[:100], data[:-4], data[:-1] + bytes([data[-1] ^ 1])):
        with pytest.raises(RequestError, match="cannot be used"):
            read_portable(bad)


def say(server: Server, voice: str) -> bytes:
    body: dict[str, Any] = {"text": "Hello there.", "max_audio_seconds": 0.6, "seed": 1, "model": "standard"}
    answer = HTTP.post(server.url + "/api/tts", json={**body, "voice": {"audio_prompt_path": voice}})
    assert answer.status_code == 200, answer.text
    return answer.content


def test_converted_voice_keeps_its_name(saved: Path, checkpoints: Folder, tmp_path: Path) -> None:
    (tmp_path / "anna.pth").write_bytes(saved.read_bytes())
    env = {"VOICES_DIR": str(tmp_path / "voices"), "MODEL_PATH": str(checkpoints("standard").parent)}
    done = run(tmp_path, "voice", "convert", "anna.pth", env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().strip() == str(tmp_path / "voices" / "anna.safetensors")
    again = run(tmp_path, "voice", "convert", "anna.pth", env=env)
    assert again.returncode == 1
    assert "anna: Another voice has this id already" in again.stderr.decode()
    assert run(tmp_path, "voice", "convert", "anna.pth", "--overwrite", env=env).returncode == 0

    options = {"LOAD_STANDARD": "true", "LOAD_LITE": "false", "ENGINE_THREADS": "1"}
    with running(tmp_path, env={**env, **options}) as one:
        expected = say(one, "default")
        for name in ("anna.pth", "anna", "anna.safetensors"):
            assert say(one, name) == expected
        key = hashlib.sha256((tmp_path / "voices" / "anna.safetensors").read_bytes()).hexdigest()
        assert say(one, key) == expected
        assert HTTP.get(one.url + "/api/voices/anna/preview").status_code == 404
