"""The graph of the voice preparation: ``speech_encoder``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from onnx import TensorProto

from ...s3gen.noise import MEL_CHANNELS
from ...speech_tokens import FRAMES_PER_TOKEN, SAMPLE_RATE
from ...tensors import Tensors
from ...voices.prepare import REFERENCE_SECONDS, Recipe
from ...voices.tokens import FRAMES_PER_TOKEN as MEL_FRAMES_PER_TOKEN
from .graph import Array, Graph, Name, Precision
from .layers import Layers
from .speakers import s3_speaker, t3_speaker
from .spectra import LISTEN_RATE, kaldi, log_mel, reference_mel, resampled
from .tokenizer import speech_tokens

__all__ = ["write_speech_encoder"]


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

    heard = resampled(graph, audio)
    mel = log_mel(graph, graph.slice(heard, 1, 0, recipe.t3_seconds * LISTEN_RATE), bank)
    mel = graph.slice(mel, 2, 0, MEL_FRAMES_PER_TOKEN * recipe.t3_tokens)
    features = _features(
        Layers(graph, t3), t3_speaker(Layers(graph, voice_encoder, ""), heard), speech_tokens(tokenizer, mel)
    )

    reference = graph.slice(audio, 1, 0, REFERENCE_SECONDS * SAMPLE_RATE)
    reference_heard = resampled(graph, reference)
    tokens = speech_tokens(tokenizer, log_mel(graph, reference_heard, bank))
    frames = reference_mel(graph, reference)
    # Whole tokens of two frames each, as ``conditionals.aligned``.
    halves = graph.add("Div", graph.size(frames, 1), graph.ints(FRAMES_PER_TOKEN))
    whole = graph.add("Min", graph.size(tokens, 1), halves)
    speakers = Layers(graph, s3gen, "speaker_encoder.")
    speaker = s3_speaker(speakers, kaldi(graph, reference_heard, MEL_CHANNELS))

    width = t3["speech_emb.weight"].shape[1]
    graph.output(features, "audio_features", TensorProto.FLOAT, 1, "positions", width)
    graph.output(graph.slice(tokens, 1, 0, whole), "audio_tokens", TensorProto.INT64, 1, "tokens")
    graph.output(speaker, "speaker_embeddings", TensorProto.FLOAT, 1, "channels")
    known = graph.slice(frames, 1, 0, graph.add("Mul", whole, graph.ints(FRAMES_PER_TOKEN)))
    graph.output(known, "speaker_features", TensorProto.FLOAT, 1, "frames", MEL_CHANNELS)
    return graph.save()


def _features(t3: Layers, speaker: Name, tokens: Name) -> Name:
    """What stands before T3's text, ``[1, 1 + n, width]``: ``t3/conditioning.py``."""
    graph = t3.graph
    told = graph.add("Unsqueeze", t3.linear(speaker, "cond_enc.spkr_enc"), graph.ints(1))
    return graph.add("Concat", told, graph.add("Gather", t3.constant("speech_emb.weight"), tokens), axis=1)
