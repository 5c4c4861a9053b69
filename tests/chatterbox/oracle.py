"""Upstream's unmodified package as the reference, cut down to a size that a test can afford.

``shrink`` overrides every point where upstream fixes a width or a depth, so that its own classes build models of the
same architecture with a few million weights, which load and run through upstream's own ``from_local`` and ``generate``.
"""

from __future__ import annotations

import functools
import os
import warnings
from pathlib import Path
from typing import Any

__all__ = ["KINDS", "load", "shrink"]

# Before upstream imports the hub's library: it would try to reach the hub for a table, six times.
os.environ["HF_HUB_OFFLINE"] = "1"

KINDS = ("standard", "turbo", "multilingual", "nano")


@functools.cache
def shrink(layers: int = 2, hidden: int = 64, heads: int = 4, feed_forward: int = 128) -> None:
    """Make upstream's classes build tiny models in this process, for good."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import s3tokenizer.model_v2
        from chatterbox.models.s3gen import s3gen
        from chatterbox.models.t3 import llama_configs
        from chatterbox.models.t3.inference import alignment_stream_analyzer
        from chatterbox.models.t3.modules import cond_enc, perceiver

    llama_configs.LLAMA_CONFIGS["Llama_520M"].update(
        hidden_size=hidden,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden // heads,
    )
    llama_configs.LLAMA_CONFIGS["GPT2_medium"].update(n_embd=hidden, hidden_size=hidden, n_head=heads, n_layer=layers)
    # Upstream's release of this version has no nano; it is turbo with GPT-2 small.
    llama_configs.LLAMA_CONFIGS["GPT2_small"] = dict(llama_configs.LLAMA_CONFIGS["GPT2_medium"], n_layer=1)
    cond_enc.Perceiver = functools.partial(perceiver.Perceiver, pre_attention_query_size=hidden, embedding_dim=hidden)
    alignment_stream_analyzer.LLAMA_ALIGNED_HEADS[:] = [(layers - 1, 0), (layers - 1, 1), (0, 2)]

    s3gen.ConditionalDecoder = _with(
        s3gen.ConditionalDecoder, n_blocks=1, num_mid_blocks=1, channels=[32], num_heads=2, attention_head_dim=16
    )
    s3gen.UpsampleConformerEncoder = _shallow_encoder(s3gen.UpsampleConformerEncoder)
    s3gen.HiFTGenerator = _with(s3gen.HiFTGenerator, base_channels=64)
    s3gen.ConvRNNF0Predictor = _with(s3gen.ConvRNNF0Predictor, cond_channels=32)
    s3gen.CAMPPlus = _with(s3gen.CAMPPlus, growth_rate=4, init_channels=16)
    tokenizer = s3tokenizer.model_v2.S3TokenizerV2
    config = s3tokenizer.model_v2.ModelConfig(n_audio_state=64, n_audio_head=1, n_audio_layer=1)
    build = tokenizer.__init__
    tokenizer.__init__ = lambda self, name, _config=None: build(self, name, config)


def _with(build: Any, **overrides: Any) -> Any:
    return lambda **given: build(**{**given, **overrides})


def _shallow_encoder(build: Any) -> Any:
    # Its width of 512 is fixed in the lookahead and upsampling layers; the depth after them is too.
    def make(**given: Any) -> Any:
        encoder = build(**{**given, "num_blocks": 1, "linear_units": 64, "attention_heads": 2})
        encoder.up_encoders = encoder.up_encoders[:1]
        return encoder

    return make


def load(kind: str, folder: Path) -> Any:
    """Upstream's model of ``kind``, loaded on the CPU from ``folder`` by its own loader."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "standard":
            from chatterbox.tts import ChatterboxTTS

            return ChatterboxTTS.from_local(folder, "cpu")
        if kind == "multilingual":
            from chatterbox.models.tokenizers.tokenizer import ChineseCangjieConverter
            from chatterbox.mtl_tts import ChatterboxMultilingualTTS

            # It would download a model for cutting Chinese text into words.
            ChineseCangjieConverter._init_segmenter = lambda self: None
            return ChatterboxMultilingualTTS.from_local(folder, "cpu")
        from chatterbox.tts_turbo import ChatterboxTurboTTS

        return ChatterboxTurboTTS.from_local(folder, "cpu")
