"""The conditionals of a voice: what the models compute of a reference clip."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .speech_tokens import FRAMES_PER_TOKEN

__all__ = ["Conditionals", "aligned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditionals:
    """A voice, as one model wants it. Never changed once made, so any number of requests may share it.

    How expressively it speaks is no part of it: that belongs to the request.
    """

    t3_speaker: Tensor
    """Voice encoder's embedding, ``[256]`` float32."""
    t3_tokens: Tensor
    """Speech tokens of the clip's start that T3 continues, ``[n]`` int64."""
    s3_tokens: Tensor
    """Speech tokens of S3Gen's reference, ``[p]`` int64, 25 per second."""
    s3_mel: Tensor
    """Mel spectrogram of S3Gen's reference, ``[2 p, 80]`` float32, 50 frames per second."""
    s3_speaker: Tensor
    """CAMPPlus x-vector, ``[192]`` float32."""

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        """The five tensors by field name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def shortened(self, tokens: int) -> Conditionals:
        """The same voice with at most the first ``tokens`` of S3Gen's reference; itself when it has no more of them."""
        if self.s3_tokens.numel() <= tokens:
            return self
        tensors = self.tensors()
        tensors["s3_tokens"], tensors["s3_mel"] = self.s3_tokens[:tokens], self.s3_mel[: FRAMES_PER_TOKEN * tokens]
        return Conditionals(**tensors)

    def to(self, device: torch.device | str) -> Conditionals:
        """The same voice on ``device``; itself when it is there already."""
        moved = {name: tensor.to(device) for name, tensor in self.tensors().items()}
        if all(moved[name] is tensor for name, tensor in self.tensors().items()):
            return self
        return Conditionals(**moved)


def aligned(tokens: Tensor, mel: Tensor) -> tuple[Tensor, Tensor]:
    """S3Gen's reference ``[p]``, ``[m, 80]`` cut to whole tokens of two frames each.

    Upstream's ``embed_ref`` cuts only the tokens. Where the clip ends within a token it then keeps an odd last frame,
    which shifts what is spoken against its tokens by 20 ms and swallows its first 20 ms.
    """
    whole = min(tokens.shape[0], mel.shape[0] // 2)
    return tokens[:whole], mel[: 2 * whole]
