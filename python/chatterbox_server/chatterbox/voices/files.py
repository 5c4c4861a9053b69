"""Voices as files: the one that comes with a checkpoint, and those that ``chatterbox-server voice convert`` writes."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from ...model_runner import RequestError
from ..conditionals import Conditionals, aligned
from ..speech_tokens import TOKENS_PER_SECOND
from ..tensors import CheckpointError
from .cache import decode, encode

__all__ = ["load_builtin", "read_portable", "write_portable"]


def load_builtin(path: Path) -> Conditionals:
    """The voice in a checkpoint's ``conds.pt``, on the CPU. ``CheckpointError`` if it is missing or not a voice.

    The file is what upstream's ``Conditionals.save`` in ``tts.py`` writes. It cannot run code: only tensors are read.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file.") from None
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        OSError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path}: cannot be read as a voice; it may be damaged or cut short ({reason})."
        ) from error
    t3, gen = _part(saved, "t3", path), _part(saved, "gen", path)
    tokens, mel = aligned(
        _tensor(gen, "prompt_token", (-1,), path).long(),
        _tensor(gen, "prompt_feat", (-1, 80), path).float(),
    )
    return Conditionals(
        t3_speaker=_tensor(t3, "speaker_emb", (-1,), path).float().clone(),
        t3_tokens=_tensor(t3, "cond_prompt_speech_tokens", (-1,), path).long().clone(),
        s3_tokens=tokens.clone(),
        s3_mel=mel.clone(),
        s3_speaker=_tensor(gen, "embedding", (-1,), path).float().clone(),
    )


def _part(saved: Any, name: str, path: Path) -> Mapping[str, Any]:
    part = saved.get(name) if isinstance(saved, Mapping) else None
    if not isinstance(part, Mapping):
        raise CheckpointError(f"{path}: there is no {name!r} part in it; is it a voice?")
    return part


def _tensor(part: Mapping[str, Any], name: str, shape: tuple[int, ...], path: Path) -> Tensor:
    """The tensor ``name`` of shape ``[1, *shape]`` without its first dimension; ``-1`` allows any size but 0."""
    tensor = part.get(name)
    if not isinstance(tensor, Tensor):
        raise CheckpointError(f"{path}: there is no tensor {name!r} in it; is it a voice?")
    fits = tensor.dim() == len(shape) + 1 and tensor.shape[0] == 1 and tensor.numel() > 0
    if not fits or any(want not in (-1, size) for want, size in zip(shape, tensor.shape[1:], strict=True)):
        wanted = [1, *("any" if size == -1 else size for size in shape)]
        raise CheckpointError(f"{path}: {name!r} has shape {list(tensor.shape)} where {wanted} was expected.")
    return tensor[0]


_MODEL, _KEY = "any", "0" * 64
"""Where a prepared voice's file names the model and the clip."""
_SHAPES: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
    "t3_speaker": (torch.float32, (256,)),
    "t3_tokens": (torch.int64, (-1,)),
    "s3_tokens": (torch.int64, (-1,)),
    "s3_mel": (torch.float32, (-1, 80)),
    "s3_speaker": (torch.float32, (192,)),
}
_MAX_TOKEN = 6561
_LONGEST = 60 * TOKENS_PER_SECOND
"""Tokens of a reference. Upstream takes 10 and 15 s; every slice of every request works on all of it again."""


def write_portable(voice: Conditionals) -> bytes:
    """The file of a voice."""
    return encode(voice, _MODEL, _KEY)


def read_portable(data: bytes) -> Conditionals:
    """The voice in a file's content, on the CPU.

    Raises ``RequestError`` with the code ``UNSUPPORTED_AUDIO`` if it is not whole, or not a voice of these models.
    """
    try:
        voice = decode(data, _MODEL, _KEY)
    except (ValueError, LookupError, SafetensorError) as error:
        raise RequestError("UNSUPPORTED_AUDIO", f"The voice file cannot be used: {error}.") from error
    for name, tensor in voice.tensors().items():
        dtype, shape = _SHAPES[name]
        fits = tensor.dtype == dtype and tensor.dim() == len(shape) and tensor.numel() > 0
        if not fits or any(want not in (-1, size) for want, size in zip(shape, tensor.shape, strict=True)):
            found = f"{tensor.dtype} of shape {list(tensor.shape)}"
            raise RequestError("UNSUPPORTED_AUDIO", f"The voice file cannot be used: {name} is {found}.")
        if not bool(torch.isfinite(tensor).all()):
            raise RequestError("UNSUPPORTED_AUDIO", f"The voice file cannot be used: {name} has no numbers.")
    if voice.s3_mel.shape[0] != 2 * voice.s3_tokens.shape[0]:
        raise RequestError(
            "UNSUPPORTED_AUDIO", "The voice file cannot be used: its mel and its tokens differ in length."
        )
    for name in ("t3_tokens", "s3_tokens"):
        tokens: torch.Tensor = voice.tensors()[name]
        if tokens.numel() > _LONGEST:
            raise RequestError(
                "UNSUPPORTED_AUDIO",
                f"The voice file cannot be used: {name} has {tokens.numel()} tokens; at most {_LONGEST} are taken.",
            )
        if int(tokens.min()) < 0 or int(tokens.max()) >= _MAX_TOKEN:
            raise RequestError(
                "UNSUPPORTED_AUDIO", f"The voice file cannot be used: {name} has tokens that no model has."
            )
    return voice
