"""Prepared voices in memory, and on disk beyond the process."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
from collections import OrderedDict
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError

from ..conditionals import Conditionals

__all__ = ["VoiceCache", "decode", "encode", "replace"]

log = logging.getLogger(__name__)

FORMAT = "chatterbox-server voice 1"
MAX_FILE_BYTES = 4 << 20
"""A prepared voice takes some 170 kB; a larger file is none."""
_NAMES = tuple(field.name for field in fields(Conditionals))


class VoiceCache:
    """Conditionals by the clip's key, for one model: the latest used ones in memory, all of them in a folder.

    A key is 64 hex digits; anything else is a ``ValueError``. Evicting or forgetting takes nothing from requests that
    hold a voice already.
    """

    def __init__(
        self, *, limit_bytes: int, folder: Path | None, model: str, device: torch.device | str = "cpu"
    ) -> None:
        """Keep at most ``limit_bytes`` of tensors in memory, on ``device``, and files in ``folder`` unless ``None``.

        ``model`` names the model and the very weights it has, such as ``turbo-1f0c2a``: letters, digits, ``.``, ``_``
        and ``-``, at most 100. Voices prepared by other weights are never taken for its own.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", model):
            raise ValueError(f"{model!r} cannot be part of a file's name")
        self._limit = limit_bytes
        self._folder = folder
        self._model = model
        self._device = torch.device(device)
        self._voices: OrderedDict[str, Conditionals] = OrderedDict()
        self._nbytes = 0
        self._warned = False

    @property
    def nbytes(self) -> int:
        """Bytes of tensors in memory."""
        return self._nbytes

    def get(self, key: str) -> Conditionals | None:
        """The voice of ``key``, from memory or else from its file; ``None`` if there is neither."""
        _check(key)
        if key in self._voices:
            self._voices.move_to_end(key)
            return self._voices[key]
        voice = self._read(key)
        if voice is not None:
            voice = voice.to(self._device)
            self._keep(key, voice)
        return voice

    def put(self, key: str, conditionals: Conditionals) -> None:
        """Keep a voice. That it cannot be written to disk is a warning in the log, once."""
        _check(key)
        self._keep(key, conditionals.to(self._device))
        self._write(key, conditionals)

    def forget(self, key: str) -> None:
        """Drop a voice from memory and delete every file made from its clip; an unknown key is ignored."""
        _check(key)
        self._drop(key)
        if self._folder is None:
            return
        # Also what other weights or a process that was killed made of this clip.
        for pattern in (f"{key}.*.safetensors", f".{key}.*.tmp"):
            for path in self._folder.glob(pattern):
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    log.warning("%s: a forgotten voice's file cannot be deleted (%s)", path, error)

    def _keep(self, key: str, voice: Conditionals) -> None:
        self._drop(key)
        self._voices[key] = voice
        self._nbytes += voice.nbytes
        # The latest one always stays, or it could never be spoken with.
        while self._nbytes > self._limit and len(self._voices) > 1:
            self._drop(next(iter(self._voices)))

    def _drop(self, key: str) -> None:
        voice = self._voices.pop(key, None)
        if voice is not None:
            self._nbytes -= voice.nbytes

    def _path(self, folder: Path, key: str) -> Path:
        return folder / f"{key}.{self._model}.safetensors"

    def _read(self, key: str) -> Conditionals | None:
        if self._folder is None:
            return None
        path = self._path(self._folder, key)
        try:
            with path.open("rb") as file:
                return decode(file.read(MAX_FILE_BYTES + 1), self._model, key)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, SafetensorError) as error:
            log.warning("%s: not used, the voice will be prepared again (%s)", path, error)
            return None

    def _write(self, key: str, voice: Conditionals) -> None:
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            replace(self._path(self._folder, key), f".{key}.", encode(voice, self._model, key))
        except OSError as error:
            if not self._warned:
                log.warning("%s: prepared voices cannot be kept there (%s)", self._folder, error)
            self._warned = True


def _check(key: str) -> None:
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", key):
        raise ValueError(f"{key!r} is not a clip's key")


def encode(voice: Conditionals, model: str, key: str) -> bytes:
    """The file of a voice that ``model`` made of the clip ``key``."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in voice.tensors().items()}
    metadata = {"format": FORMAT, "model": model, "voice": key, "digest": _digest(tensors)}
    return safetensors.torch.save(tensors, metadata)


def decode(data: bytes, model: str, key: str) -> Conditionals:
    """The voice in a file's content. ``ValueError`` or ``SafetensorError`` if it is not whole or not this one."""
    if len(data) > MAX_FILE_BYTES:
        raise ValueError("it is too large")
    tensors = safetensors.torch.load(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata = header.get("__metadata__", {})
    if metadata.get("format") != FORMAT or sorted(tensors) != sorted(_NAMES):
        raise ValueError("it is not a prepared voice")
    if metadata.get("model") != model or metadata.get("voice") != key:
        raise ValueError("it is of another model or clip")
    if metadata.get("digest") != _digest(tensors):
        raise ValueError("its content is damaged")
    return Conditionals(**{name: tensor.clone() for name, tensor in tensors.items()})


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in _NAMES:
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def replace(path: Path, prefix: str, data: bytes) -> None:
    """Write ``data`` to ``path`` so that at every moment there is the old file or the whole new one."""
    descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
