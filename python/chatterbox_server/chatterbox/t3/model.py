"""T3: text and a voice to speech tokens, one forward pass at a time. Equals upstream's ``t3.py``, ``cond_enc.py`` and
``perceiver.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional

from ..conditionals import Conditionals
from ..interfaces import Cache
from ..tensors import Tensors
from .cache import Span
from .config import START_SPEECH, T3Config
from .native_backbone import NativeBackbone, Precision
from .torch_backbone import TorchBackbone, Weights

__all__ = ["T3", "Backbone", "Conditioning"]


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
        speaker_position = self._speaker(speaker.to(self._device, self._dtype))[None]
        return torch.cat((speaker_position, prompt if self._perceiver is None else self._perceiver(prompt)))

    def emotion(self, exaggeration: float) -> Tensor:
        """The position for ``exaggeration``: ``[1, width]``, or ``[0, width]`` for a model that has none."""
        if self._emotion is None:
            return torch.empty(0, len(self._speaker.weight), device=self._device, dtype=self._dtype)
        return self._emotion(torch.tensor([[exaggeration]], device=self._device, dtype=self._dtype))


class Backbone(Protocol):
    """The transformer and the head of a T3. A cache is used with the backbone that made it."""

    def cache(self, most_rows: int) -> Cache:
        """An empty cache."""

    def forward(self, embedded: Tensor, cache: Any, span: Span) -> Tensor:
        """``[rows, new, width]`` through every layer, behind what ``cache`` holds; not yet normed."""

    def advance(self, embedded: Tensor, cache: Any, lengths: list[int], positions: Tensor) -> Tensor:
        """As ``forward``, one token ``[rows, 1, width]`` for each of the first rows; gives ``[rows, width]``.

        The rows hold ``lengths`` positions; ``positions`` is the same, on the device.
        """

    def logits(self, hidden: Tensor) -> Tensor:
        """Of the next speech token, ``[rows, SPEECH_IDS]`` float32, from the last position's ``[rows, width]``."""


class T3:
    """The weights and what they compute. Has no state: any number of decoders may share one.

    A sequence is *prefix* (depends on the voice alone), *prompt* (emotion, text, start) and *speech tokens*.
    """

    def __init__(self, config: T3Config, weights: Weights, backbone: Backbone) -> None:
        width = config.width
        self.config = config
        self.device = weights.device
        self.dtype = weights.dtype
        self._conditioning = Conditioning(weights.scope("cond_enc."), config)
        self._text = weights.tensor("text_emb.weight", config.text_ids, width)
        self._speech = weights.tensor("speech_emb.weight", -1, width)
        learned = config.text_positions is not None
        self._text_positions = weights.tensor("text_pos_emb.emb.weight", -1, width) if learned else None
        self._speech_positions = weights.tensor("speech_pos_emb.emb.weight", -1, width) if learned else None
        self._backbone = backbone

    @classmethod
    def from_tensors(
        cls,
        tensors: Tensors,
        *,
        device: torch.device | str,
        dtype: torch.dtype,
        backend: Literal["torch", "native"] = "torch",
        precision: Precision = "fp32",
    ) -> Self:
        """Raises ``CheckpointError`` for tensors that are no T3's.

        The native backend computes in float32 and on the CPU alone, from weights that are kept as ``precision`` says;
        torch keeps all weights as ``dtype``.
        """
        weights, config = Weights(tensors, device=torch.device(device), dtype=dtype), T3Config.from_tensors(tensors)
        if backend == "torch":
            return cls(config, weights, TorchBackbone(config, weights))
        if weights.device.type != "cpu" or dtype != torch.float32:
            raise ValueError(f"the native backend computes on the CPU in float32, not on {device} in {dtype}")
        return cls(config, weights, NativeBackbone(config, tensors, precision))

    def cache(self, most_rows: int) -> Cache:
        """An empty cache for this model."""
        return self._backbone.cache(most_rows)

    def prefix(self, voice: Conditionals) -> Tensor:
        """Embeddings that depend on the voice alone, ``[prefix, width]``."""
        tokens = voice.t3_tokens.to(self.device)
        prompt = self._speech[tokens]
        if self._speech_positions is not None:
            prompt = prompt + self._speech_positions[: len(tokens)]
        return self._conditioning.voice(voice.t3_speaker, prompt)

    def prompt(self, text_ids: Sequence[int], exaggeration: float, *, guided: bool = False) -> Tensor:
        """Embeddings between prefix and speech, ``[1, new, width]``: emotion, text, start of speech.

        ``guided`` adds the unconditional row, without text, that guidance leads away from: ``[2, new, width]``.
        """
        text, start = self._text[torch.tensor(text_ids, device=self.device)], self._speech[START_SPEECH][None]
        if self._text_positions is None or self._speech_positions is None:
            return torch.cat((text, start))[None]
        text = text + self._text_positions[: len(text)]
        start = start + self._speech_positions[0]
        # Upstream puts the start token in twice, both at position 0.
        prompt = torch.cat((self._conditioning.emotion(exaggeration), text, start, start))[None]
        if not guided:
            return prompt
        unconditional = prompt.clone()
        # The text's positions stay.
        first = int(self.config.emotion)
        unconditional[0, first : first + len(text_ids)] = self._text_positions[: len(text_ids)]
        return torch.cat((prompt, unconditional))

    def speech(self, ids: Tensor, numbers: Tensor) -> Tensor:
        """Embeddings ``[rows, 1, width]`` of the speech tokens ``ids``, each its utterance's ``numbers``-th, from 1."""
        # Not by indexing, for which torch wakes its threads on a CPU, however little there is to do.
        embedded = self._speech.index_select(0, ids)
        if self._speech_positions is not None:
            embedded = embedded + self._speech_positions.index_select(0, numbers)
        return embedded[:, None]

    def forward(self, embedded: Tensor, cache: Cache, span: Span) -> Tensor:
        """``[rows, new, width]`` through the backbone, behind what ``cache`` holds."""
        return self._backbone.forward(embedded, cache, span)

    def advance(self, embedded: Tensor, cache: Cache, lengths: list[int], positions: Tensor) -> Tensor:
        """As ``forward``, one token ``[rows, 1, width]`` for each of the first rows; gives ``[rows, width]``.

        The rows hold ``lengths`` positions; ``positions`` is the same, on the device.
        """
        return self._backbone.advance(embedded, cache, lengths, positions)

    def logits(self, hidden: Tensor) -> Tensor:
        """Of the next speech token, ``[rows, SPEECH_IDS]`` float32, from the last position's ``[rows, width]``."""
        return self._backbone.logits(hidden)
