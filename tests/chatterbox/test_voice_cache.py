from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
from chatterbox_server.chatterbox.conditionals import Conditionals
from chatterbox_server.chatterbox.voices.cache import VoiceCache

MODEL = "turbo-0f3a"
KEYS = tuple(f"{index:064x}" for index in range(10, 20))


def voice(seed: int = 0, tokens: int = 75) -> Conditionals:
    generator = torch.Generator().manual_seed(seed)
    return Conditionals(
        t3_speaker=torch.randn(256, generator=generator),
        t3_tokens=torch.randint(0, 6561, (150,), generator=generator),
        s3_tokens=torch.randint(0, 6561, (tokens,), generator=generator),
        s3_mel=torch.randn(2 * tokens, 80, generator=generator),
        s3_speaker=torch.tensor([float("inf"), -0.0, 1e-42]),
    )


def in_folder(folder: Path | None, *, model: str = MODEL, limit: int = 1 << 20) -> VoiceCache:
    return VoiceCache(limit_bytes=limit, folder=folder, model=model)


def assert_same(one: Conditionals | None, other: Conditionals) -> None:
    assert one is not None
    for name, tensor in other.tensors().items():
        found = one.tensors()[name]
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape), name
        assert found.numpy().tobytes() == tensor.numpy().tobytes(), name


def test_cached_voice_is_identical_from_memory_and_disk(tmp_path: Path) -> None:
    kept, cache = voice(), in_folder(tmp_path / "made" / "here")
    assert cache.get(KEYS[0]) is None
    cache.put(KEYS[0], kept)
    assert cache.get(KEYS[0]) is kept
    assert cache.nbytes == kept.nbytes
    later = in_folder(tmp_path / "made" / "here")
    assert later.nbytes == 0
    found = later.get(KEYS[0])
    assert_same(found, kept)
    assert later.get(KEYS[0]) is found
    assert later.nbytes == kept.nbytes


def test_voice_memory_is_bounded_lru() -> None:
    size = voice().nbytes
    cache = in_folder(None, limit=3 * size)
    for index, key in enumerate(KEYS[:3]):
        cache.put(key, voice(index))
    assert cache.get(KEYS[0]) is not None
    cache.put(KEYS[3], voice(3))
    assert cache.get(KEYS[1]) is None
    assert all(cache.get(key) is not None for key in (KEYS[0], KEYS[2], KEYS[3]))
    assert cache.nbytes == 3 * size
    cache.put(KEYS[3], voice(4))
    assert cache.nbytes == 3 * size
    larger = voice(5, tokens=110)
    cache.put(KEYS[4], larger)
    assert cache.nbytes <= 3 * size
    assert cache.get(KEYS[4]) is larger
    cache.put(KEYS[5], voice(6, tokens=900))
    # The latest one stays, however large: it is about to be spoken with.
    assert cache.get(KEYS[5]) is not None
    assert all(cache.get(key) is None for key in KEYS[:5])
    cache.put(KEYS[0], voice(7))
    assert cache.get(KEYS[5]) is None
    assert cache.nbytes == size


def test_evicted_voice_is_read_from_disk(tmp_path: Path) -> None:
    cache = in_folder(tmp_path, limit=voice().nbytes)
    for index, key in enumerate(KEYS[:3]):
        cache.put(key, voice(index))
    for index, key in enumerate(KEYS[:3]):
        assert_same(cache.get(key), voice(index))
    assert cache.nbytes == voice().nbytes


def test_forgotten_voice_leaves_memory_and_disk(tmp_path: Path) -> None:
    cache, other = in_folder(tmp_path), in_folder(tmp_path, model="standard-77")
    for key in KEYS[:2]:
        cache.put(key, voice(1))
        other.put(key, voice(2))
    held = cache.get(KEYS[0])
    (tmp_path / f".{KEYS[0]}.killed.tmp").touch()
    (tmp_path / "someone.wav").touch()
    cache.forget(KEYS[0])
    cache.forget(KEYS[9])
    assert_same(held, voice(1))
    assert cache.get(KEYS[0]) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{KEYS[1]}.standard-77.safetensors",
        f"{KEYS[1]}.{MODEL}.safetensors",
        "someone.wav",
    ]
    assert cache.nbytes == voice().nbytes
    in_folder(None).forget(KEYS[0])
    in_folder(tmp_path / "nowhere").forget(KEYS[0])


def test_cached_voice_is_bound_to_weights(tmp_path: Path) -> None:
    in_folder(tmp_path).put(KEYS[0], voice())
    other = in_folder(tmp_path, model="turbo-1111")
    assert other.get(KEYS[0]) is None
    (tmp_path / f"{KEYS[0]}.{MODEL}.safetensors").rename(tmp_path / f"{KEYS[0]}.turbo-1111.safetensors")
    assert other.get(KEYS[0]) is None


def _damaged(data: bytes) -> dict[str, bytes]:
    tensors = safetensors.torch.load(data)
    header_end = 8 + int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8:header_end])["__metadata__"]
    flipped = bytearray(data)
    flipped[-7] ^= 1
    fewer = {name: tensor for name, tensor in tensors.items() if name != "s3_mel"}
    return {
        "empty": b"",
        "short": data[:5],
        "truncated": data[:-1],
        "no content": data[:header_end],
        "one bit": bytes(flipped),
        "text": b"not a voice at all, but long enough to have a length",
        "zeros": bytes(200_000),
        "large": data + bytes(5 << 20),
        "foreign": safetensors.torch.save({"weight": torch.zeros(3)}),
        "another version": safetensors.torch.save(tensors, {**metadata, "format": "something 9"}),
        "without metadata": safetensors.torch.save(tensors),
        "a tensor less": safetensors.torch.save(fewer, metadata),
        "another clip": safetensors.torch.save(tensors, {**metadata, "voice": KEYS[3]}),
        "another type": safetensors.torch.save({**tensors, "s3_mel": tensors["s3_mel"].view(torch.int32)}, metadata),
    }


def test_damaged_and_foreign_files_are_ignored_and_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    in_folder(tmp_path).put(KEYS[0], voice())
    path = tmp_path / f"{KEYS[0]}.{MODEL}.safetensors"
    for case, content in _damaged(path.read_bytes()).items():
        path.write_bytes(content)
        caplog.clear()
        cache = in_folder(tmp_path)
        assert cache.get(KEYS[0]) is None, case
        assert [record.levelno for record in caplog.records] == [logging.WARNING], case
        assert str(path) in caplog.text, case
        cache.put(KEYS[0], voice())
        assert_same(in_folder(tmp_path).get(KEYS[0]), voice())


def test_crash_during_write_keeps_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = in_folder(tmp_path)
    cache.put(KEYS[0], voice(1))

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    for function in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, fail)
            with pytest.raises(KeyboardInterrupt):
                cache.put(KEYS[0], voice(2))
        assert_same(in_folder(tmp_path).get(KEYS[0]), voice(1))
        assert len(list(tmp_path.iterdir())) == 1


def test_unwritable_folder_warns_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # A file where the folder should be: permissions mean nothing to root.
    (tmp_path / "taken").touch()
    cache = in_folder(tmp_path / "taken" / "folder")
    for key in KEYS[:3]:
        cache.put(key, voice())
    assert all(cache.get(key) is not None for key in KEYS[:3])
    assert len(caplog.records) == 1
    assert "cannot be kept" in caplog.text


@pytest.mark.parametrize("key", ["", "a" * 63, "a" * 65, "g" * 64, "../" + "a" * 61, "a" * 64 + "\n", "*" * 64])
def test_only_content_hashes_are_keys(tmp_path: Path, key: str) -> None:
    cache = in_folder(tmp_path)
    for use in (cache.get, cache.forget, lambda name: cache.put(name, voice())):
        with pytest.raises(ValueError, match="not a clip's key"):
            use(key)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("model", ["", "../turbo", "a/b", ".hidden", "x" * 101, "a*"])
def test_model_name_must_be_file_name(model: str) -> None:
    with pytest.raises(ValueError, match="file's name"):
        in_folder(None, model=model)
