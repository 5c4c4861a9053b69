"""Upstream's unmodified package: what it is measured and tested against.

``shrink`` overrides every point where upstream fixes a width or a depth, so that its own classes build models of the
same architecture with a few million weights, which load and run through upstream's own ``from_local`` and ``generate``.
"""

from __future__ import annotations

import functools
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

__all__ = ["KINDS", "add_nano", "load", "shrink"]

# Before upstream imports the hub's library: it would try to reach the hub for a table, six times.
os.environ["HF_HUB_OFFLINE"] = "1"

KINDS = ("standard", "turbo", "multilingual", "nano")


def add_nano() -> None:
    """Let upstream's T3 be built as nano's: its release of this version has none; it is turbo with GPT-2 small."""
    from chatterbox.models.t3.llama_configs import LLAMA_CONFIGS

    small = {"n_embd": 768, "hidden_size": 768, "n_head": 12, "n_layer": 12}
    LLAMA_CONFIGS.setdefault("GPT2_small", LLAMA_CONFIGS["GPT2_medium"] | small)


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


def load(kind: str, folder: Path, device: str = "cpu") -> Any:
    """Upstream's model of ``kind``, loaded from ``folder`` by its own loader."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "standard":
            from chatterbox.tts import ChatterboxTTS

            return ChatterboxTTS.from_local(folder, device)
        if kind == "multilingual":
            from chatterbox.models.tokenizers.tokenizer import ChineseCangjieConverter
            from chatterbox.mtl_tts import ChatterboxMultilingualTTS

            # It would download a model for cutting Chinese text into words.
            ChineseCangjieConverter._init_segmenter = lambda self: None
            return ChatterboxMultilingualTTS.from_local(folder, device)
        from chatterbox.tts_turbo import ChatterboxTurboTTS

        return _load_nano(folder, device) if kind == "nano" else ChatterboxTurboTTS.from_local(folder, device)


def _load_nano(folder: Path, device: str) -> Any:
    """Nano through turbo's loader, which is given nano's sizes under turbo's names."""
    from chatterbox.models.t3.llama_configs import LLAMA_CONFIGS
    from chatterbox.tts_turbo import ChatterboxTurboTTS

    add_nano()
    with (
        tempfile.TemporaryDirectory() as links,
        mock.patch.dict(LLAMA_CONFIGS, {"GPT2_medium": LLAMA_CONFIGS["GPT2_small"]}),
    ):
        for path in folder.iterdir():
            Path(links, path.name.replace("t3_nano_v1", "t3_turbo_v1")).symlink_to(path.resolve())
        return ChatterboxTurboTTS.from_local(links, device)
