"""T3's decoder with its steps captured. A capture needs a GPU; here recorded operations take its place."""

from __future__ import annotations

import functools
import logging
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import upstream_t3 as reference
from chatterbox_server.chatterbox.device import CudaCapturer, row_counts
from chatterbox_server.chatterbox.t3 import cuda_graphs
from chatterbox_server.chatterbox.t3.batch import Pending
from chatterbox_server.chatterbox.t3.cache import KeyValueCache
from chatterbox_server.chatterbox.t3.cuda_graphs import Graphs
from chatterbox_server.chatterbox.t3.decoder import Decoder
from chatterbox_server.chatterbox.t3.model import T3
from recorded_graphs import FailingCapturer, RecordingCapturer, WrongCapturer, frozen, nan, off
from torch import Tensor

KINDS = ("standard", "multilingual", "turbo", "nano")
Load = Callable[[str], T3]


class RecordingDecoder(Decoder):
    """Keeps each step's logits."""

    logits: Tensor

    def _logits(self, decoding: int, prefilled: list[Tensor]) -> Tensor:
        logits = super()._logits(decoding, prefilled)
        self.logits = logits[: self._cache.rows].clone()
        return logits


@pytest.fixture(scope="module")
def t3(checkpoints: Callable[[str], Path]) -> Load:
    return functools.cache(lambda kind: reference.load(kind, checkpoints(kind)))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the numbers of positions that there are graphs for."""

    def choose(*positions: int) -> None:
        monkeypatch.setattr(cuda_graphs, "POSITIONS", positions)
        monkeypatch.setattr(cuda_graphs, "LEAST_CAPACITY", positions[-1])

    return choose


def add(decoder: Decoder, kind: str, number: int, most: int) -> None:
    """One of many requests unlike each other."""
    choice = random.Random(number)
    wanted = reference.prompt(kind, number, words=choice.randint(1, 30), voice=choice.randrange(4))
    how = reference.sampling(
        kind,
        seed=number,
        temperature=choice.choice((0.0, 0.8, 1.1)),
        top_p=choice.choice((0.8, 1.0)),
        cfg_weight=choice.choice((0.0, 0.3, 1.0)),
    )
    decoder.add(number, wanted, how, choice.randint(1, most))


def compare(
    eager: RecordingDecoder, captured: RecordingDecoder, kind: str, *, slots: int, most: int = 40, error: float = 1e-5
) -> None:
    """Both decode the same requests, which join, end and are dropped at random."""
    chance, coming, live = random.Random(slots), list(range(16)), set[int]()
    while coming or not eager.idle:
        for _ in range(min(chance.randrange(4), len(coming))):
            live.add(coming[0])
            for decoder in (eager, captured):
                add(decoder, kind, coming[0], most)
            del coming[0]
        if chance.random() < 0.1 and live:
            number = chance.choice([*live])
            for decoder in (eager, captured):
                decoder.drop(number)
        tokens = eager.step()
        assert captured.step() == tokens
        if tokens:
            assert float((captured.logits - eager.logits).abs().max()) < error
        live -= {token.request_id for token in tokens if token.last}
    assert captured.idle


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slots", [2, 5])
def test_captured_steps_give_same_logits_and_tokens(
    t3: Load, small: Callable[..., None], kind: str, slots: int
) -> None:
    small(96, 160, 320)
    eager, captured, capturer = (
        RecordingDecoder(t3(kind), slots=slots),
        RecordingDecoder(t3(kind), slots=slots),
        RecordingCapturer(),
    )
    captured.warm_up(capturer)
    held, checked = captured.cache_bytes, len(capturer.replayed)
    assert held > 0
    compare(eager, captured, kind, slots=slots)
    # Every step that fed a token was a replay, and none grew the cache.
    steps = capturer.replayed[checked:]
    assert len(steps) > 40
    assert len(set(steps)) > 3
    captured.release_caches()
    assert captured.cache_bytes == held


@pytest.mark.parametrize("kind", ["standard", "turbo"])
def test_longer_requests_are_decoded_without_and_with_graphs_again(
    t3: Load, small: Callable[..., None], kind: str
) -> None:
    # Of requests of 39 to 106 and of 112 to 220 positions.
    small(80 if kind == "standard" else 160)
    eager, captured = RecordingDecoder(t3(kind), slots=2), RecordingDecoder(t3(kind), slots=2)
    captured.warm_up(RecordingCapturer())
    held = captured.cache_bytes
    places: list[bool] = []

    cache = captured._cache
    assert isinstance(cache, KeyValueCache)
    inner = cache.settle

    def settle(positions: int) -> None:
        inner(positions)
        places.append(cache.in_place)

    cache.settle = settle  # type: ignore[method-assign]
    compare(eager, captured, kind, slots=2)
    moves = list(pairwise(places))
    assert (True, False) in moves
    assert (False, True) in moves
    captured.release_caches()
    assert captured.cache_bytes == held
    assert cache.in_place


def pending(lengths: list[int]) -> Pending:
    return Pending(slots=[0] * len(lengths), numbers=[1] * len(lengths), lengths=lengths)


@pytest.fixture
def fixed(t3: Load, small: Callable[..., None]) -> tuple[Graphs, KeyValueCache, RecordingCapturer]:
    """Graphs for up to 6 rows of 16, 32 or 64 positions, and their cache full of random numbers."""
    small(16, 32, 64)
    model, capturer = t3("standard"), RecordingCapturer()
    cache = model.cache(6)
    assert isinstance(cache, KeyValueCache)
    with torch.inference_mode():
        made = Graphs.prepare(model, cache, torch.zeros(3, dtype=torch.int64), capturer)
        assert made is not None
        assert all(not tensor.any() for tensor in (*cache.keys, *cache.values))
        for tensor in (*cache.keys, *cache.values):
            tensor.normal_(generator=torch.Generator().manual_seed(1))
    capturer.replayed.clear()
    return made, cache, capturer


def test_smallest_graph_that_fits_is_taken(fixed: tuple[Graphs, KeyValueCache, RecordingCapturer]) -> None:
    made, _, capturer = fixed
    assert [row_counts(most) for most in (1, 2, 3, 6, 8)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 6], [1, 2, 4, 8]]
    # In the order in which they are captured.
    sizes = [(rows, positions) for rows in (6, 4, 2, 1) for positions in (64, 32, 16)]
    assert capturer.captured == len(sizes)
    with torch.inference_mode():
        for lengths, size in (
            ([0], (1, 16)),
            ([15], (1, 16)),
            ([16], (1, 32)),
            ([3, 31], (2, 32)),
            ([3, 31, 1], (4, 32)),
            ([3, 32, 1, 1], (4, 64)),
            ([1] * 5, (6, 16)),
            ([63] * 6, (6, 64)),
        ):
            logits = made.step(pending(lengths))
            assert logits is not None
            assert len(logits) == size[0]
            assert sizes[capturer.replayed[-1]] == size
        ran = len(capturer.replayed)
        assert made.step(pending([64, 3])) is None
    assert len(capturer.replayed) == ran


def test_padding_touches_no_row_that_is_read(fixed: tuple[Graphs, KeyValueCache, RecordingCapturer]) -> None:
    made, cache, _ = fixed
    tensors = [*cache.keys, *cache.values]
    before = [tensor.clone() for tensor in tensors]
    with torch.inference_mode():
        first = made.step(pending([20, 7, 12]))
        assert first is not None
        first = first[:3].clone()
        # What padding reads does not matter either: the rest may hold anything.
        for tensor in tensors:
            tensor[3:] = float("nan")
        second = made.step(pending([20, 7, 12]))
        assert second is not None
        assert second[:3].equal(first)
    for tensor, old in zip(tensors, before, strict=True):
        written = torch.zeros(tensor.shape[0], tensor.shape[2], dtype=torch.bool)
        written[[0, 1, 2], [20, 7, 12]] = True
        changed = (tensor[:3] != old[:3]).any(-1).any(1)
        assert changed.equal(written[:3])


def test_scratch_row_alone_takes_padding(fixed: tuple[Graphs, KeyValueCache, RecordingCapturer]) -> None:
    made, cache, _ = fixed
    before = [tensor.clone() for tensor in (*cache.keys, *cache.values)]
    with torch.inference_mode():
        made.step(pending([20, 7, 12]))
    for tensor, old in zip((*cache.keys, *cache.values), before, strict=True):
        changed = (tensor != old).any(-1).any(1).nonzero().tolist()
        assert changed == [[0, 20], [1, 7], [2, 12], [cache.scratch_row, 0]]


def test_removed_row_leaves_no_state(t3: Load) -> None:
    """A NaN in the fixed space would reach everyone who gets the row later."""
    cache = t3("standard").cache(3)
    assert isinstance(cache, KeyValueCache)
    cache.fix(16)
    cache.append(3)
    tensors = (*cache.keys, *cache.values)
    for tensor in tensors:
        tensor[0] = float("nan")
        tensor[1], tensor[2] = 1.0, 2.0
    cache.remove(0, last_length=5)
    for tensor in tensors:
        assert (tensor[0, :, :5] == 2.0).all()
        assert (tensor[1] == 1.0).all()
        assert not tensor[0, :, 5:].any()
        assert not tensor[2:].any()
    cache.remove(1, last_length=5)
    cache.remove(0, last_length=5)
    assert cache.in_place
    assert all(not tensor.any() for tensor in tensors)


@pytest.mark.parametrize(
    ("capturer", "reason"),
    [
        (FailingCapturer(), "operation not permitted when stream is capturing"),
        (WrongCapturer(off), "values that are off by"),
        (WrongCapturer(nan), "off by nan"),
        (WrongCapturer(frozen), "values that are off by"),
    ],
)
def test_failed_capture_leaves_decoder_eager(
    t3: Load, small: Callable[..., None], caplog: pytest.LogCaptureFixture, capturer: RecordingCapturer, reason: str
) -> None:
    small(64, 160)
    eager, captured = RecordingDecoder(t3("standard"), slots=2), RecordingDecoder(t3("standard"), slots=2)
    with caplog.at_level(logging.INFO):
        captured.warm_up(capturer)
    assert captured.cache_bytes == 0
    ran = len(capturer.replayed)
    compare(eager, captured, "standard", slots=2, most=10)
    assert len(capturer.replayed) == ran
    captured.release_caches()
    assert captured.cache_bytes == 0
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert reason in caplog.text


def test_graphs_take_no_more_than_half_of_free_memory(t3: Load, caplog: pytest.LogCaptureFixture) -> None:
    model = t3("standard")
    # 4 rows of two slots and the scratch row.
    row = 2 * model.config.layers * model.config.width * 4
    position = 5 * row
    for free, positions in ((4 * 1024, 2048), (4 * 1024 - 1, 1024), (2 * 1024, 1024)):
        decoder = Decoder(model, slots=2)
        decoder.warm_up(RecordingCapturer(free * position))
        assert decoder.cache_bytes == positions * position
    caplog.clear()
    capturer = RecordingCapturer(2 * 1024 * 1025 * row - 1)
    decoder = Decoder(model, slots=512)
    decoder.warm_up(capturer)
    assert decoder.cache_bytes == capturer.captured == 0
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "for 1024 rows would take 1.00 GiB, more than half of the 2.00 GiB" in record.getMessage()


def test_graphs_exist_where_requested(t3: Load, small: Callable[..., None]) -> None:
    small(64, 160)
    capturer = RecordingCapturer()
    refusing = Decoder(t3("turbo"), slots=2, graphs=False)
    refusing.warm_up(capturer)
    plain = Decoder(t3("turbo"), slots=2)
    plain.warm_up()
    assert capturer.captured == refusing.cache_bytes == plain.cache_bytes == 0
    for _ in range(2):
        plain.warm_up(capturer)
        assert capturer.captured == 4
    add(plain, "turbo", 0, 5)
    with pytest.raises(ValueError, match="before its first request"):
        plain.warm_up(capturer)


def test_recorder_refuses_uncapturable_calls(t3: Load) -> None:
    tensor = torch.arange(3.0)
    for step in (
        lambda: tensor * float(tensor.sum()),
        lambda: tensor + torch.tensor([1.0, 2.0, 3.0]),
        lambda: tensor[tensor.nonzero()],
    ):
        with torch.inference_mode(), pytest.raises(RuntimeError, match="needs the host"):
            RecordingCapturer().capture(step)
    with torch.inference_mode():
        double = RecordingCapturer().capture(lambda: tensor[1:] * 2 + len(tensor))
        tensor += 10
        assert double().tolist() == [25, 27]


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gpu_captures_steps(checkpoints: Callable[[str], Path], kind: str, dtype: torch.dtype) -> None:
    model = T3.from_tensors(reference.tensors(kind, checkpoints(kind)), device="cuda", dtype=dtype)
    eager, captured = RecordingDecoder(model, slots=5), RecordingDecoder(model, slots=5)
    captured.warm_up(CudaCapturer(torch.device("cuda")))
    assert captured.cache_bytes > 0
    if dtype == torch.float32:
        compare(eager, captured, kind, slots=5, error=1e-4)
        return
    for number in range(8):
        add(captured, kind, number, 40)
    while not captured.idle:
        captured.step()
