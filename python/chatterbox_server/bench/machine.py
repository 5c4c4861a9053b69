"""Counts a model's work from its files and sees what a device can do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

import torch

from ..chatterbox.checkpoint import CheckpointFiles
from ..chatterbox.t3.config import SPEECH_IDS, T3Config
from ..chatterbox.tensors import Tensors, open_tensors
from .work import Rates, Work

__all__ = ["Machine", "count_work"]

_RATE_SECONDS = 1.5
"""Of trying, so that a busy machine has had a moment of rest."""
_STEPS, _MEAN_FLOW_STEPS = 10, 2
_UPSAMPLING = (8, 5, 3)
_LOOKED_UP = ("wte.weight", "wpe.weight", "embed_tokens.weight")
"""Tables of which a step reads a row."""
_ONCE_A_STEP = ("time_mlp.", "time_embed_mixer.", "mlp.1.")
"""The estimator's layers that see a step's time and no frame."""

_ONCE_A_LENGTH = ("linear_pos.", "pos_bias_")
"""The encoder's weights that see positions and no token."""


def count_work(files: CheckpointFiles, config: T3Config, *, t3_tokens: int, reference: int, text: int) -> Work:
    """The work of a model with a voice of so many tokens for T3 and S3Gen, and a text of so many."""
    t3, s3gen = open_tensors(files.t3), open_tensors(files.s3gen)
    estimator, mel2wav = s3gen.scope("flow.decoder.estimator."), s3gen.scope("mel2wav.")
    mean_flow = "time_embed_mixer.weight" in estimator
    keys = [name for name in estimator if name.endswith("attn1.to_k.weight")]
    guided = bool(config.guided)
    return Work(
        layer_weights=_products(t3.scope("tfmr."), without=_LOOKED_UP),
        head_weights=min(t3["speech_head.weight"].shape[0], SPEECH_IDS) * config.width,
        values_per_position=2 * config.layers * config.width,
        rows=2 if guided else 1,
        prefix=config.prefix_length(t3_tokens),
        prompt=text + (3 if guided else 1),
        reference=reference,
        encoder_per_token=_encoder(s3gen.scope("flow.")),
        estimator_per_frame=_products(estimator, without=_ONCE_A_STEP),
        estimator_attention=sum(estimator[name].shape[0] for name in keys),
        estimator_rows=1 if mean_flow else 2,
        evaluations=_MEAN_FLOW_STEPS if mean_flow else _STEPS,
        vocoder_per_frame=_vocoder(mel2wav),
    )


class Machine:
    """A device without a model."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        on_gpu = settings["device"] in ("auto", "cuda") and torch.cuda.is_available()
        self._device = torch.device("cuda" if on_gpu else "cpu")
        if settings["threads"]:
            torch.set_num_threads(settings["threads"])

    def rates(self) -> dict[str, float]:
        """``work.Rates``: the best of some tries at a large sum, and at products of large matrices.

        The products are of the device's own precision: bf16 on CUDA, else fp32.
        """
        on_gpu = self._device.type == "cuda"
        numbers = torch.ones((1 << 30 if on_gpu else 1 << 27) // 4, device=self._device)
        size, dtype = (8192, torch.bfloat16) if on_gpu else (1024, torch.float32)
        matrix = torch.randn(size, size, device=self._device, dtype=dtype)

        def read() -> None:
            numbers.sum().item()

        def multiply() -> None:
            (matrix @ matrix)[0, 0].item()

        reading, product = _best(read), _best(multiply)
        return asdict(Rates(read_bytes=numbers.nbytes / reading, flops=2 * size**3 / product))


def _best(work: Callable[[], None]) -> float:
    """The fewest seconds that ``work`` took."""
    best, end = math.inf, time.perf_counter() + _RATE_SECONDS
    while (started := time.perf_counter()) < end:
        work()
        best = min(best, time.perf_counter() - started)
    return best


def _products(tensors: Tensors, without: Iterable[str] = ()) -> int:
    """Multiplications that one position needs."""
    skipped = tuple(without)
    names = [name for name in tensors if not any(part in name for part in skipped)]
    return sum(math.prod(tensors[name].shape) for name in names if tensors[name].dim() > 1)


def _encoder(flow: Tensors) -> int:
    """By token; what comes after the upsampling runs on two frames for each."""
    behind = ("encoder.up_layer.", "encoder.up_embed.", "encoder.up_encoders.", "encoder_proj.")
    twice = sum(_products(flow.scope(part), without=_ONCE_A_LENGTH) for part in behind)
    before = ("encoder.embed.", "encoder.pre_lookahead_layer.", "encoder.encoders.")
    return 2 * twice + sum(_products(flow.scope(part), without=_ONCE_A_LENGTH) for part in before)


def _vocoder(mel2wav: Tensors) -> int:
    """By frame of the mel. A layer's products count as often as it has outputs (an upsampling one: inputs)."""
    total = _weights(mel2wav.scope("f0_predictor.")) + _weights(mel2wav.scope("conv_pre."))
    blocks = len({name.split(".")[0] for name in mel2wav.scope("resblocks.")}) // len(_UPSAMPLING)
    rate = 1
    for stage, factor in enumerate(_UPSAMPLING):
        total += rate * _weights(mel2wav.scope(f"ups.{stage}."))
        rate *= factor
        parts = [f"source_downs.{stage}.", f"source_resblocks.{stage}."]
        parts += [f"resblocks.{index}." for index in range(stage * blocks, (stage + 1) * blocks)]
        total += rate * sum(_weights(mel2wav.scope(part)) for part in parts)
    return total + rate * _weights(mel2wav.scope("conv_post."))


def _weights(tensors: Tensors) -> int:
    """Of convolutions, which have a norm beside the weight (``original0``) where it is not folded."""
    return sum(
        math.prod(tensor.shape)
        for name, tensor in tensors.items()
        if tensor.dim() == 3 and not name.endswith("original0")
    )
