"""The speech tokeniser as part of a graph. The same as the package ``s3tokenizer``, ``model_v2.py``."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from .graph import Name
from .layers import Layers

__all__ = ["speech_tokens"]

_HEAD = 64
"""Channels of an attention head, which the rotary table fixes."""
_LEVELS = 3
_SCALE = 0.9990000128746033
"""So that no number is rounded to one beyond the levels."""


def speech_tokens(layers: Layers, mel: Name) -> Name:
    """Tokens ``[1, n]`` int64 of a log-mel ``[1, mels, 4 n]``."""
    graph, encoder = layers.graph, layers.scope("encoder.")
    x = mel
    for name in ("conv1", "conv2"):
        x = graph.add(
            "Conv",
            *(x, encoder.constant(f"{name}.weight"), encoder.constant(f"{name}.bias")),
            strides=[2],
            pads=[1, 1],
        )
        x = graph.add("Gelu", x)
    x = graph.transpose(x, 0, 2, 1)
    rates = (1.0 / 10_000.0 ** (np.arange(0, _HEAD, 2, dtype=np.float32) / _HEAD)).astype(np.float32)
    places = graph.cast(graph.indices(graph.size(x, 1)), TensorProto.FLOAT)
    angles = graph.add(
        "Mul", graph.add("Unsqueeze", places, graph.ints(1)), graph.constant(np.concatenate([rates, rates]))
    )
    rotary = (graph.add("Cos", angles), graph.add("Sin", angles))
    for number in range(encoder.count("blocks.")):
        block = encoder.scope(f"blocks.{number}.")
        x = graph.add("Add", x, _attention(block.scope("attn."), block.norm(x, "attn_ln"), rotary))
        wide = graph.add("Gelu", block.linear(block.norm(x, "mlp_ln"), "mlp.0"))
        x = graph.add("Add", x, block.linear(wide, "mlp.2"))
    down = graph.add("Tanh", layers.linear(x, "quantizer._codebook.project_down"))
    level = graph.add("Add", graph.add("Round", graph.add("Mul", down, graph.number(_SCALE))), graph.number(1.0))
    powers = np.power(_LEVELS, np.arange(8), dtype=np.float32)[:, None]
    return graph.cast(
        graph.add("Squeeze", graph.add("MatMul", level, graph.constant(powers)), graph.ints(2)), TensorProto.INT64
    )


def _attention(layers: Layers, x: Name, rotary: tuple[Name, Name]) -> Name:
    graph = layers.graph
    width = layers.array("query.weight").shape[0]
    heads = width // _HEAD
    query, key = (
        _rotated(layers, layers.heads(layers.linear(x, name, bias=name == "query"), heads, width), rotary)
        for name in ("query", "key")
    )
    value = layers.linear(x, "value")
    scores = graph.add("MatMul", graph.add("Mul", query, graph.number(_HEAD**-0.5)), graph.transpose(key, 0, 1, 3, 2))
    mixed = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), layers.heads(value, heads, width))
    kernel = layers.constant("fsmn_block.weight")
    reach = (layers.array("fsmn_block.weight").shape[2] - 1) // 2
    memory = graph.add("Conv", graph.transpose(value, 0, 2, 1), kernel, group=width, pads=[reach, reach])
    memory = graph.add("Add", graph.transpose(memory, 0, 2, 1), value)
    return graph.add("Add", layers.linear(layers.merged(mixed, width), "out"), memory)


def _rotated(layers: Layers, x: Name, rotary: tuple[Name, Name]) -> Name:
    graph, (cosine, sine) = layers.graph, rotary
    left, right = (graph.slice(x, 3, *half) for half in ((0, _HEAD // 2), (_HEAD // 2, _HEAD)))
    turned = graph.add("Concat", graph.add("Neg", right), left, axis=3)
    return graph.add("Add", graph.add("Mul", x, cosine), graph.add("Mul", turned, sine))
