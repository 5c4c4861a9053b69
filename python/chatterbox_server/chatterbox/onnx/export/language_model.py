"""The graphs of T3: ``embed_tokens`` and ``language_model``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto

from ...t3.config import SPEECH_IDS, START_SPEECH, T3Config
from ...tensors import CheckpointError, Tensors
from .graph import Array, Graph, Name, Precision

__all__ = ["write_embed_tokens", "write_language_model"]

_EPSILON = 1e-5
_MASKED = -1e30
"""Added to scores that do not count: finite, so that a row of nothing else has no NaN."""


def write_embed_tokens(tensors: Tensors, folder: Path, precision: Precision) -> Path:
    """``input_ids`` to ``inputs_embeds``. One id alone is a speech token; several are a whole text, which the start of
    speech is put behind.
    """
    width = _config(tensors).width
    graph = Graph(folder, "embed_tokens", precision)
    dtype = np.float16 if precision.half else np.float32
    text, speech = (graph.constant(_array(tensors, f"{name}_emb.weight").astype(dtype)) for name in ("text", "speech"))
    ids = graph.input("input_ids", TensorProto.INT64, "batch", "length")
    length = graph.size(ids, 1)
    alone = graph.add("Equal", length, graph.ints(1))
    # Both tables are looked up, each with ids that it has, and what is not wanted has a length of nothing.
    none = graph.ints(0)
    spoken = graph.slice(ids, 1, 0, graph.add("Where", alone, graph.ints(1), none))
    written = graph.slice(ids, 1, graph.add("Where", alone, length, none))
    started = graph.add("Where", alone, none, graph.ints(1))
    starts = graph.add("Expand", graph.ints(START_SPEECH), graph.shape(graph.size(ids, 0), started))
    embedded = graph.add(
        "Concat",
        graph.add("Gather", text, written),
        graph.add("Gather", speech, graph.add("Concat", spoken, starts, axis=1)),
        axis=1,
    )
    if precision.half:
        embedded = graph.cast(embedded, TensorProto.FLOAT)
    graph.output(embedded, "inputs_embeds", TensorProto.FLOAT, "batch", "embedded", width)
    return graph.save()


def write_language_model(tensors: Tensors, folder: Path, precision: Precision) -> Path:
    """The GPT-2 backbone and its head. Gives ``logits`` ``[batch, new, ids]`` of every new position.

    ``attention_mask`` ``[batch, past + new]`` is 0 at positions of a row that hold nothing, which may be anywhere.
    """
    config = _config(tensors)
    heads, channels = config.heads, config.width // config.heads
    cached = TensorProto.FLOAT16 if precision.half else TensorProto.FLOAT
    graph = Graph(folder, "language_model", precision)
    x = graph.input("inputs_embeds", TensorProto.FLOAT, "batch", "new", config.width)
    mask = graph.input("attention_mask", TensorProto.INT64, "batch", "total")
    positions = graph.input("position_ids", TensorProto.INT64, "batch", "new")
    bias = _bias(graph, x, mask)
    x = graph.add("Add", x, graph.add("Gather", graph.constant(_array(tensors, "tfmr.wpe.weight")), positions))
    present = {}
    for number in range(config.layers):
        layer = f"tfmr.h.{number}."
        past = [
            graph.input(f"past_key_values.{number}.{part}", cached, "batch", heads, "past", channels)
            for part in ("key", "value")
        ]
        projected = _linear(graph, tensors, f"{layer}attn.c_attn", _norm(graph, tensors, f"{layer}ln_1", x))
        query, key, value = (
            graph.transpose(graph.reshape(part, 0, 0, heads, channels), 0, 2, 1, 3)
            for part in graph.split("Split", 3, projected, axis=-1, num_outputs=3)
        )
        known = []
        for name, before, now in zip(("key", "value"), past, (key, value), strict=True):
            added = graph.cast(now, cached) if precision.half else now
            both = graph.add("Concat", before, added, axis=2)
            present[f"present.{number}.{name}"] = both
            known.append(graph.cast(both, TensorProto.FLOAT) if precision.half else both)
        query = graph.add("Mul", query, graph.number(channels**-0.5))
        scores = graph.add("Add", graph.add("MatMul", query, graph.transpose(known[0], 0, 1, 3, 2)), bias)
        attended = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), known[1])
        attended = graph.reshape(graph.transpose(attended, 0, 2, 1, 3), 0, 0, config.width)
        x = graph.add("Add", x, _linear(graph, tensors, f"{layer}attn.c_proj", attended))
        up = graph.add(
            "Gelu",
            _linear(graph, tensors, f"{layer}mlp.c_fc", _norm(graph, tensors, f"{layer}ln_2", x)),
            approximate="tanh",
        )
        x = graph.add("Add", x, _linear(graph, tensors, f"{layer}mlp.c_proj", up))
    normed = _norm(graph, tensors, "tfmr.ln_f", x)
    logits = graph.linear(
        "head",
        normed,
        lambda: _array(tensors, "speech_head.weight")[:SPEECH_IDS].T,
        lambda: _array(tensors, "speech_head.bias")[:SPEECH_IDS],
    )
    graph.output(logits, "logits", TensorProto.FLOAT, "batch", "new", SPEECH_IDS)
    for name, value in present.items():
        graph.output(value, name, cached, "batch", heads, "total", channels)
    return graph.save()


def _config(tensors: Tensors) -> T3Config:
    config = T3Config.from_tensors(tensors)
    if config.backbone != "gpt2":
        raise CheckpointError(f"{tensors.path}: only turbo's and nano's T3 can be exported; this one is a Llama.")
    return config


def _array(tensors: Tensors, name: str) -> Array:
    array: Array = tensors[name].float().numpy()
    return array


def _linear(graph: Graph, tensors: Tensors, name: str, x: Name) -> Name:
    """A layer whose weights lie as ``[inputs, outputs]``, as GPT-2's do."""
    return graph.linear(name, x, lambda: _array(tensors, f"{name}.weight"), lambda: _array(tensors, f"{name}.bias"))


def _norm(graph: Graph, tensors: Tensors, name: str, x: Name) -> Name:
    weight, bias = (graph.constant(_array(tensors, f"{name}.{part}")) for part in ("weight", "bias"))
    return graph.add("LayerNormalization", x, weight, bias, axis=-1, epsilon=_EPSILON)


def _bias(graph: Graph, x: Name, mask: Name) -> Name:
    """The attention bias, ``[batch, 1, new, total]``: it hides later positions and masked ones."""
    total, new = graph.size(mask, 1), graph.size(x, 1)
    key = graph.indices(total)
    query = graph.slice(key, 0, graph.add("Sub", total, new))
    seen = graph.add(
        "LessOrEqual", graph.add("Unsqueeze", key, graph.ints(0)), graph.add("Unsqueeze", query, graph.ints(1))
    )
    real = graph.add("Unsqueeze", graph.cast(mask, TensorProto.BOOL), graph.ints(1, 2))
    return graph.add("Where", graph.add("And", seen, real), graph.number(0.0), graph.number(_MASKED))
