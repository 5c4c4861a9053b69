"""How far a reduced precision is from the exact one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..chatterbox.model_spec import ModelParts
from ..chatterbox.speech_tokens import VALID
from ..chatterbox.t3.config import Prompt
from ..chatterbox.t3.decoder import Decoder
from ..chatterbox.t3.sampling import Sampling

__all__ = ["compare", "decibels", "distributions"]

_DECIBELS_PER_NEPER = 8.686

Floats = NDArray[np.float32]


def distributions(
    parts: ModelParts, prompt: Prompt, count: int, *, forced: Sequence[int] | None = None
) -> tuple[list[int], Floats]:
    """The next ``count`` tokens, drawn or ``forced``, and the distributions ``[count, ids]`` that they came from.

    These are T3's own, with guidance and before any filter or penalty.
    """
    spoken: list[int] = []
    seen: list[Tensor] = []
    generator = torch.Generator().manual_seed(11)

    def draw(probabilities: Tensor, requests: Sequence[int]) -> Tensor:
        del requests
        row = probabilities[0].float().cpu()
        # One that goes on: a stop would end it.
        drawn = int(row[:VALID].multinomial(1, generator=generator)) if forced is None else forced[len(spoken)]
        seen.append(row)
        spoken.append(drawn)
        return torch.tensor([drawn], device=probabilities.device)

    plain = Sampling(
        temperature=1.0,
        top_p=1.0,
        min_p=0.0,
        top_k=0,
        repetition_penalty=1.0,
        cfg_weight=parts.variant.sampling.cfg_weight,
        seed=0,
    )
    decoder = Decoder(parts.decoder.t3, slots=1, draw=draw, graphs=False)
    decoder.add(1, prompt, plain, count)
    while not decoder.idle:
        decoder.step()
    return spoken, torch.stack(seen).numpy()


def compare(expected: Floats, found: Floats) -> dict[str, float]:
    """Of distributions ``[n, ids]``: the mean Kullback-Leibler divergence from ``expected`` in nats, and how often the
    likeliest token is the same."""
    least = np.finfo(np.float32).tiny
    divergence = expected * np.log(np.maximum(expected, least) / np.maximum(found, least))
    return {
        "logit_kl": float(divergence.sum(1, dtype=np.float64).mean()),
        "top1": float((expected.argmax(1) == found.argmax(1)).mean()),
    }


def decibels(mel: Any, expected: Any) -> float:
    """Mean absolute difference of two log mels."""
    return float(np.abs(mel - expected).mean() * _DECIBELS_PER_NEPER)
