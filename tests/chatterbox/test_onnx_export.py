from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from chatterbox_server.chatterbox.conditionals import Conditionals
from chatterbox_server.chatterbox.interfaces import AcousticModel, MelJob
from chatterbox_server.chatterbox.onnx.export.command import main
from chatterbox_server.chatterbox.onnx.export.flow import NOISE_FRAMES, NOISE_SEED
from chatterbox_server.chatterbox.onnx.export.graph import quantised
from chatterbox_server.chatterbox.onnx.graphs import SUFFIXES, Providers, open_session
from chatterbox_server.chatterbox.onnx.t3 import OnnxBackbone, OnnxT3
from chatterbox_server.chatterbox.onnx.voices import load_voice
from chatterbox_server.chatterbox.s3gen.model import S3Gen
from chatterbox_server.chatterbox.s3gen.noise import Noise
from chatterbox_server.chatterbox.t3.config import Prompt
from chatterbox_server.chatterbox.t3.decoder import Decoder
from chatterbox_server.chatterbox.t3.model import T3
from chatterbox_server.chatterbox.t3.sampling import Sampling
from chatterbox_server.chatterbox.tensors import open_tensors
from chatterbox_server.chatterbox.voices.files import load_builtin
from chatterbox_server.chatterbox.voices.prepare import GPT2_RECIPE, LOUDNESS, TorchVoicePreparer, with_loudness
from tiny_engines import graphs_of, voiced

DTYPES = ("fp32", "fp16", "q8", "q4", "q4f16")
Tokens = dict[int, list[int | None]]


@pytest.fixture(scope="module")
def checkpoint(checkpoints: Callable[[str], Path]) -> Path:
    return checkpoints("turbo")


@pytest.fixture(scope="module")
def folder(checkpoint: Path) -> Path:
    """Turbo's graphs in every precision."""
    return graphs_of("turbo", checkpoint, *DTYPES) / "turbo"


@pytest.fixture(scope="module")
def weights(checkpoint: Path) -> T3:
    return t3_of(checkpoint, "turbo")


def t3_of(checkpoint: Path, model: str) -> T3:
    return T3.from_tensors(open_tensors(checkpoint / f"t3_{model}_v1.safetensors"), device="cpu", dtype=torch.float32)


def session(folder: Path, graph: str, dtype: str = "fp32") -> onnxruntime.InferenceSession:
    return open_session(folder / "onnx" / f"{graph}{SUFFIXES[dtype]}.onnx", Providers("cpu", 1))


def graph_t3(folder: Path, dtype: str = "fp32") -> OnnxT3:
    backbone = OnnxBackbone(session(folder, "language_model", dtype), device="cpu")
    return OnnxT3(session(folder, "embed_tokens", dtype), backbone, starts=False)


def decoded(t3: AcousticModel, voice: Conditionals) -> Tokens:
    """The tokens of requests that come and go, some greedy, some sampled."""
    decoder, tokens, joins, step = Decoder(t3, slots=3), dict[int, list[int | None]](), [0, 0, 3, 4, 25], 0
    while step <= max(joins) or not decoder.idle:
        for number, at in enumerate(joins):
            if at == step:
                prompt = Prompt(
                    text_ids=tuple(range(10, 20 + 5 * number)), voice=voice, voice_key="voice", exaggeration=0.0
                )
                sampling = Sampling(
                    temperature=0.8 if number % 2 else 0.0,
                    top_p=0.95,
                    min_p=0.0,
                    top_k=1000,
                    repetition_penalty=1.2,
                    cfg_weight=0.0,
                    seed=number,
                )
                decoder.add(number, prompt, sampling, 12 + 7 * number)
        for token in decoder.step():
            tokens.setdefault(token.request_id, []).append(token.id)
        step += 1
    return tokens


def run_out(stages: Generator[None, None, Conditionals]) -> Conditionals:
    while True:
        try:
            next(stages)
        except StopIteration as end:
            made: Conditionals = end.value
            return made


def arguments(of: Sequence[Any]) -> list[str]:
    return [argument.name for argument in of]


def test_graphs_have_published_inputs_and_outputs_in_order(folder: Path, weights: T3) -> None:
    layers = range(weights.config.layers)
    past = [f"past_key_values.{layer}.{part}" for layer in layers for part in ("key", "value")]
    expected = {
        "speech_encoder": (
            ["audio_values"],
            ["audio_features", "audio_tokens", "speaker_embeddings", "speaker_features"],
        ),
        "embed_tokens": (["input_ids"], ["inputs_embeds"]),
        "language_model": (
            ["inputs_embeds", "attention_mask", "position_ids", *past],
            ["logits", *(name.replace("past_key_values", "present") for name in past)],
        ),
        "conditional_decoder": (["speech_tokens", "speaker_embeddings", "speaker_features"], ["waveform"]),
    }
    assert (folder / "tokenizer.json").is_file()
    for graph, (inputs, outputs) in expected.items():
        opened = session(folder, graph)
        assert arguments(opened.get_inputs()) == inputs
        assert arguments(opened.get_outputs()) == outputs
        for suffix in SUFFIXES.values():
            assert (folder / "onnx" / f"{graph}{suffix}.onnx_data").is_file()
    assert session(folder, "language_model", "fp16").get_inputs()[3].type == "tensor(float16)"
    assert session(folder, "language_model", "q4").get_inputs()[3].type == "tensor(float)"


@pytest.mark.parametrize("model", ["turbo", "nano"])
def test_exported_tokens_equal_weights(checkpoints: Callable[[str], Path], folder: Path, model: str) -> None:
    checkpoint = checkpoints(model)
    if model != "turbo":
        folder = graphs_of(model, checkpoint, "fp32") / model
    graphs = graph_t3(folder)
    assert isinstance(graphs._backbone, OnnxBackbone)
    assert graphs._backbone.together
    voice = load_voice(folder / "default_voice.safetensors")
    expected = decoded(t3_of(checkpoint, model), load_builtin(checkpoint / "conds.pt"))
    assert [len(tokens) for tokens in expected.values()] == [12 + 7 * number for number in range(5)]
    assert decoded(graphs, voice) == expected
    # As with graphs whose rows cannot share a run.
    graphs._backbone.together = False
    assert decoded(graphs, voice) == expected


@pytest.mark.parametrize(("dtype", "far"), [("fp32", 1e-5), ("fp16", 2e-3), ("q8", 0.06), ("q4", 0.5), ("q4f16", 0.5)])
def test_exported_logits_are_within_precision(folder: Path, weights: T3, dtype: str, far: float) -> None:
    graphs, voice = graph_t3(folder, dtype), load_voice(folder / "default_voice.safetensors")
    logits = []
    models: tuple[AcousticModel, ...] = (weights, graphs)
    for t3 in models:
        cache = t3.cache(1)
        cache.append(1)
        cache.reserve(voice.t3_speaker.shape[0])
        from chatterbox_server.chatterbox.t3.cache import Span

        length = voice.t3_speaker.shape[0]
        with torch.inference_mode():
            hidden = t3.forward(voice.t3_speaker[None], cache, Span.prompt(0, 1, 0, length, torch.device("cpu")))
            logits.append(t3.logits(hidden[:, -1]))
    difference = (logits[0] - logits[1]).abs().max()
    assert difference <= far * logits[0].abs().max()


def test_exported_waveform_equals_weights_with_same_noise(checkpoint: Path, folder: Path) -> None:
    voice = load_builtin(checkpoint / "conds.pt")
    s3gen = S3Gen.from_tensors(
        open_tensors(checkpoint / "s3gen_meanflow.safetensors"), device="cpu", dtype=torch.float32
    )
    tokens = torch.arange(30) * 211 % 6561
    noise, own = Noise(NOISE_SEED), voice.s3_mel.shape[0]
    table = noise.mel(0, NOISE_FRAMES)
    job = MelJob(voice=voice, tokens=tokens, noise=table[:, own : own + 60], prompt_noise=table[:, :own], final=True)
    expected = s3gen.vocoder.whole(s3gen.mels([job])[0], noise).numpy()
    for dtype, far in (("fp32", 1e-5), ("fp16", 1e-3), ("q8", 0.02)):
        given = {
            "speech_tokens": torch.cat([voice.s3_tokens, tokens])[None].numpy(),
            "speaker_embeddings": voice.s3_speaker[None].numpy(),
            "speaker_features": voice.s3_mel[None].numpy(),
        }
        samples = session(folder, "conditional_decoder", dtype).run(None, given)[0]
        assert samples.shape == (1, 960 * 30)
        assert np.abs(samples[0] - expected).max() <= far * np.abs(expected).max()


@pytest.mark.parametrize("seconds", [1.3, 12.0])
def test_exported_voice_equals_weights(checkpoint: Path, folder: Path, weights: T3, seconds: float) -> None:
    pcm = voiced(seconds)
    pcm[:4_000] *= 0.001
    preparer = TorchVoicePreparer(
        s3gen=checkpoint / "s3gen_meanflow.safetensors",
        voice_encoder=checkpoint / "ve.safetensors",
        recipe=GPT2_RECIPE,
    )
    expected = run_out(preparer.prepare(pcm, 24_000))
    given = {"audio_values": with_loudness(pcm, LOUDNESS)[None]}
    features, tokens, speaker, mel = session(folder, "speech_encoder").run(None, given)
    assert np.array_equal(tokens[0], expected.s3_tokens.numpy())
    np.testing.assert_allclose(mel[0], expected.s3_mel.numpy(), atol=1e-3)
    np.testing.assert_allclose(speaker[0], expected.s3_speaker.numpy(), rtol=1e-4, atol=1e-5)
    with torch.inference_mode():
        prefix = weights.prefix(expected).numpy()
    assert features[0].shape == prefix.shape
    np.testing.assert_allclose(features[0, 0], prefix[0], rtol=1e-3, atol=1e-4 * np.abs(prefix[0]).max())
    # What T3 hears is resampled by another filter, which turns some tokens of an untrained network.
    same = (features[0, 1:] == prefix[1:]).all(axis=1)
    assert same.mean() > 0.6


@pytest.mark.parametrize(("bits", "far"), [(8, 1 / 127), (4, 1 / 7)])
def test_quantised_weights_are_within_half_step(bits: int, far: float) -> None:
    weight = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    weight[1, 32:] = 0
    numbers, scales = quantised(weight, bits)
    if bits == 4:
        numbers = np.stack([numbers & 15, numbers >> 4], axis=-1).reshape(3, 2, 32)
    restored = (numbers.astype(np.float32) - (1 << bits - 1)) * scales[..., None]
    blocks = weight.reshape(3, 2, 32)
    largest = np.abs(blocks).max(axis=-1, keepdims=True)
    assert (np.abs(restored - blocks) <= far * largest + 1e-6).all()
    at = np.abs(blocks).argmax(axis=-1)[..., None]
    np.testing.assert_allclose(np.take_along_axis(restored, at, -1), np.take_along_axis(blocks, at, -1), rtol=1e-6)


def test_command_names_requirements(
    checkpoints: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "nowhere"), str(tmp_path / "out")]) == 1
    assert "there is no folder" in capsys.readouterr().err
    assert main([str(checkpoints("standard")), str(tmp_path / "out")]) == 1
    assert "t3_turbo_v1.safetensors" in capsys.readouterr().err
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert main([str(checkpoints("turbo")), str(blocked)]) == 1
    assert str(blocked) in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path), str(tmp_path), "--dtype", "int3"])
    assert ended.value.code == 2
