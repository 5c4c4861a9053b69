"""S3Gen with its networks captured. Only the capture itself needs a GPU; here recorded operations take its place."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from chatterbox_server.chatterbox.device import CudaCapturer
from chatterbox_server.chatterbox.s3gen import cuda_graphs
from chatterbox_server.chatterbox.s3gen.cuda_graphs import GraphedEstimator, GraphedGenerator
from chatterbox_server.chatterbox.s3gen.model import S3Gen
from chatterbox_server.chatterbox.s3gen.noise import Noise
from chatterbox_server.chatterbox.tensors import open_tensors
from recorded_graphs import FailingCapturer, RecordingCapturer, WrongCapturer, frozen, nan, off
from test_s3gen_flow import FILES, KINDS, job
from torch import Tensor


def load(kind: str, folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> S3Gen:
    return S3Gen.from_tensors(open_tensors(folder / FILES[kind]), device=device, dtype=dtype)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs for few frames and rows, as tiny models have them done at once."""
    monkeypatch.setattr(cuda_graphs, "ESTIMATOR_FRAMES", (48, 80, 96))
    monkeypatch.setattr(cuda_graphs, "ESTIMATOR_ROWS", 4)
    monkeypatch.setattr(cuda_graphs, "GENERATOR_FRAMES", (32, 64))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", KINDS)
def test_mels_do_not_depend_on_graph_size(kind: str, checkpoints: Callable[[str], Path]) -> None:
    eager, captured, capturer = load(kind, checkpoints(kind)), load(kind, checkpoints(kind)), RecordingCapturer()
    captured.warm_up(capturer)
    assert capturer.captured == 3 * 3 + 2
    for sizes, replays in (
        ([(4, 20)], True),
        ([(28, 20)], True),
        ([(9, 20), (25, 12)], True),
        ([(30, 20)], False),
        ([(6, 9)] * 5, False),
    ):
        jobs = [job(number, tokens, prompt=prompt) for number, (tokens, prompt) in enumerate(sizes)]
        ran = len(capturer.replayed)
        for found, wanted in zip(captured.mels(jobs), eager.mels(jobs), strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
        assert (len(capturer.replayed) > ran) == replays


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", KINDS)
def test_streamed_samples_equal_eager(kind: str, checkpoints: Callable[[str], Path]) -> None:
    model, capturer = load(kind, checkpoints(kind)), RecordingCapturer()
    mel = torch.randn(80, 150, generator=torch.Generator().manual_seed(5)) * 2 - 5
    whole = model.vocoder.whole(mel, Noise(3))
    model.warm_up(capturer)
    for cut in ([150], [30, 70, 50], [30, 50, 7, 60, 3]):
        ran = len(capturer.replayed)
        stream = model.vocoder.stream(Noise(3))
        pieces = [stream.push(piece) for piece in mel.split(cut, dim=1)]
        samples = torch.cat([*pieces, stream.finish()])
        torch.testing.assert_close(samples, whole, atol=2e-5, rtol=0)
        assert (len(capturer.replayed) > ran) == (len(cut) > 1)


@pytest.mark.usefixtures("small")
def test_nan_stays_in_its_request(checkpoints: Callable[[str], Path]) -> None:
    """Padding that held it would reach whoever comes next."""
    model = load("turbo", checkpoints("turbo"))
    wanted = model.mels([job(1, 4), job(2, 9)])
    model.warm_up(RecordingCapturer())
    spoiled = job(3, 28)
    spoiled.noise.fill_(float("nan"))
    model.mels([spoiled] * 4)
    for found, mel in zip(model.mels([job(1, 4), job(2, 9)]), wanted, strict=True):
        torch.testing.assert_close(found, mel, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("small")
def test_smallest_graph_that_fits_is_taken() -> None:
    seen: list[tuple[int, ...]] = []

    def estimator(x: Tensor, biases: Tensor, real: Tensor | None) -> Tensor:
        seen.append(tuple(x.shape))
        return x[:, :, :80] + biases[:, :1, :1]

    capturer = RecordingCapturer()
    made = GraphedEstimator(estimator, capturer, channels=320, blocks=(2, 8), like=torch.zeros(()))
    sizes = [(rows, frames) for rows in (4, 2, 1) for frames in (96, 80, 48)]
    for batch, frames, size in ((1, 10, (1, 48)), (1, 49, (1, 80)), (3, 96, (4, 96)), (2, 48, (2, 48))):
        result = made(torch.ones(batch, frames, 320), torch.ones(batch, 2, 8), None)
        assert result.shape == (batch, frames, 80)
        assert (result == 2).all()
        assert sizes[capturer.replayed[-1]] == size
    ran, seen[:] = len(capturer.replayed), []
    for batch, frames in ((5, 10), (1, 97)):
        made(torch.ones(batch, frames, 320), torch.ones(batch, 2, 8), None)
    assert seen == [(5, 10, 320), (1, 97, 320)]
    assert len(capturer.replayed) == ran


@pytest.mark.usefixtures("small")
def test_samples_outlive_next_call() -> None:
    made = GraphedGenerator(
        lambda _, source: source * 2, RecordingCapturer(), channels=80, samples_per_frame=4, device=torch.device("cpu")
    )
    first = made(torch.zeros(1, 80, 10), torch.ones(1, 40))
    made(torch.zeros(1, 80, 10), torch.zeros(1, 40))
    assert (first == 2).all()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("capturer", "reason"),
    [
        (FailingCapturer(), "operation not permitted when stream is capturing"),
        (WrongCapturer(off), "values that are off by"),
        (WrongCapturer(nan), "off by nan"),
        (WrongCapturer(frozen), "values that are off by"),
    ],
)
def test_failed_capture_keeps_eager_networks(
    checkpoints: Callable[[str], Path], caplog: pytest.LogCaptureFixture, capturer: RecordingCapturer, reason: str
) -> None:
    model = load("turbo", checkpoints("turbo"))
    (wanted,) = model.mels([job(1, 9)])
    with caplog.at_level(logging.INFO):
        model.warm_up(capturer)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert reason in caplog.text
    ran = len(capturer.replayed)
    assert model.mels([job(1, 9)])[0].equal(wanted)
    assert len(capturer.replayed) == ran


def test_no_graphs_on_cpu(checkpoints: Callable[[str], Path]) -> None:
    model = load("turbo", checkpoints("turbo"))
    model.warm_up()
    assert model._flow._evaluate is model._flow._estimator


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-3), (torch.bfloat16, 0.5)])
def test_gpu_captures_networks(
    checkpoints: Callable[[str], Path], caplog: pytest.LogCaptureFixture, kind: str, dtype: torch.dtype, error: float
) -> None:
    eager, captured = (load(kind, checkpoints(kind), "cuda", dtype) for _ in range(2))
    captured.warm_up(CudaCapturer(torch.device("cuda")))
    assert not caplog.records
    jobs = [job(1, 9), job(2, 25)]
    for found, wanted in zip(captured.mels(jobs), eager.mels(jobs), strict=True):
        torch.testing.assert_close(found, wanted, atol=error, rtol=0)
