"""What T3 is told of a voice and of an emotion. Equals upstream's ``cond_enc.py`` and ``perceiver.py``."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .config import T3Config
from .weights import Weights

__all__ = ["Conditioning"]

PERCEIVER_HEADS = 4
SPEAKER_CHANNELS = 256
EPSILON = 1e-5


class _Perceiver:
    """Any number of prompt embeddings to a fixed one: learned queries look at them, then at themselves.

    Both looks go through the same weights.
    """

    def __init__(self, weights: Weights, width: int) -> None:
        self._queries = weights.tensor("pre_attention_query", 1, -1, width)
        self._norm_weight = weights.tensor("attn.norm.weight", width)
        self._norm_bias = weights.tensor("attn.norm.bias", width)
        self._query = weights.linear("attn.to_q", width, width, bias=True)
        self._key = weights.linear("attn.to_k", width, width, bias=True)
        self._value = weights.linear("attn.to_v", width, width, bias=True)
        self._output = weights.linear("attn.proj_out", width, width, bias=True)

    def __call__(self, prompt: Tensor) -> Tensor:
        """``[n, width]`` to ``[queries, width]``."""
        resampled = self._look(self._queries, prompt[None])
        return self._look(resampled, resampled)[0]

    def _look(self, inner: Tensor, outer: Tensor) -> Tensor:
        seen = self._norm(outer)
        query, key, value = (
            projected.unflatten(-1, (PERCEIVER_HEADS, -1)).transpose(1, 2)
            for projected in (self._query(self._norm(inner)), self._key(seen), self._value(seen))
        )
        found = functional.scaled_dot_product_attention(query, key, value)
        return inner + self._output(found.transpose(1, 2).flatten(2))

    def _norm(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self._norm_weight.shape, self._norm_weight, self._norm_bias, EPSILON)


class Conditioning:
    def __init__(self, weights: Weights, config: T3Config) -> None:
        width = config.width
        self._device, self._dtype = weights.device, weights.dtype
        self._speaker = weights.linear("spkr_enc", SPEAKER_CHANNELS, width, bias=True)
        self._emotion = weights.linear("emotion_adv_fc", 1, width, bias=False) if config.emotion else None
        self._perceiver = _Perceiver(weights.scope("perceiver."), width) if config.resampled is not None else None

    def voice(self, speaker: Tensor, prompt: Tensor) -> Tensor:
        """Positions that depend on the voice alone, ``[prefix, width]``.

        ``speaker`` is ``[256]``, ``prompt`` the embeddings ``[n, width]`` of the voice's prompt tokens.
        """
        told = self._speaker(speaker.to(self._device, self._dtype))[None]
        return torch.cat((told, prompt if self._perceiver is None else self._perceiver(prompt)))

    def emotion(self, exaggeration: float) -> Tensor:
        """The position for ``exaggeration``: ``[1, width]``, or ``[0, width]`` for a model that has none."""
        if self._emotion is None:
            return torch.empty(0, len(self._speaker.weight), device=self._device, dtype=self._dtype)
        return self._emotion(torch.tensor([[exaggeration]], device=self._device, dtype=self._dtype))
