"""Voices without a clip, as files: what ``chatterbox-server voice convert`` writes."""

from __future__ import annotations

import torch
from safetensors import SafetensorError

from ...model_runner import RequestError
from ..conditionals import Conditionals
from ..speech_tokens import TOKENS_PER_SECOND
from .cache import decode, encode

__all__ = ["read_portable", "write_portable"]

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
