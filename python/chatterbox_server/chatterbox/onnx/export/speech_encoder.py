"""The graph ``speech_encoder`` and the speech tokeniser in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import TensorProto

from ...s3gen.noise import MEL_CHANNELS
from ...speech_tokens import FRAMES_PER_TOKEN, SAMPLE_RATE
from ...tensors import Tensors
from ...voices.prepare import REFERENCE_SECONDS, Recipe
from ...voices.tokenizer import FRAMES_PER_TOKEN as MEL_FRAMES_PER_TOKEN
from .graph import Array, Graph, Layers, Name, Precision
from .speakers import LISTEN_RATE, kaldi, log_mel, reference_mel, resampled, s3_speaker, t3_speaker

__all__ = ["speech_tokens", "write_speech_encoder"]


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


def write_speech_encoder(
    *,
    t3: Tensors,
    s3gen: Tensors,
    voice_encoder: Tensors,
    filters: Callable[[], Array],
    recipe: Recipe,
    folder: Path,
    precision: Precision,
) -> Path:
    """``audio_values`` ``[1, n]`` at 24 kHz to what T3 and S3Gen want to know of a voice.

    The same as ``voices/prepare.py``, but for the resampling of what T3 hears. Everything is float32: it runs once for
    a voice, and an error of it would be in all that the voice says. ``filters`` gives the speech tokeniser's mel
    filters where the checkpoint has none.
    """
    graph = Graph(folder, "speech_encoder", Precision(suffix=precision.suffix))
    audio = graph.input("audio_values", TensorProto.FLOAT, 1, "samples")
    tokenizer = Layers(graph, s3gen, "tokenizer.")
    bank = tokenizer.array("_mel_filters") if "_mel_filters" in tokenizer else filters()

    audio_16k = resampled(graph, audio)
    mel = log_mel(graph, graph.slice(audio_16k, 1, 0, recipe.t3_seconds * LISTEN_RATE), bank)
    mel = graph.slice(mel, 2, 0, MEL_FRAMES_PER_TOKEN * recipe.t3_tokens)
    features = _features(
        Layers(graph, t3), t3_speaker(Layers(graph, voice_encoder, ""), audio_16k), speech_tokens(tokenizer, mel)
    )

    reference = graph.slice(audio, 1, 0, REFERENCE_SECONDS * SAMPLE_RATE)
    reference_16k = resampled(graph, reference)
    tokens = speech_tokens(tokenizer, log_mel(graph, reference_16k, bank))
    frames = reference_mel(graph, reference)
    # Whole tokens of two frames each, as ``conditionals.aligned``.
    halves = graph.add("Div", graph.size(frames, 1), graph.ints(FRAMES_PER_TOKEN))
    whole = graph.add("Min", graph.size(tokens, 1), halves)
    speakers = Layers(graph, s3gen, "speaker_encoder.")
    speaker = s3_speaker(speakers, kaldi(graph, reference_16k, MEL_CHANNELS))

    width = t3["speech_emb.weight"].shape[1]
    graph.output(features, "audio_features", TensorProto.FLOAT, 1, "positions", width)
    graph.output(graph.slice(tokens, 1, 0, whole), "audio_tokens", TensorProto.INT64, 1, "tokens")
    graph.output(speaker, "speaker_embeddings", TensorProto.FLOAT, 1, "channels")
    known = graph.slice(frames, 1, 0, graph.add("Mul", whole, graph.ints(FRAMES_PER_TOKEN)))
    graph.output(known, "speaker_features", TensorProto.FLOAT, 1, "frames", MEL_CHANNELS)
    return graph.save()


def _features(t3: Layers, speaker: Name, tokens: Name) -> Name:
    """The positions before T3's text, ``[1, 1 + n, width]``: ``Conditioning`` of ``t3/model.py``."""
    graph = t3.graph
    speaker_position = graph.add("Unsqueeze", t3.linear(speaker, "cond_enc.spkr_enc"), graph.ints(1))
    return graph.add("Concat", speaker_position, graph.add("Gather", t3.constant("speech_emb.weight"), tokens), axis=1)
