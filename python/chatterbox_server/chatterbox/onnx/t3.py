"""T3 as two graphs, behind the methods by which the decoder knows T3."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..conditionals import Conditionals
from ..t3.config import START_SPEECH, T3Config
from ..t3.model import T3
from .backbone import GraphBackbone
from .sessions import single

__all__ = ["GraphT3"]

_TEXT_IDS = 50276
"""Rows of turbo's and nano's text table."""
_POSITIONS = 8196
"""Rows of their table of positions."""


class GraphT3(T3):
    """The graphs ``embed_tokens`` and ``language_model``. Tensors outside of them are on the CPU."""

    def __init__(self, embed: onnxruntime.InferenceSession, backbone: GraphBackbone, *, starts: bool) -> None:
        """``starts``: whether the tokeniser ends a text with the start of speech."""
        # Nothing of what the class of the weights sets: the tables are in a graph.
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

    def prefix(self, voice: Conditionals) -> Tensor:
        """Embeddings that depend on the voice alone, ``[prefix, width]``: see ``voices.conditionals``."""
        return voice.t3_speaker

    def prompt(self, text_ids: Sequence[int], exaggeration: float) -> Tensor:
        """Embeddings between prefix and speech, ``[1, new, width]``: text, start of speech."""
        embedded = [self._embedded([list(text_ids)])]
        if not self._starts:
            embedded.append(self._embedded([[START_SPEECH]]))
        return torch.from_numpy(np.concatenate(embedded, axis=1))

    def speech(self, ids: Tensor, numbers: Tensor) -> Tensor:
        """Embeddings ``[rows, 1, width]`` of the speech tokens ``ids``."""
        return torch.from_numpy(self._embedded([[token] for token in ids.tolist()]))

    def _embedded(self, ids: list[list[int]]) -> NDArray[np.float32]:
        """One id in a row is a speech token, several are a text."""
        return single(self._embed.run(["inputs_embeds"], {"input_ids": np.array(ids, np.int64)})[0])
