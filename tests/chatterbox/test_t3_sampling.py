"""The compiled module samples the tokens that torch samples."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import upstream_t3 as reference
from chatterbox_server._core import T3Sampler
from chatterbox_server.chatterbox.t3 import batch
from chatterbox_server.chatterbox.t3.config import SPEECH_IDS
from chatterbox_server.chatterbox.t3.decoder import Decoder
from chatterbox_server.chatterbox.t3.model import T3
from chatterbox_server.chatterbox.t3.sampling import (
    LEAST_TEMPERATURE,
    DecodingRequest,
    NativeSampler,
    Sampler,
    Sampling,
    SamplingBatch,
    TorchSampler,
    make_sampler,
    step_state,
    stream_start,
)
from torch import Tensor

NEVER, NAN, ENDLESS = float("-inf"), float("nan"), float("inf")


def settings(**changes: Any) -> Sampling:
    """All off but ``changes``."""
    off = {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "top_k": 0, "repetition_penalty": 1.0, "cfg_weight": 0.0}
    return Sampling(**{"seed": 0, **off, **changes})


def grid() -> Iterator[Sampling]:
    for number, (temperature, penalty, (cut, value), cfg_weight) in enumerate(
        itertools.product(
            (0.0, LEAST_TEMPERATURE / 2, 0.3, 1.0, 1.7),
            (1.0, 1.2, 0.7),
            (
                ("top_p", 1.0),
                ("top_p", 0.95),
                ("top_p", 0.3),
                ("top_p", 0.0),
                ("min_p", 0.05),
                ("min_p", 1.0),
                ("top_k", 1),
                ("top_k", 40),
                ("top_k", 100_000),
            ),
            (0.0, 0.5),
        )
    ):
        chosen = {"temperature": temperature, "repetition_penalty": penalty, "cfg_weight": cfg_weight}
        yield settings(**chosen, seed=number, **{cut: value})
    # The models' own, and all at once.
    for seed in range(20):
        yield reference.sampling("standard", seed=seed)
        yield reference.sampling("turbo", seed=seed)
        yield settings(temperature=1.3, top_p=0.9, min_p=0.01, top_k=100, repetition_penalty=1.3, seed=seed)


def by_torch(logits: Tensor, how: Sequence[Sampling], *, penalty_last: bool, start: int, steps: int) -> list[list[int]]:
    """The tokens of each step, from ``logits`` ``[steps, 2, requests, ids]``, of which the second are without text."""
    sampler = SamplingBatch(how, penalty_last=penalty_last, device=torch.device("cpu"))
    seen = torch.zeros(logits.shape[2:], dtype=torch.bool)
    seen[:, start] = True
    found = []
    for step in range(steps):
        states = torch.tensor([step_state(stream_start(each.seed), step) for each in how])
        ids = sampler.sample(sampler.apply_cfg(*logits[step]), seen, states, range(len(how)), None)
        if penalty_last and not step:
            seen[:, start] = False
        seen[torch.arange(len(how)), ids] = True
        found.append(ids.tolist())
    return found


def natively(logits: Tensor, how: Sequence[Sampling], *, penalty_last: bool, start: int, steps: int) -> list[list[int]]:
    count, ids = logits.shape[2:]
    sampler = T3Sampler(count, ids, start, penalty_last, LEAST_TEMPERATURE)
    for slot, each in enumerate(how):
        sampler.join(slot, each, stream_start(each.seed))
    return [
        sampler.sample(logits[step].numpy(), [(row, row, count + row, step) for row in range(count)])
        for step in range(steps)
    ]


@pytest.mark.parametrize("penalty_last", [False, True])
@pytest.mark.parametrize("ids", [3, 50, SPEECH_IDS])
@pytest.mark.parametrize("requests", [1, 2, 16])
def test_native_sampler_equals_torch_sampler(penalty_last: bool, ids: int, requests: int) -> None:
    generator = torch.Generator().manual_seed(requests)
    every = list(grid())
    if requests < 16:
        # Alone a request costs sixteen times as much.
        every = random.Random(ids).sample(every, 60)
    different: set[int] = set()
    how: Any = {"penalty_last": penalty_last, "start": ids - 2, "steps": 3}
    for first in range(0, len(every), requests):
        mixed = every[first : first + requests]
        logits = torch.randn(3, 2, len(mixed), ids, generator=generator) * 3
        found = natively(logits, mixed, **how)
        assert found == by_torch(logits, mixed, **how)
        different.update(*found)
    assert len(different) > min(ids - 1, 20)


def test_native_sampler_edge_cases_equal_torch_sampler() -> None:
    """Equal scores, scores that are never drawn, and those that are no numbers."""
    rows = (
        [1.0, 3.0, 2.0, 3.0, 2.0, 0.0],
        [2.0] * 6,
        [NEVER, 1.0, NEVER, 1.2, NEVER, 0.3],
        [NEVER] * 5 + [0.0],
        [NEVER] * 6,
        [1.0, NAN, 2.0, 0.0, NAN, 3.0],
        [NAN] * 6,
        [1.0, 0.0, ENDLESS, 2.0, 1.0, 0.5],
        [-0.0, 0.0, -0.0, 0.0, -1.0, -1.0],
        [1e30, -1e30, 1.0, 0.0, 3e38, -3e38],
    )
    hows = (
        settings(temperature=0.0),
        settings(temperature=3.0),
        settings(temperature=3.0, top_k=2),
        settings(temperature=3.0, top_k=7),
        settings(temperature=3.0, min_p=0.5),
        settings(min_p=1.0),
        settings(temperature=2.0, repetition_penalty=2.0),
    )
    for penalty_last, row, how in itertools.product((False, True), rows, hows):
        logits = torch.tensor(row).expand(20, 2, 1, -1).contiguous()
        given: Any = {"penalty_last": penalty_last, "start": 3, "steps": 20}
        assert natively(logits, [how], **given) == by_torch(logits, [how], **given), (penalty_last, row, how)


@pytest.mark.parametrize("kind", ["standard", "turbo"])
def test_samplers_agree_as_requests_join_and_leave(kind: str) -> None:
    """In slots that others had before, with rows that move."""
    chance, generator = random.Random(4), torch.Generator().manual_seed(4)
    latest = [torch.zeros(5, dtype=torch.int64) for _ in range(2)]
    turbo = kind == "turbo"
    samplers: tuple[Sampler, Sampler] = (
        NativeSampler(latest[0], penalty_last=turbo),
        TorchSampler(latest[1], penalty_last=turbo, draw=None),
    )
    lives: list[DecodingRequest] = []
    for number in range(60):
        if len(lives) == 5 or (lives and chance.random() < 0.3):
            lives.pop(chance.randrange(len(lives)))
        slot = chance.choice([slot for slot in range(5) if slot not in {live.slot for live in lives}])
        how = reference.sampling(
            kind, seed=number, temperature=chance.choice((0.0, 0.8)), top_p=chance.choice((0.9, 1.0))
        )
        wanted = reference.prompt(kind)
        live = DecodingRequest(
            request_id=number,
            prompt=wanted,
            sampling=how,
            max_tokens=9,
            rows=[],
            stream=stream_start(number),
            slot=slot,
        )
        lives.append(live)
        rows = list(range(2 * len(lives)))
        chance.shuffle(rows)
        for each in lives:
            each.rows = [rows.pop(), rows.pop()][: chance.choice((1, 2))]
        for one in samplers:
            one.join(live)
            one.set_requests(list(lives))
        for _ in range(3):
            logits = torch.randn(2 * len(lives) + 1, SPEECH_IDS, generator=generator) * 3
            native, torchs = (one.sample(logits) for one in samplers)
            assert native.tolist() == torchs.tolist()
            assert native.dtype == torchs.dtype
            assert latest[0].equal(latest[1])
            for each in lives:
                each.generated += 1


@pytest.mark.parametrize("kind", ["standard", "multilingual", "turbo", "nano"])
def test_decoder_tokens_are_equal_with_either_sampler(
    checkpoints: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    model: T3 = reference.load(kind, checkpoints(kind))

    def spoken() -> dict[int, list[int | None]]:
        decoder, got = Decoder(model, slots=3), dict[int, list[int | None]]()
        for number in range(5):
            how = reference.sampling(kind, seed=number, cfg_weight=(number % 2) / 2, min_p=0.0)
            decoder.add(number, reference.prompt(kind, number), how, 15)
        while not decoder.idle:
            for token in decoder.step():
                got.setdefault(token.request_id, []).append(token.id)
        return got

    native = spoken()
    monkeypatch.setattr(batch, "make_sampler", TorchSampler)
    assert spoken() == native
    assert len({tuple(tokens) for tokens in native.values()}) == 5


def test_torch_sampler_is_used_off_cpu_and_with_draw() -> None:
    def draw(probabilities: Tensor, requests: Sequence[int]) -> Tensor:
        del requests
        return probabilities.argmax(-1)

    latest = torch.zeros(2, dtype=torch.int64)
    assert isinstance(make_sampler(latest, penalty_last=False, draw=None), NativeSampler)
    assert isinstance(make_sampler(latest, penalty_last=False, draw=draw), TorchSampler)
    assert isinstance(make_sampler(latest.to("meta"), penalty_last=False, draw=None), TorchSampler)


def test_native_sampler_rejects_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="no 3 below 3"):
        T3Sampler(1, 3, 3, False, 0.0)
    sampler = T3Sampler(2, 3, 0, False, 0.0)
    with pytest.raises(ValueError, match="no slot 2"):
        sampler.join(2, settings(), 0)
    with pytest.raises(TypeError, match="top_k"):
        sampler.join(0, settings(top_k=-1), 0)
    logits = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="slot 0 is empty"):
        sampler.sample(logits, [(0, 0, 0, 0)])
    sampler.join(0, settings(cfg_weight=1.0), 0)
    assert len(sampler.sample(logits, [(0, 0, 1, 0)])) == 1
    with pytest.raises(ValueError, match="no row 2"):
        sampler.sample(logits, [(0, 0, 2, 0)])
    with pytest.raises(ValueError, match="contiguous"):
        sampler.sample(np.zeros((3, 2), np.float32).T, [(0, 0, 0, 0)])
    with pytest.raises(BufferError):
        sampler.sample(logits.astype(np.float64), [(0, 0, 0, 0)])
