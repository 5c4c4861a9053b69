"""T3: text and a voice to speech tokens, one forward pass at a time. Equals upstream's ``t3.py``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor

from ..conditionals import Conditionals
from ..tensors import Tensors
from .backbone import Backbone, Cache, TorchBackbone
from .cache import Span
from .conditioning import Conditioning
from .config import START_SPEECH, T3Config
from .native import NativeBackbone, Precision
from .weights import Weights

__all__ = ["T3", "Prompt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What is to be said, and how."""

    text_ids: tuple[int, ...]
    """As the model's tokeniser gives them, with the start and stop ids that the Llama models want."""
    voice: Conditionals
    voice_key: str
    """Names the voice: prompts of one key have the same one."""
    exaggeration: float
    """Emotion intensity, 0.5 = neutral; the GPT-2 models have no use for it."""


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

    def prompt(self, text_ids: Sequence[int], exaggeration: float) -> Tensor:
        """Embeddings between prefix and speech, ``[1, new, width]``: emotion, text, start of speech."""
        text, start = self._text[torch.tensor(text_ids, device=self.device)], self._speech[START_SPEECH][None]
        if self._text_positions is None or self._speech_positions is None:
            return torch.cat((text, start))[None]
        text = text + self._text_positions[: len(text)]
        start = start + self._speech_positions[0]
        # Upstream puts the start token in twice, both at position 0.
        return torch.cat((self._conditioning.emotion(exaggeration), text, start, start))[None]

    def guided_prompt(self, text_ids: Sequence[int], exaggeration: float) -> Tensor:
        """Two rows ``[2, new, width]``: the prompt, and the one without text that guidance leads away from."""
        prompt = self.prompt(text_ids, exaggeration)
        blind = prompt.clone()
        if self._text_positions is not None:
            # The text's positions stay.
            first = int(self.config.emotion)
            blind[0, first : first + len(text_ids)] = self._text_positions[: len(text_ids)]
        return torch.cat((prompt, blind))

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
