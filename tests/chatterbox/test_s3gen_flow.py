from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from chatterbox_server.chatterbox.conditionals import Conditionals
from chatterbox_server.chatterbox.interfaces import MelJob
from chatterbox_server.chatterbox.rendering import FADE_IN
from chatterbox_server.chatterbox.s3gen.encoder import Encoder
from chatterbox_server.chatterbox.s3gen.layers import Weights
from chatterbox_server.chatterbox.s3gen.model import S3Gen
from chatterbox_server.chatterbox.s3gen.noise import Noise
from chatterbox_server.chatterbox.tensors import CheckpointError, Tensors, open_tensors
from torch import Tensor

KINDS = ("standard", "turbo")
FILES = {"standard": "s3gen.safetensors", "turbo": "s3gen_meanflow.safetensors"}
Checkpoints = Callable[[str], Path]
Upstream = Callable[[str], Any]


@pytest.fixture(scope="module")
def tensors(checkpoints: Checkpoints) -> Callable[[str], Tensors]:
    return lambda kind: open_tensors(checkpoints(kind) / FILES[kind])


@pytest.fixture(scope="module")
def models(tensors: Callable[[str], Tensors]) -> dict[str, S3Gen]:
    return {kind: S3Gen.from_tensors(tensors(kind), device="cpu", dtype=torch.float32) for kind in KINDS}


def voice(number: int, tokens: int) -> Conditionals:
    generator = torch.Generator().manual_seed(number)
    return Conditionals(
        t3_speaker=torch.zeros(256),
        t3_tokens=torch.zeros(0, dtype=torch.int64),
        s3_tokens=torch.randint(0, 6561, (tokens,), generator=generator),
        s3_mel=torch.randn(2 * tokens, 80, generator=generator) - 5,
        s3_speaker=torch.randn(192, generator=generator),
    )


def job(number: int, tokens: int, *, prompt: int = 20, final: bool = True, steps: int | None = None) -> MelJob:
    generator = torch.Generator().manual_seed(100 + number)
    noise = Noise(number)
    return MelJob(
        voice=voice(number, prompt),
        tokens=torch.randint(0, 6561, (tokens,), generator=generator),
        noise=noise.mel(0, 2 * tokens),
        prompt_noise=noise.prompt(2 * prompt),
        final=final,
        steps=steps,
    )


@contextlib.contextmanager
def noise_of(given: MelJob, frames: int) -> Iterator[None]:
    """Upstream draws the noise of the voice's frames and of ours at once."""
    noise = torch.cat([given.prompt_noise, given.noise], dim=1)[None, :, :frames]

    def draw(like: Tensor) -> Tensor:
        assert like.shape == noise.shape
        return noise.clone()

    with mock.patch.object(torch, "randn_like", draw):
        yield


def upstream_mel(flow: Any, given: MelJob, *, mean_flow: bool, steps: int) -> Tensor:
    known = given.voice
    frames = 2 * (known.s3_tokens.numel() + given.tokens.numel() - (0 if given.final else 3))
    with noise_of(given, frames):
        mel, _ = flow.inference(
            token=given.tokens[None],
            token_len=torch.tensor([given.tokens.numel()]),
            prompt_token=known.s3_tokens[None],
            prompt_token_len=torch.tensor([known.s3_tokens.numel()]),
            prompt_feat=known.s3_mel[None],
            prompt_feat_len=None,
            embedding=known.s3_speaker[None],
            finalize=given.final,
            n_timesteps=steps,
            meanflow=mean_flow,
        )
    result: Tensor = mel[0]
    return result


def close(found: Tensor, wanted: Tensor, error: float) -> None:
    assert found.shape == wanted.shape
    assert wanted.std() > 0.05  # otherwise nothing would be told apart
    torch.testing.assert_close(found, wanted, atol=error, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("tokens", "prompt"), [(1, 4), (12, 20), (40, 7)])
def test_mel_equals_upstreams(
    kind: str, tokens: int, prompt: int, models: dict[str, S3Gen], upstream: Upstream
) -> None:
    given = job(1, tokens, prompt=prompt)
    (mel,) = models[kind].mels([given])
    steps = 2 if kind == "turbo" else 10
    wanted = upstream_mel(upstream(kind).s3gen.flow, given, mean_flow=kind == "turbo", steps=steps)
    assert mel.shape == (80, 2 * tokens)
    close(mel, wanted, 1e-4)


@pytest.mark.parametrize(("kind", "steps"), [("standard", 4), ("turbo", 1), ("turbo", 5)])
def test_number_of_steps_is_configurable(kind: str, steps: int, models: dict[str, S3Gen], upstream: Upstream) -> None:
    given = job(2, 9, steps=steps)
    (mel,) = models[kind].mels([given])
    wanted = upstream_mel(upstream(kind).s3gen.flow, given, mean_flow=kind == "turbo", steps=steps)
    close(mel, wanted, 1e-4)
    (usual,) = models[kind].mels([job(2, 9)])
    assert (usual - mel).abs().max() > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_unfinished_tokens_equal_upstreams_with_its_mask_mended(
    kind: str, models: dict[str, S3Gen], upstream: Upstream
) -> None:
    given = job(3, 13, final=False)
    flow = upstream(kind).s3gen.flow
    forward = flow.encoder.forward

    def shortened(*arguments: Any) -> tuple[Tensor, Tensor]:
        features, mask = forward(*arguments)
        return features, mask[:, :, : -2 * models[kind].lookahead]

    with mock.patch.object(flow.encoder, "forward", shortened):
        steps = 2 if kind == "turbo" else 10
        wanted = upstream_mel(flow, given, mean_flow=kind == "turbo", steps=steps)
    (mel,) = models[kind].mels([given])
    assert models[kind].lookahead == 3
    assert mel.shape == (80, 20)
    close(mel, wanted, 1e-4)


def test_encoder_equals_upstreams(tensors: Callable[[str], Tensors], upstream: Upstream) -> None:
    encoder = Encoder(
        Weights(tensors("standard").scope("flow.encoder."), device=torch.device("cpu"), dtype=torch.float32)
    )
    reference = upstream("standard").s3gen.flow.encoder
    generator = torch.Generator().manual_seed(0)
    for steps in (1, 2, 30, 300):  # the table of positions grows on the way
        x = torch.randn(1, steps, 512, generator=generator)
        with torch.inference_mode():
            wanted, _ = reference(x, torch.tensor([steps]))
            close(encoder(x, None), wanted, 2e-5)
            close(encoder(x, torch.ones(1, steps, dtype=torch.bool)), wanted, 2e-5)


@pytest.mark.parametrize("mean_flow", [False, True])
def test_estimator_equals_upstreams(mean_flow: bool, models: dict[str, S3Gen], upstream: Upstream) -> None:
    kind = "turbo" if mean_flow else "standard"
    estimator = models[kind]._flow._estimator
    reference = upstream(kind).s3gen.flow.decoder.estimator
    generator = torch.Generator().manual_seed(0)
    x, mu, known = torch.randn(3, 2, 80, 25, generator=generator)
    speaker = torch.randn(2, 80, generator=generator)
    schedule = estimator.schedule(4)
    times = torch.linspace(0, 1, 5)
    if not mean_flow:
        times = 1 - torch.cos(times * 0.5 * torch.pi)
    torch.testing.assert_close(schedule.lengths, times.diff(), atol=1e-7, rtol=0)
    inputs = torch.cat([x, mu, speaker[:, :, None].expand(2, 80, 25), known], dim=1).transpose(1, 2)
    for step in range(4):
        with torch.inference_mode():
            wanted = reference(
                x=x,
                mask=torch.ones(2, 1, 25),
                mu=mu,
                t=times[step].repeat(2),
                spks=speaker,
                cond=known,
                r=times[step + 1].repeat(2) if mean_flow else None,
            )
            found = estimator(inputs, schedule.biases[step].expand(2, -1, -1), None)
        close(found.transpose(1, 2), wanted, 2e-5)


BATCHES = [
    [(10, 20, True)],
    [(10, 20, True), (10, 20, True)],
    [(13, 20, False), (28, 9, True)],
    [(5, 30, True), (40, 6, False), (4, 1, False)],
    [(3, 25, True), (33, 12, False), (13, 25, False), (1, 2, True), (50, 8, True)],
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shapes", BATCHES, ids=len)
def test_batched_job_equals_one_alone(kind: str, shapes: list[tuple[int, int, bool]], models: dict[str, S3Gen]) -> None:
    jobs = [job(index, tokens, prompt=prompt, final=final) for index, (tokens, prompt, final) in enumerate(shapes)]
    together = models[kind].mels(jobs)
    for given, mel in zip(jobs, together, strict=True):
        close(mel, models[kind].mels([given])[0], 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_jobs_of_different_steps_share_batch(kind: str, models: dict[str, S3Gen]) -> None:
    jobs = [job(index, 6 + index, steps=steps) for index, steps in enumerate((3, 1, None, 5, 1))]
    together = models[kind].mels(jobs)
    for given, mel in zip(jobs, together, strict=True):
        close(mel, models[kind].mels([given])[0], 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_slices_join_without_jump(kind: str, models: dict[str, S3Gen]) -> None:
    """Slices of 10 tokens rendered with 10 tokens before and 3 after them, and their frames by one vocoder."""
    known, noise = voice(1, 20), Noise(1)
    tokens = torch.randint(0, 6561, (60,), generator=torch.Generator().manual_seed(0))
    stream = models[kind].vocoder.stream(noise)
    pieces, frames = [], 0
    for start in range(0, 60, 10):
        context, final = max(0, start - 10), start == 50
        part = tokens[context : start + 10 + (0 if final else 3)]
        slice_ = MelJob(
            voice=known,
            tokens=part,
            noise=noise.mel(2 * context, 2 * part.numel()),
            prompt_noise=noise.prompt(40),
            final=final,
        )
        mel = models[kind].mels([slice_])[0][:, 2 * (start - context) :]
        frames += mel.shape[1]
        pieces.append(stream.push(mel))
    pieces.append(stream.finish())
    assert frames == 120
    jumps = torch.cat(pieces).diff().abs()
    joints = set(range(20 * 480 - 1, jumps.numel(), 20 * 480))
    joints |= {end - 1 for end in torch.tensor([piece.numel() for piece in pieces]).cumsum(0).tolist()[:-1]}
    at = torch.zeros_like(jumps, dtype=torch.bool)
    at[sorted(joints)] = True
    assert len(joints) > 8
    assert jumps[at].max() <= jumps[~at].max()


def test_voice_whose_mel_has_odd_frame_more_than_its_tokens(models: dict[str, S3Gen]) -> None:
    given = job(1, 8)
    known = given.voice
    longer = Conditionals(
        t3_speaker=known.t3_speaker,
        t3_tokens=known.t3_tokens,
        s3_tokens=known.s3_tokens,
        s3_mel=torch.cat([known.s3_mel, torch.ones(1, 80)]),
        s3_speaker=known.s3_speaker,
    )
    other = MelJob(
        voice=longer,
        tokens=given.tokens,
        noise=given.noise,
        prompt_noise=torch.cat([given.prompt_noise, torch.ones(80, 1)], dim=1),
        final=True,
    )
    close(models["turbo"].mels([other])[0], models["turbo"].mels([given])[0], 0)


def test_half_precision_stays_near(tensors: Callable[[str], Tensors], models: dict[str, S3Gen]) -> None:
    half = S3Gen.from_tensors(tensors("turbo"), device="cpu", dtype=torch.bfloat16)
    given = [job(1, 12), job(2, 7)]
    for low, full in zip(half.mels(given), models["turbo"].mels(given), strict=True):
        assert low.dtype == torch.float32
        assert (low - full).abs().mean() < 0.05 * full.std()


def test_input_of_lookahead_only_is_refused(models: dict[str, S3Gen]) -> None:
    assert models["turbo"].mels([]) == []
    with pytest.raises(ValueError, match="lookahead"):
        models["turbo"].mels([job(1, 3, final=False)])


def test_file_of_another_model_is_refused(checkpoints: Checkpoints) -> None:
    with pytest.raises(CheckpointError, match="t3_cfg"):
        S3Gen.from_tensors(
            open_tensors(checkpoints("standard") / "t3_cfg.safetensors"), device="cpu", dtype=torch.float32
        )


def test_fade_in_equals_upstreams(upstream: Upstream) -> None:
    assert torch.equal(torch.from_numpy(FADE_IN), upstream("standard").s3gen.trim_fade)
