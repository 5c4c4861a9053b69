"""Speech tokens to mel frames by flow matching, for any number of requests at once.

Equals upstream's ``flow.py`` (``CausalMaskedDiffWithXvec.inference``) and ``flow_matching.py``
(``CausalConditionalCFM``) for the same noise. Upstream's own path for tokens that have no end yet (``finalize=False``)
fails, for it forgets to shorten the mask; here both are shortened.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from ..device import Capturer
from ..interfaces import MelJob
from ..speech_tokens import FRAMES_PER_TOKEN
from .cuda_graphs import Evaluate, GraphedEstimator
from .encoder import Encoder
from .estimator import Estimator, Network, Schedule, TorchNetwork
from .layers import Linear, MakeLinear, Weights
from .noise import MEL_CHANNELS

__all__ = ["Flow"]

_GUIDANCE = 0.7
"""How far a step goes beyond the direction without conditions (``inference_cfg_rate`` of ``configs.py``)."""
_STEPS = 10
_CHANNELS = 4 * MEL_CHANNELS
"""Into the estimator: the mel so far, the coarse one, the speaker, and the voice's own mel."""
_MEAN_FLOW_STEPS = 2


class Flow:
    def __init__(
        self,
        weights: Weights,
        *,
        network: Callable[[Weights], Network] = TorchNetwork,
        make_linear: MakeLinear = Linear,
        steps: int | None = None,
        reference_tokens: int | None = None,
    ) -> None:
        """``network`` makes the estimator's layers, ``make_linear`` the encoder's linear ones.

        ``steps`` is for models that are not mean-flow; ``None`` is upstream's. Of a voice's reference
        ``reference_tokens`` are used, ``None`` for all.
        """
        self._tokens = weights.tensor("input_embedding.weight", -1, -1)
        self._speaker = weights.linear("spk_embed_affine_layer")
        self._encoder = Encoder(weights.scope("encoder.").with_linear(make_linear))
        self._project = weights.linear("encoder_proj")
        self._estimator = Estimator(weights.scope("decoder.estimator."), network)
        self._reference_tokens = reference_tokens
        self._evaluate: Evaluate = self._estimator
        self._schedules: dict[int, Schedule] = {}
        self.lookahead = self._encoder.lookahead
        """Tokens at the end of a job that is not final which give no frames."""
        self.mean_flow = self._estimator.mean_flow
        self.default_steps = _MEAN_FLOW_STEPS if self.mean_flow else steps or _STEPS

    @torch.inference_mode()
    def capture(self, capturer: Capturer) -> None:
        """Have CUDA graphs of the estimator. Raises ``RuntimeError`` if one is wrong, or what the device raises."""
        biases = self._schedule(None).biases[0]
        self._evaluate = GraphedEstimator(
            self._estimator,
            capturer,
            channels=_CHANNELS,
            blocks=(biases.shape[0], biases.shape[1]),
            like=biases,
        )

    def mels(self, jobs: Sequence[MelJob]) -> Generator[None, None, list[Tensor]]:
        """Makes the frames ``[80, 2 n]`` float32 of each job's own tokens in a batch. Yields after each Euler step."""
        if not jobs:
            return []
        if (most := self._reference_tokens) is not None:
            jobs = [replace(job, voice=job.voice.shortened(most)) for job in jobs]
        prompts = [job.voice.s3_tokens.numel() for job in jobs]
        totals = [prompt + job.tokens.numel() for prompt, job in zip(prompts, jobs, strict=True)]
        kept = [total - (0 if job.final else self.lookahead) for total, job in zip(totals, jobs, strict=True)]
        if any(count <= prompt for count, prompt in zip(kept, prompts, strict=True)):
            raise ValueError("A job has no tokens beside its lookahead.")
        features = self._features(jobs, totals)[:, : FRAMES_PER_TOKEN * max(kept)]
        frames = [FRAMES_PER_TOKEN * count for count in kept]
        x = yield from self._solve(jobs, self._conditions(jobs, features), self._noise(jobs, prompts, frames), frames)
        return [
            row[FRAMES_PER_TOKEN * prompt : end].T.float() for row, prompt, end in zip(x, prompts, frames, strict=True)
        ]

    def _features(self, jobs: Sequence[MelJob], totals: list[int]) -> Tensor:
        """The encoder's coarse mel, ``[B, 2 T, 80]``."""
        ids = torch.zeros(len(jobs), max(totals), dtype=torch.int64, device=self._tokens.device)
        for row, job, total in zip(ids, jobs, totals, strict=True):
            prompt = total - job.tokens.numel()
            row[:prompt] = job.voice.s3_tokens
            row[prompt:total] = job.tokens
        real = self._real(totals)
        embedded = functional.embedding(ids, self._tokens)
        return self._project(self._encoder(embedded, real))

    def _conditions(self, jobs: Sequence[MelJob], features: Tensor) -> Tensor:
        """The conditions of every step, ``[B, T, 240]``: coarse mel, speaker, and the voice's own mel in its frames."""
        batch, frames, channels = features.shape
        speakers = torch.stack([job.voice.s3_speaker for job in jobs]).to(features)
        speakers = self._speaker(functional.normalize(speakers, dim=1)).unsqueeze(1).expand(batch, frames, -1)
        known = features.new_zeros(batch, frames, channels)
        for row, job in zip(known, jobs, strict=True):
            prompt = FRAMES_PER_TOKEN * job.voice.s3_tokens.numel()
            row[:prompt] = job.voice.s3_mel[:prompt]
        return torch.cat([features, speakers, known], dim=-1)

    def _noise(self, jobs: Sequence[MelJob], prompts: list[int], frames: list[int]) -> Tensor:
        # From pinned memory, the host does not wait until a device has it.
        pinned = self._tokens.device.type == "cuda"
        noise = torch.zeros(len(jobs), max(frames), jobs[0].noise.shape[0], pin_memory=pinned)
        for row, job, prompt, end in zip(noise, jobs, prompts, frames, strict=True):
            start = FRAMES_PER_TOKEN * prompt
            row[:start] = job.prompt_noise[:, :start].T
            row[start:end] = job.noise[:, : end - start].T
        return noise.to(self._tokens.device, non_blocking=pinned)

    def _solve(
        self, jobs: Sequence[MelJob], conditions: Tensor, x: Tensor, frames: list[int]
    ) -> Generator[None, None, Tensor]:
        """Follow the flow from the noise ``x`` ``[B, T, 80]``, row by row in as many steps as its job wants."""
        schedules = [self._schedule(job.steps) for job in jobs]
        lengths = [schedule.lengths.numel() for schedule in schedules]
        rows = list(range(len(jobs)))
        done = torch.empty_like(x)
        real = self._real(frames)
        for step in range(max(lengths)):
            alive = [index for index, row in enumerate(rows) if lengths[row] > step]
            if len(alive) < len(rows):
                keep = torch.tensor(alive, device=x.device)
                done[torch.tensor(rows, device=x.device)] = x
                x, conditions, real = x[keep], conditions[keep], None if real is None else real[keep]
                rows = [rows[index] for index in alive]
            length = torch.stack([schedules[row].lengths[step] for row in rows])
            biases = torch.stack([schedules[row].biases[step] for row in rows])
            x = x + length[:, None, None] * self._direction(x, conditions, biases, real)
            yield
        if len(rows) == len(jobs):
            return x
        done[torch.tensor(rows, device=x.device)] = x
        return done

    def _direction(self, x: Tensor, conditions: Tensor, biases: Tensor, real: Tensor | None) -> Tensor:
        noisy = x.to(conditions.dtype)
        if self.mean_flow:
            return self._evaluate(torch.cat([noisy, conditions], dim=-1), biases, real).float()
        both = torch.cat([noisy.repeat(2, 1, 1), torch.cat([conditions, torch.zeros_like(conditions)])], dim=-1)
        twice = None if real is None else real.repeat(2, 1)
        guided, free = self._evaluate(both, biases.repeat(2, 1, 1), twice).float().chunk(2)
        return (1.0 + _GUIDANCE) * guided - _GUIDANCE * free

    def _schedule(self, steps: int | None) -> Schedule:
        steps = steps or self.default_steps
        if steps not in self._schedules:
            self._schedules[steps] = self._estimator.schedule(steps)
        return self._schedules[steps]

    def _real(self, lengths: list[int]) -> Tensor | None:
        """``[B, T]`` booleans, true in each row's ``lengths``; ``None`` if all are equal."""
        if min(lengths) == max(lengths):
            return None
        ends = torch.tensor(lengths, device=self._tokens.device)
        return torch.arange(max(lengths), device=self._tokens.device) < ends.unsqueeze(1)
