from __future__ import annotations

import ast
import copy
import functools
import inspect
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clips
import numpy as np
import pytest
import torch
from chatterbox_server.chatterbox.conditionals import Conditionals, aligned
from chatterbox_server.chatterbox.tensors import CheckpointError, Tensors, open_tensors
from chatterbox_server.chatterbox.voices.prepare import GPT2_RECIPE, LLAMA_RECIPE, TorchVoicePreparer
from chatterbox_server.model_runner import RequestError
from running_server import processor_environment
from torch import Tensor
from voice_preparation import FILES, finish

Folder = Callable[[str], Path]

# The second is cut within a token; the last is longer than every part that is used, and than a tokeniser's window.
CLIPS = ((24_000, 3.0), (8_000, 3.03), (44_100, 12.0), (16_000, 31.0))


def without_asserts(function: Any) -> Any:
    """``function`` without upstream's refusal of clips of less than 5 s."""

    class Drop(ast.NodeTransformer):
        def visit_Assert(self, node: ast.Assert) -> None:
            return None

    tree = ast.fix_missing_locations(Drop().visit(ast.parse(textwrap.dedent(inspect.getsource(function)))))
    scope = dict(function.__globals__)
    exec(compile(tree, "upstream", "exec"), scope)
    return scope[function.__name__]


def upstreams_own(model: Any, path: Path) -> tuple[dict[str, Tensor], int]:
    """What upstream prepares of a clip, by our names, and how many mel frames it kept."""
    without_asserts(type(model).prepare_conditionals)(model, path)
    t3, gen = model.conds.t3, model.conds.gen
    tokens, mel = aligned(gen["prompt_token"][0], gen["prompt_feat"][0])
    own = {
        "t3_speaker": t3.speaker_emb[0],
        "t3_tokens": t3.cond_prompt_speech_tokens[0],
        "s3_tokens": tokens,
        "s3_mel": mel,
        "s3_speaker": gen["embedding"][0],
    }
    return {name: tensor.detach() for name, tensor in own.items()}, gen["prompt_feat"].shape[1]


def differences(voice: Conditionals, own: dict[str, Tensor]) -> dict[str, Any]:
    ours = voice.tensors()
    return {
        name: (ours[name], tensor)
        for name, tensor in own.items()
        if ours[name].dtype != tensor.dtype or not torch.equal(ours[name], tensor)
    }


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("length", CLIPS, ids=lambda length: f"{length[1]}s-{length[0]}Hz")
def test_conditionals_equal_upstream_bit_for_bit(
    preparers: Callable[[str], TorchVoicePreparer],
    reference: Callable[[str], Any],
    tmp_path: Path,
    kind: str,
    length: tuple[int, float],
) -> None:
    rate, seconds = length
    clip = clips.voiced(seconds, rate)
    own, _ = upstreams_own(reference(kind), clips.write(tmp_path / "clip.wav", clip, rate))
    voice = finish(preparers(kind).prepare(clip, rate))
    assert differences(voice, own) == {}
    tokens = min(int(seconds * 25), 250)
    assert voice.s3_tokens.shape == (tokens,)
    assert voice.s3_mel.shape == (2 * tokens, 80)
    recipe = GPT2_RECIPE if kind == "turbo" else LLAMA_RECIPE
    assert voice.t3_tokens.shape == (min(-int(-seconds * 25 // 1), recipe.t3_tokens),)


def test_partial_last_token_frame_is_dropped(
    preparers: Callable[[str], TorchVoicePreparer], reference: Callable[[str], Any], tmp_path: Path
) -> None:
    clip = clips.voiced(3.03, 24_000)
    _, frames = upstreams_own(reference("standard"), clips.write(tmp_path / "clip.wav", clip, 24_000))
    assert frames == 151
    assert finish(preparers("standard").prepare(clip, 24_000)).s3_mel.shape[0] == 150


def test_turbo_speaks_with_clip_of_two_seconds(
    preparers: Callable[[str], TorchVoicePreparer], reference: Callable[[str], Any]
) -> None:
    voice = finish(preparers("turbo").prepare(clips.voiced(2.0, 24_000), 24_000))
    assert voice.t3_tokens.shape == (50,)
    model = reference("turbo")
    kept = type(model.conds.t3)(
        speaker_emb=voice.t3_speaker[None],
        cond_prompt_speech_tokens=voice.t3_tokens[None],
        emotion_adv=0.5 * torch.ones(1, 1, 1),
    )
    gen = {
        "prompt_token": voice.s3_tokens[None],
        "prompt_token_len": torch.tensor([voice.s3_tokens.shape[0]]),
        "prompt_feat": voice.s3_mel[None],
        "prompt_feat_len": None,
        "embedding": voice.s3_speaker[None],
    }
    model.conds = type(model.conds)(kept, gen)
    model.t3 = copy.copy(model.t3)
    model.t3.inference_turbo = functools.partial(model.t3.inference_turbo, max_gen_len=12)
    torch.manual_seed(0)
    spoken = model.generate("Hello there.")
    assert spoken.shape[1] > 960
    assert torch.isfinite(spoken).all()


def test_preparation_yields_between_stages(preparers: Callable[[str], TorchVoicePreparer]) -> None:
    preparer = preparers("standard")
    first, second = clips.voiced(4.0, 24_000), clips.voiced(5.0, 24_000, pitch=220)
    alone = [finish(preparer.prepare(clip, 24_000)) for clip in (first, second)]
    stages = [preparer.prepare(clip, 24_000) for clip in (first, second)]
    made: list[Conditionals] = []
    turns = 0
    while len(made) < 2:
        turns += 1
        for one in list(stages):
            try:
                next(one)
            except StopIteration as end:
                made.append(end.value)
                stages.remove(one)
            assert not torch.is_inference_mode_enabled()
    assert turns >= 8
    for voice, same in zip(made, alone, strict=True):
        assert differences(voice, same.tensors()) == {}
    assert not torch.equal(made[0].t3_speaker, made[1].t3_speaker)


def test_released_networks_are_reloaded_when_needed(checkpoints: Folder) -> None:
    opened: list[str] = []

    def source(name: str) -> Callable[[], Tensors]:
        def give() -> Tensors:
            opened.append(name)
            return open_tensors(checkpoints("standard") / name)

        return give

    s3gen, voice_encoder = FILES["standard"]
    preparer = TorchVoicePreparer(s3gen=source(s3gen), voice_encoder=source(voice_encoder), recipe=LLAMA_RECIPE)
    assert opened == []
    for _ in preparer.load():
        pass
    assert sorted(opened) == sorted(FILES["standard"])
    clip = clips.voiced(2.0, 24_000)
    stages = preparer.prepare(clip, 24_000)
    next(stages)
    preparer.release()
    voice = finish(stages)
    assert len(opened) == 2
    assert differences(finish(preparer.prepare(clip, 24_000)), voice.tensors()) == {}
    assert len(opened) == 4


def test_checkpoint_without_weight_is_named(checkpoints: Folder) -> None:
    path = checkpoints("standard") / "s3gen.safetensors"
    name = "tokenizer.encoder.blocks.0.attn.out.weight"
    whole = open_tensors(path)
    lacking = Tensors(path, {other: whole[other] for other in whole if other != name})
    preparer = TorchVoicePreparer(
        s3gen=lambda: lacking, voice_encoder=checkpoints("standard") / "ve.safetensors", recipe=LLAMA_RECIPE
    )
    with pytest.raises(CheckpointError, match=name):
        finish(preparer.prepare(clips.voiced(1.0, 24_000), 24_000))


def test_constants_missing_in_checkpoint_are_made(checkpoints: Folder) -> None:
    path, voice_encoder = (checkpoints("standard") / name for name in FILES["standard"])
    whole = open_tensors(path)
    constants = ("tokenizer._mel_filters", "tokenizer.window")
    lacking = Tensors(path, {name: whole[name] for name in whole if name not in constants})
    clip = clips.voiced(2.0, 24_000)
    voices = [
        finish(TorchVoicePreparer(s3gen=s3gen, voice_encoder=voice_encoder, recipe=LLAMA_RECIPE).prepare(clip, 24_000))
        for s3gen in (path, lambda: lacking)
    ]
    assert differences(voices[0], voices[1].tensors()) == {}


def test_read_only_clip_is_accepted_unchanged(preparers: Callable[[str], TorchVoicePreparer]) -> None:
    clip = clips.voiced(1.5, 24_000)
    given = np.frombuffer(clip.tobytes(), dtype=np.float32)
    for kind in ("standard", "turbo"):
        voice = finish(preparers(kind).prepare(given, 24_000))
        assert differences(voice, finish(preparers(kind).prepare(clip.copy(), 24_000)).tensors()) == {}
    assert given.tobytes() == clip.tobytes()


def test_clip_of_any_rate_is_accepted(preparers: Callable[[str], TorchVoicePreparer]) -> None:
    for rate in (8_000, 11_025, 22_050, 96_000, 192_000):
        voice = finish(preparers("standard").prepare(clips.voiced(1.0, rate), rate))
        assert voice.s3_mel.shape == (50, 80), rate
        assert all(torch.isfinite(tensor).all() for tensor in voice.tensors().values()), rate


def broken(samples: int, value: float) -> Any:
    clip = clips.voiced(2.0, 24_000)
    clip[1000 : 1000 + samples] = value
    return clip


BAD = {
    "short": (clips.voiced(0.9, 24_000), 24_000, "0.90 s; at least 1 s"),
    "empty": (np.zeros(0, np.float32), 24_000, "0.00 s"),
    "zero": (np.zeros(48_000, np.float32), 24_000, "silent"),
    "quiet": (clips.voiced(2.0, 24_000, level=5e-5), 24_000, "silent"),
    "silent start": (np.concatenate((np.zeros(240_000, np.float32), clips.voiced(2, 24_000))), 24_000, "first 10.0 s"),
    "nan": (broken(3, np.nan), 24_000, "3 of the clip's 48000 samples"),
    "inf": (broken(1, -np.inf), 24_000, "1 of the clip's 48000 samples"),
    "low rate": (clips.voiced(2.0, 8_000), 7_999, "8000 to 192000 Hz"),
    "high rate": (clips.voiced(2.0, 192_000), 192_001, "8000 to 192000 Hz"),
    "no rate": (clips.voiced(2.0, 8_000), 0, "8000 to 192000 Hz"),
}


@pytest.mark.parametrize("case", BAD)
def test_clips_that_cannot_be_used_are_refused(preparers: Callable[[str], TorchVoicePreparer], case: str) -> None:
    clip, rate, reason = BAD[case]
    with pytest.raises(RequestError, match=reason) as refused:
        finish(preparers("standard").prepare(clip, rate))
    assert refused.value.code == "UNSUPPORTED_AUDIO"


def test_click_at_either_end_is_accepted(preparers: Callable[[str], TorchVoicePreparer]) -> None:
    for place in (slice(0, 4), slice(-4, None)):
        # Whole blocks of the search for silence, so that the last one lies past the clip's end.
        clip = np.full(512 * 96, 1e-5, np.float32)
        clip[place] = 0.9
        assert finish(preparers("standard").prepare(clip, 16_000)).t3_speaker.shape == (256,)


def test_clip_without_voice_is_refused(checkpoints: Folder) -> None:
    s3gen, path = (checkpoints("standard") / name for name in FILES["standard"])
    whole = open_tensors(path)
    deaf = Tensors(path, {**whole, "proj.bias": torch.full_like(whole["proj.bias"], -1e6)})
    preparer = TorchVoicePreparer(s3gen=s3gen, voice_encoder=lambda: deaf, recipe=LLAMA_RECIPE)
    with pytest.raises(RequestError, match="hears a voice") as refused:
        finish(preparer.prepare(clips.voiced(1.0, 24_000), 24_000))
    assert refused.value.code == "UNSUPPORTED_AUDIO"


def test_clips_are_refused_before_any_work(checkpoints: Folder) -> None:
    missing = checkpoints("standard") / "nothing.safetensors"
    preparer = TorchVoicePreparer(s3gen=missing, voice_encoder=missing, recipe=LLAMA_RECIPE)
    silence = np.zeros(48_000, np.float32)
    for prepare in (preparer.prepare, preparer.tokens):
        with pytest.raises(RequestError, match="silent"):
            prepare(silence, 24_000)
    for samples, reason in ((2_000, "0.08 s; at least 0.1 s"), (601 * 24_000, "601 s; at most 600 s")):
        with pytest.raises(RequestError, match=reason):
            preparer.tokens(np.full(samples, 0.1, np.float32), 24_000)


def test_undefined_loudness_is_left_unchanged(preparers: Callable[[str], TorchVoicePreparer]) -> None:
    # 5 Hz: above -60 dBFS, yet inaudible, so that no block counts.
    hum = np.asarray(0.002 * np.sin(2 * np.pi * 5 * np.arange(48_000) / 24_000), np.float32)
    voice = finish(preparers("turbo").prepare(hum, 24_000))
    assert all(torch.isfinite(tensor).all() for tensor in voice.tensors().values())


def test_upstreams_other_modules_stay_unimported(
    checkpoints: Folder, preparers: Callable[[str], TorchVoicePreparer]
) -> None:
    """In a process of its own, with a watermarker that cannot be imported; the voice is the same there."""
    s3gen, voice_encoder = (str(checkpoints("standard") / name) for name in FILES["standard"])
    program = f"""
        import sys, pathlib, clips
        sys.modules["perth"] = None
        from chatterbox_server.chatterbox.voices.prepare import LLAMA_RECIPE, TorchVoicePreparer
        heavy = ("librosa", "s3tokenizer", "pyloudnorm", "scipy", "numba", "sklearn", "onnx")
        assert not [name for name in ("torchaudio", "soxr", *heavy) if name in sys.modules]
        preparer = TorchVoicePreparer(
            s3gen=pathlib.Path({s3gen!r}), voice_encoder=pathlib.Path({voice_encoder!r}), recipe=LLAMA_RECIPE
        )
        stages = preparer.prepare(clips.voiced(2.0, 24_000), 24_000)
        try:
            while True:
                next(stages)
        except StopIteration as end:
            voice = end.value
        unwanted = ("chatterbox", "diffusers", "transformers", "conformer", "omegaconf", "gradio", "huggingface_hub")
        assert not [name for name in (*heavy, *unwanted) if name in sys.modules]
        print(voice.s3_speaker.double().sum().item(), voice.s3_tokens.tolist(), voice.t3_tokens.tolist())
    """
    env = {"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": str(torch.get_num_threads()), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        env=env | processor_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    voice = finish(preparers("standard").prepare(clips.voiced(2.0, 24_000), 24_000))
    expected = (voice.s3_speaker.double().sum().item(), voice.s3_tokens.tolist(), voice.t3_tokens.tolist())
    assert done.stdout.split("\n")[-2] == " ".join(map(str, expected))
