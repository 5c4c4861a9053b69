"""T3 equals upstream's: logits, the sampled tokens, and what sampling makes of the same logits."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import upstream_t3 as reference
from chatterbox_server.chatterbox.t3.config import SPEECH_IDS, START_SPEECH, STOP_SPEECH
from chatterbox_server.chatterbox.t3.model import T3
from chatterbox_server.chatterbox.t3.sampling import SamplingBatch
from chatterbox_server.chatterbox.t3.torch_backbone import rotation_frequencies
from chatterbox_server.chatterbox.tensors import Tensors
from torch import Tensor

KINDS = ("standard", "multilingual", "turbo", "nano")
GRID = tuple(
    itertools.product((0.5, 0.8, 1.0, 1.3), (1.0, 1.2, 2.0), (0.0, 0.05, 0.2), (0.7, 0.95, 1.0), (0.3, 0.5, 1.0))
)
"""Temperature, repetition penalty, min-p (Llama), top-p, guidance (Llama)."""
Pair = Callable[[str], tuple[T3, Any]]


@pytest.fixture(scope="module")
def pair(checkpoints: Callable[[str], Path]) -> Pair:
    """Ours and upstream's."""
    return functools.cache(
        lambda kind: (reference.load(kind, checkpoints(kind)), reference.load_upstream(kind, checkpoints(kind)))
    )


@pytest.mark.parametrize("kind", KINDS)
def test_sampled_tokens_equal_upstream(pair: Pair, kind: str) -> None:
    ours, upstream = pair(kind)
    chosen = random.Random(0).sample(GRID, 20)
    for seed, (temperature, penalty, min_p, top_p, weight) in enumerate(chosen):
        llama = {"min_p": min_p, "cfg_weight": weight} if kind in reference.LLAMA else {"top_k": (0, 5, 1000)[seed % 3]}
        how = reference.sampling(kind, temperature=temperature, repetition_penalty=penalty, top_p=top_p, **llama)
        wanted = reference.prompt(kind, seed, words=2 + seed, exaggeration=seed / 10, voice=seed)
        pick = functools.partial(reference.multinomial, seed)
        theirs, _ = reference.reference(kind, upstream, wanted, how, 10, pick=pick())
        assert reference.alone(ours, wanted, how, 10, reference.draws(kind, pick())) == theirs, (seed, how)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_equal_upstream(checkpoints: Callable[[str], Path], pair: Pair, kind: str) -> None:
    upstream = pair(kind)[1]
    ours = reference.Recorder.from_tensors(
        reference.tensors(kind, checkpoints(kind)), device="cpu", dtype=torch.float32
    )
    wanted, how = reference.prompt(kind, words=40, exaggeration=0.9), reference.sampling(kind, cfg_weight=0.5)
    tokens, logits = reference.reference(kind, upstream, wanted, how, 150, pick=reference.multinomial(0))

    def follow(_probabilities: Tensor, _requests: Sequence[int]) -> Tensor:
        return torch.tensor([tokens[len(ours.recorded) - 1]])

    assert reference.alone(ours, wanted, how, 150, follow) == tokens
    assert len(logits) == len(ours.recorded) == 150
    assert max(float((a - b).abs().max()) for a, b in zip(ours.recorded, logits, strict=True)) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_tokens_equal_upstream(pair: Pair, kind: str) -> None:
    ours, upstream = pair(kind)
    wanted = reference.prompt(kind)
    # What is left of upstream's order when the likeliest token is taken: guidance and penalty.
    plain = reference.sampling(kind, temperature=1.0, min_p=0.0, top_p=1.0, top_k=0)
    theirs, _ = reference.reference(kind, upstream, wanted, plain, 30, pick=reference.likeliest)
    how = reference.sampling(kind, temperature=0.0)
    assert reference.alone(ours, wanted, how, 30) == theirs


@pytest.mark.parametrize("kind", reference.LLAMA)
def test_no_guidance_needs_one_row(checkpoints: Callable[[str], Path], pair: Pair, kind: str) -> None:
    """Upstream's two rows with weight 0 (which its standard model cannot be given) are one row computed twice."""
    ours = reference.Recorder.from_tensors(
        reference.tensors(kind, checkpoints(kind)), device="cpu", dtype=torch.float32
    )
    wanted, how = reference.prompt(kind), reference.sampling(kind, cfg_weight=0.0)
    tokens, logits = reference.reference(kind, pair(kind)[1], wanted, how, 12, pick=reference.multinomial(4))
    draw = reference.draws(kind, reference.multinomial(4))
    assert reference.alone(ours, wanted, how, 12, draw) == tokens
    assert all(each.shape == (1, SPEECH_IDS) for each in ours.recorded)
    assert max(float((a - b[:1]).abs().max()) for a, b in zip(ours.recorded, logits, strict=True)) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_stop_position_equals_upstream(pair: Pair, kind: str) -> None:
    ours, upstream = pair(kind)
    wanted, how = reference.prompt(kind), reference.sampling(kind)

    def picker() -> reference.Pick:
        ids = iter((17, 6561, 5, STOP_SPEECH))
        return lambda probabilities: torch.full((len(probabilities), 1), next(ids))

    theirs, _ = reference.reference(kind, upstream, wanted, how, 30, pick=picker())
    mine = reference.alone(ours, wanted, how, 30, reference.draws(kind, picker()))
    # Upstream's GPT-2 loop takes the stop token off itself.
    assert mine == [17, 6561, 5, STOP_SPEECH]
    assert theirs == mine if kind in reference.LLAMA else theirs == mine[:-1]


@pytest.mark.parametrize("kind", KINDS)
def test_start_token_penalty_equals_upstream(
    checkpoints: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """With GPT-2 before the first token alone, with Llama always."""
    stored = dict(reference.tensors(kind, checkpoints(kind)))
    head = stored["speech_head.weight"].clone()
    head[START_SPEECH] *= 3
    favouring = Tensors(Path("favouring"), {**stored, "speech_head.weight": head})
    monkeypatch.setattr(reference, "tensors", lambda _kind, _folder: favouring)
    ours, upstream = reference.load(kind, checkpoints(kind)), reference.load_upstream(kind, checkpoints(kind))
    shares: list[list[float]] = [[], []]

    def picker(kept: list[float]) -> reference.Pick:
        def pick(probabilities: Tensor) -> Tensor:
            kept.append(float(probabilities[0, START_SPEECH]))
            return torch.tensor([[17]])

        return pick

    for number in range(4):
        wanted = reference.prompt(kind, number, voice=number)
        how = reference.sampling(kind, min_p=0.0, top_p=1.0, top_k=0, repetition_penalty=2.0)
        reference.reference(kind, upstream, wanted, how, 3, pick=picker(shares[0]))
        reference.alone(ours, wanted, how, 3, reference.draws(kind, picker(shares[1])))
    assert shares[1] == pytest.approx(shares[0], rel=1e-3, abs=0)


@pytest.mark.parametrize("kind", ["standard", "turbo"])
def test_settings_of_batch_equal_upstream_one_by_one(kind: str) -> None:
    from transformers.generation import logits_process as processors

    llama = kind in reference.LLAMA
    choices = random.Random(3)
    logits = torch.randn(40, SPEECH_IDS, generator=torch.Generator().manual_seed(1)) * 3
    seen = torch.rand(40, SPEECH_IDS, generator=torch.Generator().manual_seed(2)) < 0.3
    settings = [
        reference.sampling(
            kind,
            temperature=choices.choice((0.3, 1.0, 1.7)),
            top_p=choices.choice((0.0, 0.5, 0.95, 1.0)),
            min_p=choices.choice((0.0, 0.1, 1.0)) if llama else 0.0,
            top_k=0 if llama else choices.choice((0, 1, 7, 1000, 100_000)),
            repetition_penalty=choices.choice((1.0, 1.5)),
        )
        for _ in range(40)
    ]
    drawn: list[Tensor] = []

    def draw(probabilities: Tensor, _requests: Sequence[int]) -> Tensor:
        drawn.append(probabilities)
        return probabilities.argmax(-1)

    sampler = SamplingBatch(settings, penalty_last=not llama, device=torch.device("cpu"))
    sampler.sample(logits, seen, torch.zeros(40, dtype=torch.int64), range(40), draw)
    for row, how in enumerate(settings):
        ids, scores = seen[row].nonzero().T, logits[row : row + 1]
        penalty = processors.RepetitionPenaltyLogitsProcessor(how.repetition_penalty)
        chain: list[Any] = [penalty] if llama else []
        chain.append(processors.TemperatureLogitsWarper(how.temperature))
        if llama:
            chain.append(processors.MinPLogitsWarper(how.min_p))
        elif how.top_k:
            chain.append(processors.TopKLogitsWarper(how.top_k))
        chain.append(processors.TopPLogitsWarper(how.top_p))
        for process in chain if llama else [*chain, penalty]:
            scores = process(ids, scores)
        assert drawn[0][row].equal(scores[0].softmax(-1)), how


@pytest.mark.parametrize("channels", [16, 64, 128])
def test_rotation_equals_upstream(channels: int) -> None:
    from chatterbox.models.t3.llama_configs import LLAMA_CONFIGS
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = LlamaConfig(**{**LLAMA_CONFIGS["Llama_520M"], "head_dim": channels})
    frequencies, scale = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    assert scale == 1.0
    assert rotation_frequencies(channels).equal(frequencies)
