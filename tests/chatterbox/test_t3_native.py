"""T3 as the compiled module computes it equals torch's, which equals upstream's."""

from __future__ import annotations

import functools
import gc
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import upstream_t3 as reference
from chatterbox_server._core import T3Backbone
from chatterbox_server.chatterbox.t3.cache import Span
from chatterbox_server.chatterbox.t3.config import SPEECH_IDS, Prompt
from chatterbox_server.chatterbox.t3.decoder import Decoder
from chatterbox_server.chatterbox.t3.model import T3
from chatterbox_server.chatterbox.t3.native_backbone import Precision
from chatterbox_server.chatterbox.t3.sampling import Sampling
from chatterbox_server.chatterbox.tensors import CheckpointError, Tensors
from torch import Tensor

KINDS = ("standard", "multilingual", "turbo", "nano")
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8", "int4")
Load = Callable[[str, Precision | None], reference.Recorder]


@pytest.fixture(scope="module")
def t3(checkpoints: Callable[[str], Path]) -> Load:
    """The model of a kind in a precision; torch's, if it is ``None``."""

    @functools.cache
    def load(kind: str, precision: Precision | None) -> reference.Recorder:
        stored = reference.tensors(kind, checkpoints(kind))
        make = functools.partial(reference.Recorder.from_tensors, stored, device="cpu", dtype=torch.float32)
        return make() if precision is None else make(backend="native", precision=precision)

    return load


def request(kind: str, number: int) -> tuple[Prompt, Sampling, int]:
    """One of many requests unlike each other."""
    choice = random.Random(number)
    words, voice = choice.randint(1, 30), choice.randrange(4)
    wanted = reference.prompt(kind, number, words=words, exaggeration=choice.random(), voice=voice)
    how = reference.sampling(
        kind,
        seed=number,
        temperature=choice.choice((0.0, 0.8, 1.1)),
        top_p=choice.choice((0.8, 1.0)),
        min_p=choice.choice((0.0, 0.1)),
        repetition_penalty=choice.choice((1.0, 1.3)),
        cfg_weight=choice.choice((0.0, 0.3, 1.0)),
    )
    return wanted, how, choice.randint(1, 40)


def logits(model: reference.Recorder, wanted: Prompt, how: Sampling, count: int) -> list[Tensor]:
    """Of each step of a request that is decoded by itself."""
    model.recorded.clear()
    reference.alone(model, wanted, how, count)
    return list(model.recorded)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_and_logits_equal_torchs(t3: Load, kind: str) -> None:
    for number in range(6):
        wanted, how, count = request(kind, number)
        tokens = reference.alone(t3(kind, None), wanted, how, count)
        assert reference.alone(t3(kind, "fp32"), wanted, how, count) == tokens
    # Over more than one page of the cache.
    wanted, how = reference.prompt(kind, words=40), reference.sampling(kind, temperature=0.0)
    pairs = zip(logits(t3(kind, None), wanted, how, 150), logits(t3(kind, "fp32"), wanted, how, 150), strict=True)
    assert max(float((a - b).abs().max()) for a, b in pairs) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_request_is_independent_of_batch(t3: Load, kind: str, precision: Precision) -> None:
    """Of unlike length, voice and guidance; joining and leaving, some before they are done."""
    model = t3(kind, precision)
    requests = {number: request(kind, number) for number in range(12)}
    alone = {number: logits(model, *each) for number, each in requests.items()}
    decoder, chance = Decoder(model, slots=4), random.Random(1)
    coming, done, compared = list(requests), dict.fromkeys(requests, 0), 0
    while coming or not decoder.idle:
        for _ in range(min(chance.randrange(3), len(coming))):
            decoder.add(coming[0], *requests[coming[0]])
            coming.pop(0)
        if chance.random() < 0.1 and decoder.slots_used:
            decoder.drop(chance.choice([number for number in done if 0 < done[number] < len(alone[number])] or [99]))
        model.recorded.clear()
        tokens = decoder.step()
        if not tokens:
            continue
        rows = model.recorded[0]
        assert len(rows) >= len(tokens)
        for token in tokens:
            # Rows move when others leave, so each request's are looked for.
            expected = alone[token.request_id][done[token.request_id]]
            assert all(bool((rows == row).all(1).any()) for row in expected)
            done[token.request_id] += 1
            compared += 1
    assert compared > 100


def test_voice_prefix_is_computed_once(t3: Load) -> None:
    model = t3("turbo", "fp32")
    how = reference.sampling("turbo")
    decoder, tokens = Decoder(model, slots=2), dict[int, list[int | None]]()
    for number in range(6):
        decoder.add(number, reference.prompt("turbo", number % 2, voice=0), how, 30)
    while not decoder.idle:
        for token in decoder.step():
            tokens.setdefault(token.request_id, []).append(token.id)
    assert tokens[0] == tokens[2] == tokens[4] != tokens[1]
    assert tokens[1] == tokens[3] == tokens[5]
    # 151 positions take three pages of 64.
    page = 2 * model.config.layers * model.config.width * 4 * 64
    assert decoder.prefix_bytes == 3 * page
    assert decoder.cache_bytes == 3 * page
    decoder.forget_voice("voice0")
    assert decoder.cache_bytes == 0


@pytest.mark.parametrize("kind", KINDS)
def test_reduced_precisions_approximate_fp32(t3: Load, kind: str) -> None:
    wanted, how = reference.prompt(kind), reference.sampling(kind, temperature=0.0)
    exact = logits(t3(kind, "fp32"), wanted, how, 1)[0]
    distances = []
    for precision in PRECISIONS[1:]:
        near = logits(t3(kind, precision), wanted, how, 1)[0]
        distances.append(float((near - exact).norm() / exact.norm()))
    # Twice the largest of all models with VNNI: without it weights are rounded more coarsely, which adds a tenth of
    # noise, and the next coarser precision is at least four times as far.
    assert 0 < distances[0] < 0.015
    assert 0 < distances[1] < 0.06
    assert 0 < distances[2] < 0.6


@pytest.mark.parametrize("kind", ["standard", "turbo"])
def test_bf16_checkpoint_is_accepted(checkpoints: Callable[[str], Path], t3: Load, kind: str) -> None:
    stored = {name: tensor.bfloat16() for name, tensor in reference.tensors(kind, checkpoints(kind)).items()}
    model = reference.Recorder.from_tensors(
        Tensors(Path("half"), stored), device="cpu", dtype=torch.float32, backend="native"
    )
    wanted, how = reference.prompt(kind), reference.sampling(kind, temperature=0.0)
    exact = logits(t3(kind, "fp32"), wanted, how, 1)[0]
    assert float((logits(model, wanted, how, 1)[0] - exact).norm() / exact.norm()) < 0.02


def test_wrong_sizes_raise(t3: Load, checkpoints: Callable[[str], Path]) -> None:
    model = t3("turbo", "fp32")
    cache, width = model.cache(2), model.config.width
    assert cache.append(1) == 0
    prompt = Span.prompt(0, 1, 0, 3, model.device)
    model.forward(torch.zeros(1, 3, width), cache, prompt)
    with pytest.raises(ValueError, match="such rows"):
        model.forward(torch.zeros(1, 3, width), cache, Span.prompt(1, 1, 0, 3, model.device))
    with pytest.raises(ValueError, match="left out"):
        model.forward(torch.zeros(1, 1, width), cache, Span.token([4], torch.tensor([4])))
    with pytest.raises(ValueError, match="another model"):
        t3("turbo", "bf16").cache(1).paste(0, cache)
    with pytest.raises(ValueError, match="no more than"):
        model.forward(torch.zeros(1, 9000, width), cache, Span.prompt(0, 1, 0, 9000, model.device))
    with pytest.raises(ValueError, match="the most"):
        cache.append(2)
    stored = reference.tensors("turbo", checkpoints("turbo"))
    with pytest.raises(ValueError, match="precision"):
        T3.from_tensors(stored, device="cpu", dtype=torch.float32, backend="native", precision="int3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="on the CPU"):
        T3.from_tensors(stored, device="cpu", dtype=torch.bfloat16, backend="native")
    missing = {name: tensor for name, tensor in stored.items() if not name.endswith("h.1.mlp.c_fc.bias")}
    with pytest.raises(CheckpointError, match=r"h\.1\.mlp\.c_fc\.bias"):
        T3.from_tensors(Tensors(Path("x"), missing), device="cpu", dtype=torch.float32, backend="native")


def test_wrong_buffers_raise() -> None:
    def array(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return np.zeros(shape, np.float32)

    def make(width: int = 32, heads: int = 2, frequencies: int = 8) -> T3Backbone:
        return T3Backbone.llama(heads, "fp32", array(frequencies), (), array(width), array(SPEECH_IDS, width))

    backbone, logits = make(), array(1, SPEECH_IDS)
    backbone.logits(array(1, 32), logits)
    with pytest.raises(ValueError, match=r"hidden has shape \[33\]"):
        backbone.logits(array(33), logits)
    with pytest.raises(ValueError, match=r"logits has shape \[5\]"):
        backbone.logits(array(1, 32), array(5))
    with pytest.raises(BufferError):
        backbone.logits(np.zeros((1, 32)), logits)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        backbone.logits([0.0] * 32, logits)  # type: ignore[arg-type]
    logits.flags.writeable = False
    with pytest.raises(ValueError, match="logits is read-only"):
        backbone.logits(array(1, 32), logits)
    for sizes in ({"heads": 3}, {"heads": 0}, {"heads": 4}, {"frequencies": 7}, {"width": 1024}):
        with pytest.raises(ValueError, match=r"heads|norm"):
            make(**sizes)
    cache = backbone.cache()
    cache.append()
    with pytest.raises(ValueError, match="itself"):
        cache.paste(0, cache)
    with pytest.raises(ValueError, match="no row 1"):
        cache.remove(1)


def test_dropped_requests_free_their_cache(checkpoints: Callable[[str], Path]) -> None:
    stored = reference.tensors("standard", checkpoints("standard"))
    model = T3.from_tensors(stored, device="cpu", dtype=torch.float32, backend="native")
    how = reference.sampling("standard")
    decoder = Decoder(model, slots=2)
    for number in range(3):
        decoder.add(number, reference.prompt("standard", number), how, 20)
    decoder.step()
    assert decoder.cache_bytes > 0
    for number in range(3):
        decoder.drop(number)
    decoder.release_caches()
    gc.collect()
    assert decoder.cache_bytes == 0


def test_tensors_are_remapped(checkpoints: Callable[[str], Path]) -> None:
    stored = reference.tensors("turbo", checkpoints("turbo")).scope("tfmr.")
    again = stored.reopened()
    assert list(again) == list(stored)
    assert again["wpe.weight"].equal(stored["wpe.weight"])
    assert again["wpe.weight"].data_ptr() != stored["wpe.weight"].data_ptr()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_decodes(t3: Load, precision: Precision) -> None:
    for kind in KINDS:
        tokens = reference.alone(t3(kind, precision), reference.prompt(kind), reference.sampling(kind), 20)
        assert len(tokens) == 20
        assert all(0 <= token < SPEECH_IDS for token in tokens)
