"""T3's decoder: any number of requests at once, each as if it were alone."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import upstream_t3 as reference
from chatterbox_server.chatterbox.t3.config import SPEECH_IDS, STOP_SPEECH, Prompt
from chatterbox_server.chatterbox.t3.decoder import Decoder
from chatterbox_server.chatterbox.t3.model import T3
from chatterbox_server.chatterbox.t3.sampling import (
    Sampling,
    SamplingBatch,
    exponentials,
    mix,
    step_state,
    stream_start,
)
from chatterbox_server.chatterbox.t3.torch_backbone import Weights
from chatterbox_server.chatterbox.tensors import CheckpointError, Tensors, head_count
from torch import Tensor

KINDS = ("standard", "multilingual", "turbo", "nano")
Load = Callable[[str], T3]


@pytest.fixture(scope="module")
def t3(checkpoints: Callable[[str], Path]) -> Load:
    return functools.cache(lambda kind: reference.load(kind, checkpoints(kind)))


def request(kind: str, number: int) -> tuple[Prompt, Sampling, int]:
    """One of many requests unlike each other."""
    choice = random.Random(number)
    wanted = reference.prompt(
        kind, number, words=choice.randint(1, 30), exaggeration=choice.random(), voice=choice.randrange(4)
    )
    how = reference.sampling(
        kind,
        seed=number,
        temperature=choice.choice((0.0, 0.8, 1.1)),
        top_p=choice.choice((0.8, 1.0)),
        min_p=choice.choice((0.0, 0.1)),
        top_k=choice.choice((0, 20, 1000)),
        repetition_penalty=choice.choice((1.0, 1.3)),
        cfg_weight=choice.choice((0.0, 0.3, 1.0)),
    )
    return wanted, how, choice.randint(1, 40)


def collect(decoder: Decoder, got: dict[int, list[int | None]]) -> None:
    for token in decoder.step():
        got.setdefault(token.request_id, []).append(token.id)


@pytest.fixture(scope="module")
def alone(t3: Load) -> Callable[[str, int], list[int]]:
    """The tokens of ``request(kind, number)`` decoded by itself."""
    return functools.cache(lambda kind, number: reference.alone(t3(kind), *request(kind, number)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("slots", "ahead"), [(2, False), (5, False), (5, True), (16, True)])
def test_tokens_do_not_depend_on_batch(
    t3: Load, alone: Callable[[str, int], list[int]], kind: str, slots: int, ahead: bool
) -> None:
    model = t3(kind)
    requests = {number: request(kind, number) for number in range(20)}
    decoder, got, chance = Decoder(model, slots=slots, ahead=ahead), dict[int, list[int | None]](), random.Random(slots)
    coming, dropped = list(requests), set[int]()
    while coming or not decoder.idle:
        for _ in range(min(chance.randrange(4), len(coming))):
            number = coming.pop(0)
            decoder.add(number, *requests[number])
        if chance.random() < 0.1 and decoder.slots_used and got:
            number = chance.choice([*got])
            decoder.drop(number)
            dropped.add(number)
        collect(decoder, got)
        assert decoder.slots_used <= slots
    assert dropped
    for number in requests:
        tokens, expected = got.get(number, []), alone(kind, number)
        assert tokens == (expected[: len(tokens)] if number in dropped else expected)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_do_not_depend_on_batch(checkpoints: Callable[[str], Path], kind: str) -> None:
    """To rounding, of requests of unlike length, voice and guidance; tokens alone could hide what is small."""
    model = reference.Recorder.from_tensors(
        reference.tensors(kind, checkpoints(kind)), device="cpu", dtype=torch.float32
    )
    wanted = [request(kind, number)[0] for number in range(6)]
    how = [reference.sampling(kind, temperature=0.0, cfg_weight=(number % 3) / 2) for number in range(6)]
    for number in range(6):
        reference.alone(model, wanted[number], how[number], 25)
    each = [model.recorded[25 * number : 25 * number + 25] for number in range(6)]
    model.recorded.clear()
    decoder = Decoder(model, slots=6)
    for number in range(6):
        decoder.add(number, wanted[number], how[number], 25)
    while decoder.slots_used < 6:
        decoder.step()
    # In the step in which the last ones joined every request stands somewhere else.
    rows = model.recorded[-1]
    first = 0
    for number in range(6):
        count = len(each[number][0])
        matches = [float((step - rows[first : first + count]).abs().max()) for step in each[number]]
        assert min(matches) < 1e-5
        first += count
    assert first == len(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_depend_on_seed_only(t3: Load, kind: str) -> None:
    wanted, how = reference.prompt(kind), reference.sampling(kind, temperature=1.0, min_p=0.0)
    first = reference.alone(t3(kind), wanted, how, 20)
    torch.manual_seed(5)
    assert reference.alone(t3(kind), wanted, how, 20) == first
    assert reference.alone(t3(kind), wanted, replace(how, seed=1), 20) != first


def test_each_request_has_its_own_guidance(t3: Load) -> None:
    model, wanted = t3("standard"), reference.prompt("standard")
    weights = (0.0, 0.3, 0.5, 1.0)
    how = [reference.sampling("standard", temperature=0.0, cfg_weight=weight) for weight in weights]
    decoder, got = Decoder(model, slots=4), dict[int, list[int | None]]()
    for number, each in enumerate(how):
        decoder.add(number, wanted, each, 15)
    while not decoder.idle:
        collect(decoder, got)
    assert list(got.values()) == [reference.alone(model, wanted, each, 15) for each in how]
    assert len({tuple(tokens) for tokens in got.values()}) == len(weights)


def test_exaggeration_changes_llama_models(t3: Load) -> None:
    how = reference.sampling("standard", temperature=0.0)
    calm, wild = (
        reference.alone(t3("standard"), reference.prompt("standard", exaggeration=value), how, 30)
        for value in (0.2, 2.0)
    )
    assert calm != wild


@pytest.mark.parametrize("kind", reference.LLAMA)
def test_non_speech_ids_are_never_sampled(checkpoints: Callable[[str], Path], kind: str) -> None:
    stored = reference.tensors(kind, checkpoints(kind))
    head = stored["speech_head.weight"].clone()
    # Far larger logits, of both signs, than any other.
    head[SPEECH_IDS:] *= 1000
    model = T3.from_tensors(
        Tensors(stored.path, {**stored, "speech_head.weight": head}), device="cpu", dtype=torch.float32
    )
    for temperature in (0.0, 1.5):
        how = reference.sampling(kind, temperature=temperature, min_p=0.0)
        tokens = reference.alone(model, reference.prompt(kind), how, 30)
        assert len(tokens) == 30
        assert max(tokens) < SPEECH_IDS


def test_wrong_requests_are_refused_with_reason(t3: Load) -> None:
    how, good = reference.sampling("standard"), reference.prompt("standard")
    decoder = Decoder(t3("standard"), slots=1)
    voiceless = replace(good.voice, t3_tokens=torch.zeros(0, dtype=torch.int64))
    bad = (
        (replace(good, text_ids=(255, 704, 0)), 10, "0 to 703"),
        (replace(good, text_ids=(255, -1, 0)), 10, "0 to 703"),
        (replace(good, text_ids=()), 10, "no tokens"),
        (replace(good, text_ids=(1,) * 2051), 10, "2051 tokens where 2050"),
        (good, 0, "at least one"),
        (good, 4101, "4100"),
        (replace(good, voice=voiceless), 10, "prompt tokens"),
    )
    for wanted, count, reason in bad:
        with pytest.raises(ValueError, match=reason):
            decoder.add(1, wanted, how, count)
    turbo = Decoder(t3("turbo"), slots=1)
    with pytest.raises(ValueError, match="50275"):
        turbo.add(1, replace(good, text_ids=(50276,)), how, 10)
    with pytest.raises(ValueError, match="8000 tokens where there is room for 7045"):
        turbo.add(1, replace(good, text_ids=(1,) * 8000), how, 1000)
    assert decoder.idle
    assert turbo.idle
    decoder.add(1, good, how, 3)
    with pytest.raises(ValueError, match="being decoded"):
        decoder.add(1, good, how, 3)


@pytest.mark.parametrize("kind", ["standard", "turbo"])
def test_longest_requests_fit(t3: Load, kind: str) -> None:
    config, wanted = t3(kind).config, reference.prompt(kind)
    how = reference.sampling(kind, temperature=0.0)
    if kind == "standard":
        assert config.text_positions == 2050
        longest = replace(wanted, text_ids=(255, *(1,) * 2048, 0))
    else:
        assert config.positions == 8196
        longest = replace(wanted, text_ids=(1,) * (8196 - config.prefix_length(len(wanted.voice.t3_tokens)) - 5))
    assert len(reference.alone(t3(kind), longest, how, 5)) == 5


def test_dropping_frees_slots_and_memory(t3: Load) -> None:
    decoder = Decoder(t3("standard"), slots=3)
    for number in range(6):
        decoder.add(number, *request("standard", number)[:2], 1000)
    for _ in range(5):
        decoder.step()
    assert (decoder.slots_used, decoder.waiting) == (3, 3)
    held = decoder.cache_bytes
    decoder.drop(4)
    decoder.drop(0)
    decoder.drop(99)
    assert (decoder.slots_used, decoder.waiting) == (2, 2)
    for _ in range(3):
        decoder.step()
    assert (decoder.slots_used, decoder.waiting) == (3, 1)
    for number in range(6):
        decoder.drop(number)
    assert decoder.idle
    assert (decoder.slots_used, decoder.waiting) == (0, 0)
    assert decoder.step() == []
    assert 0 < decoder.cache_bytes < held
    decoder.release_caches()
    assert decoder.cache_bytes == 0


def test_cache_memory_follows_use(t3: Load) -> None:
    model = t3("standard")
    row = 2 * model.config.layers * model.config.width * 4
    decoder = Decoder(model, slots=32)
    decoder.add(1, reference.prompt("standard"), reference.sampling("standard"), 400)
    decoder.step()
    prefix = row * 33
    assert decoder.cache_bytes == 2 * row * 128 + prefix
    for _ in range(150):
        decoder.step()
    assert decoder.cache_bytes == 2 * row * 256 + prefix
    decoder.forget_voice("voice0")
    assert decoder.cache_bytes == 2 * row * 256
    decoder.release_caches()
    # 33 of the voice, 1 of the emotion, 11 of the text, 2 starts of speech and all tokens but the last.
    assert decoder.cache_bytes == 2 * row * (33 + 1 + 11 + 2 + 150)


@pytest.mark.parametrize("kind", ["standard", "turbo"])
def test_releasing_caches_changes_no_tokens(t3: Load, kind: str) -> None:
    requests = {number: request(kind, number) for number in range(4)}
    decoder, got = Decoder(t3(kind), slots=2, prefix_bytes=0), dict[int, list[int | None]]()
    for number, each in requests.items():
        decoder.add(number, *each)
    while not decoder.idle:
        collect(decoder, got)
        decoder.release_caches()
        decoder.forget_voice("voice1")
    assert got == {number: reference.alone(t3(kind), *each) for number, each in requests.items()}


def test_voices_are_kept_up_to_limit(t3: Load) -> None:
    model = t3("turbo")
    how = reference.sampling("turbo")
    size = 2 * model.config.layers * model.config.width * 4 * (1 + 150)
    decoder = Decoder(model, slots=1, prefix_bytes=2 * size)
    for number, voice in enumerate((0, 3, 0, 6, 0)):
        decoder.add(number, reference.prompt("turbo", voice=voice), how, 1)
        decoder.step()
        assert decoder.cache_bytes == min(number + 1, 2) * size


def test_step_computes_few_prompts(t3: Load) -> None:
    decoder = Decoder(t3("standard"), slots=8)
    for number in range(8):
        decoder.add(number, reference.prompt("standard", number), reference.sampling("standard"), 50)
    used = []
    while decoder.waiting:
        decoder.step()
        used.append(decoder.slots_used)
    # The voice takes the place of a prompt.
    assert used == [1, 3, 5, 7, 8]


def test_stop_token_ends_request_and_is_not_reported(t3: Load) -> None:
    ids = iter((3, 6561, STOP_SPEECH))

    def draw(probabilities: Tensor, requests: Sequence[int]) -> Tensor:
        assert probabilities.shape == (1, SPEECH_IDS)
        assert list(requests) == [7]
        return torch.tensor([next(ids)])

    decoder = Decoder(t3("standard"), slots=1, draw=draw)
    decoder.add(7, reference.prompt("standard"), reference.sampling("standard"), 50)
    tokens = [token for _ in range(3) for token in decoder.step()]
    assert [(token.id, token.last) for token in tokens] == [(3, False), (6561, False), (None, True)]
    assert decoder.idle


def test_reduced_precision_stays_close(checkpoints: Callable[[str], Path]) -> None:
    for kind in ("standard", "turbo"):
        recorded = []
        for dtype in (torch.float32, torch.bfloat16):
            model = reference.Recorder.from_tensors(
                reference.tensors(kind, checkpoints(kind)), device="cpu", dtype=dtype
            )
            reference.alone(model, reference.prompt(kind), reference.sampling(kind, temperature=0.0), 1)
            recorded.append(model.recorded[0])
        assert recorded[1].dtype == torch.float32
        assert float((recorded[0] - recorded[1]).abs().max()) < 0.05 * float(recorded[0].abs().max())


def test_philox_equals_published_values() -> None:
    # The first outputs of SplitMix64 for the seed 1234567, of which the state grows by a constant.
    words = mix(1234567 + torch.arange(1, 6) * (0x9E3779B97F4A7C15 - 2**64))
    assert [int(word) % 2**64 for word in words] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_random_numbers_are_exponential_and_of_their_seed_and_step() -> None:
    def drawn(seed: int, step: int, count: int = 6563) -> Tensor:
        return exponentials(torch.tensor([step_state(stream_start(seed), step)]), torch.arange(count))[0]

    numbers = torch.cat([drawn(3, step) for step in range(10)])
    assert float(numbers.min()) > 0
    assert numbers.dtype == torch.float32
    counts = torch.histc((-numbers).exp(), 20, 0, 1)
    expected = len(numbers) / 20
    assert float(((counts - expected) ** 2 / expected).sum()) < 43.8  # chi squared, 19 degrees, one in a thousand
    several = ((3, 0), (3, 1), (4, 0), (0, 3), (3 + (1 << 32), 0), ((1 << 64) - 1, 0))
    streams = torch.stack([drawn(*each) for each in several])
    assert float((torch.corrcoef(streams) - torch.eye(len(several))).abs().max()) < 0.06
    assert drawn(3, 1, 9).equal(drawn(3, 1)[:9])
    assert drawn((1 << 64) + 3, 1).equal(drawn(3, 1))
    states = torch.tensor([step_state(stream_start(seed), step) for seed, step in several])
    assert exponentials(states, torch.arange(6563)).equal(streams)
    some = torch.tensor([4, 17, 6000])
    assert exponentials(states, some).equal(streams[:, some])


def test_draws_follow_probabilities() -> None:
    how = reference.sampling("standard", temperature=1.0, min_p=0.0, repetition_penalty=1.0)
    count = 4000
    sampler = SamplingBatch([how] * count, penalty_last=False, device=torch.device("cpu"))
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.19, 0.01])
    states = torch.tensor([step_state(stream_start(0), step) for step in range(count)])
    seen = torch.zeros(count, 5, dtype=torch.bool)
    ids = sampler.sample(probabilities.log().expand(count, -1), seen, states, range(count), None)
    shares = torch.bincount(ids, minlength=5) / count
    assert shares[1] == 0
    assert float((shares - probabilities).abs().max()) < 0.02
    assert shares[4] > 0


def test_heads_follow_width() -> None:
    assert [head_count(width) for width in (1024, 768, 512, 256, 64, 32)] == [16, 12, 8, 4, 4, 2]
    for width in (0, 40, 1000):
        with pytest.raises(ValueError, match=str(width)):
            head_count(width)


def test_file_of_another_model_is_named(checkpoints: Callable[[str], Path]) -> None:
    stored = dict(reference.tensors("standard", checkpoints("standard")))
    damaged: tuple[tuple[dict[str, Tensor], str], ...] = (
        ({}, "speech_emb"),
        ({key: value for key, value in stored.items() if ".layers." not in key}, "no transformer layers"),
        ({**stored, "speech_emb.weight": torch.zeros(100, 64)}, "100 rows"),
        ({**stored, "tfmr.layers.1.mlp.up_proj.weight": torch.zeros(5, 5)}, "up_proj"),
    )
    for content, reason in damaged:
        with pytest.raises(CheckpointError, match=rf"other\.safetensors.*{reason}"):
            T3.from_tensors(Tensors(Path("other.safetensors"), content), device="cpu", dtype=torch.float32)


def test_weights_stay_in_file_when_nothing_changes(checkpoints: Callable[[str], Path]) -> None:
    for kind in KINDS:
        stored = reference.tensors(kind, checkpoints(kind))
        weights = Weights(stored, device=torch.device("cpu"), dtype=torch.float32)
        name = "h.0.attn.c_attn" if kind in ("turbo", "nano") else "layers.0.mlp.up_proj"
        matrix = weights.scope("tfmr.")
        layer = matrix.transposed_linear(name, -1, -1) if "h.0" in name else matrix.linear(name, -1, -1, bias=False)
        assert layer.weight.data_ptr() == stored[f"tfmr.{name}.weight"].data_ptr()
