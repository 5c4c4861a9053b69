"""The flow as part of a graph, and the graph ``conditional_decoder`` that it begins."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from onnx import TensorProto

from ...s3gen.noise import MEL_CHANNELS, Noise
from ...speech_tokens import FRAMES_PER_TOKEN, MAX_TOKENS
from ...tensors import CheckpointError, Tensors, head_count
from .graph import Graph, Layers, Name, Precision
from .vocoder import vocoder

__all__ = ["NOISE_FRAMES", "NOISE_SEED", "flow", "write_conditional_decoder"]


NOISE_SEED = 0
NOISE_FRAMES = FRAMES_PER_TOKEN * (MAX_TOKENS + 280)
"""Of noise that the graph holds: as many as the longest utterance has behind its prompt. Longer input starts over."""
_STEPS = 2
_TIME_SCALE = 1000


def flow(layers: Layers, tokens: Name, speaker: Name, known: Name) -> Name:
    """The mel ``[batch, frames, 80]`` of ``tokens``, those of the voice's own ``known`` mel included.

    The noise that it starts from is a table in the graph, one row a frame from the first of the prompt on, so that
    the same tokens always give the same mel.
    """
    graph = layers.graph
    features = _encoder(
        layers.scope("encoder."), graph.add("Gather", layers.constant("input_embedding.weight"), tokens)
    )
    features = layers.linear(features, "encoder_proj")
    batch, frames = graph.size(features, 0), graph.size(features, 1)
    direction = graph.add("LpNormalization", speaker, axis=1, p=2)
    speaker_rows = graph.add("Unsqueeze", layers.linear(direction, "spk_embed_affine_layer"), graph.ints(1))
    speaker_rows = graph.add("Expand", speaker_rows, graph.shape(batch, frames, 1))
    missing = graph.add("Sub", frames, graph.size(known, 1))
    silent = graph.add("Expand", graph.number(0.0), graph.shape(batch, missing, MEL_CHANNELS))
    conditions = graph.add("Concat", features, speaker_rows, graph.add("Concat", known, silent, axis=1), axis=-1)
    table = graph.constant(np.ascontiguousarray(Noise(NOISE_SEED).mel(0, NOISE_FRAMES).numpy().T))
    rows = graph.add("Mod", graph.indices(frames), graph.ints(NOISE_FRAMES))
    x = graph.add("Expand", graph.add("Gather", table, rows), graph.shape(batch, 1, 1))
    estimator = layers.scope("decoder.estimator.")
    for step in range(_STEPS):
        direction = _estimator(
            estimator, graph.add("Concat", x, conditions, axis=-1), step / _STEPS, (step + 1) / _STEPS
        )
        x = graph.add("Add", x, graph.add("Mul", direction, graph.number(1 / _STEPS)))
    return x


def _encoder(layers: Layers, x: Name) -> Name:
    graph = layers.graph
    width = layers.array("embed.out.0.weight").shape[0]

    def embedded(x: Name, name: str) -> Name:
        normed = layers.norm(layers.linear(x, f"{name}.out.0"), f"{name}.out.1")
        return graph.add("Mul", normed, graph.number(math.sqrt(width)))

    x = embedded(x, "embed")
    lookahead = layers.array("pre_lookahead_layer.conv1.weight").shape[2] - 1
    ahead = layers.causal(x, "pre_lookahead_layer.conv1", ahead=lookahead)
    ahead = graph.add("LeakyRelu", ahead, alpha=0.01)
    x = graph.add("Add", layers.causal(ahead, "pre_lookahead_layer.conv2"), x)
    x = _conformer(layers, "encoders.", x, width)
    twice = graph.add("Unsqueeze", x, graph.ints(2))
    twice = graph.reshape(graph.add("Concat", *[twice] * FRAMES_PER_TOKEN, axis=2), 0, -1, width)
    x = embedded(layers.causal(twice, "up_layer.conv"), "up_embed")
    return layers.norm(_conformer(layers, "up_encoders.", x, width), "after_norm")


def _conformer(layers: Layers, prefix: str, x: Name, width: int) -> Name:
    """Layers whose attention also depends on how far apart two positions are."""
    graph = layers.graph
    steps = graph.size(x, 1)
    less = graph.add("Sub", steps, graph.ints(1))
    count = graph.add("Add", steps, less)
    distances = graph.cast(graph.add("Sub", less, graph.indices(count)), TensorProto.FLOAT)
    rates = np.exp(np.arange(0, width, 2, dtype=np.float32) * np.float32(-math.log(10_000.0) / width))
    angles = graph.add("Mul", graph.add("Unsqueeze", distances, graph.ints(1)), graph.constant(rates))
    waves = [graph.add("Unsqueeze", graph.add(kind, angles), graph.ints(2)) for kind in ("Sin", "Cos")]
    table = graph.reshape(graph.add("Concat", *waves, axis=2), 1, -1, width)
    for number in range(layers.count(prefix)):
        layer = layers.scope(f"{prefix}{number}.")
        normed = layer.norm(x, "norm_mha", 1e-12)
        x = graph.add("Add", x, _distance_attention(layer.scope("self_attn."), normed, table))
        wide = layer.silu(layer.linear(layer.norm(x, "norm_ff", 1e-12), "feed_forward.w_1"))
        x = graph.add("Add", x, layer.linear(wide, "feed_forward.w_2"))
    return x


def _distance_attention(layers: Layers, x: Name, table: Name) -> Name:
    graph = layers.graph
    heads, channels = layers.array("pos_bias_u").shape
    width, steps, count = heads * channels, graph.size(x, 1), graph.size(table, 1)
    query = graph.reshape(layers.linear(x, "linear_q"), 0, 0, heads, channels)
    by_content, by_distance = (
        graph.transpose(graph.add("Add", query, layers.constant(name)), 0, 2, 1, 3)
        for name in ("pos_bias_u", "pos_bias_v")
    )
    key, value = (layers.heads(layers.linear(x, name), heads, width) for name in ("linear_k", "linear_v"))
    far = layers.heads(layers.linear(table, "linear_pos", bias=False), heads, width)
    scores = graph.add("MatMul", by_distance, graph.transpose(far, 0, 1, 3, 2))
    # A row of scores by distance begins one distance further left than the row before it. A column of padding more,
    # read with rows of another length, the scores stand by position.
    padded = graph.add("Pad", scores, graph.ints(0, 0, 0, 1, 0, 0, 0, 0))
    turned = graph.slice(graph.reshape(padded, 0, 0, -1, steps), 2, 1)
    scores = graph.slice(graph.reshape(turned, 0, 0, -1, count), 3, 0, steps)
    scores = graph.add("Add", graph.add("MatMul", by_content, graph.transpose(key, 0, 1, 3, 2)), scores)
    weights = graph.add("Softmax", graph.add("Mul", scores, graph.number(channels**-0.5)), axis=-1)
    return layers.linear(layers.merged(graph.add("MatMul", weights, value), width), "linear_out")


def _estimator(layers: Layers, x: Name, start: float, end: float) -> Name:
    """The direction at ``x`` for a step between two times; the blocks of every step share their weights."""
    graph = layers.graph
    mixed = graph.add("Concat", *(_time(layers, time) for time in (start, end)), axis=-1)
    time = _mish(layers, layers.linear(mixed, "time_embed_mixer", bias=False))
    x = skip = _block(layers.scope("down_blocks.0."), x, time)
    x = layers.causal(x, "down_blocks.0.2")
    for number in range(layers.count("mid_blocks.")):
        x = _block(layers.scope(f"mid_blocks.{number}."), x, time)
    x = _block(layers.scope("up_blocks.0."), graph.add("Concat", x, skip, axis=-1), time)
    x = _convolution(layers, layers.causal(x, "up_blocks.0.2"), "final_block.block")
    return layers.causal(x, "final_proj")


def _time(layers: Layers, time: float) -> Name:
    half = layers.array("time_mlp.linear_1.weight").shape[1] // 2
    rates = np.exp(np.arange(half, dtype=np.float32) * np.float32(-math.log(10_000) / (half - 1)))
    angles = np.float32(_TIME_SCALE * time) * rates
    waves = layers.graph.constant(np.concatenate([np.sin(angles), np.cos(angles)])[None])
    return layers.linear(layers.silu(layers.linear(waves, "time_mlp.linear_1")), "time_mlp.linear_2")


def _block(layers: Layers, x: Name, time: Name) -> Name:
    """A residual block of convolutions, which knows the time, and transformer layers."""
    graph = layers.graph
    bias = graph.add("Unsqueeze", layers.linear(time, "0.mlp.1"), graph.ints(1))
    inner = graph.add("Add", _convolution(layers, x, "0.block1.block"), bias)
    x = graph.add("Add", _convolution(layers, inner, "0.block2.block"), layers.causal(x, "0.res_conv"))
    for number in range(layers.count("1.")):
        x = _transformer(layers.scope(f"1.{number}."), x)
    return x


def _convolution(layers: Layers, x: Name, name: str) -> Name:
    return _mish(layers, layers.norm(layers.causal(x, f"{name}.0"), f"{name}.2"))


def _mish(layers: Layers, x: Name) -> Name:
    # Spelled out: the runtime has no kernel of its own for it on a CPU.
    graph = layers.graph
    return graph.add("Mul", x, graph.add("Tanh", graph.add("Softplus", x)))


def _transformer(layers: Layers, x: Name) -> Name:
    graph = layers.graph
    width = layers.array("attn1.to_q.weight").shape[0]
    heads = head_count(width)
    normed = layers.norm(x, "norm1")
    query, key, value = (layers.linear(normed, f"attn1.to_{part}", bias=False) for part in "qkv")
    attended = graph.add("MultiHeadAttention", query, key, value, domain="com.microsoft", num_heads=heads)
    x = graph.add("Add", x, layers.linear(attended, "attn1.to_out.0"))
    wide = graph.add("Gelu", layers.linear(layers.norm(x, "norm3"), "ff.net.0.proj"), approximate="none")
    return graph.add("Add", x, layers.linear(wide, "ff.net.2"))


def write_conditional_decoder(tensors: Tensors, folder: Path, precision: Precision) -> Path:
    """``speech_tokens`` (the voice's own, then the utterance's) to the ``waveform`` of the latter.

    Rows of a batch are of one length. The vocoder is float32 in every precision, for its phases need it.
    """
    if "flow.decoder.estimator.time_embed_mixer.weight" not in tensors:
        raise CheckpointError(f"{tensors.path}: only a mean-flow S3Gen can be exported, as turbo and nano have.")
    graph = Graph(folder, "conditional_decoder", precision)
    tokens = graph.input("speech_tokens", TensorProto.INT64, "batch", "tokens")
    channels = tensors["flow.spk_embed_affine_layer.weight"].shape[1]
    speaker = graph.input("speaker_embeddings", TensorProto.FLOAT, "batch", channels)
    known = graph.input("speaker_features", TensorProto.FLOAT, "batch", "frames", MEL_CHANNELS)
    mel = flow(Layers(graph, tensors, "flow."), tokens, speaker, known)
    new_frames = graph.transpose(graph.slice(mel, 1, graph.size(known, 1)), 0, 2, 1)
    samples = vocoder(Layers(graph, tensors, "mel2wav."), new_frames, NOISE_SEED)
    graph.output(samples, "waveform", TensorProto.FLOAT, "batch", "samples")
    return graph.save()
