"""The graph of S3Gen: ``conditional_decoder``."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto

from ...s3gen.noise import MEL_CHANNELS
from ...tensors import CheckpointError, Tensors
from .flow import NOISE_SEED, flow
from .graph import Graph, Precision
from .layers import Layers
from .vocoder import vocoder

__all__ = ["write_conditional_decoder"]


def write_conditional_decoder(tensors: Tensors, folder: Path, precision: Precision) -> Path:
    """``speech_tokens`` (the voice's own, then those to be heard) to the ``waveform`` of the latter.

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
    heard = graph.transpose(graph.slice(mel, 1, graph.size(known, 1)), 0, 2, 1)
    samples = vocoder(Layers(graph, tensors, "mel2wav."), heard, NOISE_SEED)
    graph.output(samples, "waveform", TensorProto.FLOAT, "batch", "samples")
    return graph.save()
