from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from chatterbox_server.chatterbox.tensors import CheckpointError
from chatterbox_server.chatterbox.voices.files import load_builtin

Folder = Callable[[str], Path]
Upstream = Callable[[str], Any]


def saved(checkpoints: Folder) -> Any:
    return torch.load(checkpoints("standard") / "conds.pt", weights_only=True)


@pytest.mark.parametrize("kind", ["standard", "multilingual", "turbo"])
def test_builtin_voice_equals_upstreams(checkpoints: Folder, upstream: Upstream, kind: str) -> None:
    voice, own = load_builtin(checkpoints(kind) / "conds.pt"), upstream(kind).conds
    for ours, theirs in (
        (voice.t3_speaker, own.t3.speaker_emb),
        (voice.t3_tokens, own.t3.cond_prompt_speech_tokens),
        (voice.s3_tokens, own.gen["prompt_token"]),
        (voice.s3_mel, own.gen["prompt_feat"]),
        (voice.s3_speaker, own.gen["embedding"]),
    ):
        # Upstream makes floats of its tokens, in place, when it speaks.
        assert torch.equal(ours[None], theirs.to(ours.dtype))
    assert (voice.t3_tokens.dtype, voice.s3_tokens.dtype) == (torch.int64, torch.int64)
    assert voice.nbytes == sum(tensor.nbytes for tensor in voice.tensors().values())


def test_reference_is_cut_to_whole_tokens(checkpoints: Folder, tmp_path: Path) -> None:
    content = saved(checkpoints)
    tokens = content["gen"]["prompt_token"].shape[1]
    content["gen"]["prompt_feat"] = content["gen"]["prompt_feat"][:, : 2 * tokens - 1]
    torch.save(content, tmp_path / "conds.pt")
    voice = load_builtin(tmp_path / "conds.pt")
    assert (voice.s3_tokens.shape[0], voice.s3_mel.shape[0]) == (tokens - 1, 2 * tokens - 2)


def test_voice_moves_between_devices(checkpoints: Folder) -> None:
    voice = load_builtin(checkpoints("standard") / "conds.pt")
    assert voice.to("cpu") is voice
    assert {tensor.device.type for tensor in voice.to("meta").tensors().values()} == {"meta"}


class _Payload:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("ran"),))


def _bytes(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_what_is_not_voice_is_refused(checkpoints: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole = (checkpoints("standard") / "conds.pt").read_bytes()
    bad = {
        "empty": b"",
        "text": b"once upon a time",
        "truncated": whole[: len(whole) // 2],
        "code": pickle.dumps(_Payload()),
        "code saved by torch": _bytes({"t3": _Payload(), "gen": {}}),
        "list": _bytes([1, 2]),
        "no parts": _bytes({"t3": 1, "gen": {}}),
    }
    path = tmp_path / "conds.pt"
    for name, content in bad.items():
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"conds\.pt: ") as refused:
            load_builtin(path)
        assert "\n" not in str(refused.value), name
    assert not (tmp_path / "ran").exists()
    path.unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        load_builtin(path)


@pytest.mark.parametrize(
    ("part", "name", "tensor"),
    [
        ("t3", "speaker_emb", None),
        ("t3", "speaker_emb", torch.zeros(256)),
        ("t3", "cond_prompt_speech_tokens", torch.zeros(2, 150)),
        ("gen", "prompt_token", torch.zeros(1, 0)),
        ("gen", "prompt_feat", torch.zeros(1, 500, 79)),
    ],
)
def test_bad_tensor_is_named(checkpoints: Folder, tmp_path: Path, part: str, name: str, tensor: Any) -> None:
    content = saved(checkpoints)
    content[part][name] = tensor
    torch.save(content, tmp_path / "conds.pt")
    with pytest.raises(CheckpointError, match=name):
        load_builtin(tmp_path / "conds.pt")
