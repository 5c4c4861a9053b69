"""The voice that comes with a checkpoint."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..conditionals import Conditionals, aligned
from ..tensors import CheckpointError

__all__ = ["load_builtin"]


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
