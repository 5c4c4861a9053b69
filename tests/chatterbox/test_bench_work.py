"""Floors stand on counts of what has to be done, which are those of upstream's layers as they run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from chatterbox_server.bench.machine import count_work
from chatterbox_server.bench.subjects import mel_frames, speech_tokens
from chatterbox_server.bench.work import Floors, Rates, Work
from chatterbox_server.chatterbox.checkpoint import locate
from chatterbox_server.chatterbox.t3.config import T3Config
from chatterbox_server.chatterbox.tensors import open_tensors
from torch import Tensor, nn

TOKENS = 25


def work_of(kind: str, folder: Path) -> Work:
    files = locate(kind, model_path=folder, multilingual_version="v2", progress=lambda what, done, total: None)
    config = T3Config.from_tensors(open_tensors(files.t3))
    return count_work(files, config, t3_tokens=150, reference=50, text=20)


def counted(network: Any, run: Callable[[], object]) -> int:
    """Multiplications of a network's convolutions and linear layers."""
    total = [0]

    def note(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(layer, nn.Linear):
            times = output[..., 0].numel()
        else:
            times = len(output) * (inputs[0] if isinstance(layer, nn.ConvTranspose1d) else output).shape[-1]
        total[0] += times * layer.weight.numel()

    kinds = nn.Linear | nn.Conv1d | nn.ConvTranspose1d
    # Which positions there are does not depend on what is spoken, so that is no work that has to be done.
    layers = [each for name, each in network.named_modules() if isinstance(each, kinds) and "linear_pos" not in name]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        with torch.inference_mode():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return total[0]


@pytest.mark.parametrize("kind", ["turbo", "standard"])
def test_s3gen_operations_are_counted(
    kind: str, checkpoints: Callable[[str], Path], upstream: Callable[[str], Any]
) -> None:
    # Attention is no layer.
    work, s3gen = replace(work_of(kind, checkpoints(kind)), estimator_attention=0), upstream(kind).s3gen
    floors = Floors(work, Rates(read_bytes=1.0, flops=2000.0), "fp32")
    vocoder = counted(s3gen.mel2wav, lambda: s3gen.hift_inference(mel_frames(1.0)[None]))
    assert floors.vocode(1.0) == pytest.approx(vocoder, rel=0.02)
    voice = upstream(kind).conds.gen
    run = functools.partial(s3gen.flow_inference, speech_tokens(TOKENS), ref_dict=voice, finalize=True)
    assert floors.flow(TOKENS) == pytest.approx(counted(s3gen.flow, run), rel=0.05)


@pytest.mark.parametrize("kind", ["turbo", "standard"])
def test_t3_weight_bytes_equal_its_layers(
    kind: str, checkpoints: Callable[[str], Path], upstream: Callable[[str], Any]
) -> None:
    work, t3 = work_of(kind, checkpoints(kind)), upstream(kind).t3
    layers = t3.tfmr.layers if kind == "standard" else t3.tfmr.h
    assert work.layer_weights == sum(weight.numel() for weight in layers.parameters() if weight.dim() == 2)
    assert work.head_weights == 6563 * t3.speech_head.weight.shape[1]
    assert work.rows == (2 if kind == "standard" else 1)


def test_floors_follow_bytes_and_operations(checkpoints: Callable[[str], Path]) -> None:
    work, rates = work_of("turbo", checkpoints("turbo")), Rates(read_bytes=1e9, flops=1e15)
    exact, reduced = Floors(work, rates, "fp32"), Floors(work, rates, "int4")
    empty = replace(work, prefix=0, prompt=0)
    weights = 4 * (work.layer_weights + work.head_weights)
    assert Floors(empty, rates, "fp32").decode(1, 1) == pytest.approx(1000 * weights / 1e9)
    assert reduced.decode(1, 1) < exact.decode(1, 1) < exact.decode(4, 1)
    assert exact.prefill(warm=True) <= exact.prefill(warm=False)
    # With memory that is free, the operations count.
    slow = Floors(work, Rates(read_bytes=1e18, flops=1e9), "fp32")
    assert slow.decode(8, 1) == pytest.approx(8 * slow.decode(1, 1))
    assert slow.utterance(4.0) > slow.flow(100) > slow.flow(25) > slow.evaluation(25)
