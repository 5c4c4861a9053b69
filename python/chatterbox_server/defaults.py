"""What a request asks for that leaves all of it to the model."""

from __future__ import annotations

from .messages import Params, Slicing

__all__ = ["MODEL_PARAMS", "MODEL_SLICING"]

MODEL_PARAMS = Params(
    temperature=None,
    top_p=None,
    min_p=None,
    top_k=None,
    repetition_penalty=None,
    exaggeration=None,
    cfg_weight=None,
)
MODEL_SLICING = Slicing(tokens_per_slice=None, context_window=None, overlap=None, crossfade_ms=None)
