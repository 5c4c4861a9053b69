"""T3 as the two graphs ``embed_tokens`` and ``language_model``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime import OrtValue
from torch import Tensor

from ...model_runner import RequestError
from ..conditionals import Conditionals
from ..t3.cache import Span
from ..t3.config import SPEECH_IDS, START_SPEECH, T3Config
from ..tensors import CheckpointError
from ..text.encoders import TextEncoder
from .cache import Block, OnnxCache
from .graphs import dtype_of, single

__all__ = ["OnnxBackbone", "OnnxT3", "OnnxText"]


_PAST = "past_key_values."
_AGREEMENT = 0.02
"""Tolerance, relative to the largest logit, between rows that should be equal: products are quantised by the row."""
_TRIED = 3
"""Positions of the shorter row that is tried beside a longer one."""


class OnnxBackbone:
    """Transformer and head, whose names, types and sizes are the graph's own. What it gives is on the CPU."""

    def __init__(self, model: onnxruntime.InferenceSession, *, device: str) -> None:
        """``device`` is where ``model`` runs. Raises ``CheckpointError`` for a graph of another layout."""
        self._model = model
        self._device = device
        inputs = {argument.name: argument for argument in model.get_inputs()}
        outputs = [argument.name for argument in model.get_outputs()]
        self._past = [name for name in inputs if name.startswith(_PAST)]
        self._given = [name for name in ("inputs_embeds", "attention_mask", "position_ids") if name in inputs]
        self._outputs = ["logits", *(f"present.{name.removeprefix(_PAST)}" for name in self._past)]
        missing = [name for name in self._outputs if name not in outputs]
        if "inputs_embeds" not in inputs or not self._past or missing:
            raise CheckpointError(
                "The graph language_model does not take inputs_embeds and past_key_values, and give logits and present."
            )
        self._embeds_dtype = dtype_of(inputs["inputs_embeds"])
        self._past_dtype = dtype_of(inputs[self._past[0]])
        _, self.heads, _, self._channels = inputs[self._past[0]].shape
        self.layers = len(self._past) // 2
        self.together = self._mixes(self.heads * self._channels)
        """Whether rows of different lengths may share a run; otherwise each has a run of its own."""

    def cache(self, most_rows: int) -> OnnxCache:
        return OnnxCache(most_rows)

    def forward(self, embedded: Tensor, cache: OnnxCache, span: Span) -> Tensor:
        """Logits ``[rows, new, ids]`` of ``embedded`` ``[rows, new, width]``, behind what ``cache`` holds."""
        lengths = [int(position) for position in span.positions[:, 0]]
        given = embedded.numpy()
        if self.together:
            return torch.from_numpy(self._advance(given, cache, span.first, lengths))
        parts = [
            self._advance(given[row : row + 1], cache, span.first + row, [length]) for row, length in enumerate(lengths)
        ]
        return torch.from_numpy(np.concatenate(parts))

    def _advance(
        self, embedded: NDArray[np.float32], cache: OnnxCache, first: int, lengths: list[int]
    ) -> NDArray[np.float32]:
        """Feed the rows from ``first`` on, which hold ``lengths`` positions; gives their logits."""
        rows = len(embedded)
        if max(lengths) == 0:
            block, starts = self._nothing(rows), [0] * rows
        else:
            block, starts = cache.gathered(range(first, first + rows), lengths)
        logits, grown = self._run(embedded, block, starts, lengths)
        cache.put(first, grown, starts)
        return logits

    def _run(
        self, embedded: NDArray[np.float32], past: Block, starts: list[int], lengths: list[int]
    ) -> tuple[NDArray[np.float32], Block]:
        new = embedded.shape[1]
        places = np.arange(past.positions + new)
        given = {
            "inputs_embeds": embedded.astype(self._embeds_dtype, copy=False),
            "attention_mask": (places >= np.array(starts)[:, None]).astype(np.int64),
            "position_ids": np.array(lengths)[:, None] + np.arange(new),
        }
        binding = self._model.io_binding()
        for name in self._given:
            binding.bind_cpu_input(name, np.ascontiguousarray(given[name]))
        for name, value in zip(self._past, past.values, strict=True):
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, "cpu" if name == "logits" else self._device)
        self._model.run_with_iobinding(binding)
        logits, *present = binding.get_outputs()
        # Ids above are no speech, whatever a graph has for them.
        return single(logits.numpy())[..., :SPEECH_IDS], Block(present)

    def _nothing(self, rows: int) -> Block:
        empty = np.zeros((rows, self.heads, 0, self._channels), self._past_dtype)
        return Block([OrtValue.ortvalue_from_numpy(empty, self._device)] * len(self._past))

    def _mixes(self, width: int) -> bool:
        """Try whether rows have the logits that they have alone beside a longer one, which leaves room before them.

        Attention that is given a row's length alone, as in ``GroupQueryAttention``, reads that room as positions.
        """
        waves = np.sin(np.arange(3 * _TRIED * width, dtype=np.float32)).reshape(1, -1, width)
        prompts = [waves[:, :_TRIED], waves[:, _TRIED:]]
        token = waves[:, :1]
        together, alone = self.cache(len(prompts)), []
        together.append(len(prompts))
        for row, prompt in enumerate(prompts):
            cache = self.cache(1)
            cache.append(1)
            self._advance(prompt, cache, 0, [0])
            together.paste(row, cache)
            alone.append(self._advance(token, cache, 0, [prompt.shape[1]]))
        lengths = [prompt.shape[1] for prompt in prompts]
        mixed = self._advance(np.concatenate([token] * len(prompts)), together, 0, lengths)
        return bool(np.abs(mixed - np.concatenate(alone)).max() <= _AGREEMENT * np.abs(mixed).max())


_TEXT_IDS = 50276
"""Rows of turbo's and nano's text table."""
_POSITIONS = 8196
"""Rows of their table of positions."""


class OnnxText:
    """A text encoder whose texts have at least two ids, for the graphs take one alone for speech."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder

    def encode(self, text: str, language: str | None) -> tuple[int, ...]:
        ids = self._encoder.encode(text, language)
        if len(ids) < 2:
            raise RequestError("INVALID_PARAMETER", "is too short for BACKEND=onnx; add a word.", field="text")
        return ids


class OnnxT3:
    """An ``AcousticModel`` of two graphs. Tensors outside of them are on the CPU."""

    def __init__(self, embed: onnxruntime.InferenceSession, backbone: OnnxBackbone, *, starts: bool) -> None:
        """``starts``: whether the tokeniser ends a text with the start of speech."""
        self._embed = embed
        self._backbone = backbone
        self._starts = starts or self._embedded([[1, 2]]).shape[1] > 2
        self.device = torch.device("cpu")
        self.dtype = torch.float32
        self.config = T3Config(
            backbone="gpt2",
            layers=backbone.layers,
            width=self._embedded([[START_SPEECH]]).shape[2],
            heads=backbone.heads,
            text_ids=_TEXT_IDS,
            text_positions=None,
            speech_positions=None,
            positions=_POSITIONS,
            resampled=None,
            emotion=False,
        )

    def cache(self, most_rows: int) -> OnnxCache:
        return self._backbone.cache(most_rows)

    def prefix(self, voice: Conditionals) -> Tensor:
        """Embeddings that depend on the voice alone, ``[prefix, width]``: see ``voices.conditionals``."""
        return voice.t3_speaker

    def prompt(self, text_ids: Sequence[int], exaggeration: float, *, guided: bool = False) -> Tensor:
        if guided:
            raise ValueError("the graphs are of models without guidance")
        embedded = [self._embedded([list(text_ids)])]
        if not self._starts:
            embedded.append(self._embedded([[START_SPEECH]]))
        return torch.from_numpy(np.concatenate(embedded, axis=1))

    def speech(self, ids: Tensor, numbers: Tensor) -> Tensor:
        return torch.from_numpy(self._embedded([[token] for token in ids.tolist()]))

    def forward(self, embedded: Tensor, cache: OnnxCache, span: Span) -> Tensor:
        return self._backbone.forward(embedded, cache, span)

    def advance(self, embedded: Tensor, cache: OnnxCache, lengths: list[int], positions: Tensor) -> Tensor:
        return self.forward(embedded, cache, Span.token(lengths, positions))[:, 0]

    def logits(self, hidden: Tensor) -> Tensor:
        """The output of ``forward`` itself: the head is in the graph."""
        return hidden

    def _embedded(self, ids: list[list[int]]) -> NDArray[np.float32]:
        """One id in a row is a speech token, several are a text."""
        return single(self._embed.run(["inputs_embeds"], {"input_ids": np.array(ids, np.int64)})[0])
